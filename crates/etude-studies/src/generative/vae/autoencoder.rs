//! The autoencoder, and what can be asked of it (Kingma and Welling, 2014).
//!
//! ```text
//! encode        x → μ, ln σ²              z = μ + σ·ε, ε ~ N(0, 1)        decode        z → logits of the pixels
//!
//! ln p(x|z) = Σ xᵢ·ln pᵢ + (1 − xᵢ)·ln(1 − pᵢ) = Σ xᵢ·lᵢ − ln(1 + e^lᵢ)        for logits lᵢ = ln(pᵢ/(1 − pᵢ))
//! KL(q ‖ p) = ½ Σⱼ ((μⱼ − mⱼ)² + σⱼ² − 1 − ln σⱼ²)                            for a prior N(m, 1)
//!
//! ln p(x) ≥ E ln (1/k) Σ p(x|zᵢ)·p(zᵢ)/q(zᵢ|x), i = 1 … k                     (Burda et al., 2016)
//! ```
//!
//! With `k = 1` the bound is the ELBO, of which the KL term is known exactly and need not be drawn; more samples bring it
//! closer.

use etude::Result;
use etude::prelude::*;

/// Encoder and decoder, one hidden layer each.
#[derive(Module, Clone, Debug)]
pub struct Autoencoder {
    encoder: Linear,
    mean: Linear,
    log_variance: Linear,
    decoder: Linear,
    pixels: Linear,
    /// The prior's mean for each class, where there is one.
    class_means: Option<Embedding>,
}

/// A cloud in latent space for each picture: `[B, latent]` each.
pub struct Cloud {
    /// `μ`
    pub mean: Tensor,
    /// `ln σ²`, which may be any number.
    pub log_variance: Tensor,
}

impl Autoencoder {
    /// `latent` numbers between layers of `hidden` units; where `conditional`, each class has a prior of its own.
    pub fn new(hidden: usize, latent: usize, conditional: bool) -> Self {
        Self {
            encoder: Linear::new(784, hidden).init(),
            mean: Linear::new(hidden, latent).init(),
            log_variance: Linear::new(hidden, latent).init(),
            decoder: Linear::new(latent, hidden).init(),
            pixels: Linear::new(hidden, 784).init(),
            class_means: conditional.then(|| Embedding::new(10, latent).init()),
        }
    }

    /// `[B, 1, 28, 28] → [B, latent]`
    pub fn encode(&self, x: &Tensor) -> Cloud {
        let hidden = self.encoder.forward(&x.flatten_from(1)).relu(); // [B, hidden]
        Cloud { mean: self.mean.forward(&hidden), log_variance: self.log_variance.forward(&hidden) }
    }

    /// Logits of the pixels: `[B, latent] → [B, 784]`.
    fn decode(&self, z: &Tensor) -> Tensor {
        self.pixels.forward(&self.decoder.forward(z).relu())
    }

    /// The means of the prior: `[B, latent]`, zeros without classes.
    pub fn prior(&self, labels: &Tensor, like: &Tensor) -> Tensor {
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
    pub fn elbo(&self, x: &Tensor, labels: &Tensor) -> (Tensor, Tensor) {
        let (pixels, kl) = self.terms(&self.encode(x), x, labels);
        (pixels.sum(-1), kl)
    }

    /// A closer lower bound of `ln p(x)` with `k` importance samples, for each picture.
    pub fn bounds(&self, x: &Tensor, labels: &Tensor, k: usize) -> Vec<f64> {
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
    pub fn seek(&self, x: &Tensor, labels: &Tensor, mask: &Tensor, steps: usize) -> Result<Cloud> {
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
    pub fn pictures(&self, z: &Tensor) -> Tensor {
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
    pub fn draw(&self, count: usize) -> Tensor {
        &self.mean + (&self.log_variance * 0.5).exp() * randn([count, self.mean.shape()[1]])
    }
}

/// `x ln p + (1 − x) ln (1 − p)` for logits of `p`, pixel by pixel.
pub fn log_bernoulli(logits: &Tensor, x: &Tensor) -> Tensor {
    x * logits - logits.softplus()
}

/// Each pixel 1 with its grey value as the probability.
pub fn binarised(pictures: &Tensor) -> Tensor {
    uniform(pictures.shape()).less(pictures).to(DType::F32)
}

/// What pictures cost in the mean, in nats, where each pixel has its own probability `p` whatever the others are.
pub fn independent(p: &Tensor, x: &Tensor) -> f64 {
    let p = p.clamp(1e-3, 1.0 - 1e-3);
    -log_bernoulli(&(p.ln() - (1.0 - &p).ln()), x).sum(-1).mean(..).item()
}
