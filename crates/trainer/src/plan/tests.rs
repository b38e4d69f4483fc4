//! What is known of a run from its config and data.

use super::*;

/// A classifier of short texts; `more` is added to the config, and `[train]` comes last.
fn prepared(rows: usize, labels: usize, more: &str) -> Result<Prepared, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rows.csv");
    let row = |i: usize| format!("text number {i},{}\n", i % labels);
    std::fs::write(&path, "text,label\n".to_owned() + &(0..rows).map(row).collect::<String>()).unwrap();
    let text = format!(
        "[data.labelled]\nfiles = [{path:?}]\n[tokenizer.bert]\nvocab_size = 100\n\
         [model.bert]\nn_layer = 1\nn_head = 1\nd_model = 8\nmax_seq_len = 16\n\
         [train]\noutput_dir = \"runs/test\"\nmax_steps = 1\nmicro_batch_size = 2\n{more}"
    );
    let loaded = RunConfig::parse("x.toml", &text, &[]).map_err(|errors| errors.to_string())?;
    Prepared::new(&loaded.config, None).map_err(|error| error.to_string())
}

fn evaluated_rows(prepared: &Prepared) -> usize {
    prepared.validation.as_ref().map_or(0, EvaluationRows::len)
}

#[test]
fn labelled_texts_are_evaluated_whole_unless_a_limit_is_set_and_said() {
    let whole = prepared(1200, 2, "").unwrap();
    assert_eq!(evaluated_rows(&whole), 120);
    assert!(!whole.notes.iter().any(|note| note.contains("evaluations see")), "{:?}", whole.notes);
    let limited = prepared(1200, 2, "eval_batches = 30\n").unwrap();
    assert_eq!(evaluated_rows(&limited), 60);
    let expected = "evaluations see 60 of 120 validation rows; `train.eval_batches` decides";
    assert!(limited.notes.iter().any(|note| note == expected), "{:?}", limited.notes);
}

#[test]
fn a_part_that_is_asked_for_and_stays_empty_is_said_and_stops_what_needs_it() {
    let empty = prepared(4, 2, "[split]\nvalidation = 0.1\ntest = 0.1\n").unwrap();
    for part in ["validation", "test"] {
        let begin = format!("warning: the {part} part is empty, although `split.{part}` is 0.1");
        assert!(empty.notes.iter().any(|note| note.starts_with(&begin)), "{:?}", empty.notes);
    }
    let error = prepared(4, 2, "early_stopping_patience = 2\n").err().expect("an error");
    assert!(error.starts_with("`train.early_stopping_patience` needs evaluations"), "{error}");
    let full = prepared(40, 2, "early_stopping_patience = 2\n[split]\ntest = 0.1\n").unwrap();
    assert!(!full.notes.iter().any(|note| note.contains("empty")), "{:?}", full.notes);
}

#[test]
fn the_area_under_the_curve_is_refused_as_soon_as_there_are_more_labels_than_two() {
    assert!(prepared(40, 2, "best_metric = \"roc_auc\"\n").is_ok());
    let error = prepared(40, 3, "best_metric = \"roc_auc\"\n").err().expect("an error");
    assert!(error.contains("`roc_auc` is a figure of two labels, and the training part has 3; hint: "), "{error}");
    assert!(error.contains("macro_f1") && error.matches("roc_auc").count() == 1, "{error}");
}
