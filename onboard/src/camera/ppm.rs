//! Pictures in the portable pixmap format, one behind the other in a pipe.
//!
//! Each begins with its size (`P6\n640 480\n255\n`), so that nobody must be asked for it beforehand, a stream may change it in
//! flight, and a reader that is out of step finds out with the next picture. Raw video has none of that.
//! Source: ppm(5) of Netpbm.

use std::io::{self, BufRead, Read};

use image::RgbImage;
use kestrel_link::mask::MAX_SIDE;

/// Most bytes of a header, comments among it.
const MOST_HEADER: usize = 256;

/// Reads the next picture; `None` when the pipe ends before it.
///
/// # Errors
/// When the bytes are no such picture, or end within it.
pub(super) fn read(pipe: &mut impl BufRead) -> io::Result<Option<RgbImage>> {
    let Some((width, height)) = header(pipe)? else { return Ok(None) };
    let expected = width as usize * height as usize * 3;
    let mut pixels = Vec::new();
    // Memory is taken as bytes arrive, not as a header promises.
    pipe.take(expected as u64).read_to_end(&mut pixels)?;
    if pixels.len() < expected {
        return Err(wrong(format!("the picture is torn: expected {expected} bytes, got {}", pixels.len())));
    }
    Ok(RgbImage::from_raw(width, height, pixels))
}

fn wrong(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

/// Width and height; `None` when the pipe ends before the first byte.
fn header(pipe: &mut impl BufRead) -> io::Result<Option<(u32, u32)>> {
    if pipe.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let mut header = Header { pipe, left: MOST_HEADER };
    if header.word()? != "P6" {
        return Err(wrong("expected a picture that begins with P6"));
    }
    let (width, height, most) = (header.number()?, header.number()?, header.number()?);
    if !(1..=MAX_SIDE).contains(&width) || !(1..=MAX_SIDE).contains(&height) || most != 255 {
        return Err(wrong(format!(
            "expected 1 to {MAX_SIDE} pixels a side of 8 bits a channel, got {width}x{height} up to {most}"
        )));
    }
    Ok(Some((width, height)))
}

struct Header<'a, R> {
    pipe: &'a mut R,
    left: usize,
}

impl<R: BufRead> Header<'_, R> {
    fn byte(&mut self) -> io::Result<u8> {
        self.left = self.left.checked_sub(1).ok_or_else(|| wrong("expected a header of a few bytes, got more"))?;
        let mut byte = [0];
        self.pipe.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    /// The next word and the one byte of white space behind it.
    fn word(&mut self) -> io::Result<String> {
        let mut word = String::new();
        loop {
            match self.byte()? {
                b'#' => while self.byte()? != b'\n' {},
                byte if byte.is_ascii_whitespace() && word.is_empty() => {}
                byte if byte.is_ascii_whitespace() => return Ok(word),
                byte if byte.is_ascii_graphic() => word.push(char::from(byte)),
                byte => return Err(wrong(format!("expected the header of a picture, got byte {byte:#04x}"))),
            }
        }
    }

    fn number(&mut self) -> io::Result<u32> {
        let word = self.word()?;
        word.parse().map_err(|_| wrong(format!("expected a number in the header of a picture, got {word:?}")))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    fn picture(width: u32, height: u32, byte: u8) -> Vec<u8> {
        let mut bytes = format!("P6\n{width} {height}\n255\n").into_bytes();
        bytes.resize(bytes.len() + (width * height * 3) as usize, byte);
        bytes
    }

    #[test]
    fn pictures_follow_each_other_and_may_change_their_size() {
        let bytes = [picture(4, 3, 7), b"P6 # made by hand\n2 1 255\nabcdef".to_vec()].concat();
        let mut pipe = bytes.as_slice();
        let first = read(&mut pipe).unwrap().unwrap();
        assert_eq!((first.dimensions(), first.as_raw()[35]), ((4, 3), 7));
        assert_eq!(read(&mut pipe).unwrap().unwrap().as_raw(), b"abcdef");
        assert!(read(&mut pipe).unwrap().is_none());
    }

    #[test]
    fn what_is_no_picture_is_told() {
        let whole = picture(4, 3, 7);
        for (bytes, words) in [
            (whole[..whole.len() - 1].to_vec(), "torn: expected 36 bytes, got 35"),
            (b"P5\n4 3\n255\n".to_vec(), "begins with P6"),
            (b"P6\n4 3\n65535\n".to_vec(), "8 bits a channel"),
            (b"P6\n0 3\n255\n".to_vec(), "0x3"),
            (b"P6\n100000 100000\n255\n".to_vec(), "100000x100000"),
            (b"P6\n-4 3\n255\n".to_vec(), "expected a number"),
            (b"\x00\x01".to_vec(), "byte 0x00"),
            ([b"P6\n#".as_slice(), &[b'x'; 300]].concat(), "got more"),
        ] {
            let error = read(&mut bytes.as_slice()).unwrap_err().to_string();
            assert!(error.contains(words), "{words}: {error}");
        }
        for end in 1..10 {
            assert!(read(&mut &whole[..end]).is_err(), "cut at {end}");
        }
    }

    proptest! {
        /// Promise: P13
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&mut bytes.as_slice());
            let _ = read(&mut [b"P6\n".as_slice(), &bytes].concat().as_slice());
        }
    }
}
