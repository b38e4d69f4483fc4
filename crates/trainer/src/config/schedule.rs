//! The `[schedule]` table: how the learning rate moves over the run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the learning rate moves over the run. Each schedule rises linearly to `lr` in its warmup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleConfig {
    /// `lr` from the end of the warmup on.
    Constant(ConstantConfig),
    /// A straight line from `lr` to `min_lr`.
    Linear(DecayConfig),
    /// Half a cosine wave from `lr` to `min_lr`.
    Cosine(DecayConfig),
}

/// `lr` from the end of the warmup on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConstantConfig {
    /// Steps over which the learning rate rises to `lr`; 0 starts at `lr`.
    pub warmup_steps: u64,
}

/// A fall from `lr` to `min_lr` after the warmup.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DecayConfig {
    /// Steps over which the learning rate rises to `lr`; 0 starts at `lr`.
    pub warmup_steps: u64,
    /// The learning rate at the end of the fall, at most `lr`.
    #[schemars(range(min = 0))]
    pub min_lr: f64,
    /// The step, counted from the start of the run, at which the learning rate reaches `min_lr` and stays there.
    /// Default: the run's last step.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub decay_steps: Option<u64>,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self::Constant(ConstantConfig::default())
    }
}

impl ScheduleConfig {
    /// Steps over which the learning rate rises to the optimizer's `lr`.
    pub fn warmup_steps(&self) -> u64 {
        match self {
            Self::Constant(constant) => constant.warmup_steps,
            Self::Linear(decay) | Self::Cosine(decay) => decay.warmup_steps,
        }
    }

    /// The variant's name in the file, as in `[schedule.cosine]`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Constant(_) => "constant",
            Self::Linear(_) => "linear",
            Self::Cosine(_) => "cosine",
        }
    }
}
