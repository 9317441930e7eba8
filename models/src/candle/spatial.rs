//! Operations that move pixels: padding arithmetic, patches of a dense convolution, nearest upsampling, repetition.

use super::storage::{Floats, slice, tensor};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// TensorFlow's SAME padding of one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Same {
    /// Output length.
    pub(super) out: usize,
    /// Zeros before the first input value.
    pub(super) before: usize,
}

impl Same {
    pub(super) fn new(input: usize, kernel: usize, stride: usize) -> Self {
        let out = input.div_ceil(stride);
        let total = ((out.max(1) - 1) * stride + kernel).saturating_sub(input);
        Self { out, before: total / 2 }
    }
}

/// For each position of one axis, the kernel taps that reach a value, and the value's position.
#[derive(Debug)]
pub(super) struct Taps {
    ends: Vec<usize>,
    pairs: Vec<(usize, usize)>,
}

impl Taps {
    /// Output position → (tap, input position).
    pub(super) fn forward(input: usize, kernel: usize, stride: usize) -> Self {
        let same = Same::new(input, kernel, stride);
        Self::collect(same.out, kernel, |o, tap| (o * stride + tap).checked_sub(same.before).filter(|&i| i < input))
    }

    /// Input position → (tap, output position): the transpose of [`Taps::forward`].
    pub(super) fn backward(input: usize, kernel: usize, stride: usize) -> Self {
        let same = Same::new(input, kernel, stride);
        Self::collect(input, kernel, |i, tap| {
            let reach = (i + same.before).checked_sub(tap)?;
            (reach % stride == 0 && reach / stride < same.out).then_some(reach / stride)
        })
    }

    fn collect(length: usize, kernel: usize, source: impl Fn(usize, usize) -> Option<usize>) -> Self {
        let mut taps = Self { ends: Vec::with_capacity(length), pairs: Vec::with_capacity(length * kernel) };
        for position in 0..length {
            taps.pairs.extend((0..kernel).filter_map(|tap| source(position, tap).map(|s| (tap, s))));
            taps.ends.push(taps.pairs.len());
        }
        taps
    }

    /// Positions.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The (tap, source) pairs of one position.
    #[inline(always)]
    pub(super) fn at(&self, position: usize) -> &[(usize, usize)] {
        let start = if position == 0 { 0 } else { self.ends[position - 1] };
        &self.pairs[start..self.ends[position]]
    }
}

/// `[N, H, W, C]` of a map.
pub(super) fn map_dims(dims: &[usize]) -> Result<[usize; 4]> {
    match <[usize; 4]>::try_from(dims) {
        Ok(dims) => Ok(dims),
        Err(_) => bail!("expected a map [N, H, W, C], got {dims:?}"),
    }
}

/// The patch under the kernel for each output pixel: map to `[N, OH, OW, kernel²·C]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patches {
    pub(super) kernel: usize,
    pub(super) stride: usize,
}

impl CustomOp1 for Patches {
    fn name(&self) -> &'static str {
        "patches"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(storage, layout)?;
        let [n, h, w, c] = map_dims(layout.dims())?;
        let rows = Taps::forward(h, self.kernel, self.stride);
        let columns = Taps::forward(w, self.kernel, self.stride);
        let patch = self.kernel * self.kernel * c;
        let mut y = vec![0.0; n * rows.len() * columns.len() * patch];
        y.par_chunks_mut((columns.len() * patch).max(1)).enumerate().for_each(|(line, y)| {
            let image = &x[line / rows.len() * h * w * c..][..h * w * c];
            for (column, y) in y.chunks_exact_mut(patch).enumerate() {
                for &(ky, iy) in rows.at(line % rows.len()) {
                    for &(kx, ix) in columns.at(column) {
                        y[(ky * self.kernel + kx) * c..][..c].copy_from_slice(&image[(iy * w + ix) * c..][..c]);
                    }
                }
            }
        });
        Ok((CpuStorage::F32(y), Shape::from((n, rows.len(), columns.len(), patch))))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let g = Floats::of(&grad)?;
        let g = g.slice();
        let [_, h, w, c] = map_dims(x.dims())?;
        let [_, oh, ow, patch] = map_dims(grad.dims())?;
        let rows = Taps::backward(h, self.kernel, self.stride);
        let columns = Taps::backward(w, self.kernel, self.stride);
        let mut dx = vec![0.0; x.elem_count()];
        dx.par_chunks_mut((w * c).max(1)).enumerate().for_each(|(line, dx)| {
            let image = &g[line / h * oh * ow * patch..][..oh * ow * patch];
            for (column, dx) in dx.chunks_exact_mut(c).enumerate() {
                for &(ky, oy) in rows.at(line % h) {
                    for &(kx, ox) in columns.at(column) {
                        let from = (oy * ow + ox) * patch + (ky * self.kernel + kx) * c;
                        add(dx, &image[from..from + c]);
                    }
                }
            }
        });
        Ok(Some(tensor(dx, x)?))
    }
}

/// Repeats every pixel `factor` × `factor` times.
#[derive(Debug, Clone, Copy)]
pub(super) struct Upsample(pub(super) usize);

impl CustomOp1 for Upsample {
    fn name(&self) -> &'static str {
        "upsample_nearest"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(storage, layout)?;
        let [n, h, w, c] = map_dims(layout.dims())?;
        let (factor, line) = (self.0, w * self.0 * c);
        let mut y = vec![0.0; n * h * factor * line];
        y.par_chunks_mut((factor * line).max(1)).zip(x.par_chunks((w * c).max(1))).for_each(|(y, x)| {
            let (first, rest) = y.split_at_mut(line);
            for (y, x) in first.chunks_exact_mut(factor * c).zip(x.chunks_exact(c)) {
                y.chunks_exact_mut(c).for_each(|y| y.copy_from_slice(x));
            }
            rest.chunks_exact_mut(line).for_each(|y| y.copy_from_slice(first));
        });
        Ok((CpuStorage::F32(y), Shape::from((n, h * factor, w * factor, c))))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let g = Floats::of(&grad)?;
        let [_, _, w, c] = map_dims(x.dims())?;
        let (factor, line) = (self.0, w * self.0 * c);
        let mut dx = vec![0.0; x.elem_count()];
        dx.par_chunks_mut((w * c).max(1)).zip(g.slice().par_chunks((factor * line).max(1))).for_each(|(dx, g)| {
            for g in g.chunks_exact(line) {
                for (dx, g) in dx.chunks_exact_mut(c).zip(g.chunks_exact(factor * c)) {
                    g.chunks_exact(c).for_each(|g| add(dx, g));
                }
            }
        });
        Ok(Some(tensor(dx, x)?))
    }
}

/// Each batch entry so many times in a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Repeat(pub(super) usize);

impl CustomOp1 for Repeat {
    fn name(&self) -> &'static str {
        "repeat_batch"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(storage, layout)?;
        let mut dims = layout.dims().to_vec();
        let Some(batch) = dims.first_mut() else { bail!("repeat_batch: expected a batch axis, got a scalar") };
        let entry = (x.len() / (*batch).max(1)).max(1);
        *batch *= self.0;
        let mut y = Vec::with_capacity(x.len() * self.0);
        for entry in x.chunks_exact(entry) {
            for _ in 0..self.0 {
                y.extend_from_slice(entry);
            }
        }
        Ok((CpuStorage::F32(y), Shape::from(dims)))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let g = Floats::of(&grad)?;
        let entry = (x.elem_count() / x.dim(0)?.max(1)).max(1);
        let mut dx = vec![0.0; x.elem_count()];
        for (dx, g) in dx.chunks_exact_mut(entry).zip(g.slice().chunks_exact(entry * self.0)) {
            g.chunks_exact(entry).for_each(|g| add(dx, g));
        }
        Ok(Some(tensor(dx, x)?))
    }
}

fn add(into: &mut [f32], x: &[f32]) {
    for (into, x) in into.iter_mut().zip(x) {
        *into += x;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_tensorflows() {
        assert_eq!(Same::new(512, 3, 2), Same { out: 256, before: 0 });
        assert_eq!(Same::new(7, 3, 2), Same { out: 4, before: 1 });
        assert_eq!(Same::new(24, 5, 1), Same { out: 24, before: 2 });
        assert_eq!(Same::new(16, 5, 2), Same { out: 8, before: 1 });
    }

    #[test]
    fn backward_taps_are_the_transpose() {
        for (input, kernel, stride) in [(8, 3, 1), (8, 3, 2), (7, 5, 2), (2, 5, 1)] {
            let (forward, backward) = (Taps::forward(input, kernel, stride), Taps::backward(input, kernel, stride));
            let mut ahead: Vec<_> =
                (0..forward.len()).flat_map(|o| forward.at(o).iter().map(move |&(tap, i)| (o, tap, i))).collect();
            let mut back: Vec<_> =
                (0..backward.len()).flat_map(|i| backward.at(i).iter().map(move |&(tap, o)| (o, tap, i))).collect();
            ahead.sort_unstable();
            back.sort_unstable();
            assert_eq!(ahead, back, "input {input}, kernel {kernel}, stride {stride}");
        }
    }
}
