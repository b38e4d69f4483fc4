//! Attention whose scores never lie in global memory: FlashAttention's forward and backward pass.
//!
//! `cubek-attention` 0.3.1 has a `flash_attention_backward`, which is not used: it has neither segments nor dropout,
//! wants queries, keys and values as tensors of their own in `[batch, heads, seq, width]`, and gives each row to one
//! unit that reads every other row from global memory.

use super::attention_kernels::{
    NumbersLaunch, backward_keys, backward_queries, forward, row_statistics, segment_ranges,
};
use super::tile::{TILE, UNITS};
use super::{argument, covers, empty, sides, words};
use crate::AttentionOptions;
use crate::dropout::Dropout;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Cube, Dispatch, ExtensionType, backend_extension};
use burn::tensor::{DType, IntDType, Shape, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::{CubeCount, CubeDim, calculate_cube_count_elemwise};
use burn_cubecl::tensor::CubeTensor;

/// The widest head: a unit holds the sums of four rows of two gradients for every eighth number of it.
const WIDEST: usize = 128;
/// Cubes a device takes in one direction at least, and so elements of a batch.
const MOST_CUBES: usize = 65_535;

/// Whether the kernels attend to `qkv`.
pub(crate) fn covers_attention(qkv: &Tensor<3>, n_head: usize) -> bool {
    let [batch, _, width] = qkv.dims();
    covers(qkv) && width / 3 / n_head <= WIDEST && batch <= MOST_CUBES && n_head <= MOST_CUBES
}

/// The same as [`crate::attention`]. Products are of f32 whatever precision is asked for, which is more exact than asked.
pub(crate) fn attention(qkv: Tensor<3>, options: AttentionOptions) -> Tensor<3> {
    let AttentionOptions { n_head, causal, segments, dropout, .. } = options;
    let rule = Rule { n_head, causal, dropout: dropout.filter(|dropout| dropout.probability > 0.0) };
    let packing = match segments {
        None => Packing::Whole,
        Some(segments) => Packing::Segments(segments.cast(IntDType::I32).into_dispatch()),
    };
    Tensor::from_dispatch(<Dispatch as FlashAttention>::flash_attention(qkv.into_dispatch(), packing, rule))
}

/// How positions attend to each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    n_head: usize,
    causal: bool,
    dropout: Option<Dropout>,
}

/// Which segments the positions of a row are in.
#[derive(Clone, Debug, ExtensionType)]
#[extension_type(fusion)]
pub(crate) enum Packing<B: Backend> {
    /// Each row is one segment.
    Whole,
    /// `[batch, seq]`.
    Segments(IntTensor<B>),
}

/// The passes on the backend; Fusion defers them like any other operation.
#[backend_extension(Cube, Fusion)]
pub(crate) trait FlashOps: Backend {
    /// The output, and the logarithm of each softmax's denominator, `[batch, n_head, seq]`.
    #[fusion(meta = |qkv, _packing, rule| forward_specs(qkv, rule))]
    fn flash_forward(
        qkv: FloatTensor<Self>,
        #[extension_type] packing: Packing<Self>,
        rule: Rule,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The gradient of `qkv`.
    #[fusion(dtype = qkv, shape = qkv)]
    fn flash_backward(
        qkv: FloatTensor<Self>,
        y: FloatTensor<Self>,
        log_totals: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        #[extension_type] packing: Packing<Self>,
        rule: Rule,
    ) -> FloatTensor<Self>;
}

fn forward_specs(qkv: &TensorSpec, rule: &Rule) -> (TensorSpec, TensorSpec) {
    let [batch, seq, width] = qkv.shape.dims();
    let spec = |sides: [usize; 3]| TensorSpec::new(Shape::new(sides), DType::F32);
    (spec([batch, seq, width / 3]), spec([batch, rule.n_head, seq]))
}

/// The operation.
#[backend_extension(Cube, Autodiff)]
pub(crate) trait FlashAttention: Backend {
    fn flash_attention(
        qkv: FloatTensor<Self>,
        #[extension_type] packing: Packing<Self>,
        rule: Rule,
    ) -> FloatTensor<Self>;
}

impl FlashAttention for Cube {
    fn flash_attention(qkv: FloatTensor<Self>, packing: Packing<Self>, rule: Rule) -> FloatTensor<Self> {
        Self::flash_forward(qkv, packing, rule).0
    }
}

impl<B: FlashOps, C: CheckpointStrategy> FlashAttention for Autodiff<B, C> {
    fn flash_attention(qkv: FloatTensor<Self>, packing: Packing<Self>, rule: Rule) -> FloatTensor<Self> {
        let (qkv, of_qkv) = qkv.into_parts();
        let packing = || match &packing {
            Packing::Whole => Packing::<B>::Whole,
            Packing::Segments(segments) => Packing::<B>::Segments(segments.clone()),
        };
        let (y, log_totals) = B::flash_forward(qkv.clone(), packing(), rule);
        match Backward::<B, 1>::prepare::<C>(FlashBackward, [of_qkv]).compute_bound().stateful() {
            OpsKind::Tracked(node) => node.finish((qkv, packing(), y.clone(), log_totals, rule), y),
            OpsKind::UnTracked(node) => node.finish(y),
        }
    }
}

#[derive(Debug)]
struct FlashBackward;

impl<B: FlashOps> Backward<B, 1> for FlashBackward {
    /// Input, segments, output, denominators, rule.
    type State = (FloatTensor<B>, Packing<B>, FloatTensor<B>, FloatTensor<B>, Rule);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [of_qkv] = ops.parents;
        let dy = grads.consume::<B>(&ops.node);
        let (qkv, packing, y, log_totals, rule) = ops.state;
        if let Some(of_qkv) = of_qkv {
            grads.register::<B>(of_qkv.id, B::flash_backward(qkv, y, log_totals, dy, packing, rule));
        }
    }
}

/// What every launch of one attention has in common.
struct Launch {
    batch: usize,
    seq: usize,
    n_head: usize,
    d_head: usize,
    rule: Rule,
    /// Segments and their ranges, or anything where each row is one segment.
    segments: CubeTensor,
    ranges: CubeTensor,
    /// Two keys for each element of the batch, or anything without dropout.
    mask: CubeTensor,
    packed: bool,
}

impl Launch {
    fn new(qkv: &CubeTensor, packing: Packing<CubeBackend>, rule: Rule) -> Self {
        let [batch, seq, width] = sides(qkv);
        let nothing = || words(qkv, &[0]);
        let mask = match rule.dropout {
            None => nothing(),
            Some(dropout) => {
                let keys: Vec<u32> = (0..batch).flat_map(|element| dropout.row(element).keys).collect();
                words(qkv, &keys)
            }
        };
        let packed = matches!(packing, Packing::Segments(_));
        let (segments, ranges) = match packing {
            Packing::Whole => (nothing(), nothing()),
            Packing::Segments(segments) => {
                let tiles = batch * seq.div_ceil(TILE as usize);
                let ranges = empty(qkv, [tiles, 2]);
                // SAFETY: a unit beyond the last tile does nothing.
                unsafe {
                    segment_ranges::launch_unchecked(
                        &qkv.client,
                        calculate_cube_count_elemwise(&qkv.client, tiles, CubeDim::new_1d(UNITS)),
                        CubeDim::new_1d(UNITS),
                        argument(segments.clone()),
                        argument(ranges.clone()),
                        seq as u32,
                        batch as u32,
                    );
                }
                (segments, ranges)
            }
        };
        let n_head = rule.n_head;
        Self { batch, seq, n_head, d_head: width / 3 / n_head, rule, segments, ranges, mask, packed }
    }

    fn numbers(&self) -> NumbersLaunch {
        let Rule { causal, dropout, .. } = self.rule;
        NumbersLaunch::new(
            self.seq as u32,
            self.d_head as u32,
            causal as u32,
            1.0 / (self.d_head as f32).sqrt(),
            dropout.map_or(0, |dropout| dropout.row(0).threshold),
            dropout.map_or(1.0, |dropout| dropout.scale()),
        )
    }

    /// One cube for each tile of positions of each head.
    fn cubes(&self) -> CubeCount {
        CubeCount::Static(self.seq.div_ceil(TILE as usize) as u32, self.n_head as u32, self.batch as u32)
    }

    fn slices(&self) -> u32 {
        self.d_head.div_ceil(TILE as usize) as u32
    }
}

impl FlashOps for CubeBackend {
    fn flash_forward(qkv: CubeTensor, packing: Packing<Self>, rule: Rule) -> (CubeTensor, CubeTensor) {
        let launch = Launch::new(&qkv, packing, rule);
        let Launch { batch, seq, n_head, d_head, .. } = launch;
        let y = empty(&qkv, [batch, seq, n_head * d_head]);
        let log_totals = empty(&qkv, [batch, n_head, seq]);
        // SAFETY: the kernel reads and writes positions below `seq` and numbers below `d_head` only.
        unsafe {
            forward::launch_unchecked(
                &y.client,
                launch.cubes(),
                CubeDim::new_1d(UNITS),
                argument(qkv),
                argument(launch.segments.clone()),
                argument(launch.ranges.clone()),
                argument(launch.mask.clone()),
                argument(y.clone()),
                argument(log_totals.clone()),
                launch.numbers(),
                launch.slices(),
                launch.packed,
                rule.dropout.is_some(),
            );
        }
        (y, log_totals)
    }

    fn flash_backward(
        qkv: CubeTensor,
        y: CubeTensor,
        log_totals: CubeTensor,
        dy: CubeTensor,
        packing: Packing<Self>,
        rule: Rule,
    ) -> CubeTensor {
        let launch = Launch::new(&qkv, packing, rule);
        let Launch { batch, seq, n_head, d_head, .. } = launch;
        let rows = batch * n_head * seq;
        let gradient = empty(&qkv, [batch, seq, 3 * n_head * d_head]);
        let statistics = empty(&qkv, [batch, n_head, seq, 2]);
        let qkv = burn_cubecl::kernel::into_contiguous(qkv);
        let dy = burn_cubecl::kernel::into_contiguous(dy);
        // SAFETY: a unit beyond the last row does nothing.
        unsafe {
            row_statistics::launch_unchecked(
                &qkv.client,
                calculate_cube_count_elemwise(&qkv.client, rows, CubeDim::new_1d(UNITS)),
                CubeDim::new_1d(UNITS),
                argument(y),
                argument(dy.clone()),
                argument(log_totals),
                argument(statistics.clone()),
                seq as u32,
                n_head as u32,
                d_head as u32,
            );
        }
        macro_rules! backward {
            ($kernel:ident) => {
                // SAFETY: as in the forward pass.
                unsafe {
                    $kernel::launch_unchecked(
                        &qkv.client,
                        launch.cubes(),
                        CubeDim::new_1d(UNITS),
                        argument(qkv.clone()),
                        argument(launch.segments.clone()),
                        argument(launch.ranges.clone()),
                        argument(launch.mask.clone()),
                        argument(dy.clone()),
                        argument(statistics.clone()),
                        argument(gradient.clone()),
                        launch.numbers(),
                        launch.slices(),
                        launch.packed,
                        rule.dropout.is_some(),
                    );
                }
            };
        }
        // Both write their own columns of one tensor.
        backward!(backward_queries);
        backward!(backward_keys);
        gradient
    }
}
