//! What the tests of every operation ask: the composed operations' values and gradients, the same bits for any number
//! of threads, and that no NaN is swallowed.

use crate::CrossEntropy;
use burn::tensor::{Device, Int, Tensor, TensorData};

/// An input of an operation.
pub(crate) struct Values {
    shape: Vec<usize>,
    pub values: Vec<f32>,
}

impl Values {
    /// The input number `index` of a flat list, in its shape.
    pub fn view<const D: usize>(&self, inputs: &[Tensor<1>], index: usize) -> Tensor<D> {
        let shape: [usize; D] = self.shape.clone().try_into().expect("as many sides as asked for");
        inputs[index].clone().reshape(shape)
    }
}

/// Numbers between -2 and 2.
pub(crate) fn random(shape: &[usize], seed: u64) -> Values {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let values = (0..shape.iter().product())
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 22) as f32 - 2.0
        })
        .collect();
    Values { shape: shape.to_vec(), values }
}

/// So that sums of `terms` stay in the range where nothing saturates.
pub(crate) fn scaled(mut of: Values, terms: usize) -> Values {
    of.values.iter_mut().for_each(|value| *value /= (terms as f32).sqrt());
    of
}

pub(crate) fn devices() -> [Device; 2] {
    [Device::flex(), Device::ndarray()]
}

pub(crate) type Outcome = (Vec<f32>, Vec<Vec<f32>>);

/// The operation's output, and each input's gradient of an uneven sum over it.
pub(crate) fn run(
    inputs: &[Values],
    device: &Device,
    operation: &impl Fn(&[Tensor<1>], &[Values]) -> Tensor<1>,
) -> Outcome {
    let device = device.clone().autodiff();
    let host = |tensor: Tensor<1>| tensor.into_data().try_into_vec::<f32>().expect("f32");
    let tensors: Vec<Tensor<1>> = inputs
        .iter()
        .map(|of| Tensor::from_data(TensorData::new(of.values.clone(), [of.values.len()]), &device).require_grad())
        .collect();
    let y = operation(&tensors, inputs);
    let weights = random(&[y.dims()[0]], 99).values;
    let weights = Tensor::<1>::from_data(TensorData::new(weights, y.dims()), &device);
    let gradients = (y.clone() * weights).sum().backward();
    let of = |x: &Tensor<1>| host(x.grad(&gradients).expect("every input has a gradient"));
    let of_inputs = tensors.iter().map(of).collect();
    (host(y.inner()), of_inputs)
}

/// Apart by at most `tolerance` of the expected numbers' norm.
pub(crate) fn assert_near(what: &str, tolerance: f64, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let size = norm(&mut theirs.iter().map(|v| *v as f64));
    let apart = norm(&mut ours.iter().zip(theirs).map(|(a, b)| *a as f64 - *b as f64));
    assert!(apart <= tolerance * size + 1e-6, "{what}: {apart} apart of {size}");
}

/// Values and gradients of both are the same within 1e-5 of their norm, on both CPU backends.
pub(crate) fn assert_agree(
    inputs: &[Values],
    ours: impl Fn(&[Tensor<1>], &[Values]) -> Tensor<1>,
    composed: impl Fn(&[Tensor<1>], &[Values]) -> Tensor<1>,
) {
    assert_agree_within(1e-5, inputs, ours, composed);
}

/// The same within `tolerance` of their norm.
pub(crate) fn assert_agree_within(
    tolerance: f64,
    inputs: &[Values],
    ours: impl Fn(&[Tensor<1>], &[Values]) -> Tensor<1>,
    composed: impl Fn(&[Tensor<1>], &[Values]) -> Tensor<1>,
) {
    let shapes: Vec<&[usize]> = inputs.iter().map(|of| &of.shape[..]).collect();
    for device in devices() {
        let (y, gradients) = run(inputs, &device, &ours);
        let (expected, expected_gradients) = run(inputs, &device, &composed);
        assert_near(&format!("{shapes:?} on {device:?}"), tolerance, &y, &expected);
        for (i, (ours, theirs)) in gradients.iter().zip(&expected_gradients).enumerate() {
            assert_near(&format!("gradient {i} of {shapes:?} on {device:?}"), tolerance, ours, theirs);
        }
    }
}

fn bits((y, gradients): Outcome) -> Vec<u32> {
    y.into_iter().chain(gradients.into_iter().flatten()).map(f32::to_bits).collect()
}

/// Twice on one thread, twice on two and once on five: always the same bits; and the same on both backends.
pub(crate) fn assert_same_bits(inputs: &[Values], operation: impl Fn(&[Tensor<1>], &[Values]) -> Tensor<1> + Sync) {
    let mut seen: Option<Vec<u32>> = None;
    for device in devices() {
        for threads in [1, 1, 2, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
            let now = bits(pool.install(|| run(inputs, &device, &operation)));
            assert!(seen.get_or_insert_with(|| now.clone()) == &now, "{threads} threads on {device:?}");
        }
    }
}

/// A NaN or an infinity at the end of any input comes out: in the value, and in a gradient.
pub(crate) fn assert_spreads_nan(inputs: &[Values], operation: impl Fn(&[Tensor<1>], &[Values]) -> Tensor<1>) {
    for device in devices() {
        for bad in [f32::NAN, f32::INFINITY] {
            for at in 0..inputs.len() {
                let mut inputs: Vec<Values> =
                    inputs.iter().map(|of| Values { shape: of.shape.clone(), values: of.values.clone() }).collect();
                *inputs[at].values.last_mut().expect("not empty") = bad;
                let (y, _) = run(&inputs, &device, &operation);
                assert!(y.iter().any(|v| !v.is_finite()), "{bad} in input {at} was swallowed on {device:?}");
            }
        }
    }
}

/// A cross-entropy of hidden states, head and, where there is a third input, bias: as tests of it take them.
pub(crate) fn loss_of(
    loss: impl Fn(Tensor<2>, Tensor<2>, Option<Tensor<1>>, Tensor<1, Int>, Tensor<1>, CrossEntropy) -> Tensor<1> + Sync,
    options: CrossEntropy,
) -> impl Fn(&[Tensor<1>], &[Values]) -> Tensor<1> + Sync {
    move |x, of| {
        let (hidden, head) = (of[0].view::<2>(x, 0), of[1].view::<2>(x, 1));
        let bias = of.get(2).map(|bias| bias.view::<1>(x, 2));
        let ([rows, _], [vocab, _]) = (hidden.dims(), head.dims());
        let device = hidden.device();
        let targets: Vec<i32> = (0..rows).map(|row| (row * 7919 % vocab) as i32).collect();
        // Every third row trains nothing, the others count one and two.
        let weights: Vec<f32> = (0..rows).map(|row| ((row + 1) % 3) as f32).collect();
        let targets = Tensor::from_data(TensorData::new(targets, [rows]), &device);
        let weights = Tensor::from_data(TensorData::new(weights, [rows]), &device);
        loss(hidden, head, bias, targets, weights, options)
    }
}
