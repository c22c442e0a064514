//! Layer normalisation: the statistics of rows, and the gradients.

use super::{TASK, part};
use crate::Float;
use crate::cpu::{self, Vector, Work};
use crate::lanes::{Pass, Sum, Sums, pass, read, some_of, sums, write};
use crate::matmul::scratch::{self, Purpose};
use crate::threads::{SendPointer, parallel};

/// Rows of which one pass is made after the other before the next pass: what it takes to fold a row's sums is hidden by the
/// others. Gradients of so many rows also share a reading and a writing of gamma's and beta's.
const GROUP: usize = 4;

/// Mean and `1/√(variance + epsilon)`, of the biased variance, of each row of `[rows, width]`.
pub fn layer_norm_statistics<T: Float>(
    rows: usize,
    width: usize,
    epsilon: f64,
    x: &[T],
    mean: &mut [T],
    inverse_std: &mut [T],
) {
    (T::floats().norm_layer_norm_statistics)(rows, width, epsilon, x, mean, inverse_std)
}

/// The body of [`layer_norm_statistics`], compiled once for each type in this crate.
pub(crate) fn layer_norm_statistics_body<T: Float>(
    rows: usize,
    width: usize,
    epsilon: f64,
    x: &[T],
    mean: &mut [T],
    inverse_std: &mut [T],
) {
    assert!(x.len() == rows * width, "x is [rows, width]");
    assert!(mean.len() == rows && inverse_std.len() == rows, "statistics are [rows]");
    let each = (TASK / width.max(1)).max(1);
    let outs = [mean, inverse_std].map(|out| SendPointer(out.as_mut_ptr()));
    parallel(rows.div_ceil(each), |task| {
        let (first, count) = (task * each, each.min(rows - task * each));
        // SAFETY: each task has rows of its own, which lie inside the outputs by the asserts above.
        let [mean, inverse_std] = unsafe { [part(&outs[0], first, count), part(&outs[1], first, count)] };
        let x = &x[first * width..][..count * width];
        // SAFETY: the slices are rows of `width` and numbers for as many rows.
        unsafe { cpu::run(RowStatistics { width, epsilon, x, mean, inverse_std }) };
    });
}

/// The statistics of some rows.
struct RowStatistics<'a, T> {
    width: usize,
    epsilon: f64,
    x: &'a [T],
    mean: &'a mut [T],
    inverse_std: &'a mut [T],
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl<T: Float> Work<T> for RowStatistics<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        let RowStatistics { width, epsilon, x, mean, inverse_std } = self;
        let (rows, x, per_element) = (mean.len(), x.as_ptr(), T::from_f64(1.0 / width as f64));
        // SAFETY: there are as many rows of `width` elements as means.
        unsafe {
            for first in (0..rows).step_by(GROUP) {
                let last = rows.min(first + GROUP);
                for r in first..last {
                    mean[r] = sums::<T, V, 1>(width, Sum(x.add(r * width)))[0] * per_element;
                }
                // The second pass over a row also corrects the rounding of the first one's mean.
                for r in first..last {
                    let of = Deviations { x: x.add(r * width), centre: mean[r] };
                    let [rest, squares] = sums::<T, V, 2>(width, of);
                    let shift = rest * per_element;
                    let variance = squares * per_element - shift * shift;
                    let variance = if variance < T::ZERO { T::ZERO } else { variance };
                    (mean[r], inverse_std[r]) = (mean[r] + shift, T::ONE / (variance + T::from_f64(epsilon)).sqrt());
                }
            }
        }
    }
}

/// `Σ (x − centre)` and `Σ (x − centre)²` of a row.
pub(super) struct Deviations<T> {
    pub(super) x: *const T,
    pub(super) centre: T,
}

impl<T: Float> Sums<T, 2> for Deviations<T> {
    #[inline(always)]
    unsafe fn add<V: Vector<T>>(&self, sums: &mut [V; 2], at: usize, lanes: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            // Once x less the centre, to the bit; where additions have units of their own, these have enough to do.
            let (one, centre) = (V::splat(T::ONE), V::splat(T::ZERO - self.centre));
            let deviation = some_of(read::<T, V>(self.x.add(at), lanes).mul_add(one, centre), lanes);
            sums[0] = sums[0].add(deviation);
            sums[1] = deviation.mul_add(deviation, sums[1]);
        }
    }
}

/// The gradients of `(x − mean)/√(variance + epsilon)·gamma + beta` by row, from x and [`layer_norm_statistics`].
///
/// With `x̂ = (x − mean)·inverse_std` and `g = gy·gamma`: `gx = inverse_std·(g − mean(g) − x̂·mean(g·x̂))`,
/// `affine` is `[ggamma, gbeta]`, if they are wanted: `ggamma = Σ_rows gy·x̂`, `gbeta = Σ_rows gy`, both `[width]`. Sums over
/// rows are made in blocks that depend on sizes alone.
pub fn layer_norm_backward<T: Float>(
    rows: usize,
    width: usize,
    x: &[T],
    gamma: Option<&[T]>,
    mean: &[T],
    inverse_std: &[T],
    gy: &[T],
    gx: &mut [T],
    affine: Option<[&mut [T]; 2]>,
) {
    (T::floats().norm_layer_norm_backward)(rows, width, x, gamma, mean, inverse_std, gy, gx, affine)
}

/// The body of [`layer_norm_backward`], compiled once for each type in this crate.
pub(crate) fn layer_norm_backward_body<T: Float>(
    rows: usize,
    width: usize,
    x: &[T],
    gamma: Option<&[T]>,
    mean: &[T],
    inverse_std: &[T],
    gy: &[T],
    gx: &mut [T],
    affine: Option<[&mut [T]; 2]>,
) {
    let cached = 3 * rows * width * size_of::<T>() <= cpu::caches::last_level() / 4;
    backward(cached, rows, width, x, gamma, mean, inverse_std, gy, gx, affine);
}

/// [`layer_norm_backward`] in one of two orders, that give the same bits: if `cached`, caches are to hold all of x, gy and gx.
pub(super) fn backward<T: Float>(
    cached: bool,
    rows: usize,
    width: usize,
    x: &[T],
    gamma: Option<&[T]>,
    mean: &[T],
    inverse_std: &[T],
    gy: &[T],
    gx: &mut [T],
    affine: Option<[&mut [T]; 2]>,
) {
    let length = rows * width;
    assert!(x.len() == length && gy.len() == length && gx.len() == length, "x, gy and gx are [rows, width]");
    assert!(mean.len() == rows && inverse_std.len() == rows, "statistics are [rows]");
    assert!(affine.iter().flatten().all(|out| out.len() == width), "ggamma and gbeta are [width]");
    assert!(gamma.is_none_or(|gamma| gamma.len() == width), "gamma is [width]");
    // At most 64 blocks, whose sums are then added in order.
    let each = (TASK / width.max(1)).max(rows.div_ceil(64)).max(1);
    let blocks = rows.div_ceil(each);
    let gx = SendPointer(gx.as_mut_ptr());
    let block = |block: usize, affine: Option<[&mut [T]; 2]>| {
        let (first, count) = (block * each, each.min(rows - block * each));
        let (range, statistics) = (first * width..(first + count) * width, first..first + count);
        // SAFETY: each block has rows of `gx` of its own, inside it by its size.
        let gx = unsafe { part(&gx, range.start, range.len()) };
        let (x, gy, mean) = (&x[range.clone()], &gy[range], &mean[statistics.clone()]);
        let inverse_std = &inverse_std[statistics];
        // SAFETY: the slices are rows of `width` and numbers for as many rows.
        unsafe { cpu::run(RowGradients { width, x, gamma, mean, inverse_std, gy, gx, affine, cached }) };
    };
    let Some([ggamma, gbeta]) = affine else {
        return parallel(blocks, |index| block(index, None));
    };
    scratch::with(Purpose::Partial, blocks * 2 * width, |partial: &mut [T]| {
        let sums = SendPointer(partial.as_mut_ptr());
        parallel(blocks, |index| {
            // SAFETY: each block has two lines of its own.
            let [ggamma, gbeta] = [0, 1].map(|line| unsafe { part(&sums, (index * 2 + line) * width, width) });
            ggamma.fill(T::ZERO);
            gbeta.fill(T::ZERO);
            block(index, Some([ggamma, gbeta]));
        });
        ggamma.fill(T::ZERO);
        gbeta.fill(T::ZERO);
        for lines in partial.chunks_exact(2 * width.max(1)) {
            let (gammas, betas) = lines.split_at(width);
            ggamma.iter_mut().zip(gammas).for_each(|(sum, &value)| *sum += value);
            gbeta.iter_mut().zip(betas).for_each(|(sum, &value)| *sum += value);
        }
    });
}

/// The gradients of some rows; those of gamma and beta are added.
struct RowGradients<'a, T> {
    width: usize,
    x: &'a [T],
    gamma: Option<&'a [T]>,
    mean: &'a [T],
    inverse_std: &'a [T],
    gy: &'a [T],
    gx: &'a mut [T],
    affine: Option<[&'a mut [T]; 2]>,
    /// Whether caches hold all of x, gy and gx.
    cached: bool,
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl<T: Float> Work<T> for RowGradients<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        let RowGradients { width, x, gamma, mean, inverse_std, gy, gx, affine, cached } = self;
        let per_element = T::from_f64(1.0 / width as f64);
        let affine = affine.map(|outs| outs.map(|out| out.as_mut_ptr()));
        let (x, gy, gx) = (x.as_ptr(), gy.as_ptr(), gx.as_mut_ptr());
        let gamma = gamma.map(|gamma| gamma.as_ptr());
        // SAFETY: there are as many rows of `width` elements as means; gamma and its and beta's gradients have as many.
        unsafe {
            let row = |r: usize| {
                let (x, gy, gx) = (x.add(r * width), gy.add(r * width), gx.add(r * width));
                Row { x, gy, gx, centre: mean[r], inverse: inverse_std[r] }
            };
            let mut r = 0;
            while r + GROUP <= mean.len() {
                let rows = [row(r), row(r + 1), row(r + 2), row(r + 3)];
                gradients::<T, V, GROUP>(width, gamma, per_element, affine, rows, cached);
                r += GROUP;
            }
            for r in r..mean.len() {
                gradients::<T, V, 1>(width, gamma, per_element, affine, [row(r)], cached);
            }
        }
    }
}

/// A row: where it lies, and its statistics.
#[derive(Clone, Copy)]
struct Row<T> {
    x: *const T,
    gy: *const T,
    gx: *mut T,
    centre: T,
    inverse: T,
}

/// The gradients of `R` rows: each row's own in turn, as memory is read and written fastest, then what they give to gamma's
/// and beta's; or, where caches hold all of it, everything at once, which reads a row once less.
///
/// # Safety
/// Rows, gamma and its and beta's gradients must have `width` elements, and the machine must have `V`.
#[inline(always)]
unsafe fn gradients<T: Float, V: Vector<T>, const R: usize>(
    width: usize,
    gamma: Option<*const T>,
    per_element: T,
    affine: Option<[*mut T; 2]>,
    rows: [Row<T>; R],
    cached: bool,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut moments = [[T::ZERO; 2]; R];
        for r in 0..R {
            moments[r] = sums::<T, V, 2>(width, Moments { row: rows[r], gamma });
        }
        let mut slopes = rows.map(|row| Slope { row, gamma, plain: T::ZERO, slope: T::ZERO });
        for r in 0..R {
            let [plain, weighted] = moments[r];
            slopes[r].plain = plain * per_element;
            slopes[r].slope = weighted * rows[r].inverse * rows[r].inverse * per_element;
        }
        match affine {
            Some([ggamma, gbeta]) if cached => pass::<T, V>(width, Columns::<T, R, true> { slopes, ggamma, gbeta }),
            _ => {
                for slope in slopes {
                    pass::<T, V>(width, slope);
                }
                if let Some([ggamma, gbeta]) = affine {
                    pass::<T, V>(width, Columns::<T, R, false> { slopes, ggamma, gbeta });
                }
            }
        }
    }
}

/// `g = gy·gamma`.
///
/// # Safety
/// As for [`read`].
#[inline(always)]
unsafe fn scaled<T: Float, V: Vector<T>>(gy: V, gamma: Option<*const T>, at: usize, lanes: usize) -> V {
    // SAFETY: the caller's promise.
    unsafe {
        match gamma {
            Some(gamma) => gy.mul(read(gamma.add(at), lanes)),
            None => gy,
        }
    }
}

/// `Σ g` and `Σ g·(x − centre)` of a row.
struct Moments<T> {
    row: Row<T>,
    gamma: Option<*const T>,
}

impl<T: Float> Sums<T, 2> for Moments<T> {
    #[inline(always)]
    unsafe fn add<V: Vector<T>>(&self, sums: &mut [V; 2], at: usize, lanes: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let [gy, deviation] = self.row.load::<V>(at, lanes);
            let g = scaled::<T, V>(gy, self.gamma, at, lanes);
            sums[0] = sums[0].add(g);
            sums[1] = g.mul_add(some_of(deviation, lanes), sums[1]);
        }
    }
}

/// `gx = inverse·(g − plain − (x − centre)·slope)` along a row.
#[derive(Clone, Copy)]
struct Slope<T> {
    row: Row<T>,
    gamma: Option<*const T>,
    plain: T,
    slope: T,
}

impl<T: Float> Slope<T> {
    /// Writes gx where gy and the deviation are known.
    #[inline(always)]
    unsafe fn give<V: Vector<T>>(&self, gy: V, deviation: V, at: usize, lanes: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let g = scaled::<T, V>(gy, self.gamma, at, lanes);
            let rest = g.sub(V::splat(self.plain)).sub(deviation.mul(V::splat(self.slope)));
            write(V::splat(self.row.inverse).mul(rest), self.row.gx.add(at), lanes);
        }
    }
}

impl<T: Float> Row<T> {
    /// gy and x − centre.
    #[inline(always)]
    unsafe fn load<V: Vector<T>>(&self, at: usize, lanes: usize) -> [V; 2] {
        // SAFETY: the caller's promise.
        unsafe { [read(self.gy.add(at), lanes), read::<T, V>(self.x.add(at), lanes).sub(V::splat(self.centre))] }
    }
}

impl<T: Float> Pass<T> for Slope<T> {
    #[inline(always)]
    unsafe fn elements<V: Vector<T>>(&self, at: usize, lanes: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let [gy, deviation] = self.row.load::<V>(at, lanes);
            self.give(gy, deviation, at, lanes);
        }
    }
}

/// The gradients of gamma and beta: rows are added one after the other. With `GIVE` each row's gx, too.
struct Columns<T, const R: usize, const GIVE: bool> {
    slopes: [Slope<T>; R],
    ggamma: *mut T,
    gbeta: *mut T,
}

impl<T: Float, const R: usize, const GIVE: bool> Pass<T> for Columns<T, R, GIVE> {
    #[inline(always)]
    unsafe fn elements<V: Vector<T>>(&self, at: usize, lanes: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut ggamma = read::<T, V>(self.ggamma.add(at), lanes);
            let mut gbeta = read::<T, V>(self.gbeta.add(at), lanes);
            for slope in self.slopes {
                let [gy, deviation] = slope.row.load::<V>(at, lanes);
                if GIVE {
                    slope.give(gy, deviation, at, lanes);
                }
                ggamma = ggamma.add(gy.mul(deviation.mul(V::splat(slope.row.inverse))));
                gbeta = gbeta.add(gy);
            }
            write(ggamma, self.ggamma.add(at), lanes);
            write(gbeta, self.gbeta.add(at), lanes);
        }
    }
}
