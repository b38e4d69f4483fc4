//! Every operation of this crate that changes the disk.
//!
//! They stand together for two reasons. What must survive a power cut is written once and the
//! same way: data, then `fsync`, then the name. And each single operation passes through
//! [`file_operations`]' counter, so that a test can abort the process at every one of them in
//! turn and look at what is left.
//!
//! # Test hook
//!
//! With `FIREBOX_ABORT_AT_FILE_OPERATION=N` in the environment the process aborts just before its
//! N-th file operation (counted from 1), as if it were killed there.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Error;

/// The environment variable of the test hook.
pub const ABORT_VARIABLE: &str = "FIREBOX_ABORT_AT_FILE_OPERATION";

/// A write to the operating system is at least this long, in bytes, except a file's last.
const BUFFER: usize = 1 << 20;

static OPERATIONS: AtomicU64 = AtomicU64::new(0);

/// How many operations that change the disk this process has begun.
pub fn file_operations() -> u64 {
    OPERATIONS.load(Ordering::SeqCst)
}

/// Counts one operation, and aborts the process where the test hook says so.
fn fault_point() {
    static ABORT_AT: OnceLock<Option<u64>> = OnceLock::new();
    let number = OPERATIONS.fetch_add(1, Ordering::SeqCst) + 1;
    let abort_at = ABORT_AT.get_or_init(|| {
        let value = std::env::var(ABORT_VARIABLE).ok()?;
        value.parse().ok()
    });
    if *abort_at == Some(number) {
        std::process::abort();
    }
}

/// Runs one counted operation on `path`; `action` is the verb of its error.
fn operation<T>(action: &'static str, path: &Path, run: impl FnOnce() -> io::Result<T>) -> Result<T, Error> {
    fault_point();
    run().map_err(|source| Error::write(action, path, source))
}

/// What a written file holds, taken from the bytes handed over, not from the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Length in bytes.
    pub size: u64,
    /// BLAKE3 hash, in hexadecimal.
    pub blake3: String,
}

/// A file being written: buffered and hashed on the way.
pub struct FileWriter {
    file: File,
    path: PathBuf,
    buffer: Vec<u8>,
    hasher: blake3::Hasher,
    size: u64,
}

impl FileWriter {
    /// Appends bytes.
    ///
    /// # Errors
    /// As [`write_file`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.hasher.update(&self.buffer);
        self.size += self.buffer.len() as u64;
        operation("write", &self.path, || self.file.write_all(&self.buffer))?;
        self.buffer.clear();
        Ok(())
    }
}

/// Writes a file with `fill` and waits until it is on the disk. An existing one is replaced, not atomically.
///
/// # Errors
/// [`Error::DiskFull`], [`Error::Unwritable`], [`Error::Write`], or what `fill` returns.
pub fn write_file(path: &Path, fill: impl FnOnce(&mut FileWriter) -> Result<(), Error>) -> Result<Written, Error> {
    let file = operation("create", path, || File::create(path))?;
    let mut writer =
        FileWriter { file, path: path.to_path_buf(), buffer: Vec::new(), hasher: blake3::Hasher::new(), size: 0 };
    fill(&mut writer)?;
    writer.flush()?;
    operation("sync", path, || writer.file.sync_all())?;
    Ok(Written { size: writer.size, blake3: writer.hasher.finalize().to_hex().to_string() })
}

/// Replaces a small file so that a reader, or a crash at any moment, sees the old or the new one, whole.
///
/// # Errors
/// As [`write_file`].
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let parent = parent_of(path);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = parent.join(format!(".tmp-{name}-{}", std::process::id()));
    let written = write_file(&temporary, |file| file.write(bytes))
        .and_then(|_| rename(&temporary, path))
        .and_then(|()| fsync_dir(parent));
    if written.is_err() {
        let _ = fs::remove_file(&temporary); // gives the space back; the first error is the one to report
    }
    written
}

/// The directory that holds `path`; for a bare name, the current one.
pub(crate) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Creates one directory.
pub(crate) fn create_dir(path: &Path) -> Result<(), Error> {
    operation("create", path, || fs::create_dir(path))
}

/// Creates a directory and those above it; one that exists is fine.
///
/// # Errors
/// [`Error::Unwritable`], also where a file stands in the way; [`Error::DiskFull`]; [`Error::Write`].
pub fn create_dir_all(path: &Path) -> Result<(), Error> {
    let missing: Vec<&Path> = path.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.is_dir()).collect();
    for dir in missing.into_iter().rev() {
        match create_dir(dir) {
            Err(Error::Write { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                if !dir.is_dir() {
                    let source = io::Error::new(io::ErrorKind::NotADirectory, "a file of that name is in the way");
                    return Err(Error::Unwritable { path: dir.to_path_buf(), source });
                }
            }
            Err(error) => return Err(error),
            // Without this, a power cut could take away the directory with all that was synced inside it.
            Ok(()) => fsync_dir(parent_of(dir))?,
        }
    }
    Ok(())
}

/// Opens a file for writing without changing what it holds, creating it where there is none.
pub(crate) fn open_or_create(path: &Path) -> Result<File, Error> {
    operation("create", path, || File::options().read(true).write(true).create(true).truncate(false).open(path))
}

/// Overwrites an open file with `bytes`, without waiting for the disk.
pub(crate) fn overwrite(mut file: &File, path: &Path, bytes: &[u8]) -> Result<(), Error> {
    operation("write", path, || {
        file.set_len(0)?;
        file.write_all(bytes)
    })
}

/// Renames; a file that has the new name is replaced, a directory that has it is an error.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    operation("rename to", to, || fs::rename(from, to))
}

/// Removes a file, or a directory with all that it holds, one counted operation for each entry.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    let kind = fs::symlink_metadata(path).map_err(|source| Error::write("remove", path, source))?;
    if !kind.is_dir() {
        return operation("remove", path, || fs::remove_file(path));
    }
    let entries = fs::read_dir(path).map_err(|source| Error::write("remove", path, source))?;
    for entry in entries {
        let entry = entry.map_err(|source| Error::write("remove", path, source))?;
        remove(&entry.path())?;
    }
    operation("remove", path, || fs::remove_dir(path))
}

/// Waits until the names in a directory are on the disk.
///
/// On Windows a directory cannot be synced, and its file system journals names itself.
pub(crate) fn fsync_dir(path: &Path) -> Result<(), Error> {
    operation("sync", path, || {
        if cfg!(windows) {
            return Ok(());
        }
        match File::open(path)?.sync_all() {
            // Some network and FUSE file systems know no sync of a directory.
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
            other => other,
        }
    })
}

/// Free bytes for this user where `path` lies or, if it does not exist yet, will lie.
///
/// # Errors
/// [`Error::Read`] where the file system does not answer.
pub fn free_space(path: &Path) -> Result<u64, Error> {
    let absolute = std::path::absolute(path).map_err(|source| Error::read(path, source))?;
    let existing = absolute.ancestors().find(|dir| dir.exists()).unwrap_or(&absolute);
    fs4::available_space(existing).map_err(|source| Error::read(path, source))
}

/// Checks that `needed` bytes fit where the run writes; to be asked before the first step.
///
/// # Errors
/// [`Error::NotEnoughSpace`] with both figures.
pub fn ensure_free(run_dir: &Path, needed: u64) -> Result<(), Error> {
    let free = free_space(run_dir)?;
    if free < needed {
        return Err(Error::NotEnoughSpace { path: run_dir.to_path_buf(), needed, free });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_written_file_is_described_by_its_size_and_hash() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let block = vec![7u8; BUFFER - 1];
        let written = write_file(&path, |file| {
            file.write(&block)?;
            file.write(b"more")?;
            file.write(b"end")
        })
        .unwrap();
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes, [&block[..], b"more", b"end"].concat());
        assert_eq!(written.size, bytes.len() as u64);
        assert_eq!(written.blake3, blake3::hash(&bytes).to_hex().to_string());
    }

    #[test]
    fn an_atomic_write_replaces_the_file_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("latest");
        write_atomically(&path, b"one").unwrap();
        write_atomically(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn every_operation_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let before = file_operations();
        write_atomically(&dir.path().join("x"), b"x").unwrap();
        assert!(file_operations() >= before + 5); // create, write, sync, rename, sync
    }

    #[test]
    fn a_file_in_the_way_of_a_directory_is_an_output_error_with_a_hint() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        for path in [file.clone(), file.join("run")] {
            let error = create_dir_all(&path).unwrap_err();
            assert!(matches!(error, Error::Unwritable { .. }), "{error}");
            assert_eq!(error.kind(), Kind::Output);
            assert!(error.to_string().contains("hint:"), "{error}");
        }
    }

    #[test]
    fn too_little_free_space_is_told_with_both_figures() {
        let dir = tempfile::tempdir().unwrap();
        let planned = dir.path().join("not/yet/there");
        ensure_free(&planned, 1).unwrap();
        let error = ensure_free(&planned, u64::MAX).unwrap_err();
        assert_eq!(error.kind(), Kind::Output);
        assert!(error.to_string().contains("TB"), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_device_is_told_from_other_failures() {
        let error = write_file(Path::new("/dev/full"), |file| file.write(b"x")).unwrap_err();
        assert!(matches!(error, Error::DiskFull { .. }), "{error}");
        assert_eq!(error.kind(), Kind::Output);
    }
}
