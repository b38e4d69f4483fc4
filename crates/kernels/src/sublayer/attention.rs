//! The attention half of a block.

use super::{Gradient, Layers, NormPlace, Parameters, Residual, Rule, cut, nth, with_layers};
use crate::attention::{AttentionOptions, Rule as HeadsRule, Saved, Shape, attention, backward_heads, forward_heads};
use crate::host::{Host, on_host_backends};
use crate::linear::{Activation, linear};
use crate::product::{FEW_ROWS, Matrix, all_shared, buffer, piece, written, written_slice};
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::nn::Linear;
use burn::tensor::Tensor;
use rayon::prelude::*;

/// `proj(attention(qkv(..)))` with normalization, dropout and residual sum; every product in the options' precision.
///
/// # Shapes
/// - `x`: `[batch, seq, d_model]`, `qkv`: `[d_model, 3 * d_model]`, `proj`: `[d_model, d_model]`; returns the same as `x`
///
/// # Panics
/// As [`attention`](crate::attention()).
///
/// Source: Vaswani et al. 2017, sections 3.1 and 3.2.
pub fn attention_sublayer(
    x: Tensor<3>,
    qkv: &Linear,
    proj: &Linear,
    options: AttentionOptions,
    residual: Residual,
) -> Tensor<3> {
    let precision = options.precision;
    let [batch, seq, d_model] = x.dims();
    // A few rows are shared out between threads by columns.
    if batch * seq <= FEW_ROWS || !residual.covers(&x, [qkv, proj]) {
        return residual.around(x, |x| {
            let y = attention(linear(qkv, x, Activation::Identity, precision), options);
            linear(proj, y, Activation::Identity, precision)
        });
    }
    let heads = options.rule([batch, seq, 3 * d_model]);
    let Residual { norm, .. } = residual;
    let of = |layer: &Linear| {
        let bias = layer.bias.as_ref().expect("just tested");
        (layer.weight.val().into_dispatch(), bias.val().into_dispatch())
    };
    let ((w1, b1), (w2, b2)) = (of(qkv), of(proj));
    let beta = norm.beta.as_ref().expect("just tested").val().into_dispatch();
    let (x, gamma) = (x.into_dispatch(), norm.gamma.val().into_dispatch());
    let rule = residual.rule(precision);
    Tensor::from_dispatch(match options.segments {
        None => <Dispatch as AttentionSublayerOps>::attend_around(x, gamma, beta, w1, b1, w2, b2, heads, rule),
        Some(segments) => {
            let segments = segments.into_dispatch();
            <Dispatch as AttentionSublayerOps>::attend_around_in(x, segments, gamma, beta, w1, b1, w2, b2, heads, rule)
        }
    })
}

/// The operation on backends.
#[allow(clippy::too_many_arguments)]
#[backend_extension(Flex, NdArray, Autodiff)]
pub(crate) trait AttentionSublayerOps: Backend {
    fn attend_around(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        w1: FloatTensor<Self>,
        b1: FloatTensor<Self>,
        w2: FloatTensor<Self>,
        b2: FloatTensor<Self>,
        heads: HeadsRule,
        rule: Rule,
    ) -> FloatTensor<Self>;
    fn attend_around_in(
        x: FloatTensor<Self>,
        segments: IntTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        w1: FloatTensor<Self>,
        b1: FloatTensor<Self>,
        w2: FloatTensor<Self>,
        b2: FloatTensor<Self>,
        heads: HeadsRule,
        rule: Rule,
    ) -> FloatTensor<Self>;
}

on_host_backends!(AttentionSublayerOps {
    fn attend_around(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        w1: FloatTensor<Self>,
        b1: FloatTensor<Self>,
        w2: FloatTensor<Self>,
        b2: FloatTensor<Self>,
        heads: HeadsRule,
        rule: Rule,
    ) -> FloatTensor<Self> {
        forward::<Self>(&x, None, &[gamma, beta, w1, b1, w2, b2], heads, rule).0
    }
    fn attend_around_in(
        x: FloatTensor<Self>,
        segments: IntTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        w1: FloatTensor<Self>,
        b1: FloatTensor<Self>,
        w2: FloatTensor<Self>,
        b2: FloatTensor<Self>,
        heads: HeadsRule,
        rule: Rule,
    ) -> FloatTensor<Self> {
        forward::<Self>(&x, Some(&segments), &[gamma, beta, w1, b1, w2, b2], heads, rule).0
    }
});

impl<B: Host, C: CheckpointStrategy> AttentionSublayerOps for Autodiff<B, C> {
    fn attend_around(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        w1: FloatTensor<Self>,
        b1: FloatTensor<Self>,
        w2: FloatTensor<Self>,
        b2: FloatTensor<Self>,
        heads: HeadsRule,
        rule: Rule,
    ) -> FloatTensor<Self> {
        tracked::<B, C>(x, None, [gamma, beta, w1, b1, w2, b2], heads, rule)
    }
    fn attend_around_in(
        x: FloatTensor<Self>,
        segments: IntTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        w1: FloatTensor<Self>,
        b1: FloatTensor<Self>,
        w2: FloatTensor<Self>,
        b2: FloatTensor<Self>,
        heads: HeadsRule,
        rule: Rule,
    ) -> FloatTensor<Self> {
        tracked::<B, C>(x, Some(segments), [gamma, beta, w1, b1, w2, b2], heads, rule)
    }
}

fn tracked<B: Host, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    segments: Option<IntTensor<B>>,
    [gamma, beta, w1, b1, w2, b2]: Parameters<Autodiff<B, C>>,
    heads: HeadsRule,
    rule: Rule,
) -> FloatTensor<Autodiff<B, C>> {
    let (x, of_x) = x.into_parts();
    let ((gamma, of_gamma), (beta, of_beta)) = (gamma.into_parts(), beta.into_parts());
    let ((w1, of_w1), (b1, of_b1)) = (w1.into_parts(), b1.into_parts());
    let ((w2, of_w2), (b2, of_b2)) = (w2.into_parts(), b2.into_parts());
    let parameters = [gamma, beta, w1, b1, w2, b2];
    let parents = [of_x, of_gamma, of_beta, of_w1, of_b1, of_w2, of_b2];
    let (y, kept) = forward::<B>(&x, segments.as_ref(), &parameters, heads, rule);
    match Backward::<B, 7>::prepare::<C>(AttentionSublayerBackward, parents).compute_bound().stateful() {
        OpsKind::Tracked(node) => node.finish((x, segments, parameters, kept, heads, rule), y),
        OpsKind::UnTracked(node) => node.finish(y),
    }
}

/// What the backward pass needs besides the input; of `n` and `sum` the one that the normalization's place leaves out
/// is empty.
#[derive(Clone, Debug, Default)]
struct Kept {
    /// The normalized input, `[m, d_model]`.
    n: Vec<f32>,
    /// Queries, keys and values, `[m, 3 * d_model]`.
    qkv: Vec<f32>,
    /// What the heads give, `[m, d_model]`, and the logarithms of their softmaxes' denominators.
    heads: Vec<f32>,
    log_totals: Vec<f32>,
    /// The sum that is normalized, `[m, d_model]`.
    sum: Vec<f32>,
    /// Mean and one over the deviation of the rows that are normalized, `[m, 2]`.
    statistics: Vec<f32>,
}

fn forward<B: Host>(
    x: &FloatTensor<B>,
    segments: Option<&IntTensor<B>>,
    parameters: &Parameters<B>,
    heads: HeadsRule,
    rule: Rule,
) -> (FloatTensor<B>, Kept) {
    let shape = B::shape(x);
    let of_heads = Shape::new(shape[0], shape[1], shape[2], heads);
    let segments = segments.map(|segments| B::ids(segments));
    let (y, kept) = with_layers::<B, _>(parameters, &shape, rule, |layers| {
        forward_rows(&B::floats(x), segments.as_deref(), layers, of_heads)
    });
    (B::tensor(y, shape), kept)
}

/// - `x`: `[m, d_model]`; returns the same
fn forward_rows(x: &[f32], segments: Option<&[i32]>, layers: Layers, of_heads: Shape) -> (Vec<f32>, Kept) {
    let d = layers.d_model();
    let m = x.len() / d;
    let (height, pieces) = (piece(m), m.div_ceil(piece(m)));
    let before = layers.normalizes(NormPlace::Before);
    let mut y = buffer(m * d);
    let mut n = buffer(if before { m * d } else { 0 });
    let mut sum = buffer(if before { 0 } else { m * d });
    let mut qkv = buffer(m * 3 * d);
    let mut statistics = vec![0.0; 2 * m];
    let (heads, log_totals) = all_shared([layers.w1, layers.w2], layers.rule.precision, |[first, second]| {
        let tasks = (
            x.par_chunks(height * d),
            cut(&mut n, height * d, pieces),
            statistics.par_chunks_mut(height * 2),
            qkv.par_chunks_mut(height * 3 * d),
        );
        tasks.into_par_iter().with_max_len(1).for_each(|(x, n, statistics, qkv)| {
            layers.enter(&first, x, n, statistics, qkv);
        });
        // SAFETY: the pieces cover all rows, and `enter` writes all of them.
        let qkv = unsafe { written_slice(&mut qkv) };
        let (heads, log_totals) = forward_heads(qkv, segments, of_heads);
        let tasks = (
            x.par_chunks(height * d),
            heads.par_chunks(height * d),
            cut(&mut sum, height * d, pieces),
            statistics.par_chunks_mut(height * 2),
            y.par_chunks_mut(height * d),
        );
        tasks.into_par_iter().enumerate().with_max_len(1).for_each(|(i, (x, heads, sum, statistics, y))| {
            layers.leave(&second, i * height, x, heads, sum, statistics, y);
        });
        (heads, log_totals)
    });
    // SAFETY: the pieces cover all rows, and of each `enter` and `leave` write everything that is used.
    unsafe {
        let kept = Kept { n: written(n), qkv: written(qkv), heads, log_totals, sum: written(sum), statistics };
        (written(y), kept)
    }
}

#[derive(Debug)]
struct AttentionSublayerBackward;

impl<B: Host> Backward<B, 7> for AttentionSublayerBackward {
    type State = (FloatTensor<B>, Option<IntTensor<B>>, Parameters<B>, Kept, HeadsRule, Rule);

    fn backward(self, ops: Ops<Self::State, 7>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let (x, segments, parameters, kept, heads, rule) = ops.state;
        let parents = ops.parents.map(|parent| parent.map(|node| node.id));
        let wanted = [parents[3].is_some(), parents[5].is_some()];
        let shape = B::shape(&x);
        let of_heads = Shape::new(shape[0], shape[1], shape[2], heads);
        let segments = segments.as_ref().map(|segments| B::ids(segments));
        let gradient = with_layers::<B, _>(&parameters, &shape, rule, |layers| {
            backward_rows(&B::floats(&x), segments.as_deref(), &B::floats(&dy), kept, layers, of_heads, wanted)
        });
        gradient.register::<B>(parents, &x, &parameters, grads);
    }
}

/// - `x`, `dy`: `[m, d_model]`
fn backward_rows(
    x: &[f32],
    segments: Option<&[i32]>,
    dy: &[f32],
    kept: Kept,
    layers: Layers,
    of_heads: Shape,
    wanted: [bool; 2],
) -> Gradient {
    let Kept { n, qkv, heads, log_totals, sum, statistics } = kept;
    let d = layers.d_model();
    let m = x.len() / d;
    let (height, pieces) = (piece(m), m.div_ceil(piece(m)));
    let before = layers.normalizes(NormPlace::Before);
    let mut dx = buffer(m * d);
    let mut d_heads = buffer(m * d);
    let mut d_sum = buffer(if before { 0 } else { m * d });
    let mut d_out = buffer(if layers.rule.dropout.is_some() { m * d } else { 0 });
    let mut sums = vec![0.0; pieces * layers.sums_len()];
    let of_sum = |i: usize| (nth(&sum, height * d, i), nth(&statistics, height * 2, i));
    let d_qkv = all_shared([layers.w1.t(), layers.w2.t()], layers.rule.precision, |[first, second]| {
        let tasks = (
            dy.par_chunks(height * d),
            cut(&mut d_sum, height * d, pieces),
            cut(&mut d_out, height * d, pieces),
            d_heads.par_chunks_mut(height * d),
            sums.par_chunks_mut(layers.sums_len()),
        );
        tasks.into_par_iter().enumerate().with_max_len(1).for_each(|(i, (dy, d_sum, d_out, d_heads, sums))| {
            layers.leave_backward(&second, i * height, dy, of_sum(i), d_sum, d_out, d_heads, &mut layers.sums(sums));
        });
        // SAFETY: the pieces cover all rows, and `leave_backward` writes all of them.
        let (d_heads, d_sum) = unsafe { (written_slice(&mut d_heads), written_slice(&mut d_sum)) };
        let saved = Saved { y: &heads, log_totals: &log_totals, dy: d_heads };
        let d_qkv = backward_heads(&qkv, segments, saved, of_heads);
        let d_sum: &[f32] = if before { dy } else { d_sum };
        let tasks = (
            x.par_chunks(height * d),
            d_qkv.par_chunks(height * 3 * d),
            d_sum.par_chunks(height * d),
            dx.par_chunks_mut(height * d),
            sums.par_chunks_mut(layers.sums_len()),
        );
        tasks.into_par_iter().enumerate().with_max_len(1).for_each(|(i, (x, d_qkv, d_sum, dx, sums))| {
            let of_x = (x, nth(&statistics, height * 2, i));
            layers.enter_backward(&first, of_x, d_qkv, d_sum, dx, &mut layers.sums(sums));
        });
        d_qkv
    });
    // SAFETY: the pieces cover all rows, and of each everything was written that is used.
    let (dx, d_sum, d_out) = unsafe { (written(dx), written(d_sum), written(d_out)) };
    let d_out = [&d_out[..], &d_sum, dy].into_iter().find(|values| !values.is_empty()).unwrap_or(dy);
    let input = if before { &n } else { x };
    let weights = [
        wanted[0].then(|| (Matrix::new(input, m, d).t(), Matrix::new(&d_qkv, m, 3 * d))),
        wanted[1].then(|| (Matrix::new(&heads, m, d).t(), Matrix::new(d_out, m, d))),
    ];
    Gradient::new(&layers, dx, &sums, weights)
}
