//! The error of everything here: where, what, and what to do about it, in one line.

use std::fmt;
use std::path::Path;

/// A `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, as one line: `place: problem; advice`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Where: a path, a data set's name, a part of the program.
    pub place: String,
    /// What is wrong there.
    pub problem: String,
    /// What the reader can do; may be empty.
    pub advice: String,
}

impl Error {
    /// An error at `place`.
    pub fn new(place: impl Into<String>, problem: impl Into<String>, advice: impl Into<String>) -> Error {
        Error { place: place.into(), problem: problem.into(), advice: advice.into() }
    }

    /// An error of the operating system at `path`.
    pub fn io(path: &Path, error: &std::io::Error) -> Error {
        let advice = match error.kind() {
            std::io::ErrorKind::NotFound => "check the path",
            std::io::ErrorKind::PermissionDenied => "check the permissions",
            _ => "",
        };
        Error::new(path.display().to_string(), error.to_string(), advice)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        // Names out of hostile files end up in here: one line stays one line.
        let one_line = |text: &str| text.replace(|c: char| c.is_control(), "?");
        write!(f, "{}: {}", one_line(&self.place), one_line(&self.problem))?;
        if !self.advice.is_empty() {
            write!(f, "; {}", one_line(&self.advice))?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line() {
        let error = Error::new("a\nb", "broken", "mend it");
        assert_eq!(error.to_string(), "a?b: broken; mend it");
        assert_eq!(Error::new("a", "broken", "").to_string(), "a: broken");
    }
}
