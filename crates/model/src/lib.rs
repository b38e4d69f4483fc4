//! Tokens in, logits out: the transformer families Firebox trains, and what every family shares.
//!
//! A family is one file that reads top to bottom ([`gpt`], [`bert`]); [`weights`] carries parameters to and from
//! HuggingFace's names, [`pass`] says how a forward pass computes, [`device`] opens the hardware.

#![deny(missing_docs)]
#![recursion_limit = "256"]

pub mod attention;
pub mod bert;
pub mod checkpointed;
pub mod config;
pub mod device;
pub mod feed_forward;
pub mod gpt;
mod int8;
pub mod kv_cache;
pub mod lora;
pub mod loss;
pub mod pass;
mod shape;
pub mod weights;

pub use bert::{Bert, BertConfig, BertHead, Problem};
pub use config::{BertSettings, ConfigError, GptSettings, ModelConfig};
pub use device::{DeviceChoice, OpenDevice};
pub use gpt::{Gpt, GptConfig};
pub use kernels::{Precision, Support, in_thread_pool, keep_freed_memory, support, supports_int8};
pub use kv_cache::KvCache;
pub use lora::LoraConfig;
pub use pass::{Pass, Randomness};
pub use weights::{HostTensor, LoadReport, Tensors};
