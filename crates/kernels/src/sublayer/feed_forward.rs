//! The feed-forward half of a block.

use super::{Gradient, Layers, NormPlace, Parameters, Residual, Rule, cut, nth, of_output, with_layers};
use crate::host::{Host, on_host_backends};
use crate::linear::{Activation, linear};
use crate::product::{
    FEW_ROWS, IncomingRole, Matrix, all_shared, buffer, piece, with_incoming, with_scratch, written, written_slice,
};
use crate::{Precision, vector};
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::nn::Linear;
use burn::tensor::Tensor;
use rayon::prelude::*;

/// `down(activation(up(..)))` with normalization, dropout and residual sum.
///
/// # Shapes
/// - `x`: `[batch, seq, d_model]`, `up`: `[d_model, d_ff]`, `down`: `[d_ff, d_model]`; returns the same as `x`
///
/// Source: Vaswani et al. 2017, sections 3.1 and 3.3.
pub fn feed_forward_sublayer(
    x: Tensor<3>,
    up: &Linear,
    down: &Linear,
    activation: Activation,
    precision: Precision,
    residual: Residual,
) -> Tensor<3> {
    let [batch, seq, _] = x.dims();
    // A few rows are shared out between threads by columns.
    let apart = batch * seq <= FEW_ROWS || activation == Activation::Identity;
    if apart || !residual.covers(&x, [up, down]) {
        return residual.around(x, |x| {
            let hidden = linear(up, x, activation, precision);
            linear(down, hidden, Activation::Identity, precision)
        });
    }
    let Residual { norm, .. } = residual;
    let of = |layer: &Linear| {
        let bias = layer.bias.as_ref().expect("just tested");
        (layer.weight.val().into_dispatch(), bias.val().into_dispatch())
    };
    let ((w1, b1), (w2, b2)) = (of(up), of(down));
    let beta = norm.beta.as_ref().expect("just tested").val().into_dispatch();
    let gamma = norm.gamma.val().into_dispatch();
    let rule = residual.rule(precision);
    let y =
        <Dispatch as FeedForwardOps>::feed_forward(x.into_dispatch(), gamma, beta, w1, b1, w2, b2, activation, rule);
    Tensor::from_dispatch(y)
}

/// The operation on backends.
#[allow(clippy::too_many_arguments)]
#[backend_extension(Flex, NdArray, Autodiff)]
pub(crate) trait FeedForwardOps: Backend {
    fn feed_forward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        w1: FloatTensor<Self>,
        b1: FloatTensor<Self>,
        w2: FloatTensor<Self>,
        b2: FloatTensor<Self>,
        activation: Activation,
        rule: Rule,
    ) -> FloatTensor<Self>;
}

on_host_backends!(FeedForwardOps {
    fn feed_forward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        w1: FloatTensor<Self>,
        b1: FloatTensor<Self>,
        w2: FloatTensor<Self>,
        b2: FloatTensor<Self>,
        activation: Activation,
        rule: Rule,
    ) -> FloatTensor<Self> {
        forward::<Self>(&x, &[gamma, beta, w1, b1, w2, b2], activation, rule).0
    }
});

impl<B: Host, C: CheckpointStrategy> FeedForwardOps for Autodiff<B, C> {
    fn feed_forward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        w1: FloatTensor<Self>,
        b1: FloatTensor<Self>,
        w2: FloatTensor<Self>,
        b2: FloatTensor<Self>,
        activation: Activation,
        rule: Rule,
    ) -> FloatTensor<Self> {
        let (x, of_x) = x.into_parts();
        let ((gamma, of_gamma), (beta, of_beta)) = (gamma.into_parts(), beta.into_parts());
        let ((w1, of_w1), (b1, of_b1)) = (w1.into_parts(), b1.into_parts());
        let ((w2, of_w2), (b2, of_b2)) = (w2.into_parts(), b2.into_parts());
        let parameters = [gamma, beta, w1, b1, w2, b2];
        let parents = [of_x, of_gamma, of_beta, of_w1, of_b1, of_w2, of_b2];
        let (y, kept) = forward::<B>(&x, &parameters, activation, rule);
        match Backward::<B, 7>::prepare::<C>(FeedForwardBackward, parents).compute_bound().stateful() {
            OpsKind::Tracked(node) => node.finish((x, parameters, kept, activation, rule), y),
            OpsKind::UnTracked(node) => node.finish(y),
        }
    }
}

/// What the backward pass needs besides the input. The normalized input and the activation are computed again: reading
/// them from memory takes longer.
#[derive(Clone, Debug, Default)]
struct Kept {
    /// The hidden state before its activation, `[m, d_ff]`.
    u: Vec<f32>,
    /// The sum that is normalized, `[m, d_model]`; empty where the input is.
    sum: Vec<f32>,
    /// Mean and one over the deviation of the rows that are normalized, `[m, 2]`.
    statistics: Vec<f32>,
}

fn forward<B: Host>(
    x: &FloatTensor<B>,
    parameters: &Parameters<B>,
    activation: Activation,
    rule: Rule,
) -> (FloatTensor<B>, Kept) {
    let shape = B::shape(x);
    let (y, kept) =
        with_layers::<B, _>(parameters, &shape, rule, |layers| forward_rows(&B::floats(x), layers, activation));
    (B::tensor(y, shape), kept)
}

/// - `x`: `[m, d_model]`; returns the same
fn forward_rows(x: &[f32], layers: Layers, activation: Activation) -> (Vec<f32>, Kept) {
    let (d, d_ff) = (layers.d_model(), layers.b1.len());
    let m = x.len() / d;
    let (height, pieces) = (piece(m), m.div_ceil(piece(m)));
    let before = layers.normalizes(NormPlace::Before);
    let activate = if activation == Activation::GeluErf { vector::gelu_erf } else { vector::gelu_tanh };
    let mut y = buffer(m * d);
    let mut sum = buffer(if before { 0 } else { m * d });
    let mut u = buffer(m * d_ff);
    let mut statistics = vec![0.0; 2 * m];
    all_shared([layers.w1, layers.w2], layers.rule.precision, |[first, second]| {
        let tasks = (
            x.par_chunks(height * d),
            y.par_chunks_mut(height * d),
            cut(&mut sum, height * d, pieces),
            u.par_chunks_mut(height * d_ff),
            statistics.par_chunks_mut(height * 2),
        );
        tasks.into_par_iter().enumerate().with_max_len(1).for_each(|(i, (x, y, sum, u, statistics))| {
            with_scratch(2, x.len() + u.len(), |memory| {
                let (n, g) = memory.split_at_mut(x.len());
                layers.enter(&first, x, n, statistics, u);
                // SAFETY: the product of `enter` has written every number of `u`.
                activate(unsafe { written_slice(u) }, g);
                // SAFETY: the activation has written every number of `g`.
                layers.leave(&second, i * height, x, unsafe { written_slice(g) }, sum, statistics, y);
            });
        });
    });
    // SAFETY: the pieces cover all rows, and of each `enter` and `leave` write everything that is used.
    unsafe { (written(y), Kept { u: written(u), sum: written(sum), statistics }) }
}

#[derive(Debug)]
struct FeedForwardBackward;

impl<B: Host> Backward<B, 7> for FeedForwardBackward {
    type State = (FloatTensor<B>, Parameters<B>, Kept, Activation, Rule);

    fn backward(self, ops: Ops<Self::State, 7>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let (x, parameters, kept, activation, rule) = ops.state;
        let parents = ops.parents.map(|parent| parent.map(|node| node.id));
        let wanted = [parents[3].is_some(), parents[5].is_some()];
        let gradient = with_layers::<B, _>(&parameters, &B::shape(&x), rule, |layers| {
            backward_rows(&B::floats(&x), &B::floats(&dy), kept, layers, activation, wanted)
        });
        gradient.register::<B>(parents, &x, &parameters, grads);
    }
}

/// - `x`, `dy`: `[m, d_model]`
fn backward_rows(
    x: &[f32],
    dy: &[f32],
    kept: Kept,
    layers: Layers,
    activation: Activation,
    wanted: [bool; 2],
) -> Gradient {
    let Kept { u, sum, statistics } = kept;
    let (d, d_ff) = (layers.d_model(), layers.b1.len());
    let m = x.len() / d;
    let (height, pieces) = (piece(m), m.div_ceil(piece(m)));
    let before = layers.normalizes(NormPlace::Before);
    let slope = if activation == Activation::GeluErf { vector::gelu_erf_both } else { vector::gelu_tanh_both };
    // Of each row: the gradients that the rule makes others than `dy`, and the normalized input.
    let (of_sum, of_out) = (if before { 0 } else { d }, if layers.rule.dropout.is_some() { d } else { 0 });
    let of_n = if before && wanted[0] { d } else { 0 };
    let mut dx = buffer(m * d);
    let mut sums = vec![0.0; pieces * layers.sums_len()];
    let of_first = |width: usize| [m, if wanted[0] { width } else { 0 }];
    let of_second = |width: usize| [m, if wanted[1] { width } else { 0 }];
    let operands = [
        IncomingRole::LeftTurned(of_first(d)),
        IncomingRole::Right(of_first(d_ff)),
        IncomingRole::LeftTurned(of_second(d_ff)),
        IncomingRole::Right(of_second(d)),
    ];
    with_incoming(operands, layers.rule.precision, |[mut all_in, mut all_du, mut all_g, mut all_out]| {
        all_shared([layers.w1.t(), layers.w2.t()], layers.rule.precision, |[first, second]| {
            let tasks = (
                dy.par_chunks(height * d),
                dx.par_chunks_mut(height * d),
                (all_in.row_pieces(height), all_du.row_pieces(height)),
                (all_g.row_pieces(height), all_out.row_pieces(height)),
                sums.par_chunks_mut(layers.sums_len()),
            );
            let tasks = tasks.into_par_iter().enumerate().with_max_len(1);
            tasks.for_each(|(i, (dy, dx, (to_in, to_du), (to_g, to_out), sums))| {
                let mut sums = layers.sums(sums);
                let rows = dy.len() / d;
                let (x, u) = (nth(x, height * d, i), nth(&u, height * d_ff, i));
                let (sum, statistics) = (nth(&sum, height * d, i), nth(&statistics, height * 2, i));
                with_scratch(2, rows * (2 * d_ff + of_sum + of_out + of_n), |memory| {
                    let (dg, rest) = memory.split_at_mut(rows * d_ff);
                    let (du, rest) = rest.split_at_mut(rows * d_ff);
                    let (d_sum, rest) = rest.split_at_mut(rows * of_sum);
                    let (d_out, n) = rest.split_at_mut(rows * of_out);
                    layers.leave_backward(&second, i * height, dy, (sum, statistics), d_sum, d_out, dg, &mut sums);
                    // SAFETY: `leave_backward` has written every number of all three.
                    let (g, d_sum, d_out) = unsafe { (written_slice(dg), written_slice(d_sum), written_slice(d_out)) };
                    slope(u, g, du);
                    // SAFETY: `slope` has written every number.
                    let du = unsafe { written_slice(du) };
                    to_out.put(Matrix::new(of_output(d_out, d_sum, dy), rows, d));
                    to_g.put(Matrix::new(g, rows, d_ff));
                    to_du.put(Matrix::new(du, rows, d_ff));
                    let input = if n.is_empty() {
                        x
                    } else {
                        layers.normalize_again(x, statistics, n);
                        // SAFETY: `normalize_again` has written every number.
                        unsafe { written_slice(n) }
                    };
                    to_in.put(Matrix::new(input, rows, d));
                    let d_sum = if before { dy } else { d_sum };
                    layers.enter_backward(&first, (x, statistics), du, d_sum, dx, &mut sums);
                });
            });
        });
        // SAFETY: the pieces cover all rows, and of each everything was written, and put.
        let (dx, of_first, of_second) =
            unsafe { (written(dx), (all_in.left(), all_du.right()), (all_g.left(), all_out.right())) };
        let weights = [wanted[0].then_some(of_first), wanted[1].then_some(of_second)];
        Gradient::new(&layers, dx, &sums, weights)
    })
}
