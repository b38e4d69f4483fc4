//! Self-attention on packed queries, keys and values.

use crate::Precision;
use crate::cube;
use crate::dropout::{Dropout, RowMask, factors};
use crate::host::{Host, covers, on_host_backends};
use crate::product::{Matrix, MatrixMut, Shared, Start, buffer, prepared, product, written};
use crate::rounding::rounded;
use crate::vector;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::{Bool, Int, Tensor, activation::softmax};
use rayon::prelude::*;
use std::cell::Cell;
use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::ops::Range;

#[cfg(test)]
mod tests;

/// Queries whose scores exist at one time, for each thread.
const QUERIES: usize = 32;

/// Which positions attend to which, and how.
#[derive(Clone, Debug)]
pub struct AttentionOptions {
    /// Heads; divides `d_model`.
    pub n_head: usize,
    /// Whether a position attends only to itself and to earlier ones.
    pub causal: bool,
    /// Each position attends only to its own segment, `[batch, seq]`; none: each row is one segment. Padding is a
    /// segment like any other, so that no position attends to nothing.
    pub segments: Option<Tensor<2, Int>>,
    /// Dropout of the attention weights; its mask's places in a row are `(head * seq + query) * seq + key`.
    pub dropout: Option<Dropout>,
    /// Format of the products' operands; softmax and sums are f32.
    pub precision: Precision,
}

impl AttentionOptions {
    /// Causal attention in f32, without segments and dropout.
    pub fn causal(n_head: usize) -> Self {
        Self { n_head, causal: true, segments: None, dropout: None, precision: Precision::F32 }
    }

    /// Without the tensors; panics if they do not fit queries, keys and values of this shape.
    pub(crate) fn rule(&self, [batch, seq, width]: [usize; 3]) -> Rule {
        let Self { n_head, causal, dropout, precision, .. } = *self;
        assert!(n_head > 0 && width % (3 * n_head) == 0, "{n_head} heads do not divide a width of {width} / 3");
        if let Some(segments) = &self.segments {
            assert_eq!(segments.dims(), [batch, seq], "a segment for each position");
        }
        Rule { n_head, causal, dropout: dropout.filter(|dropout| dropout.probability > 0.0), precision }
    }
}

/// Attends each position to those that `options` let it see.
///
/// Scores exist for 32 queries of one head at a time, forward and backward, so that memory grows linearly with `seq`.
/// Keys that none of those queries sees are passed over. On GPUs, with heads at most 128 wide, they exist for 32 queries
/// and 32 keys at a time, and products are of f32 whatever the precision.
///
/// # Shapes
/// - `qkv`: `[batch, seq, 3 * d_model]`, queries, keys and values side by side, each the heads side by side
/// - returns `[batch, seq, d_model]`
///
/// # Panics
/// If `n_head` does not divide `d_model`, or the segments have another shape.
///
/// Source: Vaswani et al. 2017, section 3.2.1; the backward pass from one number a row as in Dao et al. 2022,
/// section 3.1 and appendix B.
pub fn attention(qkv: Tensor<3>, options: AttentionOptions) -> Tensor<3> {
    let rule = options.rule(qkv.dims());
    if cube::covers_attention(&qkv, options.n_head) {
        return cube::attention(qkv, options);
    }
    if !covers(&qkv) {
        return composed(qkv, options);
    }
    let qkv = qkv.into_dispatch();
    Tensor::from_dispatch(match options.segments {
        None => <Dispatch as AttentionOps>::attend(qkv, rule),
        Some(segments) => <Dispatch as AttentionOps>::attend_in_segments(qkv, segments.into_dispatch(), rule),
    })
}

/// The same in Burn's operations, which keep every score for the backward pass.
pub(crate) fn composed(qkv: Tensor<3>, options: AttentionOptions) -> Tensor<3> {
    let AttentionOptions { n_head, causal, segments, dropout, precision } = options;
    let [batch, seq, width] = qkv.dims();
    let d_model = width / 3;
    let d_head = d_model / n_head;
    let device = qkv.device();
    let part =
        |i: usize| qkv.clone().narrow(2, i * d_model, d_model).reshape([batch, seq, n_head, d_head]).swap_dims(1, 2);
    let mut hidden: Option<Tensor<4, Bool>> = causal.then(|| {
        Tensor::<2, Bool>::tril_mask([seq, seq], 0, &device).reshape([1, 1, seq, seq]).expand([batch, 1, seq, seq])
    });
    if let Some(segments) = segments {
        let of_query: Tensor<4, Int> = segments.clone().reshape([batch, 1, seq, 1]).expand([batch, 1, seq, seq]);
        let of_key: Tensor<4, Int> = segments.reshape([batch, 1, 1, seq]).expand([batch, 1, seq, seq]);
        let elsewhere = of_query.not_equal(of_key);
        hidden = Some(match hidden {
            Some(hidden) => elsewhere.bool_or(hidden),
            None => elsewhere,
        });
    }
    let scores = rounded(part(0), part(1).swap_dims(2, 3), precision, |q, k| q.matmul(k)); // [batch, n_head, seq, seq]
    let scores = scores * (d_head as f64).powf(-0.5);
    let scores = match hidden {
        // A finite value: a score of minus infinity has no gradient on some devices.
        Some(hidden) => scores.mask_fill(hidden, -1e9),
        None => scores,
    };
    let weights = softmax(scores, 3);
    let weights = match dropout {
        Some(dropout) => weights * factors([batch, n_head, seq, seq], dropout, &device),
        None => weights,
    };
    let y = rounded(weights, part(2), precision, |weights, v| weights.matmul(v)); // [batch, n_head, seq, d_head]
    y.swap_dims(1, 2).reshape([batch, seq, d_model])
}

/// [`AttentionOptions`] without tensors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    n_head: usize,
    causal: bool,
    dropout: Option<Dropout>,
    precision: Precision,
}

/// The operation on backends.
#[backend_extension(Flex, NdArray, Autodiff)]
pub(crate) trait AttentionOps: Backend {
    fn attend(qkv: FloatTensor<Self>, rule: Rule) -> FloatTensor<Self>;
    fn attend_in_segments(qkv: FloatTensor<Self>, segments: IntTensor<Self>, rule: Rule) -> FloatTensor<Self>;
}

on_host_backends!(AttentionOps {
    fn attend(qkv: FloatTensor<Self>, rule: Rule) -> FloatTensor<Self> {
        forward::<Self>(&qkv, None, rule).0
    }
    fn attend_in_segments(qkv: FloatTensor<Self>, segments: IntTensor<Self>, rule: Rule) -> FloatTensor<Self> {
        forward::<Self>(&qkv, Some(&segments), rule).0
    }
});

impl<B: Host, C: CheckpointStrategy> AttentionOps for Autodiff<B, C> {
    fn attend(qkv: FloatTensor<Self>, rule: Rule) -> FloatTensor<Self> {
        tracked::<B, C>(qkv, None, rule)
    }
    fn attend_in_segments(qkv: FloatTensor<Self>, segments: IntTensor<Self>, rule: Rule) -> FloatTensor<Self> {
        tracked::<B, C>(qkv, Some(segments), rule)
    }
}

fn tracked<B: Host, C: CheckpointStrategy>(
    qkv: FloatTensor<Autodiff<B, C>>,
    segments: Option<IntTensor<B>>,
    rule: Rule,
) -> FloatTensor<Autodiff<B, C>> {
    let (qkv, of_qkv) = qkv.into_parts();
    let (y, log_totals) = forward::<B>(&qkv, segments.as_ref(), rule);
    match Backward::<B, 1>::prepare::<C>(AttentionBackward, [of_qkv]).compute_bound().stateful() {
        OpsKind::Tracked(node) => node.finish((qkv, segments, y.clone(), log_totals, rule), y),
        OpsKind::UnTracked(node) => node.finish(y),
    }
}

/// The output, and the logarithm of each softmax's denominator, `[batch, n_head, seq]`.
fn forward<B: Host>(
    qkv: &FloatTensor<B>,
    segments: Option<&IntTensor<B>>,
    rule: Rule,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let shape = Shape::of::<B>(qkv, rule);
    let segments = segments.map(|segments| B::ids(segments));
    let Shape { batch, seq, n_head, .. } = shape;
    let mut y = buffer(batch * seq * shape.d_model());
    let mut log_totals = vec![0.0; batch * n_head * seq];
    forward_heads(&B::floats(qkv), segments.as_deref(), shape, &mut y, &mut log_totals);
    // SAFETY: `forward_heads` has written every number.
    let y = unsafe { written(y) };
    (B::tensor(y, vec![batch, seq, shape.d_model()]), B::tensor(log_totals, vec![batch, n_head, seq]))
}

#[derive(Debug)]
struct AttentionBackward;

impl<B: Host> Backward<B, 1> for AttentionBackward {
    /// Input, segments, output, denominators, rule.
    type State = (FloatTensor<B>, Option<IntTensor<B>>, FloatTensor<B>, FloatTensor<B>, Rule);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [of_qkv] = ops.parents;
        let dy = grads.consume::<B>(&ops.node);
        let (qkv, segments, y, log_totals, rule) = ops.state;
        let Some(of_qkv) = of_qkv else { return };
        let segments = segments.as_ref().map(|segments| B::ids(segments));
        let saved = Saved { y: &B::floats(&y), log_totals: &B::floats(&log_totals), dy: &B::floats(&dy) };
        let shape = Shape::of::<B>(&qkv, rule);
        let mut gradient = buffer(3 * shape.batch * shape.seq * shape.d_model());
        backward_heads(&B::floats(&qkv), segments.as_deref(), saved, shape, &mut gradient);
        // SAFETY: `backward_heads` has written every number.
        grads.register::<B>(of_qkv.id, B::tensor(unsafe { written(gradient) }, B::shape(&qkv)));
    }
}

/// Heads side by side, and how they attend.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// Number of the first element of the batch, whose dropout is keyed by it.
    first: usize,
    pub batch: usize,
    pub seq: usize,
    pub n_head: usize,
    d_head: usize,
    rule: Rule,
}

impl Shape {
    fn of<B: Host>(qkv: &FloatTensor<B>, rule: Rule) -> Self {
        let sides = B::shape(qkv);
        Self::new(sides[0], sides[1], sides[2] / 3, rule)
    }

    pub fn new(batch: usize, seq: usize, d_model: usize, rule: Rule) -> Self {
        Self { first: 0, batch, seq, n_head: rule.n_head, d_head: d_model / rule.n_head, rule }
    }

    /// Some elements of the batch.
    pub fn elements(self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.batch, "elements of a batch");
        Self { first: self.first + range.start, batch: range.len(), ..self }
    }

    fn d_model(&self) -> usize {
        self.n_head * self.d_head
    }

    fn scale(&self) -> f32 {
        1.0 / (self.d_head as f32).sqrt()
    }

    /// The numbers of one element of the batch in a tensor of `width` numbers a position.
    fn element<'a, T>(&self, values: &'a [T], batch: usize, width: usize) -> &'a [T] {
        &values[batch * self.seq * width..(batch + 1) * self.seq * width]
    }

    /// Head number `column` of `width / d_head` side by side in `values`: `[seq, d_head]`.
    fn head<'a>(&self, values: &'a [f32], column: usize, width: usize) -> Matrix<'a> {
        Matrix::strided(&values[column * self.d_head..], self.seq, self.d_head, width)
    }

    /// Blocks of queries.
    fn blocks(&self) -> impl DoubleEndedIterator<Item = Range<usize>> {
        let seq = self.seq;
        (0..seq.div_ceil(QUERIES)).map(move |block| block * QUERIES..((block + 1) * QUERIES).min(seq))
    }

    /// Memory for the scores of one block.
    fn scores(&self) -> usize {
        QUERIES.min(self.seq) * self.seq
    }
}

/// First and last position of each segment.
type Ends = HashMap<i32, (usize, usize)>;

/// The keys that matter to queries of one element of the batch.
struct Visible<'a> {
    shape: Shape,
    /// Of each position, and the first and last position of each.
    segments: Option<(&'a [i32], Ends)>,
}

impl<'a> Visible<'a> {
    fn new(shape: Shape, segments: Option<&'a [i32]>) -> Self {
        let segments = segments.map(|segments| {
            let mut ends = Ends::new();
            for (position, segment) in segments.iter().enumerate() {
                ends.entry(*segment).and_modify(|ends| ends.1 = position).or_insert((position, position));
            }
            (segments, ends)
        });
        Self { shape, segments }
    }

    /// Keys of which each query of the block may see some, and none of which others are seen; starts at a multiple of
    /// `step`.
    fn keys(&self, block: &Range<usize>, step: usize) -> Range<usize> {
        let (mut first, mut last) = (0, self.shape.seq);
        if let Some((segments, ends)) = &self.segments {
            let of_block = || segments[block.clone()].iter().map(|segment| ends[segment]);
            first = of_block().map(|ends| ends.0).min().unwrap_or(0) / step * step;
            last = of_block().map(|ends| ends.1 + 1).max().unwrap_or(0);
        }
        first..if self.shape.rule.causal { block.end.min(last) } else { last }
    }

    /// Replaces scores of `keys` that `query` must not see by minus infinity; returns how many it may see at most.
    fn hide(&self, scores: &mut [f32], query: usize, keys: &Range<usize>) -> usize {
        let visible = if self.shape.rule.causal { (query + 1).min(keys.end) } else { keys.end } - keys.start;
        if let Some((segments, _)) = &self.segments {
            let of_keys = &segments[keys.start..keys.start + visible];
            vector::hide_other_segments(&mut scores[..visible], of_keys, segments[query]);
        }
        visible
    }
}

/// What one thread needs to work on a head.
#[derive(Default)]
struct Workspace {
    weights: Vec<MaybeUninit<f32>>,
    slopes: Vec<MaybeUninit<f32>>,
    keys: Vec<MaybeUninit<f32>>,
    values: Vec<MaybeUninit<f32>>,
    copies: [Vec<f32>; 4],
    totals: Vec<f32>,
}

thread_local! {
    /// Kept from head to head: threads that ask for memory at the same time wait for each other.
    static WORKSPACE: Cell<Workspace> = Cell::default();
}

/// `a b` for some of the columns of `b`, in memory for it.
fn scores<'a>(
    memory: &'a mut Vec<MaybeUninit<f32>>,
    most: usize,
    a: Matrix,
    b: &Shared,
    columns: &Range<usize>,
    queries: usize,
) -> &'a mut [f32] {
    if memory.len() < most {
        *memory = buffer(most);
    }
    let memory = &mut memory[..queries * columns.len()];
    b.columns(columns.clone()).product(&mut MatrixMut::uninit(memory, queries, columns.len()), Start::Zero, a);
    // SAFETY: a product that starts from zero writes every number.
    unsafe { crate::product::written_slice(memory) }
}

/// Writes every number of the output and of the logarithms of the softmaxes' denominators.
///
/// # Shapes
/// - `qkv`: `[batch, seq, 3 * d_model]`, `y`: `[batch, seq, d_model]`, `log_totals`: `[batch, n_head, seq]`
pub(crate) fn forward_heads(
    qkv: &[f32],
    segments: Option<&[i32]>,
    shape: Shape,
    y: &mut [MaybeUninit<f32>],
    log_totals: &mut [f32],
) {
    let Shape { first, batch, seq, n_head, d_head, rule } = shape;
    let d_model = shape.d_model();
    assert!(y.len() == batch * seq * d_model && log_totals.len() == batch * n_head * seq, "memory for heads");
    // A head's columns of the output are a view of their own, so that heads can be written at the same time.
    let heads: Vec<MatrixMut> = y
        .chunks_exact_mut(seq * d_model)
        .flat_map(|y| MatrixMut::uninit(y, seq, d_model).column_pieces(d_head))
        .collect();
    let visible: Vec<Visible> = (0..batch)
        .map(|element| Visible::new(shape, segments.map(|segments| shape.element(segments, element, 1))))
        .collect();
    // The heads' blocks cover every number, and their products start from zero, which writes all they cover.
    let tasks = heads.into_par_iter().zip(log_totals.par_chunks_mut(seq)).enumerate().with_max_len(1);
    tasks.for_each(|(task, (mut y, log_totals))| {
        let mut workspace = WORKSPACE.take();
        let (element, head) = (task / n_head, task % n_head);
        let visible = &visible[element];
        let qkv = shape.element(qkv, element, 3 * d_model);
        let [q, k, v] = [0, 1, 2].map(|part| shape.head(qkv, part * n_head + head, 3 * d_model));
        let Workspace { weights: memory, keys: of_k, copies: [copy, ..], totals, .. } = &mut workspace;
        let k = prepared(k.t(), rule.precision, of_k);
        let v = v.copied_to(copy);
        let mask = rule.dropout.map(|dropout| (dropout.row(first + element), dropout.scale()));
        for block in shape.blocks() {
            let keys = visible.keys(&block, k.column_step());
            let q = q.rows(block.clone());
            let weights = scores(memory, shape.scores(), q, &k, &keys, block.len());
            totals.clear();
            for (row, query) in weights.chunks_exact_mut(keys.len()).zip(block.clone()) {
                let seen = visible.hide(row, query, &keys);
                let (log_total, total) = vector::exponentials(row, seen, shape.scale());
                log_totals[query] = log_total;
                totals.push(1.0 / total);
                if let Some((RowMask { keys: hash, threshold }, scale)) = mask {
                    let place = ((head * seq + query) * seq + keys.start) as u32;
                    vector::drop_in_place(&mut row[..seen], place, hash, threshold, scale);
                }
            }
            let weights = Matrix::new(weights, block.len(), keys.len());
            let mut y = y.rows(block);
            product(&mut y, Start::Zero, weights, v.rows(keys), rule.precision);
            // The weights are divided by their sum only here: a row of the output is shorter than one of theirs.
            y.scale_rows(totals);
        }
        WORKSPACE.set(workspace);
    });
}

/// What the backward pass needs besides the input: the output, its gradient, and the softmax's denominators.
pub(crate) struct Saved<'a> {
    pub y: &'a [f32],
    pub log_totals: &'a [f32],
    pub dy: &'a [f32],
}

/// Writes every number of the gradient of `qkv`, `[batch, seq, 3 * d_model]` as it is.
pub(crate) fn backward_heads(
    qkv: &[f32],
    segments: Option<&[i32]>,
    saved: Saved,
    shape: Shape,
    gradient: &mut [MaybeUninit<f32>],
) {
    let Shape { first, batch, seq, n_head, d_head, rule } = shape;
    let d_model = shape.d_model();
    assert_eq!(gradient.len(), batch * seq * 3 * d_model, "memory for the heads' gradient");
    let mut tasks: Vec<[MatrixMut; 3]> = Vec::with_capacity(batch * n_head);
    for gradient in gradient.chunks_exact_mut(seq * 3 * d_model) {
        let (q, kv) = MatrixMut::uninit(gradient, seq, 3 * d_model).split_cols(d_model);
        let (k, v) = kv.split_cols(d_model);
        let heads = q.column_pieces(d_head).into_iter().zip(k.column_pieces(d_head)).zip(v.column_pieces(d_head));
        tasks.extend(heads.map(|((q, k), v)| [q, k, v]));
    }
    let visible: Vec<Visible> = (0..batch)
        .map(|element| Visible::new(shape, segments.map(|segments| shape.element(segments, element, 1))))
        .collect();
    // The blocks cover all of the queries' columns, whose products start from zero; of the keys' and values' the first
    // block either covers all, starting from zero, or they are cleared.
    tasks.into_par_iter().enumerate().with_max_len(1).for_each(|(task, [mut dq, mut dk, mut dv])| {
        let mut workspace = WORKSPACE.take();
        let (element, head) = (task / n_head, task % n_head);
        let visible = &visible[element];
        let qkv = shape.element(qkv, element, 3 * d_model);
        let [q, k, v] = [0, 1, 2].map(|part| shape.head(qkv, part * n_head + head, 3 * d_model));
        let (y, dy) = (shape.element(saved.y, element, d_model), shape.element(saved.dy, element, d_model));
        let log_totals = &saved.log_totals[task * seq..(task + 1) * seq];
        let d_output = shape.head(dy, head, d_model);
        let Workspace { weights, slopes, keys, values, copies: [of_q, of_k, of_v, of_dy], .. } = &mut workspace;
        // Rows far apart cost a translation of their address each; they are read many times.
        let (q, k, v, d_output) = (q.copied_to(of_q), k.copied_to(of_k), v.copied_to(of_v), d_output.copied_to(of_dy));
        let k_turned = prepared(k.t(), rule.precision, keys);
        let v_turned = prepared(v.t(), rule.precision, values);
        let mask = rule.dropout.map(|dropout| (dropout.row(first + element), dropout.scale()));
        // Without segments the last block sees every key: coming first, it sets what the others add to.
        let mut start = Start::Zero;
        for block in shape.blocks().rev() {
            let keys = visible.keys(&block, k_turned.column_step());
            if keys.len() < seq && matches!(start, Start::Zero) {
                dk.clear();
                dv.clear();
                start = Start::Itself;
            }
            let (q, d_output) = (q.rows(block.clone()), d_output.rows(block.clone()));
            let weights = scores(weights, shape.scores(), q, &k_turned, &keys, block.len());
            let slopes = scores(slopes, shape.scores(), d_output, &v_turned, &keys, block.len());
            let rows = weights.chunks_exact_mut(keys.len()).zip(slopes.chunks_exact_mut(keys.len()));
            for ((weights, slopes), query) in rows.zip(block.clone()) {
                let seen = visible.hide(weights, query, &keys);
                let place = ((head * seq + query) * seq + keys.start) as u32;
                if let Some((RowMask { keys: hash, threshold }, scale)) = mask {
                    vector::drop_in_place(&mut slopes[..seen], place, hash, threshold, scale);
                }
                let at = query * d_model + head * d_head;
                let along = vector::dot(&dy[at..at + d_head], &y[at..at + d_head]);
                vector::softmax_backward(weights, slopes, seen, shape.scale(), log_totals[query], along);
                if let Some((RowMask { keys: hash, threshold }, scale)) = mask {
                    vector::drop_in_place(&mut weights[..seen], place, hash, threshold, scale);
                }
            }
            let queries = block.len();
            let (weights, slopes) =
                (Matrix::new(weights, queries, keys.len()), Matrix::new(slopes, queries, keys.len()));
            product(&mut dq.rows(block), Start::Zero, slopes, k.rows(keys.clone()), rule.precision);
            product(&mut dk.rows(keys.clone()), start, slopes.t(), q, rule.precision);
            product(&mut dv.rows(keys), start, weights.t(), d_output, rule.precision);
            start = Start::Itself;
        }
        WORKSPACE.set(workspace);
    });
}
