//! Packing patches for a product over positions: what some channels and taps read becomes a panel's strip, straight from
//! planes in which neighbouring positions are neighbours.

use super::image::Runs;
use crate::Float;
use crate::cpu::{TileShape, Vector, Work};

/// A strip `[positions][columns]` of a right side; the positions are those of all runs of all images, in order.
pub(super) struct TransposedPatches<'a, T> {
    /// Where each column's first position lies; behind the last of `count`, any that may be read as well.
    pub columns: &'a [*const T; TileShape::MAX_COLUMNS],
    pub count: usize,
    /// Images, and from one to the next.
    pub images: usize,
    pub image: usize,
    pub runs: &'a Runs,
    /// Behind the strip [`TransposedPatches::room`] elements are overwritten. Runs shorter than a vector are read up to the next
    /// multiple of four.
    pub to: *mut T,
}

impl<T: Float> TransposedPatches<'_, T> {
    /// Elements behind a strip that may be overwritten.
    pub(super) fn room() -> usize {
        4 * TileShape::of::<T>().columns
    }
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl<T: Float> Work<T> for TransposedPatches<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        let TransposedPatches { columns, count, images, image, runs, mut to } = self;
        let wide = 2 * V::LANES;
        let length = runs.length;
        for image in (0..images).map(|index| index * image) {
            for plane in (0..runs.counts[0]).map(|z| image + z * runs.apart[0]) {
                for row in (0..runs.counts[1]).map(|y| plane + y * runs.apart[1]) {
                    for first in (0..count).step_by(V::LANES) {
                        let mut x = 0;
                        while x < length {
                            // The last block of a run reads none beyond it: some of its positions are packed twice, to
                            // the same effect. What a short run writes beyond its end is overwritten by the next.
                            x = x.min(length.saturating_sub(V::LANES));
                            // SAFETY: the caller's promise covers all runs, and room behind the strip.
                            unsafe {
                                let column = |i: usize| (*columns.as_ptr().add(first + i)).wrapping_add(row + x);
                                let to = to.add(x * wide + first);
                                match length < V::LANES {
                                    true => V::transpose_first(length, column, to, wide),
                                    false => V::transpose(column, to, wide),
                                }
                            }
                            x += V::LANES;
                        }
                    }
                    to = to.wrapping_add(length * wide);
                }
            }
        }
    }
}
