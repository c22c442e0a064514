//! Every operation, derived from its row in the operations table: the forward result against a plain reference, the
//! gradient against two-sided differences in f64, the second gradient against differences of the first, the same call and
//! gradient on inputs that are views, and both gradients on random shapes.

use etude_core::ops::{Case, Row, table};
use etude_core::{DType, Shape, Tensor, grad, random, uniform_in};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

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
    for (which, (of_view, whole)) in gradients(&f, &views).iter().zip(&found).enumerate() {
        close(&name, &format!("gradient by input {which} on views"), of_view, whole, 1e-13);
    }
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

thread_local! {
    /// Whether a panic of this thread is an answer and not news.
    static ASKING: Cell<bool> = const { Cell::new(false) };
}

/// The case's shapes with every size above 1 grown by 0 to 3, equal sizes alike: what belongs together stays together.
fn grown(case: &Case, rng: &mut impl FnMut(u64) -> u64) -> Vec<Shape> {
    let mut more: BTreeMap<usize, usize> = BTreeMap::new();
    let mut grow = |size: usize| size + if size > 1 { *more.entry(size).or_insert_with(|| rng(4) as usize) } else { 0 };
    case.shapes.iter().map(|shape| shape.iter().map(|&size| grow(size)).collect()).collect()
}

/// The derivative of `f` at `x` along `direction`, by two-sided differences with one Richardson step. None where the two
/// differences disagree: then a kink or a jump (of `max`, `rem`, …) lies between the points, and there is no derivative to
/// compare with.
fn along(f: &dyn Fn(&[Tensor]) -> f64, x: &[Tensor], direction: &[Tensor]) -> Option<f64> {
    let slope = |h: f64| {
        let at = |h: f64| f(&x.iter().zip(direction).map(|(x, d)| settled(&(x + d * h))).collect::<Vec<_>>());
        (at(h) - at(-h)) / (2.0 * h)
    };
    let (near, far) = (slope(5e-5), slope(1e-4));
    ((near - far).abs() <= 1e-4 * near.abs().max(1.0)).then_some((4.0 * near - far) / 3.0)
}

fn settled(x: &Tensor) -> Tensor {
    Tensor::from_slice(&x.to_vec::<f64>(), x.shape())
}

/// The first and (where the case says so) the second gradient on `shapes`, along random directions. False where the
/// inputs drawn lie beside a kink: others have to be drawn.
fn check_along(name: &str, case: &Case, shapes: &[Shape]) -> bool {
    let (low, high) = case.domain;
    let draw = |shape: &Shape, low: f64, high: f64| settled(&(uniform_in(*shape, DType::F64) * (high - low) + low));
    let x: Vec<Tensor> = shapes.iter().map(|shape| draw(shape, low, high)).collect();
    let inner = |x: &[Tensor], by: &[Tensor]| -> f64 { x.iter().zip(by).map(|(x, by)| (x * by).sum(..).item()).sum() };
    let near = |what: &str, found: f64, wanted: f64| {
        let apart = (found - wanted).abs();
        assert!(apart <= 1e-6 * wanted.abs().max(1.0), "{name} {shapes:?}: {what} is {found}, should be {wanted}");
    };
    let f = |x: &[Tensor]| weighted(&(case.run)(x));
    let slopes = |x: &[Tensor]| -> Vec<Tensor> {
        let shaped = gradients(&f, x).into_iter().zip(x);
        shaped.map(|(g, x)| Tensor::from_slice(&g, x.shape())).collect()
    };
    let first = slopes(&x);
    for _ in 0..2 {
        let direction: Vec<Tensor> = shapes.iter().map(|shape| draw(shape, -1.0, 1.0)).collect();
        let Some(wanted) = along(&|x| f(x).item(), &x, &direction) else { return false };
        near("the slope along a direction", inner(&first, &direction), wanted);
        if !case.twice {
            continue;
        }
        // The slope along `direction` is a function of x too.
        let variables: Vec<Tensor> = x.iter().map(|x| x.variable()).collect();
        let Ok(g) = grad(&f(&variables), &variables.iter().collect::<Vec<_>>()) else { continue };
        let total: Tensor = g.iter().zip(&direction).map(|(g, d)| (g * d).sum(..)).sum();
        if !total.requires_grad() {
            continue;
        }
        let second = total.backward().unwrap_or_else(|error| panic!("{name}: second gradient: {error}"));
        let second: Vec<Tensor> =
            variables.iter().map(|v| second.get(v).map_or_else(|| v.zeros_like(), settled)).collect();
        let other: Vec<Tensor> = shapes.iter().map(|shape| draw(shape, -1.0, 1.0)).collect();
        let Some(wanted) = along(&|x| inner(&slopes(x), &direction), &x, &other) else { return false };
        near("the second slope", inner(&second, &other), wanted);
    }
    true
}

/// Gradients on random shapes: each differentiable operation on three at least. Shapes are drawn from those of its
/// cases; the shape rule may refuse some, such as a kernel that does not fit.
#[test]
fn gradients_hold_on_random_shapes() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !ASKING.get() {
            hook(info)
        }
    }));
    let mut few = Vec::new();
    for row in table() {
        let cases: Vec<&Case> = row.cases.iter().filter(|case| case.smooth && !case.shapes.is_empty()).collect();
        let mut tried: BTreeSet<Vec<Vec<usize>>> = cases.iter().map(|case| listed(&case.shapes)).collect();
        let (known, can_grow) =
            (tried.len(), cases.iter().any(|case| case.shapes.iter().flat_map(|s| s.iter()).any(|&n| n > 1)));
        for case in &cases {
            let name = format!("{} / {}", row.name, case.name);
            let mut state = name.bytes().fold(17u64, |hash, byte| hash.wrapping_mul(0x100_0000_01b3) ^ u64::from(byte));
            let mut rng = |below: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % below
            };
            let mut accepted = 0;
            for _ in 0..24 {
                let shapes = grown(case, &mut rng);
                if accepted == 3 || !tried.insert(listed(&shapes)) {
                    continue;
                }
                random::seed(rng(1 << 30));
                let x: Vec<Tensor> = shapes.iter().map(|shape| uniform_in(*shape, DType::F64)).collect();
                ASKING.set(true);
                let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (case.run)(&x))).is_err();
                ASKING.set(false);
                if refused {
                    tried.remove(&listed(&shapes));
                } else {
                    let smooth = (0..4).any(|_| check_along(&name, case, &shapes));
                    assert!(smooth, "{name} {shapes:?}: no smooth place found in four draws");
                    accepted += 1;
                }
            }
        }
        if can_grow && tried.len() < known + 3 {
            few.push((row.name, tried.len() - known));
        }
    }
    assert!(few.is_empty(), "operations checked on fewer than three random shapes: {few:?}");
}

fn listed(shapes: &[Shape]) -> Vec<Vec<usize>> {
    shapes.iter().map(|shape| shape.to_vec()).collect()
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
