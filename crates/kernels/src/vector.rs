//! Loops over rows of numbers, compiled for AVX-512, for AVX2 with FMA, and portably; chosen at run time.
//!
//! Sums run over sixteen lanes that are added in a fixed order at the end, whatever the width of the processor's vectors.

pub(crate) mod gelu;
mod instructions;

pub(crate) use gelu::*;
pub(crate) use instructions::*;

use std::mem::MaybeUninit;

/// `e^x` with a relative error below 2e-7; zero below -86.6 (where it is under 3e-38), infinite where f32 ends.
///
/// Splits `x` into `n ln 2 + r` with `|r| <= ln 2 / 2` and takes the Taylor polynomial of degree 7 in `r`.
#[inline(always)]
fn exp<const F: bool>(x: f32) -> f32 {
    // Adding it rounds a small number to an integer, which then stands in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    // Comparisons that are false for NaN leave it as it is.
    let y = if x > 89.0 { 89.0 } else { x };
    let y = if y < -86.6 { -86.6 } else { y };
    let t = fma::<F>(y, std::f32::consts::LOG2_E, ROUND);
    let n = t - ROUND;
    let r = fma::<F>(n, -0.693_145_75, y);
    let r = fma::<F>(n, -1.428_606_8e-6, r);
    let mut p = 1.0 / 5040.0;
    p = fma::<F>(p, r, 1.0 / 720.0);
    p = fma::<F>(p, r, 1.0 / 120.0);
    p = fma::<F>(p, r, 1.0 / 24.0);
    p = fma::<F>(p, r, 1.0 / 6.0);
    p = fma::<F>(p, r, 0.5);
    p = fma::<F>(p, r, 1.0);
    p = fma::<F>(p, r, 1.0);
    // 2^(n - 1), because 2^n itself would overflow before e^x does.
    let half_scale = f32::from_bits(t.to_bits().wrapping_add(126) << 23);
    let result = (p + p) * half_scale;
    if x < -86.6 { 0.0 } else { result }
}

/// Layer normalization with the mean and one over the deviation known; writes every number of `y`.
#[inline(always)]
fn scale_and_shift<const F: bool>(
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    mean: f32,
    inverse: f32,
    y: &mut [MaybeUninit<f32>],
) {
    let n = x.len();
    let (y, gamma, beta) = (&mut y[..n], &gamma[..n], &beta[..n]);
    for i in 0..n {
        y[i].write(fma::<F>((x[i] - mean) * inverse, gamma[i], beta[i]));
    }
}

/// The hash of a place, by which dropout decides: a Weyl sequence (so that places far apart by a power of two differ in
/// many bits), then two rounds of multiply and xor-shift with constants of Wellons' search for low-bias integer hashes.
#[inline(always)]
fn hash(place: u32, keys: [u32; 2]) -> u32 {
    let x = place.wrapping_mul(0x9e37_79b9) ^ keys[0];
    let x = (x ^ (x >> 16)).wrapping_mul(0x21f0_aaad).wrapping_add(keys[1]);
    let x = (x ^ (x >> 15)).wrapping_mul(0x735a_2d97);
    x ^ (x >> 15)
}

/// The sum of what `term` makes of the numbers at each place of several rows of one length.
#[inline(always)]
fn sum<const N: usize>(rows: [&[f32]; N], term: impl Fn([f32; N]) -> f32) -> f32 {
    // Over arrays: a loop whose index might be out of bounds is not vectorized.
    let rows = rows.map(|row| row[..rows[0].len()].as_chunks::<16>());
    let mut lanes = [0f32; 16];
    for chunk in 0..rows[0].0.len() {
        let chunks = rows.map(|(chunks, _)| &chunks[chunk]);
        for (lane, total) in lanes.iter_mut().enumerate() {
            *total += term(chunks.map(|chunk| chunk[lane]));
        }
    }
    let mut total = join_lanes(&mut lanes, |a, b| a + b);
    for i in 0..rows[0].1.len() {
        total += term(rows.map(|(_, rest)| rest[i]));
    }
    total
}

/// The lanes joined: halves, again and again, which takes fewer steps than one lane after another. A function of its own,
/// because the compiler cuts the loop before it into as narrow vectors as the last of these steps where it sees them.
#[inline(never)]
fn join_lanes(lanes: &mut [f32; 16], join: impl Fn(f32, f32) -> f32) -> f32 {
    for half in [8, 4, 2, 1] {
        let (low, high) = lanes.split_at_mut(half);
        for (low, high) in low.iter_mut().zip(high) {
            *low = join(*low, *high);
        }
    }
    lanes[0]
}

/// `count` or more of `most` numbers: whole vectors, if there are enough. What does not fill a vector takes as long as
/// several.
#[inline(always)]
fn whole_vectors(count: usize, most: usize) -> usize {
    count.next_multiple_of(16).min(most)
}

/// The largest number; NaN is passed over (the exponentials that follow bring it back).
#[inline(always)]
fn largest(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (chunks, rest) = x.as_chunks::<16>();
    for chunk in chunks {
        for (most, value) in lanes.iter_mut().zip(chunk) {
            *most = larger(*most, *value);
        }
    }
    rest.iter().fold(join_lanes(&mut lanes, larger), |most, value| larger(most, *value))
}

/// The larger number, the first if the second is NaN.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// The numbers of an update of AdamW, rounded to f32 after every product among them.
#[derive(Clone, Copy)]
pub(crate) struct AdamwNumbers {
    /// What the gradient is multiplied by first.
    pub scale: f32,
    /// How much of the value weight decay leaves.
    pub keep: f32,
    /// Learning rate over the first correction.
    pub rate: f32,
    /// Square root of the second correction.
    pub root: f32,
    /// Keeps the denominator from zero.
    pub eps: f32,
    /// How much stays of the mean of gradients, and how much of the new one comes in.
    pub first: [f32; 2],
    /// The same for their squares.
    pub second: [f32; 2],
}

vectorized! {
    /// `a += b`.
    fn add(a: &mut [f32], b: &[f32]) {
        for (a, b) in a.iter_mut().zip(b) {
            *a += *b;
        }
    }

    /// The inner product.
    fn dot(a: &[f32], b: &[f32]) -> f32 {
        sum([a, b], |[a, b]| a * b)
    }

    /// Replaces the first `visible` scores by the exponentials of `scale` times them, less the largest of these, and the
    /// others by zero; returns the logarithm of what the softmax of the scaled scores is divided by, and the sum of the
    /// exponentials.
    fn exponentials(row: &mut [f32], visible: usize, scale: f32) -> (f32, f32) {
        let (row, hidden) = row.split_at_mut(whole_vectors(visible, row.len()));
        // What fills the last vector up changes neither the largest score nor the sum.
        row[visible..].fill(f32::NEG_INFINITY);
        let most = largest(row) * scale;
        let mut lanes = [0f32; 16];
        let (chunks, rest) = row.as_chunks_mut::<16>();
        for chunk in chunks {
            for (value, lane) in chunk.iter_mut().zip(&mut lanes) {
                *value = exp::<F>(fma::<F>(*value, scale, -most));
                *lane += *value;
            }
        }
        let mut total = join_lanes(&mut lanes, |a, b| a + b);
        for value in rest {
            *value = exp::<F>(fma::<F>(*value, scale, -most));
            total += *value;
        }
        // Also where infinite scores left NaN.
        row[visible..].fill(0.0);
        hidden.fill(0.0);
        (most + total.ln(), total)
    }

    /// From raw scores and the gradient of their softmax: the softmax, and the gradient of the scaled scores' input.
    /// `log_total` is what [`exponentials`] returned, `along` the inner product of softmax and gradient.
    fn softmax_backward(scores: &mut [f32], gradient: &mut [f32], visible: usize, scale: f32, log_total: f32, along: f32) {
        let vectors = whole_vectors(visible, scores.len());
        for (p, g) in scores[..vectors].iter_mut().zip(gradient[..vectors].iter_mut()) {
            let weight = exp::<F>(fma::<F>(*p, scale, -log_total));
            *p = weight;
            *g = weight * (*g - along) * scale;
        }
        scores[visible..].fill(0.0);
        gradient[visible..].fill(0.0);
    }

    /// `y = (x - mean) / deviation * gamma + beta`, every number written; returns the mean and one over the deviation.
    fn normalize(x: &[f32], gamma: &[f32], beta: &[f32], epsilon: f32, y: &mut [MaybeUninit<f32>]) -> (f32, f32) {
        let n = x.len();
        let mean = sum([x], |[x]| x) / n as f32;
        let variance = sum([x], |[x]| (x - mean) * (x - mean)) / n as f32;
        let inverse = 1.0 / (variance + epsilon).sqrt();
        scale_and_shift::<F>(x, gamma, beta, mean, inverse, y);
        (mean, inverse)
    }

    /// The same with the mean and one over the deviation that it returned.
    fn normalize_again(x: &[f32], gamma: &[f32], beta: &[f32], mean: f32, inverse: f32, y: &mut [MaybeUninit<f32>]) {
        scale_and_shift::<F>(x, gamma, beta, mean, inverse, y);
    }

    /// Writes every number of `dx`, adds to `dgamma` and `dbeta`.
    fn normalize_backward(
        x: &[f32], dy: &[f32], gamma: &[f32], mean: f32, inverse: f32,
        dx: &mut [MaybeUninit<f32>], dgamma: &mut [f32], dbeta: &mut [f32],
    ) {
        let n = x.len();
        let (dy, gamma, dx) = (&dy[..n], &gamma[..n], &mut dx[..n]);
        let (dgamma, dbeta) = (&mut dgamma[..n], &mut dbeta[..n]);
        let level = sum([dy, gamma], |[dy, gamma]| dy * gamma) / n as f32;
        let tilt = sum([x, dy, gamma], |[x, dy, gamma]| dy * gamma * ((x - mean) * inverse)) / n as f32;
        for i in 0..n {
            let normal = (x[i] - mean) * inverse;
            dx[i].write(inverse * (dy[i] * gamma[i] - level - normal * tilt));
            dgamma[i] += dy[i] * normal;
            dbeta[i] += dy[i];
        }
    }

    /// The logarithm of the sum of the exponentials.
    fn log_sum_exp(x: &[f32]) -> f32 {
        let most = largest(x);
        most + sum([x], |[x]| exp::<F>(x - most)).ln()
    }

    /// The first place of the largest number; a NaN is never the largest.
    fn first_largest(x: &[f32]) -> usize {
        let most = largest(x);
        x.iter().position(|value| *value == most).unwrap_or(0)
    }

    /// The sum.
    fn total(x: &[f32]) -> f32 {
        sum([x], |[x]| x)
    }

    /// Replaces logits by `weight` times their softmax, less `share`.
    fn weighted_softmax(x: &mut [f32], log_total: f32, weight: f32, share: f32) {
        for value in x.iter_mut() {
            *value = fma::<F>(exp::<F>(*value - log_total), weight, -share);
        }
    }

    /// Multiplies by zero the numbers whose place hashes below `threshold`, the others by `scale`; places count from
    /// `first`.
    fn drop_in_place(x: &mut [f32], first: u32, keys: [u32; 2], threshold: u32, scale: f32) {
        for (i, value) in x.iter_mut().enumerate() {
            let stays = hash(first.wrapping_add(i as u32), keys) >= threshold;
            *value *= if stays { scale } else { 0.0 };
        }
    }

    /// Numbers on (-1, 1) from the hashes of their places.
    fn uniform(x: &mut [f32], keys: [u32; 2]) {
        for (i, value) in x.iter_mut().enumerate() {
            // The upper 23 bits, each at the middle of its step: with the half a float holds them exactly.
            let unit = (hash(i as u32, keys) >> 9) as f32 + 0.5;
            *value = unit * (2.0 / 8_388_608.0) - 1.0;
        }
    }

    /// `a *= factor`.
    fn scale(a: &mut [f32], factor: f32) {
        for a in a.iter_mut() {
            *a *= factor;
        }
    }

    /// The sum of the squares.
    fn squares(a: &[f32]) -> f32 {
        sum([a], |[a]| a * a)
    }

    /// One update of AdamW.
    fn adamw(value: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32], by: AdamwNumbers) {
        let n = value.len();
        let (gradient, first, second) = (&gradient[..n], &mut first[..n], &mut second[..n]);
        for i in 0..n {
            let g = gradient[i] * by.scale;
            first[i] = first[i] * by.first[0] + g * by.first[1];
            second[i] = second[i] * by.second[0] + g * g * by.second[1];
            value[i] = value[i] * by.keep - first[i] * by.rate / (second[i].sqrt() / by.root + by.eps);
        }
    }

    /// Hides the keys of other segments.
    fn hide_other_segments(scores: &mut [f32], segments: &[i32], own: i32) {
        for (score, segment) in scores.iter_mut().zip(segments) {
            *score = if *segment == own { *score } else { f32::NEG_INFINITY };
        }
    }

    /// `y = e^x`.
    #[cfg(test)]
    fn powers_of_e(x: &[f32], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = exp::<F>(*x);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn grid(from: f32, to: f32) -> Vec<f32> {
        (0..=200_003).map(|i| from + (to - from) * (i as f32 / 200_003.0)).collect()
    }

    fn exponential(x: &[f32]) -> Vec<f32> {
        let mut y = vec![0.0; x.len()];
        powers_of_e(x, &mut y);
        y
    }

    #[test]
    fn the_exponential_is_within_its_stated_error_of_f64() {
        let x = grid(-86.5, 88.7);
        for (x, y) in x.iter().zip(exponential(&x)) {
            let exact = (*x as f64).exp();
            assert!((y as f64 - exact).abs() <= 2e-7 * exact, "{x}: {y} for {exact}");
            let portable = exp::<false>(*x);
            assert!((portable as f64 - exact).abs() <= 2e-7 * exact, "{x}: {portable} for {exact} without FMA");
        }
    }

    #[test]
    fn the_exponential_passes_nan_and_ends_in_zero_and_infinity() {
        let y = exponential(&[f32::NAN, f32::INFINITY, 89.0, f32::NEG_INFINITY, -87.0, 0.0, -f32::NAN]);
        assert!(y[0].is_nan() && y[6].is_nan());
        assert_eq!(y[1..6], [f32::INFINITY, f32::INFINITY, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn exponentials_sum_to_what_is_returned_and_a_nan_takes_the_whole_row() {
        for n in [1, 2, 15, 16, 17, 101] {
            let scores: Vec<f32> = (0..n + 3).map(|i| (i as f32 * 1.7).sin() * 9.0).collect();
            let mut row = scores.clone();
            let (log_total, total) = exponentials(&mut row, n, 0.5);
            let exact: f64 = scores[..n].iter().map(|score| (0.5 * *score as f64).exp()).sum();
            assert!((log_total as f64 - exact.ln()).abs() < 1e-6);
            assert!((row.iter().sum::<f32>() - total).abs() < 1e-5 * total);
            let of_first = row[0] as f64 / total as f64;
            assert!((of_first - (0.5 * scores[0] as f64).exp() / exact).abs() < 1e-6);
            assert_eq!(row[n..], [0.0; 3]);
            row[n / 2] = f32::NAN;
            assert!(exponentials(&mut row, n, 0.5).1.is_nan());
        }
    }
}
