//! Two networks play against each other, and one of them learns to write digits (Goodfellow et al., 2014).
//!
//! A generator `G` turns noise `z` into a picture; a discriminator `D` looks at real and made pictures. `D` learns to tell
//! them apart, `G` learns to make pictures that `D` takes for real. Nothing tells `G` what a digit is but the slope of
//! `D`'s answer. Five games share one loop here; they differ in what `D` answers and in the two losses:
//!
//! ```text
//! dcgan     D: one logit.         D: BCE(D(x), 1) + BCE(D(G(z)), 0)      G: BCE(D(G(z)), 1)
//! cgan      D: ten logits.        D: BCE(D(x), onehot) + BCE(D(G(z, c)), 0…0)      G: BCE(D(G(z, c)), onehot)
//! acgan     D: real? and class.   as dcgan, and the cross-entropy of the class on both sides for both players
//! wgan      D: a score.           D: E D(G(z)) − E D(x), weights cut to ±0.01      G: −E D(G(z))
//! wgan-gp   D: a score.           the same with 10·E (|∇D(x̂)| − 1)² in place of the cut, x̂ between real and made
//! ```
//!
//! **dcgan** (Radford et al., 2016): strided and transposed convolutions (`gan/players.rs`), batch norm, noise of 100
//! numbers. To lower `ln(1 − D(G(z)))`, the first idea, has no slope while `G` is bad and `D` sure of it; `BCE(D(G(z)), 1)`
//! has. **cgan** asks for a digit: noise and a one-hot class go into `G`, and `D` must name the class of real pictures and
//! none for made ones (Mirza and Osindero, 2014, give `D` the class instead). **acgan** (Odena et al., 2017) separates the
//! two questions.
//!
//! **wgan** (Arjovsky et al., 2017): a pile of real and a pile of made pictures share no pixel pattern, so their divergence
//! in nats is the same wherever they lie and has no slope; how far earth must be moved from one pile to the other always has.
//! That distance is the largest `E D(x) − E D(G(z))` over all `D` whose slope is at most 1 everywhere, so `D` is a *critic*
//! without a sigmoid, with its slope held. The papers train it five steps for each of `G`'s; digits do with one
//! (`critic_steps`), which at the same cost leaves `G` more steps. The paper of wgan takes RMSprop, as momentum made a critic
//! whose goal moves unstable. Cutting weights holds the slope crudely; **wgan-gp** (Gulrajani et al., 2017) asks for a
//! slope of 1 between the piles, the gradient of a gradient. The slope must be *at most 1*, not small: it is the price of
//! a step in the picture, and a critic without slope teaches nothing.
//!
//! Both players chase each other in circles around their goal; the running average of `G`'s weights lies nearer to it than
//! any one of its points (Yazıcı et al., 2019), and is what draws the samples.
//!
//! **How good are they?** A classifier of real digits judges 2,000 samples: the squared Fréchet distance between clouds of
//! features (Heusel et al., 2017, there on Inception's features, so that numbers compare within this program only; beside
//! it stands what other real digits get), and the share of each digit, as a generator that found one digit to fool `D` with
//! needs no other (mode collapse). Within a digit it may collapse, too: `cgan`, whose `D` only names digits, draws clear
//! ones that look alike, and its samples scatter less around the mean of their digit than real ones do. Scatter above that
//! of real digits is no praise: it comes from shapes that are no digit.

mod players;

use super::digits::{self, in_turn};
use super::judge::Judge;
use crate::study::{Etude, Part, knobs, parts};
use etude::Result;
use etude::nn::optim::{Average, RmsProp};
use etude::prelude::*;
use etude::train::plot::{Chart, Page};
use etude::train::units::{Figure, Style};
use players::{Discriminator, Generator};

/// The games.
pub const DCGAN: usize = 0;
/// See the module.
pub const CGAN: usize = 1;
/// See the module.
pub const ACGAN: usize = 2;
/// See the module.
pub const WGAN: usize = 3;
/// See the module.
pub const WGAN_GP: usize = 4;

knobs! {
    /// The knobs.
    pub struct Gan<const GAME: usize> {
        /// Numbers of noise. [1..4096]
        latent: usize = 100,
        /// Channels of the layers at 14×14; twice as many at 7×7. [1..512]
        width: usize = 32,
        // A critic without norms learns slower.
        /// Times all training digits are seen. [1..100000]
        epochs: u64 = if GAME < WGAN { 8 } else { 40 },
        /// Digits a step. [2..8000]
        batch: usize = 32,
        /// Step size of both players. [0..]
        learning_rate: f64 = if GAME == WGAN { 3e-4 } else { 5e-4 },
        /// The discriminator's steps for each of the generator's. [1..100]
        critic_steps: u64 = 1,
        /// How much of itself the average of the generator's weights keeps in a step. [0..1]
        decay: f64 = 0.995,
        /// Largest squared Fréchet distance the run claims. [0..]
        claim: f64 = 100.0,
        /// Smallest share of samples that the run claims for every digit. [0..0.1]
        claim_coverage: f64 = 0.01,
    }
}

impl<const GAME: usize> Etude for Gan<GAME> {
    const NAME: &'static str = ["dcgan", "cgan", "acgan", "wgan", "wgan-gp"][GAME];
    const TITLE: &'static str = [
        "two networks play, one learns to write digits",
        "a generator that is asked for a digit",
        "a discriminator that also names the digit",
        "a critic that measures how far earth must be moved",
        "a critic whose slope is held to 1",
    ][GAME];
    const SOURCE: &'static str = [
        "Radford et al., 2016",
        "Mirza and Osindero, 2014",
        "Odena et al., 2017",
        "Arjovsky et al., 2017",
        "Gulrajani et al., 2017",
    ][GAME];
    const ROWS: &'static [&'static str] = [&["G1", "G2", "G3"] as &[&str], &["G4"], &["G5"], &["G6"], &["G7"]][GAME];
    const TEXT: &'static str = include_str!("gan.rs");
    const PARTS: &'static [Part] = parts!["gan/players.rs", "judge.rs", "digits.rs"];

    fn quick() -> Self {
        let learning_rate = if GAME == WGAN { 5e-4 } else { 1e-3 };
        let claims = Self { claim: 120.0, claim_coverage: 0.004, ..Self::default() };
        Self { width: 16, epochs: 4, learning_rate, decay: 0.98, ..claims }
    }

    fn summaries(&self) -> Vec<nn::Summary> {
        let players = self.players();
        let generator = players.0.summary([self.batch, self.latent + self.classes()]);
        vec![generator, players.1.summary([self.batch, 1, 28, 28])]
    }

    fn run(self, session: &mut Session) -> Result<Report> {
        let digits = digits::split(session)?;
        let judge = Judge::train(session, &digits)?;
        let (generator, discriminator) = self.players();
        let mut average = Average::new(&generator, self.decay);
        let follow = |player: &dyn Module| match GAME {
            WGAN => RmsProp::new(self.learning_rate).over(player),
            _ => Adam::new(self.learning_rate).betas(0.5, 0.999).over(player),
        };
        let (mut g_step, mut d_step) = (follow(&generator), follow(&discriminator));
        let fixed = self.noise(&in_turn(100).one_hot(10));
        session.keep("generator", &generator);
        session.keep("average", &average);
        session.keep("discriminator", &discriminator);
        session.keep("generator_step", &g_step);
        session.keep("discriminator_step", &d_step);
        let loader = Loader::new(digits.train.clone(), self.batch).seed(session.seed()).drop_last(true);
        let frames = (loader.batches() as u64 * self.epochs).div_ceil(30);
        for batch in session.batches_from(loader, self.epochs) {
            let batch = batch?;
            let real = &batch.inputs * 2.0 - 1.0; // [B, 1, 28, 28]
            let class = batch.labels.one_hot(10); // [B, 10]
            let fake = training(|| generator.forward(&self.noise(&class))); // [B, 1, 28, 28]
            let d_loss = training(|| self.tell_apart(&discriminator, &real, &fake.detach(), &class))?;
            d_step.minimise(&d_loss)?;
            if GAME == WGAN {
                hold(&discriminator, 0.01)?;
            }
            session.log(&[("loss/discriminator", &d_loss)])?;
            if (batch.step + 1).is_multiple_of(self.critic_steps) {
                let g_loss = training(|| self.fool(&discriminator.forward(&fake), &class));
                g_step.minimise(&g_loss)?;
                average.update(&generator)?;
                session.log(&[("loss/generator", &g_loss)])?;
            }
            session.every(frames, |media| media.grid("samples", &self.pictures(&average.model, &fixed)))?;
        }
        session.media().grid("samples", &self.pictures(&average.model, &fixed))?;
        no_grad(|| self.report(session, &judge, &average.model))
    }
}

impl<const GAME: usize> Gan<GAME> {
    fn players(&self) -> (Generator, Discriminator) {
        let generator = Generator::new(self.latent + self.classes(), self.width);
        (generator, Discriminator::new(self.width, [1, 10, 11, 1, 1][GAME], GAME < WGAN))
    }

    /// Classes the generator is told.
    fn classes(&self) -> usize {
        if matches!(GAME, CGAN | ACGAN) { 10 } else { 0 }
    }

    /// What goes into the generator for the classes `[B, 10]`: `[B, latent]`, or with a class `[B, latent + 10]`.
    fn noise(&self, class: &Tensor) -> Tensor {
        let z = randn([class.size(0), self.latent]);
        if self.classes() > 0 { cat(&[z, class.clone()], 1) } else { z }
    }

    /// Pictures of values in 0 … 1.
    fn pictures(&self, generator: &Generator, input: &Tensor) -> Tensor {
        (evaluating(|| generator.forward(input)) + 1.0) * 0.5
    }

    /// The discriminator's loss.
    fn tell_apart(&self, d: &Discriminator, real: &Tensor, fake: &Tensor, class: &Tensor) -> Result<Tensor> {
        let (on_real, on_fake) = (d.forward(real), d.forward(fake)); // [B, answers] each
        let apart = on_fake.mean(..) - on_real.mean(..);
        Ok(match GAME {
            DCGAN => bce(&on_real, 1.0) + bce(&on_fake, 0.0),
            CGAN => bce_with_logits(&on_real, class) + bce(&on_fake, 0.0),
            ACGAN => {
                let named =
                    cross_entropy(&on_real.narrow(1, 1, 10), class) + cross_entropy(&on_fake.narrow(1, 1, 10), class);
                bce(&on_real.narrow(1, 0, 1), 1.0) + bce(&on_fake.narrow(1, 0, 1), 0.0) + named
            }
            WGAN => apart,
            _ => {
                let between = real.lerp(fake, uniform([real.shape()[0], 1, 1, 1])).variable(); // [B, 1, 28, 28]
                let slope = &grad(&d.forward(&between).sum(..), &[&between])?[0]; // [B, 1, 28, 28]
                // A small number under the root, as its own slope at 0 is infinite.
                let slope = (slope.square().sum([1, 2, 3]) + 1e-12).sqrt(); // [B]
                apart + (slope - 1.0).square().mean(..) * 10.0
            }
        })
    }

    /// The generator's loss, from the discriminator's answers to its pictures.
    fn fool(&self, answers: &Tensor, class: &Tensor) -> Tensor {
        match GAME {
            DCGAN => bce(answers, 1.0),
            CGAN => bce_with_logits(answers, class),
            ACGAN => bce(&answers.narrow(1, 0, 1), 1.0) + cross_entropy(&answers.narrow(1, 1, 10), class),
            _ => -answers.mean(..),
        }
    }

    /// 2,000 pictures `[2000, 1, 28, 28]`, and how many milliseconds each took.
    fn samples(&self, session: &Session, generator: &Generator) -> Result<(Tensor, f64)> {
        let make = |classes: &Tensor| Ok(self.pictures(generator, &self.noise(&classes.one_hot(10))));
        digits::samples(session, 2000, 250, make)
    }

    fn report(&self, session: &Session, judge: &Judge, generator: &Generator) -> Result<Report> {
        let (made, each) = self.samples(session, generator)?;
        let verdict = judge.judge(&made);
        session.media().film("samples", 0.2, 8)?;
        let players = [("loss/discriminator", "discriminator"), ("loss/generator", "generator")];
        let names: Vec<String> = (0..10).map(|class| class.to_string()).collect();
        let shares = Chart::bars("What the samples are taken for", &names, &verdict.shares).percent();
        session.show("game", Page::new(2).with(session.chart("Losses", "loss", players)?).with(shares))?;

        let mut report = Report::new();
        judge.report(&mut report, "2,000 samples".into(), &verdict, self.claim);
        let training = Figure::new("training", session.seconds()).style(Style::Seconds);
        report.figures("took", [training, Figure::new("milliseconds a sample", each)]);
        report.claim(Claim::at_least("share of the rarest digit", verdict.rarest(), self.claim_coverage).percent());
        if self.classes() > 0 {
            let right = verdict.right(&in_turn(made.size(0)));
            report.claim(Claim::at_least("samples that are the digit asked for", right, 0.9).percent());
        }
        Ok(report)
    }
}

/// The cross-entropy of logits and one answer for all.
fn bce(logits: &Tensor, answer: f64) -> Tensor {
    bce_with_logits(logits, &full(logits.shape(), answer))
}

/// Milliseconds a sample of a generator as large as `cgan`'s; its weights, which are drawn here, do not matter.
pub(super) fn milliseconds_a_sample(session: &Session) -> Result<f64> {
    let game = Gan::<CGAN>::default();
    Ok(no_grad(|| game.samples(session, &game.players().0))?.1)
}

/// Cuts every weight to ±`limit`.
fn hold(module: &impl Module, limit: f64) -> Result<()> {
    let held: Vec<Tensor> =
        module.parameters().iter().map(|(_, p)| no_grad(|| p.value().clamp(-limit, limit))).collect();
    Tensor::eval_all(&held)?;
    module.parameters().iter().zip(held).for_each(|((_, param), value)| param.set(value));
    Ok(())
}
