//! Products whose right side stays as it is from call to call: it is packed once, by whoever keeps it.
//!
//! A task takes some rows over the whole width, so that a [`Tail`] finds them in its cache; a product of few rows is cut by
//! columns instead, and its tail, which is small, runs at the end.

use super::GRAIN;
use super::kernel::Strip;
use crate::cpu::TileShape;
use crate::threads::{SendPointer, parallel};
use crate::tile::Tail;
use crate::{Buffer, Float};
use std::ops::Range;

/// Columns of a panel: whole tiles on every machine.
pub const PANEL: usize = TileShape::MAX_COLUMNS;
/// Most rows of a task: so many, over a block of the depth, stay in the second-level cache.
const TASK_ROWS: usize = 96;
/// Tasks a product is cut in, at least, if it has so many rows.
const TASKS: usize = 12;
/// Up to so many rows a product is cut by columns.
const FEW: usize = 24;
/// Depth of a block: a panel of it (64 KiB) comes from the second-level cache while a task's rows meet it.
const DEPTH: usize = 512;

/// `out[m, n] = a[m, k] · b[k, n]`, and then `tail` on the rows of `out`. `a` and `out` are contiguous; `panels` holds b in
/// `⌈n / PANEL⌉` panels, each `[k][PANEL]`, the last filled up with anything.
///
/// Each element is a sum in an order that depends on sizes only.
///
/// # Panics
/// If `a`, `panels` or `out` are not as large as the sizes say, or the tail does not fit `out`.
pub fn matmul_packed<T: Float>(sizes: [usize; 3], a: &[T], panels: &[T], out: &mut Buffer, tail: Option<&Tail>) {
    (T::floats().matmul_packed)(sizes, a, panels, out, tail)
}

/// The body of [`matmul_packed`], compiled once for each type in this crate.
pub(crate) fn matmul_packed_body<T: Float>(
    [m, k, n]: [usize; 3],
    a: &[T],
    panels: &[T],
    out: &mut Buffer,
    tail: Option<&Tail>,
) {
    assert_eq!(a.len(), m * k, "matmul_packed: the left side is {m} × {k}");
    assert_eq!(panels.len(), n.div_ceil(PANEL) * k * PANEL, "matmul_packed: the panels of {k} × {n}");
    assert_eq!(out.as_slice::<T>().len(), m * n, "matmul_packed: the output is {m} × {n}");
    if m * n == 0 {
        return;
    }
    if k == 0 {
        out.as_mut_slice::<T>().fill(T::ZERO);
    }
    // Of about equal tasks, each of some whole tiles.
    let rows = if m <= FEW { m } else { m.div_ceil(TASKS).clamp(FEW, TASK_ROWS) };
    let rows = m.div_ceil(m.div_ceil(rows));
    let tail = tail.map(|tail| tail.over([m, n], rows, out));
    let out = SendPointer(out.as_mut_slice::<T>().as_mut_ptr());
    let product = Product { k, n, a: a.as_ptr(), panels: panels.as_ptr(), out };
    if m <= FEW {
        // What is read once counts more than what is computed.
        let columns = (GRAIN / k.max(1) / m.min(2)).next_multiple_of(PANEL).max(PANEL);
        // SAFETY: the sizes were checked; tasks write columns of their own, and the tail runs once they have ended.
        unsafe {
            parallel(n.div_ceil(columns), |task| product.part(0..m, task * columns..n.min((task + 1) * columns)));
            if let Some(tail) = tail {
                tail.block(0);
            }
        }
        return;
    }
    parallel(m.div_ceil(rows), |task| {
        // SAFETY: the sizes were checked; these rows belong to this task alone.
        unsafe {
            product.part(task * rows..m.min((task + 1) * rows), 0..n);
            if let Some(tail) = &tail {
                tail.block(task);
            }
        }
    });
}

/// A product over raw memory.
struct Product<T> {
    k: usize,
    n: usize,
    a: *const T,
    panels: *const T,
    out: SendPointer<T>,
}

// SAFETY: tasks read the sides and write disjoint parts of the output; all memory outlives the parallel call.
unsafe impl<T: Send + Sync> Sync for Product<T> {}

impl<T: Float> Product<T> {
    /// Some rows and columns of the output; the first column begins a panel.
    ///
    /// # Safety
    /// The memory must be as large as the sizes say, and nobody else may use this part of the output.
    unsafe fn part(&self, rows: Range<usize>, columns: Range<usize>) {
        let Product { k, n, .. } = *self;
        let TileShape { rows: tall, columns: wide, .. } = TileShape::of::<T>();
        let block = k.div_ceil(k.div_ceil(DEPTH).max(1)).max(1);
        for start in (0..k).step_by(block) {
            for column in columns.clone().step_by(wide) {
                let panel = self.panels.wrapping_add(column / PANEL * PANEL * k + start * PANEL + column % PANEL);
                let strip = Strip {
                    rows: rows.len(),
                    depth: block.min(k - start),
                    columns: wide.min(columns.end - column),
                    a: self.a.wrapping_add(rows.start * k + start),
                    a_row: k as isize,
                    a_strip: (tall * k) as isize,
                    a_step: 1,
                    b: panel,
                    b_step: PANEL as isize,
                    c: self.out.0.wrapping_add(rows.start * n + column),
                    c_row: n,
                    add: start > 0,
                };
                // SAFETY: the caller's promise; panels are whole vectors wide.
                unsafe { strip.compute() };
            }
        }
    }
}
