//! Keys and values of the tokens so far, so that each new token costs one position and not the whole text.

use burn::tensor::Device;
use kernels::{LayerCache, NewPositions};

/// Positions that there is memory for at first.
const FIRST_CAPACITY: usize = 64;

/// The cache of a whole model: rows of different lengths that are continued together.
///
/// Memory grows by doubling, up to the model's context, and is written in place.
#[derive(Clone, Debug)]
pub struct KvCache {
    layers: Vec<LayerCache>,
    lengths: Vec<usize>,
    /// Positions that there is memory for, of each row.
    capacity: usize,
    /// The most positions a row may have.
    limit: usize,
}

impl KvCache {
    /// `rows` empty rows for `n_layer` layers and at most `limit` positions each.
    pub fn new(n_layer: usize, rows: usize, limit: usize) -> Self {
        Self { layers: vec![LayerCache::default(); n_layer], lengths: vec![0; rows], capacity: 0, limit }
    }

    /// How many positions of each row have been seen.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.lengths.len()
    }

    /// Positions that still fit a row.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn room(&self, row: usize) -> usize {
        self.limit - self.lengths[row]
    }

    /// Keeps these rows, in this order; a row may come several times and is then continued in several ways.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn select(&mut self, rows: &[usize]) {
        self.lengths = rows.iter().map(|row| self.lengths[*row]).collect();
        self.layers.iter_mut().for_each(|layer| layer.select(rows));
    }

    /// Puts the rows of another cache behind these.
    ///
    /// # Panics
    /// If it is the cache of another model.
    pub fn append(&mut self, other: Self) {
        assert!(self.layers.len() == other.layers.len() && self.limit == other.limit, "caches of one model");
        self.lengths.extend(other.lengths);
        self.capacity = self.capacity.max(other.capacity);
        self.layers.iter_mut().zip(other.layers).for_each(|(layer, other)| layer.append(other));
    }

    /// Takes in `new` positions, of which `count` of each row are no padding: where they stand, and each layer's part.
    pub(crate) fn advance(
        &mut self,
        count: &[usize],
        new: usize,
        device: &Device,
    ) -> (NewPositions, &mut [LayerCache]) {
        assert_eq!(count.len(), self.rows(), "a number of new tokens for each row");
        let needed = self.lengths.iter().max().map_or(0, |length| length + new);
        if needed > self.capacity {
            let doubled = (2 * self.capacity).clamp(FIRST_CAPACITY, self.limit.max(FIRST_CAPACITY));
            self.capacity = needed.max(doubled);
        }
        let positions = NewPositions::new(&self.lengths, count, new, self.capacity, device);
        for (row, count) in count.iter().enumerate() {
            self.lengths[row] += count;
            assert!(self.lengths[row] <= self.limit, "{count} more tokens do not fit row {row} of the cache");
        }
        (positions, &mut self.layers)
    }
}
