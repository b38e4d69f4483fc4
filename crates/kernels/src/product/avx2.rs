//! The product with AVX2 and FMA: tiles of six rows and two vectors.

// Indices name registers: the loops are unrolled, and an iterator would hide which.
#![allow(clippy::needless_range_loop)]

use super::portable::{self, BF16, F16};
use super::tile::{AHEAD, Area, Operand, Pack, Sequences, Tier, Tile, opaque, prefetch};
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
    Tier { together: 4, ..Tier::plain(ROWS, LANES, &TILES, pack, in_place) }
}

pub(super) static F32: Tier = tier(pack, true);
pub(super) static ROUNDED_BF16: Tier = tier(portable::pack::<{ BF16 }>, false);
pub(super) static ROUNDED_F16: Tier = tier(portable::pack::<{ F16 }>, false);

/// SAFETY: see [`Tile`].
#[target_feature(enable = "avx2,fma")]
unsafe fn tile<const M: usize, const V: usize>(steps: usize, left: Operand, right: Operand, area: Area) {
    // Masked stores take many times as long as others on some processors, and only the last columns need them.
    // SAFETY: the caller's.
    unsafe {
        match area.columns == LANES * V {
            true => sum_steps::<M, V, true>(steps, left, right, area),
            false => sum_steps::<M, V, false>(steps, left, right, area),
        }
    }
}

/// SAFETY: see [`Tile`]; `WHOLE` says that the columns fill their vectors.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn sum_steps<const M: usize, const V: usize, const WHOLE: bool>(
    steps: usize,
    left: Operand,
    right: Operand,
    area: Area,
) {
    let Area { start: dst, stride, columns, base, ahead, .. } = area;
    // Of the last vector, where columns do not fill it.
    let mask = mask(columns - LANES * (V - 1));
    let partial = |vector: usize| !WHOLE && vector + 1 == V;
    // The sums' places are wanted when the steps are over: until then their cache lines come.
    for i in 0..M {
        prefetch(dst.wrapping_add(i * stride));
        prefetch(dst.wrapping_add(i * stride + columns - 1));
    }
    let mut sums = [[_mm256_setzero_ps(); V]; M];
    let mut rows = [0; M];
    for i in 0..M {
        rows[i] = opaque(size_of::<f32>() * i * left.across);
    }
    let (mut left_at, mut right_at, mut ahead_at) = (left.start, right.start, ahead.start);
    for _ in 0..steps {
        prefetch(ahead_at);
        // SAFETY: each step of the right operand holds `columns` numbers, and the mask reads no more; each step of
        // the left one holds M rows. The pointers move on by wrapping, and are read only inside the steps.
        unsafe {
            let mut row = [_mm256_setzero_ps(); V];
            for vector in 0..V {
                row[vector] = load(right_at.wrapping_add(vector * LANES), partial(vector), mask);
            }
            for i in 0..M {
                let factor = _mm256_broadcast_ss(&*left_at.byte_add(rows[i]));
                for vector in 0..V {
                    sums[i][vector] = _mm256_fmadd_ps(factor, row[vector], sums[i][vector]);
                }
            }
        }
        left_at = left_at.wrapping_add(left.along);
        right_at = right_at.wrapping_add(right.along);
        ahead_at = ahead_at.wrapping_add(ahead.along);
    }
    for i in 0..M {
        for vector in 0..V {
            // SAFETY: `dst` and `base` hold M rows of `columns` numbers, and the mask touches no more.
            unsafe {
                let sum = match base {
                    None => sums[i][vector],
                    Some(base) => {
                        let before = base.start.wrapping_add(i * base.stride + vector * LANES);
                        _mm256_add_ps(sums[i][vector], load(before, partial(vector), mask))
                    }
                };
                let at = dst.wrapping_add(i * stride + vector * LANES);
                if partial(vector) { _mm256_maskstore_ps(at, mask, sum) } else { _mm256_storeu_ps(at, sum) }
            }
        }
    }
}

/// The lowest `count` lanes, all of them from 8 on.
#[target_feature(enable = "avx2")]
#[inline]
fn mask(count: usize) -> __m256i {
    let lane_numbers = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm256_cmpgt_epi32(_mm256_set1_epi32(count.min(LANES) as i32), lane_numbers)
}

/// Eight numbers, or those that the mask names.
///
/// SAFETY: these lie in one allocation.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn load(at: *const f32, partial: bool, mask: __m256i) -> __m256 {
    // SAFETY: the caller's.
    unsafe { if partial { _mm256_maskload_ps(at, mask) } else { _mm256_loadu_ps(at) } }
}

/// The inner products of each row of `x` with each of `group`, all of one length; panics if they are not.
#[target_feature(enable = "avx2,fma")]
pub(super) fn inner_products<const M: usize>(x: [&[f32]; M], group: [&[f32]; 8]) -> [[f32; 8]; M] {
    let len = x[0].len();
    assert!(x.iter().chain(&group).all(|row| row.len() == len));
    let mut sums = [[_mm256_setzero_ps(); 8]; M];
    // With several rows as many sums as there are registers, and a load for more than one of them.
    // SAFETY: all rows have this length (asserted).
    unsafe {
        if M == 1 {
            sum_lanes::<M, 8>(len, x, group, 0, &mut sums);
        } else {
            sum_lanes::<M, 4>(len, x, group, 0, &mut sums);
            sum_lanes::<M, 4>(len, x, group, 4, &mut sums);
        }
    }
    sums.map(|sums| {
        let mut results = [0.0; 8];
        // SAFETY: the array takes eight numbers.
        unsafe { _mm256_storeu_ps(results.as_mut_ptr(), lane_sums(sums)) };
        results
    })
}

/// Fills, for each row of `x`, the sums of `N` of the group from `first` on.
///
/// SAFETY: the rows have `len` numbers.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn sum_lanes<const M: usize, const N: usize>(
    len: usize,
    x: [&[f32]; M],
    group: [&[f32]; 8],
    first: usize,
    results: &mut [[__m256; 8]; M],
) {
    let mut sums = [[_mm256_setzero_ps(); N]; M];
    let whole = len - len % LANES;
    // Twice, for a mask would take a register that the sums need.
    for at in (0..whole).step_by(LANES) {
        // SAFETY: as many numbers lie inside the rows.
        unsafe { add_products(at, x, group, first, &mut sums, false, _mm256_setzero_si256()) };
    }
    if whole < len {
        // SAFETY: `whole` lies inside the rows, and the mask reads no further than their end.
        unsafe { add_products(whole, x, group, first, &mut sums, true, mask(len - whole)) };
    }
    for i in 0..M {
        results[i][first..first + N].copy_from_slice(&sums[i]);
    }
}

/// Adds what the numbers from `at` on add to the sums.
///
/// SAFETY: the rows have these numbers, eight or those of the mask.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn add_products<const M: usize, const N: usize>(
    at: usize,
    x: [&[f32]; M],
    group: [&[f32]; 8],
    first: usize,
    sums: &mut [[__m256; N]; M],
    partial: bool,
    mask: __m256i,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut of_x = [_mm256_setzero_ps(); M];
        for i in 0..M {
            of_x[i] = load(x[i].as_ptr().add(at), partial, mask);
        }
        for j in 0..N {
            let of_group = load(group[first + j].as_ptr().add(at), partial, mask);
            for i in 0..M {
                sums[i][j] = _mm256_fmadd_ps(of_x[i], of_group, sums[i][j]);
            }
        }
    }
}

/// The sum of the lanes of each vector.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn lane_sums(x: [__m256; 8]) -> __m256 {
    let low = _mm256_hadd_ps(_mm256_hadd_ps(x[0], x[1]), _mm256_hadd_ps(x[2], x[3]));
    let high = _mm256_hadd_ps(_mm256_hadd_ps(x[4], x[5]), _mm256_hadd_ps(x[6], x[7]));
    // Two sums of each of the eight.
    let (first, second) = (_mm256_permute2f128_ps::<0x20>(low, high), _mm256_permute2f128_ps::<0x31>(low, high));
    _mm256_add_ps(first, second)
}

/// SAFETY: see [`Pack`].
#[target_feature(enable = "avx2,fma")]
unsafe fn pack(packed: *mut f32, width: usize, next: usize, source: Sequences) {
    let Sequences { start, across, along, count, depth } = source;
    if along != 1 && across != 1 {
        // SAFETY: the caller's.
        return unsafe { portable::pack::<{ portable::FULL }>(packed, width, next, source) };
    }
    let panels = if next == 0 { 1 } else { count.div_ceil(width) };
    if across == 1 {
        // As many rows at a time as are asked for ahead: their cache lines stay until every panel has its part.
        for steps in (0..depth).step_by(AHEAD).map(|first| first..(first + AHEAD).min(depth)) {
            for panel in 0..panels {
                for w in (0..width).step_by(LANES) {
                    let there = count.saturating_sub(panel * width + w);
                    let (partial, of_sequences) = (there < LANES, mask(there));
                    let from = |step: usize| start.wrapping_add(step * along + panel * width + w);
                    let at = |step: usize| packed.wrapping_add(panel * next + step * width + w);
                    let last = steps.end - 1;
                    for step in steps.start..last {
                        prefetch(from(step + AHEAD));
                        // SAFETY: no sequence but the `count` there are; what is stored beyond a step's `width`
                        // numbers is written again with the step after it.
                        unsafe { _mm256_storeu_ps(at(step), load(from(step), partial, of_sequences)) };
                    }
                    prefetch(from(last + AHEAD));
                    // SAFETY: the same, and `width` numbers for a step.
                    unsafe { store(at(last), width - w, load(from(last), partial, of_sequences)) };
                }
            }
        }
        return;
    }
    for panel in 0..panels {
        for w in (0..width).step_by(LANES) {
            let first = panel * width + w;
            let there = count.saturating_sub(first);
            let packed = packed.wrapping_add(panel * next + w);
            for step in (0..depth).step_by(LANES) {
                let left = depth - step;
                let of_steps = mask(left);
                let mut rows = [_mm256_setzero_ps(); LANES];
                for row in 0..LANES.min(there) {
                    let from = start.wrapping_add((first + row) * across + step);
                    // SAFETY: numbers from `step` on of a sequence that is there, cut at `depth`.
                    rows[row] = unsafe { load(from, left < LANES, of_steps) };
                }
                let columns = transpose(rows);
                for column in 0..LANES.min(left) {
                    // SAFETY: `width` numbers for a step below `depth`.
                    unsafe { store(packed.wrapping_add((step + column) * width), width - w, columns[column]) };
                }
            }
        }
    }
}

/// Stores what eight sequences have for one step, if that many are `wanted`; six otherwise, a tile's rows.
///
/// SAFETY: `at` takes as many.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn store(at: *mut f32, wanted: usize, values: __m256) {
    // SAFETY: the caller's.
    unsafe {
        if wanted >= LANES {
            _mm256_storeu_ps(at, values);
        } else {
            _mm_storeu_ps(at, _mm256_castps256_ps128(values));
            _mm_storel_epi64(at.wrapping_add(4).cast(), _mm_castps_si128(_mm256_extractf128_ps::<1>(values)));
        }
    }
}

/// Turns 8 rows of 8 numbers into 8 columns.
#[target_feature(enable = "avx2")]
#[inline]
fn transpose(rows: [__m256; LANES]) -> [__m256; LANES] {
    let mut twos = [_mm256_setzero_ps(); LANES];
    for k in 0..4 {
        twos[2 * k] = _mm256_unpacklo_ps(rows[2 * k], rows[2 * k + 1]);
        twos[2 * k + 1] = _mm256_unpackhi_ps(rows[2 * k], rows[2 * k + 1]);
    }
    // `fours[4 g + c]` holds in its half `h` the rows `4 g .. 4 g + 4` of column `4 h + c`.
    let mut fours = [_mm256_setzero_ps(); LANES];
    for g in 0..2 {
        let [a, b, c, d] = [twos[4 * g], twos[4 * g + 1], twos[4 * g + 2], twos[4 * g + 3]];
        fours[4 * g] = _mm256_shuffle_ps::<0x44>(a, c);
        fours[4 * g + 1] = _mm256_shuffle_ps::<0xee>(a, c);
        fours[4 * g + 2] = _mm256_shuffle_ps::<0x44>(b, d);
        fours[4 * g + 3] = _mm256_shuffle_ps::<0xee>(b, d);
    }
    let mut columns = [_mm256_setzero_ps(); LANES];
    for c in 0..4 {
        columns[c] = _mm256_permute2f128_ps::<0x20>(fours[c], fours[4 + c]);
        columns[4 + c] = _mm256_permute2f128_ps::<0x31>(fours[c], fours[4 + c]);
    }
    columns
}
