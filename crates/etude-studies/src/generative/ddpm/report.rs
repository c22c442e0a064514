//! The ways back beside each other, and pictures of the process: what is measured and drawn when the net is trained.

use super::noising::Noising;
use super::way::Way;
use crate::generative::digits::{in_turn, samples, sheet};
use crate::generative::gan;
use crate::generative::judge::{Judge, Verdict};
use etude::Result;
use etude::prelude::*;
use etude::train::plot::{Chart, Page, Picture};
use etude::train::session::pictures_of;
use etude::train::trainer::to_tensor;
use etude::train::units;

/// Ways back under trial, a row of a table each.
pub struct Trials<'a> {
    session: &'a Session,
    judge: &'a Judge,
    table: Table,
}

impl<'a> Trials<'a> {
    /// None so far.
    pub fn new(session: &'a Session, judge: &'a Judge) -> Self {
        let head = ["way", "leaps", "w", "Fréchet", "right", "variety", "ms a sample"];
        Self { session, judge, table: Table::new("ways back", head) }
    }

    /// Makes `count` digits in a way that is called `name`, draws a hundred of them, and says what the judge found and the
    /// share of those that are the digit asked for.
    pub fn judge(&mut self, name: &str, way: Way, count: usize) -> Result<(Verdict, f64)> {
        let (leaps, w) = (way.steps().count(), way.guidance);
        self.session.say(format!("{} digits by {name} in {leaps} leaps, w = {w}", units::grouped(count as u64)));
        let make = |classes: &Tensor| way.digits(&randn([classes.count(), 1, 28, 28]), classes);
        let (made, each) = samples(self.session, count, 100, make)?; // [count, 1, 28, 28]
        self.session.media().grid(&format!("{name}-{leaps}-{w}"), &made.narrow(0, 0, 100))?;
        let verdict = self.judge.judge(&made);
        let right = verdict.right(&in_turn(count));
        self.table.row([
            name.to_string(),
            leaps.to_string(),
            units::number(w),
            frechet(&verdict),
            units::percent(right),
            units::percent(verdict.variety),
            units::number(each),
        ]);
        Ok((verdict, right))
    }

    /// The table, with the time of a generator of the games as its last row.
    pub fn beside_a_generator(mut self) -> Result<Table> {
        let generator = units::number(gan::milliseconds_a_sample(self.session)?);
        self.table.row(["a generator, cgan's", "1", "–", "–", "–", "–", &generator]);
        Ok(self.table)
    }
}

/// The distance, where there are enough pictures to tell the spread of 84 features.
pub fn frechet(verdict: &Verdict) -> String {
    if verdict.classes.len() < 500 { "–".into() } else { units::number(verdict.frechet) }
}

/// The forward process, the way back by all steps, and what is behind them.
pub fn pictures(session: &Session, slow: Way, test: &Dataset) -> Result<()> {
    let last = slow.leaps;
    let mut shown: Vec<usize> = (0..=10).map(|column| column * last / 10).collect();
    shown.dedup();
    let x = to_tensor(&test.take(4).inputs)? * 2.0 - 1.0;
    let noised = |row: usize| {
        let same = cat(&vec![x.narrow(0, row, 1); shown.len()], 0); // [11, 1, 28, 28]
        let t = tensor(shown.iter().map(|&t| t as i64).collect::<Vec<_>>());
        in_grey(&slow.noising.apply(&same, &t).0)
    };
    let title = format!("Digits, and noise added: steps 0, {} … {last}", shown[1]);
    session.show("noised", sheet(&title, &(0..4).map(noised).collect::<Vec<_>>(), shown.len())?)?;
    reverse(session, slow, &shown)?;

    let loss = session.chart("Loss", "mean square", [("loss", "loss")])?;
    let t: Vec<f64> = (0..=last).map(|t| t as f64).collect();
    let root = |noising: &Noising| -> Vec<f64> { noising.kept.iter().map(|kept| kept.sqrt()).collect() };
    let parts = Chart::new("The part of the digit in a noisy one")
        .labels("step", "share")
        .line("this run", t.clone(), root(slow.noising))
        .line("β in a straight line", t, root(&Noising::new(last, false, true)))
        .dashed();
    session.show("process", Page::new(2).with(loss).with(parts))
}

/// Thirty digits on their way back as a film, and three of them at the steps `shown`, with the digit that was seen there.
fn reverse(session: &Session, slow: Way, shown: &[usize]) -> Result<()> {
    let (mut x, classes) = (randn([30, 1, 28, 28]), in_turn(30));
    let frame = |x: &Tensor| Ok::<_, etude::Error>(Picture::sheet(&pictures_of(&in_grey(x))?, 10, 2).enlarged(2));
    let (mut frames, mut noisy, mut seen) = (Vec::new(), Vec::new(), Vec::new());
    for step in slow.steps() {
        let (next, digit) = slow.leap(&x, step, &classes)?;
        if step.0.is_multiple_of(slow.leaps.div_ceil(50)) {
            frames.push(frame(&x)?);
        }
        if shown.contains(&step.0) {
            noisy.push(in_grey(&x));
            seen.push(in_grey(&digit));
        }
        x = next;
    }
    noisy.push(in_grey(&x));
    seen.push(in_grey(&x));
    frames.push(frame(&x)?);
    session.media().animation("reverse", &frames, 0.1)?;
    let row = |moments: &[Tensor], digit: usize| -> Tensor {
        cat(&moments.iter().map(|x| x.narrow(0, digit, 1)).collect::<Vec<_>>(), 0) // [11, 1, 28, 28]
    };
    let strip: Vec<Tensor> = [2, 5, 8].iter().flat_map(|&digit| [row(&noisy, digit), row(&seen, digit)]).collect();
    session.show("reverse", sheet("The way back of three, and the digit seen in each", &strip, shown.len())?)
}

/// Values in −1 … 1 as values in 0 … 1; noise goes beyond.
fn in_grey(x: &Tensor) -> Tensor {
    ((x + 1.0) * 0.5).clamp(0.0, 1.0)
}
