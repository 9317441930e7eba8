//! What can go wrong between a frame and an answer.

/// A failure of perception: a frame, a view or a tensor that is not what the operation needs.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A frame or mask without pixels.
    #[error("{operation}: expected a picture of at least 1×1 pixels, got {width}×{height}")]
    Empty {
        /// What was asked.
        operation: &'static str,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// A view that does not lie in the frame.
    #[error("{operation}: expected a view of at least 1×1 pixels inside the {width}×{height} frame, got {view}")]
    ViewOutside {
        /// What was asked.
        operation: &'static str,
        /// Width of the frame in pixels.
        width: u32,
        /// Height of the frame in pixels.
        height: u32,
        /// The view as text.
        view: String,
    },
    /// A tensor of another shape.
    #[error("{operation}: expected {expected}, got {got}")]
    Shape {
        /// What was asked.
        operation: &'static str,
        /// The shape needed.
        expected: String,
        /// The shape given.
        got: String,
    },
    /// NaN or infinity where a number is needed: the engine is not to be trusted.
    #[error("{operation}: expected finite numbers, got {count} that are not")]
    NotFinite {
        /// What was asked.
        operation: &'static str,
        /// How many are not finite.
        count: usize,
    },
    /// A number out of its range.
    #[error("{operation}: expected {expected}, got {got}")]
    Range {
        /// What was asked.
        operation: &'static str,
        /// The range.
        expected: &'static str,
        /// The number.
        got: f32,
    },
    /// The resizer refused.
    #[error("{operation}: the resizer failed: {message}")]
    Resize {
        /// What was asked.
        operation: &'static str,
        /// Its own words.
        message: String,
    },
    /// A mask that cannot be encoded or decoded.
    #[error("{operation}: {message}")]
    Mask {
        /// What was asked.
        operation: &'static str,
        /// What the codec said.
        message: String,
    },
}
