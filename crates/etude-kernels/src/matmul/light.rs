//! Products whose left side is read where it lies: small ones, where packing would cost as much as the product, and
//! those with few rows, where the right side is used too seldom to be packed.

use super::kernel::{Dots, Strip};
use super::scratch::{self, Purpose};
use super::{GRAIN, Product, pack};
use crate::Float;
use crate::cpu::{self, TileShape};
use crate::threads::parallel;

/// Up to so many rows the right side is read where it lies, if it lies well.
const FEW: usize = 12;
/// The same if its columns are contiguous, in a large product: dot products read it front to back.
const FEW_DOTS: usize = 16;
/// Multiply-adds up to which a product is small.
pub(super) const SMALL: usize = 1 << 21;

/// Whether packing both sides would not pay.
pub(super) fn suits<T>(p: &Product<T>) -> bool {
    p.m <= FEW || is_small(p) || is_dots(p)
}

fn is_small<T>(p: &Product<T>) -> bool {
    p.m.saturating_mul(p.k).saturating_mul(p.n) <= SMALL
}

/// Whether the product is made of dot products over contiguous elements.
fn is_dots<T>(p: &Product<T>) -> bool {
    p.b_row == 1 && p.k > 1 && (p.m <= FEW || p.m <= FEW_DOTS && !is_small(p))
}

/// `out = a · b`, cut by columns or rows.
///
/// # Safety
/// As for [`super::product`].
pub(super) unsafe fn product<T: Float>(p: Product<T>) {
    let (work, as_dots) = (p.m * p.n * p.k, is_dots(&p));
    // What is read once counts more than what is computed, if there are few rows.
    let tasks = (work / GRAIN).max(p.n * p.k / (GRAIN / 2)).min(256);
    if tasks <= 1 {
        // SAFETY: the caller's promise.
        return unsafe { piece(p, as_dots) };
    }
    if p.n >= p.m {
        let wide = TileShape::of::<T>().columns;
        // A right side read along its rows wants long ones.
        let least = if p.b_column == 1 && p.m <= FEW { 1024 } else { wide };
        let chunk = p.n.div_ceil(tasks).next_multiple_of(wide).max(least);
        // SAFETY: parts of the product, whose columns no other task writes.
        parallel(p.n.div_ceil(chunk), |task| unsafe {
            piece(p.columns(task * chunk, chunk.min(p.n - task * chunk)), as_dots);
        });
    } else {
        // Each task packs the whole right side: half as many.
        let chunk = p.m.div_ceil(tasks.div_ceil(2)).next_multiple_of(TileShape::of::<T>().rows);
        // SAFETY: parts of the product, whose rows no other task writes.
        parallel(p.m.div_ceil(chunk), |task| unsafe {
            piece(p.rows(task * chunk, chunk.min(p.m - task * chunk)), as_dots);
        });
    }
}

/// One task's part, as dot products or as strips.
unsafe fn piece<T: Float>(p: Product<T>, as_dots: bool) {
    // SAFETY: the caller's promise.
    unsafe { if as_dots { dots(p, p.out_row, 1) } else { strips(p) } }
}

/// The product with few columns, as a product with few rows: `outᵀ = bᵀ · aᵀ`.
///
/// # Safety
/// As for [`super::product`].
pub(super) unsafe fn turned<T: Float>(p: Product<T>) {
    let grain = (GRAIN / 2 / p.k).max(64);
    parallel(p.m.div_ceil(grain), |task| {
        let part = p.rows(task * grain, grain.min(p.m - task * grain));
        let turned = Product { out_row: part.m, ..part.turned() };
        // SAFETY: the same memory with rows and columns exchanged; tasks write rows of their own.
        unsafe {
            if part.a_column == 1 && part.k > 1 {
                dots(turned, 1, part.out_row);
            } else if part.n == 1 && part.out_row == 1 {
                strips(turned);
            } else {
                scratch::with(Purpose::Partial, part.m * part.n, |partial: &mut [T]| {
                    strips(Product { out: partial.as_mut_ptr(), ..turned });
                    for i in 0..part.m {
                        for j in 0..part.n {
                            *part.out.add(i * part.out_row + j) = partial[j * part.m + i];
                        }
                    }
                });
            }
        }
    });
}

/// Few rows, and columns that are contiguous over the depth. Element (i, j) goes to `out[i · out_x + j · out_y]`.
unsafe fn dots<T: Float>(p: Product<T>, out_x: usize, out_y: usize) {
    let block = |x: *const T, x_row: isize| Dots {
        depth: p.k,
        x,
        xs: p.m,
        x_row,
        y: p.b,
        ys: p.n,
        y_row: p.b_column,
        out: p.out,
        out_x,
        out_y,
    };
    // SAFETY: the caller's promise; a left side with other strides is copied first.
    unsafe {
        if p.a_column == 1 {
            return block(p.a, p.a_row).compute();
        }
        scratch::with(Purpose::Left, p.m * p.k, |rows: &mut [T]| {
            for i in 0..p.m {
                for q in 0..p.k {
                    rows[i * p.k + q] = *p.a.offset(i as isize * p.a_row + q as isize * p.a_column);
                }
            }
            block(rows.as_ptr(), p.k as isize).compute();
        });
    }
}

/// Strip by strip, each strip of the right side packed just before it is used, or read where it lies.
unsafe fn strips<T: Float>(p: Product<T>) {
    let TileShape { rows: tall, columns: wide, .. } = TileShape::of::<T>();
    let in_cache = p.k as isize * p.b_row.abs() <= 4096;
    let direct = p.b_column == 1 && (p.m <= FEW || in_cache);
    // Where the right side is read along its rows, few rows at a time keep the reads sequential.
    let ahead = direct && !in_cache;
    let depth_limit = if direct && !in_cache { 16 } else { 256 };
    scratch::with(Purpose::Small, depth_limit.min(p.k) * wide, |panel: &mut [T]| {
        let mut done = 0;
        while done < p.k {
            let depth = depth_limit.min(p.k - done);
            let mut column = 0;
            while column < p.n {
                let width = wide.min(p.n - column);
                let b = p.b.wrapping_offset(done as isize * p.b_row + column as isize * p.b_column);
                let in_place = direct && (width == wide || width == wide / 2);
                // SAFETY: the strip lies inside all three matrices; in place, whole vectors of it are there.
                unsafe {
                    if !in_place {
                        pack::right(depth, width, b, p.b_row, p.b_column, panel.as_mut_ptr());
                    }
                    if ahead {
                        (0..depth).for_each(|q| cpu::prefetch(b.wrapping_offset(q as isize * p.b_row + 256)));
                    }
                    let strip = Strip {
                        rows: p.m,
                        depth,
                        columns: width,
                        a: p.a.wrapping_offset(done as isize * p.a_column),
                        a_row: p.a_row,
                        a_strip: tall as isize * p.a_row,
                        a_step: p.a_column,
                        b: if in_place { b } else { panel.as_ptr() },
                        b_step: if in_place { p.b_row } else { wide as isize },
                        c: p.out.add(column),
                        c_row: p.out_row,
                        add: done > 0,
                    };
                    strip.compute();
                }
                column += wide;
            }
            done += depth;
        }
    });
}
