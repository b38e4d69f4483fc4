//! The `[optimizer]` table: how gradients become updates.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How gradients become updates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerConfig {
    /// AdamW (Loshchilov and Hutter 2017); decay on matrices only.
    Adamw(AdamwConfig),
    /// Stochastic gradient descent with momentum; decay on matrices only.
    Sgd(SgdConfig),
}

/// AdamW (Loshchilov and Hutter 2017); decay on matrices only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdamwConfig {
    /// Peak learning rate, which the schedule scales.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub lr: f64,
    /// Decoupled weight decay, a multiple of the learning rate; biases and norms do not decay.
    #[schemars(range(min = 0))]
    pub weight_decay: f64,
    /// How much of the mean gradient each step keeps.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub beta1: f64,
    /// How much of the mean squared gradient each step keeps.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub beta2: f64,
    /// Added to the root of the mean squared gradient before dividing by it.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub eps: f64,
}

impl Default for AdamwConfig {
    /// nanoGPT's, at half its learning rate for GPT-2 small.
    fn default() -> Self {
        Self { lr: 3e-4, weight_decay: 0.1, beta1: 0.9, beta2: 0.95, eps: 1e-8 }
    }
}

/// Stochastic gradient descent with momentum; decay on matrices only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SgdConfig {
    /// Peak learning rate, which the schedule scales.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub lr: f64,
    /// How much of the last update each step keeps; 0 is plain gradient descent.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub momentum: f64,
    /// Decoupled weight decay, a multiple of the learning rate; biases and norms do not decay.
    #[schemars(range(min = 0))]
    pub weight_decay: f64,
}

impl Default for SgdConfig {
    fn default() -> Self {
        Self { lr: 0.01, momentum: 0.9, weight_decay: 0.0 }
    }
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self::Adamw(AdamwConfig::default())
    }
}

impl OptimizerConfig {
    /// The peak learning rate, before the schedule.
    pub fn lr(&self) -> f64 {
        match self {
            Self::Adamw(adamw) => adamw.lr,
            Self::Sgd(sgd) => sgd.lr,
        }
    }

    /// The variant's name in the file, as in `[optimizer.adamw]`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Adamw(_) => "adamw",
            Self::Sgd(_) => "sgd",
        }
    }
}
