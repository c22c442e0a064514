//! `ETUDE_TRACE`: what the engine does, for people. `time` adds up kernels (see `profile`), `plan` prints plans, `graph` the graph before
//! and after the passes, `compile` cache misses with the line that caused them.

use crate::{Result, Tensor};

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
