//! Conversations, for training a chat model.
//!
//! A file of any container (JSON, CSV, Parquet) gives records, a record in any of the formats gives a [`Conversation`].

mod clean;
mod conversation;
mod convert;
mod fitting;
mod formats;
#[cfg(test)]
mod golden;
mod jinja;
mod json;
mod lines;
pub mod lint;
mod output;
mod parquet;
pub mod preview;
mod records;
pub mod redact;
mod render;
mod rows;
mod splits;
mod stand_ins;
mod stats;
mod template;
mod turns;

pub use clean::{check_clean, clean_messages};
pub use conversation::{Conversation, Message};
pub use convert::{Converted, convert, redact_file, write_messages};
pub use fitting::with_system;
pub use lines::MAX_RECORD;
pub use lint::{Finding, Rule, Severity, lint};
pub use preview::{PreviewRow, TokenKind, page, preview};
pub use records::read_file;
pub use redact::Redactor;
pub use render::{EncodedConversation, MessageSpan, Owner, encode, render};
pub use rows::{ChatCounts, ChatExamples};
pub(crate) use splits::check;
pub use splits::{ChatSplits, read};
pub use stats::{ChatStats, Distribution};
pub use template::ChatTemplate;
pub use turns::roles;
