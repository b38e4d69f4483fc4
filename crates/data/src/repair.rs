//! Repairs white space and control characters, in any language.

/// The text with `\n` for every line end and paragraph mark, a plain space for each of Unicode's other spaces but the
/// ideographic one, and without control characters, byte-order marks, non-characters and U+FFFD, which stands where
/// something could not be decoded. Tabs stay, and joiners, which change how words look.
pub(crate) fn repair(text: &str) -> String {
    let mut repaired = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\t' | '\n' => repaired.push(character),
            // One line end, however it is written.
            '\r' if characters.peek() == Some(&'\n') => {}
            '\r' | '\u{85}' | '\u{2028}' => repaired.push('\n'),
            '\u{2029}' => repaired.push_str("\n\n"),
            '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' => repaired.push(' '),
            '\u{feff}' | '\u{fffd}' | '\u{fdd0}'..='\u{fdef}' => {}
            other if other.is_control() || u32::from(other) & 0xfffe == 0xfffe => {}
            other => repaired.push(other),
        }
    }
    repaired
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_and_spaces_become_plain_ones_and_control_characters_go() {
        assert_eq!(repair("a\r\nb\rc\nd\u{85}e\u{2028}f\u{2029}g"), "a\nb\nc\nd\ne\nf\n\ng");
        assert_eq!(repair("1\u{a0}000\u{202f}€\u{2003}x"), "1 000 € x");
        assert_eq!(repair("\u{feff}a\u{0}\u{7}\u{1b}[0m\u{9f}\u{fffd}\u{fffe}\u{1ffff}b\u{7f}"), "a[0mb");
    }

    #[test]
    fn what_belongs_to_a_language_or_to_code_stays() {
        for text in
            ["\tif x:\n\t\treturn  y  \n\n\n", "\u{3000}全角，空格", "می\u{200c}خواهم", "👩\u{200d}💻", "cafe\u{301}"]
        {
            assert_eq!(repair(text), text);
        }
    }
}
