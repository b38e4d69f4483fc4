//! Sublayers in host memory: how their rows are shared out, and what is kept of each.

use super::attention::Heads;
use super::layers::Layers;
use super::{attention, feed_forward};
use crate::linear::Activation;
use crate::product::{
    IncomingRole, IncomingRows, Shared, all_shared, buffer, new_products, piece, with_incoming, written, written_slice,
};
use crate::vector;
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// A sublayer in host memory.
pub(super) struct Half<'a> {
    pub layers: Layers<'a>,
    pub function: HalfFunction<'a>,
}

/// What a [`Half`] adds to its input.
pub(super) enum HalfFunction<'a> {
    Attention(Heads<'a>),
    FeedForward(Activation),
}

/// Which of the weights' gradients are wanted: of the layer that reads the input, and of the one that writes.
pub(super) type Wanted = [bool; 2];

/// The rows that one thread takes through the sublayers. Threads without rows of their own help with pieces and heads.
#[derive(Clone, Copy)]
pub(super) struct Group {
    /// Number of the first row.
    pub first: usize,
    pub rows: usize,
    /// Rows of a piece.
    pub height: usize,
}

/// How all rows are shared out in [`Group`]s: a function of the shape and of what the processor packs together.
#[derive(Clone, Copy)]
struct Groups {
    /// Rows of a group but the last, and groups.
    rows: usize,
    count: usize,
    /// Rows of a piece, and pieces of a group.
    height: usize,
    pieces: usize,
}

impl Groups {
    /// For `m` rows.
    fn new(halves: &[Half], m: usize) -> Self {
        let most = piece(m);
        let Layers { seq, rule, .. } = halves[0].layers;
        // Steps that are packed together come from one group.
        let together = IncomingRole::together(rule.precision);
        let rows = match halves.iter().any(|half| matches!(half.function, HalfFunction::Attention(_))) {
            true => whole_elements(most, seq, together),
            false => most,
        };
        // About as high as each other: a piece of a few rows reads whole weights for them.
        let height = rows.div_ceil(rows.div_ceil(most)).next_multiple_of(together.max(8));
        Self { rows, count: m.div_ceil(rows), height, pieces: rows.div_ceil(height) }
    }

    /// Group number `index`, which has so many rows.
    fn group(&self, index: usize, rows: usize) -> Group {
        Group { first: index * self.rows, rows, height: self.height }
    }
}

/// A multiple of `seq` and of `together`, of about `most` rows if that can be.
fn whole_elements(most: usize, seq: usize, together: usize) -> usize {
    let elements = (most / seq).max(1);
    (1..=together)
        .map(|times| elements.next_multiple_of(times) * seq)
        .find(|rows| rows.is_multiple_of(together))
        .expect("`together` elements are one")
}

impl Half<'_> {
    /// Numbers kept of each row for the backward pass, besides the input.
    fn kept(&self) -> usize {
        match &self.function {
            HalfFunction::Attention(heads) => heads.kept(&self.layers).iter().sum(),
            HalfFunction::FeedForward(_) => feed_forward::kept(&self.layers).iter().sum(),
        }
    }

    /// From the input to the output: all of `kept` and `y` is written.
    fn forward(&self, group: Group, weights: &[Shared], rows: ForwardRows) {
        match &self.function {
            HalfFunction::Attention(heads) => attention::forward(&self.layers, heads, group, weights, rows),
            HalfFunction::FeedForward(activation) => {
                feed_forward::forward(&self.layers, *activation, group, weights, rows);
            }
        }
    }

    /// The operands of the weights' gradients, of `m` rows: for either weight what its layer read, turned, and the
    /// gradient of what it gave.
    fn operands(&self, m: usize, wanted: Wanted) -> [IncomingRole; 4] {
        let of = |layer: usize, width: usize| [m, if wanted[layer] { width } else { 0 }];
        let Layers { w1, w2, .. } = self.layers;
        let ([d, inner], [back, _]) = (w1.dims(), w2.dims());
        [
            IncomingRole::LeftTurned(of(0, d)),
            IncomingRole::Right(of(0, inner)),
            IncomingRole::LeftTurned(of(1, back)),
            IncomingRole::Right(of(1, d)),
        ]
    }

    /// From the gradient of the output to that of the input: all of `dx` is written, and every operand put.
    fn backward(&self, group: Group, weights: &[Shared], rows: BackwardRows) {
        match &self.function {
            HalfFunction::Attention(heads) => attention::backward(&self.layers, heads, group, weights, rows),
            HalfFunction::FeedForward(activation) => {
                feed_forward::backward(&self.layers, *activation, group, weights, rows);
            }
        }
    }
}

/// Some rows on their way through a sublayer: the input, what is kept for the way back, and the output.
pub(super) struct ForwardRows<'a> {
    pub x: &'a [f32],
    pub kept: &'a mut [MaybeUninit<f32>],
    pub y: &'a mut [MaybeUninit<f32>],
}

/// Some rows on their way back: from the gradient of the output to that of the input.
pub(super) struct BackwardRows<'a> {
    pub x: &'a [f32],
    pub kept: &'a [f32],
    pub dy: &'a [f32],
    /// Where the operands of the weights' gradients are put, as [`Half::operands`] has them.
    pub operands: [IncomingRows<'a>; 4],
    pub dx: &'a mut [MaybeUninit<f32>],
    /// Of each piece, which its sums are added to.
    pub sums: &'a mut [f32],
}

/// Numbers kept of each row: of every sublayer, and between two the input of the second.
fn kept(halves: &[Half]) -> usize {
    halves.iter().map(Half::kept).sum::<usize>() + (halves.len() - 1) * halves[0].layers.d_model()
}

/// The output, and what the backward pass needs besides the input: group by group, in each for every sublayer what it
/// keeps and the input of the next.
///
/// # Shapes
/// - `x`: `[m, d_model]`; returns the same
pub(super) fn forward(x: &[f32], halves: &[Half]) -> (Vec<f32>, Vec<f32>) {
    let (d, precision) = (halves[0].layers.d_model(), halves[0].layers.rule.precision);
    let (m, per_row) = (x.len() / d, kept(halves));
    let groups = Groups::new(halves, m);
    let mut y = buffer(m * d);
    let mut kept = buffer(m * per_row);
    let weights: Vec<_> = halves.iter().flat_map(|half| [half.layers.w1, half.layers.w2]).collect();
    all_shared(&weights, precision, |weights| {
        let tasks = (
            x.par_chunks(groups.rows * d),
            y.par_chunks_mut(groups.rows * d),
            kept.par_chunks_mut(groups.rows * per_row),
        );
        tasks.into_par_iter().enumerate().with_max_len(1).for_each(|(index, (mut x, y, mut kept))| {
            let group = groups.group(index, x.len() / d);
            let mut y = Some(y);
            for (i, (half, weights)) in halves.iter().zip(weights.chunks_exact(2)).enumerate() {
                let (of_half, others) = std::mem::take(&mut kept).split_at_mut(group.rows * half.kept());
                let (between, others) = others.split_at_mut(if i + 1 < halves.len() { group.rows * d } else { 0 });
                kept = others;
                let output = if i + 1 < halves.len() { between } else { y.take().expect("one half is the last") };
                half.forward(group, weights, ForwardRows { x, kept: of_half, y: &mut *output });
                // SAFETY: `forward` has written every number.
                x = unsafe { written_slice(output) };
            }
        });
    });
    // SAFETY: the groups cover all rows, and of each everything was written.
    unsafe { (written(y), written(kept)) }
}

/// The gradients of a sublayer's parameters: gain, shift, then weight and bias of either layer.
pub(super) type Gradients = [Option<Vec<f32>>; 6];

/// The gradients of the input and of each sublayer's parameters.
///
/// # Shapes
/// - `x`, `dy`: `[m, d_model]`; `kept` as [`forward`] gave it
pub(super) fn backward(
    x: &[f32],
    dy: &[f32],
    kept: Vec<f32>,
    halves: &[Half],
    wanted: &[Wanted],
) -> (Vec<f32>, Vec<Gradients>) {
    let (d, precision) = (halves[0].layers.d_model(), halves[0].layers.rule.precision);
    let (m, per_row) = (x.len() / d, self::kept(halves));
    let groups = Groups::new(halves, m);
    let sums_len = groups.pieces * halves.iter().map(|half| half.layers.sums_len()).sum::<usize>();
    let mut dx = buffer(m * d);
    let mut sums = vec![0.0; groups.count * sums_len];
    let operands: Vec<_> = halves.iter().zip(wanted).flat_map(|(half, wanted)| half.operands(m, *wanted)).collect();
    let weights: Vec<_> = halves.iter().flat_map(|half| [half.layers.w1.t(), half.layers.w2.t()]).collect();
    // The gradients between two sublayers, in turn.
    let mut between = buffer(if halves.len() > 1 { 2 * m * d } else { 0 });
    with_incoming(&operands, precision, |mut operands| {
        all_shared(&weights, precision, |weights| {
            let mut to_operands: Vec<_> = (0..groups.count).map(|_| Vec::with_capacity(operands.len())).collect();
            for operand in &mut operands {
                let of_groups = operand.row_pieces(groups.rows);
                to_operands.iter_mut().zip(of_groups).for_each(|(of_group, rows)| of_group.push(rows));
            }
            let tasks = (
                (x.par_chunks(groups.rows * d), dy.par_chunks(groups.rows * d)),
                kept.par_chunks(groups.rows * per_row),
                dx.par_chunks_mut(groups.rows * d),
                cut(&mut between, groups.rows * 2 * d, groups.count),
                to_operands,
                sums.par_chunks_mut(sums_len),
            );
            let tasks = tasks.into_par_iter().enumerate().with_max_len(1);
            tasks.for_each(|(index, ((x, dy), kept, dx, between, to_operands, sums))| {
                backward_group(halves, groups, index, weights, (x, dy, kept), to_operands, between, dx, sums);
            });
        });
        let mut pairs = Vec::with_capacity(2 * halves.len());
        let mut operands = operands.into_iter();
        for wanted in wanted.as_flattened() {
            let [left, right] = [(); 2].map(|()| operands.next().expect("four for each sublayer"));
            // SAFETY: the groups cover all rows, and all of them were put.
            pairs.push(wanted.then(|| unsafe { (left.left(), right.right()) }));
        }
        let mut of_weights = new_products(&pairs).into_iter();
        let mut first = 0;
        let gradients = halves.iter().map(|half| {
            let len = half.layers.sums_len();
            let mut total = vec![0.0; len];
            for of_group in sums.chunks_exact(sums_len) {
                let of_half = &of_group[first..first + groups.pieces * len];
                of_half.chunks_exact(len).for_each(|of_piece| vector::add(&mut total, of_piece));
            }
            first += groups.pieces * len;
            let sums = half.layers.sums(&mut total);
            let [gamma, beta, b1, b2] = [sums.gamma, sums.beta, sums.b1, sums.b2].map(|sum| Some(sum.to_vec()));
            let [w1, w2] = [(); 2].map(|()| of_weights.next().expect("two for each sublayer"));
            [gamma, beta, w1, b1, w2, b2]
        });
        let gradients = gradients.collect();
        // SAFETY: the groups cover all rows, and of each everything was written.
        (unsafe { written(dx) }, gradients)
    })
}

/// From the last sublayer to the first.
#[allow(clippy::too_many_arguments)]
fn backward_group(
    halves: &[Half],
    groups: Groups,
    index: usize,
    weights: &[Shared],
    (mut x, dy, mut kept): (&[f32], &[f32], &[f32]),
    mut operands: Vec<IncomingRows>,
    between: &mut [MaybeUninit<f32>],
    dx: &mut [MaybeUninit<f32>],
    mut sums: &mut [f32],
) {
    let (size, group) = (x.len(), groups.group(index, x.len() / halves[0].layers.d_model()));
    let mut of_halves = Vec::with_capacity(halves.len());
    for (i, half) in halves.iter().enumerate() {
        let (of_half, others) = kept.split_at(group.rows * half.kept());
        let (sums_of_half, other_sums) = sums.split_at_mut(groups.pieces * half.layers.sums_len());
        of_halves.push((x, of_half, sums_of_half));
        sums = other_sums;
        (x, kept) = others.split_at(if i + 1 < halves.len() { size } else { 0 });
    }
    let (mut came, mut goes) = between.split_at_mut(between.len() / 2);
    let halves = halves.iter().zip(weights.chunks_exact(2)).zip(of_halves).enumerate().rev();
    let count = halves.len();
    let mut dx = Some(dx);
    for (i, ((half, weights), (x, kept, sums))) in halves {
        // SAFETY: the sublayer behind this one has written every number.
        let dy: &[f32] = if i + 1 == count { dy } else { unsafe { written_slice(came) } };
        let dx = if i == 0 { dx.take().expect("one half is the first") } else { &mut *goes };
        let operands = operands.split_off(operands.len() - 4);
        let operands = operands.try_into().unwrap_or_else(|_| unreachable!("four for each sublayer"));
        half.backward(group, weights, BackwardRows { x, kept, dy, operands, dx, sums });
        std::mem::swap(&mut came, &mut goes);
    }
}

/// `rows` of several widths, one behind the other.
pub(super) fn split<const N: usize, T>(mut memory: &[T], rows: usize, widths: [usize; N]) -> [&[T]; N] {
    widths.map(|width| {
        let (values, others) = memory.split_at(rows * width);
        memory = others;
        values
    })
}

/// The same to write.
pub(super) fn split_mut<const N: usize, T>(memory: &mut [T], rows: usize, widths: [usize; N]) -> [&mut [T]; N] {
    let mut memory = memory;
    widths.map(|width| {
        let (values, others) = std::mem::take(&mut memory).split_at_mut(rows * width);
        memory = others;
        values
    })
}

/// The memory with zeros written to it.
pub(super) fn zeroed(memory: &mut [MaybeUninit<f32>]) -> &mut [f32] {
    memory.fill(MaybeUninit::new(0.0));
    // SAFETY: just written, all of it.
    unsafe { written_slice(memory) }
}

/// `count` pieces of at most `len` numbers, or as many empty ones of memory that is not used.
pub(super) fn cut<T>(values: &mut [T], len: usize, count: usize) -> Vec<&mut [T]> {
    if values.is_empty() {
        std::iter::repeat_with(Default::default).take(count).collect()
    } else {
        values.chunks_mut(len).collect()
    }
}

/// Piece number `index`, of what is read; empty of memory that is not used.
pub(super) fn nth<T>(values: &[T], len: usize, index: usize) -> &[T] {
    if values.is_empty() { values } else { &values[index * len..((index + 1) * len).min(values.len())] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_whole_elements_and_whole_packed_steps() {
        // Whatever a processor packs together, this one's included.
        for together in [1, 2, 32] {
            for seq in 1..300 {
                let rows = whole_elements(64, seq, together);
                assert!(rows.is_multiple_of(seq) && rows.is_multiple_of(together), "{seq} {together}: {rows}");
                assert!(rows < 64.max(seq) + seq * together, "{seq} {together}: {rows}");
            }
        }
        assert_eq!([whole_elements(64, 64, 32), whole_elements(64, 20, 1), whole_elements(64, 256, 32)], [64, 60, 256]);
    }
}
