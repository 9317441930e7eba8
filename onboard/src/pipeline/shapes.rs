//! The shapes of a model's tensors, as its manifest promises them.

use kestrel_link::Manifest;
use kestrel_perception::decoding::Sizes;
use kestrel_perception::proposals::SPOT;

/// The shapes that a manifest promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shapes {
    /// Side of the input in pixels.
    pub(super) size: usize,
    language: usize,
    mask: usize,
    fine: usize,
    vocabulary: usize,
    /// Tokens of the longest question.
    pub(super) tokens: usize,
}

impl Shapes {
    /// The shapes of a manifest.
    #[must_use]
    pub fn of(manifest: &Manifest) -> Self {
        Self {
            size: manifest.input_size as usize,
            language: manifest.language_width as usize,
            mask: manifest.mask_width as usize,
            fine: manifest.fine_width as usize,
            vocabulary: manifest.vocabulary as usize,
            tokens: manifest.max_tokens as usize,
        }
    }

    /// Side of the grid of spots.
    #[must_use]
    pub fn spot_side(&self) -> usize {
        self.size / 8
    }

    /// Side of the mask logits.
    #[must_use]
    pub fn mask_side(&self) -> usize {
        self.size / 4
    }

    /// How many image tokens a view has, and the width of one.
    #[must_use]
    pub fn image_tokens(&self) -> [usize; 2] {
        [(self.size / 32).pow(2), self.language]
    }

    /// Tokens of the longest question.
    #[must_use]
    pub fn question(&self) -> usize {
        self.tokens
    }

    /// Shapes of the outputs of the vision graph for one view.
    pub(super) fn vision(&self) -> [Vec<usize>; 4] {
        let [count, width] = self.image_tokens();
        [
            vec![1, count, width],
            vec![1, (self.size / 16).pow(2), self.mask],
            vec![1, self.mask_side().pow(2), self.fine],
            vec![1, self.spot_side().pow(2), SPOT],
        ]
    }

    /// Shapes of the outputs of the language graph.
    pub(super) fn language(&self) -> [Vec<usize>; 3] {
        [vec![1, self.vocabulary], vec![1, 1, self.mask], vec![1, self.tokens]]
    }

    /// Shapes of the outputs of the mask graph.
    pub(super) fn mask(&self) -> [Vec<usize>; 3] {
        [vec![1, self.mask_side(), self.mask_side()], vec![1, 1], vec![1, 1]]
    }

    /// Shapes of the outputs of an `explain` graph of these sizes.
    pub(super) fn explain(&self, sizes: &Sizes) -> [Vec<usize>; 3] {
        let Sizes { rows, planes, kv_width, .. } = *sizes;
        [vec![rows, self.vocabulary], vec![rows, self.mask], vec![planes, rows, kv_width]]
    }
}
