//! Flags that say which parts of a picture are looked at.

use clap::{Args, ValueEnum};
use kestrel_perception::{TileOptions, Tiling};

use super::hinted;

#[derive(Debug, Clone, Args)]
pub(super) struct TilingArguments {
    /// When to look at tiles too: 2×2 of them, or as many as --smallest-pixels wants and the bounds below allow.
    #[arg(long, value_enum, default_value_t = TilingChoice::Auto)]
    tiling: TilingChoice,
    /// With --tiling grid or coarse-to-fine: views at most, the whole picture and its tiles.
    #[arg(long, value_name = "COUNT", default_value_t = TileOptions::default().most_views)]
    most_views: u32,
    /// With these: milliseconds that the views may take together; 0 sets no bound.
    #[arg(long, value_name = "MILLIS", default_value_t = 0)]
    budget_millis: u32,
    /// With these: side of the smallest thing that is to be seen, in pixels of the picture.
    #[arg(long, value_name = "PIXELS", default_value_t = TileOptions::default().smallest_pixels)]
    smallest_pixels: f32,
    /// With these: what that side must become in pixels of the model's input.
    #[arg(long, value_name = "PIXELS", default_value_t = TileOptions::default().seen_pixels)]
    seen_pixels: f32,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum TilingChoice {
    Never,
    Auto,
    Always,
    Grid,
    CoarseToFine,
}

impl From<TilingChoice> for Tiling {
    fn from(choice: TilingChoice) -> Self {
        match choice {
            TilingChoice::Never => Self::Never,
            TilingChoice::Auto => Self::Auto,
            TilingChoice::Always => Self::Always,
            TilingChoice::Grid => Self::Grid,
            TilingChoice::CoarseToFine => Self::CoarseToFine,
        }
    }
}

impl TilingArguments {
    /// When there are tiles, and what they shall show and may cost.
    pub(super) fn options(&self) -> anyhow::Result<(Tiling, TileOptions)> {
        let Self { tiling, most_views, budget_millis, smallest_pixels, seen_pixels } = *self;
        let tiles = TileOptions { budget_millis, most_views, smallest_pixels, seen_pixels, ..TileOptions::default() };
        tiles.check().map_err(|(field, expected, got)| {
            let flag = field.replace('_', "-");
            hinted(
                format!("--{flag}: expected {expected}, got {got}"),
                "leave it out for its default, which --help gives",
            )
        })?;
        Ok((tiling.into(), tiles))
    }
}
