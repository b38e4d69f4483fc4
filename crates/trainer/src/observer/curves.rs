//! `curves.svg` and `curves.png`: the run's curves, redrawn as it trains. Beside them, a classifier's confusion matrix.

mod confusion;
mod figure;
mod history;
mod pen;
mod picture;
mod scale;

use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use confusion::save_confusion;
use figure::{Figure, best_label};
use history::History;

use super::jsonl::{METRICS_FILE, Record, read};
use crate::event::{Event, Observer, ObserverError, Outcome};
use crate::metrics::Task;

/// Least time between two redraws, evaluations and the end excepted.
const REDRAW_EVERY: Duration = Duration::from_secs(10);

/// A redraw waits until the run has lasted this many times what drawing took, so that it costs half a percent at most.
const COST_RATIO: u32 = 200;

/// The same at an evaluation, which is seldom so soon after the one before.
const COST_RATIO_AT_EVALUATION: u32 = 25;

/// Draws the curves into the run's directory: at every evaluation, at the end, and now and then in between.
///
/// On resume it takes up the curves from the directory's `metrics.jsonl`, if there is one.
#[derive(Debug, Default)]
pub struct Curves {
    run: Option<Run>,
    history: History,
    last_draw: Option<(Instant, Duration)>,
}

#[derive(Debug)]
struct Run {
    dir: PathBuf,
    title: String,
    task: Task,
    best_metric: String,
    total_steps: u64,
    step: u64,
    ended: Option<Outcome>,
}

impl Curves {
    /// Draws nothing before [`Event::Started`] says where.
    pub fn new() -> Self {
        Self::default()
    }

    fn start(&mut self, run: Run) -> std::io::Result<()> {
        self.history = History::default();
        self.last_draw = Some((Instant::now(), Duration::ZERO));
        let (start_step, metrics) = (run.step, run.dir.join(METRICS_FILE));
        self.run = Some(run);
        if start_step == 0 || !metrics.exists() {
            return Ok(());
        }
        // What lies after the checkpoint is not part of the run any more, whether or not the file has been cut yet.
        for record in read(&metrics)?.iter().filter(|record| record.step() <= start_step) {
            match record {
                Record::Step(report) => self.history.add_step(report),
                Record::Eval(report) => self.history.add_evaluation(report),
                _ => {}
            }
        }
        Ok(())
    }

    fn is_due(&self, at_evaluation: bool) -> bool {
        let Some((at, cost)) = self.last_draw else {
            return true;
        };
        let wait = if at_evaluation {
            (cost * COST_RATIO_AT_EVALUATION).min(REDRAW_EVERY)
        } else {
            (cost * COST_RATIO).max(REDRAW_EVERY)
        };
        at.elapsed() >= wait
    }

    fn figure(&self) -> Option<Figure<'_>> {
        let (run, history) = (self.run.as_ref()?, &self.history);
        let (title, subtitle) = (run.title.clone(), subtitle(run, history));
        Some(Figure { title, subtitle, history, task: run.task, best_metric: &run.best_metric })
    }

    fn draw(&mut self) -> Result<(), ObserverError> {
        let (Some(run), Some(figure)) = (&self.run, self.figure()) else {
            return Ok(());
        };
        let begin = Instant::now();
        picture::save(&figure, &run.dir, "curves")?;
        self.last_draw = Some((Instant::now(), begin.elapsed()));
        Ok(())
    }
}

/// `step 1200 of 2000 · validation: best loss 1.8741 at step 1000`
fn subtitle(run: &Run, history: &History) -> String {
    let step = run.step;
    let mut text = match run.ended {
        None => format!("step {step} of {}", run.total_steps),
        Some(Outcome::Completed) => format!("{step} step{}", if step == 1 { "" } else { "s" }),
        Some(Outcome::Stopped(_)) => format!("stopped at step {step} of {}", run.total_steps),
        Some(Outcome::Diverged) => format!("diverged at step {step} of {}", run.total_steps),
    };
    if let Some(best) = best_label(history, &run.best_metric) {
        text += &format!("  ·  validation: {best}");
    }
    text
}

impl Observer for Curves {
    fn name(&self) -> &'static str {
        "the curves picture"
    }

    fn observe(&mut self, event: &Event) -> Result<(), ObserverError> {
        if let Event::Started { start_step, total_steps, output_dir, task, best_metric, .. } = event {
            let name = output_dir.file_name();
            self.start(Run {
                dir: output_dir.clone(),
                title: name.map_or_else(|| "training".into(), |name| name.to_string_lossy().into_owned()),
                task: *task,
                best_metric: best_metric.clone(),
                total_steps: *total_steps,
                step: *start_step,
                ended: None,
            })?;
        }
        let Some(run) = &mut self.run else {
            return Ok(());
        };
        match event {
            Event::Step(report) => {
                run.step = report.step;
                self.history.add_step(report);
                if self.is_due(false) {
                    self.draw()?;
                }
            }
            Event::Evaluated(report) => {
                run.step = report.step;
                self.history.add_evaluation(report);
                if self.is_due(true) {
                    self.draw()?;
                }
            }
            Event::Finished { step, outcome, .. } => {
                run.step = *step;
                run.ended = Some(*outcome);
                self.draw()?;
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::event::{EvalReport, StepReport};
    use crate::observer::JsonlMetrics;

    fn started_as(dir: &Path, start_step: u64, task: Task, best_metric: &str) -> Event {
        Event::Started {
            start_step,
            total_steps: 100,
            tokens_per_step: 768,
            output_dir: dir.to_owned(),
            task,
            best_metric: best_metric.to_owned(),
        }
    }

    fn started(dir: &Path, start_step: u64) -> Event {
        started_as(dir, start_step, Task::Language, "loss")
    }

    fn report(step: u64, loss: f64) -> StepReport {
        StepReport {
            step,
            epoch: 0.5,
            loss,
            terms: Default::default(),
            learning_rate: 1e-3,
            grad_norm: 0.5,
            tokens: step * 768,
            tokens_per_second: 15_000.0,
            elapsed: Duration::from_secs(1),
        }
    }

    fn evaluation(step: u64, loss: f64) -> EvalReport {
        let (perplexity, elapsed) = (Some(loss.exp()), Duration::from_secs(1));
        EvalReport {
            step,
            loss,
            perplexity,
            accuracy: 0.25,
            tokens: 1000,
            metrics: BTreeMap::new(),
            best: true,
            elapsed,
        }
    }

    fn step(at: u64, loss: f64) -> Event {
        Event::Step(report(at, loss))
    }

    fn finished(outcome: Outcome) -> Event {
        let best_metric = "loss".into();
        Event::Finished {
            step: 100,
            outcome,
            best: None,
            best_metric,
            purpose: crate::event::Purpose::Generate,
            elapsed: Duration::from_secs(9),
        }
    }

    /// The SVG of a language model's run of these events.
    fn picture(events: &[Event]) -> String {
        picture_of(Task::Language, "loss", events)
    }

    fn picture_of(task: Task, best_metric: &str, events: &[Event]) -> String {
        let mut curves = Curves::new();
        curves.observe(&started_as(Path::new("runs/gpt-tiny"), 0, task, best_metric)).unwrap();
        for event in events {
            match event {
                Event::Step(report) => curves.history.add_step(report),
                Event::Evaluated(report) => curves.history.add_evaluation(report),
                _ => unreachable!(),
            }
        }
        let svg = picture::svg(&curves.figure().unwrap()).unwrap();
        assert!(svg.starts_with("<svg width=\"1200\" height=\"800\"") && svg.trim_end().ends_with("</svg>"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        svg
    }

    #[test]
    fn a_run_of_any_kind_can_be_drawn() {
        let nothing = picture(&[]);
        assert!(nothing.contains("no data yet"));
        let no_evaluation = picture(&[step(10, 3.0), step(20, 2.0)]);
        assert!(no_evaluation.contains("no evaluation yet") && !no_evaluation.contains("best"));
        picture(&[step(1, 3.0)]);
        picture(&[step(10, 2.0), step(20, 2.0), step(30, 2.0), Event::Evaluated(evaluation(30, 2.0))]);
        picture(&[step(10, 0.0), Event::Evaluated(evaluation(10, 0.0))]);
        let with_nan =
            picture(&[step(1, f64::NAN), step(2, f64::INFINITY), step(3, 1e30), step(3, 1e300), step(4, 2.0)]);
        assert!(with_nan.contains("polyline"));
        picture(&[Event::Evaluated(EvalReport { accuracy: f64::NAN, ..evaluation(10, f64::NAN) })]);
        picture(&[Event::Evaluated(EvalReport { accuracy: f64::NAN, ..evaluation(10, 2.0) })]);
    }

    #[test]
    fn a_classifiers_metrics_take_the_place_of_token_accuracy() {
        let metrics: BTreeMap<String, f64> =
            [("accuracy", 0.75), ("f1", 0.5), ("recall", 0.25)].map(|(name, value)| (name.to_owned(), value)).into();
        let evaluated = Event::Evaluated(EvalReport { metrics, ..evaluation(10, 2.0) });
        let svg = picture(&[Event::Evaluated(evaluation(5, 3.0)), evaluated]);
        assert!(svg.contains("Validation metrics") && !svg.contains("token accuracy"));
        assert!(svg.contains("\naccuracy\n") && svg.contains("\nF1\n") && !svg.contains("recall"));
        assert!(picture(&[Event::Evaluated(evaluation(5, 3.0))]).contains("Validation token accuracy"));
    }

    #[test]
    fn a_directory_name_with_xml_signs_still_gives_a_valid_svg() {
        let mut curves = Curves::new();
        curves.observe(&started(Path::new("runs/a<b>&c"), 0)).unwrap();
        let svg = picture::svg(&curves.figure().unwrap()).unwrap();
        assert!(svg.contains("a&lt;b&gt;&amp;c") && !svg.contains("a<b"), "{svg}");
    }

    #[test]
    fn the_best_validation_point_is_marked_with_its_value() {
        let losses = [(10, 3.0), (20, 1.8741), (30, 2.2)]
            .map(|(at, loss)| Event::Evaluated(EvalReport { best: at < 30, ..evaluation(at, loss) }));
        let svg = picture(&losses);
        assert!(svg.contains("best loss 1.8741 at step 20"), "{svg}");
    }

    #[test]
    fn the_checkpoint_that_is_the_best_by_another_figure_than_the_loss_is_marked() {
        let at = |step, loss, mcc, best| {
            let metrics = [("accuracy".to_owned(), 0.5), ("mcc".to_owned(), mcc)].into();
            Event::Evaluated(EvalReport { metrics, best, ..evaluation(step, loss) })
        };
        let svg = picture_of(Task::SingleLabel, "mcc", &[at(10, 1.0, 0.2, true), at(20, 2.0, 0.7, true)]);
        assert!(svg.contains("best mcc 0.7000 at step 20") && !svg.contains("at step 10"), "{svg}");
        assert!(svg.contains("Loss, nats per example") && svg.contains("\nmcc\n"), "{svg}");
        let at = |step, rmse| {
            let metrics = [("rmse".to_owned(), rmse), ("r2".to_owned(), -30.0)].into();
            Event::Evaluated(EvalReport { metrics, ..evaluation(step, 9.0) })
        };
        let svg = picture_of(Task::Regression, "rmse", &[at(10, 9.5), at(20, 4.5)]);
        assert!(svg.contains("Loss, mean squared error") && svg.contains("Validation rmse"), "{svg}");
        assert!(picture_of(Task::Regression, "r2", &[at(10, 9.5)]).contains("\nr2\n"));
    }

    #[test]
    fn both_pictures_are_written_whole_at_an_evaluation_and_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let svg = || fs::read_to_string(dir.path().join("curves.svg")).unwrap();
        let mut curves = Curves::new();
        curves.observe(&started(dir.path(), 0)).unwrap();
        curves.observe(&step(10, 3.0)).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "too early to draw");
        curves.observe(&Event::Evaluated(evaluation(10, 3.0))).unwrap();
        assert!(svg().contains("step 10 of 100"));
        curves.observe(&step(20, 3.0)).unwrap();
        assert!(svg().contains("step 10 of 100"), "too early to draw again");
        curves.observe(&finished(Outcome::Diverged)).unwrap();
        assert!(svg().contains("diverged at step 100 of 100"));
        let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["curves.png", "curves.svg"]);
        let png = fs::read(dir.path().join("curves.png")).unwrap();
        assert!(png.starts_with(b"\x89PNG") && png.ends_with(b"IEND\xaeB`\x82"));
    }

    #[test]
    fn a_picture_that_is_slow_to_draw_is_drawn_less_often() {
        let due = |seconds_ago: u64, cost_ms: u64, at_evaluation: bool| {
            let at = Instant::now() - Duration::from_secs(seconds_ago);
            let last_draw = Some((at, Duration::from_millis(cost_ms)));
            Curves { last_draw, ..Curves::new() }.is_due(at_evaluation)
        };
        assert!(due(10, 40, false) && !due(9, 40, false));
        assert!(due(60, 200, false) && !due(30, 200, false));
        assert!(due(0, 0, true) && due(2, 40, true) && !due(2, 400, true) && due(10, 4000, true));
    }

    #[test]
    fn a_resumed_run_goes_on_with_the_curves_it_had() {
        let dir = tempfile::tempdir().unwrap();
        let mut metrics = JsonlMetrics::new();
        let events = [step(10, 3.0), Event::Evaluated(evaluation(20, 2.5)), step(20, 2.5), step(30, 9.0)];
        metrics.observe(&started(dir.path(), 0)).unwrap();
        events.iter().for_each(|event| metrics.observe(event).unwrap());
        let mut curves = Curves::new();
        curves.observe(&started(dir.path(), 20)).unwrap();
        curves.observe(&step(30, 2.0)).unwrap();
        let points: Vec<_> = curves.history.training.iter().map(|bucket| (bucket.step, bucket.mean)).collect();
        assert_eq!(points, [(10, 3.0), (20, 2.5), (30, 2.0)]);
        assert_eq!(curves.history.best.unwrap().step, 20);
    }
}
