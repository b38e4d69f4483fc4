//! Checks what a config means, once every key and type is right: keys that contradict each other, files that are not
//! there. All problems at once, and nothing large is read.

use std::path::Path;

use data::config::{AugmentConfig, ChatTrainingConfig, ClassificationConfig, CleanConfig, ProblemConfig, RedactConfig};
use data::{Augmenter, ObjectiveConfig, SourceConfig, TextCleaner, TokenizerConfig};
use model::{Bert, BertSettings, Gpt, GptSettings, ModelConfig};

use super::RunConfig;
use super::error::Subject;
use super::schedule::ScheduleConfig;
use super::suggest::{join, nearest};
use super::train::default_sample_tokens;
use super::train::{STOP_KEYS, TrainConfig};
use crate::metrics::Task;

/// What is wrong with the meaning of a config.
#[derive(Debug)]
pub(super) struct Problem {
    /// The dotted paths of the keys that it concerns; the first one that was written is where it stands.
    pub keys: Vec<String>,
    pub message: String,
    pub hint: Option<String>,
    pub subject: Subject,
}

/// Every problem of a config whose keys and types are right.
pub(super) fn validate(config: &RunConfig) -> Vec<Problem> {
    let mut problems = Problems(Vec::new());
    problems.data(&config.data);
    problems.split(config);
    problems.tokenizer(config.tokenizer.as_ref(), &config.model);
    problems.model(&config.model);
    problems.lora(config);
    problems.stop(&config.train);
    problems.train(&config.train);
    problems.best(config);
    problems.cleaning(config);
    problems.texts(config);
    problems.samples(config);
    problems.objective(config);
    problems.context(config);
    problems.schedule(config);
    problems.0
}

struct Problems(Vec<Problem>);

impl Problems {
    fn add<S: Into<String>>(
        &mut self,
        keys: impl IntoIterator<Item = S>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let hint = Some(hint.into()).filter(|hint| !hint.is_empty());
        self.0.push(Problem {
            keys: keys.into_iter().map(Into::into).collect(),
            message: message.into(),
            hint,
            subject: Subject::Config,
        });
    }

    /// What the data crate says of a table; the error may name a key of it.
    fn refused(&mut self, table: &str, checked: Result<(), data::Error>) {
        let Err(error) = checked else { return };
        let key = match &error {
            data::Error::Config { key, .. } if key.contains('.') => Some(key.clone()),
            data::Error::Config { key, .. } => Some(join(table, key)),
            _ => None,
        };
        self.add(key.into_iter().chain([table.to_owned()]), error.to_string(), "");
    }

    /// Says what the last problem is about, where that is not the config.
    fn concerns(&mut self, subject: Subject) {
        if let Some(last) = self.0.last_mut() {
            last.subject = subject;
        }
    }

    fn data(&mut self, source: &SourceConfig) {
        let variant = match source {
            SourceConfig::Text(_) => "text",
            SourceConfig::Jsonl(_) => "jsonl",
            SourceConfig::Csv(_) => "csv",
            SourceConfig::Labelled(_) => "labelled",
            SourceConfig::Chat(_) => "chat",
            SourceConfig::Tagged(_) => "tagged",
        };
        for (key, error) in data::source::problems(source) {
            self.add([format!("data.{variant}.{key}")], error.to_string(), "");
            if !matches!(error, data::Error::Config { .. }) {
                self.concerns(Subject::Data);
            }
        }
        if let SourceConfig::Tagged(tagged) = source {
            self.refused("data.tagged", data::source::tagged::check_columns(tagged));
        }
    }

    fn split(&mut self, config: &RunConfig) {
        let (split, train) = (&config.split, &config.train);
        let (validation, test) = (split.validation, split.test);
        if validation + test >= 1.0 {
            self.add(
                ["split.validation", "split.test"],
                format!("`split.validation` = {validation} and `split.test` = {test} leave nothing to train on"),
                "together they must be less than 1",
            );
        }
        let given = match &config.data {
            SourceConfig::Labelled(labelled) => !labelled.validation_files.is_empty() || split.folds.is_some(),
            SourceConfig::Tagged(tagged) => !tagged.validation_files.is_empty(),
            SourceConfig::Chat(chat) => !chat.validation_files.is_empty(),
            _ => false,
        };
        if validation == 0.0 && !given && train.eval_every > 0 {
            self.add(
                ["split.validation", "train.eval_every"],
                format!(
                    "`split.validation` is 0, so that there is nothing to evaluate every `train.eval_every` = {} steps",
                    train.eval_every
                ),
                "set `train.eval_every = 0`, or give `split.validation` a part of the text",
            );
        }
        match split.folds {
            None if split.fold > 0 => {
                self.add(["split.fold"], "`split.fold` has no effect without `split.folds`", "set `split.folds` = 5");
            }
            Some(folds) if split.fold >= folds => {
                let message = format!("`split.fold` is {}, but folds count from 0 to {}", split.fold, folds - 1);
                self.add(["split.fold"], message, "");
            }
            _ => {}
        }
        if let SourceConfig::Labelled(labelled) = &config.data
            && split.folds.is_some()
            && !labelled.validation_files.is_empty()
        {
            self.add(
                ["split.folds", "data.labelled.validation_files"],
                "`split.folds` validates with a fold of `files`, and there are `validation_files`",
                "leave one of them out, or put the files under `files`",
            );
        }
        let labelled = matches!(config.data, SourceConfig::Labelled(_));
        for (key, set) in [("folds", split.folds.is_some()), ("bootstrap", split.bootstrap.is_some())] {
            if set && !labelled {
                let message = format!("`split.{key}` has no effect without [data.labelled]");
                self.add([format!("split.{key}")], message, "leave it out");
            }
        }
    }

    fn tokenizer(&mut self, tokenizer: Option<&TokenizerConfig>, model: &ModelConfig) {
        match tokenizer {
            None if model.init_from.is_none() => self.add(
                ["tokenizer", "model.init_from"],
                "[tokenizer] is missing",
                "add [tokenizer.char] or [tokenizer.bpe], or start from a model that has one with `model.init_from`",
            ),
            // Each byte is two tokens here, at the start of a word and inside one.
            Some(TokenizerConfig::Wordpiece(wordpiece)) if wordpiece.vocab_size < 513 => self.add(
                ["tokenizer.wordpiece.vocab_size"],
                format!("`tokenizer.wordpiece.vocab_size` is {}, expected at least 513", wordpiece.vocab_size),
                "256 bytes at the start of a word, 256 inside one, and `<|endoftext|>`",
            ),
            Some(TokenizerConfig::File(file)) if !file.path.exists() => self.add(
                ["tokenizer.file.path"],
                format!("`tokenizer.file.path`: {} does not exist", file.path.display()),
                "name a `tokenizer.json` or a directory that has one, relative to the working directory",
            ),
            _ => {}
        }
    }

    fn model(&mut self, model: &ModelConfig) {
        if let Some(directory) = &model.init_from {
            let missing = if !directory.exists() {
                Some("does not exist".to_owned())
            } else if !directory.is_dir() {
                Some("is not a directory".to_owned())
            } else {
                match checkpoint::resolve(directory) {
                    Ok(found) if found.join("config.json").is_file() || checkpoint::is_adapter_dir(&found) => None,
                    Ok(_) => Some("has no config.json".to_owned()),
                    Err(error) => Some(format!("is a run without a checkpoint to start from: {error}")),
                }
            };
            if let Some(missing) = missing {
                self.add(
                    ["model.init_from"],
                    format!("`model.init_from`: {} {missing}", directory.display()),
                    "name a HuggingFace directory (config.json, model.safetensors), relative to the working directory",
                );
                self.concerns(Subject::Checkpoint);
            }
        }
        match (&model.gpt, &model.bert, &model.init_from) {
            (None, None, None) => self.add(
                ["model", "model.gpt", "model.bert", "model.init_from"],
                "[model] names no model",
                "add [model.gpt] or [model.bert], or `init_from` with a HuggingFace directory",
            ),
            (Some(_), Some(_), _) => {
                self.add(["model.bert", "model.gpt"], "[model] names two models", "keep one of them");
            }
            (Some(gpt), None, init_from) => self.gpt(gpt, init_from.is_some()),
            (None, Some(bert), init_from) => self.bert(bert, init_from.is_some()),
            (None, None, Some(_)) => {}
        }
    }

    fn lora(&mut self, config: &RunConfig) {
        let Some(lora) = &config.lora else { return };
        if config.model.init_from.is_none() {
            self.add(
                ["lora", "model.init_from"],
                "[lora] adapts a pre-trained model, and there is none",
                "set `model.init_from` to a HuggingFace directory, or leave [lora] out to train all weights",
            );
        }
        if config.tokenizer.as_ref().is_some_and(|tokenizer| !matches!(tokenizer, TokenizerConfig::File(_))) {
            self.add(
                ["tokenizer", "lora"],
                "[lora] does not train the embedding, which knows the ids of the model's own tokenizer alone",
                "leave [tokenizer] out",
            );
        }
        let layers = match (&config.model.gpt, &config.model.bert) {
            (Some(_), None) => lora.layers::<Gpt>().err(),
            (None, Some(_)) => lora.layers::<Bert>().err(),
            // Which of the two it is, the directory says, which is read later.
            _ => None,
        };
        if let Some(error) = layers {
            self.add(["lora.target_modules"], error.to_string(), "");
        }
        let train = &config.train;
        for (key, set) in [("freeze_layers", train.freeze_layers > 0), ("freeze_embeddings", train.freeze_embeddings)] {
            if set {
                let message =
                    format!("`train.{key}` has no effect with [lora], which trains none of the model's layers");
                self.add([format!("train.{key}")], message, "leave it out");
            }
        }
    }

    fn gpt(&mut self, gpt: &GptSettings, from_directory: bool) {
        // What is not given comes from the directory where there is one, and is compared when that is read.
        let shape = match from_directory {
            true => gpt.clone(),
            false => gpt.with_defaults(),
        };
        if let (Some(d_model), Some(n_head)) = (shape.d_model, shape.n_head)
            && n_head > 0
            && !d_model.is_multiple_of(n_head)
        {
            let below = d_model - d_model % n_head;
            let hint = match (below, below.checked_add(n_head)) {
                (0, _) | (_, None) => format!("use {}", below.max(n_head)),
                (below, Some(above)) => format!("use {below} or {above}"),
            };
            self.add(
                ["model.gpt.d_model", "model.gpt.n_head"],
                format!("`model.gpt.d_model` is {d_model}, which `n_head` = {n_head} does not divide"),
                hint,
            );
        }
        let each = [gpt.embd_dropout, gpt.attn_dropout, gpt.resid_dropout];
        if gpt.dropout.is_some() && each.iter().all(Option::is_some) {
            self.add(
                ["model.gpt.dropout"],
                "`model.gpt.dropout` has no effect, because `embd_dropout`, `attn_dropout` and `resid_dropout` are all given",
                "leave it out, or leave out those that shall follow it",
            );
        }
    }

    fn bert(&mut self, bert: &BertSettings, from_directory: bool) {
        let default = |base: usize| if from_directory { None } else { Some(base) };
        if let (Some(d_model), Some(n_head)) = (bert.d_model.or(default(768)), bert.n_head.or(default(12)))
            && !d_model.is_multiple_of(n_head.max(1))
        {
            self.add(
                ["model.bert.d_model", "model.bert.n_head"],
                format!("`model.bert.d_model` is {d_model}, which `n_head` = {n_head} does not divide"),
                "use a multiple",
            );
        }
        let each = [bert.hidden_dropout, bert.attn_dropout, bert.classifier_dropout];
        if bert.dropout.is_some() && each.iter().all(Option::is_some) {
            self.add(
                ["model.bert.dropout"],
                "`model.bert.dropout` has no effect, because `hidden_dropout`, `attn_dropout` and `classifier_dropout` are all given",
                "leave it out, or leave out those that shall follow it",
            );
        }
    }

    fn cleaning(&mut self, config: &RunConfig) {
        let clean = &config.clean;
        for (index, pattern) in clean.remove.iter().enumerate() {
            let alone = CleanConfig { remove: vec![pattern.clone()], ..CleanConfig::default() };
            if let Err(error) = TextCleaner::new(&alone) {
                self.add([format!("clean.remove[{index}]")], error.to_string(), "");
            }
        }
        let others = CleanConfig { remove: Vec::new(), ..clean.clone() };
        self.refused("clean", TextCleaner::new(&others).map(drop));
        match config.data {
            SourceConfig::Labelled(_) => self.refused("clean", data::source::labelled::check_clean(clean)),
            SourceConfig::Chat(_) => self.refused("clean", data::chat::check_clean(clean)),
            _ if *clean == CleanConfig::default() => {}
            _ => self.add(["clean"], "[clean] has no effect without [data.labelled] or [data.chat]", "leave it out"),
        }
    }

    /// What else changes texts.
    fn texts(&mut self, config: &RunConfig) {
        self.refused("augment", Augmenter::new(&config.augment, config.train.seed).map(drop));
        if config.chat != ChatTrainingConfig::default() && !matches!(config.data, SourceConfig::Chat(_)) {
            self.add(["chat"], "[chat] has no effect without [data.chat]", "leave it out");
        }
        if config.chat.template.is_some() && config.chat.template_file.is_some() {
            let message = "`chat.template` has no effect beside `chat.template_file`";
            self.add(["chat.template", "chat.template_file"], message, "leave one of them out");
        }
        if let Some(role) = config.chat.role_weights.iter().find(|(_, w)| **w < 0.0).map(|(role, _)| role) {
            self.add(["chat.role_weights"], format!("`chat.role_weights.{role}` is below 0"), "0 trains nothing");
        }
        let known: Vec<&str> = data::chat::roles().collect();
        if let Some(role) = config.chat.role_weights.keys().find(|role| !known.contains(&role.as_str())) {
            let message = format!("`chat.role_weights.{role}`: no message has the role `{role}`");
            self.add(["chat.role_weights"], message, format!("the roles are {}", known.join(", ")));
        }
        if let Err(error) = data::chat::Redactor::new(&config.redact) {
            self.add(["redact"], error.to_string(), "");
        }
        if config.redact != RedactConfig::default() && !matches!(config.data, SourceConfig::Chat(_)) {
            self.add(
                ["redact"],
                "[redact] has no effect without [data.chat]",
                "leave it out, or use `firebox data redact`",
            );
        }
        let labelled = matches!(config.data, SourceConfig::Labelled(_));
        let classifies = labelled && !matches!(config.objective, Some(ObjectiveConfig::MaskedLm(_)));
        if !classifies && (AugmentConfig { subwords: None, ..config.augment.clone() }) != AugmentConfig::default() {
            let message = "[augment] has no effect on words without a classifier's [data.labelled]";
            self.add(["augment"], message, "leave it out");
        }
        let masks = matches!(&config.objective, Some(ObjectiveConfig::MaskedLm(masked)) if !masked.next_sentence);
        if config.augment.subwords.is_some() && !classifies && !masks {
            let message = "[augment.subwords] has no effect but on a classifier and on masked language modelling without `next_sentence`";
            self.add(["augment.subwords"], message, "leave it out");
        }
    }

    fn samples(&mut self, config: &RunConfig) {
        let train = &config.train;
        for (key, set) in [
            ("sample_prompt", train.sample_prompt.is_some()),
            ("sample_tokens", train.sample_tokens != default_sample_tokens()),
        ] {
            if set && config.model.bert.is_some() {
                let message = format!("`train.{key}` has no effect on a BERT, which generates no text");
                self.add([format!("train.{key}")], message, "leave it out");
            }
        }
    }

    fn objective(&mut self, config: &RunConfig) {
        let SourceConfig::Labelled(labelled) = &config.data else { return };
        let of_tokens = matches!(config.objective, Some(ObjectiveConfig::MaskedLm(_)));
        if config.train.label_smoothing > 0.0 && labelled.problem != ProblemConfig::SingleLabel && !of_tokens {
            let message = "`train.label_smoothing` needs `data.labelled.problem` = \"single_label\"";
            self.add(["train.label_smoothing"], message, "leave it out");
        }
        let Some(ObjectiveConfig::Classification(classification)) = &config.objective else { return };
        let default = ClassificationConfig::default();
        let key = |key: &str| format!("objective.classification.{key}");
        if labelled.problem != ProblemConfig::MultiLabel && classification.threshold != default.threshold {
            let message = "`objective.classification.threshold` needs `data.labelled.problem` = \"multi_label\"";
            self.add([key("threshold")], message, "leave it out");
        }
        let weighs = classification.class_weights != default.class_weights || !classification.label_weights.is_empty();
        if labelled.problem != ProblemConfig::SingleLabel && weighs {
            let message = "weights of labels need `data.labelled.problem` = \"single_label\"";
            self.add([key("class_weights"), key("label_weights")], message, "leave them out");
        }
        self.refused("objective.classification", data::source::labelled::check_weights(classification));
    }

    /// A context too short for any text.
    fn context(&mut self, config: &RunConfig) {
        let least = match config.task() {
            Task::SingleLabel | Task::MultiLabel | Task::Regression => data::examples::MIN_SEQ_LEN,
            Task::Tagging => data::tagged::MIN_SEQ_LEN,
            Task::Language => return,
        };
        let given = config.model.bert.as_ref().and_then(|bert| bert.max_seq_len);
        if let Some(given) = given.filter(|given| *given < least) {
            let message = format!("`model.bert.max_seq_len` is {given}, too few for a text between its special tokens");
            self.add(["model.bert.max_seq_len"], message, format!("at least {least}; 128 is usual"));
        }
    }

    fn best(&mut self, config: &RunConfig) {
        let (task, train) = (config.task(), &config.train);
        let name = train.best_metric.as_str();
        let figures = task.figures();
        if !figures.contains(&name) {
            self.add(
                ["train.best_metric", "data", "objective"],
                format!("`train.best_metric`: evaluations of {} have no figure `{name}`", task.described()),
                format!("there are {}", figures.join(", ")),
            );
        }
        if train.early_stopping_patience.is_some() && train.eval_every == 0 {
            self.add(
                ["train.early_stopping_patience", "train.eval_every"],
                "`train.early_stopping_patience` has no effect, because `train.eval_every` is 0",
                "set `train.eval_every`",
            );
        }
    }

    fn stop(&mut self, train: &TrainConfig) {
        let given = [train.max_steps, train.num_epochs, train.max_tokens];
        let given: Vec<&str> = STOP_KEYS.into_iter().zip(given).filter_map(|(key, value)| value.map(|_| key)).collect();
        // In reverse: the error stands at a later one of them.
        let keys = || STOP_KEYS.iter().rev().map(|key| format!("train.{key}"));
        match given[..] {
            [_] => {}
            [] => self.add(
                keys(),
                "[train] does not say when to stop",
                "add one of `max_steps`, `num_epochs` and `max_tokens`",
            ),
            _ => {
                let names: Vec<String> = given.iter().map(|key| format!("`{key}`")).collect();
                self.add(
                    keys(),
                    format!("{} in [train] contradict each other", names.join(" and ")),
                    "keep one of them",
                );
            }
        }
    }

    fn train(&mut self, train: &TrainConfig) {
        if train.output_dir.as_os_str().is_empty() {
            self.add(["train.output_dir"], "`train.output_dir` is empty", "name a directory such as \"runs/first\"");
        } else if let Some(file) = file_on_the_way(&train.output_dir) {
            self.add(
                ["train.output_dir"],
                format!("`train.output_dir` cannot be made: {} is a file", file.display()),
                "name a directory such as \"runs/first\"",
            );
            self.concerns(Subject::Output);
        }
        if train.device.parse::<model::DeviceChoice>().is_err() {
            let close = nearest(&train.device, DEVICES.into_iter());
            let hint = match close {
                Some(name) => format!("did you mean \"{name}\"?"),
                None => "`firebox devices` lists what this machine has".to_owned(),
            };
            self.add(
                ["train.device"],
                format!(
                    "`train.device` is {:?}, expected auto, wgpu, wgpu:N (adapter N), ndarray, flex or cuda",
                    train.device
                ),
                hint,
            );
        }
    }

    fn schedule(&mut self, config: &RunConfig) {
        let schedule = &config.schedule;
        let (name, warmup) = (schedule.name(), schedule.warmup_steps());
        let warmup_key = format!("schedule.{name}.warmup_steps");
        if let Some(steps) = config.train.max_steps
            && warmup > steps
        {
            self.add(
                [warmup_key.as_str(), "train.max_steps"],
                format!("`{warmup_key}` is {warmup}, more than the run's {steps} steps"),
                "the learning rate would never reach `lr`; shorten the warmup",
            );
        }
        let (ScheduleConfig::Linear(decay) | ScheduleConfig::Cosine(decay)) = schedule else {
            return;
        };
        let lr = config.optimizer.lr();
        if decay.min_lr > lr {
            self.add(
                [format!("schedule.{name}.min_lr"), format!("optimizer.{}.lr", config.optimizer.name())],
                format!(
                    "`schedule.{name}.min_lr` is {}, more than `optimizer.{}.lr` = {lr}",
                    decay.min_lr,
                    config.optimizer.name()
                ),
                "a tenth of `lr` is usual",
            );
        }
        if let Some(end) = decay.decay_steps
            && end <= warmup
        {
            self.add(
                [format!("schedule.{name}.decay_steps"), warmup_key],
                format!("`schedule.{name}.decay_steps` is {end}, within the warmup of {warmup} steps"),
                "it counts from the start of the run; leave it out for the run's last step",
            );
        }
    }
}

/// What a misspelt device may have meant.
const DEVICES: [&str; 5] = ["auto", "wgpu", "ndarray", "flex", "cuda"];

/// The nearest existing part of a path, if that is no directory.
fn file_on_the_way(path: &Path) -> Option<&Path> {
    let existing = path.ancestors().find(|part| part.exists())?;
    (!existing.is_dir()).then_some(existing)
}
