//! NEON: thirty-two registers of 128 bits.

use super::{Vector, Work};
use std::arch::aarch64::*;

/// Does `work` with NEON.
///
/// # Safety
/// The machine must have NEON, and the work's pointers must be valid.
#[target_feature(enable = "neon")]
pub(super) unsafe fn run<W: Work<f32>>(work: W) {
    // SAFETY: the caller's promise.
    unsafe { work.run::<Neon>() }
}

/// Four f32.
#[derive(Clone, Copy)]
pub(crate) struct Neon(float32x4_t);

impl Vector<f32> for Neon {
    const LANES: usize = 4;
    // Twenty-four sums leave eight registers for the operands.
    const ROWS: usize = 12;
    const FUSED: bool = true;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the machine has NEON.
        Neon(unsafe { vdupq_n_f32(value) })
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise.
        Neon(unsafe { vld1q_f32(from) })
    }
    #[inline(always)]
    unsafe fn load_part(from: *const f32, count: usize) -> Self {
        let mut lanes = [0.0; 4];
        for (i, lane) in lanes.iter_mut().enumerate().take(count) {
            // SAFETY: the caller's promise.
            *lane = unsafe { *from.add(i) };
        }
        // SAFETY: the array is one vector.
        unsafe { Self::load(lanes.as_ptr()) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { vst1q_f32(to, self.0) }
    }
    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, count: usize) {
        let mut lanes = [0.0; 4];
        // SAFETY: the array is one vector; the target is the caller's promise.
        unsafe {
            self.store(lanes.as_mut_ptr());
            for (i, lane) in lanes.iter().enumerate().take(count) {
                *to.add(i) = *lane;
            }
        }
    }
    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        // SAFETY: the machine has NEON.
        Neon(unsafe { vfmaq_f32(b.0, self.0, a.0) })
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: the machine has NEON.
        Neon(unsafe { vaddq_f32(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: the machine has NEON.
        Neon(unsafe { vsubq_f32(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: the machine has NEON.
        Neon(unsafe { vmulq_f32(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        // SAFETY: the machine has NEON.
        Neon(unsafe { vdivq_f32(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        // SAFETY: the machine has NEON, whose maximum is NaN where either is.
        Neon(unsafe { vmaxq_f32(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        // SAFETY: the machine has NEON.
        Neon(unsafe { vsqrtq_f32(self.0) })
    }
    #[inline(always)]
    unsafe fn deinterleave(self, other: Self) -> (Self, Self) {
        // SAFETY: the machine has NEON.
        unsafe { (Neon(vuzp1q_f32(self.0, other.0)), Neon(vuzp2q_f32(self.0, other.0))) }
    }
    #[inline(always)]
    unsafe fn interleave(self, other: Self) -> (Self, Self) {
        // SAFETY: the machine has NEON.
        unsafe { (Neon(vzip1q_f32(self.0, other.0)), Neon(vzip2q_f32(self.0, other.0))) }
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // SAFETY: the machine has NEON.
        unsafe {
            let two = vadd_f32(vget_low_f32(self.0), vget_high_f32(self.0));
            vget_lane_f32::<0>(two) + vget_lane_f32::<1>(two)
        }
    }
}
