//! How a forward pass computes: what is the same for all of its layers.

use burn::tensor::{Device, Int, Tensor, TensorData};
use kernels::{Dropout, DropoutKey, Precision};

/// How a forward pass computes.
#[derive(Clone, Debug, Default)]
pub struct Pass {
    /// A token attends only inside its own segment, `[batch, seq]`; 0 is padding. None: each row is one segment.
    pub segments: Option<Tensor<2, Int>>,
    /// Format of matrix products and attention.
    pub precision: Precision,
    /// Where the randomness of dropout comes from; none drops nothing.
    pub randomness: Option<Randomness>,
    /// What part of a target's probability the loss spreads over all classes or tokens.
    pub label_smoothing: f32,
}

/// Names the randomness of one pass: with the layer's place in the model it decides what dropout drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Randomness {
    /// The run's seed.
    pub seed: u64,
    /// The optimizer step.
    pub step: u64,
    /// The number, within the step, of the batch's first row.
    pub first_row: u64,
}

impl Pass {
    /// Segments as a pass wants them: none where every token is real and of segment 1, so that no mask is needed.
    ///
    /// # Shapes
    /// - `segments`: `shape`, `[batch, seq]`, row by row
    pub fn segments(shape: [usize; 2], segments: &[u32], device: &Device) -> Option<Tensor<2, Int>> {
        segments.iter().any(|segment| *segment != 1).then(|| {
            let ids: Vec<i32> = segments.iter().map(|id| *id as i32).collect();
            Tensor::from_data(TensorData::new(ids, shape), device)
        })
    }

    /// The dropout at `site`, a number that no other dropout of the model has; none if nothing is dropped.
    pub(crate) fn dropout(&self, probability: f64, site: u32) -> Option<Dropout> {
        let Randomness { seed, step, first_row } = self.randomness?;
        (probability > 0.0)
            .then_some(Dropout { probability: probability as f32, key: DropoutKey { seed, step, site, first_row } })
    }
}
