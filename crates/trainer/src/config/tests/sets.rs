//! `--set` on top of a file.

use super::*;

#[test]
fn a_set_is_read_as_toml_and_else_as_a_bare_string() {
    let config = good_with(&[
        "train.max_steps = 70",
        "train.device=wgpu:0",
        "train.sample_prompt=123",
        "train.output_dir=\"runs/quoted\"",
        "optimizer.adamw.lr=1",
        "data.text.files=[\"Cargo.toml\", \"src/lib.rs\"]",
    ])
    .unwrap();
    assert_eq!(config.train.stop_at(), Some(StopAt::Steps(70)));
    assert_eq!(config.train.device, "wgpu:0");
    assert_eq!(config.train.sample_prompt.as_deref(), Some("123"));
    assert_eq!(config.train.output_dir, PathBuf::from("runs/quoted"));
    assert_eq!(config.optimizer.lr(), 1.0);
    assert_eq!(config.data.files().len(), 2);
}

#[test]
fn setting_a_variant_replaces_the_one_that_stood() {
    let config = good_with(&[
        "optimizer.sgd.lr=0.1",
        "schedule.linear.warmup_steps=3",
        "tokenizer.bpe.vocab_size=300",
        "tokenizer.bpe.min_frequency=3",
        "data.csv.files=[\"Cargo.toml\"]",
    ])
    .unwrap();
    let sgd = SgdConfig { lr: 0.1, ..SgdConfig::default() };
    assert_eq!(config.optimizer, OptimizerConfig::Sgd(sgd));
    assert_eq!(config.schedule.name(), "linear");
    assert!(matches!(config.data, SourceConfig::Csv(_)));
    let Some(TokenizerConfig::Bpe(bpe)) = config.tokenizer else {
        panic!("not BPE: {:?}", config.tokenizer);
    };
    assert_eq!((bpe.vocab_size, bpe.min_frequency), (300, 3));
}

#[test]
fn setting_when_to_stop_replaces_what_the_file_says() {
    let config = good_with(&["train.num_epochs=2"]).unwrap();
    assert_eq!(config.train.stop_at(), Some(StopAt::Epochs(2)));
    let said = good_with(&["train.num_epochs=2", "train.max_tokens=3"]).unwrap_err();
    assert_eq!(
        said,
        "--set train.max_tokens=3: error: `num_epochs` and `max_tokens` in [train] contradict each other; \
         hint: keep one of them"
    );
}

#[test]
fn a_set_may_make_a_table_that_the_file_does_not_have() {
    let config = good_with(&["split.test=0.1"]).unwrap();
    assert_eq!(config.split.test, 0.1);
    let bare = GOOD.replace("[optimizer.adamw]\nlr = 1e-3\n", "");
    assert_eq!(parse(&bare, &["optimizer.sgd={}"]).unwrap().optimizer.name(), "sgd");
}

#[test]
fn a_bad_set_is_named_in_place_of_a_line() {
    let cases = [
        ("train", "no `=` in it; hint: write --set train.max_steps=100"),
        ("train..seed=1", "a key in it is empty; hint: write --set train.max_steps=100"),
        ("=1", "a key in it is empty; hint: write --set train.max_steps=100"),
        ("train.sede=1", "unknown key `sede` in [train]; hint: did you mean `seed`?"),
        ("trian.seed=1", "unknown table [trian]; hint: did you mean [train]?"),
        ("optimizer.adam.lr=1", "unknown table [optimizer.adam]; hint: did you mean [optimizer.adamw]?"),
        ("lr=1", "unknown key `lr` at the top level; hint: `lr` belongs in [optimizer.adamw]"),
        ("train.seed=one", "`train.seed`: expected an integer, found the string \"one\""),
        ("train.seed=1\nmax_steps=3", "`train.seed`: expected an integer, found the string \"1\\nmax_steps=3\""),
        ("train.seed.x=1", "`train.seed`: expected an integer, found a table"),
        ("train=3", "`train`: expected a table, found the integer 3"),
        (
            "optimizer=sgd",
            "`optimizer`: expected a table, found the string \"sgd\"; hint: write --set optimizer.sgd={}",
        ),
        (
            "model.gpt.n_head=3",
            // The key that does not fit is the file's.
            "",
        ),
    ];
    for (set, expected) in cases {
        let said = good_with(&[set]).unwrap_err();
        if expected.is_empty() {
            assert_eq!(
                said,
                "x.toml:7:11: error: `model.gpt.d_model` is 8, which `n_head` = 3 does not divide; hint: use 6 or 9"
            );
        } else {
            let set = set.replace('\n', "\\n");
            assert_eq!(said, format!("--set {set}: error: {expected}"));
        }
    }
}
