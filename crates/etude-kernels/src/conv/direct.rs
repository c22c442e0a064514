//! Convolution with few output channels (depthwise, or the first layer of a small network): packing patches would cost
//! as much as using them, so the taps are read where they lie in the padded copy.

use super::ahead::Ahead;
use crate::Float;
use crate::cpu::{self, InstructionSet, TileShape, Vector, Work, caches};
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

/// Most rows of one [`Correlation`], and taps of its largest tile.
pub(super) const CORRELATED: [usize; 2] = [8, 3];

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
    /// Up to those of [`CORRELATED`].
    pub rows: usize,
    pub image: *const T,
    pub image_image: usize,
    pub image_y: usize,
    pub taps: &'a [usize],
    pub sums: *mut T,
    /// From `gy` to what is read of it next, if that is asked for meanwhile: a few lines at a time, for many would be waited
    /// for.
    pub next: Option<isize>,
}

impl<T: Float> Correlation<'_, T> {
    /// Adds to all sums; each tile asks for a share of `ahead`.
    ///
    /// # Safety
    /// The image must be readable at every tap of every position, `gy` at every position; `sums` must be valid for
    /// `rows · taps` vectors.
    pub(super) unsafe fn compute(self, ahead: &mut Ahead<T, 1>) {
        let set = cpu::instruction_set();
        let (large, mut row) = (T::shape(set).rows > 6, 0);
        while row < self.rows {
            let mut tap = 0;
            let rest = self.rows - row;
            let rows = match rest {
                8.. if large => 8,
                6.. if large => 6,
                _ => [1, 2, 2, 4][rest.min(4) - 1],
            };
            while tap < self.taps.len() {
                // Twelve sums hide the latency of a multiply-add, and fit sixteen registers.
                let most = match (rows, large) {
                    (8, _) | (4, false) => 3,
                    (6, _) => 4,
                    (4, true) | (2, _) => 6,
                    _ => 9,
                };
                let lines = ahead.take();
                let left = self.taps.len() - tap;
                let taps = if left >= most { most } else { [1, 1, if rows == 6 { 1 } else { 3 }][left.min(3) - 1] };
                // SAFETY: as many rows and taps are left; the rest is the caller's promise.
                unsafe {
                    match (rows, taps) {
                        (8, 3) => self.tile::<8, 3>(set, row, tap, lines),
                        (8, _) => self.tile::<8, 1>(set, row, tap, lines),
                        (6, 4) => self.tile::<6, 4>(set, row, tap, lines),
                        (6, _) => self.tile::<6, 1>(set, row, tap, lines),
                        (4, 6) => self.tile::<4, 6>(set, row, tap, lines),
                        (4, 3) => self.tile::<4, 3>(set, row, tap, lines),
                        (4, _) => self.tile::<4, 1>(set, row, tap, lines),
                        (2, 6) => self.tile::<2, 6>(set, row, tap, lines),
                        (2, 3) => self.tile::<2, 3>(set, row, tap, lines),
                        (2, _) => self.tile::<2, 1>(set, row, tap, lines),
                        (_, 9) => self.tile::<1, 9>(set, row, tap, lines),
                        (_, 3) => self.tile::<1, 3>(set, row, tap, lines),
                        _ => self.tile::<1, 1>(set, row, tap, lines),
                    }
                }
                tap += taps;
            }
            row += rows;
        }
    }

    /// The sums of `R` rows from `row` with `N` taps from `tap`. Each is compiled by itself, as the tiles of products are.
    unsafe fn tile<const R: usize, const N: usize>(
        &self,
        set: InstructionSet,
        row: usize,
        tap: usize,
        lines: (*const T, usize),
    ) {
        // SAFETY: the set is the chosen one; the rest is the caller's promise.
        unsafe { T::dispatch(set, Sums::<T, R, N> { all: self, row, tap, lines }) }
    }
}

/// `R` rows and `N` taps of a correlation.
struct Sums<'a, T, const R: usize, const N: usize> {
    all: &'a Correlation<'a, T>,
    row: usize,
    tap: usize,
    /// Lines to ask for.
    lines: (*const T, usize),
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl<T: Float, const R: usize, const N: usize> Work<T> for Sums<'_, T, R, N> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        if R * N > 12 && V::ROWS <= 6 {
            return; // Never asked for; without this the tile would be compiled all the same.
        }
        let Sums { all, row, tap, lines: (mut line, mut left) } = self;
        let at = |r: usize, t: usize| all.sums.wrapping_add(((row + r) * all.taps.len() + tap + t) * V::LANES);
        // SAFETY: the promise of `compute`; the last vector of a row of positions is read in part.
        unsafe {
            let mut sums = [[V::splat(T::ZERO); N]; R];
            for r in 0..R {
                for t in 0..N {
                    sums[r][t] = V::load(at(r, t));
                }
            }
            let mut taps = [0; N];
            taps.copy_from_slice(&all.taps[tap..tap + N]);
            let [images, height, width] = all.size;
            // Each of the taps' tiles asks for some of the rows.
            let share = (R * N).div_ceil(all.taps.len());
            let first = (tap / N * share).min(R);
            let (next, last) = all.next.map_or((0, first), |next| (next, (first + share).min(R)));
            let asked = first..last;
            let lines = left.div_ceil((images * height).max(1));
            for image in 0..images {
                for y in 0..height {
                    for _ in 0..lines.min(left) {
                        cpu::prefetch_to_second(line);
                        line = line.wrapping_byte_add(caches::LINE);
                    }
                    left = left.saturating_sub(lines);
                    let mut gy = all.gy.wrapping_add(image * all.gy_image + row * all.gy_row + y * all.gy_y);
                    let mut from = all.image.wrapping_add(image * all.image_image + y * all.image_y);
                    for _ in 0..width / V::LANES {
                        for r in asked.clone() {
                            cpu::prefetch_to_second(gy.wrapping_offset(next).wrapping_add(r * all.gy_row));
                        }
                        let mut right = [V::splat(T::ZERO); N];
                        for t in 0..N {
                            right[t] = V::load(from.add(taps[t]));
                        }
                        for r in 0..R {
                            let left = V::load(gy.add(r * all.gy_row));
                            for t in 0..N {
                                sums[r][t] = left.mul_add(right[t], sums[r][t]);
                            }
                        }
                        (gy, from) = (gy.add(V::LANES), from.add(V::LANES));
                    }
                    let rest = width % V::LANES;
                    if rest > 0 {
                        let mut right = [V::splat(T::ZERO); N];
                        for t in 0..N {
                            right[t] = V::load_part(from.add(taps[t]), rest);
                        }
                        for r in 0..R {
                            let left = V::load_part(gy.add(r * all.gy_row), rest);
                            for t in 0..N {
                                sums[r][t] = left.mul_add(right[t], sums[r][t]);
                            }
                        }
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
