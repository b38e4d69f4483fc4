//! Dynamic loss scaling, so that small gradients survive in f16.

use serde_json::{Value, json};

/// The scale that f16 losses start from.
const INITIAL: f64 = 65536.0;
/// Steps without overflow after which the scale doubles.
const GROWTH_INTERVAL: u32 = 2000;

/// The factor by which the loss is multiplied before the backward pass, and the gradient divided after it.
///
/// Source: Micikevicius et al. 2018, section 3.2, with the numbers of PyTorch's `torch.amp.GradScaler`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossScale {
    scale: f64,
    /// Steps since the scale last changed.
    good_steps: u32,
}

impl Default for LossScale {
    fn default() -> Self {
        Self { scale: INITIAL, good_steps: 0 }
    }
}

impl LossScale {
    /// The factor.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Takes note of a step whose gradient was finite, or of one that overflowed and was left out.
    ///
    /// The scale halves with each overflow and doubles after 2000 steps without one; it stays a power of two, by which
    /// multiplying and dividing is exact. Returns whether it changed.
    pub fn update(&mut self, finite: bool) -> bool {
        let before = self.scale;
        if !finite {
            *self = Self { scale: self.scale / 2.0, good_steps: 0 };
        } else if self.good_steps + 1 == GROWTH_INTERVAL {
            *self = Self { scale: (self.scale * 2.0).min(2f64.powi(40)), good_steps: 0 };
        } else {
            self.good_steps += 1;
        }
        self.scale != before
    }

    /// Whether the scale has become so small that overflow cannot be its fault.
    pub fn exhausted(&self) -> bool {
        self.scale < 2f64.powi(-20)
    }

    /// For the training state.
    pub fn to_value(self) -> Value {
        json!({ "exponent": self.scale.log2() as i32, "good_steps": self.good_steps })
    }

    /// From a training state.
    pub fn from_value(value: &Value) -> Option<Self> {
        let exponent = value["exponent"].as_i64().filter(|exponent| (-60..=60).contains(exponent))?;
        let good_steps = value["good_steps"].as_u64().filter(|steps| *steps < GROWTH_INTERVAL as u64)?;
        Some(Self { scale: 2f64.powi(exponent as i32), good_steps: good_steps as u32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_halves_on_overflow_and_doubles_after_two_thousand_good_steps() {
        let mut scale = LossScale::default();
        assert!(scale.update(false));
        assert_eq!(scale.scale(), 32768.0);
        assert!((0..1999).all(|_| !scale.update(true)));
        assert!(scale.update(true));
        assert_eq!(scale.scale(), 65536.0);
        assert!(!scale.exhausted());
        (0..40).for_each(|_| {
            scale.update(false);
        });
        assert!(scale.exhausted());
    }

    #[test]
    fn the_scale_survives_a_training_state() {
        let mut scale = LossScale::default();
        scale.update(false);
        scale.update(true);
        assert_eq!(LossScale::from_value(&scale.to_value()), Some(scale));
        for damaged in
            [json!(null), json!({"exponent": 900, "good_steps": 0}), json!({"exponent": 3, "good_steps": 2000})]
        {
            assert_eq!(LossScale::from_value(&damaged), None);
        }
    }
}
