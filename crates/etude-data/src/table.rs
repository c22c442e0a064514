//! Tables: comma-separated values with numeric columns and, optionally, one column of class names.

use crate::input::{Input, MOST_TEXT};
use crate::{Array, Dataset, Error, Result, Values};
use std::path::Path;

/// Whether the first line names the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// It does unless every field of it is a number.
    Auto,
    /// It does.
    Present,
    /// It holds values.
    Absent,
}

/// Which column holds the class of each row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Label {
    /// None: every column is a feature.
    None,
    /// The last one.
    Last,
    /// The one at this position, from 0.
    At(usize),
    /// The one with this name.
    Named(String),
}

/// How to read a table. `Options::default()` guesses the header and takes the last column as the class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Whether the first line names the columns.
    pub header: Header,
    /// Which column holds the class.
    pub label: Label,
    /// The byte between fields: `b','`, `b';'` or `b'\t'`.
    pub separator: u8,
    /// The classes in the order of their numbers; empty: those found, sorted (as numbers if all are).
    pub classes: Vec<String>,
}

impl Default for Options {
    fn default() -> Options {
        Options { header: Header::Auto, label: Label::Last, separator: b',', classes: Vec::new() }
    }
}

/// A table that has been read.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// The names of the feature columns: from the header, or `column 0` and so on.
    pub columns: Vec<String>,
    /// The features, `[rows, columns]`, `F64`.
    pub features: Array,
    /// The class of each row, an index into `classes`; empty without a label column.
    pub labels: Vec<i64>,
    /// The class names.
    pub classes: Vec<String>,
}

impl Table {
    /// A feature column by its name.
    pub fn column(&self, name: &str) -> Option<Vec<f64>> {
        let column = self.columns.iter().position(|other| other == name)?;
        let Values::F64(values) = &self.features.values else { return None };
        Some(values.iter().skip(column).step_by(self.columns.len()).copied().collect())
    }

    /// The table as a classification set with `F32` inputs `[rows, columns]`.
    pub fn into_dataset(self, name: &str) -> Result<Dataset> {
        Dataset::new(name, self.features.to_f32(), self.labels, self.classes)
    }
}

/// Reads a table, plain or gzipped.
pub fn read(path: impl AsRef<Path>, options: &Options) -> Result<Table> {
    read_input(Input::open(path.as_ref())?, options)
}

/// Reads a table from memory, plain or gzipped; `place` names it in errors.
pub fn parse(place: &str, bytes: &[u8], options: &Options) -> Result<Table> {
    read_input(Input::memory(place, bytes)?, options)
}

fn read_input(mut input: Input, options: &Options) -> Result<Table> {
    let place = input.place.clone();
    let error = |problem: String, advice: &str| Error::new(place.clone(), problem, advice);
    let bytes = input.rest(MOST_TEXT)?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .delimiter(options.separator)
        .trim(csv::Trim::All)
        .from_reader(bytes);
    let mut records = Vec::new();
    for record in reader.records() {
        let record = record
            .map_err(|problem| error(describe(&problem), "every line needs the same number of fields, in UTF-8"))?;
        records.push(record);
    }
    let Some(first) = records.first() else {
        return Err(error("holds no rows".to_string(), "give a table with at least one row"));
    };
    let width = first.len();
    let has_header = match options.header {
        Header::Present => true,
        Header::Absent => false,
        // With a label column in text, a header is told from a row by its features.
        Header::Auto => {
            let skipped = label_column(options, width, None);
            first.iter().enumerate().any(|(at, text)| Some(at) != skipped && text.parse::<f64>().is_err())
        }
    };
    let names: Vec<String> = match has_header {
        true => first.iter().map(str::to_string).collect(),
        false => (0..width).map(|at| format!("column {at}")).collect(),
    };
    let label = label_column(options, width, Some(&names));
    match &options.label {
        Label::Named(name) if label.is_none() => {
            let problem = format!("has no column `{name}`");
            return Err(error(problem, &format!("its columns are {}", names.join(", "))));
        }
        Label::At(at) if label.is_none() => {
            return Err(error(format!("has no column {at}"), &format!("there are {width}, counted from 0")));
        }
        _ => {}
    }
    let rows = &records[usize::from(has_header)..];
    let mut values = Vec::with_capacity(rows.len() * width);
    let mut texts = Vec::new();
    for record in rows {
        let line = record.position().map_or(0, csv::Position::line);
        for (at, text) in record.iter().enumerate() {
            if Some(at) == label {
                texts.push(text);
                continue;
            }
            match text.parse::<f64>() {
                Ok(value) => values.push(value),
                Err(_) => {
                    let problem = format!("line {line}, column `{}`: `{text:.40}` is not a number", names[at]);
                    return Err(error(problem, "give missing values a number, or name the label column"));
                }
            }
        }
    }
    let classes = match options.classes.is_empty() {
        true => class_names(&texts),
        false => options.classes.clone(),
    };
    let numbers: std::collections::HashMap<&str, i64> = classes.iter().map(String::as_str).zip(0..).collect();
    let mut labels = Vec::with_capacity(texts.len());
    for (row, text) in texts.iter().enumerate() {
        match numbers.get(text) {
            Some(&number) => labels.push(number),
            None => {
                let line = rows[row].position().map_or(0, csv::Position::line);
                let problem = format!("line {line}: `{text:.40}` is not one of the classes");
                return Err(error(problem, &format!("the classes asked for are {}", classes.join(", "))));
            }
        }
    }
    let columns: Vec<String> =
        names.into_iter().enumerate().filter(|(at, _)| Some(*at) != label).map(|(_, name)| name).collect();
    let features = Array::new([rows.len(), columns.len()], Values::F64(values))?;
    Ok(Table { columns, features, labels, classes })
}

fn label_column(options: &Options, width: usize, names: Option<&[String]>) -> Option<usize> {
    match &options.label {
        Label::None => None,
        Label::Last => width.checked_sub(1),
        Label::At(at) => Some(*at).filter(|&at| at < width),
        Label::Named(name) => names?.iter().position(|other| other == name),
    }
}

/// The distinct texts, sorted: as integers when all of them are, so that 10 comes after 9.
fn class_names(texts: &[&str]) -> Vec<String> {
    let mut distinct: Vec<&str> = texts.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.iter().all(|text| text.parse::<i64>().is_ok()) {
        distinct.sort_by_key(|text| text.parse::<i64>().unwrap_or(0));
    }
    distinct.into_iter().map(str::to_string).collect()
}

fn describe(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { pos, expected_len, len } => {
            let line = pos.as_ref().map_or(0, csv::Position::line);
            format!("line {line} has {len} fields where the lines before have {expected_len}")
        }
        csv::ErrorKind::Utf8 { pos, .. } => {
            format!("line {} is not UTF-8", pos.as_ref().map_or(0, csv::Position::line))
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::tests::{gzip, torment};

    const FLOWERS: &str = "width, height, kind\n1.5,2,rose\n-3,4e2,lily\n0,0.25,rose\n";

    fn read(text: &str, options: &Options) -> Result<Table> {
        parse("memory", text.as_bytes(), options)
    }

    #[test]
    fn header_columns_and_classes() {
        let table = read(FLOWERS, &Options::default()).unwrap();
        assert_eq!(table.columns, ["width", "height"]);
        assert_eq!(table.classes, ["lily", "rose"]);
        assert_eq!(table.labels, [1, 0, 1]);
        assert_eq!(table.features, Array::new([3, 2], Values::F64(vec![1.5, 2.0, -3.0, 400.0, 0.0, 0.25])).unwrap());
        assert_eq!(table.column("height").unwrap(), [2.0, 400.0, 0.25]);
        assert_eq!(table.column("kind"), None);
        assert_eq!(parse("memory", &gzip(FLOWERS.as_bytes()), &Options::default()).unwrap(), table);
        let named = Options { label: Label::Named("kind".into()), ..Options::default() };
        assert_eq!(read(FLOWERS, &named).unwrap(), table);
        let ordered = Options { classes: vec!["rose".into(), "lily".into()], ..Options::default() };
        assert_eq!(read(FLOWERS, &ordered).unwrap().labels, [0, 1, 0]);
        let bare = read(&FLOWERS[FLOWERS.find('\n').unwrap() + 1..], &Options::default()).unwrap();
        assert_eq!((bare.columns, bare.labels), (vec!["column 0".to_string(), "column 1".into()], table.labels));
    }

    #[test]
    fn number_labels_sort_as_numbers_and_any_column_may_hold_them() {
        let options = Options { label: Label::At(0), separator: b';', ..Options::default() };
        let table = read("10;1\n9;2\n-1;3\n10;4\n", &options).unwrap();
        assert_eq!(table.classes, ["-1", "9", "10"]);
        assert_eq!(table.labels, [2, 1, 0, 2]);
        let none = read("1,2\r\n3,4\r\n", &Options { label: Label::None, ..Options::default() }).unwrap();
        assert_eq!((none.features.shape, none.labels.len(), none.classes.len()), (vec![2, 2], 0, 0));
        let set = table.into_dataset("numbers").unwrap();
        assert_eq!(set.inputs.values, Values::F32(vec![1.0, 2.0, 3.0, 4.0]));
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let error = |text: &str, options: &Options| read(text, options).unwrap_err().to_string();
        let standard = Options::default();
        assert!(error("a,b,c\n1,2,x\n1,two,y\n", &standard).contains("line 3, column `b`: `two` is not a number"));
        assert!(error("a,b\n1,x\n1,2,y\n", &standard).contains("line 3 has 3 fields"));
        assert!(error("", &standard).contains("holds no rows"));
        assert!(error(FLOWERS, &Options { label: Label::At(3), ..standard.clone() }).contains("no column 3"));
        let named = Options { label: Label::Named("sort".into()), ..standard.clone() };
        assert!(error(FLOWERS, &named).contains("width, height, kind"));
        let classes = Options { classes: vec!["rose".into()], ..standard };
        assert!(error(FLOWERS, &classes).contains("line 3: `lily` is not one of the classes"));
    }

    #[test]
    fn damaged_tables_do_not_panic() {
        let refused =
            torment(FLOWERS.as_bytes(), |bytes| parse("memory", bytes, &Options::default()), |length| length == 0);
        assert!(refused > 20, "{refused}");
    }
}
