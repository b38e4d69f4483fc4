//! A tag a token, and the entities that tags mark.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use super::table::{Row, table};
use super::{
    Averages, Counts, InvalidPredictions, MACRO, MICRO, NamedScores, Report, SCORES, Scores, TOKEN, TOKEN_MACRO,
    WEIGHTED, ratio, same_length,
};

/// An entity that tags mark: its type, its first and its last token.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entity<'a> {
    /// What follows the first hyphen of its tags.
    pub kind: &'a str,
    /// Index of the first token.
    pub first: usize,
    /// Index of the last token.
    pub last: usize,
}

/// The entities of a sequence tagged as BIO, IOB, IOE or IOBES (`B-PER`, `I-PER`, `O`).
///
/// Ill-formed sequences are read as CoNLL's evaluation reads them: an `I` without a beginning, or of another type
/// than the token before it, begins an entity. Source: conlleval, as in the default mode of seqeval.
pub fn entities<S: AsRef<str>>(tags: &[S]) -> Vec<Entity<'_>> {
    let mut found = Vec::new();
    let (mut before, mut kind_before, mut first) = ('O', "", 0);
    let all = tags.iter().map(AsRef::as_ref).chain(["O"]);
    for (index, tag) in all.enumerate() {
        let kind = match tag.split_once('-').map_or(tag, |(_, kind)| kind) {
            "" => "_",
            kind => kind,
        };
        let place = tag.chars().next().unwrap_or('O');
        let other_kind = kind != kind_before;
        let ends = match (before, place) {
            ('E' | 'S', _) | ('B' | 'I', 'B' | 'S' | 'O') => true,
            ('O' | '.', _) => false,
            _ => other_kind,
        };
        if ends {
            found.push(Entity { kind: kind_before, first, last: index - 1 });
        }
        let begins = match (before, place) {
            (_, 'B' | 'S') | ('E' | 'S' | 'O', 'E' | 'I') => true,
            (_, 'O' | '.') => false,
            _ => other_kind,
        };
        if begins {
            first = index;
        }
        (before, kind_before) = (place, kind);
    }
    found
}

/// The tag of a word that belongs to nothing.
const OUTSIDE: &str = "O";

/// Figures of a tagger. An entity counts as found if its type and both its ends are right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TagReport {
    /// Tokens that the accuracy is taken over.
    pub tokens: u64,
    /// Share of tokens whose tag was predicted.
    pub accuracy: f64,
    /// Precision over all entities: micro average, as seqeval's default.
    pub precision: f64,
    /// Recall over all entities.
    pub recall: f64,
    /// F1 over all entities.
    pub f1: f64,
    /// The scores' mean over types of entity.
    #[serde(rename = "macro")]
    pub macro_: Scores,
    /// The scores' mean over types weighted by how often each occurs.
    pub weighted: Scores,
    /// The scores of single words, from counts over all tags but `O`: scikit-learn's micro average over these labels.
    #[serde(default)]
    pub token: Scores,
    /// The scores of single words, mean over all tags but `O`.
    #[serde(default)]
    pub token_macro: Scores,
    /// Every type that occurs or was predicted, by name.
    pub per_type: Vec<NamedScores>,
}

impl TagReport {
    /// Figures of the `predicted` tags of each sequence against the `truth`.
    ///
    /// # Errors
    /// When the numbers of sequences or of a sequence's tags differ.
    pub fn new<S: AsRef<str>, P: AsRef<str>>(
        truth: &[Vec<S>],
        predicted: &[Vec<P>],
    ) -> Result<Self, InvalidPredictions> {
        same_length("tagged sequences", predicted.len(), truth.len())?;
        let (mut tokens, mut right) = (0u64, 0u64);
        let mut counts: BTreeMap<&str, Counts> = BTreeMap::new();
        let mut of_tags: BTreeMap<&str, Counts> = BTreeMap::new();
        for (truth, predicted) in truth.iter().zip(predicted) {
            same_length("tags of a sequence", predicted.len(), truth.len())?;
            tokens += truth.len() as u64;
            right += truth.iter().zip(predicted).filter(|(a, b)| a.as_ref() == b.as_ref()).count() as u64;
            for (truth, predicted) in truth.iter().zip(predicted) {
                count_word(&mut of_tags, truth.as_ref(), predicted.as_ref());
            }
            let there: HashSet<Entity> = entities(truth).into_iter().collect();
            for entity in &there {
                counts.entry(entity.kind).or_default().support += 1;
            }
            for entity in entities(predicted) {
                let count = counts.entry(entity.kind).or_default();
                count.predicted += 1;
                count.right += u64::from(there.contains(&entity));
            }
        }
        let per_type = counts.iter().map(|(kind, count)| count.named(kind)).collect();
        let Averages { macro_, micro, weighted } = Averages::of(&counts.into_values().collect::<Vec<_>>());
        of_tags.remove(OUTSIDE);
        let of_words = Averages::of(&of_tags.into_values().collect::<Vec<_>>());
        Ok(Self {
            tokens,
            accuracy: ratio(right as f64, tokens as f64),
            precision: micro.precision,
            recall: micro.recall,
            f1: micro.f1,
            macro_,
            weighted,
            token: of_words.micro,
            token_macro: of_words.macro_,
            per_type,
        })
    }

    /// The scores over all entities.
    fn micro(&self) -> Scores {
        Scores { precision: self.precision, recall: self.recall, f1: self.f1 }
    }

    /// The report for a terminal: at most `max_types` types of entity, the worst first, then the averages.
    pub fn table(&self, max_types: usize) -> String {
        let averages = [
            Row::mean("over all", self.micro()),
            Row::mean("mean", self.macro_),
            Row::mean("single words", self.token),
            Row::mean("mean over tags", self.token_macro),
        ];
        table("entity", "types", &self.per_type, max_types, &averages)
            + &format!("\ntoken accuracy {:.3}   ({} tokens)\n", self.accuracy, self.tokens)
    }
}

impl Report for TagReport {
    fn figures(&self) -> Vec<(&'static str, f64)> {
        let mut figures = vec![("accuracy", self.accuracy)];
        for (names, scores) in [
            (SCORES, self.micro()),
            (MICRO, self.micro()),
            (MACRO, self.macro_),
            (WEIGHTED, self.weighted),
            (TOKEN, self.token),
            (TOKEN_MACRO, self.token_macro),
        ] {
            figures.extend(scores.named(names));
        }
        figures
    }
}

/// Counts a word of the tag `truth` that was given the tag `predicted`.
fn count_word<'a>(counts: &mut BTreeMap<&'a str, Counts>, truth: &'a str, predicted: &'a str) {
    counts.entry(truth).or_default().support += 1;
    let count = counts.entry(predicted).or_default();
    count.predicted += 1;
    count.right += u64::from(truth == predicted);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inside_tag_without_a_beginning_begins_an_entity() {
        let found = entities(&["O", "I-PER", "I-PER", "I-LOC", "B-LOC", "", "I-"]);
        let ends: Vec<_> = found.iter().map(|entity| (entity.kind, entity.first, entity.last)).collect();
        assert_eq!(ends, [("PER", 1, 2), ("LOC", 3, 3), ("LOC", 4, 4), ("_", 6, 6)]);
    }

    #[test]
    fn an_entity_with_one_wrong_end_is_not_found() {
        let report = TagReport::new(&[vec!["B-PER", "I-PER", "O"]], &[vec!["B-PER", "O", "O"]]).unwrap();
        assert_eq!((report.f1, report.accuracy), (0.0, 2.0 / 3.0));
        assert_eq!(report.token, Scores { precision: 1.0, recall: 0.5, f1: 2.0 / 3.0 });
        assert_eq!(report.token_macro.f1, 0.5);
        assert!(TagReport::new(&[vec!["O"]], &[vec!["O", "O"]]).is_err());
        assert_eq!(TagReport::new::<&str, &str>(&[], &[]).unwrap().f1, 0.0);
    }
}
