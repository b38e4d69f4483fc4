//! One wrong thing at a time, and what is said of it.

use super::*;

/// What is said of the good config with some of its text replaced.
fn said_of(replaced: &str, by: &str) -> String {
    assert!(GOOD.contains(replaced), "{replaced:?} is not in the good config");
    match parse(&GOOD.replacen(replaced, by, 1), &[]) {
        Ok(_) => panic!("accepted {by:?}"),
        Err(said) => said,
    }
}

#[test]
fn each_bad_config_is_answered_with_its_place_its_key_and_a_hint() {
    let cases = [
        // Keys.
        (
            "lr = 1e-3",
            "lerning_rate = 1e-3",
            "x.toml:14:1: error: unknown key `lerning_rate` in [optimizer.adamw]; hint: did you mean `lr`?",
        ),
        (
            "max_steps = 100",
            "max_step = 100",
            "x.toml:12:1: error: unknown key `max_step` in [train]; hint: did you mean `max_steps`?",
        ),
        (
            "max_steps = 100",
            "max_steps = 100\nlr = 0.1",
            "x.toml:13:1: error: unknown key `lr` in [train]; hint: `lr` belongs in [optimizer.adamw]",
        ),
        (
            "max_steps = 100",
            "max_steps = 100\nmomentum = 0.1",
            "x.toml:13:1: error: unknown key `momentum` in [train]; hint: `momentum` belongs in [optimizer.sgd]",
        ),
        (
            "max_steps = 100",
            "max_steps = 100\nlearning_rate = 0.1",
            "x.toml:13:1: error: unknown key `learning_rate` in [train]; hint: did you mean `lr` in [optimizer.adamw]?",
        ),
        (
            "[data.text]",
            "max_steps = 100\n[data.text]",
            "x.toml:1:1: error: unknown key `max_steps` at the top level; hint: `max_steps` belongs in [train]",
        ),
        (
            "[tokenizer.char]",
            "[tokenizer.char]\nqqqq = 1",
            "x.toml:4:1: error: unknown key `qqqq` in [tokenizer.char]; hint: [tokenizer.char] has no keys",
        ),
        (
            "[optimizer.adamw]\nlr = 1e-3",
            "[optimizer.sgd]\nqqqq = 1",
            "x.toml:14:1: error: unknown key `qqqq` in [optimizer.sgd]; \
             hint: there are `lr`, `momentum`, `weight_decay`",
        ),
        ("[train]", "[tran]", "x.toml:10:2: error: unknown table [tran]; hint: did you mean [train]?"),
        ("[model.gpt]", "[model.gtp]", "x.toml:4:8: error: unknown table [model.gtp]; hint: did you mean [model.gpt]?"),
        (
            "files = [\"Cargo.toml\"]",
            "",
            "x.toml:1:7: error: `files` is missing in [data.text]; hint: add `files` \
             (Paths and globs, relative to the working directory)",
        ),
        ("files = [", "file = [", "x.toml:2:1: error: unknown key `file` in [data.text]; hint: did you mean `files`?"),
        (
            "output_dir = \"runs/test\"",
            "",
            "x.toml:10:2: error: `output_dir` is missing in [train]; hint: add `output_dir` \
             (The run's directory, made if it is not there: checkpoints, metrics and curves)",
        ),
        (
            "[data.text]\nfiles = [\"Cargo.toml\"]",
            "",
            "x.toml: error: [data] is missing; hint: add [data.text], [data.jsonl], [data.csv], [data.labelled], [data.tagged] or [data.chat]",
        ),
        (
            "[train]\noutput_dir = \"runs/test\"\nmax_steps = 100\n",
            "",
            "x.toml: error: [train] is missing; hint: add it with `output_dir`",
        ),
        // Variants.
        (
            "[optimizer.adamw]",
            "[optimizer.adam]",
            "x.toml:13:12: error: unknown table [optimizer.adam]; hint: did you mean [optimizer.adamw]?",
        ),
        (
            "[optimizer.adamw]",
            "[optimizer]",
            "x.toml:14:1: error: unknown key `lr` in [optimizer]; hint: `lr` belongs in [optimizer.adamw] or [optimizer.sgd]",
        ),
        (
            "[optimizer.adamw]\nlr = 1e-3",
            "[optimizer]",
            "x.toml:13:2: error: [optimizer] chooses nothing; hint: add [optimizer.adamw] or [optimizer.sgd]",
        ),
        (
            "[schedule.cosine]",
            "[optimizer.sgd]\nlr = 0.1\n[schedule.cosine]",
            "x.toml:15:12: error: [optimizer.sgd] stands beside [optimizer.adamw], only one can be chosen; hint: remove one of them",
        ),
        (
            "[optimizer.adamw]\nlr = 1e-3",
            "[[optimizer.adamw]]\nlr = 1e-3",
            "x.toml:13:1: error: `optimizer.adamw`: expected a table, found an array; \
             hint: write [optimizer.adamw] with single brackets",
        ),
        // Types and ranges.
        (
            "max_steps = 100",
            "max_steps = \"100\"",
            "x.toml:12:13: error: `train.max_steps`: expected an integer, found the string \"100\"; hint: write 100 without quotes",
        ),
        (
            "max_steps = 100",
            "max_steps = 1e2",
            "x.toml:12:13: error: `train.max_steps`: expected an integer, found the number 100.0; hint: write 100",
        ),
        (
            "max_steps = 100",
            "max_steps = 2026-01-01",
            "x.toml:12:13: error: `train.max_steps`: expected an integer, found the date 2026-01-01",
        ),
        (
            "[\"Cargo.toml\"]",
            "\"Cargo.toml\"",
            "x.toml:2:9: error: `data.text.files`: expected an array of strings, found the string \"Cargo.toml\"; \
             hint: write [\"Cargo.toml\"]",
        ),
        (
            "[\"Cargo.toml\"]",
            "[\"Cargo.toml\", 3]",
            "x.toml:2:24: error: `data.text.files[1]`: expected a string, found the integer 3; hint: write \"3\"",
        ),
        ("[\"Cargo.toml\"]", "[]", "x.toml:2:9: error: `data.text.files` is empty; hint: give at least 1"),
        ("max_steps = 100", "max_steps = 0", "x.toml:12:13: error: `train.max_steps` is 0, expected at least 1"),
        (
            "max_steps = 100",
            "max_steps = 100\nseed = -1",
            "x.toml:13:8: error: `train.seed` is -1, expected at least 0",
        ),
        (
            "max_steps = 100",
            "max_steps = 100\nseed = 99999999999999999999",
            "x.toml:13:8: error: `train.seed` is 99999999999999999999, expected at most 9223372036854775807",
        ),
        ("lr = 1e-3", "lr = nan", "x.toml:14:6: error: `optimizer.adamw.lr` is NaN, expected a finite number"),
        ("lr = 1e-3", "lr = 1e999", "x.toml:14:6: error: `optimizer.adamw.lr` is inf, expected a finite number"),
        ("lr = 1e-3", "lr = 0", "x.toml:14:6: error: `optimizer.adamw.lr` is 0, expected more than 0"),
        (
            "lr = 1e-3",
            "beta1 = 1",
            "x.toml:14:9: error: `optimizer.adamw.beta1` is 1, expected at least 0 and less than 1",
        ),
        (
            "dropout = 0",
            "dropout = 1.0",
            "x.toml:9:11: error: `model.gpt.dropout` is 1, expected at least 0 and less than 1",
        ),
        (
            "max_steps = 100",
            "max_steps = 100\nprecision = \"fp8\"",
            "x.toml:13:13: error: `train.precision` is \"fp8\", expected \"f32\", \"bf16\" or \"f16\"",
        ),
        // Meaning.
        (
            "n_head = 2\nd_model = 8",
            "n_head = 12\nd_model = 100",
            "x.toml:7:11: error: `model.gpt.d_model` is 100, which `n_head` = 12 does not divide; hint: use 96 or 108",
        ),
        (
            "n_head = 2\nd_model = 8",
            "n_head = 12\nd_model = 8",
            "x.toml:7:11: error: `model.gpt.d_model` is 8, which `n_head` = 12 does not divide; hint: use 12",
        ),
        (
            "n_head = 2\nd_model = 8",
            "n_head = 7",
            "x.toml:6:10: error: `model.gpt.d_model` is 768, which `n_head` = 7 does not divide; hint: use 763 or 770",
        ),
        (
            "dropout = 0",
            "dropout = 0.1\nembd_dropout = 0\nattn_dropout = 0\nresid_dropout = 0",
            "x.toml:9:11: error: `model.gpt.dropout` has no effect, because `embd_dropout`, `attn_dropout` and \
             `resid_dropout` are all given; hint: leave it out, or leave out those that shall follow it",
        ),
        (
            "max_steps = 100",
            "",
            "x.toml:10:2: error: [train] does not say when to stop; hint: add one of `max_steps`, `num_epochs` and `max_tokens`",
        ),
        (
            "max_steps = 100",
            "max_steps = 100\nnum_epochs = 2",
            "x.toml:13:14: error: `max_steps` and `num_epochs` in [train] contradict each other; hint: keep one of them",
        ),
        (
            "[tokenizer.char]",
            "[tokenizer.char]\n[augment]\ndelete = 0.1",
            "x.toml:4:2: error: [augment] has no effect on words without a classifier's [data.labelled]; hint: leave it out",
        ),
        (
            "[tokenizer.char]",
            "[tokenizer.char]\n[augment.subwords]\nalpha = 0.2",
            "x.toml:4:10: error: [augment.subwords] has no effect but on a classifier and on masked language modelling \
             without `next_sentence`; hint: leave it out",
        ),
        (
            "[tokenizer.char]",
            "[tokenizer.char]\n[augment.subwords]\nalpha = 0",
            "x.toml:5:9: error: `augment.subwords.alpha` is 0, expected more than 0",
        ),
        (
            "[tokenizer.char]",
            "[split]\nvalidation = 0.6\ntest = 0.4",
            "x.toml: error: [tokenizer] is missing; hint: add [tokenizer.char] or [tokenizer.bpe], \
             or start from a model that has one with `model.init_from`\n\
             x.toml:4:14: error: `split.validation` = 0.6 and `split.test` = 0.4 leave nothing to train on; \
             hint: together they must be less than 1",
        ),
        (
            "[tokenizer.char]",
            "[tokenizer.char]\n[split]\nvalidation = 0",
            "x.toml:5:14: error: `split.validation` is 0, so that there is nothing to evaluate every \
             `train.eval_every` = 250 steps; hint: set `train.eval_every = 0`, or give `split.validation` a part of the text",
        ),
        (
            "[tokenizer.char]",
            "[tokenizer.char]\n[split]\nvalidation = -0.1",
            "x.toml:5:14: error: `split.validation` is -0.1, expected at least 0 and at most 1",
        ),
        (
            "[tokenizer.char]",
            "[tokenizer.wordpiece]\nvocab_size = 512",
            "x.toml:4:14: error: `tokenizer.wordpiece.vocab_size` is 512, expected at least 513; \
             hint: 256 bytes at the start of a word, 256 inside one, and `<|endoftext|>`",
        ),
        (
            "[tokenizer.char]",
            "[tokenizer.file]\npath = \"no/such.json\"",
            "x.toml:4:8: error: `tokenizer.file.path`: no/such.json does not exist; \
             hint: name a `tokenizer.json` or a directory that has one, relative to the working directory",
        ),
        (
            "[model.gpt]",
            "[model]\ninit_from = \"no/such\"\n[model.gpt]",
            "x.toml:5:13: error: `model.init_from`: no/such does not exist; \
             hint: name a HuggingFace directory (config.json, model.safetensors), relative to the working directory",
        ),
        (
            "[model.gpt]",
            "[model]\ninit_from = \"src\"\n[model.gpt]",
            "x.toml:5:13: error: `model.init_from`: src has no config.json; \
             hint: name a HuggingFace directory (config.json, model.safetensors), relative to the working directory",
        ),
        (
            "[model.gpt]\nn_layer = 2\nn_head = 2\nd_model = 8\nmax_seq_len = 16\ndropout = 0\n",
            "[model]\n",
            "x.toml:4:2: error: [model] names no model; hint: add [model.gpt] or [model.bert], or `init_from` with a HuggingFace directory",
        ),
        (
            "[\"Cargo.toml\"]",
            "[\"no/such.txt\"]",
            "x.toml:2:9: error: `files`: nothing matches `no/such.txt`; \
             hint: paths and globs are relative to the working directory",
        ),
        (
            "\"runs/test\"",
            "\"Cargo.toml/run\"",
            "x.toml:11:14: error: `train.output_dir` cannot be made: Cargo.toml is a file; \
             hint: name a directory such as \"runs/first\"",
        ),
        (
            "max_steps = 100",
            "max_steps = 100\ndevice = \"wgpu0\"",
            "x.toml:13:10: error: `train.device` is \"wgpu0\", expected auto, wgpu, wgpu:N (adapter N), ndarray, flex or \
             cuda; hint: did you mean \"wgpu\"?",
        ),
        (
            "warmup_steps = 10",
            "warmup_steps = 101",
            "x.toml:16:16: error: `schedule.cosine.warmup_steps` is 101, more than the run's 100 steps; \
             hint: the learning rate would never reach `lr`; shorten the warmup",
        ),
        (
            "warmup_steps = 10",
            "min_lr = 0.01",
            "x.toml:16:10: error: `schedule.cosine.min_lr` is 0.01, more than `optimizer.adamw.lr` = 0.001; \
             hint: a tenth of `lr` is usual",
        ),
        (
            "warmup_steps = 10",
            "warmup_steps = 10\ndecay_steps = 10",
            "x.toml:17:15: error: `schedule.cosine.decay_steps` is 10, within the warmup of 10 steps; \
             hint: it counts from the start of the run; leave it out for the run's last step",
        ),
    ];
    for (replaced, by, expected) in cases {
        assert_eq!(said_of(replaced, by), expected, "for {by:?}");
    }
}

#[test]
fn lists_of_files_are_answered_by_their_own_keys_and_folds_take_their_place() {
    let labelled =
        "[data.labelled]\nfiles = [\"Cargo.toml\", \"no/a.csv\", \"no/b.csv\"]\nvalidation_files = [\"no/c.csv\"]";
    let text = GOOD.replacen("[data.text]\nfiles = [\"Cargo.toml\"]", labelled, 1);
    let said = parse(&text, &["split.folds=3"]).unwrap_err();
    for expected in [
        "x.toml:2:9: error: `files`: nothing matches `no/a.csv`, `no/b.csv`; hint: ",
        "x.toml:3:20: error: `validation_files`: nothing matches `no/c.csv`; hint: ",
        "--set split.folds=3: error: `split.folds` validates with a fold of `files`, and there are `validation_files`",
    ] {
        assert!(said.contains(expected), "{said}");
    }
    let said = parse(&text.replace("validation_files", "label = \"text\"\ntest_files"), &[]).unwrap_err();
    assert!(said.contains("x.toml:3:9: error: `label`: `text` is also `text`; hint: name another column"), "{said}");
}

#[test]
fn every_problem_is_reported_at_once_in_the_order_of_the_file() {
    let text = r#"[data.text]
files = ["no/such.txt"]
[tokenizer.char]
vocab_size = 3
[model.gpt]
n_layer = "two"
n_head = 12
d_model = 100
[train]
output_dir = "runs/test"
micro_batch_size = 0
batch_size = 3
[optimizer.adamw]
lerning_rate = 1e-3
[schedule.cosin]
warmup_steps = 10
"#;
    let expected = "\
x.toml:2:9: error: `files`: nothing matches `no/such.txt`; hint: paths and globs are relative to the working directory
x.toml:4:1: error: unknown key `vocab_size` in [tokenizer.char]; hint: `vocab_size` belongs in [model.gpt]
x.toml:6:11: error: `model.gpt.n_layer`: expected an integer, found the string \"two\"
x.toml:8:11: error: `model.gpt.d_model` is 100, which `n_head` = 12 does not divide; hint: use 96 or 108
x.toml:9:2: error: [train] does not say when to stop; hint: add one of `max_steps`, `num_epochs` and `max_tokens`
x.toml:11:20: error: `train.micro_batch_size` is 0, expected at least 1
x.toml:12:1: error: unknown key `batch_size` in [train]; hint: did you mean `micro_batch_size`?
x.toml:14:1: error: unknown key `lerning_rate` in [optimizer.adamw]; hint: did you mean `lr`?
x.toml:15:11: error: unknown table [schedule.cosin]; hint: did you mean [schedule.cosine]?
--set train.seed=x: error: `train.seed`: expected an integer, found the string \"x\"
--set train.max_steps: error: no `=` in it; hint: write --set train.max_steps=100";
    let said = parse(text, &["train.seed=x", "train.max_steps"]).unwrap_err();
    assert_eq!(said, expected);
}

#[test]
fn an_empty_file_says_what_a_config_needs() {
    assert_eq!(
        parse("", &[]).unwrap_err(),
        "x.toml: error: [data] is missing; hint: add [data.text], [data.jsonl], [data.csv], [data.labelled], [data.tagged] or [data.chat]\n\
         x.toml: error: [model] is missing; hint: add [model.bert] or [model.gpt]\n\
         x.toml: error: [train] is missing; hint: add it with `output_dir`\n\
         x.toml: error: [tokenizer] is missing; hint: add [tokenizer.char] or [tokenizer.bpe], or start from a model \
         that has one with `model.init_from`"
    );
}

#[test]
fn weights_of_roles_and_a_tokenizer_beside_an_adapter_are_looked_at() {
    let said = |more: &str| parse(&format!("{GOOD}\n{more}"), &[]).unwrap_err();
    let unknown = said("[chat]\nrole_weights = { asistant = 0.5 }");
    assert!(unknown.contains("no message has the role `asistant`; hint: the roles are system, user"), "{unknown}");
    assert!(said("[chat]\nrole_weights = { user = -1 }").contains("`chat.role_weights.user` is below 0"));
    let beside = said("[lora]\nrank = 4");
    assert!(
        beside.contains("knows the ids of the model's own tokenizer alone; hint: leave [tokenizer] out"),
        "{beside}"
    );
}

#[test]
fn errors_that_all_concern_the_data_or_the_checkpoint_say_so() {
    let subject = |sets: &[&str]| {
        let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
        RunConfig::parse("x.toml", GOOD, &sets).unwrap_err().subject()
    };
    assert_eq!(subject(&["data.text.files=[\"no/such.txt\"]"]), Subject::Data);
    assert_eq!(subject(&["model.init_from=no/such"]), Subject::Checkpoint);
    assert_eq!(subject(&["data.text.files=[\"no/such.txt\"]", "train.sede=1"]), Subject::Config);
    assert_eq!(subject(&["data.text.files=[\"***\"]"]), Subject::Config);
    assert_eq!(subject(&["train=1"]), Subject::Config);
}

/// A config of a classifier, up to its model, on a file that is there.
const CLASSIFIER: &str = r#"[data.labelled]
files = ["Cargo.toml"]
[tokenizer.bert]
vocab_size = 300
[train]
output_dir = "runs/test"
max_steps = 100
[model.bert]
n_layer = 1
n_head = 1
d_model = 8
max_seq_len = 16
"#;

#[test]
fn a_best_metric_that_the_problem_does_not_have_is_refused_with_those_that_it_has() {
    let refused = |text: &str, metric: &str, task: &str, has: &str| {
        let text = text.replace("max_steps = 100", &format!("max_steps = 100\nbest_metric = {metric:?}"));
        let said = parse(&text, &[]).unwrap_err();
        let line = 1 + text.lines().position(|line| line.starts_with("best_metric")).unwrap();
        let expected = format!(
            "x.toml:{line}:15: error: `train.best_metric`: evaluations of {task} have no figure `{metric}`; hint: there are loss, "
        );
        assert!(said.starts_with(&expected) && said.contains(has), "{said}");
    };
    let problem = |name: &str| CLASSIFIER.replace("[tokenizer", &format!("problem = {name:?}\n[tokenizer"));
    let tagger = CLASSIFIER.replace("labelled", "tagged");
    refused(CLASSIFIER, "hamming_loss", "a single-label classifier", "macro_f1");
    refused(&problem("multi_label"), "roc_auc", "a multi-label classifier", "hamming_loss");
    refused(&problem("regression"), "accuracy", "a regression", "spearman");
    refused(&problem("regression"), "perplexity", "a regression", "r2");
    refused(&tagger, "mcc", "a tagger", "token_f1");
    refused(CLASSIFIER, "pearson", "a single-label classifier", "mcc");
    refused(&format!("{CLASSIFIER}[objective.masked_lm]\n"), "f1", "a language model", "perplexity");
    refused(GOOD, "f1", "a language model", "accuracy");
    for (text, metric) in [(CLASSIFIER, "macro_f1"), (tagger.as_str(), "micro_f1"), (tagger.as_str(), "token_macro_f1")]
    {
        assert!(parse(text, &[&format!("train.best_metric={metric}")]).is_ok(), "{metric}");
    }
}

#[test]
fn what_is_known_of_labels_and_cleaning_without_the_data_is_reported_at_its_key() {
    let said = |more: &str| parse(&format!("{CLASSIFIER}{more}"), &[]).unwrap_err();
    let weights = "`objective.classification.label_weights`:";
    assert_eq!(
        said("[objective.classification]\nlabel_weights = { a = 0 }"),
        format!("x.toml:14:1: error: {weights} `a` has the weight 0; hint: weights are above 0")
    );
    let both = said("[objective.classification]\nclass_weights = \"balanced\"\nlabel_weights = { a = 2 }");
    assert!(both.starts_with(&format!("x.toml:15:1: error: {weights} it stands beside")), "{both}");
    let limits = said("[clean]\nmin_characters = 9\nmax_characters = 3");
    assert!(limits.starts_with("x.toml:14:18: error: `clean.min_characters`: 9 is more than"), "{limits}");
    let turns = said("[clean]\nmin_turns = 2");
    assert!(turns.starts_with("x.toml:14:13: error: `clean.min_turns`: a labelled text has no turns"), "{turns}");
    let remove = said("[clean]\nremove = [\"(\", \"a\",\n  \"[\"]\nstop_words = \"no/such.txt\"");
    let places: Vec<&str> = remove.lines().map(|line| line.split(" error:").next().unwrap()).collect();
    assert_eq!(places, ["x.toml:14:11:", "x.toml:15:3:", "x.toml:16:14:"], "{remove}");
    let synonyms = said("[augment.synonyms]\nprobability = 0.1\nfile = \"no/such.txt\"");
    assert!(synonyms.starts_with("x.toml:15:8: error: `augment.synonyms.file`: no/such.txt"), "{synonyms}");
    let short = parse(CLASSIFIER, &["model.bert.max_seq_len=4"]).unwrap_err();
    assert!(short.contains("`model.bert.max_seq_len` is 4") && short.ends_with("at least 5; 128 is usual"), "{short}");
    let column = CLASSIFIER.replace("labelled]", "tagged]\ntag_column = 1");
    let said = parse(&column, &[]).unwrap_err();
    assert!(said.starts_with("x.toml:2:14: error: `tag_column`: it is also `token_column`"), "{said}");
}
