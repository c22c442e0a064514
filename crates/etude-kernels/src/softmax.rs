//! Softmax and its logarithm over the last axis, forward and backward.

use crate::threads::parallel_chunks;
use crate::{DType, Float};
use bytemuck::{cast_slice, cast_slice_mut};

/// `y[r, i] = exp(x[r, i] − max_r) / Σ_j exp(x[r, j] − max_r)` over `[rows, width]`.
///
/// A row with a NaN, with ∞ or of −∞ alone gives NaN. f32 uses an exponential with an error below 2 ulp.
pub fn softmax<T: Float>(rows: usize, width: usize, x: &[T], y: &mut [T]) {
    (T::floats().softmax)(rows, width, x, y)
}

/// The body of [`softmax`], compiled once for each type in this crate.
pub(crate) fn softmax_body<T: Float>(rows: usize, width: usize, x: &[T], y: &mut [T]) {
    forward::<T, false>(rows, width, x, y);
}

/// `y[r, i] = x[r, i] − max_r − ln Σ_j exp(x[r, j] − max_r)` over `[rows, width]`; NaN as in [`softmax`].
pub fn log_softmax<T: Float>(rows: usize, width: usize, x: &[T], y: &mut [T]) {
    (T::floats().softmax_log_softmax)(rows, width, x, y)
}

/// The body of [`log_softmax`], compiled once for each type in this crate.
pub(crate) fn log_softmax_body<T: Float>(rows: usize, width: usize, x: &[T], y: &mut [T]) {
    forward::<T, true>(rows, width, x, y);
}

/// The gradient of [`softmax`] from its result y: `gx = y·(gy − Σ_j y_j gy_j)`.
pub fn softmax_backward<T: Float>(rows: usize, width: usize, y: &[T], gy: &[T], gx: &mut [T]) {
    (T::floats().softmax_softmax_backward)(rows, width, y, gy, gx)
}

/// The body of [`softmax_backward`], compiled once for each type in this crate.
pub(crate) fn softmax_backward_body<T: Float>(rows: usize, width: usize, y: &[T], gy: &[T], gx: &mut [T]) {
    backward::<T, false>(rows, width, y, gy, gx);
}

/// The gradient of [`log_softmax`] from its result y: `gx = gy − exp(y)·Σ_j gy_j`.
pub fn log_softmax_backward<T: Float>(rows: usize, width: usize, y: &[T], gy: &[T], gx: &mut [T]) {
    (T::floats().softmax_log_softmax_backward)(rows, width, y, gy, gx)
}

/// The body of [`log_softmax_backward`], compiled once for each type in this crate.
pub(crate) fn log_softmax_backward_body<T: Float>(rows: usize, width: usize, y: &[T], gy: &[T], gx: &mut [T]) {
    backward::<T, true>(rows, width, y, gy, gx);
}

/// `to = eˣ · scale`.
pub fn scaled_exponentials<T: Float>(x: &[T], scale: T, to: &mut [T]) {
    (T::floats().softmax_scaled_exponentials)(x, scale, to)
}

/// The body of [`scaled_exponentials`], compiled once for each type in this crate.
pub(crate) fn scaled_exponentials_body<T: Float>(x: &[T], scale: T, to: &mut [T]) {
    assert_eq!(x.len(), to.len(), "as many exponents as results");
    parallel_chunks(to, TASK, |task, to| {
        let x = &x[task * TASK..][..to.len()];
        if T::DTYPE == DType::F32 {
            run_exponentials::<f32>(cast_slice(x), scale.to_f64() as f32, cast_slice_mut(to));
        } else {
            run_exponentials::<f64>(cast_slice(x), scale.to_f64(), cast_slice_mut(to));
        }
    });
}

fn run_exponentials<R: Real>(x: &[R], scale: R, to: &mut [R]) {
    #[cfg(target_arch = "x86_64")]
    if has_avx2_fma() {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { exponentials_avx2::<R>(x, scale, to) };
    }
    exponentials::<R, false>(x, scale, to);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn exponentials_avx2<R: Real>(x: &[R], scale: R, to: &mut [R]) {
    exponentials::<R, true>(x, scale, to);
}

#[inline(always)]
fn exponentials<R: Real, const FMA: bool>(x: &[R], scale: R, to: &mut [R]) {
    for (to, &x) in to.iter_mut().zip(x) {
        *to = x.fast_exp::<FMA>() * scale;
    }
}

/// What kernels with loops for the compiler to vectorise need beyond [`Float`]; branch-free for f32. `FMA` says that the
/// code is compiled for a processor with fused multiply-add.
pub(crate) trait Real: Float {
    /// `self · a + b`.
    fn fused<const FMA: bool>(self, a: Self, b: Self) -> Self;
    /// `e^self`, for f32 within 2 ulp.
    fn fast_exp<const FMA: bool>(self) -> Self;
}

impl Real for f32 {
    #[inline(always)]
    fn fused<const FMA: bool>(self, a: f32, b: f32) -> f32 {
        if FMA { f32::mul_add(self, a, b) } else { self * a + b }
    }
    #[inline(always)]
    fn fast_exp<const FMA: bool>(self) -> f32 {
        exp::<FMA>(self)
    }
}

impl Real for f64 {
    #[inline(always)]
    fn fused<const FMA: bool>(self, a: f64, b: f64) -> f64 {
        if FMA { f64::mul_add(self, a, b) } else { self * a + b }
    }
    #[inline(always)]
    fn fast_exp<const FMA: bool>(self) -> f64 {
        self.exp()
    }
}

/// Whether the loops compiled for AVX2 and FMA may run.
#[inline]
pub(crate) fn has_avx2_fma() -> bool {
    crate::cpu::has_avx2()
}

/// `eˣ` as 2ⁿ·eʳ with |r| ≤ ½ ln 2 and Cephes' polynomial for eʳ (Moshier). Denormal results and overflow included.
#[inline(always)]
fn exp<const FMA: bool>(x: f32) -> f32 {
    // Outside, the result is 0 or ∞ anyway. Written so that NaN passes.
    let x = if x < -104.0 { -104.0 } else { x };
    let x = if x > 89.0 { 89.0 } else { x };
    // Adding 1.5·2²³ leaves the nearest whole number in the low bits.
    const SHIFT: f32 = 12_582_912.0;
    let shifted = x.fused::<FMA>(std::f32::consts::LOG2_E, SHIFT);
    let whole = shifted - SHIFT;
    // ln 2 in two parts, the first short enough that its product with `whole` is exact.
    let r = whole.fused::<FMA>(-0.693_359_375, x);
    let r = whole.fused::<FMA>(2.121_944_40e-4, r);
    let p = 1.987_569_150_0e-4f32.fused::<FMA>(r, 1.398_199_950_7e-3);
    let p = p.fused::<FMA>(r, 8.333_451_907_3e-3);
    let p = p.fused::<FMA>(r, 4.166_579_589_4e-2);
    let p = p.fused::<FMA>(r, 1.666_666_545_9e-1);
    let p = p.fused::<FMA>(r, 5.000_000_120_1e-1);
    let p = p.fused::<FMA>(r * r, r) + 1.0;
    // 2ⁿ in two factors: n reaches beyond the exponents of normal numbers.
    let n = (shifted.to_bits() as i32).wrapping_sub(SHIFT.to_bits() as i32);
    let half = n >> 1;
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) << 23) as u32);
    p * power(half) * power(n.wrapping_sub(half))
}

/// Partial sums and maxima a row is reduced with.
const LANES: usize = 8;
/// Elements a task handles at least, where there are that many.
const TASK: usize = 1 << 13;

fn forward<T: Float, const LOG: bool>(rows: usize, width: usize, x: &[T], y: &mut [T]) {
    assert!(x.len() == rows * width && y.len() == x.len(), "x and y are [rows, width]");
    let each = (TASK / width.max(1)).max(1) * width;
    parallel_chunks(y, each, |task, y| {
        let x = &x[task * each..][..y.len()];
        if T::DTYPE == DType::F32 {
            run_forward::<f32, LOG>(width, cast_slice(x), cast_slice_mut(y));
        } else {
            run_forward::<f64, LOG>(width, cast_slice(x), cast_slice_mut(y));
        }
    });
}

fn run_forward<R: Real, const LOG: bool>(width: usize, x: &[R], y: &mut [R]) {
    #[cfg(target_arch = "x86_64")]
    if has_avx2_fma() {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { forward_avx2::<R, LOG>(width, x, y) };
    }
    forward_rows::<R, LOG, false>(width, x, y);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn forward_avx2<R: Real, const LOG: bool>(width: usize, x: &[R], y: &mut [R]) {
    forward_rows::<R, LOG, true>(width, x, y);
}

#[inline(always)]
fn forward_rows<R: Real, const LOG: bool, const FMA: bool>(width: usize, x: &[R], y: &mut [R]) {
    if (1..=LANES).contains(&width) {
        return narrow_rows::<R, LOG, FMA>(width, x, y);
    }
    for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
        // What is left after whole blocks, filled up with −∞, whose exponential is 0. NaN is passed over by the maximum
        // and comes back through the exponentials.
        let (blocks, rest) = x.as_chunks::<LANES>();
        let (outs, out_rest) = y.as_chunks_mut::<LANES>();
        let mut tail = [R::NEG_INFINITY; LANES];
        tail[..rest.len()].copy_from_slice(rest);
        let mut lanes = tail;
        for block in blocks {
            for j in 0..LANES {
                lanes[j] = if block[j] > lanes[j] { block[j] } else { lanes[j] };
            }
        }
        let top = lanes.into_iter().fold(R::NEG_INFINITY, |a, b| if b > a { b } else { a });

        let mut sums = [R::ZERO; LANES];
        for (block, out) in blocks.iter().zip(outs) {
            for j in 0..LANES {
                let power = (block[j] - top).fast_exp::<FMA>();
                sums[j] += power;
                out[j] = power;
            }
        }
        if !rest.is_empty() {
            for j in 0..LANES {
                tail[j] = (tail[j] - top).fast_exp::<FMA>();
                sums[j] += tail[j];
            }
            out_rest.copy_from_slice(&tail[..rest.len()]);
        }
        let sum = fold(sums);
        if LOG {
            let log = sum.ln();
            for (y, &x) in y.iter_mut().zip(x) {
                *y = x - top - log;
            }
        } else {
            let scale = R::ONE / sum;
            for y in y {
                *y = *y * scale;
            }
        }
    }
}

/// Rows of at most `LANES` elements, as many at a time, each in a lane of its own.
#[inline(always)]
fn narrow_rows<R: Real, const LOG: bool, const FMA: bool>(width: usize, x: &[R], y: &mut [R]) {
    for (x, y) in x.chunks(LANES * width).zip(y.chunks_mut(LANES * width)) {
        let rows = x.len() / width;
        let mut columns = [[R::ZERO; LANES]; LANES];
        for (lane, row) in x.chunks_exact(width).enumerate() {
            row.iter().enumerate().for_each(|(column, &value)| columns[column][lane] = value);
        }
        let columns = &mut columns[..width];
        let mut top = [R::NEG_INFINITY; LANES];
        for column in &*columns {
            for j in 0..LANES {
                top[j] = if column[j] > top[j] { column[j] } else { top[j] };
            }
        }
        let mut sums = [R::ZERO; LANES];
        for column in &mut *columns {
            for j in 0..LANES {
                let less = column[j] - top[j];
                let power = less.fast_exp::<FMA>();
                sums[j] += power;
                column[j] = if LOG { less } else { power };
            }
        }
        for (lane, row) in y.chunks_exact_mut(width).enumerate().take(rows) {
            if LOG {
                let log = sums[lane].ln();
                row.iter_mut().zip(&*columns).for_each(|(y, column)| *y = column[lane] - log);
            } else {
                let scale = R::ONE / sums[lane];
                row.iter_mut().zip(&*columns).for_each(|(y, column)| *y = column[lane] * scale);
            }
        }
    }
}

/// The sum of all lanes, by halves.
#[inline(always)]
fn fold<R: Real>(mut lanes: [R; LANES]) -> R {
    let mut half = LANES / 2;
    while half > 0 {
        for j in 0..half {
            lanes[j] += lanes[j + half];
        }
        half /= 2;
    }
    lanes[0]
}

fn backward<T: Float, const LOG: bool>(rows: usize, width: usize, y: &[T], gy: &[T], gx: &mut [T]) {
    let length = rows * width;
    assert!(y.len() == length && gy.len() == length && gx.len() == length, "y, gy and gx are [rows, width]");
    let each = (TASK / width.max(1)).max(1) * width;
    parallel_chunks(gx, each, |task, gx| {
        let (y, gy) = (&y[task * each..][..gx.len()], &gy[task * each..][..gx.len()]);
        if T::DTYPE == DType::F32 {
            run_backward::<f32, LOG>(width, cast_slice(y), cast_slice(gy), cast_slice_mut(gx));
        } else {
            run_backward::<f64, LOG>(width, cast_slice(y), cast_slice(gy), cast_slice_mut(gx));
        }
    });
}

fn run_backward<R: Real, const LOG: bool>(width: usize, y: &[R], gy: &[R], gx: &mut [R]) {
    #[cfg(target_arch = "x86_64")]
    if has_avx2_fma() {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { backward_avx2::<R, LOG>(width, y, gy, gx) };
    }
    backward_rows::<R, LOG, false>(width, y, gy, gx);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn backward_avx2<R: Real, const LOG: bool>(width: usize, y: &[R], gy: &[R], gx: &mut [R]) {
    backward_rows::<R, LOG, true>(width, y, gy, gx);
}

#[inline(always)]
fn backward_rows<R: Real, const LOG: bool, const FMA: bool>(width: usize, y: &[R], gy: &[R], gx: &mut [R]) {
    for ((y, gy), gx) in y.chunks_exact(width).zip(gy.chunks_exact(width)).zip(gx.chunks_exact_mut(width)) {
        let term = |y: R, g: R, sum: R| if LOG { sum + g } else { y.fused::<FMA>(g, sum) };
        let mut sums = [R::ZERO; LANES];
        let ((blocks, rest), (gys, gy_rest)) = (y.as_chunks::<LANES>(), gy.as_chunks::<LANES>());
        for (block, g) in blocks.iter().zip(gys) {
            for j in 0..LANES {
                sums[j] = term(block[j], g[j], sums[j]);
            }
        }
        for j in 0..rest.len() {
            sums[j] = term(rest[j], gy_rest[j], sums[j]);
        }
        let sum = fold(sums);
        for ((gx, &y), &g) in gx.iter_mut().zip(y).zip(gy) {
            *gx = if LOG { y.fast_exp::<FMA>().fused::<FMA>(-sum, g) } else { y * (g - sum) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::testing::{normals, normals_f32, on_any_threads};

    const SIZES: [(usize, usize); 13] = [
        (0, 3),
        (3, 0),
        (1, 1),
        (5, 2),
        (37, 7),
        (9, 8),
        (3, 15),
        (2, 16),
        (7, 17),
        (1, 101),
        (3, 1009),
        (3001, 10),
        (11, 4099),
    ];

    type Forward = fn(usize, usize, &[f64], &mut [f64]);
    type Backward = fn(usize, usize, &[f64], &[f64], &mut [f64]);

    /// Softmax and its logarithm of one row, in f64.
    fn reference(row: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = row.iter().map(|v| (v - top).exp()).sum();
        (row.iter().map(|v| (v - top).exp() / sum).collect(), row.iter().map(|v| v - top - sum.ln()).collect())
    }

    #[test]
    fn both_forms_follow_their_definition() {
        for (rows, width) in SIZES {
            let x: Vec<f32> = normals_f32(1, rows * width).into_iter().map(|v| v * 8.0 + 100.0).collect();
            let wide: Vec<f64> = x.iter().map(|&v| v as f64).collect();
            let run = |kernel: fn(usize, usize, &[f32], &mut [f32])| {
                on_any_threads(|| {
                    let mut y = vec![-1.0; x.len()];
                    kernel(rows, width, &x, &mut y);
                    y
                })
            };
            let (plain, log) = (run(softmax), run(log_softmax));
            let (mut plain64, mut log64) = (vec![-1.0; x.len()], vec![-1.0; x.len()]);
            softmax(rows, width, &wide, &mut plain64);
            log_softmax(rows, width, &wide, &mut log64);
            for r in 0..rows {
                let (expected, expected_log) = reference(&wide[r * width..][..width]);
                for i in 0..width {
                    let at = r * width + i;
                    // An exponential within 2 ulp, a sum whose lanes are at most 512 long, one division; and what
                    // rounding x − max loses of the exponent, which grows with the distance.
                    let bound = 6e-7 + 6e-8 * expected_log[i].abs();
                    assert!((plain[at] as f64 / expected[i] - 1.0).abs() < bound, "{} {}", plain[at], expected[i]);
                    assert!((log[at] as f64 - expected_log[i]).abs() < 2.5e-7 * (4.0 + expected_log[i].abs()));
                    assert!((plain64[at] / expected[i] - 1.0).abs() < 1e-13);
                    assert!((log64[at] - expected_log[i]).abs() < 1e-13);
                }
            }
        }
    }

    #[test]
    fn exponentials_are_scaled() {
        for n in [0, 1, 7, 8, 33, TASK + 3] {
            let x: Vec<f32> = normals_f32(1, n).into_iter().map(|v| v * 4.0).collect();
            let found = on_any_threads(|| {
                let mut y = vec![-1.0; n];
                scaled_exponentials(&x, 0.25, &mut y);
                y
            });
            // Within 2 ulp; a quarter changes no digit.
            assert!(found.iter().zip(&x).all(|(y, &x)| (*y as f64 / (x as f64).exp() * 4.0 - 1.0).abs() < 2.4e-7));
            let (wide, mut y) = (normals(2, n), vec![-1.0; n]);
            scaled_exponentials(&wide, 2.0, &mut y);
            assert!(y.iter().zip(&wide).all(|(y, x)| *y == x.exp() * 2.0));
        }
    }

    #[test]
    fn rows_with_infinities_and_nan() {
        for kernel in [softmax::<f32>, log_softmax::<f32>] {
            for width in [1, 3, 16, 37] {
                for bad in [f32::NAN, f32::INFINITY] {
                    let (mut x, mut y) = (vec![0.5; width], vec![0.0; width]);
                    x[width / 2] = bad;
                    kernel(1, width, &x, &mut y);
                    assert!(y[width / 2].is_nan());
                    assert!(bad == f32::INFINITY || y.iter().all(|v| v.is_nan()));
                }
                let mut y = vec![0.0; width];
                kernel(1, width, &vec![f32::NEG_INFINITY; width], &mut y);
                assert!(y.iter().all(|v| v.is_nan()));
            }
        }
        let mut y = [9.0; 3];
        softmax(1, 3, &[f32::NEG_INFINITY, 0.0, -200.0], &mut y);
        assert_eq!(y, [0.0, 1.0, 0.0]);
        log_softmax(1, 3, &[f32::NEG_INFINITY, 0.0, -200.0], &mut y);
        assert_eq!(y, [f32::NEG_INFINITY, 0.0, -200.0]);
    }

    #[test]
    fn gradients_agree_with_differences() {
        for (rows, width) in [(1, 1), (3, 2), (2, 17), (1, 37)] {
            let (x, gy) = (normals(2, rows * width), normals(3, rows * width));
            for (kernel, gradient) in
                [(softmax::<f64> as Forward, softmax_backward::<f64> as Backward), (log_softmax, log_softmax_backward)]
            {
                let value = |x: &[f64]| {
                    let mut y = vec![0.0; x.len()];
                    kernel(rows, width, x, &mut y);
                    y.iter().zip(&gy).map(|(y, g)| y * g).sum::<f64>()
                };
                let (mut y, mut gx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
                kernel(rows, width, &x, &mut y);
                gradient(rows, width, &y, &gy, &mut gx);
                for i in 0..x.len() {
                    let (mut up, mut down) = (x.clone(), x.clone());
                    up[i] += 1e-5;
                    down[i] -= 1e-5;
                    let difference = (value(&up) - value(&down)) / 2e-5;
                    assert!((gx[i] - difference).abs() < 1e-8 * (1.0 + difference.abs()), "{} {difference}", gx[i]);
                }
            }
        }
    }

    #[test]
    fn gradients_in_f32_follow_those_in_f64() {
        for (rows, width) in SIZES {
            let (x, gy) = (normals_f32(4, rows * width), normals_f32(5, rows * width));
            for log in [false, true] {
                let mut y = vec![0.0; x.len()];
                if log {
                    log_softmax(rows, width, &x, &mut y)
                } else {
                    softmax(rows, width, &x, &mut y)
                }
                let gx = on_any_threads(|| {
                    let mut gx = vec![-1.0; x.len()];
                    let kernel = if log { log_softmax_backward } else { softmax_backward };
                    kernel(rows, width, &y, &gy, &mut gx);
                    gx
                });
                for r in 0..rows {
                    let row = r * width..(r + 1) * width;
                    let terms = || y[row.clone()].iter().zip(&gy[row.clone()]).map(|(&y, &g)| (y as f64, g as f64));
                    let sum: f64 = terms().map(|(y, g)| if log { g } else { y * g }).sum();
                    let size: f64 = terms().map(|(y, g)| if log { g.abs() } else { (y * g).abs() }).sum();
                    for ((y, g), &got) in terms().zip(&gx[row.clone()]) {
                        let (expected, scale) = if log { (g - y.exp() * sum, y.exp()) } else { (y * (g - sum), y) };
                        assert!(
                            (got as f64 - expected).abs() <= 4e-7 * scale * (size + g.abs()) + 1e-7 * expected.abs()
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn the_exponential_is_within_two_ulp() {
        for i in 0..2_000_000 {
            let x = -103.9 + i as f32 * (192.6 / 2e6);
            let exact = (x as f64).exp();
            let rounded = exact as f32;
            let ulp = if rounded < f32::MIN_POSITIVE { 1e-45 } else { rounded.next_up() as f64 - rounded as f64 };
            for got in [exp::<true>(x), exp::<false>(x)] {
                assert!((got as f64 - exact).abs() < 2.0 * ulp, "{x}: {got} for {exact}");
            }
        }
        for (x, y) in [(0.0, 1.0), (-0.0, 1.0), (f32::NEG_INFINITY, 0.0), (-1e30, 0.0), (89.0, f32::INFINITY)] {
            assert_eq!((exp::<true>(x), exp::<false>(x)), (y, y));
        }
        assert_eq!(exp::<false>(f32::INFINITY), f32::INFINITY);
        assert!(exp::<true>(f32::NAN).is_nan() && exp::<false>(-f32::NAN).is_nan());
    }

    #[test]
    fn the_portable_loops_are_right_too() {
        let x = normals_f32(6, 3 * 37);
        let (mut wide, mut narrow) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        softmax(3, 37, &x, &mut wide);
        forward_rows::<f32, false, false>(37, &x, &mut narrow);
        assert!(wide.iter().zip(&narrow).all(|(a, b)| (a / b - 1.0).abs() < 1e-6));
        let gy = normals_f32(7, 3 * 37);
        let (mut gx, mut narrow_gx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        softmax_backward(3, 37, &wide, &gy, &mut gx);
        backward_rows::<f32, false, false>(37, &wide, &gy, &mut narrow_gx);
        assert!(gx.iter().zip(&narrow_gx).all(|(a, b)| (a - b).abs() < 1e-6));
    }
}
