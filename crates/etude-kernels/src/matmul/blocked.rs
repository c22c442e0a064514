//! Large products: the right side is packed once; the left side is read where it lies if that costs nothing, else it is
//! packed: by each task for itself, or once for all where several tasks share rows.

use super::kernel::Strip;
use super::scratch::{self, Purpose};
use super::{Product, pack};
use crate::Float;
use crate::cpu::{TileShape, caches};
use crate::threads::{SendPointer, parallel};

/// Depth of a panel: a strip of it (64 KiB with AVX-512, 32 with AVX2) comes from the second-level cache at most, and the
/// output is seldom loaded and stored.
const DEPTH: usize = 512;
/// Rows of a task, about: so many (192 KiB) stay in the second-level cache.
const TASK_ROWS: usize = 96;
/// Tasks a product is cut in, at least, if its size allows.
const TASKS: usize = 12;
/// Columns of a task, at least.
const TASK_COLUMNS: usize = 128;
/// From so many columns on, and no more rows than columns, the tasks halve the columns at least: each reads half of the right side.
const HALVED_COLUMNS: usize = 512;
/// Columns packed at a time, at least.
const PACKED_COLUMNS: usize = 256;
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
    let width = (PACKED / p.k).max(PACKED_COLUMNS).next_multiple_of(TileShape::of::<T>().columns);
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
    let (padded, padded_rows) = (p.n.next_multiple_of(wide), p.m.next_multiple_of(tall));
    let [row_tasks, column_tasks] = cut(p.m, p.n, tall);
    let shared = column_tasks > 1 && !in_place(p);
    let size = padded * p.k + if shared { padded_rows * p.k } else { 0 };
    scratch::with(Purpose::Right, size, |room: &mut [T]| {
        let (right, left) = room.split_at_mut(padded * p.k);
        let (right, left) = (SendPointer(right.as_mut_ptr()), SendPointer(left.as_mut_ptr()));
        // Block `i` of the depth starts at `i · block · padded`, or `padded_rows`.
        let (chunk, row_chunk) = (8 * wide, pack::STRIPS * tall);
        let (chunks, row_chunks) = (p.n.div_ceil(chunk), if shared { p.m.div_ceil(row_chunk) } else { 0 });
        parallel(blocks * (chunks + row_chunks), |task| {
            let (start, index) = (task % blocks * block, task / blocks);
            let depth = block.min(p.k - start);
            // SAFETY: this block of a side and this piece of its panel, which no other task writes.
            unsafe {
                if let Some(index) = index.checked_sub(chunks) {
                    let row = index * row_chunk;
                    let source = p.rows(row, 0).a.wrapping_offset(start as isize * p.a_column);
                    let panel = left.at(start * padded_rows + row * depth);
                    pack::left(row_chunk.min(p.m - row), depth, source, p.a_row, p.a_column, panel);
                } else {
                    let column = index * chunk;
                    let source = p.columns(column, 0).b.wrapping_offset(start as isize * p.b_row);
                    let panel = right.at(start * padded + column * depth);
                    pack::right(depth, chunk.min(p.n - column), source, p.b_row, p.b_column, panel);
                }
            }
        });
        let panels = Panels { block, right, padded, left: shared.then_some(left), padded_rows };
        parallel(row_tasks * column_tasks, |task| {
            let (row, rows) = part(p.m, tall, row_tasks, task % row_tasks);
            let (column, width) = part(p.n, wide, column_tasks, task / row_tasks);
            // SAFETY: this task's rows and columns, which no other task writes; the panels are complete.
            unsafe { rows_part(p, row, rows, column, width, &panels) };
        });
    });
}

/// The packed sides. Block `i` of the depth begins at `i · block` times the side's padded width.
struct Panels<T> {
    /// Depth of a block, at most.
    block: usize,
    right: SendPointer<T>,
    padded: usize,
    /// `None` if each task packs its own rows or reads them where they lie.
    left: Option<SendPointer<T>>,
    padded_rows: usize,
}

/// How many tasks share the rows, and how many the columns.
fn cut(m: usize, n: usize, tall: usize) -> [usize; 2] {
    // Few rows make few tasks, and are not cut smaller: what is read of the right side serves all rows of a task.
    let row_tasks = m.div_ceil(TASK_ROWS);
    let least = if n >= m.max(HALVED_COLUMNS) { 2 } else { 1 };
    let column_tasks = (TASKS / row_tasks).min(n / TASK_COLUMNS).max(least);
    [row_tasks.next_multiple_of(TASKS / column_tasks).min(m.div_ceil(2 * tall)), column_tasks]
}

/// First index and number of those of `size` that part `index` of `parts` takes: whole pieces of `piece`, evenly.
fn part(size: usize, piece: usize, parts: usize, index: usize) -> (usize, usize) {
    let pieces = size.div_ceil(piece);
    let [first, end] = [index, index + 1].map(|i| (i * pieces / parts * piece).min(size));
    (first, end - first)
}

/// Whether the left side is read where it lies: its rows are contiguous, and those of a tile do not push each other out of
/// one set of the first-level cache. The bits are the same either way.
fn in_place<T: Float>(p: &Product<T>) -> bool {
    let apart = p.a_row.unsigned_abs() * size_of::<T>();
    p.a_column == 1 && caches::first_level_holds(TileShape::of::<T>().rows, apart)
}

/// One task: rows and columns of the output over the whole depth. `row` begins a tile.
unsafe fn rows_part<T: Float>(
    p: &Product<T>,
    row: usize,
    rows: usize,
    column: usize,
    width: usize,
    panels: &Panels<T>,
) {
    let TileShape { rows: tall, columns: wide, .. } = TileShape::of::<T>();
    let Panels { block, ref right, padded, ref left, padded_rows } = *panels;
    let in_place = in_place(p);
    let size = if in_place || left.is_some() { 0 } else { pack::left_size::<T>(rows, block) };
    scratch::with(Purpose::Left, size, |own: &mut [T]| {
        for start in (0..p.k).step_by(block) {
            let depth = block.min(p.k - start);
            let source = p.a.wrapping_offset(row as isize * p.a_row + start as isize * p.a_column);
            // SAFETY: the rows lie inside the left side, the strips inside the panels and the output.
            unsafe {
                let a = match left {
                    _ if in_place => source,
                    Some(left) => left.at(start * padded_rows + row * depth),
                    None => {
                        pack::left(rows, depth, source, p.a_row, p.a_column, own.as_mut_ptr());
                        own.as_ptr()
                    }
                };
                for strip in (column..column + width).step_by(wide) {
                    let strip = Strip {
                        rows,
                        depth,
                        columns: wide.min(column + width - strip),
                        a,
                        a_row: if in_place { p.a_row } else { 1 },
                        a_strip: tall as isize * if in_place { p.a_row } else { depth as isize },
                        a_step: if in_place { 1 } else { tall as isize },
                        b: right.at(start * padded + strip * depth),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_cover_every_row_and_column_once() {
        for (m, n) in [(9, 33), (96, 512), (97, 31), (192, 768), (256, 1024), (1000, 83), (4097, 255), (13, 5000)] {
            for (tall, wide) in [(12, 32), (6, 16), (4, 8)] {
                let [row_tasks, column_tasks] = cut(m, n, tall);
                for (size, piece, parts) in [(m, tall, row_tasks), (n, wide, column_tasks)] {
                    let mut next = 0;
                    for index in 0..parts {
                        let (first, count) = part(size, piece, parts, index);
                        assert_eq!(first, next, "task {index} of {parts} in {size} by {piece}");
                        assert!(first % piece == 0, "tasks begin at whole pieces");
                        next += count;
                    }
                    assert_eq!(next, size, "{parts} tasks of {size} by {piece}");
                }
            }
        }
    }
}
