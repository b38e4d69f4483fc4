//! Checkpoint in, tokens or labels out.

#![deny(missing_docs)]
#![recursion_limit = "256"]

mod classifier;
mod generator;
mod sampling;

pub use classifier::{Classifier, Contribution, Guess, TaggedWord, Text};
pub use generator::{Limits, Row, generate};
pub use sampling::{Sampler, SamplingSettings};
