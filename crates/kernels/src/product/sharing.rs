//! Products shared out between threads: what is packed once for all of them, and the pieces each computes.

use super::matrix::{Matrix, MatrixMut};
use super::memory::{buffer, with_scratch, written, written_slice};
use super::tile::{ROWS_OF_ALL, Tier};
use super::{Layout, Role, Side, Start, multiply, pack_block, pack_panels};
use crate::Precision;
use rayon::prelude::*;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Below this many multiplications a product is not worth sharing out.
pub(super) const SMALL: usize = 64 * 1024;

/// Numbers of a right operand that are packed for all threads at a time, even where tiles could read it in place: rows far
/// apart share few places of the nearest cache, and each tile would fetch them again.
const MOST_PACKED: usize = 1 << 21;

/// `dst = start + a b`, shared out between threads.
///
/// # Shapes
/// - `a`: `[m, k]`, `b`: `[k, n]`, `dst`: `[m, n]`; panics if they differ
pub(crate) fn parallel_product(dst: MatrixMut, start: Start, a: Matrix, b: Matrix, precision: Precision) {
    let tier = Tier::of(precision);
    let (left, right) = (Side::of(tier, Role::Left, a, b.cols), Side::of(tier, Role::Right, b.t(), a.rows));
    if a.rows * a.cols * b.cols < SMALL {
        let mut dst = dst;
        return multiply(tier, tier.block, &mut dst, start, left, right);
    }
    if b.cols > 4 * a.rows {
        return with_shared(tier, Role::Left, left, |left| {
            let width = (b.cols / 16).clamp(1, 192).next_multiple_of(tier.columns());
            dst.column_pieces(width).into_par_iter().enumerate().with_max_len(1).for_each(|(i, mut dst)| {
                let columns = i * width..i * width + dst.cols;
                let start = match start {
                    Start::Row(row) => Start::Row(&row[columns.clone()]),
                    same => same,
                };
                let right = Side::of(tier, Role::Right, b.cols(columns).t(), a.rows);
                multiply(tier, tier.block, &mut dst, start, left, right);
            });
        });
    }
    // A larger right operand is packed in parts, one after another.
    let part = (MOST_PACKED / b.cols).max(1).next_multiple_of(tier.block * tier.pair);
    if part < b.rows {
        let mut dst = dst;
        for first in (0..b.rows).step_by(part) {
            let steps = first..(first + part).min(b.rows);
            let start = if first == 0 { start } else { Start::Itself };
            let rows = 0..dst.rows;
            parallel_product(dst.rows(rows), start, a.cols(steps.clone()), b.rows(steps), precision);
        }
        return;
    }
    with_shared(tier, Role::Right, Side::Packing(b.t()), |right| {
        let height = piece(a.rows);
        dst.row_pieces(height).into_par_iter().enumerate().with_max_len(1).for_each(|(i, mut dst)| {
            let rows = i * height..i * height + dst.rows;
            multiply(tier, tier.block, &mut dst, start, Side::of(tier, Role::Left, a.rows(rows), b.cols), right);
        });
    });
}

/// The right operand of products on several threads: packed once for all of them where it must be packed.
#[derive(Clone, Copy)]
pub(crate) struct Shared<'a> {
    tier: &'static Tier,
    side: Side<'a>,
}

impl Shared<'_> {
    /// `dst = start + a b` on the calling thread, where `b` is the shared operand.
    ///
    /// # Shapes
    /// - `a`: `[m, k]`, `b`: `[k, n]`, `dst`: `[m, n]`; panics if they differ
    pub fn product(&self, dst: &mut MatrixMut, start: Start, a: Matrix) {
        let left = Side::of(self.tier, Role::Left, a, dst.cols);
        multiply(self.tier, self.tier.block, dst, start, left, self.side);
    }

    /// Where [`Shared::columns`] can start: at multiples of this.
    pub fn column_step(&self) -> usize {
        self.tier.columns()
    }

    /// Some of the columns. Panics if they do not start at a multiple of [`Shared::column_step`].
    pub fn columns(&self, range: Range<usize>) -> Self {
        assert!(range.start.is_multiple_of(self.column_step()), "columns from {}", range.start);
        let side = match self.side {
            Side::InPlace(operand) => Side::InPlace(operand.rows(range)),
            Side::Packing(operand) => Side::Packing(operand.rows(range)),
            Side::Packed { layout, packed, panel, count } => {
                assert!(range.start <= range.end && range.end <= count);
                let panel = panel + range.start / self.column_step();
                Side::Packed { layout, packed, panel, count: range.len() }
            }
        };
        Self { side, ..*self }
    }
}

/// Calls `body` with the right operand of many products, ready for every thread.
pub(crate) fn shared<R>(b: Matrix, precision: Precision, body: impl FnOnce(Shared) -> R) -> R {
    all_shared([b], precision, |[b]| body(b))
}

/// The same with several of them.
pub(crate) fn all_shared<R, const N: usize>(
    operands: [Matrix; N],
    precision: Precision,
    body: impl FnOnce([Shared; N]) -> R,
) -> R {
    let tier = Tier::of(precision);
    let sides = operands.map(|b| Side::Packing(b.t()));
    with_all_shared(tier, Role::Right, sides, |sides| body(sides.map(|side| Shared { tier, side })))
}

/// The right operand of a product whose rows come in pieces, from several threads: each piece is packed as it comes,
/// while it is in its thread's cache.
pub(crate) struct Incoming<'a> {
    layout: Layout,
    memory: &'a mut [MaybeUninit<f32>],
}

/// Some rows of an [`Incoming`] operand.
pub(crate) struct IncomingRows<'a> {
    layout: Layout,
    parts: Vec<Part<'a>>,
}

/// What they are of one panel of one block.
struct Part<'a> {
    panel: usize,
    /// Of the rows those that belong to the block, in steps.
    steps: Range<usize>,
    packed: &'a mut [MaybeUninit<f32>],
}

/// Calls `body` with operands of these rows and columns that are still to come.
pub(crate) fn with_incoming<R, const N: usize>(
    shapes: [[usize; 2]; N],
    precision: Precision,
    body: impl FnOnce([Incoming; N]) -> R,
) -> R {
    let tier = Tier::of(precision);
    let layouts = shapes.map(|[depth, count]| Layout { tier, role: Role::Right, count, depth, in_rows: false });
    with_scratch(3, layouts.iter().map(Layout::len).sum(), |memory| {
        let mut rest = memory;
        body(layouts.map(|layout| {
            let (memory, others) = std::mem::take(&mut rest).split_at_mut(layout.len());
            rest = others;
            Incoming { layout, memory }
        }))
    })
}

impl<'a> Incoming<'a> {
    /// Pieces of `height` rows, the last may be lower. Panics if there are several of an odd height: in half precision
    /// rows are packed in pairs.
    pub fn row_pieces(&mut self, height: usize) -> Vec<IncomingRows<'_>> {
        let layout = self.layout;
        let count = layout.depth.div_ceil(height);
        assert!(count <= 1 || height.is_multiple_of(2), "{height} rows are no pairs");
        let steps_each = height.div_ceil(layout.tier.pair);
        let mut pieces: Vec<_> = (0..count).map(|_| IncomingRows { layout, parts: Vec::new() }).collect();
        let mut rest = &mut *self.memory;
        for block in layout.blocks() {
            for panel in 0..layout.panels() {
                let mut start = block.start;
                while start < block.end {
                    let piece = (start / steps_each).min(count - 1);
                    let first = piece * steps_each;
                    // The last one also takes the steps that only fill up.
                    let end = if piece + 1 == count { block.end } else { block.end.min(first + steps_each) };
                    let (packed, others) = rest.split_at_mut(layout.width(panel) * (end - start));
                    pieces[piece].parts.push(Part { panel, steps: start - first..end - first, packed });
                    (start, rest) = (end, others);
                }
            }
        }
        pieces
    }

    /// The operand as every thread reads it.
    ///
    /// # Safety
    /// All of its rows have come.
    pub unsafe fn shared(self) -> Shared<'a> {
        let Self { layout, memory } = self;
        // SAFETY: pieces cover all of the memory, and each part is written whole (see `Pack`).
        let packed: &[f32] = unsafe { written_slice(memory) };
        Shared { tier: layout.tier, side: Side::Packed { layout, packed, panel: 0, count: layout.count } }
    }
}

impl IncomingRows<'_> {
    /// Packs the rows; other threads may help. An operand without columns takes rows of any length.
    pub fn put(self, rows: Matrix) {
        let Self { layout, parts } = self;
        parts.into_par_iter().with_min_len(8).for_each(|Part { panel, steps, packed }| {
            pack_panels(layout, rows.t(), &steps, panel..panel + 1, packed);
        });
    }
}

/// `a b` of several pairs in fresh memory, shared out between threads together; none for a pair that is not wanted.
pub(crate) fn new_products<const N: usize>(pairs: [Option<(Matrix, Shared)>; N]) -> [Option<Vec<f32>>; N] {
    let mut values = pairs.map(|pair| pair.map(|(a, b)| buffer(a.rows * b.side.dims()[0])));
    let mut tasks = Vec::new();
    for (values, pair) in values.iter_mut().zip(pairs) {
        let (Some(values), Some((a, b))) = (values, pair) else { continue };
        let height = piece(a.rows);
        let pieces = MatrixMut::uninit(values, a.rows, b.side.dims()[0]).row_pieces(height);
        tasks.extend(pieces.into_iter().enumerate().map(|(i, dst)| {
            let rows = i * height..i * height + dst.rows;
            (dst, a.rows(rows), b)
        }));
    }
    tasks.into_par_iter().with_max_len(1).for_each(|(mut dst, a, b)| b.product(&mut dst, Start::Zero, a));
    // SAFETY: the pieces cover every number, and products that start from zero write all they cover.
    values.map(|values| values.map(|values| unsafe { written(values) }))
}

/// The right operand of many products on the calling thread, packed into `memory` if it must be packed.
pub(crate) fn prepared<'a>(b: Matrix<'a>, precision: Precision, memory: &'a mut Vec<MaybeUninit<f32>>) -> Shared<'a> {
    let tier = Tier::of(precision);
    // Left where tiles can read it: its rows are a head's, near each other.
    let side = match Side::of(tier, Role::Right, b.t(), 0) {
        Side::Packing(operand) => {
            let layout = Layout::new(tier, Role::Right, operand);
            if memory.len() < layout.len() {
                *memory = buffer(layout.len());
            }
            for block in layout.blocks() {
                pack_block(layout, operand, &block, &mut memory[layout.offset(&block, 0)..]);
            }
            // SAFETY: the panels cover this much of the memory, and each was written whole (see `Pack`).
            let packed = unsafe { written_slice(&mut memory[..layout.len()]) };
            Side::Packed { layout, packed, panel: 0, count: layout.count }
        }
        side => side,
    };
    Shared { tier, side }
}

/// `a b` in fresh memory, shared out between threads.
pub(crate) fn new_product(a: Matrix, b: Matrix, precision: Precision) -> Vec<f32> {
    let mut values = buffer(a.rows * b.cols);
    parallel_product(MatrixMut::uninit(&mut values, a.rows, b.cols), Start::Zero, a, b, precision);
    // SAFETY: a product that starts from zero writes every number.
    unsafe { written(values) }
}

/// Calls `body` with the operand ready to be read by every thread: packed, if it cannot be read in place.
fn with_shared<R>(tier: &'static Tier, role: Role, side: Side, body: impl FnOnce(Side) -> R) -> R {
    with_all_shared(tier, role, [side], |[side]| body(side))
}

/// The same with several operands, all packed at once.
fn with_all_shared<R, const N: usize>(
    tier: &'static Tier,
    role: Role,
    sides: [Side; N],
    body: impl FnOnce([Side; N]) -> R,
) -> R {
    let layouts = sides.map(|side| match side {
        Side::Packing(operand) => Some((Layout::new(tier, role, operand), operand)),
        _ => None,
    });
    let len = layouts.iter().flatten().map(|(layout, _)| layout.len()).sum();
    with_scratch(2, len, |memory| {
        let mut panels = Vec::new();
        let mut rest = &mut *memory;
        for (layout, operand) in layouts.into_iter().flatten() {
            for block in layout.blocks() {
                let together = if layout.packs_pairs() { 2 } else { 1 };
                for panel in (0..layout.panels()).step_by(together) {
                    let of_task = panel..(panel + together).min(layout.panels());
                    let size = of_task.clone().map(|panel| layout.width(panel) * block.len()).sum();
                    let (packed, others) = rest.split_at_mut(size);
                    panels.push((layout, operand, block.clone(), of_task, packed));
                    rest = others;
                }
            }
        }
        panels.into_par_iter().with_min_len(2).for_each(|(layout, operand, block, panels, packed)| {
            pack_panels(layout, operand, &block, panels, packed);
        });
        // SAFETY: the panels cover all of the memory, and each was written whole (see `Pack`).
        let mut packed = unsafe { std::slice::from_raw_parts(memory.as_ptr().cast::<f32>(), memory.len()) };
        let mut sides = sides;
        for (side, layout) in sides.iter_mut().zip(layouts) {
            if let Some((layout, _)) = layout {
                let (of_side, others) = packed.split_at(layout.len());
                *side = Side::Packed { layout, packed: of_side, panel: 0, count: layout.count };
                packed = others;
            }
        }
        body(sides)
    })
}

/// The length of the pieces in which `length` rows are shared out: a function of the length alone, so that sums do not
/// depend on the number of threads. Few enough rows to stay in a core's cache; from 256 on a multiple of every tile.
pub(crate) fn piece(length: usize) -> usize {
    (length / 8).clamp(32, 64).next_multiple_of(if length < 8 * ROWS_OF_ALL { 8 } else { ROWS_OF_ALL })
}
