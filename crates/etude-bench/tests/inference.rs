//! The evaluated models are torchvision's and transformers' models, compiled or not.

use etude_bench::{INFERENCES, Setting, find_inference};

/// The first and last eight numbers PyTorch's models give for two examples, made by tests/golden/workloads.py.
const PYTORCH: &str = include_str!("outputs.txt");

#[test]
fn models_give_what_pytorchs_give() {
    for line in PYTORCH.lines() {
        let mut words = line.split(' ');
        let name = words.next().unwrap();
        let theirs: Vec<f64> = words.map(|word| word.parse().unwrap()).collect();
        let model = find_inference(name).unwrap();
        let evaluation = model.build(&Setting { small: true, pattern: true }, 2);
        assert_eq!(evaluation.model.parameter_count(), model.parameters, "{name}");
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
