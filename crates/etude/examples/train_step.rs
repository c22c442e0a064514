//! One training step (forward, loss, backward, Adam, loss read back) of small models, timed: the workloads `tiny`, `mlp`
//! and `convnet` of the peers' benchmark, with the same JSON lines.
//!
//! `cargo run --release -p etude --example train_step [workload …]`

use etude::prelude::*;
use std::time::Instant;

fn stack_of(sizes: &[usize]) -> Sequential {
    let mut model = Sequential::new();
    for (i, pair) in sizes.windows(2).enumerate() {
        model = model.add(Linear::new(pair[0], pair[1]).init());
        if i + 2 < sizes.len() {
            model = model.add(Activation::Relu.layer());
        }
    }
    model
}

#[derive(Module)]
struct ConvNet {
    conv1: Conv2d,
    conv2: Conv2d,
    fc1: Linear,
    fc2: Linear,
}

impl Forward for ConvNet {
    fn forward(&self, x: &Tensor) -> Tensor {
        let x = self.conv1.forward(x).relu().max_pool2d(2); // [B, 32, 14, 14]
        let x = self.conv2.forward(&x).relu().max_pool2d(2); // [B, 64, 7, 7]
        self.fc2.forward(&self.fc1.forward(&x.flatten_from(1)).relu())
    }
}

fn time(name: &str, model: &impl Forward, input: &[usize], classes: i64) -> etude::Result<()> {
    let x = randn(input.to_vec());
    let labels: Vec<i64> = (0..input[0] as i64).map(|i| i * 7919 % classes).collect();
    let labels = Tensor::from_slice(&labels, labels.len());
    x.eval()?;
    let mut step = Adam::new(1e-3).over(model);
    let (mut times, start) = (Vec::new(), Instant::now());
    while times.len() < 20 || (start.elapsed().as_secs_f64() < 4.0 && times.len() < 2000) {
        let began = Instant::now();
        let loss = cross_entropy(&training(|| model.forward(&x)), &labels);
        step.minimise(&loss)?;
        loss.item();
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let first = times[0];
    let mut rest = times[2..].to_vec();
    rest.sort_by(f64::total_cmp);
    let peak = etude::train::units::peak_memory().unwrap_or(0) >> 20;
    println!(
        "{{\"peer\": \"etude\", \"workload\": \"{name}\", \"median_ms\": {:.3}, \"min_ms\": {:.3}, \"first_ms\": {first:.1}, \"peak_rss_mb\": {peak}}}",
        rest[rest.len() / 2],
        rest[0]
    );
    Ok(())
}

fn main() -> etude::Result<()> {
    let chosen: Vec<String> = std::env::args().skip(1).collect();
    for name in ["tiny", "mlp", "convnet"] {
        if !chosen.is_empty() && !chosen.iter().any(|word| word == name) {
            continue;
        }
        match name {
            "tiny" => time(name, &stack_of(&[4, 64, 64, 2]), &[32, 4], 2)?,
            "mlp" => time(name, &stack_of(&[784, 512, 512, 10]), &[128, 784], 10)?,
            _ => {
                let model = ConvNet {
                    conv1: Conv2d::new(1, 32, 3).padding(1).init(),
                    conv2: Conv2d::new(32, 64, 3).padding(1).init(),
                    fc1: Linear::new(3136, 128).init(),
                    fc2: Linear::new(128, 10).init(),
                };
                time(name, &model, &[64, 1, 28, 28], 10)?;
            }
        }
    }
    Ok(())
}
