//! How much memory a run takes, known before it starts.

use crate::config::{OptimizerConfig, RunConfig};
use crate::network::{Counts, NetworkConfig};
use model::weights::Freeze;

/// Bytes of a run's parts, and how many there are at once at most. All numbers are f32, whatever the precision of the
/// matrix products.
///
/// Counts what the operations of the CPU keep between forward and backward. A GPU keeps the same and, where it runs
/// an operation in several steps, their results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct MemoryEstimate {
    /// The weights.
    pub weights: u64,
    /// Those of them that are trained.
    pub trained: u64,
    /// The optimizer's state.
    pub optimizer: u64,
    /// The gradients: of a tied embedding there are two for a moment, and with gradient accumulation a sum beside those
    /// of the micro-batch.
    pub gradients: u64,
    /// What is kept of a micro-batch's forward pass for the backward pass.
    pub activations: u64,
    /// What exists while it is computed with: the logits of some rows, a block's gradients, operands of products.
    pub buffers: u64,
    /// The program, the data and the tokenizer: what the process holds already, and what is always added.
    pub process: u64,
    /// The most of all this at one time: gradients grow while activations go.
    pub peak: u64,
}

/// What the process grows by besides, measured: code that is read in when it first runs.
const CODE: u64 = 8_000_000;

/// Drawing the curves, measured; by then a step's memory is free again, but for packed operands'.
const DRAWING: u64 = 42_000_000;

const BYTES: u64 = size_of::<f32>() as u64;

impl MemoryEstimate {
    /// The estimate for `model`, of so many parameters and but for what is `frozen`, trained as `config` says, in a process
    /// that holds `process` bytes, of which `initial` are weights that were read and are given to the model.
    pub fn new(
        config: &RunConfig,
        model: &NetworkConfig,
        counts: Counts,
        frozen: Freeze,
        process: u64,
        initial: u64,
    ) -> Self {
        let process = process.saturating_sub(initial) + CODE;
        let settings = &config.train;
        let tokens = (settings.micro_batch_size * model.max_seq_len()) as u64;
        let sizes = match model {
            NetworkConfig::Gpt(model) => [model.d_model, model.d_ff, model.n_layer, model.n_head],
            NetworkConfig::Bert(model) => [model.d_model, model.d_ff, model.n_layer, model.n_head],
        };
        let [width, hidden, blocks, heads] = sizes.map(|size| size as u64);
        // A classifier has no logits of tokens.
        let vocab = if model.labels().is_empty() { model.vocab_size() as u64 } else { 1 };
        let [weights, trained] = [counts.total, counts.trained].map(|count| BYTES * count as u64);
        let optimizer = match config.optimizer {
            OptimizerConfig::Adamw(_) => 2 * trained,
            OptimizerConfig::Sgd(_) => trained,
        };

        // Of a block: the input of each half, queries, keys and values, the attention's output, the feed-forward layer's
        // hidden state before its activation; and the sums that a BERT normalizes.
        let normal = if matches!(model, NetworkConfig::Gpt(_)) { 0 } else { 2 };
        let of_block = BYTES * tokens * ((2 + 3 + 1 + normal) * width + hidden);
        let of_block = match &config.lora {
            None => of_block,
            Some(lora) => {
                // The layers with adapters are operations of their own, and keep what the whole computes again.
                let separate = of_block + BYTES * tokens * ((2 - normal) * width + hidden);
                // What an adapter reads is kept beside that once more, with some of it dropped.
                let dropped = if lora.dropout > 0.0 { BYTES * tokens * (3 * width + hidden) } else { 0 };
                separate + dropped
            }
        };
        let statistics = BYTES * tokens * (heads + 4) * blocks;
        let stream = BYTES * tokens * width;
        // What leaves the last block, that normalized, and its gradient, computed beside the loss.
        let activations = 3 * stream
            + match settings.gradient_checkpointing {
                false => blocks * of_block + statistics,
                true => blocks * stream + of_block,
            };
        // A BERT's head has a bias, which is trained where only its layers are frozen.
        let head_is_frozen = match model {
            NetworkConfig::Gpt(_) => frozen.embeddings(),
            NetworkConfig::Bert(_) => config.lora.is_some(),
        };
        let table = if head_is_frozen { 0 } else { BYTES * vocab * width };
        let logits = BYTES * kernels::cross_entropy::logits_at_once(tokens as usize, vocab as usize) as u64;
        // Blocks' weights, and what the products for their gradients read, are packed in memory that is kept from step
        // to step; what else is there at a time are gradients of the width, and computing a block again its output and
        // the sum over that.
        let together = match (&config.lora, settings.gradient_checkpointing) {
            // Layers with adapters are packed one by one.
            (Some(_), _) => 0,
            (None, true) => 1,
            (None, false) => blocks,
        };
        let packed = BYTES
            * kernels::sublayer_buffers(tokens as usize, width as usize, hidden as usize, together as usize) as u64;
        let of_backward = if settings.gradient_checkpointing { 6 } else { 3 } * stream;
        let buffers = packed + logits.max(of_backward);

        let summed = if settings.gradient_accumulation_steps > 1 { trained } else { 0 };
        let always = process + weights + optimizer + summed;
        // The head's gradient is there from the loss on, that of the embedding comes last and is added to it.
        let after_forward = activations + table + buffers;
        let after_backward = trained + table + packed;
        Self {
            weights,
            trained,
            optimizer,
            gradients: trained + table + summed,
            activations,
            buffers,
            process,
            // Before the first step the weights that were read stand beside the model's.
            peak: (always + after_forward.max(after_backward).max(packed + DRAWING)).max(process + initial + weights),
        }
    }
}

/// Bytes of memory that this process holds now; none where the system does not tell.
pub fn resident_bytes() -> Option<u64> {
    status("VmRSS:")
}

/// The most bytes of memory that this process has held; none where the system does not tell.
pub fn peak_bytes() -> Option<u64> {
    status("VmHWM:")
}

/// A line of what Linux tells of a process.
fn status(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kilobytes * 1024)
}
