//! Losses over classes: cross-entropy and its relatives.

use super::{Reduction, same_shape, smallest};
use etude_core::{DType, Shape, Tensor, arange};

/// `[B, C, …]` as `[B, …, C]`; `[C]` stays.
#[track_caller]
fn classes_last(x: &Tensor) -> Tensor {
    let rank = x.rank() as i32;
    if rank < 3 {
        return x.clone();
    }
    let order: Vec<i32> = [0].into_iter().chain(2..rank).chain([1]).collect();
    x.permute(order)
}

/// Stops unless `target` has the shape of `[B, C, …]` without its class axis.
#[track_caller]
fn check_classes(loss: &str, x: &Tensor, target: &Tensor) {
    let shape = x.shape();
    assert!(shape.rank() > 0, "{loss}: predictions need a class axis: [classes] or [batch, classes, …]");
    let wanted: Shape = shape.without(if shape.rank() == 1 { 0 } else { 1 });
    let given = target.shape();
    assert!(given == wanted, "{loss}: {shape} predictions want classes of shape {wanted}, not {given}");
}

/// Stops unless there is a weight for each class.
#[track_caller]
fn check_weights(loss: &str, weights: &Tensor, classes: usize) {
    assert!(weights.shape() == [classes], "{loss}: {classes} classes want as many weights, not {}", weights.shape());
}

/// The weight of each target, `[…]`; 0 where it is ignored.
#[track_caller]
fn weight_of(weights: &Tensor, target: &Tensor, ignore_index: i64) -> Tensor {
    let zero = Tensor::scalar(0.0, weights.dtype());
    let here = target.unsqueeze(-1).equal(arange(weights.size(0)));
    let ignored = target.equal(Tensor::scalar_int(ignore_index));
    ignored.select(&zero, &here.select(weights, &zero).sum(-1))
}

/// Options of [`cross_entropy`].
#[derive(Clone, Debug)]
pub struct CrossEntropy {
    /// The share ε of each target spread evenly over all classes (Szegedy et al., 2016).
    pub label_smoothing: f64,
    /// A weight for each class, `[classes]`.
    pub weights: Option<Tensor>,
    /// Class targets of this number are left out.
    pub ignore_index: i64,
    /// Over all samples; the mean over class targets divides by the sum of their weights, ignored ones left out.
    pub reduction: Reduction,
}

impl Default for CrossEntropy {
    fn default() -> CrossEntropy {
        CrossEntropy { label_smoothing: 0.0, weights: None, ignore_index: -100, reduction: Reduction::Mean }
    }
}

impl CrossEntropy {
    /// See [`cross_entropy`].
    #[track_caller]
    pub fn loss(&self, logits: &Tensor, target: &Tensor) -> Tensor {
        if target.dtype().is_float() {
            return self.of_probabilities(logits, target);
        }
        check_classes("cross_entropy", logits, target);
        if self.weights.is_none() && self.label_smoothing == 0.0 && self.reduction == Reduction::Mean {
            let (logits, target) = (classes_last(logits), target.to(DType::I64));
            return match logits.rank() {
                2 => logits.cross_entropy(&target, self.ignore_index),
                _ => {
                    let rows = [target.count(), logits.size(-1)];
                    logits.reshape(rows).cross_entropy(&target.reshape(rows[0]), self.ignore_index)
                }
            };
        }
        let log_probabilities = classes_last(logits).log_softmax(-1);
        let nll = Nll { weights: self.weights.clone(), ignore_index: self.ignore_index, reduction: self.reduction };
        let (losses, weight) = nll.weighted("cross_entropy", &log_probabilities, &target.to(DType::I64));
        if self.label_smoothing == 0.0 {
            return self.reduction.apply_weighted(&losses, &weight);
        }
        let classes = log_probabilities.size(-1);
        let spread = match &self.weights {
            Some(weights) => -(log_probabilities * weights).sum(-1),
            None => -log_probabilities.sum(-1),
        };
        let spread = spread.masked_fill(&target.equal(Tensor::scalar_int(self.ignore_index)), 0.0);
        let epsilon = self.label_smoothing;
        let losses = losses * (1.0 - epsilon) + spread * (epsilon / classes as f64);
        self.reduction.apply_weighted(&losses, &weight)
    }

    #[track_caller]
    fn of_probabilities(&self, logits: &Tensor, target: &Tensor) -> Tensor {
        same_shape("cross_entropy", logits, target);
        let (log_probabilities, mut target) = (classes_last(logits).log_softmax(-1), classes_last(target));
        let classes = log_probabilities.size(-1);
        if self.label_smoothing != 0.0 {
            target = target * (1.0 - self.label_smoothing) + self.label_smoothing / classes as f64;
        }
        if let Some(weights) = &self.weights {
            check_weights("cross_entropy", weights, classes);
            target = target * weights;
        }
        self.reduction.apply(&-(log_probabilities * target).sum(-1))
    }
}

/// Cross-entropy of logits `[B, C, …]` (or `[C]`) against classes `[B, …]` (any integer dtype) or probabilities of the
/// logits' shape (any floating dtype): `−Σ_c t_c · log softmax(x)_c`, the mean over samples. Classes of −100 are left out.
///
/// # Panics
/// If the shapes do not fit. A class outside `0 .. C` is an error on evaluation.
#[track_caller]
pub fn cross_entropy(logits: &Tensor, target: &Tensor) -> Tensor {
    CrossEntropy::default().loss(logits, target)
}

/// Options of [`nll`].
#[derive(Clone, Debug)]
pub struct Nll {
    /// A weight for each class, `[classes]`.
    pub weights: Option<Tensor>,
    /// Targets of this number are left out.
    pub ignore_index: i64,
    /// Over all samples; the mean divides by the sum of the targets' weights, ignored ones left out.
    pub reduction: Reduction,
}

impl Default for Nll {
    fn default() -> Nll {
        Nll { weights: None, ignore_index: -100, reduction: Reduction::Mean }
    }
}

impl Nll {
    /// See [`nll`].
    #[track_caller]
    pub fn loss(&self, log_probabilities: &Tensor, target: &Tensor) -> Tensor {
        check_classes("nll", log_probabilities, target);
        let (losses, weight) = self.weighted("nll", &classes_last(log_probabilities), &target.to(DType::I64));
        self.reduction.apply_weighted(&losses, &weight)
    }

    /// The weighted loss of each sample, and its weight, from log-probabilities `[…, C]`.
    #[track_caller]
    fn weighted(&self, loss: &str, log_probabilities: &Tensor, target: &Tensor) -> (Tensor, Tensor) {
        let losses = log_probabilities.surprise(target, self.ignore_index);
        match &self.weights {
            Some(weights) => {
                check_weights(loss, weights, log_probabilities.size(-1));
                let weight = weight_of(weights, target, self.ignore_index);
                (losses * &weight, weight)
            }
            None => (losses, target.not_equal(Tensor::scalar_int(self.ignore_index)).to(log_probabilities.dtype())),
        }
    }
}

/// The negative log-likelihood `−x[target]` of log-probabilities `[B, C, …]` (or `[C]`), the mean over samples. Classes of
/// −100 are left out.
///
/// # Panics
/// If the shapes do not fit. A class outside `0 .. C` is an error on evaluation.
#[track_caller]
pub fn nll(log_probabilities: &Tensor, target: &Tensor) -> Tensor {
    Nll::default().loss(log_probabilities, target)
}

/// Options of [`kl_divergence`].
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct KlDivergence {
    /// Whether the targets are logarithms of probabilities too.
    pub log_target: bool,
    /// `Mean` sums over everything but the first axis, along which it takes the mean, so that it is a divergence
    /// (PyTorch's `batchmean`).
    pub reduction: Reduction,
}

impl KlDivergence {
    /// See [`kl_divergence`].
    #[track_caller]
    pub fn loss(&self, log_prediction: &Tensor, target: &Tensor) -> Tensor {
        same_shape("kl_divergence", log_prediction, target);
        let losses = match self.log_target {
            true => target.exp() * (target - log_prediction),
            false => {
                // 0 · ln 0 is 0.
                let (least, zero) = (smallest(target), Tensor::scalar(0.0, target.dtype()));
                let own = target * target.maximum(least).ln();
                target.greater(0.0).select(&own, &zero) - target * log_prediction
            }
        };
        match self.reduction {
            Reduction::Mean if losses.rank() > 0 => losses.sum(..) * (1.0 / losses.size(0) as f64),
            reduction => reduction.apply(&losses),
        }
    }
}

/// The Kullback–Leibler divergence `Σ p·(ln p − ln q)` of log-probabilities `ln q` (first) from probabilities `p`
/// (second), the mean over the first axis (Kullback and Leibler, 1951).
///
/// # Panics
/// If the shapes differ.
#[track_caller]
pub fn kl_divergence(log_prediction: &Tensor, target: &Tensor) -> Tensor {
    KlDivergence::default().loss(log_prediction, target)
}

/// Options of [`multi_margin`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct MultiMargin {
    /// By how much the right score should exceed every other.
    pub margin: f64,
    /// The power violations are raised to, 1 or 2.
    pub power: i32,
    /// Over all samples.
    pub reduction: Reduction,
}

impl Default for MultiMargin {
    fn default() -> MultiMargin {
        MultiMargin { margin: 1.0, power: 1, reduction: Reduction::Mean }
    }
}

impl MultiMargin {
    /// See [`multi_margin`].
    #[track_caller]
    pub fn loss(&self, scores: &Tensor, target: &Tensor) -> Tensor {
        check_classes("multi_margin", scores, target);
        let (scores, target) = (classes_last(scores), target.to(DType::I64));
        let classes = scores.size(-1);
        // No class has the number that is ignored here.
        let right = -scores.surprise(&target, i64::MIN).unsqueeze(-1);
        let missing = (scores - right + self.margin).relu().powi(self.power);
        let others = target.unsqueeze(-1).not_equal(arange(classes)).to(missing.dtype());
        self.reduction.apply(&((missing * others).sum(-1) * (1.0 / classes as f64)))
    }
}

/// The hinge loss for several classes, `Σ_{j≠t} max(0, 1 − x_t + x_j) / C` for scores `[B, C]` and classes `[B]`, the mean
/// over samples (Crammer and Singer, 2001, in the form that sums over all classes: Weston and Watkins, 1999).
///
/// # Panics
/// If the shapes do not fit. A class outside `0 .. C` is an error on evaluation.
#[track_caller]
pub fn multi_margin(scores: &Tensor, target: &Tensor) -> Tensor {
    MultiMargin::default().loss(scores, target)
}
