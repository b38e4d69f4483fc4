//! The parts of a run's config that this crate owns. The documentation of the fields is the config reference.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod augment;
mod chat;
mod clean;
mod labelled;
mod objective;
mod redact;
mod tagged;
mod template;
mod tokenizer;

pub use augment::{AugmentConfig, SubwordsConfig, SynonymsConfig};
pub use chat::{ChatColumns, ChatConfig, ChatFiles, ChatFormat, WeightedFiles};
pub use clean::{CleanConfig, StemLanguage};
pub use labelled::{LabelledConfig, OnBadRow, ProblemConfig, TruncationConfig};
pub use objective::{CausalConfig, ClassWeights, ClassificationConfig, MaskedLmConfig, ObjectiveConfig, TaggingConfig};
pub use redact::{RedactConfig, RedactKind, RedactPattern};
pub use tagged::{TagScheme, TaggedConfig};
pub use template::{ChatTrainingConfig, ChatTruncation, TemplateName, TrainOn};
pub use tokenizer::{
    BertTokenizerConfig, CharConfig, FileConfig, TokenLevel, TokenizerConfig, TrainedConfig, UnigramConfig,
};

/// Where the text comes from: exactly one of `[data.text]`, `[data.jsonl]`, `[data.csv]`, `[data.labelled]`,
/// `[data.tagged]`, `[data.chat]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SourceConfig {
    /// Plain UTF-8 text files.
    Text(TextConfig),
    /// JSON Lines: one JSON object a line, the text in a named field.
    Jsonl(RecordsConfig),
    /// CSV with a header line, the text in a named column.
    Csv(RecordsConfig),
    /// Texts with labels, for a classifier: CSV, TSV or JSONL by the file's extension.
    Labelled(LabelledConfig),
    /// Sentences whose words carry tags: CoNLL, or JSONL by the file's extension.
    Tagged(TaggedConfig),
    /// Conversations, for a chat model.
    Chat(ChatConfig),
}

impl SourceConfig {
    /// The paths and globs, as written.
    pub fn files(&self) -> Vec<&str> {
        let files = match self {
            Self::Text(text) => &text.files,
            Self::Jsonl(records) | Self::Csv(records) => &records.files,
            Self::Labelled(labelled) => &labelled.files,
            Self::Tagged(tagged) => &tagged.files,
            Self::Chat(chat) => return chat.files.iter().map(ChatFiles::path).collect(),
        };
        written(files)
    }

    /// Every list of paths and globs, as written, with its key.
    pub fn file_lists(&self) -> [(&'static str, Vec<&str>); 3] {
        let (validation, test): (&[String], &[String]) = match self {
            Self::Labelled(labelled) => (&labelled.validation_files, &labelled.test_files),
            Self::Tagged(tagged) => (&tagged.validation_files, &tagged.test_files),
            Self::Chat(chat) => (&chat.validation_files, &chat.test_files),
            Self::Text(_) | Self::Jsonl(_) | Self::Csv(_) => (&[], &[]),
        };
        [("files", self.files()), ("validation_files", written(validation)), ("test_files", written(test))]
    }

    /// The extension that such files usually have.
    pub(crate) fn usual_extension(&self) -> &'static str {
        match self {
            Self::Text(_) => "txt",
            Self::Jsonl(_) => "jsonl",
            Self::Chat(_) => ChatConfig::USUAL_EXTENSION,
            Self::Csv(_) => "csv",
            Self::Labelled(_) => LabelledConfig::USUAL_EXTENSION,
            Self::Tagged(_) => TaggedConfig::USUAL_EXTENSION,
        }
    }

    /// What a file must hold, for a hint.
    pub(crate) fn needs(&self) -> &'static str {
        match self {
            Self::Text(_) => "a document is what stands between two of `separator`",
            Self::Jsonl(_) | Self::Csv(_) | Self::Chat(_) => "a record has its text in the field that `field` names",
            Self::Labelled(_) => LabelledConfig::NEEDS,
            Self::Tagged(_) => TaggedConfig::NEEDS,
        }
    }
}

fn written(files: &[String]) -> Vec<&str> {
    files.iter().map(String::as_str).collect()
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
    /// Of labelled texts: divides what the test split leaves into so many parts, each with its share of every label, and
    /// validates with part `fold` in place of `validation`, and of `validation_files`, which must not stand beside it.
    /// `firebox cv` trains one run a fold.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2))]
    pub folds: Option<usize>,
    /// The fold that validates, from 0.
    #[serde(skip_serializing_if = "is_zero")]
    pub fold: usize,
    /// Of labelled texts: trains on as many rows, drawn from the training part with replacement by this seed. `firebox cv
    /// --bag` trains one run a seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<u64>,
}

fn is_zero(fold: &usize) -> bool {
    *fold == 0
}

impl Default for SplitConfig {
    fn default() -> Self {
        Self { validation: 0.1, test: 0.0, seed: 1337, folds: None, fold: 0, bootstrap: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Run {
        data: SourceConfig,
        #[serde(default)]
        split: SplitConfig,
        #[serde(default)]
        clean: CleanConfig,
        #[serde(default)]
        augment: AugmentConfig,
        tokenizer: TokenizerConfig,
    }

    #[test]
    fn defaults_fill_what_a_config_leaves_out() {
        let run: Run =
            toml::from_str("[data.csv]\nfiles = ['a.csv']\n[split]\nseed = 2\n[tokenizer.bpe]\nvocab_size = 300")
                .unwrap();
        let records = RecordsConfig { files: vec!["a.csv".into()], field: "text".into() };
        assert_eq!(run.data, SourceConfig::Csv(records));
        assert_eq!(run.split, SplitConfig { seed: 2, ..SplitConfig::default() });
        assert_eq!((run.clean, run.augment), Default::default());
        assert_eq!(run.tokenizer, TokenizerConfig::Bpe(TrainedConfig { vocab_size: 300, min_frequency: 2 }));
    }

    #[test]
    fn a_char_tokenizer_is_an_empty_table() {
        let run: Run = toml::from_str("[data.text]\nfiles = ['a']\nseparator = \"\\n\\n\"\n[tokenizer.char]").unwrap();
        assert_eq!(run.tokenizer, TokenizerConfig::Char(CharConfig {}));
    }

    #[test]
    fn a_tagged_source_and_next_sentences_have_defaults() {
        let run: Run = toml::from_str("[data.tagged]\nfiles = ['a']\nscheme = 'bioes'\n[tokenizer.char]").unwrap();
        let SourceConfig::Tagged(tagged) = &run.data else { panic!("[data.tagged]") };
        assert_eq!((tagged.token_column, tagged.tag_column, tagged.scheme), (1, None, TagScheme::Bioes));
        assert_eq!((tagged.tokens.as_str(), tagged.tags.as_str(), tagged.repair), ("tokens", "tags", false));
        assert_eq!(run.data.files(), ["a"]);
        assert!(toml::from_str::<Run>("[data.tagged]\nfiles = ['a']\nlabels = 'x'\n[tokenizer.char]").is_err());
        assert!(!toml::from_str::<MaskedLmConfig>("").unwrap().next_sentence);
        let objective: ObjectiveConfig = toml::from_str("[tagging]").unwrap();
        assert_eq!(objective, ObjectiveConfig::Tagging(TaggingConfig {}));
    }

    #[test]
    fn an_unknown_key_is_refused_in_every_table() {
        for text in [
            "[data.text]\nfiles = []\nfield = 'x'\n[tokenizer.char]",
            "[data.jsonl]\nfiles = []\nseparator = 'x'\n[tokenizer.char]",
            "[data.text]\nfiles = []\n[split]\ntrain = 0.9\n[tokenizer.char]",
            "[data.text]\nfiles = []\n[clean]\nlower = true\n[tokenizer.char]",
            "[data.text]\nfiles = []\n[augment]\ninsert = 0.1\n[tokenizer.char]",
            "[data.text]\nfiles = []\n[augment.synonyms]\nfile = 'a'\nprobability = 0.1\np = 1\n[tokenizer.char]",
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
