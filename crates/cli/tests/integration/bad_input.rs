//! Bad input gets a clear error and the right exit code, and nothing is lost.

use crate::support::Run;

/// Trains with `text` as the data and returns the exit code and what was said.
fn with_text(text: &[u8]) -> (Option<i32>, String) {
    let run = Run::new();
    std::fs::write(run.path("text.txt"), text).expect("writable");
    let ended = run.train(&[]);
    (ended.code, ended.stderr)
}

fn assert_refused(got: (Option<i32>, String), code: i32, words: &[&str]) {
    assert_eq!(got.0, Some(code), "{}", got.1);
    assert!(!got.1.contains("panicked"), "{}", got.1);
    for word in words {
        assert!(got.1.contains(word), "`{word}` is missing: {}", got.1);
    }
}

fn with_sets(sets: &[&str]) -> (Option<i32>, String) {
    let run = Run::new();
    let arguments: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let ended = run.train(&arguments);
    assert!(!run.path("run/latest").exists(), "nothing may be trained");
    (ended.code, ended.stderr)
}

#[test]
fn text_that_cannot_be_trained_on_is_refused_with_file_and_hint() {
    assert_refused(with_text(b""), 3, &["text.txt", "empty", "hint"]);
    assert_refused(with_text(b"ab\0\x01\x02cd"), 3, &["text.txt:1", "binary", "hint"]);
    assert_refused(with_text(b"first line\nsecond \xff line"), 3, &["text.txt:2", "UTF-8", "hint"]);
    assert_refused(with_text(b"too short"), 3, &["hint"]);
    assert_refused(with_sets(&["data.text.files=['nothing.txt']"]), 3, &["nothing.txt", "hint"]);
}

#[test]
fn wrong_configs_are_refused_with_every_problem_at_once() {
    let run = Run::new();
    let config = std::fs::read_to_string(run.path("run.toml")).expect("there");
    let config = config
        .replace("n_head = 2", "n_head = 3\nn_haed = 3")
        .replace("lr = 1e-2", "lr = \"fast\"\nlerning_rate = 1.0");
    std::fs::write(run.path("run.toml"), config).expect("writable");
    let ended = run.train(&[]);
    let words = ["run.toml:", "`n_haed`", "did you mean", "`lerning_rate`", "lr", "hint"];
    assert_refused((ended.code, ended.stderr.clone()), 2, &words);
    assert!(ended.stderr.lines().count() >= 3, "{}", ended.stderr);
    assert!(!run.path("run").exists(), "nothing is made before the config is right");
}

#[test]
fn contradictions_are_refused() {
    assert_refused(with_sets(&["model.gpt.n_head=3"]), 2, &["d_model", "n_head", "hint"]);
    assert_refused(with_sets(&["model.gpt.vocab_size=3"]), 2, &["vocabulary", "3", "hint"]);
    assert_refused(with_sets(&["train.precision='fp8'"]), 2, &["precision", "f32", "bf16"]);
    assert_refused(with_sets(&["train.device='gpu'"]), 2, &["device", "hint"]);
    assert_refused(with_sets(&["train.nonsense=1"]), 2, &["nonsense"]);
    assert_refused(with_sets(&["model.init_from='nowhere'"]), 4, &["nowhere"]);
}

#[test]
fn a_gpu_that_is_demanded_and_not_there_is_an_error_with_its_own_code() {
    assert_refused(with_sets(&["train.device=wgpu:99"]), 5, &["wgpu", "hint"]);
    if !cfg!(feature = "cuda") {
        assert_refused(with_sets(&["train.device=cuda"]), 5, &["CUDA", "hint"]);
    }
}

#[test]
fn a_diverging_run_stops_before_the_update_with_its_own_code_and_keeps_the_last_checkpoint() {
    let run = Run::new();
    let sets = [
        "--set",
        "optimizer.sgd.lr=1e30",
        "--set",
        "train.max_grad_norm=0",
        "--set",
        "schedule.constant.warmup_steps=0",
    ];
    let ended = run.train(&[&["--set", "train.save_every=1"], &sets[..]].concat());
    assert_refused((ended.code, ended.stderr), 6, &["is not finite", "the last good checkpoint is", "hint"]);
    let newest = std::fs::read_to_string(run.path("run/latest")).expect("a checkpoint was saved");
    let generated =
        run.firebox(&["generate", &format!("run/{}", newest.trim()), "--max-new-tokens", "2", "--device", "ndarray"]);
    assert_eq!(generated.code, Some(0), "{}", generated.stderr);
}

#[test]
fn a_second_process_on_the_same_run_is_refused() {
    let run = Run::new();
    let mut first = run.command(&["train", "run.toml", "--set", "train.max_steps=100000"]).spawn().expect("runs");
    while !run.path("run/config.toml").exists() {
        assert!(first.try_wait().expect("can be asked").is_none(), "the first run ended");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let second = run.train(&["--resume"]);
    first.kill().expect("can be killed");
    first.wait().expect("ends");
    assert_refused((second.code, second.stderr), 7, &["in use", "hint"]);
}

#[test]
fn a_run_directory_that_holds_a_run_is_not_overwritten() {
    let run = Run::new();
    assert_eq!(run.train(&["--set", "train.max_steps=10"]).code, Some(0));
    let again = run.train(&[]);
    assert_refused((again.code, again.stderr), 2, &["already holds a run", "--resume"]);
}

#[test]
fn checkpoints_that_are_damaged_are_refused_by_file() {
    let run = Run::new();
    assert_eq!(run.train(&["--set", "train.max_steps=10"]).code, Some(0));
    let weights = run.path("run/step-000010/model.safetensors");
    let whole = std::fs::read(&weights).expect("saved");
    let generate = || {
        let ended = run.firebox(&["generate", "run/step-000010", "--prompt", "Mia", "--device", "ndarray"]);
        (ended.code, ended.stderr)
    };
    assert_eq!(generate().0, Some(0));
    std::fs::write(&weights, &whole[..whole.len() / 2]).expect("writable");
    assert_refused(generate(), 4, &["model.safetensors", "truncated"]);
    let mut flipped = whole.clone();
    flipped[whole.len() - 5] ^= 4;
    std::fs::write(&weights, flipped).expect("writable");
    assert_refused(generate(), 4, &["model.safetensors", "hash"]);
    std::fs::remove_file(&weights).expect("there");
    assert_refused(generate(), 4, &["model.safetensors"]);
    let nothing = run.firebox(&["generate", "nowhere", "--device", "ndarray"]);
    assert_refused((nothing.code, nothing.stderr), 4, &["nowhere"]);
}

#[test]
fn a_checkpoint_of_another_shape_is_refused_with_both_shapes() {
    let run = Run::new();
    assert_eq!(run.train(&["--set", "train.max_steps=10"]).code, Some(0));
    std::fs::rename(run.path("run/step-000010"), run.path("base")).expect("can be moved");
    std::fs::remove_file(run.path("base/manifest.json")).expect("there");
    std::fs::remove_dir_all(run.path("base/train_state")).expect("there");
    let config = std::fs::read_to_string(run.path("base/config.json")).expect("there");
    std::fs::write(run.path("base/config.json"), config.replace("\"n_inner\": 64", "\"n_inner\": 48"))
        .expect("writable");
    let ended = run.firebox(&["generate", "base", "--prompt", "Mia", "--device", "ndarray"]);
    assert_refused((ended.code, ended.stderr), 4, &["[16, 64]", "[16, 48]", "c_fc.weight"]);
    let ended = run.train(&["--set", "model.init_from=base", "--set", "train.output_dir=other"]);
    assert_ne!(ended.code, Some(0));
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}

#[test]
fn an_output_directory_that_cannot_be_written_is_refused() {
    let run = Run::new();
    std::fs::write(run.path("file"), "in the way").expect("writable");
    assert_refused(
        {
            let ended = run.train(&["--set", "train.output_dir=file/run"]);
            (ended.code, ended.stderr)
        },
        7,
        &["file/run", "hint"],
    );
}

#[test]
fn eval_and_generate_refuse_what_they_cannot_use() {
    let run = Run::new();
    assert_eq!(run.train(&["--set", "train.max_steps=10"]).code, Some(0));
    std::fs::write(run.path("short.txt"), "Mia found").expect("writable");
    let ended = run.firebox(&["eval", "run", "--data", "short.txt", "--device", "ndarray"]);
    assert_refused((ended.code, ended.stderr), 3, &["short.txt", "hint"]);
    let ended = run.firebox(&["eval", "run", "--data", "missing.txt", "--device", "ndarray"]);
    assert_refused((ended.code, ended.stderr), 3, &["missing.txt"]);
    let ended = run.firebox(&["generate", "run", "--prompt", "\u{4f60}", "--device", "ndarray"]);
    assert_refused((ended.code, ended.stderr), 3, &["\u{4f60}"]);
    for bad in ["--temperature=-1", "--top-k=0", "--top-p=2"] {
        let ended = run.firebox(&["generate", "run", bad]);
        assert_refused((ended.code, ended.stderr), 2, &["hint"]);
    }
}
