//! `firebox tokenizer`

use crate::report::{Failure, USAGE, print, print_json};
use checkpoint::File;
use clap::ValueEnum;
use data::Tokenizer;
use data::config::{CharConfig, SourceConfig, TextConfig, TokenizerConfig, TrainedConfig, UnigramConfig};
use serde_json::json;
use std::path::PathBuf;

/// Trains tokenizers and looks into them.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Train a tokenizer on text files.
    Train {
        /// UTF-8 text files or globs.
        #[arg(required = true)]
        files: Vec<String>,
        /// The kind of tokenizer.
        #[arg(long, value_enum, default_value = "bpe")]
        kind: Kind,
        /// Ids to reach; a character-level tokenizer has as many as there are characters.
        #[arg(long, default_value_t = 4096)]
        vocab_size: usize,
        /// How often a pair must occur to become a token (bpe, wordpiece).
        #[arg(long, default_value_t = 2)]
        min_frequency: u64,
        /// The directory to write tokenizer.json and tokenizer_config.json to; must not exist yet.
        #[arg(long)]
        out: PathBuf,
        /// Print one JSON value.
        #[arg(long)]
        json: bool,
    },
    /// Show a tokenizer's size, and how it cuts a text.
    Inspect {
        /// A tokenizer.json, or a directory that holds one.
        path: PathBuf,
        /// A text to cut.
        #[arg(long)]
        text: Option<String>,
        /// Print one JSON value.
        #[arg(long)]
        json: bool,
    },
}

/// The kind of tokenizer.
#[derive(Clone, Copy, ValueEnum)]
pub enum Kind {
    /// One id a character.
    Char,
    /// Byte-level byte-pair encoding, as GPT-2's.
    Bpe,
    /// WordPiece over bytes.
    Wordpiece,
    /// A unigram language model over bytes.
    Unigram,
}

/// Tokenizers have no context of their own; this stands in `tokenizer_config.json` until a model sets its own.
const NO_LIMIT: usize = 1_000_000;

/// Runs `firebox tokenizer`.
pub fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Train { files, kind, vocab_size, min_frequency, out, json } => {
            if out.exists() {
                return Err(Failure::new(
                    USAGE,
                    format!("--out: {} exists; hint: name a new directory", out.display()),
                ));
            }
            let config = match kind {
                Kind::Char => TokenizerConfig::Char(CharConfig {}),
                Kind::Bpe => TokenizerConfig::Bpe(TrainedConfig { vocab_size, min_frequency }),
                Kind::Wordpiece => TokenizerConfig::Wordpiece(TrainedConfig { vocab_size, min_frequency }),
                Kind::Unigram => TokenizerConfig::Unigram(UnigramConfig { vocab_size }),
            };
            let corpus = data::source::read(&SourceConfig::Text(TextConfig { files, separator: None }))?;
            let tokenizer = Tokenizer::train(&config, &corpus.documents, corpus.documents.len() > 1)?;
            let contents =
                tokenizer.files(NO_LIMIT).into_iter().map(|(name, bytes)| (name, File::Bytes(bytes))).collect();
            checkpoint::export(&out, &contents)?;
            let tokens: usize = tokenizer.encode_all(&corpus.documents)?.iter().map(Vec::len).sum();
            let bytes_per_token = corpus.bytes as f64 / tokens as f64;
            if json {
                return print_json(&json!({
                    "out": out, "vocab_size": tokenizer.vocab_size(), "tokens": tokens, "bytes_per_token": bytes_per_token,
                }));
            }
            print(&format!(
                "{}: {} ids; the text is {tokens} tokens, {bytes_per_token:.2} bytes each\n",
                out.display(),
                tokenizer.vocab_size()
            ))
        }
        Command::Inspect { path, text, json } => {
            let tokenizer = Tokenizer::from_file(&path)?;
            let ids = text.as_deref().map(|text| tokenizer.encode(text)).transpose()?;
            let back = ids.as_ref().map(|ids| tokenizer.decode(ids)).transpose()?;
            let piece = |id: u32| tokenizer.token(id).unwrap_or_default();
            let end = tokenizer.end_of_text();
            if json {
                return print_json(&json!({
                    "vocab_size": tokenizer.vocab_size(),
                    "end_of_text": end,
                    "ids": ids,
                    "tokens": ids.as_ref().map(|ids| ids.iter().map(|id| piece(*id)).collect::<Vec<_>>()),
                    "decoded": back,
                }));
            }
            let mut report = format!("ids          {}\n", tokenizer.vocab_size());
            if let Some(end) = end {
                report.push_str(&format!("end of text  {} ({end})\n", piece(end)));
            }
            if let (Some(ids), Some(text), Some(back)) = (ids, text, back) {
                for id in &ids {
                    report.push_str(&format!("{id:>8}  {}\n", piece(*id)));
                }
                if back != text {
                    report.push_str(&format!("decoded      {back}\nnote: this tokenizer changes text\n"));
                }
            }
            print(&report)
        }
    }
}
