//! The gradient of the input where it has few channels, as the first layer of a network: a tile of a few rows would leave
//! most registers empty. So every tap is a row: first the products of all channels of `gy` with every weight, position by
//! position, from where they lie; then sums over taps.
//!
//! Products of some lines of `gy` are kept in a ring, from which lines of the input take those that reach them.

use super::ConvGeometry;
use super::ahead::{Ahead, Pieces};
use super::winograd::odd_lines;
use crate::Float;
use crate::cpu::{self, TileShape, Vector, Work};
use crate::matmul::kernel::Strip;
use crate::matmul::pack;
use crate::matmul::scratch::{self, Purpose};
use crate::threads::{SendPointer, parallel};
use std::ops::Range;

/// Most channels of the input in a group.
const FEW: usize = 4;
/// Channels of `gy` in a group, at least, if there is one of the input; if there are more, channels times positions of the
/// input that are reached by different taps: else the sum over taps is too much of the work.
const LEAST: usize = 8;
const LEAST_OF_MORE: usize = 32;
/// Taps that reach a position, at most, if there is more than one channel: a tile of few rows does well with many, and better
/// the fewer channels `gy` has.
const SHORT: usize = 9;
const SHORT_OF_MANY: usize = 13;
const MANY: usize = 64;
/// Most elements of a kernel along an axis.
const MOST: usize = 7;
/// Positions whose products are made together, about.
const POSITIONS: usize = 512;
/// At least so many tasks, if there are lines for them; lines of a band at least, as neighbours make some products twice.
const TASKS: usize = 16;
const BAND: usize = 32;
/// Multiply-adds a task should have.
const GRAIN: usize = 1 << 17;

/// Whether a convolution's gradient of the input goes this way.
pub(super) fn suits(g: &ConvGeometry) -> bool {
    let flat = [g.input[0], g.kernel[0], g.output[0], g.padding[0] + 1] == [1; 4];
    let (rows, channels) = (g.in_channels / g.groups, g.out_channels / g.groups);
    let apart = g.stride[1] * g.stride[2];
    let pays = match rows {
        1 => channels >= LEAST,
        _ => {
            let short = if channels >= MANY { SHORT_OF_MANY } else { SHORT };
            channels * apart >= LEAST_OF_MORE && g.taps() <= short * apart
        }
    };
    flat && (1..=FEW).contains(&rows)
        && pays
        && g.taps() > 1
        && g.kernel[1..].iter().all(|&side| side <= MOST)
        && g.stride[2] <= 2
        && g.input_size() > 0
        && g.output_size() > 0
}

/// See [`super::input_gradient`]; sizes are checked there.
pub(super) fn input_gradient<T: Float>(g: &ConvGeometry, gy: &[T], w: &[T], gx: &mut [T]) {
    let (rows, channels) = (g.in_channels / g.groups, g.out_channels / g.groups);
    let lines = g.input[1];
    let bands = TASKS.div_ceil(g.batch * g.groups).min(lines / BAND).max(1);
    let band = lines.div_ceil(bands);
    let units = g.batch * g.groups * bands;
    let bundle = (GRAIN / (g.multiply_adds() / units).max(1)).clamp(1, units);
    // Lines of `gy` that reach one line of the input, at most.
    let reach = (g.kernel[1] - 1) * g.dilation[1] / g.stride[1] + 1;
    let width = g.output[2];
    let wide = TileShape::of::<T>().columns;
    // Whole strips where that is possible.
    let unit = (1..=4).find(|unit| (unit * width).is_multiple_of(wide)).unwrap_or(1);
    let whole = width * g.output[1] <= 2 * POSITIONS;
    let chunk = if whole { g.output[1] } else { (POSITIONS / width / unit).max(1) * unit };
    let ring = (reach + chunk).min(g.output[1]);
    let step = odd_lines(ring * width);
    let to = SendPointer(gx.as_mut_ptr());
    parallel(units.div_ceil(bundle), |task| {
        scratch::with(Purpose::Partial, rows * g.taps() * step + TileShape::MAX_LANES, |products: &mut [T]| {
            for unit in task * bundle..units.min((task + 1) * bundle) {
                let (plane, first) = (unit / bands, unit % bands * band);
                let from = plane * channels * width * g.output[1];
                let part = Part {
                    g,
                    gy: &gy[from..],
                    w: &w[plane % g.groups * channels * rows * g.taps()..],
                    // SAFETY: the planes of this group of this image.
                    gx: unsafe { to.at(plane * rows * g.input[1] * g.input[2]) },
                    chunk,
                    ring,
                    step,
                };
                part.run(first..lines.min(first + band), products);
            }
        });
    });
}

/// One group of one image.
struct Part<'a, T> {
    g: &'a ConvGeometry,
    /// From the group's first plane of `gy` on, and its weights.
    gy: &'a [T],
    w: &'a [T],
    gx: *mut T,
    /// Lines of `gy` worked on together, and lines of the ring.
    chunk: usize,
    ring: usize,
    /// From the products of one tap to the next.
    step: usize,
}

impl<T: Float> Part<'_, T> {
    /// Lines of `gy` that reach a line of the input: all of them lie between.
    fn reaching(&self, line: usize) -> Range<usize> {
        let (g, end) = (self.g, line + self.g.padding[1]);
        let start = end.saturating_sub((g.kernel[1] - 1) * g.dilation[1]).div_ceil(g.stride[1]).min(g.output[1]);
        start..(end / g.stride[1] + 1).min(g.output[1]).max(start)
    }

    /// Computes some lines of the input.
    fn run(&self, lines: Range<usize>, products: &mut [T]) {
        let mut next = self.reaching(lines.start).start;
        let last = self.reaching(lines.end - 1).end;
        let mut first = lines.start;
        while first < lines.end {
            // All lines that the products at hand suffice for.
            let mut end = first;
            while end < lines.end && self.reaching(end).end <= next {
                end += 1;
            }
            let sums = Sums { part: self, lines: first..end, products: products.as_ptr() };
            // SAFETY: these lines exist, and the products of all lines that reach them are in the ring.
            unsafe { cpu::run(sums) };
            first = end;
            if first < lines.end {
                next = next.max(self.reaching(first).start);
                let count = self.chunk.min(last - next).min(self.ring - next % self.ring);
                self.multiply(next, count, products);
                next += count;
            }
        }
    }

    /// The products of `count` lines of `gy`, which lie in the ring without a gap.
    fn multiply(&self, line: usize, count: usize, products: &mut [T]) {
        let TileShape { rows: tall, columns: wide, lanes, .. } = TileShape::of::<T>();
        let [_, height, width] = self.g.output;
        let (plane, channels) = (height * width, self.g.out_channels / self.g.groups);
        let rows = self.g.in_channels / self.g.groups * self.g.taps();
        let parts = rows.div_ceil(tall);
        let (from, to) = (line * width, line % self.ring * width);
        assert!(products.len() >= (rows - 1) * self.step + to + count * width && self.w.len() >= rows * channels);
        // While these are multiplied, the next lines come near, plane by plane: memory is fast along a plane.
        let next = Pieces {
            from: self.gy[from..].as_ptr().wrapping_add(count * width),
            counts: [1, 1, channels],
            apart: [0, 0, plane],
            length: count.min(height - line - count) * width,
        };
        let mut ahead = Ahead::new([next], (count * width).div_ceil(wide) * parts);
        scratch::with(Purpose::Small, channels * wide, |packed: &mut [T]| {
            for start in (0..count * width).step_by(wide) {
                let columns = wide.min(count * width - start);
                let gy = &self.gy[from + start..];
                let in_place = gy.len() >= (channels - 1) * plane + columns.next_multiple_of(lanes);
                if !in_place {
                    // SAFETY: the columns lie inside the planes; there is room for one strip.
                    unsafe { pack::right(channels, columns, gy.as_ptr(), plane as isize, 1, packed.as_mut_ptr()) };
                }
                let mut row = 0;
                for part in 0..parts {
                    ahead.ask();
                    let strip = Strip {
                        // As even as possible.
                        rows: (rows + part) / parts,
                        depth: channels,
                        columns,
                        a: self.w[row..].as_ptr(),
                        a_row: 1,
                        a_strip: tall as isize,
                        a_step: rows as isize,
                        b: if in_place { gy.as_ptr() } else { packed.as_ptr() },
                        b_step: if in_place { plane } else { wide } as isize,
                        c: products[row * self.step + to + start..].as_mut_ptr(),
                        c_row: self.step,
                        add: false,
                    };
                    row += strip.rows;
                    // SAFETY: so many rows of weights and of products are there, and whole vectors of all channels.
                    unsafe { strip.compute() };
                }
            }
        });
    }
}

/// The sums of some lines of the input, over all taps that reach them.
struct Sums<'a, T> {
    part: &'a Part<'a, T>,
    lines: Range<usize>,
    products: *const T,
}

/// A column of the kernel: where its products begin, and which of a line's belongs to the first sum.
#[derive(Clone, Copy, Default)]
struct Column {
    from: usize,
    shift: isize,
}

impl<T: Float> Sums<'_, T> {
    /// All lines, at a stride of `S` along them.
    #[inline(always)]
    unsafe fn lines<V: Vector<T>, const S: usize>(&self) {
        let Part { g, step, ring, gx, .. } = *self.part;
        let [_, kernel_height, kernel_width] = g.kernel;
        let (width, length) = (g.output[2], g.input[2]);
        // Sums at places x with x % S = side read from (x + padding − kx · dilation) / S on.
        let (mut columns, mut counts) = ([[Column::default(); MOST]; S], [0; S]);
        for kx in 0..kernel_width {
            let distance = g.padding[2] as isize - (kx * g.dilation[2]) as isize;
            let side = distance.rem_euclid(S as isize);
            columns[side as usize][counts[side as usize]] =
                Column { from: kx * step, shift: (side + distance) / S as isize };
            counts[side as usize] += 1;
        }
        for line in self.lines.clone() {
            // Where the products of each row of the kernel that reaches this line lie.
            let (mut rows, mut reaching) = ([0; MOST], 0);
            for ky in 0..kernel_height {
                let Some(distance) = (line + g.padding[1]).checked_sub(ky * g.dilation[1]) else { continue };
                let from = distance / g.stride[1];
                if distance.is_multiple_of(g.stride[1]) && from < g.output[1] {
                    rows[reaching] = ky * kernel_width * step + from % ring * width;
                    reaching += 1;
                }
            }
            for channel in 0..g.in_channels / g.groups {
                let mut x = 0;
                while x < length {
                    // SAFETY: the caller's promise: the products are there; of the line of the input, `length` are written.
                    unsafe {
                        let from = self.products.add(channel * kernel_height * kernel_width * step);
                        let mut sums = [V::splat(T::ZERO); S];
                        for side in 0..S {
                            let columns = &columns[side][..counts[side]];
                            sums[side] = Self::sum::<V>(from, &rows[..reaching], columns, x / S, width);
                        }
                        let to = gx.add((channel * g.input[1] + line) * length + x);
                        let (low, high) = if S == 2 { sums[0].interleave(sums[S - 1]) } else { (sums[0], sums[0]) };
                        let rest = length - x;
                        if rest >= V::LANES {
                            low.store(to)
                        } else {
                            low.store_part(to, rest)
                        }
                        if S == 2 && rest >= 2 * V::LANES {
                            high.store(to.add(V::LANES));
                        } else if S == 2 && rest > V::LANES {
                            high.store_part(to.add(V::LANES), rest - V::LANES);
                        }
                    }
                    x += S * V::LANES;
                }
            }
        }
    }

    /// A vector of sums from `x` on; lines of products are `width` long.
    #[inline(always)]
    unsafe fn sum<V: Vector<T>>(products: *const T, rows: &[usize], columns: &[Column], x: usize, width: usize) -> V {
        // SAFETY: the caller's promise; what lies outside a line is not read.
        unsafe {
            let mut sum = V::splat(T::ZERO);
            for column in columns {
                let first = x as isize + column.shift;
                let products = products.wrapping_add(column.from).wrapping_offset(first);
                if first >= 0 && first as usize + V::LANES <= width {
                    for &row in rows {
                        sum = sum.add(V::load(products.wrapping_add(row)));
                    }
                } else {
                    let begin = (-first).clamp(0, V::LANES as isize);
                    let end = (width as isize - first).clamp(begin, V::LANES as isize);
                    for &row in rows {
                        let values = V::load_between(products.wrapping_add(row), begin as usize, end as usize);
                        sum = sum.add(values);
                    }
                }
            }
            sum
        }
    }
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl<T: Float> Work<T> for Sums<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        // SAFETY: the caller's promise.
        unsafe { if self.part.g.stride[2] == 2 { self.lines::<V, 2>() } else { self.lines::<V, 1>() } }
    }
}
