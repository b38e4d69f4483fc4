//! What the loop needs of a model, whatever its family.

use crate::error::Error;
use crate::forward::{StepGradient, StepOptions, step_gradient};
use crate::metrics::Spread;
use crate::optimizer::{Optimizer, Rates, Scale};
use crate::predictions::{Predictions, best};
use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use checkpoint::Contents;
use data::{Batch, Target, Tokenizer};
use model::bert::{Bert, BertConfig, Input};
use model::checkpointed::Stack;
use model::lora::is_adapter;
use model::loss::{binary_cross_entropy_sum, cross_entropy_sum, probabilities, squared_error_sum};
use model::weights::{self, Family, Flat, Freeze};
use model::{Gpt, GptConfig, LoadReport, LoraConfig, Pass, Tensors};

/// A model that can be trained on a batch.
pub trait Trainable: Stack {
    /// The batch in the form that the model computes best with; the same rows and targets.
    fn arranged(batch: Batch, _device: &Device) -> Batch {
        batch
    }

    /// What the model reads of a batch.
    fn input(batch: &Batch, device: &Device) -> Self::Input;

    /// The loss terms, `[1]` each, one for each of the batch's targets: every target times its weight, summed.
    ///
    /// # Shapes
    /// - `x`: what leaves the last block, `[batch, seq, d_model]`
    fn terms(&self, x: Tensor<3>, batch: &Batch, pass: &Pass, device: &Device) -> Vec<Tensor<1>>;

    /// How good the model's predictions are; it is outside autodiff.
    fn judge(&self, batch: &Batch, pass: &Pass, device: &Device) -> Judged;
}

/// What an evaluation learns from a batch.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    /// Of each loss term.
    pub terms: Vec<TermSums>,
    /// What a classifier answered.
    pub predictions: Option<Predictions>,
}

/// A loss term over some rows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TermSums {
    /// The loss, each target times its weight.
    pub loss: f64,
    /// The weight of the targets that are the model's best guess; NaN where there is no such thing.
    pub correct: f64,
}

impl Trainable for Gpt {
    fn input(batch: &Batch, device: &Device) -> Self::Input {
        [&batch.tokens, &batch.positions].map(|values| ids(values, batch.shape, device))
    }

    fn terms(&self, x: Tensor<3>, batch: &Batch, pass: &Pass, device: &Device) -> Vec<Tensor<1>> {
        let (targets, weights) = token_targets(batch, device);
        vec![self.loss_sum(x, pass, targets, weights)]
    }

    fn judge(&self, batch: &Batch, pass: &Pass, device: &Device) -> Judged {
        let (targets, weights) = token_targets(batch, device);
        let x = self.leave(Self::input(batch, device), pass);
        let [loss, correct] = self.loss_and_correct_sum(x, pass, targets, weights);
        let sums = TermSums { loss: loss.into_scalar(), correct: correct.into_scalar() };
        Judged { terms: vec![sums], predictions: None }
    }
}

/// The first term's targets and weights of a batch of tokens, `[batch, seq]`.
///
/// # Panics
/// If the targets are something else.
fn token_targets(batch: &Batch, device: &Device) -> (Tensor<2, Int>, Tensor<2>) {
    let Target::Tokens(targets) = &batch.targets[0] else { panic!("a causal batch's targets are tokens") };
    let weights = Tensor::from_data(TensorData::new(batch.weights[0].clone(), batch.shape), device);
    (ids(targets, batch.shape, device), weights)
}

fn ids<const D: usize>(values: &[u32], shape: [usize; D], device: &Device) -> Tensor<D, Int> {
    let values: Vec<i32> = values.iter().map(|id| *id as i32).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn numbers<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

/// From this share of padding on a batch is computed without it.
const PADDING: f64 = 0.05;

impl Trainable for Bert {
    /// On the CPU padding is left out; a GPU is faster with rows of one length.
    fn arranged(batch: Batch, device: &Device) -> Batch {
        let pays = kernels::in_host_memory(device) && batch.padding() > PADDING;
        if pays { batch.unpadded() } else { batch }
    }

    fn input(batch: &Batch, device: &Device) -> Self::Input {
        Input::new(batch.shape, &batch.tokens, &batch.positions, batch.token_types.as_deref(), device)
    }

    fn terms(&self, x: Tensor<3>, batch: &Batch, pass: &Pass, device: &Device) -> Vec<Tensor<1>> {
        let rows = batch.rows.len();
        let first = batch.first_tokens();
        let first = ids(&first, [first.len()], device);
        let of_inputs = || self.sequence_logits(x.clone(), Some(first.clone()), pass);
        let smoothing = pass.label_smoothing;
        let term = |(target, weights): (&Target, &Vec<f32>)| {
            let of_rows = || numbers(weights, [rows], device);
            match target {
                Target::Tokens(tags) if self.tags_tokens() => {
                    let logits = self.tag_logits(x.clone(), pass);
                    let [batch, seq, labels] = logits.dims();
                    let weights = numbers(weights, [batch * seq], device);
                    let tags = ids(tags, [batch * seq], device);
                    cross_entropy_sum(logits.reshape([batch * seq, labels]), tags, weights, smoothing)
                }
                Target::Tokens(targets) => self.masked_lm_loss_sum(x.clone(), targets, weights, pass),
                Target::Classes(classes) => {
                    cross_entropy_sum(of_inputs(), ids(classes, [rows], device), of_rows(), smoothing)
                }
                Target::MultiHot(labels) => {
                    let logits = of_inputs();
                    let targets = numbers(labels, logits.dims(), device);
                    binary_cross_entropy_sum(logits, targets, of_rows())
                }
                Target::Values(values) => {
                    let targets = numbers(values, [rows, 1], device);
                    squared_error_sum(of_inputs(), targets, of_rows())
                }
            }
        };
        batch.targets.iter().zip(&batch.weights).map(term).collect()
    }

    fn judge(&self, batch: &Batch, pass: &Pass, device: &Device) -> Judged {
        let x = self.leave(Self::input(batch, device), pass);
        let first = batch.first_tokens();
        let first = ids(&first, [first.len()], device);
        let of_inputs = || host(self.sequence_logits(x.clone(), Some(first.clone()), pass));
        let mut judged = Judged::default();
        for (target, weights) in batch.targets.iter().zip(&batch.weights) {
            let (sums, predictions) = match target {
                Target::Tokens(targets) => {
                    let chosen: Vec<usize> = (0..weights.len()).filter(|i| weights[*i] > 0.0).collect();
                    let at: Vec<u32> = chosen.iter().map(|i| *i as u32).collect();
                    let logits = match (chosen.is_empty(), self.tags_tokens()) {
                        (true, _) => Vec::new(),
                        (false, false) => host(self.token_logits(x.clone(), ids(&at, [at.len()], device), pass)),
                        (false, true) => {
                            let logits = self.tag_logits(x.clone(), pass);
                            let [batch, seq, labels] = logits.dims();
                            host(logits.reshape([batch * seq, labels]).select(0, ids(&at, [at.len()], device)))
                        }
                    };
                    let targets: Vec<u32> = chosen.iter().map(|i| targets[*i]).collect();
                    let weights: Vec<f32> = chosen.iter().map(|i| weights[*i]).collect();
                    let guesses = Guesses::of(&logits, &targets, &weights);
                    let rows = chosen.iter().map(|i| (i / batch.shape[1], batch.segments[*i]));
                    let tags = self.tags_tokens().then(|| Predictions::tags(rows, &targets, &guesses.best));
                    (guesses.sums, tags)
                }
                Target::Classes(classes) => {
                    let guesses = Guesses::of(&of_inputs(), classes, weights);
                    let truth = classes.iter().map(|class| *class as usize).collect();
                    let predictions = Predictions::Classes { truth, probabilities: guesses.probabilities };
                    (guesses.sums, self.classifies().then_some(predictions))
                }
                Target::MultiHot(labels) => {
                    let logits = of_inputs();
                    Predictions::labels(labels, &logits, weights)
                }
                Target::Values(values) => Predictions::values(values, &of_inputs(), weights),
            };
            judged.terms.push(sums);
            judged.predictions = judged.predictions.or(predictions);
        }
        judged
    }
}

/// A tensor's values, row by row; waits for the device.
fn host(values: Tensor<2>) -> Vec<f32> {
    let len = values.shape().num_elements();
    weights::to_host(values.reshape([len]))
}

/// What logits say of targets of which one is right.
struct Guesses {
    sums: TermSums,
    /// `[targets, classes]`.
    probabilities: Vec<f32>,
    /// Each target's most probable class.
    best: Vec<usize>,
}

impl Guesses {
    /// # Shapes
    /// - `logits`: `[targets, classes]`
    fn of(logits: &[f32], targets: &[u32], weights: &[f32]) -> Self {
        let width = logits.len() / targets.len().max(1);
        let mut guesses = Self { sums: TermSums::default(), probabilities: Vec::new(), best: Vec::new() };
        for ((row, target), weight) in logits.chunks_exact(width.max(1)).zip(targets).zip(weights) {
            let probabilities = probabilities(row);
            let target = *target as usize;
            guesses.sums.loss -= f64::from(*weight) * probabilities[target].ln();
            let best = best(row);
            guesses.sums.correct += if best == target { f64::from(*weight) } else { 0.0 };
            guesses.best.push(best);
            guesses.probabilities.extend(probabilities.iter().map(|p| *p as f32));
        }
        guesses
    }
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

    /// Layers between the embeddings and the head.
    pub fn n_layer(&self) -> usize {
        match self {
            Self::Gpt(config) => config.n_layer,
            Self::Bert(config) => config.n_layer,
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

    /// The probability from which a label of several counts as given.
    pub fn threshold(&self) -> f32 {
        match self {
            Self::Bert(config) => config.head.threshold(),
            Self::Gpt(_) => 0.5,
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

/// Numbers of parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// All, adapters among them.
    pub total: usize,
    /// Those of low-rank adapters.
    pub adapters: usize,
    /// Those that are trained.
    pub trained: usize,
}

impl Network {
    /// A model with fresh weights.
    pub fn new(config: &NetworkConfig, seed: u64, device: &Device) -> Self {
        match config {
            NetworkConfig::Gpt(config) => Self::Gpt(Gpt::new(config, seed, device)),
            NetworkConfig::Bert(config) => Self::Bert(Bert::new(config, seed, device)),
        }
    }

    /// A model with the weights of a file; of a BERT that another head stood on, the body alone. With `lora`, adapters stand
    /// beside its layers, fresh where the file has none.
    ///
    /// # Errors
    /// Tensors that are missing or have other shapes; layers to be adapted that there are none of.
    pub fn load(
        config: &NetworkConfig,
        lora: Option<&LoraConfig>,
        tensors: &Tensors,
        seed: u64,
        device: &Device,
    ) -> Result<(Self, LoadReport), Error> {
        let refused = |error: weights::LoadError| Error::Config(format!("`model.init_from`: {error}"));
        let model = match config {
            NetworkConfig::Gpt(config) => Self::Gpt(Gpt::blank(config, device)),
            NetworkConfig::Bert(config) => Self::Bert(Bert::new(config, seed, device)),
        };
        Ok(match model.with_adapters(lora, seed)? {
            Self::Gpt(model) => {
                let (model, report) = weights::load(model, tensors).map_err(refused)?;
                (Self::Gpt(model), report)
            }
            Self::Bert(model) => {
                let (model, report) = weights::load_body(model, tensors).map_err(refused)?;
                (Self::Bert(model), report)
            }
        })
    }

    fn with_adapters(self, lora: Option<&LoraConfig>, seed: u64) -> Result<Self, Error> {
        let Some(lora) = lora else { return Ok(self) };
        match self {
            Self::Gpt(model) => model.with_adapters(lora, seed).map(Self::Gpt),
            Self::Bert(model) => model.with_adapters(lora, seed).map(Self::Bert),
        }
        .map_err(|error| Error::Config(error.to_string()))
    }

    /// How many parameters a model of this shape has; no weights are made.
    ///
    /// # Errors
    /// Layers to be adapted that there are none of.
    pub fn counts(config: &NetworkConfig, lora: Option<&LoraConfig>, frozen: Freeze) -> Result<Counts, Error> {
        let device = Device::flex();
        let model = match config {
            NetworkConfig::Gpt(config) => Self::Gpt(Gpt::blank(config, &device)),
            NetworkConfig::Bert(config) => Self::Bert(Bert::blank(config, &device)),
        };
        let model = model.with_adapters(lora, 0)?;
        let all = model.shapes();
        let size = |shape: &Vec<usize>| shape.iter().product::<usize>();
        let of_adapters = all.iter().filter(|(name, _)| is_adapter(name));
        Ok(Counts {
            total: all.iter().map(|(_, shape)| size(shape)).sum(),
            adapters: of_adapters.map(|(_, shape)| size(shape)).sum(),
            trained: model.trained_shapes(frozen).iter().map(|(_, shape)| size(shape)).sum(),
        })
    }

    /// The same with the outputs of its classifier spread like the `targets` of a regression: the biases are their mean,
    /// the weights are multiplied by their deviation. Otherwise numbers far from 0 are out of reach for many steps.
    pub fn answering_around(self, targets: Spread) -> Self {
        let Self::Bert(model) = self else { return self };
        let scale = targets.deviation.filter(|deviation| *deviation > 0.0).unwrap_or(1.0);
        Self::Bert(weights::map(model, |name, _, value, _| match name {
            "classifier.weight" => Some(value() * scale),
            "classifier.bias" => Some(value() + targets.mean),
            _ => None,
        }))
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

    /// As [`Optimizer::update`].
    pub fn updated(
        self,
        optimizer: &mut Optimizer,
        gradients: Vec<Flat>,
        scale: Scale,
        rates: Rates,
        step: u64,
    ) -> Self {
        match self {
            Self::Gpt(model) => Self::Gpt(optimizer.update(model, gradients, scale, rates, step)),
            Self::Bert(model) => Self::Bert(optimizer.update(model, gradients, scale, rates, step)),
        }
    }

    /// As [`weights::freeze`].
    pub fn frozen(self, frozen: Freeze) -> Self {
        match self {
            Self::Gpt(model) => Self::Gpt(weights::freeze(model, frozen)),
            Self::Bert(model) => Self::Bert(weights::freeze(model, frozen)),
        }
    }

    /// Every parameter that is trained: its name and shape.
    pub fn trained_shapes(&self, frozen: Freeze) -> Vec<(String, Vec<usize>)> {
        fn of<M: Family>(model: &M, frozen: Freeze) -> Vec<(String, Vec<usize>)> {
            weights::shapes(model).into_iter().filter(|(name, _)| !frozen.holds(name, M::place(name))).collect()
        }
        of_any!(self, model => of(model, frozen))
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

#[cfg(test)]
mod tests {
    use super::*;
    use model::BertSettings;
    use model::bert::{BertHead, Problem};

    #[test]
    fn the_fresh_head_of_a_regression_answers_like_its_targets() {
        let settings = BertSettings { n_layer: Some(1), n_head: Some(1), d_model: Some(8), ..Default::default() };
        let head = BertHead::SequenceClassification { labels: vec!["score".into()], problem: Problem::Regression };
        let config = NetworkConfig::Bert(BertConfig::from_settings(&settings, 10, head).unwrap());
        let fresh = || Network::new(&config, 3, &Device::flex());
        let exported = |network: Network| match network {
            Network::Bert(model) => weights::export(&model),
            Network::Gpt(_) => unreachable!("a BERT"),
        };
        let targets = |values: &[f64]| Spread::of(values).unwrap();
        let (before, after) = (exported(fresh()), exported(fresh().answering_around(targets(&[40.0, 50.0, 60.0]))));
        for (name, tensor) in &before {
            let expected: Vec<f32> = match name.as_str() {
                "classifier.weight" => tensor.values.iter().map(|weight| weight * 10.0).collect(),
                "classifier.bias" => vec![50.0],
                _ => tensor.values.to_vec(),
            };
            assert_eq!(after[name].values[..], expected[..], "{name}");
        }
        // Of one number, or several that are the same, there is no deviation to scale by.
        let constant = exported(fresh().answering_around(targets(&[7.0, 7.0])));
        assert_eq!(constant["classifier.weight"].values, before["classifier.weight"].values);
    }
}
