//! Runs that are trained one after the other and compared by their evaluations: what `sweep` and `cv` share.

use crate::report::{Failure, OUTPUT, USAGE, say};
use model::OpenDevice;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::time::Instant;
use trainer::config::RunConfig;
use trainer::metrics::higher_is_better;
use trainer::observer::{Curves, JsonlMetrics, METRICS_FILE, Observers, Record, read};
use trainer::{Outcome, Resume, Trainer};

/// An evaluation's figures by name.
pub type Figures = BTreeMap<String, f64>;

/// What a finished trial leaves in `result.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrialResult {
    /// The keys that make it another run than the rest, and their values.
    pub set: BTreeMap<String, String>,
    /// Why there are no figures, where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// The step of the best checkpoint.
    pub step: u64,
    /// That evaluation's figures on the validation split.
    pub metrics: Figures,
    /// Training time of the process that finished it.
    pub seconds: f64,
    /// The trial's run directory.
    pub dir: PathBuf,
}

/// What every trial sets: the keys that were asked for, the device, and the figure that its best checkpoint is the best by.
pub fn shared_sets(sets: &[String], device: Option<&String>, metric: Option<&String>) -> Vec<String> {
    let device = device.map(|device| format!("train.device={device}"));
    let metric = metric.map(|metric| format!("train.best_metric={metric}"));
    sets.iter().cloned().chain(device).chain(metric).collect()
}

/// Trains a trial whose config differs from the others' in `set`, or takes the result that it left before; one that was
/// stopped goes on.
pub fn train(
    config: &RunConfig,
    set: &[(String, String)],
    heading: &str,
    device: &OpenDevice,
    stop: &AtomicUsize,
) -> Result<TrialResult, Failure> {
    let path = config.train.output_dir.join("result.json");
    if let Ok(bytes) = std::fs::read(&path) {
        return serde_json::from_slice(&bytes)
            .map_err(|error| Failure::new(OUTPUT, format!("{}: {error}", path.display())));
    }
    let said = set.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ");
    say(format!("{heading}: {said}"));
    let mut observers = Observers::new();
    observers.add(JsonlMetrics::new());
    observers.add(Curves::new());
    let clock = Instant::now();
    let ended =
        Trainer::new(config.clone(), &Resume::Auto, device).and_then(|trainer| trainer.run(&mut observers, None, stop));
    let failed = match ended {
        Ok(finished) => match finished.outcome {
            Outcome::Stopped(signal) => return Err(Failure::signal(signal as usize)),
            Outcome::Completed | Outcome::Diverged => None,
        },
        Err(error @ trainer::Error::Diverged { .. }) => Some(error.to_string()),
        Err(error) => return Err(error.into()),
    };
    let best = best_evaluation(&config.train.output_dir.join(METRICS_FILE))?;
    if failed.is_none() && best.is_none() {
        let metric = &config.train.best_metric;
        return Err(Failure::new(USAGE, format!("no evaluation gave a {metric}; hint: --metric loss")));
    }
    let (step, metrics) = best.unwrap_or_default();
    let result = TrialResult {
        set: set.iter().cloned().collect(),
        failed,
        step,
        metrics,
        seconds: clock.elapsed().as_secs_f64(),
        dir: config.train.output_dir.clone(),
    };
    write(&path, &json!(result))?;
    Ok(result)
}

/// The directory for the trials of a config where none is named: its run's, with `suffix` behind it.
pub fn directory(base: &RunConfig, suffix: &str) -> PathBuf {
    let mut name = base.train.output_dir.clone().into_os_string();
    name.push(suffix);
    name.into()
}

/// Refuses a config whose trials could not be compared.
pub fn check(base: &RunConfig) -> Result<(), Failure> {
    match base.train.eval_every {
        0 => Err(Failure::new(USAGE, "`train.eval_every` is 0: trials are compared by their evaluations")),
        _ => Ok(()),
    }
}

/// Makes a directory say, in the file `name`, which trials it holds; refuses one that holds others.
pub fn settle(out: &Path, name: &str, trials: &Value) -> Result<(), Failure> {
    let path = out.join(name);
    match std::fs::read(&path) {
        Ok(bytes) if serde_json::from_slice::<Value>(&bytes).ok().as_ref() == Some(trials) => Ok(()),
        Ok(_) => {
            let message = format!("{} holds other trials; hint: name another directory with --out", out.display());
            Err(Failure::new(USAGE, message))
        }
        Err(_) => {
            let created = std::fs::create_dir_all(out);
            created.map_err(|error| Failure::new(OUTPUT, format!("{}: {error}", out.display())))?;
            write(&path, trials)
        }
    }
}

fn write(path: &Path, value: &Value) -> Result<(), Failure> {
    let text = serde_json::to_vec_pretty(value).expect("a value is JSON");
    Ok(checkpoint::disk::write_atomically(path, &text)?)
}

/// Step and figures of the evaluation that made a run's best checkpoint, by its history.
fn best_evaluation(history: &Path) -> Result<Option<(u64, Figures)>, Failure> {
    let records = read(history).map_err(|error| Failure::new(OUTPUT, format!("{}: {error}", history.display())))?;
    Ok(records.into_iter().rev().find_map(|record| match record {
        Record::Eval(report) if report.best => Some((report.step, report.figures())),
        _ => None,
    }))
}

/// Turned so that less is better.
fn oriented(value: f64, metric: &str) -> f64 {
    if higher_is_better(metric) == Some(true) { -value } else { value }
}

/// What trials are sorted by: failed ones come last.
pub fn rank(result: &TrialResult, metric: &str) -> f64 {
    match result.metrics.get(metric) {
        Some(value) if result.failed.is_none() => oriented(*value, metric),
        _ => f64::INFINITY,
    }
}

/// The trials, a line each, columns aligned.
pub fn table(results: &[TrialResult], metric: &str) -> String {
    let mut names = vec![metric.to_string()];
    // The rest stands in `result.json`.
    let usual = ["loss", "accuracy", "f1", "perplexity"].map(String::from);
    let is_known = |name: &String| results.iter().any(|result| result.metrics.contains_key(name));
    names.extend(usual.into_iter().filter(|name| name != metric && is_known(name)));
    let keys: Vec<String> = results.first().map(|result| result.set.keys().cloned().collect()).unwrap_or_default();
    let header = names.iter().cloned().chain(["step".to_string()]).chain(keys.iter().cloned());
    let mut rows: Vec<Vec<String>> = vec![header.chain(["directory".to_string()]).collect()];
    for result in results {
        let figure = |name: &String| match (&result.failed, result.metrics.get(name)) {
            (Some(_), _) => "failed".to_string(),
            (None, value) => value.map_or("-".to_string(), |value| format!("{value:.4}")),
        };
        let mut row: Vec<String> = names.iter().map(figure).collect();
        row.push(result.step.to_string());
        row.extend(keys.iter().map(|key| result.set.get(key).cloned().unwrap_or_default()));
        row.push(result.dir.display().to_string());
        rows.push(row);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string() + "\n"
    };
    rows.iter().map(line).collect()
}
