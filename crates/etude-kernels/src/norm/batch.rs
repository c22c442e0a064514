//! Batch normalisation. It reads `[batch, channels, spatial]`; its sums are of differences from a centre, so that a mean far
//! larger than the deviation costs no digits: in `runs` where positions fill a vector, in f64 where they do not.

use super::runs::{Moments, ROOM, Runs};
use super::{TASK, part};
use crate::Float;
use crate::cpu::{self, has_avx2};
use crate::matmul::scratch::{self, Purpose};
use crate::threads::{SendPointer, parallel, parallel_chunks};
use std::ops::Range;

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
    let centres: Vec<T> = (0..channels).map(|c| x.get(c * spatial).map_or(T::ZERO, |v| *v)).collect();
    let (moments, n) = (layout.moments::<T, false>(x, x, &centres), (batch * spatial) as f64);
    for c in 0..channels {
        let Moments { centre, sums: [plain, squares] } = moments[c];
        let (shift, squares) = (plain / n, squares / n);
        mean[c] = T::from_f64(centre + shift);
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
    let (moments, n) = (layout.moments::<T, true>(x, gy, mean), (batch * spatial) as f64);
    let mut lines = Vec::with_capacity(channels);
    for c in 0..channels {
        let [plain, weighted] = moments[c].sums;
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

/// Columns of short runs that are summed side by side: memory is slow at short pieces.
const BAND: usize = 128;
/// Rows of short runs that are added one after the other to sums read once.
const DEEP: usize = 4;
/// Runs of so many elements are worth a loop of their own: no vector is longer.
const OWN: usize = 16;
/// Parts of the batch, at least, where there are so many examples.
const PARTS: usize = 4;
/// Examples of a part at most: a channel is read in so many places at once.
const MOST: usize = 16;

impl Layout {
    fn new(batch: usize, channels: usize, spatial: usize, length: usize) -> Layout {
        assert_eq!(length, batch * channels * spatial, "x is [batch, channels, spatial]");
        Layout { batch, channels, spatial }
    }

    /// Of each channel `[Σ w, Σ w·(x − centre)]`, with w = g if `GRADIENT` and x − centre if not. The batch is cut along the
    /// examples, as the work before and after is: a core reads what it wrote. Parts depend on sizes alone and are added in order.
    /// Short runs are too small for it: only many examples are cut.
    fn moments<T: Float, const GRADIENT: bool>(&self, x: &[T], g: &[T], centres: &[T]) -> Vec<Moments> {
        let mut totals: Vec<_> = centres.iter().map(|c| Moments { centre: c.to_f64(), sums: [0.0; 2] }).collect();
        if x.is_empty() {
            return totals;
        }
        let examples = if self.spatial >= OWN { self.batch.div_ceil(PARTS).min(MOST) } else { TASK / BAND };
        let examples = examples.min(self.batch);
        let parts = self.batch.div_ceil(examples);
        let each = (TASK / (examples * self.spatial)).clamp(1, self.channels);
        let groups = self.channels.div_ceil(each);
        let mut partial = vec![Moments::default(); parts * self.channels];
        let base = SendPointer(partial.as_mut_ptr());
        parallel(parts * groups, |task| {
            let (part_number, first) = (task / groups, task % groups * each);
            let examples = part_number * examples..self.batch.min((part_number + 1) * examples);
            // SAFETY: channels `first..` of a part, at most to the last; each task has its own.
            let out = unsafe { part(&base, part_number * self.channels + first, each.min(self.channels - first)) };
            if self.spatial >= OWN {
                let (channels, spatial, means) = (self.channels, self.spatial, centres);
                scratch::with(Purpose::Partial, out.len() * ROOM, |totals| {
                    let runs = Runs::<T, GRADIENT> { channels, spatial, x, g, means, examples, first, totals, out };
                    // SAFETY: the work holds slices alone.
                    unsafe { cpu::run(runs) };
                });
            } else {
                self.columns::<T, GRADIENT>(x, g, centres, examples, first, out);
            }
        });
        for (number, of_part) in partial.chunks_exact(self.channels).enumerate() {
            let n = (examples.min(self.batch - number * examples) * self.spatial) as f64;
            for (total, part) in totals.iter_mut().zip(of_part) {
                let ([plain, weighted], shift) = (part.sums, part.centre - total.centre);
                let moved = !GRADIENT && shift != 0.0;
                total.sums[0] += if moved { plain + n * shift } else { plain };
                total.sums[1] += if moved { weighted + shift * (2.0 * plain + n * shift) } else { weighted };
            }
        }
        totals
    }

    /// The moments of short runs, of channels `first..`: rows of columns that are summed side by side.
    fn columns<T: Float, const GRADIENT: bool>(
        &self,
        x: &[T],
        g: &[T],
        centres: &[T],
        rows: Range<usize>,
        first: usize,
        out: &mut [Moments],
    ) {
        for (moments, &centre) in out.iter_mut().zip(&centres[first..]) {
            *moments = Moments { centre: centre.to_f64(), sums: [0.0; 2] };
        }
        let end = out.len() * self.spatial;
        // Channels of columns are counted: no division for each.
        let mut place = (0, 0);
        for left in (0..end).step_by(BAND) {
            let width = BAND.min(end - left);
            let (mut middle, mut owners) = ([0.0; BAND], [0; BAND]);
            for j in 0..width {
                (middle[j], owners[j]) = (out[place.0].centre, place.0);
                place = if place.1 + 1 == self.spatial { (place.0 + 1, 0) } else { (place.0, place.1 + 1) };
            }
            let corner = (first * self.spatial + left, self.channels * self.spatial);
            let mut sums = [[0.0; BAND]; 2];
            add_band::<T, GRADIENT>(x, g, rows.clone(), corner, &middle[..width], &mut sums);
            for j in 0..width {
                let total = &mut out[owners[j]].sums;
                *total = [total[0] + sums[0][j], total[1] + sums[1][j]];
            }
        }
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
        parallel_chunks(out, each, |task, out| {
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

/// Adds some rows of the columns `left..`, of rows `apart`, to `sums`.
fn add_band<T: Float, const GRADIENT: bool>(
    x: &[T],
    g: &[T],
    rows: Range<usize>,
    place: (usize, usize),
    middle: &[f64],
    sums: &mut [[f64; BAND]; 2],
) {
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        // SAFETY: the processor has what the function is compiled for.
        unsafe { add_band_avx2::<T, GRADIENT>(x, g, rows, place, middle, sums) };
        return;
    }
    add_band_of::<T, GRADIENT, false>(x, g, rows, place, middle, sums);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn add_band_avx2<T: Float, const GRADIENT: bool>(
    x: &[T],
    g: &[T],
    rows: Range<usize>,
    place: (usize, usize),
    middle: &[f64],
    sums: &mut [[f64; BAND]; 2],
) {
    add_band_of::<T, GRADIENT, true>(x, g, rows, place, middle, sums);
}

#[inline(always)]
fn add_band_of<T: Float, const GRADIENT: bool, const FUSED: bool>(
    x: &[T],
    g: &[T],
    rows: Range<usize>,
    (left, apart): (usize, usize),
    middle: &[f64],
    sums: &mut [[f64; BAND]; 2],
) {
    let mut row = rows.start;
    while row < rows.end {
        let start = row * apart + left;
        let (x, g) = (&x[start..], &g[start..]);
        if row + DEEP <= rows.end {
            add_rows::<T, GRADIENT, FUSED, DEEP>(x, g, apart, middle, sums);
            row += DEEP;
        } else {
            add_rows::<T, GRADIENT, FUSED, 1>(x, g, apart, middle, sums);
            row += 1;
        }
    }
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
    // In a loop of its own channel follows channel: no division for each run.
    let mut channel = if lines.is_empty() { 0 } else { first % lines.len() };
    for start in (0..out.len()).step_by(run) {
        let (x, g, out) = (&x[start..][..run], &g[start..][..run], &mut out[start..][..run]);
        if let Some(columns) = columns {
            let [centre, slope, weight, offset] = columns.each_ref().map(|column| &column[..run]);
            for i in 0..run {
                out[i] = (x[i] - centre[i]) * slope[i] + offset[i] + g[i] * weight[i];
            }
        } else {
            let line = lines[channel];
            channel = if channel + 1 < lines.len() { channel + 1 } else { 0 };
            for i in 0..run {
                out[i] = (x[i] - line.centre) * line.slope + line.offset + g[i] * line.weight;
            }
        }
    }
}
