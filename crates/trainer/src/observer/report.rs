//! How figures read as text: units, times, colours, and generated text made safe to show.

use std::path::Path;
use std::time::Duration;

/// How much of the past an exponential mean keeps at each new value.
const KEEP: f64 = 0.9;

/// Columns that generated text may take.
const TEXT_WIDTH: usize = 76;

/// An exponential mean, corrected for having started at zero, so that its first value is that of the first number.
#[derive(Debug, Default)]
pub(super) struct Smoothed {
    sum: f64,
    weight: f64,
}

impl Smoothed {
    /// Takes in a number, one that is not finite excepted, and gives the mean: NaN before there is one.
    pub(super) fn add(&mut self, value: f64) -> f64 {
        if value.is_finite() {
            self.sum = KEEP * self.sum + (1.0 - KEEP) * value;
            self.weight = KEEP * self.weight + (1.0 - KEEP);
        }
        self.sum / self.weight
    }
}

/// Terminal colours, or none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint(pub(super) bool);

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub(super) fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    pub(super) fn red(self, text: &str) -> String {
        self.with("31", text)
    }

    pub(super) fn green(self, text: &str) -> String {
        self.with("32", text)
    }

    pub(super) fn yellow(self, text: &str) -> String {
        self.with("33", text)
    }

    pub(super) fn cyan(self, text: &str) -> String {
        self.with("36", text)
    }
}

/// A count in three digits: `812`, `15.2k`, `1.25M`.
pub(super) fn short_count(value: f64) -> String {
    if !value.is_finite() {
        return "?".to_owned();
    }
    // The limits are where rounding to three digits would give four.
    for (limit, unit, suffix) in [(999.5, 1.0, ""), (999.5e3, 1e3, "k"), (999.5e6, 1e6, "M"), (f64::MAX, 1e9, "G")] {
        if value.abs() < limit {
            let scaled = value / unit;
            let decimals = match scaled.abs() {
                _ if suffix.is_empty() => 0,
                size if size < 9.995 => 2,
                size if size < 99.95 => 1,
                _ => 0,
            };
            return format!("{scaled:.decimals$}{suffix}");
        }
    }
    format!("{value:.0e}")
}

/// `0:12`, `3:40`, `1:02:03`; days count as hours.
pub(super) fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// Four decimals, the usual resolution of a loss.
pub(super) fn loss(value: f64) -> String {
    if value.abs() < 1e4 || !value.is_finite() { format!("{value:.4}") } else { format!("{value:.3e}") }
}

/// Two decimals where they tell something.
pub(super) fn norm(value: f64) -> String {
    let plain = value == 0.0 || !value.is_finite() || (0.01..1e4).contains(&value.abs());
    if plain { format!("{value:.2}") } else { format!("{value:.1e}") }
}

/// A path as a shell takes it.
pub(super) fn shell_path(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |character: char| character.is_ascii_alphanumeric() || "_-./+,:@%\\".contains(character);
    if !text.is_empty() && text.chars().all(plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Generated text as lines of bounded width. An untrained model can emit any character, so those that would steer
/// the terminal become `?`.
pub(super) fn sample_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.trim_end().split('\n') {
        let line: String = line
            .trim_end_matches('\r')
            .chars()
            .map(|character| match character {
                '\t' => ' ',
                // The last two ranges turn text around on the screen.
                _ if character.is_control()
                    || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
                {
                    '?'
                }
                _ => character,
            })
            .collect();
        wrap(&line, &mut lines);
    }
    lines
}

/// Breaks a line at spaces, or inside a word that is longer than a line.
fn wrap(line: &str, lines: &mut Vec<String>) {
    let mut current = String::new();
    let mut width = 0;
    for word in line.split_inclusive(' ') {
        let word_width: usize = word.trim_end().chars().map(columns).sum();
        if width > 0 && width + word_width > TEXT_WIDTH {
            lines.push(std::mem::take(&mut current).trim_end().to_owned());
            width = 0;
        }
        for character in word.chars() {
            if width + columns(character) > TEXT_WIDTH && character != ' ' {
                lines.push(std::mem::take(&mut current));
                width = 0;
            }
            current.push(character);
            width += columns(character);
        }
    }
    lines.push(current.trim_end().to_owned());
}

/// Near enough: what lies from Hangul upwards is mostly two columns wide.
fn columns(character: char) -> usize {
    if character >= '\u{1100}' && !('\u{2000}'..'\u{2e80}').contains(&character) { 2 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_take_three_digits() {
        let counts = [0.0, 812.4, 999.6, 15_234.0, 99_960.0, 999_400.0, 999_600.0, 1.25e6, 3.1e9, f64::NAN];
        let texts: Vec<_> = counts.into_iter().map(short_count).collect();
        assert_eq!(texts, ["0", "812", "1.00k", "15.2k", "100k", "999k", "1.00M", "1.25M", "3.10G", "?"]);
    }

    #[test]
    fn times_read_like_a_clock() {
        let texts: Vec<_> = [0, 12, 220, 3723, 100_000].map(|s| clock(Duration::from_secs(s))).into();
        assert_eq!(texts, ["0:00", "0:12", "3:40", "1:02:03", "27:46:40"]);
    }

    #[test]
    fn the_smoothed_loss_starts_at_the_first_value_and_passes_over_nan() {
        let mut smoothed = Smoothed::default();
        assert!(smoothed.add(f64::NAN).is_nan());
        assert_eq!(smoothed.add(4.0), 4.0);
        let second = smoothed.add(2.0);
        assert!((second - (0.9 * 4.0 + 2.0) / 1.9).abs() < 1e-12);
        assert_eq!(smoothed.add(f64::INFINITY), second);
    }

    #[test]
    fn losses_and_norms_keep_their_digits() {
        assert_eq!([loss(2.501_26), loss(f64::NAN), loss(123_456.0)], ["2.5013", "NaN", "1.235e5"]);
        assert_eq!([norm(0.534), norm(0.001_23), norm(0.0), norm(f64::INFINITY)], ["0.53", "1.2e-3", "0.00", "inf"]);
    }

    #[test]
    fn generated_text_cannot_steer_the_terminal() {
        let lines = sample_lines("a\u{1b}[2Jb\rc\u{7}\n\td\u{202e}e\r\n\n");
        assert_eq!(lines, ["a?[2Jb?c?", " d?e"]);
    }

    #[test]
    fn long_lines_break_at_words_and_long_words_anywhere() {
        let lines = sample_lines(&format!("{}\n\n{}", "word ".repeat(40), "x".repeat(100)));
        assert!(lines.iter().all(|line| line.chars().count() <= TEXT_WIDTH));
        assert_eq!(lines[0], "word ".repeat(15).trim_end());
        assert_eq!(lines.join(" ").matches("word").count(), 40);
        assert_eq!(lines[3..], ["".to_owned(), "x".repeat(76), "x".repeat(24)]);
    }

    #[test]
    fn a_path_with_a_space_is_quoted_for_the_shell() {
        assert_eq!(shell_path(Path::new("runs/gpt-tiny/step-000500")), "runs/gpt-tiny/step-000500");
        assert_eq!(shell_path(Path::new("my runs/o'k")), r"'my runs/o'\''k'");
    }
}
