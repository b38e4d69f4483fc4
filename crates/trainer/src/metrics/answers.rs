//! An answer in words beside the one that is right.
//!
//! Each figure is that of the program people compare with: exact match and F1 of SQuAD's evaluation (as in
//! `torchmetrics`), corpus BLEU of `sacrebleu` with its defaults (the tokenizer of mteval-v13a, exponential
//! smoothing), ROUGE-L of `rouge-score` without stemming. SQuAD's words are those between white space and ROUGE's are
//! of `a` to `z` and digits, so in a language that is written otherwise F1 is coarse and ROUGE-L is 0.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::{InvalidPredictions, Report, ratio, same_length};
use crate::event::null_is_nan;

/// The longest run of words that BLEU compares.
const MOST_WORDS: usize = 4;

/// Figures of answers, each 0 to 1 but `bleu`, which is 0 to 100 as it is always given. Without answers they are NaN.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnswerReport {
    /// Answers that the figures are taken over.
    pub answers: u64,
    /// Share of answers that are right to the word; case, punctuation and English articles apart.
    #[serde(deserialize_with = "null_is_nan")]
    pub exact_match: f64,
    /// Mean F1 of the words of an answer, in any order.
    #[serde(deserialize_with = "null_is_nan")]
    pub token_f1: f64,
    /// Runs of one to four words that stand in the right answer too, over all answers together.
    #[serde(deserialize_with = "null_is_nan")]
    pub bleu: f64,
    /// Mean F1 of the longest sequence of words that both have.
    #[serde(rename = "rougeL", deserialize_with = "null_is_nan")]
    pub rouge_l: f64,
}

impl AnswerReport {
    /// Figures of `answers` against the `right` ones.
    ///
    /// # Errors
    /// When lengths differ.
    pub fn new<S: AsRef<str>>(right: &[S], answers: &[S]) -> Result<Self, InvalidPredictions> {
        same_length("answers", answers.len(), right.len())?;
        let pairs = || right.iter().zip(answers).map(|(right, answer)| (right.as_ref(), answer.as_ref()));
        let mean = |figure: fn(&str, &str) -> f64| {
            pairs().map(|(right, answer)| figure(right, answer)).sum::<f64>() / right.len() as f64
        };
        Ok(Self {
            answers: right.len() as u64,
            exact_match: mean(|right, answer| f64::from(u8::from(squad_words(right) == squad_words(answer)))),
            token_f1: mean(token_f1),
            bleu: if right.is_empty() { f64::NAN } else { bleu(pairs()) },
            rouge_l: mean(rouge_l),
        })
    }

    /// The report for a terminal.
    pub fn table(&self) -> String {
        format!(
            "exact match     {:.2}%\ntoken F1        {:.4}\nBLEU            {:.2}\nROUGE-L         {:.4}\nanswers         {}\n",
            100.0 * self.exact_match,
            self.token_f1,
            self.bleu,
            self.rouge_l,
            self.answers
        )
    }
}

impl Report for AnswerReport {
    fn figures(&self) -> Vec<(&'static str, f64)> {
        vec![
            ("exact_match", self.exact_match),
            ("token_f1", self.token_f1),
            ("bleu", self.bleu),
            ("rougeL", self.rouge_l),
        ]
    }
}

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a pattern of this file")
}

/// Words as SQuAD's evaluation compares them: lower case, without punctuation and articles.
fn squad_words(text: &str) -> Vec<String> {
    static ARTICLES: LazyLock<Regex> = LazyLock::new(|| regex(r"\b(a|an|the)\b"));
    let plain: String = text.to_lowercase().chars().filter(|character| !character.is_ascii_punctuation()).collect();
    ARTICLES.replace_all(&plain, " ").split_whitespace().map(str::to_owned).collect()
}

/// F1 of the words that two texts share. A text without words is right beside another such, and only there.
fn token_f1(right: &str, answer: &str) -> f64 {
    let (right, answer) = (squad_words(right), squad_words(answer));
    if right.is_empty() || answer.is_empty() {
        return f64::from(u8::from(right == answer));
    }
    harmonic(shared(&counts(right.iter()), &counts(answer.iter())), right.len(), answer.len())
}

/// F1 of `shared` among as many as both have.
fn harmonic(shared: usize, right: usize, answer: usize) -> f64 {
    ratio(2.0 * shared as f64, (right + answer) as f64)
}

fn counts<T: Hash + Eq>(items: impl Iterator<Item = T>) -> HashMap<T, usize> {
    let mut counts = HashMap::new();
    items.for_each(|item| *counts.entry(item).or_default() += 1);
    counts
}

/// How many items both have, each as often as the one that has it less often.
fn shared<T: Hash + Eq>(a: &HashMap<T, usize>, b: &HashMap<T, usize>) -> usize {
    a.iter().map(|(item, count)| *count.min(b.get(item).unwrap_or(&0))).sum()
}

/// Words as mteval-v13a divides them: punctuation apart, but for points and commas within numbers.
fn bleu_words(text: &str) -> Vec<String> {
    static RULES: LazyLock<[(Regex, &str); 4]> = LazyLock::new(|| {
        [
            (regex(r"([\{-\~\[-` -\&\(-\+:-@/])"), " $1 "),
            (regex(r"([^0-9])([.,])"), "$1 $2 "),
            (regex(r"([.,])([^0-9])"), " $1 $2"),
            (regex(r"([0-9])(-)"), "$1 $2 "),
        ]
    });
    let mut text = text.trim_end().replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    for (entity, character) in [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")] {
        text = text.replace(entity, character);
    }
    text = format!(" {text} ");
    for (pattern, spaced) in RULES.iter() {
        text = pattern.replace_all(&text, *spaced).into_owned();
    }
    text.split_whitespace().map(str::to_owned).collect()
}

/// Corpus BLEU (Papineni and others, 2002), 0 to 100. A length of which nothing matches counts half of one match, the
/// next such length a fourth, and so on; a corpus in which no answer has four words has none.
fn bleu<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> f64 {
    let (mut matches, mut totals) = ([0; MOST_WORDS], [0; MOST_WORDS]);
    let (mut right_len, mut answer_len) = (0, 0);
    for (right, answer) in pairs {
        let (right, answer) = (bleu_words(right), bleu_words(answer));
        right_len += right.len();
        answer_len += answer.len();
        for n in 1..=MOST_WORDS {
            matches[n - 1] += shared(&counts(right.windows(n)), &counts(answer.windows(n)));
            totals[n - 1] += (answer.len() + 1).saturating_sub(n);
        }
    }
    if matches == [0; MOST_WORDS] || totals.contains(&0) {
        return 0.0;
    }
    let mut smooth = 1.0;
    let logarithms = matches.iter().zip(totals).map(|(matches, total)| {
        let matches = if *matches == 0 {
            smooth /= 2.0;
            smooth
        } else {
            *matches as f64
        };
        (100.0 * matches / total as f64).ln()
    });
    let mean = logarithms.sum::<f64>() / MOST_WORDS as f64;
    let brevity = if answer_len < right_len { (1.0 - right_len as f64 / answer_len as f64).exp() } else { 1.0 };
    brevity * mean.exp()
}

/// ROUGE-L (Lin, 2004) of two texts: F1 of their longest common sequence of words.
fn rouge_l(right: &str, answer: &str) -> f64 {
    let words = |text: &str| -> Vec<String> {
        let lower = text.to_lowercase();
        let words = lower.split(|character: char| !(character.is_ascii_lowercase() || character.is_ascii_digit()));
        words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let (right, answer) = (words(right), words(answer));
    // longest[i]: of the words of `right` so far and the first i of `answer`.
    let mut longest = vec![0; answer.len() + 1];
    for word in &right {
        let mut before = 0;
        for (i, other) in answer.iter().enumerate() {
            let above = longest[i + 1];
            longest[i + 1] = if word == other { before + 1 } else { above.max(longest[i]) };
            before = above;
        }
    }
    harmonic(longest[answer.len()], right.len(), answer.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_to_score_is_no_figure_and_lengths_must_agree() {
        let report = AnswerReport::new::<&str>(&[], &[]).unwrap();
        assert!(report.bleu.is_nan() && report.exact_match.is_nan() && report.metrics().is_empty());
        assert!(AnswerReport::new(&["a"], &[]).is_err());
    }

    #[test]
    fn the_same_answers_are_all_right_and_others_all_wrong() {
        let right = ["The parcel, 12.50 euros, is on its way.", "Yes"];
        let same = AnswerReport::new(&right, &right).unwrap();
        assert_eq!((same.exact_match, same.token_f1, same.rouge_l), (1.0, 1.0, 1.0));
        assert!((same.bleu - 100.0).abs() < 1e-9);
        let other = AnswerReport::new(&right, &["no one here knows", ""]).unwrap();
        assert_eq!((other.exact_match, other.token_f1, other.bleu, other.rouge_l), (0.0, 0.0, 0.0, 0.0));
    }
}
