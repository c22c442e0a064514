//! Every operation, derived from its row in the operations table: the forward result against a plain reference, the
//! gradient against two-sided differences in f64, the second gradient against differences of the first, and the same
//! call on inputs that are views.

use etude_core::ops::{Case, Row, table};
use etude_core::{DType, Tensor, grad, random, uniform_in};

/// Inputs for a case: drawn from its domain, a function of the case's name alone.
fn inputs(case: &Case) -> Vec<Tensor> {
    random::seed(case.name.bytes().fold(7, |hash: u64, byte| (hash * 31 + byte as u64) % 1_000_003));
    let (low, high) = case.domain;
    let draw = |shape: &etude_core::Shape| {
        let values = uniform_in(*shape, DType::F64) * (high - low) + low;
        let values = if case.dtype == DType::Bool { values.greater((low + high) / 2.0) } else { values.to(case.dtype) };
        Tensor::from_slice(&values.to(DType::F64).to_vec::<f64>(), *shape).to(case.dtype)
    };
    case.shapes.iter().map(draw).collect()
}

/// The same values behind strides: every other element of a tensor twice as long in each axis, axes stored reversed.
fn behind_strides(x: &Tensor) -> Tensor {
    let rank = x.rank() as i32;
    let reversed: Vec<i32> = (0..rank).rev().collect();
    let mut wide = x.permute(&reversed);
    for axis in 0..rank {
        let gap = wide.zeros_like() - 1.0;
        let (size, shape) = (wide.size(axis), wide.shape());
        wide = etude_core::stack(&[wide, gap], axis + 1).reshape(shape.with(axis as usize, 2 * size));
    }
    let mut view = Tensor::from_slice(&wide.to_vec::<f64>(), wide.shape());
    for axis in 0..rank {
        view = view.slice(axis, 0, i64::MAX, 2);
    }
    view.permute(&reversed)
}

fn close(name: &str, what: &str, found: &[f64], wanted: &[f64], tolerance: f64) {
    assert_eq!(found.len(), wanted.len(), "{name}: {what}: number of elements");
    let scale =
        wanted.iter().fold(1.0f64, |scale, value| if value.is_finite() { scale.max(value.abs()) } else { scale });
    for (i, (f, w)) in found.iter().zip(wanted).enumerate() {
        let same = f == w || (f.is_nan() && w.is_nan()) || (f - w).abs() <= tolerance * scale;
        assert!(same, "{name}: {what}: element {i} is {f}, should be {w}\nfound  {found:?}\nwanted {wanted:?}");
    }
}

/// A fixed, uneven weighting of the outputs, so that errors cannot cancel.
fn weighted(y: &Tensor) -> Tensor {
    let weights: Vec<f64> = (0..y.count()).map(|i| 0.3 + (i as f64 * 0.7).sin()).collect();
    (y.to(DType::F64) * Tensor::from_slice(&weights, y.shape())).sum(..)
}

/// `d f / d x[i]` by two-sided differences with one Richardson step, for every element of every input.
fn differences(f: &dyn Fn(&[Tensor]) -> f64, x: &[Tensor]) -> Vec<Vec<f64>> {
    let step = 1e-4;
    let slope = |which: usize, values: &[f64], i: usize, h: f64| {
        let at = |offset: f64| {
            let mut moved = values.to_vec();
            moved[i] += offset;
            let mut all = x.to_vec();
            all[which] = Tensor::from_slice(&moved, x[which].shape());
            f(&all)
        };
        (at(h) - at(-h)) / (2.0 * h)
    };
    (0..x.len())
        .map(|which| {
            let values = x[which].to_vec::<f64>();
            let fine = |i| (4.0 * slope(which, &values, i, step / 2.0) - slope(which, &values, i, step)) / 3.0;
            (0..values.len()).map(fine).collect()
        })
        .collect()
}

fn gradients(f: &dyn Fn(&[Tensor]) -> Tensor, x: &[Tensor]) -> Vec<Vec<f64>> {
    let variables: Vec<Tensor> = x.iter().map(|x| x.variable()).collect();
    let y = f(&variables);
    let found = y.backward().unwrap_or_else(|error| panic!("{error}"));
    let zero = |v: &Tensor| vec![0.0; v.count()];
    variables.iter().map(|v| found.get(v).map_or_else(|| zero(v), |g| g.to_vec::<f64>())).collect()
}

fn check(row: &Row, case: &Case) {
    let name = format!("{} / {}", row.name, case.name);
    let x = inputs(case);
    let y = (case.run)(&x);
    let values = y.to_vec::<f64>();
    if let Some(reference) = &case.reference {
        let plain: Vec<Vec<f64>> = x.iter().map(|x| x.to_vec::<f64>()).collect();
        close(&name, "forward", &values, &reference(&plain), 1e-13);
    }
    if case.dtype != DType::F64 || case.shapes.is_empty() {
        return;
    }
    let views: Vec<Tensor> = x.iter().map(behind_strides).collect();
    close(&name, "forward on views", &(case.run)(&views).to_vec::<f64>(), &values, 1e-13);
    if !case.smooth {
        return;
    }
    let f = |x: &[Tensor]| weighted(&(case.run)(x));
    let found = gradients(&f, &x);
    for (which, wanted) in differences(&|x| f(x).item(), &x).iter().enumerate() {
        close(&name, &format!("gradient by input {which}"), &found[which], wanted, 1e-6);
    }
    if !case.twice {
        return;
    }
    // The gradient of a weighted sum of the gradient.
    let slope = |x: &[Tensor]| -> Option<Tensor> {
        let inputs: Vec<&Tensor> = x.iter().collect();
        let first = grad(&f(x), &inputs).ok()?;
        Some(first.iter().enumerate().map(|(i, g)| weighted(g) * (1.0 + 0.25 * i as f64)).sum())
    };
    let variables: Vec<Tensor> = x.iter().map(|x| x.variable()).collect();
    let Some(total) = slope(&variables) else { return };
    if !total.requires_grad() {
        return;
    }
    let second = total.backward().unwrap_or_else(|error| panic!("{name}: second gradient: {error}"));
    let by_steps = differences(&|x| slope(&x.iter().map(|x| x.variable()).collect::<Vec<_>>()).unwrap().item(), &x);
    for (which, wanted) in by_steps.iter().enumerate() {
        let found = second.get(&variables[which]).map_or_else(|| vec![0.0; wanted.len()], |g| g.to_vec::<f64>());
        close(&name, &format!("second gradient by input {which}"), &found, wanted, 1e-6);
    }
}

#[test]
fn every_operation_is_what_its_row_says() {
    let mut failures = Vec::new();
    let mut cases = 0;
    for row in table() {
        assert!(!row.cases.is_empty(), "operation {} has a row but no case", row.name);
        for case in &row.cases {
            cases += 1;
            let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&row, case)));
            if let Err(payload) = run {
                let text = payload.downcast_ref::<String>().cloned();
                let text = text.or_else(|| payload.downcast_ref::<&str>().map(|s| s.to_string()));
                failures.push(format!("{} / {}: {}", row.name, case.name, text.unwrap_or_default()));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {cases} cases fail:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn names_are_unique_and_each_case_records_its_operation() {
    let rows = table();
    for (i, row) in rows.iter().enumerate() {
        assert!(rows[..i].iter().all(|other| other.name != row.name), "two rows are called {}", row.name);
    }
}

/// Every name an operation of `src/ops` can record under: the literals in the bodies of its `fn name`.
fn names_in_source(folder: &std::path::Path, names: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).expect("the crate's own source") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            names_in_source(&path, names);
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("readable");
        for body in text.split("fn name(&self) -> &'static str {").skip(1) {
            // The body ends at the brace that closes the method, four blanks in.
            let body = body.split("\n    }").next().unwrap_or_default();
            let literals = body.split('"').skip(1).step_by(2);
            names.extend(literals.map(|name| (name.to_string(), path.display().to_string())));
        }
    }
}

#[test]
fn every_operation_has_its_row() {
    let rows = table();
    let mut names = Vec::new();
    names_in_source(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ops"), &mut names);
    assert!(names.len() > 40, "only {} names found in the source", names.len());
    let missing: Vec<_> = names.iter().filter(|(name, _)| !rows.iter().any(|row| row.name == name)).collect();
    assert!(missing.is_empty(), "operations without a row in the table: {missing:?}");
}

/// Axes of size 0 and 1 are where shape arithmetic goes wrong: every differentiable operation is checked on both.
#[test]
fn every_differentiable_operation_has_awkward_shapes() {
    let mut missing = Vec::new();
    for row in table() {
        let differentiable: Vec<&Case> =
            row.cases.iter().filter(|case| case.smooth && !case.shapes.is_empty()).collect();
        for size in [0, 1] {
            let there = differentiable.iter().any(|case| case.shapes.iter().any(|shape| shape.contains(&size)));
            if !differentiable.is_empty() && !there {
                missing.push(format!("{}: size {size}", row.name));
            }
        }
    }
    assert!(missing.is_empty(), "operations without a gradient check on an axis of that size: {missing:?}");
}
