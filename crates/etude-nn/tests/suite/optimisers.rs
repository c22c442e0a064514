//! Twenty steps with every optimiser.

use crate::reader::{Case, group};
use etude_core::{Tensor, stack};
use etude_nn::optim::{Adadelta, Adagrad, Adam, AdamW, Average, Clip, Optimizer, RmsProp, Sgd};
use etude_nn::{Linear, LoadOptions, Module};
use std::collections::HashMap;

/// Linear 8→16, tanh, linear 16→4, under the names of a sequential model.
#[derive(Clone)]
struct Network {
    first: Linear,
    second: Linear,
}

impl Module for Network {
    fn visit(&self, walk: &mut etude_nn::Walk) {
        walk.field("0", &self.first);
        walk.field("2", &self.second);
    }
}

impl Network {
    fn of(case: &Case) -> Network {
        let network = Network { first: Linear::new(8, 16).init(), second: Linear::new(16, 4).init() };
        network.assign(case.role("param"), &LoadOptions::default(), &case.name).unwrap();
        network
    }

    /// The mean cross-entropy.
    fn loss(&self, x: &Tensor, labels: &Tensor) -> Tensor {
        use etude_nn::Forward;
        let logits = self.second.forward(&self.first.forward(x).tanh());
        logits.log_softmax(-1).surprise(labels, -100).mean(..)
    }
}

fn optimiser(case: &Case, network: &Network) -> Optimizer {
    let (rate, decay) = (case.number("lr"), |default: f64| case.number_or("weight_decay", default));
    let option = |key: &str| case.number_or(key, 0.0);
    let epsilon = |default: f64| case.number_or("eps", default);
    let betas = || [0, 1].map(|i| case.attributes["betas"][i].as_f64().expect("two betas"));
    let adam = |rule: Adam, decay: f64| {
        let rule = rule.betas(betas()[0], betas()[1]).epsilon(epsilon(1e-8)).weight_decay(decay);
        if case.flag("amsgrad") { rule.amsgrad() } else { rule }
    };
    match case.operation.as_str() {
        "SGD" => {
            let rule = Sgd::new(rate).momentum(option("momentum")).dampening(option("dampening"));
            let rule = rule.weight_decay(decay(0.0));
            if case.flag("nesterov") { rule.nesterov() } else { rule }.over(network)
        }
        "Adagrad" => Adagrad::new(rate)
            .epsilon(epsilon(1e-10))
            .rate_decay(option("lr_decay"))
            .start(option("initial_accumulator_value"))
            .weight_decay(decay(0.0))
            .over(network),
        "Adadelta" => {
            let rule = Adadelta::new(rate).decay(case.number("rho"));
            rule.epsilon(epsilon(1e-6)).weight_decay(decay(0.0)).over(network)
        }
        "RMSprop" => {
            let rule = RmsProp::new(rate).decay(case.number("alpha")).momentum(option("momentum"));
            let rule = rule.epsilon(epsilon(1e-8)).weight_decay(decay(0.0));
            if case.flag("centered") { rule.centred() } else { rule }.over(network)
        }
        "Adam" => adam(Adam::new(rate), decay(0.0)).over(network),
        "AdamW" => adam(AdamW::new(rate), decay(0.01)).over(network),
        other => panic!("no optimiser {other}"),
    }
}

#[test]
fn optimisers_take_pytorchs_steps() {
    for case in group("optimiser") {
        let network = Network::of(&case);
        let (x, labels) = (case.get("in/x"), case.get("in/labels"));
        let mut optimiser = optimiser(&case, &network);
        if let Some(limit) = case.attributes["clip_norm"].as_f64() {
            optimiser = optimiser.clip(Clip::Norm(limit));
        }
        if let Some(limit) = case.attributes["clip_value"].as_f64() {
            optimiser = optimiser.clip(Clip::Value(limit));
        }
        if case.attributes["groups"].is_object() {
            let scale = case.attributes["groups"]["bias"]["lr"].as_f64().expect("a rate") / case.number("lr");
            let decay = case.attributes["groups"]["weight"]["weight_decay"].as_f64();
            optimiser = optimiser.group(|path| path.ends_with("weight"), 1.0, decay);
            optimiser = optimiser.group(|path| path.ends_with("bias"), scale, None);
        }
        let mut average = case.attributes["average_decay"].as_f64().map(|decay| Average::new(&network, decay));
        let mut losses = Vec::new();
        for step in 1..=case.count("steps") {
            let loss = network.loss(&x, &labels);
            optimiser.minimise(&loss).unwrap();
            losses.push(loss.detach());
            if let Some(average) = &mut average {
                average.update(&network).unwrap();
            }
            if step % 5 != 0 {
                continue;
            }
            for (name, tensor) in network.tensors() {
                case.check(&format!("output/step{step}.{name}"), &tensor);
            }
            for (name, tensor) in average.iter().flat_map(|average| average.model.tensors()) {
                case.check(&format!("output/average{step}.{name}"), &tensor);
            }
        }
        case.check("output/loss", &stack(&losses, 0));
    }
}

/// Half the rows twice, and all rows at once, take the same steps.
#[test]
fn gathered_gradients_are_a_large_batch() {
    let case = &group("optimiser")[0];
    let (x, labels) = (case.get("in/x"), case.get("in/labels"));
    let (whole, parts) = (Network::of(case), Network::of(case));
    let mut at_once = Adam::new(0.01).over(&whole);
    let mut gathering = Adam::new(0.01).over(&parts).accumulate(2);
    for _ in 0..3 {
        at_once.minimise(&whole.loss(&x, &labels)).unwrap();
        for half in 0..2 {
            // Between the two passes the optimiser is written down and put into another's place.
            let kept: HashMap<String, Tensor> = gathering.state().into_iter().collect();
            let steps = gathering.steps();
            gathering = Adam::new(0.01).over(&parts).accumulate(2);
            gathering.restore(&kept, steps, 0.01).unwrap();
            let rows = |tensor: &Tensor| tensor.narrow(0, half * 6, 6);
            gathering.minimise(&parts.loss(&rows(&x), &rows(&labels))).unwrap();
        }
    }
    assert_eq!((at_once.steps(), gathering.steps()), (3, 3));
    for ((name, a), (_, b)) in whole.tensors().iter().zip(parts.tensors()) {
        crate::reader::close(name, &b, a, 1e-5);
    }
}
