//! Measures of a model: plain functions and small accumulators over slices, all in `f64`.
//!
//! Calls that cannot be right (slices of different lengths, a class that does not exist) panic at the call, as indexing
//! does. A measure over nothing is NaN, never a flattering number.

mod confusion;
mod edit;
mod neighbours;
mod ranking;
mod spectrum;

pub use confusion::{ClassScores, Confusion};
pub use edit::{edit_distance, error_rate};
pub use neighbours::neighbour_map;
pub use ranking::{Roc, auc, average_precision, roc};
pub use spectrum::{frechet_distance, mean_and_covariance, principal_components, symmetric_eigen};

use std::cmp::Ordering;

/// A mean that grows with every batch, weighted by the examples in it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mean {
    sum: f64,
    weight: f64,
}

impl Mean {
    /// Nothing so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Continues from [`Mean::parts`].
    pub fn from_parts(sum: f64, weight: f64) -> Self {
        Self { sum, weight }
    }

    /// Adds a value that stands for `weight` examples.
    pub fn add(&mut self, value: f64, weight: f64) {
        self.sum += value * weight;
        self.weight += weight;
    }

    /// The mean so far; NaN over nothing.
    pub fn value(&self) -> f64 {
        self.sum / self.weight
    }

    /// The weighted sum and the weight, to keep in a checkpoint.
    pub fn parts(&self) -> (f64, f64) {
        (self.sum, self.weight)
    }
}

/// The mean of `values`.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[track_caller]
fn same_length(what: &str, left: usize, right: usize) {
    assert!(left == right, "{what}: {left} predictions against {right} true values");
}

/// The share of predictions that are right.
#[track_caller]
pub fn accuracy(predicted: &[usize], actual: &[usize]) -> f64 {
    same_length("accuracy", predicted.len(), actual.len());
    let right = predicted.iter().zip(actual).filter(|(p, a)| p == a).count();
    right as f64 / actual.len() as f64
}

/// The share of examples whose true class is among the `k` largest of its row of `scores` (`[examples, classes]`, row by
/// row). A class that ties with the true one and comes before it counts as larger; NaN scores rank last.
#[track_caller]
pub fn top_k(scores: &[f32], actual: &[usize], k: usize) -> f64 {
    if actual.is_empty() {
        assert!(scores.is_empty(), "top_k: {} scores for no examples", scores.len());
        return f64::NAN;
    }
    let classes = scores.len() / actual.len();
    assert!(
        classes * actual.len() == scores.len() && classes > 0,
        "top_k: {} scores do not divide into {} rows",
        scores.len(),
        actual.len()
    );
    let inside = scores.chunks_exact(classes).zip(actual).filter(|(row, class)| {
        let class = **class;
        assert!(class < classes, "top_k: class {class} of {classes}");
        let own = row[class];
        let above = |(i, s): (usize, &f32)| *s > own || (own.is_nan() && !s.is_nan()) || (*s == own && i < class);
        row.iter().enumerate().filter(|&pair| above(pair)).count() < k
    });
    inside.count() as f64 / actual.len() as f64
}

/// The position of the largest value of each row of `scores` (`[rows, classes]`, row by row); the first among equals,
/// NaN counts as smallest.
#[track_caller]
pub fn argmax_rows(scores: &[f32], classes: usize) -> Vec<usize> {
    assert!(classes > 0 && scores.len().is_multiple_of(classes), "argmax_rows: {} by {classes}", scores.len());
    let largest = |row: &[f32]| {
        let better = |best: usize, i: usize| match row[i].partial_cmp(&row[best]) {
            Some(Ordering::Greater) => i,
            None if row[best].is_nan() => i,
            _ => best,
        };
        (1..classes).fold(0, better)
    };
    scores.chunks_exact(classes).map(largest).collect()
}

/// Mean squared error, `Σ (p − a)² / n`.
#[track_caller]
pub fn mean_squared_error(predicted: &[f64], actual: &[f64]) -> f64 {
    same_length("mean_squared_error", predicted.len(), actual.len());
    predicted.iter().zip(actual).map(|(p, a)| (p - a) * (p - a)).sum::<f64>() / actual.len() as f64
}

/// Root of the mean squared error, in the unit of the values.
#[track_caller]
pub fn rmse(predicted: &[f64], actual: &[f64]) -> f64 {
    mean_squared_error(predicted, actual).sqrt()
}

/// Mean absolute error, `Σ |p − a| / n`.
#[track_caller]
pub fn mean_absolute_error(predicted: &[f64], actual: &[f64]) -> f64 {
    same_length("mean_absolute_error", predicted.len(), actual.len());
    predicted.iter().zip(actual).map(|(p, a)| (p - a).abs()).sum::<f64>() / actual.len() as f64
}

/// Coefficient of determination, `1 − Σ (p − a)² / Σ (a − ā)²`; NaN when the true values do not vary.
#[track_caller]
pub fn r_squared(predicted: &[f64], actual: &[f64]) -> f64 {
    same_length("r_squared", predicted.len(), actual.len());
    let mean = actual.iter().sum::<f64>() / actual.len() as f64;
    let spread: f64 = actual.iter().map(|a| (a - mean) * (a - mean)).sum();
    let missed: f64 = predicted.iter().zip(actual).map(|(p, a)| (p - a) * (p - a)).sum();
    if spread == 0.0 { f64::NAN } else { 1.0 - missed / spread }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means() {
        let mut mean = Mean::new();
        assert!(mean.value().is_nan());
        mean.add(1.0, 3.0);
        mean.add(5.0, 1.0);
        assert_eq!(mean.value(), 2.0);
        let (sum, weight) = mean.parts();
        assert_eq!(Mean::from_parts(sum, weight), mean);
        assert_eq!(super::mean(&[1.0, 2.0, 6.0]), 3.0);
        assert!(super::mean(&[]).is_nan());
    }

    #[test]
    fn accuracies() {
        assert_eq!(accuracy(&[1, 2, 3, 3], &[1, 2, 0, 3]), 0.75);
        assert!(accuracy(&[], &[]).is_nan());
        let scores = [0.1, 0.9, 0.5, 0.3, 0.3, 0.3, f32::NAN, 0.0, 0.2];
        assert_eq!(argmax_rows(&scores, 3), [1, 0, 2]);
        assert_eq!(top_k(&scores, &[2, 1, 0], 1), 0.0);
        assert_eq!(top_k(&scores, &[2, 1, 0], 2), 2.0 / 3.0);
        assert_eq!(top_k(&scores, &[2, 1, 0], 3), 1.0);
        assert!(top_k(&[], &[], 1).is_nan());
    }

    #[test]
    #[should_panic(expected = "accuracy: 1 predictions against 2 true values")]
    fn lengths_must_agree() {
        accuracy(&[1], &[1, 2]);
    }

    #[test]
    fn regression() {
        let (p, a) = ([2.5, 0.0, 2.0, 8.0], [3.0, -0.5, 2.0, 7.0]);
        assert_eq!(mean_squared_error(&p, &a), 0.375);
        assert_eq!(rmse(&p, &a), 0.375f64.sqrt());
        assert_eq!(mean_absolute_error(&p, &a), 0.5);
        assert!((r_squared(&p, &a) - 0.948_608_137_044_967).abs() < 1e-14);
        assert!(r_squared(&[1.0], &[1.0]).is_nan());
    }
}
