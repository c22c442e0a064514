//! Several charts on one sheet.

use super::canvas::{Canvas, Rect};
use super::{Chart, Graph, HeatMap, Images};
use crate::error::Result;
use std::path::Path;

/// Something a page can hold.
#[derive(Clone, Debug)]
pub enum Panel {
    /// A chart with two axes.
    Chart(Box<Chart>),
    /// A matrix.
    HeatMap(Box<HeatMap>),
    /// Pictures.
    Images(Images),
    /// A recorded graph.
    Graph(Graph),
}

impl From<Chart> for Panel {
    fn from(chart: Chart) -> Self {
        Panel::Chart(Box::new(chart))
    }
}

impl From<HeatMap> for Panel {
    fn from(map: HeatMap) -> Self {
        Panel::HeatMap(Box::new(map))
    }
}

impl From<Images> for Panel {
    fn from(images: Images) -> Self {
        Panel::Images(images)
    }
}

impl From<Graph> for Panel {
    fn from(graph: Graph) -> Self {
        Panel::Graph(graph)
    }
}

impl Panel {
    fn wanted(&self) -> (f32, f32) {
        match self {
            Panel::Chart(chart) => chart.size,
            Panel::HeatMap(map) => map.wanted(),
            Panel::Images(images) => images.wanted(),
            Panel::Graph(graph) => graph.wanted(),
        }
    }

    fn draw(&self, canvas: &mut Canvas, area: Rect) {
        match self {
            Panel::Chart(chart) => chart.draw(canvas, area),
            Panel::HeatMap(map) => map.draw(canvas, area),
            Panel::Images(images) => images.draw(canvas, area),
            Panel::Graph(graph) => graph.draw(canvas, area),
        }
    }
}

/// Panels in rows: each column as wide as its widest panel, each row as high as its highest.
#[derive(Clone, Debug)]
pub struct Page {
    columns: usize,
    panels: Vec<Panel>,
}

/// A page with nothing else on it.
impl<P: Into<Panel>> From<P> for Page {
    fn from(panel: P) -> Self {
        Page::new(1).with(panel)
    }
}

impl Page {
    /// An empty page with this many panels in a row.
    pub fn new(columns: usize) -> Self {
        Self { columns: columns.max(1), panels: Vec::new() }
    }

    /// Adds a panel.
    #[must_use]
    pub fn with(mut self, panel: impl Into<Panel>) -> Self {
        self.panels.push(panel.into());
        self
    }

    /// The page as the bytes of a PNG file.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        let rows = self.panels.len().div_ceil(self.columns).max(1);
        let (mut widths, mut heights) = (vec![0.0f32; self.columns], vec![0.0f32; rows]);
        for (i, panel) in self.panels.iter().enumerate() {
            let (width, height) = panel.wanted();
            let (row, column) = (i / self.columns, i % self.columns);
            widths[column] = widths[column].max(width);
            heights[row] = heights[row].max(height);
        }
        let mut canvas = Canvas::new(widths.iter().sum(), heights.iter().sum());
        for (i, panel) in self.panels.iter().enumerate() {
            let (row, column) = (i / self.columns, i % self.columns);
            let (x, y) = (widths[..column].iter().sum(), heights[..row].iter().sum());
            panel.draw(&mut canvas, Rect::new(x, y, widths[column], heights[row]));
        }
        canvas.into_png()
    }

    /// Writes a PNG file, whole or not at all.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        crate::files::write_atomic(path, &self.to_png()?)
    }
}
