//! Short documents for masked language modelling: whole, several in a row, none of which sees another.
//!
//! In a window over neighbouring documents a token would be guessed from documents that say nothing of it, at positions
//! that mean nothing: small encoders then learn no more than how frequent each token is.

use std::sync::Arc;

use crate::batch::{Batch, RowId};
use crate::collate::padded;
use crate::length_order::LengthOrder;
use crate::masking::Masking;
use crate::packing::pack;

/// Packed documents and their masks; cheap to clone.
#[derive(Clone, Debug)]
pub struct DocumentRows {
    /// `[CLS] document [SEP]`, or a part of one that is too long.
    pieces: Arc<[Vec<u32>]>,
    /// The pieces of each row.
    rows: Arc<[Vec<u32>]>,
    order: LengthOrder,
    masking: Arc<Masking>,
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
        Self { pieces: pieces.into(), rows: rows.into(), order, masking: Arc::new(masking) }
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
        self.batch(self.order.rows(position, rows))
    }

    /// At most `most` rows, for evaluations: by length.
    pub(crate) fn by_length(&self, most: usize) -> Vec<u64> {
        self.order.by_length(most)
    }

    /// These rows, masked: every document is a segment whose positions begin at 0.
    pub(crate) fn batch(&self, ids: Vec<RowId>) -> Batch {
        let of_row = |id: &RowId| self.rows[id.row as usize].iter().map(|piece| &self.pieces[*piece as usize][..]);
        let rows: Vec<Vec<u32>> = ids.iter().map(|id| of_row(id).collect::<Vec<_>>().concat()).collect();
        let row_ends: Vec<(&[u32], usize)> = rows.iter().map(|row| (&row[..], row.len())).collect();
        let mut batch = padded(&row_ends, self.masking.pad(), ids.clone());
        let width = batch.shape[1];
        for (index, id) in ids.iter().enumerate() {
            let mut place = index * width;
            for (segment, piece) in (1..).zip(of_row(id)) {
                for position in 0..piece.len() {
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
}
