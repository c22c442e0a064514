//! Convolutions of images with sixteen channels side by side, `[batch, channels / 16, height, width, 16]`, for models whose
//! weights do not change: a pixel's channels are read where they lie and outputs are written whole vectors at a time, so
//! that nothing is packed but the weights, once. What follows a convolution (bias, a second image, `max(·, 0)`) is done
//! while the sums are in registers.
//!
//! The layout was described by Georganas et al., "Anatomy of High-Performance Deep Learning Convolutions on SIMD
//! Architectures" (2018).

mod image;
mod pool;
#[cfg(test)]
mod tests;
mod tile;
pub mod winograd;

pub use pool::max_pool;
pub(crate) use pool::max_pool_body;

use super::ConvGeometry;
use crate::Float;
use crate::cpu;
use crate::matmul::scratch::{self, Purpose};
use crate::threads::{SendPointer, parallel};
use image::Layout;
use tile::Tiles;

/// Channels side by side.
pub const BLOCK: usize = 16;

/// Bytes of an image's channels that a task reads again for each block of outputs: a part of the second-level cache.
const PIECE: usize = 256 << 10;
/// Bytes of weights up to which a task takes all of them; above, tasks next to one another share a part.
const FEW_WEIGHTS: usize = 512 << 10;
/// Multiply-adds of a task, about.
const GRAIN: usize = 1 << 20;
/// Bytes of copied images made at a time.
const COPIED: usize = 4 << 20;

/// What is done to a convolution's sums before they are written: the bias `[out_channels]` is added, then an image laid out
/// as the output, then what is below 0 becomes 0.
#[derive(Clone, Copy, Default)]
pub struct Tail<'a, T> {
    /// One number for each output channel.
    pub bias: Option<&'a [T]>,
    /// An image laid out as the output.
    pub residual: Option<&'a [T]>,
    /// Whether numbers below 0 become 0.
    pub relu: bool,
}

/// [`super::forward`] for images in blocks: `x [batch, in_channels / 16, height, width, 16]`, `w [out_channels / 16,
/// in_channels / 16, kernel height, kernel width, 16 inputs, 16 outputs]`, `y` as `x`.
///
/// # Panics
/// If a slice has not the size the geometry says, there are groups or three axes, or channels are no multiples of 16.
pub fn forward<T: Float>(g: &ConvGeometry, x: &[T], w: &[T], tail: &Tail<T>, y: &mut [T]) {
    (T::floats().channels_forward)(g, x, w, tail, y)
}

/// [`forward`] for a plain image with few channels: `x [batch, in_channels, height, width]`, `w [out_channels / 16,
/// in_channels, kernel height, kernel width, 16]`.
///
/// # Panics
/// As [`forward`].
pub fn forward_planes<T: Float>(g: &ConvGeometry, x: &[T], w: &[T], tail: &Tail<T>, y: &mut [T]) {
    (T::floats().channels_forward_planes)(g, x, w, tail, y)
}

/// The body of [`forward`], compiled once for each type in this crate.
pub(crate) fn forward_body<T: Float>(g: &ConvGeometry, x: &[T], w: &[T], tail: &Tail<T>, y: &mut [T]) {
    assert!(g.in_channels.is_multiple_of(BLOCK), "convolution: input channels in blocks: {g:?}");
    run::<T, BLOCK>(g, x, w, tail, y);
}

/// The body of [`forward_planes`], compiled once for each type in this crate.
pub(crate) fn forward_planes_body<T: Float>(g: &ConvGeometry, x: &[T], w: &[T], tail: &Tail<T>, y: &mut [T]) {
    run::<T, 1>(g, x, w, tail, y);
}

fn check<T>(g: &ConvGeometry, tail: &Tail<T>) {
    let flat = g.input[0] == 1 && g.kernel[0] == 1 && g.output[0] == 1 && g.padding[0] == 0;
    assert!(flat && g.groups == 1, "convolution: one group and two axes are needed: {g:?}");
    assert!(g.out_channels.is_multiple_of(BLOCK), "convolution: output channels in blocks: {g:?}");
    assert!(tail.bias.is_none_or(|bias| bias.len() == g.out_channels), "convolution: elements of the bias for {g:?}");
    let whole = |image: &[T]| image.len() == g.output_size();
    assert!(tail.residual.is_none_or(whole), "convolution: elements of the residual for {g:?}");
}

fn run<T: Float, const RUN: usize>(g: &ConvGeometry, x: &[T], w: &[T], tail: &Tail<T>, y: &mut [T]) {
    g.check(x.len(), w.len(), y.len());
    check(g, tail);
    if y.is_empty() {
        return;
    }
    let layout = Layout::new(g, RUN);
    let planes = g.in_channels / RUN;
    let sums = Sums::<T> { g, w, tail, cut: Cut::new::<T>(g, &layout), layout: &layout };
    let y = SendPointer(y.as_mut_ptr());
    if layout.in_place {
        return sums.run::<RUN>(0..g.batch, x, &y);
    }
    let size = planes * layout.plane;
    let together = (COPIED / (size * size_of::<T>()).max(1)).clamp(1, g.batch);
    let image = x.len() / g.batch;
    scratch::with(Purpose::Image, together * size, |copy: &mut [T]| {
        for first in (0..g.batch).step_by(together) {
            let images = first..g.batch.min(first + together);
            layout.copy(images.len() * planes, &x[images.start * image..images.end * image], copy);
            sums.run::<RUN>(images, copy, &y);
        }
    });
}

/// How an image's outputs are cut into tasks: pieces of rows (of all pixels in one row, where neighbours in the output
/// are neighbours in the image throughout) and groups of blocks of output channels.
struct Cut {
    rows: usize,
    columns: usize,
    /// Rows and columns of a piece, pieces of an image.
    height: usize,
    width: usize,
    pieces: usize,
    /// Blocks of a group, and groups.
    blocks: usize,
    groups: usize,
    /// Whether tasks next to one another share weights, not images.
    weights_first: bool,
}

impl Cut {
    fn new<T>(g: &ConvGeometry, layout: &Layout) -> Cut {
        let [_, rows, columns] = g.output;
        let flat = layout.in_place && g.kernel == [1; 3] && g.input == g.output;
        let (rows, columns) = if flat { (1, rows * columns) } else { (rows, columns) };
        let pixels = (PIECE / (g.in_channels * g.stride[1] * g.stride[2] * size_of::<T>()).max(1)).max(1);
        let tasks = (g.multiply_adds() / g.batch).div_ceil(GRAIN).max(1);
        // Pieces as even as possible.
        let cut = |size: usize, piece: usize| size.div_ceil(size.div_ceil(piece.clamp(1, size)));
        let (height, width) = match flat {
            true => (1, cut(columns, pixels.min(columns.div_ceil(tasks)).next_multiple_of(14 * 4))),
            false => (cut(rows, (pixels / columns).min(rows.div_ceil(tasks)).max(4)), columns),
        };
        let pieces = rows.div_ceil(height) * columns.div_ceil(width);
        let all = g.out_channels / BLOCK;
        let weights_first = g.weight_size() * size_of::<T>() > FEW_WEIGHTS;
        let few = tasks.div_ceil(pieces).min(all.div_ceil(2));
        let groups = if weights_first { all.div_ceil(2) } else { few };
        let blocks = all.div_ceil(groups).next_multiple_of(2);
        Cut { rows, columns, height, width, pieces, blocks, groups: all.div_ceil(blocks), weights_first }
    }
}

/// The convolution of images whose taps all exist.
struct Sums<'a, T> {
    g: &'a ConvGeometry,
    w: &'a [T],
    tail: &'a Tail<'a, T>,
    layout: &'a Layout,
    cut: Cut,
}

impl<T: Float> Sums<'_, T> {
    /// Computes some images; `x` begins with the first of them.
    fn run<const RUN: usize>(&self, images: std::ops::Range<usize>, x: &[T], y: &SendPointer<T>) {
        let (g, cut, layout) = (self.g, &self.cut, self.layout);
        let (count, all) = (images.len() * cut.pieces, g.out_channels / BLOCK);
        let plane = g.output[1] * g.output[2] * BLOCK;
        let w_block = self.w.len() / all;
        parallel(count * cut.groups, |task| {
            let (piece, group) = match cut.weights_first {
                true => (task % count, task / count),
                false => (task / cut.groups, task % cut.groups),
            };
            let (image, piece) = (piece / cut.pieces, piece % cut.pieces);
            let across = cut.columns.div_ceil(cut.width);
            let (row, column) = (piece / across * cut.height, piece % across * cut.width);
            let block = group * cut.blocks;
            let at = ((images.start + image) * all + block) * plane + (row * cut.columns + column) * BLOCK;
            let tiles = Tiles::<T, RUN> {
                x: x[image * g.in_channels / RUN * layout.plane + row * layout.row + column * RUN..].as_ptr(),
                x_row: layout.row,
                taps: &layout.taps,
                w: self.w[block * w_block..].as_ptr(),
                w_block,
                blocks: cut.blocks.min(all - block),
                rows: cut.height.min(cut.rows - row),
                columns: cut.width.min(cut.columns - column),
                // SAFETY: the piece lies inside the output.
                y: unsafe { y.at(at) },
                y_row: g.output[2] * BLOCK,
                y_block: plane,
                bias: self.tail.bias.map_or(std::ptr::null(), |bias| bias[block * BLOCK..].as_ptr()),
                residual: self.tail.residual.map_or(std::ptr::null(), |residual| residual[at..].as_ptr()),
                relu: self.tail.relu,
            };
            // SAFETY: sizes were checked, the layout's taps exist for every output, and each task writes a rectangle of its
            // own of some blocks.
            unsafe { cpu::run(tiles) };
        });
    }
}
