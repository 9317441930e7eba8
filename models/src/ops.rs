//! The operations a model is written in, and nothing else.
//!
//! Shapes below are *logical*. A **map** is `[N, H, W, C]`, **rows** are `[N, L, D]`; an interpreter may lay a map out
//! as it likes (candle: channel-last, ONNX: NCHW) as long as the logical shape and the numbers agree.

use crate::error::Result;

/// Element-wise activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Identity.
    None,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// Gaussian error linear unit, exact erf form.
    Gelu,
    /// `x · sigmoid(x)`.
    Silu,
    /// Logistic.
    Sigmoid,
}

/// How a parameter that no file gives begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// All zero.
    Zeros,
    /// All one.
    Ones,
    /// Normal with this deviation, seeded by the parameter's name.
    Normal(f32),
}

/// A dense or depthwise convolution with TensorFlow's SAME padding (source: `tf.nn.convolution`):
/// `out = ceil(in / stride)`, `pad = max((out−1)·stride + k − in, 0)`, the smaller half first.
#[derive(Debug, Clone, Copy)]
pub struct Conv {
    /// Square kernel size.
    pub kernel: usize,
    /// Stride along both axes.
    pub stride: usize,
    /// Activation after the bias.
    pub act: Act,
}

/// An interpreter of model definitions.
///
/// Every parameter is named; `name` is a prefix to which the interpreter adds `.weight` and `.bias`.
pub trait Ops {
    /// A tensor, whatever that is here: values, or a node's output.
    type T: Clone;

    /// Logical shape.
    fn shape(&self, x: &Self::T) -> Vec<usize>;

    /// The parameter `name` itself (no suffix is added).
    fn parameter(&mut self, name: &str, shape: &[usize], init: Init) -> Result<Self::T>;
    /// A constant in rows layout.
    fn constant(&mut self, data: &[f32], shape: &[usize]) -> Result<Self::T>;

    /// Dense convolution of a map. `name.weight` is `[out, kernel, kernel, in]`, `name.bias` `[out]`.
    fn conv(&mut self, x: &Self::T, name: &str, out: usize, conv: Conv) -> Result<Self::T>;
    /// Depthwise convolution of a map. `name.weight` is `[kernel, kernel, C]`, `name.bias` `[C]`.
    fn depthwise(&mut self, x: &Self::T, name: &str, conv: Conv) -> Result<Self::T>;
    /// Affine over the last logical axis, of maps (a 1×1 convolution) and of rows. `name.weight` is `[out, in]`; `name.bias` `[out]` if `bias`.
    fn linear(&mut self, x: &Self::T, name: &str, out: usize, bias: bool, act: Act) -> Result<Self::T>;
    /// Repeats every pixel of a map `factor` × `factor` times.
    fn upsample_nearest(&mut self, x: &Self::T, factor: usize) -> Result<Self::T>;
    /// Map `[N, H, W, C]` to rows `[N, H·W, C]`.
    fn to_rows(&mut self, x: &Self::T) -> Result<Self::T>;
    /// Rows `[N, H·W, C]` to map `[N, H, W, C]`.
    fn to_map(&mut self, x: &Self::T, height: usize, width: usize) -> Result<Self::T>;

    /// `name.weight [vocabulary, dim]` gathered by integer `ids [N, L]` to rows `[N, L, dim]`.
    fn embedding(&mut self, ids: &Self::T, name: &str, vocabulary: usize, dim: usize) -> Result<Self::T>;
    /// Rows `[N, L, D]` at integer `index [N, K]`, to `[N, K, D]`. The ONNX interpreter needs N = 1.
    fn select(&mut self, x: &Self::T, index: &Self::T) -> Result<Self::T>;
    /// `x / sqrt(mean(x²) + eps) · name.weight` over the last axis (RMSNorm, Zhang & Sennrich 2019).
    fn rms_norm(&mut self, x: &Self::T, name: &str, eps: f32) -> Result<Self::T>;
    /// LayerNorm over the last axis with `name.weight`, `name.bias`.
    fn layer_norm(&mut self, x: &Self::T, name: &str, eps: f32) -> Result<Self::T>;
    /// Rotary position of rows `[N, L, heads·d]` in Llama's half-split form; `cos`, `sin` are `[N or 1, L, d/2]`.
    fn rope(&mut self, x: &Self::T, heads: usize, cos: &Self::T, sin: &Self::T) -> Result<Self::T>;
    /// Scaled dot-product attention, scale `1/sqrt(d)`: `q [N, Lq, heads·d]`, `k`/`v [N, Lk, kv_heads·d]`,
    /// additive `mask [N or 1, Lq, Lk]`; query head h reads key head `h / (heads / kv_heads)`. Gives `[N, Lq, heads·d]`.
    fn attention(
        &mut self,
        q: &Self::T,
        k: &Self::T,
        v: &Self::T,
        heads: usize,
        kv_heads: usize,
        mask: Option<&Self::T>,
    ) -> Result<Self::T>;

    /// Exponentials of rows that sum to 1 over the last axis.
    fn softmax(&mut self, x: &Self::T) -> Result<Self::T>;
    /// Element-wise activation.
    fn activate(&mut self, x: &Self::T, act: Act) -> Result<Self::T>;
    /// Sum; axes of length 1 broadcast. Both maps or both rows.
    fn add(&mut self, a: &Self::T, b: &Self::T) -> Result<Self::T>;
    /// What the layer `name` gave, and beside it what it was made from: `branch + identity`. A quantised graph rounds the
    /// identity, so that a runtime can add it within the layer's integer kernel.
    fn residual(&mut self, branch: &Self::T, identity: &Self::T, _name: &str) -> Result<Self::T> {
        self.add(branch, identity)
    }
    /// Product; axes of length 1 broadcast. Both maps or both rows.
    fn mul(&mut self, a: &Self::T, b: &Self::T) -> Result<Self::T>;
    /// `x · factor`.
    fn scale(&mut self, x: &Self::T, factor: f32) -> Result<Self::T>;
    /// `a [N, L, D] · b [N, M, D]ᵀ`, to `[N, L, M]`.
    fn matmul_t(&mut self, a: &Self::T, b: &Self::T) -> Result<Self::T>;
    /// Joins rows along `axis`.
    fn concat(&mut self, xs: &[Self::T], axis: usize) -> Result<Self::T>;
    /// `len` entries of rows from `start` along `axis`.
    fn narrow(&mut self, x: &Self::T, axis: usize, start: usize, len: usize) -> Result<Self::T>;
    /// Rows of another shape `[N, L, D]` with the same numbers in the same order.
    fn reshape(&mut self, x: &Self::T, shape: &[usize]) -> Result<Self::T>;
    /// Each batch entry `times` times in a row: `[N, …]` to `[N·times, …]`; times 1 is the identity.
    fn repeat_batch(&mut self, x: &Self::T, times: usize) -> Result<Self::T>;
}
