//! Checkpoint in, tokens or labels out.

#![deny(missing_docs)]
#![recursion_limit = "256"]

mod answers;
mod chat_session;
mod classifier;
mod generator;
mod sampling;
mod text_stream;

pub use answers::answers;
pub use chat_session::{ChatError, ChatSession, Reply};
pub use classifier::{Classifier, Contribution, Guess, TaggedWord, Text};
pub use generator::{Limits, Row, generate};
pub use sampling::{Sampler, SamplingSettings};
pub use text_stream::TextStream;
