//! Directories that hold a low-rank adapter as PEFT stores it, and not the model that it adapts.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use model::HostTensor;
use model::lora::is_adapter;
use model::weights::{Family, Flat, TOKEN_EMBEDDING, is_in};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::checkpoint::{Contents, File};
use crate::error::Error;
use crate::manifest::verify;
use crate::safetensors::{Reader, Tensors};
use crate::weights;

/// The file that makes a directory one of an adapter.
pub const CONFIG_FILE: &str = "adapter_config.json";

/// The adapter's tensors.
pub const WEIGHTS_FILE: &str = "adapter_model.safetensors";

/// The `config.json` of the model that the adapter makes, with its labels and its vocabulary. A file of that name would make
/// `transformers` look for whole weights.
const MODEL_CONFIG_FILE: &str = "adapted_config.json";

/// Which weights the adapter was trained beside; see [`weights_hash`].
const BASE_HASH_FILE: &str = "adapted_model.blake3";

/// What PEFT puts before the names of the model that it wraps.
const PREFIX: &str = "base_model.model.";

const EMBEDDING: &str = "transformer.wte.weight";
const HEAD: &str = "lm_head.weight";

/// [`CONFIG_FILE`], in PEFT's words.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AdapterConfig {
    /// `LORA`.
    pub peft_type: String,
    /// What the model is for, such as `CAUSAL_LM`.
    #[serde(default)]
    pub task_type: Option<String>,
    /// The directory of the model that is adapted; relative to the working directory, or to the adapter's own.
    #[serde(default)]
    pub base_model_name_or_path: Option<String>,
    /// The rank.
    pub r: usize,
    /// What an adapter adds is multiplied by `lora_alpha / r`.
    pub lora_alpha: f64,
    /// Dropout in training.
    #[serde(default)]
    pub lora_dropout: f64,
    /// The ends of the adapted layers' names.
    #[serde(default)]
    pub target_modules: Value,
    /// Modules that were trained whole.
    #[serde(default)]
    pub modules_to_save: Option<Vec<String>>,
    /// Whether the adapted layers store their weights `[in, out]`.
    #[serde(default)]
    pub fan_in_fan_out: bool,
    /// `none`.
    #[serde(default = "none")]
    pub bias: String,
    /// Whether the scale is `lora_alpha / sqrt(r)` instead.
    #[serde(default)]
    pub use_rslora: bool,
    /// Whether the head is the embedding, of which the file then has one only.
    #[serde(default)]
    pub ensure_weight_tying: bool,
    /// Every other key.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

fn none() -> String {
    "none".into()
}

/// Keys that make an adapter compute something else than a low-rank sum, where they are set.
const UNSUPPORTED: [&str; 15] = [
    "use_dora",
    "use_qalora",
    "lora_bias",
    "rank_pattern",
    "alpha_pattern",
    "trainable_token_indices",
    "layer_replication",
    "target_parameters",
    "alora_invocation_tokens",
    "use_bdlora",
    "kasa_config",
    "arrow_config",
    "monteclora_config",
    "velora_config",
    "megatron_config",
];

impl AdapterConfig {
    /// Reads the config of an adapter's directory.
    ///
    /// # Errors
    /// [`Error::Read`]; [`Error::Malformed`] for what is no adapter's config, or one of a kind that is not supported.
    pub fn read(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(CONFIG_FILE);
        let bytes = fs::read(&path).map_err(|source| Error::read(&path, source))?;
        let config: Self = serde_json::from_slice(&bytes)
            .map_err(|error| Error::malformed(&path, format!("is not a LoRA adapter's config: {error}")))?;
        let refused = |why: String| Err(Error::malformed(&path, why));
        if config.peft_type != "LORA" {
            return refused(format!("`peft_type` is \"{}\"; hint: LORA is supported", config.peft_type));
        }
        if config.r == 0 || !config.lora_alpha.is_finite() {
            return refused(format!("`r` is {} and `lora_alpha` {}", config.r, config.lora_alpha));
        }
        if config.bias != "none" {
            return refused(format!("`bias` is \"{}\"; hint: \"none\" is supported", config.bias));
        }
        // Other ways change the weights of the model when PEFT loads the adapter.
        if let Some(Value::String(way)) = config.others.get("init_lora_weights")
            && !["gaussian", "eva", "orthogonal"].contains(&way.to_lowercase().as_str())
        {
            return refused(format!(
                "`init_lora_weights` is \"{way}\", with which PEFT changes the adapted model; hint: merge the adapter with PEFT"
            ));
        }
        let is_set = |value: &Value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::Object(table) => !table.is_empty(),
            Value::Array(list) => !list.is_empty(),
            _ => true,
        };
        match UNSUPPORTED.iter().find(|key| config.others.get(**key).is_some_and(is_set)) {
            Some(key) => refused(format!("`{key}` is set, which is not supported; hint: merge the adapter with PEFT")),
            None => Ok(config),
        }
    }

    /// What an adapter's product is multiplied by.
    fn scale(&self) -> f64 {
        let rank = self.r as f64;
        self.lora_alpha / if self.use_rslora { rank.sqrt() } else { rank }
    }

    /// The directory of the model that the adapter in `dir` is for.
    fn base(&self, dir: &Path) -> Result<PathBuf, Error> {
        let refused = |why: String| Err(Error::malformed(&dir.join(CONFIG_FILE), why));
        let Some(name) = self.base_model_name_or_path.as_deref().filter(|name| !name.is_empty()) else {
            return refused(
                "`base_model_name_or_path` names no model; hint: give the directory of the adapted model".into(),
            );
        };
        let Some(base) = [PathBuf::from(name), dir.join(name)].into_iter().find(|path| path.is_dir()) else {
            return refused(format!(
                "the model that it adapts, `base_model_name_or_path` = \"{name}\", is no directory here; hint: run firebox \
                 where that path leads to it, or write another path there"
            ));
        };
        let base = crate::resolve(&base)?;
        match is_adapter_dir(&base) {
            true => refused(format!("{} is an adapter too; hint: `firebox merge` it first", base.display())),
            false => Ok(base),
        }
    }

    /// The bytes of [`CONFIG_FILE`].
    fn to_file(&self) -> File {
        File::Bytes(format!("{:#}\n", json!(self)).into_bytes())
    }
}

/// Whether a directory holds an adapter.
pub fn is_adapter_dir(dir: &Path) -> bool {
    dir.join(CONFIG_FILE).is_file()
}

/// The directory of the model that an adapter's directory is for; any other directory is its own.
///
/// # Errors
/// As [`AdapterConfig::read`]; a model that is not there.
pub fn base_of(dir: &Path) -> Result<PathBuf, Error> {
    match is_adapter_dir(dir) {
        true => AdapterConfig::read(dir)?.base(dir),
        false => Ok(dir.to_path_buf()),
    }
}

/// The tensors of an adapter's directory, by the names of the model's modules.
///
/// # Errors
/// [`Error::Read`]; [`Error::Malformed`] for a file that is damaged or holds other tensors than an adapter's.
pub fn read_adapter(dir: &Path) -> Result<Tensors, Error> {
    let config = AdapterConfig::read(dir)?;
    let path = dir.join(WEIGHTS_FILE);
    let mut tensors = Tensors::new();
    let reader = Reader::open(&path)?;
    for name in reader.names() {
        match name.strip_prefix(PREFIX) {
            Some(of_model) => drop(tensors.insert(of_model.to_string(), reader.weight(&name)?)),
            None => return Err(Error::malformed(&path, format!("tensor {name:?} is not one of an adapter"))),
        }
    }
    let whole = config.modules_to_save.unwrap_or_default();
    let is_known = |name: &str| is_adapter(name) || name == EMBEDDING || whole.iter().any(|module| is_in(name, module));
    if let Some(unknown) = tensors.keys().find(|name| !is_known(name) && *name != HEAD) {
        let why = format!("tensor \"{PREFIX}{unknown}\" is neither a LoRA matrix nor of `modules_to_save`");
        return Err(Error::malformed(&path, why));
    }
    // The head is the embedding here; PEFT stores it, or a copy, beside it.
    let head = tensors.remove(HEAD);
    match (&head, tensors.get(EMBEDDING)) {
        (None, None) => Ok(tensors),
        (None, Some(_)) if config.ensure_weight_tying => Ok(tensors),
        (Some(head), Some(embedding)) if head == embedding => Ok(tensors),
        _ => Err(Error::malformed(
            &path,
            format!("`{HEAD}` and `{EMBEDDING}` are not the same, but only a head that is the embedding is supported"),
        )),
    }
}

/// Puts an adapter's tensors among those of the model that it adapts: its low-rank matrices beside them, its whole modules
/// in their place.
pub fn overlay(tensors: &mut Tensors, adapter: Tensors) {
    for (name, tensor) in adapter {
        // A base model's file lacks the first part of every name.
        if let Some((_, rest)) = name.split_once('.') {
            tensors.remove(rest);
        }
        tensors.insert(name, tensor);
    }
}

/// The `config.json` and the tensors of the model that an adapter's directory makes, its matrices multiplied and added.
///
/// # Errors
/// As [`read_adapter`]; a model that is not there, is damaged, or that the adapter does not fit.
pub(crate) fn merged<M: Family>(dir: &Path) -> Result<(Value, Tensors), Error> {
    let config = AdapterConfig::read(dir)?;
    let base = config.base(dir)?;
    verify(&base)?;
    check_base(dir, &base, &weights_hash(&base)?)?;
    let mut tensors = weights::read::<M>(&base)?;
    let (low_rank, whole): (Tensors, Tensors) = read_adapter(dir)?.into_iter().partition(|(name, _)| is_adapter(name));
    let hf = hf_config(dir, &base, &config, &whole)?;
    let transposed = hf["model_type"] == "gpt2";
    let path = dir.join(WEIGHTS_FILE);
    let modules: BTreeSet<&str> =
        low_rank.keys().filter_map(|name| name.split_once(".lora_")).map(|(m, _)| m).collect();
    for module in modules {
        let [a, b] = ["lora_A", "lora_B"].map(|part| low_rank.get(&format!("{module}.{part}.weight")));
        let (Some(a), Some(b)) = (a, b) else {
            return Err(Error::malformed(&path, format!("`{module}` has one LoRA matrix of two")));
        };
        let full = format!("{module}.weight");
        let short = full.split_once('.').map_or("", |(_, rest)| rest).to_string();
        let Some(weight) = [full, short].iter().find(|name| tensors.contains_key(*name)).cloned() else {
            let why = format!("it adapts `{module}`, which the model in {} does not have", base.display());
            return Err(Error::malformed(&path, why));
        };
        let weight = tensors.get_mut(&weight).expect("just found");
        add_product(weight, a, b, config.scale(), transposed).map_err(|why| {
            Error::malformed(&path, format!("`{module}` {why} in {}; hint: it is for another model", base.display()))
        })?;
    }
    overlay(&mut tensors, whole);
    Ok((hf, tensors))
}

/// Adds `scale * b a` to a weight.
///
/// # Shapes
/// - `weight`: `[out, in]`, or `[in, out]` if `transposed`; `a`: `[rank, in]`; `b`: `[out, rank]`
fn add_product(
    weight: &mut HostTensor,
    a: &HostTensor,
    b: &HostTensor,
    scale: f64,
    transposed: bool,
) -> Result<(), String> {
    let ([rank, d_in], [d_out, same]) = (sides(a)?, sides(b)?);
    let expected = if transposed { [d_in, d_out] } else { [d_out, d_in] };
    if rank != same || weight.shape != expected {
        return Err(format!(
            "has LoRA matrices of shape {:?} and {:?}, but the weight is {:?}",
            a.shape, b.shape, weight.shape
        ));
    }
    let width = expected[1].max(1);
    for (row, values) in weight.values.chunks_exact_mut(width).enumerate() {
        let mut sums = vec![0.0f64; width];
        for r in 0..rank {
            match transposed {
                // The row is an input, its numbers are the outputs.
                true => {
                    let of_input = scale * f64::from(a.values[r * d_in + row]);
                    let outputs = b.values.iter().skip(r).step_by(rank);
                    sums.iter_mut().zip(outputs).for_each(|(sum, b)| *sum += of_input * f64::from(*b));
                }
                false => {
                    let of_output = scale * f64::from(b.values[row * rank + r]);
                    let inputs = &a.values[r * d_in..(r + 1) * d_in];
                    sums.iter_mut().zip(inputs).for_each(|(sum, a)| *sum += of_output * f64::from(*a));
                }
            }
        }
        values.iter_mut().zip(sums).for_each(|(value, sum)| *value = (f64::from(*value) + sum) as f32);
    }
    Ok(())
}

fn sides(matrix: &HostTensor) -> Result<[usize; 2], String> {
    matrix.shape.as_slice().try_into().map_err(|_| format!("has a LoRA matrix of shape {:?}", matrix.shape))
}

/// Where the config of the model that a directory holds, or makes of the one that it adapts, lies; none where only that
/// one's does, as in what PEFT saves.
pub(crate) fn own_config(dir: &Path) -> Option<PathBuf> {
    let whole = dir.join("config.json");
    match is_adapter_dir(dir) {
        true => [dir.join(MODEL_CONFIG_FILE), whole].into_iter().find(|path| path.is_file()),
        false => Some(whole),
    }
}

/// The `config.json` of the model that an adapter makes; where none lies beside it, the adapted model's with what the adapter
/// changed.
fn hf_config(dir: &Path, base: &Path, config: &AdapterConfig, whole: &Tensors) -> Result<Value, Error> {
    if let Some(own) = own_config(dir) {
        return json_of(dir, &own);
    }
    let mut hf = json_of(base, &base.join("config.json"))?;
    if !hf.is_object() {
        return Err(Error::malformed(base, "config.json: is no table of keys"));
    }
    if let Some(embedding) = whole.get(EMBEDDING) {
        hf["vocab_size"] = json!(embedding.shape.first());
    }
    let architecture = match config.task_type.as_deref() {
        Some("SEQ_CLS") => Some("BertForSequenceClassification"),
        Some("TOKEN_CLS") => Some("BertForTokenClassification"),
        _ => None,
    };
    if let (Some(architecture), Some(classifier)) = (architecture, whole.get("classifier.bias")) {
        let labels = classifier.values.len();
        if hf["id2label"].as_object().is_none_or(|names| names.len() != labels) {
            let names: Map<String, Value> =
                (0..labels).map(|id| (id.to_string(), json!(format!("LABEL_{id}")))).collect();
            hf["id2label"] = names.into();
        }
        hf["architectures"] = json!([architecture]);
    }
    Ok(hf)
}

/// A JSON file of the directory that an error names.
pub(crate) fn json_of(dir: &Path, path: &Path) -> Result<Value, Error> {
    let bytes = fs::read(path).map_err(|error| Error::read(path, error))?;
    serde_json::from_slice(&bytes).map_err(|error| Error::malformed(dir, format!("config.json: {error}")))
}

/// Makes the files of a model's directory those of its adapter: the adapter's tensors and config take the place of the
/// weights.
///
/// `base_hash` is the [`weights_hash`] of the model that is adapted.
pub fn with_adapter_only<M: Family>(
    mut contents: Contents,
    model: &M,
    config: &AdapterConfig,
    base_hash: &str,
) -> Contents {
    let whole = config.modules_to_save.clone().unwrap_or_default();
    let mut tensors: Vec<Flat> = model::weights::stored(model)
        .into_iter()
        .filter(|flat| is_adapter(&flat.name) || whole.iter().any(|module| is_in(&flat.name, module)))
        .collect();
    // To PEFT, embedding and head are two modules.
    let embedding = tensors.iter().find(|flat| flat.name == EMBEDDING);
    let head = embedding.map(|embedding| Flat { name: HEAD.into(), ..embedding.clone() });
    tensors.extend(head);
    tensors.iter_mut().for_each(|flat| flat.name.insert_str(0, PREFIX));
    contents.remove(weights::FILE);
    let model_config = contents.remove("config.json");
    contents.extend(model_config.map(|config| (MODEL_CONFIG_FILE.to_string(), config)));
    contents.insert(WEIGHTS_FILE.into(), File::on_device(tensors));
    contents.insert(CONFIG_FILE.into(), config.to_file());
    contents.insert(BASE_HASH_FILE.into(), File::Bytes(format!("{base_hash}\n").into_bytes()));
    contents
}

/// BLAKE3 (hexadecimal) over a model directory's files of weights, so that an adapter can tell its own model from another of
/// the same shape.
///
/// # Errors
/// [`Error::Read`].
pub fn weights_hash(dir: &Path) -> Result<String, Error> {
    let entries = fs::read_dir(dir).map_err(|error| Error::read(dir, error))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>();
    let mut paths = paths.map_err(|error| Error::read(dir, error))?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    paths.sort();
    let mut hasher = blake3::Hasher::new();
    for path in paths {
        let mut file = fs::File::open(&path).map_err(|error| Error::read(&path, error))?;
        std::io::copy(&mut file, &mut hasher).map_err(|error| Error::read(&path, error))?;
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// Refuses an adapter, in `dir`, of other weights than those of this [`weights_hash`]; one that does not say which passes.
///
/// # Errors
/// [`Error::Malformed`] for another model; [`Error::Read`].
pub fn check_base(dir: &Path, base: &Path, base_hash: &str) -> Result<(), Error> {
    let path = dir.join(BASE_HASH_FILE);
    match fs::read_to_string(&path) {
        Ok(saved) if saved.trim() == base_hash => Ok(()),
        Ok(_) => {
            let why = format!(
                "{} has other weights than when the adapter was trained beside it; hint: bring them back, or train again",
                base.display()
            );
            Err(Error::malformed(&path, why))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::read(&path, error)),
    }
}

/// `modules_to_save` as PEFT must read it: of a token embedding that is the head too, it knows two.
pub fn saved_modules(whole: &[&str]) -> Option<Vec<String>> {
    let head = whole.contains(&TOKEN_EMBEDDING).then_some("lm_head");
    let names: Vec<String> = whole.iter().copied().chain(head).map(String::from).collect();
    (!names.is_empty()).then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_is_added_in_either_layout() {
        let tensor = |shape: &[usize], values: &[f32]| HostTensor { shape: shape.to_vec(), values: values.to_vec() };
        // Two outputs, three inputs, rank 1.
        let (a, b) = (tensor(&[1, 3], &[1.0, 2.0, 3.0]), tensor(&[2, 1], &[10.0, 100.0]));
        let mut weight = tensor(&[2, 3], &[1.0; 6]);
        add_product(&mut weight, &a, &b, 0.5, false).unwrap();
        assert_eq!(weight.values, [6.0, 11.0, 16.0, 51.0, 101.0, 151.0]);
        let mut weight = tensor(&[3, 2], &[1.0; 6]);
        add_product(&mut weight, &a, &b, 0.5, true).unwrap();
        assert_eq!(weight.values, [6.0, 51.0, 11.0, 101.0, 16.0, 151.0]);
        assert!(add_product(&mut weight, &a, &b, 0.5, false).is_err());
    }

    #[test]
    fn adapters_of_other_kinds_are_refused_by_their_key() {
        let dir = tempfile::tempdir().unwrap();
        let config = |key: &str, value: Value| {
            let mut config = json!({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none", "use_dora": false});
            config[key] = value;
            fs::write(dir.path().join(CONFIG_FILE), config.to_string()).unwrap();
            AdapterConfig::read(dir.path())
        };
        assert_eq!(config("r", json!(16)).unwrap().scale(), 0.5);
        assert_eq!(config("use_rslora", json!(true)).unwrap().scale(), 4.0);
        for (key, value) in [
            ("peft_type", json!("IA3")),
            ("r", json!(0)),
            ("r", json!("many")),
            ("bias", json!("all")),
            ("use_dora", json!(true)),
            ("init_lora_weights", json!("pissa_niter_4")),
            ("alpha_pattern", json!({"c_attn": 3})),
        ] {
            let error = config(key, value).unwrap_err().to_string();
            assert!(error.contains(CONFIG_FILE) && (error.contains(key) || key == "r"), "{error}");
        }
    }
}
