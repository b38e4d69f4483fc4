//! `metrics.jsonl`: the run as one JSON object a line, for whoever wants to plot or compare.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{at_path, replace_file};
use crate::event::{EvalReport, Event, Observer, ObserverError, Outcome, StepReport, null_is_nan, seconds};

/// The file's name in a run's directory.
pub const METRICS_FILE: &str = "metrics.jsonl";

/// One line of `metrics.jsonl`. Numbers that are not finite stand there as `null` and are read as NaN.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Record {
    /// A process began to train.
    Started {
        /// Optimizer steps already done.
        step: u64,
        /// The step the run ends at.
        total_steps: u64,
        /// Tokens that one optimizer step trains on.
        tokens_per_step: u64,
    },
    /// Training figures.
    Step(StepReport),
    /// Validation figures.
    Eval(EvalReport),
    /// Generated text.
    Sample {
        /// Optimizer steps done.
        step: u64,
        /// The text, prompt included.
        text: String,
    },
    /// A checkpoint.
    Saved {
        /// Optimizer steps done.
        step: u64,
        /// The checkpoint's directory.
        path: String,
        /// Whether it is the best so far.
        best: bool,
    },
    /// A remark for the person.
    Note {
        /// Optimizer steps done, as far as the events before it told.
        step: u64,
        /// The remark.
        text: String,
    },
    /// The run ended.
    Finished {
        /// Optimizer steps done.
        step: u64,
        /// `completed`, `stopped` or `diverged`.
        outcome: String,
        /// The signal that stopped it.
        signal: Option<i32>,
        /// The best checkpoint.
        best: Option<Best>,
        /// Seconds since the process began to train.
        #[serde(rename = "elapsed_seconds", with = "seconds")]
        elapsed: Duration,
    },
}

/// The best checkpoint of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Optimizer steps done.
    pub step: u64,
    /// What it is the best by, as `loss`.
    pub metric: String,
    /// That figure on the validation split.
    #[serde(deserialize_with = "null_is_nan")]
    pub value: f64,
    /// The checkpoint's directory.
    pub path: String,
}

impl Record {
    fn of(event: &Event, last_step: u64) -> Self {
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        match event {
            Event::Started { start_step, total_steps, tokens_per_step, .. } => {
                Self::Started { step: *start_step, total_steps: *total_steps, tokens_per_step: *tokens_per_step }
            }
            Event::Step(report) => Self::Step(report.clone()),
            Event::Evaluated(report) => Self::Eval(report.clone()),
            Event::Sample { step, text } => Self::Sample { step: *step, text: text.clone() },
            Event::Saved { step, path, best } => Self::Saved { step: *step, path: text(path), best: *best },
            Event::Note(note) => Self::Note { step: last_step, text: note.clone() },
            Event::Finished { step, outcome, best, best_metric, elapsed, .. } => {
                let (outcome, signal) = match outcome {
                    Outcome::Completed => ("completed", None),
                    Outcome::Stopped(signal) => ("stopped", Some(*signal)),
                    Outcome::Diverged => ("diverged", None),
                };
                let best = best.as_ref().map(|(step, value, path)| Best {
                    step: *step,
                    metric: best_metric.clone(),
                    value: *value,
                    path: text(path),
                });
                Self::Finished { step: *step, outcome: outcome.to_owned(), signal, best, elapsed: *elapsed }
            }
        }
    }

    /// Optimizer steps done when it was written.
    pub fn step(&self) -> u64 {
        match self {
            Self::Step(report) => report.step,
            Self::Eval(report) => report.step,
            Self::Started { step, .. }
            | Self::Sample { step, .. }
            | Self::Saved { step, .. }
            | Self::Note { step, .. }
            | Self::Finished { step, .. } => *step,
        }
    }
}

/// Reads a `metrics.jsonl`. A line that is torn, or of a kind unknown here, is passed over.
///
/// # Errors
/// When the file cannot be read.
pub fn read(path: &Path) -> io::Result<Vec<Record>> {
    let bytes = fs::read(path).map_err(at_path(path))?;
    Ok(bytes.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
}

/// Writes `metrics.jsonl` into the run's directory, a line an event, each handed to the system at once.
///
/// A new run starts a new file. A resumed run first takes out what the killed process did after the checkpoint it
/// resumes from, so that the file reads as one run.
#[derive(Debug, Default)]
pub struct JsonlMetrics {
    file: Option<(File, PathBuf)>,
    last_step: u64,
}

impl JsonlMetrics {
    /// Opens no file before [`Event::Started`] says where.
    pub fn new() -> Self {
        Self::default()
    }

    fn open(&mut self, output_dir: &Path, start_step: u64) -> io::Result<()> {
        let path = output_dir.join(METRICS_FILE);
        fs::create_dir_all(output_dir).map_err(at_path(output_dir))?;
        let kept = match fs::read(&path) {
            Ok(bytes) if start_step > 0 => kept_on_resume(&bytes, start_step),
            Ok(_) => Vec::new(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(at_path(&path)(error)),
        };
        replace_file(&path, &kept).map_err(at_path(&path))?;
        let file = OpenOptions::new().append(true).open(&path).map_err(at_path(&path))?;
        self.file = Some((file, path));
        Ok(())
    }
}

/// The lines that a run resumed at `start_step` keeps, as they stand. What names no step (a torn line) goes.
fn kept_on_resume(bytes: &[u8], start_step: u64) -> Vec<u8> {
    let keep = |line: &&[u8]| {
        let Ok(Value::Object(object)) = serde_json::from_slice(line) else {
            return false;
        };
        let Some(step) = object.get("step").and_then(Value::as_u64) else {
            return false;
        };
        match object.get("type").and_then(Value::as_str) {
            // The run goes on after all.
            Some("finished") => false,
            // Written again by this resume.
            Some("started") => step < start_step,
            _ => step <= start_step,
        }
    };
    let mut kept = Vec::with_capacity(bytes.len());
    for line in bytes.split(|&byte| byte == b'\n').filter(keep) {
        kept.extend_from_slice(line);
        kept.push(b'\n');
    }
    kept
}

impl Observer for JsonlMetrics {
    fn name(&self) -> &'static str {
        METRICS_FILE
    }

    fn observe(&mut self, event: &Event) -> Result<(), ObserverError> {
        if let Event::Started { start_step, output_dir, .. } = event {
            self.open(output_dir, *start_step)?;
        }
        let Some((file, path)) = &mut self.file else {
            return Ok(());
        };
        let record = Record::of(event, self.last_step);
        self.last_step = record.step();
        let mut line = serde_json::to_vec(&record)?;
        line.push(b'\n');
        // One write a line, with no buffer in between: a killed process loses nothing it has reported.
        Ok(file.write_all(&line).map_err(at_path(path))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(dir: &Path, start_step: u64) -> Event {
        Event::Started {
            start_step,
            total_steps: 100,
            tokens_per_step: 768,
            output_dir: dir.to_owned(),
            task: crate::metrics::Task::Language,
            best_metric: "loss".into(),
        }
    }

    fn step(step: u64, loss: f64) -> Event {
        Event::Step(StepReport {
            step,
            epoch: 0.5,
            loss,
            terms: Default::default(),
            learning_rate: 1e-3,
            grad_norm: 0.5,
            tokens: step * 768,
            tokens_per_second: 15_000.0,
            elapsed: Duration::from_millis(1500),
        })
    }

    fn evaluated(step: u64, loss: f64) -> Event {
        Event::Evaluated(EvalReport {
            step,
            loss,
            perplexity: Some(loss.exp()),
            accuracy: 0.25,
            tokens: 1000,
            metrics: [("f1".to_owned(), 0.5)].into(),
            best: true,
            elapsed: Duration::from_secs(2),
        })
    }

    fn finished(step: u64, outcome: Outcome) -> Event {
        let best = Some((step, 2.5, PathBuf::from("runs/x/step-000020")));
        Event::Finished {
            step,
            outcome,
            best,
            best_metric: "loss".into(),
            purpose: crate::event::Purpose::Generate,
            elapsed: Duration::from_secs(3),
        }
    }

    fn observe_all(events: &[Event]) {
        let mut metrics = JsonlMetrics::new();
        for event in events {
            metrics.observe(event).unwrap();
        }
    }

    fn text(dir: &Path) -> String {
        fs::read_to_string(dir.join(METRICS_FILE)).unwrap()
    }

    #[test]
    fn every_event_is_a_json_line_with_its_type_and_step() {
        let dir = tempfile::tempdir().unwrap();
        observe_all(&[
            started(dir.path(), 0),
            step(10, 3.0),
            evaluated(20, 2.5),
            Event::Sample { step: 20, text: "Once \"upon\"\na time".into() },
            Event::Saved { step: 20, path: "runs/x/step-000020".into(), best: true },
            Event::Note("a remark".into()),
            finished(20, Outcome::Stopped(15)),
        ]);
        let text = text(dir.path());
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let types: Vec<_> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
        assert_eq!(types, ["started", "step", "eval", "sample", "saved", "note", "finished"]);
        let steps: Vec<_> = lines.iter().map(|line| line["step"].as_u64().unwrap()).collect();
        assert_eq!(steps, [0, 10, 20, 20, 20, 20, 20]);
        assert_eq!(lines[1]["elapsed_seconds"], 1.5);
        assert_eq!(lines[2]["metrics"]["f1"], 0.5);
        assert_eq!(lines[6]["signal"], 15);
        assert_eq!((&lines[6]["best"]["metric"], &lines[6]["best"]["value"]), (&"loss".into(), &2.5.into()));
    }

    #[test]
    fn what_was_written_is_read_back_with_null_as_nan() {
        let dir = tempfile::tempdir().unwrap();
        observe_all(&[started(dir.path(), 0), step(10, 3.25), step(20, f64::NAN), step(30, f64::INFINITY)]);
        assert!(text(dir.path()).contains("\"step\":20,\"epoch\":0.5,\"loss\":null"));
        let records = read(&dir.path().join(METRICS_FILE)).unwrap();
        let Event::Step(report) = step(10, 3.25) else { unreachable!() };
        assert_eq!(records[1], Record::Step(report));
        for record in &records[2..] {
            assert!(matches!(record, Record::Step(report) if report.loss.is_nan()));
        }
        assert_eq!(records.len(), 4);
    }

    #[test]
    fn an_evaluation_of_a_language_model_has_no_metrics_beside_its_own() {
        let line = r#"{"type":"eval","step":5,"loss":2.0,"perplexity":7.4,"accuracy":0.2,"tokens":9,"best":true,"elapsed_seconds":1.0}"#;
        let record: Record = serde_json::from_str(line).unwrap();
        assert!(matches!(&record, Record::Eval(report) if report.metrics.is_empty()));
        assert_eq!(serde_json::to_string(&record).unwrap(), line);
    }

    #[test]
    fn a_line_is_on_disk_as_soon_as_the_event_was_observed() {
        let dir = tempfile::tempdir().unwrap();
        let mut metrics = JsonlMetrics::new();
        metrics.observe(&started(dir.path(), 0)).unwrap();
        metrics.observe(&step(10, 3.0)).unwrap();
        assert_eq!(text(dir.path()).lines().count(), 2);
    }

    #[test]
    fn a_resumed_file_reads_like_that_of_an_uninterrupted_run() {
        let dir = tempfile::tempdir().unwrap();
        observe_all(&[started(dir.path(), 0), step(10, 3.0), evaluated(20, 2.5), step(30, 2.0), evaluated(40, 1.9)]);
        observe_all(&[started(dir.path(), 20), step(30, 2.0), finished(30, Outcome::Stopped(2))]);
        observe_all(&[started(dir.path(), 20), step(30, 2.0), evaluated(40, 1.9), finished(40, Outcome::Completed)]);
        let records = read(&dir.path().join(METRICS_FILE)).unwrap();
        let steps: Vec<_> = records.iter().map(Record::step).collect();
        assert_eq!(steps, [0, 10, 20, 20, 30, 40, 40]);
        assert!(matches!(records[3], Record::Started { step: 20, .. }));
    }

    #[test]
    fn a_line_torn_by_a_kill_is_repaired_on_resume() {
        let dir = tempfile::tempdir().unwrap();
        observe_all(&[started(dir.path(), 0), step(10, 3.0), step(20, 2.5)]);
        let path = dir.path().join(METRICS_FILE);
        let whole = fs::read(&path).unwrap();
        for cut in 1..40 {
            fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            observe_all(&[started(dir.path(), 20), step(30, 2.0)]);
            let text = text(dir.path());
            assert!(text.ends_with('\n'));
            let steps: Vec<_> = text
                .lines()
                .map(|line| serde_json::from_str::<Record>(line).expect("every line is whole").step())
                .collect();
            // Only the newline was torn off in the first case, so that line still tells its step.
            assert_eq!(steps, if cut == 1 { vec![0, 10, 20, 20, 30] } else { vec![0, 10, 20, 30] });
        }
    }

    #[test]
    fn a_new_run_starts_a_new_file() {
        let dir = tempfile::tempdir().unwrap();
        observe_all(&[started(dir.path(), 0), step(10, 3.0)]);
        observe_all(&[started(dir.path(), 0)]);
        assert_eq!(text(dir.path()).lines().count(), 1);
    }

    #[test]
    fn an_output_directory_that_cannot_be_written_is_an_error_with_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let blocked = dir.path().join("file");
        fs::write(&blocked, "").unwrap();
        let error = JsonlMetrics::new().observe(&started(&blocked, 0)).unwrap_err();
        assert!(error.to_string().contains("file"), "{error}");
    }
}
