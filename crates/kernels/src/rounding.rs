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
    let Some(format) = Format::of(precision) else { return operation(a, b) };
    if a.device().supports_dtype(format.dtype) {
        return operation(a.cast(format.dtype), b.cast(format.dtype)).cast(FloatDType::F32);
    }
    operation(shortened(a, format), shortened(b, format))
}

/// A half-precision format.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Format {
    /// Its name in Burn.
    pub dtype: FloatDType,
    /// Bits of an f32's significand that it lacks.
    dropped: i32,
}

impl Format {
    /// That of a precision's operands, where it is not f32.
    pub fn of(precision: Precision) -> Option<Self> {
        match precision {
            Precision::F32 => None,
            Precision::Bf16 => Some(Self { dtype: FloatDType::BF16, dropped: 16 }),
            Precision::F16 => Some(Self { dtype: FloatDType::F16, dropped: 13 }),
        }
    }

    /// `high = splitter * x`, rounded to f32, makes `high - (high - x)` the number of this format that is next to `x`.
    ///
    /// Source: the splitting of Dekker 1971, section 5.
    pub fn splitter(self) -> f64 {
        2f64.powi(self.dropped) + 1.0
    }
}

/// Rounds to the format's significand; its gradient is one.
fn shortened<const D: usize>(x: Tensor<D>, format: Format) -> Tensor<D> {
    let high = x.clone() * format.splitter();
    high.clone() - (high - x)
}
