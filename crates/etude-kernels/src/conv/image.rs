//! A copy of some input planes in which every tap of every position exists and neighbouring positions are neighbours in
//! memory: padding is written out as zeros, and columns are sorted by their remainder modulo the stride.

use crate::Float;
use crate::cpu::{self, TileShape, Vector, Work};

/// Where positions and taps lie in a padded copy of one plane.
///
/// Axis 2 is split: coordinate `u` (counted from the lowest one needed) lies at `u % step · width + u / step`.
pub(super) struct Layout {
    /// Sizes of the plane copied from.
    source: [usize; 3],
    /// From one position to the next, in the source.
    step: [usize; 3],
    /// From one row of the copy to the next, in the source, for axes 0 and 1: a step where all taps read the same rows.
    skip: [usize; 2],
    /// The lowest source coordinate of each axis, for the first position of the band; may be negative.
    low: [isize; 3],
    /// From the lowest tap to the highest, for axes 0 and 1.
    span: [usize; 2],
    /// Coordinates of each axis for a band of `band` positions of axis `axis`.
    extent: [usize; 3],
    /// Whether a remainder modulo `step` is read at all, for axis 1.
    used: Vec<bool>,
    /// How many remainders of axis 2 are kept.
    phases: usize,
    /// Columns of each remainder.
    width: usize,
    /// For each remainder: the columns `begin..end` that are inside the source, and the column of the source the first
    /// of them comes from.
    inside: Vec<(usize, usize, usize)>,
    /// Each tap's offset in the copy.
    pub taps: Vec<usize>,
    /// Elements of one plane of the copy.
    pub plane: usize,
    /// Whether the copy is the source itself.
    pub in_place: bool,
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
    ) -> Layout {
        let range = |axis: usize| {
            let all = displacements.iter().map(|tap| tap[axis]);
            (all.clone().min().unwrap_or(0), all.max().unwrap_or(0))
        };
        let ranges = [range(0), range(1), range(2)];
        let span = |axis: usize| (ranges[axis].1 - ranges[axis].0) as usize;
        let skip = [0, 1].map(|axis| if span(axis) == 0 { step[axis] } else { 1 });
        let reach = |axis: usize| (positions[axis] - 1) * step[axis] + span(axis) + 1;
        let extent = [reach(0).div_ceil(skip[0]), reach(1).div_ceil(skip[1]), reach(2)];
        let phases = step[2].min(span(2) + 1);
        let width = extent[2].div_ceil(step[2]);
        let mut used = vec![false; step[1] / skip[1]];
        displacements.iter().for_each(|tap| used[(tap[1] - ranges[1].0) as usize % (step[1] / skip[1])] = true);
        let mut layout = Layout {
            source,
            step,
            skip,
            low: ranges.map(|range| range.0),
            span: [span(0), span(1)],
            extent,
            used,
            phases,
            width,
            inside: vec![],
            taps: vec![],
            plane: extent[0] * extent[1] * phases * width,
            in_place: false,
        };
        for phase in 0..phases {
            // Those columns `i` with 0 ≤ low + step·i < length.
            let low = layout.low[2] + phase as isize;
            let column = |bound: isize| ((bound - low).max(0) as usize).div_ceil(step[2]).min(width);
            let (begin, end) = (column(0), column(source[2] as isize));
            layout.inside.push((begin, end, (low + (step[2] * begin) as isize).max(0) as usize));
        }
        layout.taps = displacements
            .iter()
            .map(|tap| {
                let [z, y, x] = [0, 1, 2].map(|axis| (tap[axis] - layout.low[axis]) as usize);
                (z * extent[1] + y) * layout.pitch() + x % step[2] * width + x / step[2]
            })
            .collect();
        layout
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
            low: [0; 3],
            span: [0, 1].map(|axis| displacements.iter().map(|tap| tap[axis] as usize).max().unwrap_or(0)),
            extent: source,
            used: vec![],
            phases: 1,
            width: source[2],
            inside: vec![],
            taps: displacements.iter().map(offset).collect(),
            plane: source.iter().product(),
            in_place: true,
        })
    }

    /// Elements of one row of the copy.
    fn pitch(&self) -> usize {
        self.phases * self.width
    }

    /// Offset of the row of positions (z, y) of the band; the taps' offsets are added to it.
    pub(super) fn row(&self, z: usize, y: usize) -> usize {
        let [z, y] = [z * self.step[0] / self.skip[0], y * self.step[1] / self.skip[1]];
        (z * self.extent[1] + y) * self.pitch()
    }

    /// How `size` positions of one image follow each other.
    pub(super) fn runs(&self, size: [usize; 3]) -> Runs {
        let ([depth, height, width], apart) = (size, [self.row(1, 0), self.row(0, 1)]);
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

    /// Copies one plane; `first` is the band's first position of axes 0 and 1.
    ///
    /// # Safety
    /// `copy` must be valid for [`Layout::plane`] elements and one vector more, which may be overwritten.
    pub(super) unsafe fn copy<T: Float>(&self, first: [usize; 2], plane: &[T], copy: *mut T) {
        assert_eq!(plane.len(), self.source.iter().product());
        let start = [0, 1].map(|axis| (first[axis] * self.step[axis]) as isize + self.low[axis]);
        // SAFETY: the plane has the sizes the rows are cut from; the copy is the caller's promise.
        unsafe { cpu::run(Copy { layout: self, start, plane: plane.as_ptr(), copy }) }
    }
}

/// Copying one plane; `start` is the lowest coordinate of axes 0 and 1.
struct Copy<'a, T> {
    layout: &'a Layout,
    start: [isize; 2],
    plane: *const T,
    copy: *mut T,
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl<T: Float> Work<T> for Copy<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        let Copy { layout, start, plane, mut copy } = self;
        let [depth, height, length] = layout.source;
        let (width, step) = (layout.width, layout.step[2]);
        for z in 0..layout.extent[0] {
            let from_z = start[0] + (z * layout.skip[0]) as isize;
            for y in 0..layout.extent[1] {
                let from_y = start[1] + (y * layout.skip[1]) as isize;
                if !layout.used[y % layout.used.len()] {
                    copy = copy.wrapping_add(layout.pitch());
                    continue;
                }
                let exists = from_z >= 0 && (from_z as usize) < depth && from_y >= 0 && (from_y as usize) < height;
                // Formed with wrapping arithmetic, as it points nowhere for a row that does not exist.
                let row = plane.wrapping_offset((from_z * height as isize + from_y) * length as isize);
                let inside = |phase: usize| if exists { layout.inside[phase] } else { (width, width, 0) };
                let count = |phase: usize| inside(phase).1 - inside(phase).0;
                // Short vectors' parts are written element by element, which costs more than reading twice.
                if V::LANES == TileShape::MAX_LANES && step == 2 && layout.phases == 2 && count(0).min(count(1)) > 0 {
                    // SAFETY: the columns of both exist in the source; the copy has room for a vector behind its end.
                    unsafe { both::<T, V>(row, [inside(0), inside(1)], width, copy) };
                    copy = copy.wrapping_add(layout.pitch());
                    continue;
                }
                for phase in 0..layout.phases {
                    let (begin, end, first) = inside(phase);
                    // Whole vectors are written; what lies beyond the row's end is overwritten by what follows.
                    // SAFETY: columns `begin..end` exist in the source; the copy has room for a vector behind its end.
                    unsafe {
                        zeros::<T, V>(copy, begin);
                        let from = row.wrapping_add(first);
                        let (mut i, count) = (0, end - begin);
                        if step == 1 {
                            while i + V::LANES <= count {
                                V::load(from.add(i)).store(copy.add(begin + i));
                                i += V::LANES;
                            }
                            if i < count {
                                V::load_part(from.add(i), count - i).store(copy.add(begin + i));
                            }
                        } else {
                            let to = copy.add(begin);
                            match step {
                                2 => every_second::<T, V>(from, to, count),
                                4 => spaced::<T, 4>(from, to, count),
                                _ => (0..count).for_each(|i| *to.add(i) = *from.add(i * step)),
                            }
                        }
                        zeros::<T, V>(copy.add(end), width - end);
                        copy = copy.add(width);
                    }
                }
            }
        }
    }
}

/// A row whose even and odd columns go to two rows of `width`, one behind the other: from what column to what, and where in
/// the source the first comes from. There is one of each at least.
#[inline(always)]
unsafe fn both<T: Float, V: Vector<T>>(row: *const T, inside: [(usize, usize, usize); 2], width: usize, to: *mut T) {
    // The side that comes first in the source, and the other, which begins a column later.
    let early = usize::from(inside[1].2 < inside[0].2);
    let [count, late] = [early, 1 - early].map(|side| inside[side].1 - inside[side].0);
    // SAFETY: the caller's promise. What is written beyond the end of the first row comes before the second's own.
    unsafe {
        let second = to.add(width);
        zeros::<T, V>(to, inside[0].0);
        zeros::<T, V>(to.add(inside[0].1), width - inside[0].1);
        zeros::<T, V>(second, inside[1].0);
        let from = row.add(inside[early].2);
        let starts = [to.add(inside[0].0), second.add(inside[1].0)];
        let mut i = 0;
        while i < count {
            let (low, high) = two::<T, V>(from.add(2 * i), (count - i) + (late.max(i) - i));
            let values = low.deinterleave(high);
            let [first, other] = if early == 0 { [values.0, values.1] } else { [values.1, values.0] };
            let rest = (inside[0].1 - inside[0].0).saturating_sub(i);
            if rest >= V::LANES {
                first.store(starts[0].add(i))
            } else {
                first.store_part(starts[0].add(i), rest)
            }
            other.store(starts[1].add(i));
            i += V::LANES;
        }
        zeros::<T, V>(second.add(inside[1].1), width - inside[1].1);
    }
}

/// Every second element, in whole vectors.
#[inline(always)]
unsafe fn every_second<T: Float, V: Vector<T>>(from: *const T, to: *mut T, count: usize) {
    let mut i = 0;
    while i < count {
        // SAFETY: the wanted elements exist in the source; there is room for `count` elements and a vector more.
        unsafe {
            let (low, high) = two::<T, V>(from.add(2 * i), 2 * (count - i) - 1);
            low.deinterleave(high).0.store(to.add(i));
        }
        i += V::LANES;
    }
}

/// Two vectors, of which `count` elements exist.
#[inline(always)]
unsafe fn two<T: Float, V: Vector<T>>(from: *const T, count: usize) -> (V, V) {
    // SAFETY: the caller's promise.
    unsafe {
        match count >= 2 * V::LANES {
            true => (V::load(from), V::load(from.add(V::LANES))),
            false if count > V::LANES => (V::load(from), V::load_part(from.add(V::LANES), count - V::LANES)),
            false => (V::load_part(from, count), V::splat(T::ZERO)),
        }
    }
}

/// Every `STEP`-th element; a step the compiler knows becomes shuffles.
#[inline(always)]
unsafe fn spaced<T: Float, const STEP: usize>(from: *const T, to: *mut T, count: usize) {
    for i in 0..count {
        // SAFETY: the caller's promise: all of them exist on both sides.
        unsafe { *to.add(i) = *from.add(i * STEP) };
    }
}

/// Zeros, in whole vectors. Margins are nearly always a vector at most, which a loop alone would hand to `memset`.
#[inline(always)]
unsafe fn zeros<T: Float, V: Vector<T>>(to: *mut T, count: usize) {
    // SAFETY: the caller has room for `count` elements and a vector more.
    unsafe {
        if count > 0 {
            V::splat(T::ZERO).store(to);
        }
        if count > V::LANES {
            for i in (V::LANES..count).step_by(V::LANES) {
                V::splat(T::ZERO).store(to.add(i));
            }
        }
    }
}
