//! What a chart shows: series, axes, labels. Drawing it is `chart_draw`'s job.

use super::canvas::Canvas;
use super::colour::{self, Colour};
use super::ticks::{Scale, TickStyle};
use crate::error::Result;
use std::path::Path;

/// How a series is drawn.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// A line through the points.
    Line { dashed: bool, thickness: f32 },
    /// A dot at each point.
    Dots { radius: f32 },
    /// A column from zero to each value, `width` of the distance between places.
    Columns { width: f64 },
    /// The region between `ys` and these values.
    Band { upper: Vec<f64> },
}

#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// Shown in the legend unless empty.
    pub name: String,
    pub xs: Vec<f64>,
    pub ys: Vec<f64>,
    pub kind: Kind,
    pub colour: Colour,
    pub opacity: f32,
}

/// Which class each place of the plane belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Regions {
    pub x: (f64, f64),
    pub y: (f64, f64),
    pub columns: usize,
    pub rows: usize,
    pub classes: Vec<usize>,
}

/// A straight line across the whole chart.
#[derive(Clone, Debug)]
pub(crate) struct Guide {
    pub at: f64,
    pub upright: bool,
    pub label: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Axis {
    pub label: String,
    pub scale: Scale,
    pub style: TickStyle,
    pub range: Option<(f64, f64)>,
}

impl Axis {
    fn new() -> Self {
        Self { label: String::new(), scale: Scale::Linear, style: TickStyle::Number, range: None }
    }
}

/// A chart with two axes.
#[derive(Clone, Debug)]
pub struct Chart {
    pub(crate) title: String,
    pub(crate) subtitle: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) series: Vec<Series>,
    pub(crate) guides: Vec<Guide>,
    pub(crate) regions: Option<Regions>,
    pub(crate) categories: Vec<String>,
    pub(crate) equal: bool,
    pub(crate) size: (f32, f32),
    /// Colours given out so far.
    given: usize,
}

impl Chart {
    /// An empty chart of 640 by 400 units.
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            subtitle: String::new(),
            x: Axis::new(),
            y: Axis::new(),
            series: Vec::new(),
            guides: Vec::new(),
            regions: None,
            categories: Vec::new(),
            equal: false,
            size: (640.0, 400.0),
            given: 0,
        }
    }

    /// A histogram of `values` in `bins` bins of equal width.
    pub fn histogram(title: impl Into<String>, values: &[f64], bins: usize) -> Self {
        let finite: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
        let low = finite.iter().copied().fold(f64::INFINITY, f64::min);
        let high = finite.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let bins = bins.clamp(1, 10_000);
        let (low, high) = super::ticks::padded(Scale::Linear, low, high, 0.0);
        let width = (high - low) / bins as f64;
        let mut counts = vec![0.0; bins];
        for value in finite {
            counts[(((value - low) / width) as usize).min(bins - 1)] += 1.0;
        }
        let middles: Vec<f64> = (0..bins).map(|i| low + (i as f64 + 0.5) * width).collect();
        Self::new(title).labels("", "count").columns("", middles, counts, 0.94)
    }

    /// A bar chart: one column for each name.
    #[track_caller]
    pub fn bars(title: impl Into<String>, names: &[impl AsRef<str>], values: &[f64]) -> Self {
        assert!(names.len() == values.len(), "bars: {} names for {} values", names.len(), values.len());
        let places: Vec<f64> = (0..values.len()).map(|i| i as f64).collect();
        let mut chart = Self::new(title).columns("", places, values.to_vec(), 0.7);
        chart.categories = names.iter().map(|name| name.as_ref().to_string()).collect();
        chart
    }

    /// A second line under the title.
    #[must_use]
    pub fn subtitle(mut self, text: impl Into<String>) -> Self {
        self.subtitle = text.into();
        self
    }

    /// What the axes measure.
    #[must_use]
    pub fn labels(mut self, x: impl Into<String>, y: impl Into<String>) -> Self {
        self.x.label = x.into();
        self.y.label = y.into();
        self
    }

    /// Width and height in units of two pixels.
    #[must_use]
    pub fn size(mut self, width: f32, height: f32) -> Self {
        self.size = (width, height);
        self
    }

    /// How the axes map numbers to places.
    #[must_use]
    pub fn scales(mut self, x: Scale, y: Scale) -> Self {
        self.x.scale = x;
        self.y.scale = y;
        self
    }

    /// The vertical axis shows fractions as percentages.
    #[must_use]
    pub fn percent(mut self) -> Self {
        self.y.style = TickStyle::Percent;
        self
    }

    /// Shows exactly this range across.
    #[must_use]
    pub fn x_range(mut self, low: f64, high: f64) -> Self {
        self.x.range = Some((low, high));
        self
    }

    /// Shows exactly this range upwards.
    #[must_use]
    pub fn y_range(mut self, low: f64, high: f64) -> Self {
        self.y.range = Some((low, high));
        self
    }

    /// One unit is as long across as upwards.
    #[must_use]
    pub fn equal(mut self) -> Self {
        self.equal = true;
        self
    }

    /// Adds a line. With 30 points or fewer each is marked.
    #[must_use]
    #[track_caller]
    pub fn line(self, name: impl Into<String>, xs: impl Into<Vec<f64>>, ys: impl Into<Vec<f64>>) -> Self {
        self.add(name, xs, ys, Kind::Line { dashed: false, thickness: 2.0 }, 1.0)
    }

    /// Adds a noisy line: the numbers themselves faintly, their running average (see [`smoothed`]) over them.
    #[must_use]
    #[track_caller]
    pub fn noisy_line(
        mut self,
        name: impl Into<String>,
        xs: impl Into<Vec<f64>>,
        ys: impl Into<Vec<f64>>,
        keep: f64,
    ) -> Self {
        let (xs, ys) = (xs.into(), ys.into());
        let average = smoothed(&ys, keep);
        self = self.add("", xs.clone(), ys, Kind::Line { dashed: false, thickness: 1.0 }, 0.28);
        self.given -= 1;
        self.add(name, xs, average, Kind::Line { dashed: false, thickness: 2.0 }, 1.0)
    }

    /// Adds dots.
    #[must_use]
    #[track_caller]
    pub fn dots(self, name: impl Into<String>, xs: impl Into<Vec<f64>>, ys: impl Into<Vec<f64>>) -> Self {
        let (xs, ys) = (xs.into(), ys.into());
        let radius = if xs.len() > 2_000 { 1.6 } else { 3.0 };
        self.add(name, xs, ys, Kind::Dots { radius }, 0.9)
    }

    /// Adds dots in a colour for each class: `places` are `x, y` of one after another, `classes` the number of each one's
    /// name.
    #[must_use]
    pub fn classes(self, places: &[f64], classes: &[i64], names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        names.into_iter().zip(0..).fold(self, |chart, (name, class)| {
            let of = |axis: usize| -> Vec<f64> {
                let all = places.chunks_exact(2).zip(classes);
                all.filter(|(_, found)| **found == class).map(|(place, _)| place[axis]).collect()
            };
            chart.dots(name, of(0), of(1))
        })
    }

    /// Adds columns from zero, `width` (0 to 1) of the distance between their places wide.
    #[must_use]
    #[track_caller]
    pub fn columns(
        self,
        name: impl Into<String>,
        xs: impl Into<Vec<f64>>,
        ys: impl Into<Vec<f64>>,
        width: f64,
    ) -> Self {
        self.add(name, xs, ys, Kind::Columns { width }, 1.0)
    }

    /// Adds a band between two lines, such as a mean plus and minus a deviation.
    #[must_use]
    #[track_caller]
    pub fn band(
        self,
        name: impl Into<String>,
        xs: impl Into<Vec<f64>>,
        lower: impl Into<Vec<f64>>,
        upper: impl Into<Vec<f64>>,
    ) -> Self {
        let (lower, upper) = (lower.into(), upper.into());
        assert!(lower.len() == upper.len(), "band: {} lower for {} upper values", lower.len(), upper.len());
        self.add(name, xs, lower, Kind::Band { upper }, 0.22)
    }

    #[track_caller]
    fn add(
        mut self,
        name: impl Into<String>,
        xs: impl Into<Vec<f64>>,
        ys: impl Into<Vec<f64>>,
        kind: Kind,
        opacity: f32,
    ) -> Self {
        let (name, xs, ys) = (name.into(), xs.into(), ys.into());
        assert!(xs.len() == ys.len(), "chart, series `{name}`: {} places for {} values", xs.len(), ys.len());
        let colour = colour::series(self.given);
        self.given += 1;
        self.series.push(Series { name, xs, ys, kind, colour, opacity });
        self
    }

    /// The series added last gets this colour.
    #[must_use]
    pub fn colour(mut self, colour: Colour) -> Self {
        if let Some(series) = self.series.last_mut() {
            series.colour = colour;
        }
        self
    }

    /// The series added last is dashed, if it is a line.
    #[must_use]
    pub fn dashed(mut self) -> Self {
        if let Some(Series { kind: Kind::Line { dashed, .. }, .. }) = self.series.last_mut() {
            *dashed = true;
        }
        self
    }

    /// Adds a dashed level line across the chart.
    #[must_use]
    pub fn level(mut self, y: f64, label: impl Into<String>) -> Self {
        self.guides.push(Guide { at: y, upright: false, label: label.into() });
        self
    }

    /// Adds a dashed upright line, such as the epoch training stopped at.
    #[must_use]
    pub fn mark(mut self, x: f64, label: impl Into<String>) -> Self {
        self.guides.push(Guide { at: x, upright: true, label: label.into() });
        self
    }

    /// Tints the plane by class: `classes` holds `rows` rows of `columns` cells from the lower left, over the given
    /// ranges. Class `c` takes the colour of the series added `c`-th.
    #[must_use]
    #[track_caller]
    pub fn regions(mut self, x: (f64, f64), y: (f64, f64), columns: usize, rows: usize, classes: Vec<usize>) -> Self {
        assert!(classes.len() == columns * rows, "regions: {} cells for {columns}×{rows}", classes.len());
        self.x.range.get_or_insert(x);
        self.y.range.get_or_insert(y);
        self.regions = Some(Regions { x, y, columns, rows, classes });
        self
    }

    /// The chart as the bytes of a PNG file.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        let mut canvas = Canvas::new(self.size.0, self.size.1);
        self.draw(&mut canvas, super::Rect::new(0.0, 0.0, self.size.0, self.size.1));
        canvas.into_png()
    }

    /// Writes a PNG file, whole or not at all.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        crate::files::write_atomic(path, &self.to_png()?)
    }
}

/// Exponential moving average `aᵢ = keep · aᵢ₋₁ + (1 − keep) · yᵢ`, divided by `1 − keepⁱ` so that it starts at the
/// first number and not at zero. Numbers that are not finite are passed through and not averaged.
pub fn smoothed(values: &[f64], keep: f64) -> Vec<f64> {
    let (mut sum, mut weight) = (0.0, 0.0);
    let average = |value: &f64| {
        if !value.is_finite() {
            return *value;
        }
        sum = keep * sum + (1.0 - keep) * value;
        weight = keep * weight + (1.0 - keep);
        sum / weight
    };
    values.iter().map(average).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histogram_counts_everything_finite() {
        let chart = Chart::histogram("h", &[0.0, 0.1, 0.9, 1.0, f64::NAN, f64::INFINITY], 2);
        assert_eq!(chart.series[0].ys, [2.0, 2.0]);
        assert_eq!(chart.series[0].xs, [0.25, 0.75]);
        let empty = Chart::histogram("h", &[], 3);
        assert_eq!(empty.series[0].ys, [0.0; 3]);
        let one = Chart::histogram("h", &[5.0; 7], 3);
        assert_eq!(one.series[0].ys.iter().sum::<f64>(), 7.0);
    }

    #[test]
    fn averages() {
        assert_eq!(smoothed(&[1.0, 1.0, 1.0], 0.9), [1.0; 3]);
        let made = smoothed(&[0.0, f64::NAN, 1.0], 0.5);
        assert!(made[1].is_nan() && (made[2] - 0.5 / 0.75).abs() < 1e-15);
    }

    #[test]
    #[should_panic(expected = "series `train`: 2 places for 1 values")]
    fn lengths_must_agree() {
        let _ = Chart::new("c").line("train", [1.0, 2.0], [1.0]);
    }
}
