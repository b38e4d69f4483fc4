//! The halves of a transformer's block as single operations: `x + dropout(f(norm(x)))`, or `norm(x + dropout(f(x)))`.
//!
//! All but attention works on each row of `x` alone. A thread therefore takes some rows through the normalization, a
//! product, the activation, the next product and the sum with `x` while they are in its cache, where separate
//! operations would meet after each and pass everything through memory.

mod attention;
mod feed_forward;
#[cfg(test)]
mod tests;

pub use attention::attention_sublayer;
pub use feed_forward::feed_forward_sublayer;

use crate::Precision;
use crate::dropout::{Dropout, RowMask};
use crate::host::{Host, covers};
use crate::product::{Left, Matrix, MatrixMut, Shared, Start, new_products, with_scratch, written_slice};
use crate::vector;
use crate::{layer_norm, residual_add};
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::tensor::FloatTensor;
use burn::nn::{LayerNorm, Linear};
use burn::tensor::Tensor;
use std::mem::MaybeUninit;

/// Where a sublayer normalizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormPlace {
    /// Its input, as GPT-2 does: `x + dropout(f(norm(x)))`.
    Before,
    /// Its sum, as BERT does: `norm(x + dropout(f(x)))`.
    After,
}

/// What stands around a sublayer's function.
#[derive(Clone, Copy, Debug)]
pub struct Residual<'a> {
    /// The normalization.
    pub norm: &'a LayerNorm,
    /// The epsilon that `norm` was built with, which Burn keeps to itself.
    pub epsilon: f64,
    /// Where it stands.
    pub place: NormPlace,
    /// Dropout of what is added to the input.
    pub dropout: Option<Dropout>,
}

impl Residual<'_> {
    /// The sublayer of any function, in separate operations.
    pub fn around<const D: usize>(&self, x: Tensor<D>, function: impl FnOnce(Tensor<D>) -> Tensor<D>) -> Tensor<D> {
        match self.place {
            NormPlace::Before => {
                residual_add(x.clone(), function(layer_norm(self.norm, self.epsilon, x)), self.dropout)
            }
            NormPlace::After => layer_norm(self.norm, self.epsilon, residual_add(x.clone(), function(x), self.dropout)),
        }
    }

    /// Whether the single operation runs on `x` with these layers.
    fn covers<const D: usize>(&self, x: &Tensor<D>, layers: [&Linear; 2]) -> bool {
        covers(x) && self.norm.beta.is_some() && layers.iter().all(|layer| layer.bias.is_some())
    }

    fn rule(&self, precision: Precision) -> Rule {
        let dropout = self.dropout.filter(|dropout| dropout.probability > 0.0);
        Rule { place: self.place, epsilon: self.epsilon as f32, dropout, precision }
    }
}

/// [`Residual`] without tensors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    place: NormPlace,
    epsilon: f32,
    dropout: Option<Dropout>,
    precision: Precision,
}

/// The parameters in their order among an operation's parents, behind `x`: gain and shift, then weight and bias of the
/// layer that reads the input and of the one that writes what is added.
type Parameters<B> = [FloatTensor<B>; 6];

/// The same in host memory, and what else is known of a sublayer.
#[derive(Clone, Copy)]
struct Layers<'a> {
    gamma: &'a [f32],
    beta: &'a [f32],
    w1: Matrix<'a>,
    b1: &'a [f32],
    w2: Matrix<'a>,
    b2: &'a [f32],
    /// Rows of `x` in each row of the batch.
    seq: usize,
    rule: Rule,
}

/// Calls `body` with a sublayer's parameters in host memory; `shape` is that of `x`.
fn with_layers<B: Host, R>(
    parameters: &Parameters<B>,
    shape: &[usize],
    rule: Rule,
    body: impl FnOnce(Layers) -> R,
) -> R {
    let [gamma, beta, w1, b1, w2, b2] = parameters.each_ref().map(|parameter| B::floats(parameter));
    let (d_model, seq) = (gamma.len(), shape[1..shape.len() - 1].iter().product());
    body(Layers {
        w1: Matrix::new(&w1, d_model, b1.len()),
        w2: Matrix::new(&w2, w2.len() / d_model, d_model),
        gamma: &gamma,
        beta: &beta,
        b1: &b1,
        b2: &b2,
        seq,
        rule,
    })
}

/// Sums over rows: the gradients of gain, shift and both biases.
struct Sums<'a> {
    gamma: &'a mut [f32],
    beta: &'a mut [f32],
    b1: &'a mut [f32],
    b2: &'a mut [f32],
}

impl<'a> Layers<'a> {
    fn d_model(&self) -> usize {
        self.gamma.len()
    }

    fn normalizes(&self, place: NormPlace) -> bool {
        self.rule.place == place
    }

    /// Numbers of [`Sums`].
    fn sums_len(&self) -> usize {
        3 * self.d_model() + self.b1.len()
    }

    fn sums<'s>(&self, memory: &'s mut [f32]) -> Sums<'s> {
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

    /// The same again, with the statistics known.
    fn normalize_again(&self, x: &[f32], statistics: &[f32], y: &mut [MaybeUninit<f32>]) {
        let d = self.d_model();
        for ((x, y), of_row) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)).zip(statistics.chunks_exact(2)) {
            vector::normalize_again(x, self.gamma, self.beta, of_row[0], of_row[1], y);
        }
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
    fn enter(
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
    fn leave(
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
    fn leave_backward(
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
    fn enter_backward(
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

/// `count` pieces of at most `len` numbers, or as many empty ones of memory that is not used.
fn cut<T>(values: &mut [T], len: usize, count: usize) -> Vec<&mut [T]> {
    if values.is_empty() {
        std::iter::repeat_with(Default::default).take(count).collect()
    } else {
        values.chunks_mut(len).collect()
    }
}

/// Piece number `index`, of what is read; empty of memory that is not used.
fn nth<T>(values: &[T], len: usize, index: usize) -> &[T] {
    if values.is_empty() { values } else { &values[index * len..((index + 1) * len).min(values.len())] }
}

/// The first of the gradients of the second layer's output that is there: after dropout, of the sum, of the sublayer's
/// output.
fn of_output<'g>(d_out: &'g [f32], d_sum: &'g [f32], dy: &'g [f32]) -> &'g [f32] {
    [d_out, d_sum].into_iter().find(|values| !values.is_empty()).unwrap_or(dy)
}

/// The gradients of an operation's parents.
struct Gradient {
    x: Vec<f32>,
    gamma: Vec<f32>,
    beta: Vec<f32>,
    w1: Option<Vec<f32>>,
    b1: Vec<f32>,
    w2: Option<Vec<f32>>,
    b2: Vec<f32>,
}

impl Gradient {
    /// From the gradient of `x`, the pieces' [`Sums`], and what each weight's gradient is a product of, where wanted.
    fn new(layers: &Layers, x: Vec<f32>, sums: &[f32], weights: [Option<(Left, Shared)>; 2]) -> Self {
        let mut total = vec![0.0; layers.sums_len()];
        sums.chunks_exact(total.len()).for_each(|of_piece| vector::add(&mut total, of_piece));
        let [w1, w2] = new_products(weights);
        let Sums { gamma, beta, b1, b2 } = layers.sums(&mut total);
        Self { x, gamma: gamma.to_vec(), beta: beta.to_vec(), w1, b1: b1.to_vec(), w2, b2: b2.to_vec() }
    }

    /// Hands the gradients over to the parents that want them: `x`, then [`Parameters`].
    fn register<B: Host>(
        self,
        parents: [Option<NodeId>; 7],
        x: &FloatTensor<B>,
        parameters: &Parameters<B>,
        grads: &mut Gradients,
    ) {
        let Self { x: dx, gamma, beta, w1, b1, w2, b2 } = self;
        let values = [Some(dx), Some(gamma), Some(beta), w1, Some(b1), w2, Some(b2)];
        let shapes = std::iter::once(x).chain(parameters).map(|tensor| B::shape(tensor));
        for ((parent, values), shape) in parents.into_iter().zip(values).zip(shapes) {
            if let (Some(id), Some(values)) = (parent, values) {
                grads.register::<B>(id, B::tensor(values, shape));
            }
        }
    }
}
