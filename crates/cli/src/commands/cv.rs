//! `firebox cv`

use super::ensemble::Ensemble;
use super::eval::run_examples;
use super::train::watch_signals;
use super::trials::{self, TrialResult};
use super::{eval::Part, open_device};
use crate::report::{DIVERGED, Failure, USAGE, print, print_json, say};
use data::SourceConfig;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use trainer::config::RunConfig;
use trainer::metrics::Spread;

/// Arguments of `firebox cv`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The config file of a classifier.
    config: PathBuf,
    /// Divide the data that the test split leaves into so many parts, each with its share of every label; train one model
    /// for each part, on the others, and validate it with that part.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(2..=1000))]
    folds: u64,
    /// In place of folds: train so many models, each with a seed of its own on rows drawn from the training part with
    /// replacement, and keep them as an ensemble.
    #[arg(long, value_name = "N", conflicts_with = "folds", value_parser = clap::value_parser!(u64).range(2..=1000))]
    bag: Option<u64>,
    /// The validation figure that decides which checkpoint of each model is the best; stands for `--set
    /// train.best_metric=...`.
    #[arg(long)]
    metric: Option<String>,
    /// Set a key for all runs; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Directory for the runs. Default: the config's `train.output_dir` with `-cv` or `-bag` behind it.
    #[arg(long)]
    out: Option<PathBuf>,
    /// auto, wgpu, wgpu:N, ndarray or flex; stands for `--set train.device=...`.
    #[arg(long)]
    device: Option<String>,
    /// Print one JSON value.
    #[arg(long)]
    json: bool,
}

/// Trains a model for each fold, or for each bag; started again it goes on where it stopped.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let sets = trials::shared_sets(&arguments.sets, arguments.device.as_ref(), arguments.metric.as_ref());
    let base = RunConfig::load(&arguments.config, &sets)?.config;
    if !matches!(base.data, SourceConfig::Labelled(_)) {
        return Err(Failure::new(USAGE, "folds are of labelled texts; hint: a config with [data.labelled]"));
    }
    trials::check(&base)?;
    let (suffix, name, count) = match arguments.bag {
        Some(bags) => ("-bag", "bag", bags),
        None => ("-cv", "fold", arguments.folds),
    };
    let out = arguments.out.clone().unwrap_or_else(|| trials::directory(&base, suffix));
    let metric = &base.train.best_metric;
    // Every run's config is read before the first one trains.
    let runs: Vec<(Vec<(String, String)>, RunConfig)> = (0..count)
        .map(|index| {
            let keys: Vec<(&str, u64)> = match arguments.bag {
                Some(_) => vec![("split.bootstrap", index), ("train.seed", base.train.seed + index)],
                None => vec![("split.folds", count), ("split.fold", index)],
            };
            let set: Vec<(String, String)> =
                keys.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
            let mut sets = sets.clone();
            sets.extend(set.iter().map(|(key, value)| format!("{key}={value}")));
            let mut config = RunConfig::load(&arguments.config, &sets)?.config;
            config.train.output_dir = out.join(format!("{name}-{}", index + 1));
            Ok((set, config))
        })
        .collect::<Result<_, Failure>>()?;
    let what = json!({ "config": base.to_value(), name: count, "metric": metric });
    trials::settle(&out, "cv.json", &what)?;

    let stop = watch_signals()?;
    let device = open_device(&base.train.device)?;
    say(format!("device: {}; {count} runs in {}", device.reason, out.display()));
    let mut results = Vec::new();
    for (index, (set, config)) in runs.iter().enumerate() {
        let heading = format!("{name} {} of {count}", index + 1);
        results.push(trials::train(config, set, &heading, &device, &stop)?);
    }
    if let Some(failed) = results.iter().find_map(|result| result.failed.as_ref()) {
        return Err(Failure::new(DIVERGED, format!("a run has no figures: {failed}")));
    }
    let spreads = spreads(&results);
    let ensemble = match arguments.bag {
        Some(_) => {
            let dirs: Vec<PathBuf> = results.iter().map(|result| result.dir.clone()).collect();
            let models = Ensemble::open(&dirs[0], &dirs[1..], false, &device)?;
            let examples = run_examples(&runs[0].1, Part::Validation, None)?;
            let predictions = models.predictions(&examples, true)?;
            let report = predictions.report(models.labels(), models.threshold() as f32);
            Some((dirs, report.map_err(|error| Failure::new(DIVERGED, error))?))
        }
        None => None,
    };
    if arguments.json {
        let ensemble = ensemble.map(|(dirs, report)| json!({ "models": dirs, "report": report }));
        return print_json(&json!({ "metric": metric, "runs": results, "spread": spreads, "ensemble": ensemble }));
    }
    let mut text = trials::table(&results, metric) + "\n";
    for (name, Spread { mean, deviation, .. }) in &spreads {
        let deviation = deviation.map_or(String::new(), |deviation| format!(" +- {deviation:.4}"));
        text += &format!("{name:<20} {mean:.4}{deviation}\n");
    }
    if let Some((dirs, report)) = &ensemble {
        let [first, others @ ..] = &dirs[..] else { return print(&text) };
        let others: Vec<String> = others.iter().map(|dir| dir.display().to_string()).collect();
        text += &format!("\nall of them together, on the validation part:\n{}", report.table(10));
        text += &format!("\nfirebox predict {} --ensemble {} --text ...\n", first.display(), others.join(" "));
    }
    print(&text)
}

/// Mean and deviation of every figure that all runs have.
fn spreads(results: &[TrialResult]) -> BTreeMap<String, Spread> {
    let names = results.first().map(|result| result.metrics.keys()).into_iter().flatten();
    let of_name = |name: &String| {
        let values: Option<Vec<f64>> = results.iter().map(|result| result.metrics.get(name).copied()).collect();
        values.and_then(|values| Spread::of(&values)).map(|spread| (name.clone(), spread))
    };
    names.filter_map(of_name).collect()
}
