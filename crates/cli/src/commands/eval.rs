//! `firebox eval`

mod conversations;

use super::ensemble::Ensemble;
use super::trained::{self, Columns, run_config, trained_on};
use super::{Weights, checkpoint_dir, open_device, open_encoder, open_model};
use crate::report::{DATA, Failure, USAGE, print, print_json, say};
use checkpoint::PretrainedBert;
use data::config::{LabelledConfig, ProblemConfig, RecordsConfig, SourceConfig, TaggedConfig, TextConfig};
use data::document_rows::DocumentRows;
use data::examples::check_pairs;
use data::source::labelled::Example;
use data::source::tagged::TaggedSentence;
use data::tagged::TaggedExamples;
use data::{Batches, EvaluationRows, Examples, Masking, SentencePairs, TextCleaner, TokenStream};
use model::bert::{BertHead, Problem};
use serde_json::json;
use std::path::{Path, PathBuf};
use trainer::Predictions;
use trainer::config::RunConfig;

/// Arguments of `firebox eval`.
#[derive(clap::Args)]
pub struct Arguments {
    /// A checkpoint, a run directory (its best checkpoint), or any HuggingFace directory of a supported family.
    checkpoint: PathBuf,
    /// The text: a UTF-8 file, or a .jsonl or .csv file with a text field; for a classifier also .tsv.
    #[arg(long, required_unless_present = "split")]
    data: Option<PathBuf>,
    /// Of a classifier or a chat model that was trained here, a part of the data that its run was made from.
    #[arg(long, value_enum, conflicts_with = "data")]
    split: Option<Part>,
    /// More classifiers with the same labels, measured together with the first.
    #[arg(long, value_name = "CHECKPOINT", num_args = 1..)]
    ensemble: Vec<PathBuf>,
    /// Let the models of an ensemble vote, in place of the mean of their probabilities.
    #[arg(long, requires = "ensemble")]
    vote: bool,
    /// The file holds conversations, in any format of [data.chat]: the loss is that of the answers alone.
    #[arg(long)]
    chat: bool,
    /// Of a chat model: answer each conversation's last question, and compare with its answer by exact match, token F1,
    /// BLEU and ROUGE-L. With FILE the answers are written there, a line of JSON each.
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    answers: Option<Option<PathBuf>>,
    /// Tokens of an answer at most.
    #[arg(long, default_value_t = 256, requires = "answers", value_parser = clap::value_parser!(u64).range(1..))]
    max_new_tokens: u64,
    #[command(flatten)]
    columns: Columns,
    /// What divides a text file into documents, as `separator` in [data.text]; without it the file is one.
    #[arg(long)]
    separator: Option<String>,
    /// The column or field that holds a classifier's label; left out, that of its training, or `label`.
    #[arg(long)]
    label: Option<String>,
    /// What stands between the labels of a text that has several; left out, as in training, or `|`.
    #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    label_separator: Option<String>,
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

/// Measures a model: a GPT on a text, in blocks of its context, or on conversations; a BERT on masked text, or on labelled texts.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    if checkpoint::family(&checkpoint_dir(&arguments.checkpoint)?)? == "bert" {
        return encoder(arguments);
    }
    let text = match &arguments.data {
        Some(path) if !arguments.chat => path,
        _ => return conversations::run(arguments),
    };
    if arguments.answers.is_some() {
        return Err(Failure::new(USAGE, "--answers is for conversations; hint: --chat"));
    }
    if !arguments.ensemble.is_empty() {
        return Err(Failure::new(USAGE, "--ensemble is for classifiers of whole texts"));
    }
    let corpus = data::source::read(&source(text, arguments, &checkpoint_dir(&arguments.checkpoint)?))?;
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
                text.display()
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
    if arguments.chat || arguments.answers.is_some() {
        return Err(Failure::new(USAGE, "--chat and --answers are for a GPT, the model is a BERT"));
    }
    let dir = checkpoint_dir(&arguments.checkpoint)?;
    let device = open_device(&arguments.device)?;
    if !arguments.ensemble.is_empty() {
        let models = Ensemble::open(&dir, &arguments.ensemble, arguments.vote, &device)?;
        let problem = models.first().problem().map(problem_config).expect("an ensemble is of classifiers");
        let predictions = models.predictions(&labelled(arguments, &dir, problem, false)?, arguments.data.is_none())?;
        return show(&predictions, models.labels(), models.threshold() as f32, None, arguments.json);
    }
    let PretrainedBert { model, config, tokenizer, .. } = open_encoder(&dir, &device)?;
    let seq_len = config.max_seq_len;
    let labels = config.head.labels();
    let rows = match &config.head {
        BertHead::SequenceClassification { problem, .. } => {
            let problem = problem_config(*problem);
            let examples = labelled(arguments, &dir, problem, true)?;
            if examples.iter().any(|example| example.pair.is_some()) {
                check_pairs(config.type_vocab_size)?;
            }
            let examples = Examples::new(&tokenizer, &examples, problem, labels, &[], seq_len, 0)?;
            EvaluationRows::labelled(examples, seq_len, usize::MAX)
        }
        BertHead::TokenClassification { .. } => {
            let examples = TaggedExamples::new(&tokenizer, &tagged(arguments, &dir)?, labels, seq_len, 0)?;
            EvaluationRows::tagged(examples, seq_len, usize::MAX)
        }
        _ => {
            let Some(path) = &arguments.data else {
                let message = "--split is for classifiers and chat models; hint: --data FILE";
                return Err(Failure::new(USAGE, message));
            };
            let corpus = data::source::read(&source(path, arguments, &dir))?;
            let masking = Masking::new(&Default::default(), &tokenizer, 0)?;
            let documents = tokenizer.encode_all(&corpus.documents)?;
            if config.head == BertHead::PreTraining && documents.len() > 1 {
                check_pairs(config.type_vocab_size)?;
                let pairs = SentencePairs::new(&tokenizer, &corpus.documents, masking, seq_len, 0)?;
                EvaluationRows::next_sentence(pairs, 0, usize::MAX)?
            } else if DocumentRows::suits(&documents, seq_len) {
                EvaluationRows::documents(DocumentRows::new(&documents, masking, seq_len, 0), seq_len, usize::MAX)
            } else {
                let stream = TokenStream::separated(&tokenizer, &corpus.documents)?;
                Batches::masked_evaluation(stream, masking, seq_len, 0, usize::MAX)?
            }
        }
    };
    let batches = rows.batches(arguments.batch_size as usize);
    let result = model::in_thread_pool(&device.device, || {
        trainer::evaluate(&model, batches, model::Precision::F32, &device.device)
    });
    if let Some(predictions) = &result.predictions {
        return show(predictions, labels, config.head.threshold(), Some(result.loss), arguments.json);
    }
    if !result.has_targets() {
        return Err(Failure::new(
            DATA,
            "no token of the text was masked: it is too short, or unknown to the tokenizer",
        ));
    }
    let perplexity = result.perplexity();
    let next_sentence = result.terms.get(1);
    if arguments.json {
        let (loss, accuracy, tokens) = (result.loss, result.accuracy, result.tokens);
        let mut value = json!({"loss": loss, "perplexity": perplexity, "accuracy": accuracy, "tokens": tokens});
        if let Some(term) = next_sentence {
            value["next_sentence"] = json!({"loss": term.loss, "accuracy": term.accuracy});
        }
        return print_json(&value);
    }
    let of_pairs = next_sentence.map_or(String::new(), |term| {
        format!("next sentence   {:.2}% right, loss {:.4}\n", 100.0 * term.accuracy, term.loss)
    });
    print(&format!(
        "loss            {:.4}\nperplexity      {perplexity:.3}\ntoken accuracy  {:.2}%\nmasked tokens   {}\n{of_pairs}",
        result.loss,
        100.0 * result.accuracy,
        result.tokens
    ))
}

/// Prints a classifier's figures.
fn show(
    predictions: &Predictions,
    labels: &[String],
    threshold: f32,
    loss: Option<f64>,
    as_json: bool,
) -> Result<(), Failure> {
    let report = predictions.report(labels, threshold).map_err(|error| Failure::new(DATA, error))?;
    if !as_json {
        return print(&report.table(20));
    }
    let mut value = json!(report);
    if let Some(loss) = loss {
        value["loss"] = json!(loss);
    }
    value["labels"] = json!(labels);
    print_json(&value)
}

/// A model's kind of answers as the data's.
fn problem_config(problem: Problem) -> ProblemConfig {
    match problem {
        Problem::SingleLabel => ProblemConfig::SingleLabel,
        Problem::MultiLabel { .. } => ProblemConfig::MultiLabel,
        Problem::Regression => ProblemConfig::Regression,
    }
}

/// The examples of a file, cleaned as the model's texts were if `clean`; or of a part of the data that the checkpoint's
/// run was made from, which comes cleaned.
fn labelled(arguments: &Arguments, dir: &Path, problem: ProblemConfig, clean: bool) -> Result<Vec<Example>, Failure> {
    if let Some(path) = &arguments.data {
        let source = trained_on(dir);
        let of_columns = arguments.columns.labelled(path, trained::labelled(source.as_ref()))?;
        let config = LabelledConfig {
            label: arguments.label.clone().unwrap_or(of_columns.label),
            label_separator: arguments.label_separator.clone().unwrap_or(of_columns.label_separator),
            problem,
            ..of_columns
        };
        let mut notes = Vec::new();
        let mut examples = data::source::labelled::read_files(&config, true, &config.files, &mut notes)?;
        notes.iter().for_each(say);
        if clean && let Some(cleaner) = TextCleaner::beside(dir)? {
            cleaner.clean_examples(&mut examples);
        }
        return Ok(examples);
    }
    let (config, state) = run_config(dir)?;
    run_examples(&config, arguments.split.unwrap_or(Part::Test), Some(&state.data_hash))
}

/// The tagged sentences of a file, read as those of the model's training, or of a part of the data that the checkpoint's
/// run was made from.
fn tagged(arguments: &Arguments, dir: &Path) -> Result<Vec<TaggedSentence>, Failure> {
    if let Some(path) = &arguments.data {
        let of_file = TaggedConfig::of_file(path);
        let trained = match trained_on(dir) {
            Some(SourceConfig::Tagged(trained)) => trained,
            _ => of_file.clone(),
        };
        let config = TaggedConfig {
            files: of_file.files,
            tokens: arguments.columns.field.clone().unwrap_or(trained.tokens),
            tags: arguments.label.clone().unwrap_or(trained.tags),
            on_bad_row: arguments.columns.on_bad_row(),
            ..trained
        };
        let mut notes = Vec::new();
        let sentences = data::source::tagged::read_files(&config, &config.files, &mut notes)?;
        notes.iter().for_each(say);
        return Ok(sentences);
    }
    let (config, state) = run_config(dir)?;
    let SourceConfig::Tagged(source) = &config.data else {
        return Err(Failure::new(USAGE, "the run was not made from tagged sentences; hint: --data FILE"));
    };
    let splits = data::source::tagged::read(source, &config.split)?;
    chosen(arguments.split.unwrap_or(Part::Test), &splits.hash, Some(&state.data_hash), splits.validation, splits.test)
}

/// A part of a run's data of this hash; `expected` is what it was when the run was made.
fn chosen<T>(
    part: Part,
    hash: &str,
    expected: Option<&str>,
    validation: Vec<T>,
    test: Vec<T>,
) -> Result<Vec<T>, Failure> {
    if expected.is_some_and(|expected| expected != hash) {
        let message = "the data has changed since the run: its parts are others now; hint: --data FILE";
        return Err(Failure::new(DATA, message));
    }
    let (part, name) = match part {
        Part::Validation => (validation, "split.validation"),
        Part::Test => (test, "split.test"),
    };
    if part.is_empty() {
        let message = format!("the run kept nothing apart: `{name}` was 0, or the data too small; hint: --data FILE");
        return Err(Failure::new(DATA, message));
    }
    Ok(part)
}

/// A part of the data that a run is made from; `hash` is what it was when the run was made.
pub fn run_examples(config: &RunConfig, part: Part, hash: Option<&str>) -> Result<Vec<Example>, Failure> {
    let SourceConfig::Labelled(source) = &config.data else {
        return Err(Failure::new(USAGE, "the run was not made from labelled texts; hint: --data FILE"));
    };
    let splits = data::source::labelled::read(source, &config.split, &config.clean)?;
    chosen(part, &splits.hash, hash, splits.validation, splits.test)
}

/// The text of a file, as a model in `dir` reads it.
fn source(path: &Path, arguments: &Arguments, dir: &Path) -> SourceConfig {
    // A path is taken as it is written: its brackets and stars are no glob.
    let files = vec![glob::Pattern::escape(&path.to_string_lossy())];
    let field = arguments.columns.text(trained_on(dir).as_ref());
    match data::source::extension(path).as_deref() {
        Some("jsonl") => SourceConfig::Jsonl(RecordsConfig { files, field }),
        Some("csv") => SourceConfig::Csv(RecordsConfig { files, field }),
        _ => SourceConfig::Text(TextConfig { files, separator: arguments.separator.clone() }),
    }
}
