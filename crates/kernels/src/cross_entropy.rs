//! Cross-entropy from hidden states and the weight of the head.

use crate::host::{Host, covers, on_host_backends};
use crate::matrix::{Matrix, parallel_product};
use crate::vector;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::{Int, Tensor, activation::log_softmax};
use rayon::prelude::*;

/// Logits that exist at one time, and the limits of the rows this gives.
const LOGITS: usize = 1 << 23;
const MOST_ROWS: usize = 512;
const FEWEST_ROWS: usize = 16;

/// The summed cross-entropy of `hidden` times the transposed `head` against `targets`, each row times its weight.
///
/// Logits exist for at most 512 rows at a time, and for about eight million logits; with a gradient to come, it is
/// computed beside them and scaled in the backward pass, so that they are never computed twice.
///
/// # Shapes
/// - `hidden`: `[rows, d]`, `head`: `[vocab, d]`, `targets`, `weights`: `[rows]`; returns `[1]`, in nats
///
/// A target of weight 0 adds nothing; its id must still lie inside the vocabulary. The weights get no gradient.
///
/// # Panics
/// On the CPU backends, if a target lies outside the vocabulary.
///
/// Source: the loss of Radford et al. 2018, section 3.1; gradient beside the loss as in Liger (Hsu et al. 2024,
/// section 3.2).
pub fn cross_entropy_sum(hidden: Tensor<2>, head: Tensor<2>, targets: Tensor<1, Int>, weights: Tensor<1>) -> Tensor<1> {
    let [rows, width] = hidden.dims();
    assert!(
        head.dims()[1] == width && targets.dims() == [rows] && weights.dims() == [rows],
        "shapes of a cross-entropy"
    );
    if !covers(&hidden) || !covers(&weights) {
        return composed(hidden, head, targets, weights);
    }
    let (hidden, head) = (hidden.into_dispatch(), head.into_dispatch());
    let (targets, weights) = (targets.into_dispatch(), weights.into_dispatch());
    Tensor::from_dispatch(<Dispatch as CrossEntropyOps>::cross_entropy(hidden, head, targets, weights))
}

/// The same in Burn's operations, with every logit in memory.
fn composed(hidden: Tensor<2>, head: Tensor<2>, targets: Tensor<1, Int>, weights: Tensor<1>) -> Tensor<1> {
    let [rows, _] = hidden.dims();
    let log_probs = log_softmax(hidden.matmul(head.transpose()), 1); // [rows, vocab]
    let of_targets = log_probs.gather(1, targets.reshape([rows, 1])); // [rows, 1]
    (of_targets * weights.reshape([rows, 1])).sum().neg()
}

/// The operation on backends.
#[backend_extension(Flex, NdArray, Autodiff)]
pub(crate) trait CrossEntropyOps: Backend {
    fn cross_entropy(
        hidden: FloatTensor<Self>,
        head: FloatTensor<Self>,
        targets: IntTensor<Self>,
        weights: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

on_host_backends!(CrossEntropyOps {
    fn cross_entropy(
        hidden: FloatTensor<Self>,
        head: FloatTensor<Self>,
        targets: IntTensor<Self>,
        weights: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (hidden, head) = (Self::floats(&hidden), Self::floats(&head));
        let loss = chunks(&hidden, &head, &Self::ids(&targets), &Self::floats(&weights), None);
        Self::tensor(vec![loss], vec![1])
    }
});

impl<B: Host, C: CheckpointStrategy> CrossEntropyOps for Autodiff<B, C> {
    fn cross_entropy(
        hidden: FloatTensor<Self>,
        head: FloatTensor<Self>,
        targets: IntTensor<Self>,
        weights: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let ((hidden, of_hidden), (head, of_head)) = (hidden.into_parts(), head.into_parts());
        let (weights, _) = weights.into_parts();
        let shapes = (B::shape(&hidden), B::shape(&head));
        let (hidden, head) = (B::floats(&hidden), B::floats(&head));
        let (targets, weights) = (B::ids(&targets), B::floats(&weights));
        let run = |gradient| B::tensor(vec![chunks(&hidden, &head, &targets, &weights, gradient)], vec![1]);
        match Backward::<B, 2>::prepare::<C>(CrossEntropyBackward, [of_hidden, of_head]).compute_bound().stateful() {
            OpsKind::Tracked(node) => {
                let mut gradient = Gradient { hidden: vec![0.0; hidden.len()], head: vec![0.0; head.len()] };
                let loss = run(Some(&mut gradient));
                let state = (B::tensor(gradient.hidden, shapes.0), B::tensor(gradient.head, shapes.1));
                node.finish(state, loss)
            }
            OpsKind::UnTracked(node) => node.finish(run(None)),
        }
    }
}

#[derive(Debug)]
struct CrossEntropyBackward;

impl<B: Host> Backward<B, 2> for CrossEntropyBackward {
    /// The gradients of hidden states and head for a loss of gradient one.
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_loss = grads.consume::<B>(&ops.node);
        let factor = B::floats(&d_loss)[0];
        let (hidden, head) = ops.state;
        for (node, gradient) in ops.parents.into_iter().zip([hidden, head]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, B::float_mul_scalar(gradient, factor.into()));
            }
        }
    }
}

/// Gradients that [`chunks`] adds to, in the shapes of what they are gradients of.
struct Gradient {
    hidden: Vec<f32>,
    head: Vec<f32>,
}

/// The summed loss, and its gradients where they are asked for.
fn chunks(hidden: &[f32], head: &[f32], targets: &[i32], weights: &[f32], mut gradient: Option<&mut Gradient>) -> f32 {
    let rows = targets.len();
    let width = hidden.len() / rows;
    let vocab = head.len() / width;
    let height = (LOGITS / vocab).clamp(FEWEST_ROWS, MOST_ROWS).min(rows);
    let head_matrix = Matrix::new(head, vocab, width);
    let mut buffer = vec![0.0; height * vocab];
    let mut losses = vec![0.0; rows];
    for start in (0..rows).step_by(height) {
        let range = start..(start + height).min(rows);
        let count = range.len();
        let hidden = Matrix::new(&hidden[range.start * width..range.end * width], count, width);
        let logits = &mut buffer[..count * vocab];
        parallel_product(logits, false, hidden, head_matrix.t());
        let want_gradient = gradient.is_some();
        let of_rows = targets[range.clone()].par_iter().zip(&weights[range.clone()]).zip(&mut losses[range.clone()]);
        logits.par_chunks_exact_mut(vocab).zip(of_rows).with_min_len(FEWEST_ROWS).for_each(
            |(logits, ((target, weight), loss))| {
                let target = *target as usize;
                let log_total = vector::log_sum_exp(logits);
                *loss = (log_total - logits[target]) * weight;
                if want_gradient {
                    vector::weighted_softmax(logits, log_total, *weight);
                    logits[target] -= weight;
                }
            },
        );
        if let Some(gradient) = gradient.as_deref_mut() {
            let slopes = Matrix::new(logits, count, vocab);
            let of_hidden = &mut gradient.hidden[range.start * width..range.end * width];
            parallel_product(of_hidden, false, slopes, head_matrix);
            parallel_product(&mut gradient.head, true, slopes.t(), hidden);
        }
    }
    losses.iter().map(|loss| *loss as f64).sum::<f64>() as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{Values, assert_agree, assert_same_bits, assert_spreads_nan, random};
    use burn::tensor::TensorData;

    fn inputs([rows, width, vocab]: [usize; 3]) -> Vec<Values> {
        vec![random(&[rows, width], 5), random(&[vocab, width], 6)]
    }

    fn run(
        loss: impl Fn(Tensor<2>, Tensor<2>, Tensor<1, Int>, Tensor<1>) -> Tensor<1> + Sync,
    ) -> impl Fn(&[Tensor<1>], &[Values]) -> Tensor<1> + Sync {
        move |x, of| {
            let (hidden, head) = (of[0].view::<2>(x, 0), of[1].view::<2>(x, 1));
            let ([rows, _], [vocab, _]) = (hidden.dims(), head.dims());
            let device = hidden.device();
            let targets: Vec<i32> = (0..rows).map(|row| (row * 7919 % vocab) as i32).collect();
            // Every third row trains nothing, the others count one and two.
            let weights: Vec<f32> = (0..rows).map(|row| ((row + 1) % 3) as f32).collect();
            let targets = Tensor::from_data(TensorData::new(targets, [rows]), &device);
            let weights = Tensor::from_data(TensorData::new(weights, [rows]), &device);
            loss(hidden, head, targets, weights)
        }
    }

    #[test]
    fn cross_entropy_equals_the_composed_operations() {
        for shape in [[1, 1, 1], [2, 3, 2], [17, 5, 31], [131, 16, 65], [1031, 7, 67], [3, 33, 700]] {
            assert_agree(&inputs(shape), run(cross_entropy_sum), run(composed));
        }
    }

    #[test]
    fn cross_entropy_gives_the_same_bits_for_every_number_of_threads() {
        assert_same_bits(&inputs([700, 19, 301]), run(cross_entropy_sum));
    }

    #[test]
    fn cross_entropy_passes_nan_and_infinity() {
        assert_spreads_nan(&inputs([4, 5, 11]), run(cross_entropy_sum));
    }
}
