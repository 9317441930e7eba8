//! Affine maps over the last axis with bias and activation in the same operation.

use super::activation::{finish, unfinish};
use super::storage::{Floats, slice};
use crate::ops::Act;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Device, Layout, Result, Shape, Tensor, bail};

/// `act(x · Wᵀ + b)`, `x [.., in]`, `W [out, ..]` whose further axes multiply to `in`; `act` is one that fuses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Linear(pub(super) Act);

impl Linear {
    fn forward(
        self,
        x: (&CpuStorage, &Layout),
        weight: (&CpuStorage, &Layout),
        bias: Option<&[f32]>,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, inner) = flat(x.1.dims());
        let out = weight.1.dims().first().copied().unwrap_or(0);
        let elements = weight.1.shape().elem_count();
        if !x.1.is_contiguous() || !weight.1.is_contiguous() || elements != out * inner {
            bail!("linear: expected a contiguous weight [out, {inner}], got {:?} for {:?}", weight.1, x.1);
        }
        let left = Layout::contiguous_with_offset((rows, inner), x.1.start_offset());
        let right = Layout::contiguous_with_offset((out, inner), weight.1.start_offset()).transpose(0, 1)?;
        let mut y = x.0.matmul(weight.0, (1, rows, out, inner), &left, &right)?;
        if let CpuStorage::F32(y) = &mut y {
            finish(y, bias, out, self.0);
        }
        let mut dims = x.1.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = out;
        }
        Ok((y, Shape::from(dims)))
    }

    fn backward(self, x: &Tensor, weight: &Tensor, bias: bool, y: &Tensor, grad: &Tensor) -> Result<Gradients> {
        let (rows, inner) = flat(x.dims());
        let (_, out) = flat(y.dims());
        let grad = grad.contiguous()?;
        let (before, bias) = {
            let (y, g) = (Floats::of(y)?, Floats::of(&grad)?);
            let (before, bias) = unfinish(y.slice(), g.slice(), out, self.0, bias);
            let before = match before {
                std::borrow::Cow::Owned(values) => Some(values),
                std::borrow::Cow::Borrowed(_) => None,
            };
            (before, bias)
        };
        let before = match before {
            Some(values) => Tensor::from_vec(values, (rows, out), &Device::Cpu)?,
            None => grad.reshape((rows, out))?,
        };
        let dx = match x.track_op() {
            true => Some(before.matmul(&weight.detach().reshape((out, inner))?)?.reshape(x.shape())?),
            false => None,
        };
        let dw = match weight.track_op() {
            true => Some(before.t()?.matmul(&x.detach().reshape((rows, inner))?)?.reshape(weight.shape())?),
            false => None,
        };
        let db = bias.map(|values| Tensor::from_vec(values, out, &Device::Cpu)).transpose()?;
        Ok((dx, dw, db))
    }
}

type Gradients = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

/// Rows and length of the last axis.
fn flat(dims: &[usize]) -> (usize, usize) {
    match dims.split_last() {
        Some((&inner, rows)) => (rows.iter().product(), inner),
        None => (1, 1),
    }
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, xl: &Layout, w: &CpuStorage, wl: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward((x, xl), (w, wl), None)
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, y: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dx, dw, _) = self.backward(x, w, false, y, grad)?;
        Ok((dx, dw))
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear with bias"
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
        self.forward((x, xl), (w, wl), Some(slice(b, bl)?))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, b: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Gradients> {
        self.backward(x, w, b.track_op(), y, grad)
    }
}
