//! Matrices in slices of host memory, their product, and the split of work between threads.
//!
//! A product is cut into tiles of a few rows and vectors of columns, whose sums stay in registers (Goto and van de
//! Geijn 2008). Operands that a tile can read where they lie stay there; others are copied into the order the tiles
//! read, once for all threads where all of them need it. How a product is cut depends on its shape alone, so that
//! results are the same bit for bit on every number of threads.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod few_rows;
mod portable;
#[cfg(test)]
mod tests;
mod tile;

use crate::Precision;
use rayon::prelude::*;
use std::cell::Cell;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;
use tile::{Base, MOST_ROWS, Operand, Sequences, Tier};

pub(crate) use few_rows::{FEW_ROWS, few_rows_product, inner_products};

/// Steps of the summed side for which operands are packed and tiles run at a time: a packed panel of both sides stays
/// in the caches.
const STEPS: usize = 512;

/// Numbers in a cache line.
const LINE: usize = 16;

/// Beyond this many numbers from one step to the next, reading in place misses the translation cache at every step.
const FAR: usize = 1024;

/// A matrix to read.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Row-major and without gaps.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// Row-major, the next row `row_stride` numbers after the last. Panics if `data` is too short.
    pub fn strided(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(extent(rows, cols, row_stride) <= data.len(), "{rows} x {cols} do not fit {} numbers", data.len());
        Self { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// Rows and columns.
    pub fn dims(&self) -> [usize; 2] {
        [self.rows, self.cols]
    }

    /// The transpose, without moving anything.
    pub fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }

    /// Some of the rows.
    pub fn rows(self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.rows);
        let start = if range.is_empty() { 0 } else { range.start * self.row_stride };
        Self { data: &self.data[start..], rows: range.len(), ..self }
    }

    /// Some of the columns.
    pub fn cols(self, range: Range<usize>) -> Self {
        self.t().rows(range).t()
    }

    /// The same, row-major and without gaps, in memory for it.
    pub fn copied_to(self, memory: &mut Vec<f32>) -> Matrix<'_> {
        memory.clear();
        assert_eq!(self.col_stride, 1, "rows that lie along memory");
        (0..self.rows).for_each(|row| memory.extend_from_slice(&self.data[row * self.row_stride..][..self.cols]));
        Matrix::new(memory, self.rows, self.cols)
    }

    /// Where a number lies; only to be read if the matrix has it.
    fn at(&self, row: usize, col: usize) -> *const f32 {
        self.data.as_ptr().wrapping_add(row * self.row_stride + col * self.col_stride)
    }
}

/// A row-major matrix to write, possibly not yet initialized.
pub(crate) struct MatrixMut<'a> {
    start: *mut f32,
    rows: usize,
    cols: usize,
    row_stride: usize,
    owner: PhantomData<&'a mut [f32]>,
}

// SAFETY: a `MatrixMut` is a unique borrow of its elements (see `new` and `split_cols`), and `&mut [f32]` is `Send`.
unsafe impl Send for MatrixMut<'_> {}

impl<'a> MatrixMut<'a> {
    /// The whole slice, without gaps. Panics if the size is another.
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(rows * cols, data.len());
        Self { start: data.as_mut_ptr(), rows, cols, row_stride: cols, owner: PhantomData }
    }

    /// Memory that nothing has been written to: only for [`Start`]s that do not read it. Panics if the size is another.
    pub fn uninit(data: &'a mut [MaybeUninit<f32>], rows: usize, cols: usize) -> Self {
        assert_eq!(rows * cols, data.len());
        Self { start: data.as_mut_ptr().cast(), rows, cols, row_stride: cols, owner: PhantomData }
    }

    /// The first `at` columns and the others.
    pub fn split_cols(self, at: usize) -> (Self, Self) {
        assert!(at <= self.cols);
        // SAFETY: with no rows nothing is ever read through the pointer, and `wrapping_add` may point anywhere. With
        // rows, `at <= cols` stays inside the first row or one past it. Columns below `at` and from `at` on are
        // different elements, because `cols <= row_stride`; `self` is consumed, so that each has one owner.
        let right = self.start.wrapping_add(at);
        let left = Self { cols: at, ..self };
        let right = Self {
            start: right,
            rows: left.rows,
            cols: self.cols - at,
            row_stride: left.row_stride,
            owner: PhantomData,
        };
        (left, right)
    }

    /// Pieces of `width` columns, the last may be narrower.
    pub fn column_pieces(self, width: usize) -> Vec<Self> {
        let mut pieces = Vec::with_capacity(self.cols.div_ceil(width));
        let mut rest = self;
        while rest.cols > width {
            let (piece, others) = rest.split_cols(width);
            pieces.push(piece);
            rest = others;
        }
        pieces.push(rest);
        pieces
    }

    /// Adds numbers to the first of a row, as many as the matrix has columns or `values` numbers. Panics if there is
    /// no such row.
    pub fn add_to_row(&mut self, row: usize, values: &[f32]) {
        assert!(row < self.rows);
        for (col, value) in values.iter().enumerate().take(self.cols) {
            // SAFETY: the matrix has this number, initialized by whoever adds to it, and is borrowed alone.
            unsafe { *self.start.wrapping_add(row * self.row_stride + col) += *value };
        }
    }

    /// Writes numbers into a row from column `first` on. Panics if the matrix does not have them.
    pub fn put(&mut self, row: usize, first: usize, values: &[f32]) {
        assert!(row < self.rows && first + values.len() <= self.cols);
        let start = self.start.wrapping_add(row * self.row_stride + first);
        for (col, value) in values.iter().enumerate() {
            // SAFETY: the matrix has this number (asserted), and is borrowed alone.
            unsafe { *start.wrapping_add(col) = *value };
        }
    }

    /// Multiplies each row by a number. The matrix has been written. Panics if there are more rows than numbers.
    pub fn scale_rows(&mut self, factors: &[f32]) {
        assert!(self.rows <= factors.len());
        for (row, factor) in factors.iter().enumerate().take(self.rows) {
            for col in 0..self.cols {
                // SAFETY: the matrix has this number, written by whoever scales it, and is borrowed alone.
                unsafe { *self.start.wrapping_add(row * self.row_stride + col) *= *factor };
            }
        }
    }

    /// Writes zero everywhere.
    pub fn clear(&mut self) {
        for row in 0..self.rows {
            for col in 0..self.cols {
                // SAFETY: the matrix has this number, and is borrowed alone.
                unsafe { *self.start.wrapping_add(row * self.row_stride + col) = 0.0 };
            }
        }
    }

    /// Some of the rows, borrowed.
    pub fn rows(&mut self, range: Range<usize>) -> MatrixMut<'_> {
        assert!(range.start <= range.end && range.end <= self.rows);
        // The borrow of `self` lives as long as the result, so the elements still have one owner; a start without
        // rows is never read through.
        MatrixMut {
            start: self.start.wrapping_add(range.start * self.row_stride),
            rows: range.len(),
            owner: PhantomData,
            ..*self
        }
    }
}

/// How many numbers a row-major matrix spans.
fn extent(rows: usize, cols: usize, row_stride: usize) -> usize {
    if rows == 0 || cols == 0 { 0 } else { (rows - 1) * row_stride + cols }
}

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
/// right), [`STEPS`] steps at a time.
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
        let in_rows = role == Role::Left && operand.col_stride == 1 && tier.pack_rows.is_some();
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

    /// Whether two panels fill the vectors that pack them.
    fn packs_pairs(&self) -> bool {
        self.role == Role::Left && 2 * self.tier.rows == self.tier.lanes && !self.in_rows
    }

    fn panels(&self) -> usize {
        self.count.div_ceil(self.whole())
    }

    /// All panels side by side.
    fn padded(&self) -> usize {
        match self.panels() {
            0 => 0,
            panels => (panels - 1) * self.whole() + self.width(panels - 1),
        }
    }

    fn steps(&self) -> usize {
        self.depth.div_ceil(self.tier.pair)
    }

    /// The blocks of steps that a packed operand is cut into, each a range.
    fn blocks(&self) -> impl Iterator<Item = Range<usize>> {
        self.blocks_of(STEPS)
    }

    /// Blocks of `most` steps.
    fn blocks_of(&self, most: usize) -> impl Iterator<Item = Range<usize>> {
        let steps = self.steps();
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

/// Packs some panels of one block, one or two, into `packed`, which has their size.
fn pack_panels(
    layout: Layout,
    operand: Matrix,
    block: &Range<usize>,
    panels: Range<usize>,
    packed: &mut [MaybeUninit<f32>],
) {
    let (width, first) = (layout.width(panels.start), panels.start * layout.whole());
    assert!(packed.len() == panels.len() * width * block.len() && first < operand.rows && operand.rows == layout.count);
    assert!(panels.len() == 1 || layout.packs_pairs() && panels.len() == 2);
    let from = block.start * layout.tier.pair;
    let depth = (block.end * layout.tier.pair).min(operand.cols) - from;
    let count = (panels.len() * layout.whole()).min(operand.rows - first);
    let second = if panels.len() == 2 { width * block.len() } else { 0 };
    // SAFETY: `packed` takes `width` numbers for each step of each panel (asserted), and the operand holds `count`
    // sequences from `first` on and `depth` numbers of each from `from` on. A tier is only ever chosen if the processor
    // has it.
    unsafe {
        let (across, along) = (operand.row_stride, operand.col_stride);
        let source = Sequences { start: operand.at(first, from), across, along, count, depth };
        let packed = packed.as_mut_ptr().cast();
        match layout.tier.pack_rows {
            Some(pack_rows) if layout.in_rows => pack_rows(packed, width, block.len(), source),
            _ => (layout.tier.pack)(packed, width, second, source),
        }
    }
}

/// Packs one block whole, into memory that starts with it.
fn pack_block(layout: Layout, operand: Matrix, block: &Range<usize>, memory: &mut [MaybeUninit<f32>]) {
    let together = if layout.packs_pairs() { 2 } else { 1 };
    for panel in (0..layout.panels()).step_by(together) {
        let panels = panel..(panel + together).min(layout.panels());
        let at = panel * layout.whole() * block.len();
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
    /// Rows of `operand` are its sequences: it is the left operand, or the transpose of the right one.
    fn of(tier: &'static Tier, role: Role, operand: Matrix<'a>) -> Self {
        // A tile's rows may lie anywhere; its columns lie side by side.
        let readable = match role {
            Role::Left => operand.col_stride <= FAR,
            Role::Right => operand.row_stride == 1 || operand.rows == 1,
        };
        if tier.in_place && readable { Self::InPlace(operand) } else { Self::Packing(operand) }
    }

    /// Sequences and the length of each.
    fn dims(&self) -> [usize; 2] {
        match self {
            Self::InPlace(operand) | Self::Packing(operand) => [operand.rows, operand.cols],
            Self::Packed { layout, count, .. } => [*count, layout.depth],
        }
    }
}

thread_local! {
    /// Memory that products pack into (0 to 2) and that holds what is in between (3, 4). Taken while in use: another
    /// product may start on the same thread while this one waits, and then finds none.
    static SCRATCH: Cell<[Vec<MaybeUninit<f32>>; 5]> = const { Cell::new([const { Vec::new() }; 5]) };
}

/// Calls `body` with memory for `len` numbers, aligned to a cache line; `which` of the thread's pieces.
pub(crate) fn with_scratch<R>(which: usize, len: usize, body: impl FnOnce(&mut [MaybeUninit<f32>]) -> R) -> R {
    if len == 0 {
        return body(&mut []);
    }
    let mut pieces = SCRATCH.take();
    let mut memory = std::mem::take(&mut pieces[which]);
    SCRATCH.set(pieces);
    if memory.len() < len + LINE {
        memory = Vec::with_capacity(len + LINE);
        memory.resize_with(len + LINE, MaybeUninit::uninit);
    }
    let start = memory.as_ptr().align_offset(LINE * size_of::<f32>());
    let result = body(&mut memory[start..start + len]);
    let mut pieces = SCRATCH.take();
    pieces[which] = memory;
    SCRATCH.set(pieces);
    result
}

/// The tiles of one product, on the calling thread: `dst = start + left right`, `steps` of the summed side at a time. An
/// operand packed before wants [`STEPS`].
fn multiply(tier: &'static Tier, steps: usize, dst: &mut MatrixMut, start: Start, left: Side, right: Side) {
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
            layout.padded() * layout.steps().min(steps)
        }
        _ => 0,
    };
    let blocks = Layout { tier, role: Role::Left, count: rows, depth, in_rows: false };
    let right_in_place = matches!(right, Side::InPlace(_));
    with_scratch(0, size(left, Role::Left), |left_memory| {
        with_scratch(1, size(right, Role::Right), |right_memory| {
            for block in blocks.blocks_of(steps) {
                let left = Panels::of(tier, Role::Left, left, &block, left_memory);
                let right = Panels::of(tier, Role::Right, right, &block, right_memory);
                for column in (0..cols).step_by(tier.columns()) {
                    let columns = tier.columns().min(cols - column);
                    let next = right_in_place && steps < STEPS;
                    let right = right.panel(column / tier.columns());
                    if next {
                        // Blocks this low come from memory: what the next one needs here is fetched meanwhile.
                        for step in steps..2 * steps {
                            let row = right.start.wrapping_add(step * right.along);
                            (0..columns).step_by(LINE).for_each(|at| tile::prefetch(row.wrapping_add(at)));
                        }
                    }
                    let tile = tier.tile(tier.rows.min(rows), columns);
                    for row in (0..rows).step_by(tier.rows) {
                        let height = tier.rows.min(rows - row);
                        let tile = if height == tier.rows { tile } else { tier.tile(height, columns) };
                        let left = left.panel(row / tier.rows);
                        let at = dst.start.wrapping_add(row * dst.row_stride + column);
                        let base = match start {
                            Start::Zero if block.start == 0 => None,
                            Start::Row(row) if block.start == 0 => {
                                Some(Base { start: row[column..].as_ptr(), stride: 0 })
                            }
                            _ => Some(Base { start: at, stride: dst.row_stride }),
                        };
                        // SAFETY: `at` starts `height` rows of `columns` numbers inside `dst`, which is borrowed
                        // alone; `base` is the same place, written by the block before or initialized by the caller
                        // who asked for it, or a row of at least `columns` numbers. Operands in place are matrices
                        // whose numbers exist (checked when they were made) and cover the tile, as `rows`, `cols` and
                        // `depth` are theirs; packed ones cover whole tiles. The tier is one the processor has.
                        unsafe { tile(block.len(), left, right, at, dst.row_stride, columns, base) };
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
                return Self { start, next: whole * block.len(), across: block.len(), along: 1, last: none };
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
    multiply(tier, STEPS, dst, start, Side::of(tier, Role::Left, a), Side::of(tier, Role::Right, b.t()));
}

/// `dst = start + a b`, shared out between threads.
///
/// # Shapes
/// - `a`: `[m, k]`, `b`: `[k, n]`, `dst`: `[m, n]`; panics if they differ
pub(crate) fn parallel_product(dst: MatrixMut, start: Start, a: Matrix, b: Matrix, precision: Precision) {
    let tier = Tier::of(precision);
    let (left, right) = (Side::of(tier, Role::Left, a), Side::of(tier, Role::Right, b.t()));
    if a.rows * a.cols * b.cols < SMALL {
        let mut dst = dst;
        return multiply(tier, STEPS, &mut dst, start, left, right);
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
                multiply(tier, STEPS, &mut dst, start, left, Side::of(tier, Role::Right, b.cols(columns).t()));
            });
        });
    }
    with_shared(tier, Role::Right, right, |right| {
        let height = piece(a.rows);
        row_pieces(dst, height).into_par_iter().enumerate().with_max_len(1).for_each(|(i, mut dst)| {
            let rows = i * height..i * height + dst.rows;
            multiply(tier, STEPS, &mut dst, start, Side::of(tier, Role::Left, a.rows(rows)), right);
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
        multiply(self.tier, STEPS, dst, start, Side::of(self.tier, Role::Left, a), self.side);
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
    let sides = operands.map(|b| Side::of(tier, Role::Right, b.t()));
    with_all_shared(tier, Role::Right, sides, |sides| body(sides.map(|side| Shared { tier, side })))
}

/// `a b` of several pairs in fresh memory, shared out between threads together; none for a pair that is not wanted.
pub(crate) fn new_products<const N: usize>(
    pairs: [Option<(Matrix, Matrix)>; N],
    precision: Precision,
) -> [Option<Vec<f32>>; N] {
    let mut values = pairs.map(|pair| buffer(pair.map_or(0, |(a, b)| a.rows * b.cols)));
    let empty = Matrix::new(&[], 0, 0);
    all_shared(pairs.map(|pair| pair.map_or(empty, |(_, b)| b)), precision, |shared| {
        let mut tasks = Vec::new();
        for ((values, pair), right) in values.iter_mut().zip(pairs).zip(shared) {
            let Some((a, b)) = pair else { continue };
            let height = piece(a.rows);
            let pieces = row_pieces(MatrixMut::uninit(values, a.rows, b.cols), height);
            tasks.extend(pieces.into_iter().enumerate().map(|(i, dst)| {
                let rows = i * height..i * height + dst.rows;
                (dst, a.rows(rows), right)
            }));
        }
        tasks.into_par_iter().with_max_len(1).for_each(|(mut dst, a, right)| {
            right.product(&mut dst, Start::Zero, a);
        });
    });
    let mut index = 0;
    values.map(|values| {
        index += 1;
        // SAFETY: the pieces cover every number, and products that start from zero write all they cover.
        pairs[index - 1].map(|_| unsafe { written(values) })
    })
}

/// The right operand of many products on the calling thread, packed into `memory` if it must be packed.
pub(crate) fn prepared<'a>(b: Matrix<'a>, precision: Precision, memory: &'a mut Vec<MaybeUninit<f32>>) -> Shared<'a> {
    let tier = Tier::of(precision);
    let side = match Side::of(tier, Role::Right, b.t()) {
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

/// Memory for `len` numbers that are all going to be written: not zeroed first.
pub(crate) fn buffer(len: usize) -> Vec<MaybeUninit<f32>> {
    let mut values = Vec::with_capacity(len);
    values.resize_with(len, MaybeUninit::uninit);
    values
}

/// The numbers written to a [`buffer`].
///
/// # Safety
/// Every one of them has been written.
pub(crate) unsafe fn written(values: Vec<MaybeUninit<f32>>) -> Vec<f32> {
    let mut values = std::mem::ManuallyDrop::new(values);
    // SAFETY: `MaybeUninit<f32>` has the layout of `f32`, the vector is given up, and its numbers are initialized.
    unsafe { Vec::from_raw_parts(values.as_mut_ptr().cast(), values.len(), values.capacity()) }
}

/// The same for a part of a [`buffer`].
///
/// # Safety
/// Every number of it has been written.
pub(crate) unsafe fn written_slice(values: &mut [MaybeUninit<f32>]) -> &mut [f32] {
    // SAFETY: the same layout, the same borrow, and the numbers are initialized.
    unsafe { &mut *(values as *mut [MaybeUninit<f32>] as *mut [f32]) }
}

/// Below this many multiplications a product is not worth sharing out.
const SMALL: usize = 64 * 1024;

/// Pieces of `height` rows, the last may be lower.
fn row_pieces(dst: MatrixMut, height: usize) -> Vec<MatrixMut> {
    let MatrixMut { start, rows, cols, row_stride, .. } = dst;
    // `dst` is consumed and the rows of different pieces are different elements: each still has one owner.
    (0..rows)
        .step_by(height)
        .map(|row| MatrixMut {
            start: start.wrapping_add(row * row_stride),
            rows: height.min(rows - row),
            cols,
            row_stride,
            owner: PhantomData,
        })
        .collect()
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
/// depend on the number of threads. Few enough rows to stay in a core's cache, and a multiple of every tile.
pub(crate) fn piece(length: usize) -> usize {
    (length / 8).clamp(16, 64).next_multiple_of(MOST_ROWS)
}
