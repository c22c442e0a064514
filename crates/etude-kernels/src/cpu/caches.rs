//! What the system says of the first core's caches; only Linux does.

use std::sync::OnceLock;

/// The size of the unified cache of this level, in bytes.
pub(crate) fn size(level: usize) -> Option<usize> {
    property(level, "Unified", "size")?.strip_suffix('K')?.parse::<usize>().ok()?.checked_mul(1024)
}

/// The size of the last-level cache, in bytes: 8 MiB unless the system says otherwise.
pub(crate) fn last_level() -> usize {
    static SIZE: OnceLock<usize> = OnceLock::new();
    *SIZE.get_or_init(|| size(3).unwrap_or(8 << 20))
}

/// Whether so many bytes of results had better be written past the caches: these have no room for them beside what they are
/// made of and what is made of them next.
pub(crate) fn are_outgrown_by(bytes: usize) -> bool {
    3 * bytes > if cfg!(test) { 1 << 17 } else { last_level() }
}

/// Bytes of a line.
pub(crate) const LINE: usize = 64;
/// Bytes after which lines fall on the same set of the first-level cache.
const SAME_SET: usize = 4096;

/// Whether the lines at the beginnings of `count` rows, `apart` bytes from each other, stay in the first-level cache
/// together: those that share a set are no more than it holds.
pub(crate) fn first_level_holds(count: usize, apart: usize) -> bool {
    // The distance repeats after so many rows: the powers of two that it lacks to a multiple of `SAME_SET`.
    let sets = (SAME_SET >> apart.trailing_zeros().min(SAME_SET.trailing_zeros())).min(SAME_SET / LINE);
    count <= sets.saturating_mul(first_level_ways())
}

/// How many lines a set of the first-level cache holds: 8 unless the system says otherwise.
fn first_level_ways() -> usize {
    static WAYS: OnceLock<usize> = OnceLock::new();
    *WAYS.get_or_init(|| property(1, "Data", "ways_of_associativity").and_then(|ways| ways.parse().ok()).unwrap_or(8))
}

fn property(level: usize, kind: &str, name: &str) -> Option<String> {
    let folder = std::path::Path::new("/sys/devices/system/cpu/cpu0/cache");
    (0..8).map(|index| folder.join(format!("index{index}"))).find_map(|cache| {
        let read = |name| std::fs::read_to_string(cache.join(name)).ok().map(|text: String| text.trim().to_string());
        let wanted = read("level")? == level.to_string() && read("type")? == kind;
        read(name).filter(|_| wanted)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_share_sets_are_counted() {
        let ways = first_level_ways();
        // Bytes apart, and how many different sets rows begin in.
        for (apart, sets) in
            [(4096, 1), (8192, 1), (2048, 2), (3072, 4), (768, 16), (64, 64), (4, 64), (4100, 64), (0, 1)]
        {
            assert!(first_level_holds(sets * ways, apart), "{apart}");
            assert!(!first_level_holds(sets * ways + 1, apart), "{apart}");
        }
    }
}
