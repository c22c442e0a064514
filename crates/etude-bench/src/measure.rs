//! Timing a step the way the peers time theirs.

use etude::Result;
use etude::core::{Profile, start_profile, stop_profile};
use etude::train::units::peak_memory;
use std::time::Instant;

/// What a step took.
#[derive(Clone, Debug)]
pub struct Timing {
    /// The first step, compiling included.
    pub first_ms: f64,
    /// The median of the timed steps.
    pub median_ms: f64,
    /// The fastest of them.
    pub min_ms: f64,
    /// How many were timed.
    pub steps: usize,
    /// The most memory the process had resident so far, in bytes.
    pub peak_rss: u64,
    /// The first step's profile: the compiler's passes.
    pub first: Profile,
    /// What the plan of a later step holds at once beside parameters, optimiser state and data, in bytes.
    pub planned_peak: usize,
}

/// Two steps to warm up, then `steps`, or as many as take about `seconds`: between 5 and 300.
pub fn measure(mut step: impl FnMut() -> Result<()>, steps: Option<usize>, seconds: f64) -> Result<Timing> {
    let mut timed = || -> Result<f64> {
        let start = Instant::now();
        step()?;
        Ok(start.elapsed().as_secs_f64())
    };
    start_profile();
    let first = timed();
    let first_profile = stop_profile();
    let first = first?;
    start_profile();
    let probe = timed();
    let planned_peak = stop_profile().planned_peak;
    let probe = probe?;
    let steps = steps.unwrap_or(((seconds / probe) as usize).clamp(5, 300)).max(1);
    let mut times = (0..steps).map(|_| timed()).collect::<Result<Vec<f64>>>()?;
    times.sort_by(f64::total_cmp);
    Ok(Timing {
        first_ms: first * 1e3,
        median_ms: times[steps / 2] * 1e3,
        min_ms: times[0] * 1e3,
        steps,
        peak_rss: peak_memory().unwrap_or(0),
        first: first_profile,
        planned_peak,
    })
}

/// Where the time of `steps` steps goes once plans are made, and how many milliseconds one step took, kernels and all.
pub fn profile(mut step: impl FnMut() -> Result<()>, steps: usize) -> Result<(Profile, f64)> {
    step()?;
    step()?;
    start_profile();
    let start = Instant::now();
    let last = (0..steps).try_for_each(|_| step());
    let took = start.elapsed().as_secs_f64() * 1e3 / steps.max(1) as f64;
    let profile = stop_profile();
    last?;
    Ok((profile, took))
}
