//! Cross-entropy from hidden states and the weight of the head, without all logits in memory.
//!
//! Logits exist for some rows at a time, as on the CPU, made by Burn's matrix product; one kernel turns them in place
//! into their gradient, which the products with head and hidden states take at once. Chunks of the vocabulary instead of
//! the rows would make every logit twice: once for the softmax's denominator and once for the gradient.

use super::reduce::{WIDE, greatest_over_cube, sum_over_cube};
use super::{argument, empty, owned, sides};
use crate::cross_entropy::chunks;
use crate::rounding::Format;
use crate::{CrossEntropy, Precision};
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Cube, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{FloatDType, Int, IntDType, Shape, Slice, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

/// The same as [`crate::cross_entropy_sum`], where [`super::covers`] the tensors of floats.
pub(crate) fn cross_entropy_sum(
    hidden: Tensor<2>,
    head: Tensor<2>,
    bias: Tensor<1>,
    targets: Tensor<1, Int>,
    weights: Tensor<1>,
    biased: bool,
    options: CrossEntropy,
) -> Tensor<1> {
    let (hidden, head, bias) = (hidden.into_dispatch(), head.into_dispatch(), bias.into_dispatch());
    let (targets, weights) = (targets.cast(IntDType::I32).into_dispatch(), weights.into_dispatch());
    let loss = <Dispatch as ChunkedLoss>::chunked_loss(hidden, head, bias, targets, weights, biased, options);
    Tensor::from_dispatch(loss)
}

/// What is made of the logits of some rows.
#[backend_extension(Cube, Fusion)]
pub(crate) trait LossOps: Backend {
    /// Each row's loss times its weight, and the gradient of the logits, in their memory where nobody else holds them.
    #[fusion(meta = |logits, _targets, weights, _smoothing| (weights.clone(), logits.clone()))]
    fn losses_and_slopes(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        weights: FloatTensor<Self>,
        smoothing: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The losses alone.
    #[fusion(dtype = weights, shape = weights)]
    fn losses_of_rows(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        weights: FloatTensor<Self>,
        smoothing: f32,
    ) -> FloatTensor<Self>;
}

/// The operation.
#[backend_extension(Cube, Autodiff)]
pub(crate) trait ChunkedLoss: Backend {
    fn chunked_loss(
        hidden: FloatTensor<Self>,
        head: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        targets: IntTensor<Self>,
        weights: FloatTensor<Self>,
        biased: bool,
        options: CrossEntropy,
    ) -> FloatTensor<Self>;
}

impl ChunkedLoss for Cube {
    fn chunked_loss(
        hidden: FloatTensor<Self>,
        head: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        targets: IntTensor<Self>,
        weights: FloatTensor<Self>,
        biased: bool,
        options: CrossEntropy,
    ) -> FloatTensor<Self> {
        let bias = biased.then_some(bias);
        losses::<Self>(Inputs { hidden, head, bias, targets, weights, options }, false).0
    }
}

impl<B: LossOps, C: CheckpointStrategy> ChunkedLoss for Autodiff<B, C> {
    fn chunked_loss(
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
        let bias = biased.then_some(bias);
        let inputs = Inputs::<B> { hidden, head, bias, targets, weights, options };
        match Backward::<B, 3>::prepare::<C>(LossBackward, [of_hidden, of_head, of_bias]).compute_bound().stateful() {
            OpsKind::Tracked(node) => {
                let (loss, gradients) = losses(inputs, true);
                node.finish(gradients.expect("it was asked for"), loss)
            }
            OpsKind::UnTracked(node) => node.finish(losses(inputs, false).0),
        }
    }
}

/// The gradients of hidden states and, where they are there and trained, head and bias.
type Slopes<B> = [Option<FloatTensor<B>>; 3];

#[derive(Debug)]
struct LossBackward;

impl<B: LossOps> Backward<B, 3> for LossBackward {
    /// For a loss of gradient one.
    type State = Slopes<B>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_loss = grads.consume::<B>(&ops.node); // [1]
        for (node, gradient) in ops.parents.into_iter().zip(ops.state) {
            if let (Some(node), Some(gradient)) = (node, gradient) {
                let ones = Shape::new_raw(vec![1; gradient.shape().num_dims()].into());
                grads.register::<B>(node.id, B::float_mul(gradient, B::float_reshape(d_loss.clone(), ones)));
            }
        }
    }
}

struct Inputs<B: Backend> {
    hidden: FloatTensor<B>,
    head: FloatTensor<B>,
    bias: Option<FloatTensor<B>>,
    targets: IntTensor<B>,
    weights: FloatTensor<B>,
    options: CrossEntropy,
}

/// `x` as an operand of a product of `precision`.
fn operand<B: Backend>(x: FloatTensor<B>, precision: Precision) -> FloatTensor<B> {
    match Format::of(precision) {
        None => x,
        Some(format) if B::supports_dtype(&x.device(), format.dtype.into()) => B::float_cast(x, format.dtype),
        Some(format) => {
            let high = B::float_mul_scalar(x.clone(), format.splitter().into());
            B::float_sub(high.clone(), B::float_sub(high, x))
        }
    }
}

/// `a b` as f32.
fn product<B: Backend>(a: FloatTensor<B>, b: FloatTensor<B>) -> FloatTensor<B> {
    B::float_cast(B::float_matmul(a, b), FloatDType::F32)
}

/// The summed loss, `[1]`, and the gradients of hidden states and head where they are asked for.
fn losses<B: LossOps>(inputs: Inputs<B>, want_gradient: bool) -> (FloatTensor<B>, Option<Slopes<B>>) {
    let Inputs { hidden, head, bias, targets, weights, options } = inputs;
    let CrossEntropy { label_smoothing, precision, head_is_frozen } = options;
    let ([rows, _], [vocab, _]) = (hidden.shape().dims(), head.shape().dims());
    let head = operand::<B>(head, precision);
    let bias = bias.map(|bias| B::float_reshape(bias, Shape::new([1, vocab])));
    let (mut of_rows, mut of_hidden, mut of_head, mut of_bias) = (Vec::new(), Vec::new(), None, None);
    let plus = |sum: Option<FloatTensor<B>>, part| match sum {
        None => part,
        Some(sum) => B::float_add(sum, part),
    };
    for range in chunks(rows, vocab) {
        let range = Slice::from(range);
        let hidden = operand::<B>(B::float_slice(hidden.clone(), &[range, Slice::from(..)]), precision);
        let logits = product::<B>(hidden.clone(), B::float_transpose(head.clone())); // [count, vocab]
        let logits = match &bias {
            Some(bias) => B::float_add(logits, bias.clone()),
            None => logits,
        };
        let (targets, weights) = (B::int_slice(targets.clone(), &[range]), B::float_slice(weights.clone(), &[range]));
        if !want_gradient {
            of_rows.push(B::losses_of_rows(logits, targets, weights, label_smoothing));
            continue;
        }
        let (losses, slopes) = B::losses_and_slopes(logits, targets, weights, label_smoothing);
        of_rows.push(losses);
        if bias.is_some() {
            let part = B::float_reshape(B::float_sum_dim(slopes.clone(), 0), Shape::new([vocab]));
            of_bias = Some(plus(of_bias, part));
        }
        let slopes = operand::<B>(slopes, precision);
        of_hidden.push(product::<B>(slopes.clone(), head.clone()));
        if head_is_frozen {
            continue;
        }
        let part = product::<B>(B::float_transpose(slopes), hidden); // [vocab, d]
        of_head = Some(plus(of_head, part));
    }
    let loss = B::float_sum(joined::<B>(of_rows));
    (loss, want_gradient.then(|| [Some(joined::<B>(of_hidden)), of_head, of_bias]))
}

/// The rows of all parts, one part after the other.
fn joined<B: Backend>(mut parts: Vec<FloatTensor<B>>) -> FloatTensor<B> {
    if parts.len() == 1 { parts.remove(0) } else { B::float_cat(parts, 0) }
}

/// One cube a row: its loss times its weight and, in place of its logits, their gradient.
///
/// Source: the softmax's denominator in one pass, Milakov and Gimelshein 2018, algorithm 3.
#[cube(launch_unchecked)]
fn softmax_rows(
    logits: &mut [f32],
    targets: &[i32],
    weights: &[f32],
    losses: &mut [f32],
    vocab: u32,
    smoothing: f32,
    #[comptime] want_slopes: bool,
) {
    let mut shared = Shared::<[f32]>::new_slice(comptime!(WIDE as usize));
    let row = CUBE_POS_X as usize;
    let start = CUBE_POS_X * vocab;
    let (target, weight) = (targets[row] as u32, weights[row]);
    // Finite: the difference of two infinities is no number.
    let mut greatest = f32::new(-3.0e38);
    let mut total = 0.0f32;
    let mut sum = 0.0f32;
    let mut of_target = 0.0f32;
    let mut column = UNIT_POS;
    while column < vocab {
        let logit = logits[(start + column) as usize];
        if logit > greatest {
            total *= (greatest - logit).exp();
            greatest = logit;
        }
        total += (logit - greatest).exp();
        sum += logit;
        if column == target {
            of_target = logit;
        }
        column += WIDE;
    }
    let most = greatest_over_cube(greatest, &mut shared);
    let total = sum_over_cube(total * (greatest - most).exp(), &mut shared);
    let sum = sum_over_cube(sum, &mut shared);
    let of_target = sum_over_cube(of_target, &mut shared);
    let log_total = most + total.ln();
    let kept = 1.0f32 - smoothing;
    let spread = smoothing / f32::cast_from(vocab);
    if UNIT_POS == 0 {
        let mut loss = log_total - kept * of_target;
        if smoothing > 0.0f32 {
            loss -= spread * sum;
        }
        losses[row] = loss * weight;
    }
    if want_slopes {
        let mut column = UNIT_POS;
        while column < vocab {
            let at = (start + column) as usize;
            let mut slope = (logits[at] - log_total).exp() - spread;
            if column == target {
                slope -= kept;
            }
            logits[at] = slope * weight;
            column += WIDE;
        }
    }
}

fn launch(
    logits: CubeTensor,
    targets: CubeTensor,
    weights: CubeTensor,
    smoothing: f32,
    want_slopes: bool,
) -> (CubeTensor, CubeTensor) {
    let [rows, vocab] = sides(&logits);
    let losses = empty(&logits, [rows]);
    // SAFETY: a cube reads and writes its own row only, and below its length.
    unsafe {
        softmax_rows::launch_unchecked(
            &losses.client,
            CubeCount::Static(rows as u32, 1, 1),
            CubeDim::new_1d(WIDE),
            argument(logits.clone()),
            argument(targets),
            argument(weights),
            argument(losses.clone()),
            vocab as u32,
            smoothing,
            want_slopes,
        );
    }
    (losses, logits)
}

impl LossOps for CubeBackend {
    fn losses_and_slopes(
        logits: CubeTensor,
        targets: CubeTensor,
        weights: CubeTensor,
        smoothing: f32,
    ) -> (CubeTensor, CubeTensor) {
        launch(owned(logits), targets, weights, smoothing, true)
    }

    fn losses_of_rows(logits: CubeTensor, targets: CubeTensor, weights: CubeTensor, smoothing: f32) -> CubeTensor {
        launch(logits, targets, weights, smoothing, false).0
    }
}
