//! Products of 32 by 32 tiles by one cube of 64 units, and the hash of dropout, as kernels use them.
//!
//! Units stand in 8 rows of 8. A unit holds 4 by 4 numbers of a product, rows `4 * y ..` and columns `x, x + 8 ..`: a
//! number of either factor is read from shared memory once for four products. Operands come in slices of 32 numbers of
//! a head's width, so that shared memory does not grow with it: a little under the 16 KiB that WebGPU guarantees.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

/// Rows and columns of a tile, and numbers of a slice.
pub(super) const TILE: u32 = 32;
/// From one row of a tile in shared memory to the next: rows at the same place lie in different banks.
pub(super) const PITCH: u32 = 33;
/// Units of a cube.
pub(super) const UNITS: u32 = 64;
/// Rows, and columns, of units.
pub(super) const SIDE: u32 = 8;
/// Rows, and columns, of a tile that one unit holds.
pub(super) const EACH: u32 = 4;

/// The row of a tile that is a unit's number `i`.
#[cube]
pub(super) fn own_row(i: u32) -> u32 {
    UNIT_POS / SIDE * EACH + i
}

/// The column of a tile that is a unit's number `j`.
#[cube]
pub(super) fn own_column(j: u32) -> u32 {
    UNIT_POS % SIDE + j * SIDE
}

/// Rows of numbers in global memory: number `column` of row `row` lies at `start + row * pitch + column`.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Rows {
    pub start: u32,
    pub pitch: u32,
    /// Rows that exist.
    pub count: u32,
    /// Numbers of a row that exist.
    pub width: u32,
}

/// Copies slice number `slice` of 32 rows to shared memory, zeros for what does not exist; waits for all units before
/// it overwrites, and after.
#[cube]
fn load(from: &[f32], rows: &Rows, slice: u32, to: &mut Shared<[f32]>) {
    sync_cube();
    let column = UNIT_POS % TILE;
    let of_slice = slice * TILE + column;
    let mut row = UNIT_POS / TILE;
    while row < TILE {
        let mut value = 0.0f32;
        if row < rows.count && of_slice < rows.width {
            value = from[(rows.start + row * rows.pitch + of_slice) as usize];
        }
        to[(row * PITCH + column) as usize] = value;
        row += UNITS / TILE;
    }
    sync_cube();
}

/// This unit's numbers of `a` times the transposed `b`: every row of 32 with every other.
#[cube]
#[allow(clippy::too_many_arguments)]
pub(super) fn dots(
    a: &[f32],
    of_a: &Rows,
    b: &[f32],
    of_b: &Rows,
    left: &mut Shared<[f32]>,
    right: &mut Shared<[f32]>,
    product: &mut Array<f32>,
) {
    #[unroll]
    for i in 0..EACH * EACH {
        product[i as usize] = 0.0f32;
    }
    let slices = of_a.width.div_ceil(TILE);
    for slice in 0..slices {
        load(a, of_a, slice, left);
        load(b, of_b, slice, right);
        let mut row = Array::<f32>::new(4usize);
        for k in 0..TILE {
            #[unroll]
            for i in 0..EACH {
                row[i as usize] = left[(own_row(i) * PITCH + k) as usize];
            }
            #[unroll]
            for j in 0..EACH {
                let other = right[(own_column(j) * PITCH + k) as usize];
                #[unroll]
                for i in 0..EACH {
                    product[(i * EACH + j) as usize] += row[i as usize] * other;
                }
            }
        }
    }
}

/// Adds `weights` (32 by 32 in shared memory) times 32 rows of `b` to this unit's numbers of each slice of them.
#[cube]
pub(super) fn add_weighted(
    weights: &Shared<[f32]>,
    b: &[f32],
    of_b: &Rows,
    right: &mut Shared<[f32]>,
    sums: &mut Array<f32>,
    #[comptime] slices: u32,
) {
    #[unroll]
    for slice in 0..slices {
        load(b, of_b, slice, right);
        let mut row = Array::<f32>::new(4usize);
        for k in 0..TILE {
            #[unroll]
            for i in 0..EACH {
                row[i as usize] = weights[(own_row(i) * PITCH + k) as usize];
            }
            #[unroll]
            for j in 0..EACH {
                let other = right[(k * PITCH + own_column(j)) as usize];
                #[unroll]
                for i in 0..EACH {
                    sums[((slice * EACH + i) * EACH + j) as usize] += row[i as usize] * other;
                }
            }
        }
    }
}

/// Writes this unit's numbers of every slice, each times its row's factor.
#[cube]
pub(super) fn store(sums: &Array<f32>, factors: &Array<f32>, to: &mut [f32], rows: &Rows, #[comptime] slices: u32) {
    #[unroll]
    for slice in 0..slices {
        #[unroll]
        for i in 0..EACH {
            #[unroll]
            for j in 0..EACH {
                let (row, column) = (own_row(i), slice * TILE + own_column(j));
                if row < rows.count && column < rows.width {
                    to[(rows.start + row * rows.pitch + column) as usize] =
                        sums[((slice * EACH + i) * EACH + j) as usize] * factors[i as usize];
                }
            }
        }
    }
}

/// Puts this unit's numbers of a tile into shared memory; whoever reads them waits first.
#[cube]
pub(super) fn share(tile: &Array<f32>, to: &mut Shared<[f32]>) {
    #[unroll]
    for i in 0..EACH {
        #[unroll]
        for j in 0..EACH {
            to[(own_row(i) * PITCH + own_column(j)) as usize] = tile[(i * EACH + j) as usize];
        }
    }
}

/// What a dropout multiplies the number at `place` of a row by: the same as on the CPU, see [`crate::dropout`].
#[cube]
pub(super) fn drop_factor(place: u32, key: u32, other_key: u32, threshold: u32, scale: f32) -> f32 {
    let x = (place * 0x9e37_79b9u32) ^ key;
    let x = (x ^ (x >> 16u32)) * 0x21f0_aaadu32 + other_key;
    let x = (x ^ (x >> 15u32)) * 0x735a_2d97u32;
    let x = x ^ (x >> 15u32);
    let mut factor = 0.0f32;
    if x >= threshold {
        factor = scale;
    }
    factor
}
