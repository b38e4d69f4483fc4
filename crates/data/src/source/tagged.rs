//! Sentences whose words carry tags: read, divided by whole sentences, and the tags numbered.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{bytes_of, conll, expand, extension, jsonl, nothing_left, tag_scheme};
use crate::config::{OnBadRow, SplitConfig, TaggedConfig};
use crate::error::Error;
use crate::split;

/// The tag of a word that belongs to no entity.
pub const OUTSIDE: &str = "O";

/// A sentence and a tag for each of its words.
#[derive(Clone, Debug, PartialEq)]
pub struct TaggedSentence {
    /// The words; none is empty.
    pub words: Vec<String>,
    /// The tags, as many.
    pub tags: Vec<String>,
    /// Where it stands: the file, and the line of its first word from 1.
    pub place: (PathBuf, u64),
}

impl TaggedSentence {
    /// The words with spaces between them: what a tokenizer is trained on.
    pub fn text(&self) -> String {
        self.words.join(" ")
    }
}

/// Tagged sentences, divided, with their tags numbered.
#[derive(Clone, Debug, PartialEq)]
pub struct TaggedSplits {
    /// The tags of the training part, `O` first, the others sorted; a tag's place is its id.
    pub tags: Vec<String>,
    /// What the model trains on, in the order of the files.
    pub train: Vec<TaggedSentence>,
    /// What the evaluations during training use.
    pub validation: Vec<TaggedSentence>,
    /// What is held out for the end.
    pub test: Vec<TaggedSentence>,
    /// What a person should know: sentences that were repaired or left out, and why.
    pub notes: Vec<String>,
    /// BLAKE3 (hexadecimal) over everything that was read and kept.
    pub hash: String,
}

/// Reads and divides the sentences. Which part one falls into depends on its words and the seed alone, so equal ones stay
/// together; a sentence with a tag that no other part of `files` leaves to training is trained on.
///
/// # Errors
/// As [`super::read`]; a tag that the scheme does not have; fractions that leave nothing to train on; fewer than two tags; a
/// tag of `validation_files` or `test_files` that training has none of.
pub fn read(config: &TaggedConfig, split: &SplitConfig) -> Result<TaggedSplits, Error> {
    split::check(split)?;
    let mut notes = Vec::new();
    let mut read = |key: &str, files: &[String]| read_list(config, key, files, &mut notes);
    let all = read("files", &config.files)?;
    let given_validation = read("validation_files", &config.validation_files)?;
    let given_test = read("test_files", &config.test_files)?;
    let mut hasher = blake3::Hasher::new();
    for sentence in all.iter().chain(&given_validation).chain(&given_test) {
        for list in [&sentence.words, &sentence.tags] {
            hash_list(&mut hasher, list);
        }
    }
    let fractions = [
        if config.test_files.is_empty() { split.test } else { 0.0 },
        if config.validation_files.is_empty() { split.validation } else { 0.0 },
    ];
    let [mut test, mut validation, train] = divide(all, fractions, split.seed);
    validation.extend(given_validation);
    test.extend(given_test);
    let names: BTreeSet<&String> = train.iter().flat_map(|sentence| &sentence.tags).collect();
    let outside = names.iter().filter(|tag| **tag == OUTSIDE);
    let tags: Vec<String> =
        outside.chain(names.iter().filter(|tag| **tag != OUTSIDE)).map(|tag| (*tag).clone()).collect();
    if tags.len() < 2 {
        let found = tags.first().map_or("no tag".to_string(), |tag| format!("one tag, `{tag}`"));
        return Err(Error::config("tags", format!("the training part has {found}"), "a model tells two or more apart"));
    }
    for sentence in validation.iter().chain(&test) {
        ids_of(&tags, sentence)?;
    }
    let hash = hasher.finalize().to_hex().to_string();
    Ok(TaggedSplits { tags, train, validation, test, notes, hash })
}

/// The ids of a sentence's tags.
///
/// # Errors
/// A tag that is not among `tags`, by file and line.
pub fn ids_of(tags: &[String], sentence: &TaggedSentence) -> Result<Vec<u32>, Error> {
    let id = |tag: &String| {
        let found = tags.iter().position(|known| known == tag);
        found.map(|id| id as u32).ok_or_else(|| Error::Record {
            path: sentence.place.0.clone(),
            line: sentence.place.1,
            message: format!("the tag `{tag}` in this sentence is unknown to the model"),
            hint: "tags are those of the training part".into(),
        })
    };
    sentence.tags.iter().map(id).collect()
}

/// Tests that words and tags have columns of their own.
///
/// # Errors
/// A column 0; one for both.
pub fn check_columns(config: &TaggedConfig) -> Result<(), Error> {
    if config.token_column == 0 || config.tag_column == Some(0) {
        let key = if config.token_column == 0 { "token_column" } else { "tag_column" };
        return Err(Error::config(key, "there is no column 0", "columns count from 1"));
    }
    if config.tag_column == Some(config.token_column) {
        return Err(Error::config("tag_column", "it is also `token_column`", "leave it out where tags come last"));
    }
    Ok(())
}

/// The sentences of files, without dividing them; what was repaired or left out is added to `notes`.
///
/// # Errors
/// As [`super::read`]; a tag that the scheme does not have; columns that cannot be.
pub fn read_files(
    config: &TaggedConfig,
    files: &[String],
    notes: &mut Vec<String>,
) -> Result<Vec<TaggedSentence>, Error> {
    read_list(config, "files", files, notes)
}

/// As [`read_files`], of the list that stands at `key`.
fn read_list(
    config: &TaggedConfig,
    key: &str,
    files: &[String],
    notes: &mut Vec<String>,
) -> Result<Vec<TaggedSentence>, Error> {
    check_columns(config)?;
    let mut sentences = Vec::new();
    let before = notes.len();
    let files = expand(key, files, TaggedConfig::USUAL_EXTENSION)?;
    for path in &files {
        sentences.extend(read_file(path, config, notes)?);
    }
    if sentences.is_empty() && !files.is_empty() {
        return Err(nothing_left(key, files, &notes[before..], TaggedConfig::NEEDS));
    }
    Ok(sentences)
}

pub(super) fn read_file(
    path: &Path,
    config: &TaggedConfig,
    notes: &mut Vec<String>,
) -> Result<Vec<TaggedSentence>, Error> {
    let bytes = bytes_of(path, config.on_bad_row)?;
    let mut sentences = Vec::new();
    let mut skipped: Vec<String> = Vec::new();
    let mut repaired = 0;
    let is_jsonl = extension(path).as_deref() == Some("jsonl");
    let each = |read: Result<TaggedSentence, Error>| {
        let checked = read.and_then(|mut sentence| {
            let wrong = |(index, message, hint): tag_scheme::Wrong| Error::Record {
                path: path.into(),
                // In CoNLL every word has its line.
                line: sentence.place.1 + if is_jsonl { 0 } else { index as u64 },
                message: if is_jsonl { format!("tag {}: {message}", index + 1) } else { message },
                hint: hint.into(),
            };
            let tags = std::mem::take(&mut sentence.tags);
            let (tags, count) = tag_scheme::to_bio(config.scheme, config.repair, tags).map_err(wrong)?;
            repaired += count;
            Ok(TaggedSentence { tags, ..sentence })
        });
        match (checked, config.on_bad_row) {
            (Ok(sentence), _) => sentences.push(sentence),
            (Err(error), OnBadRow::Error) => return Err(error),
            (Err(error), OnBadRow::Skip) => skipped.push(error.to_string()),
        }
        Ok(())
    };
    if is_jsonl {
        lists(path, &bytes, config, each)?
    } else {
        conll::sentences(path, &bytes, config, each)?
    }
    let path = path.display();
    if repaired > 0 {
        notes.push(format!("repaired {repaired} tags of {path}"));
    }
    if let Some(first) = skipped.first() {
        notes.push(format!("left out {} sentences of {path}; the first: {first}", skipped.len()));
    }
    Ok(sentences)
}

/// Calls `each` with every record's two lists, or with what is wrong with it.
fn lists(
    path: &Path,
    bytes: &[u8],
    config: &TaggedConfig,
    mut each: impl FnMut(Result<TaggedSentence, Error>) -> Result<(), Error>,
) -> Result<(), Error> {
    jsonl::objects(path, bytes, |line, object| {
        let error = |message: String, hint: &str| Error::Record { path: path.into(), line, message, hint: hint.into() };
        each(object.and_then(|object| {
            let list = |key: &str, field: &str| match object.get(field) {
                Some(Value::Array(values)) => Ok(values.clone()),
                Some(other) => {
                    let message = format!("field `{field}` is {}, not an array", jsonl::kind(other));
                    Err(error(message, &format!("name a list of strings with `{key}`")))
                }
                None => Err(jsonl::missing(path, line, &object, key, field)),
            };
            let text = |index: usize, field: &str, value: Value| match value {
                Value::String(text) if !text.is_empty() => Ok(text),
                Value::Number(number) if field == config.tags => Ok(number.to_string()),
                other => {
                    let what = if other.is_string() { "empty" } else { jsonl::kind(&other) };
                    Err(error(format!("entry {} of `{field}` is {what}", index + 1), "each must be a string"))
                }
            };
            let read = |key: &str, field: &str| -> Result<Vec<String>, Error> {
                let values = list(key, field)?.into_iter().enumerate();
                values.map(|(index, value)| text(index, field, value)).collect()
            };
            let (words, tags) = (read("tokens", &config.tokens)?, read("tags", &config.tags)?);
            if words.len() != tags.len() || words.is_empty() {
                let message = format!("the record has {} tokens and {} tags", words.len(), tags.len());
                return Err(error(message, "each token needs one tag"));
            }
            Ok(TaggedSentence { words, tags, place: (path.into(), line) })
        }))
    })
}

fn hash_list(hasher: &mut blake3::Hasher, list: &[String]) {
    hasher.update(&(list.len() as u64).to_le_bytes());
    for text in list {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
}

/// Divides sentences into a part for each fraction and the rest, which is trained on.
fn divide(sentences: Vec<TaggedSentence>, fractions: [f64; 2], seed: u64) -> [Vec<TaggedSentence>; 3] {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let key_of = |sentence: &TaggedSentence| -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&key);
        hash_list(&mut hasher, &sentence.words);
        *hasher.finalize().as_bytes()
    };
    let keys: Vec<[u8; 32]> = sentences.iter().map(key_of).collect();
    let distinct: BTreeSet<[u8; 32]> = keys.iter().copied().collect();
    let count = distinct.len();
    let mut order = distinct.into_iter();
    let mut part_of: HashMap<[u8; 32], usize> = HashMap::new();
    for (part, fraction) in fractions.into_iter().enumerate() {
        // One sentence stays for training.
        let most = order.len().saturating_sub(1);
        let share = ((count as f64 * fraction).round() as usize).min(most);
        part_of.extend(order.by_ref().take(share).map(|key| (key, part)));
    }
    // What only held-out sentences could teach is trained on.
    let mut known: HashSet<&str> = HashSet::new();
    for (sentence, key) in sentences.iter().zip(&keys) {
        if !part_of.contains_key(key) {
            known.extend(sentence.tags.iter().map(String::as_str));
        }
    }
    for (sentence, key) in sentences.iter().zip(&keys) {
        if part_of.contains_key(key) && sentence.tags.iter().any(|tag| !known.contains(tag.as_str())) {
            part_of.remove(key);
            known.extend(sentence.tags.iter().map(String::as_str));
        }
    }
    let mut parts = [Vec::new(), Vec::new(), Vec::new()];
    for (sentence, key) in sentences.into_iter().zip(&keys) {
        parts[part_of.get(key).copied().unwrap_or(fractions.len())].push(sentence);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TagScheme;
    use proptest::prelude::*;

    fn config(files: Vec<String>) -> TaggedConfig {
        toml::from_str(&format!("files = {files:?}")).unwrap()
    }

    /// Reads one file, without dividing it.
    fn read_one(
        name: &str,
        contents: &[u8],
        change: impl Fn(&mut TaggedConfig),
    ) -> Result<(Vec<TaggedSentence>, Vec<String>), Error> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        std::fs::write(&path, contents).unwrap();
        let mut config = config(vec![path.display().to_string()]);
        change(&mut config);
        let mut notes = Vec::new();
        let sentences = read_files(&config, &config.files, &mut notes)?;
        Ok((sentences, notes))
    }

    fn pairs(sentence: &TaggedSentence) -> String {
        let pairs = sentence.words.iter().zip(&sentence.tags).map(|(word, tag)| format!("{word}/{tag}"));
        pairs.collect::<Vec<_>>().join(" ")
    }

    const CONLL: &str = "-DOCSTART- -X- -X- O\n\n# id = 1\nEU NNP I-NP B-ORG\nrejects VBZ I-VP O\nGerman JJ I-NP B-MISC\n\n\
        # O O B-PER\nLamb NNP I-NP I-PER\r\n\n\n\n";

    #[test]
    fn conll_gives_sentences_and_passes_over_documents_and_comments() {
        let (sentences, notes) = read_one("a.conll", CONLL.as_bytes(), |_| ()).unwrap();
        let found: Vec<String> = sentences.iter().map(pairs).collect();
        assert_eq!(found, ["EU/B-ORG rejects/O German/B-MISC", "#/B-PER Lamb/I-PER"]);
        assert_eq!(sentences.iter().map(|sentence| sentence.place.1).collect::<Vec<_>>(), [4, 8]);
        assert!(notes.is_empty(), "{notes:?}");
        let plain = |config: &mut TaggedConfig| (config.scheme, config.tag_column) = (TagScheme::Plain, Some(2));
        let found = read_one("a.txt", CONLL.as_bytes(), plain).unwrap().0;
        assert_eq!(pairs(&found[0]), "EU/NNP rejects/VBZ German/JJ");
    }

    #[test]
    fn tabs_part_columns_before_spaces_do_and_an_ideographic_space_is_a_word() {
        let tabs = "1\tNew York\tB-LOC\n2\tis\tO\n";
        let found = read_one("a.tsv", tabs.as_bytes(), |config| config.token_column = 2).unwrap().0;
        assert_eq!(pairs(&found[0]), "New York/B-LOC is/O");
        let found = read_one("a.txt", "中 B-LOC\n国 I-LOC\n\u{3000} O\n".as_bytes(), |_| ()).unwrap().0;
        assert_eq!(pairs(&found[0]), "中/B-LOC 国/I-LOC \u{3000}/O");
    }

    #[test]
    fn jsonl_gives_two_lists_of_one_length() {
        let good = "{\"tokens\": [\"a\", \"b\"], \"tags\": [\"O\", \"B-X\"]}\n";
        for name in ["a.jsonl", "A.JSONL"] {
            assert_eq!(pairs(&read_one(name, good.as_bytes(), |_| ()).unwrap().0[0]), "a/O b/B-X");
        }
        let named = "{\"w\": [\"a\"], \"t\": [3]}\n";
        let change = |config: &mut TaggedConfig| {
            (config.tokens, config.tags, config.scheme) = ("w".into(), "t".into(), TagScheme::Plain);
        };
        assert_eq!(pairs(&read_one("a.jsonl", named.as_bytes(), change).unwrap().0[0]), "a/3");
        for (bad, part) in [
            ("{\"tokens\": [\"a\"], \"tags\": []}", "a.jsonl:1: the record has 1 tokens and 0 tags"),
            ("{\"tokens\": [], \"tags\": []}", "0 tokens"),
            ("{\"tokens\": \"a\", \"tags\": []}", "field `tokens` is a string, not an array"),
            ("{\"tags\": [], \"words\": [\"a\"]}", "no field `tokens`; the record has `tags`, `words`"),
            ("{\"tokens\": [1], \"tags\": [\"O\"]}", "entry 1 of `tokens` is a number"),
            ("{\"tokens\": [\"a\", \"\"], \"tags\": [\"O\", \"O\"]}", "entry 2 of `tokens` is empty"),
            ("{\"tokens\": [\"a\"], \"tags\": [\"I-X\"]}", "a.jsonl:1: tag 1: `I-X` begins the sentence"),
        ] {
            let error = read_one("a.jsonl", bad.as_bytes(), |_| ()).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn bad_sentences_are_errors_with_their_line_or_skipped_and_counted() {
        let good = "a O\nb O\n\n";
        for (bad, part) in [
            ("c O\nd I-PER\n", ":5: `I-PER` follows `O`, which does not begin its entity"),
            ("c O\nd\n", ":5: the line has 1 columns, most have 2"),
            ("c O\nd VB O\n", ":5: the line has 3 columns, most have 2"),
            ("c O\n\tO\n", ":5: the word is empty"),
            ("c NN\n", ":4: `NN` is no BIO tag"),
        ] {
            let text = [good, bad, "\n", good].concat();
            let error = read_one("a.txt", text.as_bytes(), |_| ()).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
            let (sentences, notes) =
                read_one("a.txt", text.as_bytes(), |config| config.on_bad_row = OnBadRow::Skip).unwrap();
            assert_eq!(sentences.len(), 2);
            assert!(notes[0].contains("left out 1 sentences") && notes[0].contains(part), "{notes:?}");
        }
        let no_text = [good.as_bytes(), b"c\xe9 O\nd O\n\ne\0 O\n\nf O\n"].concat();
        let (sentences, notes) = read_one("a.txt", &no_text, |config| config.on_bad_row = OnBadRow::Skip).unwrap();
        assert_eq!(sentences.iter().map(pairs).collect::<Vec<_>>(), ["a/O b/O", "f/O"]);
        assert!(notes[0].contains("left out 2 sentences") && notes[0].contains("a.txt:4: the byte 0xe9"), "{notes:?}");
        assert!(read_one("a.txt", &no_text, |_| ()).unwrap_err().to_string().contains("a.txt:7: NUL byte"));
        let one = read_one("a.txt", b"a\nb\n", |_| ()).unwrap_err().to_string();
        assert!(one.contains("a.txt:1: the line has 1 columns, 2 are needed"), "{one}");
        for text in ["\n\n", "# a comment\n", "-DOCSTART- O\n"] {
            let error = read_one("a.conll", text.as_bytes(), |_| ()).unwrap_err().to_string();
            assert!(error.contains("a.conll; hint: a line is a word"), "{error}");
        }
        let error = read_one("a.txt", b"a O\n", |config| config.token_column = 0).unwrap_err().to_string();
        assert!(error.contains("`token_column`: there is no column 0"), "{error}");
        assert!(read_one("a.txt", b"a O\n", |config| config.tag_column = Some(1)).is_err());
    }

    #[test]
    fn repairs_are_counted() {
        let repair = |config: &mut TaggedConfig| config.repair = true;
        let (sentences, notes) = read_one("a.txt", b"a I-X\nb I-X\nc O\nd I-X\n", repair).unwrap();
        assert_eq!(pairs(&sentences[0]), "a/B-X b/I-X c/O d/B-X");
        assert!(notes[0].contains("repaired 2 tags"), "{notes:?}");
    }

    /// A hundred sentences, some of them twice, one with a tag of its own.
    fn hundred() -> String {
        let tag = |i: usize| if i == 50 { "B-RARE" } else { ["O", "B-LOC", "B-PER"][i % 3] };
        (0..100).map(|i| format!("word{} {}\nends O\n\n", i - i % 20 / 19, tag(i - i % 20 / 19))).collect()
    }

    fn splits(files: &[(&str, String)], split: &SplitConfig) -> Result<TaggedSplits, Error> {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        files.iter().for_each(|(name, text)| std::fs::write(path(name), text).unwrap());
        let mut config = config(vec![path(files[0].0)]);
        config.test_files = files.iter().skip(1).map(|(name, _)| path(name)).collect();
        let mut splits = read(&config, split)?;
        for part in [&mut splits.train, &mut splits.validation, &mut splits.test] {
            part.iter_mut().for_each(|sentence| sentence.place.0 = PathBuf::new());
        }
        Ok(splits)
    }

    #[test]
    fn sentences_are_divided_whole_equal_ones_together_and_o_is_the_first_tag() {
        for seed in 0..20 {
            let split = SplitConfig { validation: 0.2, test: 0.1, seed, ..SplitConfig::default() };
            let splits = splits(&[("a.txt", hundred())], &split).unwrap();
            assert_eq!(splits.tags, ["O", "B-LOC", "B-PER", "B-RARE"]);
            let parts = [&splits.train, &splits.validation, &splits.test];
            assert_eq!(parts.iter().map(|part| part.len()).sum::<usize>(), 100);
            assert!(splits.validation.len().abs_diff(20) <= 4 && splits.test.len().abs_diff(10) <= 4);
            let texts = parts.map(|part| part.iter().map(TaggedSentence::text).collect::<BTreeSet<_>>());
            assert!(
                texts[0].is_disjoint(&texts[1]) && texts[0].is_disjoint(&texts[2]) && texts[1].is_disjoint(&texts[2])
            );
        }
        let split = SplitConfig { validation: 0.2, test: 0.1, seed: 1, ..SplitConfig::default() };
        let first = splits(&[("a.txt", hundred())], &split).unwrap();
        assert_eq!(first, splits(&[("b.txt", hundred())], &split).unwrap());
        let other = splits(&[("a.txt", hundred())], &SplitConfig { seed: 2, ..split.clone() }).unwrap();
        assert!(other.validation != first.validation && other.hash == first.hash);
        assert_ne!(first.hash, splits(&[("a.txt", hundred().replacen("O", "B-PER", 1))], &split).unwrap().hash);
    }

    #[test]
    fn given_files_take_the_place_of_fractions_and_their_tags_must_be_known() {
        let split = SplitConfig { validation: 0.2, test: 0.1, seed: 1, ..SplitConfig::default() };
        let given = splits(&[("a.txt", hundred()), ("t.txt", "x B-PER\n".into())], &split).unwrap();
        assert_eq!((given.train.len() + given.validation.len(), given.test.len()), (100, 1));
        let error = splits(&[("a.txt", hundred()), ("t.txt", "\nx B-NEW\n".into())], &split).unwrap_err().to_string();
        assert!(error.contains("t.txt:2: the tag `B-NEW`"), "{error}");
        let error = splits(&[("a.txt", "a O\n\nb O\n".into())], &split).unwrap_err().to_string();
        assert!(error.contains("one tag, `O`"), "{error}");
    }

    proptest! {
        #[test]
        fn whatever_stands_in_a_file_every_sentence_that_is_read_has_a_tag_for_each_word(
            bytes in proptest::collection::vec(proptest::sample::select(b"aOBI-X# \t\n\r\0\xff{}[]\",:".to_vec()), 1..80),
            jsonl: bool,
        ) {
            let change = |config: &mut TaggedConfig| (config.on_bad_row, config.repair) = (OnBadRow::Skip, true);
            let name = if jsonl { "a.jsonl" } else { "a.txt" };
            for sentence in read_one(name, &bytes, change).map(|read| read.0).unwrap_or_default() {
                prop_assert!(!sentence.words.is_empty() && sentence.words.len() == sentence.tags.len());
                prop_assert!(sentence.words.iter().all(|word| !word.is_empty()));
                prop_assert!(tag_scheme::to_bio(TagScheme::Bio, false, sentence.tags.clone()).is_ok());
            }
        }
    }
}
