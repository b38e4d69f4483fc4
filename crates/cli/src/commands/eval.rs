//! `firebox eval`

use super::{Weights, checkpoint_dir, open_device, open_encoder, open_model};
use crate::report::{CHECKPOINT, DATA, Failure, USAGE, print, print_json};
use checkpoint::PretrainedBert;
use data::config::{LabelledConfig, OnBadRow, RecordsConfig, SourceConfig, TextConfig};
use data::source::labelled::Example;
use data::{Batches, EvaluationRows, Examples, Masking, TextCleaner, TokenStream};
use serde_json::json;
use std::path::{Path, PathBuf};
use trainer::config::RunConfig;

/// Arguments of `firebox eval`.
#[derive(clap::Args)]
pub struct Arguments {
    /// A checkpoint, a run directory (its best checkpoint), or any HuggingFace directory of a supported family.
    checkpoint: PathBuf,
    /// The text: a UTF-8 file, or a .jsonl or .csv file with a text field; for a classifier also .tsv.
    #[arg(long, required_unless_present = "split")]
    data: Option<PathBuf>,
    /// Of a classifier that was trained here, a part of the data that its run was made from.
    #[arg(long, value_enum, conflicts_with = "data")]
    split: Option<Part>,
    /// The field of a .jsonl or .csv file that holds the text.
    #[arg(long, default_value = "text")]
    field: String,
    /// The column or field that holds a classifier's label.
    #[arg(long, default_value = "label")]
    label: String,
    /// The column or field of a second text, where a classifier reads pairs.
    #[arg(long)]
    pair_field: Option<String>,
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

/// A part of a run's data.
#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
pub enum Part {
    /// What evaluations during training used.
    Validation,
    /// What was held out.
    Test,
}

/// Measures a model: a GPT on a text, in blocks of its context; a BERT on masked text, or on labelled texts.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    if checkpoint::family(&checkpoint_dir(&arguments.checkpoint)?)? == "bert" {
        return encoder(arguments);
    }
    let Some(path) = &arguments.data else {
        return Err(Failure::new(USAGE, "--split is for classifiers; hint: --data FILE"));
    };
    let corpus = data::source::read(&source(path, arguments))?;
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
                path.display()
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

/// Measures a BERT.
fn encoder(arguments: &Arguments) -> Result<(), Failure> {
    let dir = checkpoint_dir(&arguments.checkpoint)?;
    let device = open_device(&arguments.device)?;
    let PretrainedBert { model, config, tokenizer } = open_encoder(&dir, &device)?;
    let seq_len = config.max_seq_len;
    let labels = config.head.labels();
    let rows = if labels.is_empty() {
        let Some(path) = &arguments.data else {
            return Err(Failure::new(USAGE, "--split is for classifiers; hint: --data FILE"));
        };
        let corpus = data::source::read(&source(path, arguments))?;
        let stream = TokenStream::separated(&tokenizer, &corpus.documents)?;
        let masking = Masking::new(&Default::default(), &tokenizer, 0)?;
        Batches::masked_evaluation(stream, masking, seq_len, 0, usize::MAX)?
    } else {
        let examples = labelled(arguments, &dir)?;
        let examples = Examples::new(&tokenizer, &examples, labels, Default::default(), seq_len, 0)?;
        EvaluationRows::labelled(examples, seq_len, usize::MAX)
    };
    let batches = rows.batches(arguments.batch_size as usize);
    let result = model::in_thread_pool(&device.device, || {
        trainer::evaluate(&model, batches, model::Precision::F32, &device.device)
    });
    let Some(classes) = &result.classes else {
        let perplexity = result.perplexity();
        if arguments.json {
            let (loss, accuracy, tokens) = (result.loss, result.accuracy, result.tokens);
            return print_json(&json!({
                "loss": loss, "perplexity": perplexity, "accuracy": accuracy, "tokens": tokens,
            }));
        }
        return print(&format!(
            "loss            {:.4}\nperplexity      {perplexity:.3}\ntoken accuracy  {:.2}%\nmasked tokens   {}\n",
            result.loss,
            100.0 * result.accuracy,
            result.tokens
        ));
    };
    let report = classes.report(labels).map_err(|error| Failure::new(DATA, error))?;
    if !arguments.json {
        return print(&report.table(20));
    }
    let mut value = json!(report);
    value["loss"] = json!(result.loss);
    value["labels"] = json!(labels);
    print_json(&value)
}

/// The examples of a file, or of a part of the data that the checkpoint's run was made from.
fn labelled(arguments: &Arguments, dir: &Path) -> Result<Vec<Example>, Failure> {
    if let Some(path) = &arguments.data {
        let config = LabelledConfig {
            files: vec![glob::Pattern::escape(&path.to_string_lossy())],
            validation_files: Vec::new(),
            test_files: Vec::new(),
            text: arguments.field.clone(),
            text_pair: arguments.pair_field.clone(),
            label: arguments.label.clone(),
            on_bad_row: OnBadRow::Error,
        };
        let mut examples = data::source::labelled::read_files(&config, &config.files, &mut Vec::new())?;
        // The parts of a run's own data come cleaned.
        if let Some(cleaner) = TextCleaner::beside(dir)? {
            for example in &mut examples {
                example.text = cleaner.clean(&example.text);
                example.pair = example.pair.as_ref().map(|pair| cleaner.clean(pair));
            }
        }
        return Ok(examples);
    }
    let state = checkpoint::TrainState::read(dir)?;
    let config: RunConfig = serde_json::from_value(state.config)
        .map_err(|error| Failure::new(CHECKPOINT, format!("{}: the run's config: {error}", dir.display())))?;
    let SourceConfig::Labelled(source) = &config.data else {
        return Err(Failure::new(USAGE, "the run was not made from labelled texts; hint: --data FILE"));
    };
    let splits = data::source::labelled::read(source, &config.split, &config.clean)?;
    if splits.hash != state.data_hash {
        return Err(Failure::new(
            DATA,
            "the data has changed since the run: its parts are others now; hint: --data FILE",
        ));
    }
    let (part, name) = match arguments.split {
        Some(Part::Validation) => (splits.validation, "split.validation"),
        _ => (splits.test, "split.test"),
    };
    if part.is_empty() {
        return Err(Failure::new(DATA, format!("the run kept nothing apart: `{name}` was 0")));
    }
    Ok(part)
}

fn source(path: &Path, arguments: &Arguments) -> SourceConfig {
    // A path is taken as it is written: its brackets and stars are no glob.
    let files = vec![glob::Pattern::escape(&path.to_string_lossy())];
    let field = arguments.field.clone();
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("jsonl") => SourceConfig::Jsonl(RecordsConfig { files, field }),
        Some("csv") => SourceConfig::Csv(RecordsConfig { files, field }),
        _ => SourceConfig::Text(TextConfig { files, separator: None }),
    }
}
