//! Conversations, for training a chat model.
//!
//! A file of any container (JSON, CSV, Parquet) gives records, a record in any of the formats gives a [`Conversation`].

mod conversation;
mod formats;
mod json;
mod lines;
mod parquet;
mod records;
mod turns;

pub use conversation::{Conversation, Message};
pub use lines::MAX_RECORD;
pub use records::read_file;
