//! A linear layer with bias, alone or followed by GELU.

use crate::host::{Host, covers, on_host_backends};
use crate::matrix::{Matrix, MatrixMut, parallel_product, piece, product};
use crate::vector;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::nn::Linear;
use burn::tensor::{Tensor, activation::sigmoid};
use rayon::prelude::*;
use std::f64::consts::PI;

/// `x w + b` of a layer.
///
/// # Shapes
/// - `x`: `[.., d_in]`, the layer's weight `[d_in, d_out]` and bias `[d_out]`; returns `[.., d_out]`
pub fn linear<const D: usize>(layer: &Linear, x: Tensor<D>) -> Tensor<D> {
    match &layer.bias {
        Some(bias) if covers(&x) => apply(x, layer.weight.val(), bias.val(), false),
        _ => layer.forward(x),
    }
}

/// `gelu(x w + b)` of a layer, with the tanh approximation of GELU.
///
/// # Shapes
/// - `x`: `[.., d_in]`, the layer's weight `[d_in, d_out]` and bias `[d_out]`; returns `[.., d_out]`
///
/// Source: Hendrycks and Gimpel 2016, section 2 (HuggingFace's `gelu_new`).
pub fn linear_gelu<const D: usize>(layer: &Linear, x: Tensor<D>) -> Tensor<D> {
    match &layer.bias {
        Some(bias) if covers(&x) => apply(x, layer.weight.val(), bias.val(), true),
        _ => gelu_tanh(layer.forward(x)),
    }
}

/// The tanh approximation of GELU, `x / 2 * (1 + tanh(u))` with `u = sqrt(2 / pi) * (x + 0.044715 x^3)`.
///
/// Written as `x * sigmoid(2 u)`, which is the same function: the exponential is several times cheaper than the
/// hyperbolic tangent on a CPU, and a product cheaper than a power.
pub(crate) fn gelu_tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let scale = 2.0 * (2.0 / PI).sqrt();
    let square = x.clone() * x.clone();
    let argument = (square * (scale * 0.044715) + scale) * x.clone();
    x * sigmoid(argument)
}

fn apply<const D: usize>(x: Tensor<D>, weight: Tensor<2>, bias: Tensor<1>, gelu: bool) -> Tensor<D> {
    let [d_in, d_out] = weight.dims();
    assert!(x.dims()[D - 1] == d_in && bias.dims() == [d_out], "a linear layer's shapes");
    let (x, weight, bias) = (x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(<Dispatch as LinearOps>::linear(x, weight, bias, gelu))
}

/// The operation on backends.
#[backend_extension(Flex, NdArray, Autodiff)]
pub(crate) trait LinearOps: Backend {
    fn linear(x: FloatTensor<Self>, w: FloatTensor<Self>, b: FloatTensor<Self>, gelu: bool) -> FloatTensor<Self>;
}

on_host_backends!(LinearOps {
    fn linear(x: FloatTensor<Self>, w: FloatTensor<Self>, b: FloatTensor<Self>, gelu: bool) -> FloatTensor<Self> {
        forward::<Self>(&x, &w, &b, gelu).0
    }
});

impl<B: Host, C: CheckpointStrategy> LinearOps for Autodiff<B, C> {
    fn linear(x: FloatTensor<Self>, w: FloatTensor<Self>, b: FloatTensor<Self>, gelu: bool) -> FloatTensor<Self> {
        let ((x, of_x), (w, of_w), (b, of_b)) = (x.into_parts(), w.into_parts(), b.into_parts());
        let (y, u) = forward::<B>(&x, &w, &b, gelu);
        match Backward::<B, 3>::prepare::<C>(LinearBackward, [of_x, of_w, of_b]).compute_bound().stateful() {
            OpsKind::Tracked(node) => node.finish((x, w, u), y),
            OpsKind::UnTracked(node) => node.finish(y),
        }
    }
}

/// The output and, with GELU, its argument.
fn forward<B: Host>(
    x: &FloatTensor<B>,
    w: &FloatTensor<B>,
    b: &FloatTensor<B>,
    gelu: bool,
) -> (FloatTensor<B>, Option<FloatTensor<B>>) {
    let mut shape = B::shape(x);
    let out = B::shape(w)[1];
    if let Some(last) = shape.last_mut() {
        *last = out;
    }
    let (y, u) = forward_rows(&B::floats(x), &B::floats(w), &B::floats(b), gelu);
    (B::tensor(y, shape.clone()), u.map(|u| B::tensor(u, shape)))
}

#[derive(Debug)]
struct LinearBackward;

impl<B: Host> Backward<B, 3> for LinearBackward {
    /// Input, weight, and the argument of GELU.
    type State = (FloatTensor<B>, FloatTensor<B>, Option<FloatTensor<B>>);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let (x, w, u) = ops.state;
        let [of_x, of_w, of_b] = ops.parents;
        let u = u.as_ref().map(|u| B::floats(u));
        let wanted = [of_x.is_some(), of_w.is_some(), of_b.is_some()];
        let out = B::shape(&w)[1];
        let gradient = backward_rows(&B::floats(&x), &B::floats(&w), u.as_deref(), &B::floats(&dy), out, wanted);
        if let Some(node) = of_x {
            grads.register::<B>(node.id, B::tensor(gradient.x, B::shape(&x)));
        }
        if let Some(node) = of_w {
            grads.register::<B>(node.id, B::tensor(gradient.w, B::shape(&w)));
        }
        if let Some(node) = of_b {
            grads.register::<B>(node.id, B::tensor(gradient.b, vec![out]));
        }
    }
}

/// - `x`: `[m, k]`, `w`: `[k, n]`, `b`: `[n]`; returns `[m, n]`, and the argument of GELU `[m, n]`
fn forward_rows(x: &[f32], w: &[f32], b: &[f32], gelu: bool) -> (Vec<f32>, Option<Vec<f32>>) {
    let n = b.len();
    let k = w.len() / n;
    let m = x.len() / k;
    let height = piece(m);
    let weight = Matrix::new(w, k, n);
    let affine = |x: &[f32], u: &mut [f32]| {
        u.chunks_exact_mut(n).for_each(|row| row.copy_from_slice(b));
        let rows = x.len() / k;
        product(&mut MatrixMut::new(u, rows, n), true, Matrix::new(x, rows, k), weight);
    };
    let mut u = vec![0.0; m * n];
    let pieces = u.par_chunks_mut(height * n).zip(x.par_chunks(height * k)).with_max_len(1);
    if !gelu {
        pieces.for_each(|(u, x)| affine(x, u));
        return (u, None);
    }
    let mut y = vec![0.0; m * n];
    pieces.zip(y.par_chunks_mut(height * n)).for_each(|((u, x), y)| {
        affine(x, u);
        vector::gelu(u, y);
    });
    (y, Some(u))
}

/// The work on one piece of rows.
#[derive(Default)]
struct Task<'a> {
    dy: &'a [f32],
    /// The argument of GELU and the gradient of it.
    gelu: Option<(&'a [f32], &'a mut [f32])>,
    dx: Option<&'a mut [f32]>,
    /// The sum over the rows, for the bias.
    sum: Option<&'a mut [f32]>,
}

struct Gradient {
    x: Vec<f32>,
    w: Vec<f32>,
    b: Vec<f32>,
}

/// - `x`: `[m, k]`, `w`: `[k, n]`, `u` (with GELU) and `dy`: `[m, n]`; what is not wanted stays empty
fn backward_rows(x: &[f32], w: &[f32], u: Option<&[f32]>, dy: &[f32], n: usize, wanted: [bool; 3]) -> Gradient {
    let [want_x, want_w, want_b] = wanted;
    let k = w.len() / n;
    let m = x.len() / k;
    let height = piece(m);
    let mut dx = vec![0.0; if want_x { m * k } else { 0 }];
    // Each piece of rows leaves its sum over them; they are added in order.
    let mut sums = vec![0.0; if want_b { m.div_ceil(height) * n } else { 0 }];
    let mut du = vec![0.0; if u.is_some() { m * n } else { 0 }];
    let mut tasks: Vec<Task> = dy.chunks(height * n).map(|dy| Task { dy, ..Task::default() }).collect();
    if let Some(u) = u {
        for ((task, u), du) in tasks.iter_mut().zip(u.chunks(height * n)).zip(du.chunks_mut(height * n)) {
            task.gelu = Some((u, du));
        }
    }
    if want_x {
        tasks.iter_mut().zip(dx.chunks_mut(height * k)).for_each(|(task, dx)| task.dx = Some(dx));
    }
    if want_b {
        tasks.iter_mut().zip(sums.chunks_mut(n)).for_each(|(task, sum)| task.sum = Some(sum));
    }
    tasks.into_par_iter().with_max_len(1).for_each(|task| {
        let du: &[f32] = match task.gelu {
            Some((u, du)) => {
                vector::gelu_backward(u, task.dy, du);
                du
            }
            None => task.dy,
        };
        if let Some(sum) = task.sum {
            du.chunks_exact(n).for_each(|row| vector::add(sum, row));
        }
        if let Some(dx) = task.dx {
            let rows = du.len() / n;
            product(&mut MatrixMut::new(dx, rows, k), false, Matrix::new(du, rows, n), Matrix::new(w, k, n).t());
        }
    });
    let du = if u.is_some() { &du[..] } else { dy };
    let mut dw = vec![0.0; if want_w { k * n } else { 0 }];
    if want_w {
        parallel_product(&mut dw, false, Matrix::new(x, m, k).t(), Matrix::new(du, m, n));
    }
    let mut db = vec![0.0; if want_b { n } else { 0 }];
    sums.chunks_exact(n).for_each(|sum| vector::add(&mut db, sum));
    Gradient { x: dx, w: dw, b: db }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{Values, assert_agree, assert_same_bits, assert_spreads_nan, random};

    const SHAPES: [[usize; 4]; 6] =
        [[1, 1, 1, 1], [1, 3, 5, 7], [2, 1, 17, 1], [3, 131, 37, 65], [1, 700, 16, 33], [2, 5, 129, 640]];

    fn inputs([batch, seq, d_in, d_out]: [usize; 4]) -> Vec<Values> {
        vec![random(&[batch, seq, d_in], 1), random(&[d_in, d_out], 2), random(&[d_out], 3)]
    }

    fn own(gelu: bool) -> impl Fn(&[Tensor<1>], &[Values]) -> Tensor<1> {
        move |x, of| apply(of[0].view::<3>(x, 0), of[1].view(x, 1), of[2].view(x, 2), gelu).reshape([-1])
    }

    fn composed(gelu: bool) -> impl Fn(&[Tensor<1>], &[Values]) -> Tensor<1> {
        move |x, of| {
            let y = of[0].view::<3>(x, 0).matmul(of[1].view::<2>(x, 1).unsqueeze()) + of[2].view::<1>(x, 2).unsqueeze();
            if gelu { gelu_tanh(y).reshape([-1]) } else { y.reshape([-1]) }
        }
    }

    #[test]
    fn linear_equals_the_composed_operations() {
        for shape in SHAPES {
            for gelu in [false, true] {
                assert_agree(&inputs(shape), own(gelu), composed(gelu));
            }
        }
    }

    #[test]
    fn linear_gives_the_same_bits_for_every_number_of_threads() {
        for gelu in [false, true] {
            assert_same_bits(&inputs([2, 383, 129, 257]), own(gelu));
        }
    }

    #[test]
    fn linear_passes_nan_and_infinity() {
        for gelu in [false, true] {
            assert_spreads_nan(&inputs([1, 5, 7, 3]), own(gelu));
        }
    }
}
