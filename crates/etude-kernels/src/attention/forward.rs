//! Forwards: the output, and the logarithm of each row's sum of exponentials.

use super::tile::{Product, Right, Tile, Triangle, clear_behind, cut, packed};
use super::{Attention, AttentionSizes, Heads, KEYS, QUERIES};
use crate::Float;
use crate::cpu::{self, TileShape, Vector, Work};
use crate::lanes::{self, Pass, Sums, exp};
use crate::matmul::scratch::{self, Purpose};
use crate::threads::{SendPointer, parallel};

/// The body of [`super::forward`], compiled once for each type in this crate.
pub(crate) fn forward_body<T: Float>(
    what: &Attention<T>,
    q: Heads<T>,
    k: Heads<T>,
    v: Heads<T>,
    out: &mut [T],
    log_sums: &mut [T],
) {
    let AttentionSizes { batch, heads, queries, keys, width, values } = what.sizes;
    what.check(&q, &k, &v);
    assert_eq!(out.len(), batch * queries * heads * values, "out is [batch, queries, heads, values]");
    assert_eq!(log_sums.len(), batch * heads * queries, "log_sums is [batch, heads, queries]");
    if keys == 0 {
        out.fill(T::ZERO);
        log_sums.fill(T::NEG_INFINITY);
        return;
    }
    let wide = TileShape::of::<T>().columns;
    // Keys and values are packed by each task, so that a task wants many queries; but there should be tasks.
    let each = QUERIES * if batch * heads >= 8 { 10 } else { 2 };
    let chunks = queries.div_ceil(each);
    let (out, log_sums) = (SendPointer(out.as_mut_ptr()), SendPointer(log_sums.as_mut_ptr()));
    parallel(batch * heads * chunks, |task| {
        let (b, h, first) = (task / chunks / heads, task / chunks % heads, task % chunks * each);
        let end = queries.min(first + each);
        let reach = what.reach(end);
        let sizes = [packed(reach, wide) * width, reach * packed(values, wide), QUERIES * KEYS, QUERIES, QUERIES];
        scratch::with(Purpose::Partial, sizes.iter().sum(), |room| {
            let [turned_keys, packed_values, scores, top, sum] = cut(room, sizes);
            let ((q_row, q_step), (k_row, k_step), (v_row, v_step)) = (q.steps(), k.steps(), v.steps());
            // SAFETY: the head's elements lie inside their data, as checked.
            let (turned_keys, values_right) = unsafe {
                (
                    Right::packed(width, reach, k.head(b, h), k_step, k_row, turned_keys),
                    Right::in_place(reach, values, v.head(b, h), v_row, v_step, KEYS, packed_values),
                )
            };
            for start in (first..end).step_by(QUERIES) {
                let rows = QUERIES.min(end - start);
                let queries_here = start..start + rows;
                let q = q.head(b, h).wrapping_offset(start as isize * q_row);
                let reach = what.reach(queries_here.end);
                top[..rows].fill(T::NEG_INFINITY);
                sum[..rows].fill(T::ZERO);
                // SAFETY: rows `queries_here` of this head, which only this task writes, lie inside the outputs; tiles
                // of scores have room for a block; packed sides were just filled that far.
                unsafe {
                    let out = out.at(((b * queries + start) * heads + h) * values);
                    for first_key in (0..reach).step_by(KEYS) {
                        let count = KEYS.min(reach - first_key);
                        let tile = Tile::new(what, b, h, queries_here.clone(), first_key..first_key + count);
                        let [columns, depth_end] = match what.causal {
                            true => [Triangle::Columns(tile.shift()), Triangle::End(tile.shift())],
                            false => [Triangle::Whole; 2],
                        };
                        let product = Product { rows, depth: width, columns: count, triangle: columns };
                        let right = turned_keys.column(first_key);
                        product.run(q, q_row, q_step, right, scores.as_mut_ptr(), KEYS, false);
                        cpu::run(Softmax {
                            tile,
                            scores: scores.as_mut_ptr(),
                            top: top.as_mut_ptr(),
                            sum: sum.as_mut_ptr(),
                            out,
                            out_row: heads * values,
                            values,
                        });
                        let product = Product { rows, depth: count, columns: values, triangle: depth_end };
                        let right = values_right.line(first_key);
                        product.run(scores.as_ptr(), KEYS as isize, 1, right, out, heads * values, first_key > 0);
                    }
                    cpu::run(Finish {
                        top: &top[..rows],
                        sum: &sum[..rows],
                        log_sums: log_sums.at((b * heads + h) * queries + start),
                        out,
                        out_row: heads * values,
                        values,
                    });
                }
            }
        });
    });
}

/// A tile's products become weights `exp(score − top)`; the rows' largest scores, sums and outputs so far are brought to
/// the new top. `scores` has rows of `KEYS`, `top` and `sum` one number a row, `out` a row of `values` each.
struct Softmax<T> {
    tile: Tile<T>,
    scores: *mut T,
    top: *mut T,
    sum: *mut T,
    out: *mut T,
    out_row: usize,
    values: usize,
}

// SAFETY: everything is inlined.
unsafe impl<T: Float> Work<T> for Softmax<T> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        for row in 0..self.tile.queries.len() {
            // SAFETY: the row lies inside the tile, whose rows are whole blocks; the others have as many rows.
            unsafe {
                let (line, top, sum) = (self.scores.add(row * KEYS), &mut *self.top.add(row), &mut *self.sum.add(row));
                let (limit, scale) = self.tile.scores(line, row);
                let largest = lanes::maximum::<T, V>(limit, line) * scale;
                let new = if largest > *top { largest } else { *top };
                // Where nothing could be seen so far, there is nothing to subtract.
                let shift = if new == T::NEG_INFINITY { T::ZERO } else { new };
                let [here] = lanes::sums::<T, V, 1>(limit, Exponentials { line, scale, shift });
                clear_behind::<T, V>(line, limit, self.tile.keys.len());
                let first = self.tile.keys.start == 0;
                let before = if first || *top == new { T::ONE } else { exp::<T, V>(*top - shift) };
                if before != T::ONE {
                    lanes::pass::<T, V>(self.values, Times { x: self.out.add(row * self.out_row), by: before });
                }
                *sum = *sum * before + here;
                *top = new;
            }
        }
    }
}

/// Sums over all keys become outputs and logarithms.
struct Finish<'a, T> {
    top: &'a [T],
    sum: &'a [T],
    log_sums: *mut T,
    out: *mut T,
    out_row: usize,
    values: usize,
}

// SAFETY: everything is inlined.
unsafe impl<T: Float> Work<T> for Finish<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        for (row, (&top, &sum)) in self.top.iter().zip(self.sum).enumerate() {
            // SAFETY: there are as many rows in both outputs.
            unsafe {
                *self.log_sums.add(row) = top + sum.ln();
                lanes::pass::<T, V>(self.values, Times { x: self.out.add(row * self.out_row), by: T::ONE / sum });
            }
        }
    }
}

/// `x · by`, in place.
struct Times<T> {
    x: *mut T,
    by: T,
}

impl<T: Float> Pass<T> for Times<T> {
    #[inline(always)]
    unsafe fn elements<V: Vector<T>>(&self, at: usize, lanes: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let x = self.x.add(at);
            lanes::write(lanes::read::<T, V>(x, lanes).mul(V::splat(self.by)), x, lanes);
        }
    }
}

/// Scores become `exp(score · scale − shift)`, whose sum is `Σ`.
struct Exponentials<T> {
    line: *mut T,
    scale: T,
    shift: T,
}

impl<T: Float> Sums<T, 1> for Exponentials<T> {
    #[inline(always)]
    unsafe fn add<V: Vector<T>>(&self, sums: &mut [V; 1], at: usize, lanes: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let to = self.line.add(at);
            let score = lanes::read::<T, V>(to, lanes).mul(V::splat(self.scale));
            let power = score.sub(V::splat(self.shift)).exp();
            lanes::write(power, to, lanes);
            sums[0] = sums[0].add(lanes::some_of(power, lanes));
        }
    }
}
