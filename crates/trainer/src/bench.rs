//! Training steps as the trainer makes them, on made-up text, and attention and a matrix product alone: for timing.

use crate::config::{AdamwConfig, OptimizerConfig};
use crate::error::Error;
use crate::forward::StepOptions;
use crate::network::{Network, NetworkConfig};
use crate::optimizer::{Optimizer, Rates, Scale, clip_factor, squared_norm};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Distribution, Tensor};
use data::{Batch, Batches, Prefetcher, RowId, Target, TokenStream};
use kernels::{Activation, AttentionOptions, Dropout, DropoutKey, Precision, attention, in_thread_pool, linear};
use model::{BertConfig, GptConfig};

/// A model, its optimizer and a source of batches.
pub struct TrainingSteps {
    device: Device,
    model: Option<Network>,
    optimizer: Optimizer,
    batches: Source,
    step: u64,
    options: StepOptions,
}

/// Where the batches come from.
enum Source {
    /// As in a run.
    Ahead(Prefetcher),
    /// The same one always.
    Same(Batch),
}

/// Some token's id.
fn token(place: u64, vocabulary: usize) -> u32 {
    (place.wrapping_mul(place).wrapping_mul(2_654_435_761) >> 7) as u32 % vocabulary as u32
}

impl TrainingSteps {
    /// A GPT, ready to step with micro-batches of `rows` rows of the model's context; each step brings its own
    /// randomness.
    ///
    /// # Errors
    /// No thread for the batches.
    pub fn new(config: &GptConfig, rows: usize, options: StepOptions, device: &Device) -> Result<Self, Error> {
        let length = 64 * config.max_seq_len.max(rows) + 1;
        let tokens = (0..length as u64).map(|place| token(place, config.vocab_size));
        let stream = TokenStream::new(&[tokens.collect()], None);
        let batches = Batches::training(stream, config.max_seq_len, 0)?;
        let batches = Source::Ahead(Prefetcher::start(batches, 0, rows, 4)?);
        Ok(Self::with(&NetworkConfig::Gpt(config.clone()), batches, options, device))
    }

    /// A BERT that learns masked tokens, every seventh of them; of each row `padding` is the share of padding.
    pub fn masked(config: &BertConfig, rows: usize, padding: f64, options: StepOptions, device: &Device) -> Self {
        let seq = config.max_seq_len;
        let real = ((1.0 - padding) * seq as f64).round().max(1.0) as usize;
        let places = || (0..rows * seq).map(|place| (place, place % seq < real));
        let is_chosen = |(place, is_real): (usize, bool)| is_real && place.is_multiple_of(7);
        let tokens: Vec<u32> = places().map(|(place, _)| token(place as u64, config.vocab_size)).collect();
        let batch = Batch {
            shape: [rows, seq],
            targets: vec![Target::Tokens(tokens.clone())],
            weights: vec![places().map(|place| f32::from(u8::from(is_chosen(place)))).collect()],
            tokens,
            segments: places().map(|(_, is_real)| u32::from(is_real)).collect(),
            positions: places().map(|(place, is_real)| if is_real { (place % seq) as u32 } else { 0 }).collect(),
            token_types: None,
            rows: (0..rows as u64).map(|row| RowId { epoch: 0, row }).collect(),
        };
        Self::with(&NetworkConfig::Bert(config.clone()), Source::Same(batch), options, device)
    }

    fn with(config: &NetworkConfig, batches: Source, options: StepOptions, device: &Device) -> Self {
        let device = device.clone().autodiff();
        Self {
            model: Some(Network::new(config, 0, &device)),
            device,
            optimizer: Optimizer::new(OptimizerConfig::Adamw(AdamwConfig::default())),
            batches,
            step: 0,
            options,
        }
    }

    /// One step: batch, forward, backward, norm, clipping, update. Returns the loss, which waits for the device.
    ///
    /// # Errors
    /// The batches' thread failed.
    pub fn step(&mut self) -> Result<f64, Error> {
        let batch = match &mut self.batches {
            Source::Ahead(batches) => batches.next()?,
            Source::Same(batch) => batch.clone(),
        };
        self.step += 1;
        let model = self.model.take().expect("the model is only away during this call");
        let (model, loss) = in_thread_pool(&self.device.clone(), || {
            let options = StepOptions { randomness: Some((0, self.step)), ..self.options };
            let gradient = model.step_gradient(&[batch], options, &self.device);
            let loss = gradient.loss().into_scalar::<f64>();
            let norm = squared_norm(&gradient.gradients).into_scalar::<f64>().sqrt();
            let scale = Scale::Known(clip_factor(norm, 1.0));
            (model.updated(&mut self.optimizer, gradient.gradients, scale, Rates::uniform(1e-4), self.step), loss)
        });
        self.model = Some(model);
        Ok(loss)
    }
}

/// The first layer of a feed-forward block, without its activation, on random rows.
pub struct LinearSteps {
    layer: Linear,
    x: Tensor<2>,
    precision: Precision,
}

impl LinearSteps {
    /// Ready to multiply `[rows, d_model]` by `[d_model, 4 d_model]`.
    pub fn new(rows: usize, d_model: usize, precision: Precision, device: &Device) -> Self {
        let layer = LinearConfig::new(d_model, 4 * d_model).init(device);
        Self { layer, x: Tensor::random([rows, d_model], Distribution::Normal(0.0, 1.0), device), precision }
    }

    /// One product; waits for the device.
    pub fn step(&self) {
        in_thread_pool(&self.x.device(), || {
            let y = linear(&self.layer, self.x.clone(), Activation::Identity, self.precision);
            let _: f32 = y.slice([0..1, 0..1]).into_scalar();
        });
    }
}

/// Causal attention on random queries, keys and values.
pub struct AttentionSteps {
    qkv: Tensor<3>,
    options: AttentionOptions,
}

impl AttentionSteps {
    /// Ready to attend over `[batch, seq, d_model]`.
    pub fn new(
        [batch, seq, d_model]: [usize; 3],
        n_head: usize,
        dropout: f64,
        precision: Precision,
        device: &Device,
    ) -> Self {
        let device = device.clone().autodiff();
        let key = DropoutKey { seed: 0, step: 0, site: 0, first_row: 0 };
        let dropout = (dropout > 0.0).then_some(Dropout { probability: dropout as f32, key });
        Self {
            qkv: Tensor::random([batch, seq, 3 * d_model], Distribution::Normal(0.0, 1.0), &device),
            options: AttentionOptions { dropout, precision, ..AttentionOptions::causal(n_head) },
        }
    }

    /// Forward and backward; waits for the device.
    pub fn step(&self) {
        in_thread_pool(&self.qkv.device(), || {
            let qkv = self.qkv.clone().require_grad();
            let gradients = attention(qkv.clone(), self.options.clone()).sum().backward();
            // Reading one number waits for all of them.
            let _: Option<f32> = qkv.grad(&gradients).map(|gradient| gradient.sum().into_scalar());
        });
    }
}
