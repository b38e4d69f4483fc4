//! Self-attention confined to segments.

use crate::int8::Int8Pair;
use crate::lora::{self, Lora, adapted};
use crate::pass::Pass;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use kernels::{
    Activation, AttentionOptions, Function, LayerCache, NewPositions, attention, cached_attention, linear_or_int8,
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
            c_attn_lora: None,
            c_proj_lora: None,
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
    c_attn_lora: Option<Lora>,
    c_proj_lora: Option<Lora>,
    #[module(skip)]
    int8: Int8Pair,
}

impl CausalSelfAttention {
    /// Rounds the weights to eight bits; from then on the passes use those.
    pub(crate) fn quantize(&mut self) {
        self.int8 = Int8Pair::new(&self.c_attn, &self.c_proj);
    }

    /// Takes what `adapter` gives for the name of each linear layer and the layer.
    pub(crate) fn adapt(&mut self, adapter: impl Fn(&str, &Linear) -> Option<Lora>) {
        self.c_attn_lora = adapter("c_attn", &self.c_attn);
        self.c_proj_lora = adapter("c_proj", &self.c_proj);
    }

    /// Bytes of memory that its products read.
    pub(crate) fn weight_bytes(&self) -> usize {
        self.int8.bytes(&self.c_attn, &self.c_proj)
    }

    /// What it adds to the residual stream: each position attends to itself and to earlier ones of its segment.
    pub fn function<'a>(&'a self, pass: &'a Pass, site: u32) -> Function<'a> {
        let options = AttentionOptions {
            n_head: self.n_head,
            causal: true,
            segments: pass.segments.clone(),
            dropout: pass.dropout(self.attn_dropout, site),
            precision: pass.precision,
        };
        if self.int8.is_none() && self.c_attn_lora.is_none() && self.c_proj_lora.is_none() {
            return Function::Attention { qkv: &self.c_attn, proj: &self.c_proj, options };
        }
        Function::Other(Box::new(move |x| {
            let qkv = self.qkv(x, pass, site); // [batch, seq, 3 * d_model]
            let y = attention(qkv, options.clone()); // [batch, seq, d_model]
            self.project(y, pass, site)
        }))
    }

    fn qkv(&self, x: Tensor<3>, pass: &Pass, site: u32) -> Tensor<3> {
        let (layer, activation) = (&self.c_attn, Activation::Identity);
        match self.int8.first() {
            None => adapted(layer, self.c_attn_lora.as_ref(), x, activation, pass, lora::site(site, 0)),
            int8 => linear_or_int8(layer, int8, x, activation, pass.precision),
        }
    }

    fn project(&self, y: Tensor<3>, pass: &Pass, site: u32) -> Tensor<3> {
        let (layer, activation) = (&self.c_proj, Activation::Identity);
        match self.int8.second() {
            None => adapted(layer, self.c_proj_lora.as_ref(), y, activation, pass, lora::site(site, 1)),
            int8 => linear_or_int8(layer, int8, y, activation, pass.precision),
        }
    }

    /// The same, without dropout, for positions that continue what `cache` has seen.
    ///
    /// # Shapes
    /// - `x`: `[rows, new, d_model]`, returns the same
    pub fn forward_cached(&self, x: Tensor<3>, positions: &NewPositions, cache: &mut LayerCache) -> Tensor<3> {
        let pass = Pass::default();
        let qkv = self.qkv(x, &pass, 0); // [rows, new, 3 * d_model]
        let y = cached_attention(qkv, self.n_head, positions, cache); // [rows, new, d_model]
        self.project(y, &pass, 0)
    }
}
