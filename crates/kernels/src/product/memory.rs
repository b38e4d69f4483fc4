//! Memory that is written before it is read: fresh, or kept.

use memmap2::MmapMut;
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::sync::{Mutex, PoisonError};

/// Numbers in a cache line.
pub(super) const LINE: usize = 16;

thread_local! {
    /// Memory that one thread's products pack into (0, 1) and that holds what is in between (2, 3). Taken while in use:
    /// another product may start on the same thread while this one waits, and then finds none.
    static SCRATCH: Cell<[Vec<MaybeUninit<f32>>; 4]> = const { Cell::new([const { Vec::new() }; 4]) };
}

/// Memory for operands that all threads read. Not each thread's: whole steps run on one thread or another, and each
/// would keep as much. And not the allocator's: it is kept for good, and would lie where larger blocks were and come
/// again.
static OF_ALL: Mutex<Vec<MmapMut>> = Mutex::new(Vec::new());

/// Calls `body` with memory for `len` numbers, aligned to a cache line; `which` of the thread's pieces.
pub(crate) fn with_scratch<R>(which: usize, len: usize, body: impl FnOnce(&mut [MaybeUninit<f32>]) -> R) -> R {
    if len == 0 {
        return body(&mut []);
    }
    let mut pieces = SCRATCH.take();
    let mut memory = std::mem::take(&mut pieces[which]);
    SCRATCH.set(pieces);
    if memory.len() < len + LINE {
        memory = buffer(len + LINE);
    }
    let start = memory.as_ptr().align_offset(LINE * size_of::<f32>());
    let result = body(&mut memory[start..start + len]);
    let mut pieces = SCRATCH.take();
    pieces[which] = memory;
    SCRATCH.set(pieces);
    result
}

/// The same with memory that is no thread's own.
///
/// # Panics
/// If the system has none left.
pub(crate) fn with_memory_of_all<R>(len: usize, body: impl FnOnce(&mut [MaybeUninit<f32>]) -> R) -> R {
    if len == 0 {
        return body(&mut []);
    }
    let pieces = || OF_ALL.lock().unwrap_or_else(PoisonError::into_inner);
    // The last that was given back: nested calls get the same pieces each time.
    let kept = pieces().pop().filter(|memory| memory.len() >= len * size_of::<f32>());
    let mut memory = kept.unwrap_or_else(|| MmapMut::map_anon(len * size_of::<f32>()).expect("memory for operands"));
    // SAFETY: the pages are borrowed alone, aligned for numbers, and hold as many of them; any bits will do.
    let result = body(unsafe { std::slice::from_raw_parts_mut(memory.as_mut_ptr().cast(), len) });
    pieces().push(memory);
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
