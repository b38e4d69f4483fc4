//! The safetensors format: named tensors, written streaming and read through a memory map.
//!
//! A file is an 8-byte header length, a JSON header, and the tensors' bytes, little-endian.
//! Source: <https://huggingface.co/docs/safetensors>. Reading checks the header with the
//! `safetensors` crate. Writing is done here, for a deterministic order and for
//! [`disk`]'s guarantees.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use memmap2::Mmap;
use model::weights::{Flat, some_names};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype as StoredDtype, Metadata, SafeTensorError, TensorInfo};
use serde::Serialize;

use crate::disk::{self, FileWriter, Written};
use crate::error::Error;

pub use model::{HostTensor, Tensors};

/// How numbers are stored in a written file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dtype {
    /// 32 bits, exactly the numbers in memory.
    #[default]
    F32,
    /// 16 bits with 10 of mantissa, up to 65504.
    F16,
    /// 16 bits with 7 of mantissa, `f32`'s range.
    Bf16,
}

impl Dtype {
    fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "F32",
            Dtype::F16 => "F16",
            Dtype::Bf16 => "BF16",
        }
    }

    /// Bytes that one number takes.
    pub fn size(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
        }
    }
}

/// A tensor to be written.
#[derive(Clone, Debug)]
// A model has a few hundred of them.
#[allow(clippy::large_enum_variant)]
pub enum Source {
    /// In host memory.
    Host(HostTensor),
    /// On a device, from which it is read when its turn comes: a second copy of a whole model never exists.
    Device(Flat),
}

impl Source {
    /// Sizes of the dimensions.
    pub fn shape(&self) -> &[usize] {
        match self {
            Source::Host(tensor) => &tensor.shape,
            Source::Device(flat) => &flat.shape,
        }
    }

    /// How many numbers it has.
    pub fn len(&self) -> usize {
        match self {
            Source::Host(tensor) => tensor.values.len(),
            Source::Device(flat) => flat.values.dims()[0],
        }
    }

    /// Whether it has no numbers.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn values(&self) -> Cow<'_, [f32]> {
        match self {
            Source::Host(tensor) => Cow::Borrowed(&tensor.values),
            Source::Device(flat) => Cow::Owned(model::weights::to_host(flat.values.clone())),
        }
    }
}

/// Tensors to be written, by name.
pub type Sources = BTreeMap<String, Source>;

/// The header's entry for metadata among those for tensors.
const METADATA: &str = "__metadata__";

/// The header is padded to a multiple of this, so that the numbers behind it are aligned.
const ALIGNMENT: usize = 8;

#[derive(Serialize)]
#[serde(untagged)]
enum HeaderEntry<'a> {
    Metadata(BTreeMap<&'a str, &'a str>),
    Tensor { dtype: &'static str, shape: &'a [usize], data_offsets: [usize; 2] },
}

/// Writes a file and waits until it is on the disk. `format: pt` is added to `metadata`:
/// HuggingFace refuses weights that lack it.
///
/// # Errors
/// [`Error::CannotSave`] where a shape and its values disagree, or where a finite number does not
/// fit [`Dtype::F16`]; and what writing brings: [`Error::DiskFull`], [`Error::Unwritable`], [`Error::Write`].
pub fn write(
    path: &Path,
    tensors: &Sources,
    dtype: Dtype,
    metadata: &BTreeMap<String, String>,
) -> Result<Written, Error> {
    let header = header(tensors, dtype, metadata)?;
    disk::write_file(path, |file| {
        file.write(&(header.len() as u64).to_le_bytes())?;
        file.write(&header)?;
        for (name, tensor) in tensors {
            write_values(file, name, &tensor.values(), dtype)?;
        }
        Ok(())
    })
}

fn header(tensors: &Sources, dtype: Dtype, metadata: &BTreeMap<String, String>) -> Result<Vec<u8>, Error> {
    let mut pairs: BTreeMap<&str, &str> = BTreeMap::from([("format", "pt")]);
    pairs.extend(metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    let mut entries = BTreeMap::from([(METADATA, HeaderEntry::Metadata(pairs))]);
    let mut offset = 0;
    for (name, tensor) in tensors {
        let (shape, count) = (tensor.shape(), tensor.len());
        if name == METADATA {
            let why = format!("the format keeps that name for itself; hint: call it anything but {METADATA}");
            return Err(Error::cannot_save(format!("tensor {name:?}"), why));
        }
        let numbers = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        if numbers != Some(count) {
            let why = format!("its shape {shape:?} does not fit its {count} values");
            return Err(Error::cannot_save(format!("tensor {name:?}"), why));
        }
        let end = offset + count * dtype.size();
        let entry = HeaderEntry::Tensor { dtype: dtype.name(), shape, data_offsets: [offset, end] };
        entries.insert(name, entry);
        offset = end;
    }
    let mut header = serde_json::to_vec(&entries).expect("strings and numbers always serialize");
    header.resize(header.len().next_multiple_of(ALIGNMENT), b' ');
    Ok(header)
}

fn write_values(file: &mut FileWriter, name: &str, values: &[f32], dtype: Dtype) -> Result<(), Error> {
    let mut bytes = Vec::new();
    for chunk in values.chunks(1 << 16) {
        bytes.clear();
        match dtype {
            Dtype::F32 => bytes.extend(chunk.iter().flat_map(|x| x.to_le_bytes())),
            Dtype::Bf16 => bytes.extend(chunk.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes())),
            Dtype::F16 => {
                for &x in chunk {
                    let half = f16::from_f32(x);
                    if x.is_finite() && half.is_infinite() {
                        let why = format!("its value {x} is too large for F16; hint: use bf16 or f32");
                        return Err(Error::cannot_save(format!("tensor {name:?}"), why));
                    }
                    bytes.extend(half.to_le_bytes());
                }
            }
        }
        file.write(&bytes)?;
    }
    Ok(())
}

/// An open safetensors file. Tensors are read from it one by one.
///
/// The file must not be changed while it is open: it is mapped, not copied.
pub struct Reader {
    path: PathBuf,
    map: Mmap,
    /// Where the tensors' bytes begin.
    data: usize,
    header: Metadata,
}

impl Reader {
    /// Opens a file and checks its whole header: that every tensor's bytes lie in the file, fit
    /// its shape, and overlap no other's.
    ///
    /// # Errors
    /// [`Error::Read`], or [`Error::Malformed`] saying what is wrong.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(|source| Error::read(path, source))?;
        // SAFETY: the map is only read. Its bytes are sound as long as no process shortens or
        // changes the file meanwhile; ours never write to a finished file, they rename a new one.
        #[allow(unsafe_code)]
        let map = unsafe { Mmap::map(&file) }.map_err(|source| Error::read(path, source))?;
        let (header_len, header) =
            SafeTensors::read_metadata(&map).map_err(|error| Error::malformed(path, explain(&error, &map)))?;
        Ok(Reader { path: path.to_path_buf(), map, data: 8 + header_len, header })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All tensors' names, sorted, those of unsupported types included.
    pub fn names(&self) -> Vec<String> {
        let mut names = self.header.offset_keys();
        names.sort();
        names
    }

    /// The header's free text, as `format: pt`.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        let pairs = self.header.metadata().clone();
        pairs.unwrap_or_default().into_iter().collect()
    }

    /// A tensor's shape, of any type; `None` where there is no such tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.header.info(name).map(|info| info.shape.as_slice())
    }

    /// A tensor's stored type as safetensors names it, such as `BF16`.
    pub fn dtype(&self, name: &str) -> Option<String> {
        self.header.info(name).map(|info| info.dtype.to_string())
    }

    /// Reads one tensor and converts it to `f32`.
    ///
    /// # Errors
    /// [`Error::NoTensor`]; [`Error::UnsupportedDtype`] for integers, booleans and 8-bit floats.
    pub fn tensor(&self, name: &str) -> Result<HostTensor, Error> {
        let info = self.header.info(name).ok_or_else(|| Error::NoTensor {
            path: self.path.clone(),
            tensor: name.to_string(),
            holds: some_names(&self.names()),
        })?;
        let values = convert(info.dtype, self.bytes(info)).ok_or_else(|| Error::UnsupportedDtype {
            path: self.path.clone(),
            tensor: name.to_string(),
            dtype: info.dtype.to_string(),
        })?;
        Ok(HostTensor { shape: info.shape.clone(), values })
    }

    /// Reads one tensor that is a model's weight.
    ///
    /// # Errors
    /// As [`tensor`](Reader::tensor); [`Error::NotFinite`].
    pub fn weight(&self, name: &str) -> Result<HostTensor, Error> {
        let tensor = self.tensor(name)?;
        match tensor.values.iter().find(|value| !value.is_finite()) {
            None => Ok(tensor),
            Some(&value) => Err(Error::NotFinite { path: self.path.clone(), tensor: name.to_string(), value }),
        }
    }

    /// Reads all tensors.
    ///
    /// # Errors
    /// As [`tensor`](Reader::tensor).
    pub fn tensors(&self) -> Result<Tensors, Error> {
        let read = |name: String| self.tensor(&name).map(|tensor| (name, tensor));
        self.names().into_iter().map(read).collect()
    }

    fn bytes(&self, info: &TensorInfo) -> &[u8] {
        let (begin, end) = info.data_offsets;
        &self.map[self.data + begin..self.data + end] // in bounds: `open` checked every offset
    }
}

/// `None` for a type that is not read as weights.
fn convert(dtype: StoredDtype, bytes: &[u8]) -> Option<Vec<f32>> {
    fn each<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f32) -> Option<Vec<f32>> {
        let (numbers, _) = bytes.as_chunks::<N>();
        Some(numbers.iter().map(|&bytes| number(bytes)).collect())
    }
    match dtype {
        StoredDtype::F32 => each(bytes, f32::from_le_bytes),
        StoredDtype::F16 => each(bytes, |b| f16::from_le_bytes(b).to_f32()),
        StoredDtype::BF16 => each(bytes, |b| bf16::from_le_bytes(b).to_f32()),
        StoredDtype::F64 => each(bytes, |b| f64::from_le_bytes(b) as f32),
        _ => None,
    }
}

/// Says what is wrong with a header in the words of someone who did not write the format.
fn explain(error: &SafeTensorError, bytes: &[u8]) -> String {
    if bytes.starts_with(b"version https://git-lfs") {
        return "is a Git LFS pointer, not the weights; hint: run `git lfs pull` in its repository".into();
    }
    let what = match error {
        SafeTensorError::HeaderTooSmall | SafeTensorError::InvalidHeaderLength => {
            format!("is truncated, or not a safetensors file: it ends inside its header ({} bytes in all)", bytes.len())
        }
        SafeTensorError::MetadataIncompleteBuffer => {
            "is truncated or has bytes too many: its tensors do not end where the file ends".to_string()
        }
        SafeTensorError::InvalidOffset(name) => {
            format!("is malformed: the bytes of tensor {name:?} overlap another's or leave a gap")
        }
        SafeTensorError::HeaderTooLarge => {
            "is not a safetensors file: its first 8 bytes are no header length".to_string()
        }
        SafeTensorError::InvalidHeader(_) => "is not a safetensors file: its header is not UTF-8".to_string(),
        SafeTensorError::InvalidHeaderDeserialization(error) => {
            format!("has a malformed header: {error}")
        }
        SafeTensorError::TensorInvalidInfo => "is malformed: a tensor's shape does not fit its bytes".to_string(),
        other => format!("is malformed: {other}"),
    };
    format!("{what}; hint: fetch or save the file again")
}
