use super::*;
use crate::oracle::{Values, assert_agree_within, assert_same_bits, assert_spreads_nan, random, scaled};
use crate::reference::{layer, parameter};
use crate::{Activation, AttentionOptions, DropoutKey, attention, linear};
use burn::tensor::{Int, TensorData};

const EPSILON: f64 = 1e-3;

/// Batch, positions, heads, width of a head, width of the hidden state.
const SHAPES: [[usize; 5]; 4] = [[1, 1, 1, 1, 1], [2, 3, 1, 5, 17], [3, 67, 2, 9, 31], [2, 150, 3, 16, 80]];

fn inputs([batch, seq, n_head, d_head, inner]: [usize; 5]) -> Vec<Values> {
    let d = n_head * d_head;
    vec![
        random(&[batch, seq, d], 1),
        random(&[d], 2),
        random(&[d], 3),
        scaled(random(&[d, inner], 4), d),
        random(&[inner], 5),
        scaled(random(&[inner / if inner == 3 * d { 3 } else { 1 }, d], 6), inner),
        random(&[d], 7),
    ]
}

/// The layers that the inputs are the parameters of.
struct Built {
    x: Tensor<3>,
    norm: LayerNorm,
    layers: [Linear; 2],
}

fn built(x: &[Tensor<1>], of: &[Values]) -> Built {
    let vector = |i: usize| of[i].view::<1>(x, i);
    let layer = |i: usize| layer(of[i].view::<2>(x, i), vector(i + 1));
    let d = of[1].values.len();
    let device = x[0].device();
    let mut norm = burn::nn::LayerNormConfig::new(d).with_epsilon(EPSILON).init(&device);
    (norm.gamma, norm.beta) = (parameter(vector(1)), Some(parameter(vector(2))));
    Built { x: of[0].view(x, 0), norm, layers: [layer(3), layer(5)] }
}

#[derive(Clone, Copy, Debug)]
struct Case {
    place: NormPlace,
    dropout: Option<Dropout>,
    precision: Precision,
}

/// Both places, with dropout and without.
fn cases() -> impl Iterator<Item = Case> {
    let dropout = |site| Dropout { probability: 0.3, key: DropoutKey { seed: 5, step: 3, site, first_row: 1 } };
    [NormPlace::Before, NormPlace::After].into_iter().flat_map(move |place| {
        [None, Some(dropout(2))].map(|dropout| Case { place, dropout, precision: Precision::F32 })
    })
}

fn feed_forward(case: Case, activation: Activation, single: bool) -> impl Fn(&[Tensor<1>], &[Values]) -> Tensor<1> {
    move |x, of| {
        let Built { x, norm, layers: [up, down] } = built(x, of);
        let Case { place, dropout, precision } = case;
        let residual = Residual { norm: &norm, epsilon: EPSILON, place, dropout };
        let y = match single {
            true => feed_forward_sublayer(x, &up, &down, activation, precision, residual),
            false => residual.around(x, |x| {
                let hidden = linear(&up, x, activation, precision);
                linear(&down, hidden, Activation::Identity, precision)
            }),
        };
        y.reshape([-1])
    }
}

fn self_attention(
    case: Case,
    n_head: usize,
    in_segments: bool,
    single: bool,
) -> impl Fn(&[Tensor<1>], &[Values]) -> Tensor<1> {
    move |x, of| {
        let Built { x, norm, layers: [qkv, proj] } = built(x, of);
        let Case { place, dropout, precision } = case;
        let [batch, seq, _] = x.dims();
        let segments = in_segments.then(|| {
            let ids: Vec<i32> = (0..batch * seq).map(|i| (i % seq / 5) as i32).collect();
            Tensor::<2, Int>::from_data(TensorData::new(ids, [batch, seq]), &x.device())
        });
        let options = AttentionOptions { n_head, causal: !in_segments, segments, dropout, precision };
        let residual = Residual { norm: &norm, epsilon: EPSILON, place, dropout };
        let y = match single {
            true => attention_sublayer(x, &qkv, &proj, options, residual),
            false => residual.around(x, |x| {
                let y = attention(linear(&qkv, x, Activation::Identity, precision), options);
                linear(&proj, y, Activation::Identity, precision)
            }),
        };
        y.reshape([-1])
    }
}

#[test]
fn a_feed_forward_sublayer_equals_its_separate_operations() {
    for shape in SHAPES {
        for case in cases() {
            for activation in [Activation::GeluTanh, Activation::GeluErf] {
                let of = |single| feed_forward(case, activation, single);
                assert_agree_within(1e-5, &inputs(shape), of(true), of(false));
                let case = Case { precision: Precision::Bf16, ..case };
                let of = |single| feed_forward(case, activation, single);
                assert_agree_within(1e-2, &inputs(shape), of(true), of(false));
            }
        }
    }
}

/// Inputs of the attention half.
fn attention_inputs([batch, seq, n_head, d_head, _]: [usize; 5]) -> Vec<Values> {
    inputs([batch, seq, n_head, d_head, 3 * n_head * d_head])
}

#[test]
fn an_attention_sublayer_equals_its_separate_operations() {
    for shape in SHAPES {
        for case in cases() {
            for in_segments in [false, true] {
                let of = |single| self_attention(case, shape[2], in_segments, single);
                assert_agree_within(1e-5, &attention_inputs(shape), of(true), of(false));
                let case = Case { precision: Precision::Bf16, ..case };
                let of = |single| self_attention(case, shape[2], in_segments, single);
                assert_agree_within(1e-2, &attention_inputs(shape), of(true), of(false));
            }
        }
    }
}

#[test]
fn sublayers_give_the_same_bits_for_every_number_of_threads() {
    let shape = [3, 67, 2, 24, 96];
    for case in cases() {
        for precision in [Precision::F32, Precision::Bf16] {
            let case = Case { precision, ..case };
            assert_same_bits(&inputs(shape), feed_forward(case, Activation::GeluTanh, true));
            assert_same_bits(&attention_inputs(shape), self_attention(case, 2, false, true));
        }
    }
}

#[test]
fn sublayers_pass_nan_and_infinity() {
    let shape = [2, 3, 1, 5, 17];
    for case in cases().filter(|case| case.dropout.is_none()) {
        assert_spreads_nan(&inputs(shape), feed_forward(case, Activation::GeluTanh, true));
        assert_spreads_nan(&attention_inputs(shape), self_attention(case, 1, false, true));
    }
}
