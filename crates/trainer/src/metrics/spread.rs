//! Several runs as one figure.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Mean and standard deviation of a figure over folds or seeds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Mean of the values.
    pub mean: f64,
    /// Sample standard deviation (`n - 1`), which one value alone does not have.
    pub deviation: Option<f64>,
    /// How many values there are.
    pub values: usize,
}

impl Spread {
    /// Of values that are not NaN; `None` where none is left.
    pub fn of(values: &[f64]) -> Option<Self> {
        let values: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
        let deviation = (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt());
        (!values.is_empty()).then_some(Self { mean, deviation, values: values.len() })
    }
}

/// `0.912 ± 0.013`, with as many decimals as asked for, by default 3.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let decimals = f.precision().unwrap_or(3);
        write!(f, "{:.decimals$}", self.mean)?;
        self.deviation.map_or(Ok(()), |deviation| write!(f, " ± {deviation:.decimals$}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deviation_is_that_of_a_sample_and_one_value_has_none() {
        let spread = Spread::of(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0, f64::NAN]).unwrap();
        assert_eq!((spread.mean, spread.values), (5.0, 8));
        assert!((spread.deviation.unwrap() - (32.0f64 / 7.0).sqrt()).abs() < 1e-12);
        assert_eq!(format!("{spread:.2}"), "5.00 ± 2.14");
        assert_eq!(Spread::of(&[0.5]).unwrap().to_string(), "0.500");
        assert_eq!(Spread::of(&[]), None);
    }
}
