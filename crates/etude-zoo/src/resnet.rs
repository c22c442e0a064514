//! Residual networks for 224×224 pictures (He et al., 2016), with torchvision's parameter names.

use etude::core::PoolOptions;
use etude::prelude::*;

/// A residual network of bottleneck blocks: `[B, 3, H, W] → [B, classes]`, made for 224×224.
///
/// ```
/// # use etude::prelude::*;
/// let model = etude_zoo::ResNet::new([1, 1, 1, 1], 10);
/// assert_eq!(model.forward(&zeros([1, 3, 32, 32])).shape(), [1, 10]);
/// ```
#[derive(Module, Clone)]
pub struct ResNet {
    conv1: Conv2d,
    bn1: BatchNorm2d,
    layer1: Vec<Bottleneck>,
    layer2: Vec<Bottleneck>,
    layer3: Vec<Bottleneck>,
    layer4: Vec<Bottleneck>,
    fc: Linear,
}

/// 1×1, 3×3 and 1×1 convolutions with batch norms beside a shortcut; the last widens fourfold. The stride is the 3×3's,
/// as in torchvision.
#[derive(Module, Clone)]
struct Bottleneck {
    conv1: Conv2d,
    bn1: BatchNorm2d,
    conv2: Conv2d,
    bn2: BatchNorm2d,
    conv3: Conv2d,
    bn3: BatchNorm2d,
    downsample: Option<Sequential>,
}

impl Bottleneck {
    fn new(inputs: usize, width: usize, stride: usize) -> Bottleneck {
        let (outputs, norm) = (4 * width, |channels| BatchNorm2d::new(channels).init());
        let shortcut = || {
            let conv = Conv2d::new(inputs, outputs, 1).stride(stride).bias(false);
            Sequential::new().add(conv.init()).add(norm(outputs))
        };
        Bottleneck {
            conv1: Conv2d::new(inputs, width, 1).bias(false).init(),
            bn1: norm(width),
            conv2: Conv2d::new(width, width, 3).stride(stride).padding(1).bias(false).init(),
            bn2: norm(width),
            conv3: Conv2d::new(width, outputs, 1).bias(false).init(),
            bn3: norm(outputs),
            downsample: (stride != 1 || inputs != outputs).then(shortcut),
        }
    }
}

impl Forward for Bottleneck {
    fn forward(&self, x: &Tensor) -> Tensor {
        let h = self.bn1.forward(&self.conv1.forward(x)).relu(); // [B, width, H, W]
        let h = self.bn2.forward(&self.conv2.forward(&h)).relu(); // [B, width, H/stride, W/stride]
        let h = self.bn3.forward(&self.conv3.forward(&h)); // [B, 4·width, H/stride, W/stride]
        let shortcut = self.downsample.as_ref().map_or_else(|| x.clone(), |down| down.forward(x));
        (h + shortcut).relu()
    }
}

impl ResNet {
    /// ResNet-50, with weights drawn.
    pub fn resnet50(classes: usize) -> ResNet {
        ResNet::new([3, 4, 6, 3], classes)
    }

    /// Four stages of so many blocks, with weights drawn.
    pub fn new(depths: [usize; 4], classes: usize) -> ResNet {
        let stage = |number: usize| -> Vec<Bottleneck> {
            let width = 64 << number;
            let before = if number == 0 { 64 } else { 2 * width };
            let first = Bottleneck::new(before, width, if number == 0 { 1 } else { 2 });
            let rest = (1..depths[number]).map(|_| Bottleneck::new(4 * width, width, 1));
            std::iter::once(first).chain(rest).collect()
        };
        ResNet {
            conv1: Conv2d::new(3, 64, 7).stride(2).padding(3).bias(false).init(),
            bn1: BatchNorm2d::new(64).init(),
            layer1: stage(0),
            layer2: stage(1),
            layer3: stage(2),
            layer4: stage(3),
            fc: Linear::new(2048, classes).init(),
        }
    }
}

impl Forward for ResNet {
    fn forward(&self, x: &Tensor) -> Tensor {
        let x = self.bn1.forward(&self.conv1.forward(x)).relu(); // [B, 64, H/2, W/2]
        let x = x.max_pool2d(PoolOptions::new(3).stride(2).padding(1)); // [B, 64, H/4, W/4]
        let stages = [&self.layer1, &self.layer2, &self.layer3, &self.layer4];
        let x = stages.into_iter().flatten().fold(x, |x, block| block.forward(&x)); // [B, 2048, H/32, W/32]
        self.fc.forward(&x.global_avg_pool())
    }
}
