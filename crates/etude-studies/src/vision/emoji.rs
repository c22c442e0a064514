//! A small VGG reads emoji on photographs (Simonyan and Zisserman, 2014): the eye of the études `style` and `dream`.
//!
//! VGG showed that depth is what counts: nothing but 3×3 convolutions, two of which see 5×5 pixels with fewer weights
//! and one more non-linearity than a 5×5 one, and a pool that halves the picture while the channels double. Ours has
//! four blocks of two, where VGG-16 has five of two or three and eight times the channels.
//!
//! What a network learns to see depends on what it is asked. Here each lesson is made on the spot: one of 1,636 emoji,
//! turned, scaled and mirrored, is laid with its transparency `a` over a piece of one of nine pictures,
//!
//! ```text
//! x = a·emoji + (1 − a)·photograph
//! ```
//!
//! and two questions are asked of the same features, averaged over all places: to which of 95 groups the emoji belongs
//! (`cat-face`, `food-fruit`, …: shapes and parts), and which picture lies behind it (texture and colour). The cross-entropies
//! are added. No two lessons are alike, so that 1,400 emoji are enough; the claim is about emoji never seen.
//!
//! Each convolution is normalised over the batch while it learns (Ioffe and Szegedy, 2015), which makes so short a
//! training possible. Afterwards the norms are folded into the convolutions, which leaves a plain VGG network:
//! `features.safetensors`, in half precision. That of seed 1 comes with the program.

use super::vgg::Vgg;
use crate::study::{Etude, Part, knobs, parts};
use etude::Result;
use etude::core::{Outside, Sampling, affine_grid};
use etude::nn::schedule::Cosine;
use etude::prelude::*;
use etude::train::Figure;
use etude::train::plot::{Colour, Images, Page};
use etude::train::session::picture_of;
use etude::train::trainer::to_tensor;

/// Features and two questions.
#[derive(Module, Clone)]
struct Reader {
    vgg: Vgg,
    group: Linear,
    photograph: Linear,
}

impl Reader {
    fn forward(&self, x: &Tensor) -> [Tensor; 2] {
        let seen = self.vgg.forward(x).mean([2, 3]).dropout(0.2); // [B, widths' last]
        [self.group.forward(&seen), self.photograph.forward(&seen)] // [B, 95], [B, 9]
    }
}

knobs! {
    /// The knobs.
    pub struct Emoji {
        /// Times each emoji is seen, differently each time. [1..100000]
        epochs: u64 = 100,
        /// Pictures a step. [1..100000]
        batch: usize = 48,
        /// Height and width of the pictures made; a multiple of 8. [16..512]
        size: usize = 48,
        /// Channels of each block.
        widths: Vec<usize> = vec![32, 64, 128, 192],
        /// AdamW's step size at the start; it falls to a hundredth along half a cosine. [0..]
        learning_rate: f64 = 2e-3,
        /// Weight decay. [0..]
        decay: f64 = 5e-2,
        /// The least factor by which emoji never seen are claimed to be put into their group more often than by always
        /// naming the largest group. [0..]
        claim: f64 = 4.0,
        /// Smallest share of backgrounds claimed to be right. [0..1]
        claim_background: f64 = 0.9,
    }
}

/// The pictures lessons are made of.
struct Lessons {
    /// `[9, 3, 256, 256]`
    photographs: Tensor,
    size: usize,
}

impl Lessons {
    /// Emoji `[B, 4, 64, 64]` over pieces of photographs: `[B, 3, size, size]`, and the number of each photograph.
    fn make(&self, emoji: &Tensor) -> (Tensor, Tensor) {
        let b = emoji.size(0);
        let between = |low: f64, high: f64| uniform([b]) * (high - low) + low;
        let side = || bernoulli([b], 0.5).to(DType::F32) * 2.0 - 1.0;
        // Maps from places in the lesson to places in the source: mirrored, turned, scaled and moved.
        let map = |scale: &Tensor, turn: &Tensor, mirror: &Tensor, x: &Tensor, y: &Tensor| {
            let (cos, sin) = (turn.cos() * scale, turn.sin() * scale);
            let rows = [&cos * mirror, -&sin, x.clone(), &sin * mirror, cos, y.clone()];
            affine_grid(&stack(&rows, 1).reshape([b, 2, 3]), self.size, self.size, false) // [B, size, size, 2]
        };
        let number = (uniform([b]) * self.photographs.size(0) as f64).floor().to(DType::I64);
        let scale = between(0.2, 0.7);
        let room = 1.0 - &scale;
        let piece =
            map(&scale, &between(-0.3, 0.3), &side(), &(between(-1.0, 1.0) * &room), &(between(-1.0, 1.0) * &room));
        let behind = self.photographs.index_select(0, &number);
        let behind = behind.grid_sample(&piece, Sampling::Bilinear, Outside::Reflection, false); // [B, 3, size, size]

        let (colour, alpha) = (emoji.narrow(1, 0, 3), emoji.narrow(1, 3, 1));
        // Colours are weighted by their opacity before they are mixed with their neighbours'.
        let laid = cat(&[colour * &alpha, alpha], 1);
        let place = map(&between(0.85, 1.8), &between(-0.4, 0.4), &side(), &between(-0.3, 0.3), &between(-0.3, 0.3));
        let laid = laid.grid_sample(&place, Sampling::Bilinear, Outside::Zeros, false); // [B, 4, size, size]
        let x = laid.narrow(1, 0, 3) + behind * (1.0 - laid.narrow(1, 3, 1));
        // Other light: contrast and brightness of each colour.
        let x = x * (uniform([b, 3, 1, 1]) * 0.4 + 0.8) + (uniform([b, 3, 1, 1]) * 0.2 - 0.1);
        (x.clamp(0.0, 1.0), number)
    }
}

impl Emoji {
    fn blocks(&self) -> Vec<Vec<usize>> {
        self.widths.iter().map(|&width| vec![width; 2]).collect()
    }

    fn reader(&self) -> Reader {
        let last = self.widths.last().copied().unwrap_or(3);
        let vgg = Vgg::new(&self.blocks(), true, false).input([0.5; 3], [0.25; 3]);
        Reader { vgg, group: Linear::new(last, 95).init(), photograph: Linear::new(last, 9).init() }
    }
}

impl Etude for Emoji {
    const NAME: &'static str = "emoji";
    const TITLE: &'static str = "a small VGG reads emoji on photographs";
    const SOURCE: &'static str = "Simonyan and Zisserman, 2014";
    const ROWS: &'static [&'static str] = &["V18"];
    const TEXT: &'static str = include_str!("emoji.rs");
    const PARTS: &'static [Part] = parts!["vgg.rs"];

    fn quick() -> Self {
        let (epochs, size, widths) = (12, 32, vec![16, 32, 64]);
        Self { epochs, size, widths, learning_rate: 4e-3, claim: 1.1, claim_background: 0.7, ..Self::default() }
    }

    fn run(self, session: &mut Session) -> Result<Report> {
        let emoji = session.split("emoji", [0.85, 0.0, 0.15])?;
        let lessons = Lessons { photographs: to_tensor(&data::load("photographs")?.inputs)?, size: self.size };
        let reader = self.reader();
        let steps = emoji.train.len().div_ceil(self.batch) as u64 * self.epochs;
        let fall = Cosine::down(self.learning_rate, 100.0, steps);
        let mut step = AdamW::new(self.learning_rate).weight_decay(self.decay).over(&reader).schedule(fall);

        session.keep("model", &reader);
        session.keep("step", &step);
        for batch in session.batches(&emoji.train, self.batch, self.epochs) {
            let batch = batch?;
            let (x, photograph) = lessons.make(&batch.inputs);
            let [group, behind] = training(|| reader.forward(&x));
            let (group, behind) = (cross_entropy(&group, &batch.labels), cross_entropy(&behind, &photograph));
            step.minimise(&(&group + &behind))?;
            session.log(&[("train/group", &group), ("train/background", &behind)])?;
            if batch.last && (batch.epoch + 1) % 5 == 0 {
                let [right, behind] = examine(&reader, &lessons, &emoji.test, 1)?.0;
                session.record(&[("valid/group", right), ("valid/background", behind)])?;
            }
        }
        self.report(session, &reader, &lessons, &emoji.test)
    }

    fn summaries(&self) -> Vec<nn::Summary> {
        vec![self.reader().vgg.summary([self.batch, 3, self.size, self.size])]
    }
}

/// The share of right groups and right backgrounds over `times` lessons with each emoji; and the last lessons, with the
/// group seen in each.
fn examine(reader: &Reader, lessons: &Lessons, test: &Dataset, times: usize) -> Result<([f64; 2], Tensor, Vec<i64>)> {
    let labels = Tensor::from_slice(&test.labels, test.len());
    let emoji = to_tensor(&test.inputs)?;
    let (mut right, mut last) = ([0.0; 2], None);
    for _ in 0..times {
        let (x, photograph) = lessons.make(&emoji);
        let [group, behind] = no_grad(|| evaluating(|| reader.forward(&x))).map(|logits| logits.argmax(-1));
        right[0] += group.equal(&labels).to(DType::F32).mean(..).item() / times as f64;
        right[1] += behind.equal(&photograph).to(DType::F32).mean(..).item() / times as f64;
        last = Some((x, group.to_vec::<i64>()));
    }
    let (x, groups) = last.unwrap_or((emoji, Vec::new()));
    Ok((right, x, groups))
}

impl Emoji {
    fn report(&self, session: &Session, reader: &Reader, lessons: &Lessons, test: &Dataset) -> Result<Report> {
        let ([right, behind], x, groups) = examine(reader, lessons, test, 4)?;
        let most = test.class_counts().into_iter().max().unwrap_or(0) as f64 / test.len() as f64;
        let folded = reader.vgg.folded(&self.blocks())?;
        let plain = no_grad(|| evaluating(|| reader.vgg.forward(&x)));
        let apart = (no_grad(|| folded.forward(&x)) - &plain).abs().max(..).item() / plain.abs().max(..).item();
        session.media().file("features.safetensors", &nn::half_to_bytes(&folded.tensors())?)?;

        let mut sheet = Images::new("Emoji never seen").subtitle("what was read; red is wrong").columns(8).tile(96.0);
        for (row, &group) in groups.iter().enumerate().take(40) {
            let colour = if group == test.labels[row] { Colour::GREY } else { Colour::BAD };
            sheet = sheet.captioned(picture_of(&x.at(0, row as i64))?, test.classes[group as usize].clone(), colour);
        }
        session.show("read", sheet)?;
        let loss = session.chart("Loss", "nats", [("train/group", "group"), ("train/background", "background")])?;
        let shares = [("valid/group", "group"), ("valid/background", "background")];
        let share = session.chart("Emoji never seen", "share right", shares)?.percent();
        session.show("curves", Page::new(2).with(loss).with(share))?;

        let mut report = Report::new();
        report.figures("test", [Figure::percent("group", right), Figure::percent("background", behind)]);
        report.figures("by chance", [Figure::percent("group", most), Figure::percent("background", 1.0 / 9.0)]);
        let gain = right / most;
        report.claim(Claim::at_least("groups right, of emoji never seen, over those by chance", gain, self.claim));
        report.claim(Claim::at_least("backgrounds right", behind, self.claim_background).percent());
        report.claim(Claim::at_most("relative change by folding the norms", apart, 1e-4));
        report.next(format!("etude run style --set weights={}/media/features.safetensors", session.path().display()));
        Ok(report)
    }
}
