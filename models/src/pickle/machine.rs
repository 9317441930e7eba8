//! The pickle machine: a stack, marks on it, and what is remembered.

use std::collections::HashMap;
use std::rc::Rc;

use super::{Class, Items, MAX_DEPTH, Storage, Value, View, literal};

/// Longest line of the text protocol: a sentence needs a hundredth.
const MAX_LINE: usize = 1 << 16;

pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    /// How many times something was put into the memo: the index that MEMOIZE takes.
    memoized: u32,
    /// Whether the classes of a state dictionary may be named.
    classes: bool,
}

impl<'a> Machine<'a> {
    pub(super) fn new(bytes: &'a [u8], classes: bool) -> Self {
        Self { bytes, at: 0, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new(), memoized: 0, classes }
    }

    /// Runs until STOP; gives the value and how many bytes it took.
    pub(super) fn run(mut self, opcodes: usize) -> Result<(Value, usize), String> {
        for _ in 0..opcodes {
            if let Some(value) = self.step()? {
                return Ok((value, self.at));
            }
        }
        Err(format!("more than {opcodes} pickle opcodes"))
    }

    /// Runs one opcode; gives the result at STOP.
    fn step(&mut self) -> Result<Option<Value>, String> {
        let at = self.at;
        let opcode = self.byte()?;
        match opcode {
            b'.' => return self.pop().map(Some),
            0x80 => drop(self.byte()?),
            // Frames only say how far one may read ahead.
            0x95 => drop(self.array::<8>()?),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => {
                let from = self.mark()?;
                self.stack.truncate(from);
            }
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
            b'd' | b'l' => {
                let from = self.mark()?;
                let items = self.split(from)?;
                if opcode == b'd' && items.values.len() % 2 == 1 {
                    return Err("a dictionary with a key that has no value".into());
                }
                self.stack.push(if opcode == b'd' { Value::Dict(items) } else { Value::List(items) });
            }
            b's' => self.extend(self.stack.len().checked_sub(2).ok_or("a short stack")?)?,
            b'a' => self.extend(self.stack.len().checked_sub(1).ok_or("a short stack")?)?,
            b'u' | b'e' => {
                let from = self.mark()?;
                self.extend(from)?;
            }
            b'c' if self.classes => self.global()?,
            b'Q' if self.classes => self.persistent()?,
            b'R' if self.classes => self.reduce()?,
            // Attributes of the dictionary object (PyTorch keeps version numbers there), which no weight needs.
            b'b' if self.classes => drop(self.pop()?),
            b'c' | b'Q' | b'R' | b'b' | b'P' | b'i' | b'o' | 0x81..=0x84 | 0x92 | 0x93 => {
                return Err(format!(
                    "a class or a call (pickle opcode {opcode:#04x} at byte {at}), which is never run"
                ));
            }
            _ => {
                if !self.remember(opcode)? {
                    let scalar = self.scalar(opcode)?;
                    let unknown = || format!("the unsupported pickle opcode {opcode:#04x} at byte {at}");
                    self.stack.push(scalar.ok_or_else(unknown)?);
                }
            }
        }
        Ok(None)
    }

    /// The opcodes of the memo; gives whether it was one.
    fn remember(&mut self, opcode: u8) -> Result<bool, String> {
        match opcode {
            b'p' | b'g' => {
                let line = self.line()?;
                let index = line.parse().map_err(|_| format!("the memo index {line:?}"))?;
                if opcode == b'p' { self.put(index)? } else { self.get(index)? }
            }
            b'q' => {
                let index = self.byte()?;
                self.put(index.into())?;
            }
            b'r' => {
                let index = u32::from_le_bytes(self.array()?);
                self.put(index)?;
            }
            0x94 => self.put(self.memoized)?,
            b'h' => {
                let index = self.byte()?;
                self.get(index.into())?;
            }
            b'j' => {
                let index = u32::from_le_bytes(self.array()?);
                self.get(index)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The opcodes of numbers and texts; `None` for another opcode.
    fn scalar(&mut self, opcode: u8) -> Result<Option<Value>, String> {
        Ok(Some(match opcode {
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'K' => Value::Int(self.byte()?.into()),
            b'M' => Value::Int(u16::from_le_bytes(self.array()?).into()),
            b'J' => Value::Int(i32::from_le_bytes(self.array()?).into()),
            0x8a => {
                let length = self.byte()?;
                Value::Long(self.take(length.into())?.into())
            }
            b'I' => literal::integer(&self.line()?)?,
            b'L' => literal::integer(self.line()?.trim_end_matches('L'))?,
            b'F' => literal::float(&self.line()?)?,
            b'G' => Value::Float(f64::from_be_bytes(self.array()?)),
            b'S' => Value::Text(literal::quoted(&self.line()?)?.into()),
            b'V' => Value::Text(literal::escaped(&self.line()?)?.into()),
            b'X' | b'T' => {
                let length = u32::from_le_bytes(self.array()?);
                self.text(length as usize)?
            }
            0x8c | b'U' => {
                let length = self.byte()?;
                self.text(length.into())?
            }
            0x8d => {
                let length = u64::from_le_bytes(self.array()?);
                self.text(usize::try_from(length).unwrap_or(usize::MAX))?
            }
            _ => return Ok(None),
        }))
    }

    fn text(&mut self, length: usize) -> Result<Value, String> {
        let text = self.take(length)?;
        let text = std::str::from_utf8(text).map_err(|e| format!("text that is not UTF-8: {e}"))?;
        Ok(Value::Text(text.into()))
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

    /// A line, its bytes taken as Latin-1, which is what the text protocol writes.
    fn line(&mut self) -> Result<String, String> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().take(MAX_LINE).position(|&b| b == b'\n').ok_or("a line without an end")?;
        let line = self.take(length)?.iter().copied().map(char::from).collect();
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
        self.memoized = self.memoized.saturating_add(1);
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
