//! A small GPT writes like Shakespeare (Radford et al., 2018; Vaswani et al., 2017).
//!
//! A recurrent network squeezes what it has read into one state. Attention keeps every position and lets each one look
//! back at all before it: a position asks with a query `q`, every position answers with a key `k`, and what comes back is
//! the mean of their values `v`, weighted by how well question and answer go together:
//!
//! ```text
//! Attention(Q, K, V) = softmax( Q·Kᵀ / √d + M ) · V        M[t, s] = 0 for s ≤ t, −∞ for s > t
//! ```
//!
//! The mask M hides the future: position t predicts the character after it, and every position of a stretch is a lesson
//! at once. Several heads ask different questions side by side, each in its own slice of the width, as a convolution has
//! several channels. Attention alone does not see order, so each position's vector has sines and cosines of its place
//! added, each pair a clock hand of another period:
//!
//! ```text
//! PE[p, 2i] = sin(p / 10000^(2i/d))        PE[p, 2i+1] = cos(p / 10000^(2i/d))
//! ```
//!
//! A block (`gpt/transformer.rs`) is `x + Attention(norm(x))`, then `x + W₂·gelu(W₁·norm(x))`; blocks are repeated, and the
//! last vector of a stretch, times the head, gives the logits of the next character. (The largest GPT-3 is this with width
//! 12,288 and 96 heads of 128 in 96 blocks.)
//!
//! Writing asks for one new position at a time. Keys and values of the positions before never change, so they are kept in
//! a cache and only the new one is computed: the work for a character falls from all `t` positions to one.
//!
//! The measure is bits a character on text never seen: the mean of `−log₂ p(next)`, each character with at least half a
//! context before it.

mod transformer;

use super::text::{Characters, stretches, surprise};
use crate::study::{Etude, Part, knobs, parts};
use etude::Result;
use etude::nn::schedule::{Cosine, Linear as Line, Sequence};
use etude::prelude::*;
use etude::train::metrics::mean;
use etude::train::plot::{ColourMap, HeatMap, Page};
use std::time::Instant;
use transformer::Transformer;

knobs! {
    /// The knobs.
    pub struct Gpt {
        /// Training steps. [1..10000000]
        steps: u64 = 4000,
        /// Stretches a step. [1..100000]
        batch: usize = 16,
        /// Characters a stretch, and the most the model can look back at. [8..8192]
        context: usize = 128,
        /// Heads a block. [1..256]
        heads: usize = 6,
        /// Width of a head; even. [2..512]
        head_width: usize = 32,
        /// Blocks. [1..256]
        depth: usize = 4,
        /// The probability of dropping an element after attention and dense layer. [0..0.9]
        dropout: f64 = 0.1,
        /// AdamW's largest step size: it rises over a twentieth of the steps and falls to a tenth along a cosine. [0..]
        learning_rate: f64 = 1e-3,
        /// Gradients are scaled down to this norm. [0..]
        clip: f64 = 1.0,
        /// Steps between two validations. [1..]
        validate_every: u64 = 500,
        /// Characters written at the end. [1..8192]
        written: usize = 600,
        /// The temperature they are drawn at. [0.01..10]
        temperature: f64 = 0.8,
        /// Most bits a character claimed on text never seen. [0..]
        claim: f64 = 2.2,
    }
}

/// The last tenth of each play's lines is kept for validation.
fn plays() -> Result<Characters> {
    let text = data::load_text("shakespeare-tragedies")?;
    let (mut train, mut valid) = (String::new(), String::new());
    for play in text.split("\n\n\n\n\n\n") {
        let lines: Vec<&str> = play.split_inclusive('\n').collect();
        let (first, last) = lines.split_at(lines.len() / 10 * 9);
        train += &first.concat();
        valid += &last.concat();
    }
    Ok(Characters::new(&train, &valid))
}

impl Gpt {
    /// Nats a character on up to `most` stretches of `text`; of each the later half counts.
    fn loss(&self, model: &Transformer, text: &[i64], most: usize) -> f64 {
        let (context, half) = (self.context, self.context / 2);
        let starts: Vec<usize> = (0..text.len() - context - 1).step_by(half).collect();
        let starts: Vec<usize> = starts.iter().copied().step_by(starts.len().div_ceil(most)).collect();
        let loss = |group: &[usize]| {
            let (x, y) = stretches(text, group.iter().copied(), context); // [16, context] both
            let logits = no_grad(|| evaluating(|| model.forward(&x))); // [16, context, vocabulary]
            surprise(&logits.narrow(1, half, context - half), &y.narrow(1, half, context - half)).item()
        };
        mean(&starts.chunks_exact(16).map(loss).collect::<Vec<_>>())
    }

    /// Writes on after `start`, through the cache, up to `written` characters; begins a fresh context with the last half
    /// when one is full. Gives the text and the characters a second.
    fn write(&self, model: &Transformer, text: &Characters, start: &str) -> Result<(String, f64)> {
        let (mut written, clock) = (text.numbers(start), Instant::now());
        let (mut caches, mut at, mut begin) = (model.caches(1), 0, 0);
        let first = written.len();
        while written.len() < first + self.written {
            let here = Tensor::from_slice(&written[begin + at..][..1], [1]);
            let logits = no_grad(|| evaluating(|| model.next(&here, at, &mut caches)))?;
            at += 1;
            if begin + at == written.len() {
                written.extend(categorical(&(logits / self.temperature)).to_vec::<i64>());
            }
            if at == self.context {
                (begin, at, caches) = (begin + self.context - self.context / 2, 0, model.caches(1));
            }
        }
        Ok((text.letters(&written), self.written as f64 / clock.elapsed().as_secs_f64()))
    }
}

impl Etude for Gpt {
    const NAME: &'static str = "gpt";
    const TITLE: &'static str = "a small GPT writes like Shakespeare";
    const SOURCE: &'static str = "Vaswani et al., 2017; Radford et al., 2018";
    const ROWS: &'static [&'static str] = &["S28", "S29", "S30", "S31", "S34", "S38"];
    const TEXT: &'static str = include_str!("gpt.rs");
    const PARTS: &'static [Part] = parts!["gpt/transformer.rs", "text.rs", "ngram.rs"];

    fn quick() -> Self {
        let (steps, context, heads, depth, learning_rate) = (800, 64, 4, 2, 3e-3);
        Self { steps, context, heads, depth, learning_rate, claim: 2.9, written: 300, ..Self::default() }
    }

    fn run(self, session: &mut Session) -> Result<Report> {
        let text = plays()?;
        let model = Transformer::new(&self, text.vocabulary());
        let rise = (self.steps / 20).max(1);
        let fall = Cosine::down(self.learning_rate, 10.0, self.steps - rise);
        let rate = Sequence::new(Line { from: 0.0, to: self.learning_rate, steps: rise }).then(rise, fall);
        let mut step = AdamW::new(self.learning_rate).over(&model).clip(Clip::Norm(self.clip)).schedule(rate);
        text.introduce(session);
        session.introduce(&model);

        session.keep("model", &model);
        session.keep("step", &step);
        for number in session.steps(self.steps) {
            let number = number?;
            let (x, y) = text.draw(self.batch, self.context); // [B, T] both
            let logits = training(|| model.forward(&x)); // [B, T, vocabulary]
            let loss = surprise(&logits, &y);
            step.minimise(&loss)?;
            session.log(&[("loss", &loss)])?;
            if (number + 1) % self.validate_every == 0 {
                session.record(&[("valid/loss", self.loss(&model, &text.valid, 160))])?;
            }
        }
        self.report(session, &model, &text)
    }

    fn summaries(&self) -> Vec<nn::Summary> {
        vec![Transformer::new(self, 73).summary([self.batch, self.context])]
    }
}

impl Gpt {
    fn report(&self, session: &Session, model: &Transformer, text: &Characters) -> Result<Report> {
        let nats = self.loss(model, &text.valid, usize::MAX);
        let bits = nats / 2f64.ln();
        let (table, lowest) = text.losses("GPT", nats);
        let mut report = Report::new();
        report.table(table);

        let (apart, without) = self.beside_the_cache(model, &text.valid[..self.context])?;
        let (written, speed) = self.write(model, text, "Ham.\nTo be, or not")?;
        session.say(format!("\n{written}"));
        session.media().text("written", &written)?;
        let line = "Good night, sweet prince";
        let line = &line[..line.len().min(self.context)];
        session.show("attention", self.attention(model, text, line)?)?;
        let loss = session.chart("Loss", "nats a character", [("loss", "train"), ("valid/loss", "validation")])?;
        session.show("curves", loss)?;

        report.figures("valid", [("bits a character", bits), ("n-gram", lowest / 2f64.ln())]);
        report.figures("writes", [("characters a second", speed), ("without the cache", without)]);
        report.claim(Claim::at_most("bits a character on text never seen", bits, self.claim));
        report.claim(Claim::at_most("difference of cached and plain logits", apart, 1e-3));
        Ok(report)
    }

    /// The cache must give what reading everything anew gives: the largest difference of their logits over `stretch`. And
    /// how many stretches a second are read anew, which would be the characters a second without it.
    fn beside_the_cache(&self, model: &Transformer, stretch: &[i64]) -> Result<(f64, f64)> {
        let whole = Tensor::from_slice(stretch, [1, stretch.len()]);
        let anew = || no_grad(|| evaluating(|| model.forward(&whole))); // [1, T, vocabulary]
        let (logits, mut caches, mut apart) = (anew(), model.caches(1), 0.0f64);
        for (at, &character) in stretch.iter().enumerate() {
            let cached = no_grad(|| model.next(&Tensor::from_slice(&[character], [1]), at, &mut caches))?;
            apart = apart.max((cached - logits.at(1, at as i64)).abs().max(..).item());
        }
        let clock = Instant::now();
        for _ in 0..5 {
            anew().eval()?;
        }
        Ok((apart, 5.0 / clock.elapsed().as_secs_f64()))
    }

    /// What each head of the first and the last block looks at while it reads `line`.
    fn attention(&self, model: &Transformer, text: &Characters, line: &str) -> Result<Page> {
        let x = Tensor::from_slice(&text.numbers(line), [1, line.len()]);
        let names: Vec<String> = line.chars().map(String::from).collect();
        let mut page = Page::new(self.heads.min(3));
        let mut inner = model.embed(&x);
        for (number, block) in model.blocks.iter().enumerate() {
            if number == 0 || number + 1 == self.depth {
                let weights = no_grad(|| block.weights(&inner)); // [1, H, T, T]
                for head in 0..self.heads.min(3) {
                    let values = weights.at(0, 0).at(0, head as i64).to_vec::<f64>();
                    let title = format!("block {}, head {}", number + 1, head + 1);
                    let map = HeatMap::new(title, line.len(), line.len(), values).map(ColourMap::Blues);
                    let map = map.range(0.0, 1.0).row_names(&names).column_names(&names).labels("looks at", "reads");
                    page = page.with(map.without_bar());
                }
            }
            inner = no_grad(|| evaluating(|| block.forward(&inner, 0.0)));
        }
        Ok(page)
    }
}
