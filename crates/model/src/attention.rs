//! Causal self-attention confined to segments.

use crate::kv_cache::LayerCache;
use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use burn::tensor::{Bool, Device, Int, Tensor, activation::softmax};
use kernels::{causal_attention, linear};

/// Which keys each query may attend to: the one rule for causality, padding and packing.
pub struct Visibility {
    /// `[1 or batch, 1, queries, keys]`, true hides; none hides nothing (a single query sees all it follows).
    hidden: Option<Tensor<4, Bool>>,
    /// The same rule where nothing is cached, as [`causal_attention`] takes it: `[batch, seq]`, or one segment.
    segments: Option<Tensor<2, Int>>,
}

impl Visibility {
    /// Every position sees itself and what stands before it.
    pub fn causal(seq: usize, device: &Device) -> Self {
        Self::continuing(0, seq, device)
    }

    /// `new` positions after `seen` cached ones, each seeing itself and what stands before it.
    pub fn continuing(seen: usize, new: usize, device: &Device) -> Self {
        let hidden = (new > 1).then(|| {
            // `tril_mask` hides what lies above the diagonal, which cached keys move right.
            Tensor::<2, Bool>::tril_mask([new, seen + new], seen as i64, device).reshape([1, 1, new, seen + new])
        });
        Self { hidden, segments: None }
    }

    /// Every position sees itself and earlier positions of its own segment. Padding is segment 0 and sees only
    /// padding, so that no row of the attention is ever empty.
    ///
    /// # Shapes
    /// - `segments`: `[batch, seq]`
    pub fn causal_in_segments(segments: Tensor<2, Int>) -> Self {
        let [batch, seq] = segments.dims();
        let causal = Tensor::<2, Bool>::tril_mask([seq, seq], 0, &segments.device()).reshape([1, 1, seq, seq]);
        let of_query: Tensor<4, Int> = segments.clone().reshape([batch, 1, seq, 1]).expand([batch, 1, seq, seq]);
        let of_key: Tensor<4, Int> = segments.clone().reshape([batch, 1, 1, seq]).expand([batch, 1, seq, seq]);
        let hidden = of_query.not_equal(of_key).bool_or(causal.expand([batch, 1, seq, seq]));
        Self { hidden: Some(hidden), segments: Some(segments) }
    }
}

/// What a [`CausalSelfAttention`] is built from.
pub struct CausalSelfAttentionConfig {
    /// Width of the residual stream.
    pub d_model: usize,
    /// Heads; divides `d_model`.
    pub n_head: usize,
    /// Dropout on the attention weights.
    pub attn_dropout: f64,
    /// Dropout on the output.
    pub resid_dropout: f64,
}

impl CausalSelfAttentionConfig {
    /// Builds the layer; its parameters are set afterwards.
    pub fn init(&self, device: &Device) -> CausalSelfAttention {
        CausalSelfAttention {
            c_attn: LinearConfig::new(self.d_model, 3 * self.d_model).init(device),
            c_proj: LinearConfig::new(self.d_model, self.d_model).init(device),
            attn_dropout: DropoutConfig::new(self.attn_dropout).init(),
            resid_dropout: DropoutConfig::new(self.resid_dropout).init(),
            n_head: self.n_head,
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
    attn_dropout: Dropout,
    resid_dropout: Dropout,
    n_head: usize,
}

impl CausalSelfAttention {
    /// Attends each position to the positions it may see.
    ///
    /// # Shapes
    /// - `x`: `[batch, seq, d_model]`, returns the same; with a cache, `x` holds only the new positions
    pub fn forward(&self, x: Tensor<3>, visibility: &Visibility, cache: Option<&mut LayerCache>) -> Tensor<3> {
        let [batch, seq, d_model] = x.dims();
        let d_head = d_model / self.n_head;
        let heads = |t: Tensor<3>| t.reshape([batch, seq, self.n_head, d_head]).swap_dims(1, 2);
        let qkv = linear(&self.c_attn, x); // [batch, seq, 3 * d_model]
        let drops = self.attn_dropout.prob > 0.0 && qkv.device().is_autodiff();
        if cache.is_none() && !drops && kernels::covers(&qkv) {
            let y = causal_attention(qkv, self.n_head, visibility.segments.clone()); // [batch, seq, d_model]
            return self.resid_dropout.forward(linear(&self.c_proj, y));
        }
        let q = heads(qkv.clone().narrow(2, 0, d_model)); // [batch, n_head, seq, d_head]
        let k = heads(qkv.clone().narrow(2, d_model, d_model));
        let v = heads(qkv.narrow(2, 2 * d_model, d_model));
        let (k, v) = match cache {
            Some(cache) => cache.append(k, v), // [batch, n_head, seen + seq, d_head]
            None => (k, v),
        };

        // Scaling the queries touches seq * d_head numbers, scaling the scores seq * seq.
        let scores = (q * (d_head as f64).powf(-0.5)).matmul(k.swap_dims(2, 3)); // [batch, n_head, seq, keys]
        let scores = match &visibility.hidden {
            // A finite value: should a row ever be hidden whole, it becomes uniform and not NaN.
            Some(hidden) => scores.mask_fill(hidden.clone(), -1e9),
            None => scores,
        };
        let weights = self.attn_dropout.forward(softmax(scores, 3));
        let y = weights.matmul(v).swap_dims(1, 2).reshape([batch, seq, d_model]);
        self.resid_dropout.forward(linear(&self.c_proj, y))
    }
}
