//! Embeddings: vectors looked up by number.

use crate::init::Init;
use crate::{Forward, Label, Module, Param, watch};
use etude_core::{DType, Tensor, embedding, embedding_padded, eye};

/// A table of vectors looked up by number (Bengio et al., 2003): ids `[…] → […, width]`.
///
/// ```
/// # use etude_nn::*;
/// let layer = Embedding::new(83, 256).init();
/// assert_eq!(layer.forward(&etude_core::arange(5)).shape(), [5, 256]);
/// ```
#[derive(Module, Clone, Debug)]
pub struct Embedding {
    /// `[count, width]`.
    pub weight: Param,
    #[module(skip)]
    padding: Option<usize>,
    label: Label,
}

/// An [`Embedding`] before its parameters are drawn.
#[derive(Clone, Debug)]
pub struct EmbeddingConfig {
    count: usize,
    width: usize,
    padding: Option<usize>,
    weights: Init,
}

impl Embedding {
    /// `count` vectors of `width` numbers; [`EmbeddingConfig::init`] draws them.
    #[allow(clippy::new_ret_no_self)] // the one shape of all builders: `Embedding::new(…).option(…).init()`
    pub fn new(count: usize, width: usize) -> EmbeddingConfig {
        EmbeddingConfig { count, width, padding: None, weights: Init::Normal(0.0, 1.0) }
    }
}

impl EmbeddingConfig {
    /// The number that stands for "nothing here": its vector starts at 0 and is not trained.
    pub fn padding(mut self, padding: usize) -> EmbeddingConfig {
        self.padding = Some(padding);
        self
    }

    /// How the vectors start; standard normal unless said otherwise, as PyTorch does.
    pub fn weights(mut self, init: Init) -> EmbeddingConfig {
        self.weights = init;
        self
    }

    /// Draws the vectors.
    ///
    /// # Panics
    /// If the padding is not one of the numbers.
    #[track_caller]
    pub fn init(self) -> Embedding {
        let EmbeddingConfig { count, width, padding, weights } = self;
        let mut weight = weights.make([count, width]);
        if let Some(padding) = padding {
            assert!(padding < count, "Embedding: padding {padding} is not below {count}, the number of vectors");
            let row = eye(count).narrow(0, padding, 1).t().greater(0.0); // [count, 1]
            weight = weight.masked_fill(&row, 0.0);
        }
        Embedding { weight: Param::new(weight), padding, label: Label::new(format!("Embedding {count}→{width}")) }
    }
}

impl Forward for Embedding {
    #[track_caller]
    fn forward(&self, ids: &Tensor) -> Tensor {
        self.label.call(self, || {
            // A summary's zeros are floats, and stand for ids here.
            let ids = if watch::is_dry() { &ids.to(DType::I64) } else { ids };
            match self.padding {
                Some(padding) => embedding_padded(&self.weight.value(), ids, padding as i64),
                None => embedding(&self.weight.value(), ids),
            }
        })
    }
}
