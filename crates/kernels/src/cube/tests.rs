//! Own operations on wgpu against the composed ones on the CPU, and their masks against the CPU's.

use super::covers_attention;
use crate::oracle::{Values, assert_near, loss_of, random, run};
use crate::{AdamwStep, AttentionOptions, CrossEntropy, Dropout, DropoutKey, Precision};
use burn::backend::DispatchDevice;
use burn::tensor::{Device, DeviceKind, DeviceType, Int, Tensor, TensorData};
use burn_cubecl::cubecl::MemoryScope;

const KEY: DropoutKey = DropoutKey { seed: 5, step: 6, site: 7, first_row: 8 };

/// A device with kernels of this module.
pub(crate) fn device() -> Option<Device> {
    if !Device::enumerate(DeviceType::Wgpu).is_empty() {
        return Some(Device::wgpu(DeviceKind::DefaultDevice));
    }
    // Said by name, so that a machine without Vulkan cannot look as if wgpu had been tested.
    let allowed = std::env::var_os("FIREBOX_TEST_WITHOUT_WGPU").is_some();
    assert!(allowed, "no GPU adapter; install a Vulkan driver, or set FIREBOX_TEST_WITHOUT_WGPU=1");
    None
}

/// Segments of uneven lengths, some apart from themselves; the last positions are padding, segment 0.
fn segments(batch: usize, seq: usize) -> Vec<i32> {
    let of = |i: usize| if i % seq + 2 >= seq { 0 } else { [3, 1, 4, 4, 2][i % seq / (5 + i / seq * 7) % 5] };
    (0..batch * seq).map(of).collect()
}

/// Causal or not, in segments or not, with dropout or not.
#[derive(Clone, Copy, Debug)]
struct Case {
    n_head: usize,
    causal: bool,
    packed: bool,
    dropped: bool,
}

fn attention_of(
    attend: impl Fn(Tensor<3>, AttentionOptions) -> Tensor<3>,
    Case { n_head, causal, packed, dropped }: Case,
) -> impl Fn(&[Tensor<1>], &[Values]) -> Tensor<1> {
    move |x, of| {
        let qkv = of[0].view::<3>(x, 0);
        let [batch, seq, _] = qkv.dims();
        let ids = || TensorData::new(segments(batch, seq), [batch, seq]);
        let segments = packed.then(|| Tensor::<2, Int>::from_data(ids(), &qkv.device()));
        let dropout = dropped.then_some(Dropout { probability: 0.3, key: KEY });
        let options = AttentionOptions { n_head, causal, segments, dropout, precision: Precision::F32 };
        attend(qkv, options).reshape([-1])
    }
}

#[test]
fn attention_on_wgpu_equals_the_composed_operations_on_the_cpu() {
    let Some(device) = device() else { return };
    let shapes =
        [[1, 1, 1, 1], [2, 3, 1, 5], [1, 31, 3, 7], [2, 32, 2, 32], [2, 33, 1, 33], [1, 97, 2, 17], [1, 70, 1, 128]];
    for [batch, seq, n_head, d_head] in shapes {
        let inputs = [random(&[batch, seq, 3 * n_head * d_head], 7)];
        for bits in 0..8 {
            let [causal, packed, dropped] = [0, 1, 2].map(|bit| bits >> bit & 1 == 1);
            let case = Case { n_head, causal, packed, dropped };
            let (y, gradients) = run(&inputs, &device, &attention_of(crate::attention, case));
            let (expected, slopes) = run(&inputs, &Device::flex(), &attention_of(crate::attention::composed, case));
            let what = format!("{batch} {seq} {d_head} {case:?}");
            assert_near(&what, 1e-5, &y, &expected);
            assert_near(&format!("gradient of {what}"), 1e-5, &gradients[0], &slopes[0]);
        }
    }
}

#[test]
fn attention_on_wgpu_gives_the_same_bits_on_every_run() {
    let Some(device) = device() else { return };
    let inputs = [random(&[2, 97, 3 * 2 * 17], 7)];
    let case = Case { n_head: 2, causal: true, packed: true, dropped: true };
    let once = || {
        let (y, gradients) = run(&inputs, &device, &attention_of(crate::attention, case));
        y.into_iter().chain(gradients.into_iter().flatten()).map(f32::to_bits).collect::<Vec<u32>>()
    };
    assert_eq!(once(), once());
}

#[test]
fn attention_on_wgpu_takes_half_precision_views_and_wide_heads() {
    let Some(device) = device() else { return };
    let attend = |device: &Device, d_head: usize, precision: Precision| {
        let width = 3 * 2 * d_head;
        let values = random(&[1, 2 * width, 9], 7).values;
        let turned = Tensor::<3>::from_data(TensorData::new(values, [1, 2 * width, 9]), device).swap_dims(1, 2);
        let qkv = turned.narrow(2, width / 2, width); // [1, 9, width], with gaps
        assert_eq!(covers_attention(&qkv, 2), d_head <= 128 && *device != Device::flex());
        let options = AttentionOptions { precision, ..AttentionOptions::causal(2) };
        crate::attention(qkv, options).into_data().try_into_vec::<f32>().expect("f32")
    };
    for (d_head, precision, tolerance) in
        [(6, Precision::F32, 1e-5), (6, Precision::Bf16, 1e-2), (6, Precision::F16, 1e-2), (129, Precision::F32, 1e-5)]
    {
        let expected = attend(&Device::flex(), d_head, precision);
        assert_near(&format!("{d_head} {precision:?}"), tolerance, &attend(&device, d_head, precision), &expected);
    }
}

#[test]
fn attention_on_wgpu_passes_nan_and_infinity() {
    let Some(device) = device() else { return };
    for bad in [f32::NAN, f32::INFINITY] {
        for causal in [false, true] {
            // In the last query, the last value and the last key; an infinite key may have no weight at all.
            let places = [69 * 15 + 4, 69 * 15 + 14, 69 * 15 + 9];
            for place in &places[..if bad.is_nan() { 3 } else { 2 }] {
                let mut inputs = [random(&[1, 70, 15], 7)];
                inputs[0].values[*place] = bad;
                let case = Case { n_head: 1, causal, packed: false, dropped: false };
                let (y, gradients) = run(&inputs, &device, &attention_of(crate::attention, case));
                assert!(y.iter().any(|v| !v.is_finite()), "{bad} at {place} was swallowed");
                assert!(gradients[0].iter().any(|v| !v.is_finite()), "{bad} at {place} was swallowed backwards");
            }
        }
    }
}

/// Bytes that the device has taken from the driver for this thread.
fn reserved(device: &Device) -> u64 {
    let DispatchDevice::Cube(device) = device.as_dispatch() else { unreachable!("a wgpu device") };
    device.client().memory_report(MemoryScope::CurrentStream).usage().bytes_reserved
}

/// The largest tensor this thread ever had on the device, in bytes.
fn largest_tensor(device: &Device) -> u64 {
    let DispatchDevice::Cube(device) = device.as_dispatch() else { unreachable!("a wgpu device") };
    let report = device.client().memory_report(MemoryScope::CurrentStream);
    let pools = report.streams.into_iter().flat_map(|stream| {
        let pools = stream.pools;
        pools.dynamic.into_iter().chain([pools.persistent, pools.dedicated])
    });
    pools.map(|pool| pool.largest_alloc).max().expect("a stream has pools")
}

#[test]
fn memory_of_attention_on_wgpu_grows_linearly_with_the_context() {
    let Some(device) = device() else { return };
    let attend = attention_of(crate::attention, Case { n_head: 1, causal: true, packed: true, dropped: true });
    let tracked = device.clone().autodiff();
    for seq in [1024, 4096] {
        let inputs = [random(&[1, seq, 24], 7)];
        let values = TensorData::new(inputs[0].values.clone(), [seq * 24]);
        let qkv = Tensor::<1>::from_data(values, &tracked).require_grad();
        // Not of a sum: choosing the fastest one takes memory of its own.
        let gradients = attend(std::slice::from_ref(&qkv), &inputs).backward();
        qkv.grad(&gradients).expect("it is tracked").into_data();
        // A fixed number of tensors, none larger than the input; the scores of one head would be 4 or 64 MiB.
        assert_eq!(largest_tensor(&device), (seq * 24 * 4) as u64);
    }
}

#[test]
fn adamw_on_wgpu_equals_the_composed_operations_on_the_cpu() {
    let Some(device) = device() else { return };
    let step = AdamwStep { scale: 0.7, lr: 1e-2, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.1, step: 3 };
    for length in [1, 257, 70_001] {
        for bad in [None, Some(f32::NAN), Some(f32::INFINITY)] {
            let of = |device: &Device| {
                [1, 2, 3, 4].map(|seed| {
                    let mut values = random(&[length], seed).values;
                    if seed == 4 {
                        values.iter_mut().for_each(|square| *square = square.abs());
                    }
                    if let Some(bad) = bad.filter(|_| seed == 2) {
                        values[length / 2] = bad;
                    }
                    Tensor::<1>::from_data(TensorData::new(values, [length]), device)
                })
            };
            let host = |tensor: Tensor<1>| tensor.into_data().try_into_vec::<f32>().expect("f32");
            let [value, gradient, first, second] = of(&device);
            let kept = value.clone();
            let ours = crate::adamw(value, gradient, first, second, step).map(host);
            assert_eq!(host(kept), random(&[length], 1).values);
            let [value, gradient, first, second] = of(&Device::flex());
            let theirs = crate::adamw::composed(value, gradient, first, second, step).map(host);
            for (ours, theirs) in ours.iter().zip(&theirs) {
                for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
                    let near = (a - b).abs() <= 1e-6 * b.abs().max(1.0);
                    assert!(near || bad.is_some() && i == length / 2 && !a.is_finite(), "{a} for {b} of {length}");
                }
            }
        }
    }
}

#[test]
fn adamw_on_wgpu_updates_in_place_what_nobody_else_holds() {
    let Some(device) = device() else { return };
    let length = 1 << 22;
    let tensors = || [1.0, 2.0, 3.0, 4.0].map(|value| Tensor::<1>::full([length], value, &device));
    let step = AdamwStep { scale: 1.0, lr: 1e-2, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.0, step: 1 };
    let [mut value, gradient, mut first, mut second] = tensors();
    device.sync().expect("the device works");
    let before = reserved(&device);
    for _ in 0..3 {
        [value, first, second] = crate::adamw(value, gradient.clone(), first, second, step);
    }
    device.sync().expect("the device works");
    assert!(reserved(&device) < before + length as u64 * 4);
}

#[test]
fn adamw_on_wgpu_gives_every_thread_what_another_wrote() {
    let Some(device) = device() else { return };
    let step = AdamwStep { scale: 1.0, lr: 1e-2, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.0, step: 1 };
    let length = 10_000;
    let run = |hop: bool| {
        let of = |value: f32| Tensor::<1>::full([length], value, &device);
        let (gradient, mut all) = (of(2.0), [of(1.0), of(3.0), of(4.0)]);
        let threads = [0, 1].map(|_| rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("threads start"));
        let mut sums = Vec::new();
        for i in 0..40 {
            all = threads[if hop { i % 2 } else { 0 }].install(|| {
                let [value, first, second] = all;
                // Read on this thread, written on it, and read on the next.
                sums.push(crate::sum_of_squares(value.clone()));
                crate::adamw(value, gradient.clone(), first, second, step)
            });
        }
        sums.into_iter().map(|sum| sum.into_scalar::<f32>()).collect::<Vec<f32>>()
    };
    let expected = run(false);
    for _ in 0..5 {
        assert_eq!(run(true), expected);
    }
}

#[test]
fn the_sum_of_squares_on_wgpu_is_that_in_f64_and_passes_nan() {
    let Some(device) = device() else { return };
    for length in [1, 17, 256, 257, 300_001] {
        let mut values = random(&[length], 8).values;
        let exact: f64 = values.iter().map(|value| *value as f64 * *value as f64).sum();
        let sum = |values: &[f32]| {
            let values = Tensor::<1>::from_data(TensorData::new(values.to_vec(), [length]), &device);
            crate::sum_of_squares(values).into_scalar::<f32>() as f64
        };
        assert!((sum(&values) - exact).abs() <= 1e-6 * exact);
        values[length / 2] = f32::NAN;
        assert!(sum(&values).is_nan());
    }
}

#[test]
fn masks_on_wgpu_are_the_cpus_bit_for_bit() {
    let Some(device) = device() else { return };
    for shape in [[1, 1, 1], [3, 7, 33], [2, 3, 40_001]] {
        for probability in [0.1, 0.5, 0.95] {
            let dropout = Dropout { probability, key: KEY };
            let expected = crate::dropout::mask_values(&shape, dropout);
            let values = |mask: Tensor<3>| mask.into_data().try_into_vec::<f32>().expect("f32");
            assert_eq!(values(crate::dropout(Tensor::<3>::ones(shape, &device), Some(dropout))), expected);
            assert_eq!(values(crate::dropout::factors(shape, dropout, &device)), expected);
        }
    }
}

#[test]
fn dropout_on_wgpu_and_its_gradient_equal_the_cpus() {
    let Some(device) = device() else { return };
    let inputs = [random(&[3, 5, 701], 1), random(&[3, 5, 701], 2)];
    for dropout in [None, Some(Dropout { probability: 0.3, key: KEY })] {
        let own = |x: &[Tensor<1>], of: &[Values]| {
            let (a, b) = (of[0].view::<3>(x, 0), of[1].view::<3>(x, 1));
            crate::residual_add(a, crate::dropout(b, dropout), dropout).reshape([-1])
        };
        assert_eq!(run(&inputs, &device, &own), run(&inputs, &Device::flex(), &own));
        let mut bad = [random(&[3, 5, 701], 1), random(&[3, 5, 701], 2)];
        // A number that is kept.
        let kept = dropout.map_or(0, |dropout| {
            let mask = crate::dropout::mask_values(&[3, 5, 701], dropout);
            mask.iter().position(|factor| *factor > 0.0).expect("some are kept")
        });
        bad[1].values[kept] = f32::NAN;
        assert!(run(&bad, &device, &own).0[kept].is_nan());
    }
}

#[test]
fn cross_entropy_on_wgpu_equals_the_composed_operations_on_the_cpu() {
    let Some(device) = device() else { return };
    let exact = [[1, 1, 1], [17, 5, 31], [1031, 7, 67]].map(|shape| (shape, Precision::F32, 1e-5));
    let rounded = [Precision::Bf16, Precision::F16].map(|precision| ([17, 5, 31], precision, 1e-2));
    for (shape, precision, tolerance) in exact.into_iter().chain(rounded) {
        for label_smoothing in [0.0, 0.1] {
            let options = CrossEntropy { label_smoothing, precision, head_is_frozen: false };
            let [rows, width, vocab] = shape;
            let inputs = [random(&[rows, width], 5), random(&[vocab, width], 6), random(&[vocab], 7)];
            // Without a bias, and with one.
            for inputs in [&inputs[..2], &inputs] {
                let (loss, gradients) = run(inputs, &device, &loss_of(crate::cross_entropy_sum, options));
                let expected = run(inputs, &Device::flex(), &loss_of(crate::cross_entropy::composed, options));
                let what = format!("{shape:?} {options:?}");
                assert_near(&what, tolerance, &loss, &expected.0);
                for (gradient, expected) in gradients.iter().zip(&expected.1) {
                    assert_near(&format!("gradient of {what}"), tolerance, gradient, expected);
                }
                let of =
                    |of: &Values| Tensor::from_data(TensorData::new(of.values.clone(), [of.values.len()]), &device);
                let untracked: Vec<Tensor<1>> = inputs.iter().map(of).collect();
                let same = loss_of(crate::cross_entropy_sum, options)(&untracked, inputs).into_scalar::<f32>();
                assert_eq!(same, loss[0], "without a gradient: {what}");
            }
        }
    }
}

#[test]
fn cross_entropy_on_wgpu_passes_nan_and_infinity() {
    let Some(device) = device() else { return };
    for bad in [f32::NAN, f32::INFINITY] {
        for at in 0..2 {
            let mut inputs = [random(&[4, 5], 5), random(&[11, 5], 6)];
            // In a row of hidden states that counts, or in the last row of the head.
            let place = if at == 0 { 5 } else { 54 };
            inputs[at].values[place] = bad;
            let (loss, _) = run(&inputs, &device, &loss_of(crate::cross_entropy_sum, CrossEntropy::default()));
            assert!(!loss[0].is_finite(), "{bad} in input {at} was swallowed");
        }
    }
}

#[test]
fn memory_of_cross_entropy_on_wgpu_stays_that_of_a_chunk_of_rows() {
    let Some(device) = device() else { return };
    let [rows, width, vocab] = [1031, 7, 67];
    let once = || {
        let inputs = [random(&[rows, width], 5), random(&[vocab, width], 6)];
        let loss = loss_of(crate::cross_entropy_sum, CrossEntropy::default());
        run(&inputs, &device, &loss);
        largest_tensor(&device)
    };
    // Choosing the fastest products takes memory of its own: a thread that comes later is measured.
    let largest = std::thread::scope(|scope| {
        scope.spawn(once).join().expect("the device works");
        scope.spawn(once).join().expect("the device works")
    });
    // Two chunks of rows: half of the logits, and what memory is aligned to.
    assert!(largest < (rows.div_ceil(2) * vocab * 4 + 256) as u64, "{largest} bytes");
}
