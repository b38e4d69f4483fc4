//! Dropout whose mask is made where it is used: hashes of places, the same numbers as on the CPU.

use super::tile::drop_factor;
use super::{argument, elementwise, empty, words};
use crate::dropout::Dropout;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Cube, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::Tensor;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

/// `x` times its mask, where [`super::covers`] it.
pub(crate) fn dropout<const D: usize>(x: Tensor<D>, dropout: Dropout) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as CubeDropout>::dropout(x.into_dispatch(), dropout))
}

/// `residual` and `x` times its mask, where [`super::covers`] both.
pub(crate) fn residual_add<const D: usize>(residual: Tensor<D>, x: Tensor<D>, dropout: Dropout) -> Tensor<D> {
    let (residual, x) = (residual.into_dispatch(), x.into_dispatch());
    Tensor::from_dispatch(<Dispatch as CubeDropout>::dropout_residual(residual, x, dropout))
}

/// The passes on the backend.
#[backend_extension(Cube, Fusion)]
pub(crate) trait CubeDropoutOps: Backend {
    #[fusion(dtype = x, shape = x)]
    fn masked(x: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self>;

    #[fusion(dtype = x, shape = x)]
    fn masked_sum(residual: FloatTensor<Self>, x: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self>;
}

/// The operation.
#[backend_extension(Cube, Autodiff)]
pub(crate) trait CubeDropout: Backend {
    fn dropout(x: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self>;
    fn dropout_residual(residual: FloatTensor<Self>, x: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self>;
}

impl CubeDropout for Cube {
    fn dropout(x: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self> {
        Self::masked(x, dropout)
    }
    fn dropout_residual(residual: FloatTensor<Self>, x: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self> {
        Self::masked_sum(residual, x, dropout)
    }
}

impl<B: CubeDropoutOps, C: CheckpointStrategy> CubeDropout for Autodiff<B, C> {
    fn dropout(x: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self> {
        let (x, of_x) = x.into_parts();
        let y = B::masked(x, dropout);
        match Backward::<B, 1>::prepare::<C>(DropoutBackward, [of_x]).compute_bound().stateful() {
            OpsKind::Tracked(node) => node.finish(dropout, y),
            OpsKind::UnTracked(node) => node.finish(y),
        }
    }

    fn dropout_residual(residual: FloatTensor<Self>, x: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self> {
        let ((residual, of_residual), (x, of_x)) = (residual.into_parts(), x.into_parts());
        let y = B::masked_sum(residual, x, dropout);
        match Backward::<B, 2>::prepare::<C>(ResidualBackward, [of_residual, of_x]).compute_bound().stateful() {
            OpsKind::Tracked(node) => node.finish(dropout, y),
            OpsKind::UnTracked(node) => node.finish(y),
        }
    }
}

#[derive(Debug)]
struct DropoutBackward;

impl<B: CubeDropoutOps> Backward<B, 1> for DropoutBackward {
    type State = Dropout;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [of_x] = ops.parents;
        let dy = grads.consume::<B>(&ops.node);
        if let Some(node) = of_x {
            grads.register::<B>(node.id, B::masked(dy, ops.state));
        }
    }
}

#[derive(Debug)]
struct ResidualBackward;

impl<B: CubeDropoutOps> Backward<B, 2> for ResidualBackward {
    type State = Dropout;

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [of_residual, of_x] = ops.parents;
        let dy = grads.consume::<B>(&ops.node);
        if let Some(node) = of_x {
            grads.register::<B>(node.id, B::masked(dy.clone(), ops.state));
        }
        if let Some(node) = of_residual {
            grads.register::<B>(node.id, dy);
        }
    }
}

#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn masked(
    residual: &[f32],
    x: &[f32],
    mask: &[u32],
    y: &mut [f32],
    row_length: u32,
    threshold: u32,
    keep: f32,
    #[comptime] add: bool,
) {
    let i = ABSOLUTE_POS;
    if i < y.len() {
        let (row, place) = (i as u32 / row_length, i as u32 % row_length);
        let of_row = (2 * row) as usize;
        let mut value = x[i] * drop_factor(place, mask[of_row], mask[of_row + 1], threshold, keep);
        if add {
            value += residual[i];
        }
        y[i] = value;
    }
}

fn launch(residual: Option<CubeTensor>, x: CubeTensor, dropout: Dropout) -> CubeTensor {
    let shape = x.shape();
    let (rows, numbers) = (shape.as_slice()[0], shape.num_elements());
    let keys: Vec<u32> = (0..rows).flat_map(|row| dropout.row(row).keys).collect();
    let mask = words(&x, &keys);
    let y = empty(&x, shape);
    let (cubes, units) = elementwise(&y);
    let add = residual.is_some();
    // SAFETY: a unit beyond the last number does nothing, all tensors have as many, and the mask has two words a row.
    unsafe {
        masked::launch_unchecked(
            &y.client,
            cubes,
            units,
            argument(residual.unwrap_or_else(|| mask.clone())),
            argument(x),
            argument(mask),
            argument(y.clone()),
            (numbers / rows) as u32,
            dropout.row(0).threshold,
            dropout.scale(),
            add,
        );
    }
    y
}

impl CubeDropoutOps for CubeBackend {
    fn masked(x: CubeTensor, dropout: Dropout) -> CubeTensor {
        launch(None, x, dropout)
    }
    fn masked_sum(residual: CubeTensor, x: CubeTensor, dropout: Dropout) -> CubeTensor {
        launch(Some(residual), x, dropout)
    }
}
