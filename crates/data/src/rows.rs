//! Rows of data with a place and a content: which are left out, and the notes that name them.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::error::Error;

/// A row of a file.
pub(crate) trait Row {
    /// The file, and the line from 1.
    fn place(&self) -> &(PathBuf, u64);

    /// What stands for all its texts: rows with the same texts have the same.
    fn content(&self) -> [u8; 32];
}

/// What stands for texts in their order.
pub(crate) fn content<'a>(texts: impl Iterator<Item = &'a str>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for text in texts {
        // The length goes in first, so that moving a boundary between two texts changes the hash.
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// Where a row stands, for a note.
pub(crate) fn place(row: &impl Row) -> String {
    format!("{}:{}", row.place().0.display(), row.place().1)
}

/// Leaves out what is not kept; returns where that stood.
pub(crate) fn leave_out<R: Row>(rows: &mut Vec<R>, kept: &[bool]) -> Vec<String> {
    let dropped = rows.iter().zip(kept).filter(|(_, kept)| !**kept).map(|(row, _)| place(row)).collect();
    let mut kept = kept.iter();
    rows.retain(|_| *kept.next().unwrap_or(&true));
    dropped
}

/// Leaves out the rows whose `measure` is below the first limit or above the second, and counts them in `notes`.
pub(crate) fn within<R: Row>(
    rows: &mut Vec<R>,
    what: &str,
    limits: [Option<u64>; 2],
    measure: impl Fn(&R) -> u64,
    notes: &mut Vec<String>,
) {
    let measured: Vec<u64> = if limits == [None, None] { return } else { rows.iter().map(measure).collect() };
    let [least, most] = limits;
    let short: Vec<bool> = measured.iter().map(|value| least.is_none_or(|least| *value >= least)).collect();
    let long: Vec<bool> = measured.iter().map(|value| most.is_none_or(|most| *value <= most)).collect();
    // Both are judged by the same rows, so the second list loses what the first left out.
    let long: Vec<bool> = long.iter().zip(&short).filter(|(_, kept)| **kept).map(|(long, _)| *long).collect();
    if let Some(least) = least {
        let dropped = leave_out(rows, &short);
        note(notes, &format!("`clean.min_{what}` left out"), &dropped, &format!("with fewer than {least} {what}"));
    }
    if let Some(most) = most {
        let dropped = leave_out(rows, &long);
        note(notes, &format!("`clean.max_{what}` left out"), &dropped, &format!("with more than {most} {what}"));
    }
}

/// Leaves out the training rows whose text stands in the other parts, naming them in `notes`.
pub(crate) fn drop_leaked<R: Row>(train: &mut Vec<R>, others: [(&str, &[R]); 2], notes: &mut Vec<String>) {
    let mut held_out = HashMap::new();
    for (part, rows) in others {
        for row in rows {
            held_out.entry(row.content()).or_insert_with(|| format!("{part} row {}", place(row)));
        }
    }
    let mut leaked = Vec::new();
    train.retain(|row| match held_out.get(&row.content()) {
        None => true,
        Some(other) => {
            leaked.push(format!("{} as {other}", place(row)));
            false
        }
    });
    note(notes, "`clean.check_leakage` left out of training", &leaked, "that stand in another part");
}

/// Of so many rows none is left to train on; the notes say why.
pub(crate) fn nothing_to_train_on(rows: usize, what: &str, notes: &[String]) -> Error {
    let message = format!("of {rows} {what} none is left to train on{}", appended(notes));
    Error::config("files", message, "[clean], [split] and `on_bad_row` say what is left out")
}

/// Notes as the rest of an error's message.
pub(crate) fn appended(notes: &[String]) -> String {
    notes.iter().map(|note| format!("; {note}")).collect()
}

/// Rows that a note names; of more it gives the number.
const NAMED: usize = 5;

/// Counts rows, and names the first.
pub(crate) fn note(notes: &mut Vec<String>, did: &str, rows: &[String], what: &str) {
    let mut text = format!("{did} {} rows {what}", rows.len());
    if !rows.is_empty() {
        text += &format!(": {}", rows[..rows.len().min(NAMED)].join(", "));
    }
    if rows.len() > NAMED {
        text += &format!(" and {} more", rows.len() - NAMED);
    }
    notes.push(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::labelled::Example;

    fn example(line: u64, text: &str, label: &str) -> Example {
        Example { text: text.into(), pair: None, labels: vec![label.into()], place: ("f.csv".into(), line) }
    }

    #[test]
    fn a_training_row_that_is_held_out_elsewhere_is_named_and_left_out() {
        let mut train = vec![example(1, "a", "x"), example(2, "b", "x"), example(3, "c", "x")];
        let (validation, test) = (vec![example(8, "b", "y")], vec![example(9, "c", "x"), example(10, "d", "x")]);
        let mut notes = Vec::new();
        drop_leaked(&mut train, [("validation", &validation), ("test", &test)], &mut notes);
        assert_eq!(train.iter().map(|example| &example.text[..]).collect::<Vec<_>>(), ["a"]);
        let named = "f.csv:2 as validation row f.csv:8, f.csv:3 as test row f.csv:9";
        assert!(notes[0].contains("2 rows") && notes[0].contains(named), "{notes:?}");
    }

    #[test]
    fn rows_outside_the_limits_are_left_out_each_for_one_reason() {
        let mut rows: Vec<Example> =
            (0..6).map(|length| example(length + 1, &"é".repeat(length as usize), "x")).collect();
        let mut notes = Vec::new();
        within(&mut rows, "characters", [Some(2), Some(4)], |row| row.text.chars().count() as u64, &mut notes);
        assert_eq!(rows.iter().map(|row| row.place.1).collect::<Vec<_>>(), [3, 4, 5]);
        let expected = [
            "`clean.min_characters` left out 2 rows with fewer than 2 characters: f.csv:1, f.csv:2",
            "`clean.max_characters` left out 1 rows with more than 4 characters: f.csv:6",
        ];
        assert_eq!(notes, expected);
    }
}
