//! A tune to look at and to listen to: a piano roll, and plucked strings.

use etude::Result;
use etude::data::abc::{Tune, WHOLE};
use etude::train::plot::{Align, Canvas, Colour, Rect, Weight, series};

/// Samples of sound a second.
pub const RATE: u32 = 22_050;
/// Seconds of a whole note: 120 crotchets a minute.
const SECONDS: f64 = 2.0;

/// The tune as plucked strings: each note is its first six harmonics, of which the higher die away sooner.
pub fn sound(tune: &Tune) -> Vec<f32> {
    let at = |time: i64| (time as f64 / WHOLE as f64 * SECONDS * f64::from(RATE)) as usize;
    let tail = RATE as usize;
    let mut samples = vec![0.0f32; at(tune.length()) + tail];
    for note in &tune.notes {
        let Some(pitch) = note.pitch else { continue };
        let frequency = 440.0 * 2f64.powf(f64::from(pitch - 69) / 12.0);
        let first = at(note.start);
        let length = (at(note.start + note.length) - first + tail / 6).min(samples.len() - first);
        for i in 0..length {
            let t = i as f64 / f64::from(RATE);
            let wave = |k: f64| (std::f64::consts::TAU * k * frequency * t).sin() * (-(1.5 + 1.2 * k) * t).exp() / k;
            // A rise of 4 ms and a fall of 20 ms keep the string from clicking.
            let ends = (t / 0.004).min(1.0) * ((length - i) as f64 / f64::from(RATE) / 0.02).min(1.0);
            samples[first + i] += (0.25 * ends * (1..=6).map(|k| wave(f64::from(k))).sum::<f64>()) as f32;
        }
    }
    samples
}

/// Time from left to right in rows of eight bars, pitch upwards; bar lines where the bars end, uneven bars shaded.
pub fn piano_roll(tune: &Tune) -> Result<Vec<u8>> {
    const BARS: usize = 8;
    let (wide, step, margin) = (860.0, 4.0, 24.0);
    let pitches = || tune.notes.iter().filter_map(|note| note.pitch);
    let (low, high) = (pitches().min().unwrap_or(60), pitches().max().unwrap_or(60));
    let tall = (high - low + 3) as f32 * step;
    let rows = tune.bars.len().div_ceil(BARS).max(1);
    let mut canvas = Canvas::new(wide + 2.0 * margin, 48.0 + rows as f32 * (tall + 14.0));
    canvas.text((margin, 28.0), Align::Start, &tune.title, 15.0, Weight::Medium, Colour::INK);
    let mut begin = 0;
    for (row, bars) in tune.bars.chunks(BARS).enumerate() {
        let top = 44.0 + row as f32 * (tall + 14.0);
        let length: i64 = bars.iter().map(|bar| bar.length).sum();
        // A short last row keeps the scale of the others.
        let full = length.max(tune.metre.bar() * BARS as i64);
        let x = |time: i64| margin + wide * (time - begin) as f32 / full as f32;
        let mut time = begin;
        for bar in bars {
            if !bar.is_even() {
                canvas.fill(Rect::new(x(time), top, x(time + bar.length) - x(time), tall), series(1), 0.15);
            }
            canvas.rule((x(time), top), (x(time), top + tall), Colour::FAINT);
            time += bar.length;
        }
        canvas.rule((x(time), top), (x(time), top + tall), Colour::LINE);
        for note in tune.notes.iter().filter(|note| (begin..time).contains(&note.start)) {
            let Some(pitch) = note.pitch else { continue };
            let y = top + (high - pitch + 1) as f32 * step;
            canvas.fill(
                Rect::new(x(note.start), y, x(note.start + note.length) - x(note.start) - 1.0, step),
                series(0),
                0.9,
            );
        }
        begin = time;
    }
    canvas.into_png()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tune_sounds_as_long_as_it_is_and_at_its_pitch() {
        let tune = Tune::parse("X:1\nT:t\nM:4/4\nL:1/4\nK:C\nA A A A|").unwrap();
        let samples = sound(&tune);
        assert_eq!(samples.len(), RATE as usize * 3);
        assert!(samples.iter().all(|s| s.abs() <= 1.0));
        // The first second holds two notes of 440 Hz: the strongest of some frequencies is that one.
        let power = |f: f64| {
            let wave = |(i, s): (usize, &f32)| {
                let angle = std::f64::consts::TAU * f * i as f64 / f64::from(RATE);
                (f64::from(*s) * angle.cos(), f64::from(*s) * angle.sin())
            };
            let (c, s) = samples[..9000].iter().enumerate().map(wave).fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
            c.hypot(s)
        };
        assert!([392.0, 415.3, 466.2, 493.9].iter().all(|&f| power(440.0) > 4.0 * power(f)));
        assert_eq!(&piano_roll(&tune).unwrap()[1..4], b"PNG");
    }
}
