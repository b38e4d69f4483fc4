//! How well a model predicts.

use crate::network::{Network, TermSums, Trainable};
use crate::predictions::Predictions;
use burn::tensor::Device;
use data::Batch;
use kernels::Precision;
use model::Pass;

/// A model's figures over some text.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// The sum of the mean losses of all terms that have targets: in nats, but for a squared error.
    pub loss: f64,
    /// Share of the first term's targets that the model's best guess was.
    pub accuracy: f64,
    /// Targets of the first term: tokens, or rows of a classifier.
    pub tokens: u64,
    /// Each loss term's figures, in the batches' order.
    pub terms: Vec<TermFigures>,
    /// What a classifier answered.
    pub predictions: Option<Predictions>,
}

/// A loss term's figures; NaN where it has no target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TermFigures {
    /// The weight of its targets.
    pub weight: f64,
    /// Mean loss a target.
    pub loss: f64,
    /// Share of targets that the model's best guess was.
    pub accuracy: f64,
}

impl Evaluation {
    /// Whether there was anything to predict. Of masked texts it may be that no token was chosen.
    pub fn has_targets(&self) -> bool {
        self.terms.iter().any(|term| term.weight > 0.0)
    }

    /// The exponential of the first term's loss, which is that of tokens where there are several.
    pub fn perplexity(&self) -> f64 {
        self.terms.first().map_or(f64::NAN, |term| term.loss.exp())
    }
}

/// As [`evaluate`], for a model of any family.
pub fn evaluate_network(
    network: &Network,
    batches: impl Iterator<Item = Batch>,
    precision: Precision,
    device: &Device,
) -> Evaluation {
    match network {
        Network::Gpt(model) => evaluate(model, batches, precision, device),
        Network::Bert(model) => evaluate(model, batches, precision, device),
    }
}

/// Evaluates `model` (outside autodiff, so without dropout) over `batches`. Zero targets give a loss of NaN.
pub fn evaluate<M: Trainable>(
    model: &M,
    batches: impl Iterator<Item = Batch>,
    precision: Precision,
    device: &Device,
) -> Evaluation {
    let mut sums: Vec<(TermSums, f64)> = Vec::new();
    let mut predictions: Option<Predictions> = None;
    for batch in batches {
        let batch = M::arranged(batch, device);
        let segments = Pass::segments(batch.shape, &batch.segments, device);
        let judged = model.judge(&batch, &Pass { segments, precision, ..Pass::default() }, device);
        sums.resize(judged.terms.len().max(sums.len()), Default::default());
        for ((sum, weight), (of_batch, of_term)) in sums.iter_mut().zip(judged.terms.iter().zip(batch.trained_weight()))
        {
            sum.loss += of_batch.loss;
            sum.correct += of_batch.correct;
            *weight += of_term;
        }
        match (&mut predictions, judged.predictions) {
            (Some(all), Some(more)) => all.extend(more),
            (None, more) => predictions = more,
            (Some(_), None) => {}
        }
    }
    let terms: Vec<TermFigures> = sums
        .iter()
        .map(|&(sum, weight)| TermFigures { weight, loss: sum.loss / weight, accuracy: sum.correct / weight })
        .collect();
    let first = terms.first().copied();
    Evaluation {
        loss: terms
            .iter()
            .filter(|term| term.weight > 0.0)
            .map(|term| term.loss)
            .reduce(|a, b| a + b)
            .unwrap_or(f64::NAN),
        accuracy: first.map_or(f64::NAN, |term| term.accuracy),
        tokens: sums.first().map_or(0, |(_, weight)| *weight as u64),
        terms,
        predictions,
    }
}
