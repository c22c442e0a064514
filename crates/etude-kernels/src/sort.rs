//! Stable argsort along an axis.

use crate::threads::{SendPointer, parallel};
use crate::{DType, Element};

/// `out[o, ·, i]` is the order that sorts `x[o, ·, i]`, over `[outer, axis, inner]`. Equal elements (−0 equals 0) keep
/// their order, ascending and descending alike; NaN comes last in both.
pub fn argsort<T: Element>(outer: usize, axis: usize, inner: usize, x: &[T], descending: bool, out: &mut [i64]) {
    (T::elements().sort_argsort)(outer, axis, inner, x, descending, out)
}

/// The body of [`argsort`], compiled once for each type in this crate.
pub(crate) fn argsort_body<T: Element>(
    outer: usize,
    axis: usize,
    inner: usize,
    x: &[T],
    descending: bool,
    out: &mut [i64],
) {
    assert!(x.len() == outer * axis * inner && out.len() == x.len(), "x and out are [outer, axis, inner]");
    if x.is_empty() {
        return;
    }
    let lines = outer * inner;
    let each = ((1 << 13) / axis).max(1);
    let target = SendPointer(out.as_mut_ptr());
    // An element of 4 bytes and a position of 4 bytes sort as one integer of 8.
    let narrow = size_of::<T>() <= 4 && axis <= u32::MAX as usize;
    parallel(lines.div_ceil(each), |task| {
        let (mut short, mut long) = (Vec::<u64>::new(), Vec::<(u64, u64)>::new());
        for line in task * each..lines.min((task + 1) * each) {
            let start = line / inner * axis * inner + line % inner;
            let values = (0..axis).map(|k| (k as u64, rank(x[start + k * inner], descending)));
            let put = |place: usize, k: u64| {
                // SAFETY: `start` is the first of this line's elements and `place < axis`; each line belongs to one task.
                unsafe { *target.at(start + place * inner) = k as i64 };
            };
            if narrow {
                short.clear();
                short.extend(values.map(|(k, rank)| rank << 32 | k));
                short.sort_unstable();
                short.iter().enumerate().for_each(|(place, &both)| put(place, both & u32::MAX as u64));
            } else {
                long.clear();
                long.extend(values.map(|(k, rank)| (rank, k)));
                long.sort_unstable();
                long.iter().enumerate().for_each(|(place, &(_, k))| put(place, k));
            }
        }
    });
}

/// An integer that sorts as the value does; below 2³² for types of up to four bytes.
#[inline(always)]
fn rank<T: Element>(value: T, descending: bool) -> u64 {
    const SIGN: u64 = 1 << 63;
    let (rank, bits, nan) = match T::DTYPE {
        DType::F32 => {
            // Adding zero makes −0 and 0 one.
            let value: f32 = bytemuck::cast(value);
            let (value, nan) = (value + 0.0, value.is_nan());
            let bits = value.to_bits();
            ((if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }) as u64, 32, nan)
        }
        DType::F64 => {
            let value: f64 = bytemuck::cast(value);
            let (value, nan) = (value + 0.0, value.is_nan());
            let bits = value.to_bits();
            (if bits & SIGN != 0 { !bits } else { bits | SIGN }, 64, nan)
        }
        DType::I32 => (bytemuck::cast::<T, i32>(value) as u32 as u64 ^ 1 << 31, 32, false),
        DType::I64 => (bytemuck::cast::<T, i64>(value) as u64 ^ SIGN, 64, false),
        DType::U8 | DType::Bool => (bytemuck::cast::<T, u8>(value) as u64, 32, false),
    };
    let most = u64::MAX >> (64 - bits);
    if nan {
        most
    } else if descending {
        most - rank
    } else {
        rank
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cmp::Ordering;

    /// Insertion sort by the rules in the documentation.
    fn reference<T: Element>(axis: usize, line: impl Fn(usize) -> T, descending: bool) -> Vec<i64> {
        let mut order: Vec<i64> = (0..axis as i64).collect();
        order.sort_by(|&a, &b| {
            let (a, b) = (line(a as usize), line(b as usize));
            match a.partial_cmp(&b) {
                Some(order) if descending => order.reverse(),
                Some(order) => order,
                None if a.partial_cmp(&a).is_none() && b.partial_cmp(&b).is_none() => Ordering::Equal,
                None if a.partial_cmp(&a).is_none() => Ordering::Greater,
                None => Ordering::Less,
            }
        });
        order
    }

    fn check<T: Element>(outer: usize, axis: usize, inner: usize, x: &[T]) {
        for descending in [false, true] {
            let mut out = vec![-1; x.len()];
            argsort(outer, axis, inner, x, descending, &mut out);
            for o in 0..outer {
                for i in 0..inner {
                    let expected = reference(axis, |k| x[(o * axis + k) * inner + i], descending);
                    let got: Vec<i64> = (0..axis).map(|k| out[(o * axis + k) * inner + i]).collect();
                    assert_eq!(got, expected, "{:?} {outer} {axis} {inner} {descending}", T::DTYPE);
                }
            }
        }
    }

    #[test]
    fn agrees_with_a_comparison_sort() {
        for (outer, axis, inner) in
            [(0, 2, 3), (2, 0, 3), (1, 1, 1), (3, 2, 1), (2, 17, 5), (1, 10_007, 1), (90, 101, 3)]
        {
            let n = outer * axis * inner;
            let integers: Vec<i64> = (0..n).map(|i| (i * 7919 % 1009) as i64 - 500).collect();
            check(outer, axis, inner, &integers);
            check(outer, axis, inner, &integers.iter().map(|&v| v as i32).collect::<Vec<_>>());
            check(outer, axis, inner, &integers.iter().map(|&v| v as u8).collect::<Vec<_>>());
            let float = |v: i64| if v % 71 == 0 { f64::NAN } else { (v / 3) as f64 * 0.5 };
            check(outer, axis, inner, &integers.iter().map(|&v| float(v)).collect::<Vec<_>>());
            check(outer, axis, inner, &integers.iter().map(|&v| float(v) as f32).collect::<Vec<_>>());
        }
    }

    #[test]
    fn extremes_and_both_zeros() {
        check(1, 4, 1, &[i64::MIN, i64::MAX, i64::MAX, i64::MIN]);
        check(1, 4, 1, &[i32::MIN, i32::MAX, i32::MAX, i32::MIN]);
        check(1, 4, 1, &[255u8, 0, 255, 0]);
        let floats = [f32::INFINITY, -f32::NAN, 0.0, -0.0, f32::NEG_INFINITY, f32::NAN, f32::MIN, 1e-45, -1e-45, 0.0];
        check(1, 10, 1, &floats);
        check(1, 10, 1, &floats.map(|v| v as f64));
    }
}
