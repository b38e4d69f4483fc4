//! Everything that can go wrong between a file and a batch.

use std::path::PathBuf;

use crate::source::quoted;

/// An error of this crate. Its text names the file and line or the key, what is wrong, and a hint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be opened or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },

    /// A file could not be written.
    #[error("{}: cannot be written: {source}", path.display())]
    Output {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },

    /// Conversations that should not be trained on as they are.
    #[error("{message}")]
    Lint {
        /// The first finding, and how many there are.
        message: String,
    },

    /// Paths or globs of a list of files match no file.
    #[error(
        "`{key}`: nothing matches {}; hint: paths and globs are relative to the working directory",
        quoted(patterns.iter().map(String::as_str))
    )]
    NoMatch {
        /// The key of the list.
        key: String,
        /// The entries as written in the config.
        patterns: Vec<String>,
    },

    /// A config key has a value that cannot be used.
    #[error("`{key}`: {message}; hint: {hint}")]
    Config {
        /// The key, dotted, as in the config file.
        key: String,
        /// What is wrong with its value.
        message: String,
        /// What to write instead.
        hint: String,
    },

    /// A file holds no byte of text.
    #[error("{}: the file is empty; hint: remove it from `files` or put text into it", path.display())]
    EmptyFile {
        /// The file.
        path: PathBuf,
    },

    /// A file holds NUL bytes.
    #[error("{}:{line}: NUL byte at offset {offset}, the file looks binary; hint: {hint}", path.display())]
    Binary {
        /// The file.
        path: PathBuf,
        /// Line of the first NUL byte, from 1.
        line: u64,
        /// Offset of that byte in the file, from 0.
        offset: u64,
        /// What to do about it.
        hint: String,
    },

    /// A file is not UTF-8.
    #[error("{}:{line}: the byte 0x{byte:02x} at offset {offset} is not UTF-8; hint: {hint}", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Line of the first bad byte, from 1.
        line: u64,
        /// Offset of that byte in the file, from 0.
        offset: u64,
        /// The bad byte.
        byte: u8,
        /// What to do about it.
        hint: String,
    },

    /// A JSONL or CSV record is malformed or lacks the text field.
    #[error("{}:{line}: {message}; hint: {hint}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// The record's line, from 1.
        line: u64,
        /// What is wrong with it.
        message: String,
        /// What to do about it.
        hint: String,
    },

    /// The files were read and hold no document with text.
    #[error("`{key}`: no text in {}; hint: {needs}", first_of(files))]
    NoDocuments {
        /// The key of the list of files.
        key: String,
        /// The files that were read.
        files: Vec<PathBuf>,
        /// What a file must hold.
        needs: &'static str,
    },

    /// A run has no row.
    #[error("there is no row to train on; hint: `files`, `split` and `clean` decide which there are")]
    NoRows,

    /// A tokenizer file or directory cannot be used.
    #[error("{}: {message}; hint: {hint}", path.display())]
    TokenizerFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
        /// What to do about it.
        hint: String,
    },

    /// The tokenizer library failed.
    #[error("tokenizer: cannot {action}: {message}")]
    Tokenizer {
        /// What was attempted.
        action: &'static str,
        /// What the library said.
        message: String,
    },

    /// A character-level tokenizer met a character outside its alphabet.
    #[error(
        "character {character:?} (U+{:04X}) at line {line}, byte offset {offset}, is not among the {alphabet} \
         characters of the tokenizer; hint: leave it out, or train the tokenizer on text that has it, or use a \
         byte-level one such as [tokenizer.bpe]",
        u32::from(*character)
    )]
    UnknownCharacter {
        /// The character.
        character: char,
        /// Its byte offset in the encoded text, from 0.
        offset: usize,
        /// Its line in the encoded text, from 1.
        line: usize,
        /// How many characters the tokenizer knows.
        alphabet: usize,
    },

    /// The text gives fewer tokens than one row needs.
    #[error(
        "the text has {tokens} tokens, one row of context {seq_len} needs {}; \
         hint: use more text or a context of at most {}",
        seq_len + 1,
        tokens.saturating_sub(1)
    )]
    TooShort {
        /// Tokens there are.
        tokens: usize,
        /// The context length, in tokens.
        seq_len: usize,
    },

    /// A row handed to a collator does not fit the batch.
    #[error("row {row} of the batch has {tokens} tokens, at most {} fit; hint: cut rows before collating", seq_len + 1)]
    RowTooLong {
        /// Index of the row in the batch.
        row: usize,
        /// Its tokens.
        tokens: usize,
        /// The batch's row length, in tokens.
        seq_len: usize,
    },

    /// The thread that prepares batches ahead ended.
    #[error("the thread that prepares batches stopped: {message}")]
    Prefetch {
        /// The panic's message, or what the system said.
        message: String,
    },
}

/// The first of some files, and how many more there are.
fn first_of(files: &[PathBuf]) -> String {
    let first = files.first().map_or_else(String::new, |path| path.display().to_string());
    match files.len() {
        0 | 1 => first,
        count => format!("{first} and {} more", count - 1),
    }
}

impl Error {
    /// An [`Error::Io`] for `path`; `file.map_err(Error::io(path))`.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    /// An [`Error::Output`] for `path`; `file.map_err(Error::output(path))`.
    pub(crate) fn output(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Output { path, source }
    }

    /// A context without room for a text between an encoder's special tokens.
    pub(crate) fn short_context(max_seq_len: usize) -> Self {
        let message = format!("{max_seq_len} tokens are too few for a text between its special tokens");
        Self::config("model.bert.max_seq_len", message, "128 is usual")
    }

    /// An [`Error::Config`].
    pub fn config(key: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Config { key: key.into(), message: message.into(), hint: hint.into() }
    }
}
