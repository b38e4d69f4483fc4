//! `firebox merge`

use super::checkpoint_dir;
use crate::report::{CHECKPOINT, Failure, USAGE, print, print_json};
use serde_json::json;
use std::path::PathBuf;

/// Arguments of `firebox merge`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The directory of a LoRA adapter, as Firebox or PEFT saves it, or a run directory (its best checkpoint).
    adapter: PathBuf,
    /// The directory to write; must not exist yet.
    out: PathBuf,
    /// Print one JSON value.
    #[arg(long)]
    json: bool,
}

/// Writes the model that an adapter makes of the one that it adapts: a whole directory, which needs neither of them.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let out = &arguments.out;
    if out.exists() {
        return Err(Failure::new(USAGE, format!("OUT: {} exists; hint: name a new directory", out.display())));
    }
    let dir = checkpoint_dir(&arguments.adapter)?;
    if !checkpoint::is_adapter_dir(&dir) {
        let message =
            format!("{} holds no {}; hint: only adapters are merged", dir.display(), checkpoint::adapter::CONFIG_FILE);
        return Err(Failure::new(CHECKPOINT, message));
    }
    let base = checkpoint::base_of(&dir)?;
    let contents = checkpoint::exported(&dir, "float32")?;
    checkpoint::export(out, &contents)?;
    let bytes = checkpoint::size_on_disk(&contents);
    if arguments.json {
        return print_json(&json!({ "adapter": dir, "base": base, "out": out, "bytes": bytes }));
    }
    let size = checkpoint::human_bytes(bytes);
    print(&format!("{} + {} -> {} ({size})\n", base.display(), dir.display(), out.display()))
}
