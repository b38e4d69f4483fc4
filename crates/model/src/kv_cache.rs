//! Keys and values of the tokens generated so far, so that each new token costs one position and not the whole text.

use burn::tensor::Tensor;

/// One layer's keys and values.
#[derive(Clone, Debug, Default)]
pub struct LayerCache {
    /// Keys and values, each `[batch, n_head, seen, d_head]`.
    seen: Option<(Tensor<4>, Tensor<4>)>,
}

impl LayerCache {
    /// Adds the new positions' keys and values and returns all of them.
    ///
    /// # Shapes
    /// - `k`, `v`: `[batch, n_head, new, d_head]`, returns `[batch, n_head, seen + new, d_head]`
    pub fn append(&mut self, k: Tensor<4>, v: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let all = match self.seen.take() {
            Some((keys, values)) => (Tensor::cat(vec![keys, k], 2), Tensor::cat(vec![values, v], 2)),
            None => (k, v),
        };
        self.seen = Some(all.clone());
        all
    }

    fn len(&self) -> usize {
        self.seen.as_ref().map_or(0, |(keys, _)| keys.dims()[2])
    }
}

/// The cache of a whole model.
#[derive(Clone, Debug)]
pub struct KvCache {
    layers: Vec<LayerCache>,
    capacity: usize,
}

impl KvCache {
    /// An empty cache for `n_layer` layers and at most `capacity` positions.
    pub fn new(n_layer: usize, capacity: usize) -> Self {
        Self { layers: vec![LayerCache::default(); n_layer], capacity }
    }

    /// Positions seen so far.
    pub fn len(&self) -> usize {
        self.layers.first().map_or(0, LayerCache::len)
    }

    /// Whether nothing has been seen yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Positions that still fit.
    pub fn room(&self) -> usize {
        self.capacity - self.len()
    }

    pub(crate) fn layers_mut(&mut self) -> impl Iterator<Item = &mut LayerCache> {
        self.layers.iter_mut()
    }
}
