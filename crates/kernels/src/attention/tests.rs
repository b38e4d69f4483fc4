use super::*;
use crate::DropoutKey;
use crate::oracle::{Values, assert_agree_within, assert_same_bits, assert_spreads_nan, random};
use burn::tensor::TensorData;

/// Batch, positions, heads, width of a head.
const SHAPES: [[usize; 4]; 7] =
    [[1, 1, 1, 1], [2, 2, 1, 3], [1, 63, 3, 5], [3, 64, 2, 16], [2, 65, 1, 17], [1, 131, 2, 7], [1, 200, 1, 33]];

fn inputs([batch, seq, n_head, d_head]: [usize; 4]) -> Vec<Values> {
    vec![random(&[batch, seq, 3 * n_head * d_head], 7)]
}

/// Segments of uneven lengths; the last positions are padding, segment 0.
fn segments(qkv: &Tensor<3>) -> Tensor<2, Int> {
    let [batch, seq, _] = qkv.dims();
    let of = |i: usize| if i % seq + 2 >= seq { 0 } else { (1 + i % seq / (3 + i / seq * 5)) as i32 };
    let ids: Vec<i32> = (0..batch * seq).map(of).collect();
    Tensor::from_data(TensorData::new(ids, [batch, seq]), &qkv.device())
}

/// Causal or not, in segments or not, with dropout or not.
fn cases() -> impl Iterator<Item = [bool; 3]> {
    (0..8).map(|case| [0, 1, 2].map(|bit| case >> bit & 1 == 1))
}

fn run(
    attend: impl Fn(Tensor<3>, AttentionOptions) -> Tensor<3> + Sync,
    n_head: usize,
    [causal, packed, dropped]: [bool; 3],
    precision: Precision,
) -> impl Fn(&[Tensor<1>], &[Values]) -> Tensor<1> + Sync {
    let key = DropoutKey { seed: 5, step: 6, site: 7, first_row: 8 };
    let dropout = dropped.then_some(Dropout { probability: 0.3, key });
    move |x, of| {
        let qkv = of[0].view::<3>(x, 0);
        let segments = packed.then(|| segments(&qkv));
        attend(qkv, AttentionOptions { n_head, causal, segments, dropout, precision }).reshape([-1])
    }
}

#[test]
fn attention_equals_the_composed_operations_with_and_without_segments_and_dropout() {
    for shape in SHAPES {
        for case in cases() {
            for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Bf16, 1e-2)] {
                let (ours, theirs) =
                    (run(attention, shape[2], case, precision), run(composed, shape[2], case, precision));
                assert_agree_within(tolerance, &inputs(shape), ours, theirs);
            }
        }
    }
}

#[test]
fn attention_gives_the_same_bits_for_every_number_of_threads() {
    for case in cases() {
        for precision in [Precision::F32, Precision::Bf16] {
            assert_same_bits(&inputs([2, 131, 3, 11]), run(attention, 3, case, precision));
        }
    }
}

#[test]
fn attention_passes_nan_and_infinity() {
    for case in cases() {
        assert_spreads_nan(&inputs([1, 70, 1, 5]), run(attention, 1, case, Precision::F32));
    }
}

#[test]
fn a_later_token_changes_no_bit_of_an_earlier_output() {
    for device in crate::oracle::devices() {
        let attend = |last: f32| {
            let mut values: Vec<f32> = (0..70 * 6).map(|i| (i as f32).sin()).collect();
            values[69 * 6..].fill(last);
            let qkv = Tensor::<3>::from_data(TensorData::new(values, [1, 70, 6]), &device);
            attention(qkv, AttentionOptions::causal(1)).narrow(1, 0, 69).into_data()
        };
        assert_eq!(attend(0.5), attend(-3.0));
    }
}

#[test]
fn a_packed_row_attends_as_each_of_its_segments_alone() {
    for device in crate::oracle::devices() {
        for causal in [false, true] {
            let values: Vec<f32> = (0..150 * 6).map(|i| (i as f32 * 0.7).sin()).collect();
            let qkv = Tensor::<3>::from_data(TensorData::new(values, [1, 150, 6]), &device);
            let ids: Vec<i32> = (0..150)
                .map(|i| {
                    if i < 61 {
                        3
                    } else if i < 145 {
                        9
                    } else {
                        0
                    }
                })
                .collect();
            let segments = Tensor::from_data(TensorData::new(ids, [1, 150]), &device);
            let options = AttentionOptions { causal, ..AttentionOptions::causal(1) };
            let packed = attention(qkv.clone(), AttentionOptions { segments: Some(segments), ..options.clone() });
            for part in [0..61, 61..145, 145..150] {
                let alone = attention(qkv.clone().narrow(1, part.start, part.len()), options.clone());
                let together = packed.clone().narrow(1, part.start, part.len());
                let apart = (alone - together).abs().max().into_scalar::<f32>();
                assert!(apart < 1e-6, "{part:?}: {apart}");
            }
        }
    }
}
