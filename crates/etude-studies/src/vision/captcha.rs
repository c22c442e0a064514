//! A network reads captchas of four characters at once.
//!
//! A classifier gives one answer; a captcha asks for several. With a class for every string there would be 62⁴, almost
//! fifteen million. Instead the answer is one long vector with a place for every character at every position, and the
//! string "sets" one place a position (one-hot, once for each):
//!
//! ```text
//! v = 0 ∈ ℝ^(length · n)        v[i · n + index(charᵢ)] = 1        n = 62: a–z, A–Z, 0–9
//! ```
//!
//! Several ones in a vector make it a question of many labels, each of which is there or not, so the loss is the binary
//! cross-entropy of every place, from the network's scores z (Goodfellow et al., 2014, read house numbers with one softmax
//! a position instead):
//!
//! ```text
//! L = − mean_k [ v_k · ln σ(z_k) + (1 − v_k) · ln(1 − σ(z_k)) ]
//! ```
//!
//! and position i is read as the largest of its n scores. The whole picture passes through one stack of convolutions; only
//! the last layers know positions. Their number is fixed: for strings of any length see `captcha-ctc`.
//!
//! Captchas are drawn while the network trains, no two alike, so the loss of a step is a loss on strings and pictures not
//! seen before. One string in eight is never drawn in training; the test is on those. How well can it be done? Letters
//! stand on one line in one size, and in each font every two of them differ, `Q` and `O` in ten pixels of ink, `I` and `l`
//! in eleven. Where a line covers these nobody can tell: with case and the groups `0 O o`, `1 I i l` made the same, most of
//! the wrong strings are right, and that share is the bound.

use super::course::Course;
use super::lettering::{Captchas, Drawn, HEIGHT, PITCH, Text};
use super::reading::{self, Reading};
use crate::common::open_picture;
use crate::study::{Etude, Part, knobs, parts};
use etude::Result;
use etude::core::PoolOptions;
use etude::prelude::*;
use etude::train::config::docs_from_source;
use etude::train::plot::{Page, Scale};
use etude::train::{RunFolder, units};
use std::path::Path;

/// Convolutions of 3×3 with batch normalisation and ReLU, each followed by a maximum pool of its size.
pub fn stages(channels: &[usize], pools: &[[usize; 2]]) -> Sequential {
    let mut stack = Sequential::new();
    for (i, (&outputs, &pool)) in channels.iter().zip(pools).enumerate() {
        let inputs = if i == 0 { 1 } else { channels[i - 1] };
        stack = stack
            .add(Conv2d::new(inputs, outputs, 3).padding(1).bias(false).init())
            .add(BatchNorm2d::new(outputs).init())
            .add(Activation::Relu.layer())
            .add(Pool::max(PoolOptions::new(pool)));
    }
    stack
}

/// Convolutions over the whole picture, then two dense layers that know positions.
#[derive(Module, Clone)]
pub struct Reader {
    stages: Sequential,
    dense: Linear,
    head: Linear,
}

impl Reader {
    /// For pictures `[B, 1, 32, width]` and an answer of `places`.
    fn new(channels: usize, units: usize, width: usize, places: usize) -> Self {
        let c = channels;
        Self {
            stages: stages(&[c, 2 * c, 4 * c, 4 * c], &[[2, 2]; 4]),
            dense: Linear::new(4 * c * (HEIGHT / 16) * (width / 16), units).init(),
            head: Linear::new(units, places).init(),
        }
    }
}

impl Forward for Reader {
    fn forward(&self, x: &Tensor) -> Tensor {
        let x = self.stages.forward(&(1.0 - x)); // ink is 1, and so is no padding: [B, 4c, 2, W/16]
        let x = self.dense.forward(&x.flatten_from(1)).relu(); // [B, units]
        self.head.forward(&x) // [B, length·n]
    }
}

/// What one dense layer can do, from pixels to places.
#[derive(Module, Clone)]
struct Plain {
    dense: Linear,
}

impl Forward for Plain {
    fn forward(&self, x: &Tensor) -> Tensor {
        self.dense.forward(&x.flatten_from(1)) // [B, length·n]
    }
}

/// The two side by side. Their weights have nothing to do with each other, so one optimiser follows the sum of their
/// losses.
#[derive(Module, Clone)]
struct Both {
    reader: Reader,
    plain: Plain,
}

knobs! {
    /// The knobs; those of every étude of captchas are in `course.rs`.
    pub struct Captcha {
        /// Characters a captcha. [1..10]
        length: usize = 4,
        /// What it learns from, and for how long.
        #[serde(flatten)]
        course: Course = Course::default(),
        /// Units of the dense layer. [1..65536]
        units: usize = 512,
    }
}

impl Captcha {
    fn captchas(&self, seed: u64) -> Result<Captchas> {
        self.course.captchas(self.length..=self.length, seed)
    }

    fn model(&self) -> Reader {
        let (width, places) = (PITCH * self.length, self.length * self.course.characters.len());
        Reader::new(self.course.channels, self.units, width, places)
    }

    /// What `model` reads in pictures `[N, 1, H, W]`.
    fn read(&self, model: &impl Forward, pictures: &Tensor) -> Result<Vec<Text>> {
        let places = reading::by_parts(pictures, |x| no_grad(|| evaluating(|| model.forward(x))))?; // [N, length·n]
        let best = places.reshape([pictures.size(0) * self.length, self.course.characters.len()]).argmax(1);
        let text = |text: &[i64]| text.iter().map(|&c| c as usize).collect();
        Ok(best.to_vec::<i64>().chunks(self.length).map(text).collect())
    }
}

impl Etude for Captcha {
    const NAME: &'static str = "captcha";
    const TITLE: &'static str = "a network reads captchas of four characters";
    const SOURCE: &'static str = "Goodfellow et al., 2014";
    const ROWS: &'static [&'static str] = &["V48", "F36"];
    const TEXT: &'static str = include_str!("captcha.rs");
    const PARTS: &'static [Part] = parts!["course.rs", "lettering.rs", "reading.rs"];

    fn docs() -> Vec<(String, String)> {
        [docs_from_source(Self::TEXT, "Captcha"), Course::docs()].concat()
    }

    fn quick() -> Self {
        let (characters, steps, channels) = ("0123456789".into(), 1500, 16);
        let course = Course { characters, steps, channels, tests: 1000, claim: 0.97, ..Self::default().course };
        Self { course, units: 256, ..Self::default() }
    }

    fn run(self, session: &mut Session) -> Result<Report> {
        let captchas = self.captchas(session.seed())?;
        let (batch, length, n) = (self.course.batch, self.length, captchas.characters.len());
        let plain = Plain { dense: Linear::new(HEIGHT * captchas.width(), length * n).init() };
        let both = Both { reader: self.model(), plain };
        let mut step = self.course.optimizer(session, &both, &both.reader);
        session.keep("both", &both);
        session.keep("step", &step);
        let mut drawn = Drawn::new(captchas.clone(), batch);
        for number in session.steps(self.course.steps) {
            let (x, texts) = drawn.batch(number?)?; // [B, 1, 32, W]
            let characters: Vec<i64> = texts.iter().flatten().map(|&c| c as i64).collect();
            let truth = Tensor::from_slice(&characters, [batch * length]);
            let v = truth.one_hot(n).to(DType::F32).reshape([batch, length * n]); // ones at i·n + index(charᵢ)
            let z = training(|| both.reader.forward(&x)); // [B, length·n]
            let loss = bce_with_logits(&z, &v);
            let plain = bce_with_logits(&both.plain.forward(&x), &v);
            step.minimise(&(&loss + &plain))?;
            let right = z.reshape([batch * length, n]).argmax(1).equal(&truth).to(DType::F32).mean(..);
            session.log(&[("loss", &loss), ("plain/loss", &plain), ("right", &right)])?;
        }
        session.save_best(&both.reader)?;
        self.report(session, &both, captchas)
    }

    fn summaries(&self) -> Vec<nn::Summary> {
        vec![self.model().summary([self.course.batch, 1, HEIGHT, PITCH * self.length])]
    }

    fn predict(&self, run: &RunFolder, file: &Path) -> Result<String> {
        let (model, captchas) = (self.model(), self.captchas(0)?);
        let picture = open_picture(run, &model, file, HEIGHT, captchas.width())?;
        Ok(captchas.letters(&self.read(&model, &picture)?[0]))
    }
}

impl Captcha {
    fn report(&self, session: &Session, both: &Both, captchas: Captchas) -> Result<Report> {
        let test = self.course.test(captchas);
        let network = Reading::of(&test, |pictures| self.read(&both.reader, pictures))?;
        let plain = Reading { read: self.read(&both.plain, &network.pictures)?, ..network.clone() };
        let n = test.characters.len();

        let mut report = Report::new();
        let mut table = Reading::table();
        let one_in = format!("1 in {}", units::grouped((n as u64).pow(self.length as u32)));
        table.row(["by chance".into(), one_in, String::new(), units::percent(1.0 - 1.0 / n as f64)]);
        table.row(plain.row("one dense layer"));
        table.row(network.row("the network"));
        report.table(table);
        let mut places = Table::new("by position", ["position", "characters right"]);
        for i in 0..self.length {
            places.row([format!("{}", i + 1), units::percent(network.share(|truth, read| truth[i] == read[i]))]);
        }
        report.table(places);

        network.pictures(session)?;
        let losses = session.chart("Loss", "nats a place", [("loss", "network"), ("plain/loss", "one dense layer")])?;
        let right = session.chart("Read right, before each step", "share of characters", [("right", "characters")])?;
        let page = Page::new(2).with(losses.scales(Scale::Linear, Scale::Log)).with(right.percent());
        session.show("curves", page)?;

        report.figures("test", network.figures());
        report.claim(Claim::at_least("strings right", network.strings(), self.course.claim).percent());
        let gain = network.errors() / plain.errors();
        report.claim(Claim::at_most("characters wrong, of those of one dense layer", gain, 0.2).percent());
        report.next(format!("etude predict {} captcha.png", session.path().display()));
        Ok(report)
    }
}
