//! Texts that are nearly the same, found without comparing each with each.
//!
//! MinHash signatures in bands find the candidates (Broder 1997, "On the resemblance and containment of documents";
//! Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", chapter 3), whose similarity is then computed exactly.

use std::collections::{BTreeSet, HashMap};

use rayon::prelude::*;

use crate::permutation::keyed_hash;

/// Characters of a shingle.
const SHINGLE: usize = 5;

/// Hashes of a signature.
const HASHES: usize = 128;

/// For each text, the first text before it that is kept and at least as similar as `threshold`, if there is one: what
/// has none is kept.
///
/// Similarity is Jaccard's over runs of five characters: those that two texts share, over all that either has. A pair
/// that is as similar as the threshold is missed once in a thousand times at most; none that is less similar is found.
pub fn near_duplicates<S: AsRef<str> + Sync>(texts: &[S], threshold: f64) -> Vec<Option<usize>> {
    let rows = rows_per_band(threshold);
    let of_text = |text: &S| {
        let shingles = shingles(text.as_ref());
        let bands = bands(&shingles, rows);
        (shingles, bands)
    };
    let signed: Vec<(Vec<u64>, Vec<u64>)> = texts.par_iter().map(of_text).collect();
    let mut kept: HashMap<(usize, u64), Vec<usize>> = HashMap::new();
    let mut found = Vec::with_capacity(texts.len());
    for (index, (shingles, bands)) in signed.iter().enumerate() {
        let candidates: BTreeSet<usize> =
            bands.iter().enumerate().filter_map(|band| kept.get(&(band.0, *band.1))).flatten().copied().collect();
        let like = candidates.into_iter().find(|other| similarity(shingles, &signed[*other].0) >= threshold);
        if like.is_none() {
            bands.iter().enumerate().for_each(|(band, hash)| kept.entry((band, *hash)).or_default().push(index));
        }
        found.push(like);
    }
    found
}

/// The most hashes a band may have so that a pair at the threshold shares a band in 999 of 1000 cases.
fn rows_per_band(threshold: f64) -> usize {
    let shared = |rows: usize| 1.0 - (1.0 - threshold.powi(rows as i32)).powi((HASHES / rows) as i32);
    (1..=HASHES).rev().find(|rows| shared(*rows) >= 0.999).unwrap_or(1)
}

/// The distinct hashes of a text's shingles, sorted; a shorter text is one shingle.
fn shingles(text: &str) -> Vec<u64> {
    let characters: Vec<char> = text.chars().collect();
    let hash = |shingle: &[char]| shingle.iter().fold(0, |hash, c| keyed_hash(hash, u64::from(u32::from(*c))));
    let mut hashes: Vec<u64> = match characters.len() {
        0..SHINGLE => vec![hash(&characters)],
        _ => characters.windows(SHINGLE).map(hash).collect(),
    };
    hashes.sort_unstable();
    hashes.dedup();
    hashes
}

/// One hash for each band of a text's MinHash signature.
fn bands(shingles: &[u64], rows: usize) -> Vec<u64> {
    let least = |hash: u64| {
        let (factor, offset) = (keyed_hash(1, hash) | 1, keyed_hash(2, hash));
        shingles.iter().map(|shingle| shingle.wrapping_mul(factor).wrapping_add(offset)).min().unwrap_or(0)
    };
    let signature: Vec<u64> = (0..HASHES as u64).map(least).collect();
    signature.chunks_exact(rows).map(|band| band.iter().fold(0, |hash, least| keyed_hash(hash, *least))).collect()
}

/// Jaccard's similarity of two sorted sets.
fn similarity(a: &[u64], b: &[u64]) -> f64 {
    let shared = a.iter().filter(|shingle| b.binary_search(shingle).is_ok()).count();
    shared as f64 / (a.len() + b.len() - shared).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A text of pseudo-random words.
    fn text(seed: u64, words: u64) -> String {
        (0..words).map(|word| format!("{:05x} ", keyed_hash(seed, word) >> 44)).collect()
    }

    #[test]
    fn a_text_with_one_word_changed_is_found_and_others_are_not() {
        let mut texts: Vec<String> = (0..300).map(|seed| text(seed, 40)).collect();
        for seed in 0..300 {
            let near = text(seed, 40).replacen(&text(seed, 20)[60..65], "other", 1);
            texts.push(near);
        }
        let found = near_duplicates(&texts, 0.8);
        assert!(found[..300].iter().all(Option::is_none));
        let expected: Vec<Option<usize>> = (0..300).map(Some).collect();
        assert_eq!(found[300..], expected);
        assert!(near_duplicates(&texts, 1.0).iter().all(Option::is_none));
    }

    #[test]
    fn what_is_found_is_what_comparing_each_with_each_finds() {
        // Texts that share 5 to 45 of 50 words, on both sides of the threshold.
        let texts: Vec<String> = (0..200).map(|i| text(i % 5, 5 + i % 41) + &text(1000 + i, 45 - i % 41)).collect();
        for threshold in [0.3, 0.6] {
            let sets: Vec<Vec<u64>> = texts.iter().map(|text| shingles(text)).collect();
            let mut expected: Vec<Option<usize>> = Vec::new();
            for index in 0..texts.len() {
                let near =
                    |other: &usize| expected[*other].is_none() && similarity(&sets[index], &sets[*other]) >= threshold;
                let like = (0..index).find(near);
                expected.push(like);
            }
            let count = expected.iter().flatten().count();
            assert!(count > 5 && count < 190, "{count}");
            assert_eq!(near_duplicates(&texts, threshold), expected);
        }
    }

    #[test]
    fn short_and_empty_texts_are_like_themselves_alone() {
        assert_eq!(near_duplicates(&["", "ab", "", "ac", "ab", "好"], 0.5), [None, None, Some(0), None, Some(1), None]);
    }
}
