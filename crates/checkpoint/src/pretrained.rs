//! Between a directory and a model: the HuggingFace files of each family.

use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;
use data::chat::ChatTemplate;
use data::{TextCleaner, Tokenizer};
use model::ConfigError;
use model::bert::{Bert, BertConfig};
use model::weights::Family;
use model::{Gpt, GptConfig, LoadReport, Tensors};
use serde_json::{Value, json};

use crate::adapter::{self, base_of, is_adapter_dir, json_of};
use crate::checkpoint::{Contents, File};
use crate::error::Error;
use crate::manifest::verify;
use crate::weights;

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
/// one. Of an adapter's directory, the weights are those of the model that it adapts with the adapter merged into them.
///
/// # Errors
/// A directory that does not verify, or files that are missing, damaged or of another family; weights that are not finite,
/// or not the same as those that they are tied to; an adapter without the model that it adapts, or of another.
pub fn read_gpt(dir: &Path) -> Result<(GptConfig, Tensors), Error> {
    read::<Gpt, _>(dir, GptConfig::from_hf)
}

/// The same of the `bert` family. [`model::weights::load`] takes the tensors into a whole model,
/// [`model::weights::load_body`] into one whose head may be new.
///
/// # Errors
/// As [`read_gpt`].
pub fn read_bert(dir: &Path) -> Result<(BertConfig, Tensors), Error> {
    read::<Bert, _>(dir, BertConfig::from_hf)
}

fn read<M: Family, C>(dir: &Path, from_hf: impl Fn(&Value) -> Result<C, ConfigError>) -> Result<(C, Tensors), Error> {
    verify(dir)?;
    let read = |value: &Value| from_hf(value).map_err(|error| Error::malformed(dir, error.to_string()));
    if is_adapter_dir(dir) {
        let (value, tensors) = adapter::merged::<M>(dir)?;
        return Ok((read(&value)?, tensors));
    }
    let config = read(&json_of(dir, &dir.join("config.json"))?)?;
    Ok((config, weights::read::<M>(dir)?))
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
    /// What was loaded and what was not used.
    pub report: LoadReport,
}

/// Opens a BERT for use on `device`.
///
/// # Errors
/// As [`open_gpt`].
pub fn open_bert(dir: &Path, device: &Device) -> Result<PretrainedBert, Error> {
    let (config, tensors) = read_bert(dir)?;
    let tokenizer = fitting_tokenizer(dir, config.vocab_size)?;
    let blank = Bert::blank(&config, &device.clone().inner());
    let (model, report) =
        model::weights::load(blank, &tensors).map_err(|error| Error::malformed(dir, error.to_string()))?;
    Ok(PretrainedBert { model: model.valid(), config, tokenizer, report })
}

/// The family that a directory's `config.json` names, or that of the model that an adapter is for.
///
/// # Errors
/// A file that is missing or is no JSON.
pub fn family(dir: &Path) -> Result<String, Error> {
    let value = match adapter::own_config(dir) {
        Some(own) => json_of(dir, &own)?,
        None => {
            let base = base_of(dir)?;
            json_of(&base, &base.join("config.json"))?
        }
    };
    Ok(value["model_type"].as_str().unwrap_or_default().to_string())
}

/// The tokenizer of a model's directory; an adapter may leave it to the model that it adapts.
///
/// # Errors
/// A tokenizer that cannot be read.
pub fn tokenizer(dir: &Path) -> Result<Tokenizer, Error> {
    let own = ["tokenizer.json", "vocab.json", "vocab.txt"].iter().any(|file| dir.join(file).is_file());
    let holder = if own { dir.to_path_buf() } else { base_of(dir)? };
    Ok(Tokenizer::from_file(&holder)?)
}

fn fitting_tokenizer(dir: &Path, vocab_size: usize) -> Result<Tokenizer, Error> {
    let tokenizer = tokenizer(dir)?;
    if tokenizer.vocab_size() > vocab_size {
        let message = format!("the tokenizer has {} ids, the model {vocab_size}", tokenizer.vocab_size());
        return Err(Error::malformed(dir, message));
    }
    Ok(tokenizer)
}

fn json_file(value: &Value) -> File {
    File::Bytes(format!("{value:#}\n").into_bytes())
}

/// The files of a directory for use elsewhere: those of [`gpt_files`] or [`bert_files`], from what lies in `dir`, its numbers
/// called `dtype` (`float16`) in `config.json`; what changed the texts that the model was trained on stays beside it.
///
/// # Errors
/// As [`read_gpt`].
pub fn exported(dir: &Path, dtype: &str) -> Result<Contents, Error> {
    // Names as HuggingFace writes them today, and no buffers of older files.
    let mut contents = match family(dir)?.as_str() {
        "bert" => {
            let PretrainedBert { model, config, tokenizer, .. } = open_bert(dir, &Device::flex())?;
            bert_files(&model, &config, Some(&tokenizer))
        }
        _ => {
            let Pretrained { model, config, tokenizer, .. } = open_gpt(dir, &Device::flex())?;
            gpt_files(&model, &config, &tokenizer)
        }
    };
    if let Some(File::Bytes(bytes)) = contents.get("config.json") {
        let mut hf: Value = serde_json::from_slice(bytes).expect("written as JSON");
        // The key of `transformers` 5, and of those before it.
        hf["dtype"] = json!(dtype);
        hf["torch_dtype"] = json!(dtype);
        contents.insert("config.json".into(), json_file(&hf));
    }
    if let Some(cleaner) = TextCleaner::beside(dir)? {
        contents.insert(data::clean::FILE.into(), File::Bytes(cleaner.to_json()));
    }
    Ok(contents)
}
