//! Sums over taps of a shifted input, for every position of a grid: the forward pass, and the gradient of the input.

use super::direct::{self, Plane};
use super::image::Layout;
use crate::Float;
use crate::cpu::{self, TileShape, Vector, Work};
use crate::matmul::kernel::Strip;
use crate::matmul::pack;
use crate::matmul::scratch::{self, Purpose};
use crate::threads::{SendPointer, parallel};

/// `y[b, r, origin + step·i] = Σ_c Σ_t w(r, c, t) · x[b, c, i · step + taps[t]]` for all `i` of `grid`, each group of
/// channels for itself.
pub(super) struct Sweep {
    pub batch: usize,
    pub groups: usize,
    /// Channels of `x` in one group.
    pub channels: usize,
    /// Channels of `y` in one group.
    pub rows: usize,
    /// Spatial sizes of `x`.
    pub source: [usize; 3],
    /// From one grid position to the next, in `x`.
    pub step: [usize; 3],
    /// Where each tap reads, relative to its position.
    pub taps: Vec<[isize; 3]>,
    /// Where each tap's weight lies; `w(r, c, t)` is at `r · weight_row + c · weight_channel + weights[t]`.
    pub weights: Vec<usize>,
    pub weight_row: usize,
    pub weight_channel: usize,
    /// From one group's weights to the next.
    pub weight_group: usize,
    /// Positions along each axis.
    pub grid: [usize; 3],
    /// Spatial sizes of `y`.
    pub target: [usize; 3],
    /// Where in `y` position 0 is written.
    pub target_origin: [usize; 3],
    /// From one grid position to the next, in `y`.
    pub target_step: [usize; 3],
}

/// Depth of a panel, about: as many whole channels as fit.
const DEPTH: usize = 320;
/// Positions of a task, about.
const POSITIONS: usize = 256;
/// Rows computed with one strip before the next, so that their weights stay in the second-level cache.
const ROW_BLOCK: usize = 96;
/// Up to so many rows, patches are not packed: each would be used too seldom.
const FEW_ROWS: usize = 12;
/// Multiply-adds a task should have.
const GRAIN: usize = 1 << 17;

/// How a sweep is cut into cells: some whole images, or a band of one image.
struct Cut {
    images: usize,
    /// The axis bands are cut from: 1, or 0 if there are several planes.
    axis: usize,
    /// Positions of a band along `axis`.
    band: usize,
    bands: usize,
    /// Channels at a time.
    block: usize,
    layout: Layout,
}

/// One cell.
struct Cell {
    group: usize,
    image: usize,
    images: usize,
    /// First position along axes 0 and 1.
    first: [usize; 2],
    /// Positions along each axis.
    size: [usize; 3],
}

/// A run of neighbouring positions inside a strip.
#[derive(Clone, Copy, Default)]
struct Run {
    /// Column of the strip it starts at.
    column: usize,
    length: usize,
    /// Where its first position lies in the copied image.
    base: usize,
}

impl Sweep {
    /// Whether there is nothing to add up; then [`Sweep::run`] writes nothing, and the output is to be zero.
    pub(super) fn is_empty(&self) -> bool {
        self.taps.is_empty() || self.channels == 0
    }

    /// Does the whole sweep.
    pub(super) fn run<T: Float>(&self, x: &[T], w: &[T], y: &mut [T]) {
        let positions: usize = self.grid.iter().product();
        if self.is_empty() || self.batch * self.groups * self.rows * positions == 0 {
            return;
        }
        let y = SendPointer(y.as_mut_ptr());
        let cut = self.cut(TileShape::of::<T>().columns);
        let depth = self.channels * self.taps.len();
        let panel = pack::left_size::<T>(self.rows, depth);
        scratch::with(Purpose::Left, self.groups * panel, |weights: &mut [T]| {
            self.pack_weights(&cut, w, panel, weights);
            let chunks = self.batch.div_ceil(cut.images);
            let cells = chunks * self.groups * cut.bands;
            let work = self.batch * self.rows * depth * positions * self.groups / cells;
            let group = (GRAIN / work.max(1)).clamp(1, cells);
            parallel(cells.div_ceil(group), |task| {
                for cell in task * group..cells.min((task + 1) * group) {
                    let (band, rest) = (cell % cut.bands, cell / cut.bands);
                    let (group, chunk) = (rest % self.groups, rest / self.groups);
                    let mut size = self.grid;
                    size[cut.axis] = cut.band.min(self.grid[cut.axis] - band * cut.band);
                    let mut first = [0; 2];
                    first[cut.axis] = band * cut.band;
                    let image = chunk * cut.images;
                    let images = cut.images.min(self.batch - image);
                    let cell = Cell { group, image, images, first, size };
                    let weights = &weights[group * panel..][..panel];
                    if self.rows <= FEW_ROWS {
                        self.direct(&cut, &cell, x, weights, &y);
                    } else {
                        self.product(&cut, &cell, x, weights, &y);
                    }
                }
            });
        });
    }

    fn target_size(&self) -> usize {
        self.target.iter().product()
    }

    /// The position with flat index `index` in a box of `size` that starts at `first`.
    fn position(&self, index: usize, size: [usize; 3], first: [usize; 2]) -> [usize; 3] {
        let (row, x) = (index / size[2], index % size[2]);
        [first[0] + row / size[1], first[1] + row % size[1], x]
    }

    /// Where a grid position lies in a plane of `y`.
    fn target_offset(&self, position: [usize; 3]) -> usize {
        let [z, y, x] = [0, 1, 2].map(|axis| self.target_origin[axis] + position[axis] * self.target_step[axis]);
        (z * self.target[1] + y) * self.target[2] + x
    }

    /// Whether neighbouring positions are neighbours in `y`.
    fn is_contiguous(&self) -> bool {
        self.target_step == [1; 3] && self.target == self.grid
    }

    fn cut(&self, wide: usize) -> Cut {
        let axis = if self.grid[0] > 1 { 0 } else { 1 };
        let row: usize = self.grid[axis + 1..].iter().product();
        let whole = row * self.grid[axis];
        let (images, band) = if whole <= POSITIONS * 3 / 2 {
            ((POSITIONS / whole).clamp(1, self.batch), self.grid[axis])
        } else {
            // Whole strips where that is possible; else about as many positions.
            let unit = (1..=wide).find(|unit| (unit * row).is_multiple_of(wide)).unwrap_or(1);
            let unit = if unit * row <= 2 * POSITIONS { unit } else { 1 };
            (1, ((POSITIONS / row / unit).max(1) * unit).min(self.grid[axis]))
        };
        let limit = (DEPTH / self.taps.len()).max(1);
        let block = self.channels.div_ceil(self.channels.div_ceil(limit));
        let mut size = self.grid;
        size[axis] = band;
        let layout = Layout::new(self.source, self.step, size, &self.taps);
        Cut { images, axis, band, bands: self.grid[axis].div_ceil(band), block, layout }
    }

    /// Packs all weights as left sides, one panel a group, in it one block of channels after the other.
    fn pack_weights<T: Float>(&self, cut: &Cut, w: &[T], panel: usize, packed: &mut [T]) {
        let taps = self.taps.len();
        let blocks = self.channels.div_ceil(cut.block);
        let padded = pack::left_size::<T>(self.rows, 1);
        let packed = SendPointer(packed.as_mut_ptr());
        let plain = self.weight_channel == taps && self.weights.iter().enumerate().all(|(t, &at)| t == at);
        let tall = TileShape::of::<T>().rows;
        let strips = self.rows.div_ceil(tall);
        let pieces = self.groups * blocks * strips;
        let group = ((1 << 14) / (cut.block * taps * tall)).max(1);
        parallel(pieces.div_ceil(group), |task| {
            for piece in task * group..pieces.min((task + 1) * group) {
                let (strip, rest) = (piece % strips, piece / strips);
                let (block, group) = (rest % blocks, rest / blocks);
                let channel = block * cut.block;
                let channels = cut.block.min(self.channels - channel);
                let (row, depth) = (strip * tall, channels * taps);
                let rows = tall.min(self.rows - row);
                let from = &w[group * self.weight_group + row * self.weight_row + channel * self.weight_channel..];
                // SAFETY: each piece is a strip of its own in the panel; the weights were checked to be all there.
                unsafe {
                    let to = packed.at(group * panel + channel * taps * padded + row * depth);
                    if plain {
                        pack::left(rows, depth, from.as_ptr(), self.weight_row as isize, 1, to);
                        continue;
                    }
                    for c in 0..channels {
                        for (t, &weight) in self.weights.iter().enumerate() {
                            for r in 0..rows {
                                *to.add((c * taps + t) * tall + r) =
                                    from[r * self.weight_row + c * self.weight_channel + weight];
                            }
                        }
                    }
                }
            }
        });
    }

    /// Copies a block of channels of a cell's images: `[image][channel][plane]`.
    fn copy<T: Float>(&self, cut: &Cut, cell: &Cell, channel: usize, channels: usize, x: &[T], copy: &mut [T]) {
        let (source, plane) = (self.source.iter().product::<usize>(), cut.layout.plane);
        assert!(copy.len() >= cell.images * channels * plane + 16);
        for index in 0..cell.images * channels {
            let (image, c) = (cell.image + index / channels, channel + index % channels);
            let from = (image * self.groups + cell.group) * self.channels + c;
            // SAFETY: the planes lie one after the other in the copy, which is longer than all of them.
            unsafe { cut.layout.copy(cell.first, &x[from * source..][..source], copy.as_mut_ptr().add(index * plane)) };
        }
    }

    /// A cell with few rows: the taps are read where they lie.
    fn direct<T: Float>(&self, cut: &Cut, cell: &Cell, x: &[T], weights: &[T], y: &SendPointer<T>) {
        let (taps, plane) = (self.taps.len(), cut.layout.plane);
        let padded = pack::left_size::<T>(self.rows, 1);
        let tall = TileShape::of::<T>().rows;
        let mut offsets = Vec::with_capacity(cut.block * taps);
        for c in 0..cut.block {
            offsets.extend(cut.layout.taps.iter().map(|tap| c * plane + tap));
        }
        let corner = self.target_offset([cell.first[0], cell.first[1], 0]);
        scratch::with(Purpose::Image, cell.images * cut.block * plane + 64, |copy: &mut [T]| {
            for channel in (0..self.channels).step_by(cut.block) {
                let channels = cut.block.min(self.channels - channel);
                self.copy(cut, cell, channel, channels, x, copy);
                let depth = channels * taps;
                for image in 0..cell.images {
                    let target = ((cell.image + image) * self.groups + cell.group) * self.rows;
                    for row in (0..self.rows).step_by(direct::ROWS) {
                        // The kernel takes a whole strip of the packed weights at a time, or half of one.
                        let strip = row / tall * tall;
                        let part = Plane {
                            rows: direct::ROWS.min(self.rows - row),
                            depth,
                            a: weights[channel * taps * padded + strip * depth + row - strip..].as_ptr(),
                            a_step: tall,
                            offsets: offsets.as_ptr(),
                            image: copy[image * channels * plane..].as_ptr(),
                            image_z: cut.layout.row(1, 0),
                            image_y: cut.layout.row(0, 1),
                            size: cell.size,
                            // SAFETY: the cell's first position lies inside `y`.
                            c: unsafe { y.at((target + row) * self.target_size() + corner) },
                            c_row: self.target_size(),
                            c_z: self.target_step[0] * self.target[1] * self.target[2],
                            c_y: self.target_step[1] * self.target[2],
                            c_x: self.target_step[2],
                            add: channel > 0,
                        };
                        // SAFETY: the offsets lie inside the copy, which has room for two vectors behind its end; the
                        // cell's positions lie inside `y` and belong to this cell.
                        unsafe { direct::Plane::compute(part) };
                    }
                }
            }
        });
    }

    /// A cell as a matrix product: patches are packed as a right side.
    fn product<T: Float>(&self, cut: &Cut, cell: &Cell, x: &[T], weights: &[T], y: &SendPointer<T>) {
        let (taps, plane) = (self.taps.len(), cut.layout.plane);
        let TileShape { rows: tall, columns: wide, .. } = TileShape::of::<T>();
        let padded = pack::left_size::<T>(self.rows, 1);
        let positions = cell.images * cell.size.iter().product::<usize>();
        let (image_size, panel_size) =
            (cell.images * cut.block * plane + 64, positions.next_multiple_of(wide) * cut.block * taps + 64);
        scratch::with(Purpose::Image, image_size, |copy: &mut [T]| {
            scratch::with(Purpose::Right, panel_size, |panel: &mut [T]| {
                for channel in (0..self.channels).step_by(cut.block) {
                    let channels = cut.block.min(self.channels - channel);
                    let depth = channels * taps;
                    self.copy(cut, cell, channel, channels, x, copy);
                    for (strip, start) in (0..positions).step_by(wide).enumerate() {
                        let count = wide.min(positions - start);
                        let mut runs = [Run::default(); TileShape::MAX_COLUMNS];
                        let used = self.runs(cut, cell, channels * plane, start, count, &mut runs);
                        let patches = Patches {
                            runs: &runs[..used],
                            channels,
                            plane,
                            taps: &cut.layout.taps,
                            image: copy.as_ptr(),
                            to: panel[strip * depth * wide..].as_mut_ptr(),
                        };
                        // SAFETY: the runs lie inside the copy; copy and panel have room for what is read and written
                        // beyond a run's end.
                        unsafe { cpu::run(patches) };
                    }
                    for row in (0..self.rows).step_by(ROW_BLOCK) {
                        let rows = ROW_BLOCK.min(self.rows - row);
                        for (strip, start) in (0..positions).step_by(wide).enumerate() {
                            let strip = Strip {
                                rows,
                                depth,
                                columns: wide.min(positions - start),
                                a: weights[channel * taps * padded + row * depth..].as_ptr(),
                                a_row: 1,
                                a_strip: (tall * depth) as isize,
                                a_step: tall as isize,
                                b: panel[strip * depth * wide..].as_ptr(),
                                b_step: wide as isize,
                                c: y.0,
                                c_row: self.target_size(),
                                add: channel > 0,
                            };
                            // SAFETY: the panels are complete, the rows exist, and the positions belong to this cell.
                            unsafe { self.write(cell, row, start, strip, y) };
                        }
                    }
                }
            });
        });
    }

    /// Splits the positions `start..start + count` of a cell into runs.
    fn runs(
        &self,
        cut: &Cut,
        cell: &Cell,
        image_size: usize,
        start: usize,
        count: usize,
        runs: &mut [Run; TileShape::MAX_COLUMNS],
    ) -> usize {
        let [_, height, width] = cell.size;
        let (mut column, mut used) = (0, 0);
        let (mut row, mut x) = (start / width, start % width);
        while column < count {
            let length = (width - x).min(count - column);
            let (plane, y) = (row / height, row % height);
            let (image, z) = (plane / cell.size[0], plane % cell.size[0]);
            runs[used] = Run { column, length, base: image * image_size + cut.layout.row(z, y) + x };
            used += 1;
            column += length;
            (row, x) = (row + 1, 0);
        }
        used
    }

    /// Computes one strip and writes it where its positions lie in `y`.
    ///
    /// # Safety
    /// The strip's sides must be valid, and its rows and positions must belong to the calling task.
    unsafe fn write<T: Float>(&self, cell: &Cell, row: usize, start: usize, strip: Strip<T>, y: &SendPointer<T>) {
        let positions: usize = cell.size.iter().product();
        let plane =
            |image: usize| (((cell.image + image) * self.groups + cell.group) * self.rows + row) * self.target_size();
        let (image, count) = (start / positions, strip.columns);
        if self.is_contiguous() && (start + count - 1) / positions == image {
            let corner = self.target_offset([cell.first[0], cell.first[1], 0]);
            // SAFETY: the caller's promise; the positions are neighbours.
            return unsafe {
                Strip { c: y.at(plane(image) + corner + start % positions), ..strip }.compute();
            };
        }
        let mut offsets = [0; TileShape::MAX_COLUMNS];
        for (column, offset) in offsets[..count].iter_mut().enumerate() {
            let (image, index) = ((start + column) / positions, (start + column) % positions);
            *offset = plane(image) + self.target_offset(self.position(index, cell.size, cell.first));
        }
        let (rows, add) = (strip.rows, strip.add);
        scratch::with(Purpose::Partial, ROW_BLOCK * TileShape::MAX_COLUMNS, |part: &mut [T]| {
            // SAFETY: the caller's promise; the part has room for all rows of a block.
            unsafe {
                Strip { c: part.as_mut_ptr(), c_row: TileShape::MAX_COLUMNS, add: false, ..strip }.compute();
                for i in 0..rows {
                    for (offset, value) in offsets[..count].iter().zip(&part[TileShape::MAX_COLUMNS * i..]) {
                        let to = y.at(offset + i * self.target_size());
                        *to = if add { *to + *value } else { *value };
                    }
                }
            }
        });
    }
}

/// Packing one strip of patches: for each channel and tap, the strip's runs of the shifted image.
struct Patches<'a, T> {
    runs: &'a [Run],
    channels: usize,
    plane: usize,
    taps: &'a [usize],
    image: *const T,
    to: *mut T,
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl<T: Float> Work<T> for Patches<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        let mut to = self.to;
        // Whole vectors are copied; what a run writes beyond its end is overwritten by the next run, tap or strip.
        // SAFETY: image and panel have room for two vectors behind the last run.
        unsafe {
            for c in 0..self.channels {
                let plane = self.image.add(c * self.plane);
                for &tap in self.taps {
                    let from = plane.add(tap);
                    for run in self.runs {
                        let (from, to) = (from.add(run.base), to.add(run.column));
                        V::load(from).store(to);
                        if run.length > V::LANES {
                            V::load(from.add(V::LANES)).store(to.add(V::LANES));
                        }
                    }
                    to = to.add(2 * V::LANES);
                }
            }
        }
    }
}
