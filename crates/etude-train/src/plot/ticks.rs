//! Where an axis has its ticks and how they are written.

/// How an axis maps numbers to places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Equal steps, equal distances.
    Linear,
    /// Equal factors, equal distances; only positive numbers have a place.
    Log,
}

/// How tick labels are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TickStyle {
    /// As numbers.
    Number,
    /// Fractions as percentages.
    Percent,
}

/// One tick: where it is and what it says.
pub(crate) type Tick = (f64, String);

/// Ticks inside `[low, high]`, about `wanted` of them, at multiples of 1, 2 or 5 times a power of ten.
pub(crate) fn ticks(scale: Scale, style: TickStyle, low: f64, high: f64, wanted: usize) -> Vec<Tick> {
    let places = match scale {
        Scale::Log if low > 0.0 && high.is_finite() && high / low > 4.0 => log_places(low, high, wanted),
        _ => linear_places(low, high, wanted),
    };
    let factor = if style == TickStyle::Percent { 100.0 } else { 1.0 };
    let suffix = if style == TickStyle::Percent { " %" } else { "" };
    let written: Vec<f64> = places.iter().map(|place| place * factor).collect();
    let labels = if scale == Scale::Log { written.iter().map(|v| power(*v)).collect() } else { labels(&written) };
    places.into_iter().zip(labels.into_iter().map(|label| label + suffix)).collect()
}

/// The step among 1, 2, 5 times a power of ten that gives about `wanted` intervals.
fn nice_step(span: f64, wanted: usize) -> f64 {
    let rough = span / wanted.max(1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough * 0.8).unwrap_or(power)
}

fn linear_places(low: f64, high: f64, wanted: usize) -> Vec<f64> {
    let step = nice_step(high - low, wanted);
    if !(step.is_finite() && step > 0.0) {
        return vec![low];
    }
    let slack = step * 1e-6;
    let first = ((low - slack) / step).ceil();
    // Multiples are counted, not summed, so that zero is zero.
    let places = (0..=2 * wanted + 4).map(|i| (first + i as f64) * step).take_while(|place| *place <= high + slack);
    let mut places: Vec<f64> = places.collect();
    places.dedup();
    places
}

fn log_places(low: f64, high: f64, wanted: usize) -> Vec<f64> {
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let decades = (last - first).max(1) as usize;
    let within = |place: &f64| *place >= low * 0.999_999 && *place <= high * 1.000_001;
    let factors: &[f64] = if high / low < 100.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let stride = decades.div_ceil(wanted.max(1)).max(1);
    let all = (first..=last).step_by(stride).flat_map(|e| factors.iter().map(move |f| f * 10f64.powi(e)));
    all.filter(within).collect()
}

/// Labels with as many decimals as tell the ticks apart, and one unit (k, M, ×10ⁿ) for all of them.
fn labels(places: &[f64]) -> Vec<String> {
    let largest = places.iter().fold(0.0f64, |most, place| most.max(place.abs()));
    let step = places.windows(2).map(|pair| pair[1] - pair[0]).fold(f64::INFINITY, f64::min);
    let (unit, suffix) = match largest {
        0.0 => (1.0, String::new()),
        ..9.99e-4 => {
            let exponent = largest.log10().floor() as i32;
            (10f64.powi(exponent), format!("×10{}", superscript(exponent)))
        }
        ..1e4 => (1.0, String::new()),
        ..1e6 => (1e3, "k".into()),
        ..1e9 => (1e6, "M".into()),
        ..1e12 => (1e9, "G".into()),
        _ => {
            let exponent = largest.log10().floor() as i32;
            (10f64.powi(exponent), format!("×10{}", superscript(exponent)))
        }
    };
    let step = if step.is_finite() { step / unit } else { (largest / unit).max(1e-3) / 100.0 };
    let decimals = (0..9).find(|d| (step * 10f64.powi(*d) - (step * 10f64.powi(*d)).round()).abs() < 1e-4).unwrap_or(9);
    let write = |place: &f64| {
        if *place == 0.0 {
            return "0".into();
        }
        let text = format!("{:.*}{suffix}", decimals as usize, place / unit);
        text.replacen('-', "−", 1)
    };
    places.iter().map(write).collect()
}

/// A tick of a logarithmic axis: plain within four places of one, a power of ten outside.
fn power(value: f64) -> String {
    let exponent = value.log10().floor();
    if (-3.0..4.0).contains(&exponent) {
        let decimals = (-exponent).max(0.0) as usize;
        return format!("{value:.decimals$}");
    }
    let mantissa = (value / 10f64.powf(exponent)).round();
    let front = if mantissa == 1.0 { String::new() } else { format!("{mantissa}×") };
    format!("{front}10{}", superscript(exponent as i32))
}

fn superscript(number: i32) -> String {
    const RAISED: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let raise = |c: char| c.to_digit(10).map_or('⁻', |digit| RAISED[digit as usize]);
    number.to_string().chars().map(raise).collect()
}

/// The range to show for values from `low` to `high`: a little room on both sides, some width even for one value.
pub(crate) fn padded(scale: Scale, low: f64, high: f64, room: f64) -> (f64, f64) {
    if !(low.is_finite() && high.is_finite()) {
        return if scale == Scale::Log { (0.1, 10.0) } else { (0.0, 1.0) };
    }
    if scale == Scale::Log {
        let factor = (high / low).powf(room).max(1.05);
        return (low / factor, high * factor);
    }
    let span = high - low;
    // Neighbouring floats cannot be told apart on paper; show the number in the middle instead.
    let least = low.abs().max(high.abs()) * 1e-9;
    if span <= least {
        let half = if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
        return (low - half, high + half);
    }
    (low - span * room, high + span * room)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(scale: Scale, style: TickStyle, low: f64, high: f64, wanted: usize) -> Vec<String> {
        ticks(scale, style, low, high, wanted).into_iter().map(|tick| tick.1).collect()
    }

    #[test]
    fn sensible_labels() {
        use Scale::*;
        use TickStyle::*;
        assert_eq!(texts(Linear, Number, -0.03, 1.04, 5), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"].map(String::from));
        assert_eq!(texts(Linear, Number, 0.0, 800.0, 5), ["0", "200", "400", "600", "800"].map(String::from));
        assert_eq!(texts(Linear, Number, 0.0, 12_000.0, 4), ["0", "5k", "10k"].map(String::from));
        assert_eq!(texts(Linear, Number, -2.0, 2.0, 4), ["−2", "−1", "0", "1", "2"].map(String::from));
        assert_eq!(
            texts(Linear, Number, 0.0, 4e-4, 4),
            ["0", "1×10⁻⁴", "2×10⁻⁴", "3×10⁻⁴", "4×10⁻⁴"].map(String::from)
        );
        assert_eq!(
            texts(Linear, Percent, 0.9, 1.0, 5),
            ["90 %", "92 %", "94 %", "96 %", "98 %", "100 %"].map(String::from)
        );
        assert_eq!(texts(Log, Number, 1e-5, 1.0, 5), ["10⁻⁵", "10⁻⁴", "0.001", "0.01", "0.1", "1"].map(String::from));
        assert_eq!(texts(Log, Number, 0.03, 1.5, 5), ["0.05", "0.1", "0.2", "0.5", "1"].map(String::from));
    }

    #[test]
    fn ranges_of_any_kind_give_few_ticks() {
        let values = [0.0, 1e-300, 1.0, 1.0 + 1e-12, 5e7, 1e300, f64::NAN, f64::INFINITY];
        for &a in &values {
            for &b in &values {
                for scale in [Scale::Linear, Scale::Log] {
                    let (low, high) = padded(scale, a.min(b), a.max(b), 0.05);
                    let made = ticks(scale, TickStyle::Number, low, high, 5);
                    assert!(made.len() <= 15, "{a} {b}: {made:?}");
                    if scale == Scale::Linear {
                        assert!(low < high);
                    }
                }
            }
        }
    }
}
