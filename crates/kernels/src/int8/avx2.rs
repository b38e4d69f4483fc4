//! Sums of eight-bit products with AVX2, on pairs of 16-bit numbers.

// Indices name registers: the loops are unrolled, and an iterator would hide which.
#![allow(clippy::needless_range_loop)]

use super::{DEPTH, GROUP, GROUP_BYTES, Int8Rows, PANEL};
use std::arch::x86_64::*;

/// Channels of a vector of sums.
const LANES: usize = 8;

/// As [`super::panel_sums`], for at most six rows.
#[target_feature(enable = "avx2,fma")]
pub(super) fn panel_sums(weights: &[u8], x: &Int8Rows, first: usize, sums: &mut [[f32; PANEL]]) {
    // The more rows, the fewer channels at a time: their sums stay in registers.
    match sums.len() {
        0 => {}
        1 => rows::<1, 4>(weights, x, first, sums),
        2 => rows::<2, 2>(weights, x, first, sums),
        3 => rows::<3, 1>(weights, x, first, sums),
        4 => rows::<4, 1>(weights, x, first, sums),
        5 => rows::<5, 1>(weights, x, first, sums),
        6 => rows::<6, 1>(weights, x, first, sums),
        more => unreachable!("{more} rows at a time"),
    }
}

/// `V` vectors of channels at a time.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn rows<const M: usize, const V: usize>(weights: &[u8], x: &Int8Rows, first: usize, sums: &mut [[f32; PANEL]]) {
    let len = x.groups * GROUP;
    let of_rows: [&[i16]; M] = std::array::from_fn(|i| &x.wide[(first + i) * len..][..len]);
    assert!(sums.len() == M && weights.len() == x.groups * GROUP_BYTES);
    for channel in (0..PANEL).step_by(V * LANES) {
        let mut totals = [[_mm256_setzero_ps(); V]; M];
        for group in 0..x.groups {
            // Of each channel two sums, side by side: four channels in one vector, four in the next.
            let mut halves = [[[_mm256_setzero_si256(); 2]; V]; M];
            for step in 0..GROUP / DEPTH {
                // SAFETY: four weights of each channel of the panel for each step of each group, and four activations
                // of each row.
                unsafe {
                    let at = weights.as_ptr().add(group * GROUP_BYTES + (step * PANEL + channel) * DEPTH);
                    let mut of_step = [[_mm256_setzero_si256(); 2]; V];
                    for vector in 0..V {
                        for half in 0..2 {
                            let sixteen = _mm_loadu_si128(at.add((vector * 2 + half) * 16).cast());
                            of_step[vector][half] = _mm256_cvtepu8_epi16(sixteen);
                        }
                    }
                    for i in 0..M {
                        let four = of_rows[i].as_ptr().add(group * GROUP + step * DEPTH).cast::<i64>();
                        let four = _mm256_set1_epi64x(four.read_unaligned());
                        for vector in 0..V {
                            for half in 0..2 {
                                let products = _mm256_madd_epi16(of_step[vector][half], four);
                                halves[i][vector][half] = _mm256_add_epi32(halves[i][vector][half], products);
                            }
                        }
                    }
                }
            }
            for i in 0..M {
                let offset = _mm256_set1_epi32(x.offsets[(first + i) * x.groups + group]);
                let scale = _mm256_set1_ps(x.scales[(first + i) * x.groups + group]);
                for vector in 0..V {
                    let [low, high] = halves[i][vector];
                    // Channels 0, 1, 4, 5 and 2, 3, 6, 7; then in order.
                    let whole = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(low, high));
                    let exact = _mm256_cvtepi32_ps(_mm256_add_epi32(whole, offset));
                    totals[i][vector] = _mm256_fmadd_ps(exact, scale, totals[i][vector]);
                }
            }
        }
        for (sums, totals) in sums.iter_mut().zip(totals) {
            for vector in 0..V {
                // SAFETY: a vector of channels of the panel.
                unsafe { _mm256_storeu_ps(sums.as_mut_ptr().add(channel + vector * LANES), totals[vector]) };
            }
        }
    }
}
