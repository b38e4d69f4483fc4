//! Saving one checkpoint so that a crash at any moment leaves the old one or the new one, whole.
//!
//! A checkpoint is written to a `.tmp-` directory, each file synced, the manifest last; then the
//! directory gets its name `step-000500` by one rename, is read back and verified; only then does
//! `latest` name it. So a directory with a step's name that does not verify is one that was
//! damaged later, and whatever is called `.tmp-` is nobody's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use model::weights::Flat;
use tracing::{info, warn};

use crate::disk::{self, Written};
use crate::error::{Damage, Error};
use crate::manifest::{self, Manifest, Verified, is_plain, verify};
use crate::safetensors::{self, Dtype, Source, Sources, Tensors};

/// The small file that names the newest verified checkpoint. A hint: see [`find_latest`](crate::find_latest).
pub const LATEST: &str = "latest";

/// What the name of everything unfinished begins with.
const TEMPORARY: &str = ".tmp-";

/// What is appended to the name of a checkpoint while another of the same step takes its place.
pub(crate) const REPLACED: &str = ".replaced";

/// One file of a checkpoint.
#[derive(Clone, Debug)]
pub enum File {
    /// Bytes as they are.
    Bytes(Vec<u8>),
    /// A safetensors file.
    Tensors {
        /// The tensors.
        tensors: Sources,
        /// How their numbers are stored.
        dtype: Dtype,
        /// Free text for the header; `format: pt` is always there.
        metadata: BTreeMap<String, String>,
    },
}

impl File {
    /// A safetensors file of exactly these numbers.
    pub fn tensors(tensors: Tensors) -> File {
        Self::of(tensors.into_iter().map(|(name, tensor)| (name, Source::Host(tensor))).collect())
    }

    /// A safetensors file of the numbers that these tensors have when it is written.
    pub fn on_device(tensors: Vec<Flat>) -> File {
        Self::of(tensors.into_iter().map(|flat| (flat.name.clone(), Source::Device(flat))).collect())
    }

    fn of(tensors: Sources) -> File {
        File::Tensors { tensors, dtype: Dtype::F32, metadata: BTreeMap::new() }
    }

    /// About how many bytes it takes on the disk.
    fn size(&self) -> u64 {
        match self {
            File::Bytes(bytes) => bytes.len() as u64,
            File::Tensors { tensors, dtype, .. } => {
                tensors.iter().map(|(name, t)| (t.len() * dtype.size() + name.len() + 100) as u64).sum()
            }
        }
    }

    fn write(&self, path: &Path) -> Result<Written, Error> {
        match self {
            File::Bytes(bytes) => disk::write_file(path, |file| file.write(bytes)),
            File::Tensors { tensors, dtype, metadata } => safetensors::write(path, tensors, *dtype, metadata),
        }
    }
}

/// The files of a checkpoint by their path inside it, with forward slashes.
pub type Contents = BTreeMap<String, File>;

/// About how many bytes a checkpoint of these contents takes on the disk.
pub fn size_on_disk(contents: &Contents) -> u64 {
    contents.values().map(File::size).sum()
}

/// The name of a step's directory: `step-000500`.
pub fn step_name(step: u64) -> String {
    format!("step-{step:06}")
}

/// The step that a directory's name stands for.
pub(crate) fn step_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("step-")?;
    let step = digits.parse().ok()?;
    (step_name(step) == name).then_some(step) // so that no two names stand for one step
}

/// Saves a checkpoint as `run_dir/step-000500` and returns that path, once it has been read back,
/// has verified, and `latest` names it.
///
/// A checkpoint of the same step is kept if it is whole and the same, and replaced otherwise;
/// until the new one has verified, the old one is not removed. What an interrupted save left
/// behind is removed first. One process at a time may save: hold a [`RunLock`](crate::RunLock).
///
/// # Errors
/// [`Error::DiskFull`], [`Error::Unwritable`], [`Error::Write`]: what was saved before is intact
/// and the space of the failed attempt is given back. [`Error::CannotSave`] for contents that are no
/// files. [`Error::Damaged`] where the disk does not give back what was written to it.
pub fn save(run_dir: &Path, step: u64, contents: &Contents) -> Result<PathBuf, Error> {
    disk::create_dir_all(run_dir)?;
    clean_up(run_dir)?;
    let target = run_dir.join(step_name(step));
    let temporary = temporary_name(run_dir, &step_name(step));
    let saved = write_directory(&temporary, contents).and_then(|manifest| commit(&temporary, &target, &manifest));
    match saved {
        Ok(()) => {}
        Err(error) => {
            // On a full disk this gives the space back. The first error is the one to report.
            if let Err(second) = clean_up(run_dir) {
                warn!("cannot remove what the failed save left: {second}");
            }
            return Err(error);
        }
    }
    let name = format!("{}\n", step_name(step));
    disk::write_atomically(&run_dir.join(LATEST), name.as_bytes())?;
    // Only now is the one that was replaced not needed any more.
    clean_up(run_dir)?;
    info!("saved {}", target.display());
    Ok(target)
}

/// Writes a directory that is no step of a run, such as an exported model: whole and verified, or not at all.
///
/// # Errors
/// [`Error::CannotSave`] where something of that name exists; else as [`save`].
pub fn export(dir: &Path, contents: &Contents) -> Result<(), Error> {
    if fs::symlink_metadata(dir).is_ok() {
        let why = "it exists; hint: remove it, or choose another name";
        return Err(Error::cannot_save(dir.display().to_string(), why));
    }
    let parent = disk::parent_of(dir);
    disk::create_dir_all(parent)?;
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let temporary = temporary_name(parent, &name);
    let written = write_directory(&temporary, contents)
        .and_then(|_| disk::rename(&temporary, dir))
        .and_then(|()| disk::fsync_dir(parent))
        .and_then(|()| verify_whole(dir));
    if written.is_err() && temporary.exists() {
        let _ = disk::remove(&temporary); // the first error is the one to report
    }
    written
}

fn temporary_name(run_dir: &Path, name: &str) -> PathBuf {
    run_dir.join(format!("{TEMPORARY}{name}-{}", std::process::id()))
}

/// Writes all files, the manifest last, and waits until they and their names are on the disk.
fn write_directory(dir: &Path, contents: &Contents) -> Result<Manifest, Error> {
    for name in contents.keys() {
        if !is_plain(name) || name == manifest::FILE {
            let why = "that is not a name for a file of a checkpoint; hint: a relative path with forward slashes";
            return Err(Error::cannot_save(format!("{name:?}"), why));
        }
    }
    disk::create_dir(dir)?;
    let mut subfolders = BTreeSet::new();
    let mut written = Vec::new();
    for (name, file) in contents {
        let above: Vec<&Path> = Path::new(name).ancestors().skip(1).collect();
        for folder in above.iter().rev().filter(|folder| !folder.as_os_str().is_empty()) {
            if subfolders.insert(folder.to_path_buf()) {
                disk::create_dir(&dir.join(folder))?;
            }
        }
        written.push((name.clone(), file.write(&dir.join(name))?));
    }
    for folder in &subfolders {
        disk::fsync_dir(&dir.join(folder))?;
    }
    let manifest = Manifest::new(written);
    manifest.write(dir)?;
    disk::fsync_dir(dir)?;
    Ok(manifest)
}

/// Gives a finished directory its name, and reads it back.
fn commit(temporary: &Path, target: &Path, manifest: &Manifest) -> Result<(), Error> {
    let run_dir = disk::parent_of(target);
    if target.exists() {
        let whole = matches!(verify(target), Ok(Verified::Whole));
        if whole && Manifest::read(target)?.as_ref() == Some(manifest) {
            return disk::remove(temporary);
        }
        // Between the two renames the old one has another name, under which it is still found.
        disk::rename(target, &with_suffix(target, REPLACED))?;
    }
    disk::rename(temporary, target)?;
    disk::fsync_dir(run_dir)?;
    verify_whole(target)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(suffix);
    PathBuf::from(name)
}

pub(crate) fn verify_whole(dir: &Path) -> Result<(), Error> {
    match verify(dir)? {
        Verified::Whole => Ok(()),
        Verified::NoManifest => {
            Err(Error::Damaged { dir: dir.to_path_buf(), file: manifest::FILE.to_string(), damage: Damage::Missing })
        }
    }
}

/// Removes what an interrupted save or rotation left, and finishes or undoes an interrupted replacement.
/// Only the owner of the run directory may call it.
///
/// # Errors
/// [`Error::Unwritable`], [`Error::Write`], [`Error::Read`].
pub fn clean_up(run_dir: &Path) -> Result<(), Error> {
    let names = names_in(run_dir)?;
    for name in names.iter().filter(|name| name.starts_with(TEMPORARY)) {
        disk::remove(&run_dir.join(name))?;
    }
    for name in &names {
        let Some(original) = name.strip_suffix(REPLACED).filter(|name| step_of(name).is_some()) else {
            continue;
        };
        let (replaced, target) = (run_dir.join(name), run_dir.join(original));
        if target.exists() {
            if verify_whole(&target).is_ok() {
                discard(&replaced)?;
                continue;
            }
            discard(&target)?;
        }
        disk::rename(&replaced, &target)?;
        disk::fsync_dir(run_dir)?;
    }
    Ok(())
}

/// Removes a checkpoint. Its name goes first, in one operation, so that none is ever half there.
pub(crate) fn discard(dir: &Path) -> Result<(), Error> {
    let run_dir = disk::parent_of(dir);
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let temporary = temporary_name(run_dir, &name);
    disk::rename(dir, &temporary)?;
    disk::fsync_dir(run_dir)?;
    disk::remove(&temporary)
}

/// The names in a directory, sorted; those that are not UTF-8 are nothing of ours.
pub(crate) fn names_in(dir: &Path) -> Result<Vec<String>, Error> {
    let entries = fs::read_dir(dir).map_err(|source| Error::read(dir, source))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| Error::read(dir, source))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort();
    Ok(names)
}
