//! `[augment]`: random changes to training rows.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Random changes to training rows, others in every epoch; a run says at its start what the first epoch changes.
/// Chinese words are found with jieba.
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
