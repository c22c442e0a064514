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
//! A block is `x + Attention(norm(x))`, then `x + W₂·gelu(W₁·norm(x))`; blocks are repeated, and the last vector of a
//! stretch, times the head, gives the logits of the next character. (The largest GPT-3 is this with width 12,288 and 96
//! heads of 128 in 96 blocks.)
//!
//! Writing asks for one new position at a time. Keys and values of the positions before never change, so they are kept in
//! a cache and only the new one is computed: the work for a character falls from all `t` positions to one.
//!
//! The measure is bits a character on text never seen: the mean of `−log₂ p(next)`, each character with at least half a
//! context before it.

use super::text::Characters;
use crate::study::{Etude, knobs};
use etude::Result;
use etude::core::AttentionOptions;
use etude::nn::schedule::{Cosine, Linear as Line, Sequence};
use etude::prelude::*;
use etude::train::Figure;
use etude::train::plot::{Chart, ColourMap, HeatMap, Page};
use std::time::Instant;

/// Attention and a dense layer, each after a norm and around a shortcut.
#[derive(Module, Clone)]
struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    project: Linear,
    norm2: LayerNorm,
    up: Linear,
    down: Linear,
    #[module(skip)]
    heads: usize,
}

/// One block's keys and values, `[N, H, context, D]`; what is not written yet is masked.
type Cache = (Tensor, Tensor);

impl Block {
    fn new(width: usize, heads: usize) -> Self {
        Self {
            norm1: LayerNorm::new(width).init(),
            qkv: Linear::new(width, 3 * width).init(),
            project: Linear::new(width, width).init(),
            norm2: LayerNorm::new(width).init(),
            up: Linear::new(width, 4 * width).init(),
            down: Linear::new(4 * width, width).init(),
            heads,
        }
    }

    /// Queries, keys and values of every head.
    fn project(&self, x: &Tensor) -> [Tensor; 3] {
        let (n, t, width) = (x.size(0), x.size(1), x.size(2));
        let qkv = self.qkv.forward(&self.norm1.forward(x)); // [N, T, 3·W]
        let qkv = qkv.reshape([n, t, 3, self.heads, width / self.heads]).permute([2, 0, 3, 1, 4]); // [3, N, H, T, D]
        [0, 1, 2].map(|i| qkv.at(0, i)) // [N, H, T, D]
    }

    /// What follows attention: heads side by side again, both shortcuts, the dense layer.
    fn finish(&self, x: &Tensor, seen: &Tensor, dropout: f64) -> Tensor {
        let seen = seen.transpose(1, 2).reshape(x.shape()); // [N, T, W]
        let x = x + self.project.forward(&seen).dropout(dropout);
        let inner = self.up.forward(&self.norm2.forward(&x)).gelu(); // [N, T, 4·W]
        &x + self.down.forward(&inner).dropout(dropout)
    }

    fn forward(&self, x: &Tensor, dropout: f64) -> Tensor {
        let [q, k, v] = self.project(x);
        let seen = q.scaled_dot_product_attention(&k, &v, AttentionOptions::new().causal(true));
        self.finish(x, &seen, dropout)
    }

    /// The new position `x [N, 1, W]` at the place where `here [context, 1]` is true; `past [context]` is true up to it.
    fn next(&self, x: &Tensor, cache: &mut Cache, here: &Tensor, past: &Tensor) -> Tensor {
        let [q, k, v] = self.project(x); // [N, H, 1, D]
        *cache = (here.select(&k, &cache.0), here.select(&v, &cache.1));
        let seen = q.scaled_dot_product_attention(&cache.0, &cache.1, AttentionOptions::new().mask(past));
        self.finish(x, &seen, 0.0)
    }

    /// How much each position looks at each other, `[N, H, T, T]`: the softmax alone.
    fn weights(&self, x: &Tensor) -> Tensor {
        let [q, k, _] = self.project(x);
        let (t, d) = (q.size(2), q.size(3));
        let future = ones([t, t]).triu(1).greater(0.0);
        (q.matmul(&k.transpose(2, 3)) / (d as f64).sqrt()).masked_fill(&future, f64::NEG_INFINITY).softmax(-1)
    }
}

/// The model.
#[derive(Module, Clone)]
pub struct Transformer {
    embed: Embedding,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
    #[module(skip)]
    positions: Tensor,
    #[module(skip)]
    dropout: f64,
}

impl Transformer {
    fn new(config: &Gpt, vocabulary: usize) -> Self {
        let width = config.width();
        Self {
            embed: Embedding::new(vocabulary, width).init(),
            blocks: (0..config.depth).map(|_| Block::new(width, config.heads)).collect(),
            norm: LayerNorm::new(width).init(),
            head: Linear::new(width, vocabulary).init(),
            positions: sinusoidal_positions(config.context, width, 1e4), // [context, W]
            dropout: config.dropout,
        }
    }

    fn embed(&self, x: &Tensor) -> Tensor {
        self.embed.forward(x) + self.positions.narrow(0, 0, x.size(1)) // [N, T, W]
    }

    /// An empty cache for every block.
    fn caches(&self, count: usize) -> Vec<Cache> {
        let (context, width) = (self.positions.size(0), self.positions.size(1));
        let empty = |block: &Block| zeros([count, block.heads, context, width / block.heads]);
        self.blocks.iter().map(|block| (empty(block), empty(block))).collect()
    }

    /// Logits after character `x [N]` at place `at`, with what the caches hold of the places before.
    fn next(&self, x: &Tensor, at: usize, caches: &mut [Cache]) -> Result<Tensor> {
        let context = self.positions.size(0);
        let mut place = vec![0.0f32; context];
        place[at] = 1.0;
        let here = Tensor::from_slice(&place, [context, 1]).greater(0.5);
        place[..at].fill(1.0);
        let past = Tensor::from_slice(&place, [context]).greater(0.5);
        let position = here.select(&self.positions, &self.positions.zeros_like()).sum(0); // [W]
        let mut x = (self.embed.forward(x) + position).unsqueeze(1); // [N, 1, W]
        for (block, cache) in self.blocks.iter().zip(caches.iter_mut()) {
            x = block.next(&x, cache, &here, &past);
        }
        let logits = self.head.forward(&self.norm.forward(&x)).squeeze(1); // [N, vocabulary]
        let mut wanted = vec![logits.clone()];
        wanted.extend(caches.iter().flat_map(|(k, v)| [k.clone(), v.clone()]));
        Tensor::eval_all(&wanted)?;
        Ok(logits)
    }
}

impl Forward for Transformer {
    fn forward(&self, x: &Tensor) -> Tensor {
        let mut x = self.embed(&x.to(DType::I64)); // [N, T, W]
        for block in &self.blocks {
            x = block.forward(&x, self.dropout);
        }
        self.head.forward(&self.norm.forward(&x)) // [N, T, vocabulary]
    }
}

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
    fn width(&self) -> usize {
        self.heads * self.head_width
    }

    /// Nats a character on up to `most` stretches of `text`; of each the later half counts.
    fn loss(&self, model: &Transformer, text: &[i64], most: usize) -> Result<f64> {
        let (context, half) = (self.context, self.context / 2);
        let starts: Vec<usize> = (0..text.len() - context - 1).step_by(half).collect();
        let starts: Vec<usize> = starts.iter().copied().step_by(starts.len().div_ceil(most)).collect();
        let mut sum = 0.0;
        let groups: Vec<&[usize]> = starts.chunks_exact(16).collect();
        for group in &groups {
            let part = |shift: usize, from: usize| -> Tensor {
                let rows = group.iter().flat_map(|&s| &text[s + shift + from..s + shift + context]);
                Tensor::from_slice(&rows.copied().collect::<Vec<i64>>(), [16, context - from])
            };
            let logits = no_grad(|| evaluating(|| model.forward(&part(0, 0)))).narrow(1, half, context - half);
            let logits = logits.reshape([16 * (context - half), logits.size(2)]);
            sum += cross_entropy(&logits, &part(1, half).flatten()).item();
        }
        Ok(sum / groups.len() as f64)
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

    fn quick() -> Self {
        let (steps, context, heads, depth, learning_rate) = (800, 64, 4, 2, 3e-3);
        Self { steps, context, heads, depth, learning_rate, claim: 2.9, written: 300, ..Self::default() }
    }

    fn run(self, session: &mut Session) -> Result<Report> {
        let text = plays()?;
        let model = Transformer::new(&self, text.vocabulary());
        let mut step = AdamW::new(self.learning_rate).over(&model).clip(Clip::Norm(self.clip));
        let rise = (self.steps / 20).max(1);
        let fall = Cosine { rate: self.learning_rate, floor: self.learning_rate / 10.0, steps: self.steps - rise };
        let rise_from = Line { from: 0.0, to: self.learning_rate, steps: rise };
        let rate = Sequence::new(rise_from).then(rise, fall);
        session.say(format!("text    {} characters, {} different", text.train.len(), text.vocabulary()));
        session.say(format!("model   {} parameters", etude::train::units::grouped(model.parameter_count() as u64)));

        session.keep("model", &model);
        session.keep("step", &step);
        for number in session.steps(self.steps) {
            let number = number?;
            step.set_learning_rate(nn::schedule::Schedule::rate(&rate, number));
            let (x, y) = text.stretches(self.batch, self.context); // [B, T] both
            let logits = training(|| model.forward(&x)); // [B, T, vocabulary]
            let loss = cross_entropy(&logits.reshape([x.count(), text.vocabulary()]), &y.flatten());
            step.minimise(&loss)?;
            session.log(&[("loss", &loss)])?;
            if (number + 1) % self.validate_every == 0 {
                session.record(&[("valid/loss", self.loss(&model, &text.valid, 160)?)])?;
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
        let nats = self.loss(model, &text.valid, usize::MAX)?;
        let bits = nats / 2f64.ln();
        let (table, lowest) = text.losses("GPT", nats);
        let mut report = Report::new();
        report.table(table);

        // The cache gives what reading everything anew gives.
        let stretch = &text.valid[..self.context];
        let whole = Tensor::from_slice(stretch, [1, self.context]);
        let anew = no_grad(|| evaluating(|| model.forward(&whole))); // [1, T, vocabulary]
        let (mut caches, mut apart) = (model.caches(1), 0.0f64);
        for (at, &character) in stretch.iter().enumerate() {
            let logits = no_grad(|| model.next(&Tensor::from_slice(&[character], [1]), at, &mut caches))?;
            apart = apart.max((logits - anew.at(1, at as i64)).abs().max(..).item());
        }
        let clock = Instant::now();
        for _ in 0..5 {
            no_grad(|| evaluating(|| model.forward(&whole))).eval()?;
        }
        let without = 5.0 / clock.elapsed().as_secs_f64();

        let (written, speed) = self.write(model, text, "Ham.\nTo be, or not")?;
        session.say(format!("\n{written}"));
        let media = session.media();
        media.text("written", &written)?;
        let line = "Good night, sweet prince";
        let line = &line[..line.len().min(self.context)];
        session.show("attention", self.attention(model, text, line)?)?;
        let (train, valid) = (session.curve("loss")?, session.curve("valid/loss")?);
        let chart = Chart::new("Loss").labels("step", "nats a character").line("train", train.0, train.1);
        session.show("curves", chart.line("validation", valid.0, valid.1))?;

        report.figures("valid", [Figure::new("bits a character", bits), Figure::new("n-gram", lowest / 2f64.ln())]);
        report
            .figures("writes", [Figure::new("characters a second", speed), Figure::new("without the cache", without)]);
        report.claim(Claim::at_most("bits a character on text never seen", bits, self.claim));
        report.claim(Claim::at_most("difference of cached and plain logits", apart, 1e-3));
        Ok(report)
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
