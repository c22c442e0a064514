//! Étude's benchmarks: the thirteen training steps that the peers run too, and what the machine could do at best.

#![forbid(unsafe_code)]

pub mod measure;
pub mod models;
pub mod workload;

pub use workload::{Setting, Task, WORKLOADS, Workload, find};
