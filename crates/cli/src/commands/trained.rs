//! What a model was trained on, and how files are read that it is given later: as in its training, unless a person says
//! otherwise.

use crate::report::{CHECKPOINT, Failure, USAGE};
use checkpoint::TrainState;
use data::config::{LabelledConfig, OnBadRow, SourceConfig};
use std::path::Path;
use trainer::config::RunConfig;

/// Arguments that say how a file of rows is read.
#[derive(clap::Args)]
pub struct Columns {
    /// The column or field that holds the text; left out, that of the model's training, or `text`.
    #[arg(long)]
    pub field: Option<String>,
    /// The column or field of a second text, where a classifier reads pairs; left out, that of its training.
    #[arg(long)]
    pub pair_field: Option<String>,
    /// Leave rows out that are malformed or have no text or label, and say how many; by default the first is an error.
    #[arg(long)]
    skip_bad_rows: bool,
}

impl Columns {
    /// How labelled texts of a file are read for a model that was `trained` on these.
    ///
    /// # Errors
    /// A second text for a model that was trained on single ones.
    pub fn labelled(&self, file: &Path, trained: Option<&LabelledConfig>) -> Result<LabelledConfig, Failure> {
        if self.pair_field.is_some() && trained.is_some_and(|trained| trained.text_pair.is_none()) {
            return Err(Failure::new(USAGE, "--pair-field: the model was trained on single texts; hint: leave it out"));
        }
        let of_file = LabelledConfig::of_file(file);
        let trained = trained.unwrap_or(&of_file);
        Ok(LabelledConfig {
            text: self.field.clone().unwrap_or_else(|| trained.text.clone()),
            text_pair: self.pair_field.clone().or_else(|| trained.text_pair.clone()),
            problem: trained.problem,
            label: trained.label.clone(),
            label_separator: trained.label_separator.clone(),
            truncation: trained.truncation,
            on_bad_row: self.on_bad_row(),
            ..of_file
        })
    }

    /// The column that holds a text without a label.
    pub fn text(&self, trained: Option<&SourceConfig>) -> String {
        let of_training = match trained {
            Some(SourceConfig::Jsonl(records) | SourceConfig::Csv(records)) => records.field.clone(),
            Some(SourceConfig::Labelled(labelled)) => labelled.text.clone(),
            _ => "text".into(),
        };
        self.field.clone().unwrap_or(of_training)
    }

    /// What is done with rows that cannot be read.
    pub fn on_bad_row(&self) -> OnBadRow {
        if self.skip_bad_rows { OnBadRow::Skip } else { OnBadRow::Error }
    }
}

/// The config of the run that a checkpoint is of, and its state.
pub fn run_config(dir: &Path) -> Result<(RunConfig, TrainState), Failure> {
    let mut state = TrainState::read(dir)?;
    let config = serde_json::from_value(state.config.take())
        .map_err(|error| Failure::new(CHECKPOINT, format!("{}: the run's config: {error}", dir.display())))?;
    Ok((config, state))
}

/// The data that a checkpoint's run was made from; none where the directory is of no run, or of one that cannot be read
/// any more.
pub fn trained_on(dir: &Path) -> Option<SourceConfig> {
    run_config(dir).ok().map(|(config, _)| config.data)
}

/// The labelled texts among what a run can be made from.
pub fn labelled(trained: Option<&SourceConfig>) -> Option<&LabelledConfig> {
    match trained {
        Some(SourceConfig::Labelled(labelled)) => Some(labelled),
        _ => None,
    }
}
