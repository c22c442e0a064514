//! Convolutions over sentences (Kim, 2014): workload `textcnn`.

use etude::prelude::*;

/// Filters of widths 3, 4 and 5, the strongest answer of each: ids `[B, T] → [B, 2]`.
#[derive(Module, Clone)]
pub struct TextCnn {
    embed: Embedding,
    convs: Vec<Conv1d>,
    drop: Dropout,
    head: Linear,
}

impl TextCnn {
    /// With weights drawn.
    pub fn new(vocabulary: usize, width: usize, filters: usize, dropout: f64) -> TextCnn {
        TextCnn {
            embed: Embedding::new(vocabulary, width).init(),
            convs: [3, 4, 5].map(|kernel| Conv1d::new(width, filters, kernel).init()).into(),
            drop: Dropout::new(dropout),
            head: Linear::new(3 * filters, 2).init(),
        }
    }
}

impl Forward for TextCnn {
    fn forward(&self, ids: &Tensor) -> Tensor {
        let x = self.embed.forward(ids).transpose(1, 2); // [B, width, T]
        let strongest = |conv: &Conv1d| conv.forward(&x).relu().max(-1); // [B, filters]
        let features = cat(&self.convs.iter().map(strongest).collect::<Vec<_>>(), 1); // [B, 3·filters]
        self.head.forward(&self.drop.forward(&features))
    }
}
