//! Weights in eight bits, beside the ones they were rounded from.

use burn::nn::Linear;
use burn::tensor::Tensor;
use kernels::{Int8Linear, Int8Matrix};
use std::sync::Arc;

/// The two linear layers of half a block in eight bits, once the model has been quantized.
#[derive(Clone, Debug, Default)]
pub struct Int8Pair(Option<Arc<[Int8Linear; 2]>>);

impl Int8Pair {
    pub(crate) fn new(first: &Linear, second: &Linear) -> Self {
        Self(Some(Arc::new([Int8Linear::new(first), Int8Linear::new(second)])))
    }

    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn first(&self) -> Option<&Int8Linear> {
        self.0.as_ref().map(|pair| &pair[0])
    }

    pub(crate) fn second(&self) -> Option<&Int8Linear> {
        self.0.as_ref().map(|pair| &pair[1])
    }

    /// Bytes that a pass reads: of these, or of the layers they stand for.
    pub(crate) fn bytes(&self, first: &Linear, second: &Linear) -> usize {
        let of_layer = |layer: &Linear| {
            let bias = layer.bias.as_ref().map_or(0, |bias| bias.lazy_shape().num_elements());
            (layer.weight.lazy_shape().num_elements() + bias) * size_of::<f32>()
        };
        match &self.0 {
            Some(pair) => pair.iter().map(Int8Linear::bytes).sum(),
            None => of_layer(first) + of_layer(second),
        }
    }
}

/// A head in eight bits, once the model has been quantized.
#[derive(Clone, Debug, Default)]
pub struct Int8Head(Option<Arc<Int8Matrix>>);

impl Int8Head {
    pub(crate) fn new(table: Tensor<2>) -> Self {
        Self(Some(Arc::new(Int8Matrix::of_rows(table))))
    }

    pub(crate) fn table(&self) -> Option<&Int8Matrix> {
        self.0.as_deref()
    }
}
