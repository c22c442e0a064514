//! Small compositions: between two tensors (lerp, dot, outer, cosine), lengths, bounds, and questions about numbers.

use crate::ops::binary::Operand;
use crate::ops::{Case, Row};
use crate::{Axes, Tensor};

impl Tensor {
    /// Linear interpolation, `self + w·(other − self)`: this tensor at `w` 0, the other at 1. `w` is a number or a
    /// tensor; all broadcast.
    #[track_caller]
    pub fn lerp(&self, other: &Tensor, w: impl Operand) -> Tensor {
        self + (other - self) * w.operand(self.dtype())
    }

    /// The dot product of two tensors of one axis, `Σ aᵢbᵢ`.
    #[track_caller]
    pub fn dot(&self, other: &Tensor) -> Tensor {
        let (a, b) = (self.shape(), other.shape());
        assert!(a.rank() == 1 && a == b, "dot: {a} × {b}: takes two of one axis and one size");
        (self * other).sum(..)
    }

    /// The outer product `[m] × [n] → [m, n]`: `yᵢⱼ = aᵢbⱼ`.
    #[track_caller]
    pub fn outer(&self, other: &Tensor) -> Tensor {
        let (a, b) = (self.shape(), other.shape());
        assert!(a.rank() == 1 && b.rank() == 1, "outer: {a} × {b}: takes two of one axis each");
        self.unsqueeze(1) * other
    }

    /// The cosine of the angle between vectors along `axis`, which disappears: `Σab / (‖a‖·‖b‖)`; the others broadcast.
    /// Lengths count as at least 1e-8, so that the cosine with a zero vector, and its gradient, are 0 and not NaN.
    #[track_caller]
    pub fn cosine_similarity(&self, other: &Tensor, axis: i32) -> Tensor {
        let product = self * other;
        let shape = product.shape();
        let scale = |x: &Tensor| x.square().expand(shape).sum(axis).maximum(1e-16).rsqrt();
        product.sum(axis) * (scale(self) * scale(other))
    }

    /// Vectors over `axes` scaled to length 1: `x / ‖x‖₂`. Lengths count as at least 1e-12, so that a zero vector stays
    /// one and its gradient is finite.
    #[track_caller]
    pub fn normalize(&self, axes: impl Into<Axes>) -> Tensor {
        self * self.square().sum_keep(axes).maximum(1e-24).rsqrt()
    }

    /// `x`, but at least `low`: a number or a tensor, broadcast. The gradient is 0 below.
    #[track_caller]
    pub fn clamp_min(&self, low: impl Operand) -> Tensor {
        self.maximum(low)
    }

    /// `x`, but at most `high`: a number or a tensor, broadcast. The gradient is 0 above.
    #[track_caller]
    pub fn clamp_max(&self, high: impl Operand) -> Tensor {
        self.minimum(high)
    }

    /// Whether each element is a number and not infinite, as bool.
    #[track_caller]
    pub fn is_finite(&self) -> Tensor {
        self.abs().less(f64::INFINITY)
    }

    /// Whether each element is `±∞`, as bool.
    #[track_caller]
    pub fn is_infinite(&self) -> Tensor {
        self.abs().equal(f64::INFINITY)
    }

    /// `x` without its fraction, rounded towards 0. The gradient is 0.
    #[track_caller]
    pub fn trunc(&self) -> Tensor {
        self.abs().floor() * self.sign()
    }

    /// The fraction `x − trunc(x)`, of `x`'s sign.
    #[track_caller]
    pub fn fract(&self) -> Tensor {
        self - self.trunc()
    }

    /// `2ˣ`.
    #[track_caller]
    pub fn exp2(&self) -> Tensor {
        (self * std::f64::consts::LN_2).exp()
    }

    /// Logarithm to base 2.
    #[track_caller]
    pub fn log2(&self) -> Tensor {
        self.ln() * std::f64::consts::LOG2_E
    }

    /// Logarithm to base 10.
    #[track_caller]
    pub fn log10(&self) -> Tensor {
        self.ln() * std::f64::consts::LOG10_E
    }

    /// `ln(eᵃ + eᵇ)` without overflow, broadcast.
    #[track_caller]
    pub fn logaddexp(&self, other: &Tensor) -> Tensor {
        // Where both are the same infinity their difference is none, and the larger is the answer.
        let gap = (self - other).abs();
        let small = (-gap.masked_fill(&gap.is_nan(), f64::INFINITY)).exp().log1p();
        self.maximum(other) + small
    }

    /// The length of the hypotenuse, `√(a² + b²)`, without overflow on the way, broadcast.
    #[track_caller]
    pub fn hypot(&self, other: &Tensor) -> Tensor {
        let (a, b) = (self.abs(), other.abs());
        let (long, short) = (a.maximum(&b), a.minimum(&b));
        let scale = long.masked_fill(&long.equal(0.0), 1.0);
        let ratio = short / &scale;
        long * (ratio.square() + 1.0).sqrt()
    }
}

pub(crate) fn rows() -> Vec<Row> {
    let cases = vec![
        Case::new("lerp", &[&[3, 2], &[2], &[3, 1]], |x| x[0].lerp(&x[1], &x[2])),
        Case::new("lerp by a number", &[&[3], &[3]], |x| x[0].lerp(&x[1], 0.25))
            .reference(|x| x[0].iter().zip(&x[1]).map(|(a, b)| 0.75 * a + 0.25 * b).collect()),
        Case::new("dot", &[&[5], &[5]], |x| x[0].dot(&x[1]))
            .reference(|x| vec![x[0].iter().zip(&x[1]).map(|(a, b)| a * b).sum()]),
        Case::new("outer", &[&[2], &[3]], |x| x[0].outer(&x[1])),
        Case::new("outer with nothing", &[&[2], &[0]], |x| x[0].outer(&x[1])),
        Case::new("cosines of nothing", &[&[0, 3], &[3]], |x| x[0].cosine_similarity(&x[1], -1)),
        Case::new("cosine", &[&[2, 3], &[3]], |x| x[0].cosine_similarity(&x[1], -1)).reference(|x| {
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            x[0].chunks(3).map(|a| dot(a, &x[1]) / (dot(a, a) * dot(&x[1], &x[1])).sqrt()).collect()
        }),
        Case::new("normalize", &[&[3, 2]], |x| x[0].normalize(0)),
        Case::new("clamp_min and clamp_max", &[&[7], &[7]], |x| x[0].clamp_min(&x[1]).clamp_max(1.0)),
        Case::new("fract", &[&[6]], |x| x[0].fract()).reference(|x| x[0].iter().map(|v| v.fract()).collect()),
        Case::new("exp2", &[&[6]], |x| x[0].exp2()).reference(|x| x[0].iter().map(|v| v.exp2()).collect()),
        Case::new("log2", &[&[6]], |x| x[0].log2())
            .domain(0.3, 4.0)
            .reference(|x| x[0].iter().map(|v| v.log2()).collect()),
        Case::new("log10", &[&[6]], |x| x[0].log10())
            .domain(0.3, 4.0)
            .reference(|x| x[0].iter().map(|v| v.log10()).collect()),
        Case::new("logaddexp", &[&[4, 1], &[3]], |x| x[0].logaddexp(&x[1])),
        Case::new("hypot", &[&[4, 1], &[3]], |x| x[0].hypot(&x[1])),
    ];
    vec![Row { name: "similarity", cases }]
}

#[cfg(test)]
mod tests {
    use crate::tensor;

    #[test]
    fn zero_vectors_have_no_direction_and_a_finite_gradient() {
        let x = tensor([[0.0, 0.0], [3.0, 4.0]]).variable();
        let y = x.normalize(-1);
        assert_eq!(y.to_vec::<f32>()[..2], [0.0, 0.0]);
        assert!((y.to_vec::<f32>()[2] - 0.6).abs() < 1e-6);
        let gradients = (y.sum(..) + x.cosine_similarity(&tensor([1.0, 2.0]), 1).sum(..)).backward().unwrap();
        assert!(gradients.get(&x).unwrap().to_vec::<f32>().iter().all(|g| g.is_finite()));
    }

    #[test]
    fn infinities_and_nan_are_told_apart() {
        let x = tensor([1.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN]);
        assert_eq!(x.is_finite().to_vec::<u8>(), [1, 0, 0, 0]);
        assert_eq!(x.is_infinite().to_vec::<u8>(), [0, 1, 1, 0]);
    }

    #[test]
    fn logaddexp_at_the_ends() {
        let (a, b) = (tensor([f64::NEG_INFINITY, 1000.0, f64::INFINITY]), tensor([f64::NEG_INFINITY, 1000.0, 3.0]));
        let y = a.logaddexp(&b).to_vec::<f32>();
        assert_eq!((y[0], y[2]), (f32::NEG_INFINITY, f32::INFINITY));
        assert!((y[1] - 1000.6931).abs() < 1e-3);
    }

    #[test]
    fn hypot_neither_overflows_nor_loses_small_numbers() {
        let y = tensor([3e30, 3e-30, 0.0]).hypot(&tensor([4e30, 4e-30, 0.0])).to_vec::<f32>();
        assert!((y[0] / 5e30 - 1.0).abs() < 1e-6 && (y[1] / 5e-30 - 1.0).abs() < 1e-6 && y[2] == 0.0);
    }
}
