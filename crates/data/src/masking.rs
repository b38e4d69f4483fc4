//! Masked language modelling: which tokens are to be guessed, and what stands in their place.

use crate::batch::{Batch, RowId, Target};
use crate::collate::padded;
use crate::config::MaskedLmConfig;
use crate::error::Error;
use crate::permutation::{keyed_hash, unit};
use crate::tokenizer::{Specials, Tokenizer};

/// The epoch that evaluations take their masks from: always the same.
pub(crate) const EVALUATION: u64 = u64::MAX;

/// How tokens are masked; the same for the same seed, epoch and row.
#[derive(Clone, Debug)]
pub struct Masking {
    config: MaskedLmConfig,
    specials: Specials,
    /// Ids that may stand in for others: all but the special ones.
    replacements: Vec<u32>,
    /// Of each id, whether it is special to the tokenizer, `[UNK]` included: never chosen.
    special: Vec<bool>,
    /// Of each id, whether it continues the word before it.
    continues: Vec<bool>,
    seed: u64,
}

impl Masking {
    /// Masks for a tokenizer's ids.
    ///
    /// # Errors
    /// A tokenizer without an encoder's special tokens.
    pub fn new(config: &MaskedLmConfig, tokenizer: &Tokenizer, seed: u64) -> Result<Self, Error> {
        let specials = crate::examples::specials(tokenizer)?;
        let ids = 0..tokenizer.vocab_size() as u32;
        let special: Vec<bool> = ids.clone().map(|id| tokenizer.is_special(id)).collect();
        Ok(Self {
            config: config.clone(),
            specials,
            replacements: ids.clone().filter(|id| !special[*id as usize]).collect(),
            special,
            continues: ids.map(|id| tokenizer.continues_word(id)).collect(),
            seed,
        })
    }

    /// Tokens of a row beside its two special ones.
    pub(crate) const AROUND: usize = 2;

    /// `[CLS] text [SEP]`.
    pub(crate) fn between_specials(&self, text: &[u32]) -> Vec<u32> {
        [&[self.specials.cls], text, &[self.specials.sep]].concat()
    }

    /// What fills rows up.
    pub(crate) fn pad(&self) -> u32 {
        self.specials.pad
    }

    /// `[CLS] text [SEP]` for each text, masked.
    pub(crate) fn batch(&self, texts: &[&[u32]], ids: Vec<RowId>) -> Batch {
        let rows: Vec<Vec<u32>> = texts.iter().map(|text| self.between_specials(text)).collect();
        let mut batch =
            padded(&rows.iter().map(|row| (&row[..], row.len())).collect::<Vec<_>>(), self.specials.pad, ids);
        self.hide(&mut batch, rows.iter().map(Vec::len));
        batch
    }

    /// Makes guessing the tokens of rows of these lengths, which a special token begins and ends, the term of a batch.
    pub(crate) fn hide(&self, batch: &mut Batch, lengths: impl Iterator<Item = usize>) {
        let width = batch.shape[1];
        batch.targets = vec![Target::Tokens(batch.tokens.clone())];
        batch.weights = vec![vec![0.0; batch.tokens.len()]];
        for ((row, length), id) in lengths.enumerate().zip(batch.rows.clone()) {
            let inner = row * width + 1..row * width + length - 1;
            self.mask(&mut batch.tokens[inner.clone()], &mut batch.weights[0][inner], id);
        }
    }

    /// Chooses, in whole words or token by token, and replaces 80% of the chosen by `[MASK]`, 10% by a random token.
    fn mask(&self, tokens: &mut [u32], weights: &mut [f32], id: RowId) {
        let key = keyed_hash(keyed_hash(self.seed, id.epoch), id.row);
        // A number from 0 to below 1 for each place and purpose.
        let draw = |place: usize, purpose: u64| unit(keyed_hash(keyed_hash(key, purpose), place as u64));
        let mut word = 0;
        for place in 0..tokens.len() {
            let continues = self.continues.get(tokens[place] as usize).copied().unwrap_or(false);
            if !(self.config.whole_word && continues && place > 0) {
                word = place;
            }
            let special = self.special.get(tokens[place] as usize).copied().unwrap_or(true);
            if !special && draw(word, 0) < self.config.probability {
                weights[place] = 1.0;
            }
        }
        for place in (0..tokens.len()).filter(|place| weights[*place] > 0.0) {
            match draw(place, 1) {
                kind if kind < 0.8 => tokens[place] = self.specials.mask,
                kind if kind < 0.9 && !self.replacements.is_empty() => {
                    let index = (draw(place, 2) * self.replacements.len() as f64) as usize;
                    tokens[place] = self.replacements[index.min(self.replacements.len() - 1)];
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BertTokenizerConfig, TokenLevel, TokenizerConfig};

    fn masking(whole_word: bool) -> (Masking, Tokenizer) {
        let config =
            BertTokenizerConfig { vocab_size: 200, min_frequency: 1, lowercase: true, level: TokenLevel::Wordpiece };
        let text: String = (0..400).map(|i| format!("w{} ", i * i % 997)).collect();
        let tokenizer = Tokenizer::train(&TokenizerConfig::Bert(config), &[text], false).unwrap();
        (Masking::new(&MaskedLmConfig { whole_word, ..Default::default() }, &tokenizer, 11).unwrap(), tokenizer)
    }

    #[test]
    fn fifteen_percent_are_chosen_and_of_them_80_10_10_masked_random_and_kept() {
        let (masking, tokenizer) = masking(false);
        let text: Vec<u32> = (0..500).map(|i| 5 + i * 7 % (tokenizer.vocab_size() as u32 - 5)).collect();
        let [mut chosen, mut masked, mut kept, mut total] = [0f64; 4];
        for row in 0..2000 {
            let length = 500 - row % 7;
            let texts = [&text[..length], &text[..400]];
            let ids = [0, 1].map(|i| RowId { epoch: 3, row: 2 * row as u64 + i });
            let batch = masking.batch(&texts, ids.to_vec());
            let Target::Tokens(targets) = &batch.targets[0] else { unreachable!() };
            for (i, target) in targets.iter().enumerate() {
                let real = batch.segments[i] == 1 && ![2, 3].contains(target);
                let is_chosen = batch.weights[0][i] > 0.0;
                assert!(real || !is_chosen, "a special or padding token was chosen");
                assert!(is_chosen || batch.tokens[i] == *target);
                total += f64::from(real);
                chosen += f64::from(is_chosen);
                masked += f64::from(is_chosen && batch.tokens[i] == 4);
                kept += f64::from(is_chosen && batch.tokens[i] == *target);
            }
        }
        assert!(total > 1e6);
        assert!((chosen / total - 0.15).abs() < 0.0015, "{}", chosen / total);
        assert!((masked / chosen - 0.8).abs() < 0.008, "{}", masked / chosen);
        // A random token is the same one now and then.
        assert!((kept / chosen - 0.1).abs() < 0.002, "{}", kept / chosen);
    }

    #[test]
    fn masks_are_a_function_of_epoch_and_row() {
        let (masking, _) = masking(false);
        let text: Vec<u32> = (0..60).map(|i| 5 + i).collect();
        let of = |epoch, row| masking.batch(&[&text], vec![RowId { epoch, row }]).tokens;
        assert_eq!(of(1, 2), of(1, 2));
        assert_ne!(of(1, 2), of(2, 2));
        assert_ne!(of(1, 2), of(1, 3));
    }

    #[test]
    fn unknown_tokens_are_never_chosen() {
        let (masking, _) = masking(false);
        let batch = masking.batch(&[&[1; 400]], vec![RowId { epoch: 0, row: 0 }]);
        assert!(batch.weights[0].iter().all(|weight| *weight == 0.0));
    }

    #[test]
    fn special_tokens_are_known_by_the_tokenizer_and_not_by_their_spelling() {
        // Two special tokens are spelled as words, and a word is spelled as a special token.
        let words = "<pad>\n[UNK]\n<s>\n</s>\n<mask>\n[PAD]\n[CLS]\n[SEP]\n[MASK]\n[word]\nthe\nfox";
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        write("vocab.txt", words);
        let plain = Tokenizer::from_file(&directory.path().join("vocab.txt")).unwrap();
        assert_eq!([plain.is_special(3), plain.is_special(7), plain.is_special(9)], [false, true, false]);
        write("tokenizer.json", plain.to_json());
        let names = r#"{"pad_token": "<pad>", "cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}"#;
        write("tokenizer_config.json", names);
        let tokenizer = Tokenizer::from_file(directory.path()).unwrap();
        let config = MaskedLmConfig { probability: 1.0, ..Default::default() };
        let masking = Masking::new(&config, &tokenizer, 11).unwrap();
        let mut replaced = std::collections::BTreeSet::new();
        for row in 0..2000 {
            let batch = masking.batch(&[&[9, 0, 1, 2, 3, 4, 10, 11]], vec![RowId { epoch: 0, row }]);
            assert_eq!(batch.weights[0], [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0]);
            replaced.insert(batch.tokens[7]);
        }
        assert_eq!(replaced.into_iter().collect::<Vec<_>>(), [4, 9, 10, 11]);
    }

    #[test]
    fn a_context_without_room_for_a_token_is_no_short_text() {
        let stream = crate::TokenStream::new(&[(5..105).collect()], None);
        let error = crate::Batches::masked(stream, masking(false).0, 2, 0).unwrap_err().to_string();
        assert!(error.contains("`model.bert.max_seq_len`: 2 tokens are too few"), "{error}");
    }

    #[test]
    fn documents_are_parted_by_sep_which_is_never_chosen() {
        let (_, tokenizer) = masking(false);
        let stream = crate::TokenStream::separated(&tokenizer, &["w1 w4".into(), String::new(), "w9".into()]).unwrap();
        let parts: Vec<&[u32]> = stream.tokens().split(|token| *token == 3).collect();
        assert_eq!(parts, [tokenizer.encode("w1 w4").unwrap(), tokenizer.encode("w9").unwrap()]);
        let masking = Masking { config: MaskedLmConfig { probability: 1.0, ..Default::default() }, ..masking(false).0 };
        let batch = masking.batch(&[stream.tokens()], vec![RowId { epoch: 0, row: 0 }]);
        let sep = 1 + stream.tokens().iter().position(|token| *token == 3).unwrap();
        assert_eq!((batch.tokens[sep], batch.weights[0][sep]), (3, 0.0));
        assert!(batch.weights[0][sep - 1] == 1.0 && batch.weights[0][sep + 1] == 1.0);
    }

    #[test]
    fn whole_words_are_chosen_together() {
        let (masking, tokenizer) = masking(true);
        let text = tokenizer.encode(&(0..200).map(|i| format!("w{} ", i * 37 % 991)).collect::<String>()).unwrap();
        let mut words = 0;
        for row in 0..40 {
            let batch = masking.batch(&[&text], vec![RowId { epoch: 0, row }]);
            for (i, id) in text.iter().enumerate().skip(1) {
                if tokenizer.continues_word(*id) {
                    words += 1;
                    assert_eq!(batch.weights[0][i + 1], batch.weights[0][i]);
                }
            }
        }
        assert!(words > 100);
    }
}
