//! E-mail and IP addresses.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use super::{Around, Check, near_before, near_behind, word_before};

pub(super) const EMAIL: &[(&str, Check)] =
    &[(r"(?i)[a-z0-9_][a-z0-9._%+'-]{0,63}@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.){1,8}[a-z]{2,24}", email)];

// An IPv6 address may end in an IPv4 address.
pub(super) const IP: &[(&str, Check)] =
    &[(r"[0-9A-Fa-f:]{2,40}(?:(?:\.[0-9]{1,3}){3})?", ipv6), (r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}", ipv4)];

/// Endings of files that are no top-level domain: `icon@2x.png` is a file.
const FILES: &[&str] = &[
    "png", "jpg", "jpeg", "gif", "svg", "webp", "bmp", "ico", "css", "js", "ts", "tsx", "jsx", "json", "html", "xml",
    "pdf", "txt", "exe",
];

fn email(text: &str, candidate: Range<usize>) -> Option<Range<usize>> {
    let address = &text[candidate.clone()];
    let ending = address.rsplit('.').next().unwrap_or_default().to_lowercase();
    let [behind, _] = Around::new(text, &candidate).behind;
    let goes_on = behind.is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '@' | '_' | '-'));
    if goes_on || FILES.contains(&ending.as_str()) {
        return None;
    }
    // A user name and password in front of a host: `ftp://user:secret@example.com`.
    let line = near_before(text, candidate.start);
    let line = &line[line.rfind(char::is_whitespace).map_or(0, |at| at + 1)..];
    if let Some((_, authority)) = line.rsplit_once("://")
        && !authority.contains(['/', '?', '#'])
    {
        return None;
    }
    // A path on another machine: `git@example.com:group/project.git`.
    if let Some(path) = near_behind(text, candidate.end).strip_prefix(':') {
        let path = path.split(char::is_whitespace).next().unwrap_or_default();
        if (path.contains('/') && !path.contains("//")) || path.ends_with(".git") {
            return None;
        }
    }
    Some(candidate)
}

/// Words in front of numbers with four parts that are no addresses.
const NUMBERED: &[&str] = &[
    "v",
    "ver",
    "version",
    "versions",
    "release",
    "build",
    "firmware",
    "update",
    "driver",
    "rev",
    "revision",
    "section",
    "sections",
    "sec",
    "chapter",
    "clause",
    "paragraph",
    "figure",
    "fig",
    "table",
    "appendix",
    "article",
];

/// As [`NUMBERED`], in Chinese, where words have no gaps between them.
const NUMBERED_CHINESE: &[&str] = &["版本", "版本号", "版", "固件", "第", "章节", "章", "节"];

fn ipv4(text: &str, candidate: Range<usize>) -> Option<Range<usize>> {
    let address = &text[candidate.clone()];
    // Rust's parser refuses leading zeros, as in `10.01.2024.1`.
    let octets = address.parse::<Ipv4Addr>().ok()?.octets();
    // This machine, every machine, masks.
    if matches!(octets[0], 0 | 127 | 255) {
        return None;
    }
    let Around { before: [before, beyond], behind: [behind, further] } = Around::new(text, &candidate);
    let alphanumeric = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let joined_before = match before {
        Some('.') => alphanumeric(beyond),
        Some('-' | '/') => beyond.is_some_and(|c| c.is_ascii_alphabetic()),
        Some('_' | '§') => true,
        other => alphanumeric(other),
    };
    let joined_behind = match behind {
        Some('.') => alphanumeric(further),
        Some('-') => further.is_some_and(|c| c.is_ascii_alphabetic()),
        Some('_') => true,
        other => alphanumeric(other),
    };
    if joined_before || joined_behind {
        return None;
    }
    let before = near_before(text, candidate.start);
    let word = word_before(text, candidate.start);
    let word = word.trim_end_matches(['为', '是', '号']);
    let numbered = NUMBERED.contains(&word) || word.ends_with("version") || before.trim_end().ends_with('§');
    (!numbered && !NUMBERED_CHINESE.iter().any(|ending| word.ends_with(ending))).then_some(candidate)
}

fn ipv6(text: &str, candidate: Range<usize>) -> Option<Range<usize>> {
    // A colon or a group behind it belongs to the sentence.
    let mut range = candidate;
    while text[range.clone()].ends_with(':') && !text[range.clone()].ends_with("::") {
        range.end -= 1;
    }
    let address = &text[range.clone()];
    let Around { before: [before, _], behind: [behind, further] } = Around::new(text, &range);
    let part = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    let joined = part(before) || part(behind) || before == Some(':') || (behind == Some('.') && part(further));
    if joined || behind == Some(':') && (further == Some(':') || part(further)) {
        return None;
    }
    let parsed: Ipv6Addr = address.parse().ok()?;
    let first = parsed.segments()[0];
    let is_address = if address.contains("::") {
        // Names in programs look like this too: `bad::cafe`. An address begins with what is given out.
        parsed.to_ipv4_mapped().is_some_and(|v4| !v4.is_loopback() && !v4.is_unspecified())
            || matches!(first, 0x64 | 0x2000..=0x3fff | 0xfc00..=0xfdff | 0xfe80..=0xfebf)
    } else {
        // Eight pairs of digits are the number of a device.
        address.contains('.') || address.split(':').any(|group| group.len() != 2)
    };
    is_address.then_some(range)
}
