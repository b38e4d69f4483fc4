//! What resuming needs beside the model: where the run stands, and the optimizer's tensors.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Error;
use crate::safetensors::{Reader, Tensors};

/// The subfolder of a checkpoint that holds all of it.
pub const DIRECTORY: &str = "train_state";

/// Where a [`TrainState`] lies in a checkpoint.
pub const STATE_FILE: &str = "train_state/state.json";

/// Where the optimizer's tensors lie in a checkpoint, named like `m.<parameter>`.
pub const OPTIMIZER_FILE: &str = "train_state/optimizer.safetensors";

/// The version that this crate writes.
pub const FORMAT: u32 = 1;

/// Numbers as text: JSON numbers may come back changed in the last bit, and a resumed run compares with them.
mod exact {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{number:?}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| D::Error::custom(format!("{text:?} is not a number")))
    }
}

/// The best evaluation so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// The optimizer step it was measured at.
    pub step: u64,
    /// What was measured, lower being better.
    #[serde(with = "exact")]
    pub metric: f64,
}

/// Where a run stands. Everything else follows from it, the config and the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainState {
    /// [`FORMAT`].
    pub format: u32,
    /// Optimizer steps made.
    pub step: u64,
    /// Rows consumed since the start, over all epochs.
    pub position_rows: u64,
    /// Tokens read since the start, padding apart.
    pub tokens_seen: u64,
    /// The best evaluation so far, if there was one.
    pub best: Option<Best>,
    /// Time spent training, over all resumed parts.
    #[serde(with = "exact")]
    pub elapsed_seconds: f64,
    /// The loss scale of an f16 run; null for others.
    #[serde(default)]
    pub loss_scale: Value,
    /// The seed that all randomness is keyed by.
    pub seed: u64,
    /// What tells the training data from other data.
    pub data_hash: String,
    /// What tells the tokenizer from other ones.
    pub tokenizer_hash: String,
    /// The resolved run config.
    pub config: Value,
    /// The version of Firebox that wrote it.
    pub firebox_version: String,
}

impl TrainState {
    /// The bytes of [`STATE_FILE`]. Reading them gives the same numbers, to the last bit.
    ///
    /// # Errors
    /// [`Error::CannotSave`] where a number is not finite: JSON cannot hold it.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let numbers = [Some(self.elapsed_seconds), self.best.map(|best| best.metric)];
        if let Some(number) = numbers.into_iter().flatten().find(|x| !x.is_finite()) {
            return Err(Error::cannot_save(STATE_FILE, format!("it holds {number}")));
        }
        let mut bytes = serde_json::to_vec_pretty(self).expect("finite numbers and strings always serialize");
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads the state of a checkpoint.
    ///
    /// # Errors
    /// [`Error::NoTrainState`] for a directory that is only a model; [`Error::Malformed`], also
    /// where a newer version wrote it; [`Error::Read`].
    pub fn read(checkpoint: &Path) -> Result<Self, Error> {
        let path = checkpoint.join(STATE_FILE);
        let bytes = fs::read(&path).map_err(|error| absent_or(error, checkpoint, STATE_FILE))?;
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|error| Error::malformed(&path, format!("is not a training state: {error}")))?;
        // Before the fields are looked at: another format may have others.
        let format = value.get("format").and_then(Value::as_u64);
        if format != Some(u64::from(FORMAT)) {
            let found = format.map_or("none".to_string(), |format| format.to_string());
            let why = format!(
                "has format {found}, and this version of firebox reads {FORMAT}; hint: resume with the firebox that wrote it"
            );
            return Err(Error::malformed(&path, why));
        }
        serde_json::from_value(value)
            .map_err(|error| Error::malformed(&path, format!("is not a training state: {error}")))
    }
}

/// Reads the optimizer's tensors of a checkpoint.
///
/// # Errors
/// [`Error::NoTrainState`]; [`Error::Malformed`]; [`Error::Read`].
pub fn read_optimizer(checkpoint: &Path) -> Result<Tensors, Error> {
    let path = checkpoint.join(OPTIMIZER_FILE);
    match Reader::open(&path) {
        Err(Error::Read { source, .. }) => Err(absent_or(source, checkpoint, OPTIMIZER_FILE)),
        reader => reader?.tensors(),
    }
}

fn absent_or(error: io::Error, checkpoint: &Path, file: &'static str) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error::NoTrainState { dir: checkpoint.to_path_buf(), file },
        _ => Error::read(&checkpoint.join(file), error),
    }
}

/// One config key that has another value than when the checkpoint was saved.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The key with its tables, as `train.log_every`.
    pub key: String,
    /// The saved value; `None` where the key was absent.
    pub saved: Option<Value>,
    /// The value now; `None` where the key is absent.
    pub now: Option<Value>,
    /// Whether a run may go on with it.
    pub compatible: bool,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |value: &Option<Value>| match value {
            Some(value) => value.to_string(),
            None => "absent".to_string(),
        };
        write!(f, "`{}` was {} and is {}", self.key, show(&self.saved), show(&self.now))
    }
}

/// Compares two configs field by field, sorted by key. A difference is compatible where its key is
/// one of `may_change` or lies below one. `null` counts as absent; a list is compared as a whole.
pub fn differences(saved: &Value, now: &Value, may_change: &[&str]) -> Vec<Difference> {
    let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
    flatten("", saved, &mut old);
    flatten("", now, &mut new);
    let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
    keys.sort();
    keys.dedup();
    keys.into_iter()
        .filter(|key| !same(old.get(*key).copied(), new.get(*key).copied()))
        .map(|key| Difference {
            key: key.clone(),
            saved: old.get(key).copied().cloned(),
            now: new.get(key).copied().cloned(),
            compatible: may_change.iter().any(|prefix| is_below(key, prefix)),
        })
        .collect()
}

fn is_below(key: &str, prefix: &str) -> bool {
    key.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// `1` and `1.0` are the same setting, and so are a number and what became of it as JSON text.
fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    match (a, b) {
        (Some(Value::Number(a)), Some(Value::Number(b))) if a.is_f64() || b.is_f64() => {
            let (a, b) = (a.as_f64().unwrap_or(f64::NAN), b.as_f64().unwrap_or(f64::NAN));
            a == b || (a - b).abs() <= 2.0 * f64::EPSILON * a.abs()
        }
        _ => a == b,
    }
}

/// An empty table is a leaf, as `tokenizer.char = {}` is a choice.
fn flatten<'a>(key: &str, value: &'a Value, into: &mut BTreeMap<String, &'a Value>) {
    match value {
        Value::Null => {}
        Value::Object(table) if !table.is_empty() => {
            for (name, value) in table {
                let below = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                flatten(&below, value, into);
            }
        }
        leaf => drop(into.insert(key.to_string(), leaf)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn state() -> TrainState {
        TrainState {
            format: FORMAT,
            step: 500,
            position_rows: 24_000,
            tokens_seen: u64::MAX,
            best: Some(Best { step: 250, metric: 1.9 }),
            elapsed_seconds: 12.5,
            loss_scale: serde_json::Value::Null,
            seed: 1337,
            data_hash: "d".into(),
            tokenizer_hash: "t".into(),
            config: json!({"train": {"log_every": 10}}),
            firebox_version: "0.1.0".into(),
        }
    }

    fn saved(state: &TrainState) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(DIRECTORY)).unwrap();
        fs::write(dir.path().join(STATE_FILE), state.to_bytes().unwrap()).unwrap();
        dir
    }

    proptest! {
        #[test]
        fn every_finite_number_survives_to_the_last_bit(metric in any::<f64>(), elapsed in any::<f64>(), lr in 1e-30..1e30f64) {
            prop_assume!(metric.is_finite() && elapsed.is_finite());
            let state = TrainState {
                best: Some(Best { step: 1, metric }),
                elapsed_seconds: elapsed,
                config: json!({ "lr": lr }),
                ..state()
            };
            let read = TrainState::read(saved(&state).path()).unwrap();
            prop_assert_eq!(read.best.unwrap().metric.to_bits(), metric.to_bits());
            prop_assert_eq!(read.elapsed_seconds.to_bits(), elapsed.to_bits());
            prop_assert_eq!(differences(&read.config, &state.config, &[]), []);
        }
    }

    #[test]
    fn a_number_that_json_cannot_hold_is_refused_before_it_is_written() {
        let elapsed_seconds = f64::NAN;
        assert!(TrainState { elapsed_seconds, ..state() }.to_bytes().is_err());
        let best = Some(Best { step: 1, metric: f64::INFINITY });
        assert!(TrainState { best, ..state() }.to_bytes().is_err());
    }

    #[test]
    fn a_model_without_training_state_is_told_from_a_damaged_one() {
        let dir = tempfile::tempdir().unwrap();
        let error = TrainState::read(dir.path()).unwrap_err();
        assert!(matches!(error, Error::NoTrainState { .. }), "{error}");
        assert!(error.to_string().contains("init_from"), "{error}");
        let error = read_optimizer(dir.path()).unwrap_err();
        assert!(matches!(error, Error::NoTrainState { .. }), "{error}");
        let dir = saved(&state());
        fs::write(dir.path().join(STATE_FILE), "{\"format\": 1}").unwrap();
        let error = TrainState::read(dir.path()).unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{error}");
        fs::write(dir.path().join(STATE_FILE), "{\"format\": 9}").unwrap();
        let error = TrainState::read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("format 9"), "{error}");
    }

    #[test]
    fn configs_are_compared_key_by_key_and_a_prefix_allows_whole_keys_only() {
        let saved = json!({"train": {"log_every": 10, "log_every_x": 1, "seed": 1, "lr": 1}, "optimizer": {"adamw": {"lr": 0.1}}, "tokenizer": {"char": {}}, "list": [1, 2]});
        let now = json!({"train": {"log_every": 20, "log_every_x": 2, "seed": 1, "lr": 1.0, "note": null}, "optimizer": {"sgd": {"lr": 0.1}}, "tokenizer": {"bpe": {}}, "list": [1, 3]});
        let found = differences(&saved, &now, &["train.log_every", "list"]);
        let keys: Vec<(&str, bool)> = found.iter().map(|d| (d.key.as_str(), d.compatible)).collect();
        assert_eq!(
            keys,
            [
                ("list", true),
                ("optimizer.adamw.lr", false),
                ("optimizer.sgd.lr", false),
                ("tokenizer.bpe", false),
                ("tokenizer.char", false),
                ("train.log_every", true),
                ("train.log_every_x", false),
            ]
        );
        assert_eq!(found[1].to_string(), "`optimizer.adamw.lr` was 0.1 and is absent");
        assert_eq!(found[5].to_string(), "`train.log_every` was 10 and is 20");
        assert!(differences(&saved, &saved.clone(), &[]).is_empty());
    }
}
