//! The forward process: how a digit becomes noise (Ho et al., 2020; Nichol and Dhariwal, 2021).
//!
//! ```text
//! x_t = √ᾱ_t·x_0 + √(1 − ᾱ_t)·ε        ᾱ_t = Π (1 − β_i), i = 1 … t        ε ~ N(0, 1)
//!
//! a squared cosine      ᾱ_t = f(t) / f(0)      f(t) = cos²( (t/T + 0.008) / 1.008 · π/2 )
//! a straight line       β_t = (10⁻⁴ + (0.02 − 10⁻⁴)·t/T) · 1000/T
//! ```
//!
//! `√ᾱ` and `√(1 − ᾱ)` are the legs of a right triangle whose hypotenuse is 1, so that digits of values around ±1 and noise
//! of deviation 1 are mixed to something of that size again. `ε` is one direction in that plane; the *velocity*
//! `v = √ᾱ·ε − √(1 − ᾱ)·x_0` is at right angles to `x_t` (Salimans and Ho, 2022).

use etude::prelude::*;

/// How much is left of a digit after each number of steps.
pub struct Noising {
    /// `ᾱ` of the steps 0 … T: from 1 to nearly 0.
    pub kept: Vec<f64>,
    /// Whether the net answers with the velocity; else with the noise.
    pub velocity: bool,
}

impl Noising {
    /// `T` steps; `ᾱ` falls as a squared cosine, or `β` rises in a straight line.
    pub fn new(steps: usize, cosine: bool, velocity: bool) -> Self {
        let part = |t: usize| t as f64 / steps as f64;
        let level = |t: usize| ((part(t) + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2);
        let straight = |t: usize| (1e-4 + (0.02 - 1e-4) * part(t)) * 1000.0 / steps as f64;
        let beta = |t: usize| if cosine { 1.0 - level(t) / level(t - 1) } else { straight(t) };
        let mut kept = vec![1.0];
        for t in 1..=steps {
            kept.push(kept[t - 1] * (1.0 - beta(t).min(0.999)));
        }
        Self { kept, velocity }
    }

    /// Steps 1 … T for `count` digits. One place is drawn and the others lie evenly apart, so that every batch sees weak and
    /// strong noise alike (Kingma et al., 2021).
    pub fn draw(&self, count: usize) -> Tensor {
        let last = (self.kept.len() - 1) as f64;
        let place = arange(count).to(DType::F32) / count as f64 + uniform([1]); // [B], 0 … 2
        let t = (&place - place.floor()) * last;
        t.floor().clamp(0.0, last - 1.0).to(DType::I64) + 1.0 // [B], 1 … T
    }

    /// The parts of digit and noise at step `t`: `√ᾱ` and `√(1 − ᾱ)`.
    pub fn parts(&self, t: usize) -> (f64, f64) {
        (self.kept[t].sqrt(), (1.0 - self.kept[t]).sqrt())
    }

    /// Digits `x [B, 1, 28, 28]` of values in −1 … 1 as they are at the steps `t [B]`, and what the net should answer.
    pub fn apply(&self, x: &Tensor, t: &Tensor) -> (Tensor, Tensor) {
        let kept = tensor(self.kept.clone()).index_select(0, t).reshape([t.count(), 1, 1, 1]).to(DType::F32);
        let (signal, spread, noise) = (kept.sqrt(), (1.0 - kept).sqrt(), randn(x.shape()));
        let goal = if self.velocity { &noise * &signal - x * &spread } else { noise.clone() };
        (x * signal + noise * spread, goal)
    }
}
