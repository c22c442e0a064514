//! A training loop takes no more memory at step 2,000 than at step 100.

use etude::prelude::*;
use etude::train::units::resident_memory;
use etude_studies::vision::lenet::LeNet;

#[test]
fn resident_memory_stays_flat_from_step_100_to_2000() {
    etude::seed(1);
    let digits = data::load("mnist-10k").expect("bundled");
    let pictures = etude::train::trainer::to_tensor(&digits.inputs).expect("pictures");
    let labels = Tensor::from_slice(&digits.labels, digits.len());
    let model = LeNet::new(10);
    let mut step = Adam::new(1e-3).over(&model);
    let mut early = None;
    for number in 1..=2000u64 {
        let start = (number as usize * 16) % 9_000;
        let (x, y) = (pictures.narrow(0, start, 16), labels.narrow(0, start, 16));
        let loss = cross_entropy(&training(|| model.forward(&x)), &y);
        step.minimise(&loss).expect("a step");
        assert!(loss.item().is_finite());
        if number == 100 {
            early = resident_memory();
        }
    }
    // Systems that do not say how much memory a process holds cannot be asked.
    let (Some(early), Some(late)) = (early, resident_memory()) else { return };
    let growth = late as f64 / early as f64 - 1.0;
    assert!(growth.abs() <= 0.02, "resident memory went from {early} to {late} bytes, {:+.1} %", growth * 100.0);
}
