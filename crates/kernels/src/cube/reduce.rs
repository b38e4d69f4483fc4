//! Sums over the units of a cube, in one order.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

/// Units of a cube that reduces: the most that WebGPU guarantees.
pub(super) const WIDE: u32 = 256;

/// The sum of every unit's `value`, for all of them; `shared` holds a number for each.
#[cube]
pub(super) fn sum_over_cube(value: f32, shared: &mut Shared<[f32]>) -> f32 {
    let unit = UNIT_POS as usize;
    shared[unit] = value;
    sync_cube();
    let mut half = comptime!(WIDE / 2).runtime();
    while half > 0 {
        if UNIT_POS < half {
            let other = shared[(UNIT_POS + half) as usize];
            shared[unit] += other;
        }
        sync_cube();
        half /= 2;
    }
    let total = shared[0];
    // The memory may be used again.
    sync_cube();
    total
}

/// The greatest of every unit's `value`, for all of them. NaN is passed over: who adds exponentials meets it again.
#[cube]
pub(super) fn greatest_over_cube(value: f32, shared: &mut Shared<[f32]>) -> f32 {
    let unit = UNIT_POS as usize;
    shared[unit] = value;
    sync_cube();
    let mut half = comptime!(WIDE / 2).runtime();
    while half > 0 {
        if UNIT_POS < half {
            let other = shared[(UNIT_POS + half) as usize];
            if other > shared[unit] {
                shared[unit] = other;
            }
        }
        sync_cube();
        half /= 2;
    }
    let greatest = shared[0];
    sync_cube();
    greatest
}
