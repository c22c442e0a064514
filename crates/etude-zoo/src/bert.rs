//! BERT's encoder (Devlin et al., 2019), with the parameter names of Hugging Face's `BertModel`.

use etude::core::AttentionOptions;
use etude::prelude::*;

/// The encoder without a pooler: ids `[B, T] → [B, T, width]`, every token seen by every other, all of segment 0.
///
/// ```
/// # use etude::prelude::*;
/// let sizes = etude_zoo::BertSizes { vocabulary: 50, length: 16, width: 8, depth: 1, heads: 2, inner: 32 };
/// let model = etude_zoo::Bert::new(sizes);
/// assert_eq!(model.forward(&arange(10).reshape([2, 5])).shape(), [2, 5, 8]);
/// ```
#[derive(Module, Clone)]
pub struct Bert {
    embeddings: Embeddings,
    encoder: Encoder,
}

/// The sizes of a [`Bert`].
#[derive(Clone, Copy, Debug)]
pub struct BertSizes {
    /// How many tokens there are.
    pub vocabulary: usize,
    /// The most tokens of a sequence.
    pub length: usize,
    /// Features of a token.
    pub width: usize,
    /// Layers.
    pub depth: usize,
    /// Heads of each attention.
    pub heads: usize,
    /// Features between the two dense layers.
    pub inner: usize,
}

impl BertSizes {
    /// BERT-base's: 12 layers of 768 features.
    pub const BASE: BertSizes =
        BertSizes { vocabulary: 30_522, length: 512, width: 768, depth: 12, heads: 12, inner: 3072 };
    /// MiniLM's six layers of 384 features (Wang et al., 2020).
    pub const MINI: BertSizes = BertSizes { width: 384, depth: 6, inner: 1536, ..BertSizes::BASE };
}

fn norm(width: usize) -> LayerNorm {
    LayerNorm::new(width).epsilon(1e-12).init()
}

#[derive(Module, Clone)]
struct Embeddings {
    word_embeddings: Embedding,
    position_embeddings: Embedding,
    token_type_embeddings: Embedding,
    #[module(name = "LayerNorm")]
    norm: LayerNorm,
}

impl Forward for Embeddings {
    fn forward(&self, ids: &Tensor) -> Tensor {
        let positions = self.position_embeddings.weight.value().narrow(0, 0, ids.size(1)); // [T, width]
        let segment = self.token_type_embeddings.weight.value().at(0, 0); // all tokens are of the first segment
        self.norm.forward(&(self.word_embeddings.forward(ids) + positions + segment))
    }
}

#[derive(Module, Clone)]
struct Encoder {
    layer: Vec<EncoderLayer>,
}

#[derive(Module, Clone)]
struct EncoderLayer {
    attention: Attention,
    intermediate: Intermediate,
    output: Output,
}

#[derive(Module, Clone)]
struct Attention {
    #[module(name = "self")]
    scores: SelfAttention,
    output: Output,
}

#[derive(Module, Clone)]
struct SelfAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    heads: usize,
}

#[derive(Module, Clone)]
struct Intermediate {
    dense: Linear,
}

/// A dense layer beside a shortcut, and a norm behind their sum.
#[derive(Module, Clone)]
struct Output {
    dense: Linear,
    #[module(name = "LayerNorm")]
    norm: LayerNorm,
}

impl Output {
    fn new(inputs: usize, width: usize) -> Output {
        Output { dense: Linear::new(inputs, width).init(), norm: norm(width) }
    }

    fn forward(&self, h: &Tensor, x: &Tensor) -> Tensor {
        self.norm.forward(&(self.dense.forward(h) + x))
    }
}

impl EncoderLayer {
    fn new(sizes: BertSizes) -> EncoderLayer {
        let BertSizes { width, heads, inner, .. } = sizes;
        let linear = || Linear::new(width, width).init();
        EncoderLayer {
            attention: Attention {
                scores: SelfAttention { query: linear(), key: linear(), value: linear(), heads },
                output: Output::new(width, width),
            },
            intermediate: Intermediate { dense: Linear::new(width, inner).init() },
            output: Output::new(inner, width),
        }
    }
}

impl Forward for SelfAttention {
    fn forward(&self, x: &Tensor) -> Tensor {
        let [b, t, width] = [x.size(0), x.size(1), x.size(2)];
        let split = |part: &Linear| part.forward(x).reshape([b, t, self.heads, width / self.heads]).transpose(1, 2);
        let [q, k, v] = [&self.query, &self.key, &self.value].map(split); // [B, heads, T, width/heads]
        q.scaled_dot_product_attention(&k, &v, AttentionOptions::new()).transpose(1, 2).reshape([b, t, width])
    }
}

impl Forward for EncoderLayer {
    fn forward(&self, x: &Tensor) -> Tensor {
        let x = self.attention.output.forward(&self.attention.scores.forward(x), x); // [B, T, width]
        let h = self.intermediate.dense.forward(&x).gelu(); // [B, T, inner]
        self.output.forward(&h, &x)
    }
}

impl Bert {
    /// With weights drawn.
    pub fn new(sizes: BertSizes) -> Bert {
        let table = |rows: usize| Embedding::new(rows, sizes.width).weights(Init::Normal(0.0, 0.02)).init();
        Bert {
            embeddings: Embeddings {
                word_embeddings: table(sizes.vocabulary),
                position_embeddings: table(sizes.length),
                token_type_embeddings: table(2),
                norm: norm(sizes.width),
            },
            encoder: Encoder { layer: (0..sizes.depth).map(|_| EncoderLayer::new(sizes)).collect() },
        }
    }
}

impl Forward for Bert {
    fn forward(&self, ids: &Tensor) -> Tensor {
        let x = self.embeddings.forward(ids); // [B, T, width]
        self.encoder.layer.iter().fold(x, |x, layer| layer.forward(&x))
    }
}
