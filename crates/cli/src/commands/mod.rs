//! One command a file.

pub mod bench;
pub mod chat;
pub mod config;
pub mod cv;
pub mod data;
pub mod devices;
mod ensemble;
pub mod eval;
pub mod export;
pub mod generate;
pub mod merge;
pub mod predict;
pub mod sweep;
mod text_lines;
pub mod tokenizer;
pub mod train;
mod trained;
mod trials;

use crate::report::{CHECKPOINT, DEVICE, Failure, USAGE, say};
use checkpoint::{Pretrained, PretrainedBert};
use model::bert::BertHead;
use model::weights::some_names;
use model::{DeviceChoice, Gpt, LoadReport, OpenDevice};
use std::path::{Path, PathBuf};

/// Opens the device a person named.
pub fn open_device(name: &str) -> Result<OpenDevice, Failure> {
    let choice: DeviceChoice = name.parse().map_err(|error| Failure::new(USAGE, error))?;
    Ok(choice.open()?)
}

/// The checkpoint a path means, as [`checkpoint::resolve`] finds it.
pub fn checkpoint_dir(path: &Path) -> Result<PathBuf, Failure> {
    Ok(checkpoint::resolve(path)?)
}

/// Opens a checkpoint, or a run's best one, on a device.
pub fn open_model(path: &Path, device: &OpenDevice) -> Result<Pretrained, Failure> {
    let dir = checkpoint_dir(path)?;
    let opened = checkpoint::open_gpt(&dir, &device.device)?;
    note_unexpected(&dir, &opened.report);
    Ok(opened)
}

/// Says which tensors the model that `config.json` describes has no place for.
fn note_unexpected(dir: &Path, report: &LoadReport) {
    match &report.unexpected[..] {
        [] => {}
        [name] => say(format!("note: a tensor of {} is not used: {name}", dir.display())),
        names => say(format!("note: {} tensors of {} are not used: {}", names.len(), dir.display(), some_names(names))),
    }
}

/// Opens a BERT that predicts masked tokens, or answers about texts or their words.
///
/// Other heads are refused: what is made of their outputs here would be wrong.
pub fn open_encoder(dir: &Path, device: &OpenDevice) -> Result<PretrainedBert, Failure> {
    let opened = checkpoint::open_bert(dir, &device.device)?;
    note_unexpected(dir, &opened.report);
    match &opened.config.head {
        BertHead::MaskedLm | BertHead::PreTraining => Ok(opened),
        BertHead::SequenceClassification { .. } | BertHead::TokenClassification { .. } => Ok(opened),
        other => Err(Failure::new(
            CHECKPOINT,
            format!(
                "{}: nothing answers for a {}; hint: for masked language models and classifiers of texts or words",
                dir.display(),
                other.architecture()
            ),
        )),
    }
}

/// What weights are stored in while a model generates or is evaluated.
#[derive(Clone, Copy, Debug, Default, PartialEq, clap::ValueEnum)]
pub enum Weights {
    /// As they were loaded.
    #[default]
    F32,
    /// Rounded to eight bits, a scale for each output channel.
    Int8,
}

impl Weights {
    /// Refuses what the device cannot do; to be asked before anything large is loaded.
    pub fn check(self, device: &OpenDevice) -> Result<(), Failure> {
        if self == Self::F32 || model::supports_int8(&device.device) {
            return Ok(());
        }
        let reason = &device.reason;
        Err(Failure::new(DEVICE, format!("{reason} does not do --weights int8; hint: --device ndarray or flex")))
    }

    /// The model with these weights.
    pub fn of(self, model: Gpt) -> Gpt {
        match self {
            Self::F32 => model,
            Self::Int8 => model.with_int8_weights(),
        }
    }
}

/// The ids a text starts from: the prompt's own, or for an empty one the end-of-text token or a newline.
pub fn prompt_ids(tokenizer: &::data::Tokenizer, prompt: &str) -> Result<Vec<u32>, ::data::Error> {
    if !prompt.is_empty() {
        let ids = tokenizer.encode(prompt)?;
        if !ids.is_empty() {
            return Ok(ids);
        }
    }
    match tokenizer.end_of_text() {
        Some(end) => Ok(vec![end]),
        None => match tokenizer.encode("\n") {
            Ok(ids) if !ids.is_empty() => Ok(ids),
            _ => Ok(vec![0]),
        },
    }
}
