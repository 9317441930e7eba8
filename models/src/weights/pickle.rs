//! A reader of the few pickle opcodes that PyTorch state dictionaries use (protocol 2; source: CPython's pickletools).
//!
//! It runs nothing: a class it does not know is an error. Depth, length and stack are capped, so hostile bytes end in an error.

use std::collections::HashMap;
use std::rc::Rc;

/// Deepest nesting of containers; state dictionaries need five.
const MAX_DEPTH: usize = 32;
/// Most opcodes in one pickle; a model of thousands of tensors needs a tenth.
const MAX_OPCODES: usize = 4_000_000;

/// Classes a state dictionary may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    OrderedDict,
    RebuildTensor,
    FloatStorage,
    LongStorage,
}

/// A named run of values in the file's data section.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Storage {
    pub(super) key: Rc<str>,
    pub(super) is_float: bool,
    pub(super) length: usize,
}

/// A strided view into a storage; offset and strides count values.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct View {
    pub(super) storage: Rc<Storage>,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// Items of a tuple or list, or a dictionary's keys and values in turn.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Items {
    pub(super) values: Vec<Value>,
    depth: usize,
}

/// A value on the pickle machine's stack.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
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

/// Reads one pickle from the front of `bytes`; gives the value and how many bytes it took.
pub(super) fn read(bytes: &[u8]) -> Result<(Value, usize), String> {
    let mut machine = Machine { bytes, at: 0, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    for _ in 0..MAX_OPCODES {
        if let Some(value) = machine.step()? {
            return Ok((value, machine.at));
        }
    }
    Err(format!("more than {MAX_OPCODES} pickle opcodes"))
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
}

impl Machine<'_> {
    /// Runs one opcode; gives the result at STOP.
    fn step(&mut self) -> Result<Option<Value>, String> {
        let at = self.at;
        let opcode = self.byte()?;
        match opcode {
            0x80 => drop(self.byte()?),
            b'.' => return self.pop().map(Some),
            b'N' => self.stack.push(Value::None),
            0x88 => self.stack.push(Value::Bool(true)),
            0x89 => self.stack.push(Value::Bool(false)),
            b'K' => {
                let n = self.byte()?;
                self.stack.push(Value::Int(n.into()));
            }
            b'M' => {
                let n = u16::from_le_bytes(self.array()?);
                self.stack.push(Value::Int(n.into()));
            }
            b'J' => {
                let n = i32::from_le_bytes(self.array()?);
                self.stack.push(Value::Int(n.into()));
            }
            0x8a => {
                let length = self.byte()?;
                let digits = self.take(length.into())?.into();
                self.stack.push(Value::Long(digits));
            }
            b'X' => {
                let length = u32::from_le_bytes(self.array()?);
                let text = self.take(length as usize)?;
                let text = std::str::from_utf8(text).map_err(|e| format!("text that is not UTF-8: {e}"))?.into();
                self.stack.push(Value::Text(text));
            }
            b'c' => self.global()?,
            b'q' => {
                let index = self.byte()?;
                self.put(index.into())?;
            }
            b'r' => {
                let index = u32::from_le_bytes(self.array()?);
                self.put(index)?;
            }
            b'h' => {
                let index = self.byte()?;
                self.get(index.into())?;
            }
            b'j' => {
                let index = u32::from_le_bytes(self.array()?);
                self.get(index)?;
            }
            b'(' => self.marks.push(self.stack.len()),
            b')' => self.tuple(self.stack.len())?,
            0x85..=0x87 => {
                let from = self.stack.len().checked_sub(usize::from(opcode - 0x84)).ok_or("a short stack")?;
                self.tuple(from)?;
            }
            b't' => {
                let from = self.mark()?;
                self.tuple(from)?;
            }
            b'}' => self.stack.push(Value::Dict(Items { values: Vec::new(), depth: 1 })),
            b']' => self.stack.push(Value::List(Items { values: Vec::new(), depth: 1 })),
            b's' => self.extend(self.stack.len().checked_sub(2).ok_or("a short stack")?)?,
            b'a' => self.extend(self.stack.len().checked_sub(1).ok_or("a short stack")?)?,
            b'u' | b'e' => {
                let from = self.mark()?;
                self.extend(from)?;
            }
            b'Q' => self.persistent()?,
            b'R' => self.reduce()?,
            // Attributes of the dictionary object (PyTorch keeps version numbers there), which no weight needs.
            b'b' => drop(self.pop()?),
            other => return Err(format!("the unsupported pickle opcode {other:#04x} at byte {at}")),
        }
        Ok(None)
    }

    fn take(&mut self, count: usize) -> Result<&[u8], String> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| format!("the end of the file inside a pickle at byte {}", self.at))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn byte(&mut self) -> Result<u8, String> {
        self.array().map(|[byte]| byte)
    }

    fn line(&mut self) -> Result<String, String> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().take(256).position(|&b| b == b'\n').ok_or("a class name without an end")?;
        let line = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.take(1)?;
        Ok(line)
    }

    fn pop(&mut self) -> Result<Value, String> {
        // Values below the last mark belong to an unfinished container.
        if self.marks.last().is_some_and(|&mark| mark >= self.stack.len()) {
            return Err("a pickle that takes a value from under a mark".into());
        }
        self.stack.pop().ok_or_else(|| "a pickle that takes from an empty stack".into())
    }

    fn mark(&mut self) -> Result<usize, String> {
        self.marks
            .pop()
            .filter(|&mark| mark <= self.stack.len())
            .ok_or_else(|| "a pickle without the mark it needs".into())
    }

    /// Values from `from` on, leaving the stack; with the depth of a container of them.
    fn split(&mut self, from: usize) -> Result<Items, String> {
        if self.marks.last().is_some_and(|&mark| mark > from) {
            return Err("a pickle that takes values from under a mark".into());
        }
        let values = self.stack.split_off(from);
        let depth = 1 + values.iter().map(Value::depth).max().unwrap_or(0);
        if depth > MAX_DEPTH {
            Err(format!("containers nested deeper than {MAX_DEPTH}"))
        } else {
            Ok(Items { values, depth })
        }
    }

    fn tuple(&mut self, from: usize) -> Result<(), String> {
        let items = self.split(from)?;
        self.stack.push(Value::Tuple(Rc::new(items)));
        Ok(())
    }

    /// Appends values from `from` on to the list or dictionary under them.
    fn extend(&mut self, from: usize) -> Result<(), String> {
        let items = self.split(from)?;
        match self.stack.last_mut() {
            Some(Value::Dict(into)) if items.values.len() % 2 == 0 => {
                into.depth = into.depth.max(items.depth);
                into.values.extend(items.values);
                Ok(())
            }
            Some(Value::List(into)) => {
                into.depth = into.depth.max(items.depth);
                into.values.extend(items.values);
                Ok(())
            }
            other => Err(format!("items for {}", other.map_or("nothing", |_| "something that holds none"))),
        }
    }

    fn put(&mut self, index: u32) -> Result<(), String> {
        let value = match self.stack.last() {
            // A container that still grows cannot be shared by copy; remembering nothing makes a later look-up an error.
            Some(Value::Dict(_) | Value::List(_)) => return Ok(()),
            Some(value) => value.clone(),
            None => return Err("a pickle that remembers nothing".into()),
        };
        self.memo.insert(index, value);
        Ok(())
    }

    fn get(&mut self, index: u32) -> Result<(), String> {
        let value = self.memo.get(&index).ok_or_else(|| format!("a shared or missing object {index}"))?.clone();
        self.stack.push(value);
        Ok(())
    }

    fn global(&mut self) -> Result<(), String> {
        let (module, name) = (self.line()?, self.line()?);
        let class = match (module.as_str(), name.as_str()) {
            ("collections", "OrderedDict") => Class::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2") => Class::RebuildTensor,
            ("torch", "FloatStorage") => Class::FloatStorage,
            ("torch", "LongStorage") => Class::LongStorage,
            _ => return Err(format!("the unsupported class {module}.{name}")),
        };
        self.stack.push(Value::Class(class));
        Ok(())
    }

    /// `('storage', class, key, device, length, view)`, as torch.save names a storage.
    fn persistent(&mut self) -> Result<(), String> {
        let Value::Tuple(id) = self.pop()? else { return Err("a persistent id that is no tuple".into()) };
        let [Value::Text(kind), Value::Class(class), Value::Text(key), Value::Text(_), length, Value::None] =
            id.values.as_slice()
        else {
            return Err("a persistent id that is no whole storage".into());
        };
        let is_float = match class {
            Class::FloatStorage => true,
            Class::LongStorage => false,
            _ => return Err(format!("a storage of {class:?}")),
        };
        if &**kind != "storage" {
            return Err(format!("a persistent id of {kind:?}"));
        }
        let storage = Storage { key: key.clone(), is_float, length: length.length()? };
        self.stack.push(Value::Storage(Rc::new(storage)));
        Ok(())
    }

    fn reduce(&mut self) -> Result<(), String> {
        let (arguments, class) = (self.pop()?, self.pop()?);
        let (Value::Tuple(arguments), Value::Class(class)) = (arguments, class) else {
            return Err("a call of something that is no class".into());
        };
        let made = match (class, arguments.values.as_slice()) {
            (Class::OrderedDict, []) => Value::Dict(Items { values: Vec::new(), depth: 1 }),
            (
                Class::RebuildTensor,
                [Value::Storage(storage), offset, shape, strides, Value::Bool(_), Value::Dict(_)],
            ) => Value::Tensor(Rc::new(View {
                storage: storage.clone(),
                offset: offset.length()?,
                shape: shape.lengths()?,
                strides: strides.lengths()?,
            })),
            (class, arguments) => {
                return Err(format!("{class:?} called with {} unexpected arguments", arguments.len()));
            }
        };
        self.stack.push(made);
        Ok(())
    }
}
