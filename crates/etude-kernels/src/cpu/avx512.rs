//! AVX-512: thirty-two registers of 512 bits, and masks that make tails cheap.

use super::{Vector, Work};
use crate::math::exponential;
use std::arch::x86_64::*;

/// Does `work` with AVX-512.
///
/// # Safety
/// The machine must have AVX-512 F, VL, DQ and BW, AVX2 and FMA, and the work's pointers must be valid.
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
pub(super) unsafe fn run<W: Work<f32>>(work: W) {
    // SAFETY: the caller's promise.
    unsafe { work.run::<Avx512>() }
}

/// Sixteen f32.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(__m512);

/// The mask of the first `count` lanes.
#[inline(always)]
fn first(count: usize) -> __mmask16 {
    ((1u32 << count.min(16)) - 1) as __mmask16
}

impl Vector<f32> for Avx512 {
    const LANES: usize = 16;
    // Twenty-four sums leave eight registers for the operands.
    const ROWS: usize = 12;
    const FUSED: bool = true;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the machine has AVX-512.
        Avx512(unsafe { _mm512_set1_ps(value) })
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise; the load is unaligned.
        Avx512(unsafe { _mm512_loadu_ps(from) })
    }
    #[inline(always)]
    unsafe fn load_part(from: *const f32, count: usize) -> Self {
        // SAFETY: lanes that are masked out are not read.
        Avx512(unsafe { _mm512_maskz_loadu_ps(first(count), from) })
    }
    #[inline(always)]
    unsafe fn load_between(from: *const f32, begin: usize, end: usize) -> Self {
        // SAFETY: lanes that are masked out are not read.
        Avx512(unsafe { _mm512_maskz_loadu_ps(first(end) & !first(begin), from) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise; the store is unaligned.
        unsafe { _mm512_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    unsafe fn store_past_caches(self, to: *mut f32) {
        // SAFETY: the caller's promise, which includes the alignment.
        unsafe { _mm512_stream_ps(to, self.0) }
    }
    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, count: usize) {
        // SAFETY: lanes that are masked out are not written.
        unsafe { _mm512_mask_storeu_ps(to, first(count), self.0) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        // SAFETY: the machine has AVX-512.
        Avx512(unsafe { _mm512_fmadd_ps(self.0, a.0, b.0) })
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: the machine has AVX-512.
        Avx512(unsafe { _mm512_add_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: the machine has AVX-512.
        Avx512(unsafe { _mm512_sub_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: the machine has AVX-512.
        Avx512(unsafe { _mm512_mul_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        // SAFETY: the machine has AVX-512.
        Avx512(unsafe { _mm512_div_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        // The instruction gives its second operand where either is NaN.
        // SAFETY: the machine has AVX-512.
        Avx512(unsafe {
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0);
            _mm512_mask_mov_ps(_mm512_max_ps(self.0, other.0), nan, self.0)
        })
    }
    #[inline(always)]
    unsafe fn larger(self, other: Self) -> Self {
        // SAFETY: the machine has AVX-512.
        Avx512(unsafe { _mm512_max_ps(other.0, self.0) })
    }
    #[inline(always)]
    unsafe fn first(self, count: usize) -> Self {
        // SAFETY: the machine has AVX-512.
        Avx512(unsafe { _mm512_maskz_mov_ps(first(count), self.0) })
    }
    // The steps of `math::exp`. Scaling rounds once, as its two factors do, and takes the exponent as a float; what
    // vanishes is masked there, so that nothing has to be kept from the steps before.
    #[inline(always)]
    unsafe fn exp(self) -> Self {
        // SAFETY: the machine has AVX-512.
        unsafe {
            let is_seen = _mm512_cmp_ps_mask::<_CMP_NLT_US>(self.0, _mm512_set1_ps(exponential::VANISHES));
            // Where either is NaN, the instruction gives its second operand.
            let x = _mm512_min_ps(_mm512_set1_ps(exponential::OVERFLOWS), self.0);
            let round = _mm512_set1_ps(exponential::ROUND);
            let count = _mm512_sub_ps(_mm512_fmadd_ps(x, _mm512_set1_ps(std::f32::consts::LOG2_E), round), round);
            let r = _mm512_fmadd_ps(count, _mm512_set1_ps(-exponential::LN2_HIGH), x);
            let r = _mm512_fmadd_ps(count, _mm512_set1_ps(-exponential::LN2_LOW), r);
            // No iterator: its steps may become functions of their own, and then every register is saved around each.
            let mut at = exponential::EXP.len() - 1;
            let mut sum = _mm512_set1_ps(exponential::EXP[at]);
            while at > 0 {
                at -= 1;
                sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(exponential::EXP[at]));
            }
            let power = _mm512_add_ps(_mm512_fmadd_ps(_mm512_mul_ps(r, r), sum, r), _mm512_set1_ps(1.0));
            Avx512(_mm512_maskz_scalef_ps(is_seen, power, count))
        }
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        // SAFETY: the machine has AVX-512.
        Avx512(unsafe { _mm512_sqrt_ps(self.0) })
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // SAFETY: the machine has AVX-512.
        unsafe {
            let eight = _mm256_add_ps(_mm512_castps512_ps256(self.0), _mm512_extractf32x8_ps::<1>(self.0));
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }
    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        // SAFETY: the machine has AVX-512.
        unsafe {
            let eight = _mm256_max_ps(_mm512_castps512_ps256(self.0), _mm512_extractf32x8_ps::<1>(self.0));
            let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }
    #[inline(always)]
    unsafe fn deinterleave(self, other: Self) -> (Self, Self) {
        // SAFETY: the machine has AVX-512; indices from 16 on take from the second vector.
        unsafe {
            let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            let odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
            let take = |lanes| Avx512(_mm512_permutex2var_ps(self.0, lanes, other.0));
            (take(even), take(odd))
        }
    }
    #[inline(always)]
    unsafe fn interleave(self, other: Self) -> (Self, Self) {
        // SAFETY: as above.
        unsafe {
            let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            let high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
            let take = |lanes| Avx512(_mm512_permutex2var_ps(self.0, lanes, other.0));
            (take(low), take(high))
        }
    }
    #[inline(always)]
    unsafe fn next(self) -> Self {
        // SAFETY: the machine has AVX-512.
        unsafe {
            let lanes = _mm512_alignr_epi32::<1>(_mm512_setzero_si512(), _mm512_castps_si512(self.0));
            Avx512(_mm512_castsi512_ps(lanes))
        }
    }
    #[inline(always)]
    unsafe fn transpose_first(columns: usize, row: impl Fn(usize) -> *const f32, to: *mut f32, to_stride: usize) {
        // SAFETY: the caller's promise covers as many columns on both sides, filled up to four.
        unsafe {
            for part in 0..columns.div_ceil(4) {
                let columns = four_columns(|i| row(i).add(4 * part));
                for (j, column) in columns.into_iter().enumerate() {
                    _mm512_storeu_ps(to.add((4 * part + j) * to_stride), column);
                }
            }
        }
    }
    const STRIPS: bool = true;
    #[inline(always)]
    unsafe fn strip(row: impl Fn(usize) -> *const f32, to: *mut f32) {
        // SAFETY: the caller's promise covers four columns of twelve rows.
        unsafe {
            // Columns of twelve, in quarters a b c, fill three registers: a0 b0 c0 a1, b1 c1 a2 b2, c2 a3 b3 c3. Their
            // fourth quarters are c again.
            let [first, second, third, last] = four_columns(|i| row(if i < 12 { i } else { i - 4 }));
            _mm512_storeu_ps(to, _mm512_insertf32x4::<3>(first, _mm512_castps512_ps128(second)));
            _mm512_storeu_ps(to.add(16), _mm512_shuffle_f32x4::<0x49>(second, third));
            let (third, last) = (_mm512_castps_si512(third), _mm512_castps_si512(last));
            _mm512_storeu_ps(to.add(32), _mm512_castsi512_ps(_mm512_alignr_epi32::<12>(last, third)));
        }
    }
}

/// Four columns of sixteen rows. Rows i, i + 4, i + 8 and i + 12 are loaded as the four quarters of one register, which
/// leaves only shuffles inside quarters.
///
/// # Safety
/// The rows must hold four elements, and the machine must have AVX-512.
#[inline(always)]
unsafe fn four_columns(row: impl Fn(usize) -> *const f32) -> [__m512; 4] {
    // SAFETY: the caller's promise.
    unsafe {
        let (r0, r1, r2, r3) = (quarters(&row, 0), quarters(&row, 1), quarters(&row, 2), quarters(&row, 3));
        let (t0, t1) = (_mm512_unpacklo_ps(r0, r1), _mm512_unpackhi_ps(r0, r1));
        let (t2, t3) = (_mm512_unpacklo_ps(r2, r3), _mm512_unpackhi_ps(r2, r3));
        [
            _mm512_shuffle_ps::<0x44>(t0, t2),
            _mm512_shuffle_ps::<0xee>(t0, t2),
            _mm512_shuffle_ps::<0x44>(t1, t3),
            _mm512_shuffle_ps::<0xee>(t1, t3),
        ]
    }
}

/// The first four elements of rows i, i + 4, i + 8 and i + 12.
///
/// # Safety
/// As [`four_columns`].
#[inline(always)]
unsafe fn quarters(row: &impl Fn(usize) -> *const f32, i: usize) -> __m512 {
    // SAFETY: the caller's promise.
    unsafe {
        let rows = _mm512_castps128_ps512(_mm_loadu_ps(row(i)));
        let rows = _mm512_insertf32x4::<1>(rows, _mm_loadu_ps(row(i + 4)));
        let rows = _mm512_insertf32x4::<2>(rows, _mm_loadu_ps(row(i + 8)));
        _mm512_insertf32x4::<3>(rows, _mm_loadu_ps(row(i + 12)))
    }
}
