//! The operations once more in plain loops of f64, as their definitions read: what values and, by finite differences,
//! gradients are compared with.

use crate::cube;
use crate::oracle::{Values, assert_near, random, run, scaled};
use crate::{
    Activation, AttentionOptions, CrossEntropy, Dropout, DropoutKey, Function, NormPlace, Precision, Residual,
    Sublayer, sublayers,
};
use burn::module::{Param, ParamId};
use burn::nn::{LayerNormConfig, Linear};
use burn::tensor::{Device, Int, Tensor, TensorData};

/// An operation on flat inputs.
type Reference<'a> = dyn Fn(&[Vec<f64>]) -> Vec<f64> + 'a;

/// Both CPU backends, and a GPU where there is one.
fn devices() -> Vec<Device> {
    crate::oracle::devices().into_iter().chain(cube::tests::device()).collect()
}

/// A parameter that passes its gradient on: `Param::from_tensor` would make a leaf of it.
pub(crate) fn parameter<const D: usize>(value: Tensor<D>) -> Param<Tensor<D>> {
    Param::initialized(ParamId::new(), value)
}

/// A layer of these parameters.
pub(crate) fn layer(weight: Tensor<2>, bias: Tensor<1>) -> Linear {
    Linear { weight: parameter(weight), bias: Some(parameter(bias)) }
}

/// Numbers of an input whose slope is taken: spread over it, not all of a large one.
const SLOPES: usize = 24;

/// Values within `tolerance` of the reference's, by their norms, and gradients within it of the reference's slopes.
fn assert_equals(
    what: &str,
    tolerance: f64,
    inputs: &[Values],
    own: impl Fn(&[Tensor<1>], &[Values]) -> Tensor<1>,
    reference: &Reference,
) {
    let exact: Vec<Vec<f64>> = inputs.iter().map(|of| of.values.iter().map(|v| *v as f64).collect()).collect();
    let expected = reference(&exact);
    let weights: Vec<f64> = random(&[expected.len()], 99).values.iter().map(|w| *w as f64).collect();
    let weighted = |inputs: &[Vec<f64>]| -> f64 { reference(inputs).iter().zip(&weights).map(|(y, w)| y * w).sum() };
    let expected: Vec<f32> = expected.iter().map(|v| *v as f32).collect();
    let mut slopes: Vec<Vec<(usize, f32)>> = Vec::new();
    for input in 0..inputs.len() {
        let len = exact[input].len();
        let step = len.div_ceil(SLOPES);
        let of_input = (0..len).step_by(step).map(|at| {
            let mut moved = exact.clone();
            let h = 1e-5;
            moved[input][at] += h;
            let above = weighted(&moved);
            moved[input][at] -= 2.0 * h;
            (at, ((above - weighted(&moved)) / (2.0 * h)) as f32)
        });
        slopes.push(of_input.collect());
    }
    for device in devices() {
        let (y, gradients) = run(inputs, &device, &own);
        assert_near(&format!("{what} on {device:?}"), tolerance, &y, &expected);
        for (input, slopes) in slopes.iter().enumerate() {
            let ours: Vec<f32> = slopes.iter().map(|(at, _)| gradients[input][*at]).collect();
            let theirs: Vec<f32> = slopes.iter().map(|(_, slope)| *slope).collect();
            assert_near(&format!("{what}: gradient {input} on {device:?}"), tolerance, &ours, &theirs);
        }
    }
}

/// Shapes that a run of this generator gives: small, with 1, primes, and numbers just off the width of a vector.
struct Sizes(u64);

impl Sizes {
    fn next(&mut self, most: usize) -> usize {
        const LIKELY: [usize; 14] = [1, 2, 3, 5, 7, 13, 15, 16, 17, 31, 33, 47, 49, 65];
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let fitting: Vec<usize> = LIKELY.into_iter().filter(|size| *size <= most).collect();
        fitting[(self.0 >> 33) as usize % fitting.len()]
    }
}

/// What each precision is held to.
const PRECISIONS: [(Precision, f64); 2] = [(Precision::F32, 1e-5), (Precision::Bf16, 1e-2)];

fn linear(x: &[f64], w: &[f64], b: &[f64], activation: Activation) -> Vec<f64> {
    let n = b.len();
    let k = w.len() / n;
    let affine = |row: &[f64], col: usize| b[col] + (0..k).map(|i| row[i] * w[i * n + col]).sum::<f64>();
    let scale = (2.0 / std::f64::consts::PI).sqrt();
    let activate = |u: f64| match activation {
        Activation::Identity => u,
        Activation::GeluTanh => 0.5 * u * (1.0 + (scale * (u + 0.044715 * u.powi(3))).tanh()),
        Activation::GeluErf => u * crate::vector::gelu::tests::cumulative(u),
    };
    x.chunks(k).flat_map(|row| (0..n).map(move |col| (row, col))).map(|(row, col)| activate(affine(row, col))).collect()
}

#[test]
fn linear_equals_plain_loops_in_f64() {
    let mut sizes = Sizes(1);
    for case in 0..12 {
        let [m, k, n] = [65, 49, 49].map(|most| sizes.next(most));
        let inputs = [random(&[m, k], 1), random(&[k, n], 2), random(&[n], 3)];
        for activation in [Activation::Identity, Activation::GeluTanh, Activation::GeluErf] {
            for (precision, tolerance) in PRECISIONS {
                let own = move |x: &[Tensor<1>], of: &[Values]| {
                    let (a, w, b) = (of[0].view::<2>(x, 0), of[1].view::<2>(x, 1), of[2].view::<1>(x, 2));
                    crate::linear(&layer(w, b), a, activation, precision).reshape([-1])
                };
                let what = format!("case {case}: {activation:?} {precision:?} of {m} {k} {n}");
                // A single product of rounded numbers is off by what rounding two numbers is; sums average it out.
                let tolerance = if precision == Precision::Bf16 && m * k * n < 200 { 4e-2 } else { tolerance };
                assert_equals(&what, tolerance, &inputs, own, &|x| linear(&x[0], &x[1], &x[2], activation));
            }
        }
    }
}

/// Where attention is confined to.
struct Confined {
    causal: bool,
    segments: Vec<i32>,
    factors: Vec<f32>,
}

fn attention(qkv: &[f64], [batch, seq, n_head, d_head]: [usize; 4], confined: &Confined) -> Vec<f64> {
    let d_model = n_head * d_head;
    let mut y = vec![0.0; batch * seq * d_model];
    for element in 0..batch {
        for head in 0..n_head {
            let at = |part: usize, position: usize, i: usize| {
                qkv[(element * seq + position) * 3 * d_model + part * d_model + head * d_head + i]
            };
            for query in 0..seq {
                let segment = |position: usize| confined.segments[element * seq + position];
                let seen = |key: &usize| (!confined.causal || *key <= query) && segment(*key) == segment(query);
                let keys: Vec<usize> = (0..seq).filter(seen).collect();
                let score = |key: usize| {
                    let dot: f64 = (0..d_head).map(|i| at(0, query, i) * at(1, key, i)).sum();
                    (dot / (d_head as f64).sqrt()).exp()
                };
                let scores: Vec<f64> = keys.iter().map(|key| score(*key)).collect();
                let total: f64 = scores.iter().sum();
                for (key, score) in keys.iter().zip(&scores) {
                    let place = ((element * n_head + head) * seq + query) * seq + key;
                    let weight = score / total * confined.factors[place] as f64;
                    for i in 0..d_head {
                        y[(element * seq + query) * d_model + head * d_head + i] += weight * at(2, *key, i);
                    }
                }
            }
        }
    }
    y
}

#[test]
fn attention_equals_plain_loops_in_f64_for_segments_with_gaps_dropout_and_a_long_context() {
    let mut sizes = Sizes(2);
    let mut shapes: Vec<[usize; 4]> =
        (0..10).map(|_| [sizes.next(3), sizes.next(65), sizes.next(3), sizes.next(17)]).collect();
    shapes.push([1, 1531, 1, 3]);
    for (case, shape) in shapes.into_iter().enumerate() {
        let [batch, seq, n_head, d_head] = shape;
        let long = seq > 1000;
        let inputs = [random(&[batch, seq, 3 * n_head * d_head], 4)];
        for bits in if long { 7..8 } else { 0..8 } {
            let [causal, packed, dropped] = [0, 1, 2].map(|bit| bits >> bit & 1 == 1);
            let probability = if dropped { 0.3 } else { 0.0 };
            let key = DropoutKey { seed: 1, step: 2, site: 3, first_row: 4 };
            let dropout = Dropout { probability, key };
            // Of the segments 0, 1, 4, 9 .. some have no position in a row, and the last positions are padding.
            let id = |i: usize| if i % seq + 2 >= seq { 0 } else { (i % seq / 7).pow(2) as i32 + 1 };
            let segments: Vec<i32> = (0..batch * seq).map(|i| if packed { id(i) } else { 1 }).collect();
            let confined = Confined {
                causal,
                segments: segments.clone(),
                factors: crate::dropout::mask_values(&[batch, n_head, seq, seq], dropout),
            };
            for (precision, tolerance) in PRECISIONS {
                let own = |x: &[Tensor<1>], of: &[Values]| {
                    let qkv = of[0].view::<3>(x, 0);
                    let ids = TensorData::new(segments.clone(), [batch, seq]);
                    let segments = packed.then(|| Tensor::<2, Int>::from_data(ids, &qkv.device()));
                    let options = AttentionOptions { n_head, causal, segments, dropout: Some(dropout), precision };
                    crate::attention(qkv, options).reshape([-1])
                };
                let what =
                    format!("case {case}: {shape:?} causal {causal} packed {packed} dropped {dropped} {precision:?}");
                let tolerance = if precision == Precision::Bf16 { 2.0 * tolerance } else { tolerance };
                // The slopes of a long context take the reference too long.
                if long {
                    let exact: Vec<f64> = inputs[0].values.iter().map(|v| *v as f64).collect();
                    let expected: Vec<f32> = attention(&exact, shape, &confined).iter().map(|v| *v as f32).collect();
                    for device in devices() {
                        assert_near(&what, tolerance, &run(&inputs, &device, &own).0, &expected);
                    }
                } else {
                    assert_equals(&what, tolerance, &inputs, own, &|x| attention(&x[0], shape, &confined));
                }
            }
        }
    }
}

fn layer_norm(x: &[f64], gamma: &[f64], beta: &[f64], epsilon: f64) -> Vec<f64> {
    let width = gamma.len();
    let normalize = |row: &[f64]| {
        let mean = row.iter().sum::<f64>() / width as f64;
        let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / width as f64;
        (0..width).map(|i| (row[i] - mean) / (variance + epsilon).sqrt() * gamma[i] + beta[i]).collect::<Vec<f64>>()
    };
    x.chunks(width).flat_map(normalize).collect()
}

#[test]
fn layer_norm_equals_plain_loops_in_f64() {
    let mut sizes = Sizes(3);
    for case in 0..12 {
        let [rows, width] = [65, 65].map(|most| sizes.next(most));
        let inputs = [random(&[rows, width], 5), random(&[width], 6), random(&[width], 7)];
        let own = |x: &[Tensor<1>], of: &[Values]| {
            let (a, gamma, beta) = (of[0].view::<2>(x, 0), of[1].view::<1>(x, 1), of[2].view::<1>(x, 2));
            let mut norm = LayerNormConfig::new(width).with_epsilon(1e-3).init(&a.device());
            (norm.gamma, norm.beta) = (parameter(gamma), Some(parameter(beta)));
            crate::layer_norm(&norm, 1e-3, a).reshape([-1])
        };
        assert_equals(&format!("case {case}: {rows} {width}"), 1e-5, &inputs, own, &|x| {
            layer_norm(&x[0], &x[1], &x[2], 1e-3)
        });
    }
}

fn cross_entropy([hidden, head, bias]: [&[f64]; 3], targets: &[i32], weights: &[f32], smoothing: f64) -> f64 {
    let width = hidden.len() / targets.len();
    let vocab = head.len() / width;
    let row = |row: usize| {
        let logit =
            |id: usize| bias[id] + (0..width).map(|i| hidden[row * width + i] * head[id * width + i]).sum::<f64>();
        let logits: Vec<f64> = (0..vocab).map(logit).collect();
        let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let log_total = most + logits.iter().map(|logit| (logit - most).exp()).sum::<f64>().ln();
        let mean = logits.iter().sum::<f64>() / vocab as f64;
        log_total - (1.0 - smoothing) * logits[targets[row] as usize] - smoothing * mean
    };
    (0..targets.len()).map(|i| row(i) * weights[i] as f64).sum()
}

#[test]
fn cross_entropy_equals_plain_loops_in_f64_with_weights_and_label_smoothing() {
    let mut sizes = Sizes(4);
    for case in 0..10 {
        let [rows, width, vocab] = [65, 33, 65].map(|most| sizes.next(most));
        let inputs = [random(&[rows, width], 8), random(&[vocab, width], 9), random(&[vocab], 10)];
        let targets: Vec<i32> = (0..rows).map(|row| (row * 31 % vocab) as i32).collect();
        let weights: Vec<f32> = (0..rows).map(|row| (row % 3) as f32 * 0.7 + 0.1).collect();
        for label_smoothing in [0.0f32, 0.2] {
            for (precision, tolerance) in PRECISIONS {
                let own = |x: &[Tensor<1>], of: &[Values]| {
                    let (hidden, head) = (of[0].view::<2>(x, 0), of[1].view::<2>(x, 1));
                    let device = hidden.device();
                    let targets = Tensor::from_data(TensorData::new(targets.clone(), [rows]), &device);
                    let weights = Tensor::from_data(TensorData::new(weights.clone(), [rows]), &device);
                    crate::cross_entropy_sum(
                        hidden,
                        head,
                        Some(of[2].view(x, 2)),
                        targets,
                        weights,
                        CrossEntropy { label_smoothing, precision, head_is_frozen: false },
                    )
                };
                let what = format!("case {case}: {rows} {width} {vocab} smoothing {label_smoothing} {precision:?}");
                let tolerance = if precision == Precision::Bf16 { 2.0 * tolerance } else { tolerance };
                assert_equals(&what, tolerance, &inputs, own, &|x| {
                    vec![cross_entropy([&x[0], &x[1], &x[2]], &targets, &weights, label_smoothing as f64)]
                });
            }
        }
    }
}

#[test]
fn embedding_and_dropout_equal_plain_loops_in_f64() {
    let mut sizes = Sizes(5);
    for case in 0..10 {
        let [rows, width, seq] = [65, 65, 33].map(|most| sizes.next(most));
        let inputs = [random(&[rows, width], 10), random(&[2, seq, width], 11)];
        let ids: Vec<i32> = (0..2 * seq).map(|i| (i * i % rows) as i32).collect();
        let key = DropoutKey { seed: 9, step: 8, site: 7, first_row: 6 };
        let dropout = Dropout { probability: 0.4, key };
        let factors = crate::dropout::mask_values(&[2, seq, width], dropout);
        let own = |x: &[Tensor<1>], of: &[Values]| {
            let (table, residual) = (of[0].view::<2>(x, 0), of[1].view::<3>(x, 1));
            let ids = Tensor::<2, Int>::from_data(TensorData::new(ids.clone(), [2, seq]), &table.device());
            crate::residual_add(residual, crate::embedding(table, ids), Some(dropout)).reshape([-1])
        };
        assert_equals(&format!("case {case}: {rows} {width} {seq}"), 1e-5, &inputs, own, &|x| {
            let of = |i: usize| x[0][ids[i / width] as usize * width + i % width] * factors[i] as f64 + x[1][i];
            (0..2 * seq * width).map(of).collect()
        });
    }
}

#[test]
fn adamw_equals_plain_loops_in_f64() {
    let step =
        crate::AdamwStep { scale: 0.5, lr: 3e-2, beta1: 0.9, beta2: 0.99, eps: 1e-6, weight_decay: 0.1, step: 5 };
    for length in [1, 13, 17, 1031] {
        let [value, gradient, first, second] = [1, 2, 3, 4].map(|seed| random(&[length], seed).values);
        let second: Vec<f32> = second.iter().map(|v| v.abs()).collect();
        let exact = |i: usize| {
            let g = gradient[i] as f64 * step.scale;
            let m = first[i] as f64 * step.beta1 + g * (1.0 - step.beta1);
            let v = second[i] as f64 * step.beta2 + g * g * (1.0 - step.beta2);
            let (m_hat, v_hat) = (m / (1.0 - step.beta1.powi(5)), v / (1.0 - step.beta2.powi(5)));
            value[i] as f64 * (1.0 - step.lr * step.weight_decay) - step.lr * m_hat / (v_hat.sqrt() + step.eps)
        };
        let expected: Vec<f32> = (0..length).map(|i| exact(i) as f32).collect();
        for device in devices() {
            let tensor = |v: &[f32]| Tensor::<1>::from_data(TensorData::new(v.to_vec(), [length]), &device);
            let [updated, _, _] =
                crate::adamw(tensor(&value), tensor(&gradient), tensor(&first), tensor(&second), step);
            let updated: Vec<f32> = updated.into_data().try_into_vec().expect("f32");
            assert_near(&format!("{length} on {device:?}"), 1e-6, &updated, &expected);
        }
    }
}

#[test]
fn sublayers_equal_plain_loops_in_f64() {
    let mut sizes = Sizes(6);
    for case in 0..8 {
        let [seq, n_head, d_head, d_ff] = [7, 2, 7, 17].map(|most| sizes.next(most));
        let (batch, d) = (2, n_head * d_head);
        let place = [NormPlace::Before, NormPlace::After][case % 2];
        let key = DropoutKey { seed: 1, step: 2, site: 3, first_row: 4 };
        let dropout = Dropout { probability: 0.3, key };
        let factors = crate::dropout::mask_values(&[batch, seq, d], dropout);
        // `f` between its normalization and its sum with the input.
        let around = |x: &[Vec<f64>], f: &dyn Fn(&[f64]) -> Vec<f64>| -> Vec<f64> {
            let norm = |values: &[f64]| layer_norm(values, &x[1], &x[2], 1e-3);
            let sum = |y: Vec<f64>| -> Vec<f64> {
                x[0].iter().zip(y).zip(&factors).map(|((x, y), factor)| x + y * *factor as f64).collect()
            };
            match place {
                NormPlace::Before => sum(f(&norm(&x[0]))),
                NormPlace::After => norm(&sum(f(&x[0]))),
            }
        };
        let inputs = |inner: usize, back: usize| {
            let x = [random(&[batch, seq, d], 1), random(&[d], 2), random(&[d], 3)];
            let first = [scaled(random(&[d, inner], 4), d), random(&[inner], 5)];
            x.into_iter()
                .chain(first)
                .chain([scaled(random(&[back, d], 6), back), random(&[d], 7)])
                .collect::<Vec<Values>>()
        };
        // What an operation gets of the inputs.
        let built = |x: &[Tensor<1>], of: &[Values]| {
            let vector = |i: usize| of[i].view::<1>(x, i);
            let mut norm = LayerNormConfig::new(d).with_epsilon(1e-3).init(&x[0].device());
            (norm.gamma, norm.beta) = (parameter(vector(1)), Some(parameter(vector(2))));
            let layers = [3, 5].map(|i| layer(of[i].view::<2>(x, i), vector(i + 1)));
            (of[0].view::<3>(x, 0), norm, layers)
        };
        // In half precision the separate operations are compared with, which are held to this one by one.
        let precision = Precision::F32;
        let what = format!("case {case}: {seq} {n_head} {d_head} {d_ff} {place:?}");
        let activation = [Activation::GeluTanh, Activation::GeluErf][case / 2 % 2];
        let own = |x: &[Tensor<1>], of: &[Values]| {
            let (x, norm, [up, down]) = built(x, of);
            let residual = Residual { norm: &norm, epsilon: 1e-3, place, dropout: Some(dropout) };
            let function = Function::FeedForward { up: &up, down: &down, activation, precision };
            sublayers(x, &[Sublayer { function, residual }]).reshape([-1])
        };
        assert_equals(&what, 1e-5, &inputs(d_ff, d_ff), own, &|x| {
            around(x, &|n| linear(&linear(n, &x[3], &x[4], activation), &x[5], &x[6], Activation::Identity))
        });
        let own = |x: &[Tensor<1>], of: &[Values]| {
            let (x, norm, [qkv, proj]) = built(x, of);
            let residual = Residual { norm: &norm, epsilon: 1e-3, place, dropout: Some(dropout) };
            let options = AttentionOptions { precision, ..AttentionOptions::causal(n_head) };
            let function = Function::Attention { qkv: &qkv, proj: &proj, options };
            sublayers(x, &[Sublayer { function, residual }]).reshape([-1])
        };
        let confined =
            Confined { causal: true, segments: vec![1; batch * seq], factors: vec![1.0; batch * n_head * seq * seq] };
        assert_equals(&what, 1e-5, &inputs(3 * d, d), own, &|x| {
            around(x, &|n| {
                let qkv = linear(n, &x[3], &x[4], Activation::Identity);
                let y = attention(&qkv, [batch, seq, n_head, d_head], &confined);
                linear(&y, &x[5], &x[6], Activation::Identity)
            })
        });
    }
}
