//! Attention, `softmax(q·kᵀ·scale + mask)·v`, and its gradients, in tiles: no matrix of all scores is ever in memory.
//!
//! Forwards, a block of queries meets one block of keys after another; the row's largest score and the sum of exponentials
//! run along, and what was summed before is scaled when a larger score comes (Milakov and Gimelshein, 2018; Dao et al.,
//! 2022). What the way back needs beside the output is the logarithm of that sum for each row, from which each tile's
//! weights are computed again. The bits do not depend on how queries are cut into tasks: a row meets the keys in
//! blocks of `KEYS`, and forbidden ones add an exact 0.

use crate::Float;
use crate::cpu::{self, TileShape, Vector, Work, caches};
use crate::lanes::{self, Dot, SIDE, Sum, exp};
use crate::matmul::kernel::Strip;
use crate::matmul::pack;
use crate::matmul::scratch::{self, Purpose};
use crate::threads::{SendPointer, parallel};
use std::ops::Range;

/// Sizes of q `[batch, heads, queries, width]`, k `[batch, heads, keys, width]` and v `[batch, heads, keys, values]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AttentionSizes {
    /// Sequences.
    pub batch: usize,
    /// Heads of each.
    pub heads: usize,
    /// Queries of a head.
    pub queries: usize,
    /// Keys of a head, and values.
    pub keys: usize,
    /// Elements of a query and of a key.
    pub width: usize,
    /// Elements of a value.
    pub values: usize,
}

/// A tensor of four axes where it lies: element (b, h, t, d) is `data[offset + b·s₀ + h·s₁ + t·s₂ + d·s₃]`.
#[derive(Clone, Copy)]
pub struct Heads<'a, T> {
    /// What it lies in.
    pub data: &'a [T],
    /// Where its first element is.
    pub offset: usize,
    /// From one element to the next along each axis.
    pub strides: [isize; 4],
}

impl<T> Heads<'_, T> {
    /// Panics unless every element lies inside the data.
    fn check(&self, name: &str, shape: [usize; 4]) {
        if shape.contains(&0) {
            return;
        }
        let (mut low, mut high) = (self.offset as i128, self.offset as i128);
        for (size, stride) in shape.into_iter().zip(self.strides) {
            let reach = (size as i128 - 1) * stride as i128;
            (low, high) = (low + reach.min(0), high + reach.max(0));
        }
        assert!(low >= 0 && high < self.data.len() as i128, "attention: {name} {shape:?} leaves its data");
    }

    /// Element (t, d) = (0, 0) of a head; only its address, nothing is read.
    fn head(&self, batch: usize, head: usize) -> *const T {
        let at = batch as isize * self.strides[0] + head as isize * self.strides[1];
        self.data.as_ptr().wrapping_add(self.offset).wrapping_offset(at)
    }

    /// From one row to the next, and from one column to the next.
    fn steps(&self) -> (isize, isize) {
        (self.strides[2], self.strides[3])
    }
}

/// Which keys a query may look at, `[batch, heads, queries, keys]`, beside the causal rule.
#[derive(Clone, Copy)]
pub enum AttentionMask<'a, T> {
    /// All.
    None,
    /// Those that are not 0.
    Allowed(Heads<'a, u8>),
    /// Numbers that are added to the scores.
    Added(Heads<'a, T>),
}

impl<T> AttentionMask<'_, T> {
    fn check(&self, shape: [usize; 4]) {
        match self {
            AttentionMask::None => {}
            AttentionMask::Allowed(mask) => mask.check("mask", shape),
            AttentionMask::Added(mask) => mask.check("mask", shape),
        }
    }

    /// The part of the mask that belongs to one head.
    fn head(&self, batch: usize, head: usize) -> HeadMask<T> {
        match self {
            AttentionMask::None => HeadMask::None,
            AttentionMask::Allowed(mask) => HeadMask::Allowed(mask.head(batch, head), mask.steps()),
            AttentionMask::Added(mask) => HeadMask::Added(mask.head(batch, head), mask.steps()),
        }
    }
}

/// What is asked: the sizes, what scores are multiplied by, and which keys may be looked at.
#[derive(Clone, Copy)]
pub struct Attention<'a, T> {
    /// The sizes of q, k and v.
    pub sizes: AttentionSizes,
    /// What scores are multiplied by.
    pub scale: f64,
    /// Whether query t may only look at keys up to t.
    pub causal: bool,
    /// What else it may not look at.
    pub mask: AttentionMask<'a, T>,
}

/// The gradients of q, k and v, each as the output lies: `[batch, length, heads, width]`.
pub enum AttentionGradients<'a, T> {
    /// In one tensor, `[batch, length, 3, heads, width]`, where all three are of one shape.
    Together(&'a mut [T]),
    /// Each of its own.
    Apart([&'a mut [T]; 3]),
}

/// Queries of a block: whole tiles on every machine.
const QUERIES: usize = 48;
/// Keys of a block.
const KEYS: usize = 128;

/// `out[b, t, h] = softmax(q[b, h, t]·k[b, h]ᵀ·scale + mask)·v[b, h]`, and for each row the logarithm of the sum of its
/// exponentials, `log_sums[b, h, t]`. `out` is `[batch, queries, heads, values]`. A row that may look at nothing becomes
/// NaN; without keys everything is 0.
pub fn forward<T: Float>(
    what: &Attention<T>,
    q: Heads<T>,
    k: Heads<T>,
    v: Heads<T>,
    out: &mut [T],
    log_sums: &mut [T],
) {
    (T::floats().attention_forward)(what, q, k, v, out, log_sums)
}

/// The gradients of [`forward`] from what it was given and gave, and the gradient `g[b, h, t, e]` of its output.
pub fn backward<T: Float>(
    what: &Attention<T>,
    q: Heads<T>,
    k: Heads<T>,
    v: Heads<T>,
    out: &[T],
    log_sums: &[T],
    g: Heads<T>,
    gradients: AttentionGradients<T>,
) {
    (T::floats().attention_backward)(what, q, k, v, out, log_sums, g, gradients)
}

impl<T> Attention<'_, T> {
    fn check(&self, q: &Heads<T>, k: &Heads<T>, v: &Heads<T>) {
        let AttentionSizes { batch, heads, queries, keys, width, values } = self.sizes;
        q.check("q", [batch, heads, queries, width]);
        k.check("k", [batch, heads, keys, width]);
        v.check("v", [batch, heads, keys, values]);
        self.mask.check([batch, heads, queries, keys]);
    }

    /// How many keys the queries before `end` may look at.
    fn reach(&self, end: usize) -> usize {
        if self.causal { self.sizes.keys.min(end) } else { self.sizes.keys }
    }
}

/// The body of [`forward`], compiled once for each type in this crate.
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

/// `columns` filled up to whole strips.
fn packed(columns: usize, wide: usize) -> usize {
    columns.next_multiple_of(wide)
}

/// Cuts `room` into pieces of these sizes.
fn cut<T, const N: usize>(mut room: &mut [T], sizes: [usize; N]) -> [&mut [T]; N] {
    sizes.map(|size| {
        let (piece, rest) = std::mem::take(&mut room).split_at_mut(size);
        room = rest;
        piece
    })
}

/// A right side in strips of a tile's columns: element (p, j) of strip s lies at `s · strip + p · step + j`.
#[derive(Clone, Copy)]
struct Right<T> {
    data: *const T,
    strip: usize,
    step: isize,
}

impl<T: Float> Right<T> {
    /// A right side `[depth, columns]`, packed into `room`.
    ///
    /// # Safety
    /// The source must be valid for the sizes and strides.
    unsafe fn packed(
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
    unsafe fn in_place(
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
    fn line(self, line: usize) -> Right<T> {
        Right { data: self.data.wrapping_offset(line as isize * self.step), ..self }
    }

    /// From column `column` on, which begins a strip.
    fn column(self, column: usize) -> Right<T> {
        Right { data: self.data.wrapping_add(column / TileShape::of::<T>().columns * self.strip), ..self }
    }
}

/// Sizes of a product `c[rows, columns] (+)= a[rows, depth] · b[depth, columns]`.
struct Product {
    rows: usize,
    depth: usize,
    columns: usize,
}

impl Product {
    /// # Safety
    /// `a`, `b` and `c` must be valid for the sizes and strides; `c` must not overlap the others.
    unsafe fn run<T: Float>(
        &self,
        a: *const T,
        a_row: isize,
        a_step: isize,
        right: Right<T>,
        c: *mut T,
        c_row: usize,
        add: bool,
    ) {
        let Product { rows, depth, columns } = *self;
        let TileShape { rows: tall, columns: wide, .. } = TileShape::of::<T>();
        let (a_strip, b_step) = (tall as isize * a_row, right.step);
        for first in (0..columns).step_by(wide) {
            let (b, c) = (right.column(first).data, c.wrapping_add(first));
            let columns = wide.min(columns - first);
            // SAFETY: the caller's promise.
            unsafe { Strip { rows, depth, columns, a, a_row, a_strip, a_step, b, b_step, c, c_row, add }.compute() };
        }
    }
}

/// The mask of one head: where it lies, and its row and column strides.
#[derive(Clone, Copy)]
enum HeadMask<T> {
    None,
    Allowed(*const u8, (isize, isize)),
    Added(*const T, (isize, isize)),
}

/// Which scores of a head a tile holds.
struct Tile<T> {
    queries: Range<usize>,
    keys: Range<usize>,
    scale: T,
    causal: bool,
    mask: HeadMask<T>,
}

impl<T: Float> Tile<T> {
    fn new(what: &Attention<T>, b: usize, h: usize, queries: Range<usize>, keys: Range<usize>) -> Tile<T> {
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

    /// Makes the products of row `row` scores, scaled and masked, and returns how many keys the row may look at by the
    /// causal rule; what stands behind them stays.
    ///
    /// # Safety
    /// `line` must hold the tile's keys, and the mask's elements of this row and of these keys must be there.
    #[inline(always)]
    unsafe fn scores(&self, line: *mut T, row: usize) -> usize {
        let limit = self.limit(row);
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
        limit
    }
}

/// Scores of the keys before `limit` become `exp(score − shift)`, those of the others up to `keys` become 0.
///
/// # Safety
/// `line` must hold whole vectors of so many keys.
#[inline(always)]
unsafe fn exponentials<T: Float, V: Vector<T>>(line: *mut T, limit: usize, shift: T, keys: usize) {
    // SAFETY: the caller's promise.
    let line = unsafe { std::slice::from_raw_parts_mut(line, keys.next_multiple_of(SIDE)) };
    let whole = limit.next_multiple_of(SIDE);
    for block in line[..whole].as_chunks_mut::<SIDE>().0 {
        block.iter_mut().for_each(|score| *score = exp::<T, V>(*score - shift));
    }
    line[limit..keys.max(whole)].fill(T::ZERO);
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
                exponentials::<T, V>(line, limit, shift, self.tile.keys.len());
                let here = lanes::sums::<T, V, 1>(limit, Sum(line))[0];
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

/// The body of [`backward`], compiled once for each type in this crate.
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

/// One call of [`backward`].
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
        // What every block of queries adds to is written by the first, unless the causal rule leaves out some of it.
        let cleared = nothing || self.what.causal;
        if of_keys && cleared {
            clear(all.clone(), &gk, width);
            clear(all, &gv, values);
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
                    let product = |rows, depth, columns| Product { rows, depth, columns };
                    let ld = KEYS as isize;
                    // SAFETY: tiles have room for a block; rows of the outputs that are written belong to this task alone.
                    unsafe {
                        let right = turned_keys.column(first_key);
                        product(rows_here, width, count).run(q, q_row, q_step, right, weights, KEYS, false);
                        let right = turned_values.column(first_key);
                        product(rows_here, values, count).run(g, g_row, g_step, right, slopes, KEYS, false);
                        cpu::run(Slopes {
                            tile: Tile::new(self.what, b, h, queries_here.clone(), keys_here.clone()),
                            weights,
                            slopes,
                            log_sums: &self.log_sums[(b * heads + h) * all_queries + queries_here.start..][..rows_here],
                            along: (!whole).then(|| &along[start..start + rows_here]),
                        });
                        if of_keys {
                            let (add, to, line) = (cleared || start > 0, gv(keys_here.start), self.targets[2].line);
                            product(count, rows_here, values).run(weights, 1, ld, g_right.line(start), to, line, add);
                            let (to, line) = (gk(keys_here.start), self.targets[1].line);
                            let right = queries_right.line(start);
                            product(count, rows_here, width).run(slopes, 1, ld, right, to, line, add);
                        }
                        if of_queries {
                            let (to, line) = (gq(queries_here.start), self.targets[0].line);
                            let right = keys_right.line(first_key);
                            product(rows_here, count, width).run(slopes, ld, 1, right, to, line, first_key > 0);
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
        let keys = self.tile.keys.len();
        for row in 0..self.tile.queries.len() {
            // SAFETY: the row lies inside both tiles, whose rows are whole blocks; the mask covers the tile.
            unsafe {
                let (weights, slopes) = (self.weights.add(row * KEYS), self.slopes.add(row * KEYS));
                let limit = self.tile.scores(weights, row);
                exponentials::<T, V>(weights, limit, self.log_sums[row], keys);
                let along = match self.along {
                    Some(along) => along[row],
                    None => lanes::sums::<T, V, 1>(limit, Dot(slopes, weights))[0],
                };
                let (along, scale) = (V::splat(along), V::splat(self.tile.scale));
                for at in (0..limit).step_by(V::LANES) {
                    // What stands behind the keys, in the last vector, is nobody's.
                    let slope = V::load(slopes.add(at)).sub(along).mul(scale);
                    V::load(weights.add(at)).mul(slope).store(slopes.add(at));
                }
                // The gradients of keys that this query may not look at.
                (limit..keys).for_each(|key| *slopes.add(key) = T::ZERO);
            }
        }
    }
}

#[cfg(test)]
#[path = "attention_tests.rs"]
mod tests;
