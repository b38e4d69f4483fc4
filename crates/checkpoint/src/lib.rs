//! Directories that hold a trained model, and what resuming its training needs.
//!
//! A checkpoint is a HuggingFace directory (`model.safetensors`, `config.json`, ...) with a
//! subfolder `train_state/` and a `manifest.json`. A run's directory looks like this:
//!
//! ```text
//! runs/x/
//!   step-000250/  step-000500/    checkpoints, each whole or not there at all
//!   latest                        the name of the newest one: a hint
//!   best                          the name and the metric of the best one
//!   .lock                         held by the process that trains
//!   .tmp-...                      unfinished: removed by the next owner
//! ```
//!
//! The promise: at whatever moment a process is killed, a disk fills up or the power fails,
//! [`find_latest`] finds a checkpoint that verifies, the last one saved or the one being saved, and
//! the next [`save`] succeeds.
//!
//! A training process does this:
//!
//! 1. [`RunLock::acquire`], which also cleans up; [`ensure_free`].
//! 2. To resume: [`find_latest`], [`TrainState::read`], [`differences`], [`read_optimizer`], [`open_model`].
//! 3. Now and then: [`save`], [`set_best`] if it is, [`rotate`].
#![deny(missing_docs)]

pub mod adapter;
mod checkpoint;
pub mod disk;
mod error;
mod history;
pub mod manifest;
mod pretrained;
mod run_lock;
pub mod safetensors;
pub mod train_state;
pub mod weights;

#[cfg(test)]
mod checkpoint_tests;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod pretrained_tests;
#[cfg(test)]
mod safetensors_tests;

pub use adapter::{AdapterConfig, base_of, is_adapter_dir, overlay, read_adapter};
pub use checkpoint::{Contents, File, LATEST, clean_up, export, save, size_on_disk, step_name};
pub use disk::{ensure_free, file_operations, free_space};
pub use error::{Damage, Error, Kind, human_bytes};
pub use history::{BEST, Found, Listed, best, find_latest, list, resolve, rotate, set_best};
pub use manifest::{Verified, verify};
pub use pretrained::{
    Pretrained, PretrainedBert, bert_files, exported, family, gpt_files, open_bert, open_gpt, read_bert, read_gpt,
    tokenizer,
};
pub use run_lock::RunLock;
pub use safetensors::{Dtype, HostTensor, Source, Sources, Tensors};
pub use train_state::{Best, Difference, TrainState, differences, read_optimizer};
pub use weights::{Weights, open_model};
