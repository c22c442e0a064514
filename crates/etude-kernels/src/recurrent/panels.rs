//! The step's product: the states of a few rows of the batch times weights that were packed once for the whole sequence.
//!
//! Packed weights are panels of two vectors of columns, each `[depth][columns]`, so that a step reads them front to back
//! as fast as the cache they lie in gives them, and a weight that was loaded meets up to eight rows of the batch in
//! registers. An output's bits do not depend on how rows and columns are cut: its terms are added in the order of the
//! depth, one after the other.

use crate::cpu::{self, TileShape, Vector, Work, caches};
use crate::threads::{SendPointer, parallel};
use crate::{Buffer, Float};
use std::ops::Range;

/// Columns of a block: a whole number of panels on every machine.
pub(super) const BLOCK: usize = 32;

/// Depth of a pass where there are more rows than a panel meets at once: its part of the panel, and of the states, stays
/// in the first-level cache until all have met.
const PASS: usize = 256;

/// How far ahead weights are asked for: a panel lies in one piece, but what comes from the third-level cache takes longer
/// than the machine looks ahead by itself.
const AHEAD: usize = 2048;

/// How far ahead along their rows turned columns are asked for.
const TURNED_AHEAD: usize = 64;

/// Lines that are asked for ahead where columns are packed: they lie on other pages, which the machine does not foresee.
const LINES_AHEAD: usize = 16;

/// Rows that are asked for ahead where panels are written past the caches, to wait in the second level.
const ROWS_AHEAD: usize = 128;

/// Rows of weights that one task packs where panels are written past the caches, and how many blocks of columns it takes from
/// each row at a time.
const ROWS: usize = 64;
const SIDE_BY_SIDE: usize = 4;

/// Packed weights: `groups` matrices of `columns` columns and `depth` rows. A block of the first lies before the same block
/// of the second, as a step reads them.
pub(super) struct Panels {
    storage: Buffer,
    groups: usize,
    columns: usize,
    depth: usize,
}

impl Panels {
    /// Column `j` of group `g` is row `g·columns + j` of `w`, `[groups·columns, depth]`.
    pub(super) fn of_rows<T: Float>(w: &[T], groups: usize, columns: usize, depth: usize) -> Panels {
        assert_eq!(w.len(), groups * columns * depth, "weights are [groups·columns, depth]");
        Panels::pack(w, groups, columns, depth, true)
    }

    /// The columns of `w`, `[depth, columns]`.
    pub(super) fn of_columns<T: Float>(w: &[T], columns: usize, depth: usize) -> Panels {
        assert_eq!(w.len(), columns * depth, "weights are [depth, columns]");
        Panels::pack(w, 1, columns, depth, false)
    }

    fn pack<T: Float>(w: &[T], groups: usize, columns: usize, depth: usize, turned: bool) -> Panels {
        let blocks = columns.div_ceil(BLOCK);
        let mut storage = Buffer::recycled(groups * blocks * BLOCK * depth * size_of::<T>());
        // Until a step needs them they would only push each other out.
        let past = caches::are_outgrown_by(storage.bytes());
        let base = SendPointer(storage.as_mut_slice::<T>().as_mut_ptr());
        if past && !turned && columns.is_multiple_of(BLOCK) {
            parallel(depth.div_ceil(ROWS), |task| {
                let rows = task * ROWS..depth.min((task + 1) * ROWS);
                // SAFETY: these rows lie inside `w`, their places inside the storage, and no other task writes them.
                unsafe { cpu::run(PackRows { w: w.as_ptr(), to: base.at(0), rows, depth, columns }) };
            });
            return Panels { storage, groups, columns, depth };
        }
        parallel(groups * blocks, |task| {
            // What is written past the caches is no core's: each packs the weights that follow each other, as an update wrote them.
            let (block, group) = if past { (task % blocks, task / blocks) } else { (task / groups, task % groups) };
            let first = block * BLOCK;
            let count = BLOCK.min(columns - first);
            let from = if turned { (group * columns + first) * depth } else { first };
            // SAFETY: the block's columns lie inside `w`, its panels inside the storage, and no other task writes them.
            unsafe {
                let (from, to) = (w.as_ptr().add(from), base.at((block * groups + group) * BLOCK * depth));
                cpu::run(Pack { from, to, count, depth, columns, turned, past });
            }
        });
        Panels { storage, groups, columns, depth }
    }

    /// `out[row, j] = Σ_k a[row, k]·w[k, j]` for `rows` rows of `a`, `[rows, depth]`, and some columns of a group, which
    /// must begin at a whole block. `out` has `stride` elements a row; up to a whole block of them is written.
    pub(super) fn multiply<T: Float>(
        &self,
        a: &[T],
        rows: usize,
        group: usize,
        columns: Range<usize>,
        out: &mut [T],
        stride: usize,
    ) {
        let blocks = columns.len().div_ceil(BLOCK);
        assert!(columns.start.is_multiple_of(BLOCK) && columns.end <= self.columns, "columns begin at a block");
        assert!(a.len() >= rows * self.depth && blocks * BLOCK <= stride && out.len() >= rows * stride, "room for all");
        let (size, apart) = (BLOCK * self.depth, self.groups * BLOCK * self.depth);
        let first = columns.start / BLOCK * apart + group * size;
        assert!(group < self.groups, "a group there is");
        let panels = self.storage.as_slice::<T>()[first..].as_ptr();
        let (a, out) = (a.as_ptr(), out.as_mut_ptr());
        // SAFETY: asserted above; the panels were packed for the same instruction set.
        unsafe { cpu::run(Multiply { rows, depth: self.depth, a, panels, blocks, apart, out, stride }) }
    }
}

/// One block of columns put into panels, filled up with zeros. `from` is valid for `count` columns, at most [`BLOCK`]:
/// element (k, j) at `j·depth + k` if `turned`, else at `k·columns + j`. `to` is valid for a whole block.
struct Pack<T> {
    from: *const T,
    to: *mut T,
    count: usize,
    depth: usize,
    columns: usize,
    turned: bool,
    /// Whether panels are written past the caches where that is done by whole lines.
    past: bool,
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl<T: Float> Work<T> for Pack<T> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        let Pack { from, to, count, depth, columns, turned, past } = self;
        let wide = 2 * V::LANES;
        if !turned && count == BLOCK {
            for k in 0..depth {
                let from = from.wrapping_add(k * columns);
                for first in (0..BLOCK).step_by(V::LANES) {
                    cpu::prefetch(from.wrapping_add(LINES_AHEAD * columns + first));
                    // SAFETY: all columns of the block exist; the target is half a panel, `wide` elements a row.
                    unsafe {
                        let to = to.add(first / wide * wide * depth + first % wide + k * wide);
                        V::load(from.add(first)).store(to);
                    }
                }
            }
            return;
        }
        let past = past && V::LANES * size_of::<T>() == caches::LINE;
        let (step, column) = if turned { (1, depth) } else { (columns, 1) };
        for first in (0..BLOCK).step_by(V::LANES) {
            let here = count.saturating_sub(first).min(V::LANES);
            let whole = here == V::LANES;
            // SAFETY: `here` columns from `first` exist; the target is half a panel, `wide` elements a row.
            unsafe {
                let from = from.wrapping_add(first * column);
                let to = to.add(first / wide * wide * depth + first % wide);
                let mut k = 0;
                while turned && whole && k + V::LANES <= depth {
                    let to = to.add(k * wide);
                    if past {
                        let mut tile = [[T::ZERO; TileShape::MAX_LANES]; TileShape::MAX_LANES];
                        let tile = tile.as_mut_ptr().cast::<T>();
                        (0..V::LANES)
                            .for_each(|j| cpu::prefetch_to_second(from.wrapping_add(j * depth + k + TURNED_AHEAD)));
                        V::transpose(|j| from.add(j * depth + k), tile, V::LANES);
                        for i in 0..V::LANES {
                            V::load(tile.add(i * V::LANES)).store_past_caches(to.add(i * wide));
                        }
                    } else {
                        V::transpose(|j| from.add(j * depth + k), to, wide);
                    }
                    k += V::LANES;
                }
                for k in k..depth {
                    let to = to.add(k * wide);
                    for j in 0..V::LANES {
                        *to.add(j) = if j < here { *from.add(k * step + j * column) } else { T::ZERO };
                    }
                }
            }
        }
        if past {
            cpu::fence();
        }
    }
}

/// Some rows of weights `[depth, columns]`, of whole blocks, put into all blocks' panels past the caches. Pointers are valid
/// for all weights and all panels.
struct PackRows<T> {
    w: *const T,
    to: *mut T,
    rows: Range<usize>,
    depth: usize,
    columns: usize,
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl<T: Float> Work<T> for PackRows<T> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        let PackRows { w, to, rows, depth, columns } = self;
        let wide = 2 * V::LANES;
        for side in (0..columns).step_by(SIDE_BY_SIDE * BLOCK) {
            for k in rows.clone() {
                let from = w.wrapping_add(k * columns);
                for first in (side..columns.min(side + SIDE_BY_SIDE * BLOCK)).step_by(V::LANES) {
                    cpu::prefetch_to_second(from.wrapping_add(ROWS_AHEAD * columns + first));
                    // SAFETY: the row has all columns, and its panels all rows.
                    unsafe {
                        let to = to.add(first / wide * wide * depth + k * wide + first % wide);
                        V::load(from.add(first)).store_past_caches(to);
                    }
                }
            }
        }
        cpu::fence();
    }
}

/// `out = a · panels`; pointers are valid for the sizes, as [`Panels::multiply`] asserts.
struct Multiply<T> {
    rows: usize,
    depth: usize,
    a: *const T,
    panels: *const T,
    blocks: usize,
    /// From one block to the next.
    apart: usize,
    out: *mut T,
    stride: usize,
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl<T: Float> Work<T> for Multiply<T> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        let wide = 2 * V::LANES;
        // Sixteen sums and what they need fit where there are 32 registers, eight where there are 16.
        let most = if V::ROWS >= 8 { 8 } else { 4 };
        let pass = if self.rows <= most { self.depth } else { PASS }.max(1);
        for panel in 0..self.blocks * (BLOCK / wide) {
            let (block, within) = (panel / (BLOCK / wide), panel % (BLOCK / wide));
            let weights = self.panels.wrapping_add(block * self.apart + within * self.depth * wide);
            for start in (0..self.depth).step_by(pass) {
                let length = pass.min(self.depth - start);
                let mut row = 0;
                while row < self.rows {
                    // SAFETY: some rows from `row` exist in `a` and `out`, as many as are used; the panel in the weights.
                    row += unsafe {
                        let a = self.a.add(row * self.depth + start);
                        let w = weights.wrapping_add(start * wide);
                        let out = self.out.add(row * self.stride + panel * wide);
                        match (self.rows - row).min(most) {
                            8.. => self.tile::<V, 8>(length, a, w, out, start > 0),
                            4.. => self.tile::<V, 4>(length, a, w, out, start > 0),
                            2.. => self.tile::<V, 2>(length, a, w, out, start > 0),
                            _ => self.tile::<V, 1>(length, a, w, out, start > 0),
                        }
                    };
                }
            }
        }
    }
}

impl<T: Float> Multiply<T> {
    /// Some rows times one panel; gives how many rows.
    #[inline(always)]
    unsafe fn tile<V: Vector<T>, const R: usize>(
        &self,
        length: usize,
        a: *const T,
        w: *const T,
        out: *mut T,
        add: bool,
    ) -> usize {
        let wide = 2 * V::LANES;
        // SAFETY: the caller's promise: `R` rows, `length` steps of the depth, two vectors of columns.
        unsafe {
            let mut sums = [[V::splat(T::ZERO); 2]; R];
            if add {
                for r in 0..R {
                    let at = out.add(r * self.stride);
                    sums[r] = [V::load(at), V::load(at.add(V::LANES))];
                }
            }
            for k in 0..length {
                let w = w.add(k * wide);
                cpu::prefetch(w.wrapping_add(AHEAD));
                cpu::prefetch(w.wrapping_add(AHEAD + V::LANES));
                let (low, high) = (V::load(w), V::load(w.add(V::LANES)));
                for r in 0..R {
                    let value = V::splat(*a.add(r * self.depth + k));
                    sums[r] = [value.mul_add(low, sums[r][0]), value.mul_add(high, sums[r][1])];
                }
            }
            for r in 0..R {
                let at = out.add(r * self.stride);
                sums[r][0].store(at);
                sums[r][1].store(at.add(V::LANES));
            }
        }
        R
    }
}
