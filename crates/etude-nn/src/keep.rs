//! What a run saves so that it can go on: handles to the live things, read and written by name.

use crate::module::{Entry, Walk, walk};
use crate::optim::Optimizer;
use crate::{LoadOptions, Module, Param};
use etude_core::{DType, Error, Result, State, Tensor};
use std::collections::HashMap;

/// Something whose tensors a run saves and puts back: models, single parameters and state cells, averages of weights
/// (all by [`Module`]), optimisers.
pub trait Keep {
    /// Handles to what is there now. A part that is exchanged for another later is not followed.
    fn keep(&self) -> Kept;
}

/// Handles to something live; see [`Keep`].
pub struct Kept(Handles);

enum Handles {
    Module(Vec<(String, Handle)>),
    Optimizer(Optimizer),
}

enum Handle {
    Param(Param),
    State(State),
}

impl Kept {
    /// Every tensor by name, as it is now.
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        match &self.0 {
            Handles::Module(entries) => Parts(entries).tensors(),
            Handles::Optimizer(optimizer) => {
                let mut tensors = optimizer.state();
                tensors.push((RATE.into(), Tensor::scalar(optimizer.learning_rate(), DType::F64)));
                tensors.push((STEPS.into(), Tensor::scalar_int(optimizer.steps() as i64)));
                tensors
            }
        }
    }

    /// Puts back what [`Kept::tensors`] gave; `source` is what errors call where it comes from.
    ///
    /// # Errors
    /// If a tensor is missing, left over or of another shape; nothing has changed then.
    pub fn restore(&mut self, mut tensors: HashMap<String, Tensor>, source: &str) -> Result<()> {
        match &mut self.0 {
            Handles::Module(entries) => Parts(entries).assign(tensors, &LoadOptions::default(), source),
            Handles::Optimizer(optimizer) => {
                let mut number = |name: &str| {
                    let tensor = tensors.remove(name).filter(|tensor| tensor.count() == 1);
                    tensor.ok_or_else(|| Error::outside(format!("{source}: the optimiser's state lacks `{name}`")))
                };
                let (rate, steps) = (number(RATE)?.to(DType::F64).item(), number(STEPS)?.to_vec::<i64>()[0]);
                optimizer.restore(&tensors, steps as u64, rate)
            }
        }
    }
}

const RATE: &str = "learning_rate";
const STEPS: &str = "steps";

impl<M: Module + ?Sized> Keep for M {
    fn keep(&self) -> Kept {
        let mut entries = Vec::new();
        walk(self, &mut |path, entry| {
            let handle = match entry {
                Entry::Param(param) => Handle::Param(param.handle()),
                Entry::State(state) => Handle::State(state.handle()),
            };
            entries.push((path.to_string(), handle));
        });
        Kept(Handles::Module(entries))
    }
}

impl Keep for Optimizer {
    fn keep(&self) -> Kept {
        Kept(Handles::Optimizer(self.handle()))
    }
}

/// The parts of a module under the paths they were found at.
struct Parts<'a>(&'a [(String, Handle)]);

impl Module for Parts<'_> {
    fn visit(&self, walk: &mut Walk) {
        for (path, handle) in self.0 {
            match handle {
                Handle::Param(param) => walk.field(path, param),
                Handle::State(state) => walk.field(path, state),
            }
        }
    }
}
