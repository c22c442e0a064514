//! The way back: the gradients of queries, keys and values.

use super::tile::{Product, Right, Tile, Triangle, clear_behind, cut, packed};
use super::{Attention, AttentionGradients, AttentionSizes, Heads, KEYS, QUERIES};
use crate::Float;
use crate::cpu::{self, TileShape, Vector, Work};
use crate::lanes::{self, Pass, Sums};
use crate::matmul::scratch::{self, Purpose};
use crate::threads::{SendPointer, parallel};
use std::ops::Range;

/// The body of [`super::backward`], compiled once for each type in this crate.
pub(crate) fn backward_body<T: Float>(
    what: &Attention<T>,
    q: Heads<T>,
    k: Heads<T>,
    v: Heads<T>,
    out: &[T],
    log_sums: &[T],
    g: Heads<T>,
    gradients: AttentionGradients<T>,
) {
    let AttentionSizes { batch, heads, queries, keys, width, values } = what.sizes;
    what.check(&q, &k, &v);
    g.check("the gradient", [batch, heads, queries, values]);
    assert_eq!(out.len(), batch * queries * heads * values, "out is [batch, queries, heads, values]");
    assert_eq!(log_sums.len(), batch * heads * queries, "log_sums is [batch, heads, queries]");
    let sizes = [(queries, width), (keys, width), (keys, values)];
    let targets = match gradients {
        AttentionGradients::Together(all) => {
            assert!(queries == keys && width == values, "gradients lie together where all are of one shape");
            assert_eq!(
                all.len(),
                batch * queries * 3 * heads * width,
                "gradients are [batch, length, 3, heads, width]"
            );
            let base = all.as_mut_ptr();
            let line = 3 * heads * width;
            // SAFETY: the second and third part of a line lie inside it; an empty one has no parts.
            [0, 1, 2].map(|part| Target { base: SendPointer(base.wrapping_add(part * heads * width)), line })
        }
        AttentionGradients::Apart(each) => {
            let fits = each.iter().zip(sizes).all(|(g, (length, width))| g.len() == batch * length * heads * width);
            assert!(fits, "gradients are [batch, length, heads, width]");
            let mut widths = [width, width, values].into_iter();
            each.map(|g| Target {
                base: SendPointer(g.as_mut_ptr()),
                line: heads * widths.next().expect("there are three"),
            })
        }
    };
    let job = Job { what, q, k, v, out, log_sums, g, targets };
    // A head in one task makes its scores once. Where there are few heads and long ones, queries and keys are cut, and
    // the scores are made twice.
    if batch * heads >= 4 || queries * keys <= 1 << 16 {
        parallel(batch * heads, |head| job.run(head / heads, head % heads, 0..queries, 0..keys, Wanted::All));
        return;
    }
    let (query_chunks, key_chunks) = (queries.div_ceil(2 * QUERIES), keys.div_ceil(KEYS));
    let chunks = query_chunks + key_chunks;
    parallel(batch * heads * chunks, |task| {
        let (b, h, chunk) = (task / chunks / heads, task / chunks % heads, task % chunks);
        match chunk.checked_sub(query_chunks) {
            None => {
                let first = chunk * 2 * QUERIES;
                job.run(b, h, first..queries.min(first + 2 * QUERIES), 0..keys, Wanted::OfQueries);
            }
            Some(chunk) => {
                job.run(b, h, 0..queries, chunk * KEYS..keys.min((chunk + 1) * KEYS), Wanted::OfKeys);
            }
        }
    });
}

/// Where a gradient is written: rows of all heads are `line` elements apart.
struct Target<T> {
    base: SendPointer<T>,
    line: usize,
}

impl<T: Float> Target<T> {
    /// Row `row` of a head of `width` elements, in a batch of `length` rows.
    fn row(&self, b: usize, h: usize, row: usize, length: usize, width: usize) -> *mut T {
        self.base.0.wrapping_add((b * length + row) * self.line + h * width)
    }
}

/// What a task of the way back gives.
#[derive(Clone, Copy, PartialEq)]
enum Wanted {
    All,
    OfQueries,
    OfKeys,
}

/// One call of [`super::backward`].
struct Job<'a, T> {
    what: &'a Attention<'a, T>,
    q: Heads<'a, T>,
    k: Heads<'a, T>,
    v: Heads<'a, T>,
    out: &'a [T],
    log_sums: &'a [T],
    g: Heads<'a, T>,
    targets: [Target<T>; 3],
}

impl<T: Float> Job<'_, T> {
    /// The gradients of some queries, or of some keys and values, of one head; of all of them only with all.
    fn run(&self, b: usize, h: usize, queries: Range<usize>, keys: Range<usize>, wanted: Wanted) {
        let AttentionSizes { heads, queries: all_queries, keys: all_keys, width, values, .. } = self.what.sizes;
        let wide = TileShape::of::<T>().columns;
        let (of_queries, of_keys) = (wanted != Wanted::OfKeys, wanted != Wanted::OfQueries);
        let [gq, gk, gv] = [0, 1, 2].map(|part| {
            let target = &self.targets[part];
            let (length, width) = [(all_queries, width), (all_keys, width), (all_keys, values)][part];
            move |row: usize| target.row(b, h, row, length, width)
        });
        let clear = |rows: Range<usize>, to: &dyn Fn(usize) -> *mut T, width: usize| {
            // SAFETY: these rows of this head belong to this task alone, and lie inside the output.
            rows.for_each(|row| unsafe { std::slice::from_raw_parts_mut(to(row), width) }.fill(T::ZERO));
        };
        let all = keys.clone();
        let keys = keys.start..keys.end.min(self.what.reach(queries.end));
        let nothing = queries.is_empty() || keys.is_empty();
        if of_keys {
            // What no query may look at.
            let behind = if nothing { all } else { keys.end..all.end };
            clear(behind.clone(), &gk, width);
            clear(behind, &gv, values);
        }
        if nothing {
            if of_queries {
                clear(queries, &gq, width);
            }
            return;
        }
        let (rows, columns) = (queries.len(), keys.len());
        let sizes = [
            packed(columns, wide) * width,  // kᵀ
            packed(columns, wide) * values, // vᵀ
            columns * packed(width, wide),  // k
            rows * packed(width, wide),     // q
            rows * packed(values, wide),    // the gradient
            QUERIES * KEYS,
            QUERIES * KEYS,
            rows,
        ];
        scratch::with(Purpose::Partial, sizes.iter().sum(), |room| {
            let [turned_keys, turned_values, packed_keys, packed_queries, packed_g, weights, slopes, along] =
                cut(room, sizes);
            let ((q_row, q_step), (k_row, k_step)) = (self.q.steps(), self.k.steps());
            let ((v_row, v_step), (g_row, g_step)) = (self.v.steps(), self.g.steps());
            let q = self.q.head(b, h).wrapping_offset(queries.start as isize * q_row);
            let k = self.k.head(b, h).wrapping_offset(keys.start as isize * k_row);
            let v = self.v.head(b, h).wrapping_offset(keys.start as isize * v_row);
            let g = self.g.head(b, h).wrapping_offset(queries.start as isize * g_row);
            // SAFETY: the head's elements lie inside their data, as checked.
            let [turned_keys, turned_values, keys_right, queries_right, g_right] = unsafe {
                [
                    Right::packed(width, columns, k, k_step, k_row, turned_keys),
                    Right::packed(values, columns, v, v_step, v_row, turned_values),
                    Right::in_place(columns, width, k, k_row, k_step, KEYS, packed_keys),
                    Right::in_place(rows, width, q, q_row, q_step, QUERIES, packed_queries),
                    Right::in_place(rows, values, g, g_row, g_step, QUERIES, packed_g),
                ]
            };
            // How much a row's gradient goes along its output: what the softmax takes from every slope. Where a tile holds
            // all keys, it knows by itself.
            let whole = all_keys <= KEYS;
            for (row, along) in along.iter_mut().enumerate().filter(|_| !whole) {
                let out = &self.out[((b * all_queries + queries.start + row) * heads + h) * values..][..values];
                let g = g.wrapping_offset(row as isize * g_row);
                // SAFETY: the row of the gradient lies inside its data.
                let term = |(e, &out): (usize, &T)| unsafe { *g.offset(e as isize * g_step) * out };
                *along = out.iter().enumerate().map(term).sum();
            }
            for first_key in (0..columns).step_by(KEYS) {
                let count = KEYS.min(columns - first_key);
                let keys_here = keys.start + first_key..keys.start + first_key + count;
                // The first block of queries that may look at a key writes the key's sums, the others add to them.
                let mut written = keys_here.start;
                for start in (0..rows).step_by(QUERIES) {
                    let rows_here = QUERIES.min(rows - start);
                    let queries_here = queries.start + start..queries.start + start + rows_here;
                    // Keys that none of these queries may look at are left out.
                    let reach = self.what.reach(queries_here.end);
                    if reach <= keys_here.start {
                        continue;
                    }
                    let keys_here = keys_here.start..reach.min(keys_here.end);
                    let count = keys_here.len();
                    let (q, g) = (q.wrapping_offset(start as isize * q_row), g.wrapping_offset(start as isize * g_row));
                    let (weights, slopes) = (weights.as_mut_ptr(), slopes.as_mut_ptr());
                    let tile = Tile::new(self.what, b, h, queries_here.clone(), keys_here.clone());
                    let shift = tile.shift();
                    let product = |rows, depth, columns, triangle: fn(isize) -> Triangle, shift: isize| {
                        let triangle = if self.what.causal { triangle(shift) } else { Triangle::Whole };
                        Product { rows, depth, columns, triangle }
                    };
                    let ld = KEYS as isize;
                    // SAFETY: tiles have room for a block; rows of the outputs that are written belong to this task alone.
                    unsafe {
                        let right = turned_keys.column(first_key);
                        let scores = product(rows_here, width, count, Triangle::Columns, shift);
                        scores.run(q, q_row, q_step, right, weights, KEYS, false);
                        let right = turned_values.column(first_key);
                        let scores = product(rows_here, values, count, Triangle::Columns, shift);
                        scores.run(g, g_row, g_step, right, slopes, KEYS, false);
                        cpu::run(Slopes {
                            tile,
                            weights,
                            slopes,
                            log_sums: &self.log_sums[(b * heads + h) * all_queries + queries_here.start..][..rows_here],
                            along: (!whole).then(|| &along[start..start + rows_here]),
                        });
                        for (part, add) in [(keys_here.start..written, true), (written..keys_here.end, false)] {
                            if !of_keys || part.is_empty() {
                                continue;
                            }
                            let first = part.start - keys_here.start;
                            let sums = |columns| {
                                product(part.len(), rows_here, columns, Triangle::Start, shift - first as isize)
                            };
                            let (right, to, line) = (g_right.line(start), gv(part.start), self.targets[2].line);
                            sums(values).run(weights.add(first), 1, ld, right, to, line, add);
                            let (right, to, line) = (queries_right.line(start), gk(part.start), self.targets[1].line);
                            sums(width).run(slopes.add(first), 1, ld, right, to, line, add);
                        }
                        written = keys_here.end;
                        if of_queries {
                            let (to, line) = (gq(queries_here.start), self.targets[0].line);
                            let right = keys_right.line(first_key);
                            let sums = product(rows_here, count, width, Triangle::End, shift);
                            sums.run(slopes, ld, 1, right, to, line, first_key > 0);
                        }
                    }
                }
            }
        });
    }
}

/// A tile's products become weights, `p = exp(score − log_sum)`, and the gradients of the weights those of the products,
/// `p·(g − along)·scale`, where `along` is `Σ p·g` over all keys. Both tiles have rows of `KEYS`.
struct Slopes<'a, T> {
    tile: Tile<T>,
    weights: *mut T,
    slopes: *mut T,
    log_sums: &'a [T],
    /// `None` if the tile holds all keys.
    along: Option<&'a [T]>,
}

// SAFETY: everything is inlined.
unsafe impl<T: Float> Work<T> for Slopes<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        let (keys, scale) = (self.tile.keys.len(), self.tile.scale);
        for row in 0..self.tile.queries.len() {
            // SAFETY: the row lies inside both tiles, whose rows are whole blocks; the mask covers the tile.
            unsafe {
                let (weights, slopes) = (self.weights.add(row * KEYS), self.slopes.add(row * KEYS));
                let (limit, factor) = self.tile.scores(weights, row);
                let weigh = Weigh { weights, slopes, factor, log_sum: self.log_sums[row] };
                match self.along {
                    Some(along) => lanes::pass::<T, V>(
                        limit,
                        Slope { weigh: Some(weigh), weights, slopes, scale, along: along[row] },
                    ),
                    None => {
                        let [along] = lanes::sums::<T, V, 1>(limit, weigh);
                        lanes::pass::<T, V>(limit, Slope { weigh: None, weights, slopes, scale, along });
                    }
                }
                clear_behind::<T, V>(weights, limit, keys);
                clear_behind::<T, V>(slopes, limit, keys);
            }
        }
    }
}

/// Scores become weights, and `Σ p·g` is summed.
#[derive(Clone, Copy)]
struct Weigh<T> {
    weights: *mut T,
    slopes: *const T,
    factor: T,
    log_sum: T,
}

impl<T: Float> Weigh<T> {
    /// The weights `at..at + lanes`, written.
    #[inline(always)]
    unsafe fn weights<V: Vector<T>>(&self, at: usize, lanes: usize) -> V {
        // SAFETY: the caller's promise.
        unsafe {
            let to = self.weights.add(at);
            let score = lanes::read::<T, V>(to, lanes).mul(V::splat(self.factor));
            let power = score.sub(V::splat(self.log_sum)).exp();
            lanes::write(power, to, lanes);
            power
        }
    }
}

impl<T: Float> Sums<T, 1> for Weigh<T> {
    #[inline(always)]
    unsafe fn add<V: Vector<T>>(&self, sums: &mut [V; 1], at: usize, lanes: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let weights = lanes::some_of(self.weights::<V>(at, lanes), lanes);
            sums[0] = lanes::read::<T, V>(self.slopes.add(at), lanes).mul_add(weights, sums[0]);
        }
    }
}

/// The gradients of weights become those of products; with `weigh`, scores become weights before.
struct Slope<T> {
    weigh: Option<Weigh<T>>,
    weights: *const T,
    slopes: *mut T,
    scale: T,
    along: T,
}

impl<T: Float> Pass<T> for Slope<T> {
    #[inline(always)]
    unsafe fn elements<V: Vector<T>>(&self, at: usize, lanes: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let weights = match self.weigh {
                Some(weigh) => weigh.weights::<V>(at, lanes),
                None => lanes::read(self.weights.add(at), lanes),
            };
            let to = self.slopes.add(at);
            let slope = lanes::read::<T, V>(to, lanes).sub(V::splat(self.along)).mul(V::splat(self.scale));
            lanes::write(weights.mul(slope), to, lanes);
        }
    }
}
