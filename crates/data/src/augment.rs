//! Random changes to the words of training texts, so that no epoch shows the same ones.

use std::collections::HashMap;

use crate::batch::RowId;
use crate::config::AugmentConfig;
use crate::error::Error;
use crate::permutation::{keyed_hash, unit};
use crate::source::read_word_list;
use crate::words::{joined, key, words};

/// Changes words; the same for the same seed, epoch and row.
///
/// Source: Wei and Zou 2019, "EDA: Easy Data Augmentation Techniques", section 2.
#[derive(Clone, Debug)]
pub struct Augmenter {
    config: AugmentConfig,
    /// Of each word, as [`key`] writes it, those that may stand in for it.
    synonyms: HashMap<String, Vec<String>>,
    seed: u64,
}

/// What a random number is drawn for.
#[derive(Clone, Copy)]
enum Purpose {
    Replace,
    Synonym,
    Swap,
    Partner,
    Delete,
    Keep,
}

impl Augmenter {
    /// What `config` says of words; synonyms are read now. `None` if it changes none.
    ///
    /// # Errors
    /// A probability that is none; a file of synonyms that cannot be read, is empty, or has a line with one word alone.
    pub fn new(config: &AugmentConfig, seed: u64) -> Result<Option<Self>, Error> {
        let replace = config.synonyms.as_ref().map_or(0.0, |synonyms| synonyms.probability);
        let probabilities = [
            ("augment.delete", config.delete),
            ("augment.swap", config.swap),
            ("augment.synonyms.probability", replace),
        ];
        for (key, value) in probabilities {
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::config(
                    key,
                    format!("{value} is no probability"),
                    "0.1 changes a tenth of the words",
                ));
            }
        }
        let synonyms = config.synonyms.as_ref().map(|synonyms| read_synonyms(&synonyms.file)).transpose()?;
        let changes = probabilities.iter().any(|(_, value)| *value > 0.0);
        let synonyms = synonyms.unwrap_or_default();
        Ok(changes.then(|| Self { config: config.clone(), synonyms, seed }))
    }

    /// A text as `row` shows it in its epoch: words replaced by synonyms, then swapped, then deleted. `part` tells the
    /// texts of a pair apart.
    pub fn augment(&self, text: &str, row: RowId, part: u64) -> String {
        self.augment_counting(text, row, part).0
    }

    /// As [`Augmenter::augment`], with what it did.
    pub(crate) fn augment_counting(&self, text: &str, row: RowId, part: u64) -> (String, WordCounts) {
        let row_key = keyed_hash(keyed_hash(keyed_hash(self.seed, row.epoch), row.row), part);
        let number = |purpose: Purpose, place: usize| keyed_hash(keyed_hash(row_key, purpose as u64), place as u64);
        let happens = |purpose, place, probability: f64| unit(number(purpose, place)) < probability;
        let (found, rest) = words(text);
        let count = found.len();
        let mut counts = WordCounts { words: count, ..WordCounts::default() };
        let mut shown: Vec<&str> = found.iter().map(|word| word.word).collect();
        if let Some(synonyms) = &self.config.synonyms {
            for (place, word) in shown.iter_mut().enumerate() {
                if happens(Purpose::Replace, place, synonyms.probability)
                    && let Some(others) = self.synonyms.get(&key(word))
                {
                    *word = &others[(number(Purpose::Synonym, place) % others.len() as u64) as usize];
                    counts.replaced += 1;
                }
            }
        }
        for place in (0..count).filter(|place| count > 1 && happens(Purpose::Swap, *place, self.config.swap)) {
            // One of the others, all alike.
            let step = 1 + (number(Purpose::Partner, place) % (count as u64 - 1)) as usize;
            shown.swap(place, (place + step) % count);
            counts.swapped += 1;
        }
        let mut kept: Vec<bool> =
            (0..count).map(|place| !happens(Purpose::Delete, place, self.config.delete)).collect();
        if count > 0 && !kept.contains(&true) {
            kept[(number(Purpose::Keep, 0) % count as u64) as usize] = true;
        }
        counts.deleted = kept.iter().filter(|kept| !**kept).count();
        let shown = shown.into_iter().zip(kept).map(|(word, kept)| kept.then_some(word));
        (joined(found.iter().map(|word| word.gap).zip(shown), rest), counts)
    }

    /// Counts as a note says them; what is not asked for is left out.
    pub(crate) fn described(&self, counts: WordCounts) -> String {
        let done: Vec<String> = [
            (self.config.delete > 0.0, counts.deleted, "deleted"),
            (self.config.swap > 0.0, counts.swapped, "swapped"),
            (self.config.synonyms.is_some(), counts.replaced, "replaced by synonyms"),
        ]
        .into_iter()
        .filter(|(asked, ..)| *asked)
        .map(|(_, count, what)| format!("{count} {what}"))
        .collect();
        format!("of {} words {}", counts.words, done.join(", "))
    }
}

/// What was done to how many words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WordCounts {
    words: usize,
    replaced: usize,
    swapped: usize,
    deleted: usize,
}

impl std::ops::Add for WordCounts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            words: self.words + other.words,
            replaced: self.replaced + other.replaced,
            swapped: self.swapped + other.swapped,
            deleted: self.deleted + other.deleted,
        }
    }
}

fn read_synonyms(path: &std::path::Path) -> Result<HashMap<String, Vec<String>>, Error> {
    const KEY: &str = "augment.synonyms.file";
    const HINT: &str = "words that mean the same stand on one line, separated by commas";
    let failed = |message: String| Error::config(KEY, message, HINT);
    let text = read_word_list(KEY, path, HINT)?;
    let mut synonyms: HashMap<String, Vec<String>> = HashMap::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let group: Vec<&str> = line.split([',', '，']).map(str::trim).filter(|word| !word.is_empty()).collect();
        if group.len() < 2 {
            return Err(failed(format!("{}:{}: `{}` has no synonym", path.display(), index + 1, line.trim())));
        }
        for word in &group {
            let others = group.iter().filter(|other| *other != word).map(|other| (*other).to_owned());
            synonyms.entry(key(word)).or_default().extend(others);
        }
    }
    // A word that stands in its group twice has itself alone.
    synonyms.retain(|_, others| !others.is_empty());
    if synonyms.is_empty() { Err(failed(format!("{} has no synonyms", path.display()))) } else { Ok(synonyms) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn row(epoch: u64, row: u64) -> RowId {
        RowId { epoch, row }
    }

    fn augmenter(config: &str) -> Augmenter {
        Augmenter::new(&toml::from_str(config).unwrap(), 5).unwrap().unwrap()
    }

    const TEXT: &str = "one two, three four five six seven eight nine ten.";

    fn sorted_words(text: &str) -> Vec<&str> {
        let mut found: Vec<&str> = words(text).0.iter().map(|word| word.word).collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn a_change_is_a_function_of_seed_epoch_and_row() {
        let augmenter = augmenter("delete = 0.2\nswap = 0.2");
        let shown = augmenter.augment(TEXT, row(1, 2), 0);
        assert_eq!(shown, augmenter.augment(TEXT, row(1, 2), 0));
        let config = toml::from_str("delete = 0.2\nswap = 0.2").unwrap();
        let other_seed = Augmenter::new(&config, 6).unwrap().unwrap();
        let others = [
            augmenter.augment(TEXT, row(2, 2), 0),
            augmenter.augment(TEXT, row(1, 3), 0),
            augmenter.augment(TEXT, row(1, 2), 1),
            other_seed.augment(TEXT, row(1, 2), 0),
        ];
        assert!(!others.contains(&shown) && others.iter().collect::<BTreeSet<_>>().len() == 4, "{others:?}");
    }

    #[test]
    fn words_are_deleted_as_often_as_asked_and_one_stays() {
        let augmenter = augmenter("delete = 0.3");
        let left: usize = (0..2000).map(|i| words(&augmenter.augment(TEXT, row(0, i), 0)).0.len()).sum();
        assert!((left as f64 / 20_000.0 - 0.7).abs() < 0.01, "{left}");
        let all = super::tests::augmenter("delete = 1.0");
        let shown: BTreeSet<String> = (0..200).map(|i| all.augment(TEXT, row(0, i), 0)).collect();
        assert!(shown.len() == 10 && shown.iter().all(|text| words(text).0.len() == 1), "{shown:?}");
        assert_eq!(all.augment("?!", row(0, 0), 0), "?!");
        assert_eq!(all.augment("", row(0, 0), 0), "");
    }

    #[test]
    fn what_is_done_to_words_is_counted() {
        let augmenter = augmenter("delete = 0.2\nswap = 0.1");
        let all: WordCounts = (0..100)
            .map(|index| {
                let (shown, counts) = augmenter.augment_counting(TEXT, row(0, index), 0);
                assert_eq!((counts.words, counts.words - counts.deleted), (10, words(&shown).0.len()));
                counts
            })
            .fold(WordCounts::default(), |sum, counts| sum + counts);
        let expected = format!("of 1000 words {} deleted, {} swapped", all.deleted, all.swapped);
        assert_eq!(augmenter.described(all), expected);
        assert!((150..250).contains(&all.deleted) && (60..140).contains(&all.swapped), "{expected}");
    }

    #[test]
    fn swapping_keeps_the_words_and_what_stands_between() {
        let augmenter = augmenter("swap = 0.1");
        let mut unchanged = 0;
        for index in 0..1000 {
            let shown = augmenter.augment(TEXT, row(0, index), 0);
            assert_eq!(sorted_words(&shown), sorted_words(TEXT));
            assert_eq!(shown.matches(' ').count(), 9);
            unchanged += usize::from(shown == TEXT);
        }
        // No word of ten is chosen in 0.9^10 = 35% of the texts.
        assert!((330..400).contains(&unchanged), "{unchanged}");
        assert_eq!(augmenter.augment("alone", row(0, 0), 0), "alone");
    }

    #[test]
    fn synonyms_stand_in_for_words_in_english_and_chinese() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("synonyms.txt");
        // A byte-order mark is no part of the first word.
        std::fs::write(&path, "\u{feff}big, large, huge\n\n喜欢，喜爱\n").unwrap();
        let config = format!("[synonyms]\nfile = '{}'\nprobability = 1.0", path.display());
        let augmenter = augmenter(&config);
        let shown: BTreeSet<String> = (0..50).map(|i| augmenter.augment("A Big house", row(0, i), 0)).collect();
        assert_eq!(shown.iter().collect::<Vec<_>>(), ["A huge house", "A large house"]);
        assert_eq!(augmenter.augment("我们喜欢北京", row(0, 0), 0), "我们喜爱北京");
        std::fs::write(&path, "big, large\nalone\n").unwrap();
        let error = Augmenter::new(&toml::from_str(&config).unwrap(), 0).unwrap_err().to_string();
        assert!(error.contains("`augment.synonyms.file`") && error.contains("txt:2: `alone`"), "{error}");
        std::fs::write(&path, b"big, large\nna\xefve, simple\n").unwrap();
        let error = Augmenter::new(&toml::from_str(&config).unwrap(), 0).unwrap_err().to_string();
        assert!(error.contains("synonyms.txt:2: the byte 0xef"), "{error}");
    }

    #[test]
    fn a_bad_value_is_an_error_that_names_its_key_and_no_change_is_no_augmenter() {
        let of = |config: &str| Augmenter::new(&toml::from_str(config).unwrap(), 0);
        let error = |config: &str| of(config).unwrap_err().to_string();
        assert!(error("delete = 1.5").contains("`augment.delete`: 1.5"));
        assert!(error("swap = nan").contains("`augment.swap`"));
        let missing = error("[synonyms]\nfile = 'no/such'\nprobability = 0.1");
        assert!(missing.contains("`augment.synonyms.file`: no/such"), "{missing}");
        assert!(of("").unwrap().is_none());
    }
}
