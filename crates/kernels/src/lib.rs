//! The operations a transformer spends its time in, forward and backward.
//!
//! Each operation is a plain function on tensors. Where the tensors are f32 on one of the CPU backends it runs the
//! implementation of this crate, with a handwritten backward pass; anywhere else it composes Burn's operations, which
//! is also the oracle its tests compare with. One implementation on slices of host memory serves both CPU backends.
//! `cube` holds own kernels for GPUs, of the operations that gain most from them.
//!
//! Results are the same, bit for bit, on every run and for every number of threads: work is split into pieces that
//! depend on the shapes alone, and partial sums are added in the order of the pieces. NaN and infinity go through.
//!
//! `unsafe` stands in `product` (views that are disjoint by construction, and the tiles of each instruction set), in
//! `vector` and `int8` (calling a function compiled for instructions that were detected first), in `cube` (kernels that
//! check their own bounds), and where an operation says that it has written all of a buffer that was not zeroed first.

#![deny(missing_docs)]
#![recursion_limit = "256"]
// Burn 0.22 deprecates its ndarray backend in favour of flex; it stays the fallback of this project.
#![allow(deprecated)]

#[allow(unsafe_code)]
pub mod activation;
pub mod adamw;
#[allow(unsafe_code)]
pub mod attention;
#[allow(unsafe_code)]
pub mod cached_attention;
#[allow(unsafe_code)]
pub mod cross_entropy;
#[allow(unsafe_code)]
mod cube;
#[allow(unsafe_code)]
pub mod dropout;
#[allow(unsafe_code)]
pub mod embedding;
mod host;
#[allow(unsafe_code)]
pub mod int8;
#[allow(unsafe_code)]
pub mod layer_norm;
#[allow(unsafe_code)]
pub mod linear;
#[allow(unsafe_code)]
mod memory;
pub mod noise;
#[cfg(test)]
mod oracle;
mod precision;
#[allow(unsafe_code)]
mod product;
#[cfg(test)]
mod reference;
mod rounding;
#[allow(unsafe_code)]
mod sublayer;
mod support;
mod threads;
pub mod tied_head;
#[allow(unsafe_code)]
mod vector;

pub use activation::activate;
pub use adamw::{AdamwStep, adamw, sum_of_squares};
pub use attention::{AttentionOptions, attention};
pub use cached_attention::{LayerCache, NewPositions, cached_attention};
pub use cross_entropy::{CrossEntropy, cross_entropy_and_correct, cross_entropy_sum};
pub use dropout::{Dropout, DropoutKey, dropout, residual_add};
pub use embedding::embedding;
pub use host::{covers, in_host_memory};
pub use int8::{Int8Linear, Int8Matrix, int8_cross_entropy_and_correct, int8_head, linear_or_int8, supports_int8};
pub use layer_norm::layer_norm;
pub use linear::{Activation, linear};
pub use memory::keep_freed_memory;
pub use noise::uniform_noise;
pub use precision::Precision;
pub use sublayer::{Function, NormPlace, Residual, Sublayer, sublayer_buffers, sublayers};
pub use support::{Support, support};
pub use threads::in_thread_pool;
pub use tied_head::tied_head;
