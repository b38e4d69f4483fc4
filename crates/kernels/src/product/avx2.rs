//! The product with AVX2 and FMA: tiles of six rows and two vectors.

// Indices name registers: the loops are unrolled, and an iterator would hide which.
#![allow(clippy::needless_range_loop)]

use super::portable::{self, BF16, F16, FULL};
use super::tile::{Area, Operand, Pack, Tier, Tile};
use std::arch::x86_64::*;

const LANES: usize = 8;
const ROWS: usize = 6;

static TILES: [&[Tile]; ROWS] = [
    &[tile::<1, 1>, tile::<1, 2>],
    &[tile::<2, 1>, tile::<2, 2>],
    &[tile::<3, 1>, tile::<3, 2>],
    &[tile::<4, 1>, tile::<4, 2>],
    &[tile::<5, 1>, tile::<5, 2>],
    &[tile::<6, 1>, tile::<6, 2>],
];

const fn tier(pack: Pack, in_place: bool) -> Tier {
    Tier::plain(ROWS, LANES, &TILES, pack, in_place)
}

pub(super) static F32: Tier = tier(portable::pack::<{ FULL }>, true);
pub(super) static ROUNDED_BF16: Tier = tier(portable::pack::<{ BF16 }>, false);
pub(super) static ROUNDED_F16: Tier = tier(portable::pack::<{ F16 }>, false);

/// SAFETY: see [`Tile`].
#[target_feature(enable = "avx2,fma")]
unsafe fn tile<const M: usize, const V: usize>(steps: usize, left: Operand, right: Operand, area: Area) {
    let Area { start: dst, stride, columns, base, .. } = area;
    // Lanes of the last vector that hold a column.
    let last = (columns - LANES * (V - 1)) as i32;
    let lane_numbers = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    let masks: [__m256i; V] = std::array::from_fn(|vector| {
        let used = if vector + 1 == V { last } else { LANES as i32 };
        _mm256_cmpgt_epi32(_mm256_set1_epi32(used), lane_numbers)
    });
    let mut sums = [[_mm256_setzero_ps(); V]; M];
    let (mut left_at, mut right_at) = (left.start, right.start);
    for _ in 0..steps {
        // SAFETY: each step of the right operand holds `columns` numbers, and the masks read no more; each step of
        // the left one holds M rows. The pointers move on by wrapping, and are read only inside the steps.
        unsafe {
            let mut row = [_mm256_setzero_ps(); V];
            for vector in 0..V {
                row[vector] = _mm256_maskload_ps(right_at.wrapping_add(vector * LANES), masks[vector]);
            }
            for i in 0..M {
                let factor = _mm256_set1_ps(*left_at.add(i * left.across));
                for vector in 0..V {
                    sums[i][vector] = _mm256_fmadd_ps(factor, row[vector], sums[i][vector]);
                }
            }
        }
        left_at = left_at.wrapping_add(left.along);
        right_at = right_at.wrapping_add(right.along);
    }
    for i in 0..M {
        for vector in 0..V {
            // SAFETY: `dst` and `base` hold M rows of `columns` numbers, and the masks touch no more.
            unsafe {
                let sum = match base {
                    None => sums[i][vector],
                    Some(base) => {
                        let before = base.start.wrapping_add(i * base.stride + vector * LANES);
                        _mm256_add_ps(sums[i][vector], _mm256_maskload_ps(before, masks[vector]))
                    }
                };
                _mm256_maskstore_ps(dst.wrapping_add(i * stride + vector * LANES), masks[vector], sum);
            }
        }
    }
}
