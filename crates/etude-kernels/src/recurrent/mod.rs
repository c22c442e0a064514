//! LSTM (Hochreiter and Schmidhuber, 1997) and GRU (Cho et al., 2014) over whole sequences, in PyTorch's forms.
//!
//! Everything is time-major and contiguous. The products with the inputs are made outside, over all steps at once; what is
//! left to the step is the product of the previous state with the recurrent weights, and the gates, in one pass: a task
//! computes all gates of some units for some rows of the batch. Weights are packed once a sequence (`panels`). Large
//! ones are cut by units, so that each step streams them from memory once for the whole batch, every other step from the
//! end to the beginning; small ones stay in each core's cache, and tasks take rows through all steps. The bits do not
//! depend on the cut: a product's terms are always added in the same order.

mod gru;
mod lstm;
mod panels;

pub use gru::{gru_backward, gru_forward};
pub(crate) use gru::{gru_backward_body, gru_forward_body};
pub use lstm::{lstm_backward, lstm_forward};
pub(crate) use lstm::{lstm_backward_body, lstm_forward_body};

use crate::cpu;
use crate::matmul::kernel::Dots;
use crate::matmul::scratch::{self, Purpose};
use crate::threads::{SendPointer, parallel, parallel_backwards};
use crate::{DType, Float, math};
use panels::{BLOCK, Panels};
use std::ops::Range;

/// The order of the steps.
struct Order {
    steps: usize,
    reverse: bool,
}

impl Order {
    /// The place in time of a step.
    fn time(&self, step: usize) -> usize {
        if self.reverse { self.steps - 1 - step } else { step }
    }

    /// The place in time of the step before, if there is one.
    fn before(&self, step: usize) -> Option<usize> {
        step.checked_sub(1).map(|step| self.time(step))
    }
}

/// Recurrent weights `[gates·H, H]` as the steps want them.
enum Weights<'a, T> {
    /// As they came: packing does not pay for a step or two.
    Plain(&'a [T]),
    Packed(Panels),
}

impl<T: Float> Weights<'_, T> {
    fn new(w: &[T], gates: usize, hidden: usize, steps: usize) -> Weights<'_, T> {
        match steps {
            0..=2 => Weights::Plain(w),
            _ => Weights::Packed(Panels::of_rows(w, gates, hidden, hidden)),
        }
    }

    /// `out[row, j] = h[row]·w[gate·H + units.start + j]` for `rows` states; `out` has `stride` elements a row, of which
    /// whole blocks are written. States of zeros, with which most sequences begin, multiply no packed weights.
    fn multiply(&self, h: &[T], rows: usize, gate: usize, units: Range<usize>, out: &mut [T], stride: usize) {
        let hidden = h.len() / rows;
        match self {
            Weights::Packed(_) if h.iter().all(|&value| value == T::ZERO) => out.fill(T::ZERO),
            Weights::Packed(panels) => panels.multiply(h, rows, gate, units, out, stride),
            Weights::Plain(w) => {
                let w = &w[(gate * hidden + units.start) * hidden..][..units.len() * hidden];
                assert!(h.len() == rows * hidden && out.len() >= rows * stride && units.len() <= stride);
                let (x, y, row) = (h.as_ptr(), w.as_ptr(), hidden as isize);
                let out = out.as_mut_ptr();
                let (xs, ys) = (rows, units.len());
                // SAFETY: the rows of both sides exist, and `out` has a row of at least `ys` for each state.
                unsafe {
                    Dots { depth: hidden, x, xs, x_row: row, y, ys, y_row: row, out, out_x: stride, out_y: 1 }.compute()
                }
            }
        }
    }
}

/// Units a task computes where weights are cut by units.
const UNITS: usize = BLOCK;
/// Rows a task takes through all steps where the batch is cut: as many as a panel meets at once, if that leaves enough
/// tasks.
const ROWS: usize = 8;
/// Weights up to this size stay in a core's cache from step to step.
const CACHED: usize = 512 << 10;

/// Runs `work(step, rows, units)` so that every step has seen all units of its rows in the step before.
fn run_steps<F: Fn(usize, Range<usize>, Range<usize>) + Sync>(
    steps: usize,
    batch: usize,
    hidden: usize,
    gates: usize,
    work: F,
) {
    if batch * hidden == 0 {
        return;
    }
    let weights = gates * hidden * hidden;
    if weights * size_of::<f32>() <= CACHED || weights * batch < 1 << 18 {
        let rows = if batch < 2 * ROWS { ROWS / 2 } else { ROWS };
        parallel(batch.div_ceil(rows), |task| {
            for step in 0..steps {
                work(step, task * rows..batch.min((task + 1) * rows), 0..hidden);
            }
        });
    } else {
        // There and back: a core's second-level cache still holds the weights that were read last.
        for step in 0..steps {
            let tasks = hidden.div_ceil(UNITS);
            let task = |task: usize| work(step, 0..batch, task * UNITS..hidden.min((task + 1) * UNITS));
            if step % 2 == 0 { parallel(tasks, task) } else { parallel_backwards(tasks, task) }
        }
    }
}

/// Runs `work` with room for the products of `rows` rows with `gates` times `units` columns, and the elements of a row.
fn with_products<T: Float>(gates: usize, rows: usize, units: usize, work: impl FnOnce(&mut [T], usize)) {
    let stride = units.next_multiple_of(BLOCK);
    scratch::with(Purpose::Partial, gates * rows * stride, |products| work(products, stride));
}

/// Part of the state at time `before`, or of `initial` where there is none.
///
/// # Safety
/// `states` must hold complete states at `before`, and nobody may write the part while the slice lives.
unsafe fn state_at<'a, T>(
    states: &SendPointer<T>,
    initial: &'a [T],
    before: Option<usize>,
    state: usize,
    start: usize,
    length: usize,
) -> &'a [T] {
    match before {
        // SAFETY: the caller's promise.
        Some(before) => unsafe { &*part(states, before * state + start, length) },
        None => &initial[start..start + length],
    }
}

/// Elements `start..start + length` of an output that several tasks write.
///
/// # Safety
/// They must lie inside the output, and nobody else may use them while the slice lives.
unsafe fn part<'a, T>(base: &SendPointer<T>, start: usize, length: usize) -> &'a mut [T] {
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts_mut(base.at(start), length) }
}

/// Something for each of four gates.
#[inline(always)]
fn four<R>(mut of: impl FnMut(usize) -> R) -> [R; 4] {
    [of(0), of(1), of(2), of(3)]
}

/// Asks for values that come from memory after the product, so that they arrive meanwhile.
fn will_read<T>(values: &[T]) {
    values.iter().step_by(64 / size_of::<T>()).for_each(|value| cpu::prefetch(value));
}

/// Asks for the places of values that are written after the product.
fn will_write<T>(base: &SendPointer<T>, start: usize, length: usize) {
    let first = base.0.wrapping_add(start);
    (0..length).step_by(64 / size_of::<T>()).for_each(|at| cpu::prefetch_to_write(first.wrapping_add(at)));
}

/// Units the gates are computed for at once: as many as the widest vector holds.
const SIDE: usize = 16;

/// Elements of some units, the missing ones 0.
#[inline(always)]
fn take<T: Float>(from: &[T], at: usize) -> [T; SIDE] {
    match from[at..].first_chunk() {
        Some(all) => *all,
        None => {
            let mut some = [T::ZERO; SIDE];
            some[..from.len() - at].copy_from_slice(&from[at..]);
            some
        }
    }
}

/// Writes what [`take`] reads.
#[inline(always)]
fn put<T: Float>(values: [T; SIDE], to: &mut [T], at: usize) {
    match to[at..].first_chunk_mut() {
        Some(all) => *all = values,
        None => {
            let count = to.len() - at;
            to[at..].copy_from_slice(&values[..count]);
        }
    }
}

/// `1/(1 + e⁻ˣ)`.
#[inline(always)]
fn sigmoid<T: Float, const FMA: bool>(x: T) -> T {
    match T::DTYPE {
        DType::F32 => bytemuck::cast(math::sigmoid::<FMA>(bytemuck::cast(x))),
        _ => T::ONE / (T::ONE + (-x).exp()),
    }
}

/// The hyperbolic tangent.
#[inline(always)]
fn tanh<T: Float, const FMA: bool>(x: T) -> T {
    match T::DTYPE {
        DType::F32 => bytemuck::cast(math::tanh::<FMA>(bytemuck::cast(x))),
        _ => x.tanh(),
    }
}

#[cfg(test)]
mod tests;
