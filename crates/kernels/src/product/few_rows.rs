//! Products of few rows with a large matrix, as generating text makes them: the matrix is read once, along memory, and
//! reading it is most of the work.

use super::sharing::{SMALL, parallel_product};
use super::tile::Tier;
use super::{Matrix, MatrixMut, Start};
use crate::Precision;
use crate::vector::{add, fma, vectorized};
use rayon::prelude::*;
use std::ops::Range;

/// Up to this many rows are few. Each row's numbers then are the same bits whatever stands in the others.
pub(crate) const FEW_ROWS: usize = 64;

/// From this many rows on tiles are faster, which hold the sums of several rows while they read the large matrix.
const TILED: usize = 8;

/// Rows of the large matrix that are read side by side: as many streams as processors foresee.
const STREAMS: usize = 8;

/// Columns whose numbers of so many rows stay in the nearest cache until each row of the result has them.
const NEAR: usize = 512;

/// `dst = bias + a b` for an `a` of few rows, shared out between threads by columns.
///
/// # Shapes
/// - `a`: `[m, k]`, `b`: `[k, n]`, both row-major, `bias`: `[n]`, `dst`: `[m, n]`; panics if they differ
pub(crate) fn few_rows_product(dst: MatrixMut, bias: &[f32], a: Matrix, b: Matrix, precision: Precision) {
    assert!(
        dst.rows == a.rows && dst.cols == b.cols && a.cols == b.rows && bias.len() == b.cols,
        "shapes of a product"
    );
    let tier = Tier::of(precision);
    if a.rows >= TILED || precision != Precision::F32 {
        return parallel_product(dst, Start::Row(bias), a, b, precision);
    }
    // Runs of each row as long as they can be, for the prefetcher. Where they are cut changes no sum.
    let width = match a.rows * a.cols * b.cols {
        few if few < SMALL => b.cols.max(1),
        _ => b.cols.div_ceil(rayon::current_num_threads()).max(96).next_multiple_of(tier.columns()),
    };
    dst.column_pieces(width).into_par_iter().enumerate().with_max_len(1).for_each(|(i, mut dst)| {
        let (first, columns) = (i * width, dst.cols);
        let mut total = bias[first..first + columns].repeat(a.rows);
        let mut sums = vec![0.0; total.len()];
        // Summed as tiles do, so that a row has the same bits among more rows.
        for block in (0..a.cols).step_by(tier.block) {
            sums.fill(0.0);
            let block = block..(block + tier.block).min(a.cols);
            for step in block.clone().step_by(STREAMS) {
                let rows = std::array::from_fn(|i| &b.row((step + i).min(block.end - 1))[first..first + columns]);
                add_rows(&mut sums, columns, a, step..(step + STREAMS).min(block.end), rows);
            }
            add(&mut total, &sums);
        }
        for (row, total) in total.chunks_exact(columns).enumerate() {
            dst.put(row, 0, total);
        }
    });
}

/// Adds to the sums of each row of `a`, `columns` each, what `steps` of them add, of which these are the rows of the
/// right operand. Where steps are missing the last stands for them.
fn add_rows(sums: &mut [f32], columns: usize, a: Matrix, steps: Range<usize>, rows: [&[f32]; STREAMS]) {
    for near in (0..columns).step_by(NEAR) {
        let near = near..(near + NEAR).min(columns);
        let rows = rows.map(|row| &row[near.clone()]);
        for (i, sums) in sums.chunks_exact_mut(columns).enumerate() {
            let (sums, factors) = (&mut sums[near.clone()], &a.row(i)[steps.clone()]);
            match factors.first_chunk() {
                Some(factors) => add_each(sums, factors, rows),
                None => factors.iter().zip(rows).for_each(|(factor, row)| add_one(sums, *factor, row)),
            }
        }
    }
}

vectorized! {
    /// Adds rows times their factors to `sums`, one after another.
    fn add_each(sums: &mut [f32], factors: &[f32; 8], rows: [&[f32]; 8]) {
        let rows = rows.map(|row| &row[..sums.len()]);
        let (whole, rest) = sums.as_chunks_mut::<16>();
        let of_rows = rows.map(|row| &row.as_chunks::<16>().0[..whole.len()]);
        for (at, sums) in whole.iter_mut().enumerate() {
            let mut lanes = *sums;
            for (factor, row) in factors.iter().zip(of_rows) {
                for (lane, value) in lanes.iter_mut().zip(&row[at]) {
                    *lane = fma::<F>(*factor, *value, *lane);
                }
            }
            *sums = lanes;
        }
        for (at, sum) in (16 * whole.len()..).zip(rest) {
            *sum = factors.iter().zip(rows).fold(*sum, |sum, (factor, row)| fma::<F>(*factor, row[at], sum));
        }
    }

    /// The same with one row.
    fn add_one(sums: &mut [f32], factor: f32, row: &[f32]) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum = fma::<F>(factor, *value, *sum);
        }
    }
}

/// Rows of a table whose inner products are taken together.
const TOGETHER: usize = 8;

/// Rows of a table for one thread at a time.
const PIECE: usize = 16 * TOGETHER;

/// The inner product of each of few rows with each row of a table, `[m, n]`, shared out between threads.
///
/// # Shapes
/// - `x`: `[m, k]`, `table`: `[n, k]`, both row-major without gaps, `k` at least 1; panics if they do not divide evenly
pub(crate) fn inner_products(x: &[f32], table: &[f32], k: usize) -> Vec<f32> {
    assert!(k > 0 && x.len().is_multiple_of(k) && table.len().is_multiple_of(k), "rows of {k} numbers");
    let (m, n) = (x.len() / k, table.len() / k);
    let mut y = vec![0.0; m * n];
    let pieces = MatrixMut::new(&mut y, m, n).column_pieces(PIECE);
    pieces.into_par_iter().zip(table.par_chunks(PIECE * k)).for_each(|(mut y, table)| {
        for (i, table) in table.chunks(TOGETHER * k).enumerate() {
            let rows = table.len() / k;
            // The last group may be short: its last row then stands for those that are missing.
            let group = std::array::from_fn(|row| &table[row.min(rows - 1) * k..][..k]);
            for (of_three, x) in x.chunks(3 * k).enumerate() {
                let mut of_rows = x.chunks_exact(k);
                let mut next = || of_rows.next().unwrap_or(x);
                let sums = match x.len() / k {
                    1 => [with_rows([next()], group)[0], [0.0; TOGETHER], [0.0; TOGETHER]],
                    2 => {
                        let [first, second] = with_rows([next(), next()], group);
                        [first, second, [0.0; TOGETHER]]
                    }
                    _ => with_rows([next(), next(), next()], group),
                };
                for (row, sums) in (3 * of_three..m).zip(&sums) {
                    y.put(row, i * TOGETHER, &sums[..rows]);
                }
            }
        }
    });
    y
}

/// The inner products of rows with each of a group.
fn with_rows<const M: usize>(x: [&[f32]; M], group: [&[f32]; TOGETHER]) -> [[f32; TOGETHER]; M] {
    #[cfg(target_arch = "x86_64")]
    {
        if crate::vector::avx512() {
            // SAFETY: the processor has the instructions.
            return unsafe { super::avx512::inner_products(x, group) };
        }
        if crate::vector::avx2() {
            // SAFETY: as above.
            return unsafe { super::avx2::inner_products(x, group) };
        }
    }
    x.map(|x| with_each(x, group))
}

vectorized! {
    /// The inner products of `x` with each of `group`, all as long as it.
    fn with_each(x: &[f32], group: [&[f32]; 8]) -> [f32; 8] {
        let group = group.map(|row| &row[..x.len()]);
        let whole = x.len() / 16;
        let (of_x, rest) = x.as_chunks::<16>();
        let of_group = group.map(|row| &row.as_chunks::<16>().0[..whole]);
        let mut lanes = [[0f32; 16]; 8];
        for (i, x) in of_x.iter().enumerate() {
            for (lanes, row) in lanes.iter_mut().zip(of_group) {
                for (lane, (x, value)) in lanes.iter_mut().zip(x.iter().zip(&row[i])) {
                    *lane = fma::<F>(*x, *value, *lane);
                }
            }
        }
        std::array::from_fn(|j| {
            let tail = rest.iter().zip(&group[j][whole * 16..]).fold(0.0, |sum, (x, value)| fma::<F>(*x, *value, sum));
            lanes[j].iter().sum::<f32>() + tail
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::random;
    use crate::product::{buffer, written};

    /// Rows, summed side, columns: off every width, and beyond a strip.
    const SHAPES: [[usize; 3]; 7] =
        [[1, 1, 1], [1, 3, 5], [2, 17, 200], [3, 515, 49], [7, 768, 777], [16, 130, 1201], [64, 33, 640]];

    fn product(x: &[f32], w: &[f32], b: &[f32], [m, k, n]: [usize; 3], precision: Precision) -> Vec<f32> {
        let mut y = buffer(m * n);
        let (x, w) = (Matrix::new(x, m, k), Matrix::new(w, k, n));
        few_rows_product(MatrixMut::uninit(&mut y, m, n), b, x, w, precision);
        // SAFETY: the product writes all.
        unsafe { written(y) }
    }

    fn assert_close(y: &[f32], exact: impl Fn(usize) -> f64, tolerance: f64, what: &str) {
        for (i, y) in y.iter().enumerate() {
            let exact = exact(i);
            assert!((*y as f64 - exact).abs() <= tolerance * (1.0 + exact.abs()), "{what} at {i}: {y} for {exact}");
        }
    }

    #[test]
    fn few_rows_give_the_sum_in_f64() {
        for [m, k, n] in SHAPES {
            let (x, w, b) = (random(&[m, k], 1).values, random(&[k, n], 2).values, random(&[n], 3).values);
            let exact = |i: usize| {
                let (row, column) = (i / n, i % n);
                b[column] as f64 + (0..k).map(|j| x[row * k + j] as f64 * w[j * n + column] as f64).sum::<f64>()
            };
            for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Bf16, 3e-2)] {
                let y = product(&x, &w, &b, [m, k, n], precision);
                let tolerance = tolerance * (k as f64).sqrt();
                assert_close(&y, exact, tolerance, &format!("{m} {k} {n} {precision:?}"));
            }
        }
    }

    #[test]
    fn inner_products_give_the_sum_in_f64_with_and_without_wide_vectors() {
        for [m, k, n] in SHAPES {
            let (x, table) = (random(&[m, k], 1).values, random(&[n, k], 2).values);
            let exact =
                |i: usize| -> f64 { (0..k).map(|j| x[i / n * k + j] as f64 * table[i % n * k + j] as f64).sum() };
            let tolerance = 1e-5 * (k as f64).sqrt();
            assert_close(&inner_products(&x, &table, k), exact, tolerance, &format!("{m} {k} {n}"));
            let group = std::array::from_fn(|row| &table[row.min(n - 1) * k..][..k]);
            let y = with_each(&x[..k], group);
            assert_close(&y, |row| exact(row.min(n - 1)), tolerance, &format!("one group of {k} {n}"));
        }
    }

    #[test]
    fn a_row_is_the_same_bits_among_others_and_on_any_number_of_threads() {
        let [m, k, n] = [13, 700, 1301];
        let (x, w, b) = (random(&[m, k], 1).values, random(&[k, n], 2).values, random(&[n], 3).values);
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let all = [Precision::F32, Precision::Bf16, Precision::F16];
        let together = all.map(|precision| product(&x, &w, &b, [m, k, n], precision));
        let of_table = inner_products(&x, &w, k);
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
            pool.install(|| {
                for row in 0..m {
                    let x = &x[row * k..][..k];
                    for (precision, together) in all.into_iter().zip(&together) {
                        let alone = product(x, &w, &b, [1, k, n], precision);
                        let among = &together[row * n..][..n];
                        assert_eq!(bits(&alone), bits(among), "row {row} on {threads} threads, {precision:?}");
                    }
                    let alone = inner_products(x, &w, k);
                    assert_eq!(bits(&alone), bits(&of_table[row * n..][..n]), "row {row} on {threads} threads");
                }
            });
        }
    }
}
