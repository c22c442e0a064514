//! `compile()`: a model made ready for nothing but evaluation.

use crate::{Forward, Module, Walk};
use etude_core::operation::Meta;
use etude_core::{Frozen, Tensor, context, evaluating, is_recording};
use std::sync::{Arc, Mutex};

/// How many input shapes are kept planned; the one used longest ago goes first.
const SHAPES: usize = 16;

/// A model as it was when [`Forward::compile`] was called, for evaluation: normalisations are folded into the weights
/// before them, what depends on parameters alone is computed once, and each input shape is planned once, so that a call
/// records nothing. Gives what `evaluating(|| model.forward(x))` gives, but for the rounding of folded weights.
///
/// What changes in the model afterwards is not seen; compile it again, which is cheap. A model that draws random numbers,
/// or an input that a gradient must flow to, is run the ordinary way. `forward` must not read values (`item()`) of what
/// depends on its input.
pub struct Compiled<M> {
    model: M,
    /// The last used comes last. `None`: this model cannot be frozen.
    plans: Mutex<Vec<(Meta, Option<Arc<Frozen>>)>>,
}

impl<M: Forward> Compiled<M> {
    pub(crate) fn new(model: M) -> Compiled<M> {
        Compiled { model, plans: Mutex::default() }
    }

    /// The model it was made from, as it was then.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The plan for inputs like this one, made at the first call.
    #[track_caller]
    fn plan(&self, meta: Meta) -> Option<Arc<Frozen>> {
        let mut plans = self.plans.lock().unwrap_or_else(|poison| poison.into_inner());
        let entry = match plans.iter().position(|(known, _)| *known == meta) {
            Some(at) => plans.remove(at),
            None => {
                let frozen = Frozen::new(&[meta], |inputs| vec![self.model.forward(&inputs[0])]);
                let frozen = frozen.unwrap_or_else(|error| panic!("compile: {error}"));
                (meta, frozen.map(Arc::new))
            }
        };
        plans.push(entry.clone());
        if plans.len() > SHAPES {
            plans.remove(0);
        }
        entry.1
    }

    /// How many steps a call for this input runs; `None` if it is run the ordinary way.
    pub fn steps(&self, x: &Tensor) -> Option<usize> {
        self.plan(x.meta()).map(|plan| plan.steps())
    }
}

impl<M: Forward> Module for Compiled<M> {
    fn visit(&self, walk: &mut Walk) {
        self.model.visit(walk);
    }
}

impl<M: Forward> Forward for Compiled<M> {
    /// The output for `x`, evaluated.
    ///
    /// # Panics
    /// If the evaluation fails.
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        let differentiated = x.requires_grad() && is_recording();
        if differentiated || context::is_tracing() {
            return evaluating(|| self.model.forward(x));
        }
        match self.plan(x.meta()) {
            Some(plan) => plan.run(&[x]).unwrap_or_else(|error| panic!("{error}")).remove(0),
            None => evaluating(|| self.model.forward(x)),
        }
    }
}
