//! Planes that are sums of shifted copies of other planes: the forward pass and, without a stride, the gradient of the input.

use super::super::panels::Stream;
use super::{Columns, Cut, FEW_POSITIONS, Following, POSITIONS, shifted};
use crate::Float;
use crate::cpu::{self, InstructionSet, Vector, Work, caches};
use crate::matmul::scratch::{self, Purpose};
use crate::threads::SendPointer;
use std::ops::Range;

/// `y[p](i) = Σ_r Σ_t w[q](t) · x[q / share](i · stride + t · dilation − padding)` with `q = p · terms + r`, kernels by turns.
pub(super) struct Planes {
    /// Rows and columns of a plane of `x`, of `y`, and of a kernel.
    pub source: [usize; 2],
    pub target: [usize; 2],
    pub kernel: [usize; 2],
    /// 1 or 2; with 2 the dilation is 1.
    pub stride: usize,
    pub dilation: [usize; 2],
    pub padding: [isize; 2],
    /// Planes of `x` that are summed into one of `y`.
    pub terms: usize,
    /// Planes of `y` that read the same plane of `x`.
    pub share: usize,
    /// Kernels in `w`.
    pub kernels: usize,
    /// Whether kernels are read from their last element to their first.
    pub turned: bool,
}

/// Some units of the work, for kernels of `K` rows, stride `S` and `G` columns of the kernel at a time.
struct Units<'a, T, const K: usize, const S: usize, const G: usize, const STAGED: bool> {
    planes: &'a Planes,
    cut: &'a Cut,
    x: *const T,
    w: *const T,
    y: *mut T,
    units: Range<usize>,
    /// If `STAGED`, where the rows of a band are put together, to be written past the caches. Compiled apart: in one function with
    /// it, what stays in the caches would take a tenth longer.
    stage: *mut T,
}

/// The kernels' columns that are held in registers, if there are so many.
const HELD: usize = 3;

impl Planes {
    /// Computes all of `y`.
    pub(super) fn run<T: Float>(&self, x: &[T], w: &[T], y: &mut [T]) {
        if y.is_empty() {
            return;
        }
        let [height, width] = self.target;
        let (size, step) = (height * width, self.dilation[0]);
        // What comes from memory is asked for by bands; only the usual kernels are compiled for it.
        let staged =
            self.kernel == [HELD; 2] && self.terms == 1 && step == 1 && caches::are_outgrown_by(size_of_val(y));
        let whole = if staged { FEW_POSITIONS } else { POSITIONS };
        let cut = Cut::new(y.len() / size, height.div_ceil(step), step * width, self.kernel[0], whole);
        let room = if staged && cut.bands > 1 { cut.band * width } else { 0 };
        let run = match (self.kernel, self.stride) {
            ([3, HELD], 1) if room > 0 => Self::units::<T, 3, 1, HELD, true>,
            ([3, HELD], _) if room > 0 => Self::units::<T, 3, 2, HELD, true>,
            ([3, HELD], 1) => Self::units::<T, 3, 1, HELD, false>,
            ([3, HELD], _) => Self::units::<T, 3, 2, HELD, false>,
            ([1, _], 1) => Self::units::<T, 1, 1, 1, false>,
            ([2, _], 1) => Self::units::<T, 2, 1, 1, false>,
            ([3, _], 1) => Self::units::<T, 3, 1, 1, false>,
            ([4, _], 1) => Self::units::<T, 4, 1, 1, false>,
            ([5, _], 1) => Self::units::<T, 5, 1, 1, false>,
            ([6, _], 1) => Self::units::<T, 6, 1, 1, false>,
            (_, 1) => Self::units::<T, 7, 1, 1, false>,
            ([1, _], _) => Self::units::<T, 1, 2, 2, false>,
            ([2, _], _) => Self::units::<T, 2, 2, 2, false>,
            ([3, _], _) => Self::units::<T, 3, 2, 2, false>,
            ([4, _], _) => Self::units::<T, 4, 2, 2, false>,
            ([5, _], _) => Self::units::<T, 5, 2, 2, false>,
            ([6, _], _) => Self::units::<T, 6, 2, 2, false>,
            _ => Self::units::<T, 7, 2, 2, false>,
        };
        let target = SendPointer(y.as_mut_ptr());
        let set = cpu::instruction_set();
        cut.run(self.terms * self.kernel[0] * self.kernel[1] * size, |units| {
            // SAFETY: units write rows of their own; sizes were checked by the caller.
            unsafe { run(self, set, &cut, x.as_ptr(), w.as_ptr(), target.at(0), units, room) };
        });
    }

    /// Some units. Compiled by itself for each kind of kernel, as the tiles of products are.
    unsafe fn units<T: Float, const K: usize, const S: usize, const G: usize, const STAGED: bool>(
        &self,
        set: InstructionSet,
        cut: &Cut,
        x: *const T,
        w: *const T,
        y: *mut T,
        units: Range<usize>,
        room: usize,
    ) {
        scratch::with(Purpose::Partial, room, |stage: &mut [T]| {
            let stage = stage.as_mut_ptr();
            // SAFETY: the set is the chosen one; the rest is the caller's promise.
            unsafe { T::dispatch(set, Units::<T, K, S, G, STAGED> { planes: self, cut, x, w, y, units, stage }) }
            if STAGED {
                cpu::fence();
            }
        });
    }
}

/// Some rows of a strip of columns: of those that lie a dilation apart from `first` on, `rows`.
struct Strip {
    columns: Columns,
    first: usize,
    rows: Range<usize>,
    /// Steps whose rows of the source all exist and which complete a row.
    whole: Range<usize>,
    /// To what is asked for ahead where a strip goes across the lines of memory, or 0: of the next band what this strip reads and
    /// writes, or, with a stage, lines from the first row on in the order of memory.
    ahead: [usize; 2],
    /// Whether the last lane is not used, so that two vectors of a row give three taps.
    narrow: bool,
    /// Whether to add to what is there.
    add: bool,
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl<T: Float, const K: usize, const S: usize, const G: usize, const STAGED: bool> Work<T>
    for Units<'_, T, K, S, G, STAGED>
{
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        let Planes { target, dilation, terms, .. } = *self.planes;
        for unit in self.units.clone() {
            let (planes, steps) = self.cut.unit(unit);
            for first in 0..dilation[0].min(target[0]) {
                let rows = steps.start..steps.end.min((target[0] - first).div_ceil(dilation[0]));
                for term in 0..terms {
                    // SAFETY: the caller's promise.
                    unsafe { self.rows::<V>(planes.clone(), first, rows.clone(), term) };
                }
            }
        }
    }
}

impl<T: Float, const K: usize, const S: usize, const G: usize, const STAGED: bool> Units<'_, T, K, S, G, STAGED> {
    /// Sums that a row of the source takes part in; sum `j` is that of the row that began `j` steps ago.
    const SUMS: usize = K.div_ceil(S);

    /// One term of some rows of some planes.
    #[inline(always)]
    unsafe fn rows<V: Vector<T>>(&self, planes: Range<usize>, first: usize, rows: Range<usize>, term: usize) {
        let Planes { source, target, kernel, dilation, padding, terms, share, kernels, .. } = *self.planes;
        let step = (dilation[0] * S) as isize;
        let before = padding[0] - first as isize;
        let begin = (before.max(0) as usize).div_ceil(step as usize).max(rows.start + Self::SUMS - 1);
        let end = (source[0] as isize + before - ((S - 1) * dilation[0]) as isize - 1).div_euclid(step) + 1;
        let last = rows.end + Self::SUMS - 1;
        let begin = begin.min(last);
        let whole = begin..(end.max(0) as usize).clamp(begin, last);
        let ahead = match self.cut.bands {
            1 => [0; 2],
            _ => [source[1] * S, target[1]].map(|row| self.cut.band * dilation[0] * row),
        };
        let narrow = S == 2 && G == HELD && target[1] < V::LANES;
        let mut column = 0;
        while column < target[1] {
            let columns = Columns {
                start: (column * S) as isize - padding[1],
                width: source[1],
                count: V::LANES.min(target[1] - column),
                dilation: dilation[1],
            };
            // Of what comes from memory, a strip asks for its part of the lines of the band after the next.
            let part = if STAGED { ahead[0] + column * rows.len() * S * S } else { 0 };
            let ahead = [ahead[0] + part, ahead[1]];
            let strip =
                Strip { columns, first, rows: rows.clone(), whole: whole.clone(), ahead, narrow, add: term > 0 };
            let inside = columns.are_inside::<S>(kernel[1], V::LANES);
            for plane in planes.clone() {
                let from = plane * terms + term;
                // SAFETY: these planes exist, and so does the kernel.
                unsafe {
                    let x = self.x.add(from / share * source[0] * source[1]);
                    let w = self.w.add(from % kernels * K * kernel[1]);
                    let y = match STAGED {
                        true => self.stage.wrapping_sub(rows.start * target[1]).wrapping_add(column),
                        false => self.y.add(plane * target[0] * target[1] + column),
                    };
                    if inside {
                        self.strip::<V, false>(&strip, x, w, y);
                    } else {
                        self.strip::<V, true>(&strip, x, w, y);
                    }
                }
            }
            column += V::LANES;
        }
        if STAGED {
            // SAFETY: a band of one plane is complete, and its rows follow one another.
            unsafe {
                let to = self.y.add((planes.start * target[0] + rows.start) * target[1]);
                Stream { from: self.stage.cast_const(), to, count: rows.len() * target[1] }.run::<V>();
            }
        }
    }

    /// A strip; `y` is its first column.
    #[inline(always)]
    unsafe fn strip<V: Vector<T>, const EDGE: bool>(&self, strip: &Strip, x: *const T, w: *const T, y: *mut T) {
        let Planes { source, target, dilation, .. } = *self.planes;
        // SAFETY: the caller's promise; the rows of whole steps exist.
        unsafe {
            let mut held = [[V::splat(T::ZERO); G]; K];
            if G == HELD {
                for k in 0..K {
                    for i in 0..G {
                        held[k][i] = self.weight(w, k, i);
                    }
                }
            }
            let mut sums = [V::splat(T::ZERO); K];
            for at in strip.rows.start..strip.whole.start {
                sums = self.checked::<V, EDGE>(strip, at, x, w, y, &held, sums);
            }
            let mut from = x.wrapping_offset(self.source_row(strip, strip.whole.start, 0) * source[1] as isize);
            let mut to = y.wrapping_add(self.target_row(strip, strip.whole.start) * target[1]);
            let first = x.wrapping_offset(self.source_row(strip, strip.rows.start, 0) * source[1] as isize);
            let mut following = Following { at: first.wrapping_add(strip.ahead[0]) };
            for _ in strip.whole.clone() {
                if STAGED {
                    following.ask::<V>(S * S, false);
                } else if strip.ahead[0] > 0 {
                    cpu::prefetch_to_write(to.wrapping_add(strip.ahead[1]));
                    for r in 0..S {
                        let ahead = from.wrapping_add(r * source[1]).wrapping_offset(strip.columns.start);
                        (0..S).for_each(|i| cpu::prefetch(ahead.wrapping_add(strip.ahead[0] + i * V::LANES)));
                    }
                }
                for r in 0..S {
                    sums = self.row::<V, EDGE>(strip, from, w, &held, r, sums);
                    from = from.wrapping_add(dilation[0] * source[1]);
                }
                Self::write(strip, sums[Self::SUMS - 1], to);
                to = to.wrapping_add(dilation[0] * target[1]);
                sums = shifted(sums, V::splat(T::ZERO));
            }
            for at in strip.whole.end..strip.rows.end + Self::SUMS - 1 {
                sums = self.checked::<V, EDGE>(strip, at, x, w, y, &held, sums);
            }
        }
    }

    /// Row `r` of the source in a step, which need not exist.
    #[inline(always)]
    fn source_row(&self, strip: &Strip, at: usize, r: usize) -> isize {
        (strip.first + self.planes.dilation[0] * (at * S + r)) as isize - self.planes.padding[0]
    }

    /// The row that a step completes.
    #[inline(always)]
    fn target_row(&self, strip: &Strip, at: usize) -> usize {
        strip.first + self.planes.dilation[0] * (at + 1 - Self::SUMS)
    }

    /// A step of whose rows some may not exist, or which completes none.
    #[inline(always)]
    unsafe fn checked<V: Vector<T>, const EDGE: bool>(
        &self,
        strip: &Strip,
        at: usize,
        x: *const T,
        w: *const T,
        y: *mut T,
        held: &[[V; G]; K],
        mut sums: [V; K],
    ) -> [V; K] {
        let Planes { source, target, .. } = *self.planes;
        // SAFETY: the caller's promise; only what exists is read and written.
        unsafe {
            for r in 0..S {
                let row = self.source_row(strip, at, r);
                if row >= 0 && row < source[0] as isize {
                    let from = x.add(row as usize * source[1]);
                    sums = self.row::<V, EDGE>(strip, from, w, held, r, sums);
                }
            }
            if at + 1 >= strip.rows.start + Self::SUMS {
                Self::write(strip, sums[Self::SUMS - 1], y.add(self.target_row(strip, at) * target[1]));
            }
            shifted(sums, V::splat(T::ZERO))
        }
    }

    /// Adds row `r` of a step to the sums it takes part in.
    #[inline(always)]
    unsafe fn row<V: Vector<T>, const EDGE: bool>(
        &self,
        strip: &Strip,
        from: *const T,
        w: *const T,
        held: &[[V; G]; K],
        r: usize,
        mut sums: [V; K],
    ) -> [V; K] {
        let width = if G == HELD { HELD } else { self.planes.kernel[1] };
        let mut tap = 0;
        while tap < width {
            // SAFETY: the caller's promise.
            unsafe {
                let taps: [V; G] = match S == 2 && G == HELD && strip.narrow {
                    true => strip.columns.read_pair::<T, V, G, EDGE>(from),
                    false => strip.columns.read::<T, V, S, G, EDGE>(from, tap),
                };
                for i in 0..G {
                    for j in 0..Self::SUMS {
                        let k = r + S * j;
                        if k < K && (G == HELD || tap + i < width) {
                            let weight = if G == HELD { held[k][i] } else { self.weight(w, k, tap + i) };
                            sums[j] = weight.mul_add(taps[i], sums[j]);
                        }
                    }
                }
            }
            tap += G;
        }
        sums
    }

    /// The weight of row `k` and column `i` of the kernel at `w`.
    #[inline(always)]
    unsafe fn weight<V: Vector<T>>(&self, w: *const T, k: usize, i: usize) -> V {
        let width = if G == HELD { HELD } else { self.planes.kernel[1] };
        let at = k * width + i;
        // SAFETY: the caller's promise.
        unsafe { V::splat(*w.add(if self.planes.turned { K * width - 1 - at } else { at })) }
    }

    /// Writes or adds the strip's columns of a row.
    #[inline(always)]
    unsafe fn write<V: Vector<T>>(strip: &Strip, sum: V, to: *mut T) {
        let count = strip.columns.count;
        // SAFETY: the caller's promise.
        unsafe {
            match (count == V::LANES, strip.add) {
                (true, false) => sum.store(to),
                (true, true) => V::load(to).add(sum).store(to),
                (false, false) => sum.store_part(to, count),
                (false, true) => V::load_part(to, count).add(sum).store_part(to, count),
            }
        }
    }
}
