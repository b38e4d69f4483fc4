//! Layer normalization.

use crate::host::{Host, covers, on_host_backends};
use crate::product::{buffer, written};
use crate::vector;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::nn::LayerNorm;
use burn::tensor::Tensor;
use rayon::prelude::*;

/// Rows that share one partial sum of the gradients of gain and shift.
const ROWS: usize = 64;

/// `(x - mean) / sqrt(variance + epsilon) * gamma + beta` over the last side.
///
/// `epsilon` is the one `layer` was built with, which Burn keeps to itself.
///
/// # Shapes
/// - `x`: `[.., d]`, the layer's gain and shift `[d]`; returns the same as `x`
///
/// Source: Ba, Kiros and Hinton 2016, section 3.
pub fn layer_norm<const D: usize>(layer: &LayerNorm, epsilon: f64, x: Tensor<D>) -> Tensor<D> {
    match &layer.beta {
        Some(beta) if covers(&x) => apply(x, layer.gamma.val(), beta.val(), epsilon),
        _ => layer.forward(x),
    }
}

pub(crate) fn apply<const D: usize>(x: Tensor<D>, gamma: Tensor<1>, beta: Tensor<1>, epsilon: f64) -> Tensor<D> {
    let width = x.dims()[D - 1];
    assert!(gamma.dims() == [width] && beta.dims() == [width], "a normalization's shapes");
    let (x, gamma, beta) = (x.into_dispatch(), gamma.into_dispatch(), beta.into_dispatch());
    Tensor::from_dispatch(<Dispatch as LayerNormOps>::layer_norm(x, gamma, beta, epsilon as f32))
}

/// The operation on backends.
#[backend_extension(Flex, NdArray, Autodiff)]
pub(crate) trait LayerNormOps: Backend {
    fn layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self>;
}

on_host_backends!(LayerNormOps {
    fn layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        forward::<Self>(&x, &gamma, &beta, epsilon).0
    }
});

impl<B: Host, C: CheckpointStrategy> LayerNormOps for Autodiff<B, C> {
    fn layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        let ((x, of_x), (gamma, of_gamma), (beta, of_beta)) = (x.into_parts(), gamma.into_parts(), beta.into_parts());
        let (y, statistics) = forward::<B>(&x, &gamma, &beta, epsilon);
        let backward = Backward::<B, 3>::prepare::<C>(LayerNormBackward, [of_x, of_gamma, of_beta]);
        match backward.compute_bound().stateful() {
            OpsKind::Tracked(node) => node.finish((x, gamma, statistics), y),
            OpsKind::UnTracked(node) => node.finish(y),
        }
    }
}

/// The output, and each row's mean and one over its deviation, `[rows, 2]`.
fn forward<B: Host>(
    x: &FloatTensor<B>,
    gamma: &FloatTensor<B>,
    beta: &FloatTensor<B>,
    epsilon: f32,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let (values, gamma, beta) = (B::floats(x), B::floats(gamma), B::floats(beta));
    let width = gamma.len();
    let rows = values.len() / width;
    let mut y = buffer(values.len());
    let mut statistics = vec![0.0; rows * 2];
    let pieces = y.par_chunks_mut(ROWS * width).zip(values.par_chunks(ROWS * width));
    pieces.zip(statistics.par_chunks_mut(ROWS * 2)).for_each(|((y, x), statistics)| {
        let rows = y.chunks_exact_mut(width).zip(x.chunks_exact(width));
        for ((y, x), of_row) in rows.zip(statistics.chunks_exact_mut(2)) {
            (of_row[0], of_row[1]) = vector::normalize(x, &gamma, &beta, epsilon, y);
        }
    });
    // SAFETY: the pieces cover every row, and `normalize` writes all of a row.
    let y = unsafe { written(y) };
    (B::tensor(y, B::shape(x)), B::tensor(statistics, vec![rows, 2]))
}

#[derive(Debug)]
struct LayerNormBackward;

impl<B: Host> Backward<B, 3> for LayerNormBackward {
    /// Input, gain, and the statistics of its rows.
    type State = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let (x, gamma, statistics) = ops.state;
        let shape = B::shape(&x);
        let [dx, dgamma, dbeta] =
            backward_rows(&B::floats(&x), &B::floats(&gamma), &B::floats(&statistics), &B::floats(&dy));
        let width = vec![dgamma.len()];
        for (node, (gradient, shape)) in
            ops.parents.into_iter().zip([(dx, shape), (dgamma, width.clone()), (dbeta, width)])
        {
            if let Some(node) = node {
                grads.register::<B>(node.id, B::tensor(gradient, shape));
            }
        }
    }
}

/// - `x`, `dy`: `[rows, d]`, `gamma`: `[d]`, `statistics`: `[rows, 2]`; returns the gradients of `x`, gain and shift
fn backward_rows(x: &[f32], gamma: &[f32], statistics: &[f32], dy: &[f32]) -> [Vec<f32>; 3] {
    let width = gamma.len();
    let mut dx = buffer(x.len());
    let mut sums = vec![0.0; x.len().div_ceil(ROWS * width) * 2 * width];
    let pieces = dx.par_chunks_mut(ROWS * width).zip(sums.par_chunks_mut(2 * width)).enumerate();
    pieces.for_each(|(piece, (dx, sum))| {
        let (dgamma, dbeta) = sum.split_at_mut(width);
        for (i, dx) in dx.chunks_exact_mut(width).enumerate() {
            let row = piece * ROWS + i;
            let range = row * width..(row + 1) * width;
            let (mean, inverse) = (statistics[2 * row], statistics[2 * row + 1]);
            vector::normalize_backward(&x[range.clone()], &dy[range], gamma, mean, inverse, dx, dgamma, dbeta);
        }
    });
    let mut total = vec![0.0; 2 * width];
    sums.chunks_exact(2 * width).for_each(|sum| vector::add(&mut total, sum));
    let dbeta = total.split_off(width);
    // SAFETY: the pieces cover every row, and `normalize_backward` writes all of a row.
    [unsafe { written(dx) }, total, dbeta]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{Values, assert_agree, assert_same_bits, assert_spreads_nan, random};

    const EPSILON: f64 = 1e-3;

    fn inputs(rows: usize, width: usize) -> Vec<Values> {
        vec![random(&[1, rows, width], 1), random(&[width], 2), random(&[width], 3)]
    }

    fn own(x: &[Tensor<1>], of: &[Values]) -> Tensor<1> {
        apply(of[0].view::<3>(x, 0), of[1].view(x, 1), of[2].view(x, 2), EPSILON).reshape([-1])
    }

    fn composed(x: &[Tensor<1>], of: &[Values]) -> Tensor<1> {
        let x_and = of[0].view::<3>(x, 0);
        let centred = x_and.clone() - x_and.mean_dim(2);
        let variance = (centred.clone() * centred.clone()).mean_dim(2);
        let normal = centred / (variance + EPSILON).sqrt();
        (normal * of[1].view::<1>(x, 1).unsqueeze() + of[2].view::<1>(x, 2).unsqueeze()).reshape([-1])
    }

    #[test]
    fn layer_norm_equals_the_composed_operations() {
        for (rows, width) in [(1, 1), (3, 2), (1, 17), (67, 31), (200, 129)] {
            assert_agree(&inputs(rows, width), own, composed);
        }
    }

    #[test]
    fn layer_norm_gives_the_same_bits_for_every_number_of_threads() {
        assert_same_bits(&inputs(301, 97), own);
    }

    #[test]
    fn layer_norm_passes_nan_and_infinity() {
        assert_spreads_nan(&inputs(3, 19), own);
    }
}
