//! Training steps as the trainer makes them, on made-up text, and attention alone: for timing.

use crate::config::{AdamwConfig, OptimizerConfig};
use crate::error::Error;
use crate::forward::{StepOptions, step_gradient};
use crate::optimizer::{Optimizer, Scale, clip_factor, squared_norm};
use burn::tensor::{Device, Distribution, Tensor};
use data::{Batches, Prefetcher, TokenStream};
use kernels::{AttentionOptions, Dropout, DropoutKey, Precision, attention, in_thread_pool};
use model::{Gpt, GptConfig};

/// A model, its optimizer and a source of batches.
pub struct TrainingSteps {
    device: Device,
    model: Option<Gpt>,
    optimizer: Optimizer,
    batches: Prefetcher,
    step: u64,
    options: StepOptions,
}

impl TrainingSteps {
    /// Ready to step with micro-batches of `rows` rows of the model's context; each step brings its own randomness.
    ///
    /// # Errors
    /// No thread for the batches.
    pub fn new(config: &GptConfig, rows: usize, options: StepOptions, device: &Device) -> Result<Self, Error> {
        let device = device.clone().autodiff();
        let length = 64 * config.max_seq_len.max(rows) + 1;
        let tokens = (0..length as u64)
            .map(|i| (i.wrapping_mul(i).wrapping_mul(2_654_435_761) >> 7) as u32 % config.vocab_size as u32);
        let stream = TokenStream::new(&[tokens.collect()], None);
        let batches = Batches::training(stream, config.max_seq_len, 0)?;
        Ok(Self {
            model: Some(Gpt::new(config, 0, &device)),
            device,
            optimizer: Optimizer::new(OptimizerConfig::Adamw(AdamwConfig::default())),
            batches: Prefetcher::start(batches, 0, rows, 4)?,
            step: 0,
            options,
        })
    }

    /// One step: batch, forward, backward, norm, clipping, update. Returns the loss, which waits for the device.
    ///
    /// # Errors
    /// The batches' thread failed.
    pub fn step(&mut self) -> Result<f64, Error> {
        let batch = self.batches.next()?;
        self.step += 1;
        let model = self.model.take().expect("the model is only away during this call");
        let (model, loss) = in_thread_pool(&self.device.clone(), || {
            let options = StepOptions { randomness: Some((0, self.step)), ..self.options };
            let gradient = step_gradient(&model, &[batch], options, &self.device);
            let loss = gradient.loss.into_scalar::<f64>();
            let norm = squared_norm(&gradient.gradients).into_scalar::<f64>().sqrt();
            let scale = Scale::Known(clip_factor(norm, 1.0));
            (self.optimizer.update(model, gradient.gradients, scale, 1e-4, self.step), loss)
        });
        self.model = Some(model);
        Ok(loss)
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
