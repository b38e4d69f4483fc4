//! The batch at any position of a run, as a pure function of (tokens, seed, position).

use std::ops::Range;
use std::sync::Arc;

use crate::batch::{Batch, RowId};
use crate::chat::ChatExamples;
use crate::collate::causal;
use crate::document_rows::DocumentRows;
use crate::error::Error;
use crate::examples::Examples;
use crate::masking::{self, Masking};
use crate::next_sentence::SentencePairs;
use crate::permutation::{Permutation, keyed_hash};
use crate::tagged::TaggedExamples;
use crate::token_stream::TokenStream;

/// What rows are made of.
#[derive(Clone, Debug)]
enum Rows {
    /// Windows of a text; each token is trained towards the next.
    Causal(TokenStream),
    /// Windows of a text between special tokens, some of whose tokens are to be guessed.
    Masked(TokenStream, Arc<Masking>),
    /// Pairs of segments, masked, of which the second may follow the first.
    NextSentence(SentencePairs),
    /// Labelled texts.
    Labelled(Examples),
    /// Sentences whose words carry tags.
    Tagged(TaggedExamples),
    /// Conversations.
    Chat(ChatExamples),
    /// Short documents, masked.
    Documents(DocumentRows),
}

impl Rows {
    /// The batch of the windows that begin at these tokens, for a context of `seq_len`.
    fn windows(&self, seq_len: usize, windows: impl Iterator<Item = (usize, RowId)>) -> Batch {
        match self {
            Self::Causal(stream) => {
                let (rows, ids): (Vec<&[u32]>, Vec<RowId>) =
                    windows.map(|(start, id)| (&stream.tokens()[start..start + seq_len + 1], id)).unzip();
                causal(&rows, seq_len, &ids).expect("a window has exactly seq_len + 1 tokens")
            }
            Self::Masked(stream, masking) => {
                let width = seq_len - Masking::AROUND;
                let (texts, ids): (Vec<&[u32]>, Vec<RowId>) =
                    windows.map(|(start, id)| (&stream.tokens()[start..start + width], id)).unzip();
                masking.batch(&texts, ids)
            }
            Self::NextSentence(pairs) => pairs.batch(windows.map(|(_, id)| id).collect()),
            Self::Labelled(examples) => examples.batch(windows.map(|(_, id)| id).collect()),
            Self::Tagged(examples) => examples.batch(windows.map(|(_, id)| id).collect()),
            Self::Chat(examples) => examples.batch(windows.map(|(_, id)| id).collect()),
            Self::Documents(rows) => rows.batch(windows.map(|(_, id)| id).collect()),
        }
    }

    /// The text, the tokens of it that a row takes, and how many more there must be behind them.
    fn window(&self, seq_len: usize) -> Option<(&TokenStream, usize, usize)> {
        match self {
            Self::Causal(stream) => Some((stream, seq_len, 1)),
            Self::Masked(stream, _) => Some((stream, seq_len.saturating_sub(Masking::AROUND), 0)),
            Self::NextSentence(_) | Self::Labelled(_) | Self::Tagged(_) | Self::Chat(_) | Self::Documents(_) => None,
        }
    }

    /// How many rows an epoch has.
    fn count(&self, seq_len: usize) -> Result<u64, Error> {
        match self {
            Self::NextSentence(pairs) => Ok(pairs.rows_per_epoch()),
            Self::Labelled(examples) => Ok(examples.len() as u64),
            Self::Tagged(examples) => Ok(examples.len() as u64),
            Self::Chat(examples) => Ok(examples.len() as u64),
            Self::Documents(rows) => Ok(rows.len() as u64),
            _ => {
                let (stream, width, behind) = self.window(seq_len).expect("rows of a text");
                if width == 0 {
                    return Err(Error::short_context(seq_len));
                }
                if stream.len() < width + behind {
                    return Err(Error::TooShort { tokens: stream.len(), seq_len });
                }
                Ok(((stream.len() - behind) / width) as u64)
            }
        }
    }
}

/// The training rows of a run. Of a text every epoch cuts the tokens at another offset and takes the windows in another
/// order; of labelled texts it takes those of like length near each other.
#[derive(Clone, Debug)]
pub struct Batches {
    rows: Rows,
    seq_len: usize,
    seed: u64,
    rows_per_epoch: u64,
}

impl Batches {
    /// The plan over these tokens, each trained towards the next.
    ///
    /// # Errors
    /// Fewer than `seq_len + 1` tokens, or a `seq_len` of 0.
    pub fn training(stream: TokenStream, seq_len: usize, seed: u64) -> Result<Self, Error> {
        Self::new(Rows::Causal(stream), seq_len, seed)
    }

    /// The plan over these tokens, masked.
    ///
    /// # Errors
    /// Fewer tokens than a row takes, or a context without room for one.
    pub fn masked(stream: TokenStream, masking: Masking, seq_len: usize, seed: u64) -> Result<Self, Error> {
        Self::new(Rows::Masked(stream, Arc::new(masking)), seq_len, seed)
    }

    /// The plan over short documents, masked, in rows of at most `seq_len` tokens.
    ///
    /// # Errors
    /// No document.
    pub fn documents(rows: DocumentRows, seq_len: usize) -> Result<Self, Error> {
        if rows.is_empty() {
            return Err(Error::NoRows);
        }
        Self::new(Rows::Documents(rows), seq_len, 0)
    }

    /// The plan over pairs of segments, masked.
    pub fn next_sentence(pairs: SentencePairs) -> Self {
        let (seq_len, rows_per_epoch) = (pairs.seq_len(), pairs.rows_per_epoch());
        Self { rows: Rows::NextSentence(pairs), seq_len, seed: 0, rows_per_epoch }
    }

    /// The plan over labelled texts, at most `seq_len` tokens long.
    ///
    /// # Errors
    /// No example.
    pub fn labelled(examples: Examples, seq_len: usize) -> Result<Self, Error> {
        if examples.is_empty() {
            return Err(Error::NoRows);
        }
        Self::new(Rows::Labelled(examples), seq_len, 0)
    }

    /// The plan over tagged sentences, at most `seq_len` tokens long.
    ///
    /// # Errors
    /// No sentence.
    pub fn tagged(examples: TaggedExamples, seq_len: usize) -> Result<Self, Error> {
        if examples.is_empty() {
            return Err(Error::NoRows);
        }
        Self::new(Rows::Tagged(examples), seq_len, 0)
    }

    /// The plan over conversations, whose rows are at most `seq_len` tokens long.
    ///
    /// # Errors
    /// No conversation.
    pub fn chat(examples: ChatExamples, seq_len: usize) -> Result<Self, Error> {
        if examples.is_empty() {
            return Err(Error::NoRows);
        }
        Self::new(Rows::Chat(examples), seq_len, 0)
    }

    fn new(rows: Rows, seq_len: usize, seed: u64) -> Result<Self, Error> {
        let rows_per_epoch = rows.count(seq_len)?;
        Ok(Self { rows, seq_len, seed, rows_per_epoch })
    }

    /// Rows in one epoch.
    pub fn rows_per_epoch(&self) -> u64 {
        self.rows_per_epoch
    }

    /// The most tokens of a row.
    pub fn seq_len(&self) -> usize {
        self.seq_len
    }

    /// The `rows` rows behind the first `position` rows of the run; they may straddle epochs. The same position always
    /// gives the same row, however the run is cut into batches.
    pub fn at(&self, position: u64, rows: usize) -> Batch {
        let (stream, width, behind) = match (&self.rows, self.rows.window(self.seq_len)) {
            (Rows::NextSentence(pairs), _) => return pairs.at(position, rows),
            (Rows::Labelled(examples), _) => return examples.at(position, rows),
            (Rows::Tagged(examples), _) => return examples.at(position, rows),
            (Rows::Chat(examples), _) => return examples.at(position, rows),
            (Rows::Documents(documents), _) => return documents.at(position, rows),
            (_, window) => window.expect("rows of a text"),
        };
        let last_start = stream.len() - behind - width;
        let windows = (position..position + rows as u64).map(|position| {
            let epoch = position / self.rows_per_epoch;
            let key = keyed_hash(self.seed, epoch);
            let row = Permutation::new(self.rows_per_epoch, key).at(position % self.rows_per_epoch);
            // The offset moves the windows' borders from epoch to epoch, so that no token is always a row's first.
            let offset = keyed_hash(key, u64::MAX) as usize % width;
            let start = (offset + row as usize * width).min(last_start);
            (start, RowId { epoch, row })
        });
        self.rows.windows(self.seq_len, windows)
    }

    /// A fixed subset of at most `max_rows` rows to evaluate on, in the text's order: windows from offset 0, chosen by
    /// the seed.
    ///
    /// # Errors
    /// As [`Batches::training`].
    pub fn evaluation(
        stream: TokenStream,
        seq_len: usize,
        seed: u64,
        max_rows: usize,
    ) -> Result<EvaluationRows, Error> {
        EvaluationRows::new(Rows::Causal(stream), seq_len, seed, max_rows)
    }

    /// The same, masked: always alike.
    ///
    /// # Errors
    /// As [`Batches::masked`].
    pub fn masked_evaluation(
        stream: TokenStream,
        masking: Masking,
        seq_len: usize,
        seed: u64,
        max_rows: usize,
    ) -> Result<EvaluationRows, Error> {
        EvaluationRows::new(Rows::Masked(stream, Arc::new(masking)), seq_len, seed, max_rows)
    }
}

/// Fixed rows that every evaluation of a run measures.
#[derive(Clone, Debug)]
pub struct EvaluationRows {
    rows: Rows,
    seq_len: usize,
    chosen: Vec<u64>,
}

impl EvaluationRows {
    fn new(rows: Rows, seq_len: usize, seed: u64, max_rows: usize) -> Result<Self, Error> {
        let count = rows.count(seq_len)?;
        let permutation = Permutation::new(count, seed);
        let mut chosen: Vec<u64> = (0..count.min(max_rows as u64)).map(|index| permutation.at(index)).collect();
        chosen.sort_unstable();
        Ok(Self { rows, seq_len, chosen })
    }

    /// At most `max_rows` pairs of segments, chosen by `seed`: always alike.
    ///
    /// # Errors
    /// None: a [`SentencePairs`] has a row.
    pub fn next_sentence(pairs: SentencePairs, seed: u64, max_rows: usize) -> Result<Self, Error> {
        let seq_len = pairs.seq_len();
        Self::new(Rows::NextSentence(pairs), seq_len, seed, max_rows)
    }

    /// At most `max_rows` labelled texts, the shortest first.
    pub fn labelled(examples: Examples, seq_len: usize, max_rows: usize) -> Self {
        Self { chosen: examples.by_length(max_rows), rows: Rows::Labelled(examples), seq_len }
    }

    /// At most `max_rows` tagged sentences, the shortest first.
    pub fn tagged(examples: TaggedExamples, seq_len: usize, max_rows: usize) -> Self {
        Self { chosen: examples.by_length(max_rows), rows: Rows::Tagged(examples), seq_len }
    }

    /// At most `max_rows` rows of short documents, always masked alike.
    pub fn documents(rows: DocumentRows, seq_len: usize, max_rows: usize) -> Self {
        Self { chosen: rows.by_length(max_rows), rows: Rows::Documents(rows), seq_len }
    }

    /// At most `max_rows` rows of conversations, the shortest first.
    pub fn chat(examples: ChatExamples, seq_len: usize, max_rows: usize) -> Self {
        Self { chosen: examples.by_length(max_rows), rows: Rows::Chat(examples), seq_len }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.chosen.len()
    }

    /// How many rows they were chosen from.
    pub fn available(&self) -> usize {
        self.rows.count(self.seq_len).map_or(0, |rows| rows as usize)
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.chosen.is_empty()
    }

    /// Some of the rows.
    ///
    /// # Panics
    /// If the range reaches past the rows.
    pub fn at(&self, range: Range<usize>) -> Batch {
        let width = self.rows.window(self.seq_len).map_or(0, |(_, width, _)| width);
        let drawn = matches!(self.rows, Rows::Masked(..) | Rows::NextSentence(_) | Rows::Documents(_));
        let epoch = if drawn { masking::EVALUATION } else { 0 };
        let windows = self.chosen[range].iter().map(|&row| (row as usize * width, RowId { epoch, row }));
        self.rows.windows(self.seq_len, windows)
    }

    /// All rows in order, at most `rows_per_batch` at a time.
    pub fn batches(&self, rows_per_batch: usize) -> impl Iterator<Item = Batch> + '_ {
        let step = rows_per_batch.max(1);
        (0..self.len()).step_by(step).map(move |start| self.at(start..self.len().min(start + step)))
    }
}

/// Non-overlapping blocks of `seq_len` tokens, the remainder dropped: how the loss of a text is taken. A block trains
/// its tokens 2 to `seq_len`, so a batch is `[up to rows_per_batch, seq_len - 1]`. Fewer tokens than one block, or a
/// `seq_len` below 2, give no batch.
pub fn blocks(tokens: &[u32], seq_len: usize, rows_per_batch: usize) -> impl Iterator<Item = Batch> + '_ {
    let count = if seq_len < 2 { 0 } else { tokens.len() / seq_len };
    let step = rows_per_batch.max(1);
    (0..count).step_by(step).map(move |first| {
        let (rows, ids): (Vec<&[u32]>, Vec<RowId>) = (first..count.min(first + step))
            .map(|row| (&tokens[row * seq_len..(row + 1) * seq_len], RowId { epoch: 0, row: row as u64 }))
            .unzip();
        causal(&rows, seq_len - 1, &ids).expect("a block has exactly seq_len tokens")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Target;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// A stream where every token is its own index.
    fn stream(len: u32) -> TokenStream {
        TokenStream::new(&[(0..len).collect()], None)
    }

    fn starts(batch: &Batch) -> Vec<u32> {
        batch.tokens.iter().step_by(batch.shape[1]).copied().collect()
    }

    #[test]
    fn a_text_shorter_than_one_row_is_an_error_with_figures() {
        let error = Batches::training(stream(8), 8, 0).unwrap_err().to_string();
        assert!(error.contains("8 tokens") && error.contains("needs 9") && error.contains("at most 7"), "{error}");
        assert_eq!(Batches::training(stream(9), 8, 0).unwrap().rows_per_epoch(), 1);
        assert!(Batches::training(stream(9), 0, 0).is_err());
        assert!(Batches::evaluation(stream(8), 8, 0, 10).is_err());
    }

    #[test]
    fn epochs_differ_in_order_and_in_offset() {
        let batches = Batches::training(stream(10_001), 100, 7).unwrap();
        let epochs: Vec<Vec<u32>> = (0..4).map(|epoch| starts(&batches.at(epoch * 100, 100))).collect();
        assert_ne!(epochs[0], epochs[1]);
        let offsets: BTreeSet<u32> = epochs.iter().map(|starts| starts.iter().min().unwrap() % 100).collect();
        assert!(offsets.len() > 1, "{offsets:?}");
        let other_seed = Batches::training(stream(10_001), 100, 8).unwrap();
        assert_ne!(epochs[0], starts(&other_seed.at(0, 100)));
    }

    #[test]
    fn blocks_drop_the_remainder_and_train_all_but_their_first_token() {
        let tokens: Vec<u32> = (0..23).collect();
        let batches: Vec<Batch> = blocks(&tokens, 5, 3).collect();
        assert_eq!(batches.iter().map(|batch| batch.shape).collect::<Vec<_>>(), [[3, 4], [1, 4]]);
        assert_eq!(batches[1].tokens, [15, 16, 17, 18]);
        assert_eq!(batches[1].targets, [Target::Tokens(vec![16, 17, 18, 19])]);
        assert_eq!(batches[1].rows, [RowId { epoch: 0, row: 3 }]);
        assert_eq!(blocks(&tokens, 24, 3).count(), 0);
        assert_eq!(blocks(&tokens, 1, 3).count(), 0);
    }

    #[test]
    fn evaluation_rows_are_a_fixed_subset_in_order() {
        let rows = Batches::evaluation(stream(1001), 10, 3, 20).unwrap();
        assert_eq!((rows.len(), rows.available()), (20, 100));
        let begin = starts(&rows.at(0..20));
        assert!(begin.is_sorted() && begin.iter().all(|start| start % 10 == 0));
        assert_eq!(begin, starts(&Batches::evaluation(stream(1001), 10, 3, 20).unwrap().at(0..20)));
        assert_ne!(begin, starts(&Batches::evaluation(stream(1001), 10, 4, 20).unwrap().at(0..20)));
        let batches: Vec<Batch> = rows.batches(8).collect();
        assert_eq!(batches.iter().map(|batch| batch.shape[0]).collect::<Vec<_>>(), [8, 8, 4]);
        assert_eq!(batches.iter().flat_map(starts).collect::<Vec<_>>(), begin);
        let all = Batches::evaluation(stream(1001), 10, 3, usize::MAX).unwrap();
        assert_eq!(starts(&all.at(0..all.len())), (0..1000).step_by(10).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn an_epoch_takes_every_window_once_and_targets_follow_inputs(len in 2..400u32, seq_len in 1..40usize, seed: u64, epoch in 0..5u64) {
            prop_assume!(len as usize > seq_len);
            let batches = Batches::training(stream(len), seq_len, seed).unwrap();
            let rows = batches.rows_per_epoch();
            let batch = batches.at(epoch * rows, rows as usize);
            let seen: BTreeSet<u64> = batch.rows.iter().map(|id| id.row).collect();
            prop_assert_eq!(seen, (0..rows).collect::<BTreeSet<_>>());
            prop_assert!(batch.rows.iter().all(|id| id.epoch == epoch));
            let Target::Tokens(targets) = &batch.targets[0] else { panic!("tokens are trained") };
            prop_assert!(batch.tokens.iter().zip(targets).all(|(token, target)| token + 1 == *target));
            prop_assert!(batch.single_segment());
            // At most the tokens before the offset and behind the last window are left out, fewer than one window each.
            let covered: BTreeSet<u32> = batch.tokens.iter().copied().collect();
            prop_assert!(covered.len() + 2 * seq_len > len as usize);
        }

        #[test]
        fn a_position_gives_the_same_rows_however_they_are_batched(position in 0..200u64, rows in 1..30usize, cut in 0..30usize) {
            let batches = Batches::training(stream(83), 7, 1).unwrap();
            let cut = cut.min(rows);
            let whole = batches.at(position, rows);
            prop_assert_eq!(whole.slice_rows(0..cut), batches.at(position, cut));
            prop_assert_eq!(whole.slice_rows(cut..rows), batches.at(position + cut as u64, rows - cut));
        }
    }
}
