//! Several short pieces in a row, so that little of it is padding.

use std::collections::BTreeMap;

use crate::permutation::keyed_hash;

/// Rows of at most `most` tokens for pieces of these lengths: the longest first, each into the row that it fills
/// best. A function of the lengths and the seed alone.
///
/// Source: best-fit decreasing bin packing, Johnson 1973.
pub(crate) fn pack(lengths: &[usize], most: usize, seed: u64) -> Vec<Vec<u32>> {
    let mut order: Vec<u32> = (0..lengths.len() as u32).collect();
    order.sort_by_key(|place| (std::cmp::Reverse(lengths[*place as usize]), keyed_hash(seed, u64::from(*place))));
    let mut rows: Vec<Vec<u32>> = Vec::new();
    // The rows with so much room left.
    let mut with_room: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for place in order {
        let length = lengths[place as usize];
        let room = with_room.range(length..).next().map(|(room, _)| *room);
        let (row, room) = match room {
            Some(room) => {
                let rows_of_room = with_room.get_mut(&room).expect("just found");
                let row = rows_of_room.pop().expect("no empty list is kept");
                if rows_of_room.is_empty() {
                    with_room.remove(&room);
                }
                (row, room)
            }
            None => {
                rows.push(Vec::new());
                (rows.len() - 1, most)
            }
        };
        rows[row].push(place);
        with_room.entry(room - length.min(room)).or_default().push(row);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn packing_takes_everything_once_and_overfills_nothing(lengths in prop::collection::vec(1..100usize, 1..200), seed: u64) {
            let rows = pack(&lengths, 100, seed);
            let mut seen: Vec<u32> = rows.iter().flatten().copied().collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..lengths.len() as u32).collect::<Vec<_>>());
            let total: usize = lengths.iter().sum();
            for row in &rows {
                prop_assert!(row.iter().map(|place| lengths[*place as usize]).sum::<usize>() <= 100);
            }
            // Best fit decreasing needs at most 11/9 of the best, and a bit.
            prop_assert!(rows.len() <= 1 + 2 * total.div_ceil(100));
        }
    }
}
