//! The evaluated models are torchvision's and transformers' models, compiled or not.

use etude::nn::{Entry, Module, Walk};
use etude::prelude::*;
use etude_bench::workload::{fill_with_pattern, pattern, seed_of};
use etude_bench::{INFERENCES, Setting, find_inference};

/// The first and last eight numbers PyTorch's models give for two examples, made by tests/golden/workloads.py.
const PYTORCH: &str = include_str!("outputs.txt");

/// Running statistics as training leaves them.
fn fill_statistics(model: &dyn Module) {
    model.visit(&mut Walk::new(&mut |name, entry| {
        let Entry::State(state) = entry else { return };
        let shape = state.get().shape();
        let (centre, spread) = match name.rsplit('.').next() {
            Some("running_mean") => (0.0, 0.1),
            Some("running_var") => (1.0, 0.5),
            _ => return,
        };
        let values: Vec<f32> = pattern(shape.count(), seed_of(name)).iter().map(|v| v * spread + centre).collect();
        state.set(Tensor::from_slice(&values, shape));
    }));
}

#[test]
fn models_give_what_pytorchs_give() {
    for line in PYTORCH.lines() {
        let mut words = line.split(' ');
        let name = words.next().unwrap();
        let theirs: Vec<f64> = words.map(|word| word.parse().unwrap()).collect();
        let model = find_inference(name).unwrap();
        let evaluation = model.build(&Setting { small: true, pattern: true }, 2);
        assert_eq!(evaluation.model.parameter_count(), model.parameters, "{name}");
        fill_with_pattern(&*evaluation.model);
        fill_statistics(&*evaluation.model);
        for (how, output) in [("plain", evaluation.output()), ("compiled", evaluation.compile()())] {
            let ours = output.to_vec::<f32>();
            let ours = ours[..8].iter().chain(&ours[ours.len() - 8..]);
            let scale = theirs.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
            for (at, (&ours, theirs)) in ours.zip(&theirs).enumerate() {
                // Two orders of summing, through fifty layers.
                let apart = (ours as f64 - theirs).abs();
                assert!(apart < 2e-5 * scale, "{name} {how}, number {at}: {ours}, PyTorch {theirs}");
            }
        }
    }
    assert_eq!(PYTORCH.lines().count(), INFERENCES.len());
}
