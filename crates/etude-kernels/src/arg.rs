//! Where the largest and the smallest elements are.

use crate::Element;
use crate::threads::parallel_chunks;

/// `out[o, i] = argmax_k x[o, k, i]` over `[outer, axis, inner]`: the first maximum, or the first NaN if there is one.
///
/// Panics when `axis` is 0 and out is not empty, since nothing has no maximum.
pub fn argmax<T: Element>(outer: usize, axis: usize, inner: usize, x: &[T], out: &mut [i64]) {
    (T::elements().arg_argmax)(outer, axis, inner, x, out)
}

/// The body of [`argmax`], compiled once for each type in this crate.
pub(crate) fn argmax_body<T: Element>(outer: usize, axis: usize, inner: usize, x: &[T], out: &mut [i64]) {
    arg(outer, axis, inner, x, out, |value, best| value > best);
}

/// `out[o, i] = argmin_k x[o, k, i]` over `[outer, axis, inner]`: the first minimum, or the first NaN if there is one.
///
/// Panics when `axis` is 0 and out is not empty, since nothing has no minimum.
pub fn argmin<T: Element>(outer: usize, axis: usize, inner: usize, x: &[T], out: &mut [i64]) {
    (T::elements().arg_argmin)(outer, axis, inner, x, out)
}

/// The body of [`argmin`], compiled once for each type in this crate.
pub(crate) fn argmin_body<T: Element>(outer: usize, axis: usize, inner: usize, x: &[T], out: &mut [i64]) {
    arg(outer, axis, inner, x, out, |value, best| value < best);
}

/// Columns that are searched side by side.
const LANES: usize = 512;

fn arg<T: Element>(
    outer: usize,
    axis: usize,
    inner: usize,
    x: &[T],
    out: &mut [i64],
    better: impl Fn(T, T) -> bool + Sync + Copy,
) {
    assert!(x.len() == outer * axis * inner && out.len() == outer * inner, "x is [outer, axis, inner]");
    if out.is_empty() {
        return;
    }
    assert!(axis > 0, "an axis of size 0 has no extreme");
    if inner == 1 {
        let each = ((1 << 15) / axis).max(1);
        parallel_chunks(out, each, |task, piece| {
            for (row, found) in piece.iter_mut().enumerate() {
                *found = first_extreme(&x[(task * each + row) * axis..][..axis], better) as i64;
            }
        });
        return;
    }
    let each = ((1 << 15) / (axis * inner.min(LANES))).max(1);
    let bands = inner.div_ceil(LANES);
    if bands == 1 {
        parallel_chunks(out, each * inner, |task, piece| {
            let mut scratch = ([T::default(); LANES], [0; LANES]);
            for (o, found) in piece.chunks_exact_mut(inner).enumerate() {
                columns(&x[(task * each + o) * axis * inner..], axis, inner, found, &mut scratch, better);
            }
        });
    } else {
        for (o, row) in out.chunks_exact_mut(inner).enumerate() {
            parallel_chunks(row, each * LANES, |task, piece| {
                let mut scratch = ([T::default(); LANES], [0; LANES]);
                for (band, found) in piece.chunks_mut(LANES).enumerate() {
                    let left = (task * each + band) * LANES;
                    columns(&x[o * axis * inner + left..], axis, inner, found, &mut scratch, better);
                }
            });
        }
    }
}

/// The extremes of up to `LANES` columns, rows `stride` apart.
fn columns<T: Element>(
    x: &[T],
    axis: usize,
    stride: usize,
    found: &mut [i64],
    scratch: &mut ([T; LANES], [u32; LANES]),
    better: impl Fn(T, T) -> bool,
) {
    let width = found.len();
    assert!(axis <= u32::MAX as usize, "places are counted in 32 bits");
    // Places of four bytes, as wide as the most frequent elements, make the loop a vector loop.
    let (best, places) = (&mut scratch.0[..width], &mut scratch.1[..width]);
    best.copy_from_slice(&x[..width]);
    places.fill(0);
    for k in 1..axis {
        let row = &x[k * stride..][..width];
        for j in 0..width {
            let (value, so_far) = (row[j], best[j]);
            let ahead = better(value, so_far) | (is_nan(value) & !is_nan(so_far));
            best[j] = if ahead { value } else { so_far };
            // The same choice by masks: two branches on one condition would be joined and kept as a branch.
            let mask = (ahead as u32).wrapping_neg();
            places[j] = (k as u32 & mask) | (places[j] & !mask);
        }
    }
    found.iter_mut().zip(places).for_each(|(found, place)| *found = *place as i64);
}

/// The extreme of one contiguous row: first its value, in a loop without branches, then where that stands.
fn first_extreme<T: Element>(row: &[T], better: impl Fn(T, T) -> bool) -> usize {
    const SIDE: usize = 16;
    let mut best = [row[0]; SIDE];
    let mut nan = [false; SIDE];
    let mut chunks = row.chunks_exact(SIDE);
    for chunk in &mut chunks {
        for j in 0..SIDE {
            best[j] = if better(chunk[j], best[j]) { chunk[j] } else { best[j] };
            nan[j] |= is_nan(chunk[j]);
        }
    }
    for (j, &value) in chunks.remainder().iter().enumerate() {
        best[j] = if better(value, best[j]) { value } else { best[j] };
        nan[j] |= is_nan(value);
    }
    if nan.contains(&true) {
        return row.iter().position(|&value| is_nan(value)).unwrap_or(0);
    }
    let extreme = best.into_iter().fold(row[0], |a, b| if better(b, a) { b } else { a });
    row.iter().position(|&value| value == extreme).unwrap_or(0)
}

#[inline(always)]
#[allow(clippy::eq_op)]
fn is_nan<T: Element>(value: T) -> bool {
    value != value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference<T: Element>(outer: usize, axis: usize, inner: usize, x: &[T], larger: bool) -> Vec<i64> {
        let mut out = Vec::new();
        for o in 0..outer {
            for i in 0..inner {
                let at = |k: usize| x[(o * axis + k) * inner + i];
                let mut best = 0;
                for k in 1..axis {
                    let ahead = if larger { at(k) > at(best) } else { at(k) < at(best) };
                    if !is_nan(at(best)) && (ahead || is_nan(at(k))) {
                        best = k;
                    }
                }
                out.push(best as i64);
            }
        }
        out
    }

    fn check<T: Element>(outer: usize, axis: usize, inner: usize, x: &[T]) {
        let mut out = vec![-1; outer * inner];
        argmax(outer, axis, inner, x, &mut out);
        assert_eq!(out, reference(outer, axis, inner, x, true), "argmax {outer} {axis} {inner}");
        argmin(outer, axis, inner, x, &mut out);
        assert_eq!(out, reference(outer, axis, inner, x, false), "argmin {outer} {axis} {inner}");
    }

    #[test]
    fn first_extreme_wins_and_nan_beats_all() {
        let sizes = [
            (0, 3, 2),
            (1, 1, 1),
            (7, 1, 3),
            (5, 17, 1),
            (3, 33, 7),
            (2, 5, 131),
            (3, 1009, 1),
            (900, 101, 1),
            (2, 300, 1000),
            (4000, 3, 2),
        ];
        for (outer, axis, inner) in sizes {
            let n = outer * axis * inner;
            let integers: Vec<i64> = (0..n).map(|i| (i * 7919 % 23) as i64 - 11).collect();
            let bytes: Vec<u8> = integers.iter().map(|&v| (v + 11) as u8).collect();
            let floats: Vec<f32> = integers.iter().map(|&v| v as f32).collect();
            let holes: Vec<f32> =
                floats.iter().enumerate().map(|(i, &v)| if i * 31 % 97 == 5 { f32::NAN } else { v }).collect();
            check(outer, axis, inner, &integers);
            check(outer, axis, inner, &bytes);
            check(outer, axis, inner, &floats);
            check(outer, axis, inner, &holes);
        }
        check(1, 3, 1, &[f64::NEG_INFINITY; 3]);
        check(1, 4, 1, &[0.0, -0.0, f64::INFINITY, f64::INFINITY]);
    }

    #[test]
    #[should_panic(expected = "no extreme")]
    fn nothing_has_no_extreme() {
        argmax::<f32>(2, 0, 1, &[], &mut [0, 0]);
    }
}
