//! The run config: one strict TOML file, every problem of which is reported at once.
//!
//! [`RunConfig::load`] is the straight path: `document` keeps where everything was written and takes each `--set`,
//! `check` holds every key and type against the JSON Schema, serde reads what is left, `validate` asks what it means.

mod check;
mod document;
mod error;
mod optimizer;
mod overrides;
mod schedule;
mod schema;
mod shape;
mod suggest;
mod train;
mod validate;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use data::config::{AugmentConfig, ChatTrainingConfig, CleanConfig, ProblemConfig, RedactConfig};
use data::{ObjectiveConfig, SourceConfig, SplitConfig, TokenizerConfig};
use model::{LoraConfig, ModelConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use check::{Checked, Finding};
use document::{Document, Origin, place_in};
use shape::Shape;

use crate::metrics::Task;

pub use error::{ConfigError, ConfigErrors, Place, Subject};
pub use optimizer::{AdamwConfig, OptimizerConfig, SgdConfig};
pub use schedule::{ConstantConfig, DecayConfig, ScheduleConfig};
pub use schema::{reference, schema};
pub use train::{Precision, StopAt, TrainConfig};

/// All that a training run is made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Where the text comes from.
    pub data: SourceConfig,
    /// How the text is divided into training, validation and test. One long document is cut in contiguous parts
    /// (training first), several are divided by whole documents.
    #[serde(default)]
    pub split: SplitConfig,
    /// How labelled texts are cleaned before they are divided. What changes a text is stored with the model, and
    /// `predict` and `eval` apply it too.
    #[serde(default, skip_serializing_if = "is_default")]
    pub clean: CleanConfig,
    /// How conversations become rows: the template that writes them, what of them is trained, and what happens to long
    /// ones.
    #[serde(default, skip_serializing_if = "is_default")]
    pub chat: ChatTrainingConfig,
    /// Personal data in conversations that is replaced by placeholders, such as `[EMAIL]`, before they are divided; each
    /// kind is counted.
    #[serde(default, skip_serializing_if = "is_default")]
    pub redact: RedactConfig,
    /// Random changes to training rows, others in every epoch. Chinese words are found with jieba.
    #[serde(default, skip_serializing_if = "is_default")]
    pub augment: AugmentConfig,
    /// How text becomes tokens. May be left out where `model.init_from` is given, whose tokenizer is then used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<TokenizerConfig>,
    /// What is learned. Default: by the model and the data, `causal` for a GPT, `classification` for a BERT on labelled
    /// texts, else `masked_lm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective: Option<ObjectiveConfig>,
    /// The model: its shape, or the directory it starts from.
    pub model: ModelConfig,
    /// Trains low-rank adapters (LoRA) in place of the weights of the model that `model.init_from` names. Checkpoints then hold
    /// the adapter alone, as PEFT stores it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraConfig>,
    /// How the run goes: output, length, batch and intervals. Exactly one of `max_steps`, `num_epochs` and
    /// `max_tokens` is required. Intervals count optimizer steps.
    pub train: TrainConfig,
    /// How gradients become updates.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// How the learning rate moves over the run. Each schedule rises linearly to `lr` in its warmup.
    #[serde(default)]
    pub schedule: ScheduleConfig,
}

/// Whether a table says nothing, and need not be shown.
fn is_default<T: Default + PartialEq>(table: &T) -> bool {
    *table == T::default()
}

/// A config that was loaded, and where each of its keys was written.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The config, its defaults filled in.
    pub config: RunConfig,
    document: Document,
}

/// A config file is a few KB; what is larger than this is something else.
const MAX_BYTES: u64 = 1 << 20;

impl RunConfig {
    /// Loads a config file with `--set a.b=v` overrides on top.
    ///
    /// # Errors
    /// Every problem at once: the file cannot be read or is not TOML; unknown, missing or wrongly typed keys; keys
    /// that contradict each other; files that it names and that are not there.
    pub fn load(path: &Path, sets: &[String]) -> Result<Loaded, ConfigErrors> {
        let name = path.display().to_string();
        let text = read(path, &name)?;
        Self::parse(&name, &text, sets)
    }

    /// [`RunConfig::load`] for a text in memory; `name` is what errors call the file.
    ///
    /// # Errors
    /// As [`RunConfig::load`], but for reading the file.
    pub fn parse(name: &str, text: &str, sets: &[String]) -> Result<Loaded, ConfigErrors> {
        let shape = Shape::from_schema(&schema());
        let mut document = Document::parse(name, text).map_err(ConfigErrors)?;
        let set_errors: Vec<ConfigError> = sets.iter().filter_map(|set| document.set(set, &shape).err()).collect();

        let Checked { mut findings, tainted, missing, table } = check::check(&document, &shape);
        let right_keys = findings.is_empty();
        let config = match RunConfig::deserialize(table) {
            Ok(config) => {
                findings.extend(problems(&config, &document, &tainted, &missing));
                Some(config)
            }
            // With placeholders in it, serde may refuse what was never written.
            Err(error) => {
                if right_keys {
                    findings.push(Finding {
                        origin: Origin::Missing,
                        message: error.message().to_owned(),
                        hint: None,
                        subject: Subject::Config,
                    });
                }
                None
            }
        };

        findings.sort_by_key(|finding| finding.origin);
        let found = findings.into_iter().map(|finding| ConfigError {
            place: document.place(finding.origin),
            message: finding.message,
            hint: finding.hint,
            subject: finding.subject,
        });
        let errors: Vec<ConfigError> = found.chain(set_errors).collect();
        match config {
            Some(config) if errors.is_empty() => Ok(Loaded { config: config.with_defaults(), document }),
            _ => Err(ConfigErrors(errors)),
        }
    }

    /// This config with the model's defaults filled in; those of every other table always are.
    ///
    /// What depends on the data stays open: `model.gpt.vocab_size`, and with `model.init_from` the whole shape.
    fn with_defaults(mut self) -> Self {
        let from_directory = self.model.init_from.is_some();
        self.model.gpt = self.model.gpt.map(|gpt| match from_directory {
            true => gpt.with_dropout_spread(),
            false => gpt.with_defaults(),
        });
        self
    }

    /// What the model is measured at.
    pub fn task(&self) -> Task {
        let of_tokens = matches!(self.objective, Some(ObjectiveConfig::Causal(_) | ObjectiveConfig::MaskedLm(_)));
        match &self.data {
            _ if of_tokens => Task::Language,
            SourceConfig::Labelled(labelled) => match labelled.problem {
                ProblemConfig::SingleLabel => Task::SingleLabel,
                ProblemConfig::MultiLabel => Task::MultiLabel,
                ProblemConfig::Regression => Task::Regression,
            },
            SourceConfig::Tagged(_) => Task::Tagging,
            _ => Task::Language,
        }
    }

    /// The config as a TOML file with every default written out; loads to the same config again.
    ///
    /// # Panics
    /// A config that was made by hand and that TOML cannot say: an integer above `i64::MAX`, a path that is not UTF-8.
    pub fn to_toml(&self) -> String {
        let text = toml::to_string(self).expect("a loaded config came from TOML");
        document::with_short_floats(text)
    }

    /// The config as JSON, as checkpoints store it.
    ///
    /// # Panics
    /// As [`RunConfig::to_toml`], for a path that is not UTF-8.
    pub fn to_value(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("a loaded config came from TOML")
    }
}

impl Loaded {
    /// An error that names the place of a key, for a problem that only shows later, such as a vocabulary that does
    /// not fit. `key` is dotted; where it was not written, the table around it is named.
    pub fn error_at(&self, key: &str, message: impl Into<String>) -> ConfigError {
        ConfigError {
            place: self.document.place(self.document.find_or_around(key)),
            message: message.into(),
            hint: None,
            subject: Subject::Config,
        }
    }
}

/// What is wrong with what a config means, but for what concerns keys that are wrong in themselves, and what concerns
/// nothing but missing ones.
fn problems(config: &RunConfig, document: &Document, tainted: &[String], missing: &[String]) -> Vec<Finding> {
    let among = |key: &String, others: &[String]| others.iter().any(|other| overlap(key, other));
    let known = validate::validate(config).into_iter().filter(|problem| {
        let keys = &problem.keys;
        !keys.iter().any(|key| among(key, tainted)) && !keys.iter().all(|key| among(key, missing))
    });
    let finding = |problem: validate::Problem| {
        let written = problem.keys.iter().find_map(|key| document.find(key));
        let around = || document.find_or_around(problem.keys.first().map_or("", String::as_str));
        Finding {
            origin: written.unwrap_or_else(around),
            message: problem.message,
            hint: problem.hint,
            subject: problem.subject,
        }
    };
    known.map(finding).collect()
}

/// Whether one dotted path is the other or lies below it; an item of an array lies below the array.
fn overlap(a: &str, b: &str) -> bool {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let rest = long.strip_prefix(short);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn read(path: &Path, name: &str) -> Result<String, ConfigErrors> {
    let whole = |message: String, hint: Option<&str>| ConfigError {
        place: Place::File(name.to_owned()),
        message,
        hint: hint.map(str::to_owned),
        subject: Subject::Config,
    };
    if path.is_dir() {
        let hint = Some("name the config file, such as configs/gpt-tiny.toml");
        return Err(whole("is a directory".to_owned(), hint).into());
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)).map_err(|error| match error
        .kind()
    {
        std::io::ErrorKind::NotFound => {
            whole("there is no such file".to_owned(), Some("paths are relative to the working directory"))
        }
        _ => whole(format!("cannot be read: {error}"), None),
    })?;
    if bytes.len() as u64 > MAX_BYTES {
        let message = format!("is larger than {} KiB, which no config is", MAX_BYTES >> 10);
        return Err(whole(message, Some("name a TOML file")).into());
    }
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let byte = error.as_bytes()[offset];
        let place = place_in(name, error.as_bytes(), offset);
        let message = format!("not UTF-8 text: byte 0x{byte:02x}");
        let hint = Some("a config is a TOML file".to_owned());
        ConfigErrors::from(ConfigError { place, message, hint, subject: Subject::Config })
    })
}
