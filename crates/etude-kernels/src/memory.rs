//! Aligned, recycled storage. Dropped buffers go to a bounded pool, so that a training step that runs again finds the
//! same pages already mapped.

use crate::Element;
use crate::lines::{Line, Lines};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Untyped storage, aligned to 64 bytes. Viewed as a slice of any [`Element`].
pub struct Buffer {
    storage: Storage,
    bytes: usize,
}

enum Storage {
    Own(Lines),
    Part(Part),
}

impl Buffer {
    /// A buffer of `bytes` zero bytes.
    pub fn zeroed(bytes: usize) -> Buffer {
        Buffer { storage: Storage::Own(Lines::zeroed(bytes.div_ceil(64))), bytes }
    }

    /// A buffer of `bytes` bytes with unspecified (but initialised) contents, from the pool where it has one that fits.
    pub fn recycled(bytes: usize) -> Buffer {
        let wanted = bytes.div_ceil(64);
        let found = POOL.lock().unwrap_or_else(|poison| poison.into_inner()).take(wanted, wanted / 8);
        Buffer { storage: Storage::Own(found.unwrap_or_else(|| Lines::zeroed(wanted))), bytes }
    }

    /// As [`Buffer::recycled`], for the largest buffer of a computation: it takes one of up to twice the size, and where
    /// there is none, a smaller one that was in its place before goes back to the system first.
    fn recycled_arena(bytes: usize) -> Buffer {
        let wanted = bytes.div_ceil(64);
        let mut pool = POOL.lock().unwrap_or_else(|poison| poison.into_inner());
        let found = pool.take(wanted, wanted);
        let outgrown = if found.is_none() { pool.take(wanted / 2, wanted / 2) } else { None };
        drop(pool);
        drop(outgrown);
        Buffer { storage: Storage::Own(found.unwrap_or_else(|| Lines::zeroed(wanted))), bytes }
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

    /// The contents as a slice of `T`. Trailing bytes that do not fill an element are left out.
    pub fn as_slice<T: Element>(&self) -> &[T] {
        let lines = match &self.storage {
            Storage::Own(lines) => &lines[..],
            Storage::Part(part) => part.lines(),
        };
        let all: &[T] = bytemuck::cast_slice(lines);
        &all[..self.bytes / size_of::<T>()]
    }

    /// The contents as a mutable slice of `T`.
    pub fn as_mut_slice<T: Element>(&mut self) -> &mut [T] {
        let count = self.bytes / size_of::<T>();
        let lines = match &mut self.storage {
            Storage::Own(lines) => &mut lines[..],
            Storage::Part(part) => part.lines_mut(),
        };
        let all: &mut [T] = bytemuck::cast_slice_mut(lines);
        &mut all[..count]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let Storage::Own(lines) = &mut self.storage else { return };
        let lines = std::mem::take(lines);
        if !lines.is_empty() {
            // The lock is released before a buffer the pool does not want is freed.
            let refused = POOL.lock().unwrap_or_else(|poison| poison.into_inner()).put(lines);
            drop(refused);
        }
    }
}

/// One block of memory from which buffers are cut at given places, so that those that do not live at the same time can
/// share it.
pub struct Arena {
    block: Arc<Block>,
}

struct Block {
    /// Where the lines of `storage` begin, and how many there are.
    base: *mut Line,
    lines: usize,
    /// The lines that living buffers hold, `first..end` each.
    held: Mutex<Vec<(usize, usize)>>,
    /// Never touched but through `base`; goes back to the pool with the last buffer.
    _storage: Buffer,
}

// SAFETY: `base` points into `_storage`, which any thread may own; who reads and writes which lines is `held`'s to say.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

/// Lines `first..end` of a block, this buffer's alone while it lives.
struct Part {
    block: Arc<Block>,
    first: usize,
    end: usize,
}

impl Arena {
    /// An arena of `bytes` bytes.
    pub fn new(bytes: usize) -> Arena {
        let mut storage = Buffer::recycled_arena(bytes);
        let Storage::Own(lines) = &mut storage.storage else { unreachable!("recycled buffers own their lines") };
        let (base, lines) = (lines.as_mut_ptr(), lines.len());
        Arena { block: Arc::new(Block { base, lines, held: Mutex::default(), _storage: storage }) }
    }

    /// The buffer of `bytes` bytes at byte `offset`, a multiple of 64, with unspecified (but initialised) contents.
    ///
    /// # Panics
    /// If it does not lie inside the arena, or a living buffer has some of its bytes.
    pub fn take(&self, offset: usize, bytes: usize) -> Buffer {
        let (first, end) = (offset / 64, offset / 64 + bytes.div_ceil(64));
        assert!(offset.is_multiple_of(64) && end <= self.block.lines, "arena: {bytes} bytes at {offset}");
        let mut held = self.block.held.lock().unwrap_or_else(|poison| poison.into_inner());
        let taken = held.iter().any(|&(from, to)| first < to && from < end);
        assert!(!taken, "arena: {bytes} bytes at {offset} are in use");
        held.push((first, end));
        drop(held);
        Buffer { storage: Storage::Part(Part { block: self.block.clone(), first, end }), bytes }
    }
}

impl Part {
    fn lines(&self) -> &[Line] {
        // SAFETY: the lines lie inside the block (checked by `take`), are initialised, and no other buffer has them.
        unsafe { std::slice::from_raw_parts(self.block.base.add(self.first), self.end - self.first) }
    }

    fn lines_mut(&mut self) -> &mut [Line] {
        // SAFETY: as above; this buffer is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.block.base.add(self.first), self.end - self.first) }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut held = self.block.held.lock().unwrap_or_else(|poison| poison.into_inner());
        if let Some(at) = held.iter().rposition(|&range| range == (self.first, self.end)) {
            held.swap_remove(at);
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
    free: BTreeMap<usize, Vec<Lines>>,
    lines: usize,
}

/// What the pool may hold back from the system: 256 MiB.
const POOL_LINES: usize = (256 << 20) / 64;

static POOL: Mutex<Pool> = Mutex::new(Pool { free: BTreeMap::new(), lines: 0 });

impl Pool {
    /// The smallest free buffer of at least `wanted` lines and at most `spare` more.
    fn take(&mut self, wanted: usize, spare: usize) -> Option<Lines> {
        let (&capacity, list) = self.free.range_mut(wanted..=wanted + spare).next()?;
        let lines = list.pop()?;
        if list.is_empty() {
            self.free.remove(&capacity);
        }
        self.lines -= capacity;
        Some(lines)
    }

    /// Keeps `lines` for later, or hands it back when the pool is full.
    fn put(&mut self, lines: Lines) -> Option<Lines> {
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
    fn an_arena_gives_each_byte_to_one_buffer_at_a_time() {
        let arena = Arena::new(1000);
        let mut a = arena.take(0, 100);
        let mut b = arena.take(128, 200);
        a.as_mut_slice::<u8>().fill(1);
        b.as_mut_slice::<u8>().fill(2);
        assert!(a.as_slice::<u8>().iter().all(|&v| v == 1) && b.as_slice::<f32>().len() == 50);
        let panics = |offset, bytes| {
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(arena.take(offset, bytes)))).is_err()
        };
        assert!(panics(64, 64) && panics(192, 8) && panics(0, 1000) && panics(960, 128) && panics(32, 8));
        drop(a);
        let whole = arena.take(0, 128);
        assert!(panics(64, 1));
        // Buffers outlive the arena's own handle.
        drop(arena);
        drop(whole);
        assert!(b.as_slice::<u8>().iter().all(|&v| v == 2));
    }

    #[test]
    fn large_buffers_are_zero_and_whole() {
        let mut buffer = Buffer::zeroed((5 << 20) + 3);
        assert!(buffer.as_slice::<u8>().iter().all(|&b| b == 0));
        buffer.as_mut_slice::<u8>().fill(7);
        assert!(buffer.as_slice::<u8>().iter().all(|&b| b == 7) && buffer.bytes() == (5 << 20) + 3);
    }

    #[test]
    fn zeroed_is_zero_even_after_recycling() {
        let mut first = Buffer::recycled(4096);
        first.as_mut_slice::<u8>().fill(7);
        drop(first);
        assert!(Buffer::zeroed(4096).as_slice::<u8>().iter().all(|&b| b == 0));
    }
}
