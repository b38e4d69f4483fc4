//! Lays the curves out: the loss above, metrics and learning rate below it.

use std::ops::Range;

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::history::{Bucket, Evaluation, History, joined};
use super::pen::{Area, Canvas, Chart, Drawn, FADED_INK, INK, Panel, Pen};
use super::picture::Picture;
use super::scale::{decimal, loss_range, padded, scientific, smoothed, step_range};

/// The picture's size in pixels.
const SIZE: (u32, u32) = (1200, 800);

/// Above this many points the training curve is drawn as the band between its extremes.
const MAX_LINE_POINTS: usize = 500;

pub(super) const TRAINING: RGBColor = RGBColor(37, 99, 195);
const TRAINING_RAW: RGBColor = RGBColor(176, 203, 241);
pub(super) const VALIDATION: RGBColor = RGBColor(226, 88, 34);
const ACCURACY: RGBColor = RGBColor(22, 140, 96);
const RATE: RGBColor = RGBColor(124, 77, 189);

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
        pen.text(root, &self.title, (28, 36), 27, INK, HPos::Left)?;
        pen.text(root, &self.subtitle, (28, 68), 16, FADED_INK, HPos::Left)?;
        let (_, body) = root.split_vertically(86 * scale);
        let (loss, below) = body.split_vertically(420 * scale);
        let (accuracy, rate) = below.split_horizontally(600 * scale);

        let steps = step_range(history);
        loss_panel(&pen, &loss, history, steps.clone())?;
        metrics_panel(&pen, &accuracy, history, &steps)?;

        let points: Vec<_> = history.training.iter().map(|bucket| (bucket.step as f64, bucket.learning_rate)).collect();
        let panel = Panel { title: "Learning rate", empty: "no data yet", format: scientific };
        let range = padded(&points).map(|range| 0.0..range.end);
        panel.draw(&pen, &rate, &steps, range, &[], |chart| pen.curve(chart, &points, RATE, false))?;
        Ok(())
    }
}

/// The metrics that a classifier or a regression is known by; of a language model, its token accuracy.
fn metrics_panel<C: Canvas>(pen: &Pen, area: &Area<C>, history: &History, steps: &Range<f64>) -> Drawn {
    let curve = |value: &dyn Fn(&Evaluation) -> Option<f64>| -> Vec<(f64, f64)> {
        let at = |evaluation: &Evaluation| {
            Some((evaluation.step as f64, value(evaluation).filter(|value| value.is_finite())?))
        };
        history.evaluations.iter().filter_map(at).collect()
    };
    let metric = |&(key, name, color)| (curve(&|evaluation| evaluation.metrics.get(key).copied()), name, color);
    let mut curves: Vec<_> = METRICS.iter().map(metric).filter(|(points, ..)| !points.is_empty()).collect();
    let mut legend: Vec<_> = curves.iter().map(|&(_, name, color)| (name, color)).collect();
    let mut panel = Panel { title: "Validation metrics", empty: "no evaluation yet", format: decimal };
    let mut most = 1.0;
    if curves.is_empty() {
        curves.push((curve(&|evaluation| Some(100.0 * evaluation.accuracy)), "", ACCURACY));
        legend.clear();
        panel.title = "Validation token accuracy, %";
        most = 100.0;
    }
    let all: Vec<_> = curves.iter().flat_map(|(points, ..)| points.iter().copied()).collect();
    // Air around the values does not show what cannot be: less than nothing, unless a correlation is, or more than all.
    let least = if all.iter().any(|point| point.1 < 0.0) { -1.0f64 } else { 0.0 };
    let range = padded(&all).map(|range| {
        let start = range.start.max(least);
        start..range.end.min(f64::max(most, start + 1e-9))
    });
    panel.draw(pen, area, steps, range, &legend, |chart| {
        curves.iter().try_for_each(|(points, _, color)| pen.curve(chart, points, *color, true))
    })
}

fn loss_panel<C: Canvas>(pen: &Pen, area: &Area<C>, history: &History, steps: Range<f64>) -> Drawn {
    let range = loss_range(history);
    let top = range.as_ref().map_or(0.0, |range| range.end);
    let at = |step: u64, loss: f64| (step as f64, loss.min(top));
    let smooth: Vec<_> = smoothed(&history.training).into_iter().map(|(step, loss)| at(step, loss)).collect();
    let validation: Vec<_> =
        history.evaluations.iter().map(|evaluation| at(evaluation.step, evaluation.loss)).collect();
    let mut legend = Vec::new();
    if !smooth.is_empty() {
        legend.extend([("training", TRAINING_RAW), ("training, smoothed", TRAINING)]);
    }
    if !validation.is_empty() {
        legend.push(("validation", VALIDATION));
    }
    let panel = Panel { title: "Loss, nats per token", empty: "no data yet", format: decimal };
    panel.draw(pen, area, &steps, range, &legend, |chart| {
        raw_training(pen, chart, &history.training, top)?;
        pen.curve(chart, &smooth, TRAINING, false)?;
        pen.curve(chart, &validation, VALIDATION, true)?;
        let highest = history.training.iter().max_by(|a, b| a.max.total_cmp(&b.max));
        if let Some(peak) = highest.filter(|bucket| bucket.max > top) {
            pen.peak(chart, (peak.step as f64, top), &format!("up to {}", decimal(peak.max, 5.0)), &steps)?;
        }
        match &history.best {
            Some(best) => pen.best(chart, best, &steps),
            None => Ok(()),
        }
    })
}
