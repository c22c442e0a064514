//! Vectors in plain Rust, for machines without one of the other sets.

use super::Vector;
use crate::Float;

/// A vector in plain Rust; the compiler makes what it can of it. Half of the room is unused for f64.
#[derive(Clone, Copy)]
pub(crate) struct Portable<T>([T; 8]);

impl<T: Float> Vector<T> for Portable<T> {
    const LANES: usize = 32 / size_of::<T>();
    const ROWS: usize = 6;
    const FUSED: bool = false;
    #[inline(always)]
    unsafe fn splat(value: T) -> Self {
        Portable([value; 8])
    }
    #[inline(always)]
    unsafe fn load(from: *const T) -> Self {
        let mut lanes = [T::ZERO; 8];
        for (i, lane) in lanes.iter_mut().enumerate().take(Self::LANES) {
            // SAFETY: the caller's promise.
            *lane = unsafe { *from.add(i) };
        }
        Portable(lanes)
    }
    #[inline(always)]
    unsafe fn load_part(from: *const T, count: usize) -> Self {
        let mut lanes = [T::ZERO; 8];
        for (i, lane) in lanes.iter_mut().enumerate().take(count) {
            // SAFETY: the caller's promise.
            *lane = unsafe { *from.add(i) };
        }
        Portable(lanes)
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut T) {
        for i in 0..Self::LANES {
            // SAFETY: the caller's promise.
            unsafe { *to.add(i) = self.0[i] };
        }
    }
    #[inline(always)]
    unsafe fn store_part(self, to: *mut T, count: usize) {
        for i in 0..count {
            // SAFETY: the caller's promise.
            unsafe { *to.add(i) = self.0[i] };
        }
    }
    #[inline(always)]
    unsafe fn mul_add(mut self, a: Self, b: Self) -> Self {
        for i in 0..Self::LANES {
            self.0[i] = self.0[i] * a.0[i] + b.0[i];
        }
        self
    }
    #[inline(always)]
    unsafe fn add(mut self, other: Self) -> Self {
        for i in 0..Self::LANES {
            self.0[i] += other.0[i];
        }
        self
    }
    #[inline(always)]
    unsafe fn sub(mut self, other: Self) -> Self {
        for i in 0..Self::LANES {
            self.0[i] = self.0[i] - other.0[i];
        }
        self
    }
    #[inline(always)]
    unsafe fn mul(mut self, other: Self) -> Self {
        for i in 0..Self::LANES {
            self.0[i] = self.0[i] * other.0[i];
        }
        self
    }
    #[inline(always)]
    unsafe fn div(mut self, other: Self) -> Self {
        for i in 0..Self::LANES {
            self.0[i] = self.0[i] / other.0[i];
        }
        self
    }
    #[inline(always)]
    unsafe fn max(mut self, other: Self) -> Self {
        for i in 0..Self::LANES {
            self.0[i] = self.0[i].maximum(other.0[i]);
        }
        self
    }
    #[inline(always)]
    unsafe fn sqrt(mut self) -> Self {
        for i in 0..Self::LANES {
            self.0[i] = self.0[i].sqrt();
        }
        self
    }
    #[inline(always)]
    unsafe fn sum(mut self) -> T {
        let mut half = Self::LANES / 2;
        while half > 0 {
            for i in 0..half {
                self.0[i] += self.0[i + half];
            }
            half /= 2;
        }
        self.0[0]
    }
}
