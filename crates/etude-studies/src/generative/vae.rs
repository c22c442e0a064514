//! A variational autoencoder writes digits (Kingma and Welling, 2014).
//!
//! An autoencoder squeezes a picture `x` through a few numbers `z` and rebuilds it. To *make* pictures, one must know which
//! `z` are good. So the encoder does not answer with a point but with a cloud, a mean and a deviation for each of the 20
//! numbers, and a second term in the loss pulls all clouds towards one prior, the standard normal:
//!
//! ```text
//! q(z|x) = N(μ(x), σ(x)²)        p(z) = N(0, 1)        p(x|z) = Π Bernoulli(xᵢ; sigmoid(decoder(z))ᵢ)
//!
//! ln p(x) ≥ ELBO = E_q[ln p(x|z)] − KL(q(z|x) ‖ p(z))
//! KL = ½ Σⱼ (μⱼ² + σⱼ² − 1 − ln σⱼ²)
//! ```
//!
//! The two terms pull against each other: rebuilding wants no noise, the prior wants nothing but noise. After training the
//! encoder is dropped; any `z` drawn from the prior becomes a digit, and moving `z` along a line moves the digit smoothly.
//! (One often reads that one then moves "mean and variance"; what moves is `z`: the encoder, whose they are, is gone.)
//!
//! **Reparameterisation** (`vae/autoencoder.rs`). A number drawn from `N(μ, σ²)` tells nothing about the slope of `μ`.
//! Written as `z = μ + σ·ε` with `ε` from `N(0, 1)`, the noise comes from outside and the gradient passes through `μ` and
//! `σ`.
//!
//! **In nats.** Pixels are drawn anew as 0 or 1 at every step, with their grey value as the probability, and once for the
//! test digits; so `ln p(x)` is the logarithm of a probability, and figures can be compared. The ELBO is a lower bound of
//! it; `E ln (1/k) Σ p(x, zᵢ)/q(zᵢ|x)` over `k` samples is a closer one (Burda et al., 2016). With 60,000 training digits, a
//! layer of 50 latents and two hidden layers of 200, they print −86.76 nats a test digit for a VAE, at `k = 5000`. We have
//! 8,000 training digits: our bound is some ten nats behind. Independent pixels, the best model without latents, lie
//! near −207.
//!
//! **Hidden parts.** Shown half a digit, the encoder sees a picture it was never trained on. With two latents the decoder can
//! make nothing but whole digits, and fills in the rest; with 20 it can rebuild the half as it is. But the encoder only
//! saves work: the cloud that suits what is seen can be sought by gradient, on the ELBO of the seen pixels alone, and what
//! is decoded from it is a whole digit again.
//!
//! **Knobs.** `beta` weighs the KL term (β-VAE, Higgins et al., 2017): above 1, fewer latents are used, and less alike ones.
//! `conditional` gives each class a prior `N(μ_class, 1)` with a learned mean, so that a digit can be asked for. `latent=2`
//! draws the latent plane itself. A small latent space blurs towards the average digit; a large one rebuilds better, and
//! what is drawn from its prior looks worse.
//!
//! **Outliers.** A picture that is no digit is improbable: the ELBO tells garments (Fashion-MNIST) from digits. Garments are
//! brighter, so the area under the curve of the mere mean grey stands beside it.

mod autoencoder;

use super::digits::{self, sheet, upper_half};
use crate::study::{Etude, Part, knobs, parts};
use autoencoder::{Autoencoder, Cloud, binarised, independent};
use etude::Result;
use etude::nn::schedule::Cosine;
use etude::prelude::*;
use etude::train::metrics::{auc, mean, neighbour_map};
use etude::train::plot::Chart;
use etude::train::trainer::to_tensor;
use etude::train::units::{Figure, Style};

knobs! {
    /// The knobs.
    pub struct Vae {
        /// Numbers a digit is squeezed through. [1..784]
        latent: usize = 20,
        /// Units of the hidden layers. [1..8192]
        hidden: usize = 400,
        /// Weight of the KL term. [0..]
        beta: f64 = 1.0,
        /// Whether each class has a prior of its own.
        conditional: bool = false,
        /// Times all training digits are seen. [1..100000]
        epochs: u64 = 200,
        /// Digits a step. [1..8000]
        batch: usize = 100,
        /// Adam's step size; it falls to a tenth along half a cosine. [0..]
        learning_rate: f64 = 1e-3,
        /// Importance samples of the closer bound. [1..100000]
        importance: usize = 1000,
        /// Most nats a test digit may cost (the negative ELBO) by the run's claim. [0..]
        claim: f64 = 106.0,
    }
}

impl Etude for Vae {
    const NAME: &'static str = "vae";
    const TITLE: &'static str = "a variational autoencoder writes digits";
    const SOURCE: &'static str = "Kingma and Welling, 2014";
    const ROWS: &'static [&'static str] = &["G19", "G20", "G21", "G22", "G23", "G24", "G27", "T57"];
    const TEXT: &'static str = include_str!("vae.rs");
    const PARTS: &'static [Part] = parts!["vae/autoencoder.rs", "digits.rs"];

    fn quick() -> Self {
        Self { epochs: 20, learning_rate: 2e-3, importance: 50, claim: 115.0, ..Self::default() }
    }

    fn run(self, session: &mut Session) -> Result<Report> {
        let digits = digits::split(session)?;
        let model = Autoencoder::new(self.hidden, self.latent, self.conditional);
        let steps = digits.train.len().div_ceil(self.batch) as u64 * self.epochs;
        let fall = Cosine::down(self.learning_rate, 10.0, steps);
        let mut step = Adam::new(self.learning_rate).over(&model).schedule(fall);
        session.keep("model", &model);
        session.keep("step", &step);
        // Fixed points of the prior; with a prior for each class, a row of each.
        let noise = randn([100, self.latent]);
        let rows = tensor((0..100i64).map(|i| i / 10).collect::<Vec<_>>());
        let samples = || model.pictures(&(&noise + model.prior(&rows, &noise)));
        for batch in session.batches(&digits.train, self.batch, self.epochs) {
            let batch = batch?;
            let (likelihood, kl) = model.elbo(&binarised(&batch.inputs), &batch.labels);
            let loss = (&kl * self.beta - &likelihood).mean(..);
            step.minimise(&loss)?;
            session.log(&[("train/loss", &loss)])?;
            session.every(steps.div_ceil(30), |media| media.grid("samples", &samples()))?;
        }
        session.media().grid("samples", &no_grad(samples))?;
        self.report(session, &model, &digits)
    }

    fn summaries(&self) -> Vec<nn::Summary> {
        vec![Autoencoder::new(self.hidden, self.latent, self.conditional).summary([self.batch, 1, 28, 28])]
    }
}

impl Vae {
    fn report(&self, session: &Session, model: &Autoencoder, digits: &data::Split) -> Result<Report> {
        let grey = to_tensor(&digits.test.inputs)?; // [N, 1, 28, 28]
        let labels = tensor(digits.test.labels.to_vec());
        let x = binarised(&grey);
        let (likelihood, kl) = model.elbo(&x, &labels);
        let nats = (&kl - &likelihood).mean(..).item();
        let bound = -mean(&no_grad(|| model.bounds(&x, &labels, self.importance)));
        let cloud = model.encode(&grey);
        // A latent is in use when its mean moves with the picture (Burda et al., 2016).
        let active = cloud.mean.var(0, 1.0).to_vec::<f64>().iter().filter(|&&variance| variance > 0.01).count();
        // The best model without latents: every pixel by itself, with its frequency among the training digits.
        let frequency = to_tensor(&digits.train.inputs)?.mean(0).clamp(1e-3, 1.0 - 1e-3); // [1, 28, 28]
        let alone = independent(&frequency.flatten(), &x.flatten_from(1));
        let hidden = halves(session, model, &frequency, [&x, &grey, &labels])?;
        let [outliers, brighter] = outliers(model, &grey, &labels)?;
        self.pictures(session, model, &grey, &cloud.mean, &digits.test.labels)?;
        session.media().film("samples", 0.2, 8)?;

        let mut report = Report::new();
        report.figures(
            "test, nats a digit",
            [
                Figure::new("negative ELBO", nats),
                Figure::new("of it rebuilding", -likelihood.mean(..).item()),
                Figure::new("of it KL", kl.mean(..).item()),
                Figure::new(format!("bound of {} samples", self.importance), bound),
                Figure::new("independent pixels", alone),
            ],
        );
        report.figures(
            "lower half, nats",
            [
                Figure::new("from the cloud sought", hidden[2]),
                Figure::new("from the encoder's", hidden[1]),
                Figure::new("independent pixels", hidden[0]),
            ],
        );
        report.figures(
            "latents",
            [
                Figure::new("in use", active as f64),
                Figure::new("outlier AUC against garments", outliers),
                Figure::new("of the mean grey", brighter),
                Figure::new("training", session.seconds()).style(Style::Seconds),
            ],
        );
        if self.beta == 1.0 {
            report.claim(Claim::at_most("negative ELBO of test digits, nats", nats, self.claim));
            report.claim(Claim::at_least("nats better than independent pixels", alone - nats, 85.0));
            let gain = hidden[0] - hidden[2];
            report.claim(Claim::at_least("hidden halves: nats better than independent pixels", gain, 10.0));
        }
        report.claim(Claim::at_least("outlier AUC, garments among digits", outliers, 0.99));
        Ok(report)
    }

    /// Reconstructions, walks between digits, and the latent space: its two axes if it has two, or else a map of neighbours.
    fn pictures(
        &self,
        session: &Session,
        model: &Autoencoder,
        grey: &Tensor,
        means: &Tensor,
        labels: &[i64],
    ) -> Result<()> {
        let pairs = [grey.narrow(0, 0, 12), model.pictures(&means.narrow(0, 0, 12))];
        session.show("rebuilt", sheet("Digits, and what is rebuilt of them", &pairs, 12)?)?;

        let walk = |row: usize| {
            let ends = [2 * row, 2 * row + 1].map(|at| means.narrow(0, at, 1)); // [1, latent]
            model.pictures(&ends[0].lerp(&ends[1], linspace(0.0, 1.0, 12).unsqueeze(-1)))
        };
        let walks: Vec<Tensor> = (0..6).map(walk).collect();
        session.show("between", sheet("From one digit to another along a line", &walks, 12)?)?;

        let shown = 1000.min(labels.len());
        let means = means.narrow(0, 0, shown).to_vec::<f64>();
        let (places, title) = match self.latent {
            2 => (means, "The latent plane"),
            _ => (neighbour_map(&means, self.latent, 30.0, 400), "Means of test digits, by their neighbours (t-SNE)"),
        };
        let chart = Chart::new(title).size(560.0, 520.0).equal();
        session.show("latent", chart.classes(&places, labels, (0..10).map(|class| class.to_string())))?;
        if self.latent == 2 {
            let side = linspace(2.5, -2.5, 16);
            let grid = meshgrid(&[side.clone(), side.flip(0)]);
            let plane = model.pictures(&stack(&[grid[1].flatten(), grid[0].flatten()], 1)); // [256, 1, 28, 28]
            session.show("plane", sheet("The latent plane, −2.5 to 2.5", &[plane], 16)?)?;
        }
        Ok(())
    }
}

/// The lower half of some digits is hidden: what it costs in nats by independent pixels, rebuilt from the encoder's cloud,
/// and rebuilt from the cloud that is sought.
fn halves(session: &Session, model: &Autoencoder, frequency: &Tensor, all: [&Tensor; 3]) -> Result<[f64; 3]> {
    let count = 500.min(all[2].count());
    let [x, grey, labels] = all.map(|tensor| tensor.narrow(0, 0, count));
    let (mask, lower) = (upper_half(), |x: &Tensor| x.narrow(2, 14, 14).flatten_from(1)); // [count, 392]
    let half = &x * &mask;
    let sought = model.seek(&half, &labels, &mask, 300)?;
    let mean = |cloud: &Cloud| (0..20).map(|_| model.pictures(&cloud.draw(count)) / 20.0).reduce(|a, b| a + b);
    let [encoded, sought] = [model.encode(&half), sought].map(|cloud| mean(&cloud).expect("twenty"));

    let rows = [&half, &encoded, &sought, &grey].map(|pictures| pictures.narrow(0, 0, 12));
    let title = "Half hidden; from the encoder's cloud; from the cloud sought; the truth";
    session.show("hidden", sheet(title, &rows, 12)?)?;
    Ok([&frequency.unsqueeze(0), &encoded, &sought].map(|p| independent(&lower(p), &lower(&x))))
}

/// Garments cost more nats than digits: the area under the curve of that score, and of the mean grey alone.
fn outliers(model: &Autoencoder, digits: &Tensor, labels: &Tensor) -> Result<[f64; 2]> {
    let garments = to_tensor(&data::load("fashion-mnist-10k")?.take(digits.size(0)).inputs)?;
    let score = |pictures: &Tensor| -> Vec<f64> {
        let (likelihood, kl) = model.elbo(&binarised(pictures), &labels.narrow(0, 0, pictures.size(0)));
        (kl - likelihood).to_vec()
    };
    let odd: Vec<bool> = (0..digits.size(0) + garments.size(0)).map(|i| i >= digits.size(0)).collect();
    let grey = |pictures: &Tensor| pictures.mean([1, 2, 3]).to_vec::<f64>();
    let area = |of: &dyn Fn(&Tensor) -> Vec<f64>| auc(&[of(digits), of(&garments)].concat(), &odd);
    Ok([area(&score), area(&grey)])
}
