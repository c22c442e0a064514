//! Maximum pooling of images with sixteen channels side by side.

use super::BLOCK;
use crate::Float;
use crate::cpu::{self, Vector, Work};
use crate::pool::PoolGeometry;
use crate::threads::{SendPointer, parallel};

/// Outputs of a task, about.
const GRAIN: usize = 1 << 15;

/// The maximum of each window over the last two axes of the geometry, whose planes hold 16 channels: `x [planes, height,
/// width, 16]`. NaN wins over everything, padding never wins; a window without any real element gives −∞.
///
/// # Panics
/// If a slice has not the size the geometry says, or there are three axes.
pub fn max_pool<T: Float>(g: &PoolGeometry, x: &[T], y: &mut [T]) {
    (T::floats().channels_max_pool)(g, x, y)
}

/// The body of [`max_pool`], compiled once for each type in this crate.
pub(crate) fn max_pool_body<T: Float>(g: &PoolGeometry, x: &[T], y: &mut [T]) {
    assert!(g.input[0] == 1 && g.output[0] == 1 && g.kernel[0] == 1, "pooling: two axes are needed: {g:?}");
    assert_eq!(x.len(), g.planes * g.input_size() * BLOCK, "pooling: input of {g:?}");
    assert_eq!(y.len(), g.planes * g.output_size() * BLOCK, "pooling: output of {g:?}");
    let [_, height, width] = g.output;
    if y.is_empty() {
        return;
    }
    let rows = (GRAIN / (width * BLOCK)).clamp(1, height);
    let pieces = height.div_ceil(rows);
    let y = SendPointer(y.as_mut_ptr());
    parallel(g.planes * pieces, |task| {
        let (plane, row) = (task / pieces, task % pieces * rows);
        let x = x[plane * g.input_size() * BLOCK..].as_ptr();
        let rows = row..height.min(row + rows);
        // SAFETY: a plane of the input is there, and each task writes rows of its own.
        unsafe { cpu::run(Rows { g, x, y: y.at((plane * height + row) * width * BLOCK), rows }) }
    });
}

/// Some rows of one plane of outputs.
struct Rows<'a, T> {
    g: &'a PoolGeometry,
    x: *const T,
    y: *mut T,
    rows: std::ops::Range<usize>,
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl<T: Float> Work<T> for Rows<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        let Rows { g, x, mut y, rows } = self;
        for row in rows {
            let (top, height) = g.window(1, row);
            for column in 0..g.output[2] {
                let (left, width) = g.window(2, column);
                for lane in (0..BLOCK).step_by(V::LANES) {
                    // SAFETY: a window's elements lie inside the plane; the output is the caller's promise.
                    unsafe {
                        let mut largest = V::splat(T::NEG_INFINITY);
                        for i in 0..height {
                            for j in 0..width {
                                let at = (top + i * g.dilation[1]) * g.input[2] + left + j * g.dilation[2];
                                largest = V::load(x.add(at * BLOCK + lane)).max(largest);
                            }
                        }
                        largest.store(y.add(lane));
                    }
                }
                y = y.wrapping_add(BLOCK);
            }
        }
    }
}
