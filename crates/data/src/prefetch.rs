//! Prepares batches ahead on a thread, so that the device never waits for them.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use crate::batch::Batch;
use crate::batches::Batches;
use crate::error::Error;

/// Micro-batches of a run in order, prepared ahead by a thread that ends when this is dropped.
#[derive(Debug)]
pub struct Prefetcher {
    batches: Option<Receiver<Batch>>,
    thread: Option<JoinHandle<()>>,
}

impl Prefetcher {
    /// Begins at `position` (rows consumed since the start of the run) and gives micro-batches of `rows` rows without
    /// end; up to `depth` wait ready.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(batches: Batches, position: u64, rows: usize, depth: usize) -> Result<Self, Error> {
        let mut position = position;
        Self::produce(depth, move || {
            let batch = batches.at(position, rows);
            position += rows as u64;
            batch
        })
    }

    fn produce(depth: usize, mut make: impl FnMut() -> Batch + Send + 'static) -> Result<Self, Error> {
        // One more is always in the making, beside those in the channel.
        let (sender, receiver) = sync_channel(depth.saturating_sub(1));
        let thread = std::thread::Builder::new()
            .name("firebox-batches".into())
            // Sending fails once the receiver is dropped: that is how the thread is told to end.
            .spawn(move || while sender.send(make()).is_ok() {})
            .map_err(|error| Error::Prefetch { message: error.to_string() })?;
        Ok(Self { batches: Some(receiver), thread: Some(thread) })
    }

    /// The next micro-batch.
    ///
    /// # Errors
    /// The thread panicked, now or before.
    #[allow(clippy::should_implement_trait)] // It never ends, and an iterator's adapters would hide its errors.
    pub fn next(&mut self) -> Result<Batch, Error> {
        if let Some(batch) = self.batches.as_ref().and_then(|batches| batches.recv().ok()) {
            return Ok(batch);
        }
        self.batches = None;
        let message = match self.thread.take().map(JoinHandle::join) {
            Some(Err(panic)) => match panic.downcast::<String>() {
                Ok(message) => *message,
                Err(panic) => {
                    panic.downcast::<&str>().map_or_else(|_| "it panicked".into(), |message| (*message).into())
                }
            },
            _ => "it has ended before".into(),
        };
        Err(Error::Prefetch { message })
    }
}

impl Drop for Prefetcher {
    fn drop(&mut self) {
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            // Its panic has been reported by `next`, or nobody asked for the batch it broke on.
            _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token_stream::TokenStream;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    fn batches() -> Batches {
        Batches::training(TokenStream::new(&[(0..500).collect()], None), 10, 3).unwrap()
    }

    #[test]
    fn batches_come_in_order_from_the_start_position() {
        let mut prefetcher = Prefetcher::start(batches(), 37, 5, 3).unwrap();
        for step in 0..30 {
            assert_eq!(prefetcher.next().unwrap(), batches().at(37 + 5 * step, 5));
        }
    }

    #[test]
    fn no_more_than_the_depth_is_prepared_ahead_and_dropping_ends_the_thread() {
        for depth in [0, 1, 4] {
            let made = Arc::new(AtomicUsize::new(0));
            let (counter, batches) = (made.clone(), batches());
            let mut prefetcher = Prefetcher::produce(depth, move || {
                counter.fetch_add(1, Ordering::SeqCst);
                batches.at(0, 1)
            })
            .unwrap();
            prefetcher.next().unwrap();
            let wanted = 1 + depth.max(1);
            let begin = Instant::now();
            while made.load(Ordering::SeqCst) < wanted && begin.elapsed() < Duration::from_secs(5) {
                std::thread::yield_now();
            }
            std::thread::sleep(Duration::from_millis(20));
            assert_eq!(made.load(Ordering::SeqCst), wanted);
            drop(prefetcher);
            assert_eq!(Arc::strong_count(&made), 1, "the thread is gone");
        }
    }

    #[test]
    fn a_panic_in_the_thread_becomes_an_error_after_the_good_batches() {
        let (batches, mut count) = (batches(), 0);
        let mut prefetcher = Prefetcher::produce(2, move || {
            count += 1;
            assert!(count < 3, "batch {count} is broken");
            batches.at(0, 1)
        })
        .unwrap();
        assert!(prefetcher.next().is_ok() && prefetcher.next().is_ok());
        assert!(prefetcher.next().unwrap_err().to_string().contains("batch 3 is broken"));
        assert!(prefetcher.next().unwrap_err().to_string().contains("ended before"));
    }
}
