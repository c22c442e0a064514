//! A U-Net that looks at a noisy digit, the step of the noise and a class (Ronneberger et al., 2015; Ho et al., 2020).
//!
//! The way down halves the picture and sees wide, the way up doubles it again and is handed what the way down saw at the
//! same size, so that nothing fine must pass through the narrow middle. Step and class are one vector that scales and
//! shifts the channels of every block behind its group norm (Dhariwal and Nichol, 2021).
//!
//! Neighbouring pixels of a digit say much the same. So its 28×28 pixels are folded to 4 channels of 14×14 first and unfolded
//! last, which makes a convolution four times cheaper; the steps between 14×14 and 7×7 fold and unfold, too (Shi et al., 2016).

use etude::core::embedding;
use etude::nn::layers::conv::ConvConfig;
use etude::prelude::*;

/// Two convolutions behind group norms, beside a shortcut.
#[derive(Module, Clone, Debug)]
struct Block {
    norm1: GroupNorm,
    conv1: Conv2d,
    condition: Linear,
    norm2: GroupNorm,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
}

impl Block {
    fn new(from: usize, to: usize, condition: usize) -> Self {
        Self {
            norm1: GroupNorm::new(8, from).init(),
            conv1: conv(from, to).init(),
            condition: Linear::new(condition, 2 * to).init(),
            norm2: GroupNorm::new(8, to).affine(false).init(),
            // A block begins as its shortcut.
            conv2: conv(to, to).weights(Init::Zeros).init(),
            shortcut: (from != to).then(|| Conv2d::new(from, to, 1).init()),
        }
    }

    /// `x [B, from, H, W]`, `condition [B, condition]`, to `[B, to, H, W]`.
    fn forward(&self, x: &Tensor, condition: &Tensor) -> Tensor {
        let both = self.condition.forward(condition).unsqueeze(-1).unsqueeze(-1).chunk(1, 2); // [B, to, 1, 1] each
        let h = self.conv1.forward(&self.norm1.forward(x).silu());
        let h = self.norm2.forward(&h) * (&both[0] + 1.0) + &both[1];
        let h = self.conv2.forward(&h.silu());
        h + self.shortcut.as_ref().map_or_else(|| x.clone(), |shortcut| shortcut.forward(x))
    }
}

/// A 3×3 convolution that keeps height and width.
fn conv(from: usize, to: usize) -> ConvConfig<2> {
    Conv2d::new(from, to, 3).padding(1)
}

/// Noisy digits `[B, 1, 28, 28]`, steps `[B]` and classes `[B]`, to `[B, 1, 28, 28]`.
#[derive(Module, Clone, Debug)]
pub struct UNet {
    /// The sinusoids of every step: `[steps + 1, 4·C]`.
    #[module(skip)]
    sinusoids: Tensor,
    time: (Linear, Linear),
    /// Ten digits, and the one vector that stands for none of them.
    class: Embedding,
    stem: Conv2d,
    down1: Block,
    shrink: Conv2d,
    down2: Block,
    middle: Block,
    up2: Block,
    enlarge: Conv2d,
    up1: Block,
    norm: GroupNorm,
    out: Conv2d,
}

impl UNet {
    /// The class of no class.
    pub const ANY: usize = 10;

    /// For steps `0 … steps`, with `C = 8·width` channels at 14×14 and four times as many at 7×7.
    pub fn new(steps: usize, width: usize) -> Self {
        let c = 8 * width;
        let (n, condition) = (4 * c, 8 * c);
        Self {
            sinusoids: sinusoidal_positions(steps + 1, n, 1e4),
            time: (Linear::new(n, condition).init(), Linear::new(condition, condition).init()),
            class: Embedding::new(11, condition).init(),
            stem: conv(4, c).init(),
            down1: Block::new(c, c, condition),
            shrink: Conv2d::new(4 * c, n, 1).init(),
            down2: Block::new(n, n, condition),
            middle: Block::new(n, n, condition),
            up2: Block::new(2 * n, n, condition),
            enlarge: Conv2d::new(n, 4 * c, 1).init(),
            up1: Block::new(2 * c, c, condition),
            norm: GroupNorm::new(8, c).init(),
            out: conv(c, 4).weights(Init::Zeros).init(),
        }
    }

    /// What the net says of `x [B, 1, 28, 28]` at the steps `t [B]`, told the classes `[B]`.
    pub fn answer(&self, x: &Tensor, t: &Tensor, classes: &Tensor) -> Tensor {
        let time = self.time.0.forward(&embedding(&self.sinusoids, t)).silu();
        let told = (self.time.1.forward(&time) + self.class.forward(classes)).silu(); // [B, 8·C]
        let x = self.stem.forward(&x.pixel_unshuffle(2)); // [B, C, 14, 14]
        let wide = self.down1.forward(&x, &told);
        let narrow = self.down2.forward(&self.shrink.forward(&wide.pixel_unshuffle(2)), &told); // [B, 4·C, 7, 7]
        let h = self.middle.forward(&narrow, &told);
        let h = self.up2.forward(&cat(&[h, narrow], 1), &told); // [B, 4·C, 7, 7]
        let h = self.enlarge.forward(&h).pixel_shuffle(2); // [B, C, 14, 14]
        let h = self.up1.forward(&cat(&[h, wide], 1), &told); // [B, C, 14, 14]
        self.out.forward(&self.norm.forward(&h).silu()).pixel_shuffle(2) // [B, 1, 28, 28]
    }
}

impl Forward for UNet {
    /// At step 0, told no class.
    fn forward(&self, x: &Tensor) -> Tensor {
        self.answer(x, &whole(x.size(0), 0), &whole(x.size(0), Self::ANY))
    }
}

/// `[count]` times the same step or class.
pub fn whole(count: usize, number: usize) -> Tensor {
    tensor(vec![number as i64; count])
}
