//! ABC notation: tunes as text, one letter a note (Walshaw, 1991; the single-voice part of the 2.1 standard).
//!
//! ```text
//! X:1                     number            M:6/8   metre
//! T:Haste to the Wedding  title             L:1/8   length of a plain letter
//! K:D Major               key, the last line of the head; the music follows
//! AF|DED F2G|A2d f2d|     bars between bar lines; 2 doubles a length, /2 halves it, (3 makes a triplet
//! ```

use crate::{Error, Result};
use std::collections::HashMap;

/// What note lengths count in: so many make a whole note. Divisible by all that lengths and tuplets divide by.
pub const WHOLE: i64 = 40_320;

/// Beats a bar, and which part of a whole note a beat is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metre {
    /// The upper number.
    pub beats: i64,
    /// The lower number: 4 for crotchets, 8 for quavers.
    pub unit: i64,
}

impl Metre {
    /// The length of a bar, in parts of [`WHOLE`].
    pub fn bar(self) -> i64 {
        self.beats * WHOLE / self.unit
    }

    /// Reads `6/8`, `C` (4/4) or `C|` (2/2).
    pub fn parse(text: &str) -> Option<Metre> {
        let (beats, unit) = match text.trim() {
            "C" => (4, 4),
            "C|" => (2, 2),
            other => {
                let (beats, unit) = other.split_once('/')?;
                (beats.trim().parse().ok()?, unit.trim().parse().ok()?)
            }
        };
        let plain = (1..=64).contains(&beats) && [1, 2, 4, 8, 16, 32].contains(&unit);
        plain.then_some(Metre { beats, unit })
    }
}

/// A key, as the number of its sharps (negative: flats).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Sharps, −7 to 7.
    pub sharps: i32,
}

/// Modes by the first three letters of their names, and how many sharps each has more than major.
const MODES: [(&str, i32); 9] =
    [("maj", 0), ("ion", 0), ("mix", -1), ("dor", -2), ("min", -3), ("aeo", -3), ("phr", -4), ("loc", -5), ("lyd", 1)];

impl Key {
    /// Reads `G Major`, `A Dorian`, `F# Minor`, `Em`, `Bb`.
    pub fn parse(text: &str) -> Option<Key> {
        let text = text.trim();
        let tonic = text.chars().next()?;
        let mut sharps = "FCGDAEB".find(tonic)? as i32 - 1;
        let mut rest = &text[1..];
        for (sign, by) in [('#', 7), ('b', -7)] {
            if let Some(after) = rest.strip_prefix(sign) {
                (sharps, rest) = (sharps + by, after);
            }
        }
        let mode: String = rest.trim().to_lowercase().chars().take(3).collect();
        sharps += match mode.as_str() {
            "" => 0,
            "m" => -3,
            mode => MODES.iter().find(|(name, _)| *name == mode)?.1,
        };
        (-7..=7).contains(&sharps).then_some(Key { sharps })
    }

    /// Semitones this key adds to the plain letter `name` (upper case).
    fn shift(self, name: char) -> i32 {
        let order = "FCGDAEB".find(name).expect("a note's letter") as i32;
        if order < self.sharps {
            1
        } else if 6 - order < -self.sharps {
            -1
        } else {
            0
        }
    }
}

/// A note or a rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// When it begins, in parts of [`WHOLE`].
    pub start: i64,
    /// How long it lasts.
    pub length: i64,
    /// Its MIDI number (60 is middle C), `None` for a rest.
    pub pitch: Option<i32>,
}

/// What stands between two bar lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// The length of its notes, in parts of [`WHOLE`].
    pub length: i64,
    /// The length its metre asks for.
    pub wanted: i64,
    /// Whether it begins or ends a part of the tune, or a line (in old collections the parts are lines), where a bar may
    /// be shared out: a pick-up, and the rest before it.
    pub edge: bool,
}

impl Bar {
    /// Whether it is as long as its metre says; at the edge of a part it may be shorter.
    pub fn is_even(self) -> bool {
        self.length == self.wanted || (self.edge && self.length < self.wanted)
    }
}

/// A tune.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tune {
    /// `X:`.
    pub number: u64,
    /// `T:`.
    pub title: String,
    /// `M:`, of the head.
    pub metre: Metre,
    /// `K:`, of the head.
    pub key: Key,
    /// Every note in order, repeats not written out.
    pub notes: Vec<Note>,
    /// Every bar in order.
    pub bars: Vec<Bar>,
}

impl Tune {
    /// Reads one tune.
    ///
    /// # Errors
    /// If a field of the head is missing, twice there or unreadable, the music holds a sign that is none, or there is
    /// no music.
    pub fn parse(text: &str) -> Result<Tune> {
        Reader::new(text).tune()
    }

    /// The length of all notes, in parts of [`WHOLE`].
    pub fn length(&self) -> i64 {
        self.bars.iter().map(|bar| bar.length).sum()
    }

    /// Whether every bar is as long as the metre says.
    pub fn is_even(&self) -> bool {
        self.bars.iter().all(|bar| bar.is_even())
    }

    /// The share of bars that are as long as the metre says; 0 without bars.
    pub fn even(&self) -> f64 {
        let even = self.bars.iter().filter(|bar| bar.is_even()).count();
        even as f64 / self.bars.len().max(1) as f64
    }
}

/// The texts of the tunes in a collection: each begins at a line `X:`.
pub fn tunes(text: &str) -> Vec<&str> {
    let starts = text.match_indices("X:").map(|(at, _)| at);
    let mut starts: Vec<usize> = starts.filter(|&at| at == 0 || text.as_bytes()[at - 1] == b'\n').collect();
    starts.push(text.len());
    starts.windows(2).map(|pair| text[pair[0]..pair[1]].trim_end()).collect()
}

/// Semitones of the letters above C.
const SEMITONES: [(char, i32); 7] = [('C', 0), ('D', 2), ('E', 4), ('F', 5), ('G', 7), ('A', 9), ('B', 11)];
/// The longest tune read, in whole notes: no text may make numbers overflow.
const LONGEST: i64 = 100_000;

struct Reader<'a> {
    text: &'a str,
    line: usize,
    unit: i64,
    metre: Option<Metre>,
    key: Key,
    now: i64,
    notes: Vec<Note>,
    bars: Vec<Bar>,
    /// The present bar begins a part.
    opens: bool,
    /// When the present bar began.
    began: i64,
    /// Accidentals of the present bar, by letter as written.
    accidentals: HashMap<char, i32>,
    /// Notes still to come in a tuplet, and what their lengths are multiplied and divided by.
    tuplet: (i64, i64, i64),
    /// `>` or `<` before the next note: how its length changes, in halves.
    broken: i64,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Reader<'a> {
        Reader {
            text,
            line: 0,
            unit: WHOLE / 8,
            metre: None,
            key: Key { sharps: 0 },
            now: 0,
            notes: Vec::new(),
            bars: Vec::new(),
            opens: true,
            began: 0,
            accidentals: HashMap::new(),
            tuplet: (0, 1, 1),
            broken: 0,
        }
    }

    fn error(&self, problem: impl Into<String>) -> Error {
        Error::new(format!("tune, line {}", self.line), problem, "")
    }

    fn tune(mut self) -> Result<Tune> {
        let (mut number, mut title, mut head) = (None, None, None);
        for line in self.text.lines() {
            self.line += 1;
            let line = line.split('%').next().unwrap_or_default().trim_end();
            let field = line.split_at_checked(2).filter(|(name, _)| is_field(name));
            match field {
                Some(("X:", value)) if number.is_none() && self.line == 1 => {
                    let parsed = value.trim().parse::<u64>();
                    number = Some(parsed.map_err(|_| self.error(format!("X:{value} is no number")))?);
                }
                Some(("X:", _)) => return Err(self.error("X: belongs on the first line, once")),
                Some(("T:", value)) => title = title.or(Some(value.trim().to_string())),
                // Some collections let the music follow a change of metre on its line.
                Some(("M:", _)) if head.is_some() => self.music(line)?,
                Some((name, value)) => {
                    self.field(name, value)?;
                    if name == "K:" && head.is_none() {
                        let metre = self.metre.ok_or_else(|| self.error("the head has no metre M:"))?;
                        head = Some((metre, self.key));
                    }
                }
                None if line.is_empty() => {}
                None if head.is_none() => return Err(self.error("music before the key K:, which ends the head")),
                None => {
                    self.music(line)?;
                    self.edge();
                }
            }
        }
        self.bar_line(true);
        let number = number.ok_or_else(|| self.error("no number X: on the first line"))?;
        let title = title.ok_or_else(|| self.error("no title T:"))?;
        let (metre, key) = head.ok_or_else(|| self.error("no key K:"))?;
        if self.notes.iter().all(|note| note.pitch.is_none()) {
            return Err(self.error("no notes"));
        }
        Ok(Tune { number, title, metre, key, notes: self.notes, bars: self.bars })
    }

    /// A field that music depends on; others are remarks.
    fn field(&mut self, name: &str, value: &str) -> Result<()> {
        let wrong = |reader: &Self| reader.error(format!("{name}{value} cannot be read"));
        match name {
            "M:" => self.metre = Some(Metre::parse(value).ok_or_else(|| wrong(self))?),
            "K:" => self.key = Key::parse(value).ok_or_else(|| wrong(self))?,
            "L:" => {
                let (above, below) = value.trim().split_once('/').ok_or_else(|| wrong(self))?;
                let fraction = above.parse::<i64>().ok().zip(below.parse::<i64>().ok());
                let plain =
                    |&(above, below): &(i64, i64)| (1..=8).contains(&above) && [1, 2, 4, 8, 16, 32].contains(&below);
                let (above, below) = fraction.filter(plain).ok_or_else(|| wrong(self))?;
                self.unit = WHOLE * above / below;
            }
            _ => {}
        }
        Ok(())
    }

    fn music(&mut self, line: &str) -> Result<()> {
        let mut rest = line;
        while let Some(sign) = rest.chars().next() {
            let field = rest.split_at_checked(2).filter(|(name, _)| is_field(name));
            if let Some((name, value)) = field {
                // A change inside a line, up to the next blank or bracket.
                let end = value.find([' ', ']', '|']).unwrap_or(value.len());
                self.field(name, &value[..end])?;
                rest = &value[end..];
                continue;
            }
            match sign {
                '|' | ':' => rest = self.bars_and_repeats(rest),
                '[' if rest[1..].starts_with(['|', '1', '2', '3', '4']) => rest = self.bars_and_repeats(rest),
                '[' if rest[1..].split_at_checked(2).is_some_and(|(name, _)| is_field(name)) => rest = &rest[1..],
                '[' => rest = self.chord(&rest[1..])?,
                '(' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => rest = self.begin_tuplet(&rest[1..])?,
                '{' => rest = self.skip(rest, '}')?,
                '"' => rest = self.skip(rest, '"')?,
                '>' | '<' => {
                    let last = self.notes.last_mut().filter(|_| self.broken == 0);
                    let Some(last) = last else { return Err(self.error(format!("`{sign}` without a note before it"))) };
                    let by = if sign == '>' { 1 } else { -1 };
                    let change = by * last.length / 2;
                    last.length += change;
                    (self.now, self.broken) = (self.now + change, -by);
                    rest = &rest[1..];
                }
                // Ties, slurs, line ends and ornaments change no length.
                ' ' | '!' | '\\' | '(' | ')' | '-' | '~' | '.' | 'u' | 'v' | 'T' | 'H' | 'M' | 'P' | 'R' | 'S'
                | ']' => {
                    rest = &rest[1..];
                }
                _ => {
                    let (pitch, length, after) = self.note(rest)?;
                    self.push(pitch, length)?;
                    rest = after;
                }
            }
        }
        Ok(())
    }

    /// Bar lines and the signs beside them: `|`, `||`, `|]`, `[|`, `|:`, `:|`, `::`, and the endings `|1`, `[2`.
    fn bars_and_repeats<'t>(&mut self, rest: &'t str) -> &'t str {
        let end = rest.find(|c| !matches!(c, '|' | ':' | '[' | ']')).unwrap_or(rest.len());
        let (mut signs, after) = rest.split_at(end);
        let ending = after.starts_with(['1', '2', '3', '4']) && signs.ends_with(['|', '[']);
        // A bracket that opens a chord or a field is not part of the line.
        if signs.ends_with('[') && !ending {
            signs = &signs[..end - 1];
        }
        let part = signs != "|" || ending;
        self.bar_line(part);
        &rest[signs.len() + usize::from(ending)..]
    }

    fn bar_line(&mut self, ends_part: bool) {
        let length = self.now - self.began;
        if length > 0 {
            let wanted = self.metre.map_or(0, Metre::bar);
            self.bars.push(Bar { length, wanted, edge: self.opens });
            self.opens = false;
        }
        self.began = self.now;
        self.accidentals.clear();
        if ends_part {
            self.edge();
        }
    }

    /// A part or a line ends here: so may the bar before be short, and the bar to come, unless one runs on.
    fn edge(&mut self) {
        if self.now == self.began {
            self.opens = true;
            if let Some(bar) = self.bars.last_mut() {
                bar.edge = true;
            }
        }
    }

    fn begin_tuplet<'t>(&mut self, rest: &'t str) -> Result<&'t str> {
        let count = i64::from(rest.as_bytes()[0] - b'0');
        let compound = self.metre.is_some_and(|metre| metre.beats % 3 == 0 && metre.unit == 8);
        let time = match count {
            2 | 4 | 8 => 3,
            3 | 6 => 2,
            5 | 7 | 9 => {
                if compound {
                    3
                } else {
                    2
                }
            }
            _ => return Err(self.error(format!("({count} is no tuplet"))),
        };
        self.tuplet = (count, time, count);
        Ok(&rest[1..])
    }

    fn skip<'t>(&self, rest: &'t str, close: char) -> Result<&'t str> {
        let end = rest[1..].find(close).ok_or_else(|| self.error(format!("`{}` is not closed", &rest[..1])))?;
        Ok(&rest[end + 2..])
    }

    /// Notes struck together; the longest counts.
    fn chord<'t>(&mut self, mut rest: &'t str) -> Result<&'t str> {
        let mut notes = Vec::new();
        while !rest.starts_with(']') {
            if rest.is_empty() {
                return Err(self.error("a chord `[` is not closed"));
            }
            let (pitch, length, after) = self.note(rest)?;
            notes.push((pitch, length));
            rest = after;
        }
        let longest = notes.iter().map(|&(_, length)| length).max();
        let Some(longest) = longest else { return Err(self.error("a chord without notes")) };
        let (above, below, after) = self.fraction(&rest[1..])?;
        let start = self.now;
        let top = notes.iter().filter_map(|&(pitch, _)| pitch).max();
        self.push(top, longest * above / below)?;
        let length = self.now - start;
        self.notes.pop();
        self.notes.extend(notes.into_iter().map(|(pitch, _)| Note { start, length, pitch }));
        Ok(after)
    }

    /// One note or rest: accidental, letter, octave, length.
    fn note<'t>(&mut self, rest: &'t str) -> Result<(Option<i32>, i64, &'t str)> {
        let signs = rest.len() - rest.trim_start_matches(['^', '_', '=']).len();
        let accidental = match &rest[..signs] {
            "" => None,
            "=" => Some(0),
            "^" => Some(1),
            "^^" => Some(2),
            "_" => Some(-1),
            "__" => Some(-2),
            other => return Err(self.error(format!("`{other}` is no accidental"))),
        };
        let letter = rest[signs..].chars().next().unwrap_or(' ');
        let after = &rest[signs + letter.len_utf8().min(rest.len() - signs)..];
        let upper = letter.to_ascii_uppercase();
        let Some((_, semitone)) = SEMITONES.iter().find(|(name, _)| *name == upper) else {
            if signs == 0 && matches!(letter, 'z' | 'x') {
                let (above, below, after) = self.fraction(after)?;
                return Ok((None, self.unit * above / below, after));
            }
            return Err(self.error(format!("`{letter}` is no note")));
        };
        let marks = after.len() - after.trim_start_matches([',', '\'']).len();
        let octaves: i32 = after[..marks].chars().map(|mark| if mark == ',' { -1 } else { 1 }).sum();
        let (above, below, after) = self.fraction(&after[marks..])?;
        if let Some(accidental) = accidental {
            self.accidentals.insert(letter, accidental);
        }
        let shift = self.accidentals.get(&letter).copied().unwrap_or_else(|| self.key.shift(upper));
        let pitch = 60 + semitone + shift + 12 * (octaves + i32::from(letter.is_ascii_lowercase()));
        if !(0..=127).contains(&pitch) {
            return Err(self.error(format!("`{}` lies outside of what can be heard", &rest[..signs + 1 + marks])));
        }
        Ok((Some(pitch), self.unit * above / below, after))
    }

    /// A length: `2`, `3/2`, `/2`, `/`, `//`.
    fn fraction<'t>(&self, rest: &'t str) -> Result<(i64, i64, &'t str)> {
        let number = |text: &'t str| -> (Option<i64>, &'t str) {
            let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            (text[..end].parse().ok(), &text[end..])
        };
        let (above, mut after) = number(rest);
        let mut below = 1;
        if after.starts_with('/') {
            let slashes = after.len() - after.trim_start_matches('/').len();
            let (given, rest) = number(&after[slashes..]);
            below = given.unwrap_or(1 << slashes.min(8));
            after = rest;
        }
        let above = above.unwrap_or(1);
        if !(1..=64).contains(&above) || ![1, 2, 3, 4, 6, 8, 16].contains(&below) {
            return Err(self.error(format!("{above}/{below} is no length")));
        }
        Ok((above, below, after))
    }

    fn push(&mut self, pitch: Option<i32>, mut length: i64) -> Result<()> {
        if self.tuplet.0 > 0 {
            self.tuplet.0 -= 1;
            length = length * self.tuplet.1 / self.tuplet.2;
        }
        length += self.broken * length / 2;
        self.broken = 0;
        self.notes.push(Note { start: self.now, length, pitch });
        self.now += length;
        if self.now > LONGEST * WHOLE {
            return Err(self.error("is longer than any tune"));
        }
        Ok(())
    }
}

/// Whether two bytes begin a field: a letter and a colon. `|:` and `::` are repeats.
fn is_field(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() == 2 && bytes[0].is_ascii_uppercase() && bytes[1] == b':'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tune(music: &str) -> Tune {
        Tune::parse(&format!("X:7\nT:Test\nM:4/4\nL:1/8\nK:D Major\n{music}\n")).unwrap()
    }

    fn pitches(music: &str) -> Vec<i32> {
        tune(music).notes.iter().filter_map(|note| note.pitch).collect()
    }

    fn lengths(music: &str) -> Vec<i64> {
        // In quavers' sixths, so that triplets are whole.
        tune(music).notes.iter().map(|note| note.length * 48 / WHOLE).collect()
    }

    #[test]
    fn letters_octaves_keys_and_accidentals() {
        assert_eq!(pitches("C D c d C, c'"), [61, 62, 73, 74, 49, 85]); // C is sharp in D major
        assert_eq!(pitches("=C C ^G G | C G _B B"), [60, 60, 68, 68, 61, 67, 70, 70]);
        assert_eq!(pitches("B|\nK:F Major\nB|[K:Em] F"), [71, 70, 66]);
        for (text, sharps) in
            [("G Major", 1), ("A Dorian", 1), ("D Mixolydian", 1), ("F# Minor", 3), ("Bb", -2), ("Em", 1)]
        {
            assert_eq!(Key::parse(text), Some(Key { sharps }), "{text}");
        }
        assert!(Key::parse("H Major").is_none() && Key::parse("").is_none() && Key::parse("C whatever").is_none());
    }

    #[test]
    fn lengths_tuplets_and_broken_rhythm() {
        assert_eq!(lengths("A A2 A/2 A/ A3/2 z4"), [6, 12, 3, 3, 9, 24]);
        assert_eq!(lengths("(3ABc d"), [4, 4, 4, 6]);
        assert_eq!(lengths("A>B c<d"), [9, 3, 3, 9]);
        assert_eq!(lengths("[Ace]2 A"), [12, 12, 12, 6]);
        assert_eq!(tune("[Ace]2 A").length(), WHOLE * 3 / 8);
    }

    #[test]
    fn bars_are_measured_and_edges_may_be_short() {
        let even = tune("AB|ABcd ABcd|ABcd AB:|\nAB|[1ABcd ABcd:|[2ABcd ABc||");
        assert_eq!(even.bars.len(), 6);
        assert!(even.is_even(), "{:?}", even.bars);
        let short = tune("ABcd ABcd|ABcd|ABcd ABcd|ABcd ABcd|");
        assert_eq!(short.bars.iter().map(|bar| bar.is_even()).collect::<Vec<_>>(), [true, false, true, true]);
        assert_eq!((even.even(), short.even()), (1.0, 0.75));
        assert!(!tune("ABcd ABcd A|ABcd ABcd|").is_even()); // too long, even at the edge
        assert!(tune("ABcd ABcd|M:3/4 ABcd AB|ABcd AB|").is_even());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let wrong = |text: &str| Tune::parse(text).unwrap_err().to_string();
        assert!(wrong("T:a\nM:4/4\nK:C\nABC").contains("no number X:"));
        assert!(wrong("X:1\nT:a\nK:C\nABC").contains("line 3: the head has no metre"));
        assert!(wrong("X:1\nT:a\nM:5/0\nK:C\nABC").contains("line 3: M:5/0 cannot be read"));
        assert!(wrong("X:1\nM:4/4\nK:C\nABC").contains("no title"));
        assert!(wrong("X:1\nT:a\nM:4/4\nK:C\nAB?C").contains("line 5: `?` is no note"));
        assert!(wrong("X:1\nT:a\nM:4/4\nK:C\n|||").contains("no notes"));
        assert!(wrong("X:1\nT:a\nM:4/4\nK:C\n[AB").contains("not closed"));
        assert!(wrong("X:1\nT:a\nM:4/4\nK:C\nA99999999999").contains("is no length"));
        assert!(wrong("").contains("no number"));
        // Nothing a model may write makes it panic.
        let letters: Vec<char> = "XTMLK:ABCabc|[]()3/2^_=,'><{}\"\n é!z".chars().collect();
        let mut random = crate::Rng::new(3);
        for _ in 0..3000 {
            let text: String = (0..40).map(|_| letters[random.below(letters.len())]).collect();
            let _ = Tune::parse(&format!("X:1\nT:a\nM:4/4\nL:1/8\nK:C\n{text}"));
            let _ = Tune::parse(&text);
        }
    }

    #[cfg(feature = "bundled")]
    #[test]
    fn the_bundled_tunes() {
        let text = crate::load_text("irish-abc").unwrap();
        let all = tunes(&text);
        assert_eq!(all.len(), 804);
        let read: Vec<Tune> = all.iter().filter_map(|tune| Tune::parse(tune).ok()).collect();
        let even = read.iter().filter(|tune| tune.is_even()).count();
        // One holds words among its notes; seven have a bar that its writer miscounted or did not close.
        assert_eq!((read.len(), even), (803, 796));
        assert_eq!(read[0].title, "Alexander's");
    }
}
