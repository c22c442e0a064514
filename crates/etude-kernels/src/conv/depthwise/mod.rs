//! Depthwise convolutions, where every group has one input channel: planes are read where they lie.
//!
//! All three passes go down a strip of columns one vector wide, row by row, with the sums that a row takes part in held in
//! registers: each row is loaded once for each column of the kernel.

mod planes;
mod spread;
mod weight;

use super::ConvGeometry;
use crate::Float;
use crate::cpu::{self, TileShape, Vector};
use crate::threads::parallel;
use std::ops::Range;
pub(super) use weight::gradient as weight_gradient;

/// Most rows of a kernel.
const MOST: usize = 7;
/// Positions of whole planes that are worked on together: what they take stays near from strip to strip.
const POSITIONS: usize = 4096;
/// The same for planes that come from memory, where the sums are the same either way.
const FEW_POSITIONS: usize = 2048;
/// Positions of a band of a larger plane, about: it and the next, which is asked for ahead, stay in the first-level cache.
const BAND: usize = 1024;
/// Rows of a tile of instruction sets with sixteen registers, and positions of a plane up to which those go this way, too.
const FEW_ROWS: usize = 6;
const SMALL: usize = 1024;
/// Multiply-adds a task should have.
const GRAIN: usize = 1 << 17;

/// Whether a convolution can go this way.
fn suits(g: &ConvGeometry) -> bool {
    let one = |axis: usize| [g.input[axis], g.kernel[axis], g.output[axis], g.padding[axis] + 1] == [1; 4];
    let stride = g.stride[2];
    g.groups == g.in_channels
        && g.groups > 1
        && one(0)
        && g.kernel[2] > 0
        && (1..=MOST).contains(&g.kernel[1])
        && (g.stride[1] == stride || one(1))
        && (stride == 1 || stride == 2 && g.dilation[1..] == [1; 2])
}

/// Whether planes are worked on faster here than from a padded copy: the larger ones need registers for a kernel and its sums.
fn is_faster<T: Float>(g: &ConvGeometry) -> bool {
    TileShape::of::<T>().rows > FEW_ROWS || g.output[1] * g.output[2] <= SMALL
}

/// Whether the forward pass goes this way.
pub(super) fn suits_forward<T: Float>(g: &ConvGeometry) -> bool {
    suits(g) && (g.stride[2] == 1 || is_faster::<T>(g))
}

/// Whether the gradient of its weights does.
pub(super) fn suits_weight_gradient<T: Float>(g: &ConvGeometry) -> bool {
    suits(g) && is_faster::<T>(g)
}

/// Whether the gradient of its input does.
pub(super) fn suits_input_gradient(g: &ConvGeometry) -> bool {
    suits(g) && (g.stride[2] == 1 || g.kernel[1] == g.kernel[2] && [3, 5, 7].contains(&g.kernel[1]))
}

/// See [`super::forward`]; sizes are checked there.
pub(super) fn forward<T: Float>(g: &ConvGeometry, x: &[T], w: &[T], y: &mut [T]) {
    let planes = planes::Planes {
        source: [g.input[1], g.input[2]],
        target: [g.output[1], g.output[2]],
        kernel: [g.kernel[1], g.kernel[2]],
        stride: g.stride[2],
        dilation: [g.dilation[1], g.dilation[2]],
        padding: [g.padding[1] as isize, g.padding[2] as isize],
        terms: 1,
        share: g.out_channels / g.groups,
        kernels: g.out_channels,
        turned: false,
    };
    planes.run(x, w, y);
}

/// See [`super::input_gradient`]; sizes are checked there.
pub(super) fn input_gradient<T: Float>(g: &ConvGeometry, gy: &[T], w: &[T], gx: &mut [T]) {
    let (terms, source, target) = (g.out_channels / g.groups, [g.output[1], g.output[2]], [g.input[1], g.input[2]]);
    let padding = [g.padding[1] as isize, g.padding[2] as isize];
    if g.stride[2] == 2 {
        let kernels = g.out_channels;
        return spread::Spread { source, target, side: g.kernel[1], padding, terms, kernels }.run(gy, w, gx);
    }
    // A convolution with the kernel turned by half a circle.
    let reach = |axis: usize| ((g.kernel[axis] - 1) * g.dilation[axis]) as isize;
    let planes = planes::Planes {
        source,
        target,
        kernel: [g.kernel[1], g.kernel[2]],
        stride: 1,
        dilation: [g.dilation[1], g.dilation[2]],
        padding: [reach(1) - padding[0], reach(2) - padding[1]],
        terms,
        share: 1,
        kernels: g.out_channels,
        turned: true,
    };
    planes.run(gy, w, gx);
}

/// How planes are cut into units: some whole planes, or a band of rows of one.
#[derive(Clone, Copy)]
struct Cut {
    planes: usize,
    /// Planes of a unit.
    group: usize,
    /// Steps down a plane, steps of a band, bands of a plane.
    steps: usize,
    band: usize,
    bands: usize,
}

impl Cut {
    /// The cut of planes of `steps` steps with so many positions each; a band has `least` steps at least, and planes of up to
    /// `whole` positions are not cut.
    fn new(planes: usize, steps: usize, positions: usize, least: usize, whole: usize) -> Cut {
        let bands = if steps * positions <= whole { 1 } else { steps.div_ceil((BAND / positions).max(least)) };
        let band = steps.div_ceil(bands);
        let group = (POSITIONS / (steps * positions)).clamp(1, planes);
        Cut { planes, group, steps, band, bands: steps.div_ceil(band) }
    }

    /// Runs all units, some at a time; a plane has `work` multiply-adds.
    fn run(&self, work: usize, run: impl Fn(Range<usize>) + Sync) {
        let units = self.planes.div_ceil(self.group) * self.bands;
        let bundle = (GRAIN / (work * self.group / self.bands).max(1)).clamp(1, units);
        parallel(units.div_ceil(bundle), |task| run(task * bundle..units.min((task + 1) * bundle)));
    }

    /// The planes and steps of a unit.
    #[inline(always)]
    fn unit(&self, unit: usize) -> (Range<usize>, Range<usize>) {
        let (plane, band) = (unit / self.bands * self.group, unit % self.bands * self.band);
        (plane..self.planes.min(plane + self.group), band..self.steps.min(band + self.band))
    }
}

/// `values`, each one place further, behind `first`. Not in place, or the compiler would keep them in memory.
#[inline(always)]
#[allow(clippy::manual_memcpy)] // a copy of slices would go through memory, too
fn shifted<V: Copy, const N: usize>(values: [V; N], first: V) -> [V; N] {
    let mut all = [first; N];
    for i in 1..N {
        all[i] = values[i - 1];
    }
    all
}

/// What is read later, asked for in the order of memory: the machine then goes on by itself, which it does not along the rows of
/// a strip, for these lie apart.
struct Following<T> {
    at: *const T,
}

impl<T: Float> Following<T> {
    /// Asks for some vectors; `soon` means that they are read before much else is.
    #[inline(always)]
    fn ask<V: Vector<T>>(&mut self, vectors: usize, soon: bool) {
        for _ in 0..vectors {
            if soon {
                cpu::prefetch(self.at)
            } else {
                cpu::prefetch_to_second(self.at)
            }
            self.at = self.at.wrapping_add(V::LANES);
        }
    }
}

/// How a strip of columns reads the rows of a plane.
#[derive(Clone, Copy)]
struct Columns {
    /// The column that the first tap reads for the first lane; may lie outside.
    start: isize,
    /// Columns of the plane.
    width: usize,
    /// Lanes that are used.
    count: usize,
    /// From one tap to the next.
    dilation: usize,
}

impl Columns {
    /// Whether whole vectors can be read for all of `taps`, with stride `S`.
    #[inline(always)]
    fn are_inside<const S: usize>(&self, taps: usize, lanes: usize) -> bool {
        let last = ((taps - 1) * self.dilation + S * lanes) as isize;
        self.count == lanes && self.start >= 0 && self.start + last <= self.width as isize
    }

    /// What taps `tap..tap + G` read of the row at `row`, with stride `S`; lanes that are not used are 0 where `EDGE`, and so
    /// is what lies outside.
    ///
    /// # Safety
    /// The row must be valid for its width; without `EDGE`, [`Columns::are_inside`].
    #[inline(always)]
    unsafe fn read<T: Float, V: Vector<T>, const S: usize, const G: usize, const EDGE: bool>(
        &self,
        row: *const T,
        tap: usize,
    ) -> [V; G] {
        // SAFETY: the caller's promise; with `EDGE` only what exists is read.
        unsafe {
            let mut taps = [V::splat(T::ZERO); G];
            let mut i = 0;
            while i < G {
                let start = self.start + ((tap + i) * self.dilation) as isize;
                let from = row.wrapping_offset(start);
                let begin = (-start).max(0) as usize;
                let end = (self.width as isize - start).clamp(0, (S * self.count) as isize) as usize;
                if S == 1 {
                    taps[i] = if EDGE { V::load_between(from, begin, end) } else { V::load(from) };
                    i += 1;
                } else {
                    let second = from.wrapping_add(V::LANES);
                    let (low, high) = if EDGE {
                        let [b, e] = [begin, end].map(|lane| lane.saturating_sub(V::LANES));
                        (V::load_between(from, begin.min(V::LANES), end.min(V::LANES)), V::load_between(second, b, e))
                    } else {
                        (V::load(from), V::load(second))
                    };
                    let (even, odd) = low.deinterleave(high);
                    taps[i] = even;
                    if i + 1 < G {
                        taps[i + 1] = odd;
                    }
                    i += 2;
                }
            }
            taps
        }
    }

    /// What three taps read of the row at `row` with stride 2, for all lanes but the last; what lies outside is 0 where `EDGE`.
    ///
    /// # Safety
    /// As [`Columns::read`].
    #[inline(always)]
    unsafe fn read_pair<T: Float, V: Vector<T>, const G: usize, const EDGE: bool>(&self, row: *const T) -> [V; G] {
        let from = row.wrapping_offset(self.start);
        let second = from.wrapping_add(V::LANES);
        // SAFETY: the caller's promise; with `EDGE` only what exists is read.
        unsafe {
            let (low, high) = if EDGE {
                let begin = (-self.start).max(0) as usize;
                let end = (self.width as isize - self.start).clamp(0, 2 * V::LANES as isize) as usize;
                let [b, e] = [begin, end].map(|lane| lane.saturating_sub(V::LANES));
                (V::load_between(from, begin.min(V::LANES), end.min(V::LANES)), V::load_between(second, b, e))
            } else {
                (V::load(from), V::load(second))
            };
            let (even, odd) = low.deinterleave(high);
            let mut taps = [even.next(); G];
            taps[0] = even;
            taps[1] = odd;
            taps
        }
    }
}
