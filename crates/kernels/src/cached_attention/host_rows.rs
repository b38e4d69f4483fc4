//! Keys and values in host memory, laid out so that a query reads them in the order they lie in.

use super::{LayerCache, NewPositions, Store};
use crate::attention::{AttentionOptions, attention};
use crate::vector::{self, fma, vectorized};
use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

/// Keys that stand side by side in memory.
const KEYS: usize = 16;

/// Multiplications that are worth a thread's while.
const WORK: usize = 1 << 14;

/// One row of a layer's cache.
#[derive(Clone, Debug, Default)]
pub(super) struct HostRow {
    /// `[n_head, capacity / 16, d_head, 16]`: for each number of a head, that of sixteen keys.
    keys: Vec<f32>,
    /// `[n_head, capacity, d_head]`.
    values: Vec<f32>,
    /// Positions there is memory for, a multiple of 16.
    capacity: usize,
}

impl HostRow {
    /// Makes room for at least `capacity` positions.
    fn grow(&mut self, capacity: usize, n_head: usize, d_head: usize) {
        let capacity = capacity.next_multiple_of(KEYS);
        if capacity <= self.capacity {
            return;
        }
        let moved = |old: &[f32]| {
            let mut new = vec![0.0; n_head * capacity * d_head];
            if self.capacity > 0 {
                let heads = new.chunks_exact_mut(capacity * d_head).zip(old.chunks_exact(self.capacity * d_head));
                heads.for_each(|(new, old)| new[..old.len()].copy_from_slice(old));
            }
            new
        };
        (self.keys, self.values) = (moved(&self.keys), moved(&self.values));
        self.capacity = capacity;
    }

    /// Keeps the key and value of position `at`, each `[n_head * d_head]`.
    fn keep(&mut self, at: usize, key: &[f32], value: &[f32], d_head: usize) {
        for (head, (key, value)) in key.chunks_exact(d_head).zip(value.chunks_exact(d_head)).enumerate() {
            let first = head * self.capacity * d_head;
            let block = &mut self.keys[first + at / KEYS * KEYS * d_head..][..KEYS * d_head];
            for (place, number) in block[at % KEYS..].iter_mut().step_by(KEYS).zip(key) {
                *place = *number;
            }
            self.values[first + at * d_head..][..d_head].copy_from_slice(value);
        }
    }

    /// Attends a query of one head to the first `seen` positions.
    fn attend(&self, head: usize, q: &[f32], seen: usize, scores: &mut Vec<f32>, y: &mut [f32]) {
        let d_head = q.len();
        let of_head = head * self.capacity * d_head..(head + 1) * self.capacity * d_head;
        let (keys, values) = (&self.keys[of_head.clone()], &self.values[of_head]);
        let blocks = seen.div_ceil(KEYS);
        scores.resize(blocks * KEYS, 0.0);
        key_scores(q, &keys[..blocks * KEYS * d_head], scores);
        let (_, total) = vector::exponentials(&mut scores[..seen], seen, 1.0 / (d_head as f32).sqrt());
        weighted_sum(&scores[..seen], &values[..seen * d_head], 1.0 / total, y);
    }
}

/// [`super::cached_attention`] on the CPU backends.
pub(super) fn attend(qkv: Tensor<3>, n_head: usize, positions: &NewPositions, cache: &mut LayerCache) -> Tensor<3> {
    let ([count, new, width], device) = (qkv.dims(), qkv.device());
    let d_model = width / 3;
    let d_head = d_model / n_head;
    let of_first = positions.first().then(|| attention(qkv.clone(), AttentionOptions::causal(n_head)));
    let qkv: Vec<f32> = qkv.into_data().try_into_vec().expect("f32, as the caller has checked");
    let Store::Host(rows) = cache.0.get_or_insert_with(|| Store::Host(vec![HostRow::default(); count])) else {
        unreachable!("a model's cache lies on the model's device")
    };
    assert_eq!(rows.len(), count, "rows of a cache");
    rows.par_iter_mut().zip(qkv.par_chunks_exact(new * width)).enumerate().with_min_len(8).for_each(
        |(i, (row, qkv))| {
            row.grow(positions.capacity, n_head, d_head);
            for (at, qkv) in qkv.chunks_exact(width).take(positions.count[i]).enumerate() {
                row.keep(positions.seen[i] + at, &qkv[d_model..2 * d_model], &qkv[2 * d_model..], d_head);
            }
        },
    );
    if let Some(y) = of_first {
        return y;
    }
    let mut y = vec![0.0; count * new * d_model];
    let rows = &*rows;
    let longest = positions.seen.iter().max().map_or(1, |seen| seen + new);
    let at_least = (WORK / (longest * d_head)).max(1);
    y.par_chunks_exact_mut(d_head).enumerate().with_min_len(at_least).for_each_init(Vec::new, |scores, (task, y)| {
        let (row, at, head) = (task / n_head / new, task / n_head % new, task % n_head);
        // What comes behind is padding, and stays zero.
        if at < positions.count[row] {
            let q = &qkv[(row * new + at) * width + head * d_head..][..d_head];
            rows[row].attend(head, q, positions.seen[row] + at + 1, scores, y);
        }
    });
    Tensor::from_data(TensorData::new(y, [count, new, d_model]), &device)
}

vectorized! {
    /// The inner product of a query with each key of `blocks`, sixteen keys a block.
    fn key_scores(q: &[f32], blocks: &[f32], scores: &mut [f32]) {
        for (block, scores) in blocks.chunks_exact(KEYS * q.len()).zip(scores.chunks_exact_mut(KEYS)) {
            let mut lanes = [[0f32; KEYS]; 4];
            let (fours, rest) = q.as_chunks::<4>();
            let (of_fours, of_rest) = block.split_at(fours.len() * 4 * KEYS);
            for (q, keys) in fours.iter().zip(of_fours.as_chunks::<{ 4 * KEYS }>().0) {
                for (j, lanes) in lanes.iter_mut().enumerate() {
                    for (i, lane) in lanes.iter_mut().enumerate() {
                        *lane = fma::<F>(q[j], keys[j * KEYS + i], *lane);
                    }
                }
            }
            for (q, keys) in rest.iter().zip(of_rest.as_chunks::<KEYS>().0) {
                for (lane, key) in lanes[0].iter_mut().zip(keys) {
                    *lane = fma::<F>(*q, *key, *lane);
                }
            }
            for (i, score) in scores.iter_mut().enumerate() {
                *score = (lanes[0][i] + lanes[1][i]) + (lanes[2][i] + lanes[3][i]);
            }
        }
    }

    /// `y = scale` times the sum of the rows of `values`, each times its weight.
    fn weighted_sum(weights: &[f32], values: &[f32], scale: f32, y: &mut [f32]) {
        let width = y.len();
        let mut first = 0;
        // As many columns at a time as have their sums in registers.
        while first + 64 <= width {
            let mut lanes = [0f32; 64];
            for (weight, row) in weights.iter().zip(values.chunks_exact(width)) {
                for (lane, value) in lanes.iter_mut().zip(&row[first..first + 64]) {
                    *lane = fma::<F>(*weight, *value, *lane);
                }
            }
            y[first..first + 64].iter_mut().zip(lanes).for_each(|(y, lane)| *y = scale * lane);
            first += 64;
        }
        while first + 16 <= width {
            let mut lanes = [0f32; 16];
            for (weight, row) in weights.iter().zip(values.chunks_exact(width)) {
                for (lane, value) in lanes.iter_mut().zip(&row[first..first + 16]) {
                    *lane = fma::<F>(*weight, *value, *lane);
                }
            }
            y[first..first + 16].iter_mut().zip(lanes).for_each(|(y, lane)| *y = scale * lane);
            first += 16;
        }
        for column in first..width {
            let terms = weights.iter().zip(values.chunks_exact(width));
            y[column] = scale * terms.fold(0.0, |sum, (weight, row)| fma::<F>(*weight, row[column], sum));
        }
    }
}
