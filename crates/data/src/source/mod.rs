//! Files in, documents out: one module a format.

mod conll;
pub(crate) mod csv;
mod jsonl;
pub mod labelled;
mod stratified;
mod tag_scheme;
pub mod tagged;
mod text;

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::config::{OnBadRow, SourceConfig};
use crate::error::Error;

/// The documents of a source, in the order of its files.
#[derive(Clone, Debug, PartialEq)]
pub struct Corpus {
    /// The texts; none is empty.
    pub documents: Vec<String>,
    /// BLAKE3 (hexadecimal) over every document's length and text, in order.
    pub hash: String,
    /// Bytes of text in all documents together.
    pub bytes: u64,
}

impl Corpus {
    /// A corpus of these documents; empty ones are left out.
    pub fn new(documents: Vec<String>) -> Self {
        let documents: Vec<String> = documents.into_iter().filter(|text| !text.is_empty()).collect();
        let mut hasher = blake3::Hasher::new();
        let mut bytes = 0;
        for text in &documents {
            let length = text.len() as u64;
            // The length goes in first, so that moving a boundary between two documents changes the hash.
            hasher.update(&length.to_le_bytes());
            hasher.update(text.as_bytes());
            bytes += length;
        }
        Self { documents, hash: hasher.finalize().to_hex().to_string(), bytes }
    }
}

/// Reads every file of the source.
///
/// # Errors
/// A missing, empty, binary or non-UTF-8 file, a malformed record, a record without the text field, or no text at all.
pub fn read(config: &SourceConfig) -> Result<Corpus, Error> {
    check_settings(config)?;
    if let SourceConfig::Chat(_) = config {
        let hint = "give [data.text], [data.jsonl] or [data.csv] to train on plain text";
        return Err(Error::config("data.chat", "conversations are no documents", hint));
    }
    let files = expand("files", &config.files(), config.usual_extension())?;
    let mut documents = Vec::new();
    let mut notes = Vec::new();
    for path in &files {
        match config {
            SourceConfig::Text(text_config) => {
                text::documents(read_utf8(path)?, text_config.separator.as_deref(), &mut documents);
            }
            SourceConfig::Jsonl(records) => {
                jsonl::documents(path, &read_utf8(path)?, &records.field, &mut documents)?;
            }
            SourceConfig::Csv(records) => csv::documents(path, &read_utf8(path)?, &records.field, &mut documents)?,
            SourceConfig::Chat(_) => {}
            SourceConfig::Labelled(labelled) => {
                let bytes = bytes_of(path, labelled.on_bad_row)?;
                let examples = labelled::read_file(path, &bytes, labelled, false, false, &mut notes)?;
                documents.extend(examples.into_iter().flat_map(|example| [Some(example.text), example.pair]).flatten());
            }
            SourceConfig::Tagged(tagged) => {
                let sentences = tagged::read_file(path, tagged, &mut notes)?;
                documents.extend(sentences.iter().map(tagged::TaggedSentence::text));
            }
        }
    }
    let found = documents.len();
    let corpus = Corpus::new(documents);
    if corpus.documents.is_empty() {
        return Err(nothing_left("files", files, &notes, config.needs()));
    }
    notes.iter().for_each(|note| tracing::warn!("{note}"));
    let dropped = found - corpus.documents.len();
    if dropped > 0 {
        tracing::warn!("left out {dropped} of {found} documents: they are empty");
    }
    Ok(corpus)
}

/// What is wrong with the source's settings, and with each of its lists of files: an entry that matches nothing, a file
/// that is empty or cannot be opened. Nothing is read. Each problem comes with its key inside the source's table.
pub fn problems(config: &SourceConfig) -> Vec<(String, Error)> {
    let of_settings = check_settings(config).err().map(|error| {
        let key = if let Error::Config { key, .. } = &error { key.clone() } else { "files".into() };
        (key, error)
    });
    let of_list = |(key, files): (&str, Vec<&str>)| {
        let error = check_files(key, &files, config.usual_extension()).err()?;
        Some((key.to_owned(), error))
    };
    of_settings.into_iter().chain(config.file_lists().into_iter().filter_map(of_list)).collect()
}

/// Tests that every file is there, is a file, is not empty and can be opened.
fn check_files(key: &str, files: &[&str], usual_extension: &str) -> Result<(), Error> {
    for path in expand(key, files, usual_extension)? {
        let length = File::open(&path).and_then(|file| file.metadata()).map_err(Error::io(&path))?.len();
        if length == 0 {
            return Err(Error::EmptyFile { path });
        }
    }
    Ok(())
}

fn check_settings(config: &SourceConfig) -> Result<(), Error> {
    if config.files().is_empty() {
        return Err(Error::config("files", "the list is empty", "name at least one file"));
    }
    match config {
        SourceConfig::Chat(chat) => crate::chat::check(chat),
        SourceConfig::Labelled(labelled) => labelled::check_columns(labelled),
        SourceConfig::Text(text) if text.separator.as_deref() == Some("") => {
            Err(Error::config("separator", "it is empty", "leave it out to make each file one document"))
        }
        _ => Ok(()),
    }
}

/// The files that the paths and globs of `key` name: in the order of the list, sorted inside a glob, each file once.
/// `usual_extension` is what such files have, for a hint.
pub(crate) fn expand<S: AsRef<str>>(key: &str, patterns: &[S], usual_extension: &str) -> Result<Vec<PathBuf>, Error> {
    let mut files: Vec<PathBuf> = Vec::new();
    let mut missing: Vec<String> = Vec::new();
    for pattern in patterns {
        let pattern = pattern.as_ref();
        if Path::new(pattern).is_dir() {
            let hint = format!("name its files, for example `{}/*.{usual_extension}`", pattern.trim_end_matches('/'));
            return Err(Error::config(key, format!("`{pattern}` is a directory"), hint));
        }
        let matches = matches(key, pattern)?;
        if matches.is_empty() {
            missing.push(pattern.into());
        }
        for path in matches {
            if !files.contains(&path) {
                files.push(path);
            }
        }
    }
    if missing.is_empty() { Ok(files) } else { Err(Error::NoMatch { key: key.into(), patterns: missing }) }
}

/// The files that one path or glob names, sorted.
fn matches(key: &str, pattern: &str) -> Result<Vec<PathBuf>, Error> {
    // A file whose name holds `[` or `*` is taken as it stands.
    if Path::new(pattern).is_file() {
        return Ok(vec![PathBuf::from(pattern)]);
    }
    let paths = glob::glob(pattern)
        .map_err(|error| Error::config(key, format!("`{pattern}`: {error}"), "write `[*]` for a literal star"))?;
    let mut matches = Vec::new();
    for path in paths {
        let path = path.map_err(|error| {
            let path = error.path().to_path_buf();
            Error::io(path)(error.into())
        })?;
        if path.is_file() {
            matches.push(path);
        }
    }
    matches.sort();
    Ok(matches)
}

/// A file's extension in lower case.
pub fn extension(path: &Path) -> Option<String> {
    path.extension().and_then(|extension| extension.to_str()).map(str::to_lowercase)
}

/// The bytes of a file that does not begin like UTF-16.
fn read_raw(path: &Path) -> Result<Vec<u8>, Error> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(Error::NotUtf8 {
            path: path.into(),
            line: 1,
            offset: 0,
            byte: bytes[0],
            hint: "the file begins like UTF-16; convert it: iconv -f UTF-16 -t UTF-8".into(),
        });
    }
    Ok(bytes)
}

/// A file's bytes without a byte-order mark.
///
/// # Errors
/// No byte is left.
fn without_mark(path: &Path, mut bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    if bytes.is_empty() {
        return Err(Error::EmptyFile { path: path.into() });
    }
    Ok(bytes)
}

/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The bytes of a file of rows: all of them text, unless bad rows are skipped.
fn bytes_of(path: &Path, on_bad_row: OnBadRow) -> Result<Vec<u8>, Error> {
    match on_bad_row {
        OnBadRow::Error => Ok(read_utf8(path)?.into_bytes()),
        OnBadRow::Skip => without_mark(path, read_raw(path)?),
    }
}

/// Lines, without their ends, and their numbers from 1.
fn lines(bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    (1..).zip(bytes.strip_suffix(b"\n").unwrap_or(bytes).split(|byte| *byte == b'\n'))
}

/// A row's text.
///
/// # Errors
/// Bytes that are not UTF-8, or NUL bytes, by file and line.
fn text_of<'a>(path: &Path, line: u64, row: &'a [u8]) -> Result<&'a str, Error> {
    let error = |offset: usize, message: String, hint: &str| {
        let line = line + line_at(row, offset) - 1;
        Error::Record { path: path.into(), line, message, hint: hint.into() }
    };
    if let Some(offset) = row.iter().position(|byte| *byte == 0) {
        return Err(error(offset, "the row has a NUL byte".into(), "convert the file to text, or remove the row"));
    }
    std::str::from_utf8(row).map_err(|cause| {
        let offset = cause.valid_up_to();
        let message = format!("the byte 0x{:02x} in this row is not UTF-8", row[offset]);
        error(offset, message, "convert the file, for example: iconv -f LATIN1 -t UTF-8")
    })
}

/// The text of a file, without a byte-order mark.
pub(crate) fn read_utf8(path: &Path) -> Result<String, Error> {
    let bytes = read_raw(path)?;
    if let Some(offset) = bytes.iter().position(|&byte| byte == 0) {
        return Err(Error::Binary {
            path: path.into(),
            line: line_at(&bytes, offset),
            offset: offset as u64,
            hint: "name a text file, or convert this one".into(),
        });
    }
    if let Err(error) = std::str::from_utf8(&bytes) {
        let offset = error.valid_up_to();
        return Err(Error::NotUtf8 {
            path: path.into(),
            line: line_at(&bytes, offset),
            offset: offset as u64,
            byte: bytes[offset],
            hint: "convert the file, for example: iconv -f LATIN1 -t UTF-8".into(),
        });
    }
    let text = String::from_utf8(without_mark(path, bytes)?);
    Ok(text.expect("text without its first character is text"))
}

/// The text of a list of words that `key` names, without a byte-order mark; empty if the file is.
///
/// # Errors
/// As [`read_utf8`]; a file that cannot be read is an error of the key, with `hint`.
pub(crate) fn read_word_list(key: &str, path: &Path, hint: &str) -> Result<String, Error> {
    match read_utf8(path) {
        Err(Error::EmptyFile { .. }) => Ok(String::new()),
        Err(Error::Io { path, source }) => Err(Error::config(key, format!("{}: {source}", path.display()), hint)),
        read => read,
    }
}

/// Files that were read and of which no row is left; the notes say of which rows that is why, and `needs` what a file
/// without any would have to hold.
fn nothing_left(key: &str, files: Vec<PathBuf>, notes: &[String], needs: &'static str) -> Error {
    match notes.first() {
        None => Error::NoDocuments { key: key.into(), files, needs },
        Some(note) => Error::config(key, format!("no row is left: {note}"), "correct the rows"),
    }
}

/// The line of a byte, from 1.
fn line_at(bytes: &[u8], offset: usize) -> u64 {
    1 + bytes[..offset].iter().filter(|&&byte| byte == b'\n').count() as u64
}

/// `a`, `b` and `c`, for the list of names in an error.
pub(crate) fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::{RecordsConfig, TextConfig};

    /// Writes the files into a fresh directory and reads them through `files`, relative to it.
    pub(crate) fn read_files(
        contents: &[(&str, &[u8])],
        make: impl Fn(Vec<String>) -> SourceConfig,
        files: &[&str],
    ) -> Result<Corpus, Error> {
        let directory = tempfile::tempdir().unwrap();
        for (name, bytes) in contents {
            std::fs::write(directory.path().join(name), bytes).unwrap();
        }
        let files = files.iter().map(|file| directory.path().join(file).display().to_string()).collect();
        let config = make(files);
        let result = read(&config);
        // The cheap check never refuses what reading accepts.
        if result.is_ok() {
            assert!(problems(&config).is_empty());
        }
        result
    }

    pub(crate) fn text(separator: Option<&str>) -> impl Fn(Vec<String>) -> SourceConfig {
        move |files| SourceConfig::Text(TextConfig { files, separator: separator.map(Into::into) })
    }

    pub(crate) fn records(files: Vec<String>) -> RecordsConfig {
        RecordsConfig { files, field: "text".into() }
    }

    fn message(contents: &[(&str, &[u8])], files: &[&str]) -> String {
        read_files(contents, text(None), files).unwrap_err().to_string()
    }

    #[test]
    fn a_glob_reads_its_files_in_order_of_name_and_each_file_once() {
        let contents: &[(&str, &[u8])] = &[("b.txt", b"B"), ("a.txt", b"A"), ("c.md", b"C")];
        let corpus = read_files(contents, text(None), &["c.md", "*.txt", "a.txt"]).unwrap();
        assert_eq!(corpus.documents, ["C", "A", "B"]);
        assert_eq!(corpus.bytes, 3);
    }

    #[test]
    fn a_name_with_brackets_is_taken_literally() {
        assert_eq!(read_files(&[("x[1].txt", b"A")], text(None), &["x[1].txt"]).unwrap().documents, ["A"]);
    }

    #[test]
    fn what_matches_nothing_is_an_error_that_names_it() {
        assert!(message(&[], &["none.txt"]).contains("none.txt"));
        assert!(message(&[], &["*.txt"]).contains("nothing matches"));
        assert!(matches!(read_files(&[], text(None), &[]), Err(Error::Config { .. })));
    }

    #[test]
    fn every_entry_that_matches_nothing_is_named_with_the_key_of_its_list() {
        let lists = "files = ['Cargo.toml', 'no/a.csv', 'no/b.csv']\ntest_files = ['no/c.csv']";
        let config: SourceConfig = toml::from_str(&format!("[labelled]\n{lists}")).unwrap();
        let said: Vec<(String, String)> =
            problems(&config).into_iter().map(|(key, error)| (key, error.to_string())).collect();
        let [(files, missing), (test_files, other)] = &said[..] else { panic!("{said:?}") };
        assert_eq!([files.as_str(), test_files], ["files", "test_files"]);
        assert!(missing.starts_with("`files`: nothing matches `no/a.csv`, `no/b.csv`; hint: "), "{missing}");
        assert!(other.starts_with("`test_files`: nothing matches `no/c.csv`; hint: "), "{other}");
    }

    #[test]
    fn a_directory_is_not_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let config = text(None)(vec![directory.path().display().to_string()]);
        assert!(read(&config).unwrap_err().to_string().contains("/*.txt`"));
        assert!(matches!(problems(&config)[..], [(_, Error::Config { .. })]));
        let config: SourceConfig =
            toml::from_str(&format!("[labelled]\nfiles = ['{}']", directory.path().display())).unwrap();
        assert!(read(&config).unwrap_err().to_string().contains("/*.csv`"));
    }

    #[test]
    fn bad_utf8_is_an_error_with_line_and_offset() {
        let error = message(&[("a.txt", b"good\nb\xe9d\n")], &["a.txt"]);
        assert!(error.contains("a.txt:2:") && error.contains("0xe9 at offset 6") && error.contains("hint"), "{error}");
        assert!(message(&[("a.txt", b"\xff\xfea\0")], &["a.txt"]).contains("UTF-16"));
    }

    #[test]
    fn nul_bytes_look_binary() {
        let error = message(&[("a.bin", b"ELF\n\0\0")], &["a.bin"]);
        assert!(error.contains("a.bin:2:") && error.contains("looks binary"), "{error}");
    }

    #[test]
    fn a_byte_order_mark_is_dropped_and_windows_line_ends_are_kept() {
        let corpus = read_files(&[("a.txt", b"\xef\xbb\xbfa\r\nb")], text(None), &["a.txt"]).unwrap();
        assert_eq!(corpus.documents, ["a\r\nb"]);
    }

    #[test]
    fn an_empty_file_is_an_error_even_for_the_cheap_check() {
        assert!(message(&[("a.txt", b"")], &["a.txt"]).contains("empty"));
        assert!(message(&[("a.txt", b"\xef\xbb\xbf")], &["a.txt"]).contains("empty"));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.txt");
        std::fs::write(&path, "").unwrap();
        let problems = problems(&text(None)(vec![path.display().to_string()]));
        assert!(matches!(problems[..], [(_, Error::EmptyFile { .. })]));
    }

    #[test]
    fn the_hash_sees_text_and_boundaries() {
        let hash = |documents: &[&str]| Corpus::new(documents.iter().map(|text| (*text).into()).collect()).hash;
        assert_eq!(hash(&["ab", "c"]), hash(&["ab", "", "c"]));
        assert_ne!(hash(&["ab", "c"]), hash(&["a", "bc"]));
        assert_ne!(hash(&["ab", "c"]), hash(&["c", "ab"]));
    }
}
