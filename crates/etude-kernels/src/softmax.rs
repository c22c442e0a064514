//! Softmax and its logarithm over the last axis, forward and backward.

use crate::Float;
use crate::cpu::{self, Vector, Work};
use crate::lanes::{self, Dot, Pass, Powers, Sum, exp, pass, read, sums, write};
use crate::threads::parallel_chunks;

/// Elements a task handles at least, where there are that many.
const TASK: usize = 1 << 13;
/// Rows of so many elements at most are worked on side by side, as many at a time.
const NARROW: usize = 8;

/// `y[r, i] = exp(x[r, i] − max_r) / Σ_j exp(x[r, j] − max_r)` over `[rows, width]`.
///
/// A row with a NaN, with ∞ or of −∞ alone gives NaN. f32 uses the exponential of [`crate::math`].
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
        // SAFETY: the work holds slices alone.
        unsafe { cpu::run(Exponentials { x: &x[task * TASK..][..to.len()], scale, to }) };
    });
}

struct Exponentials<'a, T> {
    x: &'a [T],
    scale: T,
    to: &'a mut [T],
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl<T: Float> Work<T> for Exponentials<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        // SAFETY: there are as many exponents as results.
        unsafe { pass::<T, V>(self.to.len(), ScaledPowers(self.x.as_ptr(), self.scale, self.to.as_mut_ptr())) }
    }
}

/// `to = eˣ · scale`, with x, the scale and where to.
struct ScaledPowers<T>(*const T, T, *mut T);

impl<T: Float> Pass<T> for ScaledPowers<T> {
    #[inline(always)]
    unsafe fn elements<V: Vector<T>>(&self, at: usize, lanes: usize) {
        // SAFETY: the caller's promise.
        unsafe { write(read::<T, V>(self.0.add(at), lanes).exp().mul(V::splat(self.1)), self.2.add(at), lanes) }
    }
}

fn forward<T: Float, const LOG: bool>(rows: usize, width: usize, x: &[T], y: &mut [T]) {
    assert!(x.len() == rows * width && y.len() == x.len(), "x and y are [rows, width]");
    let each = (TASK / width.max(1)).max(1) * width;
    parallel_chunks(y, each, |task, y| {
        // SAFETY: the work holds slices alone.
        unsafe { cpu::run(Forward::<T, LOG> { width, x: &x[task * each..][..y.len()], y }) };
    });
}

/// Some rows of softmax or its logarithm.
struct Forward<'a, T, const LOG: bool> {
    width: usize,
    x: &'a [T],
    y: &'a mut [T],
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl<T: Float, const LOG: bool> Work<T> for Forward<'_, T, LOG> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        let Forward { width, x, y } = self;
        if (1..=NARROW).contains(&width) {
            return narrow_rows::<T, V, LOG>(width, x, y);
        }
        let (rows, x, y) = (y.len() / width, x.as_ptr(), y.as_mut_ptr());
        // SAFETY: there are so many rows of `width` elements.
        unsafe {
            // A NaN may be passed over here; it comes back through the exponentials.
            let mut top = lanes::maximum::<T, V>(width, x);
            for row in 0..rows {
                let (x_row, y_row) = (x.add(row * width), y.add(row * width));
                let powers = Powers { x: x_row, shift: top, to: if LOG { None } else { Some(y_row) } };
                let [sum] = sums::<T, V, 1>(width, powers);
                // The next row's maximum is looked for while this one's sum is folded.
                let next = lanes::maximum::<T, V>(width, x.add((row + 1).min(rows - 1) * width));
                if LOG {
                    pass::<T, V>(width, Shifted { x: x_row, by: [top, sum.ln()], to: y_row });
                } else {
                    pass::<T, V>(width, Scaled(y_row, T::ONE / sum));
                }
                top = next;
            }
        }
    }
}

/// `to = x − by₀ − by₁`.
struct Shifted<T> {
    x: *const T,
    by: [T; 2],
    to: *mut T,
}

impl<T: Float> Pass<T> for Shifted<T> {
    #[inline(always)]
    unsafe fn elements<V: Vector<T>>(&self, at: usize, lanes: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let less = read::<T, V>(self.x.add(at), lanes).sub(V::splat(self.by[0]));
            write(less.sub(V::splat(self.by[1])), self.to.add(at), lanes);
        }
    }
}

/// Elements become so many times themselves.
struct Scaled<T>(*mut T, T);

impl<T: Float> Pass<T> for Scaled<T> {
    #[inline(always)]
    unsafe fn elements<V: Vector<T>>(&self, at: usize, lanes: usize) {
        // SAFETY: the caller's promise.
        unsafe { write(read::<T, V>(self.0.add(at), lanes).mul(V::splat(self.1)), self.0.add(at), lanes) }
    }
}

/// Rows of at most `NARROW` elements, as many at a time, each in a lane of its own.
#[inline(always)]
fn narrow_rows<T: Float, V: Vector<T>, const LOG: bool>(width: usize, x: &[T], y: &mut [T]) {
    for (x, y) in x.chunks(NARROW * width).zip(y.chunks_mut(NARROW * width)) {
        let rows = x.len() / width;
        let mut columns = [[T::ZERO; NARROW]; NARROW];
        for (lane, row) in x.chunks_exact(width).enumerate() {
            row.iter().enumerate().for_each(|(column, &value)| columns[column][lane] = value);
        }
        let columns = &mut columns[..width];
        let mut top = [T::NEG_INFINITY; NARROW];
        for column in &*columns {
            for j in 0..NARROW {
                top[j] = if column[j] > top[j] { column[j] } else { top[j] };
            }
        }
        let mut sums = [T::ZERO; NARROW];
        for column in &mut *columns {
            for j in 0..NARROW {
                let less = column[j] - top[j];
                let power = exp::<T, V>(less);
                sums[j] += power;
                column[j] = if LOG { less } else { power };
            }
        }
        for (lane, row) in y.chunks_exact_mut(width).enumerate().take(rows) {
            if LOG {
                let log = sums[lane].ln();
                row.iter_mut().zip(&*columns).for_each(|(y, column)| *y = column[lane] - log);
            } else {
                let scale = T::ONE / sums[lane];
                row.iter_mut().zip(&*columns).for_each(|(y, column)| *y = column[lane] * scale);
            }
        }
    }
}

fn backward<T: Float, const LOG: bool>(rows: usize, width: usize, y: &[T], gy: &[T], gx: &mut [T]) {
    let length = rows * width;
    assert!(y.len() == length && gy.len() == length && gx.len() == length, "y, gy and gx are [rows, width]");
    let each = (TASK / width.max(1)).max(1) * width;
    parallel_chunks(gx, each, |task, gx| {
        let (y, gy) = (&y[task * each..][..gx.len()], &gy[task * each..][..gx.len()]);
        // SAFETY: the work holds slices alone.
        unsafe { cpu::run(Backward::<T, LOG> { width, y, gy, gx }) };
    });
}

/// Some rows of the gradient.
struct Backward<'a, T, const LOG: bool> {
    width: usize,
    y: &'a [T],
    gy: &'a [T],
    gx: &'a mut [T],
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl<T: Float, const LOG: bool> Work<T> for Backward<'_, T, LOG> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        let Backward { width, y, gy, gx } = self;
        let (rows, y, gy, gx) = (gx.len() / width, y.as_ptr(), gy.as_ptr(), gx.as_mut_ptr());
        // SAFETY: there are so many rows of `width` elements.
        unsafe {
            for row in 0..rows {
                let (y, gy, gx) = (y.add(row * width), gy.add(row * width), gx.add(row * width));
                let [sum] = if LOG { sums::<T, V, 1>(width, Sum(gy)) } else { sums::<T, V, 1>(width, Dot(y, gy)) };
                pass::<T, V>(width, Slope::<T, LOG> { y, gy, gx, sum });
            }
        }
    }
}

/// The gradients of a row, whose sum is known.
struct Slope<T, const LOG: bool> {
    y: *const T,
    gy: *const T,
    gx: *mut T,
    sum: T,
}

impl<T: Float, const LOG: bool> Pass<T> for Slope<T, LOG> {
    #[inline(always)]
    unsafe fn elements<V: Vector<T>>(&self, at: usize, lanes: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let (y, g) = (read::<T, V>(self.y.add(at), lanes), read::<T, V>(self.gy.add(at), lanes));
            let sum = V::splat(self.sum);
            let slope = if LOG { g.sub(y.exp().mul(sum)) } else { y.mul(g.sub(sum)) };
            write(slope, self.gx.add(at), lanes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::forced;
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
    fn every_instruction_set_gives_the_same_within_rounding() {
        let (x, gy) = (normals_f32(6, 3 * 37), normals_f32(7, 3 * 37));
        let run = || {
            let (mut y, mut log, mut gx) = (x.clone(), x.clone(), x.clone());
            softmax(3, 37, &x, &mut y);
            log_softmax(3, 37, &x, &mut log);
            softmax_backward(3, 37, &y, &gy, &mut gx);
            [y, log, gx].concat()
        };
        let expected = run();
        forced::on_each_set(|_| assert!(run().iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6)));
    }
}
