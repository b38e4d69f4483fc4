//! One command a file.

pub mod bench;
pub mod config;
pub mod devices;
pub mod eval;
pub mod export;
pub mod generate;
pub mod tokenizer;
pub mod train;

use crate::report::{Failure, USAGE};
use checkpoint::Pretrained;
use model::{DeviceChoice, OpenDevice};
use std::path::{Path, PathBuf};

/// Opens the device a person named.
pub fn open_device(name: &str) -> Result<OpenDevice, Failure> {
    let choice: DeviceChoice = name.parse().map_err(|error| Failure::new(USAGE, error))?;
    Ok(choice.open()?)
}

/// The checkpoint a path means: itself, or of a run directory the best one, else the newest.
pub fn checkpoint_dir(path: &Path) -> Result<PathBuf, Failure> {
    if path.join("config.json").exists() || !path.is_dir() || checkpoint::list(path)?.is_empty() {
        return Ok(path.to_path_buf());
    }
    match checkpoint::best(path)? {
        Some((dir, _)) if dir.is_dir() => Ok(dir),
        _ => Ok(checkpoint::find_latest(path)?.dir),
    }
}

/// Opens a checkpoint, or a run's best one, on a device.
pub fn open_model(path: &Path, device: &OpenDevice) -> Result<Pretrained, Failure> {
    Ok(checkpoint::open_gpt(&checkpoint_dir(path)?, &device.device)?)
}

/// The ids a text starts from: the prompt's own, or for an empty one the end-of-text token or a newline.
pub fn prompt_ids(tokenizer: &data::Tokenizer, prompt: &str) -> Result<Vec<u32>, data::Error> {
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
