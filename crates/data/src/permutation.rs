//! A shuffled order that is computed, never stored.

/// A keyed permutation of `[0, n)` in constant memory: a Feistel network over the next power of four, walked along its
/// cycles until it falls inside.
///
/// Source: Black and Rogaway 2002, "Ciphers with arbitrary finite domains", sections 4 and 5.
#[derive(Clone, Copy, Debug)]
pub struct Permutation {
    len: u64,
    half_bits: u32,
    key: u64,
}

/// Eight rounds of a good mixing function leave no pattern that training could notice.
const ROUNDS: u64 = 8;

impl Permutation {
    /// The permutation of `[0, len)` that `key` picks.
    ///
    /// # Panics
    /// If `len` is above 2^62.
    pub fn new(len: u64, key: u64) -> Self {
        assert!(len <= 1 << 62, "a permutation of {len} elements");
        let bits = u64::BITS - len.saturating_sub(1).leading_zeros();
        Self { len, half_bits: bits.div_ceil(2).max(1), key }
    }

    /// How many elements are permuted.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is nothing to permute.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The element at `index` of the shuffled order.
    ///
    /// # Panics
    /// If `index` is not below the length.
    pub fn at(&self, index: u64) -> u64 {
        assert!(index < self.len, "element {index} of {}", self.len);
        let mut value = index;
        loop {
            // The network permutes a domain less than four times `len` (or 4), so this takes few turns,
            // and it ends: the cycle that began inside comes back inside.
            value = self.network(value);
            if value < self.len {
                return value;
            }
        }
    }

    fn network(&self, value: u64) -> u64 {
        let mask = (1 << self.half_bits) - 1;
        let (mut left, mut right) = (value >> self.half_bits, value & mask);
        for round in 0..ROUNDS {
            let mixed = keyed_hash(self.key, (round << 32) | right);
            (left, right) = (right, left ^ (mixed & mask));
        }
        (left << self.half_bits) | right
    }
}

/// Mixes a key and a value into 64 evenly spread bits.
///
/// Source: the output function of SplitMix64 (Steele, Lea and Flood 2014), applied twice.
pub(crate) fn keyed_hash(key: u64, value: u64) -> u64 {
    mix(mix(key).wrapping_add(value))
}

/// A number from 0 to below 1 of evenly spread bits.
pub(crate) fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_element_comes_exactly_once(len in 1..2000u64, key: u64) {
            let permutation = Permutation::new(len, key);
            let mut seen = vec![false; len as usize];
            for index in 0..len {
                let element = permutation.at(index) as usize;
                prop_assert!(!seen[element]);
                seen[element] = true;
            }
        }

        #[test]
        fn huge_permutations_stay_inside_and_do_not_collide(index in 0..u64::MAX >> 3, other in 0..u64::MAX >> 3, key: u64) {
            let permutation = Permutation::new(u64::MAX >> 3, key);
            prop_assert!(permutation.at(index) < permutation.len());
            prop_assert_eq!(permutation.at(index) == permutation.at(other), index == other);
        }
    }

    #[test]
    fn keys_spread_each_element_evenly_over_the_places() {
        for len in [2, 3, 5, 10, 17] {
            let mut counts = vec![0; (len * len) as usize];
            let keys = 4000;
            for key in 0..keys {
                let permutation = Permutation::new(len, key);
                for index in 0..len {
                    counts[(index * len + permutation.at(index)) as usize] += 1;
                }
            }
            let expected = keys as f64 / len as f64;
            for count in counts {
                // Six standard deviations of a binomial count.
                assert!((f64::from(count) - expected).abs() < 6.0 * expected.sqrt(), "{count} for {expected}, {len}");
            }
        }
    }

    #[test]
    fn the_order_of_a_key_never_changes() {
        let order: Vec<u64> = (0..10).map(|index| Permutation::new(10, 1337).at(index)).collect();
        assert_eq!(order, ORDER_OF_1337, "a stored position would mean other rows");
    }

    const ORDER_OF_1337: [u64; 10] = [2, 1, 3, 0, 9, 5, 6, 7, 8, 4];
}
