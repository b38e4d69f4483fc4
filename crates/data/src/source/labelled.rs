//! Texts with labels: read, divided so that every part has its share of every label, and the labels numbered.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{bytes_of, csv, expand, jsonl, nothing_left, stratified::stratified};
use crate::clean::{TextCleaner, clean_examples, drop_leaked};
use crate::config::{CleanConfig, LabelledConfig, OnBadRow, SplitConfig};
use crate::error::Error;

/// A text, or a pair of texts, and its label.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// The text.
    pub text: String,
    /// The second text, where pairs are classified.
    pub pair: Option<String>,
    /// The label as it is written.
    pub label: String,
    /// Where it stands: the file, and the line from 1.
    pub place: (PathBuf, u64),
}

/// Labelled examples, divided, with their labels numbered.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledSplits {
    /// The labels of the training part, sorted; a label's place is its id.
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

/// Reads, cleans and divides the examples. Cleaning comes first, so that texts that it makes equal stay together.
///
/// # Errors
/// As [`super::read`] and [`TextCleaner::new`]; a similarity that is none; fewer than two labels; a label of another part
/// that training has none of.
pub fn read(config: &LabelledConfig, split: &SplitConfig, clean: &CleanConfig) -> Result<LabelledSplits, Error> {
    let cleaner = TextCleaner::new(clean)?;
    if let Some(threshold) = clean.drop_near_duplicates.filter(|threshold| !(*threshold > 0.0 && *threshold <= 1.0)) {
        let message = format!("{threshold} is no similarity above 0, up to 1");
        return Err(Error::config("clean.drop_near_duplicates", message, "0.8 drops what differs in a word or two"));
    }
    let mut notes = Vec::new();
    let mut read = |part: &str, files: &[String]| -> Result<Vec<Example>, Error> {
        if files.is_empty() {
            return Ok(Vec::new());
        }
        let examples = read_rows(config, files, clean.drop_empty, &mut notes)?;
        let mut of_part = Vec::new();
        let examples = clean_examples(examples, &cleaner, clean, &mut of_part);
        notes.extend(of_part.into_iter().map(|note| format!("{part}: {note}")));
        Ok(examples)
    };
    let all = read("files", &config.files)?;
    let given_validation = read("validation_files", &config.validation_files)?;
    let given_test = read("test_files", &config.test_files)?;
    let mut hasher = blake3::Hasher::new();
    for example in all.iter().chain(&given_validation).chain(&given_test) {
        for part in [Some(&example.text), example.pair.as_ref(), Some(&example.label)].into_iter().flatten() {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
    }
    let fractions = [
        if config.test_files.is_empty() { split.test } else { 0.0 },
        if config.validation_files.is_empty() { split.validation } else { 0.0 },
    ];
    let [mut test, mut validation, mut train] = stratified(all, fractions, split.seed);
    validation.extend(given_validation);
    test.extend(given_test);
    if clean.check_leakage {
        drop_leaked(&mut train, [("validation", &validation), ("test", &test)], &mut notes);
    }
    let labels: Vec<String> =
        train.iter().map(|example| example.label.clone()).collect::<BTreeSet<_>>().into_iter().collect();
    if labels.len() < 2 {
        let found = labels.first().map_or("no label".to_string(), |label| format!("one label, `{label}`"));
        return Err(Error::config(
            "label",
            format!("the training part has {found}"),
            "a classifier tells two or more apart",
        ));
    }
    for example in validation.iter().chain(&test) {
        id_of(&labels, example)?;
    }
    let hash = hasher.finalize().to_hex().to_string();
    Ok(LabelledSplits { labels, train, validation, test, notes, cleaner, hash })
}

/// The id of an example's label.
///
/// # Errors
/// A label that is not among `labels`, by file and line.
pub fn id_of(labels: &[String], example: &Example) -> Result<u32, Error> {
    let unknown = |_| Error::Record {
        path: example.place.0.clone(),
        line: example.place.1,
        message: format!("the label `{}` is unknown to the model", example.label),
        hint: "labels are those of the training part".into(),
    };
    labels.binary_search(&example.label).map(|id| id as u32).map_err(unknown)
}

/// The examples of files, without dividing them; what was left out is added to `notes`.
///
/// # Errors
/// As [`super::read`].
pub fn read_files(config: &LabelledConfig, files: &[String], notes: &mut Vec<String>) -> Result<Vec<Example>, Error> {
    read_rows(config, files, false, notes)
}

/// As [`read_files`]; `empty_texts` are good rows where something later leaves them out.
fn read_rows(
    config: &LabelledConfig,
    files: &[String],
    empty_texts: bool,
    notes: &mut Vec<String>,
) -> Result<Vec<Example>, Error> {
    let mut examples = Vec::new();
    let before = notes.len();
    for path in expand(files)? {
        examples.extend(read_file(&path, &bytes_of(&path, config.on_bad_row)?, config, empty_texts, notes)?);
    }
    if examples.is_empty() && !files.is_empty() {
        return Err(nothing_left(files.len(), &notes[before..]));
    }
    Ok(examples)
}

pub(super) fn read_file(
    path: &Path,
    bytes: &[u8],
    config: &LabelledConfig,
    empty_texts: bool,
    notes: &mut Vec<String>,
) -> Result<Vec<Example>, Error> {
    let mut columns = vec![("text", config.text.as_str()), ("label", config.label.as_str())];
    columns.extend(config.text_pair.as_deref().map(|column| ("text_pair", column)));
    let mut examples = Vec::new();
    let mut skipped: Vec<String> = Vec::new();
    let each = |record: Result<(u64, Vec<String>), Error>| {
        let example = record.and_then(|(line, values)| {
            let mut values = values.into_iter();
            let [text, label] = [(); 2].map(|()| values.next().unwrap_or_default());
            let needed = [("text", &text, !empty_texts), ("label", &label, true)];
            let empty = needed.into_iter().find(|(_, value, needed)| *needed && value.trim().is_empty());
            if let Some((what, ..)) = empty {
                return Err(Error::Record {
                    path: path.into(),
                    line,
                    message: format!("the {what} is empty"),
                    hint: "fill it in, remove the row, or set `on_bad_row` = \"skip\"".into(),
                });
            }
            Ok(Example { text, label: label.trim().to_owned(), pair: values.next(), place: (path.into(), line) })
        });
        match (example, config.on_bad_row) {
            (Ok(example), _) => examples.push(example),
            (Err(error), OnBadRow::Error) => return Err(error),
            (Err(error), OnBadRow::Skip) => skipped.push(error.to_string()),
        }
        Ok(())
    };
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("jsonl") => jsonl::records(path, bytes, &columns, each)?,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn config(files: Vec<String>) -> LabelledConfig {
        LabelledConfig {
            files,
            validation_files: vec![],
            test_files: vec![],
            text: "text".into(),
            text_pair: None,
            label: "label".into(),
            on_bad_row: OnBadRow::Error,
        }
    }

    fn read_text(name: &str, contents: &str, change: impl Fn(&mut LabelledConfig)) -> Result<LabelledSplits, Error> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        std::fs::write(&path, contents).unwrap();
        let mut config = config(vec![path.display().to_string()]);
        change(&mut config);
        super::read(&config, &SplitConfig { validation: 0.2, test: 0.1, seed: 3 }, &CleanConfig::default())
    }

    /// Two hundred rows, a tenth of them of the label `rare`, and some texts twice.
    fn rows() -> String {
        let label = |i: usize| if i.is_multiple_of(10) { "rare" } else { ["a", "b"][i % 2] };
        let row = |i: usize| format!("text number {}, {}\n", i - i % 20 / 19, label(i));
        let rows: String = (0..200).map(|i| row(i).replacen(',', "\",", 1).replacen("text", "\"text", 1)).collect();
        "text,label\n".to_string() + &rows
    }

    #[test]
    fn every_part_has_its_share_of_every_label_and_no_text_is_in_two() {
        let splits = read_text("a.csv", &rows(), |_| ()).unwrap();
        assert_eq!(splits.labels, ["a", "b", "rare"]);
        let parts = [&splits.train, &splits.validation, &splits.test];
        assert_eq!(parts.iter().map(|part| part.len()).sum::<usize>(), 200);
        for (part, share) in parts.into_iter().zip([0.7, 0.2, 0.1]) {
            for (label, count) in [("rare", 20.0), ("a", 80.0)] {
                let found = part.iter().filter(|example| example.label == label).count() as f64;
                assert!((found - share * count).abs() <= 2.0, "{found} of {label} for {share}");
            }
        }
        let texts = |part: &[Example]| part.iter().map(|example| example.text.clone()).collect::<BTreeSet<_>>();
        assert!(texts(&splits.train).is_disjoint(&texts(&splits.test)));
        assert!(texts(&splits.train).is_disjoint(&texts(&splits.validation)));
        assert!(texts(&splits.validation).is_disjoint(&texts(&splits.test)));
        assert_eq!(splits, read_text("a.csv", &rows(), |_| ()).map(|again| moved(again, &splits)).unwrap());
    }

    /// The same, as if it had been read from the other's place.
    fn moved(mut splits: LabelledSplits, to: &LabelledSplits) -> LabelledSplits {
        let place = to.train[0].place.0.clone();
        for part in [&mut splits.train, &mut splits.validation, &mut splits.test] {
            part.iter_mut().for_each(|example| example.place.0.clone_from(&place));
        }
        splits
    }

    #[test]
    fn tabs_and_jsonl_with_number_labels_and_pairs_are_read() {
        let tsv = "q\ta\tlabel\none, two\tthree\t0\nfour\tfive\t1\nsix\tseven\t1\n";
        let pair = |config: &mut LabelledConfig| (config.text, config.text_pair) = ("q".into(), Some("a".into()));
        let splits = read_text("a.tsv", tsv, pair).unwrap();
        assert_eq!(splits.labels, ["0", "1"]);
        assert!(splits.train.iter().any(|e| e.text == "one, two" && e.pair.as_deref() == Some("three")));
        let jsonl = "{\"text\": \"x\", \"label\": 3}\n\n{\"text\": \"y\", \"label\": true}\n{\"text\": \"z\", \"label\": \"s\"}\n";
        assert_eq!(read_text("a.jsonl", jsonl, |_| ()).unwrap().labels, ["3", "s", "true"]);
    }

    #[test]
    fn bad_rows_are_errors_with_their_line_or_skipped_and_counted() {
        let text = "text,label\none,a\n,b\ntwo,b\nthree\n four,\nfive,b\n";
        let error = read_text("a.csv", text, |_| ()).unwrap_err().to_string();
        assert!(error.contains("a.csv:3: the text is empty"), "{error}");
        let splits = read_text("a.csv", text, |config| config.on_bad_row = OnBadRow::Skip).unwrap();
        assert_eq!(splits.train.len() + splits.validation.len() + splits.test.len(), 3);
        assert!(splits.notes[0].contains("left out 3 rows"), "{:?}", splits.notes);
        for (text, part) in [
            ("text,label\n", "no text"),
            ("text,label\nx,a\ny,a\n", "one label, `a`"),
            ("text,category\nx,a\n", "no column `label`"),
            ("text,label\n\"x,a\n", "never closes"),
            ("text,label\nx\0,a\n", "NUL"),
        ] {
            let error = read_text("a.csv", text, |_| ()).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!(read_text("a.txt", "x", |_| ()).unwrap_err().to_string().contains(".jsonl"));
    }

    #[test]
    fn rows_that_are_no_text_or_broken_are_skipped_and_counted_or_named() {
        let long = "long ".repeat(20_000);
        let rows = format!("text,label\none,a\n\"open,b\ntwo,b\nthr\0ee,b\n{long},a\n");
        let csv = [rows.as_bytes(), b"caf\xe9,a\nfour,b,c\nfive,b\n"].concat();
        let jsonl = b"{\"text\": \"one\", \"label\": \"a\"}\n{\"text\": \"caf\xe9\", \"label\": \"a\"}\n\0\n{\"text\n\
            {\"text\": \"two\", \"label\": \"b\"}\n";
        let directory = tempfile::tempdir().unwrap();
        let read = |name: &str, contents: &[u8], on_bad_row| {
            let path = directory.path().join(name);
            std::fs::write(&path, contents).unwrap();
            let mut notes = Vec::new();
            let config = LabelledConfig { on_bad_row, ..config(vec![path.display().to_string()]) };
            let texts = read_files(&config, &config.files, &mut notes)
                .map(|examples| examples.into_iter().map(|example| example.text).collect::<Vec<_>>());
            (texts, notes.join("\n"))
        };
        let (texts, notes) = read("a.csv", &csv, OnBadRow::Skip);
        assert_eq!(texts.unwrap(), ["one", "two", &long, "five"]);
        assert!(notes.contains("left out 4 rows") && notes.contains("a.csv:3: a quoted field never closes"), "{notes}");
        let (texts, notes) = read("a.jsonl", jsonl, OnBadRow::Skip);
        assert_eq!(texts.unwrap(), ["one", "two"]);
        assert!(notes.contains("left out 3 rows") && notes.contains("a.jsonl:2: the byte 0xe9"), "{notes}");
        let error = read("a.csv", b"text,label\nx\0,a\n", OnBadRow::Skip).0.unwrap_err().to_string();
        assert!(error.contains("no row is left: left out 1 rows") && error.contains("a.csv:2: the row has"), "{error}");
        for (name, contents, place) in [
            ("a.csv", &csv[..], "a.csv:5: NUL byte"),
            ("b.csv", &b"text,label\na,b\nc\xff,d\n"[..], "b.csv:3: the byte 0xff"),
            ("c.csv", &b"text,label\na,b\n\"c,d\n"[..], "c.csv:3: a quoted field never closes"),
            ("a.jsonl", &jsonl[..], "a.jsonl:3: NUL byte"),
        ] {
            let error = read(name, contents, OnBadRow::Error).0.unwrap_err().to_string();
            assert!(error.contains(place), "{error}");
        }
    }

    #[test]
    fn cleaning_comes_before_the_split_and_every_count_is_noted() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, rows: String| {
            let path = directory.path().join(name);
            std::fs::write(&path, format!("text,label\n{rows}")).unwrap();
            path.display().to_string()
        };
        let cased = |i: usize| if i.is_multiple_of(2) { format!("Text {}", i / 2) } else { format!("text {} ", i / 2) };
        let rows = (0..100).map(|i| format!("{},{}\n", cased(i), ["a", "b"][i / 2 % 2])).collect::<String>();
        let mut config = config(vec![write("all.csv", rows + " ,a\n")]);
        config.test_files = vec![write("test.csv", "TEXT 3,b\nunseen,a\n".into())];
        let split = SplitConfig { validation: 0.2, test: 0.0, seed: 3 };
        let clean: CleanConfig = toml::from_str("lowercase = true\ntrim = true\ndrop_empty = true").unwrap();
        let splits = super::read(&config, &split, &clean).unwrap();
        assert_eq!([splits.train.len(), splits.validation.len(), splits.test.len()], [80, 20, 2]);
        let texts = |part: &[Example]| part.iter().map(|example| example.text.clone()).collect::<BTreeSet<_>>();
        assert!(texts(&splits.train).is_disjoint(&texts(&splits.validation)));
        assert!(
            splits.cleaner.clean("A ") == "a" && splits.train.iter().all(|e| e.text == splits.cleaner.clean(&e.text))
        );
        let checked = CleanConfig { drop_duplicates: true, check_leakage: true, ..clean.clone() };
        let without_leaks = super::read(&config, &SplitConfig { validation: 0.0, ..split.clone() }, &checked).unwrap();
        assert!(texts(&without_leaks.train).is_disjoint(&texts(&without_leaks.test)));
        let notes = without_leaks.notes.join("\n");
        for part in ["files: cleaning changed", "left out 1 rows without text", "left out 50 rows", "test_files: clean"]
        {
            assert!(notes.contains(part), "{part} in {notes}");
        }
        assert!(notes.contains("all.csv:8 as test row"), "{notes}");
        assert_ne!(splits.hash, without_leaks.hash);
        let bad = CleanConfig { drop_near_duplicates: Some(1.5), ..clean };
        let error = super::read(&config, &split, &bad).unwrap_err().to_string();
        assert!(error.contains("`clean.drop_near_duplicates`: 1.5"), "{error}");
    }
}
