//! Continuing a prompt, one token at a time.

use crate::sampling::Sampler;
use burn::tensor::{Device, Int, Tensor, TensorData};
use model::Gpt;

/// What to generate.
#[derive(Clone, Debug)]
pub struct Generation<'a> {
    /// The prompt's ids; at least one.
    pub prompt: &'a [u32],
    /// Tokens to add at most.
    pub max_new_tokens: usize,
    /// Ids below this are chosen: the tokenizer's size, for a model whose vocabulary is padded beyond it.
    pub vocabulary: usize,
    /// Ends the text, and is not part of it.
    pub stop: Option<u32>,
}

/// Generates until `stop` or `max_new_tokens`; returns the new ids only. `on_token` sees each as it comes and ends the
/// generation by returning false.
///
/// A text that outgrows the model's context goes on from its last half: the older tokens are forgotten.
///
/// # Panics
/// If the prompt is empty.
pub fn generate(
    model: &Gpt,
    device: &Device,
    request: &Generation<'_>,
    sampler: &mut Sampler,
    mut on_token: impl FnMut(u32) -> bool,
) -> Vec<u32> {
    assert!(!request.prompt.is_empty(), "a prompt has at least one token");
    let context = model.max_seq_len();
    let mut ids = request.prompt.to_vec();
    let mut cache = model.cache();
    let mut fresh = last(&ids, context).to_vec();
    for _ in 0..request.max_new_tokens {
        if fresh.len() > cache.room() {
            cache = model.cache();
            fresh = last(&ids, (context / 2).max(1)).to_vec();
        }
        let new: Vec<i32> = fresh.iter().map(|id| *id as i32).collect();
        let len = new.len();
        let tokens = Tensor::<2, Int>::from_data(TensorData::new(new, [1, len]), device);
        let logits: Vec<f32> = model::weights::to_host(model.forward_cached(tokens, &mut cache).reshape([-1]));
        let next = sampler.choose(&logits[..request.vocabulary.min(logits.len())]);
        if Some(next) == request.stop {
            break;
        }
        ids.push(next);
        if !on_token(next) {
            break;
        }
        fresh = vec![next];
    }
    ids.split_off(request.prompt.len())
}

fn last(ids: &[u32], most: usize) -> &[u32] {
    &ids[ids.len().saturating_sub(most)..]
}
