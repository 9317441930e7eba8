//! Legacy (non-zip) PyTorch `.pth` files: the state dictionary's float tensors, with strides honoured.
//!
//! Layout (source: `torch.serialization._legacy_save`): four pickles (magic number, protocol version, system information,
//! object) and one with the storage keys, then each storage in that order as an i64 length and its raw little-endian values.

use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use super::Weights;
use crate::error::{Error, Result};
use crate::pickle::{self, Storage, Value, View};

/// `0x1950a86a20f9469cfc6c`, little-endian.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const PROTOCOL: i64 = 1001;
/// Most values over all tensors (1 GiB as f32): views of one storage may overlap, so the file's size is no bound.
const MAX_VALUES: usize = 1 << 28;

/// Reads a legacy `.pth` file that holds a state dictionary; integer tensors are left out.
///
/// # Errors
/// When the file cannot be read or is not such a file.
pub fn load(path: &Path) -> Result<Weights> {
    let shown = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|source| Error::Io { operation: "read", path: shown.clone(), source })?;
    parse(&bytes, &shown)
}

/// Like [`load`], from bytes; `origin` names them in errors.
///
/// # Errors
/// When the bytes are not a legacy state dictionary.
pub fn parse(bytes: &[u8], origin: &str) -> Result<Weights> {
    read(bytes).map_err(|got| Error::Format {
        path: origin.to_owned(),
        expected: "a legacy PyTorch state dictionary".into(),
        got,
    })
}

fn read(bytes: &[u8]) -> std::result::Result<Weights, String> {
    let mut rest = bytes;
    let mut next = || {
        let (value, length) = pickle::read(rest)?;
        rest = &rest[length..];
        Ok::<Value, String>(value)
    };
    match next()? {
        Value::Long(magic) if *magic == MAGIC => {}
        _ => return Err("another magic number".into()),
    }
    match next()? {
        Value::Int(PROTOCOL) => {}
        other => return Err(format!("protocol version {other:?}")),
    }
    require_little_endian(&next()?)?;
    let Value::Dict(entries) = next()? else { return Err("an object that is no dictionary".into()) };
    let Value::List(keys) = next()? else { return Err("storage keys that are no list".into()) };

    let mut tensors: Vec<(&str, &View)> = Vec::new();
    for entry in entries.values.chunks_exact(2) {
        match entry {
            [Value::Text(name), Value::Tensor(view)] => tensors.push((name, view)),
            _ => return Err("a dictionary entry that is no named tensor".into()),
        }
    }
    let storages = read_storages(rest, &keys.values, &tensors)?;
    let mut weights = Weights::new();
    let mut total = 0usize;
    for (name, view) in tensors.into_iter().filter(|(_, view)| view.storage.is_float) {
        let storage = storages.get(&view.storage.key).ok_or_else(|| format!("{name}: a storage without data"))?;
        let values = gather(view, storage).map_err(|error| format!("{name}: {error}"))?;
        total += values.len();
        if total > MAX_VALUES {
            return Err(format!("more than {MAX_VALUES} values"));
        }
        weights.insert(name, view.shape.clone(), values).map_err(|error| error.to_string())?;
    }
    Ok(weights)
}

fn require_little_endian(system: &Value) -> std::result::Result<(), String> {
    let Value::Dict(entries) = system else { return Err("system information that is no dictionary".into()) };
    let is_little = entries
        .values
        .chunks_exact(2)
        .any(|entry| matches!(entry, [Value::Text(key), Value::Bool(true)] if &**key == "little_endian"));
    if is_little { Ok(()) } else { Err("values that are not little-endian".into()) }
}

/// The raw bytes of every float storage by key.
fn read_storages<'a>(
    mut rest: &'a [u8],
    keys: &[Value],
    tensors: &[(&str, &View)],
) -> std::result::Result<HashMap<Rc<str>, &'a [u8]>, String> {
    let mut declared: HashMap<&str, &Storage> = HashMap::new();
    for (name, view) in tensors {
        let storage = declared.entry(&view.storage.key).or_insert(&view.storage);
        if **storage != *view.storage {
            return Err(format!("{name}: storage {} declared twice, differently", storage.key));
        }
    }
    let mut found = HashMap::new();
    for key in keys {
        let Value::Text(key) = key else { return Err("a storage key that is no text".into()) };
        let storage = declared.get(&**key).ok_or_else(|| format!("storage {key}, which no tensor uses"))?;
        let (length, data) =
            rest.split_at_checked(8).ok_or_else(|| format!("the end of the file before storage {key}"))?;
        let mut count = [0; 8];
        count.copy_from_slice(length);
        if u64::from_le_bytes(count) != storage.length as u64 {
            return Err(format!("storage {key} of {} values, declared {}", u64::from_le_bytes(count), storage.length));
        }
        let width = if storage.is_float { 4 } else { 8 };
        let (values, after) = storage
            .length
            .checked_mul(width)
            .and_then(|size| data.split_at_checked(size))
            .ok_or_else(|| format!("the end of the file inside storage {key}"))?;
        if storage.is_float {
            found.insert(key.clone(), values);
        }
        rest = after;
    }
    Ok(found)
}

/// The view's values in row-major order.
fn gather(view: &View, storage: &[u8]) -> std::result::Result<Vec<f32>, String> {
    let length = storage.len() / 4;
    if view.shape.len() != view.strides.len() {
        return Err(format!("{} axes but {} strides", view.shape.len(), view.strides.len()));
    }
    let count = view.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or("a shape that overflows")?;
    if count == 0 {
        return Ok(Vec::new());
    }
    // An expanded view (stride 0) would let a small file ask for any amount of memory.
    if count > length {
        return Err(format!("{count} values from a storage of {length}"));
    }
    let last = view
        .shape
        .iter()
        .zip(&view.strides)
        .try_fold(view.offset, |at, (&d, &stride)| (d - 1).checked_mul(stride).and_then(|step| at.checked_add(step)))
        .filter(|&last| last < length);
    if last.is_none() {
        return Err(format!("a view beyond its storage of {length} values"));
    }
    let mut index = vec![0usize; view.shape.len()];
    let mut at = view.offset;
    let mut values = Vec::with_capacity(count);
    for _ in 0..count {
        let b = &storage[at * 4..at * 4 + 4];
        values.push(f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        for axis in (0..index.len()).rev() {
            index[axis] += 1;
            at += view.strides[axis];
            if index[axis] < view.shape[axis] {
                break;
            }
            at -= view.strides[axis] * index[axis];
            index[axis] = 0;
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use proptest::prelude::*;

    const STATE: &[u8] = b"ccollections\nOrderedDict\n)R(";

    fn text(value: &str) -> Vec<u8> {
        [b"X", (value.len() as u32).to_le_bytes().as_slice(), value.as_bytes()].concat()
    }

    fn lengths(values: &[i32]) -> Vec<u8> {
        let mut out = b"(".to_vec();
        for v in values {
            out.push(b'J');
            out.extend(v.to_le_bytes());
        }
        out.push(b't');
        out
    }

    /// A file of one tensor `w` over one storage of six values 0, 1, … 5.
    fn file(offset: i32, shape: &[i32], strides: &[i32]) -> Vec<u8> {
        let mut out = [b"\x80\x02\x8a\x0a".as_slice(), &MAGIC, b".\x80\x02M\xe9\x03."].concat();
        out.extend([b"\x80\x02}".to_vec(), text("little_endian"), b"\x88s.".to_vec()].concat());
        out.extend(
            [b"\x80\x02".to_vec(), STATE.to_vec(), text("w"), b"ctorch._utils\n_rebuild_tensor_v2\n(".to_vec()]
                .concat(),
        );
        out.extend(
            [b"(".to_vec(), text("storage"), b"ctorch\nFloatStorage\n".to_vec(), text("k"), text("cpu")].concat(),
        );
        out.extend([b"K\x06NtQJ".to_vec(), offset.to_le_bytes().to_vec()].concat());
        out.extend([lengths(shape), lengths(strides), b"\x89ccollections\nOrderedDict\n)RtRu.".to_vec()].concat());
        out.extend([b"\x80\x02](".to_vec(), text("k"), b"e.".to_vec(), 6u64.to_le_bytes().to_vec()].concat());
        out.extend((0..6).flat_map(|v| (v as f32).to_le_bytes()));
        out
    }

    #[test]
    fn strides_are_honoured() {
        let transposed = parse(&file(0, &[2, 3], &[1, 2]), "t").unwrap();
        assert_eq!(transposed.expect("w", &[2, 3]).unwrap(), &[0.0, 2.0, 4.0, 1.0, 3.0, 5.0]);
        let plain = parse(&file(0, &[2, 3], &[3, 1]), "t").unwrap();
        assert_eq!(plain.expect("w", &[2, 3]).unwrap(), &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let column = parse(&file(1, &[2], &[3]), "t").unwrap();
        assert_eq!(column.expect("w", &[2]).unwrap(), &[1.0, 4.0]);
        assert_eq!(parse(&file(0, &[], &[]), "t").unwrap().expect("w", &[]).unwrap(), &[0.0]);
    }

    #[test]
    fn views_outside_the_storage_are_refused() {
        for (offset, shape, strides) in [
            (1, vec![2, 3], vec![3, 1]),
            (-1, vec![2], vec![1]),
            (0, vec![2, 3], vec![3, -1]),
            (0, vec![i32::MAX, i32::MAX, i32::MAX], vec![1, 1, 1]),
            (0, vec![2], vec![i32::MAX]),
            (0, vec![1_000_000], vec![0]),
            (0, vec![2, 3], vec![1]),
            (0, vec![1; 9], vec![1; 9]),
        ] {
            assert!(parse(&file(offset, &shape, &strides), "hostile").is_err(), "{offset} {shape:?} {strides:?}");
        }
    }

    #[test]
    fn nothing_foreign_is_called() {
        let mut hostile = file(0, &[6], &[1]);
        let at = hostile.windows(11).position(|w| w == b"collections").unwrap();
        hostile.splice(at..at + 23, b"posix\nsystem".to_vec());
        let error = parse(&hostile, "evil.pth").unwrap_err().to_string();
        assert!(error.contains("evil.pth") && error.contains("posix.system"), "{error}");
    }

    #[test]
    fn deep_nesting_is_refused_not_followed() {
        let deep = [b"\x80\x02)".to_vec(), vec![0x85; 1_000_000], b".".to_vec()].concat();
        assert!(parse(&deep, "deep").unwrap_err().to_string().contains("nested"));
    }

    #[test]
    fn every_cut_is_refused() {
        let whole = file(0, &[2, 3], &[3, 1]);
        for cut in 0..whole.len() {
            assert!(parse(&whole[..cut], "cut").is_err(), "{cut}");
        }
    }

    proptest! {
        #[test]
        fn damaged_bytes_never_panic(at in 0usize..400, byte: u8) {
            let mut bytes = file(0, &[2, 3], &[3, 1]);
            let at = at % bytes.len();
            bytes[at] = byte;
            // Either outcome is right, a panic is not.
            let _ = parse(&bytes, "damaged");
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = pickle::read(&bytes);
        }
    }
}
