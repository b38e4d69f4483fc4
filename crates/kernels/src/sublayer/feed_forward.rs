//! The rows of a feed-forward sublayer.
//!
//! The backward pass computes the normalized input and the activation again: reading them from memory takes longer.

use super::NormPlace;
use super::layers::{Layers, of_output};
use super::rows::{BackwardRows, ForwardRows, Group, cut, nth, split, split_mut, zeroed};
use crate::linear::Activation;
use crate::product::{Matrix, Shared, with_scratch, written_slice};
use crate::vector;
use rayon::prelude::*;

/// Numbers kept of each row: the hidden state before its activation, mean and one over the deviation of what is
/// normalized, and the sum that is normalized, if the input is not.
pub(super) fn kept(layers: &Layers) -> [usize; 3] {
    [layers.b1.len(), 2, if layers.normalizes(NormPlace::After) { layers.d_model() } else { 0 }]
}

/// As [`Half::forward`](super::rows::Half).
pub(super) fn forward(layers: &Layers, activation: Activation, group: Group, weights: &[Shared], rows: ForwardRows) {
    let ForwardRows { x, kept: memory, y } = rows;
    let (d, d_ff, Group { first, rows, height }) = (layers.d_model(), layers.b1.len(), group);
    let [u, statistics, sum] = split_mut(memory, rows, kept(layers));
    let activate = if activation == Activation::GeluErf { vector::gelu_erf } else { vector::gelu_tanh };
    let tasks = (
        x.par_chunks(height * d),
        y.par_chunks_mut(height * d),
        u.par_chunks_mut(height * d_ff),
        zeroed(statistics).par_chunks_mut(height * 2),
        cut(sum, height * d, rows.div_ceil(height)),
    );
    tasks.into_par_iter().enumerate().with_max_len(1).for_each(|(i, (x, y, u, statistics, sum))| {
        with_scratch(2, x.len() + u.len(), |memory| {
            let (n, g) = memory.split_at_mut(x.len());
            layers.enter(&weights[0], x, n, statistics, u);
            // SAFETY: the product of `enter` has written every number of `u`.
            activate(unsafe { written_slice(u) }, g);
            // SAFETY: the activation has written every number of `g`.
            layers.leave(&weights[1], first + i * height, x, unsafe { written_slice(g) }, sum, statistics, y);
        });
    });
}

/// As [`Half::backward`](super::rows::Half).
pub(super) fn backward(layers: &Layers, activation: Activation, group: Group, weights: &[Shared], rows: BackwardRows) {
    let BackwardRows { x, kept: memory, dy, operands, dx, sums } = rows;
    let (d, d_ff, Group { first, rows, height }) = (layers.d_model(), layers.b1.len(), group);
    let [u, statistics, sum] = split(memory, rows, kept(layers));
    let before = layers.normalizes(NormPlace::Before);
    let slope = if activation == Activation::GeluErf { vector::gelu_erf_both } else { vector::gelu_tanh_both };
    // Of each row: the gradients that the rule makes others than `dy`, and the normalized input.
    let (of_sum, of_out) = (if before { 0 } else { d }, if layers.rule.dropout.is_some() { d } else { 0 });
    let of_n = if before { d } else { 0 };
    let [to_in, to_du, to_g, to_out] = operands.map(|operand| operand.row_pieces(height));
    let tasks = (
        (x.par_chunks(height * d), dy.par_chunks(height * d), dx.par_chunks_mut(height * d)),
        (u.par_chunks(height * d_ff), statistics.par_chunks(height * 2)),
        (to_in, to_du, to_g, to_out),
        sums.par_chunks_mut(layers.sums_len()),
    );
    let tasks = tasks.into_par_iter().enumerate().with_max_len(1);
    tasks.for_each(|(i, ((x, dy, dx), (u, statistics), (to_in, to_du, to_g, to_out), sums))| {
        let (mut sums, sum, rows) = (layers.sums(sums), nth(sum, height * d, i), x.len() / d);
        with_scratch(2, rows * (2 * d_ff + of_sum + of_out + of_n), |memory| {
            let [dg, du, d_sum, d_out, n] = split_mut(memory, rows, [d_ff, d_ff, of_sum, of_out, of_n]);
            let saved = (sum, statistics);
            layers.leave_backward(&weights[1], first + i * height, dy, saved, d_sum, d_out, dg, &mut sums);
            // SAFETY: `leave_backward` has written every number of all three.
            let (g, d_sum, d_out) = unsafe { (written_slice(dg), written_slice(d_sum), written_slice(d_out)) };
            slope(u, g, du);
            // SAFETY: `slope` has written every number.
            let du = unsafe { written_slice(du) };
            to_out.put(Matrix::new(of_output(d_out, d_sum, dy), rows, d));
            to_g.put(Matrix::new(g, rows, d_ff));
            to_du.put(Matrix::new(du, rows, d_ff));
            to_in.put(Matrix::new(layers.input_again(x, statistics, n), rows, d));
            let d_sum = if before { dy } else { d_sum };
            layers.enter_backward(&weights[0], (x, statistics), du, d_sum, dx, &mut sums);
        });
    });
}
