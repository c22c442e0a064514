//! What a run has to say at its end: tables, headline figures, and claims that either held or did not.

use crate::units::{Figure, Style};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A table of text; numbers align to the right, the first column to the left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// What it shows.
    pub title: String,
    /// Column names.
    pub head: Vec<String>,
    /// Rows as long as the head.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new(title: impl Into<String>, head: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { title: title.into(), head: head.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row of as many cells as the head has.
    #[track_caller]
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) -> &mut Self {
        let cells: Vec<String> = cells.into_iter().map(Into::into).collect();
        assert!(cells.len() == self.head.len(), "table row: {} cells under {} names", cells.len(), self.head.len());
        self.rows.push(cells);
        self
    }

    /// Whether a column past the first holds numbers (begins like one in every row), and so aligns to the right.
    pub fn numeric(&self, column: usize) -> bool {
        let number =
            |cell: &str| cell.starts_with(|c: char| c.is_ascii_digit() || "-+.∞·–".contains(c)) || cell == "NaN";
        let mut cells = self.rows.iter().filter_map(|row| row.get(column)).filter(|cell| !cell.is_empty());
        column > 0 && cells.all(|cell| number(cell))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wide = |text: &String| text.chars().count();
        let lines = || std::iter::once(&self.head).chain(&self.rows);
        let columns = self.head.len();
        let width: Vec<usize> =
            (0..columns).map(|c| lines().filter_map(|line| line.get(c)).map(wide).max().unwrap_or(0)).collect();
        let numeric: Vec<bool> = (0..columns).map(|c| self.numeric(c)).collect();
        for line in lines() {
            let mut text = String::new();
            for (c, cell) in line.iter().enumerate().take(columns) {
                let gap = if c == 0 { "" } else { "   " };
                let fill = " ".repeat(width[c] - wide(cell));
                text += &if numeric[c] { format!("{gap}{fill}{cell}") } else { format!("{gap}{cell}{fill}") };
            }
            writeln!(f, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

/// What a claim demands of a number.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// `value ≥ bound`.
    AtLeast(#[serde(with = "crate::run::numbers")] f64),
    /// `value ≤ bound`.
    AtMost(#[serde(with = "crate::run::numbers")] f64),
    /// `value = bound`, to the last bit.
    Exactly(#[serde(with = "crate::run::numbers")] f64),
}

impl Bound {
    /// Whether `value` satisfies it; NaN never does.
    pub fn holds(self, value: f64) -> bool {
        match self {
            Bound::AtLeast(bound) => value >= bound,
            Bound::AtMost(bound) => value <= bound,
            Bound::Exactly(bound) => value == bound,
        }
    }

    fn parts(self) -> (&'static str, f64) {
        match self {
            Bound::AtLeast(bound) => ("≥", bound),
            Bound::AtMost(bound) => ("≤", bound),
            Bound::Exactly(bound) => ("=", bound),
        }
    }
}

/// A checked number: what was claimed of it, what it is, whether the claim held.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// What the number measures, such as `accuracy`.
    pub text: String,
    /// The number found.
    #[serde(with = "crate::run::numbers")]
    pub value: f64,
    /// What it has to satisfy.
    pub bound: Bound,
    /// How to write both.
    pub style: Style,
    /// Whether it did.
    pub held: bool,
}

impl Claim {
    /// A claim about `value`, checked at once.
    pub fn new(text: impl Into<String>, value: f64, bound: Bound) -> Self {
        Self { text: text.into(), value, bound, style: Style::Number, held: bound.holds(value) }
    }

    /// `text ≥ bound`.
    pub fn at_least(text: impl Into<String>, value: f64, bound: f64) -> Self {
        Self::new(text, value, Bound::AtLeast(bound))
    }

    /// `text ≤ bound`.
    pub fn at_most(text: impl Into<String>, value: f64, bound: f64) -> Self {
        Self::new(text, value, Bound::AtMost(bound))
    }

    /// `text = bound`, for counts and other exact numbers.
    pub fn exactly(text: impl Into<String>, value: f64, bound: f64) -> Self {
        Self::new(text, value, Bound::Exactly(bound))
    }

    /// The numbers written in another style.
    #[must_use]
    pub fn style(mut self, style: Style) -> Self {
        self.style = style;
        self
    }

    /// The numbers are fractions, written as percentages.
    #[must_use]
    pub fn percent(self) -> Self {
        self.style(Style::Percent)
    }

    /// What is claimed: `accuracy ≥ 98.0 %`.
    pub fn demand(&self) -> String {
        let (sign, bound) = self.bound.parts();
        format!("{} {sign} {}", self.text, self.style.text(bound))
    }

    /// `held`, or what was found instead. A value that rounds to the bound is written with as many digits as it takes
    /// to see that it is not.
    pub fn outcome(&self) -> String {
        if self.held {
            return "held".into();
        }
        let rounded = self.style.text(self.value);
        let same = rounded == self.style.text(self.bound.parts().1);
        format!("broken: {}", if same { format!("{:?}", self.value) } else { rounded })
    }
}

/// The outcome of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Headline lines: a name such as `test`, and its figures.
    pub figures: Vec<(String, Vec<Figure>)>,
    /// Checked numbers.
    pub claims: Vec<Claim>,
    /// Tables.
    pub tables: Vec<Table>,
    /// Files left in the run folder, relative to it; [`crate::Run::finish`] lists them.
    pub media: Vec<String>,
    /// Commands to go on with.
    pub next: Vec<String>,
}

impl Report {
    /// An empty report.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a headline line: figures, or pairs of a name and a number.
    pub fn figures<F: Into<Figure>>(
        &mut self,
        name: impl Into<String>,
        figures: impl IntoIterator<Item = F>,
    ) -> &mut Self {
        self.figures.push((name.into(), figures.into_iter().map(F::into).collect()));
        self
    }

    /// Adds a claim.
    pub fn claim(&mut self, claim: Claim) -> &mut Self {
        self.claims.push(claim);
        self
    }

    /// Adds a table.
    pub fn table(&mut self, table: Table) -> &mut Self {
        self.tables.push(table);
        self
    }

    /// Suggests a command to go on with.
    pub fn next(&mut self, command: impl Into<String>) -> &mut Self {
        self.next.push(command.into());
        self
    }

    /// Whether every claim held. A report without claims has shown nothing, so it has not.
    pub fn held(&self) -> bool {
        !self.claims.is_empty() && self.claims.iter().all(|claim| claim.held)
    }
}

/// The closing lines of a run: figures, claims, what was left, what to do next. Tables are printed by themselves.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for table in &self.tables {
            writeln!(f, "{}\n{table}", table.title)?;
        }
        for (name, figures) in &self.figures {
            let texts: Vec<String> =
                figures.iter().map(|figure| format!("{} {}", figure.name, figure.text())).collect();
            writeln!(f, "{}{}", label(name), texts.join("   "))?;
        }
        let demands: Vec<String> = self.claims.iter().map(Claim::demand).collect();
        let width = demands.iter().map(|demand| demand.chars().count()).max().unwrap_or(0).max(54);
        for (claim, demand) in self.claims.iter().zip(&demands) {
            let fill = " ".repeat(width - demand.chars().count());
            writeln!(f, "{}{demand}{fill}  {}", label("claim"), claim.outcome())?;
        }
        for (name, words, gap) in [("left", &self.media, "  "), ("next", &self.next, "   ·   ")] {
            if !words.is_empty() {
                writeln!(f, "{}{}", label(name), words.join(gap))?;
            }
        }
        Ok(())
    }
}

/// The first word of a closing line, with at least one blank after it.
fn label(name: &str) -> String {
    format!("{name:<7} ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Report {
        let mut report = Report::new();
        report
            .figures("test", [Figure::percent("accuracy", 0.985), Figure::new("loss", 0.0487)])
            .claim(Claim::at_least("accuracy", 0.985, 0.98).percent())
            .next("etude predict runs/lenet/0007 digit.png")
            .next("etude serve");
        report.media = vec!["report.html".into(), "curves.png".into()];
        report
    }

    #[test]
    fn closing_lines() {
        let expected = "\
test    accuracy 98.5 %   loss 0.0487
claim   accuracy ≥ 98.0 %                                       held
left    report.html  curves.png
next    etude predict runs/lenet/0007 digit.png   ·   etude serve
";
        assert_eq!(example().to_string(), expected);
        assert!(example().held());
    }

    #[test]
    fn broken_claims_show_the_number() {
        let claim = Claim::at_least("accuracy", 0.979_96, 0.98).percent();
        assert!(!claim.held);
        assert_eq!(claim.outcome(), "broken: 0.97996");
        assert_eq!(Claim::at_most("loss", 0.25, 0.1).outcome(), "broken: 0.2500");
        assert_eq!(Claim::at_least("accuracy", f64::NAN, 0.0).percent().outcome(), "broken: NaN");
        assert!(Claim::at_most("loss", 0.1, 0.1).held);
        let count = Claim::exactly("parameters", 61_706.0, 61_706.0).style(Style::Count);
        assert_eq!((count.held, count.demand()), (true, "parameters = 61,706".into()));
        assert!(!Report::new().held());
    }

    #[test]
    fn survives_json() {
        let mut report = example();
        report.claim(Claim::at_most("loss", f64::INFINITY, 1.0));
        let mut table = Table::new("t", ["a", "b"]);
        table.row(["x", "1"]);
        report.table(table);
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }
}
