//! Logistic regression: one neuron tells two classes apart (Cox, 1958).
//!
//! The weighted sum of the features goes through the sigmoid, which makes it a probability, and the cost is how surprised
//! that probability is by the truth:
//!
//! ```text
//! p = σ(x·w + b)        J = −1/N Σ y·ln p + (1−y)·ln(1−p)
//! ```
//!
//! On 569 tumours, 30 measurements each: is one malignant? Then the same neuron is made confidently wrong and has to find
//! back, once by each loss. The squared error's slope `2(p−y)·p(1−p)` vanishes just where the neuron is sure and wrong;
//! the cross-entropy's is `p−y`, as steep as it is wrong. That is why classes are learned with cross-entropy, and real
//! values, where nothing saturates, with squares.

use crate::study::Etude;
use etude::Result;
use etude::prelude::*;
use etude::train::metrics::{self, Confusion};
use etude::train::plot::Chart;
use etude::train::trainer::to_tensor;
use serde::{Deserialize, Serialize};

/// The knobs.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct LogisticRegression {
    /// Steps of gradient descent over all training examples. [1..10000000]
    pub steps: u64,
    /// The step size. [0..]
    pub learning_rate: f64,
    /// Smallest test accuracy claimed. [0..1]
    pub claim: f64,
}

impl Default for LogisticRegression {
    fn default() -> Self {
        Self { steps: 300, learning_rate: 0.5, claim: 0.94 }
    }
}

impl LogisticRegression {
    /// Trains a neuron that starts with all weights `start` by `loss` (of probabilities); returns it with the accuracy
    /// before each step.
    fn fit(
        &self,
        start: f64,
        x: &Tensor,
        y: &Tensor,
        loss: impl Fn(&Tensor, &Tensor) -> Tensor,
    ) -> Result<(Linear, Vec<f64>)> {
        let neuron = Linear::new(x.size(-1), 1).weights(Init::Constant(start)).init();
        let mut step = Sgd::new(self.learning_rate).over(&neuron);
        let mut accuracies = Vec::new();
        for _ in 0..self.steps {
            let p = neuron.forward(x).squeeze(-1).sigmoid(); // [N]
            let right = p.greater(0.5).to(DType::F32).equal(y).to(DType::F32).mean(..);
            step.minimise(&loss(&p, y))?;
            accuracies.push(right.item());
        }
        Ok((neuron, accuracies))
    }
}

impl Etude for LogisticRegression {
    const NAME: &'static str = "logistic";
    const TITLE: &'static str = "one neuron tells malignant from benign";
    const SOURCE: &'static str = "Cox, 1958";
    const ROWS: &'static [&'static str] = &["F12", "F18", "F19"];
    const TEXT: &'static str = include_str!("logistic.rs");

    fn run(self, session: &mut Session) -> Result<Report> {
        let tumours = session.split("breast-cancer", [0.7, 0.0, 0.3])?;
        let statistics = tumours.train.statistics();
        let part = |set: &Dataset| -> Result<(Tensor, Tensor)> {
            let set = set.normalised(&statistics)?;
            Ok((to_tensor(&set.inputs)?.to(DType::F32), Tensor::from_slice(&set.labels, set.len()).to(DType::F32)))
        };
        let ((x, y), (test_x, test_y)) = (part(&tumours.train)?, part(&tumours.test)?);
        let (neuron, _) = self.fit(0.0, &x, &y, binary_cross_entropy)?;
        // Large measurements mean malignant, which is class 0: weights of +1 are sure of the opposite.
        let (_, by_entropy) = self.fit(1.0, &x, &y, binary_cross_entropy)?;
        let (_, by_squares) = self.fit(1.0, &x, &y, mse)?;

        let p = no_grad(|| neuron.forward(&test_x)).squeeze(-1).sigmoid().to_vec::<f64>();
        let actual: Vec<usize> = test_y.to_vec::<f64>().iter().map(|&y| y as usize).collect();
        let predicted: Vec<usize> = p.iter().map(|&p| (p > 0.5) as usize).collect();
        let confusion = Confusion::of(2, &predicted, &actual);
        let area = metrics::auc(&p, &actual.iter().map(|&class| class == 1).collect::<Vec<_>>());
        let reached = |curve: &[f64]| curve.iter().position(|&a| a >= 0.9).unwrap_or(curve.len()) as f64;

        let steps: Vec<f64> = (0..self.steps).map(|step| step as f64).collect();
        let chart = Chart::new("Finding back from confidently wrong").labels("step", "share right").percent();
        let chart = chart.line("cross-entropy", steps.clone(), by_entropy.clone());
        session.show("curves", chart.line("squared error", steps, by_squares.clone()))?;

        let mut report = Report::new();
        report.table(confusion.scores_table(&tumours.test.classes));
        report.claim(Claim::at_least("test accuracy", confusion.accuracy(), self.claim).percent());
        report.claim(Claim::at_least("area under the ROC curve", area, 0.97));
        let lead = reached(&by_squares) - reached(&by_entropy);
        report.claim(Claim::at_least("steps cross-entropy is back at 90 % earlier", lead, 10.0));
        Ok(report)
    }
}
