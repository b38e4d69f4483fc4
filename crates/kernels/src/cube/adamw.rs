//! The update of AdamW as one kernel a parameter, and the sum of squares in two.

use super::reduce::{WIDE, sum_over_cube};
use super::{argument, elementwise, empty, is_own};
use crate::AdamwStep;
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

/// Cubes whose sums the second kernel of a sum adds up.
const SUMS: usize = 256;

/// The same as [`crate::adamw`], where [`super::covers`] all tensors and none is tracked.
pub(crate) fn adamw(
    value: Tensor<1>,
    gradient: Tensor<1>,
    first: Tensor<1>,
    second: Tensor<1>,
    step: AdamwStep,
) -> [Tensor<1>; 3] {
    let (value, gradient, first, second) =
        (value.into_dispatch(), gradient.into_dispatch(), first.into_dispatch(), second.into_dispatch());
    let (value, first, second) = <Dispatch as CubeAdamwOps>::fused_adamw(value, gradient, first, second, step);
    [value, first, second].map(Tensor::from_dispatch)
}

/// The same as [`crate::sum_of_squares`], where [`super::covers`] the numbers and they are not tracked.
pub(crate) fn sum_of_squares(values: Tensor<1>) -> Tensor<1> {
    Tensor::from_dispatch(<Dispatch as CubeAdamwOps>::fused_squares(values.into_dispatch()))
}

/// The operation on the backend; nothing to differentiate.
#[backend_extension(Cube, Fusion)]
pub(crate) trait CubeAdamwOps: Backend {
    #[fusion(meta = |value, _gradient, first, second, _step| (value.clone(), first.clone(), second.clone()))]
    fn fused_adamw(
        value: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        step: AdamwStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    #[fusion(meta = |_values| TensorSpec::new(Shape::new([1]), DType::F32))]
    fn fused_squares(values: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// The numbers of one update as the kernel needs them.
#[derive(CubeLaunch, CubeType, Clone, Copy)]
struct Factors {
    scale: f32,
    keep: f32,
    rate: f32,
    root: f32,
    eps: f32,
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
}

/// Reads the first four tensors and writes the last three, or in place of them the first, third and fourth.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn update(
    value: &mut [f32],
    gradient: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    new_value: &mut [f32],
    new_first: &mut [f32],
    new_second: &mut [f32],
    by: Factors,
    #[comptime] in_place: bool,
) {
    let i = ABSOLUTE_POS;
    if i < value.len() {
        let g = gradient[i] * by.scale;
        let mean = first[i] * by.beta1 + g * by.rest1;
        let square = second[i] * by.beta2 + g * g * by.rest2;
        let updated = value[i] * by.keep - mean * by.rate / (square.sqrt() / by.root + by.eps);
        if in_place {
            first[i] = mean;
            second[i] = square;
            value[i] = updated;
        } else {
            new_first[i] = mean;
            new_second[i] = square;
            new_value[i] = updated;
        }
    }
}

/// The sum, one a cube, of numbers that lie as many apart as there are units, or of their squares.
#[cube(launch_unchecked)]
fn sums(values: &[f32], sums: &mut [f32], #[comptime] squares: bool) {
    let mut shared = Shared::<[f32]>::new_slice(comptime!(WIDE as usize));
    let mut total = 0.0f32;
    let mut i = ABSOLUTE_POS;
    while i < values.len() {
        let value = values[i];
        if squares {
            total += value * value;
        } else {
            total += value;
        }
        i += (CUBE_COUNT_X * WIDE) as usize;
    }
    let total = sum_over_cube(total, &mut shared);
    if UNIT_POS == 0 {
        sums[CUBE_POS_X as usize] = total;
    }
}

impl CubeAdamwOps for CubeBackend {
    fn fused_adamw(
        value: CubeTensor,
        gradient: CubeTensor,
        first: CubeTensor,
        second: CubeTensor,
        step: AdamwStep,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let AdamwStep { scale, lr, beta1, beta2, eps, weight_decay, step } = step;
        let (correction1, correction2) = (1.0 - beta1.powf(step as f64), 1.0 - beta2.powf(step as f64));
        let old = [value, first, second].map(into_contiguous);
        let in_place = old.iter().all(is_own);
        let new = if in_place {
            // Not written.
            [0; 3].map(|_| empty(&old[0], [1]))
        } else {
            [0, 1, 2].map(|i| empty(&old[i], old[i].shape()))
        };
        let (cubes, units) = elementwise(&old[0]);
        // SAFETY: a unit beyond the last number does nothing, and all tensors that are used have as many.
        unsafe {
            update::launch_unchecked(
                &old[0].client,
                cubes,
                units,
                argument(old[0].clone()),
                argument(gradient),
                argument(old[1].clone()),
                argument(old[2].clone()),
                argument(new[0].clone()),
                argument(new[1].clone()),
                argument(new[2].clone()),
                FactorsLaunch::new(
                    scale as f32,
                    (1.0 - lr * weight_decay) as f32,
                    (lr / correction1) as f32,
                    correction2.sqrt() as f32,
                    eps as f32,
                    beta1 as f32,
                    (1.0 - beta1) as f32,
                    beta2 as f32,
                    (1.0 - beta2) as f32,
                ),
                in_place,
            );
        }
        let [value, first, second] = if in_place { old } else { new };
        (value, first, second)
    }

    fn fused_squares(values: CubeTensor) -> CubeTensor {
        let cubes = values.shape().num_elements().div_ceil(WIDE as usize).min(SUMS);
        let parts = empty(&values, [cubes]);
        let total = empty(&values, [1]);
        let client = values.client.clone();
        let units = CubeDim::new_1d(WIDE);
        // SAFETY: units read below the length only, and every cube writes its own sum.
        unsafe {
            let count = CubeCount::Static(cubes as u32, 1, 1);
            sums::launch_unchecked(&client, count, units, argument(values), argument(parts.clone()), true);
            let count = CubeCount::Static(1, 1, 1);
            sums::launch_unchecked(&client, count, units, argument(parts), argument(total.clone()), false);
        }
        total
    }
}
