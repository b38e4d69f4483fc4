//! Host memory of the CPU backends: the only code that differs between them.

use burn::backend::flex::FlexTensor;
use burn::backend::ndarray::NdArrayTensor;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, DispatchDevice, Flex, NdArray, TensorMetadata};
use burn::tensor::{DType, Device, Tensor, TensorData};
use std::borrow::Cow;

/// Whether this crate's own operations run on `x`: f32 in host memory, and not empty.
pub fn covers<const D: usize>(x: &Tensor<D>) -> bool {
    in_host_memory(&x.device()) && x.dtype() == DType::F32 && x.dims().iter().all(|length| *length > 0)
}

/// Whether tensors on `device` lie in host memory: reading them waits for nothing.
pub fn in_host_memory(device: &Device) -> bool {
    matches!(device.clone().without_autodiff().as_dispatch(), DispatchDevice::Flex(_) | DispatchDevice::NdArray(_))
}

/// A backend whose tensors lie in host memory.
pub(crate) trait Host: Backend {
    /// The values in row-major order; copied only where the tensor is not stored that way.
    fn floats(tensor: &FloatTensor<Self>) -> Cow<'_, [f32]>;
    /// The values in row-major order; copied only where someone else holds them too, or they are not stored that way.
    fn into_floats(tensor: FloatTensor<Self>) -> Vec<f32>;
    /// The ids in row-major order.
    fn ids(tensor: &IntTensor<Self>) -> Cow<'_, [i32]>;
    /// The shape of ids, outermost first.
    fn ids_shape(tensor: &IntTensor<Self>) -> Vec<usize> {
        tensor.shape().to_vec()
    }
    /// A tensor of `values`, without copying them.
    fn tensor(values: Vec<f32>, shape: Vec<usize>) -> FloatTensor<Self>;
    /// The shape, outermost first.
    fn shape(tensor: &FloatTensor<Self>) -> Vec<usize> {
        tensor.shape().to_vec()
    }
}

impl Host for Flex {
    fn floats(tensor: &FloatTensor<Self>) -> Cow<'_, [f32]> {
        match tensor.as_slice::<f32>() {
            Some(values) => Cow::Borrowed(values),
            None => {
                let copy = tensor.to_contiguous();
                Cow::Owned(
                    copy.as_slice::<f32>().expect("callers check the dtype, and the copy is contiguous").to_vec(),
                )
            }
        }
    }

    fn into_floats(tensor: FloatTensor<Self>) -> Vec<f32> {
        tensor.into_data().try_into_vec().expect("callers check the dtype")
    }

    fn ids(tensor: &IntTensor<Self>) -> Cow<'_, [i32]> {
        match tensor.as_slice::<i32>() {
            Some(ids) => Cow::Borrowed(ids),
            None => {
                let data = tensor.to_contiguous().into_data().convert::<i32>();
                Cow::Owned(data.try_into_vec().expect("just converted"))
            }
        }
    }

    fn tensor(values: Vec<f32>, shape: Vec<usize>) -> FloatTensor<Self> {
        FlexTensor::from_data(TensorData::new(values, shape))
    }
}

impl Host for NdArray {
    fn floats(tensor: &FloatTensor<Self>) -> Cow<'_, [f32]> {
        let NdArrayTensor::F32(storage) = tensor else { unreachable!("callers check the dtype") };
        let view = storage.view();
        match view.to_slice() {
            Some(values) => Cow::Borrowed(values),
            None => Cow::Owned(view.iter().copied().collect()),
        }
    }

    fn into_floats(tensor: FloatTensor<Self>) -> Vec<f32> {
        let NdArrayTensor::F32(storage) = tensor else { unreachable!("callers check the dtype") };
        match storage.into_owned().try_into_owned_nocopy() {
            // A part of its memory, or in another order.
            Ok(array) if !array.is_standard_layout() => array.iter().copied().collect(),
            Ok(array) => {
                let length = array.len();
                let (values, start) = array.into_raw_vec_and_offset();
                match start {
                    Some(0) | None if values.len() == length => values,
                    start => values[start.unwrap_or(0)..][..length].to_vec(),
                }
            }
            Err(shared) => shared.iter().copied().collect(),
        }
    }

    fn ids(tensor: &IntTensor<Self>) -> Cow<'_, [i32]> {
        macro_rules! converted {
            ($($dtype:ident),*) => {
                match tensor {
                    $(NdArrayTensor::$dtype(storage) => storage.view().iter().map(|id| *id as i32).collect(),)*
                    _ => unreachable!("an integer tensor holds integers"),
                }
            };
        }
        Cow::Owned(converted!(I64, I32, I16, I8, U64, U32, U16, U8))
    }

    fn tensor(values: Vec<f32>, shape: Vec<usize>) -> FloatTensor<Self> {
        NdArrayTensor::from_data(TensorData::new(values, shape))
    }
}

/// Implements an extension trait for every host backend.
macro_rules! on_host_backends {
    ($name:ident { $($items:item)* }) => {
        on_host_backends!(@one burn::backend::Flex, $name { $($items)* });
        on_host_backends!(@one burn::backend::NdArray, $name { $($items)* });
    };
    (@one $backend:ty, $name:ident { $($items:item)* }) => {
        impl $name for $backend { $($items)* }
    };
}
pub(crate) use on_host_backends;
