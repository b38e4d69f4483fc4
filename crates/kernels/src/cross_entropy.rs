//! Cross-entropy from hidden states and the weight of the head.

use crate::Precision;
use crate::cube;
use crate::host::{Host, covers, on_host_backends};
use crate::product::{Matrix, MatrixMut, Start, buffer, parallel_product, written, written_slice};
use crate::rounding::rounded;
use crate::vector;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::{Int, Tensor, activation::log_softmax};
use rayon::prelude::*;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Logits that exist at one time, and the limits of the rows this gives.
const LOGITS: usize = 1 << 24;
const MOST_ROWS: usize = 1024;
const FEWEST_ROWS: usize = 16;

/// Columns of the logits' gradient that one thread sums for the bias at a time.
const SUMMED: usize = 1024;

/// How a cross-entropy is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CrossEntropy {
    /// What part of each target's probability is spread over the whole vocabulary (Szegedy et al. 2016, section 7).
    pub label_smoothing: f32,
    /// Format of the products with the head; softmax and loss are f32.
    pub precision: Precision,
    /// Whether the head is not trained: no gradient of it is computed, whatever asks for one.
    pub head_is_frozen: bool,
}

/// The summed cross-entropy of `hidden` times the transposed `head`, plus `bias`, against `targets`, each row times its
/// weight.
///
/// Logits exist for at most 1024 rows at a time, and for about sixteen million logits; with a gradient to come, it is
/// computed beside them and scaled in the backward pass, so that they are never computed twice.
///
/// # Shapes
/// - `hidden`: `[rows, d]`, `head`: `[vocab, d]`, `bias`: `[vocab]`, `targets`, `weights`: `[rows]`; returns `[1]`, in
///   nats
///
/// A target of weight 0 adds nothing; its id must still lie inside the vocabulary. The weights get no gradient.
///
/// # Panics
/// On the CPU backends, if a target lies outside the vocabulary.
///
/// Source: the loss of Radford et al. 2018, section 3.1; gradient beside the loss as in Liger (Hsu et al. 2024,
/// section 3.2).
pub fn cross_entropy_sum(
    hidden: Tensor<2>,
    head: Tensor<2>,
    bias: Option<Tensor<1>>,
    targets: Tensor<1, Int>,
    weights: Tensor<1>,
    options: CrossEntropy,
) -> Tensor<1> {
    let ([rows, width], [vocab, of_head]) = (hidden.dims(), head.dims());
    let of_bias = bias.as_ref().is_none_or(|bias| bias.dims() == [vocab]);
    assert!(
        of_head == width && of_bias && targets.dims() == [rows] && weights.dims() == [rows],
        "shapes of a cross-entropy"
    );
    let on_cube = cube::covers(&hidden) && cube::covers(&head) && cube::covers(&weights);
    if !(on_cube || covers(&hidden) && covers(&weights)) {
        return composed(hidden, head, bias, targets, weights, options);
    }
    // An operation's tensors are always there: no bias is one without numbers that matter.
    let biased = bias.is_some();
    let bias = bias.unwrap_or_else(|| Tensor::zeros([1], &hidden.device()));
    if on_cube {
        return cube::cross_entropy_sum(hidden, head, bias, targets, weights, biased, options);
    }
    let (hidden, head, bias) = (hidden.into_dispatch(), head.into_dispatch(), bias.into_dispatch());
    let (targets, weights) = (targets.into_dispatch(), weights.into_dispatch());
    let loss = <Dispatch as CrossEntropyOps>::cross_entropy(hidden, head, bias, targets, weights, biased, options);
    Tensor::from_dispatch(loss)
}

/// The same in Burn's operations, with every logit in memory.
pub(crate) fn composed(
    hidden: Tensor<2>,
    head: Tensor<2>,
    bias: Option<Tensor<1>>,
    targets: Tensor<1, Int>,
    weights: Tensor<1>,
    options: CrossEntropy,
) -> Tensor<1> {
    let [rows, _] = hidden.dims();
    let smoothing = options.label_smoothing as f64;
    let logits = rounded(hidden, head.transpose(), options.precision, |hidden, head| hidden.matmul(head));
    let logits = match bias {
        Some(bias) => logits + bias.unsqueeze(),
        None => logits,
    };
    let log_probs = log_softmax(logits, 1); // [rows, vocab]
    let of_targets = log_probs.clone().gather(1, targets.reshape([rows, 1])); // [rows, 1]
    let weights = weights.reshape([rows, 1]);
    let of_targets = (of_targets * weights.clone()).sum().neg();
    if smoothing == 0.0 {
        return of_targets;
    }
    of_targets * (1.0 - smoothing) - (log_probs.mean_dim(1) * weights).sum() * smoothing
}

/// The summed cross-entropy as in [`cross_entropy_sum`], and the summed weight of the rows whose most likely token is the
/// target: what an evaluation asks. Without a gradient.
///
/// # Shapes
/// - as [`cross_entropy_sum`]; returns two of `[1]`
///
/// # Panics
/// On the CPU backends, if a target lies outside the vocabulary.
pub fn cross_entropy_and_correct(
    hidden: Tensor<2>,
    head: Tensor<2>,
    targets: Tensor<1, Int>,
    weights: Tensor<1>,
    precision: Precision,
) -> [Tensor<1>; 2] {
    let (hidden, head) = (hidden.inner_or_same(), head.inner_or_same());
    let [rows, _] = hidden.dims();
    let vocab = head.dims()[0];
    if covers(&hidden) && covers(&weights) {
        let (hidden, head) = (hidden.into_dispatch(), head.into_dispatch());
        let (targets, weights) = (targets.into_dispatch(), weights.into_dispatch());
        let (loss, correct) = <Dispatch as CorrectOps>::loss_and_correct(hidden, head, targets, weights, precision);
        return [loss, correct].map(Tensor::from_dispatch);
    }
    let mut sums: Option<[Tensor<1>; 2]> = None;
    for range in chunks(rows, vocab) {
        let (start, count) = (range.start, range.len());
        let part = hidden.clone().narrow(0, start, count);
        let logits = rounded(part, head.clone().transpose(), precision, |hidden, head| hidden.matmul(head));
        let (targets, weights) = (targets.clone().narrow(0, start, count), weights.clone().narrow(0, start, count));
        let best = logits.clone().argmax(1).reshape([count]);
        let correct = (best.equal(targets.clone()).float() * weights.clone()).sum();
        let of_targets = log_softmax(logits, 1).gather(1, targets.reshape([count, 1])).reshape([count]);
        let loss = (of_targets * weights).sum().neg();
        sums = Some(match sums {
            None => [loss, correct],
            Some([losses, corrects]) => [losses + loss, corrects + correct],
        });
    }
    sums.expect("a tensor has at least one row")
}

/// Where a tensor stands outside autodiff.
trait InnerOrSame {
    fn inner_or_same(self) -> Self;
}

impl<const D: usize> InnerOrSame for Tensor<D> {
    fn inner_or_same(self) -> Self {
        if self.device().is_autodiff() { self.inner() } else { self }
    }
}

/// The operation on backends.
#[backend_extension(Flex, NdArray, Autodiff)]
pub(crate) trait CrossEntropyOps: Backend {
    fn cross_entropy(
        hidden: FloatTensor<Self>,
        head: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        targets: IntTensor<Self>,
        weights: FloatTensor<Self>,
        biased: bool,
        options: CrossEntropy,
    ) -> FloatTensor<Self>;
}

on_host_backends!(CrossEntropyOps {
    fn cross_entropy(
        hidden: FloatTensor<Self>,
        head: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        targets: IntTensor<Self>,
        weights: FloatTensor<Self>,
        biased: bool,
        options: CrossEntropy,
    ) -> FloatTensor<Self> {
        let (hidden, head, targets, weights) =
            (Self::floats(&hidden), Self::floats(&head), Self::ids(&targets), Self::floats(&weights));
        let bias = Self::floats(&bias);
        let bias = biased.then_some(&*bias);
        let inputs = Inputs { hidden: &hidden, head: &head, bias, targets: &targets, weights: &weights, options };
        Self::tensor(vec![losses(inputs, None, None)], vec![1])
    }
});

/// The operation on backends; nothing to differentiate.
#[backend_extension(Flex, NdArray)]
pub(crate) trait CorrectOps: Backend {
    fn loss_and_correct(
        hidden: FloatTensor<Self>,
        head: FloatTensor<Self>,
        targets: IntTensor<Self>,
        weights: FloatTensor<Self>,
        precision: Precision,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

on_host_backends!(CorrectOps {
    fn loss_and_correct(
        hidden: FloatTensor<Self>,
        head: FloatTensor<Self>,
        targets: IntTensor<Self>,
        weights: FloatTensor<Self>,
        precision: Precision,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (hidden, head, targets, weights) =
            (Self::floats(&hidden), Self::floats(&head), Self::ids(&targets), Self::floats(&weights));
        let options = CrossEntropy { precision, ..CrossEntropy::default() };
        let inputs = Inputs { hidden: &hidden, head: &head, bias: None, targets: &targets, weights: &weights, options };
        let mut best = vec![false; targets.len()];
        let loss = losses(inputs, None, Some(&mut best));
        let correct: f64 = best.iter().zip(weights.iter()).filter(|(best, _)| **best).map(|(_, w)| *w as f64).sum();
        (Self::tensor(vec![loss], vec![1]), Self::tensor(vec![correct as f32], vec![1]))
    }
});

impl<B: Host, C: CheckpointStrategy> CrossEntropyOps for Autodiff<B, C> {
    fn cross_entropy(
        hidden: FloatTensor<Self>,
        head: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        targets: IntTensor<Self>,
        weights: FloatTensor<Self>,
        biased: bool,
        options: CrossEntropy,
    ) -> FloatTensor<Self> {
        let ((hidden, of_hidden), (head, of_head)) = (hidden.into_parts(), head.into_parts());
        let ((bias, of_bias), (weights, _)) = (bias.into_parts(), weights.into_parts());
        let shapes = [B::shape(&hidden), B::shape(&head), B::shape(&bias)];
        let (hidden, head, bias) = (B::floats(&hidden), B::floats(&head), B::floats(&bias));
        let (targets, weights) = (B::ids(&targets), B::floats(&weights));
        let bias = biased.then_some(&*bias);
        let inputs = Inputs { hidden: &hidden, head: &head, bias, targets: &targets, weights: &weights, options };
        let parents = [of_hidden, of_head, of_bias];
        match Backward::<B, 3>::prepare::<C>(CrossEntropyBackward, parents).compute_bound().stateful() {
            OpsKind::Tracked(node) => {
                // A head that is frozen is as large as any, and its gradient nobody's.
                let of_head = (!options.head_is_frozen).then(|| buffer(head.len()));
                let of_bias = bias.map(|bias| vec![0.0; bias.len()]);
                let mut gradient = Gradient { hidden: buffer(hidden.len()), head: of_head, bias: of_bias };
                let loss = losses(inputs, Some(&mut gradient), None);
                let Gradient { hidden, head, bias } = gradient;
                // SAFETY: with a gradient to write, `losses` writes every number of it.
                let (hidden, head) = unsafe { (written(hidden), head.map(|head| written(head))) };
                let mut shapes = shapes.into_iter();
                let state = [Some(hidden), head, bias].map(|values| {
                    let shape = shapes.next()?;
                    values.map(|values| B::tensor(values, shape))
                });
                node.finish(state, B::tensor(vec![loss], vec![1]))
            }
            OpsKind::UnTracked(node) => node.finish(B::tensor(vec![losses(inputs, None, None)], vec![1])),
        }
    }
}

#[derive(Debug)]
struct CrossEntropyBackward;

impl<B: Host> Backward<B, 3> for CrossEntropyBackward {
    /// The gradients of hidden states and, where they are there and trained, head and bias for a loss of gradient one.
    type State = [Option<FloatTensor<B>>; 3];

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_loss = grads.consume::<B>(&ops.node);
        let factor = B::floats(&d_loss)[0];
        for (node, gradient) in ops.parents.into_iter().zip(ops.state) {
            if let (Some(node), Some(gradient)) = (node, gradient) {
                grads.register::<B>(node.id, scaled::<B>(gradient, factor));
            }
        }
    }
}

/// `tensor` times `factor`, in its own memory.
fn scaled<B: Host>(tensor: FloatTensor<B>, factor: f32) -> FloatTensor<B> {
    if factor == 1.0 {
        return tensor;
    }
    let shape = B::shape(&tensor);
    let mut values = B::into_floats(tensor);
    values.par_chunks_mut(1 << 14).for_each(|values| vector::scale(values, factor));
    B::tensor(values, shape)
}

#[derive(Clone, Copy)]
struct Inputs<'a> {
    hidden: &'a [f32],
    head: &'a [f32],
    bias: Option<&'a [f32]>,
    targets: &'a [i32],
    weights: &'a [f32],
    options: CrossEntropy,
}

/// Gradients that [`losses`] writes, in the shapes of what they are gradients of.
struct Gradient {
    hidden: Vec<MaybeUninit<f32>>,
    /// Only where it is wanted.
    head: Option<Vec<MaybeUninit<f32>>>,
    /// Added to, where there is a bias.
    bias: Option<Vec<f32>>,
}

/// The chunks of rows for which logits exist at a time, of nearly the same size.
pub(crate) fn chunks(rows: usize, vocab: usize) -> impl Iterator<Item = Range<usize>> {
    let most = (LOGITS / vocab).clamp(FEWEST_ROWS, MOST_ROWS);
    let height = rows.div_ceil(rows.div_ceil(most));
    (0..rows).step_by(height).map(move |start| start..(start + height).min(rows))
}

/// How many logits exist at one time on the CPU, for so many rows.
pub fn logits_at_once(rows: usize, vocab: usize) -> usize {
    chunks(rows, vocab).next().map_or(0, |range| range.len()) * vocab
}

/// The summed loss; its gradients and whether each row's best guess is its target, where they are asked for.
fn losses(inputs: Inputs, mut gradient: Option<&mut Gradient>, best: Option<&mut [bool]>) -> f32 {
    let Inputs { hidden, head, bias, targets, weights, options } = inputs;
    let CrossEntropy { label_smoothing, precision, .. } = options;
    let rows = targets.len();
    let width = hidden.len() / rows;
    let vocab = head.len() / width;
    let head = Matrix::new(head, vocab, width);
    let mut memory = buffer(logits_at_once(rows, vocab));
    let mut of_rows = vec![(0.0, false); rows];
    let (kept, spread) = (1.0 - label_smoothing, label_smoothing / vocab as f32);
    for range in chunks(rows, vocab) {
        let count = range.len();
        let hidden = Matrix::new(&hidden[range.start * width..range.end * width], count, width);
        let logits = &mut memory[..count * vocab];
        let start = bias.map_or(Start::Zero, Start::Row);
        parallel_product(MatrixMut::uninit(logits, count, vocab), start, hidden, head.t(), precision);
        // SAFETY: the product has written them.
        let logits = unsafe { written_slice(logits) };
        let (want_gradient, want_best) = (gradient.is_some(), best.is_some());
        let of_range = targets[range.clone()].par_iter().zip(&weights[range.clone()]).zip(&mut of_rows[range.clone()]);
        logits.par_chunks_exact_mut(vocab).zip(of_range).with_min_len((4096 / vocab).max(1)).for_each(
            |(logits, ((target, weight), of_row))| {
                let target = *target as usize;
                let log_total = vector::log_sum_exp(logits);
                let mut loss = log_total - kept * logits[target];
                if label_smoothing > 0.0 {
                    loss -= spread * vector::total(logits);
                }
                let is_best = want_best && vector::first_largest(logits) == target;
                *of_row = (loss * weight, is_best);
                if want_gradient {
                    vector::weighted_softmax(logits, log_total, *weight, spread * weight);
                    logits[target] -= kept * weight;
                }
            },
        );
        if let Some(gradient) = gradient.as_deref_mut() {
            if let Some(of_bias) = &mut gradient.bias {
                of_bias.par_chunks_mut(SUMMED).enumerate().for_each(|(i, of_bias)| {
                    let columns = i * SUMMED..i * SUMMED + of_bias.len();
                    logits.chunks_exact(vocab).for_each(|slopes| vector::add(of_bias, &slopes[columns.clone()]));
                });
            }
            let slopes = Matrix::new(logits, count, vocab);
            let of_hidden = &mut gradient.hidden[range.start * width..range.end * width];
            let of_hidden = MatrixMut::uninit(of_hidden, count, width);
            // The first chunk writes the head's gradient, the others add to it.
            let start = if range.start == 0 { Start::Zero } else { Start::Itself };
            let of_head = gradient.head.as_mut().map(|of_head| MatrixMut::uninit(of_head, vocab, width));
            rayon::join(
                || parallel_product(of_hidden, Start::Zero, slopes, head, precision),
                || {
                    if let Some(of_head) = of_head {
                        parallel_product(of_head, start, slopes.t(), hidden, precision);
                    }
                },
            );
        }
    }
    if let Some(best) = best {
        best.iter_mut().zip(&of_rows).for_each(|(best, of_row)| *best = of_row.1);
    }
    of_rows.iter().map(|of_row| of_row.0 as f64).sum::<f64>() as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{Values, assert_agree_within, assert_same_bits, assert_spreads_nan, loss_of, random, scaled};
    use burn::tensor::TensorData;

    fn inputs([rows, width, vocab]: [usize; 3]) -> Vec<Values> {
        // Burn rounds logits to half precision: they must not be large.
        vec![random(&[rows, width], 5), scaled(random(&[vocab, width], 6), width), random(&[vocab], 7)]
    }

    fn options() -> impl Iterator<Item = CrossEntropy> {
        let of = |precision| {
            [0.0, 0.1].map(|label_smoothing| CrossEntropy { label_smoothing, precision, head_is_frozen: false })
        };
        [Precision::F32, Precision::Bf16, Precision::F16].into_iter().flat_map(of)
    }

    #[test]
    fn cross_entropy_equals_the_composed_operations() {
        for shape in [[1, 1, 1], [2, 3, 2], [17, 5, 31], [131, 16, 65], [1031, 7, 67], [3, 33, 700]] {
            for options in options() {
                let tolerance = if options.precision == Precision::F32 { 1e-5 } else { 1e-2 };
                let inputs = inputs(shape);
                // Without a bias, and with one.
                for inputs in [&inputs[..2], &inputs] {
                    let (ours, theirs) = (loss_of(cross_entropy_sum, options), loss_of(composed, options));
                    assert_agree_within(tolerance, inputs, ours, theirs);
                }
            }
        }
    }

    #[test]
    fn cross_entropy_gives_the_same_bits_for_every_number_of_threads() {
        for options in options() {
            assert_same_bits(&inputs([700, 19, 2301]), loss_of(cross_entropy_sum, options));
        }
    }

    #[test]
    fn cross_entropy_passes_nan_and_infinity() {
        for options in options() {
            assert_spreads_nan(&inputs([4, 5, 11]), loss_of(cross_entropy_sum, options));
        }
    }

    #[test]
    fn an_evaluation_counts_the_rows_whose_best_guess_is_right() {
        let (rows, vocab) = (1500, 7);
        for device in crate::oracle::devices() {
            // The hidden state is the logits: the head is the identity.
            let mut logits = vec![0f32; rows * vocab];
            (0..rows).for_each(|row| logits[row * vocab + row % vocab] = 3.0);
            let identity: Vec<f32> = (0..vocab * vocab).map(|i| if i % (vocab + 1) == 0 { 1.0 } else { 0.0 }).collect();
            let targets: Vec<i32> =
                (0..rows as i32).map(|row| if row % 3 == 0 { row % 7 } else { (row + 1) % 7 }).collect();
            let weights: Vec<f32> = (0..rows).map(|row| (row % 2) as f32).collect();
            let right: f32 = (0..rows).filter(|row| row % 3 == 0).map(|row| weights[row]).sum();
            let hidden = Tensor::<2>::from_data(TensorData::new(logits, [rows, vocab]), &device);
            let head = Tensor::<2>::from_data(TensorData::new(identity, [vocab, vocab]), &device);
            let targets = Tensor::<1, Int>::from_data(TensorData::new(targets, [rows]), &device);
            let weights = Tensor::<1>::from_data(TensorData::new(weights, [rows]), &device);
            let loss = cross_entropy_sum(
                hidden.clone(),
                head.clone(),
                None,
                targets.clone(),
                weights.clone(),
                CrossEntropy::default(),
            );
            let [same, correct] = cross_entropy_and_correct(hidden, head, targets, weights, Precision::F32);
            assert_eq!(correct.into_scalar::<f32>(), right);
            assert_eq!(same.into_scalar::<f32>(), loss.into_scalar::<f32>());
        }
    }
}
