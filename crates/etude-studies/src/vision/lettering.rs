//! Captchas to read: letters of three fonts, turned, sheared and shifted, with lines through them, dots and noise.
//!
//! Everything is drawn from outlines with exact coverage, so a turned letter is as sharp as a straight one. A captcha is a
//! function of the seed and its number alone: workers draw ahead of the training, and a resumed run draws the same. All
//! letters stand on one baseline in one size, since small and large `c`, `o`, `s`, `v`, `w`, `x`, `z` differ in nothing else.

use ab_glyph::{Font, FontRef, OutlineCurve, Point, point};
use ab_glyph_rasterizer::Rasterizer;
use etude::data::{Rng, Sample, Source};
use etude::prelude::*;
use etude::train::trainer::to_tensor;
use etude::{Error, Result};
use std::ops::RangeInclusive;
use std::sync::OnceLock;

/// Every character the fonts have, in the order of the notes.
pub const CHARACTERS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
/// Pixels from top to bottom.
pub const HEIGHT: usize = 32;
/// Pixels across for each letter there may be.
pub const PITCH: usize = 24;
/// Pixels to the em of the letters.
const SIZE: f32 = 25.0;

/// A string as numbers of characters.
pub type Text = Vec<usize>;

/// A collection of captchas, none of them drawn yet.
#[derive(Clone)]
pub struct Captchas {
    /// The characters that occur.
    pub characters: Vec<char>,
    /// How many of them stand in a captcha.
    pub lengths: RangeInclusive<usize>,
    /// The most a letter is turned to either side, in degrees.
    pub rotation: f32,
    /// The most lines through the letters; there are at least half as many.
    pub lines: usize,
    /// Where all their randomness comes from.
    pub seed: u64,
    /// Whether these are the strings, one in eight, that are kept for the test.
    pub held_out: bool,
    /// How many there are.
    pub count: usize,
}

impl Captchas {
    /// Training captchas over the characters of `text`, which must be letters and digits.
    pub fn new(text: &str, lengths: RangeInclusive<usize>, seed: u64, count: usize) -> Result<Captchas> {
        let characters: Vec<char> = text.chars().collect();
        if let Some(other) = characters.iter().find(|c| !c.is_ascii_alphanumeric()) {
            return Err(Error::new(format!("no font has `{other}`")).remedy("choose characters from a-z, A-Z, 0-9"));
        }
        if (1..characters.len()).any(|i| characters[..i].contains(&characters[i])) || characters.len() < 2 {
            return Err(Error::new("captchas take at least two characters, each once"));
        }
        if lengths.is_empty() {
            return Err(Error::new("the shortest captcha is longer than the longest"));
        }
        if characters.len().saturating_pow(*lengths.start() as u32) < 1000 {
            let remedy = "take longer strings or more characters";
            return Err(Error::new("there are too few strings to keep one in eight for the test").remedy(remedy));
        }
        Ok(Captchas { characters, lengths, rotation: 25.0, lines: 3, seed, held_out: false, count })
    }

    /// Pixels across.
    pub fn width(&self) -> usize {
        PITCH * self.lengths.end()
    }

    /// Captcha number `index`: its string, and the generator that draws it.
    fn drawn(&self, index: usize) -> (Text, Rng) {
        let mut rng = Rng::keyed(&[self.seed, u64::from(self.held_out), index as u64]);
        loop {
            let length = self.lengths.start() + rng.below(self.lengths.end() - self.lengths.start() + 1);
            let text: Text = (0..length).map(|_| rng.below(self.characters.len())).collect();
            // Which strings are kept for the test depends on the string alone.
            let key: Vec<u64> = text.iter().map(|&c| self.characters[c] as u64).collect();
            if (Rng::keyed(&key).below(8) == 0) == self.held_out {
                return (text, rng);
            }
        }
    }

    /// The string of captcha number `index`.
    pub fn text(&self, index: usize) -> Text {
        self.drawn(index).0
    }

    /// A string as people read it.
    pub fn letters(&self, text: &[usize]) -> String {
        text.iter().map(|&c| self.characters[c]).collect()
    }

    /// The pixels of captcha number `index`, `[HEIGHT, width]`, black 0 and white 1.
    pub fn pixels(&self, index: usize) -> Vec<f32> {
        let (text, mut rng) = self.drawn(index);
        let (width, height) = (self.width() as f32, HEIGHT as f32);
        let rng = &mut rng;
        let mut ink = Ink { width: self.width(), cover: vec![0.0; self.width() * HEIGHT] };

        let face = &faces()[rng.below(faces().len())];
        let pitch = rng.uniform(0.82, 0.98) * PITCH as f32;
        let mut middle = rng.uniform(0.0, width - pitch * text.len() as f32) + pitch / 2.0;
        let baseline = height / 2.0 + 0.36 * SIZE + rng.uniform(-1.5, 1.5);
        for &c in &text {
            let turn = rng.uniform(-self.rotation, self.rotation).to_radians();
            let shear = rng.uniform(-0.2, 0.2);
            let shift = point(middle + rng.uniform(-1.5, 1.5), baseline + rng.uniform(-1.0, 1.0));
            ink.fill(&face.letter(self.characters[c], turn, shear, shift));
            middle += pitch;
        }
        for _ in 0..self.lines.div_ceil(2) + rng.below(self.lines / 2 + 1) {
            let across = [rng.uniform(-0.1, 0.3), rng.uniform(0.3, 0.7), rng.uniform(0.7, 1.1)];
            let [a, b, c] = across.map(|x| point(x * width, rng.uniform(0.1, 0.9) * height));
            ink.fill(&stroke(a, b, c, rng.uniform(1.0, 1.6)));
        }
        for _ in 0..self.width() / 4 {
            let (at, size) = (point(rng.uniform(0.0, width), rng.uniform(0.0, height)), rng.uniform(0.5, 1.2));
            ink.fill(&stroke(point(at.x - size, at.y), at, point(at.x + size, at.y), size));
        }
        let (paper, dark) = (rng.uniform(0.75, 1.0), rng.uniform(0.0, 0.35));
        let noise = |rng: &mut Rng| rng.uniform(-0.12, 0.12);
        ink.cover.iter().map(|cover| (paper + (dark - paper) * cover + noise(rng)).clamp(0.0, 1.0)).collect()
    }
}

impl Source for Captchas {
    fn len(&self) -> usize {
        self.count
    }

    fn sample(&self, index: usize) -> etude::data::Result<Sample> {
        Ok(Sample { values: self.pixels(index), shape: vec![1, HEIGHT, self.width()], label: 0, index })
    }
}

/// Batches of captchas, drawn by a worker while the step before runs.
pub struct Drawn {
    captchas: Captchas,
    loader: Loader,
}

impl Drawn {
    /// Batches of `size`, in the order of the captchas' numbers.
    pub fn new(captchas: Captchas, size: usize) -> Drawn {
        Drawn { loader: Loader::new(captchas.clone(), size).shuffle(false), captchas }
    }

    /// The pictures of step `step`, `[size, 1, HEIGHT, width]`, and their strings.
    pub fn batch(&mut self, step: u64) -> Result<(Tensor, Vec<Text>)> {
        let mut place = self.loader.state();
        if place.batch as u64 != step {
            place.batch = step as usize; // a resumed run begins in the middle
            self.loader.resume(&place)?;
        }
        let batch = self.loader.next_batch()?;
        Ok((to_tensor(&batch.inputs)?, batch.indices.iter().map(|&index| self.captchas.text(index)).collect()))
    }
}

/// How much of each pixel is covered.
struct Ink {
    width: usize,
    cover: Vec<f32>,
}

impl Ink {
    /// Covers what closed curves enclose.
    fn fill(&mut self, curves: &[OutlineCurve]) {
        let points = || curves.iter().flat_map(|curve| corners(curve).0.into_iter().take(corners(curve).1));
        let extent = |of: fn(&Point) -> f32| {
            points().map(|p| of(&p)).fold((f32::MAX, f32::MIN), |(low, high), v| (low.min(v), high.max(v)))
        };
        let ((left, right), (top, bottom)) = (extent(|p| p.x), extent(|p| p.y));
        let (left, top) = (left.floor() - 1.0, top.floor() - 1.0);
        let (width, height) = ((right - left) as usize + 2, (bottom - top) as usize + 2);
        let mut raster = Rasterizer::new(width, height);
        let place = |p: &Point| point(p.x - left, p.y - top);
        for curve in curves {
            match curve {
                OutlineCurve::Line(a, b) => raster.draw_line(place(a), place(b)),
                OutlineCurve::Quad(a, b, c) => raster.draw_quad(place(a), place(b), place(c)),
                OutlineCurve::Cubic(a, b, c, d) => raster.draw_cubic(place(a), place(b), place(c), place(d)),
            }
        }
        let rows = self.cover.len() / self.width;
        raster.for_each_pixel_2d(|x, y, cover| {
            let (x, y) = (x as i32 + left as i32, y as i32 + top as i32);
            if (0..self.width as i32).contains(&x) && (0..rows as i32).contains(&y) {
                let cell = &mut self.cover[y as usize * self.width + x as usize];
                *cell += (1.0 - *cell) * cover.min(1.0);
            }
        });
    }
}

/// The points of a curve, and how many they are.
fn corners(curve: &OutlineCurve) -> ([Point; 4], usize) {
    match *curve {
        OutlineCurve::Line(a, b) => ([a, b, b, b], 2),
        OutlineCurve::Quad(a, b, c) => ([a, b, c, c], 3),
        OutlineCurve::Cubic(a, b, c, d) => ([a, b, c, d], 4),
    }
}

/// A curve with all its points moved.
fn moved(curve: &OutlineCurve, map: impl Fn(Point) -> Point) -> OutlineCurve {
    match *curve {
        OutlineCurve::Line(a, b) => OutlineCurve::Line(map(a), map(b)),
        OutlineCurve::Quad(a, b, c) => OutlineCurve::Quad(map(a), map(b), map(c)),
        OutlineCurve::Cubic(a, b, c, d) => OutlineCurve::Cubic(map(a), map(b), map(c), map(d)),
    }
}

/// The outline of a line of some thickness along a quadratic curve.
fn stroke(a: Point, b: Point, c: Point, thickness: f32) -> Vec<OutlineCurve> {
    let length = (c.x - a.x).hypot(c.y - a.y).max(1e-3);
    let (x, y) = ((a.y - c.y) / length * thickness / 2.0, (c.x - a.x) / length * thickness / 2.0);
    let [up, down] = [1.0, -1.0].map(|side| [a, b, c].map(|p| point(p.x + side * x, p.y + side * y)));
    vec![
        OutlineCurve::Quad(up[0], up[1], up[2]),
        OutlineCurve::Line(up[2], down[2]),
        OutlineCurve::Quad(down[2], down[1], down[0]),
        OutlineCurve::Line(down[0], up[0]),
    ]
}

/// A font's outlines, in em, y upwards.
struct Face {
    letters: Vec<(char, f32, Vec<OutlineCurve>)>,
}

impl Face {
    /// The outline of a letter, sheared and turned about its middle, which half of a large letter's height above
    /// `place` is.
    fn letter(&self, letter: char, turn: f32, shear: f32, place: Point) -> Vec<OutlineCurve> {
        const HALF: f32 = 0.36;
        let found = self.letters.iter().find(|(c, ..)| *c == letter);
        let (_, advance, curves) = found.expect("Captchas::new lets only these through");
        let (sin, cos) = turn.sin_cos();
        let map = |p: Point| {
            let y = p.y - HALF;
            let x = p.x - advance / 2.0 + shear * y;
            point(place.x + SIZE * (x * cos + y * sin), place.y - SIZE * (HALF + y * cos - x * sin))
        };
        curves.iter().map(|curve| moved(curve, map)).collect()
    }
}

/// The three fonts; see `fonts/README.md`.
fn faces() -> &'static [Face] {
    static FACES: OnceLock<Vec<Face>> = OnceLock::new();
    FACES.get_or_init(|| {
        let files: [&[u8]; 3] = [
            include_bytes!("../../fonts/DejaVuSerif-subset.ttf"),
            include_bytes!("../../fonts/DejaVuSansMono-Bold-subset.ttf"),
            include_bytes!("../../fonts/RobotoSlab-Regular-subset.otf"),
        ];
        let read = |file| {
            let font = FontRef::try_from_slice(file).expect("the bundled fonts are whole");
            let em = font.units_per_em().expect("the bundled fonts say so");
            let outline = |c: char| {
                let id = font.glyph_id(c);
                let curves = font.outline(id).expect("the bundled fonts have every character").curves;
                let curves = curves.iter().map(|curve| moved(curve, |p| point(p.x / em, p.y / em))).collect();
                (c, font.h_advance_unscaled(id) / em, curves)
            };
            Face { letters: CHARACTERS.chars().map(outline).collect() }
        };
        files.into_iter().map(read).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captchas() -> Captchas {
        Captchas::new(CHARACTERS, 3..=5, 7, 40).unwrap()
    }

    #[test]
    fn a_captcha_is_a_function_of_seed_and_number() {
        let pixels = |captchas: &Captchas, i: usize| captchas.pixels(i);
        assert_eq!(pixels(&captchas(), 3), pixels(&captchas(), 3));
        assert_ne!(pixels(&captchas(), 3), pixels(&captchas(), 4));
        assert_ne!(pixels(&captchas(), 3), pixels(&Captchas { seed: 8, ..captchas() }, 3));
        assert!(pixels(&captchas(), 3).iter().all(|v| (0.0..=1.0).contains(v)));
        // A loader that begins in the middle gives what one from the beginning gives there.
        let mut whole = Drawn::new(captchas(), 8);
        (0..3).for_each(|step| drop(whole.batch(step).unwrap()));
        let (late, texts) = Drawn::new(captchas(), 8).batch(3).unwrap();
        let (wanted, same) = whole.batch(3).unwrap();
        assert_eq!((late.to_vec::<f32>(), texts), (wanted.to_vec::<f32>(), same));
    }

    #[test]
    fn strings_of_the_test_never_occur_in_training() {
        let digits = |held_out| Captchas { held_out, count: 3000, ..Captchas::new("0123456789", 3..=3, 1, 0).unwrap() };
        let texts =
            |captchas: Captchas| -> std::collections::BTreeSet<Text> { (0..3000).map(|i| captchas.text(i)).collect() };
        let (train, test) = (texts(digits(false)), texts(digits(true)));
        assert!(train.is_disjoint(&test));
        assert!((90..=160).contains(&test.len()) && train.len() > 800, "{} and {}", test.len(), train.len());
    }

    #[test]
    fn every_two_characters_differ_in_every_font() {
        // Straight, in their size and place, as black on white: the ink that only one of the two has.
        let ink = |face: &Face, c: char| {
            let mut ink = Ink { width: 40, cover: vec![0.0; 40 * 40] };
            ink.fill(&face.letter(c, 0.0, 0.0, point(20.0, 30.0)));
            ink.cover
        };
        for face in faces() {
            let letters: Vec<Vec<f32>> = CHARACTERS.chars().map(|c| ink(face, c)).collect();
            for a in 0..letters.len() {
                for b in 0..a {
                    let apart: f32 = letters[a].iter().zip(&letters[b]).map(|(x, y)| (x - y).abs()).sum();
                    assert!(apart > 10.0, "{a} {b}: {apart} pixels apart");
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_drawn_is_refused() {
        for (characters, lengths) in [
            ("abcö", 4..=4),
            ("aab", 9..=9),
            ("0123456789", 1..=4),
            ("", 1..=1),
            (CHARACTERS, RangeInclusive::new(6, 3)),
        ] {
            assert!(Captchas::new(characters, lengths, 1, 1).is_err(), "{characters}");
        }
    }
}
