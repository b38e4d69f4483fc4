//! The operations a transformer spends its time in, forward and backward.
//!
//! Each operation is a plain function on tensors. Where the tensors are f32 on one of the CPU backends it runs the
//! implementation of this crate, with a handwritten backward pass; anywhere else it composes Burn's operations, which
//! is also the oracle its tests compare with. One implementation on slices of host memory serves both CPU backends.
//!
//! Results are the same, bit for bit, on every run and for every number of threads: work is split into pieces that
//! depend on the shapes alone, and partial sums are added in the order of the pieces. NaN and infinity go through.
//!
//! `unsafe` stands in two files: `matrix` (views that are disjoint by construction, and the call of the `gemm`
//! crate) and `vector` (calling a function compiled for instructions that were detected first).

#![deny(missing_docs)]
#![recursion_limit = "256"]
// Burn 0.22 deprecates its ndarray backend in favour of flex; it stays the fallback of this project.
#![allow(deprecated)]

pub mod adamw;
pub mod attention;
pub mod cross_entropy;
mod host;
pub mod layer_norm;
pub mod linear;
#[allow(unsafe_code)]
mod matrix;
#[cfg(test)]
mod oracle;
mod precision;
#[allow(unsafe_code)]
mod vector;

pub use adamw::{AdamwStep, adamw};
pub use attention::causal_attention;
pub use cross_entropy::cross_entropy_sum;
pub use host::covers;
pub use layer_norm::layer_norm;
pub use linear::{linear, linear_gelu};
pub use precision::Precision;
