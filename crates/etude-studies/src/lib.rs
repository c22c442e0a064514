//! The études: named, runnable studies, a file each that teaches a technique: idea, equation, model, run, claim. Parts that
//! are a subject of their own lie in a folder named like the étude.

#![forbid(unsafe_code)]

pub mod common;
pub mod foundations;
pub mod generative;
pub mod reinforcement;
pub mod sequence;
mod study;
pub mod vision;

pub use study::{Etude, Part, Settings, Study, find, studies};
