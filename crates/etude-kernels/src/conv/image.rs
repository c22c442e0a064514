//! A copy of some input planes in which every tap of every position exists and neighbouring positions are neighbours in
//! memory: padding is written out as zeros, and columns are sorted by their remainder modulo the stride.

use crate::Float;

/// Where positions and taps lie in a padded copy of one plane.
///
/// Axis 2 is split: coordinate `u` (counted from the lowest one needed) lies at `u % step · width + u / step`.
pub(super) struct Layout {
    /// Sizes of the plane copied from.
    source: [usize; 3],
    /// From one position to the next, in the source.
    step: [usize; 3],
    /// The lowest source coordinate of each axis, for the first position of the band; may be negative.
    low: [isize; 3],
    /// Coordinates of each axis for a band of `band` positions of axis `axis`.
    extent: [usize; 3],
    /// Whether a remainder modulo `step` is read at all, for axis 1.
    used: Vec<bool>,
    /// How many remainders of axis 2 are kept.
    phases: usize,
    /// Columns of each remainder.
    width: usize,
    /// Each tap's offset in the copy.
    pub taps: Vec<usize>,
    /// Elements of one plane of the copy.
    pub plane: usize,
}

impl Layout {
    /// The layout for `positions` (of the band) and taps at `displacements`, of which there must be one.
    pub(super) fn new(
        source: [usize; 3],
        step: [usize; 3],
        positions: [usize; 3],
        displacements: &[[isize; 3]],
    ) -> Layout {
        let range = |axis: usize| {
            let all = displacements.iter().map(|tap| tap[axis]);
            (all.clone().min().unwrap_or(0), all.max().unwrap_or(0))
        };
        let ranges = [range(0), range(1), range(2)];
        let span = |axis: usize| (ranges[axis].1 - ranges[axis].0) as usize;
        let extent = [0, 1, 2].map(|axis| (positions[axis] - 1) * step[axis] + span(axis) + 1);
        let phases = step[2].min(span(2) + 1);
        let width = extent[2].div_ceil(step[2]);
        let mut used = vec![false; step[1]];
        displacements.iter().for_each(|tap| used[(tap[1] - ranges[1].0) as usize % step[1]] = true);
        let mut layout = Layout {
            source,
            step,
            low: ranges.map(|range| range.0),
            extent,
            used,
            phases,
            width,
            taps: vec![],
            plane: extent[0] * extent[1] * phases * width,
        };
        layout.taps = displacements
            .iter()
            .map(|tap| {
                let [z, y, x] = [0, 1, 2].map(|axis| (tap[axis] - layout.low[axis]) as usize);
                (z * extent[1] + y) * layout.pitch() + x % step[2] * width + x / step[2]
            })
            .collect();
        layout
    }

    /// Elements of one row of the copy.
    fn pitch(&self) -> usize {
        self.phases * self.width
    }

    /// Offset of the row of positions (z, y) of the band; the taps' offsets are added to it.
    pub(super) fn row(&self, z: usize, y: usize) -> usize {
        (z * self.step[0] * self.extent[1] + y * self.step[1]) * self.pitch()
    }

    /// Copies one plane; `first` is the band's first position of axes 0 and 1.
    pub(super) fn copy<T: Float>(&self, first: [usize; 2], plane: &[T], copy: &mut [T]) {
        let start = [0, 1].map(|axis| (first[axis] * self.step[axis]) as isize + self.low[axis]);
        let (pitch, width) = (self.pitch(), self.width);
        for z in 0..self.extent[0] {
            let from_z = start[0] + z as isize;
            for y in 0..self.extent[1] {
                if !self.used[y % self.step[1]] {
                    continue;
                }
                let from_y = start[1] + y as isize;
                let row = &mut copy[(z * self.extent[1] + y) * pitch..][..pitch];
                let inside = |at: isize, size: usize| at >= 0 && (at as usize) < size;
                if !inside(from_z, self.source[0]) || !inside(from_y, self.source[1]) {
                    row.fill(T::ZERO);
                    continue;
                }
                let from = (from_z as usize * self.source[1] + from_y as usize) * self.source[2];
                let from = &plane[from..][..self.source[2]];
                for phase in 0..self.phases {
                    self.copy_row(phase, from, &mut row[phase * width..][..width]);
                }
            }
        }
    }

    /// Copies the columns of one row that have remainder `phase`.
    fn copy_row<T: Float>(&self, phase: usize, from: &[T], to: &mut [T]) {
        let (step, low) = (self.step[2] as isize, self.low[2] + phase as isize);
        // Columns `begin..end` of `to` are inside the source: 0 ≤ low + step·i < length.
        let column = |bound: isize| ((bound - low).max(0) as usize).div_ceil(step as usize).min(to.len());
        let (begin, end) = (column(0), column(from.len() as isize));
        to[..begin].fill(T::ZERO);
        to[end..].fill(T::ZERO);
        if begin >= end {
            return;
        }
        let first = (low + step * begin as isize) as usize;
        if step == 1 {
            to[begin..end].copy_from_slice(&from[first..][..end - begin]);
        } else {
            for (to, from) in to[begin..end].iter_mut().zip(from[first..].iter().step_by(step as usize)) {
                *to = *from;
            }
        }
    }
}
