//! Sums over taps of a shifted input, for every position of a grid: the forward pass, and the gradient of the input.

use super::direct::{self, Plane};
use super::image::Layout;
use crate::Float;
use crate::cpu::{self, TileShape, Vector, Work};
use crate::matmul::kernel::Strip;
use crate::matmul::pack;
use crate::matmul::scratch::{self, Purpose};
use crate::threads::{SendPointer, parallel};
use std::cmp::Reverse;

/// For every class: `y[b, r, origin + target_step·i] = Σ_c Σ_t w(r, c, t) · x[b, c, i · step + taps[t]]` for all `i` of
/// `grid`, each group of channels for itself. What lies beyond `y` is left out.
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
    /// Sums over different taps, written to different places; each has at least one tap.
    pub classes: Vec<Class>,
    /// `w(r, c, t)` is at `r · weight_row + c · weight_channel + weights[t]`.
    pub weight_row: usize,
    pub weight_channel: usize,
    /// From one group's weights to the next.
    pub weight_group: usize,
    /// Positions along each axis.
    pub grid: [usize; 3],
    /// Spatial sizes of `y`.
    pub target: [usize; 3],
    /// From one grid position to the next, in `y`.
    pub target_step: [usize; 3],
}

/// One of the sums of a [`Sweep`].
pub(super) struct Class {
    /// Where each tap reads, relative to its position.
    pub taps: Vec<[isize; 3]>,
    /// Where each tap's weight lies.
    pub weights: Vec<usize>,
    /// Where in `y` position 0 is written.
    pub origin: [usize; 3],
}

/// Depth of a panel, about: as many whole channels as fit.
const DEPTH: usize = 320;
/// Positions of a task, about; with several classes, half as many.
const POSITIONS: usize = 256;
/// The same where patches are not packed: less of the input is copied twice.
const DIRECT_POSITIONS: usize = 2048;
/// Rows computed with one strip before the next, so that their weights stay in the second-level cache.
const ROW_BLOCK: usize = 96;
/// Up to so many rows, patches are not packed: each would be used too seldom.
const FEW_ROWS: usize = 12;
/// Threads that cells of whole images are dealt to evenly; more find work, too, if there are more images.
const SHARES: usize = 4;
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
    /// Does the whole sweep.
    pub(super) fn run<T: Float>(&self, x: &[T], w: &[T], y: &mut [T]) {
        let positions: usize = self.grid.iter().product();
        if self.classes.is_empty() || self.batch * self.groups * self.rows * self.channels * positions == 0 {
            return;
        }
        let y = SendPointer(y.as_mut_ptr());
        let cut = self.cut(TileShape::of::<T>().columns);
        let depth = self.channels * self.taps();
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

    /// Taps of all classes.
    fn taps(&self) -> usize {
        self.classes.iter().map(|class| class.taps.len()).sum()
    }

    fn target_size(&self) -> usize {
        self.target.iter().product()
    }

    /// Where a grid position of a class lies in a plane of `y`.
    fn target_offset(&self, class: &Class, position: [usize; 3]) -> usize {
        let [z, y, x] = [0, 1, 2].map(|axis| class.origin[axis] + position[axis] * self.target_step[axis]);
        (z * self.target[1] + y) * self.target[2] + x
    }

    /// How many of a cell's positions along each axis lie inside `y`.
    fn inside(&self, class: &Class, cell: &Cell) -> [usize; 3] {
        let first = [cell.first[0], cell.first[1], 0];
        [0, 1, 2].map(|axis| {
            let all = (self.target[axis] - class.origin[axis]).div_ceil(self.target_step[axis]);
            all.saturating_sub(first[axis]).min(cell.size[axis])
        })
    }

    /// Whether neighbouring positions are neighbours in `y`.
    fn is_contiguous(&self) -> bool {
        self.target_step == [1; 3] && self.target == self.grid
    }

    fn cut(&self, wide: usize) -> Cut {
        let axis = if self.grid[0] > 1 { 0 } else { 1 };
        let row: usize = self.grid[axis + 1..].iter().product();
        let whole = row * self.grid[axis];
        let about = match (self.rows <= FEW_ROWS, self.classes.len() > 1) {
            (true, _) => DIRECT_POSITIONS,
            (false, true) => POSITIONS / 2,
            (false, false) => POSITIONS,
        };
        let (images, band) = if whole <= about * 3 / 2 {
            (self.images(whole, about, wide / 2), self.grid[axis])
        } else {
            // Whole strips where that is possible; else about as many positions.
            let unit = (1..=wide).find(|unit| (unit * row).is_multiple_of(wide)).unwrap_or(1);
            let unit = if unit * row <= 2 * about { unit } else { 1 };
            (1, ((about / row / unit).max(1) * unit).min(self.grid[axis]))
        };
        let most = self.classes.iter().map(|class| class.taps.len()).max().unwrap_or(1);
        let limit = (DEPTH / most).max(1);
        let block = self.channels.div_ceil(self.channels.div_ceil(limit));
        let mut size = self.grid;
        size[axis] = band;
        let taps: Vec<_> = self.classes.iter().flat_map(|class| class.taps.iter().copied()).collect();
        // Taps read in place are not read beyond their position.
        let layout = match self.rows > FEW_ROWS {
            true => Layout::in_place(self.source, self.step, self.grid, &taps),
            false => None,
        };
        let layout = layout.unwrap_or_else(|| Layout::new(self.source, self.step, size, &taps));
        Cut { images, axis, band, bands: self.grid[axis].div_ceil(band), block, layout }
    }

    /// How many whole images of `whole` positions a cell takes, `about` positions or less: so many that cells are even, that
    /// there are some, and that few lanes of the vectors are left empty.
    fn images(&self, whole: usize, about: usize, lanes: usize) -> usize {
        let even = (1..=(about * 3 / 2 / whole).clamp(1, self.batch)).map(|most| {
            let cells = self.batch.div_ceil(most);
            let images = self.batch.div_ceil(cells);
            // What the busiest of a few threads would do.
            (cells.div_ceil(SHARES) * (images * whole).div_ceil(lanes), Reverse(images))
        });
        even.min().map_or(1, |(_, Reverse(images))| images)
    }

    /// Packs all weights as left sides, one panel a group, in it one class after the other, in it one block of channels
    /// after the other.
    fn pack_weights<T: Float>(&self, cut: &Cut, w: &[T], panel: usize, packed: &mut [T]) {
        let blocks = self.channels.div_ceil(cut.block);
        let padded = pack::left_size::<T>(self.rows, 1);
        let packed = SendPointer(packed.as_mut_ptr());
        let tall = TileShape::of::<T>().rows;
        let strips = self.rows.div_ceil(tall);
        let pieces = self.groups * blocks * strips;
        let group = ((1 << 14) / (cut.block * self.taps() * tall)).max(1);
        parallel(pieces.div_ceil(group), |task| {
            for piece in task * group..pieces.min((task + 1) * group) {
                let (strip, rest) = (piece % strips, piece / strips);
                let (block, group) = (rest % blocks, rest / blocks);
                let channel = block * cut.block;
                let channels = cut.block.min(self.channels - channel);
                let row = strip * tall;
                let rows = tall.min(self.rows - row);
                let from = &w[group * self.weight_group + row * self.weight_row + channel * self.weight_channel..];
                let mut before = 0;
                for class in &self.classes {
                    let taps = class.taps.len();
                    let depth = channels * taps;
                    let plain = self.weight_channel == taps && class.weights.iter().enumerate().all(|(t, &at)| t == at);
                    // SAFETY: each piece is a strip of its own in the panel; the weights were checked to be all there.
                    unsafe {
                        let to =
                            packed.at(group * panel + (before * self.channels + channel * taps) * padded + row * depth);
                        if plain {
                            pack::left(rows, depth, from.as_ptr(), self.weight_row as isize, 1, to);
                        } else {
                            for c in 0..channels {
                                for (t, &weight) in class.weights.iter().enumerate() {
                                    let from = &from[c * self.weight_channel + weight..];
                                    for r in 0..rows {
                                        *to.add((c * taps + t) * tall + r) = from[r * self.weight_row];
                                    }
                                }
                            }
                        }
                    }
                    before += taps;
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
        let plane = cut.layout.plane;
        let padded = pack::left_size::<T>(self.rows, 1);
        let tall = TileShape::of::<T>().rows;
        scratch::with(Purpose::Image, cell.images * cut.block * plane + 64, |copy: &mut [T]| {
            for channel in (0..self.channels).step_by(cut.block) {
                let channels = cut.block.min(self.channels - channel);
                self.copy(cut, cell, channel, channels, x, copy);
                let mut before = 0;
                for class in &self.classes {
                    let taps = class.taps.len();
                    let depth = channels * taps;
                    let size = self.inside(class, cell);
                    if size.contains(&0) {
                        before += taps;
                        continue;
                    }
                    let mut offsets = Vec::with_capacity(depth);
                    for c in 0..channels {
                        offsets.extend(cut.layout.taps[before..][..taps].iter().map(|tap| c * plane + tap));
                    }
                    let corner = self.target_offset(class, [cell.first[0], cell.first[1], 0]);
                    let weights = &weights[(before * self.channels + channel * taps) * padded..];
                    for image in 0..cell.images {
                        let target = ((cell.image + image) * self.groups + cell.group) * self.rows;
                        for row in (0..self.rows).step_by(direct::ROWS) {
                            // The kernel takes a whole strip of the packed weights at a time, or half of one.
                            let strip = row / tall * tall;
                            let part = Plane {
                                rows: direct::ROWS.min(self.rows - row),
                                depth,
                                a: weights[strip * depth + row - strip..].as_ptr(),
                                a_step: tall,
                                offsets: offsets.as_ptr(),
                                image: copy[image * channels * plane..].as_ptr(),
                                image_z: cut.layout.row(1, 0),
                                image_y: cut.layout.row(0, 1),
                                size,
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
                    before += taps;
                }
            }
        });
    }

    /// A cell as a matrix product: patches are packed as a right side. Where strips are not neighbours in `y`, sums are
    /// kept by class and row, `[class][row][position]`, and written at the end.
    fn product<T: Float>(&self, cut: &Cut, cell: &Cell, x: &[T], weights: &[T], y: &SendPointer<T>) {
        let wide = TileShape::of::<T>().columns;
        let each: usize = cell.size.iter().product();
        let straight = self.is_contiguous() && (cell.images == 1 || each.is_multiple_of(wide));
        let length = (cell.images * each).next_multiple_of(wide);
        if straight {
            let plane =
                |image: usize| ((cell.image + image) * self.groups + cell.group) * self.rows * self.target_size();
            let corner = self.target_offset(&self.classes[0], [cell.first[0], cell.first[1], 0]);
            let place = |_: usize, position: usize| {
                // SAFETY: the cell's positions lie inside `y`.
                unsafe { y.at(plane(position / each) + corner + position % each) }
            };
            return self.sums(cut, cell, x, weights, self.target_size(), place);
        }
        scratch::with(Purpose::Partial, self.classes.len() * self.rows * length, |sums: &mut [T]| {
            let base = SendPointer(sums.as_mut_ptr());
            // SAFETY: there is room for all classes, rows and positions.
            let place = |class: usize, position: usize| unsafe { base.at(class * self.rows * length + position) };
            self.sums(cut, cell, x, weights, length, place);
            let sums = &*sums;
            for image in 0..cell.images {
                let target = ((cell.image + image) * self.groups + cell.group) * self.rows * self.target_size();
                for (index, class) in self.classes.iter().enumerate() {
                    let size = self.inside(class, cell);
                    if size.contains(&0) {
                        continue;
                    }
                    let corner = self.target_offset(class, [cell.first[0], cell.first[1], 0]);
                    let spread = Spread {
                        rows: self.rows,
                        size,
                        from: sums[index * self.rows * length + image * each..].as_ptr(),
                        from_row: length,
                        from_z: cell.size[1] * cell.size[2],
                        from_y: cell.size[2],
                        // SAFETY: the cell's first position lies inside `y`.
                        to: unsafe { y.at(target + corner) },
                        to_row: self.target_size(),
                        to_z: self.target_step[0] * self.target[1] * self.target[2],
                        to_y: self.target_step[1] * self.target[2],
                        to_x: self.target_step[2],
                    };
                    // SAFETY: the sums are complete; these positions lie inside `y` and belong to this cell.
                    unsafe { cpu::run(spread) };
                }
            }
        });
    }

    /// All sums of a cell; row 0 of a strip is written to `place(class, first position)`, rows are `row_step` apart.
    fn sums<T: Float>(
        &self,
        cut: &Cut,
        cell: &Cell,
        x: &[T],
        weights: &[T],
        row_step: usize,
        place: impl Fn(usize, usize) -> *mut T,
    ) {
        let TileShape { rows: tall, columns: wide, .. } = TileShape::of::<T>();
        let (plane, padded) = (cut.layout.plane, pack::left_size::<T>(self.rows, 1));
        let positions = cell.images * cell.size.iter().product::<usize>();
        let most = self.classes.iter().map(|class| class.taps.len()).max().unwrap_or(0);
        let panel_size = positions.next_multiple_of(wide) * cut.block * most + 64;
        let image_size = if cut.layout.in_place { 0 } else { cell.images * cut.block * plane + 64 };
        scratch::with(Purpose::Image, image_size, |copy: &mut [T]| {
            scratch::with(Purpose::Right, panel_size, |panel: &mut [T]| {
                for channel in (0..self.channels).step_by(cut.block) {
                    let channels = cut.block.min(self.channels - channel);
                    let (image, image_step) = if cut.layout.in_place {
                        let first = (cell.image * self.groups + cell.group) * self.channels + channel;
                        let start = first * plane + cut.layout.row(cell.first[0], cell.first[1]);
                        (x[start..].as_ptr(), self.groups * self.channels * plane)
                    } else {
                        self.copy(cut, cell, channel, channels, x, copy);
                        (copy.as_ptr(), channels * plane)
                    };
                    let mut before = 0;
                    for (index, class) in self.classes.iter().enumerate() {
                        let taps = class.taps.len();
                        let depth = channels * taps;
                        let weights = &weights[(before * self.channels + channel * taps) * padded..];
                        for (strip, start) in (0..positions).step_by(wide).enumerate() {
                            let count = wide.min(positions - start);
                            let mut runs = [Run::default(); TileShape::MAX_COLUMNS];
                            let used = self.runs(cut, cell, image_step, start, count, &mut runs);
                            let patches = Patches {
                                runs: &runs[..used],
                                channels,
                                plane,
                                taps: &cut.layout.taps[before..][..taps],
                                image,
                                to: panel[strip * depth * wide..].as_mut_ptr(),
                            };
                            // SAFETY: the runs lie inside the image; the panel has room for what is written beyond a
                            // run's end.
                            unsafe { cpu::run(patches) };
                        }
                        for row in (0..self.rows).step_by(ROW_BLOCK) {
                            let rows = ROW_BLOCK.min(self.rows - row);
                            for (strip, start) in (0..positions).step_by(wide).enumerate() {
                                let strip = Strip {
                                    rows,
                                    depth,
                                    columns: wide.min(positions - start),
                                    a: weights[row * depth..].as_ptr(),
                                    a_row: 1,
                                    a_strip: (tall * depth) as isize,
                                    a_step: tall as isize,
                                    b: panel[strip * depth * wide..].as_ptr(),
                                    b_step: wide as isize,
                                    c: place(index, start).wrapping_add(row * row_step),
                                    c_row: row_step,
                                    add: channel > 0,
                                };
                                // SAFETY: the panels are complete, the rows exist, and the place belongs to this cell.
                                unsafe { strip.compute() };
                            }
                        }
                        before += taps;
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
        image_step: usize,
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
            let base = image * image_step + cut.layout.row(z, y) + x;
            // Rows that follow one another without a gap are one run.
            if used > 0 && runs[used - 1].base + runs[used - 1].length == base {
                runs[used - 1].length += length;
            } else {
                runs[used] = Run { column, length, base };
                used += 1;
            }
            column += length;
            (row, x) = (row + 1, 0);
        }
        used
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
        // Whole vectors are written; what is beyond a run's end is overwritten by the next run, tap or strip.
        // SAFETY: the runs lie inside the image; the panel has room for two vectors behind the last run.
        unsafe {
            for c in 0..self.channels {
                let plane = self.image.add(c * self.plane);
                for &tap in self.taps {
                    let from = plane.add(tap);
                    for run in self.runs {
                        let (from, to) = (from.add(run.base), to.add(run.column));
                        if run.length >= V::LANES {
                            V::load(from).store(to);
                        } else {
                            V::load_part(from, run.length).store(to);
                        }
                        if run.length >= 2 * V::LANES {
                            V::load(from.add(V::LANES)).store(to.add(V::LANES));
                        } else if run.length > V::LANES {
                            V::load_part(from.add(V::LANES), run.length - V::LANES).store(to.add(V::LANES));
                        }
                    }
                    to = to.add(2 * V::LANES);
                }
            }
        }
    }
}

/// Sums of a cell go to their places: `to(r, z, y, x) = from(r, z, y, x)`.
struct Spread<T> {
    rows: usize,
    size: [usize; 3],
    from: *const T,
    from_row: usize,
    from_z: usize,
    from_y: usize,
    to: *mut T,
    to_row: usize,
    to_z: usize,
    to_y: usize,
    to_x: usize,
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl<T: Float> Work<T> for Spread<T> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        // Rows that follow one another on both sides are one.
        let [depth, mut height, mut width] = self.size;
        if self.to_x == 1 && width == self.from_y && width == self.to_y {
            (height, width) = (1, height * width);
        }
        for r in 0..self.rows {
            for z in 0..depth {
                for y in 0..height {
                    // SAFETY: the fields' promises: these positions exist on both sides.
                    unsafe {
                        let from = self.from.add(r * self.from_row + z * self.from_z + y * self.from_y);
                        let to = self.to.add(r * self.to_row + z * self.to_z + y * self.to_y);
                        if self.to_x > 1 {
                            (0..width).for_each(|x| *to.add(x * self.to_x) = *from.add(x));
                            continue;
                        }
                        let mut x = 0;
                        while x + V::LANES <= width {
                            V::load(from.add(x)).store(to.add(x));
                            x += V::LANES;
                        }
                        if x < width {
                            V::load_part(from.add(x), width - x).store_part(to.add(x), width - x);
                        }
                    }
                }
            }
        }
    }
}
