//! What a run tells those who watch it, and the trait they implement.
//!
//! The training loop sends [`Event`]s and never looks back: an observer cannot change a run, slow it down by
//! asking the device for values, or stop it by failing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::metrics::Task;

/// Something that happened in a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The first event of every process that trains.
    Started {
        /// Optimizer steps already done: 0 for a new run, the checkpoint's step on resume.
        start_step: u64,
        /// The step the run ends at.
        total_steps: u64,
        /// Tokens that one optimizer step trains on, all micro-batches together.
        tokens_per_step: u64,
        /// The run's directory.
        output_dir: PathBuf,
        /// What the model is measured at.
        task: Task,
        /// The figure that decides which checkpoint is the best, as `loss`.
        best_metric: String,
    },
    /// Sent every `log_every` steps.
    Step(StepReport),
    /// The model was evaluated on the validation subset.
    Evaluated(EvalReport),
    /// Text that the model generated.
    Sample {
        /// Optimizer steps done when it was generated.
        step: u64,
        /// The text, prompt included; it may hold any character.
        text: String,
    },
    /// A checkpoint was written and verified.
    Saved {
        /// Optimizer steps done.
        step: u64,
        /// The checkpoint's directory.
        path: PathBuf,
        /// Whether it is the best so far by `train.best_metric`.
        best: bool,
    },
    /// Something the person should read once.
    Note(String),
    /// The last event of every process that trains, whatever ended it.
    Finished {
        /// Optimizer steps done.
        step: u64,
        /// How the run ended.
        outcome: Outcome,
        /// The best checkpoint: its step, its validation figure, its directory.
        best: Option<(u64, f64, PathBuf)>,
        /// What that figure is, as `loss`.
        best_metric: String,
        /// What the model is for.
        purpose: Purpose,
        /// Time since this process began to train.
        elapsed: Duration,
    },
}

/// Training figures over the steps since the report before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Optimizer steps done.
    pub step: u64,
    /// Passes over the training data done, with the fraction of the current one.
    pub epoch: f64,
    /// Mean loss over all trained targets of this interval's steps: in nats a token, or a classifier's row.
    #[serde(deserialize_with = "null_is_nan")]
    pub loss: f64,
    /// The mean loss of each term, where there are several; the loss is their sum.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub terms: BTreeMap<String, f64>,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Norm of the last step's whole gradient, before clipping.
    #[serde(deserialize_with = "null_is_nan")]
    pub grad_norm: f64,
    /// Tokens read since the run's very first step, padding apart.
    pub tokens: u64,
    /// Tokens read per second over this interval, padding apart.
    #[serde(deserialize_with = "null_is_nan")]
    pub tokens_per_second: f64,
    /// Time since this process began to train.
    #[serde(rename = "elapsed_seconds", with = "seconds")]
    pub elapsed: Duration,
}

/// Figures of one evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalReport {
    /// Optimizer steps done.
    pub step: u64,
    /// Mean validation loss in nats a target: a token, or a classifier's row.
    #[serde(deserialize_with = "null_is_nan")]
    pub loss: f64,
    /// The exponential of the loss, of several terms of the first; none of a squared error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<f64>,
    /// Share of tokens whose most probable prediction was right, 0 to 1.
    #[serde(deserialize_with = "null_is_nan")]
    pub accuracy: f64,
    /// Validation tokens that the figures are taken over.
    pub tokens: u64,
    /// Further figures by name, such as `f1`; see [`crate::metrics::Report::metrics`]. Of several loss terms each
    /// one's. None for a language model.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
    /// Whether this is the best so far by `train.best_metric`.
    pub best: bool,
    /// Time since this process began to train.
    #[serde(rename = "elapsed_seconds", with = "seconds")]
    pub elapsed: Duration,
}

impl EvalReport {
    /// Every figure that has a value, by the name that `train.best_metric` knows it by.
    pub fn figures(&self) -> BTreeMap<String, f64> {
        let own = [("loss", Some(self.loss)), ("perplexity", self.perplexity), ("accuracy", Some(self.accuracy))];
        let own = own.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        own.chain(self.metrics.clone()).filter(|(_, value)| value.is_finite()).collect()
    }

    /// The figure of this name, if it has a value.
    pub fn figure(&self, name: &str) -> Option<f64> {
        self.figures().remove(name)
    }
}

/// What a trained model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To continue a text.
    Generate,
    /// To answer in a conversation.
    Chat,
    /// To say something about a text.
    Predict,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It reached its last step.
    Completed,
    /// A signal (2 is SIGINT, 15 is SIGTERM) stopped it; it saved first.
    Stopped(i32),
    /// A loss or a gradient was not finite; the last good checkpoint stands.
    Diverged,
}

/// Why an observer failed.
pub type ObserverError = Box<dyn std::error::Error + Send + Sync>;

/// Watches a run. An observer that returns an error is reported once and gets no further events.
pub trait Observer: Send {
    /// What the report of a failure calls it.
    fn name(&self) -> &'static str;

    /// Takes note of an event.
    ///
    /// # Errors
    /// Whatever keeps the observer from going on, such as a full disk. Training goes on without it.
    fn observe(&mut self, event: &Event) -> Result<(), ObserverError>;
}

/// JSON has no NaN; `serde_json` writes it and the infinities as `null`.
pub(crate) fn null_is_nan<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// A duration as seconds, to the millisecond.
pub(crate) mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(duration.as_millis() as f64 / 1e3)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom)
    }
}
