//! How conversations become rows.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How conversations become rows: the template that writes them, what of them is trained, and what happens to long ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChatTrainingConfig {
    /// The template: `chatml`, `llama2`, `llama3`, `zephyr`, `alpaca` or `plain` (`User:` and `Assistant:`), or `tokenizer`,
    /// the one of the tokenizer's directory. It is stored with the model. Default: the tokenizer's if it has one, else
    /// `chatml`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateName>,
    /// A file with a Jinja template of one's own, as HuggingFace writes them, in place of `template`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_file: Option<PathBuf>,
    /// A system message for the conversations that have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Whose messages are trained: `assistant`, `last_assistant` (the last answer alone), or `all`, with everything the
    /// template puts between them.
    pub train_on: TrainOn,
    /// How much the messages of a role count where the data gives no `weight` of a message's own, such as
    /// `{ user = 0.1 }`; 0 trains nothing.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub role_weights: BTreeMap<String, f64>,
    /// Whether the token that ends a trained message is trained too: without it a model never learns to stop.
    pub train_end_of_turn: bool,
    /// What happens to a conversation longer than `max_seq_len`: `oldest_turns` leaves out whole turns from its beginning,
    /// and keeps the system message; `end` cuts its end; `drop` leaves it out.
    pub truncation: ChatTruncation,
    /// Whether several conversations share a row, without seeing each other, so that there is little padding.
    pub packing: bool,
}

impl Default for ChatTrainingConfig {
    fn default() -> Self {
        Self {
            template: None,
            template_file: None,
            system: None,
            train_on: TrainOn::default(),
            role_weights: BTreeMap::new(),
            train_end_of_turn: true,
            truncation: ChatTruncation::default(),
            packing: true,
        }
    }
}

/// A template by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TemplateName {
    /// `<|im_start|>role`, the message, `<|im_end|>`.
    Chatml,
    /// `[INST]` and `[/INST]`, with the system message inside the first.
    Llama2,
    /// A header for each message, and `<|eot_id|>`.
    Llama3,
    /// `<|user|>`, `<|assistant|>` and the end-of-text token.
    Zephyr,
    /// `### Instruction:` and `### Response:`.
    Alpaca,
    /// `User:` and `Assistant:`.
    Plain,
    /// The one of the tokenizer's directory.
    Tokenizer,
}

/// Whose messages are trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrainOn {
    /// Every message of the assistant.
    #[default]
    Assistant,
    /// Its last message.
    LastAssistant,
    /// Every token.
    All,
}

/// What happens to a conversation that does not fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChatTruncation {
    /// Whole turns are left out from its beginning, behind the system message.
    #[default]
    OldestTurns,
    /// Its end is cut.
    End,
    /// It is left out.
    Drop,
}
