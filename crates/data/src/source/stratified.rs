//! Dividing labelled examples so that every part has its share of every label.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::labelled::Example;
use crate::config::ProblemConfig;
use crate::error::Error;

/// What stands for an example's texts in an order that only they and the seed decide.
type TextKey = [u8; 32];

/// What every part shall have its share of: the label; of several labels the rarest; of numbers their tenths, by rank.
fn strata(examples: &[Example], problem: ProblemConfig) -> Vec<String> {
    let first = |example: &Example| example.labels.first().cloned().unwrap_or_default();
    match problem {
        ProblemConfig::SingleLabel => examples.iter().map(first).collect(),
        ProblemConfig::MultiLabel => {
            let mut counts: HashMap<&String, usize> = HashMap::new();
            examples
                .iter()
                .flat_map(|example| &example.labels)
                .for_each(|label| *counts.entry(label).or_default() += 1);
            let rarest = |example: &Example| example.labels.iter().min_by_key(|label| (counts[label], *label)).cloned();
            examples.iter().map(|example| rarest(example).unwrap_or_default()).collect()
        }
        ProblemConfig::Regression => {
            // What is no number is refused later, by file and line.
            let value = |row: &usize| first(&examples[*row]).parse().unwrap_or(f64::NAN);
            let mut order: Vec<usize> = (0..examples.len()).collect();
            order.sort_by(|a, b| value(a).total_cmp(&value(b)));
            let mut strata = vec![String::new(); examples.len()];
            order.iter().enumerate().for_each(|(rank, row)| strata[*row] = (10 * rank / examples.len()).to_string());
            strata
        }
    }
}

/// Each example's key, and the distinct keys of each stratum, sorted. A text counts for the stratum that it has first.
fn keys(examples: &[Example], problem: ProblemConfig, seed: u64) -> (Vec<TextKey>, BTreeMap<String, Vec<TextKey>>) {
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
    for (stratum, key) in strata(examples, problem).into_iter().zip(&keys) {
        if seen.insert(*key) {
            by_label.entry(stratum).or_default().push(*key);
        }
    }
    by_label.values_mut().for_each(|texts| texts.sort_unstable());
    (keys, by_label)
}

/// Divides examples into a part for each fraction and the rest, each with its share of every label.
///
/// Which part an example falls into depends on the texts and the seed alone. Examples with the same text stay together.
pub(super) fn stratified(
    examples: Vec<Example>,
    problem: ProblemConfig,
    fractions: [f64; 2],
    seed: u64,
) -> [Vec<Example>; 3] {
    let (keys, by_label) = keys(&examples, problem, seed);
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

/// Divides examples for a cross-validation, in which each is validated with in one of `folds` folds and trained on in
/// the others; what this fold trains on, and what it is validated with.
///
/// Every fold has its share of every label, examples with the same text stay together, and which fold a text falls into
/// depends on the texts and the seed alone. The order inside a part is that of `examples`.
///
/// # Errors
/// Fewer than two folds, or a fold that there is none of; a label with fewer distinct texts than folds.
pub(super) fn stratified_fold(
    examples: Vec<Example>,
    problem: ProblemConfig,
    folds: usize,
    fold: usize,
    seed: u64,
) -> Result<(Vec<Example>, Vec<Example>), Error> {
    if folds < 2 || fold >= folds {
        let message = format!("there is no fold {fold} of {folds} that leaves something to train on");
        return Err(Error::config("split.fold", message, "folds count from 0, and 5 or 10 of them are usual"));
    }
    let (keys, by_label) = keys(&examples, problem, seed);
    if problem == ProblemConfig::SingleLabel
        && let Some((label, texts)) = by_label.iter().find(|(_, texts)| texts.len() < folds)
    {
        let message = format!("the label `{label}` has {} distinct texts for {folds} folds", texts.len());
        let hint = match texts.len() {
            0 | 1 => "a label needs two texts or more; add some, or leave its rows out".into(),
            most => format!("use at most {most} folds, or add texts"),
        };
        return Err(Error::config("split.folds", message, hint));
    }
    // Dealing goes on from one label to the next, so that the folds differ by one text at most.
    let dealt = by_label.values().flatten().enumerate();
    let fold_of: HashMap<TextKey, usize> = dealt.map(|(index, text)| (*text, index % folds)).collect();
    let (validation, train): (Vec<_>, Vec<_>) =
        examples.into_iter().zip(&keys).partition(|(_, key)| fold_of[*key] == fold);
    let examples = |part: Vec<(Example, &TextKey)>| part.into_iter().map(|(example, _)| example).collect();
    Ok((examples(train), examples(validation)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(text: String, label: &str) -> Example {
        Example { text, pair: None, labels: vec![label.into()], place: ("f".into(), 1) }
    }

    fn folds(examples: &[Example], folds: usize, seed: u64) -> Vec<(Vec<Example>, Vec<Example>)> {
        let fold = |fold| stratified_fold(examples.to_vec(), ProblemConfig::SingleLabel, folds, fold, seed).unwrap();
        (0..folds).map(fold).collect()
    }

    #[test]
    fn each_fold_validates_its_share_of_every_label_and_shares_no_text_with_its_training() {
        let label = |i: usize| if i.is_multiple_of(7) { "rare" } else { ["a", "b"][i % 2] };
        let mut examples: Vec<Example> = (0..100).map(|i| example(format!("text {i}"), label(i))).collect();
        examples.extend(examples[..9].to_vec());
        let of_seed = folds(&examples, 5, 3);
        let mut validated = 0;
        for (train, validation) in &of_seed {
            assert_eq!(train.len() + validation.len(), examples.len());
            validated += validation.len();
            let trained: HashSet<&String> = train.iter().map(|example| &example.text).collect();
            assert!(validation.iter().all(|example| !trained.contains(&example.text)));
            let texts: HashSet<&String> = validation.iter().map(|example| &example.text).collect();
            assert_eq!(texts.len(), 20);
            for (label, share) in [("rare", 3), ("a", 8), ("b", 8)] {
                let of_label = validation.iter().filter(|example| example.labels == [label]);
                let count = of_label.map(|example| &example.text).collect::<HashSet<_>>().len();
                assert!(count.abs_diff(share) <= 1, "{count} of {label}");
            }
        }
        assert_eq!(validated, examples.len());
        assert_eq!(of_seed, folds(&examples, 5, 3));
        assert_ne!(of_seed, folds(&examples, 5, 4));
    }

    #[test]
    fn a_label_with_fewer_distinct_texts_than_folds_is_named_with_their_number() {
        let mut examples: Vec<Example> = (0..9).map(|i| example(format!("text {i}"), "often")).collect();
        examples.extend([0, 0, 1].map(|i| example(format!("few {i}"), "seldom")));
        let fold = |folds, fold| stratified_fold(examples.clone(), ProblemConfig::SingleLabel, folds, fold, 0);
        let error = fold(3, 0).unwrap_err().to_string();
        assert!(error.contains("`seldom` has 2 distinct texts for 3 folds"), "{error}");
        assert!(error.contains("hint: use at most 2 folds, or add texts"), "{error}");
        assert!(fold(2, 1).is_ok());
        assert!(fold(2, 2).is_err() && fold(1, 0).is_err());
        let mut single = examples.clone();
        single.push(example("alone".into(), "once"));
        let error = stratified_fold(single, ProblemConfig::SingleLabel, 2, 0, 0).unwrap_err().to_string();
        assert!(error.contains("`once` has 1 distinct texts") && error.contains("needs two texts"), "{error}");
    }

    #[test]
    fn numbers_and_several_labels_have_their_share_in_every_part() {
        let number = |i: usize| example(format!("text {i}"), &i.to_string());
        let numbers: Vec<Example> = (0..200).map(number).collect();
        let [test, ..] = stratified(numbers, ProblemConfig::Regression, [0.1, 0.1], 5);
        assert_eq!(test.len(), 20);
        let high = test.iter().filter(|e| e.labels[0].parse::<usize>().unwrap() >= 100).count();
        assert_eq!(high, 10);
        let several = |i: usize| {
            let rare = i.is_multiple_of(10).then_some("rare");
            Example { labels: ["usual"].into_iter().chain(rare).map(String::from).collect(), ..number(i) }
        };
        let several: Vec<Example> = (0..200).map(several).collect();
        let [test, ..] = stratified(several, ProblemConfig::MultiLabel, [0.2, 0.1], 5);
        assert_eq!((test.len(), test.iter().filter(|e| e.labels.len() == 2).count()), (40, 4));
    }
}
