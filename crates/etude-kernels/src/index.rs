//! Reading and writing by index: `take` (index_select, embedding), `gather`, their transposes, and scatter.
//!
//! Every index is looked at before anything is written: on an error the output is untouched. Sums into one place are
//! made in the order of the indices, on any number of threads.

use crate::Element;
use crate::scan::Number;
use crate::threads::{SendPointer, parallel, parallel_chunks};
use std::fmt;

/// An index that is neither in `0..size` nor, counted from the end, in `-size..0`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IndexError {
    /// Where it stands among the indices, in row-major order.
    pub position: usize,
    /// The index.
    pub index: i64,
    /// The size of the axis it points into.
    pub size: usize,
}

impl fmt::Display for IndexError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let IndexError { position, index, size } = self;
        write!(f, "index {index} at position {position} is out of range for an axis of size {size}")
    }
}

impl std::error::Error for IndexError {}

/// Elements a task moves at least, where there are that many.
const TASK: usize = 1 << 15;

fn check(indices: &[i64], size: usize) -> Result<(), IndexError> {
    let limit = size as i64;
    let fine = |&index: &i64| (-limit..limit).contains(&index);
    // The first loop has no early way out, so that it is vectorised.
    if indices.iter().fold(true, |all, index| all & fine(index)) {
        return Ok(());
    }
    let position = indices.iter().position(|index| !fine(index)).unwrap_or(0);
    Err(IndexError { position, index: indices[position], size })
}

/// A checked index as a place on its axis.
#[inline(always)]
fn place(index: i64, size: usize) -> usize {
    (if index < 0 { index + size as i64 } else { index }) as usize
}

/// `out[o, k, i] = x[o, indices[k], i]`: x is `[outer, axis, inner]`, out is `[outer, indices.len(), inner]`.
pub fn take<T: Element>(
    outer: usize,
    axis: usize,
    inner: usize,
    x: &[T],
    indices: &[i64],
    out: &mut [T],
) -> Result<(), IndexError> {
    (T::elements().index_take)(outer, axis, inner, x, indices, out)
}

/// The body of [`take`], compiled once for each type in this crate.
pub(crate) fn take_body<T: Element>(
    outer: usize,
    axis: usize,
    inner: usize,
    x: &[T],
    indices: &[i64],
    out: &mut [T],
) -> Result<(), IndexError> {
    let count = indices.len();
    assert!(x.len() == outer * axis * inner && out.len() == outer * count * inner, "sizes of take");
    check(indices, axis)?;
    if out.is_empty() {
        return Ok(());
    }
    if inner == 1 {
        let each = (TASK / count).max(1);
        parallel_chunks(out, each * count, |task, piece| {
            for (o, row) in piece.chunks_exact_mut(count).enumerate() {
                let from = &x[(task * each + o) * axis..][..axis];
                for (value, &index) in row.iter_mut().zip(indices) {
                    *value = from[place(index, axis)];
                }
            }
        });
        return Ok(());
    }
    let each = (TASK / inner).max(1);
    parallel_chunks(out, each * inner, |task, piece| {
        for (row, to) in piece.chunks_exact_mut(inner).enumerate() {
            let (o, k) = ((task * each + row) / count, (task * each + row) % count);
            to.copy_from_slice(&x[(o * axis + place(indices[k], axis)) * inner..][..inner]);
        }
    });
    Ok(())
}

/// The transpose of [`take`]: `gx[o, j, i] = Σ_{k: indices[k] = j} gy[o, k, i]`, 0 where nothing points.
///
/// gx is `[outer, axis, inner]`, gy is `[outer, indices.len(), inner]`. Sums run in the order of k.
pub fn take_add<T: Number>(
    outer: usize,
    axis: usize,
    inner: usize,
    indices: &[i64],
    gy: &[T],
    gx: &mut [T],
) -> Result<(), IndexError> {
    (T::elements().index_take_add)(outer, axis, inner, indices, gy, gx)
}

/// The body of [`take_add`], compiled once for each type in this crate.
pub(crate) fn take_add_body<T: Number>(
    outer: usize,
    axis: usize,
    inner: usize,
    indices: &[i64],
    gy: &[T],
    gx: &mut [T],
) -> Result<(), IndexError> {
    let count = indices.len();
    assert!(gx.len() == outer * axis * inner && gy.len() == outer * count * inner, "sizes of take_add");
    check(indices, axis)?;
    if gx.is_empty() {
        return Ok(());
    }
    // The positions sorted by where they point, by counting: `sources[first[j]..first[j + 1]]` all point at j.
    let mut first = vec![0usize; axis + 1];
    for &index in indices {
        first[place(index, axis) + 1] += 1;
    }
    for j in 0..axis {
        first[j + 1] += first[j];
    }
    let (mut next, mut sources) = (first.clone(), vec![0usize; count]);
    for (k, &index) in indices.iter().enumerate() {
        let slot = &mut next[place(index, axis)];
        sources[*slot] = k;
        *slot += 1;
    }
    // A word that half of the text consists of would keep one thread busy alone, so wide rows are cut across as well.
    let band = if inner >= 128 { 64 } else { inner };
    let bands = inner.div_ceil(band);
    let rows = outer * axis;
    let each = (TASK / inner).max(1);
    let target = SendPointer(gx.as_mut_ptr());
    parallel(rows.div_ceil(each) * bands, |task| {
        let (group, left) = (task / bands, task % bands * band);
        let width = band.min(inner - left);
        for row in group * each..rows.min((group + 1) * each) {
            let (o, j) = (row / axis, row % axis);
            // SAFETY: columns `left..left + width` of one row of gx; tasks differ in rows or in columns.
            let to = unsafe { std::slice::from_raw_parts_mut(target.at(row * inner + left), width) };
            let mut all =
                sources[first[j]..first[j + 1]].iter().map(|&k| &gy[(o * count + k) * inner + left..][..width]);
            match all.next() {
                Some(from) => to.copy_from_slice(from),
                None => to.fill(T::default()),
            }
            for from in all {
                for (sum, &value) in to.iter_mut().zip(from) {
                    *sum = sum.plus(value);
                }
            }
        }
    });
    Ok(())
}

/// `out[.., k, ..] = x[.., indices[.., k, ..], ..]` along `axis`.
///
/// Indices and out have shape `index_shape`, of x's rank and no larger than x on the other axes.
pub fn gather<T: Element>(
    x: &[T],
    x_shape: &[usize],
    axis: usize,
    indices: &[i64],
    index_shape: &[usize],
    out: &mut [T],
) -> Result<(), IndexError> {
    (T::elements().index_gather)(x, x_shape, axis, indices, index_shape, out)
}

/// The body of [`gather`], compiled once for each type in this crate.
pub(crate) fn gather_body<T: Element>(
    x: &[T],
    x_shape: &[usize],
    axis: usize,
    indices: &[i64],
    index_shape: &[usize],
    out: &mut [T],
) -> Result<(), IndexError> {
    assert!(x.len() == x_shape.iter().product::<usize>() && out.len() == indices.len(), "sizes of gather");
    let grid = Grid::new(x_shape, axis, indices, index_shape)?;
    let target = SendPointer(out.as_mut_ptr());
    grid.each_line(|line, at, index| {
        // SAFETY: `line` is a place among the indices, of which `out` has as many elements; `at` lies inside x by the
        // check in `Grid::new`. Each line is visited once.
        unsafe { *target.at(line) = *x.get_unchecked(at + index * grid.stride) };
    });
    Ok(())
}

/// `out[.., indices[.., k, ..], ..] += source[.., k, ..]` along `axis`, on top of what out holds, in the order of k.
///
/// Indices and source have shape `index_shape`, of out's rank and no larger than out on the other axes.
pub fn scatter_add<T: Number>(
    out: &mut [T],
    out_shape: &[usize],
    axis: usize,
    indices: &[i64],
    index_shape: &[usize],
    source: &[T],
) -> Result<(), IndexError> {
    (T::elements().index_scatter_add)(out, out_shape, axis, indices, index_shape, source)
}

/// The body of [`scatter_add`], compiled once for each type in this crate.
pub(crate) fn scatter_add_body<T: Number>(
    out: &mut [T],
    out_shape: &[usize],
    axis: usize,
    indices: &[i64],
    index_shape: &[usize],
    source: &[T],
) -> Result<(), IndexError> {
    scatter(out, out_shape, axis, indices, index_shape, source, T::plus)
}

/// `out[.., indices[.., k, ..], ..] = source[.., k, ..]` along `axis`; of several writes to one place the last k stays.
///
/// Indices and source have shape `index_shape`, of out's rank and no larger than out on the other axes.
pub fn scatter_set<T: Element>(
    out: &mut [T],
    out_shape: &[usize],
    axis: usize,
    indices: &[i64],
    index_shape: &[usize],
    source: &[T],
) -> Result<(), IndexError> {
    (T::elements().index_scatter_set)(out, out_shape, axis, indices, index_shape, source)
}

/// The body of [`scatter_set`], compiled once for each type in this crate.
pub(crate) fn scatter_set_body<T: Element>(
    out: &mut [T],
    out_shape: &[usize],
    axis: usize,
    indices: &[i64],
    index_shape: &[usize],
    source: &[T],
) -> Result<(), IndexError> {
    scatter(out, out_shape, axis, indices, index_shape, source, |_, new| new)
}

fn scatter<T: Element>(
    out: &mut [T],
    out_shape: &[usize],
    axis: usize,
    indices: &[i64],
    index_shape: &[usize],
    source: &[T],
    combine: impl Fn(T, T) -> T + Sync,
) -> Result<(), IndexError> {
    assert!(out.len() == out_shape.iter().product::<usize>() && source.len() == indices.len(), "sizes of scatter");
    let grid = Grid::new(out_shape, axis, indices, index_shape)?;
    let target = SendPointer(out.as_mut_ptr());
    grid.each_line(|line, at, index| {
        // SAFETY: the place lies inside `out` by the check in `Grid::new`. Two lines meet in one place only when they
        // differ along the axis alone, and those are visited by one task, in order.
        unsafe {
            let place = target.at(at + index * grid.stride);
            *place = combine(*place, source[line]);
        }
    });
    Ok(())
}

/// How the elements of an index tensor, `[outer, count, inner]`, lie over a larger tensor.
struct Grid<'a> {
    indices: &'a [i64],
    count: usize,
    /// Size and stride of the indexed axis of the larger tensor.
    size: usize,
    stride: usize,
    /// Offsets in the larger tensor of each outer and each inner position.
    outer: Vec<usize>,
    inner: Vec<usize>,
}

impl<'a> Grid<'a> {
    fn new(shape: &[usize], axis: usize, indices: &'a [i64], index_shape: &[usize]) -> Result<Grid<'a>, IndexError> {
        assert!(shape.len() == index_shape.len() && axis < shape.len(), "x and indices have the axis");
        assert_eq!(indices.len(), index_shape.iter().product::<usize>(), "indices have their shape");
        let fits = |a: usize| a == axis || index_shape[a] <= shape[a];
        assert!((0..shape.len()).all(fits), "{index_shape:?} indices reach over {shape:?} beside axis {axis}");
        check(indices, shape[axis])?;
        let stride: usize = shape[axis + 1..].iter().product();
        let outer = offsets(&shape[..axis], &index_shape[..axis], shape[axis] * stride);
        let inner = offsets(&shape[axis + 1..], &index_shape[axis + 1..], 1);
        Ok(Grid { indices, count: index_shape[axis], size: shape[axis], stride, outer, inner })
    }

    /// Calls `visit(position, offset, index)` for every element of the indices: its place among them, the offset in the
    /// larger tensor of index 0 on its line, and its index. Elements that differ along the axis only are visited by
    /// one task in order; others may be visited at the same time.
    fn each_line(&self, visit: impl Fn(usize, usize, usize) + Sync) {
        if self.indices.is_empty() {
            return;
        }
        let width = self.inner.len();
        let band = width.min(1024);
        let bands = width.div_ceil(band);
        let units = self.outer.len() * bands;
        let each = (TASK / (self.count * band)).max(1);
        parallel(units.div_ceil(each), |task| {
            for unit in task * each..units.min((task + 1) * each) {
                let (o, left) = (unit / bands, unit % bands * band);
                let columns = &self.inner[left..width.min(left + band)];
                for k in 0..self.count {
                    let line = (o * self.count + k) * width + left;
                    let indices = &self.indices[line..line + columns.len()];
                    for (i, (&column, &index)) in columns.iter().zip(indices).enumerate() {
                        visit(line + i, self.outer[o] + column, place(index, self.size));
                    }
                }
            }
        });
    }
}

/// The offset of every index of `part`, row-major, in a contiguous tensor of `shape` whose last stride is `unit`.
fn offsets(shape: &[usize], part: &[usize], unit: usize) -> Vec<usize> {
    let mut all = vec![0];
    for (&size, &used) in shape.iter().zip(part) {
        all = all.iter().flat_map(|&offset| (0..used).map(move |i| offset * size + i)).collect();
    }
    all.iter_mut().for_each(|offset| *offset *= unit);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::set_threads;

    /// Indices that look random, some negative, over an axis of `size`.
    fn some_indices(count: usize, size: usize) -> Vec<i64> {
        (0..count).map(|i| (i * 7919 + i * i % 31) as i64 % (2 * size as i64) - size as i64).collect()
    }

    const SIZES: [(usize, usize, usize, usize); 8] = [
        (0, 3, 2, 4),
        (2, 3, 0, 4),
        (2, 3, 5, 0),
        (1, 1, 1, 1),
        (3, 7, 1, 11),
        (2, 13, 3, 5),
        (1, 101, 131, 997),
        (70, 11, 1, 1301),
    ];

    #[test]
    fn take_and_its_transpose_follow_their_definition() {
        for (outer, axis, inner, count) in SIZES {
            let x: Vec<f64> = (0..outer * axis * inner).map(|i| i as f64).collect();
            let indices = some_indices(count, axis);
            let mut out = vec![-1.0; outer * count * inner];
            take(outer, axis, inner, &x, &indices, &mut out).unwrap();
            let gy: Vec<f32> = (0..out.len()).map(|i| (i * 31 % 1009) as f32 * 0.37).collect();
            let mut expected = vec![0.0f32; x.len()];
            for o in 0..outer {
                for k in 0..count {
                    let j = indices[k].rem_euclid(axis as i64) as usize;
                    for i in 0..inner {
                        let (from, to) = ((o * axis + j) * inner + i, (o * count + k) * inner + i);
                        assert_eq!(out[to], x[from]);
                        expected[from] += gy[to];
                    }
                }
            }
            for threads in [1, 2, 5] {
                set_threads(threads);
                let mut gx = vec![-1.0f32; x.len()];
                take_add(outer, axis, inner, &indices, &gy, &mut gx).unwrap();
                assert!(gx == expected, "{outer} {axis} {inner} {count}");
            }
            set_threads(0);
        }
    }

    #[test]
    fn gather_and_scatter_follow_their_definition() {
        let cases: [(&[usize], usize, &[usize]); 10] = [
            (&[5], 0, &[9]),
            (&[3, 4], 1, &[3, 1]),
            (&[3, 4], 0, &[2, 3]),
            (&[2, 3, 5], 1, &[2, 7, 4]),
            (&[4, 3, 5, 7], 2, &[3, 2, 6, 7]),
            (&[2, 3], 1, &[2, 0]),
            (&[2, 0, 3], 0, &[4, 0, 3]),
            (&[40, 1000], 1, &[39, 1003]),
            (&[1000, 40], 0, &[1003, 39]),
            (&[7, 3000], 0, &[11, 2999]),
        ];
        for (shape, axis, index_shape) in cases {
            let (length, count) = (shape.iter().product::<usize>(), index_shape.iter().product::<usize>());
            let x: Vec<f32> = (0..length).map(|i| i as f32 * 0.3).collect();
            let indices = some_indices(count, shape[axis]);
            let source: Vec<f32> = (0..count).map(|i| (i * 31 % 1009) as f32 * 0.37).collect();
            let places: Vec<usize> = (0..count)
                .map(|mut position| {
                    let (mut at, mut stride) = (0, 1);
                    let index = indices[position].rem_euclid(shape[axis] as i64) as usize;
                    for a in (0..shape.len()).rev() {
                        at += stride * if a == axis { index } else { position % index_shape[a] };
                        position /= index_shape[a];
                        stride *= shape[a];
                    }
                    at
                })
                .collect();
            let (mut added, mut set) = (x.clone(), x.clone());
            for (position, &at) in places.iter().enumerate() {
                added[at] += source[position];
                set[at] = source[position];
            }
            for threads in [1, 2, 5] {
                set_threads(threads);
                let mut out = vec![-1.0; count];
                gather(&x, shape, axis, &indices, index_shape, &mut out).unwrap();
                assert!(out.iter().zip(&places).all(|(&value, &at)| value == x[at]), "gather {shape:?}");
                let mut out = x.clone();
                scatter_add(&mut out, shape, axis, &indices, index_shape, &source).unwrap();
                assert!(out == added, "scatter_add {shape:?}");
                let mut out = x.clone();
                scatter_set(&mut out, shape, axis, &indices, index_shape, &source).unwrap();
                assert!(out == set, "scatter_set {shape:?}");
            }
            set_threads(0);
        }
    }

    #[test]
    fn an_index_out_of_range_is_an_error_and_nothing_is_written() {
        for (bad, size) in [(3, 3), (-4, 3), (i64::MAX, 3), (i64::MIN, 3), (0, 0)] {
            let (x, indices) = (vec![1.0f32; 2 * size], if size > 0 { vec![0, bad] } else { vec![bad] });
            let error = IndexError { position: indices.len() - 1, index: bad, size };
            let mut out = vec![7.0; 2 * indices.len()];
            assert_eq!(take(2, size, 1, &x, &indices, &mut out), Err(error));
            assert_eq!(take_add(1, size, 1, &indices, &vec![1.0; indices.len()], &mut vec![7.0; size]), Err(error));
            let shape = [indices.len()];
            assert_eq!(gather(&x[..size], &[size], 0, &indices, &shape, &mut out[..shape[0]]), Err(error));
            let mut base = vec![7.0; size];
            assert_eq!(scatter_add(&mut base, &[size], 0, &indices, &shape, &vec![1.0; shape[0]]), Err(error));
            assert_eq!(scatter_set(&mut base, &[size], 0, &indices, &shape, &vec![1.0; shape[0]]), Err(error));
            assert!(out.iter().chain(&base).all(|&v| v == 7.0));
        }
    }
}
