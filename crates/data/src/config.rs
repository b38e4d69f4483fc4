//! The parts of a run's config that this crate owns. The documentation of the fields is the config reference.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod chat;
mod redact;
mod tagged;
mod template;

pub use chat::{ChatColumns, ChatConfig, ChatFiles, ChatFormat, WeightedFiles};
pub use redact::{RedactConfig, RedactKind, RedactPattern};
pub use tagged::{TagScheme, TaggedConfig};
pub use template::{ChatTrainingConfig, ChatTruncation, TemplateName, TrainOn};

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
        files.iter().map(String::as_str).collect()
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
    /// a number, learned with the mean squared error.
    #[serde(default)]
    pub problem: ProblemConfig,
    /// The column or field that holds the label.
    #[serde(default = "default_label")]
    pub label: String,
    /// What stands between the labels of a text that has several, for `problem = "multi_label"`. A JSON array of strings,
    /// also inside a CSV cell, needs none.
    #[serde(default = "default_label_separator")]
    #[schemars(length(min = 1))]
    pub label_separator: String,
    /// What is cut where a text or a pair does not fit. It is stored with the tokenizer, and `predict` and `eval` do it
    /// too.
    #[serde(default)]
    pub truncation: TruncationConfig,
    /// What to do with a row that is malformed or has no text or no label.
    #[serde(default)]
    pub on_bad_row: OnBadRow,
}

impl LabelledConfig {
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

fn default_label() -> String {
    "label".into()
}

fn default_label_separator() -> String {
    "|".into()
}

/// How labelled texts and conversations are cleaned before they are divided. Every key is off unless it is set. What
/// changes a text (from `trim` to `stem`) is stored with a classifier and done again by `predict` and `eval`. Of
/// conversations `lowercase`, `remove`, `stop_words` and `stem` would change what the model learns to say, and are
/// refused; `[redact]` replaces what shall not be learned.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CleanConfig {
    /// Whether white space at both ends goes, after everything else.
    pub trim: bool,
    /// Whether line ends become `\n`, Unicode's other spaces plain ones, and control characters, byte-order marks and
    /// characters that could not be decoded go, in any language; before everything else.
    pub repair: bool,
    /// Whether text is brought to Unicode's normal form C, so that an accented letter is written in one way.
    pub nfc: bool,
    /// Whether text is lower-cased.
    pub lowercase: bool,
    /// Regular expressions, in the syntax of Rust's `regex`; what they match is removed, one after the other.
    pub remove: Vec<String>,
    /// Words to remove: `english`, `chinese` (after segmentation with jieba), or the path of a file with one word a line.
    /// The two lists are NLTK's; they hold negations, which a sentiment may hang on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_words: Option<String>,
    /// The language whose Snowball stemmer cuts words to their stems, which are lower case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stem: Option<StemLanguage>,
    /// Whether rows without text, in the file or after cleaning, are left out; of conversations those in which the
    /// assistant says nothing, or nobody else does.
    pub drop_empty: bool,
    /// Leaves out rows with fewer characters than this, all texts of the row together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_characters: Option<u64>,
    /// Leaves out rows with more characters than this, all texts of the row together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_characters: Option<u64>,
    /// Leaves out conversations with fewer messages than this; those of the system do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_turns: Option<u64>,
    /// Leaves out conversations with more messages than this; those of the system do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_turns: Option<u64>,
    /// Whether rows whose text stands before, after cleaning, are left out, whatever their label.
    pub drop_duplicates: bool,
    /// Leaves out rows that are as similar as this, or more, to a row before (with the same label): the share of runs of
    /// five characters that they have in common (Jaccard).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0), range(max = 1.0))]
    pub drop_near_duplicates: Option<f64>,
    /// Whether training rows whose text, after cleaning, stands in the validation or test part are named and left out; of
    /// conversations also those that are as similar as `drop_near_duplicates` says, where that is set.
    pub check_leakage: bool,
}

/// A language that words can be stemmed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum StemLanguage {
    Arabic,
    Danish,
    Dutch,
    English,
    Finnish,
    French,
    German,
    Greek,
    Hungarian,
    Italian,
    Norwegian,
    Portuguese,
    Romanian,
    Russian,
    Spanish,
    Swedish,
    Tamil,
    Turkish,
}

/// Random changes to training rows, others in every epoch. Chinese words are found with jieba.
///
/// Source: Wei and Zou 2019, "EDA: Easy Data Augmentation Techniques".
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AugmentConfig {
    /// Probability that a word is deleted; the last one stays.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub delete: f64,
    /// Probability that a word changes places with another of its text.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub swap: f64,
    /// Replaces words by synonyms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synonyms: Option<SynonymsConfig>,
    /// Cuts texts in other tokens, with a Unigram tokenizer; also of short documents for masked language modelling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subwords: Option<SubwordsConfig>,
}

/// Synonyms from a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SynonymsConfig {
    /// A file of words that mean the same, one group a line, separated by commas.
    pub file: PathBuf,
    /// Probability that a word that has synonyms is replaced by one of them.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub probability: f64,
}

/// Subword regularization: of all ways to write a word in tokens one is drawn, by its probability to a power.
///
/// Source: Kudo 2018, "Subword Regularization".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubwordsConfig {
    /// The power: the nearer to 0, the more alike all ways; 1 is the tokenizer's own probability.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub alpha: f64,
}

/// What is learned: exactly one of `[objective.causal]`, `[objective.masked_lm]`, `[objective.classification]`,
/// `[objective.tagging]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ObjectiveConfig {
    /// Each token from those before it: what a GPT learns.
    Causal(CausalConfig),
    /// Masked tokens from all others: what a BERT is pre-trained with.
    MaskedLm(MaskedLmConfig),
    /// One label for each text.
    Classification(ClassificationConfig),
    /// One tag for each word.
    Tagging(TaggingConfig),
}

/// Causal language modelling; it has no settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CausalConfig {}

/// Masked language modelling: of the chosen tokens 80% are replaced by `[MASK]`, 10% by a random token, and 10% stay.
/// Every epoch chooses others. Where documents are short, a row holds several whole ones, none of which sees another; of
/// long ones it holds a window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MaskedLmConfig {
    /// Share of the tokens that are chosen; special tokens never are.
    #[schemars(extend("exclusiveMinimum" = 0), range(max = 1.0))]
    pub probability: f64,
    /// Whether all tokens of a word are chosen together; with `[tokenizer.bert]` only WordPiece marks which those are.
    pub whole_word: bool,
    /// Whether rows are pairs of segments, and the model also learns whether the second is what follows the first in its
    /// document; half of them are of another one. Needs two documents or more.
    pub next_sentence: bool,
}

impl Default for MaskedLmConfig {
    fn default() -> Self {
        Self { probability: 0.15, whole_word: false, next_sentence: false }
    }
}

/// Classification of whole texts, or a number for each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClassificationConfig {
    /// How much an example counts: `none`, all alike; `balanced`, so that every label counts alike. For `single_label`.
    pub class_weights: ClassWeights,
    /// How much an example of a label counts, by the label's name; 1 where none is given. In place of `class_weights`,
    /// for `single_label`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub label_weights: BTreeMap<String, f64>,
    /// Of `multi_label`: the probability from which a label counts as given. It is stored with the model.
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub threshold: f64,
}

impl Default for ClassificationConfig {
    fn default() -> Self {
        Self { class_weights: ClassWeights::default(), label_weights: BTreeMap::new(), threshold: 0.5 }
    }
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

/// One tag for each word, read at its first piece; it has no settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaggingConfig {}

/// How much an example counts by its label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClassWeights {
    /// All alike.
    #[default]
    None,
    /// Examples over labels times the label's examples, as scikit-learn's `balanced`.
    Balanced,
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
    /// validates with part `fold` in place of `validation`. `firebox cv` trains one run a fold.
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

/// The tokenizer: exactly one of `[tokenizer.char]`, `[tokenizer.bpe]`, `[tokenizer.wordpiece]`, `[tokenizer.unigram]`,
/// `[tokenizer.bert]` (trained on the run's own text), `[tokenizer.file]` (opened).
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
    /// What a BERT reads: `[CLS]`, `[SEP]`, `[MASK]`, `[PAD]` and `[UNK]` beside the pieces of words, or characters.
    Bert(BertTokenizerConfig),
    /// A `tokenizer.json`, a BERT's `vocab.txt`, or a HuggingFace directory that has one of the two.
    File(FileConfig),
}

/// A BERT tokenizer trained on the run's text, with BERT's normalizer: control characters go and, but for `unigram`,
/// every Han character stands alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BertTokenizerConfig {
    /// Number of tokens, the five special ones included. A short text may give fewer.
    #[schemars(range(min = 6))]
    pub vocab_size: usize,
    /// A piece or character must occur this often to become a token (of `unigram`'s, only a character); rarer
    /// characters are `[UNK]`.
    #[serde(default = "default_min_frequency")]
    #[schemars(range(min = 1))]
    pub min_frequency: u64,
    /// Whether text is lower-cased and accents are stripped.
    #[serde(default = "default_lowercase")]
    pub lowercase: bool,
    /// `wordpiece`, pieces of words; `char`, single characters; or `unigram`, the most probable pieces of what stands
    /// between spaces and punctuation, for scripts that write words without spaces.
    #[serde(default)]
    pub level: TokenLevel,
}

/// What a token of a BERT tokenizer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenLevel {
    /// A word or the longest known piece of one.
    #[default]
    Wordpiece,
    /// A character that is not white space.
    Char,
    /// A piece of a unigram language model, which finds the words of a script that puts no spaces between them.
    Unigram,
}

fn default_lowercase() -> bool {
    true
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
    /// A `tokenizer.json`, a BERT's `vocab.txt`, or a HuggingFace directory that has one of the two.
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
