//! Large products: the right side is packed once; the left side is read where it lies if its rows are contiguous, else
//! each task packs its rows of it.

use super::kernel::Strip;
use super::scratch::{self, Purpose};
use super::{Product, pack};
use crate::Float;
use crate::cpu::TileShape;
use crate::threads::{SendPointer, parallel};

/// Depth of a panel: a strip of it (64 KiB with AVX-512, 32 with AVX2) comes from the second-level cache at most, and the
/// output is seldom loaded and stored.
const DEPTH: usize = 512;
/// Most rows of a task: so many (192 KiB) stay in the second-level cache.
const TASK_ROWS: usize = 96;
/// Tasks a product is cut in, at least, if its size allows.
const TASKS: usize = 12;
/// Columns of a task.
const TASK_COLUMNS: usize = 256;
/// Elements of the right side packed at a time.
const PACKED: usize = 1 << 21;

/// Cuts `depth` into as few equal blocks of at most [`DEPTH`] as possible; their size.
fn depth_block(depth: usize) -> usize {
    depth.div_ceil(depth.div_ceil(DEPTH))
}

/// `out = a · b`.
///
/// # Safety
/// As for [`super::product`].
pub(super) unsafe fn product<T: Float>(p: Product<T>) {
    let width = (PACKED / p.k / TASK_COLUMNS).max(1) * TASK_COLUMNS;
    let mut first = 0;
    while first < p.n {
        let n = width.min(p.n - first);
        // SAFETY: a part of the product.
        unsafe { columns_part(&p.columns(first, n)) };
        first += n;
    }
}

/// The product with as many columns as are packed at a time.
unsafe fn columns_part<T: Float>(p: &Product<T>) {
    let TileShape { rows: tall, columns: wide, .. } = TileShape::of::<T>();
    let block = depth_block(p.k);
    let blocks = p.k.div_ceil(block);
    let padded = p.n.div_ceil(wide) * wide;
    scratch::with(Purpose::Right, padded * p.k, |packed: &mut [T]| {
        let packed = SendPointer(packed.as_mut_ptr());
        // Block `i` of the depth starts at `i · block · padded`.
        let chunk = 8 * wide;
        let chunks = p.n.div_ceil(chunk);
        parallel(blocks * chunks, |task| {
            let (start, column) = (task / chunks * block, task % chunks * chunk);
            let (depth, width) = (block.min(p.k - start), chunk.min(p.n - column));
            let part = p.columns(column, width);
            let source = part.b.wrapping_offset(start as isize * part.b_row);
            // SAFETY: this block of the source and this piece of the panel, which no other task writes.
            unsafe {
                pack::right(depth, width, source, p.b_row, p.b_column, packed.at(start * padded + column * depth));
            }
        });
        let column_tasks = p.n.div_ceil(TASK_COLUMNS);
        let most = TASKS.div_ceil(column_tasks);
        let task_rows = p.m.div_ceil(most).next_multiple_of(tall).clamp(24, TASK_ROWS);
        let row_tasks = p.m.div_ceil(task_rows);
        parallel(row_tasks * column_tasks, |task| {
            let (row, column) = (task % row_tasks * task_rows, task / row_tasks * TASK_COLUMNS);
            let (rows, width) = (task_rows.min(p.m - row), TASK_COLUMNS.min(p.n - column));
            // SAFETY: this task's rows and columns, which no other task writes; the panel is complete.
            unsafe { rows_part(p, row, rows, column, width, block, padded, &packed) };
        });
    });
}

/// One task: rows and columns of the output over the whole depth.
unsafe fn rows_part<T: Float>(
    p: &Product<T>,
    row: usize,
    rows: usize,
    column: usize,
    width: usize,
    block: usize,
    padded: usize,
    packed: &SendPointer<T>,
) {
    let TileShape { rows: tall, columns: wide, .. } = TileShape::of::<T>();
    let in_place = p.a_column == 1;
    let size = if in_place { 0 } else { pack::left_size::<T>(rows, block) };
    scratch::with(Purpose::Left, size, |left: &mut [T]| {
        for start in (0..p.k).step_by(block) {
            let depth = block.min(p.k - start);
            let a = p.a.wrapping_offset(row as isize * p.a_row + start as isize * p.a_column);
            // SAFETY: the rows lie inside the left side, the strips inside the panel and the output.
            unsafe {
                if !in_place {
                    pack::left(rows, depth, a, p.a_row, p.a_column, left.as_mut_ptr());
                }
                for strip in (column..column + width).step_by(wide) {
                    let strip = Strip {
                        rows,
                        depth,
                        columns: wide.min(column + width - strip),
                        a: if in_place { a } else { left.as_ptr() },
                        a_row: if in_place { p.a_row } else { 1 },
                        a_strip: tall as isize * if in_place { p.a_row } else { depth as isize },
                        a_step: if in_place { 1 } else { tall as isize },
                        b: packed.at(start * padded + strip * depth),
                        b_step: wide as isize,
                        c: p.out.add(row * p.out_row + strip),
                        c_row: p.out_row,
                        add: start > 0,
                    };
                    strip.compute();
                }
            }
        }
    });
}
