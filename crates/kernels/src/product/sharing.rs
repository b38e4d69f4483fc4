//! Products shared out between threads: what is packed once for all of them, and the pieces each computes.

use super::matrix::{Matrix, MatrixMut};
use super::memory::{buffer, with_memory_of_all, written, written_slice};
use super::tile::{ROWS_OF_ALL, Tier};
use super::{Layout, Role, Side, Start, multiply, pack_block, pack_panels, pack_steps};
use crate::Precision;
use rayon::prelude::*;
use std::marker::PhantomData;
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
        let side = self.side.sequences(range);
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

/// An operand whose summed side comes in pieces, from several threads: each piece is packed as it comes, while it is in
/// its thread's cache.
pub(crate) struct Incoming<'a> {
    layout: Layout,
    memory: &'a mut [MaybeUninit<f32>],
}

/// What an [`Incoming`] operand is going to be: the matrix that comes, or its transpose, `[rows, columns]` of which come.
#[derive(Clone, Copy)]
pub(crate) enum IncomingRole {
    /// The left operand is the transpose. Its pieces are a multiple of 32 rows high.
    LeftTurned([usize; 2]),
    /// The right operand. Its pieces are a multiple of two rows high.
    Right([usize; 2]),
}

/// Some rows of an [`Incoming`] operand.
pub(crate) struct IncomingRows<'a> {
    layout: Layout,
    /// Of the whole operand, of which these are the steps.
    memory: *mut f32,
    steps: Range<usize>,
    rows: usize,
    owner: PhantomData<&'a mut [f32]>,
}

// SAFETY: the memory of its steps is borrowed alone (see `row_pieces`), and `&mut [f32]` is `Send`.
unsafe impl Send for IncomingRows<'_> {}

/// Calls `body` with operands that are still to come.
pub(crate) fn with_incoming<R, const N: usize>(
    roles: [IncomingRole; N],
    precision: Precision,
    body: impl FnOnce([Incoming; N]) -> R,
) -> R {
    let tier = Tier::of(precision);
    let layouts = roles.map(|role| {
        let (role, [depth, count]) = match role {
            IncomingRole::LeftTurned(dims) => (Role::Left, dims),
            IncomingRole::Right(dims) => (Role::Right, dims),
        };
        Layout { tier, role, count, depth, in_rows: role == Role::Left && tier.turns_rows }
    });
    with_memory_of_all(layouts.iter().map(Layout::len).sum(), |memory| {
        let mut rest = memory;
        body(layouts.map(|layout| {
            let (memory, others) = std::mem::take(&mut rest).split_at_mut(layout.len());
            rest = others;
            Incoming { layout, memory }
        }))
    })
}

impl<'a> Incoming<'a> {
    /// Pieces of `height` rows, the last may be lower. Panics if there are several and the height is not what the role
    /// demands.
    pub fn row_pieces(&mut self, height: usize) -> Vec<IncomingRows<'_>> {
        let layout = self.layout;
        let count = layout.depth.div_ceil(height);
        // Steps that are packed together stay together.
        let together = layout.tier.pair * if layout.in_rows { layout.tier.run } else { 1 };
        assert!(count <= 1 || height.is_multiple_of(together), "pieces of {height} rows");
        let each = height.div_ceil(layout.tier.pair);
        let memory = self.memory.as_mut_ptr().cast();
        // Steps of different pieces lie in different places of each panel, and the borrow lasts as long as the pieces.
        (0..count)
            .map(|i| {
                // The last one also takes the steps that only fill up.
                let end = if i + 1 == count { layout.steps() } else { (i + 1) * each };
                let rows = height.min(layout.depth - i * height);
                IncomingRows { layout, memory, steps: i * each..end, rows, owner: PhantomData }
            })
            .collect()
    }

    /// # Safety
    /// All rows have come.
    unsafe fn packed(self) -> Side<'a> {
        let Self { layout, memory } = self;
        // SAFETY: the pieces cover all of the memory, and each has been written whole (see `Pack`).
        let packed: &[f32] = unsafe { written_slice(memory) };
        Side::Packed { layout, packed, panel: 0, count: layout.count }
    }

    /// The right operand as every thread reads it.
    ///
    /// # Safety
    /// All of its rows have come.
    pub unsafe fn right(self) -> Shared<'a> {
        assert!(self.layout.role == Role::Right);
        // SAFETY: the caller's.
        Shared { tier: self.layout.tier, side: unsafe { self.packed() } }
    }

    /// The left operand.
    ///
    /// # Safety
    /// All of its rows have come.
    pub unsafe fn left(self) -> Left<'a> {
        assert!(self.layout.role == Role::Left);
        // SAFETY: the caller's.
        Left(unsafe { self.packed() })
    }
}

impl IncomingRows<'_> {
    /// Packs the rows; other threads may help. Panics if they are not as many as the piece has; an operand without
    /// columns takes rows of any length.
    pub fn put(self, rows: Matrix) {
        let Self { layout, memory, steps, .. } = self;
        assert_eq!(rows.rows, self.rows, "rows of a piece");
        let memory = Address(memory);
        let panels: Vec<_> = layout.panels_together().collect();
        for block in layout.blocks() {
            let here = steps.start.max(block.start)..steps.end.min(block.end);
            if here.is_empty() {
                continue;
            }
            let of_piece = here.start - steps.start..here.end - steps.start;
            panels.par_iter().with_min_len(8).for_each(|panels| {
                let at = layout.offset(&block, panels.start) + (here.start - block.start) * layout.width(panels.start);
                let second = layout.whole() * block.len();
                // SAFETY: the steps of a panel follow each other, from `offset` on for each block, the next panel is a
                // whole one further on, and the operand's memory has its length.
                unsafe { pack_steps(layout, rows.t(), &of_piece, panels.clone(), memory.at(at), second) };
            });
        }
    }
}

/// Memory that threads write different parts of.
#[derive(Clone, Copy)]
struct Address(*mut f32);

// SAFETY: only an address; who writes through it argues that it may.
unsafe impl Send for Address {}
// SAFETY: the same.
unsafe impl Sync for Address {}

impl Address {
    fn at(&self, offset: usize) -> *mut f32 {
        self.0.wrapping_add(offset)
    }
}

/// The left operand of a product.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a>(Side<'a>);

impl<'a> Left<'a> {
    /// One that is not packed, or only where its products pack it, for products of so many columns.
    pub fn of(a: Matrix<'a>, columns: usize, precision: Precision) -> Self {
        Self(Side::of(Tier::of(precision), Role::Left, a, columns))
    }
}

/// `a b` of several pairs in fresh memory, shared out between threads together; none for a pair that is not wanted.
pub(crate) fn new_products<const N: usize>(pairs: [Option<(Left, Shared)>; N]) -> [Option<Vec<f32>>; N] {
    let dims = |(Left(a), b): &(Left, Shared)| [a.dims()[0], b.side.dims()[0]];
    let mut values = pairs.map(|pair| pair.map(|pair| buffer(dims(&pair).iter().product())));
    let mut tasks = Vec::new();
    for (values, pair) in values.iter_mut().zip(pairs) {
        let (Some(values), Some(pair)) = (values, pair) else { continue };
        let ([rows, columns], (Left(a), b)) = (dims(&pair), pair);
        let height = piece(rows);
        let pieces = MatrixMut::uninit(values, rows, columns).row_pieces(height);
        tasks.extend(pieces.into_iter().enumerate().map(|(i, dst)| {
            let rows = i * height..i * height + dst.rows;
            (dst, a.sequences(rows), b)
        }));
    }
    tasks.into_par_iter().with_max_len(1).for_each(|(mut dst, a, b)| {
        multiply(b.tier, b.tier.block, &mut dst, Start::Zero, a, b.side);
    });
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
    with_memory_of_all(len, |memory| {
        let mut panels = Vec::new();
        let mut rest = &mut *memory;
        for (layout, operand) in layouts.into_iter().flatten() {
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
        body(sides)
    })
}

/// The length of the pieces in which `length` rows are shared out: a function of the length alone, so that sums do not
/// depend on the number of threads. Few enough rows to stay in a core's cache; from 256 on a multiple of every tile.
pub(crate) fn piece(length: usize) -> usize {
    (length / 8).clamp(32, 64).next_multiple_of(if length < 8 * ROWS_OF_ALL { 8 } else { ROWS_OF_ALL })
}
