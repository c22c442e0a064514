//! Where the time goes: every step of every plan that runs, and the passes that made the plans, while collecting is on.
//! Behind `ETUDE_TRACE=time` and `etude bench --profile`.

use super::SharedPlan;
use crate::context::switches;
use etude_kernels::{Cost, Peak};
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

static COLLECTING: AtomicBool = AtomicBool::new(false);
static COLLECTED: Mutex<Collected> = Mutex::new(Collected { plans: Vec::new(), phases: Vec::new() });

/// What is noted while plans run: little, so that noting does not show.
struct Collected {
    plans: Vec<Runs>,
    phases: Vec<Phase>,
}

/// How long each step of a plan took, all runs together.
struct Runs {
    plan: SharedPlan,
    runs: u64,
    steps: Vec<Duration>,
}

/// A stage of evaluation or a pass of the compiler.
#[derive(Clone, Debug)]
pub struct Phase {
    /// Such as `capture` or `compile: fuse`.
    pub name: &'static str,
    /// How often it ran.
    pub calls: u64,
    /// How long, all together.
    pub time: Duration,
}

/// All steps of one kind: same kernel, same shapes.
#[derive(Clone, Debug)]
pub struct KernelTime {
    /// The kernel and its shapes.
    pub name: String,
    /// How often it ran.
    pub calls: u64,
    /// How long, all together.
    pub time: Duration,
    /// What one call has to do.
    pub cost: Cost,
}

/// What was collected.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// Those that took the most time first.
    pub kernels: Vec<KernelTime>,
    /// In the order in which they first ran.
    pub phases: Vec<Phase>,
    /// The largest planned peak of the plans that ran, in bytes.
    pub planned_peak: usize,
}

fn lock() -> MutexGuard<'static, Collected> {
    COLLECTED.lock().unwrap_or_else(|poison| poison.into_inner())
}

/// Whether steps are timed.
pub(crate) fn collecting() -> bool {
    switches().trace.time || COLLECTING.load(Ordering::Relaxed)
}

/// Starts collecting times of kernels and of the compiler's passes, in all threads, from nothing.
pub fn start_profile() {
    *lock() = Collected { plans: Vec::new(), phases: Vec::new() };
    COLLECTING.store(true, Ordering::Relaxed);
}

/// Ends collecting and returns what was collected.
pub fn stop_profile() -> Profile {
    COLLECTING.store(false, Ordering::Relaxed);
    let mut collected = lock();
    let plans = std::mem::take(&mut collected.plans);
    let phases = std::mem::take(&mut collected.phases);
    drop(collected);
    let mut kernels: HashMap<String, KernelTime> = HashMap::new();
    for runs in &plans {
        for (step, &time) in runs.plan.steps.iter().zip(&runs.steps) {
            let new = || KernelTime { name: step.title(), calls: 0, time: Duration::ZERO, cost: step.cost() };
            let kernel = kernels.entry(step.title()).or_insert_with(new);
            kernel.calls += runs.runs;
            kernel.time += time;
        }
    }
    let mut kernels: Vec<KernelTime> = kernels.into_values().collect();
    kernels.sort_by(|a, b| b.time.cmp(&a.time).then_with(|| a.name.cmp(&b.name)));
    let planned_peak = plans.iter().map(|runs| runs.plan.peak_bytes).max().unwrap_or(0);
    Profile { kernels, phases, planned_peak }
}

/// The times collected under `ETUDE_TRACE=time` as a table, against the machine's peak; `None` if it is off.
pub fn time_report() -> Option<String> {
    switches().trace.time.then(|| stop_profile().table(&Peak::measure(), 1, usize::MAX))
}

/// Notes one run of `plan`, whose steps took `times`.
pub(crate) fn note_run(plan: &SharedPlan, times: &[Duration]) {
    let mut collected = lock();
    let at = collected.plans.iter().position(|known| Arc::ptr_eq(&known.plan, plan));
    let at = at.unwrap_or_else(|| {
        collected.plans.push(Runs { plan: plan.clone(), runs: 0, steps: vec![Duration::ZERO; plan.steps.len()] });
        collected.plans.len() - 1
    });
    let runs = &mut collected.plans[at];
    runs.runs += 1;
    runs.steps.iter_mut().zip(times).for_each(|(sum, time)| *sum += *time);
}

/// Does `work`, and notes how long it took if anybody wants to know.
pub(crate) fn timed<R>(phase: &'static str, work: impl FnOnce() -> R) -> R {
    if !collecting() {
        return work();
    }
    let start = Instant::now();
    let result = work();
    let time = start.elapsed();
    let mut collected = lock();
    match collected.phases.iter_mut().find(|known| known.name == phase) {
        Some(known) => (known.calls, known.time) = (known.calls + 1, known.time + time),
        None => collected.phases.push(Phase { name: phase, calls: 1, time }),
    }
    result
}

impl KernelTime {
    /// The share of the roof this kernel reaches: the least time its cost can take over the time it took.
    pub fn share(&self, peak: &Peak) -> f64 {
        peak.floor(self.cost) * self.calls as f64 / self.time.as_secs_f64().max(1e-12)
    }
}

impl Profile {
    /// A table of the slowest `most` kernels, and of phases. Times and calls are divided by `steps`, the number of
    /// repetitions of what was run.
    pub fn table(&self, peak: &Peak, steps: u64, most: usize) -> String {
        let steps = steps.max(1) as f64;
        let total: Duration = self.kernels.iter().map(|kernel| kernel.time).sum();
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3 / steps;
        let mut text = format!(
            "peak {:.1} GFLOP/s on {} threads, {:.1} on one;",
            peak.arithmetic / 1e9,
            peak.threads,
            peak.arithmetic_of_one / 1e9
        );
        for level in &peak.levels {
            _ = write!(text, " {} {:.1} GB/s", level.name, level.copy.max(level.triad) / 1e9);
        }
        text += "\n\n       ms   calls   each µs  share  GFLOP/s    GB/s  of roof  kernel\n";
        for kernel in self.kernels.iter().take(most) {
            let seconds = kernel.time.as_secs_f64().max(1e-12);
            let rate = |amount: u64| amount as f64 * kernel.calls as f64 / seconds / 1e9;
            let arithmetic = match kernel.cost.operations {
                0 => "–".into(),
                operations => format!("{:.1}", rate(operations)),
            };
            _ = writeln!(
                text,
                "{:9.3} {:7.0} {:9.1} {:5.1}% {arithmetic:>8} {:7.1} {:7.0}%  {}",
                milliseconds(kernel.time),
                kernel.calls as f64 / steps,
                seconds * 1e6 / kernel.calls.max(1) as f64,
                100.0 * seconds / total.as_secs_f64().max(1e-12),
                rate(kernel.cost.bytes),
                100.0 * kernel.share(peak),
                kernel.name,
            );
        }
        if let Some(rest) = self.kernels.get(most..).filter(|rest| !rest.is_empty()) {
            let time = rest.iter().map(|kernel| kernel.time).sum();
            _ = writeln!(text, "{:9.3} in {} other kernels", milliseconds(time), rest.len());
        }
        _ = writeln!(text, "{:9.3} all kernels\n", milliseconds(total));
        for phase in &self.phases {
            _ = writeln!(text, "{:9.3} {:7} {}", milliseconds(phase.time), phase.calls, phase.name);
        }
        text
    }
}
