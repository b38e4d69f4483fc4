//! A batch through a model: the loss of a micro-batch and the gradient of a whole step.

use burn::tensor::{Device, Int, Tensor, TensorData};
use data::{Batch, Target};
use kernels::Precision;
use model::weights::{self, Flat};
use model::{Gpt, Pass, Randomness};

/// A batch on a device.
pub struct DeviceBatch {
    /// `[rows, seq]`.
    pub tokens: Tensor<2, Int>,
    /// `[rows, seq]`.
    pub positions: Tensor<2, Int>,
    /// Where each position may attend, `[rows, seq]`; none: everywhere before it.
    pub segments: Option<Tensor<2, Int>>,
    /// `[rows, seq]`.
    pub targets: Tensor<2, Int>,
    /// `[rows, seq]`.
    pub weights: Tensor<2>,
}

impl DeviceBatch {
    /// Uploads a causal batch.
    pub fn new(batch: &Batch, device: &Device) -> Self {
        let shape = batch.shape;
        let ids = |values: &[u32]| {
            let values: Vec<i32> = values.iter().map(|id| *id as i32).collect();
            Tensor::<2, Int>::from_data(TensorData::new(values, shape), device)
        };
        let segments = (!batch.single_segment()).then(|| ids(&batch.segments));
        let Target::Tokens(targets) = &batch.targets[0];
        Self {
            tokens: ids(&batch.tokens),
            positions: ids(&batch.positions),
            segments,
            targets: ids(targets),
            weights: Tensor::from_data(TensorData::new(batch.weights[0].clone(), shape), device),
        }
    }
}

/// How a step's gradient is computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOptions {
    /// Format of matrix products and attention.
    pub precision: Precision,
    /// The run's seed and the step, which decide what dropout drops; none drops nothing.
    pub randomness: Option<(u64, u64)>,
    /// What the gradients are multiplied by on their way back; the caller divides by it. 1 outside f16.
    pub loss_scale: f64,
    /// Whether each block is computed again in the backward pass, so that of its inside nothing is kept.
    pub gradient_checkpointing: bool,
}

impl Default for StepOptions {
    fn default() -> Self {
        Self { precision: Precision::F32, randomness: None, loss_scale: 1.0, gradient_checkpointing: false }
    }
}

/// The gradient of one optimizer step.
pub struct StepGradient {
    /// The mean loss over the step's trained tokens, `[1]`, in nats.
    pub loss: Tensor<1>,
    /// Every parameter's gradient of that mean, times the loss scale.
    pub gradients: Vec<Flat>,
}

/// The gradient of the mean loss over all trained tokens of `micro_batches` together.
///
/// Each target's weight is divided by the weight of all of them before its backward pass, so that any split of the same
/// rows gives the same gradient.
pub fn step_gradient(model: &Gpt, micro_batches: &[Batch], options: StepOptions, device: &Device) -> StepGradient {
    let weight: f64 = micro_batches.iter().map(|batch| batch.trained_weight()[0]).sum();
    let mut first_row = 0;
    let mut sum: Option<StepGradient> = None;
    for batch in micro_batches {
        let rows = batch.shape[0] as u64;
        let mut batch = DeviceBatch::new(batch, device);
        batch.weights = batch.weights * (options.loss_scale / weight);
        let pass = Pass {
            segments: batch.segments.clone(),
            precision: options.precision,
            randomness: options.randomness.map(|(seed, step)| Randomness { seed, step, first_row }),
        };
        first_row += rows;
        let step = match options.gradient_checkpointing {
            false => whole(model, batch, &pass),
            true => model::checkpointed::block_by_block(
                model,
                batch.tokens,
                batch.positions,
                &pass,
                batch.targets,
                batch.weights,
            ),
        };
        let step = StepGradient { loss: step.0 / options.loss_scale, gradients: step.1 };
        sum = Some(match sum {
            None => step,
            Some(sum) => StepGradient {
                loss: sum.loss + step.loss,
                gradients: sum
                    .gradients
                    .into_iter()
                    .zip(step.gradients)
                    .map(|(a, b)| Flat { values: a.values + b.values, ..a })
                    .collect(),
            },
        });
    }
    sum.expect("a step has at least one micro-batch")
}

/// Loss and gradients with everything between forward and backward kept.
fn whole(model: &Gpt, batch: DeviceBatch, pass: &Pass) -> (Tensor<1>, Vec<Flat>) {
    let loss = model.loss_sum(batch.tokens, batch.positions, pass, batch.targets, batch.weights);
    let mut gradients = loss.backward();
    (loss.inner(), weights::gradients(model, &mut gradients))
}
