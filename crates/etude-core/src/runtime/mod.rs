//! Evaluation: capture the unevaluated graph behind some tensors, find or compile its plan, run it, keep the results.

mod cache;
pub(crate) mod capture;
mod execute;
pub mod frozen;
mod layout;
mod packing;
pub mod profile;
pub mod state;
pub mod trace;

use crate::context::{self, switches};
use crate::{Error, Result, Tensor};
use std::sync::Arc;

/// Recorded nodes one behind another, or bytes of their outputs, beyond which a graph nobody reads is evaluated anyway.
const DEEPEST: u32 = 4_000;
const MOST_BYTES: usize = 2 << 30;
/// The same for graphs kept for `backward()`, which evaluating early does not make smaller.
const DEEPEST_TAPE: u32 = 60_000;

/// Evaluates `tensors`, and with them whatever else is known to be needed from the same graph.
pub(crate) fn evaluate(tensors: &[Tensor]) -> Result<()> {
    if tensors.iter().all(Tensor::is_evaluated) {
        return Ok(());
    }
    let mut capture = profile::timed("capture", || capture::capture(tensors));
    let plan = profile::timed("plan", || cache::plan_for(&capture)).map_err(|message| {
        Error::Execution(format!("the compiler could not plan this graph ({message}); please report this"))
    })?;
    let values = match profile::collecting() {
        false => execute::run(&plan, &mut capture, None)?,
        true => {
            let mut times = Vec::with_capacity(plan.steps.len());
            let values = profile::timed("execute", || execute::run(&plan, &mut capture, Some(&mut times)))?;
            profile::note_run(&plan, &times);
            values
        }
    };
    profile::timed("hand over", || capture.finish(values));
    Ok(())
}

/// Evaluates a tensor at once if its graph has grown too large, or if `ETUDE_EAGER=1`.
#[track_caller]
pub(crate) fn flush_if_overgrown(tensor: &Tensor) {
    let node = &tensor.node;
    let deepest = if node.requires_grad { DEEPEST_TAPE } else { DEEPEST };
    let large = node.depth() > deepest || (!node.requires_grad && node.path_bytes() > MOST_BYTES);
    if (large || switches().eager)
        && !context::is_tracing()
        && let Err(error) = evaluate(std::slice::from_ref(tensor))
    {
        panic!("{error}");
    }
}

/// A shared handle to a compiled plan.
pub(crate) type SharedPlan = Arc<crate::compile::plan::Plan>;
