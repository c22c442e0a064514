//! Nodes that compute the same thing become one, and nodes that change nothing disappear.

use super::graph::{Graph, GraphNode, Origin, Port};
use crate::operation::{Kind, View};
use std::collections::HashMap;

/// Shares common subexpressions and drops no-ops. Order and results stay the same.
pub(crate) fn simplify(mut graph: Graph) -> Graph {
    let mut kept: Vec<GraphNode> = Vec::with_capacity(graph.nodes.len());
    let mut moved: Vec<Vec<Port>> = Vec::with_capacity(graph.nodes.len());
    let mut known: HashMap<(u64, Vec<Port>), u32> = HashMap::new();
    for mut node in std::mem::take(&mut graph.nodes) {
        for port in &mut node.inputs {
            *port = moved[port.node as usize][port.output as usize];
        }
        if let Some(port) = unchanged(&node, &kept) {
            moved.push(vec![port]);
            continue;
        }
        let count = node.outputs.len() as u32;
        let ports = |at: u32| (0..count).map(|output| Port { node: at, output }).collect::<Vec<_>>();
        let next = kept.len() as u32;
        let at = match node.origin {
            Origin::Operation(_) => *known.entry((node.hash, node.inputs.clone())).or_insert(next),
            _ => next,
        };
        if at == next {
            kept.push(node);
        }
        moved.push(ports(at));
    }
    let follow = |port: &Port| moved[port.node as usize][port.output as usize];
    let roots = graph.roots.iter().map(|ports| ports.iter().map(follow).collect()).collect();
    drop_dead(Graph { nodes: kept, roots, ..graph })
}

/// The port that already holds what `node` would give: a reshape to the same shape, a view of everything.
fn unchanged(node: &GraphNode, kept: &[GraphNode]) -> Option<Port> {
    let Origin::Operation(source) = &node.origin else { return None };
    let kind = source.operation()?.kind();
    let port = *node.inputs.first()?;
    let input = kept[port.node as usize].outputs[port.output as usize];
    let same = matches!(kind, Kind::View(View::Reshape | View::Expand)) && input == node.outputs[0];
    let cast = kind == Kind::Cast && input.dtype == node.outputs[0].dtype;
    (same || cast).then_some(port)
}

/// Leaves out what no root needs.
pub(super) fn drop_dead(mut graph: Graph) -> Graph {
    let mut needed = vec![false; graph.nodes.len()];
    graph.roots.iter().flatten().for_each(|port| needed[port.node as usize] = true);
    for at in (0..graph.nodes.len()).rev() {
        if needed[at] {
            graph.nodes[at].inputs.iter().for_each(|port| needed[port.node as usize] = true);
        }
    }
    let mut numbers = vec![u32::MAX; graph.nodes.len()];
    let mut nodes = Vec::with_capacity(graph.nodes.len());
    for (at, mut node) in std::mem::take(&mut graph.nodes).into_iter().enumerate() {
        if needed[at] {
            numbers[at] = nodes.len() as u32;
            node.inputs.iter_mut().for_each(|port| port.node = numbers[port.node as usize]);
            nodes.push(node);
        }
    }
    let renumber = |port: &Port| Port { node: numbers[port.node as usize], output: port.output };
    let roots = graph.roots.iter().map(|ports| ports.iter().map(renumber).collect()).collect();
    Graph { nodes, roots, ..graph }
}
