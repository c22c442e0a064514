//! The gradient of the input with stride 2: every position of `gy` is spread over the kernel's elements around it.

use super::super::panels::Stream;
use super::{Columns, Cut, POSITIONS, shifted};
use crate::Float;
use crate::cpu::{self, InstructionSet, Vector, Work, caches};
use crate::matmul::scratch::{self, Purpose};
use crate::threads::{SendPointer, threads};
use std::ops::Range;

/// `gx[p](i) = Σ_r Σ_t w[q](t) · gy[q]((i + padding − t) / 2)` with `q = p · terms + r`, where that is whole.
///
/// Rows of `gx` are computed two at a time, columns in pairs: four sums, each over the taps of its own remainders.
pub(super) struct Spread {
    /// Rows and columns of a plane of `gy` and of `gx`.
    pub source: [usize; 2],
    pub target: [usize; 2],
    /// Rows and columns of a kernel: 3, 5 or 7.
    pub side: usize,
    pub padding: [isize; 2],
    /// Planes of `gy` that are summed into one of `gx`.
    pub terms: usize,
    /// Kernels in `w`.
    pub kernels: usize,
}

/// Some bands of planes, for kernels of `K` × `K`, `N` of them each way for even positions; `P` is the remainder of the
/// padding of columns.
struct Units<'a, T, const K: usize, const N: usize, const P: usize> {
    spread: &'a Spread,
    cut: &'a Cut,
    gy: *const T,
    w: *const T,
    gx: *mut T,
    units: Range<usize>,
    /// Where the rows of a band are put together, to be written past the caches; or nowhere.
    stage: Option<*mut T>,
}

impl Spread {
    /// Computes all of `gx`.
    pub(super) fn run<T: Float>(&self, gy: &[T], w: &[T], gx: &mut [T]) {
        if gx.is_empty() {
            return;
        }
        let size = self.target[0] * self.target[1];
        let steps = self.steps();
        let cut = Cut::new(gx.len() / size, steps.len(), 2 * self.target[1], self.side, POSITIONS);
        // Two threads fill memory's way as it is.
        let staged = threads() == 1 && self.terms == 1 && cut.bands > 1 && caches::are_outgrown_by(size_of_val(gx));
        let room = if staged { 2 * cut.band * self.target[1] } else { 0 };
        let run = match (self.side, self.padding[1] % 2) {
            (3, 0) => Self::units::<T, 3, 2, 0>,
            (3, _) => Self::units::<T, 3, 2, 1>,
            (5, 0) => Self::units::<T, 5, 3, 0>,
            (5, _) => Self::units::<T, 5, 3, 1>,
            (_, 0) => Self::units::<T, 7, 4, 0>,
            (_, _) => Self::units::<T, 7, 4, 1>,
        };
        let target = SendPointer(gx.as_mut_ptr());
        let set = cpu::instruction_set();
        cut.run(self.terms * self.side * self.side * size / 4, |units| {
            // SAFETY: units write rows of their own; sizes were checked by the caller.
            unsafe { run(self, set, &cut, gy.as_ptr(), w.as_ptr(), target.at(0), units, room) };
        });
    }

    /// Step `t` computes rows `2t − padding` and the next, as far as they exist.
    fn steps(&self) -> Range<usize> {
        let padding = self.padding[0] as usize;
        padding / 2..(self.target[0] + padding).div_ceil(2)
    }

    /// Some units, for kernels of `K` × `K`.
    unsafe fn units<T: Float, const K: usize, const N: usize, const P: usize>(
        &self,
        set: InstructionSet,
        cut: &Cut,
        gy: *const T,
        w: *const T,
        gx: *mut T,
        units: Range<usize>,
        room: usize,
    ) {
        scratch::with(Purpose::Partial, room, |stage: &mut [T]| {
            let stage = (room > 0).then_some(stage.as_mut_ptr());
            // SAFETY: the set is the chosen one; the rest is the caller's promise.
            unsafe { T::dispatch(set, Units::<T, K, N, P> { spread: self, cut, gy, w, gx, units, stage }) }
            if room > 0 {
                cpu::fence();
            }
        });
    }
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl<T: Float, const K: usize, const N: usize, const P: usize> Work<T> for Units<'_, T, K, N, P> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        let Spread { source, target, padding, terms, kernels, .. } = *self.spread;
        let start = self.spread.steps().start;
        for unit in self.units.clone() {
            let (planes, steps) = self.cut.unit(unit);
            let steps = start + steps.start..start + steps.end;
            let row = |step: usize| (2 * step).saturating_sub(padding[0] as usize).min(target[0]);
            let (first, end) = (row(steps.start), row(steps.end));
            for term in 0..terms {
                let mut column = 0;
                while 2 * column < target[1] {
                    let columns = Columns {
                        start: column as isize + (padding[1] + 1) / 2 - (N as isize - 1),
                        width: source[1],
                        count: V::LANES,
                        dilation: 1,
                    };
                    let count = target[1] - 2 * column;
                    let inside = columns.are_inside::<1>(N, V::LANES) && count >= 2 * V::LANES;
                    for plane in planes.clone() {
                        let from = plane * terms + term;
                        // SAFETY: these planes exist, and so does the kernel.
                        unsafe {
                            let gy = self.gy.add(from * source[0] * source[1]);
                            let w = self.w.add(from % kernels * K * K);
                            let gx = match self.stage {
                                Some(stage) => stage.wrapping_sub(first * target[1]),
                                None => self.gx.add(plane * target[0] * target[1]),
                            };
                            let gx = gx.wrapping_add(2 * column);
                            if inside {
                                self.strip::<V, false>(&columns, steps.clone(), gy, w, gx, count, term > 0);
                            } else {
                                self.strip::<V, true>(&columns, steps.clone(), gy, w, gx, count, term > 0);
                            }
                        }
                    }
                    column += V::LANES;
                }
            }
            if let Some(stage) = self.stage {
                // SAFETY: a band of one plane is complete, and its rows follow one another.
                unsafe {
                    let to = self.gx.add((planes.start * target[0] + first) * target[1]);
                    Stream { from: stage, to, count: (end - first) * target[1] }.run::<V>();
                }
            }
        }
    }
}

impl<T: Float, const K: usize, const N: usize, const P: usize> Units<'_, T, K, N, P> {
    /// Some steps of a strip of two vectors of columns, of which `count` exist; `gx` is its first column.
    #[inline(always)]
    unsafe fn strip<V: Vector<T>, const EDGE: bool>(
        &self,
        columns: &Columns,
        steps: Range<usize>,
        gy: *const T,
        w: *const T,
        gx: *mut T,
        count: usize,
        add: bool,
    ) {
        let Spread { source, target, padding, .. } = *self.spread;
        // SAFETY: the caller's promise.
        unsafe {
            // Row `step − j` of `gy` and the vectors of its columns, from the right to the left.
            let mut rows = [[V::splat(T::ZERO); N]; N];
            let read = |step: isize| {
                let mut row = [V::splat(T::ZERO); N];
                if step >= 0 && step < source[0] as isize {
                    let taps: [V; N] = columns.read::<T, V, 1, N, EDGE>(gy.add(step as usize * source[1]), 0);
                    for i in 0..N {
                        row[i] = taps[N - 1 - i];
                    }
                }
                row
            };
            for j in 1..N {
                rows[j - 1] = read(steps.start as isize - j as isize);
            }
            for step in steps {
                rows = shifted(rows, read(step as isize));
                for r in 0..2 {
                    let row = (2 * step + r) as isize - padding[0];
                    if row < 0 || row >= target[0] as isize {
                        continue;
                    }
                    let mut sums = [V::splat(T::ZERO); 2];
                    for j in 0..N {
                        let y = r + 2 * j;
                        for c in 0..2 {
                            for i in 0..N {
                                let x = c + 2 * i;
                                if y < K && x < K {
                                    let at = if c == 1 { i + P } else { i };
                                    sums[c] = V::splat(*w.add(y * K + x)).mul_add(rows[j][at.min(N - 1)], sums[c]);
                                }
                            }
                        }
                    }
                    let (low, high) = sums[P].interleave(sums[1 - P]);
                    let to = gx.wrapping_add(row as usize * target[1]);
                    write::<T, V>(low, to, count, add);
                    if count > V::LANES {
                        write::<T, V>(high, to.add(V::LANES), count - V::LANES, add);
                    }
                }
            }
        }
    }
}

/// Writes or adds the first `rest` elements of a vector, or all.
#[inline(always)]
unsafe fn write<T: Float, V: Vector<T>>(sum: V, to: *mut T, rest: usize, add: bool) {
    // SAFETY: the caller's promise.
    unsafe {
        match (rest >= V::LANES, add) {
            (true, false) => sum.store(to),
            (true, true) => V::load(to).add(sum).store(to),
            (false, false) => sum.store_part(to, rest),
            (false, true) => V::load_part(to, rest).add(sum).store_part(to, rest),
        }
    }
}
