//! LeNet-5 reads handwritten digits (LeCun, Bottou, Bengio and Haffner, 1998).
//!
//! A picture is not a list of unrelated numbers: what makes a stroke is a small neighbourhood of pixels, and it is the
//! same stroke wherever it stands. A convolution uses both facts. Each output map `o` is the input `x` searched with one
//! small learned kernel `w`, the same at every place:
//!
//! ```text
//! y[o, i, j] = b[o] + Σ_c Σ_u Σ_v  w[o, c, u, v] · x[c, i+u, j+v]
//! ```
//!
//! so a 5×5 kernel over one channel costs 25 weights where a dense layer from 28×28 to 28×28 would cost 614,656. Max
//! pooling then keeps the strongest answer of every 2×2 square, which halves the map and forgives small shifts. Two such
//! rounds leave 16 maps of 5×5, and three dense layers read the digit off them. We use ReLU and max pooling where the
//! paper of 1998 had scaled tanh and trainable averages; the layer sizes are the paper's.
//!
//! Training follows the cross-entropy `−ln p(true class)` down with Adam; the weights kept are those of the epoch with
//! the lowest validation loss.

use crate::common::{Classifier, digit_report};
use crate::study::Etude;
use etude::Result;
use etude::nn::schedule::Cosine;
use etude::prelude::*;
use etude::train::RunFolder;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The network: 61,706 parameters.
#[derive(Module, Clone, Debug)]
pub struct LeNet {
    conv1: Conv2d,
    conv2: Conv2d,
    fc1: Linear,
    fc2: Linear,
    fc3: Linear,
}

impl LeNet {
    /// A network for pictures of one channel, 28×28.
    pub fn new(classes: usize) -> Self {
        Self {
            conv1: Conv2d::new(1, 6, 5).padding(2).init(),
            conv2: Conv2d::new(6, 16, 5).init(),
            fc1: Linear::new(400, 120).init(),
            fc2: Linear::new(120, 84).init(),
            fc3: Linear::new(84, classes).init(),
        }
    }

    /// The last hidden layer `[B, 84]` and the logits `[B, classes]`: what a picture looks like to the network.
    pub fn features(&self, x: &Tensor) -> (Tensor, Tensor) {
        let x = self.conv1.forward(x).relu().max_pool2d(2); // [B, 6, 14, 14]
        let x = self.conv2.forward(&x).relu().max_pool2d(2); // [B, 16, 5, 5]
        let x = self.fc1.forward(&x.flatten_from(1)).relu(); // [B, 120]
        let hidden = self.fc2.forward(&x).relu(); // [B, 84]
        let logits = self.fc3.forward(&hidden);
        (hidden, logits)
    }

    /// The first layer's kernels: `[6, 1, 5, 5]`.
    pub fn filters(&self) -> Tensor {
        self.conv1.weight.value()
    }
}

impl Forward for LeNet {
    fn forward(&self, x: &Tensor) -> Tensor {
        self.features(x).1
    }
}

/// The knobs.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct Lenet {
    /// Times all training digits are seen. [0..100000]
    pub epochs: u64,
    /// Digits a step. [1..100000]
    pub batch: usize,
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

impl Default for Lenet {
    fn default() -> Self {
        Self { epochs: 30, batch: 64, learning_rate: 4e-3, patience: 10, rotation: 8.0, shift: 1, claim: 0.98 }
    }
}

impl Etude for Lenet {
    const NAME: &'static str = "lenet";
    const TITLE: &'static str = "LeNet-5 reads handwritten digits";
    const SOURCE: &'static str = "LeCun et al., 1998";
    const ROWS: &'static [&'static str] = &["V2", "V8", "V15", "F21"];
    const TEXT: &'static str = include_str!("lenet.rs");

    fn quick() -> Self {
        Self { epochs: 3, claim: 0.96, ..Self::default() }
    }

    fn run(self, session: &mut Session) -> Result<Report> {
        let digits = session.split("mnist-10k", [0.7, 0.1, 0.2])?;
        let model = LeNet::new(digits.train.classes.len());
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
        digit_report(session, &study, &fitted, Some(&model.filters()))
    }

    fn summaries(&self) -> Vec<nn::Summary> {
        vec![LeNet::new(10).summary([self.batch, 1, 28, 28])]
    }

    fn predict(&self, run: &RunFolder, file: &Path) -> Result<String> {
        crate::common::predict_picture(run, &LeNet::new(10), file)
    }
}
