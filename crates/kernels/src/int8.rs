//! Weights in eight bits, for generating and evaluating on the CPU: a quarter of the memory to read for each token.
//!
//! Each output channel of a weight matrix has one scale (symmetric, its largest magnitude is 127). Activations are
//! rounded to eight bits as they come, each 64 of a row with a scale of their own, so that an outlier costs its
//! neighbours alone. Products of a group are summed exactly, in integers; groups are added in f32.
//!
//! Source: Dettmers et al. 2022 ("LLM.int8()"), section 2.1, for vector-wise scales.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use crate::host::covers;
use crate::product::MatrixMut;
use crate::vector::{self, fma, vectorized};
use crate::{Activation, Precision, linear};
use burn::nn::Linear;
use burn::tensor::{Device, Int, Tensor, TensorData};
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// Activations that share a scale.
const GROUP: usize = 64;

/// Numbers of a row and of a column that one instruction multiplies and adds up.
const DEPTH: usize = 4;

/// Output channels that are computed together.
const PANEL: usize = 32;

/// Bytes of a panel's weights for one group.
const GROUP_BYTES: usize = GROUP * PANEL;

/// Rows of activations that go through a panel together at most.
const MOST_ROWS: usize = 6;

/// Whether weights in eight bits can be used on `device`.
pub fn supports_int8(device: &Device) -> bool {
    covers(&Tensor::<1>::zeros([1], &device.clone().without_autodiff()))
}

/// A weight matrix in eight bits.
#[derive(Debug)]
pub struct Int8Matrix {
    d_in: usize,
    d_out: usize,
    /// `[d_out / 32, d_in / 4, 32, 4]`, rounded up and filled with zeros; 128 more than the weights, so that none is
    /// negative.
    panels: Vec<u8>,
    /// Of each output channel, filled up with zeros.
    scales: Vec<f32>,
}

impl Int8Matrix {
    /// The weight `[d_in, d_out]` of a linear layer, one scale a column.
    pub fn of_columns(weight: Tensor<2>) -> Self {
        let [d_in, d_out] = weight.dims();
        Self::new(&host(weight), d_in, d_out, |row, channel| row * d_out + channel)
    }

    /// A table `[d_out, d_in]`, one scale a row.
    pub fn of_rows(table: Tensor<2>) -> Self {
        let [d_out, d_in] = table.dims();
        Self::new(&host(table), d_in, d_out, |row, channel| channel * d_in + row)
    }

    fn new(values: &[f32], d_in: usize, d_out: usize, at: impl Fn(usize, usize) -> usize + Sync) -> Self {
        let groups = d_in.div_ceil(GROUP);
        let channels = d_out.next_multiple_of(PANEL);
        let mut panels = vec![128; groups * GROUP * channels];
        let mut scales = vec![0.0; channels];
        let tasks = panels.par_chunks_exact_mut(groups * GROUP_BYTES).zip(scales.par_chunks_exact_mut(PANEL));
        tasks.enumerate().for_each(|(panel, (weights, scales))| {
            for (i, scale) in scales.iter_mut().enumerate().take(d_out - (panel * PANEL).min(d_out)) {
                let value = |row: usize| values[at(row, panel * PANEL + i)];
                let largest = (0..d_in).map(value).fold(0.0, largest_magnitude);
                *scale = largest / 127.0;
                let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
                for row in 0..d_in {
                    let weight = (value(row) * inverse).round_ties_even() as i8;
                    weights[row / DEPTH * DEPTH * PANEL + i * DEPTH + row % DEPTH] = (weight as u8).wrapping_add(128);
                }
            }
        });
        Self { d_in, d_out, panels, scales }
    }

    /// Bytes of memory it takes.
    pub fn bytes(&self) -> usize {
        self.panels.len() + size_of_val(&self.scales[..])
    }

    /// `x w + bias` with an activation: `[rows, d_in]` to `[rows, d_out]`.
    fn product(&self, x: &[f32], bias: Option<&[f32]>, activation: Activation) -> Vec<f32> {
        assert!(x.len().is_multiple_of(self.d_in), "rows of {} numbers", self.d_in);
        let rows = x.len() / self.d_in;
        let x = Int8Rows::new(x, self.d_in);
        let mut y = vec![0.0; rows * self.d_out];
        let groups = x.groups;
        let panels = self.scales.len() / PANEL;
        // Where they are cut changes no sum.
        let together = panels.div_ceil(2 * rayon::current_num_threads()).clamp(1, 64);
        let pieces = MatrixMut::new(&mut y, rows, self.d_out).column_pieces(together * PANEL);
        pieces.into_par_iter().enumerate().with_max_len(1).for_each(|(piece, mut y)| {
            let first_panel = piece * together;
            for panel in first_panel..(first_panel + together).min(panels) {
                let weights = &self.panels[panel * groups * GROUP_BYTES..][..groups * GROUP_BYTES];
                let channels = panel * PANEL..((panel + 1) * PANEL).min(self.d_out);
                for first in (0..rows).step_by(MOST_ROWS) {
                    let mut sums = [[0f32; PANEL]; MOST_ROWS];
                    let count = MOST_ROWS.min(rows - first);
                    panel_sums(weights, &x, first, &mut sums[..count]);
                    for (i, sums) in sums[..count].iter_mut().enumerate() {
                        let out = finished(
                            sums,
                            &self.scales[panel * PANEL..],
                            bias.map(|b| &b[channels.clone()]),
                            activation,
                        );
                        y.put(first + i, (panel - first_panel) * PANEL, &out[..channels.len()]);
                    }
                }
            }
        });
        y
    }
}

/// The larger magnitude; a NaN stays.
#[inline(always)]
fn largest_magnitude(most: f32, value: f32) -> f32 {
    let magnitude = value.abs();
    if magnitude > most || magnitude.is_nan() { magnitude } else { most }
}

/// Scaled sums of a panel, with bias and activation.
fn finished(sums: &[f32; PANEL], scales: &[f32], bias: Option<&[f32]>, activation: Activation) -> [f32; PANEL] {
    let mut out: [f32; PANEL] = std::array::from_fn(|i| sums[i] * scales[i]);
    if let Some(bias) = bias {
        out.iter_mut().zip(bias).for_each(|(out, bias)| *out += bias);
    }
    let activate: fn(&[f32], &mut [MaybeUninit<f32>]) = match activation {
        Activation::Identity => return out,
        Activation::GeluTanh => vector::gelu_tanh,
        Activation::GeluErf => vector::gelu_erf,
    };
    let mut activated = [const { MaybeUninit::uninit() }; PANEL];
    activate(&out, &mut activated);
    // SAFETY: an activation writes all it is given.
    activated.map(|value| unsafe { value.assume_init() })
}

/// Rows of activations in eight bits.
struct Int8Rows {
    groups: usize,
    /// `[rows, groups * 64]`, filled with zeros.
    values: Vec<i8>,
    /// The same in sixteen bits, where those are multiplied; empty elsewhere.
    wide: Vec<i16>,
    /// `[rows, groups]`.
    scales: Vec<f32>,
    /// -128 times the sum of each group: what the weights' offset adds, taken away again.
    offsets: Vec<i32>,
}

impl Int8Rows {
    fn new(x: &[f32], d_in: usize) -> Self {
        let (rows, groups) = (x.len() / d_in, d_in.div_ceil(GROUP));
        let mut values = vec![0i8; rows * groups * GROUP];
        let mut scales = vec![0.0; rows * groups];
        let mut offsets = vec![0; rows * groups];
        let of_x = x.par_chunks(d_in).zip(values.par_chunks_mut(groups * GROUP));
        let of_rows = of_x.zip(scales.par_chunks_mut(groups)).zip(offsets.par_chunks_mut(groups));
        of_rows.with_min_len(16).for_each(|(((x, values), scales), offsets)| {
            let of_groups = x.chunks(GROUP).zip(values.chunks_exact_mut(GROUP)).zip(scales).zip(offsets);
            for (((x, values), scale), offset) in of_groups {
                (*scale, *offset) = round_group(x, values);
            }
        });
        let wide =
            if multiplies_sixteen_bits() { values.iter().map(|value| i16::from(*value)).collect() } else { vec![] };
        Self { groups, values, wide, scales, offsets }
    }

    fn row(&self, row: usize) -> &[i8] {
        &self.values[row * self.groups * GROUP..][..self.groups * GROUP]
    }
}

vectorized! {
    /// Rounds a group to eight bits; returns its scale, and -128 times the sum of what it was rounded to.
    fn round_group(x: &[f32], values: &mut [i8]) -> (f32, i32) {
        let mut lanes = [0f32; 16];
        let (sixteens, rest) = x.as_chunks::<16>();
        for sixteen in sixteens {
            for (lane, value) in lanes.iter_mut().zip(sixteen) {
                *lane = largest_magnitude(*lane, *value);
            }
        }
        let largest = lanes.iter().chain(rest).fold(0.0, |most, value| largest_magnitude(most, *value));
        let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        for (rounded, value) in values.iter_mut().zip(x) {
            *rounded = (value * inverse).round_ties_even() as i8;
        }
        (largest / 127.0, -128 * values.iter().map(|value| i32::from(*value)).sum::<i32>())
    }

    /// The sums of one row with a panel's channels: of each group exactly, then times its scale, in order.
    fn row_sums(weights: &[u8], x: &[i8], scales: &[f32], offsets: &[i32], sums: &mut [f32; PANEL]) {
        let groups = weights.chunks_exact(GROUP_BYTES).zip(x.chunks_exact(GROUP)).zip(scales.iter().zip(offsets));
        for ((weights, x), (scale, offset)) in groups {
            let mut exact = [*offset; PANEL];
            for (weights, x) in weights.as_chunks::<{ DEPTH * PANEL }>().0.iter().zip(x.as_chunks::<DEPTH>().0) {
                for (exact, weights) in exact.iter_mut().zip(weights.as_chunks::<DEPTH>().0) {
                    let pair = |i: usize| i32::from(weights[i]) * i32::from(x[i]);
                    *exact += (pair(0) + pair(1)) + (pair(2) + pair(3));
                }
            }
            for (sum, exact) in sums.iter_mut().zip(exact) {
                *sum = fma::<F>(exact as f32, *scale, *sum);
            }
        }
    }
}

/// Whether rows are multiplied in sixteen bits.
fn multiplies_sixteen_bits() -> bool {
    #[cfg(target_arch = "x86_64")]
    return !avx512::available() && vector::avx2();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// The sums of rows from `first` on with a panel's channels, as many as `sums` has.
fn panel_sums(weights: &[u8], x: &Int8Rows, first: usize, sums: &mut [[f32; PANEL]]) {
    #[cfg(target_arch = "x86_64")]
    {
        if avx512::available() {
            // SAFETY: the processor has the instructions.
            return unsafe { avx512::panel_sums(weights, x, first, sums) };
        }
        if multiplies_sixteen_bits() {
            // SAFETY: as above.
            return unsafe { avx2::panel_sums(weights, x, first, sums) };
        }
    }
    portable_panel_sums(weights, x, first, sums);
}

fn portable_panel_sums(weights: &[u8], x: &Int8Rows, first: usize, sums: &mut [[f32; PANEL]]) {
    for (row, sums) in (first..).zip(sums) {
        let groups = row * x.groups..(row + 1) * x.groups;
        row_sums(weights, x.row(row), &x.scales[groups.clone()], &x.offsets[groups], sums);
    }
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_into_vec().expect("just converted")
}

/// A linear layer with its weight in eight bits.
#[derive(Debug)]
pub struct Int8Linear {
    weight: Int8Matrix,
    bias: Option<Vec<f32>>,
}

impl Int8Linear {
    /// Rounds a layer's weight.
    pub fn new(layer: &Linear) -> Self {
        Self {
            weight: Int8Matrix::of_columns(layer.weight.val()),
            bias: layer.bias.as_ref().map(|bias| host(bias.val())),
        }
    }

    /// Bytes of memory it takes.
    pub fn bytes(&self) -> usize {
        self.weight.bytes() + self.bias.as_ref().map_or(0, |bias| size_of_val(&bias[..]))
    }
}

/// [`linear`], through the weight in eight bits where there is one; a precision then has no meaning.
///
/// # Shapes
/// - `x`: `[.., d_in]`; returns `[.., d_out]`
pub fn linear_or_int8<const D: usize>(
    layer: &Linear,
    int8: Option<&Int8Linear>,
    x: Tensor<D>,
    activation: Activation,
    precision: Precision,
) -> Tensor<D> {
    let Some(int8) = int8 else { return linear(layer, x, activation, precision) };
    let (mut shape, device) = (x.dims(), x.device());
    shape[D - 1] = int8.weight.d_out;
    let y = int8.weight.product(&host(x), int8.bias.as_deref(), activation);
    Tensor::from_data(TensorData::new(y, shape), &device)
}

/// The inner product of each hidden state with each row of a table in eight bits.
///
/// # Shapes
/// - `x`: `[rows, d_model]`; returns `[rows, vocab]`
pub fn int8_head(x: Tensor<2>, table: &Int8Matrix) -> Tensor<2> {
    let ([rows, _], device) = (x.dims(), x.device());
    let y = table.product(&host(x), None, Activation::Identity);
    Tensor::from_data(TensorData::new(y, [rows, table.d_out]), &device)
}

/// Rows whose logits exist at one time.
const LOSS_ROWS: usize = 256;

/// The summed cross-entropy and the summed weight of what is guessed right, as [`crate::cross_entropy_and_correct`],
/// through a table in eight bits.
///
/// # Shapes
/// - `hidden`: `[rows, d_model]`; `targets`, `weights`: `[rows]`; returns two of `[1]`
pub fn int8_cross_entropy_and_correct(
    hidden: Tensor<2>,
    table: &Int8Matrix,
    targets: Tensor<1, Int>,
    weights: Tensor<1>,
) -> [Tensor<1>; 2] {
    let device = hidden.device();
    let (hidden, weights) = (host(hidden), host(weights));
    let targets: Vec<i32> = targets.into_data().convert::<i32>().try_into_vec().expect("just converted");
    let (mut loss, mut correct) = (0f64, 0f64);
    let chunks = hidden.chunks(LOSS_ROWS * table.d_in).zip(targets.chunks(LOSS_ROWS)).zip(weights.chunks(LOSS_ROWS));
    for ((hidden, targets), weights) in chunks {
        let logits = table.product(hidden, None, Activation::Identity);
        let of_row = |(logits, target): (&[f32], &i32)| {
            let target = *target as usize;
            assert!(target < logits.len(), "target {target} of {} ids", logits.len());
            (vector::log_sum_exp(logits) - logits[target], vector::first_largest(logits) == target)
        };
        let rows: Vec<(f32, bool)> = logits.par_chunks(table.d_out).zip(targets).map(of_row).collect();
        for ((of_row, right), weight) in rows.into_iter().zip(weights) {
            // A weight of zero trains nothing, whatever its loss.
            if *weight != 0.0 {
                loss += f64::from(of_row) * f64::from(*weight);
                correct += if right { f64::from(*weight) } else { 0.0 };
            }
        }
    }
    [loss, correct].map(|sum| Tensor::from_data(TensorData::new(vec![sum as f32], [1]), &device))
}

#[cfg(test)]
mod tests;
