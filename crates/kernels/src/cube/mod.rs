//! Own operations on GPUs, written once in CubeCL: wgpu (Vulkan, Metal, DX12) and CUDA run the same kernels.
//!
//! Kernels read and write 32-bit floats in memory without gaps, and index with 32 bits. None uses atomics or
//! instructions of a plane (subgroup, warp): sums are added in an order that the shapes alone decide, so that results
//! are the same on every run.

mod adamw;
mod attention;
mod attention_kernels;
mod cross_entropy;
mod dropout;
mod reduce;
#[cfg(test)]
pub(crate) mod tests;
mod tile;

pub(crate) use adamw::{adamw, sum_of_squares};
pub(crate) use attention::{attention, covers_attention};
pub(crate) use cross_entropy::cross_entropy_sum;
pub(crate) use dropout::{dropout, residual_add};

use burn::backend::fusion::custom::StreamId;
use burn::backend::{DispatchDevice, TensorMetadata};
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::cubecl::prelude::BufferArg;
use burn_cubecl::cubecl::{CubeCount, CubeDim, calculate_cube_count_elemwise};
use burn_cubecl::{kernel::into_contiguous, tensor::CubeTensor};

/// Numbers in the largest tensor that kernels index with 32 bits, with room for the last tile's overhang.
const MOST_NUMBERS: usize = 1 << 31;

/// Whether the kernels of this module run on `x`: f32 on a device of CubeCL, not empty, and not too long for its indices.
pub(crate) fn covers<const D: usize>(x: &Tensor<D>) -> bool {
    let device = x.device().without_autodiff();
    let numbers: usize = x.dims().iter().product();
    matches!(device.as_dispatch(), DispatchDevice::Cube(_))
        && x.dtype() == DType::F32
        && (1..MOST_NUMBERS).contains(&numbers)
}

/// A tensor of `shape` whose numbers nobody has written yet, where `like` lies.
fn empty(like: &CubeTensor, shape: impl Into<Shape>) -> CubeTensor {
    let shape = shape.into();
    let memory = like.client.empty(shape.num_elements() * size_of::<f32>());
    CubeTensor::new_contiguous(like.client.clone(), like.device.clone(), shape, memory, DType::F32)
}

/// Words for a kernel, where `like` lies.
fn words(like: &CubeTensor, words: &[u32]) -> CubeTensor {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let memory = like.client.create_from_slice(&bytes);
    let shape = Shape::new([words.len()]);
    CubeTensor::new_contiguous(like.client.clone(), like.device.clone(), shape, memory, DType::U32)
}

/// A kernel's argument: `tensor` without gaps.
fn argument(tensor: CubeTensor) -> BufferArg {
    into_contiguous(tensor).into_buffer_arg()
}

/// The sides of a tensor, outermost first.
fn sides<const D: usize>(tensor: &CubeTensor) -> [usize; D] {
    tensor.shape().dims()
}

/// Whether a kernel may write over `tensor`: nobody else holds it, it has no gaps, and it was made on this stream.
///
/// Each thread has a stream of its own. Who uses a tensor waits for the stream it was made on, which does not know of
/// what another stream has written over it since.
fn is_own(tensor: &CubeTensor) -> bool {
    tensor.can_mut() && tensor.is_contiguous() && tensor.handle.stream == StreamId::current()
}

/// `tensor` in memory that may be written over: its own, or a copy.
fn owned(tensor: CubeTensor) -> CubeTensor {
    if is_own(&tensor) { tensor } else { into_contiguous(tensor.copy()) }
}

/// A unit for each number of `tensor`.
fn elementwise(tensor: &CubeTensor) -> (CubeCount, CubeDim) {
    let (numbers, units) = (tensor.shape().num_elements(), CubeDim::new_1d(256));
    (calculate_cube_count_elemwise(&tensor.client, numbers, units), units)
}
