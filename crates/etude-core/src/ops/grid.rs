//! Pictures read at computed places: sampling on a grid, and the grids of affine maps (Jaderberg et al., 2015).

use crate::ops::{Case, Row};
use crate::{DType, Tensor, range};

/// How a value between pixels is found.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Sampling {
    /// From the four pixels around.
    Bilinear,
    /// From the nearest pixel; no gradient reaches the grid.
    Nearest,
}

/// What stands outside of a picture that is sampled.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outside {
    /// Zeros.
    Zeros,
    /// The nearest pixel of the border.
    Border,
    /// The picture mirrored at its borders.
    Reflection,
}

/// The places `[B, h, w, 2]` that [`Tensor::grid_sample`] reads for the affine maps `theta` `[B, 2, 3]`: the places of
/// an `h` × `w` picture, each as (x, y, 1) times the map, where the picture spans −1 to 1 in x and y. `align_corners`
/// says whether the ends are the centres of the corner pixels or their outer edges.
#[track_caller]
pub fn affine_grid(theta: &Tensor, h: usize, w: usize, align_corners: bool) -> Tensor {
    let shape = theta.shape();
    let [b, 2, 3] = shape[..] else { panic!("affine_grid: the maps must be [B, 2, 3], not {shape}") };
    let dtype = theta.dtype();
    let line = |count: usize| {
        let step = match align_corners {
            true if count > 1 => 2.0 / (count - 1) as f64,
            true => return range(0.0, 0.0, count, dtype),
            false => 2.0 / count as f64,
        };
        range(if align_corners { -1.0 } else { step / 2.0 - 1.0 }, step, count, dtype)
    };
    // Each map has a column for x, one for y and one for the shift.
    let column = |i: i64| theta.at(2, i).reshape([b, 1, 1, 2]);
    let x = line(w).reshape([1, 1, w, 1]) * column(0);
    let y = line(h).reshape([1, h, 1, 1]) * column(1);
    x + y + column(2)
}

/// Places on an axis of `size` pixels, counted in pixels, from places counted from −1 to 1.
#[track_caller]
fn pixels(place: &Tensor, size: usize, align_corners: bool) -> Tensor {
    let size = size as f64;
    if align_corners { (place + 1.0) * ((size - 1.0) / 2.0) } else { ((place + 1.0) * size - 1.0) * 0.5 }
}

/// Places outside brought inside by the rule.
#[track_caller]
fn inside(place: &Tensor, size: usize, outside: Outside, align_corners: bool) -> Tensor {
    let last = size as f64 - 1.0;
    match outside {
        Outside::Zeros => place.clone(),
        Outside::Border => place.clamp(0.0, last),
        Outside::Reflection => {
            // Mirrors stand at the centres of the end pixels, or at their outer edges.
            let (low, span) = if align_corners { (0.0, last) } else { (-0.5, size as f64) };
            if span == 0.0 {
                return place * 0.0;
            }
            let way = (place - low).abs();
            let (turns, rest) = ((&way / span).floor(), &way % span);
            let back = (turns % 2.0).equal(1.0);
            let mirrored = back.select(&(span - &rest), &rest) + low;
            mirrored.clamp(0.0, last)
        }
    }
}

impl Tensor {
    /// This picture `[B, C, H, W]` read at the places of `grid` `[B, h, w, 2]`: `[B, C, h, w]`. The grid's last axis is
    /// (x, y), from −1 at the left and upper end to 1 at the right and lower; `align_corners` says whether the ends are
    /// the centres of the corner pixels or their outer edges. Differentiable by picture and grid.
    ///
    /// # Panics
    /// If the shapes do not fit, or if the picture has no pixels.
    #[track_caller]
    pub fn grid_sample(&self, grid: &Tensor, sampling: Sampling, outside: Outside, align_corners: bool) -> Tensor {
        let (shape, places) = (self.shape(), grid.shape());
        let ([b, c, height, width], [grid_b, h, w, 2]) = (&shape[..], &places[..]) else {
            panic!("grid_sample: takes [B, C, H, W] and a grid [B, h, w, 2], not {shape} and {places}");
        };
        let (b, c, height, width, h, w) = (*b, *c, *height, *width, *h, *w);
        assert!(b == *grid_b, "grid_sample: {b} pictures, but {grid_b} grids");
        assert!(height > 0 && width > 0, "grid_sample: a picture of {shape} has nothing to read");
        let place =
            |i: i64, size: usize| inside(&pixels(&grid.at(-1, i), size, align_corners), size, outside, align_corners);
        let (x, y) = (place(0, width), place(1, height));
        // Pixels as rows of channels, so that each place reads one row.
        let pixel_rows = self.permute([0, 2, 3, 1]).reshape([b * height * width, c]);
        let first = range(0.0, (height * width) as f64, b, DType::I64).reshape([b, 1, 1]);
        let read = |x: &Tensor, y: &Tensor, weight: Option<Tensor>| {
            let on_axis = |at: &Tensor, size: usize| {
                let clamped = at.clamp(0.0, size as f64 - 1.0);
                (clamped.to(DType::I64), clamped.equal(at))
            };
            let ((column, x_within), (row, y_within)) = (on_axis(x, width), on_axis(y, height));
            let rows = (&first + row * width as f64 + column).flatten();
            let found = pixel_rows.index_select(0, &rows).reshape([b, h, w, c]);
            let within = match outside {
                Outside::Zeros => Some(x_within.logical_and(&y_within).to(self.dtype())),
                _ => None,
            };
            match (weight, within) {
                (Some(weight), Some(within)) => found * (weight * within).unsqueeze(-1),
                (Some(factor), None) | (None, Some(factor)) => found * factor.unsqueeze(-1),
                (None, None) => found,
            }
        };
        let sampled = match sampling {
            Sampling::Nearest => read(&x.round(), &y.round(), None),
            Sampling::Bilinear => {
                let (left, upper) = (x.floor(), y.floor());
                let (right, lower) = (&left + 1.0, &upper + 1.0);
                let (to_right, down) = (&x - &left, &y - &upper);
                let (to_left, up) = (1.0 - &to_right, 1.0 - &down);
                read(&left, &upper, Some(&to_left * &up))
                    + read(&right, &upper, Some(&to_right * &up))
                    + read(&left, &lower, Some(&to_left * &down))
                    + read(&right, &lower, Some(&to_right * &down))
            }
        };
        sampled.permute([0, 3, 1, 2])
    }
}

pub(crate) fn rows() -> Vec<Row> {
    let mut cases = Vec::new();
    for outside in [Outside::Zeros, Outside::Border, Outside::Reflection] {
        for align_corners in [false, true] {
            let name = format!("bilinear, {outside:?} outside, corners aligned: {align_corners}");
            let run = move |x: &[Tensor]| x[0].grid_sample(&x[1], Sampling::Bilinear, outside, align_corners);
            cases.push(Case::new(name, &[&[1, 2, 3, 4], &[1, 2, 3, 2]], run).domain(-1.4, 1.4));
        }
    }
    let nearest = |x: &[Tensor]| x[0].grid_sample(&x[1], Sampling::Nearest, Outside::Zeros, false);
    cases.push(Case::new("nearest", &[&[2, 1, 3, 2], &[2, 1, 4, 2]], nearest).domain(-1.2, 1.2));
    let single = |x: &[Tensor]| x[0].grid_sample(&x[1], Sampling::Bilinear, Outside::Reflection, true);
    cases.push(Case::new("a single pixel", &[&[1, 1, 1, 1], &[1, 1, 2, 2]], single));
    cases.push(Case::new("a grid without places", &[&[1, 1, 2, 2], &[1, 0, 2, 2]], nearest));
    cases.push(Case::new("affine grid", &[&[2, 2, 3]], |x| affine_grid(&x[0], 3, 2, false).square()));
    let identity = |x: &[Tensor]| {
        let map = Tensor::from_slice(&[1.0, 0.0, 0.0, 0.0, 1.0, 0.0], [1, 2, 3]);
        x[0].grid_sample(&affine_grid(&map, 3, 4, true), Sampling::Bilinear, Outside::Zeros, true)
    };
    cases.push(Case::new("the affine map that changes nothing", &[&[1, 2, 3, 4]], identity));
    vec![Row { name: "grid_sample", cases }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arange;

    #[test]
    fn the_identity_map_gives_the_picture_back() {
        let picture = arange(12).to(DType::F64).reshape([1, 1, 3, 4]);
        let map = Tensor::from_slice(&[1.0, 0.0, 0.0, 0.0, 1.0, 0.0], [1, 2, 3]);
        for align_corners in [false, true] {
            let grid = affine_grid(&map, 3, 4, align_corners);
            let same = picture.grid_sample(&grid, Sampling::Bilinear, Outside::Border, align_corners);
            for (found, wanted) in same.to_vec::<f64>().iter().zip(0..) {
                assert!((found - wanted as f64).abs() < 1e-12, "corners aligned: {align_corners}");
            }
        }
    }

    #[test]
    fn places_that_are_no_numbers_read_something_and_do_not_fail() {
        let picture = arange(4).to(DType::F32).reshape([1, 1, 2, 2]);
        let grid = Tensor::from_slice(&[f32::NAN, 0.0, f32::INFINITY, 1e30], [1, 1, 2, 2]);
        picture.grid_sample(&grid, Sampling::Bilinear, Outside::Zeros, false).eval().unwrap();
    }
}
