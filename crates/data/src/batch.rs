//! The one shape that every objective is made into.

use std::ops::Range;

/// Names a row: what keys its randomness and what an error names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RowId {
    /// The pass over the data, from 0.
    pub epoch: u64,
    /// The row inside the epoch's plan, from 0.
    pub row: u64,
}

/// What one loss term is trained towards.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// A token id for every position, `[rows, seq]`; the causal shift is already made.
    Tokens(Vec<u32>),
    /// A class id for every row, `[rows]`.
    Classes(Vec<u32>),
    /// For every row 1 at the labels that it has and 0 at the others, `[rows, labels]`.
    MultiHot(Vec<f32>),
    /// A number for every row, `[rows]`.
    Values(Vec<f32>),
}

/// Rows of tokens with everything a model and its loss need to know about them; all `[rows, seq]`, row after row.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// `[rows, seq]`
    pub shape: [usize; 2],
    /// Token ids, `[rows, seq]`.
    pub tokens: Vec<u32>,
    /// `[rows, seq]`: 0 is padding; a token attends only inside its own segment (packing, padding: one rule).
    pub segments: Vec<u32>,
    /// `[rows, seq]`: positions, restarting at 0 at each segment.
    pub positions: Vec<u32>,
    /// `[rows, seq]`: sentence A (0) or B (1), where the objective has sentences.
    pub token_types: Option<Vec<u32>>,
    /// One per loss term.
    pub targets: Vec<Target>,
    /// One per loss term, a weight for every position or every row: 0 trains nothing.
    pub weights: Vec<Vec<f32>>,
    /// `[rows]`
    pub rows: Vec<RowId>,
}

impl Batch {
    /// Whether every token is real and belongs to segment 1, so that the causal mask alone is enough.
    pub fn single_segment(&self) -> bool {
        self.segments.iter().all(|&segment| segment == 1)
    }

    /// The sum of each loss term's weights; summed over a step's micro-batches it is what the term is divided by.
    pub fn trained_weight(&self) -> Vec<f64> {
        self.weights.iter().map(|weights| weights.iter().map(|&weight| f64::from(weight)).sum()).collect()
    }

    /// The share of padding.
    pub fn padding(&self) -> f64 {
        let all = self.segments.len();
        (all - self.read_tokens()) as f64 / all.max(1) as f64
    }

    /// Tokens that are read: all but padding.
    pub fn read_tokens(&self) -> usize {
        self.segments.iter().filter(|segment| **segment != 0).count()
    }

    /// Where each segment begins, among all positions: what a target of a whole segment is predicted from.
    pub fn first_tokens(&self) -> Vec<u32> {
        let begins = |place: &usize| self.segments[*place] != 0 && self.positions[*place] == 0;
        (0..self.tokens.len()).filter(begins).map(|place| place as u32).collect()
    }

    /// The same tokens without padding: one row of all segments. A target of a row becomes that of its segment.
    pub fn unpadded(self) -> Self {
        let seq = self.shape[1].max(1);
        let real: Vec<usize> = (0..self.tokens.len()).filter(|place| self.segments[*place] != 0).collect();
        fn kept<T: Copy>(values: &[T], real: &[usize]) -> Vec<T> {
            real.iter().map(|place| values[*place]).collect()
        }
        let of_token = |term: &Target| matches!(term, Target::Tokens(_));
        let weights = self.targets.iter().zip(self.weights).map(|(target, weights)| match of_token(target) {
            true => kept(&weights, &real),
            false => weights,
        });
        // Segments are numbered anew, over all rows.
        let (mut number, mut last) = (0, None);
        let mut renumbered = |place: &usize| {
            let segment = (place / seq, self.segments[*place]);
            number += u32::from(last.replace(segment) != Some(segment));
            number
        };
        Self {
            shape: [1, real.len()],
            tokens: kept(&self.tokens, &real),
            segments: real.iter().map(&mut renumbered).collect(),
            positions: kept(&self.positions, &real),
            token_types: self.token_types.map(|types| kept(&types, &real)),
            weights: weights.collect(),
            targets: self
                .targets
                .iter()
                .map(|target| match target {
                    Target::Tokens(tokens) => Target::Tokens(kept(tokens, &real)),
                    other => other.clone(),
                })
                .collect(),
            rows: self.rows,
        }
    }

    /// The batch of some of the rows.
    ///
    /// # Panics
    /// If the range reaches past the rows.
    pub fn slice_rows(&self, rows: Range<usize>) -> Self {
        let [count, seq] = self.shape;
        assert!(rows.start <= rows.end && rows.end <= count, "rows {rows:?} of a batch of {count}");
        // A term has the same number of targets in every row: `seq` of them, one, or one a label.
        fn part<T: Clone>(values: &[T], rows: &Range<usize>, count: usize) -> Vec<T> {
            let width = values.len() / count.max(1);
            values[rows.start * width..rows.end * width].to_vec()
        }
        Self {
            shape: [rows.len(), seq],
            tokens: part(&self.tokens, &rows, count),
            segments: part(&self.segments, &rows, count),
            positions: part(&self.positions, &rows, count),
            token_types: self.token_types.as_ref().map(|types| part(types, &rows, count)),
            targets: self
                .targets
                .iter()
                .map(|target| match target {
                    Target::Tokens(tokens) => Target::Tokens(part(tokens, &rows, count)),
                    Target::Classes(classes) => Target::Classes(part(classes, &rows, count)),
                    Target::MultiHot(labels) => Target::MultiHot(part(labels, &rows, count)),
                    Target::Values(values) => Target::Values(part(values, &rows, count)),
                })
                .collect(),
            weights: self.weights.iter().map(|weights| part(weights, &rows, count)).collect(),
            rows: self.rows[rows].to_vec(),
        }
    }

    /// Contiguous parts of nearly equal size, at most `parts` of them and none empty.
    pub fn split(&self, parts: usize) -> Vec<Self> {
        let count = self.shape[0];
        let parts = parts.clamp(1, count.max(1));
        (0..parts).map(|part| self.slice_rows(part * count / parts..(part + 1) * count / parts)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collate::causal;

    fn batch() -> Batch {
        let ids: Vec<RowId> = (0..3).map(|row| RowId { epoch: 0, row }).collect();
        causal(&[&[1, 2, 3, 4], &[5, 6, 7], &[8, 9, 10, 11]], 3, &ids).unwrap()
    }

    #[test]
    fn parts_of_a_batch_hold_its_rows_in_order() {
        let batch = batch();
        for parts in 1..5 {
            let split = batch.split(parts);
            assert_eq!(split.len(), parts.min(3));
            let tokens: Vec<u32> = split.iter().flat_map(|part| part.tokens.clone()).collect();
            let rows: Vec<RowId> = split.iter().flat_map(|part| part.rows.clone()).collect();
            assert_eq!((tokens, rows), (batch.tokens.clone(), batch.rows.clone()));
            let weight: f64 = split.iter().map(|part| part.trained_weight()[0]).sum();
            assert_eq!(weight, batch.trained_weight()[0]);
        }
        let middle = batch.slice_rows(1..2);
        assert_eq!(middle.shape, [1, 3]);
        assert_eq!(middle.targets, [Target::Tokens(vec![6, 7, 0])]);
    }

    #[test]
    fn without_padding_rows_are_segments_of_one_row() {
        let mut batch = batch();
        batch.targets.push(Target::Classes(vec![4, 5, 6]));
        batch.weights.push(vec![1.0, 2.0, 3.0]);
        assert_eq!((batch.first_tokens(), batch.padding()), (vec![0, 3, 6], 1.0 / 9.0));
        let one = batch.unpadded();
        assert_eq!(one.shape, [1, 8]);
        assert_eq!(one.tokens, [1, 2, 3, 5, 6, 8, 9, 10]);
        assert_eq!(one.segments, [1, 1, 1, 2, 2, 3, 3, 3]);
        assert_eq!(one.positions, [0, 1, 2, 0, 1, 0, 1, 2]);
        assert_eq!(one.first_tokens(), [0, 3, 5]);
        assert_eq!(one.targets[0], Target::Tokens(vec![2, 3, 4, 6, 7, 9, 10, 11]));
        assert_eq!((&one.targets[1], one.trained_weight()), (&Target::Classes(vec![4, 5, 6]), vec![8.0, 6.0]));
    }

    #[test]
    fn a_padded_row_makes_a_batch_need_a_mask() {
        let batch = batch();
        assert!(!batch.single_segment());
        assert!(batch.slice_rows(0..1).single_segment());
        assert_eq!(batch.trained_weight(), [8.0]);
    }
}
