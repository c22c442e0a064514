//! Étude's training room: what happens around the model. Run folders and checkpoints, progress bars, metrics, charts,
//! knobs, reports.
//!
//! The modules here know no tensors: they take slices, bytes and numbers. What joins them to models builds on them.

pub mod config;
mod error;
pub mod files;
pub mod interrupt;
pub mod metrics;
pub mod plot;
pub mod progress;
pub mod report;
pub mod run;
pub mod units;

pub use error::{Error, Result};
pub use interrupt::interrupted;
pub use report::{Bound, Claim, Report, Table};
pub use run::{Run, RunFolder, State};
pub use units::{Figure, Style};
