//! The parts of a run's config that this crate owns. The documentation of the fields is the config reference.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the text comes from: exactly one of `[data.text]`, `[data.jsonl]`, `[data.csv]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SourceConfig {
    /// Plain UTF-8 text files.
    Text(TextConfig),
    /// JSON Lines: one JSON object a line, the text in a named field.
    Jsonl(RecordsConfig),
    /// CSV with a header line, the text in a named column.
    Csv(RecordsConfig),
}

impl SourceConfig {
    /// The paths and globs, as written.
    pub fn files(&self) -> &[String] {
        match self {
            Self::Text(text) => &text.files,
            Self::Jsonl(records) | Self::Csv(records) => &records.files,
        }
    }
}

/// Plain UTF-8 text files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TextConfig {
    /// Paths and globs, relative to the working directory. The files a glob matches are read in the order of their names.
    #[schemars(length(min = 1))]
    pub files: Vec<String>,
    /// Text between two documents of one file, such as `"\n\n"` or `"<|endoftext|>"`; it belongs to neither. Without it a file is one document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub separator: Option<String>,
}

/// Files of records with a text field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordsConfig {
    /// Paths and globs, relative to the working directory. The files a glob matches are read in the order of their names.
    #[schemars(length(min = 1))]
    pub files: Vec<String>,
    /// The field (JSONL) or column (CSV) that holds the text; each record is one document.
    #[serde(default = "default_field")]
    pub field: String,
}

fn default_field() -> String {
    "text".into()
}

/// How the documents are divided. One long document is cut in three contiguous parts (training first); several are
/// divided by whole documents, and two documents with the same text always land in the same part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SplitConfig {
    /// Fraction for validation, which the evaluations during training use.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub validation: f64,
    /// Fraction held out for a final test.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub test: f64,
    /// Decides which documents go where; without effect on one single document.
    pub seed: u64,
}

impl Default for SplitConfig {
    fn default() -> Self {
        Self { validation: 0.1, test: 0.0, seed: 1337 }
    }
}

/// The tokenizer: exactly one of `[tokenizer.char]`, `[tokenizer.bpe]`, `[tokenizer.wordpiece]`, `[tokenizer.unigram]`
/// (trained on the run's own text), `[tokenizer.file]` (opened).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TokenizerConfig {
    /// One token for every character of the text.
    Char(CharConfig),
    /// Byte-level byte-pair encoding, as GPT-2's: frequent pairs of tokens are merged, the most frequent first.
    Bpe(TrainedConfig),
    /// WordPiece over bytes: a word is cut into the longest known pieces from the left. Needs a `vocab_size` of at least 513.
    Wordpiece(TrainedConfig),
    /// Unigram over bytes: a word is cut into its most probable pieces.
    Unigram(UnigramConfig),
    /// A `tokenizer.json`, or a HuggingFace directory that has one.
    File(FileConfig),
}

/// A character-level tokenizer; it has no settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CharConfig {}

/// A BPE or WordPiece tokenizer trained on the run's text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainedConfig {
    /// Number of tokens, the 256 bytes and `<|endoftext|>` included. A short text may give fewer.
    #[schemars(range(min = 257))]
    pub vocab_size: usize,
    /// A pair of pieces must occur this often to become a token.
    #[serde(default = "default_min_frequency")]
    #[schemars(range(min = 1))]
    pub min_frequency: u64,
}

fn default_min_frequency() -> u64 {
    2
}

/// A Unigram tokenizer trained on the run's text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnigramConfig {
    /// Number of tokens, the 256 bytes and `<|endoftext|>` included. A short text may give fewer.
    #[schemars(range(min = 257))]
    pub vocab_size: usize,
}

/// An existing tokenizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// A `tokenizer.json`, or a HuggingFace directory that has one.
    pub path: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Run {
        data: SourceConfig,
        #[serde(default)]
        split: SplitConfig,
        tokenizer: TokenizerConfig,
    }

    #[test]
    fn defaults_fill_what_a_config_leaves_out() {
        let run: Run =
            toml::from_str("[data.csv]\nfiles = ['a.csv']\n[split]\nseed = 2\n[tokenizer.bpe]\nvocab_size = 300")
                .unwrap();
        let records = RecordsConfig { files: vec!["a.csv".into()], field: "text".into() };
        assert_eq!(run.data, SourceConfig::Csv(records));
        assert_eq!(run.split, SplitConfig { validation: 0.1, test: 0.0, seed: 2 });
        assert_eq!(run.tokenizer, TokenizerConfig::Bpe(TrainedConfig { vocab_size: 300, min_frequency: 2 }));
    }

    #[test]
    fn a_char_tokenizer_is_an_empty_table() {
        let run: Run = toml::from_str("[data.text]\nfiles = ['a']\nseparator = \"\\n\\n\"\n[tokenizer.char]").unwrap();
        assert_eq!(run.tokenizer, TokenizerConfig::Char(CharConfig {}));
    }

    #[test]
    fn an_unknown_key_is_refused_in_every_table() {
        for text in [
            "[data.text]\nfiles = []\nfield = 'x'\n[tokenizer.char]",
            "[data.jsonl]\nfiles = []\nseparator = 'x'\n[tokenizer.char]",
            "[data.text]\nfiles = []\n[split]\ntrain = 0.9\n[tokenizer.char]",
            "[data.text]\nfiles = []\n[tokenizer.char]\nvocab_size = 3",
            "[data.text]\nfiles = []\n[tokenizer.unigram]\nvocab_size = 300\nmin_frequency = 3",
            "[data.text]\nfiles = []\n[tokenizer.sentencepiece]",
        ] {
            assert!(toml::from_str::<Run>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_schema_carries_documentation_and_bounds() {
        let schema = serde_json::to_string(&schemars::schema_for!(TokenizerConfig)).unwrap();
        assert!(schema.contains("\"minimum\":257"), "{schema}");
        assert!(schema.contains("Number of tokens"), "{schema}");
    }
}
