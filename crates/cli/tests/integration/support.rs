//! What several tests need.

use burn::tensor::Device;
use model::device::{adapters, ndarray};
use std::path::{Path, PathBuf};

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the crate lies in the repository")
}

/// A file or directory of `tests/fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Every backend, by name: the same tests run on each. Without a GPU, Mesa's software Vulkan serves.
pub fn devices() -> Vec<(&'static str, Device)> {
    let mut devices = vec![("ndarray", ndarray()), ("flex", Device::flex())];
    match adapters().first() {
        Some(adapter) => devices.push(("wgpu", adapter.device())),
        // Said by name, so that a machine without Vulkan cannot look as if wgpu had been tested.
        None if std::env::var_os("FIREBOX_TEST_WITHOUT_WGPU").is_some() => {}
        None => panic!(
            "no GPU adapter; install a Vulkan driver (Debian: mesa-vulkan-drivers libvulkan1), or set \
             FIREBOX_TEST_WITHOUT_WGPU=1 to test the CPU alone"
        ),
    }
    devices
}

/// ‖a − b‖ and ‖b‖.
pub fn distance(a: &[f32], b: &[f32]) -> (f64, f64) {
    assert_eq!(a.len(), b.len());
    let difference: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    let norm: f64 = b.iter().map(|b| f64::from(*b).powi(2)).sum();
    (difference.sqrt(), norm.sqrt())
}

/// A directory with a text and a config of a run that takes a second: 60 steps with dropout.
pub struct Run {
    dir: tempfile::TempDir,
}

/// What a command printed, and how it ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ended {
    fn of(output: std::process::Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Asserts success and reads stdout as JSON.
    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        serde_json::from_str(&self.stdout).expect("one JSON value and nothing else")
    }
}

/// A small text with some structure to learn.
pub fn text() -> String {
    let names = ["Mia", "Tom", "Ana", "Ben", "Zoe"];
    let things = ["a red ball", "the old hat", "some bread", "a toy boat"];
    (0..400).map(|i| format!("{} found {} near tree {}.\n", names[i * 7 % 5], things[i * 3 % 4], i * i % 97)).collect()
}

impl Run {
    /// A fresh run in a directory of its own.
    pub fn new() -> Self {
        let run = Self { dir: tempfile::tempdir().expect("a temporary directory") };
        std::fs::write(run.path("text.txt"), text()).expect("writable");
        std::fs::write(
            run.path("run.toml"),
            r#"
[data.text]
files = ["text.txt"]
[tokenizer.char]
[model.gpt]
n_layer = 1
n_head = 2
d_model = 16
max_seq_len = 16
dropout = 0.1
[train]
output_dir = "run"
device = "ndarray"
micro_batch_size = 4
max_steps = 60
eval_every = 20
eval_batches = 2
save_every = 10
log_every = 10
sample_tokens = 8
[optimizer.adamw]
lr = 1e-2
[schedule.cosine]
warmup_steps = 5
"#,
        )
        .expect("writable");
        run
    }

    /// A path inside the run's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The `firebox` binary in the run's directory.
    pub fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_firebox"));
        command.args(arguments).current_dir(self.dir.path());
        command
    }

    /// Runs `firebox` to its end.
    pub fn firebox(&self, arguments: &[&str]) -> Ended {
        Ended::of(self.command(arguments).output().expect("the binary runs"))
    }

    /// Runs `firebox train run.toml` with these further arguments.
    pub fn train(&self, arguments: &[&str]) -> Ended {
        self.firebox(&[&["train", "run.toml"], arguments].concat())
    }
}
