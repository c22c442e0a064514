//! The thirteen training steps: which model, on what, with which loss.

use crate::models::convnet::{ConvNet, Dqn};
use crate::models::crnn::{Crnn, ctc_loss};
use crate::models::dense::dense;
use crate::models::lstm::CharLstm;
use crate::models::resnet::resnet18;
use crate::models::textcnn::TextCnn;
use crate::models::transformer::{TokenModel, TokenSizes, Vit};
use crate::models::unet::UNet;
use crate::models::vae::{Vae, vae_loss};
use etude::nn::optim::Optimizer;
use etude::nn::{Entry, Walk};
use etude::prelude::*;
use etude::{Error, Result};
use std::rc::Rc;

/// One of the thirteen.
pub struct Workload {
    /// What the peers call it.
    pub name: &'static str,
    /// Model and batch in a few words.
    pub what: &'static str,
    /// How many parameters the peers' model has.
    pub parameters: usize,
    build: fn(&Setting) -> Task,
}

/// How large, and with which numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setting {
    /// Small batches, pictures and sequences instead of the racing ones: for tests. Models stay as they are.
    pub small: bool,
    /// Inputs that another program can compute too, and no dropout, instead of random ones.
    pub pattern: bool,
}

/// A model, data and a loss: a training step to repeat.
pub struct Task {
    /// The model.
    pub model: Rc<dyn Module>,
    loss: Box<dyn Fn() -> Tensor>,
    optimizer: Optimizer,
}

impl Task {
    fn new<M: Module + 'static>(model: M, loss: impl Fn(&M) -> Tensor + 'static) -> Task {
        let model = Rc::new(model);
        // Drawing weights is no part of a step.
        model.parameters().iter().for_each(|(_, param)| drop(param.value()));
        let optimizer = Adam::new(1e-3).over(&*model);
        let same = model.clone();
        Task { model, loss: Box::new(move || loss(&same)), optimizer }
    }

    fn classifier<M: Forward + 'static>(model: M, x: Tensor, labels: Tensor) -> Task {
        Task::new(model, move |model| cross_entropy(&model.forward(&x), &labels))
    }

    /// One training step: forward, loss, backward, Adam, and the loss read back.
    pub fn step(&mut self) -> Result<f64> {
        let loss = training(|| (self.loss)());
        self.optimizer.minimise(&loss)?;
        Ok(loss.item())
    }
}

impl Workload {
    /// Draws weights and data.
    pub fn build(&self, setting: &Setting) -> Task {
        (self.build)(setting)
    }
}

/// The workload of this name.
pub fn find(name: &str) -> Result<&'static Workload> {
    WORKLOADS.iter().find(|workload| workload.name == name).ok_or_else(|| {
        let names: Vec<&str> = WORKLOADS.iter().map(|workload| workload.name).collect();
        Error::new(format!("there is no workload `{name}`")).remedy(format!("choose from {}", names.join(", ")))
    })
}

/// `count` numbers in [−1, 1), the same in every program: a hash of position and `seed` with 24 bits.
pub fn pattern(count: usize, seed: u32) -> Vec<f32> {
    let number = |at: u32| {
        let mut bits = at.wrapping_mul(0x9e37_79b1).wrapping_add(seed.wrapping_mul(0x85eb_ca77));
        bits = (bits ^ bits >> 15).wrapping_mul(0x2c1b_3c6d);
        bits = (bits ^ bits >> 12).wrapping_mul(0x297a_2d39);
        bits ^= bits >> 15;
        (bits >> 8) as f32 * (2.0 / (1 << 24) as f32) - 1.0
    };
    (0..count as u32).map(number).collect()
}

/// A seed for what has this name: 32 bits of FNV-1a.
pub fn seed_of(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |seed, byte| (seed ^ byte as u32).wrapping_mul(0x0100_0193))
}

/// Gives every parameter numbers that another program can compute too (tests/golden/pattern.py does): ±1/√fan_in for weights, ±0.1 for other vectors,
/// around 1 where they scale.
pub fn fill_with_pattern(model: &dyn Module) {
    for (name, param) in &model.parameters() {
        let shape = param.shape();
        let fan: usize = shape.iter().skip(1).product();
        let (centre, spread) = match shape.rank() {
            1 if name.ends_with("weight") => (1.0, 0.1),
            1 => (0.0, 0.1),
            _ => (0.0, 1.0 / (fan as f32).sqrt()),
        };
        let values: Vec<f32> = pattern(shape.count(), seed_of(name)).iter().map(|v| v * spread + centre).collect();
        param.set(Tensor::from_slice(&values, shape));
    }
}

/// Gives running statistics such numbers, as training leaves them: no mean is 0 and no variance 1.
pub fn fill_statistics_with_pattern(model: &dyn Module) {
    model.visit(&mut Walk::new(&mut |name, entry| {
        let Entry::State(state) = entry else { return };
        let shape = state.get().shape();
        let (centre, spread) = match name.rsplit('.').next() {
            Some("running_mean") => (0.0, 0.1),
            Some("running_var") => (1.0, 0.5),
            _ => return,
        };
        let values: Vec<f32> = pattern(shape.count(), seed_of(name)).iter().map(|v| v * spread + centre).collect();
        state.set(Tensor::from_slice(&values, shape));
    }));
}

impl Setting {
    /// The racing size with random numbers.
    pub const RACE: Setting = Setting { small: false, pattern: false };
    /// The racing size with numbers that the peers compute too.
    pub const ALIKE: Setting = Setting { small: false, pattern: true };

    pub(crate) fn size(&self, race: usize, small: usize) -> usize {
        if self.small { small } else { race }
    }

    /// Standard normal numbers, the same whenever they are read.
    pub(crate) fn normal(&self, shape: impl Into<Shape>) -> Tensor {
        evaluated(self.noise(shape))
    }

    /// Standard normal numbers, others for each call.
    fn noise(&self, shape: impl Into<Shape>) -> Tensor {
        let shape = shape.into();
        if self.pattern { Tensor::from_slice(&pattern(shape.count(), 1000), shape) } else { randn(shape) }
    }

    /// Numbers between 0 and 1.
    fn shade(&self, shape: impl Into<Shape>) -> Tensor {
        let shape = shape.into();
        evaluated(if self.pattern { self.noise(shape) * 0.5 + 0.5 } else { uniform(shape) })
    }

    /// Whole numbers from `low` up to, not including, `high`.
    pub(crate) fn whole(&self, shape: impl Into<Shape>, low: usize, high: usize) -> Tensor {
        let shape = shape.into();
        if self.pattern {
            let values: Vec<i64> = (0..shape.count()).map(|i| (low + i * 7919 % (high - low)) as i64).collect();
            return Tensor::from_slice(&values, shape);
        }
        let numbers = uniform(shape) * (high - low) as f64 + low as f64;
        evaluated(numbers.floor().minimum(high as f64 - 1.0).to(DType::I64))
    }

    fn dropout(&self, p: f64) -> f64 {
        if self.pattern { 0.0 } else { p }
    }
}

/// Data is there before the first step.
fn evaluated(x: Tensor) -> Tensor {
    x.eval().expect("drawing numbers cannot fail");
    x
}

fn tokens(setting: &Setting, batch: usize, sizes: TokenSizes) -> Task {
    let (batch, length) = (setting.size(batch, 2), setting.size(sizes.length, 16));
    let sizes = TokenSizes { dropout: setting.dropout(sizes.dropout), ..sizes };
    let ids = setting.whole([batch, length], 0, sizes.vocabulary);
    let labels = setting.whole(batch * length, 0, sizes.vocabulary);
    Task::classifier(TokenModel::new(sizes), ids, labels)
}

/// `batch` pictures 1×28×28.
pub fn convnet(s: &Setting, batch: usize) -> Task {
    Task::classifier(ConvNet::new(), s.normal([batch, 1, 28, 28]), s.whole(batch, 0, 10))
}

/// `batch` texts of `steps` symbols.
pub fn lstm(s: &Setting, batch: usize, steps: usize) -> Task {
    Task::classifier(CharLstm::new(83, 256, 1024), s.whole([batch, steps], 0, 83), s.whole(batch * steps, 0, 83))
}

/// The thirteen.
pub const WORKLOADS: &[Workload] = &[
    Workload {
        name: "tiny",
        what: "dense 4-64-64-2, batch 32",
        parameters: 4_610,
        build: |s| Task::classifier(dense(&[4, 64, 64, 2]), s.normal([32, 4]), s.whole(32, 0, 2)),
    },
    Workload {
        name: "mlp",
        what: "dense 784-512-512-10, batch 128",
        parameters: 669_706,
        build: |s| {
            let batch = s.size(128, 16);
            Task::classifier(dense(&[784, 512, 512, 10]), s.normal([batch, 784]), s.whole(batch, 0, 10))
        },
    },
    Workload {
        name: "convnet",
        what: "two convolutions, two dense layers, batch 64 of 1×28×28",
        parameters: 421_642,
        build: |s| convnet(s, s.size(64, 4)),
    },
    Workload {
        name: "resnet18",
        what: "ResNet-18 with a 3×3 stem, batch 32 of 3×32×32",
        parameters: 11_173_962,
        build: |s| {
            let (batch, side) = (s.size(32, 4), s.size(32, 16));
            Task::classifier(resnet18(10), s.normal([batch, 3, side, side]), s.whole(batch, 0, 10))
        },
    },
    Workload {
        name: "vit",
        what: "vision transformer, width 192, 6 blocks, batch 32 of 3×32×32",
        parameters: 2_693_578,
        build: |s| {
            let batch = s.size(32, 2);
            Task::classifier(Vit::new(192, 6, 3), s.normal([batch, 3, 32, 32]), s.whole(batch, 0, 10))
        },
    },
    Workload {
        name: "lstm",
        what: "embedding 256, LSTM 1024 over 83 symbols, batch 8 of 100",
        parameters: 5_357_395,
        build: |s| lstm(s, s.size(8, 2), s.size(100, 10)),
    },
    Workload {
        name: "gpt",
        what: "causal transformer, width 256, 6 blocks, batch 8 of 128",
        parameters: 4_821_088,
        build: |s| {
            let (vocabulary, width, depth, heads) = (96, 256, 6, 4);
            tokens(s, 8, TokenSizes { vocabulary, width, depth, heads, length: 128, causal: true, dropout: 0.0 })
        },
    },
    Workload {
        name: "bert",
        what: "transformer, width 256, 4 blocks, 2000 words, dropout, batch 16 of 128",
        parameters: 4_218_320,
        build: |s| {
            let (vocabulary, width, depth, heads) = (2000, 256, 4, 4);
            tokens(s, 16, TokenSizes { vocabulary, width, depth, heads, length: 128, causal: false, dropout: 0.1 })
        },
    },
    Workload {
        name: "textcnn",
        what: "convolutions of widths 3, 4, 5 over embedded words, batch 64 of 200",
        parameters: 1_434_502,
        build: |s| {
            let (batch, words) = (s.size(64, 4), s.size(200, 20));
            let model = TextCnn::new(10_000, 128, 100, s.dropout(0.5));
            Task::classifier(model, s.whole([batch, words], 0, 10_000), s.whole(batch, 0, 2))
        },
    },
    Workload {
        name: "dqn",
        what: "deep Q-network, batch 32 of 4×80×80",
        parameters: 1_259_170,
        build: |s| {
            let batch = s.size(32, 2);
            Task::classifier(Dqn::new(), s.normal([batch, 4, 80, 80]), s.whole(batch, 0, 2))
        },
    },
    Workload {
        name: "ddpm",
        what: "U-Net noise predictor with attention, batch 16 of 3×32×32",
        parameters: 1_885_955,
        build: |s| {
            let (batch, side) = (s.size(16, 2), s.size(32, 16));
            let (x, steps) = (s.normal([batch, 3, side, side]), s.whole(batch, 0, 1000));
            let noise = if s.pattern { evaluated(&x * 0.5) } else { s.normal(x.shape()) };
            Task::new(UNet::new(64, 256), move |model| mse(&model.forward(&x, &steps), &noise))
        },
    },
    Workload {
        name: "vae",
        what: "convolutional autoencoder, latent 20, batch 128 of 1×28×28",
        parameters: 243_465,
        build: |s| {
            let (s, batch) = (*s, s.size(128, 4));
            let x = s.shade([batch, 1, 28, 28]);
            Task::new(Vae::new(20), move |model| vae_loss(&model.forward(&x, &s.noise([batch, 20])), &x))
        },
    },
    Workload {
        name: "crnn",
        what: "convolutions, LSTM in both directions, CTC, batch 16 of 1×32×160",
        parameters: 514_661,
        build: |s| {
            let (batch, width) = (s.size(16, 2), s.size(160, 80));
            let (x, labels) = (s.normal([batch, 1, 32, width]), s.whole([batch, 6], 1, 37));
            Task::new(Crnn::new(37), move |model| ctc_loss(&model.forward(&x), &labels))
        },
    },
];
