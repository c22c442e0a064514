//! Composite nodes are written out as what they mean. Recording one costs one node however long its meaning
//! is; the meaning is recorded here, once a plan.

use super::graph::Graph;
use super::writer::{composite, rewrite};

/// Replaces every composite node of `graph`, and every composite in its meaning, by its meaning.
pub(crate) fn expand(graph: Graph) -> Result<Graph, String> {
    if !graph.nodes.iter().any(|node| composite(&node.origin).is_some()) {
        return Ok(graph);
    }
    rewrite(graph, |writer, node| composite(&node.origin).map(|operation| writer.meaning(operation, node)).transpose())
}
