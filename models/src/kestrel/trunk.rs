//! The vision trunk: EfficientNet-Lite0 (ReLU6, no squeeze-excitation), batch norm folded into the convolutions.
//!
//! Source: the EfficientNet-Lite0 table of the TensorFlow TPU models (compound coefficients 1.0/1.0, stem and head not scaled).

use crate::error::{Error, Result};
use crate::ops::{Act, Conv, Ops};

/// Channels of the stem's output.
pub const STEM_CHANNELS: usize = 32;

/// One row of the table: a run of inverted residual blocks.
#[derive(Debug, Clone, Copy)]
struct Stage {
    repeats: usize,
    kernel: usize,
    stride: usize,
    expand: usize,
    out: usize,
}

const fn stage(repeats: usize, kernel: usize, stride: usize, expand: usize, out: usize) -> Stage {
    Stage { repeats, kernel, stride, expand, out }
}

const STAGES: [Stage; 7] = [
    stage(1, 3, 1, 1, 16),
    stage(2, 3, 2, 6, 24),
    stage(2, 5, 2, 6, 40),
    stage(3, 3, 2, 6, 80),
    stage(3, 5, 1, 6, 112),
    stage(4, 5, 2, 6, 192),
    stage(1, 3, 1, 6, 320),
];

/// One inverted residual block (MBConv) of the trunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Position among all blocks, from 0: the `{i}` of `trunk.blocks.{i}`.
    pub index: usize,
    /// Square kernel size of the depthwise convolution.
    pub kernel: usize,
    /// Its stride.
    pub stride: usize,
    /// Channels in.
    pub input: usize,
    /// Channels of the depthwise convolution; equal to `input` where the block has no expansion.
    pub hidden: usize,
    /// Channels out.
    pub output: usize,
}

impl Block {
    /// Whether a 1×1 expansion comes before the depthwise convolution.
    pub fn expands(&self) -> bool {
        self.hidden != self.input
    }

    /// Whether the block's input is added to its output.
    pub fn is_residual(&self) -> bool {
        self.stride == 1 && self.input == self.output
    }
}

/// All blocks in order, 16 of them.
pub fn blocks() -> Vec<Block> {
    let mut all = Vec::with_capacity(16);
    let mut input = STEM_CHANNELS;
    for s in STAGES {
        for repeat in 0..s.repeats {
            let stride = if repeat == 0 { s.stride } else { 1 };
            all.push(Block {
                index: all.len(),
                kernel: s.kernel,
                stride,
                input,
                hidden: input * s.expand,
                output: s.out,
            });
            input = s.out;
        }
    }
    all
}

/// Feature maps at five strides, each the last one before the next down-sampling.
#[derive(Debug, Clone)]
pub struct Stages<T> {
    /// Stride 2, 16 channels.
    pub s2: T,
    /// Stride 4, 24 channels.
    pub s4: T,
    /// Stride 8, 40 channels.
    pub s8: T,
    /// Stride 16, 112 channels.
    pub s16: T,
    /// Stride 32, 320 channels.
    pub s32: T,
}

/// The trunk over a map `[N, S, S, 3]` of normalised pixels; S is a multiple of 32.
///
/// # Errors
/// When the image has another channel count or the interpreter fails.
pub fn trunk<O: Ops>(ops: &mut O, image: &O::T) -> Result<Stages<O::T>> {
    let shape = ops.shape(image);
    if shape.len() != 4 || shape[3] != 3 || shape[1] % 32 != 0 || shape[2] % 32 != 0 {
        return Err(Error::Shape {
            operation: "trunk",
            name: "image".into(),
            expected: "[N, S, S, 3] with S a multiple of 32".into(),
            got: shape,
        });
    }
    let mut x = ops.conv(image, "trunk.stem", STEM_CHANNELS, Conv { kernel: 3, stride: 2, act: Act::Relu6 })?;
    // The input of every stride-2 block is the last map of its resolution.
    let mut taps = Vec::with_capacity(4);
    for block in blocks() {
        if block.stride == 2 {
            taps.push(x.clone());
        }
        x = mbconv(ops, &x, block)?;
    }
    match <[O::T; 4]>::try_from(taps) {
        Ok([s2, s4, s8, s16]) => Ok(Stages { s2, s4, s8, s16, s32: x }),
        Err(taps) => Err(Error::Shape {
            operation: "trunk",
            name: "stages".into(),
            expected: "four down-samplings after the stem".into(),
            got: vec![taps.len()],
        }),
    }
}

fn mbconv<O: Ops>(ops: &mut O, x: &O::T, block: Block) -> Result<O::T> {
    let name = format!("trunk.blocks.{}", block.index);
    let mut y = x.clone();
    if block.expands() {
        y = ops.linear(&y, &format!("{name}.expand"), block.hidden, true, Act::Relu6)?;
    }
    let conv = Conv { kernel: block.kernel, stride: block.stride, act: Act::Relu6 };
    y = ops.depthwise(&y, &format!("{name}.depthwise"), conv)?;
    y = ops.linear(&y, &format!("{name}.project"), block.output, true, Act::None)?;
    if block.is_residual() {
        y = ops.residual(&y, x, &format!("{name}.project"))?;
    }
    Ok(y)
}
