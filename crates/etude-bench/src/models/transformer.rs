//! Transformers (Vaswani et al., 2017): workloads `gpt`, `bert` and `vit`.

use etude::core::AttentionOptions;
use etude::prelude::*;

/// A block with the norms in front: attention, then two dense layers, each beside a shortcut. `[B, T, width]` to the same.
#[derive(Module, Clone)]
struct Block {
    ln1: LayerNorm,
    qkv: Linear,
    proj: Linear,
    ln2: LayerNorm,
    up: Linear,
    down: Linear,
    drop: Dropout,
    heads: usize,
    causal: bool,
}

impl Block {
    fn new(width: usize, heads: usize, causal: bool, dropout: f64) -> Block {
        Block {
            ln1: LayerNorm::new(width).init(),
            qkv: Linear::new(width, 3 * width).init(),
            proj: Linear::new(width, width).init(),
            ln2: LayerNorm::new(width).init(),
            up: Linear::new(width, 4 * width).init(),
            down: Linear::new(4 * width, width).init(),
            drop: Dropout::new(dropout),
            heads,
            causal,
        }
    }

    fn attend(&self, x: &Tensor) -> Tensor {
        let [b, t, width] = [x.size(0), x.size(1), x.size(2)];
        let qkv = self.qkv.forward(x).reshape([b, t, 3, self.heads, width / self.heads]).permute([2, 0, 3, 1, 4]);
        let [q, k, v] = [0, 1, 2].map(|part| qkv.at(0, part)); // [B, heads, T, width/heads]
        let y = q.scaled_dot_product_attention(&k, &v, AttentionOptions::new().causal(self.causal));
        self.proj.forward(&y.transpose(1, 2).reshape([b, t, width]))
    }
}

impl Forward for Block {
    fn forward(&self, x: &Tensor) -> Tensor {
        let x = x + self.drop.forward(&self.attend(&self.ln1.forward(x)));
        let h = self.up.forward(&self.ln2.forward(&x)).gelu(); // [B, T, 4·width]
        &x + self.drop.forward(&self.down.forward(&h))
    }
}

fn blocks(depth: usize, width: usize, heads: usize, causal: bool, dropout: f64) -> Vec<Block> {
    (0..depth).map(|_| Block::new(width, heads, causal, dropout)).collect()
}

/// A transformer over tokens: ids `[B, T] → [B·T, vocabulary]`.
#[derive(Module, Clone)]
pub struct TokenModel {
    pos: Param,
    embed: Embedding,
    blocks: Vec<Block>,
    ln: LayerNorm,
    head: Linear,
}

/// The sizes of a [`TokenModel`].
#[derive(Clone, Copy, Debug)]
pub struct TokenSizes {
    /// How many tokens there are.
    pub vocabulary: usize,
    /// Features of a token.
    pub width: usize,
    /// Blocks.
    pub depth: usize,
    /// Heads of each attention.
    pub heads: usize,
    /// The most tokens of a sequence.
    pub length: usize,
    /// Whether a token sees only those before it.
    pub causal: bool,
    /// The probability with which what a block adds is dropped.
    pub dropout: f64,
}

impl TokenModel {
    /// With weights drawn.
    pub fn new(sizes: TokenSizes) -> TokenModel {
        let TokenSizes { vocabulary, width, depth, heads, length, causal, dropout } = sizes;
        TokenModel {
            pos: Param::new(Init::Normal(0.0, 0.02).make([length, width])),
            embed: Embedding::new(vocabulary, width).init(),
            blocks: blocks(depth, width, heads, causal, dropout),
            ln: LayerNorm::new(width).init(),
            head: Linear::new(width, vocabulary).init(),
        }
    }
}

impl Forward for TokenModel {
    fn forward(&self, ids: &Tensor) -> Tensor {
        let x = self.embed.forward(ids) + self.pos.value().narrow(0, 0, ids.size(1)); // [B, T, width]
        let x = self.blocks.iter().fold(x, |x, block| block.forward(&x));
        let logits = self.head.forward(&self.ln.forward(&x)); // [B, T, vocabulary]
        logits.reshape([ids.count(), logits.size(-1)])
    }
}

/// A vision transformer (Dosovitskiy et al., 2021) over 4×4 patches: `[B, 3, 32, 32] → [B, 10]`.
#[derive(Module, Clone)]
pub struct Vit {
    cls: Param,
    pos: Param,
    patch: Conv2d,
    blocks: Vec<Block>,
    ln: LayerNorm,
    head: Linear,
}

impl Vit {
    /// With weights drawn.
    pub fn new(width: usize, depth: usize, heads: usize) -> Vit {
        Vit {
            cls: Param::new(zeros([1, 1, width])),
            pos: Param::new(Init::Normal(0.0, 0.02).make([65, width])),
            patch: Conv2d::new(3, width, 4).stride(4).init(),
            blocks: blocks(depth, width, heads, false, 0.0),
            ln: LayerNorm::new(width).init(),
            head: Linear::new(width, 10).init(),
        }
    }
}

impl Forward for Vit {
    fn forward(&self, x: &Tensor) -> Tensor {
        let patches = self.patch.forward(x).flatten_from(2).transpose(1, 2); // [B, 64, width]
        let class = self.cls.value().expand([x.size(0), 1, patches.size(2)]);
        let x = cat(&[class, patches], 1) + self.pos.value(); // [B, 65, width]
        let x = self.blocks.iter().fold(x, |x, block| block.forward(&x));
        self.head.forward(&self.ln.forward(&x).at(1, 0))
    }
}
