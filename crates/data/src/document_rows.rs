//! Short documents for masked language modelling: whole, several in a row, none of which sees another.
//!
//! In a window over neighbouring documents a token would be guessed from documents that say nothing of it, at positions
//! that mean nothing: small encoders then learn no more than how frequent each token is.

use std::sync::Arc;

use crate::batch::{Batch, RowId};
use crate::collate::padded;
use crate::error::Error;
use crate::length_order::LengthOrder;
use crate::masking::Masking;
use crate::packing::pack;
use crate::tokenizer::SubwordSampler;

/// Packed documents and their masks; cheap to clone.
#[derive(Clone, Debug)]
pub struct DocumentRows {
    /// `[CLS] document [SEP]`, or a part of one that is too long.
    pieces: Arc<[Vec<u32>]>,
    /// The pieces of each row.
    rows: Arc<[Vec<u32>]>,
    order: LengthOrder,
    masking: Arc<Masking>,
    seq_len: usize,
    sampling: Option<Arc<Sampling>>,
}

/// What documents are cut in other tokens with, in every epoch.
#[derive(Debug)]
struct Sampling {
    sampler: SubwordSampler,
    /// The document of each piece that is a whole one, and its number, by which its tokens are drawn.
    documents: Vec<Option<(u64, String)>>,
}

impl DocumentRows {
    /// Whether documents of these tokens are so short that rows should hold whole ones: nine of ten fit.
    pub fn suits(documents: &[Vec<u32>], seq_len: usize) -> bool {
        let fits = documents.iter().filter(|document| document.len() + Masking::AROUND <= seq_len).count();
        documents.len() > 1 && seq_len > Masking::AROUND && 10 * fits >= 9 * documents.len()
    }

    /// Rows of at most `seq_len` tokens; longer documents are cut in parts.
    ///
    /// # Panics
    /// If a row has no room beside the special tokens.
    pub fn new(documents: &[Vec<u32>], masking: Masking, seq_len: usize, seed: u64) -> Self {
        let room = seq_len.checked_sub(Masking::AROUND).filter(|room| *room > 0).expect("room for a token");
        let parts = documents.iter().flat_map(|document| document.chunks(room));
        let pieces: Vec<Vec<u32>> = parts.map(|part| masking.between_specials(part)).collect();
        let lengths: Vec<usize> = pieces.iter().map(Vec::len).collect();
        let rows = pack(&lengths, seq_len, seed);
        let of_row = |row: &Vec<u32>| row.iter().map(|piece| lengths[*piece as usize]).sum::<usize>();
        let order = LengthOrder::new(rows.iter().map(of_row), seed);
        Self { pieces: pieces.into(), rows: rows.into(), order, masking: Arc::new(masking), seq_len, sampling: None }
    }

    /// The same of texts whose tokens are drawn, others in every epoch: what does not fit the row of its document is left
    /// out. Longer documents, which are cut in parts, keep their tokens.
    ///
    /// # Errors
    /// A text that cannot be encoded.
    ///
    /// # Panics
    /// If a row has no room beside the special tokens.
    pub fn sampled(
        texts: &[String],
        sampler: SubwordSampler,
        masking: Masking,
        seq_len: usize,
        seed: u64,
    ) -> Result<Self, Error> {
        use rayon::prelude::*;
        // Rows are as full as the documents of one draw make them.
        let ids = (0..).map(|row| RowId { epoch: 0, row });
        let drawn = texts.iter().zip(ids).collect::<Vec<_>>().into_par_iter();
        let documents: Vec<Vec<u32>> = drawn.map(|(text, id)| sampler.encode(text, id, 0)).collect::<Result<_, _>>()?;
        let plain = Self::new(&documents, masking, seq_len, seed);
        let of_piece = (0..).zip(texts).zip(&documents).flat_map(|((number, text), tokens)| {
            let parts = tokens.len().div_ceil(seq_len - Masking::AROUND);
            std::iter::repeat_n((parts == 1).then(|| (number, text.clone())), parts)
        });
        let sampling = Sampling { sampler, documents: of_piece.collect() };
        Ok(Self { sampling: Some(Arc::new(sampling)), ..plain })
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Tokens of all rows, the special ones among them.
    pub fn tokens(&self) -> usize {
        self.order.tokens()
    }

    /// The share of padding in batches of `rows` rows over the first epoch.
    pub fn padding_share(&self, rows: usize) -> f64 {
        self.order.padding_share(rows)
    }

    /// The rows behind the first `position` rows of a run.
    pub(crate) fn at(&self, position: u64, rows: usize) -> Batch {
        let ids = self.order.rows(position, rows);
        match &self.sampling {
            None => self.batch(ids),
            Some(sampling) => {
                let drawn: Vec<Vec<Vec<u32>>> = ids.iter().map(|id| self.drawn(sampling, *id)).collect();
                self.masked(&drawn, ids)
            }
        }
    }

    /// The documents of a row in the tokens of its epoch.
    fn drawn(&self, sampling: &Sampling, id: RowId) -> Vec<Vec<u32>> {
        let mut room = self.seq_len;
        let mut drawn = Vec::new();
        for piece in &self.rows[id.row as usize] {
            let plain = &self.pieces[*piece as usize];
            let again = sampling.documents[*piece as usize]
                .as_ref()
                .map(|(row, text)| sampling.sampler.encode(text, RowId { epoch: id.epoch, row: *row }, 0));
            let mut tokens = match again {
                Some(Ok(tokens)) => tokens,
                // It was encoded once; and parts of documents stay as they are.
                Some(Err(_)) | None => plain[1..plain.len() - 1].to_vec(),
            };
            tokens.truncate(room.saturating_sub(Masking::AROUND));
            if !tokens.is_empty() {
                let tokens = self.masking.between_specials(&tokens);
                room -= tokens.len();
                drawn.push(tokens);
            }
        }
        drawn
    }

    /// At most `most` rows, for evaluations: by length.
    pub(crate) fn by_length(&self, most: usize) -> Vec<u64> {
        self.order.by_length(most)
    }

    /// These rows with their own tokens, masked.
    pub(crate) fn batch(&self, ids: Vec<RowId>) -> Batch {
        let of_row = |id: &RowId| self.rows[id.row as usize].iter().map(|piece| &self.pieces[*piece as usize][..]);
        self.masked(&ids.iter().map(|id| of_row(id).collect::<Vec<_>>()).collect::<Vec<_>>(), ids)
    }

    /// Rows of documents, masked: each is a segment whose positions begin at 0.
    fn masked<D: AsRef<[u32]>>(&self, documents: &[Vec<D>], ids: Vec<RowId>) -> Batch {
        let rows: Vec<Vec<u32>> =
            documents.iter().map(|row| row.iter().flat_map(|document| document.as_ref()).copied().collect()).collect();
        let row_ends: Vec<(&[u32], usize)> = rows.iter().map(|row| (&row[..], row.len())).collect();
        let mut batch = padded(&row_ends, self.masking.pad(), ids);
        let width = batch.shape[1];
        for (index, row) in documents.iter().enumerate() {
            let mut place = index * width;
            for (segment, document) in (1..).zip(row) {
                for position in 0..document.as_ref().len() {
                    batch.segments[place] = segment;
                    batch.positions[place] = position as u32;
                    place += 1;
                }
            }
        }
        self.masking.hide(&mut batch, rows.iter().map(Vec::len));
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tokenizer;
    use crate::batch::Target;
    use crate::config::{BertTokenizerConfig, TokenLevel, TokenizerConfig};
    use std::collections::BTreeSet;

    #[test]
    fn every_document_stands_whole_in_a_segment_of_its_own_and_no_special_token_is_chosen() {
        let config = BertTokenizerConfig { vocab_size: 60, min_frequency: 1, lowercase: true, level: TokenLevel::Char };
        let tokenizer = Tokenizer::train(&TokenizerConfig::Bert(config), &["abcdefghij".into()], false).unwrap();
        let texts: Vec<String> =
            (0..200).map(|i| "abcdefghij".chars().cycle().skip(i).take(1 + i * i % 23).collect()).collect();
        let documents = tokenizer.encode_all(&texts).unwrap();
        assert!(DocumentRows::suits(&documents, 40) && !DocumentRows::suits(&documents, 12));
        assert!(!DocumentRows::suits(&documents[..1], 40));
        let masking = Masking::new(&Default::default(), &tokenizer, 3).unwrap();
        let rows = DocumentRows::new(&documents, masking, 40, 5);
        let batch = rows.at(0, rows.len());
        let Target::Tokens(targets) = &batch.targets[0] else { panic!("tokens are guessed") };
        let mut found: Vec<Vec<u32>> = Vec::new();
        for (place, target) in targets.iter().enumerate().filter(|(place, _)| batch.segments[*place] != 0) {
            if batch.positions[place] == 0 {
                found.push(Vec::new());
            }
            found.last_mut().unwrap().push(*target);
            assert!(batch.weights[0][place] == 0.0 || *target > 4);
        }
        let inner = |piece: &Vec<u32>| piece[1..piece.len() - 1].to_vec();
        let mut expected = documents.clone();
        let mut found: Vec<Vec<u32>> = found.iter().map(inner).collect();
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
        assert!(rows.padding_share(4) < 0.1, "{}", rows.padding_share(4));
        let chosen: f32 = batch.weights[0].iter().sum();
        assert!(chosen > 100.0);
        // Other masks in another epoch, the same for the same row.
        let of_epoch = |epoch| rows.batch(vec![RowId { epoch, row: 0 }]).tokens;
        assert_eq!(of_epoch(1), of_epoch(1));
        assert_eq!((0..9).map(of_epoch).collect::<BTreeSet<_>>().len(), 9);
        // One row of segments computes as they do.
        let one = batch.clone().unpadded();
        assert_eq!(one.first_tokens().len(), 200);
        assert_eq!(one.trained_weight(), batch.trained_weight());
    }

    #[test]
    fn drawn_tokens_change_with_the_epoch_stay_within_the_row_and_spell_the_same_documents() {
        use crate::config::SubwordsConfig;
        let text = |first: usize, count: usize| -> String {
            "味道很好吃还好吃的好吃不好吃".chars().cycle().skip(first).take(count).collect()
        };
        // An empty one and one to be cut in parts stand before the others.
        let mut texts = vec![String::new(), text(3, 90)];
        texts.extend((0..60).map(|i| text(i, 1 + i * i % 13)));
        let config =
            BertTokenizerConfig { vocab_size: 24, min_frequency: 1, lowercase: true, level: TokenLevel::Unigram };
        let tokenizer = Tokenizer::train(&TokenizerConfig::Bert(config), &texts, false).unwrap();
        let sampler = SubwordSampler::new(&SubwordsConfig { alpha: 0.3 }, &tokenizer, 1).unwrap();
        let masking = Masking::new(&Default::default(), &tokenizer, 3).unwrap();
        let rows = DocumentRows::sampled(&texts, sampler, masking, 24, 5).unwrap();
        let shown = |epoch: u64| {
            let batch = rows.at(epoch * rows.len() as u64, rows.len());
            assert!(batch.shape[1] <= 24);
            let Target::Tokens(targets) = batch.targets[0].clone() else { panic!("tokens are guessed") };
            let mut documents: Vec<Vec<u32>> = Vec::new();
            for (place, target) in targets.into_iter().enumerate().filter(|(place, _)| batch.segments[*place] != 0) {
                match batch.positions[place] {
                    0 => documents.push(Vec::new()),
                    _ => documents.last_mut().unwrap().push(target),
                }
            }
            documents.iter_mut().for_each(|document| assert_eq!(document.pop(), Some(3)));
            documents.sort();
            documents
        };
        let spelled = |documents: &[Vec<u32>]| -> BTreeSet<String> {
            documents.iter().map(|ids| tokenizer.decode(ids).unwrap()).collect()
        };
        assert_eq!(shown(0), shown(0));
        assert_ne!(shown(0), shown(1));
        // In the first epoch everything fits.
        let all: BTreeSet<String> = texts[2..].iter().cloned().collect();
        let first = spelled(&shown(0));
        assert!(first.is_superset(&all));
        let parts: Vec<&String> = first.difference(&all).collect();
        assert!(parts.len() > 1 && parts.iter().all(|part| texts[1].contains(*part)), "{parts:?}");
        let later: BTreeSet<String> = spelled(&shown(1)).into_iter().filter(|text| !parts.contains(&text)).collect();
        let whole = later.iter().filter(|text| all.contains(*text)).count();
        assert!(10 * whole >= 9 * later.len(), "{whole} of {}", later.len());
        assert!(later.iter().all(|text| all.iter().any(|document| document.starts_with(text))));
    }
}
