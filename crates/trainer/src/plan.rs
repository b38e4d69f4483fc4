//! What a run will do, known before a device is touched.

use crate::config::{RunConfig, StopAt};
use crate::error::Error;
use crate::memory::{MemoryEstimate, resident_bytes};
use crate::network::{Network, NetworkConfig};
use crate::resume::Restored;
use data::config::ClassificationConfig;
use data::source::labelled::{Example, LabelledSplits};
use data::{Batches, EvaluationRows, Examples, Masking, ObjectiveConfig, SourceConfig, TokenStream, Tokenizer};
use model::bert::{BertConfig, BertHead, Problem};
use model::{GptConfig, Tensors};
use std::path::Path;

/// A run's figures: what `--dry-run` prints.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Plan {
    /// Parameters by part of the model.
    pub parameters: Vec<(&'static str, usize)>,
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
}

impl Plan {
    /// All parameters together.
    pub fn total_parameters(&self) -> usize {
        self.parameters.iter().map(|(_, count)| count).sum()
    }

    /// Bytes of one checkpoint, about.
    pub fn checkpoint_bytes(&self) -> u64 {
        // The tokenizer and the small files: a few megabytes at most.
        self.memory.weights + self.memory.optimizer + 4 * 1024 * 1024
    }
}

/// Everything a run needs but the device.
pub(crate) struct Prepared {
    pub tokenizer: Tokenizer,
    pub model_config: NetworkConfig,
    /// The weights of `init_from`.
    pub initial: Option<Tensors>,
    pub train: Batches,
    pub validation: Option<EvaluationRows>,
    pub data_hash: String,
    pub plan: Plan,
    pub notes: Vec<String>,
}

/// The seed of the order in which validation rows are chosen: fixed, so that runs of different seeds compare.
const EVALUATION_SEED: u64 = 0;

/// What the rows are made of.
enum Parts {
    /// Texts: training, validation, test.
    Texts([Vec<String>; 3]),
    /// Labelled texts.
    Labelled(LabelledSplits),
}

impl Prepared {
    /// Reads, splits and tokenizes the data and settles the model's shape; a resumed run takes its tokenizer from
    /// `resumed`.
    ///
    /// # Errors
    /// Data that cannot be read, is too short or has changed since `resumed`; a shape that contradicts it.
    pub fn new(config: &RunConfig, resumed: Option<&Restored>) -> Result<Self, Error> {
        let objective = objective(config)?;
        let mut notes = Vec::new();
        let mut everything = None;
        let mut many = true;
        let (parts, data_hash) = match &config.data {
            SourceConfig::Labelled(labelled) if matches!(objective, ObjectiveConfig::Classification(_)) => {
                let splits = data::source::labelled::read(labelled, &config.split, &config.clean)?;
                notes.extend(splits.notes.clone());
                let hash = splits.hash.clone();
                (Parts::Labelled(splits), hash)
            }
            source => {
                let corpus = data::source::read(source)?;
                let hash = corpus.hash.clone();
                many = corpus.documents.len() > 1;
                everything = matches!(config.tokenizer, Some(data::config::TokenizerConfig::Char(_)))
                    .then(|| corpus.documents.clone());
                let splits = data::split::split(corpus, &config.split)?;
                (Parts::Texts([splits.train, splits.validation, splits.test]), hash)
            }
        };
        if let Some(restored) = resumed {
            restored.check_hash("the training data", &restored.state.data_hash, &data_hash)?;
        }
        let tokenizer = match (resumed, &config.tokenizer, &config.model.init_from) {
            (Some(restored), _, _) => {
                let tokenizer = Tokenizer::from_file(&restored.dir)?;
                restored.check_hash("the tokenizer", &restored.state.tokenizer_hash, &tokenizer.hash())?;
                tokenizer
            }
            // Every character of the text is an id, whichever split it stands in; other tokenizers know every byte, or
            // an unknown token, and learn from the training split alone.
            (None, Some(chosen), _) => match (&everything, &parts) {
                (Some(everything), _) => Tokenizer::train(chosen, everything, many)?,
                (None, Parts::Texts([train, ..])) => Tokenizer::train(chosen, train, many)?,
                (None, Parts::Labelled(splits)) => Tokenizer::train(chosen, &texts(&splits.train), many)?,
            },
            (None, None, Some(dir)) => Tokenizer::from_file(dir)?,
            (None, None, None) => {
                return Err(Error::Config(
                    "`tokenizer` is missing; hint: `[tokenizer.char]`, `[tokenizer.bpe]` or `[tokenizer.bert]`".into(),
                ));
            }
        };
        let head = match (&objective, &parts) {
            (ObjectiveConfig::Classification(_), Parts::Labelled(splits)) => {
                BertHead::SequenceClassification { labels: splits.labels.clone(), problem: Problem::SingleLabel }
            }
            _ => BertHead::MaskedLm,
        };
        let (model_config, initial) = shape_of(config, &tokenizer, head)?;

        let seq_len = model_config.max_seq_len();
        let settings = &config.train;
        let micro_batch = settings.micro_batch_size;
        let most = settings.eval_batches * micro_batch;
        let evaluates = settings.eval_every > 0;
        let documents;
        let tokens;
        let mut padding = 0.0;
        let (train, validation) = match &parts {
            Parts::Labelled(splits) => {
                let ObjectiveConfig::Classification(ClassificationConfig { class_weights }) = &objective else {
                    unreachable!("labels are read for a classifier")
                };
                let encode = |part: &[Example], weights| {
                    Examples::new(&tokenizer, part, &splits.labels, weights, seq_len, settings.seed)
                };
                let train = encode(&splits.train, *class_weights)?;
                // Evaluations count every example alike.
                let validation = encode(&splits.validation, Default::default())?;
                let test = encode(&splits.test, Default::default())?;
                documents = [train.len(), validation.len(), test.len()];
                tokens = [train.tokens(), validation.tokens(), test.tokens()];
                padding = train.padding_share(micro_batch);
                if train.truncated() > 0 {
                    notes.push(format!("{} training texts are cut to {seq_len} tokens", train.truncated()));
                }
                let rows =
                    (evaluates && !validation.is_empty()).then(|| EvaluationRows::labelled(validation, seq_len, most));
                (Batches::labelled(train, seq_len)?, rows)
            }
            Parts::Texts(texts) => {
                let stream = |documents: &[String]| -> Result<TokenStream, Error> {
                    Ok(match &objective {
                        ObjectiveConfig::MaskedLm(_) => TokenStream::separated(&tokenizer, documents)?,
                        _ => TokenStream::encode(&tokenizer, documents)?,
                    })
                };
                let [train, validation, test] = [stream(&texts[0])?, stream(&texts[1])?, stream(&texts[2])?];
                check_ids(&[&train, &validation], model_config.vocab_size())?;
                documents = texts.each_ref().map(Vec::len);
                tokens = [train.len(), validation.len(), test.len()];
                let short = validation.len() <= seq_len;
                if evaluates && short && !validation.is_empty() {
                    notes.push(format!(
                        "the validation split has {} tokens, fewer than one context of {seq_len}: no evaluation; hint: raise `split.validation`",
                        validation.len()
                    ));
                }
                let evaluates = evaluates && !short;
                match &objective {
                    ObjectiveConfig::MaskedLm(masked_lm) => {
                        let masking = Masking::new(masked_lm, &tokenizer, settings.seed)?;
                        let fixed = Masking::new(masked_lm, &tokenizer, EVALUATION_SEED)?;
                        let rows = evaluates
                            .then(|| Batches::masked_evaluation(validation, fixed, seq_len, EVALUATION_SEED, most));
                        (Batches::masked(train, masking, seq_len, settings.seed)?, rows.transpose()?)
                    }
                    _ => {
                        let rows = evaluates.then(|| Batches::evaluation(validation, seq_len, EVALUATION_SEED, most));
                        (Batches::training(train, seq_len, settings.seed)?, rows.transpose()?)
                    }
                }
            }
        };
        let rows_per_step = (micro_batch * settings.gradient_accumulation_steps) as u64;
        let rows_per_epoch = train.rows_per_epoch();
        let tokens_per_row = match &parts {
            Parts::Labelled(_) => tokens[0] as f64 / rows_per_epoch as f64,
            Parts::Texts(_) => seq_len as f64,
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
        let evaluated = validation.as_ref().map_or(0, EvaluationRows::len) as f64;
        let plan = Plan {
            parameters: model_config.parameters(),
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
            memory: MemoryEstimate::new(config, &model_config, resident_bytes().unwrap_or(0)),
        };
        Ok(Self { tokenizer, model_config, initial, train, validation, data_hash, plan, notes })
    }
}

/// The texts of examples, pairs one after the other.
fn texts(examples: &[Example]) -> Vec<String> {
    examples.iter().flat_map(|example| [Some(&example.text), example.pair.as_ref()]).flatten().cloned().collect()
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
        (ObjectiveConfig::Tagging(_), ..) => refused(
            "`objective.tagging` is not trained yet; hint: `[objective.masked_lm]` learns from the same sentences",
        ),
        (ObjectiveConfig::MaskedLm(masked_lm), ..) if masked_lm.next_sentence => {
            refused("`objective.masked_lm.next_sentence` is not trained yet; hint: leave it out")
        }
        (ObjectiveConfig::Causal(_), true, _) => {
            refused("`objective.causal` is for a GPT, the model is a BERT; hint: `[objective.masked_lm]`")
        }
        (ObjectiveConfig::MaskedLm(_) | ObjectiveConfig::Classification(_), false, _) => {
            refused("this objective is for a BERT, the model is a GPT; hint: `[model.bert]`, or `[objective.causal]`")
        }
        (ObjectiveConfig::Classification(_), true, false) => {
            refused("`objective.classification` needs labels; hint: `[data.labelled]`")
        }
        _ if config.train.gradient_checkpointing && encoder => {
            refused("`train.gradient_checkpointing` is for a GPT so far; hint: lower `train.micro_batch_size` instead")
        }
        _ => Ok(objective),
    }
}

fn shape_of(
    config: &RunConfig,
    tokenizer: &Tokenizer,
    head: BertHead,
) -> Result<(NetworkConfig, Option<Tensors>), Error> {
    let refused = |error: model::gpt::ConfigError| Error::Config(error.to_string());
    let ids = tokenizer.vocab_size();
    let initial = config.model.init_from.as_deref();
    if is_encoder(config)? {
        let settings = config.model.bert.clone().unwrap_or_default();
        return Ok(match initial {
            None => (NetworkConfig::Bert(BertConfig::from_settings(&settings, ids, head).map_err(refused)?), None),
            Some(dir) => {
                let (found, tensors) = checkpoint::read_bert(dir)?;
                (NetworkConfig::Bert(found.overridden(&settings, ids, head).map_err(refused)?), Some(tensors))
            }
        });
    }
    let settings = config.model.gpt.clone().unwrap_or_default();
    Ok(match initial {
        None => (NetworkConfig::Gpt(GptConfig::from_settings(&settings, ids).map_err(refused)?), None),
        Some(dir) => {
            let (found, tensors) = checkpoint::read_gpt(dir)?;
            (NetworkConfig::Gpt(found.overridden(&settings, ids).map_err(refused)?), Some(tensors))
        }
    })
}

/// The weights of a checkpoint of the run.
pub(crate) fn read_weights(config: &NetworkConfig, dir: &Path) -> Result<Tensors, Error> {
    Ok(match config {
        NetworkConfig::Gpt(_) => checkpoint::read_gpt(dir)?.1,
        NetworkConfig::Bert(_) => checkpoint::read_bert(dir)?.1,
    })
}

/// A GPU answers an id outside the vocabulary with zeros and a plausible loss, so it is looked for here.
fn check_ids(streams: &[&TokenStream], vocab_size: usize) -> Result<(), Error> {
    let largest = streams.iter().flat_map(|stream| stream.tokens().iter()).max();
    match largest {
        Some(id) if *id as usize >= vocab_size => Err(Error::Config(format!(
            "the tokenizer gives the id {id}, but the model's vocabulary has {vocab_size} entries; hint: use the tokenizer \
             the model was trained with"
        ))),
        _ => Ok(()),
    }
}

/// Fresh or loaded weights for `config` on `device`, and a line for the person about what was loaded.
pub(crate) fn build_model(
    config: &NetworkConfig,
    tensors: Option<&Tensors>,
    seed: u64,
    device: &burn::tensor::Device,
) -> Result<(Network, Option<String>), Error> {
    let Some(tensors) = tensors else { return Ok((Network::new(config, seed, device), None)) };
    let (network, report) = Network::load(config, tensors, seed, device)?;
    let list = |names: &[String]| match names.len() {
        0 => "none".to_string(),
        n if n <= 8 => names.join(", "),
        n => format!("{n} ({}, ...)", names[..3].join(", ")),
    };
    let line = format!(
        "init_from: {} tensors loaded; fresh: {}; unused: {}",
        report.loaded.len(),
        list(&report.fresh),
        list(&report.unused)
    );
    Ok((network, Some(line)))
}
