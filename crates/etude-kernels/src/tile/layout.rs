//! How a call's axes are ordered, merged and cut into tiles.

use crate::DType;

/// Axes a call may have after merging. Tensors have far fewer.
pub(super) const MAX_AXES: usize = 16;

/// Elements of a row that make a tile worth its overhead.
const LONG: usize = 128;

/// A number for each axis, outermost first.
pub(super) type PerAxis<T> = [T; MAX_AXES];

/// An input or output as the layout sees it.
#[derive(Clone, Copy)]
pub(super) struct Operand {
    /// Stride of each axis in elements.
    pub strides: PerAxis<isize>,
    /// Bytes of one element.
    pub size: usize,
    /// Whether this is the output of a reduction, whose strides do not decide the order of axes.
    pub folded: bool,
}

/// The axes of a call and the box of them that makes up a tile.
pub(super) struct Layout {
    /// How many axes there are; entries beyond are unused.
    pub axes: usize,
    /// Size of each axis, at least 2.
    pub sizes: PerAxis<usize>,
    /// Whether the axis is folded away by reductions.
    pub reduced: PerAxis<bool>,
    /// The tile's extent along each axis; the last tile of an axis may be shorter.
    pub block: PerAxis<usize>,
    /// Tiles along each axis.
    pub counts: PerAxis<usize>,
    /// The order in which tiles are visited, outermost axis first.
    walk: PerAxis<u8>,
    /// The first axis along which the block is more than 1 (`axes` if none).
    pub first_blocked: usize,
}

/// Where a strided operand's tile stands in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// One element for the whole tile.
    Uniform,
    /// The tile is contiguous.
    Direct,
    /// Anything else: elements are collected or scattered.
    Strided,
}

impl Layout {
    /// Takes the axes as given, orders them by stride if `reorder`, merges neighbours and cuts tiles of at most `tile`
    /// elements.
    pub(super) fn new(
        shape: impl Iterator<Item = (usize, bool)>,
        operands: &mut [Operand],
        reorder: bool,
        tile: usize,
    ) -> Layout {
        let mut layout = Layout {
            axes: 0,
            sizes: [1; MAX_AXES],
            reduced: [false; MAX_AXES],
            block: [1; MAX_AXES],
            counts: [1; MAX_AXES],
            walk: std::array::from_fn(|axis| axis as u8),
            first_blocked: 0,
        };
        // The operands' strides hold one entry for each axis of `shape` that is not 1, in the same order.
        for (size, reduced) in shape.filter(|axis| axis.0 != 1) {
            layout.sizes[layout.axes] = size;
            layout.reduced[layout.axes] = reduced;
            layout.axes += 1;
        }
        if reorder {
            layout.order(operands);
        }
        layout.merge(operands);
        layout.cut(operands, tile);
        layout
    }

    /// Sorts the axes so that memory is walked in order: larger strides outside.
    fn order(&mut self, operands: &mut [Operand]) {
        let weight = |operands: &[Operand], axis: usize| {
            let bytes = operands.iter().filter(|o| !o.folded).map(|o| o.strides[axis].unsigned_abs() * o.size);
            // An axis every input is broadcast along costs nothing outside.
            match bytes.sum() {
                0 => usize::MAX,
                sum => sum,
            }
        };
        for end in 1..self.axes {
            let mut at = end;
            while at > 0 && weight(operands, at - 1) < weight(operands, at) {
                self.sizes.swap(at - 1, at);
                self.reduced.swap(at - 1, at);
                operands.iter_mut().for_each(|o| o.strides.swap(at - 1, at));
                at -= 1;
            }
        }
    }

    /// Merges neighbours that every operand walks as one.
    fn merge(&mut self, operands: &mut [Operand]) {
        let mut last = 0;
        for axis in 1..self.axes {
            let size = self.sizes[axis];
            let one = self.reduced[axis] == self.reduced[last]
                && operands.iter().all(|o| o.strides[last] == o.strides[axis] * size as isize);
            if one {
                self.sizes[last] *= size;
            } else {
                last += 1;
                self.sizes[last] = size;
                self.reduced[last] = self.reduced[axis];
            }
            operands.iter_mut().for_each(|o| o.strides[last] = o.strides[axis]);
        }
        self.axes = self.axes.min(last + 1);
    }

    /// Chooses the tile's box: whole inner axes as far as they fit, then a part of the next; or, where an input runs
    /// across the inner axis, a block of both that uses whole cache lines of either.
    fn cut(&mut self, operands: &[Operand], tile: usize) {
        let mut room = tile;
        let across = self.across(operands);
        if let Some(axis) = across {
            let inner = self.axes - 1;
            // Walked first, so that the pages of the jumping operand stay known.
            self.walk[axis..self.axes].rotate_left(1);
            self.block[inner] = even_part(self.sizes[inner], 64, 1);
            room /= self.block[inner];
            self.block[axis] = even_part(self.sizes[axis], room.min(64), 16);
            room /= self.block[axis];
        }
        for axis in (0..self.axes).rev() {
            if across.is_some_and(|other| axis == other || axis == self.axes - 1) {
                continue;
            }
            // A number a row, such as its mean, is one element of a tile that holds one row.
            let along = axis + 1..self.axes;
            let of_row = |o: &Operand| {
                !o.folded && o.strides[axis] != 0 && o.strides[along.clone()].iter().all(|&step| step == 0)
            };
            if room * LONG <= tile && operands.iter().any(of_row) {
                break;
            }
            let step = if room == tile { 64 } else { 1 };
            self.block[axis] = even_part(self.sizes[axis], room, step);
            if self.block[axis] < self.sizes[axis] {
                break;
            }
            room /= self.block[axis];
        }
        for axis in 0..self.axes {
            self.counts[axis] = self.sizes[axis].div_ceil(self.block[axis]);
        }
        self.first_blocked = (0..self.axes).find(|&axis| self.block[axis] > 1).unwrap_or(self.axes);
    }

    /// The axis some operand runs along in memory while it jumps along the innermost axis, if both are long enough for
    /// blocking to pay.
    fn across(&self, operands: &[Operand]) -> Option<usize> {
        let inner = self.axes.checked_sub(1)?;
        if self.sizes[inner] < 8 {
            return None;
        }
        let bytes = |o: &Operand, axis: usize| o.strides[axis].unsigned_abs() * o.size;
        let crossing = operands.iter().filter(|o| !o.folded && bytes(o, inner) >= 32);
        crossing
            .into_iter()
            .find_map(|o| (0..inner).rev().find(|&axis| (1..=8).contains(&bytes(o, axis)) && self.sizes[axis] >= 4))
    }

    /// How a tile of this operand stands in memory.
    pub(super) fn form(&self, operand: &Operand) -> Form {
        let (mut expected, mut partial, mut uniform, mut direct) = (1, false, true, true);
        for axis in (0..self.axes).rev().filter(|&axis| self.block[axis] > 1) {
            let stride = operand.strides[axis];
            uniform &= stride == 0;
            // Outside of an axis that is cut, positions are no longer neighbours.
            direct &= stride == expected && !partial;
            partial |= self.block[axis] < self.sizes[axis];
            expected *= self.block[axis] as isize;
        }
        match (uniform, direct) {
            (true, _) => Form::Uniform,
            (_, true) => Form::Direct,
            _ => Form::Strided,
        }
    }

    /// Tiles over the axes that are (`reduced`) or are not folded away.
    pub(super) fn tiles(&self, reduced: bool) -> usize {
        (0..self.axes).filter(|&axis| self.reduced[axis] == reduced).map(|axis| self.counts[axis]).product()
    }

    /// Whether memory runs first along an axis that is folded away, and then along one that is kept.
    pub(super) fn folds_outside(&self) -> bool {
        self.reduced[0] && self.counts[0] > 1 && self.tiles(false) > 1
    }

    /// The fewest positions that a tile folds into one.
    pub(super) fn shallowest(&self) -> usize {
        let last = |axis: usize| self.sizes[axis] - (self.counts[axis] - 1) * self.block[axis];
        (0..self.axes).filter(|&axis| self.reduced[axis]).map(|axis| self.block[axis].min(last(axis))).product()
    }

    /// The most positions of a tile that are kept.
    pub(super) fn widest(&self) -> usize {
        (0..self.axes).filter(|&axis| !self.reduced[axis]).map(|axis| self.block[axis]).product()
    }

    /// The axes of one kind, those whose tiles follow each other first.
    fn walked(&self, reduced: bool) -> impl Iterator<Item = usize> {
        let walk = self.walk[..self.axes].iter().rev().map(|&axis| axis as usize);
        walk.filter(move |&axis| self.reduced[axis] == reduced)
    }

    /// Sets the tile coordinates of one kind of axes to those of tile number `index`.
    pub(super) fn seek(&self, coordinates: &mut PerAxis<usize>, reduced: bool, mut index: usize) {
        for axis in self.walked(reduced) {
            coordinates[axis] = index % self.counts[axis];
            index /= self.counts[axis];
        }
    }

    /// Moves the tile coordinates of one kind of axes to the next tile, from the last one to the first.
    pub(super) fn advance(&self, coordinates: &mut PerAxis<usize>, reduced: bool) {
        for axis in self.walked(reduced) {
            coordinates[axis] += 1;
            if coordinates[axis] < self.counts[axis] {
                return;
            }
            coordinates[axis] = 0;
        }
    }
}

/// A part of an axis of `size`, at most `most` (at least 1), so that all parts are about the same; a multiple of
/// `step` if the axis is cut and that fits.
fn even_part(size: usize, most: usize, step: usize) -> usize {
    let most = most.max(1);
    if size <= most {
        return size;
    }
    let part = size.div_ceil(size.div_ceil(most));
    let rounded = part.next_multiple_of(step);
    if rounded <= most { rounded } else { part }
}

/// The strides of a contiguous array over the axes for which `counts` holds, 0 along the others.
pub(super) fn contiguous(sizes: &[usize], counts: impl Fn(usize) -> bool) -> PerAxis<isize> {
    let mut strides = [0; MAX_AXES];
    let mut step = 1isize;
    for axis in (0..sizes.len()).rev().filter(|&axis| counts(axis)) {
        strides[axis] = step;
        step *= sizes[axis] as isize;
    }
    strides
}

/// One loop of a strided copy: count, and strides in elements at the target and at the source.
#[derive(Clone, Copy)]
struct Loop {
    count: usize,
    to: isize,
    from: isize,
}

/// Copies elements of `dtype`'s size between two strided places, over axes of (extent, target stride, source stride).
///
/// # Safety
/// Every position the extents and strides reach is valid, and the places do not overlap.
pub(super) unsafe fn copy_strided(
    to: *mut u8,
    from: *const u8,
    axes: impl DoubleEndedIterator<Item = (usize, isize, isize)>,
    size: usize,
) {
    let mut loops = [Loop { count: 1, to: 1, from: 1 }; MAX_AXES + 2];
    let mut count = 0;
    // Innermost first, neighbours merged.
    for (extent, to, from) in axes.rev().filter(|axis| axis.0 != 1) {
        if count > 0 {
            let last = &mut loops[count - 1];
            if to == last.to * last.count as isize && from == last.from * last.count as isize {
                last.count *= extent;
                continue;
            }
        }
        loops[count] = Loop { count: extent, to, from };
        count += 1;
    }
    let loops = &mut loops[..count.max(2)];
    // The longer loop inside if the inner one is short, and the one along the source's cache lines in any case.
    let (inner, outer) = (loops[0], loops[1]);
    let short = inner.count <= 8 && outer.count > 2 * inner.count;
    let crossing = inner.from.unsigned_abs() > outer.from.unsigned_abs() && outer.from != 0 && outer.count >= 8;
    let repeats = outer.from == 0 && inner.from == 1;
    if (short && !repeats) || crossing {
        loops.swap(0, 1);
    }
    // SAFETY: passed on.
    unsafe {
        match size {
            1 => copy_loops(to, from, loops),
            4 => copy_loops(to as *mut u32, from as *const u32, loops),
            _ => copy_loops(to as *mut u64, from as *const u64, loops),
        }
    }
}

/// # Safety
/// As [`copy_strided`].
unsafe fn copy_loops<T: Copy>(to: *mut T, from: *const T, loops: &[Loop]) {
    let (inner, outer) = (loops[0], &loops[1..]);
    // SAFETY: every position lies within what the caller promised.
    unsafe {
        match *outer {
            [] => copy_line(to, from, inner),
            [one] if one.from == 0 && (inner.to, inner.from, one.to) == (1, 1, inner.count as isize) => {
                // The same row again and again: what is there already is copied, twice as much each time.
                copy_line(to, from, inner);
                let (mut done, total) = (inner.count, inner.count * one.count);
                while done < total {
                    let part = done.min(total - done);
                    std::ptr::copy_nonoverlapping(to as *const T, to.add(done), part);
                    done += part;
                }
            }
            [one] => {
                for i in 0..one.count as isize {
                    copy_line(to.offset(i * one.to), from.offset(i * one.from), inner);
                }
            }
            [ref middle @ .., last] => {
                let mut rest = [Loop { count: 1, to: 1, from: 1 }; MAX_AXES + 2];
                rest[0] = inner;
                rest[1..=middle.len()].copy_from_slice(middle);
                for i in 0..last.count as isize {
                    copy_loops(to.offset(i * last.to), from.offset(i * last.from), &rest[..=middle.len()]);
                }
            }
        }
    }
}

/// # Safety
/// As [`copy_strided`].
#[inline(always)]
unsafe fn copy_line<T: Copy>(to: *mut T, from: *const T, line: Loop) {
    // SAFETY: every position lies within what the caller promised.
    unsafe {
        match (line.to, line.from) {
            (1, 1) if line.count >= 16 => std::ptr::copy_nonoverlapping(from, to, line.count),
            (1, 0) => {
                let value = from.read();
                for i in 0..line.count {
                    to.add(i).write(value);
                }
            }
            (1, step) => {
                for i in 0..line.count {
                    to.add(i).write(from.offset(i as isize * step).read());
                }
            }
            (jump, 1) => {
                for i in 0..line.count {
                    to.offset(i as isize * jump).write(from.add(i).read());
                }
            }
            (jump, step) => {
                for i in 0..line.count as isize {
                    to.offset(i * jump).write(from.offset(i * step).read());
                }
            }
        }
    }
}

/// The largest tile that keeps `streams` tiles of `dtypes`' largest size in the first-level cache.
pub(super) fn tile_size(streams: usize, largest: DType) -> usize {
    let bytes = streams.max(1) * largest.size();
    if bytes * 1024 <= 40 << 10 { 1024 } else { 512 }
}
