//! One class an example.

use serde::{Deserialize, Serialize};

use super::table::{Row, table};
use super::{
    Averages, Counts, InvalidPredictions, MACRO, MICRO, NamedScores, Report, SCORES, Scores, WEIGHTED, ratio, roc_auc,
    same_length,
};

/// Figures of a classifier that gives every example one class.
///
/// Averages leave out a class that neither occurs nor was predicted, as scikit-learn does when it is not told of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassReport {
    /// Examples that the figures are taken over.
    pub examples: u64,
    /// Share of examples whose class was predicted.
    pub accuracy: f64,
    /// Precision, mean over classes.
    pub precision: f64,
    /// Recall, mean over classes; also called balanced accuracy.
    pub recall: f64,
    /// F1, mean over classes.
    pub f1: f64,
    /// The scores from counts over all classes.
    pub micro: Scores,
    /// The scores' mean over classes weighted by how often each occurs.
    pub weighted: Scores,
    /// Matthews correlation coefficient, -1 to 1, 0 for guessing. Source: Gorodkin 2004, for any number of classes.
    pub mcc: f64,
    /// Area under the receiver operating characteristic of the second of two classes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub roc_auc: Option<f64>,
    /// Mean negative logarithm of the true class's probability, in nats.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub log_loss: Option<f64>,
    /// Every class, in the order of the labels.
    pub per_class: Vec<NamedScores>,
    /// How often the class of the row was taken for the class of the column.
    pub confusion: Vec<Vec<u64>>,
}

impl ClassReport {
    /// Figures of `predicted` classes, counted from 0, against the `truth`. `probabilities`, if known, is row-major
    /// `[examples, classes]`.
    ///
    /// # Errors
    /// When lengths do not fit or a class has no label.
    pub fn new(
        labels: &[String],
        truth: &[usize],
        predicted: &[usize],
        probabilities: Option<&[f32]>,
    ) -> Result<Self, InvalidPredictions> {
        let classes = labels.len();
        let confusion = confusion_matrix(classes, truth, predicted)?;
        let counts: Vec<Counts> = (0..classes)
            .map(|class| Counts {
                right: confusion[class][class],
                predicted: confusion.iter().map(|row| row[class]).sum(),
                support: confusion[class].iter().sum(),
            })
            .collect();
        let seen: Vec<Counts> = counts.iter().copied().filter(|class| class.predicted + class.support > 0).collect();
        let Averages { macro_, micro, weighted } = Averages::of(&seen);
        let (mut area, mut loss) = (None, None);
        if let Some(probabilities) = probabilities {
            loss = Some(log_loss(classes, truth, probabilities)?);
            if classes == 2 {
                let truth: Vec<bool> = truth.iter().map(|&class| class == 1).collect();
                let scores: Vec<f64> = probabilities.iter().skip(1).step_by(2).map(|&p| f64::from(p)).collect();
                area = roc_auc(&truth, &scores);
            }
        }
        Ok(Self {
            examples: truth.len() as u64,
            accuracy: ratio(seen.iter().map(|class| class.right).sum::<u64>() as f64, truth.len() as f64),
            precision: macro_.precision,
            recall: macro_.recall,
            f1: macro_.f1,
            micro,
            weighted,
            mcc: matthews_correlation(&confusion),
            roc_auc: area,
            log_loss: loss,
            per_class: counts.iter().zip(labels).map(|(class, label)| class.named(label)).collect(),
            confusion,
        })
    }

    /// The scores' mean over classes.
    fn macro_(&self) -> Scores {
        Scores { precision: self.precision, recall: self.recall, f1: self.f1 }
    }

    /// The report for a terminal: at most `max_classes` classes, the worst first, then the averages.
    pub fn table(&self, max_classes: usize) -> String {
        let averages = [Row::mean("mean", self.macro_()), Row::mean("weighted mean", self.weighted)];
        let mut text = table("class", "classes", &self.per_class, max_classes, &averages);
        text += &format!("\naccuracy {:.3}   mcc {:.3}", self.accuracy, self.mcc);
        if let Some(area) = self.roc_auc {
            text += &format!("   roc auc {area:.3}");
        }
        if let Some(loss) = self.log_loss {
            text += &format!("   log loss {loss:.4}");
        }
        text + &format!("   ({} examples)\n", self.examples)
    }
}

impl Report for ClassReport {
    fn figures(&self) -> Vec<(&'static str, f64)> {
        let mut figures = vec![("accuracy", self.accuracy)];
        for (names, scores) in
            [(SCORES, self.macro_()), (MACRO, self.macro_()), (MICRO, self.micro), (WEIGHTED, self.weighted)]
        {
            figures.extend(scores.named(names));
        }
        figures.push(("mcc", self.mcc));
        figures.extend(self.roc_auc.map(|area| ("roc_auc", area)));
        figures.extend(self.log_loss.map(|loss| ("log_loss", loss)));
        figures
    }
}

/// How often the class of the row was taken for the class of the column.
///
/// # Errors
/// When lengths differ or a class is not below `classes`.
pub fn confusion_matrix(
    classes: usize,
    truth: &[usize],
    predicted: &[usize],
) -> Result<Vec<Vec<u64>>, InvalidPredictions> {
    same_length("predictions", predicted.len(), truth.len())?;
    if let Some(class) = truth.iter().chain(predicted).find(|&&class| class >= classes) {
        return Err(InvalidPredictions(format!("class {class} of {classes} (the first is 0) does not exist")));
    }
    let mut confusion = vec![vec![0; classes]; classes];
    for (&truth, &predicted) in truth.iter().zip(predicted) {
        confusion[truth][predicted] += 1;
    }
    Ok(confusion)
}

/// The Matthews correlation coefficient of a square confusion matrix; 0 where all truths or all predictions are the
/// same. Source: Gorodkin 2004, "Comparing two K-category assignments by a K-category correlation coefficient".
pub fn matthews_correlation(confusion: &[Vec<u64>]) -> f64 {
    let (mut all, mut right, mut both, mut truth_squared, mut predicted_squared) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (class, row) in confusion.iter().enumerate() {
        let truth = row.iter().sum::<u64>() as f64;
        let predicted = confusion.iter().map(|row| row.get(class).copied().unwrap_or(0)).sum::<u64>() as f64;
        all += truth;
        right += row.get(class).copied().unwrap_or(0) as f64;
        both += truth * predicted;
        truth_squared += truth * truth;
        predicted_squared += predicted * predicted;
    }
    let spread = (all * all - truth_squared) * (all * all - predicted_squared);
    ratio(right * all - both, spread.max(0.0).sqrt())
}

/// Mean negative logarithm of the true class's probability, in nats; 0 without examples, NaN with a NaN. A
/// probability counts as no less than `f32::EPSILON`. `probabilities` is row-major `[examples, classes]`.
///
/// # Errors
/// When lengths do not fit or a class is not below `classes`.
pub fn log_loss(classes: usize, truth: &[usize], probabilities: &[f32]) -> Result<f64, InvalidPredictions> {
    same_length("probabilities", probabilities.len(), truth.len() * classes)?;
    let mut sum = 0.0;
    for (row, &class) in truth.iter().enumerate() {
        if class >= classes {
            return Err(InvalidPredictions(format!("class {class} of {classes} (the first is 0) does not exist")));
        }
        let probability = f64::from(probabilities[row * classes + class]);
        // Not `max`, which would hide a NaN.
        let least = f64::from(f32::EPSILON);
        sum -= if probability < least { least.ln() } else { probability.ln() };
    }
    Ok(ratio(sum, truth.len() as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_class_that_never_occurs_is_listed_but_not_averaged() {
        let report = ClassReport::new(&labels(&["a", "b", "c"]), &[0, 0, 1], &[0, 1, 1], None).unwrap();
        assert_eq!(report.per_class.len(), 3);
        assert!((report.f1 - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(report.confusion, [[1, 1, 0], [0, 1, 0], [0, 0, 0]]);
    }

    #[test]
    fn no_examples_give_zeros_and_nan_probabilities_give_no_figure() {
        let empty = ClassReport::new(&labels(&["a", "b"]), &[], &[], Some(&[])).unwrap();
        assert_eq!((empty.accuracy, empty.f1, empty.mcc, empty.roc_auc), (0.0, 0.0, 0.0, None));
        assert!(!empty.table(10).contains("NaN"));
        assert!(ClassReport::new(&[], &[], &[], None).unwrap().table(0).contains("0 examples"));
        let nan = ClassReport::new(&labels(&["a", "b"]), &[0, 1], &[0, 1], Some(&[f32::NAN; 4])).unwrap();
        assert_eq!((nan.metric("roc_auc"), nan.metric("log_loss"), nan.metric("f1")), (None, None, Some(1.0)));
    }

    #[test]
    fn what_does_not_fit_together_is_an_error_that_says_so() {
        let error = |truth: &[usize], predicted: &[usize], probabilities: Option<&[f32]>| {
            ClassReport::new(&labels(&["a", "b"]), truth, predicted, probabilities).unwrap_err().to_string()
        };
        assert_eq!(error(&[0], &[], None), "0 predictions, but 1 are needed");
        assert_eq!(error(&[0], &[2], None), "class 2 of 2 (the first is 0) does not exist");
        assert_eq!(error(&[0], &[1], Some(&[0.5])), "1 probabilities, but 2 are needed");
    }

    #[test]
    fn a_certain_mistake_costs_a_finite_loss() {
        let loss = log_loss(2, &[0], &[0.0, 1.0]).unwrap();
        assert!((loss + f64::from(f32::EPSILON).ln()).abs() < 1e-12);
    }

    #[test]
    fn a_report_is_read_back_from_its_json() {
        let report = ClassReport::new(&labels(&["a", "b"]), &[0, 1, 1], &[0, 1, 0], None).unwrap();
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["per_class"][1]["recall"], 0.5);
        assert_eq!(json["confusion"][1][0], 1);
        assert!(json.get("roc_auc").is_none());
        assert_eq!(serde_json::from_value::<ClassReport>(json).unwrap(), report);
    }
}
