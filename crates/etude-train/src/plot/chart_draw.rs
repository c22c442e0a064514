//! Drawing a chart: margins from what stands in them, then grid, series, axes.

use super::canvas::{Align, Canvas, Place, Rect};
use super::chart::{Axis, Chart, Kind, Series};
use super::colour::{self, Colour};
use super::picture::Picture;
use super::text::{self, Weight};
use super::ticks::{self, Scale, Tick};

/// Sizes of letters in units: title, subtitle and labels, ticks.
pub(crate) const TITLE: f32 = 15.0;
pub(crate) const LABEL: f32 = 12.0;
pub(crate) const SMALL: f32 = 11.0;
/// Room at the edges of a picture.
pub(crate) const EDGE: f32 = 14.0;

/// Where numbers lie on the sheet.
struct Frame {
    area: Rect,
    x: (f64, f64),
    y: (f64, f64),
    x_scale: Scale,
    y_scale: Scale,
}

impl Frame {
    fn place(&self, x: f64, y: f64) -> Place {
        let along_x = share(self.x_scale, self.x, x);
        let along_y = share(self.y_scale, self.y, y);
        let wide = self.area.x as f64 + along_x * self.area.w as f64;
        let high = self.area.bottom() as f64 - along_y * self.area.h as f64;
        (wide as f32, high as f32)
    }
}

/// The place of `value` in a range, 0 at its low end and 1 at its high end; NaN where it has none.
fn share(scale: Scale, (low, high): (f64, f64), value: f64) -> f64 {
    match scale {
        Scale::Linear => (value - low) / (high - low),
        Scale::Log => (value.ln() - low.ln()) / (high.ln() - low.ln()),
    }
}

/// Writes title and subtitle; returns the height they take.
pub(crate) fn heading(canvas: &mut Canvas, area: Rect, title: &str, subtitle: &str) -> f32 {
    let mut height = EDGE;
    let room = area.w - 2.0 * EDGE;
    for (line, size, weight, colour) in
        [(title, TITLE, Weight::Medium, Colour::INK), (subtitle, LABEL, Weight::Regular, Colour::GREY)]
    {
        if !line.is_empty() {
            let line = text::fitted(line, size, weight, room);
            canvas.text((area.x + EDGE, area.y + height + size * 0.9), Align::Start, &line, size, weight, colour);
            height += size * 1.4;
        }
    }
    height
}

impl Chart {
    /// Draws into `area` of a sheet.
    pub(crate) fn draw(&self, canvas: &mut Canvas, area: Rect) {
        let mut top = heading(canvas, area, &self.title, &self.subtitle);
        top += self.legend(canvas, Rect::new(area.x + EDGE, area.y + top, area.w - 2.0 * EDGE, 0.0));
        top += 8.0;
        let (x, y) = (self.range(&self.x, false), self.range(&self.y, true));

        // The height is known before the width: tick labels stand below, and their height is fixed.
        let upright = self.upright_names(area.w * 0.85);
        let names = self.categories.iter().map(|name| text::width(name, SMALL, Weight::Regular)).fold(0.0, f32::max);
        let below = if upright { names.min(110.0) + 10.0 } else { SMALL + 9.0 };
        let bottom = below + if self.x.label.is_empty() { 0.0 } else { LABEL + 8.0 } + EDGE - 4.0;
        let height = (area.h - top - bottom).max(20.0);
        let y_ticks = ticks::ticks(self.y.scale, self.y.style, y.0, y.1, (height / 48.0).max(2.0) as usize);
        let widest = y_ticks.iter().map(|t| text::width(&t.1, SMALL, Weight::Regular)).fold(0.0, f32::max);
        let left = EDGE + if self.y.label.is_empty() { 0.0 } else { LABEL + 8.0 } + widest + 8.0;
        let width = (area.w - left - EDGE - 8.0).max(20.0);
        let inner = Rect::new(area.x + left, area.y + top, width, height);
        let frame = self.frame(inner, x, y);
        // A range widened to equal units needs its ticks anew.
        let y_ticks = if frame.y == y {
            y_ticks
        } else {
            ticks::ticks(self.y.scale, self.y.style, frame.y.0, frame.y.1, (height / 48.0).max(2.0) as usize)
        };
        let x_ticks = self.x_ticks(&frame);

        self.tint(canvas, &frame);
        if self.regions.is_none() {
            for (value, _) in &y_ticks {
                let (_, at) = frame.place(frame.x.0, *value);
                canvas.rule((inner.x, at), (inner.right(), at), Colour::FAINT);
            }
        }
        self.guides(canvas, &frame);
        canvas.clipped(Rect::new(inner.x - 4.0, inner.y - 4.0, inner.w + 8.0, inner.h + 8.0), |canvas| {
            for series in &self.series {
                draw_series(canvas, &frame, series, self.regions.is_some());
            }
        });
        self.axes(canvas, area, &frame, &x_ticks, &y_ticks, upright);
    }

    /// The range of an axis: what was asked for, or what the series need.
    fn range(&self, axis: &Axis, vertical: bool) -> (f64, f64) {
        if let Some((low, high)) = axis.range.filter(|(low, high)| low < high && low.is_finite() && high.is_finite())
            && (axis.scale == Scale::Linear || low > 0.0)
        {
            return (low, high);
        }
        let usable = |v: &f64| v.is_finite() && (axis.scale == Scale::Linear || *v > 0.0);
        let (mut low, mut high, mut from_zero) = (f64::INFINITY, f64::NEG_INFINITY, false);
        let mut columns = 0.0f64;
        for series in &self.series {
            let empty: &[f64] = &[];
            let upper = if let Kind::Band { upper } = &series.kind { upper.as_slice() } else { empty };
            let values = if vertical { series.ys.iter().chain(upper) } else { series.xs.iter().chain(empty) };
            for value in values.filter(|v| usable(v)) {
                (low, high) = (low.min(*value), high.max(*value));
            }
            if let Kind::Columns { .. } = series.kind {
                from_zero = vertical && axis.scale == Scale::Linear;
                columns = columns.max(spacing(&series.xs));
            }
        }
        let guides = self.guides.iter().filter(|guide| guide.upright != vertical).map(|guide| guide.at);
        for at in guides.filter(|v| usable(v)) {
            (low, high) = (low.min(at), high.max(at));
        }
        if from_zero {
            let (low, high) = (low.min(0.0), high.max(0.0));
            let (padded_low, padded_high) = ticks::padded(axis.scale, low, high, 0.06);
            return (if low == 0.0 { 0.0 } else { padded_low }, if high == 0.0 { 0.0 } else { padded_high });
        }
        if columns > 0.0 && !vertical && low.is_finite() {
            return (low - columns * 0.6, high + columns * 0.6);
        }
        let lines = self.series.iter().all(|s| matches!(s.kind, Kind::Line { .. } | Kind::Band { .. }));
        let room = if lines && !vertical { 0.015 } else { 0.06 };
        let (padded_low, padded_high) = ticks::padded(axis.scale, low, high, room);
        // Numbers that are never negative get no room below zero, which would look as if they could be.
        let padded_low = if low >= 0.0 && vertical { padded_low.max(0.0) } else { padded_low };
        // Fractions end at 100 %, and so does what can be seen of them.
        let fractions = axis.style == ticks::TickStyle::Percent && high <= 1.0;
        if fractions { (padded_low, padded_high.min(1.01)) } else { (padded_low, padded_high) }
    }

    fn frame(&self, area: Rect, mut x: (f64, f64), mut y: (f64, f64)) -> Frame {
        if self.equal && self.x.scale == Scale::Linear && self.y.scale == Scale::Linear {
            let (per_x, per_y) = ((x.1 - x.0) / area.w as f64, (y.1 - y.0) / area.h as f64);
            let widen = |range: (f64, f64), factor: f64| {
                let (middle, half) = ((range.0 + range.1) / 2.0, (range.1 - range.0) / 2.0 * factor);
                (middle - half, middle + half)
            };
            if per_x < per_y { x = widen(x, per_y / per_x) } else { y = widen(y, per_x / per_y) }
        }
        Frame { area, x, y, x_scale: self.x.scale, y_scale: self.y.scale }
    }

    fn x_ticks(&self, frame: &Frame) -> Vec<Tick> {
        if !self.categories.is_empty() {
            return self.categories.iter().enumerate().map(|(i, name)| (i as f64, name.clone())).collect();
        }
        let mut wanted = (frame.area.w / 64.0).max(2.0) as usize;
        loop {
            let made = ticks::ticks(self.x.scale, self.x.style, frame.x.0, frame.x.1, wanted);
            let widest = made.iter().map(|t| text::width(&t.1, SMALL, Weight::Regular)).fold(0.0, f32::max);
            if wanted <= 1 || (widest + 12.0) * made.len() as f32 <= frame.area.w {
                // Counts of epochs and steps have no halves.
                let whole =
                    self.series.iter().all(|s| s.xs.iter().all(|x| x.fract() == 0.0)) && self.x.scale == Scale::Linear;
                return made.into_iter().filter(|(value, _)| !whole || value.fract() == 0.0).collect();
            }
            wanted -= 1;
        }
    }

    /// Whether category names have to stand upright to fit side by side.
    fn upright_names(&self, width: f32) -> bool {
        let each = width / self.categories.len().max(1) as f32 - 6.0;
        self.categories.iter().any(|name| text::width(name, SMALL, Weight::Regular) > each)
    }

    /// A row of names under the title, where it can hide nothing; returns its height.
    fn legend(&self, canvas: &mut Canvas, area: Rect) -> f32 {
        let named: Vec<&Series> = self.series.iter().filter(|s| !s.name.is_empty()).collect();
        if named.is_empty() {
            return 0.0;
        }
        let (mut x, mut y) = (area.x, area.y + 16.0);
        for series in named {
            let name = text::fitted(&series.name, LABEL, Weight::Regular, area.w - 24.0);
            let width = 24.0 + text::width(&name, LABEL, Weight::Regular);
            if x > area.x && x + width > area.right() {
                (x, y) = (area.x, y + 18.0);
            }
            let middle = y - 4.0;
            match &series.kind {
                Kind::Line { dashed, thickness } => {
                    let dash = dashed.then_some((5.0, 3.0));
                    canvas.line(&[(x + 1.0, middle), (x + 17.0, middle)], *thickness, series.colour, 1.0, dash);
                }
                Kind::Dots { .. } => canvas.disc((x + 9.0, middle), 4.0, series.colour, 1.0),
                _ => canvas.fill(Rect::new(x + 3.0, middle - 5.0, 12.0, 10.0), series.colour, series.opacity.max(0.35)),
            }
            canvas.text((x + 22.0, y), Align::Start, &name, LABEL, Weight::Regular, Colour::INK);
            x += width + 16.0;
        }
        y - area.y + 4.0
    }

    /// The tints of the decision regions, darker where two classes meet.
    fn tint(&self, canvas: &mut Canvas, frame: &Frame) {
        let Some(r) = self.regions.as_ref().filter(|r| r.columns > 0 && r.rows > 0) else { return };
        let of_class = |class: usize| self.series.get(class).map_or(colour::series(class), |series| series.colour);
        let class = |column: usize, row: usize| r.classes[row.min(r.rows - 1) * r.columns + column.min(r.columns - 1)];
        // Each cell becomes FINE² pixels, mixed from its four neighbours, so that borders are smooth and not stairs.
        const FINE: usize = 3;
        let mut pixels = Vec::with_capacity(r.columns * r.rows * FINE * FINE * 3);
        for row in (0..r.rows * FINE).rev() {
            for column in 0..r.columns * FINE {
                let split = |fine: usize| {
                    let place = ((fine as f32 + 0.5) / FINE as f32 - 0.5).max(0.0);
                    (place as usize, place.fract())
                };
                let ((cx, tx), (cy, ty)) = (split(column), split(row));
                let corners = [
                    (class(cx, cy), (1.0 - tx) * (1.0 - ty)),
                    (class(cx + 1, cy), tx * (1.0 - ty)),
                    (class(cx, cy + 1), (1.0 - tx) * ty),
                    (class(cx + 1, cy + 1), tx * ty),
                ];
                let share = |class: usize| corners.iter().filter(|c| c.0 == class).map(|c| c.1).sum::<f32>();
                let own = corners.iter().max_by(|a, b| share(a.0).total_cmp(&share(b.0))).map_or(0, |c| c.0);
                // One in the middle of a region, a half and less where two or more meet.
                let border = (2.0 - 2.0 * share(own)).clamp(0.0, 1.0);
                let tint = Colour::WHITE.mix(of_class(own), 0.16 + 0.34 * border * border);
                pixels.extend([tint.0, tint.1, tint.2]);
            }
        }
        let ((x0, y0), (x1, y1)) = (frame.place(r.x.0, r.y.1), frame.place(r.x.1, r.y.0));
        let picture = Picture::from_rgb(r.columns * FINE, r.rows * FINE, pixels);
        canvas.clipped(frame.area, |canvas| canvas.picture(Rect::new(x0, y0, x1 - x0, y1 - y0), &picture));
    }

    fn guides(&self, canvas: &mut Canvas, frame: &Frame) {
        let area = frame.area;
        let taken: Vec<Place> = self.series.iter().flat_map(|series| samples(frame, series)).collect();
        for guide in &self.guides {
            let (x, y) =
                if guide.upright { frame.place(guide.at, frame.y.0) } else { frame.place(frame.x.0, guide.at) };
            let ends = if guide.upright { [(x, area.y), (x, area.bottom())] } else { [(area.x, y), (area.right(), y)] };
            if !area.contains((x, y)) {
                continue;
            }
            canvas.line(&ends, 1.2, Colour::GREY, 0.9, Some((5.0, 4.0)));
            if guide.label.is_empty() {
                continue;
            }
            let (wide, high) = (text::width(&guide.label, SMALL, Weight::Regular), SMALL + 2.0);
            let corners = if guide.upright {
                [(x + 5.0, area.y + 1.0), (x - wide - 5.0, area.y + 1.0), (x + 5.0, area.bottom() - high - 3.0)]
            } else {
                [
                    (area.right() - wide - 4.0, y - high - 3.0),
                    (area.x + 6.0, y - high - 3.0),
                    (area.right() - wide - 4.0, y + 3.0),
                ]
            };
            let boxes = corners.map(|(x, y)| Rect::new(x, y, wide, high));
            let inside =
                |b: &Rect| b.x >= area.x && b.right() <= area.right() && b.y >= area.y && b.bottom() <= area.bottom();
            let hidden = |b: &&Rect| taken.iter().filter(|place| b.contains(**place)).count();
            let free = boxes.iter().filter(|b| inside(b)).min_by_key(hidden).unwrap_or(&boxes[0]);
            let place = (free.x, free.y + SMALL * 0.9);
            canvas.text(place, Align::Start, &guide.label, SMALL, Weight::Regular, Colour::GREY);
        }
    }

    fn axes(&self, canvas: &mut Canvas, whole: Rect, frame: &Frame, x_ticks: &[Tick], y_ticks: &[Tick], upright: bool) {
        let area = frame.area;
        let regular = Weight::Regular;
        if self.regions.is_some() {
            canvas.outline(area, 1.0, Colour::LINE);
        } else {
            canvas.rule((area.x, area.bottom()), (area.right(), area.bottom()), Colour::LINE);
        }
        let zero = frame.place(frame.x.0, 0.0).1;
        if frame.y.0 < 0.0 && frame.y.1 > 0.0 && self.y.scale == Scale::Linear && self.regions.is_none() {
            canvas.rule((area.x, zero), (area.right(), zero), Colour::LINE);
        }
        for (value, label) in y_ticks {
            let (_, at) = frame.place(frame.x.0, *value);
            canvas.text((area.x - 8.0, at + SMALL * 0.36), Align::End, label, SMALL, regular, Colour::GREY);
        }
        for (value, label) in x_ticks {
            let (at, _) = frame.place(*value, frame.y.0);
            if self.categories.is_empty() {
                canvas.rule((at, area.bottom()), (at, area.bottom() + 4.0), Colour::LINE);
            }
            if upright {
                let label = text::fitted(label, SMALL, regular, 110.0);
                let place = (at + SMALL * 0.36, area.bottom() + 6.0);
                canvas.text_up(place, Align::End, &label, SMALL, regular, Colour::GREY);
            } else {
                let place = (at, area.bottom() + SMALL + 7.0);
                canvas.text(place, Align::Middle, label, SMALL, regular, Colour::GREY);
            }
        }
        let middle = (area.x + area.w / 2.0, area.y + area.h / 2.0);
        if !self.x.label.is_empty() {
            let place = (middle.0, whole.bottom() - EDGE + 2.0);
            let label = text::fitted(&self.x.label, LABEL, regular, area.w);
            canvas.text(place, Align::Middle, &label, LABEL, regular, Colour::INK);
        }
        if !self.y.label.is_empty() {
            let place = (whole.x + EDGE + LABEL * 0.8, middle.1);
            let label = text::fitted(&self.y.label, LABEL, regular, area.h);
            canvas.text_up(place, Align::Middle, &label, LABEL, regular, Colour::INK);
        }
    }
}

fn draw_series(canvas: &mut Canvas, frame: &Frame, series: &Series, over_tint: bool) {
    let places: Vec<Place> = series.xs.iter().zip(&series.ys).map(|(x, y)| frame.place(*x, *y)).collect();
    match &series.kind {
        Kind::Line { dashed, thickness } => {
            let dash = dashed.then_some((6.0, 4.0));
            canvas.line(&thinned(&places), *thickness, series.colour, series.opacity, dash);
            // A lone point between gaps has no line to show it; few points deserve to be seen.
            if places.len() <= 30 && *thickness > 1.5 && !dashed {
                for place in places {
                    canvas.disc(place, 3.0, series.colour, series.opacity);
                }
            }
        }
        Kind::Dots { radius } => {
            for place in places {
                if over_tint {
                    canvas.disc(place, radius + 1.0, Colour::WHITE, 0.9);
                }
                canvas.disc(place, *radius, series.colour, series.opacity);
            }
        }
        Kind::Columns { width } => {
            let half = spacing(&series.xs) * width / 2.0;
            let low = if frame.y_scale == Scale::Log { frame.y.0 } else { 0.0 };
            for (x, y) in series.xs.iter().zip(&series.ys) {
                let ((x0, y0), (x1, y1)) = (frame.place(x - half, *y), frame.place(x + half, low));
                if y0.is_finite() && x0.is_finite() {
                    let column = Rect::new(x0, y0.min(y1), (x1 - x0).max(0.5), (y1 - y0).abs());
                    canvas.fill(column, series.colour, series.opacity);
                }
            }
        }
        Kind::Band { upper } => {
            let edges = places.iter().zip(series.xs.iter().zip(upper));
            let edges: Vec<_> = edges.map(|((px, lower), (x, up))| (*px, *lower, frame.place(*x, *up).1)).collect();
            canvas.band(&edges, series.colour, series.opacity);
        }
    }
}

/// Places along a series, close enough together that a label between them hides one.
fn samples(frame: &Frame, series: &Series) -> Vec<Place> {
    let places: Vec<Place> = series.xs.iter().zip(&series.ys).map(|(x, y)| frame.place(*x, *y)).collect();
    if !matches!(series.kind, Kind::Line { .. }) {
        return places;
    }
    let between = |pair: &[Place]| {
        let [a, b] = [pair[0], pair[1]];
        let steps = ((b.0 - a.0).abs().max((b.1 - a.1).abs()) / 4.0).clamp(1.0, 200.0) as usize;
        (0..=steps).map(move |i| {
            let t = i as f32 / steps as f32;
            (a.0 + (b.0 - a.0) * t, a.1 + (b.1 - a.1) * t)
        })
    };
    places.windows(2).flat_map(between).collect()
}

/// The least distance between neighbouring places; 1 when there is none.
fn spacing(xs: &[f64]) -> f64 {
    let least = xs.windows(2).map(|pair| (pair[1] - pair[0]).abs()).filter(|d| *d > 0.0).fold(f64::INFINITY, f64::min);
    if least.is_finite() { least } else { 1.0 }
}

/// The same line with at most four points a pixel column: the first, the lowest, the highest and the last of a run in
/// the same column look like all of them.
fn thinned(places: &[Place]) -> Vec<Place> {
    if places.len() < 4_000 {
        return places.to_vec();
    }
    let mut kept: Vec<Place> = Vec::new();
    for run in places.chunk_by(|a, b| (a.0 * 2.0).floor() == (b.0 * 2.0).floor()) {
        let finite = || (0..run.len()).filter(|i| run[*i].1.is_finite());
        let low = finite().min_by(|a, b| run[*a].1.total_cmp(&run[*b].1));
        let high = finite().max_by(|a, b| run[*a].1.total_cmp(&run[*b].1));
        let mut chosen = [Some(0), low, high, Some(run.len() - 1)];
        chosen.sort();
        let mut before = None;
        for i in chosen.into_iter().flatten() {
            if before != Some(i) {
                kept.push(run[i]);
            }
            before = Some(i);
        }
    }
    kept
}
