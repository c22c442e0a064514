//! Attention, `softmax(q·kᵀ·scale + mask)·v`, and its gradients, in tiles: no matrix of all scores is ever in memory.
//!
//! Forwards, a block of queries meets one block of keys after another; the row's largest score and the sum of exponentials
//! run along, and what was summed before is scaled when a larger score comes (Milakov and Gimelshein, 2018; Dao et al.,
//! 2022). What the way back needs beside the output is the logarithm of that sum for each row, from which each tile's
//! weights are computed again. The bits do not depend on how queries are cut into tasks: a row meets the keys in
//! blocks of `KEYS`, and forbidden ones add an exact 0, or are left out where a whole tile of rows may not look at them.

mod backward;
mod forward;
#[cfg(test)]
mod tests;
mod tile;

pub(crate) use backward::backward_body;
pub(crate) use forward::forward_body;

use crate::Float;
use tile::HeadMask;

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
