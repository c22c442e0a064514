//! A sheet of small pictures in a grid, each with a caption: filters, samples, wrong predictions.

use super::canvas::{Align, Canvas, Rect, SCALE};
use super::chart_draw::{EDGE, LABEL, SMALL, heading};
use super::colour::Colour;
use super::picture::Picture;
use super::text::{self, Weight};
use crate::error::Result;
use std::path::Path;

#[derive(Clone, Debug)]
struct Tile {
    picture: Picture,
    caption: String,
    colour: Colour,
}

/// Pictures in a grid.
#[derive(Clone, Debug)]
pub struct Images {
    title: String,
    subtitle: String,
    columns: Option<usize>,
    tile: f32,
    tiles: Vec<Tile>,
}

impl Images {
    /// An empty sheet.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), subtitle: String::new(), columns: None, tile: 72.0, tiles: Vec::new() }
    }

    /// A second line under the title.
    #[must_use]
    pub fn subtitle(mut self, text: impl Into<String>) -> Self {
        self.subtitle = text.into();
        self
    }

    /// Pictures in a row; otherwise as many as make the sheet a little wider than high.
    #[must_use]
    pub fn columns(mut self, columns: usize) -> Self {
        self.columns = Some(columns.max(1));
        self
    }

    /// The width a picture should about have on the sheet, in units (72 unless set).
    #[must_use]
    pub fn tile(mut self, width: f32) -> Self {
        self.tile = width.clamp(4.0, 1024.0);
        self
    }

    /// Adds a picture without a caption.
    #[must_use]
    pub fn picture(self, picture: Picture) -> Self {
        self.captioned(picture, "", Colour::GREY)
    }

    /// Adds a picture with a caption in a colour, such as [`Colour::BAD`] for a wrong prediction.
    #[must_use]
    pub fn captioned(mut self, picture: Picture, caption: impl Into<String>, colour: Colour) -> Self {
        self.tiles.push(Tile { picture, caption: caption.into(), colour });
        self
    }

    /// Adds pictures, each with its name under it.
    #[must_use]
    pub fn named<S: Into<String>>(self, pictures: impl IntoIterator<Item = (S, Picture)>) -> Self {
        pictures.into_iter().fold(self, |sheet, (name, picture)| sheet.captioned(picture, name, Colour::GREY))
    }

    /// Pictures on the sheet.
    pub fn len(&self) -> usize {
        self.tiles.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tiles.is_empty()
    }

    fn across(&self) -> usize {
        let balanced = (self.tiles.len() as f32 * 1.6).sqrt().ceil() as usize;
        self.columns.unwrap_or(balanced).clamp(1, self.tiles.len().max(1))
    }

    /// A picture's size on the sheet. Its pixels become blocks of whole pixels, so that all are equally large.
    fn shown(&self, picture: &Picture) -> (f32, f32) {
        let zoom = (self.tile * SCALE / picture.width().max(1) as f32).round();
        let zoom = if zoom >= 1.0 { zoom / SCALE } else { self.tile / picture.width().max(1) as f32 };
        (picture.width() as f32 * zoom, picture.height() as f32 * zoom)
    }

    /// Width and height of one place in the grid, with its caption.
    fn place(&self) -> (f32, f32) {
        let sizes = || self.tiles.iter().map(|tile| self.shown(&tile.picture));
        let captions = self.tiles.iter().any(|tile| !tile.caption.is_empty());
        let caption = if captions { SMALL + 8.0 } else { 0.0 };
        // Captions may widen a narrow tile, within reason.
        let words = self.tiles.iter().map(|t| text::width(&t.caption, SMALL, Weight::Regular)).fold(0.0, f32::max);
        let width = sizes().map(|s| s.0).fold(1.0, f32::max);
        (width.max(words.min(self.tile * 1.6)), sizes().map(|s| s.1).fold(1.0, f32::max) + caption)
    }

    /// Gap between pictures.
    fn gap(&self) -> f32 {
        if self.tiles.iter().any(|tile| !tile.caption.is_empty()) { 10.0 } else { 4.0 }
    }

    /// Width and height that show it well.
    pub(crate) fn wanted(&self) -> (f32, f32) {
        let (columns, (width, height), gap) = (self.across(), self.place(), self.gap());
        let rows = self.tiles.len().div_ceil(columns).max(1);
        let head = [(&self.title, 21.0), (&self.subtitle, 16.8)]
            .iter()
            .filter(|(t, _)| !t.is_empty())
            .map(|(_, h)| h)
            .sum::<f32>();
        let title =
            text::width(&self.title, 15.0, Weight::Medium).max(text::width(&self.subtitle, LABEL, Weight::Regular));
        let grid = columns as f32 * (width + gap) - gap;
        (grid.max(title.min(600.0)) + 2.0 * EDGE, rows as f32 * (height + gap) - gap + head + 8.0 + 2.0 * EDGE)
    }

    /// Draws into `area` of a sheet.
    pub(crate) fn draw(&self, canvas: &mut Canvas, area: Rect) {
        let top = heading(canvas, area, &self.title, &self.subtitle) + 8.0;
        let (columns, (width, height), gap) = (self.across(), self.place(), self.gap());
        for (i, tile) in self.tiles.iter().enumerate() {
            let x = area.x + EDGE + (i % columns) as f32 * (width + gap);
            let y = area.y + top + (i / columns) as f32 * (height + gap);
            let (w, h) = self.shown(&tile.picture);
            let frame = Rect::new(x + ((width - w) / 2.0).round(), y, w, h);
            canvas.picture(frame, &tile.picture);
            canvas.outline(Rect::new(frame.x - 0.5, frame.y - 0.5, w + 1.0, h + 1.0), 0.5, Colour::LINE);
            let caption = text::fitted(&tile.caption, SMALL, Weight::Regular, width + gap - 4.0);
            let below = (x + width / 2.0, y + h + SMALL + 4.0);
            canvas.text(below, Align::Middle, &caption, SMALL, Weight::Regular, tile.colour);
        }
    }

    /// The sheet as the bytes of a PNG file, as large as it needs.
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
