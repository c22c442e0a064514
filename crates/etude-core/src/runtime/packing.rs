//! What is frozen is recorded the way that suits inputs which never change: weights of products are packed once.

use super::frozen::{again, behind, dependent, outputs_of, quietly};
use crate::Tensor;
use crate::node::{ByNode, Node};
use std::sync::Arc;

/// The same outputs, with every operation that can be [frozen](crate::Operation::frozen) in its frozen form.
pub(super) fn pack(outputs: &[Tensor], placeholders: &[Tensor]) -> Vec<Tensor> {
    let order = behind(outputs);
    let depends = dependent(&order, placeholders);
    let at = |tensor: &Tensor| Arc::as_ptr(&tensor.node);
    let mut known: ByNode<Vec<Tensor>> = ByNode::default();
    quietly(|| {
        for node in &order {
            let there = node.source.operation().is_none() || node.is_evaluated() || !depends[&Arc::as_ptr(node)];
            let found = if there { outputs_of(node) } else { rewrite(node, &known, |tensor| !depends[&at(tensor)]) };
            known.insert(Arc::as_ptr(node), found);
        }
    });
    outputs.iter().map(|output| known[&at(output)][output.output as usize].clone()).collect()
}

/// What `node` gives, recorded on what its inputs have become.
fn rewrite(node: &Arc<Node>, known: &ByNode<Vec<Tensor>>, fixed: impl Fn(&Tensor) -> bool) -> Vec<Tensor> {
    let old = node.state().inputs.clone();
    let new: Vec<Tensor> =
        old.iter().map(|input| known[&Arc::as_ptr(&input.node)][input.output as usize].clone()).collect();
    let fixed: Vec<bool> = old.iter().map(fixed).collect();
    let frozen = node.source.operation().and_then(|operation| operation.frozen(&new, &fixed));
    frozen.unwrap_or_else(|| outputs_of(&again(node, &old, new.clone())))
}
