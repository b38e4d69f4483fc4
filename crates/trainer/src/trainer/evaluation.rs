//! The evaluations during training.

use super::{Sampler, Trainer};
use crate::evaluate::{Evaluation, evaluate_network};
use crate::event::{EvalReport, Event};
use crate::metrics::{Report, higher_is_better};
use crate::network::Network;
use crate::observer::{Observers, save_confusion};
use crate::predictions::PredictionReport;
use checkpoint::Best;
use kernels::in_thread_pool;
use std::collections::BTreeMap;
use std::time::Instant;

impl Trainer {
    /// Evaluates on the validation rows and shows a sample; whether this is the best model so far by the figure that the
    /// config names.
    pub(super) fn evaluate(&mut self, observers: &mut Observers, sampler: &mut Option<&mut dyn Sampler>) -> bool {
        let frozen = self.model().valid();
        let is_best = self.validate(&frozen, observers);
        if let (Some(sampler), Network::Gpt(frozen)) = (sampler, &frozen) {
            let step = self.progress.step;
            match sampler.sample(frozen, &self.tokenizer, step) {
                Ok(text) => observers.notify(&Event::Sample { step, text }),
                Err(why) => observers.notify(&Event::Note(format!("no sample: {why}"))),
            }
        }
        is_best
    }

    /// Whether `frozen`, the model outside autodiff, is the best so far on the validation rows, if there are any.
    fn validate(&mut self, frozen: &Network, observers: &mut Observers) -> bool {
        let Some(rows) = &self.validation else { return false };
        let (step, settings) = (self.progress.step, &self.config.train);
        let clock = Instant::now();
        let device = self.device.clone().inner();
        let batches = rows.batches(settings.micro_batch_size);
        let result = in_thread_pool(&device, || evaluate_network(frozen, batches, settings.precision.into(), &device));
        let (labels, threshold) = (self.model_config.labels(), self.model_config.threshold());
        let report = result.predictions.as_ref().and_then(|answers| answers.report(labels, threshold).ok());
        let metrics = metrics(&result, self.plan.terms, report.as_ref());
        // Where a text may have several labels it is the share of texts with exactly these.
        let accuracy = metrics.get("accuracy").copied().unwrap_or(result.accuracy);
        let name = settings.best_metric.as_str();
        let value = match name {
            "loss" => result.loss,
            "perplexity" => result.perplexity(),
            "accuracy" => accuracy,
            name => metrics.get(name).copied().unwrap_or(f64::NAN),
        };
        if value.is_nan() && result.loss.is_finite() {
            observers.notify(&Event::Note(format!("this evaluation has no `train.best_metric` = \"{name}\"")));
        }
        let better = |best: &Best| match higher_is_better(name) {
            Some(true) => value > best.metric,
            _ => value < best.metric,
        };
        let best = value.is_finite() && self.progress.best.as_ref().is_none_or(better);
        if best && let Some(PredictionReport::Classes(report)) = &report {
            let title = format!("step {step}, validation");
            if let Err(error) = save_confusion(report, &title, &settings.output_dir) {
                observers.notify(&Event::Note(format!("no picture of the confusion matrix: {error}")));
            }
        }
        if best {
            self.progress.best = Some(Best { step, metric: value });
        }
        observers.notify(&Event::Evaluated(EvalReport {
            step,
            loss: result.loss,
            perplexity: result.perplexity(),
            accuracy,
            tokens: result.tokens,
            metrics,
            best,
            elapsed: self.progress.elapsed + clock.elapsed(),
        }));
        best
    }
}

/// An evaluation's figures by name: those of a classifier's `report`, and each of several loss `terms`' own.
fn metrics(result: &Evaluation, terms: &[&str], report: Option<&PredictionReport>) -> BTreeMap<String, f64> {
    let mut metrics = report.map(Report::metrics).unwrap_or_default();
    if let [_, _, ..] = terms {
        for (name, term) in terms.iter().zip(&result.terms) {
            metrics.insert(format!("{name}_loss"), term.loss);
            metrics.insert(format!("{name}_accuracy"), term.accuracy);
        }
    }
    metrics
}
