//! The recorded graph, for people: which operations lie behind some tensors, and what feeds what.

use crate::node::{ByNode, Node, Source};
use crate::{Shape, Tensor};
use etude_kernels::tile::Scalar;

/// One node of a recorded graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// The operation's name; `data` for given or evaluated arrays, the number itself for a number.
    pub name: String,
    /// The shape of its first output.
    pub shape: Shape,
    /// The nodes it reads, as places in the list.
    pub inputs: Vec<usize>,
    /// Whether its value is known already.
    pub evaluated: bool,
    /// Whether gradients are collected here.
    pub variable: bool,
}

/// The graph behind `roots` that is still recorded: inputs stand before the nodes that use them. The second part says
/// where each root stands.
///
/// ```
/// use etude_core::{recorded, tensor};
/// let (a, b) = (tensor([1.0, 2.0]), tensor([3.0, 4.0]));
/// let d = &b * &a + 1.0;
/// let (nodes, places) = recorded(&[&d]);
/// assert_eq!(nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["data", "data", "mul", "1", "add"]);
/// assert_eq!(nodes[places[0]].inputs, [2, 3]);
/// ```
pub fn recorded(roots: &[&Tensor]) -> (Vec<Recorded>, Vec<usize>) {
    let mut places: ByNode<usize> = ByNode::default();
    let mut nodes: Vec<Recorded> = Vec::new();
    // Each tensor is met twice: first to put its inputs before it, then, with all of them placed, to place it.
    let mut waiting: Vec<(Tensor, bool)> = roots.iter().rev().map(|&root| (root.clone(), false)).collect();
    while let Some((tensor, ready)) = waiting.pop() {
        let key: *const Node = &*tensor.node;
        if places.contains_key(&key) {
            continue;
        }
        let inputs = tensor.node.state().inputs.clone();
        if !ready {
            waiting.push((tensor, true));
            waiting.extend(inputs.into_iter().rev().map(|input| (input, false)));
            continue;
        }
        places.insert(key, nodes.len());
        nodes.push(Recorded {
            name: match tensor.node.source {
                Source::Scalar(Scalar::Float(value)) => value.to_string(),
                Source::Scalar(Scalar::Int(value)) => value.to_string(),
                ref source => source.name().to_string(),
            },
            shape: tensor.node.outputs[0].shape,
            inputs: inputs.iter().map(|input| places[&(&*input.node as *const Node)]).collect(),
            evaluated: tensor.node.is_evaluated(),
            variable: tensor.node.variable,
        });
    }
    let roots = roots.iter().map(|root| places[&(&*root.node as *const Node)]).collect();
    (nodes, roots)
}
