//! The gradient of the weights: a product over all positions of all examples.
//!
//! Tasks are blocks of input channels and, where those are few, parts of the batch; the parts' sums are added in order.

use super::ConvGeometry;
use super::direct::{Correlation, Fold};
use super::image::Layout;
use crate::Float;
use crate::cpu::{self, TileShape, Vector, Work};
use crate::matmul::kernel::Strip;
use crate::matmul::pack;
use crate::matmul::scratch::{self, Purpose};
use crate::threads::{SendPointer, parallel, parallel_chunks};

/// Columns (input channels times taps) of a task, about.
const COLUMNS: usize = 192;
/// Positions multiplied at a time, about.
const POSITIONS: usize = 256;
/// The same without packing, where the sums are loaded and stored for each chunk.
const DIRECT_POSITIONS: usize = 1024;
/// Up to so many weights in a group are summed without packing: packing would cost as much as the sums.
const FEW: usize = 1600;
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
    let blocks = channels.div_ceil((COLUMNS / taps).max(1));
    let block = channels.div_ceil(blocks);
    let axis = if g.output[0] > 1 { 0 } else { 1 };
    let row: usize = g.output[axis + 1..].iter().product();
    let whole = row * g.output[axis];
    let direct = rows <= 2 || rows * channels * taps <= FEW;
    let positions = if direct { DIRECT_POSITIONS } else { POSITIONS };
    let (images, band) = match whole <= positions * 3 / 2 {
        true => ((positions / whole).clamp(1, g.batch), g.output[axis]),
        false => (1, (positions / row).clamp(1, g.output[axis])),
    };
    let most = (g.multiply_adds() / GRAIN).clamp(1, TASKS);
    let part = g.batch.div_ceil(most.div_ceil(g.groups * blocks)).next_multiple_of(images);
    let mut size = g.output;
    size[axis] = band;
    let displacements: Vec<[isize; 3]> = g
        .positions()
        .map(|k| [0, 1, 2].map(|axis| (k[axis] * g.dilation[axis]) as isize - g.padding[axis] as isize))
        .collect();
    let layout = Layout::new(g.input, g.stride, size, &displacements);
    Cut { taps, rows, channels, block, images, axis, band, part, parts: g.batch.div_ceil(part), direct, layout }
}

/// All parts' sums, one after the other in `out`, each as long as the weights.
fn parts<T: Float>(g: &ConvGeometry, cut: &Cut, x: &[T], gy: &[T], out: &mut [T]) {
    let blocks = cut.channels.div_ceil(cut.block);
    let size = out.len() / cut.parts;
    let out = SendPointer(out.as_mut_ptr());
    let cells = cut.parts * g.groups * blocks;
    let bundle = (GRAIN / 2 / (g.multiply_adds() / cells).max(1)).clamp(1, cells);
    parallel(cells.div_ceil(bundle), |task| {
        for cell in task * bundle..cells.min((task + 1) * bundle) {
            let (block, rest) = (cell % blocks, cell / blocks);
            let (group, part) = (rest % g.groups, rest / g.groups);
            let channel = block * cut.block;
            let channels = cut.block.min(cut.channels - channel);
            let n = cut.channels * cut.taps;
            // SAFETY: inside this part's weights.
            let target = unsafe { out.at(part * size + group * cut.rows * n + channel * cut.taps) };
            let chunks = chunks(g, cut, part).map(|(image, images, corner, size)| Chunk {
                group,
                channel,
                channels,
                image,
                images,
                corner,
                size,
            });
            // SAFETY: this cell's columns of the rows of its group, which no other task writes.
            unsafe {
                if cut.direct {
                    direct(g, cut, chunks, channels, x, gy, target);
                } else {
                    for (index, chunk) in chunks.enumerate() {
                        product(g, cut, &chunk, x, gy, target, index > 0);
                    }
                }
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
        let (source, plane) = (g.input.iter().product::<usize>(), cut.layout.plane);
        assert!(copy.len() >= self.images * self.channels * plane + 16);
        for index in 0..self.images * self.channels {
            let (image, channel) = (self.image + index / self.channels, self.channel + index % self.channels);
            let from = (image * g.groups + self.group) * cut.channels + channel;
            // SAFETY: the planes lie one after the other in the copy, which is longer than all of them.
            unsafe {
                cut.layout.copy(self.corner, &x[from * source..][..source], copy.as_mut_ptr().add(index * plane))
            };
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
unsafe fn direct<T: Float>(
    g: &ConvGeometry,
    cut: &Cut,
    chunks: impl Iterator<Item = Chunk>,
    channels: usize,
    x: &[T],
    gy: &[T],
    target: *mut T,
) {
    let plane = cut.layout.plane;
    // One vector for each sum, ordered [channel][row][tap].
    let lanes = TileShape::of::<T>().lanes;
    scratch::with(Purpose::Small, channels * cut.rows * cut.taps * lanes, |sums: &mut [T]| {
        sums.fill(T::ZERO);
        scratch::with(Purpose::Image, cut.images * channels * plane + 64, |copy: &mut [T]| {
            for chunk in chunks {
                chunk.copy(g, cut, x, copy);
                for channel in 0..channels {
                    for z in 0..chunk.size[0] {
                        let start = chunk.start(g, cut, 0, 0) + z * g.output[1] * g.output[2];
                        let gy_row = g.output.iter().product();
                        let correlation = Correlation {
                            size: [chunk.images, chunk.size[1], chunk.size[2]],
                            gy: gy[start..].as_ptr(),
                            gy_image: g.out_channels * gy_row,
                            gy_row,
                            gy_y: g.output[2],
                            rows: cut.rows,
                            image: copy[channel * plane + cut.layout.row(z, 0)..].as_ptr(),
                            image_image: channels * plane,
                            image_y: cut.layout.row(0, 1),
                            taps: &cut.layout.taps,
                            sums: sums[channel * cut.rows * cut.taps * lanes..].as_mut_ptr(),
                        };
                        // SAFETY: the chunk's positions lie inside `gy`, their taps inside the copy; the sums have room.
                        unsafe { correlation.compute() };
                    }
                }
            }
        });
        for (index, sums) in sums.chunks_exact(cut.taps * lanes).enumerate() {
            let (channel, row) = (index / cut.rows, index % cut.rows);
            // SAFETY: the caller's promise; folding uses no pointers.
            unsafe {
                let to = target.add((row * cut.channels + channel) * cut.taps);
                cpu::run(Fold { sums, out: std::slice::from_raw_parts_mut(to, cut.taps) });
            }
        }
    });
}

/// One chunk as a product `gy[rows, positions] · patchesᵀ[positions, channels · taps]`.
///
/// # Safety
/// As [`direct`].
unsafe fn product<T: Float>(g: &ConvGeometry, cut: &Cut, chunk: &Chunk, x: &[T], gy: &[T], target: *mut T, add: bool) {
    let plane = cut.layout.plane;
    let TileShape { rows: tall, columns: wide, .. } = TileShape::of::<T>();
    let segment: usize = chunk.size.iter().product();
    let depth = chunk.images * segment;
    let n = chunk.channels * cut.taps;
    let step = g.output.iter().product::<usize>() as isize;
    scratch::with(Purpose::Right, n.next_multiple_of(wide) * depth, |panel: &mut [T]| {
        scratch::with(Purpose::Image, chunk.images * chunk.channels * plane + 64, |copy: &mut [T]| {
            chunk.copy(g, cut, x, copy);
            scratch::with(Purpose::Small, wide * depth + 64, |patches: &mut [T]| {
                for column in (0..n).step_by(wide) {
                    let count = wide.min(n - column);
                    for j in 0..count {
                        let (channel, tap) = ((column + j) / cut.taps, (column + j) % cut.taps);
                        let row = PatchRow {
                            cut,
                            chunk,
                            from: copy[channel * plane + cut.layout.taps[tap]..].as_ptr(),
                            to: patches[j * depth..].as_mut_ptr(),
                        };
                        // SAFETY: the copy and the patches have room for a vector behind what is used.
                        unsafe { cpu::run(row) };
                    }
                    let to = panel[column * depth..].as_mut_ptr();
                    // SAFETY: `count` rows of patches are complete; the panel has room for this strip.
                    unsafe { pack::right(depth, count, patches.as_ptr(), 1, depth as isize, to) };
                }
            });
        });
        scratch::with(Purpose::Left, pack::left_size::<T>(ROW_BLOCK, depth), |left: &mut [T]| {
            for row in (0..cut.rows).step_by(ROW_BLOCK) {
                let rows = ROW_BLOCK.min(cut.rows - row);
                for strip in (0..rows).step_by(tall) {
                    for image in 0..chunk.images {
                        let from = gy[chunk.start(g, cut, image, row + strip)..].as_ptr();
                        let to = left[strip * depth + image * segment * tall..].as_mut_ptr();
                        // SAFETY: these rows and positions lie inside `gy`; the panel has room for the strip.
                        unsafe { pack::left(tall.min(rows - strip), segment, from, step, 1, to) };
                    }
                }
                for column in (0..n).step_by(wide) {
                    let strip = Strip {
                        rows,
                        depth,
                        columns: wide.min(n - column),
                        a: left.as_ptr(),
                        a_row: 1,
                        a_strip: (tall * depth) as isize,
                        a_step: tall as isize,
                        b: panel[column * depth..].as_ptr(),
                        b_step: wide as isize,
                        c: target.wrapping_add(row * cut.channels * cut.taps + column),
                        c_row: cut.channels * cut.taps,
                        add,
                    };
                    // SAFETY: both panels are complete; the caller's promise for the target.
                    unsafe { strip.compute() };
                }
            }
        });
    });
}

/// What one tap of one channel reads, for all positions of a chunk.
struct PatchRow<'a, T> {
    cut: &'a Cut,
    chunk: &'a Chunk,
    from: *const T,
    to: *mut T,
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl<T: Float> Work<T> for PatchRow<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        let [depth, height, width] = self.chunk.size;
        let image = self.chunk.channels * self.cut.layout.plane;
        let mut to = self.to;
        for index in 0..self.chunk.images {
            for z in 0..depth {
                for y in 0..height {
                    // Whole vectors; what is written beyond a row's end is overwritten by the next.
                    // SAFETY: the caller left room for a vector behind the last row, on both sides.
                    unsafe {
                        let from = self.from.add(index * image + self.cut.layout.row(z, y));
                        let mut x = 0;
                        while x < width {
                            V::load(from.add(x)).store(to.add(x));
                            x += V::LANES;
                        }
                        to = to.add(width);
                    }
                }
            }
        }
    }
}
