//! Letters: the two bundled fonts, laid out on a line and turned into coverage.

use ab_glyph::{Font, FontRef, PxScale, ScaleFont, point};
use std::sync::OnceLock;

/// Thickness of letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Labels.
    Regular,
    /// Titles.
    Medium,
}

/// How much of each pixel of a box is covered, row by row, 0 to 1.
pub(crate) struct Mask {
    pub width: usize,
    pub height: usize,
    pub cover: Vec<f32>,
}

impl Mask {
    pub(crate) fn new(width: usize, height: usize) -> Self {
        Self { width, height, cover: vec![0.0; width * height] }
    }

    /// Turned a quarter against the clock, so that it reads upwards.
    pub(crate) fn upwards(&self) -> Self {
        let mut turned = Mask::new(self.height, self.width);
        for y in 0..self.height {
            for x in 0..self.width {
                turned.cover[(self.width - 1 - x) * self.height + y] = self.cover[y * self.width + x];
            }
        }
        turned
    }
}

fn font(weight: Weight) -> &'static FontRef<'static> {
    static FONTS: OnceLock<[FontRef<'static>; 2]> = OnceLock::new();
    let fonts = FONTS.get_or_init(|| {
        let files: [&[u8]; 2] = [
            include_bytes!("../../fonts/Roboto-Regular-subset.ttf"),
            include_bytes!("../../fonts/Roboto-Medium-subset.ttf"),
        ];
        files.map(|file| FontRef::try_from_slice(file).expect("the bundled fonts are whole"))
    });
    &fonts[weight as usize]
}

/// A font at `size` pixels to the em; the library counts from ascender to descender.
fn scaled(weight: Weight, size: f32) -> ab_glyph::PxScaleFont<&'static FontRef<'static>> {
    let font = font(weight);
    let em = font.units_per_em().unwrap_or(2048.0);
    font.as_scaled(PxScale::from(size * font.height_unscaled() / em))
}

/// Width of a line of text at `size` pixels to the em.
pub(crate) fn width(text: &str, size: f32, weight: Weight) -> f32 {
    let font = scaled(weight, size);
    text.chars().map(|c| font.h_advance(font.glyph_id(c))).sum()
}

/// Draws a line of text. Returns its coverage and the row of the baseline in it.
pub(crate) fn draw(text: &str, size: f32, weight: Weight) -> (Mask, f32) {
    let font = scaled(weight, size);
    let baseline = font.ascent().ceil();
    // One pixel of room on each side for letters that lean out of their box.
    let mut mask =
        Mask::new(width(text, size, weight).ceil() as usize + 2, (baseline - font.descent()).ceil() as usize + 1);
    let mut x = 1.0;
    for c in text.chars() {
        let id = font.glyph_id(c);
        let glyph = id.with_scale_and_position(font.scale(), point(x, baseline));
        x += font.h_advance(id);
        let Some(outline) = font.outline_glyph(glyph) else { continue };
        let bounds = outline.px_bounds();
        outline.draw(|dx, dy, cover| {
            let (px, py) = (bounds.min.x as i32 + dx as i32, bounds.min.y as i32 + dy as i32);
            if px >= 0 && py >= 0 && (px as usize) < mask.width && (py as usize) < mask.height {
                let cell = &mut mask.cover[py as usize * mask.width + px as usize];
                *cell = (*cell + cover).min(1.0);
            }
        });
    }
    (mask, baseline)
}

/// `text`, cut with an ellipsis where it is wider than `room`.
pub(crate) fn fitted(text: &str, size: f32, weight: Weight, room: f32) -> String {
    if width(text, size, weight) <= room {
        return text.to_string();
    }
    let letters: Vec<char> = text.chars().collect();
    let cut = |keep: usize| letters[..keep].iter().collect::<String>().trim_end().to_string() + "…";
    (0..letters.len()).rev().map(cut).find(|cut| width(cut, size, weight) <= room).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_have_width_and_ink() {
        for weight in [Weight::Regular, Weight::Medium] {
            assert!(width("mm", 12.0, weight) > width("ii", 12.0, weight));
            let (mask, baseline) = draw("Loss", 20.0, weight);
            let ink: f32 = mask.cover.iter().sum();
            assert!(ink > 50.0 && mask.cover.iter().all(|c| (0.0..=1.0).contains(c)));
            let below: f32 = mask.cover[baseline as usize * mask.width + mask.width..].iter().sum();
            assert!(below < 8.0, "nothing of these letters hangs below the line, {below}");
            let turned = mask.upwards();
            assert_eq!((turned.width, turned.height), (mask.height, mask.width));
            assert!((turned.cover.iter().sum::<f32>() - ink).abs() < 1e-2);
        }
        assert_eq!(width("", 12.0, Weight::Regular), 0.0);
        draw("", 12.0, Weight::Regular);
    }

    #[test]
    fn the_characters_of_the_charts_are_there() {
        for c in "0123456789.,−×%≥≤≈∞·…–√∑αβγθμσ⁰¹²³⁴⁵⁶⁷⁸⁹⁻é°".chars() {
            assert_ne!(font(Weight::Regular).glyph_id(c).0, 0, "{c}");
            assert_ne!(font(Weight::Medium).glyph_id(c).0, 0, "{c}");
        }
    }

    #[test]
    fn long_text_is_cut() {
        assert_eq!(fitted("short", 12.0, Weight::Regular, 100.0), "short");
        let cut = fitted("a very long caption", 12.0, Weight::Regular, 60.0);
        assert!(cut.ends_with('…') && width(&cut, 12.0, Weight::Regular) <= 60.0, "{cut}");
        assert_eq!(fitted("abc", 12.0, Weight::Regular, 0.0), "");
    }
}
