//! Products shared out between threads: what is packed once for all of them, and the pieces each computes.

use super::matrix::{Matrix, MatrixMut};
use super::memory::{buffer, with_memory_of_all, written, written_slice};
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
        return multiply(tier, &mut dst, start, left, right);
    }
    if b.cols > 4 * a.rows {
        return with_shared(tier, Role::Left, left, |left| {
            // Where columns are cut changes no sum: as wide as threads leave them, for runs along memory.
            let width =
                b.cols.div_ceil(2 * rayon::current_num_threads()).clamp(1, 192).next_multiple_of(tier.columns());
            dst.column_pieces(width).into_par_iter().enumerate().with_max_len(1).for_each(|(i, mut dst)| {
                let columns = i * width..i * width + dst.cols;
                let start = match start {
                    Start::Row(row) => Start::Row(&row[columns.clone()]),
                    same => same,
                };
                let right = Side::of(tier, Role::Right, b.cols(columns).t(), a.rows);
                multiply(tier, &mut dst, start, left, right);
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
            multiply(tier, &mut dst, start, Side::of(tier, Role::Left, a.rows(rows), b.cols), right);
        });
    });
}

/// The right operand of products on several threads: packed once for all of them where it must be packed.
#[derive(Clone, Copy)]
pub(crate) struct Shared<'a> {
    pub(super) tier: &'static Tier,
    pub(super) side: Side<'a>,
}

impl Shared<'_> {
    /// `dst = start + a b` on the calling thread, where `b` is the shared operand.
    ///
    /// # Shapes
    /// - `a`: `[m, k]`, `b`: `[k, n]`, `dst`: `[m, n]`; panics if they differ
    pub fn product(&self, dst: &mut MatrixMut, start: Start, a: Matrix) {
        let left = Side::of(self.tier, Role::Left, a, dst.cols);
        multiply(self.tier, dst, start, left, self.side);
    }

    /// Where [`Shared::columns`] can start: at multiples of this.
    pub fn column_step(&self) -> usize {
        self.tier.columns()
    }

    /// Some of the columns. Panics if they do not start at a multiple of [`Shared::column_step`].
    pub fn columns(&self, range: Range<usize>) -> Self {
        assert!(range.start.is_multiple_of(self.column_step()), "columns from {}", range.start);
        let side = self.side.sequences(range);
        Self { side, ..*self }
    }
}

/// Calls `body` with the right operand of many products, ready for every thread.
pub(crate) fn shared<R>(b: Matrix, precision: Precision, body: impl FnOnce(Shared) -> R) -> R {
    all_shared(&[b], precision, |operands| body(operands[0]))
}

/// The same with several of them.
pub(crate) fn all_shared<R>(operands: &[Matrix], precision: Precision, body: impl FnOnce(&[Shared]) -> R) -> R {
    let tier = Tier::of(precision);
    let sides = operands.iter().map(|b| Side::Packing(b.t())).collect();
    with_all_shared(tier, Role::Right, sides, |sides| {
        let operands: Vec<_> = sides.iter().map(|side| Shared { tier, side: *side }).collect();
        body(&operands)
    })
}

/// The left operand of a product, packed.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a>(pub(super) Side<'a>);

/// `a b` of several pairs in fresh memory, shared out between threads together; none for a pair that is not wanted.
pub(crate) fn new_products(pairs: &[Option<(Left, Shared)>]) -> Vec<Option<Vec<f32>>> {
    let dims = |(Left(a), b): &(Left, Shared)| [a.dims()[0], b.side.dims()[0]];
    let mut values: Vec<_> =
        pairs.iter().map(|pair| pair.as_ref().map(|pair| buffer(dims(pair).iter().product()))).collect();
    let mut tasks = Vec::new();
    for (values, pair) in values.iter_mut().zip(pairs) {
        let (Some(values), Some(pair)) = (values, *pair) else { continue };
        let ([rows, columns], (Left(a), b)) = (dims(&pair), pair);
        // Whole panels of the left operand.
        let height = piece(rows).next_multiple_of(b.tier.rows);
        let pieces = MatrixMut::uninit(values, rows, columns).row_pieces(height);
        tasks.extend(pieces.into_iter().enumerate().map(|(i, dst)| {
            let rows = i * height..i * height + dst.rows;
            (dst, a.sequences(rows), b)
        }));
    }
    tasks.into_par_iter().with_max_len(1).for_each(|(mut dst, a, b)| {
        multiply(b.tier, &mut dst, Start::Zero, a, b.side);
    });
    // SAFETY: the pieces cover every number, and products that start from zero write all they cover.
    values.into_iter().map(|values| values.map(|values| unsafe { written(values) })).collect()
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
    with_all_shared(tier, role, vec![side], |sides| body(sides[0]))
}

/// The same with several operands, all packed at once.
fn with_all_shared<R>(tier: &'static Tier, role: Role, sides: Vec<Side>, body: impl FnOnce(&[Side]) -> R) -> R {
    let layouts = sides.iter().map(|side| match *side {
        Side::Packing(operand) => Some((Layout::new(tier, role, operand), operand)),
        _ => None,
    });
    let layouts: Vec<_> = layouts.collect();
    let len = layouts.iter().flatten().map(|(layout, _)| layout.len()).sum();
    with_memory_of_all(len, |memory| {
        let mut panels = Vec::new();
        let mut rest = &mut *memory;
        for &(layout, operand) in layouts.iter().flatten() {
            for block in layout.blocks() {
                for of_task in layout.panels_together() {
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
        body(&sides)
    })
}

/// The length of the pieces in which `length` rows are shared out: a function of the length alone, so that sums do not
/// depend on the number of threads. Few enough rows to stay in a core's cache; from 256 on a multiple of every tile.
pub(crate) fn piece(length: usize) -> usize {
    (length / 8).clamp(32, 64).next_multiple_of(if length < 8 * ROWS_OF_ALL { 8 } else { ROWS_OF_ALL })
}
