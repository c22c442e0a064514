//! The layout of images in a frozen function: convolutions whose weights do not change are turned into ones that read and
//! write images with sixteen channels side by side ([`crate::ops::channels`]), with their weights packed here, once. What
//! lies between two of them (elementwise work, maximum pools) works on that layout too, and a bias, an image that is added
//! and `max(·, 0)` become part of the convolution before them.

use super::frozen::{again, behind, contiguous, dependent, outputs_of};
use crate::node::{ByNode, Node, Source};
use crate::operation::{Kind, Operation};
use crate::ops::channels::{Tail, convolve, from_blocks, max_pool, to_blocks, weight_to_blocks, weight_to_points};
use crate::ops::conv::{PlaneSteps, plane_steps};
use crate::ops::pool::plane_windows;
use crate::{DType, Result, Tensor, context};
use etude_kernels::conv::channels::{BLOCK, winograd};
use etude_kernels::tile::{BinaryOp, Scalar};
use std::sync::Arc;

/// The same outputs, computed in the layout that suits them.
///
/// # Errors
/// If a weight cannot be computed.
pub(super) fn choose(outputs: &[Tensor], placeholders: &[Tensor]) -> Result<Vec<Tensor>> {
    let order = behind(outputs);
    let mut readers: ByNode<usize> = ByNode::default();
    let mut second: ByNode<()> = ByNode::default();
    for node in order.iter().filter(|node| !node.is_evaluated()) {
        for input in &node.state().inputs {
            *readers.entry(Arc::as_ptr(&input.node)).or_default() += 1;
            if input.output > 0 {
                second.insert(Arc::as_ptr(&input.node), ());
            }
        }
    }
    // An output is read by whoever asked for it.
    for output in outputs {
        *readers.entry(Arc::as_ptr(&output.node)).or_default() += 2;
        second.insert(Arc::as_ptr(&output.node), ());
    }
    let depends = dependent(&order, placeholders);
    let mut chooser = Chooser { depends, readers, second, known: ByNode::default() };
    for node in &order {
        let mut known = chooser.rewrite(node)?;
        let once = chooser.readers.get(&Arc::as_ptr(node)) == Some(&1);
        if let Known::Pending(pending) = &known
            && !once
        {
            known = Known::Blocks(pending.record());
        }
        chooser.known.insert(Arc::as_ptr(node), known);
    }
    Ok(outputs.iter().map(|output| chooser.plain(output)).collect())
}

/// What a node has become.
enum Known {
    /// Its outputs as they were.
    Plain(Vec<Tensor>),
    /// An image in blocks, the node's only output that is read.
    Blocks(Tensor),
    /// A convolution that gives an image in blocks, not yet recorded: more may be added to its tail.
    Pending(Box<Pending>),
}

struct Pending {
    node: Arc<Node>,
    x: Tensor,
    w: Tensor,
    steps: PlaneSteps,
    tail: Tail,
}

impl Pending {
    fn record(&self) -> Tensor {
        inside(&self.node, || convolve(&self.x, &self.w, self.steps, &self.tail))
    }
}

/// Records in the scope of `node`.
fn inside<R>(node: &Node, record: impl FnOnce() -> R) -> R {
    match &node.scope {
        Some(scope) => context::scope(scope, record),
        None => record(),
    }
}

struct Chooser {
    depends: ByNode<bool>,
    readers: ByNode<usize>,
    /// Nodes with a second output that is read, or that are outputs themselves.
    second: ByNode<()>,
    known: ByNode<Known>,
}

impl Chooser {
    fn rewrite(&mut self, node: &Arc<Node>) -> Result<Known> {
        let inputs = node.state().inputs.clone();
        let Some(operation) = node.source.operation().filter(|_| self.depends[&Arc::as_ptr(node)]) else {
            return Ok(Known::Plain(outputs_of(node)));
        };
        if let Some(steps) = plane_steps(operation)
            && let Some(pending) = self.convolution(node, steps, &inputs)?
        {
            return Ok(Known::Pending(pending));
        }
        if inputs.iter().any(|input| self.is_image(input))
            && let Some(known) = self.on_blocks(node, operation, &inputs)?
        {
            return Ok(known);
        }
        let new: Vec<Tensor> = inputs.iter().map(|input| self.plain(input)).collect();
        Ok(Known::Plain(outputs_of(&again(node, &inputs, new))))
    }

    /// A convolution as one on blocks, if its channels allow that and its weight is known.
    fn convolution(&mut self, node: &Arc<Node>, steps: PlaneSteps, inputs: &[Tensor]) -> Result<Option<Box<Pending>>> {
        let (x, w) = (&inputs[0], &inputs[1]);
        let (outputs, channels) = (w.size(0), w.size(1));
        let few = channels < BLOCK && !self.is_image(x);
        let fits = outputs.is_multiple_of(BLOCK) && outputs > 0 && (few || channels.is_multiple_of(BLOCK));
        if !fits || channels == 0 || x.dtype() != DType::F32 || self.depends(w) || !self.depends(x) {
            return Ok(None);
        }
        let [batch, _, height, width] = *x.shape() else { return Ok(None) };
        let geometry = steps.geometry([batch, channels, height, width], [outputs, w.size(2), w.size(3)]);
        let fast = !few && geometry.is_ok_and(|geometry| winograd::is_faster(&geometry));
        let packed = settled(&if fast { weight_to_points(w) } else { weight_to_blocks(w, few) })?;
        let x = if few { self.plain(x) } else { self.blocks(x) };
        Ok(Some(Box::new(Pending { node: node.clone(), x, w: packed, steps, tail: Tail::default() })))
    }

    /// Other operations on images in blocks.
    fn on_blocks(&mut self, node: &Arc<Node>, operation: &dyn Operation, inputs: &[Tensor]) -> Result<Option<Known>> {
        let kind = operation.kind();
        if let (Kind::Binary(op), [a, b]) = (&kind, inputs)
            && let Some(pending) = self.tail(node, *op, [a, b])?
        {
            return Ok(Some(Known::Pending(pending)));
        }
        if let Some(windows) = plane_windows(operation)
            && !self.second.contains_key(&Arc::as_ptr(node))
        {
            let x = self.blocks(&inputs[0]);
            return Ok(Some(Known::Blocks(inside(node, || max_pool(&x, windows)))));
        }
        match kind {
            Kind::Unary(_) | Kind::Binary(_) | Kind::Select | Kind::Cast => Ok(self.elementwise(node, inputs)),
            Kind::Reduce(_, axes) if axes == [2, 3] && inputs[0].rank() == 4 => {
                let x = self.blocks(&inputs[0]);
                let folded = inside(node, || Tensor::record_source(node.source.clone(), &[&x])); // [B, C/16, 1, 1, 16]
                Ok(Some(Known::Plain(vec![folded.reshape(node.outputs[0].shape)])))
            }
            _ => Ok(None),
        }
    }

    /// Elementwise work on images in blocks and constants by channel.
    fn elementwise(&mut self, node: &Arc<Node>, inputs: &[Tensor]) -> Option<Known> {
        let shape = node.outputs[0].shape;
        let fits = |input: &Tensor| match self.is_image(input) {
            true => input.shape() == shape,
            false => !self.depends(input) && by_channel(input, shape[1]),
        };
        if !inputs.iter().all(fits) {
            return None;
        }
        let new: Vec<Tensor> = inputs
            .iter()
            .map(|input| match self.is_image(input) {
                true => self.blocks(input),
                false if input.count() == 1 => input.clone(),
                false => input.reshape([shape[1] / BLOCK, 1, 1, BLOCK]),
            })
            .collect();
        let refer: Vec<&Tensor> = new.iter().collect();
        Some(Known::Blocks(inside(node, || Tensor::record_source(node.source.clone(), &refer))))
    }

    /// `node` as a part of the tail of a pending convolution, if it can be.
    fn tail(&mut self, node: &Arc<Node>, op: BinaryOp, [a, b]: [&Tensor; 2]) -> Result<Option<Box<Pending>>> {
        let (shape, mut sides) = (node.outputs[0].shape, [(a, b), (b, a)]);
        // Of two convolutions that are added, the later one takes the sum in.
        if a.node.sequence < b.node.sequence {
            sides.reverse();
        }
        for (side, other) in sides {
            let Some(Known::Pending(pending)) = self.known.get(&Arc::as_ptr(&side.node)) else { continue };
            let tail = &pending.tail;
            if tail.relu || side.shape() != shape {
                continue;
            }
            let zero = matches!(other.node.source, Source::Scalar(Scalar::Float(value)) if value == 0.0);
            let bias = !self.depends(other) && by_channel(other, shape[1]);
            let mut tail = tail.clone();
            match op {
                BinaryOp::Max if zero => tail.relu = true,
                BinaryOp::Add if tail.residual.is_none() && bias => {
                    let number = other.reshape(other.count()).expand([shape[1]]);
                    tail.bias = Some(settled(&tail.bias.map_or(number.clone(), |bias| bias + number))?);
                }
                BinaryOp::Add if tail.residual.is_none() && self.is_image(other) && other.shape() == shape => {
                    tail.residual = Some(self.blocks(other));
                }
                _ => continue,
            }
            let Some(Known::Pending(pending)) = self.known.remove(&Arc::as_ptr(&side.node)) else { continue };
            return Ok(Some(Box::new(Pending { tail, ..*pending })));
        }
        Ok(None)
    }

    fn depends(&self, tensor: &Tensor) -> bool {
        self.depends[&Arc::as_ptr(&tensor.node)]
    }

    fn is_image(&self, tensor: &Tensor) -> bool {
        matches!(self.known.get(&Arc::as_ptr(&tensor.node)), Some(Known::Blocks(_) | Known::Pending(_)))
    }

    /// What `tensor` has become, as an image in blocks.
    fn blocks(&mut self, tensor: &Tensor) -> Tensor {
        let known = self.known.get_mut(&Arc::as_ptr(&tensor.node)).expect("inputs come first");
        if let Known::Pending(pending) = known {
            *known = Known::Blocks(pending.record());
        }
        match known {
            Known::Blocks(image) => image.clone(),
            Known::Plain(tensors) => to_blocks(&tensors[tensor.output as usize]),
            Known::Pending(_) => unreachable!("just recorded"),
        }
    }

    /// What `tensor` has become, in its own layout.
    fn plain(&mut self, tensor: &Tensor) -> Tensor {
        match self.known.get(&Arc::as_ptr(&tensor.node)) {
            Some(Known::Plain(tensors)) => tensors[tensor.output as usize].clone(),
            _ => from_blocks(&self.blocks(tensor)),
        }
    }
}

/// Whether `tensor` is one number for each of `channels`, `[C, 1, 1]` or `[1, C, 1, 1]`, or one for all.
fn by_channel(tensor: &Tensor, channels: usize) -> bool {
    let shape = tensor.shape();
    let line = shape.rank() == 3 || (shape.rank() == 4 && shape[0] == 1);
    tensor.count() == 1 || (line && shape[shape.rank() - 3..] == [channels, 1, 1])
}

/// `tensor` computed, its elements one after the other.
fn settled(tensor: &Tensor) -> Result<Tensor> {
    Ok(Tensor::from_node(Node::leaf(tensor.meta(), contiguous(tensor)?, false, tensor.node.location)))
}
