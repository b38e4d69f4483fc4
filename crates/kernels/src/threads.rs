//! Where a step's operations run.

use crate::host::in_host_memory;
use burn::tensor::Device;

/// Runs `body`, whose operations are on `device`: on the CPU inside the thread pool, because entering it anew for each
/// operation costs more than many an operation.
///
/// For a GPU on the calling thread. Each thread has a queue of its own there, and what one step's operations change in
/// place the next step's must not read too early from another queue.
pub fn in_thread_pool<R: Send>(device: &Device, body: impl FnOnce() -> R + Send) -> R {
    if in_host_memory(device) { rayon::scope(|_| body()) } else { body() }
}
