//! Étude's numeric kernels: slices and strides in, slices out. Knows no tensors.
//!
//! Rules of this crate:
//! - results depend on sizes and values, never on the number of threads: work is cut by size, and partial sums are
//!   combined in a fixed order;
//! - this is the one crate with `unsafe` code; each block states its reason, each kernel is tested at odd sizes;
//! - instruction sets are chosen at run time ([`cpu`]); every kernel has a portable form.

#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, unused_imports, unused_mut))] // what serves AVX2 alone

pub mod arg;
pub mod attention;
pub mod conv;
pub mod copy;
pub mod cpu;
pub mod ctc;
pub mod element;
pub mod index;
mod instances;
mod lanes;
mod lines;
pub mod math;
pub mod matmul;
pub mod memory;
pub mod norm;
pub mod patches;
pub mod peak;
pub mod pool;
pub mod random;
pub mod recurrent;
pub mod scan;
pub mod softmax;
pub mod sort;
pub mod threads;
pub mod tile;

pub use element::{DType, Element, Float};
pub use memory::{Arena, Buffer};
pub use peak::{Cost, Peak};
