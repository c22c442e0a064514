//! Winograd's minimal filtering F(4×4, 3×3) for kernels of 3 × 3 with stride and dilation 1 (Lavin and Gray, "Fast
//! Algorithms for Convolutional Neural Networks", 2016): 36 multiplications for each square of 4 × 4 outputs and pair of
//! channels, where the plain sum has 144.
//!
//! Squares become 36 points each (`transform`), with neighbouring channels in a vector; for each point, the sum over
//! channels is a matrix product, `m[tile, out] = v[tile, channel] · u[channel, out]`. The gradient of the weights is the
//! transpose: `u[out, channel] = m[tile, out]ᵀ · v[tile, channel]`.
//!
//! The error in f32 (`tests`): in the mean 2.5 times that of the plain sum, 3 times for the gradient of the weights; at
//! worst 8 roundings of the largest sum of absolute products, where the plain sum has 3. An infinity in a square makes all
//! of its outputs NaN. [`super::set_exact`] or `ETUDE_EXACT=1` does without.

mod gradient;
#[cfg(test)]
mod tests;
pub(super) mod transform;

pub(super) use gradient::weight_gradient;

use super::ConvGeometry;
use crate::cpu::{self, TileShape};
use crate::matmul::kernel::Strip;
use crate::matmul::scratch::{self, Purpose};
use crate::threads::{SendPointer, parallel};
use transform::{Collect, POINTS, Piece, SIDE, Spread, Weights};

/// Channels on both sides, at least: a vector of any instruction set.
const LEAST: usize = 16;
/// Tile rows longer than this are cut.
const LONG: usize = 64;
/// Depth multiplied at a time.
const DEPTH: usize = 256;
/// Channels, or elements of all transformed weights (2.5 MiB), up to which weights are transformed once and kept, and each
/// task transforms its own inputs. Beyond that tasks share inputs and make their own weights, block by block. This and the
/// limit below are small in tests, so that small cases go every way.
const FEW_CHANNELS: usize = 128;
const KEPT_WEIGHTS: usize = if cfg!(test) { 200 << 10 } else { 640 << 10 };
/// Channels whose weights a task makes at a time.
const WEIGHT_DEPTH: usize = 128;
/// Elements of transformed inputs made at a time where tasks share them: 6 MiB.
const SHARED_INPUTS: usize = if cfg!(test) { 230 << 10 } else { 1536 << 10 };

/// Whether Winograd's way takes fewer steps than the plain sum. Decided by sizes alone.
pub(super) fn is_faster(g: &ConvGeometry) -> bool {
    let fits = g.kernel == [1, 3, 3] && g.stride == [1; 3] && g.dilation == [1; 3];
    let flat = g.input[0] == 1 && g.output[0] == 1 && g.padding[0] == 0;
    let (channels, rows) = (g.in_channels / g.groups, g.out_channels / g.groups);
    if !fits || !flat || channels.min(rows) < LEAST || g.input_size() == 0 || g.output_size() == 0 {
        return false;
    }
    let positions = g.batch * g.output[1] * g.output[2];
    let tiles = g.batch * g.output[1].div_ceil(SIDE) * g.output[2].div_ceil(SIDE);
    // In multiply-adds: transforming a channel of a tile costs about seven for each point, a kernel four.
    let pairs = channels * rows;
    POINTS * ((tiles + 4) * pairs + 7 * tiles * (channels + rows)) < 9 * positions * pairs
}

/// Of so many channels, those of a strip: no more than there are vectors for.
fn wide(channels: usize) -> usize {
    TileShape::of::<f32>().columns.min(channels.next_multiple_of(LEAST))
}

/// Lengths in elements are made odd numbers of lines of 64 bytes, so that equally placed elements of neighbours lie in
/// different sets of the cache.
pub(super) fn odd_lines(length: usize) -> usize {
    (length.div_ceil(16) | 1) * 16
}

/// How the tiles of a batch are cut into blocks: some whole tile rows, or a part of one.
#[derive(Clone, Copy, Debug)]
struct Cut {
    batch: usize,
    /// Tile rows of an image, and tiles of a row.
    rows: usize,
    columns: usize,
    /// Parts of a row, and the most tiles of one.
    parts: usize,
    width: usize,
    /// Tile rows of a block (1 if there are several parts), and blocks.
    height: usize,
    blocks: usize,
}

impl Cut {
    /// Cuts the tiles of `size`, about `tiles` to a block.
    fn new(batch: usize, size: [usize; 2], tiles: usize) -> Cut {
        let (rows, columns) = (size[0].div_ceil(SIDE), size[1].div_ceil(SIDE));
        let width = columns.div_ceil(columns.div_ceil(LONG));
        let parts = columns.div_ceil(width);
        let height = if parts > 1 { 1 } else { (tiles / columns).clamp(1, batch * rows) };
        // As even as possible.
        let height = (batch * rows).div_ceil((batch * rows).div_ceil(height));
        Cut { batch, rows, columns, parts, width, height, blocks: (batch * rows).div_ceil(height) * parts }
    }

    /// The most tiles of a block.
    fn tiles(&self) -> usize {
        self.height * self.width
    }

    /// How many blocks of at most `tiles` tiles in all are done together, as even as possible.
    fn together(&self, tiles: usize) -> usize {
        let most = (tiles / self.tiles()).clamp(1, self.blocks);
        self.blocks.div_ceil(self.blocks.div_ceil(most))
    }

    /// How many tiles lie before a block.
    fn first(&self, block: usize) -> usize {
        let row = (block / self.parts * self.height).min(self.batch * self.rows);
        row * self.columns + block % self.parts * self.width
    }

    /// The pieces of a block, and how many tiles it has.
    fn pieces(&self, block: usize) -> (Vec<Piece>, usize) {
        let (start, part) = (block / self.parts * self.height, block % self.parts);
        let (column, whole) = (part * self.width, self.parts == 1);
        let columns = self.width.min(self.columns - column);
        let (mut row, end) = (start, (start + self.height).min(self.batch * self.rows));
        let (mut pieces, mut first) = (vec![], 0);
        while row < end {
            let (image, inside) = (row / self.rows, row % self.rows);
            let rows = (self.rows - inside).min(end - row);
            pieces.push(Piece { image, row: inside, rows, column, columns, whole, first });
            first += rows * columns;
            row += rows;
        }
        (pieces, first)
    }

    /// Elements of a scratch for the pixels of any piece in planes of this width.
    fn pixels(&self, width: usize) -> usize {
        Piece::pixels(self.height.min(self.rows), self.width, self.parts == 1, width)
    }
}

/// One side of a convolution: planes of some channels of one group.
#[derive(Clone, Copy)]
struct Planes {
    /// Channels of a group, and of all groups.
    channels: usize,
    all: usize,
    size: [usize; 2],
}

impl Planes {
    /// Where the planes of an image's group begin.
    fn start(&self, image: usize, group: usize) -> usize {
        (image * self.all + group * self.channels) * self.size[0] * self.size[1]
    }
}

/// The forward pass, or the gradient of the input: `y[b, r] = Σ_c w(r, c) ∗ x[b, c]` for every group.
struct Sweep {
    batch: usize,
    groups: usize,
    x: Planes,
    y: Planes,
    /// Where in `x` the first position of `y` reads first.
    origin: [isize; 2],
    /// From one of a group's outputs, or channels, to the next in the weights.
    out_step: usize,
    depth_step: usize,
    turned: bool,
}

fn sides(g: &ConvGeometry) -> (Planes, Planes) {
    let side = |all: usize, size: [usize; 3]| Planes { channels: all / g.groups, all, size: [size[1], size[2]] };
    (side(g.in_channels, g.input), side(g.out_channels, g.output))
}

/// See [`super::forward`].
pub(super) fn forward(g: &ConvGeometry, x: &[f32], w: &[f32], y: &mut [f32]) {
    let (input, output) = sides(g);
    let origin = [1, 2].map(|axis| -(g.padding[axis] as isize));
    let (out_step, depth_step) = (9 * input.channels, 9);
    let sweep =
        Sweep { batch: g.batch, groups: g.groups, x: input, y: output, origin, out_step, depth_step, turned: false };
    sweep.run(x, w, y);
}

/// See [`super::input_gradient`].
pub(super) fn input_gradient(g: &ConvGeometry, gy: &[f32], w: &[f32], gx: &mut [f32]) {
    let (input, output) = sides(g);
    let origin = [1, 2].map(|axis| g.padding[axis] as isize - 2);
    let (out_step, depth_step) = (9, 9 * input.channels);
    let sweep =
        Sweep { batch: g.batch, groups: g.groups, x: output, y: input, origin, out_step, depth_step, turned: true };
    sweep.run(gy, w, gx);
}

/// Transformed squares, `[point][tile][channel]`.
#[derive(Clone, Copy)]
struct Points {
    data: *mut f32,
    point: usize,
    tile: usize,
}

impl Points {
    /// Elements for so many tiles, `tile` apart, some vectors read beyond the last included, and the layout.
    fn new(tiles: usize, tile: usize) -> (usize, Points) {
        let point = odd_lines(tiles * tile);
        (POINTS * point + 64, Points { data: std::ptr::null_mut(), point, tile })
    }
}

// SAFETY: tasks read points that are complete, or write tiles of their own; all memory outlives the parallel call.
unsafe impl Sync for Points {}

impl Sweep {
    fn run(&self, x: &[f32], w: &[f32], y: &mut [f32]) {
        let y = SendPointer(y.as_mut_ptr());
        let (wide, channels) = (wide(self.y.channels), self.x.channels);
        let strips = self.y.channels.div_ceil(wide);
        let panel = POINTS * odd_lines(channels * wide);
        let all = self.groups * strips * panel;
        // Of weights and inputs the fewer are shared: what one core wrote and another reads may come from far.
        let tiles = self.batch * self.y.size[0].div_ceil(SIDE) * self.y.size[1].div_ceil(SIDE);
        let few_tiles = channels >= FEW_CHANNELS && tiles < self.y.channels;
        if few_tiles || (channels > FEW_CHANNELS && all > KEPT_WEIGHTS) {
            return (0..self.groups).for_each(|group| self.shared(group, x, w, &y));
        }
        scratch::with(Purpose::Right, all, |weights: &mut [f32]| {
            let to = SendPointer(weights.as_mut_ptr());
            let parts = channels.div_ceil(WEIGHT_DEPTH);
            parallel(self.groups * strips * parts, |task| {
                let (part, rest) = (task % parts, task / parts);
                let (strip, group) = (rest % strips, rest / strips);
                let depth = part * WEIGHT_DEPTH;
                let count = WEIGHT_DEPTH.min(channels - depth);
                // SAFETY: each task writes rows of its own of one panel.
                unsafe {
                    self.weights(group, strip, depth, count, w, to.at(rest * panel + depth * wide), panel / POINTS)
                };
            });
            for group in 0..self.groups {
                self.own(group, x, &weights[group * strips * panel..][..strips * panel], &y);
            }
        });
    }

    /// Transforms the weights of a strip of outputs for `count` channels from `depth`.
    ///
    /// # Safety
    /// `to` must have room for rows of a strip at every point.
    unsafe fn weights(
        &self,
        group: usize,
        strip: usize,
        depth: usize,
        count: usize,
        w: &[f32],
        to: *mut f32,
        point: usize,
    ) {
        let wide = wide(self.y.channels);
        let out = strip * wide;
        // Both ways around, a group's weights are as many elements.
        let group = group * self.x.channels * self.y.channels * 9;
        let weights = w[group + out * self.out_step + depth * self.depth_step..].as_ptr();
        let (out_step, depth_step, turned) = (self.out_step, self.depth_step, self.turned);
        let outs = wide.min(self.y.channels - out);
        // SAFETY: the weights were checked to be all there; the caller's promise.
        unsafe { cpu::run(Weights { weights, out_step, depth_step, turned, outs, depth: count, to, point, row: wide }) }
    }

    /// Transforms the inputs of a block of tiles.
    ///
    /// # Safety
    /// `to` must have room for the block's tiles from `first`.
    unsafe fn inputs(&self, group: usize, cut: &Cut, pieces: &[Piece], x: &[f32], to: Points) {
        scratch::with(Purpose::Image, cut.pixels(self.x.size[1]), |pixels: &mut [f32]| {
            for &piece in pieces {
                let spread = Spread::<6> {
                    planes: x[self.x.start(piece.image, group)..].as_ptr(),
                    channels: self.x.channels,
                    size: self.x.size,
                    origin: self.origin,
                    piece,
                    pixels: pixels.as_mut_ptr(),
                    to: to.data,
                    point: to.point,
                    tile: to.tile,
                };
                // SAFETY: an image's planes are all there, at least a vector of them; the caller's promise.
                unsafe { cpu::run(spread) };
            }
        });
    }

    /// Transforms sums, `[point][tile][strip]`, of a block of tiles back and writes them.
    ///
    /// # Safety
    /// The sums must be complete, and the block's outputs belong to the caller.
    unsafe fn outputs(
        &self,
        group: usize,
        strip: usize,
        cut: &Cut,
        pieces: &[Piece],
        sums: Points,
        y: &SendPointer<f32>,
    ) {
        let out = strip * sums.tile;
        let plane = self.y.size[0] * self.y.size[1];
        scratch::with(Purpose::Image, cut.pixels(self.y.size[1]), |pixels: &mut [f32]| {
            for &piece in pieces {
                // SAFETY: the strip's planes lie inside `y`; the caller's promise.
                unsafe {
                    cpu::run(Collect {
                        from: sums.data,
                        point: sums.point,
                        tile: sums.tile,
                        channels: sums.tile.min(self.y.channels - out),
                        planes: y.at(self.y.start(piece.image, group) + out * plane),
                        size: self.y.size,
                        piece,
                        pixels: pixels.as_mut_ptr(),
                    });
                }
            }
        });
    }

    /// Every task transforms the inputs of its tiles and multiplies them with all weights.
    fn own(&self, group: usize, x: &[f32], weights: &[f32], y: &SendPointer<f32>) {
        let cut = Cut::new(self.batch, self.y.size, BLOCK);
        let wide = wide(self.y.channels);
        let panel = POINTS * odd_lines(self.x.channels * wide);
        let (size, inputs) = Points::new(cut.tiles(), self.x.channels.next_multiple_of(16));
        let (sums_size, sums) = Points::new(cut.tiles(), wide);
        parallel(cut.blocks, |block| {
            let (pieces, tiles) = cut.pieces(block);
            scratch::with(Purpose::Left, size, |inputs_data: &mut [f32]| {
                scratch::with(Purpose::Partial, sums_size, |sums_data: &mut [f32]| {
                    let inputs = Points { data: inputs_data.as_mut_ptr(), ..inputs };
                    let sums = Points { data: sums_data.as_mut_ptr(), ..sums };
                    // SAFETY: there is room for a block; its outputs belong to this task.
                    unsafe {
                        self.inputs(group, &cut, &pieces, x, inputs);
                        for (strip, panel) in weights.chunks_exact(panel).enumerate() {
                            let outs = self.y.channels - strip * wide;
                            multiply([tiles, self.x.channels, outs], inputs, panel, sums, false);
                            self.outputs(group, strip, &cut, &pieces, sums, y);
                        }
                    }
                });
            });
        });
    }

    /// Inputs are transformed for some blocks of tiles, then every task multiplies all of them with a strip of weights.
    fn shared(&self, group: usize, x: &[f32], w: &[f32], y: &SendPointer<f32>) {
        let wide = wide(self.y.channels);
        let strips = self.y.channels.div_ceil(wide);
        let cut = Cut::new(self.batch, self.y.size, BLOCK);
        let together = cut.together(SHARED_INPUTS / POINTS / odd_lines(self.x.channels));
        let (size, inputs) = Points::new(together * cut.tiles(), odd_lines(self.x.channels));
        scratch::with(Purpose::Left, size, |data: &mut [f32]| {
            let data = SendPointer(data.as_mut_ptr());
            for first in (0..cut.blocks).step_by(together) {
                let blocks = first..cut.blocks.min(first + together);
                let start = cut.first(first);
                let inputs = |block: usize| {
                    // SAFETY: every block's tiles have room.
                    let data = unsafe { data.at((cut.first(block) - start) * inputs.tile) };
                    Points { data, ..inputs }
                };
                parallel(blocks.len(), |index| {
                    // SAFETY: as above.
                    unsafe { self.inputs(group, &cut, &cut.pieces(first + index).0, x, inputs(first + index)) };
                });
                let tiles = cut.first(blocks.end) - start;
                let panel = POINTS * odd_lines(WEIGHT_DEPTH * wide);
                let (size, sums) = Points::new(tiles, wide);
                parallel(strips, |strip| {
                    scratch::with(Purpose::Right, panel, |weights: &mut [f32]| {
                        scratch::with(Purpose::Partial, size, |data: &mut [f32]| {
                            let sums = Points { data: data.as_mut_ptr(), ..sums };
                            // SAFETY: inputs are complete, everything else is this task's own.
                            unsafe {
                                for depth in (0..self.x.channels).step_by(WEIGHT_DEPTH) {
                                    let count = WEIGHT_DEPTH.min(self.x.channels - depth);
                                    self.weights(group, strip, depth, count, w, weights.as_mut_ptr(), panel / POINTS);
                                    let inputs = inputs(first);
                                    let inputs = Points { data: inputs.data.add(depth), ..inputs };
                                    let outs = self.y.channels - strip * wide;
                                    multiply([tiles, count, outs], inputs, weights, sums, depth > 0);
                                }
                                for block in blocks.clone() {
                                    let data = sums.data.add((cut.first(block) - start) * wide);
                                    let sums = Points { data, ..sums };
                                    self.outputs(group, strip, &cut, &cut.pieces(block).0, sums, y);
                                }
                            }
                        });
                    });
                });
            }
        });
    }
}

/// Tiles of a block, about.
const BLOCK: usize = 32;

/// At every point: `sums[tiles, strip] (+)= inputs[tiles, depth] · panel[depth, strip]`, where `outs` of the strip and of what
/// follows it are left; vectors without any are left out.
///
/// # Safety
/// The inputs must be there for all tiles and all of the depth, the sums have room.
unsafe fn multiply([tiles, depth, outs]: [usize; 3], inputs: Points, panel: &[f32], sums: Points, add: bool) {
    let wide = sums.tile;
    let columns = wide.min(outs.next_multiple_of(TileShape::of::<f32>().lanes));
    let step = panel.len() / POINTS;
    for point in 0..POINTS {
        for first in (0..depth).step_by(DEPTH) {
            // SAFETY: the caller's promise.
            unsafe {
                let strip = Strip {
                    rows: tiles,
                    depth: DEPTH.min(depth - first),
                    columns,
                    a: inputs.data.add(point * inputs.point + first),
                    a_row: inputs.tile as isize,
                    a_strip: (TileShape::of::<f32>().rows * inputs.tile) as isize,
                    a_step: 1,
                    b: panel[point * step + first * wide..].as_ptr(),
                    b_step: wide as isize,
                    c: sums.data.add(point * sums.point),
                    c_row: wide,
                    add: add || first > 0,
                };
                strip.compute();
            }
        }
    }
}
