//! `[objective]`: what is learned.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

/// One tag for each word, read at its first piece; it has no settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaggingConfig {}
