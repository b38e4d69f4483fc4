//! Self-attention confined to segments.

use crate::kv_cache::LayerCache;
use crate::pass::Pass;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Bool, Device, Tensor, activation::softmax};
use kernels::{Activation, AttentionOptions, Precision, attention, linear};

/// What a [`CausalSelfAttention`] is built from.
pub struct CausalSelfAttentionConfig {
    /// Width of the residual stream.
    pub d_model: usize,
    /// Heads; divides `d_model`.
    pub n_head: usize,
    /// Dropout on the attention weights.
    pub attn_dropout: f64,
}

impl CausalSelfAttentionConfig {
    /// Builds the layer; its parameters are set afterwards.
    pub fn init(&self, device: &Device) -> CausalSelfAttention {
        CausalSelfAttention {
            c_attn: LinearConfig::new(self.d_model, 3 * self.d_model).init(device),
            c_proj: LinearConfig::new(self.d_model, self.d_model).init(device),
            n_head: self.n_head,
            attn_dropout: self.attn_dropout,
        }
    }
}

/// Multi-head attention with query, key and value in one projection.
///
/// Source: Vaswani et al. 2017, section 3.2; GPT-2's layout.
#[derive(Module, Debug)]
pub struct CausalSelfAttention {
    c_attn: Linear,
    c_proj: Linear,
    n_head: usize,
    attn_dropout: f64,
}

impl CausalSelfAttention {
    /// Attends each position to itself and to earlier ones of its segment.
    ///
    /// # Shapes
    /// - `x`: `[batch, seq, d_model]`, returns the same
    pub fn forward(&self, x: Tensor<3>, pass: &Pass, site: u32) -> Tensor<3> {
        let options = AttentionOptions {
            n_head: self.n_head,
            causal: true,
            segments: pass.segments.clone(),
            dropout: pass.dropout(self.attn_dropout, site),
            precision: pass.precision,
        };
        let qkv = linear(&self.c_attn, x, Activation::Identity, pass.precision); // [batch, seq, 3 * d_model]
        let y = attention(qkv, options); // [batch, seq, d_model]
        linear(&self.c_proj, y, Activation::Identity, pass.precision)
    }

    /// The same for positions that continue what `cache` has seen.
    ///
    /// # Shapes
    /// - `x`: `[batch, new, d_model]`, returns the same
    pub fn forward_cached(&self, x: Tensor<3>, cache: &mut LayerCache) -> Tensor<3> {
        let [batch, new, d_model] = x.dims();
        let d_head = d_model / self.n_head;
        let device = x.device();
        let qkv = linear(&self.c_attn, x, Activation::Identity, Precision::F32); // [batch, new, 3 * d_model]
        let heads = |part: usize| {
            let part = qkv.clone().narrow(2, part * d_model, d_model);
            part.reshape([batch, new, self.n_head, d_head]).swap_dims(1, 2) // [batch, n_head, new, d_head]
        };
        let (k, v) = cache.append(heads(1), heads(2)); // [batch, n_head, seen + new, d_head]
        let keys = k.dims()[2];
        // Scaling the queries touches new * d_head numbers, scaling the scores new * keys.
        let scores = (heads(0) * (d_head as f64).powf(-0.5)).matmul(k.swap_dims(2, 3)); // [batch, n_head, new, keys]
        let scores = if new > 1 {
            // `tril_mask` hides what lies above the diagonal, which cached keys move right.
            let hidden = Tensor::<2, Bool>::tril_mask([new, keys], (keys - new) as i64, &device);
            scores.mask_fill(hidden.reshape([1, 1, new, keys]), -1e9)
        } else {
            scores
        };
        let y = softmax(scores, 3).matmul(v).swap_dims(1, 2).reshape([batch, new, d_model]);
        linear(&self.c_proj, y, Activation::Identity, Precision::F32)
    }
}
