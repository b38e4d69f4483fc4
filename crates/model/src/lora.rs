//! Low-rank adapters: a few numbers beside each frozen linear layer that are trained in its place.
//!
//! Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", and PEFT's `tuners/lora`, whose names,
//! layout and initialization are kept.

use crate::config::ConfigError;
use crate::pass::Pass;
use crate::weights::{self, Family, Initial};
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use kernels::{Activation, activate, dropout, linear};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Trains low-rank adapters (LoRA) in place of the weights of the model that `model.init_from` names. Checkpoints then hold
/// the adapter alone, as PEFT stores it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoraConfig {
    /// Rank of the adapters: what a layer's weight changes by is a product of two matrices of this width.
    #[serde(default = "default_rank")]
    #[schemars(range(min = 1))]
    pub rank: usize,
    /// What an adapter adds is multiplied by `alpha / rank`.
    #[serde(default = "default_alpha")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub alpha: f64,
    /// Dropout of what the adapters read, a probability.
    #[serde(default)]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub dropout: f64,
    /// The layers that are adapted, by the ends of their names, as in PEFT: of a GPT-2 `c_attn`, `c_proj`, `c_fc`, of a BERT
    /// `query`, `key`, `value`, `dense`; a longer end says which, such as `mlp.c_proj`. Default: all of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_modules: Option<Vec<String>>,
}

fn default_rank() -> usize {
    8
}

fn default_alpha() -> f64 {
    16.0
}

impl LoraConfig {
    /// The layers of each block of this family that get an adapter, by their names inside the block.
    ///
    /// # Errors
    /// A name that no layer has; no name at all.
    pub fn layers<M: Family>(&self) -> Result<Vec<&'static str>, ConfigError> {
        let all = M::ADAPTABLE;
        let Some(targets) = &self.target_modules else { return Ok(all.to_vec()) };
        let ends = |layer: &str, target: &str| {
            layer.strip_suffix(target).is_some_and(|before| before.is_empty() || before.ends_with('.'))
        };
        if let Some(unknown) = targets.iter().find(|target| !all.iter().any(|layer| ends(layer, target))) {
            return Err(ConfigError(format!(
                "`lora.target_modules`: the model's blocks have no linear layer `{unknown}`; hint: there are `{}`",
                all.join("`, `")
            )));
        }
        if targets.is_empty() {
            return Err(ConfigError("`lora.target_modules` names no layer; hint: leave it out to adapt all".into()));
        }
        Ok(all.iter().filter(|layer| targets.iter().any(|target| ends(layer, target))).copied().collect())
    }

    /// The adapter of a linear layer, its parameters set afterwards.
    pub(crate) fn beside(&self, layer: &Linear, device: &Device) -> Lora {
        let [d_in, d_out] = layer.weight.lazy_shape().dims();
        let narrow = |from, to| LinearConfig::new(from, to).with_bias(false).init(device);
        Lora {
            a: narrow(d_in, self.rank),
            b: narrow(self.rank, d_out),
            scale: self.alpha / self.rank as f64,
            dropout: self.dropout,
        }
    }
}

/// What is added to what a linear layer gives: `alpha / rank * b(a(dropout(x)))`.
#[derive(Module, Debug)]
pub struct Lora {
    a: Linear,
    b: Linear,
    scale: f64,
    dropout: f64,
}

impl Lora {
    /// # Shapes
    /// - `x`: `[.., d_in]`, returns `[.., d_out]`
    pub(crate) fn forward<const D: usize>(&self, x: Tensor<D>, pass: &Pass, site: u32) -> Tensor<D> {
        let x = dropout(x, pass.dropout(self.dropout, site));
        let low = linear(&self.a, x, Activation::Identity, pass.precision); // [.., rank]
        linear(&self.b, low * self.scale, Activation::Identity, pass.precision)
    }
}

/// The place of the dropout of an adapter, among the dropouts of a model: `of` is that of the half of a block that it
/// stands in, `number` counts the adapters there.
pub(crate) fn site(of: u32, number: u32) -> u32 {
    // A model has no dropout of its own as far up.
    (1 << 24) + 8 * of + number
}

/// `activation(layer(x))`, to which the layer's adapter, if it has one, adds before the activation.
///
/// # Shapes
/// - `x`: `[.., d_in]`, returns `[.., d_out]`
pub(crate) fn adapted<const D: usize>(
    layer: &Linear,
    lora: Option<&Lora>,
    x: Tensor<D>,
    activation: Activation,
    pass: &Pass,
    site: u32,
) -> Tensor<D> {
    let Some(lora) = lora else { return linear(layer, x, activation, pass.precision) };
    let added = lora.forward(x.clone(), pass, site);
    activate(linear(layer, x, Activation::Identity, pass.precision) + added, activation)
}

const A: &str = ".lora_A.";
const B: &str = ".lora_B.";

/// Whether a parameter of this name belongs to an adapter.
pub fn is_adapter(name: &str) -> bool {
    name.contains(A) || name.contains(B)
}

/// The path of a field with an adapter's fields named as PEFT does: `c_fc_lora.a.weight` as `c_fc.lora_A.weight`.
pub(crate) fn named(path: &str) -> String {
    path.replace("_lora.a.", A).replace("_lora.b.", B)
}

/// Fresh adapters add nothing: `b` is zero. `a` is drawn as PyTorch draws a linear layer's weight, uniformly with the bound
/// `1 / sqrt(d_in)` (Kaiming with a slope of `sqrt(5)`).
pub(crate) fn initialize<M: Family>(model: M, seed: u64) -> M {
    weights::initialize_some(model, seed, |name, shape| match name {
        _ if name.contains(A) => Some(Initial::Uniform(1.0 / (shape[0] as f64).sqrt())),
        _ if name.contains(B) => Some(Initial::Zeros),
        _ => None,
    })
}
