//! `ETUDE_TRACE`: what the engine does, for people. `time` adds up kernels, `plan` prints plans, `graph` the graph before
//! and after the passes, `compile` cache misses with the line that caused them.

use crate::compile::plan::Step;
use crate::{Result, Tensor};
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

/// Which parts of the trace are on.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Trace {
    pub time: bool,
    pub plan: bool,
    pub graph: bool,
    pub compile: bool,
}

impl Trace {
    /// Reads `ETUDE_TRACE`; words it does not know are reported once.
    pub(crate) fn parse(words: &str) -> Trace {
        let mut trace = Trace::default();
        for word in words.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match word {
                "time" => trace.time = true,
                "plan" => trace.plan = true,
                "graph" => trace.graph = true,
                "compile" => trace.compile = true,
                other => eprintln!("etude: ETUDE_TRACE knows time, plan, graph and compile, not `{other}`"),
            }
        }
        trace
    }
}

static TIMES: Mutex<Option<HashMap<String, (u64, Duration)>>> = Mutex::new(None);

pub(crate) fn record_time(step: &Step, took: Duration) {
    let mut times = TIMES.lock().unwrap_or_else(|poison| poison.into_inner());
    let shape = step.metas.first().map_or(String::new(), |meta| meta.shape.to_string());
    let entry = times.get_or_insert_default().entry(format!("{} {shape}", step.name)).or_default();
    entry.0 += 1;
    entry.1 += took;
}

/// The times collected under `ETUDE_TRACE=time`, the largest first, as a table; `None` if nothing was collected.
pub fn time_report() -> Option<String> {
    let times = TIMES.lock().unwrap_or_else(|poison| poison.into_inner()).take()?;
    let total: Duration = times.values().map(|(_, took)| *took).sum();
    let mut rows: Vec<(String, (u64, Duration))> = times.into_iter().collect();
    rows.sort_by_key(|(_, (_, took))| std::cmp::Reverse(*took));
    let mut text = format!("{:>9} {:>8} {:>9} {:>6}  step\n", "total ms", "calls", "each µs", "share");
    for (name, (calls, took)) in rows {
        text += &format!(
            "{:9.2} {calls:8} {:9.2} {:5.1}%  {name}\n",
            took.as_secs_f64() * 1e3,
            took.as_secs_f64() * 1e6 / calls as f64,
            100.0 * took.as_secs_f64() / total.as_secs_f64().max(1e-12),
        );
    }
    Some(text)
}

/// What a plan needs: the numbers `summary` prints.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlanSummary {
    /// Steps run one after the other.
    pub steps: usize,
    /// The most bytes alive at once in storage the plan owns, results included.
    pub peak_bytes: usize,
}

/// Plans the evaluation of `tensors` without running it.
pub fn plan_summary(tensors: &[Tensor]) -> Result<PlanSummary> {
    let capture = super::capture::capture(tensors);
    let plan = super::cache::plan_for(&capture).map_err(crate::Error::Execution)?;
    Ok(PlanSummary { steps: plan.steps.len(), peak_bytes: plan.peak_bytes })
}
