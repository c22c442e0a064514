//! What models are made of: modules and parameters, layers, initialisers, losses, optimisers and schedules.

#![forbid(unsafe_code)]

// The derive macro names this crate by its full path, also inside it.
extern crate self as etude_nn;

mod compiled;
pub mod decode;
pub mod init;
mod keep;
pub mod layers;
pub mod loss;
mod module;
pub mod optim;
mod param;
pub mod schedule;
mod summary;
mod watch;
mod weights;

pub use compiled::Compiled;
pub use etude_derive::Module;
pub use keep::{Keep, Kept};
pub use layers::*;
pub use module::{Entry, Forward, Label, Module, Walk};
pub use param::Param;
pub use summary::{LayerRow, Summary};
pub use weights::{
    LoadOptions, from_bytes as tensors_from_bytes, half_to_bytes, read_tensors, to_bytes as tensors_to_bytes,
    write_tensors,
};
