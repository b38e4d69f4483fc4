//! Memory that is written before it is read: fresh, or kept by each thread.

use std::cell::Cell;
use std::mem::MaybeUninit;

/// Numbers in a cache line.
pub(super) const LINE: usize = 16;

thread_local! {
    /// Memory that products pack into (0 to 3) and that holds what is in between (4, 5). Taken while in use: another
    /// product may start on the same thread while this one waits, and then finds none.
    static SCRATCH: Cell<[Vec<MaybeUninit<f32>>; 6]> = const { Cell::new([const { Vec::new() }; 6]) };
}

/// Calls `body` with memory for `len` numbers, aligned to a cache line; `which` of the thread's pieces.
pub(crate) fn with_scratch<R>(which: usize, len: usize, body: impl FnOnce(&mut [MaybeUninit<f32>]) -> R) -> R {
    if len == 0 {
        return body(&mut []);
    }
    let mut pieces = SCRATCH.take();
    let mut memory = std::mem::take(&mut pieces[which]);
    SCRATCH.set(pieces);
    if memory.len() < len + LINE {
        memory = Vec::with_capacity(len + LINE);
        memory.resize_with(len + LINE, MaybeUninit::uninit);
    }
    let start = memory.as_ptr().align_offset(LINE * size_of::<f32>());
    let result = body(&mut memory[start..start + len]);
    let mut pieces = SCRATCH.take();
    pieces[which] = memory;
    SCRATCH.set(pieces);
    result
}

/// Memory for `len` numbers that are all going to be written: not zeroed first.
pub(crate) fn buffer(len: usize) -> Vec<MaybeUninit<f32>> {
    let mut values = Vec::with_capacity(len);
    values.resize_with(len, MaybeUninit::uninit);
    values
}

/// The numbers written to a [`buffer`].
///
/// # Safety
/// Every one of them has been written.
pub(crate) unsafe fn written(values: Vec<MaybeUninit<f32>>) -> Vec<f32> {
    let mut values = std::mem::ManuallyDrop::new(values);
    // SAFETY: `MaybeUninit<f32>` has the layout of `f32`, the vector is given up, and its numbers are initialized.
    unsafe { Vec::from_raw_parts(values.as_mut_ptr().cast(), values.len(), values.capacity()) }
}

/// The same for a part of a [`buffer`].
///
/// # Safety
/// Every number of it has been written.
pub(crate) unsafe fn written_slice(values: &mut [MaybeUninit<f32>]) -> &mut [f32] {
    // SAFETY: the same layout, the same borrow, and the numbers are initialized.
    unsafe { &mut *(values as *mut [MaybeUninit<f32>] as *mut [f32]) }
}
