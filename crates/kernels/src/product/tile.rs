//! What the instruction sets have in common: a tile of the product, and how its operands are laid out for it.

use crate::Precision;
use std::sync::OnceLock;

/// One operand of a tile: `wide` numbers for each step along the summed side.
///
/// Of the left operand the numbers of a step are the rows, `across` apart; of the right one they are columns, side by
/// side. Numbers of the next step lie `along` further on. Where a step holds two half-precision numbers each f32 of
/// it stands for a pair.
#[derive(Clone, Copy)]
pub(super) struct Operand {
    pub start: *const f32,
    pub across: usize,
    pub along: usize,
}

/// What a tile's sums are added to: nothing, or numbers whose rows are `stride` apart (0 repeats one row).
#[derive(Clone, Copy)]
pub(super) struct Base {
    pub start: *const f32,
    pub stride: usize,
}

/// Where a tile's sums go.
#[derive(Clone, Copy)]
pub(super) struct Area {
    pub start: *mut f32,
    /// From row to row.
    pub stride: usize,
    pub rows: usize,
    pub columns: usize,
    /// What they are added to.
    pub base: Option<Base>,
    /// What to ask for meanwhile.
    pub ahead: Ahead,
}

/// Memory that later tiles will read, which a tile may ask for while it runs: `along` numbers in each of its steps.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    pub start: *const f32,
    pub along: usize,
}

/// Computes `area = base + left right` for one tile: steps, left, right, area.
///
/// # Safety
/// The processor has the instructions. For every step the operands hold as many numbers as the tile has rows and
/// columns (or, if the tier packs its right operands, whole vectors of them), the area and its base hold its rows and
/// columns, and nothing else reads or writes the area meanwhile (the base may be the area). The tile is the one for
/// these rows and columns.
pub(super) type Tile = unsafe fn(usize, Operand, Operand, Area);

/// Sequences to pack: number `k` of sequence `w` is `start[w * across + k * along]`.
#[derive(Clone, Copy)]
pub(super) struct Sequences {
    pub start: *const f32,
    pub across: usize,
    pub along: usize,
    /// How many there are, and numbers of each.
    pub count: usize,
    pub depth: usize,
}

/// Copies sequences (`width` of them, with zeros for what is missing) into the order a tile reads them: to
/// `packed[step * width + w]`. With a `next` that is not zero, as many panels are packed at once as the sequences
/// need, each `next` numbers behind the last: sequences from `width` on go to `packed[next + step * width + w - width]`,
/// and so on. They are at most [`Tier::together`].
///
/// Arguments: packed, width, next, source.
///
/// # Safety
/// The processor has the instructions. `packed` takes `width` numbers for each step of each panel, and the source's
/// numbers exist.
pub(super) type Pack = unsafe fn(*mut f32, usize, usize, Sequences);

/// Copies sequences one after another, [`Tier::run`] steps of each at a time: to `packed[w * run + step]` of each run,
/// with zeros for those of `width` that are missing, and behind their ends. A left operand can be read like that.
///
/// Arguments: packed, width, steps, source.
///
/// # Safety
/// The processor has the instructions. `packed` takes `width * steps` numbers, and the source's numbers exist.
pub(super) type PackRows = unsafe fn(*mut f32, usize, usize, Sequences);

/// A multiple of every tile's rows, where a product is long enough to be shared out.
pub(super) const ROWS_OF_ALL: usize = 32;

/// Asks for the cache line at an address, which may be anywhere.
#[inline(always)]
pub(super) fn prefetch(at: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which never faults; every x86-64 processor has the instruction.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast())
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// So many numbers of a sequence before they are packed their cache lines are asked for: they lie too far apart for the
/// processor to foresee.
#[cfg(target_arch = "x86_64")]
pub(super) const AHEAD: usize = 16;

/// The same offset, of which the compiler knows no more than that. It would go from row to row by adding what lies between
/// them, in units that the sums need.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn opaque(mut offset: usize) -> usize {
    // SAFETY: no instruction.
    unsafe { std::arch::asm!("/* {0} */", inout(reg) offset, options(pure, nomem, nostack, preserves_flags)) };
    offset
}

/// A way to compute products: an instruction set and a number format.
pub(super) struct Tier {
    /// Rows of a whole tile.
    pub rows: usize,
    /// Numbers of a vector.
    pub lanes: usize,
    /// Tiles by rows and by vectors of columns, both less one.
    pub tiles: &'static [&'static [Tile]],
    pub pack: Pack,
    /// A cheaper way for a left operand whose rows lie along memory, for nothing has to be turned.
    pub pack_rows: Option<PackRows>,
    /// Whether that way is for every left operand.
    pub turns_rows: bool,
    /// Steps of a sequence that lie together there: at most a block.
    pub run: usize,
    /// Panels of a left operand that are packed together, unless they are packed in rows: as many as fill a vector, or
    /// more, so that cache lines are read once.
    pub together: usize,
    /// Numbers along the summed side in one step of a tile.
    pub pair: usize,
    /// Steps for which operands are packed and tiles run at a time: a panel of the right operand then stays in the
    /// nearest cache while all tiles of its columns run, or, where loads are few, in the next one.
    pub block: usize,
    /// Packed steps come in multiples of this, zeros at the end.
    pub multiple: usize,
    /// Whether tiles read operands where they lie, with columns that do not fill a vector; else both are packed.
    pub in_place: bool,
}

impl Tier {
    /// One that computes in f32, a number a step.
    pub const fn plain(
        rows: usize,
        lanes: usize,
        tiles: &'static [&'static [Tile]],
        pack: Pack,
        in_place: bool,
    ) -> Self {
        // A panel of three vectors and this many steps leaves room in a nearest cache of 48 KiB.
        Self {
            rows,
            lanes,
            tiles,
            pack,
            pack_rows: None,
            turns_rows: false,
            run: usize::MAX,
            together: lanes / rows,
            pair: 1,
            block: 192,
            multiple: 1,
            in_place,
        }
    }

    /// Columns of a whole tile.
    pub fn columns(&self) -> usize {
        self.lanes * self.tiles[0].len()
    }

    /// The width of a packed panel with `left` columns to go.
    pub fn panel(&self, left: usize) -> usize {
        left.next_multiple_of(self.lanes).min(self.columns())
    }

    /// The tile for some rows and columns.
    pub fn tile(&self, rows: usize, columns: usize) -> Tile {
        self.tiles[rows - 1][columns.div_ceil(self.lanes) - 1]
    }

    /// The fastest way this processor has.
    pub fn of(precision: Precision) -> &'static Tier {
        static CHOSEN: [OnceLock<&'static Tier>; 3] = [const { OnceLock::new() }; 3];
        CHOSEN[precision as usize]
            .get_or_init(|| Self::all(precision).into_iter().next().expect("the portable way is there"))
    }

    /// Every way this processor has, the fastest first.
    pub fn all(precision: Precision) -> Vec<&'static Tier> {
        let mut found: Vec<&'static Tier> = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if crate::vector::avx512() {
                match precision {
                    Precision::F32 => found.push(&super::avx512::F32),
                    Precision::Bf16 if super::amx::available() => {
                        found.extend([&super::amx::BF16, &super::avx512::BF16]);
                    }
                    Precision::Bf16 if std::is_x86_feature_detected!("avx512bf16") => found.push(&super::avx512::BF16),
                    Precision::Bf16 => found.push(&super::avx512::ROUNDED_BF16),
                    Precision::F16 => found.push(&super::avx512::ROUNDED_F16),
                }
            }
            if crate::vector::avx2() {
                found.push(match precision {
                    Precision::F32 => &super::avx2::F32,
                    Precision::Bf16 => &super::avx2::ROUNDED_BF16,
                    Precision::F16 => &super::avx2::ROUNDED_F16,
                });
            }
        }
        found.push(match precision {
            Precision::F32 => &super::portable::F32,
            Precision::Bf16 => &super::portable::ROUNDED_BF16,
            Precision::F16 => &super::portable::ROUNDED_F16,
        });
        found
    }
}
