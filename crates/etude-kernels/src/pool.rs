//! Pooling over one, two or three spatial axes, and the moves along positions that its gradients are made of.
//!
//! All work is serial inside a plane (one channel of one example) and parallel over planes.

use crate::cpu::{self, Vector, Work};
use crate::threads::{SendPointer, parallel};
use crate::{DType, Element, Float};
use bytemuck::{cast_slice, cast_slice_mut};

/// Sizes of a pooling. One or two axes are passed as three: the leading ones have input, kernel, stride, dilation and
/// output 1 and padding 0. Padding is at the beginning; what lies beyond the end is not there, so `output` is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolGeometry {
    /// Batch times channels.
    pub planes: usize,
    /// Sizes of an input plane.
    pub input: [usize; 3],
    /// Sizes of the window.
    pub kernel: [usize; 3],
    /// From one window to the next.
    pub stride: [usize; 3],
    /// Elements before the input that windows may cover.
    pub padding: [usize; 3],
    /// From one element of a window to the next.
    pub dilation: [usize; 3],
    /// Windows along each axis.
    pub output: [usize; 3],
}

impl PoolGeometry {
    /// Whether windows are 2×2 squares side by side, all inside one plane of the input.
    fn is_two_by_two(&self) -> bool {
        self.kernel == [1, 2, 2]
            && self.stride[1..] == [2, 2]
            && self.padding == [0; 3]
            && self.dilation[1..] == [1, 1]
            && self.input[0] == 1
            && self.output[0] == 1
            && 2 * self.output[1] <= self.input[1]
            && 2 * self.output[2] <= self.input[2]
    }

    /// Elements of one input plane.
    pub fn input_size(&self) -> usize {
        self.input.iter().product()
    }

    /// Elements of one output plane.
    pub fn output_size(&self) -> usize {
        self.output.iter().product()
    }

    /// The taps of window `at` along `axis` that meet real elements, as (first element, count); they are `dilation`
    /// apart.
    pub(crate) fn window(&self, axis: usize, at: usize) -> (usize, usize) {
        let (start, padding) = (at * self.stride[axis], self.padding[axis]);
        let (step, size) = (self.dilation[axis].max(1), self.input[axis]);
        let skipped = padding.saturating_sub(start).div_ceil(step);
        let first = start + skipped * step;
        let inside = (size + padding).saturating_sub(first).div_ceil(step);
        (first.saturating_sub(padding), inside.min(self.kernel[axis].saturating_sub(skipped)))
    }

    /// Calls `visit(o, flat index, …)` for the windows of a plane in order: `o` counts windows, the closure gets the
    /// window's three (first, count) pairs.
    #[inline(always)]
    fn windows(&self, mut visit: impl FnMut(usize, [(usize, usize); 3])) {
        let mut index = 0;
        for z in 0..self.output[0] {
            let depth = self.window(0, z);
            for y in 0..self.output[1] {
                let height = self.window(1, y);
                for x in 0..self.output[2] {
                    visit(index, [depth, height, self.window(2, x)]);
                    index += 1;
                }
            }
        }
    }

    /// Calls `visit` with the flat index of every real element of a window, in order.
    #[inline(always)]
    fn elements(&self, window: [(usize, usize); 3], mut visit: impl FnMut(usize)) {
        let [(z, zs), (y, ys), (x, xs)] = window;
        for dz in 0..zs {
            let plane = (z + dz * self.dilation[0]) * self.input[1];
            for dy in 0..ys {
                let row = (plane + y + dy * self.dilation[1]) * self.input[2] + x;
                for dx in 0..xs {
                    visit(row + dx * self.dilation[2]);
                }
            }
        }
    }

    fn check(&self, input: usize, output: usize) {
        assert_eq!(input, self.planes * self.input_size(), "pooling: input of {self:?}");
        assert_eq!(output, self.planes * self.output_size(), "pooling: output of {self:?}");
    }
}

/// Runs `work(plane, piece of out)` for every plane, some planes to a task so that a task has enough to do.
fn over_planes<T: Send>(planes: usize, size: usize, cost: usize, out: &mut [T], work: impl Fn(usize, &mut [T]) + Sync) {
    assert_eq!(out.len(), planes * size, "pooling: {planes} planes of {size}");
    let group = ((1 << 15) / (size * cost).max(1)).clamp(1, planes.max(1));
    let base = SendPointer(out.as_mut_ptr());
    parallel(planes.div_ceil(group), |task| {
        for plane in task * group..planes.min((task + 1) * group) {
            // SAFETY: each plane is a piece of `out` of its own, and `out` is borrowed until all tasks have ended.
            work(plane, unsafe { std::slice::from_raw_parts_mut(base.at(plane * size), size) });
        }
    });
}

/// The maximum of each window, `y [planes, output]`, and where in its plane it lies, as a flat index into the input.
/// The first of equals wins, NaN wins over everything, padding never wins. A window without any real element gives the
/// dtype's smallest value and position 0.
pub fn max_forward<T: Element>(g: &PoolGeometry, x: &[T], y: &mut [T], positions: &mut [i64]) {
    (T::elements().pool_max_forward)(g, x, y, positions)
}

/// The body of [`max_forward`], compiled once for each type in this crate.
pub(crate) fn max_forward_body<T: Element>(g: &PoolGeometry, x: &[T], y: &mut [T], positions: &mut [i64]) {
    g.check(x.len(), y.len());
    assert_eq!(y.len(), positions.len(), "pooling: as many positions as outputs");
    let (from, to) = (g.input_size(), g.output_size());
    let base = SendPointer(positions.as_mut_ptr());
    over_planes(g.planes, to, g.kernel.iter().product(), y, |plane, y| {
        let x = &x[plane * from..][..from];
        // SAFETY: each plane has positions of its own, as many as outputs.
        let positions = unsafe { std::slice::from_raw_parts_mut(base.at(plane * to), to) };
        if T::DTYPE == DType::F32 {
            let work = MaxPlane { g, x: cast_slice(x), y: cast_slice_mut(y), positions };
            // SAFETY: the work holds no pointers.
            unsafe { cpu::run(work) };
        } else {
            max_plane(g, x, y, positions);
        }
    });
}

/// A plane of f32, compiled for each instruction set: the loops have no branches, so that they become vectors.
struct MaxPlane<'a> {
    g: &'a PoolGeometry,
    x: &'a [f32],
    y: &'a mut [f32],
    positions: &'a mut [i64],
}

// SAFETY: everything is inlined.
unsafe impl Work<f32> for MaxPlane<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector<f32>>(self) {
        max_plane(self.g, self.x, self.y, self.positions);
    }
}

#[inline(always)]
fn max_plane<T: Element>(g: &PoolGeometry, x: &[T], y: &mut [T], positions: &mut [i64]) {
    let (width, columns) = (g.input[2], g.output[2]);
    if columns == 0 {
        return;
    }
    for (row, (y, positions)) in y.chunks_exact_mut(columns).zip(positions.chunks_exact_mut(columns)).enumerate() {
        if g.is_two_by_two() {
            let first = 2 * row * width;
            let (upper, lower) = (&x[first..][..2 * columns], &x[first + width..][..2 * columns]);
            max_two_by_two(upper, lower, first as i64, width as i64, y, positions);
        } else {
            max_row(g, row, x, y, positions);
        }
    }
}

/// Whether `value` takes the place of `best`: the first of equals stays, and so does the first NaN.
#[inline(always)]
#[allow(clippy::eq_op)]
fn is_better<T: Element>(value: T, best: T) -> bool {
    (value > best) | ((value != value) & (best == best))
}

/// The common case, a row of squares of 2×2 side by side, some at a time. The last of them may be done twice, so that
/// short rows, as of small pictures, are whole vectors too.
#[inline(always)]
fn max_two_by_two<T: Element>(upper: &[T], lower: &[T], first: i64, width: i64, y: &mut [T], positions: &mut [i64]) {
    match y.len() {
        0..4 => max_squares::<T, 1>(upper, lower, first, width, y, positions),
        4..8 => max_squares::<T, 4>(upper, lower, first, width, y, positions),
        8..16 => max_squares::<T, 8>(upper, lower, first, width, y, positions),
        _ => max_squares::<T, 16>(upper, lower, first, width, y, positions),
    }
}

/// A row of at least `N` squares, `N` at a time. Places are found as numbers as wide as an f32 and made positions
/// afterwards, so that both loops become vectors.
#[inline(always)]
fn max_squares<T: Element, const N: usize>(
    upper: &[T],
    lower: &[T],
    first: i64,
    width: i64,
    y: &mut [T],
    positions: &mut [i64],
) {
    let count = y.len();
    for start in (0..count).step_by(N) {
        let start = start.min(count - N);
        let (upper, lower) = (&upper[2 * start..][..2 * N], &lower[2 * start..][..2 * N]);
        let (y, positions) = (&mut y[start..][..N], &mut positions[start..][..N]);
        let mut places = [0i32; N];
        for i in 0..N {
            let (a, b, c, d) = (upper[2 * i], upper[2 * i + 1], lower[2 * i], lower[2 * i + 1]);
            let (right, below) = (is_better(b, a), is_better(d, c));
            let (best, other) = (if right { b } else { a }, if below { d } else { c });
            let second = is_better(other, best);
            y[i] = if second { other } else { best };
            places[i] = if second { width as i32 + below as i32 } else { right as i32 };
        }
        for i in 0..N {
            positions[i] = first + (2 * (start + i)) as i64 + places[i] as i64;
        }
    }
}

/// One row of any windows, one element of the window after the other.
#[inline(always)]
fn max_row<T: Element>(g: &PoolGeometry, row: usize, x: &[T], y: &mut [T], positions: &mut [i64]) {
    y.fill(T::from_f64(f64::NEG_INFINITY));
    positions.fill(-1);
    let (depth, height) = (g.window(0, row / g.output[1]), g.window(1, row % g.output[1]));
    let (stride, padding) = (g.stride[2], g.padding[2]);
    for z in 0..depth.1 {
        for h in 0..height.1 {
            let at = (depth.0 + z * g.dilation[0]) * g.input[1] + height.0 + h * g.dilation[1];
            let line = &x[at * g.input[2]..][..g.input[2]];
            for k in 0..g.kernel[2] {
                // The windows whose element `k` of this row is real.
                let shift = k * g.dilation[2];
                let end = (g.input[2] + padding).saturating_sub(shift).div_ceil(stride).min(y.len());
                let start = padding.saturating_sub(shift).div_ceil(stride).min(end);
                if start == end {
                    continue;
                }
                let first = start * stride + shift - padding;
                let (y, positions) = (&mut y[start..end], &mut positions[start..end]);
                let at = (at * g.input[2] + first) as i64;
                match stride {
                    1 => max_line(&line[first..], 1, at, y, positions),
                    2 => max_line(&line[first..], 2, at, y, positions),
                    _ => max_line(&line[first..], stride, at, y, positions),
                }
            }
        }
    }
    // A window without a real element.
    positions.iter_mut().for_each(|position| *position = (*position).max(0));
}

/// Every `stride`-th element of a line against the best so far; the first lies at `at`.
#[inline(always)]
fn max_line<T: Element>(line: &[T], stride: usize, at: i64, y: &mut [T], positions: &mut [i64]) {
    let line = &line[..(y.len() - 1) * stride + 1];
    for i in 0..y.len() {
        let value = line[i * stride];
        let better = (positions[i] < 0) | is_better(value, y[i]);
        y[i] = if better { value } else { y[i] };
        positions[i] = if better { at + (i * stride) as i64 } else { positions[i] };
    }
}

/// The sum of each window's real elements, `y [planes, output]`.
pub fn sum_forward<T: Float>(g: &PoolGeometry, x: &[T], y: &mut [T]) {
    (T::floats().pool_sum_forward)(g, x, y)
}

/// The body of [`sum_forward`], compiled once for each type in this crate.
pub(crate) fn sum_forward_body<T: Float>(g: &PoolGeometry, x: &[T], y: &mut [T]) {
    g.check(x.len(), y.len());
    let from = g.input_size();
    over_planes(g.planes, g.output_size(), g.kernel.iter().product(), y, |plane, y| {
        let x = &x[plane * from..][..from];
        g.windows(|index, window| {
            let mut sum = T::ZERO;
            g.elements(window, |i| sum += x[i]);
            y[index] = sum;
        });
    });
}

/// The transpose of [`sum_forward`]: each element of `gy [planes, output]` is added to all of its window's real elements
/// of `gx [planes, input]`.
pub fn sum_backward<T: Float>(g: &PoolGeometry, gy: &[T], gx: &mut [T]) {
    (T::floats().pool_sum_backward)(g, gy, gx)
}

/// The body of [`sum_backward`], compiled once for each type in this crate.
pub(crate) fn sum_backward_body<T: Float>(g: &PoolGeometry, gy: &[T], gx: &mut [T]) {
    g.check(gx.len(), gy.len());
    let to = g.output_size();
    over_planes(g.planes, g.input_size(), g.kernel.iter().product(), gx, |plane, gx| {
        let gy = &gy[plane * to..][..to];
        gx.fill(T::ZERO);
        g.windows(|index, window| g.elements(window, |i| gx[i] += gy[index]));
    });
}

/// `out[p, i] = x[p, positions[p, i]]`: `x [planes, input_len]`, `positions` and `out [planes, any]`.
///
/// # Panics
/// If a position is negative or not below `input_len`.
pub fn gather_plane<T: Element>(planes: usize, input_len: usize, positions: &[i64], x: &[T], out: &mut [T]) {
    (T::elements().pool_gather_plane)(planes, input_len, positions, x, out)
}

/// The body of [`gather_plane`], compiled once for each type in this crate.
pub(crate) fn gather_plane_body<T: Element>(
    planes: usize,
    input_len: usize,
    positions: &[i64],
    x: &[T],
    out: &mut [T],
) {
    assert_eq!(x.len(), planes * input_len, "gather: {planes} planes of {input_len}");
    assert_eq!(positions.len(), out.len(), "gather: as many positions as outputs");
    let size = out.len().checked_div(planes).unwrap_or(0);
    over_planes(planes, size, 1, out, |plane, out| {
        let x = &x[plane * input_len..][..input_len];
        for (to, &at) in out.iter_mut().zip(&positions[plane * size..]) {
            *to = x[at as usize];
        }
    });
}

/// The transpose of [`gather_plane`]: `gx [planes, input_len]` is zero, then `gx[p, positions[p, i]] += gy[p, i]`, in
/// order inside a plane.
///
/// # Panics
/// If a position is negative or not below `input_len`.
pub fn scatter_plane<T: Float>(planes: usize, input_len: usize, positions: &[i64], gy: &[T], gx: &mut [T]) {
    (T::floats().pool_scatter_plane)(planes, input_len, positions, gy, gx)
}

/// The body of [`scatter_plane`], compiled once for each type in this crate.
pub(crate) fn scatter_plane_body<T: Float>(planes: usize, input_len: usize, positions: &[i64], gy: &[T], gx: &mut [T]) {
    assert_eq!(positions.len(), gy.len(), "scatter: as many positions as gradients");
    let size = gy.len().checked_div(planes).unwrap_or(0);
    assert_eq!(gy.len(), planes * size, "scatter: {planes} planes");
    over_planes(planes, input_len, 1, gx, |plane, gx| {
        gx.fill(T::ZERO);
        for (&value, &at) in gy[plane * size..][..size].iter().zip(&positions[plane * size..]) {
            gx[at as usize] += value;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometries() -> Vec<PoolGeometry> {
        let plain = PoolGeometry {
            planes: 3,
            input: [1, 7, 9],
            kernel: [1, 2, 2],
            stride: [1, 2, 2],
            padding: [0; 3],
            dilation: [1; 3],
            output: [1, 3, 4],
        };
        vec![
            plain,
            PoolGeometry { kernel: [1, 3, 3], padding: [0, 1, 1], output: [1, 4, 5], ..plain },
            // Windows that reach beyond the end, and one that lies there altogether.
            PoolGeometry { kernel: [1, 3, 2], output: [1, 4, 6], ..plain },
            PoolGeometry {
                kernel: [1, 3, 2],
                stride: [1; 3],
                dilation: [1, 2, 3],
                padding: [0, 2, 1],
                output: [1, 7, 8],
                ..plain
            },
            PoolGeometry {
                input: [5, 4, 3],
                kernel: [2, 3, 2],
                stride: [2, 1, 1],
                padding: [1, 1, 0],
                output: [3, 4, 2],
                ..plain
            },
            PoolGeometry { planes: 0, ..plain },
            // Rows longer than what is handled at a time.
            PoolGeometry { input: [1, 5, 301], output: [1, 2, 150], ..plain },
            PoolGeometry {
                planes: 41,
                input: [1, 1, 31],
                kernel: [1, 1, 5],
                padding: [0, 0, 2],
                output: [1, 1, 16],
                ..plain
            },
        ]
    }

    /// The real elements of window `o`, by the definition.
    fn reference(g: &PoolGeometry, o: usize) -> Vec<usize> {
        let at = [o / g.output[2] / g.output[1], o / g.output[2] % g.output[1], o % g.output[2]];
        let mut found = vec![];
        for kz in 0..g.kernel[0] {
            for ky in 0..g.kernel[1] {
                for kx in 0..g.kernel[2] {
                    let k = [kz, ky, kx];
                    let p: Vec<isize> = (0..3)
                        .map(|a| (at[a] * g.stride[a] + k[a] * g.dilation[a]) as isize - g.padding[a] as isize)
                        .collect();
                    if (0..3).all(|a| p[a] >= 0 && p[a] < g.input[a] as isize) {
                        found.push(((p[0] as usize * g.input[1]) + p[1] as usize) * g.input[2] + p[2] as usize);
                    }
                }
            }
        }
        found
    }

    fn values(n: usize) -> Vec<f64> {
        (0..n).map(|i| ((i * 37 + 11) % 17) as f64 - 8.0).collect()
    }

    #[test]
    fn maxima_sums_and_their_transposes_match_the_definition() {
        for g in geometries() {
            let (from, to) = (g.input_size(), g.output_size());
            let x = values(g.planes * from);
            let gy = values(g.planes * to);
            let (mut y, mut sums) = (vec![f64::NAN; gy.len()], vec![f64::NAN; gy.len()]);
            let mut positions = vec![-1; gy.len()];
            let mut gx = vec![f64::NAN; x.len()];
            max_forward(&g, &x, &mut y, &mut positions);
            sum_forward(&g, &x, &mut sums);
            sum_backward(&g, &gy, &mut gx);
            let mut expected_gx = vec![0.0; x.len()];
            for i in 0..gy.len() {
                let (plane, o) = (i / to, i % to);
                let window = reference(&g, o);
                let x = &x[plane * from..];
                let best = window.iter().fold(f64::NEG_INFINITY, |best, &at| best.max(x[at]));
                assert_eq!(y[i], best, "{g:?} {i}");
                let first = window.iter().find(|&&at| x[at] == best).map_or(0, |&at| at as i64);
                assert_eq!(positions[i], first, "{g:?} {i}");
                assert_eq!(sums[i], window.iter().map(|&at| x[at]).sum::<f64>(), "{g:?} {i}");
                window.iter().for_each(|&at| expected_gx[plane * from + at] += gy[i]);
            }
            assert_eq!(gx, expected_gx, "{g:?}");

            let mut gathered = vec![f64::NAN; gy.len()];
            gather_plane(g.planes, from, &positions, &x, &mut gathered);
            let mut scattered = vec![f64::NAN; x.len()];
            scatter_plane(g.planes, from, &positions, &gy, &mut scattered);
            let mut expected = vec![0.0; x.len()];
            for i in 0..gy.len() {
                let at = i / to * from + positions[i] as usize;
                assert_eq!(gathered[i], x[at]);
                expected[at] += gy[i];
            }
            assert_eq!(scattered, expected);
        }
    }

    #[test]
    fn the_first_of_equals_and_nan_win() {
        let g = PoolGeometry {
            planes: 1,
            input: [1, 1, 6],
            kernel: [1, 1, 3],
            stride: [1, 1, 3],
            padding: [0; 3],
            dilation: [1; 3],
            output: [1, 1, 2],
        };
        let (mut y, mut positions) = ([0f32; 2], [0; 2]);
        max_forward(&g, &[2.0, 5.0, 5.0, 7.0, f32::NAN, f32::NAN], &mut y, &mut positions);
        assert_eq!((y[0], positions), (5.0, [1, 4]));
        assert!(y[1].is_nan());
        let (mut bytes, mut at) = ([0u8; 2], [0; 2]);
        max_forward(&g, &[0, 0, 0, 9, 200, 3], &mut bytes, &mut at);
        assert_eq!((bytes, at), ([0, 200], [0, 4]));
        let mut lowest = [0f32; 2];
        max_forward(&g, &[f32::NEG_INFINITY; 6], &mut lowest, &mut at);
        assert_eq!(at, [0, 3]);
    }

    #[test]
    fn squares_are_chosen_as_by_the_general_way_on_every_instruction_set() {
        // Ties and NaNs in all places.
        let g = PoolGeometry {
            planes: 1,
            input: [1, 16, 162],
            kernel: [1, 2, 2],
            stride: [1, 2, 2],
            padding: [0; 3],
            dilation: [1; 3],
            output: [1, 8, 81],
        };
        let x: Vec<f32> = (0..16 * 162).map(|i| if i * 7 % 11 == 0 { f32::NAN } else { (i * 37 % 5) as f32 }).collect();
        let (mut expected, mut places) = (vec![0.0; 8 * 81], vec![0; 8 * 81]);
        for row in 0..8 {
            let part = row * 81..(row + 1) * 81;
            max_row(&g, row, &x, &mut expected[part.clone()], &mut places[part]);
        }
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        crate::cpu::forced::on_each_set(|_| {
            let (mut y, mut positions) = (vec![0.0; 8 * 81], vec![0; 8 * 81]);
            max_forward(&g, &x, &mut y, &mut positions);
            assert_eq!(bits(&y), bits(&expected));
            assert_eq!(positions, places);
        });
    }
}
