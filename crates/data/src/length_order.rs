//! The order in which epochs take rows of different lengths: those of like length near each other.

use std::sync::{Arc, Mutex};

use crate::batch::RowId;
use crate::permutation::{Permutation, keyed_hash};

/// Rows that are sorted by length together.
const POOL: usize = 1024;

/// Rows of like length that follow each other, if the pool is large enough.
pub(crate) const RUN: usize = 32;

/// An epoch and its order.
type EpochOrder = (u64, Arc<[u32]>);

/// The lengths of all rows and the order they give; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct LengthOrder {
    /// Tokens of each row.
    lengths: Arc<[u32]>,
    seed: u64,
    /// The epoch whose order was asked for last, and that order.
    kept: Arc<Mutex<Option<EpochOrder>>>,
}

impl LengthOrder {
    /// The order of rows of these lengths, in tokens.
    pub fn new(lengths: impl Iterator<Item = usize>, seed: u64) -> Self {
        Self { lengths: lengths.map(|length| length as u32).collect(), seed, kept: Arc::default() }
    }

    /// The rows behind the first `position` rows of a run; they may straddle epochs.
    ///
    /// # Panics
    /// If there is no row at all.
    pub fn rows(&self, position: u64, rows: usize) -> Vec<RowId> {
        let len = self.lengths.len() as u64;
        let row = |position: u64| {
            let epoch = position / len;
            RowId { epoch, row: u64::from(self.of_epoch(epoch)[(position % len) as usize]) }
        };
        (position..position + rows as u64).map(row).collect()
    }

    /// At most `most` rows by length, for evaluations: the fewest padding.
    pub fn by_length(&self, most: usize) -> Vec<u64> {
        let permutation = Permutation::new(self.lengths.len() as u64, 0);
        let mut rows: Vec<u64> = (0..permutation.len().min(most as u64)).map(|index| permutation.at(index)).collect();
        rows.sort_by_key(|row| (self.lengths[*row as usize], *row));
        rows
    }

    /// All tokens together.
    pub fn tokens(&self) -> usize {
        self.lengths.iter().map(|length| *length as usize).sum()
    }

    /// The longest row, in tokens.
    pub fn longest(&self) -> usize {
        self.lengths.iter().max().map_or(0, |length| *length as usize)
    }

    /// The share of padding in batches of `rows` rows over the first epoch.
    pub fn padding_share(&self, rows: usize) -> f64 {
        let order = self.of_epoch(0);
        let width = |batch: &[u32]| batch.iter().map(|row| self.lengths[*row as usize]).max().unwrap_or(0);
        let cells: usize = order.chunks(rows.max(1)).map(|batch| batch.len() * width(batch) as usize).sum();
        1.0 - self.tokens() as f64 / cells.max(1) as f64
    }

    /// An epoch's order: shuffled, then sorted by length inside pools and cut into short runs, which are shuffled again.
    /// A function of the lengths, the seed and the epoch alone, whatever the size of the batches.
    fn of_epoch(&self, epoch: u64) -> Arc<[u32]> {
        let mut kept = self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((of, order)) = &*kept
            && *of == epoch
        {
            return Arc::clone(order);
        }
        let key = keyed_hash(self.seed, epoch);
        let permutation = Permutation::new(self.lengths.len() as u64, key);
        let mut shuffled: Vec<u32> = (0..permutation.len()).map(|index| permutation.at(index) as u32).collect();
        shuffled.chunks_mut(POOL).for_each(|pool| pool.sort_by_key(|row| self.lengths[*row as usize]));
        let runs: Vec<&[u32]> = shuffled.chunks(POOL).flat_map(|pool| pool.chunks(RUN)).collect();
        // The short run at the end stays there: in between it would pull all that follow apart.
        let whole = runs.iter().filter(|run| run.len() == RUN).count();
        let of_runs = Permutation::new(whole as u64, keyed_hash(key, u64::MAX));
        let places = (0..of_runs.len()).map(|index| of_runs.at(index) as usize).chain(whole..runs.len());
        let order: Arc<[u32]> = places.flat_map(|run| runs[run].iter().copied()).collect();
        *kept = Some((epoch, Arc::clone(&order)));
        order
    }
}
