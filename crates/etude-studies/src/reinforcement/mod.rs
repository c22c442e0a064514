//! Learning by acting: an environment, a memory, and what learns from them.

pub mod flappy;
pub mod game;
pub mod memory;
