//! The learning rate of each step.

use crate::config::{DecayConfig, ScheduleConfig};
use std::f64::consts::PI;

/// The learning rate as a function of the step.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    config: ScheduleConfig,
    peak: f64,
    total_steps: u64,
}

impl Schedule {
    /// A schedule that peaks at `peak` and, where the config says no other length, decays over `total_steps`.
    pub fn new(config: ScheduleConfig, peak: f64, total_steps: u64) -> Self {
        Self { config, peak, total_steps }
    }

    /// The learning rate of step `step`, counted from 0.
    ///
    /// Warm-up rises linearly and reaches the peak at its last step: step s of w has (s + 1) / w of it, so that
    /// no step is wasted on a rate of zero. Decay ends on `min_lr` and stays there.
    pub fn lr(&self, step: u64) -> f64 {
        let (warmup, decay) = match &self.config {
            ScheduleConfig::Constant(constant) => (constant.warmup_steps, None),
            ScheduleConfig::Linear(decay) => (decay.warmup_steps, Some((decay, (|done| 1.0 - done) as fn(f64) -> f64))),
            ScheduleConfig::Cosine(decay) => {
                (decay.warmup_steps, Some((decay, (|done| 0.5 * (1.0 + (PI * done).cos())) as fn(f64) -> f64)))
            }
        };
        if step < warmup {
            return self.peak * (step + 1) as f64 / warmup as f64;
        }
        match decay {
            None => self.peak,
            Some((decay, left)) => decay.min_lr + left(self.decayed(step, decay)) * (self.peak - decay.min_lr),
        }
    }

    /// The share of the decay that is behind `step`, 0 to 1.
    fn decayed(&self, step: u64, decay: &DecayConfig) -> f64 {
        let end = decay.decay_steps.unwrap_or(self.total_steps);
        let length = end.saturating_sub(decay.warmup_steps).max(1);
        ((step - decay.warmup_steps) as f64 / length as f64).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConstantConfig;

    fn decay(warmup_steps: u64, decay_steps: Option<u64>) -> DecayConfig {
        DecayConfig { warmup_steps, min_lr: 0.1, decay_steps }
    }

    #[test]
    fn warmup_rises_to_the_peak_and_never_starts_at_zero() {
        for config in [
            ScheduleConfig::Constant(ConstantConfig { warmup_steps: 4 }),
            ScheduleConfig::Linear(decay(4, None)),
            ScheduleConfig::Cosine(decay(4, None)),
        ] {
            let schedule = Schedule::new(config, 1.0, 100);
            let rates: Vec<f64> = (0..5).map(|step| schedule.lr(step)).collect();
            assert_eq!(rates, [0.25, 0.5, 0.75, 1.0, 1.0]);
        }
    }

    #[test]
    fn cosine_passes_the_middle_half_way_and_ends_on_the_minimum() {
        let schedule = Schedule::new(ScheduleConfig::Cosine(decay(0, None)), 1.0, 100);
        assert!((schedule.lr(50) - 0.55).abs() < 1e-12);
        assert!((schedule.lr(25) - (0.1 + 0.9 * 0.5 * (1.0 + (PI / 4.0).cos()))).abs() < 1e-12);
        assert!((schedule.lr(100) - 0.1).abs() < 1e-12);
        assert!((schedule.lr(1000) - 0.1).abs() < 1e-12);
    }

    #[test]
    fn linear_falls_evenly_over_the_steps_it_is_given() {
        let schedule = Schedule::new(ScheduleConfig::Linear(decay(10, Some(30))), 1.0, 1000);
        assert!((schedule.lr(20) - 0.55).abs() < 1e-12);
        assert!((schedule.lr(30) - 0.1).abs() < 1e-12);
    }

    #[test]
    fn constant_stays() {
        let schedule = Schedule::new(ScheduleConfig::Constant(ConstantConfig { warmup_steps: 0 }), 0.3, 10);
        assert_eq!((schedule.lr(0), schedule.lr(99)), (0.3, 0.3));
    }
}
