//! Batch normalisation. It reads `[batch, channels, spatial]`; its sums are made in f64 of differences from a centre, so that
//! a mean far larger than the deviation costs no digits.

use super::{TASK, part};
use crate::Float;
use crate::cpu::has_avx2;
use crate::threads::{SendPointer, parallel};

/// Partial sums of a contiguous run.
const LANES: usize = 8;

/// Mean and biased variance, `Σ(x − mean)²/n`, of each channel of `[batch, channels, spatial]`; NaN where n is 0.
pub fn batch_norm_statistics<T: Float>(
    batch: usize,
    channels: usize,
    spatial: usize,
    x: &[T],
    mean: &mut [T],
    variance: &mut [T],
) {
    (T::floats().norm_batch_norm_statistics)(batch, channels, spatial, x, mean, variance)
}

/// The body of [`batch_norm_statistics`], compiled once for each type in this crate.
pub(crate) fn batch_norm_statistics_body<T: Float>(
    batch: usize,
    channels: usize,
    spatial: usize,
    x: &[T],
    mean: &mut [T],
    variance: &mut [T],
) {
    assert!(mean.len() == channels && variance.len() == channels, "statistics are [channels]");
    let layout = Layout::new(batch, channels, spatial, x.len());
    // Any value of the channel is near enough to its mean for f64.
    let centres: Vec<f64> = (0..channels).map(|c| x.get(c * spatial).map_or(0.0, |v| v.to_f64())).collect();
    let (sums, n) = (layout.sums::<T, false>(x, x, &centres), (batch * spatial) as f64);
    for c in 0..channels {
        let (shift, squares) = (sums[c][0] / n, sums[c][1] / n);
        mean[c] = T::from_f64(centres[c] + shift);
        let spread = squares - shift * shift;
        variance[c] = T::from_f64(if spread < 0.0 { 0.0 } else { spread });
    }
}

/// `gamma[c]/√(variance + epsilon)`.
fn scale<T: Float>(variance: T, epsilon: f64, gamma: Option<&[T]>, c: usize) -> f64 {
    gamma.map_or(1.0, |gamma| gamma[c].to_f64()) / (variance.to_f64() + epsilon).sqrt()
}

/// The gradients of batch normalisation with the batch's own mean and variance (which depend on x).
///
/// With `x̂ = (x − mean)·s` and `s = 1/√(variance + epsilon)`: `gbeta = Σ gy`, `ggamma = Σ gy·x̂` over a channel's n
/// elements, `gx = gamma·s·(gy − gbeta/n − x̂·ggamma/n)`.
pub fn batch_norm_backward<T: Float>(
    batch: usize,
    channels: usize,
    spatial: usize,
    epsilon: f64,
    x: &[T],
    mean: &[T],
    variance: &[T],
    gamma: Option<&[T]>,
    gy: &[T],
    gx: &mut [T],
    ggamma: &mut [T],
    gbeta: &mut [T],
) {
    (T::floats().norm_batch_norm_backward)(
        batch, channels, spatial, epsilon, x, mean, variance, gamma, gy, gx, ggamma, gbeta,
    )
}

/// The body of [`batch_norm_backward`], compiled once for each type in this crate.
pub(crate) fn batch_norm_backward_body<T: Float>(
    batch: usize,
    channels: usize,
    spatial: usize,
    epsilon: f64,
    x: &[T],
    mean: &[T],
    variance: &[T],
    gamma: Option<&[T]>,
    gy: &[T],
    gx: &mut [T],
    ggamma: &mut [T],
    gbeta: &mut [T],
) {
    let layout = Layout::new(batch, channels, spatial, x.len());
    assert!(gy.len() == x.len() && gx.len() == x.len(), "gy and gx have the size of x");
    assert!([mean, variance, ggamma, gbeta].iter().all(|p| p.len() == channels), "parameters are [channels]");
    let centres: Vec<f64> = mean.iter().map(|m| m.to_f64()).collect();
    let (sums, n) = (layout.sums::<T, true>(x, gy, &centres), (batch * spatial) as f64);
    let mut lines = Vec::with_capacity(channels);
    for c in 0..channels {
        let [plain, weighted] = sums[c];
        let (slope, inverse) = (scale(variance[c], epsilon, gamma, c), scale(variance[c], epsilon, None, c));
        gbeta[c] = T::from_f64(plain);
        ggamma[c] = T::from_f64(weighted * inverse);
        lines.push(Line {
            centre: mean[c],
            slope: T::from_f64(-slope * inverse * inverse * weighted / n),
            weight: T::from_f64(slope),
            offset: T::from_f64(-slope * plain / n),
        });
    }
    layout.apply(x, gy, &lines, gx);
}

/// How channels lie in memory. Long runs of one channel are worked on run by run; short ones, as of features without
/// spatial axes, as rows of `[batch, channels·spatial]`, column beside column.
struct Layout {
    batch: usize,
    channels: usize,
    spatial: usize,
}

/// What is done to a channel's elements: `(x − centre)·slope + g·weight + offset`.
#[derive(Clone, Copy)]
struct Line<T> {
    centre: T,
    slope: T,
    weight: T,
    offset: T,
}

/// Columns that are summed side by side, and the length from which runs are summed on their own: shorter ones are read
/// row by row, because memory is slow at short pieces.
const BAND: usize = 128;
/// Rows of short runs that are added one after the other to sums read once.
const DEEP: usize = 4;
/// Runs of so many elements are worth a loop of their own where nothing is summed.
const OWN: usize = 16;

impl Layout {
    fn new(batch: usize, channels: usize, spatial: usize, length: usize) -> Layout {
        assert_eq!(length, batch * channels * spatial, "x is [batch, channels, spatial]");
        Layout { batch, channels, spatial }
    }

    fn long_runs(&self) -> bool {
        self.spatial >= BAND
    }

    /// Of each channel `[Σ w, Σ w·(x − centre)]`, with w = g if `GRADIENT` and x − centre if not.
    fn sums<T: Float, const GRADIENT: bool>(&self, x: &[T], g: &[T], centres: &[f64]) -> Vec<[f64; 2]> {
        let mut totals = vec![[0.0; 2]; self.channels];
        if x.is_empty() {
            return totals;
        }
        // `items` of the batch make one partial sum of each of `columns` columns.
        let (columns, items) = if self.long_runs() {
            (self.channels, (TASK / self.spatial).max(1))
        } else {
            (self.channels * self.spatial, TASK / BAND)
        };
        let blocks = self.batch.div_ceil(items);
        let band = if self.long_runs() { 1 } else { BAND };
        let bands = columns.div_ceil(band);
        let mut partial = vec![[0.0; 2]; blocks * columns];
        let base = SendPointer(partial.as_mut_ptr());
        parallel(blocks * bands, |task| {
            let (block, left) = (task / bands, task % bands * band);
            let rows = block * items..self.batch.min((block + 1) * items);
            // SAFETY: columns `left..` of row `block`, at most to the row's end; each task has its own.
            let out = unsafe { part(&base, block * columns + left, band.min(columns - left)) };
            #[cfg(target_arch = "x86_64")]
            if has_avx2() {
                // SAFETY: the processor has what the function is compiled for.
                unsafe { sums_avx2::<T, GRADIENT>(self, x, g, centres, rows, left, out) };
                return;
            }
            self.sums_of::<T, GRADIENT, false>(x, g, centres, rows, left, out);
        });
        for block in partial.chunks_exact(columns) {
            for (total, sums) in totals.iter_mut().zip(block.chunks_exact(columns / self.channels)) {
                for sums in sums {
                    total[0] += sums[0];
                    total[1] += sums[1];
                }
            }
        }
        totals
    }

    #[inline(always)]
    fn sums_of<T: Float, const GRADIENT: bool, const FUSED: bool>(
        &self,
        x: &[T],
        g: &[T],
        centres: &[f64],
        rows: std::ops::Range<usize>,
        left: usize,
        out: &mut [[f64; 2]],
    ) {
        if self.long_runs() {
            let (mut plain, mut weighted) = ([0.0; LANES], [0.0; LANES]);
            let centre = centres[left];
            for row in rows {
                let start = (row * self.channels + left) * self.spatial;
                let (xs, x_rest) = x[start..][..self.spatial].as_chunks::<LANES>();
                let (gs, g_rest) = g[start..][..self.spatial].as_chunks::<LANES>();
                for (x, g) in xs.iter().zip(gs) {
                    for j in 0..LANES {
                        let (w, product) = terms::<T, GRADIENT, FUSED>(x[j], g[j], centre);
                        plain[j] += w;
                        weighted[j] += product;
                    }
                }
                for j in 0..x_rest.len() {
                    let (w, product) = terms::<T, GRADIENT, FUSED>(x_rest[j], g_rest[j], centre);
                    plain[j] += w;
                    weighted[j] += product;
                }
            }
            out[0] = [plain.iter().sum(), weighted.iter().sum()];
            return;
        }
        let (columns, width) = (self.channels * self.spatial, out.len());
        let (mut sums, mut middle) = ([[0.0; BAND]; 2], [0.0; BAND]);
        let (mut channel, mut place) = (left / self.spatial, left % self.spatial);
        for middle in &mut middle[..width] {
            *middle = centres[channel];
            place += 1;
            if place == self.spatial {
                (channel, place) = (channel + 1, 0);
            }
        }
        let mut row = rows.start;
        while row < rows.end {
            let start = row * columns + left;
            if row + DEEP <= rows.end {
                add_rows::<T, GRADIENT, FUSED, DEEP>(&x[start..], &g[start..], columns, &middle[..width], &mut sums);
                row += DEEP;
            } else {
                add_rows::<T, GRADIENT, FUSED, 1>(&x[start..], &g[start..], columns, &middle[..width], &mut sums);
                row += 1;
            }
        }
        (0..width).for_each(|j| out[j] = [sums[0][j], sums[1][j]]);
    }

    /// `out = (x − centre)·slope + offset + g·weight` with each channel's line.
    fn apply<T: Float>(&self, x: &[T], g: &[T], lines: &[Line<T>], out: &mut [T]) {
        if x.is_empty() {
            return;
        }
        // The shortest runs: one line for each column.
        let spread = |pick: fn(&Line<T>) -> T| {
            let mut columns = vec![T::ZERO; self.channels * self.spatial];
            let runs = columns.chunks_exact_mut(self.spatial);
            runs.zip(lines).for_each(|(run, line)| run.fill(pick(line)));
            columns
        };
        let own = self.spatial >= OWN;
        let columns =
            (!own).then(|| [spread(|l| l.centre), spread(|l| l.slope), spread(|l| l.weight), spread(|l| l.offset)]);
        let run = if own { self.spatial } else { self.channels * self.spatial };
        let each = (TASK / run).max(1) * run;
        crate::threads::parallel_chunks(out, each, |task, out| {
            let (x, g) = (&x[task * each..][..out.len()], &g[task * each..][..out.len()]);
            let first = task * each / run;
            #[cfg(target_arch = "x86_64")]
            if has_avx2() {
                // SAFETY: the processor has what the function is compiled for.
                unsafe { apply_avx2(run, first, x, g, lines, columns.as_ref(), out) };
                return;
            }
            apply_runs(run, first, x, g, lines, columns.as_ref(), out);
        });
    }
}

/// What an element adds to a channel's sums. `FUSED` is for code compiled for fused multiply-add: where additions have units
/// of their own, these have enough to do, and once x less the centre is the same to the bit.
#[inline(always)]
fn terms<T: Float, const GRADIENT: bool, const FUSED: bool>(x: T, g: T, centre: f64) -> (f64, f64) {
    let d = if FUSED { x.to_f64().mul_add(1.0, -centre) } else { x.to_f64() - centre };
    let w = if GRADIENT { g.to_f64() } else { d };
    (w, w * d)
}

/// Adds `R` rows, which lie `apart`, to the sums of their columns, one after the other.
#[inline(always)]
fn add_rows<T: Float, const GRADIENT: bool, const FUSED: bool, const R: usize>(
    x: &[T],
    g: &[T],
    apart: usize,
    middle: &[f64],
    sums: &mut [[f64; BAND]; 2],
) {
    let width = middle.len();
    let (mut xs, mut gs) = ([x; R], [g; R]);
    for row in 0..R {
        xs[row] = &x[row * apart..][..width];
        gs[row] = &g[row * apart..][..width];
    }
    let [plain, weighted] = sums;
    let (plain, weighted) = (&mut plain[..width], &mut weighted[..width]);
    for j in 0..width {
        let (mut sum, mut product) = (plain[j], weighted[j]);
        for row in 0..R {
            let (w, term) = terms::<T, GRADIENT, FUSED>(xs[row][j], gs[row][j], middle[j]);
            sum += w;
            product += term;
        }
        (plain[j], weighted[j]) = (sum, product);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn sums_avx2<T: Float, const GRADIENT: bool>(
    layout: &Layout,
    x: &[T],
    g: &[T],
    centres: &[f64],
    rows: std::ops::Range<usize>,
    left: usize,
    out: &mut [[f64; 2]],
) {
    layout.sums_of::<T, GRADIENT, true>(x, g, centres, rows, left, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn apply_avx2<T: Float>(
    run: usize,
    first: usize,
    x: &[T],
    g: &[T],
    lines: &[Line<T>],
    columns: Option<&[Vec<T>; 4]>,
    out: &mut [T],
) {
    apply_runs(run, first, x, g, lines, columns, out);
}

/// Runs of `run` elements, the first being run number `first`: each a channel's, or with `columns` a whole row.
#[inline(always)]
fn apply_runs<T: Float>(
    run: usize,
    first: usize,
    x: &[T],
    g: &[T],
    lines: &[Line<T>],
    columns: Option<&[Vec<T>; 4]>,
    out: &mut [T],
) {
    for (index, start) in (0..out.len()).step_by(run).enumerate() {
        let (x, g, out) = (&x[start..][..run], &g[start..][..run], &mut out[start..][..run]);
        if let Some(columns) = columns {
            let [centre, slope, weight, offset] = columns.each_ref().map(|column| &column[..run]);
            for i in 0..run {
                out[i] = (x[i] - centre[i]) * slope[i] + offset[i] + g[i] * weight[i];
            }
        } else {
            let line = lines[(first + index) % lines.len()];
            for i in 0..run {
                out[i] = (x[i] - line.centre) * line.slope + line.offset + g[i] * line.weight;
            }
        }
    }
}
