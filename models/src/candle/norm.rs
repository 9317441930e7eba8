//! RMSNorm and LayerNorm over the last axis.

use super::simd::{dot, madd, simd, sum};
use super::storage::{Floats, gradient, slice};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

/// `x / sqrt(mean(x²) + eps) · w` (Zhang & Sennrich 2019).
#[derive(Debug, Clone, Copy)]
pub(super) struct RmsNorm(pub(super) f32);

/// `(x − mean(x)) / sqrt(var(x) + eps) · w + b` (Ba et al. 2016).
#[derive(Debug, Clone, Copy)]
pub(super) struct LayerNorm(pub(super) f32);

fn check(layout: &Layout, weight: &[f32]) -> Result<()> {
    match layout.dims().last() {
        Some(&width) if width == weight.len() && width > 0 => Ok(()),
        _ => bail!("norm: expected a last axis of {}, got {:?}", weight.len(), layout.dims()),
    }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn cpu_fwd(&self, x: &CpuStorage, xl: &Layout, w: &CpuStorage, wl: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (slice(x, xl)?, slice(w, wl)?);
        check(xl, weight)?;
        let mut y = vec![0.0; x.len()];
        rms_forward(x, weight, self.0, &mut y);
        Ok((CpuStorage::F32(y), xl.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (x_values, weight, g) = (Floats::of(x)?, Floats::of(w)?, Floats::of(&grad)?);
        let (mut dx, mut dw) = (vec![0.0; x.elem_count()], vec![0.0; w.elem_count()]);
        rms_backward(x_values.slice(), weight.slice(), self.0, g.slice(), &mut dx, &mut dw);
        Ok((gradient(dx, x)?, gradient(dw, w)?))
    }
}

type Gradients = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight, bias) = (slice(x, xl)?, slice(w, wl)?, slice(b, bl)?);
        check(xl, weight)?;
        check(xl, bias)?;
        let mut y = vec![0.0; x.len()];
        layer_forward(x, weight, bias, self.0, &mut y);
        Ok((CpuStorage::F32(y), xl.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, b: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Gradients> {
        let grad = grad.contiguous()?;
        let (x_values, weight, g) = (Floats::of(x)?, Floats::of(w)?, Floats::of(&grad)?);
        let (mut dx, mut dw) = (vec![0.0; x.elem_count()], vec![0.0; w.elem_count()]);
        let mut db = vec![0.0; b.elem_count()];
        layer_backward(x_values.slice(), weight.slice(), self.0, g.slice(), &mut dx, &mut dw, &mut db);
        Ok((gradient(dx, x)?, gradient(dw, w)?, gradient(db, b)?))
    }
}

simd! { fn rms_forward(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) = rms_forward_body }

#[inline(always)]
fn rms_forward_body<const FMA: bool>(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) {
    let width = weight.len();
    for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
        let rate = 1.0 / (dot::<FMA>(x, x) / width as f32 + eps).sqrt();
        for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
            *y = x * rate * w;
        }
    }
}

simd! {
    fn rms_backward(x: &[f32], weight: &[f32], eps: f32, grad: &[f32], dx: &mut [f32], dw: &mut [f32])
        = rms_backward_body
}

#[inline(always)]
fn rms_backward_body<const FMA: bool>(
    x: &[f32],
    weight: &[f32],
    eps: f32,
    grad: &[f32],
    dx: &mut [f32],
    dw: &mut [f32],
) {
    let width = weight.len();
    let mut weighted = vec![0.0; width];
    for ((x, g), dx) in x.chunks_exact(width).zip(grad.chunks_exact(width)).zip(dx.chunks_exact_mut(width)) {
        let rate = 1.0 / (dot::<FMA>(x, x) / width as f32 + eps).sqrt();
        for ((weighted, g), w) in weighted.iter_mut().zip(g).zip(weight) {
            *weighted = g * w;
        }
        // d rate / d x = −rate³ · x / width.
        let pull = rate * rate * rate / width as f32 * dot::<FMA>(&weighted, x);
        for i in 0..width {
            dx[i] = madd::<FMA>(rate, weighted[i], -pull * x[i]);
            dw[i] = madd::<FMA>(g[i], x[i] * rate, dw[i]);
        }
    }
}

#[inline(always)]
fn moments<const FMA: bool>(x: &[f32], eps: f32, centred: &mut [f32]) -> f32 {
    let mean = sum(x) / x.len() as f32;
    for (centred, x) in centred.iter_mut().zip(x) {
        *centred = x - mean;
    }
    1.0 / (dot::<FMA>(centred, centred) / x.len() as f32 + eps).sqrt()
}

simd! { fn layer_forward(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, y: &mut [f32]) = layer_forward_body }

#[inline(always)]
fn layer_forward_body<const FMA: bool>(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, y: &mut [f32]) {
    let width = weight.len();
    for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
        let rate = moments::<FMA>(x, eps, y);
        for ((y, w), b) in y.iter_mut().zip(weight).zip(bias) {
            *y = madd::<FMA>(*y * rate, *w, *b);
        }
    }
}

simd! {
    fn layer_backward(
        x: &[f32], weight: &[f32], eps: f32, grad: &[f32], dx: &mut [f32], dw: &mut [f32], db: &mut [f32],
    ) = layer_backward_body
}

#[inline(always)]
fn layer_backward_body<const FMA: bool>(
    x: &[f32],
    weight: &[f32],
    eps: f32,
    grad: &[f32],
    dx: &mut [f32],
    dw: &mut [f32],
    db: &mut [f32],
) {
    let width = weight.len();
    let (mut normed, mut weighted) = (vec![0.0; width], vec![0.0; width]);
    for ((x, g), dx) in x.chunks_exact(width).zip(grad.chunks_exact(width)).zip(dx.chunks_exact_mut(width)) {
        let rate = moments::<FMA>(x, eps, &mut normed);
        for i in 0..width {
            normed[i] *= rate;
            weighted[i] = g[i] * weight[i];
            dw[i] = madd::<FMA>(g[i], normed[i], dw[i]);
            db[i] += g[i];
        }
        let mean = sum(&weighted) / width as f32;
        let pull = dot::<FMA>(&weighted, &normed) / width as f32;
        for i in 0..width {
            dx[i] = rate * (weighted[i] - mean - pull * normed[i]);
        }
    }
}
