//! The words of a text and what stands between them.

use std::sync::LazyLock;

use jieba_rs::Jieba;
use regex::Regex;

/// A run of Han characters, or a word of another script with its apostrophes.
static WORD: LazyLock<Regex> = LazyLock::new(|| {
    let letters = r"[[\p{Alphabetic}\p{M}\p{N}]--\p{Han}]+";
    Regex::new(&format!(r"\p{{Han}}+|{letters}(?:['’]{letters})*")).expect("a constant expression")
});

/// The Chinese segmenter; its dictionary takes a moment to load, so only a text in Chinese does.
static JIEBA: LazyLock<Jieba> = LazyLock::new(Jieba::new);

/// A word and the text between it and the word before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word<'a> {
    /// White space and punctuation in front of it.
    pub gap: &'a str,
    /// The word.
    pub word: &'a str,
}

/// The words of a text, and what stands behind the last. Chinese is cut into words with jieba.
pub(crate) fn words(text: &str) -> (Vec<Word<'_>>, &str) {
    let mut words = Vec::new();
    let mut end = 0;
    for found in WORD.find_iter(text) {
        let gap = &text[end..found.start()];
        if is_chinese(found.as_str()) {
            let cut = JIEBA.cut(found.as_str(), true).into_iter().enumerate();
            words.extend(cut.map(|(index, token)| Word { gap: if index == 0 { gap } else { "" }, word: token.word }));
        } else {
            words.push(Word { gap, word: found.as_str() });
        }
        end = found.end();
    }
    (words, &text[end..])
}

/// A text of words with their gaps; the white space after a word that is left out goes with it.
pub(crate) fn joined<'a>(words: impl Iterator<Item = (&'a str, Option<&'a str>)>, rest: &'a str) -> String {
    let mut text = String::new();
    let mut dropped = false;
    for (gap, word) in words {
        text.push_str(if dropped { gap.trim_start() } else { gap });
        text.push_str(word.unwrap_or_default());
        dropped = word.is_none();
    }
    text.push_str(if dropped { rest.trim_start() } else { rest });
    text
}

/// How a word is looked up in lists: lower case, with a straight apostrophe.
pub(crate) fn key(word: &str) -> String {
    word.to_lowercase().replace('’', "'")
}

fn is_chinese(word: &str) -> bool {
    static HAN: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\p{Han}").expect("a constant expression"));
    HAN.is_match(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn english_and_chinese_are_cut_into_words_and_put_together_again() {
        let text = " I don’t know: 我们喜欢北京, v2.0!";
        let (words, rest) = words(text);
        let found: Vec<&str> = words.iter().map(|word| word.word).collect();
        assert_eq!(found, ["I", "don’t", "know", "我们", "喜欢", "北京", "v2", "0"]);
        assert_eq!(rest, "!");
        assert_eq!(joined(words.iter().map(|word| (word.gap, Some(word.word))), rest), text);
        let short = words.iter().map(|word| (word.gap, Some(word.word).filter(|word| *word != "know" && *word != "I")));
        assert_eq!(joined(short, rest), " don’t : 我们喜欢北京, v2.0!");
    }
}
