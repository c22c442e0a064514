//! Pairs of f32 arithmetic in one loop: `(a ∘ b) • c` without the trip of the middle value through the cache, which
//! otherwise is most of what such a pair costs. Rounded twice, as the two instructions would be.

use super::BinaryOp;
use super::kernels::Kernels;

/// The operations that may come first, and those that may follow: on (first, third), then on (third, first).
const FIRST: [BinaryOp; 3] = [BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mul];
const SECOND: [(BinaryOp, bool); 5] = [
    (BinaryOp::Add, false),
    (BinaryOp::Sub, false),
    (BinaryOp::Sub, true),
    (BinaryOp::Mul, false),
    (BinaryOp::Div, false),
];

/// The kernels of `first(a, b)` followed by `second` of that and `c`; `swapped` if `c` is `second`'s first argument.
pub(super) fn fused_kernels(first: BinaryOp, second: BinaryOp, swapped: bool) -> Option<Kernels> {
    let inner = FIRST.iter().position(|&op| op == first)?;
    let swapped = swapped && !matches!(second, BinaryOp::Add | BinaryOp::Mul);
    let outer = SECOND.iter().position(|&pair| pair == (second, swapped))?;
    vector::kernels(inner, outer)
}

#[cfg(not(target_arch = "x86_64"))]
mod vector {
    /// There are none.
    pub(super) fn kernels(_: usize, _: usize) -> Option<super::Kernels> {
        None
    }
}

#[cfg(target_arch = "x86_64")]
mod vector {
    use super::super::kernels::{Kernel, Kernels, vector_unit};
    use std::arch::x86_64::{
        __m256, _mm256_add_ps, _mm256_div_ps, _mm256_loadu_ps, _mm256_mul_ps, _mm256_set1_ps, _mm256_storeu_ps,
        _mm256_sub_ps,
    };

    /// The kernels of pair (`inner`, `outer`), numbers in `FIRST` and `SECOND`.
    pub(super) fn kernels(inner: usize, outer: usize) -> Option<Kernels> {
        if !vector_unit() {
            return None;
        }
        let forms = match inner {
            0 => by_outer::<0>(outer),
            1 => by_outer::<1>(outer),
            _ => by_outer::<2>(outer),
        };
        Some(Kernels { tiles: forms[0], uniform: Some(forms), in_place: true })
    }

    fn by_outer<const INNER: u8>(outer: usize) -> [Kernel; 8] {
        match outer {
            0 => forms::<INNER, 0>(),
            1 => forms::<INNER, 1>(),
            2 => forms::<INNER, 2>(),
            3 => forms::<INNER, 3>(),
            _ => forms::<INNER, 4>(),
        }
    }

    /// One kernel for each pattern of uniform arguments; the last, all uniform, is never asked for.
    fn forms<const INNER: u8, const OUTER: u8>() -> [Kernel; 8] {
        [
            pair::<INNER, OUTER, 0>,
            pair::<INNER, OUTER, 1>,
            pair::<INNER, OUTER, 2>,
            pair::<INNER, OUTER, 3>,
            pair::<INNER, OUTER, 4>,
            pair::<INNER, OUTER, 5>,
            pair::<INNER, OUTER, 6>,
            pair::<INNER, OUTER, 0>,
        ]
    }

    /// One vector of the pair.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn both<const INNER: u8, const OUTER: u8>(a: __m256, b: __m256, c: __m256) -> __m256 {
        let x = match INNER {
            0 => _mm256_add_ps(a, b),
            1 => _mm256_sub_ps(a, b),
            _ => _mm256_mul_ps(a, b),
        };
        match OUTER {
            0 => _mm256_add_ps(x, c),
            1 => _mm256_sub_ps(x, c),
            2 => _mm256_sub_ps(c, x),
            3 => _mm256_mul_ps(x, c),
            _ => _mm256_div_ps(x, c),
        }
    }

    /// A kernel as `Kernel` says, uniform arguments the set bits of `UNIFORM`. Each vector is read before it is
    /// written, so `to` may equal any of the others.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn pair<const INNER: u8, const OUTER: u8, const UNIFORM: u8>(
        to: *mut u8,
        a: *const u8,
        b: *const u8,
        c: *const u8,
        count: usize,
    ) {
        let (to, a, b, c) = (to as *mut f32, a as *const f32, b as *const f32, c as *const f32);
        // SAFETY: varying arguments are valid for `count` elements, uniform ones for one; whole vectors end before
        // `count`, and the rest goes through arrays of a vector's size.
        unsafe {
            let first = [_mm256_set1_ps(a.read()), _mm256_set1_ps(b.read()), _mm256_set1_ps(c.read())];
            let whole = count / 8 * 8;
            let mut i = 0;
            while i < whole {
                let x = if UNIFORM & 1 != 0 { first[0] } else { _mm256_loadu_ps(a.add(i)) };
                let y = if UNIFORM & 2 != 0 { first[1] } else { _mm256_loadu_ps(b.add(i)) };
                let z = if UNIFORM & 4 != 0 { first[2] } else { _mm256_loadu_ps(c.add(i)) };
                _mm256_storeu_ps(to.add(i), both::<INNER, OUTER>(x, y, z));
                i += 8;
            }
            let left = count - whole;
            if left > 0 {
                let mut parts = [[0f32; 8]; 3];
                for (place, (part, from)) in parts.iter_mut().zip([a, b, c]).enumerate() {
                    for l in 0..left {
                        part[l] = if UNIFORM >> place & 1 != 0 { from.read() } else { from.add(whole + l).read() };
                    }
                }
                let [x, y, z] = [0, 1, 2].map(|place| _mm256_loadu_ps(parts[place].as_ptr()));
                let mut result = [0f32; 8];
                _mm256_storeu_ps(result.as_mut_ptr(), both::<INNER, OUTER>(x, y, z));
                std::ptr::copy_nonoverlapping(result.as_ptr(), to.add(whole), left);
            }
        }
    }
}
