//! Those who watch a run: progress on the terminal, `metrics.jsonl`, and the curves; a classifier's confusion matrix.

mod curves;
mod jsonl;
mod progress;
mod report;

use std::fs::{self, File};
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

pub use curves::{Curves, save_confusion};
pub use jsonl::{Best, JsonlMetrics, METRICS_FILE, Record, read};
pub use progress::{LogWriter, Progress};

use crate::event::{Event, Observer};

/// The observers of a run, in the order they are told.
#[derive(Default)]
pub struct Observers {
    list: Vec<Box<dyn Observer>>,
}

impl Observers {
    /// No observers yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one; it hears what comes after.
    pub fn add(&mut self, observer: impl Observer + 'static) {
        self.list.push(Box::new(observer));
    }

    /// The names of those still watching.
    pub fn names(&self) -> Vec<&'static str> {
        self.list.iter().map(|observer| observer.name()).collect()
    }

    /// Tells every observer. One that fails, or panics, is reported once as a warning and dropped: hours of training
    /// must not end because a picture could not be drawn.
    pub fn notify(&mut self, event: &Event) {
        self.list.retain_mut(|observer| {
            // A dropped observer is never called again, so state that a panic left half changed is never seen.
            let problem = match catch_unwind(AssertUnwindSafe(|| observer.observe(event))) {
                Ok(Ok(())) => return true,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it panicked".to_owned(),
            };
            let name = observer.name();
            tracing::warn!("{name} failed: {problem}; training goes on without {name}");
            false
        });
    }
}

/// Writes `bytes` to `path` through a temporary file beside it: a reader, or a kill, finds the old file or the new one.
fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

/// An IO error that names its file.
fn at_path(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::event::ObserverError;

    type Fail = fn() -> Result<(), ObserverError>;

    struct Fake {
        name: &'static str,
        seen: Arc<Mutex<Vec<String>>>,
        fail: Fail,
    }

    impl Observer for Fake {
        fn name(&self) -> &'static str {
            self.name
        }

        fn observe(&mut self, event: &Event) -> Result<(), ObserverError> {
            self.seen.lock().unwrap().push(format!("{} {event:?}", self.name));
            (self.fail)()
        }
    }

    #[test]
    fn an_observer_that_fails_or_panics_is_dropped_and_the_others_go_on() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut observers = Observers::new();
        let fails: [(&str, Fail); 3] =
            [("errs", || Err("no space left".into())), ("panics", || panic!("a bug")), ("works", || Ok(()))];
        for (name, fail) in fails {
            observers.add(Fake { name, seen: seen.clone(), fail });
        }
        observers.notify(&Event::Note("a".into()));
        assert_eq!(observers.names(), ["works"]);
        observers.notify(&Event::Note("b".into()));
        assert_eq!(
            *seen.lock().unwrap(),
            ["errs Note(\"a\")", "panics Note(\"a\")", "works Note(\"a\")", "works Note(\"b\")"]
        );
    }

    #[test]
    fn a_file_that_cannot_be_replaced_keeps_its_content_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("curves.svg");
        fs::create_dir_all(path.join("not a file")).unwrap();
        assert!(replace_file(&path, b"new").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
