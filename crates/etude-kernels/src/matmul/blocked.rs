//! Large products: the right side is packed once; the left side is read where it lies if that costs nothing, else it is
//! packed: by each task for itself, or once for all where several tasks share rows. Deep products with a small output are cut
//! by their depth too.

use super::kernel::Strip;
use super::scratch::{self, Purpose};
use super::{Product, pack};
use crate::Float;
use crate::copy;
use crate::cpu::{TileShape, caches};
use crate::threads::{SendPointer, parallel, threads};
use crate::tile::Update;

/// Depth of a panel: a strip of it (64 KiB with AVX-512, 32 with AVX2) comes from the second-level cache at most, and the
/// output is seldom loaded and stored.
const DEPTH: usize = 512;
/// Rows of a task, about: so many (192 KiB) stay in the second-level cache.
pub(super) const TASK_ROWS: usize = 96;
/// Tasks a product is cut in, at least, if its size allows.
const TASKS: usize = 12;
/// Columns of a task, at least.
const TASK_COLUMNS: usize = 128;
/// From so many columns on, and no more rows than columns, the tasks halve the columns at least: each reads half of the right side.
const HALVED_COLUMNS: usize = 512;
/// Columns packed at a time, at least.
const PACKED_COLUMNS: usize = 256;
/// Strips of columns a task packs, at most.
const PIECE: usize = 4;
/// Elements of the right side packed at a time.
const PACKED: usize = 1 << 21;
/// A depth is cut in parts of at least so many.
const PART: usize = 256;
/// Parts a depth is cut in, at most: each gives a whole output, and all are summed.
const PARTS: usize = 4;
/// Elements of a task that sums parts, about.
const SUMMED: usize = 1 << 14;

/// A depth cut into parts that are summed one beside the other, and each part into blocks.
#[derive(Clone, Copy)]
struct Depth {
    whole: usize,
    /// Length of a part, but for the last.
    part: usize,
    parts: usize,
    /// Length of a block, but for the last of a part: at most [`DEPTH`].
    block: usize,
    /// Blocks of a part.
    blocks: usize,
}

impl Depth {
    /// Cut where summing the parts costs little beside the product.
    fn new(m: usize, k: usize, n: usize) -> Depth {
        let parts = if 2 * m * n <= DEPTH * k { (k / PART).clamp(1, PARTS) } else { 1 };
        let part = k.div_ceil(parts);
        let block = part.div_ceil(part.div_ceil(DEPTH));
        Depth { whole: k, part, parts, block, blocks: part.div_ceil(block) }
    }

    /// The first index of block `index` of a part, and its length; the last of the last part may be empty.
    fn block(&self, part: usize, index: usize) -> (usize, usize) {
        let end = self.whole.min((part + 1) * self.part);
        let start = end.min(part * self.part + index * self.block);
        (start, self.block.min(end - start))
    }
}

/// `out = a · b`.
///
/// # Safety
/// As for [`super::product`].
pub(super) unsafe fn product<T: Float>(p: Product<T>) {
    if fits_turned(&p) {
        scratch::with(Purpose::Image, p.m * p.n, |turned: &mut [T]| {
            // SAFETY: the caller's promise; there is room for the output turned, and the output has its rows one after the other.
            let out = unsafe {
                upright(Product { out: turned.as_mut_ptr(), out_row: p.m, ..p.turned() }, None);
                std::slice::from_raw_parts_mut(p.out, p.m * p.n)
            };
            copy::strided(turned, 0, &[p.m, p.n], &[1, p.m as isize], out);
        });
        return;
    }
    // SAFETY: the caller's promise.
    unsafe { upright(p, None) }
}

/// As [`product`], but every block of the output goes into `update` instead.
///
/// # Safety
/// As for [`super::product`] and [`Update::take`], but for the output, which is not looked at.
pub(super) unsafe fn update(p: Product<f32>, update: &Update) {
    // SAFETY: the caller's promise.
    unsafe { upright(p, Some(update)) }
}

/// Whether the product is rather made as `outᵀ = bᵀ · aᵀ` and its output turned: its few columns fill the rows of tiles so
/// much better than their columns, and both sides are packed anyway. The bits are the same either way.
fn fits_turned<T: Float>(p: &Product<T>) -> bool {
    let TileShape { rows: tall, lanes, .. } = TileShape::of::<T>();
    let filled = 10 * p.n.next_multiple_of(tall) <= 9 * p.n.next_multiple_of(lanes);
    filled && p.out_row == p.n && p.n <= TASK_ROWS && p.m >= 4 * p.n && p.a_column == 1 && p.b_row == 1 && !in_place(p)
}

/// The product as it is. An update is one of f32 numbers.
unsafe fn upright<T: Float>(p: Product<T>, update: Option<&Update>) {
    let width = (PACKED / p.k).max(PACKED_COLUMNS).next_multiple_of(TileShape::of::<T>().columns);
    let mut first = 0;
    while first < p.n {
        let n = width.min(p.n - first);
        // SAFETY: a part of the product.
        unsafe { columns_part(&p.columns(first, n), first, update) };
        first += n;
    }
}

/// The product with as many columns as are packed at a time; the first of them is column `first_column` of the update.
///
/// Of a deep product with a small output every task takes a part of the depth: what it packs is what it multiplies, in the
/// cache of one core, where otherwise each core would read all of the right side from the others'.
unsafe fn columns_part<T: Float>(p: &Product<T>, first_column: usize, update: Option<&Update>) {
    let TileShape { rows: tall, columns: wide, .. } = TileShape::of::<T>();
    let depth = Depth::new(p.m, p.k, p.n);
    let (padded, padded_rows) = (p.n.next_multiple_of(wide), p.m.next_multiple_of(tall));
    let [row_tasks, column_tasks] = cut(p.m, p.n, tall, TASKS.div_ceil(depth.parts));
    if row_tasks == 1 {
        debug_assert!(update.is_none(), "an update's gradient has several tasks' rows");
        // SAFETY: the caller's promise.
        return unsafe { few_rows(p, depth, column_tasks) };
    }
    // Of two halves of the columns each packs the rows for itself: to write lines that another core has read costs more.
    let twice = column_tasks == 2 && depth.parts == 1 && threads() > 1;
    let shared = column_tasks > 1 && !twice && !in_place(p);
    let packed = padded * p.k + if shared { padded_rows * p.k } else { 0 };
    // A gradient whose parts are summed has no output in which the first could be made.
    let own = if update.is_some() && depth.parts > 1 { p.m * p.n } else { 0 };
    scratch::with(Purpose::Partial, own + (depth.parts - 1) * p.m * p.n, |sums: &mut [T]| {
        let (own, sums) = sums.split_at_mut(own);
        let p = &if own.is_empty() { *p } else { Product { out: own.as_mut_ptr(), out_row: p.n, ..*p } };
        scratch::with(Purpose::Right, packed, |room: &mut [T]| {
            let (right, left) = room.split_at_mut(padded * p.k);
            let (right, left) = (SendPointer(right.as_mut_ptr()), SendPointer(left.as_mut_ptr()));
            // As many pieces of either side, so that a core packs what it multiplies.
            let strips = p.n.div_ceil(wide);
            let pieces = strips.div_ceil(PIECE).max(column_tasks);
            parallel(depth.parts * depth.blocks * pieces, |task| {
                let (piece, index) = (task / depth.blocks, task % depth.blocks);
                let (start, length) = depth.block(piece / pieces, index);
                let piece = piece % pieces;
                let (column, width) = part(p.n, wide, pieces, piece);
                let (row, rows) = if shared { part(p.m, tall, pieces, piece) } else { (0, 0) };
                // SAFETY: this block of both sides and these pieces of their panels, which no other task writes.
                unsafe {
                    let source = p.columns(column, 0).b.wrapping_offset(start as isize * p.b_row);
                    let panel = right.at(start * padded + column * length);
                    pack::right(length, width, source, p.b_row, p.b_column, panel);
                    if rows > 0 {
                        let source = p.rows(row, 0).a.wrapping_offset(start as isize * p.a_column);
                        let panel = left.at(start * padded_rows + row * length);
                        pack::left(rows, length, source, p.a_row, p.a_column, panel);
                    }
                }
            });
            let panels = Panels { depth, right, padded, left: shared.then_some(left), padded_rows };
            let (base, tasks) = (SendPointer(sums.as_mut_ptr()), row_tasks * column_tasks);
            parallel(depth.parts * tasks, |task| {
                let (depth_part, task) = (task / tasks, task % tasks);
                let (row, rows) = part(p.m, tall, row_tasks, task % row_tasks);
                let (column, width) = part(p.n, wide, column_tasks, task / row_tasks);
                // SAFETY: this task's part, rows and columns, which no other task writes; the panels are complete.
                unsafe {
                    let target = with_sums(p, &base, depth_part);
                    let (at, size) = ([row, column], [rows, width]);
                    match update.filter(|_| depth.parts == 1) {
                        None => {
                            let out = target.out.add(row * target.out_row + column);
                            rows_part(&Product { out, ..target }, depth_part, at, size, &panels, None);
                        }
                        Some(update) => scratch::with(Purpose::Block, rows * width, |block: &mut [T]| {
                            let target = Product { out: block.as_mut_ptr(), out_row: width, ..target };
                            let update = (update, [row, first_column + column]);
                            rows_part(&target, depth_part, at, size, &panels, Some(update));
                        }),
                    }
                }
            });
        });
        if depth.parts > 1 {
            // SAFETY: all sums are there.
            unsafe { add_parts(p, sums, update.map(|update| (update, first_column))) };
        }
    });
}

/// The product whose rows are one task's: each task packs the columns that it multiplies, some strips at a time, and they wait
/// in its core's cache.
unsafe fn few_rows<T: Float>(p: &Product<T>, depth: Depth, column_tasks: usize) {
    let TileShape { rows: tall, columns: wide, .. } = TileShape::of::<T>();
    let (in_place, padded_rows) = (in_place(p), p.m.next_multiple_of(tall));
    let block = |part: usize, index: usize| {
        let (start, length) = depth.block(part, index);
        (start, length, p.a.wrapping_offset(start as isize * p.a_column))
    };
    scratch::with(Purpose::Partial, (depth.parts - 1) * p.m * p.n, |sums: &mut [T]| {
        scratch::with(Purpose::Left, if in_place { 0 } else { padded_rows * p.k }, |left: &mut [T]| {
            let (base, left) = (SendPointer(sums.as_mut_ptr()), SendPointer(left.as_mut_ptr()));
            parallel(if in_place { 0 } else { depth.parts * depth.blocks }, |task| {
                let (start, length, a) = block(task / depth.blocks, task % depth.blocks);
                // SAFETY: this block of the left side and its panel, which no other task writes.
                unsafe { pack::left(p.m, length, a, p.a_row, p.a_column, left.at(start * padded_rows)) };
            });
            parallel(depth.parts * column_tasks, |task| {
                let (depth_part, task) = (task / column_tasks, task % column_tasks);
                let (first, width) = part(p.n, wide, column_tasks, task);
                // SAFETY: there are as many sums as parts beside the first.
                let target = unsafe { with_sums(p, &base, depth_part) };
                scratch::with(Purpose::Right, PIECE * wide * depth.block, |right: &mut [T]| {
                    for column in (first..first + width).step_by(PIECE * wide) {
                        let width = (PIECE * wide).min(first + width - column);
                        let columns = target.columns(column, width);
                        for index in 0..depth.blocks {
                            let (start, length, a) = block(depth_part, index);
                            let source = columns.b.wrapping_offset(start as isize * p.b_row);
                            // SAFETY: these columns of this block, and the left side, which is complete.
                            unsafe {
                                pack::right(length, width, source, p.b_row, p.b_column, right.as_mut_ptr());
                                let a = if in_place { a } else { left.at(start * padded_rows) };
                                let sizes = [p.m, length, width];
                                strips(&columns, sizes, (a, in_place), right.as_ptr(), index > 0, None);
                            }
                        }
                    }
                });
            });
        });
        if depth.parts > 1 {
            // SAFETY: all sums are there.
            unsafe { add_parts(p, sums, None) };
        }
    });
}

/// The product as a part of its depth makes it: the first part's sums are made in the output, the others' beside it.
///
/// # Safety
/// There must be sums for the part.
unsafe fn with_sums<T>(p: &Product<T>, sums: &SendPointer<T>, depth_part: usize) -> Product<T> {
    match depth_part.checked_sub(1) {
        None => *p,
        // SAFETY: the caller's promise.
        Some(other) => Product { out: unsafe { sums.at(other * p.m * p.n) }, out_row: p.n, ..*p },
    }
}

/// Adds the sums of the other parts of the depth to those of the first, which lie in the output, and takes the update's step,
/// if there is one, from the given column on.
unsafe fn add_parts<T: Float>(p: &Product<T>, sums: &[T], update: Option<(&Update, usize)>) {
    let out = SendPointer(p.out);
    let rows = SUMMED.div_ceil(p.n);
    parallel(p.m.div_ceil(rows), |task| {
        let (first, end) = (task * rows, p.m.min((task + 1) * rows));
        for row in first..end {
            // SAFETY: a row of the output, which this task alone writes.
            let to = unsafe { std::slice::from_raw_parts_mut(out.at(row * p.out_row), p.n) };
            for part in sums.chunks_exact(p.m * p.n) {
                to.iter_mut().zip(&part[row * p.n..]).for_each(|(to, from)| *to += *from);
            }
        }
        if let Some((update, column)) = update {
            // SAFETY: this task's rows, of f32 numbers.
            unsafe { update.take([first, column], [end - first, p.n], out.at(first * p.out_row).cast(), p.out_row) };
        }
    });
}

/// The packed sides. A block of the depth that begins at `start` lies at `start` times the side's padded width.
struct Panels<T> {
    depth: Depth,
    right: SendPointer<T>,
    padded: usize,
    /// `None` if each task packs its own rows or reads them where they lie.
    left: Option<SendPointer<T>>,
    padded_rows: usize,
}

/// How many of at least `tasks` tasks share the rows, and how many the columns.
fn cut(m: usize, n: usize, tall: usize, tasks: usize) -> [usize; 2] {
    // Few rows make few tasks, and are not cut smaller: what is read of the right side serves all rows of a task.
    let row_tasks = m.div_ceil(TASK_ROWS);
    let least = if n >= m.max(HALVED_COLUMNS) { 2 } else { 1 };
    let column_tasks = (tasks / row_tasks).min(n / TASK_COLUMNS).max(least);
    [row_tasks.next_multiple_of((tasks / column_tasks).max(1)).min(m.div_ceil(2 * tall)), column_tasks]
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

/// One task: rows and columns of the product over a part of the depth, to the beginning of its output. `row` begins a tile. With
/// an update, whose first element is given, the output is a block that each tile is taken from as soon as it is complete.
unsafe fn rows_part<T: Float>(
    p: &Product<T>,
    depth_part: usize,
    [row, column]: [usize; 2],
    [rows, width]: [usize; 2],
    panels: &Panels<T>,
    update: Option<(&Update, [usize; 2])>,
) {
    let Panels { depth, ref right, padded, ref left, padded_rows } = *panels;
    let in_place = in_place(p);
    let size = if in_place || left.is_some() { 0 } else { pack::left_size::<T>(rows, depth.block) };
    scratch::with(Purpose::Left, size, |own: &mut [T]| {
        for index in 0..depth.blocks {
            let (start, length) = depth.block(depth_part, index);
            let source = p.a.wrapping_offset(row as isize * p.a_row + start as isize * p.a_column);
            // SAFETY: the rows lie inside the left side, the strips inside the panels and the output.
            unsafe {
                let a = match left {
                    _ if in_place => source,
                    Some(left) => left.at(start * padded_rows + row * length),
                    None => {
                        pack::left(rows, length, source, p.a_row, p.a_column, own.as_mut_ptr());
                        own.as_ptr()
                    }
                };
                let right = right.at(start * padded + column * length);
                let update = update.filter(|_| index + 1 == depth.blocks);
                strips(p, [rows, length, width], (a, in_place), right, index > 0, update);
            }
        }
    });
}

/// `rows` × `width` at the beginning of the output over a block of the depth: from packed columns and rows that are packed too,
/// or lie `in_place`, as the product's. What an update reads is asked for while a tile of its gradient is made, and then its step
/// is taken; the first element's is given.
unsafe fn strips<T: Float>(
    p: &Product<T>,
    [rows, depth, width]: [usize; 3],
    (a, in_place): (*const T, bool),
    right: *const T,
    add: bool,
    update: Option<(&Update, [usize; 2])>,
) {
    let TileShape { rows: tall, columns: wide, .. } = TileShape::of::<T>();
    let [a_row, a_step] = if in_place { [p.a_row, 1] } else { [1, tall as isize] };
    let a_strip = tall as isize * if in_place { p.a_row } else { depth as isize };
    let (b_step, c_row) = (wide as isize, p.out_row);
    let at_once = if update.is_some() { tall } else { rows };
    for column in (0..width).step_by(wide) {
        let (columns, b) = (wide.min(width - column), right.wrapping_add(column * depth));
        for row in (0..rows).step_by(at_once) {
            let rows = at_once.min(rows - row);
            let (a, c) = (a.wrapping_offset((row / tall) as isize * a_strip), p.out.wrapping_add(row * c_row + column));
            let step = update.map(|(update, first)| (update, [first[0] + row, first[1] + column], [rows, columns]));
            if let Some((update, at, size)) = step {
                update.ask(at, size);
            }
            // SAFETY: the caller's promise: both sides and the output are there, and so is the update's part.
            unsafe {
                Strip { rows, depth, columns, a, a_row, a_strip, a_step, b, b_step, c, c_row, add }.compute();
                if let Some((update, at, size)) = step {
                    update.take(at, size, c.cast(), c_row);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_every_depth_once() {
        for (m, k, n, parts) in [
            (1, 1, 1, 1),
            (192, 2080, 768, 4),
            (9, 1023, 512, 3),
            (8, 511, 8, 1),
            (20, 2081, 33, 4),
            (512, 512, 512, 1),
            (7, 1_064_961, 7, 4),
        ] {
            let depth = Depth::new(m, k, n);
            let mut next = 0;
            for (part, index) in (0..depth.parts).flat_map(|part| (0..depth.blocks).map(move |index| (part, index))) {
                let (start, length) = depth.block(part, index);
                assert!(length <= DEPTH && start == next, "block {index} of part {part} of {k}");
                next += length;
            }
            assert_eq!(next, k);
            assert_eq!(depth.parts, parts, "parts of {m} × {k} × {n}");
        }
    }

    #[test]
    fn tasks_cover_every_row_and_column_once() {
        for (m, n) in [(9, 33), (96, 512), (97, 31), (192, 768), (256, 1024), (1000, 83), (4097, 255), (13, 5000)] {
            for (tall, wide) in [(12, 32), (6, 16), (4, 8)] {
                let [row_tasks, column_tasks] = cut(m, n, tall, TASKS);
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
