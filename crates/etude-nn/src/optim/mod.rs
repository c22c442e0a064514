//! Optimisers: a rule for one parameter, applied to all. Updates are ordinary tensor operations, so each parameter's
//! becomes one fused pass over memory, in place.

mod adam;
mod sgd;

pub use adam::{Adam, AdamW};
pub use sgd::Sgd;

use crate::{Module, Param};
use etude_core::{Gradients, Result, Tensor, no_grad};

/// How one parameter changes in one step.
pub trait Rule: Send {
    /// The name checkpoints and tables use.
    fn name(&self) -> &'static str;

    /// The rate this rule was made with; schedules multiply or replace it.
    fn learning_rate(&self) -> f64;

    /// The names of the tensors kept for each parameter, all starting at 0 in the parameter's shape.
    fn slots(&self) -> &'static [&'static str];

    /// The new value of `w` for gradient `g` in step number `step.number` (from 1), and the slots' new values in place.
    fn update(&self, w: &Tensor, g: &Tensor, slots: &mut [Tensor], step: &Step) -> Tensor;
}

/// What a rule knows about the step it takes.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Counts from 1.
    pub number: u64,
    /// The learning rate now.
    pub learning_rate: f64,
    /// The L2 penalty or decay now.
    pub weight_decay: f64,
}

/// Parameters that share settings.
struct Group {
    /// The group's learning rate is the optimiser's times this.
    rate_scale: f64,
    /// Replaces the rule's weight decay.
    weight_decay: Option<f64>,
    members: Vec<usize>,
}

/// One parameter and what its rule remembers.
struct Member {
    name: String,
    param: Param,
    slots: Vec<Tensor>,
}

/// How gradients are cut before a step.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Clip {
    /// Scale all gradients together so that their common norm is at most this.
    Norm(f64),
    /// Cut every element to ±this.
    Value(f64),
}

/// A rule with the parameters it trains.
pub struct Optimizer {
    rule: Box<dyn Rule>,
    members: Vec<Member>,
    groups: Vec<Group>,
    learning_rate: f64,
    weight_decay: f64,
    clip: Option<Clip>,
    steps: u64,
    warned: bool,
}

impl Optimizer {
    /// An optimiser that trains every parameter of `module` that is not frozen when a step is taken.
    pub fn new(rule: impl Rule + 'static, weight_decay: f64, module: &(impl Module + ?Sized)) -> Optimizer {
        let slots = rule.slots().len();
        let member = |(name, param): (String, Param)| {
            let zero = etude_core::full(param.shape(), 0.0).to(param.dtype());
            Member { name, slots: vec![zero; slots], param }
        };
        let members: Vec<Member> = module.parameters().into_iter().map(member).collect();
        let all = Group { rate_scale: 1.0, weight_decay: None, members: (0..members.len()).collect() };
        Optimizer {
            learning_rate: rule.learning_rate(),
            rule: Box::new(rule),
            members,
            groups: vec![all],
            weight_decay,
            clip: None,
            steps: 0,
            warned: false,
        }
    }

    /// Gives the parameters whose path `chosen` accepts a learning rate `rate_scale` times the others', and a weight
    /// decay of their own if one is given.
    pub fn group(mut self, chosen: impl Fn(&str) -> bool, rate_scale: f64, weight_decay: Option<f64>) -> Optimizer {
        let members: Vec<usize> = (0..self.members.len()).filter(|&i| chosen(&self.members[i].name)).collect();
        self.groups.iter_mut().for_each(|group| group.members.retain(|member| !members.contains(member)));
        self.groups.push(Group { rate_scale, weight_decay, members });
        self
    }

    /// Cuts gradients before each step.
    pub fn clip(mut self, clip: Clip) -> Optimizer {
        self.clip = Some(clip);
        self
    }

    /// The learning rate now.
    pub fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    /// Sets the learning rate for the steps to come.
    pub fn set_learning_rate(&mut self, rate: f64) {
        self.learning_rate = rate;
    }

    /// How many steps were taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Differentiates `loss`, takes a step and evaluates the loss and the new parameters together.
    ///
    /// # Errors
    /// If the loss cannot be differentiated, or the evaluation fails.
    #[track_caller]
    pub fn minimise(&mut self, loss: &Tensor) -> Result<()> {
        let gradients = loss.backward()?;
        self.step_with(gradients, Some(loss))
    }

    /// Takes a step along `gradients`, which are used up, and evaluates the new parameters.
    #[track_caller]
    pub fn step(&mut self, gradients: Gradients) -> Result<()> {
        self.step_with(gradients, None)
    }

    #[track_caller]
    fn step_with(&mut self, gradients: Gradients, loss: Option<&Tensor>) -> Result<()> {
        self.steps += 1;
        let mut pairs = self.take_gradients(gradients);
        let wanted = no_grad(|| {
            clip(&mut pairs, self.clip);
            let mut wanted: Vec<Tensor> = loss.cloned().into_iter().collect();
            for (index, gradient) in pairs {
                self.update(index, &gradient, &mut wanted);
            }
            wanted
        });
        Tensor::eval_all(&wanted)
    }

    /// The gradient of each trained parameter; those that got none are reported once.
    fn take_gradients(&mut self, mut gradients: Gradients) -> Vec<(usize, Tensor)> {
        let mut pairs = Vec::with_capacity(self.members.len());
        let mut missing = Vec::new();
        for (index, member) in self.members.iter().enumerate().filter(|(_, member)| !member.param.is_frozen()) {
            match gradients.remove(&member.param.value()) {
                Some(gradient) => pairs.push((index, gradient)),
                None => missing.push(member.name.as_str()),
            }
        }
        if !missing.is_empty() && !self.warned {
            self.warned = true;
            eprintln!(
                "etude: no gradient reaches {}; freeze what should not be trained, or check for a detach()",
                missing.join(", ")
            );
        }
        pairs
    }

    fn update(&mut self, index: usize, gradient: &Tensor, wanted: &mut Vec<Tensor>) {
        let group = self.groups.iter().find(|group| group.members.contains(&index));
        let step = Step {
            number: self.steps,
            learning_rate: self.learning_rate * group.map_or(1.0, |group| group.rate_scale),
            weight_decay: group.and_then(|group| group.weight_decay).unwrap_or(self.weight_decay),
        };
        let member = &mut self.members[index];
        let new = self.rule.update(&member.param.value(), gradient, &mut member.slots, &step);
        wanted.push(new.clone());
        wanted.extend(member.slots.iter().cloned());
        member.param.set(new);
    }

    /// Everything the optimiser remembers, by name: what a checkpoint holds beside the parameters. The rate and the
    /// number of steps are numbers of their own.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let names = self.rule.slots();
        let of = |member: &Member| -> Vec<(String, Tensor)> {
            let named = names.iter().zip(&member.slots);
            named.map(|(slot, tensor)| (format!("{}.{slot}", member.name), tensor.clone())).collect()
        };
        self.members.iter().flat_map(of).collect()
    }

    /// Puts back what [`Optimizer::state`] gave, the number of steps and the learning rate.
    ///
    /// # Errors
    /// If a tensor is missing or of another shape.
    pub fn restore(
        &mut self,
        tensors: &std::collections::HashMap<String, Tensor>,
        steps: u64,
        learning_rate: f64,
    ) -> Result<()> {
        let names = self.rule.slots();
        let mut restored = Vec::with_capacity(self.members.len());
        for member in &self.members {
            for slot in names {
                let key = format!("{}.{slot}", member.name);
                match tensors.get(&key) {
                    Some(tensor) if tensor.shape() == member.param.shape() => restored.push(tensor.clone()),
                    _ => {
                        let text = format!("the optimiser's state lacks `{key}` as {}", member.param.shape());
                        return Err(etude_core::Error::outside(text));
                    }
                }
            }
        }
        let mut restored = restored.into_iter();
        for member in &mut self.members {
            member.slots = restored.by_ref().take(names.len()).collect();
        }
        (self.steps, self.learning_rate) = (steps, learning_rate);
        Ok(())
    }
}

/// Cuts gradients in place.
fn clip(pairs: &mut [(usize, Tensor)], clip: Option<Clip>) {
    match clip {
        None => (),
        Some(Clip::Value(limit)) => {
            pairs.iter_mut().for_each(|(_, gradient)| *gradient = gradient.clamp(-limit, limit));
        }
        Some(Clip::Norm(limit)) if !pairs.is_empty() => {
            let norm = pairs.iter().map(|(_, gradient)| gradient.square().sum(..)).sum::<Tensor>().sqrt();
            let scale = (limit / (norm + 1e-6)).minimum(1.0);
            pairs.iter_mut().for_each(|(_, gradient)| *gradient = &*gradient * &scale);
        }
        Some(Clip::Norm(_)) => (),
    }
}
