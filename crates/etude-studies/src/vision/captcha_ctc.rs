//! A network reads captchas of any length, column by column.
//!
//! `captcha` answers with a place for every character at every position, and so it must know how many positions there are.
//! Here convolutions turn the picture into a row of columns, an LSTM in both directions lets each column know the others
//! (a CRNN; Shi, Bai and Yao, 2017), and every column t says how likely each character is, or that it says nothing: the
//! blank `∅`. A path π of one answer a column becomes a string by merging repeats and then dropping blanks:
//!
//! ```text
//! B( ∅ ∅ h h ∅ e ∅ l ∅ l l o ∅ ) = h e l l o          the blank between keeps the two l apart
//! ```
//!
//! Nobody says which column each character belongs to. Connectionist temporal classification (Graves, Fernández, Gomez and
//! Schmidhuber, 2006) does not ask: the probability of a string is that of all paths that give it, and training raises its
//! logarithm,
//!
//! ```text
//! p(y | x) = Σ_{π : B(π) = y} Π_t p_t(π_t | x)          L = − ln p(y | x)
//! ```
//!
//! There are far too many paths to write down, but they share beginnings. With y′ = y with a blank before, between and
//! after its characters, and α(t, s) the mass of all beginnings of t columns that have come to place s of y′,
//!
//! ```text
//! α(t, s) = p_t(y′_s) · [ α(t−1, s) + α(t−1, s−1) + α(t−1, s−2) ]
//! ```
//!
//! the last term only where y′_s is no blank and differs from y′_{s−2}; p(y | x) is α at the end in the last two places,
//! and the work is columns × length.
//!
//! Reading is the other way round. Greedy: the likeliest answer of each column, then B. But the string with the most mass
//! need not be that of the likeliest path, so a beam search keeps the prefixes with the most mass (`nn::decode`).
//!
//! Look at `alignment.png`: most columns say nothing, and each character is one spike, in the right order, but not always
//! where it stands. Every shift of a path gives the same string, and columns that know the whole row may speak early.

use super::captcha::stages;
use super::course::Course;
use super::lettering::{Captchas, Drawn, HEIGHT, PITCH, Text};
use super::reading::{self, Reading};
use crate::common::open_picture;
use crate::study::{Etude, Part, knobs, parts};
use etude::Result;
use etude::nn::decode::{ctc_beam, ctc_greedy};
use etude::prelude::*;
use etude::train::config::docs_from_source;
use etude::train::plot::Scale;
use etude::train::{Figure, RunFolder, units};
use std::path::Path;

/// Convolutions that leave one row, an LSTM along it in both directions, and scores of every class in every column.
#[derive(Module, Clone)]
pub struct Crnn {
    stages: Sequential,
    lstm: Lstm,
    head: Linear,
}

impl Crnn {
    fn new(channels: usize, units: usize, classes: usize) -> Self {
        let c = channels;
        Self {
            stages: stages(&[c, 2 * c, 4 * c, 4 * c], &[[2, 2], [2, 2], [2, 1], [4, 1]]),
            lstm: Lstm::new(4 * c, units).bidirectional(true).init(),
            head: Linear::new(2 * units, classes).init(),
        }
    }
}

impl Forward for Crnn {
    fn forward(&self, x: &Tensor) -> Tensor {
        let x = self.stages.forward(&(1.0 - x)); // ink is 1, and so is no padding: [B, 4c, 1, T], a column every 4 pixels
        let x = self.lstm.forward(&x.squeeze(2).transpose(1, 2)); // [B, T, 2·units]
        self.head.forward(&x).log_softmax(-1).transpose(0, 1) // [T, B, 1 + n]
    }
}

knobs! {
    /// The knobs; those of every étude of captchas are in `course.rs`.
    pub struct CaptchaCtc {
        /// The fewest characters a captcha. [1..12]
        shortest: usize = 3,
        /// The most characters a captcha. [1..12]
        longest: usize = 6,
        /// What it learns from, and for how long.
        #[serde(flatten)]
        course: Course = Course { steps: 6000, learning_rate: 2e-3, ..Course::default() },
        /// Units of the LSTM in each direction. [1..16384]
        units: usize = 128,
        /// Gradients are scaled down to this norm. [0..]
        clip: f64 = 5.0,
        /// Prefixes the beam search keeps. [1..1000]
        beam: usize = 10,
        /// Largest share of characters to insert, delete or replace. [0..1]
        claim_errors: f64 = 0.015,
    }
}

/// The number that stands for a blank; character c is number c + 1.
const BLANK: usize = 0;

impl CaptchaCtc {
    fn captchas(&self, seed: u64) -> Result<Captchas> {
        self.course.captchas(self.shortest..=self.longest, seed)
    }

    fn model(&self) -> Crnn {
        Crnn::new(self.course.channels, self.units, 1 + self.course.characters.len())
    }

    /// `ln p` of every class in every column, `[T, N, 1 + n]`, for pictures `[N, 1, H, W]`.
    fn columns(&self, model: &Crnn, pictures: &Tensor) -> Result<Tensor> {
        let columns = |x: &Tensor| no_grad(|| evaluating(|| model.forward(x))).transpose(0, 1);
        Ok(reading::by_parts(pictures, columns)?.transpose(0, 1))
    }
}

/// Labels as characters.
fn text(labels: &[usize]) -> Text {
    labels.iter().map(|label| label - 1).collect()
}

/// The strings as labels side by side, `[N, longest]`, and their lengths, `[N]`.
fn labels(texts: &[Text], longest: usize) -> (Tensor, Tensor) {
    let row = |text: &Text| (0..longest).map(|i| text.get(i).map_or(0, |&c| c as i64 + 1)).collect::<Vec<i64>>();
    let lengths: Vec<i64> = texts.iter().map(|text| text.len() as i64).collect();
    let labels: Vec<i64> = texts.iter().flat_map(row).collect();
    (Tensor::from_slice(&labels, [texts.len(), longest]), Tensor::from_slice(&lengths, [texts.len()]))
}

/// `−ln p` of each string, all columns counting, in nats; `[N]`.
fn surprise(columns: &Tensor, texts: &[Text]) -> Tensor {
    let longest = texts.iter().map(Vec::len).max().unwrap_or(0);
    let (labels, lengths) = labels(texts, longest);
    let all = full([texts.len()], columns.size(0) as f64).to(DType::I64);
    Ctc { blank: BLANK, reduction: Reduction::None, ..Ctc::default() }.loss(columns, &labels, &all, &lengths)
}

impl Etude for CaptchaCtc {
    const NAME: &'static str = "captcha-ctc";
    const TITLE: &'static str = "a network reads captchas of any length";
    const SOURCE: &'static str = "Graves et al., 2006; Shi et al., 2017";
    const ROWS: &'static [&'static str] = &["V47", "V48", "F37"];
    const TEXT: &'static str = include_str!("captcha_ctc.rs");
    const PARTS: &'static [Part] = parts!["course.rs", "lettering.rs", "reading.rs"];

    fn docs() -> Vec<(String, String)> {
        [docs_from_source(Self::TEXT, "CaptchaCtc"), Course::docs()].concat()
    }

    fn quick() -> Self {
        let (characters, steps, channels) = ("0123456789".into(), 1000, 16);
        let course = Course { characters, steps, channels, tests: 1000, claim: 0.97, ..Self::default().course };
        Self { course, units: 64, claim_errors: 0.01, ..Self::default() }
    }

    fn run(self, session: &mut Session) -> Result<Report> {
        let captchas = self.captchas(session.seed())?;
        let model = self.model();
        let mut step = self.course.optimizer(session, &model, &model).clip(Clip::Norm(self.clip));
        session.keep("model", &model);
        session.keep("step", &step);
        let mut drawn = Drawn::new(captchas.clone(), self.course.batch);
        for number in session.steps(self.course.steps) {
            let (x, texts) = drawn.batch(number?)?; // [B, 1, 32, W]
            let columns = training(|| model.forward(&x)); // [T, B, 1 + n]
            let (labels, lengths) = labels(&texts, self.longest); // [B, longest], [B]
            let all = full([texts.len()], columns.size(0) as f64).to(DType::I64);
            let loss = ctc(&columns, &labels, &all, &lengths); // nats a character
            step.minimise(&loss)?;
            session.log(&[("loss", &loss)])?;
        }
        session.save_best(&model)?;
        self.report(session, &model, captchas)
    }

    fn summaries(&self) -> Vec<nn::Summary> {
        vec![self.model().summary([self.course.batch, 1, HEIGHT, PITCH * self.longest])]
    }

    fn predict(&self, run: &RunFolder, file: &Path) -> Result<String> {
        let (model, captchas) = (self.model(), self.captchas(0)?);
        let picture = open_picture(run, &model, file, HEIGHT, captchas.width())?;
        let read = ctc_beam(&self.columns(&model, &picture)?, BLANK, self.beam).swap_remove(0);
        let line = |(labels, mass): &(Text, f64)| {
            format!("{}   {}", captchas.letters(&text(labels)), units::percent(mass.exp()))
        };
        Ok(read.iter().take(3).map(line).collect::<Vec<_>>().join("\n"))
    }
}

impl CaptchaCtc {
    fn report(&self, session: &Session, model: &Crnn, captchas: Captchas) -> Result<Report> {
        let greedy = Reading::of(&self.course.test(captchas), |pictures| {
            let columns = self.columns(model, pictures)?;
            Ok(ctc_greedy(&columns, BLANK).iter().map(|labels| text(labels)).collect())
        })?;
        let columns = self.columns(model, &greedy.pictures)?; // [T, N, 1 + n]
        let found = ctc_beam(&columns, BLANK, self.beam);
        let beam = Reading { read: found.iter().map(|row| text(&row[0].0)).collect(), ..greedy.clone() };
        // Where the two differ, which one is likelier, with all paths counted?
        let gain = (surprise(&columns, &greedy.read) - surprise(&columns, &beam.read)).to_vec::<f64>();
        let differ = beam.read.iter().zip(&greedy.read).filter(|(a, b)| a != b).count();

        let mut report = Report::new();
        let mut table = Reading::table();
        table.row(greedy.row("greedy"));
        table.row(beam.row(&format!("beam of {}", self.beam)));
        report.table(table);
        let mut lengths = Table::new("by length", ["characters", "captchas", "strings right"]);
        for length in self.shortest..=self.longest {
            let count = beam.truth.iter().filter(|text| text.len() == length).count();
            let right = beam.share(|truth, read| truth.len() == length && truth == read) * beam.truth.len() as f64;
            let share = units::percent(right / count.max(1) as f64);
            lengths.row([length.to_string(), units::grouped(count as u64), share]);
        }
        report.table(lengths);

        beam.pictures(session)?;
        let alignment = beam.alignment(&columns, [self.shortest, self.longest])?;
        session.media().file("alignment.png", &alignment)?;
        let loss = session.chart("Loss, before each step", "nats a character", [("loss", "CTC")])?;
        session.show("curves", loss.scales(Scale::Linear, Scale::Log))?;

        report.figures("test", beam.figures());
        let strings = Figure::percent("strings right", greedy.strings());
        report.figures("greedy", [strings, Figure::new("read otherwise", differ as f64)]);
        report.claim(Claim::at_least("strings right", beam.strings(), self.course.claim).percent());
        report.claim(Claim::at_most("characters to edit", beam.errors(), self.claim_errors).percent());
        let least = gain.iter().copied().fold(f64::INFINITY, f64::min);
        report.claim(Claim::at_least("least gain of the beam over greedy, in nats", least, -1e-3));
        report.next(format!("etude predict {} captcha.png", session.path().display()));
        Ok(report)
    }
}
