//! What changes the texts of training rows in every epoch.

use std::borrow::Cow;

use crate::augment::{Augmenter, WordCounts};
use crate::batch::RowId;
use crate::error::Error;
use crate::tokenizer::{SubwordSampler, Tokenizer};

/// What a row's changed text is made with, again in every epoch.
#[derive(Debug)]
pub(super) struct Augmentation {
    pub augmenter: Option<Augmenter>,
    pub sampler: Option<SubwordSampler>,
    pub tokenizer: Tokenizer,
    /// The texts of each row, as they were read.
    pub texts: Vec<(String, Option<String>)>,
}

/// What is done to rows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RowChanges {
    pub words: WordCounts,
    /// Rows whose words change.
    pub changed: usize,
    /// Rows that are cut in other tokens than those of their text.
    pub recut: usize,
}

impl std::ops::Add for RowChanges {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { words: self.words + other.words, changed: self.changed + other.changed, recut: self.recut + other.recut }
    }
}

impl Augmentation {
    /// A text as a row shows it in its epoch, with what is done to its words.
    pub fn shown<'a>(&self, text: &'a str, id: RowId, part: u64) -> (Cow<'a, str>, WordCounts) {
        match &self.augmenter {
            None => (Cow::Borrowed(text), WordCounts::default()),
            Some(augmenter) => {
                let (shown, counts) = augmenter.augment_counting(text, id, part);
                (Cow::Owned(shown), counts)
            }
        }
    }

    pub fn encode(&self, text: &str, id: RowId, part: u64) -> Result<Vec<u32>, Error> {
        match &self.sampler {
            Some(sampler) => sampler.encode(text, id, part),
            None => self.tokenizer.encode(text),
        }
    }

    /// What is done to a row.
    pub fn changes(&self, id: RowId) -> RowChanges {
        let (text, pair) = &self.texts[id.row as usize];
        let mut changes = RowChanges::default();
        for (part, text) in (0..).zip([Some(text), pair.as_ref()].into_iter().flatten()) {
            let (shown, counts) = self.shown(text, id, part);
            changes.words = changes.words + counts;
            changes.changed |= usize::from(shown != *text);
            let recut =
                self.sampler.is_some() && self.encode(&shown, id, part).ok() != self.tokenizer.encode(&shown).ok();
            changes.recut |= usize::from(recut);
        }
        changes
    }
}
