//! What can go wrong with an engine.

use super::Graph;

/// A failure to open or run an engine; [`EngineError::hint`] says what to try.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A choice that names no engine.
    #[error("engine: expected auto, ort/cpu, ort/cuda, ort/tensorrt, ort/nv_tensorrt_rtx or tract, got {got:?}")]
    UnknownChoice {
        /// What was asked for.
        got: String,
    },
    /// ONNX Runtime's library was found nowhere, or what was found cannot be used.
    #[error("ONNX Runtime: no usable library: {why}")]
    NoLibrary {
        /// What was tried and what came of it.
        why: String,
    },
    /// The provider asked for is not really active.
    #[error("ONNX Runtime: provider {provider} was asked for and is not active: {why}")]
    Provider {
        /// The provider.
        provider: &'static str,
        /// What the runtime said.
        why: String,
    },
    /// Engines that had to be built before, and are not there as they are needed.
    #[error("{provider}: no engines are ready for these graphs on this machine: {why}")]
    NotPrepared {
        /// The provider.
        provider: &'static str,
        /// What is there instead.
        why: String,
    },
    /// A graph that the engine cannot take.
    #[error("{engine}: loading the {graph} graph: {why}")]
    Load {
        /// The engine.
        engine: String,
        /// The graph.
        graph: Graph,
        /// What the engine said.
        why: String,
    },
    /// A graph outside the contract of a model that the engine cannot take or run.
    #[error("{engine}: {why}")]
    Plain {
        /// The engine.
        engine: String,
        /// What the engine said.
        why: String,
    },
    /// A graph without the inputs or outputs of the contract.
    #[error("{engine}: the {graph} graph: expected {expected}, got {got}")]
    Names {
        /// The engine.
        engine: String,
        /// The graph.
        graph: Graph,
        /// Names that are needed.
        expected: String,
        /// Names that are there.
        got: String,
    },
    /// A graph that was asked for and not loaded.
    #[error("{engine}: the {graph} graph was not loaded")]
    Missing {
        /// The engine.
        engine: String,
        /// The graph.
        graph: Graph,
    },
    /// Inputs that do not fit the graph.
    #[error("running the {graph} graph: expected {expected}, got {got}")]
    Inputs {
        /// The graph.
        graph: Graph,
        /// What was expected.
        expected: String,
        /// What was given.
        got: String,
    },
    /// The engine failed while it ran.
    #[error("{engine}: running the {graph} graph: {why}")]
    Run {
        /// The engine.
        engine: String,
        /// The graph.
        graph: Graph,
        /// What the engine said.
        why: String,
    },
}

impl EngineError {
    /// Whether another graph might have fared better: the engine is there, and this one it refused or failed on.
    #[must_use]
    pub fn is_of_the_graph(&self) -> bool {
        matches!(
            self,
            Self::Load { .. } | Self::Plain { .. } | Self::Names { .. } | Self::Inputs { .. } | Self::Run { .. }
        )
    }

    /// One line on what to try.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::UnknownChoice { .. } => "auto takes the best engine that is there and says which",
            Self::NoLibrary { .. } => {
                "set ORT_DYLIB_PATH to libonnxruntime.so of version 1.24 or newer, install the Python package onnxruntime, or ask for tract"
            }
            Self::Provider { .. } => {
                "set ORT_DYLIB_PATH to an ONNX Runtime built with this provider and put its libraries on LD_LIBRARY_PATH, or ask for ort/cpu"
            }
            Self::NotPrepared { .. } => {
                "build them before the flight with `onboard engines build BUNDLE`: it takes minutes, so a start never does"
            }
            Self::Load { .. } | Self::Names { .. } => {
                "the bundle does not fit this runtime: export it again with this version"
            }
            Self::Missing { .. } => {
                "answers with reasons need a bundle of `ground export … --explain`, opened to answer with them"
            }
            Self::Plain { .. } => "try another engine; if one of them runs the graph, report which one does not",
            Self::Inputs { .. } | Self::Run { .. } => {
                "run `onboard doctor`; if another engine runs the bundle, report which one fails"
            }
        }
    }
}
