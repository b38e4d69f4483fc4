//! Logits through a head that is the token embedding.

use crate::host::{Host, covers, on_host_backends};
use crate::product::{FEW_ROWS, Matrix, inner_products, new_product};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;

/// The inner product of each hidden state with each row of the embedding table.
///
/// # Shapes
/// - `x`: `[rows, d_model]`, `table`: `[vocab, d_model]`; returns `[rows, vocab]`
///
/// Source: Press and Wolf 2017, section 1.
pub fn tied_head(x: Tensor<2>, table: Tensor<2>) -> Tensor<2> {
    assert_eq!(x.dims()[1], table.dims()[1], "a head's shapes");
    // Training takes its loss without ever holding the logits; what asks for them under autodiff gets Burn's operations.
    if !covers(&x) || x.device().is_autodiff() {
        return composed(x, table);
    }
    Tensor::from_dispatch(<Dispatch as TiedHeadOps>::tied_head(x.into_dispatch(), table.into_dispatch()))
}

/// The same in Burn's operations.
fn composed(x: Tensor<2>, table: Tensor<2>) -> Tensor<2> {
    x.matmul(table.transpose())
}

/// The operation on backends; nothing to differentiate.
#[backend_extension(Flex, NdArray)]
pub(crate) trait TiedHeadOps: Backend {
    fn tied_head(x: FloatTensor<Self>, table: FloatTensor<Self>) -> FloatTensor<Self>;
}

on_host_backends!(TiedHeadOps {
    fn tied_head(x: FloatTensor<Self>, table: FloatTensor<Self>) -> FloatTensor<Self> {
        let ([rows, d_model], vocab) = ([Self::shape(&x)[0], Self::shape(&x)[1]], Self::shape(&table)[0]);
        let (x, table) = (Self::floats(&x), Self::floats(&table));
        let logits = match rows {
            0..=FEW_ROWS => inner_products(&x, &table, d_model),
            _ => new_product(
                Matrix::new(&x, rows, d_model),
                Matrix::new(&table, vocab, d_model).t(),
                crate::Precision::F32,
            ),
        };
        Self::tensor(logits, vec![rows, vocab])
    }
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{assert_near, devices, random};
    use burn::tensor::TensorData;

    #[test]
    fn the_tied_head_equals_the_composed_operations() {
        for device in devices() {
            for [rows, d_model, vocab] in [[1, 1, 1], [1, 48, 300], [3, 17, 65], [70, 33, 129]] {
                let of = |shape: [usize; 2], seed| {
                    Tensor::<2>::from_data(TensorData::new(random(&shape, seed).values, shape), &device)
                };
                let (x, table) = (of([rows, d_model], 1), of([vocab, d_model], 2));
                let host = |y: Tensor<2>| y.into_data().try_into_vec::<f32>().expect("f32");
                let (ours, theirs) = (host(tied_head(x.clone(), table.clone())), host(composed(x, table)));
                assert_near(&format!("{rows} {d_model} {vocab} on {device:?}"), 1e-5, &ours, &theirs);
            }
        }
    }
}
