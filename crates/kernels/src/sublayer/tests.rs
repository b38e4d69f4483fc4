use super::*;
use crate::oracle::{Values, assert_agree_within, assert_same_bits, assert_spreads_nan, random, scaled};
use crate::reference::{layer, parameter};
use crate::{Activation, AttentionOptions, DropoutKey};
use burn::tensor::{Int, TensorData};

const EPSILON: f64 = 1e-3;

/// Batch, positions, heads, width of a head, width of the hidden state.
const SHAPES: [[usize; 5]; 4] = [[1, 1, 1, 1, 1], [2, 3, 1, 5, 17], [3, 67, 2, 9, 31], [2, 150, 3, 16, 80]];

fn input([batch, seq, n_head, d_head, _]: [usize; 5]) -> Values {
    random(&[batch, seq, n_head * d_head], 1)
}

/// Parameters of a sublayer whose first layer is `inner` wide and whose second reads `back`.
fn parameters(d: usize, inner: usize, back: usize) -> [Values; 6] {
    [
        random(&[d], 2),
        random(&[d], 3),
        scaled(random(&[d, inner], 4), d),
        random(&[inner], 5),
        scaled(random(&[back, d], 6), inner),
        random(&[d], 7),
    ]
}

/// Inputs of the feed-forward half.
fn inputs(shape: [usize; 5]) -> Vec<Values> {
    let [_, _, n_head, d_head, inner] = shape;
    std::iter::once(input(shape)).chain(parameters(n_head * d_head, inner, inner)).collect()
}

/// Inputs of the attention half.
fn attention_inputs(shape: [usize; 5]) -> Vec<Values> {
    let d = shape[2] * shape[3];
    std::iter::once(input(shape)).chain(parameters(d, 3 * d, d)).collect()
}

/// The layers that some of the inputs are the parameters of.
struct Built {
    norm: LayerNorm,
    layers: [Linear; 2],
}

/// Those of sublayer number `index`.
fn built(x: &[Tensor<1>], of: &[Values], index: usize) -> Built {
    let vector = |i: usize| of[i].view::<1>(x, i);
    let layer = |i: usize| layer(of[i].view::<2>(x, i), vector(i + 1));
    let first = 1 + 6 * index;
    let d = of[first].values.len();
    let device = x[0].device();
    let mut norm = burn::nn::LayerNormConfig::new(d).with_epsilon(EPSILON).init(&device);
    (norm.gamma, norm.beta) = (parameter(vector(first)), Some(parameter(vector(first + 1))));
    Built { norm, layers: [layer(first + 2), layer(first + 4)] }
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

/// As a single operation, or in separate ones.
fn run(single: bool, x: &[Tensor<1>], of: &[Values], halves: &[Sublayer]) -> Tensor<1> {
    let x: Tensor<3> = of[0].view(x, 0);
    let y = match single {
        true => sublayers(x, halves),
        false => halves.iter().fold(x, |x, half| half.residual.around(x, |x| half.function.apply(x))),
    };
    y.reshape([-1])
}

impl Built {
    fn residual(&self, case: Case) -> Residual<'_> {
        Residual { norm: &self.norm, epsilon: EPSILON, place: case.place, dropout: case.dropout }
    }

    fn feed_forward(&self, case: Case, activation: Activation) -> Sublayer<'_> {
        let [up, down] = &self.layers;
        let function = Function::FeedForward { up, down, activation, precision: case.precision };
        Sublayer { function, residual: self.residual(case) }
    }

    fn attention(&self, case: Case, options: AttentionOptions) -> Sublayer<'_> {
        let [qkv, proj] = &self.layers;
        Sublayer { function: Function::Attention { qkv, proj, options }, residual: self.residual(case) }
    }
}

fn feed_forward(case: Case, activation: Activation, single: bool) -> impl Fn(&[Tensor<1>], &[Values]) -> Tensor<1> {
    move |x, of| run(single, x, of, &[built(x, of, 0).feed_forward(case, activation)])
}

fn options(case: Case, n_head: usize, in_segments: bool, x: &Tensor<3>) -> AttentionOptions {
    let [batch, seq, _] = x.dims();
    let segments = in_segments.then(|| {
        let ids: Vec<i32> = (0..batch * seq).map(|i| (i % seq / 5) as i32).collect();
        Tensor::<2, Int>::from_data(TensorData::new(ids, [batch, seq]), &x.device())
    });
    let Case { dropout, precision, .. } = case;
    AttentionOptions { n_head, causal: !in_segments, segments, dropout, precision }
}

fn self_attention(
    case: Case,
    n_head: usize,
    in_segments: bool,
    single: bool,
) -> impl Fn(&[Tensor<1>], &[Values]) -> Tensor<1> {
    move |x, of| {
        let options = options(case, n_head, in_segments, &of[0].view(x, 0));
        run(single, x, of, &[built(x, of, 0).attention(case, options)])
    }
}

/// An attention half and a feed-forward half in turn.
fn stack(case: Case, n_head: usize, in_segments: bool, single: bool) -> impl Fn(&[Tensor<1>], &[Values]) -> Tensor<1> {
    move |x, of| {
        let built: Vec<_> = (0..of.len() / 6).map(|index| built(x, of, index)).collect();
        let halves = built.iter().enumerate().map(|(index, built)| match index % 2 {
            0 => built.attention(case, options(case, n_head, in_segments, &of[0].view(x, 0))),
            _ => built.feed_forward(case, Activation::GeluTanh),
        });
        run(single, x, of, &halves.collect::<Vec<_>>())
    }
}

/// Inputs of [`stack`].
fn stack_inputs(shape: [usize; 5], halves: usize) -> Vec<Values> {
    let [_, _, n_head, d_head, inner] = shape;
    let d = n_head * d_head;
    let of_half = |index| if index % 2 == 0 { parameters(d, 3 * d, d) } else { parameters(d, inner, inner) };
    std::iter::once(input(shape)).chain((0..halves).flat_map(of_half)).collect()
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

/// Two halves together, then one; the second of three takes its input from the first, and its gradient from the third.
#[test]
fn sublayers_together_equal_their_separate_operations() {
    for shape in SHAPES {
        for case in cases() {
            for halves in [2, 3, 4] {
                let of = |single| stack(case, shape[2], halves == 2, single);
                assert_agree_within(2e-5, &stack_inputs(shape, halves), of(true), of(false));
            }
            let case = Case { precision: Precision::Bf16, ..case };
            let of = |single| stack(case, shape[2], true, single);
            assert_agree_within(2e-2, &stack_inputs(shape, 2), of(true), of(false));
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
            assert_same_bits(&stack_inputs(shape, 4), stack(case, 2, false, true));
        }
    }
}

#[test]
fn sublayers_pass_nan_and_infinity() {
    let shape = [2, 3, 1, 5, 17];
    for case in cases().filter(|case| case.dropout.is_none()) {
        assert_spreads_nan(&inputs(shape), feed_forward(case, Activation::GeluTanh, true));
        assert_spreads_nan(&attention_inputs(shape), self_attention(case, 1, false, true));
        assert_spreads_nan(&stack_inputs(shape, 2), stack(case, 1, false, true));
    }
}
