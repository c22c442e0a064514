//! What a sweep's cell moves in and out: patches that are packed as a panel, and sums that go to their places.

use crate::Float;
use crate::cpu::caches::LINE;
use crate::cpu::{Vector, Work};

/// A run of neighbouring positions inside a strip.
#[derive(Clone, Copy, Default)]
pub(super) struct Run {
    /// Column of the strip it starts at.
    pub column: usize,
    pub length: usize,
    /// Where its first position lies in the copied image.
    pub base: usize,
}

/// Packing one strip of patches: for each channel and tap, the strip's runs of the shifted image.
pub(super) struct Patches<'a, T> {
    pub runs: &'a [Run],
    pub channels: usize,
    pub plane: usize,
    pub taps: &'a [usize],
    pub image: *const T,
    pub to: *mut T,
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

/// Neighbours are copied, `width` of them.
#[inline(always)]
unsafe fn line<T: Float, V: Vector<T>>(from: *const T, to: *mut T, width: usize) {
    let mut x = 0;
    // SAFETY: the caller's promise: `width` elements exist on both sides.
    unsafe {
        while x + V::LANES <= width {
            V::load(from.add(x)).store(to.add(x));
            x += V::LANES;
        }
        if x < width {
            V::load_part(from.add(x), width - x).store_part(to.add(x), width - x);
        }
    }
}

/// Neighbours are copied past the caches, where whole lines of memory are written.
pub(super) struct Stream<T> {
    pub from: *const T,
    pub to: *mut T,
    pub count: usize,
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl<T: Float> Work<T> for Stream<T> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        let Stream { from, to, count } = self;
        let mut i = ((to as usize).wrapping_neg() % LINE / size_of::<T>()).min(count);
        // SAFETY: the fields' promises: `count` elements exist on both sides; vectors are written where they are aligned.
        unsafe {
            line::<T, V>(from, to, i);
            while i + V::LANES <= count {
                V::load(from.add(i)).store_past_caches(to.add(i));
                i += V::LANES;
            }
            line::<T, V>(from.add(i), to.add(i), count - i);
        }
    }
}

/// Sums of a cell go to their places: `to(r, z, y, x) = from(r, z, y, x)`.
pub(super) struct Spread<T> {
    pub rows: usize,
    /// Of axis 2, elements that are written.
    pub size: [usize; 3],
    /// With a step of 2, sums of even and of odd places, where there are any; zeros are written for others.
    pub from: [Option<*const T>; 2],
    pub from_row: usize,
    pub from_z: usize,
    pub from_y: usize,
    pub to: *mut T,
    pub to_row: usize,
    pub to_z: usize,
    pub to_y: usize,
    pub to_x: usize,
}

impl<T: Float> Spread<T> {
    /// One line of `width` places, in so many pairs of vectors, by turns from two sides.
    #[inline(always)]
    unsafe fn by_turns<V: Vector<T>>(from: [Option<*const T>; 2], to: *mut T, width: usize, pairs: usize) {
        // SAFETY: the caller's promise: so many elements exist on both sides.
        unsafe {
            for x in (0..pairs).map(|pair| pair * 2 * V::LANES) {
                let rest = width - x;
                let half = |side: usize| match from[side] {
                    None => V::splat(T::ZERO),
                    Some(from) if rest >= 2 * V::LANES => V::load(from.add(x / 2)),
                    Some(from) => V::load_part(from.add(x / 2), (rest + 1 - side) / 2),
                };
                let (low, high) = half(0).interleave(half(1));
                let to = to.add(x);
                if rest >= 2 * V::LANES {
                    low.store(to);
                    high.store(to.add(V::LANES));
                } else if rest >= V::LANES {
                    low.store(to);
                    high.store_part(to.add(V::LANES), rest - V::LANES);
                } else {
                    low.store_part(to, rest);
                }
            }
        }
    }

    /// All lines; those that go by turns are as many pairs of vectors wide.
    #[inline(always)]
    unsafe fn lines<V: Vector<T>>(&self, [depth, height, width]: [usize; 3], pairs: usize) {
        for r in 0..self.rows {
            for z in 0..depth {
                for y in 0..height {
                    // SAFETY: the fields' promises: these positions exist on both sides.
                    unsafe {
                        let offset = r * self.from_row + z * self.from_z + y * self.from_y;
                        let from = self.from.map(|from| from.map(|from| from.add(offset)));
                        let to = self.to.add(r * self.to_row + z * self.to_z + y * self.to_y);
                        match (self.to_x, from[0]) {
                            (2, _) => Self::by_turns::<V>(from, to, width, pairs),
                            (1, Some(from)) => line::<T, V>(from, to, width),
                            (step, Some(from)) => (0..width).for_each(|x| *to.add(x * step) = *from.add(x)),
                            (_, None) => {}
                        }
                    }
                }
            }
        }
    }
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
        // SAFETY: the fields' promises. Short lines have a copy of the code in which their masks stay the same.
        unsafe {
            match width.div_ceil(2 * V::LANES) {
                1 => self.lines::<V>([depth, height, width], 1),
                pairs => self.lines::<V>([depth, height, width], pairs),
            }
        }
    }
}
