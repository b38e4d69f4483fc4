//! Sentences whose words carry tags: what `[data.tagged]` says.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::OnBadRow;

/// Sentences whose words carry tags, for named entities or parts of speech. A `.jsonl` file has one sentence a line, as two
/// lists; any other is CoNLL: one word a line, its columns between tabs or else spaces, a blank line between sentences.
/// Lines of `-DOCSTART-` and comments that begin with `#` in front of a sentence are passed over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaggedConfig {
    /// Paths and globs, relative to the working directory, divided as `[split]` says: by whole sentences.
    #[schemars(length(min = 1))]
    pub files: Vec<String>,
    /// Files of the validation split; with them `split.validation` takes nothing from `files`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validation_files: Vec<String>,
    /// Files of the test split; with them `split.test` takes nothing from `files`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub test_files: Vec<String>,
    /// The column of a CoNLL file that holds the word, from 1.
    #[serde(default = "default_token_column")]
    #[schemars(range(min = 1))]
    pub token_column: usize,
    /// The column of a CoNLL file that holds the tag, from 1; without it the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub tag_column: Option<usize>,
    /// The field of a JSONL file that holds the list of words.
    #[serde(default = "default_tokens")]
    pub tokens: String,
    /// The field of a JSONL file that holds the list of tags, as long as that of words.
    #[serde(default = "default_tags")]
    pub tags: String,
    /// How the tags are written. All but `plain` are brought to `bio`, which is what a model learns.
    #[serde(default)]
    pub scheme: TagScheme,
    /// Whether an `I-X` that follows neither `B-X` nor `I-X` begins an entity, and counts as `B-X`; otherwise its sentence is
    /// a bad row.
    #[serde(default)]
    pub repair: bool,
    /// What to do with a sentence that is malformed.
    #[serde(default)]
    pub on_bad_row: OnBadRow,
}

impl TaggedConfig {
    /// The extension that such files usually have.
    pub(crate) const USUAL_EXTENSION: &str = "conll";

    /// What a file must hold, for a hint.
    pub(crate) const NEEDS: &str =
        "a line is a word, a space or a tab, and its tag; a .jsonl has one JSON object a line";

    /// One file with the usual columns and fields; its path is taken as it is written, without globs.
    pub fn of_file(path: &Path) -> Self {
        Self {
            files: vec![glob::Pattern::escape(&path.to_string_lossy())],
            validation_files: Vec::new(),
            test_files: Vec::new(),
            token_column: default_token_column(),
            tag_column: None,
            tokens: default_tokens(),
            tags: default_tags(),
            scheme: TagScheme::default(),
            repair: false,
            on_bad_row: OnBadRow::default(),
        }
    }
}

/// How the tags of entities are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TagScheme {
    /// `B-X` begins an entity, `I-X` continues it, `O` is outside (IOB2).
    #[default]
    Bio,
    /// `I-X` is inside an entity; `B-X` begins one only where another of the same kind ends right before it.
    Iob1,
    /// As `bio`, with `E-X` at the end of an entity and `S-X` for one of a single word (IOBES).
    Bioes,
    /// Any tags, such as parts of speech; nothing is checked.
    Plain,
}

fn default_token_column() -> usize {
    1
}

fn default_tokens() -> String {
    "tokens".into()
}

fn default_tags() -> String {
    "tags".into()
}
