//! Personal data, replaced by placeholders.
//!
//! A kind is found by a regular expression, which gives candidates, and a check of what a regular expression cannot say:
//! check digits, ranges, and what stands before and behind. Where two kinds claim the same characters, the stricter has
//! them: the order of [`Redactor`]'s detectors.

mod network;
mod numbers;
mod phone;

use std::collections::BTreeMap;
use std::ops::Range;

use rayon::prelude::*;
use regex::Regex;

use super::Conversation;
use crate::config::{RedactConfig, RedactKind, RedactPattern};
use crate::error::Error;

/// How many items of each kind were replaced, by the name of the kind or pattern.
pub type Counts = BTreeMap<String, u64>;

/// Replaces personal data by placeholders.
#[derive(Debug)]
pub struct Redactor {
    detectors: Vec<Detector>,
}

/// Looks for one form of one kind.
#[derive(Debug)]
struct Detector {
    name: String,
    regex: Regex,
    check: Check,
}

/// The part of a candidate that is an item, if there is one.
type Check = fn(&str, Range<usize>) -> Option<Range<usize>>;

impl Redactor {
    /// What `config` says.
    ///
    /// # Errors
    /// A pattern that is no regular expression or matches the empty text; a name that is none, or is used twice.
    pub fn new(config: &RedactConfig) -> Result<Self, Error> {
        let mut detectors: Vec<Detector> = Vec::new();
        for pattern in &config.patterns {
            let detector = custom(pattern)?;
            let is_kind = RedactKind::ALL.iter().any(|kind| kind.name() == detector.name);
            if is_kind || detectors.iter().any(|other| other.name == detector.name) {
                let message = format!("the name `{}` stands for something else already", pattern.name);
                return Err(Error::config("redact.patterns", message, "give every pattern a name of its own"));
            }
            detectors.push(detector);
        }
        // Strictest first.
        let kinds = [
            (RedactKind::Email, network::EMAIL),
            (RedactKind::Iban, numbers::IBAN),
            (RedactKind::ChineseId, numbers::CHINESE_ID),
            (RedactKind::Card, numbers::CARD),
            (RedactKind::ChineseMobile, phone::CHINESE_MOBILE),
            (RedactKind::Ip, network::IP),
            (RedactKind::Phone, phone::PHONE),
        ];
        for (kind, forms) in kinds.into_iter().filter(|(kind, _)| config.kinds.contains(kind)) {
            for (pattern, check) in forms {
                let regex = Regex::new(pattern).expect("a constant expression");
                detectors.push(Detector { name: kind.name().into(), regex, check: *check });
            }
        }
        Ok(Self { detectors })
    }

    /// Whether it looks for anything.
    pub fn is_active(&self) -> bool {
        !self.detectors.is_empty()
    }

    /// The text with placeholders, and how many there are of each kind.
    pub fn redact(&self, text: &str) -> (String, Counts) {
        let mut found: BTreeMap<usize, (usize, &str)> = BTreeMap::new();
        for detector in &self.detectors {
            let mut at = 0;
            while let Some(candidate) = detector.regex.find_at(text, at) {
                let item = (detector.check)(text, candidate.range()).filter(|item| is_free(&found, item));
                at = match item {
                    Some(item) => {
                        found.insert(item.start, (item.end, &detector.name));
                        item.end
                    }
                    // The item may begin inside a candidate that is none.
                    None => candidate.start() + text[candidate.start()..].chars().next().map_or(1, char::len_utf8),
                };
                if at >= text.len() {
                    break;
                }
            }
        }
        let mut counts = Counts::new();
        let mut redacted = String::with_capacity(text.len());
        let mut end = 0;
        for (start, (item_end, name)) in found {
            redacted.push_str(&text[end..start]);
            redacted.push_str(&format!("[{}]", name.to_uppercase()));
            *counts.entry(name.to_owned()).or_default() += 1;
            end = item_end;
        }
        redacted.push_str(&text[end..]);
        (redacted, counts)
    }

    /// Replaces in every message; returns how many there were of each kind.
    pub fn redact_conversations(&self, conversations: &mut [Conversation]) -> Counts {
        if !self.is_active() {
            return Counts::new();
        }
        let redact = |conversation: &mut Conversation| {
            let mut counts = Counts::new();
            for message in &mut conversation.messages {
                let (text, found) = self.redact(&message.content);
                if !found.is_empty() {
                    message.content = text;
                    add(&mut counts, found);
                }
            }
            counts
        };
        conversations.par_iter_mut().map(redact).reduce(Counts::new, |mut all, more| {
            add(&mut all, more);
            all
        })
    }
}

/// Adds counts to others.
pub fn add(counts: &mut Counts, more: Counts) {
    for (name, count) in more {
        *counts.entry(name).or_default() += count;
    }
}

/// Whether nothing that was found shares a character with the item.
fn is_free(found: &BTreeMap<usize, (usize, &str)>, item: &Range<usize>) -> bool {
    found.range(..item.end).next_back().is_none_or(|(_, (end, _))| *end <= item.start)
}

fn custom(pattern: &RedactPattern) -> Result<Detector, Error> {
    let refused = |message: String, hint: &str| Err(Error::config("redact.patterns", message, hint));
    let name = pattern.name.to_lowercase();
    if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || c == '_') {
        return refused(format!("`{}` is no name", pattern.name), "use letters, digits and `_`");
    }
    let hint = "the syntax is that of Rust's `regex`, without look-around and back-references";
    match Regex::new(&pattern.regex) {
        Err(error) => {
            let said = error.to_string();
            let what = said.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            refused(format!("`{}` is no regular expression: {what}", pattern.regex), hint)
        }
        Ok(regex) if regex.is_match("") => {
            refused(format!("`{}` matches the empty text", pattern.regex), "let it match one character or more")
        }
        Ok(regex) => Ok(Detector { name, regex, check: |_, range| Some(range).filter(|range| !range.is_empty()) }),
    }
}

/// The characters before and behind a part of a text, nearest first.
struct Around {
    before: [Option<char>; 2],
    behind: [Option<char>; 2],
}

impl Around {
    fn new(text: &str, range: &Range<usize>) -> Self {
        let mut before = text[..range.start].chars().rev();
        let mut behind = text[range.end..].chars();
        Self { before: [before.next(), before.next()], behind: [behind.next(), behind.next()] }
    }

    /// Whether a number stands alone here: it is no piece of a word, a longer number, an amount, a code or a path.
    fn parts_number(&self) -> bool {
        let alphanumeric = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
        let letter = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphabetic());
        let [before, beyond] = self.before;
        let joined_before = match before {
            Some('.' | ',' | '+') => digit(beyond),
            Some('-') => alphanumeric(beyond),
            Some('/') => letter(beyond),
            Some('_' | '#' | '$' | '€' | '£' | '¥' | '￥' | '№') => true,
            other => alphanumeric(other),
        };
        let [behind, beyond] = self.behind;
        let joined_behind = match behind {
            Some('.') => digit(beyond),
            Some('-') => alphanumeric(beyond),
            Some('_' | '%' | '€' | '元' | '円') => true,
            other => alphanumeric(other),
        };
        !joined_before && !joined_behind
    }
}

/// The digits of a text.
fn digits(text: &str) -> Vec<u32> {
    text.chars().filter_map(|c| c.to_digit(10)).collect()
}

/// At most so many bytes before or behind a place are looked at: what is further away says nothing, and a long text
/// takes no longer than it is.
const NEAR: usize = 256;

/// What stands before a place.
fn near_before(text: &str, at: usize) -> &str {
    &text[text.ceil_char_boundary(at.saturating_sub(NEAR))..at]
}

/// What stands behind a place.
fn near_behind(text: &str, at: usize) -> &str {
    &text[at..text.floor_char_boundary(at + NEAR)]
}

/// The word that says what stands at a place, in lower case: the last one before it, without `number`, `is` and the like.
fn word_before(text: &str, at: usize) -> String {
    let mut before = near_before(text, at);
    loop {
        before = before.trim_end_matches(|c: char| !c.is_alphanumeric());
        let start = before.trim_end_matches(char::is_alphanumeric).len();
        let word = before[start..].to_lowercase();
        if !matches!(word.as_str(), "number" | "numbers" | "no" | "nr" | "is" | "are") {
            return word;
        }
        before = &before[..start];
    }
}

#[cfg(test)]
mod tests;
