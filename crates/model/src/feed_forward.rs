//! The feed-forward half of a block.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use kernels::{Activation, Precision, linear};

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
}

impl FeedForward {
    /// # Shapes
    /// - `x`: `[batch, seq, d_model]`, returns the same
    pub fn forward(&self, x: Tensor<3>, precision: Precision) -> Tensor<3> {
        let hidden = linear(&self.c_fc, x, Activation::GeluTanh, precision); // [batch, seq, d_ff]
        linear(&self.c_proj, hidden, Activation::Identity, precision)
    }
}
