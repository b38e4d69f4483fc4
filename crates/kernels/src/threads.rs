//! Where a step's operations run.

use crate::host::in_host_memory;
use burn::tensor::Device;
use rayon::Yield;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a thread looks for work in vain before it sleeps: longer than what one thread does alone in a step, shorter
/// than what a person would call busy while nothing happens.
const PATIENCE: Duration = Duration::from_millis(20);

/// Runs `body`, whose operations are on `device`: on the CPU inside the thread pool, because entering it anew for each
/// operation costs more than many an operation, and with the pool's other threads awake, because waking one costs as
/// much. They look for work, give way to other processes where there is none, and sleep after a while of that.
///
/// For a GPU on the calling thread. Each thread has a queue of its own there, and what one step's operations change in
/// place the next step's must not read too early from another queue.
pub fn in_thread_pool<R: Send>(device: &Device, body: impl FnOnce() -> R + Send) -> R {
    if !in_host_memory(device) {
        return body();
    }
    let done = &AtomicBool::new(false);
    rayon::scope(|scope| {
        let here = rayon::current_thread_index();
        scope.spawn_broadcast(move |_, thread| {
            let mut busy = Instant::now();
            while Some(thread.index()) != here && !done.load(Ordering::Relaxed) && busy.elapsed() < PATIENCE {
                if rayon::yield_now() == Some(Yield::Executed) {
                    busy = Instant::now();
                } else {
                    std::thread::yield_now();
                }
            }
        });
        // However `body` ends: the scope waits for the others.
        let _end = SetOnDrop(done);
        body()
    })
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
