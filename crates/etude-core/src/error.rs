//! What can go wrong with things from outside, and with `backward()`.

use std::fmt;

/// `Result` with Étude's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error with what went wrong, where, and what to do, in one line.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// `backward()` cannot give what was asked; the text names the operation and its line.
    Gradient(String),
    /// A run-time failure inside an operation: an index out of range, a NaN under `ETUDE_CHECK=nan`.
    Execution(String),
    /// Anything about a file, a weight, a knob, the disk.
    Outside(String),
}

impl Error {
    /// An error about something from outside the program, with the text a person reads.
    pub fn outside(text: impl Into<String>) -> Error {
        Error::Outside(text.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Error::Gradient(text) | Error::Execution(text) | Error::Outside(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}
