//! Draws a chart and what stands in it, in lengths that do not depend on the kind of picture.

use std::ops::Range;
use std::sync::LazyLock;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::register_font;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::figure::TRAINING;
use super::scale::step_label;
use crate::event::ObserverError;

/// The name under which plotters finds the embedded font, and by which an SVG viewer picks one of its own.
const FONT: &str = "sans-serif";

pub(super) const INK: RGBColor = RGBColor(38, 43, 51);
pub(super) const FADED_INK: RGBColor = RGBColor(107, 114, 128);
const GRID: RGBColor = RGBColor(232, 235, 239);
const AXIS: RGBColor = RGBColor(190, 196, 204);

/// DejaVu Sans, Basic Latin only; its licence lies beside it.
static FONT_REGISTERED: LazyLock<bool> = LazyLock::new(|| {
    let font = include_bytes!("../../../assets/DejaVuSans-subset.ttf");
    register_font(FONT, FontStyle::Normal, font).is_ok()
});

/// Whether the embedded font can be drawn with.
pub(super) fn font_is_registered() -> bool {
    *FONT_REGISTERED
}

/// Whether the embedded font, which pictures of pixels are written in, has all of the text's letters.
pub(super) fn has_letters_for(text: &str) -> bool {
    text.chars().all(|char| matches!(char, ' '..='~'))
}

/// Where plotters can draw, with errors that can be passed on.
pub(super) trait Canvas: DrawingBackend<ErrorType: 'static> {}

impl<B: DrawingBackend<ErrorType: 'static>> Canvas for B {}

pub(super) type Drawn = Result<(), ObserverError>;
pub(super) type Area<'a, C> = DrawingArea<C, Shift>;

/// A chart under a title line.
pub(super) struct Panel {
    pub(super) title: String,
    /// What stands in its place while there is nothing to draw.
    pub(super) empty: &'static str,
    pub(super) format: fn(f64, f64) -> String,
}

/// A line of the legend.
pub(super) struct Entry<'a> {
    pub(super) name: &'a str,
    pub(super) color: RGBColor,
    /// Whether a ring stands before the name, in place of a piece of line.
    pub(super) ring: bool,
}

impl<'a> Entry<'a> {
    pub(super) fn line(name: &'a str, color: RGBColor) -> Self {
        Self { name, color, ring: false }
    }

    pub(super) fn ring(name: &'a str, color: RGBColor) -> Self {
        Self { name, color, ring: true }
    }
}

pub(super) type Chart<'a, C> = ChartContext<'a, C, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

impl Panel {
    pub(super) fn draw<C: Canvas>(
        &self,
        pen: &Pen,
        area: &Area<C>,
        steps: &Range<f64>,
        values: Option<Range<f64>>,
        legend: &[Entry],
        curves: impl FnOnce(&mut Chart<C>) -> Drawn,
    ) -> Drawn {
        let scale = pen.scale;
        pen.text(area, &self.title, (28, 16), 18, INK, HPos::Left)?;
        pen.legend(area, legend)?;
        let Some(values) = values else {
            let (width, height) = area.dim_in_pixel();
            let middle = (width as i32 / scale / 2, height as i32 / scale / 2);
            return pen.text(area, self.empty, middle, 16, FADED_INK, HPos::Center);
        };
        let (width, height) = area.dim_in_pixel();
        let span = values.end - values.start;
        let mut chart = ChartBuilder::on(area)
            .margin_top(36 * scale)
            .margin_left(8 * scale)
            .margin_right(28 * scale)
            .margin_bottom(10 * scale)
            .x_label_area_size(44 * scale)
            .y_label_area_size(62 * scale)
            .build_cartesian_2d(steps.clone(), values)?;
        let label = (FONT, 14 * scale).into_font().color(&FADED_INK);
        chart
            .configure_mesh()
            .max_light_lines(0)
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID.stroke_width(scale as u32))
            .axis_style(AXIS.stroke_width(scale as u32))
            .x_labels((width as i32 / scale / 90) as usize)
            .y_labels((height as i32 / scale / 48) as usize)
            .x_label_formatter(&|step| step_label(*step))
            .y_label_formatter(&|value| (self.format)(*value, span))
            .x_desc("step")
            .axis_desc_style((FONT, 14 * scale).into_font().color(&FADED_INK))
            .label_style(label)
            .set_all_tick_mark_size(4 * scale)
            .draw()?;
        curves(&mut chart)
    }
}

/// Draws in lengths that do not know of the scale, which multiplies them all since plotters counts in pixels.
pub(super) struct Pen {
    pub(super) scale: i32,
    pub(super) bitmap: bool,
}

impl Pen {
    /// `at` is the text's left, middle or right end, halfway up.
    pub(super) fn text<C: Canvas>(
        &self,
        area: &Area<C>,
        text: &str,
        at: (i32, i32),
        size: i32,
        color: RGBColor,
        align: HPos,
    ) -> Drawn {
        let style = (FONT, size * self.scale).into_font().color(&color).pos(Pos::new(align, VPos::Center));
        // plotters centres a bitmap's text a little too high.
        let lower = if self.bitmap { size * self.scale / 8 } else { 0 };
        area.draw(&Text::new(text.to_owned(), (at.0 * self.scale, at.1 * self.scale + lower), style))?;
        Ok(())
    }

    /// Text that runs upwards around its middle.
    pub(super) fn upward_text<C: Canvas>(
        &self,
        area: &Area<C>,
        text: &str,
        at: (i32, i32),
        size: i32,
        color: RGBColor,
    ) -> Drawn {
        let font = (FONT, size * self.scale).into_font().transform(FontTransform::Rotate270);
        let style = font.color(&color).pos(Pos::new(HPos::Center, VPos::Center));
        area.draw(&Text::new(text.to_owned(), (at.0 * self.scale, at.1 * self.scale), style))?;
        Ok(())
    }

    /// A rectangle from its left upper corner to its right lower one.
    pub(super) fn fill<C: Canvas>(&self, area: &Area<C>, from: (i32, i32), to: (i32, i32), color: RGBColor) -> Drawn {
        let to = (to.0 * self.scale, to.1 * self.scale);
        area.draw(&Rectangle::new([(from.0 * self.scale, from.1 * self.scale), to], color.filled()))?;
        Ok(())
    }

    /// Names beside pieces of line or a ring, right-aligned on the title's height.
    fn legend<C: Canvas>(&self, area: &Area<C>, entries: &[Entry]) -> Drawn {
        let scale = self.scale;
        let mut right = area.dim_in_pixel().0 as i32 / scale - 28;
        for Entry { name, color, ring } in entries.iter().rev() {
            let style = (FONT, 15 * scale).into_font().color(&INK);
            let width = area.estimate_text_size(name, &style)?.0 as i32 / scale;
            self.text(area, name, (right, 16), 15, INK, HPos::Right)?;
            let end = right - width - 10;
            if *ring {
                for (radius, style) in self.circles(*color) {
                    area.draw(&Circle::new(((end - 7) * scale, 16 * scale), radius, style))?;
                }
                right = end - 14 - 26;
                continue;
            }
            let line = [((end - 26) * scale, 16 * scale), (end * scale, 16 * scale)];
            area.draw(&PathElement::new(line, color.stroke_width(3 * scale as u32)))?;
            right = end - 26 - 26;
        }
        Ok(())
    }

    pub(super) fn line<C: Canvas>(
        &self,
        chart: &mut Chart<C>,
        points: &[(f64, f64)],
        color: RGBColor,
        width: i32,
    ) -> Drawn {
        let style = color.stroke_width((width * self.scale) as u32);
        if self.bitmap {
            // plotters' thick lines shoot far out of sharp corners, so the pieces are drawn one by one.
            chart.draw_series(points.windows(2).map(|ends| PathElement::new(ends, style)))?;
            let joint = |point: &(f64, f64)| Circle::new(*point, width * self.scale / 2, color.filled());
            chart.draw_series(points.iter().map(joint))?;
        } else {
            chart.draw_series(LineSeries::new(points.iter().copied(), style))?;
        }
        Ok(())
    }

    /// A line, with dots where the points are few enough to tell apart. A single point is always a dot.
    pub(super) fn curve<C: Canvas>(
        &self,
        chart: &mut Chart<C>,
        points: &[(f64, f64)],
        color: RGBColor,
        dots: bool,
    ) -> Drawn {
        self.line(chart, points, color, 2)?;
        if points.len() == 1 || (dots && points.len() <= 40) {
            let dot = |point: &(f64, f64)| Circle::new(*point, 3 * self.scale, color.filled());
            chart.draw_series(points.iter().map(dot))?;
        }
        Ok(())
    }

    /// A ring around a point.
    pub(super) fn ring<C: Canvas>(&self, chart: &mut Chart<C>, at: (f64, f64), color: RGBColor) -> Drawn {
        chart.draw_series(self.circles(color).map(|(radius, style)| Circle::new(at, radius, style)))?;
        Ok(())
    }

    /// Radius and style of the circles that make a ring with a dot in it, the lowest first.
    fn circles(&self, color: RGBColor) -> [(i32, ShapeStyle); 3] {
        let scale = self.scale;
        let outline = color.stroke_width(2 * scale as u32);
        [(6 * scale, WHITE.filled()), (6 * scale, outline), (3 * scale, color.filled())]
    }

    /// An arrow at the top edge where the curve leaves the picture.
    pub(super) fn peak<C: Canvas>(
        &self,
        chart: &mut Chart<C>,
        at: (f64, f64),
        text: &str,
        steps: &Range<f64>,
    ) -> Drawn {
        let scale = self.scale;
        let (align, shift) = side(at.0, steps);
        let style = (FONT, 14 * scale).into_font().color(&TRAINING).pos(Pos::new(align, VPos::Center));
        let arrow = EmptyElement::at(at)
            + Polygon::new([(-5 * scale, 2 * scale), (5 * scale, 2 * scale), (0, -7 * scale)], TRAINING.filled())
            + Text::new(text.to_owned(), (shift * scale + 10 * scale * shift.signum(), -2 * scale), style);
        chart.draw_series([arrow])?;
        Ok(())
    }
}

/// On which side of a point at `step` a text stays within the panel: its alignment, and its shift in pixels.
fn side(step: f64, steps: &Range<f64>) -> (HPos, i32) {
    if step > 0.5 * (steps.start + steps.end) { (HPos::Right, -2) } else { (HPos::Left, 2) }
}
