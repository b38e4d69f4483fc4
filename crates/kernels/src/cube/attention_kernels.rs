//! Attention's kernels: one cube for 32 queries, or 32 keys, of one head of one element of the batch.
//!
//! Cubes lie as `[tiles, heads, batch]`. A score exists only in the registers of one unit and, once it has become a
//! weight, for 32 by 32 of them at a time in shared memory.

use super::tile::{EACH, PITCH, Rows, SIDE, TILE, add_weighted, dots, drop_factor, own_column, own_row, share, store};
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

/// The numbers of an attention that are the same for all of it.
#[derive(CubeLaunch, CubeType, Clone, Copy)]
pub(super) struct Numbers {
    pub seq: u32,
    pub d_head: u32,
    /// 1 where a position attends to itself and to earlier ones only, else 0.
    pub causal: u32,
    /// What scores are multiplied by.
    pub scale: f32,
    /// Hashes below it are dropped.
    pub threshold: u32,
    /// What weights that stay are multiplied by.
    pub keep: f32,
}

/// One head's rows of queries (part 0), keys (1) or values (2) from `first` on, and of their gradients.
#[cube]
fn head_rows(numbers: &Numbers, part: u32, first: u32) -> Rows {
    let pitch = 3 * CUBE_COUNT_Y * numbers.d_head;
    let column = (part * CUBE_COUNT_Y + CUBE_POS_Y) * numbers.d_head;
    let start = (CUBE_POS_Z * numbers.seq + first) * pitch + column;
    Rows { start, pitch, count: numbers.seq - first, width: numbers.d_head }
}

/// One head's rows of the output from `first` on, and of its gradient.
#[cube]
fn output_rows(numbers: &Numbers, first: u32) -> Rows {
    let pitch = CUBE_COUNT_Y * numbers.d_head;
    let start = (CUBE_POS_Z * numbers.seq + first) * pitch + CUBE_POS_Y * numbers.d_head;
    Rows { start, pitch, count: numbers.seq - first, width: numbers.d_head }
}

/// The place of this head's first number in a tensor of one number for every head and position.
#[cube]
fn statistics_start(numbers: &Numbers) -> u32 {
    (CUBE_POS_Z * CUBE_COUNT_Y + CUBE_POS_Y) * numbers.seq
}

/// What a weight is multiplied by.
#[cube]
fn weight_factor(numbers: &Numbers, mask: &[u32], query: u32, key: u32, #[comptime] dropped: bool) -> f32 {
    let mut factor = 1.0f32;
    if dropped {
        let place = (CUBE_POS_Y * numbers.seq + query) * numbers.seq + key;
        let of_element = (2 * CUBE_POS_Z) as usize;
        factor = drop_factor(place, mask[of_element], mask[of_element + 1], numbers.threshold, numbers.keep);
    }
    factor
}

/// The segment of each of this unit's four positions of a tile, by row or by column.
#[cube]
fn own_segments(
    numbers: &Numbers,
    segments: &[i32],
    first: u32,
    of: &mut Array<i32>,
    #[comptime] by_row: bool,
    #[comptime] packed: bool,
) {
    if packed {
        #[unroll]
        for i in 0..EACH {
            let position = first + if by_row { own_row(i) } else { own_column(i) };
            let mut segment = 0i32;
            if position < numbers.seq {
                segment = segments[(CUBE_POS_Z * numbers.seq + position) as usize];
            }
            of[i as usize] = segment;
        }
    }
}

/// Whether `query` attends to `key`.
#[cube]
fn sees(numbers: &Numbers, query: u32, key: u32, of_query: i32, of_key: i32, #[comptime] packed: bool) -> bool {
    let mut seen = query < numbers.seq && key < numbers.seq && (numbers.causal == 0 || key <= query);
    if packed {
        seen = seen && of_query == of_key;
    }
    seen
}

/// Whether tiles of positions have a segment in common, for all that their least and greatest segments say.
#[cube]
fn meet(numbers: &Numbers, ranges: &[i32], one: u32, other: u32, #[comptime] packed: bool) -> bool {
    let mut met = true;
    if packed {
        let tiles = numbers.seq.div_ceil(TILE);
        let (one, other) = (2 * (CUBE_POS_Z * tiles + one), 2 * (CUBE_POS_Z * tiles + other));
        let apart_below = ranges[(one + 1) as usize] < ranges[other as usize];
        let apart_above = ranges[one as usize] > ranges[(other + 1) as usize];
        met = !(apart_below || apart_above);
    }
    met
}

/// The least and the greatest segment of each tile of positions, `[batch, tiles, 2]`; one unit a tile.
#[cube(launch_unchecked)]
pub(super) fn segment_ranges(segments: &[i32], ranges: &mut [i32], seq: u32, batch: u32) {
    let tiles = seq.div_ceil(TILE);
    let tile = ABSOLUTE_POS as u32;
    if tile < batch * tiles {
        let (element, first) = (tile / tiles, tile % tiles * TILE);
        let mut least = segments[(element * seq + first) as usize];
        let mut greatest = least;
        for position in first + 1..min(first + TILE, seq) {
            let segment = segments[(element * seq + position) as usize];
            least = min(least, segment);
            greatest = max(greatest, segment);
        }
        ranges[(2 * tile) as usize] = least;
        ranges[(2 * tile + 1) as usize] = greatest;
    }
}

/// The output, and the logarithm of each softmax's denominator.
///
/// Source: Dao 2023 (FlashAttention-2), algorithm 1.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn forward(
    qkv: &[f32],
    segments: &[i32],
    ranges: &[i32],
    mask: &[u32],
    y: &mut [f32],
    log_totals: &mut [f32],
    numbers: Numbers,
    #[comptime] slices: u32,
    #[comptime] packed: bool,
    #[comptime] dropped: bool,
) {
    let of_queries = CUBE_POS_X;
    let first_query = of_queries * TILE;
    let mut left = Shared::<[f32]>::new_slice(comptime!((TILE * PITCH) as usize));
    let mut right = Shared::<[f32]>::new_slice(comptime!((TILE * PITCH) as usize));
    let mut weights = Shared::<[f32]>::new_slice(comptime!((TILE * PITCH) as usize));
    // One number of each row from each of its eight units.
    let mut of_units = Shared::<[f32]>::new_slice(comptime!((TILE * (SIDE + 1)) as usize));
    let mut scores = Array::<f32>::new(16usize);
    let mut sums = Array::<f32>::new(comptime!((slices * EACH * EACH) as usize));
    let mut most = Array::<f32>::new(4usize);
    let mut totals = Array::<f32>::new(4usize);
    let mut shrunk = Array::<f32>::new(4usize);
    let mut query_segments = Array::<i32>::new(4usize);
    let mut key_segments = Array::<i32>::new(4usize);
    own_segments(&numbers, segments, first_query, &mut query_segments, true, packed);
    #[unroll]
    for i in 0..slices * EACH * EACH {
        sums[i as usize] = 0.0f32;
    }
    #[unroll]
    for i in 0..EACH {
        // Finite: the difference of two infinities is no number.
        most[i as usize] = -3.0e38f32;
        totals[i as usize] = 0.0f32;
    }
    let mut tiles = numbers.seq.div_ceil(TILE);
    if numbers.causal == 1 {
        tiles = of_queries + 1;
    }
    let queries = head_rows(&numbers, 0u32, first_query);
    for of_keys in 0..tiles {
        if meet(&numbers, ranges, of_queries, of_keys, packed) {
            let first_key = of_keys * TILE;
            own_segments(&numbers, segments, first_key, &mut key_segments, false, packed);
            let keys = head_rows(&numbers, 1u32, first_key);
            dots(qkv, &queries, qkv, &keys, &mut left, &mut right, &mut scores);
            #[unroll]
            for i in 0..EACH {
                let query = first_query + own_row(i);
                let mut greatest = most[i as usize];
                #[unroll]
                for j in 0..EACH {
                    let key = first_key + own_column(j);
                    let score = scores[(i * EACH + j) as usize] * numbers.scale;
                    scores[(i * EACH + j) as usize] = score;
                    if sees(&numbers, query, key, query_segments[i as usize], key_segments[j as usize], packed)
                        && score > greatest
                    {
                        greatest = score;
                    }
                }
                of_units[(own_row(i) * (SIDE + 1) + UNIT_POS % SIDE) as usize] = greatest;
            }
            sync_cube();
            #[unroll]
            for i in 0..EACH {
                let query = first_query + own_row(i);
                let mut greatest = most[i as usize];
                for unit in 0..SIDE {
                    let of_unit = of_units[(own_row(i) * (SIDE + 1) + unit) as usize];
                    if of_unit > greatest {
                        greatest = of_unit;
                    }
                }
                let shrink = (most[i as usize] - greatest).exp();
                most[i as usize] = greatest;
                let mut total = totals[i as usize] * shrink;
                #[unroll]
                for j in 0..EACH {
                    let key = first_key + own_column(j);
                    let mut weight = 0.0f32;
                    if sees(&numbers, query, key, query_segments[i as usize], key_segments[j as usize], packed) {
                        weight = (scores[(i * EACH + j) as usize] - greatest).exp();
                    }
                    total += weight;
                    scores[(i * EACH + j) as usize] = weight * weight_factor(&numbers, mask, query, key, dropped);
                }
                totals[i as usize] = total;
                shrunk[i as usize] = shrink;
            }
            share(&scores, &mut weights);
            #[unroll]
            for slice in 0..slices {
                #[unroll]
                for i in 0..EACH {
                    #[unroll]
                    for j in 0..EACH {
                        sums[((slice * EACH + i) * EACH + j) as usize] *= shrunk[i as usize];
                    }
                }
            }
            let values = head_rows(&numbers, 2u32, first_key);
            add_weighted(&weights, qkv, &values, &mut right, &mut sums, slices);
        }
    }
    sync_cube();
    #[unroll]
    for i in 0..EACH {
        of_units[(own_row(i) * (SIDE + 1) + UNIT_POS % SIDE) as usize] = totals[i as usize];
    }
    sync_cube();
    #[unroll]
    for i in 0..EACH {
        let mut total = 0.0f32;
        for unit in 0..SIDE {
            total += of_units[(own_row(i) * (SIDE + 1) + unit) as usize];
        }
        let query = first_query + own_row(i);
        if own_column(0u32) == 0 && query < numbers.seq {
            log_totals[(statistics_start(&numbers) + query) as usize] = most[i as usize] + total.ln();
        }
        totals[i as usize] = 1.0f32 / total;
    }
    store(&sums, &totals, y, &output_rows(&numbers, first_query), slices);
}

/// Beside each softmax's logarithm the product of a query's output and its gradient, `[batch, n_head, seq, 2]`: what
/// the backward pass needs to know of a row. One unit a row.
#[cube(launch_unchecked)]
pub(super) fn row_statistics(
    y: &[f32],
    dy: &[f32],
    log_totals: &[f32],
    statistics: &mut [f32],
    seq: u32,
    n_head: u32,
    d_head: u32,
) {
    // Rows in the order of the output: neighbours read neighbouring numbers.
    let row = ABSOLUTE_POS as u32;
    if row < log_totals.len() as u32 {
        let (head, position) = (row % n_head, row / n_head);
        let mut along = 0.0f32;
        for i in 0..d_head {
            let at = (row * d_head + i) as usize;
            along += y[at] * dy[at];
        }
        let at = (position / seq * n_head + head) * seq + position % seq;
        statistics[(2 * at) as usize] = log_totals[at as usize];
        statistics[(2 * at + 1) as usize] = along;
    }
}

/// A weight's gradient from its score, and what multiplies the gradient of the output in that of a value.
#[cube]
fn slope(numbers: &Numbers, statistics: &[f32], score: f32, along_value: f32, query: u32, factor: f32) -> (f32, f32) {
    let at = (2 * (statistics_start(numbers) + query)) as usize;
    let weight = (score * numbers.scale - statistics[at]).exp();
    let slope = weight * (along_value * factor - statistics[at + 1]) * numbers.scale;
    (slope, weight * factor)
}

/// The gradient of the queries.
///
/// Source: Dao 2023 (FlashAttention-2), algorithm 2, with a pass of its own for the queries in place of atomic sums.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn backward_queries(
    qkv: &[f32],
    segments: &[i32],
    ranges: &[i32],
    mask: &[u32],
    dy: &[f32],
    statistics: &[f32],
    gradient: &mut [f32],
    numbers: Numbers,
    #[comptime] slices: u32,
    #[comptime] packed: bool,
    #[comptime] dropped: bool,
) {
    let of_queries = CUBE_POS_X;
    let first_query = of_queries * TILE;
    let mut left = Shared::<[f32]>::new_slice(comptime!((TILE * PITCH) as usize));
    let mut right = Shared::<[f32]>::new_slice(comptime!((TILE * PITCH) as usize));
    let mut shared = Shared::<[f32]>::new_slice(comptime!((TILE * PITCH) as usize));
    let mut scores = Array::<f32>::new(16usize);
    let mut along_values = Array::<f32>::new(16usize);
    let mut sums = Array::<f32>::new(comptime!((slices * EACH * EACH) as usize));
    let mut ones = Array::<f32>::new(4usize);
    let mut query_segments = Array::<i32>::new(4usize);
    let mut key_segments = Array::<i32>::new(4usize);
    own_segments(&numbers, segments, first_query, &mut query_segments, true, packed);
    #[unroll]
    for i in 0..slices * EACH * EACH {
        sums[i as usize] = 0.0f32;
    }
    #[unroll]
    for i in 0..EACH {
        ones[i as usize] = 1.0f32;
    }
    let mut tiles = numbers.seq.div_ceil(TILE);
    if numbers.causal == 1 {
        tiles = of_queries + 1;
    }
    let queries = head_rows(&numbers, 0u32, first_query);
    let outputs = output_rows(&numbers, first_query);
    for of_keys in 0..tiles {
        if meet(&numbers, ranges, of_queries, of_keys, packed) {
            let first_key = of_keys * TILE;
            own_segments(&numbers, segments, first_key, &mut key_segments, false, packed);
            let keys = head_rows(&numbers, 1u32, first_key);
            let values = head_rows(&numbers, 2u32, first_key);
            dots(qkv, &queries, qkv, &keys, &mut left, &mut right, &mut scores);
            dots(dy, &outputs, qkv, &values, &mut left, &mut right, &mut along_values);
            #[unroll]
            for i in 0..EACH {
                #[unroll]
                for j in 0..EACH {
                    let (query, key) = (first_query + own_row(i), first_key + own_column(j));
                    let at = (i * EACH + j) as usize;
                    let mut of_score = 0.0f32;
                    if sees(&numbers, query, key, query_segments[i as usize], key_segments[j as usize], packed) {
                        let factor = weight_factor(&numbers, mask, query, key, dropped);
                        let (slope, _) = slope(&numbers, statistics, scores[at], along_values[at], query, factor);
                        of_score = slope;
                    }
                    scores[at] = of_score;
                }
            }
            share(&scores, &mut shared);
            add_weighted(&shared, qkv, &keys, &mut right, &mut sums, slices);
        }
    }
    store(&sums, &ones, gradient, &queries, slices);
}

/// The gradients of keys and values.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn backward_keys(
    qkv: &[f32],
    segments: &[i32],
    ranges: &[i32],
    mask: &[u32],
    dy: &[f32],
    statistics: &[f32],
    gradient: &mut [f32],
    numbers: Numbers,
    #[comptime] slices: u32,
    #[comptime] packed: bool,
    #[comptime] dropped: bool,
) {
    let of_keys = CUBE_POS_X;
    let first_key = of_keys * TILE;
    let mut left = Shared::<[f32]>::new_slice(comptime!((TILE * PITCH) as usize));
    let mut right = Shared::<[f32]>::new_slice(comptime!((TILE * PITCH) as usize));
    let mut shared = Shared::<[f32]>::new_slice(comptime!((TILE * PITCH) as usize));
    let mut scores = Array::<f32>::new(16usize);
    let mut along_values = Array::<f32>::new(16usize);
    let mut key_sums = Array::<f32>::new(comptime!((slices * EACH * EACH) as usize));
    let mut value_sums = Array::<f32>::new(comptime!((slices * EACH * EACH) as usize));
    let mut ones = Array::<f32>::new(4usize);
    let mut query_segments = Array::<i32>::new(4usize);
    let mut key_segments = Array::<i32>::new(4usize);
    own_segments(&numbers, segments, first_key, &mut key_segments, true, packed);
    #[unroll]
    for i in 0..slices * EACH * EACH {
        key_sums[i as usize] = 0.0f32;
        value_sums[i as usize] = 0.0f32;
    }
    #[unroll]
    for i in 0..EACH {
        ones[i as usize] = 1.0f32;
    }
    let tiles = numbers.seq.div_ceil(TILE);
    // Earlier queries see none of a later key.
    let first_tile = of_keys * numbers.causal;
    let keys = head_rows(&numbers, 1u32, first_key);
    let values = head_rows(&numbers, 2u32, first_key);
    for of_queries in first_tile..tiles {
        if meet(&numbers, ranges, of_queries, of_keys, packed) {
            let first_query = of_queries * TILE;
            own_segments(&numbers, segments, first_query, &mut query_segments, false, packed);
            let queries = head_rows(&numbers, 0u32, first_query);
            let outputs = output_rows(&numbers, first_query);
            dots(qkv, &keys, qkv, &queries, &mut left, &mut right, &mut scores);
            dots(qkv, &values, dy, &outputs, &mut left, &mut right, &mut along_values);
            #[unroll]
            for i in 0..EACH {
                #[unroll]
                for j in 0..EACH {
                    let (key, query) = (first_key + own_row(i), first_query + own_column(j));
                    let at = (i * EACH + j) as usize;
                    let mut of_score = 0.0f32;
                    let mut of_value = 0.0f32;
                    if sees(&numbers, query, key, query_segments[j as usize], key_segments[i as usize], packed) {
                        let factor = weight_factor(&numbers, mask, query, key, dropped);
                        let (slope, weight) = slope(&numbers, statistics, scores[at], along_values[at], query, factor);
                        of_score = slope;
                        of_value = weight;
                    }
                    scores[at] = of_score;
                    along_values[at] = of_value;
                }
            }
            share(&scores, &mut shared);
            add_weighted(&shared, qkv, &queries, &mut right, &mut key_sums, slices);
            sync_cube();
            share(&along_values, &mut shared);
            add_weighted(&shared, dy, &outputs, &mut right, &mut value_sums, slices);
        }
    }
    store(&key_sums, &ones, gradient, &keys, slices);
    store(&value_sums, &ones, gradient, &values, slices);
}
