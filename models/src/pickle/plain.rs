//! Pickles that hold nothing but data.

use super::machine::Machine;
use super::{Items, Value};
use crate::error::{Error, Result};

/// Most opcodes in a pickle of plain data: a set of 200,000 sentences with their words needs a quarter.
const MAX_OPCODES: usize = 40_000_000;
/// Most values a byte: without sharing there is at most one, and what Python shares are short tuples.
const MAX_VALUES_PER_BYTE: usize = 4;

/// What a pickle of plain data holds; tuples are lists.
#[derive(Debug, Clone, PartialEq)]
pub enum Plain {
    /// Python's `None`.
    None,
    /// A truth value.
    Bool(bool),
    /// An integer of 64 bits.
    Int(i64),
    /// A number.
    Float(f64),
    /// A text.
    Text(String),
    /// A list or tuple.
    List(Vec<Plain>),
    /// Keys and values in the order of the file.
    Dict(Vec<(Plain, Plain)>),
}

impl Plain {
    /// The value under a text key of a dictionary; the last one where the key comes twice, as in Python.
    pub fn get(&self, key: &str) -> Option<&Self> {
        let Self::Dict(entries) = self else { return None };
        entries.iter().rev().find(|(k, _)| k.text() == Some(key)).map(|(_, value)| value)
    }

    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The integer, if it is one.
    pub fn int(&self) -> Option<i64> {
        if let Self::Int(int) = self { Some(*int) } else { None }
    }

    /// The items, if it is a list or tuple.
    pub fn list(&self) -> Option<&[Self]> {
        if let Self::List(items) = self { Some(items) } else { None }
    }
}

/// Reads one pickle of plain data; `origin` names it in errors. Nothing that it names is ever run.
///
/// # Errors
/// When the bytes are no whole pickle, name a class or a call, share a list or dictionary between two places, or exceed the
/// caps on depth and length.
pub fn plain(bytes: &[u8], origin: &str) -> Result<Plain> {
    let read = Machine::new(bytes, false).run(MAX_OPCODES).and_then(|(value, length)| {
        let mut left = MAX_VALUES_PER_BYTE * length;
        convert(&value, &mut left)
    });
    read.map_err(|got| Error::Format { path: origin.to_owned(), expected: "a pickle of plain data".into(), got })
}

/// `left` counts down, because tuples may be shared and grow when they are written out.
fn convert(value: &Value, left: &mut usize) -> std::result::Result<Plain, String> {
    *left = left.checked_sub(1).ok_or("tuples that hold each other and grow without end")?;
    let mut all =
        |items: &Items| items.values.iter().map(|v| convert(v, left)).collect::<std::result::Result<Vec<_>, String>>();
    Ok(match value {
        Value::None => Plain::None,
        Value::Bool(bool) => Plain::Bool(*bool),
        Value::Int(int) => Plain::Int(*int),
        Value::Long(bytes) => Plain::Int(long(bytes)?),
        Value::Float(float) => Plain::Float(*float),
        Value::Text(text) => Plain::Text((**text).to_owned()),
        Value::Tuple(items) => Plain::List(all(items)?),
        Value::List(items) => Plain::List(all(items)?),
        Value::Dict(items) => {
            let mut flat = all(items)?.into_iter();
            let mut entries = Vec::with_capacity(flat.len() / 2);
            while let (Some(key), Some(value)) = (flat.next(), flat.next()) {
                entries.push((key, value));
            }
            Plain::Dict(entries)
        }
        Value::Class(_) | Value::Storage(_) | Value::Tensor(_) => return Err("an object of a class".into()),
    })
}

/// A little-endian integer in two's complement.
fn long(bytes: &[u8]) -> std::result::Result<i64, String> {
    if bytes.len() > 8 {
        return Err(format!("an integer of {} bytes", bytes.len()));
    }
    let negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
    let mut whole = [if negative { 0xff } else { 0 }; 8];
    whole[..bytes.len()].copy_from_slice(bytes);
    Ok(i64::from_le_bytes(whole))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> std::result::Result<Plain, String> {
        plain(bytes, "refs.p").map_err(|error| error.to_string())
    }

    /// `[{"a": 1, "é": -2.5, "t": (True, None)}]` as CPython 3 writes it in protocols 0, 2 and 4.
    #[test]
    fn the_protocols_say_the_same() {
        let zero = b"(lp0\n(dp1\nVa\np2\nI1\nsV\xe9\np3\nF-2.5\nsVt\np4\n(I01\nNtp5\nsa.";
        let two = b"\x80\x02]q\x00}q\x01(X\x01\x00\x00\x00aq\x02K\x01X\x02\x00\x00\x00\xc3\xa9q\x03G\xc0\x04\x00\x00\
            \x00\x00\x00\x00X\x01\x00\x00\x00tq\x04\x88N\x86q\x05ua.";
        let four =
            b"\x80\x04\x95\x24\x00\x00\x00\x00\x00\x00\x00]\x94}\x94(\x8c\x01a\x94K\x01\x8c\x02\xc3\xa9\x94G\xc0\
            \x04\x00\x00\x00\x00\x00\x00\x8c\x01t\x94\x88N\x86\x94ua.";
        let text = |t: &str| Plain::Text(t.to_owned());
        let entries = vec![
            (text("a"), Plain::Int(1)),
            (text("é"), Plain::Float(-2.5)),
            (text("t"), Plain::List(vec![Plain::Bool(true), Plain::None])),
        ];
        let expected = Plain::List(vec![Plain::Dict(entries)]);
        for pickle in [&zero[..], two, four] {
            assert_eq!(read(pickle).unwrap(), expected);
        }
        assert_eq!(expected.list().unwrap()[0].get("a").and_then(Plain::int), Some(1));
    }

    #[test]
    fn texts_and_numbers_of_old_protocols_are_read() {
        assert_eq!(read(b"S'it\\'s \\xc3\\xa9\\n'\n.").unwrap().text(), Some("it's é\n"));
        assert_eq!(read(b"V\\u00e9\\n\n.").unwrap().text(), Some("é\\n"));
        assert_eq!(read(b"U\x02ab.").unwrap().text(), Some("ab"));
        assert_eq!(read(b"L-12L\n.").unwrap().int(), Some(-12));
        assert_eq!(read(b"\x8a\x02\x00\xff.").unwrap().int(), Some(-256));
        // A text that is remembered and used again.
        assert_eq!(read(b"\x80\x04\x8c\x01a\x94h\x00\x86.").unwrap().list().map(<[Plain]>::len), Some(2));
    }

    #[test]
    fn classes_calls_and_bombs_are_refused_and_run_nothing() {
        let system: &[u8] = b"cos\nsystem\n(S'touch /tmp/pwned'\ntR.";
        let new = b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R.";
        let known = b"\x80\x02ccollections\nOrderedDict\n)R.";
        for hostile in [system, new, known] {
            let error = read(hostile).unwrap_err();
            assert!(error.contains("refs.p") && error.contains("never run"), "{error}");
        }
        // A tuple of two of the tuple before it, thirty times: two to the thirtieth values when written out.
        let mut bomb = b"\x80\x02)q\x00".to_vec();
        for level in 0..30u8 {
            bomb.extend([b'h', level, b'h', level, 0x86, b'q', level + 1]);
        }
        bomb.push(b'.');
        assert!(read(&bomb).unwrap_err().contains("grow without end"));
        let deep: Vec<u8> = [b"]".repeat(5000), b"a".repeat(4999), b".".to_vec()].concat();
        assert!(read(&deep).unwrap_err().contains("deeper"));
        for broken in [&b""[..], b".", b"(dp0\nI1\ns.", b"S'a\n.", b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff.", b"I1"] {
            assert!(read(broken).is_err(), "{broken:?}");
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = plain(&bytes, "random");
        }
    }
}
