//! Layers: each a struct with its parameters, built by `Layer::new(sizes).option(…).init()`.

pub mod conv;
mod linear;

pub use conv::{Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d};
pub use linear::{Linear, LinearConfig};
