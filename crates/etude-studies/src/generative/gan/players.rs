//! The two networks of the games (Radford et al., 2016): strided convolutions take a picture apart in halves, transposed
//! ones put it together by doubling. No pooling and no dense layer but the one at the noise and the one at the answer;
//! weights begin as normal numbers with a deviation of 0.02.
//!
//! A strided convolution of 4×4 pixels, stride 2 and a border of 1 makes `(28 + 2·1 − 4)/2 + 1 = 14` of 28 pixels; transposed,
//! it makes `(14 − 1)·2 − 2·1 + 4 = 28` of 14. As the stride divides the kernel, every pixel is made of equally many parts, and
//! no chessboard shows (Odena et al., 2016).

use etude::prelude::*;

/// What weights begin as.
const SMALL: Init = Init::Normal(0.0, 0.02);

/// Noise, and the class where there is one, to a picture of values in −1 … 1.
#[derive(Module, Clone, Debug)]
pub struct Generator {
    fc: Linear,
    norm1: BatchNorm,
    up1: ConvTranspose2d,
    norm2: BatchNorm,
    up2: ConvTranspose2d,
    width: usize,
}

impl Generator {
    /// From `inputs` numbers; `width` channels at 14×14 and twice as many at 7×7.
    pub fn new(inputs: usize, width: usize) -> Self {
        let up = |from, to| ConvTranspose2d::new(from, to, 4).stride(2).padding(1).weights(SMALL);
        Self {
            fc: Linear::new(inputs, 2 * width * 49).weights(SMALL).init(),
            norm1: BatchNorm::new(2 * width).init(),
            up1: up(2 * width, width).bias(false).init(),
            norm2: BatchNorm::new(width).init(),
            up2: up(width, 1).init(),
            width,
        }
    }
}

impl Forward for Generator {
    fn forward(&self, z: &Tensor) -> Tensor {
        let x = self.fc.forward(z).reshape([z.size(0), 2 * self.width, 7, 7]);
        let x = self.up1.forward(&self.norm1.forward(&x).relu()); // [B, width, 14, 14]
        self.up2.forward(&self.norm2.forward(&x).relu()).tanh() // [B, 1, 28, 28]
    }
}

/// A picture to logits or a score.
#[derive(Module, Clone, Debug)]
pub struct Discriminator {
    conv1: Conv2d,
    conv2: Conv2d,
    /// Not in a critic, whose answer to one picture must not depend on the others.
    norm: Option<BatchNorm>,
    fc: Linear,
}

impl Discriminator {
    /// To `answers` numbers; `width` channels at 14×14 and twice as many at 7×7.
    pub fn new(width: usize, answers: usize, norm: bool) -> Self {
        let down = |from, to| Conv2d::new(from, to, 4).stride(2).padding(1).weights(SMALL);
        Self {
            conv1: down(1, width).init(),
            conv2: down(width, 2 * width).init(),
            norm: norm.then(|| BatchNorm::new(2 * width).init()),
            fc: Linear::new(2 * width * 49, answers).weights(SMALL).init(),
        }
    }
}

impl Forward for Discriminator {
    fn forward(&self, x: &Tensor) -> Tensor {
        let x = self.conv2.forward(&self.conv1.forward(x).leaky_relu(0.2)); // [B, 2·width, 7, 7]
        let x = self.norm.as_ref().map_or_else(|| x.clone(), |norm| norm.forward(&x)).leaky_relu(0.2);
        self.fc.forward(&x.flatten_from(1)) // [B, answers]
    }
}
