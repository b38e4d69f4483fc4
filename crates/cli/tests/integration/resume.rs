//! A run that is killed and resumed ends as if nothing had happened.

use crate::support::Run;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// What two runs that are the same agree on, to the last bit: weights, optimizer, order of rows, best evaluation.
#[derive(Debug, PartialEq)]
struct End {
    weights: Vec<u8>,
    optimizer: Vec<u8>,
    state: BTreeMap<String, serde_json::Value>,
}

fn end(dir: &Path) -> End {
    let read = |name: &str| std::fs::read(dir.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut state: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(&read("train_state/state.json")).expect("JSON");
    state.remove("elapsed_seconds").expect("part of the state");
    End { weights: read("model.safetensors"), optimizer: read("train_state/optimizer.safetensors"), state }
}

fn uninterrupted() -> (Run, End) {
    let run = Run::new();
    let ended = run.train(&[]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let end = end(&run.path("run/step-000060"));
    (run, end)
}

/// Resumes `run` until it is done and compares.
fn finish(run: &Run, expected: &End, when: &str) {
    let ended = run.train(&["--resume"]);
    assert_eq!(ended.code, Some(0), "{when}: {}", ended.stderr);
    assert!(end(&run.path("run/step-000060")) == *expected, "{when}: the resumed run ended differently");
}

#[test]
fn two_runs_of_the_same_config_end_alike_and_another_seed_does_not() {
    let (_, first) = uninterrupted();
    let (_, second) = uninterrupted();
    assert!(first == second);
    let run = Run::new();
    assert_eq!(run.train(&["--set", "train.seed=7"]).code, Some(0));
    assert!(end(&run.path("run/step-000060")).weights != first.weights);
}

#[test]
fn a_run_aborted_at_any_file_operation_of_a_save_resumes_to_the_same_end() {
    let (_, expected) = uninterrupted();
    // From the first operation of the run (taking the directory) through the save that first rotates an old checkpoint
    // away. A run that is not reached by its abort ends by itself: then all have been tried.
    let mut aborted = 0;
    for operation in 1.. {
        let run = Run::new();
        let ended = run
            .command(&["train", "run.toml", "--set", "train.keep_last=1"])
            .env("FIREBOX_ABORT_AT_FILE_OPERATION", operation.to_string())
            .output()
            .expect("the binary runs");
        if ended.status.success() {
            break;
        }
        aborted += 1;
        let ended = run.train(&["--resume", "--set", "train.keep_last=1"]);
        assert_eq!(ended.code, Some(0), "operation {operation}: {}", ended.stderr);
        let mut end = end(&run.path("run/step-000060"));
        // The only setting in which this run differs from the uninterrupted one.
        if let Some(config) = end.state.get_mut("config") {
            config["train"]["keep_last"] = serde_json::json!(2);
        }
        assert!(end == expected, "aborted at operation {operation}, the run ended differently");
        if operation >= 120 {
            break;
        }
    }
    assert!(aborted > 60, "a save takes more than {aborted} operations");
}

#[test]
fn a_run_killed_at_random_moments_resumes_to_the_same_end() {
    let (_, expected) = uninterrupted();
    // One whole run's length, measured here, is what the moments are drawn from.
    let clock = Instant::now();
    drop(uninterrupted());
    let length = clock.elapsed();
    let mut random: u64 = 0x5eed;
    for kill in 0..50 {
        let run = Run::new();
        // Two kills a run, so that a resumed run is killed too.
        for arguments in [&["train", "run.toml"][..], &["train", "run.toml", "--resume"]] {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let moment = length.mul_f64((random >> 40) as f64 / (1u64 << 24) as f64);
            let mut child = run.command(arguments).stderr(Stdio::null()).spawn().expect("the binary runs");
            std::thread::sleep(moment);
            child.kill().expect("a child can be killed");
            child.wait().expect("it ends");
        }
        finish(&run, &expected, &format!("kill {kill}"));
    }
}

#[cfg(unix)]
#[test]
fn a_signal_finishes_the_step_saves_and_exits_with_its_code() {
    let (_, expected) = uninterrupted();
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let run = Run::new();
        let mut child = run.command(&["train", "run.toml"]).stderr(Stdio::null()).spawn().expect("the binary runs");
        // The first checkpoint shows that the run is under way.
        let clock = Instant::now();
        while !run.path("run/latest").exists() {
            assert!(clock.elapsed() < Duration::from_secs(120), "the run does not start");
            std::thread::sleep(Duration::from_millis(2));
        }
        let sent = std::process::Command::new("kill").args([signal, &child.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
        let status = child.wait().expect("it ends");
        // On a fast machine the run may have been at its last step.
        assert!(status.code() == Some(code) || run.path("run/step-000060").exists(), "{signal}: {status:?}");
        finish(&run, &expected, signal);
    }
}

#[test]
fn a_longer_run_and_another_log_interval_are_allowed_and_said() {
    let run = Run::new();
    assert_eq!(run.train(&["--set", "schedule.constant.warmup_steps=0"]).code, Some(0));
    let sets =
        ["--set", "schedule.constant.warmup_steps=0", "--set", "train.max_steps=70", "--set", "train.log_every=5"];
    let ended = run.train(&[&["--resume"], &sets[..]].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("`train.max_steps` was 60 and is 70"), "{}", ended.stderr);
    assert!(ended.stderr.contains("`train.log_every` was 10 and is 5"), "{}", ended.stderr);
    assert!(run.path("run/step-000070").exists());
}

#[test]
fn the_same_rows_a_step_in_other_micro_batches_may_be_resumed_and_other_rows_may_not() {
    let run = Run::new();
    assert_eq!(run.train(&["--set", "train.max_steps=20"]).code, Some(0));
    let split = ["--set", "train.micro_batch_size=2", "--set", "train.gradient_accumulation_steps=2"];
    assert_eq!(run.train(&[&["--resume"], &split[..]].concat()).code, Some(0));
    let ended = run.train(&["--resume", "--set", "train.micro_batch_size=8"]);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("was 4 and is 8"), "{}", ended.stderr);
}

#[test]
fn changes_that_do_not_fit_the_checkpoint_are_refused_field_by_field() {
    let run = Run::new();
    assert_eq!(run.train(&[]).code, Some(0));
    let ended =
        run.train(&["--resume", "--set", "model.gpt.n_layer=2", "--set", "train.seed=3", "--set", "split.seed=1"]);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    for line in
        ["`model.gpt.n_layer` was 1 and is 2", "`train.seed` was 1337 and is 3", "`split.seed` was 1337 and is 1"]
    {
        assert!(ended.stderr.contains(line), "{line}: {}", ended.stderr);
    }
    std::fs::write(run.path("text.txt"), crate::support::text() + "One more line.\n").expect("writable");
    let ended = run.train(&["--resume"]);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("the training data changed"), "{}", ended.stderr);
}

#[test]
fn resuming_skips_damaged_checkpoints_and_says_why() {
    let (run, expected) = uninterrupted();
    let weights = run.path("run/step-000060/model.safetensors");
    let mut bytes = std::fs::read(&weights).expect("saved");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&weights, bytes).expect("writable");
    let ended = run.train(&["--resume"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("skipped"), "{}", ended.stderr);
    assert!(ended.stderr.contains("model.safetensors"), "{}", ended.stderr);
    assert!(end(&run.path("run/step-000060")) == expected);
}
