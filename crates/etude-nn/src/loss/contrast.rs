//! Contrastive losses.

use super::{CrossEntropy, Reduction};
use etude_core::{Tensor, arange, eye};

/// Options of [`nt_xent`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct NtXent {
    /// What cosines are divided by; smaller is sharper.
    pub temperature: f64,
    /// Over all views.
    pub reduction: Reduction,
}

impl Default for NtXent {
    fn default() -> NtXent {
        NtXent { temperature: 0.5, reduction: Reduction::Mean }
    }
}

impl NtXent {
    /// See [`nt_xent`].
    #[track_caller]
    pub fn loss(&self, views: &Tensor) -> Tensor {
        let shape = views.shape();
        let even = shape.rank() == 2 && shape[0].is_multiple_of(2);
        assert!(even, "nt_xent: views must be [2 · pairs, features], two of a pair one after the other, not {shape}");
        let count = shape[0];
        let unit = views.normalize(-1);
        let cosines = unit.matmul(&unit.t()) * (1.0 / self.temperature);
        // A view is no candidate for its own partner.
        let itself = eye(count).greater(0.0);
        let numbers = arange(count);
        let partner = &numbers + 1.0 - (&numbers % 2.0) * 2.0;
        let cross_entropy = CrossEntropy { reduction: self.reduction, ..CrossEntropy::default() };
        cross_entropy.loss(&cosines.masked_fill(&itself, f64::NEG_INFINITY), &partner)
    }
}

/// SimCLR's loss over views `[2N, D]`, of which 2k and 2k+1 show the same thing (Chen et al., 2020): for each view i with
/// partner j, `−ln( exp(cos(zᵢ, zⱼ)/τ) / Σ_{k≠i} exp(cos(zᵢ, z_k)/τ) )`, the mean.
///
/// # Panics
/// If `views` is not a matrix with an even number of rows.
#[track_caller]
pub fn nt_xent(views: &Tensor, temperature: f64) -> Tensor {
    NtXent { temperature, ..NtXent::default() }.loss(views)
}
