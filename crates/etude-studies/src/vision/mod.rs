//! Pictures: recognising, finding and drawing.

pub mod lenet;
pub mod mlp;
