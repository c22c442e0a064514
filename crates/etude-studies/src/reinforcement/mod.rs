//! Learning by acting: an environment, a memory, and what learns from them.

pub mod flappy;
