//! `etude bench`: thirteen training steps or two models' evaluation timed, where their time goes, and what the machine
//! can do.

use crate::commands::print;
use clap::Args;
use etude::core::{Peak, Profile, Tensor, set_threads};
use etude::{Error, Result};
use etude_bench::measure::{Timing, measure, profile};
use etude_bench::{BATCHES, INFERENCES, Inference, SCALINGS, Setting, WORKLOADS, Workload, find, find_inference};
use serde_json::{Value, json};
use std::process::{Command, ExitCode, Stdio};

/// Options of `etude bench`.
#[derive(Args)]
pub struct BenchOptions {
    /// The workloads to time; all by default
    #[arg(value_name = "WORKLOAD")]
    workloads: Vec<String>,
    /// Time compiled models in evaluation instead of training steps
    #[arg(long)]
    inference: bool,
    /// Examples of an evaluation; 1 and 16 by default
    #[arg(long, value_name = "N", requires = "inference", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: Option<u32>,
    /// Steps to time; by default as many as take about four seconds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    steps: Option<u32>,
    /// Threads to use; by default what ETUDE_THREADS says, or one a core
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// One JSON object a line, as the scripts of other frameworks print
    #[arg(long)]
    json: bool,
    /// Measure what the machine can do: arithmetic and memory bandwidth
    #[arg(long)]
    roofline: bool,
    /// Measure how a step's time grows with batch size and sequence length; with --profile, kernel by kernel
    #[arg(long, conflicts_with_all = ["inference", "workloads"])]
    scaling: bool,
    /// Show where the time of a step goes: kernels against the machine's peak, and the compiler's passes
    #[arg(long)]
    profile: bool,
}

/// Kernels named in a profile; the others are a few percent at most.
const KERNELS: usize = 24;

pub fn bench(options: &BenchOptions) -> Result<ExitCode> {
    set_threads(options.threads.unwrap_or(0) as usize);
    if options.roofline {
        let peak = Peak::measure();
        print(&if options.json { format!("{}\n", roofline_json(&peak)) } else { roofline(&peak) })?;
        if options.workloads.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
    }
    if options.scaling {
        return if options.profile { scaling_profiles(options.json) } else { scaling(options.json) };
    }
    let jobs = jobs(options)?;
    if !options.json {
        print(&heading())?;
    }
    for &job in &jobs {
        // A process never gives its peak of memory back, so each gets one of its own.
        let line = if jobs.len() == 1 { run(job, options)? } else { run_apart(job, options)? };
        print(&if options.json { format!("{line}\n") } else { row(job, &line) })?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What one example or symbol costs at each size.
fn scaling(json: bool) -> Result<ExitCode> {
    for scaling in SCALINGS {
        let times = scaling.measure()?;
        let each: Vec<f64> = times.iter().zip(scaling.sizes).map(|(time, &size)| time * 1e3 / size as f64).collect();
        if json {
            let line = json!({ "workload": scaling.name, "unit": scaling.unit, "sizes": scaling.sizes, "microseconds_each": each });
            print(&format!("{line}\n"))?;
            continue;
        }
        let mut text =
            format!("{}, by {}\n{:>8} {:>10} {:>12}\n", scaling.name, scaling.unit, "size", "step ms", "µs each");
        for ((size, time), each) in scaling.sizes.iter().zip(&times).zip(&each) {
            text += &format!("{size:>8} {time:>10.3} {each:>12.1}\n");
        }
        print(&format!("{text}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the time of a step goes at each size.
fn scaling_profiles(json: bool) -> Result<ExitCode> {
    const STEPS: usize = 50;
    let peak = Peak::measure();
    for scaling in SCALINGS {
        for &size in scaling.sizes {
            let (profile, milliseconds) = scaling.profile(size, STEPS)?;
            let text = profile.table(&peak, STEPS as u64, KERNELS);
            print(&if json {
                let (name, unit) = (scaling.name, scaling.unit);
                let line =
                    json!({ "workload": name, "unit": unit, "size": size, "step_ms": milliseconds, "text": text });
                format!("{line}\n")
            } else {
                format!("{}, {size} {}: {milliseconds:.3} ms a step\n\n{text}\n", scaling.name, scaling.unit)
            })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Something to time.
#[derive(Clone, Copy)]
enum Job {
    /// A training step.
    Train(&'static Workload),
    /// A compiled model with so many examples.
    Evaluate(&'static Inference, usize),
}

/// What the options ask for.
fn jobs(options: &BenchOptions) -> Result<Vec<Job>> {
    let names = &options.workloads;
    if !options.inference {
        return match names.is_empty() {
            true => Ok(WORKLOADS.iter().map(Job::Train).collect()),
            false => names.iter().map(|name| Ok(Job::Train(find(name)?))).collect(),
        };
    }
    let models: Vec<&Inference> = match names.is_empty() {
        true => INFERENCES.iter().collect(),
        false => names.iter().map(|name| find_inference(name)).collect::<Result<_>>()?,
    };
    let batches = options.batch.map_or(BATCHES.to_vec(), |batch| vec![batch as usize]);
    Ok(models.iter().flat_map(|model| batches.iter().map(|&batch| Job::Evaluate(model, batch))).collect())
}

impl Job {
    fn name(self) -> &'static str {
        match self {
            Job::Train(workload) => workload.name,
            Job::Evaluate(model, _) => model.name,
        }
    }

    fn what(self) -> String {
        match self {
            Job::Train(workload) => workload.what.into(),
            Job::Evaluate(model, batch) => format!("{}, batch {batch}", model.what),
        }
    }

    /// What this program is called with to do this job alone.
    fn arguments(self) -> Vec<String> {
        let mut words = vec!["bench".into(), self.name().into(), "--json".into()];
        if let Job::Evaluate(_, batch) = self {
            words.extend(["--inference".into(), "--batch".into(), batch.to_string()]);
        }
        words
    }

    /// One step, to be repeated. Weights and data are drawn here.
    fn step(self) -> Box<dyn FnMut() -> Result<()>> {
        match self {
            Job::Train(workload) => {
                let mut task = workload.build(&Setting::RACE);
                Box::new(move || task.step().map(drop))
            }
            Job::Evaluate(model, batch) => {
                let evaluate = model.build(&Setting::ALIKE, batch).compile();
                Box::new(move || {
                    drop(evaluate());
                    Ok(())
                })
            }
        }
    }
}

/// Times a job in this process.
fn run(job: Job, options: &BenchOptions) -> Result<Value> {
    let seconds = if options.inference { 2.0 } else { 4.0 };
    let timing = measure(job.step(), options.steps.map(|steps| steps as usize), seconds)?;
    let mut line = timing_json(job, &timing);
    if let Job::Evaluate(model, batch) = job {
        line["probe"] = json!(probe(&model.build(&Setting::ALIKE, batch).compile()()));
    }
    if options.profile {
        let steps = options.steps.map_or(((2e3 / timing.median_ms) as usize).clamp(3, 100), |steps| steps as usize);
        let (rest, milliseconds) = profile(job.step(), steps)?;
        line["profile"] = profile_json(&timing.first, &rest, steps, milliseconds);
    }
    Ok(line)
}

/// Sixteen numbers of an output, by which the peers' are held against each other.
fn probe(output: &Tensor) -> Vec<f32> {
    let values = output.to_vec::<f32>();
    (0..16).map(|i| values[i * values.len() / 16]).collect()
}

/// Times a job in a process of its own.
fn run_apart(job: Job, options: &BenchOptions) -> Result<Value> {
    let failed = |what: String| Error::new(format!("bench {}: {what}", job.name()));
    let program = std::env::current_exe().map_err(|error| failed(format!("this program cannot be found: {error}")))?;
    let mut command = Command::new(program);
    command.args(job.arguments());
    let numbers = [("--steps", options.steps), ("--threads", options.threads.map(u32::from))];
    for (name, value) in numbers.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        command.args([name, &value.to_string()]);
    }
    if options.profile {
        command.arg("--profile");
    }
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| failed(format!("its process did not start: {error}")))?;
    let line = serde_json::from_slice(&output.stdout).ok().filter(|_| output.status.success());
    line.ok_or_else(|| failed(format!("its process ended with {}", output.status)))
}

fn timing_json(job: Job, timing: &Timing) -> Value {
    let rounded = |value: f64| (value * 1e3).round() / 1e3;
    let mut line = json!({
        "peer": "etude",
        "workload": job.name(),
        "median_ms": rounded(timing.median_ms),
        "min_ms": rounded(timing.min_ms),
        "first_ms": rounded(timing.first_ms),
        "steps": timing.steps,
        "peak_rss_mb": timing.peak_rss >> 20,
        "planned_peak_mb": rounded(timing.planned_peak as f64 / (1 << 20) as f64),
    });
    if let Job::Evaluate(_, batch) = job {
        line["batch"] = batch.into();
    }
    line
}

/// The profile of a step, with a table for people in `text`.
fn profile_json(first: &Profile, rest: &Profile, steps: usize, milliseconds: f64) -> Value {
    let peak = Peak::measure();
    let per_step = |seconds: f64| seconds * 1e3 / steps as f64;
    let kernels: Vec<Value> = rest.kernels.iter().map(|kernel| {
        let seconds = kernel.time.as_secs_f64().max(1e-12);
        let rate = |amount: u64| amount as f64 * kernel.calls as f64 / seconds / 1e9;
        json!({
            "kernel": kernel.name, "calls": kernel.calls as f64 / steps as f64, "ms": per_step(seconds),
            "gflops": rate(kernel.cost.operations), "gbytes": rate(kernel.cost.bytes), "of_roof": kernel.share(&peak),
        })
    }).collect();
    let passes: Vec<Value> =
        first.phases.iter().map(|phase| json!({ "pass": phase.name, "ms": phase.time.as_secs_f64() * 1e3 })).collect();
    let evaluation: f64 = rest.phases.iter().map(|phase| per_step(phase.time.as_secs_f64())).sum();
    let text = format!(
        "{}{:9.3}         recording, differentiating, updating: the step less the above\n\nfirst step, milliseconds\n{}",
        rest.table(&peak, steps as u64, KERNELS),
        milliseconds - evaluation,
        first
            .phases
            .iter()
            .map(|phase| format!("{:9.3} {}\n", phase.time.as_secs_f64() * 1e3, phase.name))
            .collect::<String>(),
    );
    json!({ "step_ms": milliseconds, "kernels": kernels, "first_step": passes, "text": text })
}

fn heading() -> String {
    format!(
        "{:<9} {:>10} {:>10} {:>10} {:>9} {:>11}   model\n",
        "workload", "median ms", "min ms", "first ms", "peak MB", "planned MB"
    )
}

fn row(job: Job, line: &Value) -> String {
    let number = |name: &str| line[name].as_f64().unwrap_or(f64::NAN);
    let mut text = format!(
        "{:<9} {:>10.3} {:>10.3} {:>10.1} {:>9.0} {:>11.1}   {}\n",
        job.name(),
        number("median_ms"),
        number("min_ms"),
        number("first_ms"),
        number("peak_rss_mb"),
        number("planned_peak_mb"),
        job.what()
    );
    if let Some(profile) = line["profile"]["text"].as_str() {
        text += &format!("\n{profile}\n");
    }
    text
}

fn roofline(peak: &Peak) -> String {
    let mut text = format!(
        "arithmetic, f32 multiply-adds\n  one thread  {:8.1} GFLOP/s\n  {:<10}  {:8.1} GFLOP/s\n\n",
        peak.arithmetic_of_one / 1e9,
        format!("{} threads", peak.threads),
        peak.arithmetic / 1e9
    );
    text += &format!("bandwidth, {} threads     size      copy     triad  (GB/s)\n", peak.threads);
    for level in &peak.levels {
        text += &format!(
            "  {:<20} {:>8}  {:8.1}  {:8.1}\n",
            level.name,
            etude::train::units::bytes(level.bytes as u64),
            level.copy / 1e9,
            level.triad / 1e9
        );
    }
    text
}

fn roofline_json(peak: &Peak) -> Value {
    let levels: Vec<Value> = peak.levels.iter().map(|level| {
        json!({ "level": level.name, "bytes": level.bytes, "copy_gbytes": level.copy / 1e9, "triad_gbytes": level.triad / 1e9 })
    }).collect();
    json!({
        "threads": peak.threads, "gflops": peak.arithmetic / 1e9, "gflops_one_thread": peak.arithmetic_of_one / 1e9,
        "bandwidth": levels,
    })
}
