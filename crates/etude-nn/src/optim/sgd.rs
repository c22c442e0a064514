//! Stochastic gradient descent.

use super::{Optimizer, Rule, Step, penalised};
use crate::Module;
use etude_core::Tensor;

/// Stochastic gradient descent, plain, with momentum (Polyak, 1964) or with Nesterov's (1983):
/// `v ← μ·v + (1−δ)·g`, `w ← w − η·v`, with Nesterov `w ← w − η·(g + μ·v)`. The first `v` is `g`.
#[derive(Clone, Copy, Debug)]
pub struct Sgd {
    learning_rate: f64,
    momentum: f64,
    dampening: f64,
    nesterov: bool,
    weight_decay: f64,
}

impl Sgd {
    /// Plain descent at this rate.
    pub fn new(learning_rate: f64) -> Sgd {
        Sgd { learning_rate, momentum: 0.0, dampening: 0.0, nesterov: false, weight_decay: 0.0 }
    }

    /// Momentum `μ`.
    pub fn momentum(mut self, momentum: f64) -> Sgd {
        self.momentum = momentum;
        self
    }

    /// Dampening `δ` of the gradient that enters the momentum.
    pub fn dampening(mut self, dampening: f64) -> Sgd {
        self.dampening = dampening;
        self
    }

    /// Nesterov's form of momentum.
    pub fn nesterov(mut self) -> Sgd {
        self.nesterov = true;
        self
    }

    /// An L2 penalty: `λ·w` is added to the gradient.
    pub fn weight_decay(mut self, weight_decay: f64) -> Sgd {
        self.weight_decay = weight_decay;
        self
    }

    /// The optimiser of every parameter of `module`.
    pub fn over(self, module: &(impl Module + ?Sized)) -> Optimizer {
        Optimizer::new(self, self.weight_decay, module)
    }
}

impl Rule for Sgd {
    fn name(&self) -> &'static str {
        "sgd"
    }

    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn slots(&self) -> &'static [&'static str] {
        if self.momentum == 0.0 { &[] } else { &["velocity"] }
    }

    fn numbers(&self, step: &Step) -> Vec<f64> {
        // The first velocity is the gradient itself, undamped.
        let enters = if step.number == 1 { 1.0 } else { 1.0 - self.dampening };
        step.with_decay([step.learning_rate, enters])
    }

    fn update(&self, w: &Tensor, g: &Tensor, slots: &mut [Tensor], numbers: &[Tensor]) -> Tensor {
        let [rate, enters, decay @ ..] = numbers else { unreachable!("SGD's numbers") };
        let g = penalised(w, g, decay);
        let [v] = slots else { return w - g * rate };
        *v = &*v * self.momentum + &g * enters;
        let direction = if self.nesterov { g + &*v * self.momentum } else { v.clone() };
        w - direction * rate
    }
}
