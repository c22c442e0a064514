//! Matrix products, batched and strided.
//!
//! Three ways, chosen by size and strides alone: `light` reads the left side where it lies (small products, and those
//! with few rows), dot products serve sides that are both contiguous over the depth, and `blocked` packs both sides
//! in cache-sized panels, after Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008).
//! `packed` does a product whose right side was packed before.

mod blocked;
pub(crate) mod kernel;
mod light;
pub(crate) mod pack;
mod packed;
pub(crate) mod scratch;
pub(crate) mod shallow;
#[cfg(test)]
mod tests;

pub(crate) use packed::matmul_packed_body;
pub use packed::{PANEL, matmul_packed};

use crate::Float;
use crate::threads::{SendPointer, parallel};
use crate::tile::Update;

/// One side of a batched product: matrix `i` of the batch starts at element `offsets[i]` of `data`; any strides (also
/// 0 or negative).
#[derive(Clone, Copy)]
pub struct Operand<'a, T> {
    /// The storage all matrices of the batch lie in.
    pub data: &'a [T],
    /// Where each matrix of the batch has its element (0, 0).
    pub offsets: &'a [usize],
    /// From one row to the next, in elements.
    pub row_stride: isize,
    /// From one column to the next, in elements.
    pub column_stride: isize,
}

impl<T> Operand<'_, T> {
    /// Panics unless every element of every `rows` × `columns` matrix lies inside `data`.
    fn check(&self, side: &str, rows: usize, columns: usize) {
        if rows == 0 || columns == 0 {
            return;
        }
        let (mut low, mut high) = (0i128, 0i128);
        for (count, stride) in [(rows, self.row_stride), (columns, self.column_stride)] {
            let reach = (count as i128 - 1) * stride as i128;
            (low, high) = (low + reach.min(0), high + reach.max(0));
        }
        for &offset in self.offsets {
            assert!(
                offset as i128 + low >= 0 && offset as i128 + high < self.data.len() as i128,
                "matmul: the {side} side, {rows} × {columns} at offset {offset} with strides {} and {}, leaves its {} elements",
                self.row_stride,
                self.column_stride,
                self.data.len()
            );
        }
    }
}

/// One product over raw memory: `out[m, n] = a[m, k] · b[k, n]`.
struct Product<T> {
    m: usize,
    k: usize,
    n: usize,
    a: *const T,
    a_row: isize,
    a_column: isize,
    b: *const T,
    b_row: isize,
    b_column: isize,
    out: *mut T,
    out_row: usize,
}

impl<T> Clone for Product<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Product<T> {}
// SAFETY: tasks read the sides and write disjoint parts of the output; all memory outlives the parallel call.
unsafe impl<T: Send + Sync> Sync for Product<T> {}

impl<T> Product<T> {
    /// Product number `index` of a batch, to `out`, whose rows follow one another.
    fn of([m, k, n]: [usize; 3], a: &Operand<T>, b: &Operand<T>, index: usize, out: *mut T) -> Product<T> {
        Product {
            m,
            k,
            n,
            a: a.data[a.offsets[index]..].as_ptr(),
            a_row: a.row_stride,
            a_column: a.column_stride,
            b: b.data[b.offsets[index]..].as_ptr(),
            b_row: b.row_stride,
            b_column: b.column_stride,
            out,
            out_row: n,
        }
    }

    /// The same product for `n` columns from `first`.
    fn columns(&self, first: usize, n: usize) -> Product<T> {
        let b = self.b.wrapping_offset(first as isize * self.b_column);
        Product { n, b, out: self.out.wrapping_add(first), ..*self }
    }

    /// The same product for `m` rows from `first`.
    fn rows(&self, first: usize, m: usize) -> Product<T> {
        let a = self.a.wrapping_offset(first as isize * self.a_row);
        Product { m, a, out: self.out.wrapping_add(first * self.out_row), ..*self }
    }

    /// The same product seen as `outᵀ = bᵀ · aᵀ`; the output's layout stays with the caller.
    fn turned(&self) -> Product<T> {
        Product {
            m: self.n,
            n: self.m,
            a: self.b,
            a_row: self.b_column,
            a_column: self.b_row,
            b: self.a,
            b_row: self.a_column,
            b_column: self.a_row,
            ..*self
        }
    }
}

/// Multiply-adds one task should have at least, some microseconds' worth: ten times what it takes to hand one out.
const GRAIN: usize = 1 << 17;

/// `out[batch, m, n] = a[batch, m, k] · b[batch, k, n]`; `out` is contiguous and overwritten. `k == 0` gives zeros.
///
/// Each element is a sum in an order that depends on sizes and strides only.
///
/// # Panics
/// If the batches differ in length, `out` has not `batch · m · n` elements, or a side reaches outside its data.
pub fn matmul<T: Float>(m: usize, k: usize, n: usize, a: Operand<T>, b: Operand<T>, out: &mut [T]) {
    (T::floats().matmul)(m, k, n, a, b, out)
}

/// The body of [`matmul`], compiled once for each type in this crate.
pub(crate) fn matmul_body<T: Float>(m: usize, k: usize, n: usize, a: Operand<T>, b: Operand<T>, out: &mut [T]) {
    let batch = a.offsets.len();
    assert_eq!(batch, b.offsets.len(), "matmul: the sides' batches differ");
    assert_eq!(out.len(), batch * m * n, "matmul: output of {batch} × {m} × {n}");
    if out.is_empty() {
        return;
    }
    if k == 0 {
        out.fill(T::ZERO);
        return;
    }
    a.check("left", m, k);
    b.check("right", k, n);
    let base = SendPointer(out.as_mut_ptr());
    // SAFETY: `out` has `batch` matrices.
    let item = |i: usize| Product::of([m, k, n], &a, &b, i, unsafe { base.at(i * m * n) });
    if batch > 1 && is_tall(m, &a, &b) {
        let tall = Product { m: batch * m, ..item(0) };
        // SAFETY: the batch of left sides is one tall matrix, checked above, and so is the output.
        return unsafe { product(tall) };
    }
    let work = m.saturating_mul(k).saturating_mul(n);
    if batch == 1 || work >= 32 * GRAIN {
        // SAFETY: both sides were checked, the output has room for the batch.
        (0..batch).for_each(|i| unsafe { product(item(i)) });
        return;
    }
    let group = (GRAIN / work.max(1)).clamp(1, batch);
    parallel(batch.div_ceil(group), |task| {
        for i in task * group..batch.min((task + 1) * group) {
            // SAFETY: both sides were checked, the output has room for the batch; inside a task everything is serial.
            unsafe { product(item(i)) };
        }
    });
}

/// Whether [`matmul_update`] makes products of these sizes: large ones, whose task is a block of rows and columns.
pub fn takes_update(m: usize, k: usize, n: usize) -> bool {
    m > blocked::TASK_ROWS && n > blocked::TASK_ROWS && m.saturating_mul(k).saturating_mul(n) > light::SMALL
}

/// `update` with the gradient `a · b`, `[m, n]`, which is used up block by block and not stored. The bits are those of
/// [`matmul`] and of the update behind it.
///
/// # Panics
/// If the sizes are not such that [`takes_update`], the update has another shape, or a side reaches outside its data.
pub fn matmul_update(m: usize, k: usize, n: usize, a: Operand<f32>, b: Operand<f32>, update: &Update) {
    assert!(takes_update(m, k, n), "matmul_update: {m} × {k} × {n} is made in one piece");
    assert!(a.offsets.len() == 1 && b.offsets.len() == 1, "matmul_update: one product");
    assert_eq!(update.shape(), [m, n], "matmul_update: the update's shape");
    a.check("left", m, k);
    b.check("right", k, n);
    let product = Product::of([m, k, n], &a, &b, 0, std::ptr::null_mut());
    // SAFETY: both sides were checked; nothing is written but what the update holds.
    unsafe { blocked::update(product, update) };
}

/// Whether all right sides are one and the left sides lie below each other, so that one tall product does it.
fn is_tall<T>(m: usize, a: &Operand<T>, b: &Operand<T>) -> bool {
    let step = m as isize * a.row_stride;
    b.offsets.iter().all(|&offset| offset == b.offsets[0])
        && a.offsets.windows(2).all(|pair| pair[1].wrapping_sub(pair[0]) as isize == step)
}

/// # Safety
/// All pointers must be valid for the sizes and strides, and `out` must not overlap the sides.
unsafe fn product<T: Float>(p: Product<T>) {
    // SAFETY: the caller's promise; turning a product on its side keeps it.
    unsafe {
        if p.n < 8 && p.m > p.n {
            light::turned(p);
        } else if light::suits(&p) {
            light::product(p);
        } else {
            blocked::product(p);
        }
    }
}
