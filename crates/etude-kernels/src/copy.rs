//! Copies between views: any strided view into contiguous storage, and contiguous storage into a window of a larger one.
//!
//! Both first drop axes of size 1 and join neighbouring axes that one stride covers, so that a permutation of five axes
//! that only swaps two of them runs as the two-dimensional transposition it is.

use crate::Element;
use crate::threads::{SendPointer, parallel, parallel_chunks};

/// Elements a task copies at least, where there are that many.
const TASK: usize = 1 << 15;
/// A transposition moves squares of this side through a buffer, so that each cache line is read and written once.
const TILE: usize = 32;

/// Gathers a strided view of `x` into contiguous `out`.
///
/// Element `(i₀, i₁, …)` of the view is `x[offset + Σ iₐ·strides[a]]`; strides count elements and may be 0 or negative.
/// `out` has as many elements as `shape` says. Panics when the view reaches outside `x`.
pub fn strided<T: Element>(x: &[T], offset: usize, shape: &[usize], strides: &[isize], out: &mut [T]) {
    (T::elements().copy_strided)(x, offset, shape, strides, out)
}

/// The body of [`strided`], compiled once for each type in this crate.
pub(crate) fn strided_body<T: Element>(x: &[T], offset: usize, shape: &[usize], strides: &[isize], out: &mut [T]) {
    assert_eq!(shape.len(), strides.len(), "a stride for each axis");
    assert_eq!(out.len(), shape.iter().product::<usize>(), "out holds the view");
    if out.is_empty() {
        return;
    }
    check_reach(x.len(), offset, shape, strides);
    let axes = joined(shape, strides);
    let Some((&row, outer)) = axes.split_last() else {
        out[0] = x[offset];
        return;
    };
    let source = Source { x, offset: offset as isize };
    match transposed_axis(row, outer) {
        Some(axis) => source.transpose(outer, axis, row, out),
        None => source.rows(outer, row, out),
    }
}

/// Writes contiguous `x` into a window of contiguous `out`: concatenation, padding, the gradient of a slice.
///
/// Element `(i₀, i₁, …)` of `x` goes to `(start[0] + i₀·step[0], …)` of `out`; what lies outside the window stays as it
/// is. Panics when the window reaches outside `out` or a step is 0.
pub fn into_window<T: Element>(
    x: &[T],
    x_shape: &[usize],
    out: &mut [T],
    out_shape: &[usize],
    start: &[usize],
    step: &[usize],
) {
    (T::elements().copy_into_window)(x, x_shape, out, out_shape, start, step)
}

/// The body of [`into_window`], compiled once for each type in this crate.
pub(crate) fn into_window_body<T: Element>(
    x: &[T],
    x_shape: &[usize],
    out: &mut [T],
    out_shape: &[usize],
    start: &[usize],
    step: &[usize],
) {
    let rank = x_shape.len();
    assert!(out_shape.len() == rank && start.len() == rank && step.len() == rank, "sizes for each axis");
    assert_eq!(x.len(), x_shape.iter().product::<usize>(), "x has its shape");
    assert_eq!(out.len(), out_shape.iter().product::<usize>(), "out has its shape");
    if x.is_empty() {
        return;
    }
    let (mut strides, mut offset, mut stride) = (vec![0isize; rank], 0, 1);
    for axis in (0..rank).rev() {
        assert!(step[axis] > 0, "steps are positive");
        let last = (x_shape[axis] - 1).checked_mul(step[axis]).and_then(|span| span.checked_add(start[axis]));
        assert!(last.is_some_and(|last| last < out_shape[axis]), "the window lies inside out");
        strides[axis] = (stride * step[axis]) as isize;
        offset += stride * start[axis];
        stride *= out_shape[axis];
    }
    let axes = joined(x_shape, &strides);
    let Some((&row, outer)) = axes.split_last() else {
        out[offset] = x[0];
        return;
    };
    let target = SendPointer(out.as_mut_ptr());
    let write = |offset: isize, values: &[T]| {
        for (i, &value) in values.iter().enumerate() {
            // SAFETY: the asserts above put every element of the window inside `out`, and with positive steps inside
            // the axes two elements never share a place, so no other task writes here.
            unsafe { *target.at((offset + i as isize * row.stride) as usize) = value };
        }
    };
    let write_row = |offset: isize, values: &[T]| {
        if row.stride != 1 || values.len() < 8 {
            write(offset, values);
        } else {
            // SAFETY: as in `write`; the places are neighbours, and `x` and `out` are different borrows.
            unsafe {
                std::ptr::copy_nonoverlapping(values.as_ptr(), target.at(offset as usize), values.len());
            }
        }
    };
    if row.size > 2 * TASK {
        let mut walk = Walk::new(outer, offset as isize, 0);
        for values in x.chunks_exact(row.size) {
            parallel(row.size.div_ceil(TASK), |task| {
                let piece = &values[task * TASK..row.size.min((task + 1) * TASK)];
                write_row(walk.offset + (task * TASK) as isize * row.stride, piece);
            });
            walk.step();
        }
        return;
    }
    let (rows, each) = (x.len() / row.size, (TASK / row.size).max(1));
    parallel(rows.div_ceil(each), |task| {
        let first = task * each;
        let mut walk = Walk::new(outer, offset as isize, first);
        for values in x[first * row.size..].chunks_exact(row.size).take(each) {
            write_row(walk.offset, values);
            walk.step();
        }
    });
}

/// One axis of a view.
#[derive(Clone, Copy)]
struct Axis {
    size: usize,
    stride: isize,
}

/// The axes without those of size 1, neighbours joined where the outer stride spans the inner axis exactly.
fn joined(shape: &[usize], strides: &[isize]) -> Vec<Axis> {
    let mut axes: Vec<Axis> = Vec::with_capacity(shape.len());
    for (&size, &stride) in shape.iter().zip(strides) {
        match axes.last_mut() {
            _ if size == 1 => {}
            Some(last) if last.stride == stride * size as isize => *last = Axis { size: last.size * size, stride },
            _ => axes.push(Axis { size, stride }),
        }
    }
    axes
}

/// Panics unless every element of a view without empty axes lies inside storage of `length` elements.
fn check_reach(length: usize, offset: usize, shape: &[usize], strides: &[isize]) {
    let (mut low, mut high) = (offset as i128, offset as i128);
    for (&size, &stride) in shape.iter().zip(strides) {
        let span = (size as i128 - 1) * stride as i128;
        low += span.min(0);
        high += span.max(0);
    }
    assert!(low >= 0 && high < length as i128, "a view of {low}..={high} reaches outside {length} elements");
}

/// The outer axis to copy in squares with the row, when rows would jump through memory and that axis would jump less.
fn transposed_axis(row: Axis, outer: &[Axis]) -> Option<usize> {
    if row.stride.abs() <= 1 {
        return None;
    }
    let jump = |axis: usize| outer[axis].stride.unsigned_abs();
    let best = (0..outer.len()).filter(|&axis| jump(axis) > 0).min_by_key(|&axis| jump(axis))?;
    (jump(best) < row.stride.unsigned_abs() && outer[best].size >= 4).then_some(best)
}

/// Where a walk over the outer axes of a view stands.
struct Walk<'a> {
    axes: &'a [Axis],
    index: Vec<usize>,
    offset: isize,
}

impl<'a> Walk<'a> {
    /// Stands at element `position`, in row-major order, of `axes`.
    fn new(axes: &'a [Axis], mut offset: isize, mut position: usize) -> Walk<'a> {
        let mut index = vec![0; axes.len()];
        for (at, axis) in index.iter_mut().zip(axes).rev() {
            *at = position % axis.size;
            position /= axis.size;
            offset += *at as isize * axis.stride;
        }
        Walk { axes, index, offset }
    }

    /// Goes to the next element; after the last comes the first.
    fn step(&mut self) {
        for (at, axis) in self.index.iter_mut().zip(self.axes).rev() {
            *at += 1;
            self.offset += axis.stride;
            if *at < axis.size {
                return;
            }
            self.offset -= axis.size as isize * axis.stride;
            *at = 0;
        }
    }
}

/// A view's storage, already checked to hold every element the view reaches.
struct Source<'a, T> {
    x: &'a [T],
    offset: isize,
}

impl<T: Element> Source<'_, T> {
    /// Copies row by row.
    fn rows(&self, outer: &[Axis], row: Axis, out: &mut [T]) {
        if row.size > 2 * TASK {
            let mut walk = Walk::new(outer, self.offset, 0);
            for values in out.chunks_exact_mut(row.size) {
                parallel_chunks(values, TASK, |index, piece| {
                    self.run(walk.offset + (index * TASK) as isize * row.stride, row.stride, piece);
                });
                walk.step();
            }
            return;
        }
        let each = (TASK / row.size).max(1);
        parallel_chunks(out, each * row.size, |index, piece| {
            let mut walk = Walk::new(outer, self.offset, index * each);
            for values in piece.chunks_exact_mut(row.size) {
                self.run(walk.offset, row.stride, values);
                walk.step();
            }
        });
    }

    /// Copies `out.len()` elements, `stride` apart, from `offset` on.
    #[inline]
    fn run(&self, offset: isize, stride: isize, out: &mut [T]) {
        if stride == 1 && out.len() >= 8 {
            let start = offset as usize;
            out.copy_from_slice(&self.x[start..start + out.len()]);
        } else if stride == 0 {
            out.fill(self.x[offset as usize]);
        } else {
            for (i, value) in out.iter_mut().enumerate() {
                // SAFETY: `check_reach` found every element of the view inside `x`, and this is one of them.
                *value = unsafe { *self.x.get_unchecked((offset + i as isize * stride) as usize) };
            }
        }
    }

    /// Copies squares that span the row and axis `across` of `outer`.
    fn transpose(&self, outer: &[Axis], across: usize, row: Axis, out: &mut [T]) {
        let column = outer[across];
        let inside: usize = outer[across + 1..].iter().map(|axis| axis.size).product();
        // Elements of `out` between neighbours along `across`, and from one index before `across` to the next.
        let (down, block) = (inside * row.size, inside * row.size * column.size);
        let bands = column.size.div_ceil(TILE);
        let units = out.len() / (row.size * column.size) * bands;
        let each = (TASK / (TILE.min(column.size) * row.size)).max(1);
        let others: Vec<Axis> =
            outer.iter().enumerate().filter(|&(axis, _)| axis != across).map(|(_, &axis)| axis).collect();
        let target = SendPointer(out.as_mut_ptr());
        parallel(units.div_ceil(each), |task| {
            let mut square = [[T::default(); TILE]; TILE];
            for unit in task * each..units.min((task + 1) * each) {
                let (other, band) = (unit / bands, unit % bands);
                let walk = Walk::new(&others, self.offset, other);
                let top = band * TILE;
                let height = TILE.min(column.size - top);
                let from = walk.offset + top as isize * column.stride;
                let to = other / inside * block + other % inside * row.size + top * down;
                for left in (0..row.size).step_by(TILE) {
                    let width = TILE.min(row.size - left);
                    for j in 0..width {
                        let start = from + (left + j) as isize * row.stride;
                        match (&mut square[j], &self.x[start as usize..]) {
                            // A length known in advance saves a call.
                            (line, x) if height == TILE && column.stride == 1 => line.copy_from_slice(&x[..TILE]),
                            (line, _) => self.run(start, column.stride, &mut line[..height]),
                        }
                    }
                    // SAFETY: `to + i·down + left + j` with i < height and j < width is the place in `out` of one element
                    // of the view; the squares of different units do not overlap, so no other task writes it.
                    unsafe { turn(&square, height, width, target.at(to + left), down) };
                }
            }
        });
    }
}

/// Writes `square[j][i]` to `to[i·stride + j]` for `i < height`, `j < width`.
///
/// # Safety
/// All these places must be writable, and nobody else may use them.
unsafe fn turn<T: Element>(square: &[[T; TILE]; TILE], height: usize, width: usize, to: *mut T, stride: usize) {
    let (mut high, mut wide) = (0, 0);
    #[cfg(target_arch = "x86_64")]
    if size_of::<T>() == 4 {
        (high, wide) = (height / 4 * 4, width / 4 * 4);
        for i in (0..high).step_by(4) {
            for j in (0..wide).step_by(4) {
                // SAFETY: four rows of four elements from (j, i) lie inside the square, and their places are the caller's
                // promise. SSE is part of x86-64.
                unsafe { turn_four(square[j..].as_ptr().cast::<f32>().add(i), to.add(i * stride + j).cast(), stride) };
            }
        }
    }
    // Where blocks of four do not reach: first below them, then to their right.
    for i in high..height {
        for j in 0..wide {
            // SAFETY: the caller's promise.
            unsafe { *to.add(i * stride + j) = square[j][i] };
        }
    }
    for j in wide..width {
        for (i, &value) in square[j][..height].iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { *to.add(i * stride + j) = value };
        }
    }
}

/// Transposes four rows of four elements, `TILE` apart, to four rows `stride` apart.
///
/// # Safety
/// All these elements must be readable at `from`, and writable at `to`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn turn_four(from: *const f32, to: *mut f32, stride: usize) {
    use std::arch::x86_64::*;
    // SAFETY: the caller's promise; SSE is part of x86-64.
    unsafe {
        let mut rows = [0, 1, 2, 3].map(|j| _mm_loadu_ps(from.add(j * TILE)));
        let [a, b, c, d] = &mut rows;
        _MM_TRANSPOSE4_PS(a, b, c, d);
        for (i, &row) in rows.iter().enumerate() {
            _mm_storeu_ps(to.add(i * stride), row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, one element at a time.
    fn reference(x: &[f32], offset: usize, shape: &[usize], strides: &[isize]) -> Vec<f32> {
        let count: usize = shape.iter().product();
        (0..count)
            .map(|mut position| {
                let mut at = offset as isize;
                for axis in (0..shape.len()).rev() {
                    at += (position % shape[axis]) as isize * strides[axis];
                    position /= shape[axis];
                }
                x[at as usize]
            })
            .collect()
    }

    fn contiguous(shape: &[usize]) -> Vec<isize> {
        let mut strides = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis] * shape[axis] as isize;
        }
        strides
    }

    fn check(x: &[f32], offset: usize, shape: &[usize], strides: &[isize]) {
        let mut out = vec![-1.0; shape.iter().product()];
        strided(x, offset, shape, strides, &mut out);
        assert_eq!(out, reference(x, offset, shape, strides), "{shape:?} {strides:?}");
        let bytes: Vec<u8> = x.iter().map(|&v| v as u32 as u8).collect();
        let doubles: Vec<f64> = x.iter().map(|&v| v as f64).collect();
        let (mut small, mut large) = (vec![0u8; out.len()], vec![0f64; out.len()]);
        strided(&bytes, offset, shape, strides, &mut small);
        strided(&doubles, offset, shape, strides, &mut large);
        assert!(out.iter().zip(&small).zip(&large).all(|((&v, &s), &l)| s == v as u32 as u8 && l == v as f64));
    }

    #[test]
    fn every_permutation_of_odd_shapes() {
        let shapes: [[usize; 4]; 6] =
            [[2, 3, 5, 7], [1, 33, 1, 65], [3, 1, 31, 32], [1, 1, 1, 1], [4, 9, 8, 40], [67, 2, 3, 37]];
        for sizes in shapes {
            let x: Vec<f32> = (0..sizes.iter().product::<usize>()).map(|i| i as f32).collect();
            let strides = contiguous(&sizes);
            for code in 0..256usize {
                let order = [code & 3, code >> 2 & 3, code >> 4 & 3, code >> 6];
                if (0..4).all(|axis| order.contains(&axis)) {
                    check(&x, 0, &order.map(|axis| sizes[axis]), &order.map(|axis| strides[axis]));
                }
            }
        }
    }

    #[test]
    fn slices_flips_and_broadcasts() {
        let x: Vec<f32> = (0..3000).map(|i| i as f32).collect();
        check(&x, 17, &[], &[]);
        check(&x, 5, &[0, 3], &[3, 1]);
        check(&x, 2999, &[2, 1500], &[-1500, -1]);
        check(&x, 2999, &[37, 70], &[-1, -42]);
        check(&x, 1, &[5, 3, 7], &[0, 0, 0]);
        check(&x, 10, &[4, 1, 13], &[0, 99, 2]);
        check(&x, 10, &[4, 41, 13], &[1, 0, 11]);
        check(&x, 3, &[9, 5], &[100, 1]);
        check(&x, 0, &[50, 20], &[2, 150]);
    }

    #[test]
    fn sizes_that_are_cut_into_tasks() {
        let x: Vec<f32> = (0..300_007).map(|i| i as f32).collect();
        check(&x, 0, &[300_007], &[1]);
        check(&x, 3, &[150_001], &[2]);
        check(&x, 0, &[2, 140_001], &[150_000, 1]);
        check(&x, 0, &[541, 547], &[1, 541]);
        check(&x, 0, &[3, 997, 100], &[99_700, 1, 997]);
        check(&x, 0, &[997, 3, 100], &[100, 99_700, 1]);
    }

    #[test]
    #[should_panic(expected = "reaches outside")]
    fn a_view_outside_its_storage_is_refused() {
        strided(&[0f32; 6], 1, &[2, 3], &[3, 1], &mut [0.0; 6]);
    }

    #[test]
    fn windows_are_filled_and_the_rest_is_left_alone() {
        let cases: [(&[usize], &[usize], &[usize], &[usize]); 8] = [
            (&[], &[], &[], &[]),
            (&[3], &[7], &[1], &[2]),
            (&[2, 0, 3], &[2, 0, 3], &[0, 0, 0], &[1, 1, 1]),
            (&[2, 3, 5], &[4, 3, 5], &[1, 0, 0], &[1, 1, 1]),
            (&[2, 3, 5], &[2, 7, 11], &[0, 2, 1], &[1, 2, 2]),
            (&[5, 13], &[5, 40], &[0, 27], &[1, 1]),
            (&[3, 70_001], &[3, 140_003], &[0, 1], &[1, 2]),
            (&[300, 301], &[302, 303], &[1, 1], &[1, 1]),
        ];
        for (x_shape, out_shape, start, step) in cases {
            let x: Vec<f64> = (0..x_shape.iter().product::<usize>()).map(|i| i as f64).collect();
            let mut out = vec![-1.0; out_shape.iter().product()];
            into_window(&x, x_shape, &mut out, out_shape, start, step);
            let strides = contiguous(out_shape);
            let mut expected = vec![-1.0; out.len()];
            for (position, &value) in x.iter().enumerate() {
                let (mut rest, mut at) = (position, 0);
                for axis in (0..x_shape.len()).rev() {
                    at += (start[axis] + rest % x_shape[axis] * step[axis]) * strides[axis] as usize;
                    rest /= x_shape[axis];
                }
                expected[at] = value;
            }
            assert!(out == expected, "{x_shape:?} into {out_shape:?}");
        }
    }
}
