//! `firebox data`

use crate::report::{Failure, USAGE, print, print_json};
use data::chat::{self, Redactor};
use data::config::{ChatConfig, ChatFiles, ChatFormat, OnBadRow, RedactConfig, RedactKind, RedactPattern};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Subcommands of `firebox data`.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Write conversations of any format as OpenAI messages, one JSON object a line.
    Convert(Convert),
    /// Write a text or JSON file with personal data replaced by placeholders.
    Redact(Redact),
}

/// Arguments of `firebox data convert`.
#[derive(clap::Args)]
pub struct Convert {
    /// A .jsonl, .json, .csv, .tsv or .parquet file of conversations.
    input: PathBuf,
    /// The .jsonl file to write.
    output: PathBuf,
    /// messages, sharegpt, alpaca, prompt_completion or question_answer; without it the first record tells.
    #[arg(long, value_parser = named::<ChatFormat>)]
    format: Option<ChatFormat>,
    /// The column or field that holds the question.
    #[arg(long, default_value = "question")]
    question: String,
    /// The column or field that holds the answer.
    #[arg(long, default_value = "answer")]
    answer: String,
    /// The column or field of a system message beside the conversation.
    #[arg(long)]
    system: Option<String>,
    /// Leave out and count records that are malformed or no conversations, in place of stopping at the first.
    #[arg(long)]
    skip_bad_rows: bool,
    /// Print one JSON value.
    #[arg(long)]
    json: bool,
}

/// Arguments of `firebox data redact`.
#[derive(clap::Args)]
pub struct Redact {
    /// A .jsonl or .json file, whose string values are redacted, or a text.
    input: PathBuf,
    /// The file to write.
    output: PathBuf,
    /// Replace only these: email, phone, card, iban, ip, chinese_id, chinese_mobile.
    #[arg(long, value_delimiter = ',', value_parser = named::<RedactKind>)]
    kinds: Option<Vec<RedactKind>>,
    /// Replace what a regular expression matches by `[NAME]`; may be given several times.
    #[arg(long = "pattern", value_name = "NAME=REGEX", value_parser = pattern)]
    patterns: Vec<RedactPattern>,
    /// Print one JSON value.
    #[arg(long)]
    json: bool,
}

/// A value as a config names it.
fn named<T: serde::de::DeserializeOwned>(name: &str) -> Result<T, String> {
    serde_json::from_value(json!(name)).map_err(|error| error.to_string())
}

fn pattern(text: &str) -> Result<RedactPattern, String> {
    let (name, regex) = text.split_once('=').ok_or("expected NAME=REGEX, as `ticket=T-[0-9]+`")?;
    Ok(RedactPattern { name: name.to_owned(), regex: regex.to_owned() })
}

/// Works on data without training.
pub fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Convert(arguments) => convert(arguments),
        Command::Redact(arguments) => redact(arguments),
    }
}

fn convert(arguments: Convert) -> Result<(), Failure> {
    let Convert { input, output, format, question, answer, system, skip_bad_rows, json } = arguments;
    refuse_in_place(&input, &output)?;
    let files = vec![ChatFiles::Path(glob::Pattern::escape(&input.to_string_lossy()))];
    let on_bad_row = if skip_bad_rows { OnBadRow::Skip } else { OnBadRow::Error };
    let config = ChatConfig { format, question, answer, system, on_bad_row, ..ChatConfig::new(files) };
    let converted = chat::convert(&config, &output)?;
    if json {
        return print_json(&json!({ "conversations": converted.conversations, "notes": converted.notes }));
    }
    let notes: String = converted.notes.iter().map(|note| format!("{note}\n")).collect();
    print(&format!("{notes}{} conversations in {}\n", converted.conversations, output.display()))
}

fn redact(arguments: Redact) -> Result<(), Failure> {
    let Redact { input, output, kinds, patterns, json } = arguments;
    refuse_in_place(&input, &output)?;
    let all = RedactConfig::all();
    let redactor = Redactor::new(&RedactConfig { kinds: kinds.unwrap_or(all.kinds), patterns })?;
    let counts = chat::redact_file(&redactor, &input, &output)?;
    if json {
        return print_json(&json!({ "replaced": counts }));
    }
    let lines: String = counts.iter().map(|(kind, count)| format!("{kind:<16} {count}\n")).collect();
    let total: u64 = counts.values().sum();
    print(&format!("{lines}{total} replaced in {}\n", output.display()))
}

/// A file is not written while it is read.
fn refuse_in_place(input: &Path, output: &Path) -> Result<(), Failure> {
    let same = match (input.canonicalize(), output.canonicalize()) {
        (Ok(input), Ok(output)) => input == output,
        _ => false,
    };
    match same {
        true => Err(Failure::new(USAGE, format!("{} is input and output; hint: name another", output.display()))),
        false => Ok(()),
    }
}
