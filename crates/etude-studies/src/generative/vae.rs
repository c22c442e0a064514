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
//! **Reparameterisation.** A number drawn from `N(μ, σ²)` tells nothing about the slope of `μ`. Written as `z = μ + σ·ε` with
//! `ε` from `N(0, 1)`, the noise comes from outside and the gradient passes through `μ` and `σ`.
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

use super::sheet;
use crate::study::{Etude, knobs};
use etude::Result;
use etude::prelude::*;
use etude::train::metrics::{auc, neighbour_map};
use etude::train::plot::Chart;
use etude::train::trainer::to_tensor;
use etude::train::units::{Figure, Style};

/// Encoder and decoder, one hidden layer each.
#[derive(Module, Clone, Debug)]
struct Autoencoder {
    encoder: Linear,
    mean: Linear,
    log_variance: Linear,
    decoder: Linear,
    pixels: Linear,
    /// The prior's mean for each class, where there is one.
    class_means: Option<Embedding>,
}

/// A cloud in latent space for each picture: `[B, latent]` each.
struct Cloud {
    mean: Tensor,
    log_variance: Tensor,
}

impl Autoencoder {
    fn new(hidden: usize, latent: usize, conditional: bool) -> Self {
        Self {
            encoder: Linear::new(784, hidden).init(),
            mean: Linear::new(hidden, latent).init(),
            log_variance: Linear::new(hidden, latent).init(),
            decoder: Linear::new(latent, hidden).init(),
            pixels: Linear::new(hidden, 784).init(),
            class_means: conditional.then(|| Embedding::new(10, latent).init()),
        }
    }

    fn encode(&self, x: &Tensor) -> Cloud {
        let hidden = self.encoder.forward(&x.flatten_from(1)).relu(); // [B, hidden]
        Cloud { mean: self.mean.forward(&hidden), log_variance: self.log_variance.forward(&hidden) }
    }

    /// Logits of the pixels: `[B, latent] → [B, 784]`.
    fn decode(&self, z: &Tensor) -> Tensor {
        self.pixels.forward(&self.decoder.forward(z).relu())
    }

    /// The means of the prior: `[B, latent]`, zeros without classes.
    fn prior(&self, labels: &Tensor, like: &Tensor) -> Tensor {
        self.class_means.as_ref().map_or_else(|| like.zeros_like(), |means| means.forward(labels))
    }

    /// The logarithm of each pixel's probability, `[B, 784]`, for a point of each cloud, and the KL terms, `[B]`.
    fn terms(&self, cloud: &Cloud, x: &Tensor, labels: &Tensor) -> (Tensor, Tensor) {
        let logits = self.decode(&cloud.draw(x.shape()[0]));
        let away = &cloud.mean - self.prior(labels, &cloud.mean);
        let kl = (away.square() + cloud.log_variance.exp() - 1.0 - &cloud.log_variance).sum(-1) * 0.5;
        (log_bernoulli(&logits, &x.flatten_from(1)), kl)
    }

    /// The ELBO of each picture: what it gains by rebuilding, and the KL term, `[B]` each.
    fn elbo(&self, x: &Tensor, labels: &Tensor) -> (Tensor, Tensor) {
        let (pixels, kl) = self.terms(&self.encode(x), x, labels);
        (pixels.sum(-1), kl)
    }

    /// A closer lower bound of `ln p(x)` with `k` importance samples, for each picture.
    fn bounds(&self, x: &Tensor, labels: &Tensor, k: usize) -> Vec<f64> {
        let bound = |row: usize| {
            let (x, label) = (x.narrow(0, row, 1), labels.narrow(0, row, 1));
            let cloud = self.encode(&x); // [1, latent]
            let z = cloud.draw(k); // [k, latent]
            // The normalising constants of the two normals cancel but for Σ ln σ.
            let ln_q = -((&z - &cloud.mean).square() / cloud.log_variance.exp() + &cloud.log_variance).sum(-1) * 0.5;
            let ln_p = -(&z - self.prior(&label, &cloud.mean)).square().sum(-1) * 0.5;
            let weights = log_bernoulli(&self.decode(&z), &x.flatten_from(1)).sum(-1) + ln_p - ln_q; // [k]
            weights.logsumexp(0).item() - (k as f64).ln()
        };
        (0..x.shape()[0]).map(bound).collect()
    }

    /// The clouds that suit what a mask of ones shows: the ELBO of the seen pixels alone, climbed by Adam.
    fn seek(&self, x: &Tensor, labels: &Tensor, mask: &Tensor, steps: usize) -> Result<Cloud> {
        let start = self.encode(&(x * mask));
        let cloud = (Param::new(start.mean.detach()), Param::new(start.log_variance.detach()));
        let mut step = Adam::new(0.05).over(&cloud);
        for _ in 0..steps {
            let (pixels, kl) = self.terms(&Cloud { mean: cloud.0.value(), log_variance: cloud.1.value() }, x, labels);
            step.minimise(&(kl - (pixels * mask.flatten_from(1)).sum(-1)).sum(..))?;
        }
        Ok(Cloud { mean: cloud.0.value().detach(), log_variance: cloud.1.value().detach() })
    }

    /// Pictures `[N, 1, 28, 28]` of values in 0 … 1: each pixel's probability.
    fn pictures(&self, z: &Tensor) -> Tensor {
        self.decode(z).sigmoid().reshape([z.shape()[0], 1, 28, 28])
    }
}

impl Forward for Autoencoder {
    /// Logits of the pixels, rebuilt from one point of each cloud, `[B, 784]`.
    fn forward(&self, x: &Tensor) -> Tensor {
        self.decode(&self.encode(x).draw(x.shape()[0]))
    }
}

impl Cloud {
    /// A point of each of `count` clouds, or `count` points of one, with a gradient to mean and deviation.
    fn draw(&self, count: usize) -> Tensor {
        &self.mean + (&self.log_variance * 0.5).exp() * randn([count, self.mean.shape()[1]])
    }
}

/// `x ln p + (1 − x) ln (1 − p)` for logits of `p`, pixel by pixel.
fn log_bernoulli(logits: &Tensor, x: &Tensor) -> Tensor {
    x * logits - logits.softplus()
}

/// Each pixel 1 with its grey value as the probability.
fn binarised(pictures: &Tensor) -> Tensor {
    uniform(pictures.shape()).less(pictures).to(DType::F32)
}

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

    fn quick() -> Self {
        Self { epochs: 20, learning_rate: 2e-3, importance: 50, claim: 115.0, ..Self::default() }
    }

    fn run(self, session: &mut Session) -> Result<Report> {
        let digits = super::digits(session)?;
        let model = Autoencoder::new(self.hidden, self.latent, self.conditional);
        let mut step = Adam::new(self.learning_rate).over(&model);
        session.keep("model", &model);
        session.keep("step", &step);
        // Fixed points of the prior; with a prior for each class, a row of each.
        let noise = randn([100, self.latent]);
        let rows = tensor((0..100i64).map(|i| i / 10).collect::<Vec<_>>());
        let samples = || model.pictures(&(&noise + model.prior(&rows, &noise)));
        let steps = digits.train.len().div_ceil(self.batch) as u64 * self.epochs;
        let schedule = nn::schedule::Cosine { rate: self.learning_rate, floor: self.learning_rate / 10.0, steps };
        for batch in session.batches(&digits.train, self.batch, self.epochs) {
            let batch = batch?;
            step.set_learning_rate(nn::schedule::Schedule::rate(&schedule, batch.step));
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
        let bounds = no_grad(|| model.bounds(&x, &labels, self.importance));
        let bound = -bounds.iter().sum::<f64>() / bounds.len() as f64;
        let cloud = model.encode(&grey);
        // A latent is in use when its mean moves with the picture (Burda et al., 2016).
        let active = cloud.mean.var(0, 1.0).to_vec::<f64>().iter().filter(|&&variance| variance > 0.01).count();
        // The best model without latents: every pixel by itself, with its frequency among the training digits.
        let frequency = to_tensor(&digits.train.inputs)?.mean(0).clamp(1e-3, 1.0 - 1e-3).flatten(); // [784]
        let cost = |p: &Tensor, x: &Tensor| -> f64 {
            let p = p.clamp(1e-3, 1.0 - 1e-3);
            -log_bernoulli(&(p.ln() - (1.0 - &p).ln()), x).sum(-1).mean(..).item()
        };
        let alone = cost(&frequency, &x.flatten_from(1));

        // The lower half is hidden: what it costs by itself, rebuilt from the encoder's cloud, and from the one sought.
        let count = 500.min(labels.count());
        let some = |x: &Tensor| x.narrow(0, 0, count);
        let mask = cat(&[ones([1, 1, 14, 28]), zeros([1, 1, 14, 28])], 2);
        let lower = |x: &Tensor| x.narrow(2, 14, 14).flatten_from(1); // [count, 392]
        let half = some(&x) * &mask;
        let sought = model.seek(&half, &some(&labels), &mask, 300)?;
        let mean = |cloud: &Cloud| (0..20).map(|_| model.pictures(&cloud.draw(count)) / 20.0).reduce(|a, b| a + b);
        let rebuilt = [model.encode(&half), sought].map(|cloud| mean(&cloud).expect("twenty"));
        let hidden =
            [&frequency.reshape([1, 1, 28, 28]), &rebuilt[0], &rebuilt[1]].map(|p| cost(&lower(p), &lower(&some(&x))));

        // Garments cost more nats than digits: the area under the curve of that score, and of the mean grey alone.
        let garments = to_tensor(&data::load("fashion-mnist-10k")?.take(digits.test.len()).inputs)?;
        let score = |pictures: &Tensor| -> Vec<f64> {
            let (likelihood, kl) = model.elbo(&binarised(pictures), &labels.narrow(0, 0, pictures.shape()[0]));
            (kl - likelihood).to_vec()
        };
        let odd: Vec<bool> = (0..grey.shape()[0] + garments.shape()[0]).map(|i| i >= grey.shape()[0]).collect();
        let grey_of = |pictures: &Tensor| pictures.mean([1, 2, 3]).to_vec::<f64>();
        let outliers = auc(&[score(&grey), score(&garments)].concat(), &odd);
        let brighter = auc(&[grey_of(&grey), grey_of(&garments)].concat(), &odd);

        self.pictures(session, model, &grey, &cloud, &half, &rebuilt)?;
        self.map(session, model, &cloud.mean, &digits.test.labels)?;
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
            report.claim(Claim::at_least(
                "hidden halves: nats better than independent pixels",
                hidden[0] - hidden[2],
                10.0,
            ));
        }
        report.claim(Claim::at_least("outlier AUC, garments among digits", outliers, 0.99));
        Ok(report)
    }

    /// Reconstructions, walks between digits, and digits with a hidden half.
    fn pictures(
        &self,
        session: &Session,
        model: &Autoencoder,
        grey: &Tensor,
        cloud: &Cloud,
        half: &Tensor,
        rebuilt: &[Tensor; 2],
    ) -> Result<()> {
        let first = |tensor: &Tensor| tensor.narrow(0, 0, 12);
        let pairs = [first(grey), model.pictures(&first(&cloud.mean))];
        session.show("rebuilt", sheet("Digits, and what is rebuilt of them", &pairs, 12)?)?;

        let rows = [first(half), first(&rebuilt[0]), first(&rebuilt[1]), first(grey)];
        let title = "Half hidden; from the encoder's cloud; from the cloud sought; the truth";
        session.show("hidden", sheet(title, &rows, 12)?)?;

        let walk = |row: usize| {
            let ends = [2 * row, 2 * row + 1].map(|at| cloud.mean.narrow(0, at, 1)); // [1, latent]
            model.pictures(&ends[0].lerp(&ends[1], linspace(0.0, 1.0, 12).unsqueeze(-1)))
        };
        let walks: Vec<Tensor> = (0..6).map(walk).collect();
        session.show("between", sheet("From one digit to another along a line", &walks, 12)?)
    }

    /// The latent space: its two axes if it has two, or else a map of neighbours.
    fn map(&self, session: &Session, model: &Autoencoder, means: &Tensor, labels: &[i64]) -> Result<()> {
        let shown = 1000.min(labels.len());
        let means = means.narrow(0, 0, shown).to_vec::<f64>();
        let (places, title) = match self.latent {
            2 => (means, "The latent plane"),
            _ => (neighbour_map(&means, self.latent, 30.0, 400), "Means of test digits, by their neighbours (t-SNE)"),
        };
        let mut chart = Chart::new(title).size(560.0, 520.0).equal();
        for class in 0..10 {
            let axis = |at: usize| -> Vec<f64> {
                (0..shown).filter(|&i| labels[i] == class).map(|i| places[2 * i + at]).collect()
            };
            chart = chart.dots(class.to_string(), axis(0), axis(1));
        }
        session.show("latent", chart)?;
        if self.latent == 2 {
            let side = linspace(2.5, -2.5, 16);
            let grid = meshgrid(&[side.clone(), side.flip(0)]);
            let plane = model.pictures(&stack(&[grid[1].flatten(), grid[0].flatten()], 1)); // [256, 1, 28, 28]
            session.show("plane", sheet("The latent plane, −2.5 to 2.5", &[plane], 16)?)?;
        }
        Ok(())
    }
}
