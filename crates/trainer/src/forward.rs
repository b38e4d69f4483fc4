//! A batch through a model: the loss of a micro-batch and the gradient of a whole step.

use crate::network::Trainable;
use burn::tensor::{Device, Tensor};
use data::Batch;
use kernels::Precision;
use model::checkpointed::{block_by_block, sum};
use model::weights::{self, Flat, Freeze};
use model::{Pass, Randomness};
use std::collections::BTreeMap;

/// How a step's gradient is computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOptions {
    /// Format of matrix products and attention.
    pub precision: Precision,
    /// The run's seed and the step, which decide what dropout drops; none drops nothing.
    pub randomness: Option<(u64, u64)>,
    /// What part of a target's probability the loss spreads over all classes or tokens.
    pub label_smoothing: f32,
    /// What the gradients are multiplied by on their way back; the caller divides by it. 1 outside f16.
    pub loss_scale: f64,
    /// Whether each block is computed again in the backward pass, so that of its inside nothing is kept.
    pub gradient_checkpointing: bool,
    /// NEFTune's `alpha`: how much noise the token embeddings get, if there is randomness.
    pub neftune_alpha: Option<f64>,
    /// What is not trained, as [`model::weights::freeze`] has told the model.
    pub frozen: Freeze,
}

impl Default for StepOptions {
    fn default() -> Self {
        Self {
            precision: Precision::F32,
            randomness: None,
            label_smoothing: 0.0,
            loss_scale: 1.0,
            gradient_checkpointing: false,
            neftune_alpha: None,
            frozen: Freeze::default(),
        }
    }
}

/// The gradient of one optimizer step.
pub struct StepGradient {
    /// Each term's mean loss over the step's targets, `[1]`.
    pub terms: Vec<Tensor<1>>,
    /// Every trained parameter's gradient of their sum, times the loss scale.
    pub gradients: Vec<Flat>,
}

impl StepGradient {
    /// The sum of all terms, `[1]`.
    pub fn loss(&self) -> Tensor<1> {
        sum(&self.terms)
    }
}

/// The gradient of the loss of all rows of `micro_batches` together: the sum of its terms, each a mean over its targets.
///
/// Each target's weight is divided by the weight of all of its term before its backward pass, so that any split of the
/// same rows gives the same gradient.
pub fn step_gradient<M: Trainable>(
    model: &M,
    micro_batches: &[Batch],
    options: StepOptions,
    device: &Device,
) -> StepGradient {
    let shares: Vec<f32> = trained_weights(micro_batches)
        .into_iter()
        // A step may choose nothing to be guessed.
        .map(|weight| if weight > 0.0 { (options.loss_scale / weight) as f32 } else { 0.0 })
        .collect();
    let mut first_row = 0;
    let mut sums: Option<Vec<Tensor<1>>> = None;
    let mut of_parameters = BTreeMap::new();
    for batch in micro_batches {
        let rows = batch.shape[0] as u64;
        let mut batch = M::arranged(batch.clone(), device);
        for (weights, share) in batch.weights.iter_mut().zip(&shares) {
            weights.iter_mut().for_each(|weight| *weight *= share);
        }
        let noise = |alpha| Pass::neftune(batch.shape, &batch.segments, alpha, device);
        let pass = Pass {
            embedding_noise: options.neftune_alpha.map(noise),
            segments: Pass::segments(batch.shape, &batch.segments, device),
            precision: options.precision,
            randomness: options.randomness.map(|(seed, step)| Randomness { seed, step, first_row }),
            label_smoothing: options.label_smoothing,
        };
        first_row += rows;
        let input = M::input(&batch, device);
        let terms = |model: &M, x| model.terms(x, &batch, &pass, device);
        let (terms, gradients) = match options.gradient_checkpointing {
            true => block_by_block(model, input, &pass, options.frozen, terms),
            false => {
                let terms = terms(model, model.leave(input, &pass));
                let mut gradients = sum(&terms).backward();
                (terms.into_iter().map(Tensor::inner).collect(), weights::gradients(model, &mut gradients))
            }
        };
        let terms = terms.into_iter().map(|term| term / options.loss_scale);
        sums = Some(match sums {
            None => terms.collect(),
            Some(sums) => sums.into_iter().zip(terms).map(|(a, b)| a + b).collect(),
        });
        weights::add(&mut of_parameters, gradients);
    }
    let terms = sums.expect("a step has at least one micro-batch");
    StepGradient { terms, gradients: weights::in_order(model, of_parameters) }
}

/// The weight of each loss term's targets over a whole step.
pub fn trained_weights(micro_batches: &[Batch]) -> Vec<f64> {
    let of_batches = micro_batches.iter().map(Batch::trained_weight);
    of_batches.reduce(|a, b| a.into_iter().zip(b).map(|(a, b)| a + b).collect()).unwrap_or_default()
}
