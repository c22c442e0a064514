//! Plain convolutional networks: workloads `convnet` and `dqn`.

use etude::prelude::*;

/// Two convolutions with pooling and two dense layers: `[B, 1, 28, 28] → [B, 10]`.
#[derive(Module, Clone)]
pub struct ConvNet {
    conv1: Conv2d,
    conv2: Conv2d,
    fc1: Linear,
    fc2: Linear,
}

impl ConvNet {
    /// With weights drawn.
    #[allow(clippy::new_without_default)] // drawing weights is no default
    pub fn new() -> ConvNet {
        ConvNet {
            conv1: Conv2d::new(1, 32, 3).padding(1).init(),
            conv2: Conv2d::new(32, 64, 3).padding(1).init(),
            fc1: Linear::new(64 * 49, 128).init(),
            fc2: Linear::new(128, 10).init(),
        }
    }
}

impl Forward for ConvNet {
    fn forward(&self, x: &Tensor) -> Tensor {
        let x = self.conv1.forward(x).relu().max_pool2d(2); // [B, 32, 14, 14]
        let x = self.conv2.forward(&x).relu().max_pool2d(2); // [B, 64, 7, 7]
        let x = self.fc1.forward(&x.flatten_from(1)).relu(); // [B, 128]
        self.fc2.forward(&x) // [B, 10]
    }
}

/// The deep Q-network of Mnih et al. (2015) for two actions: `[B, 4, 80, 80] → [B, 2]`.
#[derive(Module, Clone)]
pub struct Dqn {
    conv1: Conv2d,
    conv2: Conv2d,
    conv3: Conv2d,
    fc1: Linear,
    fc2: Linear,
}

impl Dqn {
    /// With weights drawn.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Dqn {
        Dqn {
            conv1: Conv2d::new(4, 32, 8).stride(4).init(),
            conv2: Conv2d::new(32, 64, 4).stride(2).init(),
            conv3: Conv2d::new(64, 64, 3).init(),
            fc1: Linear::new(64 * 36, 512).init(),
            fc2: Linear::new(512, 2).init(),
        }
    }
}

impl Forward for Dqn {
    fn forward(&self, x: &Tensor) -> Tensor {
        let x = self.conv1.forward(x).relu(); // [B, 32, 19, 19]
        let x = self.conv2.forward(&x).relu(); // [B, 64, 8, 8]
        let x = self.conv3.forward(&x).relu(); // [B, 64, 6, 6]
        let x = self.fc1.forward(&x.flatten_from(1)).relu(); // [B, 512]
        self.fc2.forward(&x) // [B, 2]
    }
}
