//! How good predictions are: pure functions from truths and predictions to figures that scikit-learn, scipy,
//! seqeval, sacrebleu and rouge-score would give.
//!
//! One report a kind of task, each serializable as `firebox eval --json` prints it and as a table for a terminal.
//! A division by zero gives 0, scikit-learn's default; a figure that has no value at all (the correlation with a
//! constant) is NaN, which JSON shows as `null` and [`Report::metric`] as `None`.

mod answers;
mod classes;
mod multi_label;
mod ranking;
mod spread;
mod table;
mod tags;
mod task;
mod values;

#[cfg(test)]
mod golden;

pub use answers::AnswerReport;
pub use classes::{ClassReport, confusion_matrix, log_loss, matthews_correlation};
pub use multi_label::MultiLabelReport;
pub use ranking::{average_ranks, roc_auc};
pub use spread::Spread;
pub use tags::{Entity, TagReport, entities};
pub use task::Task;
pub use values::{ValueReport, pearson, spearman};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Predictions that no figure can be taken over: their number differs from the truths', or a class does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidPredictions(String);

impl std::fmt::Display for InvalidPredictions {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidPredictions {}

fn same_length(what: &str, given: usize, wanted: usize) -> Result<(), InvalidPredictions> {
    if given == wanted { Ok(()) } else { Err(InvalidPredictions(format!("{given} {what}, but {wanted} are needed"))) }
}

/// What every report can tell: its figures by name, so that early stopping and searches can ask for any.
pub trait Report {
    /// The figures that have a name, whether or not they are finite.
    fn figures(&self) -> Vec<(&'static str, f64)>;

    /// The figure of this name; `None` where the report has none of it or it is not defined for these predictions.
    fn metric(&self, name: &str) -> Option<f64> {
        self.figures().into_iter().find(|(known, value)| *known == name && value.is_finite()).map(|(_, value)| value)
    }

    /// All that [`Report::metric`] would give.
    fn metrics(&self) -> BTreeMap<String, f64> {
        let finite = self.figures().into_iter().filter(|(_, value)| value.is_finite());
        finite.map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// Whether more of the named figure is better; `None` for a name that no report knows.
pub fn higher_is_better(name: &str) -> Option<bool> {
    match name {
        "accuracy"
        | "precision"
        | "recall"
        | "f1"
        | "micro_precision"
        | "micro_recall"
        | "micro_f1"
        | "macro_precision"
        | "macro_recall"
        | "macro_f1"
        | "weighted_precision"
        | "weighted_recall"
        | "weighted_f1"
        | "token_precision"
        | "token_recall"
        | "token_f1"
        | "token_macro_precision"
        | "token_macro_recall"
        | "token_macro_f1"
        | "mcc"
        | "roc_auc"
        | "r2"
        | "pearson"
        | "spearman"
        | "exact_match"
        | "bleu"
        | "rougeL" => Some(true),
        "loss" | "log_loss" | "perplexity" | "hamming_loss" | "mse" | "rmse" | "mae" => Some(false),
        _ => None,
    }
}

/// The exponential of a mean loss in nats a token.
pub fn perplexity(loss: f64) -> f64 {
    loss.exp()
}

/// Precision, recall and their harmonic mean.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Of what was predicted, the share that is right.
    pub precision: f64,
    /// Of what is there, the share that was found.
    pub recall: f64,
    /// Harmonic mean of both.
    pub f1: f64,
}

impl Scores {
    /// Precision, recall and F1 under these names.
    fn named(self, names: [&'static str; 3]) -> impl Iterator<Item = (&'static str, f64)> {
        names.into_iter().zip([self.precision, self.recall, self.f1])
    }
}

/// What precision, recall and F1 are called where a report has one of each first.
const SCORES: [&str; 3] = ["precision", "recall", "f1"];
/// What they are called as a mean over classes.
const MACRO: [&str; 3] = ["macro_precision", "macro_recall", "macro_f1"];
/// What they are called from counts over all classes.
const MICRO: [&str; 3] = ["micro_precision", "micro_recall", "micro_f1"];
/// What they are called as a mean over classes weighted by how often each occurs.
const WEIGHTED: [&str; 3] = ["weighted_precision", "weighted_recall", "weighted_f1"];
/// What those of single words are called, from counts over all tags but `O`.
const TOKEN: [&str; 3] = ["token_precision", "token_recall", "token_f1"];
/// What those of single words are called, as a mean over all tags but `O`.
const TOKEN_MACRO: [&str; 3] = ["token_macro_precision", "token_macro_recall", "token_macro_f1"];

/// The scores of one class, label or entity type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NamedScores {
    /// The class.
    pub label: String,
    /// How well it is recognized.
    #[serde(flatten)]
    pub scores: Scores,
    /// How often it occurs in the truth.
    pub support: u64,
    /// How often it was predicted.
    pub predicted: u64,
}

/// Counts from which [`Scores`] are taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    /// Predicted and true.
    right: u64,
    predicted: u64,
    support: u64,
}

impl Counts {
    fn scores(self) -> Scores {
        Scores {
            precision: ratio(self.right as f64, self.predicted as f64),
            recall: ratio(self.right as f64, self.support as f64),
            f1: ratio(2.0 * self.right as f64, (self.predicted + self.support) as f64),
        }
    }

    fn named(self, label: &str) -> NamedScores {
        NamedScores { label: label.to_owned(), scores: self.scores(), support: self.support, predicted: self.predicted }
    }
}

/// Scores of several classes as one, in the three usual ways.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Averages {
    /// Every class counts the same.
    macro_: Scores,
    /// Every example counts the same: counts are added up first.
    micro: Scores,
    /// Every class counts as often as it occurs.
    weighted: Scores,
}

impl Averages {
    fn of(counts: &[Counts]) -> Self {
        let mut sum = Counts::default();
        for class in counts {
            sum.right += class.right;
            sum.predicted += class.predicted;
            sum.support += class.support;
        }
        Self {
            macro_: weighted_mean(counts.iter().map(|class| (1.0, class.scores()))),
            micro: sum.scores(),
            weighted: weighted_mean(counts.iter().map(|class| (class.support as f64, class.scores()))),
        }
    }
}

fn weighted_mean(scores: impl Iterator<Item = (f64, Scores)>) -> Scores {
    let (mut sum, mut total) = (Scores::default(), 0.0);
    for (weight, scores) in scores {
        sum.precision += weight * scores.precision;
        sum.recall += weight * scores.recall;
        sum.f1 += weight * scores.f1;
        total += weight;
    }
    Scores { precision: ratio(sum.precision, total), recall: ratio(sum.recall, total), f1: ratio(sum.f1, total) }
}

/// `a / b`, and 0 where that is not defined.
fn ratio(a: f64, b: f64) -> f64 {
    if b == 0.0 { 0.0 } else { a / b }
}
