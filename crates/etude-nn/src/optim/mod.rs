//! Optimisers: a rule for one parameter, applied to all. The rule is ordinary tensor arithmetic; a step records one node
//! for all parameters of a group (`update.rs`), and each parameter's part becomes one fused pass over memory, in place.

mod adadelta;
mod adagrad;
mod adam;
mod average;
mod rmsprop;
mod sgd;
mod update;

pub use adadelta::Adadelta;
pub use adagrad::Adagrad;
pub use adam::{Adam, AdamW};
pub use average::Average;
pub use rmsprop::RmsProp;
pub use sgd::Sgd;

use crate::schedule::Schedule;
use crate::{Module, Param};
use etude_core::{DType, Gradients, Result, Tensor, no_grad};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use update::Update;

/// How one parameter changes in one step.
pub trait Rule: std::fmt::Debug + Send + Sync {
    /// The name checkpoints and tables use.
    fn name(&self) -> &'static str;

    /// The rate this rule was made with; schedules multiply or replace it.
    fn learning_rate(&self) -> f64;

    /// The names of the tensors kept for each parameter, in the parameter's shape.
    fn slots(&self) -> &'static [&'static str];

    /// The number the slots are full of before the first step.
    fn start(&self) -> f64 {
        0.0
    }

    /// The numbers that change from step to step, in the order [`Rule::update`] takes them.
    fn numbers(&self, step: &Step) -> Vec<f64>;

    /// The new value of `w` for gradient `g`, and the slots' new values in place. Recorded once a plan: what is recorded
    /// must depend on the rule as `Debug` shows it and on how many numbers there are, never on what they are.
    fn update(&self, w: &Tensor, g: &Tensor, slots: &mut [Tensor], numbers: &[Tensor]) -> Tensor;
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

impl Step {
    /// `numbers`, and the weight decay after them if there is one.
    pub fn with_decay<const N: usize>(&self, numbers: [f64; N]) -> Vec<f64> {
        let decay = Some(self.weight_decay).filter(|&decay| decay != 0.0);
        numbers.into_iter().chain(decay).collect()
    }
}

/// The gradient with the L2 penalty's, `g + λ·w`; `decay` is what [`Step::with_decay`] put behind a rule's numbers.
fn penalised(w: &Tensor, g: &Tensor, decay: &[Tensor]) -> Tensor {
    match decay {
        [decay, ..] => g + w * decay,
        [] => g.clone(),
    }
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
    /// The sum of the gradients of the passes since the last step.
    gathered: Option<Tensor>,
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
    shared: Arc<Mutex<Shared>>,
}

/// What all handles to an optimiser share.
struct Shared {
    rule: Arc<dyn Rule>,
    members: Vec<Member>,
    groups: Vec<Group>,
    learning_rate: f64,
    schedule: Option<Box<dyn Schedule>>,
    weight_decay: f64,
    clip: Option<Clip>,
    /// A step is taken every so many passes.
    accumulate: u64,
    /// Passes since the last step.
    passes: u64,
    steps: u64,
    warned: bool,
}

impl Optimizer {
    /// An optimiser that trains every parameter of `module` that is not frozen when a step is taken.
    pub fn new(rule: impl Rule + 'static, weight_decay: f64, module: &(impl Module + ?Sized)) -> Optimizer {
        let slots = rule.slots().len();
        let member = |(name, param): (String, Param)| {
            let start = Tensor::scalar(rule.start(), param.dtype()).expand(param.shape());
            Member { name, slots: vec![start; slots], param, gathered: None }
        };
        let members: Vec<Member> = module.parameters().into_iter().map(member).collect();
        let all = Group { rate_scale: 1.0, weight_decay: None, members: (0..members.len()).collect() };
        let shared = Shared {
            learning_rate: rule.learning_rate(),
            schedule: None,
            rule: Arc::new(rule),
            members,
            groups: vec![all],
            weight_decay,
            clip: None,
            accumulate: 1,
            passes: 0,
            steps: 0,
            warned: false,
        };
        Optimizer { shared: Arc::new(Mutex::new(shared)) }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(|poison| poison.into_inner())
    }

    /// Another handle to the same optimiser: what a run that saves it keeps.
    pub fn handle(&self) -> Optimizer {
        Optimizer { shared: self.shared.clone() }
    }

    /// Gives the parameters whose path `chosen` accepts a learning rate `rate_scale` times the others', and a weight
    /// decay of their own if one is given.
    pub fn group(self, chosen: impl Fn(&str) -> bool, rate_scale: f64, weight_decay: Option<f64>) -> Optimizer {
        let mut shared = self.lock();
        let members: Vec<usize> = (0..shared.members.len()).filter(|&i| chosen(&shared.members[i].name)).collect();
        shared.groups.iter_mut().for_each(|group| group.members.retain(|member| !members.contains(member)));
        shared.groups.push(Group { rate_scale, weight_decay, members });
        drop(shared);
        self
    }

    /// Takes the learning rate of each step, counted from 0, from a schedule or a closure. It depends on the number of
    /// steps alone, which is saved and put back, so a resumed run goes on where it was.
    ///
    /// ```
    /// # use etude_nn::{Linear, Forward, optim::Adam, schedule::Cosine};
    /// # let layer = Linear::new(2, 1).init();
    /// let mut step = Adam::new(1e-3).over(&layer).schedule(Cosine::down(1e-3, 10.0, 200));
    /// # step.minimise(&layer.forward(&etude_core::ones([1, 2])).sum(..))?;
    /// # Ok::<(), etude_core::Error>(())
    /// ```
    pub fn schedule(self, schedule: impl Schedule + 'static) -> Optimizer {
        self.lock().schedule = Some(Box::new(schedule));
        self
    }

    /// Cuts gradients before each step.
    pub fn clip(self, clip: Clip) -> Optimizer {
        self.lock().clip = Some(clip);
        self
    }

    /// Takes a step only every `passes` calls of [`Optimizer::minimise`] or [`Optimizer::step`], along the mean of
    /// their gradients: a large batch in parts that fit into memory.
    pub fn accumulate(self, passes: u64) -> Optimizer {
        self.lock().accumulate = passes.max(1);
        self
    }

    /// The learning rate now.
    pub fn learning_rate(&self) -> f64 {
        self.lock().learning_rate
    }

    /// Sets the learning rate for the steps to come; a schedule sets it anew before each.
    pub fn set_learning_rate(&mut self, rate: f64) {
        self.lock().learning_rate = rate;
    }

    /// How many steps were taken.
    pub fn steps(&self) -> u64 {
        self.lock().steps
    }

    /// Differentiates `loss`, takes a step and evaluates the loss and the new parameters together.
    ///
    /// # Errors
    /// If the loss cannot be differentiated, or the evaluation fails.
    #[track_caller]
    pub fn minimise(&mut self, loss: &Tensor) -> Result<()> {
        let gradients = loss.backward()?;
        self.lock().step_with(gradients, Some(loss))
    }

    /// Takes a step along `gradients`, which are used up, and evaluates the new parameters.
    #[track_caller]
    pub fn step(&mut self, gradients: Gradients) -> Result<()> {
        self.lock().step_with(gradients, None)
    }

    /// Everything the optimiser remembers, by name: what a checkpoint holds beside the parameters. The rate and the
    /// number of steps are numbers of their own.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        self.lock().state()
    }

    /// Puts back what [`Optimizer::state`] gave, the number of steps and the learning rate.
    ///
    /// # Errors
    /// If a tensor is missing or of another shape.
    pub fn restore(&mut self, tensors: &HashMap<String, Tensor>, steps: u64, learning_rate: f64) -> Result<()> {
        self.lock().restore(tensors, steps, learning_rate)
    }
}

impl Shared {
    #[track_caller]
    fn step_with(&mut self, gradients: Gradients, loss: Option<&Tensor>) -> Result<()> {
        let mut pairs = self.take_gradients(gradients);
        let mut wanted: Vec<Tensor> = loss.cloned().into_iter().collect();
        let mut changed = Vec::new();
        no_grad(|| {
            if self.accumulate > 1 {
                pairs = self.gather(pairs, &mut wanted);
                if self.passes > 0 {
                    return;
                }
            }
            if let Some(schedule) = &self.schedule {
                self.learning_rate = schedule.rate(self.steps);
            }
            self.steps += 1;
            clip(&mut pairs, self.clip);
            changed = pairs.iter().map(|(index, _)| *index).collect();
            self.update(pairs, &mut wanted);
        });
        Tensor::eval_all(&wanted)?;
        drop(wanted);
        // Each new value as data of its own: what one node made together would be held together.
        for index in changed {
            let member = &mut self.members[index];
            member.param.settle();
            member.slots.iter_mut().for_each(|slot| *slot = slot.detach());
        }
        Ok(())
    }

    /// Adds this pass's gradients to those gathered. After the last pass of a step their means are returned; before,
    /// nothing is, and the sums are wanted so that their graph does not grow.
    fn gather(&mut self, pairs: Vec<(usize, Tensor)>, wanted: &mut Vec<Tensor>) -> Vec<(usize, Tensor)> {
        for (index, gradient) in pairs {
            let held = &mut self.members[index].gathered;
            *held = Some(match held.take() {
                Some(sum) => sum + gradient,
                None => gradient,
            });
        }
        self.passes += 1;
        if self.passes < self.accumulate {
            wanted.extend(self.members.iter().filter_map(|member| member.gathered.clone()));
            return Vec::new();
        }
        self.passes = 0;
        let share = 1.0 / self.accumulate as f64;
        let sums = self.members.iter_mut().enumerate();
        sums.filter_map(|(index, member)| Some((index, member.gathered.take()? * share))).collect()
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

    /// Records the update of all members that have a gradient: one node for each group and dtype.
    #[track_caller]
    fn update(&mut self, mut pairs: Vec<(usize, Tensor)>, wanted: &mut Vec<Tensor>) {
        for group in &self.groups {
            let step = Step {
                number: self.steps,
                learning_rate: self.learning_rate * group.rate_scale,
                weight_decay: group.weight_decay.unwrap_or(self.weight_decay),
            };
            for dtype in [DType::F32, DType::F64] {
                let (own, others) = pairs.into_iter().partition(|(index, _): &(usize, Tensor)| {
                    self.members[*index].param.dtype() == dtype && group.members.binary_search(index).is_ok()
                });
                pairs = others;
                Update::record(&self.rule, &step, dtype, own, &mut self.members, wanted);
            }
        }
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let names = self.rule.slots();
        let of = |member: &Member| -> Vec<(String, Tensor)> {
            let named = names.iter().zip(&member.slots);
            named.map(|(slot, tensor)| (format!("{}.{slot}", member.name), tensor.clone())).collect()
        };
        let mut state: Vec<(String, Tensor)> = self.members.iter().flat_map(of).collect();
        if self.passes > 0 {
            // In the middle of a step that takes several passes.
            state.push(("passes".into(), Tensor::scalar_int(self.passes as i64)));
            let gathered = |member: &Member| Some((format!("{}.gathered", member.name), member.gathered.clone()?));
            state.extend(self.members.iter().filter_map(gathered));
        }
        state
    }

    fn restore(&mut self, tensors: &HashMap<String, Tensor>, steps: u64, learning_rate: f64) -> Result<()> {
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
            let gathered = tensors.get(&format!("{}.gathered", member.name));
            member.gathered = gathered.filter(|sum| sum.shape() == member.param.shape()).cloned();
        }
        self.passes = tensors.get("passes").map_or(0, |passes| passes.to(DType::F64).item() as u64);
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
