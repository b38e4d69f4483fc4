//! Where sentences end: at line breaks and at sentence-final punctuation, Chinese too.

/// Ends a sentence whatever follows.
const FULL_WIDTH: [char; 4] = ['。', '！', '？', '｡'];

/// Ends a sentence where white space follows.
const HALF_WIDTH: [char; 4] = ['.', '!', '?', '…'];

/// Belongs to the sentence that ended before it.
const CLOSING: [char; 13] = ['"', '\'', '”', '’', '»', ')', ']', '）', '」', '』', '】', '》', '〉'];

/// Words that a name or a number follows after their full stop.
const ABBREVIATIONS: [&str; 8] = ["Mr", "Mrs", "Ms", "Dr", "Prof", "St", "Fig", "vs"];

/// The sentences of a text, in order, without white space around them; none is empty.
pub(crate) fn sentences(text: &str) -> Vec<&str> {
    let parts = text.split(['\n', '\r']).flat_map(of_line);
    parts.map(str::trim).filter(|sentence| !sentence.is_empty()).collect()
}

fn of_line(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut characters = line.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let is_final = |character: char| FULL_WIDTH.contains(&character) || HALF_WIDTH.contains(&character);
        if !is_final(character) {
            continue;
        }
        // `?!`, `...` and the quotes and brackets that close here belong to this end.
        let mut full_width = FULL_WIDTH.contains(&character);
        let mut end = at + character.len_utf8();
        while let Some((next_at, next)) = characters.next_if(|(_, next)| is_final(*next) || CLOSING.contains(next)) {
            full_width |= FULL_WIDTH.contains(&next);
            end = next_at + next.len_utf8();
        }
        if full_width || ends(&line[start..at], character, &line[end..]) {
            found.push(&line[start..end]);
            start = end;
        }
    }
    found.push(&line[start..]);
    found
}

/// Whether a half-width mark between these texts ends a sentence.
fn ends(before: &str, mark: char, behind: &str) -> bool {
    let Some(next) = behind.chars().next() else { return true };
    if !next.is_whitespace() {
        // Chinese text has no space to put there.
        return matches!(mark, '!' | '?') && matches!(next, '\u{3400}'..='\u{9fff}');
    }
    if mark != '.' {
        return true;
    }
    let goes_on = behind.trim_start().starts_with(char::is_lowercase);
    let word = before.rsplit(|letter: char| !letter.is_alphanumeric()).next().unwrap_or(before);
    let is_initial = word.chars().count() == 1 && word.chars().all(char::is_uppercase) && word != "I";
    !goes_on && !is_initial && !ABBREVIATIONS.contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_end_at_final_marks_with_what_closes_behind_them() {
        let text = "He came. \"Did he?\" she said (twice!). It cost 3.50... Why?!  \nA title\r\n\r\nThe end";
        let found = ["He came.", "\"Did he?\"", "she said (twice!).", "It cost 3.50...", "Why?!", "A title", "The end"];
        assert_eq!(sentences(text), found);
        assert!(sentences(" \n\n ").is_empty() && sentences("").is_empty());
        assert_eq!(sentences("..."), ["..."]);
    }

    #[test]
    fn abbreviations_initials_and_numbers_end_none() {
        let text = "Dr. Smith met J. R. Jones, e.g. on May 3. at noon. So did I. Right?";
        assert_eq!(sentences(text), ["Dr. Smith met J. R. Jones, e.g. on May 3. at noon.", "So did I.", "Right?"]);
    }

    #[test]
    fn chinese_sentences_need_no_space_between_them() {
        let text = "今天天气很好。我们去公园吧！“真的吗？”他问。好吃!下次还来 版本3.5很快……是的";
        let found = ["今天天气很好。", "我们去公园吧！", "“真的吗？”", "他问。", "好吃!", "下次还来 版本3.5很快……是的"];
        assert_eq!(sentences(text), found);
    }

    #[test]
    fn no_character_but_white_space_is_lost() {
        let text = "A. b! c?d 好。\u{3000}”x\n(y.) z…";
        let letters = |text: &str| text.chars().filter(|letter| !letter.is_whitespace()).collect::<String>();
        assert_eq!(letters(&sentences(text).concat()), letters(text));
        assert_eq!(sentences(&"word ".repeat(100_000)).len(), 1);
    }
}
