//! The library in thirty lines: the program of the README.

use etude::prelude::*;

/// LeNet-5 with ReLU and max pooling (LeCun et al., 1998).
#[derive(Module, Clone)]
struct LeNet {
    conv1: Conv2d,
    conv2: Conv2d,
    fc1: Linear,
    fc2: Linear,
    fc3: Linear,
}

impl Forward for LeNet {
    fn forward(&self, x: &Tensor) -> Tensor {
        // [B, 1, 28, 28]
        let x = self.conv1.forward(x).relu().max_pool2d(2); // [B, 6, 14, 14]
        let x = self.conv2.forward(&x).relu().max_pool2d(2); // [B, 16, 5, 5]
        let x = self.fc1.forward(&x.flatten_from(1)).relu(); // [B, 120]
        let x = self.fc2.forward(&x).relu(); // [B, 84]
        self.fc3.forward(&x) // [B, 10]
    }
}

fn main() -> etude::Result<()> {
    etude::seed(1);
    let digits = data::load("mnist-10k")?.take(640);
    let model = LeNet {
        conv1: Conv2d::new(1, 6, 5).padding(2).init(),
        conv2: Conv2d::new(6, 16, 5).init(),
        fc1: Linear::new(400, 120).init(),
        fc2: Linear::new(120, 84).init(),
        fc3: Linear::new(84, 10).init(),
    };
    println!("{}", model.summary([64, 1, 28, 28]));
    let mut step = Adam::new(1e-3).over(&model);
    for batch in Loader::new(digits, 64).seed(1).epoch() {
        let batch = batch?;
        let (x, labels) = (etude::train::trainer::to_tensor(&batch.inputs)?, tensor(batch.labels));
        let loss = cross_entropy(&training(|| model.forward(&x)), &labels);
        step.minimise(&loss)?; // backward, update and evaluation, one plan
        println!("loss {:.4}", loss.item());
    }
    Ok(model.save("lenet.safetensors")?)
}
