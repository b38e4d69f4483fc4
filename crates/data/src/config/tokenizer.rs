//! `[tokenizer]`: how texts are cut in tokens.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
