//! Which steps of cleaning change a text, and how many rows.

use super::TextCleaner;

/// What changes a text, in the order in which it does.
#[derive(Clone, Copy)]
pub(super) enum Step {
    Repair,
    Nfc,
    Lowercase,
    Remove,
    StopWords,
    Stem,
    Trim,
}

/// The keys of the steps.
const STEP_KEYS: [&str; 7] = ["repair", "nfc", "lowercase", "remove", "stop_words", "stem", "trim"];

/// Of each step whether it changed a text.
pub(super) type ChangedBy = [bool; STEP_KEYS.len()];

/// A text after some of the steps.
pub(super) struct Cleaned {
    pub text: String,
    pub changed_by: ChangedBy,
}

impl Cleaned {
    pub fn set(&mut self, step: Step, text: String) {
        self.changed_by[step as usize] |= text != self.text;
        self.text = text;
    }
}

/// How many rows cleaning changed, and how many of them each key of `[clean]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangedRows {
    pub(super) rows: usize,
    by_key: [usize; STEP_KEYS.len()],
}

impl ChangedRows {
    /// Cleans the texts of one row.
    pub(crate) fn of_row<'a>(cleaner: &TextCleaner, texts: impl Iterator<Item = &'a mut String>) -> Self {
        let mut changed = ChangedBy::default();
        for text in texts {
            let (cleaned, by) = cleaner.clean_noting(text);
            *text = cleaned;
            changed.iter_mut().zip(by).for_each(|(changed, by)| *changed |= by);
        }
        Self { rows: usize::from(changed.contains(&true)), by_key: changed.map(usize::from) }
    }

    /// `: trim 3, stem 5`, for a note; empty where nothing changed.
    pub(crate) fn by_key(&self) -> String {
        let counts = STEP_KEYS.iter().zip(self.by_key).filter(|(_, count)| *count > 0);
        let counts: Vec<String> = counts.map(|(key, count)| format!("{key} {count}")).collect();
        if counts.is_empty() { String::new() } else { format!(": {}", counts.join(", ")) }
    }
}

/// The number of rows.
impl std::fmt::Display for ChangedRows {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.rows)
    }
}

impl std::iter::Sum for ChangedRows {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |mut sum, counts| {
            sum.rows += counts.rows;
            sum.by_key.iter_mut().zip(counts.by_key).for_each(|(sum, count)| *sum += count);
            sum
        })
    }
}
