//! The product with AVX-512: tiles of eight rows and three vectors, in f32 and, with AVX-512-BF16, on pairs of bfloat16.

// Indices name registers: the loops are unrolled, and an iterator would hide which.
#![allow(clippy::needless_range_loop)]

use super::avx2;
use super::portable::{self, BF16 as ROUND_BF16, F16 as ROUND_F16};
use super::tile::{AHEAD, Area, Operand, Pack, Sequences, Tier, Tile, opaque, prefetch};
use std::arch::x86_64::*;

pub(super) const LANES: usize = 16;
const ROWS: usize = 8;

macro_rules! tiles {
    ($tile:ident) => {
        [
            &[$tile::<1, 1>, $tile::<1, 2>, $tile::<1, 3>],
            &[$tile::<2, 1>, $tile::<2, 2>, $tile::<2, 3>],
            &[$tile::<3, 1>, $tile::<3, 2>, $tile::<3, 3>],
            &[$tile::<4, 1>, $tile::<4, 2>, $tile::<4, 3>],
            &[$tile::<5, 1>, $tile::<5, 2>, $tile::<5, 3>],
            &[$tile::<6, 1>, $tile::<6, 2>, $tile::<6, 3>],
            &[$tile::<7, 1>, $tile::<7, 2>, $tile::<7, 3>],
            &[$tile::<8, 1>, $tile::<8, 2>, $tile::<8, 3>],
        ]
    };
}
static F32_TILES: [&[Tile]; ROWS] = tiles!(f32_tile);
static BF16_TILES: [&[Tile]; ROWS] = tiles!(bf16_tile);

const fn tier(pack: Pack, in_place: bool) -> Tier {
    Tier::plain(ROWS, LANES, &F32_TILES, pack, in_place)
}

const fn rounded(pack: Pack) -> Tier {
    tier(pack, false)
}

pub(super) static F32: Tier = tier(pack_f32, true);
pub(super) static BF16: Tier =
    Tier { tiles: &BF16_TILES, pack_rows: Some(round_rows), pair: 2, block: 512, ..tier(pack_bf16, false) };
pub(super) static ROUNDED_BF16: Tier = rounded(portable::pack::<{ ROUND_BF16 }>);
pub(super) static ROUNDED_F16: Tier = rounded(portable::pack::<{ ROUND_F16 }>);

/// The lowest `count` lanes, all of them from 16 on.
#[inline(always)]
pub(super) fn lanes(count: usize) -> __mmask16 {
    if count >= LANES { !0 } else { (1 << count) - 1 }
}

macro_rules! tile {
    ($(#[$doc:meta])* $name:ident, $features:literal, |$factor:ident, $row:ident, $sum:ident| $step:expr) => {
        $(#[$doc])*
        #[target_feature(enable = $features)]
        unsafe fn $name<const M: usize, const V: usize>(
            steps: usize,
            left: Operand,
            right: Operand,
            area: Area,
        ) {
            let Area { start: dst, stride, columns, base, ahead, .. } = area;
            let last = lanes(columns - LANES * (V - 1));
            let mask = |vector: usize| if vector + 1 == V { last } else { !0 };
            // The sums' places are wanted when the steps are over: until then their cache lines come.
            for i in 0..M {
                for vector in 0..V {
                    prefetch(dst.wrapping_add(i * stride + vector * LANES));
                }
            }
            let mut sums = [[_mm512_setzero_ps(); V]; M];
            let mut rows = [0; M];
            for i in 0..M {
                rows[i] = opaque(size_of::<f32>() * i * left.across);
            }
            let (mut left_at, mut right_at, mut ahead_at) = (left.start, right.start, ahead.start);
            for _ in 0..steps {
                _mm_prefetch::<_MM_HINT_T1>(ahead_at.cast());
                // SAFETY: each step of the right operand holds `columns` numbers, and the masks read no more; each
                // step of the left one holds M rows. The pointers move on by wrapping, and are read only inside the
                // steps.
                unsafe {
                    let mut row = [_mm512_setzero_ps(); V];
                    for vector in 0..V {
                        row[vector] = _mm512_maskz_loadu_ps(mask(vector), right_at.wrapping_add(vector * LANES));
                    }
                    for i in 0..M {
                        let $factor = _mm512_set1_ps(*left_at.byte_add(rows[i]));
                        for vector in 0..V {
                            let ($row, $sum) = (row[vector], sums[i][vector]);
                            sums[i][vector] = $step;
                        }
                    }
                }
                left_at = left_at.wrapping_add(left.along);
                right_at = right_at.wrapping_add(right.along);
                ahead_at = ahead_at.wrapping_add(ahead.along);
            }
            for i in 0..M {
                for vector in 0..V {
                    // SAFETY: `dst` and `base` hold M rows of `columns` numbers, and the masks touch no more.
                    unsafe {
                        let sum = match base {
                            None => sums[i][vector],
                            Some(base) => {
                                let before = base.start.wrapping_add(i * base.stride + vector * LANES);
                                _mm512_add_ps(sums[i][vector], _mm512_maskz_loadu_ps(mask(vector), before))
                            }
                        };
                        _mm512_mask_storeu_ps(dst.wrapping_add(i * stride + vector * LANES), mask(vector), sum);
                    }
                }
            }
        }
    };
}

tile!(
    /// SAFETY: see [`Tile`].
    f32_tile, "avx512f,avx512bw,avx512vl,avx512dq", |factor, row, sum| _mm512_fmadd_ps(factor, row, sum)
);
tile!(
    /// SAFETY: see [`Tile`].
    bf16_tile, "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16",
    |factor, row, sum| _mm512_dpbf16_ps(sum, as_pairs(factor), as_pairs(row))
);

/// The same bits, as 32 bfloat16.
#[inline(always)]
fn as_pairs(bits: __m512) -> __m512bh {
    // SAFETY: both are 512 bits of plain numbers.
    unsafe { std::mem::transmute(bits) }
}

/// The same bits, as 16 f32.
#[inline(always)]
fn as_floats(pairs: __m512bh) -> __m512 {
    // SAFETY: both are 512 bits of plain numbers.
    unsafe { std::mem::transmute(pairs) }
}

/// The inner products of each of `x` with each of `group`, all of one length; panics if they are not.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2")]
pub(super) fn inner_products<const M: usize>(x: [&[f32]; M], group: [&[f32]; 8]) -> [[f32; 8]; M] {
    let len = x[0].len();
    assert!(x.iter().chain(&group).all(|row| row.len() == len));
    let mut sums = [[_mm512_setzero_ps(); 8]; M];
    // Loops, not closures: those would pass their vectors through memory.
    for at in (0..len).step_by(LANES) {
        let mask = lanes(len - at);
        let mut of_x = [_mm512_setzero_ps(); M];
        for i in 0..M {
            // SAFETY: `at` lies inside the rows, and the mask reads no further than their end.
            of_x[i] = unsafe { _mm512_maskz_loadu_ps(mask, x[i].as_ptr().add(at)) };
        }
        for j in 0..8 {
            // SAFETY: the same.
            let of_group = unsafe { _mm512_maskz_loadu_ps(mask, group[j].as_ptr().add(at)) };
            for i in 0..M {
                sums[i][j] = _mm512_fmadd_ps(of_x[i], of_group, sums[i][j]);
            }
        }
    }
    let mut results = [[0.0; 8]; M];
    for i in 0..M {
        let mut halves = [_mm256_setzero_ps(); 8]; // 8 of each
        for j in 0..8 {
            halves[j] = _mm256_add_ps(_mm512_castps512_ps256(sums[i][j]), _mm512_extractf32x8_ps::<1>(sums[i][j]));
        }
        // SAFETY: the array takes eight numbers.
        unsafe { _mm256_storeu_ps(results[i].as_mut_ptr(), avx2::lane_sums(halves)) };
    }
    results
}

/// Turns 16 rows of 16 numbers into 16 columns.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn transpose(rows: [__m512; 16]) -> [__m512; 16] {
    let pd = |x: __m512| _mm512_castps_pd(x);
    let ps = |x: __m512d| _mm512_castpd_ps(x);
    let mut twos = [_mm512_setzero_ps(); 16];
    for k in 0..8 {
        twos[2 * k] = _mm512_unpacklo_ps(rows[2 * k], rows[2 * k + 1]);
        twos[2 * k + 1] = _mm512_unpackhi_ps(rows[2 * k], rows[2 * k + 1]);
    }
    // `fours[4 g + c]` holds in its 128-bit lane `l` the rows `4 g .. 4 g + 4` of column `4 l + c`.
    let mut fours = [_mm512_setzero_ps(); 16];
    for g in 0..4 {
        let [a, b, c, d] = [twos[4 * g], twos[4 * g + 1], twos[4 * g + 2], twos[4 * g + 3]];
        fours[4 * g] = ps(_mm512_unpacklo_pd(pd(a), pd(c)));
        fours[4 * g + 1] = ps(_mm512_unpackhi_pd(pd(a), pd(c)));
        fours[4 * g + 2] = ps(_mm512_unpacklo_pd(pd(b), pd(d)));
        fours[4 * g + 3] = ps(_mm512_unpackhi_pd(pd(b), pd(d)));
    }
    let mut columns = [_mm512_setzero_ps(); 16];
    for c in 0..4 {
        let [a, b, d, e] = [fours[c], fours[4 + c], fours[8 + c], fours[12 + c]];
        let even = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0x88>(d, e)); // lanes 0 and 2
        let odd = (_mm512_shuffle_f32x4::<0xdd>(a, b), _mm512_shuffle_f32x4::<0xdd>(d, e)); // lanes 1 and 3
        columns[c] = _mm512_shuffle_f32x4::<0x88>(even.0, even.1);
        columns[4 + c] = _mm512_shuffle_f32x4::<0x88>(odd.0, odd.1);
        columns[8 + c] = _mm512_shuffle_f32x4::<0xdd>(even.0, even.1);
        columns[12 + c] = _mm512_shuffle_f32x4::<0xdd>(odd.0, odd.1);
    }
    columns
}

/// SAFETY: see [`Pack`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn pack_f32(packed: *mut f32, width: usize, second: usize, source: Sequences) {
    let Sequences { start, across, along, count, depth } = source;
    if along == 1 {
        // SAFETY: 16 numbers from `step` on of sequence `w`, cut at `depth`.
        let load = |w: usize, step: usize| unsafe {
            _mm512_maskz_loadu_ps(lanes(depth - step), start.wrapping_add(w * across + step))
        };
        // SAFETY: the caller's.
        return unsafe { pack_sequences(packed, width, second, count, depth, load) };
    }
    if across == 1 {
        for step in 0..depth {
            for w in (0..width).step_by(LANES) {
                let from = start.wrapping_add(step * along + w);
                prefetch(from.wrapping_add(AHEAD * along));
                // SAFETY: the masks read no sequence but the `count` there are, and write `width` numbers for a step.
                unsafe {
                    let values = _mm512_maskz_loadu_ps(lanes(count.saturating_sub(w)), from);
                    store(packed.wrapping_add(step * width), width, second, w, values);
                }
            }
        }
        return;
    }
    // SAFETY: the caller's.
    unsafe { portable::pack::<{ portable::FULL }>(packed, width, second, source) }
}

/// Stores what 16 sequences from `w` on have for one step: those beyond `width` in the second panel, if there is one.
///
/// SAFETY: `at` starts the step of the first panel, see [`Pack`].
#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
unsafe fn store(at: *mut f32, width: usize, second: usize, w: usize, values: __m512) {
    // SAFETY: `width` numbers for each step of each panel.
    unsafe {
        if second == 0 {
            _mm512_mask_storeu_ps(at.wrapping_add(w), lanes(width - w), values);
        } else {
            // Two panels of eight.
            _mm256_storeu_ps(at, _mm512_castps512_ps256(values));
            _mm256_storeu_ps(at.wrapping_add(second), _mm512_extractf32x8_ps::<1>(values));
        }
    }
}

/// Two rows as pairs of bfloat16, the first in the lower half.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
#[inline]
pub(super) fn pairs(first: __m512, second: __m512) -> __m512 {
    /// Number `k` of the first row, then number `k` of the second, which lie 16 apart.
    const TURNS: [u16; 2 * LANES] = {
        let mut turns = [0; 2 * LANES];
        let mut k = 0;
        while k < 2 * LANES {
            turns[k] = (k / 2 + k % 2 * LANES) as u16;
            k += 1;
        }
        turns
    };
    let rows = _mm512_castps_si512(as_floats(_mm512_cvtne2ps_pbh(second, first)));
    // SAFETY: both are 512 bits of plain numbers.
    let turns = unsafe { std::mem::transmute::<[u16; 2 * LANES], __m512i>(TURNS) };
    _mm512_castsi512_ps(_mm512_permutexvar_epi16(turns, rows))
}

/// SAFETY: see [`Pack`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub(super) unsafe fn pack_bf16(packed: *mut f32, width: usize, second: usize, source: Sequences) {
    let Sequences { start, across, along, count, depth } = source;
    let steps = depth.div_ceil(2);
    if along == 1 {
        let load = |w: usize, step: usize| {
            let left = depth - 2 * step;
            let from = start.wrapping_add(w * across + 2 * step);
            // SAFETY: 32 numbers from `2 step` on of sequence `w`, cut at `depth`.
            unsafe {
                let first = _mm512_maskz_loadu_ps(lanes(left), from);
                let second = _mm512_maskz_loadu_ps(lanes(left.saturating_sub(LANES)), from.wrapping_add(LANES));
                as_floats(_mm512_cvtne2ps_pbh(second, first))
            }
        };
        // SAFETY: the caller's.
        return unsafe { pack_sequences(packed, width, second, count, steps, load) };
    }
    for step in 0..steps {
        for w in (0..width).step_by(LANES) {
            let there = lanes(count.saturating_sub(w));
            let from = start.wrapping_add(2 * step * along + w * across);
            prefetch(from.wrapping_add(AHEAD * along));
            prefetch(from.wrapping_add((AHEAD + 1) * along));
            let of_later = if 2 * step + 1 < depth { there } else { 0 };
            // SAFETY: the masks read no sequence but the `count` there are and no number past `depth`, and write
            // `width` numbers for a step.
            unsafe {
                let (first, later) = (load(there, from, across), load(of_later, from.wrapping_add(along), across));
                store(packed.wrapping_add(step * width), width, second, w, pairs(first, later));
            }
        }
    }
}

/// SAFETY: see [`PackRows`](super::tile::PackRows).
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub(super) unsafe fn round_rows(packed: *mut f32, width: usize, steps: usize, source: Sequences) {
    let Sequences { start, across, count, depth, .. } = source;
    for w in 0..width {
        let (row, to) = (start.wrapping_add(w * across), packed.wrapping_add(w * steps));
        for step in (0..steps).step_by(LANES) {
            let left = if w < count { depth.saturating_sub(2 * step) } else { 0 };
            let from = row.wrapping_add(2 * step);
            // SAFETY: the masks read no sequence but the `count` there are and no number past `depth`, and write
            // `steps` numbers of a sequence.
            unsafe {
                let first = _mm512_maskz_loadu_ps(lanes(left), from);
                let second = _mm512_maskz_loadu_ps(lanes(left.saturating_sub(LANES)), from.wrapping_add(LANES));
                let pairs = as_floats(_mm512_cvtne2ps_pbh(second, first));
                _mm512_mask_storeu_ps(to.wrapping_add(step), lanes(steps - step), pairs);
            }
        }
    }
}

/// Numbers `stride` apart, zero where the mask has no bit.
///
/// SAFETY: what the mask names lies in one allocation.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) unsafe fn load(mask: __mmask16, start: *const f32, stride: usize) -> __m512 {
    // SAFETY: the caller's.
    unsafe { if stride == 1 { _mm512_maskz_loadu_ps(mask, start) } else { gather(mask, start, stride) } }
}

/// Numbers `stride` apart, zero where the mask has no bit.
///
/// SAFETY: what the mask names lies in one allocation.
#[inline(always)]
unsafe fn gather(mask: __mmask16, start: *const f32, stride: usize) -> __m512 {
    let mut values = [0f32; LANES];
    for (lane, value) in values.iter_mut().enumerate() {
        if mask >> lane & 1 == 1 {
            // SAFETY: the caller's.
            *value = unsafe { *start.add(lane * stride) };
        }
    }
    // SAFETY: plain numbers.
    unsafe { std::mem::transmute(values) }
}

/// Packs sequences that lie along memory: `load` gives 16 steps of one of them, from a step on.
///
/// SAFETY: see [`Pack`].
#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
unsafe fn pack_sequences(
    packed: *mut f32,
    width: usize,
    second: usize,
    count: usize,
    steps: usize,
    load: impl Fn(usize, usize) -> __m512,
) {
    for w in (0..width).step_by(LANES) {
        for step in (0..steps).step_by(LANES) {
            let mut rows = [_mm512_setzero_ps(); 16];
            for (row, values) in rows.iter_mut().enumerate().take(count.saturating_sub(w)) {
                *values = load(w + row, step);
            }
            for (column, values) in transpose(rows).iter().enumerate().take(steps - step) {
                // SAFETY: a step below `steps`.
                unsafe { store(packed.wrapping_add((step + column) * width), width, second, w, *values) };
            }
        }
    }
}
