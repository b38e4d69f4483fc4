//! The product on pairs of bfloat16 with AMX, the tile unit of server processors since Sapphire Rapids: tiles of up to 32
//! rows and 32 columns, whose sums stay in four of its eight registers.
//!
//! Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18; the system call is
//! described in the Linux kernel's `Documentation/arch/x86/xstate.rst`.

// Indices name registers.
#![allow(clippy::needless_range_loop)]

use super::avx512::{self, LANES, lanes, transpose};
use super::tile::{AHEAD, Area, Operand, Sequences, Tier, Tile, prefetch};
use std::arch::asm;
use std::arch::x86_64::*;
use std::cell::Cell;
use std::sync::OnceLock;

/// Rows of a register, and pairs of a row of it.
const SIDE: usize = 16;
const ROWS: usize = 2 * SIDE;
const BYTES: usize = size_of::<f32>();

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
    together: 1,
    pack: avx512::pack_bf16,
    pack_rows: Some(pack_rows),
    turns_rows: true,
    run: SIDE,
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

/// What `ldtilecfg` reads: the palette, then of each register the bytes of a row, and the rows.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    reserved: [u8; 15],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Configuration {
    /// For a tile of so many rows and columns. Registers 0 to 3 hold the sums, 4 and 5 the left operand, 6 and 7 the
    /// right one; those of no rows are not there.
    fn of(rows: usize, columns: usize) -> Self {
        let heights = [rows.min(SIDE), rows.saturating_sub(SIDE)];
        let widths = [columns.min(SIDE), columns.saturating_sub(SIDE)];
        let mut of = Self { palette: 1, reserved: [0; 15], row_bytes: [0; 16], rows: [0; 16] };
        let mut shape = |register: usize, rows: usize, columns: usize| {
            let there = rows > 0 && columns > 0;
            of.rows[register] = if there { rows as u8 } else { 0 };
            of.row_bytes[register] = if there { (BYTES * columns) as u16 } else { 0 };
        };
        for i in 0..2 {
            shape(4 + i, heights[i], SIDE);
            shape(6 + i, SIDE, widths[i]);
            for j in 0..2 {
                shape(2 * i + j, heights[i], widths[j]);
            }
        }
        of
    }
}

thread_local! {
    /// Rows and columns that this thread's registers are configured for: saying so anew costs as much as a few products.
    static CONFIGURED: Cell<[usize; 2]> = const { Cell::new([0; 2]) };
}

/// Configures this thread's registers for tiles of so many rows and columns.
fn configure(shape: [usize; 2]) {
    if CONFIGURED.replace(shape) == shape {
        return;
    }
    let configuration = Configuration::of(shape[0], shape[1]);
    // SAFETY: 64 bytes are read, and the registers, which only `tile` uses in this process, become zero. (The child of a
    // bare `fork` would not have them; nothing here forks without running another program.)
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const configuration, options(nostack, readonly)) };
}

/// `R` and `V` count registers of rows and of columns. The left operand lies register after register.
///
/// SAFETY: see [`Tile`]; both operands are packed, with a multiple of 16 steps.
unsafe fn tile<const R: usize, const V: usize>(steps: usize, left: Operand, right: Operand, area: Area) {
    let Area { start, stride, rows, columns, base, .. } = area;
    configure([rows, columns]);
    // SAFETY: loads and stores touch as many rows and bytes of each as the registers are configured for: of the base and
    // the destination their rows and columns, of the left operand 16 steps of its rows, of the right one the columns of
    // 16 steps; both are there for every 16 of `steps` (see `Tile`). Nothing of the second row or column of registers is
    // touched where R or V is 1. The registers belong to this block alone.
    unsafe {
        asm!(
            "test {base}, {base}",
            "jz 20f",
            "tileloadd tmm0, [{base} + {base_stride}*1]",
            ".if {V} == 2",
            "tileloadd tmm1, [{base} + {base_stride}*1 + 64]",
            ".endif",
            ".if {R} == 2",
            "mov {below}, {base_stride}",
            "shl {below}, 4",
            "add {below}, {base}",
            "tileloadd tmm2, [{below} + {base_stride}*1]",
            ".if {V} == 2",
            "tileloadd tmm3, [{below} + {base_stride}*1 + 64]",
            ".endif",
            ".endif",
            "jmp 21f",
            "20:",
            "tilezero tmm0",
            ".if {V} == 2",
            "tilezero tmm1",
            ".endif",
            ".if {R} == 2",
            "tilezero tmm2",
            ".if {V} == 2",
            "tilezero tmm3",
            ".endif",
            ".endif",
            "21:",
            "test {blocks}, {blocks}",
            "jz 23f",
            "22:",
            "tileloadd tmm4, [{left} + {across}*1]",
            "tileloadd tmm6, [{right} + {along}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            ".if {V} == 2",
            "tileloadd tmm7, [{right} + {along}*1 + 64]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            ".endif",
            ".if {R} == 2",
            "tileloadd tmm5, [{left} + {across}*1 + {lower}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            ".if {V} == 2",
            "tdpbf16ps tmm3, tmm5, tmm7",
            ".endif",
            ".endif",
            "add {left}, 2*{lower}",
            "add {right}, {next}",
            "dec {blocks}",
            "jnz 22b",
            "23:",
            "tilestored [{start} + {stride}*1], tmm0",
            ".if {V} == 2",
            "tilestored [{start} + {stride}*1 + 64], tmm1",
            ".endif",
            ".if {R} == 2",
            "mov {below}, {stride}",
            "shl {below}, 4",
            "add {below}, {start}",
            "tilestored [{below} + {stride}*1], tmm2",
            ".if {V} == 2",
            "tilestored [{below} + {stride}*1 + 64], tmm3",
            ".endif",
            ".endif",
            R = const R,
            V = const V,
            // The second register of rows lies behind the first.
            lower = const BYTES * SIDE * SIDE,
            base = in(reg) base.map_or(std::ptr::null(), |base| base.start),
            base_stride = in(reg) BYTES * base.map_or(0, |base| base.stride),
            start = in(reg) start,
            stride = in(reg) BYTES * stride,
            left = inout(reg) left.start => _,
            across = in(reg) BYTES * left.across,
            right = inout(reg) right.start => _,
            along = in(reg) BYTES * right.along,
            next = in(reg) SIDE * BYTES * right.along,
            blocks = inout(reg) steps / SIDE => _,
            below = out(reg) _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// Packs sequences that lie along memory, or side by side, register after register.
///
/// SAFETY: see [`PackRows`](super::tile::PackRows); `steps` is a multiple of 16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
unsafe fn pack_rows(packed: *mut f32, width: usize, steps: usize, source: Sequences) {
    let Sequences { start, across, along, count, depth } = source;
    if along == 1 {
        for step in (0..steps).step_by(SIDE) {
            let first = depth.min(2 * step);
            let of_run = Sequences { start: start.wrapping_add(first), depth: depth - first, ..source };
            // SAFETY: the caller's; 16 steps of each sequence are one of its runs.
            unsafe { avx512::round_rows(packed.wrapping_add(step * width), width, SIDE, of_run) };
        }
        return;
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
                // SAFETY: 16 numbers of a sequence, from `step` on.
                unsafe { _mm512_storeu_ps(packed.wrapping_add(step * width + (w + row) * SIDE), values) };
            }
        }
    }
}
