//! Model definitions (one definition, several interpreters), weights in, ONNX out.
//!
//! [`kestrel`] writes the model once against [`ops::Ops`].
#![forbid(unsafe_code)]

pub mod candle;
pub mod error;
pub mod export;
pub mod kestrel;
pub mod onnx;
pub mod ops;
pub mod pickle;
pub mod tokenizer;
pub mod weights;
