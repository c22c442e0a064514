//! What the machine can do at best, measured on the spot: arithmetic in registers, and sweeps over memory of every level.
//! Figures of kernels mean something only as a share of these.

use crate::Buffer;
use crate::cpu::{self, OPERATIONS_PER_ROUND, Vector, Work, caches, multiply_adds};
use crate::threads::{parallel, parallel_chunks, threads};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// How fast a sweep over arrays that fit into one level of memory is, with all threads, in bytes a second.
#[derive(Clone, Copy, Debug)]
pub struct Level {
    /// `L2`, `L3` or `memory`.
    pub name: &'static str,
    /// What all arrays of the sweep take together.
    pub bytes: usize,
    /// `a ← b`: bytes read and written.
    pub copy: f64,
    /// `a ← b + s·c`: bytes read and written.
    pub triad: f64,
}

/// What a kernel has to do, whatever way it goes about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cost {
    /// Arithmetic operations; a multiply-add is two. 0 where memory is all that counts.
    pub operations: u64,
    /// Bytes read and written, each once.
    pub bytes: u64,
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Cost) {
        self.operations += other.operations;
        self.bytes += other.bytes;
    }
}

/// The machine's roof.
#[derive(Clone, Debug)]
pub struct Peak {
    /// How many threads [`Peak::arithmetic`] and the levels used.
    pub threads: usize,
    /// f32 operations a second of one thread; a multiply-add is two.
    pub arithmetic_of_one: f64,
    /// f32 operations a second of all threads.
    pub arithmetic: f64,
    /// From the fastest level to the slowest.
    pub levels: Vec<Level>,
}

impl Peak {
    /// Measures for about a fifth of a second. Each figure is the best of several tries: a peak is what nothing disturbed.
    pub fn measure() -> Peak {
        const ROUNDS: usize = 200_000;
        let rate = |tasks: usize| {
            let work = || parallel(tasks, |_| _ = black_box(multiply_adds(black_box(ROUNDS))));
            (tasks * ROUNDS * OPERATIONS_PER_ROUND) as f64 / best(Duration::from_millis(20), work)
        };
        let (arithmetic_of_one, arithmetic) = (rate(1), rate(threads()));
        let (l2, l3) = (caches::size(2).unwrap_or(1 << 19), caches::last_level());
        // Two thirds of the second level in all, half of the third, and well beyond the third.
        let sizes = [("L2", l2 * threads() * 2 / 3), ("L3", l3 / 2), ("memory", 4 * l3.max(1 << 24))];
        let levels = sizes.map(|(name, bytes)| level(name, bytes)).into();
        Peak { threads: threads(), arithmetic_of_one, arithmetic, levels }
    }

    /// Bytes a second for a sweep over `bytes` that were used just before: those of the level that holds them.
    pub fn bandwidth(&self, bytes: f64) -> f64 {
        let level = self.levels.iter().find(|level| bytes <= level.bytes as f64).or(self.levels.last());
        level.map_or(f64::INFINITY, |level| level.copy.max(level.triad))
    }

    /// The least seconds that a kernel can take: its arithmetic at the peak or its bytes at the bandwidth.
    pub fn floor(&self, cost: Cost) -> f64 {
        let bytes = cost.bytes as f64;
        (cost.operations as f64 / self.arithmetic).max(bytes / self.bandwidth(bytes))
    }
}

/// The shortest of the times that `work` takes, tried for about `budget` but at least three times.
fn best(budget: Duration, mut work: impl FnMut()) -> f64 {
    work();
    let (start, mut shortest, mut tries) = (Instant::now(), f64::INFINITY, 0);
    while tries < 3 || start.elapsed() < budget {
        let began = Instant::now();
        work();
        shortest = shortest.min(began.elapsed().as_secs_f64());
        tries += 1;
    }
    shortest
}

/// Sweeps over three arrays of `bytes` together. Small sweeps are repeated within one task, so that handing out tasks
/// does not count.
fn level(name: &'static str, bytes: usize) -> Level {
    let count = bytes / 12;
    // In storage that begins at a line of the caches, as a tensor's does.
    let mut arrays = [0f32, 1.0, 2.0].map(|value| Buffer::from_slice(&vec![value; count]));
    let [a, b, c] = &mut arrays;
    let (a, b, c) = (a.as_mut_slice::<f32>(), b.as_slice::<f32>(), c.as_slice::<f32>());
    let chunk = count.div_ceil(threads()).max(1);
    let repeats = ((64 << 20) / bytes.max(1)).clamp(1, 100);
    let budget = Duration::from_millis(20);
    let mut sweep = |touched: usize, work: fn(&mut [f32], &[f32], &[f32])| {
        let time = best(budget, || {
            parallel_chunks(&mut *a, chunk, |index, part| {
                let range = index * chunk..index * chunk + part.len();
                for _ in 0..repeats {
                    work(black_box(part), &b[range.clone()], &c[range.clone()]);
                }
            });
        });
        (touched * 4 * count * repeats) as f64 / time
    };
    let copy = sweep(2, |a, b, _| a.copy_from_slice(b));
    let triad = sweep(3, triad);
    Level { name, bytes, copy, triad }
}

/// `a ← b + s·c`.
fn triad(a: &mut [f32], b: &[f32], c: &[f32]) {
    struct Triad<'a>(&'a mut [f32], &'a [f32], &'a [f32]);
    // SAFETY: inlined, as required.
    unsafe impl Work<f32> for Triad<'_> {
        #[inline(always)]
        unsafe fn run<V: Vector<f32>>(self) {
            let Triad(a, b, c) = self;
            let whole = a.len().min(b.len()).min(c.len()) / V::LANES * V::LANES;
            // SAFETY: every address lies `LANES` or more before the end of its slice, and `V`'s instruction set is there.
            unsafe {
                let factor = V::splat(3.0);
                for at in (0..whole).step_by(V::LANES) {
                    let sum = V::load(c.as_ptr().add(at)).mul_add(factor, V::load(b.as_ptr().add(at)));
                    sum.store(a.as_mut_ptr().add(at));
                }
            }
            for at in whole..a.len() {
                a[at] = b[at] + 3.0 * c[at];
            }
        }
    }
    // SAFETY: the work holds slices, no pointers of its own.
    unsafe { cpu::run(Triad(a, b, c)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triad_computes_what_it_says_at_odd_sizes() {
        for count in [0, 1, 7, 16, 33] {
            let b: Vec<f32> = (0..count).map(|i| i as f32).collect();
            let c: Vec<f32> = (0..count).map(|i| (i * i) as f32).collect();
            let mut a = vec![0.0; count];
            triad(&mut a, &b, &c);
            assert!((0..count).all(|i| a[i] == b[i] + 3.0 * c[i]));
        }
    }

    #[test]
    fn a_floor_is_the_slower_of_arithmetic_and_memory() {
        let near = Level { name: "L2", bytes: 1000, copy: 50.0, triad: 40.0 };
        let far = Level { name: "memory", bytes: 100_000, copy: 4.0, triad: 5.0 };
        let peak = Peak { threads: 2, arithmetic_of_one: 5.0, arithmetic: 10.0, levels: vec![near, far] };
        assert_eq!(peak.floor(Cost { operations: 100, bytes: 10 }), 10.0);
        assert_eq!(peak.floor(Cost { operations: 100, bytes: 1000 }), 20.0);
        assert_eq!(peak.floor(Cost { operations: 100, bytes: 1001 }), 1001.0 / 5.0);
        assert_eq!(peak.bandwidth(1e9), 5.0);
    }
}
