//! The data of a run, read and divided.

use crate::config::RunConfig;
use crate::error::Error;
use data::chat::ChatSplits;
use data::config::ProblemConfig;
use data::source::labelled::{Example, LabelledSplits, label_weights};
use data::source::tagged::{TaggedSentence, TaggedSplits};
use data::{ObjectiveConfig, SourceConfig, TextCleaner, Tokenizer, TokenizerConfig};

/// What the rows are made of.
pub(crate) enum Parts {
    /// Texts: training, validation, test.
    Texts([Vec<String>; 3]),
    /// Labelled texts, and how much each label counts.
    Labelled { splits: LabelledSplits, problem: ProblemConfig, weights: Vec<f32> },
    /// Sentences whose words carry tags.
    Tagged(TaggedSplits),
    /// Conversations.
    Chat(ChatSplits),
}

impl Parts {
    /// The texts that a tokenizer learns from.
    fn training_texts(&self) -> Vec<String> {
        match self {
            Self::Texts([train, ..]) => train.clone(),
            Self::Labelled { splits, .. } => texts(&splits.train),
            Self::Tagged(splits) => splits.train.iter().map(TaggedSentence::text).collect(),
            Self::Chat(splits) => {
                let messages = splits.train.iter().flat_map(|conversation| &conversation.messages);
                messages.map(|message| message.content.clone()).collect()
            }
        }
    }
}

/// The data of a run, divided.
pub(crate) struct Data {
    pub(crate) parts: Parts,
    pub(crate) hash: String,
    /// Whether a text ends somewhere, so that there may be a token for it.
    pub(crate) many: bool,
    /// All of it, where a tokenizer of characters must know each.
    pub(crate) everything: Option<Vec<String>>,
    pub(crate) cleaner: TextCleaner,
    pub(crate) notes: Vec<String>,
}

impl Data {
    pub(crate) fn read(config: &RunConfig, objective: &ObjectiveConfig) -> Result<Self, Error> {
        if let SourceConfig::Labelled(labelled) = &config.data {
            let mut splits = data::source::labelled::read(labelled, &config.split, &config.clean)?;
            let (hash, cleaner) = (splits.hash.clone(), splits.cleaner.clone());
            let notes = std::mem::take(&mut splits.notes);
            let parts = match objective {
                ObjectiveConfig::Classification(classification) => {
                    let problem = labelled.problem;
                    let weights = label_weights(classification, problem, &splits)?;
                    Parts::Labelled { splits, problem, weights }
                }
                _ => Parts::Texts([texts(&splits.train), texts(&splits.validation), texts(&splits.test)]),
            };
            return Ok(Self { parts, hash, many: true, everything: None, cleaner, notes });
        }
        if let SourceConfig::Chat(chat) = &config.data {
            let mut splits = data::chat::read(chat, &config.split, &config.clean, &config.redact)?;
            let (hash, notes) = (splits.hash.clone(), std::mem::take(&mut splits.notes));
            let (parts, cleaner) = (Parts::Chat(splits), TextCleaner::default());
            return Ok(Self { parts, hash, many: true, everything: None, cleaner, notes });
        }
        if let (SourceConfig::Tagged(tagged), ObjectiveConfig::Tagging(_)) = (&config.data, objective) {
            let mut splits = data::source::tagged::read(tagged, &config.split)?;
            let (hash, notes) = (splits.hash.clone(), std::mem::take(&mut splits.notes));
            let (parts, cleaner) = (Parts::Tagged(splits), TextCleaner::default());
            return Ok(Self { parts, hash, many: true, everything: None, cleaner, notes });
        }
        let corpus = data::source::read(&config.data)?;
        let hash = corpus.hash.clone();
        let many = corpus.documents.len() > 1;
        let everything = matches!(config.tokenizer, Some(TokenizerConfig::Char(_))).then(|| corpus.documents.clone());
        let splits = data::split::split(corpus, &config.split)?;
        let parts = Parts::Texts([splits.train, splits.validation, splits.test]);
        Ok(Self { parts, hash, many, everything, cleaner: TextCleaner::default(), notes: Vec::new() })
    }

    /// Every character of the text is an id, whichever part it stands in; other tokenizers know every byte, or an
    /// unknown token, and learn from the training part alone.
    fn train_tokenizer(&self, config: &TokenizerConfig) -> Result<Tokenizer, Error> {
        Ok(match &self.everything {
            Some(everything) => Tokenizer::train(config, everything, self.many)?,
            None => Tokenizer::train(config, &self.parts.training_texts(), self.many)?,
        })
    }

    /// The tokenizer of a new run, before a chat template brings more tokens.
    ///
    /// # Errors
    /// None is named, or it cannot be read or trained.
    pub(crate) fn tokenizer(&self, config: &RunConfig) -> Result<Tokenizer, Error> {
        match (&config.tokenizer, &config.model.init_from) {
            (Some(chosen), _) => self.train_tokenizer(chosen),
            (None, Some(dir)) => Ok(checkpoint::tokenizer(dir)?),
            (None, None) => Err(Error::Config(
                "`tokenizer` is missing; hint: `[tokenizer.char]`, `[tokenizer.bpe]` or `[tokenizer.bert]`".into(),
            )),
        }
    }
}

/// The texts of examples, pairs one after the other.
fn texts(examples: &[Example]) -> Vec<String> {
    examples.iter().flat_map(|example| [Some(&example.text), example.pair.as_ref()]).flatten().cloned().collect()
}
