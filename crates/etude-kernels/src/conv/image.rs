//! A copy of some input planes in which every tap of every position exists and neighbouring positions are neighbours in
//! memory: padding is written out as zeros, rows and columns are sorted by their remainder modulo the stride.

use crate::Float;
use crate::cpu::caches::LINE;
use crate::cpu::{self, TileShape, Vector, Work};

/// Where positions and taps lie in a padded copy of one plane: `[plane of axis 0][columns][remainder of axis 1][row][column]`.
pub(super) struct Layout {
    /// Sizes of the plane copied from.
    source: [usize; 3],
    /// From one position to the next, in the source.
    step: [usize; 3],
    /// From one row of the copy to the next, in the source, for axes 0 and 1: a step where all taps read the same rows.
    skip: [usize; 2],
    /// The lowest source coordinate of axes 0 and 1, for the first position of the band; may be negative.
    low: [isize; 2],
    /// From the lowest tap to the highest, for axes 0 and 1.
    span: [usize; 2],
    /// Planes of axis 0, and rows of each remainder of axis 1, for a band.
    extent: [usize; 2],
    /// Whether a remainder of axis 1 is read at all.
    used: Vec<bool>,
    /// Where in a row of the source the first column of each copy of its columns lies; may be negative.
    columns: Vec<isize>,
    /// How many columns each has.
    width: usize,
    /// From one remainder of axis 1 to the next, and from one copy of the columns to the next.
    remainder: usize,
    sorted: usize,
    /// From one position to the next along axes 0 and 1.
    apart: [usize; 2],
    /// Each tap's offset in the copy.
    pub taps: Vec<usize>,
    /// Elements of one plane of the copy.
    pub plane: usize,
    /// Whether the copy is the source itself.
    pub in_place: bool,
}

/// Which columns a row of the copy has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Columns {
    /// Each that is read, once; taps of one remainder read from different places of them.
    Once,
    /// For each place of a tap along axis 2 those that it reads: rows of positions follow one another without a gap.
    ForEachTap,
}

/// Runs of elements that are neighbours in memory: so many along axes 0 and 1, so far apart, of the same length.
pub(super) struct Runs {
    pub counts: [usize; 2],
    pub apart: [usize; 2],
    pub length: usize,
}

impl Layout {
    /// The layout for `positions` (of the band) and taps at `displacements`, of which there must be one.
    pub(super) fn new(
        source: [usize; 3],
        step: [usize; 3],
        positions: [usize; 3],
        displacements: &[[isize; 3]],
        columns: Columns,
    ) -> Layout {
        let range = |axis: usize| {
            let all = displacements.iter().map(|tap| tap[axis]);
            (all.clone().min().unwrap_or(0), all.max().unwrap_or(0))
        };
        let ranges = [range(0), range(1), range(2)];
        let span = |axis: usize| (ranges[axis].1 - ranges[axis].0) as usize;
        let skip = [0, 1].map(|axis| if span(axis) == 0 { step[axis] } else { 1 });
        let reach = |axis: usize| (positions[axis] - 1) * step[axis] + span(axis) + 1;
        let remainders = step[1] / skip[1];
        let extent = [reach(0).div_ceil(skip[0]), reach(1).div_ceil(skip[1]).div_ceil(remainders)];
        let (columns, width) = match columns {
            Columns::Once => {
                let kept = step[2].min(span(2) + 1) as isize;
                ((0..kept).map(|remainder| ranges[2].0 + remainder).collect(), reach(2).div_ceil(step[2]))
            }
            Columns::ForEachTap => {
                let mut places: Vec<isize> = displacements.iter().map(|tap| tap[2]).collect();
                places.sort_unstable();
                places.dedup();
                (places, positions[2])
            }
        };
        // Whole vectors are written, beyond the last row too.
        let remainder = extent[1] * width + TileShape::MAX_LANES;
        let sorted = remainders * remainder;
        let all = columns.len() * sorted;
        let (mut used, mut taps) = (vec![false; remainders], vec![]);
        for tap in displacements {
            let [z, y] = [0, 1].map(|axis| (tap[axis] - ranges[axis].0) as usize);
            // The last copy of the columns from which the tap's place is reached by whole steps: its own, if it has one.
            let reaches = |&from: &isize| tap[2] >= from && ((tap[2] - from) as usize).is_multiple_of(step[2]);
            let index = columns.iter().rposition(reaches).unwrap_or(0);
            let row = y % remainders * remainder + y / remainders * width;
            taps.push(z * all + index * sorted + row + (tap[2] - columns[index]) as usize / step[2]);
            used[y % remainders] = true;
        }
        Layout {
            source,
            step,
            skip,
            low: [ranges[0].0, ranges[1].0],
            span: [span(0), span(1)],
            extent,
            used,
            width,
            remainder,
            sorted,
            apart: [step[0] / skip[0] * all, width],
            taps,
            plane: extent[0] * all,
            columns,
            in_place: false,
        }
    }

    /// The layout of the source itself, if every tap of every position of `grid` lies inside and neighbouring positions
    /// are neighbours.
    pub(super) fn in_place(
        source: [usize; 3],
        step: [usize; 3],
        grid: [usize; 3],
        displacements: &[[isize; 3]],
    ) -> Option<Layout> {
        let inside = |tap: &[isize; 3]| {
            (0..3).all(|axis| tap[axis] >= 0 && (grid[axis] - 1) * step[axis] + (tap[axis] as usize) < source[axis])
        };
        if step[2] != 1 || !displacements.iter().all(inside) {
            return None;
        }
        let offset = |tap: &[isize; 3]| ((tap[0] as usize * source[1]) + tap[1] as usize) * source[2] + tap[2] as usize;
        Some(Layout {
            source,
            step,
            skip: [1; 2],
            low: [0; 2],
            span: [0, 1].map(|axis| displacements.iter().map(|tap| tap[axis] as usize).max().unwrap_or(0)),
            extent: [source[0], source[1]],
            used: vec![],
            columns: vec![],
            width: source[2],
            remainder: 0,
            sorted: 0,
            apart: [step[0] * source[1] * source[2], step[1] * source[2]],
            taps: displacements.iter().map(offset).collect(),
            plane: source.iter().product(),
            in_place: true,
        })
    }

    /// Offset of the row of positions (z, y) of the band; the taps' offsets are added to it.
    pub(super) fn row(&self, z: usize, y: usize) -> usize {
        z * self.apart[0] + y * self.apart[1]
    }

    /// How `size` positions of one image follow each other.
    pub(super) fn runs(&self, size: [usize; 3]) -> Runs {
        let ([depth, height, width], apart) = (size, self.apart);
        let mut runs = Runs { counts: [depth, height], apart, length: width };
        if height == 1 || apart[1] == width {
            (runs.counts[1], runs.length) = (1, height * width);
            if depth == 1 || apart[0] == runs.length {
                (runs.counts[0], runs.length) = (1, depth * runs.length);
            }
        }
        runs
    }

    /// Where in a plane of the source all lies that `size` positions from `first` on read, about: an offset, and runs along
    /// axis 1.
    pub(super) fn reach(&self, first: [usize; 2], size: [usize; 3]) -> (usize, Runs) {
        let [depth, height, length] = self.source;
        let bounds = |axis: usize, limit: usize| {
            let low = (first[axis] * self.step[axis]) as isize + self.low[axis];
            let high = low + ((size[axis] - 1) * self.step[axis] + self.span[axis] + 1) as isize;
            (low.clamp(0, limit as isize) as usize, high.clamp(0, limit as isize) as usize)
        };
        let ((z, z_end), (y, y_end)) = (bounds(0, depth), bounds(1, height));
        let start = (z * height + y) * length;
        if self.skip[1] > 1 && z + 1 >= z_end {
            let rows = (y_end - y).div_ceil(self.skip[1]);
            return (start, Runs { counts: [1, rows], apart: [0, self.skip[1] * length], length });
        }
        let end = ((z_end.max(z + 1) - 1) * height + y_end) * length;
        (start, Runs { counts: [1; 2], apart: [0; 2], length: end - start })
    }

    /// Copies planes that follow one another on both sides; `first` is the band's first position of axes 0 and 1.
    pub(super) fn copy<T: Float>(&self, first: [usize; 2], planes: &[T], copy: &mut [T]) {
        let count = copy.len() / self.plane;
        assert_eq!(planes.len(), count * self.source.iter().product::<usize>());
        let start = [0, 1].map(|axis| (first[axis] * self.step[axis]) as isize + self.low[axis]);
        // SAFETY: so many planes are there, and room for as many copies.
        unsafe { cpu::run(Copy { layout: self, start, count, planes: planes.as_ptr(), copy: copy.as_mut_ptr() }) }
    }
}

/// Copying planes; `start` is the lowest coordinate of axes 0 and 1.
struct Copy<'a, T> {
    layout: &'a Layout,
    start: [isize; 2],
    count: usize,
    planes: *const T,
    copy: *mut T,
}

/// Rows of one copy of the columns, or of two.
struct Rows<'a, T> {
    layout: &'a Layout,
    /// The plane of the source, if it is there, and the first row's and column's coordinates.
    plane: Option<*const T>,
    first: isize,
    column: isize,
    to: *mut T,
}

impl<T: Float> Rows<'_, T> {
    /// Copies the rows, in so many vectors each, those of `together` remainders of axis 1 by turns. With a stride of 2, `both`
    /// says that the columns between go to the next copy. What is written beyond a row's end is overwritten by the next.
    #[inline(always)]
    unsafe fn copy<V: Vector<T>>(&self, vectors: usize, together: usize, stride: usize, both: bool) {
        let Rows { layout, plane, first, column, to } = *self;
        let &Layout { source: [_, height, length], extent: [_, rows], width, remainder, sorted, .. } = layout;
        let (step, skip) = (layout.step[1], layout.skip[1]);
        // A plane that does not exist has no rows.
        let (plane, height) = plane.map_or((std::ptr::null(), 0), |plane| (plane, height));
        for start in (0..layout.used.len()).step_by(together).filter(|&start| layout.used[start]) {
            for row in 0..rows {
                for turn in start..start + together {
                    let y = first + (row * step + turn * skip) as isize;
                    let (exists, to) = ((y as usize) < height, to.wrapping_add(turn * remainder + row * width));
                    let row = plane.wrapping_offset(y * length as isize);
                    if vectors == 1 {
                        // The next plane's rows, which the machine does not foresee in time.
                        let next = row.wrapping_offset(column).wrapping_add(height * length);
                        cpu::prefetch(next);
                        cpu::prefetch(next.wrapping_byte_add(LINE));
                    }
                    for i in (0..vectors).map(|vector| vector * V::LANES) {
                        let from = column + (i * stride) as isize;
                        // SAFETY: a row that exists has `length` elements; the copies have room for a vector behind their ends.
                        unsafe {
                            let inside = |from: isize| inside::<T, V>(row, from, length, vectors <= 2);
                            let zero = V::splat(T::ZERO);
                            let (low, high) = match stride {
                                _ if !exists => (zero, zero),
                                1 => (inside(from), zero),
                                2 => inside(from).deinterleave(inside(from + V::LANES as isize)),
                                _ => (spaced(row, from, length, stride), zero),
                            };
                            low.store(to.add(i));
                            if both {
                                high.store(to.add(sorted + i));
                            }
                        }
                    }
                }
            }
        }
    }
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl<T: Float> Work<T> for Copy<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        let Copy { layout, start, count, planes, copy } = self;
        let [depth, height, length] = layout.source;
        let (columns, stride) = (&layout.columns[..], layout.step[2]);
        let vectors = layout.width.div_ceil(V::LANES);
        // In the source's order, where rows are so long that the machine foresees them then.
        let together = if layout.used.iter().all(|&used| used) { layout.used.len() } else { 1 };
        for index in 0..count * layout.extent[0] {
            let z = start[0] + (index % layout.extent[0] * layout.skip[0]) as isize;
            let planes = planes.wrapping_add(index / layout.extent[0] * depth * height * length);
            let plane =
                (z >= 0 && (z as usize) < depth).then(|| planes.wrapping_offset(z * (height * length) as isize));
            let mut at = 0;
            while at < columns.len() {
                let both = stride == 2 && columns.get(at + 1) == Some(&(columns[at] + 1));
                let to = copy.wrapping_add((index * columns.len() + at) * layout.sorted);
                let rows = Rows { layout, plane, first: start[1], column: columns[at], to };
                // SAFETY: the fields' promises. What is known when this is compiled stays out of the loops.
                unsafe {
                    match (vectors, stride, both) {
                        (1, 2, true) => rows.copy::<V>(1, 1, 2, true),
                        (1, 2, false) => rows.copy::<V>(1, 1, 2, false),
                        (1, 1, _) => rows.copy::<V>(1, 1, 1, false),
                        (2, 2, true) => rows.copy::<V>(2, 1, 2, true),
                        (2, 2, false) => rows.copy::<V>(2, 1, 2, false),
                        (2, 1, _) => rows.copy::<V>(2, 1, 1, false),
                        (_, 2, true) => rows.copy::<V>(vectors, together, 2, true),
                        (_, 2, false) => rows.copy::<V>(vectors, together, 2, false),
                        (_, 1, _) => rows.copy::<V>(vectors, together, 1, false),
                        _ => rows.copy::<V>(vectors, together, stride, false),
                    }
                }
                at += 1 + usize::from(both);
            }
        }
    }
}

/// The vector from element `from` of a row of `length` on, with zeros for what lies outside. If `masked`,
/// whole vectors are read as parts are: where the bounds stay the same, a mask costs less than a question.
#[inline(always)]
unsafe fn inside<T: Float, V: Vector<T>>(row: *const T, from: isize, length: usize, masked: bool) -> V {
    let at = row.wrapping_offset(from);
    let begin = (-from).clamp(0, V::LANES as isize);
    let end = (length as isize - from).clamp(begin, V::LANES as isize);
    // SAFETY: the caller's promise; what lies outside is not read.
    unsafe {
        match end - begin == V::LANES as isize && !masked {
            true => V::load(at),
            false => V::load_between(at, begin as usize, end as usize),
        }
    }
}

/// The same of every so many elements.
#[inline(always)]
unsafe fn spaced<T: Float, V: Vector<T>>(row: *const T, from: isize, length: usize, stride: usize) -> V {
    let mut values = [T::ZERO; TileShape::MAX_LANES];
    // SAFETY: what lies outside is not read; there is room for all lanes.
    unsafe {
        for (lane, value) in values[..V::LANES].iter_mut().enumerate() {
            let from = from + (lane * stride) as isize;
            if (from as usize) < length {
                *value = *row.offset(from);
            }
        }
        V::load(values.as_ptr())
    }
}
