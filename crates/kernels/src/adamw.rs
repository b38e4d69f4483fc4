//! The update of AdamW in one pass over the numbers.

use crate::cube;
use crate::host::{Host, covers, on_host_backends};
use crate::vector;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use rayon::prelude::*;

/// Numbers updated by one thread at a time: four streams of this many f32 stay in the cache.
const PIECE: usize = 16 * 1024;

/// The numbers of one update.
#[derive(Clone, Copy, Debug)]
pub struct AdamwStep {
    /// What the gradient is multiplied by first.
    pub scale: f64,
    /// The learning rate.
    pub lr: f64,
    /// How much of the mean of the gradients stays.
    pub beta1: f64,
    /// How much of the mean of their squares stays.
    pub beta2: f64,
    /// Keeps the denominator from zero.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Counts the updates from 1.
    pub step: u64,
}

/// The new value, and the new means of gradients and of their squares.
///
/// Reuses the memory of what it is the only owner of.
///
/// # Shapes
/// - every tensor `[n]`, outside autodiff
///
/// Source: Loshchilov and Hutter 2019, algorithm 2, in the order of operations of PyTorch's `AdamW`.
pub fn adamw(
    value: Tensor<1>,
    gradient: Tensor<1>,
    first: Tensor<1>,
    second: Tensor<1>,
    step: AdamwStep,
) -> [Tensor<1>; 3] {
    let tensors = [&value, &gradient, &first, &second];
    assert!(tensors.iter().all(|tensor| tensor.dims() == value.dims()), "one number each for every parameter");
    if tensors.iter().all(|tensor| cube::covers(tensor) && !tensor.device().is_autodiff()) {
        return cube::adamw(value, gradient, first, second, step);
    }
    if !tensors.iter().all(|tensor| covers(tensor) && !tensor.device().is_autodiff()) {
        return composed(value, gradient, first, second, step);
    }
    let (value, first, second) = <Dispatch as AdamwOps>::adamw(
        value.into_dispatch(),
        gradient.into_dispatch(),
        first.into_dispatch(),
        second.into_dispatch(),
        step,
    );
    [value, first, second].map(Tensor::from_dispatch)
}

/// The same in Burn's operations.
pub(crate) fn composed(
    value: Tensor<1>,
    gradient: Tensor<1>,
    first: Tensor<1>,
    second: Tensor<1>,
    step: AdamwStep,
) -> [Tensor<1>; 3] {
    let AdamwStep { scale, lr, beta1, beta2, eps, weight_decay, step } = step;
    let gradient = gradient.mul_scalar(scale);
    // A product: `powi` is a call of the C library's `pow` for every number.
    let square = gradient.clone() * gradient.clone();
    let first = first * beta1 + gradient * (1.0 - beta1);
    let second = second * beta2 + square * (1.0 - beta2);
    let (correction1, correction2) = (1.0 - beta1.powf(step as f64), 1.0 - beta2.powf(step as f64));
    let value = if weight_decay > 0.0 { value * (1.0 - lr * weight_decay) } else { value };
    let denominator = second.clone().sqrt() / correction2.sqrt() + eps;
    let value = value - first.clone() * (lr / correction1) / denominator;
    [value, first, second]
}

/// The sum of the squares, `[1]`: NaN or infinite if any number is.
///
/// # Shapes
/// - `values`: `[n]`, outside autodiff
pub fn sum_of_squares(values: Tensor<1>) -> Tensor<1> {
    if covers(&values) && !values.device().is_autodiff() {
        return Tensor::from_dispatch(<Dispatch as AdamwOps>::sum_of_squares(values.into_dispatch()));
    }
    if cube::covers(&values) && !values.device().is_autodiff() {
        return cube::sum_of_squares(values);
    }
    // A product: `powi` is a call of the C library's `pow` for every number.
    (values.clone() * values).sum()
}

/// The operation on backends; nothing to differentiate.
#[backend_extension(Flex, NdArray)]
pub(crate) trait AdamwOps: Backend {
    fn sum_of_squares(values: FloatTensor<Self>) -> FloatTensor<Self>;
    fn adamw(
        value: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        step: AdamwStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

on_host_backends!(AdamwOps {
    fn sum_of_squares(values: FloatTensor<Self>) -> FloatTensor<Self> {
        let values = Self::floats(&values);
        // Pieces of one length, added in order: the same for every number of threads.
        let sums: Vec<f64> = values.par_chunks(PIECE).map(|piece| vector::squares(piece) as f64).collect();
        Self::tensor(vec![sums.iter().sum::<f64>() as f32], vec![1])
    }

    fn adamw(
        value: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        step: AdamwStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let shape = Self::shape(&value);
        let (mut value, mut first, mut second) =
            (Self::into_floats(value), Self::into_floats(first), Self::into_floats(second));
        update(&mut value, &Self::floats(&gradient), &mut first, &mut second, step);
        let tensor = |values| Self::tensor(values, shape.clone());
        (tensor(value), tensor(first), tensor(second))
    }
});

fn update(value: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32], step: AdamwStep) {
    let AdamwStep { scale, lr, beta1, beta2, eps, weight_decay, step } = step;
    let (correction1, correction2) = (1.0 - beta1.powf(step as f64), 1.0 - beta2.powf(step as f64));
    let numbers = vector::AdamwNumbers {
        scale: scale as f32,
        keep: (1.0 - lr * weight_decay) as f32,
        rate: (lr / correction1) as f32,
        root: correction2.sqrt() as f32,
        eps: eps as f32,
        first: [beta1 as f32, (1.0 - beta1) as f32],
        second: [beta2 as f32, (1.0 - beta2) as f32],
    };
    let moments = first.par_chunks_mut(PIECE).zip(second.par_chunks_mut(PIECE));
    let pieces = value.par_chunks_mut(PIECE).zip(gradient.par_chunks(PIECE)).zip(moments);
    pieces.for_each(|((value, gradient), (first, second))| vector::adamw(value, gradient, first, second, numbers));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{devices, random};
    use burn::tensor::TensorData;

    const STEP: AdamwStep =
        AdamwStep { scale: 0.7, lr: 1e-2, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.1, step: 3 };

    fn run(length: usize, bad: Option<f32>, update: impl Fn([Tensor<1>; 4]) -> [Tensor<1>; 3]) -> Vec<Vec<f32>> {
        let of = |device: &burn::tensor::Device| {
            let tensors = [1, 2, 3, 4].map(|seed| {
                let mut values = random(&[length], seed).values;
                if seed == 4 {
                    values.iter_mut().for_each(|square| *square = square.abs());
                }
                if let Some(bad) = bad.filter(|_| seed == 2) {
                    values[length / 2] = bad;
                }
                Tensor::<1>::from_data(TensorData::new(values, [length]), device)
            });
            update(tensors).map(|tensor| tensor.into_data().try_into_vec::<f32>().expect("f32"))
        };
        let [flex, ndarray] = devices();
        of(&flex).into_iter().chain(of(&ndarray)).collect()
    }

    #[test]
    fn adamw_equals_the_composed_operations() {
        for length in [1, 7, 16, 33, 40_001] {
            let ours =
                run(length, None, |[value, gradient, first, second]| adamw(value, gradient, first, second, STEP));
            let theirs =
                run(length, None, |[value, gradient, first, second]| composed(value, gradient, first, second, STEP));
            for (ours, theirs) in ours.iter().zip(&theirs) {
                for (a, b) in ours.iter().zip(theirs) {
                    assert!((a - b).abs() <= 1e-6 * b.abs().max(1.0), "{a} for {b} of {length}");
                }
            }
        }
    }

    #[test]
    fn the_sum_of_squares_is_that_in_f64_and_passes_nan() {
        for device in devices() {
            for length in [1, 17, 40_001] {
                let mut values = random(&[length], 8).values;
                let exact: f64 = values.iter().map(|value| *value as f64 * *value as f64).sum();
                let sum = |values: &[f32]| {
                    let values = TensorData::new(values.to_vec(), [length]);
                    sum_of_squares(Tensor::<1>::from_data(values, &device)).into_scalar::<f64>()
                };
                assert!((sum(&values) - exact).abs() <= 1e-6 * exact);
                values[length / 2] = f32::NAN;
                assert!(sum(&values).is_nan());
            }
        }
    }

    #[test]
    fn a_tensor_that_is_still_owned_elsewhere_keeps_its_values() {
        run(33, None, |[value, gradient, first, second]| {
            let (kept, before) = (value.clone(), value.to_data());
            let updated = adamw(value, gradient, first, second, STEP);
            assert_eq!(kept.into_data(), before);
            updated
        });
    }

    #[test]
    fn adamw_passes_nan_and_infinity_where_they_stand() {
        for bad in [f32::NAN, f32::INFINITY] {
            let updated =
                run(33, Some(bad), |[value, gradient, first, second]| adamw(value, gradient, first, second, STEP));
            for values in updated {
                assert!(!values[16].is_finite());
                assert!(values.iter().enumerate().all(|(i, value)| i == 16 || value.is_finite()));
            }
        }
    }
}
