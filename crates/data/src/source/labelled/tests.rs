use super::*;

fn config(files: Vec<String>) -> LabelledConfig {
    LabelledConfig {
        files,
        validation_files: vec![],
        test_files: vec![],
        text: "text".into(),
        text_pair: None,
        problem: ProblemConfig::SingleLabel,
        label: "label".into(),
        label_separator: "|".into(),
        truncation: Default::default(),
        on_bad_row: OnBadRow::Error,
    }
}

fn third(seed: u64) -> SplitConfig {
    SplitConfig { validation: 0.2, test: 0.1, seed, ..SplitConfig::default() }
}

fn read_text(name: &str, contents: &str, change: impl Fn(&mut LabelledConfig)) -> Result<LabelledSplits, Error> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    std::fs::write(&path, contents).unwrap();
    let mut config = config(vec![path.display().to_string()]);
    change(&mut config);
    super::read(&config, &third(3), &CleanConfig::default())
}

/// Two hundred rows, a tenth of them of the label `rare`, and some texts twice.
fn rows() -> String {
    let label = |i: usize| if i.is_multiple_of(10) { "rare" } else { ["a", "b"][i % 2] };
    let row = |i: usize| format!("text number {}, {}\n", i - i % 20 / 19, label(i));
    let rows: String = (0..200).map(|i| row(i).replacen(',', "\",", 1).replacen("text", "\"text", 1)).collect();
    "text,label\n".to_string() + &rows
}

#[test]
fn every_part_has_its_share_of_every_label_and_no_text_is_in_two() {
    let splits = read_text("a.csv", &rows(), |_| ()).unwrap();
    assert_eq!(splits.labels, ["a", "b", "rare"]);
    let parts = [&splits.train, &splits.validation, &splits.test];
    assert_eq!(parts.iter().map(|part| part.len()).sum::<usize>(), 200);
    for (part, share) in parts.into_iter().zip([0.7, 0.2, 0.1]) {
        for (label, count) in [("rare", 20.0), ("a", 80.0)] {
            let found = part.iter().filter(|example| example.labels == [label]).count() as f64;
            assert!((found - share * count).abs() <= 2.0, "{found} of {label} for {share}");
        }
    }
    let texts = |part: &[Example]| part.iter().map(|example| example.text.clone()).collect::<BTreeSet<_>>();
    assert!(texts(&splits.train).is_disjoint(&texts(&splits.test)));
    assert!(texts(&splits.train).is_disjoint(&texts(&splits.validation)));
    assert!(texts(&splits.validation).is_disjoint(&texts(&splits.test)));
    assert_eq!(splits, read_text("a.csv", &rows(), |_| ()).map(|again| moved(again, &splits)).unwrap());
}

/// The same, as if it had been read from the other's place.
fn moved(mut splits: LabelledSplits, to: &LabelledSplits) -> LabelledSplits {
    let place = to.train[0].place.0.clone();
    for part in [&mut splits.train, &mut splits.validation, &mut splits.test] {
        part.iter_mut().for_each(|example| example.place.0.clone_from(&place));
    }
    splits
}

#[test]
fn tabs_and_jsonl_with_number_labels_and_pairs_are_read() {
    let tsv = "q\ta\tlabel\none, two\tthree\t0\nfour\tfive\t1\nsix\tseven\t1\n";
    let pair = |config: &mut LabelledConfig| (config.text, config.text_pair) = ("q".into(), Some("a".into()));
    let splits = read_text("a.tsv", tsv, pair).unwrap();
    assert_eq!(splits.labels, ["0", "1"]);
    assert!(splits.train.iter().any(|e| e.text == "one, two" && e.pair.as_deref() == Some("three")));
    let jsonl =
        "{\"text\": \"x\", \"label\": 3}\n\n{\"text\": \"y\", \"label\": true}\n{\"text\": \"z\", \"label\": \"s\"}\n";
    assert_eq!(read_text("a.jsonl", jsonl, |_| ()).unwrap().labels, ["3", "s", "true"]);
    assert_eq!(read_text("A.JSONL", jsonl, |_| ()).unwrap().labels, ["3", "s", "true"]);
    assert_eq!(read_text("A.TSV", tsv, pair).unwrap().labels, ["0", "1"]);
}

#[test]
fn several_labels_stand_between_separators_or_in_a_json_array() {
    assert_eq!(separated("b | a|b", "|").unwrap(), ["a", "b"]);
    assert_eq!(separated("[\"a|b\", \"c\"]", "|").unwrap(), ["a|b", "c"]);
    assert_eq!(separated("[a;b", ";").unwrap(), ["[a", "b"]);
    assert_eq!(separated("[1, true, \"c\", 2.50]", "|").unwrap(), ["1", "2.5", "c", "true"]);
    for (list, said) in
        [("[\"a\", null]", "entry 2 of the list of labels is null"), ("[[1]]", "is an array"), ("[{}]", "is an object")]
    {
        assert!(separated(list, "|").unwrap_err().0.contains(said), "{list}");
    }
    assert!(separated("", "|").unwrap().is_empty());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.jsonl");
    std::fs::write(&path, "{\"text\": \"x\", \"label\": [\"a\", \"b\"]}\n{\"text\": \"y\", \"label\": []}\n").unwrap();
    let config = config(vec![path.display().to_string()]);
    let split = SplitConfig { validation: 0.0, ..third(3) };
    let read = |problem| {
        let config = LabelledConfig { problem, ..config.clone() };
        super::read(&config, &split, &CleanConfig::default())
    };
    let splits = read(ProblemConfig::MultiLabel).unwrap();
    assert_eq!((splits.labels, splits.train.len()), (vec!["a".to_string(), "b".into()], 2));
    for problem in [ProblemConfig::Regression, ProblemConfig::SingleLabel] {
        let error = read(problem).unwrap_err().to_string();
        let expected = "a.jsonl:1: field `label` is a list, not a label; hint: lists of labels are for `problem` = ";
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn labels_that_are_none_are_bad_rows() {
    let good: String =
        (0..8).map(|i| format!("{{\"text\": \"{i}\", \"label\": {}}}\n", ["\"a\"", "3"][i % 2])).collect();
    for (bad, problem, said) in [
        ("null", ProblemConfig::SingleLabel, "field `label` is null, not a label; hint: fill in the label"),
        ("{}", ProblemConfig::MultiLabel, "field `label` is an object, not a label"),
        ("[\"a\"]", ProblemConfig::SingleLabel, "field `label` is a list, not a label"),
        ("[\"a\", [1]]", ProblemConfig::MultiLabel, "entry 2 of the list of labels is an array"),
    ] {
        let text = format!("{good}{{\"text\": \"x\", \"label\": {bad}}}\n");
        let read = |on_bad_row| {
            read_text("a.jsonl", &text, |config| (config.problem, config.on_bad_row) = (problem, on_bad_row))
        };
        let error = read(OnBadRow::Error).unwrap_err().to_string();
        assert!(error.contains("a.jsonl:9: ") && error.contains(said), "{error}");
        let splits = read(OnBadRow::Skip).unwrap();
        assert!(splits.labels == ["3", "a"] && splits.notes[0].contains("left out 1 rows"), "{:?}", splits.notes);
    }
    // As they would be written alone, also inside a CSV cell.
    let lists = |config: &mut LabelledConfig| config.problem = ProblemConfig::MultiLabel;
    let splits = read_text("a.csv", "text,label\nx,[1]\ny,\"[true, \"\"b\"\"]\"\nz,b|1\n", lists).unwrap();
    assert_eq!(splits.labels, ["1", "b", "true"]);
}

#[test]
fn a_number_that_cannot_be_learned_is_a_bad_row() {
    let good: String = (0..20).map(|i| format!("text {i},{i}.5\n")).collect();
    let read = |label: &str, on_bad_row| {
        let text = format!("text,label\n{good}bad,{label}\n");
        read_text("a.csv", &text, |config| {
            (config.problem, config.on_bad_row) = (ProblemConfig::Regression, on_bad_row)
        })
    };
    for (label, said) in [
        ("nan", "a.csv:22: `nan` is not a number"),
        ("-inf", "a.csv:22: `-inf` is not a number"),
        ("abc", "a.csv:22: `abc` is not a number"),
        ("1e308", "a.csv:22: `1e308` is too large"),
        ("-1e30", "a.csv:22: `-1e30` is too large"),
        ("", "a.csv:22: the label is empty"),
    ] {
        let error = read(label, OnBadRow::Error).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
        let splits = read(label, OnBadRow::Skip).unwrap();
        assert_eq!(splits.train.len() + splits.validation.len() + splits.test.len(), 20);
        assert!(splits.notes[0].contains("left out 1 rows") && splits.notes[0].contains(said), "{:?}", splits.notes);
    }
    assert!(read("-1e15", OnBadRow::Error).is_ok());
}

#[test]
fn data_that_is_left_out_whole_is_an_error_with_the_counts() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.csv");
    std::fs::write(&path, "text,label\none,a\ntwo,b\nthree,c\n").unwrap();
    let path = path.display().to_string();
    let read = |clean: &str, test_files: &[String]| {
        let config = LabelledConfig { test_files: test_files.to_vec(), ..config(vec![path.clone()]) };
        super::read(&config, &third(3), &toml::from_str(clean).unwrap()).unwrap_err().to_string()
    };
    let error = read("min_characters = 9", &[]);
    let expected = "`files`: of 3 rows none is left to train on; \
                    files: `clean.min_characters` left out 3 rows with fewer than 9 characters: ";
    assert!(error.contains(expected), "{error}");
    let error = read("check_leakage = true", std::slice::from_ref(&path));
    assert!(error.contains("none is left to train on; `clean.check_leakage` left out of training 3 rows"), "{error}");
    let error = read("min_characters = 4", &[]);
    let expected = "`label`: the 1 training rows have one label, `c`; files: `clean.min_characters` left out 2 rows";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn a_column_is_read_for_one_thing_alone() {
    let error = |change: fn(&mut LabelledConfig)| read_text("a.csv", "text,label\n", change).unwrap_err().to_string();
    assert!(error(|config| config.label = "text".into()).contains("`label`: `text` is also `text`"));
    assert!(error(|config| config.text_pair = Some("text".into())).contains("`text_pair`: `text` is also `text`"));
    assert!(error(|config| config.text_pair = Some("label".into())).contains("`label`: `label` is also `text_pair`"));
}

#[test]
fn labels_weigh_what_the_config_says() {
    let splits = read_text("a.csv", &rows(), |_| ()).unwrap();
    let of_problem = |text: &str, problem| {
        label_weights(&toml::from_str(text).unwrap(), problem, &splits).map_err(|error| error.to_string())
    };
    let of = |text: &str| of_problem(text, ProblemConfig::SingleLabel);
    assert_eq!(of("").unwrap(), [1.0; 3]);
    assert_eq!(of("[label_weights]\nrare = 4").unwrap(), [1.0, 1.0, 4.0]);
    let balanced = of("class_weights = 'balanced'").unwrap();
    let counts = |label: &str| splits.train.iter().filter(|example| example.labels == [label]).count() as f32;
    for (label, weight) in splits.labels.iter().zip(&balanced) {
        assert!((weight * counts(label) - splits.train.len() as f32 / 3.0).abs() < 1e-3);
    }
    for (text, said) in [
        ("[label_weights]\nother = 1", "no label `other`"),
        ("[label_weights]\nrare = 0", "`rare` has the weight 0"),
        ("class_weights = 'balanced'\n[label_weights]\nrare = 2", "stands beside"),
    ] {
        assert!(of(text).unwrap_err().contains(said), "{text}");
    }
    let error = of_problem("[label_weights]\nrare = 2", ProblemConfig::Regression).unwrap_err();
    assert!(error.contains("single_label"), "{error}");
}

#[test]
fn a_bootstrap_draws_training_rows_with_replacement_and_leaves_the_other_parts_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.csv");
    std::fs::write(&path, rows()).unwrap();
    let config = config(vec![path.display().to_string()]);
    let read = |split: SplitConfig| super::read(&config, &split, &CleanConfig::default()).unwrap();
    let whole = read(third(3));
    let drawn = |seed| read(SplitConfig { bootstrap: Some(seed), ..third(3) });
    let first = drawn(1);
    assert_eq!(
        (first.train.len(), &first.validation, &first.test),
        (whole.train.len(), &whole.validation, &whole.test)
    );
    let distinct: BTreeSet<u64> = first.train.iter().map(|example| example.place.1).collect();
    // Of n draws from n rows 1 - 1/e are distinct.
    let share = distinct.len() as f64 / whole.train.len() as f64;
    assert!((0.55..0.72).contains(&share), "{share}");
    assert_ne!(first.train, drawn(2).train);
    assert_eq!(first.labels, whole.labels);
    let folds: Vec<LabelledSplits> =
        (0..4).map(|fold| read(SplitConfig { folds: Some(4), fold, ..third(3) })).collect();
    assert!(folds.iter().all(|fold| fold.test == whole.test));
    let validated: BTreeSet<u64> = folds.iter().flat_map(|fold| &fold.validation).map(|e| e.place.1).collect();
    assert_eq!(validated.len(), whole.train.len() + whole.validation.len());
}

#[test]
fn bad_rows_are_errors_with_their_line_or_skipped_and_counted() {
    let text = "text,label\none,a\n,b\ntwo,b\nthree\n four,\nfive,b\n";
    let error = read_text("a.csv", text, |_| ()).unwrap_err().to_string();
    assert!(error.contains("a.csv:3: the text is empty"), "{error}");
    let splits = read_text("a.csv", text, |config| config.on_bad_row = OnBadRow::Skip).unwrap();
    assert_eq!(splits.train.len() + splits.validation.len() + splits.test.len(), 3);
    assert!(splits.notes[0].contains("left out 3 rows"), "{:?}", splits.notes);
    for (text, part) in [
        ("text,label\n", "a.csv; hint: a .csv or .tsv has its rows below the header line"),
        ("text,label\nx,a\ny,a\n", "one label, `a`"),
        ("text,category\nx,a\n", "no column `label`"),
        ("text,label\n\"x,a\n", "never closes"),
        ("text,label\nx\0,a\n", "NUL"),
    ] {
        let error = read_text("a.csv", text, |_| ()).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    assert!(read_text("a.txt", "x", |_| ()).unwrap_err().to_string().contains(".jsonl"));
}

#[test]
fn rows_that_are_no_text_or_broken_are_skipped_and_counted_or_named() {
    let long = "long ".repeat(20_000);
    let rows = format!("text,label\none,a\n\"open,b\ntwo,b\nthr\0ee,b\n{long},a\n");
    let csv = [rows.as_bytes(), b"caf\xe9,a\nfour,b,c\nfive,b\n"].concat();
    let jsonl = b"{\"text\": \"one\", \"label\": \"a\"}\n{\"text\": \"caf\xe9\", \"label\": \"a\"}\n\0\n{\"text\n\
        {\"text\": \"two\", \"label\": \"b\"}\n";
    let directory = tempfile::tempdir().unwrap();
    let read = |name: &str, contents: &[u8], on_bad_row| {
        let path = directory.path().join(name);
        std::fs::write(&path, contents).unwrap();
        let mut notes = Vec::new();
        let config = LabelledConfig { on_bad_row, ..config(vec![path.display().to_string()]) };
        let texts = read_files(&config, true, &config.files, &mut notes)
            .map(|examples| examples.into_iter().map(|example| example.text).collect::<Vec<_>>());
        (texts, notes.join("\n"))
    };
    let (texts, notes) = read("a.csv", &csv, OnBadRow::Skip);
    assert_eq!(texts.unwrap(), ["one", "two", &long, "five"]);
    assert!(notes.contains("left out 4 rows") && notes.contains("a.csv:3: a quoted field never closes"), "{notes}");
    let (texts, notes) = read("a.jsonl", jsonl, OnBadRow::Skip);
    assert_eq!(texts.unwrap(), ["one", "two"]);
    assert!(notes.contains("left out 3 rows") && notes.contains("a.jsonl:2: the byte 0xe9"), "{notes}");
    let error = read("a.csv", b"text,label\nx\0,a\n", OnBadRow::Skip).0.unwrap_err().to_string();
    assert!(error.contains("no row is left: left out 1 rows") && error.contains("a.csv:2: the row has"), "{error}");
    for (name, contents, place) in [
        ("a.csv", &csv[..], "a.csv:5: NUL byte"),
        ("b.csv", &b"text,label\na,b\nc\xff,d\n"[..], "b.csv:3: the byte 0xff"),
        ("c.csv", &b"text,label\na,b\n\"c,d\n"[..], "c.csv:3: a quoted field never closes"),
        ("a.jsonl", &jsonl[..], "a.jsonl:3: NUL byte"),
    ] {
        let error = read(name, contents, OnBadRow::Error).0.unwrap_err().to_string();
        assert!(error.contains(place), "{error}");
    }
}

#[test]
fn cleaning_comes_before_the_split_and_every_count_is_noted() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, rows: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, format!("text,label\n{rows}")).unwrap();
        path.display().to_string()
    };
    let cased = |i: usize| if i.is_multiple_of(2) { format!("Text {}", i / 2) } else { format!("text {} ", i / 2) };
    let rows = (0..100).map(|i| format!("{},{}\n", cased(i), ["a", "b"][i / 2 % 2])).collect::<String>();
    let mut config = config(vec![write("all.csv", rows + " ,a\n")]);
    config.test_files = vec![write("test.csv", "TEXT 3,b\nunseen,a\n".into())];
    let split = SplitConfig { test: 0.0, ..third(3) };
    let clean: CleanConfig = toml::from_str("lowercase = true\ntrim = true\ndrop_empty = true").unwrap();
    let splits = super::read(&config, &split, &clean).unwrap();
    assert_eq!([splits.train.len(), splits.validation.len(), splits.test.len()], [80, 20, 2]);
    let texts = |part: &[Example]| part.iter().map(|example| example.text.clone()).collect::<BTreeSet<_>>();
    assert!(texts(&splits.train).is_disjoint(&texts(&splits.validation)));
    assert!(splits.cleaner.clean("A ") == "a" && splits.train.iter().all(|e| e.text == splits.cleaner.clean(&e.text)));
    let checked = CleanConfig { drop_duplicates: true, check_leakage: true, ..clean.clone() };
    let without_leaks = super::read(&config, &SplitConfig { validation: 0.0, ..split.clone() }, &checked).unwrap();
    assert!(texts(&without_leaks.train).is_disjoint(&texts(&without_leaks.test)));
    let notes = without_leaks.notes.join("\n");
    for part in [
        "files: cleaning changed the texts of 101 of 101 rows: lowercase 50, trim 51",
        "left out 1 rows without text",
        "left out 50 rows",
        "test_files: clean",
    ] {
        assert!(notes.contains(part), "{part} in {notes}");
    }
    assert!(notes.contains("all.csv:8 as test row"), "{notes}");
    assert_ne!(splits.hash, without_leaks.hash);
    let bad = CleanConfig { drop_near_duplicates: Some(1.5), ..clean };
    let error = super::read(&config, &split, &bad).unwrap_err().to_string();
    assert!(error.contains("`clean.drop_near_duplicates`: 1.5"), "{error}");
}
