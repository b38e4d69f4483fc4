//! Rows of a table by number.

use crate::host::{Host, covers, on_host_backends};
use crate::product::{MatrixMut, buffer, written};
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::{Int, Tensor};
use rayon::prelude::*;

/// Numbers copied by one thread at a time, about.
const PIECE: usize = 1 << 14;

/// The rows of `table` that `ids` name.
///
/// # Shapes
/// - `table`: `[rows, d]`, `ids`: `[batch, seq]`; returns `[batch, seq, d]`
///
/// # Panics
/// On the CPU backends, if an id lies outside the table.
pub fn embedding(table: Tensor<2>, ids: Tensor<2, Int>) -> Tensor<3> {
    if covers(&table) {
        let (table, ids) = (table.into_dispatch(), ids.into_dispatch());
        return Tensor::from_dispatch(<Dispatch as EmbeddingOps>::embedding(table, ids));
    }
    composed(table, ids)
}

/// The same in Burn's operations.
fn composed(table: Tensor<2>, ids: Tensor<2, Int>) -> Tensor<3> {
    burn::tensor::module::embedding(table, ids)
}

/// The operation on backends.
#[backend_extension(Flex, NdArray, Autodiff)]
pub(crate) trait EmbeddingOps: Backend {
    fn embedding(table: FloatTensor<Self>, ids: IntTensor<Self>) -> FloatTensor<Self>;
}

on_host_backends!(EmbeddingOps {
    fn embedding(table: FloatTensor<Self>, ids: IntTensor<Self>) -> FloatTensor<Self> {
        look_up::<Self>(&table, &ids)
    }
});

impl<B: Host, C: CheckpointStrategy> EmbeddingOps for Autodiff<B, C> {
    fn embedding(table: FloatTensor<Self>, ids: IntTensor<Self>) -> FloatTensor<Self> {
        let (table, of_table) = table.into_parts();
        let y = look_up::<B>(&table, &ids);
        let shape = B::shape(&table);
        match Backward::<B, 1>::prepare::<C>(EmbeddingBackward, [of_table]).compute_bound().stateful() {
            OpsKind::Tracked(node) => node.finish((ids, shape), y),
            OpsKind::UnTracked(node) => node.finish(y),
        }
    }
}

fn look_up<B: Host>(table: &FloatTensor<B>, ids: &IntTensor<B>) -> FloatTensor<B> {
    let [rows, width] = <[usize; 2]>::try_from(B::shape(table)).expect("a table has two sides");
    let mut shape = B::ids_shape(ids);
    let (values, ids) = (B::floats(table), B::ids(ids));
    let mut y = buffer(ids.len() * width);
    let piece = (PIECE / width).max(1);
    y.par_chunks_mut(piece * width).zip(ids.par_chunks(piece)).for_each(|(y, ids)| {
        for (y, id) in y.chunks_exact_mut(width).zip(ids) {
            let id = *id as usize;
            assert!(id < rows, "id {id} of a table of {rows} rows");
            y.iter_mut().zip(&values[id * width..][..width]).for_each(|(y, value)| {
                y.write(*value);
            });
        }
    });
    shape.push(width);
    // SAFETY: the pieces cover all of it, and each row is written whole.
    B::tensor(unsafe { written(y) }, shape)
}

#[derive(Debug)]
struct EmbeddingBackward;

impl<B: Host> Backward<B, 1> for EmbeddingBackward {
    /// Ids, and the table's shape.
    type State = (IntTensor<B>, Vec<usize>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [of_table] = ops.parents;
        let dy = grads.consume::<B>(&ops.node);
        let (ids, shape) = ops.state;
        if let Some(node) = of_table {
            let gradient = scatter(&B::ids(&ids), &B::floats(&dy), [shape[0], shape[1]]);
            grads.register::<B>(node.id, B::tensor(gradient, shape));
        }
    }
}

/// Zeros of `[rows, d]`, with each row of `dy` `[ids, d]` added to the row that its id names, in the order of the ids.
fn scatter(ids: &[i32], dy: &[f32], [rows, width]: [usize; 2]) -> Vec<f32> {
    let mut gradient = vec![0.0; rows * width];
    // Threads share out the columns: no two write the same number, and each adds in the same order.
    let piece = width.div_ceil(8).next_multiple_of(16);
    let columns = MatrixMut::new(&mut gradient, rows, width).column_pieces(piece);
    columns.into_par_iter().enumerate().for_each(|(i, mut columns)| {
        for (id, dy) in ids.iter().zip(dy.chunks_exact(width)) {
            columns.add_to_row(*id as usize, &dy[i * piece..]);
        }
    });
    gradient
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{Values, assert_agree, assert_same_bits, assert_spreads_nan, random};
    use burn::tensor::TensorData;

    fn run(
        operation: impl Fn(Tensor<2>, Tensor<2, Int>) -> Tensor<3> + Sync,
        [batch, seq]: [usize; 2],
    ) -> impl Fn(&[Tensor<1>], &[Values]) -> Tensor<1> + Sync {
        move |x, of| {
            let table = of[0].view::<2>(x, 0);
            let [rows, _] = table.dims();
            // Repeats, and the last row.
            let ids: Vec<i32> = (0..batch * seq).map(|i| (rows - 1 - i * i % rows) as i32).collect();
            let ids = Tensor::from_data(TensorData::new(ids, [batch, seq]), &table.device());
            operation(table, ids).reshape([-1])
        }
    }

    #[test]
    fn an_embedding_and_its_gradient_equal_the_composed_operations() {
        for (rows, width, ids) in [(1, 1, [1, 1]), (7, 3, [2, 5]), (65, 129, [3, 40]), (1000, 17, [1, 300])] {
            let inputs = [random(&[rows, width], 3)];
            assert_agree(&inputs, run(embedding, ids), run(composed, ids));
        }
    }

    #[test]
    fn an_embedding_gives_the_same_bits_for_every_number_of_threads() {
        assert_same_bits(&[random(&[50, 130], 3)], run(embedding, [7, 90]));
    }

    #[test]
    fn an_embedding_passes_nan_and_infinity() {
        assert_spreads_nan(&[random(&[3, 5], 3)], run(embedding, [2, 4]));
    }

    #[test]
    #[should_panic(expected = "id 5 of a table of 5 rows")]
    fn an_id_outside_the_table_is_refused() {
        let device = burn::tensor::Device::flex();
        let ids = Tensor::<2, Int>::from_data(TensorData::new(vec![5i32], [1, 1]), &device);
        embedding(Tensor::zeros([5, 2], &device), ids);
    }
}
