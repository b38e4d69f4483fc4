//! Causal self-attention on packed queries, keys and values.

use crate::host::{Host, covers, on_host_backends};
use crate::matrix::{Matrix, MatrixMut, product};
use crate::vector;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::{Bool, Int, Tensor, activation::softmax};
use rayon::prelude::*;

/// Queries whose scores exist at one time, for each thread.
const QUERIES: usize = 64;

/// Attends each position to itself and to earlier positions, of its own segment where `segments` are given.
///
/// Scores exist for 64 queries of one head at a time, forward and backward, so that memory grows linearly with `seq`.
///
/// # Shapes
/// - `qkv`: `[batch, seq, 3 * d_model]`, queries, keys and values side by side, each the heads side by side
/// - `segments`: `[batch, seq]`
/// - returns `[batch, seq, d_model]`
///
/// # Panics
/// If `n_head` does not divide `d_model`.
///
/// Source: Vaswani et al. 2017, section 3.2.1; the backward pass from one number a row as in Dao et al. 2022,
/// section 3.1 and appendix B.
pub fn causal_attention(qkv: Tensor<3>, n_head: usize, segments: Option<Tensor<2, Int>>) -> Tensor<3> {
    let [batch, seq, width] = qkv.dims();
    assert!(n_head > 0 && width % (3 * n_head) == 0, "{n_head} heads do not divide a width of {width} / 3");
    if !covers(&qkv) {
        return composed(qkv, n_head, segments);
    }
    let qkv = qkv.into_dispatch();
    Tensor::from_dispatch(match segments {
        None => <Dispatch as AttentionOps>::causal(qkv, n_head),
        Some(segments) => {
            assert_eq!(segments.dims(), [batch, seq], "a segment for each position");
            <Dispatch as AttentionOps>::causal_in_segments(qkv, segments.into_dispatch(), n_head)
        }
    })
}

/// The same in Burn's operations, which keep every score for the backward pass.
fn composed(qkv: Tensor<3>, n_head: usize, segments: Option<Tensor<2, Int>>) -> Tensor<3> {
    let [batch, seq, width] = qkv.dims();
    let d_model = width / 3;
    let d_head = d_model / n_head;
    let part =
        |i: usize| qkv.clone().narrow(2, i * d_model, d_model).reshape([batch, seq, n_head, d_head]).swap_dims(1, 2);
    let causal = Tensor::<2, Bool>::tril_mask([seq, seq], 0, &qkv.device()).reshape([1, 1, seq, seq]);
    let hidden = match segments {
        None => causal,
        Some(segments) => {
            let of_query: Tensor<4, Int> = segments.clone().reshape([batch, 1, seq, 1]).expand([batch, 1, seq, seq]);
            let of_key: Tensor<4, Int> = segments.reshape([batch, 1, 1, seq]).expand([batch, 1, seq, seq]);
            of_query.not_equal(of_key).bool_or(causal.expand([batch, 1, seq, seq]))
        }
    };
    let scores = (part(0) * (d_head as f64).powf(-0.5)).matmul(part(1).swap_dims(2, 3)); // [batch, n_head, seq, seq]
    let weights = softmax(scores.mask_fill(hidden, -1e9), 3);
    weights.matmul(part(2)).swap_dims(1, 2).reshape([batch, seq, d_model])
}

/// The operation on backends.
#[backend_extension(Flex, NdArray, Autodiff)]
pub(crate) trait AttentionOps: Backend {
    fn causal(qkv: FloatTensor<Self>, n_head: usize) -> FloatTensor<Self>;
    fn causal_in_segments(qkv: FloatTensor<Self>, segments: IntTensor<Self>, n_head: usize) -> FloatTensor<Self>;
}

on_host_backends!(AttentionOps {
    fn causal(qkv: FloatTensor<Self>, n_head: usize) -> FloatTensor<Self> {
        forward::<Self>(&qkv, None, n_head).0
    }
    fn causal_in_segments(qkv: FloatTensor<Self>, segments: IntTensor<Self>, n_head: usize) -> FloatTensor<Self> {
        forward::<Self>(&qkv, Some(&segments), n_head).0
    }
});

impl<B: Host, C: CheckpointStrategy> AttentionOps for Autodiff<B, C> {
    fn causal(qkv: FloatTensor<Self>, n_head: usize) -> FloatTensor<Self> {
        tracked::<B, C>(qkv, None, n_head)
    }
    fn causal_in_segments(qkv: FloatTensor<Self>, segments: IntTensor<Self>, n_head: usize) -> FloatTensor<Self> {
        tracked::<B, C>(qkv, Some(segments), n_head)
    }
}

fn tracked<B: Host, C: CheckpointStrategy>(
    qkv: FloatTensor<Autodiff<B, C>>,
    segments: Option<IntTensor<B>>,
    n_head: usize,
) -> FloatTensor<Autodiff<B, C>> {
    let (qkv, of_qkv) = qkv.into_parts();
    let (y, log_totals) = forward::<B>(&qkv, segments.as_ref(), n_head);
    match Backward::<B, 1>::prepare::<C>(AttentionBackward, [of_qkv]).compute_bound().stateful() {
        OpsKind::Tracked(node) => node.finish((qkv, segments, y.clone(), log_totals, n_head), y),
        OpsKind::UnTracked(node) => node.finish(y),
    }
}

/// The output, and the logarithm of each softmax's denominator, `[batch, n_head, seq]`.
fn forward<B: Host>(
    qkv: &FloatTensor<B>,
    segments: Option<&IntTensor<B>>,
    n_head: usize,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let shape = Shape::of::<B>(qkv, n_head);
    let segments = segments.map(|segments| B::ids(segments));
    let (y, log_totals) = forward_heads(&B::floats(qkv), segments.as_deref(), shape);
    let Shape { batch, seq, n_head, d_head } = shape;
    (B::tensor(y, vec![batch, seq, n_head * d_head]), B::tensor(log_totals, vec![batch, n_head, seq]))
}

#[derive(Debug)]
struct AttentionBackward;

impl<B: Host> Backward<B, 1> for AttentionBackward {
    /// Input, segments, output, denominators, heads.
    type State = (FloatTensor<B>, Option<IntTensor<B>>, FloatTensor<B>, FloatTensor<B>, usize);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [of_qkv] = ops.parents;
        let dy = grads.consume::<B>(&ops.node);
        let (qkv, segments, y, log_totals, n_head) = ops.state;
        let Some(of_qkv) = of_qkv else { return };
        let segments = segments.as_ref().map(|segments| B::ids(segments));
        let saved = Saved { y: &B::floats(&y), log_totals: &B::floats(&log_totals), dy: &B::floats(&dy) };
        let shape = Shape::of::<B>(&qkv, n_head);
        let gradient = backward_heads(&B::floats(&qkv), segments.as_deref(), saved, shape);
        grads.register::<B>(of_qkv.id, B::tensor(gradient, B::shape(&qkv)));
    }
}

#[derive(Clone, Copy)]
struct Shape {
    batch: usize,
    seq: usize,
    n_head: usize,
    d_head: usize,
}

impl Shape {
    fn of<B: Host>(qkv: &FloatTensor<B>, n_head: usize) -> Self {
        let sides = B::shape(qkv);
        Self { batch: sides[0], seq: sides[1], n_head, d_head: sides[2] / 3 / n_head }
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

    /// Blocks of queries; a block sees the keys before its end.
    fn blocks(&self) -> impl DoubleEndedIterator<Item = std::ops::Range<usize>> {
        let seq = self.seq;
        (0..seq.div_ceil(QUERIES)).map(move |block| block * QUERIES..((block + 1) * QUERIES).min(seq))
    }

    /// Scratch for the scores of one block.
    fn scores(&self) -> Vec<f32> {
        vec![0.0; QUERIES.min(self.seq) * self.seq]
    }
}

/// - `qkv`: `[batch, seq, 3 * d_model]`; returns `[batch, seq, d_model]` and `[batch, n_head, seq]`
fn forward_heads(qkv: &[f32], segments: Option<&[i32]>, shape: Shape) -> (Vec<f32>, Vec<f32>) {
    let Shape { batch, seq, n_head, d_head } = shape;
    let d_model = shape.d_model();
    let mut y = vec![0.0; batch * seq * d_model];
    let mut log_totals = vec![0.0; batch * n_head * seq];
    // A head's columns of the output are a view of their own, so that heads can be written at the same time.
    let heads: Vec<MatrixMut> =
        y.chunks_exact_mut(seq * d_model).flat_map(|y| MatrixMut::new(y, seq, d_model).column_pieces(d_head)).collect();
    let tasks = heads.into_par_iter().zip(log_totals.par_chunks_mut(seq)).enumerate().with_max_len(1);
    tasks.for_each_init(
        || shape.scores(),
        |scores, (task, (mut y, log_totals))| {
            let (element, head) = (task / n_head, task % n_head);
            let qkv = shape.element(qkv, element, 3 * d_model);
            let segments = segments.map(|segments| shape.element(segments, element, 1));
            let [q, k, v] = [0, 1, 2].map(|part| shape.head(qkv, part * n_head + head, 3 * d_model));
            for block in shape.blocks() {
                let (queries, keys) = (block.len(), block.end);
                let scores = &mut scores[..queries * keys];
                let q = q.rows(block.clone());
                product(&mut MatrixMut::new(scores, queries, keys), false, q, k.rows(0..keys).t());
                for (row, query) in scores.chunks_exact_mut(keys).zip(block.clone()) {
                    if let Some(segments) = segments {
                        vector::hide_other_segments(&mut row[..=query], segments, segments[query]);
                    }
                    log_totals[query] = vector::softmax(row, query + 1, shape.scale());
                }
                product(&mut y.rows(block), false, Matrix::new(scores, queries, keys), v.rows(0..keys));
            }
        },
    );
    (y, log_totals)
}

/// What the backward pass needs besides the input: the output, its gradient, and the softmax's denominators.
struct Saved<'a> {
    y: &'a [f32],
    log_totals: &'a [f32],
    dy: &'a [f32],
}

/// The gradient of `qkv`, `[batch, seq, 3 * d_model]`.
fn backward_heads(qkv: &[f32], segments: Option<&[i32]>, saved: Saved, shape: Shape) -> Vec<f32> {
    let Shape { batch, seq, n_head, d_head } = shape;
    let d_model = shape.d_model();
    let mut gradient = vec![0.0; batch * seq * 3 * d_model];
    let mut tasks: Vec<[MatrixMut; 3]> = Vec::with_capacity(batch * n_head);
    for gradient in gradient.chunks_exact_mut(seq * 3 * d_model) {
        let (q, kv) = MatrixMut::new(gradient, seq, 3 * d_model).split_cols(d_model);
        let (k, v) = kv.split_cols(d_model);
        let heads = q.column_pieces(d_head).into_iter().zip(k.column_pieces(d_head)).zip(v.column_pieces(d_head));
        tasks.extend(heads.map(|((q, k), v)| [q, k, v]));
    }
    tasks.into_par_iter().enumerate().with_max_len(1).for_each_init(
        || (shape.scores(), shape.scores()),
        |(weights, slopes), (task, [mut dq, mut dk, mut dv])| {
            let (element, head) = (task / n_head, task % n_head);
            let qkv = shape.element(qkv, element, 3 * d_model);
            let segments = segments.map(|segments| shape.element(segments, element, 1));
            let [q, k, v] = [0, 1, 2].map(|part| shape.head(qkv, part * n_head + head, 3 * d_model));
            let (y, dy) = (shape.element(saved.y, element, d_model), shape.element(saved.dy, element, d_model));
            let log_totals = &saved.log_totals[task * seq..(task + 1) * seq];
            let d_output = shape.head(dy, head, d_model);
            // The last block comes first: it sees every key, so it sets what the others add to.
            for block in shape.blocks().rev() {
                let (queries, keys) = (block.len(), block.end);
                let add = keys < seq;
                let (q, d_output) = (q.rows(block.clone()), d_output.rows(block.clone()));
                let (weights, slopes) = (&mut weights[..queries * keys], &mut slopes[..queries * keys]);
                product(&mut MatrixMut::new(weights, queries, keys), false, q, k.rows(0..keys).t());
                product(&mut MatrixMut::new(slopes, queries, keys), false, d_output, v.rows(0..keys).t());
                let rows = weights.chunks_exact_mut(keys).zip(slopes.chunks_exact_mut(keys)).zip(block.clone());
                for ((weights, slopes), query) in rows {
                    if let Some(segments) = segments {
                        vector::hide_other_segments(&mut weights[..=query], segments, segments[query]);
                    }
                    let at = query * d_model + head * d_head;
                    let along = vector::dot(&dy[at..at + d_head], &y[at..at + d_head]);
                    vector::softmax_backward(weights, slopes, query + 1, shape.scale(), log_totals[query], along);
                }
                let (weights, slopes) = (Matrix::new(weights, queries, keys), Matrix::new(slopes, queries, keys));
                product(&mut dq.rows(block), false, slopes, k.rows(0..keys));
                product(&mut dk.rows(0..keys), add, slopes.t(), q);
                product(&mut dv.rows(0..keys), add, weights.t(), d_output);
            }
        },
    );
    gradient
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{Values, assert_agree, assert_same_bits, assert_spreads_nan, random};
    use burn::tensor::TensorData;

    /// Batch, positions, heads, width of a head.
    const SHAPES: [[usize; 4]; 7] =
        [[1, 1, 1, 1], [2, 2, 1, 3], [1, 63, 3, 5], [3, 64, 2, 16], [2, 65, 1, 17], [1, 131, 2, 7], [1, 200, 1, 33]];

    fn inputs([batch, seq, n_head, d_head]: [usize; 4]) -> Vec<Values> {
        vec![random(&[batch, seq, 3 * n_head * d_head], 7)]
    }

    /// Segments of uneven lengths; the last positions are padding, segment 0.
    fn segments(qkv: &Tensor<3>) -> Tensor<2, Int> {
        let [batch, seq, _] = qkv.dims();
        let of = |i: usize| if i % seq + 2 >= seq { 0 } else { (1 + i % seq / (3 + i / seq * 5)) as i32 };
        let ids: Vec<i32> = (0..batch * seq).map(of).collect();
        Tensor::from_data(TensorData::new(ids, [batch, seq]), &qkv.device())
    }

    fn run(
        attend: impl Fn(Tensor<3>, usize, Option<Tensor<2, Int>>) -> Tensor<3> + Sync,
        n_head: usize,
        packed: bool,
    ) -> impl Fn(&[Tensor<1>], &[Values]) -> Tensor<1> + Sync {
        move |x, of| {
            let qkv = of[0].view::<3>(x, 0);
            let segments = packed.then(|| segments(&qkv));
            attend(qkv, n_head, segments).reshape([-1])
        }
    }

    #[test]
    fn attention_equals_the_composed_operations_with_and_without_segments() {
        for shape in SHAPES {
            for packed in [false, true] {
                assert_agree(&inputs(shape), run(causal_attention, shape[2], packed), run(composed, shape[2], packed));
            }
        }
    }

    #[test]
    fn attention_gives_the_same_bits_for_every_number_of_threads() {
        for packed in [false, true] {
            assert_same_bits(&inputs([2, 131, 3, 11]), run(causal_attention, 3, packed));
        }
    }

    #[test]
    fn attention_passes_nan_and_infinity() {
        assert_spreads_nan(&inputs([1, 70, 1, 5]), run(causal_attention, 1, false));
    }

    #[test]
    fn a_later_token_changes_no_bit_of_an_earlier_output() {
        for device in crate::oracle::devices() {
            let attend = |last: f32| {
                let mut values: Vec<f32> = (0..70 * 6).map(|i| (i as f32).sin()).collect();
                values[69 * 6..].fill(last);
                let qkv = Tensor::<3>::from_data(TensorData::new(values, [1, 70, 6]), &device);
                causal_attention(qkv, 1, None).narrow(1, 0, 69).into_data()
            };
            assert_eq!(attend(0.5), attend(-3.0));
        }
    }
}
