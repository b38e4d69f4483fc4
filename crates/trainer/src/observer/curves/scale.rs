//! What is shown of the numbers: ranges, smoothing, labels.

use std::ops::Range;

use super::history::{Bucket, History};

/// Steps from 0, or from where a run without history begins, to the last one seen.
pub(super) fn step_range(history: &History) -> Range<f64> {
    let training = history.training.iter().map(|bucket| bucket.step);
    let steps = || training.clone().chain(history.evaluations.iter().map(|evaluation| evaluation.step));
    let (first, last) = (steps().min().unwrap_or(0), steps().max().unwrap_or(0));
    let start = if 2 * first > last && first != last { first } else { 0 };
    start as f64..last.max(1) as f64
}

/// From the lowest loss to the highest, but a few points far above the rest do not flatten all others.
pub(super) fn loss_range(history: &History) -> Option<Range<f64>> {
    let mut losses: Vec<f64> = history.training.iter().map(|bucket| bucket.max).collect();
    losses.extend(history.evaluations.iter().map(|evaluation| evaluation.loss));
    losses.sort_by(f64::total_cmp);
    let (&low, &high) = (losses.first()?, losses.last()?);
    let low = history.training.iter().map(|bucket| bucket.min).fold(low, f64::min);
    // A run starts high; that much is always shown.
    let first = history.training.first().map_or(low, |bucket| bucket.max);
    let usual = losses[(losses.len() - 1) * 95 / 100].max(first);
    let top = if high - low > 3.0 * (usual - low) { usual } else { high };
    padded(&[(0.0, low), (0.0, top)])
}

/// The values' range with a little air on both sides; of a constant, a range around it.
pub(super) fn padded(points: &[(f64, f64)]) -> Option<Range<f64>> {
    let values = points.iter().map(|point| point.1);
    let low = values.clone().reduce(f64::min)?;
    let high = values.reduce(f64::max)?;
    let air = match high - low {
        span if span > 1e-9 * high.abs() => 0.06 * span,
        _ if high == 0.0 => 1.0,
        _ => 0.1 * high.abs(),
    };
    Some(low - air..high + air)
}

/// The median over a window of a twenty-fifth of the curve, which no single spike moves, and the mean of those over
/// the like. At the curve's beginning, where the loss falls steeply, the window is narrower, so that it stays centred
/// and does not lift the curve.
pub(super) fn smoothed(training: &[Bucket]) -> Vec<(u64, f64)> {
    let losses: Vec<f64> = training.iter().map(|bucket| bucket.mean).collect();
    let half = (losses.len() / 50).max(1);
    let median = |window: &[f64]| {
        let mut sorted = window.to_vec();
        sorted.sort_by(f64::total_cmp);
        (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0
    };
    let mean = |window: &[f64]| window.iter().sum::<f64>() / window.len() as f64;
    let smooth = over_windows(&over_windows(&losses, half, median), half, mean);
    training.iter().map(|bucket| bucket.step).zip(smooth).collect()
}

/// `of` each value's window: `half` to each side, less where the curve begins or ends.
fn over_windows(values: &[f64], half: usize, of: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let window = |center: usize| {
        let half = half.min(center);
        &values[center - half..(center + half + 1).min(values.len())]
    };
    (0..values.len()).map(|center| of(window(center))).collect()
}

/// `500`, `2500`, `25k`, `1.5M`; nothing between two steps.
pub(super) fn step_label(step: f64) -> String {
    match step {
        _ if step.fract().abs() > 1e-9 => String::new(),
        _ if step >= 1e6 => format!("{}M", (step / 1e3).round() / 1e3),
        _ if step >= 1e4 => format!("{}k", (step / 1e1).round() / 1e2),
        _ => format!("{step:.0}"),
    }
}

/// As many decimals as neighbouring labels need to differ.
pub(super) fn decimal(value: f64, span: f64) -> String {
    if value.abs() >= 1e5 {
        return format!("{value:.1e}");
    }
    let decimals = (1.0 - (span / 5.0).log10().floor()).clamp(0.0, 8.0) as usize;
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    text.to_owned()
}

/// `6e-4`, `2.5e-4`.
pub(super) fn scientific(value: f64, _span: f64) -> String {
    // A label next to zero may be a rounding error away from it.
    if value.abs() < 1e-15 { "0".to_owned() } else { format!("{}", Scientific(value)) }
}

struct Scientific(f64);

impl std::fmt::Display for Scientific {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let text = format!("{:.2e}", self.0);
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        write!(f, "{}e{exponent}", mantissa.trim_end_matches('0').trim_end_matches('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn training(losses: impl IntoIterator<Item = f64>) -> Vec<Bucket> {
        let bucket = |(step, mean): (usize, f64)| {
            let (min, max) = (mean, mean);
            Bucket { step: step as u64, reports: 1, mean, min, max, learning_rate: 1e-3 }
        };
        losses.into_iter().enumerate().map(bucket).collect()
    }

    #[test]
    fn smoothing_keeps_a_straight_fall_and_drops_a_spike() {
        let falling = training((0..200).map(|step| 5.0 - 0.01 * step as f64));
        for (bucket, (step, smooth)) in falling.iter().zip(smoothed(&falling)).take(190) {
            assert!((bucket.mean - smooth).abs() < 1e-9, "step {step}");
        }
        let spiked = training((0..200).map(|step| if step == 100 { 50.0 } else { 2.0 }));
        assert!(smoothed(&spiked).iter().all(|point| point.1 == 2.0));
        assert!(smoothed(&[]).is_empty());
    }

    #[test]
    fn one_spike_does_not_flatten_the_curve_but_a_high_start_is_shown() {
        let history = |losses: Vec<f64>| {
            let mut history = History::default();
            history.training = training(losses);
            history
        };
        let mut losses = vec![2.0; 100];
        losses[0] = 10.0;
        losses[50] = 500.0;
        let range = loss_range(&history(losses)).unwrap();
        assert!(range.start < 2.0 && (10.0..11.0).contains(&range.end), "{range:?}");
        assert!(loss_range(&history(vec![])).is_none());
        let constant = loss_range(&history(vec![2.0; 9])).unwrap();
        assert!(constant.start < 2.0 && constant.end > 2.0);
    }

    #[test]
    fn labels_are_short_and_differ() {
        assert_eq!([0.0, 0.5, 2500.0, 25_000.0, 1.5e6].map(step_label), ["0", "", "2500", "25k", "1.5M"]);
        assert_eq!([1.0, 1.5, 10.0].map(|value| decimal(value, 3.0)), ["1", "1.5", "10"]);
        assert_eq!([1.652, 1.654].map(|value| decimal(value, 0.01)), ["1.652", "1.654"]);
        assert_eq!([0.0, 6e-4, 2.5e-4].map(|value| scientific(value, 1.0)), ["0", "6e-4", "2.5e-4"]);
    }
}
