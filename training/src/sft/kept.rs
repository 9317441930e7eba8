//! What a frozen vision part sees of training pictures, kept: it will never see anything else there.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use candle_core::Tensor;
use kestrel_models::kestrel::Seen;

use super::Result;

/// Views of the first pictures that were asked for, shared by all workers.
#[derive(Debug)]
pub(super) struct Kept {
    most: usize,
    views: RwLock<HashMap<usize, Seen<Tensor>>>,
}

impl Kept {
    /// Room for the views of so many pictures; those that come later are seen anew each time.
    pub(super) fn new(most: usize) -> Self {
        Self { most, views: RwLock::default() }
    }

    /// The view of a picture, by its number: kept, or `see`n now.
    ///
    /// # Errors
    /// That of `see`.
    pub(super) fn view(&self, picture: usize, see: impl FnOnce() -> Result<Seen<Tensor>>) -> Result<Seen<Tensor>> {
        let kept = self.views.read().unwrap_or_else(PoisonError::into_inner).get(&picture).cloned();
        if let Some(view) = kept {
            return Ok(view);
        }
        // Two workers may see one picture at once: they see the same.
        let view = see()?;
        let mut views = self.views.write().unwrap_or_else(PoisonError::into_inner);
        if views.len() < self.most {
            views.insert(picture, view.clone());
        }
        Ok(view)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candle_core::Device;
    use std::cell::Cell;

    #[test]
    fn the_first_are_kept_and_the_others_seen_anew() {
        let (kept, looks) = (Kept::new(2), Cell::new(0));
        let view = |picture: usize| -> f32 {
            let see = || {
                looks.set(looks.get() + 1);
                let part = Tensor::new(&[picture as f32], &Device::Cpu)?;
                Ok(Seen { tokens: part.clone(), embed: part.clone(), fine: part.clone(), spots: part })
            };
            kept.view(picture, see).unwrap().tokens.to_vec1::<f32>().unwrap()[0]
        };
        for (picture, expected) in [(7, 1), (9, 2), (7, 2), (3, 3), (3, 4), (9, 4)] {
            assert_eq!((view(picture), looks.get()), (picture as f32, expected));
        }
    }
}
