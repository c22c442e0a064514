//! Adagrad.

use super::{Optimizer, Rule, Step, penalised};
use crate::Module;
use etude_core::Tensor;

/// Adagrad (Duchi et al., 2011): `s ← s + g²`, `w ← w − η/(1+(t−1)·δ) · g / (√s + ε)`.
#[derive(Clone, Copy, Debug)]
pub struct Adagrad {
    learning_rate: f64,
    rate_decay: f64,
    start: f64,
    epsilon: f64,
    weight_decay: f64,
}

impl Adagrad {
    /// Adagrad at this rate, which does not decay by itself, `s` from 0, ε = 1e-10.
    pub fn new(learning_rate: f64) -> Adagrad {
        Adagrad { learning_rate, rate_decay: 0.0, start: 0.0, epsilon: 1e-10, weight_decay: 0.0 }
    }

    /// How fast the rate falls with the number of steps: `δ` above.
    pub fn rate_decay(mut self, rate_decay: f64) -> Adagrad {
        self.rate_decay = rate_decay;
        self
    }

    /// What the sum of squares starts from.
    pub fn start(mut self, start: f64) -> Adagrad {
        self.start = start;
        self
    }

    /// What is added to the denominator.
    pub fn epsilon(mut self, epsilon: f64) -> Adagrad {
        self.epsilon = epsilon;
        self
    }

    /// An L2 penalty: `λ·w` is added to the gradient.
    pub fn weight_decay(mut self, weight_decay: f64) -> Adagrad {
        self.weight_decay = weight_decay;
        self
    }

    /// The optimiser of every parameter of `module`.
    pub fn over(self, module: &(impl Module + ?Sized)) -> Optimizer {
        Optimizer::new(self, self.weight_decay, module)
    }
}

impl Rule for Adagrad {
    fn name(&self) -> &'static str {
        "adagrad"
    }

    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn slots(&self) -> &'static [&'static str] {
        &["squares"]
    }

    fn start(&self) -> f64 {
        self.start
    }

    fn numbers(&self, step: &Step) -> Vec<f64> {
        step.with_decay([step.learning_rate / (1.0 + (step.number - 1) as f64 * self.rate_decay)])
    }

    fn update(&self, w: &Tensor, g: &Tensor, slots: &mut [Tensor], numbers: &[Tensor]) -> Tensor {
        let [squares] = slots else { unreachable!("Adagrad keeps one tensor a parameter") };
        let [rate, decay @ ..] = numbers else { unreachable!("Adagrad's numbers") };
        let g = penalised(w, g, decay);
        *squares = &*squares + g.square();
        w - g * rate / (squares.sqrt() + self.epsilon)
    }
}
