//! The loops of reductions, as tails of programs.
//!
//! A tile is folded into an accumulator of its own dtype, one element for each kept position of the tile. After some
//! tens of elements that accumulator is folded into a wide one (f64 for f32 sums and products), so that long sums keep
//! the accuracy of short ones. Every order is fixed by sizes.

use super::ReduceOp;
use super::kernels::{Kernel, splat};
use super::table::{maximum, minimum};
use crate::DType;
use crate::cpu::{InstructionSet, instruction_set};

/// Folds a tile into an accumulator; the two counts are (rows, columns).
type Fold = unsafe fn(*mut u8, *const u8, usize, usize);

/// How many elements one accumulator element may take in before it is folded into the wide one.
pub(super) const DEPTH: usize = 64;

/// All that one reduction of one dtype needs.
#[derive(Clone, Copy)]
pub(super) struct Reduction {
    /// `acc[j] ∘= tile[i][j]` over a tile of (rows, columns).
    pub rows: Fold,
    /// `acc[i] ∘= tile[i][j]` over a tile of (rows, columns).
    pub runs: Fold,
    /// `wide[j] ∘= acc[j]`; counts are (1, length).
    pub widen: Fold,
    /// `wide[j] ∘= other[j]`; counts are (1, length).
    pub merge: Fold,
    /// `acc[j] = wide[j]`; counts are (1, length).
    pub narrow: Fold,
    /// Writes an element over the whole accumulator, and over the wide one.
    pub fill: (Kernel, Kernel),
    /// The reduction of nothing, as an element and as a wide element.
    pub identity: ([u8; 8], [u8; 8]),
    /// Bytes of one element.
    pub size: usize,
}

/// The reduction `op` on `dtype`, if there is one.
pub(super) fn reduction(op: ReduceOp, dtype: DType) -> Option<Reduction> {
    use ReduceOp::*;
    Some(match (dtype, op) {
        (DType::F32, Sum) => build(0f32, 0f64, |a, b| a + b, |x| x as f64, |x| x as f32, folds(|a, b| a + b)),
        (DType::F32, Prod) => build(1f32, 1f64, |a, b| a * b, |x| x as f64, |x| x as f32, folds(|a, b| a * b)),
        (DType::F32, Max) => build(f32::NEG_INFINITY, f32::NEG_INFINITY, maximum, |x| x, |x| x, folds(maximum::<f32>)),
        (DType::F32, Min) => build(f32::INFINITY, f32::INFINITY, minimum, |x| x, |x| x, folds(minimum::<f32>)),
        (DType::F64, Sum) => narrow(0f64, |a, b| a + b),
        (DType::F64, Prod) => narrow(1f64, |a, b| a * b),
        (DType::F64, Max) => narrow(f64::NEG_INFINITY, maximum),
        (DType::F64, Min) => narrow(f64::INFINITY, minimum),
        (DType::I32, Sum) => narrow(0, i32::wrapping_add),
        (DType::I32, Prod) => narrow(1, i32::wrapping_mul),
        (DType::I32, Max) => narrow(i32::MIN, maximum),
        (DType::I32, Min) => narrow(i32::MAX, minimum),
        (DType::I64, Sum) => narrow(0, i64::wrapping_add),
        (DType::I64, Prod) => narrow(1, i64::wrapping_mul),
        (DType::I64, Max) => narrow(i64::MIN, maximum),
        (DType::I64, Min) => narrow(i64::MAX, minimum),
        (DType::U8, Sum) => narrow(0, u8::wrapping_add),
        (DType::U8, Prod) => narrow(1, u8::wrapping_mul),
        (DType::U8, Max) => narrow(u8::MIN, maximum),
        (DType::U8, Min) => narrow(u8::MAX, minimum),
        (DType::Bool, Max) => narrow(0, maximum::<u8>),
        (DType::Bool, Min) => narrow(1, minimum::<u8>),
        (DType::Bool, Sum | Prod) => return None,
    })
}

/// A reduction whose wide form is the element itself, in plain form.
fn narrow<T: bytemuck::Pod, F: Fn(T, T) -> T + Copy>(identity: T, f: F) -> Reduction {
    build(identity, identity, f, |x: T| x, |x: T| x, (rows_plain::<T, F>, runs_plain::<T, F>))
}

/// The pair of folds of f32, which are compiled for AVX2 and AVX-512 too.
fn folds<F: Fn(f32, f32) -> f32 + Copy>(_f: F) -> (Fold, Fold) {
    match instruction_set() {
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 => (rows_avx512::<f32, F>, runs_avx512::<f32, F>),
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => (rows_avx2::<f32, F>, runs_avx2::<f32, F>),
        _ => (rows_plain::<f32, F>, runs_plain::<f32, F>),
    }
}

/// The table of one reduction: `g` folds wide elements, `folds` tiles.
fn build<T: bytemuck::Pod, W: bytemuck::Pod, G, I, O>(
    identity: T,
    wide: W,
    _g: G,
    _into: I,
    _out: O,
    folds: (Fold, Fold),
) -> Reduction
where
    G: Fn(W, W) -> W + Copy,
    I: Fn(T) -> W + Copy,
    O: Fn(W) -> T + Copy,
{
    let bytes = |value: &[u8]| {
        let mut all = [0; 8];
        all[..value.len()].copy_from_slice(value);
        all
    };
    Reduction {
        rows: folds.0,
        runs: folds.1,
        widen: widen::<T, W, G, I>,
        merge: merge::<W, G>,
        narrow: narrow_all::<T, W, O>,
        fill: (splat(size_of::<T>()), splat(size_of::<W>())),
        identity: (bytes(bytemuck::bytes_of(&identity)), bytes(bytemuck::bytes_of(&wide))),
        size: size_of::<T>(),
    }
}

/// A value of the zero-sized closure type `F`.
#[inline(always)]
fn function<F: Copy>() -> F {
    const { assert!(size_of::<F>() == 0, "reductions take functions and closures that capture nothing") };
    // SAFETY: `F` has no bytes, and `build`, the only way here, was given a value of it.
    unsafe { std::mem::zeroed() }
}

/// Column-wise fold of `rows` rows of `columns` elements.
#[inline(always)]
fn fold_rows<T: Copy>(acc: &mut [T], tile: &[T], rows: usize, f: impl Fn(T, T) -> T) {
    let columns = acc.len();
    // Four rows at a time, so that the accumulator is read and written once for four.
    let mut fours = tile[..rows * columns].chunks_exact(4 * columns);
    for four in &mut fours {
        let (ab, cd) = four.split_at(2 * columns);
        let ((a, b), (c, d)) = (ab.split_at(columns), cd.split_at(columns));
        for j in 0..columns {
            acc[j] = f(acc[j], f(f(a[j], b[j]), f(c[j], d[j])));
        }
    }
    for row in fours.remainder().chunks_exact(columns) {
        for j in 0..columns {
            acc[j] = f(acc[j], row[j]);
        }
    }
}

/// # Safety
/// `acc` is valid for `columns` elements of `T`, `tile` for `rows · columns`, and they do not overlap.
#[inline(always)]
unsafe fn rows_body<T: Copy, F: Fn(T, T) -> T + Copy>(acc: *mut u8, tile: *const u8, rows: usize, columns: usize) {
    const LANES: usize = 128;
    let f = function::<F>();
    // SAFETY: the caller's promise.
    let (acc, tile) = unsafe {
        (
            std::slice::from_raw_parts_mut(acc as *mut T, columns),
            std::slice::from_raw_parts(tile as *const T, rows * columns),
        )
    };
    let group = LANES / columns.max(1);
    if columns < 32 && rows >= 2 * group {
        // Short rows are taken many at a time as one long row, whose parts are folded at the end.
        let width = group * columns;
        let mut lanes = [tile[0]; LANES];
        lanes[..width].copy_from_slice(&tile[..width]);
        let whole = rows / group * group;
        fold_rows(&mut lanes[..width], &tile[width..], whole / group - 1, f);
        fold_rows(acc, &lanes, group, f);
        fold_rows(acc, &tile[whole * columns..], rows - whole, f);
    } else {
        fold_rows(acc, tile, rows, f);
    }
}

/// Folds one row of any length but 0: thirty-two lanes, eight, and one by one what is left. No lane is indexed by a variable
/// and halves have lengths of their own, so that all lanes stay in registers.
#[inline(always)]
fn fold_run<T: Copy>(row: &[T], f: impl Fn(T, T) -> T + Copy) -> T {
    let (wide, rest) = row.as_chunks::<32>();
    let (eights, rest) = rest.as_chunks::<8>();
    let wide = fold_chunks(wide, f).map(|lanes| halve::<T, 16, 8>(halve::<T, 32, 16>(lanes, f), f));
    let lanes = either(wide, fold_chunks(eights, f), |a, b| std::array::from_fn(|l| f(a[l], b[l])));
    let lanes = lanes.map(|lanes| halve::<T, 2, 1>(halve::<T, 4, 2>(halve::<T, 8, 4>(lanes, f), f), f)[0]);
    let rest = rest.iter().copied().reduce(f);
    either(lanes, rest, f).unwrap_or(row[0])
}

/// All chunks as one, lane by lane; `None` of none.
#[inline(always)]
fn fold_chunks<T: Copy, const LANES: usize>(chunks: &[[T; LANES]], f: impl Fn(T, T) -> T + Copy) -> Option<[T; LANES]> {
    let (first, rest) = chunks.split_first()?;
    let mut lanes = *first;
    for chunk in rest {
        for l in 0..LANES {
            lanes[l] = f(lanes[l], chunk[l]);
        }
    }
    Some(lanes)
}

/// The upper half of the lanes folded into the lower.
#[inline(always)]
fn halve<T: Copy, const LANES: usize, const HALF: usize>(lanes: [T; LANES], f: impl Fn(T, T) -> T + Copy) -> [T; HALF] {
    const { assert!(LANES == 2 * HALF) };
    std::array::from_fn(|l| f(lanes[l], lanes[l + HALF]))
}

/// Both as one, or the one that is there.
#[inline(always)]
fn either<A>(a: Option<A>, b: Option<A>, f: impl Fn(A, A) -> A) -> Option<A> {
    match (a, b) {
        (Some(a), Some(b)) => Some(f(a, b)),
        (a, b) => a.or(b),
    }
}

/// # Safety
/// `acc` is valid for `rows` elements of `T`, `tile` for `rows · columns`, and they do not overlap.
#[inline(always)]
unsafe fn runs_body<T: Copy, F: Fn(T, T) -> T + Copy>(acc: *mut u8, tile: *const u8, rows: usize, columns: usize) {
    let f = function::<F>();
    // SAFETY: the caller's promise.
    let (acc, tile) = unsafe {
        (
            std::slice::from_raw_parts_mut(acc as *mut T, rows),
            std::slice::from_raw_parts(tile as *const T, rows * columns),
        )
    };
    for (acc, row) in acc.iter_mut().zip(tile.chunks_exact(columns)) {
        *acc = f(*acc, fold_run(row, f));
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn rows_avx2<T: Copy, F: Fn(T, T) -> T + Copy>(acc: *mut u8, tile: *const u8, rows: usize, columns: usize) {
    // SAFETY: passed on.
    unsafe { rows_body::<T, F>(acc, tile, rows, columns) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn runs_avx2<T: Copy, F: Fn(T, T) -> T + Copy>(acc: *mut u8, tile: *const u8, rows: usize, columns: usize) {
    // SAFETY: passed on.
    unsafe { runs_body::<T, F>(acc, tile, rows, columns) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
unsafe fn rows_avx512<T: Copy, F: Fn(T, T) -> T + Copy>(acc: *mut u8, tile: *const u8, rows: usize, columns: usize) {
    // SAFETY: passed on.
    unsafe { rows_body::<T, F>(acc, tile, rows, columns) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
unsafe fn runs_avx512<T: Copy, F: Fn(T, T) -> T + Copy>(acc: *mut u8, tile: *const u8, rows: usize, columns: usize) {
    // SAFETY: passed on.
    unsafe { runs_body::<T, F>(acc, tile, rows, columns) }
}

unsafe fn rows_plain<T: Copy, F: Fn(T, T) -> T + Copy>(acc: *mut u8, tile: *const u8, rows: usize, columns: usize) {
    // SAFETY: passed on.
    unsafe { rows_body::<T, F>(acc, tile, rows, columns) }
}

unsafe fn runs_plain<T: Copy, F: Fn(T, T) -> T + Copy>(acc: *mut u8, tile: *const u8, rows: usize, columns: usize) {
    // SAFETY: passed on.
    unsafe { runs_body::<T, F>(acc, tile, rows, columns) }
}

unsafe fn widen<T: Copy, W: Copy, G: Fn(W, W) -> W + Copy, I: Fn(T) -> W + Copy>(
    wide: *mut u8,
    acc: *const u8,
    _: usize,
    length: usize,
) {
    // SAFETY: both are valid for `length` elements, and are different buffers.
    let (wide, acc) = unsafe {
        (std::slice::from_raw_parts_mut(wide as *mut W, length), std::slice::from_raw_parts(acc as *const T, length))
    };
    for (wide, &x) in wide.iter_mut().zip(acc) {
        *wide = function::<G>()(*wide, function::<I>()(x));
    }
}

unsafe fn merge<W: Copy, G: Fn(W, W) -> W + Copy>(wide: *mut u8, other: *const u8, _: usize, length: usize) {
    // SAFETY: both are valid for `length` elements, and are different buffers.
    let (wide, other) = unsafe {
        (std::slice::from_raw_parts_mut(wide as *mut W, length), std::slice::from_raw_parts(other as *const W, length))
    };
    for (wide, &x) in wide.iter_mut().zip(other) {
        *wide = function::<G>()(*wide, x);
    }
}

unsafe fn narrow_all<T: Copy, W: Copy, O: Fn(W) -> T + Copy>(acc: *mut u8, wide: *const u8, _: usize, length: usize) {
    // SAFETY: both are valid for `length` elements, and are different buffers.
    let (acc, wide) = unsafe {
        (std::slice::from_raw_parts_mut(acc as *mut T, length), std::slice::from_raw_parts(wide as *const W, length))
    };
    for (acc, &x) in acc.iter_mut().zip(wide) {
        *acc = function::<O>()(x);
    }
}

impl Reduction {
    /// Folds a tile, laid out row by row over `axes` of (extent, whether reduced), into `acc`, laid out row by row
    /// over the axes that are not reduced.
    ///
    /// # Safety
    /// `tile` holds the product of the extents, `acc` that of the kept ones; they do not overlap, no extent is 0.
    pub(super) unsafe fn fold(&self, acc: *mut u8, tile: *const u8, axes: impl Iterator<Item = (usize, bool)>) {
        // Neighbours of one kind are one axis, so that kept and reduced ones alternate.
        let mut merged = [(1usize, false); super::layout::MAX_AXES];
        let mut count = 0;
        for (extent, reduced) in axes.filter(|axis| axis.0 != 1) {
            if count > 0 && merged[count - 1].1 == reduced {
                merged[count - 1].0 *= extent;
            } else {
                merged[count] = (extent, reduced);
                count += 1;
            }
        }
        // SAFETY: passed on.
        unsafe { self.fold_merged(acc, tile, &merged[..count]) }
    }

    /// [`Reduction::fold`] over alternating axes.
    ///
    /// # Safety
    /// As there.
    unsafe fn fold_merged(&self, acc: *mut u8, tile: *const u8, axes: &[(usize, bool)]) {
        // SAFETY: each call covers the part of `tile` and `acc` that the extents say.
        unsafe {
            match *axes {
                [] => (self.rows)(acc, tile, 1, 1),
                [(n, false)] => (self.rows)(acc, tile, 1, n),
                [(n, true)] => (self.runs)(acc, tile, 1, n),
                [(rows, true), (columns, _)] => (self.rows)(acc, tile, rows, columns),
                [(rows, false), (columns, _)] => (self.runs)(acc, tile, rows, columns),
                [(n, reduced), ref inner @ ..] => {
                    let step: usize = inner.iter().map(|axis| axis.0).product();
                    let kept: usize = inner.iter().filter(|axis| !axis.1).map(|axis| axis.0).product();
                    for i in 0..n {
                        let acc = if reduced { acc } else { acc.add(i * kept * self.size) };
                        self.fold_merged(acc, tile.add(i * step * self.size), inner);
                    }
                }
            }
        }
    }
}
