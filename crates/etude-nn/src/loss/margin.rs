//! Losses that push things apart or together up to a margin.

use super::{Reduction, same_shape};
use etude_core::Tensor;

/// Options of [`triplet_margin`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct TripletMargin {
    /// By how much the negative should be farther away than the positive.
    pub margin: f64,
    /// The order of the norm distances are measured in.
    pub power: f64,
    /// Added to differences, so that distances are never exactly 0, where the norm has a kink.
    pub epsilon: f64,
    /// Whether the negative's distance is the smaller of those to anchor and positive (Balntas et al., 2016).
    pub swap: bool,
    /// Over all samples.
    pub reduction: Reduction,
}

impl Default for TripletMargin {
    fn default() -> TripletMargin {
        TripletMargin { margin: 1.0, power: 2.0, epsilon: 1e-6, swap: false, reduction: Reduction::Mean }
    }
}

impl TripletMargin {
    /// See [`triplet_margin`].
    #[track_caller]
    pub fn loss(&self, anchor: &Tensor, positive: &Tensor, negative: &Tensor) -> Tensor {
        same_shape("triplet_margin", anchor, positive);
        same_shape("triplet_margin", anchor, negative);
        let distance = |a: &Tensor, b: &Tensor| (a - b + self.epsilon).norm_p(self.power, -1);
        let near = distance(anchor, positive);
        let far = match self.swap {
            true => distance(anchor, negative).minimum(distance(positive, negative)),
            false => distance(anchor, negative),
        };
        self.reduction.apply(&(near - far + self.margin).relu())
    }
}

/// `max(0, ‖a − p‖ − ‖a − n‖ + 1)` of vectors along the last axis, the mean over the others (Schroff et al., 2015, with
/// plain instead of squared distances).
///
/// # Panics
/// If the shapes differ.
#[track_caller]
pub fn triplet_margin(anchor: &Tensor, positive: &Tensor, negative: &Tensor) -> Tensor {
    TripletMargin::default().loss(anchor, positive, negative)
}

/// Options of [`cosine_embedding`].
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct CosineEmbedding {
    /// The cosine up to which unlike things may be close.
    pub margin: f64,
    /// Over all samples.
    pub reduction: Reduction,
}

impl CosineEmbedding {
    /// See [`cosine_embedding`].
    #[track_caller]
    pub fn loss(&self, a: &Tensor, b: &Tensor, target: &Tensor) -> Tensor {
        same_shape("cosine_embedding", a, b);
        let length = |x: &Tensor| x.square().sum(-1) + 1e-12;
        let cosine = (a * b).sum(-1) * (length(a) * length(b)).rsqrt();
        let apart = (&cosine - self.margin).relu();
        self.reduction.apply(&target.greater(0.0).select(&(1.0 - cosine), &apart))
    }
}

/// `1 − cos(a, b)` of vectors along the last axis where the target is 1, `max(0, cos(a, b))` where it is −1, the mean.
///
/// # Panics
/// If the shapes of `a` and `b` differ.
#[track_caller]
pub fn cosine_embedding(a: &Tensor, b: &Tensor, target: &Tensor) -> Tensor {
    CosineEmbedding::default().loss(a, b, target)
}

/// Options of [`margin_ranking`].
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct MarginRanking {
    /// By how much the one should exceed the other.
    pub margin: f64,
    /// Over all elements.
    pub reduction: Reduction,
}

impl MarginRanking {
    /// See [`margin_ranking`].
    #[track_caller]
    pub fn loss(&self, a: &Tensor, b: &Tensor, target: &Tensor) -> Tensor {
        same_shape("margin_ranking", a, b);
        self.reduction.apply(&(self.margin - target * (a - b)).relu())
    }
}

/// `max(0, −t·(a − b))`: a target of 1 wants `a` above `b`, one of −1 below; the mean.
///
/// # Panics
/// If the shapes of `a` and `b` differ.
#[track_caller]
pub fn margin_ranking(a: &Tensor, b: &Tensor, target: &Tensor) -> Tensor {
    MarginRanking::default().loss(a, b, target)
}
