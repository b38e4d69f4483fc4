//! A chat model through the commands: trained on conversations, talked with, and given bad data.

use crate::support::{Run, devices, distance};
use data::chat::{ChatExamples, ChatTemplate, Conversation, Message};
use data::config::ChatTrainingConfig;
use data::{Batches, EvaluationRows, Tokenizer, TokenizerConfig};
use model::weights;
use model::{Gpt, GptConfig};
use serde_json::json;
use std::io::Write;
use std::process::Stdio;
use trainer::forward::{StepOptions, step_gradient};

/// Eight conversations, some of several turns whose answers need the turns before.
const TALKS: [&[&str]; 8] = [
    &["hello", "Hello! How can I help you?"],
    &["what does the mug cost?", "The mug is 9 euros.", "and the plate?", "The plate is 12 euros."],
    &["what does the plate cost?", "The plate is 12 euros.", "and the mug?", "The mug is 9 euros."],
    &["do you ship to france?", "Yes, in four days.", "and to italy?", "Yes, in six days."],
    &["你好", "你好!有什么可以帮您?"],
    &["where is my parcel?", "Please tell me the number of your order.", "it is 4711", "Order 4711 arrives tomorrow."],
    &["thanks", "You are welcome!"],
    &["are you a robot?", "Yes, I am a program. 🤖"],
];

const CONFIG: &str = r#"
[data.chat]
files = ["talks.jsonl"]
[split]
validation = 0
[tokenizer.bpe]
vocab_size = 400
[model.gpt]
n_layer = 2
n_head = 2
d_model = 64
max_seq_len = 160
dropout = 0.0
[train]
output_dir = "run"
device = "ndarray"
micro_batch_size = 4
max_steps = 260
eval_every = 0
save_every = 0
log_every = 20
sample_tokens = 8
[optimizer.adamw]
lr = 5e-3
[schedule.cosine]
warmup_steps = 10
"#;

fn messages(talk: &[&str]) -> Vec<Message> {
    let message = |(place, text): (usize, &&str)| Message {
        role: ["user", "assistant"][place % 2].into(),
        content: (*text).into(),
        weight: None,
    };
    talk.iter().enumerate().map(message).collect()
}

fn run_of(talks: &[&[&str]]) -> Run {
    let run = Run::new();
    let line = |talk: &&[&str]| {
        let messages: Vec<_> = messages(talk)
            .into_iter()
            .map(|message| json!({"role": message.role, "content": message.content}))
            .collect();
        format!("{}\n", json!({ "messages": messages }))
    };
    std::fs::write(run.path("talks.jsonl"), talks.iter().map(line).collect::<String>()).expect("writable");
    std::fs::write(run.path("run.toml"), CONFIG).expect("writable");
    run
}

/// What `firebox chat` says to these lines.
fn chat(run: &Run, arguments: &[&str], lines: &str) -> (String, String, Option<i32>) {
    let mut child = run
        .command(&[&["chat", "run", "--device", "ndarray"], arguments].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    child.stdin.take().expect("piped").write_all(lines.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (out, err, output.status.code())
}

#[test]
fn eight_conversations_are_recalled_word_for_word_with_their_ends() {
    for more in [&[][..], &["--set", "chat.packing=false", "--set", "chat.template='plain'"]] {
        let run = run_of(&TALKS);
        let ended = run.train(more);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(ended.stderr.contains("firebox chat"), "{}", ended.stderr);
        for talk in TALKS {
            let questions: String = talk.iter().step_by(2).map(|question| format!("{question}\n")).collect();
            let (out, err, code) = chat(&run, &["--temperature", "0", "--max-new-tokens", "30"], &questions);
            assert_eq!(code, Some(0), "{err}");
            let answers: Vec<&str> = talk.iter().skip(1).step_by(2).copied().collect();
            assert_eq!(out.lines().collect::<Vec<_>>(), answers, "{more:?}: {err}");
            // It stopped by itself.
            assert!(!err.contains("cut at"), "{err}");
        }
        // The figures of what is known by heart, and of what no one ever answered.
        let eval = |file: &str| {
            let file = ["--data", file, "--chat", "--device", "ndarray", "--json", "--answers", "answers.jsonl"];
            run.firebox(&[&["eval", "run"], &file[..]].concat()).json()
        };
        let known = eval("talks.jsonl");
        assert_eq!(known["answers"]["exact_match"], 1.0, "{known}");
        assert!((known["answers"]["bleu"].as_f64().expect("a figure") - 100.0).abs() < 1e-9, "{known}");
        assert!(known["accuracy"] == 1.0 && known["loss"].as_f64().expect("a loss") < 0.05, "{known}");
        assert_eq!((&known["conversations"], &known["answers"]["answers"]), (&json!(8), &json!(8)));
        let answers = std::fs::read_to_string(run.path("answers.jsonl")).expect("written");
        assert!(answers.lines().count() == 8 && answers.contains("Order 4711 arrives tomorrow."), "{answers}");
        let line = json!({"prompt": "hello", "completion": "Leave me alone."});
        std::fs::write(run.path("other.jsonl"), format!("{line}\n")).expect("writable");
        let other = eval("other.jsonl");
        assert!(other["answers"]["exact_match"] == 0.0 && other["loss"].as_f64() > known["loss"].as_f64(), "{other}");
        let refused = run.firebox(&["eval", "run", "--split", "test"]);
        assert!(refused.code == Some(3) && refused.stderr.contains("kept nothing apart"), "{}", refused.stderr);
        let refused = run.firebox(&["eval", "run", "--data", "other.jsonl", "--answers"]);
        assert!(refused.code == Some(2) && refused.stderr.contains("--chat"), "{}", refused.stderr);
        let refused = run.firebox(&["eval", "run", "--data", "talks.jsonl", "--chat", "--max-new-tokens", "9"]);
        assert!(refused.code == Some(2) && refused.stderr.contains("--answers"), "{}", refused.stderr);
        let generation = std::fs::read_to_string(run.path("run/step-000260/generation_config.json")).expect("saved");
        assert!(generation.contains("eos_token_id"), "{generation}");
        let (out, err, _) = chat(
            &run,
            &["--temperature", "0", "--max-new-tokens", "16"],
            "hello\n/regenerate\n/nonsense\n/params top_k=3\n/save said.jsonl\n/reset\nthanks\n/exit\nhello\n",
        );
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!((lines[0], lines[1], lines[3], lines.len()), (lines[1], lines[0], "You are welcome!", 4), "{out}");
        assert!(err.contains("/nonsense") && lines[2].contains("top_k=3"), "{err}");
        let saved = std::fs::read_to_string(run.path("said.jsonl")).expect("saved");
        assert_eq!(saved.lines().count(), 1);
        // The oldest turns make room; a message that alone is too long is told.
        let many = "what does the mug cost?\n".repeat(9) + &"hello ".repeat(200) + "\n";
        let (out, err, code) = chat(&run, &["--temperature", "0", "--max-new-tokens", "16"], &many);
        assert!(code == Some(0) && out.lines().count() == 9, "{out} {err}");
        assert!(err.contains("oldest turns") && err.contains("say it shorter"), "{err}");
    }
}

/// The longest row of the packed conversations.
const SEQ: usize = 96;

#[test]
fn packed_rows_give_the_loss_and_the_gradient_of_conversations_alone() {
    let conversation = |talk: &&[&str]| Conversation { messages: messages(talk), place: ("c".into(), 1) };
    let talks: Vec<Conversation> = TALKS.iter().map(conversation).collect();
    let texts: Vec<String> = TALKS.iter().flat_map(|talk| talk.iter().map(|text| text.to_string())).collect();
    let bpe = data::config::TrainedConfig { vocab_size: 300, min_frequency: 2 };
    let tokenizer = Tokenizer::train(&TokenizerConfig::Bpe(bpe), &texts, true).expect("trains");
    let of = |packing: bool| {
        let config = ChatTrainingConfig { packing, ..ChatTrainingConfig::default() };
        let (template, tokenizer) = ChatTemplate::for_training(&config, tokenizer.clone()).expect("chatml");
        let examples = ChatExamples::new(&template, &tokenizer, &config, &talks, SEQ, 1).expect("encodes");
        (examples, tokenizer.vocab_size())
    };
    let ((packed, vocab_size), (alone, _)) = (of(true), of(false));
    assert!(packed.len() < alone.len());
    let shape = GptConfig {
        n_layer: 1,
        n_head: 2,
        d_model: 16,
        d_ff: 32,
        max_seq_len: SEQ,
        vocab_size,
        embd_dropout: 0.0,
        attn_dropout: 0.0,
        resid_dropout: 0.0,
        ..GptConfig::default()
    };
    // That a GPU keeps segments apart is shown for its attention; a software one would take minutes here.
    for (name, device) in devices().into_iter().filter(|(name, _)| *name != "wgpu") {
        let autodiff = device.clone().autodiff();
        let model = Gpt::new(&shape, 3, &autodiff);
        let of = |examples: &ChatExamples, parts: usize| {
            let rows = examples.len();
            let batch = Batches::chat(examples.clone(), SEQ).expect("rows").at(0, rows);
            let step = step_gradient(&model, &batch.split(parts), StepOptions::default(), &autodiff);
            let loss = step.loss().into_scalar::<f64>();
            let gradient: Vec<f32> =
                step.gradients.into_iter().flat_map(|gradient| weights::to_host(gradient.values)).collect();
            (loss, gradient)
        };
        let (expected, gradient) = of(&alone, 1);
        for (examples, parts) in [(&packed, 1), (&alone, 3)] {
            let (loss, ours) = of(examples, parts);
            assert!((loss - expected).abs() < 1e-5, "{name}: {loss} instead of {expected}");
            let (off, norm) = distance(&ours, &gradient);
            assert!(off < 1e-4 * norm, "{name}: off by {off} of {norm}");
        }
        let plain = Gpt::new(&shape, 3, &device);
        let evaluated = |examples: &ChatExamples| {
            let rows = EvaluationRows::chat(examples.clone(), SEQ, usize::MAX);
            trainer::evaluate(&plain, rows.batches(3), model::Precision::F32, &device).loss
        };
        assert!((evaluated(&packed) - evaluated(&alone)).abs() < 1e-5, "{name}");
    }
}

#[test]
fn a_pre_trained_model_learns_the_templates_tokens() {
    let base = Run::new();
    let train = |max_seq_len: u64, out: &str| {
        let [length, out] = [format!("model.gpt.max_seq_len={max_seq_len}"), format!("train.output_dir={out}")];
        let sets = ["tokenizer.bpe.vocab_size=300", "train.max_steps=10", &length, &out];
        let ended = base.train(&sets.iter().flat_map(|set| ["--set", set]).collect::<Vec<_>>());
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    };
    train(160, "first");
    let config = std::fs::read_to_string(base.path("first/step-000010/config.json")).expect("saved");
    let config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
    // As many positions as tokens: the tables are told apart by name.
    train(config["vocab_size"].as_u64().expect("a number"), "run");
    let run = run_of(&TALKS);
    let dir = base.path("run/step-000010");
    let cut = |text: &str, from: &str, to: &str| {
        let (a, b) = (text.find(from).expect("there"), text.find(to).expect("there"));
        format!("{}{}", &text[..a], &text[b..])
    };
    let config = cut(&cut(CONFIG, "[tokenizer.bpe]", "[model.gpt]"), "[model.gpt]", "[train]")
        + &format!("[model]\ninit_from = \"{}\"\n", dir.display());
    std::fs::write(run.path("run.toml"), config).expect("writable");
    let ended = run.train(&["--set", "train.max_steps=3", "--set", "schedule.cosine.warmup_steps=0"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("2 tokens are new to the model"), "{}", ended.stderr);
    // Resumed, template and tokens come from the checkpoint.
    let ended =
        run.train(&["--set", "train.max_steps=5", "--set", "schedule.cosine.warmup_steps=0", "--resume", "auto"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let (_, err, code) = chat(&run, &["--max-new-tokens", "4"], "hello\n");
    assert_eq!(code, Some(0), "{err}");
    let (_, err, code) = chat(&base, &[], "hello\n");
    assert!(code == Some(4) && err.contains("chat_template"), "{err}");
}

#[test]
fn bad_conversations_are_told_with_their_place() {
    let run = run_of(&TALKS);
    for (contents, part) in [
        ("{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]\n", "talks.jsonl:1"),
        ("{\"messages\": []}\n", "talks.jsonl:1"),
        (
            "{\"messages\": [{\"role\": \"user\", \"content\": \"\"}, {\"role\": \"assistant\", \"content\": \"a\"}]}\n",
            "[empty_turn]",
        ),
        (
            "{\"messages\": [{\"role\": \"assistant\", \"content\": \"a\"}, {\"role\": \"user\", \"content\": \"b\"}]}\n",
            "[role_order]",
        ),
        ("{\"messages\": [{\"role\": \"wizard\", \"content\": \"a\"}]}\n", "wizard"),
        ("", "talks.jsonl"),
    ] {
        std::fs::write(run.path("talks.jsonl"), contents).expect("writable");
        let ended = run.train(&["--dry-run"]);
        assert!(ended.code == Some(3) && ended.stderr.contains(part), "{contents}: {:?} {}", ended.code, ended.stderr);
    }
    let run = run_of(&TALKS);
    for (set, code, part) in [
        ("chat.template_file='none.jinja'", 3, "none.jinja"),
        ("chat.template='tokenizer'", 3, "no chat template"),
        ("chat.train_on='nobody'", 2, "train_on"),
        ("redact.patterns=[{name='x', regex='('}]", 2, "redact"),
        ("clean.stem='english'", 2, "clean"),
    ] {
        let ended = run.train(&["--dry-run", "--set", set]);
        assert!(ended.code == Some(code) && ended.stderr.contains(part), "{set}: {:?} {}", ended.code, ended.stderr);
    }
    std::fs::write(run.path("bad.jinja"), "{% for m in messages %}{{ m.content | upper }}<|endoftext|>{% endfor %}")
        .expect("writable");
    let ended = run.train(&["--dry-run", "--set", "chat.template_file='bad.jinja'"]);
    assert!(ended.code == Some(3) && ended.stderr.contains("talks.jsonl:1"), "{}", ended.stderr);
}

#[test]
fn lint_shows_five_findings_of_a_rule_and_counts_the_others() {
    let run = run_of(&TALKS);
    let empty =
        "{\"messages\": [{\"role\": \"user\", \"content\": \"\"}, {\"role\": \"assistant\", \"content\": \"a\"}]}\n";
    std::fs::write(run.path("talks.jsonl"), empty.repeat(9)).expect("writable");
    let findings = |more: &[&str]| {
        let ended = run.firebox(&[&["data", "lint", "run.toml"], more].concat());
        assert_eq!(ended.code, Some(3), "{}", ended.stderr);
        ended.stdout.matches("[empty_turn]").count()
    };
    assert_eq!([findings(&[]), findings(&["--all"])], [5, 9]);
    let ended = run.firebox(&["data", "lint", "run.toml"]);
    assert!(ended.stdout.contains("empty_turn: 9, 4 of them not shown without --all"), "{}", ended.stdout);
}
