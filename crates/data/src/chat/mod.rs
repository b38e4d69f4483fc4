//! Conversations, for training a chat model.

mod conversation;

pub use conversation::{Conversation, Message};
