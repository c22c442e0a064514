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
//! **dcgan** (Radford et al., 2016): strided and transposed convolutions, batch norm, noise of 100 numbers. To lower
//! `ln(1 − D(G(z)))`, the first idea, has no slope while `G` is bad and `D` sure of it; `BCE(D(G(z)), 1)` has. **cgan** asks for a
//! digit: noise and a one-hot class go into `G`, and `D` must name the class of real pictures and none for made ones (Mirza
//! and Osindero, 2014, give `D` the class instead). **acgan** (Odena et al., 2017) separates the two questions.
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

use super::judge::Judge;
use crate::study::{Etude, knobs};
use etude::Result;
use etude::nn::optim::{Average, RmsProp};
use etude::prelude::*;
use etude::train::plot::{Chart, Page, smoothed};
use etude::train::units::{Figure, Style};

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

/// Noise, and the class where there is one, to a picture of values in −1 … 1.
#[derive(Module, Clone, Debug)]
struct Generator {
    fc: Linear,
    norm1: BatchNorm,
    up1: ConvTranspose2d,
    norm2: BatchNorm,
    up2: ConvTranspose2d,
    width: usize,
}

impl Generator {
    fn new(inputs: usize, width: usize) -> Self {
        let small = nn::init::Init::Normal(0.0, 0.02);
        let up = |from, to| ConvTranspose2d::new(from, to, 4).stride(2).padding(1).weights(small);
        Self {
            fc: Linear::new(inputs, 2 * width * 49).weights(small).init(),
            norm1: BatchNorm::new(2 * width).init(),
            up1: up(2 * width, width).bias(false).init(),
            norm2: BatchNorm::new(width).init(),
            up2: up(width, 1).init(),
            width,
        }
    }
}

impl Forward for Generator {
    fn forward(&self, z: &Tensor) -> Tensor {
        let x = self.fc.forward(z).reshape([z.shape()[0], 2 * self.width, 7, 7]);
        let x = self.up1.forward(&self.norm1.forward(&x).relu()); // [B, width, 14, 14]
        self.up2.forward(&self.norm2.forward(&x).relu()).tanh() // [B, 1, 28, 28]
    }
}

/// A picture to logits or a score.
#[derive(Module, Clone, Debug)]
struct Discriminator {
    conv1: Conv2d,
    conv2: Conv2d,
    /// Not in a critic, whose answer to one picture must not depend on the others.
    norm: Option<BatchNorm>,
    fc: Linear,
}

impl Discriminator {
    fn new(width: usize, answers: usize, norm: bool) -> Self {
        let small = nn::init::Init::Normal(0.0, 0.02);
        let down = |from, to| Conv2d::new(from, to, 4).stride(2).padding(1).weights(small);
        Self {
            conv1: down(1, width).init(),
            conv2: down(width, 2 * width).init(),
            norm: norm.then(|| BatchNorm::new(2 * width).init()),
            fc: Linear::new(2 * width * 49, answers).weights(small).init(),
        }
    }
}

impl Forward for Discriminator {
    fn forward(&self, x: &Tensor) -> Tensor {
        let x = self.conv2.forward(&self.conv1.forward(x).leaky_relu(0.2)); // [B, 2·width, 7, 7]
        let x = self.norm.as_ref().map_or_else(|| x.clone(), |norm| norm.forward(&x)).leaky_relu(0.2);
        self.fc.forward(&x.flatten_from(1)) // [B, answers]
    }
}

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

    fn quick() -> Self {
        let learning_rate = if GAME == WGAN { 5e-4 } else { 1e-3 };
        Self {
            width: 16,
            epochs: 4,
            learning_rate,
            decay: 0.98,
            claim: 120.0,
            claim_coverage: 0.004,
            ..Self::default()
        }
    }

    fn summaries(&self) -> Vec<nn::Summary> {
        let players = self.players();
        let generator = players.0.summary([self.batch, self.latent + self.classes()]);
        vec![generator, players.1.summary([self.batch, 1, 28, 28])]
    }

    fn run(self, session: &mut Session) -> Result<Report> {
        let digits = super::digits(session)?;
        let judge = Judge::train(session, &digits)?;
        let (generator, discriminator) = self.players();
        let mut average = Average::new(&generator, self.decay);
        let (mut g_step, mut d_step) = match GAME {
            WGAN => (
                RmsProp::new(self.learning_rate).over(&generator),
                RmsProp::new(self.learning_rate).over(&discriminator),
            ),
            _ => {
                let adam = |module: &dyn Module| Adam::new(self.learning_rate).betas(0.5, 0.999).over(module);
                (adam(&generator), adam(&discriminator))
            }
        };
        let (fixed, _) = self.noise(100);
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
            let fake = training(|| generator.forward(&self.input(&randn([self.batch, self.latent]), &class)));
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

    /// What goes into the generator: `[B, latent]`, with a class `[B, latent + 10]`.
    fn input(&self, z: &Tensor, class: &Tensor) -> Tensor {
        if self.classes() > 0 { cat(&[z.clone(), class.clone()], 1) } else { z.clone() }
    }

    /// Inputs for `count` pictures, the classes in turn, and the classes.
    fn noise(&self, count: usize) -> (Tensor, Vec<usize>) {
        let classes: Vec<i64> = (0..count as i64).map(|i| i % 10).collect();
        let input = self.input(&randn([count, self.latent]), &tensor(classes).one_hot(10));
        (input, (0..count).map(|i| i % 10).collect())
    }

    /// Pictures of values in 0 … 1.
    fn pictures(&self, generator: &Generator, input: &Tensor) -> Tensor {
        (evaluating(|| generator.forward(input)) + 1.0) * 0.5
    }

    /// The discriminator's loss.
    fn tell_apart(&self, d: &Discriminator, real: &Tensor, fake: &Tensor, class: &Tensor) -> Result<Tensor> {
        let (on_real, on_fake) = (d.forward(real), d.forward(fake)); // [B, answers] each
        let apart = on_fake.mean(..) - on_real.mean(..);
        let bce = |logits: &Tensor, target: f64| bce_with_logits(logits, &full(logits.shape(), target));
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
            DCGAN => bce_with_logits(answers, &answers.ones_like()),
            CGAN => bce_with_logits(answers, class),
            ACGAN => {
                let real = answers.narrow(1, 0, 1);
                bce_with_logits(&real, &real.ones_like()) + cross_entropy(&answers.narrow(1, 1, 10), class)
            }
            _ => -answers.mean(..),
        }
    }

    /// 2,000 pictures `[2000, 1, 28, 28]`, the classes asked for, and how many milliseconds each took.
    fn samples(&self, generator: &Generator) -> Result<(Tensor, Vec<usize>, f64)> {
        let clock = std::time::Instant::now();
        let (mut parts, mut asked) = (Vec::new(), Vec::new());
        for _ in 0..8 {
            let (input, classes) = self.noise(250);
            parts.push(self.pictures(generator, &input));
            asked.extend(classes);
        }
        let made = cat(&parts, 0);
        made.eval()?;
        Ok((made, asked, clock.elapsed().as_secs_f64() / 2.0))
    }

    fn report(&self, session: &Session, judge: &Judge, generator: &Generator) -> Result<Report> {
        let (made, asked, each) = self.samples(generator)?;
        let verdict = judge.judge(&made);
        session.media().film("samples", 0.2, 8)?;
        let curve = |name: &str| session.curve(&format!("loss/{name}"));
        let ((steps, d), (g_steps, g)) = (curve("discriminator")?, curve("generator")?);
        let losses = Chart::new("Losses, smoothed")
            .labels("step", "loss")
            .line("discriminator", steps, smoothed(&d, 0.98))
            .line("generator", g_steps, smoothed(&g, 0.98));
        let names: Vec<String> = (0..10).map(|class| class.to_string()).collect();
        let shares = Chart::bars("What the samples are taken for", &names, &verdict.shares).percent();
        session.show("game", Page::new(2).with(losses).with(shares))?;

        let mut report = Report::new();
        report.figures("2,000 samples", verdict.figures(judge));
        report.figures(
            "took",
            [
                Figure::new("training", session.seconds()).style(Style::Seconds),
                Figure::new("milliseconds a sample", each),
                Figure::percent("judge's sureness", verdict.sureness),
                Figure::percent("judge's own accuracy", judge.accuracy),
            ],
        );
        report.claim(Claim::at_least("judge's accuracy on test digits", judge.accuracy, 0.94).percent());
        report.claim(Claim::at_most("squared Fréchet distance", verdict.frechet, self.claim));
        report.claim(Claim::at_least("share of the rarest digit", verdict.rarest(), self.claim_coverage).percent());
        if self.classes() > 0 {
            let right = Claim::at_least("samples that are the digit asked for", verdict.right(&asked), 0.9);
            report.claim(right.percent());
        }
        Ok(report)
    }
}

/// Milliseconds a sample of a generator as large as `cgan`'s; its weights, which are drawn here, do not matter.
pub(super) fn milliseconds_a_sample() -> Result<f64> {
    let game = Gan::<CGAN>::default();
    Ok(no_grad(|| game.samples(&game.players().0))?.2)
}

/// Cuts every weight to ±`limit`.
fn hold(module: &impl Module, limit: f64) -> Result<()> {
    let held: Vec<Tensor> =
        module.parameters().iter().map(|(_, p)| no_grad(|| p.value().clamp(-limit, limit))).collect();
    Tensor::eval_all(&held)?;
    module.parameters().iter().zip(held).for_each(|((_, param), value)| param.set(value));
    Ok(())
}
