use super::*;

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919 % 101) as f32 - 50.0) / 25.0).collect()
}

const SHAPES: [[usize; 3]; 13] = [
    [1, 1, 1],
    [3, 5, 7],
    [8, 16, 48],
    [9, 17, 49],
    [300, 17, 2],
    [2, 31, 700],
    [1, 1031, 65],
    [67, 1100, 97],
    [257, 129, 131],
    [40, 513, 33],
    [7, 1025, 3],
    [5, 0, 9],
    [67, 200, 197],
];

/// The matrix, or the transpose of one stored the other way round.
fn stored(values: &[f32], rows: usize, cols: usize, transposed: bool, memory: &mut Vec<f32>) -> bool {
    *memory = match transposed {
        false => values.to_vec(),
        true => (0..rows * cols).map(|i| values[(i % rows) * cols + i / rows]).collect(),
    };
    transposed
}

fn matrix(memory: &[f32], rows: usize, cols: usize, transposed: bool) -> Matrix<'_> {
    if transposed { Matrix::new(memory, cols, rows).t() } else { Matrix::new(memory, rows, cols) }
}

fn rounded(values: &[f32], precision: Precision) -> Vec<f64> {
    let round = |value: &f32| match precision {
        Precision::F32 => *value,
        Precision::Bf16 => half::bf16::from_f32(*value).to_f32(),
        Precision::F16 => half::f16::from_f32(*value).to_f32(),
    };
    values.iter().map(|value| round(value) as f64).collect()
}

#[test]
fn every_tier_gives_the_sum_in_f64_for_every_orientation_and_start() {
    for precision in [Precision::F32, Precision::Bf16, Precision::F16] {
        for tier in Tier::all(precision) {
            for [m, k, n] in SHAPES {
                let (a, b, row, before) = (numbers(m * k), numbers(k * n), numbers(n), numbers(m * n));
                let (exact_a, exact_b) = (rounded(&a, precision), rounded(&b, precision));
                let sums: Vec<f64> =
                    (0..m * n).map(|i| (0..k).map(|j| exact_a[i / n * k + j] * exact_b[j * n + i % n]).sum()).collect();
                for orientation in 0..4 {
                    let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
                    let turned_a = stored(&a, m, k, orientation & 1 == 1, &mut of_a);
                    let turned_b = stored(&b, k, n, orientation & 2 == 2, &mut of_b);
                    let (a, b) = (matrix(&of_a, m, k, turned_a), matrix(&of_b, k, n, turned_b));
                    for start in [Start::Zero, Start::Itself, Start::Row(&row)] {
                        let mut dst = before.clone();
                        let (left, right) = (Side::of(tier, Role::Left, a, n), Side::of(tier, Role::Right, b.t(), m));
                        multiply(tier, &mut MatrixMut::new(&mut dst, m, n), start, left, right);
                        for i in 0..m * n {
                            let base = match start {
                                Start::Zero => 0.0,
                                Start::Itself => before[i],
                                Start::Row(row) => row[i % n],
                            };
                            let expected = sums[i] + base as f64;
                            let tolerance = 1e-5 * (1.0 + expected.abs()) * (1.0 + (k as f64).sqrt());
                            let error = (dst[i] as f64 - expected).abs();
                            assert!(error <= tolerance, "{precision:?} {m} {k} {n} {orientation} at {i}: {error}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_product_shared_out_has_the_same_bits_as_one_on_a_single_thread() {
    for precision in [Precision::F32, Precision::Bf16] {
        for [m, k, n] in [[300, 17, 2], [2, 31, 3000], [257, 129, 131], [64, 700, 1000], [500, 1100, 97]] {
            let (a, b, before) = (numbers(m * k), numbers(k * n), numbers(m * n));
            let (a, b) = (Matrix::new(&a, k, m).t(), Matrix::new(&b, n, k).t());
            let mut alone = before.clone();
            product(&mut MatrixMut::new(&mut alone, m, n), Start::Itself, a, b, precision);
            for threads in [1, 2, 5] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
                let mut shared = before.clone();
                pool.install(|| {
                    parallel_product(MatrixMut::new(&mut shared, m, n), Start::Itself, a, b, precision);
                });
                assert!(shared.iter().zip(&alone).all(|(a, b)| a.to_bits() == b.to_bits()), "{m} {k} {n}");
            }
        }
    }
}

#[test]
fn nan_and_infinity_go_through_every_tier() {
    for precision in [Precision::F32, Precision::Bf16, Precision::F16] {
        for tier in Tier::all(precision) {
            for bad in [f32::NAN, f32::INFINITY] {
                let (mut a, b) = (numbers(3 * 5), vec![1.0; 5 * 2]);
                a[7] = bad;
                let mut dst = [0.0; 6];
                let (a, b) = (Matrix::new(&a, 3, 5), Matrix::new(&b, 5, 2));
                let (left, right) = (Side::of(tier, Role::Left, a, 2), Side::of(tier, Role::Right, b.t(), 3));
                multiply(tier, &mut MatrixMut::new(&mut dst, 3, 2), Start::Zero, left, right);
                let finite = dst.map(f32::is_finite);
                assert_eq!(finite, [true, true, false, false, true, true], "{precision:?} {bad}");
            }
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
            let ones = Matrix::new(&ones[..cols], 1, cols);
            product(&mut piece.rows(row..row + 1), Start::Itself, Matrix::new(&one, 1, 1), ones, Precision::F32);
        }
    }
    assert!(data.iter().all(|value| *value == 1.0));
}

#[test]
#[should_panic(expected = "do not fit")]
fn a_view_longer_than_its_slice_is_refused() {
    Matrix::strided(&[0.0; 10], 3, 4, 4);
}

#[test]
fn operands_that_come_in_pieces_give_the_same_bits_as_whole_ones() {
    const HEIGHT: usize = 32;
    for precision in [Precision::F32, Precision::Bf16, Precision::F16] {
        for [k, m, n] in [[1, 1, 1], [31, 9, 5], [100, 40, 50], [450, 67, 130]] {
            let (a, b) = (numbers(k * m), numbers(k * n));
            let (a, b) = (Matrix::new(&a, k, m), Matrix::new(&b, k, n));
            let whole = new_product(a.t(), b, precision);
            let roles = [IncomingRole::LeftTurned([k, m]), IncomingRole::Right([k, n])];
            let came = with_incoming(&roles, precision, |mut operands| {
                let (mut right_operand, mut left_operand) = (operands.remove(1), operands.remove(0));
                // Pieces of pieces.
                let left = left_operand.row_pieces(3 * HEIGHT).into_iter().flat_map(|piece| piece.row_pieces(HEIGHT));
                let right = right_operand.row_pieces(3 * HEIGHT).into_iter().flat_map(|piece| piece.row_pieces(HEIGHT));
                // In another order than they lie in.
                for (i, (left, right)) in left.zip(right).enumerate().collect::<Vec<_>>().into_iter().rev() {
                    let rows = i * HEIGHT..((i + 1) * HEIGHT).min(k);
                    left.put(a.rows(rows.clone()));
                    right.put(b.rows(rows));
                }
                // SAFETY: all of their rows have come.
                let operands = unsafe { (left_operand.left(), right_operand.right()) };
                new_products(&[Some(operands)]).remove(0).unwrap()
            });
            let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
            assert_eq!(bits(whole), bits(came), "{precision:?} {k} {m} {n}");
        }
    }
}

#[test]
#[should_panic(expected = "rows of a piece")]
fn a_piece_with_too_few_rows_is_refused() {
    with_incoming(&[IncomingRole::Right([40, 3])], Precision::F32, |mut operands| {
        operands[0].row_pieces(32).remove(0).put(Matrix::new(&[0.0; 93], 31, 3));
    });
}

/// What this processor would not run otherwise.
#[test]
fn processors_with_fewer_instructions_pass_the_same_tests() {
    use crate::vector::INSTRUCTIONS;
    if std::env::var_os(INSTRUCTIONS).is_some() {
        return;
    }
    for instructions in ["avx2", "none"] {
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        again
            .args(["product::", "sublayer::", "attention::tests", "vector::", "int8::"])
            .env(INSTRUCTIONS, instructions);
        let output = again.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("sublayers_together_equal"), "{instructions}: {said}");
    }
}
