//! Pictures and signals at another size: nearest, linear and cubic interpolation, and pixel shuffling.

use crate::ops::{Case, Row};
use crate::{Shape, Tensor};

/// How values between samples are found. Names and conventions are those of PyTorch's `interpolate`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Interpolation {
    /// The sample at `⌊i·in/out⌋`.
    Nearest,
    /// The sample whose centre is nearest, `⌊(i+½)·in/out⌋`.
    NearestExact,
    /// Between the two samples beside, along each axis: linear, bilinear, trilinear.
    Linear {
        /// Whether the corner samples' centres stay where they are; otherwise the outer edges do.
        align_corners: bool,
    },
    /// Over four samples along each axis by cubic convolution with a = −0.75 (Keys, 1981).
    Cubic {
        /// As for linear.
        align_corners: bool,
    },
}

/// One axis of the result: which samples each place draws on, and with what weights.
struct Taps {
    /// `places[t][i]`: tap t of place i.
    places: Vec<Vec<i64>>,
    weights: Vec<Vec<f64>>,
}

/// The parameter of the cubic kernel.
const CUBIC: f64 = -0.75;

/// The kernel of cubic convolution at `distance ≥ 0` from a sample.
fn cubic(distance: f64) -> f64 {
    let (a, d) = (CUBIC, distance);
    match d {
        d if d <= 1.0 => ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0,
        d if d < 2.0 => (((d - 5.0) * d + 8.0) * d - 4.0) * a,
        _ => 0.0,
    }
}

/// Taps for an axis of `from` samples resized to `to` places, each `step` samples from the next.
fn taps(from: usize, to: usize, step: f64, mode: Interpolation) -> Taps {
    let last = from as i64 - 1;
    let aligned = if to > 1 { last as f64 / (to - 1) as f64 } else { 0.0 };
    let centre = |i: usize, align_corners: bool| match align_corners {
        true => i as f64 * aligned,
        false => (i as f64 + 0.5) * step - 0.5,
    };
    let one = |place: &dyn Fn(usize) -> f64| {
        // Rounding must not push a whole number below itself.
        let near = |i: usize| ((place(i) * (1.0 + 1e-12)).floor() as i64).clamp(0, last);
        Taps { places: vec![(0..to).map(near).collect()], weights: Vec::new() }
    };
    match mode {
        Interpolation::Nearest => one(&|i| i as f64 * step),
        Interpolation::NearestExact => one(&|i| (i as f64 + 0.5) * step),
        Interpolation::Linear { align_corners } => {
            let at: Vec<f64> = (0..to).map(|i| centre(i, align_corners).clamp(0.0, last as f64)).collect();
            let left = |x: f64| x.floor() as i64;
            Taps {
                places: vec![
                    at.iter().map(|&x| left(x)).collect(),
                    at.iter().map(|&x| (left(x) + 1).min(last)).collect(),
                ],
                weights: vec![
                    at.iter().map(|x| 1.0 - (x - x.floor())).collect(),
                    at.iter().map(|x| x - x.floor()).collect(),
                ],
            }
        }
        Interpolation::Cubic { align_corners } => {
            let at: Vec<f64> = (0..to).map(|i| centre(i, align_corners)).collect();
            let tap = |t: i64| at.iter().map(move |x| (x.floor() as i64 + t).clamp(0, last)).collect();
            let weight = |t: i64| at.iter().map(move |x| cubic((x - x.floor() - t as f64).abs())).collect();
            Taps { places: (-1..3).map(tap).collect(), weights: (-1..3).map(weight).collect() }
        }
    }
}

impl Tensor {
    /// The pictures `[B, C, sizes…]` (one, two or three axes after the channels) at other sizes.
    ///
    /// Each axis is resized by itself as a weighted sum of samples, so gradients of every order come with it.
    ///
    /// # Panics
    /// If `sizes` has not one size for each axis after the second, or if an axis is empty.
    #[track_caller]
    pub fn interpolate(&self, sizes: &[usize], mode: Interpolation) -> Tensor {
        let shape = self.shape();
        self.check_spatial(sizes.len());
        let steps: Vec<f64> = sizes.iter().zip(&shape[2..]).map(|(&to, &from)| from as f64 / to as f64).collect();
        self.resized(sizes, &steps, mode)
    }

    /// The pictures `[B, C, sizes…]` scaled along each axis: size `⌊n·scale⌋`, and samples `1/scale` apart.
    #[track_caller]
    pub fn interpolate_by(&self, scales: &[f64], mode: Interpolation) -> Tensor {
        let shape = self.shape();
        self.check_spatial(scales.len());
        assert!(scales.iter().all(|&scale| scale > 0.0), "interpolate: scales {scales:?} must be positive");
        let sizes: Vec<usize> = scales.iter().zip(&shape[2..]).map(|(s, &n)| (s * n as f64).floor() as usize).collect();
        let steps: Vec<f64> = scales.iter().map(|scale| 1.0 / scale).collect();
        self.resized(&sizes, &steps, mode)
    }

    #[track_caller]
    fn check_spatial(&self, given: usize) {
        let shape = self.shape();
        let axes = shape.rank().saturating_sub(2);
        assert!(
            given == axes && axes > 0,
            "interpolate: {given} sizes for {shape}, which has {axes} axes after batch and channels"
        );
        assert!(self.dtype().is_float(), "interpolate: takes a floating dtype, not {}", self.dtype());
    }

    #[track_caller]
    fn resized(&self, sizes: &[usize], steps: &[f64], mode: Interpolation) -> Tensor {
        let shape = self.shape();
        let mut y = self.clone();
        for (axis, (&to, &step)) in (2..).zip(sizes.iter().zip(steps)) {
            let from = shape[axis];
            assert!(from > 0 || to == 0, "interpolate: axis {axis} of {shape} is empty");
            if to == from && step == 1.0 {
                continue;
            }
            let nearest = matches!(mode, Interpolation::Nearest | Interpolation::NearestExact);
            let axis = axis as i32;
            y = if nearest && from > 0 && to % from == 0 && step == from as f64 / to as f64 {
                // Whole multiples are views: nothing is looked up, and the gradient is a plain sum.
                y.repeat_interleave(axis, to / from)
            } else {
                y.drawn(axis, &taps(from, to, step, mode))
            };
        }
        y
    }

    /// Axis `axis` replaced by weighted sums of its samples.
    #[track_caller]
    fn drawn(&self, axis: i32, taps: &Taps) -> Tensor {
        let rank = self.rank();
        let tap = |t: usize| self.index_select(axis, &Tensor::from_slice(&taps.places[t], taps.places[t].len()));
        let weighted = |t: usize| {
            let weights = &taps.weights[t];
            let line = Shape::new(&vec![1; rank]).with(axis as usize, weights.len());
            tap(t) * Tensor::from_slice(weights, line).to(self.dtype())
        };
        if taps.weights.is_empty() { tap(0) } else { (0..taps.weights.len()).map(weighted).sum() }
    }

    /// Channels spread over space: `[B, C·r², H, W] → [B, C, r·H, r·W]`, channel `c·r² + i·r + j` to offset (i, j) of
    /// each r × r block (Shi et al., 2016).
    #[track_caller]
    pub fn pixel_shuffle(&self, r: usize) -> Tensor {
        let shape = self.shape();
        let [b, c, h, w] = shape[..] else { panic!("pixel_shuffle: takes [B, C·r², H, W], not {shape}") };
        assert!(
            r > 0 && c % (r * r) == 0,
            "pixel_shuffle: {c} channels of {shape} are no multiple of {r}² = {}",
            r * r
        );
        let blocks = self.reshape([b, c / (r * r), r, r, h, w]).permute([0, 1, 4, 2, 5, 3]);
        blocks.reshape([b, c / (r * r), h * r, w * r])
    }

    /// The opposite of [`Tensor::pixel_shuffle`]: `[B, C, r·H, r·W] → [B, C·r², H, W]`.
    #[track_caller]
    pub fn pixel_unshuffle(&self, r: usize) -> Tensor {
        let shape = self.shape();
        let [b, c, h, w] = shape[..] else { panic!("pixel_unshuffle: takes [B, C, r·H, r·W], not {shape}") };
        assert!(
            r > 0 && h % r == 0 && w % r == 0,
            "pixel_unshuffle: height and width of {shape} are no multiples of {r}"
        );
        let blocks = self.reshape([b, c, h / r, r, w / r, r]).permute([0, 1, 3, 5, 2, 4]);
        blocks.reshape([b, c * r * r, h / r, w / r])
    }
}

pub(crate) fn rows() -> Vec<Row> {
    use Interpolation::*;
    let case = |name: &'static str, shape: &[usize], sizes: &'static [usize], mode: Interpolation| {
        Case::new(name, &[shape], move |x| x[0].interpolate(sizes, mode).square())
    };
    let cases = vec![
        case("nearest twice as large", &[1, 2, 2, 3], &[4, 6], Nearest),
        case("nearest, uneven", &[1, 1, 3, 4], &[5, 2], Nearest),
        case("nearest by centres", &[2, 1, 5], &[3], NearestExact),
        Case::new("linear in between", &[&[1, 1, 2]], |x| x[0].interpolate(&[4], Linear { align_corners: false }))
            .reference(|x| [1.0, 0.75, 0.25, 0.0].iter().map(|w| w * x[0][0] + (1.0 - w) * x[0][1]).collect()),
        case("bilinear", &[1, 2, 3, 2], &[2, 5], Linear { align_corners: true }),
        case("trilinear", &[1, 1, 2, 3, 2], &[3, 2, 2], Linear { align_corners: false }),
        case("cubic", &[1, 1, 4, 3], &[3, 7], Cubic { align_corners: false }),
        case("cubic, corners aligned", &[1, 1, 2, 3], &[4, 1], Cubic { align_corners: true }),
        case("from one sample", &[1, 1, 1], &[3], Linear { align_corners: true }),
        case("no picture", &[0, 2, 3], &[2], Linear { align_corners: false }),
        Case::new("by a scale", &[&[1, 1, 4]], |x| x[0].interpolate_by(&[1.6], Linear { align_corners: false })),
        Case::new("pixel shuffle and back", &[&[1, 4, 2, 3]], |x| x[0].pixel_shuffle(2).pixel_unshuffle(2))
            .reference(|x| x[0].clone()),
        Case::new("pixel shuffle", &[&[1, 4, 1, 2]], |x| x[0].pixel_shuffle(2))
            .reference(|x| [0, 2, 1, 3, 4, 6, 5, 7].iter().map(|&at| x[0][at]).collect()),
    ];
    vec![Row { name: "interpolate", cases }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_every_place_add_up_to_one() {
        for align_corners in [false, true] {
            for mode in [Interpolation::Linear { align_corners }, Interpolation::Cubic { align_corners }] {
                for (from, to) in [(1, 5), (5, 1), (3, 7), (7, 3), (4, 8)] {
                    let taps = taps(from, to, from as f64 / to as f64, mode);
                    for i in 0..to {
                        let sum: f64 = taps.weights.iter().map(|weights| weights[i]).sum();
                        assert!((sum - 1.0).abs() < 1e-14, "{mode:?} {from} to {to}: place {i} sums to {sum}");
                    }
                }
            }
        }
    }

    #[test]
    fn nearest_takes_the_sample_that_exact_fractions_say() {
        for from in 1..40 {
            for to in 1..90 {
                let taps = taps(from, to, from as f64 / to as f64, Interpolation::Nearest);
                let wanted: Vec<i64> = (0..to).map(|i| (i * from / to) as i64).collect();
                assert_eq!(taps.places[0], wanted, "{from} to {to}");
            }
        }
    }

    #[test]
    fn cubic_interpolation_passes_through_its_samples() {
        let x = Tensor::from_slice(&[3.0, -1.0, 4.0, 1.0, -5.0], [1, 1, 5]);
        let y = x.interpolate(&[9], Interpolation::Cubic { align_corners: true }).to_vec::<f64>();
        for (sample, found) in x.to_vec::<f64>().iter().zip(y.iter().step_by(2)) {
            assert!((sample - found).abs() < 1e-14, "{y:?}");
        }
        assert!(y.iter().skip(1).step_by(2).all(|between| between.abs() > 0.1), "{y:?}");
    }
}
