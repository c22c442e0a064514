//! A variational autoencoder (Kingma and Welling, 2014): workload `vae`.

use etude::prelude::*;

/// Convolutions down to a normal distribution, transposed convolutions back: `[B, 1, 28, 28]`.
#[derive(Module, Clone)]
pub struct Vae {
    enc: Sequential,
    mu: Linear,
    logvar: Linear,
    fc: Linear,
    dec: Sequential,
}

/// What a [`Vae`] gives: logits of the picture, mean and logarithm of the variance of the latent distribution.
pub struct Reconstruction {
    /// `[B, 1, 28, 28]`.
    pub logits: Tensor,
    /// `[B, latent]`.
    pub mu: Tensor,
    /// `[B, latent]`.
    pub logvar: Tensor,
}

impl Vae {
    /// With weights drawn.
    pub fn new(latent: usize) -> Vae {
        let relu = || Activation::Relu.layer();
        Vae {
            enc: Sequential::new()
                .add(Conv2d::new(1, 32, 3).stride(2).padding(1).init())
                .add(relu())
                .add(Conv2d::new(32, 64, 3).stride(2).padding(1).init())
                .add(relu()),
            mu: Linear::new(64 * 49, latent).init(),
            logvar: Linear::new(64 * 49, latent).init(),
            fc: Linear::new(latent, 64 * 49).init(),
            dec: Sequential::new()
                .add(relu())
                .add(ConvTranspose2d::new(64, 32, 4).stride(2).padding(1).init())
                .add(relu())
                .add(ConvTranspose2d::new(32, 1, 4).stride(2).padding(1).init()),
        }
    }

    /// Pictures `x [B, 1, 28, 28]` through a latent point `μ + σ·noise`, noise `[B, latent]` standard normal.
    pub fn forward(&self, x: &Tensor, noise: &Tensor) -> Reconstruction {
        let h = self.enc.forward(x).flatten_from(1); // [B, 64·7·7]
        let (mu, logvar) = (self.mu.forward(&h), self.logvar.forward(&h)); // [B, latent]
        let z = &mu + noise * (&logvar * 0.5).exp();
        let logits = self.dec.forward(&self.fc.forward(&z).reshape([x.size(0), 64, 7, 7]));
        Reconstruction { logits, mu, logvar }
    }
}

/// The negative evidence lower bound, a picture: binary cross-entropy and the divergence from the standard normal.
pub fn vae_loss(out: &Reconstruction, x: &Tensor) -> Tensor {
    let surprise = BceWithLogits { reduction: Reduction::Sum, ..Default::default() }.loss(&out.logits, x);
    let divergence = (1.0 + &out.logvar - out.mu.square() - out.logvar.exp()).sum(..) * -0.5;
    (surprise + divergence) / x.size(0) as f64
}
