//! Which regions of a frame the model looks at, and how their answers become one.
//!
//! [`plan`] cuts a frame. Where a budget bounds the views of one answer, [`Pace`] and [`affordable`] say how many there may
//! be, [`Grid`] which tiles that makes, and [`Heat`] which of them are looked at when that cannot be all.

mod coarse;
mod grid;
mod pace;
mod stitch;

pub use coarse::Heat;
pub use grid::{Grid, MOST_ENLARGEMENT, MOST_OVERLAP, MOST_TILES, TileOptions};
pub use pace::{Pace, affordable};
pub use stitch::{Part, refine};

use crate::bitmap::Bitmap;
use crate::preprocess::{Letterbox, View};
use kestrel_link::Hint;
use serde::{Deserialize, Serialize};

/// Share of a frame's side that two neighbouring tiles both see.
pub const OVERLAP: f32 = 0.125;

/// Longest side in pixels that [`Tiling::Auto`] leaves whole: beyond it the model's input would lose pixels.
pub const WHOLE_UP_TO: u32 = 640;

/// Margin around a coarse box when it becomes a hint, as a share of its side: coarse edges are not sharp.
const HINT_MARGIN: f32 = 0.05;

/// When a frame is also looked at in tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tiling {
    /// The whole frame only.
    Never,
    /// In 2×2 tiles when a side is longer than [`WHOLE_UP_TO`].
    #[default]
    Auto,
    /// Always in 2×2 tiles too.
    Always,
    /// In the grid of [`TileOptions`], as fine as the budget allows: every tile may be looked at.
    Grid,
    /// In the grid that shows the smallest thing large enough, of which the budget allows some tiles: those where the
    /// overview looks, see [`Heat`].
    CoarseToFine,
}

impl Tiling {
    /// Whether a budget bounds the views of one answer, so that their number belongs to what an outcome depends on.
    #[must_use]
    pub fn is_budgeted(self) -> bool {
        matches!(self, Self::Grid | Self::CoarseToFine)
    }
}

/// The views of a frame of `[width, height]` pixels for an input of `size` pixels: first the whole, then its tiles in
/// reading order.
///
/// Four fixed tiles overlap by [`OVERLAP`] of the frame's side, so that a target on a seam is whole in one of them. `options`
/// and `most_views` count for tilings with a budget only; a frame whose overview shows enough has no tiles there.
#[must_use]
pub fn plan(frame: [u32; 2], size: u32, tiling: Tiling, options: &TileOptions, most_views: u32) -> Vec<View> {
    let [width, height] = frame;
    let mut views = vec![View::whole(width, height)];
    let most_tiles = most_views.saturating_sub(1);
    match tiling {
        Tiling::Auto if width.max(height) > WHOLE_UP_TO => views.extend(quarters(width, height)),
        Tiling::Always => views.extend(quarters(width, height)),
        Tiling::Grid if most_tiles > 0 => views.extend(tiles(frame, size, options, most_tiles)),
        Tiling::CoarseToFine if most_tiles > 0 => views.extend(tiles(frame, size, options, MOST_TILES)),
        _ => {}
    }
    views
}

/// The tiles of the grid that fits; none where it is the frame as it is.
fn tiles(frame: [u32; 2], size: u32, options: &TileOptions, most: u32) -> Vec<View> {
    match Grid::fit(frame, size, options, most) {
        Grid::WHOLE => Vec::new(),
        grid => grid.views(frame, options.overlap),
    }
}

/// Four tiles; none of a frame that cannot be cut.
fn quarters(width: u32, height: u32) -> Vec<View> {
    if width < 2 || height < 2 {
        return Vec::new();
    }
    let side = |length: u32| (length as f32 * (1.0 + OVERLAP) / 2.0).ceil().min(length as f32);
    let (tile_width, tile_height) = (side(width), side(height));
    let mut views = Vec::with_capacity(4);
    for y in [0.0, height as f32 - tile_height] {
        for x in [0.0, width as f32 - tile_width] {
            views.push(View { x, y, width: tile_width, height: tile_height });
        }
    }
    views
}

/// Indices of the fewest `tiles` that together see every pixel of a coarse `mask` that any of them sees, most pixels first; of
/// more than `most` the first.
///
/// A target that lies whole in one tile, though its edge reaches into the overlap with another, costs one run and not two.
#[must_use]
pub fn touched(tiles: &[View], mask: &Bitmap, most: usize) -> Vec<usize> {
    let mut left = mask.clone();
    let mut chosen = Vec::new();
    while chosen.len() < most {
        let best = (0..tiles.len())
            .map(|index| (left.area_in(&tiles[index]), std::cmp::Reverse(index)))
            .max()
            .filter(|&(area, _)| area > 0);
        let Some((_, std::cmp::Reverse(index))) = best else { break };
        let edges = left.pixels_of(&tiles[index]);
        stitch::clear(&mut left, edges);
        chosen.push(index);
    }
    chosen
}

/// The part of a coarse `mask` (frame pixels) that a tile sees, as a box hint in fractions of the tile's model input.
///
/// `None` when the tile sees nothing of it.
#[must_use]
pub fn tile_hint(mask: &Bitmap, tile: &Letterbox) -> Option<Hint> {
    let [x, y, width, height] = mask.box_in(&tile.view)?.map(|value| value as f32);
    let (margin_x, margin_y) = (width * HINT_MARGIN, height * HINT_MARGIN);
    let (frame_width, frame_height) = (mask.width() as f32, mask.height() as f32);
    let around = Hint::Box {
        x0: (x - margin_x) / frame_width,
        y0: (y - margin_y) / frame_height,
        x1: (x + width + margin_x) / frame_width,
        y1: (y + height + margin_y) / frame_height,
    };
    tile.hint(&around, mask.width(), mask.height())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    fn square(x: u32, y: u32, side: u32) -> Bitmap {
        Bitmap::from_fn(200, 100, |u, v| (x..x + side).contains(&u) && (y..y + side).contains(&v))
    }

    fn fixed(width: u32, height: u32, tiling: Tiling) -> Vec<View> {
        plan([width, height], 512, tiling, &TileOptions::default(), 1)
    }

    #[test]
    fn small_frames_stay_whole() {
        assert_eq!(fixed(640, 480, Tiling::Auto), [View::whole(640, 480)]);
        assert_eq!(fixed(1920, 1080, Tiling::Never), [View::whole(1920, 1080)]);
        assert_eq!(fixed(641, 480, Tiling::Auto).len(), 5);
        assert_eq!(fixed(320, 240, Tiling::Always).len(), 5);
    }

    #[test]
    fn a_budget_bounds_the_grid_but_not_what_a_coarse_look_chooses_from() {
        let views = |tiling, most| plan([3840, 2160], 512, tiling, &TileOptions::default(), most).len();
        assert_eq!([1, 2, 3, 9, 16, 40].map(|most| views(Tiling::Grid, most)), [1, 1, 3, 9, 16, 16]);
        assert_eq!([1, 2, 9].map(|most| views(Tiling::CoarseToFine, most)), [1, 16, 16]);
        let small = plan([640, 480], 512, Tiling::Grid, &TileOptions::default(), 40);
        assert_eq!(small, [View::whole(640, 480)], "the overview shows enough");
    }

    #[test]
    fn only_the_tiles_that_are_needed_run() {
        let tiles = &fixed(200, 100, Tiling::Always)[1..];
        assert_eq!(touched(tiles, &square(10, 10, 8), 4), [0]);
        // In the overlap of all four.
        assert_eq!(touched(tiles, &square(98, 48, 4), 4).len(), 1);
        // From one end of the frame to the other.
        let bar = Bitmap::from_fn(200, 100, |_, y| y == 5);
        assert_eq!(touched(tiles, &bar, 4), [0, 1]);
        assert_eq!(touched(tiles, &bar, 1), [0]);
        assert_eq!(touched(tiles, &Bitmap::new(200, 100), 4), Vec::<usize>::new());
    }

    #[test]
    fn a_coarse_box_becomes_a_hint_of_the_tile() {
        let tile = Letterbox::new(View { x: 100.0, y: 0.0, width: 100.0, height: 100.0 }, 512);
        let Some(Hint::Box { x0, y0, x1, y1 }) = tile_hint(&square(120, 40, 20), &tile) else {
            panic!("the tile sees the square");
        };
        for (got, expected) in [(x0, 0.19), (y0, 0.39), (x1, 0.41), (y1, 0.61)] {
            assert!((got - expected).abs() < 1e-3, "{got} is not {expected}");
        }
        assert_eq!(tile_hint(&square(10, 10, 20), &tile), None);
    }

    proptest! {
        #[test]
        fn tiles_cover_the_frame_and_stay_inside(width in 1_u32..5000, height in 1_u32..5000) {
            let views = fixed(width, height, Tiling::Always);
            for view in &views {
                prop_assert!(view.check("test", width, height).is_ok());
            }
            if views.len() == 5 {
                prop_assert!(views[1].width + views[2].width >= width as f32 * (1.0 + OVERLAP));
                prop_assert!(views[1].height + views[3].height >= height as f32 * (1.0 + OVERLAP));
                prop_assert_eq!(views[4].x + views[4].width, width as f32);
                prop_assert_eq!(views[4].y + views[4].height, height as f32);
            }
        }
    }
}
