//! `firebox data`

use crate::report::{DATA, Failure, OUTPUT, USAGE, print, print_json, say};
use data::SourceConfig;
use data::chat::{self, ChatStats, Conversation, Redactor, Rule, Severity, TokenKind};
use data::config::{ChatConfig, ChatFormat, OnBadRow, ProblemConfig, RedactConfig, RedactKind, RedactPattern};
use data::source::labelled::Example;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use trainer::Conversations;
use trainer::config::RunConfig;

/// Subcommands of `firebox data`.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Show the first rows of a config's conversations as the model gets them: whose each token is, and which are trained.
    Preview(Preview),
    /// Count a config's conversations, their tokens, what is cut, and how full the rows are.
    Stats(OfConfig),
    /// Say what is likely wrong with a config's conversations; errors stop a training.
    Lint(Lint),
    /// Write the training, validation and test part of a config's labelled texts or conversations as .jsonl files, to
    /// compare with what else is trained on the same rows.
    Split(Split),
    /// Write conversations of any format as OpenAI messages, one JSON object a line.
    Convert(Convert),
    /// Write a text or JSON file with personal data replaced by placeholders.
    Redact(Redact),
}

/// A config whose data is looked at.
#[derive(clap::Args)]
pub struct OfConfig {
    /// The config file.
    config: PathBuf,
    /// Set a key; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Print one JSON value.
    #[arg(long)]
    json: bool,
}

/// Arguments of `firebox data preview`.
#[derive(clap::Args)]
pub struct Preview {
    #[command(flatten)]
    of: OfConfig,
    /// Rows that are shown.
    #[arg(long, default_value_t = 3)]
    rows: usize,
    /// Write them as a page for a browser.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Arguments of `firebox data lint`.
#[derive(clap::Args)]
pub struct Lint {
    #[command(flatten)]
    of: OfConfig,
    /// Show every finding, not only the first five of each rule.
    #[arg(long)]
    all: bool,
}

/// Findings of a rule that are shown unless all of them are asked for.
const SHOWN: usize = 5;

/// Arguments of `firebox data split`.
#[derive(clap::Args)]
pub struct Split {
    #[command(flatten)]
    of: OfConfig,
    /// The directory for train.jsonl, validation.jsonl and test.jsonl.
    output: PathBuf,
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
        Command::Preview(arguments) => preview(&arguments),
        Command::Stats(arguments) => stats(&arguments),
        Command::Lint(arguments) => lint(&arguments),
        Command::Split(arguments) => split(&arguments),
        Command::Convert(arguments) => convert(arguments),
        Command::Redact(arguments) => redact(arguments),
    }
}

impl OfConfig {
    fn open(&self) -> Result<(RunConfig, Conversations), Failure> {
        let config = RunConfig::load(&self.config, &self.sets)?.config;
        let conversations = Conversations::of(&config)?;
        Ok((config, conversations))
    }
}

fn preview(arguments: &Preview) -> Result<(), Failure> {
    let (config, Conversations { splits, template, tokenizer, max_seq_len }) = arguments.of.open()?;
    let (chat, seed) = (&config.chat, config.train.seed);
    let rows = chat::preview(&template, &tokenizer, chat, &splits.train, max_seq_len, seed, arguments.rows)?;
    if let Some(path) = &arguments.html {
        let title = format!("{}: training rows", arguments.of.config.display());
        checkpoint::disk::write_atomically(path, chat::page(&title, &rows).as_bytes())?;
        say(format!("{} rows in {}", rows.len(), path.display()));
        return Ok(());
    }
    if arguments.of.json {
        return print_json(&json!(rows));
    }
    let coloured = std::io::IsTerminal::is_terminal(&std::io::stdout()) && std::env::var_os("NO_COLOR").is_none();
    let mut text = String::from(match coloured {
        true => {
            "\x1b[30;42m trained \x1b[0m \x1b[30;43m trained end of a turn \x1b[0m \x1b[2mwritten by the template\x1b[0m\n"
        }
        false => "[[trained]] and not trained\n",
    });
    for row in rows {
        text += &format!("\nrow {}\n", row.row);
        for conversation in row.conversations {
            let (file, line) = &conversation.place;
            text += &format!("{}:{line}{}\n", file.display(), if conversation.cut { ", cut" } else { "" });
            for run in conversation.runs {
                let tokens: String = run.tokens.iter().map(|token| token.text.as_str()).collect();
                text += &match (coloured, run.weight != 0.0, run.kind) {
                    (true, true, TokenKind::EndOfTurn) => format!("\x1b[30;43m{tokens}\x1b[0m"),
                    (true, true, _) => format!("\x1b[30;42m{tokens}\x1b[0m"),
                    (true, false, TokenKind::Template) => format!("\x1b[2m{tokens}\x1b[0m"),
                    (false, true, _) => format!("[[{tokens}]]"),
                    (_, false, _) => tokens,
                };
            }
            text += "\n";
        }
    }
    print(&text)
}

fn stats(arguments: &OfConfig) -> Result<(), Failure> {
    let (config, Conversations { splits, template, tokenizer, max_seq_len }) = arguments.open()?;
    let settings = &config.train;
    let of = |part: &[Conversation]| {
        let rows = settings.micro_batch_size;
        ChatStats::new(&template, &tokenizer, &config.chat, part, max_seq_len, rows, settings.seed)
    };
    let (train, validation) = (of(&splits.train)?, of(&splits.validation)?);
    if arguments.json {
        return print_json(&json!({ "train": train, "validation": validation, "notes": splits.notes }));
    }
    let notes: String = splits.notes.iter().map(|note| format!("{note}\n")).collect();
    print(&format!("{notes}training\n{train}\nvalidation\n{validation}"))
}

fn lint(Lint { of, all }: &Lint) -> Result<(), Failure> {
    let (config, Conversations { splits, template, tokenizer, max_seq_len }) = of.open()?;
    let findings = chat::lint(&template, &tokenizer, &config.chat, &splits.train, &splits.validation, max_seq_len);
    if of.json {
        print_json(&json!(findings))?;
    } else {
        let most = if *all { usize::MAX } else { SHOWN };
        let mut found: BTreeMap<Rule, usize> = BTreeMap::new();
        let mut text = String::new();
        for finding in &findings {
            let count = found.entry(finding.rule).or_default();
            *count += 1;
            if *count <= most {
                text += &format!("{finding}\n");
            }
        }
        text += &format!("{} findings\n", findings.len());
        for (rule, count) in found {
            let hidden = count.saturating_sub(most);
            let hidden =
                if hidden == 0 { String::new() } else { format!(", {hidden} of them not shown without --all") };
            text += &format!("  {rule}: {count}{hidden}\n");
        }
        print(&text)?;
    }
    match findings.iter().filter(|finding| finding.severity == Severity::Error).count() {
        0 => Ok(()),
        errors => Err(Failure::new(DATA, format!("{errors} errors"))),
    }
}

/// The parts as the training sees them: cleaned, redacted, and in its order.
fn split(arguments: &Split) -> Result<(), Failure> {
    let config = RunConfig::load(&arguments.of.config, &arguments.of.sets)?.config;
    let dir = &arguments.output;
    let files = ["train.jsonl", "validation.jsonl", "test.jsonl"].map(|name| dir.join(name));
    if let Some(there) = files.iter().find(|path| path.exists()) {
        return Err(Failure::new(USAGE, format!("{} is there already; hint: name a new directory", there.display())));
    }
    let (parts, notes): ([Vec<String>; 3], Vec<String>) = match &config.data {
        SourceConfig::Labelled(source) => {
            let splits = data::source::labelled::read(source, &config.split, &config.clean)?;
            let record = |example: &Example| {
                let mut record = Map::new();
                record.insert(source.text.clone(), json!(example.text));
                if let (Some(name), Some(pair)) = (&source.text_pair, &example.pair) {
                    record.insert(name.clone(), json!(pair));
                }
                // Labels may hold the separator where they came as a list.
                let label = match source.problem {
                    ProblemConfig::MultiLabel => json!(example.labels),
                    _ => json!(example.labels.first()),
                };
                record.insert(source.label.clone(), label);
                format!("{}\n", Value::Object(record))
            };
            let parts = [splits.train, splits.validation, splits.test];
            (parts.map(|part| part.iter().map(record).collect()), splits.notes)
        }
        SourceConfig::Chat(source) => {
            let splits = chat::read(source, &config.split, &config.clean, &config.redact)?;
            let record = |conversation: &Conversation| {
                let mut line = Vec::new();
                chat::write_messages(conversation, &mut line).expect("memory takes what is written");
                String::from_utf8(line).expect("JSON is UTF-8")
            };
            let parts = [splits.train, splits.validation, splits.test];
            (parts.map(|part| part.iter().map(record).collect()), splits.notes)
        }
        _ => return Err(Failure::new(USAGE, "there are no rows to write; hint: `[data.labelled]` or `[data.chat]`")),
    };
    std::fs::create_dir_all(dir).map_err(|error| Failure::new(OUTPUT, format!("{}: {error}", dir.display())))?;
    for (path, rows) in files.iter().zip(&parts) {
        std::fs::write(path, rows.concat())
            .map_err(|error| Failure::new(OUTPUT, format!("{}: {error}", path.display())))?;
    }
    if arguments.of.json {
        let [train, validation, test] = parts.map(|rows| rows.len());
        return print_json(&json!({ "train": train, "validation": validation, "test": test, "notes": notes }));
    }
    let notes: String = notes.iter().map(|note| format!("{note}\n")).collect();
    let line = |(path, rows): (&PathBuf, &Vec<String>)| format!("{:>8} rows in {}\n", rows.len(), path.display());
    let lines: String = files.iter().zip(&parts).map(line).collect();
    print(&(notes + &lines))
}

fn convert(arguments: Convert) -> Result<(), Failure> {
    let Convert { input, output, format, question, answer, system, skip_bad_rows, json } = arguments;
    refuse_in_place(&input, &output)?;
    let on_bad_row = if skip_bad_rows { OnBadRow::Skip } else { OnBadRow::Error };
    let config = ChatConfig { format, question, answer, system, on_bad_row, ..ChatConfig::of_file(&input) };
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
pub(super) fn refuse_in_place(input: &Path, output: &Path) -> Result<(), Failure> {
    let same = match (input.canonicalize(), output.canonicalize()) {
        (Ok(input), Ok(output)) => input == output,
        _ => false,
    };
    match same {
        true => Err(Failure::new(USAGE, format!("{} is input and output; hint: name another", output.display()))),
        false => Ok(()),
    }
}
