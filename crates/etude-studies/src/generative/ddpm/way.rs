//! The way back: from noise to a digit, in as many leaps as one likes (Ho et al., 2020; Song et al., 2021).
//!
//! ```text
//! x̂ = √ᾱ_t·x_t − √(1 − ᾱ_t)·v̂          ε̂ = (x_t − √ᾱ_t·x̂) / √(1 − ᾱ_t)
//! x_s = √ᾱ_s·x̂ + √(1 − ᾱ_s − σ²)·ε̂ + σ·z        σ² = η²·(1 − ᾱ_s)/(1 − ᾱ_t)·(1 − ᾱ_t/ᾱ_s)
//! ```
//!
//! Class guidance (Ho and Salimans, 2022) takes `v̂ = v̂(any) + w·(v̂(class) − v̂(any))`; both answers come from one pass over
//! a batch twice as large. Pixels of a digit lie in −1 … 1, so what is seen is cut to that, and the noise is taken anew
//! from what was cut.
//!
//! Where half of a digit is known (RePaint, Lugmayr et al., 2022), each leap is followed by putting the known half in,
//! with the noise of step `s`, and all but the last round of a leap by noise from `s` back to `t`:
//! `x_t = √(ᾱ_t/ᾱ_s)·x_s + √(1 − ᾱ_t/ᾱ_s)·ε`.

use super::noising::Noising;
use super::unet::{UNet, whole};
use etude::Result;
use etude::prelude::*;

/// A way back from noise to digits.
#[derive(Clone, Copy)]
pub struct Way<'a> {
    /// Who sees the digit in the noise.
    pub net: &'a UNet,
    /// The way there.
    pub noising: &'a Noising,
    /// Leaps from noise to digit.
    pub leaps: usize,
    /// `η`: 0 is DDIM; 1, with all `T` leaps, is DDPM.
    pub eta: f64,
    /// The weight `w` of class guidance; 1 is none.
    pub guidance: f64,
}

impl Way<'_> {
    /// The steps `(t, s)` of each leap, from noise to digit.
    pub fn steps(self) -> impl Iterator<Item = (usize, usize)> {
        let last = self.noising.kept.len() - 1;
        let leaps = self.leaps.min(last);
        (0..leaps).rev().map(move |leap| (last * (leap + 1) / leaps, last * leap / leaps))
    }

    /// The digit and the noise that the net sees in `x` at step `t`: `[B, 1, 28, 28]` each.
    fn see(self, x: &Tensor, t: usize, classes: &Tensor) -> (Tensor, Tensor) {
        let count = x.size(0);
        let ask = |x: &Tensor, classes: &Tensor| evaluating(|| self.net.answer(x, &whole(x.size(0), t), classes));
        let answer = if self.guidance == 1.0 {
            ask(x, classes)
        } else {
            let twice = [x.clone(), x.clone()];
            let both = ask(&cat(&twice, 0), &cat(&[whole(count, UNet::ANY), classes.clone()], 0)).chunk(0, 2);
            both[0].lerp(&both[1], self.guidance)
        };
        let (signal, spread) = self.noising.parts(t);
        let velocity = self.noising.velocity;
        let digit = if velocity { x * signal - answer * spread } else { (x - answer * spread) / signal };
        let digit = digit.clamp(-1.0, 1.0);
        let noise = (x - &digit * signal) / spread;
        (digit, noise)
    }

    /// One leap: `x` at step `s`, and the digit that was seen at step `t`.
    pub fn leap(self, x: &Tensor, (t, s): (usize, usize), classes: &Tensor) -> Result<(Tensor, Tensor)> {
        let (at, to) = (self.noising.kept[t], self.noising.kept[s]);
        let drawn = self.eta.powi(2) * (1.0 - to) / (1.0 - at) * (1.0 - at / to);
        let (digit, noise) = self.see(x, t, classes);
        let mut x = &digit * to.sqrt() + noise * (1.0 - to - drawn).max(0.0).sqrt();
        if drawn > 0.0 {
            x = x + randn(digit.shape()) * drawn.sqrt();
        }
        x.eval()?;
        Ok((x, digit))
    }

    /// Digits of values in 0 … 1 for noise `[B, 1, 28, 28]` and the classes asked for `[B]`.
    pub fn digits(self, noise: &Tensor, classes: &Tensor) -> Result<Tensor> {
        let mut x = noise.clone();
        for step in self.steps() {
            x = self.leap(&x, step, classes)?.0;
        }
        Ok((x + 1.0) * 0.5)
    }

    /// The same where digits are `known` (values in 0 … 1) wherever `mask [1, 1, 28, 28]` is 1; each leap is made `rounds`
    /// times.
    pub fn fill(
        self,
        session: &Session,
        known: &Tensor,
        mask: &Tensor,
        classes: &Tensor,
        rounds: usize,
    ) -> Result<Tensor> {
        let (shape, known) = (known.shape(), known * 2.0 - 1.0);
        let mut x = randn(shape);
        for (t, s) in self.steps() {
            session.go_on()?;
            for round in 1..=rounds {
                let made = self.leap(&x, (t, s), classes)?.0;
                x = made.lerp(&self.noising.apply(&known, &whole(shape[0], s)).0, mask);
                if round < rounds {
                    let again = self.noising.kept[t] / self.noising.kept[s];
                    x = x * again.sqrt() + randn(shape) * (1.0 - again).sqrt();
                }
            }
        }
        Ok((x + 1.0) * 0.5)
    }
}
