//! Next-sentence prediction: pairs of segments of which the second goes on where the first ends, or comes from another
//! document.
//!
//! Source: Devlin et al. 2018, section 3.1, task 2; google-research/bert, `create_pretraining_data.py`. There a walk over the
//! documents decides how many rows there are; here every row has a place of its own, so that it is a function of (seed,
//! epoch, row) alone.

mod document;

use std::sync::Arc;

use document::Document;
use rayon::prelude::*;

use crate::batch::{Batch, RowId, Target};
use crate::collate::padded;
use crate::error::Error;
use crate::examples::specials;
use crate::masking::Masking;
use crate::permutation::{Permutation, keyed_hash};
use crate::tokenizer::{Specials, Tokenizer};

/// The second segment goes on where the first ends; the id that HuggingFace's `BertForPreTraining` gives it.
pub const IS_NEXT: u32 = 0;

/// The second segment is of another document.
pub const NOT_NEXT: u32 = 1;

/// Share of the rows that are shorter than they could be, because short texts are what a model may be used for.
const SHORT: f64 = 0.1;

/// Special tokens of a row.
const AROUND: usize = 3;

/// Keeps these draws apart from those of the masks.
const PURPOSE: u64 = 0x6e65_7874;

/// Numbers of one row, one after the other.
struct Draws {
    key: u64,
    count: u64,
}

impl Draws {
    fn new(key: u64) -> Self {
        Self { key, count: 0 }
    }

    fn next(&mut self) -> u64 {
        self.count += 1;
        keyed_hash(self.key, self.count)
    }

    /// From 0 to below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    fn chance(&mut self, probability: f64) -> bool {
        ((self.next() >> 11) as f64) < probability * (1u64 << 53) as f64
    }
}

/// Documents in sentences, and how rows are drawn from them; cheap to clone.
#[derive(Clone, Debug)]
pub struct SentencePairs {
    documents: Arc<[Document]>,
    /// Of each document, the first row of an epoch that begins in it; and the number of rows.
    first_rows: Arc<[u64]>,
    masking: Arc<Masking>,
    specials: Specials,
    seq_len: usize,
    seed: u64,
}

impl SentencePairs {
    /// Cuts the documents in sentences and encodes them, for rows of at most `seq_len` tokens that `masking` masks. A
    /// document of a single sentence begins no row, for nothing follows it, but may be the second segment of one.
    ///
    /// # Errors
    /// Fewer than two documents with text, or none of two sentences; a tokenizer without an encoder's special tokens; a
    /// `seq_len` below 5.
    pub fn new(
        tokenizer: &Tokenizer,
        documents: &[String],
        masking: Masking,
        seq_len: usize,
        seed: u64,
    ) -> Result<Self, Error> {
        let specials = specials(tokenizer)?;
        if seq_len < 5 {
            let message = format!("{seq_len} tokens are too few for two segments between special tokens");
            return Err(Error::config("model.bert.max_seq_len", message, "128 is usual"));
        }
        let room = seq_len - AROUND;
        let encode = |text: &String| Document::new(tokenizer, text, room);
        let mut documents = documents.par_iter().map(encode).collect::<Result<Vec<_>, Error>>()?;
        documents.retain(|document| document.sentences() > 0);
        let error = |message: String, hint: &str| Error::config("objective.masked_lm.next_sentence", message, hint);
        if documents.len() < 2 {
            let message = format!("it needs two documents or more with text, there is {}", documents.len());
            return Err(error(message, "name more files, or a `separator` in `[data.text]`"));
        }
        let mut first_rows = vec![0];
        for document in &documents {
            let rows = if document.sentences() < 2 { 0 } else { document.tokens.len().div_ceil(room) };
            first_rows.push(first_rows[first_rows.len() - 1] + rows as u64);
        }
        if first_rows.last() == Some(&0) {
            return Err(error("no document has two sentences".into(), "a document is a text, not a sentence"));
        }
        let (documents, first_rows) = (documents.into(), first_rows.into());
        Ok(Self { documents, first_rows, masking: Arc::new(masking), specials, seq_len, seed })
    }

    /// Rows in one epoch: as many as the documents' tokens would fill, a document's last row rounded up.
    pub fn rows_per_epoch(&self) -> u64 {
        self.first_rows.last().copied().unwrap_or(0)
    }

    /// The most tokens of a row.
    pub fn seq_len(&self) -> usize {
        self.seq_len
    }

    /// Documents with text.
    pub fn documents(&self) -> usize {
        self.documents.len()
    }

    /// All tokens together, special ones not counted.
    pub fn tokens(&self) -> usize {
        self.documents.iter().map(|document| document.tokens.len()).sum()
    }

    /// Documents of a single sentence, which begin no row.
    pub fn single_sentences(&self) -> usize {
        self.documents.iter().filter(|document| document.sentences() < 2).count()
    }

    /// The rows behind the first `position` rows of a run; they may straddle epochs.
    pub(crate) fn at(&self, position: u64, rows: usize) -> Batch {
        let len = self.rows_per_epoch();
        let id = |position: u64| {
            let epoch = position / len;
            let row = Permutation::new(len, keyed_hash(self.seed, epoch)).at(position % len);
            RowId { epoch, row }
        };
        self.batch((position..position + rows as u64).map(id).collect())
    }

    /// These rows, padded to the longest: masked tokens, and whether the second segment is the next.
    pub(crate) fn batch(&self, ids: Vec<RowId>) -> Batch {
        let pairs: Vec<(Vec<u32>, usize, u32)> = ids.iter().map(|id| self.row(*id)).collect();
        let rows: Vec<(&[u32], usize)> = pairs.iter().map(|(tokens, second, _)| (&tokens[..], *second)).collect();
        let mut batch = padded(&rows, self.specials.pad, ids);
        self.masking.hide(&mut batch, rows.iter().map(|(row, _)| row.len()));
        batch.targets.push(Target::Classes(pairs.iter().map(|(.., label)| *label).collect()));
        batch.weights.push(vec![1.0; pairs.len()]);
        batch
    }

    /// `[CLS] A [SEP] B [SEP]`, where B begins, and what it is.
    fn row(&self, id: RowId) -> (Vec<u32>, usize, u32) {
        let of_epoch = keyed_hash(keyed_hash(self.seed, PURPOSE), id.epoch);
        let mut draws = Draws::new(keyed_hash(of_epoch, id.row));
        let room = self.seq_len - AROUND;
        let length = if draws.chance(SHORT) { 2 + draws.below(room - 1) } else { room };
        let of = self.first_rows.partition_point(|first| *first <= id.row) - 1;
        let document = &self.documents[of];
        let start =
            document.start(id.row - self.first_rows[of], self.first_rows[of + 1] - self.first_rows[of], &mut draws);
        let behind = document.until(start, length).max(start + 2);
        let middle = start + 1 + draws.below(behind - start - 1);
        let mut first = document.text(start, middle);
        let is_next = draws.chance(0.5);
        let next = document.text(middle, behind);
        let mut second = if is_next {
            next
        } else {
            let other = draws.below(self.documents.len() - 1);
            let other = &self.documents[other + usize::from(other >= of)];
            let start = draws.below(other.sentences());
            // A document that ends early gives a short second segment: so must the others, or the length tells them apart.
            other.text(start, other.until(start, length.saturating_sub(first.len()).min(next.len())))
        };
        while first.len() + second.len() > room {
            let longer = if first.len() > second.len() { &mut first } else { &mut second };
            let cut = if draws.chance(0.5) {
                longer.split_first().map(|(_, rest)| rest)
            } else {
                longer.split_last().map(|(_, rest)| rest)
            };
            *longer = cut.unwrap_or_default();
        }
        let Specials { cls, sep, .. } = self.specials;
        let tokens = [&[cls], first, &[sep], second, &[sep]].concat();
        (tokens, first.len() + 2, if is_next { IS_NEXT } else { NOT_NEXT })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batches::{Batches, EvaluationRows};
    use crate::config::MaskedLmConfig;
    use std::collections::BTreeSet;

    /// Words of each document of [`pairs`]; word `w` of document `d` has the id `5 + 300 * d + w`.
    const WORDS: usize = 300;

    fn tokenizer(words: usize) -> Tokenizer {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vocab.txt");
        let words: String = (0..words).map(|word| format!("\nw{word}")).collect();
        std::fs::write(&path, format!("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]{words}")).unwrap();
        Tokenizer::from_file(&path).unwrap()
    }

    /// The words from one to another, a line of five to nine words after the other.
    fn document(from: usize, to: usize) -> String {
        let mut lines = Vec::new();
        let mut start = from;
        while start < to {
            let end = (start + 5 + lines.len() * 7 % 5).min(to);
            lines.push((start..end).map(|word| format!("w{word}")).collect::<Vec<_>>().join(" "));
            start = end;
        }
        lines.join("\n")
    }

    fn made(documents: &[String], probability: f64, seq_len: usize) -> Result<SentencePairs, Error> {
        let tokenizer = tokenizer(20 * WORDS);
        let config = MaskedLmConfig { probability, next_sentence: true, ..Default::default() };
        let masking = Masking::new(&config, &tokenizer, 7).unwrap();
        SentencePairs::new(&tokenizer, documents, masking, seq_len, 7)
    }

    /// Twenty documents of [`WORDS`] words.
    fn pairs(probability: f64, seq_len: usize) -> SentencePairs {
        let documents: Vec<String> = (0..20).map(|i| document(i * WORDS, (i + 1) * WORDS)).collect();
        made(&documents, probability, seq_len).unwrap()
    }

    /// Each row's tokens before masking, up to its padding.
    fn rows(batch: &Batch) -> Vec<&[u32]> {
        let Target::Tokens(tokens) = &batch.targets[0] else { panic!("tokens are guessed") };
        let width = batch.shape[1];
        let length = |row: usize| batch.segments[row * width..(row + 1) * width].iter().sum::<u32>() as usize;
        (0..batch.shape[0]).map(|row| &tokens[row * width..row * width + length(row)]).collect()
    }

    /// The two segments of a row.
    fn segments(row: &[u32]) -> [&[u32]; 2] {
        let mut parts = row[1..].split(|token| *token == 3);
        let found = [(); 2].map(|()| parts.next().unwrap());
        assert!(row[0] == 2 && parts.next() == Some(&[]) && parts.next().is_none(), "[CLS] A [SEP] B [SEP]");
        found
    }

    #[test]
    fn half_of_the_second_segments_go_on_and_the_others_are_of_other_documents() {
        let batches = Batches::next_sentence(pairs(0.15, 64));
        let [mut next, mut short, mut total] = [0.0; 3];
        for position in (0..20_000).step_by(100) {
            let batch = batches.at(position, 100);
            assert_eq!(batch.weights[1], [1.0; 100]);
            let Target::Classes(labels) = &batch.targets[1] else { panic!("rows have classes") };
            let types = batch.token_types.as_ref().unwrap();
            for (index, (row, label)) in rows(&batch).into_iter().zip(labels).enumerate() {
                let [first, second] = segments(row);
                assert!(!first.is_empty() && !second.is_empty() && row.len() <= 64);
                let of = |segment: &[u32]| {
                    assert!(segment.windows(2).all(|pair| pair[1] == pair[0] + 1), "a segment is in order");
                    (segment[0] as usize - 5) / WORDS
                };
                assert_eq!(of(first) == of(second), *label == IS_NEXT);
                let of_row = &types[index * batch.shape[1]..][..row.len()];
                let expected = (0..row.len()).map(|place| u32::from(place > first.len() + 1));
                assert!(of_row.iter().copied().eq(expected));
                total += 1.0;
                if *label == IS_NEXT {
                    next += 1.0;
                    // What truncation leaves out between the two is little.
                    assert!((1..20).contains(&(second[0] - first[first.len() - 1])));
                    short += f64::from(u8::from(row.len() < 64));
                }
            }
        }
        // Four standard deviations.
        assert!((next / total - 0.5).abs() < 4.0 * (0.25f64 / total).sqrt(), "{}", next / total);
        // A tenth are wanted shorter; whole sentences fill some of those up.
        assert!((0.08..0.1).contains(&(short / next)), "{}", short / next);
    }

    #[test]
    fn fifteen_percent_are_chosen_and_of_them_80_10_10_masked_random_and_kept_and_no_special_token_is() {
        let batches = Batches::next_sentence(pairs(0.15, 64));
        let [mut chosen, mut masked, mut kept, mut total] = [0f64; 4];
        for position in (0..20_000).step_by(100) {
            let batch = batches.at(position, 100);
            let Target::Tokens(targets) = &batch.targets[0] else { panic!("tokens are guessed") };
            for (i, target) in targets.iter().enumerate() {
                let is_chosen = batch.weights[0][i] > 0.0;
                assert!(!is_chosen || *target > 4, "a special or padding token was chosen");
                assert!(is_chosen || batch.tokens[i] == *target);
                total += f64::from(*target > 4);
                chosen += f64::from(is_chosen);
                masked += f64::from(is_chosen && batch.tokens[i] == 4);
                kept += f64::from(is_chosen && batch.tokens[i] == *target);
            }
        }
        assert!(total > 1e6);
        assert!((chosen / total - 0.15).abs() < 0.0015, "{}", chosen / total);
        assert!((masked / chosen - 0.8).abs() < 0.004, "{}", masked / chosen);
        assert!((kept / chosen - 0.1).abs() < 0.003, "{}", kept / chosen);
    }

    #[test]
    fn a_position_gives_the_same_row_whatever_the_size_of_batches_and_epochs_differ() {
        let batches = Batches::next_sentence(pairs(0.15, 32));
        let epoch = batches.rows_per_epoch();
        assert_eq!(epoch, 20 * 300u64.div_ceil(29));
        let one_by_one = |from: u64| (from..from + epoch).map(|position| batches.at(position, 1)).collect::<Vec<_>>();
        for (index, alone) in one_by_one(0).into_iter().enumerate() {
            let position = index as u64 - index as u64 % 50;
            let together = batches.at(position, 50).slice_rows(index % 50..index % 50 + 1);
            let width = alone.shape[1];
            assert_eq!(alone.rows, together.rows);
            assert_eq!((&alone.tokens[..], &alone.targets[1]), (&together.tokens[..width], &together.targets[1]));
            assert_eq!(alone.weights[0], together.weights[0][..width]);
        }
        let [first, second] = [0, 1].map(|number| batches.at(number * epoch, epoch as usize));
        let ids = |batch: &Batch| batch.rows.iter().map(|id| id.row).collect::<Vec<_>>();
        assert_ne!(ids(&first), ids(&second));
        for batch in [&first, &second] {
            assert_eq!(ids(batch).into_iter().collect::<BTreeSet<_>>(), (0..epoch).collect());
        }
        let by_row = |batch: &Batch| {
            let all = ids(batch).into_iter().zip(rows(batch).into_iter().map(<[u32]>::to_vec));
            all.collect::<std::collections::BTreeMap<_, _>>()
        };
        let (a, b) = (by_row(&first), by_row(&second));
        assert!(a.iter().filter(|(row, tokens)| b[row] != **tokens).count() as u64 > epoch * 9 / 10);
    }

    #[test]
    fn evaluations_see_the_same_rows_every_time() {
        let rows = || EvaluationRows::next_sentence(pairs(0.15, 32), 0, 40).unwrap();
        assert_eq!(rows().len(), 40);
        assert_eq!(rows().at(0..40), rows().at(0..40));
        let [all, part] = [rows().at(0..40), rows().at(10..11)];
        assert_eq!(all.tokens[10 * all.shape[1]..][..part.shape[1]], part.tokens);
    }

    #[test]
    fn every_word_is_read_within_some_epochs() {
        let pairs = pairs(0.15, 64);
        let batch = pairs.at(0, 30 * pairs.rows_per_epoch() as usize);
        let seen: BTreeSet<u32> = rows(&batch).concat().into_iter().filter(|token| *token > 4).collect();
        assert_eq!(seen.len(), 20 * WORDS);
    }

    #[test]
    fn a_text_without_an_end_in_sight_is_cut_and_the_longer_segment_loses_tokens_at_both_ends() {
        let line = |from: usize| (from..from + WORDS).map(|word| format!("w{word} ")).collect::<String>();
        let pairs = made(&[line(0), line(WORDS)], 0.15, 33).unwrap();
        assert_eq!(pairs.rows_per_epoch(), 20);
        let batch = pairs.at(0, 2000);
        let lengths: BTreeSet<usize> = rows(&batch).into_iter().map(|row| row.len()).collect();
        assert_eq!(lengths, [33].into());
        let begin: BTreeSet<u32> = rows(&batch).into_iter().map(|row| (row[1] - 5) % 30).collect();
        assert!(begin.len() > 5, "{begin:?}");
    }

    #[test]
    fn short_documents_do_not_tell_by_the_length_of_a_row_what_its_second_segment_is() {
        let documents: Vec<String> = (0..200).map(|i| document(i * 30, i * 30 + 30)).collect();
        let batch = made(&documents, 0.15, 128).unwrap().at(0, 20_000);
        let Target::Classes(labels) = &batch.targets[1] else { panic!("rows have classes") };
        let mean = |label: u32| {
            let of_label = rows(&batch).into_iter().zip(labels).filter(|(_, of)| **of == label);
            let lengths: Vec<f64> = of_label.map(|(row, _)| row.len() as f64).collect();
            lengths.iter().sum::<f64>() / lengths.len() as f64
        };
        // Taken to the end of the row as in the reference, the other segments would make theirs 50 tokens longer.
        assert!((mean(IS_NEXT) - mean(NOT_NEXT)).abs() < 4.0, "{} {}", mean(IS_NEXT), mean(NOT_NEXT));
    }

    #[test]
    fn what_gives_no_pairs_is_an_error_that_says_what_is_missing() {
        let error = |documents: &[String], seq_len| made(documents, 0.15, seq_len).unwrap_err().to_string();
        let two = [document(0, 50), document(50, 100)];
        assert!(error(&two[..1], 32).contains("two documents or more with text, there is 1"));
        assert!(error(&[two[0].clone(), " \n".into()], 32).contains("there is 1"));
        assert!(error(&["w1 w2".into(), "w3".into()], 32).contains("no document has two sentences"));
        assert!(error(&two, 4).contains("4 tokens are too few"));
        for seq_len in 5..40 {
            let batch = made(&two, 0.15, seq_len).unwrap().at(0, 300);
            assert!(
                rows(&batch).into_iter().all(|row| row.len() <= seq_len && segments(row).iter().all(|s| !s.is_empty()))
            );
        }
        let with_single = [two.to_vec(), vec!["w200 w201".into()]].concat();
        let pairs = made(&with_single, 0.15, 32).unwrap();
        assert_eq!((pairs.documents(), pairs.single_sentences(), pairs.tokens()), (3, 1, 102));
        let batch = pairs.at(0, 500);
        let of_single = |segment: &[u32]| segment.contains(&205);
        assert!(rows(&batch).into_iter().any(|row| of_single(segments(row)[1])));
        assert!(!rows(&batch).into_iter().any(|row| of_single(segments(row)[0])));
    }
}
