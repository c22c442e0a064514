//! AVX2 with FMA: sixteen registers of 256 bits.

use super::portable::Portable;
use super::{Vector, Work};
use crate::{DType, Float};
use std::arch::x86_64::*;
use std::marker::PhantomData;
use std::mem::MaybeUninit;

/// Does `work` with AVX2 and FMA.
///
/// # Safety
/// The machine must have AVX2 and FMA, and the work's pointers must be valid.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn run<T: Float, W: Work<T>>(work: W) {
    // SAFETY: the caller's promise.
    unsafe { work.run::<Avx2<T>>() }
}

/// An AVX2 register; for f64 the same bits are read as four doubles.
#[derive(Clone, Copy)]
pub(crate) struct Avx2<T>(__m256, PhantomData<T>);

impl<T: Float> Avx2<T> {
    const SINGLE: bool = matches!(T::DTYPE, DType::F32);
}

/// The mask of the first `count` lanes.
///
/// # Safety
/// The machine must have AVX2.
#[inline(always)]
unsafe fn first<T>(count: usize) -> __m256i {
    const MASK: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    let words = (count * size_of::<T>() / 4).min(8);
    // SAFETY: the mask's eight words lie inside the table.
    unsafe { _mm256_loadu_si256(MASK.as_ptr().add(8 - words).cast()) }
}

impl<T: Float> Vector<T> for Avx2<T> {
    const LANES: usize = 32 / size_of::<T>();
    // Twelve sums hide the latency of a multiply-add and leave room for the operands in sixteen registers.
    const ROWS: usize = 6;
    const FUSED: bool = true;
    #[inline(always)]
    unsafe fn splat(value: T) -> Self {
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
        Avx2(unsafe { _mm256_loadu_ps(from.cast()) }, PhantomData)
    }
    #[inline(always)]
    unsafe fn load_part(from: *const T, count: usize) -> Self {
        // SAFETY: words that are masked out are not read.
        Avx2(unsafe { _mm256_maskload_ps(from.cast(), first::<T>(count)) }, PhantomData)
    }
    #[inline(always)]
    unsafe fn load_between(from: *const T, begin: usize, end: usize) -> Self {
        const MASK: [i32; 24] = [0, 0, 0, 0, 0, 0, 0, 0, -1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
        let [begin, end] = [begin, end].map(|lane| lane.min(Self::LANES) * size_of::<T>() / 4);
        // SAFETY: the masks' eight words lie inside the table; words that are masked out are not read.
        let bits = unsafe {
            let from_begin = _mm256_loadu_si256(MASK.as_ptr().add(8 - begin).cast());
            let to_end = _mm256_loadu_si256(MASK.as_ptr().add(16 - end).cast());
            _mm256_maskload_ps(from.cast(), _mm256_and_si256(from_begin, to_end))
        };
        Avx2(bits, PhantomData)
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut T) {
        // SAFETY: the caller's promise; the store is unaligned.
        unsafe { _mm256_storeu_ps(to.cast(), self.0) }
    }
    #[inline(always)]
    unsafe fn store_past_caches(self, to: *mut T) {
        // SAFETY: the caller's promise, which includes the alignment.
        unsafe { _mm256_stream_ps(to.cast(), self.0) }
    }
    #[inline(always)]
    unsafe fn store_part(self, to: *mut T, count: usize) {
        // Not the masked store, which is slow on many machines.
        let mut lanes = MaybeUninit::<[T; 8]>::uninit();
        let lanes = lanes.as_mut_ptr().cast::<T>();
        // SAFETY: there is room for all lanes, and each is written before it is read; the target is the caller's promise.
        unsafe {
            self.store(lanes);
            for i in 0..count {
                *to.add(i) = *lanes.add(i);
            }
        }
    }
    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
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
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: the machine has AVX2 and FMA.
        let bits = unsafe {
            match Self::SINGLE {
                true => _mm256_sub_ps(self.0, other.0),
                false => _mm256_castpd_ps(_mm256_sub_pd(_mm256_castps_pd(self.0), _mm256_castps_pd(other.0))),
            }
        };
        Avx2(bits, PhantomData)
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: the machine has AVX2 and FMA.
        let bits = unsafe {
            match Self::SINGLE {
                true => _mm256_mul_ps(self.0, other.0),
                false => _mm256_castpd_ps(_mm256_mul_pd(_mm256_castps_pd(self.0), _mm256_castps_pd(other.0))),
            }
        };
        Avx2(bits, PhantomData)
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        // SAFETY: the machine has AVX2 and FMA.
        let bits = unsafe {
            match Self::SINGLE {
                true => _mm256_div_ps(self.0, other.0),
                false => _mm256_castpd_ps(_mm256_div_pd(_mm256_castps_pd(self.0), _mm256_castps_pd(other.0))),
            }
        };
        Avx2(bits, PhantomData)
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        // The instruction gives its second operand where either is NaN.
        // SAFETY: the machine has AVX2 and FMA.
        let bits = unsafe {
            match Self::SINGLE {
                true => {
                    let nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(self.0, self.0);
                    _mm256_blendv_ps(_mm256_max_ps(self.0, other.0), self.0, nan)
                }
                false => {
                    let (a, b) = (_mm256_castps_pd(self.0), _mm256_castps_pd(other.0));
                    let nan = _mm256_cmp_pd::<_CMP_UNORD_Q>(a, a);
                    _mm256_castpd_ps(_mm256_blendv_pd(_mm256_max_pd(a, b), a, nan))
                }
            }
        };
        Avx2(bits, PhantomData)
    }
    #[inline(always)]
    unsafe fn larger(self, other: Self) -> Self {
        // SAFETY: the machine has AVX2 and FMA.
        let bits = unsafe {
            match Self::SINGLE {
                true => _mm256_max_ps(other.0, self.0),
                false => _mm256_castpd_ps(_mm256_max_pd(_mm256_castps_pd(other.0), _mm256_castps_pd(self.0))),
            }
        };
        Avx2(bits, PhantomData)
    }
    #[inline(always)]
    unsafe fn first(self, count: usize) -> Self {
        // SAFETY: the machine has AVX2 and FMA.
        Avx2(unsafe { _mm256_and_ps(self.0, _mm256_castsi256_ps(first::<T>(count))) }, PhantomData)
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        // SAFETY: the machine has AVX2 and FMA.
        let bits = unsafe {
            match Self::SINGLE {
                true => _mm256_sqrt_ps(self.0),
                false => _mm256_castpd_ps(_mm256_sqrt_pd(_mm256_castps_pd(self.0))),
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
    unsafe fn deinterleave(self, other: Self) -> (Self, Self) {
        // SAFETY: the machine has AVX2; four doubles or eight singles lie in halves of two or four.
        let [low, high] = unsafe {
            let low = _mm256_permute2f128_ps::<0x20>(self.0, other.0);
            let high = _mm256_permute2f128_ps::<0x31>(self.0, other.0);
            match Self::SINGLE {
                true => [_mm256_shuffle_ps::<0x88>(low, high), _mm256_shuffle_ps::<0xdd>(low, high)],
                false => {
                    let (low, high) = (_mm256_castps_pd(low), _mm256_castps_pd(high));
                    [_mm256_castpd_ps(_mm256_unpacklo_pd(low, high)), _mm256_castpd_ps(_mm256_unpackhi_pd(low, high))]
                }
            }
        };
        (Avx2(low, PhantomData), Avx2(high, PhantomData))
    }
    #[inline(always)]
    unsafe fn interleave(self, other: Self) -> (Self, Self) {
        // SAFETY: the machine has AVX2.
        let [low, high] = unsafe {
            let (low, high) = match Self::SINGLE {
                true => (_mm256_unpacklo_ps(self.0, other.0), _mm256_unpackhi_ps(self.0, other.0)),
                false => {
                    let (a, b) = (_mm256_castps_pd(self.0), _mm256_castps_pd(other.0));
                    (_mm256_castpd_ps(_mm256_unpacklo_pd(a, b)), _mm256_castpd_ps(_mm256_unpackhi_pd(a, b)))
                }
            };
            [_mm256_permute2f128_ps::<0x20>(low, high), _mm256_permute2f128_ps::<0x31>(low, high)]
        };
        (Avx2(low, PhantomData), Avx2(high, PhantomData))
    }
    #[inline(always)]
    unsafe fn transpose_first(columns: usize, row: impl Fn(usize) -> *const T, to: *mut T, to_stride: usize) {
        // SAFETY: the caller's promise covers these columns on both sides; T is f32 where it is read as f32.
        unsafe {
            match Self::SINGLE {
                true => transpose_8x8(columns, |i| row(i).cast(), to.cast(), to_stride),
                false => Portable::<T>::transpose_first(columns, row, to, to_stride),
            }
        }
    }
}

/// Transposes the first columns of an 8 × 8 block of f32.
///
/// # Safety
/// As for [`Vector::transpose_first`], and the machine must have AVX2.
#[inline(always)]
unsafe fn transpose_8x8(columns: usize, row: impl Fn(usize) -> *const f32, to: *mut f32, to_stride: usize) {
    // SAFETY: the caller's promise covers every address.
    unsafe {
        for half in 0..columns.div_ceil(4) {
            let (r0, r1) = (halves(&row, 0, half), halves(&row, 1, half));
            let (r2, r3) = (halves(&row, 2, half), halves(&row, 3, half));
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

/// Four columns of rows i and i + 4 as the two halves of one register: this leaves only shuffles inside halves to a
/// transposition, for those that cross are slow on some machines.
///
/// # Safety
/// The rows must hold these columns, and the machine must have AVX2.
#[inline(always)]
unsafe fn halves(row: &impl Fn(usize) -> *const f32, i: usize, half: usize) -> __m256 {
    // SAFETY: the caller's promise.
    unsafe {
        let low = _mm_loadu_ps(row(i).add(4 * half));
        let high = _mm_loadu_ps(row(i + 4).add(4 * half));
        _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(low), high)
    }
}
