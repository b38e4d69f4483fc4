//! A classifier taken over for labels that another run numbered otherwise.

use super::{BertHead, Problem};
use crate::weights::{HostTensor, Tensors, some_names};

/// The classifier's tensors, an output a row.
const CLASSIFIER: [&str; 2] = ["classifier.weight", "classifier.bias"];

impl BertHead {
    /// Moves the rows of the classifier in `tensors`, which has the labels of this head, to where `wanted` has the same
    /// labels. Of other labels, or of another kind, the classifier is removed; returns why.
    pub fn relabel(&self, wanted: &Self, tensors: &mut Tensors) -> Option<String> {
        if self.labels().is_empty() || wanted.labels().is_empty() {
            return None;
        }
        let order = self.order_for(wanted);
        for name in CLASSIFIER {
            let Some(tensor) = tensors.remove(name) else { continue };
            if let Some(order) = &order {
                tensors.insert(name.into(), rows_in_order(tensor, order));
            }
        }
        order.is_none().then(|| format!("the classifier of `model.init_from` is not used: {}", self.difference(wanted)))
    }

    /// Which of this head's outputs each of `wanted` is; none where they are not the same.
    fn order_for(&self, wanted: &Self) -> Option<Vec<usize>> {
        let (labels, wanted_labels) = (self.labels(), wanted.labels());
        let is_like = std::mem::discriminant(self) == std::mem::discriminant(wanted);
        if !is_like || labels.len() != wanted_labels.len() || self.is_regression() != wanted.is_regression() {
            return None;
        }
        if self.is_regression() {
            // The name of a number is no more than its column's.
            return Some((0..labels.len()).collect());
        }
        wanted_labels.iter().map(|label| labels.iter().position(|known| known == label)).collect()
    }

    fn is_regression(&self) -> bool {
        matches!(self, Self::SequenceClassification { problem: Problem::Regression, .. })
    }

    fn difference(&self, wanted: &Self) -> String {
        if self.architecture() != wanted.architecture() {
            return format!("it is of a {}, the run trains a {}", self.architecture(), wanted.architecture());
        }
        let [its, wanted] = [self, wanted].map(|head| some_names(head.labels()));
        format!("its labels are {its}, those of the data are {wanted}")
    }
}

/// The tensor with the rows that `order` names, in that order; one of another number of rows stays as it is, and fits no
/// head.
fn rows_in_order(tensor: HostTensor, order: &[usize]) -> HostTensor {
    if tensor.shape.first() != Some(&order.len()) {
        return tensor;
    }
    let width = tensor.values.len() / order.len();
    let values = order.iter().flat_map(|row| &tensor.values[row * width..][..width]).copied().collect();
    HostTensor { shape: tensor.shape, values }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(labels: &[&str], problem: Problem) -> BertHead {
        BertHead::SequenceClassification { labels: labels.iter().map(ToString::to_string).collect(), problem }
    }

    fn tagger(labels: &[&str]) -> BertHead {
        BertHead::TokenClassification { labels: labels.iter().map(ToString::to_string).collect() }
    }

    /// Three outputs of a model two wide.
    fn classifier() -> Tensors {
        let tensor = |shape: &[usize], values: &[f32]| HostTensor { shape: shape.to_vec(), values: values.to_vec() };
        let weight = tensor(&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let [weight_name, bias_name] = CLASSIFIER.map(String::from);
        Tensors::from([(weight_name, weight), (bias_name, tensor(&[3], &[0.1, 0.3, 0.5]))])
    }

    #[test]
    fn the_same_labels_in_another_order_keep_their_rows() {
        let multi = Problem::MultiLabel { threshold: 0.3 };
        for (from, to) in [
            (
                head(&["pos", "neg", "mixed"], Problem::SingleLabel),
                head(&["mixed", "neg", "pos"], Problem::SingleLabel),
            ),
            (head(&["pos", "neg", "mixed"], multi), head(&["mixed", "neg", "pos"], multi)),
            (tagger(&["O", "B-X", "I-X"]), tagger(&["I-X", "B-X", "O"])),
        ] {
            let mut tensors = classifier();
            assert_eq!(from.relabel(&to, &mut tensors), None);
            assert_eq!(tensors["classifier.weight"].values, [5.0, 6.0, 3.0, 4.0, 1.0, 2.0]);
            assert_eq!(tensors["classifier.bias"].values, [0.5, 0.3, 0.1]);
        }
    }

    #[test]
    fn other_labels_leave_no_classifier_and_are_named() {
        let from = head(&["neg", "pos", "mixed"], Problem::SingleLabel);
        for (to, part) in [
            (
                head(&["a", "b", "c"], Problem::SingleLabel),
                "its labels are neg, pos, mixed, those of the data are a, b, c",
            ),
            (head(&["neg", "pos"], Problem::SingleLabel), "those of the data are neg, pos"),
            (head(&["neg", "pos", "mixed"], Problem::Regression), "not used"),
            (tagger(&["neg", "pos", "mixed"]), "the run trains a BertForTokenClassification"),
        ] {
            let mut tensors = classifier();
            let why = from.relabel(&to, &mut tensors).unwrap_or_default();
            assert!(why.contains(part), "{why}");
            assert!(tensors.is_empty());
        }
    }

    #[test]
    fn a_regression_keeps_its_output_and_no_classifier_needs_no_reason() {
        let mut tensors = classifier();
        let number = |name: &str| head(&[name], Problem::Regression);
        assert_eq!(number("LABEL_0").relabel(&number("price"), &mut tensors), None);
        assert_eq!(tensors, classifier());
        assert_eq!(BertHead::MaskedLm.relabel(&number("price"), &mut tensors), None);
        assert_eq!(number("price").relabel(&BertHead::MaskedLm, &mut tensors), None);
        assert_eq!(tensors, classifier());
    }
}
