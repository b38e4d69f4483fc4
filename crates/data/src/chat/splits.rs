//! Conversations read, cleaned, redacted and divided.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Conversation, Redactor, clean, read_file};
use crate::clean::TextCleaner;
use crate::config::{ChatConfig, CleanConfig, RedactConfig, SplitConfig};
use crate::error::Error;
use crate::rows::{Row, nothing_to_train_on};
use crate::source::expand;
use crate::split::{self, Part};

/// Conversations, divided.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatSplits {
    /// What the model trains on, in the order of the files; a conversation stands here as often as it comes in an epoch.
    pub train: Vec<Conversation>,
    /// What the evaluations during training use.
    pub validation: Vec<Conversation>,
    /// What is held out for the end.
    pub test: Vec<Conversation>,
    /// What a person should know: the formats, and what was changed or left out, and why.
    pub notes: Vec<String>,
    /// BLAKE3 (hexadecimal) over the three parts, message by message.
    pub hash: String,
}

/// Reads, cleans, redacts and divides the conversations of the files.
///
/// Cleaning and redaction come first, so that conversations that they make equal stay together. Which part a conversation
/// falls into depends on what is said and the seed alone.
///
/// # Errors
/// As [`read_file`], [`Redactor::new`] and [`super::check_clean`]; a file that is not there; a weight or a fraction that
/// cannot be; no conversation to train on.
pub fn read(
    config: &ChatConfig,
    split: &SplitConfig,
    clean: &CleanConfig,
    redact: &RedactConfig,
) -> Result<ChatSplits, Error> {
    check(config)?;
    clean::check_clean(clean)?;
    let fractions = SplitConfig {
        validation: if config.validation_files.is_empty() { split.validation } else { 0.0 },
        test: if config.test_files.is_empty() { split.test } else { 0.0 },
        seed: split.seed,
        ..split.clone()
    };
    split::check(&fractions)?;
    let (cleaner, redactor) = (TextCleaner::new(clean)?, Redactor::new(redact)?);
    let mut notes = Vec::new();
    // The conversations of some files that are kept, and how many there were.
    let mut read = |part: &str, files: &[PathBuf]| -> Result<(Vec<Conversation>, usize), Error> {
        let mut rows = Vec::new();
        if files.is_empty() {
            return Ok((rows, 0));
        }
        for path in files {
            read_file(path, config, &mut notes, |conversation| {
                rows.push(conversation);
                Ok(())
            })?;
        }
        let there = rows.len();
        let mut of_part = Vec::new();
        if cleaner.is_active() {
            let changed = clean::clean_messages(&mut rows, &cleaner);
            of_part.push(format!("cleaning changed {changed} of {there} conversations{}", changed.by_key()));
        }
        if redactor.is_active() {
            let counts = redactor.redact_conversations(&mut rows);
            let counts: Vec<String> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
            of_part.push(format!("redacted {}", if counts.is_empty() { "nothing".into() } else { counts.join(", ") }));
        }
        clean::drop_rows(&mut rows, clean, &mut of_part);
        notes.extend(of_part.into_iter().map(|note| format!("{part}: {note}")));
        Ok((rows, there))
    };
    let weights = weights(config)?;
    let files: Vec<PathBuf> = weights.iter().map(|(path, _)| path.clone()).collect();
    let (all, there) = read("files", &files)?;
    let mut given = |key: &str, files: &[String]| read(key, &expand(key, files, ChatConfig::USUAL_EXTENSION)?);
    let (given_validation, _) = given("validation_files", &config.validation_files)?;
    let (given_test, _) = given("test_files", &config.test_files)?;
    let contents: Vec<[u8; 32]> = all.iter().map(Row::content).collect();
    let [mut train, mut validation, mut test] = [(); 3].map(|()| Vec::new());
    for (row, part) in all.into_iter().zip(split::divide(&contents, &fractions)) {
        match part {
            Part::Train => train.push(row),
            Part::Validation => validation.push(row),
            Part::Test => test.push(row),
        }
    }
    validation.extend(given_validation);
    test.extend(given_test);
    if clean.check_leakage {
        clean::check_leakage(&mut train, [("validation", &validation), ("test", &test)], clean, &mut notes);
    }
    if train.is_empty() {
        return Err(nothing_to_train_on(there, "conversations", &notes));
    }
    let train = repeated(train, &weights, split.seed, &mut notes);
    let hash = hash([&train, &validation, &test]);
    Ok(ChatSplits { train, validation, test, notes, hash })
}

/// Tests what can be known of the settings without reading a file.
pub(crate) fn check(config: &ChatConfig) -> Result<(), Error> {
    if config.files.is_empty() {
        return Err(Error::config("files", "the list is empty", "name at least one file"));
    }
    match config.files.iter().find(|files| !(files.weight() > 0.0 && files.weight() <= 100.0)) {
        Some(files) => {
            let message = format!("the weight of `{}` is {}, not above 0, up to 100", files.path(), files.weight());
            Err(Error::config("files", message, "2.0 takes each conversation twice an epoch, 0.5 half of them"))
        }
        None => Ok(()),
    }
}

/// The files in their order, with their weights. Of a file that several entries match the last says the weight.
fn weights(config: &ChatConfig) -> Result<Vec<(PathBuf, f64)>, Error> {
    let mut weights: Vec<(PathBuf, f64)> = Vec::new();
    for files in &config.files {
        for path in expand("files", &[files.path()], ChatConfig::USUAL_EXTENSION)? {
            match weights.iter_mut().find(|(known, _)| *known == path) {
                Some((_, weight)) => *weight = files.weight(),
                None => weights.push((path, files.weight())),
            }
        }
    }
    Ok(weights)
}

/// Each conversation as often as its file's weight says: so many whole times, and once more for a fraction of the
/// conversations of that weight, which an order keyed by what is said and the seed picks.
fn repeated(
    rows: Vec<Conversation>,
    weights: &[(PathBuf, f64)],
    seed: u64,
    notes: &mut Vec<String>,
) -> Vec<Conversation> {
    if weights.iter().all(|(_, weight)| *weight == 1.0) {
        return rows;
    }
    let weight_of: BTreeMap<&Path, f64> = weights.iter().map(|(path, weight)| (path.as_path(), *weight)).collect();
    let weight = |row: &Conversation| weight_of.get(row.place.0.as_path()).copied().unwrap_or(1.0);
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    // Another order than the one that divides the parts.
    key[8] = 1;
    // Weights are positive, so their bits have their order.
    let mut by_weight: BTreeMap<u64, Vec<([u8; 32], usize)>> = BTreeMap::new();
    for (index, row) in rows.iter().enumerate() {
        let order = *blake3::keyed_hash(&key, &row.content()).as_bytes();
        by_weight.entry(weight(row).to_bits()).or_default().push((order, index));
    }
    let mut times = vec![0_usize; rows.len()];
    for (bits, mut order) in by_weight {
        order.sort_unstable();
        let weight = f64::from_bits(bits);
        let more = (weight.fract() * order.len() as f64).round() as usize;
        for (place, (_, index)) in order.iter().enumerate() {
            times[*index] = weight as usize + usize::from(place < more);
        }
        let taken: usize = order.iter().map(|(_, index)| times[*index]).sum();
        notes.push(format!("the weight {weight} takes {} conversations {taken} times an epoch", order.len()));
    }
    rows.into_iter().zip(times).flat_map(|(row, times)| std::iter::repeat_n(row, times)).collect()
}

fn hash(parts: [&[Conversation]; 3]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        for row in part {
            hasher.update(&(row.messages.len() as u64).to_le_bytes());
            hasher.update(&row.content());
            for message in &row.messages {
                // No weight is another thing than any weight.
                let weight = message.weight.map_or(u64::MAX, |weight| u64::from(weight.to_bits()));
                hasher.update(&weight.to_le_bytes());
            }
        }
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::{ChatFiles, SourceConfig, WeightedFiles};

    struct Files(tempfile::TempDir);

    impl Files {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        /// Writes questions, each with its answer; gives the path.
        fn write(&self, name: &str, questions: impl IntoIterator<Item = String>) -> String {
            let path = self.0.path().join(name);
            let line = |q: String| format!("{}\n", serde_json::json!({"prompt": q, "completion": format!("on {q}")}));
            std::fs::write(&path, questions.into_iter().map(line).collect::<String>()).unwrap();
            path.display().to_string()
        }
    }

    fn config(files: &[&str]) -> ChatConfig {
        ChatConfig::new(files.iter().map(|path| ChatFiles::Path((*path).into())).collect())
    }

    fn weighted(path: &str, weight: f64) -> ChatFiles {
        ChatFiles::Weighted(WeightedFiles { path: path.into(), weight })
    }

    fn read_all(config: &ChatConfig, validation: f64, test: f64, seed: u64, clean: &str) -> Result<ChatSplits, Error> {
        // What can be read passes the cheap check.
        let split = SplitConfig { validation, test, seed, ..SplitConfig::default() };
        let splits = read(config, &split, &toml::from_str(clean).unwrap(), &RedactConfig::default())?;
        assert!(crate::source::problems(&SourceConfig::Chat(config.clone())).is_empty());
        Ok(splits)
    }

    fn questions(rows: &[Conversation]) -> Vec<String> {
        rows.iter().map(|row| row.messages[0].content.clone()).collect()
    }

    fn set(rows: &[Conversation]) -> BTreeSet<String> {
        questions(rows).into_iter().collect()
    }

    #[test]
    fn parts_have_their_share_and_equal_conversations_stay_together() {
        let files = Files::new();
        let path = files.write("a.jsonl", (0..200).map(|i| format!("q{}", i - i % 20 / 19)));
        let splits = read_all(&config(&[&path]), 0.2, 0.1, 3, "").unwrap();
        assert_eq!([splits.train.len(), splits.validation.len(), splits.test.len()], [140, 40, 20]);
        let [train, validation, test] = [&splits.train, &splits.validation, &splits.test].map(|part| set(part));
        assert!(train.is_disjoint(&validation) && train.is_disjoint(&test) && validation.is_disjoint(&test));
        assert_eq!(splits, read_all(&config(&[&path]), 0.2, 0.1, 3, "").unwrap());
        let other = read_all(&config(&[&path]), 0.2, 0.1, 4, "").unwrap();
        assert!(splits.validation != other.validation && splits.hash != other.hash);
        let lines: Vec<u64> = splits.train.iter().map(|row| row.place.1).collect();
        assert!(lines.is_sorted(), "the order is that of the file");
    }

    #[test]
    fn files_of_their_own_make_the_other_parts() {
        let files = Files::new();
        let path = files.write("a.jsonl", (0..50).map(|i| format!("q{i}")));
        let held = files.write("v.jsonl", ["q3".into(), "v".into()]);
        let mut config = config(&[&path]);
        config.validation_files = vec![held.clone()];
        let splits = read_all(&config, 0.5, 0.0, 3, "").unwrap();
        assert_eq!([splits.train.len(), splits.validation.len(), splits.test.len()], [50, 2, 0]);
        let splits = read_all(&config, 0.5, 0.0, 3, "check_leakage = true").unwrap();
        assert_eq!(splits.train.len(), 49);
        let notes = splits.notes.join("\n");
        assert!(notes.contains("a.jsonl:4 as validation row") && notes.contains("v.jsonl:1: the format is"), "{notes}");
        config.test_files = vec![held];
        assert_eq!(read_all(&config, 0.5, 0.9, 3, "").unwrap().test.len(), 2);
        config.test_files = vec!["no/such.jsonl".into()];
        let error = read_all(&config, 0.0, 0.0, 3, "").unwrap_err().to_string();
        assert!(error.starts_with("`test_files`: nothing matches `no/such.jsonl`"), "{error}");
    }

    #[test]
    fn a_weight_takes_conversations_so_many_times_and_a_fraction_once_more() {
        let files = Files::new();
        let a = files.write("a.jsonl", (0..40).map(|i| format!("a{i}")));
        let b = files.write("b.jsonl", (0..40).map(|i| format!("b{i}")));
        let mut config = config(&[&a]);
        config.files.push(weighted(&b, 2.25));
        let splits = read_all(&config, 0.0, 0.0, 3, "").unwrap();
        let count = |splits: &ChatSplits, name: &str| questions(&splits.train).iter().filter(|q| *q == name).count();
        let counts: Vec<usize> = (0..40).map(|i| count(&splits, &format!("b{i}"))).collect();
        assert_eq!(counts.iter().filter(|count| **count == 3).count(), 10);
        assert_eq!(counts.iter().filter(|count| **count == 2).count(), 30);
        assert!((0..40).all(|i| count(&splits, &format!("a{i}")) == 1));
        assert!(splits.notes.iter().any(|note| note.contains("the weight 2.25 takes 40 conversations 90 times")));
        assert_eq!(splits, read_all(&config, 0.0, 0.0, 3, "").unwrap());
        assert_ne!(splits.train, read_all(&config, 0.0, 0.0, 4, "").unwrap().train);
        // Only training repeats, and the last entry that matches a file says its weight.
        config.files.push(weighted(&a, 0.5));
        let splits = read_all(&config, 0.25, 0.25, 3, "").unwrap();
        assert_eq!(splits.validation.len() + splits.test.len(), 40);
        assert_eq!(set(&splits.validation).len(), 20);
        let of_a = splits.train.iter().filter(|row| row.messages[0].content.starts_with('a')).count();
        let held: usize = [&splits.validation, &splits.test]
            .iter()
            .map(|p| questions(p).iter().filter(|q| q.starts_with('a')).count())
            .sum();
        assert_eq!(of_a, ((40 - held) as f64 / 2.0).round() as usize);
    }

    #[test]
    fn cleaning_and_redaction_come_before_the_split() {
        let files = Files::new();
        let twice = |i: usize| format!("write to {}{}@example.com{}", i / 2, i % 2, " ".repeat(i % 2));
        let path = files.write("a.jsonl", (0..100).map(twice).chain(["other one".into()]));
        let split = SplitConfig { validation: 0.0, test: 0.0, seed: 1, ..SplitConfig::default() };
        let clean: CleanConfig = toml::from_str("trim = true\ndrop_duplicates = true").unwrap();
        let splits = read(&config(&[&path]), &split, &clean, &RedactConfig::all()).unwrap();
        assert_eq!(questions(&splits.train), ["write to [EMAIL]", "other one"]);
        let notes = splits.notes.join("\n");
        for part in [
            "files: cleaning changed 50 of 101 conversations: trim 50",
            "files: redacted 200 email",
            "left out 99 rows that stand before",
        ] {
            assert!(notes.contains(part), "{notes}");
        }
    }

    #[test]
    fn settings_that_cannot_be_are_refused() {
        let files = Files::new();
        let path = files.write("a.jsonl", ["q".into()]);
        let error = |config: &ChatConfig, clean: &str| read_all(config, 0.5, 0.0, 0, clean).unwrap_err().to_string();
        assert!(error(&config(&[]), "").contains("`files`: the list is empty"));
        for weight in [0.0, -1.0, f64::NAN, 101.0] {
            let mut config = config(&[]);
            config.files.push(weighted(&path, weight));
            assert!(error(&config, "").contains("the weight of `"), "{weight}");
            assert_eq!(crate::source::problems(&SourceConfig::Chat(config)).len(), 1);
        }
        assert!(error(&config(&[&path]), "stem = 'english'").contains("clean.stem"));
        assert!(error(&config(&[&path]), "min_turns = 9").contains("of 1 conversations none is left to train on; "));
        assert!(read_all(&config(&[&path]), 1.0, 0.0, 0, "").is_err());
        let chat = SourceConfig::Chat(config(&[&path]));
        let error = crate::source::read(&chat).unwrap_err().to_string();
        assert!(error.contains("`data.chat`: conversations are no documents"), "{error}");
    }

    #[test]
    fn a_config_names_files_with_and_without_weights() {
        let text = "files = ['a', { path = 'b', weight = 2 }]\nformat = 'sharegpt'\non_bad_row = 'skip'";
        let config: ChatConfig = toml::from_str(text).unwrap();
        let weights: Vec<(&str, f64)> = config.files.iter().map(|files| (files.path(), files.weight())).collect();
        assert_eq!(weights, [("a", 1.0), ("b", 2.0)]);
        let error = toml::from_str::<ChatConfig>("files = [{ path = 'b', times = 2 }]").unwrap_err().to_string();
        assert!(error.contains("expected a path, or { path = \"...\", weight = 2.0 }"), "{error}");
        for text in ["files = ['a']\nformat = 'xml'", "files = ['a']\nrole = 'x'", "question = 'a'"] {
            assert!(toml::from_str::<ChatConfig>(text).is_err(), "{text}");
        }
    }
}
