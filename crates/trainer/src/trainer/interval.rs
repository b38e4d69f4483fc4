//! What is said of the steps between two reports.

use crate::readings::Figures;
use std::collections::BTreeMap;
use std::time::Duration;

/// The steps since the last report.
#[derive(Default)]
pub(super) struct Interval {
    /// Of each loss term: the sum over its targets, and their weight.
    terms: Vec<(f64, f64)>,
    /// Read, padding apart.
    pub tokens: usize,
    pub time: Duration,
    /// Of the last step that had a target.
    pub norm: f64,
}

impl Interval {
    pub fn add(&mut self, figures: Figures) {
        self.terms.resize(figures.terms.len().max(self.terms.len()), (0.0, 0.0));
        for ((sum, weight), (of_step, loss)) in self.terms.iter_mut().zip(&figures.terms) {
            *sum += loss * of_step;
            *weight += of_step;
        }
        if figures.terms.iter().any(|(weight, _)| *weight > 0.0) {
            self.norm = figures.norm;
        }
    }

    /// Whether there was anything to learn from. Of masked texts it may be that no token was chosen.
    pub fn has_targets(&self) -> bool {
        self.terms.iter().any(|(_, weight)| *weight > 0.0)
    }

    /// Each term's mean loss; none of a term without targets.
    pub fn term_losses(&self) -> Vec<Option<f64>> {
        self.terms.iter().map(|(sum, weight)| (*weight > 0.0).then(|| sum / weight)).collect()
    }

    /// The sum of the mean losses of all terms that have targets.
    pub fn mean_loss(&self) -> f64 {
        self.term_losses().into_iter().flatten().sum()
    }

    pub fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.time.as_secs_f64().max(1e-9)
    }
}

/// Several loss terms' figures by name; nothing of a single one, which is the loss itself.
pub(super) fn named(terms: &[&str], figures: Vec<Option<f64>>) -> BTreeMap<String, f64> {
    let named = terms.iter().zip(figures).filter_map(|(name, figure)| Some((name.to_string(), figure?)));
    if terms.len() > 1 { named.collect() } else { BTreeMap::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(terms: &[(f64, f64)]) -> Figures {
        Figures { step: 1, terms: terms.to_vec(), norm: 1.0 }
    }

    #[test]
    fn steps_and_terms_without_targets_are_no_part_of_the_mean() {
        let mut interval = Interval::default();
        interval.add(step(&[(0.0, 0.0), (0.0, 0.0)]));
        assert!(!interval.has_targets());
        interval.add(step(&[(0.0, 0.0), (2.0, 0.5)]));
        assert!(interval.has_targets());
        assert_eq!(interval.mean_loss(), 0.5);
        let by_name = named(&["masked_lm", "next_sentence"], interval.term_losses());
        assert_eq!(by_name, BTreeMap::from([("next_sentence".to_owned(), 0.5)]));
        interval.add(step(&[(1.0, 3.0), (2.0, 1.5)]));
        interval.add(Figures { norm: 0.0, ..step(&[(0.0, 0.0), (0.0, 0.0)]) });
        assert_eq!((interval.mean_loss(), interval.norm), (4.0, 1.0));
    }
}
