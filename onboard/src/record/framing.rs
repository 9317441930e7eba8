//! The frame of an MCAP file: records behind each other, some of them within chunks.
//!
//! Read here and not by the crate that writes: bytes from a wreck or a stranger may claim any length, and here none is
//! believed before the bytes are there. Source of the format: <https://mcap.dev/spec>.

use std::collections::BTreeMap;
use std::io::{self, Read};

use mcap::records::op;

/// Largest record that is read; the largest frame as PNG in base64 needs about half of it.
const MOST_RECORD_BYTES: u64 = 512 * 1024 * 1024;

/// What comes next in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A record, whose body was read.
    Record {
        opcode: u8,
        /// Byte of the file at which it begins.
        at: u64,
    },
    /// The bytes end between two records.
    End,
    /// The bytes end within a record, or go on in a way that cannot be followed.
    Cut {
        /// Byte of the file at which that record begins.
        at: u64,
        why: String,
    },
}

/// A file of records.
pub(super) struct Framing<R> {
    source: R,
    at: u64,
    /// Of everything before the end of the data section.
    checksum: crc32fast::Hasher,
}

impl<R: Read> Framing<R> {
    /// Begins to read; `None` when the bytes are no MCAP file.
    pub(super) fn open(mut source: R) -> io::Result<Option<Self>> {
        let mut magic = Vec::new();
        source.by_ref().take(mcap::MAGIC.len() as u64).read_to_end(&mut magic)?;
        if magic != mcap::MAGIC {
            return Ok(None);
        }
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(&magic);
        Ok(Some(Self { source, at: magic.len() as u64, checksum }))
    }

    /// Reads the next record into `body`.
    pub(super) fn next(&mut self, body: &mut Vec<u8>) -> io::Result<Piece> {
        let at = self.at;
        let mut head = Vec::with_capacity(9);
        self.source.by_ref().take(9).read_to_end(&mut head)?;
        let Some((&opcode, length)) = head.split_first() else { return Ok(Piece::End) };
        let Ok(length) = <[u8; 8]>::try_from(length) else {
            return Ok(Piece::Cut { at, why: "the file ends within a record".into() });
        };
        let length = u64::from_le_bytes(length);
        if length > MOST_RECORD_BYTES {
            let why = format!("expected a record of at most {MOST_RECORD_BYTES} bytes, got one of {length}");
            return Ok(Piece::Cut { at, why });
        }
        body.clear();
        // Grows with what is there, not with what the length claims.
        let got = self.source.by_ref().take(length).read_to_end(body)? as u64;
        self.at += 9 + got;
        if got < length {
            return Ok(Piece::Cut { at, why: format!("the file ends within a record, {} bytes early", length - got) });
        }
        if opcode != op::DATA_END {
            self.checksum.update(&head);
            self.checksum.update(body);
        }
        Ok(Piece::Record { opcode, at })
    }

    /// The checksum of everything read so far, as the end of the data section holds it.
    pub(super) fn checksum(&self) -> u32 {
        self.checksum.clone().finalize()
    }
}

/// Bytes that are taken from the front; every step is `None` when they end too early.
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// As many bytes as the 64-bit length before them says.
    pub(super) fn counted(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u64()?).ok()?;
        self.take(length)
    }

    /// Text behind its 32-bit length.
    pub(super) fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.u32()?).ok()?;
        std::str::from_utf8(self.take(length)?).ok()
    }

    /// Pairs of texts behind the 32-bit length of them all.
    pub(super) fn pairs(&mut self) -> Option<BTreeMap<String, String>> {
        let length = usize::try_from(self.u32()?).ok()?;
        let mut inner = Bytes(self.take(length)?);
        let mut pairs = BTreeMap::new();
        while !inner.0.is_empty() {
            let key = inner.text()?;
            pairs.insert(key.to_owned(), inner.text()?.to_owned());
        }
        Some(pairs)
    }
}

/// The records of a chunk.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn chunk(body: &[u8]) -> Result<&[u8], String> {
    let short = || "a chunk ends within its head".to_owned();
    let mut bytes = Bytes(body);
    // Times of its first and last message.
    bytes.take(16).ok_or_else(short)?;
    let size = bytes.u64().ok_or_else(short)?;
    let checksum = bytes.u32().ok_or_else(short)?;
    let compression = bytes.text().ok_or_else(short)?;
    if !compression.is_empty() {
        let name: String = compression.chars().take(20).collect();
        return Err(format!("expected a chunk without compression, got {name:?}; `mcap decompress` undoes it"));
    }
    let records = bytes.counted().ok_or_else(|| "a chunk claims more bytes than it has".to_owned())?;
    if records.len() as u64 != size {
        return Err(format!("expected a chunk of {size} bytes, got {}", records.len()));
    }
    let got = crc32fast::hash(records);
    if checksum != 0 && checksum != got {
        return Err(format!("expected a chunk with the checksum {checksum:08x}, got {got:08x}"));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn file(records: &[(u8, u64, &[u8])]) -> Vec<u8> {
        let mut bytes = mcap::MAGIC.to_vec();
        for (opcode, length, body) in records {
            bytes.push(*opcode);
            bytes.extend(length.to_le_bytes());
            bytes.extend(*body);
        }
        bytes
    }

    fn pieces(bytes: &[u8]) -> Vec<Piece> {
        let mut framing = Framing::open(bytes).unwrap().unwrap();
        let mut body = Vec::new();
        let mut pieces = Vec::new();
        loop {
            let piece = framing.next(&mut body).unwrap();
            let last = !matches!(piece, Piece::Record { .. });
            pieces.push(piece);
            if last {
                return pieces;
            }
        }
    }

    #[test]
    fn records_follow_each_other_until_the_end_or_a_cut() {
        let whole = file(&[(0x80, 2, b"ab"), (0x81, 0, b"")]);
        let (first, second) = (Piece::Record { opcode: 0x80, at: 8 }, Piece::Record { opcode: 0x81, at: 19 });
        assert_eq!(pieces(&whole), [first, second, Piece::End]);
        for end in 9..19 {
            assert!(matches!(pieces(&whole[..end])[..], [Piece::Cut { at: 8, .. }]), "{end}");
        }
        assert!(Framing::open(&b"\x89PNG\r\n\x1a\n"[..]).unwrap().is_none());
        assert!(Framing::open(&b"\x89MCA"[..]).unwrap().is_none());
    }

    /// What would break: memory, when a length of eight bytes is believed.
    ///
    /// Promise: P13
    #[test]
    fn lengths_are_not_believed() {
        assert!(matches!(pieces(&file(&[(0x80, u64::MAX, b"ab")]))[..], [Piece::Cut { .. }]));
        let claimed = file(&[(0x80, MOST_RECORD_BYTES, b"ab")]);
        let mut body = Vec::new();
        let piece = Framing::open(claimed.as_slice()).unwrap().unwrap().next(&mut body).unwrap();
        assert!(matches!(piece, Piece::Cut { .. }) && body.capacity() < 1 << 16, "{}", body.capacity());
        let mut huge = Bytes(&[0xff; 12]);
        assert_eq!(huge.text(), None);
        assert_eq!(Bytes(&[0xff; 12]).counted(), None);
        assert_eq!(Bytes(&[8, 0, 0, 0, 1, 0, 0, 0, b'a', 9, 0, 0]).pairs(), None);
    }

    #[test]
    fn a_chunk_is_what_its_head_says() {
        let of = |size: u64, checksum: u32, compression: &str, length: u64, records: &[u8]| {
            let mut body = vec![0; 16];
            body.extend(size.to_le_bytes());
            body.extend(checksum.to_le_bytes());
            body.extend((compression.len() as u32).to_le_bytes());
            body.extend(compression.as_bytes());
            body.extend(length.to_le_bytes());
            body.extend(records);
            body
        };
        let checksum = crc32fast::hash(b"abc");
        assert_eq!(chunk(&of(3, checksum, "", 3, b"abc")).unwrap(), b"abc");
        assert_eq!(chunk(&of(3, 0, "", 3, b"abc")).unwrap(), b"abc", "0 says that there is no checksum");
        for (body, why) in [
            (of(3, checksum ^ 1, "", 3, b"abc"), "checksum"),
            (of(3, checksum, "zstd", 3, b"abc"), "zstd"),
            (of(3, checksum, "", u64::MAX, b"abc"), "claims more bytes"),
            (of(u64::MAX, checksum, "", 3, b"abc"), "expected a chunk of"),
            (vec![0; 20], "within its head"),
        ] {
            let error = chunk(&body).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
