//! Matrices in slices of host memory, their product, and the split of work between threads.

use rayon::prelude::*;
use std::marker::PhantomData;
use std::ops::Range;

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
}

/// A row-major matrix to write.
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

/// `dst = a b`, or `dst += a b`. On the calling thread.
///
/// # Shapes
/// - `a`: `[m, k]`, `b`: `[k, n]`, `dst`: `[m, n]`; panics if they differ
pub(crate) fn product(dst: &mut MatrixMut, accumulate: bool, a: Matrix, b: Matrix) {
    assert!(a.rows == dst.rows && b.cols == dst.cols && a.cols == b.rows, "shapes of a product");
    if dst.rows == 0 || dst.cols == 0 {
        return;
    }
    let stride = |stride: usize| stride as isize;
    // SAFETY: every element of `a` and `b` lies inside their slices (checked when they were made; a transpose and a
    // part of the rows only choose among the same elements), and every element of `dst` inside the slice it was
    // made from, which it borrows alone: so `dst` overlaps neither operand. No stride is negative.
    unsafe {
        gemm::gemm(
            dst.rows,
            dst.cols,
            a.cols,
            dst.start,
            1,
            stride(dst.row_stride),
            accumulate,
            a.data.as_ptr(),
            stride(a.col_stride),
            stride(a.row_stride),
            b.data.as_ptr(),
            stride(b.col_stride),
            stride(b.row_stride),
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        )
    }
}

/// `dst = a b`, or `dst += a b`, split along the longer side of `dst` between threads.
pub(crate) fn parallel_product(dst: &mut [f32], accumulate: bool, a: Matrix, b: Matrix) {
    let (rows, cols) = (a.rows, b.cols);
    if rows >= cols {
        let height = piece(rows);
        dst.par_chunks_mut((height * cols).max(1)).enumerate().with_max_len(1).for_each(|(i, dst)| {
            let height_here = dst.len() / cols;
            let a = a.rows(i * height..i * height + height_here);
            product(&mut MatrixMut::new(dst, height_here, cols), accumulate, a, b);
        });
    } else {
        let width = piece(cols);
        let pieces = MatrixMut::new(dst, rows, cols).column_pieces(width);
        pieces.into_par_iter().enumerate().with_max_len(1).for_each(|(i, mut dst)| {
            let b = b.cols(i * width..i * width + dst.cols);
            product(&mut dst, accumulate, a, b);
        });
    }
}

/// The length of the pieces in which `length` rows or columns are shared out: a function of the length alone, so that
/// sums do not depend on the number of threads.
///
/// Pieces under 128 spend their time packing the other operand again, those over 512 leave the cache.
pub(crate) fn piece(length: usize) -> usize {
    let few = (length / 128).clamp(1, 4);
    let few = if few == 3 { 2 } else { few };
    let pieces = few.max(length.div_ceil(512).next_power_of_two());
    length.div_ceil(pieces).next_multiple_of(16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 % 101) as f32 - 50.0) / 25.0).collect()
    }

    #[test]
    fn a_parallel_product_equals_the_plain_sum_for_every_orientation() {
        for (m, k, n) in [(1, 1, 1), (3, 5, 7), (300, 17, 2), (2, 31, 700), (257, 129, 131)] {
            let (a, b) = (numbers(m * k), numbers(k * n));
            let transposed: Vec<f32> = (0..m * k).map(|i| a[(i % m) * k + i / m]).collect();
            let start = numbers(m * n);
            let mut sum = start.clone();
            parallel_product(&mut sum, true, Matrix::new(&transposed, k, m).t(), Matrix::new(&b, k, n));
            for i in 0..m * n {
                let (row, col) = (i / n, i % n);
                let dot: f64 = (0..k).map(|j| a[row * k + j] as f64 * b[j * n + col] as f64).sum();
                assert!((sum[i] as f64 - dot - start[i] as f64).abs() < 1e-4, "{m} {k} {n} at {i}");
            }
        }
    }

    #[test]
    fn column_pieces_cover_every_element_once() {
        let mut data = vec![0.0; 5 * 23];
        let mut pieces = MatrixMut::new(&mut data, 5, 23).column_pieces(4);
        let (one, ones) = ([1.0], [1.0; 23]);
        for piece in &mut pieces {
            for row in 0..5 {
                let cols = piece.cols;
                product(
                    &mut piece.rows(row..row + 1),
                    true,
                    Matrix::new(&one, 1, 1),
                    Matrix::new(&ones[..cols], 1, cols),
                );
            }
        }
        assert!(data.iter().all(|value| *value == 1.0));
    }

    #[test]
    #[should_panic(expected = "do not fit")]
    fn a_view_longer_than_its_slice_is_refused() {
        Matrix::strided(&[0.0; 10], 3, 4, 4);
    }
}
