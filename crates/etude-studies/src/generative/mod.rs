//! Models that make pictures.

pub mod ddpm;
mod digits;
pub mod gan;
mod judge;
pub mod vae;
