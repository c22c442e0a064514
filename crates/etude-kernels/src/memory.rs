//! Aligned, recycled storage. Dropped buffers go to a bounded pool, so that a training step that runs again finds the
//! same pages already mapped.

use crate::Element;
use bytemuck::{Pod, Zeroable};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// One cache line; buffers are whole lines, so every buffer is aligned for any vector load.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

// SAFETY: 64 bytes with no padding, for which every bit pattern, all zeros included, is valid.
unsafe impl Zeroable for Line {}
// SAFETY: as above; `Line` is `Copy`, `repr(C)` and holds no references.
unsafe impl Pod for Line {}

/// Untyped storage, aligned to 64 bytes. Viewed as a slice of any [`Element`].
pub struct Buffer {
    lines: Vec<Line>,
    bytes: usize,
}

impl Buffer {
    /// A buffer of `bytes` zero bytes.
    pub fn zeroed(bytes: usize) -> Buffer {
        Buffer { lines: bytemuck::allocation::zeroed_vec(bytes.div_ceil(64)), bytes }
    }

    /// A buffer of `bytes` bytes with unspecified (but initialised) contents, from the pool where it has one that fits.
    pub fn recycled(bytes: usize) -> Buffer {
        let wanted = bytes.div_ceil(64);
        let found = POOL.lock().unwrap_or_else(|poison| poison.into_inner()).take(wanted);
        Buffer { lines: found.unwrap_or_else(|| bytemuck::allocation::zeroed_vec(wanted)), bytes }
    }

    /// A buffer holding a copy of `values`.
    pub fn from_slice<T: Element>(values: &[T]) -> Buffer {
        let mut buffer = Buffer::recycled(size_of_val(values));
        buffer.as_mut_slice::<T>().copy_from_slice(values);
        buffer
    }

    /// Size in bytes, as asked for.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes this a buffer of `bytes` bytes with unspecified contents; its storage is kept where it is large enough.
    pub fn refit(&mut self, bytes: usize) {
        if bytes.div_ceil(64) <= self.lines.len() {
            self.bytes = bytes;
        } else {
            *self = Buffer::recycled(bytes);
        }
    }

    /// The contents as a slice of `T`. Trailing bytes that do not fill an element are left out.
    pub fn as_slice<T: Element>(&self) -> &[T] {
        let all: &[T] = bytemuck::cast_slice(&self.lines);
        &all[..self.bytes / size_of::<T>()]
    }

    /// The contents as a mutable slice of `T`.
    pub fn as_mut_slice<T: Element>(&mut self) -> &mut [T] {
        let count = self.bytes / size_of::<T>();
        let all: &mut [T] = bytemuck::cast_slice_mut(&mut self.lines);
        &mut all[..count]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        if !lines.is_empty() {
            // The lock is released before a buffer the pool does not want is freed.
            let refused = POOL.lock().unwrap_or_else(|poison| poison.into_inner()).put(lines);
            drop(refused);
        }
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Buffer {
        Buffer::from_slice(self.as_slice::<u8>())
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "Buffer({} bytes)", self.bytes)
    }
}

/// Free buffers by capacity in lines.
struct Pool {
    free: BTreeMap<usize, Vec<Vec<Line>>>,
    lines: usize,
}

/// What the pool may hold back from the system: 256 MiB.
const POOL_LINES: usize = (256 << 20) / 64;

static POOL: Mutex<Pool> = Mutex::new(Pool { free: BTreeMap::new(), lines: 0 });

impl Pool {
    /// The smallest free buffer of at least `wanted` lines that wastes at most an eighth of itself.
    fn take(&mut self, wanted: usize) -> Option<Vec<Line>> {
        let (&capacity, list) = self.free.range_mut(wanted..=wanted + wanted / 8).next()?;
        let lines = list.pop()?;
        if list.is_empty() {
            self.free.remove(&capacity);
        }
        self.lines -= capacity;
        Some(lines)
    }

    /// Keeps `lines` for later, or hands it back when the pool is full.
    fn put(&mut self, lines: Vec<Line>) -> Option<Vec<Line>> {
        if self.lines + lines.len() > POOL_LINES {
            return Some(lines);
        }
        self.lines += lines.len();
        self.free.entry(lines.len()).or_default().push(lines);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_it_was_given_at_odd_sizes() {
        for n in [0usize, 1, 3, 17, 64, 65, 1000] {
            let values: Vec<f32> = (0..n).map(|i| i as f32).collect();
            let buffer = Buffer::from_slice(&values);
            assert_eq!(buffer.as_slice::<f32>(), values);
            assert_eq!(buffer.bytes(), 4 * n);
            assert_eq!(buffer.as_slice::<u8>().as_ptr() as usize % 64, 0);
        }
    }

    #[test]
    fn zeroed_is_zero_even_after_recycling() {
        let mut first = Buffer::recycled(4096);
        first.as_mut_slice::<u8>().fill(7);
        drop(first);
        assert!(Buffer::zeroed(4096).as_slice::<u8>().iter().all(|&b| b == 0));
    }
}
