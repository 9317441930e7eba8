//! Engines: what runs the model's graphs.
//!
//! [`open`] gives an [`Engine`] for an [`EngineChoice`]: ONNX Runtime with a provider, or tract in pure Rust.
//! Every engine passes the same suite (`tests/engines.rs`), so the pipeline does not know which one it has.

mod error;
pub mod library;
mod plain;
pub mod prepared;
mod runtime;
mod tract;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use error::EngineError;
pub use plain::PlainGraph;
pub use runtime::{EXACT_INTEGERS, RuntimeEngine, runtime_version};
pub use tract::TractEngine;

/// The graphs of a model: three that every bundle has, and one that it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Graph {
    /// Picture to image tokens and features.
    Vision,
    /// Image tokens and words to the answer and the `[SEG]` state.
    Language,
    /// Features, proposals and the `[SEG]` state to a mask.
    Mask,
    /// Image tokens and words, row by row behind a cache, to the next token of a reasoned answer. Not in every bundle.
    Explain,
}

impl Graph {
    /// Name for errors and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Vision => "vision",
            Self::Language => "language",
            Self::Mask => "mask",
            Self::Explain => "explain",
        }
    }

    /// Names of the inputs, in the order in which [`Engine::run`] takes them.
    #[must_use]
    pub fn inputs(self) -> &'static [&'static str] {
        match self {
            Self::Vision => &["image"],
            Self::Language => &["tokens", "ids", "index"],
            Self::Mask => &["embed", "fine", "seg", "names", "codes", "extents", "attention"],
            Self::Explain => &["tokens", "ids", "spoken", "positions", "mask", "past"],
        }
    }

    /// Names of the outputs, in the order in which [`Engine::run`] gives them. All are f32.
    #[must_use]
    pub fn outputs(self) -> &'static [&'static str] {
        match self {
            Self::Vision => &["tokens", "embed", "fine", "spots"],
            Self::Language => &["logits", "seg", "doubt"],
            Self::Mask => &["mask", "iou", "object"],
            Self::Explain => &["logits", "seg", "new"],
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A tensor handed to an engine: its shape and its values, row-major.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// 32-bit floats.
    F32(&'a [usize], &'a [f32]),
    /// 64-bit integers.
    I64(&'a [usize], &'a [i64]),
}

impl Input<'_> {
    /// The shape.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::F32(shape, _) | Self::I64(shape, _) => shape,
        }
    }
}

/// A tensor that an engine fills; its memory is used again by the next run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tensor {
    /// The shape.
    pub shape: Vec<usize>,
    /// The values, row-major.
    pub data: Vec<f32>,
}

impl Tensor {
    /// The tensor as an input of another graph.
    #[must_use]
    pub fn as_input(&self) -> Input<'_> {
        Input::F32(&self.shape, &self.data)
    }

    /// Takes in new contents; allocates only when they are larger than any before.
    fn fill(&mut self, shape: impl Iterator<Item = usize>, data: &[f32]) {
        self.shape.clear();
        self.shape.extend(shape);
        self.data.clear();
        self.data.extend_from_slice(data);
    }
}

/// Runs the graphs of one model.
pub trait Engine: Send {
    /// Engine and provider that are really active: `ort/cpu`, `ort/cuda`, `ort/tensorrt` or `tract`.
    fn name(&self) -> &str;

    /// Shapes of a graph's inputs, in the order of [`Graph::inputs`].
    ///
    /// # Errors
    /// When the graph was not loaded, or does not say.
    fn input_shapes(&self, graph: Graph) -> Result<Vec<Vec<usize>>, EngineError>;

    /// How many views one run of the vision graph is best given; 1 unless its batch axis is open and more at once is faster.
    ///
    /// A view's numbers may differ in their last bits with the views beside it.
    fn views_per_run(&self) -> usize {
        1
    }

    /// Runs one graph: `inputs` in the order of [`Graph::inputs`], results into `outputs` in the order of [`Graph::outputs`].
    ///
    /// # Errors
    /// When the graph was not loaded, the number, type or shape of the inputs is not the graph's, or the engine fails.
    fn run(&mut self, graph: Graph, inputs: &[Input<'_>], outputs: &mut [Tensor]) -> Result<(), EngineError>;
}

/// The graphs as ONNX bytes.
#[derive(Debug, Clone, Copy)]
pub struct GraphBytes<'a> {
    /// `vision.onnx`.
    pub vision: &'a [u8],
    /// `language.onnx`.
    pub language: &'a [u8],
    /// `mask.onnx`.
    pub mask: &'a [u8],
    /// `explain.onnx`, where it is there and answers with reasons are wanted.
    pub explain: Option<&'a [u8]>,
}

impl<'a> GraphBytes<'a> {
    /// The bytes of one graph; `None` where it is not there.
    #[must_use]
    pub fn get(&self, graph: Graph) -> Option<&'a [u8]> {
        match graph {
            Graph::Vision => Some(self.vision),
            Graph::Language => Some(self.language),
            Graph::Mask => Some(self.mask),
            Graph::Explain => self.explain,
        }
    }
}

/// Where ONNX Runtime computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Provider {
    /// The processor.
    Cpu,
    /// NVIDIA CUDA.
    Cuda,
    /// NVIDIA TensorRT, with engines that were [`prepared`].
    TensorRt,
    /// NVIDIA TensorRT for RTX, a plugin of ONNX Runtime, with what it compiled before the flight.
    NvTensorRtRtx,
}

impl Provider {
    /// Name as in [`EngineChoice`].
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
            Self::NvTensorRtRtx => "nv_tensorrt_rtx",
        }
    }
}

/// Which engine is asked for: `auto`, `ort/cpu` (or `ort`), `ort/cuda`, `ort/tensorrt`, `ort/nv_tensorrt_rtx` or `tract`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum EngineChoice {
    /// ONNX Runtime on the processor where its library is found or can be fetched, else tract; it says which.
    #[default]
    Auto,
    /// ONNX Runtime with one provider; anything else stops the start.
    Ort(Provider),
    /// tract.
    Tract,
}

impl fmt::Display for EngineChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Ort(provider) => write!(f, "ort/{}", provider.name()),
            Self::Tract => f.write_str("tract"),
        }
    }
}

impl FromStr for EngineChoice {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self, EngineError> {
        Ok(match text {
            "auto" => Self::Auto,
            "ort" | "ort/cpu" => Self::Ort(Provider::Cpu),
            "ort/cuda" => Self::Ort(Provider::Cuda),
            "ort/tensorrt" => Self::Ort(Provider::TensorRt),
            "ort/nv_tensorrt_rtx" => Self::Ort(Provider::NvTensorRtRtx),
            "tract" => Self::Tract,
            _ => return Err(EngineError::UnknownChoice { got: text.chars().take(40).collect() }),
        })
    }
}

impl TryFrom<String> for EngineChoice {
    type Error = EngineError;

    fn try_from(text: String) -> Result<Self, EngineError> {
        text.parse()
    }
}

impl From<EngineChoice> for String {
    fn from(choice: EngineChoice) -> Self {
        choice.to_string()
    }
}

/// How to open an engine.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Which one.
    pub choice: EngineChoice,
    /// Threads within one operation; 0 means one per processor core. tract always uses one.
    pub threads: usize,
    /// ONNX Runtime's shared library; `None` means that it is searched for, see [`library`].
    pub library: Option<PathBuf>,
    /// Whether ONNX Runtime may be fetched from the package index when it is not found.
    pub fetch: bool,
    /// Whether a progress bar may be drawn on stderr.
    pub progress: bool,
    /// What the providers of a GPU need besides.
    pub accelerator: Accelerator,
}

/// What the providers of a GPU need besides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accelerator {
    /// Folder below which [`prepared`] engines lie; `None` means [`prepared::default_root`].
    pub prepared: Option<PathBuf>,
    /// Library of a plugin provider: the one of the Python package `onnxruntime-ep-nv-tensorrt-rtx-cu13`, for
    /// [`Provider::NvTensorRtRtx`].
    pub plugin: Option<PathBuf>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            choice: EngineChoice::Auto,
            threads: 0,
            library: None,
            fetch: true,
            progress: false,
            accelerator: Accelerator::default(),
        }
    }
}

impl EngineOptions {
    /// The defaults with this choice.
    #[must_use]
    pub fn of(choice: EngineChoice) -> Self {
        Self { choice, ..Self::default() }
    }
}

/// Opens the engine that was asked for.
///
/// # Errors
/// When it, or the provider asked for, is not really active. Only [`EngineChoice::Auto`] tries another, and logs that it does.
pub fn open(graphs: &GraphBytes<'_>, options: &EngineOptions) -> Result<Box<dyn Engine>, EngineError> {
    match options.choice {
        EngineChoice::Tract => Ok(Box::new(TractEngine::load(graphs)?)),
        EngineChoice::Ort(provider) => Ok(Box::new(RuntimeEngine::load(graphs, provider, options)?)),
        EngineChoice::Auto => match RuntimeEngine::load(graphs, Provider::Cpu, options) {
            Ok(engine) => Ok(Box::new(engine)),
            // Only a missing library is a reason to take the other engine; a broken graph is one to stop.
            Err(error @ EngineError::NoLibrary { .. }) => {
                tracing::warn!("tract answers instead of ONNX Runtime, several times slower: {error}");
                Ok(Box::new(TractEngine::load(graphs)?))
            }
            Err(error) => Err(error),
        },
    }
}

type Open = dyn Fn(&GraphBytes<'_>, &EngineOptions) -> Result<Box<dyn Engine>, EngineError> + Send + Sync;

/// How engines are opened: as [`open`] does it, unless a test needs engines that fail when they are told to.
#[derive(Clone)]
pub struct Opener(Arc<Open>);

impl Opener {
    /// Opens engines with `open`, which promises what [`open`] does.
    pub fn new(
        open: impl Fn(&GraphBytes<'_>, &EngineOptions) -> Result<Box<dyn Engine>, EngineError> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(open))
    }

    /// Opens the engine that was asked for.
    ///
    /// # Errors
    /// As [`open`].
    pub fn open(&self, graphs: &GraphBytes<'_>, options: &EngineOptions) -> Result<Box<dyn Engine>, EngineError> {
        (self.0)(graphs, options)
    }
}

impl Default for Opener {
    fn default() -> Self {
        Self::new(open)
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opener")
    }
}

/// One entry a graph, at [`Graph::index`]: what `load` makes of its bytes, or nothing where there are none.
fn each<T>(
    graphs: &GraphBytes<'_>,
    load: impl Fn(Graph, &[u8]) -> Result<T, EngineError>,
) -> Result<[Option<T>; 4], EngineError> {
    let of = |graph: Graph| graphs.get(graph).map(|bytes| load(graph, bytes)).transpose();
    Ok([of(Graph::Vision)?, of(Graph::Language)?, of(Graph::Mask)?, of(Graph::Explain)?])
}

/// Checks the inputs' number before an engine sees them.
fn check_inputs(graph: Graph, inputs: &[Input<'_>]) -> Result<(), EngineError> {
    let expected = graph.inputs().len();
    if inputs.len() != expected {
        return Err(EngineError::Inputs {
            graph,
            expected: format!("{expected} inputs"),
            got: inputs.len().to_string(),
        });
    }
    for (name, input) in graph.inputs().iter().zip(inputs) {
        let length = match input {
            Input::F32(_, data) => data.len(),
            Input::I64(_, data) => data.len(),
        };
        let product: usize = input.shape().iter().product();
        if product != length {
            return Err(EngineError::Inputs {
                graph,
                expected: format!("{product} values for `{name}` {:?}", input.shape()),
                got: length.to_string(),
            });
        }
    }
    Ok(())
}
