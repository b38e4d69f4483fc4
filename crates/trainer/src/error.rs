//! What can end a run.

use std::path::PathBuf;

/// An error of training. What each says is complete; the command line adds nothing but the exit code.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The config contradicts the data, the tokenizer, the model or the run it is to resume.
    #[error("{0}")]
    Config(String),
    /// The data cannot be used.
    #[error(transparent)]
    Data(#[from] data::Error),
    /// A checkpoint or the run directory cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// The device cannot be opened or failed.
    #[error("device: {0}")]
    Device(String),
    /// The loss or a gradient stopped being a number; the update was not made.
    #[error(
        "step {step}: {what} is not finite, so the update was not made{}; hint: lower the learning rate, raise `schedule` \
         warm-up, or set `train.max_grad_norm` = 1.0",
        match last_good { Some(dir) => format!("; the last good checkpoint is {}", dir.display()), None => String::new() }
    )]
    Diverged {
        /// The step that was not made.
        step: u64,
        /// "the loss" or the first tensor whose gradient is bad.
        what: String,
        /// The newest checkpoint, if any was saved.
        last_good: Option<PathBuf>,
    },
}
