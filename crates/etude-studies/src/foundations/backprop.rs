//! Backpropagation by hand and by machine (Rumelhart, Hinton and Williams, 1986).
//!
//! The smallest network there is: one weight, `y = w·x`. With `x = 1`, `w = 10` it says 10 where 2 was wanted, so the
//! loss is `L = (2 − y)² = 64`. How should `w` change? The chain rule carries the loss's slope back through each step:
//!
//! ```text
//! dL/dy = −2·(2 − y) = 16        dy/dw = x = 1        dL/dw = dL/dy · dy/dw = 16
//! ```
//!
//! The slope is positive: a larger `w` makes the loss larger, so `w` must fall. One step of gradient descent with rate
//! 0.1 gives `w ← 10 − 0.1·16 = 8.4`; repeated steps reach the optimum `w = 2`.

use crate::study::Etude;
use etude::Result;
use etude::prelude::*;
use etude::train::plot::Chart;
use serde::{Deserialize, Serialize};

/// The knobs.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct Backprop {
    /// Steps of gradient descent. [1..10000000]
    pub steps: u64,
    /// The step size. [0..]
    pub learning_rate: f64,
}

impl Default for Backprop {
    fn default() -> Self {
        Self { steps: 40, learning_rate: 0.1 }
    }
}

impl Etude for Backprop {
    const NAME: &'static str = "backprop";
    const TITLE: &'static str = "one weight learns by the chain rule";
    const SOURCE: &'static str = "Rumelhart, Hinton and Williams, 1986";
    const ROWS: &'static [&'static str] = &["F1", "F5", "F6"];
    const TEXT: &'static str = include_str!("backprop.rs");

    fn run(self, session: &mut Session) -> Result<Report> {
        let (x, target) = (tensor(1.0), 2.0);
        let w = Param::new(tensor(10.0));
        let seen = session.value("seen", Vec::<[f64; 3]>::new());
        session.keep("w", &w);
        for step in session.steps(self.steps) {
            step?;
            let now = w.value();
            let loss = (target - &now * &x).square();
            let slope = loss.backward()?.remove(&now).expect("the loss depends on w");
            seen.borrow_mut().push([now.item(), loss.item(), slope.item()]);
            session.log(&[("loss", &loss), ("w", &now)])?;
            w.set(no_grad(|| &now - slope * self.learning_rate));
        }
        let w = w.value();
        let column = |at: usize| -> Vec<f64> { seen.borrow().iter().map(|row| row[at]).collect() };
        let (weights, losses, slopes) = (column(0), column(1), column(2));
        let after_one = weights.get(1).copied().unwrap_or(w.item());
        let steps: Vec<f64> = (0..self.steps).map(|step| step as f64).collect();
        let chart = Chart::new("The loss falls along its slope").labels("step", "value");
        let chart = chart.line("loss", steps.clone(), losses.clone()).line("w", steps, weights.clone());
        session.show("descent", chart)?;

        let mut report = Report::new();
        let mut table = Table::new("first steps", ["step", "w", "y", "loss", "dL/dw"]);
        for i in 0..weights.len().min(5) {
            let y = weights[i]; // w·x with x = 1
            let values = [weights[i], y, losses[i], slopes[i]].map(|value| format!("{value:.4}"));
            table.row(std::iter::once(i.to_string()).chain(values));
        }
        report.table(table);
        report.claim(Claim::exactly("first loss", losses[0], 64.0));
        report.claim(Claim::exactly("first slope", slopes[0], 16.0));
        if self.learning_rate == 0.1 {
            report.claim(Claim::at_most("distance of w from 8.4 after one step", (after_one - 8.4).abs(), 1e-6));
        }
        report.claim(Claim::at_most("distance of w from its optimum 2", (w.item() - 2.0).abs(), 0.01));
        Ok(report)
    }
}
