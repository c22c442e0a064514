//! Burn's side of the race: one training step of the workloads it can express simply, on its CPU backend (Flex).
//!
//!     burn-peer WORKLOAD [STEPS]
//!
//! Prints the JSON line that the other peers print.

mod models;

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{Device, Distribution, Int, Tensor};
use models::*;
use std::time::Instant;

/// Times steps of `model`, whose loss is `loss`: two to warm up, then `steps`, or about four seconds of them.
fn race<M: Module>(name: &str, steps: Option<usize>, mut model: M, loss: impl Fn(&M) -> Tensor<1>) {
    let mut optimizer = AdamConfig::new().with_epsilon(1e-8).init();
    let mut step = || {
        let start = Instant::now();
        let value = loss(&model);
        let gradients = GradientsParams::from_grads(value.backward(), &model);
        model = optimizer.step(1e-3, model.clone(), gradients);
        let _: f32 = value.into_scalar();
        start.elapsed().as_secs_f64()
    };
    step();
    let probe = step();
    let steps = steps.unwrap_or(((4.0 / probe) as usize).clamp(5, 300));
    let mut times: Vec<f64> = (0..steps).map(|_| step()).collect();
    times.sort_by(f64::total_cmp);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<u64>().ok());
    println!(
        "{{\"peer\": \"burn\", \"workload\": \"{name}\", \"median_ms\": {:.3}, \"min_ms\": {:.3}, \"peak_rss_mb\": {}}}",
        times[steps / 2] * 1e3,
        times[0] * 1e3,
        peak.unwrap_or(0) / 1024
    );
}

fn main() {
    let mut words = std::env::args().skip(1);
    let name = words.next().unwrap_or_default();
    let steps = words.next().and_then(|word| word.parse().ok());
    let d = &Device::flex().autodiff();
    let normal = Distribution::Normal(0.0, 1.0);
    let labels = |count: usize, classes: usize| -> Tensor<1, Int> {
        let values: Vec<i64> = (0..count).map(|i| (i * 7919 % classes) as i64).collect();
        Tensor::from_data(values.as_slice(), d)
    };
    let cross_entropy = CrossEntropyLossConfig::new().init(d);
    // A classifier of pictures or of rows of features, and one of tokens.
    macro_rules! pictures {
        ($model:expr, $shape:expr, $classes:expr) => {{
            let (x, y) = (Tensor::random($shape, normal, d), labels($shape[0], $classes));
            race(&name, steps, $model, |model| cross_entropy.forward(model.forward(x.clone()), y.clone()))
        }};
    }
    macro_rules! words {
        ($model:expr, $batch:expr, $length:expr, $vocabulary:expr, $targets:expr, $classes:expr) => {{
            let x = labels($batch * $length, $vocabulary).reshape([$batch, $length]);
            let y = labels($targets, $classes);
            race(&name, steps, $model, |model| cross_entropy.forward(model.forward(x.clone()), y.clone()))
        }};
    }
    match name.as_str() {
        "tiny" => pictures!(Dense::new(&[4, 64, 64, 2], d), [32, 4], 2),
        "mlp" => pictures!(Dense::new(&[784, 512, 512, 10], d), [128, 784], 10),
        "convnet" => pictures!(ConvNet::new(d), [64, 1, 28, 28], 10),
        "resnet18" => pictures!(ResNet::new(d), [32, 3, 32, 32], 10),
        "vit" => pictures!(Vit::new(d), [32, 3, 32, 32], 10),
        "dqn" => pictures!(Dqn::new(d), [32, 4, 80, 80], 2),
        "lstm" => words!(CharLstm::new(d), 8, 100, 83, 800, 83),
        "gpt" => words!(Gpt::new(d), 8, 128, 96, 1024, 96),
        "textcnn" => words!(TextCnn::new(d), 64, 200, 10_000, 64, 2),
        "vae" => {
            let x = Tensor::random([128, 1, 28, 28], Distribution::Uniform(0.0, 1.0), d);
            race(&name, steps, Vae::new(d), |model| model.loss(x.clone()))
        }
        other => {
            eprintln!("burn-peer has no workload `{other}`");
            std::process::exit(2);
        }
    }
}
