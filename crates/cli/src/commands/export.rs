//! `firebox export`

use super::checkpoint_dir;
use crate::report::{Failure, USAGE, print, print_json};
use checkpoint::{Dtype, File};
use clap::ValueEnum;
use serde_json::json;
use std::path::PathBuf;

/// The format to write.
#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// A HuggingFace directory.
    Safetensors,
}

/// How numbers are stored.
#[derive(Clone, Copy, ValueEnum)]
enum Number {
    F32,
    F16,
    Bf16,
}

/// Arguments of `firebox export`.
#[derive(clap::Args)]
pub struct Arguments {
    /// A checkpoint, a run directory (its best checkpoint), or any HuggingFace directory of a supported family.
    checkpoint: PathBuf,
    /// The format to write.
    #[arg(long, value_enum)]
    to: Format,
    /// How numbers are stored.
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Number,
    /// The directory to write; must not exist yet.
    #[arg(long)]
    out: PathBuf,
    /// Print one JSON value.
    #[arg(long)]
    json: bool,
}

/// Writes a clean directory: weights, config and tokenizer, no training state.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Format::Safetensors = arguments.to;
    if arguments.out.exists() {
        return Err(Failure::new(
            USAGE,
            format!("--out: {} exists; hint: name a new directory", arguments.out.display()),
        ));
    }
    let dir = checkpoint_dir(&arguments.checkpoint)?;
    let (dtype, name) = match arguments.dtype {
        Number::F32 => (Dtype::F32, "float32"),
        Number::F16 => (Dtype::F16, "float16"),
        Number::Bf16 => (Dtype::Bf16, "bfloat16"),
    };
    let mut contents = checkpoint::exported(&dir, name)?;
    for file in contents.values_mut() {
        if let File::Tensors { dtype: stored, .. } = file {
            *stored = dtype;
        }
    }
    checkpoint::export(&arguments.out, &contents)?;
    let bytes = checkpoint::size_on_disk(&contents);
    if arguments.json {
        return print_json(&json!({ "checkpoint": dir, "out": arguments.out, "dtype": name, "bytes": bytes }));
    }
    print(&format!("{} -> {} ({name}, {})\n", dir.display(), arguments.out.display(), checkpoint::human_bytes(bytes)))
}
