//! Training steps as the trainer makes them, on made-up text: for timing.

use crate::config::{AdamwConfig, OptimizerConfig};
use crate::error::Error;
use crate::forward::step_gradient;
use crate::optimizer::{Optimizer, clip_factor, global_norm};
use burn::tensor::Device;
use data::{Batches, Prefetcher, TokenStream};
use model::{Gpt, GptConfig};

/// A model, its optimizer and a source of batches.
pub struct TrainingSteps {
    device: Device,
    model: Option<Gpt>,
    optimizer: Optimizer,
    batches: Prefetcher,
    step: u64,
}

impl TrainingSteps {
    /// Ready to step with micro-batches of `rows` rows of the model's context.
    ///
    /// # Errors
    /// No thread for the batches.
    pub fn new(config: &GptConfig, rows: usize, device: &Device) -> Result<Self, Error> {
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
        let (model, loss) = rayon::scope(|_| {
            self.device.seed(self.step);
            let gradient = step_gradient(&model, &[batch], &self.device);
            let loss = gradient.loss.into_scalar::<f64>();
            let scale = clip_factor(global_norm(&gradient.gradients), 1.0);
            (self.optimizer.update(model, gradient.gradients, scale, 1e-4, self.step), loss)
        });
        self.model = Some(model);
        Ok(loss)
    }
}
