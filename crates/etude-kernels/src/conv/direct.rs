//! Convolution with few output channels (depthwise, or the first layer of a small network): packing patches would cost
//! as much as using them, so the taps are read where they lie in the padded copy.

use crate::Float;
use crate::cpu::{self, Vector, Work};

/// One plane, or a band of one, for up to six rows: `c(r, z, y, x) (+)= Σ_p a[p · 6 + r] · image(z, y)[offsets[p] + x]`.
/// The image must be readable for four vectors from every offset, rounded up from the width.
pub(super) struct Plane<T> {
    pub rows: usize,
    pub depth: usize,
    /// Packed weights, `[depth][6]`.
    pub a: *const T,
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
        for z in 0..self.size[0] {
            for y in 0..self.size[1] {
                let mut x = 0;
                while x < self.size[2] {
                    let rest = self.size[2] - x;
                    // SAFETY: the caller's promise; at most `rest` columns are written.
                    unsafe {
                        let image = self.image.add(z * self.image_z + y * self.image_y + x);
                        let c = self.c.add(z * self.c_z + y * self.c_y + x * self.c_x);
                        if R <= 2 && rest > 2 * V::LANES {
                            self.tile::<V, R, 4>(image, c, rest);
                            x += 4 * V::LANES;
                        } else if rest > V::LANES {
                            self.tile::<V, R, 2>(image, c, rest);
                            x += 2 * V::LANES;
                        } else {
                            self.tile::<V, R, 1>(image, c, rest);
                            x += V::LANES;
                        }
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<V: Vector<T>, const R: usize, const C: usize>(&self, image: *const T, c: *mut T, rest: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[V::splat(T::ZERO); C]; R];
            for p in 0..self.depth {
                let from = image.add(*self.offsets.add(p));
                let a = self.a.add(p * 6);
                let mut right = [V::splat(T::ZERO); C];
                for j in 0..C {
                    right[j] = V::load(from.add(j * V::LANES));
                }
                for i in 0..R {
                    let left = V::splat(*a.add(i));
                    for j in 0..C {
                        sums[i][j] = left.mul_add(right[j], sums[i][j]);
                    }
                }
            }
            for i in 0..R {
                let to = c.add(i * self.c_row);
                if self.c_x == 1 && rest >= C * V::LANES {
                    for j in 0..C {
                        let at = to.add(j * V::LANES);
                        if self.add { V::load(at).add(sums[i][j]).store(at) } else { sums[i][j].store(at) }
                    }
                } else {
                    let mut part = [T::ZERO; 32];
                    for j in 0..C {
                        sums[i][j].store(part.as_mut_ptr().add(j * V::LANES));
                    }
                    for j in 0..rest.min(C * V::LANES) {
                        let at = to.add(j * self.c_x);
                        *at = if self.add { *at + part[j] } else { part[j] };
                    }
                }
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

/// Weight gradients of one pair of channels over some rows of positions: `sums[t] += Σ_y Σ_x gy(y)[x] · image(y)[taps[t] +
/// x]`, for all taps.
pub(super) struct Correlation<'a, T> {
    pub gy: *const T,
    pub gy_y: usize,
    pub image: *const T,
    pub image_y: usize,
    pub rows: usize,
    pub width: usize,
    pub taps: &'a [usize],
    pub sums: &'a mut [T],
}

impl<T: Float> Correlation<'_, T> {
    /// Adds to all sums.
    ///
    /// # Safety
    /// The image must be readable at every tap of every position, `gy` at every position.
    pub(super) unsafe fn compute(self) {
        // SAFETY: the caller's promise.
        unsafe { cpu::run(self) }
    }

    #[inline(always)]
    unsafe fn part<V: Vector<T>, const N: usize>(&mut self, first: usize) {
        // SAFETY: the caller's promise; the last vector of a row is read in part.
        unsafe {
            let mut sums = [V::splat(T::ZERO); N];
            for y in 0..self.rows {
                let (gy, image) = (self.gy.add(y * self.gy_y), self.image.add(y * self.image_y));
                let mut x = 0;
                while x < self.width {
                    let rest = self.width - x;
                    let load = |from: *const T| match rest < V::LANES {
                        true => V::load_part(from, rest),
                        false => V::load(from),
                    };
                    let left = load(gy.add(x));
                    for t in 0..N {
                        sums[t] = left.mul_add(load(image.add(self.taps[first + t] + x)), sums[t]);
                    }
                    x += V::LANES;
                }
            }
            for t in 0..N {
                self.sums[first + t] += sums[t].sum();
            }
        }
    }
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl<T: Float> Work<T> for Correlation<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(mut self) {
        let mut first = 0;
        while first < self.taps.len() {
            // SAFETY: the caller's promise; as many taps are left as are taken.
            unsafe {
                match self.taps.len() - first {
                    1 | 2 => {
                        self.part::<V, 1>(first);
                        first += 1;
                    }
                    3..=8 => {
                        self.part::<V, 3>(first);
                        first += 3;
                    }
                    _ => {
                        self.part::<V, 9>(first);
                        first += 9;
                    }
                }
            }
        }
    }
}
