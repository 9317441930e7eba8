//! Depthwise convolution of channel-last maps, with bias and activation in the same pass.
//!
//! Forward and the input's gradient are one loop with transposed tables of taps. Channels are innermost and are
//! taken in blocks whose sums stay in registers.

use super::activation::{finish, unfinish};
use super::simd::{madd, simd};
use super::spatial::{Same, Taps, map_dims};
use super::storage::{Floats, slice, tensor};
use crate::ops::Conv;
use candle_core::{CpuStorage, CustomOp3, Device, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Parts of the weight gradient summed apart: fixed, so that the order of additions does not depend on the threads.
const PARTS: usize = 4;

/// `act(x ⊛ W + b)`: `x` a map, `W [k, k, C]`, `b [C]`; the activation is one that fuses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Depthwise(pub(super) Conv);

type Gradients = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

impl CustomOp3 for Depthwise {
    fn name(&self) -> &'static str {
        "depthwise"
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
        let Conv { kernel, stride, act } = self.0;
        let [n, height, width, channels] = map_dims(xl.dims())?;
        let (x, weight, bias) = (slice(x, xl)?, slice(w, wl)?, slice(b, bl)?);
        if weight.len() != kernel * kernel * channels || bias.len() != channels {
            bail!("depthwise: expected weight [{kernel}, {kernel}, {channels}] and its bias, got {wl:?}, {bl:?}");
        }
        let rows = Taps::forward(height, kernel, stride);
        let columns = Taps::forward(width, kernel, stride);
        let mut y = vec![0.0; n * rows.len() * columns.len() * channels];
        let job = Correlation { source: x, height, width, channels, weight, kernel, rows: &rows, columns: &columns };
        // Bias and activation are applied while the line is in the cache.
        job.run(&mut y, |line| finish(line, Some(bias), channels, act));
        Ok((CpuStorage::F32(y), Shape::from((n, rows.len(), columns.len(), channels))))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, b: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Gradients> {
        let Conv { kernel, stride, act } = self.0;
        let [n, height, width, channels] = map_dims(x.dims())?;
        let [_, out_height, out_width, _] = map_dims(y.dims())?;
        let grad = grad.contiguous()?;
        let (y, g) = (Floats::of(y)?, Floats::of(&grad)?);
        let (before, db) = unfinish(y.slice(), g.slice(), channels, act, b.track_op());

        let weight = Floats::of(w)?;
        let dx = if x.track_op() {
            let rows = Taps::backward(height, kernel, stride);
            let columns = Taps::backward(width, kernel, stride);
            let mut dx = vec![0.0; x.elem_count()];
            let job = Correlation {
                source: &before,
                height: out_height,
                width: out_width,
                channels,
                weight: weight.slice(),
                kernel,
                rows: &rows,
                columns: &columns,
            };
            job.run(&mut dx, |_| {});
            Some(tensor(dx, x)?)
        } else {
            None
        };
        let dw = if w.track_op() {
            let values = Floats::of(x)?;
            let job = WeightGradient {
                x: values.slice(),
                grad: &before,
                height,
                width,
                out_width,
                channels,
                stride,
                before: Same::new(width, kernel, stride).before,
                rows: &Taps::forward(height, kernel, stride),
            };
            Some(tensor(job.run(kernel, n * out_height)?, w)?)
        } else {
            None
        };
        let db = db.map(|values| Tensor::from_vec(values, channels, &Device::Cpu)).transpose()?;
        Ok((dx, dw, db))
    }
}

/// `out[y, x] = Σ source[sy, sx] · weight[ky, kx]` over the taps of y and x.
struct Correlation<'a> {
    source: &'a [f32],
    height: usize,
    width: usize,
    channels: usize,
    weight: &'a [f32],
    kernel: usize,
    rows: &'a Taps,
    columns: &'a Taps,
}

impl Correlation<'_> {
    fn run(&self, out: &mut [f32], after: impl Fn(&mut [f32]) + Sync) {
        let line = (self.columns.len() * self.channels).max(1);
        let image = self.height * self.width * self.channels;
        out.par_chunks_mut(line).enumerate().for_each(|(i, out)| {
            let source = &self.source[i / self.rows.len() * image..][..image];
            correlate_line(self, source, self.rows.at(i % self.rows.len()), out);
            after(out);
        });
    }
}

simd! {
    /// One line of a [`Correlation`].
    fn correlate_line(job: &Correlation<'_>, source: &[f32], rows: &[(usize, usize)], out: &mut [f32])
        = correlate_line_body
}

#[inline(always)]
fn correlate_line_body<const FMA: bool>(
    job: &Correlation<'_>,
    source: &[f32],
    rows: &[(usize, usize)],
    out: &mut [f32],
) {
    for (column, out) in out.chunks_exact_mut(job.channels).enumerate() {
        let columns = job.columns.at(column);
        let mut c = 0;
        while c + 64 <= out.len() {
            correlate_block::<FMA, 64>(job, source, rows, columns, c, out);
            c += 64;
        }
        while c + 16 <= out.len() {
            correlate_block::<FMA, 16>(job, source, rows, columns, c, out);
            c += 16;
        }
        while c + 8 <= out.len() {
            correlate_block::<FMA, 8>(job, source, rows, columns, c, out);
            c += 8;
        }
        while c < out.len() {
            correlate_block::<FMA, 1>(job, source, rows, columns, c, out);
            c += 1;
        }
    }
}

#[inline(always)]
fn correlate_block<const FMA: bool, const B: usize>(
    job: &Correlation<'_>,
    source: &[f32],
    rows: &[(usize, usize)],
    columns: &[(usize, usize)],
    c: usize,
    out: &mut [f32],
) {
    let mut sums = [0.0f32; B];
    for &(ky, sy) in rows {
        for &(kx, sx) in columns {
            let s = &source[(sy * job.width + sx) * job.channels + c..][..B];
            let w = &job.weight[(ky * job.kernel + kx) * job.channels + c..][..B];
            for i in 0..B {
                sums[i] = madd::<FMA>(s[i], w[i], sums[i]);
            }
        }
    }
    out[c..c + B].copy_from_slice(&sums);
}

/// `dW[ky, kx] = Σ grad[oy, ox] · x[iy, ix]`.
struct WeightGradient<'a> {
    x: &'a [f32],
    grad: &'a [f32],
    height: usize,
    width: usize,
    out_width: usize,
    channels: usize,
    stride: usize,
    /// Padding before the first column.
    before: usize,
    rows: &'a Taps,
}

impl WeightGradient<'_> {
    /// Over `lines` lines of the output, all images together.
    fn run(&self, kernel: usize, lines: usize) -> Result<Vec<f32>> {
        let over: fn(&Self, std::ops::Range<usize>, &mut [f32]) = match kernel {
            1 => Self::over_lines::<1>,
            3 => Self::over_lines::<3>,
            5 => Self::over_lines::<5>,
            7 => Self::over_lines::<7>,
            _ => bail!("depthwise: expected kernel 1, 3, 5 or 7, got {kernel}"),
        };
        let size = kernel * kernel * self.channels;
        let part = lines.div_ceil(PARTS).max(1);
        let parts: Vec<Vec<f32>> = (0..lines.div_ceil(part))
            .into_par_iter()
            .map(|i| {
                let mut sums = vec![0.0; size];
                over(self, i * part..((i + 1) * part).min(lines), &mut sums);
                sums
            })
            .collect();
        let mut total = vec![0.0; size];
        for sums in &parts {
            for (total, sum) in total.iter_mut().zip(sums) {
                *total += sum;
            }
        }
        Ok(total)
    }

    fn over_lines<const K: usize>(&self, lines: std::ops::Range<usize>, sums: &mut [f32]) {
        let (image, line) = (self.height * self.width * self.channels, self.width * self.channels);
        let out_line = self.out_width * self.channels;
        for i in lines {
            let grad = &self.grad[i * out_line..][..out_line];
            for &(ky, iy) in self.rows.at(i % self.rows.len()) {
                let x = &self.x[i / self.rows.len() * image + iy * line..][..line];
                let sums = &mut sums[ky * K * self.channels..][..K * self.channels];
                match K {
                    1 => gradient_line_1(self, x, grad, sums),
                    3 => gradient_line_3(self, x, grad, sums),
                    5 => gradient_line_5(self, x, grad, sums),
                    _ => gradient_line_7(self, x, grad, sums),
                }
            }
        }
    }
}

simd! { fn gradient_line_1(job: &WeightGradient<'_>, x: &[f32], grad: &[f32], sums: &mut [f32]) = gradient_line_k1 }
simd! { fn gradient_line_3(job: &WeightGradient<'_>, x: &[f32], grad: &[f32], sums: &mut [f32]) = gradient_line_k3 }
simd! { fn gradient_line_5(job: &WeightGradient<'_>, x: &[f32], grad: &[f32], sums: &mut [f32]) = gradient_line_k5 }
simd! { fn gradient_line_7(job: &WeightGradient<'_>, x: &[f32], grad: &[f32], sums: &mut [f32]) = gradient_line_k7 }

macro_rules! gradient_line {
    ($name:ident, $kernel:literal) => {
        #[inline(always)]
        fn $name<const FMA: bool>(job: &WeightGradient<'_>, x: &[f32], grad: &[f32], sums: &mut [f32]) {
            gradient_line_body::<FMA, $kernel>(job, x, grad, sums);
        }
    };
}
gradient_line!(gradient_line_k1, 1);
gradient_line!(gradient_line_k3, 3);
gradient_line!(gradient_line_k5, 5);
gradient_line!(gradient_line_k7, 7);

#[inline(always)]
fn gradient_line_body<const FMA: bool, const K: usize>(
    job: &WeightGradient<'_>,
    x: &[f32],
    grad: &[f32],
    sums: &mut [f32],
) {
    let mut c = 0;
    while c + 32 <= job.channels {
        gradient_block::<FMA, K, 32>(job, x, grad, c, sums);
        c += 32;
    }
    while c + 8 <= job.channels {
        gradient_block::<FMA, K, 8>(job, x, grad, c, sums);
        c += 8;
    }
    while c < job.channels {
        gradient_block::<FMA, K, 1>(job, x, grad, c, sums);
        c += 1;
    }
}

#[inline(always)]
fn gradient_block<const FMA: bool, const K: usize, const B: usize>(
    job: &WeightGradient<'_>,
    x: &[f32],
    grad: &[f32],
    c: usize,
    sums: &mut [f32],
) {
    let mut acc = [[0.0f32; B]; K];
    for ox in 0..job.out_width {
        let g = &grad[ox * job.channels + c..][..B];
        for (kx, acc) in acc.iter_mut().enumerate() {
            // Below zero it wraps and is past the width as well.
            let ix = (ox * job.stride + kx).wrapping_sub(job.before);
            if ix < job.width {
                let x = &x[ix * job.channels + c..][..B];
                for i in 0..B {
                    acc[i] = madd::<FMA>(g[i], x[i], acc[i]);
                }
            }
        }
    }
    for (kx, acc) in acc.iter().enumerate() {
        for (sum, acc) in sums[kx * job.channels + c..][..B].iter_mut().zip(acc) {
            *sum += acc;
        }
    }
}
