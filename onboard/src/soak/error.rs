//! Why there was no soak.

use crate::camera::CameraError;
use crate::config::ConfigError;
use crate::node::NodeError;

/// Why there was no soak.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SoakError {
    /// The default configuration does not hold.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The drone does not fly.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The camera's frames cannot be sent.
    #[error(transparent)]
    Camera(#[from] CameraError),
    /// The operator cannot do its part.
    #[error("{operation}: {why}")]
    Operator {
        /// What was being done.
        operation: &'static str,
        /// What came of it.
        why: String,
    },
}

impl SoakError {
    /// One line on what to try.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Config(error) => error.hint(),
            Self::Node(error) => error.hint().into(),
            Self::Camera(error) => error.hint().into(),
            Self::Operator { .. } => "this machine must let a process talk to itself over 127.0.0.1".into(),
        }
    }

    pub(super) fn operator<E: std::fmt::Display>(operation: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Operator { operation, why: error.to_string() }
    }
}
