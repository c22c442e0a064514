//! Étude's benchmarks: the thirteen training steps that the peers run too, two models evaluated, and what the machine
//! could do at best.

#![forbid(unsafe_code)]

pub mod inference;
pub mod measure;
pub mod models;
pub mod scaling;
pub mod workload;

pub use inference::{BATCHES, INFERENCES, Inference, find_inference};
pub use scaling::SCALINGS;
pub use workload::{Setting, Task, WORKLOADS, Workload, find};
