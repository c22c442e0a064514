//! Fifty rates of every schedule.

use crate::reader::{Case, close, group};
use etude_core::Tensor;
use etude_nn::schedule::*;
use serde_json::Value;

/// The schedule an entry of the index describes, scaled to start from `rate`.
fn make(kind: &str, attributes: &Value, rate: f64) -> Box<dyn Schedule> {
    let number = |key: &str| attributes[key].as_f64().unwrap_or_else(|| panic!("{kind}: no {key}"));
    let count = |key: &str| attributes[key].as_u64().unwrap_or_else(|| panic!("{kind}: no {key}"));
    let list = |key: &str| attributes[key].as_array().unwrap_or_else(|| panic!("{kind}: no {key}"));
    match kind {
        "StepLR" => Box::new(Stairs { rate, every: count("step_size"), factor: number("gamma") }),
        "MultiStepLR" => {
            let at = list("milestones").iter().filter_map(Value::as_u64).collect();
            Box::new(Milestones { rate, at, factor: number("gamma") })
        }
        "ExponentialLR" => Box::new(Exponential { rate, factor: number("gamma") }),
        "CosineAnnealingLR" => Box::new(Cosine { rate, floor: number("eta_min"), steps: count("T_max") }),
        "CosineAnnealingWarmRestarts" => {
            let (first, growth) = (count("T_0"), count("T_mult"));
            Box::new(CosineRestarts { rate, floor: number("eta_min"), first, growth })
        }
        "LinearLR" => {
            let (from, to) = (rate * number("start_factor"), rate * number("end_factor"));
            Box::new(Linear { from, to, steps: count("total_iters") })
        }
        "ConstantLR" => {
            let first = Constant(rate * number("factor"));
            Box::new(Sequence::new(first).then(count("total_iters"), Constant(rate)))
        }
        "OneCycleLR" => Box::new(OneCycle {
            rise: number("pct_start"),
            start_divisor: number("div_factor"),
            end_divisor: number("final_div_factor"),
            linear: attributes["anneal_strategy"] == "linear",
            three_phases: attributes["three_phase"] == true,
            ..OneCycle::new(number("max_lr"), count("total_steps"))
        }),
        "PolynomialLR" => Box::new(Polynomial { rate, steps: count("total_iters"), power: number("power") }),
        "Noam" => Box::new(Noam { scale: rate, width: count("d_model") as usize, warm_up: count("warm_up") }),
        "SequentialLR" => {
            let parts = list("schedules");
            let [first, second] = [0, 1].map(|i| make(parts[i][0].as_str().expect("a kind"), &parts[i][1], rate));
            Box::new(Sequence::new(first).then(list("milestones")[0].as_u64().expect("a step"), second))
        }
        "ChainedScheduler" => {
            let parts = list("schedules");
            // The second gives factors of what the first gives.
            let [first, second] =
                [(0, rate), (1, 1.0)].map(|(i, rate)| make(parts[i][0].as_str().expect("a kind"), &parts[i][1], rate));
            Box::new(Product::new(first).times(second))
        }
        other => panic!("no schedule {other}"),
    }
}

fn plateau(case: &Case) -> Vec<f64> {
    let threshold = case.number("threshold");
    let mut schedule = Plateau::new(case.number("lr"))
        .factor(case.number("factor"))
        .patience(case.count("patience") as u64)
        .cooldown(case.count("cooldown") as u64)
        .floor(case.number("min_lr"));
    schedule = match case.attributes["threshold_mode"].as_str() {
        Some("abs") => schedule.absolute_threshold(threshold),
        _ => schedule.threshold(threshold),
    };
    let losses = case.get("in/losses").to_vec::<f64>();
    let mut rates = vec![schedule.rate(0)];
    rates.extend(losses[..losses.len() - 1].iter().map(|&loss| schedule.observe(loss)));
    rates
}

#[test]
fn schedules_give_pytorchs_rates() {
    for case in group("schedule") {
        let rates: Vec<f64> = if case.operation == "ReduceLROnPlateau" {
            plateau(&case)
        } else {
            let schedule = make(&case.operation, &case.attributes, case.number("lr"));
            (0..50).map(|step| schedule.rate(step)).collect()
        };
        // Both sides compute in f64, by other routes: PyTorch multiplies step by step.
        close(&case.name, &Tensor::from_slice(&rates, rates.len()), &case.get("output/lr"), 1e-13);
    }
}
