//! The gradient of the weights: the sums of one kernel, a vector each, stay in registers down a strip of columns.
//!
//! Tasks are kernels and, where those are few, parts of the batch; the parts' sums are added in order.

use super::super::ConvGeometry;
use super::super::weight::sum_of_parts;
use super::{Columns, Cut, shifted};
use crate::Float;
use crate::cpu::{self, InstructionSet, Vector, Work};
use crate::threads::SendPointer;
use std::ops::Range;

/// At least so many tasks, if there is work for them.
const TASKS: usize = 16;
/// Multiply-adds a part of the batch should have.
const PART: usize = 1 << 18;

/// See [`super::super::weight_gradient`]; sizes are checked there.
pub(in super::super) fn gradient<T: Float>(g: &ConvGeometry, x: &[T], gy: &[T], gw: &mut [T]) {
    if gw.is_empty() {
        return;
    }
    if g.output_size() == 0 || g.input_size() == 0 {
        return gw.fill(T::ZERO);
    }
    let most = (g.multiply_adds() / PART).clamp(1, TASKS).div_ceil(g.out_channels);
    let part = g.batch.div_ceil(most);
    sum_of_parts(g.batch.div_ceil(part), gw, |out| all_parts(g, part, x, gy, out));
}

/// The sums of parts of `part` images, one after the other in `out`.
fn all_parts<T: Float>(g: &ConvGeometry, part: usize, x: &[T], gy: &[T], out: &mut [T]) {
    let run = match ([g.kernel[1], g.kernel[2]], g.stride[2]) {
        ([1, _], 1) => units::<T, 1, 1>,
        ([2, _], 1) => units::<T, 2, 1>,
        ([3, _], 1) => units::<T, 3, 1>,
        ([4, _], 1) => units::<T, 4, 1>,
        ([5, _], 1) => units::<T, 5, 1>,
        ([6, _], 1) => units::<T, 6, 1>,
        (_, 1) => units::<T, 7, 1>,
        ([1, _], _) => units::<T, 1, 2>,
        ([2, _], _) => units::<T, 2, 2>,
        ([3, _], _) => units::<T, 3, 2>,
        ([4, _], _) => units::<T, 4, 2>,
        ([5, _], _) => units::<T, 5, 2>,
        ([6, _], _) => units::<T, 6, 2>,
        _ => units::<T, 7, 2>,
    };
    let kernel = g.kernel[1] * g.kernel[2];
    let cut = Cut { planes: out.len() / kernel, group: 1, steps: 1, band: 1, bands: 1 };
    let target = SendPointer(out.as_mut_ptr());
    let set = cpu::instruction_set();
    cut.run(part * kernel * g.output[1] * g.output[2], |units| {
        // SAFETY: units write kernels of their own; sizes were checked by the caller.
        unsafe { run(set, g, part, x.as_ptr(), gy.as_ptr(), target.at(0), units) };
    });
}

/// Some units, for kernels of `K` rows and stride `S`.
unsafe fn units<T: Float, const K: usize, const S: usize>(
    set: InstructionSet,
    g: &ConvGeometry,
    part: usize,
    x: *const T,
    gy: *const T,
    out: *mut T,
    units: Range<usize>,
) {
    // SAFETY: the set is the chosen one; the rest is the caller's promise.
    unsafe { T::dispatch(set, Units::<T, K, S> { g, part, x, gy, out, units }) }
}

/// Some kernels of some parts of the batch, of `K` rows and with stride `S`.
struct Units<'a, T, const K: usize, const S: usize> {
    g: &'a ConvGeometry,
    part: usize,
    x: *const T,
    gy: *const T,
    out: *mut T,
    units: Range<usize>,
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl<T: Float, const K: usize, const S: usize> Work<T> for Units<'_, T, K, S> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        let taps = self.g.kernel[2];
        for unit in self.units.clone() {
            let (part, channel) = (unit / self.g.out_channels, unit % self.g.out_channels);
            let images = part * self.part..self.g.batch.min((part + 1) * self.part);
            // SAFETY: this unit's kernel.
            let out = unsafe { self.out.add(unit * K * taps) };
            let mut tap = 0;
            while tap < taps {
                // SAFETY: the caller's promise; as many taps are left as are taken.
                unsafe {
                    // Three columns of the kernel at a time, if registers hold their sums.
                    if taps - tap >= 3 && (K <= 3 || V::ROWS > 6) {
                        self.taps::<V, 3>(channel, images.clone(), tap, out);
                        tap += 3;
                    } else {
                        self.taps::<V, 1>(channel, images.clone(), tap, out);
                        tap += 1;
                    }
                }
            }
        }
    }
}

impl<T: Float, const K: usize, const S: usize> Units<'_, T, K, S> {
    /// Columns `tap..tap + G` of a kernel, over some images.
    #[inline(always)]
    unsafe fn taps<V: Vector<T>, const G: usize>(&self, channel: usize, images: Range<usize>, tap: usize, out: *mut T) {
        let g = self.g;
        let ([_, source, source_width], [_, target, target_width]) = (g.input, g.output);
        let share = g.out_channels / g.groups;
        let step = g.dilation[1];
        let steps = target.div_ceil(step);
        let cut = Cut::new(images.len(), steps, step * target_width, K);
        // SAFETY: the caller's promise: these planes exist, and so do the rows of the kernel.
        unsafe {
            let mut totals = [[V::splat(T::ZERO); G]; K];
            for unit in 0..images.len().div_ceil(cut.group) * cut.bands {
                let (chosen, rows) = cut.unit(unit);
                // Each unit's sums by themselves: short sums are rounded less.
                let mut sums = [[V::splat(T::ZERO); G]; K];
                let mut ahead = [source_width * S, target_width].map(|row| cut.band * step * row);
                if rows.end == steps {
                    // The next image's first band.
                    let back = rows.start * step;
                    ahead = [
                        (g.in_channels * source - back * S) * source_width,
                        (g.out_channels * target - back) * target_width,
                    ];
                }
                for first in 0..step.min(target) {
                    let rows = rows.start..rows.end.min((target - first).div_ceil(step));
                    let whole = self.whole(first, &rows);
                    let mut column = 0;
                    while column < target_width {
                        let columns = Columns {
                            start: (column * S + tap * g.dilation[2]) as isize - g.padding[2] as isize,
                            width: source_width,
                            count: V::LANES.min(target_width - column),
                            dilation: g.dilation[2],
                        };
                        let strip = Strip { columns, first, rows: rows.clone(), whole: whole.clone(), ahead };
                        let inside = columns.are_inside::<S>(G, V::LANES);
                        for image in chosen.clone() {
                            let plane = (images.start + image) * g.out_channels + channel;
                            let gy = self.gy.add(plane * target * target_width + column);
                            let x = self.x.add(plane / share * source * source_width);
                            if inside {
                                sums = self.strip::<V, G, false>(&strip, x, gy, sums);
                            } else {
                                sums = self.strip::<V, G, true>(&strip, x, gy, sums);
                            }
                        }
                        column += V::LANES;
                    }
                }
                for k in 0..K {
                    for i in 0..G {
                        totals[k][i] = totals[k][i].add(sums[k][i]);
                    }
                }
            }
            for k in 0..K {
                for i in 0..G {
                    *out.add(k * g.kernel[2] + tap + i) = totals[k][i].sum();
                }
            }
        }
    }

    /// The steps for which all rows of both sides exist.
    #[inline(always)]
    fn whole(&self, first: usize, rows: &Range<usize>) -> Range<usize> {
        let g = self.g;
        let step = (g.dilation[1] * S) as isize;
        let before = g.padding[1] as isize - first as isize;
        let begin = (before.max(0) as usize).div_ceil(step as usize).max(rows.start + Self::HELD - 1);
        let end = (g.input[1] as isize + before - ((S - 1) * g.dilation[1]) as isize - 1).div_euclid(step) + 1;
        let begin = begin.min(rows.end + Self::HELD - 1);
        begin..(end.max(0) as usize).min(rows.end).max(begin)
    }

    /// Rows of `gy` that meet a row of `x`; row `j` is that of `j` steps ago.
    const HELD: usize = K.div_ceil(S);

    /// Adds a strip; `gy` is its first column.
    #[inline(always)]
    unsafe fn strip<V: Vector<T>, const G: usize, const EDGE: bool>(
        &self,
        strip: &Strip,
        x: *const T,
        gy: *const T,
        mut sums: [[V; G]; K],
    ) -> [[V; G]; K] {
        let g = self.g;
        let (columns, step) = (&strip.columns, g.dilation[1]);
        // SAFETY: the caller's promise; only what exists is read.
        unsafe {
            let mut held = [V::splat(T::ZERO); K];
            for at in strip.rows.start..strip.whole.start {
                (held, sums) = self.checked::<V, G, EDGE>(strip, at, x, gy, held, sums);
            }
            let row = (strip.first + step * strip.whole.start * S) as isize - g.padding[1] as isize;
            let mut from = x.wrapping_offset(row * g.input[2] as isize);
            let mut with = gy.wrapping_add((strip.first + step * strip.whole.start) * g.output[2]);
            for _ in strip.whole.clone() {
                let next = if EDGE { V::load_part(with, columns.count) } else { V::load(with) };
                held = shifted(held, next);
                cpu::prefetch(with.wrapping_add(strip.ahead[1]));
                for r in 0..S {
                    let ahead = from.wrapping_offset(columns.start).wrapping_add(strip.ahead[0]);
                    (0..S).for_each(|i| cpu::prefetch(ahead.wrapping_add(i * V::LANES)));
                    let taps: [V; G] = columns.read::<T, V, S, G, EDGE>(from, 0);
                    for j in 0..Self::HELD {
                        if r + S * j < K {
                            for i in 0..G {
                                sums[r + S * j][i] = held[j].mul_add(taps[i], sums[r + S * j][i]);
                            }
                        }
                    }
                    from = from.wrapping_add(step * g.input[2]);
                }
                with = with.wrapping_add(step * g.output[2]);
            }
            for at in strip.whole.end..strip.rows.end + Self::HELD - 1 {
                (held, sums) = self.checked::<V, G, EDGE>(strip, at, x, gy, held, sums);
            }
            sums
        }
    }

    /// A step of whose rows some may not exist. Those are left out: zeros times what is not finite would be no zeros.
    #[inline(always)]
    unsafe fn checked<V: Vector<T>, const G: usize, const EDGE: bool>(
        &self,
        strip: &Strip,
        at: usize,
        x: *const T,
        gy: *const T,
        held: [V; K],
        mut sums: [[V; G]; K],
    ) -> ([V; K], [[V; G]; K]) {
        let (g, rows) = (self.g, &strip.rows);
        let step = g.dilation[1];
        // SAFETY: the caller's promise; only what exists is read.
        unsafe {
            let mut next = V::splat(T::ZERO);
            if at < rows.end {
                let from = gy.add((strip.first + step * at) * g.output[2]);
                next = if EDGE { V::load_part(from, strip.columns.count) } else { V::load(from) };
            }
            let held = shifted(held, next);
            for r in 0..S {
                let row = (strip.first + step * (at * S + r)) as isize - g.padding[1] as isize;
                if row < 0 || row >= g.input[1] as isize {
                    continue;
                }
                let taps: [V; G] = strip.columns.read::<T, V, S, G, EDGE>(x.add(row as usize * g.input[2]), 0);
                for j in 0..Self::HELD {
                    if r + S * j < K && rows.start + j <= at && at < rows.end + j {
                        for i in 0..G {
                            sums[r + S * j][i] = held[j].mul_add(taps[i], sums[r + S * j][i]);
                        }
                    }
                }
            }
            (held, sums)
        }
    }
}

/// Some rows of a strip of columns: of those that lie a dilation apart from `first` on, `rows`; `whole` are the steps for
/// which all rows of both sides exist.
struct Strip {
    columns: Columns,
    first: usize,
    rows: Range<usize>,
    whole: Range<usize>,
    /// To what is read next of `x` and of `gy`: it is asked for ahead, for the machine does not foresee it.
    ahead: [usize; 2],
}
