//! Reading candle's CPU memory as slices.

use candle_core::{CpuStorage, Device, Layout, Result, Storage, StorageRef, Tensor, bail};
use std::ops::Range;

/// The `f32` values of a contiguous CPU storage.
pub(super) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let values = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&values[start..end]),
        None => bail!("expected a contiguous tensor, got {layout:?}"),
    }
}

/// A contiguous `f32` tensor in CPU memory, locked for reading.
pub(super) struct Floats<'a> {
    guard: StorageRef<'a>,
    range: Range<usize>,
}

impl<'a> Floats<'a> {
    /// Locks `tensor`; an error if it is not contiguous, not `f32` or not in CPU memory.
    pub(super) fn of(tensor: &'a Tensor) -> Result<Self> {
        let (guard, layout) = tensor.storage_and_layout();
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("expected a contiguous tensor, got {layout:?}");
        };
        if !matches!(&*guard, Storage::Cpu(CpuStorage::F32(_))) {
            bail!("expected f32 values in CPU memory, got {:?} on {:?}", tensor.dtype(), tensor.device());
        }
        Ok(Self { guard, range: start..end })
    }

    /// The values.
    pub(super) fn slice(&self) -> &[f32] {
        match &*self.guard {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.range.clone()],
            // `of` admits nothing else.
            _ => &[],
        }
    }
}

/// The gradient of a CPU tensor, which takes over `values`; none where nothing trains it, so that it is not kept.
pub(super) fn gradient(values: Vec<f32>, of: &Tensor) -> Result<Option<Tensor>> {
    of.track_op().then(|| tensor(values, of)).transpose()
}

/// A new CPU tensor that takes over `values`.
pub(super) fn tensor(values: Vec<f32>, like: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(values, like.shape(), &Device::Cpu)
}
