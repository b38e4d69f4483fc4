//! Self-attention confined to segments.

use crate::int8::Int8Pair;
use crate::pass::Pass;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use kernels::{
    Activation, AttentionOptions, LayerCache, NewPositions, Precision, Residual, attention, attention_sublayer,
    cached_attention, linear_or_int8,
};

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
            int8: Int8Pair::default(),
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
    #[module(skip)]
    int8: Int8Pair,
}

impl CausalSelfAttention {
    /// Rounds the weights to eight bits; from then on the passes use those.
    pub(crate) fn quantize(&mut self) {
        self.int8 = Int8Pair::new(&self.c_attn, &self.c_proj);
    }

    /// Bytes of memory that its products read.
    pub(crate) fn weight_bytes(&self) -> usize {
        self.int8.bytes(&self.c_attn, &self.c_proj)
    }

    /// What half a block makes of the residual stream: each position attends to itself and to earlier ones of its
    /// segment.
    ///
    /// # Shapes
    /// - `x`: `[batch, seq, d_model]`, returns the same
    pub fn forward(&self, x: Tensor<3>, pass: &Pass, site: u32, residual: Residual) -> Tensor<3> {
        let options = AttentionOptions {
            n_head: self.n_head,
            causal: true,
            segments: pass.segments.clone(),
            dropout: pass.dropout(self.attn_dropout, site),
            precision: pass.precision,
        };
        if self.int8.is_none() {
            return attention_sublayer(x, &self.c_attn, &self.c_proj, options, residual);
        }
        residual.around(x, |x| {
            // [batch, seq, 3 * d_model]
            let qkv = linear_or_int8(&self.c_attn, self.int8.first(), x, Activation::Identity, pass.precision);
            let y = attention(qkv, options); // [batch, seq, d_model]
            linear_or_int8(&self.c_proj, self.int8.second(), y, Activation::Identity, pass.precision)
        })
    }

    /// The same, without dropout, for positions that continue what `cache` has seen.
    ///
    /// # Shapes
    /// - `x`: `[rows, new, d_model]`, returns the same
    pub fn forward_cached(&self, x: Tensor<3>, positions: &NewPositions, cache: &mut LayerCache) -> Tensor<3> {
        // [rows, new, 3 * d_model]
        let qkv = linear_or_int8(&self.c_attn, self.int8.first(), x, Activation::Identity, Precision::F32);
        let y = cached_attention(qkv, self.n_head, positions, cache); // [rows, new, d_model]
        linear_or_int8(&self.c_proj, self.int8.second(), y, Activation::Identity, Precision::F32)
    }
}
