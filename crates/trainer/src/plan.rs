//! What a run will do, known before a device is touched.

use crate::adaptation::Adaptation;
use crate::config::{RunConfig, StopAt};
use crate::error::Error;
use crate::memory::{MemoryEstimate, resident_bytes};
use crate::metrics::Spread;
use crate::network::{Network, NetworkConfig};
use crate::parts::{Data, Parts};
use crate::resume::{Restored, settle_base};
use crate::rows::Rows;
use data::chat::{ChatSplits, ChatTemplate};
use data::config::ProblemConfig;
use data::examples::check_pairs;
use data::{Batches, EvaluationRows, ObjectiveConfig, SourceConfig, TextCleaner, Tokenizer};
use model::bert::{BertConfig, BertHead, Problem};
use model::lora::is_adapter;
use model::weights::Freeze;
use model::{GptConfig, LoraConfig, Tensors};
use std::path::Path;

/// A run's figures: what `--dry-run` prints.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Plan {
    /// Parameters by part of the model.
    pub parameters: Vec<(&'static str, usize)>,
    /// Parameters that are trained.
    pub trained_parameters: usize,
    /// The names of the loss terms.
    pub terms: &'static [&'static str],
    /// Documents, or labelled texts, in the training, validation and test split.
    pub documents: [usize; 3],
    /// Tokens in the training, validation and test split.
    pub tokens: [usize; 3],
    /// Ids of the tokenizer.
    pub vocabulary: usize,
    /// Labels of a classifier.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Share of padding in the training batches.
    pub padding: f64,
    /// Rows that one optimizer step consumes: micro-batch size times accumulation.
    pub rows_per_step: u64,
    /// Tokens that one optimizer step reads, padding apart: the mean of an epoch.
    pub tokens_per_step: u64,
    /// Rows of an epoch.
    pub rows_per_epoch: u64,
    /// Steps of an epoch.
    pub steps_per_epoch: f64,
    /// Optimizer steps of the run.
    pub total_steps: u64,
    /// Tokens of the validation split that every evaluation predicts.
    pub evaluation_tokens: u64,
    /// Memory by part.
    pub memory: MemoryEstimate,
    /// Whether checkpoints hold an adapter in place of the weights.
    pub stores_adapter: bool,
    /// What a person should know of the data: rows that were changed or left out, and why.
    pub notes: Vec<String>,
}

impl Plan {
    /// All parameters together.
    pub fn total_parameters(&self) -> usize {
        self.parameters.iter().map(|(_, count)| count).sum()
    }

    /// Bytes of one checkpoint, about.
    pub fn checkpoint_bytes(&self) -> u64 {
        let stored = if self.stores_adapter { self.memory.trained } else { self.memory.weights };
        // The tokenizer and the small files: a few megabytes at most.
        stored + self.memory.optimizer + 4 * 1024 * 1024
    }
}

/// Everything a run needs but the device.
pub(crate) struct Prepared {
    pub tokenizer: Tokenizer,
    pub cleaner: TextCleaner,
    pub model_config: NetworkConfig,
    /// The weights of `init_from`.
    pub initial: Option<Tensors>,
    /// Of a run with a `[lora]` table.
    pub adaptation: Option<Adaptation>,
    /// What is not trained.
    pub frozen: Freeze,
    pub train: Batches,
    pub validation: Option<EvaluationRows>,
    /// Mean and deviation of the numbers that a regression learns.
    pub targets: Option<Spread>,
    pub data_hash: String,
    pub plan: Plan,
    pub notes: Vec<String>,
}

/// The conversations of a run, and what becomes of them.
#[derive(Debug)]
pub struct Conversations {
    /// Divided and cleaned.
    pub splits: ChatSplits,
    /// What writes them.
    pub template: ChatTemplate,
    /// With the template's special tokens.
    pub tokenizer: Tokenizer,
    /// The model's context, in tokens.
    pub max_seq_len: usize,
}

impl Conversations {
    /// What a run of this config would train on, without anything of the model.
    ///
    /// # Errors
    /// A config without [data.chat]; as a run's start, for data, tokenizer and shape.
    pub fn of(config: &RunConfig) -> Result<Self, Error> {
        let mut config = config.clone();
        settle_base(&mut config, None)?;
        let config = &config;
        let objective = objective(config)?;
        if !matches!(config.data, SourceConfig::Chat(_)) {
            return Err(Error::Config("the config has no conversations; hint: `[data.chat]`".into()));
        }
        let data = Data::read(config, &objective)?;
        let tokenizer = data.tokenizer(config)?;
        let (template, tokenizer) = ChatTemplate::for_training(&config.chat, tokenizer)?;
        let Shape { model, .. } = Shape::of(config, &tokenizer, BertHead::None)?;
        let Parts::Chat(splits) = data.parts else { unreachable!("[data.chat] gives conversations") };
        Ok(Self { splits, template, tokenizer, max_seq_len: model.max_seq_len() })
    }
}

impl Prepared {
    /// Reads, splits and tokenizes the data and settles the model's shape; a resumed run takes its tokenizer from
    /// `resumed`.
    ///
    /// # Errors
    /// Data that cannot be read, is too short or has changed since `resumed`; a shape that contradicts it.
    pub fn new(config: &RunConfig, resumed: Option<&Restored>) -> Result<Self, Error> {
        let objective = objective(config)?;
        let mut data = Data::read(config, &objective)?;
        let mut notes = std::mem::take(&mut data.notes);
        if let Some(restored) = resumed {
            restored.check_hash("the training data", &restored.state.data_hash, &data.hash)?;
        }
        let mut tokenizer = match resumed {
            Some(restored) => {
                let tokenizer = Tokenizer::from_file(&restored.dir)?;
                restored.check_hash("the tokenizer", &restored.state.tokenizer_hash, &tokenizer.hash())?;
                tokenizer
            }
            None => data.tokenizer(config)?,
        };
        if let SourceConfig::Labelled(labelled) = &config.data {
            tokenizer = tokenizer.with_truncation(labelled.truncation);
        }
        if let (Parts::Chat(_), None) = (&data.parts, resumed) {
            (_, tokenizer) = ChatTemplate::for_training(&config.chat, tokenizer)?;
        }
        let head = head(&objective, &data.parts);
        let Shape { model: model_config, initial, note } = Shape::of(config, &tokenizer, head)?;
        notes.extend(note);
        check_frozen(config, &model_config)?;
        check_token_types(config, &objective, &model_config)?;
        check_best_metric(config, model_config.labels())?;
        // Those of a chat template, for which the model may have had rows to spare.
        let has_new_tokens = config.lora.is_some() && tokenizer.vocab_size() > data.tokenizer(config)?.vocab_size();
        let adaptation = Adaptation::new(config, &model_config, initial.as_ref(), has_new_tokens)?;
        if let (Some(restored), Some(adaptation)) = (resumed, &adaptation) {
            adaptation.check(&restored.dir)?;
        }
        let frozen = adaptation.as_ref().map_or_else(|| config.train.frozen(), Adaptation::frozen);
        let counts = Network::counts(&model_config, config.lora.as_ref(), frozen)?;
        let mut parameters = model_config.parameters();
        if counts.adapters > 0 {
            parameters.push(("low-rank adapters", counts.adapters));
        }

        let rows = Rows::new(&data.parts, config, &objective, &tokenizer, &model_config)?;
        let Rows { train, validation, documents, tokens, padding, notes: of_rows } = rows;
        notes.extend(of_rows);
        notes.extend(empty_parts(config, documents));
        if config.train.early_stopping_patience.is_some() && validation.is_none() {
            return Err(Error::Config(
                "`train.early_stopping_patience` needs evaluations, and the validation part has no row; hint: raise `split.validation`"
                    .into(),
            ));
        }
        let targets = targets(&data.parts);
        let settings = &config.train;
        let rows_per_step = (settings.micro_batch_size * settings.gradient_accumulation_steps) as u64;
        let rows_per_epoch = train.rows_per_epoch();
        let tokens_per_row = match &data.parts {
            Parts::Labelled { .. } | Parts::Tagged(_) | Parts::Chat(_) => tokens[0] as f64 / rows_per_epoch as f64,
            Parts::Texts(_) => model_config.max_seq_len() as f64,
        };
        let tokens_per_step = (rows_per_step as f64 * tokens_per_row).round().max(1.0) as u64;
        let total_steps = match settings.stop_at() {
            Some(StopAt::Steps(steps)) => steps,
            Some(StopAt::Epochs(epochs)) => (epochs * rows_per_epoch).div_ceil(rows_per_step),
            Some(StopAt::Tokens(tokens)) => tokens.div_ceil(tokens_per_step),
            None => {
                return Err(Error::Config("`train` needs one of `max_steps`, `num_epochs` and `max_tokens`".into()));
            }
        };
        let read = initial.iter().flat_map(Tensors::values).map(|tensor| size_of_val(&tensor.values[..]) as u64).sum();
        let process = resident_bytes().unwrap_or(0);
        let evaluated = validation.as_ref().map_or(0, EvaluationRows::len) as f64;
        let plan = Plan {
            parameters,
            trained_parameters: counts.trained,
            terms: terms(&objective),
            documents,
            tokens,
            vocabulary: tokenizer.vocab_size(),
            labels: model_config.labels().to_vec(),
            padding,
            rows_per_step,
            tokens_per_step,
            rows_per_epoch,
            steps_per_epoch: rows_per_epoch as f64 / rows_per_step as f64,
            total_steps,
            evaluation_tokens: (evaluated * tokens_per_row) as u64,
            memory: MemoryEstimate::new(config, &model_config, counts, frozen, process, read),
            stores_adapter: adaptation.is_some(),
            notes: notes.clone(),
        };
        let (cleaner, data_hash) = (data.cleaner, data.hash);
        Ok(Self {
            tokenizer,
            cleaner,
            model_config,
            initial,
            adaptation,
            frozen,
            train,
            validation,
            targets,
            data_hash,
            plan,
            notes,
        })
    }
}

/// The names of the loss terms, in the batches' order.
fn terms(objective: &ObjectiveConfig) -> &'static [&'static str] {
    match objective {
        ObjectiveConfig::Causal(_) => &["causal"],
        ObjectiveConfig::MaskedLm(masked_lm) if masked_lm.next_sentence => &["masked_lm", "next_sentence"],
        ObjectiveConfig::MaskedLm(_) => &["masked_lm"],
        ObjectiveConfig::Tagging(_) => &["tag"],
        ObjectiveConfig::Classification(_) => &["class"],
    }
}

fn head(objective: &ObjectiveConfig, parts: &Parts) -> BertHead {
    match (objective, parts) {
        (ObjectiveConfig::Classification(classification), Parts::Labelled { splits, problem, .. }) => {
            let problem = match problem {
                ProblemConfig::SingleLabel => Problem::SingleLabel,
                ProblemConfig::MultiLabel => Problem::MultiLabel { threshold: classification.threshold },
                ProblemConfig::Regression => Problem::Regression,
            };
            BertHead::SequenceClassification { labels: splits.labels.clone(), problem }
        }
        (_, Parts::Tagged(splits)) => BertHead::TokenClassification { labels: splits.tags.clone() },
        (ObjectiveConfig::MaskedLm(masked_lm), _) if masked_lm.next_sentence => BertHead::PreTraining,
        _ => BertHead::MaskedLm,
    }
}

/// Refuses to freeze more layers than there are.
fn check_frozen(config: &RunConfig, model: &NetworkConfig) -> Result<(), Error> {
    let (asked, there) = (config.train.freeze_layers, model.n_layer());
    if asked > there {
        return Err(Error::Config(format!(
            "`train.freeze_layers` is {asked}, but the model has {there} layers; hint: at most {there}, which trains the head alone"
        )));
    }
    Ok(())
}

/// Refuses rows of two texts where the model cannot tell them apart.
fn check_token_types(config: &RunConfig, objective: &ObjectiveConfig, model: &NetworkConfig) -> Result<(), Error> {
    let NetworkConfig::Bert(model) = model else { return Ok(()) };
    let has_pairs = match (objective, &config.data) {
        (ObjectiveConfig::MaskedLm(masked_lm), _) => masked_lm.next_sentence,
        (ObjectiveConfig::Classification(_), SourceConfig::Labelled(labelled)) => labelled.text_pair.is_some(),
        _ => false,
    };
    match has_pairs {
        true => check_pairs(model.type_vocab_size).map_err(|error| Error::Config(error.to_string())),
        false => Ok(()),
    }
}

/// Refuses a figure of two labels where there are others.
fn check_best_metric(config: &RunConfig, labels: &[String]) -> Result<(), Error> {
    if config.train.best_metric != "roc_auc" || labels.len() == 2 {
        return Ok(());
    }
    let others: Vec<&str> = config.task().figures().into_iter().filter(|name| *name != "roc_auc").collect();
    Err(Error::Config(format!(
        "`train.best_metric`: `roc_auc` is a figure of two labels, and the training part has {}; hint: there are {}",
        labels.len(),
        others.join(", ")
    )))
}

/// A line for each part that the config asks for and that got nothing.
fn empty_parts(config: &RunConfig, [_, validation, test]: [usize; 3]) -> Vec<String> {
    let asked = [("validation", config.split.validation, validation), ("test", config.split.test, test)];
    let empty = asked.into_iter().filter(|(_, fraction, documents)| *fraction > 0.0 && *documents == 0);
    empty
        .map(|(part, fraction, _)| {
            format!(
                "warning: the {part} part is empty, although `split.{part}` is {fraction}: there is too little data"
            )
        })
        .collect()
}

/// Mean and deviation of the numbers that a regression is trained on.
fn targets(parts: &Parts) -> Option<Spread> {
    let Parts::Labelled { splits, problem: ProblemConfig::Regression, .. } = parts else { return None };
    let numbers = splits.train.iter().filter_map(|example| example.labels.first()?.parse().ok());
    Spread::of(&numbers.collect::<Vec<f64>>())
}

/// Whether the model is a BERT.
fn is_encoder(config: &RunConfig) -> Result<bool, Error> {
    Ok(match (&config.model.bert, &config.model.gpt, &config.model.init_from) {
        (Some(_), _, _) => true,
        (None, Some(_), _) | (None, None, None) => false,
        (None, None, Some(dir)) => checkpoint::family(dir)? == "bert",
    })
}

/// What is learned: what the config says, or else what the model and the data leave.
fn objective(config: &RunConfig) -> Result<ObjectiveConfig, Error> {
    let encoder = is_encoder(config)?;
    let labelled = matches!(config.data, SourceConfig::Labelled(_));
    let tagged = matches!(config.data, SourceConfig::Tagged(_));
    let objective = config.objective.clone().unwrap_or_else(|| match (encoder, labelled) {
        (true, _) if tagged => ObjectiveConfig::Tagging(Default::default()),
        (false, _) => ObjectiveConfig::Causal(Default::default()),
        (true, true) => ObjectiveConfig::Classification(Default::default()),
        (true, false) => ObjectiveConfig::MaskedLm(Default::default()),
    });
    let refused = |message: &str| Err(Error::Config(message.into()));
    match (&objective, encoder, labelled) {
        (ObjectiveConfig::Tagging(_), true, _) if !tagged => {
            refused("`objective.tagging` needs tags; hint: `[data.tagged]`")
        }
        _ if encoder && matches!(config.data, SourceConfig::Chat(_)) => {
            refused("conversations are for a GPT, the model is a BERT; hint: `[model.gpt]`")
        }
        _ if !encoder && (labelled || tagged) => refused(
            "labels and tags are for a BERT, the model is a GPT; hint: `[data.csv]` or `[data.jsonl]` reads texts alone",
        ),
        (ObjectiveConfig::Causal(_), true, _) => {
            refused("`objective.causal` is for a GPT, the model is a BERT; hint: `[objective.masked_lm]`")
        }
        (ObjectiveConfig::MaskedLm(_) | ObjectiveConfig::Classification(_) | ObjectiveConfig::Tagging(_), false, _) => {
            refused("this objective is for a BERT, the model is a GPT; hint: `[model.bert]`, or `[objective.causal]`")
        }
        (ObjectiveConfig::Classification(_), true, false) => {
            refused("`objective.classification` needs labels; hint: `[data.labelled]`")
        }
        _ => Ok(objective),
    }
}

/// What the model is, before there is one.
struct Shape {
    model: NetworkConfig,
    /// The weights of `init_from`.
    initial: Option<Tensors>,
    /// What the person should know of how they fit the run.
    note: Option<String>,
}

impl Shape {
    fn of(config: &RunConfig, tokenizer: &Tokenizer, head: BertHead) -> Result<Self, Error> {
        let refused = |error: model::ConfigError| Error::Config(error.to_string());
        let ids = tokenizer.vocab_size();
        let initial = config.model.init_from.as_deref();
        if is_encoder(config)? {
            let settings = config.model.bert.clone().unwrap_or_default();
            let Some(dir) = initial else {
                let model = BertConfig::from_settings(&settings, ids, head).map_err(refused)?;
                return Ok(Self { model: NetworkConfig::Bert(model), initial: None, note: None });
            };
            let (found, mut tensors) = checkpoint::read_bert(dir)?;
            let note = found.head.relabel(&head, &mut tensors);
            let model = NetworkConfig::Bert(found.overridden(&settings, ids, head).map_err(refused)?);
            return Ok(Self { model, initial: Some(tensors), note });
        }
        let settings = config.model.gpt.clone().unwrap_or_default();
        let Some(dir) = initial else {
            let model = GptConfig::from_settings(&settings, ids).map_err(refused)?;
            return Ok(Self { model: NetworkConfig::Gpt(model), initial: None, note: None });
        };
        let (mut found, mut tensors) = checkpoint::read_gpt(dir)?;
        let mut note = None;
        // A chat template may have brought tokens that the model has not seen. Another tokenizer than the model's own
        // would bring ids of another meaning.
        if ids > found.vocab_size
            && matches!(config.data, SourceConfig::Chat(_))
            && config.tokenizer.is_none()
            && let Some((_, table)) = tensors.iter_mut().find(|(name, _)| name.ends_with("wte.weight"))
        {
            *table = model::weights::grow_rows(table, ids, config.train.seed);
            note = Some(format!("{} tokens are new to the model", ids - found.vocab_size));
            found.vocab_size = ids;
        }
        let model = NetworkConfig::Gpt(found.overridden(&settings, ids).map_err(refused)?);
        Ok(Self { model, initial: Some(tensors), note })
    }
}

/// The weights of a checkpoint of the run.
fn read_weights(config: &NetworkConfig, dir: &Path) -> Result<Tensors, Error> {
    Ok(match config {
        NetworkConfig::Gpt(_) => checkpoint::read_gpt(dir)?.1,
        NetworkConfig::Bert(_) => checkpoint::read_bert(dir)?.1,
    })
}

/// The head of a regression, or of a classifier.
const HEAD: &str = "classifier.weight";

/// Fresh or loaded weights for `config` on `device`, and what the person should know of them: what was loaded, and where
/// the fresh head of a regression starts, whose training part has these `targets`.
pub(crate) fn build_model(
    config: &NetworkConfig,
    lora: Option<&LoraConfig>,
    tensors: Option<&Tensors>,
    targets: Option<Spread>,
    seed: u64,
    device: &burn::tensor::Device,
) -> Result<(Network, Vec<String>), Error> {
    let started = |network: Network, mut notes: Vec<String>| match targets {
        None => (network, notes),
        Some(targets) => {
            notes.push(format!("the head starts at the training part's mean and deviation, {targets}"));
            (network.answering_around(targets), notes)
        }
    };
    let Some(tensors) = tensors else { return Ok(started(Network::new(config, seed, device), Vec::new())) };
    let (network, report) = Network::load(config, lora, tensors, seed, device)?;
    let list = |names: &[String]| match names.len() {
        0 => "none".to_string(),
        n if n <= 8 => names.join(", "),
        n => format!("{n} ({}, ...)", names[..3].join(", ")),
    };
    let head_is_fresh = report.fresh.iter().any(|name| name == HEAD);
    let fresh: Vec<String> = report.fresh.into_iter().filter(|name| !is_adapter(name)).collect();
    let line = format!(
        "init_from: {} tensors loaded; fresh: {}; unused: {}",
        report.loaded.len(),
        list(&fresh),
        list(&report.unused)
    );
    Ok(if head_is_fresh { started(network, vec![line]) } else { (network, vec![line]) })
}

/// The model of the checkpoint in `dir`; `base` are the weights of the model that it holds an adapter of, if it does.
pub(crate) fn restore_model(
    config: &NetworkConfig,
    lora: Option<&LoraConfig>,
    base: Option<Tensors>,
    dir: &Path,
    device: &burn::tensor::Device,
) -> Result<Network, Error> {
    let tensors = match (lora, base) {
        (Some(_), Some(mut tensors)) => {
            checkpoint::overlay(&mut tensors, checkpoint::read_adapter(dir)?);
            tensors
        }
        _ => read_weights(config, dir)?,
    };
    let (network, report) = Network::load(config, lora, &tensors, 0, device)?;
    match report.fresh.first() {
        None => Ok(network),
        Some(missing) => Err(Error::Config(format!(
            "{} lacks the parameter `{missing}` of this run's model; hint: undo what changed in the config",
            dir.display()
        ))),
    }
}

#[cfg(test)]
mod tests;
