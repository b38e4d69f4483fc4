//! `[clean]`: how texts are cleaned.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How labelled texts and conversations are cleaned before they are divided. Every key is off unless it is set. What
/// changes a text (from `trim` to `stem`) is stored with a classifier and done again by `predict` and `eval`. Of
/// conversations `lowercase`, `remove`, `stop_words` and `stem` would change what the model learns to say, and are
/// refused; `[redact]` replaces what shall not be learned. A run says at its start how many rows each key changed or
/// left out.
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
