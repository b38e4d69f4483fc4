//! `firebox eval`

use super::{Weights, open_device, open_model};
use crate::report::{DATA, Failure, print, print_json};
use data::config::{RecordsConfig, SourceConfig, TextConfig};
use serde_json::json;
use std::path::PathBuf;

/// Arguments of `firebox eval`.
#[derive(clap::Args)]
pub struct Arguments {
    /// A checkpoint, a run directory (its best checkpoint), or any HuggingFace directory of a supported family.
    checkpoint: PathBuf,
    /// The text: a UTF-8 file, or a .jsonl or .csv file with a text field.
    #[arg(long)]
    data: PathBuf,
    /// The field of a .jsonl or .csv file that holds the text.
    #[arg(long, default_value = "text")]
    field: String,
    /// Rows evaluated at once.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..))]
    batch_size: u64,
    /// What weights are stored in: int8 reads a quarter of the memory, on the CPU.
    #[arg(long, value_enum, default_value = "f32")]
    weights: Weights,
    /// auto, wgpu, wgpu:N, ndarray or flex.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Print one JSON value.
    #[arg(long)]
    json: bool,
}

/// Measures a model on a text, in blocks of its context.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let corpus = data::source::read(&source(arguments))?;
    let device = open_device(&arguments.device)?;
    arguments.weights.check(&device)?;
    let mut opened = open_model(&arguments.checkpoint, &device)?;
    opened.model = arguments.weights.of(opened.model);
    let documents = opened.tokenizer.encode_all(&corpus.documents)?;
    let seq_len = opened.config.max_seq_len;
    let batches = documents.iter().flat_map(|tokens| data::blocks(tokens, seq_len, arguments.batch_size as usize));
    let result = trainer::evaluate(&opened.model, batches, model::Precision::F32, &device.device);
    if result.tokens == 0 {
        let longest = documents.iter().map(Vec::len).max().unwrap_or(0);
        return Err(Failure::new(
            DATA,
            format!(
                "{}: no text is as long as one block of {seq_len} tokens (the longest has {longest}); hint: evaluate on more text",
                arguments.data.display()
            ),
        ));
    }
    let tokens: usize = documents.iter().map(Vec::len).sum();
    // The share of the text that was predicted has as many bytes a token as all of it.
    let bytes_per_token = corpus.documents.iter().map(String::len).sum::<usize>() as f64 / tokens as f64;
    let bits_per_byte = result.loss / std::f64::consts::LN_2 / bytes_per_token;
    if arguments.json {
        return print_json(&json!({
            "loss": result.loss, "perplexity": result.perplexity(), "accuracy": result.accuracy,
            "bits_per_byte": bits_per_byte, "tokens": result.tokens,
        }));
    }
    print(&format!(
        "loss            {:.4}\nperplexity      {:.3}\nbits per byte   {bits_per_byte:.4}\ntoken accuracy  {:.2}%\ntokens          {}\n",
        result.loss,
        result.perplexity(),
        100.0 * result.accuracy,
        result.tokens
    ))
}

fn source(arguments: &Arguments) -> SourceConfig {
    // A path is taken as it is written: its brackets and stars are no glob.
    let files = vec![glob::Pattern::escape(&arguments.data.to_string_lossy())];
    let field = arguments.field.clone();
    match arguments.data.extension().and_then(|extension| extension.to_str()) {
        Some("jsonl") => SourceConfig::Jsonl(RecordsConfig { files, field }),
        Some("csv") => SourceConfig::Csv(RecordsConfig { files, field }),
        _ => SourceConfig::Text(TextConfig { files, separator: None }),
    }
}
