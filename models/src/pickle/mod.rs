//! A reader of pickles that runs nothing (source of the opcodes: CPython's `pickletools`, protocols 0 to 5).
//!
//! [`plain`] reads data: numbers, texts, lists and dictionaries. The crate's own reader of PyTorch files also knows the few
//! classes of a state dictionary. Any other class, call or foreign object is an error. Depth, length and stack are capped, so
//! hostile bytes end in an error.

mod literal;
mod machine;
mod plain;

use std::rc::Rc;

pub use plain::{Plain, plain};

use machine::Machine;

/// Deepest nesting of containers; state dictionaries need five.
const MAX_DEPTH: usize = 32;
/// Most opcodes in the pickle of a state dictionary; a model of thousands of tensors needs a tenth.
const MAX_OPCODES: usize = 4_000_000;

/// Classes a state dictionary may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    OrderedDict,
    RebuildTensor,
    FloatStorage,
    LongStorage,
}

/// A named run of values in the file's data section.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Storage {
    pub(crate) key: Rc<str>,
    pub(crate) is_float: bool,
    pub(crate) length: usize,
}

/// A strided view into a storage; offset and strides count values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct View {
    pub(crate) storage: Rc<Storage>,
    pub(crate) offset: usize,
    pub(crate) shape: Vec<usize>,
    pub(crate) strides: Vec<usize>,
}

/// Items of a tuple or list, or a dictionary's keys and values in turn.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Items {
    pub(crate) values: Vec<Value>,
    pub(crate) depth: usize,
}

/// A value on the pickle machine's stack.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Long(Rc<[u8]>),
    Text(Rc<str>),
    Class(Class),
    Tuple(Rc<Items>),
    List(Items),
    Dict(Items),
    Storage(Rc<Storage>),
    Tensor(Rc<View>),
}

impl Value {
    fn depth(&self) -> usize {
        match self {
            Value::Tuple(items) => items.depth,
            Value::List(items) | Value::Dict(items) => items.depth,
            _ => 0,
        }
    }

    fn length(&self) -> Result<usize, String> {
        match self {
            Value::Int(n) => usize::try_from(*n).map_err(|_| format!("a negative length {n}")),
            other => Err(format!("{other:?} as a length")),
        }
    }

    fn lengths(&self) -> Result<Vec<usize>, String> {
        match self {
            Value::Tuple(items) if items.values.len() <= 8 => items.values.iter().map(Value::length).collect(),
            _ => Err("a shape that is no tuple of at most 8 lengths".into()),
        }
    }
}

/// Reads one pickle of a state dictionary from the front of `bytes`; gives the value and how many bytes it took.
pub(crate) fn read(bytes: &[u8]) -> Result<(Value, usize), String> {
    Machine::new(bytes, true).run(MAX_OPCODES)
}
