//! How a forward pass computes: what is the same for all of its layers.

use burn::tensor::{Device, Int, Tensor, TensorData};
use kernels::{Dropout, DropoutKey, Precision, uniform_noise};
use std::collections::BTreeMap;

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
    /// The noise on the token embeddings, where there is randomness: of each token the most it changes by, times the square
    /// root of the embedding's width, `[batch, seq]`.
    pub embedding_noise: Option<Tensor<2>>,
}

/// The place of the noise, which no dropout has.
const NOISE: u32 = u32::MAX;

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

    /// What [`Pass::embedding_noise`] is for NEFTune's `alpha`: `alpha / sqrt(L)` of a token whose segment has `L` tokens,
    /// nothing of padding. Segments in one row are so disturbed as each would be alone.
    ///
    /// # Shapes
    /// - `segments`: `shape`, `[batch, seq]`, row by row
    ///
    /// Source: Jain et al. 2023, "NEFTune: Noisy Embeddings Improve Instruction Finetuning", algorithm 1.
    pub fn neftune(shape: [usize; 2], segments: &[u32], alpha: f64, device: &Device) -> Tensor<2> {
        let mut largest = Vec::with_capacity(segments.len());
        for row in segments.chunks(shape[1].max(1)) {
            let mut lengths: BTreeMap<u32, usize> = BTreeMap::new();
            row.iter().for_each(|segment| *lengths.entry(*segment).or_default() += 1);
            largest.extend(row.iter().map(|segment| match segment {
                0 => 0.0,
                segment => (alpha / (lengths[segment] as f64).sqrt()) as f32,
            }));
        }
        Tensor::from_data(TensorData::new(largest, shape), device)
    }

    /// Token embeddings, with noise where there is some.
    ///
    /// # Shapes
    /// - `x`: `[batch, seq, d_model]`, returns the same
    pub(crate) fn noisy(&self, x: Tensor<3>) -> Tensor<3> {
        let (Some(largest), Some(randomness)) = (&self.embedding_noise, self.randomness) else { return x };
        let Randomness { seed, step, first_row } = randomness;
        let noise = uniform_noise(x.dims(), DropoutKey { seed, step, site: NOISE, first_row }, &x.device());
        let width = x.dims()[2] as f64;
        x + noise * largest.clone().unsqueeze_dim::<3>(2) * width.sqrt().recip()
    }

    /// The dropout at `site`, a number that no other dropout of the model has; none if nothing is dropped.
    pub(crate) fn dropout(&self, probability: f64, site: u32) -> Option<Dropout> {
        let Randomness { seed, step, first_row } = self.randomness?;
        (probability > 0.0)
            .then_some(Dropout { probability: probability as f32, key: DropoutKey { seed, step, site, first_row } })
    }
}
