//! COCO's compressed run-length string (COCO API, `maskApi`: `rleToString`, `rleFrString`).
//!
//! Each run is written as the difference to the run two before it (from the fourth run on),
//! in groups of five bits, least significant first; bit 5 says that more follow, and 48 is added to make ASCII.

use crate::error::LinkError;

const FIRST: u8 = 48;
const MORE: i64 = 0x20;
const SIGN: i64 = 0x10;
const BITS: i64 = 0x1f;
/// Groups that a 32-bit difference can need: ceil(34 / 5).
const MAX_GROUPS: u32 = 7;

pub(crate) fn to_string(runs: &[u32]) -> String {
    let mut text = String::with_capacity(runs.len() * 2);
    write(runs, &mut text);
    text
}

/// Writes over what `text` held, in its memory.
pub(crate) fn write(runs: &[u32], text: &mut String) {
    text.clear();
    for (i, &run) in runs.iter().enumerate() {
        let mut value = i64::from(run);
        if i > 2 {
            value -= i64::from(runs[i - 2]);
        }
        loop {
            let mut group = value & BITS;
            value >>= 5;
            let done = if group & SIGN != 0 { value == -1 } else { value == 0 };
            if !done {
                group |= MORE;
            }
            // `group` is below 64, so the sum stays within ASCII.
            text.push(char::from(FIRST + group as u8));
            if done {
                break;
            }
        }
    }
}

/// Runs of a string whose sum must be `pixels`.
pub(crate) fn from_string(text: &str, pixels: u64) -> Result<Vec<u32>, LinkError> {
    let mut runs: Vec<u32> = Vec::with_capacity(text.len());
    let mut sum = 0u64;
    let mut bytes = text.bytes();
    while let Some(first) = bytes.next() {
        let mut value = difference(first, &mut bytes)?;
        if runs.len() > 2 {
            value += i64::from(runs[runs.len() - 2]);
        }
        let run = u32::try_from(value)
            .map_err(|_| wrong(format!("run {} in 0..={}", runs.len(), u32::MAX), format!("{value}")))?;
        sum += u64::from(run);
        if sum > pixels {
            return Err(wrong(format!("a sum of {pixels} pixels"), format!("{sum} at run {}", runs.len())));
        }
        runs.push(run);
    }
    if sum != pixels {
        return Err(wrong(format!("a sum of {pixels} pixels"), format!("{sum}")));
    }
    Ok(runs)
}

fn difference(first: u8, rest: &mut std::str::Bytes<'_>) -> Result<i64, LinkError> {
    let mut byte = first;
    let mut value = 0i64;
    for group in 0..MAX_GROUPS {
        if !(FIRST..FIRST + 64).contains(&byte) {
            return Err(wrong("characters '0' to 'o'".into(), format!("byte {byte}")));
        }
        let bits = i64::from(byte - FIRST);
        value |= (bits & BITS) << (5 * group);
        if bits & MORE == 0 {
            if bits & SIGN != 0 {
                value |= -1i64 << (5 * (group + 1));
            }
            return Ok(value);
        }
        byte = rest.next().ok_or_else(|| wrong("a last group of bits".into(), "the end of the string".into()))?;
    }
    Err(wrong(format!("at most {MAX_GROUPS} groups of bits per run"), "more".into()))
}

fn wrong(expected: String, got: String) -> LinkError {
    LinkError::RunLengths { expected, got }
}
