//! The rows of an attention sublayer: whole elements of the batch.
//!
//! The backward pass computes the normalized input again.

use super::NormPlace;
use super::layers::{Layers, of_output};
use super::rows::{BackwardRows, ForwardRows, Group, cut, nth, split, split_mut, zeroed};
use crate::attention::{Saved, Shape, backward_heads, forward_heads};
use crate::product::{Matrix, Shared, with_scratch, written_slice};
use rayon::prelude::*;

/// How heads attend.
pub(super) struct Heads<'a> {
    pub shape: Shape,
    /// Of all positions.
    pub segments: Option<&'a [i32]>,
}

impl Heads<'_> {
    /// Numbers kept of each row: queries, keys and values, what the heads give, the logarithms of their softmaxes'
    /// denominators, mean and one over the deviation of what is normalized, and the sum that is normalized, if the input
    /// is not.
    pub fn kept(&self, layers: &Layers) -> [usize; 5] {
        let d = layers.d_model();
        [3 * d, d, self.shape.n_head, 2, if layers.normalizes(NormPlace::After) { d } else { 0 }]
    }

    /// Those of a group, and their segments.
    fn of(&self, group: Group) -> (Shape, Option<&[i32]>) {
        let (Group { first, rows, .. }, seq) = (group, self.shape.seq);
        let segments = self.segments.map(|segments| &segments[first..first + rows]);
        (self.shape.elements(first / seq..(first + rows) / seq), segments)
    }
}

/// As [`Half::forward`](super::rows::Half).
pub(super) fn forward(layers: &Layers, heads: &Heads, group: Group, weights: &[Shared], rows: ForwardRows) {
    let ForwardRows { x, kept: memory, y } = rows;
    let (d, Group { first, rows, height }) = (layers.d_model(), group);
    let [qkv, outputs, log_totals, statistics, sum] = split_mut(memory, rows, heads.kept(layers));
    let statistics = zeroed(statistics);
    let tasks = (x.par_chunks(height * d), qkv.par_chunks_mut(height * 3 * d), statistics.par_chunks_mut(height * 2));
    tasks.into_par_iter().with_max_len(1).for_each(|(x, qkv, statistics)| {
        let of_n = if layers.normalizes(NormPlace::Before) { x.len() } else { 0 };
        with_scratch(2, of_n, |n| layers.enter(&weights[0], x, n, statistics, qkv));
    });
    let (shape, segments) = heads.of(group);
    // SAFETY: the pieces cover all rows, and `enter` writes all of them.
    forward_heads(unsafe { written_slice(qkv) }, segments, shape, outputs, zeroed(log_totals));
    // SAFETY: `forward_heads` has written every number.
    let outputs: &[f32] = unsafe { written_slice(outputs) };
    let tasks = (
        x.par_chunks(height * d),
        outputs.par_chunks(height * d),
        cut(sum, height * d, rows.div_ceil(height)),
        statistics.par_chunks_mut(height * 2),
        y.par_chunks_mut(height * d),
    );
    tasks.into_par_iter().enumerate().with_max_len(1).for_each(|(i, (x, outputs, sum, statistics, y))| {
        layers.leave(&weights[1], first + i * height, x, outputs, sum, statistics, y);
    });
}

/// As [`Half::backward`](super::rows::Half).
pub(super) fn backward(layers: &Layers, heads: &Heads, group: Group, weights: &[Shared], rows: BackwardRows) {
    let BackwardRows { x, kept: memory, dy, operands, dx, sums } = rows;
    let (d, Group { first, rows, height }) = (layers.d_model(), group);
    let pieces = rows.div_ceil(height);
    let [qkv, outputs, log_totals, statistics, sum] = split(memory, rows, heads.kept(layers));
    let before = layers.normalizes(NormPlace::Before);
    // Of each row: the gradients that the rule makes others than `dy`, and the normalized input.
    let (of_sum, of_out) = (if before { 0 } else { d }, if layers.rule.dropout.is_some() { d } else { 0 });
    let widths = [d, 3 * d, of_sum, of_out, if before { d } else { 0 }];
    let [to_in, to_d_qkv, to_outputs, to_out] = operands;
    with_scratch(2, rows * widths.iter().sum::<usize>(), |memory| {
        let [d_outputs, d_qkv, d_sum, d_out, n] = split_mut(memory, rows, widths);
        let tasks = (
            dy.par_chunks(height * d),
            cut(d_sum, height * d, pieces),
            cut(d_out, height * d, pieces),
            d_outputs.par_chunks_mut(height * d),
            sums.par_chunks_mut(layers.sums_len()),
        );
        let tasks = tasks.into_par_iter().enumerate().with_max_len(1);
        tasks.for_each(|(i, (dy, d_sum, d_out, d_outputs, sums))| {
            let summed = (nth(sum, height * d, i), nth(statistics, height * 2, i));
            let (first_row, mut sums) = (first + i * height, layers.sums(sums));
            layers.leave_backward(&weights[1], first_row, dy, summed, d_sum, d_out, d_outputs, &mut sums);
        });
        // SAFETY: the pieces cover all rows, and `leave_backward` writes all of them.
        let (d_outputs, d_sum, d_out): (&[f32], &[f32], &[f32]) =
            unsafe { (written_slice(d_outputs), written_slice(d_sum), written_slice(d_out)) };
        to_out.put(Matrix::new(of_output(d_out, d_sum, dy), rows, d));
        to_outputs.put(Matrix::new(outputs, rows, d));
        let (shape, segments) = heads.of(group);
        backward_heads(qkv, segments, Saved { y: outputs, log_totals, dy: d_outputs }, shape, d_qkv);
        // SAFETY: `backward_heads` has written every number.
        let d_qkv: &[f32] = unsafe { written_slice(d_qkv) };
        to_d_qkv.put(Matrix::new(d_qkv, rows, 3 * d));
        let tasks = (
            (x.par_chunks(height * d), to_in.row_pieces(height), cut(n, height * d, pieces)),
            d_qkv.par_chunks(height * 3 * d),
            if before { dy } else { d_sum }.par_chunks(height * d),
            dx.par_chunks_mut(height * d),
            sums.par_chunks_mut(layers.sums_len()),
        );
        let tasks = tasks.into_par_iter().enumerate().with_max_len(1);
        tasks.for_each(|(i, ((x, to_in, n), d_qkv, d_sum, dx, sums))| {
            let statistics = nth(statistics, height * 2, i);
            to_in.put(Matrix::new(layers.input_again(x, statistics, n), x.len() / d, d));
            layers.enter_backward(&weights[0], (x, statistics), d_qkv, d_sum, dx, &mut layers.sums(sums));
        });
    });
}
