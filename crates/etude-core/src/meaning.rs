//! A recorded graph with its composites written out: what a backend that knows only primitives would run, and what tests
//! hold kernels against.

use crate::node::Node;
use crate::{Tensor, context};
use std::collections::HashMap;
use std::sync::Arc;

/// These tensors with every operation behind them that has a [`meaning`](crate::Operation::meaning) replaced by it, again
/// and again until none has one; `None` if none had one. Nothing is evaluated, and what was evaluated before stays.
#[track_caller]
pub fn by_meaning(tensors: &[Tensor]) -> Option<Vec<Tensor>> {
    let mut known = HashMap::new();
    let mut replaced = false;
    let result = write_out(tensors, &mut known, &mut replaced);
    replaced.then_some(result)
}

/// What each output of a node becomes; the node is kept so that no other takes its address.
type Known = HashMap<*const Node, (Arc<Node>, Vec<Tensor>)>;

#[track_caller]
fn write_out(tensors: &[Tensor], known: &mut Known, replaced: &mut bool) -> Vec<Tensor> {
    let mut stack: Vec<(Arc<Node>, bool)> = tensors.iter().map(|tensor| (tensor.node.clone(), false)).collect();
    while let Some((node, ready)) = stack.pop() {
        if known.contains_key(&Arc::as_ptr(&node)) {
            continue;
        }
        let inputs = node.state().inputs.clone();
        if !ready {
            stack.push((node, true));
            stack.extend(inputs.into_iter().map(|input| (input.node, false)));
            continue;
        }
        let becomes = rewritten(&node, &inputs, known, replaced);
        known.insert(Arc::as_ptr(&node), (node, becomes));
    }
    tensors.iter().map(|tensor| follow(known, tensor)).collect()
}

fn follow(known: &Known, tensor: &Tensor) -> Tensor {
    known[&Arc::as_ptr(&tensor.node)].1[tensor.output as usize].clone()
}

#[track_caller]
fn rewritten(node: &Arc<Node>, inputs: &[Tensor], known: &mut Known, replaced: &mut bool) -> Vec<Tensor> {
    let outputs = |node: &Arc<Node>| -> Vec<Tensor> {
        (0..node.outputs.len()).map(|i| Tensor { node: node.clone(), output: i as u32 }).collect()
    };
    let Some(operation) = node.source.operation().filter(|_| !inputs.is_empty()) else { return outputs(node) };
    let new: Vec<Tensor> = inputs.iter().map(|input| follow(known, input)).collect();
    let record = |run: &dyn Fn() -> Option<Vec<Tensor>>| if node.constant { context::no_grad(run) } else { run() };
    if let Some(meaning) = record(&|| operation.meaning(&new)) {
        *replaced = true;
        // What goes in is written out already; the meaning itself may hold other composites.
        for input in &new {
            known.entry(Arc::as_ptr(&input.node)).or_insert_with(|| (input.node.clone(), outputs(&input.node)));
        }
        return write_out(&meaning, known, replaced);
    }
    let same = |(old, new): (&Tensor, &Tensor)| Arc::ptr_eq(&old.node, &new.node) && old.output == new.output;
    if inputs.iter().zip(&new).all(same) {
        return outputs(node);
    }
    let refer: Vec<&Tensor> = new.iter().collect();
    let again = record(&|| Some(vec![Tensor::record_source(node.source.clone(), &refer)]));
    again.map_or_else(Vec::new, |again| outputs(&again[0].node))
}
