//! The peers' models in Burn's layers.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv1d, Conv1dConfig, Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Dropout, DropoutConfig, Embedding, EmbeddingConfig};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig, Lstm, LstmConfig, PaddingConfig2d};
use burn::tensor::activation::{gelu, relu, softplus};
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Device, Distribution, Int, Tensor};

fn conv(inputs: usize, outputs: usize, kernel: usize, stride: usize, padding: usize, bias: bool, d: &Device) -> Conv2d {
    Conv2dConfig::new([inputs, outputs], [kernel; 2])
        .with_stride([stride; 2])
        .with_padding(PaddingConfig2d::Explicit(padding, padding, padding, padding))
        .with_bias(bias)
        .init(d)
}

fn linear(inputs: usize, outputs: usize, d: &Device) -> Linear {
    LinearConfig::new(inputs, outputs).init(d)
}

#[derive(Module, Debug)]
pub struct Dense {
    layers: Vec<Linear>,
}

impl Dense {
    pub fn new(sizes: &[usize], d: &Device) -> Self {
        Self { layers: sizes.windows(2).map(|pair| linear(pair[0], pair[1], d)).collect() }
    }

    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let (last, rest) = self.layers.split_last().expect("at least one layer");
        last.forward(rest.iter().fold(x, |x, layer| relu(layer.forward(x))))
    }
}

#[derive(Module, Debug)]
pub struct ConvNet {
    conv1: Conv2d,
    conv2: Conv2d,
    pool: MaxPool2d,
    fc1: Linear,
    fc2: Linear,
}

impl ConvNet {
    pub fn new(d: &Device) -> Self {
        Self {
            conv1: conv(1, 32, 3, 1, 1, true, d),
            conv2: conv(32, 64, 3, 1, 1, true, d),
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            fc1: linear(3136, 128, d),
            fc2: linear(128, 10, d),
        }
    }

    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.pool.forward(relu(self.conv1.forward(x)));
        let x = self.pool.forward(relu(self.conv2.forward(x)));
        self.fc2.forward(relu(self.fc1.forward(x.flatten(1, 3))))
    }
}

#[derive(Module, Debug)]
pub struct Dqn {
    convs: Vec<Conv2d>,
    fc1: Linear,
    fc2: Linear,
}

impl Dqn {
    pub fn new(d: &Device) -> Self {
        let convs = vec![conv(4, 32, 8, 4, 0, true, d), conv(32, 64, 4, 2, 0, true, d), conv(64, 64, 3, 1, 0, true, d)];
        Self { convs, fc1: linear(2304, 512, d), fc2: linear(512, 2, d) }
    }

    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.convs.iter().fold(x, |x, conv| relu(conv.forward(x)));
        self.fc2.forward(relu(self.fc1.forward(x.flatten(1, 3))))
    }
}

#[derive(Module, Debug)]
pub struct BasicBlock {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
    down: Option<Conv2d>,
    down_norm: Option<BatchNorm>,
}

impl BasicBlock {
    fn new(inputs: usize, outputs: usize, stride: usize, d: &Device) -> Self {
        let norm = || BatchNormConfig::new(outputs).init(d);
        let changes = stride != 1 || inputs != outputs;
        Self {
            conv1: conv(inputs, outputs, 3, stride, 1, false, d),
            bn1: norm(),
            conv2: conv(outputs, outputs, 3, 1, 1, false, d),
            bn2: norm(),
            down: changes.then(|| conv(inputs, outputs, 1, stride, 0, false, d)),
            down_norm: changes.then(norm),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let h = relu(self.bn1.forward(self.conv1.forward(x.clone())));
        let h = self.bn2.forward(self.conv2.forward(h));
        let shortcut = match (&self.down, &self.down_norm) {
            (Some(down), Some(norm)) => norm.forward(down.forward(x)),
            _ => x,
        };
        relu(h + shortcut)
    }
}

#[derive(Module, Debug)]
pub struct ResNet {
    stem: Conv2d,
    norm: BatchNorm,
    blocks: Vec<BasicBlock>,
    head: Linear,
}

impl ResNet {
    pub fn new(d: &Device) -> Self {
        let (mut blocks, mut inputs) = (Vec::new(), 64);
        for (outputs, stride) in [(64, 1), (128, 2), (256, 2), (512, 2)] {
            blocks.push(BasicBlock::new(inputs, outputs, stride, d));
            blocks.push(BasicBlock::new(outputs, outputs, 1, d));
            inputs = outputs;
        }
        let stem = conv(3, 64, 3, 1, 1, false, d);
        Self { stem, norm: BatchNormConfig::new(64).init(d), blocks, head: linear(512, 10, d) }
    }

    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = relu(self.norm.forward(self.stem.forward(x)));
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        self.head.forward(x.mean_dim(3).mean_dim(2).flatten(1, 3))
    }
}

#[derive(Module, Debug)]
pub struct Block {
    ln1: LayerNorm,
    qkv: Linear,
    proj: Linear,
    ln2: LayerNorm,
    up: Linear,
    down: Linear,
    heads: usize,
    causal: bool,
}

impl Block {
    fn new(width: usize, heads: usize, causal: bool, d: &Device) -> Self {
        let norm = || LayerNormConfig::new(width).init(d);
        Self {
            ln1: norm(),
            qkv: linear(width, 3 * width, d),
            proj: linear(width, width, d),
            ln2: norm(),
            up: linear(width, 4 * width, d),
            down: linear(4 * width, width, d),
            heads,
            causal,
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [b, t, width] = x.dims();
        let qkv = self.qkv.forward(self.ln1.forward(x.clone()));
        let part = |i: usize| {
            let part = qkv.clone().narrow(2, i * width, width).reshape([b, t, self.heads, width / self.heads]);
            part.swap_dims(1, 2)
        };
        let options = AttentionModuleOptions { is_causal: self.causal, ..Default::default() };
        let y = attention(part(0), part(1), part(2), None, None, options);
        let x = x + self.proj.forward(y.swap_dims(1, 2).reshape([b, t, width]));
        x.clone() + self.down.forward(gelu(self.up.forward(self.ln2.forward(x))))
    }
}

fn table(rows: usize, width: usize, d: &Device) -> Param<Tensor<2>> {
    Param::from_tensor(Tensor::random([rows, width], Distribution::Normal(0.0, 0.02), d))
}

#[derive(Module, Debug)]
pub struct Gpt {
    embed: Embedding,
    pos: Param<Tensor<2>>,
    blocks: Vec<Block>,
    ln: LayerNorm,
    head: Linear,
}

impl Gpt {
    pub fn new(d: &Device) -> Self {
        Self {
            embed: EmbeddingConfig::new(96, 256).init(d),
            pos: table(128, 256, d),
            blocks: (0..6).map(|_| Block::new(256, 4, true, d)).collect(),
            ln: LayerNormConfig::new(256).init(d),
            head: linear(256, 96, d),
        }
    }

    pub fn forward(&self, ids: Tensor<2, Int>) -> Tensor<2> {
        let x = self.embed.forward(ids) + self.pos.val().unsqueeze::<3>();
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        self.head.forward(self.ln.forward(x)).flatten(0, 1)
    }
}

#[derive(Module, Debug)]
pub struct Vit {
    patch: Conv2d,
    cls: Param<Tensor<2>>,
    pos: Param<Tensor<2>>,
    blocks: Vec<Block>,
    ln: LayerNorm,
    head: Linear,
}

impl Vit {
    pub fn new(d: &Device) -> Self {
        Self {
            patch: conv(3, 192, 4, 4, 0, true, d),
            cls: table(1, 192, d),
            pos: table(65, 192, d),
            blocks: (0..6).map(|_| Block::new(192, 3, false, d)).collect(),
            ln: LayerNormConfig::new(192).init(d),
            head: linear(192, 10, d),
        }
    }

    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let patches: Tensor<3> = self.patch.forward(x).flatten(2, 3).swap_dims(1, 2);
        let class = self.cls.val().unsqueeze::<3>().expand([patches.dims()[0], 1, 192]);
        let x = Tensor::cat(vec![class, patches], 1) + self.pos.val().unsqueeze::<3>();
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        self.head.forward(self.ln.forward(x).narrow(1, 0, 1).flatten(1, 2))
    }
}

#[derive(Module, Debug)]
pub struct CharLstm {
    embed: Embedding,
    lstm: Lstm,
    head: Linear,
}

impl CharLstm {
    pub fn new(d: &Device) -> Self {
        Self {
            embed: EmbeddingConfig::new(83, 256).init(d),
            lstm: LstmConfig::new(256, 1024, true).init(d),
            head: linear(1024, 83, d),
        }
    }

    pub fn forward(&self, ids: Tensor<2, Int>) -> Tensor<2> {
        let (h, _) = self.lstm.forward(self.embed.forward(ids), None);
        self.head.forward(h).flatten(0, 1)
    }
}

#[derive(Module, Debug)]
pub struct TextCnn {
    embed: Embedding,
    convs: Vec<Conv1d>,
    drop: Dropout,
    head: Linear,
}

impl TextCnn {
    pub fn new(d: &Device) -> Self {
        Self {
            embed: EmbeddingConfig::new(10_000, 128).init(d),
            convs: [3, 4, 5].map(|kernel| Conv1dConfig::new(128, 100, kernel).init(d)).into(),
            drop: DropoutConfig::new(0.5).init(),
            head: linear(300, 2, d),
        }
    }

    pub fn forward(&self, ids: Tensor<2, Int>) -> Tensor<2> {
        let x = self.embed.forward(ids).swap_dims(1, 2);
        let strongest = |conv: &Conv1d| -> Tensor<2> { relu(conv.forward(x.clone())).max_dim(2).flatten(1, 2) };
        let features = Tensor::cat(self.convs.iter().map(strongest).collect(), 1);
        self.head.forward(self.drop.forward(features))
    }
}

#[derive(Module, Debug)]
pub struct Vae {
    enc1: Conv2d,
    enc2: Conv2d,
    mu: Linear,
    logvar: Linear,
    fc: Linear,
    dec1: ConvTranspose2d,
    dec2: ConvTranspose2d,
}

impl Vae {
    pub fn new(d: &Device) -> Self {
        let up = |inputs, outputs| {
            ConvTranspose2dConfig::new([inputs, outputs], [4, 4]).with_stride([2, 2]).with_padding([1, 1]).init(d)
        };
        Self {
            enc1: conv(1, 32, 3, 2, 1, true, d),
            enc2: conv(32, 64, 3, 2, 1, true, d),
            mu: linear(3136, 20, d),
            logvar: linear(3136, 20, d),
            fc: linear(20, 3136, d),
            dec1: up(64, 32),
            dec2: up(32, 1),
        }
    }

    pub fn loss(&self, x: Tensor<4>) -> Tensor<1> {
        let batch = x.dims()[0];
        let h: Tensor<2> = relu(self.enc2.forward(relu(self.enc1.forward(x.clone())))).flatten(1, 3);
        let (mu, logvar) = (self.mu.forward(h.clone()), self.logvar.forward(h));
        let noise = mu.random_like(Distribution::Normal(0.0, 1.0));
        let z = mu.clone() + noise * (logvar.clone() * 0.5).exp();
        let h = relu(self.fc.forward(z).reshape([batch, 64, 7, 7]));
        let logits = self.dec2.forward(relu(self.dec1.forward(h)));
        let surprise = softplus(logits.clone(), 1.0) - x * logits;
        let divergence = (logvar.clone() + 1.0 - mu.clone() * mu - logvar.exp()).sum() * -0.5;
        (surprise.sum() + divergence) / batch as f32
    }
}
