//! What can go wrong with a checkpoint, each with the file it is about and a hint.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The two families of errors, which a program tells apart by its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What was to be read is missing, damaged or of the wrong sort.
    Checkpoint,
    /// What was to be written could not be: disk full, unwritable, owned by another process.
    Output,
}

/// How a file differs from what the manifest says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The manifest lists the file and it is not there.
    Missing,
    /// The file is shorter or longer, in bytes.
    Size {
        /// What the manifest says.
        expected: u64,
        /// What lies on the disk.
        found: u64,
    },
    /// The file has the right size and other bytes.
    Hash,
    /// The operating system would not let it be read.
    Unreadable(String),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Missing => write!(f, "is missing"),
            Damage::Size { expected, found } if found < expected => {
                write!(f, "is truncated: {found} of {expected} bytes")
            }
            Damage::Size { expected, found } => {
                write!(f, "has {found} bytes instead of {expected}")
            }
            Damage::Hash => write!(f, "has changed: its BLAKE3 hash is not the manifest's"),
            Damage::Unreadable(why) => write!(f, "cannot be read: {why}"),
        }
    }
}

/// Everything that this crate reports.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No room is left where a file was being written, or a quota or file-size limit is reached.
    #[error("no space is left to write {}: {source}; hint: free some space there or write to a larger disk; what was saved before is intact", path.display())]
    DiskFull {
        /// What was being written.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A place that may not be written to.
    #[error("{} cannot be written: {source}; hint: give this user the right to write there, or write somewhere else", path.display())]
    Unwritable {
        /// What was being written.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Any other failure of an operation that writes.
    #[error("cannot {action} {}: {source}; hint: check that disk and its file system", path.display())]
    Write {
        /// What was being done, as a verb.
        action: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Too little room for what a run is going to write.
    #[error("{} has {} free, and the run needs {}; hint: free some space, lower train.keep_last, or set train.output_dir to a larger disk", path.display(), human_bytes(*free), human_bytes(*needed))]
    NotEnoughSpace {
        /// Where the run writes.
        path: PathBuf,
        /// Bytes that the run needs.
        needed: u64,
        /// Bytes that are free there.
        free: u64,
    },
    /// Another process owns the run directory.
    #[error("{} is in use by {}; hint: wait for it or stop it, or choose another train.output_dir", run_dir.display(), holder(*pid))]
    Locked {
        /// The run directory.
        run_dir: PathBuf,
        /// The owner, where it can be told.
        pid: Option<u32>,
    },
    /// A tensor or a file that was handed over for writing and cannot be written as it is.
    #[error("cannot save {what}: {why}")]
    CannotSave {
        /// A tensor's or file's name.
        what: String,
        /// What is wrong, with a hint.
        why: String,
    },
    /// A file or directory could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// What was being read.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A run directory without one checkpoint that verifies.
    #[error("{} holds no checkpoint that verifies{}; hint: start the run anew without --resume, or name a checkpoint elsewhere", run_dir.display(), skipped_list(skipped))]
    NoCheckpoint {
        /// The run directory.
        run_dir: PathBuf,
        /// What was found there and why it was not taken.
        skipped: Vec<(PathBuf, String)>,
    },
    /// A file of a checkpoint is not what its manifest says.
    #[error("{}: {file} {damage}; hint: use another checkpoint of the run (--resume auto finds the newest that is whole)", dir.display())]
    Damaged {
        /// The checkpoint.
        dir: PathBuf,
        /// The file, relative to `dir`, with forward slashes.
        file: String,
        /// How it is bad.
        damage: Damage,
    },
    /// A file that is there and does not hold what it should.
    #[error("{}: {why}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, with a hint where there is one.
        why: String,
    },
    /// A directory that was to be opened as a model and holds no weights.
    #[error("{} holds no model.safetensors{found}", dir.display())]
    NoWeights {
        /// The directory.
        dir: PathBuf,
        /// What is there instead, and a hint.
        found: String,
    },
    /// A tensor that a file does not hold.
    #[error("{} holds no tensor {tensor:?}; hint: it holds {holds}", path.display())]
    NoTensor {
        /// The file or directory.
        path: PathBuf,
        /// The name asked for.
        tensor: String,
        /// Some names that are there.
        holds: String,
    },
    /// A tensor whose numbers are of a kind that is not converted to `f32`.
    #[error("{}: tensor {tensor:?} is stored as {dtype}, which is not read as weights; hint: convert it to F32, F16, BF16 or F64", path.display())]
    UnsupportedDtype {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// Its type, as safetensors names it.
        dtype: String,
    },
    /// A weight that is no number, or infinite.
    #[error("tensor {tensor:?} of {} holds {value}; hint: the training that wrote it diverged: take an earlier checkpoint of it", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// The first such value.
        value: f32,
    },
    /// A file beside the weights, such as the tokenizer, that cannot be used.
    #[error(transparent)]
    Data(#[from] data::Error),
    /// A directory without training state was to be resumed.
    #[error("{} holds no {file}, so nothing can be resumed from it; hint: to start from its weights alone, set model.init_from to it", dir.display())]
    NoTrainState {
        /// The directory.
        dir: PathBuf,
        /// The file that is missing, relative to `dir`.
        file: &'static str,
    },
}

impl Error {
    /// Which family the error belongs to.
    pub fn kind(&self) -> Kind {
        match self {
            Error::DiskFull { .. }
            | Error::Unwritable { .. }
            | Error::Write { .. }
            | Error::NotEnoughSpace { .. }
            | Error::Locked { .. }
            | Error::CannotSave { .. } => Kind::Output,
            Error::Read { .. }
            | Error::NoCheckpoint { .. }
            | Error::Damaged { .. }
            | Error::Malformed { .. }
            | Error::NoWeights { .. }
            | Error::NoTensor { .. }
            | Error::UnsupportedDtype { .. }
            | Error::NotFinite { .. }
            | Error::Data(_)
            | Error::NoTrainState { .. } => Kind::Checkpoint,
        }
    }

    /// Sorts a failed write by what a person can do about it.
    pub(crate) fn write(action: &'static str, path: &Path, source: io::Error) -> Error {
        use io::ErrorKind::*;
        let path = path.to_path_buf();
        match source.kind() {
            StorageFull | QuotaExceeded | FileTooLarge => Error::DiskFull { path, source },
            PermissionDenied | ReadOnlyFilesystem | NotADirectory => Error::Unwritable { path, source },
            _ => Error::Write { action, path, source },
        }
    }

    pub(crate) fn read(path: &Path, source: io::Error) -> Error {
        Error::Read { path: path.to_path_buf(), source }
    }

    pub(crate) fn malformed(path: &Path, why: impl Into<String>) -> Error {
        Error::Malformed { path: path.to_path_buf(), why: why.into() }
    }

    pub(crate) fn cannot_save(what: impl Into<String>, why: impl Into<String>) -> Error {
        Error::CannotSave { what: what.into(), why: why.into() }
    }
}

fn holder(pid: Option<u32>) -> String {
    match pid {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_string(),
    }
}

fn skipped_list(skipped: &[(PathBuf, String)]) -> String {
    skipped.iter().map(|(_, why)| format!("\n  skipped {why}")).collect()
}

/// Bytes as a person reads them: `1.5 GB`, in powers of 1000 as disks are sold.
pub fn human_bytes(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut amount = bytes as f64;
    let mut unit = 0;
    while amount >= 1000.0 && unit + 1 < units.len() {
        amount /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{amount:.1} {}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    #[test]
    fn a_failed_write_is_sorted_by_what_can_be_done_about_it() {
        let sorted = |kind: ErrorKind| Error::write("write", Path::new("x"), kind.into());
        assert!(matches!(sorted(ErrorKind::StorageFull), Error::DiskFull { .. }));
        for kind in [ErrorKind::PermissionDenied, ErrorKind::ReadOnlyFilesystem, ErrorKind::NotADirectory] {
            assert!(matches!(sorted(kind), Error::Unwritable { .. }), "{kind:?}");
            assert_eq!(sorted(kind).kind(), Kind::Output);
        }
        assert!(matches!(sorted(ErrorKind::TimedOut), Error::Write { action: "write", .. }));
    }

    #[test]
    fn bytes_are_written_as_a_person_reads_them() {
        assert_eq!(human_bytes(999), "999 B");
        assert_eq!(human_bytes(1_500_000), "1.5 MB");
        assert_eq!(human_bytes(498_000_000_000), "498.0 GB");
    }
}
