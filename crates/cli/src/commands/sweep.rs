//! `firebox sweep`

use super::open_device;
use super::train::watch_signals;
use crate::report::{DIVERGED, Failure, OUTPUT, USAGE, print, print_json};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;
use trainer::config::RunConfig;
use trainer::metrics::higher_is_better;
use trainer::observer::{Curves, JsonlMetrics, METRICS_FILE, Observers, Record, read};
use trainer::search::{Space, Trial};
use trainer::{EvalReport, Outcome, Resume, Trainer};

/// Arguments of `firebox sweep`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The config file that every trial starts from.
    config: PathBuf,
    /// Try each of these values: `optimizer.adamw.lr=1e-4,3e-4`; several keys are combined.
    #[arg(long, value_name = "KEY=V,V,..")]
    grid: Vec<String>,
    /// Draw values: `KEY=V,V,..`, `KEY=LOW..HIGH`, or `KEY=log:LOW..HIGH` evenly in the logarithm.
    #[arg(long, value_name = "KEY=VALUES")]
    random: Vec<String>,
    /// Random draws, for each combination of the grid.
    #[arg(long, default_value_t = 10)]
    draws: usize,
    /// Seed of the draws.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The validation metric that trials are sorted by.
    #[arg(long, default_value = "loss", value_parser = known_metric)]
    metric: String,
    /// Set a key for all trials; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Directory for the trials. Default: the config's `train.output_dir` with `-sweep` behind it.
    #[arg(long)]
    out: Option<PathBuf>,
    /// auto, wgpu, wgpu:N, ndarray or flex; stands for `--set train.device=...`.
    #[arg(long)]
    device: Option<String>,
    /// Print one JSON value.
    #[arg(long)]
    json: bool,
}

fn known_metric(name: &str) -> Result<String, String> {
    let known = higher_is_better(name).is_some();
    known.then(|| name.to_string()).ok_or_else(|| "no such figure; loss, accuracy, f1, for example".into())
}

/// An evaluation's figures by name.
type Figures = BTreeMap<String, f64>;

/// What a finished trial leaves in `result.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct TrialResult {
    /// The keys that were searched, and their values.
    set: BTreeMap<String, String>,
    /// Why there are no figures, where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
    /// The step of the evaluation that was best by the metric.
    step: u64,
    /// That evaluation's figures on the validation split.
    metrics: Figures,
    /// Training time of the process that finished it.
    seconds: f64,
    /// The trial's run directory.
    dir: PathBuf,
}

/// Trains every trial, best first in the table; started again it goes on where it stopped.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let space = Space::parse(&arguments.grid, &arguments.random).map_err(|why| Failure::new(USAGE, why))?;
    if space.is_empty() || arguments.draws == 0 {
        return Err(Failure::new(USAGE, "nothing to try; hint: --grid optimizer.adamw.lr=1e-4,3e-4"));
    }
    let mut sets = arguments.sets.clone();
    sets.extend(arguments.device.as_ref().map(|device| format!("train.device={device}")));
    let base = RunConfig::load(&arguments.config, &sets)?.config;
    let out = arguments.out.clone().unwrap_or_else(|| {
        let mut name = base.train.output_dir.clone().into_os_string();
        name.push("-sweep");
        name.into()
    });
    let trials = space.trials(arguments.draws, arguments.seed);
    // Every trial's config is read before the first one trains.
    let configs: Vec<(Trial, RunConfig)> = trials
        .into_iter()
        .enumerate()
        .map(|(index, trial)| {
            let mut sets = sets.clone();
            sets.extend(trial.iter().map(|(key, value)| format!("{key}={value}")));
            let mut config = RunConfig::load(&arguments.config, &sets)?.config;
            config.train.output_dir = out.join(format!("trial-{:03}", index + 1));
            Ok((trial, config))
        })
        .collect::<Result<_, Failure>>()?;
    if base.train.eval_every == 0 {
        return Err(Failure::new(USAGE, "`train.eval_every` is 0: trials are compared by their evaluations"));
    }
    settle(&out, &arguments, &base)?;

    let stop = watch_signals()?;
    let device = open_device(&base.train.device)?;
    eprintln!("device: {}; {} trials in {}", device.reason, configs.len(), out.display());
    let mut results = Vec::new();
    for (index, (trial, config)) in configs.iter().enumerate() {
        let said = trial.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ");
        let path = config.train.output_dir.join("result.json");
        let result = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| Failure::new(OUTPUT, format!("{}: {error}", path.display())))?,
            Err(_) => {
                eprintln!("trial {} of {}: {said}", index + 1, configs.len());
                let mut observers = Observers::new();
                observers.add(JsonlMetrics::new());
                observers.add(Curves::new());
                let clock = Instant::now();
                let ended = Trainer::new(config.clone(), &Resume::Auto, &device)
                    .and_then(|trainer| trainer.run(&mut observers, None, &stop));
                let failed = match ended {
                    Ok(finished) => match finished.outcome {
                        Outcome::Stopped(signal) => return Err(Failure::signal(signal as usize)),
                        Outcome::Completed | Outcome::Diverged => None,
                    },
                    Err(error @ trainer::Error::Diverged { .. }) => Some(error.to_string()),
                    Err(error) => return Err(error.into()),
                };
                let best = best_evaluation(&config.train.output_dir.join(METRICS_FILE), &arguments.metric)?;
                if failed.is_none() && best.is_none() {
                    let why = format!("no evaluation gave a {}; hint: --metric loss", arguments.metric);
                    return Err(Failure::new(USAGE, why));
                }
                let (step, metrics) = best.unwrap_or_default();
                let result = TrialResult {
                    set: trial.iter().cloned().collect(),
                    failed,
                    step,
                    metrics,
                    seconds: clock.elapsed().as_secs_f64(),
                    dir: config.train.output_dir.clone(),
                };
                write(&path, &json!(result))?;
                result
            }
        };
        results.push(result);
    }
    let metric = &arguments.metric;
    results.sort_by(|a: &TrialResult, b: &TrialResult| rank(a, metric).total_cmp(&rank(b, metric)));
    if arguments.json {
        print_json(&json!({ "metric": metric, "trials": results }))?;
    } else {
        print(&table(&results, metric))?;
    }
    match results.first() {
        Some(best) if best.failed.is_some() => Err(Failure::new(DIVERGED, "no trial came to an end with figures")),
        _ => Ok(()),
    }
}

/// Makes the sweep's directory say which sweep it holds; refuses one that holds another.
fn settle(out: &Path, arguments: &Arguments, base: &RunConfig) -> Result<(), Failure> {
    let sweep = json!({
        "config": base.to_value(),
        "grid": arguments.grid,
        "random": arguments.random,
        "draws": arguments.draws,
        "seed": arguments.seed,
        "metric": arguments.metric,
    });
    let path = out.join("sweep.json");
    match std::fs::read(&path) {
        Ok(bytes) if serde_json::from_slice::<Value>(&bytes).ok().as_ref() == Some(&sweep) => Ok(()),
        Ok(_) => {
            let message = format!("{} holds another sweep; hint: name another directory with --out", out.display());
            Err(Failure::new(USAGE, message))
        }
        Err(_) => {
            let created = std::fs::create_dir_all(out);
            created.map_err(|error| Failure::new(OUTPUT, format!("{}: {error}", out.display())))?;
            write(&path, &sweep)
        }
    }
}

fn write(path: &Path, value: &Value) -> Result<(), Failure> {
    let text = serde_json::to_vec_pretty(value).expect("a value is JSON");
    Ok(checkpoint::disk::write_atomically(path, &text)?)
}

/// The figures of an evaluation by name.
fn figures(report: &EvalReport) -> Figures {
    let named = [("loss", report.loss), ("perplexity", report.perplexity), ("accuracy", report.accuracy)];
    let of_language = named.into_iter().map(|(name, value)| (name.to_string(), value));
    let all = of_language.chain(report.metrics.clone());
    all.filter(|(_, value)| value.is_finite()).collect()
}

/// Step and figures of the evaluation that is best by `metric`, of all that a run's history holds.
fn best_evaluation(history: &Path, metric: &str) -> Result<Option<(u64, Figures)>, Failure> {
    let records = read(history).map_err(|error| Failure::new(OUTPUT, format!("{}: {error}", history.display())))?;
    let evaluations = records.into_iter().filter_map(|record| match record {
        Record::Eval(report) => Some((report.step, figures(&report))),
        _ => None,
    });
    Ok(evaluations
        .filter(|(_, figures)| figures.contains_key(metric))
        .min_by(|(_, a), (_, b)| oriented(a[metric], metric).total_cmp(&oriented(b[metric], metric))))
}

/// Turned so that less is better.
fn oriented(value: f64, metric: &str) -> f64 {
    if higher_is_better(metric) == Some(true) { -value } else { value }
}

/// What trials are sorted by: failed ones come last.
fn rank(result: &TrialResult, metric: &str) -> f64 {
    match result.metrics.get(metric) {
        Some(value) if result.failed.is_none() => oriented(*value, metric),
        _ => f64::INFINITY,
    }
}

/// The trials, a line each, columns aligned.
fn table(results: &[TrialResult], metric: &str) -> String {
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
