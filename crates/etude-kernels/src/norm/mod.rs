//! Layer normalisation (Ba et al., 2016) and batch normalisation (Ioffe and Szegedy, 2015), forward and backward.

mod batch;
mod layer;
mod runs;
#[cfg(test)]
mod tests;

pub use batch::{batch_norm_backward, batch_norm_statistics};
pub(crate) use batch::{batch_norm_backward_body, batch_norm_statistics_body};
pub use layer::{layer_norm_backward, layer_norm_statistics};
pub(crate) use layer::{layer_norm_backward_body, layer_norm_statistics_body};

use crate::threads::SendPointer;

/// Elements a task handles at least, where there are that many.
const TASK: usize = 1 << 14;

/// Elements `start..start + length` of an output that several tasks write.
///
/// # Safety
/// They must lie inside the output, and nobody else may use them while the slice lives.
unsafe fn part<'a, T>(base: &SendPointer<T>, start: usize, length: usize) -> &'a mut [T] {
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts_mut(base.at(start), length) }
}
