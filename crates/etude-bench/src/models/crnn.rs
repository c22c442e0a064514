//! Reading lines of text (Shi et al., 2017): workload `crnn`.

use etude::core::PerAxis;
use etude::prelude::*;

/// Convolutions that leave one row, and an LSTM over its columns in both directions: `[B, 1, 32, W] → [B, W/4, classes]`.
#[derive(Module, Clone)]
pub struct Crnn {
    cnn: Sequential,
    rnn: Lstm,
    head: Linear,
}

/// A maximum pool as a layer.
#[derive(Module, Clone)]
struct MaxPool(#[module(skip)] PerAxis);

impl Forward for MaxPool {
    fn forward(&self, x: &Tensor) -> Tensor {
        x.max_pool2d(etude::core::PoolOptions::new(self.0))
    }
}

impl Crnn {
    /// With weights drawn.
    pub fn new(classes: usize) -> Crnn {
        let mut cnn = Sequential::new();
        for (inputs, outputs, pool) in [(1, 32, [2, 2]), (32, 64, [2, 2]), (64, 128, [2, 1]), (128, 128, [4, 1])] {
            cnn = cnn
                .add(Conv2d::new(inputs, outputs, 3).padding(1).init())
                .add(BatchNorm2d::new(outputs).init())
                .add(Activation::Relu.layer())
                .add(MaxPool(pool.into()));
        }
        Crnn { cnn, rnn: Lstm::new(128, 128).bidirectional(true).init(), head: Linear::new(256, classes).init() }
    }
}

impl Forward for Crnn {
    fn forward(&self, x: &Tensor) -> Tensor {
        let h = self.cnn.forward(x).squeeze(2).transpose(1, 2); // [B, W/4, 128]
        self.head.forward(&self.rnn.forward(&h)) // [B, W/4, classes]
    }
}

/// The CTC loss of logits `[B, T, classes]` against labels `[B, L]`, all of full length; class 0 is the blank.
pub fn ctc_loss(logits: &Tensor, labels: &Tensor) -> Tensor {
    let [batch, steps, length] = [logits.size(0), logits.size(1), labels.size(1)];
    let all = |size: usize| full([batch], size as f64).to(DType::I64);
    ctc(&logits.log_softmax(-1).transpose(0, 1), labels, &all(steps), &all(length))
}
