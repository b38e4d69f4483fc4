//! Telephone numbers.

use std::ops::Range;

use super::{Around, Check, digits, near_before, near_behind, word_before};

pub(super) const CHINESE_MOBILE: &[(&str, Check)] = &[
    (r"(?:\+|00)86[ -]?1[3-9][0-9][ -]?[0-9]{4}[ -]?[0-9]{4}", chinese_mobile),
    (r"(?:86[ -]?)?1[3-9][0-9](?:[0-9]{8}| [0-9]{4} [0-9]{4}|-[0-9]{4}-[0-9]{4})", chinese_mobile),
];

pub(super) const PHONE: &[(&str, Check)] = &[
    (r"\+ ?[1-9][0-9]{0,14}(?:[ ./\x{a0}-]?\(?[0-9]{1,14}\)?){0,7}", international),
    (r"00[1-9][0-9]{0,14}(?:[ ./\x{a0}-]?\(?[0-9]{1,14}\)?){0,7}", international),
    (r"8[ -]?(?:\([3-9][0-9]{2}\)|[3-9][0-9]{2})[ -][0-9]{3}[ -]?[0-9]{2}[ -]?[0-9]{2}|89[0-9]{9}", alone),
    (r"(?:1[ .-]?)?(?:\([1-9][0-9]{2}\)[ .-]?|[1-9][0-9]{2}[ .-])[0-9]{3}[ .-][0-9]{4}", north_american),
    (r"\(0[1-9][0-9]{0,4}\)[ /-]?[0-9]{2,8}(?:[ -][0-9]{2,8}){0,4}", trunk_zero),
    (r"0[1-9][0-9]{0,4}[ /-][0-9]{2,8}(?:[ -][0-9]{2,8}){0,4}", trunk_zero),
    (r"0[1-9](?:\.[0-9]{2}){4}", trunk_zero),
    (r"01[567][0-9]{9}|0[1-9][0-9]{8,9}", one_piece),
    (r"(?:\([1-9][0-9]\) ?9?|[1-9][0-9] 9)[0-9]{4}-[0-9]{4}", alone),
    (r"[48]00-[0-9]{4}-[0-9]{3}", alone),
    (r"\(?[0-9](?:[ ./()-]{0,2}[0-9]){6,12}", announced),
];

/// The number with its extension, where it stands alone.
fn alone(text: &str, number: Range<usize>) -> Option<Range<usize>> {
    let whole = number.start..number.end + extension(near_behind(text, number.end));
    Around::new(text, &whole).parts_number().then_some(whole)
}

/// The length of an extension at the start, such as ` ext. 12` or `x345`; 0 where there is none.
fn extension(text: &str) -> usize {
    let marked = text.trim_start_matches(' ');
    let Some(rest) = ["ext.", "ext", "x"].iter().find_map(|mark| marked.strip_prefix(mark)) else { return 0 };
    let rest = rest.trim_start_matches(' ');
    let behind = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    if (1..=6).contains(&(rest.len() - behind.len())) { text.len() - behind.len() } else { 0 }
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
    shortened(text, candidate).find_map(|range| {
        let mut number = digits(&text[range.clone()]);
        let dialled = number.starts_with(&[0, 0]);
        if dialled {
            number.drain(..2);
        }
        let fits = is_dialable(&number) && number.len() >= if dialled { 10 } else { 9 };
        let around = Around::new(text, &range);
        let listed = around.behind[0] == Some(',') && around.behind[1].is_some_and(|c| c.is_ascii_digit());
        if fits && !listed && around.before[0] != Some('+') { alone(text, range) } else { None }
    })
}

/// Whether the digits begin with a country code, and are as many as its numbers may have.
///
/// Source: ITU-T E.164, "List of ITU-T Recommendation E.164 assigned country codes".
fn is_dialable(number: &[u32]) -> bool {
    let start = |count: usize| number.iter().take(count).fold(0, |number, digit| number * 10 + digit);
    match (start(1), start(2), start(3)) {
        (1 | 7, ..) => number.len() == 11,
        (_, 20 | 27 | 30..=34 | 36 | 39..=41 | 43..=49 | 51..=58 | 60..=66 | 81 | 82 | 84 | 86 | 90..=95 | 98, _)
        | (_, 42 | 21..=26 | 29 | 35 | 37 | 38 | 50 | 59 | 67..=69 | 85 | 88 | 96 | 97 | 99, _)
        | (_, _, 800 | 808) => number.len() <= 15,
        _ => false,
    }
}

/// Three, three and four digits, with one kind of separator.
fn north_american(text: &str, candidate: Range<usize>) -> Option<Range<usize>> {
    let number = &text[candidate.clone()];
    let digits = digits(number);
    let [area, exchange] = [10, 7].map(|from_end| &digits[digits.len() - from_end..][..3]);
    let separators: Vec<char> = number.chars().filter(|c| matches!(c, ' ' | '.' | '-')).collect();
    let bracketed = number.contains('(');
    let uniform = bracketed || separators.windows(2).all(|pair| pair[0] == pair[1]);
    let around = Around::new(text, &candidate);
    let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    // Groups between others are a list or a longer number, round ones are amounts.
    let spaced = !bracketed && number.contains(' ');
    let in_row = spaced
        && ((around.before[0] == Some(' ') && digit(around.before[1]))
            || (around.behind[0] == Some(' ') && digit(around.behind[1])));
    let round = spaced && (area[0] == 1 || (area[1..] == [0, 0] && exchange[1..] == [0, 0]));
    if uniform && !in_row && !round { alone(text, candidate) } else { None }
}

/// Groups of which the first begins with 0, as most countries outside North America write their numbers.
fn trunk_zero(text: &str, candidate: Range<usize>) -> Option<Range<usize>> {
    let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    shortened(text, candidate).find_map(|range| {
        let number = &text[range.clone()];
        let around = Around::new(text, &range);
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
        let in_dump = pairs
            && (is_dump(near_before(text, range.start).rsplit(' '))
                || is_dump(near_behind(text, range.end).split(' ')));
        let fits = (9..=13).contains(&count) && !other && !goes_on && !began && !in_dump;
        if fits { alone(text, range) } else { None }
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

/// Words in front of numbers that begin with 0 and are no telephone numbers.
const NUMBERED: &[&str] = &[
    "isbn",
    "isbn10",
    "order",
    "invoice",
    "id",
    "ref",
    "reference",
    "account",
    "code",
    "sku",
    "item",
    "part",
    "serial",
    "ticket",
    "订单",
    "单号",
    "订单号",
    "编号",
    "账号",
];

/// Ten digits or more in one piece, of which the first is 0.
fn one_piece(text: &str, candidate: Range<usize>) -> Option<Range<usize>> {
    let numbered = NUMBERED.contains(&&*word_before(text, candidate.start));
    // The digits themselves, as programs list them.
    let listed = text[candidate.clone()] == *"0123456789";
    if numbered || listed { None } else { alone(text, candidate) }
}

/// Words that announce a telephone number.
const ANNOUNCED: &[&str] = &[
    "phone",
    "telephone",
    "tel",
    "mobile",
    "cell",
    "cellphone",
    "fax",
    "whatsapp",
    "telefon",
    "teléfono",
    "téléphone",
    "telefono",
    "电话",
    "手机",
    "传真",
    "联系方式",
    "電話",
];

/// Digits in any groups, behind a word that says what they are.
fn announced(text: &str, candidate: Range<usize>) -> Option<Range<usize>> {
    let word = word_before(text, candidate.start);
    let word = word.trim_end_matches(['是', '为', '号', '码']);
    let is_announced =
        ANNOUNCED.iter().any(|known| if known.is_ascii() { word == *known } else { word.ends_with(known) });
    if is_announced { alone(text, candidate) } else { None }
}
