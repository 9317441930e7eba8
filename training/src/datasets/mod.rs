//! Real aerial images: loading, splitting by scene, cropping to the model's input, pasting.
//!
//! A folder holds `images/` and `annotations.json`; [`load`] checks the annotations whole and decodes pictures only when
//! asked. [`formats`] reads the formats of other people's sets into the same [`Record`]s.
//! [`folder`] names such a set in a recipe or a command.
//! [`Record::split`] is fixed by scene, [`crop`] makes square [`crate::sample::Picture`]s and [`paste`] puts real
//! instances onto other real ground.

pub mod clusters;
pub mod crop;
mod error;
pub mod folder;
pub mod formats;
pub mod labels;
mod load;
mod outline;
pub mod paste;
pub mod raster;
mod split;

#[cfg(test)]
mod tests;

pub use error::{DataError, Result};
pub use load::{Labelled, Modality, Record, load};
pub use outline::{Outline, Referring};
pub use split::Split;
