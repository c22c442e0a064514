//! The noise predictor of a denoising diffusion model (Ho et al., 2020): workload `ddpm`.

use etude::core::Interpolation;
use etude::prelude::*;

/// Two convolutions behind group norms, the time's features added between them, beside a shortcut.
#[derive(Module, Clone)]
struct Residual {
    n1: GroupNorm,
    c1: Conv2d,
    t: Linear,
    n2: GroupNorm,
    c2: Conv2d,
    skip: Option<Conv2d>,
}

impl Residual {
    fn new(inputs: usize, outputs: usize, time: usize) -> Residual {
        Residual {
            n1: GroupNorm::new(8, inputs).init(),
            c1: Conv2d::new(inputs, outputs, 3).padding(1).init(),
            t: Linear::new(time, outputs).init(),
            n2: GroupNorm::new(8, outputs).init(),
            c2: Conv2d::new(outputs, outputs, 3).padding(1).init(),
            skip: (inputs != outputs).then(|| Conv2d::new(inputs, outputs, 1).init()),
        }
    }

    /// `x [B, inputs, H, W]`, `time [B, time]`, to `[B, outputs, H, W]`.
    fn forward(&self, x: &Tensor, time: &Tensor) -> Tensor {
        let shift = self.t.forward(&time.silu()).unsqueeze(-1).unsqueeze(-1); // [B, outputs, 1, 1]
        let h = self.c1.forward(&self.n1.forward(x).silu()) + shift;
        let h = self.c2.forward(&self.n2.forward(&h).silu());
        h + self.skip.as_ref().map_or_else(|| x.clone(), |skip| skip.forward(x))
    }
}

/// Attention over the positions of a map, beside a shortcut.
#[derive(Module, Clone)]
struct MapAttention {
    n: GroupNorm,
    qkv: Conv2d,
    o: Conv2d,
    heads: usize,
}

impl MapAttention {
    fn new(channels: usize) -> MapAttention {
        MapAttention {
            n: GroupNorm::new(8, channels).init(),
            qkv: Conv2d::new(channels, 3 * channels, 1).init(),
            o: Conv2d::new(channels, channels, 1).init(),
            heads: 4,
        }
    }
}

impl Forward for MapAttention {
    fn forward(&self, x: &Tensor) -> Tensor {
        let [b, c, h, w] = [x.size(0), x.size(1), x.size(2), x.size(3)];
        let qkv = self.qkv.forward(&self.n.forward(x)).reshape([b, 3, self.heads, c / self.heads, h * w]);
        let [q, k, v] = [0, 1, 2].map(|part| qkv.at(1, part).t()); // [B, heads, H·W, C/heads]
        let y = q.scaled_dot_product_attention(&k, &v, Default::default());
        x + self.o.forward(&y.t().reshape([b, c, h, w]))
    }
}

/// A U-Net of two levels (Ronneberger et al., 2015): noisy pictures `[B, 3, H, W]` and steps `[B]` to the noise in them.
#[derive(Module, Clone)]
pub struct UNet {
    time: Sequential,
    stem: Conv2d,
    d1: Residual,
    down1: Conv2d,
    d2: Residual,
    down2: Conv2d,
    m1: Residual,
    ma: MapAttention,
    m2: Residual,
    up2: Conv2d,
    u2: Residual,
    up1: Conv2d,
    u1: Residual,
    norm: GroupNorm,
    out: Conv2d,
    channels: usize,
}

impl UNet {
    /// With weights drawn.
    pub fn new(c: usize, time: usize) -> UNet {
        let conv = |inputs, outputs| Conv2d::new(inputs, outputs, 3).padding(1);
        UNet {
            time: Sequential::new()
                .add(Linear::new(c, time).init())
                .add(Activation::Silu.layer())
                .add(Linear::new(time, time).init()),
            stem: conv(3, c).init(),
            d1: Residual::new(c, c, time),
            down1: conv(c, c).stride(2).init(),
            d2: Residual::new(c, 2 * c, time),
            down2: conv(2 * c, 2 * c).stride(2).init(),
            m1: Residual::new(2 * c, 2 * c, time),
            ma: MapAttention::new(2 * c),
            m2: Residual::new(2 * c, 2 * c, time),
            up2: conv(2 * c, 2 * c).init(),
            u2: Residual::new(4 * c, c, time),
            up1: conv(c, c).init(),
            u1: Residual::new(2 * c, c, time),
            norm: GroupNorm::new(8, c).init(),
            out: conv(c, 3).init(),
            channels: c,
        }
    }

    /// The step's sinusoids through two dense layers: `[B] → [B, time]`.
    fn embed(&self, step: &Tensor) -> Tensor {
        let half = self.channels / 2;
        let rate = (arange(half).to(DType::F32) * (-(1e4f64.ln()) / half as f64)).exp(); // [C/2]
        let angle = step.to(DType::F32).unsqueeze(1) * rate; // [B, C/2]
        self.time.forward(&cat(&[angle.sin(), angle.cos()], -1))
    }

    /// The noise in `x [B, 3, H, W]` at `step [B]`.
    pub fn forward(&self, x: &Tensor, step: &Tensor) -> Tensor {
        let twice = |x: &Tensor| x.interpolate_by(&[2.0, 2.0], Interpolation::Nearest);
        let t = self.embed(step); // [B, time]
        let h0 = self.stem.forward(x); // [B, C, H, W]
        let h1 = self.d1.forward(&h0, &t);
        let h2 = self.d2.forward(&self.down1.forward(&h1), &t); // [B, 2C, H/2, W/2]
        let h = self.m1.forward(&self.down2.forward(&h2), &t); // [B, 2C, H/4, W/4]
        let h = self.m2.forward(&self.ma.forward(&h), &t);
        let h = self.u2.forward(&cat(&[self.up2.forward(&twice(&h)), h2], 1), &t); // [B, C, H/2, W/2]
        let h = self.u1.forward(&cat(&[self.up1.forward(&twice(&h)), h1], 1), &t); // [B, C, H, W]
        self.out.forward(&self.norm.forward(&h).silu())
    }
}
