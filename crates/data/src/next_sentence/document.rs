//! A document in sentences, and the places of it that rows begin at.

use super::Draws;
use crate::error::Error;
use crate::sentences::sentences;
use crate::tokenizer::Tokenizer;

/// A document's tokens and where its sentences begin.
#[derive(Debug)]
pub struct Document {
    pub tokens: Vec<u32>,
    /// As many as sentences, and the end.
    borders: Vec<usize>,
    /// The last sentence that a row may begin with: what follows fills the row, and is two sentences at least.
    last_start: usize,
}

impl Document {
    pub fn new(tokenizer: &Tokenizer, text: &str, room: usize) -> Result<Self, Error> {
        let (mut tokens, mut borders) = (Vec::new(), vec![0]);
        for sentence in sentences(text) {
            let pieces = tokenizer.encode(sentence)?;
            // What has no end in sight, as a text without punctuation, is cut in equal parts that fit.
            let parts = pieces.len().div_ceil(room);
            for part in 1..=parts {
                borders.push(tokens.len() + part * pieces.len() / parts);
            }
            tokens.extend(pieces);
        }
        let fills = borders.partition_point(|border| tokens.len() - border >= room).saturating_sub(1);
        let last_start = fills.min(borders.len().saturating_sub(3));
        Ok(Self { tokens, borders, last_start })
    }

    pub fn sentences(&self) -> usize {
        self.borders.len() - 1
    }

    /// The sentence behind the last that brings those from `first` on to at least `length` tokens, if there are as many.
    pub fn until(&self, first: usize, length: usize) -> usize {
        let wanted = self.borders[first] + length;
        self.borders.partition_point(|border| *border < wanted).clamp(first + 1, self.sentences())
    }

    /// The sentence that one of a document's rows begins with: each has its share of the tokens, and where in it the row
    /// begins differs from epoch to epoch.
    pub fn start(&self, row: u64, rows: u64, draws: &mut Draws) -> usize {
        let share = |row: u64| (row as u128 * self.tokens.len() as u128 / u128::from(rows.max(1))) as usize;
        let (from, to) = (share(row), share(row + 1));
        // Half a share to either side, so that a document's first and last sentences are read as often as others.
        let token = (from + draws.below(to - from)).saturating_sub((to - from) / 2);
        (self.borders.partition_point(|border| *border <= token) - 1).min(self.last_start)
    }

    pub fn text(&self, first: usize, behind: usize) -> &[u32] {
        &self.tokens[self.borders[first]..self.borders[behind]]
    }
}
