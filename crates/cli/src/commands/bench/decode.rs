//! Generating tokens one after another: how long each takes, and how fast the weights are read for it.

use super::{Arguments, Never, Timed, config, forward_flops, time};
use crate::report::{Failure, USAGE};
use burn::tensor::Device;
use inference::{Limits, Row, Sampler, SamplingSettings, generate};
use model::Gpt;
use rayon::prelude::*;
use serde_json::{Value, json};
use std::hint::black_box;
use std::time::Instant;

/// What generating reads from memory.
pub struct Reading {
    /// Tokens of each row of a repetition.
    steps: usize,
    /// Bytes of weights for one token of every row.
    weights: usize,
    /// Bytes of keys and values of every row, on average over a repetition.
    cache: usize,
}

/// Greedy generation of `--seq` tokens after a single one, from random weights.
pub fn time_decoding(arguments: &Arguments, device: &Device) -> Result<Timed, Failure> {
    let config = config(arguments, arguments.seq + 1);
    let model = arguments.weights.of(Gpt::new(&config, 0, device));
    let greedy = SamplingSettings { temperature: 0.0, ..Default::default() };
    let row = || -> Result<Row, Failure> {
        let sampler = Sampler::new(greedy.clone()).map_err(|error| Failure::new(USAGE, error))?;
        Ok(Row { prompt: vec![0], sampler })
    };
    let mut rows = (0..arguments.batch).map(|_| row()).collect::<Result<Vec<_>, _>>()?;
    let limits = Limits { max_new_tokens: arguments.seq, vocabulary: arguments.vocab, stop: vec![] };
    let times = time(arguments.steps, || -> Result<(), Never> {
        generate(&model, device, &mut rows, limits.clone(), |_, _| true);
        Ok(())
    })
    .unwrap_or_else(|never| match never {});
    let tokens = (arguments.batch * arguments.seq) as f64;
    let cache = 2 * config.n_layer * config.d_model * size_of::<f32>() * arguments.batch * (arguments.seq + 1) / 2;
    Ok(Timed {
        times,
        tokens,
        flops: tokens * forward_flops(&config, arguments.seq as f64 / 2.0),
        loss: None,
        decoded: Some(Reading { steps: arguments.seq, weights: model.weight_bytes(), cache }),
    })
}

impl Reading {
    /// The figures of a repetition that took this many seconds.
    pub fn figures(&self, seconds: f64, device: &Device) -> Value {
        let of_token = seconds / self.steps as f64;
        let on_cpu = !matches!(device.as_dispatch(), burn::backend::DispatchDevice::Cube(_));
        json!({
            "ms_per_token": 1e3 * of_token,
            "weight_bytes": self.weights,
            "read_bytes_per_second": (self.weights + self.cache) as f64 / of_token,
            "read_ceiling_bytes_per_second": on_cpu.then(read_ceiling),
        })
    }
}

/// The figures as a person reads them.
pub fn described(figures: &Value) -> String {
    let number = |key: &str| figures[key].as_f64();
    let gigabytes = |key: &str| number(key).unwrap_or(0.0) / 1e9;
    let ceiling = match number("read_ceiling_bytes_per_second") {
        Some(ceiling) => format!(" of {:.1} GB/s that plain reading reaches", ceiling / 1e9),
        None => String::new(),
    };
    format!(
        "time a token      {:.2} ms, of every row together\nweights           {:.1} MB, read once a token\n\
         memory read       {:.1} GB/s{ceiling}\n",
        number("ms_per_token").unwrap_or(0.0),
        1e3 * gigabytes("weight_bytes"),
        gigabytes("read_bytes_per_second"),
    )
}

/// Bytes a second that all threads together read from memory: the best of several passes over more than any cache holds.
fn read_ceiling() -> f64 {
    const NUMBERS: usize = 1 << 25;
    let numbers: Vec<u64> = (0..NUMBERS as u64).collect();
    let best = (0..6)
        .map(|_| {
            let clock = Instant::now();
            let piece = NUMBERS / rayon::current_num_threads() / 4;
            let sum = numbers
                .par_chunks(piece.max(1))
                .map(|numbers| numbers.iter().fold(0, |sum, n| sum ^ n))
                .reduce(|| 0, |a, b| a ^ b);
            black_box(sum);
            clock.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min);
    (NUMBERS * size_of::<u64>()) as f64 / best
}
