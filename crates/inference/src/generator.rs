//! Continuing prompts, one token at a time and several rows at once.

use crate::sampling::Sampler;
use burn::tensor::{Device, Int, Tensor, TensorData};
use model::{Gpt, KvCache, in_thread_pool, weights};
use rayon::prelude::*;

/// Rows that are continued together at most. Up to this many, a row's logits are the same bits whatever the others are.
const MOST_ROWS: usize = 64;

/// What ends a text.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Tokens to add at most.
    pub max_new_tokens: usize,
    /// Ids below this are chosen: the tokenizer's size, for a model whose vocabulary is padded beyond it.
    pub vocabulary: usize,
    /// Each of these ends the text, and is not part of it.
    pub stop: Vec<u32>,
}

/// A text to continue.
#[derive(Debug)]
pub struct Row {
    /// The prompt's ids; at least one.
    pub prompt: Vec<u32>,
    /// Chooses this row's tokens, and no other row's: what it draws does not depend on what is generated beside it.
    pub sampler: Sampler,
}

/// Continues each row until the stop token or the most new tokens; returns the new ids only, row by row. `on_token` sees
/// each as it comes, with the number of its row, and ends the row by returning false.
///
/// Rows of different lengths are continued together, up to 64 at a time, and drop out as they end. Prompts are read
/// one after another, equal ones once. A text that outgrows the model's context goes on from its last half: the older
/// tokens are forgotten.
///
/// # Panics
/// If a prompt is empty.
pub fn generate(
    model: &Gpt,
    device: &Device,
    rows: &mut [Row],
    limits: Limits,
    mut on_token: impl FnMut(usize, u32) -> bool + Send,
) -> Vec<Vec<u32>> {
    assert!(rows.iter().all(|row| !row.prompt.is_empty()), "a prompt has at least one token");
    in_thread_pool(device, || {
        let groups = rows.chunks_mut(MOST_ROWS).enumerate();
        let continued = groups.map(|(group, rows)| {
            let first = group * MOST_ROWS;
            Texts::new(model, device, rows, limits.clone()).finish(&mut |row, id| on_token(first + row, id))
        });
        continued.flatten().collect()
    })
}

/// Texts as they grow.
struct Texts<'a> {
    model: &'a Gpt,
    device: &'a Device,
    limits: Limits,
    rows: &'a mut [Row],
    /// Prompt and continuation of each row.
    ids: Vec<Vec<u32>>,
    /// The rows in the cache, in its order.
    active: Vec<usize>,
    cache: KvCache,
    /// Rows to read from the start, and how many of their last tokens.
    waiting: Vec<(usize, usize)>,
}

impl<'a> Texts<'a> {
    fn new(model: &'a Gpt, device: &'a Device, rows: &'a mut [Row], limits: Limits) -> Self {
        let ids: Vec<Vec<u32>> = rows.iter().map(|row| row.prompt.clone()).collect();
        let waiting = ids.iter().enumerate().map(|(row, ids)| (row, ids.len().min(model.max_seq_len()))).collect();
        Self { model, device, limits, rows, ids, active: Vec::new(), cache: model.cache(0), waiting }
    }

    /// Generates until every row has ended.
    fn finish(mut self, on_token: &mut impl FnMut(usize, u32) -> bool) -> Vec<Vec<u32>> {
        if self.limits.max_new_tokens > 0 {
            while !(self.active.is_empty() && self.waiting.is_empty()) {
                let logits = self.logits();
                let chosen = self.choose(&logits);
                self.take(&chosen, on_token);
            }
        }
        self.ids.into_iter().zip(self.rows).map(|(mut ids, row)| ids.split_off(row.prompt.len())).collect()
    }

    /// The logits of the next token of each active row, after the waiting ones have become active.
    fn logits(&mut self) -> Vec<f32> {
        let mut logits = Vec::new();
        if !self.active.is_empty() {
            let last = |row: &usize| self.ids[*row].last().copied().expect("at least the prompt");
            let tokens: Vec<u32> = self.active.iter().map(last).collect();
            logits = forward(self.model, self.device, &tokens, tokens.len(), &mut self.cache);
        }
        // Equal beginnings are read once.
        let mut begun: Vec<&[u32]> = Vec::new();
        let mut of_begun = Vec::new();
        let mut cache = self.model.cache(0);
        let mut which = Vec::new();
        for (row, len) in &self.waiting {
            let tokens = &self.ids[*row][self.ids[*row].len() - len..];
            which.push(begun.iter().position(|other| *other == tokens).unwrap_or(begun.len()));
            if which.last() == Some(&begun.len()) {
                let mut alone = self.model.cache(1);
                of_begun.push(forward(self.model, self.device, tokens, 1, &mut alone));
                cache.append(alone);
                begun.push(tokens);
            }
        }
        logits.extend(which.iter().flat_map(|begun| &of_begun[*begun]));
        cache.select(&which);
        self.cache.append(cache);
        self.active.extend(self.waiting.drain(..).map(|(row, _)| row));
        logits
    }

    /// The next token of each active row.
    fn choose(&mut self, logits: &[f32]) -> Vec<u32> {
        let width = logits.len() / self.active.len();
        let vocabulary = self.limits.vocabulary.min(width);
        let mut logits_of: Vec<&[f32]> = vec![&[]; self.rows.len()];
        for (row, logits) in self.active.iter().zip(logits.chunks_exact(width)) {
            logits_of[*row] = &logits[..vocabulary];
        }
        let choose = |(row, logits): (&mut Row, &[f32])| match logits {
            [] => 0,
            logits => row.sampler.choose(logits),
        };
        let chosen: Vec<u32> = self.rows.par_iter_mut().zip(logits_of).map(choose).collect();
        self.active.iter().map(|row| chosen[*row]).collect()
    }

    /// Appends the chosen tokens; ends rows, and sends those that have filled the context back to their last half.
    fn take(&mut self, chosen: &[u32], on_token: &mut impl FnMut(usize, u32) -> bool) {
        let half = (self.model.max_seq_len() / 2).max(1);
        let mut stay = Vec::with_capacity(self.active.len());
        for (place, (row, id)) in self.active.iter().zip(chosen).enumerate() {
            if self.limits.stop.contains(id) {
                continue;
            }
            self.ids[*row].push(*id);
            let wanted = on_token(*row, *id);
            if !wanted || self.ids[*row].len() - self.rows[*row].prompt.len() >= self.limits.max_new_tokens {
                continue;
            }
            match self.cache.room(place) {
                0 => self.waiting.push((*row, half.min(self.ids[*row].len()))),
                _ => stay.push(place),
            }
        }
        if stay.len() < self.active.len() {
            self.cache.select(&stay);
            self.active = stay.iter().map(|place| self.active[*place]).collect();
        }
    }
}

/// The logits after `tokens`, `[rows, tokens / rows]`.
fn forward(model: &Gpt, device: &Device, tokens: &[u32], rows: usize, cache: &mut KvCache) -> Vec<f32> {
    let new = tokens.len() / rows;
    let ids: Vec<i32> = tokens.iter().map(|id| *id as i32).collect();
    let tokens = Tensor::<2, Int>::from_data(TensorData::new(ids, [rows, new]), device);
    weights::to_host(model.forward_cached(tokens, &vec![new; rows], cache).reshape([-1]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SamplingSettings;
    use model::GptConfig;

    const CONTEXT: usize = 12;

    fn model(device: &Device) -> Gpt {
        let config = GptConfig {
            n_layer: 2,
            n_head: 2,
            d_model: 16,
            d_ff: 32,
            max_seq_len: CONTEXT,
            vocab_size: 23,
            ..GptConfig::default()
        };
        Gpt::new(&config, 3, device)
    }

    fn row(prompt: &[u32], seed: u64) -> Row {
        let settings = SamplingSettings { temperature: 1.0, seed, ..SamplingSettings::default() };
        Row { prompt: prompt.to_vec(), sampler: Sampler::new(settings).expect("valid") }
    }

    /// Prompts of several lengths, one longer than the context, two the same.
    fn rows() -> Vec<Row> {
        let long: Vec<u32> = (0..17).collect();
        vec![row(&[1], 5), row(&[4, 4, 9], 6), row(&long, 7), row(&[4, 4, 9], 8), row(&[1, 2, 3, 4, 5, 6, 7, 8], 5)]
    }

    fn limits() -> Limits {
        Limits { max_new_tokens: 40, vocabulary: 21, stop: vec![2] }
    }

    /// The text as it is defined: the whole of what is not forgotten goes through the model for every token.
    fn uncached(model: &Gpt, device: &Device, mut row: Row, limits: Limits) -> Vec<u32> {
        let mut ids = row.prompt.clone();
        let mut window = ids.len().min(CONTEXT);
        while ids.len() - row.prompt.len() < limits.max_new_tokens {
            let logits = forward(model, device, &ids[ids.len() - window..], 1, &mut model.cache(1));
            let next = row.sampler.choose(&logits[..limits.vocabulary]);
            if limits.stop.contains(&next) {
                break;
            }
            ids.push(next);
            window = if window == CONTEXT { CONTEXT / 2 } else { window + 1 };
        }
        ids.split_off(row.prompt.len())
    }

    #[test]
    fn rows_generate_together_what_each_generates_alone_and_without_a_cache() {
        for device in [Device::flex(), model::device::ndarray()] {
            let model = model(&device);
            for limits in [limits(), Limits { stop: vec![], ..limits() }, Limits { max_new_tokens: 1, ..limits() }] {
                let together = generate(&model, &device, &mut rows(), limits.clone(), |_, _| true);
                for (i, (row, expected)) in rows().into_iter().zip(&together).enumerate() {
                    let alone = generate(&model, &device, &mut [row], limits.clone(), |_, _| true);
                    assert_eq!(&alone[0], expected, "row {i}");
                }
                for (i, (row, expected)) in rows().into_iter().zip(&together).enumerate() {
                    assert_eq!(&uncached(&model, &device, row, limits.clone()), expected, "row {i}");
                }
                let lengths: Vec<usize> = together.iter().map(Vec::len).collect();
                assert!(
                    !limits.stop.is_empty() || lengths.iter().all(|len| *len == limits.max_new_tokens),
                    "{lengths:?}"
                );
            }
        }
    }

    #[test]
    fn tokens_are_told_as_they_come_and_a_row_ends_when_nobody_wants_more() {
        let device = Device::flex();
        let model = model(&device);
        let limits = Limits { stop: vec![], ..limits() };
        let mut told = vec![Vec::new(); 5];
        let texts = generate(&model, &device, &mut rows(), limits.clone(), |row, id| {
            told[row].push(id);
            told[row].len() < 3 + row
        });
        assert_eq!(texts, told);
        assert_eq!(texts.iter().map(Vec::len).collect::<Vec<_>>(), [3, 4, 5, 6, 7]);
        let none = generate(&model, &device, &mut rows(), Limits { max_new_tokens: 0, ..limits.clone() }, |_, _| true);
        assert!(none.iter().all(Vec::is_empty) && none.len() == 5);
    }

    #[test]
    fn more_rows_than_go_together_are_continued_in_groups() {
        let device = Device::flex();
        let model = model(&device);
        let limits = Limits { max_new_tokens: 3, ..limits() };
        let mut many: Vec<Row> = (0..MOST_ROWS as u64 + 3).map(|seed| row(&[3, 1], seed)).collect();
        let texts = generate(&model, &device, &mut many, limits.clone(), |_, _| true);
        let last = generate(&model, &device, &mut [row(&[3, 1], MOST_ROWS as u64 + 2)], limits.clone(), |_, _| true);
        assert_eq!((texts.len(), texts.last()), (MOST_ROWS + 3, last.first()));
    }
}
