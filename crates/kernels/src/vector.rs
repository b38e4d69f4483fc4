//! Loops over rows of numbers, compiled for AVX-512, for AVX2 with FMA, and portably; chosen at run time.
//!
//! Sums run over sixteen lanes that are added in a fixed order at the end, whatever the width of the processor's vectors.

use std::mem::MaybeUninit;

/// Compiles one body for each instruction set. Inside it `F` tells [`fma`] whether a fused multiply-add is cheap.
macro_rules! vectorized {
    ($($(#[$doc:meta])* fn $name:ident($($a:ident: $t:ty),* $(,)?) $(-> $r:ty)? $body:block)*) => {$(
        $(#[$doc])*
        #[inline]
        #[allow(clippy::too_many_arguments)]
        pub(crate) fn $name($($a: $t),*) $(-> $r)? {
            #[inline(always)]
            fn body<const F: bool>($($a: $t),*) $(-> $r)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")]
                fn wide($($a: $t),*) $(-> $r)? { body::<true>($($a),*) }
                #[target_feature(enable = "avx2,fma")]
                fn narrow($($a: $t),*) $(-> $r)? { body::<true>($($a),*) }
                if $crate::vector::avx512() {
                    // SAFETY: the processor has every instruction set the function is compiled for.
                    return unsafe { wide($($a),*) };
                }
                if $crate::vector::avx2() {
                    // SAFETY: as above.
                    return unsafe { narrow($($a),*) };
                }
            }
            body::<{ cfg!(target_arch = "aarch64") }>($($a),*)
        }
    )*};
}
pub(crate) use vectorized;

/// The variable that has the tests of this crate run again as on a processor with fewer instructions: "avx2" or "none".
#[cfg(test)]
pub(crate) const INSTRUCTIONS: &str = "FIREBOX_TEST_INSTRUCTIONS";

/// Whether an instruction set may be used if the processor has it: not all of them in those tests.
#[cfg(all(test, target_arch = "x86_64"))]
fn allowed(name: &str) -> bool {
    static MOST: std::sync::LazyLock<Option<String>> = std::sync::LazyLock::new(|| std::env::var(INSTRUCTIONS).ok());
    MOST.as_ref().is_none_or(|most| most == name)
}

/// The same elsewhere.
#[cfg(all(not(test), target_arch = "x86_64"))]
const fn allowed(_: &str) -> bool {
    true
}

#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn avx512() -> bool {
    allowed("avx512")
        && std::is_x86_feature_detected!("avx512f")
        && std::is_x86_feature_detected!("avx512dq")
        && std::is_x86_feature_detected!("avx512bw")
        && std::is_x86_feature_detected!("avx512vl")
        && std::is_x86_feature_detected!("avx2")
        && std::is_x86_feature_detected!("fma")
}

#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn avx2() -> bool {
    allowed("avx2") && std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma")
}

/// `a * b + c`. Without the instruction `mul_add` calls the C library, which is slow.
#[inline(always)]
pub(crate) fn fma<const F: bool>(a: f32, b: f32, c: f32) -> f32 {
    if F { a.mul_add(b, c) } else { a * b + c }
}

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

/// sqrt(2 / pi), and the coefficient of the cube.
const GELU_SCALE: f32 = 0.797_884_6;
const GELU_CUBE: f32 = 0.044_715;

/// The sigmoid of `2 u`, `u = sqrt(2 / pi) (x + 0.044715 x^3)`, and `e^(-2 u)`: tanh GELU is `x` times the first.
#[inline(always)]
fn gelu_gate<const F: bool>(x: f32) -> (f32, f32) {
    let u = GELU_SCALE * x * fma::<F>(GELU_CUBE * x, x, 1.0);
    let e = exp::<F>(-2.0 * u);
    (1.0 / (1.0 + e), e)
}

/// The normal distribution's cumulative function, `erfc(-x / sqrt(2)) / 2`, with a relative error below 1e-6 where it
/// is not tiny.
///
/// Source: the fit of `ln(erfc(z) e^(z^2) / t)` in `t = 1 / (1 + z / 2)` of Press et al. 1992, section 6.2.
#[inline(always)]
fn normal_cdf<const F: bool>(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.5 * z);
    let mut p = 0.170_872_77;
    for c in [
        -0.822_152_2,
        1.488_515_9,
        -1.135_204,
        0.278_868_08,
        -0.186_288_06,
        0.096_784_18,
        0.374_091_97,
        1.000_023_7,
        -1.265_512_2,
    ] {
        p = fma::<F>(p, t, c);
    }
    let tail = 0.5 * t * exp::<F>(fma::<F>(-z, z, p));
    if x < 0.0 { tail } else { 1.0 - tail }
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

/// What `gelu` with the error function multiplies its argument by, and its slope.
#[inline(always)]
fn gelu_erf_slope<const F: bool>(u: f32) -> (f32, f32) {
    let (gate, density) = (normal_cdf::<F>(u), 0.398_942_3 * exp::<F>(-0.5 * u * u));
    // An infinite argument has a density of zero, and a product of zero.
    let tail = if density == 0.0 { 0.0 } else { u * density };
    (gate, gate + tail)
}

/// The same of the tanh approximation.
#[inline(always)]
fn gelu_tanh_slope<const F: bool>(u: f32) -> (f32, f32) {
    let (gate, e) = gelu_gate::<F>(u);
    // One less the gate, without cancelling where the gate is close to one.
    let rest = if e > 1.0 { 1.0 - gate } else { e * gate };
    let slope = 2.0 * GELU_SCALE * fma::<F>(3.0 * GELU_CUBE * u, u, 1.0);
    (gate, fma::<F>(u * gate * rest, slope, gate))
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
    /// `y = gelu(u)`, the tanh approximation; writes every number of `y`.
    fn gelu_tanh(u: &[f32], y: &mut [MaybeUninit<f32>]) {
        for (y, u) in y.iter_mut().zip(u) {
            y.write(*u * gelu_gate::<F>(*u).0);
        }
    }

    /// `y = gelu(u)` with the error function; writes every number of `y`.
    fn gelu_erf(u: &[f32], y: &mut [MaybeUninit<f32>]) {
        for (y, u) in y.iter_mut().zip(u) {
            y.write(*u * normal_cdf::<F>(*u));
        }
    }

    /// `du = dy gelu'(u)` with the error function; writes every number of `du`.
    fn gelu_erf_backward(u: &[f32], dy: &[f32], du: &mut [MaybeUninit<f32>]) {
        for ((du, u), dy) in du.iter_mut().zip(u).zip(dy) {
            du.write(*dy * gelu_erf_slope::<F>(*u).1);
        }
    }

    /// The same, and then `dy = gelu(u)`.
    fn gelu_erf_both(u: &[f32], dy: &mut [f32], du: &mut [MaybeUninit<f32>]) {
        for ((du, u), dy) in du.iter_mut().zip(u).zip(dy) {
            let (gate, slope) = gelu_erf_slope::<F>(*u);
            du.write(*dy * slope);
            *dy = *u * gate;
        }
    }

    /// `du = dy gelu'(u)`, the tanh approximation; writes every number of `du`.
    fn gelu_tanh_backward(u: &[f32], dy: &[f32], du: &mut [MaybeUninit<f32>]) {
        for ((du, u), dy) in du.iter_mut().zip(u).zip(dy) {
            du.write(*dy * gelu_tanh_slope::<F>(*u).1);
        }
    }

    /// The same, and then `dy = gelu(u)`.
    fn gelu_tanh_both(u: &[f32], dy: &mut [f32], du: &mut [MaybeUninit<f32>]) {
        for ((du, u), dy) in du.iter_mut().zip(u).zip(dy) {
            let (gate, slope) = gelu_tanh_slope::<F>(*u);
            du.write(*dy * slope);
            *dy = *u * gate;
        }
    }

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

    fn grid(from: f32, to: f32) -> Vec<f32> {
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

    /// A function of `x` and the values it writes.
    fn written(x: &[f32], fill: impl Fn(&[f32], &mut [MaybeUninit<f32>])) -> Vec<f32> {
        let mut y = vec![MaybeUninit::new(0.0); x.len()];
        fill(x, &mut y);
        // SAFETY: initialized to zero.
        y.into_iter().map(|y| unsafe { y.assume_init() }).collect()
    }

    #[test]
    fn gelu_and_its_slope_agree_with_f64() {
        let x = grid(-12.0, 12.0);
        let ones = vec![1.0; x.len()];
        let y = written(&x, gelu_tanh);
        let slope = written(&x, |x, y| gelu_tanh_backward(x, &ones, y));
        let scale = (2.0 / std::f64::consts::PI).sqrt();
        for i in 0..x.len() {
            let v = x[i] as f64;
            let t = (scale * (v + 0.044715 * v * v * v)).tanh();
            let exact = 0.5 * v * (1.0 + t);
            assert!((y[i] as f64 - exact).abs() <= 4e-7 * v.abs().max(1.0), "{v}: {} for {exact}", y[i]);
            let exact = 0.5 * (1.0 + t) + 0.5 * v * (1.0 - t * t) * scale * (1.0 + 3.0 * 0.044715 * v * v);
            assert!((slope[i] as f64 - exact).abs() <= 1e-6, "{v}: slope {} for {exact}", slope[i]);
        }
        let y = written(&[f32::NAN, f32::INFINITY], gelu_tanh);
        assert!(y[0].is_nan() && y[1] == f32::INFINITY);
    }

    /// The normal distribution's cumulative function in f64: Simpson's rule from zero, in steps far below its error.
    pub(crate) fn cumulative(x: f64) -> f64 {
        let density = |t: f64| (-0.5 * t * t).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let steps = 400;
        let h = x / steps as f64;
        let inner: f64 = (1..steps).map(|i| density(i as f64 * h) * if i % 2 == 1 { 4.0 } else { 2.0 }).sum();
        0.5 + h / 3.0 * (density(0.0) + inner + density(x))
    }

    #[test]
    fn gelu_with_the_error_function_and_its_slope_agree_with_f64() {
        let x: Vec<f32> = (0..=1200).map(|i| i as f32 / 100.0 - 6.0).collect();
        let ones = vec![1.0; x.len()];
        let y = written(&x, gelu_erf);
        let slope = written(&x, |x, y| gelu_erf_backward(x, &ones, y));
        for i in 0..x.len() {
            let v = x[i] as f64;
            let density = (-0.5 * v * v).exp() / (2.0 * std::f64::consts::PI).sqrt();
            let exact = v * cumulative(v);
            assert!((y[i] as f64 - exact).abs() <= 6e-7 * v.abs().max(1.0), "{v}: {} for {exact}", y[i]);
            let exact = cumulative(v) + v * density;
            assert!((slope[i] as f64 - exact).abs() <= 1e-6, "{v}: slope {} for {exact}", slope[i]);
        }
        let y = written(&[f32::NAN, f32::INFINITY], gelu_erf);
        assert!(y[0].is_nan() && y[1] == f32::INFINITY);
        let slope = written(&[f32::INFINITY, f32::NEG_INFINITY], |x, y| gelu_erf_backward(x, &[1.0; 2], y));
        assert_eq!(slope, [1.0, 0.0]);
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
