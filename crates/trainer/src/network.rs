//! What the loop needs of a model, whatever its family.

use crate::error::Error;
use crate::forward::{DeviceBatch, StepGradient, StepOptions, step_gradient};
use crate::optimizer::{Optimizer, Scale};
use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use checkpoint::Contents;
use data::{Batch, Target, Tokenizer};
use model::bert::{Bert, BertConfig, Input};
use model::loss::probabilities;
use model::weights::{self, Family, Flat};
use model::{Gpt, GptConfig, LoadReport, Pass, Tensors};

/// A model that can be trained on a batch.
pub trait Trainable: Family {
    /// The sum of the batch's loss terms, each target times its weight, `[1]`.
    fn loss_sum(&self, batch: &Batch, pass: &Pass, device: &Device) -> Tensor<1>;

    /// The same, outside autodiff, and its gradients, with each block computed twice to keep less; none for a family
    /// that cannot.
    fn checkpointed_gradient(&self, _batch: &Batch, _pass: &Pass, _device: &Device) -> Option<(Tensor<1>, Vec<Flat>)> {
        None
    }

    /// How good the model's predictions are; it is outside autodiff.
    fn judge(&self, batch: &Batch, pass: &Pass, device: &Device) -> Judged;
}

/// What an evaluation learns from a batch.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    /// The loss, each target times its weight.
    pub loss_sum: f64,
    /// The weight of the targets that are the model's best guess.
    pub correct: f64,
    /// Of a classifier: each row's probabilities, `[rows, classes]`.
    pub probabilities: Vec<f32>,
}

impl Trainable for Gpt {
    fn loss_sum(&self, batch: &Batch, pass: &Pass, device: &Device) -> Tensor<1> {
        let DeviceBatch { tokens, positions, targets, weights, .. } = DeviceBatch::new(batch, device);
        Gpt::loss_sum(self, tokens, positions, pass, targets, weights)
    }

    fn checkpointed_gradient(&self, batch: &Batch, pass: &Pass, device: &Device) -> Option<(Tensor<1>, Vec<Flat>)> {
        let DeviceBatch { tokens, positions, targets, weights, .. } = DeviceBatch::new(batch, device);
        Some(model::checkpointed::block_by_block(self, tokens, positions, pass, targets, weights))
    }

    fn judge(&self, batch: &Batch, pass: &Pass, device: &Device) -> Judged {
        let DeviceBatch { tokens, positions, targets, weights, .. } = DeviceBatch::new(batch, device);
        let [loss, correct] = self.loss_and_correct_sum(tokens, positions, pass, targets, weights);
        Judged { loss_sum: loss.into_scalar(), correct: correct.into_scalar(), probabilities: Vec::new() }
    }
}

impl Trainable for Bert {
    fn loss_sum(&self, batch: &Batch, pass: &Pass, device: &Device) -> Tensor<1> {
        let hidden = self.hidden(input(batch, device), pass);
        let weights = &batch.weights[0];
        match &batch.targets[0] {
            Target::Tokens(targets) => self.masked_lm_loss_sum(hidden, targets, weights, pass),
            Target::Classes(classes) => {
                let weights = Tensor::from_data(TensorData::new(weights.clone(), [weights.len()]), device);
                model::loss::cross_entropy_sum(self.class_logits(hidden, pass), ids(classes, device), weights)
            }
        }
    }

    fn judge(&self, batch: &Batch, pass: &Pass, device: &Device) -> Judged {
        let hidden = self.hidden(input(batch, device), pass);
        let weights = &batch.weights[0];
        let (logits, targets, weights): (Tensor<2>, Vec<u32>, Vec<f32>) = match &batch.targets[0] {
            Target::Tokens(targets) => {
                let chosen: Vec<usize> = (0..weights.len()).filter(|i| weights[*i] > 0.0).collect();
                if chosen.is_empty() {
                    return Judged::default();
                }
                let at: Vec<u32> = chosen.iter().map(|i| *i as u32).collect();
                let logits = self.token_logits(hidden, ids(&at, device), pass);
                (logits, chosen.iter().map(|i| targets[*i]).collect(), chosen.iter().map(|i| weights[*i]).collect())
            }
            Target::Classes(classes) => (self.class_logits(hidden, pass), classes.clone(), weights.clone()),
        };
        let width = logits.dims()[1];
        let logits: Vec<f32> = weights::to_host(logits.clone().reshape([logits.shape().num_elements()]));
        let mut judged = Judged::default();
        for ((row, target), weight) in logits.chunks_exact(width).zip(targets).zip(weights) {
            let probabilities = probabilities(row);
            let target = target as usize;
            judged.loss_sum -= f64::from(weight) * probabilities[target].ln();
            let best = (0..width).fold(0, |best, i| if row[i] > row[best] { i } else { best });
            judged.correct += if best == target { f64::from(weight) } else { 0.0 };
            if matches!(batch.targets[0], Target::Classes(_)) {
                judged.probabilities.extend(probabilities.iter().map(|p| *p as f32));
            }
        }
        judged
    }
}

fn ids(values: &[u32], device: &Device) -> Tensor<1, Int> {
    let values: Vec<i32> = values.iter().map(|id| *id as i32).collect();
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), device)
}

/// What BERT reads of a batch.
fn input(batch: &Batch, device: &Device) -> Input {
    Input::new(batch.shape, &batch.tokens, &batch.positions, batch.token_types.as_deref(), device)
}

/// A model of any family.
#[derive(Clone, Debug)]
// There is one of it in a run.
#[allow(clippy::large_enum_variant)]
pub enum Network {
    /// A GPT-2.
    Gpt(Gpt),
    /// A BERT with its head.
    Bert(Bert),
}

/// The shape of a model of any family.
#[derive(Clone, Debug, PartialEq)]
pub enum NetworkConfig {
    /// Of a GPT-2.
    Gpt(GptConfig),
    /// Of a BERT, and its head.
    Bert(BertConfig),
}

/// Calls a method of the model inside.
macro_rules! of_any {
    ($network:expr, $model:ident => $call:expr) => {
        match $network {
            Network::Gpt($model) => $call,
            Network::Bert($model) => $call,
        }
    };
}

impl NetworkConfig {
    /// The longest row, in tokens.
    pub fn max_seq_len(&self) -> usize {
        match self {
            Self::Gpt(config) => config.max_seq_len,
            Self::Bert(config) => config.max_seq_len,
        }
    }

    /// Rows of the token embedding.
    pub fn vocab_size(&self) -> usize {
        match self {
            Self::Gpt(config) => config.vocab_size,
            Self::Bert(config) => config.vocab_size,
        }
    }

    /// Parameters by part of the model.
    pub fn parameters(&self) -> Vec<(&'static str, usize)> {
        match self {
            Self::Gpt(config) => config.parameters(),
            Self::Bert(config) => config.parameters(),
        }
    }

    /// The labels of a classifier; none otherwise.
    pub fn labels(&self) -> &[String] {
        match self {
            Self::Gpt(_) => &[],
            Self::Bert(config) => config.head.labels(),
        }
    }
}

impl Network {
    /// A model with fresh weights.
    pub fn new(config: &NetworkConfig, seed: u64, device: &Device) -> Self {
        match config {
            NetworkConfig::Gpt(config) => Self::Gpt(Gpt::new(config, seed, device)),
            NetworkConfig::Bert(config) => Self::Bert(Bert::new(config, seed, device)),
        }
    }

    /// A model with the weights of a file; of a BERT that another head stood on, the body alone.
    ///
    /// # Errors
    /// Tensors that are missing or have other shapes.
    pub fn load(
        config: &NetworkConfig,
        tensors: &Tensors,
        seed: u64,
        device: &Device,
    ) -> Result<(Self, LoadReport), Error> {
        let refused = |error: weights::LoadError| Error::Config(format!("`model.init_from`: {error}"));
        Ok(match config {
            NetworkConfig::Gpt(config) => {
                let (model, report) = weights::load(Gpt::blank(config, device), tensors).map_err(refused)?;
                (Self::Gpt(model), report)
            }
            NetworkConfig::Bert(config) => {
                let fresh = Bert::new(config, seed, device);
                let (model, report) = weights::load_body(fresh, tensors).map_err(refused)?;
                (Self::Bert(model), report)
            }
        })
    }

    /// The model outside autodiff.
    pub fn valid(&self) -> Self {
        match self {
            Self::Gpt(model) => Self::Gpt(model.valid()),
            Self::Bert(model) => Self::Bert(model.valid()),
        }
    }

    /// Every parameter's name and shape.
    pub fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        of_any!(self, model => weights::shapes(model))
    }

    /// As [`step_gradient`].
    pub fn step_gradient(&self, micro_batches: &[Batch], options: StepOptions, device: &Device) -> StepGradient {
        of_any!(self, model => step_gradient(model, micro_batches, options, device))
    }

    /// As [`Trainable::judge`].
    pub fn judge(&self, batch: &Batch, pass: &Pass, device: &Device) -> Judged {
        of_any!(self, model => model.judge(batch, pass, device))
    }

    /// As [`Optimizer::update`].
    pub fn updated(self, optimizer: &mut Optimizer, gradients: Vec<Flat>, scale: Scale, lr: f64, step: u64) -> Self {
        match self {
            Self::Gpt(model) => Self::Gpt(optimizer.update(model, gradients, scale, lr, step)),
            Self::Bert(model) => Self::Bert(optimizer.update(model, gradients, scale, lr, step)),
        }
    }

    /// The files of its HuggingFace directory.
    ///
    /// # Panics
    /// If the shape is another family's.
    pub fn files(&self, config: &NetworkConfig, tokenizer: &Tokenizer) -> Contents {
        match (self, config) {
            (Self::Gpt(model), NetworkConfig::Gpt(config)) => checkpoint::gpt_files(model, config, tokenizer),
            (Self::Bert(model), NetworkConfig::Bert(config)) => checkpoint::bert_files(model, config, Some(tokenizer)),
            _ => unreachable!("a model and its own shape"),
        }
    }
}
