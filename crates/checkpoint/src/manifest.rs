//! `manifest.json`: what a whole checkpoint consists of, written last.
//!
//! It lists every file with its size and BLAKE3 hash. It carries no hash of itself and needs
//! none: it must equal, byte for byte, what is written for the list that it holds.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use crate::disk::{self, Written};
use crate::error::{Damage, Error};

/// The manifest's file name.
pub const FILE: &str = "manifest.json";

/// The version that this crate writes.
const FORMAT: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    size: u64,
    blake3: String,
}

/// The list of a checkpoint's files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: u32,
    /// Keyed by path, relative to the directory, with forward slashes.
    files: BTreeMap<String, Entry>,
}

/// What [`verify`] found to be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    /// Every file is there and is what the manifest says.
    Whole,
    /// There is no manifest, as in any directory that another program made: fine to load, not to resume.
    NoManifest,
}

impl Manifest {
    /// A manifest of files that were just written.
    pub(crate) fn new(files: impl IntoIterator<Item = (String, Written)>) -> Self {
        let entry = |written: Written| Entry { size: written.size, blake3: written.blake3 };
        let files = files.into_iter().map(|(path, w)| (path, entry(w)));
        Manifest { format: FORMAT, files: files.collect() }
    }

    /// The listed files, relative, with forward slashes.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// The size of all listed files together, in bytes.
    pub fn total_size(&self) -> u64 {
        self.files.values().fold(0, |sum, entry| sum.saturating_add(entry.size))
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("strings and numbers always serialize");
        bytes.push(b'\n');
        bytes
    }

    /// Writes `manifest.json` into `dir` and waits until it is on the disk.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), Error> {
        let bytes = self.to_bytes();
        disk::write_file(&dir.join(FILE), |file| file.write(&bytes))?;
        Ok(())
    }

    /// Reads `manifest.json`; `None` where there is none.
    ///
    /// # Errors
    /// [`Error::Malformed`] where it was changed, cut off, or written by a newer version; [`Error::Read`].
    pub fn read(dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::read(&path, error)),
        };
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| {
            Error::malformed(&path, format!("is not a manifest: {error}; hint: use another checkpoint of the run"))
        })?;
        if manifest.format == 0 || manifest.format > FORMAT {
            let why = format!(
                "has format {}, and this version of firebox reads up to {FORMAT}; hint: use a newer firebox",
                manifest.format
            );
            return Err(Error::malformed(&path, why));
        }
        if manifest.to_bytes() != bytes {
            let why = "was changed after it was written; hint: use another checkpoint of the run";
            return Err(Error::malformed(&path, why));
        }
        if let Some(name) = manifest.files().find(|name| !is_plain(name)) {
            return Err(Error::malformed(&path, format!("lists {name:?}, which is not a path inside the checkpoint")));
        }
        Ok(Some(manifest))
    }
}

/// Whether a name is relative, has no `..`, and so stays inside the directory it is joined to.
pub(crate) fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && !name.contains(['\\', ':'])
        && !name.ends_with('/')
        && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

/// Reads every file that the manifest lists and compares sizes and hashes. Other files are left alone.
///
/// # Errors
/// [`Error::Damaged`] names the first file that is missing, too short, too long or changed.
/// A directory with `train_state/` and without a manifest counts as damaged: only a whole
/// checkpoint can be resumed, and a manifest was there when it was saved.
pub fn verify(dir: &Path) -> Result<Verified, Error> {
    let damaged = |file: &str, damage| Error::Damaged { dir: dir.to_path_buf(), file: file.to_string(), damage };
    if !dir.is_dir() {
        let source = io::Error::new(io::ErrorKind::NotFound, "there is no such directory");
        return Err(Error::read(dir, source));
    }
    let Some(manifest) = Manifest::read(dir)? else {
        if dir.join(crate::train_state::DIRECTORY).exists() {
            return Err(damaged(FILE, Damage::Missing));
        }
        return Ok(Verified::NoManifest);
    };
    for (name, entry) in &manifest.files {
        let found = check(&dir.join(name), entry).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Damage::Missing,
            _ => Damage::Unreadable(error.to_string()),
        });
        if let Err(damage) | Ok(Some(damage)) = found {
            return Err(damaged(name, damage));
        }
    }
    Ok(Verified::Whole)
}

fn check(path: &Path, entry: &Entry) -> io::Result<Option<Damage>> {
    let file = File::open(path)?;
    let found = file.metadata()?.len();
    if found != entry.size {
        let expected = entry.size;
        return Ok(Some(Damage::Size { expected, found }));
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file)?;
    let same = hasher.finalize().to_hex().as_str() == entry.blake3;
    Ok((!same).then_some(Damage::Hash))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::PathBuf;

    /// A directory with three files, one of them empty, one in a subfolder.
    fn directory() -> (tempfile::TempDir, Vec<PathBuf>) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("train_state")).unwrap();
        let contents: [(&str, &[u8]); 3] = [
            ("config.json", b"{\"n_layer\": 2}"),
            ("empty.txt", b""),
            ("train_state/optimizer.safetensors", &[0, 1, 2, 250, 251]),
        ];
        let mut written = Vec::new();
        let mut paths = vec![dir.path().join(FILE)];
        for (name, bytes) in contents {
            let path = dir.path().join(name);
            let w = disk::write_file(&path, |file| file.write(bytes)).unwrap();
            written.push((name.to_string(), w));
            paths.push(path);
        }
        Manifest::new(written).write(dir.path()).unwrap();
        (dir, paths)
    }

    #[test]
    fn a_whole_directory_verifies_and_other_files_in_it_do_not_matter() {
        let (dir, _) = directory();
        fs::write(dir.path().join("notes.txt"), "mine").unwrap();
        assert_eq!(verify(dir.path()).unwrap(), Verified::Whole);
    }

    #[test]
    fn every_flipped_bit_of_every_file_is_detected() {
        let (dir, paths) = directory();
        for path in paths {
            let good = fs::read(&path).unwrap();
            for bit in 0..good.len() * 8 {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                fs::write(&path, &bad).unwrap();
                assert!(verify(dir.path()).is_err(), "bit {bit} of {}", path.display());
            }
            fs::write(&path, good).unwrap();
        }
        assert_eq!(verify(dir.path()).unwrap(), Verified::Whole);
    }

    #[test]
    fn every_truncation_and_every_missing_file_is_detected_and_named() {
        let (dir, paths) = directory();
        for path in paths {
            let good = fs::read(&path).unwrap();
            let name = path.file_name().unwrap().to_str().unwrap();
            for length in 0..good.len() {
                fs::write(&path, &good[..length]).unwrap();
                let error = verify(dir.path()).unwrap_err().to_string();
                assert!(error.contains(name), "{length}: {error}");
            }
            fs::remove_file(&path).unwrap();
            let error = verify(dir.path()).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("is missing"), "{error}");
            fs::write(&path, [&good[..], b"x"].concat()).unwrap();
            assert!(verify(dir.path()).is_err());
            fs::write(&path, good).unwrap();
        }
        assert_eq!(verify(dir.path()).unwrap(), Verified::Whole);
    }

    #[test]
    fn a_directory_of_another_program_has_no_manifest_and_is_not_damaged() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.json"), "{}").unwrap();
        assert_eq!(verify(dir.path()).unwrap(), Verified::NoManifest);
    }

    #[test]
    fn a_manifest_of_a_newer_format_asks_for_a_newer_firebox() {
        let (dir, _) = directory();
        let text = fs::read_to_string(dir.path().join(FILE)).unwrap();
        let newer = text.replace("\"format\": 1", "\"format\": 2");
        assert_ne!(text, newer);
        fs::write(dir.path().join(FILE), newer).unwrap();
        let error = verify(dir.path()).unwrap_err().to_string();
        assert!(error.contains("newer firebox"), "{error}");
    }

    #[test]
    fn a_manifest_cannot_name_a_file_outside_its_directory() {
        for name in ["../x", "/etc/passwd", "a/../../x", "", "C:\\x", "./x", "a/"] {
            assert!(!is_plain(name), "{name}");
        }
        assert!(is_plain("train_state/state.json"));
    }

    proptest! {
        #[test]
        fn random_bytes_as_a_manifest_are_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let (dir, _) = directory();
            fs::write(dir.path().join(FILE), bytes).unwrap();
            prop_assert!(verify(dir.path()).is_err());
        }

        #[test]
        fn any_replaced_stretch_of_a_file_is_detected(
            which in 0usize..4, at in any::<prop::sample::Index>(), with in proptest::collection::vec(any::<u8>(), 1..20)
        ) {
            let (dir, paths) = directory();
            let good = fs::read(&paths[which]).unwrap();
            let at = at.index(good.len() + 1);
            let end = (at + with.len()).min(good.len());
            let bad = [&good[..at], &with[..], &good[end..]].concat();
            prop_assume!(bad != good);
            fs::write(&paths[which], bad).unwrap();
            prop_assert!(verify(dir.path()).is_err());
        }
    }
}
