//! How well a model predicts.

use crate::forward::DeviceBatch;
use burn::tensor::Device;
use data::Batch;
use model::{Gpt, loss};

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
pub fn evaluate(model: &Gpt, batches: impl Iterator<Item = Batch>, device: &Device) -> Evaluation {
    let (mut loss_sum, mut correct, mut weight) = (0.0, 0.0, 0.0);
    for batch in batches {
        weight += batch.trained_weight()[0];
        let batch = DeviceBatch::new(&batch, device);
        let logits = model.forward(batch.tokens, batch.positions, &batch.visibility);
        correct += loss::correct_sum(logits.clone(), batch.targets.clone(), batch.weights.clone()).into_scalar::<f64>();
        loss_sum += loss::cross_entropy_sum(logits, batch.targets, batch.weights).into_scalar::<f64>();
    }
    Evaluation { loss: loss_sum / weight, accuracy: correct / weight, tokens: weight as u64 }
}
