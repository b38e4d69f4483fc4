//! Texts cut at random by a Unigram tokenizer, so that no epoch shows the same tokens.

use std::collections::HashMap;

use serde_json::Value;
use tokenizers::tokenizer::{
    NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
};

use super::Tokenizer;
use crate::batch::RowId;
use crate::config::SubwordsConfig;
use crate::error::Error;
use crate::permutation::{keyed_hash, unit};

/// How much less likely than any token a character is that is none, as the library counts it.
const UNKNOWN_PENALTY: f64 = 10.0;

/// Draws one of the ways to write a text in tokens, each with its probability under the tokenizer's Unigram model to a
/// power; the same for the same seed, epoch and row.
///
/// Source: Kudo 2018, "Subword Regularization", section 3.2, over all ways (`l` infinite).
#[derive(Clone, Debug)]
pub struct SubwordSampler {
    tokenizer: Tokenizer,
    /// Of each token its id and its log probability, times the power.
    pieces: HashMap<String, (u32, f64)>,
    /// The longest token, in bytes.
    longest: usize,
    /// The same of a character that is no token.
    unknown: (u32, f64),
    seed: u64,
}

/// Tells draws of tokens from those of words, which have the same seed.
const SUBWORDS: u64 = 0x5375_6277;

impl SubwordSampler {
    /// # Errors
    /// A tokenizer of another kind, whose tokens have no probabilities; a power that is not above 0.
    pub fn new(config: &SubwordsConfig, tokenizer: &Tokenizer, seed: u64) -> Result<Self, Error> {
        let SubwordsConfig { alpha } = *config;
        if !(alpha > 0.0 && alpha.is_finite()) {
            return Err(Error::config("augment.subwords.alpha", format!("{alpha} is not above 0"), "0.2 is usual"));
        }
        let failed = || {
            let message = "the tokenizer is none of Unigram, whose tokens have probabilities";
            let hint = "train one with `level = \"unigram\"` in [tokenizer.bert], or leave [augment.subwords] out";
            Error::config("augment.subwords", message, hint)
        };
        let json: Value = serde_json::from_str(&tokenizer.json).map_err(|_| failed())?;
        let model = &json["model"];
        let scores = model["vocab"].as_array().filter(|_| model["type"] == "Unigram").ok_or_else(failed)?;
        let scores = scores.iter().map(|piece| Some((piece[0].as_str()?, piece[1].as_f64()?)));
        let scores: Vec<(&str, f64)> = scores.collect::<Option<_>>().ok_or_else(failed)?;
        let lowest = scores.iter().map(|(_, score)| *score).fold(0.0, f64::min);
        let unknown = model["unk_id"].as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(failed)?;
        let pieces: HashMap<String, (u32, f64)> = (0..)
            .zip(&scores)
            .filter(|(id, _)| !tokenizer.is_special(*id))
            .map(|(id, (piece, score))| ((*piece).to_owned(), (id, alpha * score)))
            .collect();
        Ok(Self {
            longest: pieces.keys().map(String::len).max().unwrap_or(0),
            pieces,
            unknown: (unknown, alpha * (lowest - UNKNOWN_PENALTY)),
            tokenizer: tokenizer.clone(),
            seed: keyed_hash(seed, SUBWORDS),
        })
    }

    /// The ids of a text as `row` shows it in its epoch; nothing is added at its ends. `part` tells the texts of a row
    /// apart.
    ///
    /// # Errors
    /// The tokenizer's normalizer or its cut in words fails.
    pub fn encode(&self, text: &str, row: RowId, part: u64) -> Result<Vec<u32>, Error> {
        let key = keyed_hash(keyed_hash(keyed_hash(self.seed, row.epoch), row.row), part);
        let failed = |error: tokenizers::Error| Error::Tokenizer { action: "encode", message: error.to_string() };
        let mut normalized = NormalizedString::from(text);
        if let Some(normalizer) = self.tokenizer.inner.get_normalizer() {
            normalizer.normalize(&mut normalized).map_err(failed)?;
        }
        let mut words = PreTokenizedString::from(normalized);
        if let Some(cut) = self.tokenizer.inner.get_pre_tokenizer() {
            cut.pre_tokenize(&mut words).map_err(failed)?;
        }
        let mut ids = Vec::new();
        for (place, (word, ..)) in words.get_splits(OffsetReferential::Normalized, OffsetType::Byte).iter().enumerate()
        {
            self.cut(word, keyed_hash(key, place as u64), &mut ids);
        }
        Ok(ids)
    }

    /// Of how many texts, each of which is a row, the first epoch has other tokens than these plain ones.
    ///
    /// # Errors
    /// As [`SubwordSampler::encode`].
    pub fn recut(&self, texts: &[String], plain: &[Vec<u32>]) -> Result<usize, Error> {
        use rayon::prelude::*;
        let recut = |(row, (text, plain)): (usize, (&String, &Vec<u32>))| -> Result<usize, Error> {
            let tokens = self.encode(text, RowId { epoch: 0, row: row as u64 }, 0)?;
            Ok(usize::from(tokens != *plain))
        };
        texts.par_iter().zip(plain).enumerate().map(recut).sum()
    }

    /// Adds the ids of a word.
    fn cut(&self, word: &str, key: u64, ids: &mut Vec<u32>) {
        // Of every place between two characters, the sum over all ways to it and, of each last token, where it starts.
        let mut sums = vec![f64::NEG_INFINITY; word.len() + 1];
        let mut last: Vec<Vec<(usize, u32, f64)>> = vec![Vec::new(); word.len() + 1];
        sums[0] = 0.0;
        for (start, character) in word.char_indices() {
            let ends = word[start..].char_indices().map(|(at, character)| at + character.len_utf8());
            for end in ends.take_while(|end| *end <= self.longest.max(character.len_utf8())) {
                let found = self.pieces.get(&word[start..start + end]).copied();
                // A character is a token, or unknown: there is always a way.
                let Some((id, score)) = found.or((end == character.len_utf8()).then_some(self.unknown)) else {
                    continue;
                };
                last[start + end].push((start, id, sums[start] + score));
            }
            let end = start + character.len_utf8();
            sums[end] = log_sum(last[end].iter().map(|(_, _, score)| *score));
        }
        let first = ids.len();
        let mut end = word.len();
        while end > 0 {
            let mut left = unit(keyed_hash(key, end as u64));
            let ways = &last[end];
            let chosen = ways.iter().find(|(_, _, score)| {
                left -= (score - sums[end]).exp();
                left < 0.0
            });
            // Rounding may leave a little.
            let (start, id, _) = *chosen.unwrap_or(&ways[ways.len() - 1]);
            // Unknown characters side by side are one token, as the library has it.
            if !(id == self.unknown.0 && ids.len() > first && ids.last() == Some(&id)) {
                ids.push(id);
            }
            end = start;
        }
        ids[first..].reverse();
    }
}

/// The logarithm of the sum of what these are logarithms of.
fn log_sum(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let most = values.clone().fold(f64::NEG_INFINITY, f64::max);
    most + values.map(|value| (value - most).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BertTokenizerConfig, TokenLevel, TokenizerConfig};
    use std::collections::{BTreeMap, BTreeSet};

    fn tokenizer(level: TokenLevel) -> Tokenizer {
        let reviews = ["很好吃，下次还来", "不好吃", "好吃！", "味道很好吃", "还好吃 THE 好吃", "的好吃"];
        let config = BertTokenizerConfig { vocab_size: 23, min_frequency: 1, lowercase: true, level };
        Tokenizer::train(&TokenizerConfig::Bert(config), &reviews.map(String::from), false).unwrap()
    }

    fn sampler(alpha: f64) -> SubwordSampler {
        SubwordSampler::new(&SubwordsConfig { alpha }, &tokenizer(TokenLevel::Unigram), 5).unwrap()
    }

    fn shown(sampler: &SubwordSampler, text: &str, key: u64) -> Vec<String> {
        let ids = sampler.encode(text, RowId { epoch: 1, row: key }, 0).unwrap();
        ids.into_iter().map(|id| sampler.tokenizer.token(id).unwrap()).collect()
    }

    #[test]
    fn every_way_to_cut_a_word_comes_as_often_as_its_probability_to_the_power_says() {
        for alpha in [0.3, 1.0] {
            let sampler = sampler(alpha);
            let score = |token: &str| sampler.pieces[token].1;
            let ways = [vec!["很", "好吃"], vec!["很", "好", "吃"]];
            let weights = ways.each_ref().map(|way| way.iter().map(|token| score(token)).sum::<f64>().exp());
            assert!(!sampler.pieces.contains_key("很好吃") && !sampler.pieces.contains_key("很好"));
            let mut counts: BTreeMap<Vec<String>, u32> = BTreeMap::new();
            let draws = 20_000;
            for key in 0..draws {
                *counts.entry(shown(&sampler, "很好吃", key)).or_default() += 1;
            }
            for (way, weight) in ways.iter().zip(weights) {
                let expected = weight / weights.iter().sum::<f64>();
                let way: Vec<String> = way.iter().map(ToString::to_string).collect();
                let measured = f64::from(counts[&way]) / draws as f64;
                assert!((measured - expected).abs() < 0.015, "{way:?}: {measured} for {expected}");
            }
            assert_eq!(counts.len(), ways.len());
        }
    }

    #[test]
    fn a_sharp_power_gives_the_tokenizers_own_cut_and_the_same_key_the_same() {
        let sharp = sampler(200.0);
        let plain = tokenizer(TokenLevel::Unigram);
        for text in ["的好吃，很好吃！", "好Thé道", "好吃zz很z", "", "  ", "zz", "a\u{0}b"] {
            assert_eq!(
                sharp.encode(text, RowId { epoch: 0, row: 7 }, 0).unwrap(),
                plain.encode(text).unwrap(),
                "{text}"
            );
        }
        let flat = sampler(0.1);
        let text = "很好吃，味道很好吃，还好吃";
        let cut = |epoch, row, part| flat.encode(text, RowId { epoch, row }, part).unwrap();
        let cuts: BTreeSet<_> = (0..50).map(|row| cut(0, row, 0)).collect();
        assert!(cuts.len() > 3 && cut(1, 3, 0) == cut(1, 3, 0));
        for others in [
            (0..9).map(|epoch| cut(epoch, 3, 0)).collect::<BTreeSet<_>>(),
            (0..9).map(|part| cut(0, 3, part)).collect(),
        ] {
            assert!(others.len() > 1);
        }
        assert!(cuts.iter().all(|ids| plain.decode(ids).unwrap() == text));
        let texts = vec![text.to_owned(); 50];
        let ids = plain.encode_all(&texts).unwrap();
        assert_eq!(sharp.recut(&texts, &ids).unwrap(), 0);
        let recut = (0..50).filter(|row| cut(0, *row, 0) != ids[0]).count();
        assert!(recut > 0 && flat.recut(&texts, &ids).unwrap() == recut, "{recut}");
    }

    #[test]
    fn a_tokenizer_without_probabilities_and_a_bad_power_are_refused_by_name() {
        let of = |alpha, level| {
            SubwordSampler::new(&SubwordsConfig { alpha }, &tokenizer(level), 5).unwrap_err().to_string()
        };
        assert!(of(0.2, TokenLevel::Char).contains("`augment.subwords`"));
        for alpha in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(of(alpha, TokenLevel::Unigram).contains("`augment.subwords.alpha`"));
        }
    }
}
