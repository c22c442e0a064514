//! Étude's tensors: recorded lazily, differentiated as a graph, compiled and run as a planned whole.
//!
//! A call on a [`Tensor`] checks shapes and records a node ([`ops`]); [`Tensor::backward`] builds gradients out of the
//! same operations ([`grad`](mod@grad)); reading a value hands the unevaluated graph to the compiler (`compile`), whose
//! plan is kept and used again (`runtime`).

#![forbid(unsafe_code)]

mod compile;
pub mod context;
pub mod error;
pub mod grad;
mod meaning;
mod node;
pub mod operation;
pub mod ops;
pub mod random;
mod recording;
mod runtime;
pub mod shape;
mod tensor;

pub use context::{evaluating, is_recording, is_training, no_grad, training};
pub use error::{Error, Result};
pub use etude_kernels::threads::{set_threads, threads};
pub use etude_kernels::{Buffer, Cost, DType, Element, Peak};
pub use grad::{Gradients, grad};
pub use meaning::by_meaning;
pub use operation::{Kind, Meta, Operation};
pub use ops::attention::AttentionOptions;
pub use ops::conv::ConvOptions;
pub use ops::create::*;
pub use ops::einsum::einsum;
pub use ops::grid::{Outside, Sampling, affine_grid};
pub use ops::index::{embedding, embedding_padded};
pub use ops::pool::PoolOptions;
pub use ops::resize::Interpolation;
pub use ops::spatial::PerAxis;
pub use ops::window::{PadMode, cat, stack};
pub use recording::{Recorded, recorded};
pub use runtime::frozen::Frozen;
pub use runtime::profile::{KernelTime, Phase, Profile, start_profile, stop_profile, time_report};
pub use runtime::state::State;
pub use runtime::trace::{PlanSummary, plan_summary};
pub use shape::{Axes, Shape, Strides, Window};
pub use tensor::Tensor;
