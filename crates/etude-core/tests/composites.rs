//! Composites against their meaning: every case whose operations have one, or that names one, gives the same result and
//! the same gradient by kernels and by primitives, in f64 and f32, on its own shapes and on drawn ones.

use etude_core::ops::{Case, table};
use etude_core::{DType, Shape, Tensor, by_meaning, random, uniform_in};

/// A sequence of whole numbers that depends on `name` alone (splitmix64's mixing, Steele et al., 2014).
fn numbers(name: &str) -> impl FnMut() -> u64 {
    let mut state = name.bytes().fold(11u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte as u64));
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)) >> 16
    }
}

/// Variables drawn from the case's domain.
fn variables(case: &Case, shapes: &[Shape], dtype: DType, seed: u64) -> Vec<Tensor> {
    random::seed(seed);
    let (low, high) = case.domain;
    let draw = |shape: &Shape| (uniform_in(*shape, DType::F64) * (high - low) + low).to(dtype).variable();
    shapes.iter().map(draw).collect()
}

fn weighted(y: &Tensor) -> Tensor {
    let weights: Vec<f64> = (0..y.count()).map(|i| 0.3 + (i as f64 * 0.7).sin()).collect();
    (y.to(DType::F64) * Tensor::from_slice(&weights, y.shape())).sum(..)
}

/// The result, and the gradient of its weighted sum by each variable (nothing if it cannot be differentiated).
fn result(case: &Case, y: &Tensor, x: &[Tensor]) -> Vec<Vec<f64>> {
    let mut all = vec![];
    if case.smooth && y.requires_grad() {
        let found = weighted(y).backward_keeping().unwrap_or_else(|error| panic!("{error}"));
        let zero = |x: &Tensor| vec![0.0; x.count()];
        all = x.iter().map(|x| found.get(x).map_or_else(|| zero(x), |g| g.to_vec())).collect();
    }
    all.insert(0, y.to_vec());
    all
}

/// How far the two may be apart, over the largest magnitude: the roundings of two ways to add a few hundred numbers.
fn tolerance(dtype: DType) -> f64 {
    if dtype == DType::F64 { 2e-13 } else { 2e-6 }
}

fn compare(name: &str, dtype: DType, shapes: &[Shape], found: &[Vec<f64>], wanted: &[Vec<f64>]) {
    assert_eq!(found.len(), wanted.len(), "{name}: one way has a gradient, the other has none");
    for (part, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        let what = if part == 0 { "result".into() } else { format!("gradient by input {}", part - 1) };
        assert_eq!(found.len(), wanted.len(), "{name} {dtype} {shapes:?}: {what}: number of elements");
        let finite = wanted.iter().filter(|value| value.is_finite());
        let scale = finite.fold(1.0f64, |scale, value| scale.max(value.abs()));
        for (i, (f, w)) in found.iter().zip(wanted).enumerate() {
            let same = f == w || (f.is_nan() && w.is_nan()) || (f - w).abs() <= tolerance(dtype) * scale;
            assert!(same, "{name} {dtype} {shapes:?}: {what}: element {i} is {f}, by its meaning {w}");
        }
    }
}

/// Runs the case on these shapes both ways; whether there was another way.
fn check(name: &str, case: &Case, dtype: DType, shapes: &[Shape], seed: u64) -> bool {
    let x = variables(case, shapes, dtype, seed);
    let state = random::generator();
    let y = (case.run)(&x);
    let mut others: Vec<Tensor> = by_meaning(std::slice::from_ref(&y)).unwrap_or_default();
    random::restore(state);
    others.extend(case.meaning.iter().map(|meaning| meaning(&x)));
    if others.is_empty() {
        return false;
    }
    let found = result(case, &y, &x);
    others.iter().for_each(|other| compare(name, dtype, shapes, &found, &result(case, other, &x)));
    true
}

#[test]
fn kernels_do_what_their_operations_mean() {
    let (mut failures, mut compared) = (Vec::new(), 0);
    for row in table() {
        for case in row.cases.iter().filter(|case| case.dtype == DType::F64 && !case.shapes.is_empty()) {
            let name = format!("{} / {}", row.name, case.name);
            let mut next = numbers(&name);
            let mut shapes = vec![case.shapes.clone()];
            if let Some(draw) = &case.draw {
                let mut between = |low: usize, high: usize| low + (next() % (high - low + 1) as u64) as usize;
                shapes.extend((0..8).map(|_| draw(&mut between)));
            }
            let run = std::panic::AssertUnwindSafe(|| {
                for (seed, shapes) in shapes.iter().enumerate() {
                    for dtype in [DType::F64, DType::F32] {
                        if !check(&name, case, dtype, shapes, seed as u64) {
                            return;
                        }
                        compared += 1;
                    }
                }
            });
            if let Err(payload) = std::panic::catch_unwind(run) {
                let text = payload.downcast_ref::<String>().cloned();
                failures.push(text.unwrap_or_else(|| format!("{name} panics")));
            }
        }
    }
    assert!(failures.is_empty(), "{} cases fail:\n{}", failures.len(), failures.join("\n"));
    assert!(compared > 100, "only {compared} comparisons: meanings are not found any more");
}
