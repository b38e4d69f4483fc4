//! What a good config becomes, and which files are none.

mod each_error;
mod no_panics;
mod sets;

use std::path::PathBuf;

use super::*;

/// Tests run in the crate's directory, where this text file is.
const GOOD: &str = r#"[data.text]
files = ["Cargo.toml"]
[tokenizer.char]
[model.gpt]
n_layer = 2
n_head = 2
d_model = 8
max_seq_len = 16
dropout = 0
[train]
output_dir = "runs/test"
max_steps = 100
[optimizer.adamw]
lr = 1e-3
[schedule.cosine]
warmup_steps = 10
"#;

fn parse(text: &str, sets: &[&str]) -> Result<RunConfig, String> {
    let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
    RunConfig::parse("x.toml", text, &sets).map(|loaded| loaded.config).map_err(|errors| errors.to_string())
}

fn good_with(sets: &[&str]) -> Result<RunConfig, String> {
    parse(GOOD, sets)
}

#[test]
fn defaults_are_filled_in() {
    let config = good_with(&[]).unwrap();
    let gpt = config.model.gpt.unwrap();
    assert_eq!((gpt.d_ff, gpt.dropout, gpt.attn_dropout), (Some(32), None, Some(0.0)));
    assert_eq!(config.train.seed, 1337);
    assert_eq!(config.train.precision, Precision::F32);
    assert_eq!(config.optimizer.lr(), 1e-3);
    assert_eq!(config.schedule.warmup_steps(), 10);
}

#[test]
fn a_model_from_a_directory_leaves_its_shape_open_and_needs_no_tokenizer() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("config.json"), "{}").unwrap();
    let text = GOOD.replace("[tokenizer.char]\n", "").replace(
        "[model.gpt]\nn_layer = 2\nn_head = 2\nd_model = 8\nmax_seq_len = 16\ndropout = 0\n",
        &format!("[model]\ninit_from = {:?}\n[model.gpt]\nn_head = 3\ndropout = 0.2\n", directory.path()),
    );
    let config = parse(&text, &[]).unwrap();
    assert_eq!(config.tokenizer, None);
    let gpt = config.model.gpt.as_ref().unwrap();
    assert_eq!((gpt.n_head, gpt.d_model, gpt.embd_dropout), (Some(3), None, Some(0.2)));
    assert_eq!(parse(&config.to_toml(), &[]).unwrap(), config);
}

#[test]
fn what_is_shown_loads_to_the_same_config_again() {
    let variants: [&[&str]; 6] = [
        &[],
        &["optimizer.sgd.lr=1e-10", "schedule.linear.decay_steps=50"],
        &["schedule.constant={}", "train.max_tokens=1000000000000", "model.gpt.vocab_size=70"],
        &["tokenizer.unigram.vocab_size=300", "train.sample_prompt=\"a\\n\\\"b\\\" é\""],
        &["data.text.separator=\"\\nx = 0.000001\\n\"", "train.seed=9223372036854775807"],
        &["data.csv={files=['Cargo.toml'], field='x'}", "tokenizer.file.path=Cargo.toml"],
    ];
    for sets in variants {
        let config = good_with(sets).unwrap();
        let shown = config.to_toml();
        let again = parse(&shown, &[]).unwrap_or_else(|said| panic!("{said}\n{shown}"));
        assert_eq!(again, config, "{shown}");
        assert_eq!(again.to_toml(), shown);
        let stored: RunConfig = serde_json::from_value(config.to_value()).unwrap();
        assert_eq!(stored, config);
    }
}

#[test]
fn what_is_shown_has_every_table_and_default() {
    assert_eq!(
        good_with(&[]).unwrap().to_toml(),
        r#"[data.text]
files = ["Cargo.toml"]

[split]
validation = 0.1
test = 0.0
seed = 1337

[tokenizer.char]

[model.gpt]
n_layer = 2
n_head = 2
d_model = 8
d_ff = 32
max_seq_len = 16
embd_dropout = 0.0
attn_dropout = 0.0
resid_dropout = 0.0
layer_norm_eps = 1e-5

[train]
output_dir = "runs/test"
seed = 1337
device = "auto"
precision = "f32"
emulate_precision = false
gradient_checkpointing = false
freeze_layers = 0
freeze_embeddings = false
layer_lr_decay = 1.0
micro_batch_size = 12
gradient_accumulation_steps = 1
max_steps = 100
max_grad_norm = 1.0
label_smoothing = 0.0
eval_every = 250
best_metric = "loss"
save_every = 250
keep_last = 2
log_every = 10
sample_tokens = 120

[optimizer.adamw]
lr = 0.001
weight_decay = 0.1
beta1 = 0.9
beta2 = 0.95
eps = 1e-8

[schedule.cosine]
warmup_steps = 10
min_lr = 0.0
"#
    );
}

#[test]
fn a_later_error_can_still_name_the_line() {
    let loaded = RunConfig::parse("x.toml", GOOD, &[]).unwrap();
    let error = loaded.error_at("model.gpt.vocab_size", "`model.gpt.vocab_size` is too small");
    assert_eq!(error.to_string(), "x.toml:4:8: error: `model.gpt.vocab_size` is too small");
}

#[test]
fn a_file_that_is_no_config_is_refused_with_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let said = |path: &Path| RunConfig::load(path, &[]).unwrap_err().to_string();
    let here = |name: &str| directory.path().join(name);
    let shown = |name: &str| here(name).display().to_string();

    assert_eq!(
        said(&here("none.toml")),
        format!(
            "{}: error: there is no such file; hint: paths are relative to the working directory",
            shown("none.toml")
        )
    );
    assert_eq!(
        said(directory.path()),
        format!(
            "{}: error: is a directory; hint: name the config file, such as configs/gpt-tiny.toml",
            directory.path().display()
        )
    );
    std::fs::write(here("binary"), b"a = 1\nb = \xff\xfe").unwrap();
    assert_eq!(
        said(&here("binary")),
        format!("{}:2:5: error: not UTF-8 text: byte 0xff; hint: a config is a TOML file", shown("binary"))
    );
    std::fs::write(here("zeros"), [0; 100]).unwrap();
    let zeros = said(&here("zeros"));
    assert!(zeros.starts_with(&format!("{}:1:1: error: not TOML: ", shown("zeros"))), "{zeros}");
    assert_eq!(zeros.lines().count(), 1);
    std::fs::write(here("large"), vec![b'#'; 2 << 20]).unwrap();
    assert_eq!(
        said(&here("large")),
        format!("{}: error: is larger than 1024 KiB, which no config is; hint: name a TOML file", shown("large"))
    );
}

#[test]
fn a_file_loads_from_disk() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("good.toml");
    std::fs::write(&path, GOOD).unwrap();
    let loaded = RunConfig::load(&path, &["train.seed=3".to_owned()]).unwrap();
    assert_eq!(loaded.config.train.seed, 3);
}
