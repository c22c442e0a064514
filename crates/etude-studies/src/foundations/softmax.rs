//! Softmax regression: one neuron a class, made to agree (Bridle, 1990).
//!
//! Each class has a score `z = x·W + b`; softmax turns the scores into probabilities that are not negative and sum to 1:
//!
//! ```text
//! p[k] = e^z[k] / Σ_j e^z[j]
//! ```
//!
//! The *hard max* puts 1 on the largest score and 0 elsewhere, and has no useful slope. Without a hidden layer the border
//! between two classes is where two linear scores are equal: a straight line. On two interleaved rings no line will do,
//! and one hidden layer does it; the picture shows both borders. On iris, straight lines are nearly enough.

use crate::study::Etude;
use etude::Result;
use etude::prelude::*;
use etude::train::plot::{Chart, Page};
use etude::train::trainer::to_tensor;
use serde::{Deserialize, Serialize};

/// The knobs.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct SoftmaxRegression {
    /// Steps over all training examples. [1..10000000]
    pub steps: u64,
    /// Adam's step size. [0..]
    pub learning_rate: f64,
    /// Units of the hidden layer, where there is one. [1..16384]
    pub hidden: usize,
}

impl Default for SoftmaxRegression {
    fn default() -> Self {
        Self { steps: 300, learning_rate: 0.05, hidden: 16 }
    }
}

impl SoftmaxRegression {
    fn fit(&self, model: &Sequential, x: &Tensor, labels: &Tensor) -> Result<()> {
        let mut step = Adam::new(self.learning_rate).over(model);
        for _ in 0..self.steps {
            step.minimise(&cross_entropy(&model.forward(x), labels))?;
        }
        Ok(())
    }
}

/// Share of examples whose highest score is that of their class.
fn accuracy(model: &Sequential, x: &Tensor, labels: &Tensor) -> f64 {
    no_grad(|| model.forward(x)).argmax(-1).equal(labels).to(DType::F32).mean(..).item()
}

/// An inner disc and the ring around it: `[n, 2]` and classes.
fn rings(n: usize) -> (Tensor, Tensor) {
    let labels = arange(n) % 2.0;
    let radius = labels.to(DType::F32) * 0.6 + 0.2 + uniform(n) * 0.3;
    let angle = uniform(n) * std::f64::consts::TAU;
    (stack(&[&radius * angle.cos(), &radius * angle.sin()], 1), labels)
}

/// The class a model gives each place of a grid, and the examples on it.
fn regions(title: &str, model: &Sequential, x: &Tensor, labels: &Tensor) -> Chart {
    let side = linspace(-1.3, 1.3, 80);
    let grid = meshgrid(&[side.clone(), side]);
    let places = stack(&[grid[1].flatten(), grid[0].flatten()], 1); // [6400, 2]
    let classes = no_grad(|| model.forward(&places)).argmax(-1).to_vec::<i64>();
    let chart = Chart::new(title).equal().regions(
        (-1.3, 1.3),
        (-1.3, 1.3),
        80,
        80,
        classes.iter().map(|&class| class as usize).collect(),
    );
    chart.classes(&x.to_vec::<f64>(), &labels.to_vec::<i64>(), ["inside", "outside"])
}

impl Etude for SoftmaxRegression {
    const NAME: &'static str = "softmax";
    const TITLE: &'static str = "softmax regression, straight borders and bent ones";
    const SOURCE: &'static str = "Bridle, 1990";
    const ROWS: &'static [&'static str] = &["F13", "F14", "F28"];
    const TEXT: &'static str = include_str!("softmax.rs");

    fn run(self, session: &mut Session) -> Result<Report> {
        let flowers = session.split("iris", [0.7, 0.0, 0.3])?;
        let statistics = flowers.train.statistics();
        let part = |set: &Dataset| -> Result<(Tensor, Tensor)> {
            let set = set.normalised(&statistics)?;
            Ok((to_tensor(&set.inputs)?.to(DType::F32), Tensor::from_slice(&set.labels, set.len())))
        };
        let ((x, labels), (test_x, test_labels)) = (part(&flowers.train)?, part(&flowers.test)?);
        let iris = Sequential::new().add(Linear::new(4, 3).init());
        self.fit(&iris, &x, &labels)?;
        let p = no_grad(|| iris.forward(&test_x)).softmax(-1); // [45, 3]
        let sums = (p.sum(-1) - 1.0).abs().max(..).item();
        let hard = p.argmax(-1).one_hot(3).sum(-1);

        let (x2, labels2) = rings(300);
        Tensor::eval_all(&[x2.clone(), labels2.clone()])?;
        let straight = Sequential::new().add(Linear::new(2, 2).init());
        let bent = Sequential::new()
            .add(Linear::new(2, self.hidden).init())
            .add(Activation::Tanh.layer())
            .add(Linear::new(self.hidden, 2).init());
        self.fit(&straight, &x2, &labels2)?;
        self.fit(&bent, &x2, &labels2)?;
        let page = Page::new(2).with(regions("No hidden layer", &straight, &x2, &labels2)).with(regions(
            "One hidden layer",
            &bent,
            &x2,
            &labels2,
        ));
        session.show("borders", page)?;

        let mut report = Report::new();
        report.claim(Claim::at_least("iris, test accuracy", accuracy(&iris, &test_x, &test_labels), 0.9).percent());
        report.claim(Claim::at_most("distance of a row of probabilities from 1", sums, 1e-6));
        report.claim(Claim::at_least("smallest probability", p.min(..).item(), 0.0));
        report.claim(Claim::exactly("ones in each hard maximum", hard.mean(..).item(), 1.0));
        report.claim(Claim::at_most("rings, straight border", accuracy(&straight, &x2, &labels2), 0.8).percent());
        report.claim(Claim::at_least("rings, hidden layer", accuracy(&bent, &x2, &labels2), 0.97).percent());
        Ok(report)
    }
}
