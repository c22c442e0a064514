//! Numbers as people read them: durations, rates, counts, bytes, percentages; and the process's peak memory.

use std::time::Duration;

/// A duration in at most two units: `850 ms`, `2.4 s`, `48 s`, `1 min 05 s`, `2 h 03 min`, `3 d 04 h`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 0.9995 {
        return format!("{:.0} ms", seconds * 1e3);
    }
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3_600 => format!("{} min {:02} s", whole / 60, whole % 60),
        3_600..86_400 => format!("{} h {:02} min", whole / 3_600, whole % 3_600 / 60),
        _ => format!("{} d {:02} h", whole / 86_400, whole % 86_400 / 3_600),
    }
}

/// Three significant digits with k, M, G, T: `7`, `850`, `23.1k`, `1.25M`; small rates keep digits: `0.42`.
pub fn count(value: f64) -> String {
    if !value.is_finite() {
        return "–".into();
    }
    let magnitude = value.abs();
    // The bounds are where rounding to three digits carries into the next suffix.
    for (suffix, scale) in [("", 1.0), ("k", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12)] {
        let scaled = magnitude / scale;
        if scaled < 999.5 || suffix == "T" {
            let sign = if value < 0.0 { "-" } else { "" };
            let whole = suffix.is_empty() && scaled.fract() == 0.0;
            let decimals = if whole || scaled >= 99.95 { 0 } else { 1 + usize::from(scaled < 9.995) };
            return format!("{sign}{scaled:.decimals$}{suffix}");
        }
    }
    unreachable!("the last suffix takes everything")
}

/// A rate: `23.1k/s`.
pub fn rate(per_second: f64) -> String {
    format!("{}/s", count(per_second))
}

/// A whole number with commas between thousands: `61,706`.
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes in powers of 1024 with the names people use for them: `512 B`, `9.8 MB`, `1.20 GB`.
pub fn bytes(value: u64) -> String {
    const NAMES: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if value < 1024 {
        return format!("{value} B");
    }
    let mut scaled = value as f64 / 1024.0;
    let mut name = 0;
    while scaled >= 1023.5 && name + 1 < NAMES.len() {
        scaled /= 1024.0;
        name += 1;
    }
    let decimals = if scaled >= 99.95 { 0 } else { 1 + usize::from(scaled < 9.995 && name >= 2) };
    format!("{scaled:.decimals$} {}", NAMES[name])
}

/// A fraction as a percentage with one decimal: `97.2 %`.
pub fn percent(fraction: f64) -> String {
    format!("{:.1} %", fraction * 100.0)
}

/// A measured number with three significant digits or more: `0.0712`, `1.23`, `481`, `3.1e-7`, `NaN`. Whole numbers, which
/// are counted and not measured, keep every digit: `5,353,299`.
pub fn number(value: f64) -> String {
    let magnitude = value.abs();
    match magnitude {
        _ if value.is_nan() => "NaN".into(),
        _ if value.is_infinite() => if value > 0.0 { "∞" } else { "-∞" }.into(),
        0.0 => "0".into(),
        _ if value.fract() == 0.0 && magnitude < 1e15 => {
            format!("{}{}", if value < 0.0 { "-" } else { "" }, grouped(magnitude as u64))
        }
        ..1e-4 => format!("{value:.1e}"),
        ..1.0 => format!("{value:.4}"),
        ..100.0 => format!("{value:.3}"),
        ..1e4 => format!("{value:.1}"),
        ..1e6 => format!("{value:.0}"),
        _ => format!("{value:.2e}"),
    }
}

/// How a figure is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Style {
    /// As [`number`].
    Number,
    /// A fraction, as [`percent`].
    Percent,
    /// A whole number, as [`grouped`].
    Count,
    /// Seconds, as [`duration`].
    Seconds,
    /// As [`bytes`].
    Bytes,
}

impl Style {
    /// Writes `value` in this style.
    pub fn text(self, value: f64) -> String {
        let usable = value.is_finite() && value >= 0.0;
        match self {
            Style::Percent if value.is_finite() => percent(value),
            Style::Count if usable => grouped(value.round() as u64),
            Style::Seconds if usable => duration(Duration::try_from_secs_f64(value).unwrap_or(Duration::MAX)),
            Style::Bytes if usable => bytes(value as u64),
            _ => number(value),
        }
    }
}

/// A named number with the way to write it: `loss 0.0712`, `accuracy 97.8 %`.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Figure {
    /// What it measures.
    pub name: String,
    /// The number; a fraction when the style is [`Style::Percent`].
    #[serde(with = "crate::run::numbers")]
    pub value: f64,
    /// How to write it.
    pub style: Style,
}

/// A number in the ordinary style.
impl<S: Into<String>> From<(S, f64)> for Figure {
    fn from((name, value): (S, f64)) -> Figure {
        Figure::new(name, value)
    }
}

impl Figure {
    /// A plain number.
    pub fn new(name: impl Into<String>, value: f64) -> Self {
        Self { name: name.into(), value, style: Style::Number }
    }

    /// A fraction written as a percentage.
    pub fn percent(name: impl Into<String>, fraction: f64) -> Self {
        Self { style: Style::Percent, ..Self::new(name, fraction) }
    }

    /// The number in another style.
    #[must_use]
    pub fn style(mut self, style: Style) -> Self {
        self.style = style;
        self
    }

    /// The number alone, written in its style.
    pub fn text(&self) -> String {
        self.style.text(self.value)
    }
}

/// The most memory this process has had resident, in bytes; `None` where the system does not say (Linux does).
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status_field(&status, "VmHWM:")
}

/// The memory this process has resident now, in bytes; `None` where the system does not say.
pub fn resident_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status_field(&status, "VmRSS:")
}

fn status_field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let cases = [
            (0.0, "0 ms"),
            (0.85, "850 ms"),
            (0.9996, "1.0 s"),
            (2.44, "2.4 s"),
            (9.96, "10 s"),
            (59.6, "1 min 00 s"),
            (65.0, "1 min 05 s"),
            (7_380.0, "2 h 03 min"),
            (273_600.0, "3 d 04 h"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(Duration::from_secs_f64(seconds)), text);
        }
    }

    #[test]
    fn counts_and_bytes() {
        let cases = [
            (0.0, "0"),
            (7.0, "7"),
            (0.42, "0.42"),
            (999.0, "999"),
            (999.6, "1.00k"),
            (23_100.0, "23.1k"),
            (99_960.0, "100k"),
            (1_250_000.0, "1.25M"),
            (-2_500.0, "-2.50k"),
            (f64::NAN, "–"),
        ];
        for (value, text) in cases {
            assert_eq!(count(value), text);
        }
        let cases =
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 kB"), (10_276_045, "9.8 MB"), (1_288_490_189, "1.20 GB")];
        for (value, text) in cases {
            assert_eq!(bytes(value), text);
        }
        assert_eq!(bytes(u64::MAX), "16.0 EB");
        assert_eq!(
            (grouped(5), grouped(61_706), grouped(1_000_000)),
            ("5".into(), "61,706".into(), "1,000,000".into())
        );
    }

    #[test]
    fn figures() {
        assert_eq!(Figure::new("loss", 0.07123).text(), "0.0712");
        assert_eq!(Figure::percent("accuracy", 0.978).text(), "97.8 %");
        assert_eq!(Figure::percent("accuracy", f64::NAN).text(), "NaN");
        assert_eq!(Style::Seconds.text(1e300), duration(Duration::MAX));
        assert_eq!(Style::Count.text(-1.0), "-1");
        for (value, text) in
            [(3.1e-7, "3.1e-7"), (1.2345, "1.234"), (481.26, "481.3"), (2.5e7, "25,000,000"), (-2.5e7 - 0.5, "-2.50e7")]
        {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn memory_is_read_and_bad_text_is_none() {
        assert_eq!(status_field("Name:\tx\nVmHWM:\t  2048 kB\n", "VmHWM:"), Some(2_097_152));
        assert_eq!(status_field("VmHWM: many kB", "VmHWM:"), None);
        assert_eq!(status_field("VmHWM: 18446744073709551615 kB", "VmHWM:"), None);
        if cfg!(target_os = "linux") {
            assert!(peak_memory().unwrap() >= resident_memory().unwrap() / 2);
        }
    }
}
