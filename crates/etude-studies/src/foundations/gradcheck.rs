//! Gradient checking: does backpropagation agree with the definition of a slope?
//!
//! A derivative is a limit, and a computer can come close to it without knowing any calculus:
//!
//! ```text
//! f'(x) ≈ (f(x + ε) − f(x − ε)) / 2ε        error of order ε², against ε for the one-sided form
//! ```
//!
//! Done for every parameter of a network this is far too slow to train with, and exactly right to catch a wrong gradient
//! (here a small convolutional network in 64-bit floats). The measure is `‖g − g̃‖ / (‖g‖ + ‖g̃‖)`: around 1e-9 all is well,
//! at 1e-3 something is wrong.

use crate::study::Etude;
use etude::Result;
use etude::prelude::*;
use serde::{Deserialize, Serialize};

/// The knobs.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct GradientCheck {
    /// Half the distance between the two points. [1e-12..1]
    pub epsilon: f64,
    /// Largest disagreement claimed. [0..1]
    pub tolerance: f64,
}

impl Default for GradientCheck {
    fn default() -> Self {
        Self { epsilon: 1e-5, tolerance: 1e-7 }
    }
}

/// A convolution, a bend, a pool and a dense layer, as a function of its three parameters.
fn network(x: &Tensor, labels: &Tensor, w: &[Tensor]) -> Tensor {
    let h = x.conv2d(&w[0], ConvOptions::new().padding(1)).tanh().max_pool2d(2); // [B, 3, 3, 3]
    let logits = h.flatten_from(1).matmul(&w[1]) + &w[2]; // [B, 4]
    cross_entropy(&logits, labels)
}

impl Etude for GradientCheck {
    const NAME: &'static str = "gradcheck";
    const TITLE: &'static str = "backpropagation against two-sided differences";
    const SOURCE: &'static str = "the definition of the derivative";
    const ROWS: &'static [&'static str] = &["F7"];
    const TEXT: &'static str = include_str!("gradcheck.rs");

    fn run(self, _session: &mut Session) -> Result<Report> {
        let draw = |shape: &[usize]| etude::core::randn_in(Shape::new(shape), DType::F64);
        let x = draw(&[5, 1, 6, 6]);
        let x = Tensor::from_slice(&x.to_vec::<f64>(), x.shape());
        let labels = tensor([0, 3, 1, 2, 1]);
        let weights: Vec<Tensor> =
            [&[3usize, 1, 3, 3][..], &[27, 4], &[4]].map(|shape| (draw(shape) * 0.5).variable()).to_vec();

        let loss = network(&x, &labels, &weights);
        let found = loss.backward()?;
        let mut report = Report::new();
        let mut table = Table::new("each parameter", ["parameter", "numbers", "disagreement"]);
        let mut worst: f64 = 0.0;
        for (i, weight) in weights.iter().enumerate() {
            let exact = found.get(weight).expect("every weight is used").to_vec::<f64>();
            let values = weight.to_vec::<f64>();
            let loss_at = |k: usize, offset: f64| {
                let mut moved = values.clone();
                moved[k] += offset;
                let mut all = weights.clone();
                all[i] = Tensor::from_slice(&moved, weight.shape());
                no_grad(|| network(&x, &labels, &all)).item()
            };
            let slope = |k| (loss_at(k, self.epsilon) - loss_at(k, -self.epsilon)) / (2.0 * self.epsilon);
            let by_steps: Vec<f64> = (0..values.len()).map(slope).collect();
            let disagreement = distance(&exact, &by_steps);
            table.row([
                ["kernel", "weight", "bias"][i].to_string(),
                values.len().to_string(),
                format!("{disagreement:.2e}"),
            ]);
            worst = worst.max(disagreement);
        }
        report.table(table);
        report.claim(Claim::at_most("largest disagreement", worst, self.tolerance));
        Ok(report)
    }
}

/// `‖a − b‖ / (‖a‖ + ‖b‖)`.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let apart = norm(&mut a.iter().zip(b).map(|(a, b)| a - b));
    apart / (norm(&mut a.iter().copied()) + norm(&mut b.iter().copied()))
}
