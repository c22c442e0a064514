//! A model of characters (the notes' music model): workload `lstm`.

use etude::prelude::*;

/// Embedding, LSTM, dense: ids `[B, T] → [B·T, vocabulary]`.
#[derive(Module, Clone)]
pub struct CharLstm {
    embed: Embedding,
    lstm: Lstm,
    head: Linear,
}

impl CharLstm {
    /// With weights drawn.
    pub fn new(vocabulary: usize, width: usize, hidden: usize) -> CharLstm {
        CharLstm {
            embed: Embedding::new(vocabulary, width).init(),
            lstm: Lstm::new(width, hidden).init(),
            head: Linear::new(hidden, vocabulary).init(),
        }
    }
}

impl Forward for CharLstm {
    fn forward(&self, ids: &Tensor) -> Tensor {
        let h = self.lstm.forward(&self.embed.forward(ids)); // [B, T, hidden]
        let logits = self.head.forward(&h); // [B, T, vocabulary]
        logits.reshape([ids.count(), logits.size(-1)])
    }
}
