//! Heat maps: a matrix as coloured cells, with numbers where they fit. Confusion matrices are one of them.

use super::canvas::{Align, Canvas, Rect};
use super::chart_draw::{EDGE, LABEL, SMALL, heading};
use super::colour::{Colour, ColourMap};
use super::picture::Picture;
use super::text::{self, Weight};
use super::ticks::{self, Scale, TickStyle};
use crate::error::Result;
use crate::metrics::Confusion;
use std::path::Path;

/// A matrix as coloured cells.
#[derive(Clone, Debug)]
pub struct HeatMap {
    title: String,
    subtitle: String,
    rows: usize,
    columns: usize,
    values: Vec<f64>,
    /// Written into the cells; empty for none.
    cells: Vec<String>,
    row_names: Vec<String>,
    column_names: Vec<String>,
    labels: (String, String),
    map: ColourMap,
    range: Option<(f64, f64)>,
    bar: bool,
    style: TickStyle,
}

/// A confusion matrix: the counts in the cells, coloured by the share of the row's true class. The colour follows the
/// square root of the share, so that the few mistakes of a good model show.
#[track_caller]
pub fn confusion(title: impl Into<String>, matrix: &Confusion, names: &[impl AsRef<str>]) -> HeatMap {
    let classes = matrix.classes();
    let row_total = |a: usize| (0..classes).map(|p| matrix.count(a, p)).sum::<u64>().max(1) as f64;
    let cells = || (0..classes).flat_map(|a| (0..classes).map(move |p| (a, p)));
    let shares = cells().map(|(a, p)| (matrix.count(a, p) as f64 / row_total(a)).sqrt()).collect();
    let mut made = HeatMap::new(title, classes, classes, shares).row_names(names).column_names(names);
    made.cells =
        matrix.counts().iter().map(|&count| if count == 0 { String::new() } else { count.to_string() }).collect();
    let right = crate::units::percent(matrix.accuracy());
    made.subtitle = format!("{} examples, {right} on the diagonal", crate::units::grouped(matrix.total()));
    made.labels("predicted", "true").range(0.0, 1.0).map(ColourMap::Blues).without_bar()
}

impl HeatMap {
    /// From values row by row.
    #[track_caller]
    pub fn new(title: impl Into<String>, rows: usize, columns: usize, values: Vec<f64>) -> Self {
        assert!(values.len() == rows * columns, "heat map: {} values for {rows}×{columns}", values.len());
        Self {
            title: title.into(),
            subtitle: String::new(),
            rows,
            columns,
            values,
            cells: Vec::new(),
            row_names: Vec::new(),
            column_names: Vec::new(),
            labels: (String::new(), String::new()),
            map: ColourMap::Viridis,
            range: None,
            bar: true,
            style: TickStyle::Number,
        }
    }

    /// A second line under the title.
    #[must_use]
    pub fn subtitle(mut self, text: impl Into<String>) -> Self {
        self.subtitle = text.into();
        self
    }

    /// Names of the rows, such as the tokens that attend.
    #[must_use]
    #[track_caller]
    pub fn row_names(mut self, names: &[impl AsRef<str>]) -> Self {
        assert!(names.len() == self.rows, "heat map: {} names for {} rows", names.len(), self.rows);
        self.row_names = names.iter().map(|name| name.as_ref().to_string()).collect();
        self
    }

    /// Names of the columns, such as the tokens attended to.
    #[must_use]
    #[track_caller]
    pub fn column_names(mut self, names: &[impl AsRef<str>]) -> Self {
        assert!(names.len() == self.columns, "heat map: {} names for {} columns", names.len(), self.columns);
        self.column_names = names.iter().map(|name| name.as_ref().to_string()).collect();
        self
    }

    /// What columns (`x`) and rows (`y`) are.
    #[must_use]
    pub fn labels(mut self, x: impl Into<String>, y: impl Into<String>) -> Self {
        self.labels = (x.into(), y.into());
        self
    }

    /// The colours.
    #[must_use]
    pub fn map(mut self, map: ColourMap) -> Self {
        self.map = map;
        self
    }

    /// The values at the two ends of the colours; otherwise the least and the largest present.
    #[must_use]
    pub fn range(mut self, low: f64, high: f64) -> Self {
        self.range = Some((low, high));
        self
    }

    /// Writes the values into the cells with this many decimals.
    #[must_use]
    pub fn numbers(mut self, decimals: usize) -> Self {
        self.cells = self.values.iter().map(|v| format!("{v:.decimals$}").replacen('-', "−", 1)).collect();
        self
    }

    /// The values are fractions, written as percentages beside the colour bar.
    #[must_use]
    pub fn percent(mut self) -> Self {
        self.style = TickStyle::Percent;
        self
    }

    /// Leaves the colour bar out.
    #[must_use]
    pub fn without_bar(mut self) -> Self {
        self.bar = false;
        self
    }

    /// The side of a cell in units: room for the numbers where there are any.
    fn cell(&self) -> f32 {
        let most = self.rows.max(self.columns).max(1) as f32;
        let written = self.cells.iter().map(|cell| text::width(cell, SMALL, Weight::Regular)).fold(0.0, f32::max);
        let wanted = if self.cells.is_empty() { (360.0 / most).clamp(3.0, 48.0) } else { (written + 12.0).max(30.0) };
        wanted.min(900.0 / most)
    }

    fn upright_names(&self) -> bool {
        let widest = self.column_names.iter().map(|name| text::width(name, SMALL, Weight::Regular)).fold(0.0, f32::max);
        widest > self.cell() - 4.0
    }

    /// Room for names: (left of the rows, below the columns).
    fn room(&self) -> (f32, f32) {
        let widest = |names: &[String]| {
            names.iter().map(|n| text::width(n, SMALL, Weight::Regular)).fold(0.0, f32::max).min(130.0)
        };
        let left = widest(&self.row_names) + if self.row_names.is_empty() { 0.0 } else { 8.0 };
        let below = match (self.column_names.is_empty(), self.upright_names()) {
            (true, _) => 0.0,
            (false, true) => widest(&self.column_names) + 10.0,
            (false, false) => SMALL + 8.0,
        };
        let label = |text: &str| if text.is_empty() { 0.0 } else { LABEL + 10.0 };
        (left + label(&self.labels.1), below + label(&self.labels.0))
    }

    /// Width and height that show it well.
    pub(crate) fn wanted(&self) -> (f32, f32) {
        let (cell, (left, below)) = (self.cell(), self.room());
        let head = [(&self.title, 21.0), (&self.subtitle, 16.8)]
            .iter()
            .filter(|(t, _)| !t.is_empty())
            .map(|(_, h)| h)
            .sum::<f32>();
        let bar = if self.bar { 70.0 } else { 0.0 };
        let title =
            text::width(&self.title, 15.0, Weight::Medium).max(text::width(&self.subtitle, LABEL, Weight::Regular));
        let width = (cell * self.columns as f32 + left + bar).max(title.min(600.0)) + 2.0 * EDGE;
        (width.max(160.0), cell * self.rows as f32 + below + head + 8.0 + 2.0 * EDGE)
    }

    /// Draws into `area` of a sheet.
    pub(crate) fn draw(&self, canvas: &mut Canvas, area: Rect) {
        let top = heading(canvas, area, &self.title, &self.subtitle) + 8.0;
        let (left, below) = self.room();
        let bar = if self.bar { 70.0 } else { 0.0 };
        let wide = (area.w - 2.0 * EDGE - left - bar) / self.columns.max(1) as f32;
        let high = (area.h - top - below - EDGE) / self.rows.max(1) as f32;
        let cell = wide.min(high).max(0.5);
        let grid = Rect::new(area.x + EDGE + left, area.y + top, cell * self.columns as f32, cell * self.rows as f32);

        let finite = || self.values.iter().copied().filter(|v| v.is_finite());
        let (low, high) =
            self.range.unwrap_or((finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max)));
        let (low, high) = if low < high { (low, high) } else { ticks::padded(Scale::Linear, low, high, 0.0) };
        // A hair between cells where they are large enough to spare it.
        let gap = if cell >= 12.0 { 1.0 } else { 0.0 };
        for row in 0..self.rows {
            for column in 0..self.columns {
                let index = row * self.columns + column;
                let colour = self.map.at(((self.values[index] - low) / (high - low)) as f32);
                let (x, y) = (grid.x + column as f32 * cell, grid.y + row as f32 * cell);
                canvas.fill(Rect::new(x, y, cell - gap, cell - gap), colour, 1.0);
                self.number(canvas, index, (x + (cell - gap) / 2.0, y + (cell - gap) / 2.0), cell, colour);
            }
        }
        self.names(canvas, grid, cell);
        if self.bar {
            self.colour_bar(canvas, grid, low, high);
        }
    }

    fn number(&self, canvas: &mut Canvas, index: usize, (x, y): (f32, f32), cell: f32, under: Colour) {
        let Some(text) = self.cells.get(index).filter(|text| !text.is_empty()) else { return };
        let fits = |size: &f32| text::width(text, *size, Weight::Regular) <= cell - 4.0 && *size <= cell - 3.0;
        let Some(size) = [SMALL + 1.0, SMALL, 10.0, 9.0, 8.0, 7.0].into_iter().find(fits) else { return };
        let ink = if under.brightness() < 0.55 { Colour::WHITE } else { Colour::INK };
        canvas.text((x, y + size * 0.36), Align::Middle, text, size, Weight::Regular, ink);
    }

    fn names(&self, canvas: &mut Canvas, grid: Rect, cell: f32) {
        let regular = Weight::Regular;
        // Names closer than a line of text would run into each other: show every n-th.
        let stride = ((SMALL + 2.0) / cell).ceil().max(1.0) as usize;
        for (row, name) in self.row_names.iter().enumerate().step_by(stride) {
            let place = (grid.x - 8.0, grid.y + (row as f32 + 0.5) * cell + SMALL * 0.36);
            canvas.text(place, Align::End, &text::fitted(name, SMALL, regular, 130.0), SMALL, regular, Colour::GREY);
        }
        for (column, name) in self.column_names.iter().enumerate().step_by(stride) {
            let middle = grid.x + (column as f32 + 0.5) * cell;
            let name = text::fitted(name, SMALL, regular, 130.0);
            if self.upright_names() {
                canvas.text_up(
                    (middle + SMALL * 0.36, grid.bottom() + 6.0),
                    Align::End,
                    &name,
                    SMALL,
                    regular,
                    Colour::GREY,
                );
            } else {
                canvas.text((middle, grid.bottom() + SMALL + 5.0), Align::Middle, &name, SMALL, regular, Colour::GREY);
            }
        }
        let (left, below) = self.room();
        if !self.labels.0.is_empty() {
            let place = (grid.x + grid.w / 2.0, grid.bottom() + below - 2.0);
            canvas.text(place, Align::Middle, &self.labels.0, LABEL, regular, Colour::INK);
        }
        if !self.labels.1.is_empty() {
            let place = (grid.x - left + LABEL * 0.8, grid.y + grid.h / 2.0);
            canvas.text_up(place, Align::Middle, &self.labels.1, LABEL, regular, Colour::INK);
        }
    }

    fn colour_bar(&self, canvas: &mut Canvas, grid: Rect, low: f64, high: f64) {
        let bar = Rect::new(grid.right() + 14.0, grid.y, 12.0, grid.h);
        let falling: Vec<f32> = (0..256).rev().map(|i| i as f32 / 255.0).collect();
        canvas.picture(bar, &Picture::mapped(1, 256, &falling, (0.0, 1.0), self.map));
        for (value, label) in ticks::ticks(Scale::Linear, self.style, low, high, (grid.h / 40.0).max(2.0) as usize) {
            let y = bar.bottom() - ((value - low) / (high - low)) as f32 * bar.h;
            canvas.rule((bar.right(), y), (bar.right() + 3.0, y), Colour::LINE);
            canvas.text(
                (bar.right() + 6.0, y + SMALL * 0.36),
                Align::Start,
                &label,
                SMALL,
                Weight::Regular,
                Colour::GREY,
            );
        }
    }

    /// The heat map as the bytes of a PNG file, as large as it needs.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        let (width, height) = self.wanted();
        let mut canvas = Canvas::new(width, height);
        self.draw(&mut canvas, Rect::new(0.0, 0.0, width, height));
        canvas.into_png()
    }

    /// Writes a PNG file, whole or not at all.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        crate::files::write_atomic(path, &self.to_png()?)
    }
}
