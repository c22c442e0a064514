//! Packing: a block of any strides becomes the panel the tile kernel reads front to back.

use super::kernel::ROWS;
use crate::Float;
use crate::cpu::{self, Vector, Work};

/// Elements of a packed left side of `rows` × `depth`.
pub(crate) fn left_size(rows: usize, depth: usize) -> usize {
    rows.div_ceil(ROWS) * ROWS * depth
}

/// Packs a left side: strips of six rows, each strip `[depth][6]`. Rows missing from the last strip are left as they
/// were: the kernel does not read them. Element (i, p) of the source is `source[i · row + p · step]`.
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
    for strip in 0..rows.div_ceil(ROWS) {
        let count = ROWS.min(rows - strip * ROWS);
        let source = source.wrapping_offset((strip * ROWS) as isize * row);
        // SAFETY: the strip lies inside both sides.
        unsafe {
            let target = target.add(strip * ROWS * depth);
            if count < ROWS {
                for p in 0..depth {
                    for i in 0..count {
                        *target.add(p * ROWS + i) = *source.offset(i as isize * row + p as isize * step);
                    }
                }
            } else if row == 1 {
                for p in 0..depth {
                    let from = source.offset(p as isize * step).cast::<[T; ROWS]>();
                    target.add(p * ROWS).cast::<[T; ROWS]>().write_unaligned(from.read_unaligned());
                }
            } else if step == 1 {
                cpu::run(LeftStrip { depth, source, row, target });
            } else {
                for p in 0..depth {
                    for i in 0..ROWS {
                        *target.add(p * ROWS + i) = *source.offset(i as isize * row + p as isize * step);
                    }
                }
            }
        }
    }
}

/// One full strip of a left side whose rows are contiguous.
struct LeftStrip<T> {
    depth: usize,
    source: *const T,
    row: isize,
    target: *mut T,
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl<T: Float> Work<T> for LeftStrip<T> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        let mut p = 0;
        // SAFETY: inside the strip; the loop over rows stays below six.
        unsafe {
            if V::LANES == 8 {
                // Rows 6 and 7 of the block are rows 4 and 5 again, so that nothing outside is read.
                let mut rows = [T::ZERO; 64];
                while p + 8 < self.depth {
                    for i in 0..8 {
                        let from = self.source.offset((if i < 6 { i } else { i - 2 }) as isize * self.row).add(p);
                        V::load(from).store(rows.as_mut_ptr().add(8 * i));
                    }
                    // The two extra elements of each column are overwritten by the next; there always is one.
                    V::transpose(rows.as_ptr(), 8, self.target.add(p * ROWS), ROWS);
                    p += 8;
                }
            }
            for p in p..self.depth {
                for i in 0..ROWS {
                    *self.target.add(p * ROWS + i) = *self.source.offset(i as isize * self.row + p as isize);
                }
            }
        }
    }
}

/// Packs a right side: strips of two vectors of columns, each strip `[depth][columns]`, the last filled up with zeros.
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
                for first in (0..whole).step_by(4) {
                    let last = whole.min(first + 4);
                    for p in 0..depth {
                        let from = source.offset(p as isize * step);
                        for strip in first..last {
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
                            V::transpose(from, column, to.add(p * wide + half * V::LANES), wide);
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
                for p in 0..depth {
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
