//! Holds a module to a case: outputs, gradients of inputs and parameters, and state left behind.

use crate::reader::Case;
use etude_core::{Tensor, evaluating, training};
use etude_nn::{LoadOptions, Module};
use std::collections::HashMap;

/// The inputs of a case by name; those with a gradient to check are variables.
pub struct Inputs {
    all: HashMap<String, Tensor>,
}

impl Inputs {
    /// The input `name`, if the case has it.
    pub fn find(&self, name: &str) -> Option<&Tensor> {
        self.all.get(name)
    }

    /// The input `name`.
    pub fn get(&self, name: &str) -> &Tensor {
        self.find(name).unwrap_or_else(|| panic!("no input {name}"))
    }
}

/// Gives `module` the case's parameters, runs it and checks everything the case holds.
pub fn hold<M: Module>(case: &Case, module: M, run: impl Fn(&M, &Inputs) -> Vec<(&'static str, Tensor)>) {
    module.assign(case.role("param"), &LoadOptions::default(), &case.name).unwrap_or_else(|error| panic!("{error}"));
    let variable = |(name, tensor): (String, Tensor)| {
        let tensor = if case.find(&format!("grad/{name}")).is_some() { tensor.variable() } else { tensor };
        (name, tensor)
    };
    let inputs = Inputs { all: case.role("in").into_iter().map(variable).collect() };
    let outputs =
        if case.flag("training") { training(|| run(&module, &inputs)) } else { evaluating(|| run(&module, &inputs)) };
    let mut unseen = case.role("output");
    for (name, output) in &outputs {
        case.check(&format!("output/{name}"), output);
        unseen.remove(*name);
    }
    let loss: Tensor = outputs
        .iter()
        .filter_map(|(name, output)| Some((output * case.find(&format!("cotangent/{name}"))?).sum(..)))
        .sum();
    let gradients = loss.backward().unwrap_or_else(|error| panic!("{}: {error}", case.name));
    let mut wanted = case.role("grad");
    let parameters = module.parameters().into_iter().map(|(name, param)| (name, param.value()));
    for (name, variable) in inputs.all.iter().map(|(name, input)| (name.clone(), input.clone())).chain(parameters) {
        if wanted.remove(&name).is_some() {
            let gradient = gradients.get(&variable).unwrap_or_else(|| panic!("{}: no gradient of {name}", case.name));
            case.check(&format!("grad/{name}"), gradient);
        }
    }
    assert!(wanted.is_empty(), "{}: gradients nobody asked for: {:?}", case.name, wanted.keys());
    // What is left of the outputs is state that the forward pass changed.
    let left: HashMap<String, Tensor> = module.tensors().into_iter().collect();
    for name in unseen.into_keys() {
        let state = left.get(&name).unwrap_or_else(|| panic!("{}: nothing gives {name}", case.name));
        case.check(&format!("output/{name}"), state);
    }
}
