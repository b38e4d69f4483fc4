//! Lays the curves out: the loss above, metrics and learning rate below it.

use std::ops::Range;

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::history::{Bucket, History, joined};
use super::pen::{Area, Canvas, Chart, Drawn, Entry, FADED_INK, INK, Panel, Pen, has_letters_for};
use super::picture::Picture;
use super::scale::{decimal, loss_range, padded, scientific, smoothed, step_range};
use crate::event::EvalReport;
use crate::metrics::{Task, higher_is_better};

/// The picture's size in pixels.
const SIZE: (u32, u32) = (1200, 800);

/// Above this many points the training curve is drawn as the band between its extremes.
const MAX_LINE_POINTS: usize = 500;

pub(super) const TRAINING: RGBColor = RGBColor(37, 99, 195);
const TRAINING_RAW: RGBColor = RGBColor(176, 203, 241);
pub(super) const VALIDATION: RGBColor = RGBColor(226, 88, 34);
const ACCURACY: RGBColor = RGBColor(22, 140, 96);
const RATE: RGBColor = RGBColor(124, 77, 189);
/// What decides which checkpoint is the best, where it is none of the usual metrics.
const DECISIVE: RGBColor = RATE;

/// The metrics that are drawn where evaluations have them, all of them 1 at best: key, name, colour.
const METRICS: [(&str, &str, RGBColor); 4] = [
    ("accuracy", "accuracy", ACCURACY),
    ("f1", "F1", VALIDATION),
    ("pearson", "Pearson", ACCURACY),
    ("spearman", "Spearman", VALIDATION),
];

/// What stands in the picture.
pub(super) struct Figure<'a> {
    pub(super) title: String,
    pub(super) subtitle: String,
    pub(super) history: &'a History,
    /// What the model is measured at.
    pub(super) task: Task,
    /// The figure that decides which checkpoint is the best.
    pub(super) best_metric: &'a str,
}

/// How a figure went from evaluation to evaluation.
struct MetricCurve<'a> {
    name: &'a str,
    color: RGBColor,
    /// Step and value.
    points: Vec<(f64, f64)>,
}

/// The training reports as they came: a line, or where they are many the band that they fill, cut off at `top`.
fn raw_training<C: Canvas>(pen: &Pen, chart: &mut Chart<C>, training: &[Bucket], top: f64) -> Drawn {
    let at = |bucket: &Bucket, loss: f64| (bucket.step as f64, loss.min(top));
    if training.len() <= MAX_LINE_POINTS {
        let line: Vec<_> = training.iter().map(|bucket| at(bucket, bucket.max)).collect();
        return pen.line(chart, &line, TRAINING_RAW, 1);
    }
    let columns: Vec<_> = training.chunks(training.len().div_ceil(MAX_LINE_POINTS)).map(joined).collect();
    let upper = columns.iter().map(|column| at(column, column.max));
    let lower = columns.iter().rev().map(|column| at(column, column.min));
    let band = Polygon::new(upper.chain(lower).collect::<Vec<_>>(), TRAINING_RAW.filled());
    chart.draw_series([band])?;
    Ok(())
}

impl Picture for Figure<'_> {
    fn size(&self) -> (u32, u32) {
        SIZE
    }

    fn draw<C: Canvas>(&self, root: &Area<C>, pen: Pen) -> Drawn {
        let scale = pen.scale;
        let history = self.history;
        let title = if pen.bitmap && !has_letters_for(&self.title) { "Training" } else { &self.title };
        pen.text(root, title, (28, 36), 27, INK, HPos::Left)?;
        pen.text(root, &self.subtitle, (28, 68), 16, FADED_INK, HPos::Left)?;
        let (_, body) = root.split_vertically(86 * scale);
        let (loss, below) = body.split_vertically(420 * scale);
        let (accuracy, rate) = below.split_horizontally(600 * scale);

        let steps = step_range(history);
        self.loss_panel(&pen, &loss, &steps)?;
        self.metrics_panel(&pen, &accuracy, &steps)?;

        let points: Vec<_> = history.training.iter().map(|bucket| (bucket.step as f64, bucket.learning_rate)).collect();
        let panel = Panel { title: "Learning rate".into(), empty: "no data yet", format: scientific };
        let range = padded(&points).map(|range| 0.0..range.end);
        panel.draw(&pen, &rate, &steps, range, &[], |chart| pen.curve(chart, &points, RATE, false))?;
        Ok(())
    }
}

/// Whether a figure lies between -1 and 1, so that it can be drawn beside accuracy and correlations.
fn is_share(name: &str) -> bool {
    higher_is_better(name) == Some(true) || name == "hamming_loss"
}

impl Figure<'_> {
    /// Of each evaluation that has it, its step and `value`.
    fn curve(&self, value: impl Fn(&EvalReport) -> Option<f64>) -> Vec<(f64, f64)> {
        let at = |report: &EvalReport| Some((report.step as f64, value(report).filter(|value| value.is_finite())?));
        self.history.evaluations.iter().filter_map(at).collect()
    }

    /// What decides which checkpoint is the best, where neither the loss nor the usual metrics show it.
    fn decisive(&self) -> Option<&str> {
        let shown = self.best_metric == "loss" || METRICS.iter().any(|(key, ..)| *key == self.best_metric);
        (!shown).then_some(self.best_metric)
    }

    /// The curves of the usual metrics and of the one that decides; of that one alone, where it is on another scale.
    fn metric_curves(&self) -> Vec<MetricCurve<'_>> {
        let decisive = self.decisive();
        let usual = METRICS.iter().filter(|_| decisive.is_none_or(is_share)).map(|&(key, name, color)| {
            let points = self.curve(|report| report.metrics.get(key).copied());
            MetricCurve { name, color, points }
        });
        let decisive = decisive.map(|name| {
            let points = self.curve(|report| report.figure(name));
            MetricCurve { name, color: DECISIVE, points }
        });
        usual.chain(decisive).filter(|curve| !curve.points.is_empty()).collect()
    }

    /// What a classifier or a regression is known by; of a language model, its token accuracy.
    fn metrics_panel<C: Canvas>(&self, pen: &Pen, area: &Area<C>, steps: &Range<f64>) -> Drawn {
        let mut curves = self.metric_curves();
        let legend: Vec<_> = curves.iter().map(|curve| Entry::line(curve.name, curve.color)).collect();
        let (title, most) = match self.decisive() {
            _ if curves.is_empty() => ("Validation token accuracy, %".to_owned(), 100.0),
            Some(name) if !is_share(name) => (format!("Validation {name}"), f64::INFINITY),
            _ => ("Validation metrics".to_owned(), 1.0),
        };
        if curves.is_empty() {
            let points = self.curve(|report| Some(100.0 * report.accuracy));
            curves.push(MetricCurve { name: "", color: ACCURACY, points });
        }
        let all: Vec<_> = curves.iter().flat_map(|curve| curve.points.iter().copied()).collect();
        // Air around the values does not show what cannot be: less than nothing, unless a correlation is, or more than
        // all. A share of variance that is far below nothing leaves the picture.
        let least = if all.iter().any(|point| point.1 < 0.0) { -1.0f64 } else { 0.0 };
        let range = padded(&all).map(|range| {
            let start = range.start.max(least);
            start..range.end.min(most).max(start + 1e-9)
        });
        let panel = Panel { title, empty: "no evaluation yet", format: decimal };
        panel.draw(pen, area, steps, range, &legend, |chart| {
            curves.iter().try_for_each(|curve| {
                let points: Vec<_> = curve.points.iter().map(|(step, value)| (*step, value.max(least))).collect();
                pen.curve(chart, &points, curve.color, true)
            })
        })
    }

    fn loss_panel<C: Canvas>(&self, pen: &Pen, area: &Area<C>, steps: &Range<f64>) -> Drawn {
        let history = self.history;
        let range = loss_range(history);
        let top = range.as_ref().map_or(0.0, |range| range.end);
        let at = |step: u64, loss: f64| (step as f64, loss.min(top));
        let smooth: Vec<_> = smoothed(&history.training).into_iter().map(|(step, loss)| at(step, loss)).collect();
        let validation: Vec<_> = history.evaluations.iter().map(|report| at(report.step, report.loss)).collect();
        let mut legend = Vec::new();
        if !smooth.is_empty() {
            legend.extend([Entry::line("training", TRAINING_RAW), Entry::line("training, smoothed", TRAINING)]);
        }
        if !validation.is_empty() {
            legend.push(Entry::line("validation", VALIDATION));
        }
        let best = best_label(history, self.best_metric);
        legend.extend(best.as_ref().map(|label| Entry::ring(label, VALIDATION)));
        let title = format!("Loss, {}", self.task.loss_unit());
        let panel = Panel { title, empty: "no data yet", format: decimal };
        panel.draw(pen, area, steps, range, &legend, |chart| {
            raw_training(pen, chart, &history.training, top)?;
            pen.curve(chart, &smooth, TRAINING, false)?;
            pen.curve(chart, &validation, VALIDATION, true)?;
            let highest = history.training.iter().max_by(|a, b| a.max.total_cmp(&b.max));
            if let Some(peak) = highest.filter(|bucket| bucket.max > top) {
                pen.peak(chart, (peak.step as f64, top), &format!("up to {}", decimal(peak.max, 5.0)), steps)?;
            }
            match &history.best {
                Some(best) => pen.ring(chart, at(best.step, best.loss), VALIDATION),
                None => Ok(()),
            }
        })
    }
}

/// `best f1 0.8741 at step 1000`
pub(super) fn best_label(history: &History, best_metric: &str) -> Option<String> {
    let best = history.best.as_ref()?;
    Some(format!("best {best_metric} {:.4} at step {}", best.figure(best_metric)?, best.step))
}
