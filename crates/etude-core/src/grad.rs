//! `backward()`: walks the recorded graph and builds the gradients out of ordinary operations, so that gradients of
//! gradients need nothing new.

use crate::node::{ByNode, Node};
use crate::operation::Backward;
use crate::ops::window::sum_of;
use crate::{Error, Result, Tensor};
use std::panic::Location;
use std::sync::Arc;

/// The gradients that one [`Tensor::backward`] found, by variable.
pub struct Gradients {
    by_variable: ByNode<(Tensor, Tensor)>,
}

impl Gradients {
    /// The gradient with respect to `variable`; `None` if the loss does not depend on it.
    pub fn get(&self, variable: &Tensor) -> Option<&Tensor> {
        self.by_variable.get(&Arc::as_ptr(&variable.node)).map(|(_, gradient)| gradient)
    }

    /// Takes the gradient with respect to `variable` out.
    pub fn remove(&mut self, variable: &Tensor) -> Option<Tensor> {
        self.by_variable.remove(&Arc::as_ptr(&variable.node)).map(|(_, gradient)| gradient)
    }

    /// Puts another gradient in the place of the one for `variable`, as clipping does.
    pub fn insert(&mut self, variable: &Tensor, gradient: Tensor) {
        self.by_variable.insert(Arc::as_ptr(&variable.node), (variable.clone(), gradient));
    }

    /// How many variables received a gradient.
    pub fn len(&self) -> usize {
        self.by_variable.len()
    }

    /// Whether no variable received a gradient.
    pub fn is_empty(&self) -> bool {
        self.by_variable.is_empty()
    }
}

impl Tensor {
    /// The gradients of this one-element tensor with respect to every variable behind it. The recorded graph is used up:
    /// a second call is an error ([`Tensor::backward_keeping`] keeps the graph).
    ///
    /// # Errors
    /// If an operation on the way has no gradient (it is named, with its line), if no variable is behind this tensor, or
    /// if the graph was used up before.
    #[track_caller]
    pub fn backward(&self) -> Result<Gradients> {
        self.all_gradients(Some(Location::caller()))
    }

    /// As [`Tensor::backward`], but the graph can be walked again.
    #[track_caller]
    pub fn backward_keeping(&self) -> Result<Gradients> {
        self.all_gradients(None)
    }

    #[track_caller]
    fn all_gradients(&self, used_by: Option<&'static Location<'static>>) -> Result<Gradients> {
        self.check_loss()?;
        if !self.requires_grad() {
            return Err(Error::Gradient(format!(
                "backward: no variable lies behind this loss; {}",
                dead_end(self).unwrap_or_else(|| format!("it comes from {}", self.origin()))
            )));
        }
        let order = topological(std::slice::from_ref(self), |node| node.requires_grad, |_| false)?;
        let variables: Vec<Tensor> =
            order.iter().filter(|node| node.variable).map(|node| Tensor::from_node(node.clone())).collect();
        let seed = vec![(self.clone(), self.ones_like())];
        let found = walk(seed, &order, |node| node.requires_grad, |_| false, &variables)?;
        if let Some(location) = used_by {
            for node in order.iter().filter(|node| !node.variable) {
                let mut state = node.state();
                state.used_by = Some(location);
                if state.values.is_some() {
                    let recipe = std::mem::take(&mut state.inputs);
                    drop(state);
                    drop(recipe);
                }
            }
        }
        let by_variable = variables
            .into_iter()
            .zip(found)
            .filter_map(|(variable, gradient)| Some((Arc::as_ptr(&variable.node), (variable, gradient?))))
            .collect();
        Ok(Gradients { by_variable })
    }

    fn check_loss(&self) -> Result<()> {
        if self.count() == 1 && self.dtype().is_float() {
            return Ok(());
        }
        Err(Error::Gradient(format!(
            "backward: the loss must be one floating number, this is {} {}; take its sum or mean first",
            self.dtype(),
            self.shape()
        )))
    }
}

/// The gradient of `y` (one element) with respect to each of `inputs`, as tensors that can be differentiated again.
/// The graph is kept. Zero where `y` does not depend on an input smoothly is never guessed: that is an error.
///
/// # Errors
/// If `y` does not depend on an input, or an operation on the way has no gradient.
#[track_caller]
pub fn grad(y: &Tensor, inputs: &[&Tensor]) -> Result<Vec<Tensor>> {
    y.check_loss()?;
    let inputs: Vec<Tensor> = inputs.iter().map(|&input| input.clone()).collect();
    let found = vector_jacobian(std::slice::from_ref(y), &[None], &inputs)?;
    let missing = |i: usize| {
        let shape = inputs[i].shape();
        let text = format!("grad: the result does not depend on input {i} ({shape}, {})", inputs[i].origin());
        Error::Gradient(format!("{text}, or it was evaluated before; make the input a variable() to keep its graph"))
    };
    found.into_iter().enumerate().map(|(i, gradient)| gradient.ok_or_else(|| missing(i))).collect()
}

/// The product of `cotangents` (ones where `None`) with the Jacobian of `outputs` by `inputs`; `None` for an input that
/// the outputs do not depend on.
#[track_caller]
pub fn vector_jacobian(
    outputs: &[Tensor],
    cotangents: &[Option<Tensor>],
    inputs: &[Tensor],
) -> Result<Vec<Option<Tensor>>> {
    jacobian(outputs, cotangents, inputs, &[])
}

/// As [`vector_jacobian`], but the way back ends at the nodes of `ends`.
#[track_caller]
fn jacobian(
    outputs: &[Tensor],
    cotangents: &[Option<Tensor>],
    inputs: &[Tensor],
    ends: &[Tensor],
) -> Result<Vec<Option<Tensor>>> {
    let one = |output: &Tensor| output.ones_like();
    let seeds = outputs.iter().zip(cotangents);
    let seeds: Vec<_> = seeds.map(|(y, g)| (y.clone(), g.clone().unwrap_or_else(|| one(y)))).collect();
    let is_end = |node: &Node| ends.iter().any(|end| std::ptr::eq(&*end.node, node));
    let order = topological(outputs, |node| !node.constant, is_end)?;
    // A node matters if an input lies behind it.
    let mut matters: ByNode<bool> = ByNode::default();
    for node in &order {
        let is_input = inputs.iter().any(|input| Arc::ptr_eq(&input.node, node));
        let behind = !node.constant
            && !is_end(node)
            && node.state().inputs.iter().any(|i| matters.get(&Arc::as_ptr(&i.node)) == Some(&true));
        matters.insert(Arc::as_ptr(node), is_input || behind);
    }
    let order: Vec<Arc<Node>> = order.into_iter().filter(|node| matters[&Arc::as_ptr(node)]).collect();
    walk(seeds, &order, |node| matters.get(&(node as *const Node)) == Some(&true), is_end, inputs)
}

/// The gradient of a composite operation: that of its meaning.
pub(crate) fn through_meaning(meaning: Option<Vec<Tensor>>, step: &Backward) -> Result<Vec<Option<Tensor>>, String> {
    let Some(outputs) = meaning else { return Err("it has no gradient".into()) };
    let (mut given, mut cotangents) = (Vec::new(), Vec::new());
    for (output, gradient) in outputs.iter().zip(step.gradients) {
        if gradient.is_some() {
            given.push(output.clone());
            cotangents.push(gradient.clone());
        }
    }
    // Inputs may depend on each other: the way back must not go from one to the next, the caller does that.
    let mut found = jacobian(&given, &cotangents, step.inputs, step.inputs).map_err(|error| error.to_string())?;
    // A tensor that is two inputs has its whole gradient at the first.
    for (i, input) in step.inputs.iter().enumerate() {
        let same = |other: &Tensor| Arc::ptr_eq(&other.node, &input.node) && other.output == input.output;
        if step.inputs[..i].iter().any(same) {
            found[i] = None;
        }
    }
    Ok(found)
}

/// The nodes behind `from` that `follow` accepts, inputs before the nodes that use them, without what lies behind ends.
fn topological(
    from: &[Tensor],
    follow: impl Fn(&Node) -> bool,
    is_end: impl Fn(&Node) -> bool,
) -> Result<Vec<Arc<Node>>> {
    let mut order = Vec::new();
    let mut seen: ByNode<()> = ByNode::default();
    let mut stack: Vec<(Arc<Node>, bool)> = from.iter().map(|tensor| (tensor.node.clone(), false)).collect();
    while let Some((node, done)) = stack.pop() {
        if done {
            order.push(node);
            continue;
        }
        if seen.insert(Arc::as_ptr(&node), ()).is_some() {
            continue;
        }
        if is_end(&node) {
            order.push(node);
            continue;
        }
        let state = node.state();
        if let (Some(location), true) = (state.used_by, state.inputs.is_empty()) {
            return Err(Error::Gradient(format!(
                "backward: the graph behind {} was used up by backward() at {location}; \
                 call backward_keeping() there to walk it twice",
                node.describe()
            )));
        }
        let inputs = state.inputs.clone();
        drop(state);
        stack.push((node, true));
        let behind = inputs.into_iter().map(|input| input.node);
        stack.extend(behind.filter(|node| follow(node)).map(|node| (node, false)));
    }
    Ok(order)
}

/// Carries gradients of tensors (`seeds`) back through `order` (inputs first), not beyond ends, and returns what arrives
/// at `wanted`.
#[track_caller]
fn walk(
    seeds: Vec<(Tensor, Tensor)>,
    order: &[Arc<Node>],
    matters: impl Fn(&Node) -> bool,
    is_end: impl Fn(&Node) -> bool,
    wanted: &[Tensor],
) -> Result<Vec<Option<Tensor>>> {
    let mut arrived: Arrived = ByNode::default();
    for (tensor, gradient) in seeds {
        add_gradient(&mut arrived, &tensor, gradient);
    }
    let mut results: Vec<Option<Tensor>> = vec![None; wanted.len()];
    for node in order.iter().rev() {
        let Some(gradients) = arrived.remove(&Arc::as_ptr(node)) else { continue };
        let sum = |terms: Vec<Tensor>| (!terms.is_empty()).then(|| sum_of(terms));
        let gradients: Vec<Option<Tensor>> = gradients.into_iter().map(sum).collect();
        for (result, tensor) in results.iter_mut().zip(wanted) {
            if Arc::ptr_eq(&tensor.node, node) {
                result.clone_from(&gradients[tensor.output as usize]);
            }
        }
        if is_end(node) {
            continue;
        }
        let inputs = node.state().inputs.clone();
        let Some(operation) = node.source.operation().filter(|_| !inputs.is_empty()) else { continue };
        let needed: Vec<bool> = inputs.iter().map(|i| i.dtype().is_float() && matters(&i.node)).collect();
        if !needed.contains(&true) {
            continue;
        }
        let outputs: Vec<Tensor> =
            (0..node.outputs.len()).map(|i| Tensor { node: node.clone(), output: i as u32 }).collect();
        let step = Backward { inputs: &inputs, outputs: &outputs, gradients: &gradients, needed: &needed };
        let back = operation.gradient(&step).map_err(|message| {
            Error::Gradient(format!("backward: {} cannot be differentiated: {message}", node.describe()))
        })?;
        for ((input, gradient), &needed) in inputs.iter().zip(back).zip(&needed) {
            let Some(gradient) = gradient.filter(|_| needed) else { continue };
            debug_assert_eq!(gradient.shape(), input.shape(), "gradient of {} by {:?}", operation.name(), input);
            add_gradient(&mut arrived, input, gradient);
        }
    }
    Ok(results)
}

/// What has arrived at each output of a node so far.
type Arrived = ByNode<Vec<Vec<Tensor>>>;

fn add_gradient(arrived: &mut Arrived, tensor: &Tensor, gradient: Tensor) {
    let slots = arrived.entry(Arc::as_ptr(&tensor.node)).or_insert_with(|| vec![Vec::new(); tensor.node.outputs.len()]);
    slots[tensor.output as usize].push(gradient);
}

/// The operation that cut the way from `loss` to a variable, if one did.
fn dead_end(loss: &Tensor) -> Option<String> {
    let order = topological(std::slice::from_ref(loss), |_| true, |_| false).ok()?;
    let cut = order.iter().find(|node| {
        let turned = node.outputs.iter().all(|meta| !meta.dtype.is_float());
        (turned || node.constant) && node.state().inputs.iter().any(|input| input.node.requires_grad)
    })?;
    let why = if cut.constant { "was recorded without gradients" } else { "has no gradient" };
    Some(format!("{} {why} and cuts it off", cut.describe()))
}
