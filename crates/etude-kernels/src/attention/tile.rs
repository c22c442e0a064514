//! What both ways share: right sides of products, and the tile of scores.

use super::Attention;
use crate::Float;
use crate::cpu::{TileShape, Vector, caches};
use crate::matmul::kernel::Strip;
use crate::matmul::pack;
use std::ops::Range;

/// `columns` filled up to whole strips.
pub(super) fn packed(columns: usize, wide: usize) -> usize {
    columns.next_multiple_of(wide)
}

/// Cuts `room` into pieces of these sizes.
pub(super) fn cut<T, const N: usize>(mut room: &mut [T], sizes: [usize; N]) -> [&mut [T]; N] {
    sizes.map(|size| {
        let (piece, rest) = std::mem::take(&mut room).split_at_mut(size);
        room = rest;
        piece
    })
}

/// A right side in strips of a tile's columns: element (p, j) of strip s lies at `s · strip + p · step + j`.
#[derive(Clone, Copy)]
pub(super) struct Right<T> {
    data: *const T,
    strip: usize,
    step: isize,
}

impl<T: Float> Right<T> {
    /// A right side `[depth, columns]`, packed into `room`.
    ///
    /// # Safety
    /// The source must be valid for the sizes and strides.
    pub(super) unsafe fn packed(
        depth: usize,
        columns: usize,
        source: *const T,
        step: isize,
        column: isize,
        room: &mut [T],
    ) -> Right<T> {
        let wide = TileShape::of::<T>().columns;
        assert!(room.len() >= depth * packed(columns, wide), "room for whole strips");
        // SAFETY: the caller's promise; there is room.
        unsafe { pack::right(depth, columns, source, step, column, room.as_mut_ptr()) };
        Right { data: room.as_ptr(), strip: depth * wide, step: wide as isize }
    }

    /// The same where it lies if its lines are whole vectors, and `block` of them, as many as are read together, stay in the
    /// first-level cache beside each other; else packed.
    ///
    /// # Safety
    /// The source must be valid for the sizes and strides as long as the result is used.
    pub(super) unsafe fn in_place(
        depth: usize,
        columns: usize,
        source: *const T,
        step: isize,
        column: isize,
        block: usize,
        room: &mut [T],
    ) -> Right<T> {
        let TileShape { columns: wide, lanes, .. } = TileShape::of::<T>();
        let apart = step.unsigned_abs() * size_of::<T>();
        if column == 1 && columns.is_multiple_of(lanes) && caches::first_level_holds(block.min(depth), apart) {
            return Right { data: source, strip: wide, step };
        }
        // SAFETY: the caller's promise.
        unsafe { Right::packed(depth, columns, source, step, column, room) }
    }

    /// From line `line` of the depth on.
    pub(super) fn line(self, line: usize) -> Right<T> {
        Right { data: self.data.wrapping_offset(line as isize * self.step), ..self }
    }

    /// From column `column` on, which begins a strip.
    pub(super) fn column(self, column: usize) -> Right<T> {
        Right { data: self.data.wrapping_add(column / TileShape::of::<T>().columns * self.strip), ..self }
    }
}

/// What the causal rule leaves of a product. Key j of a block may be looked at by the rows (queries) from j − `.0` on.
#[derive(Clone, Copy)]
pub(super) enum Triangle {
    /// All of it.
    Whole,
    /// Queries times keys: the last columns of the first rows are left out.
    Columns(isize),
    /// Weights times keys or values: the depth of a row ends with its last key.
    End(isize),
    /// Weights, turned, times queries: the depth of a key begins with its first query.
    Start(isize),
}

/// Sizes of a product `c[rows, columns] (+)= a[rows, depth] · b[depth, columns]`.
pub(super) struct Product {
    pub(super) rows: usize,
    pub(super) depth: usize,
    pub(super) columns: usize,
    /// What is left out, tile by tile: of columns that a tile of rows needs none of, nothing is written, and of the
    /// depth only what is an exact 0.
    pub(super) triangle: Triangle,
}

impl Product {
    /// # Safety
    /// `a`, `b` and `c` must be valid for the sizes and strides; `c` must not overlap the others.
    pub(super) unsafe fn run<T: Float>(
        &self,
        a: *const T,
        a_row: isize,
        a_step: isize,
        right: Right<T>,
        c: *mut T,
        c_row: usize,
        add: bool,
    ) {
        let Product { rows, depth, .. } = *self;
        let TileShape { rows: tall, columns: wide, lanes } = TileShape::of::<T>();
        let (a_strip, b_step) = (tall as isize * a_row, right.step);
        // Dealt evenly, as a strip deals the rows of its tiles.
        let step = if self.is_whole() { rows } else { rows.div_ceil(rows.div_ceil(tall)) };
        for first in (0..self.columns).step_by(wide) {
            for row in (0..rows).step_by(step.max(1)) {
                let rows = step.min(rows - row);
                let (mut columns, mut part) = (wide.min(self.columns - first), 0..depth);
                let seen = |shift: isize| (row + rows).saturating_add_signed(shift);
                match self.triangle {
                    Triangle::Whole => {}
                    Triangle::Columns(shift) => {
                        // Whole vectors are written faster than parts.
                        columns = columns.min(seen(shift).saturating_sub(first).next_multiple_of(lanes));
                    }
                    Triangle::End(shift) => part.end = depth.min(seen(shift)),
                    Triangle::Start(shift) => part.start = depth.min(row.saturating_add_signed(-shift)),
                }
                if columns == 0 {
                    continue;
                }
                let depth = part.len();
                let a = a.wrapping_offset(row as isize * a_row + part.start as isize * a_step);
                let (b, c) = (right.column(first).line(part.start).data, c.wrapping_add(row * c_row + first));
                // SAFETY: the caller's promise.
                unsafe {
                    Strip { rows, depth, columns, a, a_row, a_strip, a_step, b, b_step, c, c_row, add }.compute()
                };
            }
        }
    }

    /// Whether nothing is left out.
    fn is_whole(&self) -> bool {
        match self.triangle {
            Triangle::Whole => true,
            Triangle::Columns(shift) => self.columns as isize <= shift + 1,
            Triangle::End(shift) => self.depth as isize <= shift + 1,
            Triangle::Start(shift) => self.rows as isize <= shift + 1,
        }
    }
}

/// The mask of one head: where it lies, and its row and column strides.
#[derive(Clone, Copy)]
pub(super) enum HeadMask<T> {
    None,
    Allowed(*const u8, (isize, isize)),
    Added(*const T, (isize, isize)),
}

/// Which scores of a head a tile holds.
pub(super) struct Tile<T> {
    pub(super) queries: Range<usize>,
    pub(super) keys: Range<usize>,
    pub(super) scale: T,
    pub(super) causal: bool,
    pub(super) mask: HeadMask<T>,
}

impl<T: Float> Tile<T> {
    pub(super) fn new(what: &Attention<T>, b: usize, h: usize, queries: Range<usize>, keys: Range<usize>) -> Tile<T> {
        let (scale, mask) = (T::from_f64(what.scale), what.mask.head(b, h));
        Tile { queries, keys, scale, causal: what.causal, mask }
    }

    /// How many keys of the tile row `row` may look at by the causal rule.
    #[inline(always)]
    fn limit(&self, row: usize) -> usize {
        if !self.causal {
            return self.keys.len();
        }
        (self.queries.start + row + 1).saturating_sub(self.keys.start).min(self.keys.len())
    }

    /// Makes the products of row `row` scores, scaled and masked, but for a factor. Returns how many keys the row may look
    /// at by the causal rule, behind which everything stays, and the factor, which is more than 0.
    ///
    /// # Safety
    /// `line` must hold the tile's keys, and the mask's elements of this row and of these keys must be there.
    #[inline(always)]
    pub(super) unsafe fn scores(&self, line: *mut T, row: usize) -> (usize, T) {
        let limit = self.limit(row);
        if let (HeadMask::None, true) = (self.mask, self.scale > T::ZERO) {
            return (limit, self.scale);
        }
        // SAFETY: the caller's promise; there are no more than the tile's keys.
        let line = unsafe { std::slice::from_raw_parts_mut(line, limit) };
        line.iter_mut().for_each(|score| *score = *score * self.scale);
        let query = (self.queries.start + row) as isize;
        for (key, score) in line.iter_mut().enumerate() {
            let key = (self.keys.start + key) as isize;
            // SAFETY: the caller's promise.
            unsafe {
                match self.mask {
                    HeadMask::None => break,
                    HeadMask::Allowed(mask, (row, column)) => {
                        if *mask.offset(query * row + key * column) == 0 {
                            *score = T::NEG_INFINITY;
                        }
                    }
                    HeadMask::Added(mask, (row, column)) => *score += *mask.offset(query * row + key * column),
                }
            }
        }
        (limit, T::ONE)
    }

    /// How far a tile's rows lie behind its keys, for [`Triangle`].
    pub(super) fn shift(&self) -> isize {
        self.queries.start as isize - self.keys.start as isize
    }
}

/// Numbers behind `limit` become 0, as far as a tile of rows may read them for its other rows' sake, `keys` at most.
///
/// # Safety
/// `line` must hold so many keys; the machine must have `V`.
#[inline(always)]
pub(super) unsafe fn clear_behind<T: Float, V: Vector<T>>(line: *mut T, limit: usize, keys: usize) {
    let end = keys.min(limit + V::ROWS);
    for at in (limit..end).step_by(V::LANES) {
        // SAFETY: the caller's promise.
        unsafe { V::splat(T::ZERO).store_part(line.add(at), V::LANES.min(end - at)) };
    }
}
