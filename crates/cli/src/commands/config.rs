//! `firebox config`

use crate::report::{Failure, print, print_json};
use std::path::PathBuf;
use trainer::config::{self, RunConfig};

/// Looks at configs.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Print a config with every default filled in.
    Show {
        /// The config file.
        file: PathBuf,
        /// Set a key, as `optimizer.adamw.lr=1e-4`.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        sets: Vec<String>,
        /// Print one JSON value.
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of a config.
    Schema,
    /// Print every key with its type, default and meaning, as Markdown.
    Reference,
}

/// Runs `firebox config`.
pub fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Show { file, sets, json } => {
            let loaded = RunConfig::load(file, sets)?;
            if *json { print_json(&loaded.config.to_value()) } else { print(&loaded.config.to_toml()) }
        }
        Command::Schema => print_json(&config::schema()),
        Command::Reference => print(&config::reference()),
    }
}
