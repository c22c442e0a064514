//! The one error of this crate: what went wrong, where, and what to do about it, on one line.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Something outside the program went wrong: a file, a setting, a disk.
///
/// Prints as one line, `where: what; what to do`.
#[derive(Debug)]
pub struct Error {
    place: Option<PathBuf>,
    what: String,
    remedy: String,
    source: Option<io::Error>,
    interrupted: bool,
}

/// Results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error without a file: what went wrong.
    pub fn new(what: impl Into<String>) -> Self {
        Self { place: None, what: what.into(), remedy: String::new(), source: None, interrupted: false }
    }

    /// An error about a file or folder.
    pub fn at(place: impl AsRef<Path>, what: impl Into<String>) -> Self {
        Self { place: Some(place.as_ref().to_path_buf()), ..Self::new(what) }
    }

    /// Adds what a person can do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    /// Not a failure: the person asked to stop, and everything is saved.
    pub fn interrupted() -> Self {
        Self { interrupted: true, ..Self::new("interrupted") }
    }

    /// Whether this only says that the person asked to stop.
    pub fn is_interrupted(&self) -> bool {
        self.interrupted
    }

    /// The same error once more, without the operating system's own underneath.
    pub(crate) fn repeated(&self) -> Self {
        let Self { place, what, remedy, interrupted, .. } = self;
        Self {
            place: place.clone(),
            what: what.clone(),
            remedy: remedy.clone(),
            source: None,
            interrupted: *interrupted,
        }
    }

    /// An operating-system error while doing `what` at `place`, with the remedy its kind suggests.
    pub fn io(place: impl AsRef<Path>, what: &str, error: io::Error) -> Self {
        let (reason, remedy) = explain(&error);
        let mut made = Self::at(place, format!("{what}: {reason}")).remedy(remedy);
        made.source = Some(error);
        made
    }

    /// The operating system's error underneath, if there is one.
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        self.source.as_ref().map(io::Error::kind)
    }
}

/// The reason in plain words and what to do, for the kinds of failure a person can meet.
fn explain(error: &io::Error) -> (String, &'static str) {
    use io::ErrorKind::*;
    match error.kind() {
        StorageFull => ("the disk is full".into(), "free some space, or choose another folder with --out"),
        QuotaExceeded => ("the disk quota is used up".into(), "free some space, or choose another folder with --out"),
        FileTooLarge => {
            ("the file would be larger than allowed here".into(), "raise the limit, or choose another folder")
        }
        ReadOnlyFilesystem => ("the file system is read-only".into(), "choose another folder with --out"),
        PermissionDenied => ("permission denied".into(), "change the permissions, or choose another folder with --out"),
        NotFound => ("no such file or folder".into(), "check the path"),
        NotADirectory => ("a part of the path is a file, not a folder".into(), "check the path"),
        IsADirectory => ("it is a folder, not a file".into(), "check the path"),
        AlreadyExists => ("it exists already".into(), "remove it, or choose another name"),
        _ => (error.to_string(), ""),
    }
}

impl From<etude_core::Error> for Error {
    fn from(error: etude_core::Error) -> Self {
        Self::new(error.to_string())
    }
}

impl From<etude_data::Error> for Error {
    fn from(error: etude_data::Error) -> Self {
        Self::new(error.to_string())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{}: ", place.display())?;
        }
        f.write_str(&self.what)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|e| e as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_where_what_and_remedy_on_one_line() {
        let error = Error::io("runs/a/0001/state.json", "cannot write", io::ErrorKind::StorageFull.into());
        assert_eq!(
            error.to_string(),
            "runs/a/0001/state.json: cannot write: the disk is full; free some space, or choose another folder with --out"
        );
        assert_eq!(error.io_kind(), Some(io::ErrorKind::StorageFull));
        assert_eq!(Error::new("no such knob").to_string(), "no such knob");
    }
}
