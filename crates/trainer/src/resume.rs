//! Finding the checkpoint a run goes on from, and whether the config still fits it.

use crate::config::RunConfig;
use crate::error::Error;
use checkpoint::{Difference, TrainState};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Whether a run goes on from a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub enum Resume {
    /// No: the run directory must hold no checkpoint.
    Fresh,
    /// From the newest checkpoint of the run directory that verifies; from the start if there is none.
    Auto,
    /// From this checkpoint.
    From(PathBuf),
}

/// A checkpoint that the run goes on from.
pub(crate) struct Restored {
    pub dir: PathBuf,
    pub state: TrainState,
    /// What the person should know: what was skipped and why, and which settings changed.
    pub notes: Vec<String>,
}

/// Settings that change how a run goes on, not what it is.
const MAY_CHANGE: &[&str] = &[
    "train.best_metric",
    "train.early_stopping_patience",
    "data",
    "train.output_dir",
    "train.device",
    "train.precision",
    "train.emulate_precision",
    "train.gradient_checkpointing",
    "train.micro_batch_size",
    "train.gradient_accumulation_steps",
    "train.max_steps",
    "train.num_epochs",
    "train.max_tokens",
    "train.max_grad_norm",
    "train.label_smoothing",
    "train.eval_every",
    "train.eval_batches",
    "train.save_every",
    "train.keep_last",
    "train.log_every",
    "train.sample_prompt",
    "train.sample_tokens",
    "schedule",
];

/// Only read at the start, where the checkpoint has the weights.
const INITIAL: &str = "model.init_from";

const RANDOMNESS: [&str; 10] = [
    "train.neftune_alpha",
    "lora.dropout",
    "model.gpt.dropout",
    "model.gpt.embd_dropout",
    "model.gpt.attn_dropout",
    "model.gpt.resid_dropout",
    "model.bert.dropout",
    "model.bert.hidden_dropout",
    "model.bert.attn_dropout",
    "model.bert.classifier_dropout",
];

/// Finds what to go on from. The caller holds the run directory's lock.
pub(crate) fn find(config: &mut RunConfig, resume: &Resume) -> Result<Option<Restored>, Error> {
    let run_dir = &config.train.output_dir.clone();
    let present = checkpoint::list(run_dir)?;
    let newest = present.iter().max_by_key(|listed| listed.step);
    let (dir, mut notes) = match (resume, newest) {
        (Resume::Fresh | Resume::Auto, None) => {
            settle_base(config, None)?;
            return Ok(None);
        }
        (Resume::Fresh, Some(newest)) => {
            return Err(Error::Config(format!(
                "`train.output_dir`: {} already holds a run (up to {}); hint: `--resume` goes on with it; to start over, \
                 remove it or set another `train.output_dir`",
                run_dir.display(),
                checkpoint::step_name(newest.step)
            )));
        }
        (Resume::Auto, Some(_)) => {
            let found = checkpoint::find_latest(run_dir)?;
            let notes = found.skipped.iter().map(|(dir, why)| format!("skipped {}: {why}", dir.display())).collect();
            (found.dir, notes)
        }
        (Resume::From(dir), _) => {
            checkpoint::verify(dir)?;
            (dir.clone(), Vec::new())
        }
    };
    let state = TrainState::read(&dir)?;
    settle_base(config, Some(&state))?;
    if let (Resume::From(_), Some(newest)) = (resume, newest)
        && newest.step > state.step
    {
        return Err(Error::Config(format!(
            "{} is step {}, but {} already holds {}; hint: set another `train.output_dir`, or remove the newer checkpoints",
            dir.display(),
            state.step,
            run_dir.display(),
            checkpoint::step_name(newest.step)
        )));
    }
    notes.push(format!("resuming from {}", dir.display()));
    notes.extend(changes(config, &state, &dir)?);
    Ok(Some(Restored { dir, state, notes }))
}

/// Puts the checkpoint that a run directory in `model.init_from` stands for in its place: of a run that goes on the one it
/// stood for when the run began, as `state` knows.
///
/// # Errors
/// As [`checkpoint::resolve`].
pub(crate) fn settle_base(config: &mut RunConfig, state: Option<&TrainState>) -> Result<(), Error> {
    let Some(written) = config.model.init_from.take() else { return Ok(()) };
    let saved = state.and_then(|state| state.config["model"]["init_from"].as_str()).map(PathBuf::from);
    let found = checkpoint::resolve(&written)?;
    let stood_for = saved.filter(|saved| found != written && saved.parent() == Some(&written) && saved.is_dir());
    config.model.init_from = Some(stood_for.unwrap_or(found));
    Ok(())
}

/// The settings that changed, a line each.
///
/// # Errors
/// Changes that the checkpoint does not survive, field by field.
fn changes(config: &RunConfig, state: &TrainState, dir: &Path) -> Result<Vec<String>, Error> {
    let now = config.to_value();
    // Hyperparameters of the same optimizer may change; another optimizer has another state.
    let optimizer =
        state.config["optimizer"].as_object().and_then(|table| table.keys().next()).cloned().unwrap_or_default();
    let optimizer = format!("optimizer.{optimizer}");
    let mut may_change: Vec<&str> = MAY_CHANGE.to_vec();
    may_change.extend(RANDOMNESS);
    // An adapter is nothing without the model that it was trained beside.
    may_change.extend(config.lora.is_none().then_some(INITIAL));
    may_change.push(&optimizer);
    let differences = checkpoint::differences(&state.config, &now, &may_change);
    let mut refused: Vec<String> = differences.iter().filter(|d| !d.compatible).map(Difference::to_string).collect();
    let rows = |config: &Value| {
        let key = |name: &str| config["train"][name].as_u64().unwrap_or(1);
        key("micro_batch_size") * key("gradient_accumulation_steps")
    };
    if rows(&state.config) != rows(&now) {
        refused.push(format!(
            "`train.micro_batch_size` * `train.gradient_accumulation_steps` was {} and is {}",
            rows(&state.config),
            rows(&now)
        ));
    }
    if refused.is_empty() {
        return Ok(differences.iter().map(|d| format!("changed since the checkpoint: {d}")).collect());
    }
    Err(Error::Config(format!(
        "the config does not fit the checkpoint {}:\n  {}\nhint: undo these changes, or start a new run in another \
         `train.output_dir` (with `model.init_from` = that checkpoint to keep its weights)",
        dir.display(),
        refused.join("\n  ")
    )))
}

impl Restored {
    /// Refuses to go on with something else than the checkpoint was trained with.
    pub fn check_hash(&self, what: &str, saved: &str, now: &str) -> Result<(), Error> {
        if saved == now {
            return Ok(());
        }
        Err(Error::Config(format!(
            "{what} changed since the checkpoint was saved (its BLAKE3 hash was {saved} and is {now}); hint: restore it, or \
             start a new run with `model.init_from` = that checkpoint"
        )))
    }
}
