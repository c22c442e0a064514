//! Running averages of weights.

use crate::Module;
use crate::module::{Entry, Walk, walk};
use etude_core::{Result, State, Tensor, no_grad};
use std::collections::HashMap;

/// A copy of a model whose weights are the running average of the model's: `a ← β·a + (1−β)·w` (Polyak and Juditsky,
/// 1992, with exponential weights). Averages often test better than the last weights; they are also the slow target
/// networks of reinforcement and self-supervised learning.
///
/// The first update copies, as there is nothing to average yet. State such as running statistics is copied each time.
#[derive(Clone, Debug)]
pub struct Average<M> {
    /// The averaged model. Its parameters are frozen: it is read, not trained.
    pub model: M,
    decay: f64,
    /// A state cell, so that a run saves it with the weights.
    updates: State,
}

impl<M: Module> Module for Average<M> {
    fn visit(&self, walk: &mut Walk) {
        walk.field("model", &self.model);
        walk.field("updates", &self.updates);
    }
}

impl<M: Module + Clone> Average<M> {
    /// An average that starts as a copy of `model` and keeps `decay` of itself in every update, such as 0.999.
    pub fn new(model: &M, decay: f64) -> Average<M> {
        let model = model.clone();
        model.freeze();
        Average { model, decay, updates: State::new(Tensor::scalar_int(0)) }
    }

    /// How many updates it has seen.
    pub fn updates(&self) -> u64 {
        self.updates.get().to_vec::<i64>()[0] as u64
    }

    /// Moves the average towards `model`'s weights and evaluates it.
    ///
    /// # Errors
    /// If the evaluation fails.
    pub fn update(&mut self, model: &M) -> Result<()> {
        let before = self.updates();
        let keep = if before == 0 { 0.0 } else { self.decay };
        self.updates.set(Tensor::scalar_int(before as i64 + 1));
        let mut wanted: Vec<Tensor> = Vec::new();
        no_grad(|| {
            for ((_, average), (_, param)) in self.model.parameters().iter().zip(model.parameters()) {
                let new = param.value().detach();
                if keep == 0.0 {
                    average.set(new);
                } else {
                    average.set(average.value() * keep + new * (1.0 - keep));
                    wanted.push(average.value());
                }
            }
        });
        let tensors: HashMap<String, Tensor> = model.tensors().into_iter().collect();
        walk(&self.model, &mut |path, entry| {
            if let (Entry::State(state), Some(tensor)) = (entry, tensors.get(path)) {
                state.set(tensor.clone());
            }
        });
        Tensor::eval_all(&wanted)
    }
}
