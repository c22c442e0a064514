//! Winograd's F(4×4, 3×3) on images with sixteen channels side by side, with weights transformed once: see
//! `conv/winograd` for the method and its error. A square of pixels is read and written where it lies; at each of
//! the 36 points the sum over channels is a convolution with one tap whose pixels are the tiles, done by `Tiles`.

use super::tile::Tiles;
use super::{BLOCK, Tail, check};
use crate::conv::winograd::transform::{POINTS, SIDE, ZEROS, both, each, inputs_to_points, points_to_outputs};
use crate::conv::{ConvGeometry, is_exact};
use crate::cpu::{self, Vector, Work};
use crate::matmul::scratch::{self, Purpose};
use crate::threads::{SendPointer, parallel};
use crate::{DType, Float};
use bytemuck::{cast_slice, cast_slice_mut};
use std::ops::Range;

pub use crate::conv::winograd::transform::{PLAIN, WEIGHTS};

/// Elements of all transformed weights up to which a task transforms and multiplies tiles of its own (2.5 MiB). Beyond
/// that, tasks share tiles and each takes some points.
const KEPT_WEIGHTS: usize = if cfg!(test) { 100 << 10 } else { 640 << 10 };
/// Tiles of a task in the first case, at most: two register tiles.
const OWN: usize = 28;
/// Bytes of transformed inputs in the second case.
const SHARED: usize = if cfg!(test) { 200 << 10 } else { 8 << 20 };

/// Whether Winograd's way takes less time than [`super::forward`], for weights that are transformed already. Decided by
/// sizes alone, and no where [`is_exact`].
pub fn is_faster(g: &ConvGeometry) -> bool {
    let fits = g.kernel == [1, 3, 3] && g.stride == [1; 3] && g.dilation == [1; 3] && g.groups == 1;
    let flat = g.input[0] == 1 && g.output[0] == 1 && g.padding[0] == 0;
    if !fits
        || !flat
        || !g.in_channels.is_multiple_of(BLOCK)
        || g.output_size() == 0
        || g.input_size() == 0
        || is_exact()
    {
        return false;
    }
    let positions = g.batch * g.output[1] * g.output[2];
    let (tiles, pairs) = (Grid::new(g).tiles, g.in_channels * g.out_channels);
    // In multiply-adds: transforming a channel of a tile costs about seven for each point, reading a weight that lies in
    // memory about twelve.
    POINTS * ((tiles + 12) * pairs + 7 * tiles * (g.in_channels + g.out_channels)) < 9 * positions * pairs
}

/// Weights `[outputs, inputs, 3, 3]` as [`forward`] takes them: `[36, outputs / 16, inputs, 16]`.
///
/// # Panics
/// If the slices do not have these sizes, or outputs are no multiple of 16.
pub fn weights<T: Float>(outputs: usize, inputs: usize, w: &[T], points: &mut [T]) {
    (T::floats().channels_winograd_weights)(outputs, inputs, w, points)
}

/// The body of [`weights`], compiled once for each type in this crate.
pub(crate) fn weights_body<T: Float>(outputs: usize, inputs: usize, w: &[T], points: &mut [T]) {
    assert!(outputs.is_multiple_of(BLOCK), "convolution: {outputs} output channels in blocks");
    assert_eq!(w.len(), outputs * inputs * 9, "convolution: elements of w");
    assert_eq!(points.len(), outputs * inputs * POINTS, "convolution: elements of the transformed weights");
    let (size, to) = (outputs * inputs, SendPointer(points.as_mut_ptr()));
    let g = WEIGHTS.map(|row| row.map(T::from_f64));
    parallel(outputs / BLOCK, |block| {
        for input in 0..inputs {
            let mut kernel = [[[T::ZERO; BLOCK]; 3]; 3];
            for lane in 0..BLOCK {
                let from = &w[((block * BLOCK + lane) * inputs + input) * 9..][..9];
                (0..9).for_each(|i| kernel[i / 3][i % 3][lane] = from[i]);
            }
            for i in 0..6 {
                let column = |j: usize, lane: usize| (0..3).map(|k| g[i][k] * kernel[k][j][lane]).sum::<T>();
                let half: [[T; BLOCK]; 3] = std::array::from_fn(|j| std::array::from_fn(|lane| column(j, lane))); // G·w, row i
                for (j, row) in g.iter().enumerate() {
                    let at = (i * 6 + j) * size + (block * inputs + input) * BLOCK;
                    for lane in 0..BLOCK {
                        let value = (0..3).map(|k| row[k] * half[k][lane]).sum::<T>();
                        // SAFETY: each task writes the points of a block of its own, which lie inside.
                        unsafe { *to.at(at + lane) = value };
                    }
                }
            }
        }
    });
}

/// The way back from [`weights`], to what [`super::forward`] takes: `[outputs / 16, inputs / 16, 3, 3, 16, 16]`.
///
/// # Panics
/// As [`weights`], or if inputs are no multiple of 16.
fn plain_weights<T: Float>(outputs: usize, inputs: usize, points: &[T], w: &mut [T]) {
    assert!(outputs.is_multiple_of(BLOCK) && inputs.is_multiple_of(BLOCK), "convolution: channels in blocks");
    assert_eq!(points.len(), outputs * inputs * POINTS, "convolution: elements of the transformed weights");
    assert_eq!(w.len(), outputs * inputs * 9, "convolution: elements of w");
    let size = outputs * inputs;
    let inverse = PLAIN.map(|row| row.map(T::from_f64));
    for (i, value) in w.iter_mut().enumerate() {
        let (output, input, tap, rest) = (i % BLOCK, i / BLOCK % BLOCK, i / BLOCK / BLOCK % 9, i / BLOCK / BLOCK / 9);
        let (input, block) = (rest % (inputs / BLOCK) * BLOCK + input, rest / (inputs / BLOCK));
        let at = |i: usize, j: usize| points[(i * 6 + j) * size + (block * inputs + input) * BLOCK + output];
        let row = |i: usize| (0..6).map(|j| inverse[tap % 3][j] * at(i, j)).sum::<T>();
        *value = (0..6).map(|i| inverse[tap / 3][i] * row(i)).sum::<T>();
    }
}

/// [`super::forward`] for 3 × 3 kernels with stride and dilation 1, with weights from [`weights`].
///
/// f64, which serves gradient checks, takes the plain sums.
///
/// # Panics
/// If a slice has not the size the geometry says, or the geometry is another.
pub fn forward<T: Float>(g: &ConvGeometry, x: &[T], w: &[T], tail: &Tail<T>, y: &mut [T]) {
    (T::floats().channels_winograd)(g, x, w, tail, y)
}

/// The body of [`forward`], compiled once for each type in this crate.
pub(crate) fn forward_body<T: Float>(g: &ConvGeometry, x: &[T], w: &[T], tail: &Tail<T>, y: &mut [T]) {
    if T::DTYPE != DType::F32 {
        let mut plain = vec![T::ZERO; g.weight_size()];
        plain_weights(g.out_channels, g.in_channels, w, &mut plain);
        return super::forward(g, x, &plain, tail, y);
    }
    let tail = Tail { bias: tail.bias.map(cast_slice), residual: tail.residual.map(cast_slice), relu: tail.relu };
    squares(g, cast_slice(x), cast_slice(w), &tail, cast_slice_mut(y));
}

fn squares(g: &ConvGeometry, x: &[f32], w: &[f32], tail: &Tail<f32>, y: &mut [f32]) {
    let plain = ConvGeometry { kernel: [1, 3, 3], stride: [1; 3], dilation: [1; 3], ..*g };
    assert!(*g == plain && g.in_channels.is_multiple_of(BLOCK), "convolution: not 3 × 3 in blocks: {g:?}");
    g.check(x.len(), w.len() / POINTS * 9, y.len());
    assert!(w.len().is_multiple_of(POINTS), "convolution: 36 points");
    check(g, tail);
    if y.is_empty() {
        return;
    }
    let (grid, y) = (Grid::new(g), SendPointer(y.as_mut_ptr()));
    let way = Way { g, grid, x, w, tail, y };
    if w.len() <= KEPT_WEIGHTS { way.own() } else { way.shared() }
}

/// The tiles of a batch, row by row, image by image.
#[derive(Clone, Copy)]
struct Grid {
    rows: usize,
    columns: usize,
    tiles: usize,
}

impl Grid {
    fn new(g: &ConvGeometry) -> Grid {
        let (rows, columns) = (g.output[1].div_ceil(SIDE), g.output[2].div_ceil(SIDE));
        Grid { rows, columns, tiles: g.batch * rows * columns }
    }

    /// Image, row and column of a tile.
    fn place(&self, tile: usize) -> [usize; 3] {
        [tile / self.columns / self.rows, tile / self.columns % self.rows, tile % self.columns]
    }
}

/// Cuts `count` into pieces of at most `most`, as even as possible: how many there are, and piece number `i`.
fn cut(count: usize, most: usize) -> (usize, impl Fn(usize) -> Range<usize>) {
    let pieces = count.div_ceil(most.max(1));
    (pieces, move |i: usize| i * count / pieces..(i + 1) * count / pieces)
}

/// Transformed squares, `[point][block][tile][16]`.
#[derive(Clone, Copy)]
struct Points {
    data: *mut f32,
    /// From one point to the next: an odd number of lines, so that a square's points lie in different sets of the cache.
    point: usize,
    /// Tiles there is room for.
    tiles: usize,
}

// SAFETY: tasks read points that are complete, or write blocks of their own; all memory outlives the parallel call.
unsafe impl Sync for Points {}

impl Points {
    fn new(blocks: usize, tiles: usize) -> (usize, Points) {
        let point = ((blocks * tiles) | 1) * BLOCK;
        (POINTS * point, Points { data: std::ptr::null_mut(), point, tiles })
    }
}

struct Way<'a> {
    g: &'a ConvGeometry,
    grid: Grid,
    x: &'a [f32],
    w: &'a [f32],
    tail: &'a Tail<'a, f32>,
    y: SendPointer<f32>,
}

impl Way<'_> {
    fn blocks(&self) -> (usize, usize) {
        (self.g.in_channels / BLOCK, self.g.out_channels / BLOCK)
    }

    /// Every task transforms tiles of its own and multiplies them with all weights.
    fn own(&self) {
        let (inputs, outputs) = self.blocks();
        // An even number of tasks, where there are several.
        let pieces = self.grid.tiles.div_ceil(OWN);
        let pieces = if pieces > 1 { pieces.next_multiple_of(2) } else { 1 };
        let (pieces, piece) = cut(self.grid.tiles, self.grid.tiles.div_ceil(pieces));
        parallel(pieces, |task| {
            let tiles = piece(task);
            let (v_size, v) = Points::new(inputs, tiles.len());
            let (m_size, m) = Points::new(2, tiles.len());
            scratch::with(Purpose::Left, v_size, |v_data: &mut [f32]| {
                scratch::with(Purpose::Partial, m_size, |m_data: &mut [f32]| {
                    let v = Points { data: v_data.as_mut_ptr(), ..v };
                    let m = Points { data: m_data.as_mut_ptr(), ..m };
                    // SAFETY: there is room for these tiles, whose outputs belong to this task.
                    unsafe {
                        self.inputs(tiles.clone(), 0..inputs, v);
                        for first in (0..outputs).step_by(2) {
                            let blocks = first..outputs.min(first + 2);
                            (0..POINTS).for_each(|point| self.multiply(point, tiles.len(), blocks.clone(), v, m));
                            self.outputs(tiles.clone(), blocks, m);
                        }
                    }
                });
            });
        });
    }

    /// Some tiles at a time: tasks transform blocks of channels, then multiply at points, then transform blocks back.
    fn shared(&self) {
        let (inputs, outputs) = self.blocks();
        let most = SHARED / (POINTS * self.g.in_channels.max(self.g.out_channels) * size_of::<f32>());
        let (pieces, piece) = cut(self.grid.tiles, most);
        let most = piece(pieces - 1).len();
        let ((v_size, v), (m_size, m)) = (Points::new(inputs, most), Points::new(outputs, most));
        scratch::with(Purpose::Left, v_size, |v_data: &mut [f32]| {
            scratch::with(Purpose::Partial, m_size, |m_data: &mut [f32]| {
                let v = &Points { data: v_data.as_mut_ptr(), ..v };
                let m = &Points { data: m_data.as_mut_ptr(), ..m };
                for tiles in (0..pieces).map(&piece) {
                    // SAFETY: there is room for these tiles; each task has blocks or a point of its own.
                    unsafe {
                        parallel(inputs, |block| self.inputs(tiles.clone(), block..block + 1, *v));
                        parallel(POINTS, |point| self.multiply(point, tiles.len(), 0..outputs, *v, *m));
                        parallel(outputs, |block| {
                            let m = Points { data: m.data.add(block * m.tiles * BLOCK), ..*m };
                            self.outputs(tiles.clone(), block..block + 1, m);
                        });
                    }
                }
            });
        });
    }

    /// Transforms the squares of some tiles in some blocks of input channels.
    ///
    /// # Safety
    /// `v` must have room for all input channels of these tiles.
    unsafe fn inputs(&self, tiles: Range<usize>, blocks: Range<usize>, v: Points) {
        // SAFETY: the image was checked to be all there; the caller's promise.
        unsafe { cpu::run(Spread { way: self, tiles, blocks, v }) }
    }

    /// At one point: the sums over input channels for some blocks of output channels, the first of which comes first in `m`.
    ///
    /// # Safety
    /// `v` must be complete at this point, and `m` have room.
    unsafe fn multiply(&self, point: usize, tiles: usize, blocks: Range<usize>, v: Points, m: Points) {
        let (inputs, outputs) = self.blocks();
        let block = inputs * BLOCK * BLOCK;
        let taps: [usize; 64] = std::array::from_fn(|i| i * v.tiles * BLOCK);
        let more: Vec<usize>;
        let taps = if inputs <= taps.len() {
            &taps[..inputs]
        } else {
            more = (0..inputs).map(|i| i * v.tiles * BLOCK).collect();
            &more
        };
        // SAFETY: the caller's promise; weights were checked to be all there.
        unsafe {
            cpu::run(Tiles::<f32, BLOCK> {
                x: v.data.add(point * v.point),
                x_row: 0,
                taps,
                w: self.w[(point * outputs + blocks.start) * block..].as_ptr(),
                w_block: block,
                blocks: blocks.len(),
                rows: 1,
                columns: tiles,
                y: m.data.add(point * m.point),
                y_row: 0,
                y_block: m.tiles * BLOCK,
                bias: std::ptr::null(),
                residual: std::ptr::null(),
                relu: false,
            });
        }
    }

    /// Transforms sums of some tiles back, adds the tail and writes some blocks of output channels, the first of which comes
    /// first in `m`.
    ///
    /// # Safety
    /// `m` must be complete, and these outputs belong to the caller.
    unsafe fn outputs(&self, tiles: Range<usize>, blocks: Range<usize>, m: Points) {
        // SAFETY: the output was checked to be all there; the caller's promise.
        unsafe { cpu::run(Collect { way: self, tiles, blocks, m }) }
    }
}

/// Squares of pixels become points.
struct Spread<'a> {
    way: &'a Way<'a>,
    tiles: Range<usize>,
    blocks: Range<usize>,
    v: Points,
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl Work<f32> for Spread<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector<f32>>(self) {
        let Spread { way, tiles, blocks, v } = self;
        let [_, height, width] = way.g.input;
        for block in blocks {
            for (i, tile) in tiles.clone().enumerate() {
                let [image, row, column] = way.grid.place(tile);
                let plane = (image * way.g.in_channels / BLOCK + block) * height * width;
                // Where a row or column of the square begins in the plane, if it is there at all.
                let place = |axis: usize, tile: usize, i: usize, size: usize| {
                    (tile * SIDE + i).checked_sub(way.g.padding[axis]).filter(|&at| at < size)
                };
                let ys: [_; 6] = std::array::from_fn(|i| place(1, row, i, height).map(|y| (plane + y * width) * BLOCK));
                let xs: [_; 6] = std::array::from_fn(|j| place(2, column, j, width).map(|x| x * BLOCK));
                for lane in (0..BLOCK).step_by(V::LANES) {
                    let pixel = |i: usize, j: usize| match (ys[i], xs[j]) {
                        (Some(y), Some(x)) => way.x.as_ptr().wrapping_add(y + x + lane),
                        _ => ZEROS.as_ptr(),
                    };
                    // SAFETY: the pixels lie inside the image; the points are the caller's promise.
                    unsafe {
                        let to = v.data.add((block * v.tiles + i) * BLOCK + lane);
                        let points = both!(inputs_to_points, 6 => 6, |i, j| V::load(pixel(i, j)));
                        each!(6, i => each!(6, j => points[i][j].store(to.add((i * 6 + j) * v.point))));
                    }
                }
            }
        }
    }
}

/// Points become squares of outputs, with the tail.
struct Collect<'a> {
    way: &'a Way<'a>,
    tiles: Range<usize>,
    blocks: Range<usize>,
    m: Points,
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl Work<f32> for Collect<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector<f32>>(self) {
        let Collect { way, tiles, blocks, m } = self;
        let [_, height, width] = way.g.output;
        let Tail { bias, residual, relu } = *way.tail;
        for (b, block) in blocks.enumerate() {
            for (i, tile) in tiles.clone().enumerate() {
                let [image, row, column] = way.grid.place(tile);
                let (y, x) = (row * SIDE, column * SIDE);
                let start = ((image * way.g.out_channels / BLOCK + block) * height + y) * width + x;
                for lane in (0..BLOCK).step_by(V::LANES) {
                    // SAFETY: the sums are the caller's promise; outputs beyond the edge are not touched.
                    unsafe {
                        let from = m.data.add((b * m.tiles + i) * BLOCK + lane);
                        let square = both!(points_to_outputs, 6 => 4, |i, j| V::load(from.add((i * 6 + j) * m.point)));
                        let offset = match bias {
                            Some(bias) => V::load(bias.as_ptr().add(block * BLOCK + lane)),
                            None => V::splat(0.0),
                        };
                        each!(4, i => each!(4, j => if y + i < height && x + j < width {
                            let at = (start + i * width + j) * BLOCK + lane;
                            let mut sum = square[i][j].add(offset);
                            if let Some(residual) = residual {
                                sum = sum.add(V::load(residual.as_ptr().add(at)));
                            }
                            if relu {
                                sum = sum.max(V::splat(0.0));
                            }
                            sum.store(way.y.at(at));
                        }));
                    }
                }
            }
        }
    }
}
