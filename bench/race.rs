//! The timing that the Rust peers share, in evaluation.

use std::time::Instant;

/// Times `step`, which evaluates the model once: two to warm up, then about two seconds' worth; prints the line.
pub fn race(peer: &str, name: &str, batch: usize, mut step: impl FnMut() -> Vec<f32>) {
    let mut output = Vec::new();
    let mut timed = || {
        let start = Instant::now();
        output = step();
        start.elapsed().as_secs_f64()
    };
    timed();
    let probe = timed();
    let mut times: Vec<f64> = (0..((2.0 / probe) as usize).clamp(5, 300)).map(|_| timed()).collect();
    times.sort_by(f64::total_cmp);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<u64>().ok());
    let probe: Vec<f32> = (0..16).map(|i| output[i * output.len() / 16]).collect();
    println!(
        "{{\"peer\": \"{peer}\", \"workload\": \"{name}\", \"batch\": {batch}, \"median_ms\": {:.3}, \"min_ms\": {:.3}, \"peak_rss_mb\": {}, \"probe\": {probe:?}}}",
        times[times.len() / 2] * 1e3,
        times[0] * 1e3,
        peak.unwrap_or(0) / 1024
    );
}
