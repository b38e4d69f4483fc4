//! Writes a picture as SVG and as PNG.

use std::fs;
use std::path::Path;

use plotters::prelude::*;

use super::pen::{Area, Canvas, Drawn, Pen, font_is_registered};
use crate::event::ObserverError;
use crate::observer::{at_path, replace_file};

/// The PNG is drawn this many times larger and averaged down, which smooths its lines.
const OVERSAMPLING: u32 = 3;

/// plotters writes whole numbers into an SVG, so its user units are this many to the pixel.
const SVG_UNITS: u32 = 8;

/// What can be drawn as either kind of picture.
pub(super) trait Picture {
    /// Width and height in pixels.
    fn size(&self) -> (u32, u32);

    /// Draws the whole picture on white ground.
    fn draw<C: Canvas>(&self, root: &Area<C>, pen: Pen) -> Drawn;
}

/// Writes `{name}.svg` and `{name}.png` into `dir`, each replaced as a whole.
pub(super) fn save(picture: &impl Picture, dir: &Path, name: &str) -> Drawn {
    let path = dir.join(format!("{name}.svg"));
    replace_file(&path, svg(picture)?.as_bytes()).map_err(at_path(&path))?;
    let (path, temporary) = (dir.join(format!("{name}.png")), dir.join(format!("{name}.tmp.png")));
    let written =
        write_png(picture, &temporary).and_then(|()| Ok(fs::rename(&temporary, &path).map_err(at_path(&path))?));
    written.inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

/// The picture as an SVG document.
pub(super) fn svg(picture: &impl Picture) -> Result<String, ObserverError> {
    let mut text = String::new();
    let (width, height) = picture.size();
    let root = SVGBackend::with_string(&mut text, (width * SVG_UNITS, height * SVG_UNITS)).into_drawing_area();
    draw(picture, &root, Pen { scale: SVG_UNITS as i32, bitmap: false })?;
    drop(root);
    let size = |width, height| format!("<svg width=\"{width}\" height=\"{height}\"");
    Ok(text.replacen(&size(width * SVG_UNITS, height * SVG_UNITS), &size(width, height), 1))
}

fn write_png(picture: &impl Picture, path: &Path) -> Drawn {
    let size = picture.size();
    let (width, height) = (size.0 * OVERSAMPLING, size.1 * OVERSAMPLING);
    let mut large = vec![255; 3 * width as usize * height as usize];
    let root = BitMapBackend::with_buffer(&mut large, (width, height)).into_drawing_area();
    draw(picture, &root, Pen { scale: OVERSAMPLING as i32, bitmap: true })?;
    drop(root);
    let small = average_down(&large, width as usize, OVERSAMPLING as usize);
    let mut file = BitMapBackend::new(path, size);
    file.blit_bitmap((0, 0), size, &small).map_err(|error| error.to_string())?;
    file.present().map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(())
}

fn draw<C: Canvas>(picture: &impl Picture, root: &Area<C>, pen: Pen) -> Drawn {
    if !font_is_registered() {
        return Err("the embedded font is broken".into());
    }
    root.fill(&WHITE)?;
    picture.draw(root, pen)?;
    root.present()?;
    Ok(())
}

/// Averages squares of `factor` by `factor` RGB pixels.
fn average_down(large: &[u8], width: usize, factor: usize) -> Vec<u8> {
    let small_width = width / factor;
    let mut small = Vec::with_capacity(large.len() / (factor * factor));
    let mut sums = vec![0u32; 3 * small_width];
    for rows in large.chunks_exact(3 * width * factor) {
        sums.fill(0);
        for row in rows.chunks_exact(3 * width) {
            for (pixels, sum) in row.chunks_exact(3 * factor).zip(sums.chunks_exact_mut(3)) {
                for pixel in pixels.chunks_exact(3) {
                    sum.iter_mut().zip(pixel).for_each(|(sum, &value)| *sum += u32::from(value));
                }
            }
        }
        small.extend(sums.iter().map(|sum| (sum / (factor * factor) as u32) as u8));
    }
    small
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averaging_down_takes_squares_of_pixels() {
        let large = [[0u8; 3], [100; 3], [10; 3], [10; 3], [200; 3], [100; 3], [20; 3], [40; 3]].concat();
        assert_eq!(average_down(&large, 4, 2), [[100; 3], [20; 3]].concat());
    }
}
