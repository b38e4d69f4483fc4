//! Tagged sentences as tokens: the first piece of each word carries the word's tag.

use std::sync::{Arc, LazyLock};

use rayon::prelude::*;
use regex::Regex;

use crate::batch::{Batch, RowId, Target};
use crate::collate::padded;
use crate::error::Error;
use crate::examples::specials;
use crate::length_order::LengthOrder;
use crate::source::tagged::{TaggedSentence, ids_of};
use crate::tokenizer::{Specials, Tokenizer};

/// The least context of a tagger: one token between its special ones.
pub const MIN_SEQ_LEN: usize = 3;

/// A sentence's words as a model reads them.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodedWords {
    /// `[CLS]`, the pieces of all words, `[SEP]`.
    pub tokens: Vec<u32>,
    /// Of each word, where its first piece stands; none for a word that was cut off, or that the tokenizer drops.
    pub first_pieces: Vec<Option<usize>>,
    /// Whether the sentence did not fit whole.
    pub truncated: bool,
}

/// Encodes the words of a sentence one by one for a context of `max_seq_len` tokens; what does not fit is cut at the end.
///
/// # Errors
/// A tokenizer without an encoder's special tokens, a word that it cannot encode, a context too short for one token.
pub fn encode_words(
    tokenizer: &Tokenizer,
    words: &[impl AsRef<str>],
    max_seq_len: usize,
) -> Result<EncodedWords, Error> {
    let Specials { cls, sep, .. } = specials(tokenizer)?;
    if max_seq_len < MIN_SEQ_LEN {
        let message = format!("{max_seq_len} tokens are too few for a word between its special tokens");
        return Err(Error::config("model.bert.max_seq_len", message, "128 is usual"));
    }
    let mut tokens = vec![cls];
    let mut first_pieces = Vec::with_capacity(words.len());
    for word in words {
        let pieces = tokenizer.encode(word.as_ref())?;
        first_pieces.push((!pieces.is_empty() && tokens.len() < max_seq_len - 1).then_some(tokens.len()));
        tokens.extend(pieces);
    }
    let truncated = tokens.len() > max_seq_len - 1;
    tokens.truncate(max_seq_len - 1);
    tokens.push(sep);
    Ok(EncodedWords { tokens, first_pieces, truncated })
}

/// The words of a text that nobody has divided, with the bytes where each stands: what lies between white space, every
/// mark of punctuation and every Han character alone, as BERT's own tokenizer divides text.
pub fn words_of(text: &str) -> Vec<(usize, &str)> {
    static WORD: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\p{Han}|[[\p{L}\p{M}\p{N}]--\p{Han}]+|[^\s]").expect("a constant expression"));
    WORD.find_iter(text).map(|word| (word.start(), word.as_str())).collect()
}

/// A sentence as a model learns it.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    tokens: Vec<u32>,
    /// The tag of each token that is a word's first piece.
    tags: Vec<Option<u32>>,
}

/// Encoded tagged sentences; cheap to clone.
#[derive(Clone, Debug)]
pub struct TaggedExamples {
    rows: Arc<[Row]>,
    pad: u32,
    order: LengthOrder,
    truncated: usize,
    /// Words whose tag no token carries.
    unread: usize,
}

impl TaggedExamples {
    /// Encodes sentences for a context of `max_seq_len` tokens; the ends of longer ones are cut off.
    ///
    /// # Errors
    /// As [`encode_words`]; a tag that is not among `tags`.
    pub fn new(
        tokenizer: &Tokenizer,
        sentences: &[TaggedSentence],
        tags: &[String],
        max_seq_len: usize,
        seed: u64,
    ) -> Result<Self, Error> {
        let pad = specials(tokenizer)?.pad;
        let encode = |sentence: &TaggedSentence| {
            let words = encode_words(tokenizer, &sentence.words, max_seq_len)?;
            let mut of_tokens = vec![None; words.tokens.len()];
            for (first, tag) in words.first_pieces.iter().zip(ids_of(tags, sentence)?) {
                if let Some(place) = first {
                    of_tokens[*place] = Some(tag);
                }
            }
            let unread = words.first_pieces.iter().filter(|first| first.is_none()).count();
            Ok((Row { tokens: words.tokens, tags: of_tokens }, words.truncated, unread))
        };
        let encoded = sentences.par_iter().map(encode).collect::<Result<Vec<_>, Error>>()?;
        let truncated = encoded.iter().filter(|(_, truncated, _)| *truncated).count();
        let unread = encoded.iter().map(|(.., unread)| unread).sum();
        let rows: Arc<[Row]> = encoded.into_iter().map(|(row, ..)| row).collect();
        let order = LengthOrder::new(rows.iter().map(|row| row.tokens.len()), seed);
        Ok(Self { rows, pad, order, truncated, unread })
    }

    /// How many sentences there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// All tokens together.
    pub fn tokens(&self) -> usize {
        self.order.tokens()
    }

    /// The longest sentence, in tokens.
    pub fn longest(&self) -> usize {
        self.order.longest()
    }

    /// Sentences that did not fit whole.
    pub fn truncated(&self) -> usize {
        self.truncated
    }

    /// Words whose tag is neither trained nor measured: they were cut off, or the tokenizer drops them, as it does white
    /// space.
    pub fn unread_words(&self) -> usize {
        self.unread
    }

    /// The share of padding in batches of `rows` rows over the first epoch.
    pub fn padding_share(&self, rows: usize) -> f64 {
        self.order.padding_share(rows)
    }

    /// The rows behind the first `position` rows of a run.
    pub(crate) fn at(&self, position: u64, rows: usize) -> Batch {
        self.batch(self.order.rows(position, rows))
    }

    /// At most `most` sentences, the shortest first.
    pub(crate) fn by_length(&self, most: usize) -> Vec<u64> {
        self.order.by_length(most)
    }

    /// These sentences, padded to the longest of them: one term of tag ids, which only first pieces weigh in.
    pub(crate) fn batch(&self, ids: Vec<RowId>) -> Batch {
        let rows: Vec<&Row> = ids.iter().map(|id| &self.rows[id.row as usize]).collect();
        let tokens: Vec<(&[u32], usize)> = rows.iter().map(|row| (&row.tokens[..], row.tokens.len())).collect();
        let mut batch = padded(&tokens, self.pad, ids);
        let width = batch.shape[1];
        let padded_tags = |row: &&Row| {
            let missing = width - row.tags.len();
            row.tags.iter().copied().chain(std::iter::repeat_n(None, missing)).collect::<Vec<_>>()
        };
        let tags: Vec<Option<u32>> = rows.iter().flat_map(padded_tags).collect();
        batch.targets = vec![Target::Tokens(tags.iter().map(|tag| tag.unwrap_or(0)).collect())];
        batch.weights = vec![tags.iter().map(|tag| if tag.is_some() { 1.0 } else { 0.0 }).collect()];
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_divided_at_white_space_punctuation_and_han_characters() {
        let words: Vec<&str> =
            words_of("Dr. Müller-Lü lives\nin 北京, OK?").into_iter().map(|(_, word)| word).collect();
        assert_eq!(words, ["Dr", ".", "Müller", "-", "Lü", "lives", "in", "北", "京", ",", "OK", "?"]);
        assert_eq!(words_of("ab c")[1], (3, "c"));
    }
    use crate::batches::{Batches, EvaluationRows};
    use std::collections::BTreeSet;

    fn tokenizer() -> Tokenizer {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vocab.txt");
        std::fs::write(&path, "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nlow\n##er\n##est\nthe\n-\n很\n好\n").unwrap();
        Tokenizer::from_file(&path).unwrap()
    }

    fn sentence(words: &str, tags: &str) -> TaggedSentence {
        let list = |text: &str| text.split(' ').map(Into::into).collect();
        TaggedSentence { words: list(words), tags: list(tags), place: ("f".into(), 1) }
    }

    fn tags() -> Vec<String> {
        ["O", "B-X", "I-X"].map(Into::into).to_vec()
    }

    fn examples(sentences: &[TaggedSentence], max_seq_len: usize) -> TaggedExamples {
        TaggedExamples::new(&tokenizer(), sentences, &tags(), max_seq_len, 7).unwrap()
    }

    #[test]
    fn only_the_first_piece_of_a_word_carries_its_tag() {
        let sentences = [sentence("the lower-lowest low", "O B-X I-X"), sentence("low 很好 z", "B-X I-X O")];
        let examples = examples(&sentences, 20);
        let batch = examples.batch(vec![RowId { epoch: 0, row: 0 }, RowId { epoch: 0, row: 1 }]);
        assert_eq!(batch.shape, [2, 9]);
        assert_eq!(batch.tokens, [2, 8, 5, 6, 9, 5, 7, 5, 3, 2, 5, 10, 11, 1, 3, 0, 0, 0]);
        let Target::Tokens(targets) = &batch.targets[0] else { panic!("tags stand at tokens") };
        assert_eq!(targets[..], [0, 0, 1, 0, 0, 0, 0, 2, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0]);
        let weights = [0, 1, 1, 0, 0, 0, 0, 1, 0, 0, 1, 1, 0, 1, 0, 0, 0, 0];
        assert_eq!(batch.weights, [weights.map(|weight| weight as f32)]);
        assert_eq!(batch.segments[9..], [1, 1, 1, 1, 1, 1, 0, 0, 0]);
        assert_eq!(batch.token_types, Some(vec![0; 18]));
        assert_eq!((examples.truncated(), examples.unread_words(), examples.longest()), (0, 0, 9));
    }

    #[test]
    fn what_does_not_fit_is_cut_at_the_end_and_counted() {
        let encoded = encode_words(&tokenizer(), &["low", "\u{3000}", "lowest", "the"], 5).unwrap();
        assert_eq!(encoded.tokens, [2, 5, 5, 7, 3]);
        assert_eq!(encoded.first_pieces, [Some(1), None, Some(2), None]);
        assert!(encoded.truncated);
        let sentences = [sentence("low lowest the", "O O B-X"), sentence("low", "O")];
        let cut = examples(&sentences, 5);
        assert_eq!((cut.truncated(), cut.unread_words(), cut.longest()), (1, 1, 5));
        assert_eq!(cut.batch(vec![RowId { epoch: 0, row: 0 }]).trained_weight(), [2.0]);
        assert!(encode_words(&tokenizer(), &["low"], 2).is_err());
        let long = encode_words(&tokenizer(), &["low".repeat(100_000)], 16).unwrap();
        assert_eq!(long.tokens, [2, 1, 3]);
    }

    #[test]
    fn an_unknown_tag_is_an_error_at_its_line() {
        let error =
            TaggedExamples::new(&tokenizer(), &[sentence("low", "B-Y")], &tags(), 9, 7).unwrap_err().to_string();
        assert!(error.contains("f:1: the tag `B-Y`"), "{error}");
    }

    #[test]
    fn epochs_take_each_sentence_once_by_like_length_whatever_the_size_of_batches() {
        let many: Vec<TaggedSentence> = (0..600)
            .map(|i| sentence(&["low"; 30][..1 + i * i % 29].join(" "), &["O"; 30][..1 + i * i % 29].join(" ")))
            .collect();
        let examples = examples(&many, 40);
        assert!(examples.padding_share(32) < 0.12, "{}", examples.padding_share(32));
        let batches = Batches::tagged(examples.clone(), 40).unwrap();
        assert_eq!((batches.rows_per_epoch(), batches.seq_len()), (600, 40));
        let rows = |size: usize, epoch: u64| -> Vec<u64> {
            (0..600 / size as u64)
                .flat_map(|i| batches.at(epoch * 600 + i * size as u64, size).rows)
                .map(|id| id.row)
                .collect()
        };
        assert_eq!(rows(1, 0), rows(50, 0));
        assert_ne!(rows(50, 0), rows(50, 1));
        assert_eq!(rows(50, 1).into_iter().collect::<BTreeSet<_>>().len(), 600);
        let evaluation = EvaluationRows::tagged(examples, 40, 100);
        assert_eq!(evaluation.len(), 100);
        let widths: Vec<usize> = evaluation.batches(10).map(|batch| batch.shape[1]).collect();
        assert!(widths.is_sorted() && widths.len() == 10);
        assert!(Batches::tagged(TaggedExamples::new(&tokenizer(), &[], &tags(), 9, 7).unwrap(), 9).is_err());
    }
}
