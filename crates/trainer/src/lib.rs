//! Config and batches in, checkpoints out: the training loop and everything it needs.
//!
//! [`config`] reads what a person asks for, [`Trainer`] does it, [`observer`]s watch.

#![deny(missing_docs)]
#![recursion_limit = "256"]

mod adaptation;
pub mod bench;
pub mod config;
mod error;
pub mod evaluate;
mod event;
pub mod forward;
mod loss_scale;

pub mod memory;
pub mod metrics;
pub mod network;
pub mod observer;
pub mod optimizer;
mod parts;
mod plan;
pub mod predictions;
mod readings;
mod resume;
mod rows;
pub mod schedule;
pub mod search;
mod trainer;

pub use error::Error;
pub use evaluate::{Evaluation, evaluate, evaluate_network};
pub use event::{EvalReport, Event, Observer, ObserverError, Outcome, Purpose, StepReport};
pub use memory::MemoryEstimate;
pub use network::{Network, NetworkConfig};
pub use plan::{Conversations, Plan};
pub use predictions::{PredictionReport, Predictions};
pub use resume::Resume;
pub use trainer::{Finished, Sampler, Trainer, plan};
