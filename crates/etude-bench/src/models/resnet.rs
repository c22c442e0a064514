//! ResNet-18 (He et al., 2016) with a 3×3 stem for small pictures: workload `resnet18`.

use etude::prelude::*;

/// Two 3×3 convolutions with batch norm beside a shortcut: `[B, inputs, H, W] → [B, outputs, H/stride, W/stride]`.
#[derive(Module, Clone)]
struct BasicBlock {
    conv1: Conv2d,
    bn1: BatchNorm2d,
    conv2: Conv2d,
    bn2: BatchNorm2d,
    down: Option<Sequential>,
}

impl BasicBlock {
    fn new(inputs: usize, outputs: usize, stride: usize) -> BasicBlock {
        let shortcut = || {
            let conv = Conv2d::new(inputs, outputs, 1).stride(stride).bias(false);
            Sequential::new().add(conv.init()).add(BatchNorm2d::new(outputs).init())
        };
        BasicBlock {
            conv1: Conv2d::new(inputs, outputs, 3).stride(stride).padding(1).bias(false).init(),
            bn1: BatchNorm2d::new(outputs).init(),
            conv2: Conv2d::new(outputs, outputs, 3).padding(1).bias(false).init(),
            bn2: BatchNorm2d::new(outputs).init(),
            down: (stride != 1 || inputs != outputs).then(shortcut),
        }
    }
}

impl Forward for BasicBlock {
    fn forward(&self, x: &Tensor) -> Tensor {
        let h = self.bn1.forward(&self.conv1.forward(x)).relu();
        let h = self.bn2.forward(&self.conv2.forward(&h));
        let shortcut = self.down.as_ref().map_or_else(|| x.clone(), |down| down.forward(x));
        (h + shortcut).relu()
    }
}

/// The mean over all positions: `[B, C, H, W] → [B, C]`.
#[derive(Module, Clone)]
struct GlobalAverage;

impl Forward for GlobalAverage {
    fn forward(&self, x: &Tensor) -> Tensor {
        x.global_avg_pool()
    }
}

/// `[B, 3, H, W] → [B, classes]`; made for 32×32.
pub fn resnet18(classes: usize) -> Sequential {
    let mut model = Sequential::new()
        .add(Conv2d::new(3, 64, 3).padding(1).bias(false).init())
        .add(BatchNorm2d::new(64).init())
        .add(Activation::Relu.layer());
    let mut inputs = 64;
    for (outputs, stride) in [(64, 1), (128, 2), (256, 2), (512, 2)] {
        model = model.add(BasicBlock::new(inputs, outputs, stride)).add(BasicBlock::new(outputs, outputs, 1));
        inputs = outputs;
    }
    // PyTorch's pool and flatten are layers 11 and 12.
    model.add(GlobalAverage).named("13", Linear::new(512, classes).init())
}
