//! How a sweep is cut into cells, and how their part of the input is laid out.

use super::super::image::{Columns, Layout};
use super::{Class, FEW_ROWS, Sweep};
use std::cmp::Reverse;

/// Depth of a panel, about: as many whole channels as fit.
const DEPTH: usize = 320;
/// Positions of a task, about; with several classes, half as many.
const POSITIONS: usize = 256;
/// The same where patches are not packed: less of the input is copied twice.
const DIRECT_POSITIONS: usize = 2048;
/// Depth up to which a cell has four times as many: their panels are small.
const SHALLOW: usize = 64;
/// Threads that cells of whole images are dealt to evenly; more find work, too, if there are more images.
const SHARES: usize = 4;

/// How a sweep is cut into cells: some whole images, or a band of one image.
pub(super) struct Cut {
    pub images: usize,
    /// The axis bands are cut from: 1, or 0 if there are several planes.
    pub axis: usize,
    /// Positions of a band along `axis`.
    pub band: usize,
    pub bands: usize,
    /// Channels at a time.
    pub block: usize,
    pub layout: Layout,
    /// For each class, where the taps of a block of channels lie.
    pub places: Vec<Vec<usize>>,
}

/// One cell.
pub(super) struct Cell {
    pub group: usize,
    pub image: usize,
    pub images: usize,
    /// First position along axes 0 and 1.
    pub first: [usize; 2],
    /// Positions along each axis.
    pub size: [usize; 3],
}

/// Whether few lanes are left empty by `count` elements.
pub(super) fn fills(count: usize, lanes: usize) -> bool {
    count.next_multiple_of(lanes) * 8 <= count * 9
}

impl Sweep {
    /// The cut for tiles of `wide` columns.
    pub(super) fn cut(&self, wide: usize) -> Cut {
        let axis = if self.grid[0] > 1 { 0 } else { 1 };
        let row: usize = self.grid[axis + 1..].iter().product();
        let whole = row * self.grid[axis];
        let about = match (self.rows <= FEW_ROWS, self.classes.len() > 1) {
            (true, _) => DIRECT_POSITIONS,
            (false, true) => POSITIONS / 2,
            // Bands that share lines of the input copy them twice.
            (false, false) if self.channels * self.taps() <= SHALLOW => 4 * POSITIONS,
            (false, false) => POSITIONS,
        };
        let (images, band) = if whole <= about * 3 / 2 {
            (self.images(whole, about.max(POSITIONS), wide / 2), self.grid[axis])
        } else {
            // Whole strips where that is possible; else about as many positions.
            let unit = (1..=wide).find(|unit| (unit * row).is_multiple_of(wide)).unwrap_or(1);
            let unit = if unit * row <= 2 * about { unit } else { 1 };
            (1, ((about / row / unit).max(1) * unit).min(self.grid[axis]))
        };
        let most = self.classes.iter().map(|class| class.taps.len()).max().unwrap_or(1);
        let limit = (DEPTH / most).max(1);
        let block = self.channels.div_ceil(self.channels.div_ceil(limit));
        let mut size = self.grid;
        size[axis] = band;
        let taps: Vec<_> = self.classes.iter().flat_map(|class| class.taps.iter().copied()).collect();
        // Taps read in place are not read beyond their position.
        let layout = match self.rows > FEW_ROWS {
            true => Layout::in_place(self.source, self.step, self.grid, &taps),
            false => None,
        };
        // Where rows leave lanes empty, they are copied so that strips can go on from one to the next.
        let lanes = wide / 2;
        let crosses = (size[2] <= lanes || !fills(size[2], lanes)) && fills(size[1] * size[2], lanes);
        let columns = match self.rows > FEW_ROWS && self.reads_in_place(0, lanes) && crosses {
            true => Columns::ForEachTap,
            false => Columns::Once,
        };
        let layout = layout.unwrap_or_else(|| Layout::new(self.source, self.step, size, &taps, columns));
        let mut before = 0;
        let of_class = |class: &Class| {
            let taps = &layout.taps[before..][..class.taps.len()];
            before += class.taps.len();
            let channels = (0..block).map(|channel| channel * layout.plane);
            channels.flat_map(|channel| taps.iter().map(move |tap| channel + tap)).collect()
        };
        let places = self.classes.iter().map(of_class).collect();
        Cut { images, axis, band, bands: self.grid[axis].div_ceil(band), block, layout, places }
    }

    /// How many whole images of `whole` positions a cell takes, `about` positions or less: so many that cells are even, that
    /// there are some, and that few lanes of the vectors are left empty.
    fn images(&self, whole: usize, about: usize, lanes: usize) -> usize {
        let even = (1..=(about * 3 / 2 / whole).clamp(1, self.batch)).map(|most| {
            let cells = self.batch.div_ceil(most);
            let images = self.batch.div_ceil(cells);
            // What the busiest of a few threads would do.
            (cells.div_ceil(SHARES) * (images * whole).div_ceil(lanes), Reverse(images))
        });
        even.min().map_or(1, |(_, Reverse(images))| images)
    }
}
