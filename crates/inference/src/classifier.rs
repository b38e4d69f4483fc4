//! Texts in, what a BERT thinks of them out.

use burn::tensor::{Device, Int, Tensor, TensorData};
use checkpoint::PretrainedBert;
use data::examples::{EncodedText, check_pairs, encode, fill};
use data::tagged::{EncodedWords, encode_words, words_of};
use data::{Error, Specials, TextCleaner};
use model::bert::{Bert, BertHead, Input, Problem};
use model::loss::probabilities;
use model::{Pass, in_thread_pool, weights};

/// A text, or a pair.
pub type Text = (String, Option<String>);

/// Rows that go through the model together at most.
const ROWS: usize = 32;

/// A BERT that answers about texts.
#[derive(Debug)]
pub struct Classifier {
    opened: PretrainedBert,
    cleaner: Option<TextCleaner>,
    device: Device,
}

/// How much a token speaks for the label that was predicted.
#[derive(Clone, Debug, PartialEq)]
pub struct Contribution {
    /// The token as the tokenizer writes it.
    pub token: String,
    /// The probability of the label, or the number, less what it is with `[MASK]` in the token's place.
    pub contribution: f64,
}

/// A word and what its tag may be.
#[derive(Clone, Debug, PartialEq)]
pub struct TaggedWord {
    /// The word as it stands in the text.
    pub word: String,
    /// Its first byte in the text.
    pub start: usize,
    /// Each tag's probability; none for a word that was cut off.
    pub probabilities: Option<Vec<f64>>,
}

/// A token that may stand at a `[MASK]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Guess {
    /// Its id.
    pub id: u32,
    /// As the tokenizer writes it.
    pub token: String,
    /// Its probability.
    pub probability: f64,
}

impl Classifier {
    /// A classifier or masked language model on its device.
    ///
    /// `cleaner` is what texts went through in training.
    pub fn new(opened: PretrainedBert, cleaner: Option<TextCleaner>, device: Device) -> Self {
        Self { opened, cleaner, device: device.inner() }
    }

    /// Texts as they were trained on.
    fn cleaned(&self, texts: &[Text]) -> Vec<Text> {
        let clean = |text: &String| self.cleaner.as_ref().map_or_else(|| text.clone(), |cleaner| cleaner.clean(text));
        texts.iter().map(|(text, pair)| (clean(text), pair.as_ref().map(clean))).collect()
    }

    /// What kind of answer it gives; none where it is no classifier of whole texts.
    pub fn problem(&self) -> Option<Problem> {
        match &self.opened.config.head {
            BertHead::SequenceClassification { problem, .. } => Some(*problem),
            _ => None,
        }
    }

    /// Whether it gives every word a tag.
    pub fn tags_words(&self) -> bool {
        matches!(self.opened.config.head, BertHead::TokenClassification { .. })
    }

    /// The words of a text with the probabilities of their tags.
    ///
    /// # Errors
    /// As [`Classifier::predict`].
    ///
    /// # Panics
    /// If the model tags no tokens.
    pub fn tag(&self, text: &str) -> Result<Vec<TaggedWord>, Error> {
        let words = words_of(text);
        let each: Vec<&str> = words.iter().map(|(_, word)| *word).collect();
        let EncodedWords { tokens, first_pieces, .. } =
            encode_words(&self.opened.tokenizer, &each, self.opened.config.max_seq_len)?;
        let row = EncodedText { second: tokens.len(), tokens, truncated: false };
        let logits = self.run(&[&row], |model, hidden, pass| {
            let logits = model.tag_logits(hidden, pass);
            let [batch, seq, labels] = logits.dims();
            logits.reshape([batch * seq, labels])
        });
        let width = self.labels().len();
        let tagged = |((start, word), first): (&(usize, &str), &Option<usize>)| TaggedWord {
            word: (*word).into(),
            start: *start,
            probabilities: first.map(|place| probabilities(&logits[place * width..][..width])),
        };
        Ok(words.iter().zip(&first_pieces).map(tagged).collect())
    }

    /// The labels, by id; none of a masked language model.
    pub fn labels(&self) -> &[String] {
        self.opened.config.head.labels()
    }

    /// Each text's probabilities, by label; of a regression its number.
    ///
    /// # Errors
    /// A text that the tokenizer cannot encode; a pair, of a model with one type of token.
    ///
    /// # Panics
    /// If the model is no classifier.
    pub fn predict(&self, texts: &[Text]) -> Result<Vec<Vec<f64>>, Error> {
        self.predict_cleaned(&self.cleaned(texts))
    }

    /// The same for texts that are cleaned already: cleaning them again may change them.
    ///
    /// # Errors
    /// As [`Classifier::predict`].
    ///
    /// # Panics
    /// As [`Classifier::predict`].
    pub fn predict_cleaned(&self, texts: &[Text]) -> Result<Vec<Vec<f64>>, Error> {
        Ok(self.of_encoded(&self.encoded(texts)?))
    }

    fn encoded(&self, texts: &[Text]) -> Result<Vec<EncodedText>, Error> {
        let PretrainedBert { tokenizer, config, .. } = &self.opened;
        if texts.iter().any(|(_, pair)| pair.is_some()) {
            check_pairs(config.type_vocab_size)?;
        }
        encode(tokenizer, texts, config.max_seq_len)
    }

    /// Tokens of a text at most.
    pub fn max_seq_len(&self) -> usize {
        self.opened.config.max_seq_len
    }

    /// What texts go through before the model reads them.
    pub fn cleaner(&self) -> Option<&TextCleaner> {
        self.cleaner.as_ref()
    }

    /// Rows of like length go together; the answers come in the order of the texts.
    fn of_encoded(&self, encoded: &[EncodedText]) -> Vec<Vec<f64>> {
        let mut order: Vec<usize> = (0..encoded.len()).collect();
        order.sort_by_key(|i| encoded[*i].tokens.len());
        let mut found = vec![Vec::new(); encoded.len()];
        for rows in order.chunks(ROWS) {
            let texts: Vec<&EncodedText> = rows.iter().map(|row| &encoded[*row]).collect();
            let logits = self.run(&texts, |model, hidden, pass| model.class_logits(hidden, None, pass));
            let width = logits.len() / rows.len();
            for (row, logits) in rows.iter().zip(logits.chunks_exact(width)) {
                found[*row] = match self.problem() {
                    Some(Problem::MultiLabel { .. }) => {
                        logits.iter().map(|logit| 1.0 / (1.0 + f64::from(-logit).exp())).collect()
                    }
                    Some(Problem::Regression) => logits.iter().map(|value| f64::from(*value)).collect(),
                    _ => probabilities(logits),
                };
            }
        }
        found
    }

    /// What `head` makes of the hidden states of some rows, row by row.
    fn run(&self, texts: &[&EncodedText], head: impl Fn(&Bert, Tensor<3>, &Pass) -> Tensor<2> + Sync) -> Vec<f32> {
        let batch = fill(texts, self.specials().pad);
        in_thread_pool(&self.device, || {
            let pass = Pass { segments: Pass::segments(batch.shape, &batch.segments, &self.device), ..Pass::default() };
            let input =
                Input::new(batch.shape, &batch.tokens, &batch.positions, batch.token_types.as_deref(), &self.device);
            let model = &self.opened.model;
            let logits = head(model, model.hidden(input, &pass), &pass);
            let len = logits.shape().num_elements();
            weights::to_host(logits.reshape([len]))
        })
    }

    fn specials(&self) -> Specials {
        self.opened.tokenizer.specials().expect("encoding has asked for them")
    }

    /// How much each token of a text speaks for `label`: occlusion, one pass for each token.
    ///
    /// Source: Zeiler and Fergus 2014, section 4.2, on tokens.
    ///
    /// # Errors
    /// As [`Classifier::predict`].
    pub fn explain(&self, text: &Text, label: usize) -> Result<Vec<Contribution>, Error> {
        let tokenizer = &self.opened.tokenizer;
        let whole = self.encoded(&self.cleaned(std::slice::from_ref(text)))?.remove(0);
        let Specials { cls, sep, mask, .. } = self.specials();
        let places: Vec<usize> =
            (0..whole.tokens.len()).filter(|place| ![cls, sep].contains(&whole.tokens[*place])).collect();
        let mut rows = vec![whole.clone()];
        rows.extend(places.iter().map(|place| {
            let mut row = whole.clone();
            row.tokens[*place] = mask;
            row
        }));
        let probabilities = self.of_encoded(&rows);
        let contribution = |(place, without): (&usize, &Vec<f64>)| Contribution {
            token: tokenizer.token(whole.tokens[*place]).unwrap_or_default(),
            contribution: probabilities[0][label] - without[label],
        };
        Ok(places.iter().zip(&probabilities[1..]).map(contribution).collect())
    }

    /// The likeliest tokens at each `[MASK]` of a text, with the mask's place among the row's tokens; none where the text
    /// has no mask, or it is cut off with the text's end.
    ///
    /// # Errors
    /// As [`Classifier::predict`].
    ///
    /// # Panics
    /// If the model predicts no tokens.
    pub fn fill_mask(&self, text: &str, top: usize) -> Result<Vec<(usize, Vec<Guess>)>, Error> {
        let tokenizer = &self.opened.tokenizer;
        let specials = data::examples::specials(tokenizer)?;
        let mut tokens = vec![specials.cls];
        for (index, part) in text.split("[MASK]").enumerate() {
            if index > 0 {
                tokens.push(specials.mask);
            }
            tokens.extend(tokenizer.encode(part)?);
        }
        tokens.truncate(self.opened.config.max_seq_len - 1);
        tokens.push(specials.sep);
        let places: Vec<usize> = (0..tokens.len()).filter(|place| tokens[*place] == specials.mask).collect();
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let at: Vec<i32> = places.iter().map(|place| *place as i32).collect();
        let row = EncodedText { second: tokens.len(), tokens, truncated: false };
        let logits = self.run(&[&row], |model, hidden, pass| {
            let chosen = Tensor::<1, Int>::from_data(TensorData::new(at.clone(), [at.len()]), &self.device);
            model.token_logits(hidden, chosen, pass)
        });
        let width = logits.len() / places.len();
        let guesses = |logits: &[f32]| {
            // Rows of the embedding that no token has are no guesses.
            let known = &logits[..tokenizer.vocab_size().min(width)];
            let probabilities = probabilities(known);
            let mut order: Vec<usize> = (0..known.len()).collect();
            order.sort_by(|a, b| probabilities[*b].total_cmp(&probabilities[*a]));
            let guess = |id: &usize| Guess {
                id: *id as u32,
                token: tokenizer.token(*id as u32).unwrap_or_default(),
                probability: probabilities[*id],
            };
            order.iter().take(top).map(guess).collect()
        };
        Ok(places.into_iter().zip(logits.chunks_exact(width).map(guesses)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data::config::{BertTokenizerConfig, TokenLevel};
    use data::{Tokenizer, TokenizerConfig};
    use model::{BertConfig, LoadReport};

    fn classifier(type_vocab_size: usize) -> Classifier {
        let config = BertTokenizerConfig { vocab_size: 20, min_frequency: 1, lowercase: true, level: TokenLevel::Char };
        let tokenizer = Tokenizer::train(&TokenizerConfig::Bert(config), &["abc".into()], false).expect("a text");
        let labels = vec!["no".into(), "yes".into()];
        let config = BertConfig {
            n_layer: 1,
            n_head: 1,
            d_model: 8,
            d_ff: 8,
            max_seq_len: 8,
            vocab_size: tokenizer.vocab_size(),
            type_vocab_size,
            head: BertHead::SequenceClassification { labels, problem: Problem::SingleLabel },
            ..BertConfig::default()
        };
        let model = Bert::new(&config, 1, &Device::flex());
        let opened = PretrainedBert { model, config, tokenizer, report: LoadReport::default() };
        Classifier::new(opened, None, Device::flex())
    }

    #[test]
    fn a_pair_needs_two_types_of_token() {
        let (alone, pairs) = ([("a".to_string(), None)], [("a".to_string(), Some("b".to_string()))]);
        let one_type = classifier(1);
        assert!(one_type.predict(&alone).is_ok());
        for error in [one_type.predict(&pairs).err(), one_type.explain(&pairs[0], 0).err()] {
            let error = error.expect("refused").to_string();
            assert!(error.contains("type_vocab_size`: 1 leaves no token type"), "{error}");
        }
        assert!(classifier(2).predict(&pairs).is_ok());
    }
}
