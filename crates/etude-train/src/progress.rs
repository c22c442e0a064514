//! Progress on one line: redrawn in place on a terminal, one plain line an epoch anywhere else.
//!
//! ```text
//! epoch  4/8  ━━━━━━━━━━━╸              57/110   23.4k/s   loss 0.0712  accuracy 97.8 %   2 s left
//! ```

use crate::units::{self, Figure};
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Cells of the bar where there is room for it.
const BAR: usize = 22;
/// The narrowest bar worth drawing.
const SHORTEST: usize = 8;
/// Time between two redraws.
const REDRAW: Duration = Duration::from_millis(80);

/// Where and how progress is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Display {
    /// Redraw in place; otherwise only finished lines are written, without bars and control characters.
    pub live: bool,
    /// Use colours.
    pub colour: bool,
    /// Columns there are; lines are kept shorter.
    pub width: usize,
}

impl Display {
    /// Plain lines, as for a log file.
    pub const PLAIN: Display = Display { live: false, colour: false, width: usize::MAX };

    /// What fits the standard error stream: live on a terminal that can move its cursor, colours unless `NO_COLOR` is
    /// set to something.
    pub fn detect() -> Self {
        let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        if !io::stderr().is_terminal() || dumb {
            return Self::PLAIN;
        }
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { live: true, colour: !plain, width: width() }
    }
}

/// Columns of the terminal: asked of it, then of `COLUMNS`, then 80.
fn width() -> usize {
    let asked = terminal_size::terminal_size_of(io::stderr()).map(|(width, _)| usize::from(width.0));
    let told = || std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    asked.filter(|&width| width > 0).or_else(told).unwrap_or(80)
}

/// Everything one line shows.
#[derive(Clone, Debug, Default)]
struct Line {
    label: String,
    done: u64,
    total: Option<u64>,
    items: u64,
    elapsed: Duration,
    figures: Vec<Figure>,
    tail: String,
    finished: bool,
}

/// A progress bar over steps.
///
/// Drawing is best effort: a closed terminal never stops a training.
pub struct Bar {
    line: Line,
    display: Display,
    out: Box<dyn Write + Send>,
    started: Instant,
    drawn: Option<Instant>,
    /// Steps and items done in an earlier sitting, which say nothing about the speed of this one.
    before: u64,
}

impl Bar {
    /// A bar on the standard error stream for `total` steps; `None` when nobody knows how many.
    pub fn new(label: impl Into<String>, total: Option<u64>) -> Self {
        Self::to(Box::new(io::stderr()), Display::detect(), label, total)
    }

    /// The bar of one epoch, counted from 1: `epoch  3/8`.
    pub fn epoch(epoch: u64, epochs: u64, steps: Option<u64>) -> Self {
        Self::new(epoch_label(epoch, epochs), steps)
    }

    /// A bar written elsewhere.
    pub fn to(out: Box<dyn Write + Send>, display: Display, label: impl Into<String>, total: Option<u64>) -> Self {
        let line = Line { label: label.into(), total, ..Line::default() };
        Self { line, display, out, started: Instant::now(), drawn: None, before: 0 }
    }

    /// Starts at `steps`, done in an earlier sitting.
    #[must_use]
    pub fn resume_at(mut self, steps: u64) -> Self {
        self.before = steps;
        self.line.done = steps;
        self
    }

    /// One step done that handled `items` examples.
    pub fn step(&mut self, items: u64) {
        self.advance(1, items);
    }

    /// Several steps done that handled `items` examples together.
    pub fn advance(&mut self, steps: u64, items: u64) {
        self.line.done += steps;
        self.line.items += items;
        self.draw_sometimes();
    }

    /// The numbers to show beside the bar.
    pub fn figures(&mut self, figures: impl IntoIterator<Item = Figure>) {
        self.line.figures = figures.into_iter().collect();
    }

    /// True when a redraw is due: time to read a loss that is kept lazily.
    pub fn due(&self) -> bool {
        self.display.live && self.drawn.is_none_or(|drawn| drawn.elapsed() >= REDRAW)
    }

    /// Prints a line above the bar.
    pub fn print(&mut self, text: &str) {
        let clear = if self.drawn.is_some() { "\r\x1b[K" } else { "" };
        let _ = writeln!(self.out, "{clear}{text}");
        if self.drawn.is_some() {
            self.draw();
        }
    }

    /// Ends the bar with its last line. `tail` follows the numbers, such as `valid 0.0934  97.4 %`.
    pub fn finish(mut self, tail: &str) {
        self.line.finished = true;
        self.line.tail = tail.to_string();
        self.line.elapsed = self.started.elapsed();
        let text = render(&self.line, self.before, self.display);
        let clear = if self.display.live { "\r\x1b[K" } else { "" };
        let _ = writeln!(self.out, "{clear}{text}");
        let _ = self.out.flush();
        self.drawn = None;
    }

    fn draw_sometimes(&mut self) {
        if self.due() {
            self.draw();
        }
    }

    fn draw(&mut self) {
        self.line.elapsed = self.started.elapsed();
        let text = render(&self.line, self.before, self.display);
        let _ = write!(self.out, "\r\x1b[K{text}");
        let _ = self.out.flush();
        self.drawn = Some(Instant::now());
    }
}

impl Drop for Bar {
    /// A bar given up in the middle, by an error or Ctrl-C, leaves its line and a clean one below it.
    fn drop(&mut self) {
        if self.drawn.is_some() {
            let _ = writeln!(self.out);
        }
    }
}

/// `epoch  3/8`, as wide for the first epoch as for the last.
pub fn epoch_label(epoch: u64, epochs: u64) -> String {
    let total = epochs.to_string();
    format!("epoch  {epoch:>width$}/{total}", width = total.len())
}

/// Figures of a validation beside those of training, without repeating their names: `valid 0.0934  97.4 %`.
pub fn valid_tail(figures: &[Figure]) -> String {
    let texts: Vec<String> = figures.iter().map(Figure::text).collect();
    format!("valid {}", texts.join("  "))
}

/// Draws the line, leaving out what does not fit: first the bar shrinks, then the rate goes, then the bar, then the end.
fn render(line: &Line, before: u64, display: Display) -> String {
    let room = display.width.saturating_sub(1);
    let seconds = line.elapsed.as_secs_f64();
    let here = line.done.saturating_sub(before);
    let counted = match line.total {
        Some(total) => format!("{:>width$}/{total}", line.done, width = total.to_string().len()),
        None => line.done.to_string(),
    };
    // Examples where they are counted, steps otherwise.
    let amount = if line.items > 0 { line.items } else { here };
    let rate = if amount > 0 && seconds > 0.0 { units::rate(amount as f64 / seconds) } else { String::new() };
    let figures: Vec<String> = line.figures.iter().map(|f| format!("{} {}", f.name, f.text())).collect();
    let figures = figures.join("  ");
    let tail = match line.total {
        _ if line.finished => line.tail.clone(),
        Some(total) if here > 0 && total > line.done => {
            let left = Duration::try_from_secs_f64(seconds / here as f64 * (total - line.done) as f64);
            format!(
                "{} left",
                units::duration(left.unwrap_or(Duration::MAX).max(Duration::from_secs(1))).replace(".0 s", " s")
            )
        }
        _ => String::new(),
    };

    let compose = |bar: usize, rate: &str| {
        let end = [rate, figures.as_str(), tail.as_str()].map(str::to_string);
        let mut parts = vec![format!("{counted}")];
        parts.extend(end.into_iter().filter(|part| !part.is_empty()));
        let bar_width = if bar > 0 { bar + 2 } else { 0 };
        let plain = parts.join("   ");
        (line.label.chars().count() + 2 + bar_width + plain.chars().count(), plain)
    };
    let bars = display.live && line.total.is_some();
    let attempts = (SHORTEST..=BAR).rev().filter(|_| bars).map(|bar| (bar, rate.as_str()));
    let attempts = attempts.chain([(if bars { SHORTEST } else { 0 }, ""), (0, rate.as_str()), (0, "")]);
    let order: Vec<(usize, &str)> = if bars { attempts.collect() } else { vec![(0, rate.as_str()), (0, "")] };
    for &(bar, rate) in &order {
        let (width, rest) = compose(bar, rate);
        if width <= room {
            let drawn = if bar > 0 { draw_bar(line, bar, display.colour) + "  " } else { String::new() };
            return format!("{}  {drawn}{rest}", line.label);
        }
    }
    let (_, rest) = compose(0, "");
    let full = format!("{}  {rest}", line.label);
    let cut: String = full.chars().take(room.saturating_sub(1)).collect();
    format!("{cut}…")
}

/// The bar itself, in half cells.
fn draw_bar(line: &Line, cells: usize, colour: bool) -> String {
    let total = line.total.unwrap_or(1).max(1);
    let halves = (line.done.min(total) as u128 * 2 * cells as u128 / total as u128) as usize;
    let mut done = "━".repeat(halves / 2);
    if halves % 2 == 1 {
        done.push('╸');
    }
    let left = cells - halves.div_ceil(2);
    if !colour {
        return done + &" ".repeat(left);
    }
    let paint = if halves == 2 * cells { "32" } else { "36" };
    format!("\x1b[{paint}m{done}\x1b[0m\x1b[90m{}\x1b[0m", "━".repeat(left))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    fn line() -> Line {
        Line {
            label: epoch_label(4, 8),
            done: 57,
            total: Some(110),
            items: 3_648,
            elapsed: Duration::from_millis(1_560),
            figures: vec![Figure::new("loss", 0.0712), Figure::percent("accuracy", 0.978)],
            ..Line::default()
        }
    }

    const LIVE: Display = Display { live: true, colour: false, width: 120 };

    #[test]
    fn a_line_in_the_middle_and_at_the_end() {
        let expected =
            "epoch  4/8  ━━━━━━━━━━━              57/110   2.34k/s   loss 0.0712  accuracy 97.8 %   1.5 s left";
        assert_eq!(render(&line(), 0, LIVE), expected);
        let mut odd = line();
        odd.done = 58;
        assert!(render(&odd, 0, LIVE).contains("  ━━━━━━━━━━━╸             58/110"));
        let mut last = line();
        last.done = 110;
        last.finished = true;
        last.tail = valid_tail(&[Figure::new("loss", 0.0934), Figure::percent("accuracy", 0.974)]);
        let text = render(&last, 0, LIVE);
        assert!(text.starts_with("epoch  4/8  ━━━━━━━━━━━━━━━━━━━━━━  110/110   2.34k/s   loss"), "{text}");
        assert!(text.ends_with("accuracy 97.8 %   valid 0.0934  97.4 %"), "{text}");
    }

    #[test]
    fn every_width_fits() {
        for width in 0..130 {
            let text = render(&line(), 0, Display { width, ..LIVE });
            assert!(text.chars().count() <= width.max(2), "{width}: {text}");
        }
        let narrow = render(&line(), 0, Display { width: 80, ..LIVE });
        assert!(narrow.contains("━") && narrow.contains("left") && !narrow.contains("2.34k/s"), "{narrow}");
        let narrower = render(&line(), 0, Display { width: 70, ..LIVE });
        assert!(!narrower.contains("━") && narrower.ends_with("left"), "{narrower}");
    }

    #[test]
    fn odd_amounts_do_no_harm() {
        for (done, total) in [(0, Some(0)), (5, Some(0)), (0, None), (7, None), (9, Some(3)), (1, Some(u64::MAX))] {
            let odd = Line { done, total, ..line() };
            assert!(!render(&odd, 0, LIVE).is_empty());
        }
        let resumed = Line { items: 0, ..line() };
        assert!(render(&resumed, 57, LIVE).contains("57/110   loss"), "no rate before the first step of this sitting");
    }

    /// Collects what a bar writes.
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(display: Display) -> String {
        let sink = Sink::default();
        let mut bar = Bar::to(Box::new(sink.clone()), display, epoch_label(1, 12), Some(3));
        for _ in 0..3 {
            bar.figures([Figure::new("loss", 0.5)]);
            bar.step(10);
        }
        bar.print("saved");
        bar.finish("");
        String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn logs_get_one_plain_line_an_epoch() {
        let text = written(Display::PLAIN);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(lines[0], "saved");
        assert!(lines[1].starts_with("epoch   1/12  3/3   ") && lines[1].ends_with("loss 0.5000"), "{text}");
        assert!(!text.contains(|c: char| c.is_control() && c != '\n') && !text.contains('━'));
    }

    #[test]
    fn terminals_are_redrawn() {
        let text = written(Display { live: true, colour: true, width: 100 });
        assert!(text.contains("\r\x1b[K") && text.contains("\x1b[32m━"), "{text:?}");
        assert!(text.ends_with("loss 0.5000\n"));
        assert!(!written(LIVE).contains("\x1b[3"), "no colours when not asked for");
    }
}
