//! Losses and norms that a device has been asked for but has not told yet.
//!
//! A reading waits for everything the device has been given before. Where that is a GPU, the readings of many steps are
//! therefore taken together, and the host prepares the next steps meanwhile.

use burn::tensor::Tensor;

/// Steps that wait to be read at most.
const MOST_WAITING: usize = 64;

/// What one step leaves to be read.
struct Reading {
    step: u64,
    weights: Vec<f64>,
    /// Each term's mean loss and the square of the gradient's norm, each `[1]`.
    terms: Vec<Tensor<1>>,
    squared_norm: Tensor<1>,
}

/// A step's figures.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Figures {
    /// The optimizer step, counted from 1.
    pub step: u64,
    /// Of each loss term: the weight of its targets, and their mean loss.
    pub terms: Vec<(f64, f64)>,
    /// The gradient's norm before clipping.
    pub norm: f64,
}

impl Figures {
    /// The sum of all terms' mean losses.
    pub fn loss(&self) -> f64 {
        self.terms.iter().map(|(_, loss)| loss).sum()
    }

    /// What of a step is not finite, if anything is.
    pub fn not_finite(&self) -> Option<&'static str> {
        match (self.loss().is_finite(), self.norm.is_finite()) {
            (false, _) => Some("the loss"),
            (true, false) => Some("the norm of all gradients"),
            (true, true) => None,
        }
    }
}

/// The steps whose figures nobody has taken yet.
#[derive(Default)]
pub(crate) struct Readings {
    waiting: Vec<Reading>,
    read: Vec<Figures>,
}

impl Readings {
    /// Remembers to read the mean loss of each of a step's terms, whose targets have these `weights`, and the square of
    /// its gradient's norm, each `[1]`.
    pub fn push(&mut self, step: u64, weights: Vec<f64>, terms: Vec<Tensor<1>>, squared_norm: Tensor<1>) {
        self.waiting.push(Reading { step, weights, terms, squared_norm });
    }

    /// Whether so many steps wait that a run which diverged should be noticed.
    pub fn are_due(&self) -> bool {
        self.waiting.len() >= MOST_WAITING
    }

    /// The figures of the last step; waits for the device.
    pub fn latest(&mut self) -> Option<Figures> {
        self.read();
        self.read.last().cloned()
    }

    /// The figures of every step since the last call; waits for the device.
    pub fn take(&mut self) -> Vec<Figures> {
        self.read();
        std::mem::take(&mut self.read)
    }

    /// Reads all that waits at one time.
    fn read(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.is_empty() {
            return;
        }
        let of_steps = waiting.iter().flat_map(|reading| reading.terms.iter().chain([&reading.squared_norm]).cloned());
        let values: Vec<f64> = Tensor::cat(of_steps.collect(), 0).into_data().iter::<f64>().collect();
        let mut values = values.into_iter();
        self.read.extend(waiting.into_iter().map(|reading| Figures {
            step: reading.step,
            terms: reading.weights.into_iter().zip(&mut values).collect(),
            norm: values.next().unwrap_or(f64::NAN).sqrt(),
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn each_step_gets_its_own_figures_and_only_once() {
        let number = |value: f32| Tensor::<1>::from_floats([value], &Device::flex());
        let mut readings = Readings::default();
        readings.push(7, vec![10.0, 2.0], vec![number(2.5), number(0.5)], number(9.0));
        readings.push(8, vec![20.0], vec![number(f32::NAN)], number(4.0));
        readings.push(9, vec![20.0], vec![number(1.0)], number(f32::INFINITY));
        assert!(!readings.are_due());
        assert_eq!(readings.latest().map(|figures| figures.step), Some(9));
        let figures = readings.take();
        assert_eq!(figures[0], Figures { step: 7, terms: vec![(10.0, 2.5), (2.0, 0.5)], norm: 3.0 });
        assert_eq!(figures[0].loss(), 3.0);
        assert_eq!(figures[0].not_finite(), None);
        assert_eq!((figures[1].step, figures[1].not_finite()), (8, Some("the loss")));
        assert_eq!(figures[2].not_finite(), Some("the norm of all gradients"));
        assert!(readings.take().is_empty());
    }
}
