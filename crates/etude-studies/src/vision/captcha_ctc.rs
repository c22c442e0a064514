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
use super::lettering::{CHARACTERS, Captchas, Drawn, HEIGHT, PITCH, Text};
use super::reading::{self, Reading};
use crate::common::open_picture;
use crate::study::Etude;
use etude::Result;
use etude::nn::decode::{ctc_beam, ctc_greedy};
use etude::nn::schedule::{Cosine, Schedule};
use etude::prelude::*;
use etude::train::plot::{Chart, Scale};
use etude::train::{Figure, RunFolder, units};
use serde::{Deserialize, Serialize};
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

/// The knobs.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct CaptchaCtc {
    /// The characters that occur, letters and digits.
    pub characters: String,
    /// The fewest characters a captcha. [1..12]
    pub shortest: usize,
    /// The most characters a captcha. [1..12]
    pub longest: usize,
    /// The most a character is turned to either side, in degrees. [0..90]
    pub rotation: f64,
    /// The most lines through a captcha; there are at least half as many. [0..20]
    pub lines: usize,
    /// Training steps. [1..10000000]
    pub steps: u64,
    /// Captchas a step, drawn for it. [1..100000]
    pub batch: usize,
    /// Channels of the first convolution; the others have twice and four times as many. [1..1024]
    pub channels: usize,
    /// Units of the LSTM in each direction. [1..16384]
    pub units: usize,
    /// Adam's step size at the start; it falls to a hundredth along half a cosine. [0..]
    pub learning_rate: f64,
    /// Gradients are scaled down to this norm. [0..]
    pub clip: f64,
    /// Prefixes the beam search keeps. [1..1000]
    pub beam: usize,
    /// Captchas of the test, of strings never drawn in training. [48..100000]
    pub tests: usize,
    /// Smallest share of whole strings right. [0..1]
    pub claim: f64,
    /// Largest share of characters to insert, delete or replace. [0..1]
    pub claim_errors: f64,
}

impl Default for CaptchaCtc {
    fn default() -> Self {
        Self {
            characters: CHARACTERS.into(),
            shortest: 3,
            longest: 6,
            rotation: 25.0,
            lines: 3,
            steps: 6000,
            batch: 16,
            channels: 32,
            units: 128,
            learning_rate: 2e-3,
            clip: 5.0,
            beam: 10,
            tests: 2000,
            claim: 0.95,
            claim_errors: 0.015,
        }
    }
}

/// The number that stands for a blank; character c is number c + 1.
const BLANK: usize = 0;

impl CaptchaCtc {
    fn captchas(&self, seed: u64) -> Result<Captchas> {
        let count = self.steps as usize * self.batch;
        let drawn = Captchas::new(&self.characters, self.shortest..=self.longest, seed, count)?;
        Ok(Captchas { rotation: self.rotation as f32, lines: self.lines, ..drawn })
    }

    fn model(&self) -> Crnn {
        Crnn::new(self.channels, self.units, 1 + self.characters.len())
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

    fn quick() -> Self {
        let (characters, steps, channels, units) = ("0123456789".into(), 1000, 16, 64);
        let claims = Self { claim: 0.97, claim_errors: 0.01, ..Self::default() };
        Self { characters, steps, channels, units, tests: 1000, ..claims }
    }

    fn run(self, session: &mut Session) -> Result<Report> {
        let captchas = self.captchas(session.seed())?;
        let model = self.model();
        let mut step = Adam::new(self.learning_rate).over(&model).clip(Clip::Norm(self.clip));
        let floor = self.learning_rate / 100.0;
        let rate = Cosine { rate: self.learning_rate, floor, steps: self.steps };
        session.say(format!("model   {} parameters", units::grouped(model.parameter_count() as u64)));

        session.keep("model", &model);
        session.keep("step", &step);
        let mut drawn = Drawn::new(captchas.clone(), self.batch);
        for number in session.steps(self.steps) {
            let number = number?;
            step.set_learning_rate(rate.rate(number));
            let (x, texts) = drawn.batch(number)?; // [B, 1, 32, W]
            let columns = training(|| model.forward(&x)); // [T, B, 1 + n]
            let (labels, lengths) = labels(&texts, self.longest); // [B, longest], [B]
            let all = full([self.batch], columns.size(0) as f64).to(DType::I64);
            let loss = ctc(&columns, &labels, &all, &lengths); // nats a character
            step.minimise(&loss)?;
            session.log(&[("loss", &loss)])?;
        }
        session.save_best(&model)?;
        self.report(session, &model, captchas)
    }

    fn summaries(&self) -> Vec<nn::Summary> {
        vec![self.model().summary([self.batch, 1, HEIGHT, PITCH * self.longest])]
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
        let test = Captchas { held_out: true, count: self.tests, ..captchas };
        let greedy = Reading::of(&test, |pictures| {
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
            let right = beam.share(|truth, read| truth.len() == length && truth == read) * self.tests as f64;
            lengths.row([
                format!("{length}"),
                units::grouped(count as u64),
                units::percent(right / count.max(1) as f64),
            ]);
        }
        report.table(lengths);

        beam.pictures(session)?;
        session.picture("alignment.png", &beam.alignment(&columns, [self.shortest, self.longest])?)?;
        let (steps, loss) = session.curve("loss")?;
        let chart =
            Chart::new("Loss, before each step").labels("step", "nats a character").scales(Scale::Linear, Scale::Log);
        session.picture("curves.png", &chart.noisy_line("CTC", steps, loss, 0.9).to_png()?)?;

        let (strings, errors) = (beam.strings(), beam.errors());
        report
            .figures("test", [Figure::percent("strings right", strings), Figure::percent("characters wrong", errors)]);
        report.figures(
            "greedy",
            [Figure::percent("strings right", greedy.strings()), Figure::new("read otherwise", differ as f64)],
        );
        report.claim(Claim::at_least("strings right", strings, self.claim).percent());
        report.claim(Claim::at_most("characters to edit", errors, self.claim_errors).percent());
        let least = gain.iter().copied().fold(f64::INFINITY, f64::min);
        report.claim(Claim::at_least("least gain of the beam over greedy, in nats", least, -1e-3));
        for name in ["captchas", "wrong", "confused", "alignment", "curves"] {
            report.left(format!("media/{name}.png"));
        }
        report.next(format!("etude predict {} captcha.png", session.path().display()));
        Ok(report)
    }
}
