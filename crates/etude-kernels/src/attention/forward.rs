//! Forwards: the output, and the logarithm of each row's sum of exponentials.

use super::tile::{Product, Right, Tile, cut, exponentials, packed};
use super::{Attention, AttentionSizes, Heads, KEYS, QUERIES};
use crate::Float;
use crate::cpu::{self, TileShape, Vector, Work};
use crate::lanes::{self, exp};
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
            // By the causal rule, the fewer the queries of a block, the fewer of its products are for nothing.
            let block = if what.causal { QUERIES / 2 } else { QUERIES };
            for start in (first..end).step_by(block) {
                let rows = block.min(end - start);
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
                        let product = Product { rows, depth: width, columns: count };
                        let right = turned_keys.column(first_key);
                        product.run(q, q_row, q_step, right, scores.as_mut_ptr(), KEYS, false);
                        cpu::run(Softmax {
                            tile: Tile::new(what, b, h, queries_here.clone(), first_key..first_key + count),
                            scores: scores.as_mut_ptr(),
                            top: top.as_mut_ptr(),
                            sum: sum.as_mut_ptr(),
                            out,
                            out_row: heads * values,
                            values,
                        });
                        let product = Product { rows, depth: count, columns: values };
                        let right = values_right.line(first_key);
                        product.run(scores.as_ptr(), KEYS as isize, 1, right, out, heads * values, first_key > 0);
                    }
                    let log_sums = log_sums.at((b * heads + h) * queries + start);
                    for row in 0..rows {
                        *log_sums.add(row) = top[row] + sum[row].ln();
                        let share = T::ONE / sum[row];
                        let out = std::slice::from_raw_parts_mut(out.add(row * heads * values), values);
                        out.iter_mut().for_each(|value| *value = *value * share);
                    }
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
                let limit = self.tile.scores(line, row);
                let largest = lanes::maximum::<T, V>(limit, line);
                let new = if largest > *top { largest } else { *top };
                // Where nothing could be seen so far, there is nothing to subtract.
                let shift = if new == T::NEG_INFINITY { T::ZERO } else { new };
                let here = exponentials::<T, V>(line, limit, shift, self.tile.keys.len());
                let before = if *top == new { T::ONE } else { exp::<T, V>(*top - shift) };
                if self.tile.keys.start > 0 && before != T::ONE {
                    for e in 0..self.values {
                        let value = self.out.add(row * self.out_row + e);
                        *value = *value * before;
                    }
                }
                *sum = *sum * before + here;
                *top = new;
            }
        }
    }
}
