//! Working memory of kernels: each thread keeps what it used last, so that a call in a loop allocates nothing.

use crate::{Buffer, Float};
use std::cell::RefCell;

/// What a piece of working memory is for; two pieces with different purposes may be held at once.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    /// A packed left side.
    Left,
    /// A packed right side.
    Right,
    /// A copy of the input with its padding.
    Image,
    /// Offsets, rows and tiles too small to matter.
    Small,
    /// Partial sums, or a result before it is rearranged.
    Partial,
    /// A part of a result that goes into something else before the next is made.
    Block,
}

/// The most a thread keeps for one purpose: 4 MiB. What is larger goes back to the buffers' own pool.
const KEPT: usize = 4 << 20;

thread_local! {
    static KEEP: RefCell<[Option<Buffer>; 6]> = const { RefCell::new([const { None }; 6]) };
}

/// Runs `work` with `length` elements of unspecified contents, aligned to 64 bytes.
pub(crate) fn with<T: Float, R>(purpose: Purpose, length: usize, work: impl FnOnce(&mut [T]) -> R) -> R {
    let bytes = length * size_of::<T>();
    let kept = KEEP.with_borrow_mut(|keep| keep[purpose as usize].take());
    let mut buffer = match kept {
        Some(buffer) if buffer.bytes() >= bytes => buffer,
        // Rounded up, so that slowly growing needs do not allocate each time.
        _ => Buffer::recycled(bytes.next_power_of_two().min(bytes + (1 << 20)).max(4096)),
    };
    let result = work(&mut buffer.as_mut_slice::<T>()[..length]);
    if buffer.bytes() <= KEPT {
        KEEP.with_borrow_mut(|keep| keep[purpose as usize] = Some(buffer));
    }
    result
}
