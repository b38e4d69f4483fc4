//! `confusion.svg` and `confusion.png`: which classes a classifier takes for which.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;
use unicode_width::UnicodeWidthStr;

use super::figure::{TRAINING, VALIDATION};
use super::pen::{Area, Canvas, Drawn, FADED_INK, INK, Pen, has_letters_for};
use super::picture::{self, Picture};
use crate::event::ObserverError;
use crate::metrics::ClassReport;

/// Ground of the matrix, where nothing fell.
const EMPTY: RGBColor = RGBColor(244, 246, 248);

/// Pixels above the matrix, for the title and what the picture is.
const HEAD: i32 = 112;
/// Pixels below it, for the columns' names.
const FOOT: i32 = 66;
/// Pixels at the sides.
const MARGIN: i32 = 28;
/// Pixels to the left of the rows' names, for the axis' name.
const AXIS: i32 = 24;
/// Pixels of a row's name at most.
const NAME: i32 = 270;
/// Pixels right of the matrix, for the list of mistakes.
const LIST: i32 = 370;
/// Characters of a label at most, more than have room anywhere: laying out a whole text takes long.
const MAX_LABEL: usize = 40;
/// Above this many classes a row is too low for a name; the axes only count.
const MAX_NAMED: usize = 100;

/// Said in a PNG that calls classes by their numbers.
const NAMELESS: &str = "names that this picture's font lacks the letters of are in confusion.svg";

/// Writes `confusion.svg` and `confusion.png` into `dir`, each replaced as a whole: a heat map of how often each class
/// was taken for each, beside the mistakes made most often.
///
/// The PNG's letters are ASCII's alone; a class with others is called by its number there, which a line says, and by its
/// name in the SVG.
///
/// # Errors
/// When a picture cannot be drawn or written.
pub fn save_confusion(report: &ClassReport, title: &str, dir: &Path) -> Result<(), ObserverError> {
    picture::save(&Confusion::new(report, title), dir, "confusion")
}

struct Confusion<'a> {
    title: &'a str,
    subtitle: String,
    labels: Vec<String>,
    counts: &'a [Vec<u64>],
    /// How often each class occurs.
    support: Vec<u64>,
}

/// A class taken for another.
struct Mistake {
    truth: usize,
    predicted: usize,
    count: u64,
}

impl<'a> Confusion<'a> {
    fn new(report: &'a ClassReport, title: &'a str) -> Self {
        let ClassReport { examples, accuracy, f1, .. } = report;
        Self {
            title,
            subtitle: format!(
                "{examples} example{}  ·  accuracy {:.1}%  ·  mean F1 {f1:.3}",
                if *examples == 1 { "" } else { "s" },
                100.0 * accuracy
            ),
            labels: report.per_class.iter().map(|class| beginning(&class.label)).collect(),
            counts: &report.confusion,
            support: report.confusion.iter().map(|row| row.iter().sum()).collect(),
        }
    }

    fn classes(&self) -> i32 {
        self.counts.len().max(1) as i32
    }

    /// Width and height of the matrix in pixels.
    fn side(&self) -> i32 {
        match self.counts.len() {
            classes if classes > MAX_NAMED => 1100,
            _ => self.classes() * (630 / self.classes()).clamp(11, 130),
        }
    }

    /// Where the class's row or column begins, from the matrix' corner.
    fn edge(&self, class: usize) -> i32 {
        (class as i64 * i64::from(self.side()) / i64::from(self.classes())) as i32
    }

    fn cell(&self) -> i32 {
        self.side() / self.classes()
    }

    fn letters(&self) -> i32 {
        (self.cell() - 2).clamp(9, 15)
    }

    /// The matrix' left upper corner.
    fn corner(&self) -> (i32, i32) {
        let names = (0..self.labels.len()).map(|class| text_width(&self.row_name(class, false), self.letters()));
        (MARGIN + AXIS + names.max().unwrap_or(0).max(16) + 10, HEAD)
    }

    /// Whether a class is called by its number because the PNG's font lacks letters of its name.
    fn lacks_names(&self) -> bool {
        self.labels.iter().any(|label| !has_letters_for(label))
    }

    /// What the class is called in a running text.
    fn name(&self, class: usize, bitmap: bool, pixels: i32, size: i32) -> String {
        match self.labels.get(class) {
            Some(label) if !label.is_empty() && (!bitmap || has_letters_for(label)) => fitted(label, pixels, size),
            _ => format!("class {class}"),
        }
    }

    /// Name and number, or where there is no room the number alone, and not of every class.
    fn row_name(&self, class: usize, bitmap: bool) -> String {
        if self.counts.len() > MAX_NAMED {
            let every = self.counts.len().div_ceil(400) * 10;
            return if class.is_multiple_of(every) { class.to_string() } else { String::new() };
        }
        if self.columns_are_named(bitmap) {
            return self.name(class, bitmap, NAME, self.letters());
        }
        match self.name(class, bitmap, NAME - text_width("00  ", self.letters()), self.letters()) {
            name if name.starts_with("class ") => name,
            name => format!("{name}  {class}"),
        }
    }

    /// Whether every name fits below its column. If not, columns have numbers, and rows names with numbers.
    fn columns_are_named(&self, bitmap: bool) -> bool {
        let fits = |class| text_width(&self.name(class, bitmap, 1000, 14), 14) <= self.cell() - 8;
        (0..self.labels.len()).all(fits)
    }

    /// The most frequent mistakes first.
    fn mistakes(&self) -> Vec<Mistake> {
        let mut mistakes: Vec<Mistake> = Vec::new();
        for (truth, row) in self.counts.iter().enumerate() {
            let wrong = row.iter().enumerate().filter(|(predicted, count)| *predicted != truth && **count > 0);
            mistakes.extend(wrong.map(|(predicted, &count)| Mistake { truth, predicted, count }));
        }
        mistakes.sort_by_key(|mistake| (std::cmp::Reverse(mistake.count), self.support[mistake.truth]));
        mistakes
    }

    fn matrix<C: Canvas>(&self, root: &Area<C>, pen: &Pen) -> Drawn {
        let (left, top) = self.corner();
        let (side, cell) = (self.side(), self.cell());
        let gap = i32::from(cell >= 9);
        pen.fill(root, (left, top), (left + side, top + side), EMPTY)?;
        for line in (1..self.counts.len()).filter(|_| gap > 0).map(|class| self.edge(class)) {
            pen.fill(root, (left + line - 1, top), (left + line, top + side), WHITE)?;
            pen.fill(root, (left, top + line - 1), (left + side, top + line), WHITE)?;
        }
        for (truth, row) in self.counts.iter().enumerate() {
            for (predicted, &count) in row.iter().enumerate().filter(|(_, count)| **count > 0) {
                let share = count as f64 / self.support[truth] as f64;
                let color = shade(truth == predicted, share);
                let begin = (left + self.edge(predicted), top + self.edge(truth));
                let end = (left + self.edge(predicted + 1) - gap, top + self.edge(truth + 1) - gap);
                pen.fill(root, begin, end, color)?;
                let size = (cell / 3).clamp(10, 19);
                let text = count.to_string();
                if cell < 20 || text_width(&text, size) > cell - 4 {
                    continue;
                }
                let middle = (begin.0 + cell / 2, begin.1 + cell / 2);
                let ink = if is_dark(color) { WHITE } else { INK };
                if cell < 56 {
                    pen.text(root, &text, middle, size, ink, HPos::Center)?;
                    continue;
                }
                pen.text(root, &text, (middle.0, middle.1 - 8), size, ink, HPos::Center)?;
                let percent = format!("{:.0}%", 100.0 * share);
                pen.text(root, &percent, (middle.0, middle.1 + 14), 12, ink, HPos::Center)?;
            }
        }
        Ok(())
    }

    fn axes<C: Canvas>(&self, root: &Area<C>, pen: &Pen) -> Drawn {
        let (left, top) = self.corner();
        let (side, cell) = (self.side(), self.cell());
        let named = self.columns_are_named(pen.bitmap);
        // Numbers that would touch are left out.
        let widest = text_width(&self.counts.len().to_string(), self.letters()) + 6;
        let every = if self.counts.len() > MAX_NAMED { 1 } else { ((widest + cell - 1) / cell).max(1) as usize };
        for class in 0..self.counts.len() {
            let (middle, row) = (self.edge(class) + cell / 2, self.row_name(class, pen.bitmap));
            pen.text(root, &row, (left - 10, top + middle), self.letters(), INK, HPos::Right)?;
            let column = match self.counts.len() > MAX_NAMED {
                true => row,
                false if named => self.name(class, pen.bitmap, cell, 14),
                false if class.is_multiple_of(every) => class.to_string(),
                false => continue,
            };
            let size = if named { 14 } else { self.letters() };
            pen.text(root, &column, (left + middle, top + side + 16), size, INK, HPos::Center)?;
        }
        pen.text(root, "predicted", (left + side / 2, top + side + 44), 15, FADED_INK, HPos::Center)?;
        pen.upward_text(root, "true", (MARGIN + 6, top + side / 2), 15, FADED_INK)
    }

    fn list<C: Canvas>(&self, root: &Area<C>, pen: &Pen) -> Drawn {
        let left = self.corner().0 + self.side() + 44;
        let width = LIST - 44 - MARGIN;
        let bottom = self.size().1 as i32 - FOOT;
        pen.text(root, "Share of the true class", (left, HEAD + 8), 15, INK, HPos::Left)?;
        for (right, name, y) in [(true, "right", HEAD + 34), (false, "mistaken", HEAD + 56)] {
            for step in 0..20 {
                let x = left + step * 6;
                let color = shade(right, f64::from(step + 1) / 20.0);
                pen.fill(root, (x, y - 7), (x + 6, y + 7), color)?;
            }
            pen.text(root, name, (left + 130, y), 14, INK, HPos::Left)?;
        }
        pen.text(root, "0", (left, HEAD + 76), 12, FADED_INK, HPos::Left)?;
        pen.text(root, "100%", (left + 120, HEAD + 76), 12, FADED_INK, HPos::Right)?;

        let begin = HEAD + 118;
        let mistakes = self.mistakes();
        let title = if mistakes.is_empty() { "No mistakes" } else { "Mistakes made most often" };
        pen.text(root, title, (left, begin), 15, INK, HPos::Left)?;
        let room = ((bottom - begin - 20) / 46).clamp(1, 15) as usize;
        for (place, Mistake { truth, predicted, count }) in mistakes.into_iter().take(room).enumerate() {
            let y = begin + 32 + 46 * place as i32;
            let bar = (count as f64 / self.support[truth] as f64 * 40.0).ceil() as i32;
            pen.fill(root, (left, y - 8), (left + 4, y + 28), shade(false, f64::from(bar) / 40.0))?;
            let how_often = format!("{count} of {}", self.support[truth]);
            let room = width - 26 - text_width(&how_often, 13);
            pen.text(root, &self.name(truth, pen.bitmap, room, 14), (left + 14, y), 14, INK, HPos::Left)?;
            pen.text(root, &how_often, (left + width, y), 13, FADED_INK, HPos::Right)?;
            let room = width - 14 - text_width("taken for ", 13);
            let text = format!("taken for {}", self.name(predicted, pen.bitmap, room, 13));
            pen.text(root, &text, (left + 14, y + 20), 13, FADED_INK, HPos::Left)?;
        }
        Ok(())
    }
}

impl Picture for Confusion<'_> {
    fn size(&self) -> (u32, u32) {
        let (left, top) = self.corner();
        // At least so high that the list has room for a few mistakes.
        let height = top + self.side().max(320) + FOOT;
        ((left + self.side() + LIST) as u32, height as u32)
    }

    fn draw<C: Canvas>(&self, root: &Area<C>, pen: Pen) -> Drawn {
        let plain = has_letters_for(self.title) || !pen.bitmap;
        pen.text(root, if plain { self.title } else { "Confusion matrix" }, (MARGIN, 36), 27, INK, HPos::Left)?;
        pen.text(root, &self.subtitle, (MARGIN, 68), 16, FADED_INK, HPos::Left)?;
        if pen.bitmap && self.lacks_names() {
            pen.text(root, NAMELESS, (MARGIN, 92), 13, FADED_INK, HPos::Left)?;
        }
        self.matrix(root, &pen)?;
        self.axes(root, &pen)?;
        self.list(root, &pen)
    }
}

/// Blue for what is right, orange for a mistake, the more of it the darker. Few mistakes are still to be seen.
fn shade(right: bool, share: f64) -> RGBColor {
    let (color, strength) = if right { (TRAINING, share) } else { (VALIDATION, share.powf(0.6)) };
    let strength = 0.08 + 0.92 * strength.clamp(0.0, 1.0);
    let mix = |ground: u8, color: u8| (f64::from(ground) + strength * (f64::from(color) - f64::from(ground))) as u8;
    RGBColor(mix(EMPTY.0, color.0), mix(EMPTY.1, color.1), mix(EMPTY.2, color.2))
}

/// Whether white letters are read more easily on it than dark ones.
fn is_dark(RGBColor(red, green, blue): RGBColor) -> bool {
    299 * u32::from(red) + 587 * u32::from(green) + 114 * u32::from(blue) < 150_000
}

/// A label's first characters.
fn beginning(label: &str) -> String {
    match label.char_indices().nth(MAX_LABEL) {
        Some((end, _)) => format!("{}...", label[..end].trim_end()),
        None => label.to_owned(),
    }
}

/// About how many pixels the text is wide.
fn text_width(text: &str, size: i32) -> i32 {
    (text.width() as i32 * size * 6 + 9) / 10
}

/// The text, cut where it would be wider than so many pixels.
fn fitted(text: &str, pixels: i32, size: i32) -> String {
    if text_width(text, size) <= pixels {
        return text.to_owned();
    }
    let mut cut = text.to_owned();
    while !cut.is_empty() && text_width(&cut, size) > pixels - text_width("...", size) {
        cut.pop();
    }
    cut.trim_end().to_owned() + "..."
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(labels: &[&str], truth: &[usize], predicted: &[usize]) -> ClassReport {
        let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        ClassReport::new(&labels, truth, predicted, None).unwrap()
    }

    fn svg(report: &ClassReport) -> String {
        picture::svg(&Confusion::new(report, "runs/x")).unwrap()
    }

    #[test]
    fn the_mistakes_made_most_often_are_named_first() {
        let svg = svg(&report(&["refund", "order status", "退款"], &[0, 0, 0, 1, 1, 2], &[1, 1, 0, 1, 0, 2]));
        let first = svg.find("taken for order status").expect("the first mistake");
        let second = svg.find("taken for refund").expect("the second mistake");
        assert!(first < second && svg.contains("2 of 3") && svg.contains("退款") && svg.contains("accuracy 50.0%"));
    }

    #[test]
    fn any_number_of_classes_and_examples_can_be_drawn() {
        for classes in [0, 1, 2, 26, 77, 101, 450] {
            let labels: Vec<String> = (0..classes).map(|class| format!("<label & {class}>")).collect();
            let truth: Vec<usize> = (0..classes).collect();
            let predicted: Vec<usize> = truth.iter().map(|class| class * class % classes.max(1)).collect();
            let svg = svg(&ClassReport::new(&labels, &truth, &predicted, None).unwrap());
            assert!(svg.trim_end().ends_with("</svg>") && !svg.contains("NaN") && !svg.contains("<label"), "{classes}");
        }
    }

    #[test]
    fn a_label_as_long_as_a_text_is_cut_before_it_is_laid_out() {
        let long = "refund ".repeat(10_000);
        let begin = std::time::Instant::now();
        let svg = svg(&report(&[&long, &"退款".repeat(10_000)], &[0, 1, 1], &[1, 0, 1]));
        assert!(begin.elapsed().as_secs() < 20, "{:?}", begin.elapsed());
        assert!(svg.contains("refund refund") && svg.contains("...") && svg.len() < 100_000);
    }

    #[test]
    fn a_png_calls_a_class_that_its_font_lacks_by_its_number() {
        let report = report(&["refund", "退款"], &[0, 1], &[0, 1]);
        let confusion = Confusion::new(&report, "x");
        assert_eq!(
            (confusion.name(1, true, 99, 14), confusion.name(1, false, 99, 14)),
            ("class 1".into(), "退款".into())
        );
        assert!(confusion.lacks_names() && !svg(&report).contains(NAMELESS));
        let dir = tempfile::tempdir().unwrap();
        save_confusion(&report, "x", dir.path()).unwrap();
        assert!(std::fs::read(dir.path().join("confusion.png")).unwrap().starts_with(b"\x89PNG"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
