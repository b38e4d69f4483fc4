//! `firebox sweep`

use super::train::watch_signals;
use super::{open_device, trials};
use crate::report::{DIVERGED, Failure, USAGE, print, print_json, say};
use serde_json::json;
use std::path::PathBuf;
use trainer::config::RunConfig;
use trainer::search::{Space, Trial};

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
    /// The validation figure that decides which checkpoint of a trial is the best, and that trials are sorted by; stands
    /// for `--set train.best_metric=...`.
    #[arg(long)]
    metric: Option<String>,
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

/// Trains every trial, best first in the table; started again it goes on where it stopped.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let space = Space::parse(&arguments.grid, &arguments.random).map_err(|why| Failure::new(USAGE, why))?;
    if space.is_empty() || arguments.draws == 0 {
        return Err(Failure::new(USAGE, "nothing to try; hint: --grid optimizer.adamw.lr=1e-4,3e-4"));
    }
    let sets = trials::shared_sets(&arguments.sets, arguments.device.as_ref(), arguments.metric.as_ref());
    let base = RunConfig::load(&arguments.config, &sets)?.config;
    let metric = &base.train.best_metric;
    let out = arguments.out.clone().unwrap_or_else(|| trials::directory(&base, "-sweep"));
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
    trials::check(&base)?;
    let sweep = json!({
        "config": base.to_value(),
        "grid": arguments.grid,
        "random": arguments.random,
        "draws": arguments.draws,
        "seed": arguments.seed,
        "metric": metric,
    });
    trials::settle(&out, "sweep.json", &sweep)?;

    let stop = watch_signals()?;
    let device = open_device(&base.train.device)?;
    say(format!("device: {}; {} trials in {}", device.reason, configs.len(), out.display()));
    let mut results = Vec::new();
    for (index, (trial, config)) in configs.iter().enumerate() {
        let heading = format!("trial {} of {}", index + 1, configs.len());
        results.push(trials::train(config, trial, &heading, &device, &stop)?);
    }
    results.sort_by(|a, b| trials::rank(a, metric).total_cmp(&trials::rank(b, metric)));
    if arguments.json {
        print_json(&json!({ "metric": metric, "trials": results }))?;
    } else {
        print(&trials::table(&results, metric))?;
    }
    match results.first() {
        Some(best) if best.failed.is_some() => Err(Failure::new(DIVERGED, "no trial came to an end with figures")),
        _ => Ok(()),
    }
}
