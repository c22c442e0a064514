//! Sums over taps of a shifted input, for every position of a grid: the forward pass, and the gradient of the input.

mod cells;

use super::direct::{self, Plane};
use super::image::Runs;
use super::panels::{Patches, Run, Spread, Stream};
use crate::Float;
use crate::cpu::{self, TileShape, caches};
use crate::matmul::kernel::Strip;
use crate::matmul::pack;
use crate::matmul::scratch::{self, Purpose};
use crate::matmul::shallow;
use crate::threads::{SendPointer, parallel};
use cells::{Cell, Cut, fills};

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

/// Channels of the next strip that are asked for before this one is computed, where they are read in place.
const AHEAD: usize = 16;
/// Rows computed with one strip before the next, so that their weights stay in the second-level cache.
const ROW_BLOCK: usize = 96;
/// Up to so many rows, patches are not packed: each would be used too seldom.
const FEW_ROWS: usize = 12;
/// Multiply-adds a task should have.
const GRAIN: usize = 1 << 17;

/// Where a sweep's results go.
struct Target<T> {
    at: SendPointer<T>,
    /// Whether they are written past the caches, which are too small for them.
    past: bool,
}

/// Where a cell's sums go.
struct Place<F> {
    /// Row 0 of a strip is written to `at(class, first position)`.
    at: F,
    /// From one row to the next.
    row: usize,
    /// Whether they are written past the caches.
    past: bool,
}

impl Sweep {
    /// Does the whole sweep.
    pub(super) fn run<T: Float>(&self, x: &[T], w: &[T], y: &mut [T]) {
        let positions: usize = self.grid.iter().product();
        if self.classes.is_empty() || self.batch * self.groups * self.rows * self.channels * positions == 0 {
            return;
        }
        let past = caches::are_outgrown_by(size_of_val(y));
        let y = Target { at: SendPointer(y.as_mut_ptr()), past };
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
                        self.direct(&cut, &cell, x, weights, &y.at);
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

    /// Where a grid position of the class at `origin` lies in a plane of `y`.
    fn target_offset(&self, origin: [usize; 3], position: [usize; 3]) -> usize {
        let [z, y, x] = [0, 1, 2].map(|axis| origin[axis] + position[axis] * self.target_step[axis]);
        (z * self.target[1] + y) * self.target[2] + x
    }

    /// How many of a cell's positions along each axis lie inside `y`, for the class at `origin`.
    fn inside(&self, origin: [usize; 3], cell: &Cell) -> [usize; 3] {
        let first = [cell.first[0], cell.first[1], 0];
        [0, 1, 2].map(|axis| {
            let all = (self.target[axis] - origin[axis]).div_ceil(self.target_step[axis]);
            all.saturating_sub(first[axis]).min(cell.size[axis])
        })
    }

    /// Whether neighbouring positions are neighbours in `y`.
    fn is_contiguous(&self) -> bool {
        self.target_step == [1; 3] && self.target == self.grid
    }

    /// Whether places that no class writes are filled with zeros.
    pub(super) fn fills_gaps(&self) -> bool {
        self.rows > FEW_ROWS && self.target_step[2] == 2 && self.channels > 0 && !self.classes.is_empty()
    }

    /// The classes by the place of their position 0; with a step of 2 along axis 2, both of a line together, with lines that
    /// have none.
    fn places(&self) -> Vec<([usize; 3], [Option<usize>; 2])> {
        if self.target_step[2] != 2 {
            return self.classes.iter().enumerate().map(|(index, class)| (class.origin, [Some(index), None])).collect();
        }
        let at = |origin: [usize; 3]| self.classes.iter().position(|class| class.origin == origin);
        let [depth, height] = [0, 1].map(|axis| self.target_step[axis].min(self.target[axis]));
        let lines = (0..depth).flat_map(|z| (0..height).map(move |y| [z, y, 0]));
        lines.map(|origin| (origin, [at(origin), at([origin[0], origin[1], 1])])).collect()
    }

    /// Whether strips of neighbours are read where they lie, in planes of so many elements. What a stride of one reads is packed
    /// as fast as it is copied, if it has several taps.
    fn reads_in_place(&self, plane: usize, lanes: usize) -> bool {
        match self.taps() {
            1 => self.rows <= 2 * ROW_BLOCK || plane.is_multiple_of(lanes),
            taps => {
                let short = self.channels * taps <= shallow::DEPTH_OF_TWO;
                self.rows <= 2 * ROW_BLOCK && (self.step[2] > 1 || self.classes.len() > 1 || short)
            }
        }
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
                    let plain = (taps == 1 || self.weight_channel == taps)
                        && class.weights.iter().enumerate().all(|(t, &at)| t == at);
                    let step = if taps == 1 { self.weight_channel } else { 1 };
                    // SAFETY: each piece is a strip of its own in the panel; the weights were checked to be all there.
                    unsafe {
                        let to =
                            packed.at(group * panel + (before * self.channels + channel * taps) * padded + row * depth);
                        if plain {
                            pack::left(rows, depth, from.as_ptr(), self.weight_row as isize, step as isize, to);
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
        let source: usize = self.source.iter().product();
        for (image, copy) in (cell.image..).zip(copy.chunks_exact_mut(channels * cut.layout.plane)).take(cell.images) {
            let from = ((image * self.groups + cell.group) * self.channels + channel) * source;
            cut.layout.copy(cell.first, &x[from..][..channels * source], copy);
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
                    let size = self.inside(class.origin, cell);
                    if size.contains(&0) {
                        before += taps;
                        continue;
                    }
                    let mut offsets = Vec::with_capacity(depth);
                    for c in 0..channels {
                        offsets.extend(cut.layout.taps[before..][..taps].iter().map(|tap| c * plane + tap));
                    }
                    let corner = self.target_offset(class.origin, [cell.first[0], cell.first[1], 0]);
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

    /// A cell as a matrix product: patches are packed as a right side, or read where they lie. Where strips are not
    /// neighbours in `y`, sums are kept by class and row, `[class][row][position]`, and written at the end.
    fn product<T: Float>(&self, cut: &Cut, cell: &Cell, x: &[T], weights: &[T], y: &Target<T>) {
        let TileShape { columns: wide, lanes, .. } = TileShape::of::<T>();
        let each: usize = cell.size.iter().product();
        // Runs that lie ready are worked on one by one.
        let run = cut.layout.runs(cell.size).length;
        let alone = self.reads_in_place(cut.layout.plane, lanes) && fills(run, lanes);
        let run = if alone { run } else { cell.images * each };
        let straight =
            self.is_contiguous() && (cell.images == 1 || each.is_multiple_of(run) || each.is_multiple_of(wide));
        let length = (cell.images * each).next_multiple_of(wide);
        if straight {
            let plane =
                |image: usize| ((cell.image + image) * self.groups + cell.group) * self.rows * self.target_size();
            let corner = self.target_offset(self.classes[0].origin, [cell.first[0], cell.first[1], 0]);
            let place = |_: usize, position: usize| {
                // SAFETY: the cell's positions lie inside `y`.
                unsafe { y.at.at(plane(position / each) + corner + position % each) }
            };
            let past = y.past && cut.block == self.channels;
            self.sums(cut, cell, x, weights, run, Place { at: place, row: self.target_size(), past });
            if past {
                cpu::fence();
            }
            return;
        }
        scratch::with(Purpose::Partial, self.classes.len() * self.rows * length, |sums: &mut [T]| {
            let base = SendPointer(sums.as_mut_ptr());
            // SAFETY: there is room for all classes, rows and positions.
            let place = |class: usize, position: usize| unsafe { base.at(class * self.rows * length + position) };
            self.sums(cut, cell, x, weights, run, Place { at: place, row: length, past: false });
            let (sums, places) = (&*sums, self.places());
            // Lines of the target that follow one another are put together in the cache first.
            let past = y.past && self.target_step[2] == 2 && self.target[0] == 1;
            if past {
                self.spread_past(cell, sums, length, &places, y);
            }
            for image in 0..if past { 0 } else { cell.images } {
                let target = ((cell.image + image) * self.groups + cell.group) * self.rows * self.target_size();
                for &(origin, classes) in &places {
                    let mut size = self.inside(origin, cell);
                    if self.target_step[2] == 2 {
                        size[2] += self.inside([origin[0], origin[1], 1], cell)[2];
                    }
                    if size.contains(&0) {
                        continue;
                    }
                    let corner = self.target_offset(origin, [cell.first[0], cell.first[1], 0]);
                    let from = |class: usize| sums[class * self.rows * length + image * each..].as_ptr();
                    let spread = Spread {
                        rows: self.rows,
                        size,
                        from: classes.map(|class| class.map(from)),
                        from_row: length,
                        from_z: cell.size[1] * cell.size[2],
                        from_y: cell.size[2],
                        // SAFETY: the cell's first position lies inside `y`.
                        to: unsafe { y.at.at(target + corner) },
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

    /// Sums of a cell with a step of 2, `[class][row][position]` with rows of `length`, go to their places past the caches.
    fn spread_past<T: Float>(
        &self,
        cell: &Cell,
        sums: &[T],
        length: usize,
        places: &[([usize; 3], [Option<usize>; 2])],
        y: &Target<T>,
    ) {
        let (each, width) = (cell.size.iter().product::<usize>(), self.target[2]);
        let first = cell.first[1] * self.target_step[1];
        let lines = (cell.size[1] * self.target_step[1]).min(self.target[1] - first);
        let room = lines * width;
        scratch::with(Purpose::Small, room, |stage: &mut [T]| {
            for (image, row) in (0..cell.images).flat_map(|image| (0..self.rows).map(move |row| (image, row))) {
                for &(origin, classes) in places {
                    let from = |class: usize| sums[(class * self.rows + row) * length + image * each..].as_ptr();
                    let spread = Spread {
                        rows: 1,
                        size: [1, self.inside(origin, cell)[1], width],
                        from: classes.map(|class| class.map(from)),
                        from_row: 0,
                        from_z: 0,
                        from_y: cell.size[2],
                        to: stage[(origin[1] * width).min(room)..].as_mut_ptr(),
                        to_row: 0,
                        to_z: 0,
                        to_y: self.target_step[1] * width,
                        to_x: 2,
                    };
                    // SAFETY: the sums are complete; there is room for all lines of the cell.
                    unsafe { cpu::run(spread) };
                }
                let plane = ((cell.image + image) * self.groups + cell.group) * self.rows + row;
                // SAFETY: these lines of the plane belong to this cell.
                unsafe {
                    let to = y.at.at(plane * self.target_size() + first * width);
                    cpu::run(Stream { from: stage.as_ptr(), to, count: room });
                }
            }
        });
        cpu::fence();
    }

    /// All sums of a cell, in strips that do not cross the end of `run` positions.
    fn sums<T: Float>(
        &self,
        cut: &Cut,
        cell: &Cell,
        x: &[T],
        weights: &[T],
        run: usize,
        place: Place<impl Fn(usize, usize) -> *mut T>,
    ) {
        let shape = TileShape::of::<T>();
        let TileShape { rows: tall, columns: wide, lanes } = shape;
        let (plane, padded) = (cut.layout.plane, pack::left_size::<T>(self.rows, 1));
        let positions = cell.images * cell.size.iter().product::<usize>();
        let most = self.classes.iter().map(|class| class.taps.len()).max().unwrap_or(0);
        // A short sum over neighbours takes a whole run at a time: each call costs as much as some of its rows.
        let whole = run == cut.layout.runs(cell.size).length && self.reads_in_place(plane, lanes);
        let short = whole && !place.past && shallow::suits(shape, cut.block * most);
        let long = if short { run.next_multiple_of(wide) } else { wide };
        let starts = || (0..positions).step_by(run).flat_map(|first| (first..first + run).step_by(long));
        // With few rows, strips are used soon after they are packed, while they are near; not at once, for what has just been
        // written piece by piece is slow to read.
        let strips = starts().count();
        let together = if self.rows <= ROW_BLOCK { strips.min(pack::STRIPS) } else { strips };
        let panel_size = together * long * cut.block * most + 64;
        let image_size = if cut.layout.in_place { 0 } else { cell.images * cut.block * plane + 64 };
        scratch::with(Purpose::Image, image_size, |copy: &mut [T]| {
            scratch::with(Purpose::Right, panel_size, |panel: &mut [T]| {
                let mut strips = Vec::with_capacity(together);
                let mut runs = [Run::default(); TileShape::MAX_COLUMNS];
                for channel in (0..self.channels).step_by(cut.block) {
                    let channels = cut.block.min(self.channels - channel);
                    let (source, image_step) = if cut.layout.in_place {
                        let first = (cell.image * self.groups + cell.group) * self.channels + channel;
                        let start = first * plane + cut.layout.row(cell.first[0], cell.first[1]);
                        (&x[start..], self.groups * self.channels * plane)
                    } else {
                        self.copy(cut, cell, channel, channels, x, copy);
                        (&*copy, channels * plane)
                    };
                    let mut before = 0;
                    for (index, class) in self.classes.iter().enumerate() {
                        let taps = class.taps.len();
                        let depth = channels * taps;
                        let weights = &weights[(before * self.channels + channel * taps) * padded..];
                        let (in_place, places) = (self.reads_in_place(plane, lanes), &cut.places[index]);
                        let last = places[..depth].iter().max().copied().unwrap_or(0);
                        let mut starts = starts().peekable();
                        while starts.peek().is_some() {
                            strips.clear();
                            for start in starts.by_ref().take(together) {
                                let columns = long.min(run - start % run);
                                let used = self.runs(cut, cell, image_step, start, columns, &mut runs);
                                // The first step's, where a stride leads to all others.
                                let from = runs[0].base + if taps == 1 { places[0] } else { 0 };
                                let readable = runs[0].base + last + columns.next_multiple_of(wide) <= source.len();
                                if in_place && used == 1 && readable {
                                    strips.push((start, columns, source[from..].as_ptr(), true));
                                    continue;
                                }
                                for start in (start..start + columns).step_by(wide) {
                                    let columns = wide.min(run - start % run);
                                    let used = match long > wide {
                                        true => self.runs(cut, cell, image_step, start, columns, &mut runs),
                                        false => used,
                                    };
                                    let panel = &mut panel[strips.len() * depth * wide..];
                                    let patches = Patches {
                                        runs: &runs[..used],
                                        channels,
                                        plane,
                                        taps: &cut.layout.taps[before..][..taps],
                                        image: source.as_ptr(),
                                        to: panel.as_mut_ptr(),
                                    };
                                    // SAFETY: the runs lie inside the image; the panel has room for what is written beyond a
                                    // run's end.
                                    unsafe { cpu::run(patches) };
                                    strips.push((start, columns, panel.as_ptr(), false));
                                }
                            }
                            for row in (0..self.rows).step_by(ROW_BLOCK) {
                                for &(start, columns, b, here) in &strips {
                                    let b_step = if here { plane } else { wide };
                                    if in_place && taps == 1 && row == 0 {
                                        // What the kernel does not ask for itself of the next strip.
                                        for channel in 0..channels.min(AHEAD) {
                                            let next = b.wrapping_add(channel * b_step + wide);
                                            cpu::prefetch(next);
                                            cpu::prefetch(next.wrapping_add(lanes));
                                        }
                                    }
                                    let strip = Strip {
                                        rows: ROW_BLOCK.min(self.rows - row),
                                        depth,
                                        columns,
                                        a: weights[row * depth..].as_ptr(),
                                        a_row: 1,
                                        a_strip: (tall * depth) as isize,
                                        a_step: tall as isize,
                                        b,
                                        b_step: b_step as isize,
                                        c: (place.at)(index, start).wrapping_add(row * place.row),
                                        c_row: place.row,
                                        add: channel > 0,
                                    };
                                    let places = (here && taps > 1).then_some(&places[..]);
                                    // SAFETY: the panels are complete, the rows exist, and the place belongs to this cell.
                                    unsafe {
                                        match here && short {
                                            true => strip.shallow(places),
                                            false => strip.compute_at(places, place.past),
                                        }
                                    }
                                }
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
        let Runs { counts: [depth, height], apart, length: width } = cut.layout.runs(cell.size);
        let (row, mut x) = (start / width, start % width);
        let (plane, mut y) = (row / height, row % height);
        let (mut image, mut z) = (plane / depth, plane % depth);
        let (mut column, mut used) = (0, 0);
        while column < count {
            let length = (width - x).min(count - column);
            let base = image * image_step + z * apart[0] + y * apart[1] + x;
            // Rows that follow one another without a gap are one run.
            if used > 0 && runs[used - 1].base + runs[used - 1].length == base {
                runs[used - 1].length += length;
            } else {
                runs[used] = Run { column, length, base };
                used += 1;
            }
            column += length;
            (x, y) = (0, y + 1);
            if y == height {
                (y, z) = (0, z + 1);
            }
            if z == depth {
                (z, image) = (0, image + 1);
            }
        }
        used
    }
}
