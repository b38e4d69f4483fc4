//! Any number of labels an example.

use serde::{Deserialize, Serialize};

use super::table::{Row, table};
use super::{
    Averages, Counts, InvalidPredictions, MACRO, MICRO, NamedScores, Report, SCORES, Scores, WEIGHTED, ratio,
    same_length,
};

/// Figures of a classifier that gives every example each label whose probability reaches a threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MultiLabelReport {
    /// Examples that the figures are taken over.
    pub examples: u64,
    /// The least probability at which a label is given.
    pub threshold: f64,
    /// Share of examples that got exactly their labels: subset accuracy.
    pub accuracy: f64,
    /// Share of single decisions, label by label, that are wrong.
    pub hamming_loss: f64,
    /// Precision, mean over labels.
    pub precision: f64,
    /// Recall, mean over labels.
    pub recall: f64,
    /// F1, mean over labels.
    pub f1: f64,
    /// The scores from counts over all labels.
    pub micro: Scores,
    /// The scores' mean over labels weighted by how often each occurs.
    pub weighted: Scores,
    /// Every label, in order.
    pub per_label: Vec<NamedScores>,
}

impl MultiLabelReport {
    /// Figures of `probabilities` against the `truth`, both row-major `[examples, labels]`. A NaN gives no label.
    ///
    /// # Errors
    /// When lengths do not fit.
    pub fn new(
        labels: &[String],
        truth: &[bool],
        probabilities: &[f32],
        threshold: f32,
    ) -> Result<Self, InvalidPredictions> {
        same_length("probabilities", probabilities.len(), truth.len())?;
        let width = labels.len();
        let examples = truth.len().checked_div(width).unwrap_or(0);
        same_length("truths", truth.len(), examples * width)?;
        let mut counts = vec![Counts::default(); width];
        let (mut exact, mut wrong) = (0u64, 0u64);
        for example in 0..examples {
            let row = example * width..(example + 1) * width;
            let mistakes_before = wrong;
            for ((count, &truth), &probability) in counts.iter_mut().zip(&truth[row.clone()]).zip(&probabilities[row]) {
                let predicted = probability >= threshold;
                count.right += u64::from(truth && predicted);
                count.predicted += u64::from(predicted);
                count.support += u64::from(truth);
                wrong += u64::from(truth != predicted);
            }
            exact += u64::from(wrong == mistakes_before);
        }
        let Averages { macro_, micro, weighted } = Averages::of(&counts);
        Ok(Self {
            examples: examples as u64,
            threshold: f64::from(threshold),
            accuracy: ratio(exact as f64, examples as f64),
            hamming_loss: ratio(wrong as f64, truth.len() as f64),
            precision: macro_.precision,
            recall: macro_.recall,
            f1: macro_.f1,
            micro,
            weighted,
            per_label: counts.iter().zip(labels).map(|(count, label)| count.named(label)).collect(),
        })
    }

    /// The scores' mean over labels.
    fn macro_(&self) -> Scores {
        Scores { precision: self.precision, recall: self.recall, f1: self.f1 }
    }

    /// The report for a terminal: at most `max_labels` labels, the worst first, then the averages.
    pub fn table(&self, max_labels: usize) -> String {
        let averages = [Row::mean("mean", self.macro_()), Row::mean("over all", self.micro)];
        table("label", "labels", &self.per_label, max_labels, &averages)
            + &format!(
                "\nexactly right {:.3}   hamming loss {:.3}   threshold {}   ({} examples)\n",
                self.accuracy, self.hamming_loss, self.threshold as f32, self.examples
            )
    }
}

impl Report for MultiLabelReport {
    fn figures(&self) -> Vec<(&'static str, f64)> {
        let mut figures = vec![("accuracy", self.accuracy), ("hamming_loss", self.hamming_loss)];
        for (names, scores) in
            [(SCORES, self.macro_()), (MACRO, self.macro_()), (MICRO, self.micro), (WEIGHTED, self.weighted)]
        {
            figures.extend(scores.named(names));
        }
        figures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probability_at_the_threshold_gives_the_label_and_nan_does_not() {
        let labels = ["a".to_owned(), "b".to_owned()];
        let report = MultiLabelReport::new(&labels, &[true, false], &[0.5, f32::NAN], 0.5).unwrap();
        assert_eq!((report.accuracy, report.hamming_loss), (1.0, 0.0));
        assert!(MultiLabelReport::new(&labels, &[true], &[0.5], 0.5).is_err());
        assert!(MultiLabelReport::new(&labels, &[true, true], &[0.5], 0.5).is_err());
        assert_eq!(MultiLabelReport::new(&[], &[], &[], 0.5).unwrap().examples, 0);
    }
}
