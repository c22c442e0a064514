//! What will be read next, asked for while there is something to compute: pieces of planes lie so far apart that the
//! machine does not foresee them.

use crate::cpu::{self, caches::LINE};

/// Pieces of memory of one size, in three dimensions.
pub(super) struct Pieces<T> {
    pub from: *const T,
    /// How many, and how far apart; the last follow each other first.
    pub counts: [usize; 3],
    pub apart: [usize; 3],
    /// Elements of one.
    pub length: usize,
}

impl<T> Pieces<T> {
    /// No pieces.
    pub(super) fn none() -> Self {
        Pieces { from: std::ptr::null(), counts: [0; 3], apart: [0; 3], length: 0 }
    }

    /// The same with pieces joined that follow each other without a gap.
    fn joined(mut self) -> Self {
        for axis in (0..3).rev() {
            if self.counts[axis] != 1 && self.apart[axis] != self.length {
                break;
            }
            self.length *= self.counts[axis];
            self.counts[axis] = 1;
        }
        self
    }

    /// Lines of one piece.
    fn lines(&self) -> usize {
        (self.length * size_of::<T>()).div_ceil(LINE)
    }
}

/// The lines of some pieces, in order, a share at a time.
pub(super) struct Ahead<T, const N: usize> {
    pieces: [Pieces<T>; N],
    /// How many lines a share has.
    share: usize,
    /// The piece that is next: among `pieces`, and in it.
    at: usize,
    piece: [usize; 3],
    /// Its next line, and how many are left; none if there is no more.
    line: *const T,
    left: usize,
}

impl<T, const N: usize> Ahead<T, N> {
    /// All lines in `shares` shares.
    pub(super) fn new(pieces: [Pieces<T>; N], shares: usize) -> Self {
        let pieces = pieces.map(Pieces::joined);
        let lines: usize = pieces.iter().map(|pieces| pieces.counts.iter().product::<usize>() * pieces.lines()).sum();
        let share = lines.div_ceil(shares.max(1));
        let mut ahead = Ahead { pieces, share, at: 0, piece: [0; 3], line: std::ptr::null(), left: 0 };
        ahead.begin();
        ahead
    }

    /// Asks for the next share, to be waiting in the second-level cache: the first would not hold it until it is used.
    pub(super) fn ask(&mut self) {
        self.visit(cpu::prefetch_to_second);
    }

    /// The next share, for the caller to ask for: a first line and how many follow each other from it. It is smaller where a
    /// piece ends.
    pub(super) fn take(&mut self) -> (*const T, usize) {
        let (line, count) = (self.line, self.share.min(self.left));
        self.line = line.wrapping_byte_add(count * LINE);
        self.left -= count;
        if count > 0 && self.left == 0 {
            self.next();
        }
        (line, count)
    }

    /// Visits the lines of the next share.
    #[inline(always)]
    fn visit(&mut self, mut visit: impl FnMut(*const T)) {
        let mut share = self.share;
        while share > 0 && self.left > 0 {
            let count = share.min(self.left);
            for line in 0..count {
                visit(self.line.wrapping_byte_add(line * LINE));
            }
            share -= count;
            self.left -= count;
            self.line = self.line.wrapping_byte_add(count * LINE);
            if self.left == 0 {
                self.next();
            }
        }
    }

    /// Goes on to the next piece.
    #[cold]
    fn next(&mut self) {
        let counts = self.pieces[self.at].counts;
        for axis in (0..3).rev() {
            self.piece[axis] += 1;
            if self.piece[axis] < counts[axis] {
                return self.begin();
            }
            self.piece[axis] = 0;
        }
        self.at += 1;
        self.begin();
    }

    /// Begins the piece that is next, or the first after it that there is.
    fn begin(&mut self) {
        while let Some(pieces) = self.pieces.get(self.at) {
            self.left = if pieces.counts.contains(&0) { 0 } else { pieces.lines() };
            if self.left > 0 {
                let offset: usize = (0..3).map(|axis| self.piece[axis] * pieces.apart[axis]).sum();
                self.line = pieces.from.wrapping_add(offset);
                return;
            }
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lines_come_once_in_order() {
        let start = |i: usize| std::ptr::without_provenance::<f32>(1 << 20).wrapping_add(i);
        let pieces = || {
            [
                Pieces { from: start(0), counts: [2, 3, 1], apart: [1000, 200, 0], length: 33 },
                Pieces::none(),
                Pieces { from: start(5000), counts: [1, 2, 0], apart: [0, 300, 100], length: 7 },
                Pieces { from: start(6000), counts: [1, 2, 2], apart: [0, 300, 100], length: 16 },
                // These follow each other.
                Pieces { from: start(9000), counts: [2, 4, 1], apart: [500, 8, 3], length: 8 },
            ]
        };
        let mut expected = vec![];
        for piece in [0, 200, 400, 1000, 1200, 1400] {
            expected.extend([0, 16, 32].map(|line| start(piece + line)));
        }
        expected.extend([6000, 6100, 6300, 6400, 9000, 9016, 9500, 9516].map(start));
        for times in [1, 3, 7, 100] {
            let (mut ahead, mut seen) = (Ahead::new(pieces(), times), vec![]);
            (0..times).for_each(|_| ahead.visit(|line| seen.push(line)));
            assert_eq!(seen, expected, "{times}");
            let (mut ahead, mut seen) = (Ahead::new(pieces(), times), vec![]);
            while let (line, count @ 1..) = ahead.take() {
                assert!(count <= expected.len().div_ceil(times));
                seen.extend((0..count).map(|i| line.wrapping_byte_add(i * LINE)));
            }
            assert_eq!(seen, expected, "{times}");
        }
    }
}
