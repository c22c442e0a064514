//! The network that reads the screen (Mnih et al., 2013): wide strides first, as neighbouring pixels say much the same, and
//! no pooling, as it matters where things are.
//!
//! It could be asked for `Q(s, a)` with the move as a second input, once for each move. One pass that answers with Q of every
//! move costs half of that, and the maximum over moves is a maximum over its answers.

use super::memory::FRAMES;
use etude::prelude::*;

/// Two convolutions with wide strides, two dense layers; one pass gives Q of both moves.
#[derive(Module, Clone)]
pub struct QNetwork {
    conv1: Conv2d,
    conv2: Conv2d,
    fc1: Linear,
    fc2: Linear,
}

impl QNetwork {
    /// A network for frames of `side`×`side` pixels.
    pub fn new(side: usize) -> Self {
        let small = ((side - 8) / 4 + 1 - 4) / 2 + 1;
        Self {
            conv1: Conv2d::new(FRAMES, 16, 8).stride(4).init(),
            conv2: Conv2d::new(16, 32, 4).stride(2).init(),
            fc1: Linear::new(32 * small * small, 256).init(),
            fc2: Linear::new(256, 2).init(),
        }
    }
}

impl Forward for QNetwork {
    fn forward(&self, x: &Tensor) -> Tensor {
        let x = self.conv1.forward(&x.to(DType::F32)).relu(); // [N, 4, 80, 80] → [N, 16, 19, 19]
        let x = self.conv2.forward(&x).relu(); // [N, 32, 8, 8]
        let x = self.fc1.forward(&x.flatten_from(1)).relu(); // [N, 256]
        self.fc2.forward(&x) // [N, 2]: staying, flapping
    }
}
