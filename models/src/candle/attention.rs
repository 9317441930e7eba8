//! Scaled dot-product attention over interleaved heads, and rotary position.
//!
//! Heads are read in place as strided matrices, so nothing is permuted. Backward computes the probabilities again
//! instead of keeping them: they are the largest thing an attention makes.

use super::simd::{dot, exp, madd, max, simd, sum};
use super::storage::{Floats, gradient, slice, tensor};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Storage, Tensor, bail};

/// `softmax(q·kᵀ/√d + mask)·v` for each head; query head h reads key head `h / (heads / kv_heads)`.
#[derive(Debug, Clone)]
pub(super) struct Attention {
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    /// Additive `[N or 1, Lq, Lk]`, contiguous; it gets no gradient.
    pub(super) mask: Option<Tensor>,
}

/// Sizes of one call.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    batch: usize,
    queries: usize,
    keys: usize,
    head: usize,
    heads: usize,
    kv_heads: usize,
}

/// A CPU storage with the layout of one of its matrices.
type Matrix<'a> = (&'a CpuStorage, Layout);

impl Sizes {
    fn q_width(self) -> usize {
        self.heads * self.head
    }

    fn kv_width(self) -> usize {
        self.kv_heads * self.head
    }

    fn kv_head(self, head: usize) -> usize {
        head / (self.heads / self.kv_heads)
    }

    fn scale(self) -> f32 {
        1.0 / (self.head as f32).sqrt()
    }

    /// One head of `[N, Lq, heads·d]` as a strided `[Lq, d]`.
    fn q_layout(self, start: usize, n: usize, head: usize) -> Layout {
        let offset = start + n * self.queries * self.q_width() + head * self.head;
        Layout::new(Shape::from((self.queries, self.head)), vec![self.q_width(), 1], offset)
    }

    /// The keys' or values' head that query head `head` reads, as a strided `[Lk, d]`.
    fn kv_layout(self, start: usize, n: usize, head: usize) -> Layout {
        let offset = start + n * self.keys * self.kv_width() + self.kv_head(head) * self.head;
        Layout::new(Shape::from((self.keys, self.head)), vec![self.kv_width(), 1], offset)
    }
}

impl Attention {
    fn sizes(&self, q: &[usize], k: &[usize], v: &[usize]) -> Result<Sizes> {
        let (&[batch, queries, q_width], &[k_batch, keys, k_width]) = (q, k) else {
            bail!("attention: expected rows [N, L, D], got q {q:?}, k {k:?}");
        };
        let (heads, kv_heads) = (self.heads, self.kv_heads);
        let divides = kv_heads > 0 && heads % kv_heads == 0 && q_width % heads.max(1) == 0;
        if !divides || k_batch != batch || k_width * heads != q_width * kv_heads || v != k {
            bail!("attention with {heads} heads over {kv_heads}: q {q:?}, k {k:?} and v {v:?} do not fit");
        }
        if let Some(mask) = &self.mask {
            let fits = matches!(*mask.dims(), [n, l, m] if (n == 1 || n == batch) && l == queries && m == keys);
            if !fits {
                bail!("attention: expected mask [{batch} or 1, {queries}, {keys}], got {:?}", mask.dims());
            }
        }
        Ok(Sizes { batch, queries, keys, head: q_width / heads, heads, kv_heads })
    }

    /// The probabilities `[Lq, Lk]` of one head.
    fn probabilities(&self, s: Sizes, q: &Matrix<'_>, k: &Matrix<'_>, mask: Option<&[f32]>) -> Result<Vec<f32>> {
        let transposed = k.1.transpose(0, 1)?;
        let scores = q.0.matmul(k.0, (1, s.queries, s.keys, s.head), &q.1, &transposed)?;
        let mut scores = values(scores)?;
        softmax_rows(&mut scores, s.keys, s.scale(), mask);
        Ok(scores)
    }

    fn mask_of(s: Sizes, mask: Option<&[f32]>, n: usize) -> Option<&[f32]> {
        let size = s.queries * s.keys;
        mask.map(|mask| if mask.len() == size { mask } else { &mask[n * size..][..size] })
    }
}

type Gradients = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        ql: &Layout,
        k: &CpuStorage,
        kl: &Layout,
        v: &CpuStorage,
        vl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let s = self.sizes(ql.dims(), kl.dims(), vl.dims())?;
        if !ql.is_contiguous() || !kl.is_contiguous() || !vl.is_contiguous() {
            bail!("attention: expected contiguous q, k, v, got {ql:?}, {kl:?}, {vl:?}");
        }
        let mask = self.mask.as_ref().map(Floats::of).transpose()?;
        let mask = mask.as_ref().map(Floats::slice);
        let mut y = vec![0.0; ql.shape().elem_count()];
        for n in 0..s.batch {
            for head in 0..s.heads {
                let q = (q, s.q_layout(ql.start_offset(), n, head));
                let k = (k, s.kv_layout(kl.start_offset(), n, head));
                let p = self.probabilities(s, &q, &k, Self::mask_of(s, mask, n))?;
                let v_layout = s.kv_layout(vl.start_offset(), n, head);
                let mixed = product(p, v, &v_layout, (s.queries, s.head, s.keys))?;
                let start = n * s.queries * s.q_width() + head * s.head;
                scatter(&mixed, &mut y[start..], s.head, s.q_width());
            }
        }
        Ok((CpuStorage::F32(y), ql.shape().clone()))
    }

    fn bwd(&self, q: &Tensor, k: &Tensor, v: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Gradients> {
        let s = self.sizes(q.dims(), k.dims(), v.dims())?;
        let grad = grad.contiguous()?;
        let mask = self.mask.as_ref().map(Floats::of).transpose()?;
        let mask = mask.as_ref().map(Floats::slice);
        let (qs, ql) = q.storage_and_layout();
        let (ks, kl) = k.storage_and_layout();
        let (vs, vl) = v.storage_and_layout();
        let (gs, gl) = grad.storage_and_layout();
        let (Storage::Cpu(qs), Storage::Cpu(ks), Storage::Cpu(vs), Storage::Cpu(gs)) = (&*qs, &*ks, &*vs, &*gs) else {
            bail!("attention: expected tensors in CPU memory, got {:?}", q.device());
        };
        let (mut dq, mut dk) = (vec![0.0; q.elem_count()], vec![0.0; k.elem_count()]);
        let mut dv = vec![0.0; v.elem_count()];
        for n in 0..s.batch {
            for head in 0..s.heads {
                let q = (qs, s.q_layout(ql.start_offset(), n, head));
                let k = (ks, s.kv_layout(kl.start_offset(), n, head));
                let v_transposed = s.kv_layout(vl.start_offset(), n, head).transpose(0, 1)?;
                let g = (gs, s.q_layout(gl.start_offset(), n, head));
                let q_start = n * s.queries * s.q_width() + head * s.head;
                let kv_start = n * s.keys * s.kv_width() + s.kv_head(head) * s.head;

                let p = self.probabilities(s, &q, &k, Self::mask_of(s, mask, n))?;
                let mut ds = values(g.0.matmul(vs, (1, s.queries, s.keys, s.head), &g.1, &v_transposed)?)?;
                softmax_backward(&p, &mut ds, s.keys, s.scale());
                let across = Layout::contiguous((s.queries, s.keys)).transpose(0, 1)?;
                let p = CpuStorage::F32(p);
                let mixed = values(p.matmul(g.0, (1, s.keys, s.head, s.queries), &across, &g.1)?)?;
                // Several query heads share a key head: their gradients add up.
                scatter(&mixed, &mut dv[kv_start..], s.head, s.kv_width());
                let ds = CpuStorage::F32(ds);
                let mixed = values(ds.matmul(q.0, (1, s.keys, s.head, s.queries), &across, &q.1)?)?;
                scatter(&mixed, &mut dk[kv_start..], s.head, s.kv_width());
                let along = Layout::contiguous((s.queries, s.keys));
                let mixed = values(ds.matmul(k.0, (1, s.queries, s.head, s.keys), &along, &k.1)?)?;
                scatter(&mixed, &mut dq[q_start..], s.head, s.q_width());
            }
        }
        Ok((gradient(dq, q)?, gradient(dk, k)?, gradient(dv, v)?))
    }
}

fn values(storage: CpuStorage) -> Result<Vec<f32>> {
    match storage {
        CpuStorage::F32(values) => Ok(values),
        other => bail!("expected f32, got {:?}", other.dtype()),
    }
}

/// Contiguous `[m, k]` times the matrix of `right`.
fn product(left: Vec<f32>, right: &CpuStorage, layout: &Layout, (m, n, k): (usize, usize, usize)) -> Result<Vec<f32>> {
    values(CpuStorage::F32(left).matmul(right, (1, m, n, k), &Layout::contiguous((m, k)), layout)?)
}

/// Adds rows of `width` values into rows that are `stride` apart.
fn scatter(rows: &[f32], into: &mut [f32], width: usize, stride: usize) {
    for (row, into) in rows.chunks_exact(width).zip(into.chunks_mut(stride)) {
        for (into, value) in into.iter_mut().zip(row) {
            *into += value;
        }
    }
}

simd! {
    /// `softmax(scale · row + mask row)` of each row of `width` values, in place.
    fn softmax_rows(values: &mut [f32], width: usize, scale: f32, mask: Option<&[f32]>) = softmax_rows_body
}

#[inline(always)]
fn softmax_rows_body<const FMA: bool>(values: &mut [f32], width: usize, scale: f32, mask: Option<&[f32]>) {
    for (i, row) in values.chunks_exact_mut(width).enumerate() {
        match mask {
            Some(mask) => {
                for (value, mask) in row.iter_mut().zip(&mask[i * width..][..width]) {
                    *value = madd::<FMA>(*value, scale, *mask);
                }
            }
            None => row.iter_mut().for_each(|value| *value *= scale),
        }
        let top = max(row);
        row.iter_mut().for_each(|value| {
            let below = *value - top;
            *value = if below < NEGLIGIBLE { 0.0 } else { exp::<FMA>(below) };
        });
        let rate = 1.0 / sum(row);
        row.iter_mut().for_each(|value| *value *= rate);
    }
}

/// What is so far below the greatest score gets no weight at all. It would change no sum, but forbidden pairs would
/// become denormal numbers, on which the products that follow run ten times slower.
const NEGLIGIBLE: f32 = -40.0;

simd! {
    /// From the gradient of the probabilities to that of the unscaled scores, in place.
    fn softmax_backward(p: &[f32], grad: &mut [f32], width: usize, scale: f32) = softmax_backward_body
}

#[inline(always)]
fn softmax_backward_body<const FMA: bool>(p: &[f32], grad: &mut [f32], width: usize, scale: f32) {
    for (p, grad) in p.chunks_exact(width).zip(grad.chunks_exact_mut(width)) {
        let mean = dot::<FMA>(p, grad);
        for (grad, p) in grad.iter_mut().zip(p) {
            *grad = scale * p * (*grad - mean);
        }
    }
}

/// Rotary position in Llama's half-split form; `cos`, `sin` `[N or 1, L, d/2]` get no gradient.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rope {
    pub(super) heads: usize,
}

impl Rope {
    /// Rotates by the angle, or backwards with `turn` −1.
    fn rotate(self, dims: &[usize], x: &[f32], cos: &[f32], sin: &[f32], turn: f32) -> Result<Vec<f32>> {
        let &[batch, length, width] = dims else { bail!("rope: expected rows [N, L, D], got {dims:?}") };
        let head = width / self.heads.max(1);
        let half = head / 2;
        let table = length * half;
        if half * 2 * self.heads != width
            || cos.len() != sin.len()
            || (cos.len() != table && cos.len() != batch * table)
        {
            bail!("rope: {dims:?} with {} heads needs {table} angles, got {} and {}", self.heads, cos.len(), sin.len());
        }
        let mut y = vec![0.0; x.len()];
        let rows = x.chunks_exact(width.max(1)).zip(y.chunks_exact_mut(width.max(1)));
        for (row, (x, y)) in rows.enumerate() {
            let at = row * half % cos.len().max(1);
            let (cos, sin) = (&cos[at..at + half], &sin[at..at + half]);
            for (x, y) in x.chunks_exact(head).zip(y.chunks_exact_mut(head)) {
                let ((x0, x1), (y0, y1)) = (x.split_at(half), y.split_at_mut(half));
                for i in 0..half {
                    let sin = turn * sin[i];
                    y0[i] = x0[i] * cos[i] - x1[i] * sin;
                    y1[i] = x1[i] * cos[i] + x0[i] * sin;
                }
            }
        }
        Ok(y)
    }
}

impl CustomOp3 for Rope {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        cos: &CpuStorage,
        cl: &Layout,
        sin: &CpuStorage,
        sl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let y = self.rotate(xl.dims(), slice(x, xl)?, slice(cos, cl)?, slice(sin, sl)?, 1.0)?;
        Ok((CpuStorage::F32(y), xl.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, cos: &Tensor, sin: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Gradients> {
        let grad = grad.contiguous()?;
        let (g, cos, sin) = (Floats::of(&grad)?, Floats::of(cos)?, Floats::of(sin)?);
        let dx = self.rotate(x.dims(), g.slice(), cos.slice(), sin.slice(), -1.0)?;
        Ok((Some(tensor(dx, x)?), None, None))
    }
}
