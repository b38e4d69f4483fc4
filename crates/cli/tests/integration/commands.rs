//! Every command on a trained checkpoint.

use crate::support::{Run, devices, fixture, root, text};
use checkpoint::safetensors::Reader;
use std::sync::LazyLock;

/// One trained run for all tests that only read it.
static TRAINED: LazyLock<Run> = LazyLock::new(|| {
    let run = Run::new();
    let ended = run.train(&["--set", "train.max_steps=120"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    run
});

#[test]
fn training_lowers_the_loss_and_leaves_what_a_person_looks_for() {
    let run = &*TRAINED;
    let metrics = std::fs::read_to_string(run.path("run/metrics.jsonl")).expect("written");
    let events: Vec<serde_json::Value> =
        metrics.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let losses: Vec<f64> = events.iter().filter(|e| e["type"] == "step").filter_map(|e| e["loss"].as_f64()).collect();
    assert_eq!(losses.len(), 12);
    assert!(losses[11] < 0.7 * losses[0], "{losses:?}");
    for kind in ["started", "eval", "sample", "saved", "finished"] {
        assert!(events.iter().any(|event| event["type"] == kind), "no {kind} event");
    }
    for file in ["curves.svg", "curves.png", "config.toml", "latest", "best"] {
        assert!(run.path("run").join(file).metadata().is_ok_and(|meta| meta.len() > 0), "{file}");
    }
    let kept: Vec<_> = checkpoint::list(&run.path("run")).expect("readable");
    assert!(kept.len() <= 3, "keep_last = 2 and the best: {kept:?}");
    for file in ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "manifest.json"] {
        assert!(run.path("run/step-000120").join(file).exists(), "{file}");
    }
}

#[test]
fn generate_is_greedy_at_temperature_zero_and_repeats_with_a_seed() {
    let generate = |more: &[&str]| {
        let arguments =
            ["generate", "run", "--prompt", "Mia", "--max-new-tokens", "40", "--device", "ndarray", "--json"];
        TRAINED.firebox(&[&arguments[..], more].concat()).json()
    };
    let greedy = generate(&["--temperature", "0"]);
    assert_eq!(greedy["prompt_ids"].as_array().map(Vec::len), Some(3));
    assert_eq!(greedy["ids"].as_array().map(Vec::len), Some(43));
    assert!(greedy["text"].as_str().is_some_and(|text| text.starts_with("Mia") && text.chars().count() == 43));
    assert_eq!(greedy, generate(&["--temperature", "0", "--seed", "9"]));
    assert_eq!(generate(&["--seed", "5"]), generate(&["--seed", "5"]));
    assert_ne!(generate(&["--seed", "5"]), generate(&["--seed", "6"]));
    assert_eq!(greedy, generate(&["--top-k", "1"]));
    let plain = TRAINED.firebox(&[
        "generate",
        "run",
        "--prompt",
        "Mia",
        "--max-new-tokens",
        "40",
        "--device",
        "ndarray",
        "--temperature",
        "0",
    ]);
    assert_eq!(plain.stdout.trim_end_matches('\n'), greedy["text"].as_str().expect("text").trim_end_matches('\n'));
}

#[test]
fn several_texts_are_each_the_one_it_would_be_alone() {
    let generate = |more: &[&str]| {
        let arguments = ["generate", "run", "--max-new-tokens", "30", "--device", "ndarray"];
        TRAINED.firebox(&[&arguments[..], more].concat())
    };
    let list = generate(&["--prompt", "Mia", "--prompt", "Tom found", "--num-samples", "2", "--seed", "5", "--json"]);
    let list = list.json();
    let texts = list.as_array().expect("several texts are a list");
    assert_eq!(texts.len(), 4);
    for (text, (prompt, seed)) in texts.iter().zip([("Mia", "5"), ("Mia", "6"), ("Tom found", "5"), ("Tom found", "6")])
    {
        assert_eq!(text, &generate(&["--prompt", prompt, "--seed", seed, "--json"]).json(), "{prompt} {seed}");
    }
    let plain = generate(&["--prompt", "Mia", "--num-samples", "2", "--seed", "5"]).stdout;
    for (i, text) in texts[..2].iter().enumerate() {
        let text = text["text"].as_str().expect("text");
        assert!(plain.contains(&format!("[{} of 2]\n{text}\n", i + 1)), "{plain}");
    }
    assert_eq!(generate(&["--num-samples", "0"]).code, Some(2));
}

#[test]
fn weights_in_eight_bits_predict_as_well_and_are_refused_where_they_cannot_be_used() {
    let eval = |weights: &str, device: &str| {
        TRAINED.firebox(&["eval", "run", "--data", "text.txt", "--weights", weights, "--device", device, "--json"])
    };
    let perplexity =
        |weights: &str, device: &str| eval(weights, device).json()["perplexity"].as_f64().expect("a number");
    let exact = perplexity("f32", "ndarray");
    for device in ["ndarray", "flex"] {
        let rounded = perplexity("int8", device);
        assert!(rounded != exact && (rounded / exact - 1.0).abs() < 0.01, "{device}: {rounded} for {exact}");
    }
    let generate = ["generate", "run", "--prompt", "Mia", "--max-new-tokens", "9", "--device", "flex", "--json"];
    let text = TRAINED.firebox(&[&generate[..], &["--weights", "int8"]].concat()).json();
    assert_eq!(text["ids"].as_array().map(Vec::len), Some(12));
    assert_eq!(TRAINED.firebox(&["bench", "--weights", "int8", "--device", "flex"]).code, Some(2));
    if devices().len() > 2 {
        let refused = eval("int8", "wgpu");
        assert_eq!(refused.code, Some(5), "{}", refused.stderr);
        assert!(refused.stderr.contains("--weights int8") && refused.stderr.contains("hint"), "{}", refused.stderr);
    }
}

#[test]
fn the_devices_agree_on_the_loss() {
    let losses: Vec<f64> = ["ndarray", "flex"]
        .map(|device| TRAINED.firebox(&["eval", "run", "--data", "text.txt", "--device", device, "--json"]).json())
        .map(|value| value["loss"].as_f64().expect("a number"))
        .to_vec();
    assert!((losses[0] - losses[1]).abs() < 1e-5, "{losses:?}");
}

#[test]
fn eval_reports_figures_that_fit_together() {
    let value = TRAINED.firebox(&["eval", "run", "--data", "text.txt", "--device", "ndarray", "--json"]).json();
    let number = |key: &str| value[key].as_f64().unwrap_or_else(|| panic!("{key} is missing"));
    // Blocks of 16 tokens predict 15 each; the remainder is dropped. One character is one token and one byte.
    let blocks = text().len() / 16;
    assert_eq!(value["tokens"].as_u64(), Some(15 * blocks as u64));
    assert!((number("perplexity") - number("loss").exp()).abs() < 1e-9);
    assert!((number("bits_per_byte") - number("loss") / std::f64::consts::LN_2).abs() < 1e-9);
    assert!((0.3..=1.0).contains(&number("accuracy")));
    let plain = TRAINED.firebox(&["eval", "run", "--data", "text.txt", "--device", "ndarray"]).stdout;
    assert!(plain.contains(&format!("{:.4}", number("loss"))), "{plain}");
}

#[test]
fn export_leaves_the_training_state_behind_and_keeps_the_numbers() {
    let run = &*TRAINED;
    let best = checkpoint::best(&run.path("run")).expect("readable").expect("there is a best").0;
    let original = Reader::open(&best.join("model.safetensors")).expect("readable").tensors().expect("weights");
    for (dtype, tolerance, stored) in [("f32", 0.0, "F32"), ("f16", 1e-3, "F16"), ("bf16", 1e-2, "BF16")] {
        let ended =
            run.firebox(&["export", "run", "--to", "safetensors", "--dtype", dtype, "--out", &format!("out-{dtype}")]);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let out = run.path(&format!("out-{dtype}"));
        assert!(!out.join("train_state").exists() && out.join("tokenizer.json").exists());
        let reader = Reader::open(&out.join("model.safetensors")).expect("readable");
        let exported = reader.tensors().expect("weights");
        assert!(reader.names().iter().all(|name| reader.dtype(name).as_deref() == Some(stored)));
        assert_eq!(exported.keys().collect::<Vec<_>>(), original.keys().collect::<Vec<_>>());
        for (name, tensor) in &exported {
            for (a, b) in tensor.values.iter().zip(&original[name].values) {
                assert!((a - b).abs() <= tolerance * b.abs().max(1e-3), "{dtype} {name}: {a} {b}");
            }
        }
        let loss =
            run.firebox(&["eval", &format!("out-{dtype}"), "--data", "text.txt", "--device", "flex", "--json"]).json();
        assert!(loss["loss"].as_f64().is_some_and(f64::is_finite));
        let again = run.firebox(&["export", "run", "--to", "safetensors", "--out", &format!("out-{dtype}")]);
        assert_eq!(again.code, Some(2), "an existing directory is not overwritten");
    }
}

#[test]
fn training_starts_from_a_huggingface_directory_and_says_what_was_loaded() {
    let run = Run::new();
    let base = fixture("gpt2-golden");
    std::fs::create_dir(run.path("base")).expect("writable");
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(base.join(file), run.path("base").join(file)).expect("can be copied");
    }
    let config = std::fs::read_to_string(run.path("run.toml")).expect("there");
    let start = config.find("[model.gpt]").expect("has a model");
    let end = config.find("[train]").expect("has a train table");
    let config = format!("{}[model]\ninit_from = \"base\"\n{}", &config[..start], &config[end..]);
    std::fs::write(run.path("run.toml"), config).expect("writable");
    let ended = run.train(&["--set", "train.max_steps=2", "--set", "schedule.constant.warmup_steps=0"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("28 tensors loaded; fresh: none; unused: none"), "{}", ended.stderr);
}

#[test]
fn dry_run_prints_the_plan_and_touches_nothing() {
    let run = Run::new();
    let ended = run.train(&["--dry-run"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for word in ["parameters", "attention", "tokens a step", "steps an epoch", "optimizer"] {
        assert!(ended.stdout.contains(word), "{}", ended.stdout);
    }
    let plan = run.train(&["--dry-run", "--json"]).json();
    assert_eq!(plan["tokens_per_step"], 64);
    assert!(!run.path("run").exists());
}

#[test]
fn config_show_prints_a_file_that_resolves_to_itself() {
    let run = Run::new();
    let shown = run.firebox(&["config", "show", "run.toml"]);
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    std::fs::write(run.path("shown.toml"), &shown.stdout).expect("writable");
    let again = run.firebox(&["config", "show", "shown.toml"]);
    assert_eq!(again.stdout, shown.stdout);
    assert!(run.firebox(&["config", "schema"]).json()["properties"]["train"].is_object());
}

#[test]
fn tokenizers_train_and_are_looked_into() {
    let run = Run::new();
    for kind in ["char", "bpe", "wordpiece", "unigram"] {
        let out = format!("tok-{kind}");
        let trained = run.firebox(&[
            "tokenizer",
            "train",
            "text.txt",
            "--kind",
            kind,
            "--vocab-size",
            "600",
            "--out",
            &out,
            "--json",
        ]);
        assert!(trained.json()["vocab_size"].as_u64().is_some_and(|size| size > 20));
        let shown = run.firebox(&["tokenizer", "inspect", &out, "--text", "Mia found a red ball", "--json"]).json();
        assert!(shown["ids"].as_array().is_some_and(|ids| !ids.is_empty()));
    }
}

#[test]
fn devices_lists_the_cpu_and_says_whether_each_computes_right() {
    let run = Run::new();
    let list = run.firebox(&["devices", "--json"]).json();
    let names: Vec<&str> = list.as_array().expect("a list").iter().filter_map(|d| d["device"].as_str()).collect();
    assert!(names.starts_with(&["ndarray", "flex"]), "{names:?}");
    assert!(list.as_array().expect("a list").iter().all(|device| device["works"] == true), "{list:#}");
}

#[test]
fn the_readme_holds_the_config_reference() {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("there");
    let reference = trainer::config::reference();
    assert!(
        readme.contains(reference.trim()),
        "the README's config reference is out of date; paste `firebox config reference` into it"
    );
}

#[test]
fn bench_times_every_task_and_gives_every_figure() {
    let run = Run::new();
    for task in ["train", "attention", "matmul", "decode"] {
        let sizes =
            ["--n-layer", "1", "--n-head", "2", "--d-model", "16", "--seq", "8", "--batch", "2", "--steps", "2"];
        let arguments = [&["bench", "--task", task, "--device", "ndarray", "--json"][..], &sizes[..]].concat();
        let value = run.firebox(&arguments).json();
        for key in ["ms_per_step", "tokens_per_second", "mfu"] {
            assert!(value[key].as_f64().is_some_and(|figure| figure > 0.0), "{task} {key}: {value}");
        }
        // An untrained model knows nothing: its loss is that of guessing among 65 ids.
        let guessing = task == "train";
        assert_eq!(value["loss"].as_f64().is_some_and(|loss| (loss - 65f64.ln()).abs() < 0.2), guessing, "{value}");
    }
    assert_eq!(run.firebox(&["bench", "--n-head", "3"]).code, Some(2));
    for weights in ["f32", "int8"] {
        let sizes = ["--d-model", "16", "--seq", "8", "--batch", "3", "--steps", "2", "--weights", weights];
        let arguments = [&["bench", "--task", "decode", "--device", "flex", "--json"][..], &sizes[..]].concat();
        let value = run.firebox(&arguments).json();
        for key in ["ms_per_token", "weight_bytes", "read_bytes_per_second", "read_ceiling_bytes_per_second"] {
            assert!(value[key].as_f64().is_some_and(|figure| figure > 0.0), "{weights} {key}: {value}");
        }
    }
}

#[test]
fn a_sweep_sorts_its_trials_by_validation_and_goes_on_where_it_stopped() {
    let run = Run::new();
    let sweep = |more: &[&str]| {
        let grid = ["--grid", "optimizer.adamw.lr=1e-5,1e-2", "--random", "train.seed=1..9", "--draws", "1"];
        let set = ["--set", "train.max_steps=20", "--set", "train.eval_every=10"];
        run.firebox(&[&["sweep", "run.toml", "--json"], &grid[..], &set[..], more].concat())
    };
    let first = sweep(&[]);
    let table = first.json();
    let trials = table["trials"].as_array().expect("a list");
    assert_eq!(trials.len(), 2, "{table:#}");
    let losses: Vec<f64> = trials.iter().filter_map(|trial| trial["metrics"]["loss"].as_f64()).collect();
    assert!(losses.len() == 2 && losses[0] < losses[1], "{table:#}");
    // Twenty steps of the larger rate learn more.
    assert_eq!(trials[0]["set"]["optimizer.adamw.lr"], "1e-2");
    assert!(first.stderr.contains("trial 2 of 2"));
    // A trial that lost its result goes on from its last checkpoint; the other is not trained again.
    let dir = trials[0]["dir"].as_str().expect("a path");
    std::fs::remove_file(run.path(dir).join("result.json")).expect("there");
    let again = sweep(&[]);
    assert_eq!(again.json()["trials"][0]["metrics"], trials[0]["metrics"]);
    assert_eq!(again.stderr.matches("trial ").count(), 1, "{}", again.stderr);
    let other = sweep(&["--seed", "1"]);
    assert!(other.code == Some(2) && other.stderr.contains("holds other trials"), "{}", other.stderr);
    assert_eq!(run.firebox(&["sweep", "run.toml", "--grid", "optimizer.adamw.lrr=1"]).code, Some(2));
    assert_eq!(run.firebox(&["sweep", "run.toml"]).code, Some(2));
}
