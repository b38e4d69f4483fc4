//! GELU, its tanh approximation and with the error function, forward and backward.
//!
//! Source: Hendrycks and Gimpel 2016, "Gaussian Error Linear Units".

use super::{exp, fma, vectorized};
use std::mem::MaybeUninit;

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
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::vector::tests::grid;

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
}
