//! A batch through a model: the loss of a micro-batch and the gradient of a whole step.

use burn::tensor::{Device, Int, Tensor, TensorData};
use data::{Batch, Target};
use model::Gpt;
use model::attention::Visibility;
use model::weights::{self, Flat};

/// A batch on a device.
pub struct DeviceBatch {
    /// `[rows, seq]`.
    pub tokens: Tensor<2, Int>,
    /// `[rows, seq]`.
    pub positions: Tensor<2, Int>,
    /// What each position may attend to.
    pub visibility: Visibility,
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
        let visibility = if batch.single_segment() {
            Visibility::causal(shape[1], device)
        } else {
            Visibility::causal_in_segments(ids(&batch.segments))
        };
        let Target::Tokens(targets) = &batch.targets[0];
        Self {
            tokens: ids(&batch.tokens),
            positions: ids(&batch.positions),
            visibility,
            targets: ids(targets),
            weights: Tensor::from_data(TensorData::new(batch.weights[0].clone(), shape), device),
        }
    }
}

/// The gradient of one optimizer step.
pub struct StepGradient {
    /// The mean loss over the step's trained tokens, `[1]`, in nats.
    pub loss: Tensor<1>,
    /// Every parameter's gradient of that mean.
    pub gradients: Vec<Flat>,
}

/// The gradient of the mean loss over all trained tokens of `micro_batches` together.
///
/// Each micro-batch's summed loss is divided by the weight of all of them before its backward pass, so that any
/// split of the same rows gives the same gradient.
pub fn step_gradient(model: &Gpt, micro_batches: &[Batch], device: &Device) -> StepGradient {
    let weight: f64 = micro_batches.iter().map(|batch| batch.trained_weight()[0]).sum();
    let mut sum: Option<StepGradient> = None;
    for batch in micro_batches {
        let batch = DeviceBatch::new(batch, device);
        let DeviceBatch { tokens, positions, visibility, targets, weights } = batch;
        let loss = model.loss_sum(tokens, positions, &visibility, targets, weights) / weight;
        let mut gradients = loss.backward();
        let gradients = weights::gradients(model, &mut gradients);
        let loss = loss.inner();
        sum = Some(match sum {
            None => StepGradient { loss, gradients },
            Some(sum) => StepGradient {
                loss: sum.loss + loss,
                gradients: sum
                    .gradients
                    .into_iter()
                    .zip(gradients)
                    .map(|(a, b)| Flat { values: a.values + b.values, ..a })
                    .collect(),
            },
        });
    }
    sum.expect("a step has at least one micro-batch")
}
