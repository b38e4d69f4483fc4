//! Lays the curves out: the loss above, token accuracy and learning rate below it.

use std::fs;
use std::ops::Range;
use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::history::{Bucket, History, joined};
use super::pen::{Area, Canvas, Chart, Drawn, FADED_INK, INK, Panel, Pen, font_is_registered};
use super::scale::{decimal, loss_range, padded, scientific, smoothed, step_range};
use crate::event::ObserverError;
use crate::observer::{at_path, replace_file};

/// The picture's size in pixels.
const SIZE: (u32, u32) = (1200, 800);

/// The PNG is drawn this many times larger and averaged down, which smooths its lines.
const OVERSAMPLING: u32 = 3;

/// plotters writes whole numbers into an SVG, so its user units are this many to the pixel.
const SVG_UNITS: u32 = 8;

/// Above this many points the training curve is drawn as the band between its extremes.
const MAX_LINE_POINTS: usize = 500;

pub(super) const TRAINING: RGBColor = RGBColor(37, 99, 195);
const TRAINING_RAW: RGBColor = RGBColor(176, 203, 241);
pub(super) const VALIDATION: RGBColor = RGBColor(226, 88, 34);
const ACCURACY: RGBColor = RGBColor(22, 140, 96);
const RATE: RGBColor = RGBColor(124, 77, 189);

/// What stands in the picture.
pub(super) struct Figure<'a> {
    pub(super) title: String,
    pub(super) subtitle: String,
    pub(super) history: &'a History,
}

/// Writes `curves.svg` and `curves.png` into `dir`, each replaced as a whole.
pub(super) fn save(figure: &Figure, dir: &Path) -> Drawn {
    let path = dir.join("curves.svg");
    replace_file(&path, svg(figure)?.as_bytes()).map_err(at_path(&path))?;
    let (path, temporary) = (dir.join("curves.png"), dir.join("curves.tmp.png"));
    let written =
        write_png(figure, &temporary).and_then(|()| Ok(fs::rename(&temporary, &path).map_err(at_path(&path))?));
    written.inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

/// The picture as an SVG document.
pub(super) fn svg(figure: &Figure) -> Result<String, ObserverError> {
    let mut text = String::new();
    let (width, height) = (SIZE.0 * SVG_UNITS, SIZE.1 * SVG_UNITS);
    let root = SVGBackend::with_string(&mut text, (width, height)).into_drawing_area();
    root.fill(&WHITE)?;
    draw(figure, &root, Pen { scale: SVG_UNITS as i32, bitmap: false })?;
    drop(root);
    let size = |width, height| format!("<svg width=\"{width}\" height=\"{height}\"");
    Ok(text.replacen(&size(width, height), &size(SIZE.0, SIZE.1), 1))
}

fn write_png(figure: &Figure, path: &Path) -> Drawn {
    let (width, height) = (SIZE.0 * OVERSAMPLING, SIZE.1 * OVERSAMPLING);
    let mut large = vec![255; 3 * width as usize * height as usize];
    let root = BitMapBackend::with_buffer(&mut large, (width, height)).into_drawing_area();
    draw(figure, &root, Pen { scale: OVERSAMPLING as i32, bitmap: true })?;
    drop(root);
    let small = average_down(&large, width as usize, OVERSAMPLING as usize);
    let mut file = BitMapBackend::new(path, SIZE);
    file.blit_bitmap((0, 0), SIZE, &small).map_err(|error| error.to_string())?;
    file.present().map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(())
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

/// Averages squares of `factor` by `factor` RGB pixels.
fn average_down(large: &[u8], width: usize, factor: usize) -> Vec<u8> {
    let small_width = width / factor;
    let mut small = Vec::with_capacity(large.len() / (factor * factor));
    let mut sums = vec![0u32; 3 * small_width];
    for rows in large.chunks_exact(3 * width * factor) {
        sums.fill(0);
        for row in rows.chunks_exact(3 * width) {
            for (pixels, sum) in row.chunks_exact(3 * factor).zip(sums.chunks_exact_mut(3)) {
                for pixel in pixels.chunks_exact(3) {
                    sum.iter_mut().zip(pixel).for_each(|(sum, &value)| *sum += u32::from(value));
                }
            }
        }
        small.extend(sums.iter().map(|sum| (sum / (factor * factor) as u32) as u8));
    }
    small
}

/// Draws the whole picture on white ground.
fn draw<C: Canvas>(figure: &Figure, root: &Area<C>, pen: Pen) -> Drawn {
    if !font_is_registered() {
        return Err("the embedded font is broken".into());
    }
    let scale = pen.scale;
    let history = figure.history;
    pen.text(root, &figure.title, (28, 36), 27, INK, HPos::Left)?;
    pen.text(root, &figure.subtitle, (28, 68), 16, FADED_INK, HPos::Left)?;
    let (_, body) = root.split_vertically(86 * scale);
    let (loss, below) = body.split_vertically(420 * scale);
    let (accuracy, rate) = below.split_horizontally(600 * scale);

    let steps = step_range(history);
    loss_panel(&pen, &loss, history, steps.clone())?;
    let points: Vec<_> = history
        .evaluations
        .iter()
        .filter(|evaluation| evaluation.accuracy.is_finite())
        .map(|evaluation| (evaluation.step as f64, 100.0 * evaluation.accuracy))
        .collect();
    let panel = Panel { title: "Validation token accuracy, %", empty: "no evaluation yet", format: decimal };
    let range = padded(&points).map(|range| range.start.max(0.0)..range.end.min(100.0f64.max(range.start + 1e-9)));
    panel.draw(&pen, &accuracy, &steps, range, &[], |chart| pen.curve(chart, &points, ACCURACY, true))?;

    let points: Vec<_> = history.training.iter().map(|bucket| (bucket.step as f64, bucket.learning_rate)).collect();
    let panel = Panel { title: "Learning rate", empty: "no data yet", format: scientific };
    let range = padded(&points).map(|range| 0.0..range.end);
    panel.draw(&pen, &rate, &steps, range, &[], |chart| pen.curve(chart, &points, RATE, false))?;
    root.present()?;
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averaging_down_takes_squares_of_pixels() {
        let large = [[0u8; 3], [100; 3], [10; 3], [10; 3], [200; 3], [100; 3], [20; 3], [40; 3]].concat();
        assert_eq!(average_down(&large, 4, 2), [[100; 3], [20; 3]].concat());
    }
}
