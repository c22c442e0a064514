//! Adam and AdamW.

use super::{Optimizer, Rule, Step, penalised};
use crate::Module;
use etude_core::Tensor;

/// Adam (Kingma and Ba, 2015): `m ← β₁m + (1−β₁)g`, `v ← β₂v + (1−β₂)g²`,
/// `w ← w − η · m̂ / (√v̂ + ε)` with `m̂ = m/(1−β₁ᵗ)`, `v̂ = v/(1−β₂ᵗ)`.
#[derive(Clone, Copy, Debug)]
pub struct Adam {
    learning_rate: f64,
    betas: (f64, f64),
    epsilon: f64,
    weight_decay: f64,
    decoupled: bool,
    largest: bool,
}

impl Adam {
    /// Adam at this rate, β = (0.9, 0.999), ε = 1e-8.
    pub fn new(learning_rate: f64) -> Adam {
        Adam { learning_rate, betas: (0.9, 0.999), epsilon: 1e-8, weight_decay: 0.0, decoupled: false, largest: false }
    }

    /// The decay of the two averages.
    pub fn betas(mut self, first: f64, second: f64) -> Adam {
        self.betas = (first, second);
        self
    }

    /// What is added to the denominator.
    pub fn epsilon(mut self, epsilon: f64) -> Adam {
        self.epsilon = epsilon;
        self
    }

    /// An L2 penalty: `λ·w` is added to the gradient. [`AdamW`] decays the weights themselves instead.
    pub fn weight_decay(mut self, weight_decay: f64) -> Adam {
        self.weight_decay = weight_decay;
        self
    }

    /// AMSGrad (Reddi et al., 2018): divides by the largest `v` so far, so that steps never grow again.
    pub fn amsgrad(mut self) -> Adam {
        self.largest = true;
        self
    }

    /// The optimiser of every parameter of `module`.
    pub fn over(self, module: &(impl Module + ?Sized)) -> Optimizer {
        Optimizer::new(self, self.weight_decay, module)
    }
}

/// Adam with decoupled weight decay (Loshchilov and Hutter, 2019): `w ← w − η·λ·w` beside Adam's step.
pub struct AdamW;

impl AdamW {
    /// AdamW at this rate, λ = 0.01, β = (0.9, 0.999), ε = 1e-8; the same options as [`Adam`].
    #[allow(clippy::new_ret_no_self)] // AdamW is Adam with another decay, not a rule of its own
    pub fn new(learning_rate: f64) -> Adam {
        Adam { decoupled: true, weight_decay: 0.01, ..Adam::new(learning_rate) }
    }
}

impl Rule for Adam {
    fn name(&self) -> &'static str {
        if self.decoupled { "adamw" } else { "adam" }
    }

    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn slots(&self) -> &'static [&'static str] {
        if self.largest { &["m", "v", "largest"] } else { &["m", "v"] }
    }

    fn numbers(&self, step: &Step) -> Vec<f64> {
        let (beta1, beta2) = self.betas;
        let (correction1, correction2) = (1.0 - beta1.powf(step.number as f64), 1.0 - beta2.powf(step.number as f64));
        let mut numbers = step.with_decay([step.learning_rate / correction1, 1.0 / correction2.sqrt()]);
        if let (true, Some(decay)) = (self.decoupled, numbers.get_mut(2)) {
            *decay = 1.0 - step.learning_rate * *decay;
        }
        numbers
    }

    fn update(&self, w: &Tensor, g: &Tensor, slots: &mut [Tensor], numbers: &[Tensor]) -> Tensor {
        let [m, v, largest @ ..] = slots else { unreachable!("Adam keeps two or three tensors a parameter") };
        let [stride, correction, decay @ ..] = numbers else { unreachable!("Adam's numbers") };
        let (beta1, beta2) = self.betas;
        let (mut w, mut g) = (w.clone(), g.clone());
        match (decay, self.decoupled) {
            ([], _) => (),
            ([keep, ..], true) => w = w * keep,
            (decay, false) => g = penalised(&w, &g, decay),
        }
        *m = &*m * beta1 + &g * (1.0 - beta1);
        *v = &*v * beta2 + &g * &g * (1.0 - beta2);
        let spread = match largest {
            [largest] => {
                *largest = largest.maximum(&*v);
                largest.clone()
            }
            _ => v.clone(),
        };
        w - &*m * stride / (spread.sqrt() * correction + self.epsilon)
    }
}
