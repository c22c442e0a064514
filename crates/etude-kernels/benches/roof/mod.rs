//! What a kernel reached of the roof: the floor (`Peak::floor`, of the peak and bandwidths measured in this run with as many
//! threads) over the median time, on one thread and on all. Clocks change within seconds, so the arithmetic peak is measured
//! anew before each figure.

use etude_kernels::peak::Level;
use etude_kernels::threads::{parallel, set_threads, threads};
use etude_kernels::{Buffer, Cost, Peak, cpu};
use std::hint::black_box;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

/// The roofs of one thread and, unless `one`, of all.
pub fn measure(one: bool) -> Vec<Peak> {
    let counts = if one || threads() == 1 { vec![1] } else { vec![1, threads()] };
    let peaks: Vec<Peak> = counts.into_iter().map(|count| with_threads(count, Peak::measure)).collect();
    for peak in &peaks {
        let level = |level: &Level| format!("{} {:.0}", level.name, level.copy.max(level.triad) / 1e9);
        let levels = peak.levels.iter().map(level).collect::<Vec<_>>().join(", ");
        let (threads, arithmetic) = (peak.threads, peak.arithmetic / 1e9);
        println!(
            "- {threads} thread{}, {}: {arithmetic:.0} GFLOP/s; GB/s: {levels}",
            if threads > 1 { "s" } else { "" },
            cpu::instruction_set()
        );
    }
    println!();
    peaks
}

/// Numbers in storage of the engine's own, which begins at a line of the caches as every tensor's does.
pub struct Values(Buffer);

/// So many numbers between −2 and 2.
pub fn values(count: usize) -> Values {
    Values(Buffer::from_slice(&(0..count).map(|i| (i % 4001) as f32 * 1e-3 - 2.0).collect::<Vec<f32>>()))
}

impl Deref for Values {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        self.0.as_slice()
    }
}

impl DerefMut for Values {
    fn deref_mut(&mut self) -> &mut [f32] {
        self.0.as_mut_slice()
    }
}

/// The cell of a table: the share of each roof that `work` reached.
pub fn shares(peaks: &[Peak], cost: Cost, mut work: impl FnMut()) -> String {
    let share = |peak: &Peak| {
        with_threads(peak.threads, || {
            let now = Peak { arithmetic: arithmetic(peak.threads), ..peak.clone() };
            format!("{:.0} %", 100.0 * now.floor(cost) / median(&mut work))
        })
    };
    peaks.iter().map(share).collect::<Vec<_>>().join(", ")
}

/// Multiply-adds in registers on every thread: operations a second.
fn arithmetic(threads: usize) -> f64 {
    const ROUNDS: usize = 1 << 15;
    let work = || parallel(threads, |_| _ = black_box(cpu::multiply_adds(black_box(ROUNDS))));
    (threads * ROUNDS * cpu::OPERATIONS_PER_ROUND) as f64 / median_within(Duration::from_millis(50), work)
}

fn with_threads<R>(count: usize, work: impl FnOnce() -> R) -> R {
    set_threads(count);
    let result = work();
    set_threads(0);
    result
}

/// The median time of calls for a quarter of a second (as `bench/products.py` takes), at least three, in seconds.
pub fn median(work: impl FnMut()) -> f64 {
    median_within(Duration::from_millis(250), work)
}

fn median_within(window: Duration, mut work: impl FnMut()) -> f64 {
    work();
    let (start, mut times) = (Instant::now(), vec![]);
    while times.len() < 3 || start.elapsed() < window {
        let began = Instant::now();
        work();
        times.push(began.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
