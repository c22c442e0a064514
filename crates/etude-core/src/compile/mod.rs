//! From a captured graph to a plan. The passes, in order:
//!
//! 1. [`simplify`]: common subexpressions are shared, no-ops disappear;
//! 2. [`views`]: views become windows, copies are put in where strides cannot say a view;
//! 3. [`fuse`]: elementwise items and folds are grouped into tile programs, and groups are put in order;
//! 4. [`lower`]: groups are written as tile programs and kernel calls;
//! 5. [`memory`]: results are given storage, in place where nobody else holds it;
//!
//! and [`verify`] holds the plan against its invariants.

mod fuse;
pub(crate) mod graph;
mod lower;
mod memory;
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
    let graph = timed("compile: simplify", || simplify::simplify(graph));
    let simplified = graph.nodes.len();
    let items = timed("compile: views", || views::resolve(&graph));
    let mut groups = timed("compile: fuse", || fuse::fuse(&items));
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
