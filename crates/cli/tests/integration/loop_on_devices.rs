//! The training loop itself, on every backend: figures that a GPU tells late, and the memory that was foretold.

use crate::support::{Run, devices};
use model::OpenDevice;
use std::sync::{Arc, Mutex, atomic::AtomicUsize};
use trainer::config::RunConfig;
use trainer::observer::Observers;
use trainer::{Error, Event, Observer, ObserverError, Resume, StepReport, Trainer};

/// Keeps the step reports.
struct Reports(Arc<Mutex<Vec<StepReport>>>);

impl Observer for Reports {
    fn name(&self) -> &'static str {
        "reports"
    }

    fn observe(&mut self, event: &Event) -> Result<(), ObserverError> {
        if let Event::Step(report) = event {
            self.0.lock().expect("not poisoned").push(report.clone());
        }
        Ok(())
    }
}

/// Trains twelve steps with these further settings: the reports, and how it ended.
fn train(device: &burn::tensor::Device, sets: &[&str]) -> (Vec<StepReport>, Result<u64, Error>) {
    let run = Run::new();
    let mut all = vec![
        format!("data.text.files=[{:?}]", run.path("text.txt")),
        format!("train.output_dir={:?}", run.path("run")),
        "train.max_steps=12".into(),
        "train.eval_every=0".into(),
        "train.save_every=0".into(),
    ];
    all.extend(sets.iter().map(|set| set.to_string()));
    let config = RunConfig::load(&run.path("run.toml"), &all).expect("a good config").config;
    let opened = OpenDevice { device: device.clone(), reason: "for this test".into() };
    let trainer = Trainer::new(config, &Resume::Fresh, &opened).expect("a good run");
    let reports = Arc::new(Mutex::new(Vec::new()));
    let mut observers = Observers::new();
    observers.add(Reports(Arc::clone(&reports)));
    let ended = trainer.run(&mut observers, None, &AtomicUsize::new(0)).map(|finished| finished.step);
    let reports = reports.lock().expect("not poisoned").clone();
    (reports, ended)
}

#[test]
fn figures_read_together_are_those_of_each_step() {
    for (name, device) in devices() {
        let (each, ended) = train(&device, &["train.log_every=1"]);
        assert_eq!((each.len(), ended.expect("it completes")), (12, 12), "{name}");
        let (some, _) = train(&device, &["train.log_every=5"]);
        assert_eq!(some.iter().map(|report| report.step).collect::<Vec<_>>(), [5, 10, 12], "{name}");
        let mut before = 0;
        for report in some {
            let steps = &each[before..report.step as usize];
            let mean = steps.iter().map(|report| report.loss).sum::<f64>() / steps.len() as f64;
            assert!((report.loss - mean).abs() < 1e-5, "{name}: {} instead of {mean}", report.loss);
            assert!((report.grad_norm - steps[steps.len() - 1].grad_norm).abs() < 1e-5, "{name}");
            assert_eq!(report.tokens, steps[steps.len() - 1].tokens, "{name}");
            before = report.step as usize;
        }
    }
}

#[test]
fn a_run_that_diverges_says_at_which_step_whenever_that_is_read() {
    for (name, device) in devices() {
        let failed_at = |log_every: &str| {
            let sets =
                ["optimizer.adamw.lr=1e30", "schedule.cosine.warmup_steps=0", "train.max_grad_norm=0", log_every];
            match train(&device, &sets).1 {
                Err(Error::Diverged { step, last_good, .. }) => {
                    assert_eq!(last_good, None, "{name}: nothing is saved of it");
                    step
                }
                other => panic!("{name}: {other:?}"),
            }
        };
        let step = failed_at("train.log_every=1");
        assert!((2..=4).contains(&step), "{name}: {step}");
        assert_eq!(step, failed_at("train.log_every=12"), "{name}");
    }
}

/// The peak of a run's memory as the run itself tells, and the estimate, in bytes.
#[cfg(target_os = "linux")]
fn measured_and_estimated(sets: &[&str]) -> [f64; 2] {
    let run = Run::new();
    let sets = [sets, &["train.max_steps=3", "train.eval_every=0", "schedule.cosine.warmup_steps=0"]].concat();
    let arguments: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let plan = run.train(&[&arguments[..], &["--dry-run", "--json"]].concat()).json();
    let ended = run.train(&arguments);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let note = "peak memory of the process ";
    let rest = ended.stderr.split(note).nth(1).unwrap_or_else(|| panic!("no peak in {}", ended.stderr));
    let peak: f64 = rest.split(' ').next().and_then(|number| number.parse().ok()).expect("a number");
    assert!(rest.split(' ').nth(1).is_some_and(|unit| unit.starts_with("MB")), "{rest}");
    [1e6 * peak, plan["memory"]["peak"].as_f64().expect("a number")]
}

#[cfg(target_os = "linux")]
#[test]
fn the_memory_a_run_takes_is_foretold() {
    let large = ["model.gpt.n_layer=4", "model.gpt.n_head=4", "model.gpt.d_model=256", "model.gpt.max_seq_len=256"];
    let many_ids = [&large[..], &["model.gpt.vocab_size=30000", "train.micro_batch_size=1"]].concat();
    let kept_less = [&large[..], &["train.gradient_checkpointing=true"]].concat();
    let summed = [&large[..], &["train.gradient_accumulation_steps=2"]].concat();
    for sets in [&large[..], &many_ids, &kept_less, &summed] {
        let [measured, estimated] = measured_and_estimated(sets);
        assert!((estimated / measured - 1.0).abs() < 0.15, "{estimated} for {measured} with {sets:?}");
    }
}
