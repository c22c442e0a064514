//! Graphs written anew, node by node, where a pass has another form for some of them: the form is recorded on placeholders as
//! any program would record it, and copied in.

use super::graph::{Graph, GraphNode, Origin, Port, bits};
use crate::node::{ByNode, Node, Source};
use crate::operation::{Kind, Meta, Operation};
use crate::{Tensor, context};
use etude_kernels::tile::Scalar;
use std::sync::Arc;

/// The graph with each node as `other` writes it: it gives the outputs of what it wrote in the node's place, or `None` to keep
/// the node.
pub(super) fn rewrite(
    graph: Graph,
    mut other: impl FnMut(&mut Writer, &GraphNode) -> Result<Option<Vec<Port>>, String>,
) -> Result<Graph, String> {
    let Graph { nodes, roots, scalars, constants } = graph;
    let mut writer = Writer { nodes: Vec::with_capacity(2 * nodes.len()), scalars, constants, known: Vec::new() };
    let mut moved: Vec<Vec<Port>> = Vec::with_capacity(nodes.len());
    for mut node in nodes {
        for port in &mut node.inputs {
            *port = moved[port.node as usize][port.output as usize];
        }
        moved.push(match other(&mut writer, &node)? {
            Some(ports) => ports,
            None => writer.push(node),
        });
    }
    let follow = |port: &Port| moved[port.node as usize][port.output as usize];
    let roots = roots.iter().map(|ports| ports.iter().map(follow).collect()).collect();
    Ok(Graph { nodes: writer.nodes, roots, scalars: writer.scalars, constants: writer.constants })
}

/// The operation of a node that stands for what it means.
pub(super) fn composite(origin: &Origin) -> Option<&dyn Operation> {
    match origin {
        Origin::Operation(source) => source.operation().filter(|operation| operation.kind() == Kind::Composite),
        _ => None,
    }
}

/// Nodes written one after the other, as tensor operations say.
pub(super) struct Writer {
    pub(super) nodes: Vec<GraphNode>,
    /// How many scalars come with each run; constants are numbered after them.
    scalars: usize,
    constants: Vec<Scalar>,
    /// The node of each constant.
    known: Vec<(Scalar, Meta, Port)>,
}

impl Writer {
    fn push(&mut self, node: GraphNode) -> Vec<Port> {
        let (at, count) = (self.nodes.len() as u32, node.outputs.len() as u32);
        self.nodes.push(node);
        (0..count).map(|output| Port { node: at, output }).collect()
    }

    /// The node of a number that is the same at each run.
    fn constant(&mut self, value: Scalar, meta: Meta, at: &GraphNode) -> Port {
        let same = |(held, kind, _): &&(Scalar, Meta, Port)| bits(*held) == bits(value) && *kind == meta;
        if let Some((.., port)) = self.known.iter().find(same) {
            return *port;
        }
        let index = self.scalars + self.constants.len();
        self.constants.push(value);
        let node = GraphNode {
            origin: Origin::Scalar { index },
            hash: 0,
            inputs: Vec::new(),
            outputs: vec![meta],
            ..at.clone()
        };
        let port = self.push(node)[0];
        self.known.push((value, meta, port));
        port
    }

    /// Writes out what `operation` means for the inputs of `at`; returns its outputs.
    pub(super) fn meaning(&mut self, operation: &dyn Operation, at: &GraphNode) -> Result<Vec<Port>, String> {
        self.record(operation.name(), &at.inputs, at, |inputs| operation.meaning(inputs))
    }

    /// Writes what `build` records of `inputs`, which is another form of `at` and stands in its place; returns its outputs.
    pub(super) fn record(
        &mut self,
        name: &str,
        inputs: &[Port],
        at: &GraphNode,
        build: impl FnOnce(&[Tensor]) -> Option<Vec<Tensor>>,
    ) -> Result<Vec<Port>, String> {
        let complain = |what: &str| format!("the meaning of {name} {what}");
        let metas = inputs.iter().map(|port| self.nodes[port.node as usize].outputs[port.output as usize]);
        let placeholders: Vec<Tensor> =
            metas.map(|meta| Tensor::from_node(Node::placeholder(meta, at.location))).collect();
        let results = context::no_grad(|| context::tracing(|| build(&placeholders)));
        let results = results.ok_or_else(|| complain("is missing"))?;
        if !results.iter().map(|tensor| tensor.meta()).eq(at.outputs.iter().copied()) {
            return Err(complain("has other outputs than its shape rule says"));
        }
        let mut written: ByNode<Vec<Port>> = ByNode::default();
        for (placeholder, &port) in placeholders.iter().zip(inputs) {
            written.insert(Arc::as_ptr(&placeholder.node), vec![port]);
        }
        let mut stack: Vec<(Arc<Node>, bool)> = results.iter().rev().map(|t| (t.node.clone(), false)).collect();
        while let Some((node, ready)) = stack.pop() {
            if written.contains_key(&Arc::as_ptr(&node)) {
                continue;
            }
            let inputs = node.state().inputs.clone();
            if !ready {
                stack.push((node, true));
                stack.extend(inputs.into_iter().rev().map(|input| (input.node, false)));
                continue;
            }
            let ports = match &node.source {
                Source::Scalar(value) => vec![self.constant(*value, node.outputs[0], at)],
                Source::Data => return Err(complain("holds data; numbers and operations are all it may hold")),
                source => {
                    let inputs = inputs.iter().map(|t| written[&Arc::as_ptr(&t.node)][t.output as usize]).collect();
                    let origin = Origin::Operation(source.clone());
                    let inner =
                        GraphNode { origin, hash: node.hash, inputs, outputs: node.outputs.to_vec(), ..at.clone() };
                    match composite(&inner.origin) {
                        Some(operation) => self.meaning(operation, &inner)?,
                        None => self.push(inner),
                    }
                }
            };
            written.insert(Arc::as_ptr(&node), ports);
        }
        Ok(results.iter().map(|t| written[&Arc::as_ptr(&t.node)][t.output as usize]).collect())
    }
}
