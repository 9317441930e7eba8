//! Sums and products of two tensors, of which a side that nothing trains gets no gradient.
//!
//! candle's own operations make a gradient for both sides as soon as one is tracked, and nobody takes it away again: a
//! frozen weight would cost its size and a product a second time, its bias the size of the whole result. So where one
//! side alone is tracked the operation is ours. Results are candle's to the last bit on every device: forward calls the
//! same kernel, backward the same operations, without those for the other side.

use candle_core::backend::BackendStorage;
use candle_core::op;
use candle_core::{CpuStorage, CudaStorage, CustomOp2, Layout, MetalStorage, Result, Shape, Tensor, bail};

/// `a + b`, broadcast to a common shape.
pub(super) fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if !one_sided(a, b) {
        return a.broadcast_add(b);
    }
    let (a, b) = broadcast(a, b)?;
    a.apply_op2(&b, Pair::Sum)
}

/// `a ⊙ b`, broadcast to a common shape.
pub(super) fn mul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if !one_sided(a, b) {
        return a.broadcast_mul(b);
    }
    let (a, b) = broadcast(a, b)?;
    a.apply_op2(&b, Pair::Product)
}

/// `a · b` of matrices `[.., m, k]` and `[.., k, n]` with the same leading axes.
pub(super) fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    match one_sided(a, b) {
        true => a.apply_op2(b, Pair::Matrices),
        false => a.matmul(b),
    }
}

/// Whether candle would make a gradient that nobody asked for. What is empty is candle's: kernels refuse it.
fn one_sided(a: &Tensor, b: &Tensor) -> bool {
    a.track_op() != b.track_op() && a.elem_count() > 0 && b.elem_count() > 0
}

fn broadcast(a: &Tensor, b: &Tensor) -> Result<(Tensor, Tensor)> {
    let shape = a.shape().broadcast_shape_binary_op(b.shape(), "broadcast")?;
    let wide = |x: &Tensor| match *x.shape() == shape {
        true => Ok(x.clone()),
        false => x.broadcast_as(&shape),
    };
    Ok((wide(a)?, wide(b)?))
}

/// An operation of two sides; the entrywise ones have sides of the same shape.
#[derive(Debug, Clone, Copy)]
enum Pair {
    Sum,
    Product,
    Matrices,
}

impl Pair {
    fn forward<S: BackendStorage>(self, a: (&S, &Layout), b: (&S, &Layout)) -> Result<(S, Shape)> {
        match self {
            Self::Sum => entrywise::<S, op::Add>(a, b),
            Self::Product => entrywise::<S, op::Mul>(a, b),
            Self::Matrices => product(a, b),
        }
    }

    /// The left side's gradient.
    fn left(self, right: &Tensor, grad: &Tensor) -> Result<Tensor> {
        match self {
            Self::Sum => Ok(grad.clone()),
            Self::Product => grad.mul(right),
            Self::Matrices => grad.matmul(&right.t()?),
        }
    }

    /// The right side's gradient.
    fn right(self, left: &Tensor, grad: &Tensor) -> Result<Tensor> {
        match self {
            Self::Sum => Ok(grad.clone()),
            Self::Product => grad.mul(left),
            Self::Matrices => left.t()?.matmul(grad),
        }
    }
}

fn entrywise<S: BackendStorage, O: op::BinaryOpT>(
    (a, al): (&S, &Layout),
    (b, bl): (&S, &Layout),
) -> Result<(S, Shape)> {
    if al.shape() != bl.shape() {
        bail!("{}: expected sides of the same shape, got {al:?} and {bl:?}", O::NAME);
    }
    Ok((a.binary_impl::<O>(b, al, bl)?, al.shape().clone()))
}

fn product<S: BackendStorage>((a, al): (&S, &Layout), (b, bl): (&S, &Layout)) -> Result<(S, Shape)> {
    let ([batch @ .., m, k], [others @ .., inner, n]) = (al.dims(), bl.dims()) else {
        bail!("matmul: expected matrices, got {al:?} and {bl:?}");
    };
    if batch != others || k != inner {
        bail!("matmul: expected [.., m, k] and [.., k, n] with the same leading axes, got {al:?} and {bl:?}");
    }
    let y = a.matmul(b, (batch.iter().product(), *m, *n, *k), al, bl)?;
    let mut dims = batch.to_vec();
    dims.extend([*m, *n]);
    Ok((y, Shape::from(dims)))
}

impl CustomOp2 for Pair {
    fn name(&self) -> &'static str {
        match self {
            Self::Sum => "one-sided sum",
            Self::Product => "one-sided product",
            Self::Matrices => "one-sided product of matrices",
        }
    }

    fn cpu_fwd(&self, a: &CpuStorage, al: &Layout, b: &CpuStorage, bl: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward((a, al), (b, bl))
    }

    fn cuda_fwd(&self, a: &CudaStorage, al: &Layout, b: &CudaStorage, bl: &Layout) -> Result<(CudaStorage, Shape)> {
        self.forward((a, al), (b, bl))
    }

    fn metal_fwd(&self, a: &MetalStorage, al: &Layout, b: &MetalStorage, bl: &Layout) -> Result<(MetalStorage, Shape)> {
        self.forward((a, al), (b, bl))
    }

    fn bwd(&self, a: &Tensor, b: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let left = a.track_op().then(|| self.left(b, grad)).transpose()?;
        let right = b.track_op().then(|| self.right(a, grad)).transpose()?;
        Ok((left, right))
    }
}
