//! The gradient of the input where it has few channels and the kernel is 3 × 3, as most first layers: some lines of it, all
//! channels, are summed in registers over every channel of `gy`, which is read where it lies. A vector of `gy` serves three
//! lines of sums and every channel, so that nothing is packed, kept or added up later.

use super::ConvGeometry;
use crate::Float;
use crate::cpu::{self, InstructionSet, TileShape, Vector, Work};
use crate::threads::{SendPointer, parallel};
use std::mem::MaybeUninit;
use std::ops::Range;

/// Most channels of the input in a group, with a stride of one and of two.
const FEW: [usize; 2] = [4, 3];
/// Channels of `gy` in a group, at least.
const LEAST: usize = 8;
/// Most lines of a block.
const MOST: usize = 8;
/// Positions of a line of `gy`, at least: the masks of short ones take longer than their sums.
const LONG: usize = 64;
/// Side of the kernel, and its elements.
const SIDE: usize = 3;
const TAPS: usize = SIDE * SIDE;
/// At least so many tasks, if there are lines for them.
const TASKS: usize = 32;
/// Multiply-adds a task should have.
const GRAIN: usize = 1 << 17;

/// Whether a convolution's gradient of the input goes this way.
pub(super) fn suits(g: &ConvGeometry) -> bool {
    let flat = [g.input[0], g.kernel[0], g.output[0], g.padding[0] + 1] == [1; 4];
    let (rows, channels) = (g.in_channels / g.groups, g.out_channels / g.groups);
    let most = match (g.stride[1], g.stride[2]) {
        (1, 1) if g.padding[1].max(g.padding[2]) < SIDE => FEW[0],
        (2, 2) if g.padding[1..] == [1; 2] && (1..3).all(|axis| g.output[axis] == g.input[axis].div_ceil(2)) => FEW[1],
        _ => 0,
    };
    flat && g.kernel[1..] == [SIDE; 2]
        && g.dilation[1..] == [1; 2]
        && (1..=most).contains(&rows)
        && channels >= LEAST
        && g.output[2] >= LONG
        && g.input_size() > 0
        && g.output_size() > 0
}

/// See [`super::input_gradient`]; sizes are checked there.
pub(super) fn input_gradient<T: Float>(g: &ConvGeometry, gy: &[T], w: &[T], gx: &mut [T]) {
    let (rows, channels) = (g.in_channels / g.groups, g.out_channels / g.groups);
    let [_, height, width] = g.output;
    let set = cpu::instruction_set();
    let large = T::shape(set).rows > 6;
    // Lines of a block: of the input, or with a stride of two pairs of them.
    let places = g.input[1].div_ceil(g.stride[1]);
    let block = match (g.stride[1], rows, large) {
        // The fewer lines are left empty in the last block, the better.
        (1, 1, true) => [7, 8].into_iter().min_by_key(|&lines| places.next_multiple_of(lines)).unwrap_or(8),
        (1, 1, false) | (1, 2, true) => 6,
        (1, 3, true) => 4,
        (1, 2, false) | (1, 4, true) | (2, 1 | 2, true) | (2, 1, false) => 3,
        (1, 3, false) | (2, 3, true) => 2,
        _ => 1,
    };
    let blocks = places.div_ceil(block);
    let units = g.batch * g.groups * blocks;
    let bundle = (units / TASKS).max(GRAIN / (g.multiply_adds() / units).max(1)).clamp(1, units);
    let to = SendPointer(gx.as_mut_ptr());
    parallel(units.div_ceil(bundle), |task| {
        for unit in task * bundle..units.min((task + 1) * bundle) {
            let (plane, line) = (unit / blocks, unit % blocks * block);
            let part = Part {
                channels,
                gy: gy[plane * channels * height * width..].as_ptr(),
                size: [height, width],
                padding: [g.padding[1], g.padding[2]],
                w: w[plane % g.groups * channels * rows * TAPS..].as_ptr(),
                // SAFETY: the planes of this group of this image.
                gx: unsafe { to.at(plane * rows * g.input[1] * g.input[2]) },
                target: [g.input[1], g.input[2]],
                line,
            };
            // SAFETY: the planes and weights are all there, as the geometry was checked to say; the lines belong to this unit.
            unsafe {
                match (g.stride[1], rows, block) {
                    (1, 1, 8) => part.lines::<1, 8, 2>(set),
                    (1, 1, 7) => part.lines::<1, 7, 2>(set),
                    (1, 1, _) => part.lines::<1, 6, 2>(set),
                    (1, 2, 6) => part.lines::<2, 6, 2>(set),
                    (1, 2, _) => part.lines::<2, 3, 2>(set),
                    (1, 3, 4) => part.lines::<3, 4, 2>(set),
                    (1, 3, _) => part.lines::<3, 2, 2>(set),
                    (1, _, 3) => part.lines::<4, 3, 2>(set),
                    (1, _, _) => part.lines::<4, 1, 2>(set),
                    (_, 1, _) if large => part.pairs::<1, 3, 2>(set),
                    (_, 1, _) => part.pairs::<1, 3, 1>(set),
                    (_, 2, 3) => part.pairs::<2, 3, 1>(set),
                    (_, 2, _) => part.pairs::<2, 1, 1>(set),
                    (_, _, 2) => part.pairs::<3, 2, 1>(set),
                    _ => part.pairs::<3, 1, 1>(set),
                }
            }
        }
    });
}

/// Some lines of one group of one image.
#[derive(Clone, Copy)]
struct Part<T> {
    /// The group's planes of `gy`, their height and width.
    channels: usize,
    gy: *const T,
    size: [usize; 2],
    padding: [usize; 2],
    /// `[channel of gy][channel of the input][tap]`.
    w: *const T,
    /// The group's planes of the input's gradient, and their height and width.
    gx: *mut T,
    target: [usize; 2],
    /// The first line, or pair of lines.
    line: usize,
}

impl<T: Float> Part<T> {
    /// `L` lines of `R` channels, `C` vectors at a time, with a stride of one. Each is compiled by itself, as the tiles of
    /// products are.
    unsafe fn lines<const R: usize, const L: usize, const C: usize>(self, set: InstructionSet) {
        // SAFETY: the set is the chosen one; the rest is the caller's promise.
        unsafe { T::dispatch(set, Lines::<T, R, L, C>(self)) }
    }

    /// The same of `L` pairs of lines with a stride of two.
    unsafe fn pairs<const R: usize, const L: usize, const C: usize>(self, set: InstructionSet) {
        // SAFETY: the set is the chosen one; the rest is the caller's promise.
        unsafe { T::dispatch(set, Pairs::<T, R, L, C>(self)) }
    }

    /// Whether line `y` of `gy` exists.
    fn has(&self, y: isize) -> bool {
        (y as usize) < self.size[0]
    }

    /// `gy`'s line `y` of the first plane, from column `x` on; either may lie outside.
    fn at(&self, y: isize, x: isize) -> *const T {
        self.gy.wrapping_offset(y * self.size[1] as isize + x)
    }

    /// From what the tile of `columns` columns at `column` reads to what the next one does, which may lie `below`. There it
    /// begins with the end of the line before, which the first vector touches.
    fn next(&self, column: usize, columns: usize, below: usize, lanes: usize) -> isize {
        if column + columns < self.size[1] { columns as isize } else { below as isize - (column + lanes) as isize }
    }

    /// Which lanes of the vector from column `x` on lie inside a line of `gy`.
    #[inline(always)]
    fn inside<V: Vector<T>>(&self, x: isize) -> [usize; 2] {
        let begin = (-x).clamp(0, V::LANES as isize);
        [begin, (self.size[1] as isize - x).clamp(begin, V::LANES as isize)].map(|lane| lane as usize)
    }
}

/// Asks for vectors of those lines that blocks before have not read: planes lie so far apart that the machine does not foresee
/// them.
#[inline(always)]
fn ahead<T: Float, V: Vector<T>>(from: *const T, width: usize, lines: Range<usize>, vectors: usize) {
    for i in lines {
        for j in 0..vectors {
            cpu::prefetch_to_second(from.wrapping_add(i * width + j * V::LANES));
        }
    }
}

/// Reads a vector, of which only some lanes may exist.
#[inline(always)]
unsafe fn load<T: Float, V: Vector<T>, const EDGE: bool>(from: *const T, [begin, end]: [usize; 2]) -> V {
    // SAFETY: the caller's promise: these lanes exist, all if it is no edge.
    unsafe { if EDGE { V::load_between(from, begin, end) } else { V::load(from) } }
}

/// Whether so many sums are meant for this kind of vector; for others they need not be compiled.
fn is_meant<T: Float, V: Vector<T>>(sums: usize) -> bool {
    if V::ROWS > 6 { sums > 12 } else { sums <= 12 }
}

/// See [`Part::lines`].
struct Lines<T, const R: usize, const L: usize, const C: usize>(Part<T>);

impl<T: Float, const R: usize, const L: usize, const C: usize> Lines<T, R, L, C> {
    /// The sums from `column` on: place (Y, X) of the input takes from place (Y + padding − ky, X + padding − kx) of `gy`.
    #[inline(always)]
    unsafe fn tile<V: Vector<T>, const EDGE: bool>(&self, column: usize) {
        let part = &self.0;
        let [height, width] = part.size;
        let first = (part.line + part.padding[0]) as isize - (SIDE - 1) as isize;
        let next = part.next(column, C * V::LANES, L * width, V::LANES);
        let has: [bool; MOST + SIDE - 1] = std::array::from_fn(|i| part.has(first + i as isize));
        let left = |kx: usize| (column + part.padding[1]) as isize - kx as isize;
        let inside = |kx: usize| -> [[usize; 2]; C] {
            std::array::from_fn(|j| part.inside::<V>(left(kx) + (j * V::LANES) as isize))
        };
        let inside: [[[usize; 2]; C]; SIDE] = std::array::from_fn(inside);
        // SAFETY: the caller's promise; lines and lanes that do not exist are not read, nor written.
        unsafe {
            let mut sums = [[[V::splat(T::ZERO); C]; L]; R];
            for channel in 0..part.channels {
                let plane = part.at(first, 0).wrapping_add(channel * height * width);
                ahead::<T, V>(plane.wrapping_add(column).wrapping_offset(next), width, SIDE - 1..L + SIDE - 1, C + 2);
                let w = part.w.add(channel * R * TAPS);
                let from = |kx: usize| plane.wrapping_offset(left(kx));
                // Each with a number of its own, so that masks are made once for all channels.
                Self::column::<V, EDGE>(&mut sums, &has, from(0), width, w, &inside[0]);
                Self::column::<V, EDGE>(&mut sums, &has, from(1), width, w.add(1), &inside[1]);
                Self::column::<V, EDGE>(&mut sums, &has, from(2), width, w.add(2), &inside[2]);
            }
            let mut stage = Stage::<T>::uninit();
            let stage = stage.as_mut_ptr().cast::<T>();
            for r in 0..R {
                for l in 0..L {
                    for j in 0..C {
                        sums[r][l][j].store(stage.add(((r * L + l) * C + j) * V::LANES));
                    }
                }
            }
            let [height, width] = part.target;
            for (r, l) in (0..R).flat_map(|r| (0..L.min(height - part.line)).map(move |l| (r, l))) {
                for j in (0..C).take_while(|j| column + j * V::LANES < width) {
                    let sum = V::load(stage.add(((r * L + l) * C + j) * V::LANES));
                    let x = column + j * V::LANES;
                    put(sum, part.gx.add((r * height + part.line + l) * width + x), width - x);
                }
            }
        }
    }

    /// What one column of the kernel adds to the sums; its weights are at `w`, what it reads of the first line at `from`.
    #[inline(always)]
    unsafe fn column<V: Vector<T>, const EDGE: bool>(
        sums: &mut [[[V; C]; L]; R],
        has: &[bool; MOST + SIDE - 1],
        from: *const T,
        width: usize,
        w: *const T,
        inside: &[[usize; 2]; C],
    ) {
        let from = |i: usize| (has[i], from.wrapping_add(i * width));
        // SAFETY: the caller's promise.
        unsafe {
            Self::step::<V, EDGE, 0>(sums, from(0), w, inside);
            Self::step::<V, EDGE, 1>(sums, from(1), w, inside);
            Self::step::<V, EDGE, 2>(sums, from(2), w, inside);
            Self::step::<V, EDGE, 3>(sums, from(3), w, inside);
            Self::step::<V, EDGE, 4>(sums, from(4), w, inside);
            Self::step::<V, EDGE, 5>(sums, from(5), w, inside);
            Self::step::<V, EDGE, 6>(sums, from(6), w, inside);
            Self::step::<V, EDGE, 7>(sums, from(7), w, inside);
            Self::step::<V, EDGE, 8>(sums, from(8), w, inside);
            Self::step::<V, EDGE, 9>(sums, from(9), w, inside);
        }
    }

    /// What line `I` of those of `gy` that reach the sums adds to them, for one column of the kernel, whose weights `w` are.
    #[inline(always)]
    unsafe fn step<V: Vector<T>, const EDGE: bool, const I: usize>(
        sums: &mut [[[V; C]; L]; R],
        (exists, from): (bool, *const T),
        w: *const T,
        inside: &[[usize; 2]; C],
    ) {
        if I >= L + SIDE - 1 || !exists {
            return;
        }
        // SAFETY: the caller's promise: the line exists, and so many of its lanes.
        unsafe {
            let mut right = [V::splat(T::ZERO); C];
            for j in 0..C {
                right[j] = load::<T, V, EDGE>(from.wrapping_add(j * V::LANES), inside[j]);
            }
            for ky in 0..SIDE {
                if I + ky < SIDE - 1 || I + ky - (SIDE - 1) >= L {
                    continue;
                }
                let l = I + ky - (SIDE - 1);
                for r in 0..R {
                    let left = V::splat(*w.add(r * TAPS + ky * SIDE));
                    for j in 0..C {
                        sums[r][l][j] = left.mul_add(right[j], sums[r][l][j]);
                    }
                }
            }
        }
    }
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl<T: Float, const R: usize, const L: usize, const C: usize> Work<T> for Lines<T, R, L, C> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        if !is_meant::<T, V>(R * L * C) {
            return;
        }
        let (before, width) = (self.0.padding[1], self.0.size[1]);
        for column in (0..self.0.target[1]).step_by(C * V::LANES) {
            // SAFETY: the caller's promise.
            unsafe {
                match column + before >= SIDE - 1 && column + before + C * V::LANES <= width {
                    true => self.tile::<V, false>(column),
                    false => self.tile::<V, true>(column),
                }
            }
        }
    }
}

/// See [`Part::pairs`].
struct Pairs<T, const R: usize, const L: usize, const C: usize>(Part<T>);

/// Room for the sums of a tile. Sums that are asked for by a number the compiler does not know are not kept in registers; these
/// may be.
type Stage<T> = MaybeUninit<[[T; TileShape::MAX_LANES]; 24]>;

/// Sums of one line: of places with an even column, and of those with an odd one.
type Sides<V, const C: usize> = [[V; C]; 2];

impl<T: Float, const R: usize, const L: usize, const C: usize> Pairs<T, R, L, C> {
    /// The sums from `column` of `gy` on: lines 2y and 2y + 1 of the input take from y, the latter also from y + 1; columns
    /// likewise.
    #[inline(always)]
    unsafe fn tile<V: Vector<T>, const EDGE: bool>(&self, column: usize) {
        let part = &self.0;
        let [height, width] = part.size;
        let next = part.next(column, C * V::LANES, L * width, V::LANES);
        let has: [bool; MOST] = std::array::from_fn(|i| part.has((part.line + i) as isize));
        let inside = |shift: usize| -> [[usize; 2]; C] {
            std::array::from_fn(|j| part.inside::<V>((column + shift + j * V::LANES) as isize))
        };
        let inside = [inside(0), inside(1)];
        // SAFETY: the caller's promise; lines and lanes that do not exist are not read, nor written.
        unsafe {
            let mut sums = [[[[[V::splat(T::ZERO); C]; 2]; 2]; L]; R];
            for channel in 0..part.channels {
                let plane = part.at(part.line as isize, column as isize).wrapping_add(channel * height * width);
                ahead::<T, V>(plane.wrapping_offset(next), width, 1..L + 1, C + 2);
                let from = |i: usize| (has[i], plane.wrapping_add(i * width));
                let w = part.w.add(channel * R * TAPS);
                Self::step::<V, EDGE, 0>(&mut sums, from(0), w, &inside);
                Self::step::<V, EDGE, 1>(&mut sums, from(1), w, &inside);
                Self::step::<V, EDGE, 2>(&mut sums, from(2), w, &inside);
                Self::step::<V, EDGE, 3>(&mut sums, from(3), w, &inside);
            }
            let mut stage = Stage::<T>::uninit();
            let stage = stage.as_mut_ptr().cast::<T>();
            for r in 0..R {
                for l in 0..L {
                    for odd in 0..2 {
                        for j in 0..C {
                            let [even, odd_columns] = sums[r][l][odd];
                            let (low, high) = even[j].interleave(odd_columns[j]);
                            let to = stage.add((((r * L + l) * 2 + odd) * C + j) * 2 * V::LANES);
                            low.store(to);
                            high.store(to.add(V::LANES));
                        }
                    }
                }
            }
            let [height, width] = part.target;
            let first = 2 * part.line;
            for (r, l) in (0..R).flat_map(|r| (0..(2 * L).min(height - first)).map(move |l| (r, l))) {
                for j in (0..2 * C).take_while(|j| 2 * column + j * V::LANES < width) {
                    let sum = V::load(stage.add(((r * 2 * L + l) * 2 * C + j) * V::LANES));
                    let x = 2 * column + j * V::LANES;
                    put(sum, part.gx.add((r * height + first + l) * width + x), width - x);
                }
            }
        }
    }

    /// What line `I` of `gy` adds to the sums.
    #[inline(always)]
    unsafe fn step<V: Vector<T>, const EDGE: bool, const I: usize>(
        sums: &mut [[[Sides<V, C>; 2]; L]; R],
        (exists, from): (bool, *const T),
        w: *const T,
        inside: &[[[usize; 2]; C]; 2],
    ) {
        if I > L || !exists {
            return;
        }
        // SAFETY: the caller's promise: the line exists, and so many of its lanes.
        unsafe {
            let mut right = [[V::splat(T::ZERO); C]; 2];
            for shift in 0..2 {
                for j in 0..C {
                    right[shift][j] = load::<T, V, EDGE>(from.wrapping_add(shift + j * V::LANES), inside[shift][j]);
                }
            }
            for ky in 0..SIDE {
                // The pair, and which of its lines.
                let (l, odd) = if ky == 0 { (I.wrapping_sub(1), 1) } else { (I, ky - 1) };
                if l >= L {
                    continue;
                }
                for r in 0..R {
                    for kx in 0..SIDE {
                        let (side, shift) = if kx == 0 { (1, 1) } else { (kx - 1, 0) };
                        let left = V::splat(*w.add(r * TAPS + ky * SIDE + kx));
                        for j in 0..C {
                            let sum = &mut sums[r][l][odd][side][j];
                            *sum = left.mul_add(right[shift][j], *sum);
                        }
                    }
                }
            }
        }
    }
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl<T: Float, const R: usize, const L: usize, const C: usize> Work<T> for Pairs<T, R, L, C> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        if !is_meant::<T, V>(R * 4 * L * C) {
            return;
        }
        for column in (0..self.0.size[1]).step_by(C * V::LANES) {
            // SAFETY: the caller's promise.
            unsafe {
                match column + C * V::LANES < self.0.size[1] {
                    true => self.tile::<V, false>(column),
                    false => self.tile::<V, true>(column),
                }
            }
        }
    }
}

/// Writes a vector, or as many of its elements as there is room for.
#[inline(always)]
unsafe fn put<T: Float, V: Vector<T>>(sum: V, to: *mut T, room: usize) {
    // SAFETY: the caller's promise.
    unsafe { if room >= V::LANES { sum.store(to) } else { sum.store_part(to, room) } }
}
