//! What a classifier answered, beside what is true, and the figures taken over it.

use crate::metrics::{ClassReport, InvalidPredictions, MultiLabelReport, Report, TagReport, ValueReport};
use crate::network::TermSums;
use serde::Serialize;

/// What a classifier answered, beside what is true.
#[derive(Clone, Debug, PartialEq)]
pub enum Predictions {
    /// One class a row.
    Classes {
        /// Each row's class.
        truth: Vec<usize>,
        /// `[rows, classes]`.
        probabilities: Vec<f32>,
    },
    /// Any number of labels a row.
    Labels {
        /// Whether each label holds, `[rows, labels]`.
        truth: Vec<bool>,
        /// `[rows, labels]`.
        probabilities: Vec<f32>,
    },
    /// A number a row.
    Values {
        /// Each row's number.
        truth: Vec<f64>,
        /// What was predicted.
        values: Vec<f64>,
    },
    /// A tag for each word of a row.
    Tags {
        /// Each row's tags, by id.
        truth: Vec<Vec<usize>>,
        /// What was predicted.
        predicted: Vec<Vec<usize>>,
    },
}

impl Predictions {
    /// Whether each label holds, by the sigmoids of `logits`, with the loss and the weight of the labels that are right.
    ///
    /// # Shapes
    /// - `truth`, `logits`: `[rows, labels]`; `weights`: `[rows]`
    pub(crate) fn labels(truth: &[f32], logits: &[f32], weights: &[f32]) -> (TermSums, Option<Self>) {
        let width = truth.len() / weights.len().max(1);
        let probabilities: Vec<f64> = logits.iter().map(|logit| 1.0 / (1.0 + f64::from(-logit).exp())).collect();
        let mut sums = TermSums::default();
        for (index, (truth, logit)) in truth.iter().zip(logits).enumerate() {
            // log(1 + exp(-x)), which is also right far out.
            let x = f64::from(if *truth > 0.5 { *logit } else { -logit });
            let share = f64::from(weights[index / width]) / width as f64;
            sums.loss += share * ((-x.abs()).exp().ln_1p() + (-x).max(0.0));
            sums.correct += if x > 0.0 { share } else { 0.0 };
        }
        let truth = truth.iter().map(|truth| *truth > 0.5).collect();
        let probabilities = probabilities.into_iter().map(|p| p as f32).collect();
        (sums, Some(Self::Labels { truth, probabilities }))
    }

    /// Numbers, with the squared error.
    pub(crate) fn values(truth: &[f32], values: &[f32], weights: &[f32]) -> (TermSums, Option<Self>) {
        let [truth, values] = [truth, values].map(|of| of.iter().map(|value| f64::from(*value)).collect::<Vec<_>>());
        let loss = truth.iter().zip(&values).zip(weights).map(|((a, b), weight)| f64::from(*weight) * (a - b).powi(2));
        // No number is right or wrong.
        (TermSums { loss: loss.sum(), correct: f64::NAN }, Some(Self::Values { truth, values }))
    }

    /// The tags of words, in order; those of one of `rows` are a sequence.
    pub(crate) fn tags<R: PartialEq>(rows: impl Iterator<Item = R>, truth: &[u32], predicted: &[usize]) -> Self {
        let (mut of_truth, mut of_predicted) = (Vec::<Vec<usize>>::new(), Vec::<Vec<usize>>::new());
        let mut last = None;
        for ((row, truth), predicted) in rows.zip(truth).zip(predicted) {
            if last.as_ref() != Some(&row) {
                last = Some(row);
                of_truth.push(Vec::new());
                of_predicted.push(Vec::new());
            }
            if let (Some(a), Some(b)) = (of_truth.last_mut(), of_predicted.last_mut()) {
                a.push(*truth as usize);
                b.push(*predicted);
            }
        }
        Self::Tags { truth: of_truth, predicted: of_predicted }
    }

    /// Adds the predictions for more rows of the same kind; those of another kind are left out.
    pub fn extend(&mut self, other: Self) {
        match (self, other) {
            (Self::Classes { truth, probabilities }, Self::Classes { truth: t, probabilities: p }) => {
                truth.extend(t);
                probabilities.extend(p);
            }
            (Self::Labels { truth, probabilities }, Self::Labels { truth: t, probabilities: p }) => {
                truth.extend(t);
                probabilities.extend(p);
            }
            (Self::Values { truth, values }, Self::Values { truth: t, values: v }) => {
                truth.extend(t);
                values.extend(v);
            }
            (Self::Tags { truth, predicted }, Self::Tags { truth: t, predicted: p }) => {
                truth.extend(t);
                predicted.extend(p);
            }
            _ => {}
        }
    }

    /// The figures; `labels` names the classes, and from `threshold` on a label of several counts as given.
    ///
    /// # Errors
    /// Labels that do not fit.
    pub fn report(&self, labels: &[String], threshold: f32) -> Result<PredictionReport, InvalidPredictions> {
        Ok(match self {
            Self::Classes { truth, probabilities } => {
                let predicted: Vec<usize> = probabilities.chunks_exact(labels.len().max(1)).map(best).collect();
                PredictionReport::Classes(ClassReport::new(labels, truth, &predicted, Some(probabilities))?)
            }
            Self::Labels { truth, probabilities } => {
                PredictionReport::Labels(MultiLabelReport::new(labels, truth, probabilities, threshold)?)
            }
            Self::Values { truth, values } => PredictionReport::Values(ValueReport::new(truth, values)?),
            Self::Tags { truth, predicted } => {
                let named = |rows: &[Vec<usize>]| -> Vec<Vec<&str>> {
                    let name = |id: &usize| labels.get(*id).map_or("O", String::as_str);
                    rows.iter().map(|row| row.iter().map(name).collect()).collect()
                };
                PredictionReport::Tags(TagReport::new(&named(truth), &named(predicted))?)
            }
        })
    }
}

/// The place of the largest number, the first of several.
pub fn best(values: &[f32]) -> usize {
    (0..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

/// The figures of a classifier, whatever it answers.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum PredictionReport {
    /// Of one class a row.
    Classes(ClassReport),
    /// Of any number of labels a row.
    Labels(MultiLabelReport),
    /// Of a number a row.
    Values(ValueReport),
    /// Of a tag a word.
    Tags(TagReport),
}

impl PredictionReport {
    /// The report for a terminal: at most `most` classes, the worst first.
    pub fn table(&self, most: usize) -> String {
        match self {
            Self::Classes(report) => report.table(most),
            Self::Labels(report) => report.table(most),
            Self::Values(report) => report.table(),
            Self::Tags(report) => report.table(most),
        }
    }
}

impl Report for PredictionReport {
    fn figures(&self) -> Vec<(&'static str, f64)> {
        match self {
            Self::Classes(report) => report.figures(),
            Self::Labels(report) => report.figures(),
            Self::Values(report) => report.figures(),
            Self::Tags(report) => report.figures(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_one_row_become_one_sequence() {
        let tags = Predictions::tags([0, 0, 2, 2, 2, 3].into_iter(), &[1, 2, 0, 0, 1, 2], &[1, 1, 0, 0, 1, 0]);
        let expected = Predictions::Tags {
            truth: vec![vec![1, 2], vec![0, 0, 1], vec![2]],
            predicted: vec![vec![1, 1], vec![0, 0, 1], vec![0]],
        };
        assert_eq!(tags, expected);
        let labels = ["O", "B-A", "I-A"].map(String::from);
        let PredictionReport::Tags(report) = tags.report(&labels, 0.5).unwrap() else { panic!("of tags") };
        assert_eq!(report.tokens, 6);
        assert!((report.accuracy - 4.0 / 6.0).abs() < 1e-9);
    }

    #[test]
    fn the_loss_of_labels_is_the_mean_over_them_also_far_out() {
        let (sums, _) = Predictions::labels(&[1.0, 0.0, 1.0, 0.0], &[0.0, 0.0, -800.0, -800.0], &[2.0, 1.0]);
        let expected = 2.0 * std::f64::consts::LN_2 + 800.0 / 2.0;
        assert!((sums.loss - expected).abs() < 1e-9, "{}", sums.loss);
        assert!((sums.correct - 0.5).abs() < 1e-9);
    }
}
