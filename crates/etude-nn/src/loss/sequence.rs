//! Losses over sequences without alignment.

use super::Reduction;
use etude_core::{DType, Tensor};

/// Options of [`ctc`].
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Ctc {
    /// The class that stands for no label.
    pub blank: usize,
    /// Whether labels that fit into the steps in no way count as 0 instead of ∞.
    pub zero_infinity: bool,
    /// Over the batch; the mean first divides each loss by its number of labels (at least 1).
    pub reduction: Reduction,
}

impl Ctc {
    /// See [`ctc`].
    #[track_caller]
    pub fn loss(
        &self,
        log_probabilities: &Tensor,
        targets: &Tensor,
        input_lengths: &Tensor,
        target_lengths: &Tensor,
    ) -> Tensor {
        let whole = |x: &Tensor| x.to(DType::I64);
        let lengths = whole(target_lengths);
        let losses = log_probabilities.ctc(&whole(targets), &whole(input_lengths), &lengths, self.blank);
        let losses = match self.zero_infinity {
            true => losses.masked_fill(&losses.equal(f64::INFINITY), 0.0),
            false => losses,
        };
        self.reduction.apply(&match self.reduction {
            Reduction::Mean => &losses / lengths.to(losses.dtype()).maximum(1.0),
            _ => losses,
        })
    }
}

/// Connectionist temporal classification (Graves et al., 2006): `−ln Σ_paths Π_t p(path_t)` over the paths through
/// log-probabilities `[steps, batch, classes]` that give the labels `[batch, labels]` once repeats are merged and blanks
/// (class 0) removed; divided by the number of labels, the mean over the batch. Lengths are `[batch]`.
///
/// # Panics
/// If the shapes do not fit. Labels and lengths outside of what there is are errors on evaluation.
#[track_caller]
pub fn ctc(log_probabilities: &Tensor, targets: &Tensor, input_lengths: &Tensor, target_lengths: &Tensor) -> Tensor {
    Ctc::default().loss(log_probabilities, targets, input_lengths, target_lengths)
}
