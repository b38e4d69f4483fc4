//! Operands that several threads pack, piece by piece, before the product that reads them.

use super::matrix::Matrix;
use super::memory::{with_memory_of_all, written_slice};
use super::sharing::{Left, Shared};
use super::tile::Tier;
use super::{Layout, Role, Side, pack_steps};
use crate::Precision;
use rayon::prelude::*;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

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
pub(crate) fn with_incoming<R>(
    roles: &[IncomingRole],
    precision: Precision,
    body: impl FnOnce(Vec<Incoming>) -> R,
) -> R {
    let layouts: Vec<_> = roles.iter().map(|role| role.layout(precision)).collect();
    with_memory_of_all(layouts.iter().map(Layout::len).sum(), |memory| {
        let mut rest = memory;
        let incoming = layouts.into_iter().map(|layout| {
            let (memory, others) = std::mem::take(&mut rest).split_at_mut(layout.len());
            rest = others;
            Incoming { layout, memory }
        });
        body(incoming.collect())
    })
}

impl IncomingRole {
    fn layout(self, precision: Precision) -> Layout {
        let tier = Tier::of(precision);
        let (role, [depth, count]) = match self {
            Self::LeftTurned(dims) => (Role::Left, dims),
            Self::Right(dims) => (Role::Right, dims),
        };
        Layout { tier, role, count, depth, in_rows: role == Role::Left && tier.turns_rows }
    }

    /// What the heights of an operand's pieces are a multiple of, whatever its role, if there are several.
    pub fn together(precision: Precision) -> usize {
        Self::LeftTurned([0, 0]).layout(precision).packed_together()
    }
}

impl Layout {
    /// Numbers of a sequence that are packed together.
    fn packed_together(&self) -> usize {
        self.tier.pair * if self.in_rows { self.tier.run } else { 1 }
    }
}

impl<'a> Incoming<'a> {
    /// Pieces of `height` rows, the last may be lower. Panics if there are several and the height is not what the role
    /// demands.
    pub fn row_pieces(&mut self, height: usize) -> Vec<IncomingRows<'_>> {
        let Self { layout, memory } = self;
        // The last piece also takes the steps that only fill up. The borrow lasts as long as the pieces.
        let (memory, steps, rows) = (memory.as_mut_ptr().cast(), 0..layout.steps(), layout.depth);
        IncomingRows { layout: *layout, memory, steps, rows, owner: PhantomData }.row_pieces(height)
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
    /// As [`Incoming::row_pieces`].
    pub fn row_pieces(self, height: usize) -> Vec<Self> {
        let Self { layout, memory, steps, rows, .. } = self;
        let count = rows.div_ceil(height);
        assert!(count <= 1 || height.is_multiple_of(layout.packed_together()), "pieces of {height} rows");
        let each = height.div_ceil(layout.tier.pair);
        // `self` is consumed, and steps of different pieces lie in different places of each panel.
        (0..count)
            .map(|i| {
                let start = steps.start + i * each;
                let end = if i + 1 == count { steps.end } else { start + each };
                let rows = height.min(rows - i * height);
                Self { layout, memory, steps: start..end, rows, owner: PhantomData }
            })
            .collect()
    }

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
                let next = layout.whole() * block.len();
                // SAFETY: the steps of a panel follow each other, from `offset` on for each block, the next panel is a
                // whole one further on, and the operand's memory has its length.
                unsafe { pack_steps(layout, rows.t(), &of_piece, panels.clone(), memory.at(at), next) };
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
