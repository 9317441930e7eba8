//! Model definitions (one definition, several interpreters), weights in, ONNX out.
//!
//! [`kestrel`] writes the model once against [`ops::Ops`].
// Kernels of a GPU are launched in one module, which allows it for itself.
#![cfg_attr(not(feature = "cuda"), forbid(unsafe_code))]

pub mod candle;
pub mod cost;
pub mod error;
pub mod export;
pub mod kestrel;
pub mod onnx;
pub mod ops;
pub mod pickle;
pub mod quantise;
pub mod tokenizer;
pub mod weights;
