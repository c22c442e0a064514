//! A dense network reads handwritten digits: the baseline convolutions have to beat.
//!
//! Every neuron takes every output of the layer below with a weight of its own, adds a bias and bends the sum:
//!
//! ```text
//! h = relu(W₁·x + b₁)      W₁: [hidden, 784]
//! y = W₂·h + b₂            W₂: [10, hidden]
//! ```
//!
//! The network sees 784 unrelated numbers: shuffle the pixels of all pictures in the same way and it learns just as well,
//! which is exactly what it misses. Turned and shifted copies of the digits make up for some of it (Rumelhart, Hinton and Williams, 1986, trained such networks by backpropagation).

use crate::common::{Classifier, digit_report};
use crate::study::Etude;
use etude::Result;
use etude::nn::schedule::Cosine;
use etude::prelude::*;
use etude::train::RunFolder;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Two hidden layers between pixels and classes.
#[derive(Module, Clone, Debug)]
pub struct DenseNet {
    fc1: Linear,
    fc2: Linear,
    fc3: Linear,
}

impl DenseNet {
    /// A network with `hidden` units in each hidden layer.
    pub fn new(hidden: usize, classes: usize) -> Self {
        Self {
            fc1: Linear::new(784, hidden).init(),
            fc2: Linear::new(hidden, hidden).init(),
            fc3: Linear::new(hidden, classes).init(),
        }
    }
}

impl Forward for DenseNet {
    fn forward(&self, x: &Tensor) -> Tensor {
        let x = x.flatten_from(1); // [B, 784]
        let x = self.fc1.forward(&x).relu(); // [B, hidden]
        let x = self.fc2.forward(&x).relu(); // [B, hidden]
        self.fc3.forward(&x) // [B, classes]
    }
}

/// The knobs.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct Mlp {
    /// Times all training digits are seen. [0..100000]
    pub epochs: u64,
    /// Digits a step. [1..100000]
    pub batch: usize,
    /// Units in each hidden layer. [1..16384]
    pub hidden: usize,
    /// Adam's step size at the start; it falls to a tenth along half a cosine. [0..]
    pub learning_rate: f64,
    /// Epochs without a lower validation loss before training ends. [1..]
    pub patience: u64,
    /// Largest random turn of a training digit, in degrees. [0..180]
    pub rotation: f64,
    /// Most pixels a training digit is shifted by. [0..27]
    pub shift: usize,
    /// Smallest test accuracy the run claims. [0..1]
    pub claim: f64,
}

impl Default for Mlp {
    fn default() -> Self {
        Self {
            epochs: 30,
            batch: 64,
            hidden: 256,
            learning_rate: 1e-3,
            patience: 10,
            rotation: 8.0,
            shift: 1,
            claim: 0.95,
        }
    }
}

impl Etude for Mlp {
    const NAME: &'static str = "mlp";
    const TITLE: &'static str = "a dense network reads handwritten digits";
    const SOURCE: &'static str = "Rumelhart, Hinton and Williams, 1986";
    const ROWS: &'static [&'static str] = &["V16", "F9", "F10"];
    const TEXT: &'static str = include_str!("mlp.rs");

    fn quick() -> Self {
        Self { epochs: 8, claim: 0.94, ..Self::default() }
    }

    fn run(self, session: &mut Session) -> Result<Report> {
        let digits = session.split("mnist-10k", [0.7, 0.1, 0.2])?;
        let model = DenseNet::new(self.hidden, digits.train.classes.len());
        let study = Classifier { name: Self::NAME, data: &digits, model: &model, claim: self.claim };
        study.introduce(session);
        let steps = digits.train.len().div_ceil(self.batch) as u64 * self.epochs;
        let rate = Cosine::down(self.learning_rate, 10.0, steps);
        let fitted = Trainer::new(&model, Adam::new(self.learning_rate).over(&model), cross_entropy)
            .epochs(self.epochs)
            .batch(self.batch)
            .schedule(rate)
            .callback(EarlyStopping::patience(self.patience))
            .augment(data::transform::rotation(self.rotation as f32))
            .augment(data::transform::random_crop(28, 28, self.shift))
            .fit(session, &digits.train, &digits.valid)?;
        digit_report(session, &study, &fitted, None)
    }

    fn summaries(&self) -> Vec<nn::Summary> {
        vec![DenseNet::new(self.hidden, 10).summary([self.batch, 1, 28, 28])]
    }

    fn predict(&self, run: &RunFolder, file: &Path) -> Result<String> {
        crate::common::predict_picture(run, &DenseNet::new(self.hidden, 10), file)
    }
}
