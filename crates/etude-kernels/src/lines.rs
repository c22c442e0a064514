//! Blocks of whole cache lines, zero at first. Large ones are mapped from the system in large pages.

use bytemuck::{Pod, Zeroable};
use std::ops::{Deref, DerefMut};

/// One cache line; buffers are whole lines, so every buffer is aligned for any vector load.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line([u8; 64]);

// SAFETY: 64 bytes with no padding, for which every bit pattern, all zeros included, is valid.
unsafe impl Zeroable for Line {}
// SAFETY: as above; `Line` is `Copy`, `repr(C)` and holds no references.
unsafe impl Pod for Line {}

/// A block of lines of its own.
#[derive(Default)]
pub(crate) struct Lines(Kind);

enum Kind {
    Allocated(Vec<Line>),
    #[cfg(target_os = "linux")]
    Mapped(mapped::Mapping),
}

impl Default for Kind {
    fn default() -> Kind {
        Kind::Allocated(Vec::new())
    }
}

impl Lines {
    /// A block of `count` lines of zeros.
    pub(crate) fn zeroed(count: usize) -> Lines {
        #[cfg(target_os = "linux")]
        if count * size_of::<Line>() >= mapped::LARGE
            && let Some(mapping) = mapped::Mapping::new(count)
        {
            return Lines(Kind::Mapped(mapping));
        }
        Lines(Kind::Allocated(bytemuck::allocation::zeroed_vec(count)))
    }
}

impl Deref for Lines {
    type Target = [Line];
    fn deref(&self) -> &[Line] {
        match &self.0 {
            Kind::Allocated(lines) => lines,
            #[cfg(target_os = "linux")]
            Kind::Mapped(mapping) => mapping.lines(),
        }
    }
}

impl DerefMut for Lines {
    fn deref_mut(&mut self) -> &mut [Line] {
        match &mut self.0 {
            Kind::Allocated(lines) => lines,
            #[cfg(target_os = "linux")]
            Kind::Mapped(mapping) => mapping.lines_mut(),
        }
    }
}

/// Memory straight from the system: it is zero without being written, and where it is asked for, the system maps it in
/// pages of 2 MiB, which take a five-hundredth of the faults.
#[cfg(target_os = "linux")]
mod mapped {
    use super::Line;
    use std::ptr::NonNull;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// From this size on blocks are mapped: smaller ones would waste part of a large page.
    pub(super) const LARGE: usize = 2 << 20;
    const PAGE: usize = 4 << 10;
    const LARGE_PAGE: usize = 2 << 20;

    /// Blocks begin at different lines of their first large page, in `COLOURS` steps of an odd number of lines: arrays
    /// that are read and written together would otherwise all fall on the same sets of every cache.
    const COLOURS: usize = 61;
    const STEP: usize = 67;

    pub(super) struct Mapping {
        whole: NonNull<Line>,
        /// Lines before the block's first.
        skipped: usize,
        count: usize,
    }

    // SAFETY: the mapping is memory of its owner's, as that of a `Vec`.
    unsafe impl Send for Mapping {}
    // SAFETY: as above: shared, it is only read.
    unsafe impl Sync for Mapping {}

    impl Mapping {
        /// `count` lines of zeros in large pages; `None` if the system refuses.
        pub(super) fn new(count: usize) -> Option<Mapping> {
            static MADE: AtomicUsize = AtomicUsize::new(0);
            let skipped = MADE.fetch_add(1, Ordering::Relaxed) % COLOURS * STEP;
            let bytes = bytes(skipped + count);
            let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            // SAFETY: a new private mapping, at a place of the system's choice, touches nobody's memory.
            let found = unsafe { libc::mmap(std::ptr::null_mut(), bytes + LARGE_PAGE, access, kind, -1, 0) };
            if found == libc::MAP_FAILED {
                return None;
            }
            let before = (found as usize).next_multiple_of(LARGE_PAGE) - found as usize;
            // SAFETY: `before` is less than a large page, so that start and end lie in the mapping just made, of which the
            // parts outside are given back, and whole pages inside advised; advice changes no contents.
            unsafe {
                let start = found.byte_add(before);
                if before > 0 {
                    libc::munmap(found, before);
                }
                libc::munmap(start.byte_add(bytes), LARGE_PAGE - before);
                libc::madvise(start, bytes, libc::MADV_HUGEPAGE);
                NonNull::new(start.cast()).map(|whole| Mapping { whole, skipped, count })
            }
        }

        fn start(&self) -> *mut Line {
            // SAFETY: the mapping holds `skipped + count` lines.
            unsafe { self.whole.as_ptr().add(self.skipped) }
        }

        pub(super) fn lines(&self) -> &[Line] {
            // SAFETY: the mapping holds `count` lines, which are zero or what was written since, and is borrowed with self.
            unsafe { std::slice::from_raw_parts(self.start(), self.count) }
        }

        pub(super) fn lines_mut(&mut self) -> &mut [Line] {
            // SAFETY: as above, and self is borrowed exclusively.
            unsafe { std::slice::from_raw_parts_mut(self.start(), self.count) }
        }
    }

    impl Drop for Mapping {
        fn drop(&mut self) {
            // SAFETY: the mapping is this value's, and nobody uses it any more.
            unsafe { libc::munmap(self.whole.as_ptr().cast(), bytes(self.skipped + self.count)) };
        }
    }

    /// The bytes of `lines` lines in whole pages.
    fn bytes(lines: usize) -> usize {
        (lines * size_of::<Line>()).next_multiple_of(PAGE)
    }
}
