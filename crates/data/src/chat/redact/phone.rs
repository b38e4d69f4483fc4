//! Telephone numbers.

use std::ops::Range;

use super::{Around, Check, digits, word_before};

pub(super) const CHINESE_MOBILE: &[(&str, Check)] = &[
    (r"(?:\+|00)86[ -]?1[3-9][0-9][ -]?[0-9]{4}[ -]?[0-9]{4}", chinese_mobile),
    (r"(?:86[ -]?)?1[3-9][0-9](?:[0-9]{8}| [0-9]{4} [0-9]{4}|-[0-9]{4}-[0-9]{4})", chinese_mobile),
];

pub(super) const PHONE: &[(&str, Check)] = &[
    (r"\+ ?[1-9][0-9]{0,14}(?:[ ./\x{a0}-]?\(?[0-9]{1,14}\)?){0,7}", international),
    (r"00[1-9][0-9]{0,14}(?:[ ./\x{a0}-]?\(?[0-9]{1,14}\)?){0,7}", international),
    (r"(?:1[ .-]?)?(?:\([2-9][0-9]{2}\)[ .-]?|[2-9][0-9]{2}[ .-])[2-9][0-9]{2}[ .-][0-9]{4}", north_american),
    (r"\(0[1-9][0-9]{0,4}\)[ /-]?[0-9]{2,8}(?:[ -][0-9]{2,8}){0,4}", trunk_zero),
    (r"0[1-9][0-9]{0,4}[ /-][0-9]{2,8}(?:[ -][0-9]{2,8}){0,4}", trunk_zero),
    (r"0[1-9](?:\.[0-9]{2}){4}", trunk_zero),
    (r"0(?:7[1-9][0-9]{8}|[789]0[0-9]{8}|10[0-9]{8}|1[567][0-9]{8,9}|[67][0-9]{8})", mobile),
    (r"8[ -]?(?:\([3489][0-9]{2}\)|[3489][0-9]{2})[ -][0-9]{3}[ -][0-9]{2}[ -][0-9]{2}", alone),
    (r"\([1-9][0-9]\) ?9?[0-9]{4}-[0-9]{4}", alone),
    (r"[48]00-[0-9]{3}-[0-9]{4}|[48]00-[0-9]{4}-[0-9]{3}", alone),
];

fn alone(text: &str, candidate: Range<usize>) -> Option<Range<usize>> {
    Around::new(text, &candidate).parts_number().then_some(candidate)
}

/// Behind a `+` only 86 goes before a mobile number: `+1 ...` is North America's.
fn chinese_mobile(text: &str, candidate: Range<usize>) -> Option<Range<usize>> {
    let foreign = text[..candidate.start].ends_with('+');
    (!foreign).then_some(candidate).and_then(|candidate| alone(text, candidate))
}

/// The candidate, and what is left of it as groups at its end go, one after the other. A bracket that was opened
/// belongs to its group.
fn shortened(text: &str, candidate: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let is_end = move |at: &usize| digit(*at) && !digit(at + 1);
    let ends = candidate.clone().rev().filter(is_end);
    ends.map(move |at| {
        let opened = bytes[candidate.start..at].iter().rev().find(|byte| matches!(byte, b'(' | b')')) == Some(&b'(');
        candidate.start..at + 1 + usize::from(opened && bytes.get(at + 1) == Some(&b')'))
    })
}

/// A number behind `+` or `00`. Groups behind it that make it too long are left.
fn international(text: &str, candidate: Range<usize>) -> Option<Range<usize>> {
    shortened(text, candidate).find(|range| {
        let mut number = digits(&text[range.clone()]);
        let dialled = number.starts_with(&[0, 0]);
        if dialled {
            number.drain(..2);
        }
        let fits = is_dialable(&number) && number.len() >= if dialled { 10 } else { 9 };
        let around = Around::new(text, range);
        let listed = around.behind[0] == Some(',') && around.behind[1].is_some_and(|c| c.is_ascii_digit());
        fits && !listed && around.before[0] != Some('+') && around.parts_number()
    })
}

/// Whether the digits begin with a country code, and are as many as its numbers may have.
///
/// Source: ITU-T E.164, "List of ITU-T Recommendation E.164 assigned country codes".
fn is_dialable(number: &[u32]) -> bool {
    let start = |count: usize| number.iter().take(count).fold(0, |number, digit| number * 10 + digit);
    match (start(1), start(2), start(3)) {
        (1, ..) => number.len() == 11 && number[1] >= 2 && number[4] >= 2,
        (7, ..) => number.len() == 11,
        (_, 20 | 27 | 30..=34 | 36 | 39..=41 | 43..=49 | 51..=58 | 60..=66 | 81 | 82 | 84 | 86 | 90..=95 | 98, _)
        | (_, 42 | 21..=26 | 29 | 35 | 37 | 38 | 50 | 59 | 67..=69 | 85 | 88 | 96 | 97 | 99, _)
        | (_, _, 800 | 808) => number.len() <= 15,
        _ => false,
    }
}

/// Three, three and four digits.
///
/// Source: North American Numbering Plan: neither the first nor the second group begins with 0 or 1 or ends in 11.
fn north_american(text: &str, candidate: Range<usize>) -> Option<Range<usize>> {
    let number = &text[candidate.clone()];
    let mut digits = digits(number);
    if digits.len() == 11 {
        digits.remove(0);
    }
    let is_service = digits[1..3] == [1, 1] || digits[4..6] == [1, 1];
    let separators: Vec<char> = number.chars().filter(|c| matches!(c, ' ' | '.' | '-')).collect();
    let bracketed = number.contains('(');
    let uniform = bracketed || separators.windows(2).all(|pair| pair[0] == pair[1]);
    let around = Around::new(text, &candidate);
    let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    // Groups between others are a list or a longer number.
    let spaced = !bracketed && number.contains(' ');
    let in_row = spaced
        && ((around.before[0] == Some(' ') && digit(around.before[1]))
            || (around.behind[0] == Some(' ') && digit(around.behind[1])));
    let round = spaced && digits[1..3] == [0, 0] && digits[4..6] == [0, 0];
    (!is_service && uniform && !in_row && !round && around.parts_number()).then_some(candidate)
}

/// Groups of which the first begins with 0, as most countries outside North America write their numbers.
fn trunk_zero(text: &str, candidate: Range<usize>) -> Option<Range<usize>> {
    let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    shortened(text, candidate).find(|range| {
        let number = &text[range.clone()];
        let around = Around::new(text, range);
        let groups: Vec<usize> = number.split(|c: char| !c.is_ascii_digit()).map(str::len).filter(|n| *n > 0).collect();
        let count = groups.iter().sum::<usize>();
        // American postal codes, social security and employer numbers.
        let other = number.contains('-') && matches!(groups[..], [5, 4, ..] | [3, 2, 4, ..] | [2, 7, ..]);
        // A time or a date goes on with a colon or a slash.
        let goes_on = matches!(around.behind[0], Some(':' | '/')) && digit(around.behind[1]);
        let began = match around.before[0] {
            Some(':') => digit(around.before[1]),
            Some('/') => digit(around.before[1]) && number.contains('/'),
            _ => false,
        };
        let pairs = groups.iter().all(|length| *length == 2);
        let in_dump = pairs && (is_dump(text[..range.start].rsplit(' ')) || is_dump(text[range.end..].split(' ')));
        (9..=12).contains(&count) && !other && !goes_on && !began && !in_dump && around.parts_number()
    })
}

/// Whether what stands next, behind a space, are bytes in hexadecimal digits. A pair may be a word, such as `de`.
fn is_dump<'a>(mut next: impl Iterator<Item = &'a str>) -> bool {
    let pair = |word: &&str| word.len() == 2 && word.chars().all(|c| c.is_ascii_hexdigit());
    let adjoining = next.next();
    let mut word = || next.next().map(|word| word.trim_matches(|c: char| c.is_ascii_punctuation())).filter(pair);
    let [first, second] = [word(), word()];
    adjoining == Some("") && first.is_some_and(|pair| second.is_some() || pair.contains(|c: char| c.is_ascii_digit()))
}

/// The mobile numbers of several countries, in one piece. A book's number may look the same.
fn mobile(text: &str, candidate: Range<usize>) -> Option<Range<usize>> {
    let is_book = word_before(text, candidate.start).starts_with("isbn");
    (!is_book).then_some(candidate).and_then(|candidate| alone(text, candidate))
}
