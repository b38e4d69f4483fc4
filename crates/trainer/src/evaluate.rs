//! How well a model predicts.

use crate::forward::segments;
use crate::metrics::{ClassReport, InvalidPredictions};
use crate::network::{Judged, Network, Trainable};
use burn::tensor::Device;
use data::{Batch, Target};
use kernels::Precision;
use model::Pass;

/// A model's figures over some text.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Mean loss a target, in nats.
    pub loss: f64,
    /// Share of targets that the model's best guess was.
    pub accuracy: f64,
    /// Targets predicted: tokens, or rows of a classifier.
    pub tokens: u64,
    /// What a classifier predicted.
    pub classes: Option<ClassPredictions>,
}

/// What a classifier predicted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClassPredictions {
    /// Each row's class.
    pub truth: Vec<usize>,
    /// Each row's probabilities, `[rows, classes]`.
    pub probabilities: Vec<f32>,
}

impl ClassPredictions {
    /// The figures of the most probable classes; `labels` names the classes.
    ///
    /// # Errors
    /// Labels that do not fit.
    pub fn report(&self, labels: &[String]) -> Result<ClassReport, InvalidPredictions> {
        let predicted: Vec<usize> = self.probabilities.chunks_exact(labels.len().max(1)).map(best).collect();
        ClassReport::new(labels, &self.truth, &predicted, Some(&self.probabilities))
    }
}

/// The place of the largest number, the first of several.
pub fn best(values: &[f32]) -> usize {
    (0..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

impl Evaluation {
    /// The exponential of the loss.
    pub fn perplexity(&self) -> f64 {
        self.loss.exp()
    }
}

/// Evaluates `model` (outside autodiff, so without dropout) over `batches`. Zero targets give a loss of NaN.
pub fn evaluate<M: Trainable>(
    model: &M,
    batches: impl Iterator<Item = Batch>,
    precision: Precision,
    device: &Device,
) -> Evaluation {
    over(batches, precision, device, |batch, pass| model.judge(batch, pass, device))
}

/// The same for a model of any family.
pub fn evaluate_network(
    network: &Network,
    batches: impl Iterator<Item = Batch>,
    precision: Precision,
    device: &Device,
) -> Evaluation {
    over(batches, precision, device, |batch, pass| network.judge(batch, pass, device))
}

fn over(
    batches: impl Iterator<Item = Batch>,
    precision: Precision,
    device: &Device,
    judge: impl Fn(&Batch, &Pass) -> Judged,
) -> Evaluation {
    let (mut loss_sum, mut correct_sum, mut weight) = (0.0, 0.0, 0.0);
    let mut classes: Option<ClassPredictions> = None;
    for batch in batches {
        weight += batch.trained_weight()[0];
        let pass = Pass { segments: segments(&batch, device), precision, randomness: None };
        let judged = judge(&batch, &pass);
        loss_sum += judged.loss_sum;
        correct_sum += judged.correct;
        if let Target::Classes(truth) = &batch.targets[0] {
            let classes = classes.get_or_insert_default();
            classes.truth.extend(truth.iter().map(|class| *class as usize));
            classes.probabilities.extend(judged.probabilities);
        }
    }
    Evaluation { loss: loss_sum / weight, accuracy: correct_sum / weight, tokens: weight as u64, classes }
}
