//! Low-rank adapters: PEFT's numbers, what checkpoints hold, merging, resuming, and bad input; and NEFTune.

use crate::support::{Run, devices, distance, fixture};
use burn::tensor::{Device, Int, Tensor, TensorData};
use checkpoint::safetensors::Reader;
use data::{RowId, collate};
use model::bert::Input;
use model::weights::{self, Family, Freeze};
use model::{Bert, Gpt, LoraConfig, Pass, Tensors};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use trainer::forward::{StepOptions, step_gradient};

/// The integers of a fixture, row by row.
fn integers(file: &str, name: &str) -> Vec<u32> {
    let bytes = std::fs::read(fixture(file)).expect("the fixture is there");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let data = tensors.tensor(name).expect("in the fixture").data().to_vec();
    data.chunks(8).map(|number| i64::from_le_bytes(number.try_into().expect("eight bytes")) as u32).collect()
}

fn golden(name: &str) -> Reader {
    Reader::open(&fixture(name).join("golden.safetensors")).expect("the fixture is there")
}

fn grid(values: &[u32], rows: usize, device: &Device) -> Tensor<2, Int> {
    let values: Vec<i32> = values.iter().map(|id| *id as i32).collect();
    let columns = values.len() / rows;
    Tensor::from_data(TensorData::new(values, [rows, columns]), device)
}

fn counting(seq: usize, rows: usize, device: &Device) -> Tensor<2, Int> {
    Tensor::<1, Int>::arange(0..seq as i64, device).reshape([1, seq]).repeat_dim(0, rows)
}

fn off(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

const ROWS: usize = 3;

fn gpt_logits(model: &Gpt, device: &Device) -> Vec<f32> {
    let ids = integers("gpt2-golden/golden.safetensors", "input_ids");
    let tokens = grid(&ids, ROWS, device);
    let positions = counting(ids.len() / ROWS, ROWS, device);
    weights::to_host(model.forward(tokens, positions, &Pass::default()).reshape([-1]))
}

/// The fixture's adapter beside the layers, not merged.
fn beside(device: &Device) -> Gpt {
    let (config, mut tensors) = checkpoint::read_gpt(&fixture("gpt2-golden")).expect("a gpt2 directory");
    checkpoint::overlay(&mut tensors, checkpoint::read_adapter(&fixture("gpt2-lora")).expect("an adapter"));
    let lora = LoraConfig { rank: 4, alpha: 6.0, dropout: 0.0, target_modules: None };
    let model = Gpt::blank(&config, device).with_adapters(&lora, 0).expect("GPT-2's layers");
    let (model, report) = weights::load(model, &tensors).expect("its weights fit");
    assert_eq!((report.fresh.len(), report.unused.len()), (0, 0), "{report:?}");
    model
}

#[test]
fn merged_and_beside_its_layers_an_adapter_gives_the_logits_of_peft() {
    let expected = golden("gpt2-lora").tensor("logits").expect("in the fixture").values;
    let base = golden("gpt2-lora").tensor("logits_base").expect("in the fixture").values;
    assert!(off(&base, &expected) > 0.1);
    for (name, device) in devices() {
        let (config, tensors) = checkpoint::read_gpt(&fixture("gpt2-lora")).expect("an adapter and its base");
        let (merged, _) = weights::load(Gpt::blank(&config, &device), &tensors).expect("its weights fit");
        let (merged, beside) = (gpt_logits(&merged, &device), gpt_logits(&beside(&device), &device));
        assert!(off(&merged, &expected) < 1e-4, "{name}: merged, off by {}", off(&merged, &expected));
        assert!(off(&beside, &expected) < 1e-4, "{name}: beside, off by {}", off(&beside, &expected));
        assert!(off(&beside, &merged) < 1e-4, "{name}: off by {}", off(&beside, &merged));
    }
}

#[test]
fn an_adapted_classifier_gives_the_logits_of_peft() {
    let expected = golden("bert-lora").tensor("logits").expect("in the fixture").values;
    let of = |name: &str| integers("bert-classes/golden.safetensors", name);
    for (name, device) in devices() {
        let (config, tensors) = checkpoint::read_bert(&fixture("bert-lora")).expect("an adapter and its base");
        assert_eq!(config.head.labels().len(), 5);
        let (model, _) = weights::load(Bert::blank(&config, &device), &tensors).expect("its weights fit");
        let seq = of("input_ids").len() / ROWS;
        let input = Input {
            tokens: grid(&of("input_ids"), ROWS, &device),
            positions: counting(seq, ROWS, &device),
            token_types: Some(grid(&of("token_type_ids"), ROWS, &device)),
        };
        let pass = Pass { segments: Some(grid(&of("attention_mask"), ROWS, &device)), ..Pass::default() };
        let logits = model.class_logits(model.hidden(input, &pass), None, &pass);
        let logits = weights::to_host(logits.reshape([-1]));
        assert!(off(&logits, &expected) < 1e-4, "{name}: off by {}", off(&logits, &expected));
    }
}

#[test]
fn only_the_adapter_has_gradients_and_they_are_those_of_pytorch() {
    let golden = golden("gpt2-lora");
    let ids = integers("gpt2-golden/golden.safetensors", "input_ids");
    let rows: Vec<&[u32]> = ids.chunks(ids.len() / ROWS).collect();
    let names: Vec<RowId> = (0..ROWS as u64).map(|row| RowId { epoch: 0, row }).collect();
    let batch = collate::causal(&rows, rows[0].len() - 1, &names).expect("rows of one length");
    let frozen = Freeze { but_adapters: Some(&[]), ..Freeze::default() };
    for (name, device) in devices() {
        let device = device.autodiff();
        let model = weights::freeze(beside(&device), frozen);
        for gradient_checkpointing in [false, true] {
            let options = StepOptions { frozen, gradient_checkpointing, ..StepOptions::default() };
            let step = step_gradient(&model, std::slice::from_ref(&batch), options, &device);
            assert_eq!(step.gradients.len(), 2 * 4 * 2, "two matrices beside four layers of two blocks");
            for gradient in step.gradients.into_iter().flat_map(Gpt::stored) {
                let expected = format!("grad.base_model.model.{}", gradient.name);
                let expected = golden.tensor(&expected).expect("a gradient of every matrix");
                assert_eq!(expected.shape, gradient.shape, "{}", gradient.name);
                let (off, norm) = distance(&weights::to_host(gradient.values), &expected.values);
                assert!(off <= 1e-3 * norm, "{name}: gradient of {} is off by {off} of {norm}", gradient.name);
            }
        }
    }
}

/// A base that was trained on text, in `run/base/step-000020`, and conversations to adapt it to, whose template brings
/// tokens that it has not seen.
fn base_and_talks() -> Run {
    base_of_and_talks(&[])
}

fn base_of_and_talks(more: &[&str]) -> Run {
    let run = Run::new();
    let sets = ["train.output_dir=base", "train.max_steps=20", "train.eval_every=0", "model.gpt.max_seq_len=64"];
    let sets = [&sets, more].concat();
    let ended = run.train(&sets.iter().flat_map(|set| ["--set", set]).collect::<Vec<_>>());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let talk = |i: usize| {
        let user = json!({"role": "user", "content": format!("Mia found tree {}", i % 7)});
        let name = ["Tom", "Ana", "Ben"][i % 3];
        let answer = json!({"role": "assistant", "content": name});
        format!("{}\n", json!({ "messages": [user, answer] }))
    };
    std::fs::write(run.path("talks.jsonl"), (0..40).map(talk).collect::<String>()).expect("writable");
    std::fs::write(
        run.path("run.toml"),
        r#"
[data.chat]
files = ["talks.jsonl"]
[split]
validation = 0.2
[model]
init_from = "base/step-000020"
[lora]
rank = 4
dropout = 0.1
[train]
output_dir = "run"
device = "ndarray"
micro_batch_size = 2
max_steps = 12
eval_every = 6
save_every = 6
log_every = 1
sample_tokens = 4
neftune_alpha = 5
[optimizer.adamw]
lr = 1e-2
[schedule.cosine]
warmup_steps = 2
"#,
    )
    .expect("writable");
    run
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("readable").path());
    let named = |path: std::path::PathBuf| {
        let name = path.file_name().expect("named").to_string_lossy().into_owned();
        (name, std::fs::read(&path).expect("readable"))
    };
    entries.filter(|path| path.is_file()).map(named).collect()
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("there")).expect("JSON")
}

/// The numbers of a kind of event that a run logged.
fn logged(run: &Run, kind: &str, key: &str) -> Vec<f64> {
    let metrics = std::fs::read_to_string(run.path("run/metrics.jsonl")).expect("written");
    let events = metrics.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    events.filter(|event| event["type"] == kind).filter_map(|event| event[key].as_f64()).collect()
}

#[test]
fn a_checkpoint_holds_the_adapter_alone_and_is_used_merged_and_resumed_like_a_model() {
    let run = base_and_talks();
    let base = files(&run.path("base/step-000020"));
    let ended = run.train(&[]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for part in ["tokens are new to the model", "trained whole beside it: wte", "trained: ", "tensors loaded"] {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
    assert!(files(&run.path("base/step-000020")) == base, "the base changed");

    // What the directory holds.
    let dir = run.path("run/step-000012");
    // With a `config.json` it would be taken for a whole model.
    assert!(!dir.join("model.safetensors").exists() && !dir.join("config.json").exists());
    let config = json_of(&dir.join("adapter_config.json"));
    assert_eq!(
        (&config["r"], &config["fan_in_fan_out"], &config["base_model_name_or_path"]),
        (&json!(4), &json!(true), &json!("base/step-000020"))
    );
    assert_eq!(config["modules_to_save"], json!(["wte", "lm_head"]));
    let adapter = Reader::open(&dir.join("adapter_model.safetensors")).expect("a safetensors file");
    let layer = "base_model.model.transformer.h.0.mlp.c_fc.lora";
    assert_eq!(adapter.shape(&format!("{layer}_A.weight")), Some(&[4, 16][..]));
    assert_eq!(adapter.shape(&format!("{layer}_B.weight")), Some(&[64, 4][..]));
    let moments = Reader::open(&dir.join("train_state/optimizer.safetensors")).expect("a safetensors file").names();
    assert!(moments.iter().all(|name| name.contains("lora_") || name.contains("wte")), "{moments:?}");

    // Merged, it is another directory of the same model.
    let merged = run.firebox(&["merge", "run/step-000012", "merged", "--json"]).json();
    assert_eq!(merged["base"], "base/step-000020");
    let tensors = |dir: &Path| checkpoint::read_gpt(dir).expect("a gpt2 directory").1;
    // Read from another working directory, the base is found from where the adapter lies.
    let resolved = run.path("resolved");
    std::fs::create_dir(&resolved).expect("writable");
    files(&dir).iter().for_each(|(name, bytes)| std::fs::write(resolved.join(name), bytes).expect("writable"));
    std::fs::remove_file(resolved.join("manifest.json")).expect("there");
    let mut moved = config.clone();
    moved["base_model_name_or_path"] = json!("../base/step-000020");
    std::fs::write(resolved.join("adapter_config.json"), moved.to_string()).expect("writable");
    let of_merged = tensors(&run.path("merged"));
    assert!(tensors(&resolved) == of_merged);
    assert_ne!(
        of_merged["transformer.h.0.mlp.c_fc.weight"],
        tensors(&run.path("base/step-000020"))["transformer.h.0.mlp.c_fc.weight"]
    );
    let said = |model: &str| {
        let arguments = ["--prompt", "Mia found", "--max-new-tokens", "5", "--temperature", "0", "--device", "ndarray"];
        run.firebox(&[&["generate", model, "--json"], &arguments[..]].concat()).json()
    };
    assert_eq!(said("run/step-000012"), said("merged"));
    let loss = |model: &str| {
        let arguments = ["--data", "text.txt", "--device", "ndarray", "--json"];
        run.firebox(&[&["eval", model], &arguments[..]].concat()).json()["loss"].as_f64().expect("a number")
    };
    assert!((loss("run/step-000012") - loss("merged")).abs() < 1e-6);
    let ended =
        run.firebox(&["export", "run/step-000012", "--to", "safetensors", "--dtype", "bf16", "--out", "exported"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);

    // Resumed at the middle it ends the same.
    let end = |run: &Run| {
        let optimizer = std::fs::read(run.path("run/step-000012/train_state/optimizer.safetensors")).expect("saved");
        (files(&run.path("run/step-000012")).remove("adapter_model.safetensors").expect("saved"), optimizer)
    };
    let other = base_and_talks();
    let half = |sets: &[&str]| {
        let ended = other.train(sets);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    };
    half(&[]);
    std::fs::remove_dir_all(other.path("run/step-000012")).expect("there");
    half(&["--resume"]);
    assert!(end(&run) == end(&other), "the resumed run ended differently");
    let ended = other.train(&["--resume", "--set", "model.init_from='run/step-000006'"]);
    assert!(ended.code == Some(2) && ended.stderr.contains("model.init_from"), "{}", ended.stderr);

    // Another model in its place is not taken for the one that was adapted.
    let another = base_of_and_talks(&["train.seed=99"]);
    std::fs::remove_dir_all(run.path("base")).expect("there");
    std::fs::rename(another.path("base"), run.path("base")).expect("the same disk");
    for arguments in [&["merge", "run/step-000012", "again"][..], &["train", "run.toml", "--resume"]] {
        let ended = run.firebox(arguments);
        assert!(ended.code == Some(4) && ended.stderr.contains("has other weights"), "{}", ended.stderr);
    }
}

/// Copies a directory with what lies below it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("writable");
    for entry in std::fs::read_dir(from).expect("there").map(|entry| entry.expect("readable")) {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &to);
        } else {
            std::fs::copy(&path, &to).expect("writable");
        }
    }
}

#[test]
fn a_run_directory_stands_for_the_same_checkpoint_when_a_run_goes_on() {
    let run = base_and_talks();
    let from = ["--set", "model.init_from='base'"];
    let ended = run.train(&[&from[..], &["--set", "train.max_steps=6"]].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    // Meanwhile the adapted model is trained further.
    copy(&run.path("base/step-000020"), &run.path("base/step-000030"));
    assert_eq!(checkpoint::resolve(&run.path("base")).expect("a run"), run.path("base/step-000030"));
    let ended = run.train(&[&from[..], &["--resume"]].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let config = json_of(&run.path("run/step-000012/adapter_config.json"));
    assert_eq!(config["base_model_name_or_path"], "base/step-000020");
}

#[test]
fn noise_on_embeddings_changes_what_is_trained_and_not_what_is_evaluated() {
    // A learning rate that changes nothing leaves the noise as the only difference.
    let run = |sets: &[&str]| {
        let run = base_and_talks();
        let still = ["optimizer.adamw.lr=1e-30", "lora.dropout=0.0", "schedule.constant={}", "train.max_steps=6"];
        let sets = still.iter().chain(sets).flat_map(|set| ["--set", set]).collect::<Vec<_>>();
        let ended = run.train(&sets);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        (logged(&run, "step", "loss"), logged(&run, "eval", "loss"))
    };
    let (some, again, more) = (run(&[]), run(&[]), run(&["train.neftune_alpha=50"]));
    assert_eq!(some, again);
    assert!(!some.1.is_empty() && some.1 == more.1, "{some:?} {more:?}");
    assert!(some.0.iter().zip(&more.0).all(|(a, b)| a != b), "{some:?} {more:?}");

    // Segments are disturbed by their own lengths, padding not at all.
    let device = Device::flex();
    let largest = Pass::neftune([2, 4], &[1, 1, 1, 1, 1, 2, 0, 0], 4.0, &device);
    assert_eq!(weights::to_host(largest.reshape([-1])), [2.0, 2.0, 2.0, 2.0, 4.0, 4.0, 0.0, 0.0]);
}

#[test]
fn a_classifier_is_adapted_and_its_fresh_head_saved_whole() {
    let run = Run::new();
    let row = |i: usize| match i % 2 {
        0 => format!("where is parcel {},delivery\n", i % 9),
        _ => format!("money for order {} back,refund\n", i % 9),
    };
    let rows = "text,label\n".to_string() + &(0..90).map(row).collect::<String>();
    std::fs::write(run.path("questions.csv"), rows).expect("writable");
    let common = r#"
[data.labelled]
files = ["questions.csv"]
[train]
device = "ndarray"
micro_batch_size = 16
eval_every = 0
save_every = 0
"#;
    let masked = format!(
        "{common}output_dir = \"base\"\nmax_steps = 20\n[objective.masked_lm]\n[tokenizer.bert]\nvocab_size = 100\n\
         [model.bert]\nn_layer = 2\nn_head = 2\nd_model = 32\nmax_seq_len = 16\n"
    );
    std::fs::write(run.path("run.toml"), masked).expect("writable");
    let ended = run.train(&[]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let adapted = format!(
        "{common}output_dir = \"run\"\nmax_steps = 120\n[model]\ninit_from = \"base/step-000020\"\n\
         [lora]\ntarget_modules = [\"query\", \"value\", \"dense\"]\ndropout = 0.1\n[optimizer.adamw]\nlr = 1e-2\n"
    );
    std::fs::write(run.path("run.toml"), adapted).expect("writable");
    for sets in [&[][..], &["--resume", "--set", "train.max_steps=130"]] {
        let ended = run.train(sets);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }
    let config = json_of(&run.path("run/step-000130/adapter_config.json"));
    assert_eq!(
        (&config["task_type"], &config["modules_to_save"]),
        (&json!("SEQ_CLS"), &json!(["classifier", "pooler"]))
    );
    let targets = ["query", "value", "attention.output.dense", "intermediate.dense", "output.dense"];
    assert_eq!(config["target_modules"], json!(targets));
    assert_eq!(run.firebox(&["merge", "run", "merged"]).code, Some(0));
    let texts = ["--text", "where is parcel 3", "--text", "money back", "--device", "ndarray", "--json"];
    let of = |model: &str| run.firebox(&[&["predict", model], &texts[..]].concat()).json();
    let (answers, of_merged) = (of("run"), of("merged"));
    assert_eq!((&answers[0]["label"], &answers[1]["label"]), (&json!("delivery"), &json!("refund")));
    assert_eq!(answers, of_merged);
}

#[test]
fn a_plan_counts_what_is_trained_also_of_an_embedding_with_rows_to_spare() {
    for more in [&[][..], &["model.gpt.vocab_size=100"]] {
        let plan = base_of_and_talks(more).train(&["--dry-run", "--json"]).json();
        let parts = plan["parameters"].as_array().expect("a list");
        let counted = |name: &str| parts.iter().find(|part| part[0] == name).and_then(|part| part[1].as_u64());
        let expected = counted("low-rank adapters").zip(counted("token embedding (tied head)")).map(|(a, b)| a + b);
        assert_eq!(plan["trained_parameters"].as_u64(), expected, "{plan:#}");
    }
}

#[test]
fn what_cannot_be_adapted_is_refused_by_name() {
    let run = base_and_talks();
    for (set, code, part) in [
        ("lora.rank=0", 2, "`lora.rank`"),
        ("lora.rank=1000", 2, "`lora.rank` is 1000"),
        ("lora.alpha=0", 2, "`lora.alpha`"),
        ("lora.dropout=1", 2, "`lora.dropout`"),
        ("lora.target_modules=['c_attn', 'q_proj']", 2, "`q_proj`"),
        ("lora.target_modules=[]", 2, "`lora.target_modules`"),
        ("lora.r=8", 2, "unknown key `r` in [lora]"),
        ("train.freeze_layers=1", 2, "`train.freeze_layers`"),
        ("train.neftune_alpha=0", 2, "`train.neftune_alpha`"),
        ("model.init_from='nowhere'", 4, "`model.init_from`"),
    ] {
        let ended = run.train(&["--dry-run", "--set", set]);
        assert!(ended.code == Some(code) && ended.stderr.contains(part), "{set}: {:?} {}", ended.code, ended.stderr);
    }
    let fresh = "[data.text]\nfiles = [\"text.txt\"]\n[tokenizer.char]\n[model.gpt]\nn_layer = 1\n[lora]\n[train]\n\
                 output_dir = \"x\"\nmax_steps = 1\n";
    std::fs::write(run.path("fresh.toml"), fresh).expect("writable");
    let ended = run.firebox(&["train", "fresh.toml", "--dry-run"]);
    assert!(ended.code == Some(2) && ended.stderr.contains("fresh.toml:6:2"), "{}", ended.stderr);
    assert!(ended.stderr.contains("`model.init_from`"), "{}", ended.stderr);

    // Adapters whose model is gone, is another, or is an adapter.
    let ended = run.train(&["--set", "train.max_steps=2"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let asks = |part: &str| {
        let ended = run.firebox(&["merge", "run", "merged"]);
        assert!(ended.code == Some(4) && ended.stderr.contains(part), "{part}: {:?} {}", ended.code, ended.stderr);
        assert!(!run.path("merged").exists());
    };
    let ended = run.train(&["--set", "model.init_from='run/step-000002'", "--set", "train.output_dir='more'"]);
    assert!(ended.code == Some(2) && ended.stderr.contains("firebox merge"), "{}", ended.stderr);
    std::fs::rename(run.path("base/step-000020"), run.path("base/moved")).expect("there");
    asks("`base_model_name_or_path` = \"base/step-000020\"");
    let other = Run::new();
    let ended =
        other.train(&["--set", "train.max_steps=1", "--set", "schedule.constant={}", "--set", "model.gpt.d_model=32"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    std::fs::rename(other.path("run/step-000001"), run.path("base/step-000020")).expect("on one disk");
    asks("has other weights");
    // Also where nothing says which weights they were, as PEFT's do not.
    std::fs::create_dir(run.path("bare")).expect("writable");
    let kept = |name: &String| !["adapted_model.blake3", "manifest.json"].contains(&name.as_str());
    for (name, bytes) in files(&run.path("run/step-000002")).into_iter().filter(|(name, _)| kept(name)) {
        std::fs::write(run.path("bare").join(name), bytes).expect("writable");
    }
    let ended = run.firebox(&["merge", "bare", "merged"]);
    assert!(ended.stderr.contains("`transformer.h.0.attn.c_attn` has LoRA matrices"), "{}", ended.stderr);
    let ended = run.firebox(&["merge", "base/moved", "merged"]);
    assert!(ended.code == Some(4) && ended.stderr.contains("adapter_config.json"), "{}", ended.stderr);
}

#[test]
fn a_fresh_adapter_changes_nothing_and_is_the_same_for_the_same_seed() {
    let device = Device::flex();
    let (config, tensors) = checkpoint::read_gpt(&fixture("gpt2-golden")).expect("a gpt2 directory");
    let lora = LoraConfig { rank: 4, alpha: 6.0, dropout: 0.5, target_modules: Some(vec!["mlp.c_proj".into()]) };
    let of = |seed| {
        let model = Gpt::blank(&config, &device).with_adapters(&lora, seed).expect("GPT-2's layers");
        weights::load(model, &tensors).expect("its weights fit").0
    };
    let (plain, _) = weights::load(Gpt::blank(&config, &device), &tensors).expect("its weights fit");
    assert_eq!(gpt_logits(&of(1), &device), gpt_logits(&plain, &device));
    let adapter = |seed| -> Tensors {
        weights::export(&of(seed)).into_iter().filter(|(name, _)| name.contains("lora_A")).collect()
    };
    assert_eq!(adapter(1).len(), 2, "beside one layer of two blocks");
    assert!(adapter(1) == adapter(1) && adapter(1) != adapter(2));
    for tensor in adapter(1).into_values() {
        // Uniform up to one over the square root of the 128 inputs.
        let bound = 1.0 / 128f32.sqrt();
        let largest = tensor.values.iter().fold(0f32, |most, value| most.max(value.abs()));
        assert!(largest <= bound && largest > 0.9 * bound, "{largest} of {bound}");
    }
}
