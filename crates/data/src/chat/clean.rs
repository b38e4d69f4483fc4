//! Cleaning of conversations: what is changed in their messages, and which are left out.

use std::collections::HashSet;
use std::path::PathBuf;

use rayon::prelude::*;

use super::{Conversation, Message};
use crate::clean::{ChangedRows, TextCleaner, check_limits};
use crate::config::CleanConfig;
use crate::error::Error;
use crate::near_duplicates::near_duplicates;
use crate::rows::{Row, content, drop_leaked, leave_out, note, place, within};

impl Row for Conversation {
    fn place(&self) -> &(PathBuf, u64) {
        &self.place
    }

    /// Who says what; how much it counts is no part of it.
    fn content(&self) -> [u8; 32] {
        content(self.messages.iter().flat_map(|message| [message.role.as_str(), message.content.as_str()]))
    }
}

/// Tests that `config` says nothing that conversations cannot be cleaned with.
///
/// A chat model learns to write what it reads: without capitals, endings or stop words it would never write them. What
/// shall not be learned is replaced, as `[redact]` says.
///
/// # Errors
/// A key that is for labelled texts alone; limits or a similarity that cannot be.
pub fn check_clean(config: &CleanConfig) -> Result<(), Error> {
    for (key, is_set) in [
        ("clean.lowercase", config.lowercase),
        ("clean.remove", !config.remove.is_empty()),
        ("clean.stop_words", config.stop_words.is_some()),
        ("clean.stem", config.stem.is_some()),
    ] {
        if is_set {
            let message = "it would change what a chat model learns to say";
            let hint = "leave it out; `redact.patterns` replaces what shall not be learned";
            return Err(Error::config(key, message, hint));
        }
    }
    check_limits(config)
}

/// Cleans every message; returns how many conversations it changed.
pub fn clean_messages(conversations: &mut [Conversation], cleaner: &TextCleaner) -> ChangedRows {
    if !cleaner.is_active() {
        return ChangedRows::default();
    }
    let clean = |conversation: &mut Conversation| {
        ChangedRows::of_row(cleaner, conversation.messages.iter_mut().map(|message| &mut message.content))
    };
    conversations.par_iter_mut().map(clean).sum()
}

/// Leaves out what `config` says; every count goes to `notes`.
pub(super) fn drop_rows(conversations: &mut Vec<Conversation>, config: &CleanConfig, notes: &mut Vec<String>) {
    if config.drop_empty {
        let kept: Vec<bool> = conversations.iter().map(|conversation| !is_empty(conversation)).collect();
        let dropped = leave_out(conversations, &kept);
        note(notes, "`clean.drop_empty` left out", &dropped, "in which the assistant, or nobody else, says anything");
    }
    within(conversations, "turns", [config.min_turns, config.max_turns], turns, notes);
    within(conversations, "characters", [config.min_characters, config.max_characters], characters, notes);
    if config.drop_duplicates {
        let mut seen = HashSet::new();
        let kept: Vec<bool> = conversations.iter().map(|conversation| seen.insert(conversation.content())).collect();
        let dropped = leave_out(conversations, &kept);
        note(notes, "`clean.drop_duplicates` left out", &dropped, "that stand before");
    }
    if let Some(threshold) = config.drop_near_duplicates {
        let texts: Vec<String> = conversations.iter().map(text).collect();
        let kept: Vec<bool> = near_duplicates(&texts, threshold).iter().map(Option::is_none).collect();
        let dropped = leave_out(conversations, &kept);
        note(notes, "`clean.drop_near_duplicates` left out", &dropped, "like one before");
    }
}

/// Leaves out the training conversations that stand in the other parts, or are nearly the same as one there.
pub(super) fn check_leakage(
    train: &mut Vec<Conversation>,
    others: [(&str, &[Conversation]); 2],
    config: &CleanConfig,
    notes: &mut Vec<String>,
) {
    drop_leaked(train, others, notes);
    if let Some(threshold) = config.drop_near_duplicates {
        let held_out: Vec<(&str, &Conversation)> =
            others.into_iter().flat_map(|(part, rows)| rows.iter().map(move |row| (part, row))).collect();
        let texts: Vec<String> = held_out.iter().map(|(_, row)| *row).chain(train.iter()).map(text).collect();
        let like = near_duplicates(&texts, threshold).split_off(held_out.len());
        let like: Vec<Option<&(&str, &Conversation)>> =
            like.into_iter().map(|other| other.and_then(|other| held_out.get(other))).collect();
        let pairs = train.iter().zip(&like);
        let named = pairs.filter_map(|(row, other)| {
            other.map(|(part, other)| format!("{} like {part} row {}", place(row), place(*other)))
        });
        let named: Vec<String> = named.collect();
        let kept: Vec<bool> = like.iter().map(Option::is_none).collect();
        leave_out(train, &kept);
        note(notes, "`clean.check_leakage` left out of training", &named, "that are like one in another part");
    }
}

fn is_empty(conversation: &Conversation) -> bool {
    let says = |message: &&Message| !message.content.trim().is_empty();
    let mut others =
        conversation.messages.iter().filter(|message| !matches!(message.role.as_str(), "assistant" | "system"));
    let mut answers = conversation.messages.iter().filter(|message| message.role == "assistant");
    let asks = others.clone().next().is_some();
    !answers.any(|message| says(&message)) || (asks && !others.any(|message| says(&message)))
}

/// Messages, without the system's.
fn turns(conversation: &Conversation) -> u64 {
    conversation.messages.iter().filter(|message| message.role != "system").count() as u64
}

fn characters(conversation: &Conversation) -> u64 {
    conversation.messages.iter().map(|message| message.content.chars().count() as u64).sum()
}

/// All that is said, by whom, for comparing.
fn text(conversation: &Conversation) -> String {
    let lines = conversation.messages.iter().flat_map(|message| [message.role.as_str(), "\n", &message.content, "\n"]);
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A conversation of these turns, user first; `|` ends a turn.
    fn conversation(line: u64, said: &str) -> Conversation {
        let roles = ["user", "assistant"].into_iter().cycle();
        let message = |(role, text): (&str, &str)| Message { role: role.into(), content: text.into(), weight: None };
        Conversation { messages: roles.zip(said.split('|')).map(message).collect(), place: ("f".into(), line) }
    }

    fn kept(config: &str, said: &[&str]) -> (Vec<u64>, Vec<String>) {
        let config: CleanConfig = toml::from_str(config).unwrap();
        check_clean(&config).unwrap();
        let mut rows: Vec<Conversation> = (1..).zip(said).map(|(line, said)| conversation(line, said)).collect();
        let mut notes = Vec::new();
        let changed = clean_messages(&mut rows, &TextCleaner::new(&config).unwrap());
        notes.push(changed.to_string());
        drop_rows(&mut rows, &config, &mut notes);
        (rows.into_iter().map(|row| row.place.1).collect(), notes)
    }

    #[test]
    fn conversations_are_repaired_then_left_out_by_emptiness_length_and_repetition() {
        let said = ["a\r\n|b", "a|b", " \t|b", "a|\u{a0}", "x|y|z|w|v|u", "long question here|and an answer", "c|d"];
        assert_eq!(kept("", &said).0, [1, 2, 3, 4, 5, 6, 7]);
        let (rows, notes) = kept("repair = true\ntrim = true\ndrop_empty = true\ndrop_duplicates = true", &said);
        assert_eq!(rows, [1, 5, 6, 7]);
        let expected = [
            "3",
            "`clean.drop_empty` left out 2 rows in which the assistant, or nobody else, says anything: f:3, f:4",
            "`clean.drop_duplicates` left out 1 rows that stand before: f:2",
        ];
        assert_eq!(notes, expected);
        assert_eq!(kept("min_turns = 3", &said).0, [5]);
        assert_eq!(kept("max_turns = 2\nmin_characters = 4\nmax_characters = 20", &said).0, [1]);
    }

    #[test]
    fn a_conversation_that_nobody_asks_in_is_not_empty() {
        let mut row = conversation(1, "a|b");
        row.messages.remove(0);
        assert!(!is_empty(&row));
        row.messages[0].content.clear();
        assert!(is_empty(&row));
    }

    #[test]
    fn near_duplicates_go_but_who_speaks_matters() {
        let text = "how do I reset the password of my account on the new phone|open the settings and choose reset";
        let near = text.replace("phone|", "phone?|");
        let (rows, notes) = kept("drop_near_duplicates = 0.8", &[text, &near, "something else|entirely"]);
        assert_eq!(rows, [1, 3]);
        assert!(notes[1].contains("left out 1 rows like one before: f:2"), "{notes:?}");
        let mut other = conversation(2, "a|b");
        other.messages.swap(0, 1);
        assert_ne!(other.content(), conversation(2, "b|a").content());
        let weighted = Message { weight: Some(0.0), ..other.messages[0].clone() };
        let same = Conversation { messages: vec![weighted, other.messages[1].clone()], place: ("g".into(), 7) };
        assert_eq!(other.content(), same.content());
    }

    #[test]
    fn what_is_held_out_or_nearly_so_is_left_out_of_training_and_named() {
        let text = "how do I reset the password of my account on the new phone|open the settings and choose reset";
        let near = text.replace("phone|", "phone?|");
        let rows = || vec![conversation(1, "a|b"), conversation(2, &near), conversation(3, "c|d")];
        let (validation, test) = ([conversation(8, "c|d")], [conversation(9, text)]);
        let others = [("validation", &validation[..]), ("test", &test[..])];
        let lines = |rows: &[Conversation]| rows.iter().map(|row| row.place.1).collect::<Vec<_>>();
        let (mut train, mut notes) = (rows(), Vec::new());
        check_leakage(&mut train, others, &CleanConfig::default(), &mut notes);
        assert!(lines(&train) == [1, 2] && notes[0].contains("f:3 as validation row f:8"), "{notes:?}");
        let config = CleanConfig { drop_near_duplicates: Some(0.8), ..CleanConfig::default() };
        let (mut train, mut notes) = (rows(), Vec::new());
        check_leakage(&mut train, others, &config, &mut notes);
        assert!(lines(&train) == [1] && notes[1].contains("f:2 like test row f:9"), "{notes:?}");
    }

    #[test]
    fn what_would_change_the_models_language_is_refused() {
        for (config, part) in [
            ("lowercase = true", "`clean.lowercase`: it would change"),
            ("remove = ['x']", "`clean.remove`"),
            ("stop_words = 'english'", "`clean.stop_words`"),
            ("stem = 'english'", "`clean.stem`"),
            ("drop_near_duplicates = 1.5", "`clean.drop_near_duplicates`: 1.5"),
            ("min_turns = 3\nmax_turns = 2", "`clean.min_turns`: 3 is more than `clean.max_turns` = 2"),
            ("min_characters = 3\nmax_characters = 2", "`clean.min_characters`: 3 is more than"),
        ] {
            let error = check_clean(&toml::from_str(config).unwrap()).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
