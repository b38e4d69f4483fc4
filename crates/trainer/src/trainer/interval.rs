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
    /// Of the last step.
    pub norm: f64,
}

impl Interval {
    pub fn add(&mut self, figures: Figures) {
        self.terms.resize(figures.terms.len().max(self.terms.len()), (0.0, 0.0));
        for ((sum, weight), (of_step, loss)) in self.terms.iter_mut().zip(&figures.terms) {
            *sum += loss * of_step;
            *weight += of_step;
        }
        self.norm = figures.norm;
    }

    pub fn term_losses(&self) -> Vec<f64> {
        self.terms.iter().map(|(sum, weight)| sum / weight).collect()
    }

    pub fn mean_loss(&self) -> f64 {
        self.terms.first().map_or(f64::NAN, |_| self.term_losses().iter().sum())
    }

    pub fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.time.as_secs_f64().max(1e-9)
    }
}

/// Several loss terms' figures by name; nothing of a single one, which is the loss itself.
pub(super) fn named(terms: &[&str], figures: Vec<f64>) -> BTreeMap<String, f64> {
    match terms {
        [_, _, ..] => terms.iter().map(|name| name.to_string()).zip(figures).collect(),
        _ => BTreeMap::new(),
    }
}
