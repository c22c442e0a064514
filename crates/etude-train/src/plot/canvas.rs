//! A sheet of RGB pixels with anti-aliased shapes. Places and sizes are in units; `scale` pixels make one.

use super::colour::Colour;
use super::picture::Picture;
use super::text::{self, Mask, Weight};
use crate::error::Result;

/// Pixels to the unit of every picture written: sharp on dense screens, and twice the size elsewhere.
pub(crate) const SCALE: f32 = 2.0;

/// Where a text stands relative to its point, across.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// The text begins at the point.
    Start,
    /// The point is its middle.
    Middle,
    /// The text ends at the point.
    End,
}

/// A rectangle in units.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rect {
    /// Left edge.
    pub x: f32,
    /// Upper edge.
    pub y: f32,
    /// Width.
    pub w: f32,
    /// Height.
    pub h: f32,
}

impl Rect {
    /// From its left upper corner and its size.
    pub const fn new(x: f32, y: f32, w: f32, h: f32) -> Self {
        Self { x, y, w, h }
    }

    /// Right edge.
    pub fn right(&self) -> f32 {
        self.x + self.w
    }

    /// Lower edge.
    pub fn bottom(&self) -> f32 {
        self.y + self.h
    }

    pub(crate) fn contains(&self, (x, y): (f32, f32)) -> bool {
        x >= self.x && x <= self.right() && y >= self.y && y <= self.bottom()
    }
}

/// A place in units, from the left upper corner.
pub type Place = (f32, f32);

/// The sheet.
#[derive(Clone, Debug)]
pub struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
    /// Shapes outside it, in pixels, are cut off: left, top, right, bottom.
    clip: [f32; 4],
}

impl Canvas {
    /// A white sheet of `width` by `height` units (at most 8,192 each).
    pub fn new(width: f32, height: f32) -> Self {
        let pixels = |units: f32| (units.clamp(1.0, 8192.0) * SCALE).ceil() as usize;
        let (width, height) = (pixels(width), pixels(height));
        Self { width, height, pixels: vec![255; width * height * 3], clip: [0.0, 0.0, width as f32, height as f32] }
    }

    /// Shapes drawn by `draw` are cut off at the edges of `area`.
    pub fn clipped(&mut self, area: Rect, draw: impl FnOnce(&mut Canvas)) {
        let before = self.clip;
        let inside = [area.x, area.y, area.right(), area.bottom()].map(|edge| (edge * SCALE).round());
        self.clip =
            [inside[0].max(before[0]), inside[1].max(before[1]), inside[2].min(before[2]), inside[3].min(before[3])];
        draw(self);
        self.clip = before;
    }

    fn blend(&mut self, x: usize, y: usize, colour: Colour, cover: f32) {
        let at = (y * self.width + x) * 3;
        for (pixel, ink) in self.pixels[at..at + 3].iter_mut().zip([colour.0, colour.1, colour.2]) {
            *pixel = (f32::from(*pixel) + (f32::from(ink) - f32::from(*pixel)) * cover).round() as u8;
        }
    }

    /// Whole pixels that the box between the given edges, in pixels, touches inside the clip.
    fn touched(&self, x0: f32, y0: f32, x1: f32, y1: f32) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
        let [left, top, right, bottom] = self.clip;
        let range =
            |a: f32, b: f32, low: f32, high: f32| a.floor().max(low) as usize..b.ceil().min(high).max(0.0) as usize;
        (range(x0, x1, left, right), range(y0, y1, top, bottom))
    }

    /// Fills a rectangle.
    pub fn fill(&mut self, area: Rect, colour: Colour, opacity: f32) {
        let [x0, y0, x1, y1] = [area.x, area.y, area.right(), area.bottom()].map(|edge| edge * SCALE);
        let (columns, rows) = self.touched(x0, y0, x1, y1);
        for y in rows {
            let high = (y1.min(y as f32 + 1.0) - y0.max(y as f32)).max(0.0);
            for x in columns.clone() {
                let wide = (x1.min(x as f32 + 1.0) - x0.max(x as f32)).max(0.0);
                self.blend(x, y, colour, high * wide * opacity);
            }
        }
    }

    /// Outlines a rectangle, the line inside it.
    pub fn outline(&mut self, area: Rect, thickness: f32, colour: Colour) {
        let t = thickness;
        self.fill(Rect::new(area.x, area.y, area.w, t), colour, 1.0);
        self.fill(Rect::new(area.x, area.bottom() - t, area.w, t), colour, 1.0);
        self.fill(Rect::new(area.x, area.y + t, t, area.h - 2.0 * t), colour, 1.0);
        self.fill(Rect::new(area.right() - t, area.y + t, t, area.h - 2.0 * t), colour, 1.0);
    }

    /// A horizontal or vertical line one unit thick that falls on whole pixels.
    pub fn rule(&mut self, from: Place, to: Place, colour: Colour) {
        let snap = |v: f32| (v * SCALE).round() / SCALE;
        let (x, y) = (snap(from.0), snap(from.1));
        self.fill(Rect::new(x, y, (to.0 - from.0).max(1.0), (to.1 - from.1).max(1.0)), colour, 1.0);
    }

    /// Draws a line through `places` with round joins; a place that is not a number interrupts it. `dash` gives the
    /// lengths of strokes and gaps.
    pub fn line(&mut self, places: &[Place], thickness: f32, colour: Colour, opacity: f32, dash: Option<(f32, f32)>) {
        let radius = thickness * SCALE / 2.0;
        let [left, top, right, bottom] = self.clip;
        let (columns, rows) = self.touched(left, top, right, bottom);
        let (width, height) = (columns.len(), rows.len());
        // One mask for the whole line, so that joins and crossings are not drawn twice.
        let mut mask = Mask::new(width, height);
        let room = radius + 1.0;
        let mut walked = 0.0;
        for pair in places.windows(2) {
            let [a, b] = [pair[0], pair[1]].map(|(x, y)| (x * SCALE - left, y * SCALE - top));
            let Some((a, b)) = cut(a, b, [-room, -room, width as f32 + room, height as f32 + room]) else { continue };
            match dash {
                None => stroke(&mut mask, a, b, radius),
                Some((on, off)) => {
                    let (length, period) = ((b.0 - a.0).hypot(b.1 - a.1), (on + off).max(0.5) * SCALE);
                    let at = |d: f32| (a.0 + (b.0 - a.0) * d / length, a.1 + (b.1 - a.1) * d / length);
                    let mut from = -(walked % period);
                    while from < length && length > 0.0 {
                        let to = from + on * SCALE;
                        if to > 0.0 {
                            stroke(&mut mask, at(from.max(0.0)), at(to.min(length)), radius);
                        }
                        from += period;
                    }
                    walked += length;
                }
            }
        }
        self.paint(&mask, columns.start as i32, rows.start as i32, colour, opacity);
    }

    /// A filled circle.
    pub fn disc(&mut self, (x, y): Place, radius: f32, colour: Colour, opacity: f32) {
        let (cx, cy, r) = (x * SCALE, y * SCALE, radius * SCALE);
        if !(cx.is_finite() && cy.is_finite()) {
            return;
        }
        let (columns, rows) = self.touched(cx - r - 1.0, cy - r - 1.0, cx + r + 1.0, cy + r + 1.0);
        for y in rows {
            for x in columns.clone() {
                let distance = (x as f32 + 0.5 - cx).hypot(y as f32 + 0.5 - cy);
                self.blend(x, y, colour, (r + 0.5 - distance).clamp(0.0, 1.0) * opacity);
            }
        }
    }

    /// Fills the region between two lines over the same places across: (x, lower y, upper y).
    pub fn band(&mut self, edges: &[(f32, f32, f32)], colour: Colour, opacity: f32) {
        let [left, top, right, bottom] = self.clip;
        let (columns, rows) = self.touched(left, top, right, bottom);
        // One mask for the whole band: a column shared by two pieces must not be painted twice.
        let mut mask = Mask::new(columns.len(), rows.len());
        for pair in edges.windows(2) {
            let [(xa, la, ua), (xb, lb, ub)] = [pair[0], pair[1]].map(|(x, l, u)| (x * SCALE, l * SCALE, u * SCALE));
            if ![xa, la, ua, xb, lb, ub].iter().all(|v| v.is_finite()) || xb <= xa {
                continue;
            }
            let (own_columns, own_rows) = self.touched(xa, ua.min(ub).min(la).min(lb), xb, la.max(lb).max(ua).max(ub));
            for x in own_columns {
                let wide = (xb.min(x as f32 + 1.0) - xa.max(x as f32)).max(0.0);
                let t = ((x as f32 + 0.5).clamp(xa, xb) - xa) / (xb - xa);
                let (one, two) = (la + (lb - la) * t, ua + (ub - ua) * t);
                let (upper, lower) = (one.min(two), one.max(two));
                for y in own_rows.clone() {
                    let high = (lower.min(y as f32 + 1.0) - upper.max(y as f32)).max(0.0);
                    mask.cover[(y - rows.start) * mask.width + x - columns.start] += wide * high;
                }
            }
        }
        self.paint(&mask, columns.start as i32, rows.start as i32, colour, opacity);
    }

    /// Writes a line of text, its baseline at the point's height.
    pub fn text(&mut self, (x, y): Place, align: Align, text: &str, size: f32, weight: Weight, colour: Colour) {
        let (mask, baseline) = text::draw(text, size * SCALE, weight);
        let left = x * SCALE - share(align) * (mask.width as f32 - 2.0) - 1.0;
        self.paint(&mask, left.round() as i32, (y * SCALE - baseline).round() as i32, colour, 1.0);
    }

    /// Writes a line of text upwards, its baseline at the point's `x`; `align` is along the text.
    pub fn text_up(&mut self, (x, y): Place, align: Align, text: &str, size: f32, weight: Weight, colour: Colour) {
        let (mask, baseline) = text::draw(text, size * SCALE, weight);
        let turned = mask.upwards();
        let top = y * SCALE - (1.0 - share(align)) * turned.height as f32;
        self.paint(&turned, (x * SCALE - baseline).round() as i32, top.round() as i32, colour, 1.0);
    }

    /// Draws a picture into `area`, each of its pixels as an even block.
    pub fn picture(&mut self, area: Rect, picture: &Picture) {
        let [x0, y0, x1, y1] = [area.x, area.y, area.right(), area.bottom()].map(|edge| (edge * SCALE).round());
        if picture.width() == 0 || picture.height() == 0 {
            return;
        }
        let (columns, rows) = self.touched(x0, y0, x1, y1);
        let source = |place: usize, from: f32, to: f32, size: usize| {
            (((place as f32 + 0.5 - from) / (to - from) * size as f32) as usize).min(size - 1)
        };
        for y in rows {
            for x in columns.clone() {
                let colour = picture.at(source(x, x0, x1, picture.width()), source(y, y0, y1, picture.height()));
                self.blend(x, y, colour, 1.0);
            }
        }
    }

    fn paint(&mut self, mask: &Mask, left: i32, top: i32, colour: Colour, opacity: f32) {
        let [x0, y0, x1, y1] = self.clip.map(|edge| edge as i32);
        for row in 0..mask.height {
            let y = top.saturating_add(row as i32);
            if y < y0 || y >= y1 {
                continue;
            }
            for column in 0..mask.width {
                let (x, cover) = (left.saturating_add(column as i32), mask.cover[row * mask.width + column]);
                if cover > 0.0 && x >= x0 && x < x1 {
                    self.blend(x as usize, y as usize, colour, cover * opacity);
                }
            }
        }
    }

    /// The sheet as a picture.
    pub fn into_picture(self) -> Picture {
        Picture::from_rgb(self.width, self.height, self.pixels)
    }

    /// The sheet as the bytes of a PNG file.
    pub fn into_png(self) -> Result<Vec<u8>> {
        self.into_picture().to_png()
    }
}

/// The share of a text's length that lies before its point.
fn share(align: Align) -> f32 {
    match align {
        Align::Start => 0.0,
        Align::Middle => 0.5,
        Align::End => 1.0,
    }
}

/// Cuts a segment to a box (Liang and Barsky, 1984); `None` when nothing of it is inside or it is no segment.
fn cut(a: Place, b: Place, [left, top, right, bottom]: [f32; 4]) -> Option<(Place, Place)> {
    // In f64: an end far outside must not make the cut place wander.
    let [ax, ay, bx, by] = [a.0, a.1, b.0, b.1].map(f64::from);
    let (dx, dy) = (bx - ax, by - ay);
    if !(dx.is_finite() && dy.is_finite()) {
        return None;
    }
    let (mut from, mut to) = (0.0f64, 1.0f64);
    let sides = [(-dx, ax - left as f64), (dx, right as f64 - ax), (-dy, ay - top as f64), (dy, bottom as f64 - ay)];
    for (towards, room) in sides {
        if towards == 0.0 {
            if room < 0.0 {
                return None;
            }
        } else if towards < 0.0 {
            from = from.max(room / towards);
        } else {
            to = to.min(room / towards);
        }
    }
    let at = |t: f64| ((ax + dx * t) as f32, (ay + dy * t) as f32);
    (from <= to).then(|| (at(from), at(to)))
}

/// Covers the pixels within `radius` of a segment, softly over one pixel at the edge.
fn stroke(mask: &mut Mask, a: Place, b: Place, radius: f32) {
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let squared = dx * dx + dy * dy;
    let reach = radius + 1.0;
    let rows = (a.1.min(b.1) - reach).floor().max(0.0) as usize
        ..((a.1.max(b.1) + reach).ceil().max(0.0) as usize).min(mask.height);
    for row in rows {
        let y = row as f32 + 0.5;
        // The stretch of the segment whose height is within reach of this row bounds the columns to look at.
        let (t0, t1) = if dy.abs() < 1e-6 {
            (0.0, 1.0)
        } else {
            let (t0, t1) = ((y - reach - a.1) / dy, (y + reach - a.1) / dy);
            (t0.min(t1).clamp(0.0, 1.0), t0.max(t1).clamp(0.0, 1.0))
        };
        let (x0, x1) = (a.0 + dx * t0, a.0 + dx * t1);
        let first = (x0.min(x1) - reach).floor().max(0.0) as usize;
        let last = ((x0.max(x1) + reach).ceil().max(0.0) as usize).min(mask.width);
        for column in first..last {
            let x = column as f32 + 0.5;
            let t = if squared > 0.0 { (((x - a.0) * dx + (y - a.1) * dy) / squared).clamp(0.0, 1.0) } else { 0.0 };
            let distance = (x - a.0 - dx * t).hypot(y - a.1 - dy * t);
            let cover = (radius + 0.5 - distance).clamp(0.0, 1.0);
            let cell = &mut mask.cover[row * mask.width + column];
            *cell = cell.max(cover);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ink(canvas: &Canvas) -> f32 {
        canvas.pixels.iter().map(|p| f32::from(255 - p) / 255.0).sum::<f32>() / 3.0 / (SCALE * SCALE)
    }

    const BLACK: Colour = Colour(0, 0, 0);

    #[test]
    fn shapes_cover_their_area() {
        let mut canvas = Canvas::new(50.0, 40.0);
        canvas.fill(Rect::new(3.3, 4.1, 10.5, 7.7), BLACK, 1.0);
        assert!((ink(&canvas) - 10.5 * 7.7).abs() < 0.5, "{}", ink(&canvas));
        let mut canvas = Canvas::new(50.0, 40.0);
        canvas.disc((20.2, 20.7), 9.0, BLACK, 1.0);
        assert!((ink(&canvas) - 81.0 * std::f32::consts::PI).abs() < 2.0, "{}", ink(&canvas));
        let mut canvas = Canvas::new(50.0, 40.0);
        canvas.line(&[(5.0, 5.0), (35.0, 25.0)], 2.0, BLACK, 1.0, None);
        let expected = 2.0 * 1300f32.sqrt() + std::f32::consts::PI;
        assert!((ink(&canvas) - expected).abs() < 1.5, "{} {expected}", ink(&canvas));
        let mut canvas = Canvas::new(50.0, 40.0);
        canvas.band(&[(5.0, 30.0, 10.0), (25.0, 30.0, 20.0)], BLACK, 1.0);
        assert!((ink(&canvas) - 300.0).abs() < 2.0, "{}", ink(&canvas));
    }

    #[test]
    fn nothing_leaves_the_clip_and_odd_places_do_no_harm() {
        let mut canvas = Canvas::new(30.0, 30.0);
        let area = Rect::new(10.0, 10.0, 10.0, 10.0);
        canvas.clipped(area, |c| {
            c.line(&[(-1e30, 15.0), (1e30, 15.0), (f32::NAN, 0.0), (15.0, f32::INFINITY)], 3.0, BLACK, 1.0, None);
            c.line(&[(0.0, 0.0), (1e9, 1e9)], 1.0, BLACK, 1.0, Some((4.0, 3.0)));
            c.disc((10.0, 10.0), 100.0, BLACK, 0.5);
            c.disc((f32::NAN, 10.0), 100.0, BLACK, 0.5);
            c.text((0.0, 18.0), Align::Start, "a long text over all", 14.0, Weight::Regular, BLACK);
            c.text_up((15.0, 1e9), Align::Middle, "far", 14.0, Weight::Regular, BLACK);
            c.fill(Rect::new(-5.0, -5.0, 100.0, 17.0), BLACK, 1.0);
        });
        let width = canvas.width;
        for (i, pixel) in canvas.pixels.chunks(3).enumerate() {
            let (x, y) = ((i % width) as f32 / SCALE, (i / width) as f32 / SCALE);
            let inside = (10.0..20.0).contains(&x) && (10.0..20.0).contains(&y);
            assert!(inside || pixel == [255; 3], "{x} {y}");
        }
        assert!(ink(&canvas) > 30.0);
    }

    #[test]
    fn dashes_leave_gaps() {
        let mut canvas = Canvas::new(120.0, 10.0);
        canvas.line(&[(5.0, 5.0), (60.0, 5.0), (115.0, 5.0)], 1.0, BLACK, 1.0, Some((6.0, 4.0)));
        let share = ink(&canvas) / 110.0;
        assert!((0.6..0.8).contains(&share), "{share}");
    }
}
