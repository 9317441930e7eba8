//! Eight-bit integers: where the definition is rounded, how, and whether a graph keeps the runtime's rules.
//!
//! One definition gives four readings. Candle computes in f32; candle with an [`Observer`] also notes the range of every
//! tensor that a quantised graph would round; candle with a [`FakeQuant`] rounds there as the graph will, with a
//! straight-through gradient; and [`crate::onnx::Onnx::quantised`] emits the graph with QuantizeLinear and
//! DequantizeLinear pairs. All of them name the places alike, by the layer that reads the tensor:
//!
//! - the input of a convolution or affine map `NAME` is the place `NAME`, and its kernel is `NAME.weight`;
//! - what is added to the output of the layer `NAME` is the place `NAME/residual`.
//!
//! Everything else stays wide: norms, softmax, rotary positions, attention's own products, activations, the last logits.
//!
//! Sources: ONNX operators QuantizeLinear-13 and DequantizeLinear-13; NVIDIA TensorRT documentation, "Working with
//! quantized types"; Jacob et al., arXiv 1712.05877; straight-through gradient: Bengio et al., arXiv 1308.3432.

pub mod check;
mod fake;
mod histogram;
mod observe;
mod rounding;
mod scheme;

pub use check::{Finding, Rule, check};
pub use fake::FakeQuant;
pub use histogram::{Histogram, Method};
pub use observe::{Observed, Observer};
pub use rounding::{Kernel, Rounding, kernel};
pub use scheme::{Scheme, Target};

/// Fewest inputs and outputs of an affine map over rows that is rounded. Integer kernels work on blocks of 16 channels or
/// more; a narrower map gains nothing, and the last logits are among them.
pub const FEWEST_CHANNELS: usize = 16;

/// The place where the tensor that is added to the output of `layer` is rounded.
pub fn residual(layer: &str) -> String {
    format!("{layer}/residual")
}
