//! One process at a time owns a run directory.

use std::fs::{File, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::checkpoint;
use crate::disk;
use crate::error::Error;

/// The lock's file name. It stays when the lock is released: removing it would race with the next owner.
const FILE: &str = ".lock";

/// The ownership of a run directory, until it is dropped or the process ends, however it ends.
///
/// It is the operating system's advisory lock on `.lock`, so no stale lock can outlive a crash.
#[derive(Debug)]
pub struct RunLock {
    run_dir: PathBuf,
    // Closing it releases the lock.
    _file: File,
}

impl RunLock {
    /// Creates the run directory where there is none, takes the lock without waiting, and
    /// removes what an interrupted save left there.
    ///
    /// # Errors
    /// [`Error::Locked`] names the process that owns the directory (on Windows the file of a
    /// lock that is held cannot be read, so the process stays unnamed); [`Error::Unwritable`];
    /// [`Error::DiskFull`]; [`Error::Write`] where the file system knows no locks.
    pub fn acquire(run_dir: &Path) -> Result<Self, Error> {
        disk::create_dir_all(run_dir)?;
        let path = run_dir.join(FILE);
        let mut file = disk::open_or_create(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let pid = file.read_to_string(&mut text).ok();
                return Err(Error::Locked {
                    run_dir: run_dir.to_path_buf(),
                    pid: pid.and_then(|_| text.trim().parse().ok()),
                });
            }
            Err(TryLockError::Error(source)) => return Err(Error::write("lock", &path, source)),
        }
        let pid = format!("{}\n", std::process::id());
        disk::overwrite(&file, &path, pid.as_bytes())?;
        checkpoint::clean_up(run_dir)?;
        Ok(RunLock { run_dir: run_dir.to_path_buf(), _file: file })
    }

    /// The directory that is owned.
    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn the_second_owner_is_refused_by_name_until_the_first_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = dir.path().join("runs/one");
        let first = RunLock::acquire(&run_dir).unwrap();
        let error = RunLock::acquire(&run_dir).unwrap_err();
        assert_eq!(error.kind(), Kind::Output);
        if cfg!(unix) {
            let message = error.to_string();
            let pid = std::process::id();
            assert!(message.contains(&format!("process {pid};")), "{message}");
        }
        drop(first);
        RunLock::acquire(&run_dir).unwrap();
    }

    #[test]
    fn a_run_directory_below_a_file_is_unwritable() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("runs"), "a file").unwrap();
        let error = RunLock::acquire(&dir.path().join("runs/one")).unwrap_err();
        assert!(matches!(error, Error::Unwritable { .. }), "{error}");
    }
}
