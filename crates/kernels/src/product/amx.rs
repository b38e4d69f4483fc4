//! The product on pairs of bfloat16 with AMX, the tile unit of server processors since Sapphire Rapids: tiles of up to 32
//! rows and 32 columns, whose sums stay in four of its eight registers.
//!
//! Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18; the system call is
//! described in the Linux kernel's `Documentation/arch/x86/xstate.rst`.

// Indices name registers.
#![allow(clippy::needless_range_loop)]

use super::avx512::{self, AHEAD, LANES, lanes, transpose};
use super::tile::{Area, Operand, Sequences, Tier, Tile, prefetch};
use std::arch::asm;
use std::arch::x86_64::*;
use std::sync::OnceLock;

/// Rows of a register, and pairs of a row of it.
const SIDE: usize = 16;
const ROWS: usize = 2 * SIDE;

static TILES: [&[Tile]; ROWS] = {
    let mut tiles: [&[Tile]; ROWS] = [&[tile::<2, 1>, tile::<2, 2>]; ROWS];
    let mut rows = 0;
    while rows < SIDE {
        tiles[rows] = &[tile::<1, 1>, tile::<1, 2>];
        rows += 1;
    }
    tiles
};

pub(super) static BF16: Tier = Tier {
    rows: ROWS,
    lanes: LANES,
    tiles: &TILES,
    pack: avx512::pack_bf16,
    pack_rows: Some(pack_rows),
    turns_rows: true,
    pair: 2,
    block: 512,
    multiple: SIDE,
    in_place: false,
};

/// Whether the processor has the unit and the kernel lets this process use it.
pub(super) fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        // Leaf 7 says in EDX: bit 22 products of bfloat16, bit 24 tiles.
        let wanted = 1 << 22 | 1 << 24;
        let has = std::is_x86_feature_detected!("avx512bf16") && __cpuid_count(7, 0).edx & wanted == wanted;
        has && permitted()
    })
}

/// Asks for the registers, which a process on Linux has only then.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: the call takes two numbers and touches no memory.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

/// Elsewhere nobody has tried it.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn permitted() -> bool {
    false
}

/// What the instructions are told through memory.
#[repr(C, align(64))]
struct Arguments {
    /// For `ldtilecfg`: the palette, then of each register the bytes of a row, and the rows.
    palette: u8,
    reserved: [u8; 15],
    row_bytes: [u16; 16],
    rows: [u8; 16],
    /// Where the sums start from, null for nothing, and bytes from row to row.
    base: *const f32,
    base_stride: usize,
    /// Where they go, the same.
    dst: *mut f32,
    dst_stride: usize,
}

/// `R` and `V` count registers of rows and of columns. The left operand's sequences lie along memory.
///
/// SAFETY: see [`Tile`]; both operands are packed, with a multiple of 16 steps.
unsafe fn tile<const R: usize, const V: usize>(steps: usize, left: Operand, right: Operand, area: Area) {
    const BYTES: usize = size_of::<f32>();
    let Area { start, stride, rows, columns, base, .. } = area;
    let heights = [rows.min(SIDE), rows.saturating_sub(SIDE)];
    let widths = [columns.min(SIDE), columns.saturating_sub(SIDE)];
    // Registers 0 to 3 hold the sums, 4 and 5 the left operand, 6 and 7 the right one; those of no rows are not there.
    let mut arguments = Arguments {
        palette: 1,
        reserved: [0; 15],
        row_bytes: [0; 16],
        rows: [0; 16],
        base: base.map_or(std::ptr::null(), |base| base.start),
        base_stride: BYTES * base.map_or(0, |base| base.stride),
        dst: start,
        dst_stride: BYTES * stride,
    };
    let mut shape = |register: usize, rows: usize, columns: usize| {
        arguments.rows[register] = rows as u8;
        arguments.row_bytes[register] = (BYTES * columns) as u16;
    };
    for i in 0..R {
        shape(4 + i, heights[i], SIDE);
        for j in 0..V {
            shape(2 * i + j, heights[i], widths[j]);
        }
    }
    for (j, width) in widths.into_iter().enumerate().take(V) {
        shape(6 + j, SIDE, width);
    }
    // SAFETY: `ldtilecfg` reads 64 bytes of `arguments` and zeroes the registers. Loads and stores touch as many rows and
    // bytes of each as it says: of the base and the destination their rows and columns, of the left operand 16 steps of
    // its rows, of the right one the columns of 16 steps; both are there for every 16 of `steps` (see `Tile`). Nothing of
    // the second row or column of registers is touched where R or V is 1. The registers belong to this block alone.
    unsafe {
        asm!(
            "ldtilecfg [{arguments}]",
            "mov {at}, [{arguments} + 64]",
            "mov {by}, [{arguments} + 72]",
            "test {at}, {at}",
            "jz 20f",
            "tileloadd tmm0, [{at} + {by}*1]",
            ".if {V} == 2",
            "tileloadd tmm1, [{at} + {by}*1 + 64]",
            ".endif",
            ".if {R} == 2",
            "mov {below}, {by}",
            "shl {below}, 4",
            "add {below}, {at}",
            "tileloadd tmm2, [{below} + {by}*1]",
            ".if {V} == 2",
            "tileloadd tmm3, [{below} + {by}*1 + 64]",
            ".endif",
            ".endif",
            "20:",
            "test {blocks}, {blocks}",
            "jz 22f",
            "21:",
            "tileloadd tmm4, [{left} + {across}*1]",
            "tileloadd tmm6, [{right} + {along}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            ".if {V} == 2",
            "tileloadd tmm7, [{right} + {along}*1 + 64]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            ".endif",
            ".if {R} == 2",
            "tileloadd tmm5, [{lower} + {across}*1]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            ".if {V} == 2",
            "tdpbf16ps tmm3, tmm5, tmm7",
            ".endif",
            ".endif",
            "add {left}, 64",
            "add {lower}, 64",
            "add {right}, {next}",
            "dec {blocks}",
            "jnz 21b",
            "22:",
            "mov {at}, [{arguments} + 80]",
            "mov {by}, [{arguments} + 88]",
            "tilestored [{at} + {by}*1], tmm0",
            ".if {V} == 2",
            "tilestored [{at} + {by}*1 + 64], tmm1",
            ".endif",
            ".if {R} == 2",
            "mov {below}, {by}",
            "shl {below}, 4",
            "add {below}, {at}",
            "tilestored [{below} + {by}*1], tmm2",
            ".if {V} == 2",
            "tilestored [{below} + {by}*1 + 64], tmm3",
            ".endif",
            ".endif",
            R = const R,
            V = const V,
            arguments = in(reg) &raw const arguments,
            left = inout(reg) left.start => _,
            lower = inout(reg) left.start.wrapping_add(SIDE * left.across) => _,
            across = in(reg) BYTES * left.across,
            right = inout(reg) right.start => _,
            along = in(reg) BYTES * right.along,
            next = in(reg) SIDE * BYTES * right.along,
            blocks = inout(reg) steps / SIDE => _,
            at = out(reg) _,
            by = out(reg) _,
            below = out(reg) _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// Packs sequences that lie along memory, or side by side, one after another.
///
/// SAFETY: see [`PackRows`](super::tile::PackRows); `steps` is a multiple of 16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
unsafe fn pack_rows(packed: *mut f32, width: usize, steps: usize, source: Sequences) {
    let Sequences { start, across, along, count, depth } = source;
    if along == 1 {
        // SAFETY: the caller's.
        return unsafe { avx512::round_rows(packed, width, steps, source) };
    }
    for step in (0..steps).step_by(LANES) {
        for w in (0..width).step_by(LANES) {
            let there = lanes(count.saturating_sub(w));
            let mut columns = [_mm512_setzero_ps(); LANES];
            for (k, column) in columns.iter_mut().enumerate() {
                let at = 2 * (step + k);
                // SAFETY: the masks read no sequence but the `count` there are, and no number past `depth`.
                *column = unsafe {
                    let [first, second] = [at, at + 1].map(|at| {
                        let mask = if at < depth { there } else { 0 };
                        prefetch(start.wrapping_add((at + AHEAD) * along + w * across));
                        avx512::load(mask, start.wrapping_add(at * along + w * across), across)
                    });
                    avx512::pairs(first, second)
                };
            }
            for (row, values) in transpose(columns).into_iter().enumerate().take(width - w) {
                // SAFETY: `steps` numbers of a sequence, of which 16 from `step` on.
                unsafe { _mm512_storeu_ps(packed.wrapping_add((w + row) * steps + step), values) };
            }
        }
    }
}
