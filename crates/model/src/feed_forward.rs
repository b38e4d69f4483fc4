//! The feed-forward half of a block.

use crate::int8::Int8Pair;
use crate::lora::{self, Lora, adapted};
use crate::pass::Pass;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::Device;
use kernels::{Activation, Function, linear_or_int8};

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
            c_fc_lora: None,
            c_proj_lora: None,
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
    c_fc_lora: Option<Lora>,
    c_proj_lora: Option<Lora>,
    #[module(skip)]
    int8: Int8Pair,
}

impl FeedForward {
    /// Rounds the weights to eight bits; from then on the passes use those.
    pub(crate) fn quantize(&mut self) {
        self.int8 = Int8Pair::new(&self.c_fc, &self.c_proj);
    }

    /// Takes what `adapter` gives for the name of each linear layer and the layer.
    pub(crate) fn adapt(&mut self, adapter: impl Fn(&str, &Linear) -> Option<Lora>) {
        self.c_fc_lora = adapter("c_fc", &self.c_fc);
        self.c_proj_lora = adapter("c_proj", &self.c_proj);
    }

    /// Bytes of memory that its products read.
    pub(crate) fn weight_bytes(&self) -> usize {
        self.int8.bytes(&self.c_fc, &self.c_proj)
    }

    /// What it adds to the residual stream; `site` is that of the dropout of what it adds.
    pub fn function<'a>(&'a self, pass: &'a Pass, site: u32) -> Function<'a> {
        let precision = pass.precision;
        let activation = Activation::GeluTanh;
        if self.c_fc_lora.is_some() || self.c_proj_lora.is_some() {
            return Function::Other(Box::new(move |x| {
                let [up, down] = [0, 1].map(|number| lora::site(site, number));
                // [batch, seq, d_ff]
                let hidden = adapted(&self.c_fc, self.c_fc_lora.as_ref(), x, activation, pass, up);
                adapted(&self.c_proj, self.c_proj_lora.as_ref(), hidden, Activation::Identity, pass, down)
            }));
        }
        if self.int8.is_none() {
            return Function::FeedForward { up: &self.c_fc, down: &self.c_proj, activation, precision };
        }
        Function::Other(Box::new(move |x| {
            // [batch, seq, d_ff]
            let hidden = linear_or_int8(&self.c_fc, self.int8.first(), x, activation, precision);
            linear_or_int8(&self.c_proj, self.int8.second(), hidden, Activation::Identity, precision)
        }))
    }
}
