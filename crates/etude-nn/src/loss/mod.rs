//! Losses. Each is a function of predictions and targets that gives one number, the mean; the struct of the same name
//! holds the options: `CrossEntropy { label_smoothing: 0.1, ..CrossEntropy::default() }.loss(&logits, &classes)`.

mod binary;
mod classes;
mod contrast;
mod margin;
mod regression;
mod sequence;

pub use binary::{BceWithLogits, BinaryCrossEntropy, Hinge, HingeEmbedding};
pub use binary::{bce_with_logits, binary_cross_entropy, hinge, hinge_embedding};
pub use classes::{CrossEntropy, KlDivergence, MultiMargin, Nll};
pub use classes::{cross_entropy, kl_divergence, multi_margin, nll};
pub use contrast::{NtXent, nt_xent};
pub use margin::{CosineEmbedding, MarginRanking, TripletMargin};
pub use margin::{cosine_embedding, margin_ranking, triplet_margin};
pub use regression::{GaussianNll, Huber, L1, Mse, PoissonNll, SmoothL1};
pub use regression::{gaussian_nll, huber, l1, mse, poisson_nll, smooth_l1};
pub use sequence::{Ctc, ctc};

use etude_core::Tensor;

/// What becomes of the losses of single elements or samples.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Reduction {
    /// Their mean. Losses with weights or ignored targets divide by the sum of the weights that took part.
    #[default]
    Mean,
    /// Their sum.
    Sum,
    /// Nothing: the losses as they are.
    None,
}

impl Reduction {
    /// Reduces losses that all count the same.
    #[track_caller]
    pub fn apply(self, losses: &Tensor) -> Tensor {
        match self {
            Reduction::Mean => losses.mean(..),
            Reduction::Sum => losses.sum(..),
            Reduction::None => losses.clone(),
        }
    }

    /// Reduces losses that count `weight` each; the losses carry their weights already.
    #[track_caller]
    fn apply_weighted(self, losses: &Tensor, weight: &Tensor) -> Tensor {
        match self {
            Reduction::Mean => losses.sum(..) / weight.sum(..),
            _ => self.apply(losses),
        }
    }
}

/// Stops at predictions and targets of different shapes, which would broadcast to something nobody meant.
#[track_caller]
fn same_shape(loss: &str, a: &Tensor, b: &Tensor) {
    let (a, b) = (a.shape(), b.shape());
    assert!(a == b, "{loss}: {a} against {b}: both must have the same shape; reshape or expand one of them first");
}

/// The number a logarithm is taken of, at least this: nothing smaller is a normal number, or has a logarithm above −100.
fn smallest(x: &Tensor) -> f64 {
    if x.dtype() == etude_core::DType::F64 { (-100f64).exp() } else { f32::MIN_POSITIVE as f64 }
}
