//! Choosing the next token from its logits.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How the next token is chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingSettings {
    /// Divides the logits; 0 takes the most likely token.
    pub temperature: f64,
    /// Keeps only this many of the most likely tokens.
    pub top_k: Option<usize>,
    /// Keeps the fewest tokens whose probabilities reach this sum (Holtzman et al. 2020).
    pub top_p: Option<f64>,
    /// Seed of the choice; the same seed gives the same text.
    pub seed: u64,
}

impl Default for SamplingSettings {
    fn default() -> Self {
        Self { temperature: 0.8, top_k: None, top_p: None, seed: 1337 }
    }
}

/// Settings that choose nothing.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("{0}")]
pub struct SamplingError(String);

/// Chooses tokens, one after another.
#[derive(Debug)]
pub struct Sampler {
    settings: SamplingSettings,
    rng: ChaCha8Rng,
}

impl Sampler {
    /// # Errors
    /// A temperature below 0 or not finite, a `top_k` of 0, a `top_p` outside (0, 1].
    pub fn new(settings: SamplingSettings) -> Result<Self, SamplingError> {
        if !settings.temperature.is_finite() || settings.temperature < 0.0 {
            return Err(SamplingError(format!(
                "temperature is {}; hint: 0 is greedy, 1 samples as trained",
                settings.temperature
            )));
        }
        if settings.top_k == Some(0) {
            return Err(SamplingError("top-k is 0, which keeps no token; hint: leave it out to keep all".into()));
        }
        if settings.top_p.is_some_and(|p| !(p > 0.0 && p <= 1.0)) {
            return Err(SamplingError(format!(
                "top-p is {}; hint: more than 0, at most 1",
                settings.top_p.unwrap_or(0.0)
            )));
        }
        let rng = ChaCha8Rng::seed_from_u64(settings.seed);
        Ok(Self { settings, rng })
    }

    /// The next token for logits `[vocab]`. Ids whose logit is not a number are never taken.
    pub fn choose(&mut self, logits: &[f32]) -> u32 {
        let logit = |id: u32| logits[id as usize];
        let numbers = (0..logits.len() as u32).filter(|id| !logit(*id).is_nan());
        // The first of equals, as `argmax` everywhere.
        let best = numbers.clone().reduce(|best, id| if logit(id) > logit(best) { id } else { best });
        let Some(best) = best else { return 0 };
        let highest = f64::from(logit(best));
        if self.settings.temperature == 0.0 || highest.is_infinite() {
            return best;
        }
        let weight = |id: u32| ((f64::from(logit(id)) - highest) / self.settings.temperature).exp();
        let mut order = Descending { ids: numbers.collect(), sorted: 0, logits };
        if let Some(top_k) = self.settings.top_k {
            order.truncate(top_k);
        }
        let total: f64 = order.ids.iter().map(|id| weight(*id)).sum();
        let mut kept = total;
        if let Some(top_p) = self.settings.top_p {
            let (mut sum, mut count) = (0.0, 0);
            while count < order.ids.len() && (count == 0 || sum < top_p * total) {
                sum += weight(order.at(count));
                count += 1;
            }
            order.truncate(count);
            kept = sum;
        }
        let mut left = self.rng.random::<f64>() * kept;
        for place in 0..order.ids.len() {
            let id = order.at(place);
            left -= weight(id);
            if left < 0.0 {
                return id;
            }
        }
        // Rounding can leave a hair over: then it belongs to the last token kept.
        order.at(order.ids.len() - 1)
    }
}

/// Ids from the most likely to the least, sorted only as far as somebody looks.
struct Descending<'a> {
    ids: Vec<u32>,
    /// So many are in their places.
    sorted: usize,
    logits: &'a [f32],
}

impl Descending<'_> {
    /// The id at `place`, which exists.
    fn at(&mut self, place: usize) -> u32 {
        if place >= self.sorted {
            self.sort(place + 1);
        }
        self.ids[place]
    }

    /// Keeps the `count` most likely.
    fn truncate(&mut self, count: usize) {
        if count < self.ids.len() {
            self.sort(count);
            self.ids.truncate(count);
            self.sorted = self.sorted.min(count);
        }
    }

    /// Puts at least `count` of them into their places.
    fn sort(&mut self, count: usize) {
        let from = self.sorted;
        let more = count.max(2 * from).max(64).min(self.ids.len()) - from;
        let order = |a: &u32, b: &u32| self.logits[*b as usize].total_cmp(&self.logits[*a as usize]).then(a.cmp(b));
        let rest = &mut self.ids[from..];
        if more < rest.len() {
            rest.select_nth_unstable_by(more, order);
        }
        rest[..more].sort_unstable_by(order);
        self.sorted = from + more;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(temperature: f64, top_k: Option<usize>, top_p: Option<f64>) -> Sampler {
        Sampler::new(SamplingSettings { temperature, top_k, top_p, seed: 7 }).expect("valid")
    }

    fn shares(mut sampler: Sampler, logits: &[f32]) -> Vec<f64> {
        let mut counts = vec![0.0; logits.len()];
        for _ in 0..20_000 {
            counts[sampler.choose(logits) as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    #[test]
    fn greedy_takes_the_largest_and_the_first_of_equals() {
        assert_eq!(sampler(0.0, None, None).choose(&[0.0, 3.0, 3.0, 1.0]), 1);
    }

    #[test]
    fn tokens_come_as_often_as_their_probability_says() {
        let logits = [1.0f32, 2.0, 3.0];
        let total: f64 = logits.iter().map(|l| f64::from(*l).exp()).sum();
        for (share, logit) in shares(sampler(1.0, None, None), &logits).iter().zip(logits) {
            assert!((share - f64::from(logit).exp() / total).abs() < 0.015);
        }
    }

    #[test]
    fn temperature_sharpens() {
        let hot = shares(sampler(2.0, None, None), &[1.0, 2.0]);
        let expected = 1.0 / (1.0 + (-0.5f64).exp());
        assert!((hot[1] - expected).abs() < 0.015, "{hot:?}");
    }

    #[test]
    fn top_k_keeps_exactly_k() {
        let shares = shares(sampler(5.0, Some(2), None), &[1.0, 4.0, 3.0, 2.0]);
        assert!(shares[0] == 0.0 && shares[3] == 0.0 && shares[1] > 0.0 && shares[2] > 0.0);
    }

    #[test]
    fn top_p_keeps_the_fewest_tokens_that_reach_it() {
        let logits: Vec<f32> = [0.5f32, 0.3, 0.15, 0.05].iter().map(|p| p.ln()).collect();
        let shares = shares(sampler(1.0, None, Some(0.75)), &logits);
        assert!((shares[0] - 0.625).abs() < 0.015 && (shares[1] - 0.375).abs() < 0.015);
        assert_eq!(&shares[2..], [0.0, 0.0]);
    }

    /// The same with everything sorted first, as the definitions read.
    fn choose_from_all(sampler: &mut Sampler, logits: &[f32]) -> u32 {
        let SamplingSettings { temperature, top_k, top_p, .. } = sampler.settings;
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
        order.truncate(top_k.unwrap_or(usize::MAX));
        let highest = f64::from(logits[order[0] as usize]);
        let weights: Vec<f64> =
            order.iter().map(|id| ((f64::from(logits[*id as usize]) - highest) / temperature).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mut sum = 0.0;
        let reached = weights.iter().position(|weight| {
            sum += weight;
            top_p.is_some_and(|top_p| sum >= top_p * total)
        });
        let weights = &weights[..reached.map_or(weights.len(), |last| last + 1)];
        let mut left = sampler.rng.random::<f64>() * weights.iter().sum::<f64>();
        let drawn = weights.iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        order[drawn.unwrap_or(weights.len() - 1)]
    }

    #[test]
    fn sorting_only_what_is_looked_at_changes_no_choice() {
        let logits: Vec<f32> = (0..5000).map(|i| ((i * 7919) % 5003) as f32 / 900.0 + (i % 3) as f32).collect();
        for temperature in [0.3, 1.0, 30.0] {
            for (top_k, top_p) in [(None, None), (Some(300), None), (None, Some(0.9)), (Some(70), Some(0.5))] {
                let (mut ours, mut plain) = (sampler(temperature, top_k, top_p), sampler(temperature, top_k, top_p));
                for _ in 0..50 {
                    assert_eq!(ours.choose(&logits), choose_from_all(&mut plain, &logits), "{temperature} {top_k:?}");
                }
            }
        }
    }

    #[test]
    fn infinite_logits_choose_the_first_of_the_largest() {
        let mut sampler = sampler(1.0, None, Some(0.5));
        assert_eq!(sampler.choose(&[0.0, f32::INFINITY, f32::INFINITY]), 1);
        assert_eq!(sampler.choose(&[f32::NEG_INFINITY; 3]), 0);
    }

    #[test]
    fn settings_that_keep_nothing_are_refused() {
        for settings in [
            SamplingSettings { temperature: -1.0, ..Default::default() },
            SamplingSettings { temperature: f64::NAN, ..Default::default() },
            SamplingSettings { top_k: Some(0), ..Default::default() },
            SamplingSettings { top_p: Some(0.0), ..Default::default() },
            SamplingSettings { top_p: Some(f64::NAN), ..Default::default() },
        ] {
            assert!(Sampler::new(settings).is_err());
        }
    }

    #[test]
    fn logits_that_are_not_numbers_are_never_chosen() {
        let mut sampler = sampler(1.0, None, None);
        for _ in 0..100 {
            assert_eq!(sampler.choose(&[f32::NAN, 0.0, f32::NAN]), 1);
        }
    }
}
