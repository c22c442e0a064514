//! The plan cache: bounded, least recently used goes first. Warns once when one place recompiles again and again.

use super::SharedPlan;
use super::capture::Capture;
use crate::compile;
use crate::context::switches;
use std::collections::HashMap;
use std::panic::Location;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// How many plans are kept.
const CAPACITY: usize = 512;
/// After how many plans for one line that differ only in shapes a warning is due.
const SUSPICIOUS: usize = 24;

struct Cache {
    plans: HashMap<u128, (SharedPlan, u64)>,
    clock: u64,
    /// For each line that asked: the shapes of its result at each compilation.
    compiled: HashMap<&'static Location<'static>, Vec<crate::Shape>>,
}

static CACHE: Mutex<Option<Cache>> = Mutex::new(None);

/// The plan for `capture`: the one kept, or a new one.
pub(crate) fn plan_for(capture: &Capture) -> Result<SharedPlan, String> {
    if let Some(plan) = look_up(capture.key) {
        return Ok(plan);
    }
    let start = Instant::now();
    let plan = Arc::new(compile::compile(capture.graph())?);
    let took = start.elapsed();
    let first = capture.roots.first().map(|&root| &capture.nodes[root as usize]);
    if switches().trace.compile
        && let Some(node) = first
    {
        let (steps, nodes) = (plan.steps.len(), capture.nodes.len());
        eprintln!("etude: compiled {nodes} nodes to {steps} steps in {took:.1?} for {}", node.describe());
    }
    let mut guard = CACHE.lock().unwrap_or_else(|poison| poison.into_inner());
    let cache = guard.get_or_insert_with(|| Cache { plans: HashMap::new(), clock: 0, compiled: HashMap::new() });
    // Drawing a parameter is a step or two, once a shape; a loop over changing batches is more.
    if let Some(node) = first.filter(|_| plan.steps.len() > 3) {
        cache.watch(node.location, node.outputs[0].shape);
    }
    if cache.plans.len() >= CAPACITY
        && let Some((&oldest, _)) = cache.plans.iter().min_by_key(|(_, (_, used))| *used)
    {
        cache.plans.remove(&oldest);
    }
    cache.clock += 1;
    let clock = cache.clock;
    cache.plans.insert(capture.key, (plan.clone(), clock));
    Ok(plan)
}

fn look_up(key: u128) -> Option<SharedPlan> {
    let mut guard = CACHE.lock().unwrap_or_else(|poison| poison.into_inner());
    let cache = guard.as_mut()?;
    cache.clock += 1;
    let clock = cache.clock;
    let (plan, used) = cache.plans.get_mut(&key)?;
    *used = clock;
    Some(plan.clone())
}

impl Cache {
    /// Warns once when a line keeps compiling plans whose results differ in one dimension.
    fn watch(&mut self, location: &'static Location<'static>, shape: crate::Shape) {
        if self.compiled.len() > 4 * CAPACITY {
            self.compiled.clear();
        }
        let shapes = self.compiled.entry(location).or_default();
        if shapes.len() > SUSPICIOUS || shapes.contains(&shape) {
            return;
        }
        shapes.push(shape);
        if shapes.len() == SUSPICIOUS {
            let varies = (0..shape.rank()).find(|&axis| shapes.iter().any(|s| s.get(axis) != Some(&shape[axis])));
            let what = varies.map_or("the shape".into(), |axis| format!("axis {axis}"));
            eprintln!(
                "etude: {location} was compiled for {SUSPICIOUS} different shapes, {what} keeps changing; \
                 pad or bucket it to a few sizes to compile less"
            );
        }
    }
}
