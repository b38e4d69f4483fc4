//! Scores as a table for a terminal.

use unicode_width::UnicodeWidthStr;

use super::{NamedScores, Scores, weighted_mean};

/// A label longer than this many cells is cut.
const MAX_LABEL_CELLS: usize = 40;

/// A line of the table.
pub(super) struct Row {
    label: String,
    scores: Scores,
    support: String,
}

impl Row {
    /// An average over classes.
    pub(super) fn mean(label: &str, scores: Scores) -> Self {
        Self { label: label.to_owned(), scores, support: String::new() }
    }
}

/// At most `most` classes, those with the lowest F1 first, what is left as one line, and the `averages` below.
pub(super) fn table(one: &str, many: &str, classes: &[NamedScores], most: usize, averages: &[Row]) -> String {
    let mut sorted: Vec<&NamedScores> = classes.iter().collect();
    // A class that does not occur says nothing about the model unless it was predicted.
    let rank = |class: &NamedScores| (class.support == 0 && class.predicted == 0, class.support == 0);
    sorted.sort_by(|a, b| {
        rank(a).cmp(&rank(b)).then(a.scores.f1.total_cmp(&b.scores.f1)).then(b.support.cmp(&a.support))
    });
    // One more line is no longer than a line that stands for it.
    let shown = if sorted.len() <= most + 1 { sorted.len() } else { most };
    let (shown, rest) = sorted.split_at(shown);
    let mut rows: Vec<Row> = shown
        .iter()
        .map(|class| Row { label: printable(&class.label), scores: class.scores, support: class.support.to_string() })
        .collect();
    if !rest.is_empty() {
        rows.push(Row {
            label: format!("({} better {many}, mean)", rest.len()),
            scores: weighted_mean(rest.iter().map(|class| (1.0, class.scores))),
            support: rest.iter().map(|class| class.support).sum::<u64>().to_string(),
        });
    }
    let labels = rows.iter().chain(averages).map(|row| row.label.width());
    let cells = labels.max().unwrap_or(0).max(one.width());
    let mut text = format!("{}  precision  recall     f1  support\n", padded(one, cells));
    let lines = |text: &mut String, rows: &[Row]| {
        for Row { label, scores: Scores { precision, recall, f1 }, support } in rows {
            let line = format!("{}  {precision:9.3}  {recall:6.3}  {f1:5.3}  {support:>7}", padded(label, cells));
            *text += line.trim_end();
            text.push('\n');
        }
    };
    lines(&mut text, &rows);
    text.push('\n');
    lines(&mut text, averages);
    text
}

/// `text` with spaces up to a width in cells, of which a Chinese character takes two.
fn padded(text: &str, cells: usize) -> String {
    format!("{text}{}", " ".repeat(cells.saturating_sub(text.width())))
}

/// The label on one line, without what would steer a terminal, cut where it is very long.
fn printable(label: &str) -> String {
    let clean: String = label.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    if clean.width() <= MAX_LABEL_CELLS {
        return clean;
    }
    let mut cut = String::new();
    for char in clean.chars() {
        if cut.width() + 3 > MAX_LABEL_CELLS {
            break;
        }
        cut.push(char);
    }
    cut + "…"
}

#[cfg(test)]
mod tests {
    use super::super::ClassReport;
    use super::*;

    #[test]
    fn the_worst_classes_come_first_and_the_columns_stand_below_each_other() {
        let labels = ["good".to_owned(), "退款进度".to_owned(), "bad".to_owned(), "never".to_owned()];
        let report = ClassReport::new(&labels, &[0, 0, 1, 1, 2, 2], &[0, 0, 1, 2, 1, 1], None).unwrap();
        let text = report.table(10);
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows[0], "class          precision  recall     f1  support");
        assert_eq!(rows[1], "bad                0.000   0.000  0.000        2");
        assert_eq!(rows[2], "退款进度           0.333   0.500  0.400        2");
        assert_eq!(rows[4], "never              0.000   0.000  0.000        0");
        assert_eq!(rows[6], "mean               0.444   0.500  0.467");
        assert!(rows.iter().take(5).all(|row| row.width() == rows[0].width()), "{text}");
    }

    #[test]
    fn more_classes_than_asked_for_are_one_line() {
        let labels: Vec<String> = (0..77).map(|class| format!("class\n{class}")).collect();
        let truth: Vec<usize> = (0..77).collect();
        let predicted: Vec<usize> = (0..77).map(|class| if class < 5 { 0 } else { class }).collect();
        let text = ClassReport::new(&labels, &truth, &predicted, None).unwrap().table(5);
        assert!(text.contains("(72 better classes, mean)      1.000   1.000  1.000       72\n"), "{text}");
        assert_eq!(text.lines().count(), 12);
        assert!(printable(&"很".repeat(50)).width() <= MAX_LABEL_CELLS);
    }
}
