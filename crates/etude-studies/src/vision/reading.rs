//! What was read in captchas, beside what stands there.

use super::lettering::{Captchas, Drawn, HEIGHT, Text};
use etude::Result;
use etude::prelude::*;
use etude::train::metrics::{Confusion, error_rate};
use etude::train::plot::{Align, Canvas, Chart, Colour, Images, Rect, Weight, series};
use etude::train::session::picture_of;
use etude::train::{Figure, units};

/// Captchas, their strings, and the strings that were read.
#[derive(Clone)]
pub struct Reading {
    /// Where they come from.
    pub captchas: Captchas,
    /// All of them, `[N, 1, H, W]`.
    pub pictures: Tensor,
    /// What stands there.
    pub truth: Vec<Text>,
    /// What was read.
    pub read: Vec<Text>,
}

/// What `act` gives for pictures `[N, …]`, computed for a few hundred of them at a time.
pub fn by_parts(pictures: &Tensor, act: impl Fn(&Tensor) -> Tensor) -> Result<Tensor> {
    const PART: usize = 250;
    let part = |from: usize| act(&pictures.narrow(0, from, PART.min(pictures.size(0) - from))).eval().cloned();
    let parts = (0..pictures.size(0)).step_by(PART).map(part).collect::<std::result::Result<Vec<Tensor>, _>>()?;
    Ok(cat(&parts, 0))
}

/// A string with case, `0 O o` and `1 I i l` made the same.
fn alike(text: &str) -> String {
    text.to_lowercase().replace('0', "o").replace(['1', 'i'], "l")
}

/// A character's name in captions, whose font draws a small L and a large i alike.
fn name(c: char) -> String {
    match c {
        'I' => "large I".into(),
        'l' => "small l".into(),
        _ => c.into(),
    }
}

impl Reading {
    /// Has all of `captchas` read.
    pub fn of(captchas: &Captchas, read: impl Fn(&Tensor) -> Result<Vec<Text>>) -> Result<Reading> {
        let (pictures, truth) = Drawn::new(captchas.clone(), captchas.count).batch(0)?;
        let read = read(&pictures)?;
        Ok(Reading { captchas: captchas.clone(), pictures, truth, read })
    }

    /// The share of captchas for which `same` holds of the string that stands there and the one that was read.
    pub fn share(&self, same: impl Fn(&Text, &Text) -> bool) -> f64 {
        let right = self.truth.iter().zip(&self.read).filter(|(truth, read)| same(truth, read)).count();
        right as f64 / self.truth.len() as f64
    }

    /// The share of whole strings that are right.
    pub fn strings(&self) -> f64 {
        self.share(|truth, read| truth == read)
    }

    /// Characters to insert, delete or replace, over characters there.
    pub fn errors(&self) -> f64 {
        error_rate(&self.read, &self.truth)
    }

    /// The figures of a report.
    pub fn figures(&self) -> [Figure; 2] {
        [Figure::percent("strings right", self.strings()), Figure::percent("characters wrong", self.errors())]
    }

    /// The table that [`Reading::row`] makes rows for.
    pub fn table() -> Table {
        let head = ["reader", "strings right", "if case, 0Oo, 1Iil do not count", "characters wrong"];
        Table::new("strings never drawn in training", head)
    }

    /// The row of the reader `name`.
    pub fn row(&self, name: &str) -> [String; 4] {
        let letters = |text: &Text| alike(&self.captchas.letters(text));
        let alike = self.share(|truth, read| letters(truth) == letters(read));
        [name.into(), units::percent(self.strings()), units::percent(alike), units::percent(self.errors())]
    }

    /// Writes the first captchas, those that were read wrong, and which characters were taken for which others.
    pub fn pictures(&self, session: &Session) -> Result<()> {
        let first: Vec<usize> = (0..self.truth.len().min(42)).collect();
        session.show("captchas", self.sheet("Read in captchas", &first)?)?;
        let wrong: Vec<usize> = (0..self.truth.len()).filter(|&i| self.truth[i] != self.read[i]).take(42).collect();
        session.show("wrong", self.sheet("Read wrong", &wrong)?)?;

        // Where lengths differ it is not clear which character was taken for which.
        let fit: Vec<usize> = (0..self.truth.len()).filter(|&i| self.truth[i].len() == self.read[i].len()).collect();
        let joined = |texts: &[Text]| fit.iter().flat_map(|&i| &texts[i]).copied().collect::<Text>();
        let characters = &self.captchas.characters;
        let pairs = Confusion::of(characters.len(), &joined(&self.read), &joined(&self.truth)).worst(20);
        let names: Vec<String> =
            pairs.iter().map(|p| format!("{} for {}", name(characters[p.1]), name(characters[p.0]))).collect();
        let counts: Vec<f64> = pairs.iter().map(|pair| pair.2 as f64).collect();
        let chart = Chart::bars("Taken for another most often", &names, &counts)
            .labels("what was read for what is there", "times");
        let total = units::grouped(joined(&self.truth).len() as u64);
        session.show("confused", chart.subtitle(format!("of {total} characters")))
    }

    fn sheet(&self, title: &str, which: &[usize]) -> Result<Images> {
        let mut images = Images::new(title).columns(6).tile(1.5 * self.captchas.width() as f32);
        for &i in which {
            let picture = picture_of(&self.pictures.at(0, i as i64))?;
            let (truth, read) = (self.captchas.letters(&self.truth[i]), self.captchas.letters(&self.read[i]));
            let mut wrong: Vec<String> = Vec::new();
            if truth.len() == read.len() {
                let pairs = truth.chars().zip(read.chars()).filter(|(t, r)| t != r);
                wrong.extend(pairs.map(|(t, r)| format!("{} for {}", name(r), name(t))));
            } else {
                wrong.push(format!("{read} for {truth}"));
            }
            images = match wrong.is_empty() {
                true => images.captioned(picture, truth, Colour::INK),
                false => images.captioned(picture, wrong.join(", "), Colour::BAD),
            };
        }
        Ok(images)
    }

    /// A captcha of each of these lengths, and under its columns of pixels what each of them says: `columns` is `ln p` of
    /// the blank and of all other classes in their order, `[T, N, 1 + n]`.
    pub fn alignment(&self, columns: &Tensor, lengths: [usize; 2]) -> Result<Vec<u8>> {
        const SIDE: f32 = 20.0; // of a column's cell, in units: four pixels across
        let (left, steps, height) = (56.0, columns.size(0), SIDE * HEIGHT as f32 / 4.0);
        let of = |length| (0..self.truth.len()).find(|&i| self.truth[i].len() == length);
        // With the classes that occur, in the order they first do.
        let classes = |i: usize| {
            let new = |&at: &usize| !self.truth[i][..at].contains(&self.truth[i][at]);
            (i, (0..self.truth[i].len()).filter(new).map(|at| self.truth[i][at]).collect::<Text>())
        };
        let shown: Vec<(usize, Text)> = lengths.into_iter().filter_map(of).map(classes).collect();
        let rows: usize = shown.iter().map(|(_, classes)| classes.len() + 1).sum();
        let whole = shown.len() as f32 * (height + 40.0) + rows as f32 * SIDE + 12.0;
        let mut canvas = Canvas::new(left + steps as f32 * SIDE + 16.0, whole);
        let mut y = 16.0;
        for (i, classes) in shown {
            let picture = picture_of(&self.pictures.at(0, i as i64))?;
            canvas.picture(Rect::new(left, y, steps as f32 * SIDE, height), &picture);
            y += height + 6.0;
            let p = columns.at(1, i as i64).exp().transpose(0, 1).to_vec::<f32>(); // [1 + n, T]
            let names = classes.iter().map(|&c| (c + 1, name(self.captchas.characters[c])));
            for (class, name) in names.chain([(0, "blank".into())]) {
                canvas.text((left - 8.0, y + 14.0), Align::End, &name, 12.0, Weight::Regular, Colour::INK);
                for (t, &p) in p[class * steps..][..steps].iter().enumerate() {
                    let cell = Rect::new(left + t as f32 * SIDE, y, SIDE - 1.0, SIDE - 1.0);
                    canvas.fill(cell, Colour::FAINT.mix(series(0), p), 1.0);
                }
                y += SIDE;
            }
            y += 18.0;
        }
        canvas.into_png()
    }
}
