//! The checkpoints of a run: finding the newest whole one, remembering the best, removing the oldest.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::checkpoint::{LATEST, REPLACED, discard, names_in, step_of, verify_whole};
use crate::disk;
use crate::error::Error;

/// The small file that names the best checkpoint.
pub const BEST: &str = "best";

/// A checkpoint of a run, not necessarily whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its directory.
    pub dir: PathBuf,
    /// Its optimizer step.
    pub step: u64,
}

/// What [`find_latest`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The newest checkpoint that verifies.
    pub dir: PathBuf,
    /// Its optimizer step.
    pub step: u64,
    /// Newer ones that do not, newest first, and why not; the reason names the path.
    pub skipped: Vec<(PathBuf, String)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BestFile {
    directory: String,
    metric: f64,
}

/// A run's checkpoints, oldest first. Nothing is verified. A directory that is not there has none.
///
/// # Errors
/// [`Error::Read`].
pub fn list(run_dir: &Path) -> Result<Vec<Listed>, Error> {
    let mut found = candidates(run_dir)?;
    found.retain(|(_, intact_name, _)| *intact_name);
    let listed = |(step, _, dir)| Listed { dir, step };
    Ok(found.into_iter().map(listed).collect())
}

/// All directories that may be checkpoints, the most wanted last: by step, and of one step the
/// one that was being replaced before the other.
fn candidates(run_dir: &Path) -> Result<Vec<(u64, bool, PathBuf)>, Error> {
    let names = match names_in(run_dir) {
        Err(Error::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Vec::new(),
        names => names?,
    };
    let mut found = Vec::new();
    for name in names {
        let intact_name = !name.ends_with(REPLACED);
        let dir = run_dir.join(&name);
        if let Some(step) = step_of(name.trim_end_matches(REPLACED))
            && dir.is_dir()
        {
            found.push((step, intact_name, dir));
        }
    }
    found.sort();
    Ok(found)
}

/// Finds the newest checkpoint that verifies, whatever `latest` says. It changes nothing.
///
/// # Errors
/// [`Error::NoCheckpoint`] where none does, with what was skipped; [`Error::Read`].
pub fn find_latest(run_dir: &Path) -> Result<Found, Error> {
    let mut skipped = Vec::new();
    for (step, _, dir) in candidates(run_dir)?.into_iter().rev() {
        match verify_whole(&dir) {
            Ok(()) => return Ok(Found { dir, step, skipped }),
            Err(error) => {
                warn!("skipped {error}");
                skipped.push((dir, error.to_string()));
            }
        }
    }
    Err(Error::NoCheckpoint { run_dir: run_dir.to_path_buf(), skipped })
}

/// Records which checkpoint is the best so far.
///
/// # Errors
/// [`Error::CannotSave`] where `checkpoint` is none of the run's or `metric` is not finite;
/// [`Error::DiskFull`]; [`Error::Unwritable`]; [`Error::Write`].
pub fn set_best(run_dir: &Path, checkpoint: &Path, metric: f64) -> Result<(), Error> {
    let name = checkpoint.file_name().and_then(|name| name.to_str());
    let Some(directory) = name.filter(|name| step_of(name).is_some()) else {
        let what = checkpoint.display().to_string();
        return Err(Error::cannot_save(what, "it is no checkpoint of this run, so not its best one"));
    };
    if !metric.is_finite() {
        return Err(Error::cannot_save("best", format!("its metric is {metric}")));
    }
    let directory = directory.to_string();
    let mut bytes =
        serde_json::to_vec(&BestFile { directory, metric }).expect("a finite number and a string always serialize");
    bytes.push(b'\n');
    disk::write_atomically(&run_dir.join(BEST), &bytes)
}

/// The checkpoint that a path means: itself, or of a run directory the best one, else the newest.
///
/// # Errors
/// A run directory whose record of the best cannot be read, or without an intact checkpoint.
pub fn resolve(path: &Path) -> Result<PathBuf, Error> {
    if path.join("config.json").exists() || !path.is_dir() || list(path)?.is_empty() {
        return Ok(path.to_path_buf());
    }
    match best(path)? {
        Some((dir, _)) => Ok(dir),
        None => Ok(find_latest(path)?.dir),
    }
}

/// The best checkpoint and its metric; `None` before the first, and where its directory is gone.
///
/// # Errors
/// [`Error::Malformed`], [`Error::Read`].
pub fn best(run_dir: &Path) -> Result<Option<(PathBuf, f64)>, Error> {
    let path = run_dir.join(BEST);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::read(&path, error)),
    };
    let best: BestFile = serde_json::from_slice(&bytes)
        .map_err(|error| Error::malformed(&path, format!("does not name a checkpoint: {error}; hint: remove it")))?;
    let dir = run_dir.join(&best.directory);
    let there = step_of(&best.directory).is_some() && dir.is_dir();
    Ok(there.then_some((dir, best.metric)))
}

/// The checkpoint that `latest` names, if it is there.
fn latest(run_dir: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(run_dir.join(LATEST)).ok()?;
    let name = text.trim();
    step_of(name).map(|_| run_dir.join(name))
}

/// Removes checkpoints that are older than the newest `keep_last` whole ones, and returns which.
///
/// One that does not verify is not counted among the kept. Never removed are those in `keep`, the
/// best one, and the one that `latest` names; and where none verifies, nothing is. A `keep_last` of 0 counts as 1.
///
/// # Errors
/// [`Error::Unwritable`], [`Error::Write`], [`Error::Read`]; [`Error::Malformed`] where `best` is
/// damaged, since then it cannot be told what may go.
pub fn rotate(run_dir: &Path, keep_last: usize, keep: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut kept: Vec<PathBuf> = keep.to_vec();
    kept.extend(best(run_dir)?.map(|(dir, _)| dir));
    kept.extend(latest(run_dir));
    let is_kept = |dir: &Path| kept.iter().any(|keep| keep.file_name() == dir.file_name());
    let mut whole = 0;
    let mut removed = Vec::new();
    for Listed { dir, .. } in list(run_dir)?.into_iter().rev() {
        if whole >= keep_last.max(1) {
            if !is_kept(&dir) {
                removed.push(dir);
            }
        } else if verify_whole(&dir).is_ok() {
            whole += 1;
        }
    }
    removed.reverse(); // oldest first
    for dir in &removed {
        discard(dir)?;
    }
    Ok(removed)
}
