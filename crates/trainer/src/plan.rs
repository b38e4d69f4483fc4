//! What a run will do, known before a device is touched.

use crate::config::{RunConfig, StopAt};
use crate::error::Error;
use crate::memory::{MemoryEstimate, resident_bytes};
use crate::resume::Restored;
use data::{Batches, EvaluationRows, TokenStream, Tokenizer};
use model::{Gpt, GptConfig, HostTensor, Tensors};
use std::collections::BTreeMap;

/// A run's figures: what `--dry-run` prints.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Plan {
    /// Parameters by part of the model.
    pub parameters: Vec<(&'static str, usize)>,
    /// Documents in the training, validation and test split.
    pub documents: [usize; 3],
    /// Tokens in the training, validation and test split.
    pub tokens: [usize; 3],
    /// Ids of the tokenizer.
    pub vocabulary: usize,
    /// Rows that one optimizer step consumes: micro-batch size times accumulation.
    pub rows_per_step: u64,
    /// Tokens that one optimizer step trains on.
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
    pub model_config: GptConfig,
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

impl Prepared {
    /// Reads, splits and tokenizes the data and settles the model's shape; a resumed run takes its tokenizer from
    /// `resumed`.
    ///
    /// # Errors
    /// Data that cannot be read, is too short or has changed since `resumed`; a shape that contradicts it.
    pub fn new(config: &RunConfig, resumed: Option<&Restored>) -> Result<Self, Error> {
        let corpus = data::source::read(&config.data)?;
        let data_hash = corpus.hash.clone();
        if let Some(restored) = resumed {
            restored.check_hash("the training data", &restored.state.data_hash, &data_hash)?;
        }
        let many = corpus.documents.len() > 1;
        let everything =
            matches!(config.tokenizer, Some(data::config::TokenizerConfig::Char(_))).then(|| corpus.documents.clone());
        let splits = data::split::split(corpus, &config.split)?;
        let tokenizer = match (resumed, &config.tokenizer, &config.model.init_from) {
            (Some(restored), _, _) => {
                let tokenizer = Tokenizer::from_file(&restored.dir)?;
                restored.check_hash("the tokenizer", &restored.state.tokenizer_hash, &tokenizer.hash())?;
                tokenizer
            }
            // Every character of the text is an id, whichever split it stands in; other tokenizers know every byte
            // and learn from the training split alone.
            (None, Some(chosen), _) => Tokenizer::train(chosen, everything.as_deref().unwrap_or(&splits.train), many)?,
            (None, None, Some(dir)) => Tokenizer::from_file(dir)?,
            (None, None, None) => {
                return Err(Error::Config(
                    "`tokenizer` is missing; hint: `[tokenizer.char]` or `[tokenizer.bpe]`".into(),
                ));
            }
        };
        let (model_config, initial) = shape_of(config, &tokenizer)?;

        let seq_len = model_config.max_seq_len;
        let stream =
            |documents: &[String]| -> Result<TokenStream, Error> { Ok(TokenStream::encode(&tokenizer, documents)?) };
        let train = stream(&splits.train)?;
        let validation = stream(&splits.validation)?;
        let test = stream(&splits.test)?;
        check_ids(&[&train, &validation], model_config.vocab_size)?;

        let settings = &config.train;
        let mut notes = Vec::new();
        let micro_batch = settings.micro_batch_size;
        let tokens = [train.len(), validation.len(), test.len()];
        let train = Batches::training(train, seq_len, settings.seed)?;
        let validation = if settings.eval_every == 0 || validation.is_empty() {
            None
        } else if validation.len() <= seq_len {
            notes.push(format!(
                "the validation split has {} tokens, fewer than one context of {seq_len}: no evaluation; hint: raise `split.validation`",
                validation.len()
            ));
            None
        } else {
            let most = settings.eval_batches * micro_batch;
            Some(Batches::evaluation(validation, seq_len, EVALUATION_SEED, most)?)
        };
        let rows_per_step = (micro_batch * settings.gradient_accumulation_steps) as u64;
        let tokens_per_step = rows_per_step * seq_len as u64;
        let rows_per_epoch = train.rows_per_epoch();
        let total_steps = match settings.stop_at() {
            Some(StopAt::Steps(steps)) => steps,
            Some(StopAt::Epochs(epochs)) => (epochs * rows_per_epoch).div_ceil(rows_per_step),
            Some(StopAt::Tokens(tokens)) => tokens.div_ceil(tokens_per_step),
            None => {
                return Err(Error::Config("`train` needs one of `max_steps`, `num_epochs` and `max_tokens`".into()));
            }
        };
        let plan = Plan {
            parameters: model_config.parameters(),
            documents: [splits.train.len(), splits.validation.len(), splits.test.len()],
            tokens,
            vocabulary: tokenizer.vocab_size(),
            rows_per_step,
            tokens_per_step,
            rows_per_epoch,
            steps_per_epoch: rows_per_epoch as f64 / rows_per_step as f64,
            total_steps,
            evaluation_tokens: validation.as_ref().map_or(0, |rows| (rows.len() * seq_len) as u64),
            memory: MemoryEstimate::new(config, &model_config, resident_bytes().unwrap_or(0)),
        };
        Ok(Self { tokenizer, model_config, initial, train, validation, data_hash, plan, notes })
    }
}

fn shape_of(config: &RunConfig, tokenizer: &Tokenizer) -> Result<(GptConfig, Option<Tensors>), Error> {
    let settings = config.model.gpt.clone().unwrap_or_default();
    let ids = tokenizer.vocab_size();
    match &config.model.init_from {
        None => Ok((GptConfig::from_settings(&settings, ids).map_err(|e| Error::Config(e.to_string()))?, None)),
        Some(dir) => {
            let (found, tensors) = checkpoint::read_gpt(dir)?;
            let shape = found.overridden(&settings, ids).map_err(|e| Error::Config(e.to_string()))?;
            Ok((shape, Some(tensors)))
        }
    }
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
    config: &GptConfig,
    tensors: Option<&BTreeMap<String, HostTensor>>,
    seed: u64,
    device: &burn::tensor::Device,
) -> Result<(Gpt, Option<String>), Error> {
    let Some(tensors) = tensors else { return Ok((Gpt::new(config, seed, device), None)) };
    let (gpt, report) = model::weights::load(Gpt::blank(config, device), tensors)
        .map_err(|e| Error::Config(format!("`model.init_from`: {e}")))?;
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
    Ok((gpt, Some(line)))
}
