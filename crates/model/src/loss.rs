//! Losses as sums: a term is divided once, by the weight of the whole optimizer step.

use burn::tensor::{Int, Tensor, activation::log_softmax};

/// The summed cross-entropy of next-token prediction over `targets`, each times its weight.
///
/// # Shapes
/// - `logits`: `[batch, seq, vocab]`; `targets`, `weights`: `[batch, seq]`; returns `[1]`, in nats
///
/// A target of weight 0 adds nothing; its id must still lie inside the vocabulary.
pub fn cross_entropy_sum(logits: Tensor<3>, targets: Tensor<2, Int>, weights: Tensor<2>) -> Tensor<1> {
    let [batch, seq, vocab] = logits.dims();
    let log_probs = log_softmax(logits.reshape([batch * seq, vocab]), 1);
    let of_targets = log_probs.gather(1, targets.reshape([batch * seq, 1])); // [batch * seq, 1]
    (of_targets * weights.reshape([batch * seq, 1])).sum().neg()
}

/// The summed weight of the positions whose most likely token is the target.
///
/// # Shapes
/// - `logits`: `[batch, seq, vocab]`; `targets`, `weights`: `[batch, seq]`; returns `[1]`
pub fn correct_sum(logits: Tensor<3>, targets: Tensor<2, Int>, weights: Tensor<2>) -> Tensor<1> {
    let [batch, seq, _] = logits.dims();
    let best = logits.argmax(2).reshape([batch, seq]);
    (best.equal(targets).float() * weights).sum()
}
