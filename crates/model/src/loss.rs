//! Losses of logits that fit in memory, as sums: each row times its weight, to be divided once for a whole step.

use burn::tensor::activation::{log_sigmoid, log_softmax};
use burn::tensor::{Int, Tensor};

/// The summed cross-entropy of `targets`, each row times its weight.
///
/// # Shapes
/// - `logits`: `[rows, classes]`, `targets`, `weights`: `[rows]`; returns `[1]`, in nats
///
/// `label_smoothing` is the part of each target's probability that is spread over all classes (Szegedy et al. 2016,
/// section 7). A target of weight 0 adds nothing; it must still be a class.
pub fn cross_entropy_sum(
    logits: Tensor<2>,
    targets: Tensor<1, Int>,
    weights: Tensor<1>,
    label_smoothing: f32,
) -> Tensor<1> {
    let [rows, _] = logits.dims();
    let log_probs = log_softmax(logits, 1);
    let mut of_rows = log_probs.clone().gather(1, targets.reshape([rows, 1])).reshape([rows]);
    if label_smoothing > 0.0 {
        of_rows = of_rows * (1.0 - label_smoothing) + log_probs.mean_dim(1).reshape([rows]) * label_smoothing;
    }
    -(of_rows * weights).sum()
}

/// The binary cross-entropy of each label, averaged over a row's labels and summed over rows times their weights.
///
/// # Shapes
/// - `logits`, `targets` (1 where the label holds, else 0): `[rows, labels]`, `weights`: `[rows]`; returns `[1]`, in nats
///
/// Source: PyTorch's `BCEWithLogitsLoss`, whose mean over everything it is where the weights sum to one.
pub fn binary_cross_entropy_sum(logits: Tensor<2>, targets: Tensor<2>, weights: Tensor<1>) -> Tensor<1> {
    let [rows, _] = logits.dims();
    // -log sigmoid(x) for a label that holds, and -log sigmoid(-x), which is larger by x, for another.
    let of_labels = (targets.neg() + 1.0) * logits.clone() - log_sigmoid(logits);
    (of_labels.mean_dim(1).reshape([rows]) * weights).sum()
}

/// The squared error, averaged over a row's values and summed over rows times their weights.
///
/// # Shapes
/// - `values`, `targets`: `[rows, values]`, `weights`: `[rows]`; returns `[1]`
pub fn squared_error_sum(values: Tensor<2>, targets: Tensor<2>, weights: Tensor<1>) -> Tensor<1> {
    let [rows, _] = values.dims();
    let difference = values - targets;
    ((difference.clone() * difference).mean_dim(1).reshape([rows]) * weights).sum()
}

/// The softmax of a row on the host, in f64.
pub fn probabilities(logits: &[f32]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponentials: Vec<f64> = logits.iter().map(|logit| f64::from(logit - most).exp()).collect();
    let total: f64 = exponentials.iter().sum();
    exponentials.into_iter().map(|e| e / total).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    #[test]
    fn smoothed_labels_cost_what_pytorch_says() {
        let device = Device::flex();
        let logits = TensorData::new(vec![0.5f32, -1.0, 2.0, 1.0, 0.0, -0.5], [2, 3]);
        let of_two = |smoothing| {
            let targets = Tensor::from_data([0, 2], &device);
            let weights = Tensor::from_data([1.0f32, 2.0], &device);
            cross_entropy_sum(Tensor::from_data(logits.clone(), &device), targets, weights, smoothing)
                .into_scalar::<f32>()
        };
        // sum(weights * torch.nn.functional.cross_entropy(logits, targets, reduction="none", label_smoothing=...))
        assert!((of_two(0.1) - 5.5367).abs() < 1e-4, "{}", of_two(0.1));
        assert!((of_two(0.0) - 5.6700).abs() < 1e-4, "{}", of_two(0.0));
    }

    #[test]
    fn the_slope_of_a_label_is_its_probability_less_its_target_also_far_out() {
        let device = Device::flex().autodiff();
        let x = [-200.0f32, -3.0, 0.0, 0.5, 4.0, 200.0];
        for target in [0.0f32, 1.0] {
            let logits = Tensor::<2>::from_data(TensorData::new(x.to_vec(), [1, 6]), &device).require_grad();
            let targets = Tensor::full([1, 6], target, &device);
            let loss = binary_cross_entropy_sum(logits.clone(), targets, Tensor::full([1], 12.0, &device));
            let gradient = logits.grad(&loss.backward()).expect("a gradient");
            for (x, slope) in x.iter().zip(crate::weights::to_host(gradient.reshape([6]))) {
                let expected = 2.0 * (1.0 / (1.0 + (-x).exp()) - target);
                assert!((slope - expected).abs() < 1e-5, "at {x}, target {target}: {slope} instead of {expected}");
            }
        }
    }
}
