//! Sequences and language.

pub mod music;
mod ngram;
mod score;
