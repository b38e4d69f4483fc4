//! What the configurations of all families share: how a shape is checked, overridden, and read from a `config.json`.

use crate::config::ConfigError;
use serde_json::Value;
use std::fmt::Debug;

/// The keys of `[model.<family>]`, what the run asks for and what a directory holds: they may only agree.
///
/// # Errors
/// Every key that contradicts the directory.
pub(crate) fn agree(
    family: &str,
    sizes: &[(&str, Option<usize>, usize)],
    (asked_eps, found_eps): (Option<f64>, f64),
) -> Result<(), ConfigError> {
    let of_sizes = sizes.iter().filter_map(|(key, asked, found)| contradiction(family, key, *asked, *found));
    let of_eps = contradiction(family, "layer_norm_eps", asked_eps, found_eps);
    let contradictions: Vec<String> = of_sizes.chain(of_eps).collect();
    if contradictions.is_empty() {
        return Ok(());
    }
    let hint = "hint: leave the shape keys out, they are read from the directory";
    Err(ConfigError(format!("{}; {hint}", contradictions.join("; "))))
}

fn contradiction<T: PartialEq + Debug>(family: &str, key: &str, asked: Option<T>, found: T) -> Option<String> {
    let asked = asked.filter(|asked| *asked != found)?;
    Some(format!("`model.{family}.{key}` is {asked:?}, but `model.init_from` holds a model with {found:?}"))
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

/// A number of a `config.json`; one that is not there is `default`.
///
/// # Errors
/// It is no number.
pub(crate) fn number(config: &Value, key: &str, default: f64) -> Result<f64, ConfigError> {
    match &config[key] {
        Value::Null => Ok(default),
        found => found.as_f64().ok_or_else(|| ConfigError(format!("config.json: `{key}` is {found}, not a number"))),
    }
}

/// The same of what must be above 0.
///
/// # Errors
/// It is no positive number.
pub(crate) fn positive(config: &Value, key: &str, default: f64) -> Result<f64, ConfigError> {
    match number(config, key, default)? {
        found if found > 0.0 => Ok(found),
        found => Err(ConfigError(format!("config.json: `{key}` is {found:?}, not a positive number"))),
    }
}
