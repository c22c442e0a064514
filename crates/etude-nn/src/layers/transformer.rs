//! Transformer layers and stacks of them (Vaswani et al., 2017), under PyTorch's names.

use super::attention::{Masks, MultiheadAttention};
use super::{Activation, Dropout, LayerNorm};
use crate::{Forward, Label, Linear, Module};
use etude_core::Tensor;

/// The sizes and habits of a transformer layer; `encoder`, `decoder`, `encoder_stack` and `decoder_stack` build.
#[derive(Clone, Debug)]
pub struct TransformerConfig {
    width: usize,
    heads: usize,
    inner: usize,
    dropout: f64,
    activation: Activation,
    norm_first: bool,
    batch_first: bool,
    epsilon: f64,
}

impl TransformerConfig {
    /// Features of `width`, `heads` heads, an inner width of `inner` (usually `4·width`). Dropout 0.1, ReLU, norms after
    /// each part, `[B, T, width]`.
    pub fn new(width: usize, heads: usize, inner: usize) -> TransformerConfig {
        let (dropout, activation) = (0.1, Activation::Relu);
        TransformerConfig {
            width,
            heads,
            inner,
            dropout,
            activation,
            norm_first: false,
            batch_first: true,
            epsilon: 1e-5,
        }
    }

    /// The probability of everything that drops in a training scope.
    pub fn dropout(mut self, p: f64) -> TransformerConfig {
        self.dropout = p;
        self
    }

    /// The function between the two linear maps.
    pub fn activation(mut self, activation: Activation) -> TransformerConfig {
        self.activation = activation;
        self
    }

    /// Norms before each part instead of after (Xiong et al., 2020): deep stacks then train without a warm-up.
    pub fn norm_first(mut self, norm_first: bool) -> TransformerConfig {
        self.norm_first = norm_first;
        self
    }

    /// Whether sequences are `[B, T, …]`, as they are unless said otherwise, or `[T, B, …]`.
    pub fn batch_first(mut self, batch_first: bool) -> TransformerConfig {
        self.batch_first = batch_first;
        self
    }

    /// What the norms add under the root; 1e-5 unless said otherwise.
    pub fn epsilon(mut self, epsilon: f64) -> TransformerConfig {
        self.epsilon = epsilon;
        self
    }

    fn attention(&self) -> MultiheadAttention {
        let config = MultiheadAttention::new(self.width, self.heads);
        config.dropout(self.dropout).batch_first(self.batch_first).init()
    }

    fn norm(&self) -> LayerNorm {
        LayerNorm::new(self.width).epsilon(self.epsilon).init()
    }

    fn label(&self, kind: &str) -> Label {
        Label::new(format!("{kind} {}, {} heads, inner {}", self.width, self.heads, self.inner))
    }

    /// An encoder layer.
    pub fn encoder(&self) -> TransformerEncoderLayer {
        TransformerEncoderLayer {
            self_attn: self.attention(),
            linear1: Linear::new(self.width, self.inner).init(),
            dropout: Dropout::new(self.dropout),
            linear2: Linear::new(self.inner, self.width).init(),
            norm1: self.norm(),
            norm2: self.norm(),
            dropout1: Dropout::new(self.dropout),
            dropout2: Dropout::new(self.dropout),
            activation: self.activation,
            norm_first: self.norm_first,
            label: self.label("TransformerEncoderLayer"),
        }
    }

    /// A decoder layer.
    pub fn decoder(&self) -> TransformerDecoderLayer {
        TransformerDecoderLayer {
            self_attn: self.attention(),
            multihead_attn: self.attention(),
            linear1: Linear::new(self.width, self.inner).init(),
            dropout: Dropout::new(self.dropout),
            linear2: Linear::new(self.inner, self.width).init(),
            norm1: self.norm(),
            norm2: self.norm(),
            norm3: self.norm(),
            dropout1: Dropout::new(self.dropout),
            dropout2: Dropout::new(self.dropout),
            dropout3: Dropout::new(self.dropout),
            activation: self.activation,
            norm_first: self.norm_first,
            label: self.label("TransformerDecoderLayer"),
        }
    }

    /// `layers` encoder layers, with a norm at the end if asked for (with norms first it belongs there).
    pub fn encoder_stack(&self, layers: usize, final_norm: bool) -> TransformerEncoder {
        let layers = (0..layers).map(|_| self.encoder()).collect();
        TransformerEncoder { layers, norm: final_norm.then(|| self.norm()) }
    }

    /// `layers` decoder layers, with a norm at the end if asked for.
    pub fn decoder_stack(&self, layers: usize, final_norm: bool) -> TransformerDecoder {
        let layers = (0..layers).map(|_| self.decoder()).collect();
        TransformerDecoder { layers, norm: final_norm.then(|| self.norm()) }
    }
}

/// One part of a layer with its way around it: `norm(x + part(x))`, or `x + part(norm(x))` with the norm first.
#[track_caller]
fn around(x: &Tensor, norm: &LayerNorm, norm_first: bool, part: impl FnOnce(&Tensor) -> Tensor) -> Tensor {
    if norm_first { x + part(&norm.forward(x)) } else { norm.forward(&(x + part(x))) }
}

/// An encoder layer: attention of the sequence to itself, then two linear maps position by position, each with a way
/// around it and a norm. `[B, T, width] → [B, T, width]`.
#[derive(Module, Clone, Debug)]
pub struct TransformerEncoderLayer {
    /// Attention to itself.
    pub self_attn: MultiheadAttention,
    /// To the inner width.
    pub linear1: Linear,
    dropout: Dropout,
    /// Back from the inner width.
    pub linear2: Linear,
    /// Norm of the attention.
    pub norm1: LayerNorm,
    /// Norm of the linear maps.
    pub norm2: LayerNorm,
    dropout1: Dropout,
    dropout2: Dropout,
    #[module(skip)]
    activation: Activation,
    norm_first: bool,
    label: Label,
}

impl TransformerEncoderLayer {
    /// The output for `x` where `masks` say what is not seen.
    #[track_caller]
    pub fn encode(&self, x: &Tensor, masks: &Masks) -> Tensor {
        self.label.call(self, || {
            let x = around(x, &self.norm1, self.norm_first, |x| {
                self.dropout1.forward(&self.self_attn.attend(x, x, x, masks).0)
            });
            around(&x, &self.norm2, self.norm_first, |x| {
                let inner = self.dropout.forward(&self.activation.apply(&self.linear1.forward(x)));
                self.dropout2.forward(&self.linear2.forward(&inner))
            })
        })
    }
}

impl Forward for TransformerEncoderLayer {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        self.encode(x, &Masks::none())
    }
}

/// A decoder layer: attention of the sequence to itself, then to the encoder's output, then two linear maps, each with a
/// way around it and a norm. `[B, T, width]`, memory `[B, S, width]` → `[B, T, width]`.
#[derive(Module, Clone, Debug)]
pub struct TransformerDecoderLayer {
    /// Attention to itself.
    pub self_attn: MultiheadAttention,
    /// Attention to the memory.
    pub multihead_attn: MultiheadAttention,
    /// To the inner width.
    pub linear1: Linear,
    dropout: Dropout,
    /// Back from the inner width.
    pub linear2: Linear,
    /// Norm of the attention to itself.
    pub norm1: LayerNorm,
    /// Norm of the attention to the memory.
    pub norm2: LayerNorm,
    /// Norm of the linear maps.
    pub norm3: LayerNorm,
    dropout1: Dropout,
    dropout2: Dropout,
    dropout3: Dropout,
    #[module(skip)]
    activation: Activation,
    norm_first: bool,
    label: Label,
}

impl TransformerDecoderLayer {
    /// The output for `x` with `memory` to look at; `masks` say what of `x` is not seen, `memory_masks` what of the
    /// memory.
    #[track_caller]
    pub fn decode(&self, x: &Tensor, memory: &Tensor, masks: &Masks, memory_masks: &Masks) -> Tensor {
        self.label.call(self, || {
            let x = around(x, &self.norm1, self.norm_first, |x| {
                self.dropout1.forward(&self.self_attn.attend(x, x, x, masks).0)
            });
            let x = around(&x, &self.norm2, self.norm_first, |x| {
                self.dropout2.forward(&self.multihead_attn.attend(x, memory, memory, memory_masks).0)
            });
            around(&x, &self.norm3, self.norm_first, |x| {
                let inner = self.dropout.forward(&self.activation.apply(&self.linear1.forward(x)));
                self.dropout3.forward(&self.linear2.forward(&inner))
            })
        })
    }
}

/// Encoder layers one after another.
#[derive(Module, Clone, Debug)]
pub struct TransformerEncoder {
    /// The layers, the first first.
    pub layers: Vec<TransformerEncoderLayer>,
    /// A norm at the end.
    pub norm: Option<LayerNorm>,
}

impl TransformerEncoder {
    /// The output for `x` where `masks` say what is not seen.
    #[track_caller]
    pub fn encode(&self, x: &Tensor, masks: &Masks) -> Tensor {
        let x = self.layers.iter().fold(x.clone(), |x, layer| layer.encode(&x, masks));
        self.norm.as_ref().map_or_else(|| x.clone(), |norm| norm.forward(&x))
    }
}

impl Forward for TransformerEncoder {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        self.encode(x, &Masks::none())
    }
}

/// Decoder layers one after another.
#[derive(Module, Clone, Debug)]
pub struct TransformerDecoder {
    /// The layers, the first first.
    pub layers: Vec<TransformerDecoderLayer>,
    /// A norm at the end.
    pub norm: Option<LayerNorm>,
}

impl TransformerDecoder {
    /// The output for `x` with `memory` to look at; see [`TransformerDecoderLayer::decode`].
    #[track_caller]
    pub fn decode(&self, x: &Tensor, memory: &Tensor, masks: &Masks, memory_masks: &Masks) -> Tensor {
        let x = self.layers.iter().fold(x.clone(), |x, layer| layer.decode(&x, memory, masks, memory_masks));
        self.norm.as_ref().map_or_else(|| x.clone(), |norm| norm.forward(&x))
    }
}
