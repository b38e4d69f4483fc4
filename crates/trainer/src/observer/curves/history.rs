//! What is kept of a run to draw it.

use crate::event::{EvalReport, StepReport};

/// Points kept of a curve: more than the picture has columns.
const MAX_POINTS: usize = 2048;

/// One or more neighbouring training reports.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bucket {
    /// The last report's step.
    pub(super) step: u64,
    pub(super) reports: u32,
    pub(super) mean: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) learning_rate: f64,
}

/// All of a run that is drawn, in bounded memory: a curve that grows too long is halved by joining neighbours.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) training: Vec<Bucket>,
    reports_per_bucket: u32,
    pub(super) evaluations: Vec<EvalReport>,
    /// The evaluation that made the best checkpoint.
    pub(super) best: Option<EvalReport>,
}

impl History {
    /// A report whose loss is not finite is left out.
    pub(super) fn add_step(&mut self, report: &StepReport) {
        if !can_be_drawn(report.loss) || !can_be_drawn(report.learning_rate) {
            return;
        }
        let (step, loss, learning_rate) = (report.step, report.loss, report.learning_rate);
        let new = Bucket { step, reports: 1, mean: loss, min: loss, max: loss, learning_rate };
        match self.training.last_mut() {
            Some(last) if last.reports < self.reports_per_bucket => join(last, &new),
            _ => self.training.push(new),
        }
        if self.training.len() > MAX_POINTS {
            self.training = self.training.chunks(2).map(joined).collect();
            self.reports_per_bucket = 2 * self.reports_per_bucket.max(1);
        }
    }

    pub(super) fn add_evaluation(&mut self, report: &EvalReport) {
        if !can_be_drawn(report.loss) {
            return;
        }
        if report.best {
            self.best = Some(report.clone());
        }
        self.evaluations.push(report.clone());
        if self.evaluations.len() > MAX_POINTS {
            let mut index = 0;
            self.evaluations.retain(|_| {
                index += 1;
                index % 2 == 1
            });
        }
    }
}

/// Finite, and far enough from where the arithmetic on axes would overflow.
fn can_be_drawn(value: f64) -> bool {
    value.abs() <= 1e30
}

/// Neighbouring buckets, at least one, as one.
pub(super) fn joined(buckets: &[Bucket]) -> Bucket {
    let mut all = buckets[0].clone();
    buckets[1..].iter().for_each(|next| join(&mut all, next));
    all
}

fn join(bucket: &mut Bucket, next: &Bucket) {
    let reports = bucket.reports + next.reports;
    bucket.mean += (next.mean - bucket.mean) * f64::from(next.reports) / f64::from(reports);
    bucket.min = bucket.min.min(next.min);
    bucket.max = bucket.max.max(next.max);
    (bucket.step, bucket.learning_rate, bucket.reports) = (next.step, next.learning_rate, reports);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;

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
            best: loss < 1.0,
            elapsed,
        }
    }

    #[test]
    fn a_million_reports_are_kept_as_few_points_that_still_hold_the_extremes() {
        let mut history = History::default();
        for step in 1..=1_000_000 {
            let loss = if step == 777_777 { 99.0 } else { 2.0 };
            history.add_step(&report(step, loss));
            history.add_evaluation(&evaluation(step, if step == 555_555 { 0.5 } else { 2.0 }));
        }
        assert!((MAX_POINTS / 2..=MAX_POINTS).contains(&history.training.len()));
        assert!(history.evaluations.len() <= MAX_POINTS);
        assert_eq!(history.training.iter().map(|bucket| bucket.reports).sum::<u32>(), 1_000_000);
        assert_eq!(history.training.iter().map(|bucket| bucket.max).fold(0.0, f64::max), 99.0);
        assert_eq!(history.training.last().unwrap().step, 1_000_000);
        assert_eq!(history.best.as_ref().unwrap().step, 555_555);
        let mean: f64 = history.training.iter().map(|bucket| bucket.mean * f64::from(bucket.reports)).sum();
        assert!((mean / 1e6 - (2.0 + 97.0 / 1e6)).abs() < 1e-9);
    }
}
