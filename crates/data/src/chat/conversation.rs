//! What a chat model is trained on: messages in turn, each with the role that speaks.

use std::path::PathBuf;

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Who speaks, as normalized: `system`, `user`, `assistant`, `tool`.
    pub role: String,
    /// What is said.
    pub content: String,
    /// How much its tokens count in training; none: what the config says for its role.
    pub weight: Option<f32>,
}

/// A conversation and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversation {
    /// The messages, in the order they were said.
    pub messages: Vec<Message>,
    /// The file, and the line or the number of the record in it, from 1.
    pub place: (PathBuf, u64),
}
