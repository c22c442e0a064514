//! Packing: a block of any strides becomes the panel the tile kernel reads front to back.

use crate::Float;
use crate::cpu::caches::LINE;
use crate::cpu::{self, TileShape, Vector, Work};

/// Strips that are packed at a time where the source's lines run across them.
pub(crate) const STRIPS: usize = 4;

/// Lines of the source that are asked for ahead: they lie on other pages, which the machine does not foresee.
const AHEAD: isize = 8;

/// Elements of a packed left side of `rows` × `depth`.
pub(crate) fn left_size<T: Float>(rows: usize, depth: usize) -> usize {
    rows.next_multiple_of(TileShape::of::<T>().rows) * depth
}

/// Packs a left side: strips of a tile's rows, each strip `[depth][rows]`. Rows missing from the last strip are of no
/// meaning: the kernel does not read them. Element (i, p) of the source is `source[i · row + p · step]`.
///
/// # Safety
/// The source must be valid for all `rows` × `depth` elements, `target` for [`left_size`].
pub(crate) unsafe fn left<T: Float>(
    rows: usize,
    depth: usize,
    source: *const T,
    row: isize,
    step: isize,
    target: *mut T,
) {
    // SAFETY: the caller's promise.
    unsafe { cpu::run(Left { rows, depth, source, row, step, target }) }
}

struct Left<T> {
    rows: usize,
    depth: usize,
    source: *const T,
    row: isize,
    step: isize,
    target: *mut T,
}

impl<T: Float> Left<T> {
    /// Full strips whose columns are contiguous, some at a time: whole lines of the source are read once.
    #[inline(always)]
    unsafe fn columns<V: Vector<T>>(&self, strips: usize, source: *const T, target: *mut T) {
        for first in (0..strips).step_by(STRIPS) {
            let last = strips.min(first + STRIPS);
            for p in 0..self.depth {
                let from = source.wrapping_offset(p as isize * self.step);
                let ahead = from.wrapping_offset(AHEAD * self.step);
                for strip in first..last {
                    cpu::prefetch(ahead.wrapping_add(strip * V::ROWS));
                    // SAFETY: inside the strip.
                    unsafe {
                        let (mut i, from) = (0, from.add(strip * V::ROWS));
                        let to = target.add((strip * self.depth + p) * V::ROWS);
                        while i + V::LANES <= V::ROWS {
                            V::load(from.add(i)).store(to.add(i));
                            i += V::LANES;
                        }
                        if i < V::ROWS {
                            V::load_part(from.add(i), V::ROWS - i).store_part(to.add(i), V::ROWS - i);
                        }
                    }
                }
            }
        }
    }

    /// A strip of `count` rows that are contiguous, as far as whole blocks go; returns how far.
    #[inline(always)]
    unsafe fn rows<V: Vector<T>>(&self, count: usize, source: *const T, target: *mut T) -> usize {
        let whole = V::ROWS / V::LANES * V::LANES;
        let mut p = 0;
        while V::STRIPS && p + 4 <= self.depth {
            // SAFETY: inside the strip: rows beyond it are read as its last.
            unsafe {
                let source = source.add(p);
                V::strip(|i| source.wrapping_offset(i.min(count - 1) as isize * self.row), target.add(p * V::ROWS));
            }
            p += 4;
        }
        // A block of fewer rows than lanes writes beyond its columns, into the next: that one must be written later.
        while !V::STRIPS && p + V::LANES < self.depth {
            // SAFETY: inside the strip: rows beyond it are read as its last, columns end before the strip's.
            unsafe {
                let (source, target) = (source.add(p), target.add(p * V::ROWS));
                let from = |i: usize| source.wrapping_offset(i.min(V::ROWS - 1) as isize * self.row);
                if whole < V::ROWS {
                    V::transpose(|i| from(whole + i), target.add(whole), V::ROWS);
                }
                for first in (0..whole).step_by(V::LANES) {
                    V::transpose(|i| from(first + i), target.add(first), V::ROWS);
                }
            }
            p += V::LANES;
        }
        p
    }
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl<T: Float> Work<T> for Left<T> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        let contiguous = if self.row == 1 { self.rows / V::ROWS } else { 0 };
        // SAFETY: these strips lie inside both sides.
        unsafe { self.columns::<V>(contiguous, self.source, self.target) };
        for first in (contiguous * V::ROWS..self.rows).step_by(V::ROWS) {
            let count = V::ROWS.min(self.rows - first);
            let source = self.source.wrapping_offset(first as isize * self.row);
            // SAFETY: the strip lies inside both sides.
            unsafe {
                let target = self.target.add(first * self.depth);
                let mut done = 0;
                // Rows that are missing are packed all the same, as copies of the last, where a block is that cheap.
                if self.step == 1 && (count == V::ROWS || V::STRIPS && count >= 4) {
                    done = self.rows::<V>(count, source, target);
                }
                for p in done..self.depth {
                    for i in 0..count {
                        *target.add(p * V::ROWS + i) = *source.offset(i as isize * self.row + p as isize * self.step);
                    }
                }
            }
        }
    }
}

/// Packs a right side: strips of two vectors of columns, each strip `[depth][columns]`. The last is filled up with numbers
/// of no meaning, or left as it was.
/// Element (p, j) of the source is `source[p · step + j · column]`.
///
/// # Safety
/// The source must be valid for all `depth` × `width` elements, `target` for all strips.
pub(crate) unsafe fn right<T: Float>(
    depth: usize,
    width: usize,
    source: *const T,
    step: isize,
    column: isize,
    target: *mut T,
) {
    // SAFETY: the caller's promise.
    unsafe { cpu::run(Right { depth, width, source, step, column, target }) }
}

struct Right<T> {
    depth: usize,
    width: usize,
    source: *const T,
    step: isize,
    column: isize,
    target: *mut T,
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl<T: Float> Work<T> for Right<T> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        let Right { depth, width, source, step, column, target } = self;
        let wide = 2 * V::LANES;
        let whole = width / wide;
        // SAFETY: each strip lies inside both sides.
        unsafe {
            if column == 1 {
                // Some strips at a time: whole lines of the source are read, and the pages touched stay few.
                for first in (0..whole).step_by(STRIPS) {
                    let last = whole.min(first + STRIPS);
                    for p in 0..depth {
                        let from = source.offset(p as isize * step);
                        let ahead = from.wrapping_offset(AHEAD * step);
                        for strip in first..last {
                            cpu::prefetch(ahead.wrapping_add(strip * wide));
                            cpu::prefetch(ahead.wrapping_add(strip * wide + V::LANES));
                            let (from, to) = (from.add(strip * wide), target.add((strip * depth + p) * wide));
                            V::load(from).store(to);
                            V::load(from.add(V::LANES)).store(to.add(V::LANES));
                        }
                    }
                }
            } else {
                for strip in 0..whole {
                    let from = source.wrapping_offset((strip * wide) as isize * column);
                    let to = target.add(strip * depth * wide);
                    let mut p = 0;
                    while step == 1 && p + V::LANES <= depth {
                        for half in 0..2 {
                            let from = from.offset((half * V::LANES) as isize * column).add(p);
                            let row = |i: usize| from.wrapping_offset(i as isize * column);
                            // The next strip's lines: they lie on other pages, which the machine does not foresee.
                            if (p * size_of::<T>()).is_multiple_of(LINE) {
                                let next = |i: usize| row(i).wrapping_offset(wide as isize * column);
                                (0..V::LANES).for_each(|i| cpu::prefetch_to_second(next(i)));
                            }
                            V::transpose(row, to.add(p * wide + half * V::LANES), wide);
                        }
                        p += V::LANES;
                    }
                    for p in p..depth {
                        for j in 0..wide {
                            *to.add(p * wide + j) = *from.offset(p as isize * step + j as isize * column);
                        }
                    }
                }
            }
            if whole * wide < width {
                let rest = width - whole * wide;
                let from = source.wrapping_offset((whole * wide) as isize * column);
                let to = target.add(whole * depth * wide);
                let mut done = 0;
                while column != 1 && step == 1 && done + V::LANES <= depth {
                    // Columns that are missing are copies of the last: nobody reads what becomes of them.
                    for first in (0..rest).step_by(V::LANES) {
                        let row =
                            |i: usize| from.wrapping_offset((first + i).min(rest - 1) as isize * column).add(done);
                        V::transpose(row, to.add(done * wide + first), wide);
                    }
                    done += V::LANES;
                }
                for p in done..depth {
                    for j in 0..rest {
                        *to.add(p * wide + j) = *from.offset(p as isize * step + j as isize * column);
                    }
                    for j in rest..wide {
                        *to.add(p * wide + j) = T::ZERO;
                    }
                }
            }
        }
    }
}
