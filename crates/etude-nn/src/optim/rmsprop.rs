//! RMSprop.

use super::{Optimizer, Rule, Step, penalised};
use crate::Module;
use etude_core::Tensor;

/// RMSprop (Tieleman and Hinton, 2012): `s ← αs + (1−α)g²`, `w ← w − η · g/(√s + ε)`.
///
/// Centred (Graves, 2013), `s` becomes the variance `s − m²` with `m ← αm + (1−α)g`. With momentum the quotient enters a
/// velocity, `v ← μv + g/(√s + ε)`, `w ← w − η·v`.
#[derive(Clone, Copy, Debug)]
pub struct RmsProp {
    learning_rate: f64,
    decay: f64,
    epsilon: f64,
    momentum: f64,
    centred: bool,
    weight_decay: f64,
}

impl RmsProp {
    /// RMSprop at this rate, α = 0.99, ε = 1e-8, without momentum.
    pub fn new(learning_rate: f64) -> RmsProp {
        RmsProp { learning_rate, decay: 0.99, epsilon: 1e-8, momentum: 0.0, centred: false, weight_decay: 0.0 }
    }

    /// The decay of the averages, `α`.
    pub fn decay(mut self, decay: f64) -> RmsProp {
        self.decay = decay;
        self
    }

    /// What is added to the denominator.
    pub fn epsilon(mut self, epsilon: f64) -> RmsProp {
        self.epsilon = epsilon;
        self
    }

    /// Momentum `μ`.
    pub fn momentum(mut self, momentum: f64) -> RmsProp {
        self.momentum = momentum;
        self
    }

    /// Divides by the gradient's deviation instead of its root mean square.
    pub fn centred(mut self) -> RmsProp {
        self.centred = true;
        self
    }

    /// An L2 penalty: `λ·w` is added to the gradient.
    pub fn weight_decay(mut self, weight_decay: f64) -> RmsProp {
        self.weight_decay = weight_decay;
        self
    }

    /// The optimiser of every parameter of `module`.
    pub fn over(self, module: &(impl Module + ?Sized)) -> Optimizer {
        Optimizer::new(self, self.weight_decay, module)
    }
}

impl Rule for RmsProp {
    fn name(&self) -> &'static str {
        "rmsprop"
    }

    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn slots(&self) -> &'static [&'static str] {
        match (self.centred, self.momentum != 0.0) {
            (false, false) => &["squares"],
            (true, false) => &["squares", "mean"],
            (false, true) => &["squares", "velocity"],
            (true, true) => &["squares", "mean", "velocity"],
        }
    }

    fn numbers(&self, step: &Step) -> Vec<f64> {
        step.with_decay([step.learning_rate])
    }

    fn update(&self, w: &Tensor, g: &Tensor, slots: &mut [Tensor], numbers: &[Tensor]) -> Tensor {
        let [rate, decay @ ..] = numbers else { unreachable!("RMSprop's numbers") };
        let g = penalised(w, g, decay);
        let average = |held: &Tensor, new: &Tensor| held * self.decay + new * (1.0 - self.decay);
        let (squares, mean, velocity) = match slots {
            [squares] => (squares, None, None),
            [squares, mean] if self.centred => (squares, Some(mean), None),
            [squares, velocity] => (squares, None, Some(velocity)),
            [squares, mean, velocity] => (squares, Some(mean), Some(velocity)),
            _ => unreachable!("RMSprop keeps one to three tensors a parameter"),
        };
        *squares = average(squares, &g.square());
        let mut spread = squares.clone();
        if let Some(mean) = mean {
            *mean = average(mean, &g);
            // Rounding may take a variance of 0 just below it.
            spread = (spread - mean.square()).maximum(0.0);
        }
        let mut direction = g / (spread.sqrt() + self.epsilon);
        if let Some(velocity) = velocity {
            *velocity = &*velocity * self.momentum + direction;
            direction = velocity.clone();
        }
        w - direction * rate
    }
}
