//! Half-precision operands in Burn's operations, for devices and shapes without an own implementation.

use crate::Precision;
use burn::tensor::{FloatDType, Tensor};

/// `operation` on operands of `precision`, its result as f32.
///
/// Where the device knows the format it computes in it; Burn's matrix products then add up in f32. Else the operands
/// are rounded to it and multiplied in f32, which gives the same up to the order of the sums.
pub(crate) fn rounded<const A: usize, const B: usize, const C: usize>(
    a: Tensor<A>,
    b: Tensor<B>,
    precision: Precision,
    operation: impl Fn(Tensor<A>, Tensor<B>) -> Tensor<C>,
) -> Tensor<C> {
    let (format, dropped) = match precision {
        Precision::F32 => return operation(a, b),
        Precision::Bf16 => (FloatDType::BF16, 16),
        Precision::F16 => (FloatDType::F16, 13),
    };
    if a.device().supports_dtype(format) {
        return operation(a.cast(format), b.cast(format)).cast(FloatDType::F32);
    }
    operation(shortened(a, dropped), shortened(b, dropped))
}

/// Rounds away the lowest `dropped` bits of each significand; its gradient is one.
///
/// Source: the splitting of Dekker 1971, section 5.
fn shortened<const D: usize>(x: Tensor<D>, dropped: u32) -> Tensor<D> {
    let high = x.clone() * (2f64.powi(dropped as i32) + 1.0);
    high.clone() - (high - x)
}
