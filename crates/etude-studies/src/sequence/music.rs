//! A recurrent network writes Irish tunes, one character at a time (Graves, 2013; LSTM: Hochreiter and Schmidhuber, 1997).
//!
//! ABC notation writes a tune as text, so a model of text can compose: read characters `x₁ … xₜ`, say how likely each of
//! the 83 characters is to come next, draw one, read it too, and go on. Text has no fixed length, so the network reads one
//! character at a time and carries what it has read in a state. A plain recurrent network
//!
//! ```text
//! hₜ = tanh(W · [hₜ₋₁, xₜ] + b)
//! ```
//!
//! multiplies the state by the same matrix at every step, and its gradient with it: after a hundred steps it has vanished
//! or exploded. The LSTM keeps a second state `c` that is only scaled and added to, through gates between 0 and 1 (σ is
//! the logistic function):
//!
//! ```text
//! f = σ(W_f · [hₜ₋₁, xₜ] + b_f)   forget      cₜ = f ⊙ cₜ₋₁ + i ⊙ c̃
//! i = σ(W_i · [hₜ₋₁, xₜ] + b_i)   write       c̃  = tanh(W_c · [hₜ₋₁, xₜ] + b_c)
//! o = σ(W_o · [hₜ₋₁, xₜ] + b_o)   show        hₜ = o ⊙ tanh(cₜ)
//! ```
//!
//! Training shows it stretches of text and asks for the same stretch one character later ("Hell" → "ello"); the loss is
//! the mean of `−ln p(next)`, in nats a character. Composing starts with `X:` and draws `next ~ softmax(logits / τ)`: a
//! temperature τ below 1 makes likely characters likelier. The states of a batch of tunes are carried from step to step,
//! so nothing is read twice. A framework with fixed shapes rebuilds the model with batch 1 for this; here shapes are free.
//!
//! What it writes is judged twice: by the loss on tunes it never saw, beside an n-gram model's, and by a reader of ABC
//! that wants a head, a key and bars as long as the metre says. `music/score.rs` draws one and plays it. The metre stands in
//! the head, and a stretch of a hundred characters seldom holds a head and a late bar: so some networks lose it on the way.
//! With the defaults and seeds 1, 2 and 3, 97, 80 and 73 % of the bars are of the right length; what is claimed lies below.

mod score;

use super::text::{Characters, stretches, surprise};
use crate::study::{Etude, Part, knobs, parts};
use etude::Result;
use etude::data::abc::{self, Tune};
use etude::nn::schedule::Cosine;
use etude::prelude::*;
use etude::train::units::percent;

/// Embedding, LSTM (one bias a gate, as in the notes), dense.
#[derive(Module, Clone)]
pub struct CharacterModel {
    embed: Embedding,
    lstm: Lstm,
    head: Linear,
}

/// The LSTM's `h` and `c`, each `[1, B, units]`.
type States = (Tensor, Tensor);

impl CharacterModel {
    /// A model over `vocabulary` characters.
    pub fn new(vocabulary: usize, width: usize, units: usize) -> Self {
        Self {
            embed: Embedding::new(vocabulary, width).init(),
            lstm: Lstm::new(width, units).batch_first(true).single_bias().init(),
            head: Linear::new(units, vocabulary).init(),
        }
    }

    /// Logits after each character of `x`, and the state after the last.
    fn read(&self, x: &Tensor, state: Option<&States>) -> (Tensor, States) {
        let x = self.embed.forward(x); // [B, T, width]
        let (h, state) = self.lstm.forward_sequence(&x, state.map(|(h, c)| (h, c))); // [B, T, units]
        (self.head.forward(&h), state) // [B, T, vocabulary]
    }
}

impl Forward for CharacterModel {
    fn forward(&self, x: &Tensor) -> Tensor {
        self.read(&x.to(DType::I64), None).0
    }
}

knobs! {
    /// The knobs; the defaults are the notes'.
    pub struct Music {
        /// Training steps. [1..10000000]
        steps: u64 = 3000,
        /// Stretches of text a step. [1..100000]
        batch: usize = 8,
        /// Characters a stretch. [1..10000]
        length: usize = 100,
        /// Adam's step size at the start; it falls to a fiftieth along half a cosine. [0..]
        learning_rate: f64 = 5e-3,
        /// Numbers a character is embedded in. [1..16384]
        width: usize = 256,
        /// Units of the LSTM. [1..16384]
        units: usize = 1024,
        /// Gradients are scaled down to this norm. [0..]
        clip: f64 = 5.0,
        /// Steps between two validations; the best model is kept. [1..]
        validate_every: u64 = 250,
        /// Tunes written at each temperature. [1..10000]
        tunes: usize = 100,
        /// Characters a tune may have at most. [100..100000]
        longest: usize = 700,
        /// The temperature of the tunes that are judged. [0.01..10]
        temperature: f64 = 0.8,
        /// Largest validation loss claimed, in nats a character. [0..]
        claim_loss: f64 = 1.2,
        /// Smallest share of tunes that parse. [0..1]
        claim_parse: f64 = 0.7,
        /// Smallest share of bars as long as their metre says, in tunes that parse. [0..1]
        claim_bars: f64 = 0.65,
    }
}

/// Every tenth tune is kept for validation: the collection is sorted by kind, so its end alone would be one kind.
fn tunes() -> Result<Characters> {
    let text = data::load_text("irish-abc")?;
    let (mut train, mut valid) = (String::new(), String::new());
    for (i, tune) in abc::tunes(&text).into_iter().enumerate() {
        let part = if i % 10 == 9 { &mut valid } else { &mut train };
        *part += &format!("{tune}\n\n");
    }
    Ok(Characters::new(&train, &valid))
}

impl Music {
    /// Writes tunes side by side, each until an empty line, at `temperature`.
    fn compose(&self, model: &CharacterModel, text: &Characters, temperature: f64) -> Result<Vec<String>> {
        let start = text.numbers("X:");
        let mut written = vec![start.clone(); self.tunes];
        let mut seen = Tensor::from_slice(&start.repeat(self.tunes), [self.tunes, start.len()]); // [N, 2]
        let mut state = None;
        let end = text.numbers("\n")[0];
        let is_over = |tune: &[i64]| tune.ends_with(&[end, end]);
        for _ in 0..self.longest {
            let (logits, next) = evaluating(|| model.read(&seen, state.as_ref()));
            let drawn = categorical(&(logits.narrow(1, seen.size(1) - 1, 1) / temperature)); // [N, 1]
            Tensor::eval_all(&[drawn.clone(), next.0.clone(), next.1.clone()])?;
            for (tune, character) in written.iter_mut().zip(drawn.to_vec::<i64>()) {
                if !is_over(tune) {
                    tune.push(character);
                }
            }
            if written.iter().all(|tune| is_over(tune)) {
                break;
            }
            (seen, state) = (drawn, Some(next));
        }
        Ok(written.iter().map(|tune| text.letters(tune)).collect())
    }
}

/// The mean of `−ln p(next)` over `text`, read as sixteen streams side by side whose states are carried along.
fn loss_on(model: &CharacterModel, text: &[i64]) -> f64 {
    const STREAMS: usize = 16;
    const LENGTH: usize = 200;
    let rows = (text.len() - 1) / STREAMS;
    let (mut sum, mut state) = (0.0, None);
    for begin in (0..rows).step_by(LENGTH) {
        let starts = (0..STREAMS).map(|stream| stream * rows + begin);
        let (x, y) = stretches(text, starts, LENGTH.min(rows - begin)); // [16, 200] both
        let (logits, next) = evaluating(|| model.read(&x, state.as_ref()));
        sum += surprise(&logits, &y).item() * y.count() as f64;
        state = Some((next.0.detach(), next.1.detach()));
    }
    sum / (STREAMS * rows) as f64
}

impl Etude for Music {
    const NAME: &'static str = "music";
    const TITLE: &'static str = "a recurrent network writes Irish tunes";
    const SOURCE: &'static str = "Hochreiter and Schmidhuber, 1997; Graves, 2013";
    const ROWS: &'static [&'static str] =
        &["S1", "S2", "S3", "S9", "S10", "S11", "S12", "S13", "S14", "S15", "S16", "F50", "O25"];
    const TEXT: &'static str = include_str!("music.rs");
    const PARTS: &'static [Part] = parts!["music/score.rs", "text.rs", "ngram.rs"];

    fn quick() -> Self {
        let (steps, batch, width, units, tunes) = (500, 16, 64, 256, 100);
        let claims = Self { claim_loss: 1.3, claim_parse: 0.5, claim_bars: 0.5, ..Self::default() };
        Self { steps, batch, width, units, tunes, validate_every: 125, ..claims }
    }

    fn run(self, session: &mut Session) -> Result<Report> {
        let text = tunes()?;
        let model = CharacterModel::new(text.vocabulary(), self.width, self.units);
        let best = model.clone();
        let fall = Cosine::down(self.learning_rate, 50.0, self.steps);
        let mut step = Adam::new(self.learning_rate).over(&model).clip(Clip::Norm(self.clip)).schedule(fall);
        text.introduce(session);
        session.introduce(&model);

        session.keep("model", &model);
        session.keep("best", &best);
        session.keep("step", &step);
        let lowest = session.value("lowest", f64::INFINITY);
        for number in session.steps(self.steps) {
            let number = number? + 1;
            let (x, y) = text.draw(self.batch, self.length); // [B, T] both
            let logits = training(|| model.forward(&x)); // [B, T, vocabulary]
            let loss = surprise(&logits, &y);
            step.minimise(&loss)?;
            session.log(&[("loss", &loss)])?;
            if number % self.validate_every == 0 || number == self.steps {
                let valid = loss_on(&model, &text.valid);
                session.record(&[("valid/loss", valid)])?;
                if valid < *lowest.borrow() {
                    *lowest.borrow_mut() = valid;
                    best.copy_from(&model)?;
                }
            }
        }
        self.report(session, &best, &text)
    }

    fn summaries(&self) -> Vec<nn::Summary> {
        vec![CharacterModel::new(83, self.width, self.units).summary([self.batch, self.length])]
    }
}

impl Music {
    fn report(&self, session: &Session, best: &CharacterModel, text: &Characters) -> Result<Report> {
        let valid = loss_on(best, &text.valid);
        let mut report = Report::new();
        let (table, lowest) = text.losses("LSTM", valid);
        report.table(table);

        let mut table = Table::new("tunes written", ["temperature", "parse", "bars of the right length"]);
        let mut judged = Vec::new();
        for temperature in [0.5, 1.0, self.temperature] {
            let written = self.compose(best, text, temperature)?;
            let tunes: Vec<Tune> = written.iter().filter_map(|text| Tune::parse(text).ok()).collect();
            let share = tunes.len() as f64 / written.len() as f64;
            // Each tune counts alike, so that one that runs away does not decide for all.
            let bars = tunes.iter().map(Tune::even).sum::<f64>() / tunes.len().max(1) as f64;
            table.row([format!("{temperature}"), percent(share), percent(bars)]);
            judged.push((written, tunes, share, bars));
        }
        report.table(table);
        let (written, mut tunes, share, bars) = judged.pop().expect("three temperatures");

        let media = session.media();
        media.file("tunes.abc", written.join("").as_bytes())?;
        // The longest of the tunes without a fault, or the longest of all that parse.
        tunes.sort_by_key(|tune| (tune.is_even(), tune.bars.len()));
        if let Some(tune) = tunes.last() {
            media.sound("tune", score::RATE, &score::sound(tune))?;
            media.file("score.png", &score::piano_roll(tune)?)?;
        }
        let loss = session.chart("Loss", "nats a character", [("loss", "train"), ("valid/loss", "validation")])?;
        session.show("curves", loss)?;

        report.figures("valid", [("nats a character", valid), ("n-gram", lowest)]);
        report.claim(Claim::at_most("validation loss, nats a character", valid, self.claim_loss));
        report.claim(Claim::at_least("nats below the best n-gram", lowest - valid, 0.0));
        report.claim(Claim::at_least("tunes that parse", share, self.claim_parse).percent());
        report.claim(Claim::at_least("bars of the right length", bars, self.claim_bars).percent());
        Ok(report)
    }
}
