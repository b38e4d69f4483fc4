//! The trials of a search over config keys: every combination of given values, and random draws.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Overrides of one trial, as `--set` takes them: key and value.
pub type Trial = Vec<(String, String)>;

/// Where a search looks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Space {
    grid: Vec<(String, Vec<String>)>,
    random: Vec<(String, Choice)>,
}

/// What a random key is drawn from.
#[derive(Clone, Debug, PartialEq)]
enum Choice {
    /// One of these, each as likely.
    Values(Vec<String>),
    /// Between both ends; `log`: uniformly in the logarithm, `whole`: whole numbers, both ends among them.
    Range { low: f64, high: f64, log: bool, whole: bool },
}

impl Space {
    /// Reads `KEY=V,V,..` for the grid, and for random draws also `KEY=LOW..HIGH` and `KEY=log:LOW..HIGH`.
    ///
    /// # Errors
    /// Text that is none of these, or a key that stands twice.
    pub fn parse(grid: &[String], random: &[String]) -> Result<Self, String> {
        let mut space = Self::default();
        let mut keys: Vec<String> = Vec::new();
        let mut pair = |text: &str| -> Result<(String, String), String> {
            let (key, value) = text
                .split_once('=')
                .filter(|(key, value)| !key.trim().is_empty() && !value.trim().is_empty())
                .ok_or_else(|| format!("`{text}`: expected KEY=VALUES, as `optimizer.adamw.lr=1e-4,3e-4`"))?;
            let key = key.trim().to_string();
            if keys.contains(&key) {
                return Err(format!("`{key}` is searched twice"));
            }
            keys.push(key.clone());
            Ok((key, value.trim().to_string()))
        };
        for text in grid {
            let (key, values) = pair(text)?;
            if values.contains("..") && !values.contains(['"', '[']) {
                return Err(format!("`{key}`: a range has no end of values; hint: --random {text}"));
            }
            space.grid.push((key, list(&values)));
        }
        for text in random {
            let (key, values) = pair(text)?;
            let choice = Choice::parse(&values).map_err(|why| format!("`{key}`: {why}"))?;
            space.random.push((key, choice));
        }
        Ok(space)
    }

    /// Whether there is nothing to search.
    pub fn is_empty(&self) -> bool {
        self.grid.is_empty() && self.random.is_empty()
    }

    /// The trials, in order: every combination of the grid, the last key fastest, and of each `draws` random draws (one
    /// where nothing is drawn). The same `seed` gives the same trials, and more draws give the same ones first.
    pub fn trials(&self, draws: usize, seed: u64) -> Vec<Trial> {
        let mut combinations: Vec<Trial> = vec![Vec::new()];
        for (key, values) in &self.grid {
            combinations = combinations
                .into_iter()
                .flat_map(|trial| {
                    values.iter().map(move |value| {
                        let mut trial = trial.clone();
                        trial.push((key.clone(), value.clone()));
                        trial
                    })
                })
                .collect();
        }
        let draws = if self.random.is_empty() { 1 } else { draws };
        let mut trials = Vec::with_capacity(combinations.len() * draws);
        for draw in 0..draws {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(draw as u64);
            let drawn: Trial = self.random.iter().map(|(key, choice)| (key.clone(), choice.draw(&mut rng))).collect();
            trials.extend(combinations.iter().map(|combination| [combination.clone(), drawn.clone()].concat()));
        }
        trials
    }
}

impl Choice {
    fn parse(text: &str) -> Result<Self, String> {
        let (range, log) = match text.strip_prefix("log:") {
            Some(range) => (range, true),
            None => (text, false),
        };
        let Some((low, high)) = range.split_once("..").filter(|_| !range.contains(['"', '['])) else {
            return if log { Err("`log:` wants LOW..HIGH".into()) } else { Ok(Self::Values(list(text))) };
        };
        let number = |text: &str| {
            text.trim().parse::<f64>().ok().filter(|n| n.is_finite()).ok_or(format!("`{text}` is not a number"))
        };
        let whole = [low, high].iter().all(|end| end.trim().parse::<i64>().is_ok());
        let (low, high) = (number(low)?, number(high)?);
        if low >= high {
            return Err(format!("{low}..{high} is empty"));
        }
        if log && low <= 0.0 {
            return Err(format!("a logarithmic range starts above zero, not at {low}"));
        }
        Ok(Self::Range { low, high, log, whole })
    }

    fn draw(&self, rng: &mut ChaCha8Rng) -> String {
        match self {
            Self::Values(values) => values[rng.random_range(0..values.len())].clone(),
            Self::Range { low, high, log, whole } => {
                // A whole number stands for the numbers that round down to it.
                let high = if *whole { high + 1.0 } else { *high };
                let u: f64 = rng.random();
                let value = match log {
                    true => (low.ln() + u * (high.ln() - low.ln())).exp(),
                    false => low + u * (high - low),
                };
                match whole {
                    true => format!("{}", value.floor().clamp(*low, high - 1.0) as i64),
                    // Four digits say as much as a search can tell apart.
                    false => format!("{:e}", format!("{value:.3e}").parse::<f64>().unwrap_or(value)),
                }
            }
        }
    }
}

/// Splits at commas, but not inside brackets or quotes.
fn list(text: &str) -> Vec<String> {
    let (mut depth, mut quoted, mut start) = (0, false, 0);
    let mut values = Vec::new();
    for (at, character) in text.char_indices() {
        match character {
            '"' => quoted = !quoted,
            '[' | '{' if !quoted => depth += 1,
            ']' | '}' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                values.push(text[start..at].trim().to_string());
                start = at + 1;
            }
            _ => {}
        }
    }
    values.push(text[start..].trim().to_string());
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(grid: &[&str], random: &[&str]) -> Result<Space, String> {
        let strings = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
        Space::parse(&strings(grid), &strings(random))
    }

    fn said(trial: &Trial) -> String {
        trial.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_grid_is_every_combination() {
        let trials = space(&["a.b=1,2", "c=\"x,y\",[3, 4]"], &[]).unwrap().trials(7, 0);
        let trials: Vec<String> = trials.iter().map(said).collect();
        assert_eq!(trials, ["a.b=1 c=\"x,y\"", "a.b=1 c=[3, 4]", "a.b=2 c=\"x,y\"", "a.b=2 c=[3, 4]"]);
    }

    #[test]
    fn random_draws_lie_inside_and_repeat_for_the_same_seed() {
        let space = space(&["g=1,2"], &["lr=log:1e-4..1e-1", "n=2..4", "d=0.0..0.5", "o=a,b"]).unwrap();
        let trials = space.trials(200, 5);
        assert_eq!(trials.len(), 400);
        assert_eq!(trials[..40], space.trials(20, 5)[..]);
        assert_ne!(trials[..40], space.trials(20, 6)[..]);
        let of = |key: &str| -> Vec<String> {
            trials.iter().map(|trial| trial.iter().find(|(k, _)| k == key).unwrap().1.clone()).collect()
        };
        let numbers = |key: &str| -> Vec<f64> { of(key).iter().map(|value| value.parse().unwrap()).collect() };
        assert!(numbers("lr").iter().all(|lr| (1e-4..=1e-1).contains(lr)));
        // Half of a logarithmic range lies below its geometric mean.
        let low = numbers("lr").iter().filter(|lr| **lr < 10f64.powf(-2.5)).count();
        assert!((140..260).contains(&low), "{low}");
        assert!(numbers("d").iter().all(|d| (0.0..=0.5).contains(d)));
        for n in ["2", "3", "4"] {
            assert!(of("n").iter().filter(|value| *value == n).count() > 60);
        }
        assert!(of("o").iter().filter(|value| *value == "a").count() > 120);
    }

    #[test]
    fn what_cannot_be_searched_is_said() {
        for (grid, random, part) in [
            (&["lr"][..], &[][..], "KEY=VALUES"),
            (&["lr="], &[], "KEY=VALUES"),
            (&["lr=1..2"], &[], "--random"),
            (&["lr=1"], &["lr=1..2"], "twice"),
            (&[], &["lr=2..1"], "empty"),
            (&[], &["lr=log:0..1"], "above zero"),
            (&[], &["lr=a..b"], "not a number"),
            (&[], &["lr=log:3"], "LOW..HIGH"),
        ] {
            let error = space(grid, random).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        assert!(space(&[], &[]).unwrap().is_empty());
    }
}
