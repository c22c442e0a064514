//! The model: a stack of blocks, read whole in training and one position at a time in writing (Vaswani et al., 2017;
//! norms before the layers: Radford et al., 2019).
//!
//! ```text
//! x₀ = embedding + place
//! x ← x + W_o·Attention(norm(x)·W_q, norm(x)·W_k, norm(x)·W_v)        in each block
//! x ← x + W₂·gelu(W₁·norm(x))
//! logits = W·norm(x)
//! ```
//!
//! Shapes: `N` stretches of `T` characters, `H` heads of width `D`, and `W = H·D`.
//!
//! **The cache.** Keys and values of a block depend on their own position and those before, so that they stay what they
//! were when a character is added. They are kept as two tensors as long as the context, `[N, H, context, D]`. The new key is
//! put in where `here` is true, and attention looks only where `past` is; both are data, so that every place is computed by
//! the same plan.

use super::Gpt;
use etude::Result;
use etude::core::AttentionOptions;
use etude::prelude::*;

/// Attention and a dense layer, each after a norm and around a shortcut.
#[derive(Module, Clone)]
pub struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    project: Linear,
    norm2: LayerNorm,
    up: Linear,
    down: Linear,
    #[module(skip)]
    heads: usize,
}

/// One block's keys and values, `[N, H, context, D]`; what is not written yet is masked.
pub type Cache = (Tensor, Tensor);

impl Block {
    fn new(width: usize, heads: usize) -> Self {
        Self {
            norm1: LayerNorm::new(width).init(),
            qkv: Linear::new(width, 3 * width).init(),
            project: Linear::new(width, width).init(),
            norm2: LayerNorm::new(width).init(),
            up: Linear::new(width, 4 * width).init(),
            down: Linear::new(4 * width, width).init(),
            heads,
        }
    }

    /// Queries, keys and values of every head.
    fn project(&self, x: &Tensor) -> [Tensor; 3] {
        let (n, t, width) = (x.size(0), x.size(1), x.size(2));
        let qkv = self.qkv.forward(&self.norm1.forward(x)); // [N, T, 3·W]
        let qkv = qkv.reshape([n, t, 3, self.heads, width / self.heads]).permute([2, 0, 3, 1, 4]); // [3, N, H, T, D]
        [0, 1, 2].map(|i| qkv.at(0, i)) // [N, H, T, D]
    }

    /// What follows attention: heads side by side again, both shortcuts, the dense layer.
    fn finish(&self, x: &Tensor, seen: &Tensor, dropout: f64) -> Tensor {
        let seen = seen.transpose(1, 2).reshape(x.shape()); // [N, T, W]
        let x = x + self.project.forward(&seen).dropout(dropout);
        let inner = self.up.forward(&self.norm2.forward(&x)).gelu(); // [N, T, 4·W]
        &x + self.down.forward(&inner).dropout(dropout)
    }

    /// `[N, T, W]` to the same; each position sees itself and those before it.
    pub fn forward(&self, x: &Tensor, dropout: f64) -> Tensor {
        let [q, k, v] = self.project(x);
        let seen = q.scaled_dot_product_attention(&k, &v, AttentionOptions::new().causal(true));
        self.finish(x, &seen, dropout)
    }

    /// The new position `x [N, 1, W]` at the place where `here [context, 1]` is true; `past [context]` is true up to it.
    fn next(&self, x: &Tensor, cache: &mut Cache, here: &Tensor, past: &Tensor) -> Tensor {
        let [q, k, v] = self.project(x); // [N, H, 1, D]
        *cache = (here.select(&k, &cache.0), here.select(&v, &cache.1));
        let seen = q.scaled_dot_product_attention(&cache.0, &cache.1, AttentionOptions::new().mask(past));
        self.finish(x, &seen, 0.0)
    }

    /// How much each position looks at each other, `[N, H, T, T]`: the softmax alone.
    pub fn weights(&self, x: &Tensor) -> Tensor {
        let [q, k, _] = self.project(x);
        let (t, d) = (q.size(2), q.size(3));
        let future = ones([t, t]).triu(1).greater(0.0);
        (q.matmul(&k.transpose(2, 3)) / (d as f64).sqrt()).masked_fill(&future, f64::NEG_INFINITY).softmax(-1)
    }
}

/// The model.
#[derive(Module, Clone)]
pub struct Transformer {
    embed: Embedding,
    /// One after another.
    pub blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
    #[module(skip)]
    positions: Tensor,
    #[module(skip)]
    dropout: f64,
}

impl Transformer {
    /// A model over `vocabulary` characters.
    pub fn new(config: &Gpt, vocabulary: usize) -> Self {
        let width = config.heads * config.head_width;
        Self {
            embed: Embedding::new(vocabulary, width).init(),
            blocks: (0..config.depth).map(|_| Block::new(width, config.heads)).collect(),
            norm: LayerNorm::new(width).init(),
            head: Linear::new(width, vocabulary).init(),
            positions: sinusoidal_positions(config.context, width, 1e4), // [context, W]
            dropout: config.dropout,
        }
    }

    /// Characters with their places, `[N, T]` to `[N, T, W]`.
    pub fn embed(&self, x: &Tensor) -> Tensor {
        self.embed.forward(x) + self.positions.narrow(0, 0, x.size(1)) // [N, T, W]
    }

    /// An empty cache for every block.
    pub fn caches(&self, count: usize) -> Vec<Cache> {
        let (context, width) = (self.positions.size(0), self.positions.size(1));
        let empty = |block: &Block| zeros([count, block.heads, context, width / block.heads]);
        self.blocks.iter().map(|block| (empty(block), empty(block))).collect()
    }

    /// Logits after character `x [N]` at place `at`, with what the caches hold of the places before.
    pub fn next(&self, x: &Tensor, at: usize, caches: &mut [Cache]) -> Result<Tensor> {
        let context = self.positions.size(0);
        let mut place = vec![0.0f32; context];
        place[at] = 1.0;
        let here = Tensor::from_slice(&place, [context, 1]).greater(0.5);
        place[..at].fill(1.0);
        let past = Tensor::from_slice(&place, [context]).greater(0.5);
        let position = here.select(&self.positions, &self.positions.zeros_like()).sum(0); // [W]
        let mut x = (self.embed.forward(x) + position).unsqueeze(1); // [N, 1, W]
        for (block, cache) in self.blocks.iter().zip(caches.iter_mut()) {
            x = block.next(&x, cache, &here, &past);
        }
        let logits = self.head.forward(&self.norm.forward(&x)).squeeze(1); // [N, vocabulary]
        let mut wanted = vec![logits.clone()];
        wanted.extend(caches.iter().flat_map(|(k, v)| [k.clone(), v.clone()]));
        Tensor::eval_all(&wanted)?;
        Ok(logits)
    }
}

impl Forward for Transformer {
    fn forward(&self, x: &Tensor) -> Tensor {
        let mut x = self.embed(&x.to(DType::I64)); // [N, T, W]
        for block in &self.blocks {
            x = block.forward(&x, self.dropout);
        }
        self.head.forward(&self.norm.forward(&x)) // [N, T, vocabulary]
    }
}
