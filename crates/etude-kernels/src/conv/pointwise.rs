//! The gradient of the weights of narrow 1 × 1 convolutions: products of rows that lie ready on both sides, since a plane of
//! `x` is read as a whole, as a plane of `gy` is. Nothing is packed; sums are vectors, folded at the end.
//!
//! Tasks are parts of all positions; the parts' sums are added in order.

use super::ConvGeometry;
use super::direct::Fold;
use super::weight::{SMALL, sum_of_parts};
use crate::Float;
use crate::cpu::{self, InstructionSet, TileShape, Vector, Work};
use crate::matmul::scratch::{self, Purpose};
use crate::threads::{SendPointer, parallel};
use std::ops::Range;

/// The most weights of a group: a vector for each has to stay in the second-level cache.
const MOST: usize = 4096;
/// Positions of a piece of a plane.
const PIECE: usize = 512;
/// Positions that are summed before sums leave the registers, about.
const POSITIONS: usize = 2048;
/// At least so many tasks, if there is work for them.
const TASKS: usize = 16;
/// Multiply-adds a task should have.
const GRAIN: usize = 1 << 18;

/// Whether a convolution's weights go this way.
pub(super) fn suits(g: &ConvGeometry) -> bool {
    let weights = (g.in_channels / g.groups) * (g.out_channels / g.groups);
    let plain = g.kernel == [1; 3] && g.stride == [1; 3] && g.padding == [0; 3] && g.input == g.output;
    plain && (1..=MOST).contains(&weights) && g.output_size() > 0
}

/// See [`super::weight_gradient`]; sizes are checked there.
pub(super) fn gradient<T: Float>(g: &ConvGeometry, x: &[T], gy: &[T], gw: &mut [T]) {
    let positions: usize = g.output.iter().product();
    let pieces = positions.div_ceil(PIECE);
    let units = g.batch * pieces;
    let most = (g.multiply_adds() / GRAIN).clamp(1, TASKS).div_ceil(g.groups);
    let part = units.div_ceil(most);
    let parts = units.div_ceil(part);
    let size = gw.len();
    sum_of_parts(parts, gw, |out| {
        let out = SendPointer(out.as_mut_ptr());
        let set = cpu::instruction_set();
        parallel(parts * g.groups, |task| {
            let (index, group) = (task / g.groups, task % g.groups);
            let weights = size / g.groups;
            scratch::with(Purpose::Small, weights * TileShape::of::<T>().lanes, |sums: &mut [T]| {
                let part = Part {
                    group,
                    groups: g.groups,
                    rows: g.out_channels / g.groups,
                    channels: g.in_channels / g.groups,
                    positions,
                    piece: positions.div_ceil(pieces).next_multiple_of(TileShape::MAX_LANES),
                    pieces,
                    units: index * part..units.min((index + 1) * part),
                    is_small: size_of_val(x) + size_of_val(gy) <= SMALL,
                    x: x.as_ptr(),
                    gy: gy.as_ptr(),
                    sums: sums.as_mut_ptr(),
                    // SAFETY: this group's weights of this part, which no other task writes.
                    out: unsafe { out.at(index * size + group * weights) },
                };
                part.compute(set);
            });
        });
    });
}

/// A part of all positions: some pieces of planes, `units`.
struct Part<T> {
    group: usize,
    groups: usize,
    /// Channels of `gy` and of `x` in the group.
    rows: usize,
    channels: usize,
    /// Positions of a plane and of a piece of it, pieces of a plane.
    positions: usize,
    piece: usize,
    pieces: usize,
    units: Range<usize>,
    /// Whether both sides are so small that nothing is asked for ahead.
    is_small: bool,
    x: *const T,
    gy: *const T,
    /// A vector for each weight of the group.
    sums: *mut T,
    /// The group's weights.
    out: *mut T,
}

impl<T: Float> Part<T> {
    /// One tile for each number of channels, of one row or of four. Each is compiled by itself, as the tiles of products are.
    const TILES: [[unsafe fn(&Self, InstructionSet, [usize; 2], Range<usize>, [Next; 2]); 2]; 6] = [
        [Self::tile::<1, 1>, Self::tile::<4, 1>],
        [Self::tile::<1, 2>, Self::tile::<4, 2>],
        [Self::tile::<1, 3>, Self::tile::<4, 3>],
        [Self::tile::<1, 4>, Self::tile::<4, 4>],
        [Self::tile::<1, 5>, Self::tile::<4, 5>],
        [Self::tile::<1, 6>, Self::tile::<4, 6>],
    ];

    /// Computes the part.
    fn compute(&self, set: InstructionSet) {
        // Four rows times so many channels are as many sums as two vectors of a tile's rows.
        let most = if T::shape(set).rows > 6 { 6 } else { 3 };
        let tiles = self.channels.div_ceil(most);
        let together = (POSITIONS / self.piece).max(1);
        for start in self.units.clone().step_by(together) {
            let units = start..self.units.end.min(start + together);
            let (mut channel, quads) = (0, self.rows.div_ceil(4));
            let next = |planes: usize| {
                let [here, there] = [units.start, units.end].map(|unit| {
                    unit / self.pieces * self.groups * planes * self.positions + unit % self.pieces * self.piece
                });
                (there - here) as isize
            };
            let (next_gy, next_x) = (next(self.rows), next(self.channels));
            for tile in 0..tiles {
                // As even as possible.
                let count = (self.channels + tile) / tiles;
                let mut row = 0;
                while row < self.rows {
                    let four = usize::from(self.rows - row >= 4);
                    let share = |offset: isize, planes: usize, turn: usize, turns: usize| {
                        let share = planes.div_ceil(turns);
                        let planes = if self.is_small { 0 } else { planes };
                        let first = (turn * share).min(planes);
                        Next { offset, planes: [first, (first + share).min(planes)] }
                    };
                    let rows = if four == 1 { 4 } else { 1 };
                    let next = [share(next_gy, rows, tile, tiles), share(next_x, count, row / 4, quads)];
                    // SAFETY: so many rows and channels are left; the group's planes and sums are all there.
                    unsafe { Self::TILES[count - 1][four](self, set, [row, channel], units.clone(), next) };
                    row += rows;
                }
                channel += count;
            }
        }
        // SAFETY: all sums are complete.
        unsafe {
            let count = self.rows * self.channels;
            let sums = std::slice::from_raw_parts(self.sums, count * T::shape(set).lanes);
            cpu::run(Fold { sums, out: std::slice::from_raw_parts_mut(self.out, count) });
        }
    }

    /// The tile of `R` rows and `N` channels over some units.
    unsafe fn tile<const R: usize, const N: usize>(
        &self,
        set: InstructionSet,
        corner: [usize; 2],
        units: Range<usize>,
        next: [Next; 2],
    ) {
        // SAFETY: the set is the chosen one; the rest is the caller's promise.
        unsafe { T::dispatch(set, Tile::<T, R, N> { part: self, corner, units, next }) }
    }
}

/// Of one side, what is read after some units: its distance, and which of a tile's planes a tile asks for, a line at a time,
/// for many at once would be waited for.
#[derive(Clone, Copy)]
struct Next {
    offset: isize,
    planes: [usize; 2],
}

impl Next {
    /// Asks for the lines that come so much later than those at `at`, where the tile's planes are `step` apart.
    #[inline(always)]
    fn ask<T>(&self, at: *const T, step: usize) {
        for plane in self.planes[0]..self.planes[1] {
            cpu::prefetch_to_second(at.wrapping_offset(self.offset).wrapping_add(plane * step));
        }
    }
}

/// `R` rows and `N` channels from `corner` on, over some units.
struct Tile<'a, T, const R: usize, const N: usize> {
    part: &'a Part<T>,
    corner: [usize; 2],
    units: Range<usize>,
    next: [Next; 2],
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl<T: Float, const R: usize, const N: usize> Work<T> for Tile<'_, T, R, N> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        let (part, [row, channel]) = (self.part, self.corner);
        if N > 3 && V::ROWS <= 6 {
            return; // Never asked for; without this the tile would be compiled all the same.
        }
        let step = part.positions;
        let at = |r: usize, n: usize| part.sums.wrapping_add(((row + r) * part.channels + channel + n) * V::LANES);
        // SAFETY: these rows and channels exist in every image of the units.
        unsafe {
            let mut sums = [[V::splat(T::ZERO); N]; R];
            if self.units.start > part.units.start {
                for r in 0..R {
                    for n in 0..N {
                        sums[r][n] = V::load(at(r, n));
                    }
                }
            }
            for unit in self.units.clone() {
                let (image, start) = (unit / part.pieces * part.groups + part.group, unit % part.pieces * part.piece);
                let count = part.piece.min(part.positions.saturating_sub(start));
                let mut gy = part.gy.wrapping_add((image * part.rows + row) * step + start);
                let mut x = part.x.wrapping_add((image * part.channels + channel) * step + start);
                for _ in 0..count / V::LANES {
                    self.next[0].ask(gy, step);
                    self.next[1].ask(x, step);
                    let mut right = [V::splat(T::ZERO); N];
                    for n in 0..N {
                        right[n] = V::load(x.add(n * step));
                    }
                    for r in 0..R {
                        let left = V::load(gy.add(r * step));
                        for n in 0..N {
                            sums[r][n] = left.mul_add(right[n], sums[r][n]);
                        }
                    }
                    (gy, x) = (gy.add(V::LANES), x.add(V::LANES));
                }
                let rest = count % V::LANES;
                if rest > 0 {
                    let mut right = [V::splat(T::ZERO); N];
                    for n in 0..N {
                        right[n] = V::load_part(x.add(n * step), rest);
                    }
                    for r in 0..R {
                        let left = V::load_part(gy.add(r * step), rest);
                        for n in 0..N {
                            sums[r][n] = left.mul_add(right[n], sums[r][n]);
                        }
                    }
                }
            }
            for r in 0..R {
                for n in 0..N {
                    sums[r][n].store(at(r, n));
                }
            }
        }
    }
}
