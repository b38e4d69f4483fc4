//! Dropout whose masks are a function of where they are used, not of a generator's state.
//!
//! Every mask follows from (seed, step, site, row) and the place inside the row: a resumed run, a recomputed block,
//! another number of threads or another device drops the same numbers, and nothing is stored for the backward pass.
//! Counter-based generators go back to Salmon et al. 2011; this one is two rounds of a 32-bit integer hash, which
//! vectors and GPUs compute alike.

use crate::cube;
use crate::host::{Host, covers, on_host_backends};
use crate::product::{buffer, written};
use crate::vector;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, DispatchDevice, backend_extension};
use burn::tensor::{DType, Tensor, TensorData};
use rayon::prelude::*;

/// What a dropout drops.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Of dropping a number, at least 0 and less than 1. What stays is scaled by `1 / (1 - probability)`.
    pub probability: f32,
    /// Decides which.
    pub key: DropoutKey,
}

/// Names one use of dropout in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropoutKey {
    /// The run's seed.
    pub seed: u64,
    /// The optimizer step.
    pub step: u64,
    /// The place in the model.
    pub site: u32,
    /// The number, within the step, of the batch's first row: any split of a step drops the same.
    pub first_row: u64,
}

/// The mask of one row: what a place inside it is hashed with, and the hashes that are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowMask {
    pub keys: [u32; 2],
    /// Hashes below it are dropped.
    pub threshold: u32,
}

impl Dropout {
    /// What numbers that stay are multiplied by.
    pub(crate) fn scale(&self) -> f32 {
        1.0 / (1.0 - self.probability)
    }

    /// The mask of row number `row` of the batch.
    pub(crate) fn row(&self, row: usize) -> RowMask {
        let DropoutKey { seed, step, site, first_row } = self.key;
        let mixed =
            [step, site as u64, first_row + row as u64].into_iter().fold(mix(seed), |state, part| mix(state ^ part));
        let threshold = (self.probability as f64 * 4_294_967_296.0) as u32;
        RowMask { keys: [mixed as u32, (mixed >> 32) as u32], threshold }
    }
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood 2014), after its increment.
fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Numbers one thread masks at a time.
const PIECE: usize = 1 << 14;

/// `x` with some numbers dropped and the others scaled up, or `x` where there is no dropout.
///
/// # Shapes
/// - `x`: `[rows, ..]`, returns the same
///
/// Source: Srivastava et al. 2014, section 10, scaled in training.
pub fn dropout<const D: usize>(x: Tensor<D>, dropout: Option<Dropout>) -> Tensor<D> {
    match dropout.filter(|dropout| dropout.probability > 0.0) {
        None => x,
        Some(dropout) if covers(&x) => {
            Tensor::from_dispatch(<Dispatch as DropoutOps>::dropped(x.into_dispatch(), dropout))
        }
        Some(dropout) if cube::covers(&x) => cube::dropout(x, dropout),
        Some(dropout) => x.clone() * factors(x.dims(), dropout, &x.device()),
    }
}

/// `residual + dropout(x)`: what the half of a block adds to the residual stream.
///
/// # Shapes
/// - `residual`, `x`: `[rows, ..]`, returns the same
pub fn residual_add<const D: usize>(residual: Tensor<D>, x: Tensor<D>, dropped: Option<Dropout>) -> Tensor<D> {
    assert_eq!(residual.dims(), x.dims(), "a residual's shape");
    let dropped = dropped.filter(|dropped| dropped.probability > 0.0);
    if let Some(dropped) = dropped.filter(|_| cube::covers(&residual) && cube::covers(&x)) {
        return cube::residual_add(residual, x, dropped);
    }
    if !covers(&x) {
        return residual + dropout(x, dropped);
    }
    let (residual, x) = (residual.into_dispatch(), x.into_dispatch());
    Tensor::from_dispatch(<Dispatch as DropoutOps>::residual_add(residual, x, dropped))
}

/// What every number is multiplied by: 0, or the scale of those that stay.
pub(crate) fn factors<const D: usize>(shape: [usize; D], dropout: Dropout, device: &burn::tensor::Device) -> Tensor<D> {
    let is_made_on_device = matches!(device.clone().without_autodiff().as_dispatch(), DispatchDevice::Cube(_));
    if is_made_on_device {
        let ones = Tensor::ones(shape, (device, DType::F32));
        if cube::covers(&ones) {
            return cube::dropout(ones, dropout);
        }
    }
    Tensor::from_data(TensorData::new(mask_values(&shape, dropout), shape), device)
}

/// The same on the host.
pub(crate) fn mask_values(shape: &[usize], dropout: Dropout) -> Vec<f32> {
    let row_length = shape[1..].iter().product::<usize>().max(1);
    let mut values = vec![1.0; shape[0] * row_length];
    let scale = dropout.scale();
    values.par_chunks_mut(row_length).enumerate().for_each(|(row, values)| {
        let RowMask { keys, threshold } = dropout.row(row);
        vector::drop_in_place(values, 0, keys, threshold, scale);
    });
    values
}

/// The operation on backends.
#[backend_extension(Flex, NdArray, Autodiff)]
pub(crate) trait DropoutOps: Backend {
    fn dropped(x: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self>;
    fn residual_add(residual: FloatTensor<Self>, x: FloatTensor<Self>, dropout: Option<Dropout>) -> FloatTensor<Self>;
}

on_host_backends!(DropoutOps {
    fn dropped(x: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self> {
        mask::<Self>(x, dropout)
    }
    fn residual_add(residual: FloatTensor<Self>, x: FloatTensor<Self>, dropout: Option<Dropout>) -> FloatTensor<Self> {
        add::<Self>(&residual, x, dropout)
    }
});

impl<B: Host, C: CheckpointStrategy> DropoutOps for Autodiff<B, C> {
    fn dropped(x: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self> {
        let (x, of_x) = x.into_parts();
        let y = mask::<B>(x, dropout);
        match Backward::<B, 1>::prepare::<C>(DroppedBackward, [of_x]).compute_bound().stateful() {
            OpsKind::Tracked(node) => node.finish(dropout, y),
            OpsKind::UnTracked(node) => node.finish(y),
        }
    }

    fn residual_add(residual: FloatTensor<Self>, x: FloatTensor<Self>, dropout: Option<Dropout>) -> FloatTensor<Self> {
        let ((residual, of_residual), (x, of_x)) = (residual.into_parts(), x.into_parts());
        let y = add::<B>(&residual, x, dropout);
        match Backward::<B, 2>::prepare::<C>(ResidualBackward, [of_residual, of_x]).compute_bound().stateful() {
            OpsKind::Tracked(node) => node.finish(dropout, y),
            OpsKind::UnTracked(node) => node.finish(y),
        }
    }
}

/// Splits `values` of `rows` rows into pieces, each with its row and its place in it.
fn pieces(values: &mut [f32], rows: usize) -> impl IndexedParallelIterator<Item = (usize, usize, &mut [f32])> {
    let length = (values.len() / rows).max(1);
    // Pieces that end with their row.
    let piece = length.div_ceil(length.div_ceil(PIECE));
    let mut found = Vec::with_capacity(values.len() / piece + rows);
    for (row, values) in values.chunks_mut(length).enumerate() {
        found.extend(values.chunks_mut(piece).enumerate().map(|(i, values)| (row, i * piece, values)));
    }
    found.into_par_iter()
}

/// `x` times its mask, in its own memory.
fn mask<B: Host>(x: FloatTensor<B>, dropout: Dropout) -> FloatTensor<B> {
    let shape = B::shape(&x);
    let mut values = B::into_floats(x);
    let scale = dropout.scale();
    pieces(&mut values, shape[0]).for_each(|(row, place, values)| {
        let RowMask { keys, threshold } = dropout.row(row);
        vector::drop_in_place(values, place as u32, keys, threshold, scale);
    });
    B::tensor(values, shape)
}

/// `residual + x` times its mask, in `x`'s memory.
fn add<B: Host>(residual: &FloatTensor<B>, x: FloatTensor<B>, dropout: Option<Dropout>) -> FloatTensor<B> {
    let shape = B::shape(&x);
    let residual = B::floats(residual);
    let mut values = B::into_floats(x);
    let row_length = (values.len() / shape[0]).max(1);
    pieces(&mut values, shape[0]).for_each(|(row, place, values)| {
        if let Some(dropout) = dropout {
            let RowMask { keys, threshold } = dropout.row(row);
            vector::drop_in_place(values, place as u32, keys, threshold, dropout.scale());
        }
        let start = row * row_length + place;
        vector::add(values, &residual[start..start + values.len()]);
    });
    B::tensor(values, shape)
}

/// A copy of `x`, made by all threads.
fn copy<B: Host>(x: &FloatTensor<B>) -> FloatTensor<B> {
    let values = B::floats(x);
    let mut copied = buffer(values.len());
    copied.par_chunks_mut(PIECE).zip(values.par_chunks(PIECE)).for_each(|(to, from)| {
        to.iter_mut().zip(from).for_each(|(to, from)| {
            to.write(*from);
        });
    });
    // SAFETY: the pieces cover all of it.
    B::tensor(unsafe { written(copied) }, B::shape(x))
}

#[derive(Debug)]
struct DroppedBackward;

impl<B: Host> Backward<B, 1> for DroppedBackward {
    type State = Dropout;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [of_x] = ops.parents;
        let dy = grads.consume::<B>(&ops.node);
        if let Some(node) = of_x {
            grads.register::<B>(node.id, mask::<B>(dy, ops.state));
        }
    }
}

#[derive(Debug)]
struct ResidualBackward;

impl<B: Host> Backward<B, 2> for ResidualBackward {
    type State = Option<Dropout>;

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [of_residual, of_x] = ops.parents;
        let dy = grads.consume::<B>(&ops.node);
        if let Some(node) = of_x {
            let dx = match ops.state {
                Some(dropout) => mask::<B>(copy::<B>(&dy), dropout),
                None => dy.clone(),
            };
            grads.register::<B>(node.id, dx);
        }
        if let Some(node) = of_residual {
            grads.register::<B>(node.id, dy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{Values, assert_agree, assert_same_bits, assert_spreads_nan, devices, random};

    const KEY: DropoutKey = DropoutKey { seed: 1337, step: 7, site: 3, first_row: 0 };

    fn some(probability: f32) -> Dropout {
        Dropout { probability, key: KEY }
    }

    fn dropped(mask: &[f32]) -> Vec<bool> {
        mask.iter().map(|factor| *factor == 0.0).collect()
    }

    /// How far from independent two masks are, in standard deviations of the share of places where both drop.
    fn together(a: &[bool], b: &[bool], p: f64) -> f64 {
        let n = a.len().min(b.len()) as f64;
        let both = a.iter().zip(b).filter(|(a, b)| **a && **b).count() as f64;
        (both - n * p * p).abs() / (n * p * p * (1.0 - p * p)).sqrt()
    }

    #[test]
    fn masks_drop_at_their_rate_and_independently_of_neighbours_rows_steps_and_sites() {
        for p in [0.1, 0.5, 0.9] {
            let shape = [16, 50_000];
            let mask = dropped(&mask_values(&shape, some(p)));
            let p = p as f64;
            let n = mask.len() as f64;
            let rate = mask.iter().filter(|dropped| **dropped).count() as f64;
            assert!((rate - n * p).abs() < 4.5 * (n * p * (1.0 - p)).sqrt(), "rate of {p}: {}", rate / n);
            for lag in [1, 2, 3, 4, 8, 16, 31, 64, 128, 255, 256, 384, 1024, 4096, 50_000, 100_000] {
                assert!(together(&mask, &mask[lag..], p) < 4.5, "{p}: neighbours {lag} apart");
            }
            for key in [
                DropoutKey { seed: 1338, ..KEY },
                DropoutKey { step: 8, ..KEY },
                DropoutKey { site: 4, ..KEY },
                DropoutKey { first_row: 16, ..KEY },
            ] {
                let other = dropped(&mask_values(&shape, Dropout { probability: p as f32, key }));
                assert!(together(&mask, &other, p) < 4.5, "{p}: {key:?}");
            }
        }
    }

    #[test]
    fn a_row_is_masked_alike_in_every_split_of_a_step() {
        let whole = mask_values(&[6, 33], some(0.3));
        let later = Dropout { key: DropoutKey { first_row: 4, ..KEY }, ..some(0.3) };
        assert_eq!(whole[4 * 33..], mask_values(&[2, 33], later));
    }

    fn inputs() -> Vec<Values> {
        vec![random(&[3, 5, 7001], 1), random(&[3, 5, 7001], 2)]
    }

    fn own(dropout: Option<Dropout>) -> impl Fn(&[Tensor<1>], &[Values]) -> Tensor<1> {
        move |x, of| {
            let (a, b) = (of[0].view::<3>(x, 0), of[1].view::<3>(x, 1));
            residual_add(a, super::dropout(b, dropout), dropout).reshape([-1])
        }
    }

    fn composed(dropout: Option<Dropout>) -> impl Fn(&[Tensor<1>], &[Values]) -> Tensor<1> {
        move |x, of| {
            let (a, b) = (of[0].view::<3>(x, 0), of[1].view::<3>(x, 1));
            let factors = || dropout.map(|dropout| factors(b.dims(), dropout, &b.device()));
            let dropped = |x: Tensor<3>| match factors() {
                Some(factors) => x * factors,
                None => x,
            };
            (a + dropped(dropped(b.clone()))).reshape([-1])
        }
    }

    #[test]
    fn dropout_and_its_gradient_equal_the_composed_operations() {
        for dropout in [None, Some(some(0.0)), Some(some(0.2)), Some(some(0.95))] {
            assert_agree(&inputs(), own(dropout), composed(dropout));
        }
    }

    #[test]
    fn dropout_gives_the_same_bits_for_every_number_of_threads() {
        assert_same_bits(&inputs(), own(Some(some(0.4))));
    }

    #[test]
    fn dropout_passes_nan_and_infinity() {
        assert_spreads_nan(&[random(&[1, 1, 9], 1), random(&[1, 1, 9], 2)], own(Some(some(0.5))));
        assert_spreads_nan(&[random(&[1, 1, 9], 1), random(&[1, 1, 9], 2)], own(None));
    }

    #[test]
    fn what_is_held_elsewhere_keeps_its_values() {
        for device in devices() {
            let x = Tensor::<2>::ones([4, 9], &device);
            let _ = dropout(x.clone(), Some(some(0.5)));
            let _ = residual_add(x.clone(), x.clone(), Some(some(0.5)));
            assert_eq!(x.sum().into_scalar::<f32>(), 36.0);
        }
    }
}
