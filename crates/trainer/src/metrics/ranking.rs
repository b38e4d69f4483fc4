//! What depends on the order of scores alone.

/// The place of each value in ascending order, from 1; equal values share the mean of their places. Values that are
/// not comparable (NaN) come last.
pub fn average_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut place = 0;
    for tied in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = place as f64 + (tied.len() as f64 + 1.0) / 2.0;
        tied.iter().for_each(|&index| ranks[index] = rank);
        place += tied.len();
    }
    ranks
}

/// Area under the receiver operating characteristic: how probable it is that a true example has a higher score than a
/// false one, a tie counting half. `None` where one kind is missing or a score is NaN. Scores beyond the truths are
/// not looked at, nor truths beyond the scores.
pub fn roc_auc(truth: &[bool], scores: &[f64]) -> Option<f64> {
    let examples = truth.len().min(scores.len());
    let (truth, scores) = (&truth[..examples], &scores[..examples]);
    if scores.iter().any(|score| score.is_nan()) {
        return None;
    }
    let positive = truth.iter().filter(|&&truth| truth).count() as f64;
    let negative = examples as f64 - positive;
    if positive == 0.0 || negative == 0.0 {
        return None;
    }
    let ranks = average_ranks(scores);
    let sum: f64 = ranks.iter().zip(truth).filter(|(_, truth)| **truth).map(|(rank, _)| rank).sum();
    Some((sum - positive * (positive + 1.0) / 2.0) / (positive * negative))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_share_a_rank_even_across_the_two_zeros() {
        assert_eq!(average_ranks(&[3.0, 1.0, 3.0, 2.0]), [3.5, 1.0, 3.5, 2.0]);
        assert_eq!(average_ranks(&[0.0, -0.0, 0.0]), [2.0; 3]);
    }

    #[test]
    fn equal_scores_tell_nothing_and_one_kind_alone_has_no_area() {
        assert_eq!(roc_auc(&[true, false, true], &[0.5; 3]), Some(0.5));
        assert_eq!(roc_auc(&[true, true], &[0.1, 0.9]), None);
        assert_eq!(roc_auc(&[true, false], &[f64::NAN, 0.1]), None);
        assert_eq!(roc_auc(&[], &[]), None);
    }
}
