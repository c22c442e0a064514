//! The curves of a run as inline SVG: they follow the page's colours, light or dark, and scale with it.

use super::html::escaped;
use super::log::Record;
use crate::plot::ticks::{self, Scale, TickStyle};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Size of a chart and its margins in SVG units.
const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 240.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 42.0;
/// Points a curve keeps; more would not show.
const MOST: usize = 1_000;

/// One curve: steps and values.
pub(crate) type Curve = Vec<(f64, f64)>;

/// Charts by name, each with curves by name: `train/loss` and `valid/loss` share the chart `loss`.
pub(crate) fn charts(records: &[Record]) -> BTreeMap<String, BTreeMap<String, Curve>> {
    let mut charts: BTreeMap<String, BTreeMap<String, Curve>> = BTreeMap::new();
    for record in records {
        for (name, value) in record.values.iter().filter(|(_, value)| value.is_finite()) {
            let (curve, chart) = name.split_once('/').unwrap_or(("", name));
            let curve = charts.entry(chart.to_string()).or_default().entry(curve.to_string()).or_default();
            curve.push((record.step as f64, *value));
        }
    }
    charts
}

/// Averages neighbours until at most `MOST` points are left.
fn thinned(curve: &Curve) -> Curve {
    let group = curve.len().div_ceil(MOST).max(1);
    let mean = |points: &[(f64, f64)]| {
        let count = points.len() as f64;
        (points.iter().map(|p| p.0).sum::<f64>() / count, points.iter().map(|p| p.1).sum::<f64>() / count)
    };
    curve.chunks(group).map(mean).collect()
}

/// Width of a text of the page's size; an SVG cannot measure itself.
fn guessed_width(text: &str) -> f64 {
    text.chars().count() as f64 * 6.8
}

/// One chart as an `<svg>` element.
pub(crate) fn svg(name: &str, curves: &BTreeMap<String, Curve>) -> String {
    let curves: Vec<(&String, Curve)> = curves.iter().map(|(name, curve)| (name, thinned(curve))).collect();
    let points = || curves.iter().flat_map(|(_, curve)| curve.iter());
    let bounds = |pick: fn(&(f64, f64)) -> f64| {
        points().map(pick).fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
    };
    let ((x0, x1), (y0, y1)) = (bounds(|p| p.0), bounds(|p| p.1));
    let (x0, x1) = ticks::padded(Scale::Linear, x0, x1, 0.01);
    let never_negative = y0 >= 0.0;
    let (y0, y1) = ticks::padded(Scale::Linear, y0, y1, 0.06);
    let y0 = if never_negative { y0.max(0.0) } else { y0 };
    let y_ticks = ticks::ticks(Scale::Linear, TickStyle::Number, y0, y1, 4);
    let left = 14.0 + y_ticks.iter().map(|(_, label)| guessed_width(label)).fold(0.0, f64::max);
    let x = |value: f64| left + (value - x0) / (x1 - x0) * (WIDTH - left - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - (value - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM);

    let mut out = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">", escaped(name));
    let _ = write!(out, "<text class=\"name\" x=\"{left}\" y=\"18\">{}</text>", escaped(name));
    for (value, label) in y_ticks {
        let at = y(value);
        let _ = write!(
            out,
            "<path class=\"grid\" d=\"M{left} {at:.1}H{}\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            WIDTH - RIGHT,
            left - 8.0,
            at + 4.0
        );
    }
    for (value, label) in ticks::ticks(Scale::Linear, TickStyle::Number, x0, x1, 6) {
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
            x(value),
            HEIGHT - BOTTOM + 17.0
        );
    }
    let _ = write!(out, "<path class=\"axis\" d=\"M{left} {0}H{1}\"/>", HEIGHT - BOTTOM, WIDTH - RIGHT);
    let middle = (left + WIDTH - RIGHT) / 2.0;
    let _ = write!(out, "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">step</text>", HEIGHT - 6.0);
    let mut legend = WIDTH - RIGHT;
    for (i, (_, curve)) in curves.iter().enumerate() {
        let class = format!("c{}", i % 6);
        let mut path = String::new();
        for (k, (px, py)) in curve.iter().enumerate() {
            let _ = write!(path, "{}{:.1} {:.1}", if k == 0 { "M" } else { "L" }, x(*px), y(*py));
        }
        let _ = write!(out, "<path class=\"curve {class}\" d=\"{path}\"/>");
        if let [(px, py)] = curve[..] {
            let _ = write!(out, "<circle class=\"dot {class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"/>", x(px), y(py));
        }
    }
    // Right to left, so that the first curve's name stands first.
    for (i, (name, _)) in curves.iter().enumerate().rev().filter(|(_, (name, _))| !name.is_empty()) {
        legend -= guessed_width(name) + 28.0;
        let (stroke, word) = (legend, legend + 19.0);
        let name = escaped(name);
        let _ = write!(out, "<path class=\"curve c{}\" d=\"M{stroke:.1} 14h14\"/>", i % 6);
        let _ = write!(out, "<text x=\"{word:.1}\" y=\"18\">{name}</text>");
    }
    out + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_share_a_chart_and_long_curves_are_thinned() {
        let record = |step: u64| Record {
            step,
            epoch: 1,
            time: 0.0,
            values: vec![("train/loss".into(), 1.0), ("valid/loss".into(), f64::NAN), ("rate".into(), 0.1)],
        };
        let records: Vec<Record> = (1..=3_500).map(record).collect();
        let all = charts(&records);
        assert_eq!(all.keys().collect::<Vec<_>>(), ["loss", "rate"]);
        assert_eq!(all["loss"].keys().collect::<Vec<_>>(), ["train"], "a curve without a number is none");
        assert_eq!(thinned(&all["loss"]["train"]).len(), 875);
        let text = svg("loss <&>", &all["loss"]);
        assert!(text.contains("loss &lt;&amp;&gt;") && !text.contains("NaN"));
    }
}
