//! Checkpoint in, tokens out.

#![deny(missing_docs)]
#![recursion_limit = "256"]

mod generator;
mod sampling;

pub use generator::{Generation, generate};
pub use sampling::{Sampler, SamplingSettings};
