//! Which grid of tiles a frame is cut into: the coarsest that shows small things large enough, or the finest that fits.

use crate::preprocess::View;
use serde::{Deserialize, Serialize};

/// Tiles of one frame at most, whatever is asked for: what the vision graph says of each is kept while the frame is looked
/// at, about 3.5 MB a tile.
pub const MOST_TILES: u32 = 48;

/// What tiles shall show, and what they may cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TileOptions {
    /// Time that the views of one answer may take together, in milliseconds; 0 sets no bound by time.
    pub budget_millis: u32,
    /// Views of one answer at most, whatever they take: the overview and its tiles.
    pub most_views: u32,
    /// Side of the smallest thing that is to be seen, in pixels of the frame.
    pub smallest_pixels: f32,
    /// What that side must become in pixels of the model's input.
    pub seen_pixels: f32,
    /// Share of a tile's side that its neighbour sees too, 0 to [`MOST_OVERLAP`].
    pub overlap: f32,
}

/// Largest share of a tile's side that its neighbour may see too.
pub const MOST_OVERLAP: f32 = 0.5;

/// How many times larger than in the frame a tile may show things: beyond it no further detail is there to be seen.
pub const MOST_ENLARGEMENT: f32 = 2.0;

impl Default for TileOptions {
    fn default() -> Self {
        Self { budget_millis: 1000, most_views: 17, smallest_pixels: 32.0, seen_pixels: 16.0, overlap: 0.125 }
    }
}

impl TileOptions {
    /// What is wrong with the options: the field, what would be right, and what is there.
    ///
    /// # Errors
    /// When a value is out of its range.
    pub fn check(&self) -> Result<(), (&'static str, String, String)> {
        let Self { most_views, smallest_pixels, seen_pixels, overlap, .. } = *self;
        let most = MOST_TILES + 1;
        // Written so that a NaN is out of range.
        if !(1..=most).contains(&most_views) {
            return Err(("most_views", format!("1 to {most}"), most_views.to_string()));
        }
        if !(1.0..=4096.0).contains(&smallest_pixels) {
            return Err(("smallest_pixels", "1 to 4096".into(), smallest_pixels.to_string()));
        }
        if !(1.0..=512.0).contains(&seen_pixels) || seen_pixels > MOST_ENLARGEMENT * smallest_pixels {
            let expected = format!("1 to 512, and not more than {MOST_ENLARGEMENT} times smallest_pixels");
            return Err(("seen_pixels", expected, seen_pixels.to_string()));
        }
        if !(0.0..=MOST_OVERLAP).contains(&overlap) {
            return Err(("overlap", format!("0 to {MOST_OVERLAP}"), overlap.to_string()));
        }
        Ok(())
    }

    /// Longest side in frame pixels of a tile that shows the smallest thing large enough, on an input of `size` pixels.
    #[must_use]
    pub fn tile_side(&self, size: u32) -> f32 {
        let enlargement = (self.seen_pixels / self.smallest_pixels).min(MOST_ENLARGEMENT);
        size as f32 / enlargement
    }

    /// Side in frame pixels of the smallest thing that views with this longest side show large enough.
    #[must_use]
    pub fn smallest_in(&self, longest: f32, size: u32) -> f32 {
        self.seen_pixels * longest / size as f32
    }
}

/// So many columns and rows of tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Tiles side by side.
    pub columns: u32,
    /// Tiles one above the other.
    pub rows: u32,
}

impl Grid {
    /// The frame as it is.
    pub const WHOLE: Self = Self { columns: 1, rows: 1 };

    /// The grid for a frame of `[width, height]` pixels and an input of `size` pixels, of at most `most` tiles.
    ///
    /// Where grids of so many tiles show the smallest thing large enough, the one with the fewest tiles; else the one whose
    /// tiles are smallest. More tiles allowed never make it coarser.
    #[must_use]
    pub fn fit([width, height]: [u32; 2], size: u32, options: &TileOptions, most: u32) -> Self {
        let wanted = options.tile_side(size);
        let most = most.clamp(1, MOST_TILES);
        let mut best = (f32::INFINITY, u32::MAX, Self::WHOLE);
        for columns in 1..=most.min(width) {
            for rows in 1..=(most / columns).min(height) {
                let grid = Self { columns, rows };
                let [tile_width, tile_height] = grid.tile([width, height], options.overlap);
                let longest = (tile_width.max(tile_height) as f32).max(wanted);
                if longest < best.0 || (longest == best.0 && grid.tiles() < best.1) {
                    best = (longest, grid.tiles(), grid);
                }
            }
        }
        best.2
    }

    /// How many tiles there are.
    #[must_use]
    pub fn tiles(self) -> u32 {
        self.columns * self.rows
    }

    /// Width and height of a tile in whole pixels of a frame of `[width, height]` pixels.
    #[must_use]
    pub fn tile(self, [width, height]: [u32; 2], overlap: f32) -> [u32; 2] {
        [length(width, self.columns, overlap), length(height, self.rows, overlap)]
    }

    /// The tiles in reading order. They cover the frame, lie in it, and neighbours share at least `overlap` of a tile's side,
    /// less one pixel.
    #[must_use]
    pub fn views(self, [width, height]: [u32; 2], overlap: f32) -> Vec<View> {
        let [tile_width, tile_height] = self.tile([width, height], overlap);
        let place = |index: u32, count: u32, frame: u32, tile: u32| match count {
            0 | 1 => 0.0,
            // In 64 bits: a frame's side times a count.
            _ => (u64::from(index) * u64::from(frame - tile) / u64::from(count - 1)) as f32,
        };
        let mut views = Vec::with_capacity(self.tiles() as usize);
        for row in 0..self.rows {
            for column in 0..self.columns {
                views.push(View {
                    x: place(column, self.columns, width, tile_width),
                    y: place(row, self.rows, height, tile_height),
                    width: tile_width as f32,
                    height: tile_height as f32,
                });
            }
        }
        views
    }
}

/// Length of each of `count` equal pieces of a line of `line` pixels that overlap by this share: n·t − (n − 1)·s·t = L.
fn length(line: u32, count: u32, overlap: f32) -> u32 {
    let (count, overlap) = (f64::from(count.max(1)), f64::from(overlap));
    let pieces = count - (count - 1.0) * overlap;
    ((f64::from(line) / pieces).ceil() as u32).clamp(1, line.max(1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    const UHD: [u32; 2] = [3840, 2160];

    fn seeing(smallest_pixels: f32) -> TileOptions {
        TileOptions { smallest_pixels, ..TileOptions::default() }
    }

    #[test]
    fn a_frame_that_shows_enough_is_left_whole() {
        assert_eq!(Grid::fit([512, 512], 512, &seeing(16.0), 48), Grid::WHOLE);
        assert_eq!(Grid::fit([1024, 768], 512, &seeing(32.0), 48), Grid::WHOLE);
        assert_eq!(Grid::fit(UHD, 512, &seeing(16.0), 1), Grid::WHOLE, "no tile is to be had");
    }

    #[test]
    fn the_coarsest_grid_that_shows_enough_is_taken() {
        assert_eq!(Grid::fit(UHD, 512, &seeing(32.0), 48), Grid { columns: 5, rows: 3 });
        assert_eq!(Grid::fit(UHD, 512, &seeing(16.0), 48), Grid { columns: 9, rows: 5 });
        // A frame that is much longer than high is cut across only.
        assert_eq!(Grid::fit([4096, 600], 512, &seeing(32.0), 48), Grid { columns: 5, rows: 1 });
    }

    #[test]
    fn the_finest_grid_that_may_be_had_is_taken_where_none_shows_enough() {
        assert_eq!(Grid::fit(UHD, 512, &seeing(16.0), 8), Grid { columns: 4, rows: 2 });
        assert_eq!(Grid::fit(UHD, 512, &seeing(16.0), 4), Grid { columns: 2, rows: 2 });
    }

    #[test]
    fn options_out_of_their_range_are_named() {
        assert_eq!(TileOptions::default().check(), Ok(()));
        let wrong = [
            ("most_views", TileOptions { most_views: 0, ..TileOptions::default() }),
            ("most_views", TileOptions { most_views: 50, ..TileOptions::default() }),
            ("smallest_pixels", seeing(f32::NAN)),
            ("seen_pixels", seeing(7.9)),
            ("overlap", TileOptions { overlap: 0.6, ..TileOptions::default() }),
            ("overlap", TileOptions { overlap: f32::NAN, ..TileOptions::default() }),
        ];
        for (field, options) in wrong {
            assert_eq!(options.check().unwrap_err().0, field);
        }
    }

    fn any_options() -> impl Strategy<Value = TileOptions> {
        (4.0_f32..200.0, 4.0_f32..40.0, 0.0_f32..=MOST_OVERLAP).prop_map(|(smallest, seen, overlap)| TileOptions {
            smallest_pixels: smallest.max(seen / MOST_ENLARGEMENT),
            seen_pixels: seen,
            overlap,
            ..TileOptions::default()
        })
    }

    proptest! {
        /// What would break: a deadline that is missed because a frame is large.
        #[test]
        fn never_more_tiles_than_allowed_and_never_coarser_with_more(
            width in 1_u32..8000, height in 1_u32..8000, options in any_options(), most in 1_u32..60,
        ) {
            prop_assert!(options.check().is_ok());
            let grid = |most| Grid::fit([width, height], 512, &options, most);
            let longest = |grid: Grid| {
                let [w, h] = grid.tile([width, height], options.overlap);
                (w.max(h) as f32).max(options.tile_side(512))
            };
            let (one, more) = (grid(most), grid(most + 1));
            prop_assert!((1..=most.min(MOST_TILES)).contains(&one.tiles()));
            prop_assert!(longest(more) <= longest(one), "{one:?} of {most}, {more:?} of one more");
            if longest(one) <= options.tile_side(512) {
                prop_assert_eq!(one, more, "what shows enough needs no more");
            }
        }

        /// What would break: a target that no tile sees, or that every tile cuts.
        #[test]
        fn tiles_cover_the_frame_lie_in_it_and_overlap_as_stated(
            width in 1_u32..8000, height in 1_u32..8000, columns in 1_u32..10, rows in 1_u32..6,
            overlap in 0.0_f32..=MOST_OVERLAP,
        ) {
            let grid = Grid { columns: columns.min(width), rows: rows.min(height) };
            let views = grid.views([width, height], overlap);
            prop_assert_eq!(views.len(), grid.tiles() as usize);
            for view in &views {
                prop_assert!(view.check("test", width, height).is_ok(), "{view:?}");
            }
            let across: Vec<(f32, f32)> =
                views[..grid.columns as usize].iter().map(|view| (view.x, view.x + view.width)).collect();
            let down: Vec<(f32, f32)> =
                views.iter().step_by(grid.columns as usize).map(|view| (view.y, view.y + view.height)).collect();
            for (line, pieces) in [(width, across), (height, down)] {
                prop_assert_eq!((pieces[0].0, pieces[pieces.len() - 1].1), (0.0, line as f32));
                for pair in pieces.windows(2) {
                    let (side, shared) = (pair[0].1 - pair[0].0, pair[0].1 - pair[1].0);
                    prop_assert!(shared >= overlap * side - 1.01, "{pair:?} share {shared}");
                }
            }
        }
    }
}
