//! What a model is measured at.

use super::{MACRO, MICRO, SCORES, TOKEN, TOKEN_MACRO, WEIGHTED};

/// What a model is measured at, which decides what figures its evaluations have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Tokens: the next one, or those that are masked.
    Language,
    /// One label a text.
    SingleLabel,
    /// Any number of labels a text.
    MultiLabel,
    /// A number a text.
    Regression,
    /// A tag a word.
    Tagging,
}

impl Task {
    /// The names of the figures that evaluations of it have; `roc_auc` only where there are two labels.
    pub fn figures(self) -> Vec<&'static str> {
        let averages = || [SCORES, MACRO, MICRO, WEIGHTED].into_iter().flatten();
        let likelihood = ["loss", "perplexity", "accuracy"].into_iter();
        match self {
            Self::Language => likelihood.collect(),
            Self::SingleLabel => likelihood.chain(averages()).chain(["mcc", "roc_auc", "log_loss"]).collect(),
            Self::MultiLabel => likelihood.chain(averages()).chain(["hamming_loss"]).collect(),
            Self::Regression => vec!["loss", "mse", "rmse", "mae", "r2", "pearson", "spearman"],
            Self::Tagging => likelihood.chain(averages()).chain([TOKEN, TOKEN_MACRO].into_iter().flatten()).collect(),
        }
    }

    /// What learns it, with an article.
    pub fn described(self) -> &'static str {
        match self {
            Self::Language => "a language model",
            Self::SingleLabel => "a single-label classifier",
            Self::MultiLabel => "a multi-label classifier",
            Self::Regression => "a regression",
            Self::Tagging => "a tagger",
        }
    }

    /// What its loss is a mean of.
    pub fn loss_unit(self) -> &'static str {
        match self {
            Self::Language | Self::Tagging => "nats per token",
            Self::SingleLabel | Self::MultiLabel => "nats per example",
            Self::Regression => "mean squared error",
        }
    }
}
