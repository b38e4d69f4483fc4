//! The feed-forward half of a block.

use crate::int8::Int8Pair;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use kernels::{Activation, Precision, Residual, feed_forward_sublayer, linear_or_int8};

/// What a [`FeedForward`] is built from.
pub struct FeedForwardConfig {
    /// Width of the residual stream.
    pub d_model: usize,
    /// Width of the hidden state.
    pub d_ff: usize,
}

impl FeedForwardConfig {
    /// Builds the layer; its parameters are set afterwards.
    pub fn init(&self, device: &Device) -> FeedForward {
        FeedForward {
            c_fc: LinearConfig::new(self.d_model, self.d_ff).init(device),
            c_proj: LinearConfig::new(self.d_ff, self.d_model).init(device),
            int8: Int8Pair::default(),
        }
    }
}

/// Two linear layers around the tanh approximation of GELU.
///
/// Source: Hendrycks and Gimpel 2016, section 2; GPT-2 uses the approximation (HuggingFace's `gelu_new`).
#[derive(Module, Debug)]
pub struct FeedForward {
    c_fc: Linear,
    c_proj: Linear,
    #[module(skip)]
    int8: Int8Pair,
}

impl FeedForward {
    /// Rounds the weights to eight bits; from then on the passes use those.
    pub(crate) fn quantize(&mut self) {
        self.int8 = Int8Pair::new(&self.c_fc, &self.c_proj);
    }

    /// Bytes of memory that its products read.
    pub(crate) fn weight_bytes(&self) -> usize {
        self.int8.bytes(&self.c_fc, &self.c_proj)
    }

    /// What half a block makes of the residual stream.
    ///
    /// # Shapes
    /// - `x`: `[batch, seq, d_model]`, returns the same
    pub fn forward(&self, x: Tensor<3>, precision: Precision, residual: Residual) -> Tensor<3> {
        if self.int8.is_none() {
            return feed_forward_sublayer(x, &self.c_fc, &self.c_proj, Activation::GeluTanh, precision, residual);
        }
        residual.around(x, |x| {
            // [batch, seq, d_ff]
            let hidden = linear_or_int8(&self.c_fc, self.int8.first(), x, Activation::GeluTanh, precision);
            linear_or_int8(&self.c_proj, self.int8.second(), hidden, Activation::Identity, precision)
        })
    }
}
