//! Matrices in slices of host memory: views to read, and disjoint pieces to write.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

/// A matrix to read.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(super) data: &'a [f32],
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) row_stride: usize,
    pub(super) col_stride: usize,
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

    /// One of the rows. Panics if their numbers do not lie side by side.
    pub fn row(&self, row: usize) -> &'a [f32] {
        assert!(self.col_stride == 1 && row < self.rows);
        &self.data[row * self.row_stride..][..self.cols]
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
        (0..self.rows).for_each(|row| memory.extend_from_slice(self.row(row)));
        Matrix::new(memory, self.rows, self.cols)
    }

    /// Where a number lies; only to be read if the matrix has it.
    pub(super) fn at(&self, row: usize, col: usize) -> *const f32 {
        self.data.as_ptr().wrapping_add(row * self.row_stride + col * self.col_stride)
    }
}

/// A row-major matrix to write, possibly not yet initialized.
pub(crate) struct MatrixMut<'a> {
    pub(super) start: *mut f32,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) row_stride: usize,
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

    /// Pieces of `height` rows, the last may be lower.
    pub fn row_pieces(self, height: usize) -> Vec<Self> {
        let Self { start, rows, cols, row_stride, .. } = self;
        // `self` is consumed and the rows of different pieces are different elements: each still has one owner.
        (0..rows)
            .step_by(height)
            .map(|row| Self {
                start: start.wrapping_add(row * row_stride),
                rows: height.min(rows - row),
                cols,
                row_stride,
                owner: PhantomData,
            })
            .collect()
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
