//! Checkpoint in, tokens out.

#![deny(missing_docs)]
#![recursion_limit = "256"]

mod generator;
mod sampling;

pub use generator::{Limits, Row, generate};
pub use sampling::{Sampler, SamplingSettings};
