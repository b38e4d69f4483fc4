//! What a person reads while a run goes on: a bar on a terminal, plain lines anywhere else.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::report::{Paint, Smoothed, clock, loss, norm, sample_lines, shell_path, short_count};
use crate::event::{EvalReport, Event, Observer, ObserverError, Outcome, Purpose, StepReport};

/// Of the metrics of an evaluation, those that are shown where it has them, beside the one that decides which checkpoint
/// is the best.
const SHOWN_METRICS: [&str; 9] = [
    "accuracy",
    "f1",
    "rmse",
    "pearson",
    "spearman",
    "masked_lm_loss",
    "masked_lm_accuracy",
    "next_sentence_loss",
    "next_sentence_accuracy",
];

/// Shows a run's progress.
pub struct Progress {
    output: Output,
    paint: Paint,
    total_steps: u64,
    smoothed: Smoothed,
    /// Where the measured speed starts: the first report, since what goes before holds one-time costs.
    speed_since: Option<(u64, Duration)>,
    start_step: u64,
    /// The figure that decides which checkpoint is the best.
    best_metric: String,
    last_saved: Option<PathBuf>,
}

enum Output {
    Bar(ProgressBar),
    Plain(Box<dyn Write + Send>),
}

impl Progress {
    /// A bar when stderr is a terminal, else plain lines there. Colours respect `NO_COLOR`.
    pub fn stderr() -> Self {
        let set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        if io::stderr().is_terminal() && !dumb {
            Self::terminal(ProgressDrawTarget::stderr(), !set("NO_COLOR"))
        } else {
            Self::plain(io::stderr())
        }
    }

    /// A bar with what else there is to say printed above it.
    pub fn terminal(target: ProgressDrawTarget, colours: bool) -> Self {
        // Nothing is drawn before the first tick, which comes with `Event::Started`.
        Self::new(Output::Bar(ProgressBar::with_draw_target(None, target)), Paint(colours))
    }

    /// One line a report, without colours.
    pub fn plain(writer: impl Write + Send + 'static) -> Self {
        Self::new(Output::Plain(Box::new(writer)), Paint(false))
    }

    fn new(output: Output, paint: Paint) -> Self {
        let smoothed = Smoothed::default();
        let best_metric = String::new();
        Self {
            output,
            paint,
            total_steps: 0,
            smoothed,
            speed_since: None,
            start_step: 0,
            best_metric,
            last_saved: None,
        }
    }

    /// A writer to stderr for log lines, which does not write into the bar.
    pub fn log_writer(&self) -> LogWriter {
        match &self.output {
            Output::Bar(bar) => LogWriter(Some(bar.clone())),
            Output::Plain(_) => LogWriter(None),
        }
    }

    fn print(&mut self, lines: &[String]) -> io::Result<()> {
        match &mut self.output {
            Output::Bar(bar) => bar.println(lines.join("\n")),
            Output::Plain(writer) => {
                writer.write_all((lines.join("\n") + "\n").as_bytes())?;
                writer.flush()?;
            }
        }
        Ok(())
    }

    fn started(&mut self, start_step: u64, total_steps: u64, tokens_per_step: u64, dir: &Path) -> io::Result<()> {
        (self.start_step, self.total_steps) = (start_step, total_steps);
        let what = match start_step {
            0 => format!("training {total_steps} steps"),
            _ => format!("resuming at step {start_step} of {total_steps}"),
        };
        let tokens = short_count(tokens_per_step as f64);
        self.print(&[format!("{what}, {tokens} tokens a step, into {}", dir.display())])?;
        if let Output::Bar(bar) = &self.output {
            let (on, off) = if self.paint.0 { ("\x1b[36m", "\x1b[0m") } else { ("", "") };
            let template =
                format!("{{percent:>3}}% {on}{{wide_bar}}{off} {{pos}}/{{len}}  {{clock}} elapsed{{prefix}}\n{{msg}}");
            let style = ProgressStyle::with_template(&template)
                .expect("a fixed template")
                .progress_chars("━╸─")
                // The bar's own clock, so that it also runs between two reports.
                .with_key("clock", |state: &ProgressState, text: &mut dyn std::fmt::Write| {
                    let _ = text.write_str(&clock(state.elapsed()));
                });
            bar.set_style(style);
            bar.set_length(total_steps);
            bar.set_position(start_step);
            bar.reset_elapsed();
            bar.set_message(self.paint.dim("     waiting for the first report"));
            bar.enable_steady_tick(Duration::from_secs(1));
        }
        Ok(())
    }

    fn step(&mut self, report: &StepReport) -> io::Result<()> {
        let smooth = loss(self.smoothed.add(report.loss));
        let (now, lr) = (loss(report.loss), format!("{:.1e}", report.learning_rate));
        let (norm, speed) = (norm(report.grad_norm), short_count(report.tokens_per_second));
        let left = self.time_left(report).map(|left| format!("  {} left", clock(left))).unwrap_or_default();
        let paint = self.paint;
        let terms: String = report.terms.iter().map(|(name, value)| format!("  {name} {}", loss(*value))).collect();
        if let Output::Bar(bar) = &self.output {
            let label = |text: &str| paint.dim(text);
            bar.set_position(report.step);
            bar.set_prefix(left);
            bar.set_message(format!(
                "     {} {}{terms}  {} {smooth}  {} {lr}  {} {norm}  {speed} {}",
                label("loss"),
                paint.bold(&now),
                label("smooth"),
                label("lr"),
                label("norm"),
                label("tok/s"),
            ));
            return Ok(());
        }
        let (total, elapsed) = (self.total_steps, clock(report.elapsed));
        let width = total.to_string().len();
        let step = report.step;
        self.print(&[format!(
            "step {step:>width$}/{total}  loss {now}{terms}  (smooth {smooth})  lr {lr}  norm {norm}  {speed} tok/s  {elapsed} elapsed{left}"
        )])
    }

    /// From the speed since the first report, evaluations and saves included, so that it does not jump.
    fn time_left(&mut self, report: &StepReport) -> Option<Duration> {
        let (since_step, since) = self.speed_since.unwrap_or((self.start_step, Duration::ZERO));
        self.speed_since.get_or_insert((report.step, report.elapsed));
        let steps = report.step.checked_sub(since_step).filter(|steps| *steps > 0)?;
        let seconds = report.elapsed.checked_sub(since)?.as_secs_f64() / steps as f64;
        Duration::try_from_secs_f64(seconds * self.total_steps.saturating_sub(report.step) as f64).ok()
    }

    fn evaluated(&mut self, report: &EvalReport) -> io::Result<()> {
        let best = if report.best { self.paint.green("  best so far") } else { String::new() };
        let figures = if report.metrics.is_empty() {
            let perplexity = report.perplexity.unwrap_or(f64::NAN);
            let perplexity = if perplexity < 1e4 { format!("{perplexity:.2}") } else { short_count(perplexity) };
            format!("perplexity {perplexity}  accuracy {:.1}%", 100.0 * report.accuracy)
        } else {
            let decisive = Some(self.best_metric.as_str()).filter(|name| !SHOWN_METRICS.contains(name));
            let figure = |name: &str| Some(format!("{name} {:.3}", report.metrics.get(name)?));
            SHOWN_METRICS.into_iter().chain(decisive).filter_map(figure).collect::<Vec<_>>().join("  ")
        };
        self.print(&[format!(
            "{}  step {}  loss {}  {figures}{best}",
            self.paint.cyan("eval"),
            report.step,
            self.paint.bold(&loss(report.loss)),
        )])
    }

    fn sample(&mut self, step: u64, text: &str) -> io::Result<()> {
        let paint = self.paint;
        let mut lines = vec![paint.dim(&format!("  ┌ sample at step {step}"))];
        lines
            .extend(sample_lines(text).iter().map(|line| format!("  {} {line}", paint.dim("│")).trim_end().to_owned()));
        lines.push(paint.dim("  └"));
        self.print(&lines)
    }

    fn finished(
        &mut self,
        (step, outcome, elapsed): (u64, Outcome, Duration),
        best: Option<&(u64, f64, PathBuf)>,
        best_metric: &str,
        purpose: Purpose,
    ) -> io::Result<()> {
        let paint = self.paint;
        let after = clock(elapsed);
        let mut lines = vec![match outcome {
            Outcome::Completed => format!("{}  {step} steps in {after}", paint.green("done")),
            Outcome::Stopped(signal) => {
                let name = match signal {
                    2 => "SIGINT".to_owned(),
                    15 => "SIGTERM".to_owned(),
                    other => format!("signal {other}"),
                };
                format!("{} by {name} at step {step} after {after}", paint.yellow("stopped"))
            }
            Outcome::Diverged => format!("{} at step {step} after {after}", paint.red("diverged")),
        }];
        let last = self.last_saved.as_deref();
        if let Some((best_step, value, path)) = best {
            let (path, value) = (shell_path(path), loss(*value));
            lines.push(format!("  best checkpoint  {path}  (validation {best_metric} {value}, step {best_step})"));
        }
        match outcome {
            Outcome::Completed => {
                let path = best.map(|best| best.2.as_path()).or(last);
                lines.extend(path.map(|path| {
                    format!(
                        "  next             {}",
                        paint.bold(&match purpose {
                            Purpose::Generate => format!("firebox generate {} --prompt \"...\"", shell_path(path)),
                            Purpose::Chat => format!("firebox chat {}", shell_path(path)),
                            Purpose::Predict => format!("firebox predict {} --text \"...\"", shell_path(path)),
                        })
                    )
                }));
            }
            Outcome::Stopped(_) | Outcome::Diverged => {
                lines.extend(last.map(|path| format!("  last checkpoint  {}", shell_path(path))));
                let next = match outcome {
                    Outcome::Stopped(_) => "the same command with --resume goes on",
                    _ => "a lower learning rate, more warmup or a smaller train.max_grad_norm",
                };
                lines.push(format!("  next             {next}"));
            }
        }
        self.print(&lines)?;
        if let Output::Bar(bar) = &self.output {
            bar.finish_and_clear();
        }
        Ok(())
    }
}

impl Observer for Progress {
    fn name(&self) -> &'static str {
        "the progress display"
    }

    fn observe(&mut self, event: &Event) -> Result<(), ObserverError> {
        match event {
            Event::Started { start_step, total_steps, tokens_per_step, output_dir, best_metric, .. } => {
                self.best_metric.clone_from(best_metric);
                self.started(*start_step, *total_steps, *tokens_per_step, output_dir)?;
            }
            Event::Step(report) => self.step(report)?,
            Event::Evaluated(report) => self.evaluated(report)?,
            Event::Sample { step, text } => self.sample(*step, text)?,
            Event::Saved { step, path, best } => {
                let mark = if *best { "  (best)" } else { "" };
                let line = format!("saved step {step}  {}{mark}", path.display());
                self.last_saved = Some(path.clone());
                self.print(&[self.paint.dim(&line)])?;
            }
            Event::Note(note) => self.print(&[format!("{}  {note}", self.paint.yellow("note"))])?,
            Event::Finished { step, outcome, best, best_metric, purpose, elapsed } => {
                self.finished((*step, *outcome, *elapsed), best.as_ref(), best_metric, *purpose)?;
            }
        }
        Ok(())
    }
}

/// Writes log lines to stderr, above the bar where there is one. Clones write to the same place.
#[derive(Clone)]
pub struct LogWriter(Option<ProgressBar>);

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &self.0 {
            Some(bar) => bar.suspend(|| io::stderr().write(bytes)),
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use indicatif::TermLike;

    use super::*;

    /// Keeps what is written to it, as a file would or as a terminal's log does.
    #[derive(Debug, Clone, Default)]
    struct Kept(Arc<Mutex<String>>);

    impl Kept {
        fn text(&self) -> String {
            self.0.lock().unwrap().clone()
        }
    }

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().push_str(std::str::from_utf8(bytes).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl TermLike for Kept {
        fn width(&self) -> u16 {
            80
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(&format!("{text}\n"))
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn started_with(best_metric: &str) -> Event {
        Event::Started {
            start_step: 0,
            total_steps: 2000,
            tokens_per_step: 768,
            output_dir: "runs/x".into(),
            task: crate::metrics::Task::Language,
            best_metric: best_metric.into(),
        }
    }

    fn started() -> Event {
        started_with("loss")
    }

    fn step(step: u64, loss: f64, elapsed: u64) -> Event {
        Event::Step(StepReport {
            step,
            epoch: 0.1,
            loss,
            terms: Default::default(),
            learning_rate: 1e-3,
            grad_norm: 0.534,
            tokens: step * 768,
            tokens_per_second: 15_234.0,
            elapsed: Duration::from_secs(elapsed),
        })
    }

    fn evaluated() -> Event {
        let elapsed = Duration::from_secs(20);
        let (loss, perplexity, accuracy) = (2.1034, Some(8.194), 0.361);
        let metrics = Default::default();
        Event::Evaluated(EvalReport {
            step: 200,
            loss,
            perplexity,
            accuracy,
            tokens: 1000,
            metrics,
            best: true,
            elapsed,
        })
    }

    fn finished(outcome: Outcome) -> Event {
        let best = Some((1750, 1.8741, PathBuf::from("runs/x/step-001750")));
        let best_metric = "loss".into();
        Event::Finished {
            step: 2000,
            outcome,
            best,
            best_metric,
            purpose: Purpose::Generate,
            elapsed: Duration::from_secs(192),
        }
    }

    fn plain(events: &[Event]) -> String {
        let kept = Kept::default();
        let mut progress = Progress::plain(kept.clone());
        for event in events {
            progress.observe(event).unwrap();
        }
        kept.text()
    }

    #[test]
    fn a_pipe_gets_one_plain_line_a_report() {
        let text = plain(&[started(), step(100, 3.5, 32), step(200, 2.5013, 52), evaluated()]);
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            [
                "training 2000 steps, 768 tokens a step, into runs/x",
                "step  100/2000  loss 3.5000  (smooth 3.5000)  lr 1.0e-3  norm 0.53  15.2k tok/s  0:32 elapsed  10:08 left",
                "step  200/2000  loss 2.5013  (smooth 2.9744)  lr 1.0e-3  norm 0.53  15.2k tok/s  0:52 elapsed  6:00 left",
                "eval  step 200  loss 2.1034  perplexity 8.19  accuracy 36.1%  best so far",
            ]
        );
    }

    #[test]
    fn a_classifiers_evaluation_shows_its_metrics() {
        let Event::Evaluated(mut report) = evaluated() else { unreachable!() };
        report.metrics =
            [("f1", 0.5), ("mcc", 0.4), ("accuracy", 0.75)].map(|(name, value)| (name.to_owned(), value)).into();
        let text = plain(&[started(), Event::Evaluated(report.clone())]);
        assert!(text.ends_with("eval  step 200  loss 2.1034  accuracy 0.750  f1 0.500  best so far\n"), "{text}");
        let text = plain(&[started_with("mcc"), Event::Evaluated(report)]);
        assert!(text.contains("accuracy 0.750  f1 0.500  mcc 0.400  best so far\n"), "{text}");
    }

    #[test]
    fn a_regression_whose_correlations_are_not_defined_still_shows_a_figure() {
        let Event::Evaluated(mut report) = evaluated() else { unreachable!() };
        (report.accuracy, report.perplexity) = (f64::NAN, None);
        report.metrics =
            [("mse", 4.0), ("rmse", 2.0), ("r2", -0.5)].map(|(name, value)| (name.to_owned(), value)).into();
        let text = plain(&[started_with("r2"), Event::Evaluated(report)]);
        assert!(text.contains("loss 2.1034  rmse 2.000  r2 -0.500  best so far\n"), "{text}");
    }

    #[test]
    fn a_loss_that_is_not_finite_is_shown_as_such() {
        assert!(plain(&[started(), step(1, f64::NAN, 1)]).contains("loss NaN  (smooth NaN)"));
    }

    #[test]
    fn the_end_says_where_the_best_checkpoint_is_and_what_to_run_next() {
        let done = plain(&[started(), finished(Outcome::Completed)]);
        assert!(done.contains("done  2000 steps in 3:12\n"), "{done}");
        assert!(done.contains("runs/x/step-001750  (validation loss 1.8741, step 1750)\n"), "{done}");
        assert!(done.ends_with("firebox generate runs/x/step-001750 --prompt \"...\"\n"), "{done}");
        let saved = Event::Saved { step: 2000, path: "runs/x/step-002000".into(), best: false };
        let stopped = plain(&[started(), saved.clone(), finished(Outcome::Stopped(2))]);
        assert!(stopped.contains("stopped by SIGINT at step 2000 after 3:12\n"), "{stopped}");
        assert!(stopped.contains("last checkpoint  runs/x/step-002000\n") && stopped.contains("--resume"), "{stopped}");
        let diverged = plain(&[started(), saved, finished(Outcome::Diverged)]);
        assert!(diverged.contains("diverged at step 2000") && diverged.contains("lower learning rate"), "{diverged}");
    }

    #[test]
    fn a_sample_is_framed() {
        let text = plain(&[Event::Sample { step: 200, text: "Once\n\nupon".into() }]);
        assert_eq!(text, "  ┌ sample at step 200\n  │ Once\n  │\n  │ upon\n  └\n");
    }

    #[test]
    fn a_terminal_gets_a_bar_with_the_rest_printed_above_it() {
        for colours in [false, true] {
            let kept = Kept::default();
            let target = ProgressDrawTarget::term_like(Box::new(kept.clone()));
            let mut progress = Progress::terminal(target, colours);
            for event in [started(), step(500, 2.5013, 8), evaluated()] {
                progress.observe(&event).unwrap();
            }
            let text = kept.text();
            assert!(text.contains("training 2000 steps"), "{text}");
            assert!(text.contains("accuracy 36.1%"), "{text}");
            assert!(text.contains(" 25% ") && text.contains("500/2000") && text.contains("0:24 left"), "{text}");
            assert_eq!(text.contains('\x1b'), colours, "{text}");
            assert_eq!(text.contains("loss 2.5013  smooth 2.5013  lr 1.0e-3  norm 0.53  15.2k tok/s"), !colours);
        }
    }

    #[test]
    fn an_output_that_is_gone_is_an_error() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        assert!(Progress::plain(Gone).observe(&started()).is_err());
    }
}
