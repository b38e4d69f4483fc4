//! Attention of new positions to what is kept of earlier ones.

mod host_rows;

use crate::attention::{AttentionOptions, attention};
use crate::host::covers;
use burn::tensor::{Bool, Device, IndexingUpdateOp, Int, Tensor, TensorData, activation::softmax};
use host_rows::HostRow;

/// Where the new positions of a batch stand: the same for every layer of a pass.
#[derive(Clone, Debug)]
pub struct NewPositions {
    /// How many positions of each row were there before.
    pub seen: Vec<usize>,
    /// How many of the new ones count, row by row; the others are padding at the end.
    pub count: Vec<usize>,
    /// Positions that the cache has memory for, of each row.
    pub capacity: usize,
    /// For devices without an own implementation.
    composed: Option<Composed>,
}

/// What Burn's operations need to know of [`NewPositions`].
#[derive(Clone, Debug)]
struct Composed {
    /// Where each new position is kept, `[rows * new]` of `rows * capacity`.
    places: Tensor<1, Int>,
    /// The keys that each new position does not see, `[rows, 1, new, capacity]`.
    hidden: Tensor<4, Bool>,
}

impl NewPositions {
    /// `new` positions of each row, of which `count` are no padding, after the `seen` ones.
    ///
    /// # Panics
    /// If the rows differ in number, a row has more positions than `new`, or they do not fit `capacity`.
    pub fn new(seen: &[usize], count: &[usize], new: usize, capacity: usize, device: &Device) -> Self {
        assert_eq!(seen.len(), count.len(), "a number of new positions for each row");
        assert!(count.iter().all(|count| *count <= new), "no more positions than there are");
        assert!(seen.iter().all(|seen| seen + new <= capacity), "new positions fit the capacity");
        let on_device = !covers(&Tensor::<1>::zeros([1], device));
        let composed = on_device.then(|| Composed::new(seen, new, capacity, device));
        Self { seen: seen.to_vec(), count: count.to_vec(), capacity, composed }
    }

    /// The positions as the model's embedding counts them, below `limit`: `[rows, new]`.
    pub fn numbers(&self, new: usize, limit: usize, device: &Device) -> Tensor<2, Int> {
        // Padding may lie behind the last position there is.
        let of_row = |seen: &usize| (*seen..seen + new).map(|at| at.min(limit - 1) as i32).collect::<Vec<_>>();
        let numbers: Vec<i32> = self.seen.iter().flat_map(of_row).collect();
        Tensor::from_data(TensorData::new(numbers, [self.seen.len(), new]), device)
    }

    /// Whether these are the first of every row.
    fn first(&self) -> bool {
        self.seen.iter().all(|seen| *seen == 0)
    }
}

impl Composed {
    fn new(seen: &[usize], new: usize, capacity: usize, device: &Device) -> Self {
        let rows = seen.len();
        let mut places = Vec::with_capacity(rows * new);
        let mut hidden = Vec::with_capacity(rows * new * capacity);
        for (row, seen) in seen.iter().enumerate() {
            for at in *seen..seen + new {
                places.push((row * capacity + at) as i32);
                hidden.extend((0..capacity).map(|key| key > at));
            }
        }
        Self {
            places: Tensor::from_data(TensorData::new(places, [rows * new]), device),
            hidden: Tensor::from_data(TensorData::new(hidden, [rows, 1, new, capacity]), device),
        }
    }
}

/// One layer's keys and values, of rows that may differ in length.
#[derive(Clone, Debug, Default)]
pub struct LayerCache(Option<Store>);

#[derive(Clone, Debug)]
enum Store {
    /// In memory of this crate, written in place.
    Host(Vec<HostRow>),
    /// Keys and values, each `[rows, capacity, d_model]`.
    Device(Box<[Tensor<3>; 2]>),
}

impl LayerCache {
    /// Keeps these rows, in this order; a row may come several times.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn select(&mut self, rows: &[usize]) {
        self.0 = match self.0.take() {
            _ if rows.is_empty() => None,
            None => None,
            Some(Store::Host(mut all)) => {
                // The last time a row is asked for it is moved, not copied.
                let last = |i: usize| !rows[i + 1..].contains(&rows[i]);
                let take = |(i, row): (usize, &usize)| match last(i) {
                    true => std::mem::take(&mut all[*row]),
                    false => all[*row].clone(),
                };
                Some(Store::Host(rows.iter().enumerate().map(take).collect()))
            }
            Some(Store::Device(tensors)) => {
                let ids: Vec<i32> = rows.iter().map(|row| *row as i32).collect();
                let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [rows.len()]), &tensors[0].device());
                Some(Store::Device(Box::new(tensors.map(|tensor| tensor.select(0, ids.clone())))))
            }
        };
    }

    /// Puts the rows of another cache, of the same layer, behind these.
    pub fn append(&mut self, other: Self) {
        self.0 = match (self.0.take(), other.0) {
            (None, store) | (store, None) => store,
            (Some(Store::Host(mut rows)), Some(Store::Host(others))) => {
                rows.extend(others);
                Some(Store::Host(rows))
            }
            (Some(Store::Device(ours)), Some(Store::Device(theirs))) => {
                let capacity = ours[0].dims()[1].max(theirs[0].dims()[1]);
                let mut pairs = ours.into_iter().zip(*theirs);
                Some(Store::Device(Box::new([0, 1].map(|_| {
                    let (a, b) = pairs.next().expect("keys and values");
                    Tensor::cat(vec![lengthened(a, capacity), lengthened(b, capacity)], 0)
                }))))
            }
            _ => unreachable!("a model's cache lies on the model's device"),
        };
    }
}

/// The same with memory for `capacity` positions.
fn lengthened(tensor: Tensor<3>, capacity: usize) -> Tensor<3> {
    let [rows, before, d_model] = tensor.dims();
    if before >= capacity {
        return tensor;
    }
    let more = Tensor::zeros([rows, capacity - before, d_model], &tensor.device());
    Tensor::cat(vec![tensor, more], 1)
}

/// Keeps the keys and values of new positions, and attends each of these to itself and to all before it in its row.
///
/// The first positions of every row attend as in training, so that memory grows linearly with them. The output of
/// padding has no meaning.
///
/// # Shapes
/// - `qkv`: `[rows, new, 3 * d_model]`, as for [`attention`]; returns `[rows, new, d_model]`
///
/// # Panics
/// If `n_head` does not divide `d_model`, or the rows are not those of `positions` and `cache`.
///
/// Source: Vaswani et al. 2017, section 3.2.1; Shazeer 2019, section 2.3, for attention one position at a time.
pub fn cached_attention(qkv: Tensor<3>, n_head: usize, positions: &NewPositions, cache: &mut LayerCache) -> Tensor<3> {
    let [rows, new, width] = qkv.dims();
    assert!(n_head > 0 && width % (3 * n_head) == 0, "{n_head} heads do not divide a width of {width} / 3");
    assert_eq!(rows, positions.seen.len(), "rows of a cache");
    match &positions.composed {
        None => host_rows::attend(qkv, n_head, positions, cache),
        Some(composed) => attend_composed(qkv, n_head, positions, composed, new, cache),
    }
}

/// The same in Burn's operations.
fn attend_composed(
    qkv: Tensor<3>,
    n_head: usize,
    positions: &NewPositions,
    composed: &Composed,
    new: usize,
    cache: &mut LayerCache,
) -> Tensor<3> {
    let [rows, _, width] = qkv.dims();
    let (d_model, capacity) = (width / 3, positions.capacity);
    let d_head = d_model / n_head;
    let part = |i: usize| qkv.clone().narrow(2, i * d_model, d_model); // [rows, new, d_model]
    let before = match cache.0.take() {
        Some(Store::Device(tensors)) => tensors.map(|tensor| lengthened(tensor, capacity)),
        Some(Store::Host(_)) => unreachable!("a model's cache lies on the model's device"),
        None => [0, 1].map(|_| Tensor::zeros([rows, capacity, d_model], &qkv.device())),
    };
    let mut added = before.into_iter().zip([part(1), part(2)]).map(|(kept, part)| {
        let (kept, part) = (kept.reshape([rows * capacity, d_model]), part.reshape([rows * new, d_model]));
        kept.select_assign(0, composed.places.clone(), part, IndexingUpdateOp::Assign)
            .reshape([rows, capacity, d_model])
    });
    let [k, v] = [0, 1].map(|_| added.next().expect("keys and values"));
    cache.0 = Some(Store::Device(Box::new([k.clone(), v.clone()])));
    if positions.first() {
        return attention(qkv, AttentionOptions::causal(n_head));
    }
    let heads = |x: Tensor<3>, len: usize| x.reshape([rows, len, n_head, d_head]).swap_dims(1, 2);
    // Scaling the queries touches fewer numbers than scaling the scores.
    let q = heads(part(0), new) * (d_head as f64).powf(-0.5); // [rows, n_head, new, d_head]
    let scores = q.matmul(heads(k, capacity).swap_dims(2, 3)); // [rows, n_head, new, capacity]
    let hidden = composed.hidden.clone().expand([rows, n_head, new, capacity]);
    let weights = softmax(scores.mask_fill(hidden, -1e9), 3);
    weights.matmul(heads(v, capacity)).swap_dims(1, 2).reshape([rows, new, d_model])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{assert_near, devices, random};

    const HEADS: [[usize; 2]; 4] = [[1, 1], [2, 5], [3, 16], [2, 64]];

    fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_into_vec().expect("f32")
    }

    /// Three rows of different lengths, in steps of different widths: how many positions of each row count.
    const STEPS: [[usize; 3]; 5] = [[7, 2, 5], [1, 1, 1], [3, 0, 20], [1, 1, 1], [1, 17, 2]];

    /// What each row's queries, keys and values are, position by position.
    fn row(row: usize, d_model: usize) -> Vec<f32> {
        random(&[64, 3 * d_model], row as u64 + 1).values
    }

    /// The outputs of each row, position by position, and how often memory grew.
    fn run(n_head: usize, d_model: usize, device: &Device, composed: bool) -> Vec<Vec<f32>> {
        let mut cache = LayerCache::default();
        let (mut seen, mut outputs) = ([0; 3], vec![Vec::new(); 3]);
        for count in STEPS {
            let new = *count.iter().max().expect("three rows");
            let capacity = (seen.iter().max().expect("three rows") + new).next_multiple_of(16);
            let mut values = Vec::new();
            for (r, seen) in seen.iter().enumerate() {
                values.extend_from_slice(&row(r, d_model)[seen * 3 * d_model..][..new * 3 * d_model]);
            }
            let qkv = Tensor::from_data(TensorData::new(values, [3, new, 3 * d_model]), device);
            let mut positions = NewPositions::new(&seen, &count, new, capacity, device);
            if composed {
                positions.composed = Some(Composed::new(&seen, new, capacity, device));
            }
            let y = host(cached_attention(qkv, n_head, &positions, &mut cache));
            for r in 0..3 {
                outputs[r].extend_from_slice(&y[r * new * d_model..][..count[r] * d_model]);
                seen[r] += count[r];
            }
        }
        outputs
    }

    /// Attention over whole rows.
    fn whole(n_head: usize, d_model: usize, length: usize, r: usize, device: &Device) -> Vec<f32> {
        let values = row(r, d_model)[..length * 3 * d_model].to_vec();
        let qkv = Tensor::from_data(TensorData::new(values, [1, length, 3 * d_model]), device);
        host(attention(qkv, AttentionOptions::causal(n_head)))
    }

    #[test]
    fn rows_of_different_lengths_attend_as_whole_ones_do() {
        for device in devices() {
            for [n_head, d_head] in HEADS {
                let d_model = n_head * d_head;
                for (r, outputs) in run(n_head, d_model, &device, false).iter().enumerate() {
                    let expected = whole(n_head, d_model, outputs.len() / d_model, r, &device);
                    assert_near(&format!("row {r}, {n_head} heads of {d_head}"), 1e-5, outputs, &expected);
                }
            }
        }
    }

    #[test]
    fn the_composed_operations_give_the_same() {
        let device = Device::flex();
        for [n_head, d_head] in HEADS {
            let d_model = n_head * d_head;
            let (ours, theirs) = (run(n_head, d_model, &device, false), run(n_head, d_model, &device, true));
            for (ours, theirs) in ours.iter().zip(&theirs) {
                assert_near(&format!("{n_head} heads of {d_head}"), 1e-5, ours, theirs);
            }
        }
    }

    #[test]
    fn outputs_are_the_same_bits_for_every_number_of_threads() {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
            let outputs = pool.install(|| run(3, 48, &Device::flex(), false));
            outputs.into_iter().flatten().map(f32::to_bits).collect::<Vec<_>>()
        };
        assert!(run(1) == run(2) && run(1) == run(5));
    }

    #[test]
    fn rows_are_dropped_repeated_and_joined() {
        for composed in [false, true] {
            let device = Device::flex();
            let d_model = 6;
            let attend = |values: Vec<f32>, seen: &[usize], new: usize, capacity: usize, cache: &mut LayerCache| {
                let rows = seen.len();
                let qkv = Tensor::from_data(TensorData::new(values, [rows, new, 3 * d_model]), &device);
                let mut positions = NewPositions::new(seen, &vec![new; rows], new, capacity, &device);
                if composed {
                    positions.composed = Some(Composed::new(seen, new, capacity, &device));
                }
                host(cached_attention(qkv, 2, &positions, cache))
            };
            let part = |r: usize, from: usize, len: usize| row(r, d_model)[from * 18..(from + len) * 18].to_vec();
            let (mut both, mut third) = (LayerCache::default(), LayerCache::default());
            attend([part(0, 0, 4), part(1, 0, 4)].concat(), &[0, 0], 4, 16, &mut both);
            attend(part(2, 0, 30), &[0], 30, 32, &mut third);
            both.select(&[1, 0, 1]);
            both.append(third);
            let next = [part(1, 4, 1), part(0, 4, 1), part(1, 4, 1), part(2, 30, 1)].concat();
            let y = attend(next, &[4, 4, 4, 30], 1, 32, &mut both);
            for (i, (r, length)) in [(1, 5), (0, 5), (1, 5), (2, 31)].into_iter().enumerate() {
                let expected = whole(2, d_model, length, r, &device);
                let expected = &expected[(length - 1) * d_model..];
                assert_near(&format!("row {r}"), 1e-5, &y[i * d_model..][..d_model], expected);
            }
            both.select(&[]);
            assert!(both.0.is_none());
        }
    }
}
