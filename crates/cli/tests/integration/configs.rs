//! Every shipped config runs one step.

use crate::support::{Run, fixture, root};
use std::process::Command;

fn firebox(arguments: &[&str]) -> (Option<i32>, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_firebox")).args(arguments).current_dir(root()).output().expect("runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn every_shipped_config_is_valid_and_runs_a_step() {
    let mut configs: Vec<String> = std::fs::read_dir(root().join("configs"))
        .expect("there")
        .map(|entry| entry.expect("readable").path().display().to_string())
        .filter(|path| path.ends_with(".toml"))
        .collect();
    configs.sort();
    assert!(configs.len() >= 9, "{configs:?}");
    for config in configs {
        let run = Run::new();
        let out = format!("train.output_dir={}", run.path("out").display());
        let mut sets = vec![
            "train.device=flex",
            "train.max_steps=1",
            "train.micro_batch_size=1",
            "train.gradient_accumulation_steps=1",
            "train.eval_batches=1",
            "schedule.constant.warmup_steps=0",
            &out,
        ];
        if config.contains("gpt") || config.contains("chat") {
            sets.push("train.sample_tokens=2");
        }
        let text = std::fs::read_to_string(&config).expect("listed");
        let adapts = text.contains("[lora]");
        // What ships stands in for what a person downloads.
        let labelled = [
            "data.labelled.files=['datasets/support-questions.csv']",
            "data.labelled.text='text'",
            "data.labelled.label='label'",
        ];
        // A model made here stands in for one that a person has, or makes with another config first.
        let base = run.path("base").display().to_string();
        let from = format!("model.init_from={base}");
        let first = text.lines().find_map(|line| line.strip_prefix("init_from = \"")?.strip_suffix('"'));
        if let Some(first) = first {
            let name = first.strip_prefix("runs/").unwrap_or("chat-sft");
            let of_base = root().join(format!("configs/{name}.toml")).display().to_string();
            let out = format!("train.output_dir={base}");
            let mut sets = vec!["train.max_steps=1", "train.micro_batch_size=1", "train.eval_every=0", &out];
            sets.extend(["schedule.cosine.warmup_steps=0"]);
            if name.starts_with("bert") {
                sets.extend(labelled);
            } else {
                sets.push("train.sample_tokens=0");
            }
            let sets = sets.into_iter().flat_map(|set| ["--set", set]);
            let (code, stderr) = firebox(&["train", &of_base].into_iter().chain(sets).collect::<Vec<_>>());
            assert_eq!(code, Some(0), "{stderr}");
        }
        if text.contains("[data.labelled]") {
            sets.extend(labelled);
        } else if config.contains("chat") {
            sets.push("data.chat.files=['datasets/support-chat.jsonl']");
        } else {
            sets.push("data.text.files=['datasets/stories.txt']");
        }
        // Large: shrunk in every size, since the shipped text is far too small for them.
        if config.contains("124m") {
            sets.extend([
                "model.gpt.n_layer=1",
                "model.gpt.d_model=48",
                "model.gpt.max_seq_len=32",
                "tokenizer.bpe.vocab_size=300",
                "model.gpt.vocab_size=320",
            ]);
        }
        if config.contains("bert-base") {
            sets.extend([
                "model.bert.n_layer=1",
                "model.bert.d_model=48",
                "model.bert.max_seq_len=32",
                "tokenizer.bert.vocab_size=300",
                "train.precision='f32'",
            ]);
        }
        if first.is_some() {
            sets.push(&from);
        }
        let arguments: Vec<&str> =
            ["train", &config].into_iter().chain(sets.iter().flat_map(|set| ["--set", set])).collect();
        let (code, stderr) = firebox(&arguments);
        assert_eq!(code, Some(0), "{config}: {stderr}");
        let weights = if adapts { "adapter_model.safetensors" } else { "model.safetensors" };
        assert!(run.path("out/step-000001").join(weights).exists(), "{config}");
    }
}

/// The mean training loss of each ten steps of `gpt-tiny.toml`'s first hundred, on the CPU.
#[test]
fn a_shipped_config_follows_its_committed_loss_curve() {
    let run = Run::new();
    let out = format!("train.output_dir={}", run.path("out").display());
    let config = root().join("configs/gpt-tiny.toml").display().to_string();
    let sets = [
        "train.device=ndarray",
        "train.max_steps=100",
        "train.log_every=10",
        "train.eval_every=0",
        "train.sample_tokens=0",
        // The curve of a hundred steps, not of the whole schedule squeezed into them.
        "schedule.constant.warmup_steps=50",
        &out,
    ];
    let arguments: Vec<&str> =
        ["train", &config].into_iter().chain(sets.iter().flat_map(|set| ["--set", set])).collect();
    let (code, stderr) = firebox(&arguments);
    assert_eq!(code, Some(0), "{stderr}");
    let metrics = std::fs::read_to_string(run.path("out/metrics.jsonl")).expect("written");
    let losses: Vec<f64> = metrics
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
        .filter(|event| event["type"] == "step")
        .filter_map(|event| event["loss"].as_f64())
        .collect();
    let committed = std::fs::read_to_string(fixture("gpt-tiny-losses.json")).expect("committed");
    let committed: Vec<f64> = serde_json::from_str(&committed).expect("a list of numbers");
    assert_eq!((losses.len(), committed.len()), (10, 10));
    for (step, (loss, expected)) in losses.iter().zip(&committed).enumerate() {
        // Another processor sums in another order; by step 100 that has grown to some ten-thousandths.
        assert!(
            (loss - expected).abs() < 5e-3,
            "steps to {}: {loss} instead of {expected}; all: {losses:?}",
            10 * (step + 1)
        );
    }
}
