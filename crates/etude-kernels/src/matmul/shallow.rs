//! Products of a short depth: the vectors of the right side stay in registers over all of it, while rows of the left side go
//! by, one after the other. A tile that holds its sums instead has hardly begun when it ends, and all its results are written
//! at once.

use super::kernel::Strip;
use crate::Float;
use crate::cpu::{self, InstructionSet, TileShape, Vector, Work};
use std::ops::Range;

/// The deepest right side that fits into thirty-two registers beside what a row needs, one vector wide.
const DEPTH: usize = 28;
/// The same two vectors wide.
pub(crate) const DEPTH_OF_TWO: usize = 14;
/// Rows that reading the right side pays for.
const ROWS: usize = 8;

type Columns<T> = unsafe fn(&Strip<T>, InstructionSet, Range<usize>, *const usize);

impl<T: Float> Strip<T> {
    /// The columns of one vector or of two, for each depth: each compiled by itself, so that vectors have registers of their
    /// own.
    const COLUMNS: [[Columns<T>; 2]; DEPTH] = [
        [Self::columns::<1, 1>, Self::columns::<1, 2>],
        [Self::columns::<2, 1>, Self::columns::<2, 2>],
        [Self::columns::<3, 1>, Self::columns::<3, 2>],
        [Self::columns::<4, 1>, Self::columns::<4, 2>],
        [Self::columns::<5, 1>, Self::columns::<5, 2>],
        [Self::columns::<6, 1>, Self::columns::<6, 2>],
        [Self::columns::<7, 1>, Self::columns::<7, 2>],
        [Self::columns::<8, 1>, Self::columns::<8, 2>],
        [Self::columns::<9, 1>, Self::columns::<9, 2>],
        [Self::columns::<10, 1>, Self::columns::<10, 2>],
        [Self::columns::<11, 1>, Self::columns::<11, 2>],
        [Self::columns::<12, 1>, Self::columns::<12, 2>],
        [Self::columns::<13, 1>, Self::columns::<13, 2>],
        [Self::columns::<14, 1>, Self::columns::<14, 2>],
        [Self::columns::<15, 1>; 2],
        [Self::columns::<16, 1>; 2],
        [Self::columns::<17, 1>; 2],
        [Self::columns::<18, 1>; 2],
        [Self::columns::<19, 1>; 2],
        [Self::columns::<20, 1>; 2],
        [Self::columns::<21, 1>; 2],
        [Self::columns::<22, 1>; 2],
        [Self::columns::<23, 1>; 2],
        [Self::columns::<24, 1>; 2],
        [Self::columns::<25, 1>; 2],
        [Self::columns::<26, 1>; 2],
        [Self::columns::<27, 1>; 2],
        [Self::columns::<28, 1>; 2],
    ];

    /// Whether [`Strip::shallow`] is the faster way for this strip.
    pub(super) fn is_shallow(&self, shape: TileShape) -> bool {
        let packed = self.a_row == 1 && self.a_step == shape.rows as isize;
        packed && suits(shape, self.depth) && self.rows >= ROWS
    }

    /// Computes the strip, whose left side is packed, to the same bits as [`Strip::compute_at`]. It may have any number of
    /// columns. Its depth must [suit](suits).
    ///
    /// # Safety
    /// As for [`Strip::compute_at`]; the right side must be readable for whole vectors.
    pub(crate) unsafe fn shallow(&self, places: Option<&[usize]>) {
        assert!(places.is_none_or(|places| places.len() >= self.depth));
        let set = cpu::instruction_set();
        let lanes = T::shape(set).lanes;
        let places = places.map_or(std::ptr::null(), <[usize]>::as_ptr);
        let pairs = if self.depth <= DEPTH_OF_TWO { self.columns.div_ceil(lanes) / 2 * 2 * lanes } else { 0 };
        let [one, two] = Self::COLUMNS[self.depth - 1];
        // SAFETY: the set is the chosen one; the rest is the caller's promise.
        unsafe {
            if pairs > 0 {
                two(self, set, 0..pairs.min(self.columns), places);
            }
            if pairs < self.columns {
                one(self, set, pairs..self.columns, places);
            }
        }
    }

    /// So many columns, `C` vectors at a time, at the depth `D`.
    unsafe fn columns<const D: usize, const C: usize>(
        &self,
        set: InstructionSet,
        columns: Range<usize>,
        places: *const usize,
    ) {
        // SAFETY: the set is the chosen one; the rest is the caller's promise.
        unsafe { T::dispatch(set, Shallow::<T, D, C> { strip: self, columns, places }) }
    }
}

/// Whether a right side of this depth fits into the registers: sixteen would be too few.
pub(crate) fn suits(shape: TileShape, depth: usize) -> bool {
    shape.rows > 6 && (1..=DEPTH).contains(&depth)
}

/// Columns of a strip.
struct Shallow<'a, T, const D: usize, const C: usize> {
    strip: &'a Strip<T>,
    columns: Range<usize>,
    /// Where each step of the depth lies in `b`; null if by its stride.
    places: *const usize,
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl<T: Float, const D: usize, const C: usize> Work<T> for Shallow<'_, T, D, C> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        if V::ROWS <= 6 {
            return; // Never asked for; without this it would be compiled all the same.
        }
        let Shallow { strip, columns, places } = self;
        // What lies behind the pointer could change with every result that is written, for all the compiler knows.
        let &Strip { rows, a, a_strip, b, b_step, c, c_row, add, .. } = strip;
        for column in columns.clone().step_by(C * V::LANES) {
            let (b, mut c) = (b.wrapping_add(column), c.wrapping_add(column));
            let last = (columns.end - column - (C - 1) * V::LANES).min(V::LANES);
            // SAFETY: `D` steps of `C` vectors are there to read, and rows of the left side; of `c` only `columns` are touched.
            unsafe {
                let mut right = [[V::splat(T::ZERO); C]; D];
                for p in 0..D {
                    let step = if places.is_null() { p as isize * b_step } else { *places.add(p) as isize };
                    for j in 0..C {
                        right[p][j] = V::load(b.wrapping_offset(step).add(j * V::LANES));
                    }
                }
                for row in (0..rows).step_by(V::ROWS) {
                    let panel = a.wrapping_offset((row / V::ROWS) as isize * a_strip);
                    for a in (0..V::ROWS.min(rows - row)).map(|i| panel.add(i)) {
                        let mut sums = [V::splat(T::ZERO); C];
                        for p in 0..D {
                            let left = V::splat(*a.add(p * V::ROWS));
                            for j in 0..C {
                                sums[j] = left.mul_add(right[p][j], sums[j]);
                            }
                        }
                        for j in 0..C {
                            let count = if j + 1 < C { V::LANES } else { last };
                            write(sums[j], c.add(j * V::LANES), count, add);
                        }
                        c = c.wrapping_add(c_row);
                    }
                }
            }
        }
    }
}

/// Writes the first `count` elements of a row's sums, or adds them to what is there.
#[inline(always)]
unsafe fn write<T: Float, V: Vector<T>>(sum: V, at: *mut T, count: usize, add: bool) {
    // SAFETY: the caller's promise.
    unsafe {
        match (count == V::LANES, add) {
            (true, false) => sum.store(at),
            (true, true) => V::load(at).add(sum).store(at),
            (false, false) => sum.store_part(at, count),
            (false, true) => V::load_part(at, count).add(sum).store_part(at, count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::forced;

    fn same_bits_as_tiles<T: Float>() {
        let shape = TileShape::of::<T>();
        let value = |i: usize| T::from_f64(((i * 7 + 3) % 13) as f64 / 7.0 - 0.8);
        for (depth, columns, rows) in (1..=DEPTH + 1).map(|depth| (depth, 1 + depth * 11 % 75, 1 + depth * 5 % 29)) {
            if !suits(shape, depth) {
                continue;
            }
            let width = columns.next_multiple_of(shape.columns);
            let places: Vec<usize> = (0..depth).map(|p| (p * 5 % depth) * width).collect();
            let a: Vec<T> = (0..rows.next_multiple_of(shape.rows) * depth).map(value).collect();
            let b: Vec<T> = (0..depth * width).map(value).collect();
            for (add, places) in [(false, None), (true, Some(&places[..]))] {
                let before: Vec<T> = (0..rows * (columns + 3)).map(value).collect();
                let strip = |first: usize, columns: usize, c: &mut Vec<T>| Strip {
                    rows,
                    depth,
                    columns,
                    a: a.as_ptr(),
                    a_row: 1,
                    a_strip: (shape.rows * depth) as isize,
                    a_step: shape.rows as isize,
                    b: b[first..].as_ptr(),
                    b_step: width as isize,
                    c: c[first..].as_mut_ptr(),
                    c_row: before.len() / rows,
                    add,
                };
                let (mut by_tiles, mut c) = (before.clone(), before.clone());
                // SAFETY: the vectors are as large as the strips say, and tiles take as many columns as they hold.
                unsafe {
                    for first in (0..columns).step_by(shape.columns) {
                        let tiles = strip(first, shape.columns.min(columns - first), &mut by_tiles);
                        tiles.tiles(places.map_or(std::ptr::null(), <[usize]>::as_ptr), false);
                    }
                    strip(0, columns, &mut c).shallow(places);
                }
                assert!(c == by_tiles, "{rows} × {depth} × {columns}, add {add}");
            }
        }
    }

    #[test]
    fn short_sums_have_the_bits_of_tiles_at_odd_sizes() {
        forced::on_each_set(|_| {
            same_bits_as_tiles::<f32>();
            same_bits_as_tiles::<f64>();
        });
    }
}
