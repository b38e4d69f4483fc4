//! Which number formats a device computes in.

use crate::Precision;
use crate::host::in_host_memory;
use crate::product;
use burn::tensor::{Device, FloatDType};

/// How a device computes in a number format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// With instructions for it.
    Native,
    /// In f32, on operands rounded to the format: as exact, but slower than f32.
    Emulated,
}

/// How `device` computes matrix products and attention in `precision`. The products inside [`crate::attention`] are of f32
/// on GPUs, whatever the precision.
pub fn support(device: &Device, precision: Precision) -> Support {
    let format = match precision {
        Precision::F32 => return Support::Native,
        Precision::Bf16 => FloatDType::BF16,
        Precision::F16 => FloatDType::F16,
    };
    let native = match in_host_memory(device) {
        true => product::computes_in(precision),
        false => device.clone().without_autodiff().supports_dtype(format),
    };
    if native { Support::Native } else { Support::Emulated }
}
