//! Sums of eight-bit products with AVX-512-VNNI.

// Indices name registers: the loops are unrolled, and an iterator would hide which.
#![allow(clippy::needless_range_loop)]

use super::{DEPTH, GROUP, GROUP_BYTES, Int8Rows, PANEL};
use std::arch::x86_64::*;

/// Whether the processor has the instructions.
pub(super) fn available() -> bool {
    crate::vector::avx512() && std::is_x86_feature_detected!("avx512vnni")
}

/// As [`super::panel_sums`], for at most six rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) fn panel_sums(weights: &[u8], x: &Int8Rows, first: usize, sums: &mut [[f32; PANEL]]) {
    match sums.len() {
        0 => {}
        1 => rows::<1>(weights, x, first, sums),
        2 => rows::<2>(weights, x, first, sums),
        3 => rows::<3>(weights, x, first, sums),
        4 => rows::<4>(weights, x, first, sums),
        5 => rows::<5>(weights, x, first, sums),
        6 => rows::<6>(weights, x, first, sums),
        more => unreachable!("{more} rows at a time"),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn rows<const M: usize>(weights: &[u8], x: &Int8Rows, first: usize, sums: &mut [[f32; PANEL]]) {
    let of_rows: [&[i8]; M] = std::array::from_fn(|i| x.row(first + i));
    assert!(sums.len() == M && weights.len() == x.groups * GROUP_BYTES);
    let mut totals = [[_mm512_setzero_ps(); 2]; M];
    for group in 0..x.groups {
        let mut exact = [[_mm512_setzero_si512(); 2]; M];
        for i in 0..M {
            exact[i] = [_mm512_set1_epi32(x.offsets[(first + i) * x.groups + group]); 2];
        }
        for step in 0..GROUP / DEPTH {
            // SAFETY: there are two vectors of weights for each step of each group, and four activations of each row.
            unsafe {
                let at = weights.as_ptr().add(group * GROUP_BYTES + step * DEPTH * PANEL).cast::<__m512i>();
                let of_step = [_mm512_loadu_si512(at), _mm512_loadu_si512(at.add(1))];
                for i in 0..M {
                    let four = of_rows[i].as_ptr().add(group * GROUP + step * DEPTH).cast::<i32>();
                    let four = _mm512_set1_epi32(four.read_unaligned());
                    for half in 0..2 {
                        exact[i][half] = _mm512_dpbusd_epi32(exact[i][half], of_step[half], four);
                    }
                }
            }
        }
        for i in 0..M {
            let scale = _mm512_set1_ps(x.scales[(first + i) * x.groups + group]);
            for half in 0..2 {
                totals[i][half] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(exact[i][half]), scale, totals[i][half]);
            }
        }
    }
    for (sums, totals) in sums.iter_mut().zip(totals) {
        for half in 0..2 {
            // SAFETY: the sums are two vectors.
            unsafe { _mm512_storeu_ps(sums.as_mut_ptr().add(16 * half), totals[half]) };
        }
    }
}
