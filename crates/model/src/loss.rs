//! Losses of logits that fit in memory, as sums: each row times its weight, to be divided once for a whole step.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};

/// The summed cross-entropy of `targets`, each row times its weight.
///
/// # Shapes
/// - `logits`: `[rows, classes]`, `targets`, `weights`: `[rows]`; returns `[1]`, in nats
///
/// A target of weight 0 adds nothing; it must still be a class.
pub fn cross_entropy_sum(logits: Tensor<2>, targets: Tensor<1, Int>, weights: Tensor<1>) -> Tensor<1> {
    let [rows, _] = logits.dims();
    let of_targets = log_softmax(logits, 1).gather(1, targets.reshape([rows, 1])).reshape([rows]);
    -(of_targets * weights).sum()
}

/// The binary cross-entropy of each label, averaged over a row's labels and summed over rows times their weights.
///
/// # Shapes
/// - `logits`, `targets` (1 where the label holds, else 0): `[rows, labels]`, `weights`: `[rows]`; returns `[1]`, in nats
///
/// Source: PyTorch's `BCEWithLogitsLoss`, whose mean over everything it is where the weights sum to one.
pub fn binary_cross_entropy_sum(logits: Tensor<2>, targets: Tensor<2>, weights: Tensor<1>) -> Tensor<1> {
    let [rows, _] = logits.dims();
    // -log sigmoid(x) for a label that holds, -log sigmoid(-x) for another; nothing overflows.
    let of_labels = logits.clone().clamp_min(0.0) - logits.clone() * targets + (-logits.abs()).exp().log1p();
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
