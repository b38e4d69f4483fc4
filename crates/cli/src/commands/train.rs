//! `firebox train`

use super::{open_device, prompt_ids};
use crate::report::{Failure, print, print_json, say};
use data::Tokenizer;
use data::chat::{ChatTemplate, Message};
use inference::{Limits, Row, SamplingSettings, generate};
use model::{DeviceChoice, Gpt};
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Instant;
use trainer::config::RunConfig;
use trainer::observer::{Curves, JsonlMetrics, Observers, Progress};
use trainer::{Outcome, Plan, Resume, Sampler, Trainer};

/// Arguments of `firebox train`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The config file.
    config: PathBuf,
    /// Set a key, as `optimizer.adamw.lr=1e-4`; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// auto, wgpu, wgpu:N, ndarray or flex; stands for `--set train.device=...`.
    #[arg(long)]
    device: Option<String>,
    /// Go on from the run's newest checkpoint that is whole, or from a named one.
    #[arg(long, value_name = "auto|DIR", num_args = 0..=1, default_missing_value = "auto")]
    resume: Option<String>,
    /// Print what the run would do, and stop.
    #[arg(long)]
    dry_run: bool,
    /// With --dry-run, print one JSON value.
    #[arg(long, requires = "dry_run")]
    json: bool,
}

/// Trains, or with `--dry-run` says what training would do.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let start = Instant::now();
    let mut sets = arguments.sets;
    sets.extend(arguments.device.map(|device| format!("train.device={device}")));
    let config = RunConfig::load(&arguments.config, &sets)?.config;
    if arguments.dry_run {
        // Looking for a GPU reads in its driver, whose memory counts.
        if matches!(config.train.device.parse(), Ok(DeviceChoice::Auto | DeviceChoice::Wgpu(_))) {
            model::device::adapters();
        }
        let plan = trainer::plan(&config)?;
        if arguments.json {
            return print_json(&json!(plan));
        }
        let notes: String = plan.notes.iter().map(|note| format!("note: {note}\n")).collect();
        return print(&(notes + &describe(&plan)));
    }
    let progress = Progress::stderr();
    let log = progress.log_writer();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| "warn,cubecl=error,wgpu=error,naga=error".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || log.clone())
        .without_time()
        .with_target(false)
        // It says on stderr that nothing can be written there, and panics.
        .log_internal_errors(false)
        .init();

    let resume = match arguments.resume.as_deref() {
        None => Resume::Fresh,
        Some("auto") => Resume::Auto,
        Some(dir) => Resume::From(dir.into()),
    };
    let stop = watch_signals()?;
    let device = open_device(&config.train.device)?;
    say(format!("device: {}", device.reason));
    let mut sampler = (config.train.sample_tokens > 0).then(|| Samples {
        prompt: config.train.sample_prompt.clone().unwrap_or_default(),
        tokens: config.train.sample_tokens,
    });
    let trainer = Trainer::new(config, &resume, &device)?.started_at(start);
    say(describe(trainer.plan()).trim_end());

    let mut observers = Observers::new();
    observers.add(progress);
    observers.add(JsonlMetrics::new());
    observers.add(Curves::new());
    let sampler = sampler.as_mut().map(|sampler| sampler as &mut dyn Sampler);
    match trainer.run(&mut observers, sampler, &stop)?.outcome {
        Outcome::Stopped(signal) => Err(Failure::signal(signal as usize)),
        Outcome::Completed | Outcome::Diverged => Ok(()),
    }
}

/// The first SIGINT or SIGTERM is stored, for the loop to end its step and save; a second ends the process at once.
pub fn watch_signals() -> Result<Arc<AtomicUsize>, Failure> {
    let stop = Arc::new(AtomicUsize::new(0));
    let again = Arc::new(AtomicBool::new(false));
    let register = |signal: i32| -> io::Result<()> {
        // In this order: the shutdown must not see the flag that the same signal sets.
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&again))?;
        flag::register(signal, Arc::clone(&again))?;
        flag::register_usize(signal, Arc::clone(&stop), signal as usize)?;
        Ok(())
    };
    for signal in [SIGINT, SIGTERM] {
        register(signal).map_err(|error| Failure::new(1, format!("cannot watch for signals: {error}")))?;
    }
    Ok(stop)
}

/// Text from the model as it stands, at each evaluation.
struct Samples {
    prompt: String,
    tokens: usize,
}

impl Sampler for Samples {
    fn sample(&mut self, model: &Gpt, tokenizer: &Tokenizer, _step: u64) -> Result<String, String> {
        let failed = |error: data::Error| error.to_string();
        let (prompt, stop) = match ChatTemplate::of_tokenizer(tokenizer).map_err(failed)? {
            // A chat model is asked something, and answers.
            Some(template) => {
                let content = if self.prompt.is_empty() { "Hello!" } else { &self.prompt };
                let asked = Message { role: "user".into(), content: content.into(), weight: None };
                let ids = template.prompt(&[asked], tokenizer).map_err(failed)?;
                (ids, template.stop_tokens(tokenizer))
            }
            None => {
                (prompt_ids(tokenizer, &self.prompt).map_err(failed)?, tokenizer.end_of_text().into_iter().collect())
            }
        };
        let limits = Limits { max_new_tokens: self.tokens, vocabulary: tokenizer.vocab_size(), stop };
        // The same seed each time: what changes between samples is the model.
        let sampler = inference::Sampler::new(SamplingSettings::default()).map_err(|error| error.to_string())?;
        let device = model.device();
        let row = Row { prompt: prompt.clone(), sampler };
        let new = generate(model, &device, &mut [row], limits, |_, _| true).concat();
        let ids: Vec<u32> = prompt.into_iter().chain(new).collect();
        tokenizer.decode_skipping_special(&ids).map_err(|error| error.to_string())
    }
}

/// A plan as a person reads it.
fn describe(plan: &Plan) -> String {
    let mut text = format!("model: {} parameters\n", grouped(plan.total_parameters() as u64));
    for (part, count) in &plan.parameters {
        text.push_str(&format!("  {part:<28} {:>13}\n", grouped(*count as u64)));
    }
    let (trained, total) = (plan.trained_parameters, plan.total_parameters());
    if trained < total {
        let share = 100.0 * trained as f64 / total as f64;
        text.push_str(&format!(
            "trained: {} of {} parameters ({share:.2}%)\n",
            grouped(trained as u64),
            grouped(total as u64)
        ));
    }
    let [train, validation, test] = plan.tokens;
    text.push_str(&format!(
        "data: {} training tokens, {} validation, {} test; {} ids\n",
        grouped(train as u64),
        grouped(validation as u64),
        grouped(test as u64),
        plan.vocabulary
    ));
    if plan.padding > 0.0 {
        text.push_str(&format!("padding: {:.1}% of the training batches\n", 100.0 * plan.padding));
    }
    text.push_str(&format!(
        "run: {} steps of {} rows, {} tokens a step, {:.1} steps an epoch\n",
        grouped(plan.total_steps),
        plan.rows_per_step,
        grouped(plan.tokens_per_step),
        plan.steps_per_epoch
    ));
    let memory = &plan.memory;
    text.push_str(&format!("memory: about {} at most\n", checkpoint::human_bytes(memory.peak)));
    for (part, bytes) in [
        ("weights", memory.weights),
        ("optimizer", memory.optimizer),
        ("gradients", memory.gradients),
        ("activations", memory.activations),
        ("buffers", memory.buffers),
        ("process and data", memory.process),
    ] {
        text.push_str(&format!("  {part:<28} {:>13}\n", checkpoint::human_bytes(bytes)));
    }
    text
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn numbers_are_grouped_by_three() {
        assert_eq!([0, 999, 1000, 1234567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
