//! Running sums and products along an axis, and the arithmetic that kernels over all number types share.

use crate::Element;
use crate::threads::{SendPointer, parallel};

/// Element types with a sum and a product. Integers wrap around.
pub trait Number: Element {
    /// `self + other`.
    fn plus(self, other: Self) -> Self;
    /// `self · other`.
    fn times(self, other: Self) -> Self;
}

impl Number for f32 {
    fn plus(self, other: f32) -> f32 {
        self + other
    }
    fn times(self, other: f32) -> f32 {
        self * other
    }
}

impl Number for f64 {
    fn plus(self, other: f64) -> f64 {
        self + other
    }
    fn times(self, other: f64) -> f64 {
        self * other
    }
}

impl Number for i32 {
    fn plus(self, other: i32) -> i32 {
        self.wrapping_add(other)
    }
    fn times(self, other: i32) -> i32 {
        self.wrapping_mul(other)
    }
}

impl Number for i64 {
    fn plus(self, other: i64) -> i64 {
        self.wrapping_add(other)
    }
    fn times(self, other: i64) -> i64 {
        self.wrapping_mul(other)
    }
}

impl Number for u8 {
    fn plus(self, other: u8) -> u8 {
        self.wrapping_add(other)
    }
    fn times(self, other: u8) -> u8 {
        self.wrapping_mul(other)
    }
}

/// `out[o, k, i] = Σ_{j ≤ k} x[o, j, i]` over `[outer, axis, inner]`. Floats are summed in f64 and rounded once.
pub fn cumulative_sum<T: Number>(outer: usize, axis: usize, inner: usize, x: &[T], out: &mut [T]) {
    (T::elements().scan_cumulative_sum)(outer, axis, inner, x, out)
}

/// The body of [`cumulative_sum`], compiled once for each type in this crate.
pub(crate) fn cumulative_sum_body<T: Number>(outer: usize, axis: usize, inner: usize, x: &[T], out: &mut [T]) {
    if T::DTYPE.is_float() {
        scan(outer, axis, inner, x, out, T::to_f64, T::from_f64, |a, b| a + b);
    } else {
        scan(outer, axis, inner, x, out, |v| v, |v| v, T::plus);
    }
}

/// `out[o, k, i] = Π_{j ≤ k} x[o, j, i]` over `[outer, axis, inner]`. Floats are multiplied in f64 and rounded once.
pub fn cumulative_product<T: Number>(outer: usize, axis: usize, inner: usize, x: &[T], out: &mut [T]) {
    (T::elements().scan_cumulative_product)(outer, axis, inner, x, out)
}

/// The body of [`cumulative_product`], compiled once for each type in this crate.
pub(crate) fn cumulative_product_body<T: Number>(outer: usize, axis: usize, inner: usize, x: &[T], out: &mut [T]) {
    if T::DTYPE.is_float() {
        scan(outer, axis, inner, x, out, T::to_f64, T::from_f64, |a, b| a * b);
    } else {
        scan(outer, axis, inner, x, out, |v| v, |v| v, T::times);
    }
}

/// Lanes of `inner` that are scanned side by side.
const LANES: usize = 256;

/// Scans with partial results of type `W`.
fn scan<T: Element, W: Copy>(
    outer: usize,
    axis: usize,
    inner: usize,
    x: &[T],
    out: &mut [T],
    widen: impl Fn(T) -> W + Sync,
    narrow: impl Fn(W) -> T + Sync,
    combine: impl Fn(W, W) -> W + Sync,
) {
    assert!(x.len() == outer * axis * inner && out.len() == x.len(), "x and out are [outer, axis, inner]");
    if x.is_empty() {
        return;
    }
    let bands = inner.div_ceil(LANES);
    let units = outer * bands;
    let each = ((1 << 14) / (axis * inner.min(LANES))).max(1);
    let target = SendPointer(out.as_mut_ptr());
    parallel(units.div_ceil(each), |task| {
        let mut running = [widen(x[0]); LANES];
        for unit in task * each..units.min((task + 1) * each) {
            let start = unit / bands * axis * inner + unit % bands * LANES;
            let width = LANES.min(inner - unit % bands * LANES);
            if inner == 1 {
                // SAFETY: line `unit` lies inside `out`, which has the size of `x`, and belongs to this task alone.
                let to = unsafe { std::slice::from_raw_parts_mut(target.at(start), axis) };
                let mut running = widen(x[start]);
                to[0] = narrow(running);
                for (to, &value) in to[1..].iter_mut().zip(&x[start + 1..]) {
                    running = combine(running, widen(value));
                    *to = narrow(running);
                }
                continue;
            }
            for k in 0..axis {
                let row = &x[start + k * inner..][..width];
                // SAFETY: this piece of row `k` lies inside `out`, which has the size of `x`, and units cover different
                // pieces, so no other task touches it.
                let to = unsafe { std::slice::from_raw_parts_mut(target.at(start + k * inner), width) };
                for j in 0..width {
                    running[j] = if k == 0 { widen(row[j]) } else { combine(running[j], widen(row[j])) };
                    to[j] = narrow(running[j]);
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: [(usize, usize, usize); 9] = [
        (0, 3, 2),
        (2, 0, 2),
        (1, 1, 1),
        (3, 7, 1),
        (2, 5, 3),
        (1, 1000, 259),
        (5, 3, 131),
        (1, 50_000, 1),
        (400, 101, 1),
    ];

    #[test]
    fn sums_and_products_of_integers_are_exact() {
        for (outer, axis, inner) in SIZES {
            let x: Vec<i64> = (0..outer * axis * inner).map(|i| (i * 7919 % 1001) as i64 - 500).collect();
            let (mut sums, mut products) = (vec![0; x.len()], vec![0; x.len()]);
            cumulative_sum(outer, axis, inner, &x, &mut sums);
            cumulative_product(outer, axis, inner, &x, &mut products);
            for o in 0..outer {
                for i in 0..inner {
                    let (mut sum, mut product) = (0i64, 1i64);
                    for k in 0..axis {
                        let at = (o * axis + k) * inner + i;
                        sum += x[at];
                        product = product.wrapping_mul(x[at]);
                        assert_eq!((sums[at], products[at]), (sum, product), "{outer} {axis} {inner}");
                    }
                }
            }
        }
    }

    #[test]
    fn floats_are_rounded_once() {
        let n = 100_003;
        let x: Vec<f32> = (0..n).map(|i| ((i * 7919) % 1009) as f32 * 1e-3 + 1e3).collect();
        let mut out = vec![0.0f32; n];
        cumulative_sum(1, n, 1, &x, &mut out);
        let mut sum = 0.0f64;
        for i in 0..n {
            sum += x[i] as f64;
            assert_eq!(out[i], sum as f32);
        }
        cumulative_product(1, 5, 1, &x[..5], &mut out[..5]);
        let mut product = 1.0f64;
        for i in 0..5 {
            product *= x[i] as f64;
            assert_eq!(out[i], product as f32);
        }
    }

    #[test]
    fn bytes_wrap_and_nan_spreads() {
        let mut out = [0u8; 4];
        cumulative_sum(1, 4, 1, &[200u8, 100, 1, 255], &mut out);
        assert_eq!(out, [200, 44, 45, 44]);
        let mut out = [0f32; 3];
        cumulative_product(1, 3, 1, &[2.0f32, f32::NAN, 1.0], &mut out);
        assert!(out[0] == 2.0 && out[1].is_nan() && out[2].is_nan());
    }
}
