//! How well a model predicts.

use crate::forward::DeviceBatch;
use burn::tensor::Device;
use data::Batch;
use kernels::Precision;
use model::{Gpt, Pass};

/// A model's figures over some text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Mean loss a token, in nats.
    pub loss: f64,
    /// Share of tokens that the model's best guess was.
    pub accuracy: f64,
    /// Tokens predicted.
    pub tokens: u64,
}

impl Evaluation {
    /// The exponential of the loss.
    pub fn perplexity(&self) -> f64 {
        self.loss.exp()
    }
}

/// Evaluates `model` (outside autodiff, so without dropout) over `batches`. Zero tokens give a loss of NaN.
pub fn evaluate(
    model: &Gpt,
    batches: impl Iterator<Item = Batch>,
    precision: Precision,
    device: &Device,
) -> Evaluation {
    let (mut loss_sum, mut correct_sum, mut weight) = (0.0, 0.0, 0.0);
    for batch in batches {
        weight += batch.trained_weight()[0];
        let DeviceBatch { tokens, positions, segments, targets, weights } = DeviceBatch::new(&batch, device);
        let pass = Pass { segments, precision, randomness: None };
        let [loss, correct] = model.loss_and_correct_sum(tokens, positions, &pass, targets, weights);
        loss_sum += loss.into_scalar::<f64>();
        correct_sum += correct.into_scalar::<f64>();
    }
    Evaluation { loss: loss_sum / weight, accuracy: correct_sum / weight, tokens: weight as u64 }
}
