//! The `[train]` table: where the run is written, how long it lasts, and how often it reports.

use std::path::PathBuf;

use model::weights::Freeze;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The number format of matrix products and attention; everything else is f32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit floating point.
    #[default]
    F32,
    /// bfloat16 operands, sums in f32.
    Bf16,
    /// IEEE half-precision operands, sums in f32, with dynamic loss scaling.
    F16,
}

impl From<Precision> for kernels::Precision {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Bf16 => Self::Bf16,
            Precision::F16 => Self::F16,
        }
    }
}

/// How the run goes: output, length, batch and intervals. All intervals count optimizer steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// The run's directory, made if it is not there: checkpoints, metrics and curves.
    pub output_dir: PathBuf,
    /// Seed of the initial weights, the order of the data and the dropout.
    #[serde(default = "default_seed")]
    pub seed: u64,
    /// What computes: `auto` (a hardware GPU if there is one, else `ndarray`), `wgpu`, `wgpu:N` (adapter N of
    /// `firebox devices`), `ndarray`, `flex`, and `cuda` in builds with that feature.
    #[serde(default = "default_device")]
    pub device: String,
    /// Number format of the operands of matrix products and attention. Their sums, weights, optimizer state, norms,
    /// softmax and loss are f32 throughout; `f16` scales the loss so that small gradients survive.
    #[serde(default)]
    pub precision: Precision,
    /// Whether to go on, slower than in f32, on a device without instructions for `precision`, by rounding to it.
    #[serde(default)]
    pub emulate_precision: bool,
    /// Whether to keep only each block's input between forward and backward, and compute the block again: about a
    /// third more work for much less memory, with the same gradients.
    #[serde(default)]
    pub gradient_checkpointing: bool,
    /// So many layers are not trained, from the lowest, nor the embeddings below them: for fine-tuning a pre-trained model.
    #[serde(default)]
    pub freeze_layers: usize,
    /// Whether the embeddings are not trained, even where every layer is.
    #[serde(default)]
    pub freeze_embeddings: bool,
    /// What the learning rate is multiplied by from each layer to the one below it, from the head down to the embeddings;
    /// 1 trains all alike, 0.9 is usual for fine-tuning.
    #[serde(default = "default_layer_lr_decay")]
    #[schemars(extend("exclusiveMinimum" = 0), range(max = 1.0))]
    pub layer_lr_decay: f64,
    /// NEFTune: in training, uniform noise of up to `neftune_alpha / sqrt(L * d_model)` is added to each number of the embedding
    /// of a text's `L` tokens; 5 is usual for fine-tuning a chat model. Default: no noise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub neftune_alpha: Option<f64>,
    /// Rows of `max_seq_len` tokens that go through the model together.
    #[serde(default = "default_micro_batch_size")]
    #[schemars(range(min = 1))]
    pub micro_batch_size: usize,
    /// Micro-batches whose gradients are summed for one optimizer step.
    #[serde(default = "default_accumulation")]
    #[schemars(range(min = 1))]
    pub gradient_accumulation_steps: usize,
    /// Stop after this many optimizer steps. Exactly one of `max_steps`, `num_epochs` and `max_tokens` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_steps: Option<u64>,
    /// Stop after this many passes over the training text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub num_epochs: Option<u64>,
    /// Stop at the first step after which at least this many tokens were trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_tokens: Option<u64>,
    /// Gradients whose norm over all parameters together exceeds this are scaled down to it; 0 turns clipping off.
    #[serde(default = "default_max_grad_norm")]
    #[schemars(range(min = 0))]
    pub max_grad_norm: f64,
    /// What part of each target's probability is spread over all tokens, labels or tags alike, so that the model is not
    /// driven to be certain; evaluations are without it. 0.1 is usual for a classifier of few examples.
    #[serde(default)]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub label_smoothing: f64,
    /// Steps between evaluations on the validation split; 0 means never.
    #[serde(default = "default_interval")]
    pub eval_every: u64,
    /// Micro-batches of the validation split that each evaluation reads, always the same ones. Default: all of labelled
    /// texts, tagged sentences and conversations, 50 of running text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub eval_batches: Option<usize>,
    /// The validation figure that decides which checkpoint is the best: `loss`, and but for a regression `perplexity` and
    /// `accuracy`. Classifiers and taggers have `precision`, `recall` and `f1` (the mean over labels; of a tagger over all
    /// entities), also with `macro_`, `micro_` and `weighted_` before them, taggers those of single words with `token_` and
    /// `token_macro_`; single-label classifiers `mcc`, `log_loss` and, of two labels, `roc_auc`; multi-label ones
    /// `hamming_loss`; regressions `mse`, `rmse`, `mae`, `r2`, `pearson` and `spearman`.
    #[serde(default = "default_best_metric")]
    pub best_metric: String,
    /// Stop after this many evaluations in a row without a new best. Default: go on to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub early_stopping_patience: Option<u64>,
    /// Steps between checkpoints; 0 means only at the end.
    #[serde(default = "default_interval")]
    pub save_every: u64,
    /// Newest checkpoints to keep; the best one is kept beside them.
    #[serde(default = "default_keep_last")]
    #[schemars(range(min = 1))]
    pub keep_last: usize,
    /// Steps between readings of the loss. Reading waits for the device, so small values slow a GPU down.
    #[serde(default = "default_log_every")]
    #[schemars(range(min = 1))]
    pub log_every: u64,
    /// What the text sampled at each evaluation starts with. Default: the end-of-text token, or a newline where the
    /// tokenizer has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_prompt: Option<String>,
    /// Tokens of the text sampled at each evaluation; 0 turns samples off.
    #[serde(default = "default_sample_tokens")]
    pub sample_tokens: usize,
}

fn default_seed() -> u64 {
    1337
}

fn default_device() -> String {
    "auto".to_owned()
}

fn default_layer_lr_decay() -> f64 {
    1.0
}

fn default_micro_batch_size() -> usize {
    12
}

fn default_accumulation() -> usize {
    1
}

fn default_max_grad_norm() -> f64 {
    1.0
}

fn default_interval() -> u64 {
    250
}

fn default_best_metric() -> String {
    "loss".to_owned()
}

fn default_keep_last() -> usize {
    2
}

fn default_log_every() -> u64 {
    10
}

pub(super) fn default_sample_tokens() -> usize {
    120
}

/// The keys of `[train]` of which exactly one says when the run ends.
pub(super) const STOP_KEYS: [&str; 3] = ["max_steps", "num_epochs", "max_tokens"];

/// When the run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopAt {
    /// After this many optimizer steps.
    Steps(u64),
    /// After this many passes over the training text.
    Epochs(u64),
    /// At the first step after which at least this many tokens were trained on.
    Tokens(u64),
}

impl TrainConfig {
    /// What is not trained.
    pub fn frozen(&self) -> Freeze {
        Freeze { only_embeddings: self.freeze_embeddings, layers: self.freeze_layers, but_adapters: None }
    }

    /// When the run ends; `None` unless exactly one of `max_steps`, `num_epochs` and `max_tokens` is given, which
    /// every config that `RunConfig::load` returns does.
    pub fn stop_at(&self) -> Option<StopAt> {
        match (self.max_steps, self.num_epochs, self.max_tokens) {
            (Some(steps), None, None) => Some(StopAt::Steps(steps)),
            (None, Some(epochs), None) => Some(StopAt::Epochs(epochs)),
            (None, None, Some(tokens)) => Some(StopAt::Tokens(tokens)),
            _ => None,
        }
    }
}
