//! The gradient of the weights: at every point a product over tiles, `u[out, channel] = m[tile, out]ᵀ · v[tile, channel]`.

use super::transform::{Kernels, POINTS, Piece, Spread};
use super::{BLOCK, Cut, DEPTH, Planes, Points, odd_lines, sides, wide};
use crate::conv::ConvGeometry;
use crate::cpu::{self, TileShape};
use crate::matmul::kernel::Strip;
use crate::matmul::scratch::{self, Purpose};
use crate::threads::{SendPointer, parallel};

/// Elements of both sides transformed at a time: 8 MiB, or as much as there are transformed weights, which are read and
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
        let together = cut.together(TOGETHER.max(sums) / POINTS / tile);
        let (v_size, v) = Points::new(together * cut.tiles(), odd_lines(self.x.channels));
        let (m_size, m) = Points::new(together * cut.tiles(), odd_lines(self.gy.channels));
        let gw = SendPointer(gw.as_mut_ptr());
        scratch::with(Purpose::Left, m_size, |m_data: &mut [f32]| {
            scratch::with(Purpose::Right, v_size, |v_data: &mut [f32]| {
                let (m, v) = (Points { data: m_data.as_mut_ptr(), ..m }, Points { data: v_data.as_mut_ptr(), ..v });
                if together == cut.blocks {
                    self.transform(0, cut.blocks, m, v);
                    return self.all_at_once(m, v, &gw);
                }
                scratch::with(Purpose::Partial, sums, |sums: &mut [f32]| self.one_by_one(together, m, v, sums, &gw));
            });
        });
    }

    /// Transforms both sides for some blocks.
    fn transform(&self, first: usize, blocks: usize, m: Points, v: Points) {
        let cut = &self.cut;
        parallel(2 * blocks, |task| {
            let (m, v) = (&m, &v);
            let block = first + task / 2;
            let start = cut.first(block) - cut.first(first);
            let (side, width) = if task % 2 == 0 { (v, self.x.size[1]) } else { (m, self.gy.size[1]) };
            scratch::with(Purpose::Image, cut.pixels(width), |pixels: &mut [f32]| {
                for piece in cut.pieces(block).0 {
                    let pixels = pixels.as_mut_ptr();
                    // SAFETY: there is room for all tiles of the blocks, and an image's planes are all there.
                    unsafe {
                        let to = Points { data: side.data.add(start * side.tile), ..*side };
                        match task % 2 {
                            0 => {
                                cpu::run(spread::<6>(&self.x, self.group, self.inputs, self.origin, piece, pixels, to))
                            }
                            _ => cpu::run(spread::<4>(&self.gy, self.group, self.gradients, [0; 2], piece, pixels, to)),
                        }
                    }
                }
            });
        });
    }

    /// All tiles are transformed: each task sums a block of weights at all points and transforms it back.
    fn all_at_once(&self, m: Points, v: Points, gw: &SendPointer<f32>) {
        let wide = wide();
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
                for channel in (0..channels).step_by(wide()) {
                    let width = wide().min(channels - channel);
                    // SAFETY: both sides are complete; a point's sums belong to its task.
                    unsafe {
                        let to = sums.at(point * point_size + channel);
                        self.multiply(tiles, point, [0, outs], [channel, width], (&m, &v), to, row, first > 0);
                    }
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
