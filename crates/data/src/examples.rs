//! Labelled examples as tokens, and the order in which an epoch takes them.

use std::sync::Arc;

use crate::augment::Augmenter;
use crate::batch::{Batch, RowId, Target};
use crate::collate::padded;
use crate::config::{ProblemConfig, TruncationConfig};
use crate::error::Error;
use crate::length_order::LengthOrder;
use crate::source::labelled::{Answer, Example, answer};
use crate::tokenizer::{Specials, SubwordSampler, Tokenizer};

mod augmentation;

use augmentation::{Augmentation, RowChanges};

/// The least context of a classifier: a pair, one token each, between its special tokens.
pub const MIN_SEQ_LEN: usize = 5;

/// An example as a model reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodedExample {
    /// `[CLS] text [SEP]`, or `[CLS] text [SEP] pair [SEP]`.
    pub tokens: Vec<u32>,
    /// Where the second text begins; the number of tokens where there is none.
    pub second: usize,
    /// What is to be learned.
    pub answer: Answer,
    /// How much it counts.
    pub weight: f32,
}

/// Encoded examples; cheap to clone.
#[derive(Clone, Debug)]
pub struct Examples {
    examples: Arc<[EncodedExample]>,
    problem: ProblemConfig,
    labels: usize,
    pad: u32,
    order: LengthOrder,
    /// Texts that were cut to fit.
    truncated: usize,
    max_seq_len: usize,
    augmentation: Option<Arc<Augmentation>>,
}

impl Examples {
    /// Encodes examples for a context of `max_seq_len` tokens; of longer ones it is cut what the tokenizer says.
    ///
    /// `labels` are numbered by their places; `weights` says how much an example of each counts where every example has
    /// exactly one, and is 1 for all where it is empty.
    ///
    /// # Errors
    /// A tokenizer without `[CLS]`, `[SEP]`, `[PAD]`; a label that is not among `labels`; a context too short for one
    /// token.
    pub fn new(
        tokenizer: &Tokenizer,
        examples: &[Example],
        problem: ProblemConfig,
        labels: &[String],
        weights: &[f32],
        max_seq_len: usize,
        seed: u64,
    ) -> Result<Self, Error> {
        let answers = examples.iter().map(|example| answer(problem, labels, example)).collect::<Result<Vec<_>, _>>()?;
        let weight = |answer: &Answer| match answer {
            Answer::Class(id) => weights.get(*id as usize).copied().unwrap_or(1.0),
            Answer::Labels(_) | Answer::Value(_) => 1.0,
        };
        let texts = |example: &Example| (example.text.clone(), example.pair.clone());
        let rows = encode(tokenizer, &examples.iter().map(texts).collect::<Vec<_>>(), max_seq_len)?;
        let truncated = rows.iter().filter(|row| row.truncated).count();
        let encoded = rows.into_iter().zip(answers).map(|(row, answer)| EncodedExample {
            tokens: row.tokens,
            second: row.second,
            weight: weight(&answer),
            answer,
        });
        let examples: Arc<[EncodedExample]> = encoded.collect();
        let order = LengthOrder::new(examples.iter().map(|example| example.tokens.len()), seed);
        Ok(Self {
            examples,
            problem,
            labels: labels.len(),
            pad: specials(tokenizer)?.pad,
            order,
            truncated,
            max_seq_len,
            augmentation: None,
        })
    }

    /// The same, with words changed at random whenever a row is trained on, and their tokens. Lengths and order stay
    /// those of the plain texts.
    ///
    /// # Panics
    /// If `examples` are not as many as it was made from.
    pub fn augmented(
        self,
        augmenter: Option<Augmenter>,
        sampler: Option<SubwordSampler>,
        tokenizer: &Tokenizer,
        examples: &[Example],
    ) -> Self {
        assert_eq!(examples.len(), self.examples.len(), "augmented with other examples");
        let texts = examples.iter().map(|example| (example.text.clone(), example.pair.clone())).collect();
        let augmentation = Augmentation { augmenter, sampler, tokenizer: tokenizer.clone(), texts };
        Self { augmentation: Some(Arc::new(augmentation)), ..self }
    }

    /// What augmentation does in the first epoch, for a note.
    pub fn augmentation_note(&self) -> Option<String> {
        use rayon::prelude::*;
        let augmentation = self.augmentation.as_ref()?;
        let rows = self.len();
        let ids = (0..rows as u64).into_par_iter().map(|row| RowId { epoch: 0, row });
        let all = ids.map(|id| augmentation.changes(id)).reduce(RowChanges::default, std::ops::Add::add);
        let words = augmentation
            .augmenter
            .as_ref()
            .map(|augmenter| format!("{}, in {} of {rows} rows", augmenter.described(all.words), all.changed));
        let tokens = augmentation.sampler.as_ref().map(|_| format!("{} of {rows} rows cut in other tokens", all.recut));
        let done: Vec<String> = words.into_iter().chain(tokens).collect();
        Some(format!("augment: in the first epoch {}", done.join("; ")))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.examples.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.examples.is_empty()
    }

    /// All tokens together.
    pub fn tokens(&self) -> usize {
        self.order.tokens()
    }

    /// The longest example, in tokens.
    pub fn longest(&self) -> usize {
        self.order.longest()
    }

    /// Examples that did not fit whole.
    pub fn truncated(&self) -> usize {
        self.truncated
    }

    /// The share of padding in batches of `rows` rows over the first epoch.
    pub fn padding_share(&self, rows: usize) -> f64 {
        self.order.padding_share(rows)
    }

    /// The rows behind the first `position` rows of a run.
    pub(crate) fn at(&self, position: u64, rows: usize) -> Batch {
        let ids = self.order.rows(position, rows);
        match &self.augmentation {
            None => self.batch(ids),
            Some(augmentation) => {
                let changed = self.augment(augmentation, &ids);
                let rows: Vec<(&[u32], usize)> = changed.iter().map(|row| (&row.tokens[..], row.second)).collect();
                self.labelled(&rows, ids)
            }
        }
    }

    /// The rows with their words changed.
    fn augment(&self, augmentation: &Augmentation, ids: &[RowId]) -> Vec<EncodedText> {
        use rayon::prelude::*;
        let tokens = |text: &str, id: RowId, part: u64| {
            let (shown, _) = augmentation.shown(text, id, part);
            augmentation.encode(&shown, id, part)
        };
        let changed = |id: &RowId| {
            let (text, pair) = &augmentation.texts[id.row as usize];
            let encoded = || {
                let second = pair.as_ref().map(|pair| tokens(pair, *id, 1)).transpose()?;
                in_row(&augmentation.tokenizer, tokens(text, *id, 0)?, second, self.max_seq_len)
            };
            // A synonym may have a character that the tokenizer does not know: then the row stays as it is.
            encoded().unwrap_or_else(|_| {
                let EncodedExample { tokens, second, .. } = &self.examples[id.row as usize];
                EncodedText { tokens: tokens.clone(), second: *second, truncated: false }
            })
        };
        ids.par_iter().map(changed).collect()
    }

    /// These examples as they are, padded to the longest of them.
    pub(crate) fn batch(&self, ids: Vec<RowId>) -> Batch {
        let plain = |id: &RowId| (&self.examples[id.row as usize].tokens[..], self.examples[id.row as usize].second);
        let rows: Vec<(&[u32], usize)> = ids.iter().map(plain).collect();
        self.labelled(&rows, ids)
    }

    /// Rows of tokens with their second texts' places, and the labels of the examples that they are of.
    fn labelled(&self, rows: &[(&[u32], usize)], ids: Vec<RowId>) -> Batch {
        let examples: Vec<&EncodedExample> = ids.iter().map(|id| &self.examples[id.row as usize]).collect();
        let answers = examples.iter().map(|example| &example.answer);
        let target = match self.problem {
            ProblemConfig::SingleLabel => Target::Classes(answers.map(Answer::class).collect()),
            ProblemConfig::MultiLabel => {
                Target::MultiHot(answers.flat_map(|answer| answer.multi_hot(self.labels)).collect())
            }
            ProblemConfig::Regression => Target::Values(answers.map(Answer::value).collect()),
        };
        Batch {
            targets: vec![target],
            weights: vec![examples.iter().map(|example| example.weight).collect()],
            ..padded(rows, self.pad, ids)
        }
    }

    /// The examples by length, for evaluations: the fewest padding.
    pub(crate) fn by_length(&self, most: usize) -> Vec<u64> {
        self.order.by_length(most)
    }
}

/// A text or a pair as a model reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodedText {
    /// `[CLS] text [SEP]`, or `[CLS] text [SEP] pair [SEP]`.
    pub tokens: Vec<u32>,
    /// Where the second text begins; the number of tokens where there is none.
    pub second: usize,
    /// Whether it did not fit whole.
    pub truncated: bool,
}

/// Encodes texts and pairs for a context of `max_seq_len` tokens; what does not fit is cut as
/// [`Tokenizer::truncation`] says.
///
/// # Errors
/// A tokenizer without an encoder's special tokens, a text that it cannot encode, a context too short for one token.
pub fn encode(
    tokenizer: &Tokenizer,
    texts: &[(String, Option<String>)],
    max_seq_len: usize,
) -> Result<Vec<EncodedText>, Error> {
    use rayon::prelude::*;
    let one = |(text, pair): &(String, Option<String>)| {
        let second = pair.as_ref().map(|pair| tokenizer.encode(pair)).transpose()?;
        in_row(tokenizer, tokenizer.encode(text)?, second, max_seq_len)
    };
    // Also where there is nothing to encode.
    in_row(tokenizer, Vec::new(), None, max_seq_len)?;
    texts.par_iter().map(one).collect()
}

/// The tokens of a text or a pair between their special ones.
fn in_row(
    tokenizer: &Tokenizer,
    mut first: Vec<u32>,
    mut second: Option<Vec<u32>>,
    max_seq_len: usize,
) -> Result<EncodedText, Error> {
    let Specials { cls, sep, .. } = specials(tokenizer)?;
    if max_seq_len < MIN_SEQ_LEN {
        return Err(Error::short_context(max_seq_len));
    }
    let room = max_seq_len - if second.is_some() { 3 } else { 2 };
    let excess = (first.len() + second.as_ref().map_or(0, Vec::len)).saturating_sub(room);
    match &mut second {
        None => first.truncate(room),
        Some(second) => {
            let [a, b] = kept(tokenizer.truncation(), [first.len(), second.len()], room);
            first.truncate(a);
            second.truncate(b);
        }
    }
    let mut tokens = vec![cls];
    tokens.extend(first);
    tokens.push(sep);
    let start = tokens.len();
    if let Some(second) = second {
        tokens.extend(second);
        tokens.push(sep);
    }
    Ok(EncodedText { second: start, tokens, truncated: excess > 0 })
}

/// How many tokens each text of a pair keeps.
fn kept(truncation: TruncationConfig, [a, b]: [usize; 2], room: usize) -> [usize; 2] {
    match truncation {
        TruncationConfig::OnlyFirst => {
            let b = b.min(room);
            [a.min(room - b), b]
        }
        TruncationConfig::OnlySecond => {
            let a = a.min(room);
            [a, b.min(room - a)]
        }
        TruncationConfig::LongestFirst => {
            // What each keeps when the longer one loses its last token until both fit.
            let [short, long] = [a.min(b), a.max(b)];
            let kept_short = short.min(room / 2);
            let kept_long = long.min(room - kept_short);
            if a <= b { [kept_short, kept_long] } else { [kept_long, kept_short] }
        }
    }
}

/// Encoded texts side by side, filled up with `pad` to the longest: a batch without targets.
pub fn fill(texts: &[&EncodedText], pad: u32) -> Batch {
    let rows: Vec<(&[u32], usize)> = texts.iter().map(|text| (&text.tokens[..], text.second)).collect();
    padded(&rows, pad, (0..texts.len() as u64).map(|row| RowId { epoch: 0, row }).collect())
}

/// Refuses pairs for a model that knows so many types of token.
///
/// # Errors
/// One type alone, which leaves none for the second text.
pub fn check_pairs(token_types: usize) -> Result<(), Error> {
    match token_types {
        0 | 1 => Err(Error::config(
            "model.bert.type_vocab_size",
            format!("{token_types} leaves no token type for the second text of a pair"),
            "a model of 2 types reads pairs",
        )),
        _ => Ok(()),
    }
}

/// The special tokens that rows are made with.
///
/// # Errors
/// A tokenizer that lacks one.
pub fn specials(tokenizer: &Tokenizer) -> Result<Specials, Error> {
    tokenizer.specials().ok_or_else(|| {
        let message = "the tokenizer has no [CLS], [SEP], [PAD] and [MASK]";
        Error::config(
            "tokenizer",
            message,
            "an encoder reads with [tokenizer.bert], or the one of its pre-trained model",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BertTokenizerConfig, TokenLevel, TokenizerConfig};
    use crate::length_order::RUN;
    use std::collections::BTreeSet;

    fn tokenizer() -> Tokenizer {
        let config = BertTokenizerConfig { vocab_size: 40, min_frequency: 1, lowercase: true, level: TokenLevel::Char };
        Tokenizer::train(&TokenizerConfig::Bert(config), &["abcdefghij".into()], false).unwrap()
    }

    fn examples(count: usize) -> Examples {
        let example = |i: usize| Example {
            text: "a".repeat(1 + i * i % 29),
            pair: None,
            labels: vec![["x", "y", "y"][i % 3].into()],
            place: ("f".into(), 1),
        };
        let examples: Vec<Example> = (0..count).map(example).collect();
        new(&examples, &[1.5, 0.75])
    }

    fn new(examples: &[Example], weights: &[f32]) -> Examples {
        let labels = ["x".into(), "y".into()];
        Examples::new(&tokenizer(), examples, ProblemConfig::SingleLabel, &labels, weights, 20, 7).unwrap()
    }

    #[test]
    fn every_epoch_takes_each_example_once_in_an_order_of_its_own_that_no_batch_size_changes() {
        let examples = examples(3000);
        let rows = |from: u64, size: usize| -> Vec<u64> {
            (0..3000 / size as u64)
                .flat_map(|i| examples.at(from + i * size as u64, size).rows)
                .map(|id| id.row)
                .collect()
        };
        let first = rows(0, 3);
        assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 3000);
        assert_eq!(first, rows(0, 100));
        assert_ne!(first, rows(3000, 100));
        // Sorted in pools, a batch of a run's size has little padding.
        assert!(examples.padding_share(RUN) < 0.06 && examples.padding_share(1) < 1e-9);
        assert!(examples.truncated() > 0 && examples.longest() == 20);
    }

    #[test]
    fn a_batch_is_padded_to_its_longest_and_classes_weigh_alike() {
        let examples = examples(30);
        let batch = examples.batch(vec![RowId { epoch: 0, row: 1 }, RowId { epoch: 0, row: 3 }]);
        assert_eq!(batch.shape, [2, 12]);
        assert_eq!(batch.tokens[..5], [2, 5, 5, 3, 0]);
        assert_eq!(batch.segments[..5], [1, 1, 1, 1, 0]);
        assert_eq!(batch.targets, [Target::Classes(vec![1, 0])]);
        assert_eq!(batch.weights, [vec![0.75, 1.5]]);
    }

    #[test]
    fn several_labels_are_hot_and_numbers_stay_numbers() {
        let labels = ["p".to_string(), "q".to_string(), "r".to_string()];
        let example = |labels: &[&str]| Example {
            text: "a".into(),
            pair: None,
            labels: labels.iter().map(|label| label.to_string()).collect(),
            place: ("f".into(), 7),
        };
        let of = |problem, rows: &[Example]| {
            let examples = Examples::new(&tokenizer(), rows, problem, &labels, &[], 20, 7)?;
            Ok::<_, Error>(examples.batch((0..rows.len() as u64).map(|row| RowId { epoch: 0, row }).collect()))
        };
        let batch = of(ProblemConfig::MultiLabel, &[example(&["r", "p"]), example(&[])]).unwrap();
        assert_eq!(batch.targets, [Target::MultiHot(vec![1.0, 0.0, 1.0, 0.0, 0.0, 0.0])]);
        assert_eq!(batch.weights, [vec![1.0; 2]]);
        assert_eq!(batch.slice_rows(1..2).targets, [Target::MultiHot(vec![0.0; 3])]);
        let batch = of(ProblemConfig::Regression, &[example(&["-2.5"]), example(&["3"])]).unwrap();
        assert_eq!(batch.targets, [Target::Values(vec![-2.5, 3.0])]);
        for (problem, label, said) in [
            (ProblemConfig::Regression, "x", "f:7: `x` is not a number"),
            (ProblemConfig::Regression, "inf", "f:7: `inf` is not a number"),
            (ProblemConfig::MultiLabel, "s", "f:7: the label `s` is unknown"),
        ] {
            let error = of(problem, &[example(&[label])]).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn a_pair_is_cut_where_the_tokenizer_says() {
        let encoded = |truncation, a: usize, b: usize| {
            let pair = ("a".repeat(a), Some("b".repeat(b)));
            encode(&tokenizer().with_truncation(truncation), &[pair], 13).unwrap().remove(0)
        };
        let lengths = |row: &EncodedText| (row.second - 2, row.tokens.len() - row.second - 1);
        for (truncation, a, b, kept) in [
            (TruncationConfig::OnlyFirst, 40, 4, (6, 4)),
            (TruncationConfig::OnlyFirst, 40, 40, (0, 10)),
            (TruncationConfig::OnlySecond, 4, 40, (4, 6)),
            (TruncationConfig::OnlySecond, 4, 5, (4, 5)),
        ] {
            assert_eq!(lengths(&encoded(truncation, a, b)), kept, "{truncation:?}");
        }
        let encoded = |a, b| encoded(TruncationConfig::LongestFirst, a, b);
        assert_eq!(lengths(&encoded(3, 4)), (3, 4));
        assert_eq!(lengths(&encoded(3, 40)), (3, 7));
        assert_eq!(lengths(&encoded(40, 2)), (8, 2));
        assert_eq!(lengths(&encoded(40, 40)), (5, 5));
        assert!(encoded(40, 40).truncated && !encoded(3, 4).truncated);
    }

    #[test]
    fn augmented_rows_change_with_the_epoch_in_the_same_order_and_evaluations_see_them_plain() {
        let example = |i: usize| Example {
            text: "a b c d e f g h i j".chars().take(1 + i % 19).collect(),
            pair: (i % 2 == 1).then(|| "j i h g".into()),
            labels: vec![["x", "y"][i % 2].into()],
            place: ("f".into(), 1),
        };
        let rows: Vec<Example> = (0..40).map(example).collect();
        let plain = new(&rows, &[]);
        let augmenter = Augmenter::new(&toml::from_str("delete = 0.3\nswap = 0.3").unwrap(), 7).unwrap().unwrap();
        let augmented = plain.clone().augmented(Some(augmenter), None, &tokenizer(), &rows);
        let [first, second] = [0, 40].map(|position| augmented.at(position, 40));
        assert_eq!(first.rows, plain.at(0, 40).rows);
        assert_eq!(first.targets, plain.at(0, 40).targets);
        assert_ne!(first.tokens, plain.at(0, 40).tokens);
        assert_eq!(first, augmented.clone().at(0, 40));
        let of_row = |batch: &Batch, row: u64| {
            let at = batch.rows.iter().position(|id| id.row == row).unwrap();
            let tokens = &batch.tokens[at * batch.shape[1]..][..batch.shape[1]];
            tokens.iter().copied().filter(|token| *token != 0).collect::<Vec<u32>>()
        };
        assert!((0..40).filter(|row| of_row(&first, *row) != of_row(&second, *row)).count() > 25);
        // How rows are cut into batches changes nothing.
        let again: Vec<Vec<u32>> = (0..40).map(|i| of_row(&augmented.at(i, 1), first.rows[i as usize].row)).collect();
        assert_eq!(again, first.rows.iter().map(|id| of_row(&first, id.row)).collect::<Vec<_>>());
        let ids = vec![RowId { epoch: 0, row: 18 }, RowId { epoch: 0, row: 3 }];
        assert_eq!(augmented.batch(ids.clone()), plain.batch(ids));
        // What the note counts is what the first epoch shows.
        let changed = (0..40).filter(|row| of_row(&first, *row) != of_row(&plain.at(0, 40), *row)).count();
        let note = augmented.augmentation_note().unwrap();
        assert!(note.starts_with("augment: in the first epoch of ") && note.contains(" deleted, "), "{note}");
        assert!(note.ends_with(&format!(" swapped, in {changed} of 40 rows")), "{note}");
        assert_eq!(plain.augmentation_note(), None);
    }
}
