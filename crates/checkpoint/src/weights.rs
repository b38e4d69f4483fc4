//! The weights of a HuggingFace directory: one `model.safetensors`, or shards with an index.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use model::weights::{Family, some_names, tied};
use serde::Deserialize;

use crate::error::Error;
use crate::manifest::is_plain;
use crate::safetensors::{HostTensor, Reader, Tensors};

/// The file of a model that is stored in one piece.
pub const FILE: &str = "model.safetensors";

/// The file that says which shard holds which tensor, where a model is stored in several.
pub const INDEX: &str = "model.safetensors.index.json";

/// The open weights of a directory, in one file or in many.
pub struct Weights {
    dir: PathBuf,
    shards: Vec<Reader>,
    /// The shard that holds each tensor.
    holder: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Opens the weights of a directory, without reading a tensor yet.
///
/// # Errors
/// [`Error::NoWeights`] says what lies there instead; [`Error::Malformed`] names a file that is
/// damaged, or an index that does not fit its shards; [`Error::Read`].
pub fn open_model(dir: &Path) -> Result<Weights, Error> {
    if dir.join(FILE).is_file() {
        let reader = Reader::open(&dir.join(FILE))?;
        let holder = reader.names().into_iter().map(|name| (name, 0)).collect();
        return Ok(Weights { dir: dir.to_path_buf(), shards: vec![reader], holder });
    }
    if dir.join(INDEX).is_file() {
        return open_shards(dir);
    }
    Err(Error::NoWeights { dir: dir.to_path_buf(), found: what_is_there(dir) })
}

fn open_shards(dir: &Path) -> Result<Weights, Error> {
    let path = dir.join(INDEX);
    let text = fs::read(&path).map_err(|source| Error::read(&path, source))?;
    let index: Index = serde_json::from_slice(&text)
        .map_err(|error| Error::malformed(&path, format!("is not an index of shards: {error}")))?;
    let mut shards: Vec<Reader> = Vec::new();
    let mut number: BTreeMap<String, usize> = BTreeMap::new();
    let mut holder = BTreeMap::new();
    for (tensor, file) in index.weight_map {
        let shard = match number.get(&file) {
            Some(&shard) => shard,
            None => {
                if !is_plain(&file) {
                    let why = format!("puts tensor {tensor:?} into {file:?}, which is not a file of that directory");
                    return Err(Error::malformed(&path, why));
                }
                if !dir.join(&file).is_file() {
                    let why =
                        format!("puts tensor {tensor:?} into {file}, which is missing; hint: fetch that file too");
                    return Err(Error::malformed(&path, why));
                }
                shards.push(Reader::open(&dir.join(&file))?);
                number.insert(file.clone(), shards.len() - 1);
                shards.len() - 1
            }
        };
        if shards[shard].shape(&tensor).is_none() {
            let why = format!("puts tensor {tensor:?} into {file}, which does not hold it");
            return Err(Error::malformed(&path, why));
        }
        holder.insert(tensor, shard);
    }
    Ok(Weights { dir: dir.to_path_buf(), shards, holder })
}

/// What a directory without safetensors holds, and what to do about it.
fn what_is_there(dir: &Path) -> String {
    if !dir.exists() {
        return ": there is no such directory; hint: check the path".to_string();
    }
    if !dir.is_dir() {
        return ": it is a file; hint: name the directory that it lies in".to_string();
    }
    let mut names: Vec<String> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let with = |part: &dyn Fn(&str) -> bool| names.iter().find(|name| part(name));
    if let Some(pickle) = with(&|name| name.starts_with("pytorch_model") && name.contains(".bin")) {
        let class = architecture(dir).unwrap_or_else(|| "AutoModel".into());
        return format!(
            ", only {pickle}, a Python pickle that is not read because it can run code; hint: convert it once with \
             transformers.{class}.from_pretrained(DIR).save_pretrained(DIR, safe_serialization=True)"
        );
    }
    if let Some(step) = names.iter().rev().find(|name| crate::checkpoint::step_of(name).is_some()) {
        return format!(
            ", but it is a run's directory; hint: name one of its checkpoints, such as {}",
            dir.join(step).display()
        );
    }
    if let Some(other) = with(&|name| name.ends_with(".safetensors")) {
        return format!(", but {other}; hint: rename it to {FILE} if those are the weights");
    }
    format!("; hint: a model directory holds {FILE} and config.json, and this one holds {}", some_names(&names))
}

/// The class of `transformers` that a directory's `config.json` names.
fn architecture(dir: &Path) -> Option<String> {
    let config: serde_json::Value = serde_json::from_slice(&fs::read(dir.join("config.json")).ok()?).ok()?;
    config["architectures"][0].as_str().map(String::from)
}

/// Reads the weights of a directory of the family `M`.
///
/// # Errors
/// As [`open_model`] and [`Weights::tensor`]; [`Error::Malformed`] where a tensor is not what it is tied to.
pub(crate) fn read<M: Family>(dir: &Path) -> Result<Tensors, Error> {
    let weights = open_model(dir)?;
    let read = |name: &str| weights.tensor(name).map(|tensor| (name.to_string(), tensor));
    let tensors: Tensors = weights.names().filter(|name| !M::is_buffer(name)).map(read).collect::<Result<_, _>>()?;
    if let Some((copy, original)) = tied::<M>(&tensors).into_iter().find(|(a, b)| tensors[*a] != tensors[*b]) {
        let why =
            format!("`{copy}` and `{original}` are not the same, but only a head tied to the embedding is supported");
        return Err(Error::malformed(dir, why));
    }
    Ok(tensors)
}

impl Weights {
    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// All tensors' names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.holder.keys().map(String::as_str)
    }

    /// A tensor's shape; `None` where there is no such tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.shards[*self.holder.get(name)?].shape(name)
    }

    /// A tensor's stored type as safetensors names it, such as `BF16`.
    pub fn dtype(&self, name: &str) -> Option<String> {
        self.shards[*self.holder.get(name)?].dtype(name)
    }

    /// Reads one tensor and converts it to `f32`.
    ///
    /// # Errors
    /// [`Error::NoTensor`]; [`Error::UnsupportedDtype`]; [`Error::NotFinite`].
    pub fn tensor(&self, name: &str) -> Result<HostTensor, Error> {
        match self.holder.get(name) {
            Some(&shard) => self.shards[shard].weight(name),
            None => Err(Error::NoTensor {
                path: self.dir.clone(),
                tensor: name.to_string(),
                holds: some_names(&self.holder.keys().cloned().collect::<Vec<_>>()),
            }),
        }
    }
}
