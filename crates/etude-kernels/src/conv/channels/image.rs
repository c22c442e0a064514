//! Where the taps of a convolution lie, and a copy of the image in which all of them exist: padding is written out as
//! zeros, rows and columns are sorted by their remainder modulo the stride, so that neighbouring outputs read neighbours.

use super::super::ConvGeometry;
use super::BLOCK;
use crate::Float;
use crate::cpu::{Vector, Work, prefetch};
use crate::threads::{SendPointer, parallel};

/// One axis of the copy: coordinate `u` (counted from the padding's beginning) lies at `u % step · length + u / step`.
#[derive(Clone, Copy)]
struct Axis {
    size: usize,
    padding: usize,
    step: usize,
    /// Remainders that are read, and coordinates of each.
    phases: usize,
    length: usize,
}

impl Axis {
    fn new(g: &ConvGeometry, axis: usize) -> Axis {
        let (step, reach) = (g.stride[axis], (g.kernel[axis] - 1) * g.dilation[axis]);
        let (size, padding) = (g.input[axis], g.padding[axis]);
        Axis { size, padding, step, phases: step.min(reach + 1), length: g.output[axis] + reach / step }
    }

    /// Elements of the copy.
    fn extent(&self) -> usize {
        self.phases * self.length
    }

    /// The coordinates `first..end` of a remainder that are inside the image.
    fn inside(&self, phase: usize) -> (usize, usize) {
        let before = |bound: usize| bound.saturating_sub(phase).div_ceil(self.step).min(self.length);
        (before(self.padding), before(self.padding + self.size))
    }

    /// The place in the image of coordinate `at`, which is inside, of a remainder.
    fn source(&self, phase: usize, at: usize) -> usize {
        at * self.step + phase - self.padding
    }
}

/// How a convolution reads its image. A plane holds `run` channels side by side.
pub(super) struct Layout {
    rows: Axis,
    columns: Axis,
    run: usize,
    /// Whether the image is read where it lies.
    pub in_place: bool,
    /// Elements of a plane as it is read.
    pub plane: usize,
    /// From one row of outputs to the next.
    pub row: usize,
    /// Where the channels of each tap lie, `[plane][kernel row][kernel column]`.
    pub taps: Vec<usize>,
}

impl Layout {
    pub(super) fn new(g: &ConvGeometry, run: usize) -> Layout {
        let (rows, columns) = (Axis::new(g, 1), Axis::new(g, 2));
        let whole = |axis: &Axis| axis.step == 1 && axis.padding == 0 && axis.length <= axis.size;
        let in_place = whole(&rows) && whole(&columns);
        let (height, width) = if in_place { (rows.size, columns.size) } else { (rows.extent(), columns.extent()) };
        let (plane, row) = (height * width * run, width * run);
        let mut taps = Vec::with_capacity(g.in_channels / run * g.kernel[1] * g.kernel[2]);
        for channel in 0..g.in_channels / run {
            for y in (0..g.kernel[1]).map(|y| y * g.dilation[1]) {
                for x in (0..g.kernel[2]).map(|x| x * g.dilation[2]) {
                    let y = y % rows.step * rows.length + y / rows.step;
                    let x = x % columns.step * columns.length + x / columns.step;
                    taps.push(channel * plane + y * row + x * run);
                }
            }
        }
        Layout { rows, columns, run, in_place, plane, row, taps }
    }

    /// Copies `planes` planes. `copy` must have room for as many.
    pub(super) fn copy<T: Float>(&self, planes: usize, x: &[T], copy: &mut [T]) {
        let size = self.rows.size * self.columns.size * self.run;
        assert!(x.len() == planes * size && copy.len() >= planes * self.plane, "convolution: planes to copy");
        let to = SendPointer(copy.as_mut_ptr());
        parallel(planes, |plane| {
            let x = x[plane * size..].as_ptr();
            // SAFETY: a plane of the image is there, and each task has a plane of the copy of its own.
            unsafe { crate::cpu::run(Plane { layout: self, x, to: to.at(plane * self.plane) }) }
        });
    }
}

/// Copying one plane.
struct Plane<'a, T> {
    layout: &'a Layout,
    x: *const T,
    to: *mut T,
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl<T: Float> Work<T> for Plane<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        let Layout { rows, columns, run, row, .. } = self.layout;
        let run = *run;
        for phase in 0..rows.phases {
            let (top, bottom) = rows.inside(phase);
            for y in 0..rows.length {
                // SAFETY: the caller's promise: the plane is there, and so is the copy's room.
                unsafe {
                    let mut to = self.to.add((phase * rows.length + y) * row);
                    if y < top || y >= bottom {
                        zeros::<T, V>(to, *row);
                        continue;
                    }
                    let from = self.x.add(rows.source(phase, y) * columns.size * run);
                    for phase in 0..columns.phases {
                        let (left, right) = columns.inside(phase);
                        zeros::<T, V>(to, left * run);
                        if left < right {
                            let from = from.add(columns.source(phase, left) * run);
                            pixels::<T, V>(from, columns.step, to.add(left * run), right - left, run, columns.size);
                        }
                        zeros::<T, V>(to.add(right * run), (columns.length - right) * run);
                        to = to.add(columns.length * run);
                    }
                }
            }
        }
    }
}

/// Copies `count` pixels of `run` elements, `step` pixels apart in the image.
#[inline(always)]
unsafe fn pixels<T: Float, V: Vector<T>>(
    from: *const T,
    step: usize,
    to: *mut T,
    count: usize,
    run: usize,
    width: usize,
) {
    // SAFETY: the caller's promise that all pixels exist on both sides.
    unsafe {
        match (run, step) {
            (_, 1) => copy::<T, V>(from, to, count * run),
            (BLOCK, _) => {
                for i in 0..count {
                    // The row after next; strides hide it from the machine.
                    prefetch(from.wrapping_add((2 * width + i) * step * BLOCK));
                    copy::<T, V>(from.add(i * step * BLOCK), to.add(i * BLOCK), BLOCK);
                }
            }
            (1, 2) => {
                // A step the compiler knows becomes shuffles.
                for i in 0..count {
                    *to.add(i) = *from.add(i * 2);
                }
            }
            _ => {
                for i in 0..count * run {
                    *to.add(i) = *from.add(i / run * step * run + i % run);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn copy<T: Float, V: Vector<T>>(from: *const T, to: *mut T, count: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut i = 0;
        while i + V::LANES <= count {
            V::load(from.add(i)).store(to.add(i));
            i += V::LANES;
        }
        if i < count {
            V::load_part(from.add(i), count - i).store_part(to.add(i), count - i);
        }
    }
}

#[inline(always)]
unsafe fn zeros<T: Float, V: Vector<T>>(to: *mut T, count: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut i = 0;
        while i + V::LANES <= count {
            V::splat(T::ZERO).store(to.add(i));
            i += V::LANES;
        }
        if i < count {
            V::splat(T::ZERO).store_part(to.add(i), count - i);
        }
    }
}
