//! The fixed cache of an answer that is decoded: what the decode graph takes, row by row, and keeps.
//!
//! All shapes are static. The graph reads T rows at a time, image tokens, words or, where it takes them, things that stand
//! out ([`crate::proposals::things`]), behind `length` places for rows that it has read before; an additive mask hides the places that are still free. The graph gives the new rows' keys and
//! values, and [`Cache::keep`] writes them to the next free places. The picture and the question go in T rows at a time, the
//! answer one by one, with the rest of the T rows unused.

use crate::Error;
use crate::proposals::HIDDEN;

/// Additive attention of `rows` rows, of which the first `staged` are in use, behind `length` places of which the first
/// `used` are: `[rows, length + rows]`, row-major.
///
/// A row sees all used places, the rows before it and itself. A row that is not in use sees itself only, so that its
/// softmax is defined.
#[must_use]
pub fn mask(used: usize, length: usize, staged: usize, rows: usize) -> Vec<f32> {
    let (used, staged, all) = (used.min(length), staged.min(rows), length + rows);
    let mut mask = vec![HIDDEN; rows * all];
    for row in 0..rows {
        let line = &mut mask[row * all..][..all];
        if row < staged {
            line[..used].fill(0.0);
            line[length..length + row].fill(0.0);
        }
        line[length + row] = 0.0;
    }
    mask
}

/// Sizes of a decode graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Rows T of one run.
    pub rows: usize,
    /// Places of the cache.
    pub length: usize,
    /// Width of an image token.
    pub width: usize,
    /// Keys and values of all layers: twice as many as layers.
    pub planes: usize,
    /// Width of a row's keys, and of its values.
    pub kv_width: usize,
    /// Whether it takes things among its rows.
    pub things: bool,
}

impl Sizes {
    /// Numbers that tell of what kind a row is: whether it is a word, and where there may be things, whether it is one.
    #[must_use]
    pub fn kinds(&self) -> usize {
        1 + usize::from(self.things)
    }
}

/// A row for the graph to read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Row<'a> {
    /// An image token.
    Picture(&'a [f32]),
    /// A token of the vocabulary.
    Word(u32),
    /// A thing that stands out, told by no more numbers than an image token has.
    Thing(&'a [f32]),
}

/// Inputs of the decode graph, row-major, and what it has read so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Cache {
    sizes: Sizes,
    /// Image tokens and things `[1, T, width]`; what stands in a word's row does not count, a thing is filled up with zeros.
    pub tokens: Vec<f32>,
    /// Words `[1, T]`; what stands in another row does not count.
    pub ids: Vec<i64>,
    /// `[1, T, kinds]`: 1 where a row is a word, else 0; behind it, where there may be things, the same of things.
    pub spoken: Vec<f32>,
    /// Rotary positions `[1, T]`: 0 for image tokens and things, words count from 1.
    pub positions: Vec<i64>,
    /// Additive attention `[1, T, length + T]`, see [`mask`].
    pub mask: Vec<f32>,
    /// Keys and values `[planes, length, kv_width]`.
    pub past: Vec<f32>,
    /// Rows kept, and how many of them are words.
    used: usize,
    words: usize,
    /// Rows and words of the run that is under way.
    staged: usize,
    staged_words: usize,
}

impl Cache {
    /// An empty cache.
    #[must_use]
    pub fn new(sizes: Sizes) -> Self {
        Self {
            sizes,
            tokens: vec![0.0; sizes.rows * sizes.width],
            ids: vec![0; sizes.rows],
            spoken: vec![0.0; sizes.rows * sizes.kinds()],
            positions: vec![0; sizes.rows],
            mask: mask(0, sizes.length, 0, sizes.rows),
            past: vec![0.0; sizes.planes * sizes.length * sizes.kv_width],
            used: 0,
            words: 0,
            staged: 0,
            staged_words: 0,
        }
    }

    /// The graph's sizes.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// Rows kept so far.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used
    }

    /// Forgets all rows; the memory stays.
    pub fn clear(&mut self) {
        (self.used, self.words, self.staged, self.staged_words) = (0, 0, 0, 0);
    }

    /// Lays out the next run: 1 to T rows, which stand behind what was kept. Rows of an earlier call that were not kept
    /// are dropped.
    ///
    /// # Errors
    /// When there are no rows or too many, the cache is full, an image token has another width, or the graph does not take
    /// such a thing. Nothing is staged then.
    pub fn stage(&mut self, rows: &[Row<'_>]) -> Result<(), Error> {
        const OPERATION: &str = "stage rows";
        let Sizes { rows: most, length, width, .. } = self.sizes;
        let room = most.min(length - self.used);
        if rows.is_empty() || rows.len() > room {
            let expected = format!("1 to {room} rows, {} of {length} places being used", self.used);
            return Err(Error::Shape { operation: OPERATION, expected, got: rows.len().to_string() });
        }
        for row in rows {
            let (expected, got) = match row {
                Row::Picture(token) if token.len() != width => {
                    (format!("image tokens of {width} numbers"), token.len())
                }
                Row::Thing(_) if !self.sizes.things => ("no things: the graph takes none".to_owned(), 1),
                Row::Thing(thing) if thing.len() > width => (format!("things of {width} numbers at most"), thing.len()),
                _ => continue,
            };
            return Err(Error::Shape { operation: OPERATION, expected, got: got.to_string() });
        }
        let mut words = 0;
        for (at, row) in rows.iter().enumerate() {
            let kinds = &mut self.spoken[at * self.sizes.kinds()..][..self.sizes.kinds()];
            kinds.fill(0.0);
            let told: &[f32] = match *row {
                Row::Picture(told) => told,
                Row::Thing(told) => {
                    kinds[1] = 1.0;
                    told
                }
                Row::Word(_) => &[],
            };
            let token = &mut self.tokens[at * width..][..width];
            token.fill(0.0);
            token[..told.len()].copy_from_slice(told);
            (self.ids[at], self.positions[at]) = (0, 0);
            if let Row::Word(id) = *row {
                words += 1;
                kinds[0] = 1.0;
                self.ids[at] = id.into();
                self.positions[at] = (self.words + words) as i64;
            }
        }
        // A token that is not finite would spoil the sums of the rows beside it, even where it is hidden.
        self.tokens[rows.len() * width..].fill(0.0);
        self.positions[rows.len()..].fill(0);
        self.mask = mask(self.used, length, rows.len(), most);
        (self.staged, self.staged_words) = (rows.len(), words);
        Ok(())
    }

    /// Takes the staged rows' keys and values out of the graph's `new [planes, T, kv_width]`.
    ///
    /// # Errors
    /// When it has another size or holds what is not finite. Nothing is kept then.
    pub fn keep(&mut self, new: &[f32]) -> Result<(), Error> {
        const OPERATION: &str = "keep rows";
        let Sizes { rows, length, planes, kv_width, .. } = self.sizes;
        if new.len() != planes * rows * kv_width {
            let expected = format!("{planes}×{rows}×{kv_width} keys and values");
            return Err(Error::Shape { operation: OPERATION, expected, got: new.len().to_string() });
        }
        let count = new.iter().filter(|value| !value.is_finite()).count();
        if count > 0 {
            return Err(Error::NotFinite { operation: OPERATION, count });
        }
        let taken = self.staged * kv_width;
        for plane in 0..planes {
            let from = &new[plane * rows * kv_width..][..taken];
            self.past[(plane * length + self.used) * kv_width..][..taken].copy_from_slice(from);
        }
        self.used += self.staged;
        self.words += self.staged_words;
        (self.staged, self.staged_words) = (0, 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const SIZES: Sizes = Sizes { rows: 4, length: 11, width: 2, planes: 2, kv_width: 3, things: false };

    /// Keys and values that tell plane, row and channel apart, as a graph would give them for the staged rows.
    fn new(sizes: Sizes, first: usize) -> Vec<f32> {
        let Sizes { rows, planes, kv_width, .. } = sizes;
        let value = |plane: usize, row: usize, channel: usize| (100 * (first + row) + 10 * plane + channel) as f32;
        let rows = |plane| (0..rows).flat_map(move |row| (0..kv_width).map(move |channel| value(plane, row, channel)));
        (0..planes).flat_map(rows).collect()
    }

    /// Stages and keeps rows, `chunk` at a time; gives positions and what each row saw, as places and as rows.
    fn read(cache: &mut Cache, rows: &[Row<'_>], chunk: usize) -> Vec<(i64, Vec<usize>)> {
        let Sizes { length, rows: most, .. } = cache.sizes;
        let mut seen = Vec::new();
        for rows in rows.chunks(chunk) {
            cache.stage(rows).unwrap();
            for (row, line) in cache.mask.chunks(length + most).enumerate().take(rows.len()) {
                // A staged row stands where it will be kept.
                let place = |at: usize| if at < length { at } else { cache.used + at - length };
                let allowed = (0..line.len()).filter(|&at| line[at] == 0.0).map(place).collect();
                seen.push((cache.positions[row], allowed));
            }
            cache.keep(&new(cache.sizes, cache.used)).unwrap();
        }
        seen
    }

    #[test]
    fn picture_and_words_stand_where_training_had_them() {
        let mut cache = Cache::new(SIZES);
        let token = [0.5, -0.5];
        cache.stage(&[Row::Picture(&token), Row::Picture(&token), Row::Word(9)]).unwrap();
        assert_eq!(cache.tokens, [0.5, -0.5, 0.5, -0.5, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!((&cache.ids[..3], &cache.spoken[..3]), (&[0, 0, 9][..], &[0.0, 0.0, 1.0][..]));
        assert_eq!(cache.positions, [0, 0, 1, 0]);
        cache.keep(&new(SIZES, 0)).unwrap();
        cache.stage(&[Row::Word(7)]).unwrap();
        assert_eq!((cache.positions[0], cache.used()), (2, 3));
        let line = &cache.mask[..15];
        assert_eq!((0..15).filter(|&at| line[at] == 0.0).collect::<Vec<_>>(), [0, 1, 2, 11]);
        // Plane 1, place 2: the word.
        assert_eq!(cache.past[(11 + 2) * 3..][..3], [210.0, 211.0, 212.0]);
        // Rows that were staged and not kept leave no trace.
        cache.stage(&[Row::Word(8)]).unwrap();
        assert_eq!((cache.positions[0], cache.used()), (2, 3));
        cache.clear();
        cache.stage(&[Row::Word(8)]).unwrap();
        assert_eq!((cache.positions[0], cache.used()), (1, 0));
    }

    #[test]
    fn things_stand_with_the_picture_and_are_told_apart_from_it() {
        let mut cache = Cache::new(Sizes { things: true, ..SIZES });
        cache.stage(&[Row::Picture(&[0.5, -0.5]), Row::Thing(&[0.25]), Row::Word(9)]).unwrap();
        assert_eq!(cache.tokens[..6], [0.5, -0.5, 0.25, 0.0, 0.0, 0.0]);
        assert_eq!(cache.spoken, [0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
        assert_eq!((&cache.ids[..3], cache.positions[..3].to_vec()), (&[0, 0, 9][..], vec![0, 0, 1]));
        // What a row was before leaves no trace.
        cache.stage(&[Row::Word(7), Row::Picture(&[1.0, 2.0])]).unwrap();
        assert_eq!((&cache.spoken[..4], &cache.tokens[2..4]), (&[1.0, 0.0, 0.0, 0.0][..], &[1.0, 2.0][..]));
        let error = cache.stage(&[Row::Thing(&[0.0; 3])]).unwrap_err().to_string();
        assert_eq!(error, "stage rows: expected things of 2 numbers at most, got 3");
        let error = Cache::new(SIZES).stage(&[Row::Thing(&[0.0])]).unwrap_err().to_string();
        assert_eq!(error, "stage rows: expected no things: the graph takes none, got 1");
    }

    #[test]
    fn what_does_not_fit_is_an_error_and_changes_nothing() {
        let mut cache = Cache::new(SIZES);
        read(&mut cache, &[Row::Word(1); 9], 4);
        cache.stage(&[Row::Word(2)]).unwrap();
        let before = cache.clone();
        let error = cache.stage(&[Row::Word(1); 3]).unwrap_err().to_string();
        assert_eq!(error, "stage rows: expected 1 to 2 rows, 9 of 11 places being used, got 3");
        assert!(cache.stage(&[]).is_err());
        assert!(cache.stage(&[Row::Word(1), Row::Picture(&[0.0; 3])]).is_err());
        assert!(cache.keep(&[0.0; 23]).is_err());
        let broken: Vec<f32> = new(SIZES, 0).into_iter().map(|v| if v == 11.0 { f32::NAN } else { v }).collect();
        assert_eq!(
            cache.keep(&broken).unwrap_err().to_string(),
            "keep rows: expected finite numbers, got 1 that are not"
        );
        assert_eq!(cache, before);
    }

    #[test]
    fn a_mask_of_more_than_there_is_shows_all_there_is() {
        assert_eq!(mask(9, 2, 9, 2), mask(2, 2, 2, 2));
        assert!(mask(0, 0, 0, 0).is_empty());
        assert_eq!(mask(0, 0, 2, 2), [0.0, HIDDEN, 0.0, 0.0]);
    }

    proptest! {
        #[test]
        fn how_rows_are_cut_into_runs_changes_nothing(
            kinds in prop::collection::vec(any::<bool>(), 1..11), chunk in 1usize..5,
        ) {
            let token = [1.0, 2.0];
            let rows: Vec<Row<'_>> =
                kinds.iter().map(|&word| if word { Row::Word(3) } else { Row::Picture(&token) }).collect();
            let (mut once, mut cut) = (Cache::new(SIZES), Cache::new(SIZES));
            let (single, several) = (read(&mut once, &rows, 1), read(&mut cut, &rows, chunk));
            prop_assert_eq!(&single, &several);
            for (row, (_, seen)) in single.iter().enumerate() {
                prop_assert_eq!(seen, &(0..=row).collect::<Vec<_>>(), "every row sees all before it and itself");
            }
            prop_assert_eq!(once.past, cut.past);
        }
    }
}
