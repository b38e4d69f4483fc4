//! Texts with labels: read, divided so that every part has its share of every label, and the labels numbered.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::stratified::{stratified, stratified_fold};
use super::{bytes_of, csv, expand, extension, jsonl, nothing_left};
use crate::clean::{TextCleaner, check_limits, clean_examples};
use crate::config::{
    ClassWeights, ClassificationConfig, CleanConfig, LabelledConfig, OnBadRow, ProblemConfig, SplitConfig,
};
use crate::error::Error;
use crate::permutation::keyed_hash;
use crate::rows::{appended, drop_leaked, nothing_to_train_on};

/// A text, or a pair of texts, and its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// The text.
    pub text: String,
    /// The second text, where pairs are classified.
    pub pair: Option<String>,
    /// The labels as they are written: one, or any number where a text may have several; of a regression the number.
    pub labels: Vec<String>,
    /// Where it stands: the file, and the line from 1.
    pub place: (PathBuf, u64),
}

/// What an example's labels say.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The id of its one label.
    Class(u32),
    /// The ids of its labels.
    Labels(Vec<u32>),
    /// Its number.
    Value(f32),
}

impl Answer {
    /// The id of its one label; 0 for another kind of answer.
    pub(crate) fn class(&self) -> u32 {
        if let Self::Class(id) = self { *id } else { 0 }
    }

    /// 1 at the labels that it has, 0 at the others of `labels`.
    pub(crate) fn multi_hot(&self, labels: usize) -> Vec<f32> {
        let has = |id: &u32| match self {
            Self::Labels(ids) => ids.contains(id),
            _ => false,
        };
        (0..labels as u32).map(|id| f32::from(has(&id))).collect()
    }

    /// Its number; 0 for another kind of answer.
    pub(crate) fn value(&self) -> f32 {
        if let Self::Value(value) = self { *value } else { 0.0 }
    }
}

/// Labelled examples, divided, with their labels numbered.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledSplits {
    /// The labels of the training part, sorted; a label's place is its id. Of a regression the column's name.
    pub labels: Vec<String>,
    /// What the model trains on, in the order of the files.
    pub train: Vec<Example>,
    /// What the evaluations during training use.
    pub validation: Vec<Example>,
    /// What is held out for the end.
    pub test: Vec<Example>,
    /// What a person should know: rows that were changed or left out, and why.
    pub notes: Vec<String>,
    /// What changed the texts; to be done to every text that the model is given.
    pub cleaner: TextCleaner,
    /// BLAKE3 (hexadecimal) over everything that was read and kept, after cleaning.
    pub hash: String,
}

/// Tests that a config can be used on labelled texts.
///
/// # Errors
/// A similarity or limit that is none; one of turns, which a text does not have.
pub fn check_clean(config: &CleanConfig) -> Result<(), Error> {
    check_limits(config)?;
    for (key, limit) in [("clean.min_turns", config.min_turns), ("clean.max_turns", config.max_turns)] {
        if limit.is_some() {
            let hint = "leave it out, or use `clean.max_characters`";
            return Err(Error::config(key, "a labelled text has no turns", hint));
        }
    }
    Ok(())
}

/// Reads, cleans and divides the examples. Cleaning comes first, so that texts that it makes equal stay together.
///
/// # Errors
/// As [`super::read`] and [`TextCleaner::new`]; a similarity or limit that is none; no row that is left to train on; too
/// few labels to tell apart; a label of another part that training has none of; more folds than a label has texts.
pub fn read(config: &LabelledConfig, split: &SplitConfig, clean: &CleanConfig) -> Result<LabelledSplits, Error> {
    let problem = config.problem;
    let cleaner = TextCleaner::new(clean)?;
    check_clean(clean)?;
    let mut notes = Vec::new();
    // A list's rows that are kept, and how many it had.
    let mut read = |part: &str, files: &[String]| -> Result<(Vec<Example>, usize), Error> {
        if files.is_empty() {
            return Ok((Vec::new(), 0));
        }
        let examples = read_rows(config, true, (part, files), clean.drop_empty, &mut notes)?;
        let rows = examples.len();
        let mut of_part = Vec::new();
        let examples = clean_examples(examples, &cleaner, clean, &mut of_part);
        notes.extend(of_part.into_iter().map(|note| format!("{part}: {note}")));
        Ok((examples, rows))
    };
    let (all, rows) = read("files", &config.files)?;
    let (given_validation, _) = read("validation_files", &config.validation_files)?;
    let (given_test, _) = read("test_files", &config.test_files)?;
    let mut hasher = blake3::Hasher::new();
    let mut add = |part: &str| {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    };
    for example in all.iter().chain(&given_validation).chain(&given_test) {
        add(&example.text);
        example.pair.iter().for_each(|pair| add(pair));
        example.labels.iter().for_each(|label| add(label));
    }
    let fractions = [
        if config.test_files.is_empty() { split.test } else { 0.0 },
        if config.validation_files.is_empty() && split.folds.is_none() { split.validation } else { 0.0 },
    ];
    let [mut test, mut validation, mut train] = stratified(all, problem, fractions, split.seed);
    if let Some(folds) = split.folds {
        (train, validation) = stratified_fold(train, problem, folds, split.fold, split.seed)?;
    }
    validation.extend(given_validation);
    test.extend(given_test);
    if clean.check_leakage {
        drop_leaked(&mut train, [("validation", &validation), ("test", &test)], &mut notes);
    }
    if train.is_empty() {
        return Err(nothing_to_train_on(rows, "rows", &notes));
    }
    let labels = labels_of(&train, config, &notes)?;
    for example in train.iter().chain(&validation).chain(&test) {
        answer(problem, &labels, example)?;
    }
    if let Some(seed) = split.bootstrap {
        let rows = train.len() as u64;
        train = (0..rows).map(|draw| train[(keyed_hash(seed, draw) % rows) as usize].clone()).collect();
    }
    let hash = hasher.finalize().to_hex().to_string();
    Ok(LabelledSplits { labels, train, validation, test, notes, cleaner, hash })
}

/// The labels that a model trained on these examples tells apart; `notes` say which examples were left out.
fn labels_of(train: &[Example], config: &LabelledConfig, notes: &[String]) -> Result<Vec<String>, Error> {
    if config.problem == ProblemConfig::Regression {
        return Ok(vec![config.label.clone()]);
    }
    let labels: BTreeSet<&String> = train.iter().flat_map(|example| &example.labels).collect();
    let (least, hint) = match config.problem {
        ProblemConfig::MultiLabel => (1, "name the column of labels with `label`"),
        _ => (2, "a classifier tells two or more apart"),
    };
    if labels.len() < least {
        let found = labels.first().map_or("no label".to_string(), |label| format!("one label, `{label}`"));
        let message = format!("the {} training rows have {found}{}", train.len(), appended(notes));
        return Err(Error::config("label", message, hint));
    }
    Ok(labels.into_iter().cloned().collect())
}

/// What an example's labels say where `labels` are numbered by their places.
///
/// # Errors
/// A label that is not among them, or a number that is none, by file and line.
pub fn answer(problem: ProblemConfig, labels: &[String], example: &Example) -> Result<Answer, Error> {
    let wrong = |message: String, hint: &str| Error::Record {
        path: example.place.0.clone(),
        line: example.place.1,
        message,
        hint: hint.into(),
    };
    let id = |label: &String| {
        let place = labels.iter().position(|known| known == label);
        place.map(|place| place as u32).ok_or_else(|| {
            wrong(format!("the label `{label}` is unknown to the model"), "labels are those of the training part")
        })
    };
    let first = || example.labels.first().ok_or_else(|| wrong("the label is empty".into(), "fill it in"));
    match problem {
        ProblemConfig::SingleLabel => Ok(Answer::Class(id(first()?)?)),
        ProblemConfig::MultiLabel => Ok(Answer::Labels(example.labels.iter().map(id).collect::<Result<_, _>>()?)),
        ProblemConfig::Regression => {
            number(first()?).map(Answer::Value).map_err(|(message, hint)| wrong(message, hint))
        }
    }
}

/// The key of the weights that labels are given by name.
const LABEL_WEIGHTS: &str = "objective.classification.label_weights";

/// Tests what can be known of the weights of labels without the data.
///
/// # Errors
/// Weights in two ways; one that is not above 0.
pub fn check_weights(config: &ClassificationConfig) -> Result<(), Error> {
    if config.class_weights == ClassWeights::Balanced && !config.label_weights.is_empty() {
        let message = "it stands beside `class_weights` = \"balanced\"";
        return Err(Error::config(LABEL_WEIGHTS, message, "leave one of them out"));
    }
    match config.label_weights.iter().find(|(_, weight)| **weight <= 0.0 || weight.is_nan()) {
        None => Ok(()),
        Some((label, weight)) => {
            let message = format!("`{label}` has the weight {weight}");
            Err(Error::config(LABEL_WEIGHTS, message, "weights are above 0"))
        }
    }
}

/// Tests that no column is asked for twice.
pub(super) fn check_columns(config: &LabelledConfig) -> Result<(), Error> {
    let mut named = vec![("text", &config.text)];
    named.extend(config.text_pair.iter().map(|column| ("text_pair", column)));
    named.push(("label", &config.label));
    for (index, (key, column)) in named.iter().enumerate() {
        if let Some((before, _)) = named[..index].iter().find(|(_, other)| other == column) {
            let message = format!("`{column}` is also `{before}`");
            return Err(Error::config(key, message, "name another column"));
        }
    }
    Ok(())
}

/// How much an example of each label counts, by the label's id.
///
/// # Errors
/// Weights for several labels or for numbers; a weight for a label that there is none of, or one that is not above 0.
pub fn label_weights(
    config: &ClassificationConfig,
    problem: ProblemConfig,
    splits: &LabelledSplits,
) -> Result<Vec<f32>, Error> {
    check_weights(config)?;
    if config.class_weights == ClassWeights::None && config.label_weights.is_empty() {
        return Ok(vec![1.0; splits.labels.len()]);
    }
    if problem != ProblemConfig::SingleLabel {
        let message = "weights are for `data.labelled.problem` = \"single_label\"";
        return Err(Error::config(LABEL_WEIGHTS, message, "leave them out"));
    }
    if config.class_weights == ClassWeights::Balanced {
        let count = |label: &String| splits.train.iter().filter(|example| example.labels[0] == *label).count();
        let each = splits.train.len() as f32 / splits.labels.len() as f32;
        return Ok(splits.labels.iter().map(|label| each / count(label).max(1) as f32).collect());
    }
    if let Some(label) = config.label_weights.keys().find(|label| !splits.labels.contains(label)) {
        let hint = format!("the labels are {}", super::quoted(splits.labels.iter().map(String::as_str)));
        let message = format!("the training part has no label `{label}`");
        return Err(Error::config(LABEL_WEIGHTS, message, hint));
    }
    Ok(splits.labels.iter().map(|label| config.label_weights.get(label).map_or(1.0, |weight| *weight as f32)).collect())
}

/// The examples of files, without dividing them, and without labels unless they are wanted; what was left out is added
/// to `notes`.
///
/// # Errors
/// As [`super::read`].
pub fn read_files(
    config: &LabelledConfig,
    with_labels: bool,
    files: &[String],
    notes: &mut Vec<String>,
) -> Result<Vec<Example>, Error> {
    read_rows(config, with_labels, ("files", files), false, notes)
}

/// As [`read_files`], of a list with its key; `empty_texts` are good rows where something later leaves them out.
fn read_rows(
    config: &LabelledConfig,
    with_labels: bool,
    (key, files): (&str, &[String]),
    empty_texts: bool,
    notes: &mut Vec<String>,
) -> Result<Vec<Example>, Error> {
    if with_labels {
        check_columns(config)?;
    }
    let mut examples = Vec::new();
    let before = notes.len();
    let files = expand(key, files, LabelledConfig::USUAL_EXTENSION)?;
    for path in &files {
        let bytes = bytes_of(path, config.on_bad_row)?;
        examples.extend(read_file(path, &bytes, config, with_labels, empty_texts, notes)?);
    }
    if examples.is_empty() && !files.is_empty() {
        return Err(nothing_left(key, files, &notes[before..], LabelledConfig::NEEDS));
    }
    Ok(examples)
}

pub(super) fn read_file(
    path: &Path,
    bytes: &[u8],
    config: &LabelledConfig,
    with_labels: bool,
    empty_texts: bool,
    notes: &mut Vec<String>,
) -> Result<Vec<Example>, Error> {
    let mut columns = vec![("text", config.text.as_str())];
    columns.extend(config.text_pair.as_deref().map(|column| ("text_pair", column)));
    columns.extend(with_labels.then_some(("label", config.label.as_str())));
    let mut examples = Vec::new();
    let mut skipped: Vec<String> = Vec::new();
    let each = |record: Result<(u64, Vec<String>), Error>| {
        let example = record.and_then(|(line, values)| example((path.into(), line), values, config, empty_texts));
        match (example, config.on_bad_row) {
            (Ok(example), _) => examples.push(example),
            (Err(error), OnBadRow::Error) => return Err(error),
            (Err(error), OnBadRow::Skip) => skipped.push(error.to_string()),
        }
        Ok(())
    };
    let label_lists = config.problem == ProblemConfig::MultiLabel;
    match extension(path).as_deref() {
        Some("jsonl") => jsonl::records(path, bytes, &columns, label_lists, each)?,
        Some("tsv") => csv::records(path, bytes, b'\t', &columns, each)?,
        Some("csv") => csv::records(path, bytes, b',', &columns, each)?,
        _ => {
            let message = format!("`{}` is neither .csv nor .tsv nor .jsonl", path.display());
            return Err(Error::config("files", message, "rename it to what it is"));
        }
    }
    if let Some(first) = skipped.first() {
        notes.push(format!("left out {} rows of {}; the first: {first}", skipped.len(), path.display()));
    }
    Ok(examples)
}

/// What is wrong with a row, and a hint.
type Problem = (String, &'static str);

/// The example of a row's values: its text, its pair where there are pairs, and its label where one is read.
fn example(
    place: (PathBuf, u64),
    values: Vec<String>,
    config: &LabelledConfig,
    empty_texts: bool,
) -> Result<Example, Error> {
    let mut values = values.into_iter();
    let text = values.next().unwrap_or_default();
    let pair = config.text_pair.as_ref().and_then(|_| values.next());
    let labels = match values.next() {
        _ if !empty_texts && text.trim().is_empty() => Err(empty("text")),
        Some(label) => labels(label.trim(), config),
        None => Ok(Vec::new()),
    };
    match labels {
        Ok(labels) => Ok(Example { text, pair, labels, place }),
        Err((message, hint)) => {
            let (path, line) = place;
            Err(Error::Record { path, line, message, hint: hint.into() })
        }
    }
}

fn empty(what: &str) -> Problem {
    (format!("the {what} is empty"), "fill it in, remove the row, or set `on_bad_row` = \"skip\"")
}

/// The labels that a row's label says: of a regression its number.
fn labels(label: &str, config: &LabelledConfig) -> Result<Vec<String>, Problem> {
    match config.problem {
        ProblemConfig::MultiLabel => separated(label, &config.label_separator),
        _ if label.is_empty() => Err(empty("label")),
        ProblemConfig::SingleLabel => Ok(vec![label.into()]),
        ProblemConfig::Regression => number(label).map(|_| vec![label.into()]),
    }
}

/// The largest number that a regression learns; the square of an error much beyond it would not be finite.
const LARGEST: f32 = 1e15;

fn number(text: &str) -> Result<f32, Problem> {
    match (text.parse::<f32>(), text.parse::<f64>()) {
        (Ok(value), _) if value.abs() <= LARGEST => Ok(value),
        (_, Ok(value)) if value.is_finite() => {
            Err((format!("`{text}` is too large"), "a regression learns numbers up to 1e15; count in a larger unit"))
        }
        _ => Err((format!("`{text}` is not a number"), "a regression learns finite numbers")),
    }
}

/// The labels of a text that may have several: a JSON array, or what stands between separators. A label that stands
/// twice counts once.
fn separated(text: &str, separator: &str) -> Result<Vec<String>, Problem> {
    let listed: Option<Vec<Value>> = text.starts_with('[').then(|| serde_json::from_str(text).ok()).flatten();
    let labels: Vec<String> = match listed {
        Some(values) => values.iter().enumerate().map(listed_label).collect::<Result<_, _>>()?,
        None => text.split(separator).map(str::to_owned).collect(),
    };
    let labels: BTreeSet<String> = labels.iter().map(|label| label.trim().to_owned()).collect();
    Ok(labels.into_iter().filter(|label| !label.is_empty()).collect())
}

fn listed_label((index, value): (usize, &Value)) -> Result<String, Problem> {
    let message = || format!("entry {} of the list of labels is {}", index + 1, jsonl::kind(value));
    jsonl::label_text(value).ok_or_else(|| (message(), "a label is a string, a number or a truth value"))
}

#[cfg(test)]
mod tests;
