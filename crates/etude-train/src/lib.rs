//! Étude's training room: what happens around the model. Run folders and checkpoints, progress bars, metrics, charts,
//! knobs, reports.
//!
//! [`session`], its user [`trainer`] and [`media`] join models to the rest; every other module knows no tensors: it takes slices, bytes and
//! numbers.

pub mod config;
mod error;
pub mod files;
pub mod interrupt;
pub mod media;
pub mod metrics;
pub mod plot;
pub mod progress;
pub mod report;
pub mod run;
pub mod session;
pub mod trainer;
pub mod units;

pub use error::{Error, Result};
pub use interrupt::interrupted;
pub use media::Media;
pub use report::{Bound, Claim, Report, Table};
pub use run::{Run, RunFolder, State};
pub use session::Session;
pub use trainer::{EarlyStopping, Fitted, Predictions, Trainer, evaluate};
pub use units::{Figure, Style};
