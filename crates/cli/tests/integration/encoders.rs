//! A BERT through the commands: pre-trained, fine-tuned, evaluated, asked, and given bad input.

use crate::support::{Ended, Run};
use burn::tensor::Device;
use model::bert::{Bert, BertHead};
use serde_json::Value;
use std::sync::LazyLock;

/// Questions of three kinds, told apart by their words; a hundred of each of two kinds, thirty of the third.
fn questions() -> String {
    let names = ["Mia", "Tom", "Ana", "Ben", "Zoe"];
    let row = |i: usize| {
        let name = names[i * 7 % 5];
        match i % 7 {
            0..=2 => format!("\"where is the parcel number {i}, asks {name}\",delivery\n"),
            3..=5 => format!("{name} wants the money for order {i} back,refund\n"),
            _ => format!("{name} forgot the password {i},konto 账户\n"),
        }
    };
    "text,label\n".to_string() + &(0..230).map(row).collect::<String>()
}

const SMALL: &str = r#"
[split]
validation = 0.2
test = 0.2
seed = 4
[model.bert]
n_layer = 1
n_head = 2
d_model = 32
max_seq_len = 24
dropout = 0.1
initializer_range = 0.08
[tokenizer.bert]
vocab_size = 220
[optimizer.adamw]
lr = 5e-3
[schedule.cosine]
warmup_steps = 5
"#;

const CLASSIFIER: &str = r#"
[data.labelled]
files = ["questions.csv"]
[train]
output_dir = "run"
device = "ndarray"
micro_batch_size = 16
max_steps = 150
eval_every = 50
save_every = 25
log_every = 10
best_metric = "f1"
"#;

fn run_of(config: &str) -> Run {
    let run = Run::new();
    std::fs::write(run.path("questions.csv"), questions()).expect("writable");
    std::fs::write(run.path("run.toml"), format!("{config}{SMALL}")).expect("writable");
    run
}

static TRAINED: LazyLock<Run> = LazyLock::new(|| {
    let run = run_of(CLASSIFIER);
    let ended = run.train(&[]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    run
});

#[test]
fn a_classifier_learns_and_leaves_figures_and_a_picture() {
    let run = &*TRAINED;
    let report = run.firebox(&["eval", "run", "--split", "test", "--device", "flex", "--json"]).json();
    assert!(report["accuracy"].as_f64().is_some_and(|accuracy| accuracy > 0.9), "{report:#}");
    assert_eq!(report["labels"], serde_json::json!(["delivery", "konto 账户", "refund"]));
    assert_eq!(report["confusion"].as_array().map(Vec::len), Some(3));
    assert_eq!(report["examples"], 46);
    for file in ["confusion.svg", "confusion.png", "curves.svg"] {
        assert!(std::fs::metadata(run.path("run").join(file)).is_ok_and(|file| file.len() > 1000), "{file}");
    }
    let metrics = std::fs::read_to_string(run.path("run/metrics.jsonl")).expect("written");
    assert!(metrics.contains("\"weighted_f1\":"), "{metrics}");
    let plan = run.train(&["--dry-run"]).stdout;
    assert!(
        plan.lines().any(|line| line.starts_with("padding: ") && line.contains("% of the training batches")),
        "{plan}"
    );
    let config = std::fs::read_to_string(run.path("run/step-000150/config.json")).expect("written");
    assert!(config.contains("\"BertForSequenceClassification\"") && config.contains("\"id2label\""), "{config}");
}

#[test]
fn predictions_sum_to_one_and_say_which_words_they_rest_on() {
    let run = &*TRAINED;
    let texts = ["--text", "where is the parcel number 7", "--text", "", "--text", "Tom forgot the password"];
    let answers = run.firebox(&[&["predict", "run", "--json", "--explain"][..], &texts].concat()).json();
    let answers = answers.as_array().expect("a list");
    assert_eq!(answers.len(), 3);
    assert_eq!((&answers[0]["label"], &answers[2]["label"]), (&"delivery".into(), &"konto 账户".into()));
    for answer in answers {
        let sum: f64 = answer["probs"].as_object().expect("by label").values().filter_map(|p| p.as_f64()).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{answer}");
    }
    let tokens = answers[0]["explanation"]["tokens"].as_array().expect("each token");
    let most = tokens
        .iter()
        .max_by(|a, b| a["contribution"].as_f64().partial_cmp(&b["contribution"].as_f64()).expect("numbers"));
    assert!(tokens.len() > 4 && most.is_some_and(|most| most["contribution"].as_f64() > Some(0.0)), "{tokens:?}");
    // A file is answered a line a text, and an ensemble of one model twice says the same.
    std::fs::write(run.path("ask.txt"), "where is it\nmoney back\n").expect("writable");
    let alone = run.firebox(&["predict", "run", "--file", "ask.txt"]);
    let twice = run.firebox(&["predict", "run", "--file", "ask.txt", "--ensemble", "run"]);
    assert_eq!(alone.stdout.lines().count(), 2, "{}", alone.stderr);
    assert_eq!(alone.stdout, twice.stdout);
}

#[test]
fn an_ensemble_s_explanation_is_the_mean_of_its_models() {
    let run = &*TRAINED;
    let models = ["run/step-000125", "run/step-000150"];
    let explained = |of: &[&str]| {
        let asked = ["--text", "where is the parcel number 7", "--json", "--explain"];
        let answer = run.firebox(&[&["predict"], of, &asked].concat()).json()[0].clone();
        assert_eq!((&answer["label"], &answer["explanation"]["label"]), (&"delivery".into(), &"delivery".into()));
        let tokens = answer["explanation"]["tokens"].as_array().expect("tokens");
        tokens.iter().filter_map(|of| of["contribution"].as_f64()).collect::<Vec<f64>>()
    };
    let [one, other] = models.map(|model| explained(&[model]));
    let both = explained(&[models[0], "--ensemble", models[1]]);
    assert!(one != other && both.len() > 4 && both.len() == one.len(), "{one:?} {other:?}");
    for (both, (one, other)) in both.iter().zip(one.iter().zip(&other)) {
        assert!((both - (one + other) / 2.0).abs() < 1e-6, "{both} for {one} and {other}");
    }
}

#[test]
fn a_resumed_classifier_ends_with_the_same_bits() {
    let whole = &*TRAINED;
    let run = run_of(CLASSIFIER);
    let part = run.train(&["--set", "train.keep_last=9"]);
    assert_eq!(part.code, Some(0), "{}", part.stderr);
    for step in 76..=150 {
        let _ = std::fs::remove_dir_all(run.path(&format!("run/step-{step:06}")));
    }
    let resumed = run.train(&["--resume"]);
    assert_eq!(resumed.code, Some(0), "{}", resumed.stderr);
    assert!(resumed.stderr.contains("resuming from"), "{}", resumed.stderr);
    let weights = |run: &Run| std::fs::read(run.path("run/step-000150/model.safetensors")).expect("written");
    assert!(weights(&run) == weights(whole), "other weights than without a stop");
}

#[test]
fn a_pre_trained_body_gets_a_head_and_masks_are_filled() {
    let pre = CLASSIFIER
        .replace("[data.labelled]", "[data.csv]")
        .replace("best_metric = \"f1\"", "")
        .replace("output_dir = \"run\"", "output_dir = \"pre\"");
    let run = run_of(&pre);
    let ended = run.train(&[]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let filled = run.firebox(&["predict", "pre", "--text", "where is the [MASK] number 7", "--json"]).json();
    let masks = filled[0]["masks"].as_array().expect("one");
    assert_eq!((masks.len(), &masks[0]["position"]), (1, &4.into()));
    assert!(masks[0]["top"].as_array().is_some_and(|top| top.len() >= 5));
    // A line without a mask is answered too, and stops none of the others.
    std::fs::write(run.path("ask.txt"), "a [MASK] b\nno mask\n\n[MASK] back\n").expect("writable");
    let lines = run.firebox(&["predict", "pre", "--file", "ask.txt", "--top", "3"]);
    let tops: Vec<usize> = lines
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .map(|answer| answer["masks"][0]["top"].as_array().map_or(0, Vec::len))
        .collect();
    assert_eq!(tops, [3, 0, 0, 3], "{}", lines.stderr);
    for refused in
        [&["--text", "none"][..], &["--text", "[MASK]", "--explain"], &["--text", "[MASK]", "--ensemble", "pre"]]
    {
        assert_ne!(run.firebox(&[&["predict", "pre"], refused].concat()).code, Some(0), "{refused:?}");
    }
    let loss = run.firebox(&["eval", "pre", "--data", "questions.csv", "--json"]).json();
    assert!(loss["perplexity"].as_f64().is_some_and(|p| p > 1.0 && p < 220.0), "{loss}");

    let fine = CLASSIFIER.replace("[data.labelled]", "[model]\ninit_from = \"pre/latest-step\"\n[data.labelled]");
    let newest = "pre/step-000150";
    let config = format!("{}{}", fine.replace("pre/latest-step", newest), SMALL);
    // The shape comes from the directory, and so does the tokenizer.
    let cut = |text: &str, from: &str, to: &str| {
        let start = text.find(from).expect("there");
        let end = start + text[start..].find(to).expect("there");
        text[..start].to_string() + &text[end..]
    };
    let config = cut(&cut(&config, "[model.bert]", "[tokenizer.bert]"), "[tokenizer.bert]", "[optimizer.adamw]");
    std::fs::write(run.path("fine.toml"), config).expect("writable");
    let ended = run.firebox(&["train", "fine.toml"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("fresh: ") && ended.stderr.contains("classifier.weight"), "{}", ended.stderr);
}

#[test]
fn bad_labelled_data_is_told_with_its_place() {
    let run = run_of(CLASSIFIER);
    for (contents, code, part) in [
        ("text,label\n", 3, "no text"),
        ("text,label\na,x\nb,x\n", 3, "one label"),
        ("text,kind\na,x\n", 3, "no column `label`"),
        ("text,label\n\"a,x\n", 3, "questions.csv:2"),
        ("text,label\na,x\n,y\n", 3, "questions.csv:3"),
        ("text,label\na\0,x\n", 3, "NUL"),
    ] {
        std::fs::write(run.path("questions.csv"), contents).expect("writable");
        let ended = run.train(&["--dry-run"]);
        assert!(
            ended.code == Some(code) && ended.stderr.contains(part),
            "{contents:?}: {:?} {}",
            ended.code,
            ended.stderr
        );
    }
    std::fs::write(run.path("other.csv"), "text,label\nwhere is it,shipping\n").expect("writable");
    let trained = &*TRAINED;
    std::fs::copy(run.path("other.csv"), trained.path("other.csv")).expect("copied");
    let ended = trained.firebox(&["eval", "run", "--data", "other.csv"]);
    assert!(ended.code == Some(3) && ended.stderr.contains("other.csv:2: the label `shipping`"), "{}", ended.stderr);
    let long = format!("text,label\n{},refund\n", "money back ".repeat(10_000));
    std::fs::write(trained.path("long.csv"), long).expect("writable");
    assert_eq!(trained.firebox(&["eval", "run", "--data", "long.csv", "--json"]).json()["examples"], 1);
    // A GPT has no labels, and a BERT generates nothing.
    for set in [
        "model.gpt.n_layer=1",
        "objective.causal={}",
        "train.best_metric='f2'",
        "train.sample_tokens=2",
        "train.freeze_layers=9",
        "objective.classification.threshold=0.3",
        "split.fold=1",
    ] {
        let ended = run_of(CLASSIFIER).train(&["--dry-run", "--set", set]);
        assert_eq!(ended.code, Some(2), "{set}: {}", ended.stderr);
    }
    let ended =
        run_of(CLASSIFIER).train(&["--dry-run", "--set", "objective.classification.label_weights={shipping=2}"]);
    assert!(ended.code == Some(3) && ended.stderr.contains("no label `shipping`"), "{}", ended.stderr);
    assert_eq!(trained.firebox(&["generate", "run", "--prompt", "x"]).code, Some(4));
}

/// The classifier under another `problem_type`, in a directory of this name.
fn as_problem(run: &Run, name: &str, problem: &str) {
    let (from, to) = (run.path("run/step-000150"), run.path(name));
    std::fs::create_dir_all(&to).expect("writable");
    for file in ["model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(from.join(file), to.join(file)).expect("copied");
    }
    let config = std::fs::read_to_string(from.join("config.json")).expect("written");
    std::fs::write(to.join("config.json"), config.replace("single_label_classification", problem)).expect("writable");
}

#[test]
fn the_same_logits_answer_for_one_label_several_or_a_number() {
    let run = &*TRAINED;
    as_problem(run, "single", "single_label_classification");
    as_problem(run, "several", "multi_label_classification");
    let answer = |dir: &str| run.firebox(&["predict", dir, "--text", "money back", "--json"]).json()[0].clone();
    let [single, several] = ["single", "several"].map(answer);
    let probs = |answer: &Value| -> Vec<f64> {
        answer["probs"].as_object().expect("by label").values().map(|p| p.as_f64().expect("a number")).collect()
    };
    let logits: Vec<f64> = probs(&several).iter().map(|p| (p / (1.0 - p)).ln()).collect();
    let total: f64 = logits.iter().map(|logit| logit.exp()).sum();
    for (p, logit) in probs(&single).iter().zip(&logits) {
        assert!((p - logit.exp() / total).abs() < 1e-6, "{single} {several}");
    }
    let given = several["labels"].as_array().expect("a list").len();
    assert_eq!(given, probs(&several).iter().filter(|p| **p >= 0.5).count());
    std::fs::write(run.path("several.csv"), "text,label\nmoney back,refund\nhello,\nwhere is it,refund|delivery\n")
        .expect("writable");
    let report = run.firebox(&["eval", "several", "--data", "several.csv", "--json"]).json();
    assert!(report["examples"] == 3 && report["hamming_loss"].as_f64().is_some(), "{report}");
    let ended = run.firebox(&["eval", "single", "--data", "several.csv"]);
    assert!(ended.code == Some(3) && ended.stderr.contains("several.csv:3"), "{}", ended.stderr);
}

#[test]
fn numbers_are_learned_and_predicted() {
    let run = run_of(&CLASSIFIER.replace("[train]", "problem = 'regression'\n[train]"));
    // How often a text says `back`.
    let row = |i: usize| format!("money{} please {},{}\n", " back".repeat(i % 4), i % 7, i % 4);
    std::fs::write(run.path("questions.csv"), "text,label\n".to_string() + &(0..120).map(row).collect::<String>())
        .expect("writable");
    let ended = run.train(&["--set", "train.best_metric='mse'"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let report = run.firebox(&["eval", "run", "--data", "questions.csv", "--json"]).json();
    assert!(report["r2"].as_f64().expect("a number") > 0.8, "{report}");
    let value = run.firebox(&["predict", "run", "--text", "money back back back please 3", "--json"]).json();
    assert!((value[0]["value"].as_f64().expect("a number") - 3.0).abs() < 0.7, "{value}");
    let evaluations = std::fs::read_to_string(run.path("run/metrics.jsonl")).expect("written");
    assert!(!evaluations.contains("perplexity") && evaluations.contains("\"rmse\":"), "{evaluations}");
    std::fs::write(run.path("bad.csv"), "text,label\nx,many\n").expect("writable");
    let ended = run.firebox(&["eval", "run", "--data", "bad.csv"]);
    assert!(ended.code == Some(3) && ended.stderr.contains("bad.csv:2: `many` is not a number"), "{}", ended.stderr);
}

#[test]
fn numbers_far_from_zero_are_learned_as_those_near_it() {
    let run = run_of(&CLASSIFIER.replace("[train]", "problem = 'regression'\n[train]"));
    let row = |i: usize| format!("money{} please {},{}\n", " back".repeat(i % 4), i % 7, 1000 + 40 * (i % 4));
    std::fs::write(run.path("questions.csv"), "text,label\n".to_string() + &(0..120).map(row).collect::<String>())
        .expect("writable");
    let ended = run.train(&["--set", "train.best_metric='r2'"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("the head starts at the training part's mean and deviation, 10"), "{}", ended.stderr);
    let report = run.firebox(&["eval", "run", "--data", "questions.csv", "--json"]).json();
    assert!(report["r2"].as_f64().expect("a number") > 0.8, "{report}");
}

#[test]
fn steps_in_which_nothing_is_masked_are_no_part_of_the_loss() {
    let pre = CLASSIFIER.replace("[data.labelled]", "[data.csv]").replace("best_metric = \"f1\"", "");
    let run = run_of(&pre);
    let few = ["--set", "train.micro_batch_size=1", "--set", "train.log_every=1", "--set", "train.max_steps=60"];
    let ended = run.train(&[&["--set", "objective.masked_lm.probability=0.02"], &few[..]].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let metrics = std::fs::read_to_string(run.path("run/metrics.jsonl")).expect("written");
    let steps: Vec<&str> = metrics.lines().filter(|line| line.contains("\"type\":\"step\"")).collect();
    assert!(steps.len() < 60 && steps.iter().all(|line| !line.contains("null")), "{metrics}");
    let never = ["--set", "objective.masked_lm.probability=1e-12", "--set", "train.output_dir=never"];
    let ended = run.train(&[&never, &few[..]].concat());
    assert!(ended.stderr.contains("no evaluation: no token of the validation rows"), "{}", ended.stderr);
    assert!(ended.code == Some(2) && ended.stderr.contains("nothing to learn"), "{:?} {}", ended.code, ended.stderr);
}

#[test]
fn folds_are_compared_by_the_checkpoints_that_are_kept() {
    let run = run_of(CLASSIFIER);
    let short = ["--set", "train.max_steps=20", "--set", "train.eval_every=5"];
    let cv = |more: &[&str]| run.firebox(&[&["cv", "run.toml", "--json", "--folds", "2"], &short[..], more].concat());
    for metric in ["mcc", "loss", "macro_recall"] {
        let out = ["--metric", metric, "--out", metric];
        for fold in cv(&out).json()["runs"].as_array().expect("runs") {
            let best = std::fs::read(run.path(fold["dir"].as_str().expect("a path")).join("best")).expect("written");
            let best: Value = serde_json::from_slice(&best).expect("JSON");
            assert_eq!(best["metric"], fold["metrics"][metric], "{fold:#}");
            let step = fold["step"].as_u64().expect("a step");
            assert_eq!(best["directory"], format!("step-{step:06}"), "{fold:#}");
        }
    }
    let unknown = cv(&["--metric", "hamming_loss"]);
    assert!(unknown.code == Some(2) && unknown.stderr.contains("single-label classifier"), "{}", unknown.stderr);
}

#[test]
fn folds_and_bags_are_trained_compared_and_kept() {
    let run = run_of(CLASSIFIER);
    let short = ["--set", "train.max_steps=20", "--set", "train.eval_every=10"];
    let cv = |more: &[&str]| run.firebox(&[&["cv", "run.toml", "--json"], &short[..], more].concat());
    let folds = cv(&["--folds", "3"]).json();
    assert_eq!(folds["runs"].as_array().map(Vec::len), Some(3), "{folds:#}");
    let accuracies: Vec<f64> =
        folds["runs"].as_array().expect("runs").iter().filter_map(|run| run["metrics"]["accuracy"].as_f64()).collect();
    let mean = accuracies.iter().sum::<f64>() / 3.0;
    assert!((folds["spread"]["accuracy"]["mean"].as_f64().expect("a mean") - mean).abs() < 1e-9);
    // Started again, nothing is trained again.
    let again = cv(&["--folds", "3"]);
    assert!(!again.stderr.contains("fold 1 of 3") && again.json()["spread"] == folds["spread"], "{}", again.stderr);
    let bags = cv(&["--bag", "2"]).json();
    let models = bags["ensemble"]["models"].as_array().expect("models").clone();
    let dirs: Vec<&str> = models.iter().filter_map(Value::as_str).collect();
    let ask = |more: &[&str]| {
        run.firebox(&[&["predict", dirs[0], "--text", "money back", "--json"], more].concat()).json()[0]["probs"]
            .clone()
    };
    let [first, second] =
        [ask(&[]), run.firebox(&["predict", dirs[1], "--text", "money back", "--json"]).json()[0]["probs"].clone()];
    let together = ask(&["--ensemble", dirs[1]]);
    for (label, p) in together.as_object().expect("by label") {
        let mean = (first[label].as_f64().expect("p") + second[label].as_f64().expect("p")) / 2.0;
        assert!((p.as_f64().expect("p") - mean).abs() < 1e-6, "{label}");
    }
    let voted = ["predict", dirs[0], "--ensemble", dirs[1], "--vote", "--text", "a", "--explain"];
    assert_eq!(run.firebox(&voted).code, Some(2));
    let report = run.firebox(&["eval", dirs[0], "--ensemble", dirs[1], "--vote", "--data", "questions.csv", "--json"]);
    assert!(report.json()["accuracy"].as_f64().is_some(), "{}", report.stderr);
    let many = cv(&["--folds", "500", "--out", "many"]);
    assert!(many.code == Some(3) || many.code == Some(2), "{:?}", many.code);
    assert!(many.stderr.contains("500 folds"), "{}", many.stderr);
}

#[test]
fn tags_are_learned_measured_and_predicted() {
    let run = Run::new();
    let names = [("Mia", ""), ("Tom", ""), ("Max", "Power"), ("Liu", "Wei")];
    let row = |i: usize| {
        let (first, last) = names[i * 7 % 4];
        let last = if last.is_empty() { String::new() } else { format!("{last}\tI-PER\n") };
        format!("{first}\tB-PER\n{last}lives\tO\nin\tO\n{}\tB-LOC\n.\tO\n\n", ["Berlin", "Rome", "Oslo"][i % 3])
    };
    std::fs::write(run.path("tags.conll"), (0..120).map(row).collect::<String>()).expect("writable");
    let config = format!("{CLASSIFIER}{SMALL}")
        .replace("[data.labelled]", "[data.tagged]")
        .replace("questions.csv", "tags.conll");
    std::fs::write(run.path("run.toml"), config.replace("vocab_size = 220", "vocab_size = 120\nlowercase = false"))
        .expect("writable");
    let ended = run.train(&[]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let report = run.firebox(&["eval", "run", "--data", "tags.conll", "--json"]).json();
    assert!(report["f1"].as_f64().expect("a number") > 0.95, "{report}");
    let answer = run.firebox(&["predict", "run", "--text", "Max Power lives in Rome.", "--json"]).json();
    let entities = answer[0]["entities"].as_array().expect("a list");
    let found: Vec<(&str, &str)> = entities
        .iter()
        .map(|entity| (entity["type"].as_str().expect("a type"), entity["text"].as_str().expect("a text")))
        .collect();
    assert_eq!(found, [("PER", "Max Power"), ("LOC", "Rome")], "{answer}");
    // Tags of another scheme are read as in training.
    std::fs::write(run.path("plain.conll"), "Mia NN\nlives VB\n\n".repeat(40)).expect("writable");
    let plain = ["--set", "data.tagged.files=['plain.conll']", "--set", "data.tagged.scheme=plain"];
    let short = ["--set", "train.output_dir=plain", "--set", "train.max_steps=20", "--set", "train.eval_every=10"];
    let ended = run.train(&[&plain[..], &short].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let report = run.firebox(&["eval", "plain", "--data", "plain.conll", "--json"]);
    assert!(report.json()["accuracy"].as_f64().is_some_and(|accuracy| accuracy > 0.4), "{}", report.stdout);
    std::fs::write(run.path("bad.conll"), "Mia\tI-PER\n\n").expect("writable");
    let ended = run.firebox(&["eval", "run", "--data", "bad.conll"]);
    assert!(ended.code == Some(3) && ended.stderr.contains("bad.conll:1"), "{}", ended.stderr);
}

#[test]
fn both_losses_of_pre_training_are_logged_and_the_head_is_huggingfaces() {
    let run = Run::new();
    let story = |i: usize| (0..6).map(|j| format!("Mia saw {} birds. ", i * 7 + j)).collect::<String>() + "\n\n";
    std::fs::write(run.path("stories.txt"), (0..60).map(story).collect::<String>()).expect("writable");
    let config = format!("{CLASSIFIER}{SMALL}")
        .replace(
            "[data.labelled]\nfiles = [\"questions.csv\"]",
            "[data.text]\nfiles = [\"stories.txt\"]\nseparator = \"\\n\\n\"",
        )
        .replace("best_metric = \"f1\"", "");
    std::fs::write(run.path("run.toml"), format!("{config}\n[objective.masked_lm]\nnext_sentence = true\n"))
        .expect("writable");
    let ended = run.train(&["--set", "train.max_steps=20", "--set", "train.eval_every=10"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let metrics = std::fs::read_to_string(run.path("run/metrics.jsonl")).expect("written");
    let events: Vec<Value> = metrics.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let step = events.iter().find(|event| event["type"] == "step").expect("a step");
    let terms = ["masked_lm", "next_sentence"].map(|term| step["terms"][term].as_f64().expect("a loss"));
    assert!((terms[0] + terms[1] - step["loss"].as_f64().expect("a loss")).abs() < 1e-6, "{step}");
    let eval = events.iter().find(|event| event["type"] == "eval").expect("an evaluation");
    assert!(eval["metrics"]["next_sentence_accuracy"].as_f64().is_some(), "{eval}");
    let config = std::fs::read_to_string(run.path("run/step-000020/config.json")).expect("written");
    assert!(config.contains("BertForPreTraining"), "{config}");
    let masks = run.firebox(&["predict", "run", "--text", "Mia saw [MASK] birds.", "--json"]).json();
    assert!(masks[0]["masks"][0]["top"].as_array().is_some(), "{masks}");
    let figures = run.firebox(&["eval", "run", "--data", "stories.txt", "--separator", "\n\n", "--json"]).json();
    let next = &figures["next_sentence"];
    assert!((0.0..=1.0).contains(&next["accuracy"].as_f64().expect("a figure")), "{figures}");
    assert!(figures["loss"].as_f64() > next["loss"].as_f64() && next["loss"].as_f64() > Some(0.0), "{figures}");
}

#[test]
fn the_parts_of_a_run_are_cleaned_once_whoever_measures_them() {
    // Every cleaning takes a word away.
    let run = run_of(&format!("{CLASSIFIER}[clean]\nremove = ['^\\S+ ']\n"));
    let ended = run.train(&["--set", "train.max_steps=20"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let log_loss = |more: &[&str]| {
        let report = run.firebox(&[&["eval", "run", "--split", "test", "--json"], more].concat()).json();
        report["log_loss"].as_f64().expect("a number")
    };
    let (alone, twice) = (log_loss(&[]), log_loss(&["--ensemble", "run"]));
    assert!((alone - twice).abs() < 1e-5, "{alone} {twice}");
}

/// The trained classifier's directory under another name, its outputs in the order `ids`.
fn renumbered(run: &Run, ids: [usize; 3]) {
    let from = run.path("run/step-000150");
    let (mut config, mut tensors) = checkpoint::read_bert(&from).expect("a classifier");
    let BertHead::SequenceClassification { labels, .. } = &mut config.head else { panic!("no classifier") };
    *labels = ids.map(|id| labels[id].clone()).to_vec();
    for name in ["classifier.weight", "classifier.bias"] {
        let tensor = tensors.get_mut(name).expect("a head");
        let width = tensor.values.len() / ids.len();
        tensor.values = ids.iter().flat_map(|id| tensor.values[id * width..][..width].to_vec()).collect();
    }
    let model = Bert::blank(&config, &Device::flex());
    let (model, _) = model::weights::load(model, &tensors).expect("the same shape");
    let tokenizer = checkpoint::tokenizer(&from).expect("beside the weights");
    let files = checkpoint::bert_files(&model, &config, Some(&tokenizer));
    checkpoint::export(&run.path("renumbered"), &files).expect("writable");
}

#[test]
fn a_head_is_taken_over_by_the_names_of_its_labels() {
    let run = run_of(CLASSIFIER);
    let ended = run.train(&[]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    renumbered(&run, [2, 0, 1]);
    let accuracy = |dir: &str| {
        run.firebox(&["eval", dir, "--data", "questions.csv", "--json"]).json()["accuracy"].as_f64().expect("a number")
    };
    assert_eq!(accuracy("renumbered"), accuracy("run/step-000150"));
    // One step that moves nothing.
    let split = &SMALL[..SMALL.find("[model.bert]").expect("there")];
    let rest = "[optimizer.adamw]\nlr = 1e-30\n[model]\ninit_from = \"renumbered\"\n";
    let fine = CLASSIFIER.replace("output_dir = \"run\"", "output_dir = \"fine\"");
    std::fs::write(run.path("fine.toml"), format!("{fine}{split}{rest}")).expect("writable");
    let one_step = ["train", "fine.toml", "--set", "train.max_steps=1"];
    let ended = run.firebox(&one_step);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("fresh: none"), "{}", ended.stderr);
    assert_eq!(accuracy("fine/step-000001"), accuracy("renumbered"));

    let others = questions().replace(",refund", ",complaint");
    std::fs::write(run.path("questions.csv"), others).expect("writable");
    let ended = run.firebox(&[&one_step[..], &["--set", "train.output_dir='other'"]].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for part in ["its labels are refund, delivery, konto", "complaint, delivery, konto", "classifier.weight"] {
        assert!(ended.stderr.contains(part), "`{part}`: {}", ended.stderr);
    }
}

#[test]
fn pairs_are_refused_by_a_model_of_one_token_type() {
    let run = run_of(&CLASSIFIER.replace("[train]", "text_pair = \"when\"\n[train]"));
    let rows = (0..60).map(|i| format!("is it here {i},now,delivery\nmoney {i} back,now,refund\n"));
    std::fs::write(run.path("questions.csv"), "text,when,label\n".to_string() + &rows.collect::<String>())
        .expect("writable");
    let one_type = ["--set", "model.bert.type_vocab_size=1", "--dry-run"];
    let assert_refused = |ended: Ended| {
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains("`model.bert.type_vocab_size`: 1 leaves"), "{}", ended.stderr);
    };
    assert_refused(run.train(&one_type));
    let run = Run::new();
    let data = "[data.text]\nfiles = [\"text.txt\"]\nseparator = \"\\n\"\n";
    let train = "[train]\noutput_dir = \"run\"\ndevice = \"ndarray\"\nmax_steps = 10\n";
    let objective = "[objective.masked_lm]\nnext_sentence = true\n";
    std::fs::write(run.path("run.toml"), format!("{data}{train}{objective}{SMALL}")).expect("writable");
    assert_refused(run.train(&one_type));
}

#[test]
fn a_gpt_is_not_given_labels() {
    let config = CLASSIFIER.to_string() + "[model.gpt]\nn_layer = 1\n[tokenizer.char]\n";
    let run = run_of(CLASSIFIER);
    std::fs::write(run.path("run.toml"), config.replace("best_metric = \"f1\"\n", "")).expect("writable");
    let ended = run.train(&["--dry-run"]);
    assert!(ended.code == Some(2) && ended.stderr.contains("labels and tags are for a BERT"), "{}", ended.stderr);
}

#[test]
fn parts_written_to_files_are_those_of_the_run_and_smoothing_is_of_training_alone() {
    let run = run_of(CLASSIFIER);
    let split = ["data", "split", "run.toml", "parts", "--json"];
    let counts = run.firebox(&split).json();
    let counts = ["train", "validation", "test"].map(|part| counts[part].as_u64().expect("a count"));
    assert_eq!(counts.iter().sum::<u64>(), 230);
    let refused = run.firebox(&split);
    assert!(refused.code == Some(2) && refused.stderr.contains("is there already"), "{}", refused.stderr);
    let short = ["--set", "train.max_steps=20", "--set", "train.eval_every=0"];
    let ended = run.train(&short);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let figures = |of: &[&str]| run.firebox(&[&["eval", "run", "--device", "ndarray", "--json"], of].concat()).json();
    assert_eq!(figures(&["--split", "test"]), figures(&["--data", "parts/test.jsonl"]));

    let loss = |run: &Run| {
        let metrics = std::fs::read_to_string(run.path("run/metrics.jsonl")).expect("written");
        let steps = metrics.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let first = steps.into_iter().find(|event| event["type"] == "step").expect("a step");
        first["loss"].as_f64().expect("a loss")
    };
    let other = run_of(CLASSIFIER);
    let ended = other.train(&[&short[..], &["--set", "train.label_smoothing=0.5"]].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!((loss(&run) - loss(&other)).abs() > 1e-3, "{} {}", loss(&run), loss(&other));
    let refused = other.train(&["--set", "train.label_smoothing=0.1", "--set", "data.labelled.problem=regression"]);
    assert!(refused.code == Some(2) && refused.stderr.contains("label_smoothing"), "{}", refused.stderr);
}

#[test]
fn files_are_read_as_in_training_and_pairs_are_asked_for_in_pairs() {
    let run = run_of(CLASSIFIER);
    let renamed = questions().replacen("text,label", "question,intent", 1);
    let paired: String = renamed.lines().map(|line| format!("{line},asked\n")).collect();
    std::fs::write(run.path("questions.csv"), paired.replacen("intent,asked", "intent,how", 1)).expect("writable");
    let columns = "files = [\"questions.csv\"]\ntext = \"question\"\ntext_pair = \"how\"\nlabel = \"intent\"\n";
    let config = CLASSIFIER.replace("files = [\"questions.csv\"]\n", columns);
    std::fs::write(run.path("run.toml"), format!("{config}{SMALL}")).expect("writable");
    let ended = run.train(&["--set", "train.max_steps=20", "--set", "train.eval_every=10"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let report = run.firebox(&["eval", "run", "--data", "questions.csv", "--json"]).json();
    assert_eq!(report["examples"], 230);
    let file = run.firebox(&["predict", "run", "--file", "questions.csv"]);
    let first: Value = serde_json::from_str(file.stdout.lines().next().expect("an answer")).expect("JSON");
    assert_eq!(first["pair"], "asked", "{}", file.stderr);
    let text = first["text"].as_str().expect("a text");
    let asked = run.firebox(&["predict", "run", "--text", text, "--pair", "asked", "--json"]).json();
    for (label, p) in first["probs"].as_object().expect("by label") {
        let difference = asked[0]["probs"][label].as_f64().expect("p") - p.as_f64().expect("p");
        assert!(difference.abs() < 1e-5, "{label}: {difference}");
    }
    for refused in [&["--text", "a"][..], &["--text", "a", "--pair", "b", "--pair", "c"], &["--file", "run.toml"]] {
        let ended = run.firebox(&[&["predict", "run"], refused].concat());
        assert!(ended.code == Some(2) && ended.stderr.contains("pair"), "{refused:?}: {}", ended.stderr);
    }
    // What cannot be read is an error by file and line, or left out and counted.
    std::fs::write(run.path("bad.csv"), "question,how,intent\na,b,refund\n,b,refund\n").expect("writable");
    let ended = run.firebox(&["eval", "run", "--data", "bad.csv"]);
    assert!(ended.code == Some(3) && ended.stderr.contains("bad.csv:3"), "{}", ended.stderr);
    let ended = run.firebox(&["eval", "run", "--data", "bad.csv", "--skip-bad-rows", "--json"]);
    assert!(ended.stderr.contains("left out 1 rows") && ended.json()["examples"] == 1, "{}", ended.stderr);
}

#[test]
fn nobody_needs_to_listen_on_stderr() {
    let run = run_of(CLASSIFIER);
    let full = || std::fs::File::options().write(true).open("/dev/full").expect("a device that is full");
    let mut command =
        run.command(&["train", "run.toml", "--set", "train.max_steps=20", "--set", "train.eval_every=10"]);
    let status = command.stderr(full()).env("RUST_LOG", "info").status().expect("the binary runs");
    assert_eq!(status.code(), Some(0));
    assert!(run.path("run/step-000020").is_dir());
    let mut command = run.command(&["train", "run.toml", "--set", "data.labelled.files=['none.csv']"]);
    assert_eq!(command.stderr(full()).status().expect("the binary runs").code(), Some(3));
}

#[test]
fn what_is_done_to_the_data_is_said_also_without_training() {
    let run = run_of(CLASSIFIER);
    let sets = ["--set", "clean.lowercase=true", "--set", "augment.delete=0.2"];
    let planned = run.train(&[&sets[..], &["--dry-run"]].concat());
    assert_eq!(planned.code, Some(0), "{}", planned.stderr);
    for note in ["note: files: cleaning changed the texts of ", "note: augment: in the first epoch of "] {
        assert!(planned.stdout.contains(note), "{}", planned.stdout);
    }
    let plan = run.train(&[&sets[..], &["--dry-run", "--json"]].concat()).json();
    assert!(plan["notes"].to_string().contains("augment: in the first epoch of "), "{plan:#}");
    let split = run.firebox(&[&["data", "split", "run.toml", "parts"][..], &sets].concat());
    assert!(split.stdout.contains("files: cleaning changed the texts of "), "{} {}", split.stdout, split.stderr);
}
