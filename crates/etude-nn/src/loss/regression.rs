//! Losses between real numbers.

use super::{Reduction, same_shape};
use etude_core::Tensor;

/// Options of [`mse`].
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Mse {
    /// Over all elements.
    pub reduction: Reduction,
}

impl Mse {
    /// `(x − t)²`, reduced.
    #[track_caller]
    pub fn loss(&self, prediction: &Tensor, target: &Tensor) -> Tensor {
        same_shape("mse", prediction, target);
        self.reduction.apply(&(prediction - target).square())
    }
}

/// The mean squared error, `mean (x − t)²`.
///
/// # Panics
/// If the shapes differ.
#[track_caller]
pub fn mse(prediction: &Tensor, target: &Tensor) -> Tensor {
    Mse::default().loss(prediction, target)
}

/// Options of [`l1`].
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct L1 {
    /// Over all elements.
    pub reduction: Reduction,
}

impl L1 {
    /// `|x − t|`, reduced.
    #[track_caller]
    pub fn loss(&self, prediction: &Tensor, target: &Tensor) -> Tensor {
        same_shape("l1", prediction, target);
        self.reduction.apply(&(prediction - target).abs())
    }
}

/// The mean absolute error, `mean |x − t|`.
///
/// # Panics
/// If the shapes differ.
#[track_caller]
pub fn l1(prediction: &Tensor, target: &Tensor) -> Tensor {
    L1::default().loss(prediction, target)
}

/// Options of [`huber`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Huber {
    /// The error from which on the loss grows linearly.
    pub delta: f64,
    /// Over all elements.
    pub reduction: Reduction,
}

impl Default for Huber {
    fn default() -> Huber {
        Huber { delta: 1.0, reduction: Reduction::Mean }
    }
}

impl Huber {
    /// `½d²` for `|d| = |x − t| ≤ δ`, else `δ(|d| − ½δ)`, reduced.
    #[track_caller]
    pub fn loss(&self, prediction: &Tensor, target: &Tensor) -> Tensor {
        same_shape("huber", prediction, target);
        let error = prediction - target;
        let size = error.abs();
        let (near, far) = (error.square() * 0.5, (&size - 0.5 * self.delta) * self.delta);
        self.reduction.apply(&size.less_equal(self.delta).select(&near, &far))
    }
}

/// Huber's loss (Huber, 1964): `½d²` for errors `|d| ≤ delta`, `delta(|d| − ½delta)` beyond; the mean.
///
/// # Panics
/// If the shapes differ.
#[track_caller]
pub fn huber(prediction: &Tensor, target: &Tensor, delta: f64) -> Tensor {
    Huber { delta, ..Huber::default() }.loss(prediction, target)
}

/// Options of [`smooth_l1`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SmoothL1 {
    /// The error from which on the loss grows linearly; 0 gives [`l1`].
    pub beta: f64,
    /// Over all elements.
    pub reduction: Reduction,
}

impl Default for SmoothL1 {
    fn default() -> SmoothL1 {
        SmoothL1 { beta: 1.0, reduction: Reduction::Mean }
    }
}

impl SmoothL1 {
    /// `½d²/β` for `|d| = |x − t| < β`, else `|d| − ½β`, reduced.
    #[track_caller]
    pub fn loss(&self, prediction: &Tensor, target: &Tensor) -> Tensor {
        same_shape("smooth_l1", prediction, target);
        let error = prediction - target;
        let size = error.abs();
        if self.beta == 0.0 {
            return self.reduction.apply(&size);
        }
        let (near, far) = (error.square() * (0.5 / self.beta), &size - 0.5 * self.beta);
        self.reduction.apply(&size.less(self.beta).select(&near, &far))
    }
}

/// The smooth L1 loss of box regression (Girshick, 2015): `½d²/beta` for `|d| < beta`, `|d| − ½beta` beyond; the mean.
///
/// # Panics
/// If the shapes differ.
#[track_caller]
pub fn smooth_l1(prediction: &Tensor, target: &Tensor, beta: f64) -> Tensor {
    SmoothL1 { beta, ..SmoothL1::default() }.loss(prediction, target)
}

/// Options of [`gaussian_nll`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct GaussianNll {
    /// Whether the constant `½ ln 2π` is added.
    pub full: bool,
    /// The smallest variance; smaller ones count as this and get no gradient.
    pub epsilon: f64,
    /// Over all elements.
    pub reduction: Reduction,
}

impl Default for GaussianNll {
    fn default() -> GaussianNll {
        GaussianNll { full: false, epsilon: 1e-6, reduction: Reduction::Mean }
    }
}

impl GaussianNll {
    /// `½(ln σ² + (μ − t)²/σ²)`, reduced; the variance may broadcast.
    #[track_caller]
    pub fn loss(&self, mean: &Tensor, target: &Tensor, variance: &Tensor) -> Tensor {
        same_shape("gaussian_nll", mean, target);
        let variance = variance.maximum(self.epsilon);
        let losses = (variance.ln() + (mean - target).square() / variance) * 0.5;
        let constant = if self.full { 0.5 * std::f64::consts::TAU.ln() } else { 0.0 };
        self.reduction.apply(&if self.full { losses + constant } else { losses })
    }
}

/// How unlikely targets are under normal distributions, `½(ln σ² + (μ − t)²/σ²)`, the mean (Nix and Weigend, 1994).
///
/// # Panics
/// If the shapes of `mean` and `target` differ.
#[track_caller]
pub fn gaussian_nll(mean: &Tensor, target: &Tensor, variance: &Tensor) -> Tensor {
    GaussianNll::default().loss(mean, target, variance)
}

/// Options of [`poisson_nll`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PoissonNll {
    /// Whether predictions are logarithms of rates; else they are rates.
    pub log_input: bool,
    /// Whether Stirling's approximation of `ln t!` is added for targets above 1.
    pub full: bool,
    /// Added to rates before their logarithm is taken.
    pub epsilon: f64,
    /// Over all elements.
    pub reduction: Reduction,
}

impl Default for PoissonNll {
    fn default() -> PoissonNll {
        PoissonNll { log_input: true, full: false, epsilon: 1e-8, reduction: Reduction::Mean }
    }
}

impl PoissonNll {
    /// `eˣ − t·x` of log-rates, `x − t·ln(x + ε)` of rates, reduced.
    #[track_caller]
    pub fn loss(&self, prediction: &Tensor, target: &Tensor) -> Tensor {
        same_shape("poisson_nll", prediction, target);
        let mut losses = match self.log_input {
            true => prediction.exp() - target * prediction,
            false => prediction - target * (prediction + self.epsilon).ln(),
        };
        if self.full {
            let counts = target.maximum(1.0);
            let stirling = &counts * counts.ln() - &counts + (&counts * std::f64::consts::TAU).ln() * 0.5;
            let nothing = Tensor::scalar(0.0, target.dtype());
            losses = losses + target.greater(1.0).select(&stirling, &nothing);
        }
        self.reduction.apply(&losses)
    }
}

/// How unlikely counts are under Poisson distributions with the given logarithms of rates, `eˣ − t·x`, the mean; the
/// constant `ln t!` is left out.
///
/// # Panics
/// If the shapes differ.
#[track_caller]
pub fn poisson_nll(log_rate: &Tensor, target: &Tensor) -> Tensor {
    PoissonNll::default().loss(log_rate, target)
}
