//! Running one case and comparing what comes out.

use crate::{Case, Given, Outputs};
use etude_core::Tensor;
use std::collections::BTreeMap;

/// The largest difference allowed, relative to the largest magnitude in the tensor: three times what the golden files'
/// own rounding may be.
pub const TOLERANCE: f64 = 1e-5;

/// Runs `case` and returns what differs.
pub(crate) fn run(case: &Case, call: &dyn Fn(&Given) -> Outputs) -> Vec<String> {
    let gradients: BTreeMap<&str, &Tensor> = case.role("grad").collect();
    let given = |role: &str| -> BTreeMap<String, Tensor> {
        let leaf = |name: &str, x: &Tensor| if gradients.contains_key(name) { x.variable() } else { x.clone() };
        case.role(role).map(|(name, x)| (name.to_string(), leaf(name, x))).collect()
    };
    let given = Given {
        name: case.name.clone(),
        attributes: case.attributes.clone(),
        inputs: given("in"),
        params: given("param"),
    };
    let Outputs(outputs) = call(&given);
    let mut failures = Vec::new();
    let wanted: BTreeMap<&str, &Tensor> = case.role("output").collect();
    for name in wanted.keys().filter(|&name| outputs.iter().all(|(own, _)| own != name)) {
        failures.push(format!("output `{name}` is missing"));
    }
    for (name, found) in &outputs {
        match wanted.get(&name[..]) {
            Some(wanted) => failures.extend(difference(&format!("output `{name}`"), found, wanted)),
            None => failures.push(format!("output `{name}` is not among the golden ones")),
        }
    }
    if gradients.is_empty() || !failures.is_empty() {
        return failures;
    }
    let cotangents: BTreeMap<&str, &Tensor> = case.role("cotangent").collect();
    let parts = outputs.iter().filter_map(|(name, y)| Some((y * *cotangents.get(&name[..])?).sum(..)));
    let total: Tensor = parts.sum();
    // A result that no variable lies behind has the gradient 0 everywhere.
    let found = match total.requires_grad().then(|| total.backward()).transpose() {
        Ok(found) => found,
        Err(error) => return vec![error.to_string()],
    };
    for (name, wanted) in gradients {
        let leaf =
            given.find_input(name).or(given.find_param(name)).expect("a gradient's leaf is an input or parameter");
        let own = found.as_ref().and_then(|found| found.get(leaf).cloned()).unwrap_or_else(|| leaf.zeros_like());
        failures.extend(difference(&format!("gradient by `{name}`"), &own, wanted));
    }
    failures
}

/// How `found` differs from `wanted`, if it does: in dtype, in shape, in where it is not finite, or by more than
/// [`TOLERANCE`] of the largest magnitude. Whole numbers and truth values must be equal.
pub fn difference(what: &str, found: &Tensor, wanted: &Tensor) -> Option<String> {
    if (found.dtype(), found.shape()) != (wanted.dtype(), wanted.shape()) {
        let meta = |x: &Tensor| format!("{} {}", x.dtype(), x.shape());
        return Some(format!("{what} is {}, should be {}", meta(found), meta(wanted)));
    }
    let (a, b) = (found.to_vec::<f64>(), wanted.to_vec::<f64>());
    let largest = b.iter().filter(|v| v.is_finite()).fold(0.0f64, |most, v| most.max(v.abs()));
    let allowed = if wanted.dtype().is_float() { TOLERANCE * largest } else { 0.0 };
    let differs = |a: f64, b: f64| match b.is_finite() {
        true => (a - b).abs().partial_cmp(&allowed).is_none_or(|order| order.is_gt()),
        false => a != b && !(a.is_nan() && b.is_nan()),
    };
    let at = a.iter().zip(&b).position(|(&a, &b)| differs(a, b))?;
    let worst = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0f64, f64::max) / largest;
    Some(format!("{what}: element {at} is {}, should be {}; worst relative difference {worst:.1e}", a[at], b[at]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use etude_core::tensor;

    #[test]
    fn differences_are_seen() {
        let x = tensor([1.0, 2.0]);
        assert_eq!(difference("x", &x, &tensor([1.0, 2.000_01])), None);
        for other in [tensor([1.0, 2.000_03]), tensor([1.0, f64::NAN]), tensor([[1.0, 2.0]]), tensor([1, 2])] {
            assert!(difference("x", &x, &other).is_some(), "{other:?}");
        }
        assert!(difference("x", &tensor([f64::NAN]), &tensor([0.0])).is_some());
        assert!(difference("x", &tensor([1e-30]), &tensor([0.0])).is_some());
        assert!(difference("x", &tensor([3]), &tensor([4])).is_some());
        assert_eq!(difference("x", &tensor([f64::NAN]), &tensor([f64::NAN])), None);
    }
}
