//! The same predictions give the figures of scikit-learn, scipy, seqeval, torchmetrics (SQuAD), sacrebleu and
//! rouge-score (`scripts/make_metrics_golden.py`).

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::*;

/// The cases of a kind; there is at least one.
fn cases(kind: &str) -> Vec<Value> {
    let golden: Value = serde_json::from_str(include_str!("golden.json")).unwrap();
    let cases = golden[kind].as_array().unwrap().clone();
    assert!(!cases.is_empty());
    cases
}

fn take<T: DeserializeOwned>(case: &Value, key: &str) -> T {
    serde_json::from_value(case[key].clone()).unwrap_or_else(|error| panic!("{key}: {error}"))
}

fn assert_close(case: &Value, name: &str, found: Option<f64>, wanted: &Value) {
    // torchmetrics computes these in f32.
    let tolerance = if matches!(name, "exact_match" | "token_f1") { 1e-6 } else { 1e-9 };
    let same = match (found, wanted.as_f64()) {
        (Some(found), Some(wanted)) => (found - wanted).abs() <= tolerance,
        (found, wanted) => found.is_none() && wanted.is_none(),
    };
    assert!(same, "{}: {name} is {found:?}, but should be {wanted}", case["name"]);
}

/// Compares every figure that the reference gives by name, groups of scores included.
fn assert_figures(case: &Value, report: &impl Report, per_class: Option<&[NamedScores]>) {
    for (name, wanted) in case["figures"].as_object().unwrap() {
        match name.as_str() {
            "confusion" => {}
            "per_class" | "per_label" => {
                for (index, class) in per_class.unwrap().iter().enumerate() {
                    assert_close(case, "precision", Some(class.scores.precision), &wanted["precision"][index]);
                    assert_close(case, "recall", Some(class.scores.recall), &wanted["recall"][index]);
                    assert_close(case, "f1", Some(class.scores.f1), &wanted["f1"][index]);
                }
            }
            group @ ("macro" | "micro" | "weighted") => {
                for (score, wanted) in wanted.as_object().unwrap() {
                    let name = format!("{group}_{score}");
                    assert_close(case, &name, report.metric(&name), wanted);
                }
            }
            name => assert_close(case, name, report.metric(name), wanted),
        }
    }
    for (name, _) in report.figures() {
        assert!(higher_is_better(name).is_some(), "it is not known whether more {name} is better");
    }
}

fn labels(count: usize) -> Vec<String> {
    (0..count).map(|label| label.to_string()).collect()
}

#[test]
fn classes_are_scored_as_by_scikit_learn() {
    for case in cases("classes") {
        let labels = labels(take(&case, "classes"));
        let probabilities: Option<Vec<f32>> = take(&case, "probabilities");
        let (truth, predicted): (Vec<usize>, Vec<usize>) = (take(&case, "truth"), take(&case, "predicted"));
        let report = ClassReport::new(&labels, &truth, &predicted, probabilities.as_deref()).unwrap();
        assert_figures(&case, &report, Some(&report.per_class));
        assert_eq!(report.confusion, take::<Vec<Vec<u64>>>(&case["figures"], "confusion"));
    }
}

#[test]
fn labels_are_scored_as_by_scikit_learn() {
    for case in cases("multi_label") {
        let truth: Vec<bool> = take::<Vec<u8>>(&case, "truth").iter().map(|&label| label == 1).collect();
        let probabilities: Vec<f32> = take(&case, "probabilities");
        let labels = labels(take(&case, "labels"));
        let report = MultiLabelReport::new(&labels, &truth, &probabilities, take(&case, "threshold")).unwrap();
        assert_figures(&case, &report, Some(&report.per_label));
    }
}

#[test]
fn values_are_scored_as_by_scikit_learn_and_scipy() {
    for case in cases("values") {
        let (truth, predicted): (Vec<f64>, Vec<f64>) = (take(&case, "truth"), take(&case, "predicted"));
        assert_figures(&case, &ValueReport::new(&truth, &predicted).unwrap(), None);
    }
}

#[test]
fn tags_are_scored_as_by_seqeval() {
    for case in cases("tags") {
        let (truth, predicted): (Vec<Vec<String>>, Vec<Vec<String>>) = (take(&case, "truth"), take(&case, "predicted"));
        assert_figures(&case, &TagReport::new(&truth, &predicted).unwrap(), None);
    }
}

#[test]
fn answers_are_scored_as_by_squad_sacrebleu_and_rouge_score() {
    for case in cases("answers") {
        let (right, given): (Vec<String>, Vec<String>) = (take(&case, "right"), take(&case, "given"));
        assert_figures(&case, &AnswerReport::new(&right, &given).unwrap(), None);
    }
}
