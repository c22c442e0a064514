//! Run folders: everything one training leaves behind, written so that a kill loses only the work since the last
//! checkpoint.
//!
//! ```text
//! runs/lenet/0007/
//!   run.json          study, number, seed, status
//!   config.toml       every knob
//!   metrics.jsonl     one object a line
//!   events.out.tfevents.…   the same numbers for TensorBoard
//!   checkpoints/step-00000110/, best/
//!   media/            pictures, animations, sound and text
//!   frames/samples/   one picture a moment, in order: what animations are made of
//!   report.json, report.html
//! ```

mod checkpoint;
mod curves;
mod html;
mod log;
pub(crate) mod numbers;
mod state;
mod tensorboard;

pub use checkpoint::Checkpoint;
pub use log::{Record, read_metrics};
pub use state::{STATE_VERSION, State};

use crate::error::{Error, Result};
use crate::files;
use crate::report::Report;
use crate::units;
use checkpoint::{Checkpoints, plain_name};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Started; a run that was killed keeps this status.
    Running,
    /// Stopped by Ctrl-C after a checkpoint.
    Interrupted,
    /// Done, with a report.
    Finished,
}

/// `run.json`: what a run is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// Layout of this file, 1.
    pub version: u32,
    /// Name of the étude.
    pub study: String,
    /// The run's number within the étude.
    pub number: u32,
    /// Its seed.
    pub seed: u64,
    /// How it stands.
    pub status: Status,
    /// Start, in seconds since 1970.
    pub started: f64,
    /// Whether it is the short form, `--quick`.
    #[serde(default)]
    pub quick: bool,
    /// Seconds of training over all sittings, once it stopped.
    #[serde(default)]
    pub seconds: Option<f64>,
    /// The most memory a sitting's process had resident, in bytes, once it stopped and where the system says.
    #[serde(default)]
    pub memory: Option<u64>,
}

/// A run folder to look at: reads only.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
    about: About,
}

impl RunFolder {
    /// Opens the run in the folder `path`.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let file = path.join("run.json");
        if !file.exists() {
            let what = if path.exists() { "not a run folder: it has no run.json" } else { "no such run" };
            return Err(Error::at(path, what).remedy("etude runs lists the runs"));
        }
        let about: About = serde_json::from_str(&files::read_text(&file, 1 << 20)?)
            .map_err(|e| Error::at(&file, format!("damaged: {e}")).remedy("start a new run"))?;
        if about.version != 1 {
            return Err(Error::at(&file, format!("run version {}, this program reads 1", about.version))
                .remedy("use the étude that wrote it, or a newer one"));
        }
        Ok(Self { path, about })
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// The text of `config.toml`.
    pub fn config(&self) -> Result<String> {
        files::read_text(self.path.join("config.toml"), 1 << 24)
    }

    /// Everything logged so far.
    pub fn metrics(&self) -> Result<Vec<Record>> {
        read_metrics(self.path.join("metrics.jsonl"))
    }

    /// The newest checkpoint, if there is one.
    pub fn latest_checkpoint(&self) -> Result<Option<Checkpoint>> {
        self.checkpoints().latest()
    }

    /// The best checkpoint, if one was saved.
    pub fn best_checkpoint(&self) -> Result<Option<Checkpoint>> {
        self.checkpoints().best()
    }

    /// Names of the files in `media/`, in order.
    pub fn media(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path.join("media")).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.retain(|name| plain_name(name));
        names.sort();
        names
    }

    /// The closing report; `None` when the run has not finished.
    pub fn report(&self) -> Result<Option<Report>> {
        let path = self.path.join("report.json");
        if !path.exists() {
            return Ok(None);
        }
        let text = files::read_text(&path, 1 << 26)?;
        let report = serde_json::from_str(&text);
        report.map(Some).map_err(|e| Error::at(&path, format!("damaged: {e}")).remedy("run it again"))
    }

    fn checkpoints(&self) -> Checkpoints {
        Checkpoints::new(self.path.join("checkpoints"))
    }
}

/// All runs below `root` (`root/<study>/<number>`), by study and number. Folders that are no runs are passed over.
pub fn runs(root: impl AsRef<Path>) -> Vec<RunFolder> {
    let folders = |path: &Path| {
        let mut paths: Vec<PathBuf> = fs::read_dir(path).into_iter().flatten().flatten().map(|e| e.path()).collect();
        paths.sort();
        paths
    };
    let studies = folders(root.as_ref());
    studies.iter().flat_map(|study| folders(study)).filter_map(|path| RunFolder::open(path).ok()).collect()
}

/// A run being written. Only one process at a time holds a run.
#[derive(Debug)]
pub struct Run {
    folder: RunFolder,
    log: log::Log,
    keep: usize,
    /// Held for as long as this value lives; the system lets go of it even after `kill -9`.
    _lock: File,
}

impl Run {
    /// Starts a new run of `study` in `root/<study>/<next number>`.
    ///
    /// `config` is the text of `config.toml`. Two processes that start at once get different numbers.
    pub fn create(root: impl AsRef<Path>, study: &str, config: &str, seed: u64, quick: bool) -> Result<Self> {
        if !plain_name(study) {
            return Err(Error::new(format!("`{study}` cannot name a study: letters, digits, `-` and `_` can")));
        }
        let (number, path) = claim_number(&root.as_ref().join(study))?;
        let about = About {
            version: 1,
            study: study.into(),
            number,
            seed,
            status: Status::Running,
            started: log::now(),
            quick,
            seconds: None,
            memory: None,
        };
        let folder = RunFolder { path, about };
        let lock = lock(&folder.path)?;
        files::write_atomic(folder.path.join("config.toml"), config.as_bytes())?;
        files::make_folder(folder.path.join("media"))?;
        // Last: a folder with run.json is a run.
        write_about(&folder)?;
        let log = log::Log::open(&folder.path, 0)?;
        Ok(Self { folder, log, keep: 3, _lock: lock })
    }

    /// Goes on with a run from its newest checkpoint, or from the start when it has none (the second value is then
    /// `None`). What was logged after that checkpoint is dropped; the work is done again.
    pub fn resume(path: impl Into<PathBuf>) -> Result<(Self, Option<(State, Checkpoint)>)> {
        let mut folder = RunFolder::open(path)?;
        let lock = lock(&folder.path)?;
        let checkpoints = folder.checkpoints();
        checkpoints.recover()?;
        files::sweep(&folder.path);
        let found = checkpoints.latest()?;
        let found = found.map(|checkpoint| checkpoint.state().map(|state| (state, checkpoint))).transpose()?;
        let log = log::Log::open(&folder.path, found.as_ref().map_or(0, |(state, _)| state.records))?;
        folder.about.status = Status::Running;
        write_about(&folder)?;
        Ok((Self { folder, log, keep: 3, _lock: lock }, found))
    }

    /// How many of the newest checkpoints stay, besides the best (3 unless set, at least 1).
    #[must_use]
    pub fn keep(mut self, count: usize) -> Self {
        self.keep = count.max(1);
        self
    }

    /// The run as a folder to read.
    pub fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.folder.path
    }

    /// Logs named numbers of one step, such as `[("train/loss", 0.3)]`; names that differ only before the `/` share a
    /// chart. `epoch` counts from 1. Safe against a kill once this returns.
    pub fn log(&mut self, step: u64, epoch: u64, values: &[(&str, f64)]) -> Result<()> {
        let values = values.iter().map(|(name, value)| (name.to_string(), *value)).collect();
        self.log.append(&Record { step, epoch, time: log::now(), values })
    }

    /// Saves a checkpoint: the state and the caller's files (name and bytes), whole or not at all. The state must be
    /// that of the end of its step, after everything of that step was logged.
    pub fn save_checkpoint(&self, state: &State, files: &[(&str, &[u8])]) -> Result<Checkpoint> {
        self.log.sync()?;
        let state = State { records: self.log.count(), ..state.clone() };
        self.folder.checkpoints().save(&state, files, self.keep)
    }

    /// Saves the best checkpoint so far in the place of the one before.
    pub fn save_best(&self, state: &State, files: &[(&str, &[u8])]) -> Result<Checkpoint> {
        let state = State { records: self.log.count(), ..state.clone() };
        self.folder.checkpoints().save_best(&state, files)
    }

    /// Writes a file into `media/`: a picture, sound or text. Returns its path.
    pub fn media(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        write_media(self.path(), name, bytes)
    }

    /// Notes what it took so far: seconds of training over all sittings, and this process's memory.
    pub(crate) fn spent(&mut self, seconds: f64) {
        let about = &mut self.folder.about;
        about.seconds = Some(seconds);
        about.memory = about.memory.max(units::peak_memory());
    }

    /// Notes that the run was stopped after a checkpoint.
    pub fn interrupt(mut self) -> Result<RunFolder> {
        self.close(Status::Interrupted)
    }

    /// Writes `report.json` and `report.html` and closes the run. The report gets the list of what is left in the folder.
    pub fn finish(mut self, report: &mut Report) -> Result<RunFolder> {
        let media = self.folder.media().into_iter().map(|name| format!("media/{name}"));
        report.media = std::iter::once("report.html".to_string()).chain(media).collect();
        let mut text = serde_json::to_string_pretty(report).expect("a report is always JSON");
        text.push('\n');
        files::write_atomic(self.folder.path.join("report.json"), text.as_bytes())?;
        let page = html::page(&self.folder, report)?;
        files::write_atomic(self.folder.path.join("report.html"), page.as_bytes())?;
        self.close(Status::Finished)
    }

    fn close(&mut self, status: Status) -> Result<RunFolder> {
        self.log.sync()?;
        self.folder.about.status = status;
        write_about(&self.folder)?;
        Ok(self.folder.clone())
    }
}

/// Writes a file into `media/` of the run folder `run`.
pub(crate) fn write_media(run: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf> {
    let path = run.join("media").join(plain(name)?);
    files::write_atomic(&path, bytes)?;
    Ok(path)
}

/// `name`, if a file can be called so on every system.
pub(crate) fn plain(name: &str) -> Result<&str> {
    match plain_name(name) {
        true => Ok(name),
        false => Err(Error::new(format!("`{name}` cannot name a file: letters, digits, `.`, `-`, `_` can"))),
    }
}

fn write_about(folder: &RunFolder) -> Result<()> {
    let mut text = serde_json::to_string_pretty(&folder.about).expect("strings and numbers are always JSON");
    text.push('\n');
    files::write_atomic(folder.path.join("run.json"), text.as_bytes())
}

/// Makes the next numbered folder. Making a folder that exists fails, so whoever makes it owns it.
fn claim_number(parent: &Path) -> Result<(u32, PathBuf)> {
    files::make_folder(parent)?;
    let entries = fs::read_dir(parent).map_err(|e| Error::io(parent, "cannot read the folder", e))?;
    let taken = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut number = taken.max().unwrap_or(0);
    loop {
        number = number.checked_add(1).ok_or_else(|| {
            Error::at(parent, "the numbers of runs are used up").remedy("choose another folder with --out")
        })?;
        let path = parent.join(format!("{number:04}"));
        match fs::create_dir(&path) {
            Ok(()) => return Ok((number, path)),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Error::io(path, "cannot make the folder", e)),
        }
    }
}

/// Takes the run for this process.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(".lock");
    let file = File::create(&path).map_err(|e| Error::io(&path, "cannot write", e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Error::at(folder, "another process is writing this run").remedy("wait for it or stop it first"))
        }
        // Some network file systems have no locks; refusing to train there would help nobody.
        Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => Ok(file),
        Err(TryLockError::Error(e)) => Err(Error::io(path, "cannot lock the run", e)),
    }
}
