//! Cleaning: what changes a text, and which rows are left out.

use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use regex::Regex;
use rust_stemmers::{Algorithm, Stemmer};
use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

use crate::config::{CleanConfig, StemLanguage};
use crate::error::Error;
use crate::near_duplicates::near_duplicates;
use crate::repair::repair;
use crate::rows::{Row, content, leave_out, note, place, within};
use crate::source::labelled::Example;
use crate::source::read_word_list;
use crate::words::{joined, key, words};

mod changes;

pub use changes::ChangedRows;
use changes::{ChangedBy, Cleaned, Step};

/// The file of a model's directory that holds its [`TextCleaner`].
pub const FILE: &str = "text_cleaner.json";

/// What changes a text. It is stored with a model, so that the model is given texts like those that it was trained on;
/// everything it needs stands in it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "Steps", into = "Steps")]
pub struct TextCleaner {
    steps: Steps,
    remove: Vec<Regex>,
}

/// A [`TextCleaner`] as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Steps {
    repair: bool,
    nfc: bool,
    lowercase: bool,
    remove: Vec<String>,
    stop_words: BTreeSet<String>,
    stem: Option<StemLanguage>,
    trim: bool,
}

impl PartialEq for TextCleaner {
    fn eq(&self, other: &Self) -> bool {
        self.steps == other.steps
    }
}

impl From<TextCleaner> for Steps {
    fn from(cleaner: TextCleaner) -> Self {
        cleaner.steps
    }
}

impl TryFrom<Steps> for TextCleaner {
    type Error = Error;

    fn try_from(steps: Steps) -> Result<Self, Error> {
        let compiled = |pattern: &String| {
            Regex::new(pattern).map_err(|error| {
                // The library draws the place over several lines; its last line says what is wrong.
                let said = error.to_string();
                let what = said.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                let hint = "the syntax is that of Rust's `regex`, without look-around and back-references";
                Error::config("clean.remove", format!("`{pattern}` is no regular expression: {what}"), hint)
            })
        };
        let remove = steps.remove.iter().map(compiled).collect::<Result<_, _>>()?;
        Ok(Self { steps, remove })
    }
}

impl TextCleaner {
    /// What `config` says about texts; stop words are read now.
    ///
    /// # Errors
    /// A bad regular expression; a file of stop words that cannot be read or has none.
    pub fn new(config: &CleanConfig) -> Result<Self, Error> {
        let stop_words = config.stop_words.as_deref().map(stop_words).transpose()?.unwrap_or_default();
        let CleanConfig { trim, repair, nfc, lowercase, ref remove, stem, .. } = *config;
        Self::try_from(Steps { repair, nfc, lowercase, remove: remove.clone(), stop_words, stem, trim })
    }

    /// The one that a model's directory holds, if it has one.
    ///
    /// # Errors
    /// A file that is none.
    pub fn beside(dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
        serde_json::from_str(&text).map(Some).map_err(|error| Error::Record {
            path,
            line: error.line() as u64,
            message: error.to_string(),
            hint: "it is written beside the model when a classifier is trained".into(),
        })
    }

    /// As [`FILE`] holds it.
    pub fn to_json(&self) -> Vec<u8> {
        format!("{:#}\n", serde_json::json!(self.steps)).into_bytes()
    }

    /// Whether it changes any text.
    pub fn is_active(&self) -> bool {
        self.steps != Steps::default()
    }

    /// The text after repair, normalization, lower-casing, removal, stop words, stemming and trimming, in this order.
    pub fn clean(&self, text: &str) -> String {
        self.clean_noting(text).0
    }

    /// The cleaned text, and which steps changed it.
    fn clean_noting(&self, text: &str) -> (String, ChangedBy) {
        let mut cleaned = Cleaned { text: text.to_owned(), changed_by: ChangedBy::default() };
        if self.steps.repair {
            cleaned.set(Step::Repair, repair(&cleaned.text));
        }
        if self.steps.nfc {
            cleaned.set(Step::Nfc, cleaned.text.nfc().collect());
        }
        if self.steps.lowercase {
            cleaned.set(Step::Lowercase, cleaned.text.to_lowercase());
        }
        for pattern in &self.remove {
            cleaned.set(Step::Remove, pattern.replace_all(&cleaned.text, "").into_owned());
        }
        if self.steps.stem.is_some() || !self.steps.stop_words.is_empty() {
            self.clean_words(&mut cleaned);
        }
        if self.steps.trim {
            cleaned.set(Step::Trim, cleaned.text.trim().to_owned());
        }
        (cleaned.text, cleaned.changed_by)
    }

    /// Cleans the texts of examples and their pairs; returns how many it changed.
    pub fn clean_examples(&self, examples: &mut [Example]) -> ChangedRows {
        use rayon::prelude::*;
        let clean = |example: &mut Example| {
            ChangedRows::of_row(self, [&mut example.text].into_iter().chain(example.pair.as_mut()))
        };
        examples.par_iter_mut().map(clean).sum()
    }

    /// Removes stop words and stems the others, which are cut once for both.
    fn clean_words(&self, cleaned: &mut Cleaned) {
        let (words, rest) = words(&cleaned.text);
        let stemmer = self.steps.stem.map(|language| Stemmer::create(algorithm(language)));
        let kept = |word: &str| -> Option<String> {
            let key = key(word);
            match &stemmer {
                _ if self.steps.stop_words.contains(&key) => None,
                Some(stemmer) => Some(stemmer.stem(&key).into_owned()),
                None => Some(word.to_owned()),
            }
        };
        let kept: Vec<Option<String>> = words.iter().map(|word| kept(word.word)).collect();
        let stops = kept.iter().any(Option::is_none);
        let stems = words.iter().zip(&kept).any(|(word, kept)| kept.as_ref().is_some_and(|kept| kept != word.word));
        let text = joined(words.iter().zip(&kept).map(|(word, kept)| (word.gap, kept.as_deref())), rest);
        cleaned.text = text;
        cleaned.changed_by[Step::StopWords as usize] |= stops;
        cleaned.changed_by[Step::Stem as usize] |= stems;
    }
}

fn stop_words(name: &str) -> Result<BTreeSet<String>, Error> {
    let listed = |language| stop_words::lookup(language).unwrap_or_default().iter().map(|word| key(word)).collect();
    match name {
        "english" => Ok(listed("en")),
        "chinese" => Ok(listed("zh")),
        path => {
            const KEY: &str = "clean.stop_words";
            const HINT: &str = "it is \"english\", \"chinese\" or the path of a file with one word a line";
            let text = read_word_list(KEY, Path::new(path), HINT)?;
            let words: BTreeSet<String> = text.lines().map(|line| key(line.trim())).filter(|w| !w.is_empty()).collect();
            if words.is_empty() { Err(Error::config(KEY, format!("{path} has no word"), HINT)) } else { Ok(words) }
        }
    }
}

fn algorithm(language: StemLanguage) -> Algorithm {
    match language {
        StemLanguage::Arabic => Algorithm::Arabic,
        StemLanguage::Danish => Algorithm::Danish,
        StemLanguage::Dutch => Algorithm::Dutch,
        StemLanguage::English => Algorithm::English,
        StemLanguage::Finnish => Algorithm::Finnish,
        StemLanguage::French => Algorithm::French,
        StemLanguage::German => Algorithm::German,
        StemLanguage::Greek => Algorithm::Greek,
        StemLanguage::Hungarian => Algorithm::Hungarian,
        StemLanguage::Italian => Algorithm::Italian,
        StemLanguage::Norwegian => Algorithm::Norwegian,
        StemLanguage::Portuguese => Algorithm::Portuguese,
        StemLanguage::Romanian => Algorithm::Romanian,
        StemLanguage::Russian => Algorithm::Russian,
        StemLanguage::Spanish => Algorithm::Spanish,
        StemLanguage::Swedish => Algorithm::Swedish,
        StemLanguage::Tamil => Algorithm::Tamil,
        StemLanguage::Turkish => Algorithm::Turkish,
    }
}

/// A text and its pair, which together say whether two rows are the same.
fn texts(example: &Example) -> (&str, Option<&str>) {
    (&example.text, example.pair.as_deref())
}

/// A text, with its pair on a line of its own where there is one.
fn text_and_pair(example: &Example) -> Cow<'_, str> {
    match &example.pair {
        None => Cow::Borrowed(&example.text),
        Some(pair) => Cow::Owned(format!("{}\n{pair}", example.text)),
    }
}

/// Tests what the schema cannot say of the keys that leave out rows.
pub(crate) fn check_limits(config: &CleanConfig) -> Result<(), Error> {
    if let Some(threshold) = config.drop_near_duplicates.filter(|threshold| !(*threshold > 0.0 && *threshold <= 1.0)) {
        let message = format!("{threshold} is no similarity above 0, up to 1");
        return Err(Error::config("clean.drop_near_duplicates", message, "0.8 drops what differs in a word or two"));
    }
    for (key, least, most) in [
        ("clean.min_characters", config.min_characters, config.max_characters),
        ("clean.min_turns", config.min_turns, config.max_turns),
    ] {
        if let (Some(least), Some(most)) = (least, most)
            && least > most
        {
            let message = format!("{least} is more than `{}` = {most}", key.replace("min", "max"));
            return Err(Error::config(key, message, "no row would be left"));
        }
    }
    Ok(())
}

impl Row for Example {
    fn place(&self) -> &(PathBuf, u64) {
        &self.place
    }

    fn content(&self) -> [u8; 32] {
        content([Some(&self.text), self.pair.as_ref()].into_iter().flatten().map(String::as_str))
    }
}

/// Cleans the texts of examples and leaves out what `config` says; every count goes to `notes`.
pub(crate) fn clean_examples(
    mut examples: Vec<Example>,
    cleaner: &TextCleaner,
    config: &CleanConfig,
    notes: &mut Vec<String>,
) -> Vec<Example> {
    let rows = examples.len();
    if cleaner.is_active() {
        let changed = cleaner.clean_examples(&mut examples);
        notes.push(format!("cleaning changed the texts of {changed} of {rows} rows{}", changed.by_key()));
    }
    let is_empty = |example: &Example| example.text.trim().is_empty();
    let empty: Vec<String> = examples.iter().filter(|example| is_empty(example)).map(place).collect();
    if config.drop_empty {
        examples.retain(|example| !is_empty(example));
        note(notes, "`clean.drop_empty` left out", &empty, "without text");
    } else if !empty.is_empty() {
        note(notes, "kept", &empty, "that cleaning left without text; `clean.drop_empty` leaves them out");
    }
    let characters = |example: &Example| {
        let length = |text: &str| text.chars().count() as u64;
        length(&example.text) + example.pair.as_deref().map_or(0, length)
    };
    within(&mut examples, "characters", [config.min_characters, config.max_characters], characters, notes);
    if config.drop_duplicates {
        let mut first: HashMap<(&str, Option<&str>), &[String]> = HashMap::new();
        let mut conflicts = 0;
        let is_first = |example| match first.entry(texts(example)) {
            Entry::Vacant(place) => {
                place.insert(&example.labels);
                true
            }
            Entry::Occupied(before) => {
                conflicts += usize::from(*before.get() != example.labels);
                false
            }
        };
        let kept: Vec<bool> = examples.iter().map(is_first).collect();
        let dropped = leave_out(&mut examples, &kept);
        let what = format!("whose text stands before, {conflicts} of them with another label");
        note(notes, "`clean.drop_duplicates` left out", &dropped, &what);
    }
    if let Some(threshold) = config.drop_near_duplicates {
        let mut by_label: BTreeMap<&[String], Vec<usize>> = BTreeMap::new();
        for (index, example) in examples.iter().enumerate() {
            by_label.entry(&example.labels).or_default().push(index);
        }
        let mut kept = vec![true; examples.len()];
        for rows in by_label.values() {
            let of_label: Vec<Cow<str>> = rows.iter().map(|row| text_and_pair(&examples[*row])).collect();
            for (row, like) in rows.iter().zip(near_duplicates(&of_label, threshold)) {
                kept[*row] = like.is_none();
            }
        }
        let dropped = leave_out(&mut examples, &kept);
        note(notes, "`clean.drop_near_duplicates` left out", &dropped, "like one before with the same label");
    }
    examples
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaner(config: &str) -> Result<TextCleaner, Error> {
        TextCleaner::new(&toml::from_str(config).unwrap())
    }

    #[track_caller]
    fn assert_cleans(config: &str, text: &str, cleaned: &str) {
        let cleaner = cleaner(config).unwrap();
        assert!(cleaner.is_active());
        assert_eq!(cleaner.clean(text), cleaned);
        let stored = serde_json::to_string(&cleaner).unwrap();
        let opened: TextCleaner = serde_json::from_str(&stored).unwrap();
        assert_eq!(opened, cleaner);
        assert_eq!(opened.clean(text), cleaned, "after storing");
    }

    #[test]
    fn each_key_changes_texts_as_it_says_also_after_storing() {
        assert_cleans("trim = true", " \ta b\u{3000}\n", "a b");
        assert_cleans("repair = true", "a\r\nb\u{a0}c\u{0}", "a\nb c");
        assert_cleans("nfc = true", "cafe\u{301}", "caf\u{e9}");
        assert_cleans("lowercase = true", "ÀB c", "àb c");
        assert_cleans("remove = ['https?://\\S+\\s*', '[0-9]+']", "see https://a.b/c 12 now", "see  now");
        assert_cleans("stop_words = 'english'", "The cat, and THE dog don’t run", "cat, dog run");
        assert_cleans("stop_words = 'chinese'", "我们的服务和产品", "服务产品");
        assert_cleans("stem = 'english'", "Running shoes, easily", "run shoe, easili");
        assert_cleans("stem = 'german'\nstop_words = 'english'", "the Häuser", "haus");
        let nothing = cleaner("drop_empty = true").unwrap();
        assert!(!nothing.is_active());
        assert_eq!(nothing.clean(" A\u{301} the "), " A\u{301} the ");
    }

    #[test]
    fn stop_words_come_from_a_file_and_are_stored_themselves() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("words.txt");
        std::fs::write(&path, "Please\n\n 服务 \r\n").unwrap();
        assert_cleans(&format!("stop_words = '{}'", path.display()), "please help 服务员和服务", "help 服务员和");
        std::fs::write(&path, "\u{feff}Please\n").unwrap();
        assert_cleans(&format!("stop_words = '{}'", path.display()), "please help", "help");
        for (contents, said) in [
            (&b"\n"[..], "`clean.stop_words`: "),
            (b"\n", "has no word"),
            (b"", "has no word"),
            (b"please\ncaf\xe9\n", "words.txt:2: the byte 0xe9"),
        ] {
            std::fs::write(&path, contents).unwrap();
            let error = cleaner(&format!("stop_words = '{}'", path.display())).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn a_bad_value_is_an_error_that_names_its_key() {
        let error = cleaner("remove = ['a', '(b']").unwrap_err().to_string();
        assert!(error.contains("`clean.remove`: `(b` is no regular expression: unclosed group"), "{error}");
        let error = cleaner("stop_words = 'no/such/file'").unwrap_err().to_string();
        assert!(error.contains("`clean.stop_words`: no/such/file"), "{error}");
        let error = toml::from_str::<CleanConfig>("stem = 'klingon'").unwrap_err().to_string();
        assert!(error.contains("stem") && error.contains("`english`"), "{error}");
        let error = serde_json::from_str::<TextCleaner>("{\"remove\": [\"(\"]}").unwrap_err().to_string();
        assert!(error.contains("clean.remove"), "{error}");
    }

    fn example(line: u64, text: &str, label: &str) -> Example {
        Example { text: text.into(), pair: None, labels: vec![label.into()], place: ("f.csv".into(), line) }
    }

    fn cleaned(config: &str, rows: &[(&str, &str)]) -> (Vec<u64>, Vec<String>) {
        let config: CleanConfig = toml::from_str(config).unwrap();
        let examples = rows.iter().enumerate().map(|(i, (text, label))| example(i as u64 + 1, text, label)).collect();
        let mut notes = Vec::new();
        let kept = clean_examples(examples, &TextCleaner::new(&config).unwrap(), &config, &mut notes);
        (kept.into_iter().map(|example| example.place.1).collect(), notes)
    }

    #[test]
    fn empty_and_repeated_rows_are_left_out_and_counted_after_cleaning() {
        let rows = [("A b", "x"), ("the", "x"), ("a b", "x"), ("a b", "y"), ("c", "y")];
        let all = "lowercase = true\nstop_words = 'english'\n";
        let (kept, notes) = cleaned(all, &rows);
        assert_eq!(kept, [1, 2, 3, 4, 5]);
        assert!(notes[1].contains("kept 1 rows that cleaning left without text"), "{notes:?}");
        let (kept, notes) = cleaned(&format!("{all}drop_empty = true\ndrop_duplicates = true"), &rows);
        assert_eq!(kept, [1, 5]);
        assert_eq!(notes[0], "cleaning changed the texts of 4 of 5 rows: lowercase 1, stop_words 4");
        assert_eq!(notes[1], "`clean.drop_empty` left out 1 rows without text: f.csv:2");
        let expected = "`clean.drop_duplicates` left out 2 rows whose text stands before, 1 of them with another \
                        label: f.csv:3, f.csv:4";
        assert_eq!(notes[2], expected);
        assert_eq!(cleaned("drop_duplicates = true", &rows).0, [1, 2, 3, 5]);
    }

    #[test]
    fn each_step_counts_the_rows_that_it_changed() {
        let mut rows = vec![example(1, " The\u{a0}Cafe\u{301} 1 runs ", "x"), example(2, "the cat 2", "x")];
        rows.push(Example { pair: Some("running".into()), ..example(3, "cat", "x") });
        rows.push(example(4, "cat", "x"));
        let all = "trim = true\nrepair = true\nnfc = true\nlowercase = true\nremove = ['[0-9]', 'zz']\n";
        let changed = cleaner(all).unwrap().clean_examples(&mut rows.clone());
        assert_eq!((changed.rows, changed.by_key()), (2, ": repair 1, nfc 1, lowercase 1, remove 2, trim 2".into()));
        let words = "stop_words = 'english'\nstem = 'english'";
        let changed = cleaner(words).unwrap().clean_examples(&mut rows);
        assert_eq!((changed.rows, changed.by_key()), (3, ": stop_words 2, stem 2".into()));
        assert_eq!(rows[2].pair.as_deref(), Some("run"));
        assert_eq!(cleaner(words).unwrap().clean_examples(&mut rows).by_key(), "");
    }

    #[test]
    fn a_text_without_a_pair_is_compared_alone() {
        // 10 of 12 runs of five characters are shared.
        let (kept, _) = cleaned("drop_near_duplicates = 0.8", &[("card arrival ??", "x"), ("card arrival ?!", "x")]);
        assert_eq!(kept, [1]);
    }

    #[test]
    fn near_duplicates_are_what_comparing_texts_finds() {
        // Short questions that differ in a word or a letter, on both sides of the threshold.
        let words = ["card", "my card", "a cash transfer", "the top-up", "this payment", "my refund"];
        let ends = ["", "?", " yet?", " please", " today", " since Monday", "!"];
        let question = |i: usize| {
            let begins = ["Why has", "When will", "how is", "I wonder why"];
            format!("{} {} not arrived{}", begins[i % 4], words[i / 4 % 6], ends[i / 24 % 7])
        };
        let texts: Vec<String> = (0..168).map(question).collect();
        let rows: Vec<(&str, &str)> = texts.iter().map(|text| (text.as_str(), "x")).collect();
        let runs_of = |text: &str| -> BTreeSet<Vec<char>> {
            text.chars().collect::<Vec<_>>().windows(5).map(<[char]>::to_vec).collect()
        };
        let runs: Vec<BTreeSet<Vec<char>>> = texts.iter().map(|text| runs_of(text)).collect();
        let similarity =
            |a: usize, b: usize| runs[a].intersection(&runs[b]).count() as f64 / runs[a].union(&runs[b]).count() as f64;
        for threshold in [0.8, 0.6] {
            let (kept, _) = cleaned(&format!("drop_near_duplicates = {threshold}"), &rows);
            let kept: Vec<usize> = kept.into_iter().map(|line| line as usize - 1).collect();
            let has_like = |row: usize| {
                kept.iter().take_while(|other| **other < row).any(|other| similarity(*other, row) >= threshold)
            };
            let dropped: Vec<usize> = (0..rows.len()).filter(|row| !kept.contains(row)).collect();
            assert!(dropped.len() > 20 && kept.len() > 20, "{} dropped at {threshold}", dropped.len());
            assert!(dropped.iter().all(|row| has_like(*row)), "false hits at {threshold}");
            assert!(!kept.iter().any(|row| has_like(*row)), "missed at {threshold}");
        }
    }

    #[test]
    fn near_duplicates_go_where_the_label_is_the_same() {
        let text = "how do I reset the password of my account on the new phone";
        let near = text.replace("phone", "phone?");
        let (kept, notes) =
            cleaned("drop_near_duplicates = 0.8", &[(text, "x"), (&near, "y"), (&near, "x"), ("other", "x")]);
        assert_eq!(kept, [1, 2, 4]);
        assert!(notes[0].contains("left out 1 rows like one before with the same label: f.csv:3"), "{notes:?}");
    }
}
