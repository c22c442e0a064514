//! Local response normalisation: a channel divided by what its neighbours do.

use crate::Tensor;
use crate::ops::pool::neighbour_sum;
use crate::ops::{Case, Row};

impl Tensor {
    /// `x[c] / (k + alpha/size · Σ x[c']²)^beta` of `[B, C, …]`, the sum over the `size` channels around c, of which
    /// those that do not exist count as 0 (Krizhevsky et al., 2012, with alpha divided by the size as PyTorch does).
    ///
    /// # Panics
    /// If there are no channels or `size` is 0.
    #[track_caller]
    pub fn local_response_norm(&self, size: usize, alpha: f64, beta: f64, k: f64) -> Tensor {
        let shape = self.shape();
        assert!(shape.rank() >= 2, "local_response_norm: {shape}: the input needs batch and channels");
        assert!(size > 0, "local_response_norm: the size of the neighbourhood must be at least 1");
        let planes = self.square().reshape([shape[0], shape[1], shape[2..].iter().product()]);
        let energy = neighbour_sum(&planes, size, size / 2).reshape(shape);
        self * (energy * (alpha / size as f64) + k).pow(-beta)
    }
}

/// The definition in plain loops, for `[B, C, rest]`.
fn reference(x: &[f64], [batch, channels, rest]: [usize; 3], size: usize, [alpha, beta, k]: [f64; 3]) -> Vec<f64> {
    let at = |b: usize, c: usize, i: usize| x[(b * channels + c) * rest + i];
    let energy = |b: usize, c: usize, i: usize| {
        let around = c.saturating_sub(size / 2)..(c + size.div_ceil(2)).min(channels);
        around.map(|c| at(b, c, i).powi(2)).sum::<f64>()
    };
    let value = |n: usize| {
        let (b, c, i) = (n / rest / channels, n / rest % channels, n % rest);
        at(b, c, i) / (k + alpha / size as f64 * energy(b, c, i)).powf(beta)
    };
    (0..batch * channels * rest).map(value).collect()
}

pub(crate) fn rows() -> Vec<Row> {
    let case = |shape: [usize; 3], size: usize, numbers: [f64; 3]| {
        let [alpha, beta, k] = numbers;
        let run = move |x: &[Tensor]| x[0].local_response_norm(size, alpha, beta, k);
        Case::new(format!("{shape:?} by {size}"), &[&shape], run)
            .reference(move |x| reference(&x[0], shape, size, numbers))
    };
    let cases = vec![
        case([2, 5, 3], 3, [0.3, 0.75, 1.0]),
        case([1, 4, 2], 4, [0.3, 0.5, 2.0]),
        case([1, 2, 2], 5, [0.5, 0.75, 1.0]),
        Case::new("an image", &[&[1, 3, 2, 2]], |x| x[0].local_response_norm(3, 0.1, 0.75, 2.0)),
        Case::new("no pixels", &[&[2, 3, 0]], |x| x[0].local_response_norm(3, 0.1, 0.75, 2.0)),
    ];
    vec![Row { name: "local_response_norm", cases }]
}
