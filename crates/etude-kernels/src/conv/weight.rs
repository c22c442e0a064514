//! The gradient of the weights: a product over all positions of all examples.
//!
//! Tasks are blocks of input channels and, where those are few, parts of the batch; the parts' sums are added in order.

use super::ConvGeometry;
use super::ahead::{Ahead, Pieces};
use super::direct::{CORRELATED, Correlation, Fold};
use super::image::{Columns, Layout, Runs};
use super::transposed::TransposedPatches;
use crate::Float;
use crate::cpu::{self, TileShape, caches};
use crate::matmul::kernel::Strip;
use crate::matmul::pack;
use crate::matmul::scratch::{self, Purpose};
use crate::threads::{SendPointer, parallel, parallel_chunks};
use std::cmp::Reverse;
use std::iter::Peekable;
use std::ops::Range;

/// Columns (input channels times taps) of a task, about.
const COLUMNS: usize = 192;
/// Positions that take as long as it takes to write and add up a part.
const PART: usize = 32;
/// Positions multiplied at a time, about.
const POSITIONS: usize = 256;
/// The same without packing, where the sums are loaded and stored for each chunk.
const DIRECT_POSITIONS: usize = 2048;
/// About so many positions of whole images are not cut into parts then.
const DIRECT_PART: usize = 1024;
/// Up to so many weights in a group are summed without packing: packing would cost as much as the sums.
const FEW: usize = 1600;
/// The same where rows of positions are so long that few lanes of their last vector are empty.
const FEW_LONG: usize = 9600;
/// What such a row has at least.
const LONG: usize = 96;
/// Nothing is asked for ahead where both sides have so many bytes together: they are in the second-level caches.
pub(super) const SMALL: usize = 1 << 21;
/// Rows computed with one strip before the next.
const ROW_BLOCK: usize = 96;
/// At least so many tasks, if there is work for them.
const TASKS: usize = 16;
/// Weights whose parts a task adds up.
const SUMMED: usize = 1 << 11;
/// Multiply-adds a task should have.
const GRAIN: usize = 1 << 18;

/// The cut of a gradient, by size only.
struct Cut {
    taps: usize,
    /// Channels in one group: of `y`, of `x`, and of `x` at a time.
    rows: usize,
    channels: usize,
    block: usize,
    /// Images at a time; if one, then `band` positions along `axis` of it.
    images: usize,
    axis: usize,
    band: usize,
    /// Images of one part of the batch.
    part: usize,
    parts: usize,
    /// Whether patches are read where they lie.
    direct: bool,
    layout: Layout,
}

/// See [`super::weight_gradient`]; sizes are checked there.
pub(super) fn gradient<T: Float>(g: &ConvGeometry, x: &[T], gy: &[T], gw: &mut [T]) {
    if gw.is_empty() {
        return;
    }
    if g.output_size() == 0 || g.input_size() == 0 {
        return gw.fill(T::ZERO);
    }
    let cut = cut(g);
    sum_of_parts(cut.parts, gw, |out| parts(g, &cut, x, gy, out));
}

/// `gw` becomes the sum of `parts` gradients, in order, which `fill` writes one after the other.
pub(super) fn sum_of_parts<T: Float>(parts: usize, gw: &mut [T], fill: impl FnOnce(&mut [T])) {
    if parts == 1 {
        return fill(gw);
    }
    let size = gw.len();
    scratch::with(Purpose::Partial, parts * size, |partial: &mut [T]| {
        fill(partial);
        parallel_chunks(gw, SUMMED, |index, gw| {
            let start = index * SUMMED;
            gw.copy_from_slice(&partial[start..][..gw.len()]);
            for part in 1..parts {
                for (to, from) in gw.iter_mut().zip(&partial[part * size + start..]) {
                    *to += *from;
                }
            }
        });
    });
}

fn cut(g: &ConvGeometry) -> Cut {
    let taps = g.taps();
    let (rows, channels) = (g.out_channels / g.groups, g.in_channels / g.groups);
    let most = (g.multiply_adds() / GRAIN).clamp(1, TASKS);
    let block = block(g, most);
    let blocks = channels.div_ceil(block);
    let axis = if g.output[0] > 1 { 0 } else { 1 };
    let row: usize = g.output[axis + 1..].iter().product();
    let whole = row * g.output[axis];
    let few = if g.output[2] >= LONG { FEW_LONG } else { FEW };
    let direct = rows <= 2 || rows * channels * taps <= few;
    let cut_by = |positions: usize| match whole <= positions * 3 / 2 {
        true => ((positions / whole).clamp(1, g.batch), g.output[axis]),
        false => (1, (positions / row).clamp(1, g.output[axis])),
    };
    let (images, band) = cut_by(if direct { DIRECT_POSITIONS } else { POSITIONS });
    // Parts do not follow the chunks without packing: the sums, and so their bits, are cut by the parts alone.
    let unit = if direct { cut_by(DIRECT_PART).0 } else { images };
    let part = g.batch.div_ceil(most.div_ceil(g.groups * blocks)).next_multiple_of(unit);
    // Nor do planes of several images change places.
    let images = images.min(if direct && g.output[0] > 1 { unit } else { part });
    let mut size = g.output;
    size[axis] = band;
    let displacements: Vec<[isize; 3]> = g
        .positions()
        .map(|k| [0, 1, 2].map(|axis| (k[axis] * g.dilation[axis]) as isize - g.padding[axis] as isize))
        .collect();
    // Read in place, a run of positions must be a vector at least, in the last band too: nothing is read beyond it.
    let mut last = size;
    last[axis] = (g.output[axis] - 1) % band + 1;
    let in_place = Layout::in_place(g.input, g.stride, g.output, &displacements)
        .filter(|layout| !direct && layout.runs(last).length >= TileShape::MAX_LANES);
    // Rows shorter than a vector are packed faster in one run.
    let columns = if direct || size[2] > TileShape::MAX_LANES { Columns::Once } else { Columns::ForEachTap };
    let layout = in_place.unwrap_or_else(|| Layout::new(g.input, g.stride, size, &displacements, columns));
    Cut { taps, rows, channels, block, images, axis, band, part, parts: g.batch.div_ceil(part), direct, layout }
}

/// Channels of a task: about so many that few lanes of the vectors stay empty, and that `gy` is seldom packed and parts are
/// few; up to `tasks` are wanted.
fn block(g: &ConvGeometry, tasks: usize) -> usize {
    let (channels, taps) = (g.in_channels / g.groups, g.taps());
    let positions = g.batch * g.output.iter().product::<usize>();
    let most = COLUMNS / taps;
    let even = ((most / 2).max(1)..=(most * 3 / 2).max(1)).map(|most| {
        let block = channels.div_ceil(channels.div_ceil(most));
        let vectors = |channels: usize| (channels * taps).div_ceil(TileShape::MAX_LANES);
        let (blocks, all) = (channels.div_ceil(block), channels / block * vectors(block) + vectors(channels % block));
        // To pack `gy` once takes about as long as to multiply it by one vector of columns, to add up a part as some positions.
        ((all + blocks) * positions + PART * all * tasks.div_ceil(g.groups * blocks), Reverse(block))
    });
    even.min().map_or(1, |(_, Reverse(block))| block)
}

/// All parts' sums, one after the other in `out`, each as long as the weights.
fn parts<T: Float>(g: &ConvGeometry, cut: &Cut, x: &[T], gy: &[T], out: &mut [T]) {
    let blocks = cut.channels.div_ceil(cut.block);
    let size = out.len() / cut.parts;
    let out = SendPointer(out.as_mut_ptr());
    let cells = cut.parts * g.groups * blocks;
    let bundle = (GRAIN / 2 / (g.multiply_adds() / cells).max(1)).clamp(1, cells);
    let chunks = |cell: usize| {
        let (block, rest) = (cell % blocks, cell / blocks);
        let (group, part) = (rest % g.groups, rest / g.groups);
        let channel = block * cut.block;
        let channels = cut.block.min(cut.channels - channel);
        chunks(g, cut, part).map(move |(image, images, corner, size)| Chunk {
            part,
            group,
            channel,
            channels,
            image,
            images,
            corner,
            size,
        })
    };
    parallel(cells.div_ceil(bundle), |task| {
        let end = cells.min((task + 1) * bundle);
        for cell in task * bundle..end {
            let mut chunks_left = chunks(cell).peekable();
            let Some(first) = chunks_left.peek() else { continue };
            let (n, channels) = (cut.channels * cut.taps, first.channels);
            // SAFETY: inside this part's weights.
            let target = unsafe { out.at(first.part * size + first.group * cut.rows * n + first.channel * cut.taps) };
            // A thread goes through its tasks in order.
            let following = (cell + 1 < cells).then(|| chunks(cell + 1).next()).flatten();
            if cut.direct {
                // SAFETY: this cell's columns of the rows of its group, which no other task writes.
                unsafe { correlate(g, cut, chunks_left, following.as_ref(), channels, x, gy, target) };
                continue;
            }
            let mut add = false;
            while let Some(chunk) = chunks_left.next() {
                let next = chunks_left.peek().or(following.as_ref());
                // SAFETY: as above.
                unsafe { product(g, cut, &chunk, next, x, gy, target, add) };
                add = true;
            }
        }
    });
}

/// The chunks of a part of the batch: first image, images, first position along axes 0 and 1, positions.
fn chunks(
    g: &ConvGeometry,
    cut: &Cut,
    part: usize,
) -> impl Iterator<Item = (usize, usize, [usize; 2], [usize; 3])> + use<> {
    let (output, axis, band, step) = (g.output, cut.axis, cut.band, cut.images);
    let end = g.batch.min((part + 1) * cut.part);
    (part * cut.part..end).step_by(step).flat_map(move |image| {
        (0..output[axis]).step_by(band).map(move |start| {
            let (mut corner, mut size) = ([0; 2], output);
            corner[axis] = start;
            size[axis] = band.min(output[axis] - start);
            (image, step.min(end - image), corner, size)
        })
    })
}

/// Some channels, images and positions.
struct Chunk {
    /// Of the batch.
    part: usize,
    group: usize,
    channel: usize,
    channels: usize,
    image: usize,
    images: usize,
    /// First position along axes 0 and 1.
    corner: [usize; 2],
    size: [usize; 3],
}

impl Chunk {
    /// Copies the chunk's input planes: `[image][channel][plane]`.
    fn copy<T: Float>(&self, g: &ConvGeometry, cut: &Cut, x: &[T], copy: &mut [T]) {
        let source: usize = g.input.iter().product();
        let images = (self.image..).zip(copy.chunks_exact_mut(self.channels * cut.layout.plane));
        for (image, copy) in images.take(self.images) {
            let from = ((image * g.groups + self.group) * cut.channels + self.channel) * source;
            cut.layout.copy(self.corner, &x[from..][..self.channels * source], copy);
        }
    }

    /// Packs the chunk's patches as a right side: `depth` positions, channels times taps as columns.
    fn pack<T: Float>(&self, g: &ConvGeometry, cut: &Cut, x: &[T], depth: usize, panel: &mut [T]) {
        let (wide, plane) = (TileShape::of::<T>().columns, cut.layout.plane);
        let in_place = cut.layout.in_place;
        let size = if in_place { 0 } else { self.images * self.channels * plane + 64 };
        scratch::with(Purpose::Image, size, |copy: &mut [T]| {
            let (from, image) = if in_place {
                let first = (self.image * g.groups + self.group) * cut.channels + self.channel;
                let start = first * plane + cut.layout.row(self.corner[0], self.corner[1]);
                (x[start..].as_ptr(), g.in_channels * plane)
            } else {
                self.copy(g, cut, x, copy);
                (copy.as_ptr(), self.channels * plane)
            };
            let n = self.channels * cut.taps;
            let runs = cut.layout.runs(self.size);
            for column in (0..n).step_by(wide) {
                let count = wide.min(n - column);
                let mut columns = [from; TileShape::MAX_COLUMNS];
                for (j, at) in columns[..count].iter_mut().enumerate() {
                    let (channel, tap) = ((column + j) / cut.taps, (column + j) % cut.taps);
                    *at = from.wrapping_add(channel * plane + cut.layout.taps[tap]);
                }
                let to = panel[column * depth..].as_mut_ptr();
                let patches =
                    TransposedPatches { columns: &columns, count, images: self.images, image, runs: &runs, to };
                // SAFETY: all positions' taps exist, in a copy with room for a vector behind them; the panel has room for
                // this strip and behind it.
                unsafe { cpu::run(patches) };
            }
        });
    }

    /// What the chunk reads of some rows of `gy`.
    fn gy_pieces<T>(&self, g: &ConvGeometry, cut: &Cut, gy: &[T], rows: Range<usize>) -> Pieces<T> {
        let plane: usize = g.output.iter().product();
        Pieces {
            from: gy[self.start(g, cut, 0, rows.start)..].as_ptr(),
            counts: [self.images, rows.len(), 1],
            apart: [g.out_channels * plane, plane, 0],
            length: self.size.iter().product(),
        }
    }

    /// What the chunk reads of some of its channels.
    fn x_pieces<T>(&self, g: &ConvGeometry, cut: &Cut, x: &[T], channels: Range<usize>) -> Pieces<T> {
        let plane: usize = g.input.iter().product();
        let (start, Runs { counts: [_, rows], apart: [_, apart], length }) = cut.layout.reach(self.corner, self.size);
        let first = (self.image * g.groups + self.group) * cut.channels + self.channel + channels.start;
        Pieces {
            from: x.as_ptr().wrapping_add(first * plane + start),
            counts: [self.images, channels.len(), rows],
            apart: [g.in_channels * plane, plane, apart],
            length,
        }
    }

    /// Where the chunk's first position of an image and row of its group lies in `gy`.
    fn start(&self, g: &ConvGeometry, cut: &Cut, image: usize, row: usize) -> usize {
        let plane = ((self.image + image) * g.groups + self.group) * cut.rows + row;
        ((plane * g.output[0] + self.corner[0]) * g.output[1] + self.corner[1]) * g.output[2]
    }
}

/// All chunks of a cell as correlations, without packing.
///
/// # Safety
/// `target` must be valid for `rows` rows of `channels · taps`, the weights' row length apart.
unsafe fn correlate<T: Float>(
    g: &ConvGeometry,
    cut: &Cut,
    mut chunks: Peekable<impl Iterator<Item = Chunk>>,
    following: Option<&Chunk>,
    channels: usize,
    x: &[T],
    gy: &[T],
    target: *mut T,
) {
    let plane = cut.layout.plane;
    let taps: Vec<usize> = (0..channels).flat_map(|c| cut.layout.taps.iter().map(move |tap| c * plane + tap)).collect();
    // One vector for each sum, ordered [row][channel][tap].
    let lanes = TileShape::of::<T>().lanes;
    let gy_row: usize = g.output.iter().product();
    scratch::with(Purpose::Small, cut.rows * taps.len() * lanes, |sums: &mut [T]| {
        sums.fill(T::ZERO);
        scratch::with(Purpose::Image, cut.images * channels * plane + 64, |copy: &mut [T]| {
            while let Some(chunk) = chunks.next() {
                chunk.copy(g, cut, x, copy);
                // Asked for meanwhile: what the next chunk reads.
                let next = chunks.peek().or(following).filter(|_| size_of_val(x) + size_of_val(gy) > SMALL);
                let pieces = next.map_or(Pieces::none(), |next| next.x_pieces(g, cut, x, 0..next.channels));
                let tiles = cut.rows.div_ceil(CORRELATED[0]) * taps.len().div_ceil(CORRELATED[1]);
                let mut ahead = Ahead::new([pieces], tiles * chunk.size[0]);
                let here = chunk.start(g, cut, 0, 0);
                let next = next.map(|next| next.start(g, cut, 0, 0) as isize - here as isize);
                for z in 0..chunk.size[0] {
                    for row in (0..cut.rows).step_by(CORRELATED[0]) {
                        let start = chunk.start(g, cut, 0, row) + z * g.output[1] * g.output[2];
                        let correlation = Correlation {
                            size: [chunk.images, chunk.size[1], chunk.size[2]],
                            gy: gy[start..].as_ptr(),
                            gy_image: g.out_channels * gy_row,
                            gy_row,
                            gy_y: g.output[2],
                            rows: CORRELATED[0].min(cut.rows - row),
                            image: copy[cut.layout.row(z, 0)..].as_ptr(),
                            image_image: channels * plane,
                            image_y: cut.layout.row(0, 1),
                            taps: &taps,
                            sums: sums[row * taps.len() * lanes..].as_mut_ptr(),
                            next,
                        };
                        // SAFETY: the chunk's positions lie inside `gy`, their taps inside the copy; the sums have room.
                        unsafe { correlation.compute(&mut ahead) };
                    }
                }
            }
        });
        for (row, sums) in sums.chunks_exact(taps.len() * lanes).enumerate() {
            // SAFETY: the caller's promise; folding uses no pointers.
            unsafe {
                let to = target.add(row * cut.channels * cut.taps);
                cpu::run(Fold { sums, out: std::slice::from_raw_parts_mut(to, taps.len()) });
            }
        }
    });
}

/// One chunk as a product `gy[rows, positions] · patchesᵀ[positions, channels · taps]`; the next is asked for meanwhile.
///
/// # Safety
/// As [`correlate`].
unsafe fn product<T: Float>(
    g: &ConvGeometry,
    cut: &Cut,
    chunk: &Chunk,
    next: Option<&Chunk>,
    x: &[T],
    gy: &[T],
    target: *mut T,
    add: bool,
) {
    let TileShape { rows: tall, columns: wide, .. } = TileShape::of::<T>();
    let segment: usize = chunk.size.iter().product();
    let depth = chunk.images * segment;
    let n = chunk.channels * cut.taps;
    let step = g.output.iter().product::<usize>() as isize;
    // Lines that lie apart are many to ask for, and come by themselves soon enough if the last level has them.
    let asks = g.stride[1] == 1 || g.kernel[1] > 1 || caches::are_outgrown_by(size_of_val(x));
    scratch::with(
        Purpose::Right,
        n.next_multiple_of(wide) * depth + TransposedPatches::<T>::room(),
        |panel: &mut [T]| {
            chunk.pack(g, cut, x, depth, panel);
            scratch::with(Purpose::Left, pack::left_size::<T>(ROW_BLOCK, depth), |left: &mut [T]| {
                for row in (0..cut.rows).step_by(ROW_BLOCK) {
                    let rows = ROW_BLOCK.min(cut.rows - row);
                    // Asked for meanwhile: the next rows of `gy`, and a share of the next chunk's input.
                    let later = row + ROW_BLOCK;
                    let left_side = match later < cut.rows {
                        true => Some(chunk.gy_pieces(g, cut, gy, later..cut.rows.min(later + ROW_BLOCK))),
                        false => next.map(|next| next.gy_pieces(g, cut, gy, 0..cut.rows.min(ROW_BLOCK))),
                    };
                    let share = |row: usize, next: &Chunk| next.channels * row.min(cut.rows) / cut.rows;
                    let right_side = next
                        .filter(|_| asks)
                        .map(|next| next.x_pieces(g, cut, x, share(row, next)..share(later, next)));
                    let pieces = [left_side, right_side].map(|side| side.unwrap_or(Pieces::none()));
                    let mut ahead = Ahead::new(pieces, rows.div_ceil(tall) * n.div_ceil(wide));
                    for strip in (0..rows).step_by(tall) {
                        for image in 0..chunk.images {
                            let from = gy[chunk.start(g, cut, image, row + strip)..].as_ptr();
                            let to = left[strip * depth + image * segment * tall..].as_mut_ptr();
                            // SAFETY: these rows and positions lie inside `gy`; the panel has room for the strip.
                            unsafe { pack::left(tall.min(rows - strip), segment, from, step, 1, to) };
                        }
                    }
                    for column in (0..n).step_by(wide) {
                        for strip in (0..rows).step_by(tall) {
                            ahead.ask();
                            let strip = Strip {
                                rows: tall.min(rows - strip),
                                depth,
                                columns: wide.min(n - column),
                                a: left[strip * depth..].as_ptr(),
                                a_row: 1,
                                a_strip: (tall * depth) as isize,
                                a_step: tall as isize,
                                b: panel[column * depth..].as_ptr(),
                                b_step: wide as isize,
                                c: target.wrapping_add((row + strip) * cut.channels * cut.taps + column),
                                c_row: cut.channels * cut.taps,
                                add,
                            };
                            // SAFETY: both panels are complete; the caller's promise for the target.
                            unsafe { strip.compute() };
                        }
                    }
                }
            });
        },
    );
}
