//! The gradient of the weights: at every point a product over tiles, `u[out, channel] = m[tile, out]ᵀ · v[tile, channel]`.
//!
//! Where channels are few, each task sums over a part of the tiles by itself and reads only what it wrote: cores that are
//! far from each other would take as long to hand points over as to multiply them. Otherwise tasks share the points.

use super::transform::{Kernels, POINTS, Piece, Spread};
use super::{BLOCK, Cut, DEPTH, Planes, Points, odd_lines, sides, wide};
use crate::conv::ConvGeometry;
use crate::conv::weight::sum_of_parts;
use crate::cpu::{self, TileShape};
use crate::matmul::kernel::Strip;
use crate::matmul::scratch::{self, Purpose};
use crate::threads::{SendPointer, parallel};

/// At least so many tiles for sums of one's own, and at most so many such tasks.
const PART: usize = if cfg!(test) { 16 } else { 64 };
const PARTS: usize = 8;
/// Elements of transformed weights for all tasks with sums of their own: 12 MiB, four times 128 × 128 channels'.
const OWN_SUMS: usize = if cfg!(test) { 150 << 10 } else { 3 << 20 };
/// Elements of both sides a task with sums of its own transforms at a time: 4 MiB.
const OWN: usize = if cfg!(test) { 40 << 10 } else { 1 << 20 };
/// Elements of both sides transformed at a time otherwise: 8 MiB, or as much as there are transformed weights, which are read and
/// written once each time.
const TOGETHER: usize = if cfg!(test) { 100 << 10 } else { 2 << 20 };
/// Outputs of a task, about, where all tiles are done at once.
const OUTS: usize = 48;

struct Gradient<'a> {
    x: Planes,
    gy: Planes,
    group: usize,
    origin: [isize; 2],
    inputs: &'a [f32],
    gradients: &'a [f32],
    cut: Cut,
}

/// See [`crate::conv::weight_gradient`].
pub(in crate::conv) fn weight_gradient(g: &ConvGeometry, inputs: &[f32], gradients: &[f32], gw: &mut [f32]) {
    let (x, gy) = sides(g);
    let origin = [1, 2].map(|axis| -(g.padding[axis] as isize));
    let cut = Cut::new(g.batch, gy.size, BLOCK);
    let size = gy.channels * x.channels * 9;
    for (group, gw) in gw.chunks_exact_mut(size).enumerate() {
        Gradient { x, gy, group, origin, inputs, gradients, cut }.run(gw);
    }
}

impl Gradient<'_> {
    fn run(&self, gw: &mut [f32]) {
        let cut = &self.cut;
        let sums = POINTS * odd_lines(self.gy.channels * odd_lines(self.x.channels));
        let tile = odd_lines(self.x.channels) + odd_lines(self.gy.channels);
        // A power of two, which cores share evenly, unless blocks or room are fewer.
        let parts = (cut.first(cut.blocks) / PART).max(1).next_power_of_two();
        let parts = parts.min(PARTS).min(cut.blocks).min(OWN_SUMS / sums);
        if parts > 1 {
            let first = |part: usize| cut.blocks * part / parts;
            let together = cut.together(OWN / POINTS / tile).min(cut.blocks.div_ceil(parts));
            let size = gw.len();
            return sum_of_parts(parts, gw, |out| {
                let out = SendPointer(out.as_mut_ptr());
                parallel(parts, |part| {
                    // SAFETY: each part has weights of its own.
                    unsafe { self.part(first(part), first(part + 1), together, sums, out.at(part * size)) };
                });
            });
        }
        let together = cut.together(TOGETHER.max(sums) / POINTS / tile);
        let gw = SendPointer(gw.as_mut_ptr());
        self.with_sides(together, |m, v| {
            if together == cut.blocks {
                self.transform(0, cut.blocks, m, v);
                return self.all_at_once(m, v, &gw);
            }
            scratch::with(Purpose::Partial, sums, |sums: &mut [f32]| self.one_by_one(together, m, v, sums, &gw));
        });
    }

    /// Runs `work` with room for the two sides of so many blocks.
    fn with_sides(&self, blocks: usize, work: impl FnOnce(Points, Points)) {
        let tiles = blocks * self.cut.tiles();
        let (m_size, m) = Points::new(tiles, odd_lines(self.gy.channels));
        let (v_size, v) = Points::new(tiles, odd_lines(self.x.channels));
        scratch::with(Purpose::Left, m_size, |m_data: &mut [f32]| {
            scratch::with(Purpose::Right, v_size, |v_data: &mut [f32]| {
                work(Points { data: m_data.as_mut_ptr(), ..m }, Points { data: v_data.as_mut_ptr(), ..v })
            });
        });
    }

    /// The weights of the blocks from `first` to `end`, by one task: what it reads it has written itself.
    ///
    /// # Safety
    /// `gw` must have room for a group's weights.
    unsafe fn part(&self, first: usize, end: usize, together: usize, sums: usize, gw: *mut f32) {
        let (outs, channels) = (self.gy.channels, self.x.channels);
        let (row, size) = (odd_lines(channels), sums / POINTS);
        self.with_sides(together, |m, v| {
            scratch::with(Purpose::Small, sums + 64, |sums: &mut [f32]| {
                for start in (first..end).step_by(together) {
                    let blocks = together.min(end - start);
                    for block in start..start + blocks {
                        self.transform_block(block, start, true, &v);
                        self.transform_block(block, start, false, &m);
                    }
                    for point in 0..POINTS {
                        // SAFETY: both sides are complete, the sums have room for all points.
                        unsafe {
                            let to = sums.as_mut_ptr().add(point * size);
                            self.multiply_all(self.tiles(start, blocks), point, (&m, &v), to, row, start > first);
                        }
                    }
                }
                for out in 0..outs {
                    // SAFETY: the sums are complete, with room for a vector behind them; the caller's promise.
                    unsafe {
                        let from = sums.as_ptr().add(out * row);
                        cpu::run(Kernels { from, point: size, channels, to: gw.add(out * channels * 9) });
                    }
                }
            });
        });
    }

    /// Transforms both sides for some blocks.
    fn transform(&self, first: usize, blocks: usize, m: Points, v: Points) {
        parallel(2 * blocks, |task| {
            let (input, m, v) = (task % 2 == 0, &m, &v);
            self.transform_block(first + task / 2, first, input, if input { v } else { m });
        });
    }

    /// Transforms a block of the inputs, or of the gradients; block `first` stands at the beginning of `side`.
    fn transform_block(&self, block: usize, first: usize, input: bool, side: &Points) {
        let cut = &self.cut;
        let start = cut.first(block) - cut.first(first);
        let width = if input { self.x.size[1] } else { self.gy.size[1] };
        scratch::with(Purpose::Image, cut.pixels(width), |pixels: &mut [f32]| {
            for piece in cut.pieces(block).0 {
                let pixels = pixels.as_mut_ptr();
                // SAFETY: there is room for all tiles of the blocks, and an image's planes are all there.
                unsafe {
                    let to = Points { data: side.data.add(start * side.tile), ..*side };
                    if input {
                        cpu::run(spread::<6>(&self.x, self.group, self.inputs, self.origin, piece, pixels, to));
                    } else {
                        cpu::run(spread::<4>(&self.gy, self.group, self.gradients, [0; 2], piece, pixels, to));
                    }
                }
            }
        });
    }

    /// All tiles are transformed: each task sums a block of weights at all points and transforms it back.
    fn all_at_once(&self, m: Points, v: Points, gw: &SendPointer<f32>) {
        let wide = wide(self.x.channels);
        let (outs, strips) = (self.gy.channels, self.x.channels.div_ceil(wide));
        let block = outs.div_ceil(outs.div_ceil(OUTS)).next_multiple_of(TileShape::of::<f32>().rows);
        let (size, sums) = Points::new(block, wide);
        parallel(outs.div_ceil(block) * strips, |task| {
            let (out, channel) = (task / strips * block, task % strips * wide);
            let (rows, width) = (block.min(outs - out), wide.min(self.x.channels - channel));
            scratch::with(Purpose::Partial, size, |data: &mut [f32]| {
                let sums = Points { data: data.as_mut_ptr(), ..sums };
                // SAFETY: both sides are complete; these weights belong to this task.
                unsafe {
                    for point in 0..POINTS {
                        let to = sums.data.add(point * sums.point);
                        self.multiply(
                            self.tiles(0, self.cut.blocks),
                            point,
                            [out, rows],
                            [channel, width],
                            (&m, &v),
                            to,
                            wide,
                            false,
                        );
                    }
                    for row in 0..rows {
                        let to = gw.at(((out + row) * self.x.channels + channel) * 9);
                        let from = sums.data.add(row * wide);
                        cpu::run(Kernels { from, point: sums.point, channels: width, to });
                    }
                }
            });
        });
    }

    /// Some blocks are transformed and added to the sums, then the next.
    fn one_by_one(&self, together: usize, m: Points, v: Points, sums: &mut [f32], gw: &SendPointer<f32>) {
        let (outs, channels) = (self.gy.channels, self.x.channels);
        let (row, point_size) = (odd_lines(channels), sums.len() / POINTS);
        let sums = SendPointer(sums.as_mut_ptr());
        for first in (0..self.cut.blocks).step_by(together) {
            let blocks = together.min(self.cut.blocks - first);
            self.transform(first, blocks, m, v);
            let tiles = self.tiles(first, blocks);
            parallel(POINTS, |point| {
                // SAFETY: both sides are complete; a point's sums belong to its task.
                unsafe {
                    self.multiply_all(tiles, point, (&m, &v), sums.at(point * point_size), row, first > 0);
                }
            });
        }
        parallel(outs, |out| {
            // SAFETY: the sums are complete; an output's weights belong to its task.
            unsafe {
                let (from, to) = (sums.at(out * row), gw.at(out * channels * 9));
                cpu::run(Kernels { from, point: point_size, channels, to });
            }
        });
    }

    fn tiles(&self, first: usize, blocks: usize) -> usize {
        self.cut.first(first + blocks) - self.cut.first(first)
    }

    /// At one point, for all outputs and channels: `to (+)= mᵀ · v`.
    ///
    /// # Safety
    /// As [`Self::multiply`].
    unsafe fn multiply_all(
        &self,
        tiles: usize,
        point: usize,
        sides: (&Points, &Points),
        to: *mut f32,
        row: usize,
        add: bool,
    ) {
        let (outs, channels) = (self.gy.channels, self.x.channels);
        let wide = wide(channels);
        for channel in (0..channels).step_by(wide) {
            let width = wide.min(channels - channel);
            // SAFETY: the caller's promise.
            unsafe { self.multiply(tiles, point, [0, outs], [channel, width], sides, to.add(channel), row, add) };
        }
    }

    /// At one point, for `[first, count]` of outputs and of channels (a strip): `to (+)= mᵀ · v`.
    ///
    /// # Safety
    /// Both sides must be complete, and `to` have rows of `row` elements for all outputs.
    unsafe fn multiply(
        &self,
        tiles: usize,
        point: usize,
        [out, rows]: [usize; 2],
        [channel, width]: [usize; 2],
        (m, v): (&Points, &Points),
        to: *mut f32,
        row: usize,
        add: bool,
    ) {
        for tile in (0..tiles).step_by(DEPTH) {
            // SAFETY: the caller's promise.
            unsafe {
                let strip = Strip {
                    rows,
                    depth: DEPTH.min(tiles - tile),
                    columns: width,
                    a: m.data.add(point * m.point + tile * m.tile + out),
                    a_row: 1,
                    a_strip: TileShape::of::<f32>().rows as isize,
                    a_step: m.tile as isize,
                    b: v.data.add(point * v.point + tile * v.tile + channel),
                    b_step: v.tile as isize,
                    c: to,
                    c_row: row,
                    add: add || tile > 0,
                };
                strip.compute();
            }
        }
    }
}

fn spread<const N: usize>(
    side: &Planes,
    group: usize,
    values: &[f32],
    origin: [isize; 2],
    piece: Piece,
    pixels: *mut f32,
    to: Points,
) -> Spread<N> {
    Spread {
        planes: values[side.start(piece.image, group)..].as_ptr(),
        channels: side.channels,
        size: side.size,
        origin,
        piece,
        pixels,
        to: to.data,
        point: to.point,
        tile: to.tile,
    }
}
