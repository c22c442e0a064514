//! Convolution with few output channels (depthwise, or the first layer of a small network): packing patches would cost
//! as much as using them, so the taps are read where they lie in the padded copy.

use crate::Float;
use crate::cpu::{self, TileShape, Vector, Work};
use std::mem::MaybeUninit;

/// Most rows of one [`Plane`].
pub(super) const ROWS: usize = 6;

/// One plane, or a band of one, for up to [`ROWS`] rows:
/// `c(r, z, y, x) (+)= Σ_p a[p · a_step + r] · image(z, y)[offsets[p] + x]`.
/// The image must be readable for four vectors from every offset, rounded up from the width.
pub(super) struct Plane<T> {
    pub rows: usize,
    pub depth: usize,
    /// Packed weights.
    pub a: *const T,
    pub a_step: usize,
    /// Where each channel's tap lies, relative to its position.
    pub offsets: *const usize,
    pub image: *const T,
    /// From one position to the next along axes 0 and 1.
    pub image_z: usize,
    pub image_y: usize,
    pub size: [usize; 3],
    pub c: *mut T,
    pub c_row: usize,
    pub c_z: usize,
    pub c_y: usize,
    pub c_x: usize,
    /// Whether to add to `c` or to overwrite it.
    pub add: bool,
}

impl<T: Float> Plane<T> {
    /// Computes the plane.
    ///
    /// # Safety
    /// The fields must describe valid memory, as documented on the type.
    pub(super) unsafe fn compute(self) {
        // SAFETY: the caller's promise.
        unsafe { cpu::run(self) }
    }

    #[inline(always)]
    unsafe fn all<V: Vector<T>, const R: usize>(&self) {
        // As many lines of the plane at a time as registers hold, or most multiply-adds would wait for the one before.
        let most = if R * 4 <= V::ROWS { 4 } else { V::ROWS / R };
        for z in 0..self.size[0] {
            let mut y = 0;
            while y < self.size[1] {
                let lines = match most.min(self.size[1] - y) {
                    4.. => 4,
                    2 | 3 => 2,
                    _ => 1,
                };
                let mut x = 0;
                while x < self.size[2] {
                    let rest = self.size[2] - x;
                    // SAFETY: the caller's promise; at most `rest` columns of `lines` lines are written.
                    unsafe {
                        let image = self.image.add(z * self.image_z + y * self.image_y + x);
                        let c = self.c.add(z * self.c_z + y * self.c_y + x * self.c_x);
                        match (rest > V::LANES, lines) {
                            (true, 1) => self.tile::<V, R, 2, 1>(image, c, rest),
                            (true, 2) => self.tile::<V, R, 2, 2>(image, c, rest),
                            (true, _) => self.tile::<V, R, 2, 4>(image, c, rest),
                            (false, 1) => self.tile::<V, R, 1, 1>(image, c, rest),
                            (false, 2) => self.tile::<V, R, 1, 2>(image, c, rest),
                            (false, _) => self.tile::<V, R, 1, 4>(image, c, rest),
                        }
                        x += if rest > V::LANES { 2 } else { 1 } * V::LANES;
                    }
                }
                y += lines;
            }
        }
    }

    /// `R` rows, `C` vectors of columns and `Y` lines of the plane.
    #[inline(always)]
    unsafe fn tile<V: Vector<T>, const R: usize, const C: usize, const Y: usize>(
        &self,
        image: *const T,
        c: *mut T,
        rest: usize,
    ) {
        if Y > 1 && R * Y > V::ROWS {
            return; // Never asked for; without this the tile would be compiled all the same.
        }
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[[V::splat(T::ZERO); C]; R]; Y];
            for p in 0..self.depth {
                let from = image.add(*self.offsets.add(p));
                let a = self.a.add(p * self.a_step);
                // The weights stay in registers for all lines, the vectors of one line for all weights.
                let mut left = [V::splat(T::ZERO); R];
                for i in 0..if Y > 1 { R } else { 0 } {
                    left[i] = V::splat(*a.add(i));
                }
                for y in 0..Y {
                    let from = from.add(y * self.image_y);
                    let mut right = [V::splat(T::ZERO); C];
                    for j in 0..C {
                        right[j] = V::load(from.add(j * V::LANES));
                    }
                    for i in 0..R {
                        let left = if Y > 1 { left[i] } else { V::splat(*a.add(i)) };
                        for j in 0..C {
                            sums[y][i][j] = left.mul_add(right[j], sums[y][i][j]);
                        }
                    }
                }
            }
            for y in 0..Y {
                for i in 0..R {
                    for j in 0..C {
                        let to = c.add(y * self.c_y + i * self.c_row + j * V::LANES * self.c_x);
                        self.write(sums[y][i][j], to, rest - j * V::LANES);
                    }
                }
            }
        }
    }

    /// Writes the first `rest` elements of a vector, or all.
    #[inline(always)]
    unsafe fn write<V: Vector<T>>(&self, sum: V, to: *mut T, rest: usize) {
        // SAFETY: the caller's promise; `part` is written before it is read.
        unsafe {
            if self.c_x == 1 {
                match (self.add, rest >= V::LANES) {
                    (false, true) => sum.store(to),
                    (false, false) => sum.store_part(to, rest),
                    (true, true) => V::load(to).add(sum).store(to),
                    (true, false) => V::load_part(to, rest).add(sum).store_part(to, rest),
                }
                return;
            }
            let mut part = MaybeUninit::<[T; TileShape::MAX_LANES]>::uninit();
            sum.store(part.as_mut_ptr().cast());
            for j in 0..rest.min(V::LANES) {
                let (to, value) = (to.add(j * self.c_x), *part.as_ptr().cast::<T>().add(j));
                *to = if self.add { *to + value } else { value };
            }
        }
    }
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl<T: Float> Work<T> for Plane<T> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.rows {
                1 => self.all::<V, 1>(),
                2 => self.all::<V, 2>(),
                3 => self.all::<V, 3>(),
                4 => self.all::<V, 4>(),
                5 => self.all::<V, 5>(),
                _ => self.all::<V, 6>(),
            }
        }
    }
}

/// Weight gradients without packing, kept as vectors of partial sums:
/// `sums[r, t] += Σ_i Σ_y Σ_x gy(i, r, y)[x] · image(i, y)[taps[t] + x]`. Each sum is a whole vector.
pub(super) struct Correlation<'a, T> {
    /// Images, rows of positions in each, positions in a row.
    pub size: [usize; 3],
    pub gy: *const T,
    pub gy_image: usize,
    /// From one output channel to the next.
    pub gy_row: usize,
    pub gy_y: usize,
    pub rows: usize,
    pub image: *const T,
    pub image_image: usize,
    pub image_y: usize,
    pub taps: &'a [usize],
    pub sums: *mut T,
}

impl<T: Float> Correlation<'_, T> {
    /// Adds to all sums.
    ///
    /// # Safety
    /// The image must be readable at every tap of every position, `gy` at every position; `sums` must be valid for
    /// `rows · taps` vectors.
    pub(super) unsafe fn compute(self) {
        // SAFETY: the caller's promise.
        unsafe { cpu::run(self) }
    }

    /// The sums of `R` rows from `row` with `N` taps from `tap`.
    #[inline(always)]
    unsafe fn part<V: Vector<T>, const R: usize, const N: usize>(&self, row: usize, tap: usize) {
        // SAFETY: the caller's promise; the last vector of a row of positions is read in part.
        unsafe {
            let at = |r: usize, t: usize| self.sums.add(((row + r) * self.taps.len() + tap + t) * V::LANES);
            let mut sums = [[V::splat(T::ZERO); N]; R];
            for r in 0..R {
                for t in 0..N {
                    sums[r][t] = V::load(at(r, t));
                }
            }
            let mut taps = [0; N];
            taps.copy_from_slice(&self.taps[tap..tap + N]);
            let [images, height, width] = self.size;
            for image in 0..images {
                for y in 0..height {
                    let gy = self.gy.add(image * self.gy_image + row * self.gy_row + y * self.gy_y);
                    let from = self.image.add(image * self.image_image + y * self.image_y);
                    let mut x = 0;
                    while x < width {
                        let rest = width - x;
                        let load = |from: *const T| match rest < V::LANES {
                            true => V::load_part(from, rest),
                            false => V::load(from),
                        };
                        let mut left = [V::splat(T::ZERO); R];
                        for r in 0..R {
                            left[r] = load(gy.add(r * self.gy_row + x));
                        }
                        for t in 0..N {
                            let right = load(from.add(taps[t] + x));
                            for r in 0..R {
                                sums[r][t] = left[r].mul_add(right, sums[r][t]);
                            }
                        }
                        x += V::LANES;
                    }
                }
            }
            for r in 0..R {
                for t in 0..N {
                    sums[r][t].store(at(r, t));
                }
            }
        }
    }

    /// The sums of `R` rows from `row` with all taps.
    #[inline(always)]
    unsafe fn taps<V: Vector<T>, const R: usize>(&self, row: usize) {
        let mut tap = 0;
        while tap < self.taps.len() {
            // SAFETY: the caller's promise; as many taps are left as are taken.
            unsafe {
                match self.taps.len() - tap {
                    rest if R == 1 && rest >= 9 => {
                        self.part::<V, R, 9>(row, tap);
                        tap += 9;
                    }
                    1 => {
                        self.part::<V, R, 1>(row, tap);
                        tap += 1;
                    }
                    2 | 3 => {
                        self.part::<V, R, 2>(row, tap);
                        tap += 2;
                    }
                    _ => {
                        self.part::<V, R, 4>(row, tap);
                        tap += 4;
                    }
                }
            }
        }
    }
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl<T: Float> Work<T> for Correlation<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        let mut row = 0;
        while row < self.rows {
            // SAFETY: the caller's promise; as many rows are left as are taken.
            unsafe {
                match self.rows - row {
                    1 => self.taps::<V, 1>(row),
                    2 => self.taps::<V, 2>(row),
                    _ => self.taps::<V, 3>(row),
                }
            }
            row += 3;
        }
    }
}

/// Vectors of partial sums become numbers: `out[i]` is the sum of vector `i`.
pub(super) struct Fold<'a, T> {
    pub sums: &'a [T],
    pub out: &'a mut [T],
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl<T: Float> Work<T> for Fold<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        for (out, sums) in self.out.iter_mut().zip(self.sums.chunks_exact(V::LANES)) {
            // SAFETY: a chunk is one vector.
            *out = unsafe { V::load(sums.as_ptr()).sum() };
        }
    }
}
