//! From a gradient to an update: the global norm, clipping, AdamW and SGD.

use crate::config::{AdamwConfig, OptimizerConfig, SgdConfig};
use burn::tensor::{Device, Tensor, TensorData};
use kernels::AdamwStep;
use model::weights::{self, Family, Flat, Place, Tensors};
use std::collections::BTreeMap;

/// The square of the Euclidean norm of all gradients together, `[1]`; NaN or infinite if any value is.
///
/// Source: Pascanu et al. 2013, as `torch.nn.utils.clip_grad_norm_` computes it.
///
/// # Panics
/// If there are no gradients.
pub fn squared_norm(gradients: &[Flat]) -> Tensor<1> {
    let squares = gradients.iter().map(|g| kernels::sum_of_squares(g.values.clone()));
    squares.reduce(|a, b| a + b).expect("a model has parameters")
}

/// What an update multiplies gradients by.
#[derive(Clone, Debug)]
// There is one a step.
#[allow(clippy::large_enum_variant)]
pub enum Scale {
    /// A number that the host knows.
    Known(f64),
    /// `[1]`, on the device: the host need not wait for it.
    OnDevice(Tensor<1>),
}

impl Scale {
    /// As [`clip_factor`], of a norm whose square is still on the device.
    pub fn clipping(squared_norm: Tensor<1>, max_norm: f64) -> Self {
        match max_norm > 0.0 {
            true => Self::OnDevice((squared_norm.sqrt() + 1e-6).recip().mul_scalar(max_norm).clamp_max(1.0)),
            false => Self::Known(1.0),
        }
    }
}

/// The learning rate of each parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// That of the head.
    pub lr: f64,
    /// What it falls by from each layer to the one below; 1 for the same everywhere.
    pub layer_decay: f64,
    /// Layers between the embeddings and the head.
    pub layers: usize,
}

impl Rates {
    /// The same for all.
    pub fn uniform(lr: f64) -> Self {
        Self { lr, layer_decay: 1.0, layers: 0 }
    }

    /// That of a parameter at `place`.
    ///
    /// Source: Clark et al. 2020 (ELECTRA), appendix B: the layers count from the head down, the embeddings last.
    pub fn of(self, place: Place) -> f64 {
        self.lr * self.layer_decay.powi(place.depth(self.layers) as i32)
    }
}

/// What to multiply gradients of this norm by so that it becomes at most `max_norm`; 0 turns clipping off.
pub fn clip_factor(norm: f64, max_norm: f64) -> f64 {
    if max_norm > 0.0 { (max_norm / (norm + 1e-6)).min(1.0) } else { 1.0 }
}

/// The name of the first gradient that holds a NaN or an infinity.
pub fn first_not_finite(gradients: &[Flat]) -> Option<&str> {
    gradients
        .iter()
        .find(|g| !kernels::sum_of_squares(g.values.clone()).into_scalar::<f64>().is_finite())
        .map(|g| g.name.as_str())
}

/// The optimizer and its state: one or two running means as large as the model.
pub struct Optimizer {
    config: OptimizerConfig,
    state: BTreeMap<String, State>,
}

struct State {
    shape: Vec<usize>,
    /// Mean of the gradients (AdamW) or the momentum buffer (SGD).
    first: Tensor<1>,
    /// Mean of the squared gradients; AdamW only.
    second: Option<Tensor<1>>,
}

impl Optimizer {
    /// An optimizer that has made no step.
    pub fn new(config: OptimizerConfig) -> Self {
        Self { config, state: BTreeMap::new() }
    }

    /// Updates `model` with `gradients`, each multiplied by `scale` first.
    ///
    /// `step` counts the updates from 1. Weight decay is decoupled and falls on matrices only: biases, norms and
    /// other vectors are spared.
    ///
    /// Source: Loshchilov and Hutter 2019 (AdamW), in the order of operations of PyTorch's `AdamW` and `SGD`.
    pub fn update<M: Family>(&mut self, model: M, gradients: Vec<Flat>, scale: Scale, rates: Rates, step: u64) -> M {
        let mut gradients: BTreeMap<String, Tensor<1>> = gradients.into_iter().map(|g| (g.name, g.values)).collect();
        weights::map(model, |name, shape, current, _| {
            let gradient = gradients.remove(name)?;
            let lr = rates.of(M::place(name));
            let (gradient, scale) = match &scale {
                Scale::Known(scale) => (gradient, *scale),
                Scale::OnDevice(scale) => (gradient * scale.clone(), 1.0),
            };
            let state = self.state.remove(name);
            let (new, state) = match &self.config {
                OptimizerConfig::Adamw(AdamwConfig { weight_decay, beta1, beta2, eps, .. }) => {
                    let weight_decay = if decays(shape) { *weight_decay } else { 0.0 };
                    let (beta1, beta2, eps) = (*beta1, *beta2, *eps);
                    let numbers = AdamwStep { scale, lr, beta1, beta2, eps, weight_decay, step };
                    adamw(current(), gradient, state, shape, numbers)
                }
                OptimizerConfig::Sgd(config) => sgd(config, current(), gradient.mul_scalar(scale), state, shape, lr),
            };
            self.state.insert(name.to_string(), state);
            Some(new)
        })
    }

    /// The state as tensors, named `m.<parameter>` and `v.<parameter>`.
    pub fn export(&self) -> Vec<Flat> {
        let of_state = |(name, state): (&String, &State)| {
            let flat = |kind: &str, values: &Tensor<1>| Flat {
                name: format!("{kind}.{name}"),
                shape: state.shape.clone(),
                values: values.clone(),
            };
            let second = state.second.as_ref().map(|second| flat("v", second));
            [Some(flat("m", &state.first)), second].into_iter().flatten()
        };
        self.state.iter().flat_map(of_state).collect()
    }

    /// Takes over a state that [`Optimizer::export`] gave, for parameters of these names and shapes.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape than its parameter.
    pub fn import(
        &mut self,
        mut tensors: Tensors,
        parameters: &[(String, Vec<usize>)],
        device: &Device,
    ) -> Result<(), String> {
        let needs_second = matches!(self.config, OptimizerConfig::Adamw(_));
        let mut take = |kind: &str, name: &str, shape: &[usize]| {
            let key = format!("{kind}.{name}");
            let tensor = tensors.remove(&key).ok_or_else(|| format!("optimizer state `{key}` is missing"))?;
            if tensor.shape != shape {
                return Err(format!("optimizer state `{key}` has shape {:?}, its parameter {shape:?}", tensor.shape));
            }
            let len = tensor.values.len();
            Ok(Tensor::from_data(TensorData::new(tensor.values, [len]), device))
        };
        for (name, shape) in parameters {
            let state = State {
                shape: shape.clone(),
                first: take("m", name, shape)?,
                second: if needs_second { Some(take("v", name, shape)?) } else { None },
            };
            self.state.insert(name.clone(), state);
        }
        Ok(())
    }
}

/// Weight decay falls on matrices only.
fn decays(shape: &[usize]) -> bool {
    shape.len() >= 2
}

fn adamw(
    value: Tensor<1>,
    gradient: Tensor<1>,
    state: Option<State>,
    shape: &[usize],
    numbers: AdamwStep,
) -> (Tensor<1>, State) {
    let (first, second) = match state {
        Some(State { first, second: Some(second), .. }) => (first, second),
        _ => (gradient.zeros_like(), gradient.zeros_like()),
    };
    let [value, first, second] = kernels::adamw(value, gradient, first, second, numbers);
    (value, State { shape: shape.to_vec(), first, second: Some(second) })
}

fn sgd(
    config: &SgdConfig,
    value: Tensor<1>,
    gradient: Tensor<1>,
    state: Option<State>,
    shape: &[usize],
    lr: f64,
) -> (Tensor<1>, State) {
    let value =
        if decays(shape) && config.weight_decay > 0.0 { value * (1.0 - lr * config.weight_decay) } else { value };
    let first = match state {
        Some(State { first, .. }) => first * config.momentum + gradient,
        None => gradient,
    };
    (value - first.clone() * lr, State { shape: shape.to_vec(), first, second: None })
}
