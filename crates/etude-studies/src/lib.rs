//! The études: one named, runnable study a file. Each file teaches its technique: idea, equation, model, run, claim.

#![forbid(unsafe_code)]

pub mod common;
pub mod foundations;
pub mod generative;
pub mod reinforcement;
pub mod sequence;
mod study;
pub mod vision;

pub use study::{Etude, Settings, Study, find, studies};
