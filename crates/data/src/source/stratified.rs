//! Dividing labelled examples so that every part has its share of every label.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::labelled::Example;
use crate::error::Error;

/// What stands for an example's texts in an order that only they and the seed decide.
type TextKey = [u8; 32];

/// Each example's key, and the distinct keys of each label, sorted. A text counts for the label that it has first.
fn keys(examples: &[Example], seed: u64) -> (Vec<TextKey>, BTreeMap<String, Vec<TextKey>>) {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let key_of = |example: &Example| -> TextKey {
        let mut hasher = blake3::Hasher::new_keyed(&key);
        for text in [Some(&example.text), example.pair.as_ref()].into_iter().flatten() {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        *hasher.finalize().as_bytes()
    };
    let keys: Vec<TextKey> = examples.iter().map(key_of).collect();
    let mut by_label: BTreeMap<String, Vec<TextKey>> = BTreeMap::new();
    let mut seen = HashSet::new();
    for (example, key) in examples.iter().zip(&keys) {
        if seen.insert(*key) {
            by_label.entry(example.label.clone()).or_default().push(*key);
        }
    }
    by_label.values_mut().for_each(|texts| texts.sort_unstable());
    (keys, by_label)
}

/// Divides examples into a part for each fraction and the rest, each with its share of every label.
///
/// Which part an example falls into depends on the texts and the seed alone. Examples with the same text stay together.
pub(super) fn stratified(examples: Vec<Example>, fractions: [f64; 2], seed: u64) -> [Vec<Example>; 3] {
    let (keys, by_label) = keys(&examples, seed);
    let mut part_of: HashMap<TextKey, usize> = HashMap::new();
    // Shares are rounded so that they add up over the labels.
    let mut before = 0;
    for texts in by_label.values() {
        let mut rest = texts.iter();
        for (part, fraction) in fractions.iter().enumerate() {
            let until = |count: usize| (count as f64 * fraction).round() as usize;
            let share = until(before + texts.len()) - until(before);
            // The last text of a label stays for training.
            let most = rest.len().saturating_sub(1);
            part_of.extend(rest.by_ref().take(share.min(most)).map(|text| (*text, part)));
        }
        before += texts.len();
    }
    let mut parts = [Vec::new(), Vec::new(), Vec::new()];
    for (example, key) in examples.into_iter().zip(&keys) {
        parts[part_of.get(key).copied().unwrap_or(fractions.len())].push(example);
    }
    parts
}

/// What one fold of a cross-validation trains on, and what it is validated with.
pub type Fold = (Vec<Example>, Vec<Example>);

/// Divides examples for a cross-validation: each is validated with in one of `folds` folds and trained on in the others.
///
/// Every fold has its share of every label, examples with the same text stay together, and which fold a text falls into
/// depends on the texts and the seed alone. The order inside a part is that of `examples`.
///
/// # Errors
/// Fewer than two folds; a label with fewer distinct texts than folds.
pub fn stratified_folds(examples: &[Example], folds: usize, seed: u64) -> Result<Vec<Fold>, Error> {
    if folds < 2 {
        return Err(Error::config("folds", format!("{folds} folds leave nothing to train on"), "5 or 10 are usual"));
    }
    let (keys, by_label) = keys(examples, seed);
    for (label, texts) in &by_label {
        if texts.len() < folds {
            let message = format!("the label `{label}` has {} distinct texts for {folds} folds", texts.len());
            return Err(Error::config("folds", message, format!("use at most {} folds, or add texts", texts.len())));
        }
    }
    // Dealing goes on from one label to the next, so that the folds differ by one text at most.
    let dealt = by_label.values().flatten().enumerate();
    let fold_of: HashMap<TextKey, usize> = dealt.map(|(index, text)| (*text, index % folds)).collect();
    let part = |fold: usize, validates: bool| {
        let of_part = examples.iter().zip(&keys).filter(|(_, key)| (fold_of[*key] == fold) == validates);
        of_part.map(|(example, _)| example.clone()).collect()
    };
    Ok((0..folds).map(|fold| (part(fold, false), part(fold, true))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(text: String, label: &str) -> Example {
        Example { text, pair: None, label: label.into(), place: ("f".into(), 1) }
    }

    #[test]
    fn each_fold_validates_its_share_of_every_label_and_shares_no_text_with_its_training() {
        let label = |i: usize| if i.is_multiple_of(7) { "rare" } else { ["a", "b"][i % 2] };
        let mut examples: Vec<Example> = (0..100).map(|i| example(format!("text {i}"), label(i))).collect();
        examples.extend(examples[..9].to_vec());
        let folds = stratified_folds(&examples, 5, 3).unwrap();
        let mut validated = 0;
        for (train, validation) in &folds {
            assert_eq!(train.len() + validation.len(), examples.len());
            validated += validation.len();
            let trained: HashSet<&String> = train.iter().map(|example| &example.text).collect();
            assert!(validation.iter().all(|example| !trained.contains(&example.text)));
            let texts: HashSet<&String> = validation.iter().map(|example| &example.text).collect();
            assert_eq!(texts.len(), 20);
            for (label, share) in [("rare", 3), ("a", 8), ("b", 8)] {
                let of_label = validation.iter().filter(|example| example.label == label);
                let count = of_label.map(|example| &example.text).collect::<HashSet<_>>().len();
                assert!(count.abs_diff(share) <= 1, "{count} of {label}");
            }
        }
        assert_eq!(validated, examples.len());
        assert_eq!(folds, stratified_folds(&examples, 5, 3).unwrap());
        assert_ne!(folds, stratified_folds(&examples, 5, 4).unwrap());
    }

    #[test]
    fn a_label_with_fewer_distinct_texts_than_folds_is_named_with_their_number() {
        let mut examples: Vec<Example> = (0..9).map(|i| example(format!("text {i}"), "often")).collect();
        examples.extend([0, 0, 1].map(|i| example(format!("few {i}"), "seldom")));
        let error = stratified_folds(&examples, 3, 0).unwrap_err().to_string();
        assert!(error.contains("`seldom` has 2 distinct texts for 3 folds"), "{error}");
        assert!(stratified_folds(&examples, 2, 0).is_ok());
        assert!(stratified_folds(&examples, 1, 0).is_err());
    }
}
