//! The register tile: some neighbouring pixels times one or two blocks of output channels, summed over all taps.

use super::BLOCK;
use crate::Float;
use crate::cpu::{Vector, Work, prefetch};

/// How many steps weights are asked for ahead of their use.
const AHEAD: usize = 12;

/// The most pixels of a tile: with AVX-512, 14 pixels times two blocks are 28 sums, and three registers are left for
/// the weights and a pixel. Elsewhere as many sums as the tile of a matrix product has.
const fn most<T: Float, V: Vector<T>>() -> usize {
    if V::LANES == BLOCK { 14 } else { 2 * V::ROWS * V::LANES / BLOCK }
}

/// A rectangle of pixels of one image for some blocks of output channels:
/// `y(o, r, c) = tail(Σ_t Σ_i w[o][t][i] · x[r · x_row + c · RUN + taps[t] + i])`.
///
/// `RUN` is how many input channels lie side by side: [`BLOCK`], or 1 for plain planes.
pub(super) struct Tiles<'a, T, const RUN: usize> {
    pub x: *const T,
    pub x_row: usize,
    /// Where each tap's channels lie, relative to the pixel.
    pub taps: &'a [usize],
    /// `[block][tap][RUN][BLOCK]`.
    pub w: *const T,
    /// From one block of weights to the next.
    pub w_block: usize,
    pub blocks: usize,
    pub rows: usize,
    pub columns: usize,
    pub y: *mut T,
    pub y_row: usize,
    pub y_block: usize,
    /// One number for each output channel; null if there is none.
    pub bias: *const T,
    /// Laid out as `y`; null if there is none.
    pub residual: *const T,
    pub relu: bool,
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl<T: Float, const RUN: usize> Work<T> for Tiles<'_, T, RUN> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        // SAFETY: the caller's promise that the fields describe valid memory.
        unsafe {
            match V::LANES {
                16 => self.all::<V, 2>(),
                8 => self.all::<V, 2>(),
                _ => self.all::<V, 4>(),
            }
        }
    }
}

impl<T: Float, const RUN: usize> Tiles<'_, T, RUN> {
    /// All tiles, `W` vectors of output channels wide.
    #[inline(always)]
    unsafe fn all<V: Vector<T>, const W: usize>(&self) {
        let (wide, most) = (W * V::LANES / BLOCK, most::<T, V>());
        if wide == 0 {
            return; // Never asked for.
        }
        // As even as possible.
        let pieces = self.columns.div_ceil(most);
        let mut block = 0;
        while block < self.blocks {
            for row in 0..self.rows {
                let mut column = 0;
                for piece in 0..pieces {
                    let count = (self.columns + piece) / pieces;
                    // SAFETY: the caller's promise; the pixels and blocks are those of the rectangle.
                    unsafe {
                        if self.blocks - block >= wide {
                            self.pixels::<V, W>(count, block, row, column);
                        } else {
                            self.pixels::<V, 1>(count, block, row, column);
                        }
                    }
                    column += count;
                }
            }
            block += wide;
        }
    }

    #[inline(always)]
    unsafe fn pixels<V: Vector<T>, const W: usize>(&self, count: usize, block: usize, row: usize, column: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            match count {
                1 => self.tile::<V, 1, W>(block, row, column),
                2 => self.tile::<V, 2, W>(block, row, column),
                3 => self.tile::<V, 3, W>(block, row, column),
                4 => self.tile::<V, 4, W>(block, row, column),
                5 => self.tile::<V, 5, W>(block, row, column),
                6 => self.tile::<V, 6, W>(block, row, column),
                7 => self.tile::<V, 7, W>(block, row, column),
                8 => self.tile::<V, 8, W>(block, row, column),
                9 => self.tile::<V, 9, W>(block, row, column),
                10 => self.tile::<V, 10, W>(block, row, column),
                11 => self.tile::<V, 11, W>(block, row, column),
                12 => self.tile::<V, 12, W>(block, row, column),
                13 => self.tile::<V, 13, W>(block, row, column),
                _ => self.tile::<V, 14, W>(block, row, column),
            }
        }
    }

    /// `R` pixels, `W` vectors of output channels.
    #[inline(always)]
    unsafe fn tile<V: Vector<T>, const R: usize, const W: usize>(&self, block: usize, row: usize, column: usize) {
        if R > most::<T, V>() || W * V::LANES < BLOCK {
            return; // Never asked for; without this the tile would be compiled all the same.
        }
        // Vector `v` holds channels of block `v · LANES / BLOCK`.
        let place = |v: usize, step: usize| v * V::LANES / BLOCK * step + v * V::LANES % BLOCK;
        // SAFETY: the caller's promise.
        unsafe {
            let x = self.x.add(row * self.x_row + column * RUN);
            let mut w = self.w.add(block * self.w_block);
            let at = block * self.y_block + row * self.y_row + column * BLOCK;
            for r in 0..R {
                for v in (0..W).step_by(BLOCK / V::LANES) {
                    let to = at + place(v, self.y_block) + r * BLOCK;
                    if !self.residual.is_null() {
                        prefetch(self.residual.add(to));
                    }
                    prefetch(self.y.add(to));
                }
            }
            let mut sums = [[V::splat(T::ZERO); W]; R];
            for (t, &tap) in self.taps.iter().enumerate() {
                let from = x.add(tap);
                // What comes next lies far away; nobody else asks for it in time.
                let next = match self.taps.get(t + 1) {
                    Some(&next) => x.wrapping_add(next),
                    None => x.wrapping_add(self.taps[0] + R * RUN),
                };
                for i in 0..RUN {
                    if RUN == BLOCK && i < R {
                        prefetch(next.wrapping_add(i * RUN));
                    }
                    let mut weights = [V::splat(T::ZERO); W];
                    for v in 0..W {
                        let from = w.add(place(v, self.w_block));
                        weights[v] = V::load(from);
                        if v * V::LANES % BLOCK == 0 {
                            prefetch(from.wrapping_add(AHEAD * BLOCK));
                        }
                    }
                    for r in 0..R {
                        let pixel = V::splat(*from.add(r * RUN + i));
                        for v in 0..W {
                            sums[r][v] = pixel.mul_add(weights[v], sums[r][v]);
                        }
                    }
                    w = w.add(BLOCK);
                }
            }
            if !self.bias.is_null() {
                for v in 0..W {
                    let bias = V::load(self.bias.add((block * BLOCK) + v * V::LANES));
                    for r in 0..R {
                        sums[r][v] = sums[r][v].add(bias);
                    }
                }
            }
            if !self.residual.is_null() {
                for r in 0..R {
                    for v in 0..W {
                        let residual = V::load(self.residual.add(at + place(v, self.y_block) + r * BLOCK));
                        sums[r][v] = sums[r][v].add(residual);
                    }
                }
            }
            if self.relu {
                for r in 0..R {
                    for v in 0..W {
                        sums[r][v] = sums[r][v].max(V::splat(T::ZERO));
                    }
                }
            }
            for r in 0..R {
                for v in 0..W {
                    sums[r][v].store(self.y.add(at + place(v, self.y_block) + r * BLOCK));
                }
            }
        }
    }
}
