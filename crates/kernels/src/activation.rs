//! An activation by itself: where something is added between a linear layer and what follows it.

use crate::host::{Host, covers, on_host_backends};
use crate::linear::{Activation, gelu_erf, gelu_tanh};
use crate::product::{buffer, written};
use crate::vector;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use rayon::prelude::*;

/// Numbers that one thread takes at a time.
const PIECE: usize = 1 << 14;

/// The activation of each number.
///
/// # Shapes
/// - `x`: any, returns the same
pub fn activate<const D: usize>(x: Tensor<D>, activation: Activation) -> Tensor<D> {
    if activation != Activation::Identity && covers(&x) {
        return Tensor::from_dispatch(<Dispatch as ActivationOps>::activated(x.into_dispatch(), activation));
    }
    composed(x, activation)
}

/// The same in Burn's operations.
fn composed<const D: usize>(x: Tensor<D>, activation: Activation) -> Tensor<D> {
    match activation {
        Activation::Identity => x,
        Activation::GeluTanh => gelu_tanh(x),
        Activation::GeluErf => gelu_erf(x),
    }
}

/// The operation on backends.
#[backend_extension(Flex, NdArray, Autodiff)]
pub(crate) trait ActivationOps: Backend {
    fn activated(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self>;
}

on_host_backends!(ActivationOps {
    fn activated(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        forward::<Self>(&x, activation)
    }
});

impl<B: Host, C: CheckpointStrategy> ActivationOps for Autodiff<B, C> {
    fn activated(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        let (x, of_x) = x.into_parts();
        let y = forward::<B>(&x, activation);
        match Backward::<B, 1>::prepare::<C>(ActivationBackward, [of_x]).compute_bound().stateful() {
            OpsKind::Tracked(node) => node.finish((x, activation), y),
            OpsKind::UnTracked(node) => node.finish(y),
        }
    }
}

fn forward<B: Host>(x: &FloatTensor<B>, activation: Activation) -> FloatTensor<B> {
    let values = B::floats(x);
    let mut y = buffer(values.len());
    let of_piece = if activation == Activation::GeluErf { vector::gelu_erf } else { vector::gelu_tanh };
    values.par_chunks(PIECE).zip(y.par_chunks_mut(PIECE)).for_each(|(x, y)| of_piece(x, y));
    // SAFETY: the pieces cover all of it, and the activation writes all it is given.
    B::tensor(unsafe { written(y) }, B::shape(x))
}

#[derive(Debug)]
struct ActivationBackward;

impl<B: Host> Backward<B, 1> for ActivationBackward {
    type State = (FloatTensor<B>, Activation);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [of_x] = ops.parents;
        let dy = grads.consume::<B>(&ops.node);
        let (x, activation) = ops.state;
        let Some(node) = of_x else { return };
        let slope =
            if activation == Activation::GeluErf { vector::gelu_erf_backward } else { vector::gelu_tanh_backward };
        let (values, dy) = (B::floats(&x), B::floats(&dy));
        let mut dx = buffer(values.len());
        let pieces = values.par_chunks(PIECE).zip(dy.par_chunks(PIECE)).zip(dx.par_chunks_mut(PIECE));
        pieces.for_each(|((x, dy), dx)| slope(x, dy, dx));
        // SAFETY: the pieces cover all of it, and the slope writes all it is given.
        grads.register::<B>(node.id, B::tensor(unsafe { written(dx) }, B::shape(&x)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{Values, assert_agree, assert_same_bits, assert_spreads_nan, random};

    fn of(
        function: impl Fn(Tensor<3>, Activation) -> Tensor<3>,
        activation: Activation,
    ) -> impl Fn(&[Tensor<1>], &[Values]) -> Tensor<1> {
        move |x, of| function(of[0].view::<3>(x, 0), activation).reshape([-1])
    }

    #[test]
    fn an_activation_and_its_gradient_equal_the_composed_operations() {
        for activation in [Activation::Identity, Activation::GeluTanh, Activation::GeluErf] {
            let inputs = [random(&[3, 5, 7001], 1)];
            assert_agree(&inputs, of(activate, activation), of(composed, activation));
            assert_same_bits(&inputs, of(activate, activation));
            assert_spreads_nan(&[random(&[1, 1, 9], 1)], of(activate, activation));
        }
    }
}
