//! Depthwise convolution: candle runs a grouped convolution one group at a time.

use candle_core::cuda_backend::WrapErr as _;
use candle_core::cuda_backend::cudarc::driver::{LaunchConfig, PushKernelArg as _};
use candle_core::{CpuStorage, CudaStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

use super::{Source, THREADS, view};
use crate::candle::spatial::{Same, map_dims};

static KERNELS: Source = Source::new("kestrel_depthwise", include_str!("depthwise.cu"));
/// Channels and lanes of a block of the weight's gradient, and parts that it is summed in.
const CHANNELS: u32 = 32;
const LANES: u32 = 8;
const PARTS: u32 = 32;

/// Sizes as the kernels take them, in their order.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    n: usize,
    height: usize,
    width: usize,
    channels: usize,
    out_height: usize,
    out_width: usize,
    kernel: usize,
    stride: usize,
    top: usize,
    left: usize,
}

impl Sizes {
    /// Of a convolution of a map `dims`.
    fn new(dims: &[usize], kernel: usize, stride: usize) -> Result<Self> {
        let [n, height, width, channels] = map_dims(dims)?;
        let (rows, columns) = (Same::new(height, kernel, stride), Same::new(width, kernel, stride));
        let (out_height, out_width) = (rows.out, columns.out);
        let sizes = Self {
            n,
            height,
            width,
            channels,
            out_height,
            out_width,
            kernel,
            stride,
            top: rows.before,
            left: columns.before,
        };
        match sizes.numbers().into_iter().all(|size| i32::try_from(size).is_ok()) {
            true => Ok(sizes),
            false => bail!("depthwise: expected sizes under 2³¹, got {dims:?}"),
        }
    }

    fn numbers(&self) -> [usize; 10] {
        let Self { n, height, width, channels, out_height, out_width, kernel, stride, top, left } = *self;
        [n, height, width, channels, out_height, out_width, kernel, stride, top, left]
    }

    fn arguments(&self) -> [i32; 10] {
        self.numbers().map(|size| size as i32)
    }

    fn output(&self) -> [usize; 4] {
        [self.n, self.out_height, self.out_width, self.channels]
    }
}

fn threads_for(elements: usize) -> Result<LaunchConfig> {
    let Ok(blocks) = u32::try_from(elements.div_ceil(THREADS as usize)) else {
        bail!("depthwise: expected fewer than 2⁴⁰ elements, got {elements}");
    };
    Ok(LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 })
}

/// What the CPU is asked for by mistake.
fn elsewhere<T>() -> Result<T> {
    bail!("depthwise: expected tensors on a GPU, got some on the CPU, which has its own kernels")
}

/// `x ⊛ W + b`: `x` a map, `W [k, k, C]`, `b [C]`.
#[derive(Debug, Clone, Copy)]
pub(in crate::candle) struct Depthwise {
    pub(in crate::candle) kernel: usize,
    pub(in crate::candle) stride: usize,
}

impl CustomOp3 for Depthwise {
    fn name(&self) -> &'static str {
        "depthwise"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        elsewhere()
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        xl: &Layout,
        w: &CudaStorage,
        wl: &Layout,
        b: &CudaStorage,
        bl: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let sizes = Sizes::new(xl.dims(), self.kernel, self.stride)?;
        let (channels, taps) = (sizes.channels, self.kernel * self.kernel);
        if wl.shape().elem_count() != taps * channels || bl.shape().elem_count() != channels {
            bail!(
                "depthwise: expected weight [k, k, {channels}] of k = {} and its bias, got {wl:?}, {bl:?}",
                self.kernel
            );
        }
        let (device, count) = (x.device.clone(), sizes.output().iter().product());
        let (x, weight, bias) = (view(x, xl)?, view(w, wl)?, view(b, bl)?);
        // SAFETY: every element is written by the kernel, which checks its bounds against the same sizes.
        let mut y = unsafe { device.alloc::<f32>(count)? };
        let (stream, function) = (device.cuda_stream(), KERNELS.kernel(&device, "depthwise_forward")?);
        let mut launch = stream.launch_builder(&function);
        launch.arg(&x).arg(&weight).arg(&bias).arg(&mut y);
        let arguments = sizes.arguments();
        arguments.iter().for_each(|size| {
            launch.arg(size);
        });
        // SAFETY: the arguments are those of `depthwise_forward`, and the slices hold what the sizes say.
        unsafe { launch.launch(threads_for(count)?) }.w()?;
        Ok((CudaStorage::wrap_cuda_slice(y, device), Shape::from(sizes.output().to_vec())))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let sizes = Sizes::new(x.dims(), self.kernel, self.stride)?;
        let dx = x.track_op().then(|| gradient.apply_op2_no_bwd(w, &InputGradient(sizes))).transpose()?;
        let dw = w.track_op().then(|| x.apply_op2_no_bwd(&gradient, &WeightGradient(sizes))).transpose()?;
        let db = b.track_op().then(|| gradient.sum((0, 1, 2))).transpose()?;
        Ok((dx, dw, db))
    }
}

/// The input's gradient from the output's and the weight.
struct InputGradient(Sizes);

impl CustomOp2 for InputGradient {
    fn name(&self) -> &'static str {
        "depthwise_input_gradient"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        elsewhere()
    }

    fn cuda_fwd(&self, g: &CudaStorage, gl: &Layout, w: &CudaStorage, wl: &Layout) -> Result<(CudaStorage, Shape)> {
        let Sizes { n, height, width, channels, .. } = self.0;
        let (device, count) = (g.device.clone(), n * height * width * channels);
        let (gradient, weight) = (view(g, gl)?, view(w, wl)?);
        // SAFETY: every element is written by the kernel, which checks its bounds against the same sizes.
        let mut dx = unsafe { device.alloc::<f32>(count)? };
        let (stream, function) = (device.cuda_stream(), KERNELS.kernel(&device, "depthwise_input_gradient")?);
        let mut launch = stream.launch_builder(&function);
        launch.arg(&gradient).arg(&weight).arg(&mut dx);
        let arguments = self.0.arguments();
        arguments.iter().for_each(|size| {
            launch.arg(size);
        });
        // SAFETY: the arguments are those of `depthwise_input_gradient`; candle gives gradients the output's shape.
        unsafe { launch.launch(threads_for(count)?) }.w()?;
        Ok((CudaStorage::wrap_cuda_slice(dx, device), Shape::from(vec![n, height, width, channels])))
    }
}

/// The weight's gradient from the input and the output's gradient.
struct WeightGradient(Sizes);

impl CustomOp2 for WeightGradient {
    fn name(&self) -> &'static str {
        "depthwise_weight_gradient"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        elsewhere()
    }

    fn cuda_fwd(&self, x: &CudaStorage, xl: &Layout, g: &CudaStorage, gl: &Layout) -> Result<(CudaStorage, Shape)> {
        let Sizes { channels, kernel: side, .. } = self.0;
        let (device, taps) = (x.device.clone(), (side * side) as u32);
        let size = side * side * channels;
        let (x, gradient) = (view(x, xl)?, view(g, gl)?);
        // SAFETY: the first kernel writes every part, the second every element.
        let mut parts = unsafe { device.alloc::<f32>(PARTS as usize * size)? };
        // SAFETY: as above.
        let mut dw = unsafe { device.alloc::<f32>(size)? };
        let (stream, function) = (device.cuda_stream(), KERNELS.kernel(&device, "depthwise_weight_parts")?);
        let mut launch = stream.launch_builder(&function);
        launch.arg(&x).arg(&gradient).arg(&mut parts);
        let arguments = self.0.arguments();
        arguments.iter().for_each(|size| {
            launch.arg(size);
        });
        let grid_dim = (taps, (channels as u32).div_ceil(CHANNELS), PARTS);
        let shape = LaunchConfig { grid_dim, block_dim: (CHANNELS, LANES, 1), shared_mem_bytes: 0 };
        // SAFETY: the arguments are those of `depthwise_weight_parts`, the block is of the shape that it is written for.
        unsafe { launch.launch(shape) }.w()?;
        let function = KERNELS.kernel(&device, "depthwise_weight_sum")?;
        let mut launch = stream.launch_builder(&function);
        let (count, elements) = (PARTS as i32, size as i32);
        launch.arg(&parts).arg(&mut dw).arg(&count).arg(&elements);
        // SAFETY: the arguments are those of `depthwise_weight_sum`, and the slices hold what they say.
        unsafe { launch.launch(threads_for(size)?) }.w()?;
        Ok((CudaStorage::wrap_cuda_slice(dw, device), Shape::from(vec![side, side, channels])))
    }
}
