//! The transforms of Winograd's F(4×4, 3×3): planes to points and back, 16 or 8 channels at a time.
//!
//! The points are 0, ±a, ±b, ∞ with a = 5/8, b = 3/2: all constants but the weights' are exact in f32, and the error is
//! half of what it is with the usual 0, ±1, ±2, ∞, at worst a quarter.

use crate::cpu::{Vector, Work};
use std::mem::MaybeUninit;

/// Side of the square of outputs a tile computes; tiles are as far apart.
pub(in crate::conv) const SIDE: usize = 4;
/// Points of a tile: 6 × 6.
pub(in crate::conv) const POINTS: usize = 36;

const A: f32 = 0.625;
const B: f32 = 1.5;
const AA: f32 = A * A;
const BB: f32 = B * B;
/// 1 / Π (p − q) over the other finite points q, for p = 0, ±a, ±b.
const AT_0: f32 = 1.0 / (AA * BB);
const AT_A: f32 = 1.0 / (2.0 * AA * (AA - BB));
const AT_B: f32 = 1.0 / (2.0 * BB * (BB - AA));

/// `x · factor + y`.
#[inline(always)]
unsafe fn fma<V: Vector<f32>>(x: V, factor: f32, y: V) -> V {
    // SAFETY: the caller runs with `V`'s instruction set.
    unsafe { x.mul_add(V::splat(factor), y) }
}

#[inline(always)]
unsafe fn times<V: Vector<f32>>(x: V, factor: f32) -> V {
    // SAFETY: as above.
    unsafe { x.mul_add(V::splat(factor), V::splat(0.0)) }
}

/// G: three weights to six points.
pub const WEIGHTS: [[f64; 3]; 6] = {
    let (a, b) = ((A * AT_A) as f64, (B * AT_B) as f64);
    let (aa, bb) = ((AA * AT_A) as f64, (BB * AT_B) as f64);
    let (at_a, at_b) = (AT_A as f64, AT_B as f64);
    [[AT_0 as f64, 0.0, 0.0], [at_a, a, aa], [at_a, -a, aa], [at_b, b, bb], [at_b, -b, bb], [0.0, 0.0, 1.0]]
};

/// A left inverse of [`WEIGHTS`]: points that come of three weights give them back.
pub const PLAIN: [[f64; 6]; 3] = {
    let half = 0.5 / (A * AT_A) as f64;
    [[1.0 / AT_0 as f64, 0.0, 0.0, 0.0, 0.0, 0.0], [0.0, half, -half, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0, 1.0]]
};

/// Bᵀ: six inputs to six points. The row of a point p holds the coefficients of Π (x − q) over the other points.
#[inline(always)]
pub(in crate::conv) unsafe fn inputs_to_points<V: Vector<f32>>(d: [V; 6]) -> [V; 6] {
    // SAFETY: as above.
    unsafe {
        let (even_a, odd_a) = (fma(d[2], -BB, d[4]), fma(d[1], -BB, d[3]));
        let (even_b, odd_b) = (fma(d[2], -AA, d[4]), fma(d[1], -AA, d[3]));
        [
            fma(d[0], AA * BB, fma(d[2], -(AA + BB), d[4])),
            fma(odd_a, A, even_a),
            fma(odd_a, -A, even_a),
            fma(odd_b, B, even_b),
            fma(odd_b, -B, even_b),
            fma(d[1], AA * BB, fma(d[3], -(AA + BB), d[5])),
        ]
    }
}

/// Aᵀ: six points to four outputs; column p holds the powers of p.
#[inline(always)]
pub(in crate::conv) unsafe fn points_to_outputs<V: Vector<f32>>(m: [V; 6]) -> [V; 4] {
    // SAFETY: as above.
    unsafe {
        let (sum_a, difference_a) = (m[1].add(m[2]), fma(m[2], -1.0, m[1]));
        let (sum_b, difference_b) = (m[3].add(m[4]), fma(m[4], -1.0, m[3]));
        [
            m[0].add(sum_a).add(sum_b),
            fma(difference_a, A, times(difference_b, B)),
            fma(sum_a, AA, times(sum_b, BB)),
            fma(difference_a, A * AA, fma(difference_b, B * BB, m[5])),
        ]
    }
}

/// A, the transpose of [`points_to_outputs`].
#[inline(always)]
unsafe fn outputs_to_points<V: Vector<f32>>(y: [V; 4]) -> [V; 6] {
    // SAFETY: as above.
    unsafe {
        let (even_a, odd_a) = (fma(y[2], AA, y[0]), fma(y[3], AA, y[1]));
        let (even_b, odd_b) = (fma(y[2], BB, y[0]), fma(y[3], BB, y[1]));
        [y[0], fma(odd_a, A, even_a), fma(odd_a, -A, even_a), fma(odd_b, B, even_b), fma(odd_b, -B, even_b), y[3]]
    }
}

/// [`WEIGHTS`] applied to three vectors.
#[inline(always)]
unsafe fn weights_to_points<V: Vector<f32>>(w: [V; 3]) -> [V; 6] {
    // SAFETY: as above.
    unsafe {
        let (even_a, odd_a) = (fma(w[2], AA * AT_A, times(w[0], AT_A)), times(w[1], A * AT_A));
        let (even_b, odd_b) = (fma(w[2], BB * AT_B, times(w[0], AT_B)), times(w[1], B * AT_B));
        [
            times(w[0], AT_0),
            even_a.add(odd_a),
            fma(odd_a, -1.0, even_a),
            even_b.add(odd_b),
            fma(odd_b, -1.0, even_b),
            w[2],
        ]
    }
}

/// Gᵀ, the transpose of [`weights_to_points`].
#[inline(always)]
unsafe fn points_to_weights<V: Vector<f32>>(u: [V; 6]) -> [V; 3] {
    // SAFETY: as above.
    unsafe {
        let (sum_a, difference_a) = (u[1].add(u[2]), fma(u[2], -1.0, u[1]));
        let (sum_b, difference_b) = (u[3].add(u[4]), fma(u[4], -1.0, u[3]));
        [
            fma(u[0], AT_0, fma(sum_a, AT_A, times(sum_b, AT_B))),
            fma(difference_a, A * AT_A, times(difference_b, B * AT_B)),
            fma(sum_a, AA * AT_A, fma(sum_b, BB * AT_B, u[5])),
        ]
    }
}

/// An array written out, so that its vectors stay in registers: a loop would put them into memory.
macro_rules! each {
    (3, $i:ident => $e:expr) => {
        [each!(@ $i 0 $e), each!(@ $i 1 $e), each!(@ $i 2 $e)]
    };
    (4, $i:ident => $e:expr) => {
        [each!(@ $i 0 $e), each!(@ $i 1 $e), each!(@ $i 2 $e), each!(@ $i 3 $e)]
    };
    (6, $i:ident => $e:expr) => {
        [each!(@ $i 0 $e), each!(@ $i 1 $e), each!(@ $i 2 $e), each!(@ $i 3 $e), each!(@ $i 4 $e), each!(@ $i 5 $e)]
    };
    (@ $i:ident $n:literal $e:expr) => {{
        let $i = $n;
        $e
    }};
}

/// A transform in two dimensions: `$step` on the columns of a square, then on the rows of what comes of it. Not a
/// function, since closures with vectors in them are compiled without the instruction set unless they happen to be
/// inlined.
macro_rules! both {
    ($step:ident, $from:tt => $to:tt, |$i:ident, $j:ident| $load:expr) => {{
        let columns = each!($from, $j => $step(each!($from, $i => $load)));
        each!($to, i => $step(each!($from, j => columns[j][i])))
    }};
}

pub(in crate::conv) use {both, each};

/// Some tiles of one image: a rectangle of tile rows and columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub image: usize,
    pub row: usize,
    pub rows: usize,
    pub column: usize,
    pub columns: usize,
    /// Whether these are all columns, so that whole rows of the plane follow one another.
    pub whole: bool,
    /// Where the piece's first tile stands among those of its block.
    pub first: usize,
}

/// The part of a plane a piece touches.
struct Area {
    top: usize,
    height: usize,
    left: usize,
    width: usize,
}

impl Piece {
    /// What `side` × `side` squares, [`SIDE`] apart and the first at `origin`, touch of a plane of `size`.
    fn area(&self, size: [usize; 2], origin: [isize; 2], side: usize) -> Area {
        let range = |first: usize, count: usize, axis: usize| {
            let inside = |at: isize| at.clamp(0, size[axis] as isize) as usize;
            let start = (first * SIDE) as isize + origin[axis];
            let (low, high) = (inside(start), inside(start + ((count - 1) * SIDE + side) as isize));
            (low, high - low)
        };
        let (top, height) = range(self.row, self.rows, 0);
        let (left, width) = if self.whole { (0, size[1]) } else { range(self.column, self.columns, 1) };
        Area { top, height, left, width }
    }

    /// Elements of a scratch for the pixels of a piece with at most so many tile rows and columns in planes so wide.
    pub(super) fn pixels(rows: usize, columns: usize, whole: bool, width: usize) -> usize {
        let width = if whole { width } else { columns * SIDE + 2 };
        16 * (16 + (rows * SIDE + 2) * width) + 16
    }
}

/// Squares of some channels of one image become points: `to[point][tile][channel]`. With `N` = 6 the squares overlap and
/// are inputs, with `N` = 4 they are gradients of outputs.
pub(super) struct Spread<const N: usize> {
    /// The image's first plane; at least a vector of planes follow one another.
    pub planes: *const f32,
    pub channels: usize,
    pub size: [usize; 2],
    /// Where in the plane the first tile's square begins; may be outside.
    pub origin: [isize; 2],
    pub piece: Piece,
    /// Room for [`Piece::pixels`].
    pub pixels: *mut f32,
    pub to: *mut f32,
    /// From one point to the next.
    pub point: usize,
    /// From one tile to the next.
    pub tile: usize,
}

/// What lies outside a plane.
pub(in crate::conv) static ZEROS: [f32; 16] = [0.0; 16];

// SAFETY: everything that uses `V` is inlined.
unsafe impl<const N: usize> Work<f32> for Spread<N> {
    #[inline(always)]
    unsafe fn run<V: Vector<f32>>(self) {
        let Piece { row, rows, column, columns, whole, first, .. } = self.piece;
        let area = self.piece.area(self.size, self.origin, N);
        let plane = self.size[0] * self.size[1];
        // A vector's worth of pixels in front, which the last vector of a plane may overwrite.
        let pixels = self.pixels.wrapping_add(V::LANES * V::LANES);
        let mut channel = 0;
        while channel < self.channels {
            // The last vector of channels overlaps the one before.
            let block = channel.min(self.channels - V::LANES);
            // SAFETY: the fields' promises: `LANES` planes from `block` exist, the area lies inside them.
            unsafe {
                let planes = self.planes.add(block * plane);
                if whole {
                    gather::<V>(planes, plane, area.top * area.width, area.height * area.width, true, pixels);
                } else {
                    for y in 0..area.height {
                        let start = (area.top + y) * self.size[1] + area.left;
                        gather::<V>(planes, plane, start, area.width, false, pixels.add(y * area.width * V::LANES));
                    }
                }
                // Offsets of the pixels of row or column `i` of a square, if they exist.
                let place = |axis: usize, tile: usize, i: usize, start: usize, step: usize| {
                    let at = (tile * SIDE + i) as isize + self.origin[axis];
                    let exists = at >= 0 && (at as usize) < self.size[axis];
                    (exists, (at as usize).wrapping_sub(start).wrapping_mul(step * V::LANES))
                };
                for r in 0..rows {
                    let ys: [_; N] = std::array::from_fn(|i| place(0, row + r, i, area.top, area.width));
                    for c in 0..columns {
                        let xs: [_; N] = std::array::from_fn(|j| place(1, column + c, j, area.left, 1));
                        let pixel = |i: usize, j: usize| {
                            let from = pixels.wrapping_add(ys[i].1.wrapping_add(xs[j].1)).cast_const();
                            if ys[i].0 && xs[j].0 { from } else { ZEROS.as_ptr() }
                        };
                        let to = self.to.add((first + r * columns + c) * self.tile + block);
                        let points = if N == 6 {
                            both!(inputs_to_points, 6 => 6, |i, j| V::load(pixel(i, j)))
                        } else {
                            both!(outputs_to_points, 4 => 6, |i, j| V::load(pixel(i, j)))
                        };
                        each!(6, i => each!(6, j => points[i][j].store(to.add((i * 6 + j) * self.point))));
                    }
                }
            }
            channel += V::LANES;
        }
    }
}

/// Turns a run of pixels of `LANES` planes into `to[pixel][plane]`. With `margin`, `LANES` pixels before `to` may be
/// overwritten.
#[inline(always)]
unsafe fn gather<V: Vector<f32>>(
    planes: *const f32,
    plane: usize,
    start: usize,
    count: usize,
    margin: bool,
    to: *mut f32,
) {
    // SAFETY: the run lies inside the planes, and `to` has room for it.
    unsafe {
        let mut p = 0;
        while p + V::LANES <= count {
            V::transpose(|i| planes.add(i * plane + start + p), to.add(p * V::LANES), V::LANES);
            p += V::LANES;
        }
        if p == count {
            return;
        }
        if count >= V::LANES || (margin && start + count >= V::LANES) {
            let back = (count as isize - V::LANES as isize) * V::LANES as isize;
            let last = start + count - V::LANES;
            V::transpose(|i| planes.add(i * plane + last), to.offset(back), V::LANES);
            return;
        }
        for p in p..count {
            for lane in 0..V::LANES {
                *to.add(p * V::LANES + lane) = *planes.add(lane * plane + start + p);
            }
        }
    }
}

/// Points of one vector of channels, `from[point][tile]`, become squares of outputs in their planes.
pub(super) struct Collect {
    pub from: *const f32,
    pub point: usize,
    pub tile: usize,
    /// Channels, at most two vectors.
    pub channels: usize,
    /// The plane of the first channel in the piece's image.
    pub planes: *mut f32,
    pub size: [usize; 2],
    pub piece: Piece,
    /// Room for [`Piece::pixels`].
    pub pixels: *mut f32,
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl Work<f32> for Collect {
    #[inline(always)]
    unsafe fn run<V: Vector<f32>>(self) {
        let Piece { row, rows, column, columns, whole, first, .. } = self.piece;
        let area = self.piece.area(self.size, [0; 2], SIDE);
        let plane = self.size[0] * self.size[1];
        let mut channel = 0;
        while channel < self.channels {
            let lanes = V::LANES.min(self.channels - channel);
            // SAFETY: the fields' promises: `lanes` planes exist, and the pixels have room for the area.
            unsafe {
                for r in 0..rows {
                    for c in 0..columns {
                        let from = self.from.add((first + r * columns + c) * self.tile + channel);
                        let square =
                            both!(points_to_outputs, 6 => 4, |i, j| V::load(from.add((i * 6 + j) * self.point)));
                        let (y, x) = ((row + r) * SIDE - area.top, (column + c) * SIDE - area.left);
                        let (height, width) = (area.height - y, area.width - x);
                        let to = self.pixels.add((y * area.width + x) * V::LANES);
                        each!(4, i => each!(4, j => if i < height && j < width {
                            square[i][j].store(to.add((i * area.width + j) * V::LANES));
                        }));
                    }
                }
                let planes = self.planes.add(channel * plane);
                if whole {
                    let (start, count) = (area.top * area.width, area.height * area.width);
                    scatter::<V>(self.pixels, lanes, planes, plane, start, count);
                } else {
                    for y in 0..area.height {
                        let start = (area.top + y) * self.size[1] + area.left;
                        let pixels = self.pixels.add(y * area.width * V::LANES);
                        scatter::<V>(pixels, lanes, planes, plane, start, area.width);
                    }
                }
            }
            channel += V::LANES;
        }
    }
}

/// The way back from [`gather`], for the first `lanes` planes.
#[inline(always)]
unsafe fn scatter<V: Vector<f32>>(
    pixels: *const f32,
    lanes: usize,
    planes: *mut f32,
    plane: usize,
    start: usize,
    count: usize,
) {
    // SAFETY: the run lies inside the planes, and all its pixels are there.
    unsafe {
        if lanes == V::LANES && count >= V::LANES {
            let mut p = 0;
            while p < count {
                let at = p.min(count - V::LANES);
                V::transpose(|i| pixels.add((at + i) * V::LANES), planes.add(start + at), plane);
                p += V::LANES;
            }
            return;
        }
        for lane in 0..lanes {
            for p in 0..count {
                *planes.add(lane * plane + start + p) = *pixels.add(p * V::LANES + lane);
            }
        }
    }
}

/// Weights of a strip of outputs become points: `to[point][depth][output]`; missing outputs are zero.
pub(super) struct Weights {
    /// The 3 × 3 weights of output o and depth d are at `o · out_step + d · depth_step`.
    pub weights: *const f32,
    pub out_step: usize,
    pub depth_step: usize,
    /// Whether kernels are turned by half a circle.
    pub turned: bool,
    pub outs: usize,
    pub depth: usize,
    pub to: *mut f32,
    pub point: usize,
    /// From one depth to the next: whole vectors.
    pub row: usize,
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl Work<f32> for Weights {
    #[inline(always)]
    unsafe fn run<V: Vector<f32>>(self) {
        // Kernels of one vector of outputs, and the same with outputs in lanes.
        let mut kernels = [0.0f32; 16 * 9 + 16];
        let mut lanes = [0.0f32; 16 * 16];
        for out in (0..self.row).step_by(V::LANES) {
            let count = self.outs.saturating_sub(out).min(V::LANES);
            kernels[count * 9..].fill(0.0);
            for depth in 0..self.depth {
                // SAFETY: the fields' promises; a vector of kernels fits in `kernels`, with room for what is read beyond.
                unsafe {
                    let from = self.weights.wrapping_add(out * self.out_step + depth * self.depth_step);
                    if self.out_step == 9 {
                        std::ptr::copy_nonoverlapping(from, kernels.as_mut_ptr(), count * 9);
                    } else {
                        for i in 0..count {
                            let to = kernels.as_mut_ptr().add(i * 9);
                            to.cast::<[f32; 9]>()
                                .write(from.add(i * self.out_step).cast::<[f32; 9]>().read_unaligned());
                        }
                    }
                    for tap in (0..9).step_by(V::LANES) {
                        let (from, to) = (kernels.as_ptr().add(tap), lanes.as_mut_ptr().add(tap * V::LANES));
                        V::transpose(|i| from.add(9 * i), to, V::LANES);
                    }
                    let tap = |i: usize, j: usize| if self.turned { 8 - (i * 3 + j) } else { i * 3 + j };
                    let points =
                        both!(weights_to_points, 3 => 6, |i, j| V::load(lanes.as_ptr().add(tap(i, j) * V::LANES)));
                    let to = self.to.add(depth * self.row + out);
                    each!(6, i => each!(6, j => points[i][j].store(to.add((i * 6 + j) * self.point))));
                }
            }
        }
    }
}

/// Points of sums over tiles, `from[point][channel]`, become the kernels of one output, `to[channel][3][3]`.
pub(super) struct Kernels {
    /// Readable for whole vectors.
    pub from: *const f32,
    pub point: usize,
    pub channels: usize,
    pub to: *mut f32,
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl Work<f32> for Kernels {
    #[inline(always)]
    unsafe fn run<V: Vector<f32>>(self) {
        // Taps by channel, and the way round; the latter with room for what a transposed block writes beyond.
        let mut lanes = [0.0f32; 16 * 16];
        let mut kernels = MaybeUninit::<[f32; 16 * 9 + 16]>::uninit();
        let kernels = kernels.as_mut_ptr().cast::<f32>();
        for channel in (0..self.channels).step_by(V::LANES) {
            // SAFETY: the fields' promises; every kernel is written before it is read.
            unsafe {
                let from = self.from.add(channel);
                let square = both!(points_to_weights, 6 => 3, |i, j| V::load(from.add((i * 6 + j) * self.point)));
                each!(3, i => each!(3, j => square[i][j].store(lanes.as_mut_ptr().add((i * 3 + j) * V::LANES))));
                // What is written beyond a kernel's end is overwritten by the next one's first taps, which come last.
                for tap in (0..9).step_by(V::LANES).rev() {
                    let from = lanes.as_ptr().add(tap * V::LANES);
                    V::transpose(|i| from.add(i * V::LANES), kernels.add(tap), 9);
                }
                let count = V::LANES.min(self.channels - channel);
                std::ptr::copy_nonoverlapping(kernels, self.to.add(channel * 9), count * 9);
            }
        }
    }
}
