//! A strip of text above or in a picture, in a small letter form of our own, so that an overlay needs no font file.

use image::{Rgb, RgbImage};

/// Columns and rows of a letter.
const LETTER: (u32, u32) = (5, 7);

/// The letters that can be written: seven rows of five dots each, `#` set. Small letters are written as capitals.
const LETTERS: [(char, [&str; 7]); 51] = [
    ('A', [".###.", "#...#", "#...#", "#####", "#...#", "#...#", "#...#"]),
    ('B', ["####.", "#...#", "#...#", "####.", "#...#", "#...#", "####."]),
    ('C', [".###.", "#...#", "#....", "#....", "#....", "#...#", ".###."]),
    ('D', ["####.", "#...#", "#...#", "#...#", "#...#", "#...#", "####."]),
    ('E', ["#####", "#....", "#....", "####.", "#....", "#....", "#####"]),
    ('F', ["#####", "#....", "#....", "####.", "#....", "#....", "#...."]),
    ('G', [".###.", "#...#", "#....", "#.###", "#...#", "#...#", ".###."]),
    ('H', ["#...#", "#...#", "#...#", "#####", "#...#", "#...#", "#...#"]),
    ('I', [".###.", "..#..", "..#..", "..#..", "..#..", "..#..", ".###."]),
    ('J', ["..###", "...#.", "...#.", "...#.", "...#.", "#..#.", ".##.."]),
    ('K', ["#...#", "#..#.", "#.#..", "##...", "#.#..", "#..#.", "#...#"]),
    ('L', ["#....", "#....", "#....", "#....", "#....", "#....", "#####"]),
    ('M', ["#...#", "##.##", "#.#.#", "#.#.#", "#...#", "#...#", "#...#"]),
    ('N', ["#...#", "##..#", "#.#.#", "#..##", "#...#", "#...#", "#...#"]),
    ('O', [".###.", "#...#", "#...#", "#...#", "#...#", "#...#", ".###."]),
    ('P', ["####.", "#...#", "#...#", "####.", "#....", "#....", "#...."]),
    ('Q', [".###.", "#...#", "#...#", "#...#", "#.#.#", "#..#.", ".##.#"]),
    ('R', ["####.", "#...#", "#...#", "####.", "#.#..", "#..#.", "#...#"]),
    ('S', [".####", "#....", "#....", ".###.", "....#", "....#", "####."]),
    ('T', ["#####", "..#..", "..#..", "..#..", "..#..", "..#..", "..#.."]),
    ('U', ["#...#", "#...#", "#...#", "#...#", "#...#", "#...#", ".###."]),
    ('V', ["#...#", "#...#", "#...#", "#...#", "#...#", ".#.#.", "..#.."]),
    ('W', ["#...#", "#...#", "#...#", "#.#.#", "#.#.#", "##.##", "#...#"]),
    ('X', ["#...#", "#...#", ".#.#.", "..#..", ".#.#.", "#...#", "#...#"]),
    ('Y', ["#...#", "#...#", ".#.#.", "..#..", "..#..", "..#..", "..#.."]),
    ('Z', ["#####", "....#", "...#.", "..#..", ".#...", "#....", "#####"]),
    ('0', [".###.", "#...#", "#..##", "#.#.#", "##..#", "#...#", ".###."]),
    ('1', ["..#..", ".##..", "..#..", "..#..", "..#..", "..#..", ".###."]),
    ('2', [".###.", "#...#", "....#", "..##.", ".#...", "#....", "#####"]),
    ('3', [".###.", "#...#", "....#", "..##.", "....#", "#...#", ".###."]),
    ('4', ["...#.", "..##.", ".#.#.", "#..#.", "#####", "...#.", "...#."]),
    ('5', ["#####", "#....", "####.", "....#", "....#", "#...#", ".###."]),
    ('6', [".###.", "#....", "#....", "####.", "#...#", "#...#", ".###."]),
    ('7', ["#####", "....#", "...#.", "..#..", "..#..", ".#...", ".#..."]),
    ('8', [".###.", "#...#", "#...#", ".###.", "#...#", "#...#", ".###."]),
    ('9', [".###.", "#...#", "#...#", ".####", "....#", "....#", ".###."]),
    ('.', [".....", ".....", ".....", ".....", ".....", ".##..", ".##.."]),
    (',', [".....", ".....", ".....", ".....", ".##..", "..#..", ".#..."]),
    (':', [".....", ".##..", ".##..", ".....", ".##..", ".##..", "....."]),
    ('-', [".....", ".....", ".....", ".###.", ".....", ".....", "....."]),
    ('_', [".....", ".....", ".....", ".....", ".....", ".....", "#####"]),
    ('/', ["....#", "....#", "...#.", "..#..", ".#...", "#....", "#...."]),
    ('%', ["##..#", "##..#", "...#.", "..#..", ".#...", "#..##", "#..##"]),
    ('(', ["...#.", "..#..", ".#...", ".#...", ".#...", "..#..", "...#."]),
    (')', [".#...", "..#..", "...#.", "...#.", "...#.", "..#..", ".#..."]),
    ('\'', ["..#..", "..#..", ".#...", ".....", ".....", ".....", "....."]),
    ('"', [".#.#.", ".#.#.", ".....", ".....", ".....", ".....", "....."]),
    ('=', [".....", ".....", "#####", ".....", "#####", ".....", "....."]),
    ('+', [".....", "..#..", "..#..", "#####", "..#..", "..#..", "....."]),
    ('!', ["..#..", "..#..", "..#..", "..#..", "..#..", ".....", "..#.."]),
    ('?', [".###.", "#...#", "....#", "...#.", "..#..", ".....", "..#.."]),
];

/// `image` under a strip in `colour` that says `text`, cut where the width ends.
pub(crate) fn above(image: &RgbImage, text: &str, colour: [u8; 3]) -> RgbImage {
    let dot = (image.width() / 480).max(1);
    let (advance, margin) = ((LETTER.0 + 1) * dot, 3 * dot);
    let strip = LETTER.1 * dot + 2 * margin;
    let mut framed = RgbImage::from_pixel(image.width(), image.height() + strip, Rgb(colour));
    let ink = ink_on(colour);
    let mut left = margin;
    for character in text.chars() {
        if left + advance > image.width() {
            break;
        }
        write(&mut framed, character, left, margin, dot, ink);
        left += advance;
    }
    let start = framed.as_raw().len() - image.as_raw().len();
    if let Some(below) = framed.get_mut(start..) {
        below.copy_from_slice(image.as_raw());
    }
    framed
}

/// Writes `text` on a strip in `colour` with its corner at `left` and `top`, moved inside the picture; cut where it ends.
pub(crate) fn within(image: &mut RgbImage, text: &str, [left, top]: [u32; 2], colour: [u8; 3]) {
    let (width, height) = image.dimensions();
    let dot = (width / 480).max(1);
    let advance = (LETTER.0 + 1) * dot;
    let length = u32::try_from(text.chars().count()).unwrap_or(u32::MAX).saturating_mul(advance).saturating_add(dot);
    let strip = (LETTER.1 + 2) * dot;
    let (left, top) = (left.min(width.saturating_sub(length)), top.min(height.saturating_sub(strip)));
    for y in top..top.saturating_add(strip).min(height) {
        for x in left..left.saturating_add(length).min(width) {
            image.put_pixel(x, y, Rgb(colour));
        }
    }
    let letters = (left + dot..).step_by(advance as usize).zip(text.chars());
    letters.take_while(|(left, _)| left + advance <= width).for_each(|(left, character)| {
        if top + strip <= height {
            write(image, character, left, top + dot, dot, ink_on(colour));
        }
    });
}

/// Black on light colours, white on dark ones.
fn ink_on(colour: [u8; 3]) -> Rgb<u8> {
    let luma = u32::from(colour[0]) * 3 + u32::from(colour[1]) * 6 + u32::from(colour[2]);
    if luma > 1280 { Rgb([0, 0, 0]) } else { Rgb([255, 255, 255]) }
}

/// Writes one letter; a blank stays blank and an unknown one becomes `?`.
fn write(image: &mut RgbImage, character: char, left: u32, top: u32, dot: u32, ink: Rgb<u8>) {
    if character.is_whitespace() {
        return;
    }
    let capital = character.to_ascii_uppercase();
    let Some((_, rows)) = LETTERS.iter().find(|(letter, _)| *letter == capital).or(LETTERS.last()) else { return };
    for (row, dots) in (0..).zip(rows) {
        for (column, _) in (0..).zip(dots.bytes()).filter(|(_, byte)| *byte == b'#') {
            for y in 0..dot {
                for x in 0..dot {
                    image.put_pixel(left + column * dot + x, top + row * dot + y, ink);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_letter_has_its_own_form() {
        for (index, (letter, rows)) in LETTERS.iter().enumerate() {
            assert!(rows.iter().all(|row| row.len() == LETTER.0 as usize), "{letter}");
            assert!(LETTERS[..index].iter().all(|(_, other)| other != rows), "{letter}");
        }
    }

    #[test]
    fn a_label_stays_inside_any_picture() {
        for (width, height) in [(1, 1), (5, 40), (40, 5), (500, 300)] {
            for at in [[0, 0], [499, 299], [u32::MAX, u32::MAX]] {
                let mut image = RgbImage::new(width, height);
                within(&mut image, "12 storage tank", at, [250, 250, 0]);
                assert_ne!(image, RgbImage::new(width, height));
            }
        }
    }

    #[test]
    fn any_text_fits_any_width() {
        for width in [1, 5, 7, 500] {
            let framed = above(&RgbImage::new(width, 3), "naïve query → 100 %, \u{0} OK?", [200, 200, 200]);
            assert_eq!(framed.width(), width);
            assert!(framed.height() > 3);
        }
    }
}
