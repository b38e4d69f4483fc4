//! Divides documents into training, validation and test parts that never overlap.

use std::collections::HashMap;

use crate::config::SplitConfig;
use crate::error::Error;
use crate::source::Corpus;

/// The three parts; each keeps the order of the corpus.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Splits {
    /// What the model trains on.
    pub train: Vec<String>,
    /// What the evaluations during training use.
    pub validation: Vec<String>,
    /// What is held out for the end.
    pub test: Vec<String>,
}

/// A part of the data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Part {
    Train,
    Validation,
    Test,
}

/// Divides the corpus: one document is cut into contiguous parts (training, then validation, then test), several are
/// divided by whole documents in an order keyed by the seed. Documents with the same text stay together, so the
/// fractions are met to the nearest document only where duplicates allow it.
///
/// # Errors
/// A fraction below 0 or not finite, or fractions that leave nothing to train on.
pub fn split(corpus: Corpus, config: &SplitConfig) -> Result<Splits, Error> {
    check(config)?;
    Ok(match corpus.documents.as_slice() {
        [document] => by_position(document, config),
        _ => by_document(corpus.documents, config),
    })
}

/// Whether the fractions can be met.
///
/// # Errors
/// A fraction below 0 or not finite, or fractions that leave nothing to train on.
pub(crate) fn check(config: &SplitConfig) -> Result<(), Error> {
    for (key, value) in [("split.validation", config.validation), ("split.test", config.test)] {
        if !(0.0..1.0).contains(&value) {
            return Err(Error::config(
                key,
                format!("{value} is no fraction from 0 to below 1"),
                "0.1 holds out a tenth",
            ));
        }
    }
    if config.validation + config.test >= 1.0 {
        let message =
            format!("with `split.test` it makes {}, which leaves nothing to train on", config.validation + config.test);
        return Err(Error::config("split.validation", message, "the two must add up to less than 1"));
    }
    Ok(())
}

/// Cuts one text at character boundaries near the fractions of its bytes.
fn by_position(text: &str, config: &SplitConfig) -> Splits {
    let length = text.len() as f64;
    let train = text.floor_char_boundary((length * (1.0 - config.validation - config.test)) as usize);
    let test = match config.test {
        0.0 => text.len(),
        fraction => text.floor_char_boundary((length * (1.0 - fraction)) as usize).max(train),
    };
    let part = |text: &str| {
        if text.is_empty() { vec![] } else { vec![text.to_owned()] }
    };
    Splits { train: part(&text[..train]), validation: part(&text[train..test]), test: part(&text[test..]) }
}

fn by_document(documents: Vec<String>, config: &SplitConfig) -> Splits {
    let hashes: Vec<[u8; 32]> = documents.iter().map(|text| *blake3::hash(text.as_bytes()).as_bytes()).collect();
    let mut splits = Splits::default();
    for (document, part) in documents.into_iter().zip(divide(&hashes, config)) {
        match part {
            Part::Train => splits.train.push(document),
            Part::Validation => splits.validation.push(document),
            Part::Test => splits.test.push(document),
        }
    }
    splits
}

/// The part of each row, by the hash of its content: rows with the same content stay together.
pub(crate) fn divide(hashes: &[[u8; 32]], config: &SplitConfig) -> Vec<Part> {
    let [mut validation, mut test] = wanted(hashes.len(), config);
    let wants_validation = validation > 0;
    let mut copies: HashMap<[u8; 32], usize> = HashMap::new();
    for hash in hashes {
        *copies.entry(*hash).or_default() += 1;
    }
    let mut key = [0; 32];
    key[..8].copy_from_slice(&config.seed.to_le_bytes());
    // The order depends on the texts and the seed alone, so adding a document moves few of the others.
    let mut order: Vec<([u8; 32], [u8; 32], usize)> =
        copies.into_iter().map(|(hash, count)| (*blake3::keyed_hash(&key, &hash).as_bytes(), hash, count)).collect();
    order.sort_unstable();

    let mut parts: HashMap<[u8; 32], Part> = HashMap::with_capacity(order.len());
    let mut has_validation = false;
    for (_, hash, count) in &order {
        // What does not fit whole is trained on: a held-out part never outgrows its fraction.
        let part = if *count <= validation {
            validation -= count;
            has_validation = true;
            Part::Validation
        } else if *count <= test {
            test -= count;
            Part::Test
        } else {
            Part::Train
        };
        parts.insert(*hash, part);
    }
    if wants_validation && !has_validation {
        let trained: Vec<_> = order.iter().filter(|(_, hash, _)| parts[hash] == Part::Train).collect();
        match trained.iter().min_by_key(|(_, _, count)| count) {
            Some((_, hash, _)) if trained.len() > 1 => _ = parts.insert(*hash, Part::Validation),
            _ => {
                tracing::warn!("no validation documents: the documents that could be held out repeat those trained on")
            }
        }
    }
    hashes.iter().map(|hash| parts[hash]).collect()
}

/// Documents for validation and test: rounded, at least one where a fraction asks for some, and one left to train on.
fn wanted(documents: usize, config: &SplitConfig) -> [usize; 2] {
    let count = |fraction: f64| match fraction {
        0.0 => 0,
        _ => ((documents as f64 * fraction).round() as usize).max(1),
    };
    let validation = count(config.validation).min(documents.saturating_sub(1));
    let test = count(config.test).min(documents.saturating_sub(1 + validation));
    [validation, test]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn config(validation: f64, test: f64, seed: u64) -> SplitConfig {
        SplitConfig { validation, test, seed, ..SplitConfig::default() }
    }

    fn parts(documents: &[String], config: &SplitConfig) -> Splits {
        split(Corpus::new(documents.to_vec()), config).unwrap()
    }

    #[test]
    fn one_document_is_cut_into_contiguous_parts_at_character_boundaries() {
        let text = "aé".repeat(100);
        let splits = parts(std::slice::from_ref(&text), &config(0.1, 0.2, 0));
        assert_eq!([&splits.train[0], &splits.validation[0], &splits.test[0]].map(String::as_str).concat(), text);
        for (part, share) in [(&splits.train, 210), (&splits.validation, 30), (&splits.test, 60)] {
            assert!(part[0].len().abs_diff(share) <= 2, "{} for {share}", part[0].len());
        }
    }

    #[test]
    fn several_documents_are_divided_in_exact_rounded_counts() {
        let documents: Vec<String> = (0..105).map(|index| format!("document {index}")).collect();
        let splits = parts(&documents, &config(0.1, 0.2, 5));
        assert_eq!([splits.train.len(), splits.validation.len(), splits.test.len()], [73, 11, 21]);
        assert_ne!(splits.validation, parts(&documents, &config(0.1, 0.2, 6)).validation);
        assert_eq!(parts(&documents, &config(0.0, 0.0, 5)).train, documents);
    }

    #[test]
    fn fractions_that_cannot_be_are_refused() {
        for (validation, test) in [(-0.1, 0.0), (1.0, 0.0), (f64::NAN, 0.0), (0.5, 0.5), (0.0, f64::INFINITY)] {
            let result = split(Corpus::new(vec!["a".into(), "b".into()]), &config(validation, test, 0));
            assert!(matches!(result, Err(Error::Config { .. })), "{validation} {test}");
        }
    }

    #[test]
    fn a_text_that_is_repeated_more_often_than_the_fraction_allows_is_trained_on() {
        let mut documents = vec!["often".to_string(); 50];
        documents.extend((0..50).map(|index| format!("once {index}")));
        let splits = parts(&documents, &config(0.1, 0.0, 1));
        assert_eq!(splits.validation.len(), 10);
        assert_eq!(splits.train.iter().filter(|text| *text == "often").count(), 50);
    }

    proptest! {
        #[test]
        fn parts_never_overlap_and_nothing_is_lost(
            documents in proptest::collection::vec("[a-c]{1,3}", 2..60),
            validation in 0.0..0.5f64,
            test in 0.0..0.4f64,
            seed: u64,
        ) {
            let config = config(validation, test, seed);
            let splits = parts(&documents, &config);
            prop_assert_eq!(&splits, &parts(&documents, &config));
            let mut all = splits.train.clone();
            all.extend_from_slice(&splits.validation);
            all.extend_from_slice(&splits.test);
            let mut expected = documents.clone();
            all.sort();
            expected.sort();
            prop_assert_eq!(all, expected);
            for text in &splits.validation {
                prop_assert!(!splits.train.contains(text) && !splits.test.contains(text));
            }
            prop_assert!(splits.test.iter().all(|text| !splits.train.contains(text)));
            prop_assert!(!splits.train.is_empty());
            let distinct = documents.iter().collect::<std::collections::BTreeSet<_>>().len();
            if validation > 0.0 && test == 0.0 && distinct > 1 {
                prop_assert!(!splits.validation.is_empty());
            }
            // The order inside a part is the corpus's.
            let mut rest = documents.iter();
            prop_assert!(splits.train.iter().all(|text| rest.any(|other| other == text)));
        }

        #[test]
        fn one_document_loses_nothing(text in "\\PC{1,80}", validation in 0.0..0.5f64, test in 0.0..0.5f64) {
            let splits = parts(std::slice::from_ref(&text), &config(validation, test, 0));
            prop_assert_eq!([splits.train, splits.validation, splits.test].concat().concat(), text);
        }
    }
}
