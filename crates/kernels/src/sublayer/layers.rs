//! A sublayer's way through some rows, forward and backward, on the calling thread.

use super::{NormPlace, Rule};
use crate::dropout::RowMask;
use crate::product::{Matrix, MatrixMut, Shared, Start, with_scratch, written_slice};
use crate::vector;
use std::mem::MaybeUninit;

/// A sublayer's parameters in host memory, and what else is known of it.
#[derive(Clone, Copy)]
pub(super) struct Layers<'a> {
    pub gamma: &'a [f32],
    pub beta: &'a [f32],
    pub w1: Matrix<'a>,
    pub b1: &'a [f32],
    pub w2: Matrix<'a>,
    pub b2: &'a [f32],
    /// Rows of `x` in each row of the batch.
    pub seq: usize,
    pub rule: Rule,
}

/// Sums over rows: the gradients of gain, shift and both biases.
pub(super) struct Sums<'a> {
    pub gamma: &'a mut [f32],
    pub beta: &'a mut [f32],
    pub b1: &'a mut [f32],
    pub b2: &'a mut [f32],
}

impl<'a> Layers<'a> {
    pub fn d_model(&self) -> usize {
        self.gamma.len()
    }

    pub fn normalizes(&self, place: NormPlace) -> bool {
        self.rule.place == place
    }

    /// Numbers of [`Sums`].
    pub fn sums_len(&self) -> usize {
        3 * self.d_model() + self.b1.len()
    }

    pub fn sums<'s>(&self, memory: &'s mut [f32]) -> Sums<'s> {
        let (gamma, rest) = memory.split_at_mut(self.d_model());
        let (beta, rest) = rest.split_at_mut(self.d_model());
        let (b2, b1) = rest.split_at_mut(self.d_model());
        Sums { gamma, beta, b1, b2 }
    }

    fn normalize(&self, x: &[f32], statistics: &mut [f32], y: &mut [MaybeUninit<f32>]) {
        let d = self.d_model();
        for ((x, y), of_row) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)).zip(statistics.chunks_exact_mut(2)) {
            (of_row[0], of_row[1]) = vector::normalize(x, self.gamma, self.beta, self.rule.epsilon, y);
        }
    }

    /// What the first layer read of some rows; normalizing before, it is written to `n` once more.
    pub fn input_again<'x>(&self, x: &'x [f32], statistics: &[f32], n: &'x mut [MaybeUninit<f32>]) -> &'x [f32] {
        if self.rule.place == NormPlace::After {
            return x;
        }
        let d = self.d_model();
        for ((x, n), of_row) in x.chunks_exact(d).zip(n.chunks_exact_mut(d)).zip(statistics.chunks_exact(2)) {
            vector::normalize_again(x, self.gamma, self.beta, of_row[0], of_row[1], n);
        }
        // SAFETY: just written, all of it.
        unsafe { written_slice(n) }
    }

    fn normalize_backward(
        &self,
        x: &[f32],
        statistics: &[f32],
        dy: &[f32],
        dx: &mut [MaybeUninit<f32>],
        sums: &mut Sums,
    ) {
        let d = self.d_model();
        let rows = x.chunks_exact(d).zip(dy.chunks_exact(d)).zip(dx.chunks_exact_mut(d));
        for (((x, dy), dx), of_row) in rows.zip(statistics.chunks_exact(2)) {
            vector::normalize_backward(x, dy, self.gamma, of_row[0], of_row[1], dx, sums.gamma, sums.beta);
        }
    }

    /// Drops what the rule says, of rows from `first_row` on.
    fn drop(&self, values: &mut [f32], first_row: usize) {
        let Some(dropout) = self.rule.dropout else { return };
        let d = self.d_model();
        for (i, values) in values.chunks_exact_mut(d).enumerate() {
            let row = first_row + i;
            let RowMask { keys, threshold } = dropout.row(row / self.seq);
            let place = (row % self.seq * d) as u32;
            vector::drop_in_place(values, place, keys, threshold, dropout.scale());
        }
    }

    /// From some rows of the input to what the first layer gives; normalizing before, `n` and `statistics` are written.
    pub fn enter(
        &self,
        first: &Shared,
        x: &[f32],
        n: &mut [MaybeUninit<f32>],
        statistics: &mut [f32],
        u: &mut [MaybeUninit<f32>],
    ) {
        let (d, rows) = (self.d_model(), x.len() / self.d_model());
        let input = match self.rule.place {
            NormPlace::Before => {
                self.normalize(x, statistics, n);
                // SAFETY: just written, all of it.
                unsafe { written_slice(n) }
            }
            NormPlace::After => x,
        };
        let mut u = MatrixMut::uninit(u, rows, self.b1.len());
        first.product(&mut u, Start::Row(self.b1), Matrix::new(input, rows, d));
    }

    /// From what the second layer reads to the output; normalizing after, `sum` and `statistics` are written.
    #[allow(clippy::too_many_arguments)]
    pub fn leave(
        &self,
        second: &Shared,
        first_row: usize,
        x: &[f32],
        g: &[f32],
        sum: &mut [MaybeUninit<f32>],
        statistics: &mut [f32],
        y: &mut [MaybeUninit<f32>],
    ) {
        let (d, rows) = (self.d_model(), x.len() / self.d_model());
        let add_to = |dst: &'_ mut [MaybeUninit<f32>]| {
            let mut of_rows = MatrixMut::uninit(dst, rows, d);
            second.product(&mut of_rows, Start::Row(self.b2), Matrix::new(g, rows, g.len() / rows));
            // SAFETY: the product has written every number.
            let added = unsafe { written_slice(dst) };
            self.drop(added, first_row);
            vector::add(added, x);
        };
        match self.rule.place {
            NormPlace::Before => add_to(y),
            NormPlace::After => {
                add_to(sum);
                // SAFETY: just written, all of it.
                self.normalize(unsafe { written_slice(sum) }, statistics, y);
            }
        }
    }

    /// From the gradient of some rows of the output to that of the second layer's input, `dg`. The gradients of the sum
    /// and of the second layer's output are written to `d_sum` and `d_out`, where the rule makes them others than `dy`.
    #[allow(clippy::too_many_arguments)]
    pub fn leave_backward(
        &self,
        second: &Shared,
        first_row: usize,
        dy: &[f32],
        (sum, statistics): (&[f32], &[f32]),
        d_sum: &mut [MaybeUninit<f32>],
        d_out: &mut [MaybeUninit<f32>],
        dg: &mut [MaybeUninit<f32>],
        sums: &mut Sums,
    ) {
        let (d, rows) = (self.d_model(), dy.len() / self.d_model());
        let of_sum: &[f32] = match self.rule.place {
            NormPlace::Before => dy,
            NormPlace::After => {
                self.normalize_backward(sum, statistics, dy, d_sum, sums);
                // SAFETY: just written, all of it.
                unsafe { written_slice(d_sum) }
            }
        };
        let of_out: &[f32] = match self.rule.dropout {
            None => of_sum,
            Some(_) => {
                d_out.iter_mut().zip(of_sum).for_each(|(to, from)| {
                    to.write(*from);
                });
                // SAFETY: just written, all of it.
                let d_out = unsafe { written_slice(d_out) };
                self.drop(d_out, first_row);
                d_out
            }
        };
        of_out.chunks_exact(d).for_each(|row| vector::add(sums.b2, row));
        let mut dg = MatrixMut::uninit(dg, rows, self.w2.dims()[0]);
        second.product(&mut dg, Start::Zero, Matrix::new(of_out, rows, d));
    }

    /// From the gradient of what the first layer gave, `du`, and of the sum to that of the input.
    pub fn enter_backward(
        &self,
        first: &Shared,
        (x, statistics): (&[f32], &[f32]),
        du: &[f32],
        d_sum: &[f32],
        dx: &mut [MaybeUninit<f32>],
        sums: &mut Sums,
    ) {
        let (d, rows) = (self.d_model(), x.len() / self.d_model());
        du.chunks_exact(self.b1.len()).for_each(|row| vector::add(sums.b1, row));
        let du = Matrix::new(du, rows, self.b1.len());
        match self.rule.place {
            NormPlace::Before => {
                with_scratch(3, rows * d, |dn| {
                    first.product(&mut MatrixMut::uninit(dn, rows, d), Start::Zero, du);
                    // SAFETY: the product has written every number.
                    self.normalize_backward(x, statistics, unsafe { written_slice(dn) }, dx, sums);
                });
            }
            NormPlace::After => first.product(&mut MatrixMut::uninit(dx, rows, d), Start::Zero, du),
        }
        // SAFETY: either has written every number.
        vector::add(unsafe { written_slice(dx) }, d_sum);
    }
}

/// The first of the gradients of the second layer's output that is there: after dropout, of the sum, of the sublayer's
/// output.
pub(super) fn of_output<'g>(d_out: &'g [f32], d_sum: &'g [f32], dy: &'g [f32]) -> &'g [f32] {
    [d_out, d_sum].into_iter().find(|values| !values.is_empty()).unwrap_or(dy)
}
