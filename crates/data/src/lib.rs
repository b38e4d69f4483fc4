//! Files in, [`Batch`] out.
//!
//! The straight path: [`source::read`] turns text, JSONL or CSV files into documents, [`split::split`] cuts them into
//! training, validation and test parts, a [`Tokenizer`] turns those into token ids, a [`TokenStream`] joins them, and
//! [`Batches`] gives the batch at any position as a pure function of (data, seed, position), which a [`Prefetcher`]
//! prepares ahead on a thread. [`chat::read`] turns files of conversations into conversations, divided. Nothing here knows of tensors: the crate does not depend on Burn.
#![deny(missing_docs)]

pub mod augment;
pub mod batch;
pub mod batches;
pub mod chat;
pub mod clean;
pub mod collate;
pub mod config;
pub mod document_rows;
pub mod error;
pub mod examples;
mod length_order;
pub mod masking;
pub mod near_duplicates;
pub mod next_sentence;
mod packing;
pub mod permutation;
pub mod prefetch;
mod repair;
mod rows;
mod sentences;
pub mod source;
pub mod split;
pub mod tagged;
pub mod token_stream;
pub mod tokenizer;
mod tokenizer_training;
mod words;

pub use augment::Augmenter;
pub use batch::{Batch, RowId, Target};
pub use batches::{Batches, EvaluationRows, blocks};
pub use clean::TextCleaner;
pub use config::{
    AugmentConfig, ChatConfig, CleanConfig, ObjectiveConfig, RedactConfig, SourceConfig, SplitConfig, TokenizerConfig,
};
pub use error::Error;
pub use examples::Examples;
pub use masking::Masking;
pub use next_sentence::SentencePairs;
pub use permutation::Permutation;
pub use prefetch::Prefetcher;
pub use source::Corpus;
pub use split::Splits;
pub use tagged::TaggedExamples;
pub use token_stream::TokenStream;
pub use tokenizer::{Specials, SubwordSampler, Tokenizer};
