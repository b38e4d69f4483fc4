//! A linear layer, alone or followed by GELU.

use crate::Precision;
use crate::host::{Host, covers, on_host_backends};
use crate::product::{
    FEW_ROWS, Matrix, MatrixMut, Start, buffer, few_rows_product, new_product, piece, shared, written, written_slice,
};
use crate::rounding::rounded;
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
use std::mem::MaybeUninit;

/// What follows a linear layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    #[default]
    Identity,
    /// The tanh approximation of GELU (HuggingFace's `gelu_new`).
    GeluTanh,
    /// GELU with the error function (HuggingFace's `gelu`).
    GeluErf,
}

/// `activation(x w + b)` of a layer, its product computed in `precision`.
///
/// # Shapes
/// - `x`: `[.., d_in]`, the layer's weight `[d_in, d_out]` and bias, if it has one, `[d_out]`; returns `[.., d_out]`
///
/// Source: Hendrycks and Gimpel 2016, section 2, for GELU and its approximation.
pub fn linear<const D: usize>(layer: &Linear, x: Tensor<D>, activation: Activation, precision: Precision) -> Tensor<D> {
    let (weight, bias) = (layer.weight.val(), layer.bias.as_ref().map(|bias| bias.val()));
    if !covers(&x) {
        return composed(x, weight, bias, activation, precision);
    }
    let bias = bias.unwrap_or_else(|| Tensor::zeros([weight.dims()[1]], &x.device()));
    apply(x, weight, bias, activation, precision)
}

/// The same in Burn's operations.
fn composed<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    activation: Activation,
    precision: Precision,
) -> Tensor<D> {
    let [d_in, d_out] = weight.dims();
    let mut shape = x.dims();
    let rows = shape[..D - 1].iter().product();
    shape[D - 1] = d_out;
    let y = rounded(x.reshape([rows, d_in]), weight, precision, |x, w| x.matmul(w)).reshape(shape);
    let y = match bias {
        Some(bias) => y + bias.unsqueeze(),
        None => y,
    };
    match activation {
        Activation::Identity => y,
        Activation::GeluTanh => gelu_tanh(y),
        Activation::GeluErf => gelu_erf(y),
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

/// GELU with the error function, written out: the gradient of Burn's own is that of the approximation on some devices.
pub(crate) fn gelu_erf<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let cumulative = ((x.clone() * 0.5f64.sqrt()).erf() + 1.0) * 0.5;
    x * cumulative
}

pub(crate) fn apply<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Tensor<1>,
    activation: Activation,
    precision: Precision,
) -> Tensor<D> {
    let [d_in, d_out] = weight.dims();
    assert!(x.dims()[D - 1] == d_in && bias.dims() == [d_out], "a linear layer's shapes");
    let (x, weight, bias) = (x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(<Dispatch as LinearOps>::linear(x, weight, bias, activation, precision))
}

/// The operation on backends.
#[backend_extension(Flex, NdArray, Autodiff)]
pub(crate) trait LinearOps: Backend {
    fn linear(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: FloatTensor<Self>,
        activation: Activation,
        precision: Precision,
    ) -> FloatTensor<Self>;
}

on_host_backends!(LinearOps {
    fn linear(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: FloatTensor<Self>,
        activation: Activation,
        precision: Precision,
    ) -> FloatTensor<Self> {
        forward::<Self>(&x, &w, &b, activation, precision).0
    }
});

impl<B: Host, C: CheckpointStrategy> LinearOps for Autodiff<B, C> {
    fn linear(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: FloatTensor<Self>,
        activation: Activation,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let ((x, of_x), (w, of_w), (b, of_b)) = (x.into_parts(), w.into_parts(), b.into_parts());
        let (y, u) = forward::<B>(&x, &w, &b, activation, precision);
        match Backward::<B, 3>::prepare::<C>(LinearBackward, [of_x, of_w, of_b]).compute_bound().stateful() {
            OpsKind::Tracked(node) => node.finish((x, w, u, activation, precision), y),
            OpsKind::UnTracked(node) => node.finish(y),
        }
    }
}

/// The output and, with an activation, its argument.
fn forward<B: Host>(
    x: &FloatTensor<B>,
    w: &FloatTensor<B>,
    b: &FloatTensor<B>,
    activation: Activation,
    precision: Precision,
) -> (FloatTensor<B>, Option<FloatTensor<B>>) {
    let mut shape = B::shape(x);
    let out = B::shape(w)[1];
    if let Some(last) = shape.last_mut() {
        *last = out;
    }
    let (y, u) = forward_rows(&B::floats(x), &B::floats(w), &B::floats(b), activation, precision);
    (B::tensor(y, shape.clone()), u.map(|u| B::tensor(u, shape)))
}

#[derive(Debug)]
struct LinearBackward;

impl<B: Host> Backward<B, 3> for LinearBackward {
    /// Input, weight, and the argument of the activation.
    type State = (FloatTensor<B>, FloatTensor<B>, Option<FloatTensor<B>>, Activation, Precision);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let (x, w, u, activation, precision) = ops.state;
        let [of_x, of_w, of_b] = ops.parents;
        let u = u.as_ref().map(|u| B::floats(u));
        let saved = Saved { x: &B::floats(&x), w: &B::floats(&w), u: u.as_deref(), activation, precision };
        let wanted = [of_x.is_some(), of_w.is_some(), of_b.is_some()];
        let out = B::shape(&w)[1];
        let gradient = backward_rows(saved, &B::floats(&dy), out, wanted);
        if let (Some(node), Some(dx)) = (of_x, gradient.x) {
            grads.register::<B>(node.id, B::tensor(dx, B::shape(&x)));
        }
        if let (Some(node), Some(dw)) = (of_w, gradient.w) {
            grads.register::<B>(node.id, B::tensor(dw, B::shape(&w)));
        }
        if let (Some(node), Some(db)) = (of_b, gradient.b) {
            grads.register::<B>(node.id, B::tensor(db, vec![out]));
        }
    }
}

/// Numbers that one thread applies an activation to at a time, where the rows are few.
const ACTIVATED: usize = 1 << 13;

/// Writes a function of each number.
type Elementwise = fn(&[f32], &mut [MaybeUninit<f32>]);

/// - `x`: `[m, k]`, `w`: `[k, n]`, `b`: `[n]`; returns `[m, n]`, and the argument of the activation `[m, n]`
fn forward_rows(
    x: &[f32],
    w: &[f32],
    b: &[f32],
    activation: Activation,
    precision: Precision,
) -> (Vec<f32>, Option<Vec<f32>>) {
    let n = b.len();
    let k = w.len() / n;
    let m = x.len() / k;
    let height = piece(m);
    let activate: Option<Elementwise> = match activation {
        Activation::Identity => None,
        Activation::GeluTanh => Some(vector::gelu_tanh),
        Activation::GeluErf => Some(vector::gelu_erf),
    };
    let mut u = buffer(m * n);
    let mut y = buffer(if activate.is_some() { m * n } else { 0 });
    if m <= FEW_ROWS {
        few_rows_product(MatrixMut::uninit(&mut u, m, n), b, Matrix::new(x, m, k), Matrix::new(w, k, n), precision);
        // SAFETY: the product writes every number.
        let u = unsafe { written(u) };
        let Some(activate) = activate else { return (u, None) };
        u.par_chunks(ACTIVATED).zip(y.par_chunks_mut(ACTIVATED)).for_each(|(u, y)| activate(u, y));
        // SAFETY: the chunks cover all of it, and the activation writes all it is given.
        return (unsafe { written(y) }, Some(u));
    }
    shared(Matrix::new(w, k, n), precision, |weight| {
        let affine = |x: &[f32], u: &mut [MaybeUninit<f32>]| {
            let rows = x.len() / k;
            weight.product(&mut MatrixMut::uninit(u, rows, n), Start::Row(b), Matrix::new(x, rows, k));
        };
        let pieces = u.par_chunks_mut(height * n).zip(x.par_chunks(height * k)).with_max_len(1);
        match activate {
            None => pieces.for_each(|(u, x)| affine(x, u)),
            Some(activate) => pieces.zip(y.par_chunks_mut(height * n)).for_each(|((u, x), y)| {
                affine(x, u);
                // SAFETY: the product has written every number of `u`.
                activate(unsafe { written_slice(u) }, y);
            }),
        }
    });
    // SAFETY: the pieces cover all of `u`, and of `y` where there is an activation, which writes all it is given.
    let (u, y) = unsafe { (written(u), written(y)) };
    if activate.is_some() { (y, Some(u)) } else { (u, None) }
}

/// What the backward pass knows: `[m, k]`, `[k, n]`, `[m, n]`.
#[derive(Clone, Copy)]
struct Saved<'a> {
    x: &'a [f32],
    w: &'a [f32],
    u: Option<&'a [f32]>,
    activation: Activation,
    precision: Precision,
}

/// The work on one piece of rows.
#[derive(Default)]
struct Task<'a> {
    dy: &'a [f32],
    /// The argument of the activation and memory for the gradient of it.
    activation: Option<(&'a [f32], &'a mut [MaybeUninit<f32>])>,
    dx: Option<&'a mut [MaybeUninit<f32>]>,
    /// The sum over the rows, for the bias.
    sum: Option<&'a mut [f32]>,
}

/// What is wanted of the gradient.
struct Gradient {
    x: Option<Vec<f32>>,
    w: Option<Vec<f32>>,
    b: Option<Vec<f32>>,
}

/// - `dy`: `[m, n]`
fn backward_rows(saved: Saved, dy: &[f32], n: usize, wanted: [bool; 3]) -> Gradient {
    let Saved { x, w, u, activation, precision } = saved;
    let [want_x, want_w, want_b] = wanted;
    let k = w.len() / n;
    let m = x.len() / k;
    let height = piece(m);
    let slope: fn(&[f32], &[f32], &mut [MaybeUninit<f32>]) = match activation {
        Activation::GeluErf => vector::gelu_erf_backward,
        _ => vector::gelu_tanh_backward,
    };
    let mut dx = buffer(if want_x { m * k } else { 0 });
    // Each piece of rows leaves its sum over them; they are added in order.
    let mut sums = vec![0.0; if want_b { m.div_ceil(height) * n } else { 0 }];
    let mut du = buffer(if u.is_some() { m * n } else { 0 });
    let mut tasks: Vec<Task> = dy.chunks(height * n).map(|dy| Task { dy, ..Task::default() }).collect();
    if let Some(u) = u {
        for ((task, u), du) in tasks.iter_mut().zip(u.chunks(height * n)).zip(du.chunks_mut(height * n)) {
            task.activation = Some((u, du));
        }
    }
    if want_x {
        tasks.iter_mut().zip(dx.chunks_mut(height * k)).for_each(|(task, dx)| task.dx = Some(dx));
    }
    if want_b {
        tasks.iter_mut().zip(sums.chunks_mut(n)).for_each(|(task, sum)| task.sum = Some(sum));
    }
    let by_rows = move || {
        shared(Matrix::new(w, k, n).t(), precision, |weight| {
            tasks.into_par_iter().with_max_len(1).for_each(|task| {
                let du: &[f32] = match task.activation {
                    Some((u, du)) => {
                        slope(u, task.dy, du);
                        // SAFETY: just written.
                        unsafe { written_slice(du) }
                    }
                    None => task.dy,
                };
                if let Some(sum) = task.sum {
                    du.chunks_exact(n).for_each(|row| vector::add(sum, row));
                }
                if let Some(dx) = task.dx {
                    let rows = du.len() / n;
                    weight.product(&mut MatrixMut::uninit(dx, rows, k), Start::Zero, Matrix::new(du, rows, n));
                }
            });
        });
    };
    let of_weight =
        |du: &[f32]| want_w.then(|| new_product(Matrix::new(x, m, k).t(), Matrix::new(du, m, n), precision));
    let (dw, dx) = if u.is_some() {
        by_rows();
        // SAFETY: the tasks cover all rows, and each has written those of `dx` and `du` it had.
        let (dx, du) = unsafe { (written(dx), written(du)) };
        (of_weight(&du), dx)
    } else {
        // Neither waits for the other.
        let ((), dw) = rayon::join(by_rows, || of_weight(dy));
        // SAFETY: as above.
        (dw, unsafe { written(dx) })
    };
    let mut db = vec![0.0; if want_b { n } else { 0 }];
    sums.chunks_exact(n).for_each(|sum| vector::add(&mut db, sum));
    Gradient { x: want_x.then_some(dx), w: dw, b: want_b.then_some(db) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{Values, assert_agree_within, assert_same_bits, assert_spreads_nan, random};

    const SHAPES: [[usize; 4]; 6] =
        [[1, 1, 1, 1], [1, 3, 5, 7], [2, 1, 17, 1], [3, 131, 37, 65], [1, 700, 16, 33], [2, 5, 129, 640]];

    fn inputs([batch, seq, d_in, d_out]: [usize; 4]) -> Vec<Values> {
        vec![random(&[batch, seq, d_in], 1), random(&[d_in, d_out], 2), random(&[d_out], 3)]
    }

    const ACTIVATIONS: [Activation; 3] = [Activation::Identity, Activation::GeluTanh, Activation::GeluErf];

    fn own(activation: Activation, precision: Precision) -> impl Fn(&[Tensor<1>], &[Values]) -> Tensor<1> {
        move |x, of| {
            apply(of[0].view::<3>(x, 0), of[1].view(x, 1), of[2].view(x, 2), activation, precision).reshape([-1])
        }
    }

    fn in_burn(activation: Activation, precision: Precision) -> impl Fn(&[Tensor<1>], &[Values]) -> Tensor<1> {
        move |x, of| {
            let (x, weight, bias) = (of[0].view::<3>(x, 0), of[1].view(x, 1), of[2].view(x, 2));
            composed(x, weight, Some(bias), activation, precision).reshape([-1])
        }
    }

    #[test]
    fn linear_equals_the_composed_operations() {
        for shape in SHAPES {
            for activation in ACTIVATIONS {
                for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Bf16, 1e-2), (Precision::F16, 1e-2)]
                {
                    let (ours, theirs) = (own(activation, precision), in_burn(activation, precision));
                    assert_agree_within(tolerance, &inputs(shape), ours, theirs);
                }
            }
        }
    }

    #[test]
    fn linear_gives_the_same_bits_for_every_number_of_threads() {
        for activation in ACTIVATIONS {
            for precision in [Precision::F32, Precision::Bf16] {
                assert_same_bits(&inputs([2, 383, 129, 257]), own(activation, precision));
            }
        }
    }

    #[test]
    fn linear_passes_nan_and_infinity() {
        for activation in ACTIVATIONS {
            for precision in [Precision::F32, Precision::Bf16, Precision::F16] {
                assert_spreads_nan(&inputs([1, 5, 7, 3]), own(activation, precision));
            }
        }
    }
}
