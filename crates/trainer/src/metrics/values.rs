//! A number an example.

use serde::{Deserialize, Serialize};

use super::{InvalidPredictions, Report, average_ranks, same_length};
use crate::event::null_is_nan;

/// Figures of a regression. Without examples, and where a figure is not defined, it is NaN.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValueReport {
    /// Examples that the figures are taken over.
    pub examples: u64,
    /// Mean squared error.
    #[serde(deserialize_with = "null_is_nan")]
    pub mse: f64,
    /// Square root of the mean squared error, in the unit of the values.
    #[serde(deserialize_with = "null_is_nan")]
    pub rmse: f64,
    /// Mean absolute error, in the unit of the values.
    #[serde(deserialize_with = "null_is_nan")]
    pub mae: f64,
    /// Share of the truths' variance that is explained: 1 is perfect, 0 as good as always saying their mean. Of
    /// constant truths it is 1 if all are met, else 0; of fewer than two it is not defined.
    #[serde(deserialize_with = "null_is_nan")]
    pub r2: f64,
    /// Correlation of the values.
    #[serde(deserialize_with = "null_is_nan")]
    pub pearson: f64,
    /// Correlation of the values' ranks.
    #[serde(deserialize_with = "null_is_nan")]
    pub spearman: f64,
}

impl ValueReport {
    /// Figures of `predicted` values against the `truth`.
    ///
    /// # Errors
    /// When lengths differ.
    pub fn new(truth: &[f64], predicted: &[f64]) -> Result<Self, InvalidPredictions> {
        same_length("predictions", predicted.len(), truth.len())?;
        let errors = || truth.iter().zip(predicted).map(|(truth, predicted)| truth - predicted);
        let examples = truth.len() as f64;
        let squares: f64 = errors().map(|error| error * error).sum();
        let mse = squares / examples;
        let mean = mean(truth);
        let variation: f64 = truth.iter().map(|value| (value - mean) * (value - mean)).sum();
        let r2 = match truth {
            [] | [_] => f64::NAN,
            _ if variation == 0.0 => f64::from(u8::from(squares == 0.0)),
            _ => 1.0 - squares / variation,
        };
        Ok(Self {
            examples: truth.len() as u64,
            mse,
            rmse: mse.sqrt(),
            mae: errors().map(f64::abs).sum::<f64>() / examples,
            r2,
            pearson: pearson(truth, predicted),
            spearman: spearman(truth, predicted),
        })
    }

    /// The report for a terminal.
    pub fn table(&self) -> String {
        let shown = |value: f64| if value.is_nan() { "-".to_owned() } else { format!("{value:.4}") };
        let [rmse, mae, r2, pearson, spearman] = [self.rmse, self.mae, self.r2, self.pearson, self.spearman].map(shown);
        let examples = self.examples;
        format!("rmse {rmse}   mae {mae}   r² {r2}   pearson {pearson}   spearman {spearman}   ({examples} examples)\n")
    }
}

impl Report for ValueReport {
    fn figures(&self) -> Vec<(&'static str, f64)> {
        vec![
            ("mse", self.mse),
            ("rmse", self.rmse),
            ("mae", self.mae),
            ("r2", self.r2),
            ("pearson", self.pearson),
            ("spearman", self.spearman),
        ]
    }
}

/// Pearson's correlation coefficient; NaN where one side is constant or there are fewer than two pairs.
pub fn pearson(a: &[f64], b: &[f64]) -> f64 {
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut both, mut variation_a, mut variation_b) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        both += (a - mean_a) * (b - mean_b);
        variation_a += (a - mean_a) * (a - mean_a);
        variation_b += (b - mean_b) * (b - mean_b);
    }
    // Rooted one by one, so that their product cannot overflow; rounding must not lead past 1.
    let correlation: f64 = both / (f64::sqrt(variation_a) * f64::sqrt(variation_b));
    correlation.clamp(-1.0, 1.0)
}

/// Spearman's rank correlation, equal values sharing their mean rank; NaN where Pearson's of the ranks is, or where
/// a value is NaN.
pub fn spearman(a: &[f64], b: &[f64]) -> f64 {
    if a.iter().chain(b).any(|value| value.is_nan()) {
        return f64::NAN;
    }
    pearson(&average_ranks(a), &average_ranks(b))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_defined_is_null_in_json_and_no_metric() {
        for (truth, predicted) in [(vec![], vec![]), (vec![1.0], vec![2.0]), (vec![1.0, f64::NAN], vec![2.0, 1.0])] {
            let report = ValueReport::new(&truth, &predicted).unwrap();
            assert_eq!((report.metric("pearson"), report.metric("spearman"), report.metric("r2")), (None, None, None));
            let json = serde_json::to_string(&report).unwrap();
            assert!(json.contains("\"pearson\":null"), "{json}");
            assert!(serde_json::from_str::<ValueReport>(&json).unwrap().pearson.is_nan());
            let table = report.table();
            assert!(table.contains("r² -   pearson -   spearman -   (") && !table.contains("NaN"), "{table}");
        }
        assert!(ValueReport::new(&[1.0], &[]).is_err());
    }

    #[test]
    fn of_constant_truths_only_a_perfect_prediction_explains_all() {
        assert_eq!(ValueReport::new(&[2.0, 2.0], &[2.0, 2.0]).unwrap().r2, 1.0);
        assert_eq!(ValueReport::new(&[2.0, 2.0], &[2.0, 3.0]).unwrap().r2, 0.0);
    }
}
