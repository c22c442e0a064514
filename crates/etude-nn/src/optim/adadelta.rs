//! Adadelta.

use super::{Optimizer, Rule, Step, penalised};
use crate::Module;
use etude_core::Tensor;

/// Adadelta (Zeiler, 2012): `s ← ρs + (1−ρ)g²`, `Δ = g·√(u+ε)/√(s+ε)`, `u ← ρu + (1−ρ)Δ²`, `w ← w − η·Δ`.
#[derive(Clone, Copy, Debug)]
pub struct Adadelta {
    learning_rate: f64,
    decay: f64,
    epsilon: f64,
    weight_decay: f64,
}

impl Adadelta {
    /// Adadelta with steps scaled by this rate (1 in the paper), ρ = 0.9, ε = 1e-6.
    pub fn new(learning_rate: f64) -> Adadelta {
        Adadelta { learning_rate, decay: 0.9, epsilon: 1e-6, weight_decay: 0.0 }
    }

    /// The decay of the two averages, `ρ`.
    pub fn decay(mut self, decay: f64) -> Adadelta {
        self.decay = decay;
        self
    }

    /// What is added under the roots.
    pub fn epsilon(mut self, epsilon: f64) -> Adadelta {
        self.epsilon = epsilon;
        self
    }

    /// An L2 penalty: `λ·w` is added to the gradient.
    pub fn weight_decay(mut self, weight_decay: f64) -> Adadelta {
        self.weight_decay = weight_decay;
        self
    }

    /// The optimiser of every parameter of `module`.
    pub fn over(self, module: &(impl Module + ?Sized)) -> Optimizer {
        Optimizer::new(self, self.weight_decay, module)
    }
}

impl Rule for Adadelta {
    fn name(&self) -> &'static str {
        "adadelta"
    }

    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn slots(&self) -> &'static [&'static str] {
        &["squares", "steps"]
    }

    fn numbers(&self, step: &Step) -> Vec<f64> {
        step.with_decay([step.learning_rate])
    }

    fn update(&self, w: &Tensor, g: &Tensor, slots: &mut [Tensor], numbers: &[Tensor]) -> Tensor {
        let [squares, steps] = slots else { unreachable!("Adadelta keeps two tensors a parameter") };
        let [rate, decay @ ..] = numbers else { unreachable!("Adadelta's numbers") };
        let g = penalised(w, g, decay);
        let keep = self.decay;
        *squares = &*squares * keep + g.square() * (1.0 - keep);
        let delta = (&*steps + self.epsilon).sqrt() / (&*squares + self.epsilon).sqrt() * g;
        *steps = &*steps * keep + delta.square() * (1.0 - keep);
        w - delta * rate
    }
}
