//! Losses for yes or no.

use super::{Reduction, same_shape, smallest};
use etude_core::Tensor;

/// Options of [`binary_cross_entropy`].
#[derive(Clone, Debug, Default)]
pub struct BinaryCrossEntropy {
    /// A weight for each element; broadcasts. The mean does not divide by it.
    pub weights: Option<Tensor>,
    /// Over all elements.
    pub reduction: Reduction,
}

impl BinaryCrossEntropy {
    /// See [`binary_cross_entropy`].
    #[track_caller]
    pub fn loss(&self, probability: &Tensor, target: &Tensor) -> Tensor {
        same_shape("binary_cross_entropy", probability, target);
        let yes = target * bounded_ln(probability);
        let no = (1.0 - target) * bounded_ln(&(1.0 - probability));
        let losses = -(yes + no);
        self.reduction.apply(&match &self.weights {
            Some(weights) => losses * weights,
            None => losses,
        })
    }
}

/// `ln p`, at least −100; where it is cut there is no gradient, never a NaN.
#[track_caller]
fn bounded_ln(p: &Tensor) -> Tensor {
    let least = smallest(p);
    p.less(least).select(&Tensor::scalar(-100.0, p.dtype()), &p.maximum(least).ln())
}

/// Cross-entropy of probabilities against targets in [0, 1], `−t·ln p − (1 − t)·ln(1 − p)`, the mean. Logarithms are cut
/// at −100. With logits at hand, [`bce_with_logits`] is more exact.
///
/// # Panics
/// If the shapes differ.
#[track_caller]
pub fn binary_cross_entropy(probability: &Tensor, target: &Tensor) -> Tensor {
    BinaryCrossEntropy::default().loss(probability, target)
}

/// Options of [`bce_with_logits`].
#[derive(Clone, Debug, Default)]
pub struct BceWithLogits {
    /// A weight for each element; broadcasts. The mean does not divide by it.
    pub weights: Option<Tensor>,
    /// By how much targets of 1 count more than those of 0; broadcasts.
    pub positive_weight: Option<Tensor>,
    /// Over all elements.
    pub reduction: Reduction,
}

impl BceWithLogits {
    /// See [`bce_with_logits`].
    #[track_caller]
    pub fn loss(&self, logits: &Tensor, target: &Tensor) -> Tensor {
        same_shape("bce_with_logits", logits, target);
        // −ln σ(x) is softplus(−x), and −ln(1 − σ(x)) is that plus x.
        let surprise = (-logits).softplus();
        let surprise = match &self.positive_weight {
            Some(weight) => surprise * ((weight - 1.0) * target + 1.0),
            None => surprise,
        };
        let losses = (1.0 - target) * logits + surprise;
        self.reduction.apply(&match &self.weights {
            Some(weights) => losses * weights,
            None => losses,
        })
    }
}

/// Cross-entropy of logits against targets in [0, 1], `−t·ln σ(x) − (1 − t)·ln(1 − σ(x))`, the mean; exact for logits of
/// any size.
///
/// # Panics
/// If the shapes differ.
#[track_caller]
pub fn bce_with_logits(logits: &Tensor, target: &Tensor) -> Tensor {
    BceWithLogits::default().loss(logits, target)
}

/// Options of [`hinge`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Hinge {
    /// How far on its side of 0 a score should be.
    pub margin: f64,
    /// Over all elements.
    pub reduction: Reduction,
}

impl Default for Hinge {
    fn default() -> Hinge {
        Hinge { margin: 1.0, reduction: Reduction::Mean }
    }
}

impl Hinge {
    /// See [`hinge`]. The target may broadcast.
    #[track_caller]
    pub fn loss(&self, score: &Tensor, target: &Tensor) -> Tensor {
        self.reduction.apply(&(self.margin - score * target).relu())
    }
}

/// The hinge loss of support vector machines, `max(0, 1 − t·x)` for targets −1 and 1, the mean (Cortes and Vapnik, 1995).
#[track_caller]
pub fn hinge(score: &Tensor, target: &Tensor) -> Tensor {
    Hinge::default().loss(score, target)
}

/// Options of [`hinge_embedding`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct HingeEmbedding {
    /// How far apart unlike things should be.
    pub margin: f64,
    /// Over all elements.
    pub reduction: Reduction,
}

impl Default for HingeEmbedding {
    fn default() -> HingeEmbedding {
        HingeEmbedding { margin: 1.0, reduction: Reduction::Mean }
    }
}

impl HingeEmbedding {
    /// See [`hinge_embedding`]. The target may broadcast.
    #[track_caller]
    pub fn loss(&self, distance: &Tensor, target: &Tensor) -> Tensor {
        let apart = (self.margin - distance).relu();
        self.reduction.apply(&target.greater(0.0).select(distance, &apart))
    }
}

/// `x` where the target is 1 and `max(0, 1 − x)` where it is −1, the mean: distances of like things shrink, of unlike ones
/// grow up to the margin.
#[track_caller]
pub fn hinge_embedding(distance: &Tensor, target: &Tensor) -> Tensor {
    HingeEmbedding::default().loss(distance, target)
}
