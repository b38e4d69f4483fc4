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
use std::time::{Duration, Instant};

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
        if !result.has_targets() {
            let message = "no evaluation: no token of the validation rows was chosen to be guessed";
            observers.notify(&Event::Note(message.into()));
            return false;
        }
        let (labels, threshold) = (self.model_config.labels(), self.model_config.threshold());
        let report = result.predictions.as_ref().and_then(|answers| answers.report(labels, threshold).ok());
        let mut evaluated = eval_report(step, &result, self.plan.terms, report.as_ref());
        let name = settings.best_metric.as_str();
        let value = evaluated.figure(name);
        if value.is_none() && result.loss.is_finite() {
            observers.notify(&Event::Note(format!("this evaluation has no `train.best_metric` = \"{name}\"")));
        }
        let better = |value: f64, best: &Best| match higher_is_better(name) {
            Some(true) => value > best.metric,
            _ => value < best.metric,
        };
        let best = value.filter(|value| self.progress.best.as_ref().is_none_or(|best| better(*value, best)));
        if best.is_some()
            && let Some(PredictionReport::Classes(report)) = &report
        {
            let title = format!("step {step}, validation");
            if let Err(error) = save_confusion(report, &title, &settings.output_dir) {
                observers.notify(&Event::Note(format!("no picture of the confusion matrix: {error}")));
            }
        }
        if let Some(metric) = best {
            self.progress.best = Some(Best { step, metric });
        }
        evaluated.best = best.is_some();
        evaluated.elapsed = self.progress.elapsed + clock.elapsed();
        observers.notify(&Event::Evaluated(evaluated));
        best.is_some()
    }
}

/// The figures of an evaluation at `step`, of which nothing is known yet about being the best and how long it took.
fn eval_report(step: u64, result: &Evaluation, terms: &[&str], report: Option<&PredictionReport>) -> EvalReport {
    let metrics = metrics(result, terms, report);
    EvalReport {
        step,
        loss: result.loss,
        perplexity: (!matches!(report, Some(PredictionReport::Values(_)))).then(|| result.perplexity()),
        // Where a text may have several labels it is the share of texts with exactly these.
        accuracy: metrics.get("accuracy").copied().unwrap_or(result.accuracy),
        tokens: result.tokens,
        metrics,
        best: false,
        elapsed: Duration::ZERO,
    }
}

/// An evaluation's figures by name: those of a classifier's `report`, and each of several loss `terms`' own.
fn metrics(result: &Evaluation, terms: &[&str], report: Option<&PredictionReport>) -> BTreeMap<String, f64> {
    let mut metrics = report.map(Report::metrics).unwrap_or_default();
    if let [_, _, ..] = terms {
        for (name, term) in terms.iter().zip(&result.terms).filter(|(_, term)| term.weight > 0.0) {
            metrics.insert(format!("{name}_loss"), term.loss);
            metrics.insert(format!("{name}_accuracy"), term.accuracy);
        }
    }
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::TermFigures;
    use crate::metrics::Task;
    use crate::predictions::Predictions;

    /// What an evaluation of the task answers, some of it right.
    fn predictions(task: Task) -> Option<Predictions> {
        match task {
            Task::Language => None,
            Task::SingleLabel => {
                Some(Predictions::Classes { truth: vec![0, 1, 1], probabilities: vec![0.9, 0.1, 0.2, 0.8, 0.6, 0.4] })
            }
            Task::MultiLabel => Some(Predictions::Labels { truth: vec![true, false], probabilities: vec![0.9, 0.8] }),
            Task::Regression => Some(Predictions::Values { truth: vec![1.0, 2.0, 4.0], values: vec![1.0, 3.0, 3.5] }),
            Task::Tagging => Some(Predictions::Tags { truth: vec![vec![0, 1]], predicted: vec![vec![1, 1]] }),
        }
    }

    fn evaluated(task: Task) -> EvalReport {
        let accuracy = if task == Task::Regression { f64::NAN } else { 0.5 };
        let term = TermFigures { weight: 3.0, loss: 0.5, accuracy };
        let predictions = predictions(task);
        let report = predictions.as_ref().map(|answers| answers.report(&["O", "B-A"].map(String::from), 0.5).unwrap());
        let result = Evaluation { loss: 0.5, accuracy, tokens: 3, terms: vec![term], predictions };
        eval_report(1, &result, &["term"], report.as_ref())
    }

    #[test]
    fn every_figure_of_a_task_is_reported_and_has_a_direction() {
        for task in [Task::Language, Task::SingleLabel, Task::MultiLabel, Task::Regression, Task::Tagging] {
            let figures = evaluated(task).figures();
            let mut listed = task.figures();
            for name in &listed {
                assert!(figures.contains_key(*name), "{task:?} has no {name}");
                assert!(higher_is_better(name).is_some(), "{name}");
            }
            listed.sort_unstable();
            assert!(figures.keys().eq(&listed), "{task:?} reports {figures:?}, but lists {listed:?}");
        }
    }

    #[test]
    fn a_squared_error_has_no_perplexity() {
        let json = serde_json::to_string(&evaluated(Task::Regression)).unwrap();
        assert!(!json.contains("perplexity"), "{json}");
    }
}
