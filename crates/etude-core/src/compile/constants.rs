//! What depends on numbers alone is taken out of the plan into one of its own, which runs once and again only
//! when a number changes: masks, grids, identity matrices, tables of positions.
//!
//! Numbers a run brings are no part of a plan's key, so their values are not known here; hence a plan and not the results.
//! Only what takes a kernel to make (`arange`) and what is computed from it goes there. A number spread out (`ones(..) * 2`)
//! stays: inside a tile program it is one register, and would cost more to read from memory.

use super::graph::{Graph, GraphNode, Origin, Port};
use super::simplify::drop_dead;
use crate::Window;
use crate::operation::Kind;

/// Bytes of a plan's constants, at most.
const MOST: usize = 16 << 20;

/// Takes the constants out of `graph`, which then finds them as leaves behind the `leaves` it has; the second graph makes
/// them, in order.
pub(crate) fn split(mut graph: Graph, leaves: usize) -> (Graph, Option<Graph>) {
    let made = made(&graph);
    if made.iter().all(|made| *made != Some(true)) {
        return (graph, None);
    }
    let mut held = vec![false; graph.nodes.len()];
    graph.roots.iter().flatten().for_each(|port| held[port.node as usize] = true);
    let mut found: Vec<u32> = Vec::new();
    let mut bytes = 0;
    for reader in (0..graph.nodes.len()).filter(|&at| made[at].is_none()) {
        for port in &graph.nodes[reader].inputs {
            let at = behind_views(&graph, *port);
            let node = &graph.nodes[at as usize];
            // Whoever holds it makes it a leaf of all later graphs.
            let fits = made[at as usize] == Some(true) && node.outputs.len() == 1 && !held[at as usize];
            if fits && !found.contains(&at) && bytes + node.outputs[0].bytes() <= MOST {
                bytes += node.outputs[0].bytes();
                found.push(at);
            }
        }
    }
    if found.is_empty() {
        return (graph, None);
    }
    let roots = found.iter().map(|&node| vec![Port { node, output: 0 }]).collect();
    let constants = drop_dead(Graph { roots, ..graph.clone() });
    for (number, &at) in found.iter().enumerate() {
        let node = &mut graph.nodes[at as usize];
        let window = Window::contiguous(node.outputs[0].shape);
        node.origin = Origin::Leaf { index: leaves + number, window, donated: false };
        node.inputs.clear();
    }
    (drop_dead(graph), Some(constants))
}

/// For each node that depends on numbers alone: whether a kernel makes it or something it is computed from.
fn made(graph: &Graph) -> Vec<Option<bool>> {
    let mut made: Vec<Option<bool>> = Vec::with_capacity(graph.nodes.len());
    for GraphNode { origin, inputs, .. } in &graph.nodes {
        made.push(match origin {
            Origin::Leaf { .. } => None,
            Origin::Scalar { .. } => Some(false),
            Origin::Operation(source) => {
                let operation = source.operation().filter(|operation| !operation.draws());
                let before = inputs.iter().try_fold(false, |any, port| Some(any | made[port.node as usize]?));
                operation.zip(before).map(|(operation, before)| before || operation.kind() == Kind::Kernel)
            }
        });
    }
    made
}

/// The node whose elements a port looks at.
fn behind_views(graph: &Graph, port: Port) -> u32 {
    let (mut at, view) = (port.node, |source: &crate::node::Source| {
        source.operation().is_some_and(|operation| matches!(operation.kind(), Kind::View(_)))
    });
    while let Origin::Operation(source) = &graph.nodes[at as usize].origin
        && view(source)
    {
        at = graph.nodes[at as usize].inputs[0].node;
    }
    at
}
