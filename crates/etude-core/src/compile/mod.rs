//! From a captured graph to a plan. The passes, in order:
//!
//! 1. [`expand`]: composites are written out as what they mean;
//! 2. [`simplify`]: common subexpressions are shared, no-ops disappear;
//! 3. [`views`]: views become windows, copies are put in where strides cannot say a view;
//! 4. [`keep`]: what is read again much later is kept or computed anew, whichever keeps fewer bytes;
//! 5. [`fuse`]: elementwise items and folds are grouped into tile programs;
//! 6. [`order`]: groups are put in the order they run in, so that little is alive at once;
//! 7. [`lower`]: groups are written as tile programs and kernel calls;
//! 8. [`memory`]: results are given storage, in place where nobody else holds it;
//!
//! and [`verify`] holds the plan against its invariants.

mod expand;
mod fuse;
pub(crate) mod graph;
mod keep;
mod lower;
mod memory;
mod order;
pub(crate) mod plan;
mod simplify;
mod verify;
mod views;

use crate::context::switches;
use crate::runtime::profile::timed;
use graph::Graph;
use plan::Plan;

/// Compiles `graph`.
pub(crate) fn compile(graph: Graph) -> Result<Plan, String> {
    let trace = &switches().trace;
    let captured = graph.nodes.len();
    let graph = timed("compile: expand", || expand::expand(graph))?;
    let graph = timed("compile: simplify", || simplify::simplify(graph));
    let simplified = graph.nodes.len();
    let items = timed("compile: views", || views::resolve(&graph));
    let items = timed("compile: keep", || keep::keep(items));
    let groups = timed("compile: fuse", || fuse::fuse(&items));
    let mut groups = timed("compile: order", || order::order(&items, groups));
    let drafts = loop {
        match timed("compile: lower", || lower::lower(&items, &groups)) {
            Ok(drafts) => break drafts,
            Err(large) => {
                let half = groups[large].len().div_ceil(2);
                let group = std::mem::take(&mut groups[large]);
                groups.splice(large..=large, fuse::split(&items, group, half));
            }
        }
    };
    if trace.graph {
        eprintln!("etude: {captured} nodes, {simplified} after simplifying, {} items", items.items.len());
        for (number, item) in items.items.iter().enumerate() {
            let outputs: Vec<String> = item.outputs.iter().map(|m| format!("{} {}", m.dtype, m.shape)).collect();
            eprintln!("  {number:4} {:<14} {:<30} {}", item.name(), outputs.join(", "), item.location);
        }
        eprintln!("etude: {} groups", drafts.len());
    }
    let plan = timed("compile: memory", || memory::place(&items, drafts))?;
    if cfg!(debug_assertions) {
        verify::verify(&plan)?;
    }
    if trace.plan {
        eprint!("{plan}");
    }
    Ok(plan)
}
