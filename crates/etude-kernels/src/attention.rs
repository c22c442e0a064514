//! Attention, `softmax(q·kᵀ·scale + mask)·v`, and its gradients, in tiles: no matrix of all scores is ever in memory.
//!
//! Forwards, a block of queries meets one block of keys after another; the row's largest score and the sum of exponentials
//! run along, and what was summed before is scaled when a larger score comes (Milakov and Gimelshein, 2018; Dao et al.,
//! 2022). What the way back needs beside the output is the logarithm of that sum for each row, from which each tile's
//! weights are computed again. The bits do not depend on how queries are cut into tasks: a row meets the keys in
//! blocks of `KEYS`, and forbidden ones add an exact 0.

use crate::cpu::{self, TileShape, Vector, Work};
use crate::matmul::kernel::Strip;
use crate::matmul::pack;
use crate::matmul::scratch::{self, Purpose};
use crate::threads::{SendPointer, parallel};
use crate::{DType, Float, math};
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
            // SAFETY: the head's elements lie inside their data, as checked; the room is as large as packing wants.
            unsafe {
                pack::right(width, reach, k.head(b, h), k_step, k_row, turned_keys.as_mut_ptr());
                pack::right(reach, values, v.head(b, h), v_row, v_step, packed_values.as_mut_ptr());
            }
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
                        let panels = turned_keys.as_ptr().add(first_key * width);
                        let product = Product { rows, depth: width, columns: count, wide, stripe: width * wide };
                        product.run(q, q_row, q_step, panels, scores.as_mut_ptr(), KEYS, false);
                        cpu::run(Softmax {
                            tile: Tile::new(what, b, h, queries_here.clone(), first_key..first_key + count),
                            scores: scores.as_mut_ptr(),
                            top: top.as_mut_ptr(),
                            sum: sum.as_mut_ptr(),
                            out,
                            out_row: heads * values,
                            values,
                        });
                        let panels = packed_values.as_ptr().add(first_key * wide);
                        let stripe = packed_values.len() / values.div_ceil(wide).max(1);
                        let product = Product { rows, depth: count, columns: values, wide, stripe };
                        product.run(scores.as_ptr(), KEYS as isize, 1, panels, out, heads * values, first_key > 0);
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

/// `c[rows, columns] (+)= a[rows, depth] · b`, where `b` is packed in strips `stripe` elements apart.
struct Product {
    rows: usize,
    depth: usize,
    columns: usize,
    wide: usize,
    stripe: usize,
}

impl Product {
    /// # Safety
    /// `a` and `c` must be valid for the sizes and strides, `b` for all strips; `c` must not overlap the others.
    unsafe fn run<T: Float>(
        &self,
        a: *const T,
        a_row: isize,
        a_step: isize,
        b: *const T,
        c: *mut T,
        c_row: usize,
        add: bool,
    ) {
        let Product { rows, depth, columns, wide, stripe } = *self;
        let a_strip = TileShape::of::<T>().rows as isize * a_row;
        for (strip, first) in (0..columns).step_by(wide).enumerate() {
            let (b, c) = (b.wrapping_add(strip * stripe), c.wrapping_add(first));
            let columns = wide.min(columns - first);
            let b_step = wide as isize;
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

    /// The scores of some keys from products: scaled, masked, −∞ from `limit` on.
    ///
    /// # Safety
    /// The mask's elements of this row and of the tile's keys must be there.
    #[inline(always)]
    unsafe fn scores(&self, products: &[T; SIDE], row: usize, at: usize, limit: usize) -> [T; SIDE] {
        let mut scores = [T::ZERO; SIDE];
        for j in 0..SIDE {
            scores[j] = if at + j < limit { products[j] * self.scale } else { T::NEG_INFINITY };
        }
        let query = (self.queries.start + row) as isize;
        for j in 0..SIDE.min(limit.saturating_sub(at)) {
            let key = (self.keys.start + at + j) as isize;
            // SAFETY: the caller's promise; the key lies before `limit`, inside the tile.
            unsafe {
                match self.mask {
                    HeadMask::None => break,
                    HeadMask::Allowed(mask, (row, column)) => {
                        if *mask.offset(query * row + key * column) == 0 {
                            scores[j] = T::NEG_INFINITY;
                        }
                    }
                    HeadMask::Added(mask, (row, column)) => scores[j] += *mask.offset(query * row + key * column),
                }
            }
        }
        scores
    }
}

/// Elements that are worked on at once: as many as the widest vector holds.
const SIDE: usize = 16;

#[inline(always)]
fn exp<T: Float, const FMA: bool>(x: T) -> T {
    match T::DTYPE {
        DType::F32 => bytemuck::cast(math::exp::<FMA>(bytemuck::cast(x))),
        _ => x.exp(),
    }
}

/// The sum of all lanes, by halves.
#[inline(always)]
fn fold<T: Float>(mut lanes: [T; SIDE], of: impl Fn(T, T) -> T) -> T {
    let mut half = SIDE / 2;
    while half > 0 {
        for j in 0..half {
            lanes[j] = of(lanes[j], lanes[j + half]);
        }
        half /= 2;
    }
    lanes[0]
}

#[inline(always)]
fn larger<T: Float>(a: T, b: T) -> T {
    if b > a { b } else { a }
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
        // SAFETY: the caller's promise.
        unsafe { if V::FUSED { self.compute::<true>() } else { self.compute::<false>() } }
    }
}

impl<T: Float> Softmax<T> {
    #[inline(always)]
    unsafe fn compute<const FMA: bool>(self) {
        let blocks = self.tile.keys.len().div_ceil(SIDE);
        for row in 0..self.tile.queries.len() {
            // SAFETY: the row lies inside the tile, whose rows are whole blocks; the others have as many rows.
            let (line, top, sum) = unsafe {
                let line = std::slice::from_raw_parts_mut(self.scores.add(row * KEYS).cast::<[T; SIDE]>(), blocks);
                (line, &mut *self.top.add(row), &mut *self.sum.add(row))
            };
            let limit = self.tile.limit(row);
            let mut tops = [T::NEG_INFINITY; SIDE];
            // Blocks in which nothing is forbidden, by far the most.
            let free = if let HeadMask::None = self.tile.mask { limit / SIDE } else { 0 };
            for scores in &mut line[..free] {
                for j in 0..SIDE {
                    scores[j] = scores[j] * self.tile.scale;
                    tops[j] = larger(tops[j], scores[j]);
                }
            }
            for (block, scores) in line.iter_mut().enumerate().skip(free) {
                // SAFETY: the mask covers the tile.
                *scores = unsafe { self.tile.scores(scores, row, block * SIDE, limit) };
                for j in 0..SIDE {
                    tops[j] = larger(tops[j], scores[j]);
                }
            }
            let new = larger(*top, fold(tops, larger));
            // Where nothing could be seen so far, there is nothing to subtract.
            let shift = if new == T::NEG_INFINITY { T::ZERO } else { new };
            let mut sums = [T::ZERO; SIDE];
            for scores in line.iter_mut() {
                for j in 0..SIDE {
                    scores[j] = exp::<T, FMA>(scores[j] - shift);
                    sums[j] += scores[j];
                }
            }
            let before = exp::<T, FMA>(*top - shift);
            if self.tile.keys.start > 0 && before != T::ONE {
                for e in 0..self.values {
                    // SAFETY: the row of the output has `values` elements.
                    unsafe {
                        let value = self.out.add(row * self.out_row + e);
                        *value = *value * before;
                    }
                }
            }
            *sum = *sum * before + fold(sums, |a, b| a + b);
            *top = new;
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
        if of_queries {
            clear(queries.clone(), &gq, width);
        }
        if of_keys {
            clear(keys.clone(), &gk, width);
            clear(keys.clone(), &gv, values);
        }
        let keys = keys.start..keys.end.min(self.what.reach(queries.end));
        if queries.is_empty() || keys.is_empty() {
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
            // SAFETY: the head's elements lie inside their data, as checked; the room is as large as packing wants.
            unsafe {
                pack::right(width, columns, k, k_step, k_row, turned_keys.as_mut_ptr());
                pack::right(values, columns, v, v_step, v_row, turned_values.as_mut_ptr());
                if of_queries {
                    pack::right(columns, width, k, k_row, k_step, packed_keys.as_mut_ptr());
                }
                if of_keys {
                    pack::right(rows, width, q, q_row, q_step, packed_queries.as_mut_ptr());
                    pack::right(rows, values, g, g_row, g_step, packed_g.as_mut_ptr());
                }
            }
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
                    let product = |rows, depth, columns, stripe| Product { rows, depth, columns, wide, stripe };
                    let ld = KEYS as isize;
                    // SAFETY: tiles have room for a block; packed sides were just filled; rows of the outputs that are
                    // added to belong to this task alone.
                    unsafe {
                        let side = turned_keys.as_ptr().add(first_key * width);
                        product(rows_here, width, count, width * wide)
                            .run(q, q_row, q_step, side, weights, KEYS, false);
                        let side = turned_values.as_ptr().add(first_key * values);
                        product(rows_here, values, count, values * wide)
                            .run(g, g_row, g_step, side, slopes, KEYS, false);
                        cpu::run(Slopes {
                            tile: Tile::new(self.what, b, h, queries_here.clone(), keys_here.clone()),
                            weights,
                            slopes,
                            log_sums: &self.log_sums[(b * heads + h) * all_queries + queries_here.start..][..rows_here],
                            along: (!whole).then(|| &along[start..start + rows_here]),
                        });
                        if of_keys {
                            let side = packed_g.as_ptr().add(start * wide);
                            let to = gv(keys_here.start);
                            let line = self.targets[2].line;
                            product(count, rows_here, values, rows * wide).run(weights, 1, ld, side, to, line, true);
                            let side = packed_queries.as_ptr().add(start * wide);
                            let to = gk(keys_here.start);
                            let line = self.targets[1].line;
                            product(count, rows_here, width, rows * wide).run(slopes, 1, ld, side, to, line, true);
                        }
                        if of_queries {
                            let side = packed_keys.as_ptr().add(first_key * wide);
                            let to = gq(queries_here.start);
                            let line = self.targets[0].line;
                            product(rows_here, count, width, columns * wide).run(slopes, ld, 1, side, to, line, true);
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
        // SAFETY: the caller's promise.
        unsafe { if V::FUSED { self.compute::<true>() } else { self.compute::<false>() } }
    }
}

impl<T: Float> Slopes<'_, T> {
    #[inline(always)]
    unsafe fn compute<const FMA: bool>(self) {
        let blocks = self.tile.keys.len().div_ceil(SIDE);
        for row in 0..self.tile.queries.len() {
            // SAFETY: the row lies inside both tiles, whose rows are whole blocks.
            let (weights, slopes) = unsafe {
                let line =
                    |tile: *mut T| std::slice::from_raw_parts_mut(tile.add(row * KEYS).cast::<[T; SIDE]>(), blocks);
                (line(self.weights), line(self.slopes))
            };
            let (limit, log_sum) = (self.tile.limit(row), self.log_sums[row]);
            let mut sums = [T::ZERO; SIDE];
            for (block, (weights, slopes)) in weights.iter_mut().zip(&*slopes).enumerate() {
                // SAFETY: the mask covers the tile.
                let scores = unsafe { self.tile.scores(weights, row, block * SIDE, limit) };
                for j in 0..SIDE {
                    weights[j] = exp::<T, FMA>(scores[j] - log_sum);
                    // Behind the limit stand leftovers.
                    sums[j] += if block * SIDE + j < limit { weights[j] * slopes[j] } else { T::ZERO };
                }
            }
            let along = self.along.map_or_else(|| fold(sums, |a, b| a + b), |along| along[row]);
            for (weights, slopes) in weights.iter().zip(slopes) {
                for j in 0..SIDE {
                    slopes[j] = weights[j] * (slopes[j] - along) * self.tile.scale;
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "attention_tests.rs"]
mod tests;
