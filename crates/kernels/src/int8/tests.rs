use super::*;
use crate::oracle::{assert_near, devices, random};
use burn::nn::LinearConfig;

const SHAPES: [[usize; 3]; 6] = [[1, 1, 1], [2, 63, 33], [5, 64, 32], [6, 130, 97], [7, 200, 640], [13, 768, 50]];

fn tensor<const D: usize>(shape: [usize; D], seed: u64, device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(random(&shape, seed).values, shape), device)
}

/// What the weights were rounded to, `[d_in, d_out]`.
fn weights(matrix: &Int8Matrix) -> Vec<f64> {
    let groups = matrix.d_in.div_ceil(GROUP);
    let weight = |i: usize| {
        let (row, channel) = (i / matrix.d_out, i % matrix.d_out);
        let panel = &matrix.panels[channel / PANEL * groups * GROUP_BYTES..];
        let stored = panel[row / DEPTH * DEPTH * PANEL + channel % PANEL * DEPTH + row % DEPTH];
        (f64::from(stored) - 128.0) * f64::from(matrix.scales[channel])
    };
    (0..matrix.d_in * matrix.d_out).map(weight).collect()
}

#[test]
fn weights_are_rounded_to_the_nearest_of_255_steps_of_their_channel() {
    let device = Device::flex();
    for [_, d_in, d_out] in SHAPES {
        let table = tensor([d_out, d_in], 3, &device);
        let by_rows = Int8Matrix::of_rows(table.clone());
        let by_columns = Int8Matrix::of_columns(table.clone().transpose());
        assert!(by_rows.panels == by_columns.panels && by_rows.scales == by_columns.scales);
        let (exact, rounded) = (host(table.transpose()), weights(&by_rows));
        for (i, (exact, rounded)) in exact.iter().zip(rounded).enumerate() {
            let step = f64::from(by_rows.scales[i % d_out]);
            assert!((f64::from(*exact) - rounded).abs() <= 0.5001 * step, "{exact} {rounded} in steps of {step}");
        }
    }
}

#[test]
fn the_product_is_that_of_rounded_numbers_on_every_tier() {
    let device = Device::flex();
    for [rows, d_in, d_out] in SHAPES {
        let matrix = Int8Matrix::of_columns(tensor([d_in, d_out], 1, &device));
        let x = random(&[rows, d_in], 2).values;
        let rounded = Int8Rows::new(&x, d_in);
        let weights = weights(&matrix);
        let activation = |row: usize, i: usize| {
            f64::from(rounded.row(row)[i]) * f64::from(rounded.scales[row * rounded.groups + i / GROUP])
        };
        let exact = |row: usize, channel: usize| -> f64 {
            (0..d_in).map(|i| activation(row, i) * weights[i * d_out + channel]).sum()
        };
        let expected: Vec<f32> = (0..rows * d_out).map(|i| exact(i / d_out, i % d_out) as f32).collect();
        let ours = matrix.product(&x, None, Activation::Identity);
        assert_near(&format!("{rows} {d_in} {d_out}"), 1e-6, &ours, &expected);
        let groups = rounded.groups;
        for panel in 0..d_out.div_ceil(PANEL) {
            let mut sums = vec![[0f32; PANEL]; rows];
            portable_panel_sums(
                &matrix.panels[panel * groups * GROUP_BYTES..][..groups * GROUP_BYTES],
                &rounded,
                0,
                &mut sums,
            );
            for (row, sums) in sums.iter().enumerate() {
                for channel in panel * PANEL..((panel + 1) * PANEL).min(d_out) {
                    let (ours, exact) = (sums[channel % PANEL] * matrix.scales[channel], exact(row, channel));
                    assert!((f64::from(ours) - exact).abs() <= 1e-5 * (1.0 + exact.abs()), "{ours} for {exact}");
                }
            }
        }
    }
}

#[test]
fn a_layer_in_eight_bits_is_close_to_the_one_it_came_from() {
    for device in devices() {
        for activation in [Activation::Identity, Activation::GeluTanh, Activation::GeluErf] {
            let layer = LinearConfig::new(200, 150).init(&device);
            let x = tensor([2, 5, 200], 7, &device);
            let int8 = Int8Linear::new(&layer);
            let exact = host(linear(&layer, x.clone(), activation, Precision::F32));
            let ours = host(linear_or_int8(&layer, Some(&int8), x.clone(), activation, Precision::F32));
            assert_near(&format!("{activation:?}"), 2e-2, &ours, &exact);
            assert!(int8.bytes() < 200 * 150 * 2);
            let head = Int8Matrix::of_rows(layer.weight.val().transpose());
            let x = x.reshape([10, 200]);
            let (ours, exact) = (host(int8_head(x.clone(), &head)), host(x.matmul(layer.weight.val())));
            assert_near("head", 2e-2, &ours, &exact);
        }
    }
}

#[test]
fn a_row_is_the_same_bits_among_others_and_on_any_number_of_threads() {
    let matrix = Int8Matrix::of_columns(tensor([300, 900], 1, &Device::flex()));
    let x = random(&[17, 300], 2).values;
    let bits = |y: Vec<f32>| y.into_iter().map(f32::to_bits).collect::<Vec<_>>();
    let together = bits(matrix.product(&x, None, Activation::GeluTanh));
    for threads in [1, 2, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
        for row in 0..17 {
            let alone = pool.install(|| matrix.product(&x[row * 300..][..300], None, Activation::GeluTanh));
            assert_eq!(bits(alone), together[row * 900..][..900], "row {row} on {threads} threads");
        }
    }
}

#[test]
fn the_loss_is_that_of_the_logits() {
    let device = Device::flex();
    let table = Int8Matrix::of_rows(tensor([70, 48], 1, &device));
    let hidden = tensor([300, 48], 2, &device);
    let targets: Vec<i32> = (0..300).map(|i| i * 7 % 70).collect();
    let weights: Vec<f32> = (0..300).map(|i| (i % 3) as f32 / 2.0).collect();
    let [loss, correct] = int8_cross_entropy_and_correct(
        hidden.clone(),
        &table,
        Tensor::from_data(TensorData::new(targets.clone(), [300]), &device),
        Tensor::from_data(TensorData::new(weights.clone(), [300]), &device),
    );
    let logits = host(int8_head(hidden, &table));
    let (mut expected, mut right) = (0f64, 0f64);
    for (row, logits) in logits.chunks(70).enumerate() {
        let total: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
        let target = targets[row] as usize;
        expected += f64::from(weights[row]) * (total.ln() - f64::from(logits[target]));
        let best = logits.iter().all(|logit| *logit <= logits[target]);
        right += if best { f64::from(weights[row]) } else { 0.0 };
    }
    assert!((loss.into_scalar::<f64>() - expected).abs() < 1e-3 * expected);
    assert_eq!(correct.into_scalar::<f64>(), right);
}

#[test]
fn nan_and_infinity_come_out() {
    let device = Device::flex();
    for bad in [f32::NAN, f32::INFINITY] {
        let (mut x, mut w) = (random(&[2, 100], 1).values, random(&[100, 40], 2).values);
        let matrix =
            |w: &[f32]| Int8Matrix::of_columns(Tensor::from_data(TensorData::new(w.to_vec(), [100, 40]), &device));
        let whole = matrix(&w);
        x[107] = bad;
        let y = whole.product(&x, None, Activation::Identity);
        assert!(y[..40].iter().all(|y| y.is_finite()) && y[40..].iter().all(|y| !y.is_finite()), "{bad}");
        w[39] = bad;
        x[107] = 0.0;
        let y = matrix(&w).product(&x, None, Activation::Identity);
        assert!(y[..39].iter().all(|y| y.is_finite()) && !y[39].is_finite(), "{bad} in a weight");
    }
    assert!(supports_int8(&device));
}
