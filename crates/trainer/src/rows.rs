//! The rows of a run: its data as tokens, in the shape that its objective learns from.

use crate::config::RunConfig;
use crate::error::Error;
use crate::network::NetworkConfig;
use crate::parts::Parts;
use data::chat::{ChatExamples, ChatSplits, ChatTemplate, Conversation, Finding, Severity, lint};
use data::config::{MaskedLmConfig, ProblemConfig};
use data::document_rows::DocumentRows;
use data::next_sentence::SentencePairs;
use data::source::labelled::{Example, LabelledSplits};
use data::source::tagged::{TaggedSentence, TaggedSplits};
use data::tagged::TaggedExamples;
use data::{
    Augmenter, Batches, EvaluationRows, Examples, Masking, ObjectiveConfig, SubwordSampler, TokenStream, Tokenizer,
};

/// The seed of the order in which validation rows are chosen: fixed, so that runs of different seeds compare.
const EVALUATION_SEED: u64 = 0;

/// Micro-batches that an evaluation on running text reads where the config does not say.
const EVALUATION_BATCHES: usize = 50;

/// The rows of a run.
pub(crate) struct Rows {
    pub(crate) train: Batches,
    pub(crate) validation: Option<EvaluationRows>,
    /// Documents, or labelled texts, in the training, validation and test part.
    pub(crate) documents: [usize; 3],
    /// Tokens in each.
    pub(crate) tokens: [usize; 3],
    pub(crate) padding: f64,
    pub(crate) notes: Vec<String>,
}

/// Rows of different lengths, each encoded.
trait EncodedRows {
    fn is_empty(&self) -> bool;
    fn tokens(&self) -> usize;
    /// The share of padding in batches of `rows`.
    fn padding_share(&self, rows: usize) -> f64;
    fn batches(self, seq_len: usize) -> Result<Batches, data::Error>;
    fn evaluation(self, seq_len: usize, most: usize) -> EvaluationRows;
}

macro_rules! encoded_rows {
    ($type:ty, $constructor:ident) => {
        impl EncodedRows for $type {
            fn is_empty(&self) -> bool {
                self.is_empty()
            }

            fn tokens(&self) -> usize {
                self.tokens()
            }

            fn padding_share(&self, rows: usize) -> f64 {
                self.padding_share(rows)
            }

            fn batches(self, seq_len: usize) -> Result<Batches, data::Error> {
                Batches::$constructor(self, seq_len)
            }

            fn evaluation(self, seq_len: usize, most: usize) -> EvaluationRows {
                EvaluationRows::$constructor(self, seq_len, most)
            }
        }
    };
}

encoded_rows!(ChatExamples, chat);
encoded_rows!(TaggedExamples, tagged);
encoded_rows!(Examples, labelled);
encoded_rows!(DocumentRows, documents);

/// How the rows of a run are encoded.
struct Encoding<'a> {
    config: &'a RunConfig,
    tokenizer: &'a Tokenizer,
    seq_len: usize,
    vocab_size: usize,
    /// Validation rows at most.
    most: usize,
}

impl Rows {
    /// # Errors
    /// Data that gives no row, or that the tokenizer or the objective refuses.
    pub(crate) fn new(
        parts: &Parts,
        config: &RunConfig,
        objective: &ObjectiveConfig,
        tokenizer: &Tokenizer,
        model: &NetworkConfig,
    ) -> Result<Self, Error> {
        let of_text = matches!(parts, Parts::Texts(_)).then_some(EVALUATION_BATCHES);
        let batches = config.train.eval_batches.or(of_text);
        let encoding = Encoding {
            config,
            tokenizer,
            seq_len: model.max_seq_len(),
            vocab_size: model.vocab_size(),
            most: batches.map_or(usize::MAX, |batches| batches.saturating_mul(config.train.micro_batch_size)),
        };
        let mut rows = match parts {
            Parts::Labelled { splits, problem, weights } => encoding.labelled(splits, *problem, weights),
            Parts::Chat(splits) => encoding.chat(splits),
            Parts::Tagged(splits) => encoding.tagged(splits),
            Parts::Texts(texts) => match objective {
                ObjectiveConfig::MaskedLm(masked_lm) if masked_lm.next_sentence => {
                    encoding.sentence_pairs(texts, masked_lm)
                }
                _ => encoding.texts(texts, objective),
            },
        }?;
        if let Some(validation) = &rows.validation
            && validation.len() < validation.available()
        {
            let (seen, all) = (validation.len(), validation.available());
            rows.notes.push(format!("evaluations see {seen} of {all} validation rows; `train.eval_batches` decides"));
        }
        if let ObjectiveConfig::MaskedLm(masked_lm) = objective
            && masked_lm.whole_word
            && !tokenizer.has_word_pieces()
        {
            let message = "`objective.masked_lm.whole_word` has no effect: no token of this tokenizer continues a word";
            rows.notes.push(message.into());
        }
        Ok(rows)
    }
}

impl Encoding<'_> {
    /// The rows of a training and a validation part; whoever encoded them counts `documents`, and the tokens of the test part.
    fn rows<R: EncodedRows>(
        &self,
        [train, validation]: [R; 2],
        test_tokens: usize,
        documents: [usize; 3],
        notes: Vec<String>,
    ) -> Result<Rows, Error> {
        let settings = &self.config.train;
        let tokens = [train.tokens(), validation.tokens(), test_tokens];
        let padding = train.padding_share(settings.micro_batch_size);
        let evaluates = settings.eval_every > 0 && !validation.is_empty();
        let validation = evaluates.then(|| validation.evaluation(self.seq_len, self.most));
        Ok(Rows { train: train.batches(self.seq_len)?, validation, documents, tokens, padding, notes })
    }

    fn chat(&self, splits: &ChatSplits) -> Result<Rows, Error> {
        let Self { config, tokenizer, seq_len, .. } = *self;
        let template = ChatTemplate::of_tokenizer(tokenizer)?
            .ok_or_else(|| Error::Config("the tokenizer has no chat template; hint: `chat.template`".into()))?;
        let findings = lint(&template, tokenizer, &config.chat, &splits.train, &splits.validation, seq_len);
        let of = |severity| findings.iter().filter(move |finding: &&Finding| finding.severity == severity);
        if let Some(first) = of(Severity::Error).next() {
            let errors = of(Severity::Error).count();
            let message = format!("{first}; {errors} in all; hint: `firebox data lint` lists them");
            return Err(Error::Data(data::Error::Lint { message }));
        }
        let encode = |part: &[Conversation]| {
            ChatExamples::new(&template, tokenizer, &config.chat, part, seq_len, config.train.seed)
        };
        let (train, validation, test) = (encode(&splits.train)?, encode(&splits.validation)?, encode(&splits.test)?);
        let trained = 100.0 * train.trained_tokens() as f64 / train.tokens().max(1) as f64;
        let mut notes = vec![format!("{trained:.1}% of the training tokens are trained")];
        if let Some(first) = of(Severity::Warning).next() {
            let warnings = of(Severity::Warning).count();
            notes.push(format!("{warnings} warnings, as {first}; `firebox data lint` lists them"));
        }
        let counts = train.counts();
        for (count, what) in [
            (counts.cut, "conversations are cut to fit"),
            (counts.dropped, "conversations do not fit and are left out"),
            (counts.untrained, "conversations have nothing to train and are left out"),
        ] {
            if count > 0 {
                notes.push(format!("{count} {what}; `chat.truncation` and `chat.train_on` decide"));
            }
        }
        let documents = [&splits.train, &splits.validation, &splits.test].map(Vec::len);
        self.rows([train, validation], test.tokens(), documents, notes)
    }

    fn tagged(&self, splits: &TaggedSplits) -> Result<Rows, Error> {
        let Self { config, tokenizer, seq_len, .. } = *self;
        let encode =
            |part: &[TaggedSentence]| TaggedExamples::new(tokenizer, part, &splits.tags, seq_len, config.train.seed);
        let [train, validation, test] = [&splits.train, &splits.validation, &splits.test].map(|part| encode(part));
        let (train, validation, test) = (train?, validation?, test?);
        let documents = [train.len(), validation.len(), test.len()];
        let mut notes = Vec::new();
        if train.truncated() > 0 {
            notes.push(format!("{} training sentences are cut to {seq_len} tokens", train.truncated()));
        }
        self.rows([train, validation], test.tokens(), documents, notes)
    }

    fn sentence_pairs(&self, texts: &[Vec<String>; 3], masked_lm: &MaskedLmConfig) -> Result<Rows, Error> {
        let Self { config, tokenizer, seq_len, most, .. } = *self;
        let pairs = |documents: &[String], seed: u64| {
            let masking = Masking::new(masked_lm, tokenizer, seed)?;
            SentencePairs::new(tokenizer, documents, masking, seq_len, seed)
        };
        let train = pairs(&texts[0], config.train.seed)?;
        let mut notes = Vec::new();
        if train.single_sentences() > 0 {
            notes.push(format!(
                "{} documents of one sentence only stand behind others'; hint: `separator` divides a file into documents",
                train.single_sentences()
            ));
        }
        let validation = match config.train.eval_every > 0 && !texts[1].is_empty() {
            false => None,
            true => match pairs(&texts[1], EVALUATION_SEED) {
                Ok(pairs) => Some(pairs),
                Err(error) => {
                    notes.push(format!("no evaluation: the validation split has no pairs: {error}"));
                    None
                }
            },
        };
        let validation_tokens = validation.as_ref().map_or(0, SentencePairs::tokens);
        let tokens = [train.tokens(), validation_tokens, 0];
        let validation = validation.map(|pairs| EvaluationRows::next_sentence(pairs, EVALUATION_SEED, most));
        let documents = texts.each_ref().map(Vec::len);
        let train = Batches::next_sentence(train);
        Ok(Rows { train, validation: validation.transpose()?, documents, tokens, padding: 0.0, notes })
    }

    fn labelled(&self, splits: &LabelledSplits, problem: ProblemConfig, weights: &[f32]) -> Result<Rows, Error> {
        let Self { config, tokenizer, seq_len, .. } = *self;
        let encode = |part: &[Example], weights: &[f32]| {
            Examples::new(tokenizer, part, problem, &splits.labels, weights, seq_len, config.train.seed)
        };
        let mut train = encode(&splits.train, weights)?;
        // Evaluations count every example alike.
        let validation = encode(&splits.validation, &[])?;
        let test = encode(&splits.test, &[])?;
        let documents = [train.len(), validation.len(), test.len()];
        let mut notes = Vec::new();
        if train.truncated() > 0 {
            notes.push(format!("{} training texts are cut to {seq_len} tokens", train.truncated()));
        }
        let (augmenter, sampler) = (Augmenter::new(&config.augment, config.train.seed)?, self.sampler()?);
        if augmenter.is_some() || sampler.is_some() {
            train = train.augmented(augmenter, sampler, tokenizer, &splits.train);
            notes.extend(train.augmentation_note());
        }
        self.rows([train, validation], test.tokens(), documents, notes)
    }

    /// What draws other tokens in every epoch, if that is asked for.
    fn sampler(&self) -> Result<Option<SubwordSampler>, Error> {
        let subwords = self.config.augment.subwords.as_ref();
        let sampler = subwords.map(|subwords| SubwordSampler::new(subwords, self.tokenizer, self.config.train.seed));
        Ok(sampler.transpose()?)
    }

    /// Rows that hold whole documents, where they are so short that windows would run over several.
    fn short_documents(&self, texts: &[Vec<String>; 3], masked_lm: &MaskedLmConfig) -> Result<Option<Rows>, Error> {
        let Self { config, tokenizer, seq_len, .. } = *self;
        let [train, validation, test] = [&texts[0], &texts[1], &texts[2]].map(|part| tokenizer.encode_all(part));
        let (train, validation, test) = (train?, validation?, test?);
        if !DocumentRows::suits(&train, seq_len) {
            return Ok(None);
        }
        let rows = |documents: &[Vec<u32>], seed: u64| -> Result<DocumentRows, Error> {
            Ok(DocumentRows::new(documents, Masking::new(masked_lm, tokenizer, seed)?, seq_len, seed))
        };
        let mut notes = vec!["a row holds whole documents, none of which sees another".to_string()];
        let train = match self.sampler()? {
            None => rows(&train, config.train.seed)?,
            Some(sampler) => {
                let (recut, documents) = (sampler.recut(&texts[0], &train)?, train.len());
                notes.push(format!("augment: in the first epoch {recut} of {documents} documents cut in other tokens"));
                let masking = Masking::new(masked_lm, tokenizer, config.train.seed)?;
                DocumentRows::sampled(&texts[0], sampler, masking, seq_len, config.train.seed)?
            }
        };
        let validation = rows(&validation, EVALUATION_SEED)?;
        let test = test.iter().map(Vec::len).sum();
        let documents = texts.each_ref().map(Vec::len);
        self.rows([train, validation], test, documents, notes).map(Some)
    }

    fn texts(&self, texts: &[Vec<String>; 3], objective: &ObjectiveConfig) -> Result<Rows, Error> {
        let Self { config, tokenizer, seq_len, vocab_size, most } = *self;
        if let ObjectiveConfig::MaskedLm(masked_lm) = objective
            && let Some(rows) = self.short_documents(texts, masked_lm)?
        {
            return Ok(rows);
        }
        if config.augment.subwords.is_some() {
            let message = "[augment.subwords] draws tokens of short documents, and fewer than nine of ten fit a row";
            return Err(Error::Config(format!("{message}; hint: leave it out, or raise `model.bert.max_seq_len`")));
        }
        let stream = |documents: &[String]| match objective {
            ObjectiveConfig::MaskedLm(_) => TokenStream::separated(tokenizer, documents),
            _ => TokenStream::encode(tokenizer, documents),
        };
        let [train, validation, test] = [stream(&texts[0])?, stream(&texts[1])?, stream(&texts[2])?];
        check_ids(&[&train, &validation], vocab_size)?;
        let tokens = [train.len(), validation.len(), test.len()];
        let mut notes = Vec::new();
        let short = validation.len() <= seq_len;
        if config.train.eval_every > 0 && short && !validation.is_empty() {
            notes.push(format!(
                "the validation split has {} tokens, fewer than one context of {seq_len}: no evaluation; hint: raise `split.validation`",
                validation.len()
            ));
        }
        let evaluates = config.train.eval_every > 0 && !short;
        let (train, validation) = match objective {
            ObjectiveConfig::MaskedLm(masked_lm) => {
                let masking = Masking::new(masked_lm, tokenizer, config.train.seed)?;
                let fixed = Masking::new(masked_lm, tokenizer, EVALUATION_SEED)?;
                let rows =
                    evaluates.then(|| Batches::masked_evaluation(validation, fixed, seq_len, EVALUATION_SEED, most));
                (Batches::masked(train, masking, seq_len, config.train.seed)?, rows.transpose()?)
            }
            _ => {
                let rows = evaluates.then(|| Batches::evaluation(validation, seq_len, EVALUATION_SEED, most));
                (Batches::training(train, seq_len, config.train.seed)?, rows.transpose()?)
            }
        };
        Ok(Rows { train, validation, documents: texts.each_ref().map(Vec::len), tokens, padding: 0.0, notes })
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
