//! `metrics.jsonl`, one object a line, and the TensorBoard file that follows it.
//!
//! The text file is the truth: a line torn by a kill is dropped, lines after the checkpoint a run resumes from are
//! dropped, and the event file is written anew from what remains.

use super::{numbers, tensorboard};
use crate::error::{Error, Result};
use crate::files;
use serde_json::{Map, Value};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The most a `metrics.jsonl` may hold when read back.
const LIMIT: u64 = 1 << 30;

/// One line of `metrics.jsonl`: some named numbers at a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Optimiser steps done when it was written.
    pub step: u64,
    /// Epoch it belongs to, from 1.
    pub epoch: u64,
    /// Seconds since 1970.
    pub time: f64,
    /// Names such as `train/loss`, with their values.
    pub values: Vec<(String, f64)>,
}

impl Record {
    fn to_line(&self) -> String {
        let mut object = Map::new();
        object.insert("step".into(), self.step.into());
        object.insert("epoch".into(), self.epoch.into());
        object.insert("time".into(), numbers::to_json(self.time));
        for (name, value) in &self.values {
            object.insert(name.clone(), numbers::to_json(*value));
        }
        format!("{}\n", Value::Object(object))
    }

    fn from_line(line: &str) -> Option<Self> {
        let Value::Object(object) = serde_json::from_str(line).ok()? else { return None };
        let whole = |name| object.get(name).and_then(Value::as_u64);
        let (step, epoch) = (whole("step")?, whole("epoch")?);
        let time = object.get("time").and_then(numbers::from_json)?;
        let named = object.iter().filter(|(name, _)| !matches!(name.as_str(), "step" | "epoch" | "time"));
        let values =
            named.map(|(name, value)| Some((name.clone(), numbers::from_json(value)?))).collect::<Option<_>>()?;
        Some(Self { step, epoch, time, values })
    }

    fn to_event(&self) -> Vec<u8> {
        tensorboard::scalars(self.time, self.step, self.values.iter().map(|(name, value)| (name.as_str(), *value)))
    }
}

/// Reads a `metrics.jsonl`. A torn last line, left by a kill in the middle of a write, is ignored; any other line that
/// is not a record is an error with its number.
pub fn read_metrics(path: impl AsRef<Path>) -> Result<Vec<Record>> {
    let path = path.as_ref();
    if !path.exists() {
        return Ok(Vec::new());
    }
    let mut bytes = files::read_bytes(path, LIMIT)?;
    // Only what ends in a newline was written whole.
    bytes.truncate(bytes.iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1));
    let text = String::from_utf8(bytes).map_err(|_| Error::at(path, "not UTF-8 text").remedy("remove the file"))?;
    let read = |(i, line): (usize, &str)| {
        Record::from_line(line).ok_or_else(|| {
            Error::at(path, format!("line {} is not a metrics record", i + 1)).remedy("remove that line")
        })
    };
    text.lines().enumerate().map(read).collect()
}

/// The open metrics files of a run.
#[derive(Debug)]
pub(crate) struct Log {
    lines: File,
    lines_path: PathBuf,
    events: File,
    events_path: PathBuf,
    count: u64,
}

impl Log {
    /// Opens the files in `folder`, keeping the first `records` and dropping the rest.
    pub(crate) fn open(folder: &Path, records: u64) -> Result<Self> {
        let lines_path = folder.join("metrics.jsonl");
        let mut kept = read_metrics(&lines_path)?;
        kept.truncate(usize::try_from(records).unwrap_or(usize::MAX));
        let text: String = kept.iter().map(Record::to_line).collect();
        files::write_atomic(&lines_path, text.as_bytes())?;

        // TensorBoard knows its files by this word and sorts them by the number after it, seconds since 1970.
        let existing = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let is_events = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("events.out.tfevents."))
        };
        let events_path = existing.filter(is_events).min().unwrap_or_else(|| {
            let process = std::process::id();
            folder.join(format!("events.out.tfevents.{:010}.etude.{process}", now() as u64))
        });
        let mut events = tensorboard::header(kept.first().map_or_else(now, |record| record.time));
        events.extend(kept.iter().flat_map(Record::to_event));
        files::write_atomic(&events_path, &events)?;

        let append = |path: &Path| {
            OpenOptions::new().append(true).open(path).map_err(|e| Error::io(path, "cannot open for writing", e))
        };
        let count = kept.len() as u64;
        Ok(Self { lines: append(&lines_path)?, events: append(&events_path)?, lines_path, events_path, count })
    }

    /// Appends one record to both files; it is with the operating system when this returns, so a kill loses nothing.
    pub(crate) fn append(&mut self, record: &Record) -> Result<()> {
        let fail = |path: &Path| {
            let path = path.to_path_buf();
            move |e| Error::io(path, "cannot write", e)
        };
        append_whole(&mut self.lines, record.to_line().as_bytes()).map_err(fail(&self.lines_path))?;
        append_whole(&mut self.events, &record.to_event()).map_err(fail(&self.events_path))?;
        self.count += 1;
        Ok(())
    }

    /// How many records the files hold.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Forces both files to the disk.
    pub(crate) fn sync(&self) -> Result<()> {
        self.lines.sync_data().map_err(|e| Error::io(&self.lines_path, "cannot write", e))?;
        self.events.sync_data().map_err(|e| Error::io(&self.events_path, "cannot write", e))
    }
}

/// Appends all of `bytes` or, where the disk fills up halfway, none of them.
fn append_whole(file: &mut File, bytes: &[u8]) -> std::io::Result<()> {
    let length = file.metadata()?.len();
    file.write_all(bytes).inspect_err(|_| {
        let _ = file.set_len(length);
    })
}

/// Seconds since 1970.
pub(crate) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::Scratch;

    fn record(step: u64, loss: f64) -> Record {
        Record { step, epoch: 1, time: 1.5e9, values: vec![("train/loss".into(), loss), ("rate".into(), 0.1)] }
    }

    fn events(folder: &Path) -> Vec<PathBuf> {
        let all = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
        all.filter(|p| p.to_string_lossy().contains("tfevents")).collect()
    }

    #[test]
    fn records_come_back_with_odd_numbers() {
        let scratch = Scratch::new("log");
        let mut log = Log::open(&scratch.0, 0).unwrap();
        let records = [record(1, 0.1 + 0.2), record(2, f64::INFINITY), record(3, f64::NEG_INFINITY)];
        for r in &records {
            log.append(r).unwrap();
        }
        log.sync().unwrap();
        assert_eq!(read_metrics(scratch.0.join("metrics.jsonl")).unwrap(), records);
    }

    #[test]
    fn torn_line_and_lines_after_the_checkpoint_are_dropped() {
        let scratch = Scratch::new("torn");
        let path = scratch.0.join("metrics.jsonl");
        let mut log = Log::open(&scratch.0, 0).unwrap();
        for step in 1..=5 {
            log.append(&record(step, 1.0 / step as f64)).unwrap();
        }
        drop(log);
        let whole = std::fs::read(&path).unwrap();
        let mut torn = whole.clone();
        torn.extend(b"{\"step\":6,\"epo");
        std::fs::write(&path, &torn).unwrap();
        assert_eq!(read_metrics(&path).unwrap().len(), 5);

        let mut log = Log::open(&scratch.0, 3).unwrap();
        log.append(&record(4, 0.25)).unwrap();
        log.append(&record(5, 0.2)).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), whole, "resumed equals unbroken");
        let files = events(&scratch.0);
        assert_eq!(files.len(), 1);
        let expected: Vec<u8> = std::iter::once(tensorboard::header(1.5e9))
            .chain((1..=5).map(|step| record(step, 1.0 / step as f64).to_event()))
            .flatten()
            .collect();
        assert_eq!(std::fs::read(&files[0]).unwrap(), expected);
    }

    #[test]
    fn foreign_line_is_an_error_with_its_number() {
        let scratch = Scratch::new("foreign");
        let path = scratch.0.join("metrics.jsonl");
        std::fs::write(&path, "{\"step\":1,\"epoch\":1,\"time\":0}\nnonsense\n{\"step\":2,\"epoch\":1,\"time\":0}\n")
            .unwrap();
        let error = read_metrics(&path).unwrap_err().to_string();
        assert!(error.contains("metrics.jsonl: line 2 is not a metrics record"), "{error}");
        std::fs::write(&path, "{\"step\":1,\"epoch\":1,\"time\":0,\"a\":[1]}\n").unwrap();
        assert!(read_metrics(&path).is_err());
    }
}
