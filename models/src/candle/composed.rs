//! The same operations put together from candle's own, for devices without our kernels.
//!
//! They are slow and use more memory, but run wherever candle runs, backward included. The tests hold the kernels
//! against them. What a frozen parameter or a constant meets goes through [`binary`], which spares its gradient.

use super::binary;
use super::spatial::{Same, map_dims};
use crate::ops::{Act, Conv};
use candle_core::{D, Result, Tensor};

pub(super) fn activate(x: &Tensor, act: Act) -> Result<Tensor> {
    match act {
        Act::None => Ok(x.clone()),
        Act::Relu => x.relu(),
        Act::Relu6 => x.clamp(0f32, 6f32),
        Act::Gelu => x.gelu_erf(),
        Act::Silu => x.silu(),
        Act::Sigmoid => (x.neg()?.exp()? + 1.0)?.recip(),
    }
}

pub(super) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, act: Act) -> Result<Tensor> {
    let (out, inner) = (weight.dim(0)?, x.dim(D::Minus1)?);
    let mut dims = x.dims().to_vec();
    if let Some(last) = dims.last_mut() {
        *last = out;
    }
    let rows = x.reshape(((), inner))?;
    let mut y = binary::matmul(&rows, &weight.reshape((out, inner))?.t()?)?;
    if let Some(bias) = bias {
        y = binary::add(&y, bias)?;
    }
    activate(&y, act)?.reshape(dims)
}

/// The map under each kernel tap, `[N, OH, OW, C]`, in row-major order of the taps.
fn taps(x: &Tensor, kernel: usize, stride: usize) -> Result<Vec<Tensor>> {
    let [n, h, w, c] = map_dims(x.dims())?;
    let (rows, columns) = (Same::new(h, kernel, stride), Same::new(w, kernel, stride));
    // Long enough that every tap can take whole strides.
    let after = |same: Same, input: usize| (same.out * stride + kernel).saturating_sub(input + same.before);
    let x = x.pad_with_zeros(1, rows.before, after(rows, h))?;
    let x = x.pad_with_zeros(2, columns.before, after(columns, w))?;
    let mut taps = Vec::with_capacity(kernel * kernel);
    for ky in 0..kernel {
        let line = x.narrow(1, ky, rows.out * stride)?.contiguous()?;
        for kx in 0..kernel {
            let tap = line.narrow(2, kx, columns.out * stride)?.contiguous()?;
            let tap = tap.reshape(vec![n, rows.out, stride, columns.out, stride, c])?;
            taps.push(tap.narrow(2, 0, 1)?.narrow(4, 0, 1)?.contiguous()?.reshape((n, rows.out, columns.out, c))?);
        }
    }
    Ok(taps)
}

pub(super) fn patches(x: &Tensor, kernel: usize, stride: usize) -> Result<Tensor> {
    Tensor::cat(&taps(x, kernel, stride)?, 3)
}

pub(super) fn depthwise(x: &Tensor, weight: &Tensor, bias: &Tensor, conv: Conv) -> Result<Tensor> {
    let weight = weight.flatten(0, 1)?;
    let mut y: Option<Tensor> = None;
    for (i, tap) in taps(x, conv.kernel, conv.stride)?.iter().enumerate() {
        let term = binary::mul(tap, &weight.get(i)?)?;
        y = Some(match y {
            Some(y) => (y + term)?,
            None => term,
        });
    }
    let y = y.ok_or_else(|| candle_core::Error::Msg("depthwise: expected a kernel of at least 1, got 0".into()))?;
    activate(&binary::add(&y, bias)?, conv.act)
}

pub(super) fn upsample_nearest(x: &Tensor, factor: usize) -> Result<Tensor> {
    let [n, h, w, c] = map_dims(x.dims())?;
    let x = x.reshape(vec![n, h, 1, w, 1, c])?.broadcast_as(vec![n, h, factor, w, factor, c])?;
    x.contiguous()?.reshape((n, h * factor, w * factor, c))
}

pub(super) fn repeat_batch(x: &Tensor, times: usize) -> Result<Tensor> {
    let mut dims = x.dims().to_vec();
    dims.insert(1, times);
    let wide = x.unsqueeze(1)?.broadcast_as(dims)?.contiguous()?;
    wide.flatten(0, 1)
}

pub(super) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    let scale = (x.sqr()?.mean_keepdim(D::Minus1)? + f64::from(eps))?.sqrt()?;
    binary::mul(&x.broadcast_div(&scale)?, weight)
}

pub(super) fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    binary::add(&rms_norm(&centred, weight, eps)?, bias)
}

pub(super) fn rope(x: &Tensor, heads: usize, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let (n, length, width) = x.dims3()?;
    let half = width / heads / 2;
    let x = x.reshape((n, length, heads, 2 * half))?;
    let (x0, x1) = (x.narrow(3, 0, half)?.contiguous()?, x.narrow(3, half, half)?.contiguous()?);
    let (cos, sin) = (cos.unsqueeze(2)?, sin.unsqueeze(2)?);
    let y0 = (binary::mul(&x0, &cos)? - binary::mul(&x1, &sin)?)?;
    let y1 = (binary::mul(&x1, &cos)? + binary::mul(&x0, &sin)?)?;
    Tensor::cat(&[y0, y1], 3)?.reshape((n, length, width))
}

pub(super) fn attention(
    (q, k, v): (&Tensor, &Tensor, &Tensor),
    heads: usize,
    kv_heads: usize,
    mask: Option<&Tensor>,
) -> Result<Tensor> {
    let ((n, queries, width), keys) = (q.dims3()?, k.dim(1)?);
    let (head, shared) = (width / heads, heads / kv_heads);
    // [N, kv, shared·Lq, d]: the query heads of one key head are stacked, so keys are not repeated.
    let q = q.reshape((n, queries, kv_heads, shared, head))?.permute((0, 2, 3, 1, 4))?;
    let q = q.contiguous()?.reshape((n, kv_heads, shared * queries, head))?;
    let split = |x: &Tensor| x.reshape((n, keys, kv_heads, head))?.transpose(1, 2)?.contiguous();
    let (k, v) = (split(k)?, split(v)?);
    let scores = (binary::matmul(&q, &k.t()?)? * (1.0 / (head as f64).sqrt()))?;
    let mut scores = scores.reshape((n, heads, queries, keys))?;
    if let Some(mask) = mask {
        scores = binary::add(&scores, &mask.unsqueeze(1)?)?;
    }
    let p = softmax(&scores)?.reshape((n, kv_heads, shared * queries, keys))?;
    let y = binary::matmul(&p, &v)?.reshape((n, kv_heads, shared, queries, head))?.permute((0, 3, 1, 2, 4))?;
    y.contiguous()?.reshape((n, queries, width))
}

pub(super) fn softmax(x: &Tensor) -> Result<Tensor> {
    let top = x.max_keepdim(D::Minus1)?.detach();
    let shares = binary::add(x, &top.neg()?)?.exp()?;
    shares.broadcast_div(&shares.sum_keepdim(D::Minus1)?)
}
