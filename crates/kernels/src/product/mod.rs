//! The product of matrices in host memory.
//!
//! A product is cut into tiles of a few rows and vectors of columns, whose sums stay in registers (Goto and van de
//! Geijn 2008). Operands that a tile can read where they lie stay there; others are copied into the order the tiles
//! read, once for all threads where all of them need it. How a product is cut depends on its shape alone, so that
//! results are the same bit for bit on every number of threads.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod few_rows;
mod incoming;
mod matrix;
mod memory;
mod portable;
mod sharing;
#[cfg(test)]
mod tests;
mod tile;

use crate::Precision;
use memory::LINE;
use std::mem::MaybeUninit;
use std::ops::Range;
use tile::{Ahead, Area, Base, Operand, Sequences, Tier};

pub(crate) use incoming::{IncomingRole, IncomingRows, with_incoming};
pub(crate) use matrix::{Matrix, MatrixMut};
pub(crate) use memory::{buffer, with_scratch, written, written_slice};
pub(crate) use sharing::{Shared, all_shared, new_product, new_products, parallel_product, piece, prepared, shared};

pub(crate) use few_rows::{FEW_ROWS, few_rows_product, inner_products};

/// Beyond this many numbers from one step to the next, reading in place misses the translation cache at every step.
const FAR: usize = 64;

/// From this many columns on, a left operand is packed even if tiles could read its rows where they lie: those share few
/// places of the nearest cache where they start a multiple of 4 KiB apart.
const MANY_COLUMNS: usize = 192;

/// Rows of a left operand that start within this many numbers of each other stay in the nearest cache together, however
/// many columns they meet: tiles read them where they lie.
const NEAR_ROWS: usize = 192;

/// From this many rows on, a right operand whose rows are [`FAR`] apart is packed.
const MANY_ROWS: usize = 64;

/// Whether this processor has instructions for products of the format.
pub(crate) fn computes_in(precision: Precision) -> bool {
    let tier = Tier::of(precision);
    // A format without instructions is computed in f32, one number a step, on rounded operands.
    precision == Precision::F32 || tier.pair == 2
}

/// What a product is added to.
#[derive(Clone, Copy)]
pub(crate) enum Start<'a> {
    /// Nothing: the destination is only written.
    Zero,
    /// What stands in the destination.
    Itself,
    /// One row, as long as the destination has columns, added to each of its rows.
    Row(&'a [f32]),
}

/// Which operand of a product: tiles want the left one in rows and the right one in columns.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    Left,
    Right,
}

/// How one operand is laid out once packed: panel after panel of its sequences (rows on the left, columns on the
/// right), [`Tier::block`] steps at a time.
#[derive(Clone, Copy)]
struct Layout {
    tier: &'static Tier,
    role: Role,
    /// Sequences, and numbers of each.
    count: usize,
    depth: usize,
    /// Packed one sequence after another (see [`PackRows`](tile::PackRows)), not step by step.
    in_rows: bool,
}

impl Layout {
    /// `operand`'s rows are its sequences.
    fn new(tier: &'static Tier, role: Role, operand: Matrix) -> Self {
        let cheap = operand.col_stride == 1 || tier.turns_rows;
        let in_rows = role == Role::Left && cheap && tier.pack_rows.is_some();
        Self { tier, role, count: operand.rows, depth: operand.cols, in_rows }
    }

    /// Sequences of a whole panel.
    fn whole(&self) -> usize {
        if self.role == Role::Left { self.tier.rows } else { self.tier.columns() }
    }

    /// The width of panel number `panel` with its padding.
    fn width(&self, panel: usize) -> usize {
        match self.role {
            Role::Left => self.tier.rows,
            Role::Right => self.tier.panel(self.count - panel * self.whole()),
        }
    }

    /// How many panels are packed together.
    fn together(&self) -> usize {
        if self.role == Role::Left && !self.in_rows { self.tier.together } else { 1 }
    }

    fn panels(&self) -> usize {
        self.count.div_ceil(self.whole())
    }

    /// Panels that are packed together.
    fn panels_together(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (panels, together) = (self.panels(), self.together());
        (0..panels).step_by(together).map(move |panel| panel..(panel + together).min(panels))
    }

    /// All panels side by side.
    fn padded(&self) -> usize {
        match self.panels() {
            0 => 0,
            panels => (panels - 1) * self.whole() + self.width(panels - 1),
        }
    }

    fn steps(&self) -> usize {
        self.depth.div_ceil(self.tier.pair).next_multiple_of(self.tier.multiple)
    }

    /// The blocks of steps that a packed operand is cut into, each a range.
    fn blocks(&self) -> impl Iterator<Item = Range<usize>> {
        let (steps, most) = (self.steps(), self.tier.block);
        // At least one, so that a product over nothing still writes what it starts from.
        (0..steps.max(1)).step_by(most).map(move |start| start..(start + most).min(steps))
    }

    /// Numbers of the packed operand.
    fn len(&self) -> usize {
        self.padded() * self.steps()
    }

    /// Where a panel of a block starts.
    fn offset(&self, block: &Range<usize>, panel: usize) -> usize {
        block.start * self.padded() + panel * self.whole() * block.len()
    }
}

/// Packs panels of one block that are packed together into `packed`, which has their size.
fn pack_panels(
    layout: Layout,
    operand: Matrix,
    block: &Range<usize>,
    panels: Range<usize>,
    packed: &mut [MaybeUninit<f32>],
) {
    let size = layout.width(panels.start) * block.len();
    assert!(packed.len() == panels.len() * size);
    // SAFETY: as much memory as the panels take (asserted).
    unsafe { pack_steps(layout, operand, block, panels, packed.as_mut_ptr().cast(), size) }
}

/// Packs some steps of panels that are packed together to `packed`, each `next` numbers further on than the last.
///
/// # Safety
/// They take as many numbers as these steps of them have, and nothing else reads or writes these meanwhile.
unsafe fn pack_steps(
    layout: Layout,
    operand: Matrix,
    steps: &Range<usize>,
    panels: Range<usize>,
    packed: *mut f32,
    next: usize,
) {
    let (width, first) = (layout.width(panels.start), panels.start * layout.whole());
    let from = steps.start * layout.tier.pair;
    assert!(first < operand.rows && operand.rows == layout.count && from <= operand.cols);
    assert!(!panels.is_empty() && panels.len() <= layout.together());
    let depth = (steps.end * layout.tier.pair).min(operand.cols) - from;
    let count = (panels.len() * layout.whole()).min(operand.rows - first);
    let next = if panels.len() == 1 { 0 } else { next };
    // SAFETY: `packed` takes `width` numbers for each step of each panel (the caller's), and the operand holds `count`
    // sequences from `first` on and `depth` numbers of each from `from` on (asserted). A tier is only ever chosen if
    // the processor has it.
    unsafe {
        let (across, along) = (operand.row_stride, operand.col_stride);
        let source = Sequences { start: operand.at(first, from), across, along, count, depth };
        match layout.tier.pack_rows {
            Some(pack_rows) if layout.in_rows => pack_rows(packed, width, steps.len(), source),
            _ => {
                (layout.tier.pack)(packed, width, next, source);
                // Steps that only fill up; tiers that have some never pack panels together.
                let written = depth.div_ceil(layout.tier.pair) * width;
                packed.add(written).write_bytes(0, steps.len() * width - written);
            }
        }
    }
}

/// Packs one block whole, into memory that starts with it.
fn pack_block(layout: Layout, operand: Matrix, block: &Range<usize>, memory: &mut [MaybeUninit<f32>]) {
    for panels in layout.panels_together() {
        let at = panels.start * layout.whole() * block.len();
        let size = panels.clone().map(|panel| layout.width(panel) * block.len()).sum::<usize>();
        pack_panels(layout, operand, block, panels, &mut memory[at..at + size]);
    }
}

/// One operand of a product, as its tiles get it.
#[derive(Clone, Copy)]
enum Side<'a> {
    /// Tiles read it where it lies.
    InPlace(Matrix<'a>),
    /// Each block is packed when its turn comes.
    Packing(Matrix<'a>),
    /// It was packed before; of its sequences these many, from the one that starts this panel.
    Packed { layout: Layout, packed: &'a [f32], panel: usize, count: usize },
}

impl<'a> Side<'a> {
    /// Rows of `operand` are its sequences: it is the left operand, or the transpose of the right one. The other operand
    /// has `others` of them, each of which is multiplied with each number of this one.
    fn of(tier: &'static Tier, role: Role, operand: Matrix<'a>, others: usize) -> Self {
        // A tile's rows may lie anywhere; its columns lie side by side. Copying pays where many tiles read the copy.
        let readable = match role {
            Role::Left => operand.col_stride <= FAR && (others < MANY_COLUMNS || operand.row_stride <= NEAR_ROWS),
            Role::Right => {
                let near = operand.col_stride <= FAR || others < MANY_ROWS;
                operand.row_stride == 1 && near || operand.rows == 1
            }
        };
        if tier.in_place && readable { Self::InPlace(operand) } else { Self::Packing(operand) }
    }

    /// Some of the sequences. Panics if it was packed and they do not start with a panel.
    fn sequences(self, range: Range<usize>) -> Self {
        match self {
            Self::InPlace(operand) => Self::InPlace(operand.rows(range)),
            Self::Packing(operand) => Self::Packing(operand.rows(range)),
            Self::Packed { layout, packed, panel, count } => {
                assert!(range.start <= range.end && range.end <= count && range.start.is_multiple_of(layout.whole()));
                Self::Packed { layout, packed, panel: panel + range.start / layout.whole(), count: range.len() }
            }
        }
    }

    /// Sequences and the length of each.
    fn dims(&self) -> [usize; 2] {
        match self {
            Self::InPlace(operand) | Self::Packing(operand) => [operand.rows, operand.cols],
            Self::Packed { layout, count, .. } => [*count, layout.depth],
        }
    }
}

/// The tiles of one product, on the calling thread: `dst = start + left right`.
fn multiply(tier: &'static Tier, dst: &mut MatrixMut, start: Start, left: Side, right: Side) {
    let ([rows, depth], [cols, right_depth]) = (left.dims(), right.dims());
    assert!(rows == dst.rows && cols == dst.cols && depth == right_depth, "shapes of a product");
    if let Start::Row(row) = start {
        assert_eq!(row.len(), cols, "a number for each column");
    }
    if rows == 0 || cols == 0 {
        return;
    }
    // A single block of an operand that is packed as it is needed.
    let size = |side: Side, role| match side {
        Side::Packing(operand) => {
            let layout = Layout::new(tier, role, operand);
            layout.padded() * layout.steps().min(tier.block)
        }
        _ => 0,
    };
    let blocks = Layout { tier, role: Role::Left, count: rows, depth, in_rows: false };
    let right_in_place = matches!(right, Side::InPlace(_));
    with_scratch(0, size(left, Role::Left), |left_memory| {
        with_scratch(1, size(right, Role::Right), |right_memory| {
            for block in blocks.blocks() {
                let left = Panels::of(tier, Role::Left, left, &block, left_memory);
                let right = Panels::of(tier, Role::Right, right, &block, right_memory);
                for (panel, column) in (0..cols).step_by(tier.columns()).enumerate() {
                    let columns = tier.columns().min(cols - column);
                    // Each tile asks for its share of the panel that comes next: the columns that follow, or where
                    // the operand lies in place also the next block's.
                    let following = match right_in_place && column + columns == cols {
                        true => right.start.wrapping_add(block.len() * right.along),
                        false => right.panel(panel + 1).start,
                    };
                    let right = right.panel(panel);
                    // In place that is a cache line of each row, else numbers that lie side by side.
                    let (share, along) = if right_in_place {
                        (LINE, right.along)
                    } else {
                        let width = tier.columns().div_ceil(rows.div_ceil(tier.rows));
                        (width * block.len(), width)
                    };
                    let tile = tier.tile(tier.rows.min(rows), columns);
                    for (panel, row) in (0..rows).step_by(tier.rows).enumerate() {
                        let height = tier.rows.min(rows - row);
                        let tile = if height == tier.rows { tile } else { tier.tile(height, columns) };
                        let left = left.panel(panel);
                        let at = dst.start.wrapping_add(row * dst.row_stride + column);
                        let base = match start {
                            Start::Zero if block.start == 0 => None,
                            Start::Row(row) if block.start == 0 => {
                                Some(Base { start: row[column..].as_ptr(), stride: 0 })
                            }
                            _ => Some(Base { start: at, stride: dst.row_stride }),
                        };
                        let ahead = Ahead { start: following.wrapping_add(panel * share), along };
                        let area = Area { start: at, stride: dst.row_stride, rows: height, columns, base, ahead };
                        // SAFETY: `at` starts `height` rows of `columns` numbers inside `dst`, which is borrowed
                        // alone; `base` is the same place, written by the block before or initialized by the caller
                        // who asked for it, or a row of at least `columns` numbers. Operands in place are matrices
                        // whose numbers exist (checked when they were made) and cover the tile, as `rows`, `cols` and
                        // `depth` are theirs; packed ones cover whole tiles. The tier is one the processor has.
                        unsafe { tile(block.len(), left, right, area) };
                    }
                }
            }
        })
    })
}

/// One block of an operand, ready for tiles.
struct Panels {
    /// Where the first panel starts, and how far it is from one to the next.
    start: *const f32,
    next: usize,
    /// As in [`Operand`]; of packed panels `along` is their width, and the last one may have another.
    across: usize,
    along: usize,
    last: (usize, usize),
}

impl Panels {
    /// Packs the block into `memory` if it has to be packed now.
    fn of(tier: &'static Tier, role: Role, side: Side, block: &Range<usize>, memory: &mut [MaybeUninit<f32>]) -> Self {
        let whole = if role == Role::Left { tier.rows } else { tier.columns() };
        let packed = |start: *const f32, layout: Layout, first: usize| {
            if layout.in_rows {
                let none = (usize::MAX, 0);
                let across = tier.run.min(block.len());
                return Self { start, next: whole * block.len(), across, along: 1, last: none };
            }
            let last = layout.panels().saturating_sub(1);
            let of_last = (last.wrapping_sub(first), layout.width(last));
            Self { start, next: whole * block.len(), across: 1, along: whole, last: of_last }
        };
        match side {
            Side::InPlace(matrix) => Self {
                start: matrix.at(0, block.start),
                next: whole * matrix.row_stride,
                across: matrix.row_stride,
                along: matrix.col_stride,
                last: (usize::MAX, 0),
            },
            Side::Packed { layout, packed: memory, panel, .. } => {
                packed(memory.as_ptr().wrapping_add(layout.offset(block, panel)), layout, panel)
            }
            Side::Packing(operand) => {
                let layout = Layout::new(tier, role, operand);
                pack_block(layout, operand, block, memory);
                packed(memory.as_ptr().cast(), layout, 0)
            }
        }
    }

    /// Panel number `panel`.
    #[inline]
    fn panel(&self, panel: usize) -> Operand {
        let along = if panel == self.last.0 { self.last.1 } else { self.along };
        Operand { start: self.start.wrapping_add(panel * self.next), across: self.across, along }
    }
}

/// `dst = start + a b` on the calling thread.
///
/// # Shapes
/// - `a`: `[m, k]`, `b`: `[k, n]`, `dst`: `[m, n]`; panics if they differ
pub(crate) fn product(dst: &mut MatrixMut, start: Start, a: Matrix, b: Matrix, precision: Precision) {
    let tier = Tier::of(precision);
    let left = Side::of(tier, Role::Left, a, b.cols);
    multiply(tier, dst, start, left, Side::of(tier, Role::Right, b.t(), a.rows));
}
