//! Sequences and language.

pub mod gpt;
pub mod music;
mod ngram;
mod text;
