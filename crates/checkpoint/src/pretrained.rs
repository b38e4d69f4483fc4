//! Between a directory and a model: the HuggingFace files of each family.

use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;
use data::Tokenizer;
use data::chat::ChatTemplate;
use model::bert::{Bert, BertConfig};
use model::gpt::ConfigError;
use model::{Gpt, GptConfig, LoadReport, Tensors};
use serde_json::{Value, json};

use crate::checkpoint::{Contents, File};
use crate::error::Error;
use crate::manifest::verify;
use crate::weights::open_model;

/// A model read from a directory, with what it takes to use it.
#[derive(Debug)]
pub struct Pretrained {
    /// The model, outside autodiff.
    pub model: Gpt,
    /// Its shape.
    pub config: GptConfig,
    /// The tokenizer that lies beside it.
    pub tokenizer: Tokenizer,
    /// What was loaded and what was not used.
    pub report: LoadReport,
}

/// Reads shape and weights of a HuggingFace directory of the `gpt2` family. A manifest is verified where there is
/// one.
///
/// # Errors
/// A directory that does not verify, or files that are missing, damaged or of another family.
pub fn read_gpt(dir: &Path) -> Result<(GptConfig, Tensors), Error> {
    read(dir, GptConfig::from_hf)
}

/// The same of the `bert` family. [`model::weights::load`] takes the tensors into a whole model,
/// [`model::weights::load_body`] into one whose head may be new.
///
/// # Errors
/// As [`read_gpt`].
pub fn read_bert(dir: &Path) -> Result<(BertConfig, Tensors), Error> {
    read(dir, BertConfig::from_hf)
}

fn read<C>(dir: &Path, from_hf: impl Fn(&Value) -> Result<C, ConfigError>) -> Result<(C, Tensors), Error> {
    verify(dir)?;
    let path = dir.join("config.json");
    let bytes = std::fs::read(&path).map_err(|error| Error::read(&path, error))?;
    let value: Value =
        serde_json::from_slice(&bytes).map_err(|error| Error::malformed(dir, format!("config.json: {error}")))?;
    let config = from_hf(&value).map_err(|error| Error::malformed(dir, error.to_string()))?;
    let (tensors, skipped) = open_model(dir)?.tensors()?;
    if !skipped.is_empty() {
        tracing::debug!("tensors that are not weights: {}", skipped.join(", "));
    }
    Ok((config, tensors))
}

/// Opens a model for use on `device`.
///
/// # Errors
/// As [`read_gpt`]; weights that do not fit the shape, with both shapes; a tokenizer that cannot be read or has more
/// ids than the model.
pub fn open_gpt(dir: &Path, device: &Device) -> Result<Pretrained, Error> {
    let (config, tensors) = read_gpt(dir)?;
    let tokenizer = fitting_tokenizer(dir, config.vocab_size)?;
    let blank = Gpt::blank(&config, &device.clone().inner());
    let (model, report) =
        model::weights::load(blank, &tensors).map_err(|error| Error::malformed(dir, error.to_string()))?;
    Ok(Pretrained { model: model.valid(), config, tokenizer, report })
}

/// The files of a model's HuggingFace directory.
pub fn gpt_files(model: &Gpt, config: &GptConfig, tokenizer: &Tokenizer) -> Contents {
    let end = tokenizer.end_of_text();
    let mut generation = json!({"_from_model_config": true, "do_sample": true});
    if let Some(end) = end {
        generation["bos_token_id"] = json!(end);
        generation["eos_token_id"] = json!(end);
    }
    // A chat model stops where its template ends an answer.
    if let Ok(Some(template)) = ChatTemplate::of_tokenizer(tokenizer) {
        generation["eos_token_id"] = json!(template.stop_tokens(tokenizer));
    }
    let mut contents: Contents =
        tokenizer.files(config.max_seq_len).into_iter().map(|(name, bytes)| (name, File::Bytes(bytes))).collect();
    contents.insert("config.json".into(), json_file(&config.to_hf(end)));
    contents.insert("generation_config.json".into(), json_file(&generation));
    contents.insert("model.safetensors".into(), File::on_device(model::weights::stored(model)));
    contents
}

/// The files of a BERT's HuggingFace directory; without a tokenizer padding is id 0, as in every published BERT.
pub fn bert_files(model: &Bert, config: &BertConfig, tokenizer: Option<&Tokenizer>) -> Contents {
    let files = tokenizer.map(|tokenizer| tokenizer.files(config.max_seq_len)).unwrap_or_default();
    let mut contents: Contents = files.into_iter().map(|(name, bytes)| (name, File::Bytes(bytes))).collect();
    let pad = tokenizer.map_or(Some(0), |tokenizer| tokenizer.specials().map(|specials| specials.pad));
    contents.insert("config.json".into(), json_file(&config.to_hf(pad)));
    contents.insert("model.safetensors".into(), File::on_device(model::weights::stored(model)));
    contents
}

/// A BERT read from a directory, with what it takes to use it.
#[derive(Debug)]
pub struct PretrainedBert {
    /// The model with its head, outside autodiff.
    pub model: Bert,
    /// Its shape.
    pub config: BertConfig,
    /// The tokenizer that lies beside it.
    pub tokenizer: Tokenizer,
}

/// Opens a BERT for use on `device`.
///
/// # Errors
/// As [`open_gpt`].
pub fn open_bert(dir: &Path, device: &Device) -> Result<PretrainedBert, Error> {
    let (config, tensors) = read_bert(dir)?;
    let tokenizer = fitting_tokenizer(dir, config.vocab_size)?;
    let blank = Bert::blank(&config, &device.clone().inner());
    let (model, _) = model::weights::load(blank, &tensors).map_err(|error| Error::malformed(dir, error.to_string()))?;
    Ok(PretrainedBert { model: model.valid(), config, tokenizer })
}

/// The family that a directory's `config.json` names.
///
/// # Errors
/// A file that is missing or is no JSON.
pub fn family(dir: &Path) -> Result<String, Error> {
    let path = dir.join("config.json");
    let bytes = std::fs::read(&path).map_err(|error| Error::read(&path, error))?;
    let value: Value =
        serde_json::from_slice(&bytes).map_err(|error| Error::malformed(dir, format!("config.json: {error}")))?;
    Ok(value["model_type"].as_str().unwrap_or_default().to_string())
}

fn fitting_tokenizer(dir: &Path, vocab_size: usize) -> Result<Tokenizer, Error> {
    let tokenizer = Tokenizer::from_file(dir).map_err(|error| Error::malformed(dir, error.to_string()))?;
    if tokenizer.vocab_size() > vocab_size {
        let message = format!("the tokenizer has {} ids, the model {vocab_size}", tokenizer.vocab_size());
        return Err(Error::malformed(dir, message));
    }
    Ok(tokenizer)
}

fn json_file(value: &Value) -> File {
    File::Bytes(format!("{value:#}\n").into_bytes())
}

/// The files of a directory for use elsewhere: as [`gpt_files`], from what lies in `dir`, its numbers called `dtype`
/// (`float16`) in `config.json`.
///
/// # Errors
/// As [`read_gpt`].
pub fn exported(dir: &Path, dtype: &str) -> Result<Contents, Error> {
    let (config, tensors) = read_gpt(dir)?;
    let tokenizer = Tokenizer::from_file(dir).map_err(|error| Error::malformed(dir, error.to_string()))?;
    let mut hf = config.to_hf(tokenizer.end_of_text());
    // The key of `transformers` 5, and of those before it.
    hf["dtype"] = json!(dtype);
    hf["torch_dtype"] = json!(dtype);
    // Names as HuggingFace writes them today, and no buffers of older files.
    let blank = Gpt::blank(&config, &Device::flex());
    let (model, _) = model::weights::load(blank, &tensors).map_err(|error| Error::malformed(dir, error.to_string()))?;
    let mut contents = gpt_files(&model, &config, &tokenizer);
    contents.insert("config.json".into(), json_file(&hf));
    Ok(contents)
}
