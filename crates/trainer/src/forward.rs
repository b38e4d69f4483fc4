//! A batch through a model: the loss of a micro-batch and the gradient of a whole step.

use crate::network::Trainable;
use burn::tensor::{Device, Int, Tensor, TensorData};
use data::{Batch, Target};
use kernels::Precision;
use model::weights::{self, Flat};
use model::{Pass, Randomness};

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
    ///
    /// # Panics
    /// If the targets are something else than tokens.
    pub fn new(batch: &Batch, device: &Device) -> Self {
        let shape = batch.shape;
        let ids = |values: &[u32]| {
            let values: Vec<i32> = values.iter().map(|id| *id as i32).collect();
            Tensor::<2, Int>::from_data(TensorData::new(values, shape), device)
        };
        let segments = segments(batch, device);
        let Target::Tokens(targets) = &batch.targets[0] else { panic!("a causal batch's targets are tokens") };
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

/// The gradient of the mean loss over all targets of `micro_batches` together.
///
/// Each target's weight is divided by the weight of all of them before its backward pass, so that any split of the same
/// rows gives the same gradient.
pub fn step_gradient<M: Trainable>(
    model: &M,
    micro_batches: &[Batch],
    options: StepOptions,
    device: &Device,
) -> StepGradient {
    let weight: f64 = micro_batches.iter().map(|batch| batch.trained_weight()[0]).sum();
    // A step may choose nothing to be guessed.
    let share = if weight > 0.0 { (options.loss_scale / weight) as f32 } else { 0.0 };
    let mut first_row = 0;
    let mut sum: Option<StepGradient> = None;
    for batch in micro_batches {
        let rows = batch.shape[0] as u64;
        let mut batch = batch.clone();
        batch.weights.iter_mut().flatten().for_each(|weight| *weight *= share);
        let pass = Pass {
            segments: segments(&batch, device),
            precision: options.precision,
            randomness: options.randomness.map(|(seed, step)| Randomness { seed, step, first_row }),
        };
        first_row += rows;
        let checkpointed = match options.gradient_checkpointing {
            true => model.checkpointed_gradient(&batch, &pass, device),
            false => None,
        };
        let step = checkpointed.unwrap_or_else(|| {
            let loss = model.loss_sum(&batch, &pass, device);
            let mut gradients = loss.backward();
            (loss.inner(), weights::gradients(model, &mut gradients))
        });
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

/// Where each position of a batch may attend, `[rows, seq]`; none: everywhere in its row.
pub fn segments(batch: &Batch, device: &Device) -> Option<Tensor<2, Int>> {
    (!batch.single_segment()).then(|| {
        let values: Vec<i32> = batch.segments.iter().map(|id| *id as i32).collect();
        Tensor::from_data(TensorData::new(values, batch.shape), device)
    })
}
