//! The innermost loops: a tile of some rows and two vectors of columns held in registers over the whole depth, and a
//! block of dot products. The tile's size is [`cpu::TileShape`]'s.

use crate::Float;
use crate::cpu::caches::LINE;
use crate::cpu::{self, InstructionSet, TileShape, Vector, Work};

/// A product with one strip of columns: `c[rows, columns] (+)= a[rows, depth] · b[depth, columns]`, `columns` at most a
/// tile's. Its pointers must be valid for the strides and sizes given; `b` must be readable for whole vectors (both, or
/// the first alone if `columns` fits in it).
pub(crate) struct Strip<T> {
    pub rows: usize,
    pub depth: usize,
    pub columns: usize,
    /// Element (i, p) lies at `i % r · a_row + i / r · a_strip + p · a_step`, where `r` are the rows of a tile: packed
    /// panels have `a_row` 1, `a_step` r and `a_strip` r · depth, a plain matrix has `a_strip` = r · `a_row`.
    pub a: *const T,
    pub a_row: isize,
    pub a_strip: isize,
    pub a_step: isize,
    /// Element (p, j) lies at `p · b_step + j`.
    pub b: *const T,
    pub b_step: isize,
    /// Element (i, j) lies at `i · c_row + j`.
    pub c: *mut T,
    pub c_row: usize,
    /// Whether to add to `c` or to overwrite it.
    pub add: bool,
}

/// Steps of the depth that the right side is asked for ahead, for it comes from the second-level cache or from beyond.
const AHEAD: isize = 16;

impl<T: Float> Strip<T> {
    /// One tile for each number of rows, of one or of two vectors. Each is compiled by itself: one function that holds
    /// them all would keep neither its sums nor its strides in registers.
    const TILES: [[unsafe fn(&Self, InstructionSet, usize, *const usize, bool); 2]; 12] = [
        [Self::tile::<1, 1>, Self::tile::<1, 2>],
        [Self::tile::<2, 1>, Self::tile::<2, 2>],
        [Self::tile::<3, 1>, Self::tile::<3, 2>],
        [Self::tile::<4, 1>, Self::tile::<4, 2>],
        [Self::tile::<5, 1>, Self::tile::<5, 2>],
        [Self::tile::<6, 1>, Self::tile::<6, 2>],
        [Self::tile::<7, 1>, Self::tile::<7, 2>],
        [Self::tile::<8, 1>, Self::tile::<8, 2>],
        [Self::tile::<9, 1>, Self::tile::<9, 2>],
        [Self::tile::<10, 1>, Self::tile::<10, 2>],
        [Self::tile::<11, 1>, Self::tile::<11, 2>],
        [Self::tile::<12, 1>, Self::tile::<12, 2>],
    ];

    /// Computes the strip.
    ///
    /// # Safety
    /// The fields must describe valid memory, as documented on the type; `c` must not overlap `a` or `b`.
    pub(crate) unsafe fn compute(self) {
        // SAFETY: the caller's promise.
        unsafe { self.tiles(std::ptr::null(), false) }
    }

    /// As [`Strip::compute`] for a packed left side, but element (p, j) of the right side lies at `places[p] + j` if there are
    /// `places`, which are near and need not be asked for. If `past`, `c`, which must not be added to then, is written past the
    /// caches where its lines lie so that it can be; the caller fences ([`cpu::fence`]) before another thread may look.
    ///
    /// # Safety
    /// As for [`Strip::compute`].
    pub(crate) unsafe fn compute_at(&self, places: Option<&[usize]>, past: bool) {
        assert!(places.is_none_or(|places| places.len() >= self.depth) && self.a_row == 1);
        let shape = T::shape(cpu::instruction_set());
        let TileShape { lanes, .. } = shape;
        let whole = self.columns.is_multiple_of(lanes);
        let aligned = (self.c as usize | (self.c_row * size_of::<T>())).is_multiple_of(LINE);
        let past = past && whole && aligned && !self.add;
        // SAFETY: the caller's promise.
        unsafe {
            // Past the caches single lines go far slower than pairs of them.
            match !past && self.is_shallow(shape) {
                true => self.shallow(places),
                false => self.tiles(places.map_or(std::ptr::null(), <[usize]>::as_ptr), past),
            }
        }
    }

    /// All tiles; `places` are null where the right side has a stride. Both options go from call to call by themselves: what is
    /// written in pieces and then read as a whole waits for all stores before it.
    pub(super) unsafe fn tiles(&self, places: *const usize, past: bool) {
        let set = cpu::instruction_set();
        let TileShape { rows: tall, lanes, .. } = T::shape(set);
        let column = usize::from(self.columns > lanes);
        // The rows of a plain matrix are dealt evenly; those of packed strips are what they are.
        let plain = self.a_strip == tall as isize * self.a_row;
        let step = if plain { self.rows.div_ceil(self.rows.div_ceil(tall).max(1)).max(1) } else { tall };
        for row in (0..self.rows).step_by(step) {
            let rows = step.min(self.rows - row);
            // SAFETY: rows `row..row + rows` exist in `a` and `c`.
            unsafe { Self::TILES[rows - 1][column](self, set, row, places, past) };
        }
    }

    /// The tile of `R` rows from `row`, `C` vectors wide.
    unsafe fn tile<const R: usize, const C: usize>(
        &self,
        set: InstructionSet,
        row: usize,
        places: *const usize,
        past: bool,
    ) {
        let TileShape { rows: tall, .. } = T::shape(set);
        let offset = (row / tall) as isize * self.a_strip + (row % tall) as isize * self.a_row;
        let (a, c) = (self.a.wrapping_offset(offset), self.c.wrapping_add(row * self.c_row));
        // SAFETY: the set is the chosen one; the rest is the caller's promise.
        unsafe { T::dispatch(set, Tile::<T, R, C> { strip: self, a, c, places, past }) }
    }
}

/// A tile of a strip, from `a` and `c`.
struct Tile<'a, T, const R: usize, const C: usize> {
    strip: &'a Strip<T>,
    a: *const T,
    c: *mut T,
    /// Where each step of the depth lies in `b`; null if by its stride.
    places: *const usize,
    /// Whether `c` is written past the caches: it begins at a line, as its rows do, and no column is missing.
    past: bool,
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl<T: Float, const R: usize, const C: usize> Work<T> for Tile<'_, T, R, C> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        if R > V::ROWS {
            return; // Never asked for; without this the tile would be compiled all the same.
        }
        let Tile { strip, a, c, places, past } = self;
        let (depth, c_row) = (strip.depth, strip.c_row);
        // SAFETY: `R` rows and `C` vectors of columns are there to read; of `c` only `columns` are touched.
        unsafe {
            for i in 0..if past { 0 } else { R } {
                for j in 0..C {
                    if (j * V::LANES * size_of::<T>()).is_multiple_of(LINE) {
                        cpu::prefetch_to_write(c.wrapping_add(i * c_row + j * V::LANES));
                    }
                }
            }
            // One stride as a constant becomes part of the instructions.
            let sums: [[V; C]; R] = match strip.a_row {
                _ if !places.is_null() => accumulate_at(depth, a, strip.a_step, strip.b, places),
                1 => accumulate(depth, a, 1, strip.a_step, strip.b, strip.b_step),
                a_row => accumulate(depth, a, a_row, strip.a_step, strip.b, strip.b_step),
            };
            let last = strip.columns - (C - 1) * V::LANES;
            if past {
                for i in 0..R {
                    for j in 0..C {
                        sums[i][j].store_past_caches(c.add(i * c_row + j * V::LANES));
                    }
                }
                return;
            }
            if last == V::LANES {
                for i in 0..R {
                    for j in 0..C {
                        let at = c.add(i * c_row + j * V::LANES);
                        if strip.add { V::load(at).add(sums[i][j]).store(at) } else { sums[i][j].store(at) }
                    }
                }
            } else {
                for i in 0..R {
                    for j in 0..C - 1 {
                        let at = c.add(i * c_row + j * V::LANES);
                        if strip.add { V::load(at).add(sums[i][j]).store(at) } else { sums[i][j].store(at) }
                    }
                    let at = c.add(i * c_row + (C - 1) * V::LANES);
                    let sum = sums[i][C - 1];
                    let sum = if strip.add { V::load_part(at, last).add(sum) } else { sum };
                    sum.store_part(at, last);
                }
            }
        }
    }
}

/// The sums of one tile over the depth.
#[inline(always)]
unsafe fn accumulate<T: Float, V: Vector<T>, const R: usize, const C: usize>(
    depth: usize,
    mut a: *const T,
    a_row: isize,
    a_step: isize,
    mut b: *const T,
    b_step: isize,
) -> [[V; C]; R] {
    // SAFETY: the caller's promise covers `depth` steps of both sides.
    unsafe {
        let mut sums = [[V::splat(T::ZERO); C]; R];
        let ahead = AHEAD * b_step;
        for _ in 0..depth {
            let mut right = [V::splat(T::ZERO); C];
            for j in 0..C {
                right[j] = V::load(b.add(j * V::LANES));
                if (j * V::LANES * size_of::<T>()).is_multiple_of(LINE) {
                    cpu::prefetch(b.wrapping_offset(ahead).wrapping_add(j * V::LANES));
                }
            }
            multiply(&mut sums, a, a_row, &right);
            a = a.wrapping_offset(a_step);
            b = b.wrapping_offset(b_step);
        }
        sums
    }
}

/// The same with a packed left side, where step p of the right side lies at `places[p]`.
#[inline(always)]
unsafe fn accumulate_at<T: Float, V: Vector<T>, const R: usize, const C: usize>(
    depth: usize,
    mut a: *const T,
    a_step: isize,
    b: *const T,
    places: *const usize,
) -> [[V; C]; R] {
    // SAFETY: as above, and there are as many places.
    unsafe {
        let mut sums = [[V::splat(T::ZERO); C]; R];
        for step in 0..depth {
            let b = b.wrapping_add(*places.add(step));
            let mut right = [V::splat(T::ZERO); C];
            for j in 0..C {
                right[j] = V::load(b.add(j * V::LANES));
            }
            multiply(&mut sums, a, 1, &right);
            a = a.wrapping_offset(a_step);
        }
        sums
    }
}

/// One step of the depth.
#[inline(always)]
unsafe fn multiply<T: Float, V: Vector<T>, const R: usize, const C: usize>(
    sums: &mut [[V; C]; R],
    a: *const T,
    a_row: isize,
    right: &[V; C],
) {
    // SAFETY: the caller's promise: the left side has `R` rows.
    unsafe {
        for i in 0..R {
            let left = V::splat(*a.offset(i as isize * a_row));
            for j in 0..C {
                sums[i][j] = left.mul_add(right[j], sums[i][j]);
            }
        }
    }
}

/// All dot products of `xs` rows of `x` with `ys` rows of `y`, each contiguous over `depth`:
/// `out[i · out_x + j · out_y] = Σ_p x[i · x_row + p] · y[j · y_row + p]`. Pointers must be valid for all of it.
pub(crate) struct Dots<T> {
    pub depth: usize,
    pub x: *const T,
    pub xs: usize,
    pub x_row: isize,
    pub y: *const T,
    pub ys: usize,
    pub y_row: isize,
    pub out: *mut T,
    pub out_x: usize,
    pub out_y: usize,
}

impl<T: Float> Dots<T> {
    /// Computes all of them; each row of `y` is read from memory once, `x` should fit a cache.
    ///
    /// # Safety
    /// The fields must describe valid memory, as documented on the type; `out` must not overlap `x` or `y`.
    pub(crate) unsafe fn compute(self) {
        // SAFETY: the caller's promise.
        unsafe { cpu::run(self) }
    }

    /// The products of one group of `Y` rows of `y` with every row of `x`.
    #[inline(always)]
    unsafe fn group<V: Vector<T>, const Y: usize>(&self, j: usize) {
        let mut i = 0;
        while i < self.xs {
            // SAFETY: rows `i..` of x and `j..j + Y` of y exist, at most as many as are used.
            unsafe {
                match self.xs - i {
                    1 => self.block::<V, 1, Y>(i, j),
                    2 => self.block::<V, 2, Y>(i, j),
                    _ => self.block::<V, 3, Y>(i, j),
                }
            }
            i += 3;
        }
    }

    #[inline(always)]
    unsafe fn block<V: Vector<T>, const X: usize, const Y: usize>(&self, i: usize, j: usize) {
        // SAFETY: the rows exist, and each holds `depth` elements.
        unsafe {
            let x = self.x.wrapping_offset(i as isize * self.x_row);
            let y = self.y.wrapping_offset(j as isize * self.y_row);
            let mut sums = [[V::splat(T::ZERO); X]; Y];
            let mut p = 0;
            while p < self.depth {
                // The last vector is read in part and filled up with zeros.
                let rest = self.depth - p;
                let load = |from: *const T| match rest < V::LANES {
                    true => V::load_part(from, rest),
                    false => V::load(from),
                };
                let mut left = [V::splat(T::ZERO); X];
                for i in 0..X {
                    left[i] = load(x.offset(i as isize * self.x_row).add(p));
                }
                for j in 0..Y {
                    let right = load(y.offset(j as isize * self.y_row).add(p));
                    for i in 0..X {
                        sums[j][i] = left[i].mul_add(right, sums[j][i]);
                    }
                }
                p += V::LANES;
            }
            for b in 0..Y {
                for a in 0..X {
                    *self.out.add((i + a) * self.out_x + (j + b) * self.out_y) = sums[b][a].sum();
                }
            }
        }
    }
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl<T: Float> Work<T> for Dots<T> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        let mut j = 0;
        while j < self.ys {
            // SAFETY: rows `j..` exist, at most as many as are used.
            unsafe {
                match self.ys - j {
                    1 => self.group::<V, 1>(j),
                    2 => self.group::<V, 2>(j),
                    3 => self.group::<V, 3>(j),
                    _ => self.group::<V, 4>(j),
                }
            }
            j += 4;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::forced;

    fn check<T: Float>() {
        let shape = TileShape::of::<T>();
        for (rows, depth, width, add) in [
            (1, 1, 1, false),
            (6, 9, 16, true),
            (13, 31, 7, true),
            (17, 4, 8, false),
            (5, 0, 5, false),
            (4, 8, 3, true),
            (12, 5, 32, true),
            (35, 6, 29, true),
            (23, 3, 17, false),
            (22, 2, 15, true),
        ] {
            let width = width.min(shape.columns);
            let value = |i: usize| T::from_f64(((i * 7 + 3) % 11) as f64 - 5.0);
            let a: Vec<T> = (0..rows * depth).map(value).collect();
            let b: Vec<T> = (0..depth * shape.columns).map(value).collect();
            let mut c: Vec<T> = (0..rows * 40).map(value).collect();
            let before = c.clone();
            let strip = Strip {
                rows,
                depth,
                columns: width,
                a: a.as_ptr(),
                a_row: depth as isize,
                a_strip: (shape.rows * depth) as isize,
                a_step: 1,
                b: b.as_ptr(),
                b_step: shape.columns as isize,
                c: c.as_mut_ptr(),
                c_row: 40,
                add,
            };
            // SAFETY: the vectors are as large as the strip says.
            unsafe { strip.compute() }
            for i in 0..rows {
                for j in 0..40 {
                    let mut expected = if j >= width || add { before[i * 40 + j].to_f64() } else { 0.0 };
                    if j < width {
                        expected +=
                            (0..depth).map(|p| (a[i * depth + p] * b[p * shape.columns + j]).to_f64()).sum::<f64>();
                    }
                    assert_eq!(c[i * 40 + j].to_f64(), expected, "{rows} {depth} {width}, element {i} {j}");
                }
            }
            let (xs, ys) = (rows, shape.columns.min(5));
            let mut out = vec![T::ZERO; xs * ys];
            let dots = Dots {
                depth,
                x: a.as_ptr(),
                xs,
                x_row: depth as isize,
                y: b.as_ptr(),
                ys,
                y_row: depth as isize,
                out: out.as_mut_ptr(),
                out_x: ys,
                out_y: 1,
            };
            // SAFETY: the vectors are as large as the block says.
            unsafe { dots.compute() }
            for i in 0..xs {
                for j in 0..ys {
                    let expected: f64 = (0..depth).map(|p| (a[i * depth + p] * b[j * depth + p]).to_f64()).sum();
                    assert_eq!(out[i * ys + j].to_f64(), expected);
                }
            }
        }
    }

    #[test]
    fn tiles_and_dots_are_exact_on_small_integers() {
        forced::on_each_set(|_| {
            check::<f32>();
            check::<f64>();
        });
    }
}
