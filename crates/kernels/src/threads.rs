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

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::prelude::*;

    /// What a step is, as far as threads go: work shared out, several times.
    fn step(seed: u64) -> u64 {
        (0..20).map(|round| (0..500u64).into_par_iter().map(|i| i * seed + round).sum::<u64>()).sum()
    }

    #[test]
    fn several_threads_at_once_each_get_their_own_result_and_a_panic_leaves_the_pool_working() {
        let device = Device::flex();
        let alone: Vec<u64> = (0..4).map(step).collect();
        std::thread::scope(|scope| {
            for (seed, alone) in (0..).zip(&alone) {
                let device = &device;
                scope.spawn(move || {
                    for _ in 0..30 {
                        assert_eq!(in_thread_pool(device, || step(seed)), *alone);
                    }
                });
            }
        });
        let nested = in_thread_pool(&device, || in_thread_pool(&device, || step(3)));
        assert_eq!(nested, alone[3]);
        let fails = || in_thread_pool(&device, || -> u64 { panic!("a step fails") });
        let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(fails));
        assert!(failed.is_err());
        assert_eq!(in_thread_pool(&device, || step(2)), alone[2]);
    }
}
