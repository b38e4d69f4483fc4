//! Numbers that carry check digits: payment cards, bank accounts, Chinese identity cards.

use std::ops::Range;

use super::{Around, Check, digits};

pub(super) const CARD: &[(&str, Check)] = &[(r"[0-9](?:[ -]?[0-9]){11,18}", card)];

pub(super) const IBAN: &[(&str, Check)] = &[(r"[A-Za-z]{2}[0-9]{2}[ -]?[A-Za-z0-9]", iban)];

pub(super) const CHINESE_ID: &[(&str, Check)] =
    &[(r"[1-9][0-9]{5} ?(?:18|19|20)[0-9]{2}(?:0[1-9]|1[0-2])[0-3][0-9] ?[0-9]{3}[0-9Xx]", chinese_id)];

/// The longest beginning of the candidate that is a card number, in the groups that are printed on cards.
fn card(text: &str, candidate: Range<usize>) -> Option<Range<usize>> {
    let run = &text[candidate.clone()];
    let ends: Vec<usize> = run.char_indices().filter(|(_, c)| c.is_ascii_digit()).map(|(at, _)| at + 1).collect();
    (12..=ends.len()).rev().find_map(|length| {
        let range = candidate.start..candidate.start + ends[length - 1];
        let number = &text[range.clone()];
        let digits = digits(number);
        let is_card = is_issued(&digits) && luhn(&digits) && is_grouped(number);
        (is_card && Around::new(text, &range).parts_number()).then_some(range)
    })
}

/// Whether the digits are in one group, or in those of a card, with one kind of separator.
fn is_grouped(number: &str) -> bool {
    if number.contains(' ') && number.contains('-') {
        return false;
    }
    let groups: Vec<usize> = number.split([' ', '-']).map(str::len).collect();
    match groups[..] {
        [_] | [4, 6, 4 | 5] | [6, 13] => true,
        [4, 4, 4] => true,
        [4, 4, 4, last] => (1..=7).contains(&last),
        [4, 4, 4, 4, last] => (1..=3).contains(&last),
        _ => false,
    }
}

/// Whether an issuer gives out numbers of this beginning and length.
///
/// Source: ISO/IEC 7812 issuer identification numbers, as the card networks publish theirs.
fn is_issued(digits: &[u32]) -> bool {
    let start = |count: usize| digits[..count].iter().fold(0, |number, digit| number * 10 + digit);
    let length = digits.len();
    match (start(1), start(2), start(3), start(4)) {
        (4, ..) => matches!(length, 13 | 16 | 19),
        (_, 34 | 37, ..) | (_, _, _, 1800 | 2131) => length == 15,
        (_, 51..=55, ..) | (_, _, _, 2221..=2720) => length == 16,
        (_, _, 300..=305, _) | (_, 36 | 38 | 39, ..) => matches!(length, 14 | 16),
        (_, _, _, 6011 | 2200..=2204) | (_, 35 | 62 | 65, ..) | (_, _, 644..=649, _) => length >= 16,
        (_, _, _, 5018 | 5020 | 5038 | 5600..=5899 | 6304 | 6390 | 6759 | 6761..=6763) => true,
        (_, 60 | 81 | 82, ..) | (_, _, 508, _) | (_, _, _, 9792) => length == 16,
        _ => false,
    }
}

/// Whether the last digit checks the others.
///
/// Source: ISO/IEC 7812-1, annex B (Luhn's formula).
pub(super) fn luhn(digits: &[u32]) -> bool {
    let doubled = |digit: u32| if digit > 4 { digit * 2 - 9 } else { digit * 2 };
    let weigh = |(index, digit): (usize, &u32)| if index % 2 == 1 { doubled(*digit) } else { *digit };
    digits.iter().rev().enumerate().map(weigh).sum::<u32>().is_multiple_of(10)
}

/// The letters and digits of the length that the country has, in one piece or in groups of four.
fn iban(text: &str, candidate: Range<usize>) -> Option<Range<usize>> {
    let start = candidate.start;
    if text[..start].chars().next_back().is_some_and(|c| c.is_ascii_alphanumeric() || c == '_') {
        return None;
    }
    let country = text[start..start + 2].to_uppercase();
    let length = IBAN_LENGTHS.iter().find(|(known, _)| *known == country)?.1;
    let mut number = String::with_capacity(length);
    let mut end = start;
    for (at, c) in text[start..].char_indices() {
        if c.is_ascii_alphanumeric() {
            number.push(c.to_ascii_uppercase());
            end = start + at + 1;
            if number.len() == length {
                break;
            }
        } else {
            let separates = matches!(c, ' ' | '-') && number.len().is_multiple_of(4) && end == start + at;
            if !separates {
                return None;
            }
        }
    }
    let goes_on = text[end..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    (number.len() == length && !goes_on && mod_97(&number) == 1).then_some(start..end)
}

/// The remainder by 97 of the number with its first four characters at its end and letters as 10 to 35.
///
/// Source: ISO 13616-1, by ISO/IEC 7064 MOD 97-10.
pub(super) fn mod_97(number: &str) -> u32 {
    let value = |remainder: u32, c: char| {
        let digit = c.to_digit(36).unwrap_or(0);
        (remainder * if digit < 10 { 10 } else { 100 } + digit) % 97
    };
    number[4..].chars().chain(number[..4].chars()).fold(0, value)
}

fn chinese_id(text: &str, candidate: Range<usize>) -> Option<Range<usize>> {
    let number: Vec<char> = text[candidate.clone()].chars().filter(|c| *c != ' ').collect();
    let value = |range: Range<usize>| number[range].iter().filter_map(|c| c.to_digit(10)).fold(0, |n, d| n * 10 + d);
    let is_province =
        matches!(value(0..2), 11..=15 | 21..=23 | 31..=37 | 41..=46 | 50..=54 | 61..=65 | 71 | 81..=83 | 91);
    let (year, month, day) = (value(6..10), value(10..12), value(12..14));
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let is_date = (1..=days).contains(&day);
    let is_id = is_province && is_date && id_check(&number[..17]) == number[17].to_ascii_uppercase();
    (is_id && Around::new(text, &candidate).parts_number()).then_some(candidate)
}

/// The check character of the first 17 digits.
///
/// Source: GB 11643-1999, by ISO/IEC 7064 MOD 11-2.
pub(super) fn id_check(digits: &[char]) -> char {
    const CHECKS: [char; 11] = ['1', '0', 'X', '9', '8', '7', '6', '5', '4', '3', '2'];
    // The weight of a place is a power of two.
    let sum = digits.iter().filter_map(|c| c.to_digit(10)).fold(0, |sum, digit| (sum * 2 + digit) % 11);
    CHECKS[(sum * 2 % 11) as usize]
}

/// The length of a bank account number by its country.
///
/// Source: SWIFT, "IBAN Registry".
#[rustfmt::skip]
pub(super) const IBAN_LENGTHS: [(&str, usize); 89] = [
    ("AD", 24), ("AE", 23), ("AL", 28), ("AT", 20), ("AZ", 28), ("BA", 20), ("BE", 16), ("BG", 22), ("BH", 22), ("BI", 27),
    ("BR", 29), ("BY", 28), ("CH", 21), ("CR", 22), ("CY", 28), ("CZ", 24), ("DE", 22), ("DJ", 27), ("DK", 18), ("DO", 28),
    ("EE", 20), ("EG", 29), ("ES", 24), ("FI", 18), ("FK", 18), ("FO", 18), ("FR", 27), ("GB", 22), ("GE", 22), ("GI", 23),
    ("GL", 18), ("GR", 27), ("GT", 28), ("HN", 28), ("HR", 21), ("HU", 28), ("IE", 22), ("IL", 23), ("IQ", 23), ("IS", 26),
    ("IT", 27), ("JO", 30), ("KW", 30), ("KZ", 20), ("LB", 28), ("LC", 32), ("LI", 21), ("LT", 20), ("LU", 20), ("LV", 21),
    ("LY", 25), ("MC", 27), ("MD", 24), ("ME", 22), ("MK", 19), ("MN", 20), ("MR", 27), ("MT", 31), ("MU", 30), ("NI", 28),
    ("NL", 18), ("NO", 15), ("OM", 23), ("PK", 24), ("PL", 28), ("PS", 29), ("PT", 25), ("QA", 29), ("RO", 24), ("RS", 22),
    ("RU", 33), ("SA", 24), ("SC", 31), ("SD", 18), ("SE", 24), ("SI", 19), ("SK", 24), ("SM", 27), ("SO", 23), ("ST", 25),
    ("SV", 28), ("TL", 23), ("TN", 24), ("TR", 26), ("UA", 29), ("VA", 22), ("VG", 24), ("XK", 20), ("YE", 30),
];
