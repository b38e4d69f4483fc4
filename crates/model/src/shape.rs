//! What the configurations of all families share: how a shape is checked, overridden, and read from a `config.json`.

use crate::config::ConfigError;
use serde_json::Value;

/// The keys of `[model.<family>]`, what the run asks for and what a directory holds: they may only agree.
///
/// # Errors
/// Every key that contradicts the directory.
pub(crate) fn agree(family: &str, keys: &[(&str, Option<usize>, usize)]) -> Result<(), ConfigError> {
    let contradiction = |(key, asked, found): &(&str, Option<usize>, usize)| {
        let asked = asked.filter(|asked| asked != found)?;
        Some(format!("`model.{family}.{key}` is {asked}, but `model.init_from` holds a model with {found}"))
    };
    let contradictions: Vec<String> = keys.iter().filter_map(contradiction).collect();
    if contradictions.is_empty() {
        return Ok(());
    }
    let hint = "hint: leave the shape keys out, they are read from the directory";
    Err(ConfigError(format!("{}; {hint}", contradictions.join("; "))))
}

/// # Errors
/// A width that the heads do not divide.
pub(crate) fn check_heads(d_model: usize, n_head: usize) -> Result<(), ConfigError> {
    if n_head == 0 || !d_model.is_multiple_of(n_head) {
        return Err(ConfigError(format!("`d_model` is {d_model}, which `n_head` = {n_head} does not divide")));
    }
    Ok(())
}

/// # Errors
/// A vocabulary smaller than the tokenizer's.
pub(crate) fn check_vocabulary(family: &str, vocab_size: usize, tokenizer_size: usize) -> Result<(), ConfigError> {
    if vocab_size < tokenizer_size {
        return Err(ConfigError(format!(
            "the model's vocabulary has {vocab_size} entries, but the tokenizer has {tokenizer_size}; hint: use the \
             tokenizer the model was trained with, or a larger `model.{family}.vocab_size`"
        )));
    }
    Ok(())
}

/// Options of a `config.json`: the key, whether it is as this model computes, and what that is.
///
/// # Errors
/// The first that would compute something else.
pub(crate) fn refuse_other_options(config: &Value, options: &[(&str, bool, &str)]) -> Result<(), ConfigError> {
    match options.iter().find(|(_, fits, _)| !fits) {
        None => Ok(()),
        Some((key, _, needed)) => {
            Err(ConfigError(format!("config.json: `{key}` is {}, but only {needed} is supported", config[key])))
        }
    }
}

/// Whether an option is `true`; one that is not there is `default`.
pub(crate) fn is_on(config: &Value, key: &str, default: bool) -> bool {
    config[key].as_bool().unwrap_or(default)
}

/// A size that a `config.json` must have.
///
/// # Errors
/// It is missing, or not a positive whole number.
pub(crate) fn size(config: &Value, key: &str) -> Result<usize, ConfigError> {
    let size = config[key].as_u64().and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0);
    size.ok_or_else(|| ConfigError(format!("config.json: `{key}` is missing or not a positive whole number")))
}
