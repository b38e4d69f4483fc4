//! How much memory a run takes, known before it starts.

use crate::config::{OptimizerConfig, RunConfig};
use crate::network::NetworkConfig;

/// Bytes of a run's parts, and how many there are at once at most. All numbers are f32, whatever the precision of the
/// matrix products.
///
/// Counts what the operations of the CPU keep between forward and backward. A GPU keeps the same and, where it runs
/// an operation in several steps, their results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct MemoryEstimate {
    /// The weights.
    pub weights: u64,
    /// The optimizer's state.
    pub optimizer: u64,
    /// The gradients: of a tied embedding there are two for a moment, and with gradient accumulation a sum beside those
    /// of the micro-batch.
    pub gradients: u64,
    /// What is kept of a micro-batch's forward pass for the backward pass.
    pub activations: u64,
    /// What exists while it is computed with: the logits of some rows, a block's gradients of its activations.
    pub buffers: u64,
    /// The program, the data and the tokenizer: what the process holds already, and what is always added.
    pub process: u64,
    /// The most of all this at one time: gradients grow while activations go.
    pub peak: u64,
}

/// What the process grows by besides, measured: code that is read in when it first runs.
const CODE: u64 = 8_000_000;

/// Drawing the curves, measured; by then a step's memory is free again.
const DRAWING: u64 = 42_000_000;

const BYTES: u64 = size_of::<f32>() as u64;

impl MemoryEstimate {
    /// The estimate for `model` trained as `config` says, in a process that holds `process` bytes.
    pub fn new(config: &RunConfig, model: &NetworkConfig, process: u64) -> Self {
        let process = process + CODE;
        let settings = &config.train;
        let tokens = (settings.micro_batch_size * model.max_seq_len()) as u64;
        let sizes = match model {
            NetworkConfig::Gpt(model) => [model.d_model, model.d_ff, model.n_layer, model.n_head],
            NetworkConfig::Bert(model) => [model.d_model, model.d_ff, model.n_layer, model.n_head],
        };
        let [width, hidden, blocks, heads] = sizes.map(|size| size as u64);
        // A classifier has no logits of tokens.
        let vocab = if model.labels().is_empty() { model.vocab_size() as u64 } else { 1 };
        let parameters: u64 = model.parameters().iter().map(|(_, count)| *count as u64).sum();
        let weights = BYTES * parameters;
        let optimizer = match config.optimizer {
            OptimizerConfig::Adamw(_) => 2 * weights,
            OptimizerConfig::Sgd(_) => weights,
        };

        // Of a block: the input of each half, both normalized, queries, keys and values, the attention's output; and
        // the feed-forward layer's hidden state before and after its activation.
        let of_block = BYTES * tokens * (2 + 2 + 3 + 1) * width + BYTES * tokens * 2 * hidden;
        let statistics = BYTES * tokens * (heads + 4) * blocks;
        let stream = BYTES * tokens * width;
        // The head's input, whose gradient is computed beside the loss.
        let activations = stream
            + match settings.gradient_checkpointing {
                false => blocks * of_block + statistics,
                true => blocks * stream + of_block,
            };
        let table = BYTES * vocab * width;
        let logits = BYTES * kernels::cross_entropy::logits_at_once(tokens as usize, vocab as usize) as u64;
        let of_backward = BYTES * tokens * (2 * hidden + 3 * width);

        let summed = if settings.gradient_accumulation_steps > 1 { weights } else { 0 };
        let always = process + weights + optimizer + summed;
        // The head's gradient is there from the loss on, that of the embedding comes last and is added to it.
        let after_forward = activations + table + logits.max(of_backward);
        let after_backward = weights + table;
        Self {
            weights,
            optimizer,
            gradients: weights + table + summed,
            activations,
            buffers: logits.max(of_backward),
            process,
            peak: always + after_forward.max(after_backward).max(DRAWING),
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
