//! The product in plain Rust, for every processor, and packing that rounds to half precision.

use super::tile::{Area, Operand, Pack, Sequences, Tier, Tile};
use crate::vector::fma;

const LANES: usize = 8;
const ROWS: usize = 4;

static TILES: [&[Tile]; ROWS] = [
    &[tile::<1, 1>, tile::<1, 2>],
    &[tile::<2, 1>, tile::<2, 2>],
    &[tile::<3, 1>, tile::<3, 2>],
    &[tile::<4, 1>, tile::<4, 2>],
];

const fn tier(pack: Pack) -> Tier {
    Tier::plain(ROWS, LANES, &TILES, pack, false)
}

pub(super) static F32: Tier = tier(pack::<{ FULL }>);
pub(super) static ROUNDED_BF16: Tier = tier(pack::<{ BF16 }>);
pub(super) static ROUNDED_F16: Tier = tier(pack::<{ F16 }>);

/// Keeps every bit.
pub(super) const FULL: u8 = 0;
/// Rounds to bfloat16.
pub(super) const BF16: u8 = 1;
/// Rounds to IEEE half precision.
pub(super) const F16: u8 = 2;

/// SAFETY: see [`Tile`]; the right operand is packed, so that it has whole vectors of columns.
unsafe fn tile<const M: usize, const V: usize>(steps: usize, left: Operand, right: Operand, area: Area) {
    let Area { start: dst, stride, columns, base, .. } = area;
    let mut sums = [[[0f32; LANES]; V]; M];
    for step in 0..steps {
        for (row, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the left operand holds M rows for every step.
            let factor = unsafe { *left.start.add(row * left.across + step * left.along) };
            for (vector, sums) in sums.iter_mut().enumerate() {
                for (lane, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: the right operand holds V vectors for every step.
                    let value = unsafe { *right.start.add(step * right.along + vector * LANES + lane) };
                    *sum = fma::<{ cfg!(target_arch = "aarch64") }>(factor, value, *sum);
                }
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        for (column, sum) in sums.as_flattened().iter().take(columns).enumerate() {
            // SAFETY: `dst` and `base` hold M rows of `columns` numbers.
            unsafe {
                let before = base.map_or(0.0, |base| *base.start.add(row * base.stride + column));
                *dst.add(row * stride + column) = *sum + before;
            }
        }
    }
}

/// SAFETY: see [`Pack`].
pub(super) unsafe fn pack<const FORMAT: u8>(packed: *mut f32, width: usize, next: usize, source: Sequences) {
    let Sequences { start, across, along, count, depth } = source;
    let panels = if next == 0 { 1 } else { count.div_ceil(width) };
    for (panel, first) in (0..panels * width).step_by(width).enumerate() {
        for step in 0..depth {
            for w in 0..width {
                // SAFETY: below `count` and `depth` are numbers of the source; each panel has `width` for each step.
                unsafe {
                    let value = if first + w < count { *start.add((first + w) * across + step * along) } else { 0.0 };
                    *packed.add(panel * next + step * width + w) = round::<FORMAT>(value);
                }
            }
        }
    }
}

/// The nearest number of the format, ties to even; NaN stays NaN.
#[inline(always)]
fn round<const FORMAT: u8>(value: f32) -> f32 {
    match FORMAT {
        BF16 => half::bf16::from_f32(value).to_f32(),
        F16 => half::f16::from_f32(value).to_f32(),
        _ => value,
    }
}
