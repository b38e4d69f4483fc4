//! `[data.labelled]`: texts with labels.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::default_field;

/// Texts with labels: `.csv` and `.tsv` with a header line, or `.jsonl`. For `[objective.masked_lm]` their texts are
/// divided in the same way, so that a classifier can be pre-trained on its own training part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelledConfig {
    /// Paths and globs, relative to the working directory, divided as `[split]` says: every part has its share of every
    /// label.
    #[schemars(length(min = 1))]
    pub files: Vec<String>,
    /// Files of the validation split; with them `split.validation` takes nothing from `files`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validation_files: Vec<String>,
    /// Files of the test split; with them `split.test` takes nothing from `files`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub test_files: Vec<String>,
    /// The column or field that holds the text.
    #[serde(default = "default_field")]
    pub text: String,
    /// The column or field of a second text, where pairs are classified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_pair: Option<String>,
    /// What the answer to a text is: `single_label`, exactly one label; `multi_label`, any number of labels; `regression`,
    /// a number up to 1e15, learned with the mean squared error by a head that starts, where none is loaded, at the training
    /// part's mean and deviation.
    #[serde(default)]
    pub problem: ProblemConfig,
    /// The column or field that holds the label.
    #[serde(default = "default_label")]
    pub label: String,
    /// What stands between the labels of a text that has several, for `problem = "multi_label"`. A JSON array of strings,
    /// numbers or truth values, also inside a CSV cell, needs none.
    #[serde(default = "default_label_separator")]
    #[schemars(length(min = 1))]
    pub label_separator: String,
    /// What is cut where a text or a pair does not fit. It is stored with the tokenizer, and `predict` and `eval` do it
    /// too.
    #[serde(default)]
    pub truncation: TruncationConfig,
    /// What to do with a row that is malformed, or has no text, or no label that `problem` takes.
    #[serde(default)]
    pub on_bad_row: OnBadRow,
}

impl LabelledConfig {
    /// The extension that such files usually have.
    pub(crate) const USUAL_EXTENSION: &str = "csv";

    /// What a file must hold, for a hint.
    pub(crate) const NEEDS: &str = "a .csv or .tsv has its rows below the header line, a .jsonl one JSON object a line";

    /// One file with the usual columns; its path is taken as it is written, without globs.
    pub fn of_file(path: &Path) -> Self {
        Self {
            files: vec![glob::Pattern::escape(&path.to_string_lossy())],
            validation_files: Vec::new(),
            test_files: Vec::new(),
            text: default_field(),
            text_pair: None,
            problem: ProblemConfig::default(),
            label: default_label(),
            label_separator: default_label_separator(),
            truncation: TruncationConfig::default(),
            on_bad_row: OnBadRow::default(),
        }
    }
}

/// What is cut, from its end, where a text or a pair does not fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TruncationConfig {
    /// The longer text of a pair, token by token, until both fit.
    #[default]
    LongestFirst,
    /// The first text of a pair alone; of the second only what is too long in itself.
    OnlyFirst,
    /// The second text of a pair alone; of the first only what is too long in itself.
    OnlySecond,
}

/// What to do with a row that cannot be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnBadRow {
    /// Stop and name its file and line.
    #[default]
    Error,
    /// Leave it out and count it.
    Skip,
}

/// What the answer to a text is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProblemConfig {
    /// Exactly one label.
    #[default]
    SingleLabel,
    /// Any number of labels.
    MultiLabel,
    /// A number.
    Regression,
}

fn default_label() -> String {
    "label".into()
}

fn default_label_separator() -> String {
    "|".into()
}
