//! Frozen functions: tensors of inputs with everything else fixed. What does not depend on the inputs is computed once,
//! scales and shifts behind a weight are folded into it, convolutions get the layout that suits them, weights of products
//! are packed, and a call runs a plan without recording anything.

use super::{SharedPlan, capture, execute, layout, packing, profile};
use crate::node::{ByNode, Node, Source, Value};
use crate::operation::{Kind, Meta, WeightAxis};
use crate::{Error, Result, Tensor, Window, compile, context};
use etude_kernels::tile::{BinaryOp, Scalar};
use std::panic::Location;
use std::sync::Arc;

/// A function of tensors of given shapes, planned once. Data it was recorded with is part of it.
pub struct Frozen {
    plan: SharedPlan,
    inputs: Vec<Meta>,
    /// The data behind the inputs, in the plan's numbering.
    leaves: Vec<Value>,
    scalars: Vec<Scalar>,
    /// For each output: its place among its node's, and what it is.
    outputs: Vec<(usize, Meta)>,
}

impl Frozen {
    /// Records `body` once, for inputs of these shapes and dtypes, in evaluation mode and without gradients. `None` if
    /// `body` draws random numbers, which a frozen function would draw alike at each call.
    ///
    /// # Errors
    /// If what does not depend on the inputs cannot be computed.
    ///
    /// # Panics
    /// If `body` reads the value of something that depends on its inputs.
    #[track_caller]
    pub fn new(inputs: &[Meta], body: impl FnOnce(&[Tensor]) -> Vec<Tensor>) -> Result<Option<Frozen>> {
        let location = Location::caller();
        let placeholders: Vec<Tensor> =
            inputs.iter().map(|&meta| Tensor::from_node(Node::placeholder(meta, location))).collect();
        let outputs = quietly(|| context::evaluating(|| body(&placeholders)));
        let Some(outputs) = Folder::fold(&outputs, &placeholders) else { return Ok(None) };
        let outputs = quietly(|| layout::choose(&outputs, &placeholders))?;
        let outputs = packing::pack(&outputs, &placeholders);
        Tensor::eval_all(&constants(&outputs, &placeholders))?;
        // What is an input, or was there before, needs a node of its own to be a result.
        let own = |tensor: &Tensor| match tensor.node.source {
            Source::Table(_) | Source::Own(_) if !tensor.is_evaluated() => tensor.clone(),
            _ => {
                let alias = Source::Table(&crate::ops::view::ALIAS);
                Tensor::from_node(Node::operation(
                    alias,
                    [tensor.clone()].into_iter().collect(),
                    vec![tensor.meta()],
                    location,
                ))
            }
        };
        let outputs: Vec<Tensor> = quietly(|| outputs.iter().map(own).collect());
        let captured = capture::capture_function(&outputs, &placeholders);
        let plan = compile::compile(captured.graph()).map_err(Error::Execution)?;
        let scalars: Vec<Scalar> = captured.scalars.iter().chain(&plan.constants).copied().collect();
        let leaves = captured.leaves.into_iter().skip(inputs.len()).map(|leaf| leaf.value);
        let leaves = leaves.chain(execute::tables(&plan, &scalars)?).collect();
        Ok(Some(Frozen {
            plan: Arc::new(plan),
            inputs: inputs.to_vec(),
            leaves,
            scalars,
            outputs: outputs.iter().map(|tensor| (tensor.output as usize, tensor.meta())).collect(),
        }))
    }

    /// The outputs for `inputs`, evaluated.
    ///
    /// # Errors
    /// If an input is not of the shape and dtype the function was recorded for, or a step fails.
    #[track_caller]
    pub fn run(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>> {
        let metas = || inputs.iter().map(|input| input.meta());
        if !metas().eq(self.inputs.iter().copied()) {
            let show = |metas: &mut dyn Iterator<Item = Meta>| {
                metas.map(|meta| format!("{} {}", meta.dtype, meta.shape)).collect::<Vec<_>>().join(", ")
            };
            let (wanted, given) = (show(&mut self.inputs.iter().copied()), show(&mut metas()));
            return Err(Error::Execution(format!("a function frozen for ({wanted}) was given ({given})")));
        }
        let location = Location::caller();
        let values: Vec<Value> = inputs.iter().map(|input| contiguous(input)).collect::<Result<_>>()?;
        let leaves = values.iter().chain(&self.leaves).collect();
        let run = |times| execute::run_on_leaves(&self.plan, leaves, &self.scalars, times);
        let results = match profile::collecting() {
            false => run(None)?,
            true => {
                let mut times = Vec::with_capacity(self.plan.steps.len());
                let results = profile::timed("execute", || run(Some(&mut times)))?;
                profile::note_run(&self.plan, &times);
                results
            }
        };
        let wrap = |(mut values, &(output, meta)): (Vec<Value>, &(usize, Meta))| {
            Tensor::from_node(Node::leaf(meta, values.swap_remove(output), false, location))
        };
        Ok(results.into_iter().zip(&self.outputs).map(wrap).collect())
    }

    /// How many steps a call runs.
    pub fn steps(&self) -> usize {
        self.plan.steps.len()
    }
}

/// Records on placeholders, without gradients.
pub(super) fn quietly<R>(run: impl FnOnce() -> R) -> R {
    context::no_grad(|| context::tracing(run))
}

/// The value of `tensor` with its elements one after the other.
pub(super) fn contiguous(tensor: &Tensor) -> Result<Value> {
    tensor.eval()?;
    let value = tensor.evaluated();
    if value.window.is_contiguous() {
        return Ok(value);
    }
    Ok(Tensor::from_bytes(&tensor.to_bytes(), tensor.shape(), tensor.dtype()).evaluated())
}

/// The nodes behind `outputs` that are not evaluated, inputs first.
pub(super) fn behind(outputs: &[Tensor]) -> Vec<Arc<Node>> {
    let (mut order, mut seen): (Vec<Arc<Node>>, ByNode<()>) = (Vec::new(), ByNode::default());
    let mut stack: Vec<(Arc<Node>, bool)> = outputs.iter().rev().map(|tensor| (tensor.node.clone(), false)).collect();
    while let Some((node, done)) = stack.pop() {
        if done {
            order.push(node);
        } else if seen.insert(Arc::as_ptr(&node), ()).is_none() {
            let inputs: Vec<Arc<Node>> = match node.is_evaluated() {
                true => Vec::new(),
                false => node.state().inputs.iter().rev().map(|input| input.node.clone()).collect(),
            };
            stack.push((node, true));
            stack.extend(inputs.into_iter().map(|input| (input, false)));
        }
    }
    order
}

/// Which nodes of `order` depend on the placeholders.
pub(super) fn dependent(order: &[Arc<Node>], placeholders: &[Tensor]) -> ByNode<bool> {
    let mut depends: ByNode<bool> = ByNode::default();
    for node in order {
        let placeholder = placeholders.iter().any(|tensor| Arc::ptr_eq(&tensor.node, node));
        let inherits = || node.state().inputs.iter().any(|input| depends[&Arc::as_ptr(&input.node)]);
        let found = placeholder || (!node.is_evaluated() && inherits());
        depends.insert(Arc::as_ptr(node), found);
    }
    depends
}

/// What the graph of `outputs` reads that does not depend on the placeholders and costs something to compute.
fn constants(outputs: &[Tensor], placeholders: &[Tensor]) -> Vec<Tensor> {
    let order = behind(outputs);
    let depends = dependent(&order, placeholders);
    // Views of what is there already cost nothing, if strides can say them.
    let mut free: ByNode<Option<Window>> = ByNode::default();
    for node in &order {
        let found = match node.source.operation().map(|operation| operation.kind()) {
            _ if node.is_evaluated() => outputs_of(node).first().map(|tensor| tensor.evaluated().window),
            Some(Kind::View(view)) => {
                let input = node.state().inputs[0].clone();
                free[&Arc::as_ptr(&input.node)].and_then(|window| view.apply(&window, &node.outputs[0].shape))
            }
            _ => None,
        };
        free.insert(Arc::as_ptr(node), found);
    }
    let mut found: Vec<Tensor> = Vec::new();
    let inner = order.iter().filter(|node| depends[&Arc::as_ptr(node)]).flat_map(|node| node.state().inputs.clone());
    for tensor in inner.chain(outputs.iter().cloned()) {
        let at = Arc::as_ptr(&tensor.node);
        if !depends[&at] && free[&at].is_none() {
            found.push(tensor);
        }
    }
    found
}

/// The result of an operation that is linear in a weight, times `scale` plus `shift`, not yet recorded.
struct Linear {
    node: Arc<Node>,
    inputs: Vec<Tensor>,
    axis: WeightAxis,
    /// One number a channel, or one for all.
    scale: Option<Tensor>,
    shift: Option<Tensor>,
}

enum Known {
    Ready(Vec<Tensor>),
    Pending(Box<Linear>),
}

/// Folds scales and shifts by channel into the weights before them.
struct Folder {
    depends: ByNode<bool>,
    readers: ByNode<usize>,
    known: ByNode<Known>,
}

impl Folder {
    /// The same outputs, with less to compute; `None` if something behind them is random.
    fn fold(outputs: &[Tensor], placeholders: &[Tensor]) -> Option<Vec<Tensor>> {
        let order = behind(outputs);
        if order.iter().any(|node| !node.is_evaluated() && node.source.operation().is_some_and(|op| op.draws())) {
            return None;
        }
        let mut readers: ByNode<usize> = ByNode::default();
        for node in order.iter().filter(|node| !node.is_evaluated()) {
            for input in &node.state().inputs {
                *readers.entry(Arc::as_ptr(&input.node)).or_default() += 1;
            }
        }
        // An output is read by whoever asked for it.
        outputs.iter().for_each(|output| *readers.entry(Arc::as_ptr(&output.node)).or_default() += 2);
        let mut folder = Folder { depends: dependent(&order, placeholders), readers, known: ByNode::default() };
        quietly(|| {
            for node in &order {
                let known = folder.rewrite(node);
                folder.known.insert(Arc::as_ptr(node), known);
            }
            Some(outputs.iter().map(|output| folder.ready(output)).collect())
        })
    }

    fn rewrite(&mut self, node: &Arc<Node>) -> Known {
        let inputs = node.state().inputs.clone();
        let Some(operation) = node.source.operation().filter(|_| self.depends[&Arc::as_ptr(node)]) else {
            return Known::Ready(outputs_of(node));
        };
        let once = self.readers.get(&Arc::as_ptr(node)) == Some(&1);
        if let Some(mut linear) = self.scaled(node, operation.kind(), &inputs) {
            return match once {
                true => Known::Pending(linear),
                false => Known::Ready(vec![linear.record()]),
            };
        }
        let new: Vec<Tensor> = inputs.iter().map(|input| self.ready(input)).collect();
        let metas: Vec<Meta> = new.iter().map(|input| input.meta()).collect();
        if let Some(axis) = operation.weight_axis(&metas).filter(|axis| once && !self.depends(&inputs[axis.input])) {
            return Known::Pending(Box::new(Linear {
                node: node.clone(),
                inputs: new,
                axis,
                scale: None,
                shift: None,
            }));
        }
        Known::Ready(outputs_of(&again(node, &inputs, new)))
    }

    fn depends(&self, tensor: &Tensor) -> bool {
        self.depends[&Arc::as_ptr(&tensor.node)]
    }

    /// What `tensor` has become, recorded if it was not yet.
    fn ready(&mut self, tensor: &Tensor) -> Tensor {
        let known = self.known.get_mut(&Arc::as_ptr(&tensor.node)).expect("inputs come first");
        if let Known::Pending(linear) = known {
            *known = Known::Ready(vec![linear.record()]);
        }
        let Known::Ready(tensors) = known else { unreachable!("just made ready") };
        tensors[tensor.output as usize].clone()
    }

    /// `node` as a scale or shift of a pending operation, if it is one.
    fn scaled(&mut self, node: &Arc<Node>, kind: Kind, inputs: &[Tensor]) -> Option<Box<Linear>> {
        let (Kind::Binary(op), [a, b]) = (kind, inputs) else { return None };
        let pending = |tensor: &Tensor| matches!(self.known.get(&Arc::as_ptr(&tensor.node)), Some(Known::Pending(_)));
        let (side, other, turned) = match (pending(a), pending(b)) {
            (true, _) if !self.depends(b) => (a, b, false),
            (_, true) if !self.depends(a) => (b, a, true),
            _ => return None,
        };
        if !matches!(op, BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul) && (op, turned) != (BinaryOp::Div, false) {
            return None;
        }
        let Some(Known::Pending(linear)) = self.known.get(&Arc::as_ptr(&side.node)) else { return None };
        let number = linear.by_channel(other, &node.outputs[0])?;
        let Some(Known::Pending(mut linear)) = self.known.remove(&Arc::as_ptr(&side.node)) else { return None };
        let (scale, shift) = (linear.scale.take(), linear.shift.take());
        let times = |held: Option<Tensor>| held.map(|held| held * &number);
        (linear.scale, linear.shift) = match (op, turned) {
            (BinaryOp::Add, _) => (scale, Some(shift.map_or(number.clone(), |shift| shift + &number))),
            (BinaryOp::Sub, false) => (scale, Some(shift.map_or(-&number, |shift| shift - &number))),
            (BinaryOp::Sub, true) => {
                let minus = scale.map_or_else(|| Tensor::scalar(-1.0, number.dtype()).reshape(1), |scale| -scale);
                (Some(minus), Some(shift.map_or(number.clone(), |shift| &number - shift)))
            }
            (BinaryOp::Mul, _) => (Some(times(scale).unwrap_or(number.clone())), times(shift)),
            _ => {
                let scale = scale.unwrap_or_else(|| Tensor::scalar(1.0, number.dtype()).reshape(1));
                (Some(scale / &number), shift.map(|shift| shift / &number))
            }
        };
        Some(linear)
    }
}

impl Linear {
    /// `tensor` as one number a channel, or one for all, if broadcasting it to `output` does no more than that.
    fn by_channel(&self, tensor: &Tensor, output: &Meta) -> Option<Tensor> {
        let (own, shape) = (&self.node.outputs[0], tensor.shape());
        let channel = own.shape.rank() - self.axis.output;
        let plain = |(axis, &size): (usize, &usize)| size == 1 || shape.rank() - axis == channel;
        let fits = own == output && shape.iter().enumerate().all(plain);
        fits.then(|| tensor.reshape(tensor.count()))
    }

    /// Records the operation with its weight scaled, and the shift behind it.
    fn record(&mut self) -> Tensor {
        let line = |tensor: &Tensor, axis: usize, rank: usize| {
            let mut shape = vec![1; rank];
            shape[axis] = tensor.count();
            tensor.reshape(shape)
        };
        let old = self.inputs.clone();
        if let Some(scale) = &self.scale {
            let weight = &mut self.inputs[self.axis.input];
            *weight = &*weight * line(scale, self.axis.weight, weight.rank());
        }
        let node = match self.scale {
            Some(_) => again(&self.node, &old, self.inputs.clone()),
            None => again(&self.node, &self.node.state().inputs.clone(), self.inputs.clone()),
        };
        let result = Tensor::from_node(node);
        match &self.shift {
            Some(shift) => &result + line(shift, self.axis.output, result.rank()),
            None => result,
        }
    }
}

pub(super) fn outputs_of(node: &Arc<Node>) -> Vec<Tensor> {
    (0..node.outputs.len()).map(|i| Tensor { node: node.clone(), output: i as u32 }).collect()
}

/// `node` with `new` inputs in the place of `old` ones: itself, if they are the same.
pub(super) fn again(node: &Arc<Node>, old: &[Tensor], new: Vec<Tensor>) -> Arc<Node> {
    let same = |(old, new): (&Tensor, &Tensor)| Arc::ptr_eq(&old.node, &new.node) && old.output == new.output;
    if old.iter().zip(&new).all(same) {
        return node.clone();
    }
    let record =
        || Node::operation(node.source.clone(), new.into_iter().collect(), node.outputs.to_vec(), node.location);
    match &node.scope {
        Some(scope) => context::scope(scope, record),
        None => record(),
    }
}
