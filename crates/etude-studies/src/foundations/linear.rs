//! Linear regression with one dense layer (Legendre, 1805; Gauss, 1809).
//!
//! The model is `ŷ = x·w + b`, the loss the root of the mean squared error. The data are made here, so that the truth is
//! known: 5 features, known weights, noise of deviation 0.1. Gradient descent should find the weights, and an error as
//! large as the noise, which no model can go below.
//!
//! Squaring makes the loss listen to outliers (the notes have this the wrong way round): one wild answer among 200 moves a
//! fit by squares much further than a fit by absolute errors. The last table shows it.

use crate::study::Etude;
use etude::Result;
use etude::prelude::*;
use serde::{Deserialize, Serialize};

/// The knobs.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct LinearRegression {
    /// Examples. [8..10000000]
    pub examples: usize,
    /// Steps over all examples. [1..10000000]
    pub steps: u64,
    /// Adam's step size. [0..]
    pub learning_rate: f64,
    /// Deviation of the noise. [0..1000]
    pub noise: f64,
}

impl Default for LinearRegression {
    fn default() -> Self {
        Self { examples: 200, steps: 600, learning_rate: 0.03, noise: 0.1 }
    }
}

const TRUTH: [f64; 5] = [1.5, -2.0, 0.5, 3.0, 0.0];
const INTERCEPT: f64 = 0.7;

impl LinearRegression {
    /// Fits by `loss` and returns the layer with its final loss.
    fn fit(&self, x: &Tensor, y: &Tensor, loss: impl Fn(&Tensor, &Tensor) -> Tensor) -> Result<(Linear, f64)> {
        let layer = Linear::new(TRUTH.len(), 1).init();
        let mut step = Adam::new(self.learning_rate).over(&layer);
        let mut last = f64::NAN;
        for number in 0..self.steps {
            // Down to a tenth along the way, so that the end is still.
            step.set_learning_rate(self.learning_rate * (1.0 - 0.9 * number as f64 / self.steps as f64));
            let value = loss(&layer.forward(x).squeeze(-1), y);
            step.minimise(&value)?;
            last = value.item();
        }
        Ok((layer, last))
    }
}

/// How far the weights are from the truth, at most.
fn distance(layer: &Linear) -> f64 {
    let found = layer.weight.value().to_vec::<f64>();
    found.iter().zip(TRUTH).map(|(w, truth)| (w - truth).abs()).fold(0.0, f64::max)
}

impl Etude for LinearRegression {
    const NAME: &'static str = "linear";
    const TITLE: &'static str = "linear regression with one dense layer";
    const SOURCE: &'static str = "Legendre, 1805; Gauss, 1809";
    const ROWS: &'static [&'static str] = &["F11", "F18", "F29", "T9"];
    const TEXT: &'static str = include_str!("linear.rs");

    fn run(self, session: &mut Session) -> Result<Report> {
        let x = randn([self.examples, TRUTH.len()]); // [N, 5]
        x.eval()?;
        let noise = randn(self.examples) * self.noise;
        let y = x.matmul(&tensor(TRUTH)) + INTERCEPT + noise; // [N]
        y.eval()?;
        let rmse = |p: &Tensor, y: &Tensor| mse(p, y).sqrt();
        let (layer, error) = self.fit(&x, &y, rmse)?;
        session.say(format!("weights {:.3?}, truth {TRUTH:?}", layer.weight.value().to_vec::<f32>()));

        // One example with a wild answer.
        let wild = &y + arange(self.examples).equal(0.0).to(DType::F32) * 200.0;
        wild.eval()?;
        let (by_squares, _) = self.fit(&x, &wild, mse)?;
        let (by_absolute, _) = self.fit(&x, &wild, l1)?;

        let mut report = Report::new();
        let mut table = Table::new("one wild answer", ["fit by", "largest error of a weight"]);
        table.row(["squares".to_string(), format!("{:.3}", distance(&by_squares))]);
        table.row(["absolute errors".to_string(), format!("{:.3}", distance(&by_absolute))]);
        report.table(table);
        report.claim(Claim::at_most("largest error of a weight", distance(&layer), 0.05));
        report.claim(Claim::at_most("RMSE over the noise", error / self.noise, 1.15));
        let ratio = distance(&by_squares) / distance(&by_absolute);
        report.claim(Claim::at_least("squares moved further than absolute errors, times", ratio, 3.0));
        Ok(report)
    }
}
