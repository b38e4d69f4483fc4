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
    tokens: f64,
    /// The mean loss and the square of the gradient's norm, each `[1]`.
    loss: Tensor<1>,
    squared_norm: Tensor<1>,
}

/// A step's figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figures {
    /// The optimizer step, counted from 1.
    pub step: u64,
    /// Tokens trained on.
    pub tokens: f64,
    /// Their mean loss, in nats.
    pub loss: f64,
    /// The gradient's norm before clipping.
    pub norm: f64,
}

impl Figures {
    /// What of a step is not finite, if anything is.
    pub fn not_finite(&self) -> Option<&'static str> {
        match (self.loss.is_finite(), self.norm.is_finite()) {
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
    /// Remembers to read a step's mean loss and the square of its gradient's norm, each `[1]`.
    pub fn push(&mut self, step: u64, tokens: f64, loss: Tensor<1>, squared_norm: Tensor<1>) {
        self.waiting.push(Reading { step, tokens, loss, squared_norm });
    }

    /// Whether so many steps wait that a run which diverged should be noticed.
    pub fn are_due(&self) -> bool {
        self.waiting.len() >= MOST_WAITING
    }

    /// The figures of the last step; waits for the device.
    pub fn latest(&mut self) -> Option<Figures> {
        self.read();
        self.read.last().copied()
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
        let of_steps = waiting.iter().flat_map(|reading| [reading.loss.clone(), reading.squared_norm.clone()]);
        let values: Vec<f64> = Tensor::cat(of_steps.collect(), 0).into_data().iter::<f64>().collect();
        self.read.extend(waiting.iter().zip(values.chunks_exact(2)).map(|(reading, values)| Figures {
            step: reading.step,
            tokens: reading.tokens,
            loss: values[0],
            norm: values[1].sqrt(),
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
        readings.push(7, 10.0, number(2.5), number(9.0));
        readings.push(8, 20.0, number(f32::NAN), number(4.0));
        readings.push(9, 20.0, number(1.0), number(f32::INFINITY));
        assert!(!readings.are_due());
        assert_eq!(readings.latest().map(|figures| figures.step), Some(9));
        let figures = readings.take();
        assert_eq!(figures[0], Figures { step: 7, tokens: 10.0, loss: 2.5, norm: 3.0 });
        assert_eq!(figures[0].not_finite(), None);
        assert_eq!((figures[1].step, figures[1].not_finite()), (8, Some("the loss")));
        assert_eq!(figures[2].not_finite(), Some("the norm of all gradients"));
        assert!(readings.take().is_empty());
    }
}
