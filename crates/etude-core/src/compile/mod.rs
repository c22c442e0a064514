//! From a captured graph to a plan. The passes, in order:
//!
//! 1. [`expand`]: composites are written out as what they mean;
//! 2. [`simplify`]: common subexpressions are shared, no-ops disappear;
//! 3. [`rows`]: products of rows picked of a small table become rows picked of its product;
//! 4. [`constants`]: what depends on numbers alone gets a plan of its own, which runs once;
//! 5. [`views`]: views become windows, copies are put in where strides cannot say a view;
//! 6. [`axes`]: elementwise work joined by reshapes gets one shape;
//! 7. [`keep`]: what is read again much later is kept or computed anew, whichever keeps fewer bytes;
//! 8. [`fuse`]: elementwise items and folds are grouped into tile programs;
//! 9. [`order`]: groups are put in the order they run in, so that little is alive at once;
//! 10. [`lower`]: groups are written as tile programs and kernel calls;
//! 11. [`updates`]: a gradient's kernel takes the step of its update, and the gradient is not stored;
//! 12. [`memory`]: results are given storage, in place where nobody else holds it;
//! 13. [`tails`]: elementwise work behind a kernel runs on its rows as it makes them;
//!
//! and [`verify`] holds the plan against its invariants.

mod axes;
mod constants;
mod expand;
mod fuse;
pub(crate) mod graph;
mod keep;
mod lower;
mod memory;
mod order;
pub(crate) mod plan;
mod print;
mod rows;
mod simplify;
mod tails;
mod updates;
mod verify;
mod views;
mod writer;

use crate::context::switches;
use crate::runtime::profile::timed;
use graph::Graph;
use plan::{Plan, Tables};

/// Compiles `graph`.
pub(crate) fn compile(graph: Graph) -> Result<Plan, String> {
    let trace = &switches().trace;
    let leaves = graph.leaves();
    let mut printer = print::Printer::new(trace.graph);
    printer.stage("as recorded", || print::graph(&graph));
    let graph = timed("compile: expand", || expand::expand(graph))?;
    printer.stage("expand", || print::graph(&graph));
    let graph = timed("compile: simplify", || simplify::simplify(graph));
    printer.stage("simplify", || print::graph(&graph));
    let graph = timed("compile: rows", || rows::rows(graph))?;
    printer.stage("rows", || print::graph(&graph));
    let (graph, tables) = timed("compile: constants", || constants::split(graph, leaves));
    printer.stage("constants", || print::graph(&graph));
    let items = timed("compile: views", || views::resolve(&graph));
    printer.stage("views", || print::items(&items));
    let items = timed("compile: axes", || axes::split(items));
    printer.stage("axes", || print::items(&items));
    let items = timed("compile: keep", || keep::keep(items));
    printer.stage("keep", || print::items(&items));
    let groups = timed("compile: fuse", || fuse::fuse(&items));
    printer.stage("fuse", || print::groups(&items, &groups));
    let mut groups = timed("compile: order", || order::order(&items, groups));
    printer.stage("order", || print::groups(&items, &groups));
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
    printer.stage("lower", || print::groups(&items, &groups));
    let drafts = timed("compile: updates", || updates::join(&items, drafts));
    let mut plan = timed("compile: memory", || memory::place(&items, drafts))?;
    timed("compile: tails", || tails::attach(&mut plan));
    if cfg!(debug_assertions) {
        verify::verify(&plan)?;
    }
    if trace.plan {
        eprint!("{plan}");
    }
    if let Some(graph) = tables {
        if trace.graph || trace.plan {
            eprintln!("etude: the plan of what depends on numbers alone:");
        }
        let numbers = graph.numbers();
        let tables = compile(graph)?;
        plan.peak_bytes += tables.peak_bytes;
        plan.tables = Some(Box::new(Tables { plan: tables, numbers, made: Default::default() }));
    }
    Ok(plan)
}
