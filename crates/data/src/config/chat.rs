//! The part of a config that says where conversations come from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::OnBadRow;

/// Conversations: `.jsonl`, `.json` (one array), `.csv`, `.tsv` or `.parquet`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChatConfig {
    /// Paths and globs, relative to the working directory, each a string, or a table with a weight. They are divided as
    /// `[split]` says, whole conversations at a time.
    #[schemars(length(min = 1))]
    pub files: Vec<ChatFiles>,
    /// Files of the validation split; with them `split.validation` takes nothing from `files`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validation_files: Vec<String>,
    /// Files of the test split; with them `split.test` takes nothing from `files`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub test_files: Vec<String>,
    /// The format of all the files. Without it each file's own is seen at its first record, and named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<ChatFormat>,
    /// The column or field that holds the question, in the format `question_answer`.
    #[serde(default = "default_question")]
    pub question: String,
    /// The column or field that holds the answer, in the format `question_answer`.
    #[serde(default = "default_answer")]
    pub answer: String,
    /// The column or field of a system message that stands beside the conversation, in any format. Without this key
    /// `system` is read where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// What to do with a record that is malformed or is no conversation.
    #[serde(default)]
    pub on_bad_row: OnBadRow,
}

/// Files of conversations, and how often they are trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a path, or { path = \"...\", weight = 2.0 }")]
pub enum ChatFiles {
    /// A path or glob; its conversations come once an epoch.
    Path(String),
    /// A path or glob with a weight.
    Weighted(WeightedFiles),
}

/// A path or glob with a weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightedFiles {
    /// The path or glob.
    pub path: String,
    /// How often its training conversations come in an epoch: 2 is twice each, 0.25 a fourth of them, the same in every
    /// epoch.
    #[schemars(extend("exclusiveMinimum" = 0), range(max = 100.0))]
    pub weight: f64,
}

impl ChatFiles {
    /// The path or glob.
    pub fn path(&self) -> &str {
        match self {
            Self::Path(path) => path,
            Self::Weighted(files) => &files.path,
        }
    }

    /// How often the conversations come in an epoch.
    pub fn weight(&self) -> f64 {
        match self {
            Self::Path(_) => 1.0,
            Self::Weighted(files) => files.weight,
        }
    }
}

/// How a record holds a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChatFormat {
    /// OpenAI's: `messages`, a list of `role` and `content`, and `weight` where a message counts more or less.
    Messages,
    /// ShareGPT's: `conversations`, a list of `from` and `value`.
    Sharegpt,
    /// Alpaca's: `instruction`, `output`, and `input` and `system` where there are some.
    Alpaca,
    /// `prompt` and `completion`, strings or lists of messages.
    PromptCompletion,
    /// A question and an answer, in columns that `question` and `answer` name.
    QuestionAnswer,
}

/// The names of the columns that a config can choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatColumns {
    /// The question.
    pub question: String,
    /// The answer.
    pub answer: String,
    /// A system message, where the config names it.
    pub system: Option<String>,
}

impl Default for ChatColumns {
    fn default() -> Self {
        Self { question: default_question(), answer: default_answer(), system: None }
    }
}

impl ChatColumns {
    /// The column of the system message.
    pub fn system(&self) -> &str {
        self.system.as_deref().unwrap_or("system")
    }
}

impl ChatConfig {
    /// The extension that such files usually have.
    pub(crate) const USUAL_EXTENSION: &str = "jsonl";

    /// Conversations of these files, each in a format of its own.
    pub fn new(files: Vec<ChatFiles>) -> Self {
        let ChatColumns { question, answer, system } = ChatColumns::default();
        let on_bad_row = OnBadRow::default();
        let (validation_files, test_files) = (Vec::new(), Vec::new());
        Self { files, validation_files, test_files, format: None, question, answer, system, on_bad_row }
    }

    /// What reads one file, whose path is taken as it is written.
    pub fn of_file(path: &std::path::Path) -> Self {
        Self::new(vec![ChatFiles::Path(glob::Pattern::escape(&path.to_string_lossy()))])
    }

    /// The names of the columns.
    pub fn columns(&self) -> ChatColumns {
        ChatColumns { question: self.question.clone(), answer: self.answer.clone(), system: self.system.clone() }
    }
}

fn default_question() -> String {
    "question".into()
}

fn default_answer() -> String {
    "answer".into()
}
