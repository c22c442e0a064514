//! Layers: each a struct with its parameters, built by `Layer::new(sizes).option(…).init()`.

mod linear;

pub use linear::{Linear, LinearConfig};
