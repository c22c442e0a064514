//! The gradient of the weights: the sums of one kernel, a vector each, stay in registers down a strip of columns.
//!
//! Tasks are kernels and, where those are few, parts of the batch; the parts' sums are added in order.

use super::super::ConvGeometry;
use super::super::weight::sum_of_parts;
use super::{Columns, Cut, Following, POSITIONS, shifted};
use crate::Float;
use crate::cpu::{self, InstructionSet, TileShape, Vector, Work, caches};
use crate::threads::SendPointer;
use std::ops::Range;

/// At least so many tasks, if there is work for them.
const TASKS: usize = 16;
/// Bytes of two units, both sides of each, that stay in the first-level cache.
const NEAR: usize = 24 << 10;
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
    // What comes from memory is asked for in its order; only the usual kernels are compiled for it.
    let in_order = caches::are_outgrown_by(size_of_val(x)) && g.output[2] > TileShape::of::<T>().lanes;
    let run = match ([g.kernel[1], g.kernel[2]], g.stride[2]) {
        ([3, 3], 1) if in_order => units::<T, 3, 1, true>,
        ([3, 3], _) if in_order => units::<T, 3, 2, true>,
        ([1, _], 1) => units::<T, 1, 1, false>,
        ([2, _], 1) => units::<T, 2, 1, false>,
        ([3, _], 1) => units::<T, 3, 1, false>,
        ([4, _], 1) => units::<T, 4, 1, false>,
        ([5, _], 1) => units::<T, 5, 1, false>,
        ([6, _], 1) => units::<T, 6, 1, false>,
        (_, 1) => units::<T, 7, 1, false>,
        ([1, _], _) => units::<T, 1, 2, false>,
        ([2, _], _) => units::<T, 2, 2, false>,
        ([3, _], _) => units::<T, 3, 2, false>,
        ([4, _], _) => units::<T, 4, 2, false>,
        ([5, _], _) => units::<T, 5, 2, false>,
        ([6, _], _) => units::<T, 6, 2, false>,
        _ => units::<T, 7, 2, false>,
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
unsafe fn units<T: Float, const K: usize, const S: usize, const IN_ORDER: bool>(
    set: InstructionSet,
    g: &ConvGeometry,
    part: usize,
    x: *const T,
    gy: *const T,
    out: *mut T,
    units: Range<usize>,
) {
    // SAFETY: the set is the chosen one; the rest is the caller's promise.
    unsafe { T::dispatch(set, Units::<T, K, S, IN_ORDER> { g, part, x, gy, out, units }) }
}

/// Some kernels of some parts of the batch, of `K` rows and with stride `S`; `IN_ORDER` says whether what is read later is asked for
/// in the order of memory. Compiled apart: in one function with it, what a cache holds would take a tenth longer.
struct Units<'a, T, const K: usize, const S: usize, const IN_ORDER: bool> {
    g: &'a ConvGeometry,
    part: usize,
    x: *const T,
    gy: *const T,
    out: *mut T,
    units: Range<usize>,
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl<T: Float, const K: usize, const S: usize, const IN_ORDER: bool> Work<T> for Units<'_, T, K, S, IN_ORDER> {
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

impl<T: Float, const K: usize, const S: usize, const IN_ORDER: bool> Units<'_, T, K, S, IN_ORDER> {
    /// Columns `tap..tap + G` of a kernel, over some images.
    #[inline(always)]
    unsafe fn taps<V: Vector<T>, const G: usize>(&self, channel: usize, images: Range<usize>, tap: usize, out: *mut T) {
        let g = self.g;
        let ([_, source, source_width], [_, target, target_width]) = (g.input, g.output);
        let share = g.out_channels / g.groups;
        let step = g.dilation[1];
        let steps = target.div_ceil(step);
        let cut = Cut::new(images.len(), steps, step * target_width, K, POSITIONS);
        let soon = 2 * cut.band * step * (source_width * S + target_width) * size_of::<T>() <= NEAR;
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
                        // Where lines come in order, a strip asks for its part of them.
                        let part = if IN_ORDER { column * rows.len() } else { 0 };
                        let ahead = [ahead[0] + part * S * S, ahead[1] + part];
                        let strip =
                            Strip { columns, column, first, rows: rows.clone(), whole: whole.clone(), ahead, soon };
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
            let first = (strip.first + step * strip.rows.start * S) as isize - g.padding[1] as isize;
            let at = x.wrapping_offset(first * g.input[2] as isize).wrapping_add(strip.ahead[0]);
            let mut following = Following { at };
            let first = (strip.first + step * strip.rows.start) * g.output[2];
            let mut following_gy = Following { at: gy.wrapping_sub(strip.column).wrapping_add(first + strip.ahead[1]) };
            for _ in strip.whole.clone() {
                let next = if EDGE { V::load_part(with, columns.count) } else { V::load(with) };
                held = shifted(held, next);
                if IN_ORDER {
                    following.ask::<V>(S * S, strip.soon);
                    following_gy.ask::<V>(1, strip.soon);
                } else {
                    cpu::prefetch(with.wrapping_add(strip.ahead[1]));
                }
                for r in 0..S {
                    if !IN_ORDER {
                        let ahead = from.wrapping_offset(columns.start).wrapping_add(strip.ahead[0]);
                        (0..S).for_each(|i| cpu::prefetch(ahead.wrapping_add(i * V::LANES)));
                    }
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
    /// The first of them.
    column: usize,
    first: usize,
    rows: Range<usize>,
    whole: Range<usize>,
    /// To what is asked for ahead of `x` and of `gy`, for the machine does not foresee it: what this strip reads next or, where it
    /// comes from memory, lines from the first row on, in order; whether these are read before much else is.
    ahead: [usize; 2],
    soon: bool,
}
