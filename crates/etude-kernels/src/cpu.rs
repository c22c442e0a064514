//! Instruction sets, chosen at run time. A kernel is written once against `Vector` and compiled for each set;
//! `run` picks the one this machine has. Here: AVX2 with FMA, and plain Rust for everything else.

use crate::{DType, Float};
use std::marker::PhantomData;

/// 256 bits of `T`: eight f32 or four f64.
///
/// # Safety
/// Every method needs the implementing type's instruction set; pointers must be valid for [`Vector::LANES`] elements
/// (any alignment). Inside [`Work::run`] the first holds by construction.
pub(crate) trait Vector<T: Float>: Copy {
    /// Elements of one vector.
    const LANES: usize = 32 / size_of::<T>();
    /// Every lane `value`.
    unsafe fn splat(value: T) -> Self;
    /// Reads `LANES` elements.
    unsafe fn load(from: *const T) -> Self;
    /// Reads the first `count` elements, at most `LANES`, and nothing behind them; the other lanes are zero.
    unsafe fn load_part(from: *const T, count: usize) -> Self;
    /// Writes `LANES` elements.
    unsafe fn store(self, to: *mut T);
    /// `self · a + b`, rounded once where the machine can.
    unsafe fn mul_add(self, a: Self, b: Self) -> Self;
    /// Lanewise sum.
    unsafe fn add(self, other: Self) -> Self;
    /// The sum of all lanes, folded in halves.
    unsafe fn sum(self) -> T;
    /// Transposes a `LANES` × `LANES` block: row `i` is read at `from + i·from_stride`, column `j` of the block is
    /// written to `to + j·to_stride`, in ascending `j`.
    unsafe fn transpose(from: *const T, from_stride: isize, to: *mut T, to_stride: usize) {
        for j in 0..Self::LANES {
            for i in 0..Self::LANES {
                // SAFETY: the caller's promise covers the whole block on both sides.
                unsafe { *to.add(j * to_stride + i) = *from.offset(i as isize * from_stride + j as isize) };
            }
        }
    }
}

/// A piece of work that is compiled once for each instruction set.
///
/// # Safety
/// `run` must be `#[inline(always)]`, and so must everything it calls that uses `V`: code that is not inlined into
/// [`run`] would be compiled without the instruction set.
pub(crate) unsafe trait Work<T: Float> {
    /// Does the work with vectors of type `V`.
    ///
    /// # Safety
    /// The machine must have `V`'s instruction set, and the work's own pointers must be valid as it documents.
    unsafe fn run<V: Vector<T>>(self);
}

/// Does `work` with the best instruction set this machine has.
///
/// # Safety
/// The pointers inside `work` must be valid as it documents.
#[inline]
pub(crate) unsafe fn run<T: Float, W: Work<T>>(work: W) {
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        // SAFETY: the machine has AVX2 and FMA; the pointers are the caller's promise.
        return unsafe { run_avx2(work) };
    }
    // SAFETY: plain Rust needs no instruction set; the pointers are the caller's promise.
    unsafe { work.run::<Portable<T>>() }
}

/// Asks for the line at `address` ahead of its use. The address need not be valid.
#[inline(always)]
pub(crate) fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing and does not fault.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Whether the AVX2 kernels are used: the machine has AVX2 and FMA.
pub fn has_avx2() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// # Safety
/// The machine must have AVX2 and FMA, and the work's pointers must be valid.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn run_avx2<T: Float, W: Work<T>>(work: W) {
    // SAFETY: the caller's promise.
    unsafe { work.run::<Avx2<T>>() }
}

/// A vector in plain Rust; the compiler makes what it can of it. Half of the room is unused for f64.
#[derive(Clone, Copy)]
pub(crate) struct Portable<T>([T; 8]);

impl<T: Float> Vector<T> for Portable<T> {
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

/// An AVX2 register; for f64 the same bits are read as four doubles.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Avx2<T>(std::arch::x86_64::__m256, PhantomData<T>);

#[cfg(target_arch = "x86_64")]
impl<T: Float> Avx2<T> {
    const SINGLE: bool = matches!(T::DTYPE, DType::F32);
}

#[cfg(target_arch = "x86_64")]
impl<T: Float> Vector<T> for Avx2<T> {
    #[inline(always)]
    unsafe fn splat(value: T) -> Self {
        use std::arch::x86_64::*;
        // SAFETY: the machine has AVX2 and FMA; a reference is valid for reads, and T is f32 or f64 as checked.
        let bits = unsafe {
            match Self::SINGLE {
                true => _mm256_broadcast_ss(&*(&raw const value).cast::<f32>()),
                false => _mm256_castpd_ps(_mm256_broadcast_sd(&*(&raw const value).cast::<f64>())),
            }
        };
        Avx2(bits, PhantomData)
    }
    #[inline(always)]
    unsafe fn load(from: *const T) -> Self {
        // SAFETY: the caller's promise; the load is unaligned.
        Avx2(unsafe { std::arch::x86_64::_mm256_loadu_ps(from.cast()) }, PhantomData)
    }
    #[inline(always)]
    unsafe fn load_part(from: *const T, count: usize) -> Self {
        use std::arch::x86_64::*;
        const MASK: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
        let words = count.min(Self::LANES) * size_of::<T>() / 4;
        // SAFETY: the mask's eight words lie inside the table; words that are masked out are not read.
        let bits = unsafe {
            let mask = _mm256_loadu_si256(MASK.as_ptr().add(8 - words).cast());
            _mm256_maskload_ps(from.cast(), mask)
        };
        Avx2(bits, PhantomData)
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut T) {
        // SAFETY: the caller's promise; the store is unaligned.
        unsafe { std::arch::x86_64::_mm256_storeu_ps(to.cast(), self.0) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        use std::arch::x86_64::*;
        // SAFETY: the machine has AVX2 and FMA.
        let bits = unsafe {
            match Self::SINGLE {
                true => _mm256_fmadd_ps(self.0, a.0, b.0),
                false => _mm256_castpd_ps(_mm256_fmadd_pd(
                    _mm256_castps_pd(self.0),
                    _mm256_castps_pd(a.0),
                    _mm256_castps_pd(b.0),
                )),
            }
        };
        Avx2(bits, PhantomData)
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        use std::arch::x86_64::*;
        // SAFETY: the machine has AVX2 and FMA.
        let bits = unsafe {
            match Self::SINGLE {
                true => _mm256_add_ps(self.0, other.0),
                false => _mm256_castpd_ps(_mm256_add_pd(_mm256_castps_pd(self.0), _mm256_castps_pd(other.0))),
            }
        };
        Avx2(bits, PhantomData)
    }
    #[inline(always)]
    unsafe fn sum(self) -> T {
        let mut lanes = [T::ZERO; 8];
        // SAFETY: there is room for all lanes.
        unsafe { self.store(lanes.as_mut_ptr()) };
        if Self::LANES == 8 {
            for i in 0..4 {
                lanes[i] += lanes[i + 4];
            }
        }
        (lanes[0] + lanes[2]) + (lanes[1] + lanes[3])
    }
    #[inline(always)]
    unsafe fn transpose(from: *const T, from_stride: isize, to: *mut T, to_stride: usize) {
        // SAFETY: the caller's promise covers the whole block on both sides; T is f32 where it is read as f32.
        unsafe {
            match Self::SINGLE {
                true => transpose_8x8(from.cast(), from_stride, to.cast(), to_stride),
                false => Portable::<T>::transpose(from, from_stride, to, to_stride),
            }
        }
    }
}

/// Transposes an 8 × 8 block of f32. Rows `i` and `i + 4` are loaded as the two halves of one register, which leaves
/// only shuffles inside halves: those that cross are slow on some machines.
///
/// # Safety
/// As for [`Vector::transpose`], and the machine must have AVX2.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn transpose_8x8(from: *const f32, from_stride: isize, to: *mut f32, to_stride: usize) {
    use std::arch::x86_64::*;
    // SAFETY: the caller's promise covers every address.
    unsafe {
        for half in 0..2 {
            let pair = |i: isize| {
                let low = _mm_loadu_ps(from.offset(i * from_stride).add(4 * half));
                let high = _mm_loadu_ps(from.offset((i + 4) * from_stride).add(4 * half));
                _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(low), high)
            };
            let (r0, r1, r2, r3) = (pair(0), pair(1), pair(2), pair(3));
            let (t0, t1) = (_mm256_unpacklo_ps(r0, r1), _mm256_unpackhi_ps(r0, r1));
            let (t2, t3) = (_mm256_unpacklo_ps(r2, r3), _mm256_unpackhi_ps(r2, r3));
            let out = to.add(4 * half * to_stride);
            _mm256_storeu_ps(out, _mm256_shuffle_ps::<0x44>(t0, t2));
            _mm256_storeu_ps(out.add(to_stride), _mm256_shuffle_ps::<0xee>(t0, t2));
            _mm256_storeu_ps(out.add(2 * to_stride), _mm256_shuffle_ps::<0x44>(t1, t3));
            _mm256_storeu_ps(out.add(3 * to_stride), _mm256_shuffle_ps::<0xee>(t1, t3));
        }
    }
}

/// How many floating-point operations [`multiply_adds`] does in a round, whatever the machine.
pub const OPERATIONS_PER_ROUND: usize = 2 * 8 * 12;

/// `rounds` rounds of twelve independent f32 vector multiply-adds that never leave the registers. Timed, it gives the
/// machine's peak. The result is meaningless but must be used, or the compiler removes the loop.
pub fn multiply_adds(rounds: usize) -> f32 {
    struct Peak<'a>(usize, &'a mut f32);
    // SAFETY: inlined, as required.
    unsafe impl Work<f32> for Peak<'_> {
        #[inline(always)]
        unsafe fn run<V: Vector<f32>>(self) {
            // SAFETY: no pointers are used, and `V`'s instruction set is there.
            unsafe {
                let (factor, step) = (V::splat(std::hint::black_box(0.999)), V::splat(std::hint::black_box(0.001)));
                let mut sums = [V::splat(1.0); 12];
                for _ in 0..self.0 {
                    for sum in &mut sums {
                        *sum = sum.mul_add(factor, step);
                    }
                }
                let total = sums.iter().skip(1).fold(sums[0], |total, sum| total.add(*sum));
                *self.1 = total.sum();
            }
        }
    }
    let mut result = 0.0;
    // SAFETY: the work holds no pointers.
    unsafe { run(Peak(rounds, &mut result)) };
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Check<T>(PhantomData<T>);
    // SAFETY: inlined, as required.
    unsafe impl<T: Float> Work<T> for Check<T> {
        #[inline(always)]
        unsafe fn run<V: Vector<T>>(self) {
            let source: Vec<T> = (0..100).map(|i| T::from_f64(i as f64)).collect();
            let mut target = vec![T::ZERO; 200];
            // SAFETY: the vectors have room for every address used.
            unsafe {
                V::transpose(source.as_ptr(), 9, target.as_mut_ptr(), 11);
                for i in 0..V::LANES {
                    for j in 0..V::LANES {
                        assert_eq!(target[j * 11 + i], source[9 * i + j]);
                    }
                }
                let (a, b) = (V::load(source.as_ptr().add(3)), V::splat(T::from_f64(2.0)));
                a.mul_add(b, a.add(b)).store(target.as_mut_ptr());
                for i in 0..V::LANES {
                    assert_eq!(target[i].to_f64(), 3.0 * (i + 3) as f64 + 2.0);
                }
                for count in 0..=V::LANES {
                    V::load_part(source.as_ptr().add(1), count).store(target.as_mut_ptr());
                    for i in 0..V::LANES {
                        assert_eq!(target[i].to_f64(), if i < count { (i + 1) as f64 } else { 0.0 });
                    }
                }
                let lanes = V::LANES as f64;
                assert_eq!(a.sum().to_f64(), 3.0 * lanes + lanes * (lanes - 1.0) / 2.0);
            }
        }
    }

    #[test]
    fn vectors_do_what_they_say_on_every_instruction_set() {
        // SAFETY: the work holds no pointers; plain Rust needs no instruction set.
        unsafe {
            run(Check::<f32>(PhantomData));
            run(Check::<f64>(PhantomData));
            Check::<f32>(PhantomData).run::<Portable<f32>>();
            Check::<f64>(PhantomData).run::<Portable<f64>>();
        }
        assert!((multiply_adds(100_000) - 96.0).abs() < 1e-2);
    }
}
