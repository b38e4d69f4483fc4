//! Makes rows of tokens into a batch: one function an objective.

use crate::batch::{Batch, RowId, Target};
use crate::error::Error;

/// Causal language modelling: each position is trained towards the token behind it.
///
/// # Shapes
/// - `rows`: each up to `seq_len + 1` tokens; n tokens give n - 1 inputs and targets, the rest of the row is padding
///   (token 0, segment 0, weight 0)
/// - `ids`: one for each row
/// - returns `[rows, seq_len]`, one loss term
///
/// # Errors
/// A row that does not fit.
///
/// # Panics
/// If there are not as many ids as rows.
pub fn causal(rows: &[&[u32]], seq_len: usize, ids: &[RowId]) -> Result<Batch, Error> {
    assert_eq!(rows.len(), ids.len(), "one id for each row");
    let size = rows.len() * seq_len;
    let mut tokens = Vec::with_capacity(size);
    let mut segments = Vec::with_capacity(size);
    let mut positions = Vec::with_capacity(size);
    let mut targets = Vec::with_capacity(size);
    let mut weights = Vec::with_capacity(size);
    for (index, row) in rows.iter().enumerate() {
        let length = row.len().saturating_sub(1);
        if length > seq_len {
            return Err(Error::RowTooLong { row: index, tokens: row.len(), seq_len });
        }
        let end = (index + 1) * seq_len;
        tokens.extend_from_slice(&row[..length]);
        targets.extend_from_slice(row.get(1..).unwrap_or_default());
        positions.extend(0..length as u32);
        segments.resize(segments.len() + length, 1);
        weights.resize(weights.len() + length, 1.0);
        for values in [&mut tokens, &mut targets, &mut positions, &mut segments] {
            values.resize(end, 0);
        }
        weights.resize(end, 0.0);
    }
    Ok(Batch {
        shape: [rows.len(), seq_len],
        tokens,
        segments,
        positions,
        token_types: None,
        targets: vec![Target::Tokens(targets)],
        weights: vec![weights],
        rows: ids.to_vec(),
    })
}

/// Rows of an encoder, filled up with `pad` to the longest of them: no targets yet.
///
/// # Shapes
/// - `rows`: each with the place where its second sentence begins, or its length
/// - returns `[rows, longest]`
pub(crate) fn padded(rows: &[(&[u32], usize)], pad: u32, ids: Vec<RowId>) -> Batch {
    let width = rows.iter().map(|(row, _)| row.len()).max().unwrap_or(0);
    let size = rows.len() * width;
    let mut batch = Batch {
        shape: [rows.len(), width],
        tokens: Vec::with_capacity(size),
        segments: Vec::with_capacity(size),
        positions: Vec::with_capacity(size),
        token_types: Some(Vec::with_capacity(size)),
        targets: Vec::new(),
        weights: Vec::new(),
        rows: ids,
    };
    for (index, (row, second)) in rows.iter().enumerate() {
        let end = (index + 1) * width;
        batch.tokens.extend_from_slice(row);
        batch.tokens.resize(end, pad);
        batch.segments.resize(batch.segments.len() + row.len(), 1);
        batch.segments.resize(end, 0);
        batch.positions.extend(0..row.len() as u32);
        batch.positions.resize(end, 0);
        if let Some(types) = &mut batch.token_types {
            types.extend((0..row.len()).map(|place| u32::from(place >= *second)));
            types.resize(end, 0);
        }
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(count: u64) -> Vec<RowId> {
        (0..count).map(|row| RowId { epoch: 2, row }).collect()
    }

    #[test]
    fn targets_are_the_tokens_one_further() {
        let batch = causal(&[&[1, 2, 3, 4], &[5, 6, 7, 8]], 3, &ids(2)).unwrap();
        assert_eq!(batch.shape, [2, 3]);
        assert_eq!(batch.tokens, [1, 2, 3, 5, 6, 7]);
        assert_eq!(batch.targets, [Target::Tokens(vec![2, 3, 4, 6, 7, 8])]);
        assert_eq!(batch.positions, [0, 1, 2, 0, 1, 2]);
        assert_eq!(batch.weights, [vec![1.0; 6]]);
        assert!(batch.single_segment());
        assert_eq!(batch.rows, ids(2));
    }

    #[test]
    fn rows_of_different_lengths_are_padded_with_segment_and_weight_zero() {
        let batch = causal(&[&[1, 2, 3], &[4, 5, 6, 7], &[8], &[]], 3, &ids(4)).unwrap();
        assert_eq!(batch.tokens, [1, 2, 0, 4, 5, 6, 0, 0, 0, 0, 0, 0]);
        assert_eq!(batch.targets, [Target::Tokens(vec![2, 3, 0, 5, 6, 7, 0, 0, 0, 0, 0, 0])]);
        assert_eq!(batch.segments, [1, 1, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(batch.weights[0], [1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(batch.trained_weight(), [5.0]);
    }

    #[test]
    fn a_row_that_does_not_fit_is_an_error() {
        let error = causal(&[&[1], &[1, 2, 3, 4]], 2, &ids(2)).unwrap_err().to_string();
        assert!(error.contains("row 1 of the batch has 4 tokens, at most 3 fit"), "{error}");
    }
}
