//! Number formats of matrix products and attention.

/// The number format in which matrix products and attention compute; sums, softmax, norms and losses stay f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit floating point.
    #[default]
    F32,
    /// Operands rounded to bfloat16 (8 bits of exponent, 8 of significand), sums in f32.
    Bf16,
    /// Operands rounded to IEEE half precision (5 bits of exponent, 11 of significand), sums in f32.
    F16,
}
