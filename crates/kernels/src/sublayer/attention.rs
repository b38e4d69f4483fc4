//! The attention half of a block.

use super::{Gradient, Layers, NormPlace, Parameters, Residual, Rule, cut, nth, of_output, with_layers};
use crate::attention::{AttentionOptions, Rule as HeadsRule, Saved, Shape, attention, backward_heads, forward_heads};
use crate::host::{Host, on_host_backends};
use crate::linear::{Activation, linear};
use crate::product::{
    FEW_ROWS, IncomingRole, Left, Matrix, all_shared, buffer, piece, with_incoming, with_scratch, written,
    written_slice,
};
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

/// How the rows of a batch are shared out: whole elements, so that a thread takes them through the products, the heads
/// and the next products while they are in its cache. Threads without elements of their own help with pieces and heads.
#[derive(Clone, Copy)]
struct Groups {
    of_heads: Shape,
    /// Elements of a group, their rows, and how many groups there are.
    elements: usize,
    rows: usize,
    count: usize,
    /// Rows of a piece, and pieces of a group.
    height: usize,
    pieces: usize,
}

impl Groups {
    fn new(of_heads: Shape) -> Self {
        let (batch, seq) = (of_heads.batch, of_heads.seq);
        let most = piece(batch * seq);
        let elements = (most / seq).max(1);
        // Rows of several groups are packed in pairs.
        let elements = if seq % 2 == 1 { elements.next_multiple_of(2) } else { elements };
        let rows = elements * seq;
        // About as high as each other: a piece of a few rows reads whole weights for them.
        let height = rows.div_ceil(rows.div_ceil(most)).next_multiple_of(8);
        Self { of_heads, elements, rows, count: batch.div_ceil(elements), height, pieces: rows.div_ceil(height) }
    }

    /// The heads of group number `index`.
    fn heads(&self, index: usize) -> Shape {
        let first = index * self.elements;
        self.of_heads.elements(first..(first + self.elements).min(self.of_heads.batch))
    }
}

/// - `x`: `[m, d_model]`; returns the same
fn forward_rows(x: &[f32], segments: Option<&[i32]>, layers: Layers, of_heads: Shape) -> (Vec<f32>, Kept) {
    let d = layers.d_model();
    let m = x.len() / d;
    let groups = Groups::new(of_heads);
    let Groups { rows, height, pieces, .. } = groups;
    let before = layers.normalizes(NormPlace::Before);
    let (mut y, mut heads) = (buffer(m * d), buffer(m * d));
    let mut n = buffer(if before { m * d } else { 0 });
    let mut sum = buffer(if before { 0 } else { m * d });
    let mut qkv = buffer(m * 3 * d);
    let mut statistics = vec![0.0; 2 * m];
    let mut log_totals = vec![0.0; m * of_heads.n_head];
    all_shared([layers.w1, layers.w2], layers.rule.precision, |[first, second]| {
        let tasks = (
            x.par_chunks(rows * d),
            cut(&mut n, rows * d, groups.count),
            statistics.par_chunks_mut(rows * 2),
            qkv.par_chunks_mut(rows * 3 * d),
            (heads.par_chunks_mut(rows * d), log_totals.par_chunks_mut(rows * of_heads.n_head)),
            cut(&mut sum, rows * d, groups.count),
            y.par_chunks_mut(rows * d),
        );
        let tasks = tasks.into_par_iter().enumerate().with_max_len(1);
        tasks.for_each(|(group, (x, n, statistics, qkv, (heads, log_totals), sum, y))| {
            let tasks = (
                x.par_chunks(height * d),
                cut(n, height * d, pieces),
                statistics.par_chunks_mut(height * 2),
                qkv.par_chunks_mut(height * 3 * d),
            );
            tasks.into_par_iter().with_max_len(1).for_each(|(x, n, statistics, qkv)| {
                layers.enter(&first, x, n, statistics, qkv);
            });
            // SAFETY: the pieces cover all rows, and `enter` writes all of them.
            let qkv = unsafe { written_slice(qkv) };
            let segments = segments.map(|segments| nth(segments, rows, group));
            forward_heads(qkv, segments, groups.heads(group), heads, log_totals);
            // SAFETY: `forward_heads` has written every number.
            let heads: &[f32] = unsafe { written_slice(heads) };
            let tasks = (
                x.par_chunks(height * d),
                heads.par_chunks(height * d),
                cut(sum, height * d, pieces),
                statistics.par_chunks_mut(height * 2),
                y.par_chunks_mut(height * d),
            );
            tasks.into_par_iter().enumerate().with_max_len(1).for_each(|(i, (x, heads, sum, statistics, y))| {
                layers.leave(&second, group * rows + i * height, x, heads, sum, statistics, y);
            });
        });
    });
    // SAFETY: groups and their pieces cover all rows, and of each `enter`, `forward_heads` and `leave` write everything
    // that is used.
    unsafe {
        let (n, qkv, heads, sum) = (written(n), written(qkv), written(heads), written(sum));
        (written(y), Kept { n, qkv, heads, log_totals, sum, statistics })
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
    let groups = Groups::new(of_heads);
    let Groups { rows, height, pieces, .. } = groups;
    let before = layers.normalizes(NormPlace::Before);
    let (of_sum, of_out) = (if before { 0 } else { d }, if layers.rule.dropout.is_some() { d } else { 0 });
    let mut dx = buffer(m * d);
    let of_group = pieces * layers.sums_len();
    let mut sums = vec![0.0; groups.count * of_group];
    let columns = |layer: usize, width: usize| if wanted[layer] { width } else { 0 };
    let operands = [[m, columns(0, 3 * d)], [m, columns(1, d)]].map(IncomingRole::Right);
    with_incoming(operands, layers.rule.precision, |[mut all_d_qkv, mut all_out]| {
        all_shared([layers.w1.t(), layers.w2.t()], layers.rule.precision, |[first, second]| {
            let tasks = (
                dy.par_chunks(rows * d),
                dx.par_chunks_mut(rows * d),
                all_d_qkv.row_pieces(rows),
                all_out.row_pieces(rows),
                sums.par_chunks_mut(of_group),
            );
            tasks.into_par_iter().enumerate().with_max_len(1).for_each(|(group, (dy, dx, to_d_qkv, to_out, sums))| {
                let of_heads = groups.heads(group);
                let segments = segments.map(|segments| nth(segments, rows, group));
                let (x, qkv, heads, log_totals) = (
                    nth(x, rows * d, group),
                    nth(&qkv, rows * 3 * d, group),
                    nth(&heads, rows * d, group),
                    nth(&log_totals, rows * of_heads.n_head, group),
                );
                let (sum, statistics) = (nth(&sum, rows * d, group), nth(&statistics, rows * 2, group));
                let m = dy.len() / d;
                with_scratch(2, m * (4 * d + of_sum + of_out), |memory| {
                    let (d_heads, rest) = memory.split_at_mut(m * d);
                    let (d_qkv, rest) = rest.split_at_mut(m * 3 * d);
                    let (d_sum, d_out) = rest.split_at_mut(m * of_sum);
                    let tasks = (
                        dy.par_chunks(height * d),
                        cut(d_sum, height * d, pieces),
                        cut(d_out, height * d, pieces),
                        d_heads.par_chunks_mut(height * d),
                        sums.par_chunks_mut(layers.sums_len()),
                    );
                    let tasks = tasks.into_par_iter().enumerate().with_max_len(1);
                    tasks.for_each(|(i, (dy, d_sum, d_out, d_heads, sums))| {
                        let summed = (nth(sum, height * d, i), nth(statistics, height * 2, i));
                        let (first_row, mut sums) = (group * rows + i * height, layers.sums(sums));
                        layers.leave_backward(&second, first_row, dy, summed, d_sum, d_out, d_heads, &mut sums);
                    });
                    // SAFETY: the pieces cover all rows, and `leave_backward` writes all of them.
                    let (d_heads, d_sum, d_out): (&[f32], &[f32], &[f32]) =
                        unsafe { (written_slice(d_heads), written_slice(d_sum), written_slice(d_out)) };
                    to_out.put(Matrix::new(of_output(d_out, d_sum, dy), m, d));
                    backward_heads(qkv, segments, Saved { y: heads, log_totals, dy: d_heads }, of_heads, d_qkv);
                    // SAFETY: `backward_heads` has written every number.
                    let d_qkv: &[f32] = unsafe { written_slice(d_qkv) };
                    to_d_qkv.put(Matrix::new(d_qkv, m, 3 * d));
                    let tasks = (
                        x.par_chunks(height * d),
                        d_qkv.par_chunks(height * 3 * d),
                        if before { dy } else { d_sum }.par_chunks(height * d),
                        dx.par_chunks_mut(height * d),
                        sums.par_chunks_mut(layers.sums_len()),
                    );
                    let tasks = tasks.into_par_iter().enumerate().with_max_len(1);
                    tasks.for_each(|(i, (x, d_qkv, d_sum, dx, sums))| {
                        let of_x = (x, nth(statistics, height * 2, i));
                        layers.enter_backward(&first, of_x, d_qkv, d_sum, dx, &mut layers.sums(sums));
                    });
                });
            });
        });
        // SAFETY: groups and their pieces cover all rows, and of each everything was written, and put.
        let (dx, all_d_qkv, all_out) = unsafe { (written(dx), all_d_qkv.right(), all_out.right()) };
        let input = if before { &n } else { x };
        let precision = layers.rule.precision;
        let weights = [
            wanted[0].then(|| (Left::of(Matrix::new(input, m, d).t(), 3 * d, precision), all_d_qkv)),
            wanted[1].then(|| (Left::of(Matrix::new(&heads, m, d).t(), d, precision), all_out)),
        ];
        Gradient::new(&layers, dx, &sums, weights)
    })
}
